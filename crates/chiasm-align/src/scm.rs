//! Semantic correlation matching: class probabilities from canonical coordinates, so that both correlation and meaning speak.
//!
//! # Reference
//! N. Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM MM 2010, section 4.3; J. Costa Pereira et al., TPAMI
//! 36, 2014. Its parts are checked as [`crate::cca`] and [`crate::sm`] are. Differs from the papers as [`crate::sm`] does. (The hashing
//! method of the same letters is `scm-seq` and `scm-orth`.)
//!
//! # Model
//! Canonical correlation analysis to k coordinates of unit variance, then on these a multinomial logistic regression for each view;
//! x goes to its class probabilities.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | k | [`ScmConfig::max_components`](field@ScmConfig::max_components) | - | at least 1 |
//! | C | [`ScmConfig::inverse_penalty`] | - | above 0 |
//!
//! # Cost
//! That of [`crate::cca`], and O(steps n k c) time.
//!
//! # Determinism
//! No chance is involved. Coordinate c is class c.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::sm`], which takes the same pairs.

use crate::cca;
use crate::fit::{FitError, Run};
use crate::linalg::product;
use crate::logistic;
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::sm::{Similarity, above_zero};

/// How semantic correlation matching is done.
#[derive(Clone, Debug, PartialEq)]
pub struct ScmConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Canonical pairs kept at most.
    pub max_components: usize,
    /// Inverse of the penalty on the weights; above 0.
    pub inverse_penalty: f64,
    /// How the probabilities are compared.
    pub similarity: Similarity,
}

impl Default for ScmConfig {
    /// Rows as they come, next to no ridge, a penalty of 1.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-3, ..ViewConfig::default() };
        Self { views: [view; 2], max_components: 128, inverse_penalty: 1.0, similarity: Similarity::CentredCosine }
    }
}

impl Linear for ScmConfig {
    fn name(&self) -> &'static str {
        "scm"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, 0.0)?;
        above_zero(self.inverse_penalty)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        usize::MAX
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let canonical = cca::canonical(reduced, views)?;
        let k = canonical.kept(self.max_components);
        if k == 0 {
            return Err(FitError::Unrelated { method: self.name() });
        }
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for (v, config) in views.iter().enumerate() {
            let directions = canonical.weights[v].subcols(0, k);
            let z = product(reduced.rows(v, config), directions);
            let (w, b) = logistic::fit(z.as_ref(), reduced.labels(), self.inverse_penalty, run)?;
            weights.push(product(directions, w.as_ref()));
            offsets.push(b);
        }
        let tail = vec![self.similarity.tail(offsets[0].len()); 2];
        Ok(Solution { tail, ..Solution::meaningful(weights, offsets) })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = reduced::parameters(&self.views, self.max_components, 0.0);
        all.pop();
        let rest = [("inverse_penalty", self.inverse_penalty.to_string()), ("similarity", self.similarity.describe())];
        all.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.views[v].preprocess = entry));
        }
        lists.push(reduced::each(self, &[1e-2, 0.1, 1.0], |c, r| c.views.iter_mut().for_each(|v| v.ridge = r)));
        lists.push(reduced::each(self, &[4, 7, 9, 12, 16, 32, 64], |c, k| c.max_components = k));
        lists.push(reduced::each(self, &[0.01, 0.1, 10.0, 100.0], |c, penalty| c.inverse_penalty = penalty));
        reduced::listed(lists, MethodConfig::Scm)
    }
}
