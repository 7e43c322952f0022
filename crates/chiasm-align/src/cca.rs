//! CCA.
use crate::fit::{FitError, Pairs, Run};
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;

/// How canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct CcaConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Canonical pairs kept at most; fewer where the views' ranks allow fewer.
    pub max_components: usize,
    /// Each canonical coordinate is multiplied by its correlation to this power before the rows are scaled to unit length; at
    /// least 0. 0 is the classical method, 1 and 4 are in use for retrieval.
    pub correlation_power: f64,
}

impl CcaConfig {
    /// Fits a space of two views.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(&self, pairs: &Pairs<'_>, _run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        pairs.check("cca", 2..=2)?;
        Err(FitError::Numeric { what: "cca" })
    }
}
