//! The one list of methods.

use crate::cv::Chosen;
use crate::fit::{FitError, Pairs, Run};
use crate::pipeline::PipelineSpace;
use crate::{CcaConfig, MccaConfig, RidgeConfig};

/// A method with its hyper-parameters. The only list of methods, and the only match over them.
#[derive(Clone, Debug, PartialEq)]
pub enum MethodConfig {
    /// Canonical correlation analysis of two views.
    Cca(CcaConfig),
    /// Multi-view canonical correlation analysis of two or more views.
    Mcca(MccaConfig),
    /// Ridge regression from one view to the other.
    Ridge(RidgeConfig),
}

impl MethodConfig {
    /// The methods' names.
    pub fn names() -> &'static [&'static str] {
        &["cca", "mcca", "ridge"]
    }

    /// The method of that name with its default hyper-parameters, which are those of its paper.
    ///
    /// # Errors
    /// [`FitError::UnknownMethod`].
    pub fn from_name(name: &str) -> Result<Self, FitError> {
        Err(FitError::UnknownMethod { got: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            MethodConfig::Cca(_) => "cca",
            MethodConfig::Mcca(_) => "mcca",
            MethodConfig::Ridge(_) => "ridge",
        }
    }

    /// Its hyper-parameters by name, for reports.
    pub fn parameters(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Fits a space with these hyper-parameters.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        match self {
            MethodConfig::Cca(config) => config.fit(pairs, run),
            MethodConfig::Mcca(config) => config.fit(pairs, run),
            MethodConfig::Ridge(config) => config.fit(pairs, run),
        }
    }

    /// Chooses the method's hyper-parameters by `folds`-fold cross-validation on the pairs given (groups stay whole), and says
    /// how well the choice did on the rows left out. Fit [`Chosen::config`] on all pairs afterwards.
    ///
    /// # Errors
    /// [`FitError`]; [`FitError::TooFewRows`] for fewer groups than folds.
    pub fn auto(name: &str, pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
        let _ = (pairs, folds, run);
        Err(FitError::UnknownMethod { got: name.to_owned() })
    }
}
