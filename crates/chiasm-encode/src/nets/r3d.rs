//! R3D: a video to pooled features, by a residual network whose convolutions run over time as well.
//!
//! # Reference
//! Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, section 3.2 and table 1 (R3D), with the
//! 3x3x3 kernels of C3D (Tran et al., ICCV 2015) in the blocks of ResNet (He et al., CVPR 2016). Checked block by block against
//! `torchvision.models.video.r3d_18`. Differs from it in: batch normalisation is folded into the convolutions.
//! # Files
//! The weights under torchvision's names (its own file does), and two descriptions, which torchvision keeps in code:
//! `config.json`, for R3D-18 `{"model_type": "r3d", "num_frames": 16, "widths": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}`, and
//! `preprocessor_config.json`, for the weights trained on Kinetics-400 `{"size": {"height": 128, "width": 171}, "crop_size": 112,
//! "resample": 2, "image_mean": [0.43216, 0.394666, 0.37645], "image_std": [0.22803, 0.22145, 0.216989]}`. The classifier is left out.
//! # Preprocessing
//! `num_frames` frames, see `input/clip.rs`; where the description is silent: shorter edge to 112, linear, the middle, the mean and
//! deviation above. torchvision resizes without smoothing; here, as everywhere in this crate, as Pillow does.
//! # Shapes
//! `t` frames. Stages halve time, height and width, the first excepted; the first convolution halves height and width.
//! | step | shape | range |
//! | --- | --- | --- |
//! | video | `[t, 112, 112, 3]` | about -2..2.7 |
//! | stage `i` from 1 | `[t / 2^(i-1), 56 / 2^(i-1), 56 / 2^(i-1), widths[i]]` | 0 and above |
//! | embedding, the mean over all positions | `[widths.last]` | 0 and above |

use chiasm_media::Filter;
use chiasm_nn::{Activation, Conv3d, Conv3dShape, FeatureVolume, Filters, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Clip, ClipProcessor, Defaults};
use crate::model::{self, Output};
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "r3d 1";

/// What is added to variances.
const EPS: f64 = 1e-5;

/// What holds for frames where the description is silent.
const KINETICS: Defaults = Defaults {
    side: 112,
    square: false,
    filter: Filter::Bilinear,
    crop: true,
    mean: [0.43216, 0.394666, 0.37645],
    std: [0.22803, 0.22145, 0.216989],
};

/// `config.json`. What is silent is as in R3D-18.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    num_frames: usize,
    /// Channels of each stage; the first convolution has those of the first.
    widths: Vec<usize>,
    /// Blocks of each stage.
    depths: Vec<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self { num_frames: 16, widths: vec![64, 128, 256, 512], depths: vec![2; 4] }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    model::expect(&path, wanted.output == Output::Embedding, || {
        "the classes of this architecture are not read: leave out `:classes` to have its features".to_owned()
    })?;
    model::expect(&path, !c.widths.is_empty() && c.widths.len() == c.depths.len(), || {
        format!("widths has {} stages, depths {}: expected as many of each, at least one", c.widths.len(), c.depths.len())
    })?;
    model::expect(&path, c.widths.iter().chain(&c.depths).all(|n| *n > 0), || "widths and depths must be above 0".to_owned())?;
    let processor = ClipProcessor::open(files, &path, c.num_frames, KINETICS)?;
    let mut w = files.weights()?;
    let net = R3d::load(&mut w, &c)?;
    w.skip_prefix("fc.");
    w.finish()?;
    Ok(Opened { tower: Tower::Video(processor, Box::new(net)), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

struct R3d {
    stem: Conv3d,
    blocks: Vec<Block>,
    dim: usize,
}

/// Two convolutions with a shortcut around them.
struct Block {
    first: Conv3d,
    second: Conv3d,
    /// Brings the input to the size of the output, where they differ.
    shortcut: Option<Conv3d>,
}

impl Block {
    fn load(w: &mut Weights, at: &str, n_in: usize, n_out: usize, stride: usize) -> Result<Self, WeightsError> {
        let mut conv = |part: &str, n_in: usize, kernel: usize, stride: usize, activation: Activation| {
            let (conv, norm) = (format!("{at}{part}.0"), format!("{at}{part}.1"));
            let shape = Conv3dShape { n_in, n_out, kernel: [kernel; 3], stride: [stride; 3], padding: [kernel / 2; 3] };
            Conv3d::load(w, Filters::normed(&conv, &norm, EPS), shape, activation)
        };
        Ok(Self {
            first: conv("conv1", n_in, 3, stride, Activation::Relu)?,
            second: conv("conv2", n_out, 3, 1, Activation::None)?,
            shortcut: match stride == 1 && n_in == n_out {
                true => None,
                false => Some(conv("downsample", n_in, 1, stride, Activation::None)?),
            },
        })
    }

    /// Carries `x` through the block, in place.
    fn forward(&self, x: &mut FeatureVolume, scratch: &mut Scratch) {
        let Scratch { y, z, windows } = scratch;
        self.first.forward(x, y, windows);
        self.second.forward(y, z, windows);
        if let Some(shortcut) = &self.shortcut {
            shortcut.forward(x, y, windows);
            std::mem::swap(x, y);
        }
        x.data.iter_mut().zip(&z.data).for_each(|(x, z)| *x = (*x + z).max(0.0));
    }
}

/// Buffers that blocks use over and over.
#[derive(Default)]
struct Scratch {
    y: FeatureVolume,
    z: FeatureVolume,
    windows: Vec<f32>,
}

impl R3d {
    fn load(w: &mut Weights, c: &Config) -> Result<Self, WeightsError> {
        let mut n_in = c.widths[0];
        let shape = Conv3dShape { n_in: 3, n_out: n_in, kernel: [3, 7, 7], stride: [1, 2, 2], padding: [1, 3, 3] };
        let stem = Conv3d::load(w, Filters::normed("stem.0", "stem.1", EPS), shape, Activation::Relu)?;
        let mut blocks = Vec::new();
        for (stage, (n_out, depth)) in c.widths.iter().zip(&c.depths).enumerate() {
            for i in 0..*depth {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                blocks.push(Block::load(w, &format!("layer{}.{i}.", stage + 1), n_in, *n_out, stride)?);
                n_in = *n_out;
            }
        }
        Ok(Self { stem, blocks, dim: n_in })
    }
}

impl Net<Clip> for R3d {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, clip: &Clip) -> usize {
        // Positions after the first convolution.
        clip.iter().map(|frame| frame.height.div_ceil(2) * frame.width.div_ceil(2)).sum()
    }

    fn embed(&self, clips: &[Clip], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let mut scratch = Scratch::default();
        let mut videos: Vec<FeatureVolume> = clips
            .iter()
            .map(|clip| {
                let (height, width) = clip.first().map_or((0, 0), |frame| (frame.height, frame.width));
                let data = clip.iter().flat_map(|frame| &frame.data).copied().collect();
                let x = FeatureVolume { size: [clip.len(), height, width], channels: 3, data };
                let mut out = FeatureVolume::default();
                self.stem.forward(&x, &mut out, &mut scratch.windows);
                out
            })
            .collect();
        watch("hidden.0", &states(&videos));
        for (i, block) in self.blocks.iter().enumerate() {
            videos.iter_mut().for_each(|video| block.forward(video, &mut scratch));
            watch(&format!("hidden.{}", i + 1), &states(&videos));
        }
        videos.iter().map(mean).collect()
    }
}

fn states(videos: &[FeatureVolume]) -> Vec<f32> {
    videos.iter().flat_map(|video| &video.data).copied().collect()
}

/// The mean over all positions.
fn mean(video: &FeatureVolume) -> Vec<f32> {
    let mut sum = vec![0.0; video.channels];
    for position in video.data.chunks_exact(video.channels) {
        sum.iter_mut().zip(position).for_each(|(s, v)| *s += v);
    }
    let n = video.size.iter().product::<usize>() as f32;
    sum.iter_mut().for_each(|s| *s /= n);
    sum
}
