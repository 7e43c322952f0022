//! Learning coupled feature spaces: regression to the labels that chooses columns and keeps the projections of both views simple.
//!
//! # Reference
//! K. Wang, R. He, W. Wang, L. Wang, T. Tan, Learning Coupled Feature Spaces for Cross-Modal Matching, ICCV 2013. Checked against
//! numpy, objective and weights (`reference/align_discriminative_goldens.py`). Differs from the paper in nothing but the smoothing
//! written below.
//!
//! # Model
//! min sum_p |X_p U_p - Y|^2 + lambda1 sum_p sum_i sqrt(|u_pi|^2 + eps) + lambda2 tr(T T' + eps I)^{1/2}, T = [X_0 U_0, X_1 U_1]: the
//! second sum empties rows of U, so that columns drop out; the third is the trace norm of the projections. Each iteration solves
//! the quadratic that touches the objective from above: U_p = (X_p'X_p + lambda1 R_p + lambda2 X_p'H X_p)^{-1} X_p'Y,
//! H = (T T' + eps I)^{-1/2} / 2.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_p | `pairs.views`, preprocessed and centred | `[n, d_p]` | - |
//! | Y | `pairs.labels`, 1 for each class of a row | `[n, c]` | - |
//! | lambda1, lambda2 | [`LcfsConfig`] | - | at least 0 |
//!
//! # Cost
//! O(n d^2 + steps (n c^2 + n c d + d^3)) time, O(n d + d^2) memory: with the thin singular vectors of T nothing of size `[n, n]`
//! is made.
//!
//! # Determinism
//! No chance is involved. Coordinate c is class c.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::label_ridge`], which takes the same pairs.

use crate::fit::{FitError, Run};
use crate::jfssl::{add, hold, row_weight};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution, pick_rows};
use crate::supervised::{indicator, labelled};

/// Smooths the norm of a row of weights, and the trace norm, at 0.
const EPS: f64 = 1e-6;

/// How coupled feature spaces are learned.
#[derive(Clone, Debug, PartialEq)]
pub struct LcfsConfig {
    /// Done to the rows of each view first; centring follows.
    pub preprocess: [Preprocess; 2],
    /// Weight of the choice of columns.
    pub lambda1: f64,
    /// Weight of the trace norm.
    pub lambda2: f64,
    /// Rounds over both views.
    pub n_iterations: usize,
}

impl Default for LcfsConfig {
    /// Weights near the middle of what the paper searches; ten rounds.
    fn default() -> Self {
        Self { preprocess: [Preprocess::None; 2], lambda1: 1.0, lambda2: 1.0, n_iterations: 10 }
    }
}

impl Linear for LcfsConfig {
    fn name(&self) -> &'static str {
        "lcfs"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn in_columns(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::at_least_zero("lambda1", self.lambda1)?;
        reduced::at_least_zero("lambda2", self.lambda2)?;
        reduced::at_least_one("n_iterations", self.n_iterations)?;
        Ok(self.preprocess.map(|preprocess| ViewConfig { preprocess, ..ViewConfig::default() }).to_vec())
    }

    fn max_components(&self) -> usize {
        usize::MAX
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let known = labelled(reduced.labels());
        let x: Vec<Mat> = (0..2).map(|v| pick_rows(&reduced.rows(v, &views[v]).to_owned(), &known)).collect();
        let y = indicator(&reduced.labels().pick(&known), false);
        let gram: Vec<Mat> = x.iter().map(|x| product(x.transpose(), x.as_ref())).collect();
        let target: Vec<Mat> = x.iter().map(|x| product(x.transpose(), y.as_ref())).collect();
        let start = |v: usize| {
            let mut left = gram[v].clone();
            (0..left.nrows()).for_each(|i| left[(i, i)] += self.lambda1);
            hold(&mut left, &gram[v]);
            linalg::solve_positive(&left, &target[v])
        };
        let mut u = vec![start(0)?, start(1)?];
        for _iteration in 0..self.n_iterations {
            run.cancel.check()?;
            let projected: Vec<Mat> = x.iter().zip(&u).map(|(x, u)| product(x.as_ref(), u.as_ref())).collect();
            let c = y.ncols();
            let t = Mat::from_fn(x[0].nrows(), 2 * c, |i, j| projected[j / c][(i, j % c)]);
            let (p, s, _) = linalg::thin_svd(t.as_ref())?;
            // H = P diag((s^2 + eps)^{-1/2} - eps^{-1/2}) P' / 2 + eps^{-1/2} I / 2.
            let flat = 0.5 / EPS.sqrt();
            let steep: Vec<f64> = s.iter().map(|s| 0.5 / (s * s + EPS).sqrt() - flat).collect();
            for v in 0..2 {
                let mut left = gram[v].clone();
                let along = product(x[v].transpose(), p.as_ref());
                let mut scaled = along.clone();
                linalg::scale_cols(&mut scaled, &steep);
                add(&mut left, &product(scaled.as_ref(), along.transpose()), self.lambda2);
                add(&mut left, &gram[v], self.lambda2 * flat);
                for i in 0..left.nrows() {
                    left[(i, i)] += self.lambda1 * row_weight(&u[v], i, EPS);
                }
                hold(&mut left, &gram[v]);
                u[v] = linalg::solve_positive(&left, &target[v])?;
            }
        }
        let offsets = vec![vec![0.0; y.ncols()]; 2];
        Ok(Solution::meaningful(u, offsets))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let [x, y] = self.preprocess.map(Preprocess::describe);
        let all = [
            ("view 0", x),
            ("view 1", y),
            ("lambda1", self.lambda1.to_string()),
            ("lambda2", self.lambda2.to_string()),
            ("n_iterations", self.n_iterations.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.preprocess[v] = entry));
        }
        lists.push(reduced::each(self, &[0.01, 0.1, 10.0], |c, l| c.lambda1 = l));
        lists.push(reduced::each(self, &[0.01, 0.1, 10.0], |c, l| c.lambda2 = l));
        reduced::listed(lists, MethodConfig::Lcfs)
    }
}
