//! ResNet: pictures to pooled features, or to the probabilities of classes.
//!
//! # Reference
//! He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, with the stride of a bottleneck in its
//! 3x3 convolution unless the description says otherwise. Checked stage by stage against `ResNetModel` and
//! `ResNetForImageClassification` of transformers. Differs from it in: batch normalisation is folded into the convolutions.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `resnet`), `preprocessor_config.json`, the weights.
//! # Preprocessing
//! As the description says; that of the published ones brings the shorter edge to 256, cubic, and keeps the middle 224 x 224.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -2..2.7 |
//! | stem | `[56, 56, 64]` | 0 and up |
//! | stages | `[7, 7, 2048]` at the last | 0 and up |
//! | embedding | `[2048]`, the mean over positions | 0 and up |

use std::path::Path;

use chiasm_nn::{Activation, Conv2d, ConvShape, FeatureMap, Filters, Padding, Pool, Pooling, Weights, WeightsError, Window};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, watch_maps};
use crate::nets::classes::{self, Classes, Head};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "resnet 1";

/// What is added to the variances of the batch normalisations.
const EPS: f64 = 1e-5;

/// `config.json`. What is silent has the reference's default, which is that of ResNet-50.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    num_channels: usize,
    embedding_size: usize,
    hidden_sizes: Vec<usize>,
    depths: Vec<usize>,
    layer_type: String,
    hidden_act: String,
    downsample_in_first_stage: bool,
    downsample_in_bottleneck: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_channels: 3,
            embedding_size: 64,
            hidden_sizes: vec![256, 512, 1024, 2048],
            depths: vec![3, 4, 6, 3],
            layer_type: "bottleneck".to_owned(),
            hidden_act: "relu".to_owned(),
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
        }
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<(), OpenError> {
        model::expect(path, self.num_channels == 3, || format!("num_channels is {}, expected 3", self.num_channels))?;
        model::expect(path, matches!(self.layer_type.as_str(), "basic" | "bottleneck"), || {
            format!("layer_type is `{}`, expected basic or bottleneck", self.layer_type)
        })?;
        let (sizes, depths) = (&self.hidden_sizes, &self.depths);
        model::expect(path, !sizes.is_empty() && sizes.len() == depths.len(), || {
            format!("{} hidden_sizes and {} depths, expected one of each for every stage", sizes.len(), depths.len())
        })?;
        let least = if self.layer_type == "bottleneck" { REDUCTION } else { 1 };
        model::expect(path, self.embedding_size > 0 && sizes.iter().all(|size| *size >= least), || {
            format!("embedding_size {} and hidden_sizes {sizes:?}, expected at least 1 and {least}", self.embedding_size)
        })?;
        model::expect(path, depths.iter().all(|n| *n > 0), || format!("depths are {depths:?}, expected at least 1"))
    }
}

/// The middle of a bottleneck has a quarter of the channels that come out of it.
const REDUCTION: usize = 4;

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    c.check(&path)?;
    let activation = model::activation(&path, &c.hidden_act)?;
    let classes = Classes::wanted(files, wanted)?;
    let processor = ImageProcessor::open(files, Defaults::IMAGENET)?;
    let mut w = files.weights()?;
    let prefix = if w.has("resnet.embedder.embedder.convolution.weight") { "resnet." } else { "" };
    let net = ResNet::load(&mut w, prefix, &c, activation)?;
    let net = classes::on_top(&mut w, classes, Head::dense("classifier.1"), net)?;
    w.finish()?;
    Ok(Opened { tower: Tower::Image(processor, net), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

/// The network.
struct ResNet {
    stem: Conv2d,
    stages: Vec<Vec<Block>>,
    dim: usize,
}

/// Two or three convolutions, and around them the input itself or a convolution of it.
struct Block {
    convolutions: Vec<Conv2d>,
    shortcut: Option<Conv2d>,
    activation: Activation,
}

/// Buffers that the blocks of a picture use over and over.
#[derive(Default)]
struct Scratch {
    x: FeatureMap,
    next: FeatureMap,
    windows: Vec<f32>,
}

impl ResNet {
    fn load(w: &mut Weights, prefix: &str, c: &Config, activation: Activation) -> Result<Self, WeightsError> {
        let stem = conv(w, &format!("{prefix}embedder.embedder"), [3, c.embedding_size], [7, 2], activation)?;
        let mut n_in = c.embedding_size;
        let mut stages = Vec::new();
        for (s, (n_out, depth)) in c.hidden_sizes.iter().zip(&c.depths).enumerate() {
            let mut blocks = Vec::new();
            for b in 0..*depth {
                let narrows = b == 0 && (s > 0 || c.downsample_in_first_stage);
                let at = format!("{prefix}encoder.stages.{s}.layers.{b}");
                blocks.push(Block::load(w, &at, c, [n_in, *n_out], if narrows { 2 } else { 1 }, activation)?);
                n_in = *n_out;
            }
            stages.push(blocks);
        }
        Ok(Self { stem, stages, dim: n_in })
    }
}

/// A square convolution with its batch normalisation: channels in and out, kernel and stride.
fn conv(
    w: &mut Weights,
    at: &str,
    [n_in, n_out]: [usize; 2],
    [kernel, stride]: [usize; 2],
    activation: Activation,
) -> Result<Conv2d, WeightsError> {
    let (name, norm) = (format!("{at}.convolution"), format!("{at}.normalization"));
    let shape = ConvShape::new(n_in, n_out, Window::square(kernel, stride, Padding::even(kernel / 2)));
    Conv2d::load(w, Filters::normed(&name, &norm, EPS), shape, activation)
}

impl Block {
    fn load(
        w: &mut Weights,
        at: &str,
        c: &Config,
        [n_in, n_out]: [usize; 2],
        stride: usize,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let middle = n_out / REDUCTION;
        let layers = if c.layer_type == "basic" {
            vec![([n_in, n_out], [3, stride]), ([n_out, n_out], [3, 1])]
        } else {
            let (first, second) = if c.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
            vec![([n_in, middle], [1, first]), ([middle, middle], [3, second]), ([middle, n_out], [1, 1])]
        };
        let last = layers.len() - 1;
        let mut convolutions = Vec::new();
        for (i, (channels, window)) in layers.into_iter().enumerate() {
            // Inside a block it is always this function, whatever the description names.
            let inner = if i < last { Activation::Relu } else { Activation::None };
            convolutions.push(conv(w, &format!("{at}.layer.{i}"), channels, window, inner)?);
        }
        let projects = n_in != n_out || stride != 1;
        let shortcut =
            projects.then(|| conv(w, &format!("{at}.shortcut"), [n_in, n_out], [1, stride], Activation::None)).transpose()?;
        Ok(Self { convolutions, shortcut, activation })
    }

    fn forward(&self, x: &mut FeatureMap, s: &mut Scratch) {
        for (i, conv) in self.convolutions.iter().enumerate() {
            conv.forward(if i == 0 { &*x } else { &s.x }, &mut s.next, &mut s.windows);
            std::mem::swap(&mut s.x, &mut s.next);
        }
        if let Some(shortcut) = &self.shortcut {
            shortcut.forward(x, &mut s.next, &mut s.windows);
            std::mem::swap(x, &mut s.next);
        }
        self.activation.of_sum(&mut x.data, &s.x.data);
    }
}

impl Net<FeatureMap> for ResNet {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        picture.height.div_ceil(4) * picture.width.div_ceil(4)
    }

    fn width(&self) -> Option<usize> {
        Some(self.dim)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let pool = Pool { pooling: Pooling::Max, window: Window::square(3, 2, Padding::even(1)) };
        let mut s = Scratch::default();
        let stem = |picture: &FeatureMap| {
            self.stem.forward(picture, &mut s.x, &mut s.windows);
            let mut pooled = FeatureMap::default();
            pool.forward(&s.x, &mut pooled);
            pooled
        };
        let mut maps: Vec<FeatureMap> = pictures.iter().map(stem).collect();
        watch_maps("hidden.0", &maps, watch);
        for (i, blocks) in self.stages.iter().enumerate() {
            for map in &mut maps {
                blocks.iter().for_each(|block| block.forward(map, &mut s));
            }
            watch_maps(&format!("hidden.{}", i + 1), &maps, watch);
        }
        maps.iter().map(FeatureMap::mean).collect()
    }
}
