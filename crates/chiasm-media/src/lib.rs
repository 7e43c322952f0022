//! Bytes to media: decoding under limits, cutting into segments, resizing, resampling, spectra.
//!
//! [`read`] takes a file's bytes, [`decode`] turns them into [`Media`] and [`Metadata`], [`segments`] cuts long media into the
//! parts that are embedded one by one; [`resize`], [`resample`], [`spectrum`] and [`filterbank`] are what encoders build their input from;
//! [`peaks`], [`sparkline`] and [`shape_views`] are what pages draw. All
//! are pure functions but `read`, and `decode` where it asks another program (see the table). What cannot be decoded is refused by a [`MediaError`] that names the cause and the cure;
//! a file that merely ends early is decoded as far as it goes where its format allows, with a note.
//!
//! | kind | formats |
//! | --- | --- |
//! | picture | PNG, JPEG, WebP, GIF, BMP, TIFF |
//! | sound | WAV (8 to 32 bit, float, ADPCM, A-law, mu-law, MP3 inside), FLAC, MP3, OGG Vorbis, M4A (AAC, ALAC), AIFF, ADTS AAC |
//! | text | TXT, Markdown, JSON lines; UTF-8, UTF-16, GB18030, Shift JIS, Windows-1252 |
//! | series | CSV, TSV, NumPy arrays |
//! | video | GIF, WebP and PNG of several frames; MP4, QuickTime, Matroska, WebM, AVI, MPEG, FLV, Ogg Theora, Windows Media by the program `ffmpeg` |
//! | shape | STL (text and binary), OBJ, PLY (text and binary), OFF |
//!
//! # Against Pillow
//! Decoded JPEG is not the same to the last bit as libjpeg-turbo's (inverse cosine transform, chroma enlargement): over the 800
//! photos of `flickr8k` the largest difference of a channel from Pillow 12.0.0 (libjpeg-turbo 3.1.2) is 14 of 255 and the mean
//! 0.227; after resizing both to 224 x 224 it is 13 and 0.222. Lossless formats and WebP are equal. [`resize`] differs from
//! Pillow by at most 1 of 255.
//!
//! # Absent on purpose
//! HEIC, AVIF, Opus, WMA: their files are refused with the cure. Colour profiles are not applied, as Pillow applies none.
#![forbid(unsafe_code)]

mod animation;
mod error;
pub mod filterbank;
mod format;
mod picture;
mod preview;
mod resample;
mod resize;
mod segment;
mod series;
mod shape;
mod sound;
pub mod spectrum;
mod text;
mod video;
mod wav;

use std::io::Read;
use std::path::Path;

use chiasm_core::{Media, Modality};

pub use error::MediaError;
pub use format::modality_of;
pub use preview::{peaks, sparkline};
pub use resample::resample;
pub use resize::{Filter, resize, resize_with, shrink};
pub use segment::{Cut, Spans, part, segments, spans};
pub use series::{read_npy_f32, write_npy_f32};
pub use shape::{N_VIEWS, shape_view, shape_views};
pub use text::RECORD_SEPARATOR;

/// How much one file may ask for. Everything is checked before the memory is taken, or while it is filled.
///
/// One decoding thread needs, beside the file's bytes, at most about: 8 bytes per pixel of `max_pixels` for the decoder's own
/// buffer (16-bit RGBA; 3 or 4 in the common case) plus 3 for the result, so 0.4-1.3 GB at the default; 4 bytes per sample
/// (twice that while the buffer grows); 4 bytes per series value; 3 bytes per text byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file. Default 2 GiB.
    pub max_file_bytes: u64,
    /// Width times height of a picture, each pixel 3 bytes when decoded. Default 120 million: the largest telephone
    /// cameras in common use give 108 million. 360 MB at 8 bits.
    pub max_pixels: u64,
    /// Samples of a sound after channels are averaged. Default 172.8 million: an hour at 48 kHz, 691 MB.
    pub max_audio_samples: u64,
    /// Bytes of a text file. Default 64 MiB.
    pub max_text_bytes: u64,
    /// Readings of a series or elements of an array. Default 50 million: 200 MB.
    pub max_series_values: u64,
    /// Width times height times frames of an animated picture, which bounds the time it takes. Default 4 thousand million: a
    /// minute of 1080p, 10 to 30 s of work.
    pub max_animation_pixels: u64,
    /// Frames that are kept of a video; of more, every second one. Default 4,096.
    pub max_video_frames: u64,
    /// Bytes of those frames, each pixel 3 and the shorter side at most 256 pixels. Default 512 MiB: two and a half minutes of
    /// 16:9 at ten frames a second, an hour at one in two seconds.
    pub max_video_bytes: u64,
    /// Seconds of a video that are read. Default 14,400: four hours.
    pub max_video_s: u64,
    /// Triangles of a shape, each 12 bytes and at most 36 for its corners. Default 4 million.
    pub max_triangles: u64,
    /// Seconds that the program `ffmpeg` may take for a file; at 0 it is never started. Default 600.
    pub max_ffmpeg_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_file_bytes: 2 << 30,
            max_pixels: 120_000_000,
            max_audio_samples: 48_000 * 3_600,
            max_text_bytes: 64 << 20,
            max_series_values: 50_000_000,
            max_animation_pixels: 4_000_000_000,
            max_video_frames: 4_096,
            max_video_bytes: 512 << 20,
            max_video_s: 4 * 3_600,
            max_triangles: 4_000_000,
            max_ffmpeg_s: 600,
        }
    }
}

/// What a file says about itself, as far as its format has a place for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The format found in the bytes, e.g. `JPEG`, `WAV (MP3)`, `JSON lines`.
    pub format: String,
    /// Pixels per row, after orientation is applied.
    pub width: Option<u32>,
    /// Rows, after orientation is applied.
    pub height: Option<u32>,
    /// Frames of an animation as it states them.
    pub n_frames: Option<u32>,
    /// Length of a sound or a video in seconds.
    pub duration_s: Option<f64>,
    /// Samples per second as stored.
    pub sample_rate_hz: Option<u32>,
    /// Channels as stored: of a sound before averaging, of a series its columns.
    pub n_channels: Option<u32>,
    /// When a picture was taken, ISO 8601, e.g. `2021-07-04T18:30:00`, with the offset if the camera stated it.
    pub taken: Option<String>,
    /// Degrees north, -90..=90.
    pub latitude: Option<f64>,
    /// Degrees east, -180..=180.
    pub longitude: Option<f64>,
    /// What a user should know: the file ends early, the encoding was guessed.
    pub notes: Vec<String>,
}

/// A file's content and what it says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The content.
    pub media: Media,
    /// What the file says about itself.
    pub metadata: Metadata,
}

/// Decodes a file's bytes. The content decides what it is; the extension of `path` only where bytes cannot tell (a table from
/// a text). So the result's modality may differ from [`modality_of`]: a `.jpg` that holds a WAV is a sound.
///
/// # Errors
/// [`MediaError`]: empty, over a limit, unknown, unsupported, damaged, not finite.
pub fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    if bytes.is_empty() {
        return Err(MediaError::Empty { reason: "the file has 0 bytes" });
    }
    check_file_size(bytes.len() as u64, limits)?;
    format::decode(path, bytes, limits)
}

/// Reads a regular file (links are followed) of at most [`Limits::max_file_bytes`].
///
/// # Errors
/// [`MediaError::Io`], [`MediaError::NotAFile`] (a pipe would block for ever, a device may have no end), [`MediaError::TooLarge`].
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, MediaError> {
    // Before opening, because opening a pipe blocks; after it again, because the name may lead elsewhere by then.
    regular(&std::fs::metadata(path)?)?;
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    let n_bytes = metadata.len();
    check_file_size(n_bytes, limits)?;
    let mut bytes = Vec::with_capacity(usize::try_from(n_bytes).unwrap_or(0));
    // The file may grow while it is read: one byte over the limit is enough to know.
    file.take(limits.max_file_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    check_file_size(bytes.len() as u64, limits)?;
    Ok(bytes)
}

fn regular(metadata: &std::fs::Metadata) -> Result<(), MediaError> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(MediaError::NotAFile { found: "a folder" })
    } else {
        Err(MediaError::NotAFile { found: "a pipe, socket or device" })
    }
}

fn check_file_size(n_bytes: u64, limits: &Limits) -> Result<(), MediaError> {
    if n_bytes > limits.max_file_bytes {
        return Err(MediaError::TooLarge {
            came: format!("has {n_bytes} bytes"),
            limit: limits.max_file_bytes,
            unit: "bytes",
            cure: "split it",
            option: "max_file_bytes",
        });
    }
    Ok(())
}

/// The modality a decoded file has is part of what a caller asks first.
impl Decoded {
    /// Which modality the content turned out to be.
    pub fn modality(&self) -> Modality {
        self.media.modality()
    }
}
