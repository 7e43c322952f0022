//! Decoded media: what encoders see, after the decoder has checked it.

use std::fmt;
use std::str::FromStr;

/// A kind of thing that can be found or that can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// A still picture.
    Image,
    /// Natural language.
    Text,
    /// A sound.
    Audio,
    /// Readings over time: motion, touch, any sensor.
    Series,
}

impl Modality {
    /// Every modality, in the order in which tables list them.
    pub const ALL: [Modality; 4] = [Modality::Image, Modality::Text, Modality::Audio, Modality::Series];

    /// The lower-case word used in files, in `--kind` and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Modality::Image => "image",
            Modality::Text => "text",
            Modality::Audio => "audio",
            Modality::Series => "series",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no modality.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of media: expected image, text, audio or series")]
pub struct UnknownModality(pub String);

impl FromStr for Modality {
    type Err = UnknownModality;

    fn from_str(word: &str) -> Result<Self, UnknownModality> {
        Modality::ALL.into_iter().find(|m| m.as_str() == word).ok_or_else(|| UnknownModality(word.to_owned()))
    }
}

/// An 8-bit RGB picture, upright (EXIF orientation already applied), alpha laid over white.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels per row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// `height * width * 3` bytes: rows from the top, pixels from the left, red green blue.
    pub rgb: Vec<u8>,
}

/// A mono recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// Samples per second, at least 1.
    pub sample_rate_hz: u32,
    /// Amplitudes, nominally in -1..=1, finite; channels already averaged.
    pub samples: Vec<f32>,
}

impl Waveform {
    /// Length in seconds.
    pub fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate_hz)
    }
}

/// Readings of one or more channels over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Number of channels, at least 1.
    pub n_channels: usize,
    /// Channel names as the file gave them; empty, or `n_channels` of them.
    pub names: Vec<String>,
    /// `n_steps * n_channels` finite readings, time-major.
    pub values: Vec<f32>,
}

impl Series {
    /// Number of time steps.
    pub fn n_steps(&self) -> usize {
        self.values.len() / self.n_channels
    }
}

/// One decoded piece of media.
#[derive(Clone, Debug, PartialEq)]
pub enum Media {
    /// A still picture.
    Image(Image),
    /// Natural language, in valid Unicode.
    Text(String),
    /// A sound.
    Audio(Waveform),
    /// Readings over time.
    Series(Series),
}

impl Media {
    /// Which modality this is.
    pub fn modality(&self) -> Modality {
        match self {
            Media::Image(_) => Modality::Image,
            Media::Text(_) => Modality::Text,
            Media::Audio(_) => Modality::Audio,
            Media::Series(_) => Modality::Series,
        }
    }
}

/// Which part of an item a vector stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// All of it.
    Whole,
    /// Seconds from the start of a sound, half-open.
    Time {
        /// First second covered.
        start_s: f64,
        /// Where it ends.
        end_s: f64,
    },
    /// Bytes of the decoded UTF-8 text, half-open, on character boundaries.
    Bytes {
        /// First byte covered.
        start: usize,
        /// Where it ends.
        end: usize,
    },
}
