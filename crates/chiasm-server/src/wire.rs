//! What goes over the wire: the shapes of requests and answers, and how they come from and become the engine's.

use std::path::Path;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use chiasm_core::Modality;
use chiasm_engine::{
    Entry, Filter, Found, InLane, ItemMetadata, Library, Order, Query, QueryMedia, QueryPart, Rerank, SearchReply,
    SearchRequest, UnitSpan,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::ApiError;

/// Answers in one JSON document.
pub(crate) const MAX_K: usize = 1_000;
/// Answers that are streamed, a line each.
pub(crate) const MAX_STREAMED: usize = 100_000;
/// How far down a list one may look.
const MAX_OFFSET: usize = 1_000_000;
/// Parts of a query.
const MAX_PARTS: usize = 32;
/// Characters of words to ask with.
const MAX_WORDS: usize = 20_000;

/// A kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Image,
    Text,
    Audio,
    Series,
    Video,
    Shape,
}

impl From<Modality> for Kind {
    fn from(modality: Modality) -> Self {
        match modality {
            Modality::Image => Kind::Image,
            Modality::Text => Kind::Text,
            Modality::Audio => Kind::Audio,
            Modality::Series => Kind::Series,
            Modality::Video => Kind::Video,
            Modality::Shape => Kind::Shape,
        }
    }
}

impl From<Kind> for Modality {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Image => Modality::Image,
            Kind::Text => Modality::Text,
            Kind::Audio => Modality::Audio,
            Kind::Series => Modality::Series,
            Kind::Video => Modality::Video,
            Kind::Shape => Modality::Shape,
        }
    }
}

/// Kinds in a query string: `image,audio`.
pub(crate) fn kinds(given: Option<&str>) -> Result<Vec<Modality>, ApiError> {
    let named = given.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    named
        .map(|name| {
            name.parse().map_err(|_| {
                ApiError::bad_request(format!("`{name}` is no kind: expected image, text, audio, series, video or shape"))
            })
        })
        .collect()
}

/// A filter that may be absent or empty.
pub(crate) fn filter(given: Option<&str>) -> Result<Option<Filter>, ApiError> {
    let given = given.map(str::trim).filter(|text| !text.is_empty());
    given.map(|text| Filter::parse(text).map_err(|e| chiasm_engine::EngineError::from(e).into())).transpose()
}

/// The body of a request as JSON, refused in words of our own.
pub(crate) struct In<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for In<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(In(value)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

fn refused(rejection: &JsonRejection) -> ApiError {
    let code = match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        _ => "bad_request",
    };
    // One status for JSON that is none and for JSON of another shape.
    let status = if code == "bad_request" { StatusCode::BAD_REQUEST } else { rejection.status() };
    ApiError::new(status, code, rejection.body_text())
        .cure("send JSON as GET /api/v1/openapi.json describes it, with Content-Type: application/json")
}

/// The query string.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Params(value)).map_err(|e| ApiError::bad_request(e.body_text()))
    }
}

/// What stands in the path.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read: Result<axum::extract::Path<T>, PathRejection> = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Named(value)).map_err(|e| ApiError::bad_request(e.body_text()))
    }
}

/// In which order answers come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sort {
    /// The closest first
    #[default]
    Relevance,
    /// What stands out, the newest first
    Newest,
    /// What stands out, the oldest first
    Oldest,
}

/// One thing to ask with: exactly one of `text`, `item`, `upload`, `vector`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Words
    text: Option<String>,
    /// An item of the library, by its number; it is left out of the answers
    item: Option<i64>,
    /// What POST /uploads gave
    upload: Option<String>,
    /// A vector of the first lane's space, or of the lane whose fingerprint `space` names
    vector: Option<Vec<f32>>,
    /// What the vector stands for
    kind: Option<Kind>,
    /// Fingerprint of the space that the vector is of
    space: Option<String>,
    /// How much it counts beside the others; below 0 for what is not wanted. Default 1
    weight: Option<f32>,
}

impl Part {
    pub(crate) fn text(words: String) -> Part {
        Part { text: Some(words), ..Part::default() }
    }

    pub(crate) fn item(id: i64) -> Part {
        Part { item: Some(id), ..Part::default() }
    }

    pub(crate) fn weighing(self, weight: f32) -> Part {
        Part { weight: Some(weight), ..self }
    }
}

/// A question.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    /// What to ask with; several parts are weighed against each other
    #[schema(min_items = 1, max_items = 32)]
    pub(crate) query: Vec<Part>,
    /// How many answers
    #[serde(default = "default_k")]
    #[schema(default = 60, minimum = 1, maximum = 1000)]
    pub(crate) k: usize,
    /// How many of the first answers to leave out
    #[serde(default)]
    #[schema(maximum = 1000000)]
    pub(crate) offset: usize,
    /// Only items of these kinds
    #[serde(default)]
    pub(crate) kinds: Vec<Kind>,
    /// Only items of which this is true, such as `taken >= 2020 AND folder = 'trips/*'`
    #[serde(default, rename = "where")]
    pub(crate) filter: Option<String>,
    /// Rankings to ask: models by name, `meaning` (all models), `words`, `names`; all when empty
    #[serde(default)]
    pub(crate) lanes: Vec<String>,
    /// In which order
    #[serde(default)]
    pub(crate) sort: Sort,
    /// Whether the server's cross-encoder looks at the first answers again, each together with the question, and puts them in its order
    #[serde(default)]
    pub(crate) rerank: bool,
}

fn default_k() -> usize {
    60
}

impl SearchBody {
    pub(crate) fn of(query: Vec<Part>) -> SearchBody {
        SearchBody {
            query,
            k: default_k(),
            offset: 0,
            kinds: Vec::new(),
            filter: None,
            lanes: Vec::new(),
            sort: Sort::default(),
            rerank: false,
        }
    }

    /// Refuses what is out of range whatever the library holds.
    pub(crate) fn check(&self, max_k: usize) -> Result<(), ApiError> {
        if self.k == 0 || self.k > max_k {
            return Err(ApiError::bad_request(format!("k is {}, expected 1 to {max_k}", self.k)));
        }
        if self.offset > MAX_OFFSET {
            return Err(ApiError::bad_request(format!("offset is {}, expected at most {MAX_OFFSET}", self.offset)));
        }
        check_parts(&self.query)
    }

    /// The question as the engine takes it; words are embedded, or taken from what was embedded before.
    pub(crate) fn request(&self, app: &App, library: &Library, max_k: usize) -> Result<SearchRequest, ApiError> {
        self.check(max_k)?;
        let mut space = None;
        let words_alone = !self.lanes.is_empty()
            && self.lanes.iter().all(|lane| [chiasm_engine::LANE_WORDS, chiasm_engine::LANE_NAMES].contains(&lane.as_str()));
        let query = query(&self.query, app, library, &mut space, words_alone)?;
        Ok(SearchRequest {
            query,
            k: self.k,
            offset: self.offset,
            order: match self.sort {
                Sort::Relevance => Order::Relevance,
                Sort::Newest => Order::Newest,
                Sort::Oldest => Order::Oldest,
            },
            hybrid: true,
            kinds: self.kinds.iter().map(|kind| Modality::from(*kind)).collect(),
            filter: filter(self.filter.as_deref())?,
            space,
            lanes: self.lanes.clone(),
            rerank: self.looks_again(app)?.cloned(),
        })
    }
}

impl SearchBody {
    /// Who looks again, where that is asked for.
    fn looks_again<'a>(&self, app: &'a App) -> Result<Option<&'a Rerank>, ApiError> {
        if !self.rerank {
            return Ok(None);
        }
        if !matches!(self.sort, Sort::Relevance) {
            return Err(ApiError::bad_request("rerank beside sort: what is ordered by time is not ordered by relevance"));
        }
        let none = || {
            ApiError::bad_request("this server has nothing that re-ranks").cure("start it with `chiasm serve --rerank MODEL`")
        };
        app.config.rerank.as_ref().map(Some).ok_or_else(none)
    }
}

/// Refuses a question of no parts or of too many.
fn check_parts(parts: &[Part]) -> Result<(), ApiError> {
    match parts.len() {
        1..=MAX_PARTS => Ok(()),
        n => Err(ApiError::bad_request(format!("the query has {n} parts, expected 1 to {MAX_PARTS}"))),
    }
}

/// The parts of a question as the engine takes them.
pub(crate) fn query(
    parts: &[Part],
    app: &App,
    library: &Library,
    space: &mut Option<String>,
    words_alone: bool,
) -> Result<Query, ApiError> {
    check_parts(parts)?;
    let one = |part: &Part| -> Result<QueryPart, ApiError> {
        let weight = part.weight.unwrap_or(1.0);
        if !weight.is_finite() || weight == 0.0 || weight.abs() > 1e6 {
            return Err(ApiError::bad_request(format!(
                "a weight is {weight}, expected a number other than 0, at most a million"
            )));
        }
        let what = match (&part.text, part.item, &part.upload, &part.vector) {
            (Some(text), None, None, None) => {
                let text = text.trim();
                if text.is_empty() {
                    return Err(ApiError::bad_request("a text is empty: give some words"));
                }
                if text.chars().count() > MAX_WORDS {
                    return Err(ApiError::bad_request(format!(
                        "a text has more than {MAX_WORDS} characters: send it to /uploads"
                    )));
                }
                match words_alone {
                    // No model is needed to look for words.
                    true => QueryMedia::Media(chiasm_core::Media::Text(text.to_owned())),
                    false => QueryMedia::Embedded(app.embed_text(library, text)?),
                }
            }
            (None, Some(item), None, None) => QueryMedia::Item(item),
            (None, None, Some(upload), None) => match app.uploads.get(upload) {
                Some(upload) => QueryMedia::Embedded(Arc::clone(&upload.embedded)),
                None => {
                    let error = ApiError::not_found("no_such_upload", format!("there is no upload `{upload}` any more"));
                    return Err(error.cure("send the file to /uploads again"));
                }
            },
            (None, None, None, Some(vector)) => {
                let kind = part.kind.ok_or_else(|| ApiError::bad_request("a vector needs the `kind` that it stands for"))?;
                if let Some(named) = &part.space {
                    *space = Some(named.clone());
                }
                QueryMedia::Vector(kind.into(), vector.clone())
            }
            _ => return Err(ApiError::bad_request("each part has exactly one of text, item, upload, vector")),
        };
        Ok(QueryPart { what, weight })
    };
    Ok(Query { parts: parts.iter().map(one).collect::<Result<_, _>>()? })
}

/// The same question in a query string.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// Words
    q: Option<String>,
    /// Like this item
    like: Option<i64>,
    /// How many answers, 1 to 1000
    #[param(minimum = 1, maximum = 1000)]
    k: Option<usize>,
    /// How many of the first answers to leave out
    #[param(maximum = 1000000)]
    offset: Option<usize>,
    /// Kinds, separated by commas
    kind: Option<String>,
    /// A filter
    #[serde(rename = "where")]
    filter: Option<String>,
    /// Lanes, separated by commas
    lane: Option<String>,
    /// In which order
    sort: Option<Sort>,
    /// Whether the server's cross-encoder looks at the first answers again
    rerank: Option<bool>,
}

impl SearchParams {
    pub(crate) fn body(self) -> Result<SearchBody, ApiError> {
        let query: Vec<Part> = self.q.map(Part::text).into_iter().chain(self.like.map(Part::item)).collect();
        if query.is_empty() {
            return Err(ApiError::bad_request("nothing to look for: give `q` or `like`"));
        }
        let lanes = self.lane.unwrap_or_default();
        Ok(SearchBody {
            query,
            k: self.k.unwrap_or_else(default_k),
            offset: self.offset.unwrap_or(0),
            kinds: kinds(self.kind.as_deref())?.into_iter().map(Kind::from).collect(),
            filter: self.filter,
            lanes: lanes.split(',').map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
            sort: self.sort.unwrap_or_default(),
            rerank: self.rerank.unwrap_or_default(),
        })
    }
}

/// What a file says of itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct MetadataBody {
    pub(crate) format: String,
    /// Bytes
    pub(crate) size: u64,
    /// Pixels
    pub(crate) width: Option<u32>,
    /// Pixels
    pub(crate) height: Option<u32>,
    pub(crate) duration_s: Option<f64>,
    /// ISO 8601
    pub(crate) taken: Option<String>,
    /// Degrees north
    pub(crate) latitude: Option<f64>,
    /// Degrees east
    pub(crate) longitude: Option<f64>,
}

impl From<ItemMetadata> for MetadataBody {
    fn from(m: ItemMetadata) -> Self {
        let ItemMetadata { format, size, width, height, duration_s, taken, latitude, longitude } = m;
        MetadataBody { format, size, width, height, duration_s, taken, latitude, longitude }
    }
}

/// Where a hit stands in one lane.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LaneBody {
    pub(crate) lane: String,
    /// From 1
    pub(crate) rank: Option<usize>,
    /// Closeness, or BM25 for words and names
    pub(crate) score: f32,
    /// Standard deviations above unrelated pairs
    pub(crate) z: Option<f32>,
    /// How many unrelated items would come as close by chance
    pub(crate) chance: Option<f32>,
}

impl From<InLane> for LaneBody {
    fn from(l: InLane) -> Self {
        LaneBody { lane: l.lane, rank: Some(l.rank), score: l.score, z: l.z, chance: l.chance }
    }
}

/// One answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Hit {
    /// From 1
    pub(crate) rank: usize,
    /// Its number
    pub(crate) item: i64,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) folder: String,
    pub(crate) kind: Kind,
    /// What of it matched: its own content, or `text` where its caption did
    pub(crate) via: Kind,
    /// Closeness in the space's metric
    pub(crate) score: f32,
    /// Standard deviations above unrelated pairs
    pub(crate) z: Option<f32>,
    /// How many unrelated items would come as close by chance
    pub(crate) chance: Option<f32>,
    /// The probability that none would, 0 to 1
    pub(crate) confidence: Option<f32>,
    /// strong, fair, weak, or - where nothing was measured
    pub(crate) strength: &'static str,
    /// Whether every word of the query stands in its text, caption or name
    pub(crate) all_words: bool,
    /// Which part of it
    pub(crate) span: UnitSpan,
    /// The passage or caption on one line
    pub(crate) snippet: Option<String>,
    /// Where words of the query stand in the snippet, in characters
    pub(crate) marks: Vec<[usize; 2]>,
    pub(crate) metadata: MetadataBody,
    /// What several lanes gave together
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fused: Option<f64>,
    /// What the cross-encoder says, of those that it looked at
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rerank_score: Option<f32>,
    pub(crate) lanes: Vec<LaneBody>,
}

impl Hit {
    pub(crate) fn new(rank: usize, found: Found) -> Hit {
        let (confidence, strength) = (found.confidence(), found.strength().as_str());
        let Named3 { path, name, folder } = named(&found.path);
        Hit {
            rank,
            item: found.item,
            path,
            name,
            folder,
            kind: found.kind.into(),
            via: found.via.into(),
            score: found.score,
            z: found.z,
            chance: found.chance,
            confidence,
            strength,
            all_words: found.all_words,
            span: found.span.into(),
            snippet: found.snippet,
            marks: found.marks.into_iter().map(|(start, end)| [start, end]).collect(),
            metadata: found.metadata.into(),
            fused: found.fused,
            rerank_score: found.rerank_score,
            lanes: found.lanes.into_iter().map(LaneBody::from).collect(),
        }
    }
}

/// A path as text, its last part and its folder.
pub(crate) struct Named3 {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) folder: String,
}

pub(crate) fn named(path: &Path) -> Named3 {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Named3 {
        path: text(path),
        name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        folder: path.parent().map_or_else(String::new, text),
    }
}

/// One of several lanes, and whether it was asked.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LaneAsked {
    pub(crate) lane: String,
    /// Why it was not asked
    pub(crate) left_out: Option<String>,
}

/// What goes with the answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct About {
    pub(crate) offset: usize,
    /// The offset of the next page, where there may be one
    pub(crate) next_offset: Option<usize>,
    /// Items among which was searched
    pub(crate) n_candidates: usize,
    /// Whether anything found is closer than chance would bring; null where nothing was measured
    pub(crate) stands_out: Option<bool>,
    /// Answers of a greater rank are probably unrelated; null where nothing was measured or all so far stand out
    pub(crate) cut: Option<usize>,
    pub(crate) elapsed_ms: f64,
    pub(crate) lanes: Vec<LaneAsked>,
    pub(crate) remarks: Vec<String>,
}

/// Answers, best first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Reply {
    pub(crate) hits: Vec<Hit>,
    #[serde(flatten)]
    pub(crate) about: About,
}

impl Reply {
    pub(crate) fn new(reply: SearchReply, body: &SearchBody, elapsed_ms: f64) -> Reply {
        let full = reply.hits.len() == body.k && body.offset + body.k < reply.n_candidates;
        let about = About {
            offset: body.offset,
            next_offset: full.then_some(body.offset + body.k),
            n_candidates: reply.n_candidates,
            stands_out: reply.stands_out(),
            cut: reply.cut,
            elapsed_ms,
            lanes: reply.lanes.into_iter().map(|l| LaneAsked { lane: l.lane, left_out: l.left_out }).collect(),
            remarks: reply.remarks,
        };
        let hits = reply.hits.into_iter().zip(body.offset + 1..).map(|(found, rank)| Hit::new(rank, found)).collect();
        Reply { hits, about }
    }
}

/// One content of the library.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ItemBody {
    pub(crate) item: i64,
    pub(crate) kind: Kind,
    /// BLAKE3 of its bytes
    pub(crate) hash: String,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) folder: String,
    /// Where it lies; several for copies
    pub(crate) paths: Vec<String>,
    pub(crate) metadata: MetadataBody,
    pub(crate) n_segments: usize,
    /// The beginning of its text or caption
    pub(crate) snippet: Option<String>,
    pub(crate) tags: Vec<String>,
}

impl From<Entry> for ItemBody {
    fn from(entry: Entry) -> ItemBody {
        ItemBody {
            item: entry.item,
            kind: entry.kind.into(),
            hash: entry.hash,
            path: entry.path.to_string_lossy().into_owned(),
            name: entry.name,
            folder: entry.folder,
            paths: entry.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            metadata: entry.metadata.into(),
            n_segments: entry.n_segments,
            snippet: entry.snippet,
            tags: entry.tags,
        }
    }
}
