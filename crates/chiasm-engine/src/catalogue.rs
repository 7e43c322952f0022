//! What the catalogue says of an item.

use std::path::PathBuf;

use chiasm_core::Modality;
use serde::{Deserialize, Serialize};

/// What is known of a file besides its content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemMetadata {
    /// What the content was decoded as (`png`, `wav`, ...); `imported` for ready vectors.
    pub format: String,
    /// Bytes.
    pub size: u64,
    /// Pixels across.
    pub width: Option<u32>,
    /// Pixels down.
    pub height: Option<u32>,
    /// Seconds.
    pub duration_s: Option<f64>,
    /// When it was taken, ISO 8601, as the file says.
    pub taken: Option<String>,
    /// Degrees north, -90..=90.
    pub latitude: Option<f64>,
    /// Degrees east, -180..=180.
    pub longitude: Option<f64>,
}

/// One content, wherever it lies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// Its number in this library; kept when the file moves, never used again after the item is gone.
    pub id: i64,
    /// What it is.
    #[serde(serialize_with = "crate::serial::modality")]
    pub kind: Modality,
    /// BLAKE3 of its bytes, hexadecimal.
    pub hash: String,
    /// Where it lies, in byte order; several for copies.
    #[serde(serialize_with = "crate::serial::paths")]
    pub paths: Vec<PathBuf>,
    /// What is known of it.
    pub metadata: ItemMetadata,
    /// How many vectors stand for it.
    pub n_segments: usize,
    /// The beginning of its text or of its caption.
    pub snippet: Option<String>,
}
