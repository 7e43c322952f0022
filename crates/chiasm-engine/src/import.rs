//! Ready embeddings as a library.

use std::path::Path;

use chiasm_core::{Metric, Modality, Vectors};

use crate::{EngineError, Library, Result};

/// Vectors that were made elsewhere, of one modality, with a name for each.
#[derive(Clone, Debug)]
pub struct ReadyVectors {
    /// What they stand for.
    pub modality: Modality,
    /// `[n, dim]`; scaled to unit length when the metric is cosine.
    pub vectors: Vectors,
    /// One per row; paths or any names, distinct within the modality. They become the items' paths as they are.
    pub names: Vec<String>,
    /// One per row or empty: what is searched by words and shown as snippet (a caption, a text).
    pub texts: Vec<String>,
}

impl Library {
    /// Makes a library of vectors that were made elsewhere by a dual encoder: its space has the identity for each modality and
    /// no encoders, so it is asked by items and by vectors. All must have the same dimension. An item's content hash is that
    /// of its modality, name and vector.
    ///
    /// # Errors
    /// [`EngineError::Import`] for vectors that do not fit; those of [`Library::create`].
    pub fn import_vectors(dir: &Path, space_name: &str, metric: Metric, ready: &[ReadyVectors]) -> Result<Library> {
        let _ = (dir, space_name, metric, ready);
        Err(EngineError::Import("not built yet".to_owned()))
    }
}
