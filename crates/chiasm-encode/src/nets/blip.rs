//! BLIP: pictures and texts to one space, and a picture and a text together to the probability that they belong together.
//!
//! # Reference
//! Li, Li, Xiong and Hoi, "BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language Understanding and Generation",
//! ICML 2022, section 3.1. Checked layer by layer against `BlipForImageTextRetrieval` of transformers, with its matching head and without.
//! Differs from it in: nothing is padded, each text is computed at its own length; for matching, a text begins with `[ENC]` where the
//! tokeniser has that token, as the authors trained and evaluated it. The reference leaves `[CLS]` there, and the tokenisers of the folders
//! made for it do not have the token, so that on those the two agree.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `blip`), `preprocessor_config.json`, `tokenizer.json`, the weights of a model for
//! retrieval (those for captions and for questions have no matching head).
//! # Preprocessing
//! Pictures: to 384 x 384, cubic, the shape not kept, CLIP's mean and deviation, unless the description says otherwise. Texts: BERT's word
//! pieces, cut to as many tokens as there are positions; the published weights were trained on 35 tokens and fewer.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[384, 384, 3]` | about -2..2.7 |
//! | tokens of a picture | `[1 + patches, vision dim]`, normalised | any |
//! | tokens of a text | `[n, text dim]`, 3 to 512 of them | any |
//! | embedding | `[image_text_hidden_size]` | unit length |
//! | logits of a pair | `[2]`: apart, together | any |
//! | score of a pair | a softmax's second number | 0..=1 |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{
    Activation, Block, BlockNames, BlockScratch, BlockShape, CrossLayer, CrossNames, FeatureMap, LayerNorm, Linear, Mask,
    Order, Qkv, Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::cross::{OpenedPair, PairNet, second_of_two};
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, run};
use crate::nets::bert::block_names;
use crate::nets::clip::projected;
use crate::nets::patches::Patches;
use crate::nets::words::{Tables, Words, firsts};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "blip 1";

/// What stands first in a text that is read with a picture, where the tokeniser has it.
const WITH_PICTURE: &str = "[ENC]";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    text_config: TextConfig,
    vision_config: VisionConfig,
    #[serde(default = "image_text_hidden_size")]
    image_text_hidden_size: usize,
}

fn image_text_hidden_size() -> usize {
    256
}

/// What is silent has the reference's default.
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
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 512,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
        }
    }
}

/// What is silent has the reference's default, which is that of ViT-B/16 at 384 pixels.
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
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 384,
            patch_size: 16,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl Config {
    fn text_shape(&self, path: &Path) -> Result<BlockShape, OpenError> {
        let c = &self.text_config;
        model::expect(path, c.max_position_embeddings >= 3, || "text_config: max_position_embeddings is below 3".to_owned())?;
        let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
        model::block_shape(path, "text_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PostNorm)
    }

    fn vision_shape(&self, path: &Path) -> Result<BlockShape, OpenError> {
        let c = &self.vision_config;
        let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
        model::block_shape(path, "vision_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)
    }

    fn projected(&self, path: &Path) -> Result<usize, OpenError> {
        let n = self.image_text_hidden_size;
        model::expect(path, n > 0, || "image_text_hidden_size is 0".to_owned())?;
        Ok(n)
    }

    fn processor(&self, files: &mut Checkpoint, path: &Path) -> Result<ImageProcessor, OpenError> {
        let c = &self.vision_config;
        let processor = ImageProcessor::open(files, Defaults { side: c.image_size, ..Defaults::BLIP })?;
        model::fits_patches(path, processor.shape(), c.image_size, c.patch_size)?;
        Ok(processor)
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let n_projected = config.projected(&path)?;
    let tower = if wanted.modality == Modality::Text {
        let (c, shape) = (&config.text_config, config.text_shape(&path)?);
        let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
        let mut w = files.weights()?;
        let text = Text::load(&mut w, c, shape)?;
        for i in 0..c.num_hidden_layers {
            w.skip_prefix(&format!("text_encoder.encoder.layer.{i}.crossattention."));
        }
        let projection = Linear::load(&mut w, "text_proj", shape.dim, n_projected, Activation::None)?;
        w.skip_prefix("vision_model.");
        finish(w, &["vision_proj.", "itm_head."])?;
        Tower::Text(tokenizer, Box::new(TextTower { text, projection }))
    } else {
        let shape = config.vision_shape(&path)?;
        let processor = config.processor(files, &path)?;
        let mut w = files.weights()?;
        let vision = Vision::load(&mut w, &config.vision_config, shape)?;
        let projection = Linear::load(&mut w, "vision_proj", shape.dim, n_projected, Activation::None)?;
        w.skip_prefix("text_encoder.");
        finish(w, &["text_proj.", "itm_head."])?;
        Tower::Image(processor, Box::new(VisionTower { vision, projection }))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// Opens the network over pairs.
pub(crate) fn open_pair(files: &mut Checkpoint) -> Result<OpenedPair<FeatureMap>, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let c = &config.text_config;
    let (text_shape, vision_shape) = (config.text_shape(&path)?, config.vision_shape(&path)?);
    let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
    let processor = config.processor(files, &path)?;
    let mut w = files.weights()?;
    let vision = Vision::load(&mut w, &config.vision_config, vision_shape)?;
    let text = Text::load(&mut w, c, text_shape)?;
    let load = |i: usize| {
        let at = |part: &str| format!("text_encoder.encoder.layer.{i}.crossattention.{part}");
        let names = CrossNames {
            qkv: ["query", "key", "value"].map(|part| at(&format!("self.{part}"))),
            out: at("output.dense"),
            norm: at("output.LayerNorm"),
        };
        CrossLayer::load(&mut w, &names, text_shape, vision_shape.dim)
    };
    let crossings = (0..c.num_hidden_layers).map(load).collect::<Result<_, _>>()?;
    let head = Linear::load(&mut w, "itm_head", text_shape.dim, 2, Activation::None)?;
    finish(w, &["vision_proj.", "text_proj."])?;
    let first = tokenizer.token(WITH_PICTURE);
    let net = Box::new(Matching { vision, text, crossings, head });
    Ok(OpenedPair { look: Box::new(processor), tokenizer, first, net, arithmetic: ARITHMETIC })
}

/// Refuses what nobody took, apart from the parts that are not wanted.
fn finish(mut w: Weights, unwanted: &[&str]) -> Result<(), WeightsError> {
    unwanted.iter().for_each(|prefix| w.skip_prefix(prefix));
    w.finish()
}

/// Patches with a class token before them, blocks, a normalisation.
struct Vision {
    patches: Patches,
    /// Its embedding and its position in one, `[dim]`.
    class: Vec<f32>,
    /// Those of the patches, `[patches, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    dim: usize,
}

impl Vision {
    fn load(w: &mut Weights, c: &VisionConfig, shape: BlockShape) -> Result<Self, WeightsError> {
        let dim = shape.dim;
        let n_patches = (c.image_size as usize / c.patch_size).pow(2);
        let mut class = w.take("vision_model.embeddings.class_embedding", &[1, 1, dim])?;
        let mut positions = w.take("vision_model.embeddings.position_embedding", &[1, 1 + n_patches, dim])?;
        class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
        let load = |i: usize| {
            let at = |part: &str| format!("vision_model.encoder.layers.{i}.{part}");
            let names = BlockNames {
                qkv: Qkv::Stacked(["weight", "bias"].map(|part| at(&format!("self_attn.qkv.{part}")))),
                out: at("self_attn.projection"),
                norm_1: at("layer_norm1"),
                widen: at("mlp.fc1"),
                narrow: at("mlp.fc2"),
                norm_2: at("layer_norm2"),
                scales: None,
            };
            Block::load(w, &names, shape)
        };
        let blocks = (0..c.num_hidden_layers).map(load).collect::<Result<_, _>>()?;
        Ok(Self {
            patches: Patches::load(w, "vision_model.embeddings.patch_embedding", [dim, 3, c.patch_size], true)?,
            class,
            positions,
            blocks,
            norm: LayerNorm::load(w, "vision_model.post_layernorm", dim, shape.eps)?,
            dim,
        })
    }

    /// The normalised states of pictures, one `[1 + patches, dim]` after the other.
    fn states(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<f32> {
        let mut patches = Vec::new();
        self.patches.forward(pictures, &mut patches);
        let mut x = Vec::with_capacity(pictures.len() * (self.class.len() + self.positions.len()));
        for patches in patches.chunks_exact(self.positions.len()) {
            x.extend_from_slice(&self.class);
            x.extend(patches.iter().zip(&self.positions).map(|(v, p)| v + p));
        }
        let n = 1 + self.positions.len() / self.dim;
        run(&self.blocks, &mut x, &vec![n; pictures.len()], Mask::None, watch);
        self.norm.forward(&mut x);
        x
    }
}

/// The image tower: the class token's state, projected.
struct VisionTower {
    vision: Vision,
    projection: Linear,
}

impl Net<FeatureMap> for VisionTower {
    fn dim(&self) -> usize {
        self.projection.n_out()
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        1 + self.vision.patches.count(picture)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let states = self.vision.states(pictures, watch);
        let (n, dim) = (states.len() / pictures.len().max(1), self.vision.dim);
        let classes: Vec<f32> = states.chunks_exact(n.max(1)).flat_map(|tokens| &tokens[..dim]).copied().collect();
        projected(&self.projection, &classes)
    }
}

/// BERT without types of tokens.
struct Text {
    words: Words,
    blocks: Vec<Block>,
    dim: usize,
}

impl Text {
    fn load(w: &mut Weights, c: &TextConfig, shape: BlockShape) -> Result<Self, WeightsError> {
        let BlockShape { dim, eps, .. } = shape;
        let tables = Tables { n_words: c.vocab_size, n_positions: c.max_position_embeddings, n_types: 0, dim, eps };
        let words = Words::load(w, "text_encoder.embeddings.", tables)?;
        let load = |i: usize| Block::load(w, &block_names(&format!("text_encoder.encoder.layer.{i}.")), shape);
        Ok(Self { words, blocks: (0..c.num_hidden_layers).map(load).collect::<Result<_, _>>()?, dim })
    }
}

/// The text tower: the state of the first token, projected.
struct TextTower {
    text: Text,
    projection: Linear,
}

impl Net<Vec<u32>> for TextTower {
    fn dim(&self) -> usize {
        self.projection.n_out()
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let mut x = self.text.words.rows(texts);
        run(&self.text.blocks, &mut x, &lengths, Mask::None, watch);
        projected(&self.projection, &firsts(&x, &lengths, self.text.dim))
    }
}

/// The text tower with a look at the picture in every block, and the head that says whether the two belong together.
struct Matching {
    vision: Vision,
    text: Text,
    /// One for each block of the text tower.
    crossings: Vec<CrossLayer>,
    head: Linear,
}

impl PairNet<FeatureMap> for Matching {
    fn see(&self, picture: &FeatureMap, watch: &mut Watch<'_>) -> Vec<f32> {
        self.vision.states(std::slice::from_ref(picture), watch)
    }

    fn read(&self, seen: &[f32], texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let (n_tokens, n_seen) = (lengths.iter().sum::<usize>(), seen.len() / self.vision.dim);
        let mut x = self.text.words.rows(texts);
        let (mut scratch, mut cross_scratch) = (BlockScratch::default(), BlockScratch::default());
        watch("text.0", &x);
        for (i, (block, crossing)) in self.text.blocks.iter().zip(&self.crossings).enumerate() {
            // All texts look at one picture, whose keys and values are so computed once.
            let look = |x: &mut [f32]| crossing.forward((x, &[n_tokens]), (seen, &[n_seen]), &mut cross_scratch);
            block.forward_with(&mut x, &lengths, Mask::None, look, &mut scratch);
            watch(&format!("text.{}", i + 1), &x);
        }
        let mut logits = Vec::new();
        self.head.forward(&firsts(&x, &lengths, self.text.dim), &mut logits);
        second_of_two(&logits)
    }
}
