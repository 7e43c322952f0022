//! Tables of pairs: which picture, words, sound and series belong together.
//!
//! A CSV with a header. Columns `image`, `audio` and `series` hold paths relative to a root; `text`, `caption`, and any column
//! whose name begins with `text_` or `caption_` hold the words themselves. Other columns are left out. Several text columns
//! stand for several texts of the same thing. Lines with the same first path (the five captions of one picture) are one group.

use std::path::{Path, PathBuf};

use chiasm_core::Modality;

use crate::{EngineError, Result};

/// A column of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextColumn {
    /// Its name in the header.
    pub name: String,
    /// One cell per line; empty where the table is.
    pub texts: Vec<String>,
}

/// A table of pairs, read and checked; no file it names has been opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairTable {
    /// Number of lines.
    pub n: usize,
    /// Paths by modality, joined with the root; `None` for an empty cell.
    pub files: Vec<(Modality, Vec<Option<PathBuf>>)>,
    /// Columns of texts.
    pub texts: Vec<TextColumn>,
    /// For each line the thing it shows, numbered from 0 in order of appearance.
    pub groups: Vec<u32>,
    /// Names of columns that were left out.
    pub ignored: Vec<String>,
}

impl PairTable {
    /// Reads a table; paths in it are relative to `root`.
    ///
    /// # Errors
    /// [`EngineError::Pairs`] naming line and column.
    pub fn read(path: &Path, root: &Path) -> Result<PairTable> {
        let _ = root;
        Err(EngineError::Pairs { path: path.to_owned(), place: "line 1".to_owned(), reason: "not built yet".to_owned() })
    }
}
