//! chiasm: find anything with anything.

fn main() {}
