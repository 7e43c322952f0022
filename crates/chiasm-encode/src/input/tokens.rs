//! Texts to token ids, by the tokeniser that a checkpoint brings.

use std::borrow::Cow;

use chiasm_core::EncodeError;
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::model;

/// What is done to a text before it is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleaning {
    /// Nothing.
    None,
    /// It is turned into lower case.
    LowerCase,
    /// Each run of white space becomes one space, and there is none at the ends.
    Spaces,
    /// The same, in lower case.
    LowerCaseSpaces,
    /// The same without ASCII's punctuation, where `_` is a space: SigLIP as big_vision evaluates it.
    Canonical,
}

impl Cleaning {
    fn clean(self, text: &str) -> Cow<'_, str> {
        let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match self {
            Cleaning::None => Cow::Borrowed(text),
            Cleaning::LowerCase => Cow::Owned(text.to_lowercase()),
            Cleaning::Spaces => Cow::Owned(spaced(text)),
            Cleaning::LowerCaseSpaces => Cow::Owned(spaced(text).to_lowercase()),
            Cleaning::Canonical => {
                let kept: String = text.replace('_', " ").chars().filter(|c| !c.is_ascii_punctuation()).collect();
                Cow::Owned(spaced(&kept.to_lowercase()))
            }
        }
    }
}

/// What is read of `tokenizer_config.json`.
#[derive(Deserialize)]
struct SpecialTokens {
    pad_token: Option<Written>,
    sep_token: Option<Written>,
    padding_side: Option<String>,
}

/// A token in either of the ways in which checkpoints write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Plain(String),
    Described { content: String },
}

/// A tokeniser with the limits of its model.
pub(crate) struct TextTokenizer {
    tokenizer: Box<Tokenizer>,
    cleaning: Cleaning,
    /// A token, and what is put in its place.
    replaced: Option<[u32; 2]>,
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
        Ok(Self { tokenizer: Box::new(tokenizer), cleaning: Cleaning::None, replaced: None, padding: None })
    }

    /// Turns texts into lower case first.
    pub(crate) fn lower_case(self, lower_case: bool) -> Self {
        Self { cleaning: if lower_case { Cleaning::LowerCase } else { Cleaning::None }, ..self }
    }

    /// Cleans texts first.
    pub(crate) fn cleaned(self, cleaning: Cleaning) -> Self {
        Self { cleaning, ..self }
    }

    /// Puts `by` in the place of every `token`.
    pub(crate) fn replacing(self, token: u32, by: u32) -> Self {
        Self { replaced: Some([token, by]), ..self }
    }

    /// Fills every text up to `length` tokens with `token`: for networks that were trained on padded texts and look at the padding.
    pub(crate) fn padded(self, length: usize, token: u32) -> Self {
        Self { padding: Some((length, token)), ..self }
    }

    /// The number of a token that is written so, if the vocabulary has it.
    pub(crate) fn token(&self, written: &str) -> Option<u32> {
        self.tokenizer.token_to_id(written)
    }

    /// The padding that `tokenizer_config.json` names, where there is that file and it names one.
    pub(crate) fn padding_token(&self, files: &mut Checkpoint) -> Result<Option<u32>, OpenError> {
        self.special(files, "pad_token", |config| config.pad_token)
    }

    /// The separator that it names, likewise.
    pub(crate) fn separator_token(&self, files: &mut Checkpoint) -> Result<Option<u32>, OpenError> {
        self.special(files, "sep_token", |config| config.sep_token)
    }

    fn special(
        &self,
        files: &mut Checkpoint,
        field: &str,
        of: impl Fn(SpecialTokens) -> Option<Written>,
    ) -> Result<Option<u32>, OpenError> {
        const FILE: &str = "tokenizer_config.json";
        if !files.has(FILE) {
            return Ok(None);
        }
        let (path, config): (_, SpecialTokens) = files.json(FILE)?;
        if let Some(side) = &config.padding_side {
            model::expect(&path, side == "right", || format!("padding_side is `{side}`, expected `right`"))?;
        }
        let Some(Written::Plain(written) | Written::Described { content: written }) = of(config) else { return Ok(None) };
        let unknown = || model::config(&path, format!("{field} is `{written}`, which tokenizer.json does not have"));
        self.token(&written).map(Some).ok_or_else(unknown)
    }

    /// The token ids of a text with the special ones around it; `None` when there are no others.
    pub(crate) fn ids(&self, text: &str) -> Result<Option<Vec<u32>>, tokenizers::Error> {
        let encoding = self.tokenizer.encode_fast(self.cleaning.clean(text), true)?;
        let has_words = encoding.get_special_tokens_mask().contains(&0);
        Ok(has_words.then(|| {
            let mut ids = encoding.get_ids().to_vec();
            if let Some([token, by]) = self.replaced {
                ids.iter_mut().filter(|id| **id == token).for_each(|id| *id = by);
            }
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
        let replaced = open().replacing(1, 0);
        assert_eq!(replaced.ids("a b").unwrap(), Some(vec![2, 3, 0]));
        assert_eq!((padded.token("</s>"), padded.token("<pad>")), (Some(1), None));
    }
    #[test]
    fn texts_are_cleaned_as_the_reference_does() {
        // What open_clip's `get_clean_fn` gives for these.
        let text = "  A_dog's   TOY,\n\u{00c9}t\u{00e9} \u{00bf}ok? ";
        assert_eq!(Cleaning::Spaces.clean(text), "A_dog's TOY, \u{00c9}t\u{00e9} \u{00bf}ok?");
        assert_eq!(Cleaning::Canonical.clean(text), "a dogs toy \u{00e9}t\u{00e9} \u{00bf}ok");
        assert_eq!(Cleaning::LowerCaseSpaces.clean(text), "a_dog's toy, \u{00e9}t\u{00e9} \u{00bf}ok?");
        assert_eq!(Cleaning::LowerCase.clean("\u{00c9}t\u{00e9} A "), "\u{00e9}t\u{00e9} a ");
        assert_eq!(Cleaning::None.clean(text), text);
    }
}
