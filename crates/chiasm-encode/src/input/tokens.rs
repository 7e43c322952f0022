//! Texts to token ids, by the tokeniser that a checkpoint brings.

use std::borrow::Cow;
use std::path::PathBuf;

use chiasm_core::EncodeError;
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::vocabularies;
use crate::model;

/// Rows of a table of vectors that may be without a token: tables are filled up to round numbers. A tokeniser that leaves more is that
/// of another model.
const UNUSED_MAX: usize = 1024;

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
    /// The same where `_` is punctuation too: SigLIP as transformers reads it.
    Unpunctuated,
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
            Cleaning::Unpunctuated => {
                // SentencePiece's own mark for a space is one.
                let kept: String = text.replace('\u{2581}', " ").chars().filter(|c| !c.is_ascii_punctuation()).collect();
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
    path: PathBuf,
    tokenizer: Box<Tokenizer>,
    cleaning: Cleaning,
    /// A token, and what is put in its place.
    replaced: Option<[u32; 2]>,
    /// Length to which every text is filled up, and the token that fills it.
    padding: Option<(usize, u32)>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`, or the older files that [`vocabularies`] knows where it is not there. Texts are cut to `max_tokens`, the special ones among them. A
    /// token at or beyond `vocabulary` is refused, since the network has no vector for it, and so is a tokeniser that leaves many
    /// vectors without a token: it is that of another model, and its numbers would mean other words.
    pub(crate) fn open(files: &mut Checkpoint, max_tokens: usize, vocabulary: usize) -> Result<Self, OpenError> {
        let (path, bytes) = vocabularies::description(files)?;
        let damaged = |e: tokenizers::Error| model::config(&path, e.to_string());
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(damaged)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(damaged)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        model::expect(&path, largest < vocabulary, || {
            format!("it has the token {largest}, config.json has a vocabulary of {vocabulary}: {OTHERS}")
        })?;
        model::expect(&path, vocabulary - largest <= UNUSED_MAX, || {
            format!("its last token is {largest}, config.json has a vocabulary of {vocabulary}: {OTHERS}")
        })?;
        Ok(Self { path, tokenizer: Box::new(tokenizer), cleaning: Cleaning::None, replaced: None, padding: None })
    }

    /// Refuses a tokeniser that does not end a text with the token `end`, whose state the network takes for the text.
    pub(crate) fn ending_in(self, end: u32) -> Result<Self, OpenError> {
        let known = self.tokenizer.id_to_token(end).is_some();
        // Without a post-processor nothing is put behind a text, whoever the tokeniser belongs to.
        let put = self.tokenizer.get_post_processor().is_none()
            || self.tokenizer.encode_fast("a", true).is_ok_and(|probe| probe.get_ids().contains(&end));
        model::expect(&self.path, known && put, || {
            format!("no text ends with the token {end}, which is eos_token_id in config.json: {OTHERS}")
        })?;
        Ok(self)
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

/// The cure.
const OTHERS: &str = "they are of two models; take both files from one";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

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
        assert_eq!(Cleaning::Unpunctuated.clean(text), "adogs toy \u{00e9}t\u{00e9} \u{00bf}ok");
        assert_eq!(Cleaning::LowerCaseSpaces.clean(text), "a_dog's toy, \u{00e9}t\u{00e9} \u{00bf}ok?");
        assert_eq!(Cleaning::LowerCase.clean("\u{00c9}t\u{00e9} A "), "\u{00e9}t\u{00e9} a ");
        assert_eq!(Cleaning::None.clean(text), text);
    }

    #[test]
    fn a_tokeniser_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |post_processor: &str| {
            let tokenizer = format!(
                r#"{{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {{"type": "Whitespace"}}, "post_processor": {post_processor},
                "decoder": null, "model": {{"type": "WordLevel", "vocab": {{"unk": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}}, "unk_token": "unk"}}}}"#
            );
            std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        };
        let open = |vocabulary| TextTokenizer::open(&mut Checkpoint::new(folder.path()), 5, vocabulary);
        let said = |result: Result<TextTokenizer, OpenError>| result.err().map(|e| e.to_string()).unwrap_or_default();
        write("null");
        assert!(said(open(3)).contains("it has the token 3, config.json has a vocabulary of 3: they are of two models"));
        assert!(open(3 + UNUSED_MAX).is_ok());
        assert!(said(open(4 + UNUSED_MAX)).contains("its last token is 3, config.json has a vocabulary of 1028"));
        assert!(open(4).unwrap().ending_in(2).is_ok());
        assert!(said(open(4).unwrap().ending_in(4)).contains("no text ends with the token 4, which is eos_token_id"));
        write(r#"{"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}"#);
        assert!(open(4).unwrap().ending_in(2).is_ok());
        assert!(said(open(4).unwrap().ending_in(0)).contains("no text ends with the token 0"));
    }

    #[test]
    fn a_vocabulary_alone_makes_the_tokeniser() {
        let folder = tempfile::tempdir().unwrap();
        let open = |vocabulary| TextTokenizer::open(&mut Checkpoint::new(folder.path()), 9, vocabulary);
        std::fs::write(folder.path().join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhund\n##e\n猫\n,\nHund\n").unwrap();
        let tokenizer = open(9).unwrap();
        assert_eq!(tokenizer.ids("Hunde,猫猫 x").unwrap(), Some(vec![2, 4, 5, 7, 6, 6, 1, 3]));
        assert_eq!(tokenizer.ids(" ").unwrap(), None);
        std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
        assert_eq!(open(9).unwrap().ids("Hunde").unwrap(), Some(vec![2, 8, 5, 3]));
        std::fs::write(folder.path().join("vocab.txt"), "[PAD]\n[UNK]\n[SEP]\n").unwrap();
        assert!(open(9).err().unwrap().to_string().contains("it has no token `[CLS]`"));
    }

    #[test]
    fn a_vocabulary_gives_the_tokens_of_the_tokeniser_made_from_it() {
        let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
        let data = std::env::var_os("CHIASM_TEST_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
        let from = data.join("small_models/all-MiniLM-L6-v2");
        if !from.is_dir() {
            assert!(std::env::var_os("CI").is_none(), "no test data at {}", from.display());
            eprintln!("skipped: no test data at {}", from.display());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for file in ["vocab.txt", "tokenizer_config.json"] {
            std::fs::write(folder.path().join(file), std::fs::read(from.join(file)).unwrap()).unwrap();
        }
        let open = |folder: &Path| TextTokenizer::open(&mut Checkpoint::new(folder), 128, 30522).unwrap();
        let (made, given) = (open(folder.path()), open(&from));
        for text in [
            "A dog runs on grass.",
            "ÀÉÎõü straße",
            "雪里的一只狗",
            "don't stop-believing; it's 3.14159!",
            "x\u{200b}y\tz\u{a0}",
            "[SEP] unbelievably",
            "Ω≈ç√∫ 😀👍",
            "antidisestablishmentarianism",
        ] {
            assert_eq!(made.ids(text).unwrap(), given.ids(text).unwrap(), "{text}");
        }
    }
}
