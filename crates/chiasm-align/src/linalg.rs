//! The few pieces of linear algebra that methods share, over faer, in f64.
//!
//! Every product is cut into tiles of a fixed size, and every decomposition into a fixed number of parts, so that the numbers do not
//! depend on how many threads there are.

use chiasm_nn::grad::settle;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::cholesky::llt::solve::solve_in_place;
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::fit::FitError;

/// A dense matrix, stored by columns.
pub(crate) type Mat = faer::Mat<f64>;

/// Columns or rows of a product that one task computes, at least and at most.
const TILE: std::ops::RangeInclusive<usize> = 32..=256;
/// Multiplications below which threads cost more than they bring.
const SMALL: usize = 1 << 20;
/// Rows that one task sums where the product itself is small.
const SUM_ROWS: usize = 4096;
/// From so many columns on a decomposition is cut in parts; below, folds and candidates keep the threads busy. How many is fixed, whatever the
/// threads, so that the numbers are.
const PARALLEL_FROM: usize = 1024;

fn parts(n: usize) -> Par {
    if n < PARALLEL_FROM { Par::Seq } else { Par::rayon(2) }
}

/// A side of a product in about eight tiles. The size depends on the side alone, not on the threads.
fn tile(side: usize) -> usize {
    side.div_ceil(8).next_multiple_of(*TILE.start()).clamp(*TILE.start(), *TILE.end())
}

/// `out = a b`, or added to it, on this thread.
pub(crate) fn matmul(out: MatMut<'_, f64>, accum: Accum, a: MatRef<'_, f64>, b: MatRef<'_, f64>) {
    faer::linalg::matmul::matmul(out, accum, a, b, 1.0, Par::Seq);
    settle();
}

/// `a b`, on all threads.
pub(crate) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    add_product(&mut out, a, b);
    out
}

/// Adds `a b` to `out`, on all threads.
pub(crate) fn add_product(out: &mut Mat, a: MatRef<'_, f64>, b: MatRef<'_, f64>) {
    let ((m, n), inner) = (out.shape(), a.ncols());
    if m * n * inner < SMALL {
        matmul(out.as_mut(), Accum::Add, a, b);
        return;
    }
    if inner >= 4 * SUM_ROWS && inner >= 16 * m.max(n) {
        // Long sums of little output: each part by itself, added in order.
        let parts: Vec<Mat> = (0..inner.div_ceil(SUM_ROWS))
            .into_par_iter()
            .map(|t| {
                let (first, rows) = (t * SUM_ROWS, SUM_ROWS.min(inner - t * SUM_ROWS));
                let mut part = Mat::zeros(m, n);
                matmul(part.as_mut(), Accum::Replace, a.subcols(first, rows), b.subrows(first, rows));
                part
            })
            .collect();
        parts.iter().for_each(|part| *out += part);
        return;
    }
    if m > n {
        let rows = tile(m).max(m.div_ceil(64));
        out.par_row_chunks_mut(rows).enumerate().for_each(|(t, tile)| {
            let a = a.subrows(t * rows, tile.nrows());
            matmul(tile, Accum::Add, a, b);
        });
        return;
    }
    let cols = tile(n);
    out.par_col_chunks_mut(cols).enumerate().for_each(|(t, tile)| {
        let b = b.subcols(t * cols, tile.ncols());
        matmul(tile, Accum::Add, a, b);
    });
}

/// Adds the lower half of `a'a` to `out`, on all threads; what stands above the diagonal means nothing afterwards.
pub(crate) fn add_gram(out: &mut Mat, a: MatRef<'_, f64>) {
    let (d, cols) = (a.ncols(), tile(a.ncols()));
    out.par_col_chunks_mut(cols).enumerate().for_each(|(t, tile)| {
        let (first, width) = (t * cols, tile.ncols());
        let below = tile.subrows_mut(first, d - first);
        matmul(below, Accum::Add, a.subcols(first, d - first).transpose(), a.subcols(first, width));
    });
}

/// Upper triangular `R` with `R' (c + ridge I) R = I`, for a symmetric `c` (its lower half is read): the inverse of the transposed Cholesky
/// factor. None when `c + ridge I` is so near to a singular matrix that its digits would be lost.
///
/// # Errors
/// [`FitError::Numeric`] for numbers that are not finite.
pub(crate) fn inverse_root(c: &Mat, ridge: f64) -> Result<Option<Mat>, FitError> {
    let n = c.nrows();
    let mut l = c.clone();
    (0..n).for_each(|i| l[(i, i)] += ridge);
    let finite = (0..n).all(|j| l.col(j).subrows(j, n - j).iter().all(|x| x.is_finite()));
    if !finite {
        return Err(FitError::Numeric { what: "a Cholesky decomposition" });
    }
    let greatest = (0..n).map(|i| l[(i, i)]).fold(0.0, f64::max);
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, parts(n), Default::default()));
    let stack = MemStack::new(&mut memory);
    let decomposed = cholesky_in_place(l.as_mut(), Default::default(), parts(n), stack, Default::default());
    settle();
    if decomposed.is_err() {
        return Ok(None);
    }
    let least = (0..n).map(|i| l[(i, i)] * l[(i, i)]).fold(f64::INFINITY, f64::min);
    // The least pivot is a little above the least eigenvalue; eight digits of sixteen are left.
    if least < 1e-8 * greatest {
        return Ok(None);
    }
    let mut inverse = Mat::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), l.as_ref(), parts(n));
    settle();
    Ok(Some(Mat::from_fn(n, n, |i, j| if i <= j { inverse[(j, i)] } else { 0.0 })))
}

/// Eigenvalues, greatest first, and eigenvectors `[n, n]` in their columns, of a symmetric matrix (its lower half is read). The
/// sign of each vector makes its largest entry positive.
///
/// # Errors
/// [`FitError::Numeric`] for numbers that are not finite.
pub(crate) fn eigen(a: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat), FitError> {
    const WHAT: FitError = FitError::Numeric { what: "an eigen-decomposition" };
    let n = a.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, parts(n), Default::default());
    let mut memory = MemBuffer::new(scratch);
    if !all_finite(a) {
        return Err(WHAT);
    }
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(a, values.as_mut(), Some(vectors.as_mut()), parts(n), stack, Default::default()).map_err(|_| WHAT)?;
    settle();
    let values: Vec<f64> = values.column_vector().iter().rev().copied().collect();
    let mut descending = Mat::zeros(n, n);
    for j in 0..n {
        descending.col_mut(j).copy_from(vectors.col(n - 1 - j));
    }
    fix_signs(&mut descending, None);
    Ok((values, descending))
}

/// `a = u diag(s) v'` with `min(m, n)` singular values, greatest first. The sign of each pair makes the largest entry of the
/// column of `u` positive.
///
/// # Errors
/// [`FitError::Numeric`] for numbers that are not finite.
pub(crate) fn thin_svd(a: MatRef<'_, f64>) -> Result<(Mat, Vec<f64>, Mat), FitError> {
    const WHAT: FitError = FitError::Numeric { what: "a singular value decomposition" };
    let (m, n) = a.shape();
    let k = m.min(n);
    let (mut u, mut s, mut v) = (Mat::zeros(m, k), Diag::<f64>::zeros(k), Mat::zeros(n, k));
    if !all_finite(a) {
        return Err(WHAT);
    }
    let thin = ComputeSvdVectors::Thin;
    let mut memory = MemBuffer::new(svd_scratch::<f64>(m, n, thin, thin, parts(k), Default::default()));
    let stack = MemStack::new(&mut memory);
    svd(a, s.as_mut(), Some(u.as_mut()), Some(v.as_mut()), parts(k), stack, Default::default()).map_err(|_| WHAT)?;
    settle();
    fix_signs(&mut u, Some(&mut v));
    Ok((u, s.column_vector().iter().copied().collect(), v))
}

/// The same with the singular values of at least `1e-4` of the greatest, for an `a` wide enough that it pays, by the eigenvectors of `a'a`:
/// half the work. Their error is that of their squares, 1e-16 of the greatest, so 1e-12 for the least of them.
///
/// # Errors
/// [`FitError::Numeric`] for numbers that are not finite.
pub(crate) fn leading_svd(a: MatRef<'_, f64>) -> Result<(Mat, Vec<f64>, Mat), FitError> {
    let (m, n) = a.shape();
    if m.min(n) < PARALLEL_FROM {
        return thin_svd(a);
    }
    if m < n {
        let (mut v, s, mut u) = leading_svd(a.transpose())?;
        fix_signs(&mut u, Some(&mut v));
        return Ok((u, s, v));
    }
    let mut gram = Mat::zeros(n, n);
    add_gram(&mut gram, a);
    let (squares, vectors) = eigen(gram.as_ref())?;
    let greatest = squares.first().copied().unwrap_or(0.0).max(0.0);
    let kept = squares.iter().take_while(|square| **square > 1e-8 * greatest).count();
    let s: Vec<f64> = squares[..kept].iter().map(|square| square.sqrt()).collect();
    let mut v = vectors.subcols(0, kept).to_owned();
    let mut u = product(a, v.as_ref());
    scale_cols(&mut u, &s.iter().map(|s| 1.0 / s).collect::<Vec<_>>());
    fix_signs(&mut u, Some(&mut v));
    Ok((u, s, v))
}

/// `a^{-1} b` for a symmetric positive definite `a` (its lower half is read), by Cholesky.
///
/// # Errors
/// [`FitError::Numeric`] when `a` is not positive definite, or numbers are not finite.
pub(crate) fn solve_positive(a: &Mat, b: &Mat) -> Result<Mat, FitError> {
    const WHAT: FitError = FitError::Numeric { what: "a Cholesky decomposition" };
    if !all_finite(a.as_ref()) || !all_finite(b.as_ref()) {
        return Err(WHAT);
    }
    let n = a.nrows();
    let (mut l, mut x) = (a.clone(), b.clone());
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(l.as_mut(), Default::default(), Par::Seq, stack, Default::default()).map_err(|_| WHAT)?;
    solve_in_place(l.as_ref(), x.as_mut(), Par::Seq, stack);
    settle();
    Ok(x)
}

/// `W` with `W' (a + ridge I) W = I`, for a symmetric `a`: eigenvectors over the roots of their eigenvalues, greatest first.
/// Directions in which `a` has next to nothing are left out, so that without a ridge nothing is divided by zero.
///
/// # Errors
/// [`FitError::Numeric`] for numbers that are not finite.
pub(crate) fn whitener(a: MatRef<'_, f64>, ridge: f64) -> Result<Mat, FitError> {
    let (values, vectors) = eigen(a)?;
    let floor = values.first().copied().unwrap_or(0.0).max(0.0) * 1e-10;
    let kept = values.iter().take_while(|v| **v > floor).count();
    let mut w = vectors.subcols(0, kept).to_owned();
    scale_cols(&mut w, &values[..kept].iter().map(|v| 1.0 / (v + ridge).sqrt()).collect::<Vec<_>>());
    Ok(w)
}

/// A symmetric matrix made of blocks, one for each two views; what is not set is 0.
pub(crate) struct Blocks {
    starts: Vec<usize>,
    widths: Vec<usize>,
    /// Its lower half.
    m: Mat,
}

impl Blocks {
    pub(crate) fn new(widths: Vec<usize>) -> Self {
        let starts = widths.iter().scan(0, |end, w| Some(std::mem::replace(end, *end + w))).collect();
        let total = widths.iter().sum();
        Self { starts, widths, m: Mat::zeros(total, total) }
    }

    /// Sets block `(v, w)`, and with it `(w, v)`.
    pub(crate) fn set(&mut self, v: usize, w: usize, block: MatRef<'_, f64>) {
        // The decomposition reads the lower half.
        let (v, w, block) = if v >= w { (v, w, block) } else { (w, v, block.transpose()) };
        self.m.as_mut().submatrix_mut(self.starts[v], self.starts[w], self.widths[v], self.widths[w]).copy_from(block);
    }

    /// Eigenvalues, greatest first, and for each view its part of the vectors, of `a w = lambda b w` with `b` positive definite.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub(crate) fn generalised(a: &Self, b: &Self) -> Result<(Vec<f64>, Vec<Mat>), FitError> {
        let full = |m: &Mat| Mat::from_fn(m.nrows(), m.ncols(), |i, j| if i >= j { m[(i, j)] } else { m[(j, i)] });
        // To a diagonal of 1 first, so that a view of small numbers is not taken for one that does not vary.
        let units: Vec<f64> =
            (0..b.m.nrows()).map(|i| b.m[(i, i)]).map(|d| if d > 0.0 { 1.0 / d.sqrt() } else { 0.0 }).collect();
        let mut scaled = b.m.clone();
        scale_rows(&mut scaled, &units);
        scale_cols(&mut scaled, &units);
        let mut w = whitener(scaled.as_ref(), 0.0)?;
        scale_rows(&mut w, &units);
        let whitened = product(product(w.transpose(), full(&a.m).as_ref()).as_ref(), w.as_ref());
        let (values, vectors) = eigen(whitened.as_ref())?;
        let vectors = product(w.as_ref(), vectors.as_ref());
        let part = |(start, width): (&usize, &usize)| vectors.subrows(*start, *width).to_owned();
        Ok((values, a.starts.iter().zip(&a.widths).map(part).collect()))
    }

    /// Eigenvalues, greatest first, and for each view its part of the eigenvectors, `[width, total]`.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub(crate) fn eigen(&self) -> Result<(Vec<f64>, Vec<Mat>), FitError> {
        let (values, vectors) = eigen(self.m.as_ref())?;
        let part = |(start, width): (&usize, &usize)| vectors.subrows(*start, *width).to_owned();
        Ok((values, self.starts.iter().zip(&self.widths).map(part).collect()))
    }
}

/// Multiplies row `i` of `a` by `factors[i]`.
pub(crate) fn scale_rows(a: &mut Mat, factors: &[f64]) {
    for j in 0..a.ncols() {
        a.col_mut(j).iter_mut().zip(factors).for_each(|(x, f)| *x *= f);
    }
}

/// Multiplies column `j` of `a` by `factors[j]`.
pub(crate) fn scale_cols(a: &mut Mat, factors: &[f64]) {
    for (j, f) in factors.iter().enumerate() {
        a.col_mut(j).iter_mut().for_each(|x| *x *= f);
    }
}

/// Makes the entry of largest absolute value of each column positive (the first of equal ones), and turns the same column of
/// `partner` with it.
pub(crate) fn fix_signs(a: &mut Mat, mut partner: Option<&mut Mat>) {
    for j in 0..a.ncols() {
        let mut largest = 0.0f64;
        for x in a.col(j).iter() {
            // A hair's breadth of slack, so that rounding does not decide between entries that are equal in truth.
            if x.abs() > largest.abs() * (1.0 + 1e-9) {
                largest = *x;
            }
        }
        if largest < 0.0 {
            a.col_mut(j).iter_mut().for_each(|x| *x = -*x);
            if let Some(b) = partner.as_deref_mut() {
                b.col_mut(j).iter_mut().for_each(|x| *x = -*x);
            }
        }
    }
}

fn all_finite(a: MatRef<'_, f64>) -> bool {
    (0..a.ncols()).all(|j| a.col(j).iter().all(|x| x.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(m: usize, n: usize) -> Mat {
        Mat::from_fn(m, n, |i, j| ((i * 7 + j * 13) % 11) as f64 - 4.0 + (i as f64 * 0.37 + j as f64).sin())
    }

    fn largest_difference(a: &Mat, b: &Mat) -> f64 {
        (0..a.ncols()).flat_map(|j| a.col(j).iter().zip(b.col(j).iter()).map(|(x, y)| (x - y).abs())).fold(0.0, f64::max)
    }

    #[test]
    fn decompositions_give_the_matrix_back() {
        for (m, n) in [(5, 5), (9, 4), (4, 9), (130, 70)] {
            let a = matrix(m, n);
            let (mut u, s, v) = thin_svd(a.as_ref()).unwrap();
            assert!(s.is_sorted_by(|x, y| x >= y));
            scale_cols(&mut u, &s);
            assert!(largest_difference(&product(u.as_ref(), v.transpose()), &a) < 1e-10);
            let gram = product(a.transpose(), a.as_ref());
            let (values, vectors) = eigen(gram.as_ref()).unwrap();
            assert!(values.is_sorted_by(|x, y| x >= y));
            let mut scaled = vectors.clone();
            scale_cols(&mut scaled, &values);
            assert!(largest_difference(&product(scaled.as_ref(), vectors.transpose()), &gram) < 1e-9);
        }
    }

    #[test]
    fn positive_systems_are_solved_and_whitened() {
        let a = matrix(30, 7);
        let mut gram = product(a.transpose(), a.as_ref());
        (0..7).for_each(|i| gram[(i, i)] += 0.5);
        let b = matrix(7, 3);
        let x = solve_positive(&gram, &b).unwrap();
        assert!(largest_difference(&product(gram.as_ref(), x.as_ref()), &b) < 1e-9);
        let plain = product(a.transpose(), a.as_ref());
        let w = whitener(plain.as_ref(), 0.5).unwrap();
        let one = product(product(w.transpose(), gram.as_ref()).as_ref(), w.as_ref());
        assert!(largest_difference(&one, &Mat::identity(7, 7)) < 1e-9);
        assert!(solve_positive(&Mat::zeros(2, 2), &matrix(2, 1)).is_err(), "not positive");
    }

    #[test]
    fn leading_values_are_those_of_the_whole() {
        let n = PARALLEL_FROM + 20;
        let number = |i: usize, j: usize| ((i * 7919 + j * 104_729 + i * j * 31) % 10_007) as f64 / 10_007.0 - 0.5;
        // Columns of falling size, the last of them below what counts.
        let a = Mat::from_fn(n + 30, n, |i, j| number(i, j) * (-12.0 * j as f64 / n as f64).exp());
        let (u, s, v) = thin_svd(a.as_ref()).unwrap();
        let wide = leading_svd(a.transpose()).map(|(mut v, s, mut u)| {
            fix_signs(&mut u, Some(&mut v));
            (u, s, v)
        });
        for (our_u, ours, our_v) in [leading_svd(a.as_ref()).unwrap(), wide.unwrap()] {
            assert!(ours.len() > 700 && ours.len() < n, "{}", ours.len());
            assert!(ours.iter().zip(&s).all(|(a, b)| (a - b).abs() < 1e-11 * s[0]));
            for (ours, theirs) in [(&our_u, &u), (&our_v, &v)] {
                let apart = ours.subcols(0, 50) - theirs.subcols(0, 50);
                assert!(apart.norm_max() < 1e-8, "{}", apart.norm_max());
            }
        }
    }

    #[test]
    fn roots_are_inverted_and_near_singular_ones_are_not() {
        let a = matrix(30, 7);
        let gram = product(a.transpose(), a.as_ref());
        let mut lower = Mat::zeros(7, 7);
        add_gram(&mut lower, a.as_ref());
        let r = inverse_root(&lower, 0.5).unwrap().unwrap();
        let mut ridged = gram;
        (0..7).for_each(|i| ridged[(i, i)] += 0.5);
        let one = product(product(r.transpose(), ridged.as_ref()).as_ref(), r.as_ref());
        assert!(largest_difference(&one, &Mat::identity(7, 7)) < 1e-10);
        let thin = matrix(5, 7);
        assert_eq!(inverse_root(&product(thin.transpose(), thin.as_ref()), 0.0), Ok(None));
    }

    #[test]
    fn blocks_make_one_matrix() {
        let mut blocks = Blocks::new(vec![1, 2]);
        let off = Mat::from_fn(1, 2, |_, j| [3.0, 4.0][j]);
        blocks.set(0, 1, off.as_ref());
        let (values, parts) = blocks.eigen().unwrap();
        // The only eigenvalues of [[0, b], [b', 0]] that are not 0 are |b| and -|b|.
        assert!((values[0] - 5.0).abs() < 1e-12 && values[1].abs() < 1e-12 && (values[2] + 5.0).abs() < 1e-12);
        assert_eq!((parts[0].nrows(), parts[1].nrows()), (1, 2));
    }

    #[test]
    fn numbers_that_are_not_finite_are_an_error() {
        let mut a = matrix(4, 4);
        a[(2, 1)] = f64::NAN;
        assert!(eigen(a.as_ref()).is_err() && thin_svd(a.as_ref()).is_err());
    }

    #[test]
    fn the_largest_loading_is_positive() {
        let mut a = Mat::from_fn(3, 2, |i, j| [[1.0, 2.0], [-5.0, 3.0], [2.0, -1.0]][i][j]);
        let mut b = Mat::from_fn(1, 2, |_, j| j as f64 + 1.0);
        fix_signs(&mut a, Some(&mut b));
        assert_eq!((a[(1, 0)], a[(1, 1)], b[(0, 0)], b[(0, 1)]), (5.0, 3.0, -1.0, 2.0));
    }
}
