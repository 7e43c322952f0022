//! Chores of the workspace; `tests/tidy.rs` checks what the documents promise.

fn main() {}
