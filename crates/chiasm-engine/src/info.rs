//! What a library holds, in numbers.

use std::path::PathBuf;

use chiasm_core::Modality;
use serde::Serialize;

use crate::ingest::Refusal;
use crate::{Library, Result, SpaceInfo};

/// Items of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// The kind.
    #[serde(serialize_with = "crate::serial::modality")]
    pub kind: Modality,
    /// Items.
    pub n_items: usize,
    /// Vectors, those of captions left out.
    pub n_segments: usize,
}

/// What a library holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LibraryInfo {
    /// Its folder.
    #[serde(serialize_with = "crate::serial::path")]
    pub dir: PathBuf,
    /// Format of its database.
    pub format: i64,
    /// Counts every change.
    pub generation: i64,
    /// Its space.
    pub space: SpaceInfo,
    /// Contents.
    pub n_items: usize,
    /// Files; more than items when there are copies.
    pub n_paths: usize,
    /// Vectors.
    pub n_segments: usize,
    /// By kind.
    pub kinds: Vec<KindCount>,
    /// Captions beside media.
    pub n_captions: usize,
    /// Files and folders that were indexed.
    #[serde(serialize_with = "crate::serial::paths")]
    pub roots: Vec<PathBuf>,
    /// Files that could not be taken in.
    pub refused: Vec<Refusal>,
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of the derived index, when it is there.
    pub index_bytes: Option<u64>,
}

impl Library {
    /// What the library holds.
    ///
    /// # Errors
    /// [`crate::EngineError::Store`].
    pub fn info(&self) -> Result<LibraryInfo> {
        Err(crate::EngineError::Query("not built yet".to_owned()))
    }
}
