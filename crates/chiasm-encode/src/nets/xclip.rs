//! X-CLIP: videos and texts to one space, by CLIP's transformers with messages between frames and a transformer over them.
//!
//! # Reference
//! Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition", ECCV 2022, eq. (1)-(9). Checked layer by layer
//! against `XCLIPModel` of transformers: `get_video_features` and `get_text_features`. Left out: the prompt generator (section 3.3, eq.
//! 10-12), which changes each text for each video it is compared with; a text then has no vector of its own that a library could
//! keep. So scores differ from those of `XCLIPModel.forward` by that change, whose weight in the published checkpoints is about 0.1.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `xclip`), `preprocessor_config.json`, `tokenizer.json`, the weights.
//! # Preprocessing
//! Videos: `num_frames` frames, see `input/clip.rs`: shorter edge to 224, linear, the middle, -1..1, unless the description says
//! otherwise (the published checkpoints have ImageNet's mean and deviation). Texts: as CLIP's, whose text tower this is.
//! # Shapes
//! `t` frames of `p` patches.
//! | step | shape | range |
//! | --- | --- | --- |
//! | video | `t` times `[224, 224, 3]` | about -2..2.7 |
//! | tokens of a frame | `[1 + p, dim]`, `[2 + p, dim]` with its message while they see each other | any |
//! | frames, projected | `[t, projection_dim]` | any |
//! | embedding | `[projection_dim]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_media::Filter;
use chiasm_nn::{
    Activation, AttentionScratch, Block, BlockScratch, BlockShape, LayerNorm, Linear, Mask, Order, Qkv, SelfAttention, Weights,
    WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Clip, ClipProcessor, Defaults};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::clip::{self, TextConfig};
use crate::nets::patches::Patches;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "xclip 1";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    text_config: TextConfig,
    vision_config: VisionConfig,
    #[serde(default = "clip::projection_dim")]
    projection_dim: usize,
}

/// What is silent has the reference's default, which is that of the base size with patches of 32.
#[derive(Deserialize)]
#[serde(default)]
struct VisionConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    mit_hidden_size: usize,
    mit_intermediate_size: usize,
    mit_num_hidden_layers: usize,
    mit_num_attention_heads: usize,
    image_size: u32,
    patch_size: usize,
    num_frames: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            mit_hidden_size: 512,
            mit_intermediate_size: 2048,
            mit_num_hidden_layers: 1,
            mit_num_attention_heads: 8,
            image_size: 224,
            patch_size: 32,
            num_frames: 8,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let tower = if wanted.modality == Modality::Text {
        // The reference looks for the end as CLIP's oldest configurations do, whatever this one says.
        let (tokenizer, net, mut w) =
            clip::load_text(files, &path, &config.text_config.with_legacy_end(), config.projection_dim)?;
        w.skip_prefix("vision_model.");
        w.skip_prefix("visual_projection.");
        w.skip_prefix("mit.");
        skip_prompts(&mut w);
        w.finish()?;
        Tower::Text(tokenizer, net)
    } else {
        open_video(files, &path, &config)?
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// What changes texts for a video, and the factor of the scores.
fn skip_prompts(w: &mut Weights) {
    w.skip_prefix("prompts_");
    w.skip("logit_scale");
}

fn open_video(files: &mut Checkpoint, path: &Path, config: &Config) -> Result<Tower, OpenError> {
    let c = &config.vision_config;
    let act = (c.hidden_act.as_str(), c.layer_norm_eps);
    let frames = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let frames = model::block_shape(path, "vision_config", frames, act, Order::PreNorm)?;
    let over_frames = [c.mit_hidden_size, c.mit_intermediate_size, c.mit_num_attention_heads];
    let over_frames = model::block_shape(path, "vision_config (mit)", over_frames, act, Order::PreNorm)?;
    model::expect(path, c.mit_hidden_size == config.projection_dim, || {
        format!("mit_hidden_size is {}, projection_dim {}: expected them equal", c.mit_hidden_size, config.projection_dim)
    })?;
    let defaults =
        Defaults { side: c.image_size, square: false, filter: Filter::Bilinear, crop: true, mean: [0.5; 3], std: [0.5; 3] };
    let processor = ClipProcessor::open(files, path, c.num_frames, defaults)?;
    model::fits_patches(path, processor.shape(), c.image_size, c.patch_size)?;
    let mut w = files.weights()?;
    let net = Video::load(&mut w, c, [frames, over_frames])?;
    w.skip("vision_model.embeddings.position_ids");
    w.skip_prefix("text_model.");
    w.skip_prefix("text_projection.");
    skip_prompts(&mut w);
    w.finish()?;
    Ok(Tower::Video(processor, Box::new(net)))
}

/// The video tower.
struct Video {
    patches: Patches,
    /// Its embedding and its position in one, `[dim]`.
    class: Vec<f32>,
    /// Those of the patches, `[p, dim]`.
    positions: Vec<f32>,
    norm_before: LayerNorm,
    layers: Vec<Layer>,
    norm_after: LayerNorm,
    projection: Linear,
    /// Positions of the frames, `[t, projection_dim]`.
    times: Vec<f32>,
    over_frames: Vec<Block>,
    n_frames: usize,
    dim: usize,
}

/// A block of the frames' transformer, before which frames tell each other what they show.
struct Layer {
    message: Linear,
    norm: LayerNorm,
    attention: SelfAttention,
    out: Linear,
    block: Block,
}

impl Layer {
    fn load(w: &mut Weights, i: usize, shape: BlockShape) -> Result<Self, WeightsError> {
        let at = |part: &str| format!("vision_model.encoder.layers.{i}.{part}");
        let dim = shape.dim;
        let qkv = Qkv::Separate(["q_proj", "k_proj", "v_proj"].map(|part| at(&format!("message_attn.{part}"))));
        Ok(Self {
            message: Linear::load(w, &at("message_fc"), dim, dim, Activation::None)?,
            norm: LayerNorm::load(w, &at("message_ln"), dim, shape.eps)?,
            attention: SelfAttention::load(w, &qkv, dim, shape.n_heads)?,
            out: Linear::load(w, &at("message_attn.out_proj"), dim, dim, Activation::None)?,
            block: Block::load(w, &clip::names("vision_model", i), shape)?,
        })
    }

    /// Carries the tokens of all frames of several videos, each frame `per_frame` numbers, through the layer, in place.
    fn forward(&self, x: &mut [f32], per_frame: usize, n_frames: usize, scratch: &mut Scratch) {
        let dim = self.message.n_out();
        let Scratch { classes, messages, normed, mixed, y, tokens, attention, block } = scratch;
        // Messages between the frames of a video (eq. 3 and 4).
        classes.clear();
        x.chunks_exact(per_frame).for_each(|frame| classes.extend_from_slice(&frame[..dim]));
        self.message.forward(classes, messages);
        normed.clear();
        normed.extend_from_slice(messages);
        self.norm.forward(normed);
        let n_videos = messages.len() / dim / n_frames;
        self.attention.forward(normed, &vec![n_frames; n_videos], Mask::None, mixed, attention);
        self.out.forward(mixed, y);
        messages.iter_mut().zip(y.iter()).for_each(|(m, y)| *m += y);
        // Each frame's tokens see its message (eq. 5 and 6), which is then forgotten.
        tokens.clear();
        for (frame, message) in x.chunks_exact(per_frame).zip(messages.chunks_exact(dim)) {
            tokens.extend_from_slice(frame);
            tokens.extend_from_slice(message);
        }
        let n = per_frame / dim + 1;
        self.block.forward(tokens, &vec![n; n_videos * n_frames], Mask::None, block);
        for (frame, tokens) in x.chunks_exact_mut(per_frame).zip(tokens.chunks_exact(n * dim)) {
            frame.copy_from_slice(&tokens[..per_frame]);
        }
    }
}

/// Buffers that layers use over and over.
#[derive(Default)]
struct Scratch {
    classes: Vec<f32>,
    messages: Vec<f32>,
    normed: Vec<f32>,
    mixed: Vec<f32>,
    y: Vec<f32>,
    tokens: Vec<f32>,
    attention: AttentionScratch,
    block: BlockScratch,
}

impl Video {
    fn load(w: &mut Weights, c: &VisionConfig, [frames, over_frames]: [BlockShape; 2]) -> Result<Self, WeightsError> {
        let (dim, eps) = (frames.dim, frames.eps);
        let n_patches = (c.image_size as usize / c.patch_size).pow(2);
        let mut class = w.take("vision_model.embeddings.class_embedding", &[dim])?;
        let mut positions = w.take("vision_model.embeddings.position_embedding.weight", &[1 + n_patches, dim])?;
        class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
        Ok(Self {
            patches: Patches::load(w, "vision_model.embeddings.patch_embedding", [dim, 3, c.patch_size], false)?,
            class,
            positions,
            norm_before: LayerNorm::load(w, "vision_model.pre_layernorm", dim, eps)?,
            layers: (0..c.num_hidden_layers).map(|i| Layer::load(w, i, frames)).collect::<Result<_, _>>()?,
            norm_after: LayerNorm::load(w, "vision_model.post_layernorm", dim, eps)?,
            projection: Linear::load_unbiased(w, "visual_projection", dim, over_frames.dim)?,
            times: w.take("mit.position_embedding", &[1, c.num_frames, over_frames.dim])?,
            over_frames: clip::blocks(w, "mit", c.mit_num_hidden_layers, over_frames)?,
            n_frames: c.num_frames,
            dim,
        })
    }
}

impl Net<Clip> for Video {
    fn dim(&self) -> usize {
        self.projection.n_out()
    }

    fn rows(&self, clip: &Clip) -> usize {
        clip.iter().map(|frame| 2 + self.patches.count(frame)).sum()
    }

    fn embed(&self, clips: &[Clip], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let (dim, n_frames) = (self.dim, self.n_frames);
        let mut x = Vec::new();
        let mut patches = Vec::new();
        for clip in clips {
            self.patches.forward(clip, &mut patches);
            for frame in patches.chunks_exact(self.positions.len()) {
                x.extend_from_slice(&self.class);
                x.extend(frame.iter().zip(&self.positions).map(|(v, p)| v + p));
            }
        }
        self.norm_before.forward(&mut x);
        watch("hidden.0", &x);
        let per_frame = dim + self.positions.len();
        let mut scratch = Scratch::default();
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(&mut x, per_frame, n_frames, &mut scratch);
            watch(&format!("hidden.{}", i + 1), &x);
        }
        let mut classes: Vec<f32> = x.chunks_exact(per_frame).flat_map(|frame| &frame[..dim]).copied().collect();
        self.norm_after.forward(&mut classes);
        let mut frames = Vec::new();
        self.projection.forward(&classes, &mut frames);

        // Over the frames, with a shortcut around all blocks (eq. 8 and 9).
        let mut y: Vec<f32> =
            frames.chunks_exact(self.times.len()).flat_map(|f| f.iter().zip(&self.times).map(|(v, t)| v + t)).collect();
        let first = self.layers.len() + 1;
        watch(&format!("hidden.{first}"), &y);
        for (i, block) in self.over_frames.iter().enumerate() {
            block.forward(&mut y, &vec![n_frames; clips.len()], Mask::None, &mut scratch.block);
            watch(&format!("hidden.{}", first + 1 + i), &y);
        }
        y.iter_mut().zip(&frames).for_each(|(y, f)| *y += f);
        let n_out = self.projection.n_out();
        let mean = |video: &[f32]| {
            let mut sum = vec![0.0; n_out];
            video.chunks_exact(n_out).for_each(|frame| sum.iter_mut().zip(frame).for_each(|(s, v)| *s += v));
            sum.iter_mut().for_each(|s| *s /= n_frames as f32);
            sum
        };
        y.chunks_exact(n_frames * n_out).map(mean).collect()
    }
}
