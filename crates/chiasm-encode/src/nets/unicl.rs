//! UniCL: pictures and texts to one space, by Swin and a causal text transformer; Florence is built so as well.
//!
//! # Reference
//! Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022; Yuan et al., "Florence: A New Foundation Model for
//! Computer Vision", 2021. Names, sizes and order of the steps are those of the public code (microsoft/UniCL, `model/`), which is in no
//! library: checked block by block against `SwinModel` and `CLIPTextModel` of transformers with its two projections. Differs from
//! it in: texts are computed up to their end token, since the mask is causal and nothing after it is looked at; an image tower of
//! FocalNet, which the code allows as well, is not read.
//! # Files
//! A layout of our own, since that code describes its models in YAML: `config.json` with `model_type` `unicl`, `projection_dim`,
//! `vision_config` with the fields of Hugging Face's Swin and `text_config` with those of its CLIP; `preprocessor_config.json`;
//! `tokenizer.json` of CLIP; the weights under the names of the public code (`image_encoder.*`, `text_encoder.*`, in older files
//! `lang_encoder.*`; `image_projection`, `text_projection`).
//! # Preprocessing
//! Pictures: as the description says, which must be there; the public code takes the shorter edge to 256, cubic, the middle 224 by
//! 224, ImageNet's mean and deviation. Texts: CLIP's byte pairs, cut to 77 tokens, start and end among them.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -2..2.7 |
//! | patches of stage `i` | `[56 / 2^i, 56 / 2^i, embed_dim 2^i]` | any |
//! | tokens of a text | `[n, hidden_size]`, 3 to 77 of them | any |
//! | embedding | `[projection_dim]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{
    Activation, Block, BlockNames, BlockShape, FeatureMap, LayerNorm, Linear, Mask, Order, Qkv, Table, Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, run};
use crate::nets::clip::{self, projected};
use crate::nets::swin::{self, Swin};
use crate::nets::windows::Naming;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "unicl 1";

const PREPROCESSING: &str = "preprocessor_config.json";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    text_config: TextConfig,
    vision_config: swin::Config,
    #[serde(default = "clip::projection_dim")]
    projection_dim: usize,
}

/// What is silent has the public code's value for its models with Swin-T and Swin-B.
#[derive(Deserialize)]
#[serde(default)]
struct TextConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: Option<usize>,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: None,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-12,
        }
    }
}

impl TextConfig {
    /// The shape of the blocks.
    fn shape(&self, path: &Path) -> Result<BlockShape, OpenError> {
        let wide = self.intermediate_size.unwrap_or(self.hidden_size.saturating_mul(4));
        model::expect(path, self.max_position_embeddings >= 3, || "max_position_embeddings is below 3".to_owned())?;
        let sizes = [self.hidden_size, wide, self.num_attention_heads];
        model::block_shape(path, "text_config", sizes, (&self.hidden_act, self.layer_norm_eps), Order::PreNorm)
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    model::expect(&path, config.projection_dim > 0, || "projection_dim is 0".to_owned())?;
    let tower = if wanted.modality == Modality::Text {
        let c = &config.text_config;
        let shape = c.shape(&path)?;
        let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
        let mut w = files.weights()?;
        let net = Text::load(&mut w, c, shape, config.projection_dim)?;
        w.skip_prefix("image_encoder.");
        w.skip("image_projection");
        w.skip("logit_scale");
        w.finish()?;
        Tower::Text(tokenizer, Box::new(net))
    } else {
        let c = &config.vision_config;
        let description = files.path(PREPROCESSING);
        model::expect(&description, files.has(PREPROCESSING), || "it is missing, this layout needs it".to_owned())?;
        let processor = ImageProcessor::open(files, Defaults { square: false, crop: true, ..swin::preprocessing(c) })?;
        let mut w = files.weights()?;
        let swin = Swin::load(&mut w, &path, c, processor.shape(), Naming::Authors, "image_encoder.")?;
        let projection = take_projection(&mut w, "image_projection", swin.last_dim(), config.projection_dim)?;
        // The classifier with which the tower was pretrained.
        w.skip_prefix("image_encoder.head.");
        w.skip_prefix("text_encoder.");
        w.skip_prefix("lang_encoder.");
        w.skip("text_projection");
        w.skip("logit_scale");
        w.finish()?;
        Tower::Image(processor, Box::new(Vision { swin, projection }))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// A projection, which is stored as the matrix `[n_in, n_out]` that rows are multiplied by.
fn take_projection(w: &mut Weights, name: &str, n_in: usize, n_out: usize) -> Result<Linear, WeightsError> {
    let stored = w.take(name, &[n_in, n_out])?;
    let turned: Vec<f32> = (0..n_out).flat_map(|out| stored.iter().skip(out).step_by(n_out)).copied().collect();
    Ok(Linear::new(&turned, vec![0.0; n_out], n_in, Activation::None))
}

/// The text tower.
struct Text {
    /// `[vocab_size, dim]`.
    words: Table,
    /// `[max_position_embeddings, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    projection: Linear,
    dim: usize,
}

impl Text {
    fn load(w: &mut Weights, c: &TextConfig, shape: BlockShape, projected: usize) -> Result<Self, WeightsError> {
        let dim = shape.dim;
        let prefix = if w.has("lang_encoder.token_embedding.weight") { "lang_encoder." } else { "text_encoder." };
        let block = |i: usize, w: &mut Weights| {
            let at = |part: &str| format!("{prefix}resblocks.{i}.{part}");
            let names = BlockNames {
                qkv: Qkv::Stacked([at("attn.in_proj_weight"), at("attn.in_proj_bias")]),
                out: at("attn.out_proj"),
                norm_1: at("ln_1"),
                widen: at("mlp.c_fc"),
                narrow: at("mlp.c_proj"),
                norm_2: at("ln_2"),
                scales: None,
            };
            Block::load(w, &names, shape)
        };
        Ok(Self {
            words: w.table(&format!("{prefix}token_embedding.weight"), [c.vocab_size, dim])?,
            positions: w.take(&format!("{prefix}positional_embedding"), &[c.max_position_embeddings, dim])?,
            blocks: (0..c.num_hidden_layers).map(|i| block(i, w)).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(w, &format!("{prefix}ln_final"), dim, shape.eps)?,
            projection: take_projection(w, "text_projection", dim, projected)?,
            dim,
        })
    }
}

impl Net<Vec<u32>> for Text {
    fn dim(&self) -> usize {
        self.projection.n_out()
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.dim;
        // The end token has the highest number. States before a position do not depend on what stands after it.
        let end_of =
            |ids: &[u32]| ids.iter().enumerate().max_by_key(|(i, id)| (**id, std::cmp::Reverse(*i))).map_or(0, |(i, _)| i);
        let texts: Vec<&[u32]> = texts.iter().map(|ids| &ids[..=end_of(ids)]).collect();
        let lengths: Vec<usize> = texts.iter().map(|ids| ids.len()).collect();
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * dim);
        for ids in &texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(dim)) {
                self.words.push_sum(*id as usize, position, &mut x);
            }
        }
        run(&self.blocks, &mut x, &lengths, Mask::Causal, watch);
        let mut ends = Vec::with_capacity(texts.len() * dim);
        let mut after = 0;
        for n in &lengths {
            after += n;
            ends.extend_from_slice(&x[(after - 1) * dim..after * dim]);
        }
        self.norm.forward(&mut ends);
        projected(&self.projection, &ends)
    }
}

/// The image tower.
struct Vision {
    swin: Swin,
    projection: Linear,
}

impl Net<FeatureMap> for Vision {
    fn dim(&self) -> usize {
        self.projection.n_out()
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        self.swin.n_patches(picture)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        projected(&self.projection, &self.swin.pooled(pictures, watch).concat())
    }
}
