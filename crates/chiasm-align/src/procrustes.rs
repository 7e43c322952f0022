//! Orthogonal Procrustes: the rotation that brings one view closest to the other, nothing stretched.
//!
//! # Reference
//! P. H. Schoenemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31, 1966; as a bridge between
//! embeddings: C. Xing, D. Wang, C. Liu, Y. Lin, Normalized word embedding and orthogonal transform, NAACL 2015. Checked against
//! scipy's `orthogonal_procrustes` (`reference/align_subspace_goldens.py`). Differs from it in taking views of unequal width: each is
//! first turned to its principal axes, of which as many are kept as both have.
//!
//! # Model
//! min over R with R'R = I of |X R - Y|_F; X'Y = U D V', R = U V'. x goes to x U, y to y V: as close as x R is to y.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views`, preprocessed, centred, in principal axes | `[n, k]` | - |
//! | R | the product of the first view's weights and the second's turned back | `[k, k]` | orthogonal |
//!
//! # Cost
//! O(n d^2 + d^3) time, O(d^2 + n m) memory.
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`crate::CcaConfig`].
//!
//! # Example
//! A quarter turn is undone exactly:
//! ```
//! use chiasm_align::{MethodConfig, Pairs, ProcrustesConfig, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
//! let x = [1.0, 0.0, 0.0, 2.0, -1.0, -1.0, 0.0, -1.0];
//! let y = [0.0, 1.0, -2.0, 0.0, 1.0, -1.0, 1.0, 0.0];
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 2)?, MatrixView::new(&y, 2)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::Procrustes(ProcrustesConfig::default()).fit(&pairs, &run)?;
//! let a = space.project(0, pairs.views[0])?;
//! let b = space.project(1, pairs.views[1])?;
//! assert!(a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() < 1e-6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Run};
use crate::linalg;
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How the rotation is found.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcrustesConfig {
    /// Done to the rows of each view first; centring follows.
    pub preprocess: [Preprocess; 2],
    /// Principal axes kept of each view at most; never more than the narrower view has.
    pub max_components: usize,
}

impl Default for ProcrustesConfig {
    /// Rows as they come, all axes that both views have.
    fn default() -> Self {
        Self { preprocess: [Preprocess::None; 2], max_components: reduced::MAX_COORDINATES }
    }
}

impl Linear for ProcrustesConfig {
    fn name(&self) -> &'static str {
        "procrustes"
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        let pca_dim = Some(self.max_components);
        let views = self.preprocess.map(|preprocess| ViewConfig { preprocess, pca_dim, ..ViewConfig::default() });
        reduced::check(&views, self.max_components, 0.0)?;
        Ok(views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let axes = |v: usize| reduced.bases[v].ridge(&views[v]).0;
        let k = axes(0).min(axes(1));
        let (a, _, b) = linalg::thin_svd(reduced.cross(0, 1).submatrix(0, 0, k, k))?;
        Ok(Solution::ordered(vec![a, b], vec![1.0; k]))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let [x, y] = self.preprocess.map(Preprocess::describe);
        let all = [("view 0", x), ("view 1", y), ("max_components", self.max_components.to_string())];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists: Vec<Vec<Self>> = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            let mut tried = reduced::each(self, entries, |c, entry| c.preprocess[v] = entry);
            tried.extend(reduced::each(self, &[Preprocess::Unit], |c, entry| c.preprocess[v] = entry));
            lists.push(tried);
        }
        lists.push(reduced::each(self, &reduced::COMPONENTS, |c, k| c.max_components = k));
        reduced::listed(lists, MethodConfig::Procrustes)
    }
}
