//! Multi-view canonical correlation analysis: directions of two or more views along which the paired rows of all agree most.
//!
//! # Reference
//! J. R. Kettenring, Canonical analysis of several sets of variables, Biometrika 58, 1971 (the SUMCOR criterion in the form of
//! one eigenproblem, as in A. A. Nielsen, Multiset canonical correlations analysis, IEEE TIP 11, 2002). Checked against cca-zoo
//! 4.0.1 `MCCA` (`reference/align_goldens.py`). Differs from it in: scale of the coordinates (here `sum_v w_v' C_vv w_v = V`, so that
//! two views give exactly CCA).
//!
//! # Model
//! C w = mu D w, where C holds the covariances between different views (its diagonal blocks are 0) and D the covariances within each
//! view, ridges added (its other blocks are 0). With the inverse square root of each block of D this is the ordinary symmetric
//! eigenproblem of a matrix whose blocks are C_vv^{-1/2} C_vw C_ww^{-1/2}. Row x of view v goes to x w_v rho^p, at unit length.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_v | `pairs.views` after [`crate::Preprocess`] and centring | `[n, d_v]` | - |
//! | k | [`MccaConfig::max_components`](field@MccaConfig::max_components) | - | at least 1 |
//! | rho = mu / (V - 1) | [`crate::About::correlations`] | `[k]` | mean correlation, 0..=1 |
//! | p | [`MccaConfig::correlation_power`](field@MccaConfig::correlation_power) | - | at least 0 |
//!
//! # Cost
//! Per view as [`crate::cca`]; then O(m^3) for m principal components over all views together, O(m^2) memory.
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! As [`crate::cca`], for two views or more; [`FitError::Config`] also when the number of view configurations is neither 1 nor
//! that of the views.
//!
//! # Example
//! ```
//! use chiasm_align::{MccaConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//! let (x, y, z) = ([1.0, 2.0, 3.0, 4.0], [8.0, 6.0, 4.0, 2.0], [0.1, 0.2, 0.3, 0.4]);
//! let views = [&x, &y, &z].map(|v| MatrixView::new(v, 1));
//! let pairs = Pairs::new(views.into_iter().collect::<Result<_, _>>()?);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MccaConfig::default().fit(&pairs, &run)?;
//! assert_eq!(space.about().correlations, [1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::RangeInclusive;

use crate::fit::{FitError, Pairs, Run};
use crate::linalg;
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;
use crate::reduced::{self, Linear, Reduced, Solution};

/// How multi-view canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct MccaConfig {
    /// Preprocessing, principal components and ridge: one for each view, or one for all.
    pub views: Vec<ViewConfig>,
    /// Coordinates kept at most; fewer where the views' ranks allow fewer.
    pub max_components: usize,
    /// Each coordinate is multiplied by its mean correlation to this power; see [`crate::CcaConfig`].
    pub correlation_power: f64,
}

impl Default for MccaConfig {
    /// Rows as they come, no ridge, weighted by correlation.
    fn default() -> Self {
        Self { views: vec![ViewConfig::default()], max_components: 128, correlation_power: 1.0 }
    }
}

impl MccaConfig {
    /// Fits a space of two or more views.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        Ok(reduced::fit(self, pairs, run)?.space)
    }
}

impl Linear for MccaConfig {
    fn name(&self) -> &'static str {
        "mcca"
    }

    fn n_views(&self) -> RangeInclusive<usize> {
        2..=usize::MAX
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn only_whitens(&self) -> bool {
        true
    }

    fn views(&self, n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, self.correlation_power)?;
        reduced::one_for_each(&self.views, n_views)
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn correlation_power(&self) -> f64 {
        self.correlation_power
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let whitening = reduced.whitening(views);
        let n_views = views.len();
        let (values, vectors) = reduced.whitened(&whitening).eigen()?;
        // A coordinate may rest on some of the views only, so there can be more of them than the narrowest view has columns.
        let k = values.iter().take(reduced::MAX_COORDINATES).take_while(|mu| **mu > 0.0).count();
        let weights = vectors
            .iter()
            .zip(&whitening)
            .map(|(vectors, whitening)| {
                let mut w = vectors.subcols(0, k).to_owned();
                linalg::scale_rows(&mut w, whitening);
                linalg::scale_cols(&mut w, &vec![(n_views as f64).sqrt(); k]);
                w
            })
            .collect();
        let correlations = values[..k].iter().map(|mu| (mu / (n_views as f64 - 1.0)).min(1.0)).collect();
        Ok(Solution::correlated(weights, correlations))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        reduced::parameters(&self.views, self.max_components, self.correlation_power)
    }
}
