//! The database of a library: opening, versions, and what one transaction may do.
//!
//! # What is certain
//! Everything that a report calls stored was committed before. SQLite runs in WAL mode with `synchronous = FULL`, so a commit
//! returns only after the log was flushed to the disk: neither `kill -9` nor a power cut takes it back (with NORMAL a power cut
//! could lose the last commits). A batch costs hundreds of milliseconds of encoding and one flush of a few, so the certainty is
//! nearly free. One batch is one transaction, hence a batch is there whole or not at all, and so are its words in the text
//! index, its refusals and the count of changes (`generation`), by which derived files are known to be stale.
//!
//! Readers have connections of their own, see the last commit, and are never blocked by the writer.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::{EngineError, Result};

/// `CHSM`: SQLite's mark of whose database a file is.
const APPLICATION_ID: i64 = 0x4348_534D;
/// The format this program writes. A library of format 1 stays one until it gets a second lane: it has the same tables but for
/// those of lanes.
pub(crate) const FORMAT: i64 = 2;
/// The first format.
const FORMAT_1: i64 = 1;
pub(crate) const FILE_NAME: &str = "library.db";
const SCHEMA: &str = include_str!("schema.sql");
const LANES: &str = include_str!("lanes.sql");
/// SQLite's own locks are held for single commits; whoever waits longer than this meets a hung disk.
const BUSY: Duration = Duration::from_secs(20);
/// Idle reading connections that are kept.
const MAX_IDLE: usize = 8;

/// A library's database, as many connections as there are threads that read.
#[derive(Debug)]
pub(crate) struct Store {
    library: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// A lane as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// Fingerprint of its space.
    pub(crate) space: String,
    /// Whether it has a vector of every part it has a view for.
    pub(crate) complete: bool,
}

/// A connection that reads; goes back to the others when dropped.
pub(crate) struct Reader<'a> {
    store: &'a Store,
    connection: Option<Connection>,
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("taken only when dropped")
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("taken only when dropped")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut idle = self.store.idle.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(connection) = self.connection.take().filter(|_| idle.len() < MAX_IDLE) {
            idle.push(connection);
        }
    }
}

impl Store {
    /// Whether a folder holds a database that was made completely.
    pub(crate) fn exists(library: &Path) -> Result<bool> {
        let path = library.join(FILE_NAME);
        if !path.try_exists().map_err(EngineError::io("cannot look for a library", &path))? {
            return Ok(false);
        }
        // An interrupted creation leaves a database in which nothing is committed.
        let connection = open_readable(library)?;
        let n_tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
        let n_tables = n_tables.map_err(|e| not_a_database(library, e))?;
        Ok(n_tables > 0)
    }

    /// Makes the database, in one transaction; at least one lane, each by its name and the fingerprint of its space.
    pub(crate) fn create(library: &Path, library_id: &str, lanes: &[(String, String)]) -> Result<Store> {
        let err = EngineError::store("cannot make the database", library);
        let mut connection = open_writable(library, true)?;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&err)?;
        tx.execute_batch(SCHEMA).map_err(&err)?;
        tx.execute_batch(LANES).map_err(&err)?;
        crate::words::catch_up(&tx).map_err(&err)?;
        for (name, space) in lanes {
            insert_lane(&tx, name, space, true).map_err(&err)?;
        }
        let space = lanes.first().map_or("", |(_, space)| space.as_str());
        let program = format!("chiasm {}", env!("CARGO_PKG_VERSION"));
        for (key, value) in [("library", library_id), ("space", space), ("generation", "0"), ("program", &program)] {
            tx.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", (key, value)).map_err(&err)?;
        }
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(&err)?;
        tx.pragma_update(None, "user_version", FORMAT).map_err(&err)?;
        tx.commit().map_err(&err)?;
        crate::space::sync_folder(Some(library)).map_err(EngineError::io("cannot make durable", library))?;
        Store::open(library)
    }

    /// Opens a database after checking whose it is and of which format.
    pub(crate) fn open(library: &Path) -> Result<Store> {
        let connection = open_readable(library)?;
        let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let application = number("application_id").map_err(|e| not_a_database(library, e))?;
        if application != APPLICATION_ID {
            let reason = format!("its {FILE_NAME} is the database of another program (application id {application:#x})");
            return Err(EngineError::NotALibrary { path: library.to_owned(), reason });
        }
        match number("user_version").map_err(|e| not_a_database(library, e))? {
            // Formats before 1 were never published. The step from 1 to 2 is taken when a lane is added.
            FORMAT_1..=FORMAT => {}
            found => return Err(EngineError::LibraryVersion { path: library.to_owned(), found, supported: FORMAT }),
        }
        Ok(Store { library: library.to_owned(), idle: Mutex::new(vec![connection]) })
    }

    /// A connection to read with.
    pub(crate) fn reader(&self) -> Result<Reader<'_>> {
        let kept = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let connection = kept.map_or_else(|| open_readable(&self.library), Ok)?;
        Ok(Reader { store: self, connection: Some(connection) })
    }

    /// A connection that has not read anything yet.
    pub(crate) fn fresh_reader(&self) -> Result<Reader<'_>> {
        Ok(Reader { store: self, connection: Some(open_readable(&self.library)?) })
    }

    /// A connection to write with; the caller holds the [`crate::lock::WriteLock`].
    pub(crate) fn writer(&self) -> Result<Writer> {
        Ok(Writer { library: self.library.clone(), connection: open_writable(&self.library, false)? })
    }

    /// For `map_err`.
    pub(crate) fn err<'a>(&'a self, doing: &'static str) -> impl Fn(rusqlite::Error) -> EngineError + 'a {
        EngineError::store(doing, &self.library)
    }

    /// The library's folder.
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }
}

/// The connection that writes.
pub(crate) struct Writer {
    library: PathBuf,
    connection: Connection,
}

impl Writer {
    /// Does all of `work` in one transaction, counts one change, and returns when it is on the disk.
    pub(crate) fn batch<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let err = EngineError::store("cannot store", &self.library);
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&err)?;
        let done = work(&tx).map_err(&err)?;
        crate::words::catch_up(&tx).map_err(&err)?;
        tx.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'", []).map_err(&err)?;
        tx.commit().map_err(&err)?;
        Ok(done)
    }

    /// To read what this writer has written.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// The format of an open database.
pub(crate) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The lanes of a library, the first one first; none in format 1, whose one lane has no name.
pub(crate) fn lanes(connection: &Connection) -> rusqlite::Result<Vec<LaneRow>> {
    if format(connection)? == FORMAT_1 {
        return Ok(Vec::new());
    }
    let read =
        |row: &rusqlite::Row<'_>| Ok(LaneRow { id: row.get(0)?, name: row.get(1)?, space: row.get(2)?, complete: row.get(3)? });
    connection.prepare("SELECT id, name, space, complete FROM lanes ORDER BY id")?.query_map([], read)?.collect()
}

/// Adds a lane to the database, which is brought to the present format with its one lane as `first`; gives its number.
pub(crate) fn add_lane(tx: &Connection, first: (&str, &str), name: &str, space: &str) -> rusqlite::Result<i64> {
    if format(tx)? == FORMAT_1 {
        tx.execute_batch(LANES)?;
        insert_lane(tx, first.0, first.1, true)?;
        tx.pragma_update(None, "user_version", FORMAT)?;
    }
    let is_empty = tx.query_row("SELECT NOT EXISTS (SELECT 1 FROM segments)", [], |row| row.get(0))?;
    let id = insert_lane(tx, name, space, is_empty)?;
    // What was refused for want of a view is tried again.
    tx.execute("UPDATE refusals SET lasting = 0", [])?;
    Ok(id)
}

fn insert_lane(tx: &Connection, name: &str, space: &str, complete: bool) -> rusqlite::Result<i64> {
    tx.execute("INSERT INTO lanes (name, space, complete) VALUES (?1, ?2, ?3)", (name, space, complete))?;
    Ok(tx.last_insert_rowid())
}

/// A value of the table `meta`.
pub(crate) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Whether the database has a table: some were added to the format later.
pub(crate) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
}

/// The count of changes.
pub(crate) fn generation(connection: &Connection) -> rusqlite::Result<i64> {
    Ok(meta(connection, "generation")?.and_then(|g| g.parse().ok()).unwrap_or(0))
}

fn open_writable(library: &Path, create: bool) -> Result<Connection> {
    let err = EngineError::store("cannot open the database to write", library);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connection = Connection::open_with_flags(library.join(FILE_NAME), flags).map_err(&err)?;
    connection.busy_timeout(BUSY).map_err(&err)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&err)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(&err)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(&err)?;
    // A row that replaces another removes that one, also for the triggers that keep derived tables true.
    connection.pragma_update(None, "recursive_triggers", true).map_err(&err)?;
    // A database may come from a stranger: nothing in its schema may run more than plain SQL.
    connection.pragma_update(None, "trusted_schema", false).map_err(&err)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Reading in WAL mode needs a small file of shared memory beside the database, which cannot be made on a full or read-only
/// disk. When no log is waiting to be read, the database is then opened as one that does not change.
fn open_readable(library: &Path) -> Result<Connection> {
    let path = library.join(FILE_NAME);
    let open = |connection: rusqlite::Result<Connection>| -> rusqlite::Result<Connection> {
        let connection = connection?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let usual = match open(Connection::open_with_flags(&path, flags)) {
        Ok(connection) => return Ok(connection),
        Err(e) => e,
    };
    let log = path.with_extension("db-wal");
    let no_log = std::fs::metadata(&log).map_or(true, |m| m.len() == 0);
    let code = usual.sqlite_error_code();
    let read_only = matches!(
        code,
        Some(
            rusqlite::ErrorCode::CannotOpen
                | rusqlite::ErrorCode::SystemIoFailure
                | rusqlite::ErrorCode::DiskFull
                | rusqlite::ErrorCode::ReadOnly
        )
    );
    if no_log && read_only && path.is_file() {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        if let Ok(connection) = open(Connection::open_with_flags(immutable_uri(&path), flags)) {
            return Ok(connection);
        }
    }
    Err(not_a_database(library, usual))
}

/// `file:` with every byte escaped that could mean something in a URI.
fn immutable_uri(path: &Path) -> String {
    let escaped: String = path_bytes(path)
        .iter()
        .map(
            |b| if b.is_ascii_alphanumeric() || b"/._-".contains(b) { char::from(*b).to_string() } else { format!("%{b:02X}") },
        )
        .collect();
    format!("file:{escaped}?immutable=1")
}

fn not_a_database(library: &Path, source: rusqlite::Error) -> EngineError {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => {
            EngineError::NotALibrary { path: library.to_owned(), reason: format!("its {FILE_NAME} is no SQLite database") }
        }
        Some(rusqlite::ErrorCode::CannotOpen) if !library.join(FILE_NAME).exists() => {
            EngineError::NoLibrary { path: library.to_owned() }
        }
        _ => EngineError::store("cannot open the database", library)(source),
    }
}

/// A path as the database keeps it: its very bytes, for a name need not be Unicode.
#[cfg(unix)]
pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

/// A path as the database keeps it; a name that is not Unicode loses what makes it so.
#[cfg(not(unix))]
pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

/// The path that [`path_bytes`] kept.
#[cfg(unix)]
pub(crate) fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The path that [`path_bytes`] kept.
#[cfg(not(unix))]
pub(crate) fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// Vectors as bytes.
pub(crate) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Makes the name of a new library durable in the folder it lies in.
pub(crate) fn sync_parent(library: &Path) -> Result<()> {
    let parent = library.parent();
    crate::space::sync_folder(parent).map_err(EngineError::io("cannot make durable", library))
}
