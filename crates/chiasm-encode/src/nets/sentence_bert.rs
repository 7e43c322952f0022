//! Sentence-BERT: texts to one vector each, by BERT or one of its kin, a way of pooling over the tokens, and perhaps unit length.
//!
//! # Reference
//! The encoders are those of [`crate::nets::bert`]. Reimers and Gurevych, "Sentence-BERT", EMNLP 2019; Wang et al.,
//! "MiniLM", NeurIPS 2020, for the weights of all-MiniLM-L6-v2. Checked against sentence-transformers on fifty sentences in
//! `testdata/goldens/encode/minilm_50.json`; the other ways of pooling against their definition over the states of transformers. Differs from it in: nothing is padded, each text is computed at its own length.
//! # Files
//! The layout of sentence-transformers: `modules.json`, `config.json`, `tokenizer.json`, `sentence_bert_config.json`,
//! `1_Pooling/config.json`, `model.safetensors`.
//! # Preprocessing
//! The tokeniser of the folder, cut to `max_seq_length` tokens the special ones among them.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | token ids | `[n]` per text, 3 to `max_seq_length` of them | 0 to the size of the vocabulary |
//! | hidden states | `[n, hidden_size]` | any |
//! | embedding | `[hidden_size]` | unit length where `modules.json` ends in `Normalize` |
//! # Errors
//! [`OpenError`] when the files are not such a model; a text with no words in it cannot be encoded.

use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::{Finish, Opened, Tower};
use crate::nets::bert::{Bert, Config, Headed, Pooled, Pooling};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "sentence_bert 1";

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
struct PoolingConfig {
    word_embedding_dimension: usize,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

impl PoolingConfig {
    /// The one way that is on, where it is one of those known.
    fn pooling(&self) -> Option<Pooling> {
        if self.pooling_mode_mean_sqrt_len_tokens || self.pooling_mode_weightedmean_tokens || self.pooling_mode_lasttoken {
            return None;
        }
        match [self.pooling_mode_mean_tokens, self.pooling_mode_cls_token, self.pooling_mode_max_tokens] {
            [true, false, false] => Some(Pooling::Mean),
            [false, true, false] => Some(Pooling::First),
            [false, false, true] => Some(Pooling::Max),
            _ => None,
        }
    }
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
    let (path, stated): (_, PoolingConfig) = files.json("1_Pooling/config.json")?;
    let pooling = stated.pooling().ok_or_else(|| {
        let one = "expected pooling_mode_mean_tokens alone, pooling_mode_cls_token alone or pooling_mode_max_tokens alone";
        model::config(&path, format!("{one}: other ways of pooling are not supported"))
    })?;

    let (path, config): (_, Config) = files.json("config.json")?;
    let (c, of_config) = (&config, path);
    let positions = c.positions(&of_config)?;
    let n_positions = c.max_tokens(&of_config, positions)?;

    let (path, sentence): (_, SentenceConfig) = files.json("sentence_bert_config.json")?;
    let max_tokens = sentence.max_seq_length;
    model::expect(&path, (3..=n_positions).contains(&max_tokens), || {
        format!("max_seq_length is {max_tokens}, expected 3 to the {n_positions} positions of config.json")
    })?;

    let tokenizer = TextTokenizer::open(files, max_tokens, c.vocab_size)?.lower_case(sentence.do_lower_case);
    let bert = Bert::load_whole(files.weights()?, &of_config, c, positions)?;
    model::expect(&of_config, c.hidden_size == stated.word_embedding_dimension, || {
        format!("hidden_size is {}, the pooling expects {}", c.hidden_size, stated.word_embedding_dimension)
    })?;
    let net = Headed { bert, head: Pooled { pooling, unit_length } };
    Ok(Opened { tower: Tower::Text(tokenizer, Box::new(net)), finish: Finish::AsIs, arithmetic: ARITHMETIC })
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
