//! The indexes against exact search, against models of themselves, and their files against damage.

mod cells;
mod conformance;
mod file;
mod fuse;
mod hamming;
mod hash_refine;
mod late;
mod multi_index;
