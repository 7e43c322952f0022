//! Every way in which the engine may refuse, with the thing named, what came, what was expected, and the cure.

use std::path::{Path, PathBuf};

use chiasm_align::{FitError, PipelineError};
use chiasm_core::{Cancelled, EncodeError, Modality, ProjectError, SearchError, ShapeError};
use chiasm_encode::OpenError;
use chiasm_media::MediaError;

/// Why a filter such as `kind = image` could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, character {}: {message}", at + 1)]
pub struct FilterError {
    /// Characters before the place at fault.
    pub at: usize,
    /// What came there and what was expected.
    pub message: String,
}

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file or folder that could not be read or written.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// What was being done to it.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database refused or is damaged.
    #[error("library {}: {doing}: {source}", library.display())]
    Store {
        /// What was being done.
        doing: &'static str,
        /// The library's folder.
        library: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The disk is full; all that was reported as stored is still there.
    #[error("library {}: the disk is full: free some space and index again, what was reported as stored is kept", library.display())]
    DiskFull {
        /// The library's folder.
        library: PathBuf,
    },
    /// There is no library where one was expected.
    #[error("there is no library at {}: make one with `chiasm index DIR --space FILE`, or name another with `--library`", path.display())]
    NoLibrary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is one already.
    #[error("{} is a library already: open it, or delete that folder first", path.display())]
    LibraryExists {
        /// Where.
        path: PathBuf,
    },
    /// A folder that holds something else, or is damaged.
    #[error("{} is no chiasm library: {reason}", path.display())]
    NotALibrary {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a later program.
    #[error("library {} has format {found}, this program reads up to {supported}: use a newer chiasm", path.display())]
    LibraryVersion {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known here.
        supported: i64,
    },
    /// Another process is writing.
    #[error("library {} is being written by {}: wait for it to end, or pass `--wait`", path.display(), named(*.holder))]
    Locked {
        /// The library's folder.
        path: PathBuf,
        /// Process number of the writer, when it could be read.
        holder: Option<u32>,
    },
    /// Vectors or a space other than the library's own.
    #[error(
        "the library was built in the space {library}, this {what} is of the space {got}: vectors of two spaces cannot be \
         compared; use the library's own space, add a lane with `chiasm index --add-lane`, or build a second library with `--library`"
    )]
    ForeignSpace {
        /// What came from elsewhere.
        what: &'static str,
        /// Fingerprint of the library's space.
        library: String,
        /// Fingerprint of what came.
        got: String,
    },
    /// A second lane of one space.
    #[error("the library has a lane of the space {fingerprint} already, `{name}`: each model needs but one")]
    LaneExists {
        /// The lane that is there.
        name: String,
        /// Its space.
        fingerprint: String,
    },
    /// A lane that is not there.
    #[error("the library has no lane `{name}`: it has {}", has.join(", "))]
    NoSuchLane {
        /// What was asked for.
        name: String,
        /// What there is.
        has: Vec<String>,
    },
    /// Another process has added a lane.
    #[error("library {} has got other lanes since it was opened: open it again", path.display())]
    LanesChanged {
        /// The library's folder.
        path: PathBuf,
    },
    /// The encoder found is not the one the space was fitted on.
    #[error(
        "the {modality} view of the space needs the encoder `{name}` with fingerprint {expected}, the one found has {got}: \
         give the folder of the original model with `--models`, or fit the space again"
    )]
    ForeignEncoder {
        /// The view.
        modality: Modality,
        /// Name of the encoder.
        name: String,
        /// What the space was fitted on.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A space file that is damaged or something else.
    #[error("{} is no usable space: {reason}", path.display())]
    SpaceFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A modality that the space knows nothing of.
    #[error("the space `{space}` has no view for {modality}, only for {}: fit one with an encoder for it", list(has))]
    NoView {
        /// Name of the space.
        space: String,
        /// What was asked for.
        modality: Modality,
        /// What there is.
        has: Vec<Modality>,
    },
    /// A view whose vectors came ready made.
    #[error(
        "the {modality} vectors of this library were imported, so nothing new can be encoded: ask by an item or by a vector"
    )]
    NoEncoder {
        /// The view.
        modality: Modality,
    },
    /// A model could not be opened.
    #[error(transparent)]
    Model(#[from] OpenError),
    /// Media could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Embeddings could not be projected.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The index of cells could not be made; what is stored is whole, and searches scan.
    #[error("cannot make the cells of the index: {reason}")]
    Cells {
        /// What is wrong.
        reason: String,
    },
    /// Numbers that are no matrix of finite values.
    #[error("{what}: {source}")]
    Numbers {
        /// Whose numbers.
        what: String,
        /// What is wrong.
        source: ShapeError,
    },
    /// A file could not be decoded.
    #[error("{}: {source}", path.display())]
    Media {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MediaError,
    },
    /// The fit failed.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The steps of a fitted space do not fit together.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A fit was asked for that makes no sense.
    #[error("{0}")]
    FitRequest(String),
    /// A table of pairs that cannot be used.
    #[error("{}, {place}: {reason}", path.display())]
    Pairs {
        /// The table.
        path: PathBuf,
        /// Line or column.
        place: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// A filter that cannot be understood.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A query that asks for nothing, or for what this library cannot answer.
    #[error("{0}")]
    Query(String),
    /// Several parts where closeness does not add up.
    #[error("a library of metric l2 takes one part at a time, since distances to several points do not add up: ask in turn")]
    OneAtATime,
    /// The index did not take the query.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// No item of that path or number.
    #[error(
        "nothing in the library is called `{0}`: give the path of an indexed file, or an item's number as `chiasm search --json` prints it"
    )]
    NoSuchItem(String),
    /// An item none of whose files can be read any more.
    #[error("item {item} cannot be looked at: {reason}")]
    ItemFile {
        /// The item.
        item: i64,
        /// What is the matter with the last of its files.
        reason: String,
    },
    /// A tag that cannot be kept.
    #[error("the tag `{tag}` cannot be kept: {reason}")]
    Tag {
        /// The tag, or as much of it as tags may be long.
        tag: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Vectors to import that do not fit their names.
    #[error("{0}")]
    Import(String),
    /// Stopped on request.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl EngineError {
    /// For `map_err` on what touches a file.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> EngineError + 'a {
        move |source| EngineError::Io { doing, path: path.to_owned(), source }
    }

    /// For `map_err` on what touches the database.
    pub(crate) fn store<'a>(doing: &'static str, library: &'a Path) -> impl Fn(rusqlite::Error) -> EngineError + 'a {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => EngineError::DiskFull { library: library.to_owned() },
            _ => EngineError::Store { doing, library: library.to_owned(), source },
        }
    }
}

fn named(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn list(modalities: &[Modality]) -> String {
    modalities.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", ")
}
