//! What a search takes and gives.

use std::cmp::Ordering;
use std::ops::Range;

use crate::vectors::{Metric, Vectors};

/// A closeness: greater is closer for every metric, and never NaN, so scores have a total order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score(f32);

/// A score that would have been NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a score cannot be NaN")]
pub struct NotANumber;

impl Score {
    /// The only constructor.
    ///
    /// # Errors
    /// [`NotANumber`] for NaN.
    pub fn new(value: f32) -> Result<Self, NotANumber> {
        if value.is_nan() { Err(NotANumber) } else { Ok(Self(value)) }
    }

    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // Not `total_cmp`: -0.0 and 0.0 are the same closeness.
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

/// One ranked answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Identity of the vector, as given when the index was built.
    pub id: u64,
    /// How close it is.
    pub score: Score,
}

impl Hit {
    /// Rank order: greater score first, equal scores by smaller id.
    pub fn rank_cmp(&self, other: &Self) -> Ordering {
        other.score.cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

/// A set of row numbers, one bit each: which rows a search may return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    n_rows: usize,
}

impl RowSet {
    /// The empty set over `n_rows` rows.
    pub fn new(n_rows: usize) -> Self {
        Self { words: vec![0; n_rows.div_ceil(64)], n_rows }
    }

    /// How many rows the set ranges over.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// How many rows are in it.
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When `row >= n_rows`.
    pub fn insert(&mut self, row: usize) {
        assert!(row < self.n_rows, "row {row} of a set over {} rows", self.n_rows);
        self.words[row / 64] |= 1 << (row % 64);
    }

    /// Its rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    i * 64 + bit
                })
            })
        })
    }

    /// The bits, 64 rows a word, row 0 the lowest bit of word 0; bits from `n_rows` on are 0. A scan skips 64 rows by one look.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The rows of a range, counted from its start.
    ///
    /// # Panics
    /// When the range ends beyond `n_rows`.
    pub fn of_range(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.n_rows, "rows {rows:?} of a set over {} rows", self.n_rows);
        let mut part = Self::new(rows.len());
        let (first, shift) = (rows.start / 64, rows.start % 64);
        for (i, word) in part.words.iter_mut().enumerate() {
            let low = self.words.get(first + i).copied().unwrap_or(0) >> shift;
            // What the next word lends; a shift by 64 would be none.
            let high = self.words.get(first + i + 1).map_or(0, |next| next << 1 << (63 - shift));
            *word = low | high;
        }
        if let Some(last) = part.words.last_mut().filter(|_| !rows.len().is_multiple_of(64)) {
            *last &= (1 << (rows.len() % 64)) - 1;
        }
        part
    }

    /// Whether a row is in it; rows out of range are not.
    pub fn contains(&self, row: usize) -> bool {
        row < self.n_rows && self.words[row / 64] >> (row % 64) & 1 == 1
    }
}

/// What narrows a search.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchOptions<'a> {
    /// Only these rows may be returned; all when absent. Must range over exactly the index's rows.
    pub allow: Option<&'a RowSet>,
}

/// Why a search could not be done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SearchError {
    /// Query and base differ in dimension.
    #[error("the query has {got} dimensions, the index {expected}: encode it with the space the index was built with")]
    Dimension {
        /// What came.
        got: usize,
        /// What the index holds.
        expected: usize,
    },
    /// The filter was made for another index.
    #[error("the filter ranges over {got} rows, the index has {expected}")]
    Filter {
        /// Rows of the filter.
        got: usize,
        /// Rows of the index.
        expected: usize,
    },
}

/// A searchable set of vectors. Building is inherent to each index, so an unbuilt one cannot be written.
pub trait VectorIndex: Send + Sync {
    /// How closeness is measured.
    fn metric(&self) -> Metric;

    /// Numbers per vector.
    fn dim(&self) -> usize;

    /// Number of vectors.
    fn len(&self) -> usize;

    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The best `k` rows for each query, in [`Hit::rank_cmp`] order; fewer when fewer are allowed.
    ///
    /// # Errors
    /// [`SearchError`]; a dimension or a filter made for another index.
    fn search(&self, queries: &Vectors, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<Hit>>, SearchError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scores_are_totally_ordered(a in proptest::num::f32::ANY, b in proptest::num::f32::ANY, c in proptest::num::f32::ANY) {
            prop_assume!(!a.is_nan() && !b.is_nan() && !c.is_nan());
            let [a, b, c] = [a, b, c].map(|v| Score::new(v).unwrap());
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(!(a <= b && b <= c) || a <= c);
        }

        #[test]
        fn a_row_set_is_a_set(rows in proptest::collection::btree_set(0usize..300, 0..40)) {
            let mut set = RowSet::new(300);
            rows.iter().for_each(|r| set.insert(*r));
            prop_assert_eq!(set.count(), rows.len());
            prop_assert_eq!(set.iter().collect::<std::collections::BTreeSet<_>>(), rows.clone());
            prop_assert!((0..400).all(|r| set.contains(r) == rows.contains(&r)));
        }

        #[test]
        fn a_range_of_a_row_set_is_counted_from_its_start(
            rows in proptest::collection::btree_set(0usize..300, 0..120), a in 0usize..=300, b in 0usize..=300,
        ) {
            let range = a.min(b)..a.max(b);
            let mut set = RowSet::new(300);
            rows.iter().for_each(|r| set.insert(*r));
            let mut of_range = RowSet::new(range.len());
            rows.range(range.clone()).for_each(|r| of_range.insert(r - range.start));
            prop_assert_eq!(set.of_range(range), of_range);
        }
    }

    #[test]
    fn equal_scores_rank_by_id() {
        let hit = |id, s| Hit { id, score: Score::new(s).unwrap() };
        let mut hits = [hit(9, 0.5), hit(2, 0.0), hit(1, -0.0), hit(3, 0.5)];
        hits.sort_by(Hit::rank_cmp);
        assert_eq!(hits.map(|h| h.id), [3, 9, 1, 2]);
        assert_eq!(Score::new(f32::NAN), Err(NotANumber));
    }
}
