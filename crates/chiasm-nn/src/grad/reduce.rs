//! Sums, means, and what rows become by their sums: probabilities, unit length.

use std::sync::Arc;

use rayon::prelude::*;

use super::array::CHUNK;
use super::{Array, Real, Var};
use crate::simd::{self, widest};

impl<T: Real> Array<T> {
    /// The sum of all rows, `[1, m]`. Rows are summed in parts, whose size depends on the width alone.
    pub fn sum_of_rows(&self) -> Array<T> {
        self.sum_of_parts(|_, rows, sum| {
            rows.chunks_exact(sum.len()).for_each(|row| simd::map_with(sum, row, |sum, x| sum + x))
        })
    }

    /// The sum of all rows, each number times that in its place in `other`, likewise.
    ///
    /// # Panics
    /// If `other` has another shape.
    pub(super) fn sum_of_rows_times(&self, other: &Array<T>) -> Array<T> {
        assert_eq!(self.shape(), other.shape(), "shapes of two matrices taken number by number");
        self.sum_of_parts(|first, rows, sum| {
            let others = other.data()[first..].chunks_exact(sum.len());
            rows.chunks_exact(sum.len())
                .zip(others)
                .for_each(|(row, with)| simd::map_with_both(sum, row, with, |sum, x, y| sum + x * y));
        })
    }

    /// `add` adds the rows of a part, which begins at a number, to a sum.
    fn sum_of_parts(&self, add: impl Fn(usize, &[T], &mut [T]) + Sync) -> Array<T> {
        self.sum_on_all_threads(&|first, rows, sum| widest(Part { first, rows, sum, add: &add }))
    }

    fn sum_on_all_threads(&self, add: &Adding<'_, T>) -> Array<T> {
        let (n, m) = (self.n_rows(), self.n_cols());
        if m == 0 || n == 0 {
            return Array::zeros(1, m);
        }
        let numbers = (CHUNK / m).max(16) * m;
        let sum_of = |(nth, rows): (usize, &[T])| {
            let mut sum = vec![T::default(); m];
            add(nth * numbers, rows, &mut sum);
            sum
        };
        let parts: Vec<Vec<T>> = self.data().par_chunks(numbers).enumerate().map(sum_of).collect();
        let mut total = vec![T::default(); m];
        parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(sum, x)| *sum += *x));
        Array::new(1, m, total)
    }

    /// The sum of all columns, `[n, 1]`.
    pub fn sum_of_columns(&self) -> Array<T> {
        Array::from_fn(self.n_rows(), 1, |i, _| simd::sum(self.row(i)))
    }
}

/// Adds the rows of a part, which begins at a number, to a sum.
type Adding<'a, T> = dyn Fn(usize, &[T], &mut [T]) + Sync + 'a;

/// Some rows of a sum.
struct Part<'a, T, F> {
    first: usize,
    rows: &'a [T],
    sum: &'a mut [T],
    add: &'a F,
}

impl<T: Real, F: Fn(usize, &[T], &mut [T])> pulp::NullaryFnOnce for Part<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.add)(self.first, self.rows, self.sum);
    }
}

/// `e^(x - max)` of a row and their sum, in place.
#[inline(always)]
pub(super) fn exponentials<T: Real>(row: &mut [T]) -> T {
    let most = simd::largest(row, row[0]);
    simd::map(row, |x| (x - most).exponential());
    simd::sum(row)
}

impl<'t, T: Real> Var<'t, T> {
    /// The sum of all numbers, `[1, 1]`.
    pub fn sum(self) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        // In double precision: a loss is the sum of many small numbers.
        let sum = T::of(x.data().iter().map(|x| x.wide()).sum());
        self.made(Array::scalar(sum), move |d, sink| sink.add(to, || Array::full(n, m, d.only())))
    }

    /// The mean of all numbers, `[1, 1]`.
    pub fn mean(self) -> Var<'t, T> {
        let [n, m] = self.shape();
        self.sum().scaled(T::of(1.0 / (n * m).max(1) as f64))
    }

    /// The sum of all rows, `[1, m]`.
    pub fn sum_rows(self) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        self.made(x.sum_of_rows(), move |d, sink| sink.add(to, || Array::from_fn(n, m, |_, j| d.at(0, j))))
    }

    /// The mean of all rows, `[1, m]`.
    pub fn mean_rows(self) -> Var<'t, T> {
        let [n, _] = self.shape();
        self.sum_rows().scaled(T::of(1.0 / n.max(1) as f64))
    }

    /// The sum of all columns, `[n, 1]`.
    pub fn sum_columns(self) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        self.made(x.sum_of_columns(), move |d, sink| sink.add(to, || Array::from_fn(n, m, |i, _| d.at(i, 0))))
    }

    /// The mean of the rows of each run, `[lengths.len(), m]`: of sequences that stand one under the other. An empty run has zeros.
    ///
    /// # Panics
    /// If the lengths do not sum to the count of rows.
    pub fn mean_of_runs(self, lengths: &[usize]) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        assert_eq!(lengths.iter().sum::<usize>(), n, "rows of all runs together");
        let share = |length: usize| T::of(1.0 / length.max(1) as f64);
        let lengths: Vec<usize> = lengths.to_vec();
        let begins: Vec<usize> = lengths.iter().scan(0, |end, n| Some(std::mem::replace(end, *end + n))).collect();
        let mut y = Array::zeros(lengths.len(), m);
        y.for_rows(|run, sum| {
            let by = share(lengths[run]);
            (begins[run]..begins[run] + lengths[run]).for_each(|i| simd::map_with(sum, x.row(i), |sum, x| sum + by * x));
        });
        self.made(y, move |d, sink| {
            sink.add(to, || {
                let of_row: Vec<usize> = lengths.iter().enumerate().flat_map(|(run, n)| std::iter::repeat_n(run, *n)).collect();
                let mut all = Array::zeros(n, m);
                all.for_rows(|i, row| {
                    let by = share(lengths[of_row[i]]);
                    simd::map_with(row, d.row(of_row[i]), |_, d| by * d);
                });
                all
            });
        })
    }

    /// Probabilities of each row.
    pub fn softmax(self) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let mut y = Array::clone(&x);
        y.for_rows(|_, row| {
            let sum = exponentials(row);
            let by = T::of(1.0) / sum;
            simd::map(row, |x| x * by);
        });
        let y = Arc::new(y);
        self.made(Arc::clone(&y), move |d, sink| {
            sink.add(to, || {
                let mut d = d;
                d.for_rows(|i, d| {
                    let y = y.row(i);
                    let along = simd::sum_of_products(d, y);
                    simd::map_with(d, y, |d, y| y * (d - along));
                });
                d
            });
        })
    }

    /// Logarithms of the probabilities of each row.
    pub fn log_softmax(self) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let mut y = Array::clone(&x);
        y.for_rows(|_, row| {
            let most = simd::largest(row, row[0]);
            let log = most + simd::sum_of(row, |x| (x - most).exponential()).logarithm();
            simd::map(row, |x| x - log);
        });
        let y = Arc::new(y);
        self.made(Arc::clone(&y), move |d, sink| {
            sink.add(to, || {
                let mut d = d;
                d.for_rows(|i, d| {
                    let total = simd::sum(d);
                    simd::map_with(d, y.row(i), |d, y| d - y.exponential() * total);
                });
                d
            });
        })
    }

    /// Each row at unit length; a row of zeros stays one (its length is at least `1e-12`).
    pub fn unit_rows(self) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let length = |row: &[T]| {
            let length = simd::sum_of_squares(row).root();
            if length > T::of(1e-12) { length } else { T::of(1e-12) }
        };
        let mut y = Array::clone(&x);
        y.for_rows(|_, row| {
            let by = T::of(1.0) / length(row);
            simd::map(row, |x| x * by);
        });
        let y = Arc::new(y);
        self.made(Arc::clone(&y), move |d, sink| {
            sink.add(to, || {
                let mut d = d;
                d.for_rows(|i, d| {
                    let (y, by) = (y.row(i), T::of(1.0) / length(x.row(i)));
                    let along = simd::sum_of_products(d, y);
                    simd::map_with(d, y, |d, y| by * (d - along * y));
                });
                d
            });
        })
    }

    /// The mean cross-entropy of rows of logits and rows of probabilities: `-mean_i sum_j p_ij log softmax(x_i)_j`, `[1, 1]`.
    pub fn cross_entropy(self, probabilities: Var<'t, T>) -> Var<'t, T> {
        let [n, _] = self.shape();
        (self.log_softmax() * probabilities).sum().scaled(T::of(-1.0 / n.max(1) as f64))
    }

    /// The same where each row has one class.
    ///
    /// # Panics
    /// If there are not as many classes as rows, or a class is none of the columns.
    pub fn cross_entropy_of(self, classes: &[usize]) -> Var<'t, T> {
        let [n, m] = self.shape();
        assert_eq!(classes.len(), n, "classes of {n} rows");
        let from: Vec<u32> = classes
            .iter()
            .enumerate()
            .map(|(i, c)| {
                assert!(*c < m, "class {c} of {m}");
                (i * m + c) as u32
            })
            .collect();
        self.log_softmax().gathered(from, n, 1).mean().scaled(T::of(-1.0))
    }
}
