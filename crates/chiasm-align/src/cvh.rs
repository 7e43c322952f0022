//! Cross-view hashing: the signs of canonical coordinates.
//!
//! # Reference
//! S. Kumar, R. Udupa, Learning Hash Functions for Cross-View Similarity Search, IJCAI 2011, for pairs with one partner each. Checked
//! against numpy (`reference/align_hashing_goldens.py`). Differs from it in nothing there; similarities within a view are not used.
//!
//! # Model
//! As [`crate::cca`]: a bit is the sign of a canonical coordinate.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views` after [`crate::Preprocess`] and centring | `[n, d]` | - |
//! | r | [`CvhConfig::bits`](field@CvhConfig::bits) | - | 1..=4096 |
//!
//! There are no more canonical coordinates than the narrower view has dimensions: where more bits are asked for, so many come out. Later
//! bits hang on weaker correlations, so longer codes are often worse.
//!
//! # Cost
//! As [`crate::cca`].
//!
//! # Determinism
//! No chance is involved.
//!
//! # Errors
//! Those of [`crate::CcaConfig`].
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([1.0, 2.0, 3.0, 4.0], [-10.0, -20.0, -30.0, -40.0]);
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::from_name("cvh")?.fit(&pairs, &run)?;
//! let (a, b) = (space.project(0, MatrixView::new(&[3.3], 1)?)?, space.project(1, MatrixView::new(&[-33.0], 1)?)?);
//! assert_eq!((space.n_bits(), a), (Some(1), b));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Run};
use crate::hashing::{self, pairs_of_directions, whitening};
use crate::linalg::{self};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How cross-view hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct CvhConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Bits of a code at most.
    pub bits: usize,
}

impl Default for CvhConfig {
    /// Rows as they come, next to no ridge.
    fn default() -> Self {
        Self { views: [ViewConfig { ridge: 1e-4, ..ViewConfig::default() }; 2], bits: 64 }
    }
}

impl Linear for CvhConfig {
    fn name(&self) -> &'static str {
        "cvh"
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn only_whitens(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let whitening = whitening(reduced, views);
        let mut c = reduced.cross(0, 1).submatrix(0, 0, whitening[0].len(), whitening[1].len()).to_owned();
        let scale = vec![reduced.n() as f64 - 1.0; c.nrows()];
        linalg::scale_rows(&mut c, &scale);
        let (weights, _) = pairs_of_directions(&c, &whitening)?;
        let k = weights[0].ncols();
        Ok(Solution::bits(weights, vec![vec![0.0; k]; 2], None))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        hashing::parameters(&self.views, self.bits)
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        reduced::listed(reduced::view_neighbours(self, entries, |c| &mut c.views), MethodConfig::Cvh)
    }
}
