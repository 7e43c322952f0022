//! Descriptors that need no weights: what can be measured of a medium by rule.
//!
//! | name | takes | numbers | measures |
//! | --- | --- | --- | --- |
//! | `colour-layout` | picture | 899 | colours by place, edge directions by place, regions and their outlines |
//! | `mel-contour` | sound | 655 | spectrum by time, pitch and its movement, timbre, rhythm |
//! | `char-ngrams` | text | 4096 | counts of hashed character sequences, for any script |
//! | `shape-distribution` | shape | 212 | distances, angles, heights, proportions and directions of the surface, whatever its size and the side it is seen from |
//! | `series-spectrum` | series | 485 | statistics, spectrum, tempo, form of the path, over any number of channels |
//!
//! They are stateless: nothing is fitted, so a row depends on its medium alone, and any valid medium (a single pixel, silence, a
//! constant reading) gives finite numbers. What needs the statistics of a collection (inverse document frequency, scaling)
//! belongs to the alignment that is fitted on them.

mod char_ngrams;
mod colour_layout;
mod mel_contour;
mod series_spectrum;
mod shape_distribution;

use chiasm_core::{EncodeError, Encoder, Media, Modality, Vectors};
use rayon::prelude::*;

/// A descriptor: a pure function of one medium.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    name: &'static str,
    modality: Modality,
    dim: usize,
    fingerprint: String,
    /// `dim` numbers, or why there are none.
    describe: fn(&Media) -> Result<Vec<f32>, String>,
}

impl Descriptor {
    /// `version` is raised with every change to the numbers: it alone makes the fingerprint.
    fn new(
        name: &'static str,
        version: u32,
        modality: Modality,
        dim: usize,
        describe: fn(&Media) -> Result<Vec<f32>, String>,
    ) -> Self {
        let fingerprint = blake3::hash(format!("{name}/{version}").as_bytes()).to_hex().to_string();
        Self { name, modality, dim, fingerprint, describe }
    }
}

/// The descriptors, for the registry.
pub(crate) fn colour_layout() -> Box<dyn Encoder> {
    Box::new(Descriptor::new("colour-layout", 1, Modality::Image, COLOUR_LAYOUT_DIM, |media| match media {
        Media::Image(image) => colour_layout::describe(image),
        Media::Text(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => Err(not_mine()),
    }))
}

/// See the table above.
pub(crate) fn mel_contour() -> Box<dyn Encoder> {
    Box::new(Descriptor::new("mel-contour", 1, Modality::Audio, MEL_CONTOUR_DIM, |media| match media {
        Media::Audio(wave) => mel_contour::describe(wave),
        Media::Image(_) | Media::Text(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => Err(not_mine()),
    }))
}

/// See the table above.
pub(crate) fn char_ngrams() -> Box<dyn Encoder> {
    Box::new(Descriptor::new("char-ngrams", 1, Modality::Text, CHAR_NGRAMS_DIM, |media| match media {
        Media::Text(text) => char_ngrams::describe(text),
        Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => Err(not_mine()),
    }))
}

/// See the table above.
pub(crate) fn series_spectrum() -> Box<dyn Encoder> {
    Box::new(Descriptor::new("series-spectrum", 1, Modality::Series, SERIES_SPECTRUM_DIM, |media| match media {
        Media::Series(series) => series_spectrum::describe(series),
        Media::Image(_) | Media::Text(_) | Media::Audio(_) | Media::Video(_) | Media::Shape(_) => Err(not_mine()),
    }))
}

/// See the table above.
pub(crate) fn shape_distribution() -> Box<dyn Encoder> {
    Box::new(Descriptor::new("shape-distribution", 1, Modality::Shape, SHAPE_DISTRIBUTION_DIM, |media| match media {
        Media::Shape(mesh) => shape_distribution::describe(mesh),
        Media::Image(_) | Media::Text(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) => Err(not_mine()),
    }))
}

/// Never shown: [`Descriptor::encode`] has checked the modality.
fn not_mine() -> String {
    "it is of another modality".to_owned()
}

pub(crate) const COLOUR_LAYOUT_DIM: usize = colour_layout::DIM;
pub(crate) const MEL_CONTOUR_DIM: usize = mel_contour::DIM;
pub(crate) const CHAR_NGRAMS_DIM: usize = char_ngrams::DIM;
pub(crate) const SERIES_SPECTRUM_DIM: usize = series_spectrum::DIM;
pub(crate) const SHAPE_DISTRIBUTION_DIM: usize = shape_distribution::DIM;

impl Encoder for Descriptor {
    fn name(&self) -> &str {
        self.name
    }

    fn modality(&self) -> Modality {
        self.modality
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn encode(&self, batch: &[Media]) -> Result<Vectors, EncodeError> {
        let rows: Vec<Result<Vec<f32>, EncodeError>> = batch
            .par_iter()
            .enumerate()
            .map(|(item, media)| {
                let encoder = || self.name.to_owned();
                if media.modality() != self.modality {
                    return Err(EncodeError::Modality {
                        encoder: encoder(),
                        expected: self.modality,
                        got: media.modality(),
                        item,
                    });
                }
                (self.describe)(media).map_err(|reason| EncodeError::Unencodable { encoder: encoder(), item, reason })
            })
            .collect();
        // Collected in order first, so that the error reported is always that of the first item at fault.
        let mut data = Vec::with_capacity(batch.len() * self.dim);
        for row in rows {
            let row = row?;
            debug_assert_eq!(row.len(), self.dim, "{}", self.name);
            data.extend(row);
        }
        Vectors::new(data, self.dim).map_err(|cause| EncodeError::NotFinite { encoder: self.name.to_owned(), cause })
    }
}

/// Adds `weight` to a histogram at a position given in bins, shared linearly between the two nearest bins; what lies outside
/// goes to the end bins.
fn splat(histogram: &mut [f32], position: f32, weight: f32) {
    let position = position.clamp(0.0, (histogram.len() - 1) as f32);
    let low = (position as usize).min(histogram.len().saturating_sub(2));
    let share = position - low as f32;
    histogram[low] += weight * (1.0 - share);
    if let Some(high) = histogram.get_mut(low + 1) {
        *high += weight * share;
    }
}

/// Like [`splat`], on a circle.
fn splat_circular(histogram: &mut [f32], position: f32, weight: f32) {
    let n = histogram.len();
    let position = position.rem_euclid(n as f32);
    let low = position as usize % n;
    let share = (position - position.floor()).clamp(0.0, 1.0);
    histogram[low] += weight * (1.0 - share);
    histogram[(low + 1) % n] += weight * share;
}

/// Divides by the sum, so that a histogram tells shares; all-zero stays so.
fn to_shares(histogram: &mut [f32]) {
    let sum: f32 = histogram.iter().sum();
    if sum > 0.0 {
        histogram.iter_mut().for_each(|v| *v /= sum);
    }
}

/// Mean and standard deviation; zeros for nothing.
fn mean_std(values: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().map(f64::from).sum::<f64>() / n;
    let variance = values.map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean as f32, variance.sqrt() as f32)
}

#[cfg(test)]
mod tests;
