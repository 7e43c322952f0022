//! Tags: words that people put on items.
//!
//! The table stands in the library from the first tag on: a library without it has none, and a program that does not know it passes it
//! over, so the library's format stays what it is. Tags are no part of what is derived (no vector changes), so the count of
//! changes stays, and no index is made anew for a word. For the same reason they are written without the lock that spans an indexing:
//! nothing else writes this table, and SQLite's own lock covers one short transaction, so an item can be tagged while folders are taken
//! in. A tag belongs to a content: it moves with the file, and leaves with the item.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::has_table;
use crate::{EngineError, Library, Result};

/// Characters of a tag.
const MAX_CHARS: usize = 64;
/// Tags of an item.
const MAX_TAGS: usize = 64;

/// Tags that differ in the case of ASCII letters alone are one.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS tags (
        item INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
        tag  TEXT NOT NULL COLLATE NOCASE,
        PRIMARY KEY (item, tag)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS tags_tag ON tags (tag);";

impl Library {
    /// Puts these tags on an item in place of those it had, none to take them off; gives them as they are kept: trimmed, each once,
    /// in their own order. May be called while another thread or process is indexing.
    ///
    /// # Errors
    /// [`EngineError::Tag`] for a tag that is empty, longer than 64 characters or has control characters, and for more than 64 of them;
    /// [`EngineError::NoSuchItem`]; [`EngineError::Store`]; [`EngineError::DiskFull`].
    pub fn set_tags(&self, item: i64, tags: &[String]) -> Result<Vec<String>> {
        let tags = checked(tags)?;
        let writer = self.store.writer()?;
        let err = self.store.err("cannot store tags");
        let write = || -> rusqlite::Result<Option<Vec<String>>> {
            let tx = Transaction::new_unchecked(writer.connection(), TransactionBehavior::Immediate)?;
            if !tx.prepare("SELECT 1 FROM items WHERE id = ?1")?.exists([item])? {
                return Ok(None);
            }
            tx.execute_batch(SCHEMA)?;
            tx.execute("DELETE FROM tags WHERE item = ?1", [item])?;
            let mut statement = tx.prepare("INSERT INTO tags (item, tag) VALUES (?1, ?2)")?;
            tags.iter().try_for_each(|tag| statement.execute((item, tag)).map(|_| ()))?;
            drop(statement);
            let kept = of_item(&tx, item)?;
            tx.commit()?;
            Ok(Some(kept))
        };
        write().map_err(&err)?.ok_or_else(|| EngineError::NoSuchItem(item.to_string()))
    }
}

impl Library {
    /// The tags of an item, in their order.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn tags_of(&self, item: i64) -> Result<Vec<String>> {
        of_item(&*self.store.reader()?, item).map_err(self.store.err("cannot read tags"))
    }

    /// All tags, in their order, and how many items have each.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn all_tags(&self) -> Result<Vec<(String, usize)>> {
        let reader = self.store.reader()?;
        let read = || -> rusqlite::Result<Vec<(String, usize)>> {
            if !exist(&reader)? {
                return Ok(Vec::new());
            }
            let mut statement = reader.prepare("SELECT min(tag), count(*) FROM tags GROUP BY tag ORDER BY tag")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))?.collect()
        };
        read().map_err(self.store.err("cannot read tags"))
    }
}

/// The tags as they are kept.
fn checked(tags: &[String]) -> Result<Vec<String>> {
    let refuse = |tag: &str, reason: String| Err(EngineError::Tag { tag: tag.chars().take(MAX_CHARS).collect(), reason });
    let mut kept: Vec<String> = Vec::new();
    for tag in tags {
        let tag = tag.trim();
        let n_chars = tag.chars().count();
        if n_chars == 0 || n_chars > MAX_CHARS {
            return refuse(tag, format!("it has {n_chars} characters, expected 1 to {MAX_CHARS}"));
        }
        if let Some(control) = tag.chars().find(|c| c.is_control()) {
            return refuse(tag, format!("it holds the control character U+{:04X}: leave it out", u32::from(control)));
        }
        if !kept.iter().any(|k| k.eq_ignore_ascii_case(tag)) {
            kept.push(tag.to_owned());
        }
    }
    match kept.get(MAX_TAGS) {
        Some(beyond) => refuse(beyond, format!("the item would have {} tags, at most {MAX_TAGS} are kept", kept.len())),
        None => Ok(kept),
    }
}

/// Whether a library has the table.
pub(crate) fn exist(connection: &Connection) -> rusqlite::Result<bool> {
    has_table(connection, "tags")
}

/// The tags of an item, in their order.
pub(crate) fn of_item(connection: &Connection, item: i64) -> rusqlite::Result<Vec<String>> {
    if !exist(connection)? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare_cached("SELECT tag FROM tags WHERE item = ?1 ORDER BY tag")?;
    statement.query_map([item], |row| row.get(0))?.collect()
}
