//! Generalised multiview linear discriminant analysis: classes apart within each view, and class means together across views.
//!
//! # Reference
//! A. Sharma, A. Kumar, H. Daume III, D. W. Jacobs, Generalized Multiview Analysis: A Discriminative Latent Space, CVPR 2012, section
//! 4.1. Checked against scipy's generalised eigenproblem (`reference/align_discriminative_goldens.py`). Differs from the paper in the
//! units of alpha, which here count in each view's own spread, and in the power of the eigenvalue by which a coordinate is weighted.
//!
//! # Model
//! A = sum_c n_c m_c m_c' (between), B = X'X - A (within) + ridge, Z = sum_c n_c m_c1 m_c2' over class means, or X'Y over the pairs;
//! solved together as in `gma.rs`.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X | `pairs.views`, preprocessed, centred, in principal axes | `[n, m]` | - |
//! | alpha | [`GmldaConfig::alpha`] | - | at least 0; 0 gives two separate LDAs |
//! | regularisation | [`crate::ViewConfig::ridge`], relative to the mean of B's diagonal | - | at least 0 |
//!
//! # Cost
//! O(n d^2 + (m0 + m1)^3) time, O(d^2 + n m) memory.
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
use crate::gma::{self, Gma};
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::{Scatters, scatters};

/// What couples the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coupling {
    /// The means of the classes.
    ClassMeans,
    /// The pairs themselves.
    Pairs,
}

impl Coupling {
    pub(crate) fn describe(self) -> String {
        match self {
            Coupling::ClassMeans => "class means".to_owned(),
            Coupling::Pairs => "pairs".to_owned(),
        }
    }
}

/// How GMLDA is done.
#[derive(Clone, Debug, PartialEq)]
pub struct GmldaConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// How much being together across views counts against being apart within each; at least 0.
    pub alpha: f64,
    /// What couples the views.
    pub coupling: Coupling,
    /// Coordinates kept at most.
    pub max_components: usize,
    /// Each coordinate is multiplied by its eigenvalue, relative to the first, to this power; at least 0, which is the paper's.
    pub eigenvalue_power: f64,
}

impl Default for GmldaConfig {
    /// Rows as they come, class means coupled strongly.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
        Self { views: [view; 2], alpha: 100.0, coupling: Coupling::ClassMeans, max_components: 128, eigenvalue_power: 0.5 }
    }
}

impl Linear for GmldaConfig {
    fn name(&self) -> &'static str {
        "gmlda"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, self.eigenvalue_power)?;
        reduced::at_least_zero("alpha", self.alpha)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn correlation_power(&self) -> f64 {
        self.eigenvalue_power
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let of = |v: usize| scatters(reduced.rows(v, &views[v]), reduced.labels(), reduced.classes(), v);
        let sides = [of(0), of(1)];
        let z = coupled(self.coupling, reduced, views, &sides);
        let within = |s: &Scatters| &s.total - &s.between;
        let [x, y] = sides;
        let b = [within(&x), within(&y)];
        let (values, weights) =
            Gma::balanced([x.between, y.between], b, z, self.alpha, [views[0].ridge, views[1].ridge]).solve()?;
        Ok(Solution::ordered(weights, gma::relative(&values)))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = reduced::parameters(&self.views, self.max_components, self.eigenvalue_power);
        if let Some((name, _)) = all.last_mut() {
            *name = "eigenvalue_power".to_owned();
        }
        all.push(("alpha".to_owned(), self.alpha.to_string()));
        all.push(("coupling".to_owned(), self.coupling.describe()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = reduced::view_neighbours(self, entries, |c| &mut c.views);
        lists.push(reduced::each(self, &[1.0, 10.0, 1e3, 1e4], |c, alpha| c.alpha = alpha));
        lists.push(reduced::each(self, &[Coupling::ClassMeans, Coupling::Pairs], |c, z| c.coupling = z));
        lists.push(reduced::each(self, &[4, 6, 9, 12, 18, 32, 64], |c, k| c.max_components = k));
        lists.push(reduced::each(self, &[0.0, 0.5, 1.0], |c, p| c.eigenvalue_power = p));
        reduced::listed(lists, MethodConfig::Gmlda)
    }
}

/// The matrix that couples two views, `[m0, m1]`.
pub(crate) fn coupled(coupling: Coupling, reduced: &Reduced, views: &[ViewConfig], sides: &[Scatters; 2]) -> Mat {
    match coupling {
        Coupling::ClassMeans => {
            let mut weighted = sides[0].means.clone();
            crate::linalg::scale_rows(&mut weighted, &reduced.classes().counts);
            product(weighted.transpose(), sides[1].means.as_ref())
        }
        Coupling::Pairs => product(reduced.rows(0, &views[0]).transpose(), reduced.rows(1, &views[1])),
    }
}
