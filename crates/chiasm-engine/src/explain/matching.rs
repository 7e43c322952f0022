//! A lane and the rows by which it sees an item: how close they are to a query, and how close they would be without a piece.

use std::sync::Arc;

use chiasm_core::{Cancel, EncodeError, Media, Metric, Modality, Vectors};

use super::AT_ONCE;
use crate::calibrate::PairScores;
use crate::lane::Lane;
use crate::live::Live;
use crate::search::{Asked, Measured, Part, measured};
use crate::{EngineError, Library, Result, Space};

/// A lane, and the rows by which it sees the item.
pub(super) struct Match<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) live: Arc<Live>,
    /// The row that matches best.
    pub(super) row: usize,
    /// Its modality.
    pub(super) via: Modality,
    /// The best row of the item itself, captions left out.
    pub(super) own: Option<usize>,
    kind: Modality,
    n_rows: usize,
}

/// What drops are taken of: deviations, closeness where there are none.
pub(super) fn valued(measured: &Measured) -> f64 {
    measured.z.unwrap_or(measured.score)
}

impl<'a> Match<'a> {
    /// The lane itself where it has no vector of the item.
    pub(super) fn new(
        library: &Library,
        asked: Asked<'a>,
        item: i64,
        kind: Modality,
    ) -> Result<std::result::Result<Match<'a>, &'a Lane>> {
        let live = asked.lane.live(&library.store)?;
        let mut found = Match { asked, live, row: 0, via: kind, own: None, kind, n_rows: 0 };
        let live = Arc::clone(&found.live);
        // By deviations only where all rows have them: a closeness is no deviation.
        let rows: Vec<usize> = (0..live.n_rows()).filter(|row| live.item(*row) == item).collect();
        let calibrated = rows.iter().all(|row| found.scale(*row).is_some());
        let value = |found: &Match<'_>, row: usize| {
            let scale = found.scale(row).filter(|_| calibrated);
            valued(&found.measure(&found.asked.parts, live.index().vector(row), scale.as_deref()))
        };
        let best = |found: &Match<'_>, rows: &[usize]| {
            let measured = rows.iter().map(|row| (value(found, *row), *row));
            measured.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, row)| row)
        };
        let Some(row) = best(&found, &rows) else { return Ok(Err(found.asked.lane)) };
        let own: Vec<usize> = rows.iter().copied().filter(|row| found.modality(*row) == kind).collect();
        found.own = best(&found, &own);
        (found.row, found.via) = (row, found.modality(row));
        found.n_rows = live.by_modality.get(&found.via).map_or(0, |rows| rows.count());
        Ok(Ok(found))
    }

    pub(super) fn space(&self) -> &Space {
        self.asked.lane.space()
    }

    fn modality(&self, row: usize) -> Modality {
        let of = self.live.by_modality.iter().find(|(_, rows)| rows.contains(row));
        of.map_or(self.kind, |(modality, _)| *modality)
    }

    pub(super) fn row_vector(&self) -> &[f32] {
        self.live.index().vector(self.row)
    }

    /// Scores of unrelated pairs for each part and rows like this one.
    pub(super) fn scale(&self, row: usize) -> Option<Vec<&PairScores>> {
        self.scale_of(self.modality(row))
    }

    pub(super) fn scale_of(&self, modality: Modality) -> Option<Vec<&PairScores>> {
        let of = |part: &Part| self.live.calibration(self.space(), part.modality, modality);
        self.asked.parts.iter().map(of).collect()
    }

    /// As a search does it.
    pub(super) fn measure(&self, parts: &[Part], row: &[f32], scale: Option<&[&PairScores]>) -> Measured {
        measured(self.space(), parts, row, None, scale, self.n_rows)
    }

    /// Vectors of media of one kind, each taken whole; none for what leaves the encoder nothing to look at, such as silence.
    fn embed_each(&self, media: &[Media]) -> Result<Vec<Option<Vec<f32>>>> {
        let is_something = |media: &&Media| match media {
            Media::Text(text) => text.chars().any(char::is_alphanumeric),
            Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => true,
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
    pub(super) fn of_items(&self, kind: Modality, media: &[Media]) -> Result<Vec<Option<f64>>> {
        let (space, scale) = (self.space(), self.scale_of(kind));
        let value = |vector: Option<Vec<f32>>| -> Result<Option<f64>> {
            let Some(vector) = vector else { return Ok(None) };
            let row = space.as_gallery(kind, &checked(vector, space.dim())?)?.into_data();
            Ok(Some(valued(&self.measure(&self.asked.parts, &row, scale.as_deref()))))
        };
        self.embed_each(media)?.into_iter().map(value).collect()
    }

    /// The value of the best row under texts in place of a part of the query; none for one that leaves nothing to ask.
    pub(super) fn of_texts(&self, part: usize, texts: &[String], cancel: &Cancel) -> Result<Vec<Option<f64>>> {
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
                values.push(Some(valued(&self.measure(&parts, self.row_vector(), scale.as_deref()))));
            }
        }
        Ok(values)
    }

    /// By how much a value drops. What leaves nothing is as close as what is unrelated: 0 deviations, and about 0 for a cosine; distances
    /// have no such point, so there it is no drop.
    pub(super) fn lost(&self, whole: f64, left: Option<f64>, is_calibrated: bool) -> f64 {
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
