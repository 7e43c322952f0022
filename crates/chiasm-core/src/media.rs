//! Decoded media: what encoders see, after the decoder has checked it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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
    /// Moving pictures, without their sound.
    Video,
    /// A surface in space.
    Shape,
}

impl Modality {
    /// Every modality, in the order in which tables list them.
    pub const ALL: [Modality; 6] =
        [Modality::Image, Modality::Text, Modality::Audio, Modality::Series, Modality::Video, Modality::Shape];

    /// The lower-case word used in files, in `--kind` and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Modality::Image => "image",
            Modality::Text => "text",
            Modality::Audio => "audio",
            Modality::Series => "series",
            Modality::Video => "video",
            Modality::Shape => "shape",
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
#[error("`{0}` is no kind of media: expected image, text, audio, series, video or shape")]
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

/// Moving pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// Pictures of one size in the order of time, at least one; shared, so that a stretch of a video costs no copy.
    pub frames: Vec<Arc<Image>>,
    /// Seconds from the start at which each begins to be shown: one for each frame, ascending, the first at 0.
    pub times_s: Vec<f64>,
    /// Length in seconds, no less than the last of `times_s`.
    pub duration_s: f64,
}

impl Video {
    /// Which frame is shown at a time: the last that has begun by then, the first before the start.
    pub fn frame_at(&self, time_s: f64) -> usize {
        self.times_s.partition_point(|t| *t <= time_s).saturating_sub(1)
    }

    /// The frames in the middle of `n` equal stretches of time. Where there are fewer frames than `n`, some stand there more than
    /// once; of a video with a constant rate whose frames are a multiple of `n` they are evenly apart.
    pub fn spread(&self, n: usize) -> Vec<usize> {
        (0..n).map(|i| self.frame_at(self.duration_s * (i as f64 + 0.5) / n as f64)).collect()
    }
}

/// A surface of triangles, upright: z points upwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// Points in space, in any unit, finite.
    pub vertices: Vec<[f32; 3]>,
    /// Three vertices each, by their places in `vertices`; at least one triangle.
    pub triangles: Vec<[u32; 3]>,
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
    /// Moving pictures.
    Video(Video),
    /// A surface in space.
    Shape(Mesh),
}

impl Media {
    /// Which modality this is.
    pub fn modality(&self) -> Modality {
        match self {
            Media::Image(_) => Modality::Image,
            Media::Text(_) => Modality::Text,
            Media::Audio(_) => Modality::Audio,
            Media::Series(_) => Modality::Series,
            Media::Video(_) => Modality::Video,
            Media::Shape(_) => Modality::Shape,
        }
    }
}

/// Which part of an item a vector stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// All of it.
    Whole,
    /// Seconds from the start of a sound or video, half-open.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_modalities_are_one_another() {
        for modality in Modality::ALL {
            assert_eq!(modality.as_str().parse(), Ok(modality));
        }
        let error = "film".parse::<Modality>().unwrap_err().to_string();
        assert!(Modality::ALL.iter().all(|m| error.contains(m.as_str())), "{error}");
    }

    #[test]
    fn frames_are_found_by_time() {
        let frame = Arc::new(Image { width: 1, height: 1, rgb: vec![0; 3] });
        let times_s = vec![0.0, 0.5, 0.75, 3.0];
        let video = Video { frames: vec![frame; 4], times_s, duration_s: 4.0 };
        let at: Vec<usize> = [-1.0, 0.0, 0.49, 0.5, 2.9, 3.0, 99.0].map(|t| video.frame_at(t)).to_vec();
        assert_eq!(at, [0, 0, 0, 1, 2, 3, 3]);
        // Middles of eight stretches of half a second: 0.25, 0.75, at which the third begins, 1.25 and so on.
        assert_eq!(video.spread(8), [0, 2, 2, 2, 2, 2, 3, 3]);
        assert_eq!(video.spread(1), [2]);
        assert!(video.spread(0).is_empty());
    }
}
