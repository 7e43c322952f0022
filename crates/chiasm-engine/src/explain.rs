//! Why an item was found: what of the query, and what of the item, its score hangs on.
//!
//! Each piece is left out in turn and the score is taken anew; the drop is what the piece brought, negative where it did harm. This asks
//! nothing of a model but that it can be called, so it serves every encoder, and it tells what the *score* depends on, not what
//! a person would call the reason. Effects of pieces do not add up: of two dogs neither is missed alone.
//!
//! # Reference
//! Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2: a grey square slides over a picture.
//! Differs from it in: an 8 x 8 grid and squares of two sizes, twice a cell's side around each cell and
//! half of the picture's, since of a large thing enough is left beside a small square; a cell is told the mean of both, of the larger
//! squares the mean of those over it. Words are left out as in Li, Monroe,
//! Jurafsky, "Understanding Neural Networks through Representation Erasure", 2016.
//! # What is left out
//! | of | piece | at most |
//! | --- | --- | --- |
//! | words of the query | a word; a character of Chinese; a run of one script in Japanese | 32, neighbours together where there are more |
//! | a picture, the best frame of a video | a square, made grey | 64 and 25 |
//! | a sound | a window, silenced | 32 |
//! | a series | a window, every channel held at its mean | 32 |
//! | a text | a sentence of the passage that matched, a word where there is but one | 32 |
//!
//! Drops are in deviations above unrelated pairs (`z`) where a lane has such figures, else in closeness; of several lanes the mean of
//! those that have them.
//! # Cost
//! One encoding for each piece and lane: 90 pictures for a picture.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use chiasm_core::{Cancel, EncodeError, Image, Media, Metric, Modality, Series, Span, Vectors, Video, Waveform};
use chiasm_media::Limits;
use serde::Serialize;

use crate::browse::chars_before;
use crate::calibrate::{PairScores, closeness};
use crate::lane::Lane;
use crate::library::span_at;
use crate::live::Live;
use crate::search::{self, Asked, LANE_MEANING, LANE_NAMES, LANE_WORDS, LaneAsked, Part, Query, QueryMedia, SearchRequest};
use crate::{EngineError, Library, Result, Space};

/// Words, windows and sentences at most.
const MAX_UNITS: usize = 32;
/// Cells of a picture along either side, and those of a larger square.
const SIDE: usize = 8;
const LARGE: usize = 4;
/// Places of a larger square along a side.
const LARGE_PLACES: usize = SIDE - LARGE + 1;
/// What stands in place of a covered cell, in each channel: the middle of what pixels may be, near to the mean that networks take off.
const GREY: u8 = 120;
/// Pixels along the longer side of the picture that is masked; encoders see about 224 to 384.
const MAX_PIXELS: u32 = 512;
/// Media that are encoded in one call, and bytes of them.
const AT_ONCE: usize = 16;
const AT_ONCE_BYTES: usize = 64 << 20;
/// Seconds of a window of a sound, where 4 to 32 of them are enough.
const WINDOW_S: f64 = 0.25;
/// Frames of a video of which the best is looked at.
const FRAMES: usize = 8;
/// How deep an item's rank is looked for.
const RANKS: usize = 1_000;

/// Which item is to be explained, and how.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// What was asked.
    pub query: Query,
    /// The item.
    pub item: i64,
    /// Names of the lanes to ask; all models when it names none.
    pub lanes: Vec<String>,
    /// Whether to tell what each word of the query's texts brought.
    pub words: bool,
    /// Whether to tell what each part of the item brought.
    pub heat: bool,
    /// How much the item's file may ask for.
    pub limits: Limits,
}

/// How close a lane sees query and item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneScore {
    /// The lane.
    pub lane: String,
    /// As [`crate::Found::score`].
    pub score: f32,
    /// As [`crate::Found::z`].
    pub z: Option<f32>,
    /// As [`crate::Found::chance`], among all vectors of the kind.
    pub chance: Option<f32>,
    /// Where the item stands among all items in this lane, from 1; absent beyond 1,000, and for an item that is itself asked with.
    pub rank: Option<usize>,
    /// What of the item matched best: its own content, or `text` for a caption.
    #[serde(serialize_with = "crate::serial::modality")]
    pub via: Modality,
    /// Which part of it.
    #[serde(serialize_with = "crate::serial::unit_span")]
    pub span: Span,
}

/// What a word brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WordDrop {
    /// Which part of the query it stands in, from 0.
    pub part: usize,
    /// The word, or several where the text is long.
    pub word: String,
    /// Characters (code points) of the part's text before it.
    pub start: usize,
    /// The same of its end.
    pub end: usize,
    /// By how much the score drops without it.
    pub drop: f32,
}

/// What a window brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WindowDrop {
    /// Seconds before it.
    pub start_s: f64,
    /// Seconds to its end.
    pub end_s: f64,
    /// By how much the score drops without it.
    pub drop: f32,
}

/// What a stretch of a series brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepDrop {
    /// Readings before it.
    pub start: usize,
    /// Readings to its end.
    pub end: usize,
    /// By how much the score drops without it.
    pub drop: f32,
}

/// What a passage brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassageDrop {
    /// Characters (code points) of the item's text before it; see [`crate::Details::text`].
    pub start: usize,
    /// The same of its end.
    pub end: usize,
    /// The passage.
    pub text: String,
    /// By how much the score drops without it.
    pub drop: f32,
}

/// What the parts of an item brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Heat {
    /// Of a picture.
    Grid {
        /// Cells along a row.
        columns: usize,
        /// Rows.
        rows: usize,
        /// Row by row.
        drop: Vec<f32>,
        /// Of a video: when the frame is shown that comes closest.
        #[serde(skip_serializing_if = "Option::is_none")]
        at_s: Option<f64>,
    },
    /// Of a sound.
    Time {
        /// In their order, one after the other.
        windows: Vec<WindowDrop>,
    },
    /// Of a series.
    Steps {
        /// In their order, one after the other.
        windows: Vec<StepDrop>,
    },
    /// Of a text.
    Text {
        /// In their order.
        passages: Vec<PassageDrop>,
    },
}

/// What drops are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DropUnit {
    /// Deviations above unrelated pairs.
    Z,
    /// The space's own closeness.
    Closeness,
}

/// Why an item was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The item.
    pub item: i64,
    /// The lanes that can compare query and item.
    pub lanes: Vec<LaneScore>,
    /// The others that were asked for, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LaneAsked>,
    /// What drops are measured in.
    pub unit: DropUnit,
    /// Words of the query's texts; absent when they were not asked for or cannot be told.
    pub words: Option<Vec<WordDrop>>,
    /// Parts of the item itself, also where its caption matched; absent when they were not asked for or cannot be told.
    pub heat: Option<Heat>,
    /// What a person should know: that a caption matched, why something could not be told.
    pub remarks: Vec<String>,
    /// Time it took.
    pub elapsed_ms: f64,
}

impl Library {
    /// Says why an item answers a query. Takes a second or more when words or heat are asked for; stopped by `cancel` between two calls
    /// of an encoder.
    ///
    /// # Errors
    /// As [`Library::search`]; [`EngineError::ItemFile`] when heat is asked for and none of the item's files can be read;
    /// [`EngineError::Cancelled`].
    pub fn explain(&self, request: &ExplainRequest, cancel: &Cancel) -> Result<Explanation> {
        let started = Instant::now();
        let kind = self.item(request.item)?.kind;
        let search = self.to_search(request)?;
        search::check(&search)?;
        let (lanes, _) = self.chosen(&search)?;
        let (asked, mut told) = self.asked(&search, lanes, false)?;
        told.retain(|lane| lane.left_out.is_some());
        let mut matches = Vec::new();
        for asked in asked {
            match Match::new(self, asked, request.item, kind)? {
                Ok(found) => matches.push(found),
                Err(lane) => {
                    let left_out = Some("it has no vector of this item".to_owned());
                    told.push(LaneAsked { lane: lane.name().to_owned(), left_out });
                }
            }
        }
        let mut remarks = Vec::new();
        if matches.iter().any(|m| m.via != kind) {
            remarks.push("a caption beside the file matched better than the file itself".to_owned());
        }
        let mut lanes = Vec::new();
        for found in &matches {
            cancel.check()?;
            lanes.push(self.lane_score(found, &search, request.item)?);
        }
        // Drops of lanes are comparable in deviations only.
        let calibrated: Vec<&Match<'_>> = matches.iter().filter(|m| m.scale(m.row).is_some()).collect();
        let (unit, usable) = match calibrated.is_empty() {
            false => (DropUnit::Z, calibrated),
            true => (DropUnit::Closeness, matches.iter().take(1).collect()),
        };
        let words = match request.words {
            true => words(&usable, &search.query, cancel, &mut remarks)?,
            false => None,
        };
        let heat = match request.heat {
            true => self.heat(&usable, request, kind, cancel, &mut remarks)?,
            false => None,
        };
        let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Explanation { item: request.item, lanes, left_out: told, unit, words, heat, remarks, elapsed_ms })
    }

    /// An item's content from the first of its files that still holds it, decoded.
    ///
    /// # Errors
    /// [`EngineError::NoSuchItem`]; [`EngineError::ItemFile`] when no file holds it any more or it cannot be decoded under these limits.
    pub fn load_item(&self, item: i64, limits: &Limits) -> Result<Media> {
        let found = self.item(item)?;
        let mut reason = "it has no file".to_owned();
        for path in &found.paths {
            let told = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
            reason = match chiasm_media::read(path, limits) {
                Err(error) => told(&error),
                Ok(bytes) if blake3::hash(&bytes).to_hex().as_str() != found.hash => {
                    told(&"has changed since it was indexed: index again")
                }
                Ok(bytes) => match chiasm_media::decode(path, &bytes, limits) {
                    Ok(decoded) => return Ok(decoded.media),
                    Err(error) => told(&error),
                },
            };
        }
        Err(EngineError::ItemFile { item, reason })
    }

    /// The query as a search, its media embedded once for all that follows.
    fn to_search(&self, request: &ExplainRequest) -> Result<SearchRequest> {
        let mut query = request.query.clone();
        for part in &mut query.parts {
            if let QueryMedia::Media(media) = &part.what {
                part.what = QueryMedia::Embedded(Arc::new(self.embed(media)?));
            }
        }
        let words = [LANE_MEANING, LANE_WORDS, LANE_NAMES];
        let mut lanes: Vec<String> = request.lanes.iter().filter(|lane| !words.contains(&lane.as_str())).cloned().collect();
        // Words and names have no vectors to explain; what they are asked for is what models make of it.
        if lanes.is_empty() || request.lanes.iter().any(|lane| lane == LANE_MEANING) {
            lanes.clear();
        }
        Ok(SearchRequest { query, lanes, ..SearchRequest::default() })
    }

    fn lane_score(&self, found: &Match<'_>, search: &SearchRequest, item: i64) -> Result<LaneScore> {
        let measured = found.measure(&found.asked.parts, found.row_vector(), found.scale(found.row).as_deref());
        let segment = found.live.index.ids()[found.row] as i64;
        let reader = self.store.reader()?;
        let span = || -> rusqlite::Result<Span> {
            let sql = "SELECT span_unit, span_start, span_end FROM segments WHERE id = ?1";
            reader.prepare_cached(sql)?.query_row([segment], |row| span_at(row, 0))
        };
        let span = span().map_err(self.store.err("cannot read a part"))?;
        let lane = found.asked.lane.name().to_owned();
        let alone = SearchRequest { k: RANKS, lanes: vec![lane.clone()], ..search.clone() };
        let rank = self.search(&alone)?.hits.iter().position(|hit| hit.item == item).map(|at| at + 1);
        let score = measured.score as f32;
        let (z, chance) = (measured.z.map(|z| z as f32), measured.chance.map(|c| c as f32));
        Ok(LaneScore { lane, score, z, chance, rank, via: found.via, span })
    }

    fn heat(
        &self,
        matches: &[&Match<'_>],
        request: &ExplainRequest,
        kind: Modality,
        cancel: &Cancel,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Heat>> {
        // Of the item itself: a caption is explained by the words that are asked for.
        let able = |m: &&&Match<'_>| m.own.is_some() && m.space().can_embed(kind);
        let able: Vec<&Match<'_>> = matches.iter().filter(able).copied().collect();
        let Some((first, own)) = able.first().and_then(|m| Some((*m, m.own?))) else {
            remarks.push(format!("no lane can embed {kind}, so that its parts cannot be told apart"));
            return Ok(None);
        };
        let segment = first.live.index.ids()[own] as i64;
        let pieces = match kind {
            Modality::Text => self.text_pieces(request.item, segment)?,
            Modality::Image | Modality::Audio | Modality::Series | Modality::Video => {
                let media = self.load_item(request.item, &request.limits)?;
                let reader = self.store.reader()?;
                let span = || -> rusqlite::Result<Span> {
                    let sql = "SELECT span_unit, span_start, span_end FROM segments WHERE id = ?1";
                    reader.prepare_cached(sql)?.query_row([segment], |row| span_at(row, 0))
                };
                let span = span().map_err(self.store.err("cannot read a part"))?;
                pieces(media, span, first, cancel)?
            }
        };
        let n = pieces.n();
        let mut drops = vec![0.0_f64; n];
        for m in &able {
            let Some(whole) = m.of_items(kind, std::slice::from_ref(&pieces.whole))?.pop().flatten() else { continue };
            let at_once = (AT_ONCE_BYTES / crate::pipeline::media_bytes(&pieces.whole).max(1)).clamp(1, AT_ONCE);
            for first in (0..n).step_by(at_once) {
                cancel.check()?;
                let without: Vec<Media> = (first..n.min(first + at_once)).map(|i| pieces.without(i)).collect();
                let left = m.of_items(kind, &without)?;
                for (drop, left) in drops[first..].iter_mut().zip(left) {
                    *drop += m.lost(whole, left, m.scale_of(kind).is_some()) / able.len() as f64;
                }
            }
        }
        Ok(Some(pieces.told(&drops)))
    }

    /// The sentences of the passage that matched.
    fn text_pieces(&self, item: i64, segment: i64) -> Result<Pieces> {
        let reader = self.store.reader()?;
        let read = || -> rusqlite::Result<(String, usize)> {
            let sql = "SELECT body FROM texts WHERE segment = ?1";
            let body: String = reader.prepare_cached(sql)?.query_row([segment], |row| row.get(0))?;
            Ok((body, chars_before(&reader, item, segment)?))
        };
        let (text, before) = read().map_err(self.store.err("cannot read a text"))?;
        let sentences = grouped(sentences(&text));
        let units = if sentences.len() > 1 { sentences } else { units(&text) };
        Ok(Pieces { what: What::Text { units, before, text: text.clone() }, whole: Media::Text(text) })
    }
}

/// A lane, and the rows by which it sees the item.
struct Match<'a> {
    asked: Asked<'a>,
    live: Arc<Live>,
    /// The row that matches best.
    row: usize,
    /// Its modality.
    via: Modality,
    /// The best row of the item itself, captions left out.
    own: Option<usize>,
    kind: Modality,
    n_rows: usize,
}

/// How close query and row are.
struct Measured {
    score: f64,
    z: Option<f64>,
    chance: Option<f64>,
}

impl Measured {
    fn value(&self) -> f64 {
        self.z.unwrap_or(self.score)
    }
}

impl<'a> Match<'a> {
    /// The lane itself where it has no vector of the item.
    fn new(library: &Library, asked: Asked<'a>, item: i64, kind: Modality) -> Result<std::result::Result<Match<'a>, &'a Lane>> {
        let live = asked.lane.live(&library.store)?;
        let mut found = Match { asked, live, row: 0, via: kind, own: None, kind, n_rows: 0 };
        let live = Arc::clone(&found.live);
        // By deviations only where all rows have them: a closeness is no deviation.
        let rows: Vec<usize> = (0..live.items.len()).filter(|row| live.items[*row] == item).collect();
        let calibrated = rows.iter().all(|row| found.scale(*row).is_some());
        let value = |found: &Match<'_>, row: usize| {
            let scale = found.scale(row).filter(|_| calibrated);
            found.measure(&found.asked.parts, live.index.vector(row), scale.as_deref()).value()
        };
        let best = |found: &Match<'_>, rows: &[usize]| {
            let valued = rows.iter().map(|row| (value(found, *row), *row));
            valued.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, row)| row)
        };
        let Some(row) = best(&found, &rows) else { return Ok(Err(found.asked.lane)) };
        let own: Vec<usize> = rows.iter().copied().filter(|row| found.modality(*row) == kind).collect();
        found.own = best(&found, &own);
        (found.row, found.via) = (row, found.modality(row));
        found.n_rows = live.by_modality.get(&found.via).map_or(0, |rows| rows.count());
        Ok(Ok(found))
    }

    fn space(&self) -> &Space {
        self.asked.lane.space()
    }

    fn modality(&self, row: usize) -> Modality {
        let of = self.live.by_modality.iter().find(|(_, rows)| rows.contains(row));
        of.map_or(self.kind, |(modality, _)| *modality)
    }

    fn row_vector(&self) -> &[f32] {
        self.live.index.vector(self.row)
    }

    /// Scores of unrelated pairs for each part and rows like this one.
    fn scale(&self, row: usize) -> Option<Vec<&PairScores>> {
        self.scale_of(self.modality(row))
    }

    fn scale_of(&self, modality: Modality) -> Option<Vec<&PairScores>> {
        let of = |part: &Part| self.live.calibration(self.space(), part.modality, modality);
        self.asked.parts.iter().map(of).collect()
    }

    /// As a search does it, see `search.rs`: deviations joined by Stouffer's rule, closeness by its mean.
    fn measure(&self, parts: &[Part], row: &[f32], scale: Option<&[&PairScores]>) -> Measured {
        let (space, dim) = (self.space(), self.space().dim());
        let ranking = |part: &Part| f64::from(closeness(space.ranking_metric(), &part.vector, row));
        let shown = |part: &Part| f64::from(closeness(space.metric(), &part.vector[..dim], &row[..dim]));
        let total: f64 = parts.iter().map(|p| f64::from(p.weight.abs())).sum();
        let squares: f64 = parts.iter().map(|p| f64::from(p.weight).powi(2)).sum();
        let score = match parts {
            [one] => shown(one),
            several => several.iter().map(|p| f64::from(p.weight) * shown(p)).sum::<f64>() / total,
        };
        let z = scale.map(|scale| match parts {
            [one] => scale[0].z(ranking(one)),
            several => {
                let zs = several.iter().zip(scale).map(|(p, s)| f64::from(p.weight) * s.z(ranking(p)));
                zs.sum::<f64>() / squares.sqrt()
            }
        });
        let chance = match (scale, parts) {
            (Some(scale), [one]) => Some(scale[0].share_above(ranking(one)) * self.n_rows as f64),
            _ => None,
        };
        Measured { score, z, chance }
    }

    /// Vectors of media of one kind, each taken whole; none for what leaves the encoder nothing to look at, such as silence.
    fn embed_each(&self, media: &[Media]) -> Result<Vec<Option<Vec<f32>>>> {
        let is_something = |media: &&Media| match media {
            Media::Text(text) => text.chars().any(char::is_alphanumeric),
            Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) => true,
        };
        let unencodable = |error: &EngineError| matches!(error, EngineError::Encode(EncodeError::Unencodable { .. }));
        if media.iter().all(|media| is_something(&media)) {
            match self.space().embed(media) {
                Ok(vectors) => return Ok(vectors.rows().map(|row| Some(row.to_vec())).collect()),
                // Which of them it is, is found out one by one.
                Err(error) if unencodable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let one = |media: &Media| match self.space().embed(std::slice::from_ref(media)) {
            _ if !is_something(&media) => Ok(None),
            Ok(vectors) => Ok(Some(vectors.into_data())),
            Err(error) if unencodable(&error) => Ok(None),
            Err(error) => Err(error),
        };
        media.iter().map(one).collect()
    }

    /// The value of items in place of this one, of its kind; none for what leaves nothing to look at.
    fn of_items(&self, kind: Modality, media: &[Media]) -> Result<Vec<Option<f64>>> {
        let (space, scale) = (self.space(), self.scale_of(kind));
        let value = |vector: Option<Vec<f32>>| -> Result<Option<f64>> {
            let Some(vector) = vector else { return Ok(None) };
            let row = space.as_gallery(kind, &checked(vector, space.dim())?)?.into_data();
            Ok(Some(self.measure(&self.asked.parts, &row, scale.as_deref()).value()))
        };
        self.embed_each(media)?.into_iter().map(value).collect()
    }

    /// The value of the best row under texts in place of a part of the query; none for one that leaves nothing to ask.
    fn of_texts(&self, part: usize, texts: &[String], cancel: &Cancel) -> Result<Vec<Option<f64>>> {
        let (space, scale) = (self.space(), self.scale(self.row));
        let mut values = Vec::with_capacity(texts.len());
        for texts in texts.chunks(AT_ONCE) {
            cancel.check()?;
            let media: Vec<Media> = texts.iter().cloned().map(Media::Text).collect();
            let is_short = |media: &Media| chiasm_media::spans(media, &Default::default()).spans.len() == 1;
            let vectors = match media.iter().all(is_short) {
                true => self.embed_each(&media)?,
                // As the query itself: the mean of its passages.
                false => media.iter().map(|media| space.embed_query(media).map(Some)).collect::<Result<_>>()?,
            };
            for vector in vectors {
                let Some(vector) = vector else {
                    values.push(None);
                    continue;
                };
                let vector = space.as_query(Modality::Text, &checked(vector, space.dim())?)?.into_data();
                let replaced = |(at, p): (usize, &Part)| Part {
                    modality: p.modality,
                    weight: p.weight,
                    vector: if at == part { vector.clone() } else { p.vector.clone() },
                };
                let parts: Vec<Part> = self.asked.parts.iter().enumerate().map(replaced).collect();
                values.push(Some(self.measure(&parts, self.row_vector(), scale.as_deref()).value()));
            }
        }
        Ok(values)
    }

    /// By how much a value drops. What leaves nothing is as close as what is unrelated: 0 deviations, and about 0 for a cosine; distances
    /// have no such point, so there it is no drop.
    fn lost(&self, whole: f64, left: Option<f64>, is_calibrated: bool) -> f64 {
        match left {
            Some(left) => whole - left,
            None if is_calibrated || self.space().metric() != Metric::L2 => whole,
            None => 0.0,
        }
    }
}

fn checked(vector: Vec<f32>, dim: usize) -> Result<Vectors> {
    let numbers = |source| EngineError::Numbers { what: "vectors of what was left out".to_owned(), source };
    Vectors::new(vector, dim).map_err(numbers)
}

/// What each word of the query's texts brought.
fn words(matches: &[&Match<'_>], query: &Query, cancel: &Cancel, remarks: &mut Vec<String>) -> Result<Option<Vec<WordDrop>>> {
    let texts: Vec<(usize, &str)> =
        query.parts.iter().enumerate().filter_map(|(at, part)| Some((at, search::text_of(&part.what)?))).collect();
    if texts.is_empty() {
        return Ok(None);
    }
    let able: Vec<&Match<'_>> = matches.iter().filter(|m| m.space().can_embed(Modality::Text)).copied().collect();
    if able.is_empty() {
        remarks.push("no lane can embed text, so that words cannot be told apart".to_owned());
        return Ok(None);
    }
    let mut told = Vec::new();
    for (part, text) in texts {
        let units = units(text);
        let without: Vec<String> = units.iter().map(|unit| left_out(text, unit)).collect();
        let mut drops = vec![0.0_f64; units.len()];
        for m in &able {
            let scale = m.scale(m.row);
            let whole = m.measure(&m.asked.parts, m.row_vector(), scale.as_deref()).value();
            for (drop, left) in drops.iter_mut().zip(m.of_texts(part, &without, cancel)?) {
                *drop += m.lost(whole, left, scale.is_some()) / able.len() as f64;
            }
        }
        for (unit, drop) in units.iter().zip(drops) {
            let (start, end) = (n_chars(&text[..unit.shown.start]), n_chars(&text[..unit.shown.end]));
            told.push(WordDrop { part, word: text[unit.shown.clone()].to_owned(), start, end, drop: drop as f32 });
        }
    }
    Ok(Some(told))
}

fn n_chars(text: &str) -> usize {
    text.chars().count()
}

/// A piece of a text: the bytes that are shown, and those that go when it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    shown: Range<usize>,
    cut: Range<usize>,
}

/// What a character is written like, as far as words are told apart by it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Han,
    Hiragana,
    Katakana,
    Spaced,
}

fn script(c: char) -> Script {
    match c {
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' | '々' => {
            Script::Han
        }
        '\u{3041}'..='\u{309f}' => Script::Hiragana,
        '\u{30a0}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => Script::Katakana,
        _ => Script::Spaced,
    }
}

/// The words of a text, at most 32 pieces: neighbours go together where there are more. Scripts with spaces are cut at them. Chinese
/// is cut into characters, each of which means something; in Japanese a run of one script is about a word.
fn units(text: &str) -> Vec<Unit> {
    let is_japanese = text.chars().any(|c| matches!(script(c), Script::Hiragana | Script::Katakana));
    let mut units = Vec::new();
    for token in split_at(text, char::is_whitespace) {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut last: Option<Script> = None;
        for (at, c) in text[token.clone()].char_indices() {
            let at = token.start + at;
            let (end, own) = (at + c.len_utf8(), script(c));
            let in_word = own != Script::Spaced || c.is_alphanumeric() || "'’-_".contains(c);
            let goes_on = in_word && last == Some(own) && (own != Script::Han || is_japanese);
            match runs.last_mut().filter(|_| goes_on) {
                Some(run) => run.end = end,
                None if in_word => runs.push(at..end),
                None => {}
            }
            last = in_word.then_some(own);
        }
        runs.retain(|run| text[run.clone()].chars().any(char::is_alphanumeric));
        match runs.as_slice() {
            // Marks that stand at a word go with it.
            [one] => units.push(Unit { shown: one.clone(), cut: token }),
            several => units.extend(several.iter().map(|run| Unit { shown: run.clone(), cut: run.clone() })),
        }
    }
    grouped(units)
}

/// The sentences of a text, ended by their marks or by a line's end.
fn sentences(text: &str) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    let mut push = |range: Range<usize>| {
        let shown = text[range.clone()].trim();
        if shown.chars().any(char::is_alphanumeric) {
            let first = range.start + (text[range.clone()].len() - text[range.clone()].trim_start().len());
            units.push(Unit { shown: first..first + shown.len(), cut: range });
        }
    };
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let next = chars.peek().map(|(_, next)| *next);
        let is_mark = matches!(c, '.' | '!' | '?' | '…') && next.is_none_or(char::is_whitespace);
        let is_cjk_mark = matches!(c, '。' | '！' | '？' | '；' | '｡') && !next.is_some_and(|n| "”’」』）》".contains(n));
        let closes = matches!(c, '”' | '’' | '」' | '』' | '"') && text[..at].ends_with(['.', '!', '?', '。', '！', '？']);
        if is_mark || is_cjk_mark || closes || c == '\n' || next.is_none() {
            push(start..end);
            start = end;
        }
    }
    units
}

/// At most [`MAX_UNITS`] pieces, neighbours put together as evenly as can be.
fn grouped(units: Vec<Unit>) -> Vec<Unit> {
    let n = units.len();
    if n <= MAX_UNITS {
        return units;
    }
    let group = |i: usize| {
        let (first, last) = (&units[i * n / MAX_UNITS], &units[(i + 1) * n / MAX_UNITS - 1]);
        Unit { shown: first.shown.start..last.shown.end, cut: first.cut.start..last.cut.end }
    };
    (0..MAX_UNITS).map(group).collect()
}

fn split_at(text: &str, is_gap: fn(char) -> bool) -> Vec<Range<usize>> {
    let base = text.as_ptr() as usize;
    let range = |piece: &str| {
        let start = piece.as_ptr() as usize - base;
        start..start + piece.len()
    };
    text.split(is_gap).filter(|piece| !piece.is_empty()).map(range).collect()
}

/// A text without a piece of it, and without the gap that it leaves.
fn left_out(text: &str, unit: &Unit) -> String {
    let (before, after) = (&text[..unit.cut.start], &text[unit.cut.end..]);
    let gap = before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace);
    let (before, after) = (before.trim_end(), after.trim_start());
    let between = if gap && !before.is_empty() && !after.is_empty() { " " } else { "" };
    format!("{before}{between}{after}")
}

/// An item, and the pieces of it that are left out in turn.
struct Pieces {
    whole: Media,
    what: What,
}

enum What {
    Grid { picture: Image, at_s: Option<f64> },
    Time { windows: Vec<Range<usize>>, before_s: f64 },
    Steps { windows: Vec<Range<usize>> },
    Text { units: Vec<Unit>, before: usize, text: String },
}

/// The pieces of media other than text.
fn pieces(media: Media, span: Span, lane: &Match<'_>, cancel: &Cancel) -> Result<Pieces> {
    let before_s = match span {
        Span::Time { start_s, .. } => start_s,
        Span::Whole | Span::Bytes { .. } => 0.0,
    };
    let part = match span {
        Span::Whole => media,
        Span::Time { .. } | Span::Bytes { .. } => chiasm_media::part(&media, span),
    };
    Ok(match part {
        Media::Image(image) => {
            let picture = chiasm_media::shrink(image, MAX_PIXELS);
            Pieces { whole: Media::Image(picture.clone()), what: What::Grid { picture, at_s: None } }
        }
        Media::Video(video) => {
            let mut frames = video.spread(FRAMES);
            frames.dedup();
            let shown = |at: usize| chiasm_media::shrink(Image::clone(&video.frames[at]), MAX_PIXELS);
            let stills: Vec<Media> = frames.iter().map(|at| still(&shown(*at))).collect();
            cancel.check()?;
            let values = lane.of_items(Modality::Video, &stills)?;
            let best = (0..frames.len()).reduce(|a, b| if values[b] > values[a] { b } else { a }).unwrap_or(0);
            let picture = shown(frames[best]);
            let at_s = Some(before_s + video.times_s[frames[best]]);
            Pieces { whole: still(&picture), what: What::Grid { picture, at_s } }
        }
        Media::Audio(wave) => {
            let n = (wave.duration_s() / WINDOW_S).ceil().clamp(4.0, MAX_UNITS as f64) as usize;
            let windows = stretches(wave.samples.len(), n);
            Pieces { whole: Media::Audio(wave), what: What::Time { windows, before_s } }
        }
        Media::Series(series) => {
            let windows = stretches(series.n_steps(), MAX_UNITS);
            Pieces { whole: Media::Series(series), what: What::Steps { windows } }
        }
        Media::Text(text) => {
            let what = What::Text { units: units(&text), before: 0, text: text.clone() };
            Pieces { whole: Media::Text(text), what }
        }
    })
}

/// `n` stretches of as equal length as can be, none empty.
fn stretches(len: usize, n: usize) -> Vec<Range<usize>> {
    let n = n.min(len).max(1);
    (0..n).map(|i| i * len / n..(i + 1) * len / n).collect()
}

/// A video of one frame.
fn still(image: &Image) -> Media {
    Media::Video(Video { frames: vec![Arc::new(image.clone())], times_s: vec![0.0], duration_s: 0.0 })
}

impl Pieces {
    fn n(&self) -> usize {
        match &self.what {
            What::Grid { .. } => SIDE * SIDE + LARGE_PLACES * LARGE_PLACES,
            What::Time { windows, .. } | What::Steps { windows } => windows.len(),
            What::Text { units, .. } => units.len(),
        }
    }

    /// The item without one of its pieces.
    fn without(&self, i: usize) -> Media {
        match (&self.what, &self.whole) {
            (What::Grid { picture, .. }, whole) => {
                let masked = masked(picture, i);
                if whole.modality() == Modality::Video { still(&masked) } else { Media::Image(masked) }
            }
            (What::Time { windows, .. }, Media::Audio(wave)) => {
                let mut samples = wave.samples.clone();
                samples[windows[i].clone()].fill(0.0);
                Media::Audio(Waveform { sample_rate_hz: wave.sample_rate_hz, samples })
            }
            (What::Steps { windows }, Media::Series(series)) => Media::Series(held(series, windows[i].clone())),
            (What::Text { units, text, .. }, _) => Media::Text(left_out(text, &units[i])),
            (What::Time { .. } | What::Steps { .. }, other) => other.clone(),
        }
    }

    fn told(&self, drops: &[f64]) -> Heat {
        let drops: Vec<f32> = drops.iter().map(|drop| *drop as f32).collect();
        match &self.what {
            What::Grid { at_s, .. } => Heat::Grid { columns: SIDE, rows: SIDE, drop: by_cell(&drops), at_s: *at_s },
            What::Time { windows, before_s } => {
                let rate = match &self.whole {
                    Media::Audio(wave) => f64::from(wave.sample_rate_hz),
                    Media::Image(_) | Media::Text(_) | Media::Series(_) | Media::Video(_) => 1.0,
                };
                let at = |sample: usize| before_s + sample as f64 / rate;
                let one = |(w, drop): (&Range<usize>, f32)| WindowDrop { start_s: at(w.start), end_s: at(w.end), drop };
                Heat::Time { windows: windows.iter().zip(drops).map(one).collect() }
            }
            What::Steps { windows } => {
                let one = |(w, drop): (&Range<usize>, f32)| StepDrop { start: w.start, end: w.end, drop };
                Heat::Steps { windows: windows.iter().zip(drops).map(one).collect() }
            }
            What::Text { units, before, text } => {
                let one = |(unit, drop): (&Unit, f32)| {
                    let at = |byte: usize| before + n_chars(&text[..byte]);
                    let (start, end) = (at(unit.shown.start), at(unit.shown.end));
                    PassageDrop { start, end, text: text[unit.shown.clone()].to_owned(), drop }
                };
                Heat::Text { passages: units.iter().zip(drops).map(one).collect() }
            }
        }
    }
}

/// Where a grey square lies along one side, in half cells: around a cell, half of each neighbour covered; or over some cells from one on.
fn around(cell: usize) -> Range<usize> {
    (2 * cell).saturating_sub(1)..(2 * cell + 3).min(2 * SIDE)
}

fn large(first: usize) -> Range<usize> {
    2 * first..2 * (first + LARGE)
}

/// A picture without one of its squares. These are grey: the picture's mean colour would be no neutral one, of a red thing it is reddish,
/// and what hides the thing would show it.
fn masked(image: &Image, square: usize) -> Image {
    let (columns, rows) = match square.checked_sub(SIDE * SIDE) {
        None => (around(square % SIDE), around(square / SIDE)),
        Some(place) => (large(place % LARGE_PLACES), large(place / LARGE_PLACES)),
    };
    let (width, height) = (image.width as usize, image.height as usize);
    let pixels = |halves: Range<usize>, pixels: usize| {
        let at = |half: usize| (half * pixels).div_ceil(2 * SIDE);
        at(halves.start)..at(halves.end)
    };
    let (columns, rows) = (pixels(columns, width), pixels(rows, height));
    let mut rgb = image.rgb.clone();
    rows.for_each(|y| rgb[3 * (y * width + columns.start)..3 * (y * width + columns.end)].fill(GREY));
    Image { width: image.width, height: image.height, rgb }
}

/// What each cell brought, of what each square did.
fn by_cell(drops: &[f32]) -> Vec<f32> {
    let (small, of_large) = drops.split_at(SIDE * SIDE);
    let over = |cell: usize| cell.saturating_sub(LARGE - 1)..=cell.min(LARGE_PLACES - 1);
    let one = |cell: usize| {
        let those = over(cell / SIDE).flat_map(|row| over(cell % SIDE).map(move |column| row * LARGE_PLACES + column));
        let (sum, n) = those.fold((0.0, 0.0), |(sum, n), place| (sum + of_large[place], n + 1.0));
        (small[cell] + sum / n) / 2.0
    };
    (0..SIDE * SIDE).map(one).collect()
}

/// A series with every channel held at its mean for a stretch.
fn held(series: &Series, stretch: Range<usize>) -> Series {
    let (n, n_steps) = (series.n_channels, series.n_steps().max(1));
    let mut values = series.values.clone();
    for c in 0..n {
        let mean = values.iter().skip(c).step_by(n).map(|v| f64::from(*v)).sum::<f64>() / n_steps as f64;
        stretch.clone().for_each(|step| values[step * n + c] = mean as f32);
    }
    Series { n_channels: n, names: series.names.clone(), values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<&str> {
        units(text).into_iter().map(|unit| &text[unit.shown]).collect()
    }

    #[test]
    fn words_are_what_can_be_left_out() {
        assert_eq!(shown("a black dog, running"), ["a", "black", "dog", "running"]);
        assert_eq!(shown("  (don't)  - stop! "), ["don't", "stop"]);
        assert_eq!(shown("红色的方块 left"), ["红", "色", "的", "方", "块", "left"]);
        assert_eq!(shown("赤い車がベンチの前に"), ["赤", "い", "車", "が", "ベンチ", "の", "前", "に"]);
        assert_eq!(shown("iPhone手机"), ["iPhone", "手", "机"]);
        assert!(shown("?! …").is_empty());
        let without = |text: &str| units(text).iter().map(|unit| left_out(text, unit)).collect::<Vec<_>>();
        assert_eq!(
            without("a black dog, running"),
            ["black dog, running", "a dog, running", "a black running", "a black dog,"]
        );
        assert_eq!(without("红车"), ["车", "红"]);
        assert_eq!(without("dog"), [""]);
        let long = "word ".repeat(100);
        assert_eq!(units(&long).len(), MAX_UNITS);
    }

    #[test]
    fn sentences_end_at_their_marks() {
        let shown = |text: &'static str| sentences(text).into_iter().map(|u| &text[u.shown]).collect::<Vec<_>>();
        assert_eq!(
            shown("It is 3.5 m. He said \"no.\" Then left!\nA line"),
            ["It is 3.5 m.", "He said \"no.\"", "Then left!", "A line"]
        );
        assert_eq!(shown("狗在跑。“猫呢？”他问"), ["狗在跑。", "“猫呢？”", "他问"]);
        assert_eq!(shown("one"), ["one"]);
    }

    #[test]
    fn squares_cover_a_cell_and_half_its_neighbours() {
        let image = Image { width: 80, height: 40, rgb: (0..80 * 40 * 3).map(|i| (i % 251) as u8).collect() };
        let changed = |square| {
            let masked = masked(&image, square);
            let is_changed = |p: &usize| masked.rgb[3 * p..3 * p + 3] != image.rgb[3 * p..3 * p + 3];
            let pixels: Vec<usize> = (0..80 * 40).filter(is_changed).collect();
            let (xs, ys) = (pixels.iter().map(|p| p % 80), pixels.iter().map(|p| p / 80));
            (xs.clone().min().unwrap(), xs.max().unwrap(), ys.clone().min().unwrap(), ys.max().unwrap())
        };
        assert_eq!(changed(3 * SIDE + 3), (25, 44, 13, 22));
        assert_eq!(changed(0), (0, 14, 0, 7));
        assert_eq!(changed(63), (65, 79, 33, 39));
        assert_eq!(changed(64), (0, 39, 0, 19));
        assert_eq!(changed(64 + 24), (40, 79, 20, 39));
        let tiny = Image { width: 1, height: 3, rgb: vec![9; 9] };
        for square in 0..64 + 25 {
            assert_eq!(masked(&tiny, square).rgb.len(), 9);
        }
    }

    #[test]
    fn a_cell_is_told_what_the_squares_over_it_did() {
        let mut drops = vec![0.0; 64 + 25];
        (drops[9], drops[64]) = (3.0, 1.0);
        let cells = by_cell(&drops);
        // The first large square is the only one over the first cell, one of two over its neighbour, one of 16 over the fourth of the fourth row.
        assert_eq!([cells[0], cells[1], cells[9], cells[27], cells[28]], [0.5, 0.25, 1.5 + 0.125, 1.0 / 32.0, 0.0]);
        assert_eq!(by_cell(&vec![2.0; 64 + 25]), vec![2.0; 64]);
    }

    #[test]
    fn a_series_is_held_at_its_mean() {
        let series = Series { n_channels: 2, names: vec![], values: vec![0.0, 10.0, 2.0, 20.0, 4.0, 30.0] };
        assert_eq!(held(&series, 1..3).values, [0.0, 10.0, 2.0, 20.0, 2.0, 20.0]);
        assert_eq!(stretches(5, 32), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert!(stretches(0, 4).iter().all(Range::is_empty));
    }

    proptest! {
        #[test]
        fn pieces_lie_within_the_text_in_order(text in "[a-c 。,.!\n红い'-]{0,80}") {
            for units in [units(&text), grouped(sentences(&text))] {
                prop_assert!(units.len() <= MAX_UNITS);
                prop_assert!(units.windows(2).all(|w| w[0].shown.end <= w[1].shown.start && w[0].cut.end <= w[1].cut.start));
                for unit in &units {
                    prop_assert!(!text[unit.shown.clone()].trim().is_empty());
                    prop_assert!(left_out(&text, unit).len() < text.len());
                }
            }
        }
    }
}
