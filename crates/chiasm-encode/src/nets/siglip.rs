//! SigLIP, and SigLIP 2 over pictures of one size: pictures and texts to one space, by a vision transformer that is pooled by attention and a text
//! transformer that sees every position, padding among them.
//!
//! # Reference
//! Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023; Tschannen et al., "SigLIP 2", 2025, whose
//! checkpoints for pictures of any shape open in `siglip2.rs`. Checked layer by layer against `SiglipModel` of transformers. Differs from
//! it in: texts are in lower case for all checkpoints, as all were trained.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `siglip`), `preprocessor_config.json`, `tokenizer.json` or `spiece.model`,
//! `tokenizer_config.json` for the names of the padding and of the tokeniser, the weights.
//! # Preprocessing
//! Pictures: to 224 x 224, cubic, their shape not kept, to -1..1, unless the description says otherwise. Texts: lower case, without
//! punctuation where the tokeniser is SigLIP's own, cut and filled up to 64 tokens.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | -1..=1 |
//! | tokens of a picture | `[patches, dim]` | any |
//! | tokens of a text | `[64, dim]` | any |
//! | embedding | `[dim of the vision tower]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_media::Filter;
use chiasm_nn::{Activation, BlockNames, BlockShape, CrossAttention, LayerNorm, Linear, Order, Qkv, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Cleaning, Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Opened, Tower, Wanted};
use crate::nets::patches::Patches;
use crate::nets::text_transformer::{Parts, Reading, Speaker, TextTransformer};
use crate::nets::vision_transformer::{self, Pooling, Probe, VisionTransformer};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "siglip 2";

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
pub(crate) struct TextConfig {
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
    let tower = if wanted.modality == Modality::Text {
        open_text(files, &path, text)?
    } else {
        let c = vision;
        let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
        let shape = model::block_shape(&path, "vision_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
        has_head(&path, c.vision_use_head)?;
        let defaults =
            Defaults { side: 224, square: true, filter: Filter::Bicubic, crop: false, mean: [0.5; 3], std: [0.5; 3] };
        let processor = ImageProcessor::open(files, defaults)?;
        model::fits_patches(&path, processor.shape(), c.image_size, c.patch_size)?;
        let mut w = files.weights()?;
        let net = load_vision(&mut w, c, shape)?;
        w.skip("vision_model.embeddings.position_ids");
        finish(w, "text_model.")?;
        Tower::Image(processor, Box::new(net))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// The tower of texts, whose section stands in the description at `path`: the same in both generations.
pub(crate) fn open_text(files: &mut Checkpoint, path: &Path, c: &TextConfig) -> Result<Tower, OpenError> {
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(path, "text_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    model::expect(path, c.max_position_embeddings >= 2, || "max_position_embeddings is below 2".to_owned())?;
    let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
    let padding = padding(files, &tokenizer, c)?;
    let mut w = files.weights()?;
    let net = load_text(&mut w, c, shape)?;
    w.skip("text_model.embeddings.position_ids");
    finish(w, "vision_model.")?;
    Ok(Tower::Text(tokenizer.cleaned(cleaning(files)?).padded(c.max_position_embeddings, padding), Box::new(net)))
}

/// Ends the loading of one tower: what is left is the other, whose tensors' names begin with `other`, and the temperature.
pub(crate) fn finish(mut w: Weights, other: &str) -> Result<(), WeightsError> {
    w.skip_prefix(other);
    w.skip("logit_scale");
    w.skip("logit_bias");
    w.finish()
}

/// Refuses a checkpoint that gives patches alone.
pub(crate) fn has_head(path: &Path, vision_use_head: bool) -> Result<(), OpenError> {
    model::expect(path, vision_use_head, || {
        "vision_use_head is false: the checkpoint has no pooling, expected one that has".to_owned()
    })
}

/// The token that fills texts up: the one that `tokenizer_config.json` names, for the two generations differ in it and not all
/// descriptions of the network do; without that file, the one of `config.json`.
fn padding(files: &mut Checkpoint, tokenizer: &TextTokenizer, c: &TextConfig) -> Result<u32, OpenError> {
    if let Some(token) = tokenizer.padding_token(files)? {
        return Ok(token);
    }
    let token = c.pad_token_id.unwrap_or(1);
    model::expect(&files.path("config.json"), (token as usize) < c.vocab_size, || {
        format!("text_config: pad_token_id is {token}, the vocabulary has {} tokens", c.vocab_size)
    })?;
    Ok(token)
}

/// What is done to texts first: the tokeniser of SigLIP's own name takes their punctuation away, that of the second generation does not.
fn cleaning(files: &mut Checkpoint) -> Result<Cleaning, OpenError> {
    #[derive(Deserialize)]
    struct Named {
        tokenizer_class: Option<String>,
    }
    const FILE: &str = "tokenizer_config.json";
    let class = if files.has(FILE) { files.json::<Named>(FILE)?.1.tokenizer_class } else { None };
    let own = class.map_or(!files.has("tokenizer.json"), |class| class.starts_with("SiglipTokenizer"));
    Ok(if own { Cleaning::Unpunctuated } else { Cleaning::LowerCase })
}

/// Names in block `i` of one tower.
pub(crate) fn names(side: &str, i: usize) -> BlockNames {
    let at = |part: &str| format!("{side}.encoder.layers.{i}.{part}");
    BlockNames {
        qkv: Qkv::Separate(["q_proj", "k_proj", "v_proj"].map(|part| at(&format!("self_attn.{part}")))),
        out: at("self_attn.out_proj"),
        norm_1: at("layer_norm1"),
        widen: at("mlp.fc1"),
        narrow: at("mlp.fc2"),
        norm_2: at("layer_norm2"),
        scales: None,
    }
}

fn load_text(w: &mut Weights, c: &TextConfig, shape: BlockShape) -> Result<TextTransformer, WeightsError> {
    let parts = Parts {
        words: ("text_model.embeddings.token_embedding.weight", c.vocab_size),
        positions: ("text_model.embeddings.position_embedding.weight", c.max_position_embeddings),
        blocks: (&|i| names("text_model", i), c.num_hidden_layers),
        norm: "text_model.final_layer_norm",
        shape,
    };
    let head = Linear::load(w, "text_model.head", shape.dim, c.projection_size.unwrap_or(shape.dim), Activation::None)?;
    TextTransformer::load(w, &parts, Reading { causal: false, speaker: Speaker::Last }, Some(head))
}

fn load_vision(w: &mut Weights, c: &VisionConfig, shape: BlockShape) -> Result<VisionTransformer, WeightsError> {
    let dim = shape.dim;
    let n_patches = (c.image_size as usize / c.patch_size).pow(2);
    let pooling = pooling(w, shape)?;
    Ok(VisionTransformer {
        stem: Vec::new(),
        patches: Patches::load(w, "vision_model.embeddings.patch_embedding", [dim, 3, c.patch_size], true)?,
        class: None,
        positions: w.take("vision_model.embeddings.position_embedding.weight", &[n_patches, dim])?,
        norm_before: None,
        blocks: vision_transformer::blocks(w, &|i| names("vision_model", i), c.num_hidden_layers, shape)?,
        pooling,
        projection: None,
        dim,
        device: None,
    })
}

/// What stands behind the last block of the tower of pictures: the normalisation, and the learnt query to all patches.
pub(crate) fn pooling(w: &mut Weights, shape: BlockShape) -> Result<Pooling, WeightsError> {
    let dim = shape.dim;
    let probe = w.take("vision_model.head.probe", &[1, 1, dim])?;
    let stacked = ["vision_model.head.attention.in_proj_weight", "vision_model.head.attention.in_proj_bias"];
    let attention = CrossAttention::load_stacked(w, stacked, dim, shape.n_heads)?;
    let behind = ["attention.out_proj", "layernorm", "mlp.fc1", "mlp.fc2"].map(|part| format!("vision_model.head.{part}"));
    let probe = Probe::load(w, probe, attention, behind.each_ref().map(String::as_str), shape)?;
    Ok(Pooling::Probe(LayerNorm::load(w, "vision_model.post_layernorm", dim, shape.eps)?, Box::new(probe)))
}
