//! LXMERT: regions of a picture and a text, each through its own transformer and then through one in which they look at each other, to
//! the probability that they belong together.
//!
//! # Reference
//! Tan and Bansal, "LXMERT: Learning Cross-Modality Encoder Representations from Transformers", EMNLP 2019, sections 2 and 3.1. Checked
//! layer by layer against `LxmertForPreTraining` of transformers. Differs from it in: nothing is padded, each text is computed at its own
//! length.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `lxmert`), `tokenizer.json`, the weights of the model for pre-training, whose head
//! for matching is used; those for words, objects and answers are left aside.
//! # Preprocessing
//! Regions come from a detector (see [`chiasm_core::Regions`]); the published weights were trained on 36 of a Faster R-CNN of Anderson et al.
//! 2018, with boxes. Texts: BERT's word pieces in lower case, cut to as many tokens as there are positions; trained on 20 and fewer.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | features of regions | `[regions, visual_feat_dim]` | 0 and above |
//! | boxes of regions | `[regions, 4]` | 0..=1 |
//! | states of regions | `[regions, hidden_size]` | any |
//! | states of a text | `[n, hidden_size]` | any |
//! | logits of a pair | `[2]`: apart, together | any |
//! | score of a pair | a softmax's second number | 0..=1 |

use chiasm_core::Regions;
use chiasm_nn::{
    Activation, Block, BlockNames, BlockScratch, BlockShape, CrossLayer, CrossNames, LayerNorm, Linear, Mask, Order, Qkv,
    Weights, WeightsError,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::cross::{OpenedPair, PairNet, RegionLook, second_of_two};
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::Watch;
use crate::nets::bert::block_names;
use crate::nets::words::{Tables, Words, firsts};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "lxmert 1";

/// Added to the variance in every normalisation; the description has no say in it.
const EPS: f32 = 1e-12;

/// `config.json`. What is silent has the reference's default.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    l_layers: usize,
    x_layers: usize,
    r_layers: usize,
    visual_feat_dim: usize,
    visual_pos_dim: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            l_layers: 9,
            x_layers: 5,
            r_layers: 5,
            visual_feat_dim: 2048,
            visual_pos_dim: 4,
        }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint) -> Result<OpenedPair<Regions>, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(&path, "", sizes, (&c.hidden_act, EPS), Order::PostNorm)?;
    model::expect(&path, c.max_position_embeddings >= 3, || "max_position_embeddings is below 3".to_owned())?;
    model::expect(&path, c.type_vocab_size > 0, || "type_vocab_size is 0".to_owned())?;
    model::expect(&path, c.visual_feat_dim > 0, || "visual_feat_dim is 0".to_owned())?;
    model::expect(&path, c.visual_pos_dim == 4, || {
        format!("visual_pos_dim is {}, expected 4, the numbers of a box", c.visual_pos_dim)
    })?;
    let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
    let mut w = files.weights()?;
    let net = Lxmert::load(&mut w, &c, shape)?;
    ["cls.predictions.", "obj_predict_head.", "answer_head."].iter().for_each(|head| w.skip_prefix(head));
    w.finish()?;
    let look = RegionLook { dim: c.visual_feat_dim, boxes: true };
    Ok(OpenedPair { look: Box::new(look), tokenizer, first: None, net: Box::new(net), arithmetic: ARITHMETIC })
}

struct Lxmert {
    words: Words,
    /// Of the text alone.
    text_blocks: Vec<Block>,
    features: (Linear, LayerNorm),
    boxes: (Linear, LayerNorm),
    /// Of the regions alone.
    region_blocks: Vec<Block>,
    meetings: Vec<Meeting>,
    pooler: Linear,
    head: Linear,
    dim: usize,
}

/// A layer in which text and regions look at each other, through one set of weights both ways, and then each at itself.
struct Meeting {
    look: CrossLayer,
    text: Block,
    regions: Block,
}

impl Lxmert {
    fn load(w: &mut Weights, c: &Config, shape: BlockShape) -> Result<Self, WeightsError> {
        let BlockShape { dim, eps, .. } = shape;
        let tables =
            Tables { n_words: c.vocab_size, n_positions: c.max_position_embeddings, n_types: c.type_vocab_size, dim, eps };
        let mut blocks = |name: &str, n: usize| -> Result<Vec<Block>, WeightsError> {
            (0..n).map(|i| Block::load(w, &block_names(&format!("lxmert.encoder.{name}.{i}.")), shape)).collect()
        };
        let (text_blocks, region_blocks) = (blocks("layer", c.l_layers)?, blocks("r_layers", c.r_layers)?);
        let mut normed = |linear: &str, norm: &str, n_in: usize| -> Result<(Linear, LayerNorm), WeightsError> {
            let at = |part: &str| format!("lxmert.encoder.visn_fc.{part}");
            Ok((Linear::load(w, &at(linear), n_in, dim, Activation::None)?, LayerNorm::load(w, &at(norm), dim, eps)?))
        };
        Ok(Self {
            features: normed("visn_fc", "visn_layer_norm", c.visual_feat_dim)?,
            boxes: normed("box_fc", "box_layer_norm", c.visual_pos_dim)?,
            words: Words::load(w, "lxmert.embeddings.", tables)?,
            text_blocks,
            region_blocks,
            meetings: (0..c.x_layers).map(|i| Meeting::load(w, i, shape)).collect::<Result<_, _>>()?,
            pooler: Linear::load(w, "lxmert.pooler.dense", dim, dim, Activation::Tanh)?,
            head: Linear::load(w, "cls.seq_relationship", dim, 2, Activation::None)?,
            dim,
        })
    }
}

impl Meeting {
    fn load(w: &mut Weights, i: usize, shape: BlockShape) -> Result<Self, WeightsError> {
        let at = |part: &str| format!("lxmert.encoder.x_layers.{i}.{part}");
        let qkv = |attention: &str| ["query", "key", "value"].map(|part| at(&format!("{attention}.{part}")));
        let look = CrossNames {
            qkv: qkv("visual_attention.att"),
            out: at("visual_attention.output.dense"),
            norm: at("visual_attention.output.LayerNorm"),
        };
        let block = |side: &str| BlockNames {
            qkv: Qkv::Separate(qkv(&format!("{side}_self_att.self"))),
            out: at(&format!("{side}_self_att.output.dense")),
            norm_1: at(&format!("{side}_self_att.output.LayerNorm")),
            widen: at(&format!("{side}_inter.dense")),
            narrow: at(&format!("{side}_output.dense")),
            norm_2: at(&format!("{side}_output.LayerNorm")),
            scales: None,
        };
        Ok(Self {
            look: CrossLayer::load(w, &look, shape, shape.dim)?,
            text: Block::load(w, &block("lang"), shape)?,
            regions: Block::load(w, &block("visn"), shape)?,
        })
    }
}

impl PairNet<Regions> for Lxmert {
    fn see(&self, picture: &Regions, watch: &mut Watch<'_>) -> Vec<f32> {
        let embedded = |(linear, norm): &(Linear, LayerNorm), rows: &[f32]| {
            let mut x = Vec::new();
            linear.forward(rows, &mut x);
            norm.forward(&mut x);
            x
        };
        let mut x = embedded(&self.features, picture.features());
        let boxes = embedded(&self.boxes, picture.boxes().unwrap_or_default());
        x.iter_mut().zip(&boxes).for_each(|(x, b)| *x = (*x + b) / 2.0);
        crate::net::run(&self.region_blocks, &mut x, &[picture.count()], Mask::None, watch);
        x
    }

    fn read(&self, seen: &[f32], texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let mut scratch = BlockScratch::default();
        let mut x = self.words.rows(texts);
        watch("text.0", &x);
        for (i, block) in self.text_blocks.iter().enumerate() {
            block.forward(&mut x, &lengths, Mask::None, &mut scratch);
            watch(&format!("text.{}", i + 1), &x);
        }
        // From here on the regions differ from text to text.
        let mut regions = seen.repeat(texts.len());
        let n_regions = vec![seen.len() / self.dim; texts.len()];
        for (i, meeting) in self.meetings.iter().enumerate() {
            // Each looks at the other as it was before this layer.
            let before = x.clone();
            meeting.look.forward((&mut x, &lengths), (&regions, &n_regions), &mut scratch);
            meeting.look.forward((&mut regions, &n_regions), (&before, &lengths), &mut scratch);
            meeting.text.forward(&mut x, &lengths, Mask::None, &mut scratch);
            meeting.regions.forward(&mut regions, &n_regions, Mask::None, &mut scratch);
            watch(&format!("text.{}", self.text_blocks.len() + i + 1), &x);
            watch(&format!("regions.{i}"), &regions);
        }
        let (mut pooled, mut logits) = (Vec::new(), Vec::new());
        self.pooler.forward(&firsts(&x, &lengths, self.dim), &mut pooled);
        self.head.forward(&pooled, &mut logits);
        second_of_two(&logits)
    }
}
