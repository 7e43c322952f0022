//! SigLIP and SigLIP 2: pictures and texts to one space, by a vision transformer that is pooled by attention and a text
//! transformer that sees every position, padding among them.
//!
//! # Reference
//! Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023; Tschannen et al., "SigLIP 2", 2025, of which those
//! checkpoints open here that take pictures of one size. Checked layer by layer against `SiglipModel` of transformers. Differs from
//! it in: texts are in lower case for all checkpoints, as all were trained.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `siglip`), `preprocessor_config.json`, `tokenizer.json`,
//! `tokenizer_config.json` for the name of the padding, the weights.
//! # Preprocessing
//! Pictures: to 224 x 224, cubic, their shape not kept, to -1..1, unless the description says otherwise. Texts: lower case, cut
//! and filled up to 64 tokens.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | -1..=1 |
//! | tokens of a picture | `[patches, dim]` | any |
//! | tokens of a text | `[64, dim]` | any |
//! | embedding | `[dim of the vision tower]` | unit length |

use chiasm_core::Modality;
use chiasm_media::Filter;
use chiasm_nn::{
    Activation, AttentionScratch, Block, BlockNames, BlockShape, CrossAttention, FeatureMap, LayerNorm, Linear, Mask, Order,
    Qkv, Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, run};
use crate::nets::patches::Patches;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "siglip 1";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
}

/// What is silent has the reference's default, which is that of the base model.
#[derive(Deserialize)]
#[serde(default)]
struct TextConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    pad_token_id: Option<u32>,
    projection_size: Option<usize>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 32000,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 64,
            hidden_act: "gelu_pytorch_tanh".to_owned(),
            layer_norm_eps: 1e-6,
            pad_token_id: Some(1),
            projection_size: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct VisionConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: u32,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    vision_use_head: bool,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 16,
            hidden_act: "gelu_pytorch_tanh".to_owned(),
            layer_norm_eps: 1e-6,
            vision_use_head: true,
        }
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let (text, vision) = (&config.text_config, &config.vision_config);
    let shape = |side: &str, dim: usize, wide: usize, n_heads: usize, act: &str, eps: f32| {
        model::expect(&path, dim > 0 && n_heads > 0 && dim.is_multiple_of(n_heads), || {
            format!("{side}: hidden_size {dim} does not divide into {n_heads} attention heads")
        })?;
        model::expect(&path, wide > 0, || format!("{side}: intermediate_size is 0"))?;
        let activation = model::activation(&path, act)?;
        Ok::<_, OpenError>(BlockShape { dim, wide, n_heads, eps, activation, order: Order::PreNorm })
    };
    let tower = if wanted.modality == Modality::Text {
        let c = text;
        let shape =
            shape("text_config", c.hidden_size, c.intermediate_size, c.num_attention_heads, &c.hidden_act, c.layer_norm_eps)?;
        model::expect(&path, c.max_position_embeddings >= 2, || "max_position_embeddings is below 2".to_owned())?;
        let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
        let padding = padding(files, &tokenizer, c)?;
        let mut w = files.weights()?;
        let net = Text::load(&mut w, c, shape)?;
        w.skip("text_model.embeddings.position_ids");
        w.skip_prefix("vision_model.");
        w.skip("logit_scale");
        w.skip("logit_bias");
        w.finish()?;
        Tower::Text(tokenizer.lower_case(true).padded(c.max_position_embeddings, padding), Box::new(net))
    } else {
        let c = vision;
        let shape =
            shape("vision_config", c.hidden_size, c.intermediate_size, c.num_attention_heads, &c.hidden_act, c.layer_norm_eps)?;
        model::expect(&path, c.vision_use_head, || {
            "vision_use_head is false: the checkpoint has no pooling, expected one that has".to_owned()
        })?;
        let defaults =
            Defaults { side: 224, square: true, filter: Filter::Bicubic, crop: false, mean: [0.5; 3], std: [0.5; 3] };
        let processor = ImageProcessor::open(files, defaults)?;
        model::fits_patches(&path, processor.shape(), c.image_size, c.patch_size)?;
        let mut w = files.weights()?;
        let net = Vision::load(&mut w, c, shape)?;
        w.skip("vision_model.embeddings.position_ids");
        w.skip_prefix("text_model.");
        w.skip("logit_scale");
        w.skip("logit_bias");
        w.finish()?;
        Tower::Image(processor, Box::new(net))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// The token that fills texts up: the one that `tokenizer_config.json` names, for the two generations differ in it and not all
/// descriptions of the network do; without that file, the one of `config.json`.
fn padding(files: &mut Checkpoint, tokenizer: &TextTokenizer, c: &TextConfig) -> Result<u32, OpenError> {
    const FILE: &str = "tokenizer_config.json";
    #[derive(Deserialize)]
    struct Config {
        pad_token: Option<Token>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Token {
        Plain(String),
        Described { content: String },
    }
    if files.has(FILE) {
        let (path, config): (_, Config) = files.json(FILE)?;
        if let Some(Token::Plain(written) | Token::Described { content: written }) = config.pad_token {
            let unknown = || model::config(&path, format!("pad_token is `{written}`, which tokenizer.json does not have"));
            return tokenizer.token(&written).ok_or_else(unknown);
        }
    }
    let token = c.pad_token_id.unwrap_or(1);
    model::expect(&files.path("config.json"), (token as usize) < c.vocab_size, || {
        format!("text_config: pad_token_id is {token}, the vocabulary has {} tokens", c.vocab_size)
    })?;
    Ok(token)
}

/// The blocks of one tower.
fn blocks(w: &mut Weights, side: &str, n: usize, shape: BlockShape) -> Result<Vec<Block>, WeightsError> {
    let load = |i: usize| {
        let at = |part: &str| format!("{side}.encoder.layers.{i}.{part}");
        let names = BlockNames {
            qkv: Qkv::Separate(["q_proj", "k_proj", "v_proj"].map(|part| at(&format!("self_attn.{part}")))),
            out: at("self_attn.out_proj"),
            norm_1: at("layer_norm1"),
            widen: at("mlp.fc1"),
            narrow: at("mlp.fc2"),
            norm_2: at("layer_norm2"),
            scales: None,
        };
        Block::load(w, &names, shape)
    };
    (0..n).map(load).collect()
}

/// The text tower.
struct Text {
    /// `[vocab_size, dim]`.
    words: Vec<f32>,
    /// `[max_position_embeddings, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    dim: usize,
}

impl Text {
    fn load(w: &mut Weights, c: &TextConfig, shape: BlockShape) -> Result<Self, WeightsError> {
        let dim = shape.dim;
        Ok(Self {
            words: w.take("text_model.embeddings.token_embedding.weight", &[c.vocab_size, dim])?,
            positions: w.take("text_model.embeddings.position_embedding.weight", &[c.max_position_embeddings, dim])?,
            blocks: blocks(w, "text_model", c.num_hidden_layers, shape)?,
            norm: LayerNorm::load(w, "text_model.final_layer_norm", dim, c.layer_norm_eps)?,
            head: Linear::load(w, "text_model.head", dim, c.projection_size.unwrap_or(dim), Activation::None)?,
            dim,
        })
    }
}

impl Net<Vec<u32>> for Text {
    fn dim(&self) -> usize {
        self.head.n_out()
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.dim;
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * dim);
        for ids in texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(dim)) {
                let word = &self.words[*id as usize * dim..][..dim];
                x.extend(word.iter().zip(position).map(|(w, p)| w + p));
            }
        }
        run(&self.blocks, &mut x, &lengths, Mask::None, watch);
        // The last position stands for the text, whether a word stands there or padding.
        let mut lasts = Vec::with_capacity(texts.len() * dim);
        let mut after = 0;
        for n in &lengths {
            after += n;
            lasts.extend_from_slice(&x[(after - 1) * dim..after * dim]);
        }
        self.norm.forward(&mut lasts);
        let mut out = Vec::new();
        self.head.forward(&lasts, &mut out);
        out.chunks_exact(self.head.n_out()).map(<[f32]>::to_vec).collect()
    }
}

/// The image tower.
struct Vision {
    patches: Patches,
    /// `[patches, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pooling: Pooling,
    dim: usize,
}

impl Vision {
    fn load(w: &mut Weights, c: &VisionConfig, shape: BlockShape) -> Result<Self, WeightsError> {
        let (dim, eps) = (shape.dim, c.layer_norm_eps);
        let n_patches = (c.image_size as usize / c.patch_size).pow(2);
        Ok(Self {
            patches: Patches::load(w, "vision_model.embeddings.patch_embedding", [dim, 3, c.patch_size], true)?,
            positions: w.take("vision_model.embeddings.position_embedding.weight", &[n_patches, dim])?,
            blocks: blocks(w, "vision_model", c.num_hidden_layers, shape)?,
            norm: LayerNorm::load(w, "vision_model.post_layernorm", dim, eps)?,
            pooling: Pooling::load(w, "vision_model.head", shape)?,
            dim,
        })
    }
}

impl Net<FeatureMap> for Vision {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        self.patches.count(picture)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let mut x = Vec::new();
        self.patches.forward(pictures, &mut x);
        for tokens in x.chunks_exact_mut(self.positions.len()) {
            tokens.iter_mut().zip(&self.positions).for_each(|(v, p)| *v += p);
        }
        let lengths = vec![self.positions.len() / self.dim; pictures.len()];
        run(&self.blocks, &mut x, &lengths, Mask::None, watch);
        self.norm.forward(&mut x);
        self.pooling.forward(&x, &lengths)
    }
}

/// A learnt query to all tokens, then a feed-forward part with a shortcut around it ("MAP head", Zhai et al., "Scaling Vision
/// Transformers", CVPR 2022).
struct Pooling {
    /// `[dim]`.
    probe: Vec<f32>,
    attention: CrossAttention,
    out: Linear,
    norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Pooling {
    fn load(w: &mut Weights, prefix: &str, shape: BlockShape) -> Result<Self, WeightsError> {
        let BlockShape { dim, wide, n_heads, eps, activation, .. } = shape;
        let at = |part: &str| format!("{prefix}.{part}");
        let stacked = [at("attention.in_proj_weight"), at("attention.in_proj_bias")];
        Ok(Self {
            probe: w.take(&at("probe"), &[1, 1, dim])?,
            attention: CrossAttention::load_stacked(w, [&stacked[0], &stacked[1]], dim, n_heads)?,
            out: Linear::load(w, &at("attention.out_proj"), dim, dim, Activation::None)?,
            norm: LayerNorm::load(w, &at("layernorm"), dim, eps)?,
            widen: Linear::load(w, &at("mlp.fc1"), dim, wide, activation)?,
            narrow: Linear::load(w, &at("mlp.fc2"), wide, dim, Activation::None)?,
        })
    }

    /// `[dim]` for each of the sequences in `x`, `[sum of lengths, dim]`.
    fn forward(&self, x: &[f32], lengths: &[usize]) -> Vec<Vec<f32>> {
        let probes = self.probe.repeat(lengths.len());
        let (mut mixed, mut pooled, mut wide, mut y) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let ones = vec![1; lengths.len()];
        self.attention.forward((&probes, &ones), (x, lengths), &mut mixed, &mut AttentionScratch::default());
        self.out.forward(&mixed, &mut pooled);
        let mut normed = pooled.clone();
        self.norm.forward(&mut normed);
        self.widen.forward(&normed, &mut wide);
        self.narrow.forward(&wide, &mut y);
        pooled.iter_mut().zip(&y).for_each(|(v, y)| *v += y);
        pooled.chunks_exact(self.probe.len()).map(<[f32]>::to_vec).collect()
    }
}
