//! Collective matrix factorisation hashing: one latent row behind both views of a thing, and its signs as code.
//!
//! # Reference
//! G. Ding, Y. Guo, J. Zhou, Collective Matrix Factorization Hashing for Multimodal Data, CVPR 2014, eq. 5-12. Checked against numpy and the
//! gradient by torch (`reference/align_hashing_goldens.py`). Differs from the paper in: the latent rows are centred before their signs are
//! taken, so that bits are balanced; the ridge of W may be raised.
//!
//! # Model
//! min sum_v [ l_v |X_v - V U_v|^2 + mu |V - X_v W_v|^2 + gamma (|U_v|^2 + |W_v|^2) ] + gamma |V|^2, block after block:
//! U_v = (V'V + gamma/l_v I)^-1 V'X_v, W_v = (X_v'X_v + gamma/mu I)^-1 X_v'V,
//! V = (sum l_v X_v U_v' + mu sum X_v W_v)(sum l_v U_v U_v' + (2 mu + gamma) I)^-1.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_v | `pairs.views` after [`crate::Preprocess`] and centring | `[n, d]` | - |
//! | V | shared latent rows; their signs are [`crate::Fitted::codes`] | `[n, r]` | - |
//! | W_v | weights of the space | `[d, r]` | - |
//! | l_0, l_1 | [`CmfhConfig::lambda`], one less it | - | above 0, below 1 |
//! | mu, gamma | [`CmfhConfig::mu`], [`CmfhConfig::gamma`] | - | above 0 |
//! | r | [`CmfhConfig::bits`](field@CmfhConfig::bits) | - | 1..=4096 |
//!
//! Rows of the gallery are compared by the codes V has for them where they took part in the fit: a text finds a picture by what the
//! picture's own text said. Against codes made from each view by itself the figures are far lower.
//!
//! # Cost
//! O(t n r (d + r)) time for t iterations, O(n (d + r)) memory.
//!
//! # Determinism
//! V begins uniform in 0..1, drawn by the seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`] for a weight out of its range.
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//! let (x, y) = ([1.0, 2.0, 3.0, 4.0], [-10.0, -20.0, -30.0, -40.0]);
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let fitted = MethodConfig::from_name("cmfh")?.fit_with_codes(&pairs, &run)?;
//! let codes = fitted.codes.ok_or("the pairs have codes of their own")?;
//! assert_eq!((codes.n(), codes.dim(), fitted.space.n_bits()), (4, 64, Some(64)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use faer::MatRef;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fit::{FitError, Run};
use crate::hashing;
use crate::linalg::{self, Mat, product, solve_positive};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::centred;

/// How collective matrix factorisation hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct CmfhConfig {
    /// Preprocessing, principal components and ridge of each view (the ridge is added to gamma/mu).
    pub views: [ViewConfig; 2],
    /// Weight of the reconstruction of view 0; that of view 1 is one less it. Above 0, below 1.
    pub lambda: f64,
    /// Weight of the projections; above 0.
    pub mu: f64,
    /// Weight of all norms; above 0.
    pub gamma: f64,
    /// Rounds over the blocks.
    pub iterations: usize,
    /// Bits of a code.
    pub bits: usize,
}

impl Default for CmfhConfig {
    /// The paper's weights.
    fn default() -> Self {
        Self { views: [ViewConfig::default(); 2], lambda: 0.5, mu: 100.0, gamma: 0.01, iterations: 50, bits: 64 }
    }
}

impl Linear for CmfhConfig {
    fn name(&self) -> &'static str {
        "cmfh"
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        reduced::at_least_one("iterations", self.iterations)?;
        hashing::above_zero("mu", self.mu)?;
        hashing::above_zero("gamma", self.gamma)?;
        if !(self.lambda > 0.0 && self.lambda < 1.0) {
            let expected = "a share above 0 and below 1";
            return Err(FitError::Config { name: "lambda", value: self.lambda.to_string(), expected });
        }
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let x = [0, 1].map(|v| reduced.rows(v, &views[v]));
        let ridges = [0, 1].map(|v| reduced.scatter(v, &views[v]).1);
        let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
        let mut v = Mat::zeros(reduced.n(), self.bits);
        for i in 0..v.nrows() {
            v.row_mut(i).iter_mut().for_each(|x| *x = rng.random_range(0.0..1.0));
        }
        let mut factors = Factors { v, u: Vec::new(), w: Vec::new() };
        for _iteration in 0..self.iterations {
            run.cancel.check()?;
            self.improve(x, ridges, &mut factors)?;
        }
        factors.w = self.regress(x, ridges, &factors.v)?;
        let (v, _) = centred(factors.v);
        let k = v.ncols();
        Ok(Solution::bits(factors.w, vec![vec![0.0; k]; 2], Some(hashing::signs(v.as_ref()))))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = hashing::parameters(&self.views, self.bits);
        all.push(("lambda".to_owned(), self.lambda.to_string()));
        all.push(("mu".to_owned(), self.mu.to_string()));
        all.push(("gamma".to_owned(), self.gamma.to_string()));
        all.push(("iterations".to_owned(), self.iterations.to_string()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let entry = |v: usize| reduced::each(self, &entries[v], |c, entry| c.views[v].preprocess = entry);
        let mut lists = vec![entry(0), entry(1)];
        lists.push(reduced::each(self, &[0.1, 1.0, 10.0, 100.0], |c, mu| c.mu = mu));
        lists.push(reduced::each(self, &[1e-3, 0.01, 0.1], |c, gamma| c.gamma = gamma));
        lists.push(reduced::each(self, &[0.2, 0.5, 0.8], |c, lambda| c.lambda = lambda));
        reduced::listed(lists, MethodConfig::Cmfh)
    }
}

/// What is factorised into: latent rows `[n, r]`, for each view what makes rows of them `[r, m]` and what makes them of rows `[m, r]`.
pub(crate) struct Factors {
    pub(crate) v: Mat,
    pub(crate) u: Vec<Mat>,
    pub(crate) w: Vec<Mat>,
}

impl CmfhConfig {
    fn lambdas(&self) -> [f64; 2] {
        [self.lambda, 1.0 - self.lambda]
    }

    /// One round over the blocks, each set to where the objective is least given the others.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub(crate) fn improve(&self, x: [MatRef<'_, f64>; 2], ridges: [f64; 2], factors: &mut Factors) -> Result<(), FitError> {
        let gram = product(factors.v.transpose(), factors.v.as_ref());
        let r = gram.ncols();
        factors.u = Vec::new();
        let mut left = Mat::zeros(factors.v.nrows(), r);
        let mut right = Mat::zeros(r, r);
        let w = self.regress(x, ridges, &factors.v)?;
        for (v, lambda) in self.lambdas().into_iter().enumerate() {
            let u = solve_positive(&plus(&gram, self.gamma / lambda), &product(factors.v.transpose(), x[v]))?;
            let (back, norm) = (product(x[v], u.transpose()), product(u.as_ref(), u.transpose()));
            let through = product(x[v], w[v].as_ref());
            for j in 0..r {
                for i in 0..left.nrows() {
                    left[(i, j)] += lambda * back[(i, j)] + self.mu * through[(i, j)];
                }
                for i in 0..r {
                    right[(i, j)] += lambda * norm[(i, j)];
                }
            }
            factors.u.push(u);
        }
        let right = plus(&right, 2.0 * self.mu + self.gamma);
        factors.v = solve_positive(&right, &left.transpose().to_owned())?.transpose().to_owned();
        factors.w = w;
        Ok(())
    }

    /// W of each view.
    pub(crate) fn regress(&self, x: [MatRef<'_, f64>; 2], ridges: [f64; 2], v: &Mat) -> Result<Vec<Mat>, FitError> {
        let of = |(x, ridge): (MatRef<'_, f64>, f64)| {
            // In its axes X'X is a diagonal.
            let inverse: Vec<f64> =
                (0..x.ncols()).map(|j| 1.0 / (x.col(j).squared_norm_l2() + self.gamma / self.mu + ridge)).collect();
            let mut w = product(x.transpose(), v.as_ref());
            linalg::scale_rows(&mut w, &inverse);
            w
        };
        Ok(x.into_iter().zip(ridges).map(of).collect())
    }

    /// The objective.
    #[cfg(test)]
    pub(crate) fn objective(&self, x: [MatRef<'_, f64>; 2], factors: &Factors) -> f64 {
        let norm = |a: &Mat| a.squared_norm_l2();
        let mut sum = self.gamma * norm(&factors.v);
        for (v, lambda) in self.lambdas().into_iter().enumerate() {
            let (u, w) = (&factors.u[v], &factors.w[v]);
            let back = x[v] - product(factors.v.as_ref(), u.as_ref());
            let through = &factors.v - product(x[v], w.as_ref());
            sum += lambda * norm(&back) + self.mu * norm(&through) + self.gamma * (norm(u) + norm(w));
        }
        sum
    }
}

/// `a` with a number added along its diagonal.
fn plus(a: &Mat, ridge: f64) -> Mat {
    let mut a = a.clone();
    (0..a.nrows()).for_each(|i| a[(i, i)] += ridge);
    a
}
