//! Nearest-neighbour search over [`Vectors`](chiasm_core::Vectors) and over binary codes: the kernels, the exact indexes, the file,
//! and fusion of ranked lists.
//!
//! - [`ExactIndex`] scans every row. It is the truth that any approximate index is measured against, and fast enough to be the
//!   only index of a library of some hundred thousand vectors.
//!   Of half floats (`ExactIndex<f16>`, see [`Stored`]) it takes half the memory and time, and is exact about the rounded vectors.
//! - [`GrownIndex`] is an exact index and what came since it was made, so that a library that grows need not write its file with every change.
//! - [`RefinedIndex`] gives the same answers from a quarter of the memory: bytes first, and bounds that tell which rows need more.
//! - [`CellIndex`] looks at a part of the rows and finds nearly all of what there is to find, for bases that take too long to scan and for
//!   queries of another modality; it takes insertions and removals while others read it ([`SharedCells`]).
//! - [`Kernel`] is the instruction set a scan runs on, chosen at run time. Every one gives the *same bits*: a score depends on
//!   the two vectors alone, not on the machine, the number of threads, the size of the batch or the filter.
//! - [`Codes`] packs signs into bits, and [`HammingIndex`] searches them by the number of bits that differ: the best `k`, full
//!   rankings, and all within a radius. [`CodeKernel`] is to it what [`Kernel`] is to [`ExactIndex`].
//! - [`MultiIndexHamming`] gives the answers of [`HammingIndex`] and looks only at codes that are close in some run of bits, where that is
//!   faster; [`refine_hits`] ranks what either found by the exact scores of the vectors.
//! - [`search_items`] ranks items of several vectors, also by late interaction; [`within`] finds all rows above a score.
//! - [`fuse`] makes one ranking of several lists of hits, whichever searches they came from.
//! - [`FileError`] says what is wrong with an index file. The file is derived data: who meets an error rebuilds it.
//!
//! Memory: `4 * dim + 8` bytes per vector and nothing else, in memory (built) or in the page cache (opened), for exact search; about
//! `1.5 * dim + 80` in cells;
//! `8 * ceil(n_bits / 64) + 8` per code, and less than 9 more for each table of a multi-index.

mod buckets;
mod cells;
mod codes;
mod exact;
mod file;
mod fuse;
mod grown;
mod hamming;
mod hash_refine;
mod kernels;
mod late;
mod multi_index;
mod pages;
mod popcount;
mod range;
mod refined;
mod stored;

pub use cells::{Building, CellBuildError, CellConfig, CellIndex, Effort, SharedCells, Stamps, Tuning};
pub use codes::{Codes, CodesError};
pub use exact::{BuildError, ExactIndex};
pub use file::{FileError, IndexWriter};
pub use fuse::{FuseError, FusedHit, Fusion, Normalisation, fuse};
pub use grown::GrownIndex;
pub use hamming::{CodeHit, HammingIndex};
pub use hash_refine::{RefineError, refine_hits};
pub use kernels::Kernel;
pub use late::{Interaction, search_items};
pub use multi_index::{MultiIndexHamming, Route};
pub use popcount::CodeKernel;
pub use range::within;
pub use refined::RefinedIndex;
pub use stored::{Stored, bf16, f16};
