//! Sounds: the bytes decide the format, or the decoder searches an MP3 or AAC stream.
#![no_main]

use std::path::Path;

use chiasm_media::{Cut, Limits, decode, segments};
use libfuzzer_sys::fuzz_target;

/// Small, so that a run spends its time on parsing and memory beyond a limit shows.
const LIMITS: Limits = Limits {
    max_file_bytes: 1 << 20,
    max_pixels: 1 << 18,
    max_audio_samples: 1 << 20,
    max_text_bytes: 1 << 20,
    max_series_values: 1 << 18,
    max_animation_pixels: 1 << 22,
    max_video_frames: 64,
    max_video_bytes: 1 << 22,
    max_video_s: 600,
    max_triangles: 1 << 14,
    max_ffmpeg_s: 0,
};

fuzz_target!(|bytes: &[u8]| {
    for name in ["a.wav", "a.mp3", "a.aac"] {
        if let Ok(decoded) = decode(Path::new(name), bytes, &LIMITS) {
            segments(&decoded.media, &Cut { max_segments: 100, ..Cut::default() });
        }
    }
});
