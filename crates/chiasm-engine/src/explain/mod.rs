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

mod matching;
mod pieces;
mod units;

use std::sync::Arc;
use std::time::Instant;

use chiasm_core::{Cancel, Media, Modality, Span};
use chiasm_media::Limits;
use serde::Serialize;

use self::matching::{Match, valued};
use self::pieces::{Pieces, What, pieces};
use self::units::{grouped, left_out, sentences, units};
use crate::browse::chars_before;
use crate::library::{read_unchanged, span_at};
use crate::search::{self, LANE_MEANING, LaneAsked, Query, QueryMedia, SearchRequest};
use crate::{EngineError, Library, Result};

/// Words, windows and sentences at most.
const MAX_UNITS: usize = 32;
/// Media that are encoded in one call, and bytes of them.
const AT_ONCE: usize = 16;
const AT_ONCE_BYTES: usize = 64 << 20;
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub via: Modality,
    /// Which part of it.
    #[serde(serialize_with = "crate::serial::unit_span")]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::serial::UnitSpan))]
    pub span: Span,
}

/// What a word brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
        /// Of a shape: the side from which it comes closest, 0 to 11.
        #[serde(skip_serializing_if = "Option::is_none")]
        view: Option<usize>,
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DropUnit {
    /// Deviations above unrelated pairs.
    Z,
    /// The space's own closeness.
    Closeness,
}

/// Why an item was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
            let decoded = read_unchanged(&found, path, limits)
                .and_then(|bytes| chiasm_media::decode(path, &bytes, limits).map_err(|error| error.to_string()));
            match decoded {
                Ok(decoded) => return Ok(decoded.media),
                Err(error) => reason = format!("{}: {error}", path.display()),
            }
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
        let mut lanes: Vec<String> = request.lanes.iter().filter(|lane| search::is_model(lane)).cloned().collect();
        // Words and names have no vectors to explain; what they are asked for is what models make of it.
        if lanes.is_empty() || request.lanes.iter().any(|lane| lane == LANE_MEANING) {
            lanes.clear();
        }
        Ok(SearchRequest { query, lanes, ..SearchRequest::default() })
    }

    /// Which part of its item a segment is.
    fn span_of(&self, segment: i64) -> Result<Span> {
        let reader = self.store.reader()?;
        let read = || -> rusqlite::Result<Span> {
            let sql = "SELECT span_unit, span_start, span_end FROM segments WHERE id = ?1";
            reader.prepare_cached(sql)?.query_row([segment], |row| span_at(row, 0))
        };
        read().map_err(self.store.err("cannot read a part"))
    }

    fn lane_score(&self, found: &Match<'_>, search: &SearchRequest, item: i64) -> Result<LaneScore> {
        let measured = found.measure(&found.asked.parts, found.row_vector(), found.scale(found.row).as_deref());
        let segment = found.live.index().id(found.row) as i64;
        let span = self.span_of(segment)?;
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
        // What a descriptor of surfaces makes of a shape has no place on a picture of it.
        let is_seen = |m: &&&Match<'_>| kind != Modality::Shape || m.space().looks_at_pictures_of(kind);
        let able = |m: &&&Match<'_>| m.own.is_some() && m.space().can_embed(kind) && is_seen(m);
        let able: Vec<&Match<'_>> = matches.iter().filter(able).copied().collect();
        let Some((first, own)) = able.first().and_then(|m| Some((*m, m.own?))) else {
            remarks.push(format!("no lane can embed {kind}, so that its parts cannot be told apart"));
            return Ok(None);
        };
        let segment = first.live.index().id(own) as i64;
        let pieces = match kind {
            Modality::Text => self.text_pieces(request.item, segment)?,
            Modality::Image | Modality::Audio | Modality::Series | Modality::Video | Modality::Shape => {
                let media = self.load_item(request.item, &request.limits)?;
                pieces(media, self.span_of(segment)?, first, cancel)?
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
            let whole = valued(&m.measure(&m.asked.parts, m.row_vector(), scale.as_deref()));
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
