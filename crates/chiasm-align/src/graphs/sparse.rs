//! A sparse matrix of weights by rows and by columns, and its product with what is learned.
//!
//! # Model
//! `y = A x`, for `A [n, m]` and `x [m, d]`; on the way back `dx = A' dy`. A homogeneous graph is a square matrix, a graph between two
//! kinds of nodes is a matrix with one kind in the rows and the other in the columns.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | A | [`Sparse`] | `[n, m]` | finite weights of at least 0 |
//! | D^-1/2 A D^-1/2 | [`Sparse::normalised`] | `[n, m]` | 0 to 1 |
//! | D^-1 A | [`Sparse::averaging`] | `[n, m]` | rows sum to 1 or 0 |
//!
//! # Cost
//! O(e) memory for e entries, twice, since the way back reads columns; O(e d) a product.
//!
//! # Determinism
//! A row of a product is summed by one thread in the order of its columns, so the numbers do not depend on the count of threads.
//!
//! # Errors
//! [`GraphError::NoSuch`] for an entry outside of the matrix, [`GraphError::Weight`] for one that is negative or no number.

use std::sync::Arc;

use chiasm_nn::grad::{Array, Var};
use rayon::prelude::*;

use super::GraphError;

/// Numbers of a product that are one task's; rows are never cut.
const CHUNK: usize = 1 << 13;

/// A sparse matrix `[n, m]` of weights of at least 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    by_row: Arc<Compressed>,
    by_column: Arc<Compressed>,
}

/// The entries of each row, one row after the other (CSR).
#[derive(Debug, PartialEq)]
struct Compressed {
    n_cols: usize,
    /// Where the entries of a row begin, and at the end their count, `[n + 1]`.
    starts: Vec<usize>,
    columns: Vec<u32>,
    weights: Vec<f64>,
}

impl Compressed {
    /// Entries in any order; those of one place are added.
    fn new(n_rows: usize, n_cols: usize, mut entries: Vec<(u32, u32, f64)>) -> Self {
        // Stable, so that entries of one place are added in the order in which they came.
        entries.sort_by_key(|(row, column, _)| (*row, *column));
        let mut all = Self { n_cols, starts: vec![0; n_rows + 1], columns: Vec::new(), weights: Vec::new() };
        let mut last = None;
        for (row, column, weight) in entries {
            if last == Some((row, column)) {
                *all.weights.last_mut().expect("an entry came before") += weight;
                continue;
            }
            last = Some((row, column));
            all.columns.push(column);
            all.weights.push(weight);
            all.starts[row as usize + 1] += 1;
        }
        for row in 0..n_rows {
            all.starts[row + 1] += all.starts[row];
        }
        all
    }

    fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, row: usize) -> impl Iterator<Item = (u32, f64)> + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.weights[range].iter().copied())
    }

    fn sums(&self) -> Vec<f64> {
        (0..self.n_rows()).map(|row| self.row(row).map(|(_, weight)| weight).sum()).collect()
    }

    fn times(&self, x: &Array<f64>) -> Array<f64> {
        assert_eq!(x.n_rows(), self.n_cols, "rows of what a sparse matrix of {} columns is multiplied with", self.n_cols);
        let d = x.n_cols();
        let mut y = Array::zeros(self.n_rows(), d);
        if d == 0 {
            return y;
        }
        let rows = (CHUNK / d).max(1);
        y.data_mut().par_chunks_mut(rows * d).enumerate().for_each(|(chunk, part)| {
            for (i, y) in part.chunks_exact_mut(d).enumerate() {
                for (column, weight) in self.row(chunk * rows + i) {
                    y.iter_mut().zip(x.row(column as usize)).for_each(|(y, x)| *y += weight * x);
                }
            }
        });
        y
    }
}

impl Sparse {
    /// A matrix `[n_rows, n_cols]` with these entries (row, column, weight); weights of one place are added.
    ///
    /// # Errors
    /// [`GraphError::NoSuch`], [`GraphError::Weight`].
    pub fn new(n_rows: usize, n_cols: usize, entries: &[(u32, u32, f64)]) -> Result<Self, GraphError> {
        for (entry, (row, column, weight)) in entries.iter().enumerate() {
            GraphError::in_range("row of the graph", *row, n_rows)?;
            GraphError::in_range("column of the graph", *column, n_cols)?;
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(GraphError::Weight { entry, got: *weight });
            }
        }
        Ok(Self::of(n_rows, n_cols, entries.to_vec()))
    }

    /// The same of entries that are known to be right.
    pub(super) fn of(n_rows: usize, n_cols: usize, entries: Vec<(u32, u32, f64)>) -> Self {
        let turned = entries.iter().map(|(row, column, weight)| (*column, *row, *weight)).collect();
        let by_row = Arc::new(Compressed::new(n_rows, n_cols, entries));
        Self { by_row, by_column: Arc::new(Compressed::new(n_cols, n_rows, turned)) }
    }

    /// Count of rows.
    pub fn n_rows(&self) -> usize {
        self.by_row.n_rows()
    }

    /// Count of columns.
    pub fn n_cols(&self) -> usize {
        self.by_row.n_cols
    }

    /// Count of entries.
    pub fn n_entries(&self) -> usize {
        self.by_row.columns.len()
    }

    /// Columns and weights of a row, by ascending column.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.by_row.row(row)
    }

    /// All entries, by row and then by column.
    pub fn entries(&self) -> Vec<(u32, u32, f64)> {
        (0..self.n_rows()).flat_map(|i| self.row(i).map(move |(j, weight)| (i as u32, j, weight))).collect()
    }

    /// Rows and columns exchanged; nothing is copied.
    pub fn transposed(&self) -> Self {
        Self { by_row: Arc::clone(&self.by_column), by_column: Arc::clone(&self.by_row) }
    }

    /// `[[0, A], [A', 0]]`: the graph `[n + m, n + m]` in which rows and columns are nodes alike, rows first.
    pub fn bipartite(&self) -> Self {
        let n = self.n_rows() as u32;
        let both = |(i, j, weight)| [(i, n + j, weight), (n + j, i, weight)];
        let size = self.n_rows() + self.n_cols();
        Self::of(size, size, self.entries().into_iter().flat_map(both).collect())
    }

    /// `A + I` (Kipf and Welling 2017, section 2): each node a neighbour of itself.
    ///
    /// # Errors
    /// [`GraphError::NotSquare`].
    pub fn with_loops(&self) -> Result<Self, GraphError> {
        if self.n_rows() != self.n_cols() {
            return Err(GraphError::NotSquare { n_rows: self.n_rows(), n_cols: self.n_cols() });
        }
        let mut entries = self.entries();
        entries.extend((0..self.n_rows() as u32).map(|i| (i, i, 1.0)));
        Ok(Self::of(self.n_rows(), self.n_cols(), entries))
    }

    /// `A_ij / sqrt(sum_k A_ik sum_k A_kj)`: `D^-1/2 A D^-1/2` of a symmetric graph. Rows and columns of zeros stay so.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let roots = |of: &Compressed| -> Vec<f64> { of.sums().into_iter().map(f64::sqrt).collect() };
        let (of_row, of_column) = (roots(&self.by_row), roots(&self.by_column));
        // Root by root: the product of two sums may be too small or too large where neither is.
        self.changed(|i, j, weight| if weight > 0.0 { weight / of_row[i] / of_column[j] } else { 0.0 })
    }

    /// `A_ij / sum_k A_ik`: the mean of the neighbours. Rows of zeros stay so.
    #[must_use]
    pub fn averaging(&self) -> Self {
        let sums = self.by_row.sums();
        self.changed(|i, _, weight| if weight > 0.0 { weight / sums[i] } else { 0.0 })
    }

    fn changed(&self, f: impl Fn(usize, usize, f64) -> f64) -> Self {
        let entries = self.entries().into_iter().map(|(i, j, weight)| (i, j, f(i as usize, j as usize, weight)));
        Self::of(self.n_rows(), self.n_cols(), entries.collect())
    }

    /// `A x`, `[n, d]`, on the tape of `x [m, d]`.
    ///
    /// # Panics
    /// If `x` has not as many rows as this has columns.
    pub fn times<'t>(&self, x: Var<'t, f64>) -> Var<'t, f64> {
        let (to, back) = (x.place(), Arc::clone(&self.by_column));
        x.tape().custom(&[x], self.by_row.times(&x.value()), move |d, sink| sink.add(to, || back.times(&d)))
    }
}

#[cfg(test)]
mod tests {
    use chiasm_nn::grad::Tape;

    use super::*;

    #[test]
    fn what_is_no_graph_is_refused() {
        let said = |entries: &[(u32, u32, f64)]| Sparse::new(2, 3, entries).unwrap_err().to_string();
        assert_eq!(said(&[(0, 0, 1.0), (2, 0, 1.0)]), "there is no row of the graph 2: there are 2, counted from 0");
        assert_eq!(said(&[(0, 3, 1.0)]), "there is no column of the graph 3: there are 3, counted from 0");
        assert_eq!(said(&[(0, 0, f64::NAN)]), "entry 0 of the graph has weight NaN: expected a finite number of at least 0");
        assert_eq!(said(&[(0, 0, -1.0)]), "entry 0 of the graph has weight -1: expected a finite number of at least 0");
        let loops = Sparse::new(2, 3, &[]).unwrap().with_loops().unwrap_err().to_string();
        assert_eq!(loops, "a graph of 2 rows and 3 columns has no loops: expected as many rows as columns");
    }

    #[test]
    fn entries_of_one_place_are_added_and_empty_rows_stay_zeros() {
        let graph = Sparse::new(3, 2, &[(2, 1, 1.0), (0, 1, 2.0), (2, 1, 3.0)]).unwrap();
        assert_eq!(graph.entries(), [(0, 1, 2.0), (2, 1, 4.0)]);
        assert_eq!(graph.averaging().entries(), [(0, 1, 1.0), (2, 1, 1.0)]);
        assert_eq!(graph.transposed().entries(), [(1, 0, 2.0), (1, 2, 4.0)]);
        let tape = Tape::new();
        let y = graph.normalised().times(tape.constant(Array::full(2, 1, 1.0))).value();
        assert_eq!(y.data()[1], 0.0);
        assert!((y.data()[0] - 2.0 / 12f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn products_do_not_depend_on_the_count_of_threads() {
        let entries: Vec<_> = (0..9_000_u32).map(|e| (e * 7 % 900, e * e % 700, f64::from(e % 11) / 7.0)).collect();
        let graph = Sparse::new(900, 700, &entries).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let tape = Tape::new();
                let x = tape.leaf(Array::from_fn(700, 33, |i, j| ((i * 31 + j * 17) % 101) as f64 / 13.0));
                let y = graph.times(x);
                let gradient = tape.backward(y.square().sum()).of(x);
                (y.value().data().to_vec(), gradient)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
