//! What the targets of media share.

use chiasm_media::Limits;

/// Small, so that a run spends its time on parsing and memory beyond a limit shows.
pub const LIMITS: Limits = Limits {
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
