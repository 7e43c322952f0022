//! [`CellIndex`]: approximate nearest neighbours, made for queries that come from another modality than the base.
//!
//! # Why cells and not a graph
//! A text that means a picture does not lie near it: texts and pictures fill two regions of the space. A graph walks from neighbour to
//! neighbour of the *base*, and a query from outside finds the paths between its answers missing; each step then waits for vectors that lie
//! anywhere in memory. Here nothing is walked. A query looks at three things, each read from front to back:
//!
//! | step | what is looked at | of 100,000 vectors, for a recall of .95 (`docs/bench-ann-growth.md`) |
//! | --- | --- | --- |
//! | choose cells | a 4-bit code of each cell's centre | 1,581 codes |
//! | find candidates | the 4-bit codes of the vectors in the best cells | some 7,300 codes |
//! | order them | the best by 8 bits per number, of these the best by 12 | 80 and 15 vectors |
//!
//! A code of 96 dimensions is 48 bytes, and a core compares one in a few cycles, whole registers of them at a time (`kernel.rs`).
//!
//! # Why it knows about queries
//! Codes and cells are made after a linear map under which the distance of two vectors is the expected difference of their *scores*
//! (`map.rs`), for queries as a sample shows them. So the 96 dimensions of a code hold what queries ask about, and a cell holds vectors that
//! are answers to the same queries. Without a sample the base itself stands for its queries.
//!
//! # Cost
//! * Memory per vector of `d` numbers with codes of `c` dimensions: `1.5 d + c / 2 + 36` bytes and half a block of codes per cell, for 512
//!   numbers less than half of what the numbers alone take (`docs/bench-ann-growth.md`). Opened from a file all of it is in the page cache.
//! * Building: one pass for the map, k-means over a sample (`kmeans.rs`), one pass to fill the cells.
//! * What came since costs its own memory, and a cell that was parted costs as much again, until the index is compacted (`update.rs`).
//!
//! # What is exact
//! Scores of hits are those of vectors rounded to twelve bits per number: right to about three digits. Who needs the exact order or the exact score of the
//! best takes some more hits and compares the originals.
//!
//! Answers depend on the index and the question alone: not on threads, batch, or instruction set, since all sums are of whole numbers or in a
//! fixed order. Ties go to the smaller id.

mod build;
mod cell;
mod coarse;
mod codes;
mod digits;
mod draft;
mod image;
mod kernel;
mod kmeans;
mod map;
mod search;
mod tune;
mod update;

use std::path::Path;
use std::sync::Arc;

use chiasm_core::{Cancel, Cancelled, Hit, Metric, Progress, SearchError, SearchOptions, VectorIndex, Vectors};

use crate::exact::{BuildError, ExactIndex, unit};
use crate::file::FileError;
pub use build::Building;
use build::Material;
use cell::{Cell, CellRef};
use coarse::Coarse;
pub(crate) use digits::{DigitQuery, offset, padded as rounded, round_to_bytes};
pub use image::Stamps;
use image::{Image, Tuned};
pub(crate) use kernel::{IntegerKernel, TILE_ROWS};
use map::ScoreMap;
pub use tune::Tuning;
pub use update::SharedCells;
use update::{Changes, OwnCell};

/// A plain search looks into one cell of so many, as long as nothing was tuned.
const PLAIN_PROBES: usize = 12;

/// And compares so many vectors by their digits.
const PLAIN_RERANK: usize = 80;

/// How an index is made.
#[derive(Clone, Debug, PartialEq)]
pub struct CellConfig {
    /// How many cells; by default five times the square root of the number of vectors.
    pub cells: Option<usize>,
    /// Dimensions of the codes, at most those of the vectors.
    pub code_dims: usize,
    /// Where random choices begin.
    pub seed: u64,
}

impl Default for CellConfig {
    fn default() -> Self {
        Self { cells: None, code_dims: 96, seed: 1 }
    }
}

/// How hard a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Cells that are looked into.
    pub probes: usize,
    /// Vectors that are compared by their digits, of those that the codes put first.
    pub rerank: usize,
}

/// Why vectors make no index of cells.
#[derive(Debug, thiserror::Error)]
pub enum CellBuildError {
    /// The ids do not fit the vectors.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Queries of another space.
    #[error("the sample of queries has {got} dimensions, the vectors {expected}: encode both with the same space")]
    Sample {
        /// What came.
        got: usize,
        /// What the vectors have.
        expected: usize,
    },
    /// Rows are counted with 32 bits.
    #[error("{got} vectors: an index of cells takes up to {most}, divide them into several", most = u32::MAX)]
    TooMany {
        /// How many came.
        got: usize,
    },
    /// Vectors of another space.
    #[error("vectors of {got} dimensions for an index of {expected}: encode them with the space it was built with")]
    Vectors {
        /// What came.
        got: usize,
        /// What the index holds.
        expected: usize,
    },
    /// The system gave no room.
    #[error("no memory for the index: {0}")]
    Memory(std::io::Error),
    /// The user asked for the build to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Vectors in cells; see the head of the file. A clone shares everything with what it was made of until one of them is changed.
#[derive(Clone)]
pub struct CellIndex {
    image: Arc<Image>,
    coarse: Arc<Coarse>,
    changes: Changes,
    tuned: Tuned,
    kernel: IntegerKernel,
}

impl CellIndex {
    /// Builds an index in memory: row `i` of `vectors` is known as `ids[i]`. `sample` are queries like those that will come, of any modality; some
    /// thousands are enough.
    ///
    /// # Errors
    /// [`CellBuildError`] when ids and vectors do not match, the sample has other dimensions, or there is no memory.
    pub fn build(
        ids: &[u64],
        vectors: &Vectors,
        metric: Metric,
        sample: Option<&Vectors>,
        config: &CellConfig,
        progress: &dyn Progress,
    ) -> Result<Self, CellBuildError> {
        let how = Building { progress, cancel: &Cancel::default(), draft: None };
        if metric == Metric::Cosine {
            let (vectors, sample) = (unit(vectors), sample.map(unit));
            Self::build_of(Material { ids, vectors: vectors.view(), metric, sample: sample.as_ref() }, config, &how)
        } else {
            Self::build_of(Material { ids, vectors: vectors.view(), metric, sample }, config, &how)
        }
    }

    /// Builds an index of the vectors of an exact one, which may stay in its file: four bytes for each dimension of the codes are needed per vector, beside it
    /// and the index that is made. It can be stopped, and goes on from a draft; see [`Building`].
    ///
    /// # Errors
    /// As [`CellIndex::build`], and [`CellBuildError::Cancelled`].
    pub fn of_exact(
        exact: &ExactIndex,
        sample: Option<&Vectors>,
        config: &CellConfig,
        how: &Building<'_>,
    ) -> Result<Self, CellBuildError> {
        let of_unit = sample.filter(|_| exact.metric() == Metric::Cosine).map(unit);
        let sample = of_unit.as_ref().or(sample);
        Self::build_of(Material { ids: exact.ids(), vectors: exact.rows(), metric: exact.metric(), sample }, config, how)
    }

    fn build_of(of: Material<'_>, config: &CellConfig, how: &Building<'_>) -> Result<Self, CellBuildError> {
        let image = build::build(of, config, how)?;
        let tuned = Tuned {
            probes: image.shape.cells.div_ceil(PLAIN_PROBES),
            rerank: PLAIN_RERANK,
            wanted: f64::NAN,
            measured: f64::NAN,
            measured_on: 0,
        };
        Ok(Self::of_image(image, tuned))
    }

    fn of_image(image: Image, tuned: Tuned) -> Self {
        let coarse = Coarse::new(&image.shape, image.centres(), image.steps().1);
        Self {
            image: Arc::new(image),
            coarse: Arc::new(coarse),
            changes: Changes::default(),
            tuned,
            kernel: IntegerKernel::best(),
        }
    }

    /// Writes the index to `path`: whole or not at all, whatever happens meanwhile. What was changed since it was made is compacted
    /// first. The stamps are given back by [`CellIndex::open`].
    ///
    /// # Errors
    /// [`FileError::Io`], disk full and no memory among its causes; a file that stood at `path` is then untouched.
    pub fn write(&self, path: &Path, stamps: Stamps) -> Result<(), FileError> {
        if self.changes.is_empty() {
            return self.image.write(path, stamps, self.tuned);
        }
        match self.compact() {
            Ok(whole) => whole.image.write(path, stamps, self.tuned),
            Err(CellBuildError::Memory(source)) => {
                Err(FileError::Io { path: path.to_owned(), action: "make room for", source })
            }
            Err(other) => unreachable!("compacting asks for nothing but memory: {other}"),
        }
    }

    /// Opens a file by mapping it and gives the stamps it was written with. Of all sections only the centres and where cells begin are read,
    /// whose number grows with the square root of the vectors'.
    ///
    /// # Errors
    /// [`FileError`], one variant for each way in which a file is not what it should be.
    pub fn open(path: &Path) -> Result<(Self, Stamps), FileError> {
        let (image, stamps, tuned) = Image::open(path)?;
        Ok((Self::of_image(image, tuned), stamps))
    }

    /// Reads an opened file to its end and compares it with its checksum; an index that was built here has nothing to verify.
    ///
    /// # Errors
    /// [`FileError::Damaged`], which names `path`.
    pub fn verify(&self, path: &Path) -> Result<(), FileError> {
        self.image.verify(path)
    }

    /// The same index on another path of the machine, for tests: every one gives the same answers.
    #[doc(hidden)]
    pub fn on_every_kernel(&self) -> Vec<Self> {
        IntegerKernel::available().into_iter().map(|kernel| Self { kernel, ..self.clone() }).collect()
    }

    /// Bytes that the index takes, in memory or in the page cache.
    pub fn memory_bytes(&self) -> usize {
        self.image.len() + self.coarse.memory_bytes() + self.changes.memory_bytes()
    }

    /// How many cells there are: the most that [`Effort::probes`] means.
    pub fn n_cells(&self) -> usize {
        self.coarse.n
    }

    /// The id of a row; none for a row that is not there, which can only come from a damaged file.
    fn id(&self, row: u32) -> Option<u64> {
        let row = row as usize;
        self.image.ids().get(row).copied().or_else(|| self.changes.new_id(row - self.image.shape.n))
    }

    fn map(&self) -> ScoreMap<'_> {
        let (shape, (of_vectors, of_queries)) = (&self.image.shape, self.image.maps());
        ScoreMap { metric: shape.metric, dim: shape.dim, dims: shape.dims, mean: self.image.mean(), of_vectors, of_queries }
    }

    #[inline]
    fn cell(&self, cell: usize) -> Cell<'_> {
        cell_of(&self.image, self.changes.cell(cell), cell)
    }
}

/// A cell of an image and what came to it.
#[inline]
fn cell_of<'a>(image: &'a Image, own: Option<&'a OwnCell>, cell: usize) -> Cell<'a> {
    let own_part = own.map_or(CellRef::default(), OwnCell::as_ref);
    if own.is_some_and(OwnCell::is_whole) {
        return Cell { parts: [CellRef::default(), own_part] };
    }
    let ((slots, blocks), shape) = (image.starts(), &image.shape);
    let (first, end) = (slots[cell] as usize, slots[cell + 1] as usize);
    let of_image = CellRef {
        n: end - first,
        blocks: &image.blocks()[blocks[cell] as usize * shape.block_len()..blocks[cell + 1] as usize * shape.block_len()],
        records: &image.records()[first * shape.record_len()..end * shape.record_len()],
    };
    Cell { parts: [of_image, own_part] }
}

impl VectorIndex for CellIndex {
    fn metric(&self) -> Metric {
        self.image.shape.metric
    }

    fn dim(&self) -> usize {
        self.image.shape.dim
    }

    fn len(&self) -> usize {
        self.n_rows() - self.changes.n_dead()
    }

    fn search(&self, queries: &Vectors, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<Hit>>, SearchError> {
        self.search_with(queries, k, options, self.effort())
    }
}
