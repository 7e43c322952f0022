//! The real binary on small generated files, with encoders that need no weights.

#![allow(clippy::print_stdout)] // A test's own lines: what was measured, what was skipped and why.

mod commands;
mod common;
mod crash;
mod errors;
mod evaluation;
mod feature_files;
mod lanes;
mod models;
mod real_data;
mod rerank;
mod train;
