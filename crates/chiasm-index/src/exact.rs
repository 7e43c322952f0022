//! Exact search: every allowed row is scored against every query.
//!
//! # Cost
//! One pass over the base per 96 queries, `2 n d` operations a query, on all cores; `4 * dim + 8` bytes per vector, or `2 * dim + 8` where
//! numbers are kept as half floats ([`Stored`]), whose rounding is then part of the vectors: all else is as exact. A batch is
//! worth it: one query alone waits for memory, 96 together share each row that came.
//!
//! # Determinism
//! A score depends on the two vectors alone (see the head of `kernels.rs`), and hits are ordered by score, then by id, so
//! neither threads nor batch nor filter nor instruction set can change an answer.
//!
//! # Metrics
//! [`Metric::Cosine`] brings base and queries to unit length itself; a vector of zeros scores 0 against everything. A sum that
//! overflows both ways, which f32 can do only with numbers near 1e19, scores minus infinity instead of NaN.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::path::Path;

use chiasm_core::{Hit, MatrixView, Metric, RowSet, Score, SearchError, SearchOptions, VectorIndex, Vectors, to_unit_length};
use rayon::prelude::*;

use crate::file::{FileError, IndexWriter, Mapped};
use crate::kernels::{Form, Kernel, LANES, PANEL_ROWS, Scorer, n_steps};
use crate::pages::Pages;
use crate::stored::Stored;

/// Queries that share one pass over the base: a multiple of what every kernel takes at once, and few enough that at 512
/// dimensions they stay in a core's second cache.
const QUERY_BLOCK: usize = 96;

/// A task scans at least this many rows, so that starting it and merging its hits cost little.
const RANGE_ROWS_MIN: usize = 2048;

/// Vectors with their ids, searched by looking at each: built in memory, or opened from a file without reading it.
pub struct ExactIndex<T: Stored = f32> {
    metric: Metric,
    dim: usize,
    kernel: Kernel,
    store: Store<T>,
}

enum Store<T: Stored> {
    /// On large pages, since a scan of one query waits for nothing but memory.
    Owned {
        ids: Vec<u64>,
        vectors: Pages<T>,
    },
    Mapped(Mapped<T>),
}

/// Why vectors make no index.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// Each vector needs one id.
    #[error("{ids} ids for {vectors} vectors: each vector needs exactly one")]
    Count {
        /// How many ids came.
        ids: usize,
        /// How many vectors came.
        vectors: usize,
    },
    /// Ids are how hits are named and how ties are broken.
    #[error("id {id} at row {row} follows {previous}: ids must ascend strictly, sort the rows by id and drop duplicates")]
    Order {
        /// Row of the first offender.
        row: usize,
        /// What stands there.
        id: u64,
        /// What stands before it.
        previous: u64,
    },
    /// A half float has an end.
    #[error("row {row} has {value}, which is beyond what {precision} holds: keep these vectors as f32, or scale them down")]
    Range {
        /// Row of the first offender.
        row: usize,
        /// What stands there.
        value: f32,
        /// What was to hold it.
        precision: &'static str,
    },
}

/// Checks that `ids` ascend, going on from `last`.
pub(crate) fn check_order(ids: &[u64], first_row: usize, last: Option<u64>) -> Result<(), BuildError> {
    let mut last = last;
    for (i, &id) in ids.iter().enumerate() {
        match last {
            Some(previous) if previous >= id => return Err(BuildError::Order { row: first_row + i, id, previous }),
            _ => last = Some(id),
        }
    }
    Ok(())
}

/// Writes rows as they are compared and kept, at unit length for the cosine; `first_row` is how the first is called where a number is beyond
/// what `T` holds.
pub(crate) fn keep<T: Stored>(vectors: &Vectors, metric: Metric, first_row: usize, out: &mut [T]) -> Result<(), BuildError> {
    let mut row = vec![0.0; vectors.dim()];
    for (nth, (from, to)) in vectors.rows().zip(out.chunks_exact_mut(vectors.dim())).enumerate() {
        row.copy_from_slice(from);
        if metric == Metric::Cosine {
            to_unit_length(&mut row);
        }
        to.iter_mut().zip(&row).for_each(|(to, v)| *to = T::of(*v));
        if let Some(at) = to.iter().position(|v| !v.get().is_finite()) {
            return Err(BuildError::Range { row: first_row + nth, value: row[at], precision: T::NAME });
        }
    }
    Ok(())
}

impl ExactIndex {
    /// An index in memory, in single precision: row `i` of `vectors` is known as `ids[i]`.
    ///
    /// # Errors
    /// [`BuildError`] when the counts differ or the ids do not ascend strictly.
    pub fn build(ids: &[u64], vectors: &Vectors, metric: Metric) -> Result<Self, BuildError> {
        Self::build_as(ids, vectors, metric)
    }

    /// Opens a file of single precision; see [`ExactIndex::open_as`].
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path) -> Result<(Self, u64), FileError> {
        Self::open_as(path)
    }

    /// All vectors as they are compared.
    pub(crate) fn rows(&self) -> MatrixView<'_> {
        MatrixView::new(self.data(), self.dim).expect("whole rows")
    }
}

impl<T: Stored> ExactIndex<T> {
    /// An index in memory whose numbers are kept as `T`: row `i` of `vectors` is known as `ids[i]`. For the cosine vectors are
    /// brought to unit length before they are rounded.
    ///
    /// # Errors
    /// [`BuildError`] when the counts differ, the ids do not ascend strictly, or a number is beyond what `T` holds.
    pub fn build_as(ids: &[u64], vectors: &Vectors, metric: Metric) -> Result<Self, BuildError> {
        if ids.len() != vectors.n() {
            return Err(BuildError::Count { ids: ids.len(), vectors: vectors.n() });
        }
        check_order(ids, 0, None)?;
        let mut data = Pages::zeros(vectors.data().len());
        keep(vectors, metric, 0, &mut data)?;
        let store = Store::Owned { ids: ids.to_vec(), vectors: data };
        Ok(Self { metric, dim: vectors.dim(), kernel: Kernel::best(), store })
    }

    /// The same rows and further ones behind them, in memory.
    pub(crate) fn with_more(&self, ids: &[u64], vectors: &Vectors) -> Result<Self, BuildError> {
        let more = Self::build_as(ids, vectors, self.metric)?;
        check_order(more.ids(), self.len(), self.ids().last().copied())?;
        assert_eq!(self.dim, more.dim, "rows of one dimension");
        let store = Store::Owned { ids: [self.ids(), more.ids()].concat(), vectors: Pages::of(&[self.data(), more.data()]) };
        Ok(Self { metric: self.metric, dim: self.dim, kernel: self.kernel, store })
    }

    /// Ids and vectors of a range of rows, as they are stored.
    pub(crate) fn stored(&self, rows: Range<usize>) -> (&[u64], &[T]) {
        (&self.ids()[rows.clone()], &self.data()[rows.start * self.dim..rows.end * self.dim])
    }

    /// Writes the index to `path`: whole or not at all, whatever happens meanwhile. `stamp` is a number of the caller's, given
    /// back by [`ExactIndex::open`]: the generation of the library, by which a stale file is known.
    ///
    /// A base larger than memory is written row by row with [`IndexWriter`].
    ///
    /// # Errors
    /// [`FileError::Io`], disk full among its causes; a file that stood at `path` is then untouched.
    pub fn write(&self, path: &Path, stamp: u64) -> Result<(), FileError> {
        let mut writer = IndexWriter::create_as(path, self.dim, self.metric)?;
        writer.push_stored(self.ids(), self.data())?;
        writer.finish(stamp)
    }

    /// Opens a file by mapping it, in well under a millisecond whatever its size, and gives the stamp it was written with.
    ///
    /// The header is checked against its checksum and the file's length against the header; the payload is not read, for that
    /// would cost a pass over it: see [`ExactIndex::verify`]. A damaged payload can give wrong hits, never a crash.
    ///
    /// # Errors
    /// [`FileError`], one variant for each way in which a file is not what it should be.
    pub fn open_as(path: &Path) -> Result<(Self, u64), FileError> {
        let mapped = Mapped::open(path)?;
        let (metric, dim, stamp) = (mapped.metric(), mapped.dim(), mapped.stamp());
        Ok((Self { metric, dim, kernel: Kernel::best(), store: Store::Mapped(mapped) }, stamp))
    }

    /// Reads an opened file to its end and compares the payload with its checksum; an index in memory has nothing to verify.
    ///
    /// # Errors
    /// [`FileError::Damaged`].
    pub fn verify(&self) -> Result<(), FileError> {
        match &self.store {
            Store::Owned { .. } => Ok(()),
            Store::Mapped(mapped) => mapped.verify(),
        }
    }

    /// The same index, scanned with this kernel: for tests and measurements, since every kernel gives the same answers.
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// The ids, ascending; row `i` is known as `ids()[i]`.
    pub fn ids(&self) -> &[u64] {
        match &self.store {
            Store::Owned { ids, .. } => ids,
            Store::Mapped(mapped) => mapped.ids(),
        }
    }

    /// The vector of a row as it is compared: at unit length for [`Metric::Cosine`].
    ///
    /// # Panics
    /// When `row >= len()`.
    pub fn vector(&self, row: usize) -> &[T] {
        &self.data()[row * self.dim..(row + 1) * self.dim]
    }

    /// The row known as `id`.
    pub fn row_of(&self, id: u64) -> Option<usize> {
        self.ids().binary_search(&id).ok()
    }

    /// The rows known as these ids, to narrow a search; ids that are not here are left out. Quickest when `ids` ascend.
    pub fn rows_of(&self, ids: &[u64]) -> RowSet {
        let own = self.ids();
        let mut rows = RowSet::new(own.len());
        // Where the last id was found: the next larger one lies behind it, found by doubling steps.
        let (mut at, mut last) = (0, 0);
        for &id in ids {
            if id < last {
                at = 0;
            }
            last = id;
            let mut step = 1;
            while at + step < own.len() && own[at + step] < id {
                step *= 2;
            }
            let low = at + step / 2;
            let high = own.len().min(at + step + 1);
            let low = low.min(high);
            at = low + own[low..high].partition_point(|o| *o < id);
            if own.get(at) == Some(&id) {
                rows.insert(at);
            }
        }
        rows
    }

    /// The best `k` of these rows for one query, with the scores and in the order that a search gives them: what a search that found
    /// candidates some other way ends with. A row that is named twice is found twice.
    ///
    /// # Panics
    /// For a query of another dimension or with numbers that are not finite, and for a row that is not there.
    pub fn best_of(&self, query: &[f32], rows: &[usize], k: usize) -> Vec<Hit> {
        if k == 0 || rows.is_empty() {
            return Vec::new();
        }
        let query = Vectors::new(query.to_vec(), self.dim).expect("a query of the index's dimension");
        let query = pad(&if self.metric == Metric::Cosine { unit(&query) } else { query });
        let mut scorer = Scorer::new(self.kernel, self.form(), self.dim, &query);
        let mut scores = [[0.0f32; PANEL_ROWS]];
        let mut top = Top::new(k.min(rows.len()));
        for rows in rows.chunks(PANEL_ROWS) {
            // What a panel does not fill is scored and not looked at.
            let vectors: [&[T]; PANEL_ROWS] = std::array::from_fn(|i| self.vector(*rows.get(i).unwrap_or(&rows[0])));
            scorer.score(&vectors[..rows.len()], &mut scores);
            top.offer(&scores[0], rows);
        }
        let best = top.heap.into_sorted_vec();
        best.into_iter().map(|entry| Hit { id: self.ids()[entry.row], score: entry.score }).collect()
    }

    fn form(&self) -> Form {
        match self.metric {
            Metric::Cosine | Metric::InnerProduct => Form::Product,
            Metric::L2 => Form::MinusSquaredDistance,
        }
    }

    fn data(&self) -> &[T] {
        match &self.store {
            Store::Owned { vectors, .. } => vectors,
            Store::Mapped(mapped) => mapped.vectors(),
        }
    }

    /// Best rows of `rows` for each of a block of padded queries.
    fn scan(&self, queries: &[f32], n_queries: usize, k: usize, rows: Range<usize>, allow: Option<&RowSet>) -> Vec<Top> {
        let data = self.data();
        let mut tops: Vec<Top> = (0..n_queries).map(|_| Top::new(k.min(rows.len()))).collect();
        let mut scorer = Scorer::new(self.kernel, self.form(), self.dim, queries);
        let mut scores = vec![[0.0f32; PANEL_ROWS]; n_queries];
        let mut picked = [0usize; PANEL_ROWS];
        let mut candidates = Candidates::new(rows, allow);
        loop {
            let n_picked = candidates.fill(&mut picked);
            if n_picked == 0 {
                return tops;
            }
            let vectors = picked.map(|row| &data[row * self.dim..(row + 1) * self.dim]);
            scorer.score(&vectors[..n_picked], &mut scores);
            for (top, scores) in tops.iter_mut().zip(&scores) {
                top.offer(scores, &picked[..n_picked]);
            }
        }
    }
}

impl<T: Stored> std::fmt::Debug for ExactIndex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if matches!(self.store, Store::Mapped(_)) { "mapped" } else { "in memory" };
        write!(f, "ExactIndex({} x {} of {}, {}, {place})", self.len(), self.dim, T::NAME, self.metric)
    }
}

impl<T: Stored> VectorIndex for ExactIndex<T> {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.ids().len()
    }

    fn search(&self, queries: &Vectors, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<Hit>>, SearchError> {
        if queries.dim() != self.dim {
            return Err(SearchError::Dimension { got: queries.dim(), expected: self.dim });
        }
        let n = self.len();
        if let Some(allow) = options.allow.filter(|allow| allow.n_rows() != n) {
            return Err(SearchError::Filter { got: allow.n_rows(), expected: n });
        }
        if k == 0 || n == 0 || queries.n() == 0 {
            return Ok(vec![Vec::new(); queries.n()]);
        }
        let padded = if self.metric == Metric::Cosine { pad(&unit(queries)) } else { pad(queries) };
        let width = n_steps(self.dim) * LANES;
        let blocks: Vec<&[f32]> = padded.chunks(QUERY_BLOCK * width).collect();

        // Enough tasks to keep all cores busy to the end, in whole panels so that none is cut without need.
        let n_ranges = (rayon::current_num_threads() * 4).div_ceil(blocks.len()).min(n.div_ceil(RANGE_ROWS_MIN));
        let range_len = n.div_ceil(n_ranges).next_multiple_of(64);
        let ranges: Vec<Range<usize>> = (0..n).step_by(range_len).map(|start| start..n.min(start + range_len)).collect();
        let tasks: Vec<(usize, Range<usize>)> =
            (0..blocks.len()).flat_map(|b| ranges.iter().map(move |range| (b, range.clone()))).collect();
        let found: Vec<Vec<Top>> = tasks
            .into_par_iter()
            .map(|(b, range)| self.scan(blocks[b], blocks[b].len() / width, k, range, options.allow))
            .collect();

        let ids = self.ids();
        let mut answers = Vec::with_capacity(queries.n());
        for of_block in found.chunks(ranges.len()) {
            for q in 0..of_block[0].len() {
                let mut best: Vec<Entry> = of_block.iter().flat_map(|tops| tops[q].heap.iter().copied()).collect();
                best.sort_unstable();
                best.truncate(k);
                answers.push(best.iter().map(|entry| Hit { id: ids[entry.row], score: entry.score }).collect());
            }
        }
        Ok(answers)
    }
}

/// A scored row; the smallest is the best: greater score, then smaller row, which is smaller id.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    score: Score,
    row: usize,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best `k` of what was offered, the worst of them on top.
struct Top {
    k: usize,
    heap: BinaryHeap<Entry>,
    /// Score of the worst kept one; NaN while there is room, which lets everything through.
    floor: f32,
}

impl Top {
    fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new(), floor: f32::NAN }
    }

    /// Looks at the scores of `rows`; what stands behind them in a panel that is not full is not looked at.
    fn offer(&mut self, scores: &[f32; PANEL_ROWS], rows: &[usize]) {
        // Mostly nothing is better than the floor. No early way out, so that this is a few instructions; and NaN on either side
        // counts as better: it is looked at below.
        let mut better = false;
        for score in scores {
            #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN is to count as better")]
            {
                better |= !(*score <= self.floor);
            }
        }
        if !better {
            return;
        }
        for (&score, &row) in scores.iter().zip(rows) {
            let score = Score::new(score).unwrap_or(Score::new(f32::NEG_INFINITY).expect("minus infinity is a number"));
            let entry = Entry { score, row };
            if self.heap.len() < self.k {
                self.heap.push(entry);
            } else if let Some(mut worst) = self.heap.peek_mut()
                && entry < *worst
            {
                *worst = entry;
            }
        }
        if self.heap.len() == self.k {
            self.floor = self.heap.peek().map_or(f32::INFINITY, |worst| worst.score.get());
        }
    }
}

/// Allowed rows of a range, ascending.
struct Candidates<'a> {
    next: usize,
    end: usize,
    allow: Option<&'a RowSet>,
}

impl<'a> Candidates<'a> {
    fn new(rows: Range<usize>, allow: Option<&'a RowSet>) -> Self {
        Self { next: rows.start, end: rows.end, allow }
    }

    /// Puts the next rows into `picked` and gives how many there were.
    fn fill(&mut self, picked: &mut [usize; PANEL_ROWS]) -> usize {
        let mut n = 0;
        let Some(allow) = self.allow else {
            while n < PANEL_ROWS && self.next < self.end {
                picked[n] = self.next;
                self.next += 1;
                n += 1;
            }
            return n;
        };
        while n < PANEL_ROWS && self.next < self.end {
            // What is left of this word, its lowest bit being row `next`.
            let word = allow.words()[self.next / 64] >> (self.next % 64);
            if word == 0 {
                self.next = (self.next / 64 + 1) * 64;
                continue;
            }
            let row = self.next + word.trailing_zeros() as usize;
            if row >= self.end {
                self.next = self.end;
                break;
            }
            picked[n] = row;
            n += 1;
            self.next = row + 1;
        }
        n
    }
}

pub(crate) fn unit(vectors: &Vectors) -> Vectors {
    let mut vectors = vectors.clone();
    vectors.normalise();
    vectors
}

/// Rows padded with zeros to a whole number of steps.
fn pad(vectors: &Vectors) -> Vec<f32> {
    let width = n_steps(vectors.dim()) * LANES;
    let mut padded = vec![0.0; vectors.n() * width];
    for (row, out) in vectors.rows().zip(padded.chunks_exact_mut(width)) {
        out[..row.len()].copy_from_slice(row);
    }
    padded
}
