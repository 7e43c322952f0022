//! The one list of methods.

use crate::cv::{self, Chosen};
use crate::fit::{FitError, Pairs, Run};
use crate::pipeline::PipelineSpace;
use crate::reduced::Linear;
use crate::{CcaConfig, MccaConfig, PlsConfig, RidgeConfig};

/// A method with its hyper-parameters. The only list of methods.
#[derive(Clone, Debug, PartialEq)]
pub enum MethodConfig {
    /// Canonical correlation analysis of two views.
    Cca(CcaConfig),
    /// Multi-view canonical correlation analysis of two or more views.
    Mcca(MccaConfig),
    /// Partial least squares of two views.
    Pls(PlsConfig),
    /// Ridge regression from one view to the other.
    Ridge(RidgeConfig),
}

impl MethodConfig {
    /// The methods' names. (ConSE learns from no pairs, so it is not among them: [`crate::conse`].)
    pub fn names() -> &'static [&'static str] {
        &["cca", "mcca", "pls", "ridge"]
    }

    /// The method of that name with its default hyper-parameters.
    ///
    /// # Errors
    /// [`FitError::UnknownMethod`].
    pub fn from_name(name: &str) -> Result<Self, FitError> {
        match name {
            "cca" => Ok(MethodConfig::Cca(CcaConfig::default())),
            "mcca" => Ok(MethodConfig::Mcca(MccaConfig::default())),
            "pls" => Ok(MethodConfig::Pls(PlsConfig::default())),
            "ridge" => Ok(MethodConfig::Ridge(RidgeConfig::default())),
            _ => Err(FitError::UnknownMethod { got: name.to_owned() }),
        }
    }

    /// How many views it can take.
    pub fn n_views(&self) -> std::ops::RangeInclusive<usize> {
        match self {
            MethodConfig::Cca(_) | MethodConfig::Pls(_) | MethodConfig::Ridge(_) => 2..=2,
            MethodConfig::Mcca(_) => 2..=usize::MAX,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.linear().name()
    }

    /// Its hyper-parameters by name, for reports.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.linear().parameters()
    }

    /// Fits a space with these hyper-parameters.
    ///
    /// # Errors
    /// [`FitError`]; the method's file says which and when.
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        match self {
            MethodConfig::Cca(config) => config.fit(pairs, run),
            MethodConfig::Mcca(config) => config.fit(pairs, run),
            MethodConfig::Pls(config) => config.fit(pairs, run),
            MethodConfig::Ridge(config) => config.fit(pairs, run),
        }
    }

    /// Chooses the method's hyper-parameters by `folds`-fold cross-validation on the pairs given (groups stay whole), and says
    /// how well the choice did on the rows left out. Fit [`Chosen::config`] on all pairs afterwards.
    ///
    /// # Errors
    /// [`FitError`]; [`FitError::TooFewRows`] for fewer groups than folds.
    pub fn auto(name: &str, pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
        cv::search(Self::from_name(name)?, pairs, folds, run)
    }

    pub(crate) fn linear(&self) -> &dyn Linear {
        match self {
            MethodConfig::Cca(config) => config,
            MethodConfig::Mcca(config) => config,
            MethodConfig::Pls(config) => config,
            MethodConfig::Ridge(config) => config,
        }
    }
}
