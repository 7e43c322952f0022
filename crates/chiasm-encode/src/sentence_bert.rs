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

use std::path::Path;

use chiasm_core::{EncodeError, Encoder, Media, Modality, Vectors};
use chiasm_nn::{Activation, Block, BlockNames, BlockScratch, BlockShape, LayerNorm, Mask, Order, Qkv, Weights};
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::batch;
use crate::error::OpenError;
use crate::model;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "sentence_bert 1";

/// Tokens that one thread computes at once. Texts go through the dense layers together, several at a time: enough rows to
/// make the most of the weights while they are in the cache, few enough that the rows stay there too.
const TOKENS_AT_A_TIME: usize = 256;

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

/// The tokeniser, the network and the pooling.
pub(crate) struct SentenceBert {
    name: String,
    fingerprint: String,
    tokenizer: Tokenizer,
    lower_case: bool,
    dim: usize,
    /// `[vocab_size, dim]`.
    words: Vec<f32>,
    /// `[max_position_embeddings, dim]`, the embedding of the one token type in use already added.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Block>,
    unit_length: bool,
}

impl SentenceBert {
    /// Loads the model in `folder`, to be known as `name`.
    pub(crate) fn open(folder: &Path, name: &str) -> Result<Self, OpenError> {
        let mut descriptions = Vec::new();
        let mut read = |file: &str| {
            let path = folder.join(file);
            let bytes = model::read(&path)?;
            descriptions.push(bytes.clone());
            Ok::<_, OpenError>((path, bytes))
        };

        let (path, bytes) = read("modules.json")?;
        let modules: Vec<Module> = model::parse(&path, &bytes)?;
        let kinds: Vec<&str> = modules.iter().map(|m| m.kind.rsplit('.').next().unwrap_or_default()).collect();
        let known = kinds == ["Transformer", "Pooling"] || kinds == ["Transformer", "Pooling", "Normalize"];
        model::expect(&path, known && modules[0].path.is_empty(), || {
            format!("the modules are {}, expected Transformer, Pooling and perhaps Normalize", kinds.join(", "))
        })?;
        let unit_length = kinds.len() == 3;

        // A fixed place, not the one that modules.json names: that file comes from strangers and could point anywhere.
        let (path, bytes) = read("1_Pooling/config.json")?;
        let pooling: Pooling = model::parse(&path, &bytes)?;
        let others =
            pooling.pooling_mode_cls_token || pooling.pooling_mode_max_tokens || pooling.pooling_mode_mean_sqrt_len_tokens;
        model::expect(&path, pooling.pooling_mode_mean_tokens && !others, || {
            "expected pooling_mode_mean_tokens alone: other ways of pooling are not supported".to_owned()
        })?;

        let (path, bytes) = read("config.json")?;
        let config: Config = model::parse(&path, &bytes)?;
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

        let (path, bytes) = read("sentence_bert_config.json")?;
        let sentence: SentenceConfig = model::parse(&path, &bytes)?;
        let max_tokens = sentence.max_seq_length;
        model::expect(&path, (3..=c.max_position_embeddings).contains(&max_tokens), || {
            format!("max_seq_length is {max_tokens}, expected 3 to the {} positions of config.json", c.max_position_embeddings)
        })?;

        let (path, bytes) = read("tokenizer.json")?;
        let damaged = |e: tokenizers::Error| model::config(&path, e.to_string());
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(damaged)?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams { max_length: max_tokens, ..TruncationParams::default() }))
            .map_err(damaged)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        model::expect(&path, largest < c.vocab_size, || {
            format!("it has the token {largest}, config.json has a vocabulary of {}", c.vocab_size)
        })?;

        let mut weights = Weights::read(&folder.join("model.safetensors"))?;
        let descriptions: Vec<&[u8]> = descriptions.iter().map(Vec::as_slice).collect();
        let fingerprint = model::fingerprint(ARITHMETIC, &weights, &descriptions);
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
        let lower_case = sentence.do_lower_case;
        Ok(Self { name: name.to_owned(), fingerprint, tokenizer, lower_case, dim, words, positions, norm, layers, unit_length })
    }

    /// The token ids of a text, `[CLS]` first and `[SEP]` last; `None` when there are no others.
    fn tokens(&self, text: &str) -> Result<Option<Vec<u32>>, tokenizers::Error> {
        let encoding = if self.lower_case {
            self.tokenizer.encode_fast(text.to_lowercase(), true)?
        } else {
            self.tokenizer.encode_fast(text, true)?
        };
        let has_words = encoding.get_special_tokens_mask().contains(&0);
        Ok(has_words.then(|| encoding.get_ids().to_vec()))
    }

    /// Embeddings of several texts; each depends on its own tokens alone.
    fn embed(&self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let (dim, lengths): (_, Vec<usize>) = (self.dim, texts.iter().map(|ids| ids.len()).collect());
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * dim);
        for ids in texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(dim)) {
                let word = &self.words[*id as usize * dim..][..dim];
                x.extend(word.iter().zip(position).map(|(w, p)| w + p));
            }
        }
        self.norm.forward(&mut x);
        let mut scratch = BlockScratch::default();
        for layer in &self.layers {
            layer.forward(&mut x, &lengths, Mask::None, &mut scratch);
        }
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

impl Encoder for SentenceBert {
    fn name(&self) -> &str {
        &self.name
    }

    fn modality(&self) -> Modality {
        Modality::Text
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn encode(&self, batch: &[Media]) -> Result<Vectors, EncodeError> {
        let texts = batch::texts(self, batch)?;
        let tokens = texts
            .par_iter()
            .enumerate()
            .map(|(item, text)| {
                let ids = self.tokens(text).map_err(|e| batch::unencodable(self, item, &e.to_string()))?;
                ids.ok_or_else(|| batch::unencodable(self, item, "the text has no words"))
            })
            .collect::<Result<Vec<Vec<u32>>, EncodeError>>()?;
        let n_tokens: usize = tokens.iter().map(Vec::len).sum();
        let at_a_time = n_tokens.div_ceil(rayon::current_num_threads()).min(TOKENS_AT_A_TIME);
        let rows: Vec<Vec<f32>> =
            groups(&tokens, at_a_time).into_par_iter().flat_map_iter(|group| self.embed(&group)).collect();
        batch::vectors(self, &rows)
    }
}

/// Consecutive texts in groups, each closed once it has `at_a_time` tokens.
fn groups(texts: &[Vec<u32>], at_a_time: usize) -> Vec<Vec<&[u32]>> {
    let mut groups = Vec::new();
    let (mut group, mut n_tokens) = (Vec::new(), 0);
    for ids in texts {
        group.push(ids.as_slice());
        n_tokens += ids.len();
        if n_tokens >= at_a_time {
            groups.push(std::mem::take(&mut group));
            n_tokens = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
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
        let model = SentenceBert::open(&folder, "all-MiniLM-L6-v2").unwrap();
        assert_eq!(rows.len(), 50);
        for row in &rows {
            assert_eq!(model.tokens(&row.text).unwrap().as_ref(), Some(&row.tokens), "{}", row.text);
        }
        // One of them is longer than the model can take, and is cut there.
        assert_eq!(rows.iter().map(|row| row.tokens.len()).max(), Some(256));
    }

    #[test]
    fn groups_keep_the_order_and_lose_nothing() {
        let texts: Vec<Vec<u32>> = [3, 5, 300, 4, 4].iter().enumerate().map(|(i, n)| vec![i as u32; *n]).collect();
        for at_a_time in [0, 1, 8, 1000] {
            let together: Vec<Vec<u32>> = groups(&texts, at_a_time).concat().into_iter().map(<[u32]>::to_vec).collect();
            assert_eq!(together, texts);
        }
        assert_eq!(groups(&texts, 8).iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2]);
    }
}
