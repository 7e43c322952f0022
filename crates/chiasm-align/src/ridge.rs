//! Ridge regression from one view to the other: a picture stands where a linear map expects its caption.
//!
//! # Reference
//! A. E. Hoerl, R. W. Kennard, Ridge Regression: Biased Estimation for Nonorthogonal Problems, Technometrics 12, 1970. Checked against
//! scikit-learn 1.9.1 `Ridge` (`reference/align_goldens.py`). Differs from it in: the ridge is relative, `alpha = ridge *
//! trace(C) * (n - 1) / d`.
//!
//! # Model
//! W = (Cxx + r I)^{-1} Cxy, columns centred; x goes to x W, y to y, both turned to the principal axes of Y (which changes no angle
//! within the span of the fitting rows) and at unit length.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X | view [`RidgeConfig::from`] after preprocessing and centring | `[n, dx]` | - |
//! | Y | the other view, likewise | `[n, dy]` | - |
//! | r | [`RidgeConfig::ridge`] `* trace(C) / dx` | - | at least 0 |
//!
//! # Cost
//! As [`crate::cca`] without its decomposition of T.
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! As [`crate::cca`]; [`FitError::Config`] also for a `from` other than 0 and 1.
//!
//! # Example
//! ```
//! use chiasm_align::{Pairs, RidgeConfig, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 2.0, 0.0, 0.0, -2.0, -2.0, 0.0]);
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 2)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = RidgeConfig::default().fit(&pairs, &run)?;
//! assert_eq!((space.input_dim(0), space.input_dim(1), space.dim()), (Some(1), Some(2), 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Pairs, Run};
use crate::linalg::{self, Mat};
use crate::pipeline::PipelineSpace;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How a ridge regression from one view to the other is done.
#[derive(Clone, Debug, PartialEq)]
pub struct RidgeConfig {
    /// The view that is carried over, 0 or 1; the other stays where it is.
    pub from: usize,
    /// Done to the rows of each view first; centring follows.
    pub preprocess: [Preprocess; 2],
    /// Ridge relative to the mean variance of the view carried over, as in [`ViewConfig::ridge`].
    pub ridge: f64,
}

impl Default for RidgeConfig {
    /// From view 0 to view 1, rows as they come, with a ridge of the view's mean variance.
    fn default() -> Self {
        Self { from: 0, preprocess: [Preprocess::None; 2], ridge: 1.0 }
    }
}

impl RidgeConfig {
    /// Fits a space of two views.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        Ok(reduced::fit(self, pairs, run)?.space)
    }
}

impl Linear for RidgeConfig {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        if self.from > 1 {
            let expected = "view 0 or view 1 is carried over to the other";
            return Err(FitError::Config { name: "from", value: self.from.to_string(), expected });
        }
        let view = |v: usize| {
            let ridge = if v == self.from { self.ridge } else { 0.0 };
            ViewConfig { preprocess: self.preprocess[v], ridge, ..ViewConfig::default() }
        };
        let views = vec![view(0), view(1)];
        reduced::check(&views, usize::MAX, 0.0)?;
        Ok(views)
    }

    fn max_components(&self) -> usize {
        usize::MAX
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let basis = &reduced.bases[self.from];
        let (m, ridge) = basis.ridge(&views[self.from]);
        let inverse: Vec<f64> = basis.variances[..m].iter().map(|v| 1.0 / (v + ridge)).collect();
        let cross = reduced.cross(0, 1);
        let mut w = if self.from == 0 { cross.to_owned() } else { cross.transpose().to_owned() };
        linalg::scale_rows(&mut w, &inverse);
        let n_out = w.ncols();
        let stays = Mat::identity(n_out, n_out);
        let weights = if self.from == 0 { vec![w, stays] } else { vec![stays, w] };
        Ok(Solution::ordered(weights, vec![1.0; n_out]))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let [x, y] = self.preprocess.map(Preprocess::describe);
        let all = [("from", self.from.to_string()), ("view 0", x), ("view 1", y), ("ridge", self.ridge.to_string())];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}
