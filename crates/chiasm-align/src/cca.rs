//! Canonical correlation analysis: the directions of two views along which paired rows agree most.
//!
//! # Reference
//! H. Hotelling, Relations between two sets of variates, Biometrika 28, 1936. For retrieval: N. Rasiwasia et al., A New Approach
//! to Cross-Modal Multimedia Retrieval, ACM MM 2010; the weighting of coordinates by a power of their correlation: Y. Gong,
//! Q. Ke, M. Isard, S. Lazebnik, A Multi-View Embedding Space for Modeling Internet Images, Tags, and Their Semantics, IJCV 106,
//! 2014. Checked against numpy's SVD form, scikit-learn 1.9.1 `CCA` and cca-zoo 4.0.1 `CCA` (`reference/align_goldens.py`).
//! Differs from Gong et al. in the power's default: 1, not 4.
//!
//! # Model
//! Cxx = X'X/(n-1) + rx I, Cyy alike, Cxy = X'Y/(n-1), columns centred;
//! T = Cxx^{-1/2} Cxy Cyy^{-1/2} = U D V'; A = Cxx^{-1/2} U_k, B = Cyy^{-1/2} V_k; x goes to x A D^p, y to y B D^p, at unit length.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views` after [`crate::Preprocess`] and centring | `[n, d]` | - |
//! | rx, ry | [`crate::ViewConfig::ridge`] `* trace(C) / d` | - | at least 0 |
//! | k | [`CcaConfig::max_components`](field@CcaConfig::max_components) | - | at least 1 |
//! | D | [`crate::About::correlations`] | `[k]` | 0..=1 |
//! | p | [`CcaConfig::correlation_power`](field@CcaConfig::correlation_power) | - | at least 0 |
//!
//! The inverse square roots are taken in each view's principal axes, where they are diagonal ([`crate::ViewConfig::pca_dim`] of
//! them at most); any other square root gives the same A and B.
//!
//! # Cost
//! O(n d^2 + d^3) time, and O(d^2 + n m) memory beside the input for m principal components. Views with more columns than rows
//! are handled in O(n^2 d + n^3).
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`Pairs::check`] for two views; [`FitError::Config`]; [`FitError::Constant`] for a view that does not vary;
//! [`FitError::Unrelated`] when the views share nothing; [`FitError::Numeric`] for numbers near the limits of f32.
//!
//! # Example
//! One number of each view is the same but for its sign and scale, the other is unrelated to anything:
//! ```
//! use chiasm_align::{CcaConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
//! let x = [1.0, 0.0, 2.0, 1.0, 3.0, 1.0, 4.0, 0.0];
//! let y = [-10.0, -20.0, -30.0, -40.0];
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 2)?, MatrixView::new(&y, 1)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = CcaConfig::default().fit(&pairs, &run)?;
//! assert_eq!(space.about().correlations, [1.0]);
//! let a = space.project(0, MatrixView::new(&[4.0, 0.0], 2)?)?;
//! let b = space.project(1, MatrixView::new(&[-40.0], 1)?)?;
//! assert_eq!((a.data(), b.data()), (&[1.0][..], &[1.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Pairs, Run};
use crate::linalg;
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;
use crate::reduced::{self, Linear, Reduced, Solution};

/// How canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct CcaConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Canonical pairs kept at most; fewer where the views' ranks allow fewer.
    pub max_components: usize,
    /// Each canonical coordinate is multiplied by its correlation to this power before the rows are scaled to unit length; at
    /// least 0. 0 is the classical method, 1 and 4 are in use for retrieval.
    pub correlation_power: f64,
}

impl Default for CcaConfig {
    /// Hotelling's method on rows as they come, weighted by correlation.
    fn default() -> Self {
        Self { views: [ViewConfig::default(); 2], max_components: 128, correlation_power: 1.0 }
    }
}

impl CcaConfig {
    /// Fits a space of two views.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        Ok(reduced::fit(self, pairs, run)?.space)
    }
}

impl Linear for CcaConfig {
    fn name(&self) -> &'static str {
        "cca"
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn only_whitens(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, self.correlation_power)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn correlation_power(&self) -> f64 {
        self.correlation_power
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        canonical(reduced, views)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        reduced::parameters(&self.views, self.max_components, self.correlation_power)
    }
}

/// The canonical directions of two views in their axes.
///
/// # Errors
/// [`FitError::Numeric`].
pub(crate) fn canonical(reduced: &Reduced, views: &[ViewConfig]) -> Result<Solution, FitError> {
    let whitening = reduced.whitening(views);
    let [wx, wy] = &whitening[..] else { unreachable!("two views were checked") };
    let mut t = reduced.cross(0, 1).submatrix(0, 0, wx.len(), wy.len()).to_owned();
    linalg::scale_rows(&mut t, wx);
    linalg::scale_cols(&mut t, wy);
    let (mut a, correlations, mut b) = linalg::leading_svd(t.as_ref())?;
    linalg::scale_rows(&mut a, wx);
    linalg::scale_rows(&mut b, wy);
    // Rounding can lift a correlation of 1 above it.
    let correlations = correlations.into_iter().map(|c| c.min(1.0)).collect();
    Ok(Solution::correlated(vec![a, b], correlations))
}
