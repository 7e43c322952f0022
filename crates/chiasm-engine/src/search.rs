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
//! if the request is for them; a place that an item has for some of the words alone counts a quarter. What only they find is shown with the closeness that a model sees in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chiasm_core::{Media, Metric, Modality, RowSet, Span, Vectors};
use chiasm_media::Limits;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::Serialize;

use crate::calibrate::{PairScores, closeness};
use crate::catalogue::ItemMetadata;
use crate::lane::Lane;
use crate::library::{METADATA_COLUMNS, item_metadata, one_line, span_at};
use crate::live::{Live, modality_at};
use crate::rerank::Rerank;
use crate::space::{floats, mean};
use crate::store::path_of;
use crate::words::{self, Field, Holds};
use crate::{EngineError, Filter, Library, Result, Space};

/// How many of each ranking are joined. The number is the same for every page of a list, so that pages fit together; what no ranking has
/// among so many comes after, by its place in the ranking that has it first.
const JOINED: usize = 200;
/// What is added to a rank before it is turned round (Cormack et al.).
const RANK_OFFSET: f64 = 60.0;
/// How much a place counts that an item has for some of the words alone.
const SOME_WORDS: f64 = 0.25;
/// Of so many of the closest items those that stand out are put in the order of their dates.
const DATED: usize = 500;

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
    /// A cross-encoder that puts the first hits in their last order. The query is then one part, words or a picture.
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
    /// What the cross-encoder gave the query and this item together; absent where none looked at it. Probabilities for those that give
    /// such.
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
            Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) => None,
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
                    let found = self.by_words(&reader, words, field, request, depth.max(JOINED))?;
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

/// One part of a query, its vector laid out for ranking.
pub(crate) struct Part {
    pub(crate) modality: Modality,
    pub(crate) weight: f32,
    pub(crate) vector: Vec<f32>,
}

fn item_of(what: &QueryMedia) -> Option<i64> {
    match what {
        QueryMedia::Item(id) => Some(*id),
        QueryMedia::Media(_) | QueryMedia::Vector(..) | QueryMedia::Embedded(_) => None,
    }
}

pub(crate) fn text_of(what: &QueryMedia) -> Option<&str> {
    match what {
        QueryMedia::Media(Media::Text(text)) => Some(text),
        QueryMedia::Embedded(embedded) => embedded.text(),
        QueryMedia::Media(_) | QueryMedia::Item(_) | QueryMedia::Vector(..) => None,
    }
}

/// The words of a query all of whose wanted parts are texts.
fn words_of(request: &SearchRequest) -> Option<words::Asked> {
    let parts = &request.query.parts;
    let (wanted, unwanted): (Vec<&QueryPart>, Vec<&QueryPart>) = parts.iter().partition(|part| part.weight > 0.0);
    let wanted: Option<Vec<&str>> = wanted.iter().map(|part| text_of(&part.what)).collect();
    let unwanted = unwanted.iter().filter_map(|part| text_of(&part.what));
    words::Asked::new(wanted?.into_iter(), unwanted)
}

fn name_of(field: Field) -> &'static str {
    match field {
        Field::Texts => LANE_WORDS,
        Field::Names => LANE_NAMES,
    }
}

/// A lane with a query as it is asked there.
pub(crate) struct Asked<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) parts: Vec<Part>,
}

/// What a lane answers, best first.
struct Ranked {
    lane: String,
    live: Arc<Live>,
    candidates: Vec<Candidate>,
    /// Items among which was searched, by kind unless a filter made it necessary to look.
    n_items: NItems,
}

/// Items among which was searched.
enum NItems {
    /// How many of each kind.
    ByKind(BTreeMap<Modality, usize>),
    /// Which.
    These(HashSet<i64>),
}

impl Library {
    /// The models and the fields that a request is for.
    pub(crate) fn chosen(&self, request: &SearchRequest) -> Result<(Vec<&Lane>, Vec<Field>)> {
        const FIELDS: [Field; 2] = [Field::Texts, Field::Names];
        if request.lanes.is_empty() {
            let fields = if request.hybrid { FIELDS.to_vec() } else { Vec::new() };
            return Ok((self.lanes.iter().collect(), fields));
        }
        let is_asked = |name: &str| request.lanes.iter().any(|lane| lane == name);
        let fields: Vec<Field> = FIELDS.into_iter().filter(|field| is_asked(name_of(*field))).collect();
        let models: Vec<String> = request
            .lanes
            .iter()
            .filter(|name| ![LANE_MEANING, LANE_WORDS, LANE_NAMES].contains(&name.as_str()))
            .cloned()
            .collect();
        let lanes = match (is_asked(LANE_MEANING), models.as_slice()) {
            (true, _) => self.lanes_named(&models).map(|_| self.lanes.iter().collect())?,
            (false, []) => Vec::new(),
            (false, models) => self.lanes_named(models)?,
        };
        Ok((lanes, fields))
    }

    /// The lanes that can answer, and what became of each. Where words are asked as well, models need not.
    pub(crate) fn asked<'a>(
        &'a self,
        request: &SearchRequest,
        mut lanes: Vec<&'a Lane>,
        words: bool,
    ) -> Result<(Vec<Asked<'a>>, Vec<LaneAsked>)> {
        let by_vector = request.query.parts.iter().any(|part| matches!(part.what, QueryMedia::Vector(..)));
        if let Some(space) = &request.space {
            let own = self.lane_of("vector", space)?;
            lanes.retain(|lane| !by_vector || lane.id == own.id);
            if lanes.is_empty() {
                let reason = format!("the query's vector is of the lane `{}`, which is not among those asked", own.name());
                return Err(EngineError::Query(reason));
            }
        } else if by_vector {
            lanes.truncate(1);
        }
        if lanes.is_empty() && !words {
            return Err(EngineError::Query("words and names can be searched by words alone: ask a model as well".to_owned()));
        }
        let (mut asked, mut told, mut refused) = (Vec::new(), Vec::new(), None);
        for lane in lanes {
            let name = lane.name().to_owned();
            match self.parts(lane, request) {
                Ok(parts) => {
                    asked.push(Asked { lane, parts });
                    told.push(LaneAsked { lane: name, left_out: None });
                }
                // Another lane may know what this one does not. Whatever else goes wrong is told.
                Err(
                    error @ (EngineError::NoView { .. }
                    | EngineError::NoEncoder { .. }
                    | EngineError::NoSuchItem(_)
                    | EngineError::OneAtATime),
                ) => {
                    told.push(LaneAsked { lane: name, left_out: Some(error.to_string()) });
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match refused {
            Some(error) if asked.is_empty() && !words => Err(error),
            _ => Ok((asked, told)),
        }
    }

    /// The items of a lane by closeness to a query, the best `k` of those among which are the best `depth` of each kind.
    fn ranked(&self, asked: &Asked<'_>, request: &SearchRequest, depth: usize, k: usize) -> Result<Ranked> {
        let Asked { lane, parts } = asked;
        let live = lane.live(&self.store)?;
        let reader = self.store.reader()?;
        let own: BTreeSet<i64> = request.query.parts.iter().filter_map(|p| item_of(&p.what)).collect();
        let allowed = self.allowed(&reader, &live, request)?;
        let n_items = n_items(&live, request, allowed.as_ref(), &own);
        let mut best: HashMap<i64, Candidate> = HashMap::new();
        let mut calibrated = true;
        for (&modality, rows) in &live.by_modality {
            let rows = allowed.as_ref().map_or_else(|| rows.clone(), |allowed| intersection(rows, allowed));
            let n_rows = rows.count();
            if n_rows == 0 {
                continue;
            }
            let weighed = Weighed::new(lane.space(), &live, parts, modality);
            calibrated &= weighed.figures.is_some();
            for candidate in weighed.best_items(&live, &rows, n_rows, depth, &own)? {
                let kept = best.entry(candidate.item).or_insert_with(|| candidate.clone());
                if candidate.rank(true) > kept.rank(true) {
                    *kept = candidate;
                }
            }
        }
        let mut candidates: Vec<Candidate> = best.into_values().collect();
        candidates.sort_by(|a, b| b.rank(calibrated).total_cmp(&a.rank(calibrated)).then(a.item.cmp(&b.item)));
        candidates.truncate(k);
        Ok(Ranked { lane: lane.name().to_owned(), live, candidates, n_items })
    }

    fn parts(&self, lane: &Lane, request: &SearchRequest) -> Result<Vec<Part>> {
        let parts = &request.query.parts;
        if parts.len() > 1 && lane.space().metric() == Metric::L2 {
            return Err(EngineError::OneAtATime);
        }
        parts.iter().map(|p| self.part(lane, p)).collect()
    }

    fn part(&self, lane: &Lane, part: &QueryPart) -> Result<Part> {
        let space = lane.space();
        let (modality, vector) = match &part.what {
            QueryMedia::Media(media) => (media.modality(), space.embed_query(media)?),
            QueryMedia::Item(id) => self.item_vector(lane, *id)?,
            QueryMedia::Embedded(embedded) => (embedded.modality, embedded.vector(space)?.to_vec()),
            QueryMedia::Vector(modality, numbers) => {
                space.view_of(*modality)?;
                if numbers.len() != space.dim() {
                    let (got, expected) = (numbers.len(), space.dim());
                    return Err(chiasm_core::SearchError::Dimension { got, expected }.into());
                }
                let checked = Vectors::new(numbers.clone(), numbers.len());
                let mut checked =
                    checked.map_err(|source| EngineError::Numbers { what: "the query's vector".to_owned(), source })?;
                if space.metric() == Metric::Cosine {
                    checked.normalise();
                }
                (*modality, checked.into_data())
            }
        };
        let vector = Vectors::new(vector, space.dim());
        let vector = vector.map_err(|source| EngineError::Numbers { what: "the query's vector".to_owned(), source })?;
        Ok(Part { modality, weight: part.weight, vector: space.as_query(modality, &vector)?.into_data() })
    }

    /// The mean of an item's own vectors in a lane, those of its captions left out.
    fn item_vector(&self, lane: &Lane, id: i64) -> Result<(Modality, Vec<f32>)> {
        let reader = self.store.reader()?;
        let read = || -> rusqlite::Result<Vec<(Modality, Vec<f32>)>> {
            let sql = format!(
                "SELECT i.kind, v.vector FROM items i JOIN segments s ON s.item = i.id JOIN {}
                WHERE i.id = ?1 AND s.caption IS NULL ORDER BY s.id",
                lane.vectors()
            );
            let mut statement = reader.prepare_cached(&sql)?;
            statement.query_map([id], |row| Ok((modality_at(row, 0)?, floats(row.get_ref(1)?.as_blob()?))))?.collect()
        };
        let rows = read().map_err(self.store.err("cannot read an item's vectors"))?;
        let Some((modality, _)) = rows.first() else {
            return Err(EngineError::NoSuchItem(id.to_string()));
        };
        Ok((*modality, mean(rows.iter().map(|(_, v)| v.as_slice()), lane.space().dim(), lane.space().metric())))
    }

    /// The rows a request may be answered with; all when absent.
    fn allowed(&self, reader: &Connection, live: &Live, request: &SearchRequest) -> Result<Option<RowSet>> {
        let mut allowed: Option<RowSet> = None;
        if !request.kinds.is_empty() {
            let mut rows = RowSet::new(live.items.len());
            let of_kinds = request.kinds.iter().filter_map(|kind| live.by_kind.get(kind));
            of_kinds.for_each(|(of_kind, _)| each_row(of_kind, |row| rows.insert(row)));
            allowed = Some(rows);
        }
        if let Some(filter) = &request.filter {
            let (condition, values) = filter.sql(reader).map_err(self.store.err("cannot filter"))?;
            let sql = format!("SELECT s.id FROM items i JOIN segments s ON s.item = i.id WHERE {condition}");
            let list = || -> rusqlite::Result<Vec<u64>> {
                let mut statement = reader.prepare(&sql)?;
                statement.query_map(params_from_iter(values), |row| row.get::<_, i64>(0).map(|id| id as u64))?.collect()
            };
            let mut ids = list().map_err(self.store.err("cannot filter"))?;
            ids.sort_unstable();
            let rows = live.index.rows_of(&ids);
            allowed = Some(allowed.map_or_else(|| rows.clone(), |of_kinds| intersection(&of_kinds, &rows)));
        }
        Ok(allowed)
    }
}

/// Kinds and filter of a request as a condition on `items AS i`, with the items asked with left out.
fn condition(reader: &Connection, request: &SearchRequest) -> rusqlite::Result<(String, Vec<Value>)> {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    if !request.kinds.is_empty() {
        // Words of the program's own, so that they can stand in a statement as they are.
        let kinds: Vec<String> = request.kinds.iter().map(|kind| format!("'{kind}'")).collect();
        conditions.push(format!("i.kind IN ({})", kinds.join(", ")));
    }
    if let Some(filter) = &request.filter {
        let (sql, bound) = filter.sql(reader)?;
        conditions.push(sql.into_owned());
        values.extend(bound.iter().cloned());
    }
    let own: Vec<String> = request.query.parts.iter().filter_map(|p| item_of(&p.what)).map(|id| id.to_string()).collect();
    if !own.is_empty() {
        conditions.push(format!("i.id NOT IN ({})", own.join(", ")));
    }
    Ok(if conditions.is_empty() { ("1".to_owned(), values) } else { (conditions.join(" AND "), values) })
}

/// An answer on its way to be told.
struct Shown {
    /// The item as a model sees it, or as words do where none was asked.
    candidate: Candidate,
    /// The part that holds words of the query, if any does.
    words_in: Option<i64>,
    all_words: bool,
    fused: Option<f64>,
    lanes: Vec<InLane>,
}

impl Shown {
    /// As the one lane that was asked sees it.
    fn alone(candidate: Candidate) -> Shown {
        Shown { candidate, words_in: None, all_words: false, fused: None, lanes: Vec::new() }
    }

    fn strength(&self) -> Strength {
        Strength::of(self.candidate.chance, self.all_words)
    }
}

/// See [`SearchReply::cut`]; `limit` is how many were asked for.
fn cut(shown: &[Shown], limit: usize) -> Option<usize> {
    let known = shown.iter().any(|s| s.strength() != Strength::Unknown);
    let cut = shown.iter().rposition(|s| s.strength().stands_out()).map_or(0, |last| last + 1);
    (known && (cut < shown.len() || cut < limit)).then_some(cut)
}

impl Library {
    /// The items whose texts or names hold words of a query.
    fn by_words(
        &self,
        reader: &Connection,
        words: &words::Asked,
        field: Field,
        request: &SearchRequest,
        depth: usize,
    ) -> Result<Option<Vec<Holds>>> {
        let err = self.store.err("cannot look for words");
        let (sql, values) = condition(reader, request).map_err(&err)?;
        words.find(reader, field, (&sql, &values), depth).map_err(err)
    }

    /// How many items kinds and filter leave.
    fn n_allowed(&self, reader: &Connection, request: &SearchRequest) -> Result<usize> {
        let count = || -> rusqlite::Result<i64> {
            let (sql, values) = condition(reader, request)?;
            reader
                .prepare_cached(&format!("SELECT count(*) FROM items i WHERE {sql}"))?
                .query_row(params_from_iter(values), |row| row.get(0))
        };
        Ok(count().map_err(self.store.err("cannot count items"))? as usize)
    }

    /// The best `k` of several rankings, joined by reciprocal ranks.
    fn joined(
        &self,
        asked: &[Asked<'_>],
        rankings: &[Ranked],
        by_words: &[(Field, Vec<Holds>)],
        k: usize,
    ) -> Result<Vec<Shown>> {
        let of_models = rankings.iter().map(|r| r.candidates.iter().map(|c| c.item).collect());
        let of_words = by_words.iter().map(|(_, found)| found.iter().map(|h| h.item).collect());
        let lists: Vec<Vec<i64>> = of_models.chain(of_words).collect();
        let mut scores: BTreeMap<i64, f64> = BTreeMap::new();
        for (list, items) in lists.iter().enumerate() {
            for (at, item) in items.iter().take(JOINED).enumerate() {
                let weight = match list.checked_sub(rankings.len()).map(|field| &by_words[field].1[at]) {
                    Some(holds) if !holds.all => SOME_WORDS,
                    _ => 1.0,
                };
                *scores.entry(*item).or_default() += weight / (RANK_OFFSET + (at + 1) as f64);
            }
        }
        let mut order: Vec<(i64, Option<f64>)> = scores.into_iter().map(|(item, score)| (item, Some(score))).collect();
        order.sort_by(|(a, x), (b, y)| y.unwrap_or(0.0).total_cmp(&x.unwrap_or(0.0)).then(a.cmp(b)));
        let mut seen: HashSet<i64> = order.iter().map(|(item, _)| *item).collect();
        let deepest = lists.iter().map(Vec::len).max().unwrap_or(0);
        for at in JOINED..deepest {
            let further = lists.iter().filter_map(|list| list.get(at)).copied();
            order.extend(further.filter(|item| seen.insert(*item)).map(|item| (item, None)));
        }
        let places: Vec<HashMap<i64, usize>> =
            lists.iter().map(|list| list.iter().enumerate().map(|(at, item)| (*item, at)).collect()).collect();
        let mut all = Vec::new();
        for (item, score) in order.into_iter().take(k) {
            let held: Vec<(usize, usize)> =
                places.iter().enumerate().filter_map(|(list, places)| places.get(&item).map(|at| (list, *at))).collect();
            let words: Vec<(Field, &Holds)> = held
                .iter()
                .filter_map(|(list, at)| {
                    by_words.get(list.checked_sub(rankings.len())?).map(|(field, found)| (*field, &found[*at]))
                })
                .collect();
            let model = held.iter().filter(|(list, _)| *list < rankings.len()).min_by_key(|(list, at)| (*at, *list));
            let seen = match (model, words.first()) {
                (Some((list, at)), _) => Some(rankings[*list].candidates[*at].clone()),
                // Only its words were found: told with the closeness that the first model which knows it sees there.
                (None, Some((_, holds))) => {
                    let seen =
                        asked.iter().zip(rankings).find_map(|(asked, ranked)| closeness_of(asked, &ranked.live, holds.segment));
                    Some(seen.unwrap_or_else(|| Candidate::by_words(holds)))
                }
                (None, None) => None,
            };
            let Some(mut candidate) = seen else { continue };
            let words_in = words.iter().find(|(field, _)| *field == Field::Texts).map(|(_, holds)| holds.segment);
            if let Some(segment) = words_in.filter(|_| candidate.via == Modality::Text) {
                candidate.segment = segment;
            }
            let in_lane = |(list, at): &(usize, usize)| match rankings.get(*list) {
                Some(ranked) => {
                    let c = &ranked.candidates[*at];
                    let (z, chance) = (c.z.map(|z| z as f32), c.chance.map(|c| c as f32));
                    InLane { lane: ranked.lane.clone(), rank: at + 1, score: c.score as f32, z, chance }
                }
                None => {
                    let (field, found) = &by_words[list - rankings.len()];
                    InLane {
                        lane: name_of(*field).to_owned(),
                        rank: at + 1,
                        score: found[*at].score as f32,
                        z: None,
                        chance: None,
                    }
                }
            };
            all.push(Shown {
                candidate,
                words_in,
                all_words: words.iter().any(|(_, holds)| holds.all),
                fused: score,
                lanes: held.iter().map(in_lane).collect(),
            });
        }
        Ok(all)
    }

    /// Those that stand out, by their dates.
    fn dated(&self, reader: &Connection, mut shown: Vec<Shown>, cut: Option<usize>, order: Order) -> Result<Vec<Shown>> {
        shown.truncate(cut.unwrap_or(DATED).min(DATED));
        let taken = |item: i64| -> rusqlite::Result<Option<String>> {
            let mut statement = reader.prepare_cached("SELECT taken FROM items WHERE id = ?1")?;
            Ok(statement.query_row([item], |row| row.get(0)).optional()?.flatten())
        };
        let err = self.store.err("cannot read dates");
        let dates = shown.iter().map(|s| taken(s.candidate.item)).collect::<rusqlite::Result<Vec<_>>>().map_err(err)?;
        let mut dated: Vec<(Option<String>, Shown)> = dates.into_iter().zip(shown).collect();
        dated.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) if order == Order::Newest => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        Ok(dated.into_iter().map(|(_, shown)| shown).collect())
    }
}

/// One part of an item as a lane sees it; `None` where the lane has no vector of it.
fn closeness_of(asked: &Asked<'_>, live: &Live, segment: i64) -> Option<Candidate> {
    let row = live.index.row_of(segment as u64)?;
    let (modality, rows) = live.by_modality.iter().find(|(_, rows)| rows.contains(row))?;
    let weighed = Weighed::new(asked.lane.space(), live, &asked.parts, *modality);
    let score = closeness(asked.lane.space().ranking_metric(), &weighed.combined, live.index.vector(row));
    Some(weighed.candidate(live, row, score, rows.count()))
}

/// Refuses what no lane can answer.
pub(crate) fn check(request: &SearchRequest) -> Result<()> {
    let refuse = |reason: &str| Err(EngineError::Query(reason.to_owned()));
    let parts = &request.query.parts;
    if parts.is_empty() {
        return refuse("the query is empty: give words, a file, an item or a vector");
    }
    if parts.iter().any(|p| !p.weight.is_finite() || p.weight == 0.0) {
        return refuse("the weight of a part must be a number other than 0");
    }
    if parts.iter().all(|p| p.weight < 0.0) {
        return refuse("the query says only what is not wanted: add a part that is");
    }
    Ok(())
}

/// Items among which is searched. Only a filter needs them counted anew.
fn n_items(live: &Live, request: &SearchRequest, allowed: Option<&RowSet>, own: &BTreeSet<i64>) -> NItems {
    if let Some(rows) = allowed.filter(|_| request.filter.is_some()) {
        let mut items = HashSet::new();
        each_row(rows, |row| _ = items.insert(live.items[row]));
        own.iter().for_each(|item| _ = items.remove(item));
        return NItems::These(items);
    }
    let of_kind = |kind: &Modality| request.kinds.is_empty() || request.kinds.contains(kind);
    let counted = live.by_kind.iter().filter(|(kind, _)| of_kind(kind));
    let is_own = |rows: &RowSet, item: &i64| {
        let mut found = false;
        each_row(rows, |row| found |= live.items[row] == *item);
        found
    };
    let n_of = |(rows, n): &(RowSet, usize)| n - own.iter().filter(|item| is_own(rows, item)).count();
    NItems::ByKind(counted.map(|(kind, of_kind)| (*kind, n_of(of_kind))).collect())
}

/// Items among which lanes searched together. Lanes that know a kind have the same items of it but for gaps, so the most that one of
/// them has are counted where no filter names the items.
fn n_together(rankings: &[Ranked]) -> usize {
    let (mut by_kind, mut these): (BTreeMap<Modality, usize>, HashSet<i64>) = (BTreeMap::new(), HashSet::new());
    for ranking in rankings {
        match &ranking.n_items {
            NItems::ByKind(counts) => counts.iter().for_each(|(kind, n)| {
                let most = by_kind.entry(*kind).or_default();
                *most = (*most).max(*n);
            }),
            NItems::These(items) => these.extend(items),
        }
    }
    by_kind.values().sum::<usize>() + these.len()
}

fn each_row(rows: &RowSet, mut f: impl FnMut(usize)) {
    for (at, word) in rows.words().iter().enumerate() {
        let mut left = *word;
        while left != 0 {
            f(at * 64 + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}

fn intersection(a: &RowSet, b: &RowSet) -> RowSet {
    let mut both = RowSet::new(a.n_rows());
    each_row(a, |row| {
        if b.contains(row) {
            both.insert(row);
        }
    });
    both
}

/// The best row of an item.
#[derive(Clone, Debug)]
struct Candidate {
    item: i64,
    segment: i64,
    via: Modality,
    /// Closeness as it is told.
    score: f64,
    /// The same less the item's crowding: what it is ranked by where there is no `z`, which is made from it.
    uncrowded: f64,
    z: Option<f64>,
    chance: Option<f64>,
}

impl Candidate {
    /// Where no model was asked: as close as its words are.
    fn by_words(holds: &Holds) -> Candidate {
        let Holds { item, segment, score, .. } = *holds;
        Candidate { item, segment, via: Modality::Text, score, uncrowded: score, z: None, chance: None }
    }

    fn rank(&self, calibrated: bool) -> f64 {
        self.z.filter(|_| calibrated).unwrap_or(self.uncrowded)
    }
}

/// A query as it is asked of rows of one modality.
struct Weighed<'a> {
    metric: Metric,
    /// Numbers of a vector without those that stand behind it for ranking.
    dim: usize,
    modality: Modality,
    parts: &'a [Part],
    /// Scores of unrelated pairs for each part; absent when they are for one of them.
    figures: Option<Vec<&'a PairScores>>,
    combined: Vec<f32>,
}

impl<'a> Weighed<'a> {
    fn new(space: &Space, live: &'a Live, parts: &'a [Part], modality: Modality) -> Self {
        let figures: Option<Vec<&PairScores>> = parts.iter().map(|p| live.calibration(space, p.modality, modality)).collect();
        let mut combined = vec![0.0_f64; space.ranking_dim()];
        for (i, part) in parts.iter().enumerate() {
            let deviation = figures.as_ref().map_or(1.0, |f| f[i].deviation);
            let weight = if parts.len() == 1 { 1.0 } else { f64::from(part.weight) / deviation };
            combined.iter_mut().zip(&part.vector).for_each(|(c, v)| *c += weight * f64::from(*v));
        }
        // Only the direction matters to the ranking, and at unit length no number can overflow; a single part stays as it is.
        let norm = combined.iter().map(|c| c * c).sum::<f64>().sqrt();
        let scale = if parts.len() == 1 || norm == 0.0 { 1.0 } else { 1.0 / norm };
        let combined = combined.iter().map(|c| (c * scale) as f32).collect();
        Weighed { metric: space.ranking_metric(), dim: space.dim(), modality, parts, figures, combined }
    }

    /// The best row of each of the best `k` items, those asked with left out.
    fn best_items(&self, live: &Live, rows: &RowSet, n_rows: usize, k: usize, own: &BTreeSet<i64>) -> Result<Vec<Candidate>> {
        let query = Vectors::new(self.combined.clone(), self.combined.len());
        let query = query.map_err(|source| EngineError::Numbers { what: "the query's vector".to_owned(), source })?;
        // Items have one row as a rule; where the best rows belong to few items, more are asked for.
        let mut n_asked = k.saturating_add(own.len()).min(n_rows);
        loop {
            let hits = live.search(&query, n_asked, rows)?;
            let mut seen: HashSet<i64> = own.iter().copied().collect();
            let mut rows = hits.iter().filter_map(|hit| live.index.row_of(hit.id).map(|row| (row, hit.score.get())));
            let firsts: Vec<(usize, f32)> = rows.by_ref().filter(|(row, _)| seen.insert(live.items[*row])).take(k).collect();
            if firsts.len() >= k || n_asked >= n_rows {
                return Ok(firsts.into_iter().map(|(row, score)| self.candidate(live, row, score, n_rows)).collect());
            }
            n_asked = n_asked.saturating_mul(4).min(n_rows);
        }
    }

    fn candidate(&self, live: &Live, row: usize, score: f32, n_rows: usize) -> Candidate {
        let one = |part: &Part| match self.parts {
            [_] => f64::from(score),
            _ => f64::from(closeness(self.metric, &part.vector, live.index.vector(row))),
        };
        let scores: Vec<f64> = self.parts.iter().map(one).collect();
        let own =
            |part: &Part| f64::from(closeness(self.metric, &part.vector[..self.dim], &live.index.vector(row)[..self.dim]));
        let shown: Vec<f64> = self.parts.iter().map(own).collect();
        let weighted = |values: &mut dyn Iterator<Item = f64>| -> f64 {
            self.parts.iter().zip(values).map(|(p, v)| f64::from(p.weight) * v).sum()
        };
        let total: f64 = self.parts.iter().map(|p| f64::from(p.weight.abs())).sum();
        let mean = |values: &[f64]| match values {
            [one] => *one,
            _ => weighted(&mut values.iter().copied()) / total,
        };
        let (score, uncrowded) = (mean(&shown), mean(&scores));
        let z = self.figures.as_ref().map(|figures| {
            let mut zs = figures.iter().zip(&scores).map(|(f, s)| f.z(*s));
            match self.parts {
                [_] => figures[0].z(scores[0]),
                parts => weighted(&mut zs) / parts.iter().map(|p| f64::from(p.weight).powi(2)).sum::<f64>().sqrt(),
            }
        });
        // Several parts are not independent of one another, so that the chance of their sum is not known.
        let chance = match (&self.figures, self.parts) {
            (Some(figures), [_]) => Some(figures[0].share_above(scores[0]) * n_rows as f64),
            _ => None,
        };
        let segment = live.index.ids()[row] as i64;
        Candidate { item: live.items[row], segment, via: self.modality, score, uncrowded, z, chance }
    }
}

fn found(reader: &Connection, shown: &Shown, words: Option<&words::Asked>) -> rusqlite::Result<Option<Found>> {
    let candidate = &shown.candidate;
    let sql = format!(
        "SELECT i.kind, p.path, s.span_unit, s.span_start, s.span_end, t.body, {METADATA_COLUMNS}
        FROM items i
        JOIN segments s ON s.id = ?2 AND s.item = i.id
        JOIN paths p ON p.path = (SELECT min(path) FROM paths WHERE item = i.id)
        LEFT JOIN texts t ON t.segment = s.id
        WHERE i.id = ?1"
    );
    let read = |row: &rusqlite::Row<'_>| {
        let body: Option<String> = row.get(5)?;
        let found = Found {
            item: candidate.item,
            path: path_of(row.get(1)?),
            kind: modality_at(row, 0)?,
            via: candidate.via,
            score: candidate.score as f32,
            z: candidate.z.map(|z| z as f32),
            chance: candidate.chance.map(|c| c as f32),
            rerank_score: None,
            span: span_at(row, 2)?,
            snippet: None,
            marks: Vec::new(),
            all_words: shown.all_words,
            metadata: item_metadata(row, 6)?,
            fused: shown.fused,
            lanes: shown.lanes.clone(),
        };
        Ok((found, body))
    };
    let Some((mut found, mut body)) =
        reader.prepare_cached(&sql)?.query_row((candidate.item, candidate.segment), read).optional()?
    else {
        return Ok(None);
    };
    if let Some(segment) = shown.words_in.filter(|segment| *segment != candidate.segment) {
        let sql = "SELECT body FROM texts WHERE segment = ?1";
        body = reader.prepare_cached(sql)?.query_row([segment], |row| row.get(0)).optional()?;
    }
    if body.is_none() {
        let sql = "SELECT t.body FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = ?1 ORDER BY s.id LIMIT 1";
        body = reader.prepare_cached(sql)?.query_row([candidate.item], |row| row.get(0)).optional()?;
    }
    match (body, words) {
        (Some(body), Some(words)) => {
            let (snippet, marks) = words.passage(&body);
            (found.snippet, found.marks) = (Some(snippet), marks);
        }
        (body, _) => found.snippet = body.map(|body| one_line(&body)),
    }
    Ok(Some(found))
}
