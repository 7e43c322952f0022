//! Retrieval between embedded sets: each item of one queries all items of the other.
//!
//! Items carry a *group*; the items of the gallery that share the query's group are the relevant ones. A picture and its five
//! captions are a group, so are all photos of dogs and all barks. Ties are broken by the order of the gallery, and when any tie
//! touches a relevant item the report also gives the MAP averaged over all orders of the tied ([`crate::TiedRanking`]).
//!
//! # Cost
//! `n_queries * n_gallery * dim` operations on all cores, scores kept for one query per core: nothing of size
//! `n_queries * n_gallery` is ever stored.

use std::collections::BTreeMap;
use std::fmt;

use chiasm_core::{Metric, Vectors};
use rayon::prelude::*;
use serde::Serialize;

use crate::metrics::{Denominator, Judged};
use crate::report::{EvalConfig, Figure, Report, Unit, evaluate, write_table};
use crate::significance::bootstrap_mean;
use crate::ties::TiedRanking;

/// One embedded set.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its name in the report: a modality, a language.
    pub name: &'a str,
    /// Shape `[n, dim]`.
    pub vectors: &'a Vectors,
    /// Group of each row.
    pub groups: &'a [u32],
}

/// Why sets cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrossError {
    /// The two sets do not lie in one space.
    #[error("{query} has {got} dimensions, {gallery} {expected}: project both into one space first")]
    Dimension {
        /// Name of the querying set.
        query: String,
        /// Its dimension.
        got: usize,
        /// Name of the set searched.
        gallery: String,
        /// Its dimension.
        expected: usize,
    },
    /// Each row needs one group.
    #[error("{name} has {vectors} vectors and {groups} group numbers: each vector needs exactly one")]
    Groups {
        /// Name of the set.
        name: String,
        /// Its rows.
        vectors: usize,
        /// Group numbers that came.
        groups: usize,
    },
}

/// One direction: every row of `query` against all of `gallery`.
///
/// # Errors
/// [`CrossError`].
pub fn judge(query: Side<'_>, gallery: Side<'_>, metric: Metric) -> Result<Direction, CrossError> {
    for side in [query, gallery] {
        if side.groups.len() != side.vectors.n() {
            let (vectors, groups) = (side.vectors.n(), side.groups.len());
            return Err(CrossError::Groups { name: side.name.to_owned(), vectors, groups });
        }
    }
    if query.vectors.dim() != gallery.vectors.dim() {
        return Err(CrossError::Dimension {
            query: query.name.to_owned(),
            got: query.vectors.dim(),
            gallery: gallery.name.to_owned(),
            expected: gallery.vectors.dim(),
        });
    }
    let (queries, base) = (prepare(query.vectors, metric), prepare(gallery.vectors, metric));
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, group) in gallery.groups.iter().enumerate() {
        members.entry(*group).or_default().push(i);
    }
    let rows: Vec<usize> = (0..queries.n()).filter(|q| members.contains_key(&query.groups[*q])).collect();
    let judged: Vec<(Judged, f64, bool)> = rows
        .par_iter()
        .map_init(
            || vec![0.0f32; base.n()],
            |scores, &q| {
                let row = queries.row(q);
                for (score, x) in scores.iter_mut().zip(base.rows()) {
                    *score = closeness(metric, row, x);
                }
                let group = query.groups[q];
                rank(scores, &members[&group], |i| gallery.groups[i] == group)
            },
        )
        .collect();
    let n_gallery = base.n();
    let n_tied = judged.iter().filter(|(_, _, tied)| *tied).count();
    let (queries, tie_free): (Vec<Judged>, Vec<f64>) =
        judged.into_iter().map(|(judged, expected, _)| (judged.with_gallery(n_gallery), expected)).unzip();
    let title = format!("{} -> {}", query.name, gallery.name);
    Ok(Direction { title, n_skipped: query.vectors.n() - rows.len(), rows, queries, expected_ap: tie_free, n_tied })
}

/// What every query of one direction found.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// `query -> gallery`.
    pub title: String,
    /// Rows of the query set to which something is relevant: those that are judged.
    pub rows: Vec<usize>,
    /// One for each of `rows`.
    pub queries: Vec<Judged>,
    /// Average precision of each of `rows`, averaged over all orders of tied items.
    pub expected_ap: Vec<f64>,
    /// Queries left out since the gallery holds nothing of their group.
    pub n_skipped: usize,
    /// Queries in which a relevant item ties with another item.
    pub n_tied: usize,
}

impl Direction {
    /// The figures. With ties, `MAP over ties` stands among them.
    pub fn report(&self, config: &EvalConfig) -> Report {
        let mut report = evaluate(&self.title, &self.queries, self.n_skipped, config);
        if self.n_tied > 0 {
            let value = self.expected_ap.iter().sum::<f64>() / self.expected_ap.len() as f64;
            let chance = report.get("MAP").and_then(|f| f.chance);
            let interval = bootstrap_mean(&self.expected_ap, config.confidence, config.n_resamples, config.seed);
            report.figures.push(Figure { name: "MAP over ties".to_owned(), value, chance, interval, unit: Unit::Number });
        }
        report
    }
}

/// Both directions between two sets.
///
/// # Errors
/// [`CrossError`].
pub fn both_ways(a: Side<'_>, b: Side<'_>, metric: Metric, config: &EvalConfig) -> Result<[Report; 2], CrossError> {
    Ok([judge(a, b, metric)?.report(config), judge(b, a, metric)?.report(config)])
}

/// Every ordered pair of distinct sets.
///
/// # Errors
/// [`CrossError`].
pub fn every_pair(sides: &[Side<'_>], metric: Metric, config: &EvalConfig) -> Result<CrossTable, CrossError> {
    let mut reports = Vec::new();
    for (i, query) in sides.iter().enumerate() {
        for (j, gallery) in sides.iter().enumerate() {
            if i != j {
                reports.push(judge(*query, *gallery, metric)?.report(config));
            }
        }
    }
    Ok(CrossTable { reports })
}

/// Reports side by side. `Display` prints one line for each, its chance level in brackets beside each figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct CrossTable {
    /// One for each direction.
    pub reports: Vec<Report>,
}

impl fmt::Display for CrossTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const COLUMNS: [&str; 6] = ["R@1", "R@5", "R@10", "median rank", "MAP", "NDCG"];
        let mut head = ["query -> gallery (chance)", "queries", "gallery", "", "", "", "", "", ""].map(str::to_owned);
        for (cell, name) in head[3..].iter_mut().zip(COLUMNS) {
            *cell = name.to_owned();
        }
        let mut rows = vec![head];
        for report in &self.reports {
            let mut row: [String; 9] = Default::default();
            row[0] = report.title.clone();
            row[1] = report.n_queries.to_string();
            row[2] = report.n_gallery.map_or(String::new(), |n| n.to_string());
            for (cell, name) in row[3..].iter_mut().zip(COLUMNS) {
                if let Some(figure) = report.get(name) {
                    *cell = match figure.chance {
                        Some(chance) => format!("{} ({})", figure.unit.show(figure.value), figure.unit.show(chance)),
                        None => figure.unit.show(figure.value),
                    };
                }
            }
            rows.push(row);
        }
        write_table(f, &rows)
    }
}

fn prepare(vectors: &Vectors, metric: Metric) -> Vectors {
    let mut vectors = vectors.clone();
    if metric == Metric::Cosine {
        vectors.normalise();
    }
    vectors
}

/// Sixteen lanes, so that the compiler fills registers; the order of the sum is the same for every pair.
fn closeness(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a16, b16) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a16.remainder().iter().zip(b16.remainder());
    let sum = if metric == Metric::L2 {
        for (a, b) in a16.zip(b16) {
            for l in 0..LANES {
                sums[l] -= (a[l] - b[l]) * (a[l] - b[l]);
            }
        }
        sums.iter().sum::<f32>() - rest.map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
    } else {
        for (a, b) in a16.zip(b16) {
            for l in 0..LANES {
                sums[l] += a[l] * b[l];
            }
        }
        sums.iter().sum::<f32>() + rest.map(|(a, b)| a * b).sum::<f32>()
    };
    // Infinity minus infinity, with numbers near 1e19: as far away as can be.
    if sum.is_nan() { f32::NEG_INFINITY } else { sum }
}

/// Ranks of the relevant items by (score descending, place), the AP averaged over ties, and whether any tie touches one.
fn rank(scores: &[f32], relevant: &[usize], is_relevant: impl Fn(usize) -> bool) -> (Judged, f64, bool) {
    let before = |a: usize, b: usize| scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
    let mut order = relevant.to_vec();
    order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    // Zero and minus zero tie; `total_cmp` may have put them the other way round.
    order.sort_by(|a, b| scores[*b].partial_cmp(&scores[*a]).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b)));
    // others[p]: how many irrelevant items stand right before the p-th relevant one.
    let mut others = vec![0usize; order.len() + 1];
    let mut tied = order.windows(2).any(|w| scores[w[0]] == scores[w[1]]);
    for i in 0..scores.len() {
        if is_relevant(i) {
            continue;
        }
        let p = order.partition_point(|r| before(*r, i));
        others[p] += 1;
        tied |= order.get(p).is_some_and(|r| scores[*r] == scores[i]) || (p > 0 && scores[order[p - 1]] == scores[i]);
    }
    let mut rank = 0;
    let ranks: Vec<usize> = others[..order.len()]
        .iter()
        .map(|n| {
            rank += n + 1;
            rank
        })
        .collect();
    let judged = Judged::from_ranks(&ranks, ranks.len()).expect("ranks ascend and there is at least one");
    let expected = if tied {
        let scores: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
        let gains: Vec<f64> = (0..scores.len()).map(|i| if is_relevant(i) { 1.0 } else { 0.0 }).collect();
        let tied = TiedRanking::new(&scores, &gains, &[]).expect("no score is NaN and something is relevant");
        tied.average_precision(None, Denominator::AllRelevant)
    } else {
        judged.average_precision(None, Denominator::AllRelevant)
    };
    (judged, expected, tied)
}
