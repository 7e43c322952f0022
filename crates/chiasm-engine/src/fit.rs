//! Learning a space from pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chiasm_core::{Cancel, Modality, Progress};
use chiasm_encode::ModelDirs;
use serde::{Deserialize, Serialize};

use crate::{EngineError, Result, Space};

/// Which part of a class's name is embedded: ImageNet's are lists such as `tench, Tinca tinca`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassNames {
    /// The mean of all synonyms' vectors.
    #[default]
    AllSynonyms,
    /// The first synonym.
    First,
    /// The list as it stands.
    Whole,
}

/// What to learn.
#[derive(Clone, Debug, Default)]
pub struct FitRequest {
    /// Name of the space.
    pub name: String,
    /// Encoder by modality, as `chiasm model list` names them, or paths.
    pub encoders: BTreeMap<Modality, String>,
    /// `cca`, `mcca`, `ridge`, or `conse`, which needs no pairs.
    pub method: String,
    /// The table of pairs, see [`crate::PairTable`]; for `conse` alone it may be absent.
    pub pairs: Option<PathBuf>,
    /// Where the table's paths begin.
    pub root: PathBuf,
    /// Folds of the cross-validation that chooses hyper-parameters and measures the space. Default 5.
    pub folds: Option<usize>,
    /// Decides every random choice.
    pub seed: u64,
    /// How the names of classes are embedded.
    pub class_names: ClassNames,
}

/// How well one kind finds another among rows that were left out of the fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldFigures {
    /// Kind of the queries.
    #[serde(serialize_with = "crate::serial::modality", deserialize_with = "crate::serial::modality_from")]
    pub query: Modality,
    /// Kind of the answers.
    #[serde(serialize_with = "crate::serial::modality", deserialize_with = "crate::serial::modality_from")]
    pub item: Modality,
    /// Share of queries, 0..=1, whose right answer comes first.
    pub r_at_1: f64,
    /// ... among the first five.
    pub r_at_5: f64,
    /// ... among the first ten.
    pub r_at_10: f64,
    /// Queries over all folds.
    pub n_queries: usize,
    /// Things among which each was searched, the mean over folds.
    pub n_gallery: f64,
}

/// How a space came about; kept in its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// The method.
    pub method: String,
    /// Rows it was fitted on: each text with what it belongs to.
    pub n_pairs: usize,
    /// Distinct things among them.
    pub n_groups: usize,
    /// Lines that could not be used, by reason.
    pub dropped: Vec<(String, usize)>,
    /// The hyper-parameters, those chosen and those by default.
    pub parameters: Vec<(String, String)>,
    /// Folds of the cross-validation; 0 when there was none.
    pub n_folds: usize,
    /// Figures on left-out rows. They chose the hyper-parameters too, so they flatter a little.
    pub figures: Vec<FoldFigures>,
    /// Every configuration tried with its mean of R@1, R@5 and R@10 over all directions.
    pub tried: Vec<(String, f64)>,
    /// What each view is, in words: `image: mobilenet_v2`, `audio: yamnet:classes, through text`.
    pub views: Vec<String>,
    /// Canonical correlations, or what the method has in their place, greatest first.
    pub correlations: Vec<f32>,
    /// Seconds.
    pub wall_s: f64,
}

/// A fitted space and how it came about.
#[derive(Debug)]
pub struct FitOutcome {
    /// The space.
    pub space: Space,
    /// Also in the space's file.
    pub report: FitReport,
}

/// Learns a space. A modality with an encoder but without a column in the table joins *through text*: its encoder gives
/// probabilities of named classes, and it stands where the names of its likeliest classes stand (ConSE).
///
/// # Errors
/// [`EngineError::FitRequest`], [`EngineError::Pairs`], [`EngineError::Model`], [`EngineError::Media`],
/// [`EngineError::Encode`], [`EngineError::Fit`], [`EngineError::Cancelled`].
pub fn fit_space(request: &FitRequest, models: &ModelDirs, progress: &dyn Progress, cancel: &Cancel) -> Result<FitOutcome> {
    let _ = (request, models, progress, cancel);
    Err(EngineError::FitRequest("not built yet".to_owned()))
}
