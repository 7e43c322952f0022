//! Cluster canonical correlation analysis: every row is paired with every row of its class, not with one partner.
//!
//! # Reference
//! N. Rasiwasia, D. Mahajan, V. Mahadevan, G. Aggarwal, Cluster Canonical Correlation Analysis, AISTATS 2014; with several labels
//! a row (ml-CCA): V. Ranjan, N. Rasiwasia, C. V. Jawahar, Multi-Label Cross-Modal Retrieval, ICCV 2015. Checked against the same
//! in numpy over all pairs written out (`reference/align_subspace_goldens.py`). Differs from ml-CCA in the similarity of two sets of
//! labels, here their cosine.
//!
//! # Model
//! s_ij = cosine of the labels of i and j; M = sum s; Cxy = (1/M) sum_ij s_ij (x_i - mx)(y_j - my)', Cxx = (1/M) sum_i (sum_j s_ij)
//! (x_i - mx)(x_i - mx)' + r I, mx the mean weighted by sum_j s_ij; then as CCA, of rows less mx and my. With L~ the labels at unit length s = L~ L~', so
//! that nothing of size `[n, n]` is made.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views`, preprocessed and centred | `[n, d]` | - |
//! | r | [`crate::ViewConfig::ridge`] `* trace(Cxx) / d` | - | at least 0 |
//! | rho | [`crate::About::correlations`] | `[k]` | 0..=1 |
//!
//! # Cost
//! O(n d^2 + d^3) time, O(d^2 + n m) memory.
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::label_ridge`], which takes the same pairs.

use crate::fit::{FitError, Run};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::{indicator, mean_diagonal};

/// How cluster canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterCcaConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Coordinates kept at most; there are no more than classes.
    pub max_components: usize,
    /// Each coordinate is multiplied by its correlation to this power; see [`crate::CcaConfig`].
    pub correlation_power: f64,
}

impl Default for ClusterCcaConfig {
    /// Rows as they come, next to no ridge, weighted by correlation.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-3, ..ViewConfig::default() };
        Self { views: [view; 2], max_components: 128, correlation_power: 1.0 }
    }
}

impl Linear for ClusterCcaConfig {
    fn name(&self) -> &'static str {
        "cluster-cca"
    }

    fn needs_labels(&self) -> bool {
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
        let l = indicator(reduced.labels(), true);
        let per_class: Vec<f64> = (0..l.ncols()).map(|c| l.col(c).iter().sum()).collect();
        let weights: Vec<f64> =
            (0..l.nrows()).map(|i| per_class.iter().enumerate().map(|(c, sum)| l[(i, c)] * sum).sum()).collect();
        let all: f64 = weights.iter().sum();
        let side = |v: usize| -> Result<(Mat, Mat, Vec<f64>), FitError> {
            let x = reduced.rows(v, &views[v]);
            let mean = |j: usize| x.col(j).iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>() / all;
            let means: Vec<f64> = (0..x.ncols()).map(mean).collect();
            let x = Mat::from_fn(x.nrows(), x.ncols(), |i, j| x[(i, j)] - means[j]);
            let mut weighted = x.clone();
            linalg::scale_rows(&mut weighted, &weights.iter().map(|w| w / all).collect::<Vec<_>>());
            let own = product(x.transpose(), weighted.as_ref());
            let whitener = linalg::whitener(own.as_ref(), views[v].ridge * mean_diagonal(&own))?;
            Ok((whitener, product(l.transpose(), x.as_ref()), means))
        };
        let ((wx, lx, mx), (wy, ly, my)) = (side(0)?, side(1)?);
        let mut cross = product(lx.transpose(), ly.as_ref());
        linalg::scale_rows(&mut cross, &vec![1.0 / all; lx.ncols()]);
        let whitened = product(product(wx.transpose(), cross.as_ref()).as_ref(), wy.as_ref());
        let (a, correlations, b) = linalg::thin_svd(whitened.as_ref())?;
        let correlations = correlations.into_iter().map(|c| c.min(1.0)).collect();
        let weights = vec![product(wx.as_ref(), a.as_ref()), product(wy.as_ref(), b.as_ref())];
        // The views are centred by the mean of their rows; a row of a large class counts for more here.
        let offset = |w: &Mat, means: &[f64], j: usize| -w.col(j).iter().zip(means).map(|(w, m)| w * m).sum::<f64>();
        let offsets = |(w, means): (&Mat, &[f64])| (0..w.ncols()).map(|j| offset(w, means, j)).collect();
        let offsets = weights.iter().zip([&mx[..], &my[..]]).map(offsets).collect();
        Ok(Solution { offsets: Some(offsets), ..Solution::correlated(weights, correlations) })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        reduced::parameters(&self.views, self.max_components, self.correlation_power)
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = reduced::view_neighbours(self, entries, |c| &mut c.views);
        lists.push(reduced::each(self, &reduced::POWERS, |c, p| c.correlation_power = p));
        lists.push(reduced::each(self, &[4, 8, 16, 32, 128], |c, k| c.max_components = k));
        reduced::listed(lists, MethodConfig::ClusterCca)
    }
}
