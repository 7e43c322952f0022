//! Cross-validation by groups, retrieval figures of rows left out, and the choice of hyper-parameters.
//!
//! # What is measured
//! The groups are dealt to the folds at random; a space is fitted on all folds but one, and the rows of that one are searched
//! with one another, in every direction. Rows of one group that are the same, number for number (a picture repeated for each
//! of its captions), are one thing. A query is a hit at `k` when any row of its group is among the first `k`; equal scores
//! count against it. With labels a right answer is a row that shares a class, and average precision is measured too.
//!
//! # A search that was stopped
//! Where the run keeps a draft, what each configuration reached stands in it, and a later run of the same search does not work it out again.
//!
//! # Large sets
//! Costs stay bounded: of more than 20,000 rows a random 20,000 (whole groups) take part in the search, and of a fold's rows at most
//! 2,000 are searched with one another. The final fit, which is the caller's, takes all rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chiasm_core::{MatrixView, Metric, NoProgress, SharedSpace};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::basis::{Axes, Basis};
use crate::draft::{Draft, Part, Passing};
use crate::fit::{FitError, Pairs, Run};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::pipeline::PipelineSpace;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{COMPONENTS, POWERS, Reduced, check_labels, pick_rows};

const MAX_SEARCH_ROWS: usize = 20_000;
const MAX_TEST_ROWS: usize = 2_000;
/// The search looks at no more principal components of a view than this.
const MAX_AXES: usize = 512;
/// A candidate takes over only when its mean figure is better by more than `MARGIN / sqrt(groups)`, about a third of the standard
/// error of a difference between two configurations: the start suits most data, and chance should not lead away from it.
const MARGIN: f64 = 0.15;

/// How well rows of one view find those of another, as fractions of the queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// View of the queries.
    pub from: usize,
    /// View of the gallery.
    pub to: usize,
    /// Queries for which a right answer comes first.
    pub r1: f64,
    /// ... is among the first five.
    pub r5: f64,
    /// ... is among the first ten.
    pub r10: f64,
    /// Mean average precision over the whole ranking (equal scores in the order of the rows), when the pairs have labels.
    pub map: Option<f64>,
    /// Number of queries, over all folds.
    pub n_queries: usize,
    /// Number of distinct things in the gallery; the mean over the folds.
    pub n_gallery: f64,
}

impl Direction {
    /// All of it, to the bit. No share is NaN, which stands for a MAP that is not there.
    fn to_bits(&self) -> [u64; 8] {
        let map = self.map.unwrap_or(f64::NAN);
        let [r1, r5, r10, map, n_gallery] = [self.r1, self.r5, self.r10, map, self.n_gallery].map(f64::to_bits);
        [self.from as u64, self.to as u64, r1, r5, r10, map, self.n_queries as u64, n_gallery]
    }

    fn of_bits([from, to, r1, r5, r10, map, n_queries, n_gallery]: [u64; 8]) -> Self {
        let [r1, r5, r10, map, n_gallery] = [r1, r5, r10, map, n_gallery].map(f64::from_bits);
        let map = (!map.is_nan()).then_some(map);
        let [from, to, n_queries] = [from, to, n_queries].map(|n| n as usize);
        Self { from, to, r1, r5, r10, map, n_queries, n_gallery }
    }
}

/// Retrieval figures in every direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Every ordered pair of views: 0 to 1, 0 to 2, ..., 1 to 0, ...
    pub directions: Vec<Direction>,
}

impl Figures {
    /// What hyper-parameters are chosen by, 0 to 1: over all directions the mean of MAP when there are labels, else of R@1, R@5 and
    /// R@10.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.directions.iter().map(|d| d.map.unwrap_or((d.r1 + d.r5 + d.r10) / 3.0)).sum();
        sum / self.directions.len() as f64
    }

    /// Figures over several folds: every query counts the same.
    pub(crate) fn pool(folds: &[Figures]) -> Figures {
        let direction = |d: usize| {
            let all: Vec<&Direction> = folds.iter().map(|f| &f.directions[d]).collect();
            let n_queries: usize = all.iter().map(|d| d.n_queries).sum();
            // Without a query that has a right answer there is nothing to find.
            let over = n_queries.max(1) as f64;
            let mean = |f: fn(&Direction) -> f64| all.iter().map(|d| f(d) * d.n_queries as f64).sum::<f64>() / over;
            let n_gallery = all.iter().map(|d| d.n_gallery).sum::<f64>() / all.len() as f64;
            let map = all[0].map.map(|_| mean(|d| d.map.unwrap_or(0.0)));
            Direction {
                r1: mean(|d| d.r1),
                r5: mean(|d| d.r5),
                r10: mean(|d| d.r10),
                map,
                n_queries,
                n_gallery,
                ..all[0].clone()
            }
        };
        Figures { directions: (0..folds[0].directions.len()).map(direction).collect() }
    }
}

/// One configuration with the figures it reached on rows left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The configuration.
    pub config: MethodConfig,
    /// What it reached, each fold's rows by a space fitted on the other folds.
    pub figures: Figures,
}

/// What cross-validation chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The best configuration.
    pub config: MethodConfig,
    /// Its figures on rows left out. Being the best of those tried they flatter a little.
    pub figures: Figures,
    /// Number of folds.
    pub n_folds: usize,
    /// All that were tried, in order.
    pub tried: Vec<Tried>,
}

/// Tries each configuration by `folds`-fold cross-validation and chooses the one with the best [`Figures::mean`], of equal ones the
/// first.
///
/// # Errors
/// Those of the method; [`FitError::TooFewRows`] for fewer groups than folds; [`FitError::Config`] for fewer than two folds or
/// an empty grid.
pub fn cross_validate(grid: &[MethodConfig], pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
    let Some(first) = grid.first() else {
        let expected = "at least one configuration is tried";
        return Err(FitError::Config { name: "number of configurations", value: "0".to_owned(), expected });
    };
    let mut max_axes = Some(1);
    for config in grid {
        pairs.check(config.name(), config.n_views())?;
        check_labels(config.linear(), pairs)?;
        for view in config.linear().views(pairs.views.len())? {
            max_axes = max_axes.zip(view.pca_dim).map(|(a, b)| a.max(b));
        }
    }
    let mut table = Table::new(first, pairs, folds, max_axes, run)?;
    run.progress.start("cross-validation", Some(grid.len() as u64));
    for config in grid {
        table.try_config(config)?;
    }
    table.known.finish()?;
    run.progress.finish();
    let mut best = 0;
    for (i, tried) in table.tried.iter().enumerate() {
        if tried.figures.mean() > table.tried[best].figures.mean() {
            best = i;
        }
    }
    Ok(table.choose(best))
}

/// Retrieval figures of a fitted space on pairs it has not seen, view by view as it was fitted. Memory is a score for every two
/// rows.
///
/// # Errors
/// Those of [`Pairs::check`]; [`FitError::Project`] for rows that cannot be projected.
pub fn evaluate(space: &PipelineSpace, pairs: &Pairs<'_>) -> Result<Figures, FitError> {
    pairs.check("evaluation", 2..=space.n_views())?;
    let rows: Vec<usize> = (0..pairs.n()).collect();
    let mut projected = Vec::new();
    for (view, x) in pairs.views.iter().enumerate() {
        let out = space.project(view, *x).map_err(|e| FitError::Project { view, cause: e })?;
        projected.push(Mat::from_fn(out.n(), out.dim(), |i, j| f64::from(out.row(i)[j])));
    }
    Ok(retrieve(&projected, space.metric(), &things(pairs, &rows), pairs, &rows))
}

/// Hyper-parameters by coordinate descent from a start that suits most data: ridges of each view's mean variance, coordinates
/// weighted by their correlation.
pub(crate) fn search(start: MethodConfig, pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
    pairs.check(start.name(), start.n_views())?;
    check_labels(start.linear(), pairs)?;
    let n_views = pairs.views.len();
    let choices: Vec<Vec<Preprocess>> = pairs.views.iter().map(|x| Preprocess::choices(*x)).collect();
    // Many views make one large eigenproblem per candidate, so each starts with fewer axes.
    let (widest, start_axes) = if n_views == 2 { (MAX_AXES, 256) } else { (128, 128) };
    let axes: Vec<Option<usize>> = pairs.views.iter().map(|x| (x.dim() > widest).then_some(start_axes)).collect();
    let view = |v: usize| ViewConfig { preprocess: choices[v][0], kernel: None, pca_dim: axes[v], ridge: 1.0 };
    let views: Vec<ViewConfig> = (0..n_views).map(view).collect();
    let mut table = Table::new(&start, pairs, folds, Some(MAX_AXES), run)?;
    run.progress.start("cross-validation", None);
    #[expect(clippy::wildcard_enum_match_arm, reason = "every method but these four names its own neighbours")]
    let best = match start {
        MethodConfig::Ridge(config) => {
            let mut at = MethodConfig::Ridge(crate::RidgeConfig { preprocess: [choices[0][0], choices[1][0]], ..config });
            let ridge = |at: &MethodConfig, change: &dyn Fn(&mut crate::RidgeConfig)| {
                let mut next = at.clone();
                if let MethodConfig::Ridge(c) = &mut next {
                    change(c);
                }
                next
            };
            table.best_of(&mut at, |at| vec![ridge(at, &|c| c.from = 1)])?;
            for v in 0..2 {
                table.best_of(&mut at, |at| choices[v][1..].iter().map(|p| ridge(at, &|c| c.preprocess[v] = *p)).collect())?;
            }
            table.walk(&mut at, |at, factor| ridge(at, &|c| c.ridge *= factor))?;
            table.best_of(&mut at, |at| vec![ridge(at, &|c| c.from = 1 - c.from)])?;
            table.walk(&mut at, |at, factor| ridge(at, &|c| c.ridge *= factor))?;
            at
        }
        MethodConfig::Pls(config) => {
            let mut at = MethodConfig::Pls(crate::PlsConfig { preprocess: [choices[0][0], choices[1][0]], ..config });
            let pls = |at: &MethodConfig, change: &dyn Fn(&mut crate::PlsConfig)| {
                let mut next = at.clone();
                if let MethodConfig::Pls(c) = &mut next {
                    change(c);
                }
                next
            };
            for v in 0..2 {
                table.best_of(&mut at, |at| choices[v][1..].iter().map(|p| pls(at, &|c| c.preprocess[v] = *p)).collect())?;
            }
            table.best_of(&mut at, |at| POWERS.map(|p| pls(at, &|c| c.covariance_power = p)).to_vec())?;
            table.best_of(&mut at, |at| COMPONENTS.map(|k| pls(at, &|c| c.max_components = k)).to_vec())?;
            at
        }
        MethodConfig::Cca(config) => {
            let mut at = MethodConfig::Cca(crate::CcaConfig { views: [views[0], views[1]], ..config });
            table.descend(&mut at, &choices)?;
            at
        }
        MethodConfig::Mcca(config) => {
            let mut at = MethodConfig::Mcca(crate::MccaConfig { views, ..config });
            table.descend(&mut at, &choices)?;
            at
        }
        other => {
            let mut at = other;
            if let MethodConfig::Kcca(config) = &mut at {
                for kernel in &mut config.kernels {
                    kernel.max_exact_rows = kernel.max_exact_rows.min(MAX_SEARCH_ANCHORS);
                    kernel.max_anchors = kernel.max_anchors.min(MAX_SEARCH_ANCHORS);
                }
            }
            // What suits the linear method suits the towers, which begin as that, and it is found at a fraction of the cost.
            if let Some(towers) = at.towers_mut() {
                let views = [views[0], views[1]];
                let mut linear =
                    MethodConfig::Cca(crate::CcaConfig { views, max_components: towers.dim, ..Default::default() });
                table.descend(&mut linear, &choices)?;
                // What the towers reach is told of the towers alone.
                table.tried.clear();
                if let MethodConfig::Cca(found) = &linear {
                    towers.begin_as(found);
                }
            }
            for _round in 0..2 {
                let mut moved = false;
                for field in 0..at.linear().neighbours(&choices).len() {
                    moved |= table.best_of(&mut at, |at| at.linear().neighbours(&choices).swap_remove(field))?;
                }
                if !moved {
                    break;
                }
            }
            table.try_config(&at)?;
            at
        }
    };
    table.known.finish()?;
    run.progress.finish();
    let at = table.place(&best).expect("the best one was tried");
    Ok(table.choose(at))
}

/// Anchors that stand for the rows of a kernel method whose hyper-parameters are looked for: each candidate decomposes matrices of that
/// size. The choice keeps them, since the best regularisation goes with the number of anchors.
const MAX_SEARCH_ANCHORS: usize = 500;

const AXES: [usize; 4] = [64, 128, 256, 512];
/// Step of a walk over ridges, and how far it goes at most.
const STRIDE: f64 = 3.162_277_660_168_379_5;
const RIDGES: std::ops::RangeInclusive<f64> = 1e-7..=1e4;

/// A configuration changed in one of the fields that CCA and its kin share.
fn changed(config: &MethodConfig, change: impl Fn(&mut [ViewConfig], &mut usize, &mut f64)) -> MethodConfig {
    let mut next = config.clone();
    if let MethodConfig::Cca(c) = &mut next {
        change(&mut c.views, &mut c.max_components, &mut c.correlation_power);
    } else if let MethodConfig::Mcca(c) = &mut next {
        change(&mut c.views, &mut c.max_components, &mut c.correlation_power);
    }
    next
}

/// The folds, what was worked out for them, and what was tried.
struct Table<'a> {
    pairs: &'a Pairs<'a>,
    run: &'a Run<'a>,
    max_axes: Option<usize>,
    folds: Vec<Fold>,
    /// Axes learned so far, by fold, view and preprocessing.
    bases: HashMap<(usize, usize, String), Arc<Basis>>,
    /// The folds in axes for one choice of preprocessing, kept while it stays.
    reduced: Option<(String, Vec<FoldInAxes>)>,
    /// Rows left out in all coordinates of the last solution, kept while only their number and weights change.
    solved: Option<(String, Vec<Solved>)>,
    tried: Vec<Tried>,
    known: Known<'a>,
}

/// What configurations reached, those that a run before this one tried included.
struct Known<'a> {
    figures: BTreeMap<String, Figures>,
    part: Part<'a>,
}

impl<'a> Known<'a> {
    fn new(pairs: &Pairs<'_>, n_folds: usize, max_axes: Option<usize>, run: &Run<'a>) -> Self {
        let part = Part::new(run, "search", |key| {
            key.words(&format!("{n_folds} folds, axes {max_axes:?}"));
            key.pairs(pairs);
        });
        let read = part.read().and_then(|bytes| serde_json::from_slice::<BTreeMap<String, Vec<[u64; 8]>>>(&bytes).ok());
        let n = pairs.views.len() * (pairs.views.len() - 1);
        let whole = read.unwrap_or_default().into_iter().filter(|(_, of)| of.len() == n);
        let figures = |of: Vec<[u64; 8]>| Figures { directions: of.into_iter().map(Direction::of_bits).collect() };
        Self { figures: whole.map(|(config, of)| (config, figures(of))).collect(), part }
    }

    /// By which a configuration is known: all of its numbers, to the last digit.
    fn name(config: &MethodConfig) -> String {
        format!("{config:?}")
    }

    fn to_bytes(figures: &BTreeMap<String, Figures>) -> Vec<u8> {
        let bits = |figures: &Figures| figures.directions.iter().map(Direction::to_bits).collect();
        let all: BTreeMap<&str, Vec<[u64; 8]>> = figures.iter().map(|(config, of)| (config.as_str(), bits(of))).collect();
        serde_json::to_vec(&all).expect("words and numbers")
    }

    /// A point at which the search can be stopped.
    fn pause(&mut self) -> Result<(), FitError> {
        self.part.pause(|| Self::to_bytes(&self.figures))
    }

    fn finish(&mut self) -> Result<(), FitError> {
        self.part.finish(|| Self::to_bytes(&self.figures))
    }
}

pub(crate) struct Fold {
    pub(crate) train: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// Groups left out.
    n_groups: usize,
    /// For each view the places in `test` of its distinct things.
    things: Vec<Vec<usize>>,
}

struct FoldInAxes {
    reduced: Reduced,
    /// Rows left out, in axes, one matrix per view.
    test: Vec<Mat>,
}

struct Solved {
    solution: crate::reduced::Solution,
    /// Rows left out in all coordinates, unweighted, one matrix per view.
    test: Vec<Mat>,
}

impl<'a> Table<'a> {
    fn new(
        method: &MethodConfig,
        pairs: &'a Pairs<'a>,
        n_folds: usize,
        max_axes: Option<usize>,
        run: &'a Run<'a>,
    ) -> Result<Self, FitError> {
        if n_folds < 2 {
            let expected = "cross-validation needs at least two folds";
            return Err(FitError::Config { name: "folds", value: n_folds.to_string(), expected });
        }
        pairs.check(method.name(), method.n_views())?;
        let folds = deal(pairs, n_folds, run.seed)?;
        let known = Known::new(pairs, n_folds, max_axes, run);
        let (bases, tried) = (HashMap::new(), Vec::new());
        Ok(Self { pairs, run, max_axes, folds, bases, reduced: None, solved: None, tried, known })
    }

    fn place(&self, config: &MethodConfig) -> Option<usize> {
        self.tried.iter().position(|t| t.config == *config)
    }

    fn choose(self, best: usize) -> Chosen {
        let Tried { config, figures } = self.tried[best].clone();
        Chosen { config, figures, n_folds: self.folds.len(), tried: self.tried }
    }

    /// The mean figure of a configuration, worked out if it is new.
    fn try_config(&mut self, config: &MethodConfig) -> Result<f64, FitError> {
        if let Some(at) = self.place(config) {
            return Ok(self.tried[at].figures.mean());
        }
        let figures = match self.known.figures.get(&Known::name(config)) {
            Some(figures) => figures.clone(),
            None => {
                self.known.pause()?;
                let figures = self.work_out(config);
                if figures.is_err() {
                    // Of a stop in the midst of it: what was known before is kept.
                    self.known.pause()?;
                }
                let figures = figures?;
                self.known.figures.insert(Known::name(config), figures.clone());
                figures
            }
        };
        let mean = figures.mean();
        self.tried.push(Tried { config: config.clone(), figures });
        self.run.progress.advance(1);
        Ok(mean)
    }

    /// What a configuration reaches.
    fn work_out(&mut self, config: &MethodConfig) -> Result<Figures, FitError> {
        let method = config.linear();
        let views = method.views(self.pairs.views.len())?;
        self.solve(config, &views)?;
        let (_, solved) = self.solved.as_ref().expect("solved above");
        let figures = |(fold, solved): (&Fold, &Solved)| {
            let k = solved.solution.kept(method.max_components());
            let finish = |(v, z): (usize, &Mat)| solved.solution.finish(v, z, k, method.correlation_power());
            let rows: Vec<Mat> = solved.test.iter().enumerate().map(finish).collect();
            retrieve(&rows, method.metric(), &fold.things, self.pairs, &fold.test)
        };
        let figures: Vec<Figures> = self.folds.par_iter().zip(solved).map(figures).collect();
        Ok(Figures::pool(&figures))
    }

    /// Makes `self.solved` that of the configuration.
    fn solve(&mut self, config: &MethodConfig, views: &[ViewConfig]) -> Result<(), FitError> {
        let from = if let MethodConfig::Ridge(c) = config { c.from } else { 0 };
        // Of a linear method only the coordinates kept and their weights may change without a new solution.
        let by_views = matches!(
            config,
            MethodConfig::Cca(_)
                | MethodConfig::Mcca(_)
                | MethodConfig::Gcca(_)
                | MethodConfig::Kcca(_)
                | MethodConfig::Pls(_)
                | MethodConfig::Ridge(_)
        );
        let own = if by_views { String::new() } else { format!("{config:?}") };
        let key = format!("{} {from} {views:?} {own}", config.name());
        if self.solved.as_ref().is_some_and(|(k, _)| *k == key) {
            return Ok(());
        }
        self.reduce(views, config.linear().in_columns())?;
        let (_, in_axes) = self.reduced.as_ref().expect("reduced above");
        // The folds report nothing of their own, for the search has one bar; and what they have done is kept until their figures are.
        let passing = self.run.draft.map(Passing::new);
        let draft = passing.as_ref().map(|passing| passing as &dyn Draft);
        let run = &Run { progress: &NoProgress, draft, ..*self.run };
        let solve = |fold: &FoldInAxes| {
            let solution = config.linear().solve(&fold.reduced, views, run)?;
            let test = fold.test.iter().zip(&solution.weights);
            let test = test.map(|(z, w)| product(z.subcols(0, w.nrows()), w.as_ref())).collect();
            Ok(Solved { solution, test })
        };
        let solved = in_axes.par_iter().map(solve).collect::<Result<_, FitError>>()?;
        self.solved = Some((key, solved));
        if let Some(passing) = passing {
            passing.forget_all();
        }
        Ok(())
    }

    /// Makes `self.reduced` that of the views' preprocessing.
    fn reduce(&mut self, views: &[ViewConfig], in_columns: bool) -> Result<(), FitError> {
        let axes = if in_columns { Axes::Columns } else { Axes::Principal(self.max_axes) };
        let words: Vec<String> = views.iter().map(|v| format!("{}, {axes:?}", v.entry())).collect();
        let key = words.join(", ");
        if self.reduced.as_ref().is_some_and(|(k, _)| *k == key) {
            return Ok(());
        }
        let (pairs, run) = (self.pairs, self.run);
        let missing: Vec<(usize, usize)> = (0..self.folds.len())
            .flat_map(|f| (0..views.len()).map(move |v| (f, v)))
            .filter(|(f, v)| !self.bases.contains_key(&(*f, *v, words[*v].clone())))
            .collect();
        let folds = &self.folds;
        let learn = |(f, v): (usize, usize)| {
            let basis = Basis::learn(v, pairs.views[v], &folds[f].train, &views[v], axes, run)?;
            Ok(((f, v, words[v].clone()), Arc::new(basis)))
        };
        let learned: Vec<_> = missing.into_par_iter().map(learn).collect::<Result<_, FitError>>()?;
        self.bases.extend(learned);
        self.reduced = None;
        let in_axes = self.folds.iter().enumerate().map(|(f, fold)| {
            run.cancel.check()?;
            let bases: Vec<Arc<Basis>> = (0..views.len()).map(|v| self.bases[&(f, v, words[v].clone())].clone()).collect();
            let train: Vec<Mat> = bases.iter().zip(&pairs.views).map(|(basis, x)| basis.of_training(*x, &fold.train)).collect();
            let test = bases.iter().zip(&pairs.views).map(|(basis, x)| basis.coordinates(*x, &fold.test)).collect();
            let labels = pairs.labels.map(|labels| labels.pick(&fold.train));
            let groups = fold.train.iter().map(|row| pairs.group(*row)).collect();
            Ok(FoldInAxes { test, reduced: Reduced::new(bases, train, groups, labels) })
        });
        let in_axes = in_axes.collect::<Result<Vec<_>, FitError>>()?;
        self.reduced = Some((key, in_axes));
        Ok(())
    }

    /// Moves to the best of the candidates if it is better by the margin; says whether it moved.
    fn best_of(
        &mut self,
        at: &mut MethodConfig,
        candidates: impl Fn(&MethodConfig) -> Vec<MethodConfig>,
    ) -> Result<bool, FitError> {
        let here = self.try_config(at)?;
        let n_groups: f64 = self.folds.iter().map(|f| f.n_groups as f64).sum();
        let mut best = (here + MARGIN / n_groups.sqrt(), None);
        for next in candidates(at) {
            let there = self.try_config(&next)?;
            if there > best.0 {
                best = (there, Some(next));
            }
        }
        let moved = best.1.is_some();
        if let Some(next) = best.1 {
            *at = next;
        }
        Ok(moved)
    }

    /// Goes up or down by equal factors as long as that helps.
    fn walk(&mut self, at: &mut MethodConfig, step: impl Fn(&MethodConfig, f64) -> MethodConfig) -> Result<bool, FitError> {
        let mut moved = false;
        for factor in [STRIDE, 1.0 / STRIDE] {
            let before = moved;
            while self.best_of(at, |at| vec![step(at, factor)].into_iter().filter(in_range).collect())? {
                moved = true;
            }
            if moved && !before {
                break;
            }
        }
        Ok(moved)
    }

    /// Coordinate descent over the fields that CCA and its kin share.
    fn descend(&mut self, at: &mut MethodConfig, choices: &[Vec<Preprocess>]) -> Result<(), FitError> {
        let n_views = choices.len();
        // Far jumps first, all views alike: noise-free data want next to no ridge, tiny sets a strong one.
        self.best_of(at, |at| {
            let jump = |r: f64| changed(at, |views, _, _| views.iter_mut().for_each(|v| v.ridge = r));
            [1e-4, 1e-2, 0.1, 10.0].map(jump).to_vec()
        })?;
        for v in 0..n_views {
            self.best_of(at, |at| {
                choices[v][1..].iter().map(|p| changed(at, |views, _, _| views[v].preprocess = *p)).collect()
            })?;
        }
        for _round in 0..2 {
            let mut moved = false;
            if n_views == 2 {
                for v in 0..n_views {
                    moved |= self.walk(at, |at, factor| changed(at, |views, _, _| views[v].ridge *= factor))?;
                }
            } else {
                let all =
                    |at: &MethodConfig, factor| changed(at, |views, _, _| views.iter_mut().for_each(|v| v.ridge *= factor));
                moved |= self.walk(at, all)?;
            }
            moved |= self.best_of(at, |at| POWERS.map(|p| changed(at, |_, _, power| *power = p)).to_vec())?;
            moved |= self.best_of(at, |at| COMPONENTS.map(|k| changed(at, |_, max, _| *max = k)).to_vec())?;
            if n_views > 2 {
                moved |= self.best_of(at, |at| {
                    let wide = |v: &&mut ViewConfig| v.pca_dim.is_some();
                    let all = |m| changed(at, |views, _, _| views.iter_mut().filter(wide).for_each(|v| v.pca_dim = Some(m)));
                    [64, 256].map(all).to_vec()
                })?;
            }
            for v in 0..n_views {
                let dim = self.pairs.views[v].dim();
                if n_views > 2 || dim <= AXES[0] {
                    continue;
                }
                moved |= self.best_of(at, |at| {
                    let fits = |m: &&usize| **m < dim;
                    let mut tried: Vec<MethodConfig> =
                        AXES.iter().filter(fits).map(|m| changed(at, |views, _, _| views[v].pca_dim = Some(*m))).collect();
                    if dim <= MAX_AXES {
                        tried.push(changed(at, |views, _, _| views[v].pca_dim = None));
                    }
                    tried
                })?;
            }
            if !moved {
                break;
            }
        }
        Ok(())
    }
}

fn in_range(config: &MethodConfig) -> bool {
    if let MethodConfig::Ridge(c) = config {
        return RIDGES.contains(&c.ridge);
    }
    let views: &[ViewConfig] = if let MethodConfig::Cca(c) = config {
        &c.views
    } else if let MethodConfig::Mcca(c) = config {
        &c.views
    } else {
        &[]
    };
    views.iter().all(|v| RIDGES.contains(&v.ridge))
}

/// Deals whole groups to the folds.
pub(crate) fn deal(pairs: &Pairs<'_>, n_folds: usize, seed: u64) -> Result<Vec<Fold>, FitError> {
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for row in 0..pairs.n() {
        groups.entry(pairs.group(row)).or_default().push(row);
    }
    if groups.len() < n_folds.max(2) {
        let what = format!("for {n_folds} folds (rows of one group count as one)");
        return Err(FitError::TooFewRows { got: groups.len(), least: n_folds.max(2), what });
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut n_rows = 0;
    groups.retain(|rows| {
        n_rows += rows.len();
        n_rows <= MAX_SEARCH_ROWS.max(rows.len())
    });
    let fold = |f: usize| {
        let pick = |ours: bool| {
            let dealt = groups.iter().enumerate().filter(|(g, _)| (g % n_folds == f) == ours).flat_map(|(_, rows)| rows);
            dealt.copied().collect::<Vec<usize>>()
        };
        let (mut train, mut test) = (pick(false), pick(true));
        train.sort_unstable();
        test.truncate(MAX_TEST_ROWS);
        test.sort_unstable();
        let things = things(pairs, &test);
        let n_groups = (0..groups.len()).filter(|g| g % n_folds == f).count();
        Fold { train, test, n_groups, things }
    };
    let folds: Vec<Fold> = (0..n_folds).map(fold).collect();
    match folds.iter().map(|f| f.train.len()).min() {
        Some(got) if got < 2 => Err(FitError::TooFewRows { got: pairs.n(), least: 4, what: "for cross-validation".to_owned() }),
        _ => Ok(folds),
    }
}

/// For each view the places in `rows` of its distinct things: of rows of one group with the same numbers only the first.
fn things(pairs: &Pairs<'_>, rows: &[usize]) -> Vec<Vec<usize>> {
    let distinct = |x: &MatrixView<'_>| {
        let mut seen: BTreeSet<(u32, Vec<u32>)> = BTreeSet::new();
        let new = |place: &usize| {
            let row = rows[*place];
            seen.insert((pairs.group(row), x.row(row).iter().map(|v| v.to_bits()).collect()))
        };
        (0..rows.len()).filter(new).collect()
    };
    pairs.views.iter().map(distinct).collect()
}

/// Searches the rows of every view with those of every other. `projected[v]` has a row for each of `rows`. Methods are compared by the
/// cosine or the inner product; none by a distance.
fn retrieve(projected: &[Mat], metric: Metric, things: &[Vec<usize>], pairs: &Pairs<'_>, rows: &[usize]) -> Figures {
    let views: Vec<(Mat, Vec<usize>)> = projected
        .iter()
        .zip(things)
        .map(|(z, places)| {
            let mut z = pick_rows(z, places);
            if metric == Metric::Cosine {
                let norms: Vec<f64> = (0..z.nrows()).map(|i| z.row(i).norm_l2()).collect();
                let scale: Vec<f64> = norms.iter().map(|n| if *n > 0.0 { 1.0 / n } else { 0.0 }).collect();
                linalg::scale_rows(&mut z, &scale);
            }
            (z, places.iter().map(|p| rows[*p]).collect())
        })
        .collect();
    let belong = |a: usize, b: usize| match pairs.labels {
        Some(labels) => labels.share(a, labels, b),
        None => pairs.group(a) == pairs.group(b),
    };
    let mut directions = Vec::new();
    for (from, (queries, query_rows)) in views.iter().enumerate() {
        for (to, (gallery, gallery_rows)) in views.iter().enumerate() {
            if from == to {
                continue;
            }
            // Gallery by rows, so that each query's scores lie side by side.
            let scores = product(gallery.as_ref(), queries.transpose());
            // How many wrong answers stand before the first right one, and the average precision; none for a query without a
            // right answer (an unlabelled row).
            let judged: Vec<(usize, f64)> = (0..query_rows.len())
                .into_par_iter()
                .filter_map(|q| {
                    let scores = scores.col(q);
                    let right: Vec<bool> = gallery_rows.iter().map(|row| belong(query_rows[q], *row)).collect();
                    let of = |mine: bool| scores.iter().zip(&right).filter(move |(_, r)| **r == mine).map(|(s, _)| *s);
                    let best = of(true).fold(f64::NEG_INFINITY, f64::max);
                    let ahead = of(false).filter(|s| *s >= best).count();
                    let precision = if pairs.labels.is_some() { average_precision(scores, &right) } else { 0.0 };
                    right.contains(&true).then_some((ahead, precision))
                })
                .collect();
            let n_queries = judged.len();
            let over = |sum: f64| sum / n_queries.max(1) as f64;
            let share = |k: usize| over(judged.iter().filter(|(ahead, _)| *ahead < k).count() as f64);
            let map = pairs.labels.map(|_| over(judged.iter().map(|(_, ap)| ap).sum()));
            let n_gallery = gallery_rows.len() as f64;
            directions.push(Direction { from, to, r1: share(1), r5: share(5), r10: share(10), map, n_queries, n_gallery });
        }
    }
    Figures { directions }
}

/// Equal scores in the order of the rows.
fn average_precision(scores: faer::ColRef<'_, f64>, right: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..right.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut found, mut sum) = (0.0, 0.0);
    for (place, _) in order.iter().enumerate().filter(|(_, row)| right[**row]) {
        found += 1.0;
        sum += found / (place + 1) as f64;
    }
    if found > 0.0 { sum / found } else { 0.0 }
}
