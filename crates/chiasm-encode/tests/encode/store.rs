//! chiasm's own store of models: what comes in whole, what is refused and leaves nothing, what is noticed later.

use std::path::{Path, PathBuf};

use crate::common::checkpoint;
use chiasm_core::{Cancel, NoProgress};
use chiasm_encode::{Entry, ModelDirs, ModelName, OpenError, Store, StoreError, open, towers};

struct Place {
    dir: tempfile::TempDir,
    store: Store,
    models: ModelDirs,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        Self { store: Store::at(&root), models: ModelDirs::new(vec![root]), dir }
    }

    fn import(&self, from: &Path, name: Option<&str>) -> Result<Entry, StoreError> {
        self.store.import(from, name, false, &NoProgress, &Cancel::default())
    }

    fn problems(&self, entry: &Entry) -> Vec<(String, String)> {
        let problems = self.store.verify(entry, &NoProgress, &Cancel::default()).unwrap();
        problems.into_iter().map(|p| (p.file, p.what)).collect()
    }

    /// Everything in the store, folders too.
    fn held(&self) -> Vec<PathBuf> {
        let mut held = Vec::new();
        let mut todo = vec![self.store.root().to_owned()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                held.push(entry.path());
                if entry.path().is_dir() {
                    todo.push(entry.path());
                }
            }
        }
        held
    }
}

fn name(written: &str) -> ModelName {
    ModelName::parse(written).unwrap()
}

#[test]
fn a_folder_is_taken_in_and_found_by_name() {
    let place = Place::new();
    let from = checkpoint(place.dir.path(), "clip_quick_image", "tiny");
    std::fs::write(from.join("notes.txt"), "not of the model").unwrap();
    for (asked, called) in
        [(None, "tiny"), (Some("someone/clip"), "someone/clip"), (Some("someone/clip@v2"), "someone/clip@v2")]
    {
        let entry = place.import(&from, asked).unwrap();
        assert_eq!(entry.name.to_string(), called);
        let manifest = entry.manifest.as_ref().unwrap();
        let towers: Vec<(&str, usize)> = manifest.towers.iter().map(|tower| (tower.kind.as_str(), tower.dim)).collect();
        assert_eq!(towers, [("image", 16), ("text", 16)]);
        assert!(manifest.files.iter().all(|file| file.file != "notes.txt"));
        assert_eq!(place.problems(&entry), []);
        let encoder = open(&format!("{called}:text"), &place.models).unwrap();
        assert_eq!(encoder.fingerprint(), manifest.towers[1].fingerprint);
        assert!(matches!(place.import(&from, asked), Err(StoreError::Exists { .. })));
    }
    assert_eq!(towers("hf-hub:someone/clip", &place.models).unwrap().len(), 2);
    let listed: Vec<String> = place.store.entries().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(listed, ["tiny", "someone/clip", "someone/clip@v2"]);
    assert!(!place.held().iter().any(|path| path.ends_with(".partial")), "{:?}", place.held());

    // What is in the store does not depend on where it came from.
    std::fs::remove_dir_all(&from).unwrap();
    assert!(open("tiny:image", &place.models).is_ok());
}

#[test]
fn a_snapshot_of_hugging_faces_cache_keeps_its_name() {
    let place = Place::new();
    let snapshots = place.dir.path().join("hub/models--someone--clip/snapshots");
    let from = checkpoint(&snapshots, "clip_quick_image", "0123abcd");
    // There the files are links to blobs.
    #[cfg(unix)]
    {
        let blob = place.dir.path().join("hub/blob");
        std::fs::rename(from.join("model.safetensors"), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, from.join("model.safetensors")).unwrap();
    }
    let entry = place.import(&from, None).unwrap();
    assert_eq!(entry.name.to_string(), "someone/clip");
    assert!(!entry.folder.join("model.safetensors").symlink_metadata().unwrap().is_symlink());
    let linked = place.store.import(&from, Some("linked"), true, &NoProgress, &Cancel::default()).unwrap();
    assert!(!linked.folder.join("model.safetensors").symlink_metadata().unwrap().is_symlink());
    assert_eq!(linked.manifest.unwrap().files, entry.manifest.unwrap().files);
}

#[test]
fn what_is_no_model_leaves_nothing() {
    let place = Place::new();
    let fresh = || {
        let _ = std::fs::remove_dir_all(place.dir.path().join("tiny"));
        checkpoint(place.dir.path(), "clip_quick_image", "tiny")
    };
    let refused = |from: &Path, name: Option<&str>, words: &str| {
        let said = place.import(from, name).unwrap_err().to_string();
        assert!(said.contains(words), "no `{words}` in: {said}");
        assert_eq!(place.held(), Vec::<PathBuf>::new(), "{words}");
    };
    refused(&place.dir.path().join("nowhere"), None, "give the folder of a model");
    refused(place.dir.path(), Some("x"), "a folder must hold config.json");
    for bad in ["../x", "/x", "a/b/c", "a b", "..", ""] {
        refused(&fresh(), Some(bad), "is no name of a model");
    }
    let from = fresh();
    std::fs::remove_file(from.join("model.safetensors")).unwrap();
    refused(&from, None, "it has no weights");
    let from = fresh();
    std::fs::remove_file(from.join("tokenizer.json")).unwrap();
    refused(&from, None, "tokenizer.json");
    let from = fresh();
    let weights = std::fs::read(from.join("model.safetensors")).unwrap();
    std::fs::write(from.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    refused(&from, None, "no whole safetensors file");
    // The image tower opens, the text tower does not.
    std::fs::write(
        from.join("model.safetensors"),
        crate::common::weights("clip_quick_image", |name| !name.starts_with("text_")),
    )
    .unwrap();
    refused(&from, None, "no tensor `text_");
    // An index that names a file elsewhere.
    std::fs::remove_file(from.join("model.safetensors")).unwrap();
    std::fs::write(from.join("model.safetensors.index.json"), r#"{"weight_map": {"a": "../secret.safetensors"}}"#).unwrap();
    refused(&from, None, "names the file `../secret.safetensors`");
    // A stop while it is copied.
    let stopped = Cancel::default();
    stopped.cancel();
    let error = place.store.import(&fresh(), None, false, &NoProgress, &stopped).unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
    assert_eq!(place.held(), Vec::<PathBuf>::new());
}

#[test]
fn changes_are_noticed() {
    let place = Place::new();
    let entry = place.import(&checkpoint(place.dir.path(), "clip_quick_image", "tiny"), None).unwrap();
    let weights = entry.folder.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    std::fs::remove_file(entry.folder.join("tokenizer.json")).unwrap();
    std::fs::write(entry.folder.join("config.json"), "{}").unwrap();
    let problems = place.problems(&entry);
    let files: Vec<&str> = problems.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(problems[0].1.starts_with("it has 2 bytes, ") && problems[1].1 == "its content has changed", "{problems:?}");
    assert_eq!(problems[2].1, "it is missing");

    // A manifest that cannot be read, or would lead elsewhere.
    let manifest = entry.folder.join("chiasm-model.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"config.json\"", "\"../../../secret\"")).unwrap();
    let bent = place.store.entry(&name("tiny")).unwrap();
    assert!(place.problems(&bent).iter().any(|(_, what)| what.contains("leads out")), "{:?}", place.problems(&bent));
    std::fs::write(&manifest, "{").unwrap();
    let unread = place.store.entry(&name("tiny")).unwrap();
    assert_eq!(place.problems(&unread)[0].0, "chiasm-model.json");
    assert!(matches!(place.store.remove(&name("tiny"), &place.models), Err(StoreError::Manifest { .. })));
}

#[test]
fn only_what_the_store_took_in_is_removed() {
    let place = Place::new();
    let from = checkpoint(place.dir.path(), "clip_quick_image", "tiny");
    let entry = place.import(&from, Some("someone/clip")).unwrap();
    let bytes = entry.manifest.as_ref().unwrap().bytes();
    let mine = entry.folder.join("mine.txt");
    std::fs::write(&mine, "mine").unwrap();
    // A manifest that names what is not the model's removes nothing of it.
    let secret = place.dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let manifest = entry.folder.join("chiasm-model.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"preprocessor_config.json\"", "\"../../../secret\"")).unwrap();

    let removed = place.store.remove(&name("someone/clip"), &place.models).unwrap();
    assert!(removed.bytes > bytes / 2, "{removed:?}");
    assert!(secret.exists() && mine.exists() && from.join("model.safetensors").exists());
    assert!(removed.left.contains(&mine) && removed.left.iter().any(|path| path.ends_with("preprocessor_config.json")));
    assert!(!entry.folder.join("model.safetensors").exists() && place.store.entry(&name("someone/clip")).is_none());

    // A model of someone else's, by its name or through a link.
    let own = place.store.root().join("own");
    std::fs::create_dir_all(&own).unwrap();
    let said = place.store.remove(&name("own"), &place.models).unwrap_err().to_string();
    assert!(said.contains("yours to remove"), "{said}");
    let said = place.store.remove(&name("absent"), &place.models).unwrap_err().to_string();
    assert!(said.contains("`absent` is not in the store"), "{said}");
    #[cfg(unix)]
    {
        let elsewhere = Store::at(&place.dir.path().join("other"));
        let there = elsewhere.import(&from, Some("tiny"), false, &NoProgress, &Cancel::default()).unwrap().folder;
        std::os::unix::fs::symlink(&there, place.store.root().join("linked")).unwrap();
        let said = place.store.remove(&name("linked"), &place.models).unwrap_err().to_string();
        assert!(said.contains("which is a link"), "{said}");
        assert!(there.join("model.safetensors").exists());
    }
}

#[test]
fn one_model_is_taken_in_by_one_process() {
    let place = Place::new();
    let held = place.store.stage(&name("someone/clip")).unwrap();
    let from = checkpoint(place.dir.path(), "clip_quick_image", "tiny");
    assert!(matches!(place.import(&from, Some("someone/clip")), Err(StoreError::Busy { .. })));
    assert!(place.import(&from, Some("someone/other")).is_ok());
    for bad in ["../x", "/x", "a/b/c", "", ".lock"] {
        assert!(held.path(bad).is_err(), "{bad}");
    }
    held.discard();
    assert!(place.import(&from, Some("someone/clip")).is_ok());
}

#[test]
fn what_is_not_here_names_the_ways_to_it() {
    let place = Place::new();
    let said = |asked: &str| open(asked, &place.models).err().map(|e| e.to_string()).unwrap();
    for asked in ["ViT-B-32/openai", "hf-hub:openai/clip-vit-base-patch32:text", "openai/clip-vit-base-patch32:image"] {
        for words in ["chiasm model pull openai/clip-vit-base-patch32", "chiasm model import", "chiasm model list"] {
            assert!(said(asked).contains(words), "{asked}: {}", said(asked));
        }
    }
    assert!(said("all-MiniLM-L6-v2").contains("chiasm model pull sentence-transformers/all-MiniLM-L6-v2` fetches it"));
    assert!(matches!(open("someone/nothing", &place.models), Err(OpenError::NotHere { .. })));
}
