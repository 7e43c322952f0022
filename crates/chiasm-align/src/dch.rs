//! Discrete cross-modal hashing: codes from which the classes can be read and which both views can give, found bit by bit.
//!
//! # Reference
//! X. Xu, F. Shen, Y. Yang, H. T. Shen, X. Li, Learning Discriminative Binary Codes for Large-scale Cross-modal Retrieval, TIP 26, 2017.
//! Checked against numpy, objective per iteration (`reference/align_hashing_goldens.py`). Differs from the paper in a ridge on the
//! projections and in linear projections (there of a kernel: set [`crate::ViewConfig::kernel`]).
//!
//! # Model
//! min |L - B W|^2 + lambda |W|^2 + sum_v mu (|B - X_v P_v|^2 + rho |P_v|^2), B of +1 and -1. In turn W = (B'B + lambda I)^{-1} B'L,
//! P_v = (X_v'X_v + rho I)^{-1} X_v'B, and each bit b_k = sign(q_k - B_{-k} W_{-k} w_k'), Q = L W' + sum mu X_v P_v.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | L | `pairs.labels`, 1 for each class of a row | `[n, c]` | - |
//! | B | [`crate::Fitted::codes`] | `[n, bits]` | +1, -1 |
//! | rho | [`crate::ViewConfig::ridge`] `* trace(X'X) / d` | - | at least 0 |
//!
//! # Cost
//! O(rounds n bits (bits + c + d) + d^3) time, O(n (d + bits)) memory.
//!
//! # Determinism
//! The first codes are drawn by the seed. Rows of no class get the code that the views give.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::ssh`], which takes the same pairs.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fit::{FitError, Run};
use crate::hashing::{self, Regression, fill_unlabelled, labelled_indicator, labelled_rows, sign};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How discrete cross-modal hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct DchConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Penalty on reading the classes from the codes; above 0.
    pub lambda: f64,
    /// Weight of each view's fit; at least 0.
    pub mu: [f64; 2],
    /// Rounds.
    pub n_iterations: usize,
    /// Bits of a code.
    pub bits: usize,
}

impl Default for DchConfig {
    /// The paper's weights.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-3, ..ViewConfig::default() };
        Self { views: [view; 2], lambda: 1.0, mu: [1e-3; 2], n_iterations: 10, bits: 64 }
    }
}

impl Linear for DchConfig {
    fn name(&self) -> &'static str {
        "dch"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        hashing::above_zero("lambda", self.lambda)?;
        self.mu.iter().try_for_each(|mu| reduced::at_least_zero("mu", *mu))?;
        reduced::at_least_one("n_iterations", self.n_iterations)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let l = labelled_indicator(reduced.labels(), false);
        let x: Vec<Mat> = (0..2).map(|v| labelled_rows(reduced, views, v)).collect();
        let regression = Regression::new(&x, &hashing::ridges(reduced, views));
        let mut chance = ChaCha8Rng::seed_from_u64(run.seed);
        let mut b = Mat::from_fn(l.nrows(), self.bits, |_, _| if chance.random::<bool>() { 1.0 } else { -1.0 });
        for _round in 0..self.n_iterations {
            run.cancel.check()?;
            let p = regression.solve(&b)?;
            sweep(&mut b, &l, &x, &p, self.lambda, self.mu)?;
        }
        let p = regression.solve(&b)?;
        let full: Vec<Mat> = (0..2).map(|v| product(reduced.rows(v, &views[v]), p[v].as_ref())).collect();
        let mut codes = Mat::zeros(reduced.n(), self.bits);
        for (place, row) in crate::supervised::labelled(reduced.labels()).into_iter().enumerate() {
            codes.row_mut(row).copy_from(b.row(place));
        }
        fill_unlabelled(&mut codes, reduced.labels(), |row, k| full[0][(row, k)] + full[1][(row, k)]);
        Ok(Solution::bits(p, vec![vec![0.0; self.bits]; 2], Some(codes)))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = hashing::parameters(&self.views, self.bits);
        let rest = [
            ("lambda", self.lambda.to_string()),
            ("mu", format!("{}, {}", self.mu[0], self.mu[1])),
            ("n_iterations", self.n_iterations.to_string()),
        ];
        all.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = reduced::view_neighbours(self, entries, |c| &mut c.views);
        lists.push(reduced::each(self, &[1e-5, 0.1, 1.0], |c, mu| c.mu = [mu; 2]));
        reduced::listed(lists, MethodConfig::Dch)
    }
}

/// One round over the bits of `b`, after the best reading `W` of the classes from it, which is given back.
///
/// # Errors
/// [`FitError::Numeric`].
pub(crate) fn sweep(b: &mut Mat, l: &Mat, x: &[Mat], p: &[Mat], lambda: f64, mu: [f64; 2]) -> Result<Mat, FitError> {
    let mut gram = product(b.transpose(), b.as_ref());
    (0..gram.nrows()).for_each(|i| gram[(i, i)] += lambda);
    let w = linalg::solve_positive(&gram, &product(b.transpose(), l.as_ref()))?;
    let mut q = product(l.as_ref(), w.transpose());
    for ((x, p), mu) in x.iter().zip(p).zip(mu) {
        crate::jfssl::add(&mut q, &product(x.as_ref(), p.as_ref()), mu);
    }
    let ww = product(w.as_ref(), w.transpose());
    for k in 0..b.ncols() {
        for i in 0..b.nrows() {
            let others: f64 = (0..b.ncols()).filter(|j| *j != k).map(|j| b[(i, j)] * ww[(j, k)]).sum();
            b[(i, k)] = sign(q[(i, k)] - others);
        }
    }
    Ok(w)
}
