//! What the catalogue knew before a run.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use rusqlite::Connection;

use crate::library::below;
use crate::store::{Writer, path_bytes};
use crate::walk::{Stat, Walked};
use crate::{EngineError, Result};

/// The parts of it that a run asks for.
pub(crate) struct Known {
    pub(crate) writer: Writer,
    pub(super) paths: HashMap<Vec<u8>, KnownPath>,
    pub(super) items: HashMap<[u8; 32], i64>,
    pub(super) refusals: HashMap<Vec<u8>, KnownRefusal>,
    /// Items one of whose files is no longer where it was.
    pub(super) displaced: HashSet<i64>,
}

pub(super) struct KnownPath {
    pub(super) stat: Stat,
    pub(super) settled: bool,
    pub(super) item: i64,
}

pub(super) struct KnownRefusal {
    pub(super) reason: String,
    pub(super) stat: Stat,
    pub(super) lasting: bool,
    pub(super) program: String,
}

fn stat_at(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Stat> {
    Ok(Stat { size: row.get::<_, i64>(at)? as u64, mtime_ns: row.get(at + 1)? })
}

impl Known {
    pub(super) fn read(
        writer: Writer,
        err: &dyn Fn(rusqlite::Error) -> EngineError,
        roots: &[PathBuf],
        walked: &Walked,
    ) -> Result<Known> {
        let read = |db: &Connection| -> rusqlite::Result<_> {
            let mut paths = HashMap::new();
            let mut refusals = HashMap::new();
            let mut of_paths = db.prepare(
                "SELECT path, size, mtime_ns, settled, item FROM paths WHERE path = ?1 OR (path >= ?2 AND path < ?3)",
            )?;
            let mut of_refusals =
                db.prepare("SELECT path, size, mtime_ns, reason, lasting, program FROM refusals WHERE path = ?1 OR (path >= ?2 AND path < ?3)")?;
            for root in roots {
                let (low, high) = below(root);
                let mut rows = of_paths.query((path_bytes(root), &low, &high))?;
                while let Some(row) = rows.next()? {
                    let known = KnownPath { stat: stat_at(row, 1)?, settled: row.get(3)?, item: row.get(4)? };
                    paths.insert(row.get::<_, Vec<u8>>(0)?, known);
                }
                let mut rows = of_refusals.query((path_bytes(root), &low, &high))?;
                while let Some(row) = rows.next()? {
                    let known = KnownRefusal {
                        stat: stat_at(row, 1)?,
                        reason: row.get(3)?,
                        lasting: row.get(4)?,
                        program: row.get(5)?,
                    };
                    refusals.insert(row.get::<_, Vec<u8>>(0)?, known);
                }
            }
            let mut items = HashMap::new();
            let mut statement = db.prepare("SELECT hash, id FROM items")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                items.insert(row.get::<_, [u8; 32]>(0)?, row.get(1)?);
            }
            Ok((paths, refusals, items))
        };
        let (paths, refusals, items) = read(writer.connection()).map_err(err)?;
        let found: HashSet<Vec<u8>> = walked.files.iter().map(|f| path_bytes(&f.path)).collect();
        let displaced = paths.iter().filter(|(path, _)| !found.contains(*path)).map(|(_, known)| known.item).collect();
        Ok(Known { writer, paths, items, refusals, displaced })
    }
}
