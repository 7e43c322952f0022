//! Encoders against their references, and what is refused.
#![allow(clippy::print_stdout, reason = "a test says what it measured, and a check that cannot run says so")]

mod common;
mod parity;
mod refusals;
mod sound_checkpoints;
mod store;
