//! LSTM and GRU: texts to the last, mean or largest states of recurrent layers.
//!
//! # Reference
//! Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; Cho et al., "Learning Phrase Representations using RNN
//! Encoder-Decoder for Statistical Machine Translation", EMNLP 2014; as text towers of dual encoders in Kiros, Salakhutdinov and
//! Zemel, "Unifying Visual-Semantic Embeddings with Multimodal Neural Language Models", 2014, and Faghri et al., "VSE++", BMVC 2018.
//! Checked layer by layer against `torch.nn.LSTM` and `torch.nn.GRU`. Differs from them in: nothing is padded, each text is
//! computed at its own length (as packed sequences are); LSTMs with a projection within the layers are refused.
//! # Files
//! A layout of our own, since there is no common one: `config.json`, `tokenizer.json`, the weights under the names of PyTorch's modules
//! `embedding`, `rnn` and `projection`. The fields of `config.json`:
//!
//! | field | meaning | where it is silent |
//! | --- | --- | --- |
//! | `model_type` | `lstm` or `gru` | - |
//! | `vocab_size`, `embedding_dim`, `hidden_size` | sizes | - |
//! | `num_layers`, `bidirectional`, `bias` | as PyTorch's | 1, false, true |
//! | `pooling` | `final`, `mean` or `max` | `final` |
//! | `projection_dim` | width of a dense layer after pooling | no such layer |
//! | `normalize` | whether embeddings have unit length | false |
//! | `max_length` | tokens to which texts are cut | 512 |
//! # Model
//! The states of the layers' two directions stand side by side. `final` is each direction's state after the token that it reads last.
//! # Preprocessing
//! The tokeniser of the folder, cut to `max_length` tokens.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | token ids | `[n]` per text | 0 to the size of the vocabulary |
//! | states | `[n, directions hidden_size]` | -1..=1 |
//! | embedding | `[projection_dim]`, without it `[directions hidden_size]` | any, or unit length |

use chiasm_core::Modality;
use chiasm_nn::{Activation, Cell, Linear, RecurrentLayer, RecurrentScratch, RecurrentShape, Table, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::bert::Pooling;
use crate::nets::clip::projected;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "recurrent 1";

/// What the two types take.
pub(crate) const MODALITIES: &[Modality] = &[Modality::Text];

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: Type,
    vocab_size: usize,
    embedding_dim: usize,
    hidden_size: usize,
    #[serde(default = "one")]
    num_layers: usize,
    #[serde(default)]
    bidirectional: bool,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(default)]
    pooling: Way,
    projection_dim: Option<usize>,
    #[serde(default)]
    normalize: bool,
    #[serde(default = "max_length")]
    max_length: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Lstm,
    Gru,
}

/// How the states of a text become one vector.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Final,
    Mean,
    Max,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn max_length() -> usize {
    512
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, _: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    for (field, n) in [("embedding_dim", c.embedding_dim), ("hidden_size", c.hidden_size)] {
        model::expect(&path, (1..=1 << 20).contains(&n), || format!("{field} is {n}, expected 1 to 1048576"))?;
    }
    model::expect(&path, c.num_layers > 0, || "num_layers is 0".to_owned())?;
    model::expect(&path, c.projection_dim != Some(0), || "projection_dim is 0".to_owned())?;
    model::expect(&path, c.max_length > 0, || "max_length is 0".to_owned())?;
    let tokenizer = TextTokenizer::open(files, c.max_length, c.vocab_size)?;
    let mut w = files.weights()?;
    let net = Recurrent::load(&mut w, &c)?;
    w.finish()?;
    let finish = if c.normalize { Finish::UnitLength } else { Finish::AsIs };
    Ok(Opened { tower: Tower::Text(tokenizer, Box::new(net)), finish, arithmetic: ARITHMETIC })
}

/// The network.
struct Recurrent {
    /// `[vocab_size, embedding_dim]`.
    words: Table,
    words_dim: usize,
    layers: Vec<RecurrentLayer>,
    hidden: usize,
    way: Way,
    projection: Option<Linear>,
}

impl Recurrent {
    fn load(w: &mut Weights, c: &Config) -> Result<Self, WeightsError> {
        let cell = match c.model_type {
            Type::Lstm => Cell::Lstm,
            Type::Gru => Cell::Gru,
        };
        let n_out = c.hidden_size * if c.bidirectional { 2 } else { 1 };
        let layer = |i: usize, w: &mut Weights| {
            let n_in = if i == 0 { c.embedding_dim } else { n_out };
            let shape = RecurrentShape { cell, n_in, hidden: c.hidden_size, bidirectional: c.bidirectional, biased: c.bias };
            RecurrentLayer::load(w, "rnn.", i, shape)
        };
        let projection = |n: usize, w: &mut Weights| Linear::load(w, "projection", n_out, n, Activation::None);
        Ok(Self {
            words: w.table("embedding.weight", [c.vocab_size, c.embedding_dim])?,
            words_dim: c.embedding_dim,
            layers: (0..c.num_layers).map(|i| layer(i, w)).collect::<Result<_, _>>()?,
            hidden: c.hidden_size,
            way: c.pooling,
            projection: c.projection_dim.map(|n| projection(n, w)).transpose()?,
        })
    }

    fn states_dim(&self) -> usize {
        self.layers.last().map_or(0, RecurrentLayer::n_out)
    }

    /// The state of each direction after the token that it reads last.
    fn last(&self, states: &[f32], texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let (dim, mut rest) = (self.states_dim(), states);
        let last = |ids: &Vec<u32>| {
            let (tokens, after) = rest.split_at(ids.len() * dim);
            rest = after;
            let (first, last) = (&tokens[..dim], &tokens[tokens.len() - dim..]);
            [&last[..self.hidden], &first[self.hidden..]].concat()
        };
        texts.iter().map(last).collect()
    }
}

impl Net<Vec<u32>> for Recurrent {
    fn dim(&self) -> usize {
        self.projection.as_ref().map_or(self.states_dim(), Linear::n_out)
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let mut x: Vec<f32> = Vec::with_capacity(lengths.iter().sum::<usize>() * self.words_dim);
        for id in texts.iter().flatten() {
            self.words.push(*id as usize, &mut x);
        }
        watch("hidden.0", &x);
        let (mut out, mut scratch) = (Vec::new(), RecurrentScratch::default());
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(&x, &lengths, &mut out, &mut scratch);
            std::mem::swap(&mut x, &mut out);
            watch(&format!("hidden.{}", i + 1), &x);
        }
        let pooled = match self.way {
            Way::Final => self.last(&x, texts),
            Way::Mean => Pooling::Mean.each(&x, texts, self.states_dim(), false),
            Way::Max => Pooling::Max.each(&x, texts, self.states_dim(), false),
        };
        match &self.projection {
            Some(projection) => projected(projection, &pooled.concat()),
            None => pooled,
        }
    }
}
