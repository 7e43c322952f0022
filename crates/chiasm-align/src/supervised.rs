//! What methods that learn from classes share: the matrix of labels, regression to it, and scatters within and between classes.

use chiasm_core::Labels;
use faer::MatRef;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use crate::fit::FitError;
use crate::linalg::{self, Mat, product};
use crate::reduced::{ClassMoments, pick_rows};

/// 1 where a row is of a class, `[n, c]`; each row at unit length on demand. Rows of no class are 0.
pub(crate) fn indicator(labels: &Labels, unit: bool) -> Mat {
    let mut l = Mat::zeros(labels.n(), labels.n_classes());
    for row in 0..labels.n() {
        let of = labels.of(row);
        let value = if unit { 1.0 / (of.len() as f64).sqrt() } else { 1.0 };
        of.iter().for_each(|class| l[(row, *class as usize)] = value);
    }
    l
}

/// Rows that have a class, in order.
pub(crate) fn labelled(labels: &Labels) -> Vec<usize> {
    (0..labels.n()).filter(|row| !labels.of(*row).is_empty()).collect()
}

/// At most `max` rows that have a class, drawn by the seed, in order.
pub(crate) fn draw_labelled(labels: &Labels, max: usize, seed: u64) -> Vec<usize> {
    let known = labelled(labels);
    let drawn = sample(&mut ChaCha8Rng::seed_from_u64(seed), known.len(), known.len().min(max));
    let mut rows: Vec<usize> = drawn.into_iter().map(|place| known[place]).collect();
    rows.sort_unstable();
    rows
}

/// `x` less its column means, and these.
pub(crate) fn centred(mut x: Mat) -> (Mat, Vec<f64>) {
    let n = x.nrows() as f64;
    let means: Vec<f64> = (0..x.ncols()).map(|j| x.col(j).iter().sum::<f64>() / n).collect();
    for (j, mean) in means.iter().enumerate() {
        x.col_mut(j).iter_mut().for_each(|v| *v -= mean);
    }
    (x, means)
}

/// Weights `[m, c]` and offsets `[c]` of the ridge regression of targets on the rows of `x` that have a class:
/// `(X'X + r I)^{-1} X'T` with both centred.
///
/// # Errors
/// [`FitError::Numeric`] when the ridge is too small for `x`.
pub(crate) fn regress(x: MatRef<'_, f64>, targets: &Mat, labels: &Labels, ridge: f64) -> Result<(Mat, Vec<f64>), FitError> {
    let rows = labelled(labels);
    let (x, x_means) = centred(pick_rows(&x.to_owned(), &rows));
    let (targets, t_means) = centred(pick_rows(targets, &rows));
    let mut gram = product(x.transpose(), x.as_ref());
    (0..gram.nrows()).for_each(|i| gram[(i, i)] += ridge);
    let w = linalg::solve_positive(&gram, &product(x.transpose(), targets.as_ref()))?;
    let offset = |j: usize| t_means[j] - x_means.iter().zip(w.col(j).iter()).map(|(m, w)| m * w).sum::<f64>();
    let offsets = (0..w.ncols()).map(offset).collect();
    Ok((w, offsets))
}

/// Scatter of the rows about the mean of all labelled rows (`total`), and of the class means about it (`between`), of one view, both
/// `[m, m]`; within is the difference. A row of several classes counts in each.
pub(crate) struct Scatters {
    pub(crate) total: Mat,
    pub(crate) between: Mat,
    /// Class means less the mean, `[c, m]`; 0 for a class without rows.
    pub(crate) means: Mat,
}

/// The scatters of view `v`, whose rows are `x`.
pub(crate) fn scatters(x: MatRef<'_, f64>, labels: &Labels, classes: &ClassMoments, v: usize) -> Scatters {
    let (c, m) = (classes.counts.len(), x.ncols());
    let n: f64 = classes.counts.iter().sum();
    let sum = |j: usize| (0..c).map(|class| classes.sums[v][(class, j)]).sum::<f64>();
    let mean: Vec<f64> = (0..m).map(|j| sum(j) / n).collect();
    let centre = |class: usize, j: usize| {
        let count = classes.counts[class];
        if count > 0.0 { classes.sums[v][(class, j)] / count - mean[j] } else { 0.0 }
    };
    let means = Mat::from_fn(c, m, centre);
    let weighted = Mat::from_fn(c, m, |class, j| classes.counts[class].sqrt() * means[(class, j)]);
    // A row weighs as many times as it has classes.
    let weight: Vec<f64> = (0..labels.n()).map(|row| (labels.of(row).len() as f64).sqrt()).collect();
    let rows = Mat::from_fn(x.nrows(), m, |i, j| weight[i] * (x[(i, j)] - mean[j]));
    Scatters {
        total: product(rows.transpose(), rows.as_ref()),
        between: product(weighted.transpose(), weighted.as_ref()),
        means,
    }
}

/// Mean of the diagonal.
pub(crate) fn mean_diagonal(a: &Mat) -> f64 {
    (0..a.nrows()).map(|i| a[(i, i)]).sum::<f64>() / a.nrows().max(1) as f64
}
