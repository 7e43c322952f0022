//! Partial least squares: the directions of two views along which paired rows vary together most.
//!
//! # Reference
//! H. Wold, Partial least squares, Encyclopedia of Statistical Sciences 6, 1985, in the form without deflation (PLS-SVD): P. D. Sampson et
//! al., Neurobehavioral effects of prenatal alcohol: Part II, Neurotoxicology and Teratology 11, 1989. Checked against scikit-learn
//! 1.9.1 `PLSSVD` (`reference/align_goldens.py`). Not `PLSCanonical`, which deflates and differs from the second coordinate on.
//!
//! # Model
//! X'Y/(n-1) = U D V', columns centred; x goes to x U_k (D/d_1)^p, y to y V_k (D/d_1)^p, at unit length. Covariance where CCA has correlation:
//! no inverse is taken, so it needs no ridge, and it follows what varies most.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views` after [`crate::Preprocess`] and centring | `[n, d]` | - |
//! | k | [`PlsConfig::max_components`](field@PlsConfig::max_components) | - | at least 1 |
//! | D / d_1 | [`crate::About::correlations`] | `[k]` | covariance relative to the greatest, 0..=1 |
//! | p | [`PlsConfig::covariance_power`](field@PlsConfig::covariance_power) | - | at least 0 |
//!
//! # Cost
//! As [`crate::cca`].
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! As [`crate::cca`].
//!
//! # Example
//! ```
//! use chiasm_align::{Pairs, PlsConfig, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
//! let x = [1.0, 0.0, 2.0, 1.0, 3.0, 1.0, 4.0, 0.0];
//! let y = [-10.0, -20.0, -30.0, -40.0];
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 2)?, MatrixView::new(&y, 1)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = PlsConfig::default().fit(&pairs, &run)?;
//! assert_eq!((space.dim(), &space.about().correlations[..]), (1, &[1.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Pairs, Run};
use crate::linalg;
use crate::pipeline::PipelineSpace;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How partial least squares is done.
#[derive(Clone, Debug, PartialEq)]
pub struct PlsConfig {
    /// Done to the rows of each view first; centring follows.
    pub preprocess: [Preprocess; 2],
    /// Coordinates kept at most; fewer where the views' ranks allow fewer.
    pub max_components: usize,
    /// Each coordinate is multiplied by its covariance, relative to the greatest, to this power; at least 0, which is the
    /// classical method.
    pub covariance_power: f64,
}

impl Default for PlsConfig {
    /// The classical method on rows as they come.
    fn default() -> Self {
        Self { preprocess: [Preprocess::None; 2], max_components: 128, covariance_power: 0.0 }
    }
}

impl PlsConfig {
    /// Fits a space of two views.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        Ok(reduced::fit(self, pairs, run)?.space)
    }
}

impl Linear for PlsConfig {
    fn name(&self) -> &'static str {
        "pls"
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        let views = self.preprocess.map(|preprocess| ViewConfig { preprocess, ..ViewConfig::default() });
        reduced::check(&views, self.max_components, self.covariance_power)?;
        Ok(views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn correlation_power(&self) -> f64 {
        self.covariance_power
    }

    fn solve(&self, reduced: &Reduced, _views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let (a, covariances, b) = linalg::thin_svd(reduced.cross(0, 1).as_ref())?;
        let greatest = covariances.first().copied().filter(|c| *c > 0.0).unwrap_or(1.0);
        let correlations = covariances.into_iter().map(|c| c / greatest).collect();
        Ok(Solution::correlated(vec![a, b], correlations))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let [x, y] = self.preprocess.map(Preprocess::describe);
        let (k, p) = (self.max_components.to_string(), self.covariance_power.to_string());
        let all = [("view 0", x), ("view 1", y), ("max_components", k), ("covariance_power", p)];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}
