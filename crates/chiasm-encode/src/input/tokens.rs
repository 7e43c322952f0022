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
    /// Length to which every text is filled up, and the token that fills it.
    padding: Option<(usize, u32)>,
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
        Ok(Self { tokenizer: Box::new(tokenizer), lower_case: false, padding: None })
    }

    /// Turns texts into lower case first.
    pub(crate) fn lower_case(self, lower_case: bool) -> Self {
        Self { lower_case, ..self }
    }

    /// Fills every text up to `length` tokens with `token`: for networks that were trained on padded texts and look at the padding.
    pub(crate) fn padded(self, length: usize, token: u32) -> Self {
        Self { padding: Some((length, token)), ..self }
    }

    /// The number of a token that is written so, if the vocabulary has it.
    pub(crate) fn token(&self, written: &str) -> Option<u32> {
        self.tokenizer.token_to_id(written)
    }

    /// The token ids of a text with the special ones around it; `None` when there are no others.
    pub(crate) fn ids(&self, text: &str) -> Result<Option<Vec<u32>>, tokenizers::Error> {
        let encoding = if self.lower_case {
            self.tokenizer.encode_fast(text.to_lowercase(), true)?
        } else {
            self.tokenizer.encode_fast(text, true)?
        };
        let has_words = encoding.get_special_tokens_mask().contains(&0);
        Ok(has_words.then(|| {
            let mut ids = encoding.get_ids().to_vec();
            if let Some((length, token)) = self.padding {
                ids.resize(length, token);
            }
            ids
        }))
    }

    /// The same, or why item number `item` of `encoder` cannot be encoded.
    pub(crate) fn ids_of(&self, encoder: &str, item: usize, text: &str) -> Result<Vec<u32>, EncodeError> {
        let unencodable = |reason: String| EncodeError::Unencodable { encoder: encoder.to_owned(), item, reason };
        let ids = self.ids(text).map_err(|e| unencodable(e.to_string()))?;
        ids.ok_or_else(|| unencodable("the text has no words".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_filled_up_to_the_length() {
        let folder = tempfile::tempdir().unwrap();
        let words = r#"{"unk": 0, "</s>": 1, "a": 2, "b": 3}"#;
        let end = r#"{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}"#;
        let tokenizer = format!(
            r#"{{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {{"type": "Whitespace"}}, "post_processor": {end},
            "decoder": null, "model": {{"type": "WordLevel", "vocab": {words}, "unk_token": "unk"}}}}"#
        );
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        let open = || TextTokenizer::open(&mut Checkpoint::new(folder.path()), 5, 4).unwrap();
        assert_eq!(open().ids("a b").unwrap(), Some(vec![2, 3, 1]));
        let padded = open().lower_case(true).padded(5, 3);
        assert_eq!(padded.ids("A b").unwrap(), Some(vec![2, 3, 1, 3, 3]));
        assert_eq!(padded.ids("a b a b a b").unwrap(), Some(vec![2, 3, 2, 3, 1]));
        assert_eq!(padded.ids("").unwrap(), None);
        assert_eq!((padded.token("</s>"), padded.token("<pad>")), (Some(1), None));
    }
}
