//! An exact index and the rows that came since it was made: what a library that grows is searched with, between one writing of its
//! file and the next.
//!
//! Rows are numbered through, the base's first. The same questions have the same answers as over one [`ExactIndex`] of all rows, to the bit: a
//! score depends on the two vectors alone, and ids ascend from the base into the tail.

use std::path::Path;
use std::sync::Arc;

use chiasm_core::{Hit, Metric, RowSet, SearchError, SearchOptions, VectorIndex, Vectors};

use crate::exact::{BuildError, ExactIndex, check_order};
use crate::file::{FileError, IndexWriter};

/// A base that may be shared and mapped, and a tail in memory.
#[derive(Debug)]
pub struct GrownIndex {
    base: Arc<ExactIndex>,
    tail: ExactIndex,
}

impl GrownIndex {
    /// A base with nothing behind it.
    pub fn new(base: Arc<ExactIndex>) -> Self {
        let none = Vectors::new(Vec::new(), base.dim()).expect("no numbers make no rows of any dimension");
        let tail = ExactIndex::build(&[], &none, base.metric()).expect("no rows have no ids");
        Self { base, tail }
    }

    /// The same with more rows behind it: row `i` of `vectors` is known as `ids[i]`.
    ///
    /// # Errors
    /// [`BuildError`] when the counts differ, or the ids do not ascend strictly, going on from the last one here.
    ///
    /// # Panics
    /// For vectors of another dimension.
    pub fn with_more(&self, ids: &[u64], vectors: &Vectors) -> Result<Self, BuildError> {
        check_order(ids, self.len(), self.last_id())?;
        Ok(Self { base: Arc::clone(&self.base), tail: self.tail.with_more(ids, vectors)? })
    }

    /// What it has grown from.
    pub fn base(&self) -> &Arc<ExactIndex> {
        &self.base
    }

    /// How many rows came since.
    pub fn n_tail(&self) -> usize {
        self.tail.len()
    }

    /// What a row is known as.
    ///
    /// # Panics
    /// When `row >= len()`.
    pub fn id(&self, row: usize) -> u64 {
        let (index, row) = self.part_of(row);
        index.ids()[row]
    }

    /// The greatest id, which is the last row's.
    pub fn last_id(&self) -> Option<u64> {
        self.tail.ids().last().or_else(|| self.base.ids().last()).copied()
    }

    /// The vector of a row as it is compared: at unit length for [`Metric::Cosine`].
    ///
    /// # Panics
    /// When `row >= len()`.
    pub fn vector(&self, row: usize) -> &[f32] {
        let (index, row) = self.part_of(row);
        index.vector(row)
    }

    /// The row known as `id`.
    pub fn row_of(&self, id: u64) -> Option<usize> {
        self.base.row_of(id).or_else(|| self.tail.row_of(id).map(|row| self.base.len() + row))
    }

    /// The rows known as these ids, to narrow a search; ids that are not here are left out. Quickest when `ids` ascend.
    pub fn rows_of(&self, ids: &[u64]) -> RowSet {
        let mut rows = RowSet::new(self.len());
        let of_parts = [(0, self.base.rows_of(ids)), (self.base.len(), self.tail.rows_of(ids))];
        for (first, part) in &of_parts {
            part.iter().for_each(|row| rows.insert(first + row));
        }
        rows
    }

    /// The best `k` of these rows for one query; see [`ExactIndex::best_of`].
    ///
    /// # Panics
    /// For a query of another dimension or with numbers that are not finite, and for a row that is not there.
    pub fn best_of(&self, query: &[f32], rows: &[usize], k: usize) -> Vec<Hit> {
        let n_base = self.base.len();
        let (of_base, of_tail): (Vec<usize>, Vec<usize>) = rows.iter().partition(|row| **row < n_base);
        let of_tail: Vec<usize> = of_tail.into_iter().map(|row| row - n_base).collect();
        merged(self.base.best_of(query, &of_base, k), self.tail.best_of(query, &of_tail, k), k)
    }

    /// The best `k` allowed rows of the tail alone.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search_tail(&self, queries: &Vectors, k: usize, allow: &RowSet) -> Result<Vec<Vec<Hit>>, SearchError> {
        let allow = self.of_part(allow, self.base.len()..self.len())?;
        self.tail.search(queries, k, &SearchOptions { allow: Some(&allow) })
    }

    /// Which of these rows are the base's.
    ///
    /// # Errors
    /// [`SearchError::Filter`] when they range over other rows than these.
    pub fn of_base(&self, allow: &RowSet) -> Result<RowSet, SearchError> {
        self.of_part(allow, 0..self.base.len())
    }

    /// Writes these of its rows to `path` as one exact index: whole or not at all. `stamp` is the caller's, see [`ExactIndex::write`].
    ///
    /// # Errors
    /// [`FileError::Io`], disk full among its causes; a file that stood at `path` is then untouched. [`FileError::Damaged`] when the base is
    /// a file that is no longer as it was written, so that no damage is copied under a new checksum.
    pub fn write(&self, path: &Path, keep: &RowSet, stamp: u64) -> Result<(), FileError> {
        self.base.verify()?;
        let mut writer = IndexWriter::create(path, self.dim(), self.metric())?;
        let mut rows = keep.iter().peekable();
        while let Some(first) = rows.next() {
            // Rows that follow each other in one part go out together.
            let (part, at) = self.part_of(first);
            let most = part.len() - at;
            let n = 1 + (1..most).take_while(|i| rows.next_if_eq(&(first + i)).is_some()).count();
            let (ids, vectors) = part.stored(at..at + n);
            writer.push_stored(ids, vectors)?;
        }
        writer.finish(stamp)
    }

    fn part_of(&self, row: usize) -> (&ExactIndex, usize) {
        match row.checked_sub(self.base.len()) {
            None => (&self.base, row),
            Some(row) => (&self.tail, row),
        }
    }

    fn of_part(&self, allow: &RowSet, rows: std::ops::Range<usize>) -> Result<RowSet, SearchError> {
        match allow.n_rows() == self.len() {
            true => Ok(allow.of_range(rows)),
            false => Err(SearchError::Filter { got: allow.n_rows(), expected: self.len() }),
        }
    }
}

/// The best `k` of two rankings.
fn merged(mut hits: Vec<Hit>, others: Vec<Hit>, k: usize) -> Vec<Hit> {
    hits.extend(others);
    hits.sort_unstable_by(Hit::rank_cmp);
    hits.truncate(k);
    hits
}

impl VectorIndex for GrownIndex {
    fn metric(&self) -> Metric {
        self.base.metric()
    }

    fn dim(&self) -> usize {
        self.base.dim()
    }

    fn len(&self) -> usize {
        self.base.len() + self.tail.len()
    }

    fn search(&self, queries: &Vectors, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<Hit>>, SearchError> {
        let Some(allow) = options.allow else {
            let (of_base, of_tail) = (self.base.search(queries, k, options)?, self.tail.search(queries, k, options)?);
            return Ok(of_base.into_iter().zip(of_tail).map(|(a, b)| merged(a, b, k)).collect());
        };
        let of_base = self.of_base(allow)?;
        let of_base = self.base.search(queries, k, &SearchOptions { allow: Some(&of_base) })?;
        let of_tail = self.search_tail(queries, k, allow)?;
        Ok(of_base.into_iter().zip(of_tail).map(|(a, b)| merged(a, b, k)).collect())
    }
}
