//! The pieces of an item that are left out in turn: squares of a picture, windows of a sound or a series, passages of a text.

use std::ops::Range;
use std::sync::Arc;

use chiasm_core::{Cancel, Image, Media, Modality, Series, Span, Video, Waveform};

use super::matching::Match;
use super::units::{Unit, left_out, units};
use super::{Heat, MAX_UNITS, PassageDrop, StepDrop, WindowDrop, n_chars};
use crate::Result;

/// Cells of a picture along either side, and those of a larger square.
const SIDE: usize = 8;
const LARGE: usize = 4;
/// Places of a larger square along a side.
const LARGE_PLACES: usize = SIDE - LARGE + 1;
/// What stands in place of a covered cell, in each channel: the middle of what pixels may be, near to the mean that networks take off.
const GREY: u8 = 120;
/// Pixels along the longer side of the picture that is masked; encoders see about 224 to 384.
const MAX_PIXELS: u32 = 512;
/// Seconds of a window of a sound, where 4 to 32 of them are enough.
const WINDOW_S: f64 = 0.25;
/// Pixels of a picture of a shape.
const VIEW_SIDE: u32 = 384;
/// Frames of a video of which the best is looked at.
const FRAMES: usize = 8;

/// An item, and the pieces of it that are left out in turn.
pub(super) struct Pieces {
    pub(super) whole: Media,
    pub(super) what: What,
}

pub(super) enum What {
    Grid { picture: Image, at_s: Option<f64>, view: Option<usize> },
    Time { windows: Vec<Range<usize>>, before_s: f64 },
    Steps { windows: Vec<Range<usize>> },
    Text { units: Vec<Unit>, before: usize, text: String },
}

/// The pieces of media other than text.
pub(super) fn pieces(media: Media, span: Span, lane: &Match<'_>, cancel: &Cancel) -> Result<Pieces> {
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
            Pieces { whole: Media::Image(picture.clone()), what: What::Grid { picture, at_s: None, view: None } }
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
            Pieces { whole: still(&picture), what: What::Grid { picture, at_s, view: None } }
        }
        // As it is embedded: by pictures of it, of which the one that fits best is looked at.
        Media::Shape(mesh) => {
            let views = chiasm_media::shape_views(&mesh, VIEW_SIDE);
            let stills: Vec<Media> = views.iter().cloned().map(Media::Image).collect();
            cancel.check()?;
            let values = lane.of_items(Modality::Shape, &stills)?;
            let best = (0..views.len()).reduce(|a, b| if values[b] > values[a] { b } else { a }).unwrap_or(0);
            let picture = views[best].clone();
            Pieces { whole: Media::Image(picture.clone()), what: What::Grid { picture, at_s: None, view: Some(best) } }
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
    pub(super) fn n(&self) -> usize {
        match &self.what {
            What::Grid { .. } => SIDE * SIDE + LARGE_PLACES * LARGE_PLACES,
            What::Time { windows, .. } | What::Steps { windows } => windows.len(),
            What::Text { units, .. } => units.len(),
        }
    }

    /// The item without one of its pieces.
    pub(super) fn without(&self, i: usize) -> Media {
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

    pub(super) fn told(&self, drops: &[f64]) -> Heat {
        let drops: Vec<f32> = drops.iter().map(|drop| *drop as f32).collect();
        match &self.what {
            What::Grid { at_s, view, .. } => {
                Heat::Grid { columns: SIDE, rows: SIDE, drop: by_cell(&drops), at_s: *at_s, view: *view }
            }
            What::Time { windows, before_s } => {
                let rate = match &self.whole {
                    Media::Audio(wave) => f64::from(wave.sample_rate_hz),
                    Media::Image(_) | Media::Text(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => 1.0,
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
}
