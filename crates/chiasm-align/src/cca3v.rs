//! Three-view canonical correlation analysis: the labels are the third view.
//!
//! # Reference
//! Y. Gong, Q. Ke, M. Isard, S. Lazebnik, A Multi-View Embedding Space for Modeling Internet Images, Tags, and Their Semantics,
//! IJCV 106, 2014, eq. (1)-(4). Checked against scipy's generalised eigenproblem and cca-zoo 4.0.1 `MCCA` with one-hot labels
//! (`reference/align_subspace_goldens.py`). Differs from the paper in the power's being chosen like any hyper-parameter (there 4).
//!
//! # Model
//! S w = lambda D w, S the covariance of [X, Y, L], D its diagonal blocks plus ridge; x goes to x W_x diag(lambda^p), at unit length.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X, Y | `pairs.views`, preprocessed and centred | `[n, d]` | - |
//! | L | `pairs.labels`, 1 for each class of a row, centred; rows of no class at the mean | `[n, c]` | - |
//! | lambda | `1 + 2` [`crate::About::correlations`] | `[k]` | 1..=3 |
//! | p | [`Cca3vConfig::eigenvalue_power`] | - | at least 0 |
//!
//! # Cost
//! O(n d^2 + (dx + dy + c)^3) time, O(d^2 + n m) memory.
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
use crate::supervised::mean_diagonal;

/// How three-view CCA is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Cca3vConfig {
    /// Preprocessing, principal components and ridge of the two views.
    pub views: [ViewConfig; 2],
    /// Ridge of the labels, relative to their mean variance; at least 0.
    pub label_ridge: f64,
    /// Coordinates kept at most; more than the classes less one carry no class.
    pub max_components: usize,
    /// Each coordinate is multiplied by its eigenvalue to this power; at least 0.
    pub eigenvalue_power: f64,
}

impl Default for Cca3vConfig {
    /// Rows as they come, the paper's power.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
        Self { views: [view; 2], label_ridge: 1e-2, max_components: 128, eigenvalue_power: 4.0 }
    }
}

impl Linear for Cca3vConfig {
    fn name(&self) -> &'static str {
        "cca-3v"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, self.eigenvalue_power)?;
        reduced::at_least_zero("label_ridge", self.label_ridge)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let classes = reduced.classes();
        let (divisor, n_labelled) = (reduced.n() as f64 - 1.0, classes.n_labelled as f64);
        // Labelled rows about their mean, the others at it.
        let share = |class: usize| classes.counts[class] / n_labelled;
        let n_classes = classes.counts.len();
        let own =
            Mat::from_fn(n_classes, n_classes, |a, b| (classes.together[(a, b)] - n_labelled * share(a) * share(b)) / divisor);
        let label_whitener = linalg::whitener(own.as_ref(), self.label_ridge * mean_diagonal(&own))?;
        let whitening = reduced.whitening(views);
        let width = |v: usize| whitening[v].len();
        let mut blocks = linalg::Blocks::new(vec![width(0), width(1), label_whitener.ncols()]);
        let mut between = reduced.cross(0, 1).submatrix(0, 0, width(0), width(1)).to_owned();
        linalg::scale_rows(&mut between, &whitening[0]);
        linalg::scale_cols(&mut between, &whitening[1]);
        blocks.set(0, 1, between.as_ref());
        for v in 0..2 {
            let mut with_labels = Mat::from_fn(width(v), n_classes, |i, class| {
                classes.sums[v][(class, i)] - classes.labelled_sums[v][i] * share(class)
            });
            linalg::scale_rows(&mut with_labels, &whitening[v].iter().map(|w| w / divisor).collect::<Vec<_>>());
            blocks.set(v, 2, product(with_labels.as_ref(), label_whitener.as_ref()).as_ref());
        }
        let (values, vectors) = blocks.eigen()?;
        // With nothing on the diagonal these are the eigenvalues less 1.
        let k = values.iter().take(self.max_components).take_while(|value| **value > 1e-12).count();
        let factors: Vec<f64> = values[..k].iter().map(|value| (1.0 + value).powf(self.eigenvalue_power)).collect();
        // Only ratios matter to a cosine; large powers stay in the range of f32.
        let greatest = factors.first().copied().unwrap_or(1.0);
        let weights = (0..2)
            .map(|v| {
                let mut w = vectors[v].subcols(0, k).to_owned();
                linalg::scale_rows(&mut w, &whitening[v]);
                linalg::scale_cols(&mut w, &factors.iter().map(|f| f / greatest).collect::<Vec<_>>());
                w
            })
            .collect();
        Ok(Solution::correlated(weights, values[..k].iter().map(|value| (value / 2.0).min(1.0)).collect()))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = reduced::parameters(&self.views, self.max_components, self.eigenvalue_power);
        if let Some((name, _)) = all.last_mut() {
            *name = "eigenvalue_power".to_owned();
        }
        all.push(("label_ridge".to_owned(), self.label_ridge.to_string()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = reduced::view_neighbours(self, entries, |c| &mut c.views);
        lists.push(reduced::each(self, &[4, 6, 9, 12, 16, 32, 64, 128], |c, k| c.max_components = k));
        lists.push(reduced::each(self, &[0.0, 1.0, 2.0, 4.0, 8.0], |c, p| c.eigenvalue_power = p));
        lists.push(reduced::each(self, &[1e-3, 0.1, 1.0], |c, r| c.label_ridge = r));
        reduced::listed(lists, MethodConfig::Cca3v)
    }
}
