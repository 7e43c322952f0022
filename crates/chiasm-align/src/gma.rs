//! Generalised multiview analysis: the eigenproblem that GMLDA and GMMFA are two cases of.
//!
//! # Reference
//! A. Sharma, A. Kumar, H. Daume III, D. W. Jacobs, Generalized Multiview Analysis: A Discriminative Latent Space, CVPR 2012, eq. (8).
//!
//! # Model
//! max w1'A1 w1 + mu w2'A2 w2 + 2 alpha w1'Z w2 subject to w1'B1 w1 + gamma w2'B2 w2 = 1: top eigenvectors of
//! `[[A1, alpha Z], [alpha Z', mu A2]]` against `blockdiag(B1, gamma B2)`. `A` is what should be large within a view, `B` what should
//! be small, `Z` couples the views.

use crate::fit::FitError;
use crate::linalg::{self, Blocks, Mat, product};
use crate::supervised::mean_diagonal;

/// Eigenvalues over the greatest of them.
pub(crate) fn relative(values: &[f64]) -> Vec<f64> {
    let greatest = values.first().copied().filter(|v| *v > 0.0).unwrap_or(1.0);
    values.iter().map(|value| value / greatest).collect()
}

/// One problem.
pub(crate) struct Gma {
    pub(crate) a: [Mat; 2],
    /// With its ridge.
    pub(crate) b: [Mat; 2],
    pub(crate) z: Mat,
    pub(crate) alpha: f64,
    pub(crate) mu: f64,
    pub(crate) gamma: f64,
}

impl Gma {
    /// The problem with each view in units of its own spread, `B / trace(B)`: then `gamma = trace(B1) / trace(B2)` as in the paper,
    /// `mu` equals it, and an `alpha` means the same on any data. `ridges` are relative to the means of the diagonals of `B`.
    pub(crate) fn balanced(a: [Mat; 2], b: [Mat; 2], z: Mat, alpha: f64, ridges: [f64; 2]) -> Self {
        let mut b = b;
        for ((b, a), ridge) in b.iter_mut().zip(&a).zip(ridges) {
            // Where every class has one row, or equal rows, `B` is nothing (but rounding) to be relative to.
            let own = mean_diagonal(b);
            let added = ridge * if own > 1e-12 * mean_diagonal(a) { own } else { mean_diagonal(a) };
            (0..b.nrows()).for_each(|i| b[(i, i)] += added);
        }
        let trace = |m: &Mat| mean_diagonal(m) * m.nrows() as f64;
        let gamma = trace(&b[0]) / trace(&b[1]);
        let gamma = if gamma > 0.0 && gamma.is_finite() { gamma } else { 1.0 };
        Self { a, b, z, alpha: alpha * gamma.sqrt(), mu: gamma, gamma }
    }

    /// Eigenvalues, greatest first, and the weights of each view, as many as are positive.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub(crate) fn solve(&self) -> Result<(Vec<f64>, Vec<Mat>), FitError> {
        let whitener = |v: usize| -> Result<Mat, FitError> {
            let mut w = linalg::whitener(self.b[v].as_ref(), 0.0)?;
            let scale = if v == 0 { 1.0 } else { 1.0 / self.gamma.sqrt() };
            let n = w.nrows();
            linalg::scale_rows(&mut w, &vec![scale; n]);
            Ok(w)
        };
        let w = [whitener(0)?, whitener(1)?];
        let between = |v: usize, m: &Mat, u: usize, factor: f64| {
            let mut out = product(product(w[v].transpose(), m.as_ref()).as_ref(), w[u].as_ref());
            let n = out.nrows();
            linalg::scale_rows(&mut out, &vec![factor; n]);
            out
        };
        let mut blocks = Blocks::new(vec![w[0].ncols(), w[1].ncols()]);
        blocks.set(0, 0, between(0, &self.a[0], 0, 1.0).as_ref());
        blocks.set(1, 1, between(1, &self.a[1], 1, self.mu).as_ref());
        blocks.set(0, 1, between(0, &self.z, 1, self.alpha).as_ref());
        let (values, vectors) = blocks.eigen()?;
        let floor = values.first().copied().unwrap_or(0.0).max(0.0) * 1e-10;
        let k = values.iter().take_while(|value| **value > floor).count();
        let weights = w.iter().zip(&vectors).map(|(w, vectors)| product(w.as_ref(), vectors.subcols(0, k))).collect();
        Ok((values[..k].to_vec(), weights))
    }
}
