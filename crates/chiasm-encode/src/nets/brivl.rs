//! BriVL: pictures and Chinese texts to one space, by a convolutional network over patches of many scales and BERT, each with a few
//! blocks of attention behind it.
//!
//! # Reference
//! Huo et al., "WenLan: Bridging Vision and Language by Large-Scale Multi-Modal Pre-Training", 2021; Fei et al., "Towards Artificial
//! General Intelligence via a Multimodal Foundation Model", Nature Communications 2022. Names, sizes and order of the steps are those
//! of the public code (BAAI-WuDao/BriVL, neilfei/brivl-nmi), which is in no library: checked against the modules that it is made of, timm's
//! EfficientNet, `BertModel` of transformers and `torch.nn.TransformerEncoder`, put together as the code does.
//!
//! As in the paper of 2022: the patches are those of two grids, 6 x 6 and 1 x 1 (multi-scale patch pooling); four blocks of attention;
//! the mean; two dense layers with a ReLU between them. As in the code where the paper is silent: a patch is the mean of 4 x 4 points between
//! the features, whose places are off by the little that the code's two conventions for corners differ; a dense layer follows; patches
//! and tokens have unit length before attention; BERT reads the padding as if it were text, what follows does not. Our reading: the
//! boxes of a detector that the model of 2021 was given are not, the two grids serve for them as in the code of 2022.
//! # Files
//! A layout of our own, since that code describes its models in YAML and cannot be told by the name of a file: `config.json` (`model_type`
//! `brivl`, see [`Config`]; what is silent has the sizes of the public code, so `{"model_type": "brivl"}` describes its model;
//! `vision_config` has the fields of Hugging Face's EfficientNet, `text_config` those of its BERT), the tokeniser of BERT, and
//! the weights as that code saves them (its `.pth`, named `pytorch_model.bin`): `imgencoder.*` and `textencoder.*`, the network of
//! pictures under the names of timm.
//! # Preprocessing
//! Pictures: to 456 x 456, the shape not kept, by the four nearest pixels, ImageNet's mean and deviation. Texts: BERT's word pieces, cut
//! and filled up to 80 tokens.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[456, 456, 3]` | about -2..2.7 |
//! | features | `[15, 15, 2048]` | any |
//! | patches of a picture | `[37, 2048]` | unit length |
//! | tokens of a text | `[80, 768]`, then `[n, 768]` | any, then unit length |
//! | embedding | `[2048]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{
    Activation, Block, BlockNames, BlockScratch, BlockShape, FeatureMap, Linear, Mask, Order, Qkv, Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::bert::{self, Bert, Positions};
use crate::nets::clip::projected;
use crate::nets::efficientnet::{self, EfficientNet, Stored};
use crate::nets::windows::means;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "brivl 1";

/// More patches along a side, and more points in one, than any model has.
const MOST_PATCHES: usize = 64;

/// `config.json`. What is silent has the value of the public code.
#[derive(Deserialize)]
struct Config {
    #[serde(default = "efficientnet::Config::b5")]
    vision_config: efficientnet::Config,
    #[serde(default = "bert::Config::chinese")]
    text_config: bert::Config,
    #[serde(flatten)]
    own: Own,
}

#[derive(Deserialize)]
#[serde(default)]
struct Own {
    /// Patches along a side of the finer grid: `BOX_GRID`.
    patch_grid: usize,
    /// Points along a side of a patch: `GRID_SIZE`.
    patch_points: usize,
    /// Blocks and heads of attention behind the features: `IMG_TRANSFORMER_LAYER`, `IMG_TRANSFORMER_HEAD`.
    image_attention_layers: usize,
    image_attention_heads: usize,
    /// Likewise behind BERT: `TEXT_TRANSFORMER_LAYER`, `TEXT_TRANSFORMER_HEAD`.
    text_attention_layers: usize,
    text_attention_heads: usize,
    /// Width of the feed-forward part of both: PyTorch's default.
    attention_intermediate_size: usize,
    /// Tokens of every text: `MAX_TEXT_LEN`.
    max_text_length: usize,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            patch_grid: 6,
            patch_points: 4,
            image_attention_layers: 4,
            image_attention_heads: 4,
            text_attention_layers: 4,
            text_attention_heads: 4,
            attention_intermediate_size: 2048,
            max_text_length: 80,
        }
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let (own, dim) = (&config.own, config.vision_config.hidden_dim);
    model::expect(&path, dim > 0, || "vision_config: hidden_dim is 0".to_owned())?;
    let tower = if wanted.modality == Modality::Text {
        let c = &config.text_config;
        let (n, padding) = (own.max_text_length, c.pad_token_id.unwrap_or(0));
        let n_positions = c.max_tokens(&path, Positions::FromZero)?;
        model::expect(&path, (3..=n_positions).contains(&n), || {
            format!("max_text_length is {n}, expected 3 to {n_positions}, as many as there are positions")
        })?;
        model::expect(&path, (padding as usize) < c.vocab_size, || {
            format!("pad_token_id is {padding}, the vocabulary has {}", c.vocab_size)
        })?;
        let shape = own.shape(&path, c.hidden_size, own.text_attention_heads)?;
        let tokenizer = TextTokenizer::open(files, n, c.vocab_size)?.padded(n, padding);
        let mut w = weights(files)?;
        let bert = Bert::load(&mut w, &path, c, Positions::FromZero, "textencoder.backbone.bert.")?;
        let head = Head::load(&mut w, "textencoder.learnable.text", own.text_attention_layers, shape, dim)?;
        w.skip_prefix("imgencoder.");
        w.finish()?;
        Tower::Text(tokenizer, Box::new(Text { bert, n_bert: c.num_hidden_layers, padding, head }))
    } else {
        let c = &config.vision_config;
        let sound = |n: usize| (1..=MOST_PATCHES).contains(&n);
        model::expect(&path, sound(own.patch_grid) && sound(own.patch_points), || {
            format!("patch_grid {} and patch_points {}: expected 1 to {MOST_PATCHES}", own.patch_grid, own.patch_points)
        })?;
        let shape = own.shape(&path, dim, own.image_attention_heads)?;
        let processor = ImageProcessor::between_pixels(&path, c.image_size)?;
        let mut w = weights(files)?;
        let stored = Stored::Timm("imgencoder.backbone.");
        let network = EfficientNet::load(&mut w, &path, stored, c, processor.shape(), true)?;
        model::expect(&path, network.dim() == dim, || {
            format!("vision_config: hidden_dim is {dim}, the last convolution gives {}", network.dim())
        })?;
        let dense = Linear::load_pointwise(&mut w, "imgencoder.learnable.max_pool.0", dim, dim, Activation::None)?;
        let patches = Patches { grid: own.patch_grid, points: own.patch_points, dense };
        let head = Head::load(&mut w, "imgencoder.learnable.img", own.image_attention_layers, shape, dim)?;
        w.skip_prefix("imgencoder.backbone.classifier.");
        w.skip_prefix("textencoder.");
        w.finish()?;
        Tower::Image(processor, Box::new(Vision { network, patches, head }))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

impl Own {
    /// The shape of the blocks of attention over rows of width `dim`.
    fn shape(&self, path: &Path, dim: usize, n_heads: usize) -> Result<BlockShape, OpenError> {
        model::expect(path, dim > 0 && n_heads > 0 && dim.is_multiple_of(n_heads), || {
            format!("the width {dim} does not divide into {n_heads} attention heads")
        })?;
        let wide = self.attention_intermediate_size;
        model::expect(path, wide > 0, || "attention_intermediate_size is 0".to_owned())?;
        // PyTorch's defaults, which the code leaves as they are.
        Ok(BlockShape { dim, wide, n_heads, eps: 1e-5, activation: Activation::Relu, order: Order::PostNorm })
    }
}

/// The weights of both towers, whichever way they were saved; those that only training needs are left aside.
fn weights(files: &mut Checkpoint) -> Result<Weights, OpenError> {
    let mut w = files.weights()?;
    w.strip_prefix("learnable.")?;
    for unused in ["imgencoder_mom.", "textencoder_mom.", "img_queue", "text_queue"] {
        w.skip_prefix(unused);
    }
    Ok(w)
}

/// What follows either network: attention over its rows, their mean, two dense layers.
struct Head {
    blocks: Vec<Block>,
    dense: [Linear; 2],
}

impl Head {
    fn load(w: &mut Weights, prefix: &str, n: usize, shape: BlockShape, n_out: usize) -> Result<Self, WeightsError> {
        let block = |i: usize| {
            let at = |part: &str| format!("{prefix}Att.layers.{i}.{part}");
            let names = BlockNames {
                qkv: Qkv::Stacked([at("self_attn.in_proj_weight"), at("self_attn.in_proj_bias")]),
                out: at("self_attn.out_proj"),
                norm_1: at("norm1"),
                widen: at("linear1"),
                narrow: at("linear2"),
                norm_2: at("norm2"),
                scales: None,
            };
            Block::load(w, &names, shape)
        };
        let blocks = (0..n).map(block).collect::<Result<_, _>>()?;
        let mut dense = |name: &str, n_in: usize, activation: Activation| {
            Linear::load(w, &format!("{prefix}FC.{name}"), n_in, n_out, activation)
        };
        Ok(Self { blocks, dense: [dense("fc1", shape.dim, Activation::Relu)?, dense("fc2", n_out, Activation::None)?] })
    }

    fn dim(&self) -> usize {
        self.dense[1].n_out()
    }

    /// One vector for each of several inputs of `lengths` rows that stand one after the other in `x`. Shows the states as numbers
    /// `first`, `first + 1` and so on.
    fn pooled(&self, mut x: Vec<f32>, lengths: &[usize], first: usize, watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.dense[0].n_in();
        for row in x.chunks_exact_mut(dim) {
            let square: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            let scale = 1.0 / square.sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
        }
        watch(&format!("hidden.{first}"), &x);
        let mut scratch = BlockScratch::default();
        for (i, block) in self.blocks.iter().enumerate() {
            block.forward(&mut x, lengths, Mask::None, &mut scratch);
            watch(&format!("hidden.{}", first + 1 + i), &x);
        }
        let mut pooled = Vec::with_capacity(lengths.len() * dim);
        let mut rest = x.as_slice();
        for n in lengths {
            let (rows, after) = rest.split_at(n * dim);
            pooled.extend(means(rows, *n, dim).concat());
            rest = after;
        }
        let mut wide = Vec::new();
        self.dense[0].forward(&pooled, &mut wide);
        projected(&self.dense[1], &wide)
    }
}

/// The text tower: BERT over the filled-up text, attention over its own tokens.
struct Text {
    bert: Bert,
    /// Blocks of BERT.
    n_bert: usize,
    /// The token that fills texts up.
    padding: u32,
    head: Head,
}

impl Net<Vec<u32>> for Text {
    fn dim(&self) -> usize {
        self.head.dim()
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.bert.dim();
        let states = self.bert.states(texts, watch);
        let (mut own, mut lengths, mut rest) = (Vec::new(), Vec::new(), states.as_slice());
        for ids in texts {
            let n = ids.iter().rposition(|id| *id != self.padding).map_or(1, |last| last + 1);
            let (tokens, after) = rest.split_at(ids.len() * dim);
            own.extend_from_slice(&tokens[..n * dim]);
            lengths.push(n);
            rest = after;
        }
        self.head.pooled(own, &lengths, self.n_bert + 1, watch)
    }
}

/// Patches of many scales: the cells of a grid, column by column, and the whole.
struct Patches {
    grid: usize,
    points: usize,
    /// The layer after pooling.
    dense: Linear,
}

impl Patches {
    /// `[grid^2 + 1, channels]`.
    fn forward(&self, features: &FeatureMap) -> Vec<f32> {
        let n = self.grid;
        let cells = |len: usize| -> Vec<Vec<f32>> {
            let mut cells: Vec<_> =
                (0..n).map(|i| self.weights([i as f64 / n as f64, (i + 1) as f64 / n as f64], len)).collect();
            cells.push(self.weights([0.0, 1.0], len));
            cells
        };
        let (down, across) = (cells(features.height), cells(features.width));
        let pairs = (0..n).flat_map(|x| (0..n).map(move |y| (x, y))).chain([(n, n)]);
        let mut pooled = vec![0.0; (n * n + 1) * features.channels];
        for ((x, y), out) in pairs.zip(pooled.chunks_exact_mut(features.channels)) {
            for (weight_y, row) in down[y].iter().zip(features.data.chunks_exact(features.width * features.channels)) {
                for (weight_x, pixel) in across[x].iter().zip(row.chunks_exact(features.channels)) {
                    let weight = weight_y * weight_x;
                    if weight != 0.0 {
                        out.iter_mut().zip(pixel).for_each(|(out, v)| *out += weight * v);
                    }
                }
            }
        }
        let mut out = Vec::new();
        self.dense.forward(&pooled, &mut out);
        out
    }

    /// What each of `len` features along a side, at least two, weighs in a patch from one place to another, both as parts of the side. The
    /// points between the features are mixed linearly; beyond the rim there are zeros.
    ///
    /// The patch is described as if the first and the last feature stood at -1 and 1 (torch's `align_corners`), its points are
    /// taken as if the rims of the features did.
    fn weights(&self, [from, to]: [f64; 2], len: usize) -> Vec<f32> {
        // A single feature is all there is, wherever a point lies; the reference divides by zero there.
        let (n, last) = (len as f64, len.saturating_sub(1).max(1) as f64);
        let (from, to) = (from * n, to * n);
        let mut weights = vec![0.0; len];
        for point in 0..self.points {
            let within = (2 * point + 1) as f64 / self.points as f64 - 1.0;
            let place = (to - from) / last * within + (from + to - last) / last;
            let at = ((place + 1.0) * n - 1.0) / 2.0;
            let part = at - at.floor();
            for (feature, weight) in [(at.floor(), 1.0 - part), (at.floor() + 1.0, part)] {
                if (0.0..n).contains(&feature) {
                    weights[feature as usize] += weight / self.points as f64;
                }
            }
        }
        weights.into_iter().map(|weight| weight as f32).collect()
    }
}

/// The image tower.
struct Vision {
    network: EfficientNet,
    patches: Patches,
    head: Head,
}

impl Net<FeatureMap> for Vision {
    fn dim(&self) -> usize {
        self.head.dim()
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        self.network.rows(picture)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let features = self.network.features(pictures, watch);
        let patches: Vec<f32> = features.iter().flat_map(|features| self.patches.forward(features)).collect();
        let lengths = vec![self.patches.grid * self.patches.grid + 1; pictures.len()];
        self.head.pooled(patches, &lengths, self.network.n_blocks() + 1, watch)
    }
}
