//! Which library a command means.

use std::path::{Path, PathBuf};

use chiasm_engine::{Library, ModelDirs, Space};
use clap::Args;

use crate::ModelsArg;
use crate::ui::{hinted, shown};

/// The folder that stands among the files it indexes.
pub(crate) const FOLDER: &str = ".chiasm";

/// Names the library.
#[derive(Args)]
pub(crate) struct LibraryArg {
    /// The library's folder [else: the nearest `.chiasm` here or above]
    #[arg(long, value_name = "PATH", env = "CHIASM_LIBRARY", hide_env_values = true)]
    pub(crate) library: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) models: ModelsArg,
}

impl LibraryArg {
    /// Where the library lies.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        let here = std::env::current_dir()?;
        match &self.library {
            Some(path) => Ok(path.clone()),
            None => nearest(&here).ok_or_else(|| {
                hinted(
                    format!("no library here: there is no `{FOLDER}` folder in {} or above it", shown(&here)),
                    "make one with `chiasm index DIR --space FILE`, or name one with `--library PATH` or CHIASM_LIBRARY",
                )
            }),
        }
    }

    /// Opens the library.
    pub(crate) fn open(&self) -> anyhow::Result<Library> {
        Ok(Library::open(&self.path()?, &self.dirs())?)
    }

    pub(crate) fn dirs(&self) -> ModelDirs {
        self.models.dirs()
    }
}

/// The space that a file or a model's name gives; none when neither was given.
pub(crate) fn given_space(file: Option<&Path>, model: Option<&str>, models: &ModelDirs) -> anyhow::Result<Option<Space>> {
    Ok(match (file, model) {
        (Some(file), _) => Some(Space::load(file, models)?),
        (None, Some(model)) => Some(Space::of_model(model, models)?),
        (None, None) => None,
    })
}

/// The spaces that files and models' names give: those of the files first.
pub(crate) fn given_spaces(files: &[PathBuf], names: &[String], models: &ModelDirs) -> anyhow::Result<Vec<Space>> {
    let of_files = files.iter().map(|file| Space::load(file, models));
    let of_models = names.iter().map(|name| Space::of_model(name, models));
    Ok(of_files.chain(of_models).collect::<Result<_, _>>()?)
}

/// The `.chiasm` folder in `from` or the nearest folder above it.
pub(crate) fn nearest(from: &Path) -> Option<PathBuf> {
    let from = std::path::absolute(from).ok()?;
    from.ancestors().map(|dir| dir.join(FOLDER)).find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_library_wins() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(root.path().join(FOLDER)).unwrap();
        assert_eq!(nearest(&deep), Some(root.path().join(FOLDER)));
        std::fs::create_dir(root.path().join("a/b").join(FOLDER)).unwrap();
        assert_eq!(nearest(&deep), Some(root.path().join("a/b").join(FOLDER)));
    }
}
