//! The derived index of a lane: a file of the state it was made in, and what the library has grown and lost since.
//!
//! `exact.idx` holds every vector of one state of the library; its stamp is a digest of the library's own number and its count of changes,
//! so that of an earlier state is known as such, and that of another library is known to be no good. Segments are numbered upwards, no number
//! is used twice, and a segment's vector never changes: what is present and in the file is right there, what is present with a greater number
//! came later and is read from the database into memory, and what is in the file and no longer present is let out of every search. Once
//! that is a good part of the file (see [`is_much`]), what is there is written as one file again. It is made from the database alone when it
//! is missing, damaged, of another library, or when a lane has got vectors of older segments.
//!
//! A file of up to 64 MiB is read against its checksum when it is opened; beyond that the header alone is, `chiasm verify` reads the rest,
//! and so does who writes the next file from it.

use std::path::Path;
use std::sync::Arc;

use chiasm_core::{Modality, RowSet, VectorIndex, Vectors};
use chiasm_index::{ExactIndex, GrownIndex, IndexWriter};
use rusqlite::Connection;

use crate::lane::Lane;
use crate::space::floats;
use crate::store::Store;
use crate::{EngineError, Result, Space};

pub(crate) const FILE_NAME: &str = "exact.idx";
/// In the place of an item: its row is no longer in the database. Items are numbered from 1.
pub(crate) const GONE: i64 = 0;
/// Files up to this many bytes are checked whole when they are opened.
const CHECK_WHOLE: u64 = 64 << 20;
/// Vectors read and written at a time.
const CHUNK: usize = 4096;
/// A file is written anew once more than one row in so many came or went, and at the latest after so many.
const MUCH_OF: usize = 8;
const MUCH: usize = 16_384;

/// What belongs to each row of an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// Its item, or [`GONE`].
    pub(crate) items: Vec<i64>,
    /// Its own modality; a caption is text.
    pub(crate) modalities: Vec<Modality>,
    /// Its item's kind.
    pub(crate) kinds: Vec<Modality>,
}

/// The index of one state of a lane.
pub(crate) struct Derived {
    pub(crate) index: GrownIndex,
    pub(crate) rows: Rows,
    /// Stamp of the index's base.
    pub(crate) stamp: u64,
}

impl Derived {
    /// Whether it is one file, or as good as one, with nothing come or gone since.
    pub(crate) fn is_whole(&self) -> bool {
        self.n_changed() == 0
    }

    fn n_changed(&self) -> usize {
        self.index.n_tail() + self.rows.items.iter().filter(|item| **item == GONE).count()
    }

    /// Whether searches would gain by a new file.
    fn is_much(&self) -> bool {
        self.n_changed() > (self.index.base().len() / MUCH_OF).min(MUCH)
    }
}

/// The index of the state that a transaction sees: grown from an earlier one or from the file, else made anew. `whole`: as one file.
pub(crate) fn of(
    tx: &Connection,
    generation: i64,
    lane: &Lane,
    store: &Store,
    earlier: Option<&Derived>,
    whole: bool,
) -> Result<Derived> {
    let err = store.err("cannot read the vectors");
    let path = lane.index_path(store.library());
    let on_disk = ExactIndex::open(&path).ok();
    // The file may be newer than what was grown from.
    let earlier = earlier.filter(|earlier| on_disk.as_ref().is_none_or(|(_, stamp)| *stamp == earlier.stamp));
    let grown = match (earlier, on_disk) {
        (Some(earlier), _) => grown(tx, earlier, lane, store)?,
        (None, Some((base, stamp))) if is_usable(&base, stamp, &path, tx, generation, lane).map_err(&err)? => {
            let rows = Rows::of_none(base.len());
            grown(tx, &Derived { index: GrownIndex::new(Arc::new(base)), rows, stamp }, lane, store)?
        }
        (None, _) => None,
    };
    let stamp = lane.stamp(tx, generation).map_err(&err)?;
    match grown {
        Some(grown) if grown.is_much() || (whole && !grown.is_whole()) => match written(&grown, &path, stamp) {
            Some(written) => Ok(written),
            // A full or read-only disk is no reason not to answer. Damage is: the database has it right.
            None if grown.index.base().verify().is_ok() => Ok(grown),
            None => made(tx, &path, stamp, lane, store),
        },
        Some(grown) => Ok(grown),
        None => made(tx, &path, stamp, lane, store),
    }
}

/// An index brought to the state that a transaction sees; `None` where older segments have got vectors meanwhile.
fn grown(tx: &Connection, from: &Derived, lane: &Lane, store: &Store) -> Result<Option<Derived>> {
    let err = store.err("cannot read the vectors");
    let last = from.index.last_id().map_or(0, |id| id as i64);
    let mut rows = from.rows.clone();
    // Numbers only ever go, so an unchanged count is an unchanged set; but for a lane whose older segments are being embedded.
    let n_here = rows.items.iter().filter(|item| **item != GONE).count();
    if n_here == 0 || n_here != n_up_to(tx, last, lane).map_err(&err)? || !lane.is_complete(tx).map_err(&err)? {
        let here = rows_within(tx, 0, last, lane).map_err(&err)?;
        rows = Rows::of_none(rows.items.len());
        for (at, id) in here.ids.iter().enumerate() {
            let Some(row) = from.index.row_of(*id) else { return Ok(None) };
            rows.items[row] = here.rows.items[at];
            rows.modalities[row] = here.rows.modalities[at];
            rows.kinds[row] = here.rows.kinds[at];
        }
    }
    let new = rows_within(tx, last, i64::MAX, lane).map_err(&err)?;
    let mut data = Vec::with_capacity(new.ids.len() * lane.space().ranking_dim());
    let mut ids = Vec::with_capacity(new.ids.len());
    each_chunk(tx, last, &new.rows.modalities, lane, store, |of_chunk, vectors| {
        ids.extend_from_slice(of_chunk);
        data.extend_from_slice(vectors.data());
        Ok(())
    })?;
    if ids != new.ids {
        return Ok(None);
    }
    let damaged = |reason: String| not_sound(store, reason);
    let vectors = Vectors::new(data, lane.space().ranking_dim()).map_err(|e| damaged(format!("its vectors: {e}")))?;
    let index = from.index.with_more(&ids, &vectors).map_err(|e| damaged(e.to_string()))?;
    rows.extend(new.rows);
    Ok(Some(Derived { index, rows, stamp: from.stamp }))
}

/// The rows that are there as one file, which is then what is searched; `None` where it cannot be written.
fn written(grown: &Derived, path: &Path, stamp: u64) -> Option<Derived> {
    let mut keep = RowSet::new(grown.rows.items.len());
    (0..keep.n_rows()).filter(|row| grown.rows.items[*row] != GONE).for_each(|row| keep.insert(row));
    grown.index.write(path, &keep, stamp).ok()?;
    let (base, found) = ExactIndex::open(path).ok()?;
    // Another process may have written it as well meanwhile, of a later state.
    let sound = found == stamp && base.len() == keep.count();
    sound.then(|| Derived { index: GrownIndex::new(Arc::new(base)), rows: grown.rows.only(&keep), stamp })
}

/// The index from the database alone, in a file where that can be written.
fn made(tx: &Connection, path: &Path, stamp: u64, lane: &Lane, store: &Store) -> Result<Derived> {
    let space = lane.space();
    let Found { ids, rows } = rows_within(tx, 0, i64::MAX, lane).map_err(store.err("cannot read the vectors"))?;
    let whole = |index: ExactIndex| Derived { index: GrownIndex::new(Arc::new(index)), rows: rows.clone(), stamp };
    // A full or read-only disk is no reason not to answer: the index is then made in memory alone.
    if let Ok(mut writer) = IndexWriter::create(path, space.ranking_dim(), space.ranking_metric()) {
        let mut sound = true;
        each_chunk(tx, 0, &rows.modalities, lane, store, |ids, vectors| {
            sound = sound && writer.push(ids, &vectors).is_ok();
            Ok(())
        })?;
        if sound
            && writer.finish(stamp).is_ok()
            && let Ok((index, _)) = ExactIndex::open(path)
            && index.ids() == ids
        {
            return Ok(whole(index));
        }
    }
    let mut all = Vec::with_capacity(ids.len() * space.ranking_dim());
    each_chunk(tx, 0, &rows.modalities, lane, store, |_, vectors| {
        all.extend_from_slice(vectors.data());
        Ok(())
    })?;
    let vectors = Vectors::new(all, space.ranking_dim()).map_err(|e| not_sound(store, format!("its vectors: {e}")))?;
    let index = ExactIndex::build(&ids, &vectors, space.ranking_metric()).map_err(|e| not_sound(store, e.to_string()))?;
    Ok(whole(index))
}

fn not_sound(store: &Store, reason: String) -> EngineError {
    EngineError::NotALibrary { path: store.library().to_owned(), reason: format!("{reason}: run `chiasm verify`") }
}

/// Whether a file is sound and of a state of the library.
fn is_usable(
    index: &ExactIndex,
    stamp: u64,
    path: &Path,
    tx: &Connection,
    generation: i64,
    lane: &Lane,
) -> rusqlite::Result<bool> {
    let space = lane.space();
    let fits = index.dim() == space.ranking_dim() && index.metric() == space.ranking_metric();
    let n_bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    Ok(fits && lane.was_state(tx, generation, stamp)? && (n_bytes > CHECK_WHOLE || index.verify().is_ok()))
}

impl Rows {
    /// Rows that are all gone.
    fn of_none(n: usize) -> Self {
        Rows { items: vec![GONE; n], modalities: vec![Modality::Text; n], kinds: vec![Modality::Text; n] }
    }

    fn only(&self, keep: &RowSet) -> Self {
        Rows {
            items: keep.iter().map(|row| self.items[row]).collect(),
            modalities: keep.iter().map(|row| self.modalities[row]).collect(),
            kinds: keep.iter().map(|row| self.kinds[row]).collect(),
        }
    }

    fn extend(&mut self, more: Rows) {
        self.items.extend(more.items);
        self.modalities.extend(more.modalities);
        self.kinds.extend(more.kinds);
    }
}

/// Segments with what belongs to their rows.
struct Found {
    ids: Vec<u64>,
    rows: Rows,
}

/// What a lane has of the segments beyond one number and up to another, in order.
fn rows_within(tx: &Connection, beyond: i64, up_to: i64, lane: &Lane) -> rusqlite::Result<Found> {
    let present = lane.present(tx)?;
    let sql = format!(
        "SELECT s.id, s.item, s.modality, i.kind FROM segments s JOIN items i ON i.id = s.item \
         WHERE {present} AND s.id > ?1 AND s.id <= ?2 ORDER BY s.id"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = statement.query([beyond, up_to])?;
    let mut out = Found { ids: Vec::new(), rows: Rows::default() };
    while let Some(row) = found.next()? {
        out.ids.push(row.get::<_, i64>(0)? as u64);
        out.rows.items.push(row.get(1)?);
        out.rows.modalities.push(modality_at(row, 2)?);
        out.rows.kinds.push(modality_at(row, 3)?);
    }
    Ok(out)
}

/// How many segments up to a number a lane has.
fn n_up_to(tx: &Connection, up_to: i64, lane: &Lane) -> rusqlite::Result<usize> {
    let sql = format!("SELECT count(*) FROM segments s WHERE {} AND s.id <= ?1", lane.present(tx)?);
    tx.prepare_cached(&sql)?.query_row([up_to], |row| row.get::<_, i64>(0)).map(|n| n as usize)
}

/// A modality's word in a column.
pub(crate) fn modality_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Modality> {
    let word: String = row.get(column)?;
    word.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

/// The vector of every segment beyond a number, in order, laid out for ranking, some thousands at a time; `modalities` has one entry for each.
fn each_chunk(
    tx: &Connection,
    beyond: i64,
    modalities: &[Modality],
    lane: &Lane,
    store: &Store,
    mut f: impl FnMut(&[u64], Vectors) -> Result<()>,
) -> Result<()> {
    let space = lane.space();
    let err = store.err("cannot read the vectors");
    let (vectors, due) = (lane.vectors(), lane.due());
    let sql = format!("SELECT s.id, v.vector FROM segments s JOIN {vectors} WHERE {due} AND s.id > ?1 ORDER BY s.id");
    let mut statement = tx.prepare_cached(&sql).map_err(&err)?;
    let mut rows = statement.query([beyond]).map_err(&err)?;
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    let mut n_done = 0;
    let damaged = |id: u64, what: String| EngineError::NotALibrary {
        path: store.library().to_owned(),
        reason: format!("the vector of segment {id} {what}: run `chiasm verify`"),
    };
    loop {
        let row = rows.next().map_err(&err)?;
        if let Some(row) = row {
            let id = row.get::<_, i64>(0).map_err(&err)? as u64;
            let bytes = row.get_ref(1).map_err(&err)?.as_blob().map_err(|e| damaged(id, e.to_string()))?;
            if bytes.len() != space.dim() * 4 {
                return Err(damaged(id, format!("has {} bytes, expected {}", bytes.len(), space.dim() * 4)));
            }
            ids.push(id);
            numbers.extend(floats(bytes));
        }
        if row.is_none() || ids.len() == CHUNK {
            if !ids.is_empty() {
                let vectors = Vectors::new(std::mem::take(&mut numbers), space.dim());
                let vectors = vectors.map_err(|e| damaged(ids[0], format!("or one soon after it: {e}")))?;
                f(&ids, laid_out(space, &modalities[n_done..n_done + ids.len()], &vectors)?)?;
                n_done += ids.len();
                ids.clear();
            }
            if row.is_none() {
                return Ok(());
            }
        }
    }
}

/// Rows of mixed kinds laid out for ranking, all rows of one kind at once.
fn laid_out(space: &Space, modalities: &[Modality], vectors: &Vectors) -> Result<Vectors> {
    let (dim, wide) = (vectors.dim(), space.ranking_dim());
    let mut all = vec![0.0; vectors.n() * wide];
    for kind in Modality::ALL {
        let places: Vec<usize> = (0..vectors.n()).filter(|i| modalities[*i] == kind).collect();
        if places.is_empty() {
            continue;
        }
        let own = places.iter().flat_map(|i| vectors.row(*i).iter().copied()).collect();
        let own = Vectors::new(own, dim).expect("rows of vectors that were checked");
        for (row, place) in space.as_gallery(kind, &own)?.rows().zip(places) {
            all[place * wide..(place + 1) * wide].copy_from_slice(row);
        }
    }
    Ok(Vectors::new(all, wide).expect("rows of vectors that were checked"))
}
