//! Trainings as their users run them: stopped and resumed, tuned, distilled.
#![allow(clippy::print_stdout, reason = "a test says what it measured, and a check that cannot run says so")]

mod common;
mod distill;
mod train;
mod tune;
