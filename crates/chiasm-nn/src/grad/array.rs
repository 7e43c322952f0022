//! Matrices by rows, and their products.

use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::real::{Entering, Real};
use crate::kernel::Precision;
use crate::simd::{self, widest};

/// Multiplications below which threads cost more than they bring.
const SMALL: usize = 1 << 18;
/// Numbers below which a loop stays on its thread; above, each task takes as many.
pub(super) const CHUNK: usize = 1 << 15;

/// A matrix of numbers, row after row.
#[derive(Debug, PartialEq, Default)]
pub struct Array<T> {
    n_rows: usize,
    n_cols: usize,
    data: Vec<T>,
}

impl<T: Real> Clone for Array<T> {
    /// On all threads.
    fn clone(&self) -> Self {
        self.mapped_parts(|_, _| {})
    }
}

/// A matrix as it enters a product: as it is, or turned.
#[derive(Clone, Copy)]
pub(super) enum Side<'a, T> {
    Plain(&'a Array<T>),
    Turned(&'a Array<T>),
}

impl<T: Real> Side<'_, T> {
    fn entering(&self) -> Entering<'_, T> {
        match self {
            Side::Plain(a) => (a.shape(), &a.data, false),
            Side::Turned(a) => ([a.n_cols, a.n_rows], &a.data, true),
        }
    }
}

impl<T: Real> Array<T> {
    /// A matrix of these rows, `n_rows * n_cols` numbers row by row.
    ///
    /// # Panics
    /// If there are not as many numbers.
    pub fn new(n_rows: usize, n_cols: usize, data: Vec<T>) -> Self {
        assert_eq!(data.len(), n_rows * n_cols, "numbers of a matrix of {n_rows} rows and {n_cols} columns");
        Self { n_rows, n_cols, data }
    }

    /// A matrix of zeros.
    pub fn zeros(n_rows: usize, n_cols: usize) -> Self {
        Self::full(n_rows, n_cols, T::default())
    }

    /// A matrix of one number.
    pub fn full(n_rows: usize, n_cols: usize, value: T) -> Self {
        Self { n_rows, n_cols, data: vec![value; n_rows * n_cols] }
    }

    /// A matrix of what `of` says for each row and column.
    pub fn from_fn(n_rows: usize, n_cols: usize, mut of: impl FnMut(usize, usize) -> T) -> Self {
        let data = (0..n_rows).flat_map(|i| (0..n_cols).map(move |j| (i, j))).map(|(i, j)| of(i, j)).collect();
        Self { n_rows, n_cols, data }
    }

    /// One number, as a matrix of one row and one column.
    pub fn scalar(value: T) -> Self {
        Self { n_rows: 1, n_cols: 1, data: vec![value] }
    }

    /// How many rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// How many columns.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.n_rows, self.n_cols]
    }

    /// All numbers, row by row.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// Likewise, to be changed.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The numbers themselves, row by row.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// One row.
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.n_cols..(i + 1) * self.n_cols]
    }

    /// One row, to be changed.
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.n_cols..(i + 1) * self.n_cols]
    }

    /// One number.
    pub fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.n_cols + j]
    }

    /// The only number of a matrix of one.
    ///
    /// # Panics
    /// If it has another size.
    pub fn only(&self) -> T {
        assert_eq!(self.shape(), [1, 1], "a single number");
        self.data[0]
    }

    /// Rows and columns exchanged.
    pub fn transposed(&self) -> Self {
        Self::from_fn(self.n_cols, self.n_rows, |i, j| self.at(j, i))
    }

    /// Some rows, in the order given; a row may come more than once.
    pub fn pick(&self, rows: &[usize]) -> Self {
        let mut picked = Self::zeros(rows.len(), self.n_cols);
        picked.for_rows(|i, to| to.copy_from_slice(self.row(rows[i])));
        picked
    }

    /// The same numbers in another shape.
    ///
    /// # Panics
    /// If it holds another count of numbers.
    pub fn reshaped(self, n_rows: usize, n_cols: usize) -> Self {
        Self::new(n_rows, n_cols, self.data)
    }

    /// The sum of squares of all numbers.
    pub fn sum_of_squares(&self) -> f64 {
        // Parts of a fixed size, each in sums beside each other: none waits for the one before.
        let parts: Vec<f64> = self.data.par_chunks(CHUNK).map(|part| widest(Squares { part })).collect();
        parts.into_iter().sum()
    }

    /// Whether every number is one.
    pub fn is_finite(&self) -> bool {
        self.data.iter().all(|x| x.is_a_number())
    }

    /// Adds `other`, number by number.
    ///
    /// # Panics
    /// If it has another shape.
    pub fn add(&mut self, other: &Self) {
        self.change_with(other, |a, b| a + b);
    }

    /// The same shape with a function of every number.
    pub fn mapped(&self, f: impl Fn(T) -> T + Sync) -> Self {
        self.copied(CHUNK, &|_, part| widest(Each { part, f: &f }))
    }

    /// The same shape with a function of every number and of that in its place in `other`.
    ///
    /// # Panics
    /// If `other` has another shape.
    pub fn mapped_with(&self, other: &Self, f: impl Fn(T, T) -> T + Sync) -> Self {
        assert_eq!(self.shape(), other.shape(), "shapes of two matrices taken number by number");
        self.copied(CHUNK, &|first, part| widest(EachWith { with: &other.data[first..first + part.len()], part, f: &f }))
    }

    /// A copy that `f` has changed part by part; it is told where a part begins. Parts are cut by the size alone.
    pub fn mapped_parts(&self, f: impl Fn(usize, &mut [T]) + Sync) -> Self {
        self.copied(CHUNK, &f)
    }

    /// Likewise in place: the parts are the same.
    pub fn change_parts(&mut self, f: impl Fn(usize, &mut [T]) + Sync) {
        for_parts(&mut self.data, CHUNK, &f);
    }

    /// A copy on each row of which `f` has run, with the row's number.
    pub(super) fn mapped_rows(&self, f: impl Fn(usize, &mut [T]) + Sync) -> Self {
        let cols = self.n_cols.max(1);
        self.copied(rows_of_task(cols) * cols, &|first, part| widest(EachRow { first: first / cols, cols, part, f: &f }))
    }

    /// A copy, made and changed part by part, so that each is still in the cache when it is changed. `change` is told where a part begins.
    #[expect(unsafe_code, reason = "a copy of zeros would pass over all of it once more")]
    fn copied(&self, numbers: usize, change: &(dyn Fn(usize, &mut [T]) + Sync)) -> Self {
        let mut data = Vec::with_capacity(self.data.len());
        let room = &mut data.spare_capacity_mut()[..self.data.len()];
        let parts = room.par_chunks_mut(numbers).zip(self.data.par_chunks(numbers));
        parts.enumerate().for_each(|(nth, (to, from))| change(nth * numbers, to.write_copy_of_slice(from)));
        // SAFETY: as many have just been written, part by part.
        unsafe { data.set_len(self.data.len()) };
        Self { n_rows: self.n_rows, n_cols: self.n_cols, data }
    }

    /// Replaces every number by a function of it.
    pub fn change(&mut self, f: impl Fn(T) -> T + Sync) {
        for_parts(&mut self.data, CHUNK, &|_, part| widest(Each { part, f: &f }));
    }

    /// Replaces every number by a function of it and of the number in its place in `other`.
    ///
    /// # Panics
    /// If `other` has another shape.
    pub fn change_with(&mut self, other: &Self, f: impl Fn(T, T) -> T + Sync) {
        assert_eq!(self.shape(), other.shape(), "shapes of two matrices taken number by number");
        for_parts(&mut self.data, CHUNK, &|first, part| {
            widest(EachWith { with: &other.data[first..first + part.len()], part, f: &f });
        });
    }

    /// Replaces the numbers in each place of three matrices by a function of them and of that of a fourth.
    ///
    /// # Panics
    /// If they have different shapes.
    pub(crate) fn change_three([a, b, c]: [&mut Self; 3], with: &Self, f: impl Fn([T; 3], T) -> [T; 3] + Sync) {
        assert_eq!([a.shape(), b.shape(), c.shape()], [with.shape(); 3], "shapes of four matrices taken number by number");
        let parts = a.data.par_chunks_mut(CHUNK).zip(b.data.par_chunks_mut(CHUNK)).zip(c.data.par_chunks_mut(CHUNK));
        let parts = parts.zip(with.data.par_chunks(CHUNK));
        parts.for_each(|(((a, b), c), with)| widest(EachOfThree { parts: [a, b, c], with, f: &f }));
    }

    /// Replaces every number by a function of it and of the numbers in its place in two others.
    pub(super) fn change_with_both(&mut self, a: &Self, b: &Self, f: impl Fn(T, T, T) -> T + Sync) {
        assert_eq!([self.shape(); 2], [a.shape(), b.shape()], "shapes of three matrices taken number by number");
        for_parts(&mut self.data, CHUNK, &|first, part| {
            let range = first..first + part.len();
            widest(EachWithBoth { part, a: &a.data[range.clone()], b: &b.data[range], f: &f });
        });
    }

    /// Runs `f` on each row, with the row's number.
    pub(super) fn for_rows(&mut self, f: impl Fn(usize, &mut [T]) + Sync) {
        if self.data.is_empty() {
            return;
        }
        let (cols, rows) = (self.n_cols, rows_of_task(self.n_cols));
        for_parts(&mut self.data, rows * cols, &|first, part| widest(EachRow { first: first / cols, cols, part, f: &f }));
    }
}

/// Runs `f` on parts of so many numbers, on all threads; it is told where a part begins. Whatever calls this with a closure of its own shares this one loop:
/// threads are written out once for each kind of number, not for each operation in every crate that learns.
fn for_parts<T: Real>(data: &mut [T], numbers: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    data.par_chunks_mut(numbers).enumerate().for_each(|(nth, part)| f(nth * numbers, part));
}

/// Rows of so many columns that one task takes.
fn rows_of_task(n_cols: usize) -> usize {
    (CHUNK / n_cols.max(1)).max(1)
}

/// `a b`, on all threads. The numbers do not depend on how many threads there are.
pub(super) fn product<T: Real>(precision: Precision, a: Side<'_, T>, b: Side<'_, T>) -> Array<T> {
    let (([m, k], _, _), ([of_b, n], _, _)) = (a.entering(), b.entering());
    assert_eq!(k, of_b, "columns of the left side of a product and rows of the right");
    let mut out = Array::zeros(m, n);
    T::product(precision, a.entering(), b.entering(), &mut out.data);
    out
}

/// The product of numbers in double precision, by the library: rows are cut into parts whose size depends on the shapes alone.
pub(super) fn product_by_faer(
    ([m, k], a, a_turned): Entering<'_, f64>,
    ([_, n], b, b_turned): Entering<'_, f64>,
    out: &mut [f64],
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let view = |numbers, rows, columns, turned| {
        let lies = |rows, columns| MatRef::from_row_major_slice(numbers, rows, columns);
        if turned { lies(columns, rows).transpose() } else { lies(rows, columns) }
    };
    let (a, b): (MatRef<'_, f64>, MatRef<'_, f64>) = (view(a, m, k, a_turned), view(b, k, n, b_turned));
    let multiply = |part: &mut [f64], first: usize| {
        let rows = part.len() / n;
        let to = MatMut::from_row_major_slice_mut(part, rows, n);
        faer::linalg::matmul::matmul(to, Accum::Replace, a.subrows(first, rows), b, 1.0, Par::Seq);
        settle();
    };
    if m * n * k < SMALL {
        multiply(out, 0);
        return;
    }
    // Eight parts where each is worth a packed right side, which every part packs for itself.
    let rows = m.div_ceil(8).next_multiple_of(8).clamp(8, 512).max(m.div_ceil(64));
    out.par_chunks_mut(rows * n).enumerate().for_each(|(t, part)| multiply(part, t * rows));
}

/// Clears the upper halves of the vector registers, which faer's kernels leave in use: on some processors each instruction of the older kind is then
/// ten times as slow, and the exponentials of a loss, compiled to these, were. To be called behind every product and decomposition. The compiler ends a
/// function that uses the whole registers by clearing them, so a little of such work does it.
pub fn settle() {
    pulp::Arch::new().dispatch(|| {
        let numbers = std::hint::black_box([0.0_f64; 8]);
        std::hint::black_box(numbers.map(|x| x + 1.0));
    });
}

struct Each<'a, T, F> {
    part: &'a mut [T],
    f: &'a F,
}

impl<T: Real, F: Fn(T) -> T> pulp::NullaryFnOnce for Each<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        simd::map(self.part, self.f);
    }
}

struct Squares<'a, T> {
    part: &'a [T],
}

impl<T: Real> pulp::NullaryFnOnce for Squares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let mut sums = [0.0; 16];
        for part in self.part.chunks(sums.len()) {
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x.wide() * x.wide());
        }
        sums.into_iter().sum()
    }
}

struct EachWith<'a, T, F> {
    part: &'a mut [T],
    with: &'a [T],
    f: &'a F,
}

impl<T: Real, F: Fn(T, T) -> T> pulp::NullaryFnOnce for EachWith<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        simd::map_with(self.part, self.with, self.f);
    }
}

struct EachWithBoth<'a, T, F> {
    part: &'a mut [T],
    a: &'a [T],
    b: &'a [T],
    f: &'a F,
}

impl<T: Real, F: Fn(T, T, T) -> T> pulp::NullaryFnOnce for EachWithBoth<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        simd::map_with_both(self.part, self.a, self.b, self.f);
    }
}

struct EachOfThree<'a, T, F> {
    parts: [&'a mut [T]; 3],
    with: &'a [T],
    f: &'a F,
}

impl<T: Real, F: Fn([T; 3], T) -> [T; 3]> pulp::NullaryFnOnce for EachOfThree<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        simd::map_three(self.parts, self.with, self.f);
    }
}

struct EachRow<'a, T, F> {
    first: usize,
    cols: usize,
    part: &'a mut [T],
    f: &'a F,
}

impl<T: Real, F: Fn(usize, &mut [T])> pulp::NullaryFnOnce for EachRow<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (i, row) in self.part.chunks_exact_mut(self.cols).enumerate() {
            (self.f)(self.first + i, row);
        }
    }
}
