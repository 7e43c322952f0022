//! Retrieval between embedded sets: each item of one queries all items of the other.
//!
//! Items carry a *group*; the items of the gallery that share the query's group are the relevant ones. A picture and its five
//! captions are a group, so are all photos of dogs and all barks. Or they carry labels, and those that share one are relevant. Ties are broken by the order of the gallery, and when any tie
//! touches a relevant item the report also gives the MAP averaged over all orders of the tied ([`crate::TiedRanking`]).
//!
//! # Cost
//! `n_queries * n_gallery * dim` operations on all cores, scores kept for one query per core: nothing of size
//! `n_queries * n_gallery` is ever stored.

use std::collections::BTreeMap;
use std::fmt;

use chiasm_core::{Labels, Metric, Vectors};
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
    /// Classes of each row; where both sides have them they decide what is relevant, and the groups do not.
    pub labels: Option<&'a Labels>,
}

impl<'a> Side<'a> {
    fn belongs(&self) -> Belongs<'a> {
        self.labels.map_or(Belongs::Groups(self.groups), Belongs::Labels)
    }
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
    // Labels count only where both sides have them.
    let labelled = query.labels.is_some() && gallery.labels.is_some();
    let [query, gallery] = [query, gallery].map(|side| Side { labels: side.labels.filter(|_| labelled), ..side });
    for side in [query, gallery] {
        let (vectors, groups) = (side.vectors.n(), side.belongs().n());
        if groups != vectors {
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
    let score = |q: usize, scores: &mut [f32]| {
        let row = queries.row(q);
        scores.iter_mut().zip(base.rows()).for_each(|(score, x)| *score = closeness(metric, row, x));
    };
    Ok(judge_scores((query.name, query.belongs()), (gallery.name, gallery.belongs()), score))
}

/// One direction, whatever the scores come from: `score(q, scores)` fills in how close each item of the gallery is to query `q`, greater
/// being closer. So codes ranked by Hamming distance are judged by the same rules as vectors.
///
/// # Panics
/// When one side has groups and the other labels.
pub fn judge_scores(
    (query_name, query): (&str, Belongs<'_>),
    (gallery_name, gallery): (&str, Belongs<'_>),
    score: impl Fn(usize, &mut [f32]) + Sync,
) -> Direction {
    let relevance = Relevance::new(query, gallery);
    let (n_queries, n_gallery) = (query.n(), gallery.n());
    let judged: Vec<(usize, Judged, f64, bool)> = (0..n_queries)
        .into_par_iter()
        .map_init(
            || vec![0.0f32; n_gallery],
            |scores, q| {
                let relevant = relevance.of(q);
                if relevant.is_empty() {
                    return None;
                }
                score(q, scores);
                let (judged, expected, tied) = rank(scores, &relevant, |i| relevance.holds(q, i));
                Some((q, judged, expected, tied))
            },
        )
        .flatten()
        .collect();
    let n_tied = judged.iter().filter(|(.., tied)| *tied).count();
    let mut direction = Direction {
        title: format!("{query_name} -> {gallery_name}"),
        rows: Vec::new(),
        queries: Vec::new(),
        expected_ap: Vec::new(),
        n_skipped: n_queries - judged.len(),
        n_tied,
    };
    for (row, judged, expected, _) in judged {
        direction.rows.push(row);
        direction.queries.push(judged.with_gallery(n_gallery));
        direction.expected_ap.push(expected);
    }
    direction
}

/// What the rows of a set belong to.
#[derive(Clone, Copy, Debug)]
pub enum Belongs<'a> {
    /// Each row to one group; those of the same group are relevant to one another.
    Groups(&'a [u32]),
    /// Each row to any number of classes; those that share one are relevant to one another.
    Labels(&'a Labels),
}

impl Belongs<'_> {
    fn n(&self) -> usize {
        match self {
            Belongs::Groups(groups) => groups.len(),
            Belongs::Labels(labels) => labels.n(),
        }
    }
}

/// Which items of the gallery are relevant to which queries.
struct Relevance<'a> {
    query: Belongs<'a>,
    gallery: Belongs<'a>,
    /// The gallery's rows by group or class.
    members: BTreeMap<u32, Vec<usize>>,
}

impl<'a> Relevance<'a> {
    fn new(query: Belongs<'a>, gallery: Belongs<'a>) -> Self {
        let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        match gallery {
            Belongs::Groups(groups) => {
                groups.iter().enumerate().for_each(|(i, g)| members.entry(*g).or_default().push(i));
            }
            Belongs::Labels(labels) => {
                (0..labels.n()).for_each(|i| labels.of(i).iter().for_each(|c| members.entry(*c).or_default().push(i)));
            }
        }
        Self { query, gallery, members }
    }

    /// The relevant rows, ascending.
    fn of(&self, q: usize) -> Vec<usize> {
        let of = |group: &u32| self.members.get(group).map_or(&[][..], Vec::as_slice);
        match self.query {
            Belongs::Groups(groups) => of(&groups[q]).to_vec(),
            Belongs::Labels(labels) => {
                let mut all: Vec<usize> = labels.of(q).iter().flat_map(of).copied().collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        }
    }

    fn holds(&self, q: usize, i: usize) -> bool {
        match (self.query, self.gallery) {
            (Belongs::Groups(query), Belongs::Groups(gallery)) => query[q] == gallery[i],
            (Belongs::Labels(query), Belongs::Labels(gallery)) => query.share(q, gallery, i),
            _ => panic!("relevance needs groups on both sides or labels on both"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn side<'a>(name: &'a str, vectors: &'a Vectors, groups: &'a [u32]) -> Side<'a> {
        Side { name, vectors, groups, labels: None }
    }

    fn random(n: usize, dim: usize, seed: u64, levels: u64) -> Vectors {
        let mut state = seed;
        let data = (0..n * dim)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) % levels) as f32 - levels as f32 / 2.0
            })
            .collect();
        Vectors::new(data, dim).unwrap()
    }

    #[test]
    fn agrees_with_sorting() {
        // Few levels, so that ties are everywhere.
        let (a, b) = (random(60, 3, 1, 3), random(80, 3, 2, 3));
        let groups = |n: usize| (0..n).map(|i| (i * 7 % 13) as u32).collect::<Vec<_>>();
        let (ga, gb) = (groups(60), groups(80));
        for metric in [Metric::InnerProduct, Metric::L2] {
            let found = judge(side("a", &a, &ga), side("b", &b, &gb), metric).unwrap();
            for (q, judged) in found.rows.iter().zip(&found.queries) {
                let scores: Vec<f32> = b.rows().map(|x| closeness(metric, a.row(*q), x)).collect();
                let mut order: Vec<usize> = (0..80).collect();
                order.sort_by(|i, j| scores[*j].partial_cmp(&scores[*i]).unwrap());
                let relevance: Vec<bool> = order.iter().map(|i| gb[*i] == ga[*q]).collect();
                let n_relevant = relevance.iter().filter(|r| **r).count();
                assert_eq!(*judged, Judged::from_relevance(&relevance, n_relevant).unwrap().with_gallery(80));
            }
            assert!(found.n_tied > 50);
            let report = found.report(&EvalConfig::default());
            let close = report.value("MAP over ties").unwrap() - report.value("MAP").unwrap();
            assert!(close.abs() < 0.1, "{close}");
        }
    }

    #[test]
    fn five_captions_of_a_picture() {
        let pictures = random(50, 16, 3, 1000);
        let captions = Vectors::new(pictures.rows().flat_map(|r| r.repeat(5)).collect(), 16).unwrap();
        let of_pictures: Vec<u32> = (0..50).collect();
        let of_captions: Vec<u32> = (0..250).map(|i| i / 5).collect();
        let (p, c) = (side("image", &pictures, &of_pictures), side("text", &captions, &of_captions));
        let [there, back] = both_ways(p, c, Metric::Cosine, &EvalConfig::default()).unwrap();
        assert_eq!((there.value("R@1"), there.value("recall@5")), (Some(1.0), Some(1.0)));
        assert!((there.value("recall@1").unwrap() - 0.2).abs() < 1e-12);
        assert_eq!((back.value("R@1"), back.value("median rank"), back.get("recall@1")), (Some(1.0), Some(1.0), None));
        assert_eq!(crate::r_sum(&there, &back), Some(600.0));
        // One of 50 at random: half of the time among the first 25.
        assert_eq!(back.get("median rank").unwrap().chance, Some(25.0));
        assert!((back.get("R@10").unwrap().chance.unwrap() - 0.2).abs() < 1e-12);
    }

    #[test]
    fn random_vectors_score_as_chance_says() {
        let (a, b) = (random(400, 32, 5, 1000), random(300, 32, 6, 1000));
        let (ga, gb): (Vec<u32>, Vec<u32>) = ((0..400).map(|i| i % 10).collect(), (0..300).map(|i| i % 10).collect());
        let report = judge(side("a", &a, &ga), side("b", &b, &gb), Metric::Cosine).unwrap().report(&EvalConfig::default());
        for figure in &report.figures {
            let (value, chance) = (figure.value, figure.chance.unwrap());
            // Some three standard errors of a share over 400 queries; ranks within 2.
            let room = if figure.unit == Unit::Rank { 2.0 } else { 0.08 };
            assert!((value - chance).abs() < room, "{}: {value} by chance {chance}", figure.name);
        }
    }

    #[test]
    fn queries_without_a_partner_are_skipped_and_counted() {
        let v = random(3, 2, 7, 100);
        let found = judge(side("a", &v, &[1, 2, 9]), side("b", &v, &[1, 2, 3]), Metric::L2).unwrap();
        assert_eq!((found.rows.as_slice(), found.n_skipped), (&[0usize, 1][..], 1));
        let none = judge(side("a", &v, &[7, 8, 9]), side("b", &v, &[1, 2, 3]), Metric::L2).unwrap();
        let report = none.report(&EvalConfig::default());
        assert_eq!((report.n_queries, report.n_skipped, report.value("MAP")), (0, 3, Some(0.0)));
        assert!(report.to_string().contains("3 skipped"));
        let other = random(3, 4, 7, 100);
        assert!(matches!(
            judge(side("a", &v, &[1, 2, 3]), side("b", &other, &[1, 2, 3]), Metric::L2),
            Err(CrossError::Dimension { .. })
        ));
        assert!(matches!(judge(side("a", &v, &[1]), side("b", &v, &[1, 2, 3]), Metric::L2), Err(CrossError::Groups { .. })));
    }

    #[test]
    fn tables_are_aligned_and_carry_chance() {
        let (a, b) = (random(20, 8, 1, 1000), random(20, 8, 2, 1000));
        let groups: Vec<u32> = (0..20).collect();
        let sides = [side("image", &a, &groups), side("text", &a, &groups), side("audio", &b, &groups)];
        let table = every_pair(&sides, Metric::Cosine, &EvalConfig::default()).unwrap();
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        assert!(lines.iter().all(|l| l.chars().count() == lines[0].chars().count()), "{text}");
        assert!(lines[1].contains("image -> text") && lines[1].contains("100.0% (5.0%)"), "{text}");
        let report = table.reports[0].to_string();
        assert!(report.starts_with("image -> text: 20 queries over 20 items\n"), "{report}");
        assert!(report.contains("100.0%    5.0%"), "{report}");
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json[0]["figures"][0]["name"], "R@1");
    }
}
