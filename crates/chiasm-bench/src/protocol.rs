//! One method on one set: fitted on the training part, judged on the rest.

use std::cell::OnceCell;

use chiasm_align::{
    About, CcaConfig, FitError, Fitted, HadamardConfig, MethodConfig, OnlineHashing, Pairs, PipelineSpace, Run, Step, View,
    ViewConfig,
};
use chiasm_core::{Labels, Metric, SharedSpace, Vectors};
use chiasm_eval::cross::{self, Belongs, Side};
use chiasm_eval::{Denominator, EvalConfig};
use chiasm_index::{Codes, HammingIndex};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::error::BenchError;
use crate::measure::{Cost, mean_and_deviation, measured};
use crate::task::{Part, Task};

/// Where hyper-parameters come from.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// Nothing is learned: all views lie in one space already.
    None,
    /// These, as stated somewhere.
    Stated(MethodConfig),
    /// Chosen by cross-validation on the training part, from these.
    CrossValidated(MethodConfig),
    /// These, for a method whose towers begin as `cca`, on what cross-validation on the training part chose for that: preprocessing, axes, ridges and
    /// weights. A choice of the rest as well would train towers hundreds of times.
    OnCca(MethodConfig),
}

/// How much of a method was chosen on the training part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tuning {
    /// Nothing.
    Stated,
    /// Its beginning, which is that of `cca`.
    OnCca,
    /// All hyper-parameters that it tries.
    CrossValidated,
}

/// What cross-validation chooses for `cca` on a set's training part, looked for once, when it is first asked for.
#[derive(Default)]
pub struct Linear(OnceCell<CcaConfig>);

impl Linear {
    fn of(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<&CcaConfig, FitError> {
        if let Some(found) = self.0.get() {
            return Ok(found);
        }
        let chosen = MethodConfig::Cca(CcaConfig::default()).auto_from(pairs, FOLDS, run)?;
        let MethodConfig::Cca(found) = chosen.config else { unreachable!("a search keeps its method") };
        Ok(self.0.get_or_init(|| found))
    }
}

/// What binary codes are looked for among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Database {
    /// Real-valued: the test items of the other view.
    Test,
    /// Codes: each training item coded by the function of its own view.
    PerView,
    /// Codes: one code for both views of a training pair, learned from both.
    Shared,
}

/// Figures of one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// `image -> text`.
    pub direction: String,
    /// Mean average precision over the whole ranking, ties in the order of the gallery.
    pub map: f64,
    /// Its 95 % interval over queries.
    pub interval: Option<(f64, f64)>,
    /// Its expectation over all orders of the tied.
    pub map_over_ties: f64,
    /// Mean average precision of the first 50, divided by the hits among them.
    pub map_at_50: f64,
    /// Share of queries with a right answer first, among the first five, among the first ten.
    pub hits: [f64; 3],
    /// For codes: precision and recall of everything within Hamming radius 2, and the share of queries that find nothing there.
    pub radius_2: Option<[f64; 3]>,
    /// MAP of a random order, exactly.
    pub chance: f64,
    /// Queries judged.
    pub n_queries: usize,
    /// Items searched.
    pub n_gallery: usize,
    /// Where the method draws lots: how far the figures of several seeds lie apart, of which `map`, `map_over_ties`, `map_at_50` and `hits` are
    /// the means; all else is the first seed's.
    pub seeds: Option<Deviation>,
}

/// Standard deviations over seeds, of a sample (divided by one less than there are).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// How many seeds.
    pub n: usize,
    /// Of the mean average precision.
    pub map: f64,
    /// Of the shares of [`Figures::hits`].
    pub hits: [f64; 3],
}

/// A sum of correlations on rows not seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// The sum; the mean over seeds.
    pub sum: f64,
    /// Its standard deviation over seeds, where the method draws lots.
    pub deviation: Option<f64>,
}

impl Correlation {
    fn over_seeds(all: &[f64]) -> Correlation {
        let (sum, deviation) = mean_and_deviation(all);
        Correlation { sum, deviation }
    }
}

impl Figures {
    /// One for several, in the same direction; the first where they are all the same.
    fn over_seeds(all: &[&Figures]) -> Figures {
        let first = all[0];
        let mean = |of: &dyn Fn(&Figures) -> f64| all.iter().map(|f| of(f)).sum::<f64>() / all.len() as f64;
        let deviation = |of: &dyn Fn(&Figures) -> f64| {
            let mean = mean(of);
            (all.iter().map(|f| (of(f) - mean).powi(2)).sum::<f64>() / (all.len() - 1) as f64).sqrt()
        };
        if all.iter().all(|f| f.map == first.map && f.hits == first.hits) {
            return first.clone();
        }
        let seeds = Deviation { n: all.len(), map: deviation(&|f| f.map), hits: [0, 1, 2].map(|i| deviation(&|f| f.hits[i])) };
        Figures {
            map: mean(&|f| f.map),
            map_over_ties: mean(&|f| f.map_over_ties),
            map_at_50: mean(&|f| f.map_at_50),
            hits: [0, 1, 2].map(|i| mean(&|f| f.hits[i])),
            seeds: Some(seeds),
            ..first.clone()
        }
    }
}

/// What a method reached on a set.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The method's name.
    pub method: &'static str,
    /// What distinguishes this row from others of the method.
    pub variant: String,
    /// Bits of a code.
    pub bits: Option<usize>,
    /// What was searched.
    pub database: Database,
    /// What of its hyper-parameters was chosen by cross-validation on the training part.
    pub tuning: Tuning,
    /// Hyper-parameters by name.
    pub parameters: Vec<(String, String)>,
    /// Where it was asked for: what [`chiasm_align::Figures::mean`] says of these hyper-parameters by [`FOLDS`] folds of the training part alone.
    pub folds: Option<f64>,
    /// Both directions.
    pub figures: Vec<Figures>,
    /// Where the set asks for it: what both views have in common on the test part, as the sum of the correlations of so many coordinates.
    pub correlation: Option<Correlation>,
    /// Cost of the fit, the choice of hyper-parameters apart.
    pub cost: Cost,
}

/// Folds of the cross-validation, as many as `chiasm space fit` takes.
pub const FOLDS: usize = 5;

/// How often a method is fitted.
#[derive(Clone, Copy, Debug)]
pub struct Trials {
    /// Seeds, where it draws lots.
    pub seeds: u8,
    /// Whether it is also tried on folds of the training part, which says what may be chosen without a look at the test part.
    pub folds: bool,
}

/// Fits a method on the training part and judges it in both directions; a hashing method that learns codes of the pairs gives two
/// outcomes, one for each kind of database. Hyper-parameters are chosen with the seed of `run`, and with them the method is fitted with
/// that seed and those that follow it, so many together; one that draws no lots is fitted twice, to see that.
///
/// Where the run keeps a draft, hyper-parameters that an earlier run chose are not looked for again. `linear` remembers, from one method to the next, what was chosen for `cca` on these views of the set.
///
/// # Errors
/// [`BenchError::Fit`], [`BenchError::Project`].
pub fn run(
    task: &Task,
    recipe: &Recipe,
    variant: &str,
    run: &Run<'_>,
    trials: Trials,
    linear: &Linear,
) -> Result<Vec<Outcome>, BenchError> {
    let pairs = task.train.pairs();
    let (config, name) = match recipe {
        Recipe::None => return Ok(vec![nothing_learned(task, variant)?]),
        Recipe::Stated(config) | Recipe::CrossValidated(config) | Recipe::OnCca(config) => (config.clone(), config.name()),
    };
    let failed = |source| BenchError::Fit { method: name.to_owned(), task: task.title.clone(), source };
    let (config, tuning) = match recipe {
        Recipe::None | Recipe::Stated(_) => (config, Tuning::Stated),
        Recipe::OnCca(_) => (config.beginning_as(linear.of(&pairs, run).map_err(failed)?), Tuning::OnCca),
        Recipe::CrossValidated(MethodConfig::Cca(start)) if *start == CcaConfig::default() => {
            (MethodConfig::Cca(linear.of(&pairs, run).map_err(failed)?.clone()), Tuning::CrossValidated)
        }
        Recipe::CrossValidated(_) => (config.auto_from(&pairs, FOLDS, run).map_err(failed)?.config, Tuning::CrossValidated),
    };
    let folds = if trials.folds {
        let chosen = chiasm_align::cross_validate(std::slice::from_ref(&config), &pairs, FOLDS, run).map_err(failed)?;
        Some(chosen.figures.mean())
    } else {
        None
    };
    let fit = |seed: u64| -> Result<Vec<Outcome>, BenchError> {
        let (fitted, cost) = measured(|| {
            // From its beginning, for it is timed.
            config.fit_with_codes(&pairs, &Run { seed, draft: None, ..*run })
        });
        let Fitted { space, codes } = fitted.map_err(failed)?;
        let outcome = |database: Database, figures: Vec<Figures>| Outcome {
            method: name,
            variant: variant.to_owned(),
            bits: space.n_bits(),
            database,
            tuning,
            parameters: config.parameters(),
            folds,
            figures,
            correlation: None,
            cost,
        };
        if space.n_bits().is_none() {
            let correlation = task.correlations.map(|k| correlation(&space, &task.test, k)).transpose()?;
            let figures = figures(task, &space, &task.test, None)?;
            return Ok(vec![Outcome {
                correlation: correlation.map(|sum| Correlation { sum, deviation: None }),
                ..outcome(Database::Test, figures)
            }]);
        }
        let mut outcomes = vec![outcome(Database::PerView, figures(task, &space, &task.train, None)?)];
        if let Some(codes) = &codes {
            outcomes.push(outcome(Database::Shared, figures(task, &space, &task.train, Some(codes))?));
        }
        Ok(outcomes)
    };
    let mut all = vec![fit(run.seed)?];
    for further in 1..u64::from(trials.seeds) {
        all.push(fit(run.seed.wrapping_add(further))?);
        let maps = |outcomes: &[Outcome]| outcomes.iter().flat_map(|o| &o.figures).map(|f| f.map).collect::<Vec<_>>();
        if further == 1 && maps(&all[0]) == maps(&all[1]) {
            break;
        }
    }
    let mut outcomes = all[0].clone();
    if all.len() > 1 {
        for (nth, outcome) in outcomes.iter_mut().enumerate() {
            if outcome.correlation.is_some() {
                let sums: Vec<f64> = all.iter().filter_map(|outcomes| outcomes[nth].correlation).map(|c| c.sum).collect();
                outcome.correlation = Some(Correlation::over_seeds(&sums));
            }
            for (direction, figures) in outcome.figures.iter_mut().enumerate() {
                *figures =
                    Figures::over_seeds(&all.iter().map(|outcomes| &outcomes[nth].figures[direction]).collect::<Vec<_>>());
            }
        }
    }
    Ok(outcomes)
}

/// MAP of both directions at one point of an axis other than bits.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The method.
    pub method: &'static str,
    /// Where: the share of training rows whose classes are known, or the share of the training rows that have come.
    pub at: f64,
    /// MAP of each direction.
    pub map: Vec<f64>,
}

/// Shares of labelled rows that semi-supervised hashing is tried with.
pub const LABELLED: [f64; 5] = [0.01, 0.05, 0.1, 0.5, 1.0];
/// Chunks in which rows come.
pub const CHUNKS: usize = 10;
/// Bits of codes where another axis varies.
const BITS: usize = 32;

/// Semi-supervised hashing, and `scm-seq` which learns from labelled rows alone, when the classes of some training rows only are known:
/// which, is drawn by the seed, at least one row of each class. Gallery: all training rows, per view.
///
/// # Errors
/// [`BenchError::Fit`], [`BenchError::Project`].
pub fn labelled_shares(task: &Task, run: &Run<'_>) -> Result<Vec<Point>, BenchError> {
    let Some(labels) = &task.train.labels else { return Ok(Vec::new()) };
    let mut order: Vec<usize> = (0..labels.n()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(run.seed));
    // The first of each class come first.
    let mut seen = vec![false; labels.n_classes()];
    order.sort_by_key(|row| !labels.of(*row).iter().any(|class| !std::mem::replace(&mut seen[*class as usize], true)));
    let mut points = Vec::new();
    for share in LABELLED {
        let known = ((share * labels.n() as f64).round() as usize).max(labels.n_classes().min(labels.n()));
        let mut classes = vec![Vec::new(); labels.n()];
        order[..known].iter().for_each(|row| classes[*row] = labels.of(*row).to_vec());
        let some = Labels::from_rows(&classes, labels.n_classes()).expect("classes of the same labels");
        for name in ["ssh", "scm-seq"] {
            let config = MethodConfig::from_name(name).expect("a method of the list").with_components(BITS);
            let failed = |source| BenchError::Fit { method: name.to_owned(), task: task.title.clone(), source };
            let pairs = Pairs { labels: Some(&some), ..task.train.pairs() };
            let space = config.fit(&pairs, run).map_err(failed)?;
            let map = figures(task, &space, &task.train, None)?.iter().map(|f| f.map).collect();
            points.push(Point { method: config.name(), at: known as f64 / labels.n() as f64, map });
        }
    }
    Ok(points)
}

/// The training rows come in [`CHUNKS`] parts, in an order drawn by the seed: after each, canonical correlation analysis from sums
/// (gallery: the test part) and online hashing (gallery: the codes of the rows that have come, shared by both views, which stay).
///
/// # Errors
/// [`BenchError::Fit`], [`BenchError::Project`].
pub fn stream(task: &Task, run: &Run<'_>) -> Result<Vec<Point>, BenchError> {
    let Some(labels) = &task.train.labels else { return Ok(Vec::new()) };
    let failed = |method: &str| {
        let (method, task) = (method.to_owned(), task.title.clone());
        move |source| BenchError::Fit { method, task, source }
    };
    let dims: Vec<usize> = task.train.views.iter().map(Vectors::dim).collect();
    let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
    let cca = MethodConfig::Cca(CcaConfig { views: [view; 2], max_components: task.cca_components, correlation_power: 1.0 });
    let mut sums = cca.moments(&dims, None).map_err(failed("cca"))?;
    let hadamard = HadamardConfig { bits: BITS, ..HadamardConfig::default() };
    let mut online =
        OnlineHashing::new(hadamard, [dims[0], dims[1]], labels.n_classes(), run.seed).map_err(failed("online hashing"))?;
    let mut order: Vec<usize> = (0..task.train.n()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(run.seed));
    let (mut came, mut codes, mut points) = (0, Vec::new(), Vec::new());
    for chunk in order.chunks(order.len().div_ceil(CHUNKS).max(1)) {
        run.cancel.check()?;
        let part = task.train.pick(chunk);
        sums.add(&Pairs { labels: None, ..part.pairs() }).map_err(failed("cca"))?;
        codes.extend_from_slice(online.add(&part.pairs()).map_err(failed("online hashing"))?.data());
        came += chunk.len();
        let at = came as f64 / order.len() as f64;
        let space = cca.fit_moments(&sums, run).map_err(failed("cca"))?;
        let map = figures(task, &space, &task.test, None)?.iter().map(|f| f.map).collect();
        points.push(Point { method: "cca", at, map });
        let space = online.space(run).map_err(failed("online hashing"))?;
        let gallery = task.train.pick(&order[..came]);
        let given = Vectors::new(codes.clone(), BITS)?;
        let map = figures(task, &space, &gallery, Some(&given))?.iter().map(|f| f.map).collect();
        points.push(Point { method: "online hashing", at, map });
    }
    Ok(points)
}

/// The correlations of the first `k` coordinates of both views on rows not learned from, added up: those of each coordinate with its partner, as they
/// were fitted, nothing being fitted to these rows.
///
/// # Errors
/// [`BenchError::Project`].
pub fn correlation(space: &PipelineSpace, part: &Part, k: usize) -> Result<f64, BenchError> {
    // Without the last step of a space for the cosine: at unit length a coordinate depends on all others.
    let bare = |view: &View| {
        let mut view = view.clone();
        view.steps.pop_if(|step| matches!(step, Step::Unit));
        view
    };
    let views = space.views().iter().map(bare).collect();
    let bare = PipelineSpace::new(Metric::InnerProduct, views, About::default()).expect("the views of a space meet");
    let rows = [bare.project(0, part.views[0].view())?, bare.project(1, part.views[1].view())?];
    let column = |v: usize, j: usize| rows[v].rows().map(|row| f64::from(row[j])).collect::<Vec<f64>>();
    Ok((0..k.min(rows[0].dim())).map(|j| pearson(&column(0, j), &column(1, j))).sum())
}

/// 0 where one of the two does not vary.
fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    let scale = (aa * bb).sqrt();
    if scale > 0.0 { ab / scale } else { 0.0 }
}

/// The views as they come.
fn nothing_learned(task: &Task, variant: &str) -> Result<Outcome, BenchError> {
    let view = |v: &Vectors| View { input_dim: v.dim(), steps: Vec::new() };
    let views = task.test.views.iter().map(view).collect();
    let space = PipelineSpace::new(Metric::Cosine, views, About::default()).expect("the views of such a set are of one width");
    Ok(Outcome {
        method: "none",
        variant: variant.to_owned(),
        bits: None,
        database: Database::Test,
        tuning: Tuning::Stated,
        parameters: Vec::new(),
        folds: None,
        figures: figures(task, &space, &task.test, None)?,
        correlation: None,
        cost: Cost::default(),
    })
}

/// One direction between two parts, judged.
pub struct Judgement {
    /// View of the queries, and of what they search.
    pub views: (usize, usize),
    /// What each query found.
    pub direction: cross::Direction,
    /// Items searched.
    pub n_gallery: usize,
    /// For codes of labelled rows: precision and recall within Hamming radius 2, and the share of queries that find nothing there.
    pub radius_2: Option<[f64; 3]>,
}

/// Every view of `queries` searches every other view of `gallery` in the space; each distinct thing counts once. A space of binary codes is
/// searched by Hamming distance, over `shared` codes of the gallery's rows where they are given.
///
/// # Errors
/// [`BenchError::Project`].
pub fn judgements(
    space: &PipelineSpace,
    names: &[&str],
    queries: &Part,
    gallery: &Part,
    shared: Option<&Vectors>,
) -> Result<Vec<Judgement>, BenchError> {
    let distinct = |part: &Part| -> Result<Vec<Distinct>, BenchError> {
        (0..part.views.len()).map(|v| Distinct::of(part, v, space)).collect()
    };
    let (queries, mut gallery) = (distinct(queries)?, distinct(gallery)?);
    if let Some(codes) = shared {
        for side in &mut gallery {
            let data = side.rows.iter().flat_map(|row| codes.row(*row)).copied().collect();
            side.projected = Vectors::new(data, codes.dim())?;
        }
    }
    let binary = space.n_bits().is_some();
    let mut all = Vec::new();
    for (from, query) in queries.iter().enumerate() {
        for (to, base) in gallery.iter().enumerate().filter(|(to, _)| *to != from) {
            let n_gallery = base.rows.len();
            let (direction, radius_2) = if binary {
                hamming((names[from], query), (names[to], base))
            } else {
                let direction = cross::judge(query.side(names[from]), base.side(names[to]), space.metric());
                (direction.expect("both sides lie in one space and have a group for each row"), None)
            };
            all.push(Judgement { views: (from, to), direction, n_gallery, radius_2 });
        }
    }
    Ok(all)
}

/// Codes are packed, and ranked by the index that searches them.
fn hamming((from, query): (&str, &Distinct), (to, base): (&str, &Distinct)) -> (cross::Direction, Option<[f64; 3]>) {
    let codes = |side: &Distinct| Codes::from_signs(&side.projected).expect("a space has a dimension");
    let ids: Vec<u64> = (0..base.rows.len() as u64).collect();
    let queries = codes(query);
    let index = HammingIndex::build(&ids, &codes(base)).expect("one number for each code");
    let distances = |q: usize| index.distances(&queries, q).expect("codes of one space are of one length");
    let (mine, theirs) = match (&query.labels, &base.labels) {
        (Some(query), Some(base)) => (Belongs::Labels(query), Belongs::Labels(base)),
        _ => (Belongs::Groups(&query.groups), Belongs::Groups(&base.groups)),
    };
    let score = |q: usize, scores: &mut [f32]| {
        scores.iter_mut().zip(distances(q)).for_each(|(score, d)| *score = -(d as f32));
    };
    let direction = cross::judge_scores((from, mine), (to, theirs), score);
    let labels = query.labels.as_ref().zip(base.labels.as_ref());
    let lookup = labels.map(|(mine, theirs)| within_radius(2, &direction.rows, distances, |q, i| mine.share(q, theirs, i)));
    (direction, lookup)
}

/// Mean precision and recall of all items within a radius, and the share of queries that find none there (their precision is 0).
fn within_radius(
    radius: u32,
    rows: &[usize],
    distances: impl Fn(usize) -> Vec<u32>,
    relevant: impl Fn(usize, usize) -> bool,
) -> [f64; 3] {
    let (mut precision, mut recall, mut empty) = (0.0, 0.0, 0.0);
    for q in rows {
        let distances = distances(*q);
        let all = (0..distances.len()).filter(|i| relevant(*q, *i)).count() as f64;
        let near: Vec<usize> = (0..distances.len()).filter(|i| distances[*i] <= radius).collect();
        let hits = near.iter().filter(|i| relevant(*q, **i)).count() as f64;
        if near.is_empty() {
            empty += 1.0;
        } else {
            precision += hits / near.len() as f64;
        }
        recall += hits / all;
    }
    [precision, recall, empty].map(|sum| sum / rows.len().max(1) as f64)
}

fn figures(task: &Task, space: &PipelineSpace, gallery: &Part, shared: Option<&Vectors>) -> Result<Vec<Figures>, BenchError> {
    Ok(judgements(space, &task.views, &task.test, gallery, shared)?.iter().map(told).collect())
}

fn told(judged: &Judgement) -> Figures {
    let Judgement { direction, n_gallery, radius_2, .. } = judged;
    let config = EvalConfig { cuts: vec![1, 5, 10], ..EvalConfig::default() };
    let report = direction.report(&config);
    let map = report.get("MAP").expect("a report has a MAP");
    let value = |name: &str| report.value(name).unwrap_or(f64::NAN);
    let over = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / direction.queries.len().max(1) as f64;
    Figures {
        direction: direction.title.clone(),
        map: map.value,
        interval: map.interval.map(|i| (i.low, i.high)),
        map_over_ties: over(&mut direction.expected_ap.iter().copied()),
        map_at_50: over(&mut direction.queries.iter().map(|q| q.average_precision(Some(50), Denominator::HitsInK))),
        hits: [value("R@1"), value("R@5"), value("R@10")],
        radius_2: *radius_2,
        chance: map.chance.unwrap_or(f64::NAN),
        n_queries: direction.queries.len(),
        n_gallery: *n_gallery,
        seeds: None,
    }
}

/// One view of a part in the space, each distinct thing once: a picture stands once, though each of its captions is a row.
struct Distinct {
    /// The rows that stand.
    rows: Vec<usize>,
    projected: Vectors,
    groups: Vec<u32>,
    labels: Option<Labels>,
}

impl Distinct {
    fn of(part: &Part, v: usize, space: &PipelineSpace) -> Result<Self, BenchError> {
        let group = |row: usize| part.groups.as_ref().map_or(row as u32, |groups| groups[row]);
        let mut seen = std::collections::BTreeSet::new();
        let bits = |row: usize| part.views[v].row(row).iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let rows: Vec<usize> = (0..part.n()).filter(|row| seen.insert((group(*row), bits(*row)))).collect();
        let picked = part.pick(&rows);
        Ok(Self {
            projected: space.project(v, picked.views[v].view())?,
            groups: rows.iter().map(|row| group(*row)).collect(),
            labels: picked.labels,
            rows,
        })
    }

    fn side<'a>(&'a self, name: &'a str) -> Side<'a> {
        Side { name, vectors: &self.projected, groups: &self.groups, labels: self.labels.as_ref() }
    }
}

/// The metric a space is compared by, in a word.
pub fn metric_word(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::InnerProduct => "dot product",
        Metric::L2 => "Euclidean distance",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(map: f64, first: f64) -> Figures {
        Figures {
            direction: "image -> text".to_owned(),
            map,
            interval: Some((0.1, 0.2)),
            map_over_ties: map,
            map_at_50: 2.0 * map,
            hits: [first, 0.5, 1.0],
            radius_2: None,
            chance: 0.01,
            n_queries: 10,
            n_gallery: 20,
            seeds: None,
        }
    }

    /// Two views of one column that correlate by `r` on the rows given, as the steps of a space leave them.
    fn one_column(first: &[f32], second: &[f32], views: [Vec<Step>; 2]) -> f64 {
        let views = views.map(|steps| View { input_dim: 1, steps }).to_vec();
        let space = PipelineSpace::new(Metric::Cosine, views, About::default()).unwrap();
        let views = [first, second].map(|rows| Vectors::new(rows.to_vec(), 1).unwrap()).to_vec();
        correlation(&space, &Part { views, labels: None, groups: None }, 5).unwrap()
    }

    #[test]
    fn the_correlation_is_that_of_coordinates_before_they_are_brought_to_unit_length() {
        let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-6, "{x}, expected {y}");
        let rows = [1.0, 2.0, 3.0, 4.0];
        // At unit length every row would be 1 or -1; a stretch and a shift change nothing.
        let stretched = vec![Step::Scale { factor: vec![3.0] }, Step::Center { mean: vec![7.0] }];
        near(one_column(&rows, &[2.0, 4.0, 6.0, 8.0], [stretched, Vec::new()]), 1.0);
        near(one_column(&rows, &[1.0, -1.0, -1.0, 1.0], [Vec::new(), Vec::new()]), 0.0);
        near(one_column(&rows, &[1.0, 3.0, 2.0, 4.0], [Vec::new(), Vec::new()]), 0.8);
        // What does not vary has nothing in common with anything.
        near(one_column(&rows, &[5.0; 4], [Vec::new(), Vec::new()]), 0.0);
        let told = Correlation::over_seeds(&[1.0, 2.0, 3.0]);
        assert_eq!((told.sum, told.deviation), (2.0, Some(1.0)));
        assert_eq!(Correlation::over_seeds(&[1.5, 1.5]).deviation, None);
    }

    #[test]
    fn towers_see_more_of_a_bent_pair_than_any_line() {
        let task = crate::data::halves::bent().unwrap();
        let run = Run { seed: 0, progress: &chiasm_core::NoProgress, cancel: &chiasm_core::Cancel::default(), draft: None };
        let sums = |method: &str| -> Vec<f64> {
            let planned = crate::plan::plan(&task).into_iter().filter(|entry| entry.method() == method);
            let of = |entry: crate::plan::Entry| {
                let trials = Trials { seeds: 1, folds: false };
                super::run(&task, &entry.recipe, &entry.variant, &run, trials, &Linear::default()).unwrap()[0].correlation
            };
            planned.map(|entry| of(entry).unwrap().sum).collect()
        };
        let (towers, lines) = (sums("dcca"), sums("cca"));
        assert!(lines.len() > 1 && lines.iter().all(|line| towers[0] > line + 5.0), "towers {towers:?}, lines {lines:?}");
    }

    #[test]
    fn towers_take_over_what_was_found_for_the_linear_method() {
        let task = crate::data::halves::bent().unwrap();
        let few = Part { views: task.train.pick(&(0..150).collect::<Vec<_>>()).views, labels: None, groups: None };
        let task = Task { train: few, correlations: None, ..task };
        let run = Run { seed: 0, progress: &chiasm_core::NoProgress, cancel: &chiasm_core::Cancel::default(), draft: None };
        let linear = Linear::default();
        let of =
            |recipe: Recipe| super::run(&task, &recipe, "", &run, Trials { seeds: 1, folds: true }, &linear).unwrap().remove(0);
        let lines = of(Recipe::CrossValidated(MethodConfig::from_name("cca").unwrap()));
        let towers = of(Recipe::OnCca(MethodConfig::from_name("infonce").unwrap()));
        let view = |o: &Outcome| o.parameters.iter().find(|(name, _)| name == "view 0").unwrap().1.clone();
        assert_eq!((view(&towers), lines.tuning, towers.tuning), (view(&lines), Tuning::CrossValidated, Tuning::OnCca));
        assert!(lines.folds.is_some_and(|figure| (0.01..1.0).contains(&figure)), "{:?}", lines.folds);
    }

    #[test]
    fn figures_of_several_seeds_are_means_with_deviations() {
        let [a, b, c] = [figures(0.1, 0.2), figures(0.2, 0.2), figures(0.3, 0.5)];
        let told = Figures::over_seeds(&[&a, &b, &c]);
        let seeds = told.seeds.unwrap();
        let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-12, "{x}, expected {y}");
        [(told.map, 0.2), (told.map_over_ties, 0.2), (told.map_at_50, 0.4), (told.hits[0], 0.3), (told.hits[2], 1.0)]
            .into_iter()
            .chain([(seeds.map, 0.1), (seeds.hits[0], 0.03f64.sqrt()), (seeds.hits[1], 0.0)])
            .for_each(|(x, y)| near(x, y));
        assert_eq!((seeds.n, told.interval), (3, a.interval));
        // A method that draws no lots has nothing to deviate.
        let same = Figures::over_seeds(&[&a, &a]);
        assert_eq!((same.map, same.seeds), (a.map, None));
    }
}
