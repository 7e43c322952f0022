use std::path::PathBuf;

use chiasm_align::FitError;
use chiasm_align::parts::SetError;
use chiasm_core::{Cancelled, EncodeError, ProjectError, ShapeError};
use chiasm_encode::OpenError;
use chiasm_eval::features::FeatureError;
use chiasm_media::MediaError;

/// Why a table could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A set is not where it was looked for.
    #[error("there is no {set} in {}: expected {expected}", dir.display())]
    NoSet {
        /// The set.
        set: &'static str,
        /// Where it was looked for.
        dir: PathBuf,
        /// What should stand there.
        expected: &'static str,
    },
    /// A feature file.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// A file of media.
    #[error("{}: {source}", path.display())]
    Media {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MediaError,
    },
    /// A file of a set that cannot be read, or is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An encoder that cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An encoder that refused.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A method that refused.
    #[error("{method} on {task}: {source}")]
    Fit {
        /// The method.
        method: String,
        /// The set.
        task: String,
        /// Why.
        source: FitError,
    },
    /// Rows that cannot be summed.
    #[error(transparent)]
    Sum(FitError),
    /// A row with NaN or an infinity.
    #[error(
        "{found}: row {row}, column {col} is {value}: mend it, or leave such rows out of every view with `--drop-bad-rows`"
    )]
    BadRow {
        /// The file, and what it holds.
        found: String,
        /// Row, from 1.
        row: usize,
        /// Column, from 1.
        col: usize,
        /// What stands there.
        value: f32,
    },
    /// A rival that could not be run, or answered with nonsense.
    #[error("the reference implementations: {reason}")]
    Rival {
        /// Why.
        reason: String,
    },
    /// A space that refused its own data.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// Parts that are no sets.
    #[error(transparent)]
    Sets(#[from] SetError),
    /// Numbers that are no vectors.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The user asked for a stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}
