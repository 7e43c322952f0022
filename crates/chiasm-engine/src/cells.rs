//! The part of a lane that makes large libraries quick: an index of cells beside the exact one.
//!
//! A scan of all vectors is exact and needs nothing but itself; up to [`CELLS_FROM`] vectors that is what a library has. Beyond, or where a
//! recall was asked for, indexing ends by making `cells.idx`, and a search then takes its candidates from there and orders them by their
//! exact scores. Like `exact.idx` it is derived: it belongs to the file that has the same stamp, and what came since that was made is scanned
//! (`derived.rs`). With the next `exact.idx`, whatever was put in or taken out is brought into the cells that are there, unless that is a great
//! part of them; until that is done a search scans.
//!
//! # Queries
//! The index is shaped by a sample of queries and tuned on others. They are, as far as there are any: the vectors of reference media that came with
//! the space, then the library's own texts and captions, as questions for media of other kinds, then its own media, as questions for their like. Every second
//! one shapes, the others are for tuning, where again every second one chooses and the rest measure.

use std::path::Path;

use chiasm_core::{Cancel, Modality, Progress, RowSet, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{Building, CellBuildError, CellConfig, CellIndex, ExactIndex, Stamps};
use serde::Serialize;

use crate::lane::Lane;
use crate::live::Live;
use crate::lock::WriteLock;
use crate::store::{self, Store};
use crate::{EngineError, Library, Result, Space};

/// Vectors from which on a lane has cells unasked: a scan of so many of 512 numbers takes some milliseconds.
pub const CELLS_FROM: usize = 50_000;

/// Vectors below which cells are not made even when asked for: there is nothing to be gained.
pub const CELLS_NEED: usize = 1_000;

/// The recall of the ten nearest that is aimed at unless another is asked for.
pub const DEFAULT_RECALL: f64 = 0.97;

/// Nearest that recall is about.
const NEAREST: usize = 10;

/// Queries that shape the index, and others that tune it, at most.
const QUERIES: usize = 4096;
const TUNING_QUERIES: usize = 512;

/// Candidates for each hit, since their order is not exact, and at least so many more.
const SPARE: usize = 4;

/// Where more than one vector in so many is asked for, a scan finds them all.
const WORTHWHILE: usize = 16;

/// A file is brought up to date as long as not more than one vector in so many came or went.
const REBUILT_AT: usize = 5;

/// What is known of a lane's cells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellsInfo {
    /// Bytes of the file.
    pub bytes: u64,
    /// How many cells there are.
    pub cells: usize,
    /// How many of them a search looks into, where no filter asks for more.
    pub probes: usize,
    /// Vectors that are compared by more than their codes.
    pub rerank: usize,
    /// The recall that was asked for.
    pub wanted_recall: Option<f64>,
    /// Share of the exact ten nearest that is among the ten found, as it was measured.
    pub recall: Option<f64>,
    /// Queries that it was measured on, which had no part in the choice.
    pub measured_on: usize,
}

impl CellsInfo {
    fn of(index: &CellIndex, bytes: u64) -> Self {
        let (effort, tuning) = (index.effort(), index.tuning());
        CellsInfo {
            bytes,
            cells: index.n_cells(),
            probes: effort.probes,
            rerank: effort.rerank,
            wanted_recall: tuning.map(|tuning| tuning.wanted),
            recall: tuning.map(|tuning| tuning.recall),
            measured_on: tuning.map_or(0, |tuning| tuning.measured_on),
        }
    }

    /// Of a file, if it is an index of cells.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::metadata(path).ok()?.len();
        CellIndex::open(path).ok().map(|(index, _)| CellsInfo::of(&index, bytes))
    }
}

/// The cells of a lane's present state, if there are any.
pub(crate) fn open(path: &Path, stamp: u64, exact: &ExactIndex) -> Option<CellIndex> {
    let (index, stamps) = CellIndex::open(path).ok()?;
    let fits = stamps.state == stamp
        && index.dim() == exact.dim()
        && index.metric() == exact.metric()
        && index.n_rows() == exact.len();
    fits.then_some(index)
}

impl Live {
    /// The best `k` allowed rows: exact in score and order; all of the nearest, or, with cells, nearly all of them.
    pub(crate) fn search(&self, query: &Vectors, k: usize, allow: &RowSet) -> Result<Vec<chiasm_core::Hit>> {
        let (index, options) = (self.index(), SearchOptions { allow: Some(allow) });
        let wanted = k + k.div_ceil(SPARE).max(SPARE);
        let Some(cells) = self.cells.as_ref().filter(|cells| wanted * WORTHWHILE < cells.len()) else {
            return Ok(index.search(query, k, &options)?.pop().unwrap_or_default());
        };
        let of_base = index.of_base(allow)?;
        let mut found = cells.search(query, wanted, &SearchOptions { allow: Some(&of_base) })?.pop().unwrap_or_default();
        // What came since the cells were made is little.
        found.extend(index.search_tail(query, k, allow)?.pop().unwrap_or_default());
        let rows: Vec<usize> = found.iter().filter_map(|hit| index.row_of(hit.id)).collect();
        Ok(index.best_of(query.row(0), &rows, k))
    }
}

impl Library {
    /// Tunes the searches of every lane of [`CELLS_NEED`] vectors or more for a recall of the exact ten nearest, above 0 and up to 1, and keeps to it
    /// at every indexing from now on. What was reached stands in [`crate::LaneInfo::cells`].
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::Store`], [`EngineError::Cells`], [`EngineError::Cancelled`].
    pub fn tune(&self, recall: f64, progress: &dyn Progress, cancel: &Cancel) -> Result<()> {
        let _lock = WriteLock::take(&self.dir)?;
        self.refresh()?;
        self.refresh_cells(Some(recall), progress, cancel)
    }

    /// Makes or renews the cells of every lane that is to have them, for a recall if one is given. What was stopped goes on from a draft the next time.
    pub(crate) fn refresh_cells(&self, recall: Option<f64>, progress: &dyn Progress, cancel: &Cancel) -> Result<()> {
        for lane in &self.lanes {
            let live = lane.live(&self.store)?;
            let path = lane.cells_path(&self.dir);
            let (old, stamps) = CellIndex::open(&path).ok().unzip();
            let n = live.n_rows();
            let wanted = recall.or_else(|| old.as_ref()?.tuning().map(|tuning| tuning.wanted));
            if n < CELLS_NEED || (n < CELLS_FROM && wanted.is_none()) {
                continue;
            }
            if recall.is_none() && live.cells.is_some() {
                continue;
            }
            // Cells are of a file.
            let live = if live.derived.is_whole() { live } else { lane.renew(&self.store, true)? };
            let owner = owner(&self.store, lane)?;
            let usable = old.filter(|old| {
                stamps.is_some_and(|stamps| stamps.owner == owner)
                    && old.dim() == live.index().dim()
                    && old.metric() == live.index().metric()
            });
            let wanted = wanted.unwrap_or(DEFAULT_RECALL);
            let draft = path.with_extension("draft");
            let how = Building { progress, cancel, draft: Some(&draft) };
            let index = make(&live, lane.space(), usable, wanted, &how)?;
            // A full or read-only disk is no reason to fail: searches then scan.
            if let Err(e) = index.write(&path, Stamps { state: live.derived.stamp, owner }) {
                progress.note(&format!("searches will scan all vectors: {e}"));
            }
            // There is none where cells were brought up to date.
            let _ = std::fs::remove_file(&draft);
            lane.forget();
        }
        Ok(())
    }
}

/// What tells a lane of a library from every other.
fn owner(store: &Store, lane: &Lane) -> Result<u64> {
    let reader = store.reader()?;
    let library = store::meta(&reader, "library").map_err(store.err("cannot read the library's number"))?.unwrap_or_default();
    let digest = blake3::hash(format!("cells {library} {}", lane.space().fingerprint()).as_bytes());
    Ok(u64::from_le_bytes(*digest.as_bytes().first_chunk::<8>().expect("a digest has 32 bytes")))
}

/// Brings an index up to date, or builds it, and tunes it.
fn make(live: &Live, space: &Space, old: Option<CellIndex>, wanted: f64, how: &Building<'_>) -> Result<CellIndex> {
    let exact = live.index().base();
    let failed = |e: CellBuildError| {
        if let CellBuildError::Cancelled(stop) = e {
            EngineError::Cancelled(stop)
        } else {
            EngineError::Cells { reason: e.to_string() }
        }
    };
    let questions = questions(live, space)?;
    let changed = old.map(|mut index| -> Result<Option<CellIndex>> {
        let here = exact.ids();
        let gone: Vec<u64> = index.ids().filter(|id| here.binary_search(id).is_err()).collect();
        let new: Vec<usize> = (0..here.len()).filter(|row| index.row_of(here[*row]).is_none()).collect();
        if (gone.len() + new.len()) * REBUILT_AT > here.len() {
            return Ok(None);
        }
        gone.iter().for_each(|id| _ = index.remove(*id));
        let vectors = new.iter().flat_map(|row| exact.vector(*row)).copied().collect();
        let vectors = Vectors::new(vectors, exact.dim()).expect("rows of vectors that were checked");
        index.insert(&new.iter().map(|row| here[*row]).collect::<Vec<_>>(), &vectors).map_err(failed)?;
        index.compact().map(Some).map_err(failed)
    });
    let mut index = match changed.transpose()?.flatten() {
        Some(index) => index,
        None => {
            let sample = questions.vectors(0, QUERIES, exact.dim());
            CellIndex::of_exact(exact, sample.as_ref(), &CellConfig::default(), how).map_err(failed)?
        }
    };
    if let Some(queries) = questions.vectors(1, TUNING_QUERIES, exact.dim()) {
        let options = SearchOptions { allow: questions.allow.as_ref() };
        let truth: Vec<Vec<u64>> =
            exact.search(&queries, NEAREST, &options)?.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect();
        index.tune(&queries, &truth, NEAREST, wanted, questions.allow.as_ref())?;
    }
    Ok(index)
}

/// What stands for the questions that will come.
struct Questions {
    rows: Vec<Vec<f32>>,
    /// The rows that they are asked for; all when absent.
    allow: Option<RowSet>,
}

impl Questions {
    /// Every second one from `first` on, at most `most` of them, evenly taken.
    fn vectors(&self, first: usize, most: usize, dim: usize) -> Option<Vectors> {
        let every: Vec<&Vec<f32>> = self.rows.iter().skip(first).step_by(2).collect();
        let step = every.len().div_ceil(most).max(1);
        let data: Vec<f32> = every.into_iter().step_by(step).flatten().copied().collect();
        (!data.is_empty()).then(|| Vectors::new(data, dim).expect("rows of vectors that were checked"))
    }
}

fn questions(live: &Live, space: &Space) -> Result<Questions> {
    let kinds: Vec<Modality> = live.by_modality.keys().copied().collect();
    // Text is what most questions are made of; then whatever the space knows.
    let mut askers = vec![Modality::Text];
    askers.extend(Modality::ALL.into_iter().filter(|kind| *kind != Modality::Text));
    let others = |asker: Modality| -> Option<RowSet> {
        let mut allow = RowSet::new(live.n_rows());
        let rows = live.by_modality.iter().filter(|(kind, _)| **kind != asker).flat_map(|(_, rows)| rows.iter());
        rows.for_each(|row| allow.insert(row));
        (allow.count() >= NEAREST).then_some(allow)
    };
    let laid_out = |asker: Modality, own: Vec<f32>| -> Result<Vec<Vec<f32>>> {
        let own = Vectors::new(own, space.dim()).expect("rows of vectors that were checked");
        Ok(space.as_query(asker, &own)?.rows().map(<[f32]>::to_vec).collect())
    };
    for asker in &askers {
        let Some(allow) = others(*asker) else { continue };
        let of_space = space.references(*asker).map(<[f32]>::to_vec).unwrap_or_default();
        let (_, of_library) = live.sample(*asker, 2 * QUERIES);
        let of_library = of_library.chunks_exact(space.ranking_dim()).flat_map(|row| &row[..space.dim()]).copied();
        let own: Vec<f32> = of_space.into_iter().chain(of_library).collect();
        if own.len() / space.dim() >= 2 * NEAREST {
            return Ok(Questions { rows: laid_out(*asker, own)?, allow: Some(allow) });
        }
    }
    let Some(kind) = kinds.first() else { return Ok(Questions { rows: Vec::new(), allow: None }) };
    let (_, own) = live.sample(*kind, 2 * QUERIES);
    let own = own.chunks_exact(space.ranking_dim()).flat_map(|row| &row[..space.dim()]).copied().collect();
    Ok(Questions { rows: laid_out(*kind, own)?, allow: None })
}
