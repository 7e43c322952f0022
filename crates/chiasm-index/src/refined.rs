//! Exact search that reads a quarter of the memory: every vector is looked at by its bytes, and only those that could still be among the
//! best are looked at as they are.
//!
//! # Why the answer is exact
//! A vector is `x = mean + scale c + r`, `c` being signed bytes and `r` what rounding left. For a query `q`, rounded to `q' = q - e`, the
//! score by bytes `q'mean + scale q'c` differs from `q'x` by at most
//!
//! `|q| |r| + |e| |scale c|`
//!
//! (Cauchy and Schwarz), and both norms of a vector are known from when it was rounded. So each vector has a least and a greatest score it can have. Whoever's greatest is
//! below the `k`-th greatest of the least ones is out, whatever the rest; all others are scored by [`ExactIndex`], with its bits, its
//! order and its ties. A bound for the rounding of the sums themselves is added to both sides.
//!
//! # Cost
//! `dim + 16` bytes per vector beside the exact index, which may stay in its file: of it a search reads the rows that are left, some hundred of a
//! hundred thousand for vectors of 512 numbers at unit length. It is for bases that memory holds as bytes but not as they are. Where it holds
//! both, many queries at once share each row of a plain scan in the cache and are quicker so (`docs/bench-ann.md`); the answer is the same.

use std::ops::Range;

use chiasm_core::{Hit, Metric, RowSet, SearchError, SearchOptions, VectorIndex, Vectors};
use rayon::prelude::*;

use crate::cells::{DigitQuery, IntegerKernel, TILE_ROWS, offset, round_to_bytes, rounded};
use crate::exact::ExactIndex;
use crate::pages::Pages;

/// Rows that one task scans.
const TASK_ROWS: usize = 8192;

/// Queries that share a pass.
const QUERY_BLOCK: usize = 16;

/// The rounding of a sum of `d` products in single precision, per dimension and unit of the sum of absolute products; see `kernels.rs`.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// An exact index with bytes before it.
pub struct RefinedIndex {
    exact: ExactIndex,
    kernel: IntegerKernel,
    mean: Vec<f32>,
    /// `width` bytes per row, on large pages: a scan waits for nothing but them.
    bytes: Pages<i8>,
    width: usize,
    rows: Vec<Row>,
}

/// What is known of a row beside its bytes.
#[derive(Clone, Copy, Default)]
struct Row {
    scale: f32,
    /// For L2 `-|x|^2 / 2`, else 0.
    offset: f32,
    /// `|r|`, rounded up.
    left: f32,
    /// `|scale c|`, rounded up.
    length: f32,
}

impl RefinedIndex {
    /// Puts bytes before an exact index, however that came to be.
    pub fn new(exact: ExactIndex) -> Self {
        let (n, dim) = (exact.len(), exact.dim());
        let width = rounded(dim);
        let mut sums = vec![0.0f64; dim];
        for row in 0..n {
            sums.iter_mut().zip(exact.vector(row)).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / n.max(1) as f64) as f32).collect();
        let mut bytes = Pages::zeros(n * width);
        let mut rows = vec![Row::default(); n];
        bytes.par_chunks_exact_mut(width).zip(&mut rows).enumerate().for_each(|(r, (bytes, row))| {
            let x = exact.vector(r);
            let scale = round_to_bytes(x, &mean, bytes);
            let (mut left, mut length) = (0.0f64, 0.0f64);
            for ((v, m), byte) in x.iter().zip(&mean).zip(bytes.iter()) {
                let part = f64::from(scale) * f64::from(*byte);
                length += part * part;
                left += (f64::from(*v) - f64::from(*m) - part).powi(2);
            }
            *row = Row { scale, offset: offset(exact.metric(), x), left: up(left.sqrt()), length: up(length.sqrt()) };
        });
        Self { exact, kernel: IntegerKernel::best(), mean, bytes, width, rows }
    }

    /// The exact index behind it.
    pub fn exact(&self) -> &ExactIndex {
        &self.exact
    }

    /// Bytes beside the exact index.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + std::mem::size_of::<Row>() * self.rows.len() + 4 * self.mean.len()
    }

    /// The rows that could be among the best `k` of each query of a block.
    fn candidates(&self, queries: &[&[f32]], k: usize, allow: Option<&RowSet>) -> Vec<Vec<usize>> {
        let asked: Vec<Asked> = queries.iter().map(|query| Asked::new(query, self.metric(), &self.mean)).collect();
        let numbers: Vec<&[i16]> = asked.iter().map(|asked| asked.query.numbers()).collect();
        let is_allowed = |r: usize| allow.is_none_or(|allow| allow.contains(r));
        let bytes = |rows: Range<usize>| &self.bytes[rows.start * self.width..rows.end * self.width];
        let n = self.rows.len();
        // Least and greatest score of each row that was not yet out when it was seen, part by part.
        let parts: Vec<Vec<Open>> = (0..n.div_ceil(TASK_ROWS))
            .into_par_iter()
            .map(|part| {
                let mut open: Vec<Open> = asked.iter().map(|_| Open::new(k)).collect();
                let mut sums = vec![[0; TILE_ROWS]; asked.len()];
                let end = n.min((part + 1) * TASK_ROWS);
                for first in (part * TASK_ROWS..end).step_by(TILE_ROWS) {
                    let rows = first..end.min(first + TILE_ROWS);
                    if rows.len() == TILE_ROWS && rows.clone().all(is_allowed) {
                        self.kernel.tile(bytes(rows.clone()), &numbers, &mut sums);
                    } else {
                        for r in rows.clone().filter(|r| is_allowed(*r)) {
                            let of_row = |query: &&[i16]| self.kernel.bytes(bytes(r..r + 1), query);
                            sums.iter_mut().zip(&numbers).for_each(|(sums, query)| sums[r - first] = of_row(query));
                        }
                    }
                    for r in rows.filter(|r| is_allowed(*r)) {
                        for ((asked, open), sums) in asked.iter().zip(&mut open).zip(&sums) {
                            let (score, bound) = asked.score(&self.rows[r], sums[r - first]);
                            open.offer(score, bound, r as u32);
                        }
                    }
                }
                open
            })
            .collect();
        (0..asked.len())
            .map(|q| {
                let mut leasts: Vec<f64> = parts.iter().flat_map(|part| part[q].leasts.iter().copied()).collect();
                leasts.sort_unstable_by(|a, b| b.total_cmp(a));
                let floor = leasts.get(k - 1).copied().unwrap_or(f64::NEG_INFINITY);
                let rows = parts.iter().flat_map(|part| &part[q].rows);
                rows.filter(|(greatest, _)| !is_below(*greatest, floor)).map(|(_, row)| *row as usize).collect()
            })
            .collect()
    }
}

/// Not `<` negated: what is no number is not below anything, and stays in.
fn is_below(greatest: f64, floor: f64) -> bool {
    greatest < floor
}

fn up(v: f64) -> f32 {
    ((v * (1.0 + 1e-6)) as f32).next_up()
}

/// A query as bytes meet it.
struct Asked {
    query: DigitQuery,
    /// How far a row's score by bytes may be from its score: this whatever the row, and so much for each unit of `|r|`, of `|scale c|` and of its offset.
    always: f64,
    of_left: f64,
    of_length: f64,
    of_offset: f64,
}

impl Asked {
    fn new(query: &[f32], metric: Metric, mean: &[f32]) -> Self {
        let unit;
        let query = if metric == Metric::Cosine {
            let query = Vectors::new(query.to_vec(), query.len()).expect("a row of checked vectors");
            unit = crate::exact::unit(&query);
            unit.data()
        } else {
            query
        };
        let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        let mut asked = DigitQuery::default();
        asked.set(query, mean);
        let (length, rounded_away) = (norm(query), asked.error(query));
        // What sums in single precision may be off per unit of `|q| |x|`, on both sides, `|x|` being at most `|mean| + |scale c| + |r|`.
        let sums = 2.0 * (query.len() as f64 + 8.0) * ROUNDING;
        Self {
            query: asked,
            always: sums * length * (norm(mean) + length),
            of_left: length * (1.0 + sums),
            of_length: rounded_away + sums * length,
            of_offset: sums,
        }
    }

    /// The score by bytes, of which `sum` is that of their products, and how far from it the score may be.
    #[inline]
    fn score(&self, row: &Row, sum: i32) -> (f64, f64) {
        let of_row = self.of_left * f64::from(row.left) + self.of_length * f64::from(row.length);
        let bound = self.always + of_row + self.of_offset * f64::from(row.offset).abs();
        (self.query.of_sum(sum, row.scale, row.offset), bound)
    }
}

/// Rows that are not out yet, of one part and one query.
struct Open {
    k: usize,
    /// The `k` greatest of the least scores, and some that came since and were not yet thrown away.
    leasts: Vec<f64>,
    floor: f64,
    /// Greatest score and row.
    rows: Vec<(f64, u32)>,
}

impl Open {
    fn new(k: usize) -> Self {
        Self { k, leasts: Vec::new(), floor: f64::NEG_INFINITY, rows: Vec::new() }
    }

    #[inline]
    fn offer(&mut self, score: f64, bound: f64, row: u32) {
        let (least, greatest) = (score - bound, score + bound);
        if is_below(greatest, self.floor) {
            return;
        }
        self.rows.push((greatest, row));
        if least > self.floor || self.leasts.len() < self.k {
            self.leasts.push(if least.is_nan() { f64::NEG_INFINITY } else { least });
            // Every so often, so that a row costs little: the floor may lag behind, it is only for leaving out early.
            if self.leasts.len() >= 2 * self.k + 16 {
                self.leasts.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a));
                self.leasts.truncate(self.k);
                self.floor = self.leasts[self.k - 1];
                let floor = self.floor;
                self.rows.retain(|(greatest, _)| !is_below(*greatest, floor));
            }
        }
    }
}

impl std::fmt::Debug for RefinedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefinedIndex({:?})", self.exact)
    }
}

impl VectorIndex for RefinedIndex {
    fn metric(&self) -> Metric {
        self.exact.metric()
    }

    fn dim(&self) -> usize {
        self.exact.dim()
    }

    fn len(&self) -> usize {
        self.exact.len()
    }

    fn search(&self, queries: &Vectors, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<Hit>>, SearchError> {
        let n = self.len();
        // What is wrong with a question, and questions that bytes do not help with, are the exact index's.
        let fits = queries.dim() == self.dim() && options.allow.is_none_or(|allow| allow.n_rows() == n);
        if !fits || k == 0 || k >= n || queries.n() == 0 {
            return self.exact.search(queries, k, options);
        }
        let rows: Vec<&[f32]> = queries.rows().collect();
        let mut answers = Vec::with_capacity(queries.n());
        for block in rows.chunks(QUERY_BLOCK) {
            let candidates = self.candidates(block, k, options.allow);
            let best = block.par_iter().zip(&candidates).map(|(query, rows)| self.exact.best_of(query, rows, k));
            answers.extend(best.collect::<Vec<_>>());
        }
        Ok(answers)
    }
}
