//! Why a file is refused: each variant says what came, what was expected and the cure.

/// Why a file could not become media.
///
/// The message speaks of the file as such; whoever lists refusals puts the path before it.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The operating system would not give the bytes.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),

    /// A folder, pipe, socket or device where a file is expected.
    #[error("is {found}, expected a regular file")]
    NotAFile {
        /// What the path leads to.
        found: &'static str,
    },

    /// Nothing in it: zero bytes, or a container with no content.
    #[error("is empty: {reason}")]
    Empty {
        /// What is missing.
        reason: &'static str,
    },

    /// More than [`crate::Limits`] allow. Found from a header where the format has one, before memory is taken.
    #[error("{came}, the limit is {limit} {unit}: {cure}, or raise `{option}`")]
    TooLarge {
        /// What the file holds, with its number.
        came: String,
        /// What is allowed.
        limit: u64,
        /// What `limit` counts.
        unit: &'static str,
        /// The way out that changes the file.
        cure: &'static str,
        /// The field of [`crate::Limits`] that refused it.
        option: &'static str,
    },

    /// No format known here.
    #[error("is in no known format (it begins with {begins}): expected {expected}")]
    Unrecognised {
        /// The first bytes, in hexadecimal.
        begins: String,
        /// What would have been read.
        expected: &'static str,
    },

    /// A known format, or a variety of one, that is not decoded here.
    #[error("is {format}, which is not decoded here ({reason}): {cure}")]
    Unsupported {
        /// The format found.
        format: String,
        /// What about it is not supported.
        reason: String,
        /// What to do.
        cure: &'static str,
    },

    /// A format that a program of its own decodes, and that program cannot be started.
    #[error(
        "is {format}, which the program `{program}` decodes, but it cannot be started ({reason}): install ffmpeg, or name it in the variable CHIASM_FFMPEG"
    )]
    NoProgram {
        /// The format found.
        format: &'static str,
        /// The program that was tried.
        program: String,
        /// Why it did not start.
        reason: String,
    },

    /// The bytes break the rules of their own format, or end too soon.
    #[error("is a damaged {format} file ({reason}): copy it again from its source, or save it anew")]
    Damaged {
        /// The format the file claims.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },

    /// A sound or an array holds a value that is not a finite number.
    #[error("holds {came} at {place}, expected finite numbers: remove or replace it")]
    NotFinite {
        /// `NaN`, `inf` or `-inf`.
        came: String,
        /// Where: a sample or an array position.
        place: String,
    },

    /// A cell of a table is no finite number. Rows and columns count from 1; a header is row 1.
    #[error("row {row}, column {column}: `{came}` is no finite decimal number: fill the cell, or remove the row")]
    BadCell {
        /// Row in the file.
        row: u64,
        /// Column in the row.
        column: usize,
        /// What the cell holds, shortened.
        came: String,
    },

    /// A row or line breaks the form of its file. Lines count from 1.
    #[error("line {line}: {reason}")]
    BadLine {
        /// Line in the file.
        line: u64,
        /// What is wrong, and what was expected.
        reason: String,
    },
}

impl MediaError {
    pub(crate) fn damaged(format: &'static str, reason: impl ToString) -> Self {
        // Decoders' own words may be long and hold line breaks.
        MediaError::Damaged { format, reason: excerpt(&reason.to_string(), 200) }
    }
}

/// Shortens what a file holds so that a message stays a line: at most `n_chars`, without line breaks.
pub(crate) fn excerpt(text: &str, n_chars: usize) -> String {
    let mut short: String = text.chars().take(n_chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(n_chars).is_some() {
        short.push('…');
    }
    short
}

/// The first bytes in hexadecimal, for messages about unknown formats.
pub(crate) fn first_bytes(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}
