//! Questions and answers.
//!
//! # How parts are weighed
//! Each part p of weight w_p stands as a unit vector u_p in the space. A row x of modality m scores s_p = u_p . x, which means
//! z_p = (s_p - mean_pm) / deviation_pm with the figures of unrelated pairs (`calibrate.rs`). Parts are joined by Stouffer's
//! rule, z = sum(w_p z_p) / sqrt(sum(w_p^2)): a picture and words count alike although the closeness of pictures to pictures lies
//! in another range than that of words to pictures. A part of negative weight takes away. For rows of one modality z is linear
//! in x, so the ranking is that of one combined vector, sum(w_p u_p / deviation_pm), and one exact search per modality finds it.
//! Where figures are missing the deviations count as 1: the plain weighted sum of unit vectors.
//!
//! An item is as good as its best row. Rows of a caption count for the item it belongs to.
//!
//! # Several lanes
//! Each lane that knows the kinds of all parts ranks by itself, as above. Scores of two models cannot be compared, ranks can: the rankings are joined by reciprocal ranks, `sum over lanes 1 / (60
//! + rank)` (Cormack et al., SIGIR 2009). An item is shown as the lane sees it that ranks it best.
//!
//! # Words
//! Where a query is words, `words` (those in texts and captions) and `names` (those in the names of files) are two more rankings (`words.rs`),
//! if the request is for them; a place that an item has for some of the words alone counts a twentieth. What only they find is shown with the closeness that a model sees in it.

mod asked;
mod joined;
mod ranked;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chiasm_core::{Media, Modality, Span};
use chiasm_media::Limits;
use serde::Serialize;

pub(crate) use self::asked::{Asked, Part, check, is_model, text_of};
use self::asked::{name_of, words_of};
use self::joined::{DATED, JOINED, Shown, cut, found};
use self::ranked::n_together;
pub(crate) use self::ranked::{Measured, measured};
use crate::catalogue::ItemMetadata;
use crate::rerank::Rerank;
use crate::{EngineError, Filter, Library, Result, Space};

/// The lanes of a request beside those of models.
pub const LANE_MEANING: &str = "meaning";
/// Words in texts and captions.
pub const LANE_WORDS: &str = "words";
/// Words in the names of files and folders.
pub const LANE_NAMES: &str = "names";

/// One thing a query is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryMedia {
    /// Words, a picture, a sound, a series; see [`load_media`] for files.
    Media(Media),
    /// An item of the library, by its number; it is left out of the answers.
    Item(i64),
    /// A vector of a lane's space that stands for media of this modality; see [`SearchRequest::space`].
    Vector(Modality, Vec<f32>),
    /// Media whose vectors were made before, by [`Library::embed`].
    Embedded(Arc<Embedded>),
}

/// Something to ask with, as each lane of one library sees it: to ask again costs no encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    modality: Modality,
    /// The words, of a text.
    text: Option<String>,
    /// Vectors by fingerprint of their space, of the lanes that know the kind.
    vectors: BTreeMap<String, Vec<f32>>,
}

impl Embedded {
    /// What it is.
    pub fn modality(&self) -> Modality {
        self.modality
    }

    /// Its vector in a space.
    pub(crate) fn vector(&self, space: &Space) -> Result<&[f32]> {
        match self.vectors.get(space.fingerprint()) {
            Some(vector) => Ok(vector),
            None => {
                space.view_of(self.modality)?;
                Err(EngineError::NoEncoder { modality: self.modality })
            }
        }
    }

    /// Its words, if it is a text.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

/// In which order answers come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The closest first.
    #[default]
    Relevance,
    /// Those that stand out (at most 500), the newest first; those without a date last.
    Newest,
    /// Those that stand out (at most 500), the oldest first; those without a date last.
    Oldest,
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
    /// How many of the first answers are left out, for the next page of a list.
    pub offset: usize,
    /// In which order.
    pub order: Order,
    /// Whether a query of words is also looked for by them, in texts and names, where no lanes are named.
    pub hybrid: bool,
    /// Only items of these kinds; of any when empty.
    pub kinds: Vec<Modality>,
    /// Only items of which this is true. It narrows the search itself, so `k` answers come whenever as many are true.
    pub filter: Option<Filter>,
    /// Fingerprint of the space that made the [`QueryMedia::Vector`] parts, whose lane is asked; refused when there is none. A caller
    /// that leaves it out vouches for them: they are of the first lane.
    pub space: Option<String>,
    /// Names of the lanes to ask: those of models, [`LANE_MEANING`] for all of these, [`LANE_WORDS`], [`LANE_NAMES`]. When empty all models, and
    /// words as `hybrid` says.
    pub lanes: Vec<String>,
    /// A cross-encoder that puts the first hits in their last order. The query is then one part, words or the picture or video it takes.
    pub rerank: Option<Rerank>,
}

/// Where an item stands in one of several lanes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InLane {
    /// The lane.
    pub lane: String,
    /// From 1.
    pub rank: usize,
    /// As [`Found::score`], in this lane.
    pub score: f32,
    /// As [`Found::z`], in this lane.
    pub z: Option<f32>,
    /// As [`Found::chance`], in this lane.
    pub chance: Option<f32>,
}

/// One of several lanes, and whether it was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaneAsked {
    /// The lane.
    pub lane: String,
    /// Why it was not asked; absent when it was.
    pub left_out: Option<String>,
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
    /// Closeness of the query to the best part of the item, in the space's metric; for several parts their mean by weight. Ranks
    /// follow it only roughly: see `docs/library-format.md` on crowding and calibration.
    pub score: f32,
    /// Standard deviations above unrelated pairs of these two kinds; absent when nothing was there to measure them on.
    pub z: Option<f32>,
    /// How many of the vectors searched (of this kind, within the filter) would score so by chance; absent for several parts. Below about
    /// 0.1 is a match to believe, above 1 a coincidence.
    pub chance: Option<f32>,
    /// What the cross-encoder gave the query and this item together; absent where none looked at it. A probability, 0..=1, or a cosine,
    /// -1..=1, as the network gives it.
    pub rerank_score: Option<f32>,
    /// Which part of the item matched best.
    #[serde(serialize_with = "crate::serial::span")]
    pub span: Span,
    /// The matching passage of a text, or the caption, in one line of at most 200 characters.
    pub snippet: Option<String>,
    /// Where words of the query stand in the snippet, if they were looked for: first character and the one after the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(usize, usize)>,
    /// Whether every word of the query stands in its text, its caption or its name.
    #[serde(skip_serializing_if = "is_false")]
    pub all_words: bool,
    /// What is known of the item.
    pub metadata: ItemMetadata,
    /// Where several lanes were asked: what the item is ranked by, the sum of its reciprocal ranks; absent far down the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<f64>,
    /// Where several lanes were asked: those that rank it, in the library's order. What stands above is from the one that ranks it best.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<InLane>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How far a hit stands out from what unrelated items score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Strength {
    /// Fewer than one hit in ten searches comes this close by chance, or every word of the query is there.
    #[serde(rename = "strong")]
    Strong,
    /// Fewer than one such hit a search by chance.
    #[serde(rename = "fair")]
    Fair,
    /// As good as chance: the library has at least one unrelated item that would come as close.
    #[serde(rename = "weak")]
    Weak,
    /// There is nothing to measure it by.
    #[serde(rename = "-")]
    Unknown,
}

impl Strength {
    fn of(chance: Option<f64>, all_words: bool) -> Strength {
        match chance {
            _ if all_words => Strength::Strong,
            None => Strength::Unknown,
            Some(expected) if expected < 0.1 => Strength::Strong,
            Some(expected) if expected < 1.0 => Strength::Fair,
            Some(_) => Strength::Weak,
        }
    }

    /// `strong`, `fair`, `weak` or `-`.
    pub fn as_str(self) -> &'static str {
        match self {
            Strength::Strong => "strong",
            Strength::Fair => "fair",
            Strength::Weak => "weak",
            Strength::Unknown => "-",
        }
    }

    /// Whether it is better than chance.
    pub fn stands_out(self) -> bool {
        matches!(self, Strength::Strong | Strength::Fair)
    }
}

impl Found {
    /// How far it stands out.
    pub fn strength(&self) -> Strength {
        Strength::of(self.chance.map(f64::from), self.all_words)
    }

    /// The probability that no unrelated item of the library comes as close, 0..=1; absent where `chance` is.
    pub fn confidence(&self) -> Option<f32> {
        self.chance.map(|expected| (-expected).exp())
    }
}

/// The answers, best first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchReply {
    /// At most `k` of them. Ranked by `z` where all have one (closeness between different kinds of media lies in different
    /// ranges, so scores of a picture and of a text cannot be compared as they are), else by `score` less the item's crowding;
    /// by `fused` where several lanes were asked; ties by item number. Hits with a `rerank_score` have changed places among themselves to
    /// follow that.
    pub hits: Vec<Found>,
    /// Items among which was searched, after kinds and filter.
    pub n_candidates: usize,
    /// How many answers stand before the last one that stands out, itself counted, from the first page on: what comes after is as
    /// good as chance. Absent where nothing was measured, or where the whole list as far as it was made stands out.
    pub cut: Option<usize>,
    /// Time from question to answers, encoding included.
    pub elapsed_ms: f64,
    /// Where several lanes may answer: which were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<LaneAsked>,
    /// What a person should know of how the answers came about, such as files that could not be looked at again.
    pub remarks: Vec<String>,
}

impl SearchReply {
    /// Whether anything found is closer than chance would bring; `None` when nothing was measured.
    pub fn stands_out(&self) -> Option<bool> {
        let strengths: Vec<Strength> = self.hits.iter().map(Found::strength).collect();
        let known = strengths.iter().any(|s| *s != Strength::Unknown);
        known.then(|| strengths.iter().any(|s| s.stands_out()))
    }
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
    /// [`EngineError::Query`] for a query that asks for nothing, or for what cannot be re-ranked; [`EngineError::NoSuchLane`];
    /// [`EngineError::ForeignSpace`]; [`EngineError::NoSuchItem`]; [`EngineError::OneAtATime`]; those of [`crate::Space::embed`].
    pub fn search(&self, request: &SearchRequest) -> Result<SearchReply> {
        let Some(rerank) = &request.rerank else {
            return self.rank(request, request.offset.saturating_add(request.k), request.offset, request.k);
        };
        // Not cut before it is re-ranked: so many of each kind are there to be looked at, and what stood below may come up.
        let depth = request.offset.saturating_add(request.k).max(rerank.n_top());
        let mut reply = self.rank(request, depth, 0, usize::MAX)?;
        self.rerank(request, rerank, &mut reply)?;
        reply.hits.drain(..request.offset.min(reply.hits.len()));
        reply.hits.truncate(request.k);
        Ok(reply)
    }

    /// Makes the vectors of something to ask with, of every lane that knows its kind.
    ///
    /// # Errors
    /// [`EngineError::NoView`] or [`EngineError::NoEncoder`] when no lane can; those of [`crate::Space::embed`].
    pub fn embed(&self, media: &Media) -> Result<Embedded> {
        let (mut vectors, mut refused) = (BTreeMap::new(), None);
        for lane in &self.lanes {
            match lane.space().embed_query(media) {
                Ok(vector) => _ = vectors.insert(lane.space().fingerprint().to_owned(), vector),
                Err(error @ (EngineError::NoView { .. } | EngineError::NoEncoder { .. })) => _ = refused.get_or_insert(error),
                Err(error) => return Err(error),
            }
        }
        let text = match media {
            Media::Text(text) => Some(text.clone()),
            Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => None,
        };
        match refused {
            // Words can be looked for without a model.
            Some(error) if vectors.is_empty() && text.is_none() => Err(error),
            _ => Ok(Embedded { modality: media.modality(), text, vectors }),
        }
    }

    /// An item as something to ask with, by the vectors that are stored of it.
    ///
    /// # Errors
    /// [`EngineError::NoSuchItem`] where no lane has a vector of it.
    pub fn embedded_item(&self, id: i64) -> Result<Embedded> {
        let (mut vectors, mut kind) = (BTreeMap::new(), None);
        for lane in &self.lanes {
            match self.item_vector(lane, id) {
                Ok((modality, vector)) => {
                    kind = Some(modality);
                    vectors.insert(lane.space().fingerprint().to_owned(), vector);
                }
                Err(EngineError::NoSuchItem(_)) => {}
                Err(other) => return Err(other),
            }
        }
        let modality = kind.ok_or_else(|| EngineError::NoSuchItem(id.to_string()))?;
        Ok(Embedded { modality, text: None, vectors })
    }

    /// The answers in their order from `skip` on, at most `k`: at least the best `depth` of each kind are looked at.
    fn rank(&self, request: &SearchRequest, depth: usize, skip: usize, k: usize) -> Result<SearchReply> {
        let started = Instant::now();
        check(request)?;
        let depth = if request.order == Order::Relevance { depth } else { depth.max(DATED) };
        let limit = if k == usize::MAX { usize::MAX } else { depth };
        let (lanes, fields) = self.chosen(request)?;
        let words = words_of(request).filter(|_| !fields.is_empty());
        let (asked, mut told) = self.asked(request, lanes, words.is_some())?;
        let reader = self.store.reader()?;
        let mut by_words = Vec::new();
        for field in fields {
            let lane = name_of(field);
            let left_out = match &words {
                None => Some("the query is not of words alone".to_owned()),
                Some(words) => {
                    let found = self.by_words(&reader, words, field, request, depth.max(JOINED), asked.is_empty())?;
                    let lacking = found.is_none().then(|| "the library has no index of words yet: index it again".to_owned());
                    by_words.extend(found.filter(|found| !found.is_empty()).map(|found| (field, found)));
                    lacking
                }
            };
            // Nobody asked for words where a query is none.
            if words.is_some() || !request.lanes.is_empty() {
                told.push(LaneAsked { lane: lane.to_owned(), left_out });
            }
        }
        let rankings = match asked.as_slice() {
            [one] if by_words.is_empty() => vec![self.ranked(one, request, depth, limit)?],
            several => {
                let depth = depth.max(JOINED);
                several.iter().map(|one| self.ranked(one, request, depth, depth)).collect::<Result<_>>()?
            }
        };
        let shown = match rankings.as_slice() {
            [one] if by_words.is_empty() => one.candidates.iter().cloned().map(Shown::alone).collect(),
            several => self.joined(&asked, several, &by_words, limit)?,
        };
        let cut = cut(&shown, limit);
        let shown = match request.order {
            Order::Relevance => shown,
            order @ (Order::Newest | Order::Oldest) => self.dated(&reader, shown, cut, order)?,
        };
        let mut hits = Vec::new();
        for shown in shown.iter().skip(skip).take(k) {
            // What left the library since the index was made is not there any more.
            hits.extend(found(&reader, shown, words.as_ref()).map_err(self.store.err("cannot read what was found"))?);
        }
        let n_candidates = match rankings.as_slice() {
            [] => self.n_allowed(&reader, request)?,
            _ => n_together(&rankings),
        };
        let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
        let told = if told.len() > 1 || told.iter().any(|lane| lane.left_out.is_some()) { told } else { Vec::new() };
        Ok(SearchReply { hits, n_candidates, cut, elapsed_ms, lanes: told, remarks: Vec::new() })
    }

    /// What is like an item, itself left out.
    ///
    /// # Errors
    /// As [`Library::search`].
    pub fn similar(&self, item: i64, k: usize, kinds: &[Modality], filter: Option<Filter>) -> Result<SearchReply> {
        self.search(&SearchRequest {
            query: Query::of(QueryMedia::Item(item)),
            k,
            kinds: kinds.to_vec(),
            filter,
            ..SearchRequest::default()
        })
    }
}
