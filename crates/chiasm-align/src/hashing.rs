//! What the methods that give binary codes share. A bit is 1 where a coordinate is at least 0.

use chiasm_core::Labels;
use faer::MatRef;

use crate::fit::FitError;
use crate::linalg::{self, Mat, product};
use crate::preprocess::ViewConfig;
use crate::reduced::{self, Reduced, pick_rows};
use crate::supervised::{indicator, labelled};

/// Bits of a code at most.
const MAX_BITS: usize = 4096;
/// A pair of directions counts while its singular value is above this share of the greatest: what lies below is rounding, and a bit
/// made of it would be noise.
const RANK_TOLERANCE: f64 = 1e-8;

/// Checks the fields that most hashing methods have.
///
/// # Errors
/// [`FitError::Config`].
pub(crate) fn check(views: &[ViewConfig], bits: usize) -> Result<(), FitError> {
    if bits == 0 || bits > MAX_BITS {
        let expected = "a code has 1 to 4096 bits";
        return Err(FitError::Config { name: "bits", value: bits.to_string(), expected });
    }
    reduced::check(views, bits, 0.0)
}

/// # Errors
/// [`FitError::Config`] for a number that is not above 0, or not finite.
pub(crate) fn above_zero(name: &'static str, value: f64) -> Result<(), FitError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(FitError::Config { name, value: value.to_string(), expected: "a finite number above 0" })
}

/// The fields that most hashing methods have, for reports.
pub(crate) fn parameters(views: &[ViewConfig], bits: usize) -> Vec<(String, String)> {
    let views = views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
    views.chain([("bits".to_owned(), bits.to_string())]).collect()
}

/// +1 for a number of at least 0, else -1.
pub(crate) fn sign(x: f64) -> f64 {
    if x >= 0.0 { 1.0 } else { -1.0 }
}

/// The same of each number.
pub(crate) fn signs(a: MatRef<'_, f64>) -> Mat {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| sign(a[(i, j)]))
}

/// `1 / sqrt(x'x + ridge)` along each axis of a view.
pub(crate) fn whitening(reduced: &Reduced, views: &[ViewConfig]) -> Vec<Vec<f64>> {
    let of = |(v, config): (usize, &ViewConfig)| {
        let (scatter, ridge) = reduced.scatter(v, config);
        scatter.iter().map(|s| 1.0 / (s + ridge).sqrt()).collect()
    };
    views.iter().enumerate().map(of).collect()
}

/// Pairs of directions `w' C v` of greatest value against `X'X + ridge` and `Y'Y + ridge`, as many as `C` has rank: weights of each
/// view and the values.
///
/// # Errors
/// [`FitError::Numeric`].
pub(crate) fn pairs_of_directions(c: &Mat, whitening: &[Vec<f64>]) -> Result<(Vec<Mat>, Vec<f64>), FitError> {
    let mut t = c.clone();
    linalg::scale_rows(&mut t, &whitening[0]);
    linalg::scale_cols(&mut t, &whitening[1]);
    let (w, values, v) = linalg::thin_svd(t.as_ref())?;
    let floor = RANK_TOLERANCE * values.first().copied().unwrap_or(0.0);
    let rank = values.iter().take_while(|s| **s > floor).count();
    let unwhiten = |a: Mat, whitening: &[f64]| {
        let mut a = a.subcols(0, rank).to_owned();
        linalg::scale_rows(&mut a, whitening);
        a
    };
    Ok((vec![unwhiten(w, &whitening[0]), unwhiten(v, &whitening[1])], values[..rank].to_vec()))
}

/// `X' S Y` over the labelled rows, with `S = 2 L~ L~' - 11'` and `L~` the labels with rows of unit length: +1 for two rows of the same
/// classes, -1 for rows that share none. Never `[n, n]`.
pub(crate) fn class_cross(reduced: &Reduced, views: &[ViewConfig]) -> Mat {
    let [m0, m1] = [0, 1].map(|v| reduced.bases[v].ridge(&views[v]).0);
    let classes = reduced.classes();
    let (x, y) = (classes.unit_sums[0].subcols(0, m0), classes.unit_sums[1].subcols(0, m1));
    let together = product(x.transpose(), y);
    let sums = |v: usize| &classes.labelled_sums[v];
    Mat::from_fn(m0, m1, |i, j| 2.0 * together[(i, j)] - sums(0)[i] * sums(1)[j])
}

/// The rows of a view that have a class.
pub(crate) fn labelled_rows(reduced: &Reduced, views: &[ViewConfig], v: usize) -> Mat {
    pick_rows(&reduced.rows(v, &views[v]).to_owned(), &labelled(reduced.labels()))
}

/// Class indicators of the labelled rows, `[n_labelled, c]`.
pub(crate) fn labelled_indicator(labels: &Labels, unit: bool) -> Mat {
    pick_rows(&indicator(labels, unit), &labelled(labels))
}

/// Sets the codes of rows without a class to the signs of what `score(row, bit)` gives.
pub(crate) fn fill_unlabelled(codes: &mut Mat, labels: &Labels, score: impl Fn(usize, usize) -> f64) {
    for row in (0..labels.n()).filter(|row| labels.of(*row).is_empty()) {
        for k in 0..codes.ncols() {
            codes[(row, k)] = sign(score(row, k));
        }
    }
}

/// What each view's ridge adds to `X'X`; next to nothing where no ridge was asked for, so that systems can be solved.
pub(crate) fn ridges(reduced: &Reduced, views: &[ViewConfig]) -> Vec<f64> {
    let of = |(v, config): (usize, &ViewConfig)| {
        let (scatter, ridge) = reduced.scatter(v, config);
        ridge.max(1e-12 * scatter.first().copied().unwrap_or(0.0))
    };
    views.iter().enumerate().map(of).collect()
}

/// Ridge regressions on the same rows of targets that change.
pub(crate) struct Regression<'a> {
    x: &'a [Mat],
    grams: Vec<Mat>,
}

impl<'a> Regression<'a> {
    /// Of the rows of each view, with what is added to the diagonal of each `X'X`.
    pub(crate) fn new(x: &'a [Mat], ridges: &[f64]) -> Self {
        let gram = |(x, ridge): (&Mat, &f64)| {
            let mut gram = product(x.transpose(), x.as_ref());
            (0..gram.nrows()).for_each(|i| gram[(i, i)] += ridge);
            gram
        };
        Self { grams: x.iter().zip(ridges).map(gram).collect(), x }
    }

    /// `(X'X + r I)^{-1} X'T` for each view.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub(crate) fn solve(&self, targets: &Mat) -> Result<Vec<Mat>, FitError> {
        let of = |(gram, x): (&Mat, &Mat)| linalg::solve_positive(gram, &product(x.transpose(), targets.as_ref()));
        self.grams.iter().zip(self.x).map(of).collect()
    }
}
