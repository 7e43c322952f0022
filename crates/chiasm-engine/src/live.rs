//! The derived part of a lane: vectors ready to be searched, and what belongs to each row.
//!
//! The database is the truth. From it `exact.idx` is made whenever it is missing, damaged, or of another state: its stamp is a
//! digest of the library's own number and its count of changes, so a file of another library is stale as well. A file of up to
//! 64 MiB is read against its checksum when it is opened; beyond that the header alone is, and `chiasm verify` reads the rest.
//!
//! While another process or thread is indexing, the count changes with every batch. A reader then goes on with what it has for
//! as long as ten times what the making took, so that its answers lag a little behind instead of each paying for a new index; then one
//! thread makes the next, and the others go on with the earlier one until it is there.
//! What was removed meanwhile is still never answered: hits are joined with the database as it is now.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use chiasm_core::{Modality, RowSet, VectorIndex, Vectors};
use chiasm_index::{CellIndex, ExactIndex, IndexWriter};
use rusqlite::Connection;

use crate::calibrate::PairScores;
use crate::lane::Lane;
use crate::space::floats;
use crate::store::{self, Store};
use crate::{EngineError, Result, Space};

pub(crate) const FILE_NAME: &str = "exact.idx";
/// Files up to this many bytes are checked whole when they are opened.
const CHECK_WHOLE: u64 = 64 << 20;
/// Vectors read and written at a time.
const CHUNK: usize = 4096;
/// Queries and items between which unrelated scores are measured.
const MAX_QUERIES: usize = 256;
const MAX_ITEMS: usize = 2048;
/// How long an index serves beyond its state, in times of what the making took, and at least so.
const PATIENCE: u32 = 10;
const PATIENCE_MIN: Duration = Duration::from_millis(500);

/// The vectors of one state of a lane.
pub(crate) struct Live {
    pub(crate) generation: i64,
    pub(crate) index: ExactIndex,
    /// The same vectors in cells, where there is a file of this state.
    pub(crate) cells: Option<CellIndex>,
    /// Item of each row.
    pub(crate) items: Vec<i64>,
    /// Rows by modality, none empty; a caption's rows are text.
    pub(crate) by_modality: BTreeMap<Modality, RowSet>,
    /// Rows by the kind of their item, and how many items there are of it.
    pub(crate) by_kind: BTreeMap<Modality, (RowSet, usize)>,
    calibration: BTreeMap<(Modality, Modality), OnceLock<Option<PairScores>>>,
    made: Instant,
    took: Duration,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live(generation {}, {} rows)", self.generation, self.items.len())
    }
}

impl Live {
    /// Whether it may go on serving a library that has moved on.
    pub(crate) fn is_fresh_enough(&self) -> bool {
        self.made.elapsed() < (self.took * PATIENCE).max(PATIENCE_MIN)
    }

    /// Opens the file when it is of the present state, else makes the index anew and tries to leave it in the file.
    pub(crate) fn load(store: &Store, lane: &Lane) -> Result<Live> {
        let (started, space) = (Instant::now(), lane.space());
        let mut reader = store.reader()?;
        let err = store.err("cannot read the vectors");
        // One transaction, so that rows and vectors are of one state.
        let tx = reader.transaction().map_err(&err)?;
        let generation = store::generation(&tx).map_err(&err)?;
        let stamp = lane.stamp(&tx, generation).map_err(&err)?;
        let path = lane.index_path(store.library());
        let Rows { ids, items, modalities, kinds } = rows(&tx, lane).map_err(&err)?;
        let index = match open_file(&path, stamp, &ids, space) {
            Some(index) => index,
            None => make(&tx, &path, stamp, &ids, &modalities, lane, store)?,
        };
        let cells = crate::cells::open(&lane.cells_path(store.library()), stamp, &index);
        let mut by_modality: BTreeMap<Modality, RowSet> = BTreeMap::new();
        for (row, modality) in modalities.iter().enumerate() {
            by_modality.entry(*modality).or_insert_with(|| RowSet::new(ids.len())).insert(row);
        }
        let mut by_kind: BTreeMap<Modality, (RowSet, usize)> = BTreeMap::new();
        for (row, kind) in kinds.iter().enumerate() {
            by_kind.entry(*kind).or_insert_with(|| (RowSet::new(ids.len()), 0)).0.insert(row);
        }
        for (kind, (rows, n_items)) in &mut by_kind {
            let of_kind: HashSet<i64> = items.iter().zip(&kinds).filter(|(_, k)| *k == kind).map(|(item, _)| *item).collect();
            *n_items = of_kind.len();
            debug_assert!(*n_items <= rows.count());
        }
        let kinds = Modality::ALL.into_iter().flat_map(|q| Modality::ALL.map(|i| (q, i)));
        let calibration = kinds.map(|pair| (pair, OnceLock::new())).collect();
        let took = started.elapsed();
        Ok(Live { generation, index, cells, items, by_modality, by_kind, calibration, made: Instant::now(), took })
    }

    /// Scores of unrelated pairs of a query of one modality and rows of another, measured when first asked for.
    pub(crate) fn calibration(&self, space: &Space, query: Modality, item: Modality) -> Option<&PairScores> {
        let measured = self.calibration.get(&(query, item))?.get_or_init(|| {
            let (_, items) = self.sample(item, MAX_ITEMS);
            match space.references(query) {
                // References of other media than the library's: hardly any pair is related.
                Some(references) => {
                    let n = references.len() / space.dim();
                    let step = n.div_ceil(MAX_QUERIES).max(1);
                    let queries: Vec<f32> = references.chunks_exact(space.dim()).step_by(step).flatten().copied().collect();
                    let queries = Vectors::new(queries, space.dim()).expect("references are checked when a space is read");
                    let queries = space.as_query(query, &queries).expect("references have the space's dimension");
                    PairScores::measure(queries.data(), &items, space.ranking_dim(), space.ranking_metric(), |_, _| true)
                }
                // The library's own vectors in their place: two parts of one item are related.
                None => {
                    let (of_query, queries) = self.sample(query, MAX_QUERIES);
                    let (of_item, _) = self.sample(item, MAX_ITEMS);
                    let own = |rows: &[f32]| -> Vec<f32> {
                        rows.chunks_exact(space.ranking_dim()).flat_map(|row| &row[..space.dim()]).copied().collect()
                    };
                    let unrelated = |i: usize, j: usize| of_query[i] != of_item[j];
                    PairScores::measure(&own(&queries), &own(&items), space.dim(), space.metric(), unrelated)
                }
            }
        });
        measured.as_ref()
    }

    /// Items and vectors of at most `n` rows of a modality, evenly spread.
    pub(crate) fn sample(&self, modality: Modality, n: usize) -> (Vec<i64>, Vec<f32>) {
        let Some(rows) = self.by_modality.get(&modality) else {
            return (Vec::new(), Vec::new());
        };
        let step = rows.count().div_ceil(n).max(1);
        let chosen = (0..self.items.len()).filter(|row| rows.contains(*row)).step_by(step);
        let mut sample = (Vec::new(), Vec::new());
        for row in chosen {
            sample.0.push(self.items[row]);
            sample.1.extend_from_slice(self.index.vector(row));
        }
        sample
    }
}

#[derive(Default)]
struct Rows {
    ids: Vec<u64>,
    items: Vec<i64>,
    modalities: Vec<Modality>,
    kinds: Vec<Modality>,
}

fn rows(connection: &Connection, lane: &Lane) -> rusqlite::Result<Rows> {
    let sql = format!(
        "SELECT s.id, s.item, s.modality, i.kind FROM segments s JOIN items i ON i.id = s.item WHERE {} ORDER BY s.id",
        lane.present(connection)?
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([])?;
    let mut out = Rows::default();
    while let Some(row) = found.next()? {
        out.ids.push(row.get::<_, i64>(0)? as u64);
        out.items.push(row.get(1)?);
        out.modalities.push(modality_at(row, 2)?);
        out.kinds.push(modality_at(row, 3)?);
    }
    Ok(out)
}

/// A modality's word in a column.
pub(crate) fn modality_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Modality> {
    let word: String = row.get(column)?;
    word.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

fn open_file(path: &Path, stamp: u64, ids: &[u64], space: &Space) -> Option<ExactIndex> {
    let n_bytes = std::fs::metadata(path).ok()?.len();
    let (index, found) = ExactIndex::open(path).ok()?;
    let sound =
        found == stamp && index.dim() == space.ranking_dim() && index.metric() == space.ranking_metric() && index.ids() == ids;
    (sound && (n_bytes > CHECK_WHOLE || index.verify().is_ok())).then_some(index)
}

fn make(
    tx: &Connection,
    path: &Path,
    stamp: u64,
    ids: &[u64],
    modalities: &[Modality],
    lane: &Lane,
    store: &Store,
) -> Result<ExactIndex> {
    let space = lane.space();
    // A full or read-only disk is no reason not to answer: the index is then made in memory alone.
    if let Ok(mut writer) = IndexWriter::create(path, space.ranking_dim(), space.ranking_metric()) {
        let mut sound = true;
        each_chunk(tx, modalities, lane, store, |ids, vectors| {
            sound = sound && writer.push(ids, &vectors).is_ok();
            Ok(())
        })?;
        if sound
            && writer.finish(stamp).is_ok()
            && let Ok((index, _)) = ExactIndex::open(path)
            && index.ids() == ids
        {
            return Ok(index);
        }
    }
    let mut all = Vec::with_capacity(ids.len() * space.ranking_dim());
    each_chunk(tx, modalities, lane, store, |_, vectors| {
        all.extend_from_slice(vectors.data());
        Ok(())
    })?;
    let damaged = |reason: String| EngineError::NotALibrary { path: store.library().to_owned(), reason };
    let vectors =
        Vectors::new(all, space.ranking_dim()).map_err(|e| damaged(format!("its vectors: {e}: run `chiasm verify`")))?;
    ExactIndex::build(ids, &vectors, space.ranking_metric()).map_err(|e| damaged(format!("{e}: run `chiasm verify`")))
}

/// Every vector in order of its segment, laid out for ranking, some thousands at a time; `modalities` has one entry per segment.
fn each_chunk(
    tx: &Connection,
    modalities: &[Modality],
    lane: &Lane,
    store: &Store,
    mut f: impl FnMut(&[u64], Vectors) -> Result<()>,
) -> Result<()> {
    let space = lane.space();
    let err = store.err("cannot read the vectors");
    let sql = format!("SELECT s.id, v.vector FROM segments s JOIN {} WHERE {} ORDER BY s.id", lane.vectors(), lane.due());
    let mut statement = tx.prepare_cached(&sql).map_err(&err)?;
    let mut rows = statement.query([]).map_err(&err)?;
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

/// The live index of a lane, shared by all threads that ask.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    slot: Mutex<Option<Arc<Live>>>,
    /// Held by the one who makes an index: the others would only make the same one.
    making: Mutex<()>,
}

impl Shared {
    /// What is to be searched now. Where there is an index of an earlier state, one thread makes the next while the others go on with that.
    pub(crate) fn get(&self, store: &Store, lane: &Lane) -> Result<Arc<Live>> {
        let current = |live: &Arc<Live>, generation: i64| live.generation == generation || live.is_fresh_enough();
        let generation = store::generation(&*store.reader()?).map_err(store.err("cannot read the generation"))?;
        let earlier = self.loaded();
        if let Some(live) = earlier.as_ref().filter(|live| current(live, generation)) {
            return Ok(Arc::clone(live));
        }
        let _making = match (earlier, self.making.try_lock()) {
            (_, Ok(making)) => making,
            (_, Err(TryLockError::Poisoned(making))) => making.into_inner(),
            (Some(earlier), Err(TryLockError::WouldBlock)) => return Ok(earlier),
            (None, Err(TryLockError::WouldBlock)) => self.making.lock().unwrap_or_else(|e| e.into_inner()),
        };
        // Whoever had to wait finds it made.
        if let Some(live) = self.loaded().filter(|live| current(live, generation)) {
            return Ok(live);
        }
        self.make(store, lane)
    }

    /// Makes the index of the present state; until it is made, others ask the one before.
    pub(crate) fn renew(&self, store: &Store, lane: &Lane) -> Result<()> {
        let _making = self.making.lock().unwrap_or_else(|e| e.into_inner());
        self.make(store, lane).map(|_| ())
    }

    /// Whether anything was asked so far.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded().is_some()
    }

    /// Forgets what was loaded, so that the next question sees this process's own changes at once.
    pub(crate) fn forget(&self) {
        *self.slot.lock().unwrap_or_else(|e| e.into_inner()) = None;
    }

    fn loaded(&self) -> Option<Arc<Live>> {
        self.slot.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn make(&self, store: &Store, lane: &Lane) -> Result<Arc<Live>> {
        let live = Arc::new(Live::load(store, lane)?);
        // What was asked before will be asked again: measured now, so that no question waits for it.
        if let Some(earlier) = self.loaded() {
            let measured = earlier.calibration.iter().filter(|(_, figures)| figures.get().is_some());
            measured.for_each(|((query, item), _)| _ = live.calibration(lane.space(), *query, *item));
        }
        *self.slot.lock().unwrap_or_else(|e| e.into_inner()) = Some(Arc::clone(&live));
        Ok(live)
    }
}
