//! Views turned to their own principal axes, where every linear method of this crate is a small problem.
//!
//! In its principal axes a view's covariance is diagonal, so the ridge of any strength is a diagonal too: what is costly (the
//! covariances, their eigen-decompositions) is done once, and each candidate of a search over ridges, numbers of principal
//! components, canonical pairs and weights costs one decomposition of a small matrix. A method gives a [`Solution`] in these
//! axes; [`space`] turns it into steps.

use std::collections::HashMap;
use std::sync::Arc;

use chiasm_core::{MatrixView, Metric};
use faer::linalg::matmul::matmul;
use faer::{Accum, Par};
use rayon::prelude::*;

use crate::fit::{FitError, Pairs, Run};
use crate::linalg::{self, Mat, product};
use crate::pipeline::{About, PipelineSpace, Step, View, apply_rows};
use crate::preprocess::{Preprocess, ViewConfig};

/// Directions whose variance is below this share of the greatest are dropped: inputs are f32, with seven digits, so a
/// direction whose spread is 1e-5 of the greatest holds hardly more than their rounding.
const RANK_TOLERANCE: f64 = 1e-10;
/// Rows of a covariance taken at a time, so that memory is `O(d^2)` and not `O(n d)`.
const BLOCK_ROWS: usize = 2048;

/// The principal axes of one view, and all that leads to them.
pub(crate) struct Basis {
    /// Preprocessing learned from the fitting rows.
    pub(crate) steps: Vec<Step>,
    /// Mean of the preprocessed fitting rows, `[d]`.
    pub(crate) mean: Vec<f64>,
    /// Orthonormal axes in columns, `[d, m]`, of greatest variance first.
    pub(crate) axes: Mat,
    /// Variance along each axis, divisor `n - 1`, `[m]`.
    pub(crate) variances: Vec<f64>,
    /// Sum of the variances of all columns, axes beyond `m` included.
    total_variance: f64,
}

impl Basis {
    /// Learns the axes, at most `max_axes` of them, from the rows `train` of `x`.
    ///
    /// # Errors
    /// [`FitError::Constant`] when these rows do not vary; [`FitError::Numeric`].
    pub(crate) fn learn(
        view: usize,
        x: MatrixView<'_>,
        train: &[usize],
        preprocess: Preprocess,
        max_axes: Option<usize>,
        run: &Run<'_>,
    ) -> Result<Self, FitError> {
        let (n, d) = (train.len(), x.dim());
        let (first, which) = distinct(x, train);
        let steps = preprocess.steps(x, train)?;
        let rows: Vec<f32> = first.iter().flat_map(|i| x.row(*i)).copied().collect();
        let rows = apply_rows(&steps, rows, d);
        let mut counts = vec![0.0f64; first.len()];
        which.iter().for_each(|w| counts[*w] += 1.0);
        let mut mean = vec![0.0; d];
        for (row, count) in rows.chunks_exact(d).zip(&counts) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += count * f64::from(*v));
        }
        mean.iter_mut().for_each(|m| *m /= n as f64);
        run.cancel.check()?;
        let (divisor, n) = ((n - 1) as f64, first.len());
        let (values, vectors, total_variance) = if n <= d {
            // The rows span at most n - 1 directions: work with their inner products, [n, n].
            let centred = centre(&rows, d, &mean, &counts);
            let gram = product(centred.as_ref(), centred.transpose());
            let (values, vectors) = linalg::eigen(gram.as_ref())?;
            let total = (0..n).map(|i| gram[(i, i)]).sum::<f64>() / divisor;
            let values: Vec<f64> = values.into_iter().map(|v| v / divisor).collect();
            let kept = rank(&values, max_axes);
            let mut axes = product(centred.transpose(), vectors.subcols(0, kept));
            let lengths: Vec<f64> = values[..kept].iter().map(|v| 1.0 / (v * divisor).sqrt()).collect();
            linalg::scale_cols(&mut axes, &lengths);
            (values, axes, total)
        } else {
            let mut covariance = Mat::zeros(d, d);
            // The blocks are added in order, so that the sum is the same on any machine.
            for (block, counts) in rows.chunks(BLOCK_ROWS * d).zip(counts.chunks(BLOCK_ROWS)) {
                run.cancel.check()?;
                let centred = centre(block, d, &mean, counts);
                covariance += product(centred.transpose(), centred.as_ref());
            }
            linalg::scale_rows(&mut covariance, &vec![1.0 / divisor; d]);
            let (values, vectors) = linalg::eigen(covariance.as_ref())?;
            let total = (0..d).map(|i| covariance[(i, i)]).sum();
            let kept = rank(&values, max_axes);
            (values, vectors.subcols(0, kept).to_owned(), total)
        };
        run.cancel.check()?;
        let kept = vectors.ncols();
        // Equal rows leave only the rounding of their mean, far below what one digit of one f32 would make.
        let level: f64 = mean.iter().map(|m| m * m).sum();
        if kept == 0 || total_variance <= (1e-24 * level).max(f64::MIN_POSITIVE) {
            return Err(FitError::Constant { view, preprocess: preprocess.words_after() });
        }
        Ok(Self { steps, mean, axes: vectors, variances: values[..kept].to_vec(), total_variance })
    }

    /// The rows `picked` of `x` in these axes, `[picked.len(), m]`.
    pub(crate) fn coordinates(&self, x: MatrixView<'_>, picked: &[usize]) -> Mat {
        let d = x.dim();
        let (first, which) = distinct(x, picked);
        let blocks: Vec<Mat> = first
            .par_chunks(BLOCK_ROWS)
            .map(|block| {
                let rows: Vec<f32> = block.iter().flat_map(|i| x.row(*i)).copied().collect();
                let centred = centre(&apply_rows(&self.steps, rows, d), d, &self.mean, &vec![1.0; block.len()]);
                let mut out = Mat::zeros(centred.nrows(), self.axes.ncols());
                matmul(out.as_mut(), Accum::Replace, &centred, &self.axes, 1.0, Par::Seq);
                out
            })
            .collect();
        Mat::from_fn(picked.len(), self.axes.ncols(), |i, j| blocks[which[i] / BLOCK_ROWS][(which[i] % BLOCK_ROWS, j)])
    }

    /// How many axes a configuration uses, and what its ridge adds to the variance along each.
    pub(crate) fn ridge(&self, config: &ViewConfig) -> (usize, f64) {
        let all = self.variances.len();
        let mean_variance = match config.pca_dim {
            Some(m) if m <= all => self.variances[..m].iter().sum::<f64>() / m as f64,
            Some(m) => self.variances.iter().sum::<f64>() / m.min(self.mean.len()) as f64,
            None => self.total_variance / self.mean.len() as f64,
        };
        (config.pca_dim.map_or(all, |m| m.min(all)), config.ridge * mean_variance)
    }
}

/// All views in their axes, with the covariances between them.
pub(crate) struct Reduced {
    pub(crate) bases: Vec<Arc<Basis>>,
    /// `cross[v][w - v - 1]`: covariance of view `v` with view `w > v`, `[m_v, m_w]`, divisor `n - 1`.
    cross: Vec<Vec<Mat>>,
}

impl Reduced {
    /// `coordinates[v]` are the rows of view `v` in its axes; the rows `train` count.
    pub(crate) fn new(bases: Vec<Arc<Basis>>, coordinates: &[Mat], train: &[usize]) -> Self {
        let picked: Vec<Mat> = coordinates.iter().map(|c| pick_rows(c, train)).collect();
        let scale = 1.0 / (train.len() as f64 - 1.0);
        let between = |v: usize, w: usize| {
            let mut c = product(picked[v].transpose(), picked[w].as_ref());
            linalg::scale_rows(&mut c, &vec![scale; picked[v].ncols()]);
            c
        };
        let n = picked.len();
        let cross = (0..n).map(|v| (v + 1..n).map(|w| between(v, w)).collect()).collect();
        Self { bases, cross }
    }

    /// Covariance of view `v` with view `w > v`.
    pub(crate) fn cross(&self, v: usize, w: usize) -> &Mat {
        &self.cross[v][w - v - 1]
    }

    /// For each view the number of axes its configuration uses and the regularised standard deviations' inverses
    /// `1 / sqrt(variance + ridge)` along them.
    pub(crate) fn whitening(&self, views: &[ViewConfig]) -> Vec<Vec<f64>> {
        let one = |(basis, config): (&Arc<Basis>, &ViewConfig)| {
            let (m, ridge) = basis.ridge(config);
            basis.variances[..m].iter().map(|v| 1.0 / (v + ridge).sqrt()).collect()
        };
        self.bases.iter().zip(views).map(one).collect()
    }
}

/// What a linear method gives: for each view weights `[m_v, k]` in its axes, and a number for each of the `k` coordinates.
pub(crate) struct Solution {
    pub(crate) weights: Vec<Mat>,
    /// Correlations, or what stands for them, greatest first; coordinates are weighted by a power of them.
    pub(crate) correlations: Vec<f64>,
}

impl Solution {
    /// How many coordinates are kept of at most `max`: none beyond those that correlate at all.
    pub(crate) fn kept(&self, max: usize) -> usize {
        self.correlations.iter().take(max).take_while(|c| **c > 1e-12).count()
    }

    /// The factors on the first `k` coordinates.
    pub(crate) fn factors(&self, k: usize, power: f64) -> Vec<f64> {
        self.correlations[..k].iter().map(|c| if power == 0.0 { 1.0 } else { c.powf(power) }).collect()
    }
}

/// A linear method with its hyper-parameters, as the search and the fit see it.
pub(crate) trait Linear: Sync {
    /// Name of the method.
    fn name(&self) -> &'static str;
    /// One configuration for each of `n_views` views.
    ///
    /// # Errors
    /// [`FitError::Config`], for this and every other field.
    fn views(&self, n_views: usize) -> Result<Vec<ViewConfig>, FitError>;
    /// Coordinates kept at most.
    fn max_components(&self) -> usize;
    /// Power of the correlation by which a coordinate is weighted.
    fn correlation_power(&self) -> f64;
    /// The method itself, in principal axes; `views` is what [`Linear::views`] gave.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    fn solve(&self, reduced: &Reduced, views: &[ViewConfig]) -> Result<Solution, FitError>;
    /// Hyper-parameters by name, for reports.
    fn parameters(&self) -> Vec<(String, String)>;
    /// Whether [`Solution::correlations`] tells anything.
    fn correlates(&self) -> bool {
        true
    }
}

/// Checks the fields that most methods have.
///
/// # Errors
/// [`FitError::Config`].
pub(crate) fn check(views: &[ViewConfig], max_components: usize, correlation_power: f64) -> Result<(), FitError> {
    views.iter().try_for_each(ViewConfig::check)?;
    if max_components == 0 {
        let expected = "at least one coordinate is kept";
        return Err(FitError::Config { name: "max_components", value: "0".to_owned(), expected });
    }
    if !(correlation_power >= 0.0 && correlation_power.is_finite()) {
        let expected = "the power is a finite number of at least 0";
        return Err(FitError::Config { name: "correlation_power", value: correlation_power.to_string(), expected });
    }
    Ok(())
}

/// The fields that most methods have, for reports.
pub(crate) fn parameters(views: &[ViewConfig], max_components: usize, correlation_power: f64) -> Vec<(String, String)> {
    let views = views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
    let rest = [("max_components", max_components.to_string()), ("correlation_power", correlation_power.to_string())];
    views.chain(rest.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// Fits a linear method on all pairs.
///
/// # Errors
/// Every variant of [`FitError`] but those of cross-validation.
pub(crate) fn fit(method: &dyn Linear, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
    let (reduced, solution) = solve(method, pairs, run)?;
    let about = About { n_pairs: pairs.n(), parameters: method.parameters(), ..About::default() };
    space(method, &reduced.bases, &solution, about)
}

/// The solution in f64 and the axes it is in; `pairs` were checked.
pub(crate) fn solve(method: &dyn Linear, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<(Reduced, Solution), FitError> {
    let views = method.views(pairs.views.len())?;
    let train: Vec<usize> = (0..pairs.n()).collect();
    run.progress.start("fitting", Some(pairs.views.len() as u64 + 1));
    let learn = |(v, config): (usize, &ViewConfig)| {
        let basis = Basis::learn(v, pairs.views[v], &train, config.preprocess, config.pca_dim, run)?;
        run.progress.advance(1);
        Ok(Arc::new(basis))
    };
    let bases: Vec<Arc<Basis>> = views.par_iter().enumerate().map(learn).collect::<Result<_, FitError>>()?;
    let coordinates: Vec<Mat> = bases.iter().zip(&pairs.views).map(|(basis, x)| basis.coordinates(*x, &train)).collect();
    run.cancel.check()?;
    let reduced = Reduced::new(bases, &coordinates, &train);
    let solution = method.solve(&reduced, &views)?;
    run.progress.finish();
    Ok((reduced, solution))
}

/// The space of a solution: preprocess, centre, one linear map, unit length.
///
/// # Errors
/// [`FitError::Unrelated`] when no coordinate correlates; [`FitError::Numeric`] when the weights overflow f32.
fn space(method: &dyn Linear, bases: &[Arc<Basis>], solution: &Solution, about: About) -> Result<PipelineSpace, FitError> {
    let k = solution.kept(method.max_components());
    if k == 0 {
        return Err(FitError::Unrelated { method: method.name() });
    }
    let weights = full_weights(method, bases, solution, k);
    let views = bases
        .iter()
        .zip(&weights)
        .map(|(basis, w)| {
            let linear = Step::Linear { weights: row_major(w), bias: Vec::new(), n_out: k };
            let mean = basis.mean.iter().map(|m| *m as f32).collect();
            let steps = basis.steps.iter().cloned().chain([Step::Center { mean }, linear, Step::Unit]).collect();
            View { input_dim: basis.mean.len(), steps }
        })
        .collect();
    let told = if method.correlates() { k } else { 0 };
    let correlations = solution.correlations[..told].iter().map(|c| *c as f32).collect();
    let about = About { method: method.name().to_owned(), correlations, ..about };
    PipelineSpace::new(Metric::Cosine, views, about).map_err(|_| FitError::Numeric { what: "turning the weights into f32" })
}

/// Weights on the columns of each view, `[d_v, k]`; signs are fixed by the first view.
pub(crate) fn full_weights(method: &dyn Linear, bases: &[Arc<Basis>], solution: &Solution, k: usize) -> Vec<Mat> {
    let factors = solution.factors(k, method.correlation_power());
    let full = |(basis, w): (&Arc<Basis>, &Mat)| {
        let mut full = product(basis.axes.subcols(0, w.nrows()), w.subcols(0, k));
        linalg::scale_cols(&mut full, &factors);
        full
    };
    let mut weights: Vec<Mat> = bases.iter().zip(&solution.weights).map(full).collect();
    fix_signs_of_all(&mut weights);
    weights
}

/// Turns coordinates so that the largest weight of the first view is positive.
fn fix_signs_of_all(weights: &mut [Mat]) {
    let [first, others @ ..] = weights else { return };
    let mut flips = Mat::from_fn(1, first.ncols(), |_, _| 1.0);
    linalg::fix_signs(first, Some(&mut flips));
    let flips: Vec<f64> = (0..flips.ncols()).map(|j| flips[(0, j)]).collect();
    others.iter_mut().for_each(|w| linalg::scale_cols(w, &flips));
}

/// Row-major f32.
fn row_major(a: &Mat) -> Vec<f32> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)] as f32)).collect()
}

/// Some rows of a matrix, in the order given.
pub(crate) fn pick_rows(a: &Mat, rows: &[usize]) -> Mat {
    Mat::from_fn(rows.len(), a.ncols(), |i, j| a[(rows[i], j)])
}

/// The first of each set of equal rows, and for each row which of these it equals. A picture stands once for each of its captions,
/// and need be worked out only once.
fn distinct(x: MatrixView<'_>, rows: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut first = Vec::new();
    let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
    let which = rows
        .iter()
        .map(|row| {
            let bits = x.row(*row).iter().map(|v| v.to_bits()).collect();
            *known.entry(bits).or_insert_with(|| {
                first.push(*row);
                first.len() - 1
            })
        })
        .collect();
    (first, which)
}

/// Rows less the mean, each times the root of its count, so that products of columns count it that many times.
fn centre(rows: &[f32], d: usize, mean: &[f64], counts: &[f64]) -> Mat {
    let roots: Vec<f64> = counts.iter().map(|c| c.sqrt()).collect();
    Mat::from_fn(rows.len() / d, d, |i, j| (f64::from(rows[i * d + j]) - mean[j]) * roots[i])
}

fn rank(values: &[f64], max: Option<usize>) -> usize {
    let floor = values.first().copied().unwrap_or(0.0).max(0.0) * RANK_TOLERANCE;
    values.iter().take(max.unwrap_or(usize::MAX)).take_while(|v| **v > floor).count()
}
