//! A library: a folder that is opened, asked and written.

use std::path::{Path, PathBuf};

use chiasm_core::Span;
use chiasm_encode::ModelDirs;
use chiasm_media::Limits;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use crate::catalogue::{Item, ItemMetadata};
use crate::derived::{self, modality_at};
use crate::lane::{self, Lane};
use crate::lock::WriteLock;
use crate::space::SPACE_FILE;
use crate::store::{self, Store, path_bytes, path_of};
use crate::{EngineError, Filter, Result, Space};

/// An open library. Threads may share it: any number ask while one indexes.
#[derive(Debug)]
pub struct Library {
    pub(crate) dir: PathBuf,
    /// At least one.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) store: Store,
}

impl Library {
    /// Makes an empty library of one lane in a folder that is absent, empty, or holds only what an interrupted `create` left.
    ///
    /// # Errors
    /// [`EngineError::LibraryExists`], [`EngineError::NotALibrary`] for a folder with other files in it, [`EngineError::Locked`],
    /// [`EngineError::Io`].
    pub fn create(dir: &Path, space: &Space) -> Result<Library> {
        Library::create_with_lanes(dir, &[space])
    }

    /// Makes an empty library with a lane for each space, at least one.
    ///
    /// # Errors
    /// As [`Library::create`]; [`EngineError::LaneExists`] for a space that comes twice, [`EngineError::Query`] for none.
    pub fn create_with_lanes(dir: &Path, spaces: &[&Space]) -> Result<Library> {
        let lanes = lane::named(spaces)?;
        let Some(first) = spaces.first() else {
            return Err(EngineError::Query("a library needs at least one space".to_owned()));
        };
        std::fs::create_dir_all(dir).map_err(EngineError::io("cannot make the folder", dir))?;
        refuse_other_files(dir)?;
        let _lock = WriteLock::take(dir)?;
        if Store::exists(dir)? {
            return Err(EngineError::LibraryExists { path: dir.to_owned() });
        }
        // The spaces first: a database is only ever beside the spaces it was made for.
        for (space, id) in spaces.iter().zip(lane::FIRST..) {
            space.save(&dir.join(lane::space_file(id, space.fingerprint())))?;
        }
        let store = Store::create(dir, &random_id(dir), &lanes)?;
        store::sync_parent(dir)?;
        let lanes = lane::open(dir, &store, first.models())?;
        Ok(Library { dir: dir.to_owned(), lanes, store })
    }

    /// Opens a library. Its models are looked for in `models` when they are first needed.
    ///
    /// # Errors
    /// [`EngineError::NoLibrary`], [`EngineError::NotALibrary`], [`EngineError::LibraryVersion`], [`EngineError::SpaceFile`].
    pub fn open(dir: &Path, models: &ModelDirs) -> Result<Library> {
        if !Store::exists(dir)? {
            return Err(EngineError::NoLibrary { path: dir.to_owned() });
        }
        let store = Store::open(dir)?;
        let lanes = lane::open(dir, &store, models)?;
        Ok(Library { dir: dir.to_owned(), lanes, store })
    }

    /// Opens the library, or makes it when there is none.
    ///
    /// # Errors
    /// [`EngineError::ForeignSpace`] when there is one without a lane of this space; those of [`Library::open`] and [`Library::create`].
    pub fn open_or_create(dir: &Path, space: &Space, models: &ModelDirs) -> Result<Library> {
        Library::open_or_create_with_lanes(dir, &[space], models)
    }

    /// Opens the library, or makes it with a lane for each space when there is none.
    ///
    /// # Errors
    /// [`EngineError::ForeignSpace`] when there is one without a lane for each; those of [`Library::open`] and
    /// [`Library::create_with_lanes`].
    pub fn open_or_create_with_lanes(dir: &Path, spaces: &[&Space], models: &ModelDirs) -> Result<Library> {
        if !Store::exists(dir)? {
            return Library::create_with_lanes(dir, spaces);
        }
        let library = Library::open(dir, models)?;
        spaces.iter().try_for_each(|space| library.lane_of("space", space.fingerprint()).map(|_| ()))?;
        Ok(library)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The space of its first lane.
    pub fn space(&self) -> &Space {
        self.first().space()
    }

    /// Counts every change of what the library holds, also those that other processes make.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn generation(&self) -> Result<i64> {
        store::generation(&*self.store.reader()?).map_err(self.store.err("cannot read the generation"))
    }

    /// The item at a path (as given, or made absolute), or of a number.
    ///
    /// # Errors
    /// [`EngineError::NoSuchItem`].
    pub fn find_item(&self, path_or_id: &str) -> Result<Item> {
        let reader = self.store.reader()?;
        let err = self.store.err("cannot look for an item");
        for path in spellings(Path::new(path_or_id)) {
            let found = reader.query_row("SELECT item FROM paths WHERE path = ?1", [path_bytes(&path)], |row| row.get(0));
            if let Some(id) = found.optional().map_err(&err)? {
                return self.item_by_id(&reader, id);
            }
        }
        match path_or_id.parse::<i64>() {
            Ok(id) => self.item_by_id(&reader, id),
            Err(_) => Err(EngineError::NoSuchItem(path_or_id.to_owned())),
        }
    }

    /// The item of a number.
    ///
    /// # Errors
    /// [`EngineError::NoSuchItem`].
    pub fn item(&self, id: i64) -> Result<Item> {
        self.item_by_id(&*self.store.reader()?, id)
    }

    /// The item of a content, by the BLAKE3 of its bytes in hexadecimal.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn item_of_hash(&self, hash: &str) -> Result<Option<i64>> {
        let Ok(hash) = blake3::Hash::from_hex(hash) else { return Ok(None) };
        let reader = self.store.reader()?;
        let find = || -> rusqlite::Result<Option<i64>> {
            let mut statement = reader.prepare_cached("SELECT id FROM items WHERE hash = ?1")?;
            statement.query_row([hash.as_bytes()], |row| row.get(0)).optional()
        };
        find().map_err(self.store.err("cannot look for a content"))
    }

    fn item_by_id(&self, connection: &Connection, id: i64) -> Result<Item> {
        let found = item(connection, id).map_err(self.store.err("cannot read an item"))?;
        found.ok_or_else(|| EngineError::NoSuchItem(id.to_string()))
    }

    /// Every item of which the filter is true, by number.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn items(&self, filter: Option<&Filter>) -> Result<Vec<Item>> {
        let err = self.store.err("cannot list items");
        let mut reader = self.store.reader()?;
        let tx = reader.transaction().map_err(&err)?;
        let list = || -> rusqlite::Result<Vec<Item>> {
            let (condition, values) = filter.map_or(Ok(("1".into(), &[] as &[Value])), |filter| filter.sql(&tx))?;
            let sql = format!("SELECT i.id FROM items i WHERE {condition} ORDER BY i.id");
            let mut statement = tx.prepare(&sql)?;
            let ids: Vec<i64> = statement.query_map(params_from_iter(values), |row| row.get(0))?.collect::<Result<_, _>>()?;
            ids.into_iter().filter_map(|id| item(&tx, id).transpose()).collect()
        };
        list().map_err(&err)
    }

    /// Takes files, and everything under folders, out of the library; the files themselves stay. Says how many items left.
    /// The next [`Library::index`] over their folder takes them in again.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::NoSuchItem`] for a path with nothing in the library; then nothing was removed.
    pub fn remove(&self, paths: &[PathBuf]) -> Result<usize> {
        let _lock = WriteLock::take(&self.dir)?;
        let mut writer = self.store.writer()?;
        let mut goes: Vec<Vec<u8>> = Vec::new();
        for path in paths {
            let mut found = Vec::new();
            for spelling in spellings(path) {
                found.extend(paths_under(writer.connection(), &spelling).map_err(self.store.err("cannot look for paths"))?);
            }
            if found.is_empty() {
                return Err(EngineError::NoSuchItem(path.display().to_string()));
            }
            goes.extend(found);
        }
        let n = writer.batch(|tx| {
            let mut statement = tx.prepare_cached("DELETE FROM paths WHERE path = ?1")?;
            for path in &goes {
                statement.execute([path])?;
            }
            remove_items_without_files(tx)
        })?;
        drop(writer);
        self.lanes.iter().filter(|lane| lane.is_loaded()).try_for_each(|lane| lane.renew(&self.store, false).map(|_| ()))?;
        Ok(n)
    }

    /// Brings the derived indexes to the present state, so that the first question does not wait for them.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.lanes.iter().try_for_each(|lane| lane.renew(&self.store, false).map(|_| ()))
    }
}

/// The bytes of one of an item's files, if it still is what was indexed; else what is the matter with it.
pub(crate) fn read_unchanged(item: &Item, path: &Path, limits: &Limits) -> std::result::Result<Vec<u8>, String> {
    let bytes = chiasm_media::read(path, limits).map_err(|error| error.to_string())?;
    if blake3::hash(&bytes).to_hex().as_str() != item.hash {
        return Err("has changed since it was indexed: index again".to_owned());
    }
    Ok(bytes)
}

/// Deletes items whose last file is gone, with all that hangs on them; says how many.
pub(crate) fn remove_items_without_files(tx: &Connection) -> rusqlite::Result<usize> {
    tx.prepare_cached("DELETE FROM items WHERE NOT EXISTS (SELECT 1 FROM paths p WHERE p.item = items.id)")?.execute([])
}

/// The path as given, and as the catalogue would have written it.
fn spellings(path: &Path) -> Vec<PathBuf> {
    let absolute = crate::walk::absolute(path).ok();
    let mut all = vec![path.to_owned()];
    all.extend(absolute.filter(|a| a != path));
    all
}

/// Catalogued paths that are `path` or lie below it.
pub(crate) fn paths_under(connection: &Connection, path: &Path) -> rusqlite::Result<Vec<Vec<u8>>> {
    let own = path_bytes(path);
    let (low, high) = below(path);
    let sql = "SELECT path FROM paths WHERE path = ?1 OR (path >= ?2 AND path < ?3)";
    connection.prepare_cached(sql)?.query_map((own, low, high), |row| row.get(0))?.collect()
}

/// All paths below a folder lie between these, the first included: `/` is followed by `0`.
pub(crate) fn below(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut low = path_bytes(folder);
    if low.last() != Some(&b'/') {
        low.push(b'/');
    }
    let mut high = low.clone();
    *high.last_mut().expect("it ends in a slash") = b'/' + 1;
    (low, high)
}

/// The columns that [`item_metadata`] reads, of `items AS i`.
pub(crate) const METADATA_COLUMNS: &str = "i.format, i.size, i.width, i.height, i.duration_s, i.taken, i.latitude, i.longitude";

/// Reads [`METADATA_COLUMNS`] from column `at` on.
pub(crate) fn item_metadata(row: &Row<'_>, at: usize) -> rusqlite::Result<ItemMetadata> {
    Ok(ItemMetadata {
        format: row.get(at)?,
        size: row.get::<_, i64>(at + 1)? as u64,
        width: row.get(at + 2)?,
        height: row.get(at + 3)?,
        duration_s: row.get(at + 4)?,
        taken: row.get(at + 5)?,
        latitude: row.get(at + 6)?,
        longitude: row.get(at + 7)?,
    })
}

/// Reads `span_unit`, `span_start` and `span_end` from column `at` on.
pub(crate) fn span_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Span> {
    let unit: Option<String> = row.get(at)?;
    let (start, end) = (row.get::<_, Option<f64>>(at + 1)?.unwrap_or(0.0), row.get::<_, Option<f64>>(at + 2)?.unwrap_or(0.0));
    Ok(match unit.as_deref() {
        Some("s") => Span::Time { start_s: start, end_s: end },
        Some("byte") => Span::Bytes { start: start as usize, end: end as usize },
        _ => Span::Whole,
    })
}

fn item(connection: &Connection, id: i64) -> rusqlite::Result<Option<Item>> {
    let sql = format!("SELECT i.kind, i.hash, {METADATA_COLUMNS} FROM items i WHERE i.id = ?1");
    let read = |row: &Row<'_>| Ok((modality_at(row, 0)?, row.get::<_, Vec<u8>>(1)?, item_metadata(row, 2)?));
    let Some((kind, hash, metadata)) = connection.prepare_cached(&sql)?.query_row([id], read).optional()? else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached("SELECT path FROM paths WHERE item = ?1 ORDER BY path")?;
    let paths = statement.query_map([id], |row| Ok(path_of(row.get(0)?)))?.collect::<Result<_, _>>()?;
    let count = "SELECT count(*) FROM segments WHERE item = ?1";
    let n_segments = connection.prepare_cached(count)?.query_row([id], |row| row.get::<_, i64>(0))? as usize;
    let body = "SELECT t.body FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = ?1 ORDER BY s.id LIMIT 1";
    let body: Option<String> = connection.prepare_cached(body)?.query_row([id], |row| row.get(0)).optional()?;
    let hash = hash.iter().map(|b| format!("{b:02x}")).collect();
    Ok(Some(Item { id, kind, hash, paths, metadata, n_segments, snippet: body.map(|b| one_line(&b)) }))
}

/// Longest snippet, in characters.
const SNIPPET_CHARS: usize = 200;

/// Text on one line, cut with an ellipsis.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.chars().count() > SNIPPET_CHARS {
            let cut: String = line.chars().take(SNIPPET_CHARS - 1).collect();
            return format!("{}…", cut.trim_end());
        }
    }
    line
}

fn refuse_other_files(dir: &Path) -> Result<()> {
    let own = [
        store::FILE_NAME,
        derived::FILE_NAME,
        SPACE_FILE,
        crate::lock::FILE_NAME,
        "space-",
        "exact-",
        "cells",
        "map",
        "tokens.json",
    ];
    for entry in std::fs::read_dir(dir).map_err(EngineError::io("cannot list", dir))? {
        let name = entry.map_err(EngineError::io("cannot list", dir))?.file_name();
        let name = name.to_string_lossy();
        if !own.iter().any(|own| name.starts_with(own)) {
            let reason = format!("it holds other files (`{name}`): give a folder of its own");
            return Err(EngineError::NotALibrary { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// A number by which a library is told from any other: made of what no two creations share.
fn random_id(dir: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&path_bytes(dir));
    hasher.update(&std::process::id().to_le_bytes());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hasher.update(&now.as_nanos().to_le_bytes());
    // The standard library seeds its hash maps from the system's source of randomness.
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0_u8);
    hasher.update(&random.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}
