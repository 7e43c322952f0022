//! Cross-modality similarity-sensitive hashing: bits found one after another by boosting, each for the pairs the last ones got wrong.
//!
//! # Reference
//! M. M. Bronstein, A. M. Bronstein, F. Michel, N. Paragios, Data Fusion through Cross-modality Metric Learning using
//! Similarity-Sensitive Hashing, CVPR 2010. Checked against numpy over the first bits (`reference/align_hashing_goldens.py`). Differs
//! from the paper in starting with half of the weight on similar and half on dissimilar pairs (with equal weights "all are different"
//! wins), and in drawing pairs where there are too many. Named `cmssh` it takes two rows of one class for similar, as the
//! paper does; named `cmssh-pairs` it takes the two views of a row for similar and those of two rows for dissimilar, which
//! needs no labels and is the self-supervised reading of surveys that list the method as unsupervised.
//!
//! # Model
//! Each bit: C = sum_ij w_ij s_ij x_i y_j'; p, q its leading singular vectors; thresholds a, b of greatest r = sum w s sign(p'x + a)
//! sign(q'y + b), found among all places between two rows; w *= exp(-alpha s h), alpha = log((1 + r)/(1 - r)) / 2, h the product of the two signs.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | s | pairs (i, j), at most [`CmsshConfig::max_pairs`] | - | +1, -1 |
//! | w | not kept | - | at least 0, sum 1 |
//!
//! # Cost
//! O(bits (pairs m + n m + m^3)) time, O(pairs + n m) memory.
//!
//! # Determinism
//! Pairs are drawn by the seed where there are too many.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`] for `cmssh`; [`FitError::Unrelated`] when not even the first bit tells similar
//! from dissimilar.
//!
//! # Example
//! See [`crate::ssh`], which takes the same pairs.

use chiasm_core::Labels;
use faer::MatRef;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fit::{FitError, Run};
use crate::hashing::{self, sign};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// Places of a threshold that are tried in each view, at most.
const MAX_PLACES: usize = 2048;

/// How similarity-sensitive hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct CmsshConfig {
    /// Preprocessing and principal components of each view; the ridge is not used.
    pub views: [ViewConfig; 2],
    /// Whether classes say what is similar; else the pairing does.
    pub by_class: bool,
    /// Pairs that are looked at, at most.
    pub max_pairs: usize,
    /// Bits of a code at most: boosting ends where no bit tells anything.
    pub bits: usize,
}

impl Default for CmsshConfig {
    /// All pairs of up to some two thousand rows.
    fn default() -> Self {
        Self { views: [ViewConfig::default(); 2], by_class: true, max_pairs: 5_000_000, bits: 64 }
    }
}

impl Linear for CmsshConfig {
    fn name(&self) -> &'static str {
        if self.by_class { "cmssh" } else { "cmssh-pairs" }
    }

    fn needs_labels(&self) -> bool {
        self.by_class
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        reduced::at_least_one("max_pairs", self.max_pairs)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let labels = self.by_class.then(|| reduced.labels());
        let mut pairs = WeightedPairs::draw(reduced.n(), labels, self.max_pairs, run.seed);
        let (x, y) = (reduced.rows(0, &views[0]), reduced.rows(1, &views[1]));
        let (mut weights, mut offsets) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _bit in 0..self.bits {
            run.cancel.check()?;
            let Some(bit) = boost(x, y, &mut pairs)? else { break };
            for (v, (w, offset)) in bit.into_iter().enumerate() {
                weights[v].push(w);
                offsets[v].push(offset);
            }
        }
        if offsets[0].is_empty() {
            return Err(FitError::Unrelated { method: self.name() });
        }
        let weights = weights.map(|of| Mat::from_fn(of[0].len(), of.len(), |i, j| of[j][i]));
        Ok(Solution::bits(weights.to_vec(), offsets.to_vec(), None))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = hashing::parameters(&self.views, self.bits);
        all.push(("max_pairs".to_owned(), self.max_pairs.to_string()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.views[v].preprocess = entry));
        }
        // Fewer principal components leave fewer directions to be fooled by.
        let axes = |c: &mut Self, m: Option<usize>| c.views.iter_mut().for_each(|v| v.pca_dim = m);
        lists.push(reduced::each(self, &[Some(4), Some(16), Some(64)], axes));
        reduced::listed(lists, MethodConfig::Cmssh)
    }
}

/// Pairs of a row of one view and a row of the other, with their similarity and weight, sorted by the first.
#[derive(Clone)]
pub(crate) struct WeightedPairs {
    /// Row of the first view, row of the second.
    pub(crate) at: Vec<(u32, u32)>,
    /// `w s`: weight times similarity.
    pub(crate) signed: Vec<f64>,
}

impl WeightedPairs {
    /// All pairs, or `max` of them, half similar and half not; each half with half of the weight.
    pub(crate) fn draw(n: usize, labels: Option<&Labels>, max: usize, seed: u64) -> Self {
        let similar = |i: usize, j: usize| labels.map_or(i == j, |labels| labels.share(i, labels, j));
        let rows: Vec<usize> = (0..n).filter(|row| labels.is_none_or(|labels| !labels.of(*row).is_empty())).collect();
        let mut at: Vec<(u32, u32)> = Vec::new();
        if rows.len().saturating_mul(rows.len()) <= max {
            at.extend(rows.iter().flat_map(|i| rows.iter().map(|j| (*i as u32, *j as u32))));
        } else {
            let mut chance = ChaCha8Rng::seed_from_u64(seed);
            let mut any = || rows[chance.random_range(0..rows.len())];
            // A class may be so rare that the similar half is never full: draws are bounded.
            let (mut wanted, mut draws) = ([max / 2, max - max / 2], 20 * max);
            while wanted != [0, 0] && draws > 0 {
                draws -= 1;
                let (i, j) = if wanted[0] > 0 && labels.is_none() {
                    let i = any();
                    (i, i)
                } else {
                    (any(), any())
                };
                let half = &mut wanted[usize::from(!similar(i, j))];
                if *half > 0 {
                    *half -= 1;
                    at.push((i as u32, j as u32));
                }
            }
            at.sort_unstable();
            at.dedup();
        }
        let similarity: Vec<bool> = at.iter().map(|(i, j)| similar(*i as usize, *j as usize)).collect();
        let n_similar = similarity.iter().filter(|s| **s).count().max(1) as f64;
        let n_other = (at.len() as f64 - n_similar).max(1.0);
        let signed = similarity.iter().map(|s| if *s { 0.5 / n_similar } else { -0.5 / n_other }).collect();
        Self { at, signed }
    }

    /// For each row of one view the sum of `w s` times a value of its partners.
    fn gather(&self, n: usize, by_first: bool, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; n];
        for ((i, j), signed) in self.at.iter().zip(&self.signed) {
            let (to, from) = if by_first { (*i, *j) } else { (*j, *i) };
            sums[to as usize] += signed * value(from as usize);
        }
        sums
    }

    /// Weights after a bit that answers `h`, whose weighted agreement is `r`.
    fn update(&mut self, r: f64, h: impl Fn(usize, usize) -> f64) {
        let alpha = 0.5 * ((1.0 + r) / (1.0 - r).max(1e-12)).ln();
        for ((i, j), signed) in self.at.iter().zip(&mut self.signed) {
            *signed *= (-alpha * signed.signum() * h(*i as usize, *j as usize)).exp();
        }
        let sum: f64 = self.signed.iter().map(|s| s.abs()).sum();
        self.signed.iter_mut().for_each(|s| *s /= sum);
    }
}

/// A bit in one view: its direction and threshold.
type Half = (Vec<f64>, f64);

/// The next bit: direction and threshold in each view; none when no bit agrees with the pairs.
///
/// # Errors
/// [`FitError::Numeric`].
pub(crate) fn boost(x: MatRef<'_, f64>, y: MatRef<'_, f64>, pairs: &mut WeightedPairs) -> Result<Option<[Half; 2]>, FitError> {
    let n = x.nrows();
    let mut partners = Mat::zeros(n, y.ncols());
    for c in 0..y.ncols() {
        let sums = pairs.gather(n, true, |j| y[(j, c)]);
        partners.col_mut(c).iter_mut().zip(sums).for_each(|(p, s)| *p = s);
    }
    let (p, _, q) = linalg::thin_svd(product(x.transpose(), partners.as_ref()).as_ref())?;
    let along = |x: MatRef<'_, f64>, w: &Mat| -> Vec<f64> { product(x, w.subcols(0, 1)).col(0).iter().copied().collect() };
    let (u, v) = (along(x, &p), along(y, &q));
    let (a, b, best) = thresholds(&u, &v, pairs);
    if best <= 1e-9 {
        return Ok(None);
    }
    pairs.update(best.min(1.0), |i, j| sign(u[i] + a) * sign(v[j] + b));
    let column = |w: &Mat| w.col(0).iter().copied().collect();
    Ok(Some([(column(&p), a), (column(&q), b)]))
}

/// The thresholds of greatest `r = sum w s sign(u_i + a) sign(v_j + b)`, both answers occurring in each view, and that `r`. Of more than
/// [`MAX_PLACES`] rows not every place between two is tried.
fn thresholds(u: &[f64], v: &[f64], pairs: &WeightedPairs) -> (f64, f64, f64) {
    let (of_u, of_v) = (Places::new(u), Places::new(v));
    let (rows, cols) = (of_u.starts.len(), of_v.starts.len());
    // Sums over all pairs below a place in u and in v: cell by cell, then accumulated.
    let mut below = vec![0.0; (rows + 1) * (cols + 1)];
    let cell = |i: usize, j: usize| i * (cols + 1) + j;
    for ((i, j), signed) in pairs.at.iter().zip(&pairs.signed) {
        below[cell(of_u.bin[*i as usize] + 1, of_v.bin[*j as usize] + 1)] += signed;
    }
    for i in 1..=rows {
        for j in 1..=cols {
            below[cell(i, j)] += below[cell(i - 1, j)] + below[cell(i, j - 1)] - below[cell(i - 1, j - 1)];
        }
    }
    let all = below[cell(rows, cols)];
    let mut best = (0.0, 0.0, f64::NEG_INFINITY);
    for i in (1..rows).filter(|i| of_u.can_stand(*i)) {
        for j in (1..cols).filter(|j| of_v.can_stand(*j)) {
            let r = all - 2.0 * below[cell(i, cols)] - 2.0 * below[cell(rows, j)] + 4.0 * below[cell(i, j)];
            if r > best.2 {
                best = (of_u.threshold(i), of_v.threshold(j), r);
            }
        }
    }
    best
}

/// Values in order, cut into bins between which a threshold may stand.
struct Places {
    sorted: Vec<f64>,
    /// Rank of the first value of each bin.
    starts: Vec<usize>,
    /// The bin of each value, in the order in which they came.
    bin: Vec<usize>,
}

impl Places {
    fn new(values: &[f64]) -> Self {
        let n = values.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|i, j| values[*i].total_cmp(&values[*j]).then(i.cmp(j)));
        let bins = n.min(MAX_PLACES);
        let mut bin = vec![0; n];
        let mut starts = Vec::with_capacity(bins);
        for (rank, row) in order.iter().enumerate() {
            bin[*row] = rank * bins / n;
            if bin[*row] == starts.len() {
                starts.push(rank);
            }
        }
        Self { sorted: order.iter().map(|i| values[*i]).collect(), starts, bin }
    }

    /// Between equal values no threshold can stand.
    fn can_stand(&self, bin: usize) -> bool {
        self.sorted[self.starts[bin] - 1] < self.sorted[self.starts[bin]]
    }

    /// What is added so that the values from this bin on are above 0.
    fn threshold(&self, bin: usize) -> f64 {
        -0.5 * (self.sorted[self.starts[bin] - 1] + self.sorted[self.starts[bin]])
    }
}
