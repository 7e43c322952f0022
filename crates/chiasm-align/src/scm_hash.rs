//! Semantic correlation maximisation: codes of paired rows that agree as much as their classes do. `scm-orth` finds all bits at once,
//! `scm-seq` one after another, each on what the bits before it left.
//!
//! # Reference
//! D. Zhang, W.-J. Li, Large-Scale Supervised Multimodal Hashing with Semantic Correlation Maximization, AAAI 2014, algorithm 1. Checked
//! against numpy and scipy (`reference/align_hashing_goldens.py`) and, `scm-seq`, against all eight figures published for it on the Wikipedia
//! articles (`tests/align/wikipedia.rs`). Differs from the paper in: rows without a class take no part; the ridge is relative.
//!
//! # Model
//! sum_k sign(X w_k) sign(Y v_k)' should be r S, S = 2 L~ L~' - 11'.
//! Orthogonal: w_k, v_k are the leading pairs of C = X' S Y against X'X + ex I and Y'Y + ey I.
//! Sequential: C_1 = r X' S Y; w_k, v_k is the first pair of C_k; C_{k+1} = C_k - X' sign(X w_k) sign(Y v_k)' Y.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views` after [`crate::Preprocess`] and centring | `[n, d]` | - |
//! | L~ | `pairs.labels`, rows of unit length | `[n, c]` | - |
//! | r (paper: c) | [`ScmHashConfig::bits`](field@ScmHashConfig::bits) | - | 1..=4096 |
//! | ex, ey (1e-6) | [`crate::ViewConfig::ridge`] `* trace(X'X) / d` | - | at least 0 |
//!
//! Centred rows leave C no more rank than there are classes (one less where every row has one label), so `scm-orth` gives at most that many
//! bits however many are asked for: further ones would be noise. `scm-seq` gives all of them.
//!
//! # Cost
//! O(n d^2 + d^3) time for `scm-orth`, O(r (n d + d^3)) more for `scm-seq`; O(d^2 + n m) memory, never `[n, n]`.
//!
//! # Determinism
//! No chance is involved.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([0.0, 0.1, 1.0, 1.1], [7.0, 7.1, 5.0, 5.1]);
//! let labels = Labels::single(&[0, 0, 1, 1]);
//! let pairs = Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::from_name("scm-orth")?.fit(&pairs, &run)?;
//! // Two classes: one bit, of which view 1 is the mirror image.
//! assert_eq!(space.n_bits(), Some(1));
//! let (a, b) = (space.project(0, MatrixView::new(&[0.9], 1)?)?, space.project(1, MatrixView::new(&[5.2], 1)?)?);
//! assert_eq!(a, b);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Run};
use crate::hashing::{self, labelled_rows, pairs_of_directions, signs, whitening};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How the bits are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScmBits {
    /// All at once, orthogonal to one another.
    Orthogonal,
    /// One after another.
    Sequential,
}

/// How semantic correlation maximisation is done.
#[derive(Clone, Debug, PartialEq)]
pub struct ScmHashConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// How the bits are found.
    pub order: ScmBits,
    /// Bits of a code; `scm-orth` gives fewer where the classes are fewer.
    pub bits: usize,
}

impl Default for ScmHashConfig {
    /// The paper's: sequential, next to no ridge.
    fn default() -> Self {
        Self { views: [ViewConfig { ridge: 1e-6, ..ViewConfig::default() }; 2], order: ScmBits::Sequential, bits: 64 }
    }
}

impl Linear for ScmHashConfig {
    fn name(&self) -> &'static str {
        match self.order {
            ScmBits::Orthogonal => "scm-orth",
            ScmBits::Sequential => "scm-seq",
        }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn takes_moments(&self) -> bool {
        self.order == ScmBits::Orthogonal
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let whitening = whitening(reduced, views);
        let mut c = hashing::class_cross(reduced, views);
        let weights = match self.order {
            ScmBits::Orthogonal => pairs_of_directions(&c, &whitening)?.0,
            ScmBits::Sequential => {
                linalg::scale_rows(&mut c, &vec![self.bits as f64; whitening[0].len()]);
                let (x, y) = (labelled_rows(reduced, views, 0), labelled_rows(reduced, views, 1));
                sequential(c, &x, &y, &whitening, self.bits, run)?
            }
        };
        let k = weights[0].ncols();
        Ok(Solution::bits(weights, vec![vec![0.0; k]; 2], None))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        hashing::parameters(&self.views, self.bits)
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        reduced::listed(reduced::view_neighbours(self, entries, |c| &mut c.views), MethodConfig::ScmHash)
    }
}

/// One pair of directions after another, each on what the bits before it left of `c`.
fn sequential(mut c: Mat, x: &Mat, y: &Mat, whitening: &[Vec<f64>], bits: usize, run: &Run<'_>) -> Result<Vec<Mat>, FitError> {
    let mut weights = vec![Mat::zeros(c.nrows(), bits), Mat::zeros(c.ncols(), bits)];
    for k in 0..bits {
        run.cancel.check()?;
        let (pair, _) = pairs_of_directions(&c, whitening)?;
        if pair[0].ncols() == 0 {
            // Nothing is left.
            return Ok(weights.iter().map(|w| w.subcols(0, k).to_owned()).collect());
        }
        let explained =
            |x: &Mat, w: &Mat| product(x.transpose(), signs(product(x.as_ref(), w.subcols(0, 1)).as_ref()).as_ref());
        c -= product(explained(x, &pair[0]).as_ref(), explained(y, &pair[1]).transpose());
        for (weights, w) in weights.iter_mut().zip(&pair) {
            weights.col_mut(k).copy_from(w.col(0));
        }
    }
    Ok(weights)
}
