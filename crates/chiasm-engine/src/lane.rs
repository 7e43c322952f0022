//! Lanes: several models in one library, each with a space, vectors and an index of its own over the same items and parts.
//!
//! The first lane is what a library of one model has: its vectors stand in the table `vectors`, its space in `space.space`, its index in
//! `exact.idx`. Each further one has the table `lane_vectors` and files that bear its fingerprint. A part is cut once, so a lane has one
//! vector for each part that its space has a view for, or a gap with the reason; only a lane that was added to a filled library lacks
//! some until an indexing has made them (`fill.rs`).

use std::path::{Path, PathBuf};

use chiasm_core::Modality;
use chiasm_encode::ModelDirs;
use rusqlite::{Connection, params};

use crate::derived;
use crate::live::{Live, Shared};
use crate::lock::WriteLock;
use crate::search::is_model;
use crate::space::SPACE_FILE;
use crate::store::{self, LaneRow, Store, vector_bytes};
use crate::{EngineError, Library, Result, Space};

/// The number of the first lane.
pub(crate) const FIRST: i64 = 1;
/// How many changes a derived file may be behind and still be known: a change is some 32 parts, and a file is written anew long before.
const STATES_BACK: i64 = 10_000;

/// One model of a library.
#[derive(Debug)]
pub struct Lane {
    pub(crate) id: i64,
    name: String,
    pub(crate) space: Space,
    /// Whether the library has no other.
    alone: bool,
    shared: Shared,
}

impl Lane {
    /// What it is called in answers and in `--lane`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The space its vectors stand in.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Whether it has a view for a kind of media.
    pub(crate) fn knows(&self, modality: Modality) -> bool {
        self.space.view_of(modality).is_ok()
    }

    /// The lane of a library that was opened, from its files.
    fn open(dir: &Path, row: &LaneRow, alone: bool, models: &ModelDirs) -> Result<Lane> {
        let space = Space::load(&dir.join(space_file(row.id, &row.space)), models)?;
        if row.space != space.fingerprint() {
            let got = space.fingerprint().to_owned();
            return Err(EngineError::ForeignSpace { what: "space file", library: row.space.clone(), got });
        }
        Ok(Lane { id: row.id, name: row.name.clone(), space, alone, shared: Shared::default() })
    }

    /// Where its derived index lies.
    pub(crate) fn index_path(&self, library: &Path) -> PathBuf {
        library.join(match self.id {
            FIRST => derived::FILE_NAME.to_owned(),
            _ => format!("exact-{}.idx", self.space.fingerprint()),
        })
    }

    /// Where its cells lie, if it has any.
    pub(crate) fn cells_path(&self, library: &Path) -> PathBuf {
        library.join(match self.id {
            FIRST => "cells.idx".to_owned(),
            _ => format!("cells-{}.idx", self.space.fingerprint()),
        })
    }

    /// The name of the file that holds its space.
    pub(crate) fn space_file(&self) -> String {
        space_file(self.id, self.space.fingerprint())
    }

    /// What its index must be stamped with to be of this state of this library.
    pub(crate) fn stamp(&self, connection: &Connection, generation: i64) -> rusqlite::Result<u64> {
        let library = store::meta(connection, "library")?.unwrap_or_default();
        Ok(self.stamp_of(&library, generation))
    }

    /// Whether a stamp is of this state of the library or of one not long before.
    pub(crate) fn was_state(&self, connection: &Connection, generation: i64, stamp: u64) -> rusqlite::Result<bool> {
        let library = store::meta(connection, "library")?.unwrap_or_default();
        let earliest = generation.saturating_sub(STATES_BACK).max(0);
        Ok((earliest..=generation).rev().any(|generation| self.stamp_of(&library, generation) == stamp))
    }

    fn stamp_of(&self, library: &str, generation: i64) -> u64 {
        let digest = blake3::hash(
            match self.id {
                FIRST => format!("{library} {generation}"),
                _ => format!("{library} {generation} {}", self.space.fingerprint()),
            }
            .as_bytes(),
        );
        u64::from_le_bytes(*digest.as_bytes().first_chunk::<8>().expect("a digest has 32 bytes"))
    }

    /// The table of its vectors under the name `v`, and how it is joined to segments `s`.
    pub(crate) fn vectors(&self) -> String {
        match self.id {
            FIRST => "vectors v ON v.segment = s.id".to_owned(),
            id => format!("lane_vectors v ON v.segment = s.id AND v.lane = {id}"),
        }
    }

    /// The condition that segments `s` should have a vector in this lane.
    pub(crate) fn due(&self) -> String {
        if self.alone {
            return "1".to_owned();
        }
        // Words of the program's own, so that they can stand in a statement as they are.
        let kinds: Vec<String> = self.space.modalities().iter().map(|m| format!("'{m}'")).collect();
        let gap = format!("SELECT 1 FROM gaps g WHERE g.segment = s.id AND g.lane = {}", self.id);
        format!("s.modality IN ({}) AND NOT EXISTS ({gap})", kinds.join(", "))
    }

    /// The condition that segments `s` have a vector in this lane, asked of the vectors only where they may be missing.
    pub(crate) fn present(&self, connection: &Connection) -> rusqlite::Result<String> {
        let due = self.due();
        Ok(if self.is_complete(connection)? { due } else { format!("{due} AND NOT {}", self.lacking()) })
    }

    /// The condition that segments `s` have no vector in this lane.
    pub(crate) fn lacking(&self) -> String {
        let (table, lane) = match self.id {
            FIRST => ("vectors", String::new()),
            id => ("lane_vectors", format!(" AND x.lane = {id}")),
        };
        format!("NOT EXISTS (SELECT 1 FROM {table} x WHERE x.segment = s.id{lane})")
    }

    pub(crate) fn is_complete(&self, connection: &Connection) -> rusqlite::Result<bool> {
        if self.id == FIRST {
            return Ok(true);
        }
        connection.prepare_cached("SELECT complete FROM lanes WHERE id = ?1")?.query_row([self.id], |row| row.get(0))
    }

    /// What is to be searched now.
    pub(crate) fn live(&self, store: &Store) -> Result<std::sync::Arc<Live>> {
        self.shared.get(store, self)
    }

    /// Makes the index of the present state, as this process's own changes have left it; until it is made, others ask the one before.
    /// `whole`: as one file, however little is new.
    pub(crate) fn renew(&self, store: &Store, whole: bool) -> Result<std::sync::Arc<Live>> {
        self.shared.renew(store, self, whole)
    }

    /// Whether anything was asked of it so far.
    pub(crate) fn is_loaded(&self) -> bool {
        self.shared.is_loaded()
    }

    /// Forgets what was loaded, so that the next question sees this process's own changes at once.
    pub(crate) fn forget(&self) {
        self.shared.forget();
    }
}

/// Stores a part's vector in a lane.
pub(crate) fn insert_vector(tx: &Connection, lane: i64, segment: i64, vector: &[f32]) -> rusqlite::Result<()> {
    let bytes = vector_bytes(vector);
    if lane == FIRST {
        tx.prepare_cached("INSERT INTO vectors (segment, vector) VALUES (?1, ?2)")?.execute(params![segment, bytes])?;
    } else {
        let sql = "INSERT INTO lane_vectors (segment, lane, vector) VALUES (?1, ?2, ?3)";
        tx.prepare_cached(sql)?.execute(params![segment, lane, bytes])?;
    }
    Ok(())
}

/// Stores that a part has no vector in a lane, and why.
pub(crate) fn insert_gap(tx: &Connection, lane: i64, segment: i64, reason: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO gaps (segment, lane, reason) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![segment, lane, reason]).map(|_| ())
}

/// The name of the file that holds the space of a lane.
pub(crate) fn space_file(id: i64, fingerprint: &str) -> String {
    if id == FIRST { SPACE_FILE.to_owned() } else { format!("space-{fingerprint}.space") }
}

/// A name that is not taken: the space's own, with a number behind it where another lane is called so.
fn name_apart(taken: &[String], space: &Space) -> String {
    let own = space.name();
    // What a request may say in place of a model's name.
    let taken = |name: &String| taken.contains(name) || !is_model(name);
    let numbered = (2..).map(|n| format!("{own}-{n}"));
    let mut names = std::iter::once(own.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).expect("there are more numbers than lanes")
}

/// The names of lanes of these spaces, each with its fingerprint.
///
/// # Errors
/// [`EngineError::LaneExists`] for two of one space.
pub(crate) fn named(spaces: &[&Space]) -> Result<Vec<(String, String)>> {
    let mut lanes: Vec<(String, String)> = Vec::new();
    for space in spaces {
        if let Some((name, _)) = lanes.iter().find(|(_, fingerprint)| fingerprint == space.fingerprint()) {
            return Err(EngineError::LaneExists { name: name.clone(), fingerprint: space.fingerprint().to_owned() });
        }
        let taken: Vec<String> = lanes.iter().map(|(name, _)| name.clone()).collect();
        lanes.push((name_apart(&taken, space), space.fingerprint().to_owned()));
    }
    Ok(lanes)
}

/// The lanes of a library that is being opened.
pub(crate) fn open(dir: &Path, store: &Store, models: &ModelDirs) -> Result<Vec<Lane>> {
    let reader = store.reader()?;
    let err = store.err("cannot read the lanes");
    let mut rows = store::lanes(&reader).map_err(&err)?;
    if rows.is_empty() {
        let space = store::meta(&reader, "space").map_err(&err)?.unwrap_or_default();
        rows.push(LaneRow { id: FIRST, name: String::new(), space, complete: true });
    }
    let alone = rows.len() == 1;
    let mut lanes = rows.iter().map(|row| Lane::open(dir, row, alone, models)).collect::<Result<Vec<Lane>>>()?;
    for lane in &mut lanes {
        if lane.name.is_empty() {
            lane.name = lane.space.name().to_owned();
        }
    }
    match lanes.first() {
        Some(first) if first.id == FIRST => Ok(lanes),
        _ => Err(EngineError::NotALibrary { path: dir.to_owned(), reason: "its first lane is missing".to_owned() }),
    }
}

impl Library {
    /// Its models, the first one first.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The lanes of these names, in the library's order; all when none is named.
    ///
    /// # Errors
    /// [`EngineError::NoSuchLane`].
    pub fn lanes_named(&self, names: &[String]) -> Result<Vec<&Lane>> {
        if let Some(unknown) = names.iter().find(|name| !self.lanes.iter().any(|lane| lane.name == **name)) {
            let has = self.lanes.iter().map(|lane| lane.name.clone()).collect();
            return Err(EngineError::NoSuchLane { name: unknown.clone(), has });
        }
        Ok(self.lanes.iter().filter(|lane| names.is_empty() || names.contains(&lane.name)).collect())
    }

    /// Adds a model to the library. Its vectors are made by the next [`Library::index`], which may be stopped and taken up again;
    /// until then the lane answers with what it has.
    ///
    /// # Errors
    /// [`EngineError::LaneExists`] when a lane stands in this space already, [`EngineError::LanesChanged`], [`EngineError::Locked`],
    /// [`EngineError::Io`], [`EngineError::DiskFull`].
    pub fn add_lane(&mut self, space: &Space) -> Result<()> {
        let _lock = WriteLock::take(&self.dir)?;
        self.check_lanes()?;
        if let Some(lane) = self.lanes.iter().find(|lane| lane.space.fingerprint() == space.fingerprint()) {
            let fingerprint = space.fingerprint().to_owned();
            return Err(EngineError::LaneExists { name: lane.name.clone(), fingerprint });
        }
        let taken: Vec<String> = self.lanes.iter().map(|lane| lane.name.clone()).collect();
        let name = name_apart(&taken, space);
        // The space first: the database never names a lane whose space is not there. A file left by an interruption is written over.
        let path = self.dir.join(space_file(FIRST + 1, space.fingerprint()));
        space.save(&path)?;
        let first = self.first();
        let mut writer = self.store.writer()?;
        let first = (first.name.as_str(), first.space.fingerprint());
        let id = writer.batch(|tx| store::add_lane(tx, first, &name, space.fingerprint()))?;
        let space = Space::load(&path, space.models())?;
        self.lanes.push(Lane { id, name, space, alone: false, shared: Shared::default() });
        self.lanes.iter_mut().for_each(|lane| {
            lane.alone = false;
            lane.forget();
        });
        Ok(())
    }

    /// The first lane.
    pub(crate) fn first(&self) -> &Lane {
        &self.lanes[0]
    }

    /// Refuses to write when another process has added a lane since the library was opened: items would lack its vectors.
    pub(crate) fn check_lanes(&self) -> Result<()> {
        let rows = store::lanes(&*self.store.reader()?).map_err(self.store.err("cannot read the lanes"))?;
        let own: Vec<i64> = self.lanes.iter().map(|lane| lane.id).collect();
        let there: Vec<i64> = if rows.is_empty() { vec![FIRST] } else { rows.iter().map(|row| row.id).collect() };
        if own == there { Ok(()) } else { Err(EngineError::LanesChanged { path: self.dir.clone() }) }
    }

    /// The lane of a space, by its fingerprint.
    pub(crate) fn lane_of(&self, what: &'static str, fingerprint: &str) -> Result<&Lane> {
        self.lanes.iter().find(|lane| lane.space.fingerprint() == fingerprint).ok_or_else(|| EngineError::ForeignSpace {
            what,
            library: self.lanes.iter().map(|lane| lane.space.fingerprint()).collect::<Vec<_>>().join(", "),
            got: fingerprint.to_owned(),
        })
    }
}
