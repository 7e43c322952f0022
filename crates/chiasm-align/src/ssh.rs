//! Semi-supervised hashing across modalities: the classes of a few rows, and the pairing of all.
//!
//! # Reference
//! After J. Wang, S. Kumar, S.-F. Chang, Semi-Supervised Hashing for Large-Scale Search, CVPR 2010 and IEEE TPAMI 34, 2012. Checked against
//! numpy (`reference/align_hashing_goldens.py`). Differs from them in: two views, so that the variance of all rows becomes the covariance
//! of all pairs, against ridge covariances; all bits at once.
//!
//! # Model
//! w_k, v_k are the leading pairs of M = X_l' S Y_l + eta X'Y against X'X + ex I and Y'Y + ey I, S = 2 L~ L~' - 11' over the labelled rows.
//! eta -> infinity is [`crate::cvh`]; eta = 0 with all rows labelled is `scm-orth` of [`crate::scm_hash`].
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views` after [`crate::Preprocess`] and centring by all rows | `[n, d]` | - |
//! | X_l, Y_l | the rows of them that have a class | `[n_l, d]` | - |
//! | L~ | `pairs.labels` of these rows, at unit length | `[n_l, c]` | - |
//! | eta | [`SshConfig::eta`] | - | at least 0 |
//! | ex, ey | [`crate::ViewConfig::ridge`] `* trace(X'X) / d` | - | at least 0 |
//!
//! There are no more bits than the narrower view has dimensions (than there are classes, for eta = 0): where more are asked for, so many
//! come out.
//!
//! # Cost
//! O(n d^2 + d^3) time, O(d^2 + n m) memory.
//!
//! # Determinism
//! No chance is involved.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`] for an eta below 0.
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([0.0, 0.1, 1.0, 1.1], [7.0, 7.1, 5.0, 5.1]);
//! // Two rows are known, two are not.
//! let labels = Labels::from_rows(&[vec![0], vec![], vec![1], vec![]], 2)?;
//! let pairs = Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::from_name("ssh")?.fit(&pairs, &run)?;
//! let (a, b) = (space.project(0, MatrixView::new(&[0.9], 1)?)?, space.project(1, MatrixView::new(&[5.2], 1)?)?);
//! assert_eq!(a, b);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Run};
use crate::hashing::{self, pairs_of_directions, whitening};
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How semi-supervised hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct SshConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// How much the pairing of a row counts against the classes of a labelled one; at least 0.
    pub eta: f64,
    /// Bits of a code at most.
    pub bits: usize,
}

impl Default for SshConfig {
    /// A pair counts as much as two labelled rows of one class do.
    fn default() -> Self {
        Self { views: [ViewConfig { ridge: 1e-4, ..ViewConfig::default() }; 2], eta: 1.0, bits: 64 }
    }
}

impl Linear for SshConfig {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        reduced::at_least_zero("eta", self.eta)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let whitening = whitening(reduced, views);
        let classes = hashing::class_cross(reduced, views);
        let pairing = self.eta * (reduced.n() as f64 - 1.0);
        let cross = reduced.cross(0, 1);
        let m = Mat::from_fn(classes.nrows(), classes.ncols(), |i, j| classes[(i, j)] + pairing * cross[(i, j)]);
        let (weights, _) = pairs_of_directions(&m, &whitening)?;
        let k = weights[0].ncols();
        Ok(Solution::bits(weights, vec![vec![0.0; k]; 2], None))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = hashing::parameters(&self.views, self.bits);
        all.push(("eta".to_owned(), self.eta.to_string()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = reduced::view_neighbours(self, entries, |c| &mut c.views);
        lists.push(reduced::each(self, &[0.0, 0.1, 1.0, 10.0, 100.0, 1e3], |c, eta| c.eta = eta));
        reduced::listed(lists, MethodConfig::Ssh)
    }
}
