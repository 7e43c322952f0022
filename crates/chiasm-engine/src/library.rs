//! A library: a folder that is opened, asked and written.

use std::path::{Path, PathBuf};

use chiasm_encode::ModelDirs;

use crate::catalogue::Item;
use crate::{EngineError, Filter, Result, Space};

/// An open library. Threads may share it: any number ask while one indexes.
#[derive(Debug)]
pub struct Library {
    pub(crate) dir: PathBuf,
    pub(crate) space: Space,
}

impl Library {
    /// Makes an empty library in a folder that is absent, empty, or holds only what an interrupted `create` left.
    ///
    /// # Errors
    /// [`EngineError::LibraryExists`], [`EngineError::NotALibrary`] for a folder with other files in it, [`EngineError::Io`].
    pub fn create(dir: &Path, space: &Space) -> Result<Library> {
        let _ = (dir, space);
        Err(EngineError::Query("not built yet".to_owned()))
    }

    /// Opens a library. Its models are looked for in `models` when they are first needed.
    ///
    /// # Errors
    /// [`EngineError::NoLibrary`], [`EngineError::NotALibrary`], [`EngineError::LibraryVersion`], [`EngineError::SpaceFile`].
    pub fn open(dir: &Path, models: &ModelDirs) -> Result<Library> {
        let _ = (dir, models);
        Err(EngineError::Query("not built yet".to_owned()))
    }

    /// Opens the library, or makes it when there is none.
    ///
    /// # Errors
    /// [`EngineError::ForeignSpace`] when there is one of another space; those of [`Library::open`] and [`Library::create`].
    pub fn open_or_create(dir: &Path, space: &Space, models: &ModelDirs) -> Result<Library> {
        let _ = (dir, space, models);
        Err(EngineError::Query("not built yet".to_owned()))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The item at a path (as given, or made absolute), or of a number.
    ///
    /// # Errors
    /// [`EngineError::NoSuchItem`].
    pub fn find_item(&self, path_or_id: &str) -> Result<Item> {
        Err(EngineError::NoSuchItem(path_or_id.to_owned()))
    }

    /// Every item of which the filter is true, by number.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn items(&self, filter: Option<&Filter>) -> Result<Vec<Item>> {
        let _ = filter;
        Ok(Vec::new())
    }

    /// Takes files, and everything under folders, out of the library; the files themselves stay. Says how many items left.
    /// The next [`Library::index`] over their folder takes them in again.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::NoSuchItem`] for a path with nothing in the library.
    pub fn remove(&self, paths: &[PathBuf]) -> Result<usize> {
        let _ = paths;
        Ok(0)
    }
}
