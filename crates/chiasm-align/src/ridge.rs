//! Ridge.
use crate::fit::{FitError, Pairs, Run};
use crate::pipeline::PipelineSpace;
use crate::preprocess::Preprocess;

/// How a ridge regression from one view to the other is done.
#[derive(Clone, Debug, PartialEq)]
pub struct RidgeConfig {
    /// The view that is carried over, 0 or 1; the other stays (centred) where it is.
    pub from: usize,
    /// Done to the rows of the view carried over.
    pub preprocess: Preprocess,
    /// Ridge relative to that view's mean variance, as in [`crate::ViewConfig::ridge`].
    pub ridge: f64,
}

impl RidgeConfig {
    /// Fits a space of two views.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(&self, pairs: &Pairs<'_>, _run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        pairs.check("ridge", 2..=2)?;
        Err(FitError::Numeric { what: "ridge" })
    }
}
