//! MobileNetV2: pictures to 1280 pooled features, or to the probabilities of the ImageNet classes.
//!
//! # Reference
//! Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2.
//! Checked against the converted TensorFlow Lite network's own embeddings and logits. Differs from it in: nothing (batch
//! normalisation comes folded into the convolutions).
//! # Preprocessing
//! The whole picture to 224 x 224, its aspect not kept, by an antialiased bilinear filter rounded to 8 bits; then
//! `(pixel - 128) / 128`.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | input | `[224, 224, 3]` | -1..=0.992 |
//! | stem | `[112, 112, 32]` | 0..=6 |
//! | blocks | `[7, 7, 320]` at the last | any |
//! | head | `[7, 7, 1280]` | 0..=6 |
//! | embedding | `[1280]` | 0..=6 |
//! | classes | `[1001]`, class 0 is the background | 0..=1, sum 1 |
//! # Errors
//! [`OpenError`] when description and weights do not fit each other.

use std::path::Path;

use chiasm_core::{EncodeError, Encoder, Image, Media, Modality, Vectors};
use chiasm_nn::{Activation, Conv2d, ConvShape, Depthwise, FeatureMap, Filters, Linear, Padding, Weights, Window, softmax};
use rayon::prelude::*;
use serde::Deserialize;

use crate::batch;
use crate::error::OpenError;
use crate::model::{self, Output};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "mobilenet_v2 1";

/// The description beside the weights. Numbers that the code below does not take from here are checked in [`Config::read`].
#[derive(Deserialize)]
struct Config {
    weights: String,
    input: Input,
    layers: Vec<Layer>,
    output: Classes,
}

#[derive(Deserialize)]
struct Input {
    /// Batch, channels, height, width.
    shape: [usize; 4],
    mean: f32,
    std: f32,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    kind: String,
    #[serde(default)]
    kernel: usize,
    #[serde(default)]
    stride: usize,
    #[serde(default)]
    in_channels: usize,
    #[serde(default)]
    hidden_channels: usize,
    out_channels: usize,
    #[serde(default)]
    residual: bool,
}

#[derive(Deserialize)]
struct Classes {
    labels: String,
}

impl Config {
    fn read(path: &Path) -> Result<(Self, Vec<u8>), OpenError> {
        let bytes = model::read(path)?;
        let config: Self = model::parse(path, &bytes)?;
        let [_, channels, height, width] = config.input.shape;
        model::expect(path, channels == 3 && (1..=4096).contains(&height) && (1..=4096).contains(&width), || {
            format!("the input is {:?}, expected 3 channels and at most 4096 pixels a side", config.input.shape)
        })?;
        model::expect(path, config.input.mean.is_finite() && config.input.std > 0.0, || {
            "the input's mean and std must be finite, and std greater than 0".to_owned()
        })?;
        let kinds: Vec<&str> = config.layers.iter().map(|layer| layer.kind.as_str()).collect();
        let n_blocks = kinds.len().saturating_sub(4);
        let expected =
            [&["conv"][..], &vec!["inverted_residual"; n_blocks], &["conv", "global_average_pool", "linear"]].concat();
        model::expect(path, kinds == expected, || {
            format!(
                "the layers are {}, expected conv, inverted_residual.., conv, global_average_pool, linear",
                kinds.join(", ")
            )
        })?;
        let mut channels = 3;
        for (at, layer) in config.layers.iter().enumerate() {
            let fault = if layer.kind == "global_average_pool" {
                (layer.out_channels != channels).then(|| format!("out_channels is {}, expected {channels}", layer.out_channels))
            } else if layer.in_channels != channels {
                Some(format!("in_channels is {}, the layer before gives {channels}", layer.in_channels))
            } else if !windows_fit(layer, at == 0) {
                Some(format!("a {} with kernel {} and stride {} does not belong here", layer.kind, layer.kernel, layer.stride))
            } else if layer.residual && (layer.stride != 1 || layer.in_channels != layer.out_channels) {
                Some("a residual needs stride 1 and as many channels out as in".to_owned())
            } else {
                None
            };
            model::expect(path, fault.is_none(), || format!("layer `{}`: {}", layer.name, fault.unwrap_or_default()))?;
            channels = layer.out_channels;
        }
        Ok((config, bytes))
    }

    fn n_classes(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.out_channels)
    }
}

/// Whether a layer's kernel and stride are such as the code below computes: the first convolution has a window, the last has
/// none, the blocks have 3x3.
fn windows_fit(layer: &Layer, first: bool) -> bool {
    let strides = (1..=2).contains(&layer.stride);
    match layer.kind.as_str() {
        "conv" if first => strides && (1..=7).contains(&layer.kernel),
        "conv" => layer.kernel == 1 && layer.stride == 1,
        "inverted_residual" => strides && layer.kernel == 3,
        _ => true,
    }
}

/// The names of the classes, in the order of the output.
pub(crate) fn class_names(path: &Path) -> Result<Vec<String>, OpenError> {
    let (config, _) = Config::read(path)?;
    model::class_names(path, &config.output.labels, config.n_classes())
}

/// The network with its preprocessing.
pub(crate) struct MobileNetV2 {
    name: String,
    fingerprint: String,
    output: Output,
    input: Input,
    stem: Conv2d,
    blocks: Vec<Block>,
    head: Linear,
    classifier: Linear,
}

/// An inverted residual: wider, filtered channel by channel, narrow again, with nothing after the last but the shortcut.
struct Block {
    expand: Option<Linear>,
    depthwise: Depthwise,
    project: Linear,
    residual: bool,
}

/// Buffers that one thread uses over and over.
#[derive(Default)]
struct Scratch {
    x: FeatureMap,
    wide: FeatureMap,
    filtered: FeatureMap,
    windows: Vec<f32>,
    narrow: Vec<f32>,
}

impl MobileNetV2 {
    /// Loads the network that the description at `path` states, to be known as `name`.
    pub(crate) fn open(path: &Path, name: &str, output: Output) -> Result<Self, OpenError> {
        let (config, bytes) = Config::read(path)?;
        let mut weights = Weights::read(&model::beside(path, &config.weights)?)?;
        let fingerprint = model::fingerprint(&format!("{ARITHMETIC} {output:?}"), weights.digest(), &[&bytes]);
        let w = &mut weights;

        let [stem, blocks @ .., head, _pool, classifier] = config.layers.as_slice() else {
            return Err(model::config(path, "too few layers"));
        };
        let same = |kernel: usize, stride: usize| Window::square(kernel, stride, Padding::Same);
        let shape = ConvShape::new(stem.in_channels, stem.out_channels, same(stem.kernel, stem.stride));
        let stem = Conv2d::load(w, Filters::biased(&stem.name), shape, Activation::Relu6)?;
        let blocks = blocks
            .iter()
            .map(|l| {
                let (expand, depthwise, project) =
                    (format!("{}.expand", l.name), format!("{}.depthwise", l.name), format!("{}.project", l.name));
                // The first block of the published network has as many channels inside as outside, and no widening.
                let widens = l.hidden_channels != l.in_channels;
                let (filters, window) = (Filters::biased(&depthwise), same(3, l.stride));
                Ok(Block {
                    expand: widens
                        .then(|| Linear::load_pointwise(w, &expand, l.in_channels, l.hidden_channels, Activation::Relu6))
                        .transpose()?,
                    depthwise: Depthwise::load(w, filters, l.hidden_channels, window, Activation::Relu6)?,
                    project: Linear::load_pointwise(w, &project, l.hidden_channels, l.out_channels, Activation::None)?,
                    residual: l.residual,
                })
            })
            .collect::<Result<_, OpenError>>()?;
        let head = Linear::load_pointwise(w, &head.name, head.in_channels, head.out_channels, Activation::Relu6)?;
        let classifier = Linear::load(w, &classifier.name, classifier.in_channels, classifier.out_channels, Activation::None)?;
        weights.finish()?;
        Ok(Self { name: name.to_owned(), fingerprint, output, input: config.input, stem, blocks, head, classifier })
    }

    /// The picture as the network takes it, `[height, width, 3]`.
    fn preprocess(&self, image: &Image, x: &mut FeatureMap) {
        let [_, _, height, width] = self.input.shape;
        let small = chiasm_media::resize(image, width as u32, height as u32);
        x.reshape(height, width, 3);
        for (x, pixel) in x.data.iter_mut().zip(&small.rgb) {
            *x = (f32::from(*pixel) - self.input.mean) / self.input.std;
        }
    }

    /// The last map of the preprocessed picture that `s.x` holds.
    fn map<'s>(&self, s: &'s mut Scratch) -> &'s FeatureMap {
        self.stem.forward(&s.x, &mut s.wide, &mut s.windows);
        std::mem::swap(&mut s.x, &mut s.wide);
        for block in &self.blocks {
            let (height, width) = (s.x.height, s.x.width);
            if let Some(expand) = &block.expand {
                expand.forward(&s.x.data, &mut s.wide.data);
                s.wide.reshape(height, width, expand.n_out());
                block.depthwise.forward(&s.wide, &mut s.filtered);
            } else {
                block.depthwise.forward(&s.x, &mut s.filtered);
            }
            block.project.forward(&s.filtered.data, &mut s.narrow);
            if block.residual {
                s.x.data.iter_mut().zip(&s.narrow).for_each(|(x, v)| *x += v);
            } else {
                std::mem::swap(&mut s.x.data, &mut s.narrow);
                s.x.reshape(s.filtered.height, s.filtered.width, block.project.n_out());
            }
        }
        self.head.forward(&s.x.data, &mut s.wide.data);
        s.wide.reshape(s.x.height, s.x.width, self.head.n_out());
        &s.wide
    }

    /// Scores of the classes before the softmax.
    fn logits(&self, features: &[f32]) -> Vec<f32> {
        let mut logits = Vec::new();
        self.classifier.forward(features, &mut logits);
        logits
    }
}

impl Encoder for MobileNetV2 {
    fn name(&self) -> &str {
        &self.name
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn dim(&self) -> usize {
        match self.output {
            Output::Embedding => self.head.n_out(),
            Output::Classes => self.classifier.n_out(),
        }
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn encode(&self, batch: &[Media]) -> Result<Vectors, EncodeError> {
        let images = batch::images(self, batch)?;
        let rows: Vec<Vec<f32>> = images
            .par_iter()
            .map_init(Scratch::default, |scratch, image| {
                self.preprocess(image, &mut scratch.x);
                let features = self.map(scratch).mean();
                match self.output {
                    Output::Embedding => features,
                    Output::Classes => {
                        let mut classes = self.logits(&features);
                        let n = classes.len();
                        softmax(&mut classes, n);
                        classes
                    }
                }
            })
            .collect();
        batch::vectors(self, &rows)
    }

    fn parts(&self, batch: &[Media]) -> Result<Vec<Vectors>, EncodeError> {
        let images = batch::images(self, batch)?;
        let of_one = |scratch: &mut Scratch, image: &&Image| {
            self.preprocess(image, &mut scratch.x);
            Vectors::new(self.map(scratch).data.clone(), self.head.n_out())
                .map_err(|cause| EncodeError::NotFinite { encoder: self.name.clone(), cause })
        };
        images.par_iter().map_init(Scratch::default, of_one).collect()
    }
}
