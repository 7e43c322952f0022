//! Fusion similarity hashing: one graph that both views draw together, and codes that follow it.
//!
//! # Reference
//! After H. Liu, R. Ji, Y. Wu, F. Huang, B. Zhang, Cross-Modality Binary Code Learning via Fusion Similarity Hashing, CVPR 2017, with the
//! anchor graph of W. Liu, J. Wang, S. Kumar, S.-F. Chang, Hashing with Graphs, ICML 2011, and the rotation of Y. Gong, S. Lazebnik,
//! Iterative Quantization, CVPR 2011. Checked against numpy, round by round (`reference/align_fsh_goldens.py`). Differs from the first paper in its optimisation: there the
//! codes are fitted to the fused similarities by an asymmetric alternation, here to their leading eigenvectors.
//!
//! # Model
//! Z_ij proportional to exp(-(|x_i - x_a|^2 / s_x + |y_i - y_a|^2 / s_y) / 2) over the k nearest of m paired anchors, rows summing to 1;
//! S = Z diag(1'Z)^{-1} Z'; F its leading eigenvectors but the constant one; in turn R = the rotation that brings F nearest to B,
//! W_v = (X_v'X_v + r I)^{-1} X_v'B, B = sign(F R + mu sum_v X_v W_v).
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | anchors, k | [`FshConfig::n_anchors`], [`FshConfig::n_neighbours`] | - | at least 1 |
//! | S | not formed | `[n, n]` | - |
//! | B | [`crate::Fitted::codes`] | `[n, bits]` | +1, -1 |
//!
//! # Cost
//! O(n m d + m^3 + rounds n bits (bits + d)) time, O(n (m + bits)) memory.
//!
//! # Determinism
//! Anchors and the first rotation are drawn by the seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`].
//!
//! # Example
//! See [`crate::cvh`], which takes the same pairs.

use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::fit::{FitError, Run};
use crate::hashing::{self, Regression, signs};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How fusion similarity hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct FshConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Paired rows that others are compared with.
    pub n_anchors: usize,
    /// Nearest anchors of a row.
    pub n_neighbours: usize,
    /// Weight of what the views can give against the graph; at least 0.
    pub mu: f64,
    /// Rounds.
    pub n_iterations: usize,
    /// Bits of a code; there are fewer than anchors.
    pub bits: usize,
}

impl Default for FshConfig {
    /// Some hundred anchors, few neighbours.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
        Self { views: [view; 2], n_anchors: 500, n_neighbours: 10, mu: 1.0, n_iterations: 30, bits: 64 }
    }
}

impl Linear for FshConfig {
    fn name(&self) -> &'static str {
        "fsh"
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        reduced::at_least_zero("mu", self.mu)?;
        let counts = [("n_anchors", self.n_anchors), ("n_neighbours", self.n_neighbours), ("n_iterations", self.n_iterations)];
        counts.iter().try_for_each(|(name, value)| reduced::at_least_one(name, *value))?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let n = reduced.n();
        let mut chance = ChaCha8Rng::seed_from_u64(run.seed);
        let mut anchors = sample(&mut chance, n, n.min(self.n_anchors)).into_vec();
        anchors.sort_unstable();
        let x: Vec<Mat> = (0..2).map(|v| reduced.rows(v, &views[v]).to_owned()).collect();
        let z = self.similarities(&x, &anchors);
        run.cancel.check()?;
        let (f, _) = spectrum(z, self.bits)?;
        let k = f.ncols();
        if k == 0 {
            return Err(FitError::Unrelated { method: self.name() });
        }
        let random = Mat::from_fn(k, k, |_, _| chance.random_range(-1.0..1.0));
        let (u, _, v) = linalg::thin_svd(random.as_ref())?;
        let rotation = product(u.as_ref(), v.transpose());
        let regression = Regression::new(&x, &hashing::ridges(reduced, views));
        let mut b = signs(product(f.as_ref(), rotation.as_ref()).as_ref());
        for _round in 0..self.n_iterations {
            run.cancel.check()?;
            b = signs(score(&f, &b, &x, &regression.solve(&b)?, self.mu)?.as_ref());
        }
        Ok(Solution::bits(regression.solve(&b)?, vec![vec![0.0; k]; 2], Some(b)))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = hashing::parameters(&self.views, self.bits);
        let rest = [
            ("n_anchors", self.n_anchors.to_string()),
            ("n_neighbours", self.n_neighbours.to_string()),
            ("mu", self.mu.to_string()),
            ("n_iterations", self.n_iterations.to_string()),
        ];
        all.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.views[v].preprocess = entry));
        }
        lists.push(reduced::each(self, &[0.1, 10.0], |c, mu| c.mu = mu));
        lists.push(reduced::each(self, &[3, 30], |c, k| c.n_neighbours = k));
        reduced::listed(lists, MethodConfig::Fsh)
    }
}

/// `F`, `[n, k]` with `F'F = n I`, at most `bits` leading eigenvectors of `S = Z diag(1'Z)^{-1} Z'` after the constant one, and their values.
///
/// # Errors
/// [`FitError::Numeric`].
pub(crate) fn spectrum(z: Mat, bits: usize) -> Result<(Mat, Vec<f64>), FitError> {
    // S = (Z D^{-1/2}) (Z D^{-1/2})', whose eigenvectors follow from the small product.
    let mut scaled = z;
    let roots: Vec<f64> = (0..scaled.ncols())
        .map(|a| {
            let degree: f64 = scaled.col(a).iter().sum();
            if degree > 0.0 { 1.0 / degree.sqrt() } else { 0.0 }
        })
        .collect();
    linalg::scale_cols(&mut scaled, &roots);
    let (values, vectors) = linalg::eigen(product(scaled.transpose(), scaled.as_ref()).as_ref())?;
    // The first, of value 1, is the constant.
    let k = values.iter().skip(1).take(bits).take_while(|value| **value > 1e-9).count();
    let mut f = product(scaled.as_ref(), vectors.subcols(1.min(values.len()), k));
    let n = f.nrows() as f64;
    linalg::scale_cols(&mut f, &values[1..=k].iter().map(|value| (n / value).sqrt()).collect::<Vec<_>>());
    Ok((f, values[1..=k].to_vec()))
}

/// What the next codes are the signs of: `F R` with the rotation that brings `F` nearest to the codes `b`, and what each view's best map
/// `w` onto them gives, times mu.
///
/// # Errors
/// [`FitError::Numeric`].
pub(crate) fn score(f: &Mat, b: &Mat, x: &[Mat], w: &[Mat], mu: f64) -> Result<Mat, FitError> {
    let (u, _, v) = linalg::thin_svd(product(f.transpose(), b.as_ref()).as_ref())?;
    let mut score = product(f.as_ref(), product(u.as_ref(), v.transpose()).as_ref());
    for (x, w) in x.iter().zip(w) {
        crate::jfssl::add(&mut score, &product(x.as_ref(), w.as_ref()), mu);
    }
    Ok(score)
}

impl FshConfig {
    /// `Z`, `[n, anchors]`.
    pub(crate) fn similarities(&self, x: &[Mat], anchors: &[usize]) -> Mat {
        let n = x[0].nrows();
        let rows: Vec<Vec<Vec<f64>>> = x.iter().map(|x| (0..n).map(|i| x.row(i).iter().copied().collect()).collect()).collect();
        let distance =
            |v: usize, i: usize, a: usize| -> f64 { rows[v][i].iter().zip(&rows[v][a]).map(|(x, y)| (x - y) * (x - y)).sum() };
        let spread: Vec<f64> = (0..2)
            .map(|v| {
                let sum: f64 = anchors.iter().map(|a| anchors.iter().map(|b| distance(v, *a, *b)).sum::<f64>()).sum();
                (sum / (anchors.len() * anchors.len()) as f64).max(f64::MIN_POSITIVE)
            })
            .collect();
        let near: Vec<Vec<(usize, f64)>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let fused = |a: &usize| 0.5 * (distance(0, i, *a) / spread[0] + distance(1, i, *a) / spread[1]);
                let mut all: Vec<(f64, usize)> = anchors.iter().enumerate().map(|(place, a)| (fused(a), place)).collect();
                if self.n_neighbours < all.len() {
                    all.select_nth_unstable_by(self.n_neighbours, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    all.truncate(self.n_neighbours);
                }
                // The nearest is taken off first, so that a far row still has neighbours.
                let least = all.iter().map(|(d, _)| *d).fold(f64::INFINITY, f64::min);
                let sum: f64 = all.iter().map(|(d, _)| (least - d).exp()).sum();
                all.into_iter().map(|(d, place)| (place, (least - d).exp() / sum)).collect()
            })
            .collect();
        let mut z = Mat::zeros(n, anchors.len());
        for (i, of) in near.iter().enumerate() {
            of.iter().for_each(|(place, weight)| z[(i, *place)] = *weight);
        }
        z
    }
}
