//! Semantics-preserving hashing: codes whose closeness follows the classes as one probability distribution follows another, and kernel
//! logistic regressions that carry each view to them.
//!
//! # Reference
//! Z. Lin, G. Ding, M. Hu, J. Wang, Semantics-Preserving Hashing for Cross-View Retrieval, CVPR 2015, eq. 1-9. Objective and gradient checked
//! against torch's autograd, the regression against scipy (`reference/align_hashing_goldens.py`). Differs from the paper in: rows without a class
//! take no part in learning codes; the kernel's width is found from the median, and made sharper by a factor.
//!
//! # Model
//! 1. H minimises KL(P || Q) + alpha/(n r) | |H| - 1 |^2, P_ij = A_ij / sum A with A = L~ L~' less its diagonal, Q_ij proportional to
//!    (1 + |h_i - h_j|^2 / 4)^-1; the codes of the pairs are sign(H).
//! 2. For each view and bit, w minimises sum_i ln(1 + exp(-b_i f_i)) + lambda |w|^2, f = k(x)' w + w_0; a query's bit is 1 where f is at least 0.
//! 3. A pair's bit from both views is 1 where p(1|x) p(1|y) / p(1) is at least the same of 0.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | k(x) | similarities to at most 500 anchors, [`crate::ViewConfig::kernel`] | `[n, 500]` | - |
//! | L~ | `pairs.labels`, rows of unit length | `[n, c]` | - |
//! | H | real codes | `[n, r]` | - |
//! | alpha, lambda | [`SephConfig::alpha`], [`SephConfig::lambda`] | - | at least 0, above 0 |
//! | r | [`SephConfig::bits`](field@SephConfig::bits) | - | 1..=4096 |
//!
//! Which codes stand for the pairs when they are searched decides the figures ([`DatabaseCodes`]): those learned in step 1 know the classes of
//! the pairs, those of step 3 can be made for any pair and are what the published figures are about.
//!
//! # Cost
//! O(t n^2 r) time for the t steps of part 1, O(n r) memory beside the rows; part 2 is O(t r n m) for m anchors.
//!
//! # Determinism
//! H begins normal, drawn by the seed, which also draws the anchors.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`], also when no two rows share a class.
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run, SephConfig};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([0.0, 0.1, 1.0, 1.1], [7.0, 7.1, 5.0, 5.1]);
//! let labels = Labels::single(&[0, 0, 1, 1]);
//! let pairs = Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::Seph(SephConfig { bits: 8, ..SephConfig::default() }).fit(&pairs, &run)?;
//! let (a, b) = (space.project(0, MatrixView::new(&[0.9], 1)?)?, space.project(1, MatrixView::new(&[5.2], 1)?)?);
//! assert_eq!(a, b);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use faer::{Accum, MatRef};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::fit::{FitError, Run};
use crate::hashing::{self, labelled_indicator, labelled_rows, sign, signs};
use crate::kernel::Kernel;
use crate::lbfgs::{Lbfgs, minimise};
use crate::linalg::{Mat, matmul, product};
use crate::method::MethodConfig;
use crate::preprocess::{Anchors, KernelConfig, KernelRole, Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::labelled;

/// Rows of the pairwise distances taken at a time.
const TILE: usize = 128;

/// A regression need not be known to the last digit for its sign.
const UNTIL: Lbfgs = Lbfgs { max_steps: 200, gradient_tolerance: 1e-3, value_tolerance: 1e-6, memory: 10 };

/// Which codes stand for the pairs of the fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseCodes {
    /// Those learned from the classes.
    Learned,
    /// Those that both views together give.
    Posterior,
}

/// How semantics-preserving hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct SephConfig {
    /// Preprocessing and kernel of each view; without a kernel the regression is linear.
    pub views: [ViewConfig; 2],
    /// How strongly the entries of H are drawn to -1 and 1; at least 0.
    pub alpha: f64,
    /// Penalty on the weights of the regression; above 0.
    pub lambda: f64,
    /// Which codes stand for the pairs of the fit.
    pub database: DatabaseCodes,
    /// Bits of a code.
    pub bits: usize,
}

impl Default for SephConfig {
    /// The paper's weights; 500 centres of k-means, Gaussians four times as sharp as the median says.
    fn default() -> Self {
        let kernel = KernelConfig {
            kernel: Kernel::Rbf,
            gamma: None,
            sharpness: 4.0,
            max_exact_rows: 500,
            max_anchors: 500,
            anchors: Anchors::KMeans,
            role: KernelRole::Columns,
        };
        Self {
            views: [ViewConfig { kernel: Some(kernel), ..ViewConfig::default() }; 2],
            alpha: 0.01,
            lambda: 0.01,
            database: DatabaseCodes::Posterior,
            bits: 64,
        }
    }
}

impl Linear for SephConfig {
    fn name(&self) -> &'static str {
        "seph"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        reduced::at_least_zero("alpha", self.alpha)?;
        hashing::above_zero("lambda", self.lambda)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let labels = reduced.labels();
        let unit = labelled_indicator(labels, true);
        let affinity = Affinity::new(&unit).ok_or(FitError::NoLabels { method: "seph", got: "no two rows share one" })?;
        let learned = signs(affinity.codes(self.alpha, self.bits, run)?.as_ref());
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for v in 0..2 {
            let (w, b) = logistic(&labelled_rows(reduced, views, v), &learned, self.lambda, UNTIL, run)?;
            weights.push(w);
            offsets.push(b);
        }
        let priors: Vec<f64> = (0..self.bits).map(|k| logit_of_share(learned.col(k).iter().copied())).collect();
        let scores: Vec<Mat> = (0..2).map(|v| product(reduced.rows(v, &views[v]), weights[v].as_ref())).collect();
        let both = |i: usize, k: usize| sign(scores[0][(i, k)] + offsets[0][k] + scores[1][(i, k)] + offsets[1][k] - priors[k]);
        let mut codes = Mat::from_fn(reduced.n(), self.bits, both);
        if self.database == DatabaseCodes::Learned {
            for (place, row) in labelled(labels).into_iter().enumerate() {
                codes.row_mut(row).copy_from(learned.row(place));
            }
        }
        Ok(Solution::bits(weights, offsets, Some(codes)))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let database = match self.database {
            DatabaseCodes::Learned => "learned",
            DatabaseCodes::Posterior => "posterior",
        };
        let mut all = hashing::parameters(&self.views, self.bits);
        all.push(("alpha".to_owned(), self.alpha.to_string()));
        all.push(("lambda".to_owned(), self.lambda.to_string()));
        all.push(("codes of the pairs".to_owned(), database.to_owned()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let entry = |v: usize| reduced::each(self, &entries[v], |c, entry| c.views[v].preprocess = entry);
        let mut lists = vec![entry(0), entry(1)];
        for v in 0..2 {
            let sharpness = |c: &mut Self, s| {
                if let Some(kernel) = &mut c.views[v].kernel {
                    kernel.sharpness = s;
                }
            };
            lists.push(reduced::each(self, &[1.0, 2.0, 4.0, 8.0], sharpness));
        }
        lists.push(reduced::each(self, &[0.01, 0.1, 1.0], |c, lambda| c.lambda = lambda));
        reduced::listed(lists, MethodConfig::Seph)
    }
}

/// `ln(p / (1 - p))` of the share `p` of ones among bits; 0 where all are the same.
fn logit_of_share(bits: impl Iterator<Item = f64>) -> f64 {
    let (mut ones, mut zeros) = (0.0f64, 0.0f64);
    bits.for_each(|b| if b > 0.0 { ones += 1.0 } else { zeros += 1.0 });
    if ones == 0.0 || zeros == 0.0 { 0.0 } else { (ones / zeros).ln() }
}

/// The distribution P over pairs of rows, worked out where it is needed, so that memory stays linear in the rows.
pub(crate) struct Affinity<'a> {
    /// Labels with rows of unit length, `[n, c]`.
    unit: &'a Mat,
    /// Sum of A.
    total: f64,
}

impl<'a> Affinity<'a> {
    /// None when no two rows share a class.
    pub(crate) fn new(unit: &'a Mat) -> Option<Self> {
        let n = unit.nrows();
        let sums: f64 = (0..unit.ncols()).map(|j| unit.col(j).iter().sum::<f64>().powi(2)).sum();
        let total = sums - n as f64;
        (total > 1e-9 * n as f64).then_some(Self { unit, total })
    }

    /// Real codes `[n, r]` that minimise the objective.
    ///
    /// # Errors
    /// [`FitError::Cancelled`], [`FitError::Numeric`].
    fn codes(&self, alpha: f64, r: usize, run: &Run<'_>) -> Result<Mat, FitError> {
        let n = self.unit.nrows();
        let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
        let mut normal = || {
            let (radius, angle): (f64, f64) = (rng.random_range(0.0..1.0), rng.random_range(0.0..std::f64::consts::TAU));
            (-2.0 * (1.0 - radius).ln()).sqrt() * angle.cos()
        };
        let start: Vec<f64> = (0..n * r).map(|_| normal()).collect();
        let config = Lbfgs { max_steps: 200, gradient_tolerance: 1e-9, value_tolerance: 1e-6, ..Lbfgs::default() };
        let objective = |h: &[f64], gradient: &mut [f64]| {
            let (value, at) = self.objective(MatRef::from_column_major_slice(h, n, r), alpha);
            for k in 0..r {
                gradient[k * n..(k + 1) * n].iter_mut().zip(at.col(k).iter()).for_each(|(g, x)| *g = *x);
            }
            value
        };
        let end = minimise(start, objective, config, run)?;
        Ok(MatRef::from_column_major_slice(&end.x, n, r).to_owned())
    }

    /// KL(P || Q) + alpha/(n r) | |H| - 1 |^2 and its gradient at `h` `[n, r]`. Tiles are added in order.
    pub(crate) fn objective(&self, h: MatRef<'_, f64>, alpha: f64) -> (f64, Mat) {
        struct Tile {
            /// Sums of U; of P (ln P - ln U); of P.
            sums: [f64; 3],
            /// For P o U and for U o U: sums of rows, and the product with H.
            rows: [Vec<f64>; 2],
            products: [Mat; 2],
        }
        let (n, r) = h.shape();
        let lengths: Vec<f64> = (0..n).map(|i| h.row(i).squared_norm_l2()).collect();
        let tile = |t: usize| {
            let (first, rows) = (t * TILE, TILE.min(n - t * TILE));
            let times = |a: MatRef<'_, f64>, b: MatRef<'_, f64>| {
                let mut out = Mat::zeros(a.nrows(), b.ncols());
                matmul(out.as_mut(), Accum::Replace, a, b);
                out
            };
            // [n, rows], so that what belongs to one row lies side by side.
            let mut pu = times(h, h.subrows(first, rows).transpose());
            let mut uu = times(self.unit.as_ref(), self.unit.subrows(first, rows).transpose());
            let mut tile =
                Tile { sums: [0.0; 3], rows: [vec![0.0; rows], vec![0.0; rows]], products: [Mat::new(), Mat::new()] };
            for i in 0..rows {
                let (dots, shared) = (pu.col_mut(i), uu.col_mut(i));
                let mut sums = [0.0; 5];
                for (j, (dot, share)) in dots.iter_mut().zip(shared.iter_mut()).enumerate() {
                    if j == first + i {
                        (*dot, *share) = (0.0, 0.0);
                        continue;
                    }
                    let u = 1.0 / (1.0 + 0.25 * (lengths[first + i] + lengths[j] - 2.0 * *dot).max(0.0));
                    let p = *share / self.total;
                    if p > 0.0 {
                        sums[1] += p * (p / u).ln();
                        sums[2] += p;
                    }
                    sums[0] += u;
                    (*dot, *share) = (p * u, u * u);
                    sums[3] += *dot;
                    sums[4] += *share;
                }
                (0..3).for_each(|s| tile.sums[s] += sums[s]);
                (tile.rows[0][i], tile.rows[1][i]) = (sums[3], sums[4]);
            }
            tile.products = [times(pu.transpose(), h), times(uu.transpose(), h)];
            tile
        };
        let tiles: Vec<Tile> = (0..n.div_ceil(TILE)).into_par_iter().map(tile).collect();
        let sum = |s: usize| tiles.iter().map(|t| t.sums[s]).sum::<f64>();
        let z = sum(0);
        let mut value = sum(1) + sum(2) * z.ln();
        let pull = alpha / (n * r) as f64;
        let mut gradient = Mat::zeros(n, r);
        for k in 0..r {
            for i in 0..n {
                let (tile, at, x) = (&tiles[i / TILE], i % TILE, h[(i, k)]);
                let force = |w: usize| tile.rows[w][at] * x - tile.products[w][(at, k)];
                let short = x.abs() - 1.0;
                value += pull * short * short;
                let side = if x == 0.0 { 0.0 } else { x.signum() };
                gradient[(i, k)] = force(0) - force(1) / z + 2.0 * pull * short * side;
            }
        }
        (value, gradient)
    }
}

/// Weights `[m, r]` and offsets `[r]` of a logistic regression for each column of `bits` `[n, r]` of +1 and -1 on rows `x` `[n, m]`.
///
/// # Errors
/// [`FitError::Cancelled`], [`FitError::Numeric`].
pub(crate) fn logistic(x: &Mat, bits: &Mat, lambda: f64, until: Lbfgs, run: &Run<'_>) -> Result<(Mat, Vec<f64>), FitError> {
    let (n, m) = x.shape();
    // In principal axes this makes the curvature nearly the same in all directions.
    let scales: Vec<f64> = (0..m).map(|j| 1.0 / (0.25 * x.col(j).squared_norm_l2() + 2.0 * lambda).sqrt()).collect();
    let scaled = Mat::from_fn(n, m, |i, j| x[(i, j)] * scales[j]);
    let of_bit = |k: usize| -> Result<Vec<f64>, FitError> {
        let b: Vec<f64> = bits.col(k).iter().copied().collect();
        if b.iter().all(|x| *x == b[0]) {
            // Nothing to tell apart: the answer is always the same.
            return Ok((0..m).map(|_| 0.0).chain([b[0]]).collect());
        }
        let mut f = Mat::zeros(n, 1);
        let mut slope = Mat::zeros(m, 1);
        let objective = |w: &[f64], gradient: &mut [f64]| {
            let weights = MatRef::from_column_major_slice(&w[..m], m, 1);
            matmul(f.as_mut(), Accum::Replace, scaled.as_ref(), weights);
            let (mut value, mut total) = (0.0, 0.0);
            for (f, b) in f.col_mut(0).iter_mut().zip(&b) {
                let margin = b * (*f + w[m]);
                // ln(1 + exp(-margin)) and its slope, without overflow on either side.
                let tail = (-margin.abs()).exp();
                value += tail.ln_1p() + (-margin).max(0.0);
                *f = -b * if margin >= 0.0 { tail / (1.0 + tail) } else { 1.0 / (1.0 + tail) };
                total += *f;
            }
            matmul(slope.as_mut(), Accum::Replace, scaled.transpose(), f.as_ref());
            for j in 0..m {
                let own = scales[j] * w[j];
                value += lambda * own * own;
                gradient[j] = slope[(j, 0)] + 2.0 * lambda * scales[j] * own;
            }
            gradient[m] = total;
            value
        };
        Ok(minimise(vec![0.0; m + 1], objective, until, run)?.x)
    };
    let solved: Vec<Vec<f64>> = (0..bits.ncols()).into_par_iter().map(of_bit).collect::<Result<_, _>>()?;
    let weights = Mat::from_fn(m, solved.len(), |j, k| solved[k][j] * scales[j]);
    Ok((weights, solved.iter().map(|w| w[m]).collect()))
}
