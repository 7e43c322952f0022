//! The `tokenizer.json` that stands for a folder's older files of a tokeniser.
//!
//! | files | tokeniser |
//! | --- | --- |
//! | `vocab.txt` | BERT's word pieces, as `tokenizer_config.json` says |
//! | `vocab.json` with `merges.txt` | byte pairs: CLIP's where the vocabulary has `<\|startoftext\|>`, else RoBERTa's |
//! | `spiece.model` | SentencePiece's unigram: XLNet's where it has `<cls>`, else that of T5 and SigLIP, which put `</s>` behind a text |
//! | `sentencepiece.bpe.model` | the same as XLM-R numbers it (unigram in spite of its name) |
//!
//! # Reference
//! The tokenisers of transformers of these names, whose ids are the same (goldens by `reference/encode_tokenisers.py`). XLNet's splits digits
//! from a comma behind them, as those of its published files do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::sentencepiece::{self, Kind, Model, Piece};
use crate::model;

/// XLM-R's file.
const XLM_R: &str = "sentencepiece.bpe.model";
/// Everyone else's.
const SPIECE: &str = "spiece.model";
/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";

/// What is read of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    do_lower_case: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    strip_accents: Option<bool>,
    add_prefix_space: Option<bool>,
}

/// The tokeniser of a folder in the form of `tokenizer.json`, and the file that it comes from.
pub(super) fn description(files: &mut Checkpoint) -> Result<(PathBuf, Vec<u8>), OpenError> {
    const WHOLE: &str = "tokenizer.json";
    let pairs = files.has("vocab.json") && files.has("merges.txt");
    if files.has(WHOLE) || !(pairs || ["vocab.txt", XLM_R, SPIECE].iter().any(|file| files.has(file))) {
        let (path, bytes) = files.read(WHOLE)?;
        check_replacements(&path, &bytes)?;
        return Ok((path, bytes));
    }
    const CONFIG: &str = "tokenizer_config.json";
    let config: Config = if files.has(CONFIG) { files.json(CONFIG)?.1 } else { Config::default() };
    let (path, vocabulary, tokenizer) = if files.has("vocab.txt") {
        word_pieces(files, &config)?
    } else if pairs {
        byte_pairs(files, &config)?
    } else {
        unigram(files, &config)?
    };
    // Tokens that were added to the vocabulary later.
    const ADDED: &str = "added_tokens.json";
    if files.has(ADDED) {
        let (path, added): (_, BTreeMap<String, u64>) = files.json(ADDED)?;
        let unknown = added.iter().find(|(token, id)| vocabulary.get(*token).and_then(Value::as_u64) != Some(**id));
        model::expect(&path, unknown.is_none(), || {
            let (token, id) = unknown.map_or(("", 0), |(token, id)| (token, *id));
            format!("it adds `{token}` as {id}, which the vocabulary does not have so: take a folder with tokenizer.json")
        })?;
    }
    let bytes = serde_json::to_vec(&tokenizer).map_err(|e| model::config(&path, e.to_string()))?;
    Ok((path, bytes))
}

/// Where it comes from, the number of each token, and `tokenizer.json`.
type Described = (PathBuf, Map<String, Value>, Value);

/// A whole description of the parts that differ.
fn whole(added: Vec<Value>, normalizer: Value, pre_tokenizer: Value, post_processor: Value, model: Value) -> Value {
    json!({
        "version": "1.0", "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor, "decoder": null, "model": model,
    })
}

/// Those of the tokens that the vocabulary has, which are taken out of a text before anything is done to it.
fn special(vocabulary: &Map<String, Value>, tokens: &[&str]) -> Vec<Value> {
    let describe = |token: &str| {
        let id = vocabulary.get(token)?;
        Some(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
        }))
    };
    tokens.iter().filter_map(|token| describe(token)).collect()
}

/// The number of a token that must be there.
fn id(path: &Path, vocabulary: &Map<String, Value>, token: &str) -> Result<Value, OpenError> {
    vocabulary.get(token).cloned().ok_or_else(|| model::config(path, format!("it has no token `{token}`")))
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, OpenError> {
    String::from_utf8(bytes).map_err(|e| model::config(path, e.to_string()))
}

/// BERT's, or as BERT does where the description is silent.
fn word_pieces(files: &mut Checkpoint, config: &Config) -> Result<Described, OpenError> {
    let (path, bytes) = files.read("vocab.txt")?;
    let text = text(&path, bytes)?;
    let vocabulary: Map<String, Value> = text
        .trim_end_matches('\n')
        .split('\n')
        .enumerate()
        .map(|(id, word)| (word.trim_end_matches('\r').to_owned(), id.into()))
        .collect();
    let (first, last) = (id(&path, &vocabulary, "[CLS]")?, id(&path, &vocabulary, "[SEP]")?);
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": config.tokenize_chinese_chars.unwrap_or(true),
        "strip_accents": config.strip_accents,
        "lowercase": config.do_lower_case.unwrap_or(true),
    });
    let post_processor = json!({ "type": "BertProcessing", "sep": ["[SEP]", last], "cls": ["[CLS]", first] });
    let model = json!({
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary,
    });
    let added = special(&vocabulary, &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
    let tokenizer = whole(added, normalizer, json!({ "type": "BertPreTokenizer" }), post_processor, model);
    Ok((path, vocabulary, tokenizer))
}

/// CLIP's or RoBERTa's.
fn byte_pairs(files: &mut Checkpoint, config: &Config) -> Result<Described, OpenError> {
    let (path, vocabulary): (_, BTreeMap<String, u32>) = files.json("vocab.json")?;
    let vocabulary: Map<String, Value> = vocabulary.into_iter().map(|(token, id)| (token, id.into())).collect();
    let (merges_path, bytes) = files.read("merges.txt")?;
    let text = text(&merges_path, bytes)?;
    let mut merges = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if (i == 0 && line.starts_with("#version")) || line.is_empty() {
            continue;
        }
        let pair = line.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '));
        let (a, b) = pair.ok_or_else(|| model::config(&merges_path, format!("line {} is no two parts", i + 1)))?;
        merges.push([a, b]);
    }
    const START: &str = "<|startoftext|>";
    let is_clip = vocabulary.contains_key(START);
    let (first, last) = if is_clip { (START, "<|endoftext|>") } else { ("<s>", "</s>") };
    let (first_id, last_id) = (id(&path, &vocabulary, first)?, id(&path, &vocabulary, last)?);
    let prefix = config.add_prefix_space.unwrap_or(false);
    let post_processor = json!({
        "type": "RobertaProcessing", "sep": [last, last_id], "cls": [first, first_id], "trim_offsets": !is_clip, "add_prefix_space": prefix,
    });
    let bytes =
        |prefix: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true });
    let (normalizer, pre_tokenizer) = if is_clip {
        let spaces = json!({ "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " });
        let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
        let split = json!({ "type": "Split", "pattern": { "Regex": words }, "behavior": "Removed", "invert": true });
        (sequence("normalizers", vec![json!({ "type": "NFC" }), spaces, json!({ "type": "Lowercase" })]), {
            sequence("pretokenizers", vec![split, bytes(false)])
        })
    } else {
        (Value::Null, bytes(prefix))
    };
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": is_clip.then_some(last), "continuing_subword_prefix": "",
        "end_of_word_suffix": if is_clip { "</w>" } else { "" }, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges,
    });
    let added =
        special(&vocabulary, if is_clip { &[START, "<|endoftext|>"] } else { &["<s>", "<pad>", "</s>", "<unk>", "<mask>"] });
    let tokenizer = whole(added, normalizer, pre_tokenizer, post_processor, model);
    Ok((path, vocabulary, tokenizer))
}

fn sequence(parts: &str, of: Vec<Value>) -> Value {
    json!({ "type": "Sequence", parts: of })
}

/// SentencePiece's.
fn unigram(files: &mut Checkpoint, config: &Config) -> Result<Described, OpenError> {
    let is_xlm_r = files.has(XLM_R);
    let (path, bytes) = files.read(if is_xlm_r { XLM_R } else { SPIECE })?;
    let refuse = |reason: String| model::config(&path, reason);
    let Model { mut pieces, mut unknown, charsmap } = sentencepiece::read(&bytes).map_err(refuse)?;
    let is_xlnet = !is_xlm_r && pieces.iter().any(|piece| piece.text == "<cls>");
    if is_xlm_r {
        // The first three (`<unk>`, `<s>`, `</s>`) stand in another order, with padding among them; the word to be guessed comes last.
        let own = pieces.len() >= 3 && pieces[..3].iter().all(|piece| matches!(piece.kind, Kind::Unknown | Kind::Control));
        model::expect(&path, own && unknown < 3, || {
            "it does not begin with the three pieces `<unk>`, `<s>` and `</s>`".to_owned()
        })?;
        let named = |text: &str, kind: Kind| Piece { text: text.to_owned(), score: 0.0, kind };
        let firsts = ["<s>", "<pad>", "</s>"].map(|text| named(text, Kind::Control)).into_iter();
        pieces.splice(..3, firsts.chain([named("<unk>", Kind::Unknown)]));
        pieces.push(named("<mask>", Kind::Control));
        unknown = 3;
    }
    if is_xlnet {
        for piece in &mut pieces {
            let mut ends = piece.text.chars().rev();
            if ends.next() == Some(',') && ends.next().is_some_and(|c| c.is_ascii_digit()) {
                piece.score -= 100.0;
            }
        }
    }
    let vocabulary: Map<String, Value> = pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id.into())).collect();
    let mut added = Vec::new();
    for piece in &pieces {
        let mut describe = |is_special: bool| {
            let mut token = special(&vocabulary, &[&piece.text]);
            token.iter_mut().for_each(|token| token["special"] = is_special.into());
            added.extend(token);
        };
        match piece.kind {
            Kind::Unknown | Kind::Control => describe(true),
            Kind::UserDefined => describe(false),
            Kind::Normal | Kind::Unused | Kind::Byte => {}
        }
    }

    let mut steps = Vec::new();
    if is_xlnet {
        let quote = |from: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": "\"" });
        steps.extend([quote("``"), quote("''"), json!({ "type": "NFKD" }), json!({ "type": "StripAccents" })]);
        if config.do_lower_case == Some(true) {
            steps.push(json!({ "type": "Lowercase" }));
        }
    }
    if !charsmap.is_empty() {
        steps.push(json!({ "type": "Precompiled", "precompiled_charsmap": sentencepiece::to_base64(&charsmap) }));
    }
    let marks = json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": true });
    let pre_tokenizer = sequence("pretokenizers", vec![json!({ "type": "WhitespaceSplit" }), marks]);
    let (before, behind): (&[&str], &[(&str, u32)]) = match (is_xlm_r, is_xlnet) {
        (true, _) => (&["<s>"], &[("</s>", 0)]),
        (_, true) => (&[], &[("<sep>", 0), ("<cls>", 2)]),
        (_, _) => (&[], &[("</s>", 0)]),
    };
    let scores: Vec<Value> = pieces.iter().map(|piece| json!([piece.text, piece.score])).collect();
    let model = json!({ "type": "Unigram", "unk_id": unknown, "vocab": scores, "byte_fallback": false });
    let post_processor = template(&path, &vocabulary, before, behind)?;
    let tokenizer = whole(added, sequence("normalizers", steps), pre_tokenizer, post_processor, model);
    Ok((path, vocabulary, tokenizer))
}

/// What puts special tokens before and behind a text; those behind it with the number of their segment.
fn template(path: &Path, vocabulary: &Map<String, Value>, before: &[&str], behind: &[(&str, u32)]) -> Result<Value, OpenError> {
    let before = before.iter().map(|token| (*token, 0));
    let behind = behind.iter().copied();
    let mut tokens = Map::new();
    for (token, _) in before.clone().chain(behind.clone()) {
        let id = id(path, vocabulary, token)?;
        tokens.insert(token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }));
    }
    let token = |(token, segment): (&str, u32)| json!({ "SpecialToken": { "id": token, "type_id": segment } });
    let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let single: Vec<Value> = before.map(token).chain([text("A")]).chain(behind.map(token)).collect();
    // No pair of texts is ever asked for, but the library wants to know what it would be.
    let pair = [text("A"), text("B")];
    Ok(json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens }))
}

/// Refuses a `tokenizer.json` whose table of replacements would lead beyond its end.
fn check_replacements(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    #[derive(Deserialize)]
    struct Normalised {
        normalizer: Option<Value>,
    }
    // What else may be wrong the library says better.
    let Ok(Normalised { normalizer: Some(normalizer) }) = serde_json::from_slice(bytes) else { return Ok(()) };
    let mut open = vec![&normalizer];
    while let Some(step) = open.pop() {
        open.extend(step.get("normalizers").and_then(Value::as_array).into_iter().flatten());
        if let Some(table) = step.get("precompiled_charsmap").and_then(Value::as_str) {
            let table =
                sentencepiece::from_base64(table).ok_or_else(|| model::config(path, "precompiled_charsmap is no base64"))?;
            sentencepiece::check_charsmap(&table).map_err(|reason| model::config(path, reason))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Cleaning, TextTokenizer};

    /// What `reference/encode_tokenisers.py` writes.
    #[derive(Deserialize)]
    struct Golden {
        files: BTreeMap<String, String>,
        texts: Vec<String>,
        ids: Vec<Vec<u32>>,
    }

    fn written(files: &BTreeMap<String, String>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let bytes = text.as_bytes().to_vec();
            let bytes = if name.ends_with(".model") { sentencepiece::from_base64(text).unwrap() } else { bytes };
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    /// A table between the smallest and the largest of the goldens' vocabularies.
    fn opened(folder: &Path) -> Result<TextTokenizer, OpenError> {
        TextTokenizer::open(&mut Checkpoint::new(folder), 4096, 1200)
    }

    fn goldens(folder: &Path) -> Vec<(String, Golden)> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
        files.iter().map(|path| (name(path), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())).collect()
    }

    fn compare(folder: &Path) -> usize {
        let goldens = goldens(folder);
        for (name, golden) in &goldens {
            let folder = written(&golden.files);
            let mut tokenizer = opened(folder.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
            if name == "siglip" {
                tokenizer = tokenizer.cleaned(Cleaning::Unpunctuated);
            }
            assert_eq!(golden.texts.len(), golden.ids.len());
            let mut n_off = 0;
            for (text, want) in golden.texts.iter().zip(&golden.ids) {
                match tokenizer.ids(text).unwrap() {
                    Some(got) if got == *want => {}
                    // Of the special tokens around it nothing is left of a text without words.
                    None if want.len() <= 2 => {}
                    got => {
                        eprintln!("{name}: {text:?} is {got:?}, expected {want:?}");
                        n_off += 1;
                    }
                }
            }
            assert_eq!(n_off, 0, "{name}: texts with other ids");
            eprintln!("{name}: the ids of {} texts are equal", golden.texts.len());
        }
        goldens.len()
    }

    const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/tokenisers");

    #[test]
    fn older_tokenisers_equal_their_reference() {
        assert!(compare(Path::new(GOLDENS)) >= 10);
    }

    /// With large tables of replacements, where the variable names a folder of such goldens.
    #[test]
    fn older_tokenisers_of_full_size_equal_their_reference() {
        match std::env::var_os("CHIASM_PARITY_TOKENS") {
            Some(folder) => assert!(compare(Path::new(&folder)) > 0, "no goldens there"),
            None => eprintln!("skipped: CHIASM_PARITY_TOKENS names no folder of goldens of tokenisers"),
        }
    }

    /// A file in which any byte is another, or which ends anywhere, is refused or read; nothing ends the program, then or with a text.
    #[test]
    fn damaged_files_end_nothing() {
        let (_, golden) = goldens(Path::new(GOLDENS)).into_iter().find(|(name, _)| name == "xlnet").unwrap();
        let whole = sentencepiece::from_base64(&golden.files[SPIECE]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut state = 1u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let (mut n_read, n) = (0, 400);
        for round in 0..n {
            let mut bytes = whole.clone();
            if round % 4 == 0 {
                bytes.truncate(random(whole.len()));
            }
            for _ in 0..random(4) {
                if let Some(byte) = bytes.len().checked_sub(1).map(|last| random(last + 1)) {
                    // Half of the time where the numbers stand that lead through the table of replacements.
                    let at = if round % 2 == 0 { byte } else { bytes.len() - 1 - byte % (bytes.len().min(4096)) };
                    bytes[at] = random(256) as u8;
                }
            }
            std::fs::write(folder.path().join(SPIECE), &bytes).unwrap();
            if let Ok(tokenizer) = opened(folder.path()) {
                n_read += 1;
                for text in &golden.texts {
                    let _ = tokenizer.ids(text);
                }
            }
        }
        // Most bytes are scores and letters.
        assert!(n_read > n / 8 && n_read < n, "{n_read} of {n} were read");
    }

    #[test]
    fn files_that_fit_no_tokeniser_are_refused() {
        let refused = |files: &[(&str, &str)], reason: &str| {
            let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            let message = opened(written(&files).path()).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(reason), "{message}, expected {reason}");
        };
        let vocab = r#"{"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}"#;
        refused(&[("vocab.json", vocab), ("merges.txt", "#version: 0.2\na b\nab\n")], "line 3 is no two parts");
        refused(&[("vocab.json", vocab), ("merges.txt", "a c\n")], "vocab.json");
        refused(&[("vocab.json", r#"{"a": 0}"#), ("merges.txt", "")], "it has no token `<s>`");
        refused(&[("vocab.json", r#"{"<|startoftext|>": 0}"#), ("merges.txt", "")], "it has no token `<|endoftext|>`");
        refused(&[("vocab.json", r#"{"a": -1}"#), ("merges.txt", "")], "vocab.json");
        let added = ("added_tokens.json", r#"{"a": 2, "<x>": 9}"#);
        refused(&[("vocab.json", vocab), ("merges.txt", "a b\n"), added], "it adds `<x>` as 9");
        refused(&[("vocab.json", vocab)], "tokenizer.json");
        refused(&[(SPIECE, "AAAA")], "no model of SentencePiece, or damaged");
        // A table of one cell, from which any text leads beyond the end.
        let normalizer = r#"{"type": "Precompiled", "precompiled_charsmap": "BAAAAAEAAAA="}"#;
        let nested = format!(r#"{{"type": "Sequence", "normalizers": [{normalizer}]}}"#);
        for normalizer in [normalizer, &nested] {
            let model = r#"{"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}"#;
            let tokenizer = format!(
                r#"{{"version": "1.0", "added_tokens": [], "normalizer": {normalizer}, "pre_tokenizer": null, "post_processor": null,
                "decoder": null, "model": {model}}}"#
            );
            refused(&[("tokenizer.json", &tokenizer)], "the table of replacements is damaged: a cell leads beyond its end");
        }
    }
}
