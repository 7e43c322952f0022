//! FastViT as MobileCLIP has it: pictures to one vector, by convolutions and at the end attention.
//!
//! # Reference
//! Vasu et al., "FastViT: A Fast Hybrid Vision Transformer using Structural Reparameterization", ICCV 2023; the same, "MobileCLIP", CVPR
//! 2024; Faghri et al., "MobileCLIP2", TMLR 2025. Checked layer by layer against timm's `FastVit`. Differs from it in: the branches that
//! it has side by side for training are one convolution here, which they add up to.
//! # Files
//! Those of [`crate::nets::open_clip`], where `vision_cfg.timm_model_name` is `fastvit_mci0` to `fastvit_mci4`.
//! # Preprocessing
//! As stated there.
//! # Shapes
//! | step | shape |
//! | --- | --- |
//! | picture | `[256, 256, 3]` |
//! | after the stem | `[64, 64, dims[0]]` |
//! | after a stage | half as high and wide as after the last one, `dims[i]` |
//! | embedding | `[embed_dim]` |

use chiasm_nn::{
    Activation, AttentionScratch, BatchNorm, Conv2d, ConvShape, Depthwise, FeatureMap, Filters, LayerNorm, Linear, Mask,
    Padding, Qkv, SelfAttention, SqueezeExcite, Weights, WeightsError, Window,
};

use crate::net::{Net, Watch};
use crate::nets::clip::projected;
use crate::nets::clip_resnet::show;

/// Added to the variance in normalisations of both kinds.
const EPS: f64 = 1e-5;
/// Numbers per attention head.
const HEAD_WIDTH: usize = 32;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    /// Blocks of each stage.
    layers: &'static [usize],
    /// Channels of each stage.
    dims: &'static [usize],
    mlp_ratio: usize,
    /// Stages that look with attention, at the end.
    n_attending: usize,
    /// Whether it is one of the two largest, which are normalised otherwise and have no gates between the stages.
    large: bool,
}

/// The network of this name, where it is one of these.
pub(crate) fn named(name: &str) -> Option<Variant> {
    let of = |layers, dims, mlp_ratio, n_attending, large| Some(Variant { layers, dims, mlp_ratio, n_attending, large });
    match name.strip_prefix("fastvit_")? {
        "mci0" => of(&[2, 6, 10, 2], &[64, 128, 256, 512], 3, 1, false),
        "mci1" => of(&[4, 12, 20, 4], &[64, 128, 256, 512], 3, 1, false),
        "mci2" => of(&[4, 12, 24, 4], &[80, 160, 320, 640], 3, 1, false),
        "mci3" => of(&[2, 12, 24, 4, 2], &[96, 192, 384, 768, 1536], 4, 2, true),
        "mci4" => of(&[2, 12, 24, 4, 4], &[128, 256, 512, 1024, 2048], 4, 2, true),
        // Of the goldens alone: timm's own names stand for networks too large for them.
        #[cfg(test)]
        "golden" => of(&[1, 1, 1, 2], &[8, 16, 32, 64], 3, 1, false),
        #[cfg(test)]
        "golden_large" => of(&[1, 1, 1, 1, 1], &[8, 16, 16, 32, 64], 4, 2, true),
        _ => None,
    }
}

/// The network.
pub(crate) struct FastVit {
    stem: (Conv2d, Depthwise, Linear),
    steps: Vec<Step>,
    last: Spread,
    head: Option<Linear>,
}

/// What stands between the stem and the last convolution.
enum Step {
    /// Halves the picture.
    Halve(Spread, Linear),
    /// Tells places apart by what surrounds them, its shortcut folded in.
    Position(Depthwise),
    /// Mixes neighbours by a convolution.
    Convolve(Depthwise, Mlp),
    /// Mixes all places by attention.
    Attend(Norm, SelfAttention, Linear, Mlp),
}

/// A convolution in which each channel becomes several, by themselves; perhaps gates; an activation.
struct Spread {
    times: usize,
    conv: Depthwise,
    gates: Option<SqueezeExcite>,
}

/// A convolution of each channel, and two dense layers over places; what they give is scaled.
struct Mlp {
    conv: Depthwise,
    widen: Linear,
    narrow: Linear,
}

enum Norm {
    Batch(BatchNorm),
    Layer(LayerNorm),
}

/// Channels in and out, parts of the channels that do not see each other, and the window's side.
#[derive(Clone, Copy)]
struct Kernel {
    n_in: usize,
    n_out: usize,
    groups: usize,
    side: usize,
}

/// Which branches a convolution has in training.
#[derive(Clone, Copy)]
struct Branches {
    /// Those as large as the window itself.
    whole: usize,
    /// One of a single place.
    point: bool,
    /// The normalised input itself.
    identity: bool,
}

impl Kernel {
    fn per_group(self) -> usize {
        self.n_in / self.groups
    }

    /// The window that goes `stride` places at a time, around each.
    fn window(self, stride: usize) -> Window {
        Window::square(self.side, stride, Padding::even(self.side / 2))
    }

    /// Adds the filters of a smaller window, in the middle, to those of this one.
    fn add(self, weight: &mut [f32], smaller: &[f32], side: usize) {
        let margin = (self.side - side) / 2;
        let (area, small_area) = (self.side * self.side, side * side);
        for (filter, smaller) in weight.chunks_exact_mut(area).zip(smaller.chunks_exact(small_area)) {
            for (row, line) in smaller.chunks_exact(side).enumerate() {
                let to = &mut filter[(margin + row) * self.side + margin..][..side];
                to.iter_mut().zip(line).for_each(|(v, s)| *v += s);
            }
        }
    }

    /// Adds to each output its own input, `scale` times.
    fn add_identity(self, weight: &mut [f32], scale: &[f32]) {
        let (per, area) = (self.per_group(), self.side * self.side);
        for (o, scale) in scale.iter().enumerate() {
            weight[(o * per + o % per) * area + area / 2] += scale;
        }
    }

    /// The convolution that branches side by side add up to (Ding et al., "RepVGG", CVPR 2021): weights
    /// `[n_out, n_in / groups, side, side]` and a bias.
    fn fused(self, w: &mut Weights, at: &str, branches: Branches) -> Result<(Vec<f32>, Vec<f32>), WeightsError> {
        let Kernel { n_out, side, .. } = self;
        let per = self.per_group();
        let (mut weight, mut bias) = (vec![0.0; n_out * per * side * side], vec![0.0; n_out]);
        let whole = (0..branches.whole).map(|i| (format!("{at}conv_kxk.{i}"), side));
        for (name, side) in whole.chain(branches.point.then(|| (format!("{at}conv_scale"), 1))) {
            let (filters, shift) = normed(w, &name, [n_out, per, side])?;
            self.add(&mut weight, &filters, side);
            bias.iter_mut().zip(&shift).for_each(|(b, s)| *b += s);
        }
        if branches.identity {
            let (mut scale, mut shift) = (vec![1.0; n_out], vec![0.0; n_out]);
            BatchNorm::load(w, &format!("{at}identity"), n_out, EPS)?.fold(&mut scale, &mut shift);
            self.add_identity(&mut weight, &scale);
            bias.iter_mut().zip(&shift).for_each(|(b, s)| *b += s);
        }
        Ok((weight, bias))
    }
}

/// Weights and bias of a convolution with the normalisation behind it.
fn normed(w: &mut Weights, at: &str, [n_out, per_group, side]: [usize; 3]) -> Result<(Vec<f32>, Vec<f32>), WeightsError> {
    Filters::normed(&format!("{at}.conv"), &format!("{at}.bn"), EPS).take(w, &[n_out, per_group, side, side])
}

/// A dense layer over places with branches.
fn pointwise(w: &mut Weights, at: &str, dim: usize) -> Result<Linear, WeightsError> {
    let kernel = Kernel { n_in: dim, n_out: dim, groups: 1, side: 1 };
    let (weight, bias) = kernel.fused(w, at, Branches { whole: 1, point: false, identity: true })?;
    Ok(Linear::new(&weight, bias, dim, Activation::Gelu))
}

/// A layer whose results are scaled, output by output, by the tensor `scale`.
fn scaled(w: &mut Weights, name: &str, shape: &[usize], scale: &str) -> Result<Linear, WeightsError> {
    let (n_out, n_in) = (shape[0], shape[1]);
    let gains = w.take(&format!("{scale}.gamma"), &[n_out, 1, 1])?;
    let mut weight = w.take(&format!("{name}.weight"), shape)?;
    let mut bias = w.take(&format!("{name}.bias"), &[n_out])?;
    for ((row, bias), gain) in weight.chunks_exact_mut(n_in).zip(&mut bias).zip(&gains) {
        row.iter_mut().for_each(|v| *v *= gain);
        *bias *= gain;
    }
    Ok(Linear::new(&weight, bias, n_in, Activation::None))
}

impl Variant {
    /// Takes all tensors but the projection, which is given; their names begin with `at`.
    pub(crate) fn load(&self, w: &mut Weights, at: &str, head: Option<Linear>) -> Result<FastVit, WeightsError> {
        let first = self.dims[0];
        let branches = |identity| Branches { whole: 1, point: !self.large, identity };
        let kernel = Kernel { n_in: 3, n_out: first, groups: 1, side: 3 };
        let (weight, bias) = kernel.fused(w, &format!("{at}stem.0."), branches(false))?;
        let dense = Conv2d::new(&weight, &bias, ConvShape::new(3, first, kernel.window(2)), Activation::Gelu);
        let kernel = Kernel { n_in: first, n_out: first, groups: first, side: 3 };
        let (weight, bias) = kernel.fused(w, &format!("{at}stem.1."), branches(false))?;
        let each = Depthwise::new(&weight, bias, kernel.window(2), Activation::Gelu);
        let stem = (dense, each, pointwise(w, &format!("{at}stem.2."), first)?);

        let mut steps = Vec::new();
        let mut before = first;
        for (i, (&n_blocks, &dim)) in self.layers.iter().zip(self.dims).enumerate() {
            let at = format!("{at}stages.{i}.");
            if i > 0 {
                let gated = !self.large && i >= 2;
                steps.push(halve(w, &format!("{at}downsample.proj."), [before, dim], gated)?);
            }
            let attends = i >= self.layers.len() - self.n_attending;
            if attends {
                let kernel = Kernel { n_in: dim, n_out: dim, groups: dim, side: 7 };
                let mut weight = w.take(&format!("{at}pos_emb.pos_enc.weight"), &[dim, 1, 7, 7])?;
                let bias = w.take(&format!("{at}pos_emb.pos_enc.bias"), &[dim])?;
                kernel.add_identity(&mut weight, &vec![1.0; dim]);
                steps.push(Step::Position(Depthwise::new(&weight, bias, kernel.window(1), Activation::None)));
            }
            for block in 0..n_blocks {
                let at = format!("{at}blocks.{block}.");
                steps.push(if attends { self.attend(w, &at, dim)? } else { self.convolve(w, &at, dim)? });
            }
            before = dim;
        }

        let kernel = Kernel { n_in: before, n_out: 2 * before, groups: before, side: 3 };
        let (weight, bias) =
            kernel.fused(w, &format!("{at}final_conv."), Branches { whole: 1, point: true, identity: false })?;
        let gates = gates(w, &format!("{at}final_conv.se."), 2 * before, 2 * before / 16)?;
        let last =
            Spread { times: 2, conv: Depthwise::new(&weight, bias, kernel.window(1), Activation::None), gates: Some(gates) };
        Ok(FastVit { stem, steps, last, head })
    }

    /// Numbers per picture before the projection.
    pub(crate) fn dim(&self) -> usize {
        self.dims.last().map_or(0, |dim| 2 * dim)
    }

    fn convolve(&self, w: &mut Weights, at: &str, dim: usize) -> Result<Step, WeightsError> {
        let kernel = Kernel { n_in: dim, n_out: dim, groups: dim, side: 3 };
        // x + gain (mixer(x) - norm(x)), all of it one convolution.
        let mixer = Branches { whole: 1, point: true, identity: true };
        let (mut weight, mut bias) = kernel.fused(w, &format!("{at}token_mixer.mixer."), mixer)?;
        let norm = Branches { whole: 0, point: false, identity: true };
        let (less, less_bias) = kernel.fused(w, &format!("{at}token_mixer.norm."), norm)?;
        let gains = w.take(&format!("{at}token_mixer.layer_scale.gamma"), &[dim, 1, 1])?;
        for (c, gain) in gains.iter().enumerate() {
            let (filter, less) = (&mut weight[c * 9..][..9], &less[c * 9..][..9]);
            filter.iter_mut().zip(less).for_each(|(v, less)| *v = gain * (*v - less));
            bias[c] = gain * (bias[c] - less_bias[c]);
        }
        kernel.add_identity(&mut weight, &vec![1.0; dim]);
        let mixer = Depthwise::new(&weight, bias, kernel.window(1), Activation::None);
        Ok(Step::Convolve(mixer, self.mlp(w, at, dim, "layer_scale")?))
    }

    fn attend(&self, w: &mut Weights, at: &str, dim: usize) -> Result<Step, WeightsError> {
        let norm = if self.large {
            Norm::Layer(LayerNorm::load(w, &format!("{at}norm"), dim, EPS as f32)?)
        } else {
            Norm::Batch(BatchNorm::load(w, &format!("{at}norm"), dim, EPS)?)
        };
        let qkv = Qkv::StackedUnbiased(format!("{at}token_mixer.qkv.weight"));
        let attention = SelfAttention::load(w, &qkv, dim, dim / HEAD_WIDTH)?;
        let out = scaled(w, &format!("{at}token_mixer.proj"), &[dim, dim], &format!("{at}layer_scale_1"))?;
        Ok(Step::Attend(norm, attention, out, self.mlp(w, at, dim, "layer_scale_2")?))
    }

    fn mlp(&self, w: &mut Weights, at: &str, dim: usize, scale: &str) -> Result<Mlp, WeightsError> {
        let wide = dim * self.mlp_ratio;
        let (weight, bias) = normed(w, &format!("{at}mlp.conv"), [dim, 1, 7])?;
        Ok(Mlp {
            conv: Depthwise::new(&weight, bias, Window::square(7, 1, Padding::even(3)), Activation::None),
            widen: Linear::load_pointwise(w, &format!("{at}mlp.fc1"), dim, wide, Activation::Gelu)?,
            narrow: scaled(w, &format!("{at}mlp.fc2"), &[dim, wide, 1, 1], &format!("{at}{scale}"))?,
        })
    }
}

/// The step between two stages: a large window and a small one added up, perhaps gates, and a dense layer.
fn halve(w: &mut Weights, at: &str, [n_in, n_out]: [usize; 2], gated: bool) -> Result<Step, WeightsError> {
    let kernel = Kernel { n_in, n_out, groups: n_in, side: 7 };
    let (mut weight, mut bias) = normed(w, &format!("{at}0.large_conv"), [n_out, 1, 7])?;
    let (small, shift) = normed(w, &format!("{at}0.small_conv"), [n_out, 1, 3])?;
    kernel.add(&mut weight, &small, 3);
    bias.iter_mut().zip(&shift).for_each(|(b, s)| *b += s);
    // A quarter of the channels, to the nearest multiple of 8.
    let squeezed = ((n_out / 4 + 4) / 8 * 8).max(8);
    let gates = if gated { Some(gates(w, &format!("{at}0.se."), n_out, squeezed)?) } else { None };
    let conv = Depthwise::new(&weight, bias, kernel.window(2), Activation::None);
    Ok(Step::Halve(Spread { times: n_out / n_in, conv, gates }, pointwise(w, &format!("{at}1."), n_out)?))
}

fn gates(w: &mut Weights, at: &str, channels: usize, squeezed: usize) -> Result<SqueezeExcite, WeightsError> {
    SqueezeExcite::load(w, [&format!("{at}fc1"), &format!("{at}fc2")], [channels, squeezed], Activation::Relu)
}

impl Net<FeatureMap> for FastVit {
    fn dim(&self) -> usize {
        self.head.as_ref().map_or(self.last.conv.channels(), Linear::n_out)
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        // As many as there are places after the stem.
        picture.height * picture.width / 16
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let mut scratch = Scratch::default();
        let mut maps: Vec<FeatureMap> = pictures.iter().map(|picture| self.stem(picture, &mut scratch)).collect();
        show(watch, 0, &maps);
        for (i, step) in self.steps.iter().enumerate() {
            for map in &mut maps {
                step.forward(map, &mut scratch);
            }
            show(watch, i + 1, &maps);
        }
        let mut mean = |mut map: FeatureMap| {
            self.last.forward(&mut map, &mut scratch);
            map.mean()
        };
        let means: Vec<Vec<f32>> = maps.into_iter().map(&mut mean).collect();
        match &self.head {
            Some(head) => projected(head, &means.concat()),
            None => means,
        }
    }
}

/// Buffers that the steps use over and over.
#[derive(Default)]
struct Scratch {
    map: FeatureMap,
    wide: Vec<f32>,
    y: Vec<f32>,
    attention: AttentionScratch,
}

impl FastVit {
    fn stem(&self, picture: &FeatureMap, scratch: &mut Scratch) -> FeatureMap {
        let (dense, each, mix) = &self.stem;
        let (mut x, mut y) = (FeatureMap::default(), FeatureMap::default());
        dense.forward(picture, &mut x, &mut scratch.wide);
        each.forward(&x, &mut y);
        mix.forward(&y.data, &mut x.data);
        FeatureMap { data: x.data, ..y }
    }
}

impl Step {
    /// Carries `x` through the step, in place.
    fn forward(&self, x: &mut FeatureMap, scratch: &mut Scratch) {
        match self {
            Step::Halve(spread, mix) => {
                spread.forward(x, scratch);
                mix.forward(&x.data, &mut scratch.y);
                std::mem::swap(&mut x.data, &mut scratch.y);
            }
            Step::Position(conv) => {
                conv.forward(x, &mut scratch.map);
                std::mem::swap(x, &mut scratch.map);
            }
            Step::Convolve(conv, mlp) => {
                conv.forward(x, &mut scratch.map);
                std::mem::swap(x, &mut scratch.map);
                mlp.forward(x, scratch);
            }
            Step::Attend(norm, attention, out, mlp) => {
                let Scratch { map, wide, y, attention: of_attention } = scratch;
                map.clone_from(x);
                match norm {
                    Norm::Batch(norm) => norm.forward(&mut map.data),
                    Norm::Layer(norm) => norm.forward(&mut map.data),
                }
                attention.forward(&map.data, &[x.height * x.width], Mask::None, wide, of_attention);
                out.forward(wide, y);
                x.data.iter_mut().zip(&*y).for_each(|(x, y)| *x += y);
                mlp.forward(x, scratch);
            }
        }
    }
}

impl Mlp {
    /// Adds what the layers give to `x`.
    fn forward(&self, x: &mut FeatureMap, Scratch { map, wide, y, .. }: &mut Scratch) {
        self.conv.forward(x, map);
        self.widen.forward(&map.data, wide);
        self.narrow.forward(wide, y);
        x.data.iter_mut().zip(&*y).for_each(|(x, y)| *x += y);
    }
}

impl Spread {
    /// `x` becomes what it is spread to.
    fn forward(&self, x: &mut FeatureMap, Scratch { map, .. }: &mut Scratch) {
        // Each channel stands as often as it is looked at, so that the outputs have one of their own.
        map.reshape(x.height, x.width, self.times * x.channels);
        for (several, one) in map.data.chunks_exact_mut(self.times).zip(&x.data) {
            several.fill(*one);
        }
        self.conv.forward(map, x);
        if let Some(gates) = &self.gates {
            gates.forward(x);
        }
        Activation::Gelu.apply(&mut x.data);
    }
}
