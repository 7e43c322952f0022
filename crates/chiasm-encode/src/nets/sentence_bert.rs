//! Sentence-BERT: texts to one vector each, by a BERT encoder, the mean over its tokens, and unit length.
//!
//! # Reference
//! Devlin, Chang, Lee and Toutanova, "BERT", NAACL 2019; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019; Wang et al.,
//! "MiniLM", NeurIPS 2020, for the weights of all-MiniLM-L6-v2. Checked against sentence-transformers on fifty sentences in
//! `testdata/goldens/encode/minilm_50.json`. Differs from it in: nothing is padded, each text is computed at its own length.
//! # Files
//! The layout of sentence-transformers: `modules.json`, `config.json`, `tokenizer.json`, `sentence_bert_config.json`,
//! `1_Pooling/config.json`, `model.safetensors`.
//! # Preprocessing
//! The tokeniser of the folder, cut to `max_seq_length` tokens with `[CLS]` and `[SEP]` among them.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | token ids | `[n]` per text, 3 to 256 of them | 0..30522 |
//! | hidden states | `[n, 384]` | any |
//! | embedding | `[384]` | unit length |
//! # Errors
//! [`OpenError`] when the files are not such a model; a text with no words in it cannot be encoded.

use chiasm_nn::{Activation, Block, BlockNames, BlockShape, LayerNorm, Mask, Order, Qkv};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Watch, run};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "sentence_bert 1";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    vocab_size: usize,
    type_vocab_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f32,
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: usize,
    #[serde(default)]
    do_lower_case: bool,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `1_Pooling/config.json`. Ways of pooling that it does not name are off.
#[derive(Deserialize)]
struct Pooling {
    word_embedding_dimension: usize,
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

/// The network and the pooling.
struct SentenceBert {
    dim: usize,
    /// `[vocab_size, dim]`.
    words: Vec<f32>,
    /// `[max_position_embeddings, dim]`, the embedding of the one token type in use already added.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Block>,
    unit_length: bool,
}

/// Opens the model.
pub(crate) fn open(files: &mut Checkpoint) -> Result<Opened, OpenError> {
    let (path, modules): (_, Vec<Module>) = files.json("modules.json")?;
    let kinds: Vec<&str> = modules.iter().map(|m| m.kind.rsplit('.').next().unwrap_or_default()).collect();
    let known = kinds == ["Transformer", "Pooling"] || kinds == ["Transformer", "Pooling", "Normalize"];
    model::expect(&path, known && modules[0].path.is_empty(), || {
        format!("the modules are {}, expected Transformer, Pooling and perhaps Normalize", kinds.join(", "))
    })?;
    let unit_length = kinds.len() == 3;

    // A fixed place, not the one that modules.json names: that file comes from strangers and could point anywhere.
    let (path, pooling): (_, Pooling) = files.json("1_Pooling/config.json")?;
    let others = pooling.pooling_mode_cls_token || pooling.pooling_mode_max_tokens || pooling.pooling_mode_mean_sqrt_len_tokens;
    model::expect(&path, pooling.pooling_mode_mean_tokens && !others, || {
        "expected pooling_mode_mean_tokens alone: other ways of pooling are not supported".to_owned()
    })?;

    let (path, config): (_, Config) = files.json("config.json")?;
    let c = &config;
    for (field, got, expected) in [
        ("model_type", &c.model_type, "bert"),
        ("hidden_act", &c.hidden_act, "gelu"),
        ("position_embedding_type", &c.position_embedding_type, "absolute"),
    ] {
        model::expect(&path, got == expected, || format!("{field} is `{got}`, expected `{expected}`"))?;
    }
    let heads = c.num_attention_heads;
    model::expect(&path, c.hidden_size > 0 && heads > 0 && c.hidden_size.is_multiple_of(heads), || {
        format!("hidden_size {} does not divide into {heads} attention heads", c.hidden_size)
    })?;
    model::expect(&path, c.hidden_size == pooling.word_embedding_dimension, || {
        format!("hidden_size is {}, the pooling expects {}", c.hidden_size, pooling.word_embedding_dimension)
    })?;

    let (path, sentence): (_, SentenceConfig) = files.json("sentence_bert_config.json")?;
    let max_tokens = sentence.max_seq_length;
    model::expect(&path, (3..=c.max_position_embeddings).contains(&max_tokens), || {
        format!("max_seq_length is {max_tokens}, expected 3 to the {} positions of config.json", c.max_position_embeddings)
    })?;

    let tokenizer = TextTokenizer::open(files, max_tokens, c.vocab_size)?.lower_case(sentence.do_lower_case);
    let mut weights = files.weights()?;
    let w = &mut weights;
    let (dim, eps) = (c.hidden_size, c.layer_norm_eps);
    let words = w.take("embeddings.word_embeddings.weight", &[c.vocab_size, dim])?;
    let mut positions = w.take("embeddings.position_embeddings.weight", &[c.max_position_embeddings, dim])?;
    // A single text is all of type 0, so that type's embedding is one more summand of every position.
    let types = w.take("embeddings.token_type_embeddings.weight", &[c.type_vocab_size, dim])?;
    for row in positions.chunks_exact_mut(dim) {
        row.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
    }
    let norm = LayerNorm::load(w, "embeddings.LayerNorm", dim, eps)?;
    let shape = BlockShape {
        dim,
        wide: c.intermediate_size,
        n_heads: heads,
        eps,
        activation: Activation::Gelu,
        order: Order::PostNorm,
    };
    let layers = (0..c.num_hidden_layers)
        .map(|i| {
            let at = |part: &str| format!("encoder.layer.{i}.{part}");
            let names = BlockNames {
                qkv: Qkv::Separate(["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")))),
                out: at("attention.output.dense"),
                norm_1: at("attention.output.LayerNorm"),
                widen: at("intermediate.dense"),
                narrow: at("output.dense"),
                norm_2: at("output.LayerNorm"),
                scales: None,
            };
            Block::load(w, &names, shape)
        })
        .collect::<Result<_, _>>()?;
    // Stored beside the weights, of no use here: the numbers 0, 1, 2, ..., and a head trained for another task.
    for unused in ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"] {
        w.skip(unused);
    }
    weights.finish()?;
    let net = SentenceBert { dim, words, positions, norm, layers, unit_length };
    Ok(Opened { tower: Tower::Text(tokenizer, Box::new(net)), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

impl Net<Vec<u32>> for SentenceBert {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let (dim, lengths): (_, Vec<usize>) = (self.dim, texts.iter().map(Vec::len).collect());
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * dim);
        for ids in texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(dim)) {
                let word = &self.words[*id as usize * dim..][..dim];
                x.extend(word.iter().zip(position).map(|(w, p)| w + p));
            }
        }
        self.norm.forward(&mut x);
        run(&self.layers, &mut x, &lengths, Mask::None, watch);
        let mut rest = x.as_slice();
        lengths
            .iter()
            .map(|n| {
                let (tokens, after) = rest.split_at(n * dim);
                rest = after;
                self.pool(tokens)
            })
            .collect()
    }
}

impl SentenceBert {
    /// The mean over the tokens, `[n, dim]`, at unit length if the model says so.
    fn pool(&self, tokens: &[f32]) -> Vec<f32> {
        let mut sum = vec![0.0f64; self.dim];
        for token in tokens.chunks_exact(self.dim) {
            sum.iter_mut().zip(token).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let scale = if self.unit_length {
            // Divided by its length, the sum over the tokens is what their mean is. The floor is the reference's.
            1.0 / sum.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12)
        } else {
            self.dim as f64 / tokens.len() as f64
        };
        sum.iter().map(|v| (v * scale) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn token_ids_are_the_references() {
        let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
        let data = std::env::var_os("CHIASM_TEST_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
        let folder = data.join("small_models/all-MiniLM-L6-v2");
        if !folder.is_dir() {
            assert!(std::env::var_os("CI").is_none(), "no test data at {}", folder.display());
            eprintln!("skipped: no test data at {}", folder.display());
            return;
        }
        #[derive(Deserialize)]
        struct Row {
            text: String,
            tokens: Vec<u32>,
        }
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/minilm_50.json");
        let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
        let Tower::Text(tokenizer, _) = open(&mut Checkpoint::new(&folder)).unwrap().tower else { panic!("not a text tower") };
        assert_eq!(rows.len(), 50);
        for row in &rows {
            assert_eq!(tokenizer.ids(&row.text).unwrap().as_ref(), Some(&row.tokens), "{}", row.text);
        }
        // One of them is longer than the model can take, and is cut there.
        assert_eq!(rows.iter().map(|row| row.tokens.len()).max(), Some(256));
    }
}
