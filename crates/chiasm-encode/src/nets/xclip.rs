//! X-CLIP: videos and texts to one space, by CLIP's transformers with messages between frames and a transformer over them; and a video and
//! a text together to how close they are, once the text was changed by a look at the video.
//!
//! # Reference
//! Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition", ECCV 2022, eq. (1)-(12). Checked layer by layer
//! against `XCLIPModel` of transformers: the towers against `get_video_features` and `get_text_features`, pairs against `forward`.
//!
//! The prompt generator (section 3.3, eq. 10-12) changes each text for each video it is compared with, so that a text has no vector of its own
//! that a library could keep. The towers do without it, and their closeness differs from the scores of `forward` by that change, whose weight
//! in the published checkpoints is about 0.1. The cross-encoder, [`open_pair`], has it: its score is the cosine that `forward` multiplies by
//! `exp(logit_scale)` to get its logits. Differs from the reference in: nothing is padded, each text is computed up to its end; the mean over
//! the frames is taken before the projection of what the prompts look at, which is linear.
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
//! | what prompts look at | `[p, projection_dim]`, normalised | any |
//! | prompt of a text | `[projection_dim]` | any |
//! | score of a pair | a cosine | -1..=1 |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_media::Filter;
use chiasm_nn::{
    Activation, AttentionScratch, Block, BlockScratch, BlockShape, CrossAttention, LayerNorm, Linear, Mask, Order, Qkv,
    SelfAttention, Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::cross::{OpenedPair, PairNet};
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
    #[serde(flatten)]
    prompts: PromptConfig,
}

/// The fields of the whole that the prompts need. What is silent has the reference's default.
#[derive(Deserialize)]
#[serde(default)]
struct PromptConfig {
    prompt_layers: usize,
    prompt_num_attention_heads: usize,
    prompt_hidden_act: String,
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self { prompt_layers: 2, prompt_num_attention_heads: 8, prompt_hidden_act: "quick_gelu".to_owned() }
    }
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

impl Config {
    /// The shapes of the blocks within frames and over them.
    fn video_shapes(&self, path: &Path) -> Result<[BlockShape; 2], OpenError> {
        let c = &self.vision_config;
        let act = (c.hidden_act.as_str(), c.layer_norm_eps);
        let frames = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
        let frames = model::block_shape(path, "vision_config", frames, act, Order::PreNorm)?;
        let over_frames = [c.mit_hidden_size, c.mit_intermediate_size, c.mit_num_attention_heads];
        let over_frames = model::block_shape(path, "vision_config (mit)", over_frames, act, Order::PreNorm)?;
        model::expect(path, c.mit_hidden_size == self.projection_dim, || {
            format!("mit_hidden_size is {}, projection_dim {}: expected them equal", c.mit_hidden_size, self.projection_dim)
        })?;
        Ok([frames, over_frames])
    }

    fn processor(&self, files: &mut Checkpoint, path: &Path) -> Result<ClipProcessor, OpenError> {
        let c = &self.vision_config;
        let defaults =
            Defaults { side: c.image_size, square: false, filter: Filter::Bilinear, crop: true, mean: [0.5; 3], std: [0.5; 3] };
        let processor = ClipProcessor::open(files, path, c.num_frames, defaults)?;
        model::fits_patches(path, processor.shape(), c.image_size, c.patch_size)?;
        Ok(processor)
    }

    /// The shape of the layers that make prompts.
    fn prompt_shape(&self, path: &Path) -> Result<BlockShape, OpenError> {
        let (dim, n_heads) = (self.projection_dim, self.prompts.prompt_num_attention_heads);
        model::expect(path, n_heads > 0 && dim.is_multiple_of(n_heads), || {
            format!("projection_dim {dim} does not divide into prompt_num_attention_heads {n_heads}")
        })?;
        let (eps, activation) = (self.text_config.eps(), model::activation(path, &self.prompts.prompt_hidden_act)?);
        Ok(BlockShape { dim, wide: dim.saturating_mul(4), n_heads, eps, activation, order: Order::PreNorm })
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
        w.skip_prefix("prompts_");
        finish(w)?;
        Tower::Text(tokenizer, net)
    } else {
        let shapes = config.video_shapes(&path)?;
        let processor = config.processor(files, &path)?;
        let mut w = files.weights()?;
        let net = Video::load(&mut w, &config.vision_config, shapes)?;
        w.skip_prefix("text_model.");
        w.skip_prefix("text_projection.");
        w.skip_prefix("prompts_");
        finish(w)?;
        Tower::Video(processor, Box::new(net))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// Opens the network over pairs.
pub(crate) fn open_pair(files: &mut Checkpoint) -> Result<OpenedPair<Clip>, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let (shapes, prompt_shape) = (config.video_shapes(&path)?, config.prompt_shape(&path)?);
    let processor = config.processor(files, &path)?;
    let (tokenizer, text, mut w) = clip::load_text(files, &path, &config.text_config.with_legacy_end(), config.projection_dim)?;
    let video = Video::load(&mut w, &config.vision_config, shapes)?;
    let prompts = Prompts::load(&mut w, config.prompts.prompt_layers, prompt_shape, shapes[0])?;
    finish(w)?;
    let net = Box::new(Prompted { video, text, prompts });
    Ok(OpenedPair { look: Box::new(processor), tokenizer, first: None, net, arithmetic: ARITHMETIC })
}

/// Refuses what nobody took, apart from a buffer and the factor of the logits.
fn finish(mut w: Weights) -> Result<(), WeightsError> {
    w.skip("vision_model.embeddings.position_ids");
    w.skip("logit_scale");
    w.finish()
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

    /// Numbers of a frame's tokens.
    fn per_frame(&self) -> usize {
        self.class.len() + self.positions.len()
    }

    /// The states of videos, one `[t, 1 + p, dim]` after the other.
    fn states(&self, clips: &[Clip], watch: &mut Watch<'_>) -> Vec<f32> {
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
        let mut scratch = Scratch::default();
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(&mut x, self.per_frame(), self.n_frames, &mut scratch);
            watch(&format!("hidden.{}", i + 1), &x);
        }
        x
    }

    /// The embedding of each video, of any length, from the states of its frames.
    fn embeddings(&self, states: &[f32], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let n_frames = self.n_frames;
        let mut classes: Vec<f32> =
            states.chunks_exact(self.per_frame()).flat_map(|frame| &frame[..self.dim]).copied().collect();
        self.norm_after.forward(&mut classes);
        let mut frames = Vec::new();
        self.projection.forward(&classes, &mut frames);

        // Over the frames, with a shortcut around all blocks (eq. 8 and 9).
        let mut y: Vec<f32> =
            frames.chunks_exact(self.times.len()).flat_map(|f| f.iter().zip(&self.times).map(|(v, t)| v + t)).collect();
        let first = self.layers.len() + 1;
        watch(&format!("hidden.{first}"), &y);
        let lengths = vec![n_frames; y.len() / self.times.len()];
        let mut scratch = BlockScratch::default();
        for (i, block) in self.over_frames.iter().enumerate() {
            block.forward(&mut y, &lengths, Mask::None, &mut scratch);
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

impl Net<Clip> for Video {
    fn dim(&self) -> usize {
        self.projection.n_out()
    }

    fn rows(&self, clip: &Clip) -> usize {
        clip.iter().map(|frame| 2 + self.patches.count(frame)).sum()
    }

    fn embed(&self, clips: &[Clip], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let states = self.states(clips, watch);
        self.embeddings(&states, watch)
    }
}

/// Both towers, and between them what changes texts for a video.
struct Prompted {
    video: Video,
    text: Box<dyn Net<Vec<u32>>>,
    prompts: Prompts,
}

impl PairNet<Clip> for Prompted {
    /// The video's embedding, and under it what prompts look at: `[1 + p, projection_dim]`.
    fn see(&self, clip: &Clip, watch: &mut Watch<'_>) -> Vec<f32> {
        let states = self.video.states(std::slice::from_ref(clip), watch);
        let mut seen = self.video.embeddings(&states, watch).concat();
        let patches = self.prompts.patches(&states, self.video.per_frame());
        watch("seen", &patches);
        seen.extend(patches);
        seen
    }

    fn read(&self, seen: &[f32], texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let (video, patches) = seen.split_at(self.video.dim());
        let own = &mut |name: &str, states: &[f32]| watch(&name.replace("hidden", "text"), states);
        let mut texts = self.text.embed(texts, own).concat();
        self.prompts.add_to(&mut texts, patches, watch);
        texts.chunks_exact(video.len()).map(|text| cosine(video, text)).collect()
    }
}

/// The prompt generator: texts look at a video's patches, as they are in the mean over its frames (eq. 10-12).
struct Prompts {
    norm_states: LayerNorm,
    projection: Linear,
    norm_patches: LayerNorm,
    layers: Vec<PromptLayer>,
    /// How much of a prompt is added to its text, `[projection_dim]`.
    alpha: Vec<f32>,
}

impl Prompts {
    fn load(w: &mut Weights, n_layers: usize, shape: BlockShape, frames: BlockShape) -> Result<Self, WeightsError> {
        let dim = shape.dim;
        Ok(Self {
            norm_states: LayerNorm::load(w, "prompts_visual_layernorm", frames.dim, frames.eps)?,
            projection: Linear::load_turned(w, "prompts_visual_projection", frames.dim, dim)?,
            norm_patches: LayerNorm::load(w, "prompts_generator.layernorm", dim, frames.eps)?,
            layers: (0..n_layers).map(|i| PromptLayer::load(w, i, shape)).collect::<Result<_, _>>()?,
            alpha: w.take("prompts_generator.alpha", &[dim])?,
        })
    }

    /// What the prompts look at, `[p, projection_dim]`, from the states of a video's frames, each so many numbers.
    fn patches(&self, states: &[f32], per_frame: usize) -> Vec<f32> {
        let dim = self.projection.n_in();
        let mut mean = vec![0.0; per_frame - dim];
        let mut patches = Vec::new();
        for frame in states.chunks_exact(per_frame) {
            patches.clear();
            patches.extend_from_slice(&frame[dim..]);
            self.norm_states.forward(&mut patches);
            mean.iter_mut().zip(&patches).for_each(|(m, v)| *m += v);
        }
        let n_frames = (states.len() / per_frame) as f32;
        mean.iter_mut().for_each(|m| *m /= n_frames);
        self.projection.forward(&mean, &mut patches);
        self.norm_patches.forward(&mut patches);
        patches
    }

    /// Adds to each of the texts' vectors, `[n, projection_dim]`, its prompt.
    fn add_to(&self, texts: &mut [f32], patches: &[f32], watch: &mut Watch<'_>) {
        let mut x = texts.to_vec();
        let mut scratch = PromptScratch::default();
        watch("prompt.0", &x);
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(&mut x, patches, &mut scratch);
            watch(&format!("prompt.{}", i + 1), &x);
        }
        for (text, prompt) in texts.chunks_exact_mut(self.alpha.len()).zip(x.chunks_exact(self.alpha.len())) {
            text.iter_mut().zip(prompt).zip(&self.alpha).for_each(|((t, p), alpha)| *t += alpha * p);
        }
    }
}

/// A look at the video and two dense layers, each with a normalisation before it and a shortcut around it.
struct PromptLayer {
    norm_1: LayerNorm,
    attention: CrossAttention,
    out: Linear,
    norm_2: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

/// Buffers that the layers use over and over.
#[derive(Default)]
struct PromptScratch {
    normed: Vec<f32>,
    y: Vec<f32>,
    attention: AttentionScratch,
}

impl PromptLayer {
    fn load(w: &mut Weights, i: usize, shape: BlockShape) -> Result<Self, WeightsError> {
        let at = |part: &str| format!("prompts_generator.decoder.{i}.{part}");
        let BlockShape { dim, wide, n_heads, eps, activation, .. } = shape;
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|part| at(&format!("cross_attn.{part}")));
        Ok(Self {
            norm_1: LayerNorm::load(w, &at("norm1"), dim, eps)?,
            attention: CrossAttention::load_unbiased(w, &qkv, dim, dim, n_heads)?,
            out: Linear::load(w, &at("cross_attn.proj"), dim, dim, Activation::None)?,
            // There is no `norm2` in the checkpoints.
            norm_2: LayerNorm::load(w, &at("norm3"), dim, eps)?,
            widen: Linear::load(w, &at("mlp.0"), dim, wide, activation)?,
            narrow: Linear::load(w, &at("mlp.3"), wide, dim, Activation::None)?,
        })
    }

    /// Carries the vectors of texts, `[n, dim]`, which do not see each other, through the layer, in place.
    fn forward(&self, x: &mut [f32], patches: &[f32], scratch: &mut PromptScratch) {
        let dim = self.out.n_out();
        let PromptScratch { normed, y, attention } = scratch;
        let normalise = |norm: &LayerNorm, x: &[f32], normed: &mut Vec<f32>| {
            normed.clear();
            normed.extend_from_slice(x);
            norm.forward(normed);
        };
        normalise(&self.norm_1, x, normed);
        // All texts look at one video, whose keys and values are so computed once.
        self.attention.forward((normed, &[x.len() / dim]), (patches, &[patches.len() / dim]), y, attention);
        self.out.add_to(y, x);
        normalise(&self.norm_2, x, normed);
        self.widen.forward(normed, y);
        self.narrow.add_to(y, x);
    }
}

/// The cosine of the angle between two vectors; 0 where one of them has no length.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-24)).clamp(-1.0, 1.0) as f32
}
