//! Cross-validation by groups, and the retrieval figures of rows left out.

use crate::fit::{FitError, Pairs, Run};
use crate::method::MethodConfig;
use crate::pipeline::PipelineSpace;

/// How well rows of one view find those of another, as fractions of the queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// View of the queries.
    pub from: usize,
    /// View of the gallery.
    pub to: usize,
    /// Queries for which a right answer comes first.
    pub r1: f64,
    /// ... is among the first five.
    pub r5: f64,
    /// ... is among the first ten.
    pub r10: f64,
    /// Number of queries, over all folds.
    pub n_queries: usize,
    /// Number of distinct things in the gallery; the mean over the folds.
    pub n_gallery: f64,
}

/// Retrieval figures in every direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Every ordered pair of views: 0 to 1, 1 to 0, ...
    pub directions: Vec<Direction>,
}

impl Figures {
    /// Mean of R@1, R@5 and R@10 over all directions, 0 to 1: what hyper-parameters are chosen by.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.directions.iter().map(|d| (d.r1 + d.r5 + d.r10) / 3.0).sum();
        sum / self.directions.len() as f64
    }
}

/// One configuration with the figures it reached on rows left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The configuration.
    pub config: MethodConfig,
    /// What it reached, each fold's rows by a space fitted on the other folds.
    pub figures: Figures,
}

/// What cross-validation chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The best configuration.
    pub config: MethodConfig,
    /// Its figures on rows left out. Being the best of those tried they flatter a little.
    pub figures: Figures,
    /// Number of folds.
    pub n_folds: usize,
    /// All that were tried, in order.
    pub tried: Vec<Tried>,
}

/// Tries each configuration by k-fold cross-validation.
///
/// # Errors
/// [`FitError`].
pub fn cross_validate(grid: &[MethodConfig], pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
    let _ = (grid, pairs, folds, run);
    Err(FitError::Numeric { what: "cross-validation" })
}

/// Retrieval figures of a fitted space on pairs it has not seen.
///
/// # Errors
/// [`FitError`].
pub fn evaluate(space: &PipelineSpace, pairs: &Pairs<'_>) -> Result<Figures, FitError> {
    let _ = (space, pairs);
    Err(FitError::Numeric { what: "evaluation" })
}
