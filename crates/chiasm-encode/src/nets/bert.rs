//! BERT, RoBERTa and XLM-R: texts to hidden states by a bidirectional transformer, and those to one vector.
//!
//! # Reference
//! Devlin, Chang, Lee and Toutanova, "BERT", NAACL 2019; Liu et al., "RoBERTa", 2019; Conneau et al., "Unsupervised Cross-lingual
//! Representation Learning at Scale", ACL 2020. Checked layer by layer against `BertModel`, `RobertaModel` and `XLMRobertaModel` of
//! transformers. Differs from them in: nothing is padded, each text is computed at its own length; the embedding of a text is the
//! mean over all its tokens, the special ones among them, at unit length, since these models by themselves state none
//! (folders of sentence-transformers do, see [`crate::nets::sentence_bert`]).
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `bert`, `roberta` or `xlm-roberta`), `tokenizer.json`, the weights: the bare model's,
//! or those of a model with a head, whose head is left aside.
//! # Preprocessing
//! The tokeniser of the folder, cut to as many tokens as there are positions.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | token ids | `[n]` per text, 3 to 512 of them | 0 to the size of the vocabulary |
//! | hidden states | `[n, hidden_size]` | any |
//! | embedding | `[hidden_size]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::cuda::{Device, DeviceError, DeviceStack, Keep};
use chiasm_nn::{Block, BlockNames, LayerNorm, Linear, Mask, Order, Qkv, Table, Weights};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, on_all_cores, run};
use crate::nets::clip::projected;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "bert 1";

/// Padding token of RoBERTa and XLM-R where the description is silent.
const ROBERTA_PADDING: u32 = 1;

/// `config.json`. What is silent has the reference's default, which is that of BERT base.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    model_type: String,
    hidden_act: String,
    position_embedding_type: String,
    is_decoder: bool,
    pub(crate) hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) vocab_size: usize,
    type_vocab_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f32,
    pub(crate) pad_token_id: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_type: "bert".to_owned(),
            hidden_act: "gelu".to_owned(),
            position_embedding_type: "absolute".to_owned(),
            is_decoder: false,
            hidden_size: 768,
            intermediate_size: 3072,
            num_attention_heads: 12,
            num_hidden_layers: 12,
            vocab_size: 30522,
            type_vocab_size: 2,
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            pad_token_id: None,
        }
    }
}

/// Names of the block whose tensors begin with `at`, the same in all that grew from BERT.
pub(crate) fn block_names(at: &str) -> BlockNames {
    let at = |part: &str| format!("{at}{part}");
    BlockNames {
        qkv: Qkv::Separate(["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")))),
        out: at("attention.output.dense"),
        norm_1: at("attention.output.LayerNorm"),
        widen: at("intermediate.dense"),
        narrow: at("output.dense"),
        norm_2: at("output.LayerNorm"),
        scales: None,
    }
}

/// Where the positions of a text begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// At 0: BERT.
    FromZero,
    /// Behind the number of the padding token, which itself stands at that number wherever it occurs: RoBERTa, XLM-R.
    AfterPadding(u32),
}

impl Config {
    /// The base with the words of Chinese.
    pub(crate) fn chinese() -> Self {
        Self { vocab_size: 21128, ..Self::default() }
    }

    /// Where the positions begin in a model of this type.
    pub(crate) fn positions(&self, path: &Path) -> Result<Positions, OpenError> {
        match self.model_type.as_str() {
            "bert" => Ok(Positions::FromZero),
            "roberta" | "xlm-roberta" => Ok(self.after_padding()),
            other => Err(model::config(path, format!("model_type is `{other}`, expected one of bert, roberta, xlm-roberta"))),
        }
    }

    /// The positions of RoBERTa.
    pub(crate) fn after_padding(&self) -> Positions {
        Positions::AfterPadding(self.pad_token_id.unwrap_or(ROBERTA_PADDING))
    }

    /// How many tokens have a position; refused below the 3 that a text of one word has.
    pub(crate) fn max_tokens(&self, path: &Path, positions: Positions) -> Result<usize, OpenError> {
        let n = self.max_position_embeddings.saturating_sub(positions.first());
        model::expect(path, n >= 3, || {
            let first = positions.first();
            format!(
                "max_position_embeddings is {}, expected at least {}",
                self.max_position_embeddings,
                first.saturating_add(3)
            )
        })?;
        Ok(n)
    }
}

impl Positions {
    /// Row of the table that the first token of a text has.
    fn first(self) -> usize {
        match self {
            Positions::FromZero => 0,
            Positions::AfterPadding(padding) => (padding as usize).saturating_add(1),
        }
    }
}

/// The encoder: token ids to hidden states.
pub(crate) struct Bert {
    dim: usize,
    /// `[vocab_size, dim]`.
    words: Table,
    /// `[max_position_embeddings, dim]`, the embedding of the one token type in use already added.
    table: Vec<f32>,
    positions: Positions,
    norm: LayerNorm,
    blocks: Vec<Block>,
    /// The blocks on a GPU, where they were brought there.
    device: Option<DeviceStack>,
}

impl Bert {
    /// Takes the encoder's tensors, whose names begin with `prefix`; `path` is where the description stands.
    pub(crate) fn load(
        w: &mut Weights,
        path: &Path,
        c: &Config,
        positions: Positions,
        prefix: &str,
    ) -> Result<Self, OpenError> {
        let kind = &c.position_embedding_type;
        model::expect(path, kind == "absolute", || format!("position_embedding_type is `{kind}`, expected `absolute`"))?;
        model::expect(path, !c.is_decoder, || "is_decoder is true, expected an encoder".to_owned())?;
        let (dim, eps) = (c.hidden_size, c.layer_norm_eps);
        let sizes = [dim, c.intermediate_size, c.num_attention_heads];
        let shape = model::block_shape(path, "", sizes, (&c.hidden_act, eps), Order::PostNorm)?;

        let words = w.table(&format!("{prefix}embeddings.word_embeddings.weight"), [c.vocab_size, dim])?;
        let mut table = w.take(&format!("{prefix}embeddings.position_embeddings.weight"), &[c.max_position_embeddings, dim])?;
        // A single text is all of type 0, so that type's embedding is one more summand of every position.
        let types = w.take(&format!("{prefix}embeddings.token_type_embeddings.weight"), &[c.type_vocab_size, dim])?;
        for row in table.chunks_exact_mut(dim) {
            row.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
        }
        let norm = LayerNorm::load(w, &format!("{prefix}embeddings.LayerNorm"), dim, eps)?;
        let blocks = (0..c.num_hidden_layers)
            .map(|i| Block::load(w, &block_names(&format!("{prefix}encoder.layer.{i}.")), shape))
            .collect::<Result<_, _>>()?;
        // Stored beside the weights, of no use here: the numbers 0, 1, 2, ..., and a head trained for another task.
        for unused in ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"] {
            w.skip(&format!("{prefix}{unused}"));
        }
        Ok(Self { dim, words, table, positions, norm, blocks, device: None })
    }

    /// The same from the weights of a whole model, bare or with a head for some task, which is left aside.
    pub(crate) fn load_whole(mut w: Weights, path: &Path, c: &Config, positions: Positions) -> Result<Self, OpenError> {
        let named = |prefix: &&str| w.has(&format!("{prefix}embeddings.word_embeddings.weight"));
        let prefix = ["bert.", "roberta."].into_iter().find(named).unwrap_or_default();
        let net = Self::load(&mut w, path, c, positions, prefix)?;
        if !prefix.is_empty() {
            for head in ["cls.", "lm_head.", "classifier.", "qa_outputs."] {
                w.skip_prefix(head);
            }
        }
        w.finish()?;
        Ok(net)
    }

    /// Numbers per token.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The states after the last block, one `[n, dim]` after the other.
    pub(crate) fn states(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let (mut x, lengths) = self.embedded(texts);
        run(&self.blocks, &mut x, &lengths, Mask::None, watch);
        x
    }

    /// Lets the blocks compute on a GPU, for [`Self::embed_all`].
    pub(crate) fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        self.device = Some(DeviceStack::new(device, &self.blocks)?);
        Ok(true)
    }

    /// The states that go into the first block, and how many there are of each text.
    fn embedded(&self, texts: &[Vec<u32>]) -> (Vec<f32>, Vec<usize>) {
        let (dim, lengths): (_, Vec<usize>) = (self.dim, texts.iter().map(Vec::len).collect());
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * dim);
        for ids in texts {
            let mut next = self.positions.first();
            for id in ids {
                let at = match self.positions {
                    Positions::AfterPadding(padding) if *id == padding => padding as usize,
                    Positions::FromZero | Positions::AfterPadding(_) => {
                        next += 1;
                        next - 1
                    }
                };
                self.words.push_sum(*id as usize, &self.table[at * dim..][..dim], &mut x);
            }
        }
        self.norm.forward(&mut x);
        (x, lengths)
    }
}

/// How the states of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean over the tokens.
    Mean,
    /// The first token's.
    First,
    /// The largest of each column.
    Max,
}

impl Pooling {
    /// One vector `[dim]` for each text from the states of all, one `[n, dim]` after the other; at unit length if that is asked.
    pub(crate) fn each(self, states: &[f32], texts: &[Vec<u32>], dim: usize, unit_length: bool) -> Vec<Vec<f32>> {
        let mut rest = states;
        let one = |ids: &Vec<u32>| {
            let (tokens, after) = rest.split_at(ids.len() * dim);
            rest = after;
            self.pool(tokens, dim, unit_length)
        };
        texts.iter().map(one).collect()
    }

    fn pool(self, tokens: &[f32], dim: usize, unit_length: bool) -> Vec<f32> {
        let mut pooled: Vec<f64> = tokens[..dim].iter().map(|v| f64::from(*v)).collect();
        let others = tokens[dim..].chunks_exact(dim);
        let count = match self {
            Pooling::Mean => {
                others.for_each(|token| pooled.iter_mut().zip(token).for_each(|(sum, v)| *sum += f64::from(*v)));
                tokens.len() / dim
            }
            Pooling::First => 1,
            Pooling::Max => {
                others.for_each(|token| pooled.iter_mut().zip(token).for_each(|(max, v)| *max = max.max(f64::from(*v))));
                1
            }
        };
        let scale = if unit_length {
            // Divided by its length, the sum over the tokens is what their mean is. The floor is the reference's.
            1.0 / pooled.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12)
        } else {
            1.0 / count as f64
        };
        pooled.iter().map(|v| (v * scale) as f32).collect()
    }
}

/// Opens the model.
pub(crate) fn open(files: &mut Checkpoint, _: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let positions = config.positions(&path)?;
    let tokenizer = TextTokenizer::open(files, config.max_tokens(&path, positions)?, config.vocab_size)?;
    let bert = Bert::load_whole(files.weights()?, &path, &config, positions)?;
    // The pooling that is used where a checkpoint states none.
    let net = Headed { bert, head: Pooled { pooling: Pooling::Mean, unit_length: false } };
    Ok(Opened { tower: Tower::Text(tokenizer, Box::new(net)), finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// What the three types take.
pub(crate) const MODALITIES: &[Modality] = &[Modality::Text];

/// What makes embeddings of the encoder's states.
pub(crate) trait Head: Send + Sync {
    /// Numbers per embedding, where a state has `dim`.
    fn dim(&self, dim: usize) -> usize;

    /// One embedding per text from the states of all tokens, `dim` numbers each.
    fn embeddings(&self, states: &[f32], texts: &[Vec<u32>], dim: usize) -> Vec<Vec<f32>>;
}

/// The encoder and what makes embeddings of its states: a text tower.
pub(crate) struct Headed<H> {
    pub(crate) bert: Bert,
    pub(crate) head: H,
}

impl<H: Head> Net<Vec<u32>> for Headed<H> {
    fn dim(&self) -> usize {
        self.head.dim(self.bert.dim)
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn width(&self) -> Option<usize> {
        Some(self.bert.dim)
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        self.head.embeddings(&self.bert.states(texts, watch), texts, self.bert.dim)
    }

    fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        self.bert.move_to(device)
    }

    fn embed_all(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, DeviceError> {
        let Some(device) = &self.bert.device else { return Ok(on_all_cores(self, texts)) };
        let (x, lengths) = self.bert.embedded(texts);
        Ok(self.head.embeddings(&device.forward(&x, &lengths, false, Keep::All)?, texts, self.bert.dim))
    }
}

/// The states of a text as one.
pub(crate) struct Pooled {
    pub(crate) pooling: Pooling,
    /// Whether it is brought to unit length.
    pub(crate) unit_length: bool,
}

impl Head for Pooled {
    fn dim(&self, dim: usize) -> usize {
        dim
    }

    fn embeddings(&self, states: &[f32], texts: &[Vec<u32>], dim: usize) -> Vec<Vec<f32>> {
        self.pooling.each(states, texts, dim, self.unit_length)
    }
}

/// The first token's state, projected: the text tower of Chinese CLIP and ALIGN.
pub(crate) struct Projected(pub(crate) Linear);

impl Head for Projected {
    fn dim(&self, _: usize) -> usize {
        self.0.n_out()
    }

    fn embeddings(&self, states: &[f32], texts: &[Vec<u32>], dim: usize) -> Vec<Vec<f32>> {
        projected(&self.0, &Pooling::First.each(states, texts, dim, false).concat())
    }
}
