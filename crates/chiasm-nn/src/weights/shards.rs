//! Which file of a folder holds the weights, and weights that are cut into several files with an index.
//!
//! # Layout
//! `<name>.index.json` has an object `weight_map` from each tensor to the file beside it that holds it. Indexes come from
//! strangers: a file is named by its plain name, and index and files must name the same tensors, each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::bytes::Bytes;
use super::{Entry, N_NAMES_SHOWN, Weights, WeightsError, tensors};
use crate::kernel::Precision;

/// The files that hold the weights of a folder, the first that is there is meant: safetensors before pickles, a whole file before
/// shards, and the names of the Hugging Face layout before those of open_clip.
pub const WEIGHT_FILES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];
/// Bytes of an index: a line of about 100 for each tensor, so this is room for more than any model has.
const INDEX_LEN_MAX: usize = 1 << 26;

/// The file of a folder to begin with.
pub(super) fn find(folder: &Path) -> Result<PathBuf, WeightsError> {
    std::fs::read_dir(folder).map_err(|source| WeightsError::Io { file: folder.to_owned(), source })?;
    // A link that leads nowhere is there too: to pass it over would take other weights without a word.
    let found = WEIGHT_FILES.iter().map(|name| folder.join(name)).find(|path| path.symlink_metadata().is_ok());
    let sought = || WEIGHT_FILES.iter().map(|name| (*name).to_owned()).collect();
    found.ok_or_else(|| WeightsError::NotFound { folder: folder.to_owned(), sought: sought() })
}

/// Opens all files that an index names.
pub(super) fn open(index: PathBuf) -> Result<Weights, WeightsError> {
    let refuse = |reason: String| WeightsError::Index { file: index.clone(), reason };
    let map = |path: &Path| Bytes::map(path).map_err(|source| WeightsError::Io { file: path.to_owned(), source });
    let text = map(&index)?;
    if text.len() > INDEX_LEN_MAX {
        return Err(refuse(format!("the index has {} bytes, at most {INDEX_LEN_MAX} are read", text.len())));
    }
    let mut home: BTreeMap<String, String> = parse(&text).map_err(refuse)?;

    let mut names: Vec<String> = home.values().cloned().collect();
    names.sort();
    names.dedup();
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(refuse(format!("`{name}` is no plain file name")));
    }
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    let mut parts = Vec::new();
    for name in names {
        let path = index.with_file_name(&name);
        let bytes = Arc::new(map(&path)?);
        for (tensor, stored) in tensors(&path, &bytes)? {
            if found.contains_key(&tensor) {
                return Err(refuse(format!("tensor `{tensor}` is in two of them, one is `{name}`")));
            }
            match home.remove(&tensor) {
                Some(other) if other == name => {}
                Some(other) => return Err(refuse(format!("tensor `{tensor}` is in `{name}`, the index says `{other}`"))),
                None => return Err(refuse(format!("tensor `{tensor}` of `{name}` is not in the index"))),
            }
            found.insert(tensor, Entry { stored, taken: false });
        }
        parts.push((name, bytes));
    }
    if !home.is_empty() {
        let missing: Vec<String> =
            home.iter().take(N_NAMES_SHOWN).map(|(tensor, name)| format!("`{tensor}` is not in `{name}`")).collect();
        return Err(refuse(missing.join(", ")));
    }
    Ok(Weights { file: index, parts, tensors: found, digest: OnceLock::new(), precision: Precision::default() })
}

/// Tensor to file.
fn parse(text: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let index: serde_json::Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let entries = index.get("weight_map").and_then(|map| map.as_object());
    let entries = entries.ok_or("the index has no object `weight_map`")?;
    let entry = |(tensor, name): (&String, &serde_json::Value)| {
        let name = name.as_str().ok_or_else(|| format!("the file of tensor `{tensor}` is no string"))?;
        Ok((tensor.clone(), name.to_owned()))
    };
    entries.iter().map(entry).collect()
}

/// Whether a name stays in its folder, on any system.
fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name) && !name.contains(['\\', ':', '\0'])
}
