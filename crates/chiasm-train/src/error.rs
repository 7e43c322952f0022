//! What can go wrong.

use std::io;
use std::path::PathBuf;

use chiasm_core::Cancelled;
use chiasm_encode::OpenError;

/// Why a training could not be done.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A description of a training that cannot be followed.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What came and what was expected.
        reason: String,
    },
    /// Data that cannot be learned from.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What came and what was expected.
        reason: String,
    },
    /// A file that could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder holds another training.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder or the file in it.
        path: PathBuf,
        /// What is there, and the cure.
        reason: String,
    },
    /// The loss is no number any more.
    #[error(
        "the loss of step {step} is no number: a lower rate, a longer warm-up or a smaller clip may help; the last checkpoint is untouched"
    )]
    NotFinite {
        /// The step.
        step: usize,
    },
    /// The description of the model does not hold together.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was stopped; `--resume` goes on.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What everything here gives.
pub type Result<T> = std::result::Result<T, TrainError>;

/// For `map_err` of what reads and writes files.
pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io { doing, path, source }
}
