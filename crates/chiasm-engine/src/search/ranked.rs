//! The items of one lane by their closeness to a query; see the head of the folder for how parts are weighed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chiasm_core::{Modality, RowSet, Vectors};
use rusqlite::{Connection, params_from_iter};

use super::SearchRequest;
use super::asked::{Asked, Part, item_of};
use crate::calibrate::{PairScores, closeness};
use crate::live::Live;
use crate::words::Holds;
use crate::{EngineError, Library, Result, Space};

/// What a lane answers, best first.
pub(super) struct Ranked {
    pub(super) lane: String,
    pub(super) live: Arc<Live>,
    pub(super) candidates: Vec<Candidate>,
    /// Items among which was searched, by kind unless a filter made it necessary to look.
    n_items: NItems,
}

/// Items among which was searched.
enum NItems {
    /// How many of each kind.
    ByKind(BTreeMap<Modality, usize>),
    /// Which.
    These(HashSet<i64>),
}

impl Library {
    /// The items of a lane by closeness to a query, the best `k` of those among which are the best `depth` of each kind.
    pub(super) fn ranked(&self, asked: &Asked<'_>, request: &SearchRequest, depth: usize, k: usize) -> Result<Ranked> {
        let Asked { lane, parts } = asked;
        let live = lane.live(&self.store)?;
        let reader = self.store.reader()?;
        let own: BTreeSet<i64> = request.query.parts.iter().filter_map(|p| item_of(&p.what)).collect();
        let allowed = self.allowed(&reader, &live, request)?;
        let n_items = n_items(&live, request, allowed.as_ref(), &own);
        let mut best: HashMap<i64, Candidate> = HashMap::new();
        let mut calibrated = true;
        for (&modality, rows) in &live.by_modality {
            let rows = allowed.as_ref().map_or_else(|| rows.clone(), |allowed| intersection(rows, allowed));
            let n_rows = rows.count();
            if n_rows == 0 {
                continue;
            }
            let weighed = Weighed::new(lane.space(), &live, parts, modality);
            calibrated &= weighed.figures.is_some();
            for candidate in weighed.best_items(&live, &rows, n_rows, depth, &own)? {
                let kept = best.entry(candidate.item).or_insert_with(|| candidate.clone());
                if candidate.rank(true) > kept.rank(true) {
                    *kept = candidate;
                }
            }
        }
        let mut candidates: Vec<Candidate> = best.into_values().collect();
        candidates.sort_by(|a, b| b.rank(calibrated).total_cmp(&a.rank(calibrated)).then(a.item.cmp(&b.item)));
        candidates.truncate(k);
        Ok(Ranked { lane: lane.name().to_owned(), live, candidates, n_items })
    }

    /// The rows a request may be answered with; all when absent.
    fn allowed(&self, reader: &Connection, live: &Live, request: &SearchRequest) -> Result<Option<RowSet>> {
        let mut allowed: Option<RowSet> = None;
        if !request.kinds.is_empty() {
            let mut rows = RowSet::new(live.n_rows());
            let of_kinds = request.kinds.iter().filter_map(|kind| live.by_kind.get(kind));
            of_kinds.flat_map(|(of_kind, _)| of_kind.iter()).for_each(|row| rows.insert(row));
            allowed = Some(rows);
        }
        if let Some(filter) = &request.filter {
            let (condition, values) = filter.sql(reader).map_err(self.store.err("cannot filter"))?;
            let sql = format!("SELECT s.id FROM items i JOIN segments s ON s.item = i.id WHERE {condition}");
            let list = || -> rusqlite::Result<Vec<u64>> {
                let mut statement = reader.prepare(&sql)?;
                statement.query_map(params_from_iter(values), |row| row.get::<_, i64>(0).map(|id| id as u64))?.collect()
            };
            let mut ids = list().map_err(self.store.err("cannot filter"))?;
            ids.sort_unstable();
            let rows = live.index().rows_of(&ids);
            allowed = Some(allowed.map_or_else(|| rows.clone(), |of_kinds| intersection(&of_kinds, &rows)));
        }
        Ok(allowed)
    }
}

/// Items among which is searched. Only a filter needs them counted anew.
fn n_items(live: &Live, request: &SearchRequest, allowed: Option<&RowSet>, own: &BTreeSet<i64>) -> NItems {
    if let Some(rows) = allowed.filter(|_| request.filter.is_some()) {
        let mut items: HashSet<i64> = rows.iter().map(|row| live.item(row)).collect();
        own.iter().for_each(|item| _ = items.remove(item));
        return NItems::These(items);
    }
    let of_kind = |kind: &Modality| request.kinds.is_empty() || request.kinds.contains(kind);
    let counted = live.by_kind.iter().filter(|(kind, _)| of_kind(kind));
    let is_own = |rows: &RowSet, item: &i64| rows.iter().any(|row| live.item(row) == *item);
    let n_of = |(rows, n): &(RowSet, usize)| n - own.iter().filter(|item| is_own(rows, item)).count();
    NItems::ByKind(counted.map(|(kind, of_kind)| (*kind, n_of(of_kind))).collect())
}

/// Items among which lanes searched together. Lanes that know a kind have the same items of it but for gaps, so the most that one of
/// them has are counted where no filter names the items.
pub(super) fn n_together(rankings: &[Ranked]) -> usize {
    let (mut by_kind, mut these): (BTreeMap<Modality, usize>, HashSet<i64>) = (BTreeMap::new(), HashSet::new());
    for ranking in rankings {
        match &ranking.n_items {
            NItems::ByKind(counts) => counts.iter().for_each(|(kind, n)| {
                let most = by_kind.entry(*kind).or_default();
                *most = (*most).max(*n);
            }),
            NItems::These(items) => these.extend(items),
        }
    }
    by_kind.values().sum::<usize>() + these.len()
}

fn intersection(a: &RowSet, b: &RowSet) -> RowSet {
    let mut both = RowSet::new(a.n_rows());
    a.iter().filter(|row| b.contains(*row)).for_each(|row| both.insert(row));
    both
}

/// The best row of an item.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) item: i64,
    pub(super) segment: i64,
    pub(super) via: Modality,
    /// Closeness as it is told.
    pub(super) score: f64,
    /// The same less the item's crowding: what it is ranked by where there is no `z`, which is made from it.
    uncrowded: f64,
    pub(super) z: Option<f64>,
    pub(super) chance: Option<f64>,
}

impl Candidate {
    /// Where no model was asked: as close as its words are.
    pub(super) fn by_words(holds: &Holds) -> Candidate {
        let Holds { item, segment, score, .. } = *holds;
        Candidate { item, segment, via: Modality::Text, score, uncrowded: score, z: None, chance: None }
    }

    fn rank(&self, calibrated: bool) -> f64 {
        self.z.filter(|_| calibrated).unwrap_or(self.uncrowded)
    }
}

/// A query as it is asked of rows of one modality.
struct Weighed<'a> {
    space: &'a Space,
    modality: Modality,
    parts: &'a [Part],
    /// Scores of unrelated pairs for each part; absent when they are for one of them.
    figures: Option<Vec<&'a PairScores>>,
    combined: Vec<f32>,
}

impl<'a> Weighed<'a> {
    fn new(space: &'a Space, live: &'a Live, parts: &'a [Part], modality: Modality) -> Self {
        let figures: Option<Vec<&PairScores>> = parts.iter().map(|p| live.calibration(space, p.modality, modality)).collect();
        let mut combined = vec![0.0_f64; space.ranking_dim()];
        for (i, part) in parts.iter().enumerate() {
            let deviation = figures.as_ref().map_or(1.0, |f| f[i].deviation);
            let weight = if parts.len() == 1 { 1.0 } else { f64::from(part.weight) / deviation };
            combined.iter_mut().zip(&part.vector).for_each(|(c, v)| *c += weight * f64::from(*v));
        }
        // Only the direction matters to the ranking, and at unit length no number can overflow; a single part stays as it is.
        let norm = combined.iter().map(|c| c * c).sum::<f64>().sqrt();
        let scale = if parts.len() == 1 || norm == 0.0 { 1.0 } else { 1.0 / norm };
        let combined = combined.iter().map(|c| (c * scale) as f32).collect();
        Weighed { space, modality, parts, figures, combined }
    }

    /// The best row of each of the best `k` items, those asked with left out.
    fn best_items(&self, live: &Live, rows: &RowSet, n_rows: usize, k: usize, own: &BTreeSet<i64>) -> Result<Vec<Candidate>> {
        let query = Vectors::new(self.combined.clone(), self.combined.len());
        let query = query.map_err(|source| EngineError::Numbers { what: "the query's vector".to_owned(), source })?;
        // Items have one row as a rule; where the best rows belong to few items, more are asked for.
        let mut n_asked = k.saturating_add(own.len()).min(n_rows);
        loop {
            let hits = live.search(&query, n_asked, rows)?;
            let mut seen: HashSet<i64> = own.iter().copied().collect();
            let mut rows = hits.iter().filter_map(|hit| live.index().row_of(hit.id).map(|row| (row, hit.score.get())));
            let firsts: Vec<(usize, f32)> = rows.by_ref().filter(|(row, _)| seen.insert(live.item(*row))).take(k).collect();
            if firsts.len() >= k || n_asked >= n_rows {
                return Ok(firsts.into_iter().map(|(row, score)| self.candidate(live, row, score, n_rows)).collect());
            }
            n_asked = n_asked.saturating_mul(4).min(n_rows);
        }
    }

    fn candidate(&self, live: &Live, row: usize, score: f32, n_rows: usize) -> Candidate {
        let (vector, known) = (live.index().vector(row), Some(f64::from(score)));
        let Measured { score, uncrowded, z, chance } =
            measured(self.space, self.parts, vector, known, self.figures.as_deref(), n_rows);
        let segment = live.index().id(row) as i64;
        Candidate { item: live.item(row), segment, via: self.modality, score, uncrowded, z, chance }
    }
}

/// How close query and row are.
pub(crate) struct Measured {
    /// Closeness as it is told.
    pub(crate) score: f64,
    /// The same less the row's crowding.
    pub(crate) uncrowded: f64,
    /// Deviations above unrelated pairs.
    pub(crate) z: Option<f64>,
    /// How many of the rows searched would come as close by chance.
    pub(crate) chance: Option<f64>,
}

/// Measures the parts of a query against a row laid out for ranking: deviations joined by Stouffer's rule, closeness by its mean. `known` is the ranking's
/// closeness to a query of one part where the index has told it; `figures` are scores of unrelated pairs for each part.
pub(crate) fn measured(
    space: &Space,
    parts: &[Part],
    row: &[f32],
    known: Option<f64>,
    figures: Option<&[&PairScores]>,
    n_rows: usize,
) -> Measured {
    let (metric, dim) = (space.ranking_metric(), space.dim());
    let one = |part: &Part| match (parts, known) {
        ([_], Some(known)) => known,
        _ => f64::from(closeness(metric, &part.vector, row)),
    };
    let scores: Vec<f64> = parts.iter().map(one).collect();
    let own = |part: &Part| f64::from(closeness(metric, &part.vector[..dim], &row[..dim]));
    let shown: Vec<f64> = parts.iter().map(own).collect();
    let weighted =
        |values: &mut dyn Iterator<Item = f64>| -> f64 { parts.iter().zip(values).map(|(p, v)| f64::from(p.weight) * v).sum() };
    let total: f64 = parts.iter().map(|p| f64::from(p.weight.abs())).sum();
    let mean = |values: &[f64]| match values {
        [one] => *one,
        _ => weighted(&mut values.iter().copied()) / total,
    };
    let (score, uncrowded) = (mean(&shown), mean(&scores));
    let z = figures.map(|figures| {
        let mut zs = figures.iter().zip(&scores).map(|(f, s)| f.z(*s));
        match parts {
            [_] => figures[0].z(scores[0]),
            parts => weighted(&mut zs) / parts.iter().map(|p| f64::from(p.weight).powi(2)).sum::<f64>().sqrt(),
        }
    });
    // Several parts are not independent of one another, so that the chance of their sum is not known.
    let chance = match (figures, parts) {
        (Some(figures), [_]) => Some(figures[0].share_above(scores[0]) * n_rows as f64),
        _ => None,
    };
    Measured { score, uncrowded, z, chance }
}

/// One part of an item as a lane sees it; `None` where the lane has no vector of it.
pub(super) fn closeness_of(asked: &Asked<'_>, live: &Live, segment: i64) -> Option<Candidate> {
    let row = live.index().row_of(segment as u64)?;
    let (modality, rows) = live.by_modality.iter().find(|(_, rows)| rows.contains(row))?;
    let weighed = Weighed::new(asked.lane.space(), live, &asked.parts, *modality);
    let score = closeness(asked.lane.space().ranking_metric(), &weighed.combined, live.index().vector(row));
    Some(weighed.candidate(live, row, score, rows.count()))
}
