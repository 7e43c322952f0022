//! Regression of each view to the labels: a row goes to the classes it looks like.
//!
//! # Reference
//! A. E. Hoerl, R. W. Kennard, Ridge regression, Technometrics 12, 1970; with a shared target as bilinear model for retrieval: A.
//! Sharma, A. Kumar, H. Daume, D. Jacobs, Generalized Multiview Analysis, CVPR 2012. Checked against scikit-learn `Ridge`
//! (`reference/align_subspace_goldens.py`). Differs from it in nothing.
//!
//! # Model
//! min |X W + 1 b' - L|^2 + r |W|^2, L centred; x goes to x W + b, at unit length. A class's share of the rows is left out, so that
//! a row that could be anything does not look like the largest class.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X | a view, preprocessed and centred | `[n, d]` | - |
//! | L | `pairs.labels`, 1 for each class of a row | `[n, c]` | - |
//! | r | [`crate::ViewConfig::ridge`] `* trace(X'X) / d` | - | at least 0 |
//!
//! # Cost
//! O(n d^2 + d^3) time, O(d^2 + n m) memory.
//!
//! # Determinism
//! No chance is involved. Coordinate c is class c.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! ```
//! use chiasm_align::{LabelRidgeConfig, MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let x = [0.0, 0.1, 1.0, 1.1];
//! let y = [7.0, 7.1, 5.0, 5.1];
//! let labels = Labels::single(&[0, 0, 1, 1]);
//! let pairs = Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::LabelRidge(LabelRidgeConfig::default()).fit(&pairs, &run)?;
//! let a = space.project(0, MatrixView::new(&[1.05], 1)?)?;
//! // Class 1 above its share of the rows, class 0 below.
//! assert!(a.row(0)[1] > 0.7 && a.row(0)[0] < -0.7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Run};
use crate::linalg;
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::{indicator, regress};

/// How the regression to the labels is done.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRidgeConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
}

impl Default for LabelRidgeConfig {
    /// Rows as they come, a ridge of a hundredth of the mean variance.
    fn default() -> Self {
        Self { views: [ViewConfig { ridge: 1e-2, ..ViewConfig::default() }; 2] }
    }
}

impl Linear for LabelRidgeConfig {
    fn name(&self) -> &'static str {
        "label-ridge"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, 1, 0.0)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        usize::MAX
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let classes = reduced.classes();
        let n_labelled = classes.n_labelled as f64;
        let shares: Vec<f64> = classes.counts.iter().map(|count| count / n_labelled).collect();
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for (v, config) in views.iter().enumerate() {
            let (scatter, ridge) = reduced.scatter(v, config);
            if classes.n_labelled == reduced.n() {
                // In its axes X'X is a diagonal, and X is centred.
                let sums = classes.sums[v].subcols(0, scatter.len());
                let mut w = sums.transpose().to_owned();
                linalg::scale_rows(&mut w, &scatter.iter().map(|s| 1.0 / (s + ridge)).collect::<Vec<_>>());
                weights.push(w);
                offsets.push(vec![0.0; shares.len()]);
                continue;
            }
            if !reduced.has_rows() {
                return Err(FitError::NeedsRows { what: "label-ridge with rows of no class" });
            }
            let (w, b) = regress(reduced.rows(v, config), &indicator(reduced.labels(), false), reduced.labels(), ridge)?;
            weights.push(w);
            offsets.push(b.iter().zip(&shares).map(|(b, share)| b - share).collect());
        }
        Ok(Solution::meaningful(weights, offsets))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        self.views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe())).collect()
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        reduced::listed(reduced::view_neighbours(self, entries, |c| &mut c.views), MethodConfig::LabelRidge)
    }
}
