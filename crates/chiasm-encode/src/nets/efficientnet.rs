//! EfficientNet: pictures to pooled features, or to the probabilities of classes.
//!
//! # Reference
//! Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, table 1 and eq. 3, with the
//! squeeze and excitation of Hu, Shen and Sun, CVPR 2018. Checked block by block against `EfficientNetModel` and
//! `EfficientNetForImageClassification` of transformers. Differs from it in: batch normalisation is folded into the convolutions.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `efficientnet`), `preprocessor_config.json`, the weights.
//! # Preprocessing
//! As the description says; that of the published ones divides by the deviation twice and takes the nearest pixels, as Pillow finds
//! them: halfway between two, torchvision takes the other.
//! # Shapes
//! | step | shape (B0) | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -4.5..5.6 |
//! | stem | `[112, 112, 32]` | -0.28 and up |
//! | blocks | `[7, 7, 320]` at the last | any |
//! | top | `[7, 7, 1280]` | -0.28 and up |
//! | embedding | `[1280]`, the mean over positions | -0.28 and up |

use std::path::Path;

use chiasm_nn::{
    Activation, Conv2d, ConvShape, Depthwise, FeatureMap, Filters, Padding, SqueezeExcite, Weights, WeightsError, Window,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, watch_maps};
use crate::nets::classes::{self, Classes, Head};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "efficientnet 1";

/// Channels of the stem and of the top before they are scaled.
const STEM: usize = 32;
const TOP: usize = 1280;

/// More channels or blocks than this no network has; a description comes from strangers.
const MOST: f64 = 65_536.0;

/// `config.json`. What is silent has the reference's default, which is that of B7.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    num_channels: usize,
    width_coefficient: f64,
    depth_coefficient: f64,
    depth_divisor: usize,
    kernel_sizes: Vec<usize>,
    in_channels: Vec<usize>,
    out_channels: Vec<usize>,
    depthwise_padding: Vec<usize>,
    strides: Vec<usize>,
    num_block_repeats: Vec<usize>,
    expand_ratios: Vec<usize>,
    squeeze_expansion_ratio: f64,
    hidden_act: String,
    pub(crate) hidden_dim: usize,
    pooling_type: String,
    batch_norm_eps: f64,
    /// Side of the pictures; read where no description of the preprocessing states it.
    pub(crate) image_size: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_channels: 3,
            width_coefficient: 2.0,
            depth_coefficient: 3.1,
            depth_divisor: 8,
            kernel_sizes: vec![3, 3, 5, 3, 5, 5, 3],
            in_channels: vec![32, 16, 24, 40, 80, 112, 192],
            out_channels: vec![16, 24, 40, 80, 112, 192, 320],
            depthwise_padding: Vec::new(),
            strides: vec![1, 2, 2, 2, 1, 2, 1],
            num_block_repeats: vec![1, 2, 2, 3, 3, 4, 1],
            expand_ratios: vec![1, 6, 6, 6, 6, 6, 6],
            squeeze_expansion_ratio: 0.25,
            hidden_act: "swish".to_owned(),
            hidden_dim: 2560,
            pooling_type: "mean".to_owned(),
            batch_norm_eps: 1e-3,
            image_size: 600,
        }
    }
}

impl Config {
    /// That of B5 at 456 pixels.
    pub(crate) fn b5() -> Self {
        Self {
            width_coefficient: 1.6,
            depth_coefficient: 2.2,
            hidden_dim: 2048,
            // The blocks that step through a grid of odd sides.
            depthwise_padding: vec![13, 27],
            image_size: 456,
            ..Self::default()
        }
    }
}

/// Whose names the tensors bear; what begins all of them is given.
#[derive(Clone, Copy)]
pub(crate) enum Stored<'a> {
    /// Those of transformers.
    HuggingFace(&'a str),
    /// Those of timm.
    Timm(&'a str),
}

/// A convolution and the normalisation behind it.
type Normed = [String; 2];

/// Where the tensors of a block are.
struct BlockNames {
    expand: Normed,
    depthwise: Normed,
    squeeze: [String; 2],
    project: Normed,
}

impl Stored<'_> {
    /// Whether a block has a shortcut around it. The libraries differ in first blocks that keep the shape, which no published size has.
    fn has_shortcut(self, shape: &Shape) -> bool {
        match self {
            Stored::HuggingFace(_) => shape.repeats,
            Stored::Timm(_) => shape.same_shape,
        }
    }

    fn stem(self) -> Normed {
        match self {
            Stored::HuggingFace(at) => ["convolution", "batchnorm"].map(|part| format!("{at}embeddings.{part}")),
            Stored::Timm(at) => ["conv_stem", "bn1"].map(|part| format!("{at}{part}")),
        }
    }

    fn top(self) -> Normed {
        match self {
            Stored::HuggingFace(at) => ["top_conv", "top_bn"].map(|part| format!("{at}encoder.{part}")),
            Stored::Timm(at) => ["conv_head", "bn2"].map(|part| format!("{at}{part}")),
        }
    }

    /// Those of block `i` of all.
    fn block(self, i: usize, shape: &Shape) -> BlockNames {
        match self {
            Stored::HuggingFace(at) => {
                let at = |part: &str| format!("{at}encoder.blocks.{i}.{part}");
                let pair = |step: &str, part: &str| [at(&format!("{step}{part}_conv")), at(&format!("{step}{part}_bn"))];
                BlockNames {
                    expand: pair("expansion.", "expand"),
                    depthwise: ["conv", "norm"].map(|part| at(&format!("depthwise_conv.depthwise_{part}"))),
                    squeeze: ["reduce", "expand"].map(|part| at(&format!("squeeze_excite.{part}"))),
                    project: pair("projection.", "project"),
                }
            }
            Stored::Timm(at) => {
                let at = |part: &str| format!("{at}blocks.{}.{}.{part}", shape.place[0], shape.place[1]);
                let pair = |conv: &str, norm: &str| [at(conv), at(norm)];
                // A block that does not widen counts from the step after, and its last step has the name of a first.
                let (depthwise, project) = if shape.widens {
                    (pair("conv_dw", "bn2"), pair("conv_pwl", "bn3"))
                } else {
                    (pair("conv_dw", "bn1"), pair("conv_pw", "bn2"))
                };
                let squeeze = ["reduce", "expand"].map(|part| at(&format!("se.conv_{part}")));
                BlockNames { expand: pair("conv_pw", "bn1"), depthwise, squeeze, project }
            }
        }
    }
}

/// One block, as the description works out.
struct Shape {
    /// Its stage, and its place there.
    place: [usize; 2],
    n_in: usize,
    n_out: usize,
    /// Channels between, after the widening.
    wide: usize,
    widens: bool,
    squeezed: usize,
    window: Window,
    /// Whether it is another of its stage, after the first.
    repeats: bool,
    /// Whether what it gives has the shape of what it takes.
    same_shape: bool,
}

impl Config {
    /// The number of channels that the width makes of `n`: a multiple of the divisor, and no more than a tenth below the product.
    fn channels(&self, n: usize) -> usize {
        let (divisor, scaled) = (self.depth_divisor as f64, n as f64 * self.width_coefficient);
        let rounded = (((scaled + divisor / 2.0).trunc() / divisor).floor() * divisor).max(divisor);
        // Beyond `MOST` it is refused in any case.
        (if rounded < 0.9 * scaled { rounded + divisor } else { rounded }).min(2.0 * MOST) as usize
    }

    /// The blocks, one after the other.
    fn blocks(&self, path: &Path) -> Result<Vec<Shape>, OpenError> {
        let lists = [
            ("kernel_sizes", &self.kernel_sizes),
            ("in_channels", &self.in_channels),
            ("out_channels", &self.out_channels),
            ("strides", &self.strides),
            ("num_block_repeats", &self.num_block_repeats),
            ("expand_ratios", &self.expand_ratios),
        ];
        let n_stages = self.in_channels.len();
        for (name, list) in lists {
            model::expect(path, n_stages > 0 && list.len() == n_stages && list.iter().all(|v| *v > 0), || {
                format!("{name} is {list:?}, expected a number above 0 for each of {} stages", n_stages.max(1))
            })?;
        }
        model::expect(path, self.num_channels == 3, || format!("num_channels is {}, expected 3", self.num_channels))?;
        let sound = |v: f64| v.is_finite() && v > 0.0 && v < MOST;
        let scales = [self.width_coefficient, self.depth_coefficient, self.squeeze_expansion_ratio, self.depth_divisor as f64];
        model::expect(path, scales.into_iter().all(sound), || {
            "width_coefficient, depth_coefficient, depth_divisor and squeeze_expansion_ratio must be above 0".to_owned()
        })?;
        let mut blocks: Vec<Shape> = Vec::new();
        for stage in 0..n_stages {
            let (kernel, expand) = (self.kernel_sizes[stage], self.expand_ratios[stage]);
            model::expect(path, matches!(kernel, 3 | 5 | 7) && matches!(self.strides[stage], 1 | 2), || {
                let stride = self.strides[stage];
                format!("stage {stage} has kernel {kernel} and stride {stride}, expected 3, 5 or 7, and 1 or 2")
            })?;
            let repeats = (self.depth_coefficient * self.num_block_repeats[stage] as f64).ceil();
            model::expect(path, repeats + (blocks.len() as f64) < MOST, || format!("stage {stage} has {repeats} blocks"))?;
            for repeat in 0..repeats as usize {
                let n_out = self.channels(self.out_channels[stage]);
                let n_in = if repeat == 0 { self.channels(self.in_channels[stage]) } else { n_out };
                let before = blocks.last().map_or_else(|| self.channels(STEM), |block| block.n_out);
                let wide = n_in.saturating_mul(expand);
                model::expect(path, n_in == before && n_in.max(n_out).max(wide) < MOST as usize, || {
                    format!("stage {stage} takes {n_in} channels to {wide} and to {n_out}, those before give {before}")
                })?;
                let stride = if repeat == 0 { self.strides[stage] } else { 1 };
                // With a stride the reference pads by one less at the top and the left, except in the blocks that are listed.
                let first =
                    if stride == 2 && !self.depthwise_padding.contains(&blocks.len()) { kernel / 2 - 1 } else { kernel / 2 };
                let padding = Padding::Zeros { top: first, bottom: kernel / 2, left: first, right: kernel / 2 };
                blocks.push(Shape {
                    place: [stage, repeat],
                    n_in,
                    n_out,
                    wide,
                    widens: expand != 1,
                    squeezed: ((n_in as f64 * self.squeeze_expansion_ratio) as usize).max(1),
                    window: Window::square(kernel, stride, padding),
                    repeats: repeat > 0,
                    same_shape: stride == 1 && n_in == n_out,
                });
            }
        }
        Ok(blocks)
    }
}

/// The window of the first convolution.
const STEM_WINDOW: Window = Window::square(3, 2, Padding::Zeros { top: 0, bottom: 1, left: 0, right: 1 });

/// The window that is one pixel.
const PIXEL: Window = Window::square(1, 1, Padding::NONE);

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let classes = Classes::wanted(files, wanted)?;
    let processor = ImageProcessor::open(files, Defaults::EFFICIENTNET)?;
    let top = c.channels(TOP);
    model::expect(&path, c.hidden_dim == top, || format!("hidden_dim is {}, the last convolution gives {top}", c.hidden_dim))?;
    let mut w = files.weights()?;
    let prefix = if w.has("efficientnet.embeddings.convolution.weight") { "efficientnet." } else { "" };
    let net = EfficientNet::load(&mut w, &path, Stored::HuggingFace(prefix), &c, processor.shape(), true)?;
    let net = classes::on_top(&mut w, classes, Head::dense("classifier"), net)?;
    w.finish()?;
    Ok(Opened { tower: Tower::Image(processor, net), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

/// The network, with its last convolution or, in a tower of ALIGN, without.
pub(crate) struct EfficientNet {
    stem: Conv2d,
    blocks: Vec<Block>,
    top: Option<Conv2d>,
    /// Whether the largest of all positions is taken; else their mean.
    largest: bool,
    dim: usize,
}

/// An inverted residual: wider, filtered channel by channel, scaled by what all positions say, narrow again.
struct Block {
    expand: Option<Conv2d>,
    depthwise: Depthwise,
    squeeze: SqueezeExcite,
    project: Conv2d,
    residual: bool,
}

/// Buffers that the blocks of a picture use over and over.
#[derive(Default)]
struct Scratch {
    wide: FeatureMap,
    filtered: FeatureMap,
    windows: Vec<f32>,
}

impl EfficientNet {
    /// Takes the tensors; `path` is where the description stands, `size` the height and width of the pictures.
    pub(crate) fn load(
        w: &mut Weights,
        path: &Path,
        names: Stored<'_>,
        c: &Config,
        size: [u32; 2],
        with_top: bool,
    ) -> Result<Self, OpenError> {
        let largest = match c.pooling_type.as_str() {
            "mean" => false,
            "max" => true,
            other => return Err(model::config(path, format!("pooling_type is `{other}`, expected mean or max"))),
        };
        let (shapes, act, eps) = (c.blocks(path)?, model::activation(path, &c.hidden_act)?, c.batch_norm_eps);
        let mut places = Some(size.map(|side| side as usize));
        for window in std::iter::once(&STEM_WINDOW).chain(shapes.iter().map(|shape| &shape.window)) {
            places = places.and_then(|size| window.places(size));
        }
        // The reference pools by a window of this side, which makes several embeddings of a larger picture.
        model::expect(path, places.is_some_and(|last| last.iter().all(|n| *n <= c.hidden_dim)), || {
            format!("the preprocessing gives pictures of {size:?}, too small or too large for the network")
        })?;

        let stem = c.channels(STEM);
        let [name, norm] = names.stem();
        let stem = Conv2d::load(w, Filters::normed(&name, &norm, eps), ConvShape::new(3, stem, STEM_WINDOW), act)?;
        let blocks = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| Block::load(w, (names, i), shape, act, eps))
            .collect::<Result<_, _>>()?;
        let mut dim = shapes.last().map_or(0, |shape| shape.n_out);
        let mut top = None;
        if with_top {
            let [name, norm] = names.top();
            let shape = ConvShape::new(dim, c.channels(TOP), PIXEL);
            dim = shape.n_out;
            top = Some(Conv2d::load(w, Filters::normed(&name, &norm, eps), shape, act)?);
        }
        Ok(Self { stem, blocks, top, largest, dim })
    }

    /// The features of pictures before they are pooled.
    pub(crate) fn features(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<FeatureMap> {
        let mut s = Scratch::default();
        let mut maps = vec![FeatureMap::default(); pictures.len()];
        for (picture, map) in pictures.iter().zip(&mut maps) {
            self.stem.forward(picture, map, &mut s.windows);
        }
        watch_maps("hidden.0", &maps, watch);
        for (i, block) in self.blocks.iter().enumerate() {
            maps.iter_mut().for_each(|map| block.forward(map, &mut s));
            watch_maps(&format!("hidden.{}", i + 1), &maps, watch);
        }
        if let Some(top) = &self.top {
            for map in &mut maps {
                top.forward(map, &mut s.wide, &mut s.windows);
                std::mem::swap(map, &mut s.wide);
            }
        }
        maps
    }

    /// How many blocks there are.
    pub(crate) fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn pool(&self, map: &FeatureMap) -> Vec<f32> {
        if !self.largest {
            return map.mean();
        }
        let mut largest = vec![f32::NEG_INFINITY; map.channels];
        for pixel in map.data.chunks_exact(map.channels) {
            largest.iter_mut().zip(pixel).for_each(|(max, v)| *max = max.max(*v));
        }
        largest
    }
}

impl Block {
    fn load(
        w: &mut Weights,
        (stored, i): (Stored<'_>, usize),
        shape: &Shape,
        act: Activation,
        eps: f64,
    ) -> Result<Self, WeightsError> {
        let names = stored.block(i, shape);
        let pixel = |w: &mut Weights, [name, norm]: &Normed, n_in: usize, n_out: usize, act: Activation| {
            Conv2d::load(w, Filters::normed(name, norm, eps), ConvShape::new(n_in, n_out, PIXEL), act)
        };
        let wide = shape.wide;
        let expand = shape.widens.then(|| pixel(w, &names.expand, shape.n_in, wide, act)).transpose()?;
        let [name, norm] = &names.depthwise;
        let depthwise = Depthwise::load(w, Filters::normed(name, norm, eps), wide, shape.window, act)?;
        let [reduce, back] = &names.squeeze;
        let squeeze = SqueezeExcite::load(w, [reduce, back], [wide, shape.squeezed], act)?;
        let project = pixel(w, &names.project, wide, shape.n_out, Activation::None)?;
        Ok(Self { expand, depthwise, squeeze, project, residual: stored.has_shortcut(shape) })
    }

    fn forward(&self, x: &mut FeatureMap, s: &mut Scratch) {
        if let Some(expand) = &self.expand {
            expand.forward(x, &mut s.wide, &mut s.windows);
            self.depthwise.forward(&s.wide, &mut s.filtered);
        } else {
            self.depthwise.forward(x, &mut s.filtered);
        }
        self.squeeze.forward(&mut s.filtered);
        self.project.forward(&s.filtered, &mut s.wide, &mut s.windows);
        if self.residual {
            x.data.iter_mut().zip(&s.wide.data).for_each(|(x, v)| *x += v);
        } else {
            std::mem::swap(x, &mut s.wide);
        }
    }
}

impl Net<FeatureMap> for EfficientNet {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        picture.height.div_ceil(2) * picture.width.div_ceil(2)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        self.features(pictures, watch).iter().map(|map| self.pool(map)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_depths_are_those_of_the_paper() {
        let path = Path::new("config.json");
        for (width, depth, n_blocks, stem, last, top) in [
            (1.0, 1.0, 16, 32, 320, 1280),
            (1.1, 1.2, 23, 32, 352, 1408),
            (1.2, 1.4, 26, 40, 384, 1536),
            (2.0, 3.1, 55, 64, 640, 2560),
        ] {
            let c = Config { width_coefficient: width, depth_coefficient: depth, ..Config::default() };
            let blocks = c.blocks(path).unwrap();
            let got = (blocks.len(), c.channels(STEM), blocks[blocks.len() - 1].n_out, c.channels(TOP));
            assert_eq!(got, (n_blocks, stem, last, top));
        }
    }

    #[test]
    fn descriptions_that_fit_no_network_are_refused() {
        let path = Path::new("config.json");
        for (json, reason) in [
            (r#"{"strides": [1, 2]}"#, "strides is [1, 2], expected a number above 0 for each of 7 stages"),
            (r#"{"in_channels": []}"#, "expected a number above 0 for each of 1 stages"),
            (r#"{"kernel_sizes": [3, 3, 4, 3, 5, 5, 3]}"#, "stage 2 has kernel 4 and stride 2"),
            (r#"{"strides": [1, 2, 2, 3, 1, 2, 1]}"#, "stage 3 has kernel 3 and stride 3"),
            (r#"{"in_channels": [32, 16, 24, 40, 80, 80, 192]}"#, "stage 5 takes 160 channels"),
            (r#"{"depth_coefficient": 1e300}"#, "must be above 0"),
            (r#"{"num_block_repeats": [1, 18446744073709551615, 2, 3, 3, 4, 1]}"#, "blocks"),
            (r#"{"out_channels": [18446744073709551615, 24, 40, 80, 112, 192, 320]}"#, "stage 0 takes 64 channels"),
            (r#"{"depth_divisor": 0}"#, "must be above 0"),
            (r#"{"width_coefficient": -1}"#, "must be above 0"),
        ] {
            let config: Config = serde_json::from_str(json).unwrap();
            let message = config.blocks(path).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
        }
    }
}
