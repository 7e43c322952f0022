//! Whether a library is what it says it is.

use std::path::Path;
use std::time::Instant;

use chiasm_core::Metric;
use chiasm_index::{CellIndex, ExactIndex};
use rusqlite::Connection;
use serde::Serialize;

use crate::ingest::shown;
use crate::lane::Lane;
use crate::space::floats;
use crate::store::{self, path_of};
use crate::{Library, Result};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, and with what.
    pub what: String,
    /// How to mend it.
    pub cure: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Damage to the library itself; clean when empty.
    pub problems: Vec<Problem>,
    /// Vectors that a lane still lacks, and differences between the library and the files (deep checks only): files that changed or
    /// are gone since they were indexed. No damage; the next `chiasm index` puts them right.
    pub outdated: Vec<Problem>,
    /// Items checked.
    pub n_items: usize,
    /// Vectors checked, of all lanes.
    pub n_segments: usize,
    /// Files read and hashed; 0 unless deep.
    pub n_files_hashed: usize,
    /// Seconds.
    pub wall_s: f64,
}

impl VerifyReport {
    /// Whether the library itself is sound.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Library {
    /// Checks the database's own structure, references between tables, every vector (length, finite, unit length for cosine),
    /// the word index against the texts, the space against the one that wrote the library, and the derived index against the
    /// database; `deep` also reads every file and compares hashes.
    ///
    /// # Errors
    /// [`crate::EngineError::Store`] when the database cannot be read at all.
    pub fn verify(&self, deep: bool) -> Result<VerifyReport> {
        let started = Instant::now();
        let mut report = VerifyReport::default();
        // A connection of its own: on one that has looked up words before, SQLite's check of the word index compares with what
        // that connection remembers, and calls every later change damage.
        let mut reader = self.store.fresh_reader()?;
        let err = self.store.err("cannot verify");
        let tx = reader.transaction().map_err(&err)?;
        structure(&tx, &mut report).map_err(&err)?;
        report.n_items = tx.query_row("SELECT count(*) FROM items", [], |row| row.get::<_, i64>(0)).map_err(&err)? as usize;
        for lane in &self.lanes {
            let told = if self.lanes.len() == 1 { String::new() } else { format!("lane {}: ", lane.name()) };
            vectors(&tx, lane, &told, &mut report).map_err(&err)?;
            derived(&tx, lane, &told, &self.dir, &mut report).map_err(&err)?;
        }
        if deep {
            files(&tx, &mut report).map_err(&err)?;
        }
        report.wall_s = started.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// Every vector of a lane; `told` stands before what is wrong.
fn vectors(db: &Connection, lane: &Lane, told: &str, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let (dim, metric, is_complete) = (lane.space().dim(), lane.space().metric(), lane.is_complete(db)?);
    let sql = format!(
        "SELECT s.id, s.item, v.vector FROM segments s LEFT JOIN {} WHERE {} ORDER BY s.id",
        lane.vectors(),
        lane.due()
    );
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut n_lacking = 0;
    while let Some(row) = rows.next()? {
        report.n_segments += 1;
        let (id, item): (i64, i64) = (row.get(0)?, row.get(1)?);
        let fault = match row.get_ref(2)?.as_blob_or_null()? {
            None if !is_complete => {
                (n_lacking, report.n_segments) = (n_lacking + 1, report.n_segments - 1);
                None
            }
            None => Some("is missing".to_owned()),
            Some(bytes) if bytes.len() != dim * 4 => Some(format!("has {} bytes, expected {}", bytes.len(), dim * 4)),
            Some(bytes) => fault_of(&floats(bytes), metric),
        };
        if let Some(fault) = fault {
            report.add(format!("{told}the vector of segment {id} of item {item} {fault}"), REINDEX);
        }
    }
    if n_lacking > 0 {
        let cure = "run `chiasm index`: it makes what the lane lacks".to_owned();
        report.outdated.push(Problem { what: format!("{told}{n_lacking} vectors are still to be made"), cure });
    }
    Ok(())
}

/// A lane's space and derived index against the database.
fn derived(db: &Connection, lane: &Lane, told: &str, dir: &Path, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let own = lane.space().fingerprint();
    let rows = store::lanes(db)?;
    let written = match rows.iter().find(|row| row.id == lane.id) {
        Some(row) => row.space.clone(),
        None => store::meta(db, "space")?.unwrap_or_default(),
    };
    if written != own {
        let what = format!("{told}the library was written in the space {written}, its {} is {own}", lane.space_file());
        report.add(what, "put the original space file back");
    }
    let cells = lane.cells_path(dir);
    if cells.exists()
        && let Err(e) = CellIndex::open(&cells).and_then(|(index, _)| index.verify(&cells))
    {
        report.add(e.to_string(), "delete the file: searches scan all vectors until `chiasm index` makes it anew");
    }
    let path = lane.index_path(dir);
    if !path.exists() {
        return Ok(());
    }
    const CURE: &str = "delete the file: it is made anew with the next search";
    let (index, stamp) = match ExactIndex::open(&path) {
        Ok(opened) => opened,
        Err(e) => {
            report.add(e.to_string(), CURE);
            return Ok(());
        }
    };
    if let Err(e) = index.verify() {
        report.add(e.to_string(), CURE);
        return Ok(());
    }
    let generation = store::generation(db)?;
    // Of another library, or of long ago: it would not be used, so there is nothing wrong with it.
    if !lane.was_state(db, generation, stamp)? {
        return Ok(());
    }
    // What came and went since is known from the database.
    let is_present = stamp == lane.stamp(db, generation)?;
    let sql = format!("SELECT s.id, v.vector FROM segments s JOIN {} WHERE {} ORDER BY s.id", lane.vectors(), lane.due());
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let (mut n_here, mut n_same) = (0, 0);
    while let Some(row) = rows.next()? {
        n_here += 1;
        let id = row.get::<_, i64>(0)? as u64;
        let vector = floats(row.get_ref(1)?.as_blob()?);
        let same = match index.row_of(id) {
            Some(at) => index.vector(at).get(..vector.len()).is_some_and(|row| close(row, &vector, lane.space().metric())),
            None if is_present => false,
            None => continue,
        };
        if !same {
            report.add(format!("{} differs from the database at segment {id}", path.display()), CURE);
            return Ok(());
        }
        n_same += 1;
    }
    if is_present && n_same != index.ids().len() {
        report.add(format!("{} has {} vectors, the database {n_here}", path.display(), index.ids().len()), CURE);
    }
    Ok(())
}

const REINDEX: &str =
    "run `chiasm rm` and `chiasm index` on its file, or build the library anew: the files themselves are untouched";

impl VerifyReport {
    fn add(&mut self, what: String, cure: &str) {
        self.problems.push(Problem { what, cure: cure.to_owned() });
    }
}

/// The database's own checks and those between its tables.
fn structure(db: &Connection, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let texts = |sql: &str| -> rusqlite::Result<Vec<String>> { db.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
    for line in texts("PRAGMA integrity_check(20)")?.into_iter().filter(|line| line != "ok") {
        report.add(format!("database: {line}"), "restore library.db from a backup, or build the library anew");
    }
    let n_dangling = db.prepare("PRAGMA foreign_key_check")?.query_map([], |_| Ok(()))?.count();
    if n_dangling > 0 {
        report.add(format!("{n_dangling} rows refer to rows that are not there"), REINDEX);
    }
    let lists = [
        ("items without a file", "SELECT 'item ' || i.id FROM items i WHERE NOT EXISTS (SELECT 1 FROM paths p WHERE p.item = i.id)"),
        (
            "items without a vector",
            "SELECT 'item ' || i.id FROM items i WHERE NOT EXISTS (SELECT 1 FROM segments s WHERE s.item = i.id AND s.caption IS NULL)",
        ),
        (
            "text segments without words",
            "SELECT 'segment ' || s.id FROM segments s WHERE s.modality = 'text' AND NOT EXISTS (SELECT 1 FROM texts t WHERE t.segment = s.id)
                AND EXISTS (SELECT 1 FROM items i WHERE i.id = s.item AND i.format != 'imported')",
        ),
    ];
    for (name, sql) in lists {
        let found = texts(sql)?;
        if !found.is_empty() {
            let some: Vec<&str> = found.iter().take(5).map(String::as_str).collect();
            report.add(format!("{} {name}: {}", found.len(), some.join(", ")), REINDEX);
        }
    }
    // FTS5's own comparison is asked for by an INSERT, which a reader may not: it is part of the tests, here both are counted.
    let (n_texts, n_words): (i64, i64) =
        db.query_row("SELECT (SELECT count(*) FROM texts), (SELECT count(*) FROM words_docsize)", [], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })?;
    if n_texts != n_words {
        report.add(format!("{n_texts} texts, but {n_words} in the word index"), REINDEX);
    }
    Ok(())
}

fn fault_of(vector: &[f32], metric: Metric) -> Option<String> {
    if let Some(at) = vector.iter().position(|v| !v.is_finite()) {
        return Some(format!("is {} at dimension {at}", vector[at]));
    }
    let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    // f32 rounding of a unit vector is below 1e-6; a row of zeros is the one that cannot be scaled.
    (metric == Metric::Cosine && norm != 0.0 && (norm - 1.0).abs() > 1e-3).then(|| format!("has length {norm}, expected 1"))
}

/// The index scales cosine vectors to unit length once more, which moves each number by rounding alone.
fn close(a: &[f32], b: &[f32], metric: Metric) -> bool {
    let tolerance = if metric == Metric::Cosine { 1e-5 } else { 0.0 };
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= tolerance)
}

/// Every catalogued file against its hash.
fn files(db: &Connection, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let mut statement = db.prepare(
        "SELECT p.path, i.hash FROM paths p JOIN items i ON i.id = p.item WHERE i.format != 'imported' ORDER BY p.path",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let path = path_of(row.get(0)?);
        let hash: [u8; 32] = row.get(1)?;
        let mut hasher = blake3::Hasher::new();
        let read = std::fs::metadata(&path).and_then(|m| match m.is_file() {
            true => hasher.update_reader(std::fs::File::open(&path)?).map(|_| ()),
            false => Err(std::io::Error::other("is no regular file any more")),
        });
        report.n_files_hashed += 1;
        let what = match read {
            Ok(()) if hasher.finalize().as_bytes() == &hash => continue,
            Ok(()) => format!("{} has changed since it was indexed", shown(&path)),
            Err(e) => format!("{}: {e}", shown(&path)),
        };
        report.outdated.push(Problem { what, cure: "run `chiasm index` over its folder".to_owned() });
    }
    Ok(())
}
