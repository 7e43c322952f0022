//! The methods as their users fit them: what they must all hold, what is stopped and goes on, and what they reach on made and on real data.
#![allow(clippy::print_stdout, reason = "a test says what it measured, and a check that cannot run says so")]

mod binding;
mod common;
mod conformance;
mod draft;
mod generative;
mod graphs;
mod learned;
mod learned_codes;
mod long_tail;
mod parts;
mod real_data;
mod unpaired;
mod wikipedia;
