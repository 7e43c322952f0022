//! Libraries as their users have them: made, filled, searched, stopped, damaged and grown.
#![allow(clippy::print_stdout, reason = "a test says what it measured, and a check that cannot run says so")]

mod browse;
mod cells;
mod common;
mod explain;
mod formats;
mod growth;
mod hostile;
mod hybrid;
mod joining;
mod lanes;
mod library;
mod map;
mod overlap;
mod real;
mod second_look;
mod shapes;
mod suggest;
mod videos;
