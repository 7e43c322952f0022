//! Generalised canonical correlation analysis (MAXVAR): the common coordinates that all views can best be carried to.
//!
//! # Reference
//! J. R. Kettenring, Canonical analysis of several sets of variables, Biometrika 58, 1971; for large data: P. Rastogi, B. Van Durme,
//! R. Arora, Multiview LSA, NAACL 2015. Checked against scipy and cca-zoo 4.0.1 `GCCA` (`reference/align_subspace_goldens.py`).
//! Differs from them in the scale of a coordinate only: it is multiplied by a power of its correlation.
//!
//! # Model
//! G = top eigenvectors of sum_v X_v (X_v'X_v + r_v I)^{-1} X_v'; W_v = (X_v'X_v + r_v I)^{-1} X_v' G; x_v goes to x_v W_v.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_v | `pairs.views`, preprocessed and centred | `[n, d_v]` | - |
//! | r_v | [`crate::ViewConfig::ridge`], relative | - | at least 0 |
//! | G | not formed | `[n, k]` | - |
//! | eigenvalue | `1 + (views - 1)` [`crate::About::correlations`] without ridge | `[k]` | 0..=views |
//!
//! With H = [X_1 S_1, X_2 S_2, ...], S_v = (X_v'X_v + r_v I)^{-1/2}, the sum is HH', whose eigenvectors follow from those of the
//! small H'H: nothing of size `[n, n]` is made. Directions that the views do not share are left
//! out. For two views the coordinates span the same subspaces as CCA's.
//!
//! # Cost
//! O(n d^2 + D^3) time for D columns in all, O(d^2 + n m) memory.
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`crate::CcaConfig`].
//!
//! # Example
//! ```
//! use chiasm_align::{GccaConfig, MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//! let (x, y, z) = ([1.0, 2.0, 3.0, 5.0], [-1.0, -2.0, -3.0, -5.0], [2.0, 4.0, 6.0, 10.0]);
//! let views = [&x, &y, &z].map(|v| MatrixView::new(v, 1).unwrap()).to_vec();
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::Gcca(GccaConfig::default()).fit(&Pairs::new(views), &run)?;
//! assert_eq!(space.about().correlations, [1.0]);
//! # Ok::<(), chiasm_align::FitError>(())
//! ```

use std::ops::RangeInclusive;

use crate::fit::{FitError, Run};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How MAXVAR generalised canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct GccaConfig {
    /// Preprocessing, principal components and ridge, the same for every view or one for each.
    pub views: Vec<ViewConfig>,
    /// Coordinates kept at most.
    pub max_components: usize,
    /// Each coordinate is multiplied by its mean correlation to this power; see [`crate::CcaConfig`].
    pub correlation_power: f64,
}

impl Default for GccaConfig {
    /// Rows as they come, no ridge, weighted by correlation.
    fn default() -> Self {
        Self { views: vec![ViewConfig::default()], max_components: 128, correlation_power: 1.0 }
    }
}

impl Linear for GccaConfig {
    fn name(&self) -> &'static str {
        "gcca"
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
        let mut blocks = reduced.whitened(&whitening);
        // S X'X S, which falls short of 1 by what the ridge adds.
        let own: Vec<Mat> = whitening.iter().enumerate().map(|(v, scale)| reduced.own(v, scale)).collect();
        own.iter().enumerate().for_each(|(v, own)| blocks.set(v, v, own.as_ref()));
        let (values, vectors) = blocks.eigen()?;
        // A direction u explains u'H'Hu, of which sum_v |X_v S_v u_v|^2 is each view by itself; the rest is what they share.
        let others = views.len() as f64 - 1.0;
        let by_itself: Vec<Mat> = own.iter().zip(&vectors).map(|(own, u)| product(own.as_ref(), u.as_ref())).collect();
        let alone = |j: usize| -> f64 { vectors.iter().zip(&by_itself).map(|(u, w)| u.col(j).transpose() * w.col(j)).sum() };
        let correlation = |j: usize| (values[j] / alone(j) - 1.0) / others;
        let shared = |j: &usize| values[*j] > 1e-12 * values[0] && correlation(*j) > 1e-12;
        let kept: Vec<usize> = (0..values.len()).filter(shared).take(reduced::MAX_COORDINATES).collect();
        let roots: Vec<f64> = kept.iter().map(|j| values[*j].sqrt()).collect();
        let weights = vectors
            .iter()
            .zip(&whitening)
            .map(|(vectors, whitening)| {
                let mut w = Mat::from_fn(vectors.nrows(), kept.len(), |i, j| vectors[(i, kept[j])]);
                linalg::scale_rows(&mut w, whitening);
                linalg::scale_cols(&mut w, &roots);
                w
            })
            .collect();
        let correlations = kept.iter().map(|j| correlation(*j).min(1.0)).collect();
        Ok(Solution::correlated(weights, correlations))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        reduced::parameters(&self.views, self.max_components, self.correlation_power)
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let one_each = Self { views: vec![self.views[0]; entries.len()], ..self.clone() };
        let here = if self.views.len() == entries.len() { self } else { &one_each };
        let mut lists = reduced::view_neighbours(here, entries, |c| &mut c.views);
        lists.push(reduced::each(here, &reduced::POWERS, |c, p| c.correlation_power = p));
        lists.push(reduced::each(here, &reduced::COMPONENTS, |c, k| c.max_components = k));
        reduced::listed(lists, MethodConfig::Gcca)
    }
}
