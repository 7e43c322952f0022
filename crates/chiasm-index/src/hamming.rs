//! Exact search of binary codes by Hamming distance: every allowed code is compared with every query.
//!
//! # What it gives
//! - [`HammingIndex::search`]: the best `k`, or with `k = len()` the full ranking that retrieval by codes is judged by.
//! - [`HammingIndex::within`]: hash lookup, all codes at a distance of at most `radius`.
//! - [`HammingIndex::distances`]: the distance of every row, for measures that treat equal distances together.
//!
//! Codes have few distances and hence many ties. They rank by smaller id, as everywhere (see [`chiasm_core::Hit::rank_cmp`]), so an
//! answer depends on the question alone: not on threads, batch, filter or instruction set.
//!
//! # Cost
//! One pass over the codes per 64 queries, cut into pieces that stay in the first cache while all of them look at it. A row enters
//! the candidates only when it is closer than the `k`-th best so far, and ranking is a counting sort by distance: `O(n)` even for
//! full rankings. Memory: `8 * ceil(n_bits / 64) + 8` bytes per code.
//!
//! # Example
//! ```
//! use chiasm_core::SearchOptions;
//! use chiasm_index::{Codes, HammingIndex};
//!
//! let index = HammingIndex::build(&[10, 20, 30], &Codes::from_words(4, vec![0b0000, 0b0011, 0b1111])?)?;
//! let query = Codes::from_words(4, vec![0b0001])?;
//! let hits = index.search(&query, 3, &SearchOptions::default())?.remove(0);
//! assert_eq!(hits.iter().map(|hit| (hit.id, hit.distance)).collect::<Vec<_>>(), [(10, 1), (20, 1), (30, 3)]);
//! assert_eq!(index.within(&query, 1, &SearchOptions::default())?[0], hits[..2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;

use chiasm_core::{Hit, RowSet, Score, SearchError, SearchOptions};
use rayon::prelude::*;

use crate::codes::Codes;
use crate::exact::{BuildError, check_order};
use crate::pages::Pages;
use crate::popcount::{CodeKernel, GROUP_ROWS, LINE_ROWS, Line, lines_of, lines_per_group};

/// Queries that share one pass over the codes.
pub(crate) const QUERY_BLOCK: usize = 64;

/// Bytes of codes that all queries of a block look at before the next come: half of a small first cache.
const PIECE_BYTES: usize = 16 << 10;

/// A task scans at least this many groups, so that starting it and merging its hits cost little.
const RANGE_GROUPS_MIN: usize = 512;

/// One ranked answer of a search of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeHit {
    /// Identity of the code, as given when the index was built.
    pub id: u64,
    /// How many bits differ, 0 to the number of bits: smaller is closer.
    pub distance: u32,
}

impl CodeHit {
    /// The same as a [`Hit`], whose score is minus the distance: greater is closer, and nothing is rounded.
    pub fn to_hit(self) -> Hit {
        Hit { id: self.id, score: Score::new(-(self.distance as f32)).expect("a distance is a number") }
    }
}

/// Codes with their ids, searched by looking at each.
pub struct HammingIndex {
    ids: Vec<u64>,
    n_bits: usize,
    words_per_code: usize,
    /// Whole groups of rows; see the head of `popcount.rs`.
    lines: Pages<Line>,
    kernel: CodeKernel,
}

impl HammingIndex {
    /// An index in memory: code `i` is known as `ids[i]`.
    ///
    /// # Errors
    /// [`BuildError`] when the counts differ or the ids do not ascend strictly.
    pub fn build(ids: &[u64], codes: &Codes) -> Result<Self, BuildError> {
        if ids.len() != codes.n() {
            return Err(BuildError::Count { ids: ids.len(), vectors: codes.n() });
        }
        check_order(ids, 0, None)?;
        let (n_bits, words_per_code) = (codes.n_bits(), codes.words_per_code());
        let lines = lines_of(codes.words(), words_per_code);
        Ok(Self { ids: ids.to_vec(), n_bits, words_per_code, lines, kernel: CodeKernel::best() })
    }

    /// The same index, scanned with this kernel: for tests and measurements, since every kernel gives the same answers.
    pub fn with_kernel(mut self, kernel: CodeKernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bits per code.
    pub fn n_bits(&self) -> usize {
        self.n_bits
    }

    /// The ids, ascending; row `i` is known as `ids()[i]`.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The row known as `id`.
    pub fn row_of(&self, id: u64) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The words of a row's code.
    ///
    /// # Panics
    /// When `row >= len()`.
    pub fn code(&self, row: usize) -> Vec<u64> {
        assert!(row < self.len(), "row {row} of an index of {} codes", self.len());
        let first = row / LINE_ROWS * self.words_per_code;
        self.lines[first..first + self.words_per_code].iter().map(|line| line.0[row % LINE_ROWS]).collect()
    }

    /// Bytes that codes and ids take.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.ids[..])
    }

    /// The best `k` rows for each query, by distance, then by id; fewer when fewer are allowed.
    ///
    /// # Errors
    /// [`SearchError`]: codes of another length, or a filter made for another index.
    pub fn search(&self, queries: &Codes, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<CodeHit>>, SearchError> {
        self.ranked(queries, k, self.n_bits as u32, options)
    }

    /// All rows at a distance of at most `radius` from each query, by distance, then by id.
    ///
    /// # Errors
    /// [`SearchError`]: codes of another length, or a filter made for another index.
    pub fn within(&self, queries: &Codes, radius: u32, options: &SearchOptions<'_>) -> Result<Vec<Vec<CodeHit>>, SearchError> {
        self.ranked(queries, usize::MAX, radius, options)
    }

    /// The distance of every row from one of the queries, in the order of the rows.
    ///
    /// # Errors
    /// [`SearchError::Dimension`] for codes of another length.
    ///
    /// # Panics
    /// When `query >= queries.n()`.
    pub fn distances(&self, queries: &Codes, query: usize) -> Result<Vec<u32>, SearchError> {
        self.check(queries, &SearchOptions::default())?;
        let code = queries.code(query);
        let mut out = vec![0; self.n_groups() * GROUP_ROWS];
        let (lines, rows) = (RANGE_GROUPS_MIN * lines_per_group(self.words_per_code), RANGE_GROUPS_MIN * GROUP_ROWS);
        let pieces = self.lines.par_chunks(lines).zip(out.par_chunks_mut(rows));
        pieces.for_each(|(lines, out)| self.kernel.distances(lines, code, out));
        out.truncate(self.len());
        Ok(out)
    }

    pub(crate) fn kernel(&self) -> CodeKernel {
        self.kernel
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Writes which bits of a row's code differ from the query's into the first words of `out`.
    pub(crate) fn differences(&self, row: usize, query: &[u64], out: &mut [u64]) {
        let first = row / LINE_ROWS * self.words_per_code;
        let lines = &self.lines[first..first + self.words_per_code];
        for ((line, q), out) in lines.iter().zip(query).zip(out) {
            *out = line.0[row % LINE_ROWS] ^ q;
        }
    }

    fn n_groups(&self) -> usize {
        self.lines.len() / lines_per_group(self.words_per_code)
    }

    pub(crate) fn check(&self, queries: &Codes, options: &SearchOptions<'_>) -> Result<(), SearchError> {
        if queries.n_bits() != self.n_bits {
            return Err(SearchError::Dimension { got: queries.n_bits(), expected: self.n_bits });
        }
        match options.allow {
            Some(allow) if allow.n_rows() != self.len() => {
                Err(SearchError::Filter { got: allow.n_rows(), expected: self.len() })
            }
            _ => Ok(()),
        }
    }

    /// The best `k` of those within `radius`.
    pub(crate) fn ranked(
        &self,
        queries: &Codes,
        k: usize,
        radius: u32,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<CodeHit>>, SearchError> {
        self.check(queries, options)?;
        let n_groups = self.n_groups();
        if k == 0 || n_groups == 0 || queries.n() == 0 {
            return Ok(vec![Vec::new(); queries.n()]);
        }
        if k >= self.len() && radius >= self.n_bits as u32 {
            return (0..queries.n()).into_par_iter().map(|q| self.rank_all(queries, q, options.allow)).collect();
        }
        let limit = radius.min(self.n_bits as u32) + 1;
        let blocks: Vec<&[u64]> = queries.words().chunks(QUERY_BLOCK * self.words_per_code).collect();
        // Enough tasks to keep all cores busy to the end; each finds its own limit anew, so not more than that.
        let threads = rayon::current_num_threads();
        let tasks = if threads == 1 { 1 } else { (threads * 2).div_ceil(blocks.len()) };
        let range_len = n_groups.div_ceil(tasks).max(RANGE_GROUPS_MIN);
        let answer = |queries: &&[u64]| {
            let ranges = (0..n_groups).into_par_iter().step_by(range_len).map(|start| start..n_groups.min(start + range_len));
            let found: Vec<Vec<Top>> = ranges.map(|groups| self.scan(queries, k, limit, groups, options.allow)).collect();
            let n_queries = queries.len() / self.words_per_code;
            (0..n_queries)
                .into_par_iter()
                .map(|q| self.rank(found.iter().flat_map(|tops| tops[q].entries.iter().copied()), k))
                .collect::<Vec<_>>()
        };
        Ok(blocks.par_iter().flat_map_iter(answer).collect())
    }

    /// Best rows of some groups for each of a block of queries.
    fn scan(&self, queries: &[u64], k: usize, limit: u32, groups: Range<usize>, allow: Option<&RowSet>) -> Vec<Top> {
        let per_group = lines_per_group(self.words_per_code);
        let piece = (PIECE_BYTES / (per_group * size_of::<Line>())).max(1);
        let n_queries = queries.len() / self.words_per_code;
        let mut tops: Vec<Top> = (0..n_queries).map(|_| Top::new(k, limit)).collect();
        for start in groups.clone().step_by(piece) {
            let part = start..groups.end.min(start + piece);
            for (query, top) in queries.chunks_exact(self.words_per_code).zip(&mut tops) {
                match allow {
                    None => self.scan_all(query, part.clone(), top),
                    Some(allow) => self.scan_allowed(query, part.clone(), allow, top),
                }
            }
        }
        tops
    }

    fn scan_all(&self, query: &[u64], groups: Range<usize>, top: &mut Top) {
        let per_group = lines_per_group(self.words_per_code);
        let mut at = groups.start;
        loop {
            at += self.kernel.first_below(&self.lines[at * per_group..groups.end * per_group], query, top.limit);
            if at >= groups.end {
                return;
            }
            // Behind the last row stand zeros that nobody asked for.
            let there = (self.len() - at * GROUP_ROWS).min(GROUP_ROWS);
            self.offer(query, at, u32::MAX >> (GROUP_ROWS - there), top);
            at += 1;
        }
    }

    fn scan_allowed(&self, query: &[u64], groups: Range<usize>, allow: &RowSet, top: &mut Top) {
        let per_group = lines_per_group(self.words_per_code);
        for group in groups {
            // Half a word of the set; rows that are not there are not in it.
            let rows = (allow.words()[group / 2] >> (group % 2 * GROUP_ROWS)) as u32;
            let lines = &self.lines[group * per_group..(group + 1) * per_group];
            if rows != 0 && self.kernel.first_below(lines, query, top.limit) == 0 {
                self.offer(query, group, rows, top);
            }
        }
    }

    /// Shows the rows of a group that are bits of `rows`.
    fn offer(&self, query: &[u64], group: usize, rows: u32, top: &mut Top) {
        let per_group = lines_per_group(self.words_per_code);
        let mut distances = [0; GROUP_ROWS];
        self.kernel.distances(&self.lines[group * per_group..(group + 1) * per_group], query, &mut distances);
        let mut below = 0u32;
        for (i, distance) in distances.iter().enumerate() {
            below |= u32::from(*distance < top.limit) << i;
        }
        below &= rows;
        while below != 0 {
            let i = below.trailing_zeros() as usize;
            top.push(Entry { row: group * GROUP_ROWS + i, distance: distances[i] });
            below &= below - 1;
        }
    }

    /// All allowed rows: nothing is to be found but their order.
    fn rank_all(&self, queries: &Codes, query: usize, allow: Option<&RowSet>) -> Result<Vec<CodeHit>, SearchError> {
        let distances = self.distances(queries, query)?;
        let entries = distances.iter().enumerate().map(|(row, distance)| Entry { row, distance: *distance });
        Ok(match allow {
            None => self.rank(entries, usize::MAX),
            Some(allow) => self.rank(entries.filter(|entry| allow.contains(entry.row)), usize::MAX),
        })
    }

    /// The best `k` of entries in the order of their rows: a counting sort by distance, which keeps that order.
    fn rank(&self, entries: impl Iterator<Item = Entry> + Clone, k: usize) -> Vec<CodeHit> {
        // Where the next entry at each distance goes; behind them all, how many there are.
        let mut places = vec![0usize; self.n_bits + 2];
        entries.clone().for_each(|entry| places[entry.distance as usize + 1] += 1);
        for d in 1..places.len() {
            places[d] += places[d - 1];
        }
        let mut hits = vec![CodeHit { id: 0, distance: 0 }; k.min(places[self.n_bits + 1])];
        for entry in entries {
            let place = &mut places[entry.distance as usize];
            if let Some(hit) = hits.get_mut(*place) {
                *hit = CodeHit { id: self.ids[entry.row], distance: entry.distance };
            }
            *place += 1;
        }
        hits
    }
}

impl std::fmt::Debug for HammingIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HammingIndex({} x {} bits)", self.len(), self.n_bits)
    }
}

/// A row and its distance.
#[derive(Clone, Copy)]
struct Entry {
    row: usize,
    distance: u32,
}

/// The best `k` of what was offered in the order of the rows. Since a later row loses every tie, only what is *closer* than the
/// `k`-th best may enter.
struct Top {
    k: usize,
    /// Only distances below it may enter.
    limit: u32,
    /// How many of the entries are below the limit: fewer than `k`.
    closer: usize,
    /// How many came at each distance.
    counts: Vec<usize>,
    /// In the order of the rows; the best `k`, and some that were overtaken and not yet thrown away.
    entries: Vec<Entry>,
}

impl Top {
    fn new(k: usize, limit: u32) -> Self {
        Self { k, limit, closer: 0, counts: vec![0; limit as usize], entries: Vec::new() }
    }

    fn push(&mut self, entry: Entry) {
        if entry.distance >= self.limit {
            return;
        }
        self.entries.push(entry);
        self.counts[entry.distance as usize] += 1;
        self.closer += 1;
        while self.closer >= self.k {
            self.limit -= 1;
            self.closer -= self.counts[self.limit as usize];
        }
        if self.entries.len() / 2 > self.k.max(64) {
            self.compact();
        }
    }

    /// Throws away what was overtaken: of those at the limit, only the first ones have a place left.
    fn compact(&mut self) {
        let mut places = self.k - self.closer;
        let limit = self.limit;
        self.entries.retain(|entry| {
            let at_limit = entry.distance == limit && places > 0;
            places -= usize::from(at_limit);
            entry.distance < limit || at_limit
        });
    }
}
