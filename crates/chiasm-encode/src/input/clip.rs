//! Videos to the frames that a network was trained on.
//!
//! # Reference
//! Frames one by one as the processors of transformers prepare them (`VideoMAEImageProcessor`, `CLIPImageProcessor`): see
//! [`ImageProcessor`]. Which frames, they leave to the caller; here those in the middle of `num_frames` equal stretches of the video's
//! time, as the authors of TimeSformer and X-CLIP test (one view, uniform sampling). A video of fewer frames shows some of them twice.

use std::path::Path;

use chiasm_core::Video;
use chiasm_nn::FeatureMap;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor};
use crate::model;

/// Frames and pixels beyond these are refused: a description comes from strangers, and decides how much memory a video takes.
const MAX_FRAMES: usize = 256;
const MAX_PIXELS: u64 = 1 << 26;

/// Frames of a video, prepared.
pub(crate) type Clip = Vec<FeatureMap>;

/// The steps from a video to a network's input.
#[derive(Clone, Debug)]
pub(crate) struct ClipProcessor {
    frames: ImageProcessor,
    n_frames: usize,
}

impl ClipProcessor {
    /// Reads `preprocessor_config.json`; without it, the defaults hold. `n_frames` stands in `path`, the network's description.
    pub(crate) fn open(files: &mut Checkpoint, path: &Path, n_frames: usize, defaults: Defaults) -> Result<Self, OpenError> {
        model::expect(path, (1..=MAX_FRAMES).contains(&n_frames), || {
            format!("num_frames is {n_frames}, expected 1 to {MAX_FRAMES}")
        })?;
        let frames = ImageProcessor::open(files, defaults)?;
        let [height, width] = frames.shape();
        let n_pixels = u64::from(height) * u64::from(width) * n_frames as u64;
        model::expect(path, n_pixels <= MAX_PIXELS, || {
            format!("{n_frames} frames of {height} x {width} are {n_pixels} pixels, expected at most {MAX_PIXELS}")
        })?;
        Ok(Self { frames, n_frames })
    }

    /// The frames as the network takes them, each `[height, width, 3]`.
    pub(crate) fn clip(&self, video: &Video) -> Clip {
        video.spread(self.n_frames).into_iter().map(|at| self.frames.pixels(&video.frames[at])).collect()
    }

    /// Height and width of a frame.
    pub(crate) fn shape(&self) -> [u32; 2] {
        self.frames.shape()
    }
}
