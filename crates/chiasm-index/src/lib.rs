//! Nearest-neighbour search over [`Vectors`](chiasm_core::Vectors): the kernels, the exact index, its file.
//!
//! - [`ExactIndex`] scans every row. It is the truth that any approximate index is measured against, and fast enough to be the
//!   only index of a library of some hundred thousand vectors.
//! - [`Kernel`] is the instruction set a scan runs on, chosen at run time. Every one gives the *same bits*: a score depends on
//!   the two vectors alone, not on the machine, the number of threads, the size of the batch or the filter.
//! - [`FileError`] says what is wrong with an index file. The file is derived data: who meets an error rebuilds it.
//!
//! Memory: `4 * dim + 8` bytes per vector and nothing else, in memory (built) or in the page cache (opened).

mod exact;
mod file;
mod kernels;

pub use exact::{BuildError, ExactIndex};
pub use file::{FileError, IndexWriter};
pub use kernels::Kernel;
