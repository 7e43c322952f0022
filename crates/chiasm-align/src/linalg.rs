//! The few pieces of linear algebra that methods share, over faer, in f64.
//!
//! Every decomposition runs on one thread and every product is cut into tiles of a fixed size, so that the numbers do not
//! depend on how many threads there are; the threads work on different tiles, folds and candidates.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, MatRef, Par};
use rayon::prelude::*;

use crate::fit::FitError;

/// A dense matrix, stored by columns.
pub(crate) type Mat = faer::Mat<f64>;

/// Columns of the product that one task computes.
const TILE: usize = 64;

/// `a b`, on all threads.
pub(crate) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat {
    let tiles: Vec<Mat> = (0..b.ncols().div_ceil(TILE))
        .into_par_iter()
        .map(|t| {
            let first = t * TILE;
            let width = TILE.min(b.ncols() - first);
            let mut tile = Mat::zeros(a.nrows(), width);
            matmul(tile.as_mut(), Accum::Replace, a, b.subcols(first, width), 1.0, Par::Seq);
            tile
        })
        .collect();
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    for (t, tile) in tiles.iter().enumerate() {
        out.as_mut().subcols_mut(t * TILE, tile.ncols()).copy_from(tile);
    }
    out
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
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    if !all_finite(a) {
        return Err(WHAT);
    }
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(a, values.as_mut(), Some(vectors.as_mut()), Par::Seq, stack, Default::default()).map_err(|_| WHAT)?;
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
    let mut memory = MemBuffer::new(svd_scratch::<f64>(m, n, thin, thin, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    svd(a, s.as_mut(), Some(u.as_mut()), Some(v.as_mut()), Par::Seq, stack, Default::default()).map_err(|_| WHAT)?;
    fix_signs(&mut u, Some(&mut v));
    Ok((u, s.column_vector().iter().copied().collect(), v))
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
