//! Why a source gives no features.

use std::path::{Path, PathBuf};

/// What is wrong with a source of features or labels.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The file cannot be opened or read.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// Neither the first bytes nor the ending tell a format.
    #[error(
        "{}: no known format ({reason}): expected .mat (v5 or v7.3), HDF5, .npy, .npz, .fvecs, .ivecs, .bvecs, IDX, or a table of text such as .csv",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What stands there.
        reason: String,
    },
    /// The bytes contradict their format, or are cut off.
    #[error("{}: damaged {format} file: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// Well formed, but nothing that can be read as numbers.
    #[error("{}: {what} is not read: {cure}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What stands there.
        what: String,
        /// What to do.
        cure: String,
    },
    /// The file holds nothing of that name.
    #[error("{}: there is no {kind} `{name}`: the file holds {holds}", path.display())]
    NoSuch {
        /// The file.
        path: PathBuf,
        /// Variable, array or column.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        holds: String,
    },
    /// The file holds several things and none was named.
    #[error("{0}: name the {kind} to take, as in `{0}:{example}`: the file holds {holds}", path.display())]
    NotNamed {
        /// The file.
        path: PathBuf,
        /// Variable, array or column.
        kind: &'static str,
        /// One of them.
        example: String,
        /// All of them.
        holds: String,
    },
    /// A shape that cannot be used so.
    #[error("{found}: {reason}")]
    Shape {
        /// What was found, as [`super::Features::found`] has it.
        found: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// Cells or lines of a table that are no row of numbers.
    #[error("{}: {first}{}", path.display(), more(*.n_bad, "lines"))]
    Lines {
        /// The file.
        path: PathBuf,
        /// The first few, each with its line, its column and what stands there.
        first: String,
        /// How many lines are bad in all.
        n_bad: usize,
    },
    /// More than the limits allow.
    #[error("{}: {what} has {came} numbers, the limit is {limit}: {cure}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// How many it has.
        came: u64,
        /// How many are allowed.
        limit: u64,
        /// What to do.
        cure: &'static str,
    },
    /// NaN or infinities where every number must be finite.
    #[error(
        "{found}: row {}, dimension {} is {value}{}: remove these rows from every view, or replace what is missing before saving",
        row + 1, col + 1, more(*.n_bad, "rows")
    )]
    NotFinite {
        /// What was found.
        found: String,
        /// Row of the first offender, from 0.
        row: usize,
        /// Dimension of the first offender, from 0.
        col: usize,
        /// What stands there.
        value: f32,
        /// How many rows hold such a number.
        n_bad: usize,
    },
    /// Values that are no classes.
    #[error("{found}: {reason}")]
    NoLabels {
        /// What was found.
        found: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
}

/// ` (3 such rows in all)`, or nothing where the one shown is the only one.
fn more(n: usize, things: &str) -> String {
    if n < 2 { String::new() } else { format!(" ({n} such {things} in all)") }
}

/// The file and format at hand, for errors.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) path: &'a Path,
    pub(super) format: &'static str,
}

impl At<'_> {
    pub(super) fn io(self, reason: std::io::Error) -> FeatureError {
        FeatureError::Io { path: self.path.to_owned(), reason }
    }

    pub(super) fn damaged(self, reason: impl Into<String>) -> FeatureError {
        FeatureError::Damaged { path: self.path.to_owned(), format: self.format, reason: reason.into() }
    }

    pub(super) fn unsupported(self, what: impl Into<String>, cure: impl Into<String>) -> FeatureError {
        FeatureError::Unsupported { path: self.path.to_owned(), what: what.into(), cure: cure.into() }
    }

    /// Refuses more numbers than `limit`.
    pub(super) fn check(self, what: &str, came: u64, limit: u64) -> Result<(), FeatureError> {
        if came <= limit {
            return Ok(());
        }
        let cure = "split the file, or raise the limit where memory allows";
        Err(FeatureError::TooLarge { path: self.path.to_owned(), what: what.to_owned(), came, limit, cure })
    }

    /// The one variable meant by `name`, or the only one there is.
    pub(super) fn choose(
        self,
        kind: &'static str,
        name: Option<&str>,
        entries: &[super::Entry],
    ) -> Result<usize, FeatureError> {
        let holds = || super::holds(entries);
        match name {
            Some(name) => entries.iter().position(|e| e.name == name).ok_or_else(|| FeatureError::NoSuch {
                path: self.path.to_owned(),
                kind,
                name: name.to_owned(),
                holds: holds(),
            }),
            None if entries.len() == 1 => Ok(0),
            None if entries.is_empty() => Err(self.unsupported("a file that holds nothing", "save the features into it")),
            None => Err(FeatureError::NotNamed {
                path: self.path.to_owned(),
                kind,
                example: entries[0].name.clone(),
                holds: holds(),
            }),
        }
    }
}

/// What stands somewhere, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    let clean: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > 40 { format!("{clean}...") } else { clean }
}
