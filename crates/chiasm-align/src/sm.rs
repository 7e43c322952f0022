//! Semantic matching: each view goes to the probabilities of the classes, where all views speak of the same.
//!
//! # Reference
//! N. Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM MM 2010, section 4.2; J. Costa Pereira et al., On
//! the Role of Correlation and Abstraction in Cross-Modal Multimedia Retrieval, TPAMI 36, 2014. The logistic regression is checked
//! against scikit-learn 1.9.1 (`reference/align_discriminative_goldens.py`). Differs from the papers in its default similarity, which
//! is [`Similarity::CentredCosine`].
//!
//! # Model
//! x goes to P(class | x) of a multinomial logistic regression; compared by the cosine, or by the cosine after taking off the mean.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X | a view, preprocessed and centred | `[n, d]` | - |
//! | C | [`SmConfig::inverse_penalty`] | - | above 0; weight of the data against `\|W\|^2 / 2` |
//! | P | what the space gives, before unit length | `[n, c]` | 0..=1, sum 1 |
//!
//! # Cost
//! O(steps n d c) time, at most 1,000 steps; O(n d) memory.
//!
//! # Determinism
//! No chance is involved. Coordinate c is class c.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run, SmConfig};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([0.0, 0.1, 1.0, 1.1], [7.0, 7.1, 5.0, 5.1]);
//! let labels = Labels::single(&[0, 0, 1, 1]);
//! let pairs = Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::Sm(SmConfig::default()).fit(&pairs, &run)?;
//! let (a, b) = (space.project(0, MatrixView::new(&[1.0], 1)?)?, space.project(1, MatrixView::new(&[5.0], 1)?)?);
//! assert!(a.row(0)[1] > a.row(0)[0] && b.row(0)[1] > b.row(0)[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::fit::{FitError, Run};
use crate::logistic;
use crate::method::MethodConfig;
use crate::pipeline::Step;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How probabilities of classes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    /// Their cosine.
    Cosine,
    /// Their cosine after taking off 1 / classes ("normalised correlation"): being unsure says nothing.
    CentredCosine,
}

impl Similarity {
    /// What follows the scores of `c` classes.
    pub(crate) fn tail(self, c: usize) -> Vec<Step> {
        match self {
            Similarity::Cosine => vec![Step::Softmax, Step::Unit],
            Similarity::CentredCosine => {
                vec![Step::Softmax, Step::Center { mean: vec![1.0 / c as f32; c] }, Step::Unit]
            }
        }
    }

    pub(crate) fn describe(self) -> String {
        match self {
            Similarity::Cosine => "cosine".to_owned(),
            Similarity::CentredCosine => "centred cosine".to_owned(),
        }
    }
}

/// How semantic matching is done.
#[derive(Clone, Debug, PartialEq)]
pub struct SmConfig {
    /// Preprocessing and principal components of each view; the ridge is not used.
    pub views: [ViewConfig; 2],
    /// Inverse of the penalty on the weights; above 0.
    pub inverse_penalty: f64,
    /// How the probabilities are compared.
    pub similarity: Similarity,
}

impl Default for SmConfig {
    /// Rows as they come, a penalty of 1.
    fn default() -> Self {
        Self { views: [ViewConfig::default(); 2], inverse_penalty: 1.0, similarity: Similarity::CentredCosine }
    }
}

impl Linear for SmConfig {
    fn name(&self) -> &'static str {
        "sm"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, 1, 0.0)?;
        above_zero(self.inverse_penalty)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        usize::MAX
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for (v, config) in views.iter().enumerate() {
            let (w, b) = logistic::fit(reduced.rows(v, config), reduced.labels(), self.inverse_penalty, run)?;
            weights.push(w);
            offsets.push(b);
        }
        let tail = vec![self.similarity.tail(offsets[0].len()); 2];
        Ok(Solution { tail, ..Solution::meaningful(weights, offsets) })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let views = self.views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
        let rest = [("inverse_penalty", self.inverse_penalty.to_string()), ("similarity", self.similarity.describe())];
        views.chain(rest.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.views[v].preprocess = entry));
        }
        lists.push(reduced::each(self, &[0.01, 0.1, 10.0, 100.0], |c, penalty| c.inverse_penalty = penalty));
        let between = [self.inverse_penalty / 3.0, self.inverse_penalty * 3.0];
        lists.push(reduced::each(self, &between, |c, penalty| c.inverse_penalty = penalty));
        reduced::listed(lists, MethodConfig::Sm)
    }
}

/// # Errors
/// [`FitError::Config`].
pub(crate) fn above_zero(inverse_penalty: f64) -> Result<(), FitError> {
    if inverse_penalty > 0.0 && inverse_penalty.is_finite() {
        return Ok(());
    }
    let expected = "a finite number above 0";
    Err(FitError::Config { name: "inverse_penalty", value: inverse_penalty.to_string(), expected })
}
