//! Which files of a published model are taken: those that are read here, and the weights once.

use crate::nets::families;

/// Descriptions, in the layout of Hugging Face and of sentence-transformers.
const DESCRIPTIONS: [&str; 8] = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
];
/// What a tokeniser is made from where there is no `tokenizer.json`.
const VOCABULARIES: [&str; 7] = [
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "spiece.model",
    "sentencepiece.bpe.model",
];
/// The description of open_clip's layout.
const OPEN_CLIP: &str = "open_clip_config.json";

/// Whether there is a `config.json` beside a model in open_clip's layout: then it may describe the same model, or be timm's description of
/// the image tower alone, which only [`is_known`] can tell.
pub fn in_two_layouts(names: &[String]) -> bool {
    let has = |name: &str| names.iter().any(|n| n == name);
    has("config.json")
        && has(OPEN_CLIP)
        && chiasm_nn::WEIGHT_FILES.iter().any(|name| name.starts_with("open_clip") && has(name))
}

/// Whether a `config.json` describes an architecture that can be opened.
pub fn is_known(config: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Typed {
        model_type: String,
    }
    serde_json::from_slice::<Typed>(config).is_ok_and(|typed| families::modalities(&typed.model_type).is_some())
}

/// The files to take from a folder or a listing, or why it holds no model.
///
/// Repositories offer the same weights several times: in two formats, and some in the layouts of Hugging Face and open_clip both. One
/// of them is taken, safetensors before pickles, with the description that belongs to it. `known` says whether the `config.json` counts; where
/// it is the only description it always does.
pub fn select(names: &[String], known: bool) -> Result<Vec<String>, String> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let first = |of_open_clip: bool| {
        let fits = |name: &&&str| name.starts_with("open_clip") == of_open_clip && has(name);
        chiasm_nn::WEIGHT_FILES.iter().find(fits).copied()
    };
    let described = (has("config.json") && (known || !in_two_layouts(names))) || has("modules.json");
    let (weights, open_clip) = match (first(false), first(true)) {
        (Some(weights), _) if described => (weights, false),
        (_, Some(weights)) if has(OPEN_CLIP) => (weights, true),
        (None, None) => return Err(format!("it has no weights: none of {} is there", chiasm_nn::WEIGHT_FILES.join(", "))),
        _ => return Err("it has weights but no config.json or open_clip_config.json that describes them".to_owned()),
    };
    let mut taken: Vec<&str> = DESCRIPTIONS.iter().copied().filter(|name| has(name)).collect();
    if open_clip {
        taken.retain(|name| *name != "config.json");
        taken.push(OPEN_CLIP);
    }
    if !has("tokenizer.json") {
        taken.extend(VOCABULARIES.iter().copied().filter(|name| has(name)));
    }
    taken.push(weights);
    Ok(taken.into_iter().map(str::to_owned).collect())
}

/// Whether this is the index of weights that are cut into several files.
pub fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// The files that an index of weights names, each once.
pub fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|e| e.to_string())?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| !is_plain(name) || !(name.ends_with(".safetensors") || name.ends_with(".bin"))) {
        Some(name) => Err(format!("it names the file `{}`, which is none of weights", name.escape_default())),
        None => Ok(names),
    }
}

/// Whether a name stays where it is put, on any system: letters, digits and few signs, at most one folder deep.
pub fn is_inside(name: &str) -> bool {
    match name.split_once('/') {
        Some((folder, file)) => is_plain(folder) && is_plain(file),
        None => is_plain(name),
    }
}

fn is_plain(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 128 && name.chars().all(known) && !name.starts_with('.') && !name.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(names: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        select(&names, true).map(|taken| taken.join(" "))
    }

    #[test]
    fn the_weights_are_taken_once_with_their_description() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "onnx/model.onnx",
            "open_clip_config.json",
            "open_clip_model.safetensors",
            "open_clip_pytorch_model.bin",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ];
        let of_hugging_face = "config.json preprocessor_config.json tokenizer.json tokenizer_config.json";
        assert_eq!(taken(&all).unwrap(), format!("{of_hugging_face} model.safetensors"));
        let without = |left_out: &[&str]| taken(&all.iter().copied().filter(|n| !left_out.contains(n)).collect::<Vec<_>>());
        assert_eq!(without(&["model.safetensors"]).unwrap(), format!("{of_hugging_face} pytorch_model.bin"));
        assert_eq!(
            without(&["model.safetensors", "pytorch_model.bin"]).unwrap(),
            "preprocessor_config.json tokenizer.json tokenizer_config.json open_clip_config.json open_clip_model.safetensors"
        );
        assert!(
            without(&["tokenizer.json"]).unwrap().contains("vocab.json merges.txt special_tokens_map.json model.safetensors")
        );
        // timm's description of the image tower, with its weights, beside the whole.
        let all: Vec<String> = all.iter().map(|n| (*n).to_owned()).collect();
        assert!(
            in_two_layouts(&all) && !is_known(br#"{"architecture": "fastvit_mci1"}"#) && is_known(br#"{"model_type": "clip"}"#)
        );
        assert!(select(&all, false).unwrap().join(" ").ends_with("open_clip_config.json open_clip_model.safetensors"));
        let no_other: Vec<String> = all.iter().filter(|name| !name.starts_with("open_clip")).cloned().collect();
        assert!(!in_two_layouts(&no_other) && select(&no_other, false).unwrap().contains(&"config.json".to_owned()));
        assert!(without(&["config.json", "open_clip_config.json"]).unwrap_err().contains("no config.json"));
        assert!(taken(&["config.json", "README.md"]).unwrap_err().contains("no weights"));
    }

    #[test]
    fn an_index_names_files_of_weights_alone() {
        let index = |file: &str| {
            format!(r#"{{"weight_map": {{"a": "model-1.safetensors", "b": "{file}", "c": "model-1.safetensors"}}}}"#)
        };
        assert_eq!(shards(index("model-2.safetensors").as_bytes()).unwrap(), ["model-1.safetensors", "model-2.safetensors"]);
        for bad in ["../model.safetensors", "/etc/x.bin", "a/b.bin", "x.json", "", ".bin", "a\\\\b.bin", "c:x.bin"] {
            assert!(shards(index(bad).as_bytes()).is_err(), "{bad}");
        }
        assert!(shards(b"{}").is_err() && shards(b"no").is_err());
    }

    #[test]
    fn no_name_leads_out() {
        assert!(
            is_inside("config.json") && is_inside("1_Pooling/config.json") && is_inside("model-00001-of-00002.safetensors")
        );
        for bad in
            ["", "..", "../x", "a/../b", "a/b/c", "/a", "a/", "a//b", ".hidden", "a/.b", "a\\b", "C:x", "a\0b", "a b", "x."]
        {
            assert!(!is_inside(bad), "{bad}");
        }
    }
}
