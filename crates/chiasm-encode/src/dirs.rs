//! Where models are looked for.

use std::path::{Path, PathBuf};

/// Folders that hold models, searched in order; after them the cache that Hugging Face's own tools share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDirs {
    dirs: Vec<PathBuf>,
    store: Option<PathBuf>,
    hub_cache: Option<PathBuf>,
}

impl ModelDirs {
    /// Searches these folders, in this order, and no others; the first is the one that models are put into.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self { store: dirs.first().cloned(), dirs, hub_cache: None }
    }

    /// Searches Hugging Face's cache in this folder as well.
    pub fn with_hub_cache(self, folder: PathBuf) -> Self {
        Self { hub_cache: Some(folder), ..self }
    }

    /// The folders a user means: `extra` (the value of `--models`), the list of paths in the variable `CHIASM_MODELS`,
    /// `./models`, `chiasm/models` in the user's data folder, and Hugging Face's cache, where its own tools look for it: `HF_HUB_CACHE`,
    /// `hub` in `HF_HOME`, or `huggingface/hub` in the user's cache folder. Models are put into the first of these but for `./models`.
    pub fn from_env(extra: Option<&Path>) -> Self {
        let mut dirs: Vec<PathBuf> = extra.map(Path::to_path_buf).into_iter().collect();
        if let Some(list) = std::env::var_os("CHIASM_MODELS") {
            dirs.extend(std::env::split_paths(&list).filter(|dir| !dir.as_os_str().is_empty()));
        }
        let of_user = user_data_dir().map(|dir| dir.join("chiasm").join("models"));
        let store = dirs.first().or(of_user.as_ref()).cloned();
        dirs.push(PathBuf::from("models"));
        dirs.extend(of_user);
        let home = || var("HF_HOME").or_else(|| user_cache_dir().map(|dir| dir.join("huggingface")));
        let hub_cache = var("HF_HUB_CACHE").or_else(|| home().map(|dir| dir.join("hub")));
        Self { dirs, store, hub_cache }
    }

    /// The folders, in the order of the search.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The folder that models are put into; none where neither the user nor the system names one.
    pub fn store(&self) -> Option<&Path> {
        self.store.as_deref()
    }

    /// Hugging Face's cache.
    pub fn hub_cache(&self) -> Option<&Path> {
        self.hub_cache.as_deref()
    }

    /// The first of the folders in which `file` exists, joined with it.
    pub(crate) fn find(&self, file: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists())
    }
}

/// A path in the environment.
fn var(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The folder in which Hugging Face's tools look for their cache: the same on every system.
pub(crate) fn user_cache_dir() -> Option<PathBuf> {
    let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    var("XDG_CACHE_HOME").or_else(|| var(home).map(|home| home.join(".cache")))
}

/// The folder in which programs keep a user's data, by each system's custom.
fn user_data_dir() -> Option<PathBuf> {
    if cfg!(windows) {
        var("APPDATA")
    } else if cfg!(target_os = "macos") {
        var("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        var("XDG_DATA_HOME").or_else(|| var("HOME").map(|home| home.join(".local/share")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_named_comes_first() {
        let dirs = ModelDirs::from_env(Some(Path::new("/named")));
        assert_eq!(dirs.dirs()[0], Path::new("/named"));
        assert!(dirs.dirs().contains(&PathBuf::from("models")));
    }

    #[test]
    fn finds_in_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(second.path().join("a.json"), "{}").unwrap();
        let dirs = ModelDirs::new(vec![first.path().into(), second.path().into()]);
        assert_eq!(dirs.find("a.json"), Some(second.path().join("a.json")));
        std::fs::write(first.path().join("a.json"), "{}").unwrap();
        assert_eq!(dirs.find("a.json"), Some(first.path().join("a.json")));
        assert_eq!(dirs.find("b.json"), None);
    }
}
