//! Decoders on files as they come, and on hostile ones.
#![allow(clippy::print_stdout, reason = "a test says what it measured, and a check that cannot run says so")]

mod common;
mod hostile;
mod pictures;
mod shapes;
mod sounds;
mod texts_and_series;
mod videos;
