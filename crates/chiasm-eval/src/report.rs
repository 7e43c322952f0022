//! Many queries' metrics in one table, each figure beside what a random order would score.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::metrics::{Denominator, Gain, Judged, median};
use crate::significance::{Interval, bootstrap_mean};
use crate::ties::Chance;

/// What is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalConfig {
    /// The Ks of R@K, recall@K and P@K.
    pub cuts: Vec<usize>,
    /// Coverage of the bootstrap intervals, in 0..1.
    pub confidence: f64,
    /// Resamples behind each interval; 0 leaves intervals out.
    pub n_resamples: usize,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for EvalConfig {
    /// K = 1, 5, 10; 95 % intervals from 1,000 resamples.
    fn default() -> Self {
        Self { cuts: vec![1, 5, 10], confidence: 0.95, n_resamples: 1000, seed: 0 }
    }
}

/// How a figure is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share in 0..=1 that people read in percent.
    Share,
    /// A number in 0..=1 that people read as it is.
    Number,
    /// A rank from 1; smaller is better, infinite when not found (`null` in JSON).
    Rank,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Unit::Share => format!("{:.1}%", 100.0 * value),
            Unit::Number => format!("{value:.4}"),
            Unit::Rank if value.is_infinite() => "none".to_owned(),
            Unit::Rank => format!("{value:.1}"),
        }
    }
}

/// One figure over all queries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// `R@10`, `recall@10`, `P@10`, `MAP`, `NDCG`, `MRR`, `R-precision`, `median rank`.
    pub name: String,
    /// The mean over queries; for ranks the median.
    pub value: f64,
    /// Its exact expectation under a random order, when the size of the gallery is known.
    pub chance: Option<f64>,
    /// Percentile bootstrap interval over queries.
    pub interval: Option<Interval>,
    /// How to read it.
    pub unit: Unit,
}

/// Figures over many queries. `Display` prints an aligned table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was evaluated, such as `text -> image`.
    pub title: String,
    /// Queries behind the figures.
    pub n_queries: usize,
    /// Queries left out since nothing is relevant to them.
    pub n_skipped: usize,
    /// How many items could have been ranked, when that is known and the same for all queries.
    pub n_gallery: Option<usize>,
    /// Coverage of the intervals.
    pub confidence: f64,
    /// The figures, in the order of the table.
    pub figures: Vec<Figure>,
}

impl Report {
    /// The figure of this name.
    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|f| f.name == name)
    }

    /// The value of the figure of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.get(name).map(|f| f.value)
    }
}

/// Sum of R@1, R@5 and R@10 over both directions, in percent, at most 600: one number to compare image-text models by. `None`
/// unless both reports have the three.
pub fn r_sum(one_way: &Report, other_way: &Report) -> Option<f64> {
    let mut sum = 0.0;
    for report in [one_way, other_way] {
        for name in ["R@1", "R@5", "R@10"] {
            sum += 100.0 * report.value(name)?;
        }
    }
    Some(sum)
}

/// Figures over queries. `n_skipped` is how many had nothing relevant and so could not become [`Judged`].
///
/// Of no queries every figure is 0 and the median rank infinite; `n_queries` says so.
///
/// # Example
/// ```
/// use chiasm_eval::{EvalConfig, Judged, evaluate};
///
/// let queries = [
///     Judged::from_ranks(&[1], 1)?.with_gallery(100),
///     Judged::from_ranks(&[4], 1)?.with_gallery(100),
/// ];
/// let report = evaluate("text -> image", &queries, 0, &EvalConfig::default());
/// assert_eq!(report.value("R@1"), Some(0.5));
/// assert_eq!(report.value("MRR"), Some(0.625));
/// assert!((report.get("R@10").unwrap().chance.unwrap() - 0.1).abs() < 1e-12);
/// # Ok::<(), chiasm_eval::JudgeError>(())
/// ```
pub fn evaluate(title: &str, queries: &[Judged], n_skipped: usize, config: &EvalConfig) -> Report {
    let chances = Chances::of(queries);
    let mut figures = Vec::new();
    let mut add = |name: String, unit: Unit, own: &dyn Fn(&Judged) -> f64, chance: &dyn Fn(&Chance) -> f64| {
        let values: Vec<f64> = queries.iter().map(own).collect();
        let interval = bootstrap_mean(&values, config.confidence, config.n_resamples, config.seed);
        let chance = chances.as_ref().map(|c| c.mean(chance));
        figures.push(Figure { name, value: mean(&values), chance, interval, unit });
    };
    for &k in &config.cuts {
        add(format!("R@{k}"), Unit::Share, &|q| q.hit_at_k(k), &|c| c.hit_at_k(k));
    }
    // With one relevant item per query recall is the hit rate, and would only be read twice.
    if queries.iter().any(|q| q.n_relevant() > 1) {
        for &k in &config.cuts {
            add(format!("recall@{k}"), Unit::Share, &|q| q.recall_at_k(k), &|c| c.recall_at_k(k));
        }
        for &k in &config.cuts {
            add(format!("P@{k}"), Unit::Share, &|q| q.precision_at_k(k), &|c| c.precision_at_k(k));
        }
        add("R-precision".to_owned(), Unit::Number, &|q| q.r_precision(), &|c| c.r_precision());
    }
    let all = Denominator::AllRelevant;
    add("MAP".to_owned(), Unit::Number, &|q| q.average_precision(None, all), &|c| c.average_precision(None, all));
    add("NDCG".to_owned(), Unit::Number, &|q| q.ndcg(None, Gain::Linear), &|c| c.ndcg(None, Gain::Linear));
    add("MRR".to_owned(), Unit::Number, &Judged::reciprocal_rank, &|c| c.reciprocal_rank());
    let ranks: Vec<f64> = queries.iter().map(|q| q.first_rank().map_or(f64::INFINITY, |r| r as f64)).collect();
    figures.push(Figure {
        name: "median rank".to_owned(),
        value: median(&ranks).unwrap_or(f64::INFINITY),
        chance: chances.as_ref().map(|c| c.median_rank()),
        interval: None,
        unit: Unit::Rank,
    });
    let n_gallery = queries.first().and_then(Judged::n_gallery).filter(|n| queries.iter().all(|q| q.n_gallery() == Some(*n)));
    let title = title.to_owned();
    Report { title, n_queries: queries.len(), n_skipped, n_gallery, confidence: config.confidence, figures }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Chance by query, each distinct case computed once: most queries have the same gallery and the same number of relevant items.
struct Chances {
    cases: Vec<(Chance, usize)>,
    n_queries: usize,
    n_gallery_max: usize,
}

impl Chances {
    /// `None` of no queries, or when the gallery of any is unknown.
    fn of(queries: &[Judged]) -> Option<Self> {
        let mut cases: BTreeMap<(usize, Vec<u64>), (Chance, usize)> = BTreeMap::new();
        for query in queries {
            let n = query.n_gallery()?;
            let key = (n, query.ideal().iter().map(|g| g.to_bits()).collect());
            match cases.get_mut(&key) {
                Some((_, count)) => *count += 1,
                None => {
                    cases.insert(key, (Chance::of(query)?, 1));
                }
            }
        }
        let n_gallery_max = cases.keys().map(|(n, _)| *n).max()?;
        Some(Self { cases: cases.into_values().collect(), n_queries: queries.len(), n_gallery_max })
    }

    fn mean(&self, figure: &dyn Fn(&Chance) -> f64) -> f64 {
        self.cases.iter().map(|(chance, count)| figure(chance) * *count as f64).sum::<f64>() / self.n_queries as f64
    }

    /// The smallest rank that the first relevant item of a randomly chosen query does not exceed half of the time.
    fn median_rank(&self) -> f64 {
        let (mut low, mut high) = (1, self.n_gallery_max);
        while low < high {
            let middle = low.midpoint(high);
            if self.mean(&|c| c.hit_at_k(middle)) >= 0.5 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} queries", self.title, self.n_queries)?;
        if let Some(n) = self.n_gallery {
            write!(f, " over {n} items")?;
        }
        if self.n_skipped > 0 {
            write!(f, ", {} skipped: nothing is relevant to them", self.n_skipped)?;
        }
        writeln!(f)?;
        let coverage = format!("{:.0}% interval", 100.0 * self.confidence);
        let mut rows = vec![["", "value", "chance", coverage.as_str()].map(str::to_owned)];
        for figure in &self.figures {
            let show = |v: f64| figure.unit.show(v);
            let interval = figure.interval.map_or(String::new(), |i| format!("{} to {}", show(i.low), show(i.high)));
            rows.push([figure.name.clone(), show(figure.value), figure.chance.map_or(String::new(), show), interval]);
        }
        write_table(f, &rows)
    }
}

/// Columns as wide as their widest cell, the first to the left, the others to the right; no trailing spaces.
pub(crate) fn write_table<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(widths).enumerate() {
            if c == 0 {
                line.push_str(&format!("  {cell:<width$}"));
            } else if width > 0 {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
