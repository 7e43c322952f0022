//! Where models are looked for.

use std::path::{Path, PathBuf};

/// Folders that hold models, searched in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDirs {
    dirs: Vec<PathBuf>,
}

impl ModelDirs {
    /// Searches these folders, in this order, and no others.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// The folders a user means: `extra` (the value of `--models`), the list of paths in the variable `CHIASM_MODELS`,
    /// `./models`, and `chiasm/models` in the user's data folder.
    pub fn from_env(extra: Option<&Path>) -> Self {
        let mut dirs: Vec<PathBuf> = extra.map(Path::to_path_buf).into_iter().collect();
        if let Some(list) = std::env::var_os("CHIASM_MODELS") {
            dirs.extend(std::env::split_paths(&list).filter(|dir| !dir.as_os_str().is_empty()));
        }
        dirs.push(PathBuf::from("models"));
        dirs.extend(user_data_dir().map(|dir| dir.join("chiasm").join("models")));
        Self { dirs }
    }

    /// The folders, in the order of the search.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The first of the folders in which `file` exists, joined with it.
    pub(crate) fn find(&self, file: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists())
    }
}

/// The folder in which programs keep a user's data, by each system's custom.
fn user_data_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
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
