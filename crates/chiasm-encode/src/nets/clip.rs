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
use chiasm_nn::{Activation, Block, BlockNames, BlockShape, LayerNorm, Linear, Order, Qkv, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted};
use crate::nets::chiasm::Sizes;
use crate::nets::inputs::{How, Inputs};
use crate::nets::patches::Patches;
use crate::nets::text_transformer::{Parts, Reading, Speaker, TextTransformer};
use crate::nets::vision_transformer::{Pooling, VisionTransformer};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "clip 1";

/// What `config.json` calls the architecture.
pub(crate) const MODEL_TYPE: &str = "clip";

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
    /// What the normalisations add to the variance.
    pub(crate) fn eps(&self) -> f32 {
        self.layer_norm_eps
    }

    /// The same with the end at the token of the highest number.
    pub(crate) fn with_legacy_end(&self) -> Self {
        Self { eos_token_id: LEGACY_END, ..self.clone() }
    }

    fn shape(&self, path: &Path) -> Result<BlockShape, OpenError> {
        let sizes = [self.hidden_size, self.intermediate_size, self.num_attention_heads];
        model::block_shape(path, "text_config", sizes, (&self.hidden_act, self.layer_norm_eps), Order::PreNorm)
    }

    fn tokenizer(&self, files: &mut Checkpoint, path: &Path) -> Result<TextTokenizer, OpenError> {
        model::expect(path, self.max_position_embeddings >= 3, || "max_position_embeddings is below 3".to_owned())?;
        let tokenizer = TextTokenizer::open(files, self.max_position_embeddings, self.vocab_size)?;
        // The state of the end token stands for the text: a tokeniser that puts none would make all texts that begin alike the same.
        if self.eos_token_id == LEGACY_END { Ok(tokenizer) } else { tokenizer.ending_in(self.eos_token_id) }
    }

    fn speaker(&self) -> Speaker {
        if self.eos_token_id == LEGACY_END { Speaker::Highest } else { Speaker::Token(self.eos_token_id) }
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

impl VisionConfig {
    fn shape(&self, path: &Path) -> Result<BlockShape, OpenError> {
        let sizes = [self.hidden_size, self.intermediate_size, self.num_attention_heads];
        model::block_shape(path, "vision_config", sizes, (&self.hidden_act, self.layer_norm_eps), Order::PreNorm)
    }

    fn processor(&self, files: &mut Checkpoint, path: &Path) -> Result<ImageProcessor, OpenError> {
        let processor = ImageProcessor::open(files, Defaults { side: self.image_size, ..Defaults::CLIP })?;
        model::fits_patches(path, processor.shape(), self.image_size, self.patch_size)?;
        Ok(processor)
    }

    /// To be asked once [`model::fits_patches`] has looked at it.
    fn n_patches(&self) -> usize {
        (self.image_size as usize / self.patch_size).pow(2)
    }
}

/// What a description says of both towers, for whoever trains them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipTowers {
    /// Numbers per embedding.
    pub projection: usize,
    /// For pictures: the positions are the class token's and the patches'.
    pub image: ClipTower,
    /// Pixels along a side of a patch.
    pub patch: usize,
    /// For texts.
    pub text: ClipTower,
    /// Words of the tokeniser.
    pub vocabulary: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipTower {
    /// Of the transformer.
    pub sizes: Sizes,
    /// Rows of its table of positions.
    pub positions: usize,
    /// Between the layers of the feed-forward parts.
    pub activation: Activation,
    /// Added to the variance in all normalisations.
    pub eps: f32,
}

impl ClipTowers {
    /// Those of the checkpoint in a folder.
    ///
    /// # Errors
    /// [`OpenError`], naming the file, what came and what was expected.
    pub fn read(folder: &Path) -> Result<Self, OpenError> {
        let (path, config): (_, Config) = Checkpoint::new(folder).json("config.json")?;
        let (v, t) = (&config.vision_config, &config.text_config);
        let tower = |shape: BlockShape, layers: usize, positions: usize| ClipTower {
            sizes: Sizes { width: shape.dim, inner: shape.wide, layers, heads: shape.n_heads },
            positions,
            activation: shape.activation,
            eps: shape.eps,
        };
        model::expect(&path, config.projection_dim > 0, || "projection_dim is 0".to_owned())?;
        model::fits_patches(&path, [v.image_size; 2], v.image_size, v.patch_size)?;
        Ok(Self {
            projection: config.projection_dim,
            image: tower(v.shape(&path)?, v.num_hidden_layers, 1 + v.n_patches()),
            patch: v.patch_size,
            text: tower(t.shape(&path)?, t.num_hidden_layers, t.max_position_embeddings),
            vocabulary: t.vocab_size,
        })
    }
}

/// What stands before one of the two towers.
pub(crate) fn inputs(files: &mut Checkpoint, modality: Modality) -> Result<Inputs, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    match modality {
        Modality::Image => {
            let c = &config.vision_config;
            let processor = c.processor(files, &path)?;
            let shape = [c.n_patches(), c.patch_size * c.patch_size * 3];
            Ok(Inputs::new(How::Image(processor), [c.patch_size; 2], shape).by_channel())
        }
        Modality::Text => {
            let c = &config.text_config;
            let tokenizer = c.tokenizer(files, &path)?;
            Ok(Inputs::new(How::Text(tokenizer), [1; 2], [c.max_position_embeddings, 0]).until(c.speaker()))
        }
        Modality::Audio | Modality::Series | Modality::Video | Modality::Shape => {
            let towers = vec![Modality::Image, Modality::Text];
            Err(OpenError::SeveralTowers { name: path.display().to_string(), towers })
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
        // What a training with SigLIP's loss leaves.
        w.skip("logit_bias");
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
    let shape = c.shape(path)?;
    let tokenizer = c.tokenizer(files, path)?;
    let mut w = files.weights()?;
    let net = text(&mut w, c, shape, projected)?;
    w.skip("text_model.embeddings.position_ids");
    Ok((tokenizer, Box::new(net), w))
}

/// Opens the image tower, which models with another text tower have as well; `path` is where the description stands, `projected`
/// the numbers per embedding.
pub(crate) fn open_vision(files: &mut Checkpoint, path: &Path, c: &VisionConfig, projected: usize) -> Result<Tower, OpenError> {
    let shape = c.shape(path)?;
    let processor = c.processor(files, path)?;
    let mut w = files.weights()?;
    let net = vision(&mut w, c, shape, projected)?;
    w.skip("vision_model.embeddings.position_ids");
    w.skip_prefix("text_model.");
    w.skip_prefix("text_projection.");
    w.skip("logit_scale");
    w.skip("logit_bias");
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
    let shape = c.shape(path)?;
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
    let projection = Linear::load_unbiased(w, "text_projection", shape.dim, projected)?;
    TextTransformer::load(w, &parts, Reading { causal: true, speaker: c.speaker() }, Some(projection))
}

fn vision(w: &mut Weights, c: &VisionConfig, shape: BlockShape, projected: usize) -> Result<VisionTransformer, WeightsError> {
    let (dim, eps) = (shape.dim, c.layer_norm_eps);
    let n_patches = c.n_patches();
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
