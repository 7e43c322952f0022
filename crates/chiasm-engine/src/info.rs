//! What a library holds, in numbers.

use std::path::{Path, PathBuf};

use chiasm_core::Modality;
use rusqlite::Connection;
use serde::Serialize;

use crate::cells::CellsInfo;
use crate::derived::modality_at;
use crate::ingest::Refusal;
use crate::lane::Lane;
use crate::store::{self, path_of};
use crate::{Library, Result, SpaceInfo};

/// Items of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// The kind.
    #[serde(serialize_with = "crate::serial::modality")]
    pub kind: Modality,
    /// Items.
    pub n_items: usize,
    /// Parts, those of captions left out.
    pub n_segments: usize,
}

/// One model of a library.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneInfo {
    /// Its name.
    pub name: String,
    /// Its space.
    pub space: SpaceInfo,
    /// Vectors.
    pub n_vectors: usize,
    /// Vectors that the next indexing is to make.
    pub n_lacking: usize,
    /// Parts that its model can make nothing of.
    pub n_gaps: usize,
    /// Bytes of its derived index, when it is there.
    pub index_bytes: Option<u64>,
    /// Its cells, when it has any: then a search looks at a part of the vectors.
    pub cells: Option<CellsInfo>,
}

/// What a library holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LibraryInfo {
    /// Its folder.
    #[serde(serialize_with = "crate::serial::path")]
    pub dir: PathBuf,
    /// Format of its database.
    pub format: i64,
    /// Counts every change.
    pub generation: i64,
    /// The space of its first lane.
    pub space: SpaceInfo,
    /// Its models, the first one first.
    pub lanes: Vec<LaneInfo>,
    /// Contents.
    pub n_items: usize,
    /// Files; more than items when there are copies.
    pub n_paths: usize,
    /// Parts, of which each lane has a vector.
    pub n_segments: usize,
    /// By kind.
    pub kinds: Vec<KindCount>,
    /// Captions beside media.
    pub n_captions: usize,
    /// Files and folders that were indexed.
    #[serde(serialize_with = "crate::serial::paths")]
    pub roots: Vec<PathBuf>,
    /// Files that could not be taken in.
    pub refused: Vec<Refusal>,
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of the first lane's derived index, when it is there.
    pub index_bytes: Option<u64>,
}

impl Library {
    /// Files and folders that were indexed.
    ///
    /// # Errors
    /// [`crate::EngineError::Store`].
    pub fn roots(&self) -> Result<Vec<PathBuf>> {
        let reader = self.store.reader()?;
        roots(&reader).map_err(self.store.err("cannot read the roots"))
    }

    /// What the library holds.
    ///
    /// # Errors
    /// [`crate::EngineError::Store`].
    pub fn info(&self) -> Result<LibraryInfo> {
        let mut reader = self.store.reader()?;
        let err = self.store.err("cannot count");
        // One transaction, so that all numbers are of one state.
        let tx = reader.transaction().map_err(&err)?;
        let read = || -> rusqlite::Result<LibraryInfo> {
            let count = |table: &str| -> rusqlite::Result<usize> {
                Ok(tx.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))? as usize)
            };
            let sql = "SELECT i.kind, count(DISTINCT i.id), count(s.id) FROM items i
                LEFT JOIN segments s ON s.item = i.id AND s.caption IS NULL GROUP BY i.kind";
            let mut kinds: Vec<KindCount> = tx
                .prepare(sql)?
                .query_map([], |row| {
                    let (n_items, n_segments) = (row.get::<_, i64>(1)? as usize, row.get::<_, i64>(2)? as usize);
                    Ok(KindCount { kind: modality_at(row, 0)?, n_items, n_segments })
                })?
                .collect::<rusqlite::Result<_>>()?;
            kinds.sort_by_key(|k| k.kind);
            let refused = tx
                .prepare("SELECT path, reason FROM refusals ORDER BY path")?
                .query_map([], |row| Ok(Refusal { path: path_of(row.get(0)?), reason: row.get(1)? }))?
                .collect::<rusqlite::Result<_>>()?;
            let n_bytes = |name: &str| std::fs::metadata(self.dir.join(name)).ok().map(|m| m.len());
            let lanes = self.lanes.iter().map(|lane| lane_info(&tx, lane, &self.dir)).collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(LibraryInfo {
                dir: self.dir.clone(),
                format: store::format(&tx)?,
                generation: store::generation(&tx)?,
                space: self.space().describe(),
                n_items: count("items")?,
                n_paths: count("paths")?,
                n_segments: count("segments")?,
                kinds,
                n_captions: count("captions")?,
                roots: roots(&tx)?,
                refused,
                database_bytes: n_bytes(store::FILE_NAME).unwrap_or(0) + n_bytes("library.db-wal").unwrap_or(0),
                index_bytes: lanes.first().and_then(|first| first.index_bytes),
                lanes,
            })
        };
        read().map_err(&err)
    }
}

fn roots(connection: &Connection) -> rusqlite::Result<Vec<PathBuf>> {
    let mut statement = connection.prepare_cached("SELECT path FROM roots ORDER BY path")?;
    statement.query_map([], |row| Ok(path_of(row.get(0)?)))?.collect()
}

fn lane_info(tx: &Connection, lane: &Lane, dir: &Path) -> rusqlite::Result<LaneInfo> {
    let count = |sql: &str| -> rusqlite::Result<usize> { Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0))? as usize) };
    let of_segments = |condition: &str| count(&format!("SELECT count(*) FROM segments s WHERE {condition}"));
    let n_lacking = if lane.is_complete(tx)? { 0 } else { of_segments(&format!("{} AND {}", lane.due(), lane.lacking()))? };
    // A library of format 1 has no table of gaps.
    let n_gaps = match store::format(tx)? {
        1 => 0,
        _ => count(&format!("SELECT count(*) FROM gaps WHERE lane = {}", lane.id))?,
    };
    Ok(LaneInfo {
        name: lane.name().to_owned(),
        space: lane.space().describe(),
        n_vectors: of_segments(&lane.due())? - n_lacking,
        n_lacking,
        n_gaps,
        index_bytes: std::fs::metadata(lane.index_path(dir)).ok().map(|m| m.len()),
        cells: CellsInfo::read(&lane.cells_path(dir)),
    })
}
