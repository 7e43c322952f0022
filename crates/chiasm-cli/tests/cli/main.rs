//! The real binary on small generated files, with encoders that need no weights.

mod commands;
mod common;
mod crash;
mod errors;
mod evaluation;
