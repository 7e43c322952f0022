//! What is done to the rows of a view before a method sees them. A centring always follows, so it is not listed here.

use chiasm_core::MatrixView;

use crate::fit::FitError;
use crate::kernel::Kernel;
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

/// How rows are compared with anchors before a method sees them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelConfig {
    /// Which kernel.
    pub kernel: Kernel,
    /// Its width; from the median distance of the fitting rows when absent, see [`Kernel`].
    pub gamma: Option<f64>,
    /// What a width found from the rows is multiplied by; above 0. More than 1 sees smaller differences.
    pub sharpness: f64,
    /// With at most so many fitting rows every row is an anchor, and the kernel is exact; with more it is approximated through
    /// `max_anchors` of them (Nystroem).
    pub max_exact_rows: usize,
    /// Rows that others are compared with when there are more than `max_exact_rows`.
    pub max_anchors: usize,
    /// Which rows become anchors when there are too many.
    pub anchors: Anchors,
    /// What the method sees.
    pub role: KernelRole,
}

/// Which rows become anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchors {
    /// Drawn at random.
    Random,
    /// The centres of k-means.
    KMeans,
}

/// What a method sees of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelRole {
    /// Rows of the space whose inner product the kernel is: what kernel CCA works on.
    Geometry,
    /// The similarities to the anchors as plain columns: what kernel logistic regression works on.
    Columns,
}

impl KernelConfig {
    fn check(&self) -> Result<(), FitError> {
        if self.max_anchors == 0 {
            let expected = "at least one anchor is needed";
            return Err(FitError::Config { name: "max_anchors", value: "0".to_owned(), expected });
        }
        if !(self.sharpness > 0.0 && self.sharpness.is_finite()) {
            let expected = "the factor on a kernel's width is a finite number above 0";
            return Err(FitError::Config { name: "sharpness", value: self.sharpness.to_string(), expected });
        }
        match self.gamma {
            Some(gamma) if !(gamma > 0.0 && gamma.is_finite()) => {
                let expected = "the width of a kernel is a finite number above 0";
                Err(FitError::Config { name: "gamma", value: gamma.to_string(), expected })
            }
            _ => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let by_median = || if self.sharpness == 1.0 { "by median".to_owned() } else { format!("{} by median", self.sharpness) };
        let gamma = self.gamma.map_or_else(by_median, |g| g.to_string());
        let anchors = match self.anchors {
            Anchors::Random => "random",
            Anchors::KMeans => "k-means",
        };
        let role = match self.role {
            KernelRole::Geometry => "kernel",
            KernelRole::Columns => "similarities by kernel",
        };
        let (kernel, exact) = (self.kernel.as_str(), self.max_exact_rows);
        format!("{role} {kernel}, gamma {gamma}, {} {anchors} anchors above {exact} rows", self.max_anchors)
    }
}

/// How one view enters a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewConfig {
    /// Done to each row first; centring follows.
    pub preprocess: Preprocess,
    /// Compare each row with anchors, and go on with what that gives.
    pub kernel: Option<KernelConfig>,
    /// Principal components kept at most; all of them when absent. Directions in which the fitting rows do not vary are dropped
    /// in any case.
    pub pca_dim: Option<usize>,
    /// Ridge relative to the view's mean variance (a kernel's: to 1/n, so that `K + r n I` is what stands regularised): `r * trace(C) / d` is added to the diagonal of its covariance `C`, `d` being
    /// the number of columns, or of principal components when `pca_dim` is given. At least 0; 0 is the classical method.
    pub ridge: f64,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self { preprocess: Preprocess::None, kernel: None, pca_dim: None, ridge: 0.0 }
    }
}

impl ViewConfig {
    /// # Errors
    /// [`FitError::Config`].
    pub(crate) fn check(&self) -> Result<(), FitError> {
        if let Some(kernel) = &self.kernel {
            kernel.check()?;
        }
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
        format!("{}, pca {pca}, ridge {}", self.entry(), self.ridge)
    }

    /// The words after "every row is the same".
    pub(crate) fn words_after(&self) -> String {
        if self.preprocess == Preprocess::None && self.kernel.is_none() { String::new() } else { self.entry() }
    }

    /// What happens to a row before its principal axes are looked for.
    pub(crate) fn entry(&self) -> String {
        let kernel = self.kernel.map_or(String::new(), |k| format!(", {}", k.describe()));
        format!("{}{kernel}", self.preprocess.describe())
    }
}
