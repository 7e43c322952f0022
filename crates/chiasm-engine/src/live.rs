//! What a lane answers from: vectors ready to be searched, and what belongs to each row.
//!
//! The database is the truth; `derived.rs` makes of it an index that grows with the library. While another process or thread is
//! indexing, the count of changes grows with every batch. A reader then goes on with what it has for as long as ten times what the making
//! took, so that its answers lag a little behind instead of each paying for what is new; then one thread makes the next, and the others go
//! on with the earlier one until it is there. What was removed meanwhile is still never answered: hits are joined with the database as
//! it is now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use chiasm_core::{Modality, RowSet, Vectors};
use chiasm_index::{CellIndex, GrownIndex};

use crate::calibrate::PairScores;
use crate::derived::{self, Derived, GONE};
use crate::lane::Lane;
use crate::store::{self, Store};
use crate::{Result, Space};

/// Queries and items between which unrelated scores are measured.
const MAX_QUERIES: usize = 256;
const MAX_ITEMS: usize = 2048;
/// How long an index serves beyond its state, in times of what the making took, and at least so.
const PATIENCE: u32 = 10;
const PATIENCE_MIN: Duration = Duration::from_millis(500);

/// Scores of unrelated pairs by the modalities of query and row, each measured when first asked for.
type Calibration = BTreeMap<(Modality, Modality), OnceLock<Option<PairScores>>>;

/// The vectors of one state of a lane.
pub(crate) struct Live {
    pub(crate) generation: i64,
    pub(crate) derived: Derived,
    /// The index's base in cells, where there is a file of its state.
    pub(crate) cells: Option<CellIndex>,
    /// Rows by modality, none empty; a caption's rows are text. Rows that are gone are in none.
    pub(crate) by_modality: BTreeMap<Modality, RowSet>,
    /// Rows by the kind of their item, and how many items there are of it. Rows that are gone are in none.
    pub(crate) by_kind: BTreeMap<Modality, (RowSet, usize)>,
    /// Shared with what it has grown from: a little more of a library hardly moves what is unrelated in it.
    calibration: Arc<Calibration>,
    made: Instant,
    took: Duration,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live(generation {}, {} rows)", self.generation, self.n_rows())
    }
}

impl Live {
    /// Whether it may go on serving a library that has moved on.
    pub(crate) fn is_fresh_enough(&self) -> bool {
        self.made.elapsed() < (self.took * PATIENCE).max(PATIENCE_MIN)
    }

    /// The present state of a lane, from an earlier one where there is one.
    fn load(store: &Store, lane: &Lane, earlier: Option<&Live>, whole: bool) -> Result<Live> {
        let started = Instant::now();
        let mut reader = store.reader()?;
        let err = store.err("cannot read the vectors");
        // One transaction, so that rows and vectors are of one state.
        let tx = reader.transaction().map_err(&err)?;
        let generation = store::generation(&tx).map_err(&err)?;
        let derived = derived::of(&tx, generation, lane, store, earlier.map(|earlier| &earlier.derived), whole)?;
        let cells = crate::cells::open(&lane.cells_path(store.library()), derived.stamp, derived.index.base());
        let rows = &derived.rows;
        let n_rows = rows.items.len();
        let here = || (0..n_rows).filter(|row| rows.items[*row] != GONE);
        let mut by_modality: BTreeMap<Modality, RowSet> = BTreeMap::new();
        let mut by_kind: BTreeMap<Modality, (RowSet, usize)> = BTreeMap::new();
        for row in here() {
            by_modality.entry(rows.modalities[row]).or_insert_with(|| RowSet::new(n_rows)).insert(row);
            by_kind.entry(rows.kinds[row]).or_insert_with(|| (RowSet::new(n_rows), 0)).0.insert(row);
        }
        for (of_kind, n_items) in by_kind.values_mut() {
            let mut items: Vec<i64> = of_kind.iter().map(|row| rows.items[row]).collect();
            items.sort_unstable();
            items.dedup();
            *n_items = items.len();
        }
        let grown_from = earlier.filter(|earlier| Arc::ptr_eq(earlier.derived.index.base(), derived.index.base()));
        let pairs = || Modality::ALL.into_iter().flat_map(|q| Modality::ALL.map(|i| (q, i)));
        let calibration = match grown_from {
            Some(earlier) => Arc::clone(&earlier.calibration),
            None => Arc::new(pairs().map(|pair| (pair, OnceLock::new())).collect()),
        };
        let took = started.elapsed();
        Ok(Live { generation, derived, cells, by_modality, by_kind, calibration, made: Instant::now(), took })
    }

    /// The vectors, of rows that are in the database and of some that are no longer.
    pub(crate) fn index(&self) -> &GrownIndex {
        &self.derived.index
    }

    /// How many rows there are, with those that are gone.
    pub(crate) fn n_rows(&self) -> usize {
        self.derived.rows.items.len()
    }

    /// The item of a row; [`GONE`], which no item is, where the row is no longer in the database.
    pub(crate) fn item(&self, row: usize) -> i64 {
        self.derived.rows.items[row]
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
        let mut sample = (Vec::new(), Vec::new());
        for row in rows.iter().step_by(step) {
            sample.0.push(self.item(row));
            sample.1.extend_from_slice(self.index().vector(row));
        }
        sample
    }
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
        self.make(store, lane, false)
    }

    /// Makes the index of the present state; until it is made, others ask the one before. `whole`: as one file, however little is new.
    pub(crate) fn renew(&self, store: &Store, lane: &Lane, whole: bool) -> Result<Arc<Live>> {
        let _making = self.making.lock().unwrap_or_else(|e| e.into_inner());
        self.make(store, lane, whole)
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

    fn make(&self, store: &Store, lane: &Lane, whole: bool) -> Result<Arc<Live>> {
        let earlier = self.loaded();
        let live = Arc::new(Live::load(store, lane, earlier.as_deref(), whole)?);
        // What was asked before will be asked again: measured now, so that no question waits for it.
        if let Some(earlier) = earlier {
            let measured = earlier.calibration.iter().filter(|(_, figures)| figures.get().is_some());
            measured.for_each(|((query, item), _)| _ = live.calibration(lane.space(), *query, *item));
        }
        *self.slot.lock().unwrap_or_else(|e| e.into_inner()) = Some(Arc::clone(&live));
        Ok(live)
    }
}
