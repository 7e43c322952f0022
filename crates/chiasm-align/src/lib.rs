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

pub mod adapter;
mod basis;
pub mod cca;
pub mod cca3v;
pub mod cluster_cca;
pub mod cmfh;
pub mod cmssh;
pub mod conse;
mod course;
mod cv;
pub mod cvh;
pub mod dch;
pub mod deep;
mod draft;
mod fit;
pub mod fsh;
pub mod gcca;
mod gma;
pub mod gmlda;
pub mod gmmfa;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod goldens_hashing;
pub mod graphs;
pub mod hadamard;
mod hashing;
pub mod imh;
pub mod jfssl;
pub mod kcca;
pub mod kernel;
mod kmeans;
pub mod label_ridge;
mod lbfgs;
pub mod lcfs;
mod linalg;
mod logistic;
pub mod mcca;
mod method;
pub mod moments;
pub mod mvda;
pub mod online;
pub mod parts;
mod pipeline;
pub mod pls;
mod preprocess;
pub mod procrustes;
mod reduced;
pub mod ridge;
pub mod scm;
pub mod scm_hash;
pub mod seph;
pub mod sm;
pub mod ssh;
mod supervised;

pub use cca::CcaConfig;
pub use cca3v::Cca3vConfig;
pub use cluster_cca::ClusterCcaConfig;
pub use cmfh::CmfhConfig;
pub use cmssh::CmsshConfig;
pub use cv::{Chosen, Direction, Figures, Tried, cross_validate, evaluate};
pub use cvh::CvhConfig;
pub use dch::DchConfig;
pub use draft::{Draft, FolderDraft, Part};
pub use fit::{FitError, Pairs, Run};
pub use fsh::FshConfig;
pub use gcca::GccaConfig;
pub use gmlda::{Coupling, GmldaConfig};
pub use gmmfa::GmmfaConfig;
pub use hadamard::HadamardConfig;
pub use imh::ImhConfig;
pub use jfssl::JfsslConfig;
pub use kcca::KccaConfig;
pub use kernel::Kernel;
pub use label_ridge::LabelRidgeConfig;
pub use lcfs::LcfsConfig;
pub use mcca::MccaConfig;
pub use method::MethodConfig;
pub use moments::Moments;
pub use mvda::MvdaConfig;
pub use online::OnlineHashing;
pub use pipeline::{About, Beside, PipelineError, PipelineSpace, Step, View};
pub use pls::PlsConfig;
pub use preprocess::{Anchors, KernelConfig, KernelRole, Preprocess, ViewConfig};
pub use procrustes::ProcrustesConfig;
pub use reduced::Fitted;
pub use ridge::RidgeConfig;
pub use scm::ScmConfig;
pub use scm_hash::{ScmBits, ScmHashConfig};
pub use seph::{DatabaseCodes, SephConfig};
pub use sm::{Similarity, SmConfig};
pub use ssh::SshConfig;
