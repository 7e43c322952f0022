//! Questions and answers.

use std::path::{Path, PathBuf};

use chiasm_core::{Media, Modality, Span};
use chiasm_media::Limits;
use serde::Serialize;

use crate::catalogue::ItemMetadata;
use crate::{EngineError, Filter, Library, Result};

/// One thing a query is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryMedia {
    /// Words, a picture, a sound, a series; see [`load_media`] for files.
    Media(Media),
    /// An item of the library, by its number; it is left out of the answers.
    Item(i64),
    /// A vector of the library's space that stands for media of this modality; see [`SearchRequest::space`].
    Vector(Modality, Vec<f32>),
}

/// A part of a query and how much it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPart {
    /// What is asked for.
    pub what: QueryMedia,
    /// How much it counts beside the other parts; below zero for "not this". Finite and not 0.
    pub weight: f32,
}

/// What is asked for: one part, or several weighed against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// At least one, and one of them of positive weight.
    pub parts: Vec<QueryPart>,
}

impl Query {
    /// Asks for one thing.
    pub fn of(what: QueryMedia) -> Query {
        Query { parts: vec![QueryPart { what, weight: 1.0 }] }
    }

    /// Asks for words.
    pub fn text(words: &str) -> Query {
        Query::of(QueryMedia::Media(Media::Text(words.to_owned())))
    }

    /// Adds a part.
    pub fn and(mut self, what: QueryMedia, weight: f32) -> Query {
        self.parts.push(QueryPart { what, weight });
        self
    }
}

/// A question to a library.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    /// What is asked for.
    pub query: Query,
    /// How many answers at most.
    pub k: usize,
    /// Only items of these kinds; of any when empty.
    pub kinds: Vec<Modality>,
    /// Only items of which this is true. It narrows the search itself, so `k` answers come whenever as many are true.
    pub filter: Option<Filter>,
    /// Fingerprint of the space that made the [`QueryMedia::Vector`] parts; refused when it is not the library's. A caller that
    /// leaves it out vouches for them.
    pub space: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The item's number.
    pub item: i64,
    /// Where it lies; the first in byte order when there are copies.
    #[serde(serialize_with = "crate::serial::path")]
    pub path: PathBuf,
    /// What it is.
    #[serde(serialize_with = "crate::serial::modality")]
    pub kind: Modality,
    /// What of it matched: its own content, or `text` for a picture, sound or series whose caption matched.
    #[serde(serialize_with = "crate::serial::modality")]
    pub via: Modality,
    /// Closeness of the query to the best part of the item, in the space's metric; for several parts their mean by weight.
    pub score: f32,
    /// Standard deviations above unrelated pairs of these two kinds; absent when nothing was there to measure them on.
    pub z: Option<f32>,
    /// How many items of this library's kind and filter would score so by chance; see `docs/library-format.md`. Below about
    /// 0.1 is a match to believe, above 1 a coincidence.
    pub chance: Option<f32>,
    /// Which part of the item matched best.
    #[serde(serialize_with = "crate::serial::span")]
    pub span: Span,
    /// The matching passage of a text, or the caption, in one line of at most 200 characters.
    pub snippet: Option<String>,
    /// What is known of the item.
    pub metadata: ItemMetadata,
}

/// The answers, best first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchReply {
    /// At most `k` of them. Ranked by `z` where all have one (closeness between different kinds of media lies in different
    /// ranges, so scores of a picture and of a text cannot be compared as they are), else by `score`; ties by item number.
    pub hits: Vec<Found>,
    /// Items among which was searched, after kinds and filter.
    pub n_candidates: usize,
    /// Time from question to answers, encoding included.
    pub elapsed_ms: f64,
}

/// Reads and decodes a file to ask with.
///
/// # Errors
/// [`EngineError::Media`].
pub fn load_media(path: &Path, limits: &Limits) -> Result<Media> {
    let media = |source| EngineError::Media { path: path.to_owned(), source };
    let bytes = chiasm_media::read(path, limits).map_err(media)?;
    Ok(chiasm_media::decode(path, &bytes, limits).map_err(media)?.media)
}

impl Library {
    /// Ranks the library's items by closeness to a query.
    ///
    /// # Errors
    /// [`EngineError::Query`] for a query that asks for nothing; [`EngineError::ForeignSpace`]; [`EngineError::NoSuchItem`];
    /// those of [`crate::Space::embed`].
    pub fn search(&self, request: &SearchRequest) -> Result<SearchReply> {
        let _ = request;
        Err(EngineError::Query("search is not built yet".to_owned()))
    }

    /// What is like an item, itself left out.
    ///
    /// # Errors
    /// As [`Library::search`].
    pub fn similar(&self, item: i64, k: usize, kinds: &[Modality], filter: Option<Filter>) -> Result<SearchReply> {
        self.search(&SearchRequest { query: Query::of(QueryMedia::Item(item)), k, kinds: kinds.to_vec(), filter, space: None })
    }
}
