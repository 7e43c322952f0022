//! What is done to the rows of a view before a method sees them. A centring always follows, so it is not listed here.

use chiasm_core::MatrixView;

use crate::fit::FitError;
use crate::pipeline::Step;

/// What is done to each row of a view first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preprocess {
    /// Nothing.
    None,
    /// Scale to unit length: for embeddings that were trained for the cosine.
    Unit,
    /// `sign(x) |x|^p`, `p` in 0..=1 but not 0. The square root serves histograms and pooled activations, whose large values would
    /// otherwise speak alone.
    Power(f32),
    /// `ln(1 + count)` times the inverse document frequency learned from the fitting rows, then unit length: for counts of words
    /// or n-grams. `idf = ln((1 + n) / (1 + n_rows_with_it)) + 1`.
    LogIdf,
}

impl Preprocess {
    /// The word in reports.
    pub fn describe(self) -> String {
        match self {
            Preprocess::None => "none".to_owned(),
            Preprocess::Unit => "unit".to_owned(),
            Preprocess::Power(p) => format!("power {p}"),
            Preprocess::LogIdf => "log-idf".to_owned(),
        }
    }

    /// The words after "every row is the same".
    pub(crate) fn words_after(self) -> String {
        if self == Preprocess::None { String::new() } else { self.describe() }
    }

    /// The choices worth trying on these rows, best guess first.
    ///
    /// Counts (whole numbers, most of them 0) ask for [`Preprocess::LogIdf`]; rows of unit length were trained for the cosine and
    /// stay as they are; numbers that are never negative (histograms, pooled activations after a ReLU) may gain by a square
    /// root.
    pub fn choices(x: MatrixView<'_>) -> Vec<Preprocess> {
        let all = |f: fn(f32) -> bool| x.data().iter().all(|v| f(*v));
        let n_zero = x.data().iter().filter(|v| **v == 0.0).count();
        if all(|v| v >= 0.0 && v.fract() == 0.0) && 2 * n_zero > x.data().len() {
            return vec![Preprocess::LogIdf];
        }
        let norms = x.rows().map(|row| row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>());
        if norms.into_iter().all(|n| (n - 1.0).abs() < 1e-3) {
            return vec![Preprocess::None];
        }
        if all(|v| v >= 0.0) {
            return vec![Preprocess::Power(0.5), Preprocess::None];
        }
        vec![Preprocess::None]
    }

    /// Its steps, learned from the fitting rows `rows` of `x`.
    ///
    /// # Errors
    /// [`FitError::Config`] for an exponent out of range.
    pub(crate) fn steps(self, x: MatrixView<'_>, rows: &[usize]) -> Result<Vec<Step>, FitError> {
        Ok(match self {
            Preprocess::None => Vec::new(),
            Preprocess::Unit => vec![Step::Unit],
            Preprocess::Power(p) if p > 0.0 && p <= 1.0 => vec![Step::Power { p }],
            Preprocess::Power(p) => {
                let expected = "the exponent of a power must be above 0 and at most 1";
                return Err(FitError::Config { name: "preprocess", value: p.to_string(), expected });
            }
            Preprocess::LogIdf => vec![Step::LogIdf { idf: idf(x, rows) }, Step::Unit],
        })
    }
}

fn idf(x: MatrixView<'_>, rows: &[usize]) -> Vec<f32> {
    let mut n_with = vec![0u32; x.dim()];
    for row in rows {
        n_with.iter_mut().zip(x.row(*row)).for_each(|(n, v)| *n += u32::from(*v != 0.0));
    }
    let n = rows.len() as f64;
    n_with.iter().map(|with| (((1.0 + n) / (1.0 + f64::from(*with))).ln() + 1.0) as f32).collect()
}

/// How one view enters a linear method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewConfig {
    /// Done to each row first; centring follows.
    pub preprocess: Preprocess,
    /// Principal components kept at most; all of them when absent. Directions in which the fitting rows do not vary are dropped
    /// in any case.
    pub pca_dim: Option<usize>,
    /// Ridge relative to the view's mean variance: `r * trace(C) / d` is added to the diagonal of its covariance `C`, `d` being
    /// the number of columns, or of principal components when `pca_dim` is given. At least 0; 0 is the classical method.
    pub ridge: f64,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self { preprocess: Preprocess::None, pca_dim: None, ridge: 0.0 }
    }
}

impl ViewConfig {
    /// # Errors
    /// [`FitError::Config`].
    pub(crate) fn check(&self) -> Result<(), FitError> {
        if !(self.ridge >= 0.0 && self.ridge.is_finite()) {
            let expected = "a ridge is a finite number of at least 0";
            return Err(FitError::Config { name: "ridge", value: self.ridge.to_string(), expected });
        }
        if self.pca_dim == Some(0) {
            return Err(FitError::Config {
                name: "pca_dim",
                value: "0".to_owned(),
                expected: "at least one component is kept",
            });
        }
        Ok(())
    }

    pub(crate) fn describe(&self) -> String {
        let pca = self.pca_dim.map_or("all".to_owned(), |d| d.to_string());
        format!("{}, pca {pca}, ridge {}", self.preprocess.describe(), self.ridge)
    }
}
