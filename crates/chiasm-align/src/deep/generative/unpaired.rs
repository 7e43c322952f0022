//! Two views of which no row of one is known to belong to any row of the other.
//!
//! # No pairs
//! Before anything else each side's rows are put in the order of their numbers and then shuffled, each side from a seed of its own, so that the order in
//! which they were given cannot be known to what learns: rows given in any other order give the same space, bit for bit. That is why
//! these methods stand in no list beside those that learn from pairs, and are not fitted from [`crate::Pairs`].

use std::cmp::Ordering;

use chiasm_core::{MatrixView, Metric};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::adversarial::Adversarial;
use super::cyclegan::CycleGan;
use crate::basis::{Axes, Basis};
use crate::draft::{Part, Saved};
use crate::fit::{FitError, Run};
use crate::linalg::{self, Mat, product};
use crate::pipeline::{About, PipelineSpace, Step, View};
use crate::preprocess::ViewConfig;
use crate::reduced::{at_least_one, row_major};

/// Rows of two views, `[n_0, d_0]` and `[n_1, d_1]`, in no order that means anything.
#[derive(Clone, Copy, Debug)]
pub struct Unpaired<'a> {
    /// The rows of each view; there may be more of one than of the other.
    pub views: [MatrixView<'a>; 2],
}

/// A method that learns from rows of which none is known to belong to another, with its hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum UnpairedMethod {
    /// A turn, see [`Adversarial`].
    Adversarial(Adversarial),
    /// A pair of networks, see [`CycleGan`].
    CycleGan(CycleGan),
}

impl UnpairedMethod {
    /// The names, in the order of the documentation.
    pub const NAMES: [&'static str; 2] = ["adversarial", "cyclegan"];

    /// A method by its name, with the hyper-parameters that it has by default; none for a name that is none of [`UnpairedMethod::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "adversarial" => Some(Self::Adversarial(Adversarial::default())),
            "cyclegan" => Some(Self::CycleGan(CycleGan::default())),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adversarial(_) => Self::NAMES[0],
            Self::CycleGan(_) => Self::NAMES[1],
        }
    }

    /// The same with at most so many coordinates.
    pub fn with_components(mut self, n: usize) -> Self {
        match &mut self {
            Self::Adversarial(config) => config.dim = n,
            Self::CycleGan(config) => config.dim = n,
        }
        self
    }

    /// Learns.
    ///
    /// # Errors
    /// Those of the method.
    pub fn fit(&self, rows: &Unpaired<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        match self {
            Self::Adversarial(config) => config.fit(rows, run),
            Self::CycleGan(config) => config.fit(rows, run),
        }
    }
}

/// One side as it is learned from.
pub(super) struct Side {
    basis: Basis,
    /// Rows in as many principal axes as both sides have, in units of the root mean square there, `[n, k]`, shuffled.
    pub(super) rows: Mat,
    scale: f64,
}

impl Unpaired<'_> {
    /// Both sides, shuffled, in their principal axes, at most `max` of them.
    ///
    /// # Errors
    /// [`FitError::TooFewRows`], [`FitError::Input`], [`FitError::Constant`], [`FitError::Config`], [`FitError::Numeric`], [`FitError::Cancelled`].
    pub(super) fn sides(&self, views: &[ViewConfig; 2], max: usize, run: &Run<'_>) -> Result<[Side; 2], FitError> {
        at_least_one("dim", max)?;
        let learn = |v: usize| {
            let (x, config) =
                (self.views[v], ViewConfig { pca_dim: Some(views[v].pca_dim.unwrap_or(max).min(max)), ..views[v] });
            config.check()?;
            if x.n() < 2 {
                return Err(FitError::TooFewRows { got: x.n(), least: 2, what: format!("of view {v} to fit") });
            }
            x.check_finite().map_err(|cause| FitError::Input { view: v, cause })?;
            let data: Vec<f32> = shuffled(x, v, run.seed).into_iter().flat_map(|row| x.row(row)).copied().collect();
            let x = MatrixView::new(&data, x.dim()).map_err(|cause| FitError::Input { view: v, cause })?;
            let all: Vec<usize> = (0..x.n()).collect();
            let basis = Basis::learn(v, x, &all, &config, Axes::Principal(config.pca_dim), run)?;
            let rows = basis.of_training(x, &all);
            Ok((basis, rows))
        };
        let [(a, x), (b, y)] = [learn(0)?, learn(1)?];
        let k = x.ncols().min(y.ncols()).min(max);
        let side = |(basis, rows): (Basis, Mat)| {
            let mut rows = rows.subcols(0, k).to_owned();
            let squares: f64 = (0..k).map(|j| rows.col(j).iter().map(|x| x * x).sum::<f64>()).sum();
            let scale = (squares / (rows.nrows() * k) as f64).sqrt();
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(FitError::Numeric { what: "scaling the rows" });
            }
            linalg::scale_cols(&mut rows, &vec![1.0 / scale; k]);
            Ok(Side { basis, rows, scale })
        };
        Ok([side((a, x))?, side((b, y))?])
    }
}

/// What a try has come to: a criterion, and matrices.
pub(super) type Tried = (f64, Vec<Mat>);

/// The best of several tries, which another must beat by `is_better`. Where the run keeps a draft, tries that are behind it are not made again; `config` is told
/// of what, and of each try progress is `of_try`.
///
/// # Errors
/// Those of a try; [`FitError::Draft`], [`FitError::Numeric`] without any.
pub(super) fn best_of(
    n_tries: usize,
    of_try: usize,
    config: &str,
    sides: &[Side; 2],
    is_better: fn(f64, f64) -> bool,
    run: &Run<'_>,
    mut one: impl FnMut(u64) -> Result<Tried, FitError>,
) -> Result<Tried, FitError> {
    let mut part = Part::new(run, "tries", |key| {
        key.words(config);
        sides.iter().for_each(|side| key.mat(&side.rows));
    });
    let read = part.read().and_then(|bytes| Saved::from_bytes(&bytes));
    let had = read.and_then(|saved| Some((saved.get("tried")?, (saved.number("criterion")?, saved.mats("best")))));
    let (n_done, mut best): (usize, Option<Tried>) = had.map_or((0, None), |(n, best)| (n, Some(best)));
    run.progress.start("training", Some((n_tries * of_try) as u64));
    run.progress.advance((n_done * of_try) as u64);
    for at in n_done..n_tries {
        let (n_behind, failed) = match one(run.seed.wrapping_add(at as u64)) {
            Ok(tried) => {
                if best.as_ref().is_none_or(|(so_far, _)| is_better(tried.0, *so_far)) {
                    best = Some(tried);
                }
                (at + 1, None)
            }
            Err(e) => (at, Some(e)),
        };
        // Of a try that was stopped nothing is kept.
        part.pause(|| {
            let mut saved = Saved::default();
            if let Some((criterion, mats)) = &best {
                saved.set("tried", n_behind);
                saved.set_number("criterion", *criterion);
                saved.set_mats("best", mats);
            }
            saved.to_bytes()
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
    }
    run.progress.finish();
    best.ok_or(FitError::Numeric { what: "training" })
}

/// The rows in the order of their numbers, then shuffled.
fn shuffled(x: MatrixView<'_>, view: usize, seed: u64) -> Vec<usize> {
    let by_numbers = |a: &usize, b: &usize| {
        let differ = x.row(*a).iter().zip(x.row(*b)).map(|(a, b)| a.total_cmp(b)).find(|order| *order != Ordering::Equal);
        differ.unwrap_or(Ordering::Equal)
    };
    let mut order: Vec<usize> = (0..x.n()).collect();
    order.sort_by(by_numbers);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (0x51DE + view as u64)));
    order
}

impl Side {
    /// The steps that lead a row of this side to `z M + s`, where z is what is learned from, and those that follow.
    fn steps(&self, map: &Mat, shift: &[f64], after: Vec<Step>) -> Vec<Step> {
        let mut weights = product(self.basis.axes.subcols(0, map.nrows()), map.as_ref());
        linalg::scale_cols(&mut weights, &vec![1.0 / self.scale; map.ncols()]);
        let bias = shift.iter().map(|s| *s as f32).collect();
        let linear = Step::Linear { weights: row_major(&weights), bias, n_out: map.ncols() };
        let mean = self.basis.mean.iter().map(|m| *m as f32).collect();
        self.basis.steps.iter().cloned().chain([Step::Center { mean }, linear]).chain(after).chain([Step::Unit]).collect()
    }
}

/// Refuses a count of 0, and one beyond all use, which would ask for memory without end.
pub(super) fn check_count(name: &'static str, value: usize) -> Result<(), FitError> {
    at_least_one(name, value)?;
    if value > 1 << 20 {
        return Err(FitError::Config { name, value: value.to_string(), expected: "at most 1048576" });
    }
    Ok(())
}

/// The space of the second side's rows, to which those of the first are led by `z M + s` and the steps that follow.
///
/// # Errors
/// [`FitError::Numeric`] when the weights overflow f32.
pub(super) fn space(
    sides: &[Side; 2],
    (map, shift, after): (&Mat, &[f64], Vec<Step>),
    method: &str,
    parameters: Vec<(String, String)>,
) -> Result<PipelineSpace, FitError> {
    let k = sides[1].rows.ncols();
    let steps = [sides[0].steps(map, shift, after), sides[1].steps(&Mat::identity(k, k), &[], Vec::new())];
    let views = steps.into_iter().zip(sides).map(|(steps, side)| View { input_dim: side.basis.input_dim, steps }).collect();
    let about = About { method: method.to_owned(), n_pairs: 0, parameters, correlations: Vec::new() };
    PipelineSpace::new(Metric::Cosine, views, about).map_err(|_| FitError::Numeric { what: "turning the weights into f32" })
}
