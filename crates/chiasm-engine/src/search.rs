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
//! Each lane that knows the kinds of all parts ranks by itself, as above, to a depth of a hundred items or four times as many as are
//! asked for. Scores of two models cannot be compared, ranks can: the rankings are joined by reciprocal ranks, `sum over lanes 1 / (60
//! + rank)` (Cormack et al., SIGIR 2009; `chiasm_index::fuse`). An item is shown as the lane sees it that ranks it best.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chiasm_core::{Hit, Media, Metric, Modality, RowSet, Score, Span, Vectors};
use chiasm_index::{Fusion, Normalisation, fuse};
use chiasm_media::Limits;
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
use crate::{EngineError, Filter, Library, Result, Space};

/// How deep each of several lanes ranks: so many items for each that is asked for, and at least so many.
const DEPTH: usize = 4;
const MIN_DEPTH: usize = 100;

/// One thing a query is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryMedia {
    /// Words, a picture, a sound, a series; see [`load_media`] for files.
    Media(Media),
    /// An item of the library, by its number; it is left out of the answers.
    Item(i64),
    /// A vector of a lane's space that stands for media of this modality; see [`SearchRequest::space`].
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
    /// Fingerprint of the space that made the [`QueryMedia::Vector`] parts, whose lane is asked; refused when there is none. A caller
    /// that leaves it out vouches for them: they are of the first lane.
    pub space: Option<String>,
    /// Names of the lanes to ask; all when empty.
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
    /// What is known of the item.
    pub metadata: ItemMetadata,
    /// Where several lanes were asked: what the item is ranked by, the sum of its reciprocal ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<f64>,
    /// Where several lanes were asked: those that rank it, in the library's order. What stands above is from the one that ranks it best.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<InLane>,
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
    /// Time from question to answers, encoding included.
    pub elapsed_ms: f64,
    /// The lanes of a library of several, as far as the request does not exclude them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<LaneAsked>,
    /// What a person should know of how the answers came about, such as files that could not be looked at again.
    pub remarks: Vec<String>,
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
        let Some(rerank) = &request.rerank else { return self.rank(request, request.k, request.k) };
        // Not cut before it is re-ranked: so many of each kind are there to be looked at, and what stood below may come up.
        let mut reply = self.rank(request, request.k.max(rerank.n_top()), usize::MAX)?;
        self.rerank(request, rerank, &mut reply)?;
        reply.hits.truncate(request.k);
        Ok(reply)
    }

    /// The best items in the order of their closeness: at least the best `depth` of each kind are looked at, the best `k` told.
    fn rank(&self, request: &SearchRequest, depth: usize, k: usize) -> Result<SearchReply> {
        let started = Instant::now();
        let (asked, lanes) = self.asked(request)?;
        let rankings = match asked.as_slice() {
            [one] => vec![self.ranked(one, request, depth, k)?],
            several => {
                let depth = depth.saturating_mul(DEPTH).max(MIN_DEPTH);
                several.iter().map(|one| self.ranked(one, request, depth, depth)).collect::<Result<_>>()?
            }
        };
        let reader = self.store.reader()?;
        let found = |ranking: &Ranked, c: &Candidate| {
            found(&reader, &ranking.live, c).map_err(self.store.err("cannot read what was found"))
        };
        // What left the library since the index was made is not there any more.
        let hits = match rankings.as_slice() {
            [one] => one.candidates.iter().filter_map(|c| found(one, c).transpose()).collect::<Result<Vec<Found>>>()?,
            several => {
                let mut hits = Vec::new();
                for fused in fused(several, k)? {
                    let best = &several[fused.best];
                    if let Some(mut hit) = found(best, &best.candidates[fused.at])? {
                        (hit.fused, hit.lanes) = (Some(fused.score), fused.lanes);
                        hits.push(hit);
                    }
                }
                hits
            }
        };
        let n_candidates = n_together(&rankings);
        let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(SearchReply { hits, n_candidates, elapsed_ms, lanes, remarks: Vec::new() })
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
struct Part {
    modality: Modality,
    weight: f32,
    vector: Vec<f32>,
}

fn item_of(what: &QueryMedia) -> Option<i64> {
    match what {
        QueryMedia::Item(id) => Some(*id),
        QueryMedia::Media(_) | QueryMedia::Vector(..) => None,
    }
}

/// A lane with a query as it is asked there.
struct Asked<'a> {
    lane: &'a Lane,
    parts: Vec<Part>,
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
    /// The lanes that can answer, and, where there are several, what became of each.
    fn asked(&self, request: &SearchRequest) -> Result<(Vec<Asked<'_>>, Vec<LaneAsked>)> {
        check(request)?;
        let mut lanes = self.lanes_named(&request.lanes)?;
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
        if let [only] = lanes.as_slice() {
            return Ok((vec![Asked { lane: only, parts: self.parts(only, request)? }], Vec::new()));
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
            Some(error) if asked.is_empty() => Err(error),
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
            let (condition, values) = filter.sql();
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

/// Refuses what no lane can answer.
fn check(request: &SearchRequest) -> Result<()> {
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

/// An item in the joined ranking of several lanes.
struct Fused {
    score: f64,
    /// The lane that ranks it best, the first of several, and its place there.
    best: usize,
    at: usize,
    lanes: Vec<InLane>,
}

/// The best `k` of several rankings, joined by reciprocal ranks.
fn fused(rankings: &[Ranked], k: usize) -> Result<Vec<Fused>> {
    // By rank alone: an item's score here is its place, negated, which `f32` holds exactly up to 2^24.
    let hit = |(at, candidate): (usize, &Candidate)| {
        Score::new(-(at as f32)).ok().map(|score| Hit { id: candidate.item as u64, score })
    };
    let lists: Vec<Vec<Hit>> = rankings.iter().map(|r| r.candidates.iter().enumerate().filter_map(hit).collect()).collect();
    let fused = fuse(&lists, &Fusion::default(), Normalisation::None)?;
    let places: Vec<HashMap<i64, usize>> =
        rankings.iter().map(|r| r.candidates.iter().enumerate().map(|(at, c)| (c.item, at)).collect()).collect();
    let one = |hit: &chiasm_index::FusedHit| {
        let item = hit.id as i64;
        let held: Vec<(usize, usize)> =
            places.iter().enumerate().filter_map(|(lane, places)| places.get(&item).map(|at| (lane, *at))).collect();
        let (best, at) = held.iter().copied().min_by_key(|(lane, at)| (*at, *lane))?;
        let in_lane = |(lane, at): &(usize, usize)| {
            let c = &rankings[*lane].candidates[*at];
            let (z, chance) = (c.z.map(|z| z as f32), c.chance.map(|c| c as f32));
            InLane { lane: rankings[*lane].lane.clone(), rank: at + 1, score: c.score as f32, z, chance }
        };
        Some(Fused { score: hit.score, best, at, lanes: held.iter().map(in_lane).collect() })
    };
    Ok(fused.iter().take(k).filter_map(one).collect())
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
    row: usize,
    via: Modality,
    /// Closeness as it is told.
    score: f64,
    /// The same less the item's crowding: what it is ranked by where there is no `z`, which is made from it.
    uncrowded: f64,
    z: Option<f64>,
    chance: Option<f64>,
}

impl Candidate {
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
        Candidate { item: live.items[row], row, via: self.modality, score, uncrowded, z, chance }
    }
}

fn found(reader: &Connection, live: &Live, candidate: &Candidate) -> rusqlite::Result<Option<Found>> {
    let segment = live.index.ids()[candidate.row] as i64;
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
        Ok(Found {
            item: candidate.item,
            path: path_of(row.get(1)?),
            kind: modality_at(row, 0)?,
            via: candidate.via,
            score: candidate.score as f32,
            z: candidate.z.map(|z| z as f32),
            chance: candidate.chance.map(|c| c as f32),
            rerank_score: None,
            span: span_at(row, 2)?,
            snippet: body.map(|b| one_line(&b)),
            metadata: item_metadata(row, 6)?,
            fused: None,
            lanes: Vec::new(),
        })
    };
    let Some(mut found) = reader.prepare_cached(&sql)?.query_row((candidate.item, segment), read).optional()? else {
        return Ok(None);
    };
    if found.snippet.is_none() {
        let sql = "SELECT t.body FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = ?1 ORDER BY s.id LIMIT 1";
        let body: Option<String> = reader.prepare_cached(sql)?.query_row([candidate.item], |row| row.get(0)).optional()?;
        found.snippet = body.map(|b| one_line(&b));
    }
    Ok(Some(found))
}
