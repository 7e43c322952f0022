//! One view turned to the axes in which methods work: its principal axes, its whitened axes, its columns, or the axes of a kernel.
//!
//! In its principal axes a view's covariance is diagonal, so the ridge of any strength is a diagonal too. They are learned from rows
//! ([`Basis::learn`]) or from sums of rows ([`Basis::of_moments`]).

use std::collections::HashMap;

use chiasm_core::MatrixView;
use faer::Accum;
use rayon::prelude::*;

use crate::fit::{FitError, Run};
use crate::kmeans;
use crate::linalg::{self, Mat, matmul, product};
use crate::moments::Moments;
use crate::pipeline::{Step, apply_rows};
use crate::preprocess::{Anchors, KernelConfig, KernelRole, ViewConfig};

/// Directions whose variance is below this share of the greatest are dropped: inputs are f32, with seven digits, so a
/// direction whose spread is 1e-5 of the greatest holds hardly more than their rounding.
const RANK_TOLERANCE: f64 = 1e-10;
/// Rows of a covariance taken at a time, so that memory is `O(d^2)` and not `O(n d)`.
const BLOCK_ROWS: usize = 2048;

/// The principal axes of one view, and all that leads to them.
pub(crate) struct Basis {
    /// Columns of the input.
    pub(crate) input_dim: usize,
    /// Preprocessing learned from the fitting rows, then the kernel, if any.
    pub(crate) steps: Vec<Step>,
    /// Mean of the preprocessed fitting rows, `[d]`; with a kernel `d` is the number of anchors from here on.
    pub(crate) mean: Vec<f64>,
    /// Orthonormal axes in columns, `[d, m]`, of greatest variance first.
    pub(crate) axes: Mat,
    /// Variance along each axis, divisor `n - 1`, `[m]`.
    pub(crate) variances: Vec<f64>,
    /// Sum of the variances of all columns, axes beyond `m` included.
    pub(crate) total_variance: f64,
    /// Whether these are the axes of a kernel's own space, where the ridge is absolute.
    geometry: bool,
    /// The fitting rows in these axes where they fell out on the way.
    fitted: Option<Mat>,
    /// With the ridge already in them, so that along each axis variance and ridge are 1 together: what was added to the variances.
    pub(crate) whitened: Option<f64>,
    /// Rows it was learned from.
    pub(crate) n_rows: usize,
}

/// Which axes a view is turned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axes {
    /// Principal axes, at most so many.
    Principal(Option<usize>),
    /// Its own columns: for methods that choose among columns.
    Columns,
}

impl Axes {
    fn max(self) -> Option<usize> {
        match self {
            Axes::Principal(max) => max,
            Axes::Columns => None,
        }
    }
}

/// The comparison with anchors as a step, and for [`KernelRole::Geometry`] what carries similarities to rows whose inner product
/// is the kernel: `U Lambda^{-1/2}` of the anchors' kernel matrix, `[m, r]`.
/// It is not needed where every row is an anchor and counts once: then the kernel itself is turned to its axes ([`kernel_axes`]).
pub(crate) fn anchor(
    config: &KernelConfig,
    rows: &[f32],
    dim: usize,
    each_once: bool,
    run: &Run<'_>,
) -> Result<(Step, Option<Mat>), FitError> {
    let view = MatrixView::new(rows, dim).map_err(|_| FitError::Numeric { what: "preprocessing" })?;
    let n_anchors = if view.n() <= config.max_exact_rows { view.n() } else { view.n().min(config.max_anchors) };
    let anchors = if n_anchors == view.n() {
        rows.to_vec()
    } else {
        match config.anchors {
            Anchors::Random => kmeans::draw(view, n_anchors, run.seed),
            Anchors::KMeans => kmeans::centres(view, n_anchors, run)?,
        }
    };
    // Rounded first, so that fitting and projecting see the same width.
    let gamma = config.gamma.unwrap_or_else(|| config.sharpness * config.kernel.gamma(view, run.seed)) as f32;
    if !(gamma > 0.0 && gamma.is_finite()) {
        return Err(FitError::Numeric { what: "finding the width of a kernel" });
    }
    let step = Step::Kernel { kernel: config.kernel, gamma, anchors: anchors.clone(), n_anchors };
    if config.role == KernelRole::Columns || (n_anchors == view.n() && each_once) {
        return Ok((step, None));
    }
    run.cancel.check()?;
    let (values, vectors) = linalg::eigen(columns_of(std::slice::from_ref(&step), &anchors, dim).as_ref())?;
    let kept = rank(&values, None);
    let mut lift = vectors.subcols(0, kept).to_owned();
    linalg::scale_cols(&mut lift, &values[..kept].iter().map(|v| 1.0 / v.sqrt()).collect::<Vec<_>>());
    Ok((step, Some(lift)))
}

/// The principal axes of the space whose inner product an exact kernel `k`, `[n, n]`, is: `U Lambda^{-1/2}` of the centred kernel, and
/// `Lambda / (n - 1)`. The axes' columns sum to zero, so a new row needs only the kernel's column means taken off.
fn kernel_axes(k: Mat, means: &[f64], divisor: f64, max: Option<usize>) -> Result<(Mat, Vec<f64>), FitError> {
    let n = k.nrows();
    let all = means.iter().sum::<f64>() / n as f64;
    let mut centred = k;
    for j in 0..n {
        centred.col_mut(j).iter_mut().zip(means).for_each(|(x, mean)| *x += all - mean - means[j]);
    }
    let (values, vectors) = linalg::eigen(centred.as_ref())?;
    let kept = rank(&values, max);
    let mut axes = vectors.subcols(0, kept).to_owned();
    linalg::scale_cols(&mut axes, &values[..kept].iter().map(|v| 1.0 / v.sqrt()).collect::<Vec<_>>());
    Ok((axes, values[..kept].iter().map(|v| v / divisor).collect()))
}

/// Rows through steps, in f64 where the last step is a kernel.
pub(crate) fn columns_of(steps: &[Step], rows: &[f32], dim: usize) -> Mat {
    if let Some((Step::Kernel { kernel, gamma, anchors, .. }, before)) = steps.split_last() {
        let rows = apply_rows(before, rows.to_vec(), dim);
        return kernel.matrix(f64::from(*gamma), &rows, anchors, dim);
    }
    let rows = apply_rows(steps, rows.to_vec(), dim);
    Mat::from_fn(rows.len() / dim, dim, |i, j| f64::from(rows[i * dim + j]))
}

fn mean_of(columns: &Mat, counts: &[f64]) -> Vec<f64> {
    let n: f64 = counts.iter().sum();
    (0..columns.ncols()).map(|j| columns.col(j).iter().zip(counts).map(|(v, c)| v * c).sum::<f64>() / n).collect()
}

impl Basis {
    /// Learns the axes, at most `max_axes` of them, from the rows `train` of `x`. With [`Axes::Columns`] the axes are the columns.
    ///
    /// # Errors
    /// [`FitError::Constant`] when these rows do not vary; [`FitError::Numeric`].
    pub(crate) fn learn(
        view: usize,
        x: MatrixView<'_>,
        train: &[usize],
        config: &ViewConfig,
        axes: Axes,
        run: &Run<'_>,
    ) -> Result<Self, FitError> {
        let input_dim = x.dim();
        let (first, which) = distinct(x, train);
        let mut steps = config.preprocess.steps(x, train)?;
        let rows: Vec<f32> = first.iter().flat_map(|i| x.row(*i)).copied().collect();
        let rows = apply_rows(&steps, rows, input_dim);
        let mut counts = vec![0.0f64; first.len()];
        which.iter().for_each(|w| counts[*w] += 1.0);
        let geometry = config.kernel.is_some_and(|k| k.role == KernelRole::Geometry);
        let each_once = counts.iter().all(|c| *c == 1.0);
        let lift = match &config.kernel {
            None => None,
            Some(kernel) => {
                let (step, lift) = anchor(kernel, &rows, input_dim, each_once, run)?;
                steps.push(step);
                lift
            }
        };
        // A block of rows as the columns that are to be centred, [b, d].
        let after = if config.kernel.is_some() { steps.len() - 1 } else { steps.len() };
        let columns = |block: &[f32]| -> Mat {
            let columns = columns_of(&steps[after..], block, input_dim);
            match &lift {
                Some(lift) => product(columns.as_ref(), lift.as_ref()),
                None => columns,
            }
        };
        let blocks = || rows.chunks(BLOCK_ROWS * input_dim).zip(counts.chunks(BLOCK_ROWS));
        let mut mean: Vec<f64> = Vec::new();
        for (block, counts) in blocks() {
            run.cancel.check()?;
            let columns = columns(block);
            mean.resize(columns.ncols(), 0.0);
            for (j, m) in mean.iter_mut().enumerate() {
                *m += columns.col(j).iter().zip(counts).map(|(v, c)| v * c).sum::<f64>();
            }
        }
        let (n, d) = (train.len(), mean.len());
        mean.iter_mut().for_each(|m| *m /= n as f64);
        run.cancel.check()?;
        let (divisor, n) = ((n - 1) as f64, first.len());
        let exact = matches!(steps.last(), Some(Step::Kernel { n_anchors, .. }) if lift.is_none() && *n_anchors == n);
        if geometry && exact {
            let (axes, variances) = kernel_axes(columns(&rows), &mean, divisor, axes.max())?;
            let total_variance = variances.iter().sum();
            // K U / sqrt(lambda) = U sqrt(lambda), and the axes are U / sqrt(lambda).
            let mut own = axes.clone();
            linalg::scale_cols(&mut own, &variances.iter().map(|v| v * divisor).collect::<Vec<_>>());
            if variances.is_empty() {
                return Err(FitError::Constant { view, preprocess: config.words_after() });
            }
            let (fitted, whitened, n_rows) = (Some(own), None, train.len());
            return Ok(Self { input_dim, steps, mean, axes, variances, total_variance, geometry, fitted, whitened, n_rows });
        }
        let (values, vectors, total_variance) = if n <= d && axes != Axes::Columns {
            // The rows span at most n - 1 directions: work with their inner products, [n, n].
            let centred = centre(columns(&rows), &mean, &counts);
            let gram = product(centred.as_ref(), centred.transpose());
            let (values, vectors) = linalg::eigen(gram.as_ref())?;
            let total = (0..n).map(|i| gram[(i, i)]).sum::<f64>() / divisor;
            let values: Vec<f64> = values.into_iter().map(|v| v / divisor).collect();
            let kept = rank(&values, axes.max());
            let mut axes = product(centred.transpose(), vectors.subcols(0, kept));
            let lengths: Vec<f64> = values[..kept].iter().map(|v| 1.0 / (v * divisor).sqrt()).collect();
            linalg::scale_cols(&mut axes, &lengths);
            (values, axes, total)
        } else {
            let mut covariance = Mat::zeros(d, d);
            // The blocks are added in order, so that the sum is the same on any machine.
            for (block, counts) in blocks() {
                run.cancel.check()?;
                let centred = centre(columns(block), &mean, counts);
                covariance += product(centred.transpose(), centred.as_ref());
            }
            linalg::scale_rows(&mut covariance, &vec![1.0 / divisor; d]);
            let total = (0..d).map(|i| covariance[(i, i)]).sum();
            if axes == Axes::Columns {
                ((0..d).map(|i| covariance[(i, i)]).collect(), Mat::identity(d, d), total)
            } else {
                let (values, vectors) = linalg::eigen(covariance.as_ref())?;
                let kept = rank(&values, axes.max());
                (values, vectors.subcols(0, kept).to_owned(), total)
            }
        };
        run.cancel.check()?;
        let kept = vectors.ncols();
        check_varies(view, &mean, if kept == 0 { 0.0 } else { total_variance }, config)?;
        let variances = values[..kept].to_vec();
        let (axes, mean) = match &lift {
            None => (vectors, mean),
            // x -> (k(x) L - mean) V = (k(x) - k_mean) L V, where k_mean is the mean of k(x).
            Some(lift) => {
                (product(lift.as_ref(), vectors.as_ref()), mean_of(&columns_of(&steps[after..], &rows, input_dim), &counts))
            }
        };
        Ok(Self {
            input_dim,
            steps,
            mean,
            axes,
            variances,
            total_variance,
            geometry,
            fitted: None,
            whitened: None,
            n_rows: train.len(),
        })
    }

    /// The axes of a view from sums. With `whiten`, axes in which covariance and ridge together are the identity are preferred where they
    /// are sound: a Cholesky decomposition costs a tenth of what an eigen-decomposition does. For a kernel also the axes of the rows that
    /// the sums are of.
    ///
    /// # Errors
    /// [`FitError::Constant`], [`FitError::Numeric`].
    pub(crate) fn of_moments(
        moments: &Moments,
        v: usize,
        config: &ViewConfig,
        whiten: bool,
    ) -> Result<(Self, Option<Mat>), FitError> {
        let view = &moments.views[v];
        let (d, n_rows, divisor) = (view.mean.len(), moments.n(), moments.n() as f64 - 1.0);
        let mut covariance = moments.scatter[v][v].clone();
        linalg::scale_rows(&mut covariance, &vec![1.0 / divisor; d]);
        let total_variance: f64 = (0..d).map(|i| covariance[(i, i)]).sum();
        check_varies(v, &view.mean, total_variance, config)?;
        let geometry = view.lift.is_some();
        let ready = |axes: Mat, variances: Vec<f64>, whitened: Option<f64>| {
            let (axes, inside, mean) = match &view.lift {
                None => (axes, None, view.mean.clone()),
                // x -> (k(x) L - mean) V = (k(x) - k_mean) L V, where k_mean is the mean of k(x).
                Some(lift) => {
                    let mean = lift.sum.iter().map(|sum| sum / n_rows as f64).collect();
                    (product(lift.matrix.as_ref(), axes.as_ref()), Some(axes), mean)
                }
            };
            let (input_dim, steps) = (view.input_dim, view.steps.clone());
            let basis =
                Self { input_dim, steps, mean, axes, variances, total_variance, geometry, fitted: None, whitened, n_rows };
            (basis, inside)
        };
        // K + r n I in the kernel's terms is a ridge of r n / (n - 1) on the variances.
        let ridge = if geometry { config.ridge * n_rows as f64 / divisor } else { config.ridge * total_variance / d as f64 };
        if whiten
            && config.pca_dim.is_none()
            && let Some(axes) = linalg::inverse_root(&covariance, ridge)?
        {
            return Ok(ready(axes, vec![1.0; d], Some(ridge)));
        }
        let (values, vectors) = linalg::eigen(covariance.as_ref())?;
        let kept = rank(&values, config.pca_dim);
        Ok(ready(vectors.subcols(0, kept).to_owned(), values[..kept].to_vec(), None))
    }

    /// The rows it was learned from in these axes, `[train.len(), m]`.
    pub(crate) fn of_training(&self, x: MatrixView<'_>, train: &[usize]) -> Mat {
        self.fitted.clone().unwrap_or_else(|| self.coordinates(x, train))
    }

    /// The rows `picked` of `x` in these axes, `[picked.len(), m]`.
    pub(crate) fn coordinates(&self, x: MatrixView<'_>, picked: &[usize]) -> Mat {
        let d = x.dim();
        let (first, which) = distinct(x, picked);
        let blocks: Vec<Mat> = first
            .par_chunks(BLOCK_ROWS)
            .map(|block| {
                let rows: Vec<f32> = block.iter().flat_map(|i| x.row(*i)).copied().collect();
                let centred = centre(columns_of(&self.steps, &rows, d), &self.mean, &vec![1.0; block.len()]);
                let mut out = Mat::zeros(centred.nrows(), self.axes.ncols());
                matmul(out.as_mut(), Accum::Replace, centred.as_ref(), self.axes.as_ref());
                out
            })
            .collect();
        Mat::from_fn(picked.len(), self.axes.ncols(), |i, j| blocks[which[i] / BLOCK_ROWS][(which[i] % BLOCK_ROWS, j)])
    }

    /// How many axes a configuration uses, and what its ridge adds to the variance along each.
    pub(crate) fn ridge(&self, config: &ViewConfig) -> (usize, f64) {
        let all = self.variances.len();
        if self.whitened.is_some() {
            return (all, 0.0);
        }
        if self.geometry {
            // K + r n I in the kernel's terms is a ridge of r n / (n - 1) on the variances.
            let n = self.n_rows as f64;
            return (config.pca_dim.map_or(all, |m| m.min(all)), config.ridge * n / (n - 1.0));
        }
        let mean_variance = match config.pca_dim {
            Some(m) if m <= all => self.variances[..m].iter().sum::<f64>() / m as f64,
            Some(m) => self.variances.iter().sum::<f64>() / m.min(self.mean.len()) as f64,
            None => self.total_variance / self.mean.len() as f64,
        };
        (config.pca_dim.map_or(all, |m| m.min(all)), config.ridge * mean_variance)
    }
}

/// # Errors
/// [`FitError::Constant`] when what varies is no more than rounding: equal rows leave only that of their mean, far below what one digit of
/// one f32 would make.
fn check_varies(view: usize, mean: &[f64], total_variance: f64, config: &ViewConfig) -> Result<(), FitError> {
    let level: f64 = mean.iter().map(|m| m * m).sum();
    if total_variance <= (1e-24 * level).max(f64::MIN_POSITIVE) {
        return Err(FitError::Constant { view, preprocess: config.words_after() });
    }
    Ok(())
}

/// The first of each set of equal rows, and for each row which of these it equals. A picture stands once for each of its captions,
/// and need be worked out only once.
pub(crate) fn distinct(x: MatrixView<'_>, rows: &[usize]) -> (Vec<usize>, Vec<usize>) {
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
fn centre(mut rows: Mat, mean: &[f64], counts: &[f64]) -> Mat {
    let roots: Vec<f64> = counts.iter().map(|c| c.sqrt()).collect();
    for (j, m) in mean.iter().enumerate() {
        rows.col_mut(j).iter_mut().zip(&roots).for_each(|(x, r)| *x = (*x - m) * r);
    }
    rows
}

fn rank(values: &[f64], max: Option<usize>) -> usize {
    let floor = values.first().copied().unwrap_or(0.0).max(0.0) * RANK_TOLERANCE;
    values.iter().take(max.unwrap_or(usize::MAX)).take_while(|v| **v > floor).count()
}
