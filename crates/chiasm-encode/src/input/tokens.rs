//! Texts to token ids, by the tokeniser that a checkpoint brings.

use chiasm_core::EncodeError;
use tokenizers::{Tokenizer, TruncationParams};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::model;

/// A tokeniser with the limits of its model.
pub(crate) struct TextTokenizer {
    tokenizer: Box<Tokenizer>,
    lower_case: bool,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`. Texts are cut to `max_tokens`, the special ones among them; a token at or beyond `vocabulary` is
    /// refused, since the network has no vector for it.
    pub(crate) fn open(files: &mut Checkpoint, max_tokens: usize, vocabulary: usize) -> Result<Self, OpenError> {
        let (path, bytes) = files.read("tokenizer.json")?;
        let damaged = |e: tokenizers::Error| model::config(&path, e.to_string());
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(damaged)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(damaged)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        model::expect(&path, largest < vocabulary, || {
            format!("it has the token {largest}, config.json has a vocabulary of {vocabulary}")
        })?;
        Ok(Self { tokenizer: Box::new(tokenizer), lower_case: false })
    }

    /// Turns texts into lower case first.
    pub(crate) fn lower_case(self, lower_case: bool) -> Self {
        Self { lower_case, ..self }
    }

    /// The token ids of a text with the special ones around it; `None` when there are no others.
    pub(crate) fn ids(&self, text: &str) -> Result<Option<Vec<u32>>, tokenizers::Error> {
        let encoding = if self.lower_case {
            self.tokenizer.encode_fast(text.to_lowercase(), true)?
        } else {
            self.tokenizer.encode_fast(text, true)?
        };
        let has_words = encoding.get_special_tokens_mask().contains(&0);
        Ok(has_words.then(|| encoding.get_ids().to_vec()))
    }

    /// The same, or why item number `item` of `encoder` cannot be encoded.
    pub(crate) fn ids_of(&self, encoder: &str, item: usize, text: &str) -> Result<Vec<u32>, EncodeError> {
        let unencodable = |reason: String| EncodeError::Unencodable { encoder: encoder.to_owned(), item, reason };
        let ids = self.ids(text).map_err(|e| unencodable(e.to_string()))?;
        ids.ok_or_else(|| unencodable("the text has no words".to_owned()))
    }
}
