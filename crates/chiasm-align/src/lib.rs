//! Bridges between modalities: one file per method.
//!
//! A method learns from [`Pairs`] (row `i` of every view belongs together) and gives a [`PipelineSpace`]: for each view a list
//! of row-wise [`Step`]s that ends where all views meet. That is the only type that is stored, so a new method needs no new
//! file format. [`MethodConfig`] is the one list of methods; [`MethodConfig::auto`] chooses a method's hyper-parameters by
//! cross-validation on the pairs it is given.
//!
//! Fitting is in f64 and gives the same numbers whatever the count of threads; projecting is in f32 and gives a row the same
//! numbers whatever stands in its batch.

#![forbid(unsafe_code)]

pub mod cca;
pub mod conse;
mod cv;
mod fit;
#[cfg(test)]
mod goldens;
mod linalg;
pub mod mcca;
mod method;
mod pipeline;
pub mod pls;
mod preprocess;
mod reduced;
pub mod ridge;

pub use cca::CcaConfig;
pub use cv::{Chosen, Direction, Figures, Tried, cross_validate, evaluate};
pub use fit::{FitError, Pairs, Run};
pub use mcca::MccaConfig;
pub use method::MethodConfig;
pub use pipeline::{About, PipelineError, PipelineSpace, Step, View};
pub use pls::PlsConfig;
pub use preprocess::{Preprocess, ViewConfig};
pub use ridge::RidgeConfig;
