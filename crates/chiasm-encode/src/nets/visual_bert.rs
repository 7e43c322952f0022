//! VisualBERT: the words of a text and the regions of a picture in one row through one transformer, to the probability that they
//! belong together.
//!
//! # Reference
//! Li, Yatskar, Yin, Hsieh and Chang, "VisualBERT: A Simple and Performant Baseline for Vision and Language", 2019, section 3; UNITER (Chen
//! et al., ECCV 2020) has the same shape. Checked layer by layer against `VisualBertForPreTraining` and `VisualBertForVisualReasoning` of
//! transformers. Differs from them in: nothing is padded, each text is computed at its own length; `bypass_transformer` is refused.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `visual_bert`), `tokenizer.json`, the weights of a model with a head that judges a
//! pair: that of pre-training, whose first class means that they belong together, or one with two classes of its own
//! (`cls.weight`), whose second class does.
//! # Preprocessing
//! Regions come from a detector (see [`chiasm_core::Regions`]), without boxes. Texts: BERT's word pieces, cut to as many tokens as there are
//! positions. The head of pre-training was trained on two captions at a time, the first of which always fits: a single one, as here,
//! is not quite what it has seen.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | features of regions | `[regions, visual_embedding_dim]` | any |
//! | states of a pair | `[n + regions, hidden_size]`, words first | any |
//! | logits of a pair | `[2]` | any |
//! | score of a pair | one number of a softmax | 0..=1 |

use chiasm_core::Regions;
use chiasm_nn::{Activation, Block, BlockShape, Linear, Mask, Order, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::cross::{OpenedPair, PairNet, RegionLook, second_of_two};
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::{Watch, run};
use crate::nets::bert::block_names;
use crate::nets::words::{Tables, Words, firsts};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "visual_bert 1";

/// `config.json`. What is silent has the reference's default.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    visual_embedding_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    bypass_transformer: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            visual_embedding_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            bypass_transformer: false,
        }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint) -> Result<OpenedPair<Regions>, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(&path, "", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PostNorm)?;
    model::expect(&path, c.max_position_embeddings >= 3, || "max_position_embeddings is below 3".to_owned())?;
    model::expect(&path, c.type_vocab_size >= 2, || {
        format!("type_vocab_size is {}, expected at least 2, for words and regions", c.type_vocab_size)
    })?;
    model::expect(&path, c.visual_embedding_dim > 0, || "visual_embedding_dim is 0".to_owned())?;
    model::expect(&path, !c.bypass_transformer, || "bypass_transformer is true, expected false".to_owned())?;
    let tokenizer = TextTokenizer::open(files, c.max_position_embeddings, c.vocab_size)?;
    let mut w = files.weights()?;
    let net = VisualBert::load(&mut w, &c, shape)?;
    w.skip_prefix("cls.predictions.");
    w.finish()?;
    let look = RegionLook { dim: c.visual_embedding_dim, boxes: false };
    Ok(OpenedPair { look: Box::new(look), tokenizer, first: None, net: Box::new(net), arithmetic: ARITHMETIC })
}

struct VisualBert {
    words: Words,
    projection: Linear,
    /// Position and type of every region, `[dim]`: they are all at position 0, for they stand in no order.
    place: Vec<f32>,
    blocks: Vec<Block>,
    pooler: Linear,
    head: Linear,
    /// Whether the head's first class means that the two belong together; else the second does.
    first_is_together: bool,
    dim: usize,
}

impl VisualBert {
    fn load(w: &mut Weights, c: &Config, shape: BlockShape) -> Result<Self, WeightsError> {
        let BlockShape { dim, eps, .. } = shape;
        let tables =
            Tables { n_words: c.vocab_size, n_positions: c.max_position_embeddings, n_types: c.type_vocab_size, dim, eps };
        let load = |i: usize| Block::load(w, &block_names(&format!("visual_bert.encoder.layer.{i}.")), shape);
        let blocks = (0..c.num_hidden_layers).map(load).collect::<Result<_, _>>()?;
        let words = Words::load(w, "visual_bert.embeddings.", tables)?;
        let mut table = |name: &str, n: usize| w.take(&format!("visual_bert.embeddings.{name}.weight"), &[n, dim]);
        let mut place = table("visual_position_embeddings", c.max_position_embeddings)?;
        let types = table("visual_token_type_embeddings", c.type_vocab_size)?;
        place.truncate(dim);
        place.iter_mut().zip(&types[dim..]).for_each(|(p, t)| *p += t);
        let first_is_together = !w.has("cls.weight");
        let head = if first_is_together { "cls.seq_relationship" } else { "cls" };
        Ok(Self {
            words,
            projection: Linear::load(
                w,
                "visual_bert.embeddings.visual_projection",
                c.visual_embedding_dim,
                dim,
                Activation::None,
            )?,
            place,
            blocks,
            pooler: Linear::load(w, "visual_bert.pooler.dense", dim, dim, Activation::Tanh)?,
            head: Linear::load(w, head, dim, 2, Activation::None)?,
            first_is_together,
            dim,
        })
    }
}

impl PairNet<Regions> for VisualBert {
    fn see(&self, picture: &Regions, _: &mut Watch<'_>) -> Vec<f32> {
        let mut x = Vec::new();
        self.projection.forward(picture.features(), &mut x);
        for row in x.chunks_exact_mut(self.dim) {
            row.iter_mut().zip(&self.place).for_each(|(v, p)| *v += p);
        }
        self.words.norm().forward(&mut x);
        x
    }

    fn read(&self, seen: &[f32], texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let words = self.words.rows(texts);
        let mut rest = words.as_slice();
        let (mut x, mut lengths) =
            (Vec::with_capacity(words.len() + texts.len() * seen.len()), Vec::with_capacity(texts.len()));
        for ids in texts {
            let (own, after) = rest.split_at(ids.len() * self.dim);
            x.extend_from_slice(own);
            x.extend_from_slice(seen);
            lengths.push(ids.len() + seen.len() / self.dim);
            rest = after;
        }
        run(&self.blocks, &mut x, &lengths, Mask::None, watch);
        let (mut pooled, mut logits) = (Vec::new(), Vec::new());
        self.pooler.forward(&firsts(&x, &lengths, self.dim), &mut pooled);
        self.head.forward(&pooled, &mut logits);
        if self.first_is_together {
            logits.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        }
        second_of_two(&logits)
    }
}
