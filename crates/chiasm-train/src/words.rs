//! A tokeniser learned from the texts that are learned from.
//!
//! Byte pairs (Sennrich, Haddow and Birch, ACL 2016) over bytes, so that every script can be written; texts are brought to one form (NFKC) and to lower
//! case, and a Chinese character or Japanese kana is a word of its own, since words there have no spaces between them.

use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, TokenizerBuilder};

use crate::error::{Result, TrainError};

/// Every byte is a word, and the empty text has one too.
pub(crate) const LEAST: usize = 257;
/// Stands for a text of no words, so that it has an embedding like any other.
const START: &str = "<s>";

/// Learns at most `vocabulary` words from texts and writes `tokenizer.json`; gives how many there are. Each text begins with a word of its own.
pub(crate) fn learn<'a>(texts: impl Iterator<Item = &'a str> + Send, vocabulary: usize, to: &Path) -> Result<usize> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| TrainError::Data {
        path: to.to_owned(),
        reason: format!("no tokeniser: {e}"),
    };
    let apart = Split::new(
        SplitPattern::Regex(r"\p{Han}|\p{Hiragana}|\p{Katakana}".to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(failed)?;
    let bytes = ByteLevel::new(false, true, true);
    let start = (START.to_owned(), 0);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(NormalizerWrapper::Sequence(Normalizers::new(vec![
            NormalizerWrapper::NFKC(NFKC),
            NormalizerWrapper::Lowercase(Lowercase),
        ]))))
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(PreTokenizers::new(vec![
            PreTokenizerWrapper::Split(apart),
            PreTokenizerWrapper::ByteLevel(bytes),
        ]))))
        .with_post_processor(Some(
            tokenizers::processors::template::TemplateProcessing::builder()
                .try_single(format!("{START} $A"))
                .map_err(|e| failed(e.into()))?
                .special_tokens(vec![start])
                .build()
                .map_err(|e| failed(e.to_string().into()))?,
        ))
        .with_decoder(Some(bytes))
        .build()
        .map_err(failed)?;
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(START, true)])
        .build();
    let tokenizer = tokenizer.train(&mut trainer, texts.map(str::to_owned)).map_err(failed)?;
    // Under another name first: a half file would be taken for a whole one by the next run.
    let partial = to.with_extension("partial");
    tokenizer.save(&partial, false).map_err(failed)?;
    std::fs::rename(&partial, to).map_err(crate::error::io("write", to))?;
    Ok(tokenizer.get_vocab_size(true))
}
