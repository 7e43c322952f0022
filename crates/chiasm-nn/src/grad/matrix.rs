//! Products, and operations that move numbers to other places.

use std::sync::Arc;

use super::array::{Side, product};
use super::{Array, Real, Tape, Var};
use crate::kernel::Precision;
use crate::simd;

/// What [`Var::gathered`] puts where no number is taken from: 0.
pub const NOWHERE: u32 = u32::MAX;

impl<'t, T: Real> Var<'t, T> {
    /// The product of matrices `[n, k]` and `[k, m]`.
    ///
    /// # Panics
    /// If the inner sizes differ.
    pub fn dot(self, other: Var<'t, T>) -> Var<'t, T> {
        use Side::{Plain, Turned};
        let (a, b) = (self.value(), other.value());
        let y = product(Precision::F32, Plain(&a), Plain(&b));
        let (to, to_other) = (self.place(), other.place());
        self.tape.custom(&[self, other], y, move |d, sink| {
            sink.add(to, || product(Precision::F32, Plain(&d), Turned(&b)));
            sink.add(to_other, || product(Precision::F32, Turned(&a), Plain(&d)));
        })
    }

    /// The product of `[n, k]` and `[m, k]` turned: every row with every row.
    ///
    /// # Panics
    /// If the rows differ in length.
    pub fn dot_rows(self, other: Var<'t, T>) -> Var<'t, T> {
        self.rows_with_rows(other, Precision::F32)
    }

    fn rows_with_rows(self, other: Var<'t, T>, precision: Precision) -> Var<'t, T> {
        use Side::{Plain, Turned};
        let (a, b) = (self.value(), other.value());
        let y = product(precision, Plain(&a), Turned(&b));
        let (to, to_other) = (self.place(), other.place());
        self.tape.custom(&[self, other], y, move |d, sink| {
            sink.add(to, || product(precision, Plain(&d), Plain(&b)));
            sink.add(to_other, || product(precision, Turned(&d), Plain(&a)));
        })
    }

    /// A dense layer: `x W' + b`, with a weight `[n_out, n_in]` as checkpoints store it, and a bias `[1, n_out]`; its products, and those of its
    /// gradients, are in the tape's precision.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn linear(self, weight: Var<'t, T>, bias: Option<Var<'t, T>>) -> Var<'t, T> {
        use Side::{Plain, Turned};
        let precision = self.tape.precision;
        let Some(bias) = bias else { return self.rows_with_rows(weight, precision) };
        let (x, w, b) = (self.value(), weight.value(), bias.value());
        let mut y = product(precision, Plain(&x), Turned(&w));
        assert_eq!(b.shape(), [1, y.n_cols()], "a bias of a dense layer");
        y.for_rows(|_, row| simd::map_with(row, b.data(), |y, b| y + b));
        let (to, to_weight, to_bias) = (self.place(), weight.place(), bias.place());
        self.tape().custom(&[self, weight, bias], y, move |d, sink| {
            sink.add(to, || product(precision, Plain(&d), Plain(&w)));
            sink.add(to_weight, || product(precision, Turned(&d), Plain(&x)));
            sink.add(to_bias, || d.sum_of_rows());
        })
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Var<'t, T> {
        let to = self.place();
        self.made(self.value().transposed(), move |d, sink| sink.add(to, || d.transposed()))
    }

    /// The same numbers, row by row, in another shape.
    ///
    /// # Panics
    /// If it holds another count of numbers.
    pub fn reshaped(self, n_rows: usize, n_cols: usize) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        self.made(Array::clone(&x).reshaped(n_rows, n_cols), move |d, sink| sink.add(to, || d.reshaped(n, m)))
    }

    /// Some rows, in the order given; a row may come more than once: the vectors of words.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn rows(self, rows: impl Into<Arc<[usize]>>) -> Var<'t, T> {
        let (x, to, rows) = (self.value(), self.place(), rows.into());
        let [n, m] = x.shape();
        self.made(x.pick(&rows), move |d, sink| {
            sink.add(to, || {
                let taken = Taken::of(&rows, n);
                let mut sum = Array::zeros(n, m);
                sum.for_rows(|row, sum| {
                    taken.places(row).iter().for_each(|at| simd::map_with(sum, d.row(*at as usize), |sum, d| sum + d));
                });
                sum
            });
        })
    }

    /// Some columns that follow on one another.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn columns(self, columns: std::ops::Range<usize>) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        let (first, width) = (columns.start, columns.len());
        assert!(columns.end <= m, "columns {columns:?} of {m}");
        let y = Array::from_fn(n, width, |i, j| x.at(i, first + j));
        self.made(y, move |d, sink| {
            sink.add(to, || {
                let mut all = Array::zeros(n, m);
                all.for_rows(|i, row| row[first..first + width].copy_from_slice(d.row(i)));
                all
            });
        })
    }

    /// Numbers from anywhere: number `k` of the result is number `from[k]` of this matrix, counted row by row, or 0 where that is [`NOWHERE`]. Windows of
    /// pictures, for convolutions.
    ///
    /// # Panics
    /// If there is no such number, or not `n_rows * n_cols` places are named.
    pub fn gathered(self, from: impl Into<Arc<[u32]>>, n_rows: usize, n_cols: usize) -> Var<'t, T> {
        let (x, to, from) = (self.value(), self.place(), from.into());
        let [n, m] = x.shape();
        let zero = T::default();
        let data = from.iter().map(|at| if *at == NOWHERE { zero } else { x.data()[*at as usize] }).collect();
        self.made(Array::new(n_rows, n_cols, data), move |d, sink| {
            sink.add(to, || {
                let mut sum = Array::zeros(n, m);
                for (at, d) in from.iter().zip(d.data()).filter(|(at, _)| **at != NOWHERE) {
                    sum.data_mut()[*at as usize] += *d;
                }
                sum
            });
        })
    }
}

/// For each row that may be taken the places to which it was, in their order: so that every row's gradient is a sum of its own.
struct Taken {
    /// Where the places of each row begin in `places`, and where those of the last end.
    begin: Vec<u32>,
    places: Vec<u32>,
}

impl Taken {
    fn of(rows: &[usize], n: usize) -> Self {
        let mut begin = vec![0; n + 1];
        rows.iter().for_each(|row| begin[row + 1] += 1);
        (0..n).for_each(|row| begin[row + 1] += begin[row]);
        let (mut next, mut places) = (begin.clone(), vec![0; rows.len()]);
        for (at, row) in rows.iter().enumerate() {
            places[next[*row] as usize] = at as u32;
            next[*row] += 1;
        }
        Self { begin, places }
    }

    fn places(&self, row: usize) -> &[u32] {
        &self.places[self.begin[row] as usize..self.begin[row + 1] as usize]
    }
}

pub(super) fn beside<'t, T: Real>(tape: &'t Tape<T>, parts: &[Var<'t, T>]) -> Var<'t, T> {
    let values: Vec<Arc<Array<T>>> = parts.iter().map(Var::value).collect();
    let n = values.first().expect("something to put side by side").n_rows();
    assert!(
        values.iter().all(|x| x.n_rows() == n),
        "rows of what stands side by side: {:?}",
        parts.iter().map(Var::shape).collect::<Vec<_>>()
    );
    let widths: Vec<usize> = values.iter().map(|x| x.n_cols()).collect();
    let data = (0..n).flat_map(|i| values.iter().flat_map(move |x| x.row(i))).copied().collect();
    let places: Vec<_> = parts.iter().map(|var| var.place()).collect();
    let y = Array::new(n, widths.iter().sum(), data);
    tape.custom(parts, y, move |d, sink| {
        let mut first = 0;
        for (place, width) in places.into_iter().zip(widths) {
            sink.add(place, || Array::from_fn(n, width, |i, j| d.at(i, first + j)));
            first += width;
        }
    })
}

pub(super) fn under<'t, T: Real>(tape: &'t Tape<T>, parts: &[Var<'t, T>]) -> Var<'t, T> {
    let values: Vec<Arc<Array<T>>> = parts.iter().map(Var::value).collect();
    let m = values.first().expect("something to put one under the other").n_cols();
    assert!(
        values.iter().all(|x| x.n_cols() == m),
        "columns of what stands one under the other: {:?}",
        parts.iter().map(Var::shape).collect::<Vec<_>>()
    );
    let heights: Vec<usize> = values.iter().map(|x| x.n_rows()).collect();
    let data = values.iter().flat_map(|x| x.data()).copied().collect();
    let places: Vec<_> = parts.iter().map(|var| var.place()).collect();
    let y = Array::new(heights.iter().sum(), m, data);
    tape.custom(parts, y, move |d, sink| {
        let mut first = 0;
        for (place, height) in places.into_iter().zip(heights) {
            sink.add(place, || Array::new(height, m, d.data()[first * m..(first + height) * m].to_vec()));
            first += height;
        }
    })
}
