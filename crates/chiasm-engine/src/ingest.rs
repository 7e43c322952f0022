//! Folders into the library.

use std::path::PathBuf;

use chiasm_core::{Cancel, Progress};
use chiasm_media::{Cut, Limits};
use serde::Serialize;

use crate::{EngineError, Library, Result};

/// How folders are taken in.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// How much one file may ask for.
    pub limits: Limits,
    /// How long media are cut.
    pub cut: Cut,
    /// Whether `photo.txt` and `photo.jpg.txt` beside `photo.jpg` are its caption (default) or texts of their own.
    pub captions: bool,
    /// Whether to wait for another writer to end instead of failing with [`EngineError::Locked`].
    pub wait: bool,
    /// Whether to read every file anew even when its size and time say that it has not changed.
    pub reread: bool,
    /// Bytes of decoded media that may wait for the encoder at any moment. Default 256 MiB.
    pub max_waiting_bytes: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        IndexOptions {
            limits: Limits::default(),
            cut: Cut::default(),
            captions: true,
            wait: false,
            reread: false,
            max_waiting_bytes: 256 << 20,
        }
    }
}

/// A file that could not be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file or folder.
    #[serde(serialize_with = "crate::serial::path")]
    pub path: PathBuf,
    /// Why, and what to do.
    pub reason: String,
}

/// Files that were left out on purpose, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Why: `hidden`, `not media: .xyz`, `no audio view in this space`, ...
    pub reason: String,
    /// How many.
    pub n: usize,
}

/// What an indexing did. Every file seen is counted in exactly one of `n_new`, `n_updated`, `n_unchanged`, `n_moved`,
/// `n_copies`, `n_captions`, `refused`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IndexReport {
    /// Media files and captions found.
    pub n_seen: usize,
    /// Files with contents that the library did not have.
    pub n_new: usize,
    /// Files whose content changed, taken in anew.
    pub n_updated: usize,
    /// Files that are as they were.
    pub n_unchanged: usize,
    /// Files that lie elsewhere than before; no embedding was made.
    pub n_moved: usize,
    /// Further copies of contents that the library has; no embedding was made.
    pub n_copies: usize,
    /// Captions beside media files, new, changed or as they were.
    pub n_captions: usize,
    /// Items that left the library, since none of their files is there any more.
    pub n_removed: usize,
    /// Vectors that were made.
    pub n_segments: usize,
    /// Files and folders that could not be read, each with its reason, in byte order of their paths; also those known from
    /// before that have not changed.
    pub refused: Vec<Refusal>,
    /// Files that were left out on purpose.
    pub skipped: Vec<Skipped>,
    /// What a user should know of files that were taken in: path and note.
    pub notes: Vec<Refusal>,
    /// Whether the run was stopped on request; what it had finished is stored.
    pub cancelled: bool,
    /// Seconds from start to end.
    pub wall_s: f64,
}

impl Library {
    /// Brings the library up to date with files and folders: new and changed files are embedded and stored, moved ones keep
    /// their item, contents whose files are gone from under `roots` leave. One transaction per batch: whatever ends the run
    /// early, whole batches are there and the next run does the rest.
    ///
    /// `progress` hears of two stages, `look` (no total known) and `index` (total: files). Stopped by `cancel` between two
    /// batches: the report says so and is no error.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::Io`] for a root that is not there, [`EngineError::DiskFull`],
    /// [`EngineError::Model`], [`EngineError::NoEncoder`]. Files at fault are no error: they are in [`IndexReport::refused`].
    pub fn index(
        &self,
        roots: &[PathBuf],
        options: &IndexOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<IndexReport> {
        let _ = (roots, options, progress, cancel);
        Err(EngineError::Query("index is not built yet".to_owned()))
    }
}
