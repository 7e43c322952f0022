//! CLIP: pictures and texts to one space, by a vision transformer and a causal text transformer.
//!
//! # Reference
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021. Checked layer by layer against
//! `CLIPModel` of transformers. Differs from it in: texts are computed up to their end token, since the mask is causal and
//! nothing after it is looked at.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `clip`), `preprocessor_config.json`, `tokenizer.json`, the weights.
//! # Preprocessing
//! Pictures: shorter edge to 224, cubic, the middle, CLIP's mean and deviation, unless the description says otherwise. Texts: byte pairs
//! in lower case, cut to 77 tokens, start and end among them.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -2..2.7 |
//! | tokens of a picture | `[1 + patches, dim]` | any |
//! | tokens of a text | `[n, dim]`, 3 to 77 of them | any |
//! | embedding | `[projection_dim]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{Block, BlockNames, BlockShape, LayerNorm, Linear, Order, Qkv, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted};
use crate::nets::patches::Patches;
use crate::nets::text_transformer::{Parts, Reading, Speaker, TextTransformer};
use crate::nets::vision_transformer::{Pooling, VisionTransformer};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "clip 1";

/// End token that old configurations name by mistake; the end is then the token of the highest number.
const LEGACY_END: u32 = 2;

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    text_config: TextConfig,
    vision_config: VisionConfig,
    #[serde(default = "projection_dim")]
    projection_dim: usize,
}

/// Numbers per embedding where the description is silent.
pub(crate) fn projection_dim() -> usize {
    512
}

/// What is silent has the reference's default, which is that of ViT-B/32.
#[derive(Clone, Deserialize)]
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
    eos_token_id: u32,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl TextConfig {
    /// The same with the end at the token of the highest number.
    pub(crate) fn with_legacy_end(&self) -> Self {
        Self { eos_token_id: LEGACY_END, ..self.clone() }
    }
}

/// What is silent has the reference's default, which is that of ViT-B/32.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct VisionConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: u32,
    patch_size: usize,
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
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let tower = if wanted.modality == Modality::Text {
        let (tokenizer, net, mut w) = load_text(files, &path, &config.text_config, config.projection_dim)?;
        w.skip_prefix("vision_model.");
        w.skip_prefix("visual_projection.");
        w.skip("logit_scale");
        w.finish()?;
        Tower::Text(tokenizer, net)
    } else {
        open_vision(files, &path, &config.vision_config, config.projection_dim)?
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// A text tower: what stands before it, the network, and the weights with all of its own taken.
pub(crate) type OfText = (TextTokenizer, Box<dyn Net<Vec<u32>>>, Weights);

/// Opens the text tower, which other models have as well; `path` is where the description stands, `projected` the numbers per
/// embedding.
pub(crate) fn load_text(files: &mut Checkpoint, path: &Path, c: &TextConfig, projected: usize) -> Result<OfText, OpenError> {
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(path, "text_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    model::expect(path, c.max_position_embeddings >= 3, || "max_position_embeddings is below 3".to_owned())?;
    let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
    // The state of the end token stands for the text: a tokeniser that puts none would make all texts that begin alike the same.
    let tokenizer = if c.eos_token_id == LEGACY_END { tokenizer } else { tokenizer.ending_in(c.eos_token_id)? };
    let mut w = files.weights()?;
    let net = text(&mut w, c, shape, projected)?;
    w.skip("text_model.embeddings.position_ids");
    Ok((tokenizer, Box::new(net), w))
}

/// Opens the image tower, which models with another text tower have as well; `path` is where the description stands, `projected`
/// the numbers per embedding.
pub(crate) fn open_vision(files: &mut Checkpoint, path: &Path, c: &VisionConfig, projected: usize) -> Result<Tower, OpenError> {
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(path, "vision_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    let processor = ImageProcessor::open(files, Defaults { side: c.image_size, ..Defaults::CLIP })?;
    model::fits_patches(path, processor.shape(), c.image_size, c.patch_size)?;
    let mut w = files.weights()?;
    let net = vision(&mut w, c, shape, projected)?;
    w.skip("vision_model.embeddings.position_ids");
    w.skip_prefix("text_model.");
    w.skip_prefix("text_projection.");
    w.skip("logit_scale");
    w.finish()?;
    Ok(Tower::Image(processor, Box::new(net)))
}

/// The network of an image tower by itself, without what stands before it.
#[cfg(all(test, feature = "cuda"))]
pub(crate) fn vision_alone(
    files: &mut Checkpoint,
    path: &Path,
    c: &VisionConfig,
    projected: usize,
) -> Result<VisionTransformer, OpenError> {
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(path, "vision_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    Ok(vision(&mut files.weights()?, c, shape, projected)?)
}

/// The blocks of one tower.
pub(crate) fn blocks(w: &mut Weights, side: &str, n: usize, shape: BlockShape) -> Result<Vec<Block>, WeightsError> {
    (0..n).map(|i| Block::load(w, &names(side, i), shape)).collect()
}

/// Where a checkpoint keeps the parts of block `i`.
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

fn text(w: &mut Weights, c: &TextConfig, shape: BlockShape, projected: usize) -> Result<TextTransformer, WeightsError> {
    let parts = Parts {
        words: ("text_model.embeddings.token_embedding.weight", c.vocab_size),
        positions: ("text_model.embeddings.position_embedding.weight", c.max_position_embeddings),
        blocks: (&|i| names("text_model", i), c.num_hidden_layers),
        norm: "text_model.final_layer_norm",
        shape,
    };
    let speaker = if c.eos_token_id == LEGACY_END { Speaker::Highest } else { Speaker::Token(c.eos_token_id) };
    let projection = Linear::load_unbiased(w, "text_projection", shape.dim, projected)?;
    TextTransformer::load(w, &parts, Reading { causal: true, speaker }, Some(projection))
}

fn vision(w: &mut Weights, c: &VisionConfig, shape: BlockShape, projected: usize) -> Result<VisionTransformer, WeightsError> {
    let (dim, eps) = (shape.dim, c.layer_norm_eps);
    let n_patches = (c.image_size as usize / c.patch_size).pow(2);
    let mut class = w.take("vision_model.embeddings.class_embedding", &[dim])?;
    let mut positions = w.take("vision_model.embeddings.position_embedding.weight", &[1 + n_patches, dim])?;
    class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
    Ok(VisionTransformer {
        stem: Vec::new(),
        patches: Patches::load(w, "vision_model.embeddings.patch_embedding", [dim, 3, c.patch_size], false)?,
        class: Some(class),
        positions,
        // The name is misspelt in the checkpoints.
        norm_before: Some(LayerNorm::load(w, "vision_model.pre_layrnorm", dim, eps)?),
        blocks: blocks(w, "vision_model", c.num_hidden_layers, shape)?,
        pooling: Pooling::Class(LayerNorm::load(w, "vision_model.post_layernorm", dim, eps)?),
        projection: Some(Linear::load_unbiased(w, "visual_projection", dim, projected)?),
        dim,
        device: None,
    })
}

/// One projected vector per row.
pub(crate) fn projected(projection: &Linear, rows: &[f32]) -> Vec<Vec<f32>> {
    let mut out = Vec::new();
    projection.forward(rows, &mut out);
    out.chunks_exact(projection.n_out()).map(<[f32]>::to_vec).collect()
}
