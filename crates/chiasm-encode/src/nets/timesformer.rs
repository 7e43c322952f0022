//! TimeSformer: a video to the state of a class token, by attention over time and over space.
//!
//! # Reference
//! Bertasius, Wang and Torresani, "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021, eq. (1)-(11). Checked layer
//! by layer against `TimesformerModel` of transformers, with divided (T+S), joint (ST) and space-only (S) attention. Differs from it in:
//! with space-only attention the embedding is the mean of the frames' class tokens, as in the authors' own code; there the
//! class tokens are left as they are.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `timesformer`), `preprocessor_config.json`, the weights, of the bare model or of
//! one with a classifier, which is left out.
//! # Preprocessing
//! `num_frames` frames, see `input/clip.rs`: shorter edge to 224, linear, the middle, ImageNet's mean and deviation, unless the
//! description says otherwise.
//! # Shapes
//! `t` frames of `p` patches.
//! | step | shape | range |
//! | --- | --- | --- |
//! | video | `t` times `[224, 224, 3]` | about -2..2.7 |
//! | tokens, divided and joint | `[1 + p t, dim]`: class, then all frames of the first patch, of the second, ... | any |
//! | tokens, space only | `t` times `[1 + p, dim]` | any |
//! | embedding | `[dim]`, normalised class token | any |

use chiasm_media::Filter;
use chiasm_nn::{
    Activation, AttentionScratch, Block, BlockNames, BlockScratch, BlockShape, LayerNorm, Linear, Mask, Order, Qkv,
    SelfAttention, Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Clip, ClipProcessor, Defaults};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::patches::Patches;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "timesformer 1";

/// What holds for frames where the description is silent.
const IMAGENET: Defaults = Defaults {
    side: 224,
    square: false,
    filter: Filter::Bilinear,
    crop: true,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// Which tokens see which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Attention {
    DividedSpaceTime,
    JointSpaceTime,
    SpaceOnly,
}

/// `config.json`. What is silent has the reference's default, which is that of the base size.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    image_size: u32,
    patch_size: usize,
    num_frames: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    qkv_bias: bool,
    attention_type: Attention,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            num_frames: 8,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-6,
            qkv_bias: true,
            attention_type: Attention::DividedSpaceTime,
        }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, _: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(&path, "", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    model::expect(&path, c.qkv_bias, || "qkv_bias is false, expected projections with biases".to_owned())?;
    let processor = ClipProcessor::open(files, &path, c.num_frames, IMAGENET)?;
    model::fits_patches(&path, processor.shape(), c.image_size, c.patch_size)?;
    let mut w = files.weights()?;
    w.strip_prefix("timesformer.")?;
    let net = TimeSformer::load(&mut w, &c, shape)?;
    w.skip_prefix("classifier.");
    w.finish()?;
    Ok(Opened { tower: Tower::Video(processor, Box::new(net)), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

/// The blocks of a kind.
enum Blocks {
    Divided(Vec<Divided>),
    /// Every token of a sequence sees every other: all of a video's, or those of a frame.
    Plain(Vec<Block>),
}

struct TimeSformer {
    patches: Patches,
    /// Its embedding and its position in one, `[dim]`.
    class: Vec<f32>,
    /// Those of the patches of a frame, `[p, dim]`.
    positions: Vec<f32>,
    /// Those of the frames, `[t, dim]`; none with attention within frames alone.
    times: Option<Vec<f32>>,
    blocks: Blocks,
    norm: LayerNorm,
    n_frames: usize,
    dim: usize,
}

impl TimeSformer {
    fn load(w: &mut Weights, c: &Config, shape: BlockShape) -> Result<Self, WeightsError> {
        let dim = shape.dim;
        let n_patches = (c.image_size as usize / c.patch_size).pow(2);
        let mut class = w.take("embeddings.cls_token", &[1, 1, dim])?;
        let mut positions = w.take("embeddings.position_embeddings", &[1, 1 + n_patches, dim])?;
        class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
        let times = match c.attention_type {
            Attention::SpaceOnly => None,
            Attention::DividedSpaceTime | Attention::JointSpaceTime => {
                Some(w.take("embeddings.time_embeddings", &[1, c.num_frames, dim])?)
            }
        };
        let at = |i: usize| format!("encoder.layer.{i}.");
        let blocks = match c.attention_type {
            Attention::DividedSpaceTime => {
                let load = |i| Divided::load(w, &at(i), shape);
                Blocks::Divided((0..c.num_hidden_layers).map(load).collect::<Result<_, _>>()?)
            }
            Attention::JointSpaceTime | Attention::SpaceOnly => {
                let load = |i| Block::load(w, &names(&at(i)), shape);
                Blocks::Plain((0..c.num_hidden_layers).map(load).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self {
            patches: Patches::load(w, "embeddings.patch_embeddings.projection", [dim, 3, c.patch_size], true)?,
            class,
            positions,
            times,
            blocks,
            norm: LayerNorm::load(w, "layernorm", dim, shape.eps)?,
            n_frames: c.num_frames,
            dim,
        })
    }

    /// Tokens of one video, as the blocks take them.
    fn tokens(&self, clip: &Clip, x: &mut Vec<f32>) {
        let (dim, n_frames) = (self.dim, self.n_frames);
        let mut patches = Vec::new();
        self.patches.forward(clip, &mut patches);
        let n_patches = self.positions.len() / dim;
        let patch = |frame: usize, patch: usize| &patches[(frame * n_patches + patch) * dim..][..dim];
        let Some(times) = &self.times else {
            for frame in patches.chunks_exact(n_patches * dim) {
                x.extend_from_slice(&self.class);
                x.extend(frame.iter().zip(&self.positions).map(|(v, p)| v + p));
            }
            return;
        };
        x.extend_from_slice(&self.class);
        for (p, position) in self.positions.chunks_exact(dim).enumerate() {
            for (t, time) in times.chunks_exact(dim).enumerate().take(n_frames) {
                x.extend(patch(t, p).iter().zip(position).zip(time).map(|((v, p), t)| v + p + t));
            }
        }
    }
}

/// Where a layer keeps what every transformer has.
fn names(at: &str) -> BlockNames {
    BlockNames {
        qkv: stacked(&format!("{at}attention.")),
        out: format!("{at}attention.output.dense"),
        norm_1: format!("{at}layernorm_before"),
        widen: format!("{at}intermediate.dense"),
        narrow: format!("{at}output.dense"),
        norm_2: format!("{at}layernorm_after"),
        scales: None,
    }
}

fn stacked(at: &str) -> Qkv {
    Qkv::Stacked(["weight", "bias"].map(|part| format!("{at}attention.qkv.{part}")))
}

impl Net<Clip> for TimeSformer {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, clip: &Clip) -> usize {
        clip.iter().map(|frame| self.patches.count(frame)).sum::<usize>() + 1
    }

    fn embed(&self, clips: &[Clip], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let (dim, n_frames) = (self.dim, self.n_frames);
        if clips.is_empty() {
            return Vec::new();
        }
        let mut x = Vec::new();
        clips.iter().for_each(|clip| self.tokens(clip, &mut x));
        // Sequences of a video: its frames, or the whole.
        let n_sequences = if self.times.is_some() { 1 } else { n_frames };
        let lengths = vec![x.len() / dim / (clips.len() * n_sequences); clips.len() * n_sequences];
        watch("hidden.0", &x);
        match &self.blocks {
            Blocks::Divided(blocks) => {
                let mut scratch = Scratch::default();
                for (i, block) in blocks.iter().enumerate() {
                    block.forward(&mut x, clips.len(), n_frames, &mut scratch);
                    watch(&format!("hidden.{}", i + 1), &x);
                }
            }
            Blocks::Plain(blocks) => {
                let mut scratch = BlockScratch::default();
                for (i, block) in blocks.iter().enumerate() {
                    block.forward(&mut x, &lengths, Mask::None, &mut scratch);
                    watch(&format!("hidden.{}", i + 1), &x);
                }
            }
        }
        let mut classes = Vec::with_capacity(lengths.len() * dim);
        let mut first = 0;
        for n in &lengths {
            classes.extend_from_slice(&x[first * dim..(first + 1) * dim]);
            first += n;
        }
        self.norm.forward(&mut classes);
        classes.chunks_exact(n_sequences * dim).map(|classes| mean(classes, dim)).collect()
    }
}

/// The mean of rows.
fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sum = vec![0.0; dim];
    rows.chunks_exact(dim).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, v)| *s += v));
    let n = (rows.len() / dim) as f32;
    sum.iter_mut().for_each(|s| *s /= n);
    sum
}

/// Attention of each patch over time, then of each frame over space, then two dense layers; each with a normalisation before it and
/// a shortcut around it.
struct Divided {
    time_norm: LayerNorm,
    time: SelfAttention,
    time_out: Linear,
    time_dense: Linear,
    space_norm: LayerNorm,
    space: SelfAttention,
    space_out: Linear,
    dense_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

/// Buffers that blocks use over and over.
#[derive(Default)]
struct Scratch {
    tokens: Vec<f32>,
    mixed: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
    attention: AttentionScratch,
}

impl Divided {
    fn load(w: &mut Weights, at: &str, shape: BlockShape) -> Result<Self, WeightsError> {
        let BlockShape { dim, wide, n_heads, eps, activation, .. } = shape;
        let none = Activation::None;
        Ok(Self {
            time_norm: LayerNorm::load(w, &format!("{at}temporal_layernorm"), dim, eps)?,
            time: SelfAttention::load(w, &stacked(&format!("{at}temporal_attention.")), dim, n_heads)?,
            time_out: Linear::load(w, &format!("{at}temporal_attention.output.dense"), dim, dim, none)?,
            time_dense: Linear::load(w, &format!("{at}temporal_dense"), dim, dim, none)?,
            space_norm: LayerNorm::load(w, &format!("{at}layernorm_before"), dim, eps)?,
            space: SelfAttention::load(w, &stacked(&format!("{at}attention.")), dim, n_heads)?,
            space_out: Linear::load(w, &format!("{at}attention.output.dense"), dim, dim, none)?,
            dense_norm: LayerNorm::load(w, &format!("{at}layernorm_after"), dim, eps)?,
            widen: Linear::load(w, &format!("{at}intermediate.dense"), dim, wide, activation)?,
            narrow: Linear::load(w, &format!("{at}output.dense"), wide, dim, none)?,
        })
    }

    /// Carries the tokens of several videos, each `[1 + p t, dim]`, through the block, in place.
    fn forward(&self, x: &mut [f32], n_clips: usize, n_frames: usize, scratch: &mut Scratch) {
        let dim = self.time_out.n_out();
        let Scratch { tokens, mixed, y, z, attention } = scratch;
        let per_clip = x.len() / n_clips;
        let n_patches = (per_clip / dim - 1) / n_frames;

        // Over time (eq. 4 and 5, the class token left out): the frames of a patch stand one after the other.
        tokens.clear();
        x.chunks_exact(per_clip).for_each(|clip| tokens.extend_from_slice(&clip[dim..]));
        self.time_norm.forward(tokens);
        self.time.forward(tokens, &vec![n_frames; n_clips * n_patches], Mask::None, mixed, attention);
        self.time_out.forward(mixed, y);
        self.time_dense.forward(y, z);
        for (clip, z) in x.chunks_exact_mut(per_clip).zip(z.chunks_exact(per_clip - dim)) {
            add(&mut clip[dim..], z);
        }

        // Over space (eq. 6): each frame with the class token before it.
        tokens.clear();
        for clip in x.chunks_exact(per_clip) {
            let (class, patches) = clip.split_at(dim);
            for t in 0..n_frames {
                tokens.extend_from_slice(class);
                (0..n_patches).for_each(|p| tokens.extend_from_slice(&patches[(p * n_frames + t) * dim..][..dim]));
            }
        }
        self.space_norm.forward(tokens);
        self.space.forward(tokens, &vec![1 + n_patches; n_clips * n_frames], Mask::None, mixed, attention);
        self.space_out.forward(mixed, y);
        let per_frame = (1 + n_patches) * dim;
        for (clip, frames) in x.chunks_exact_mut(per_clip).zip(y.chunks_exact(n_frames * per_frame)) {
            let classes: Vec<f32> = frames.chunks_exact(per_frame).flat_map(|frame| &frame[..dim]).copied().collect();
            let (class, patches) = clip.split_at_mut(dim);
            add(class, &mean(&classes, dim));
            for (t, frame) in frames.chunks_exact(per_frame).enumerate() {
                for (p, change) in frame[dim..].chunks_exact(dim).enumerate() {
                    add(&mut patches[(p * n_frames + t) * dim..][..dim], change);
                }
            }
        }

        // Dense (eq. 8).
        tokens.clear();
        tokens.extend_from_slice(x);
        self.dense_norm.forward(tokens);
        self.widen.forward(tokens, mixed);
        self.narrow.forward(mixed, y);
        add(x, y);
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
