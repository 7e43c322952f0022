//! Inter-media hashing: codes that keep the neighbours of each view together, one code for both views of a pair.
//!
//! # Reference
//! J. Song, Y. Yang, Y. Yang, Z. Huang, H. T. Shen, Inter-Media Hashing for Large-scale Retrieval from Heterogeneous Data Sources,
//! SIGMOD 2013. Checked against scipy (`reference/align_hashing_goldens.py`). Differs from the paper in tying pairs exactly (there by a
//! large weight); above [`ImhConfig::max_rows`] rows the codes are learned on that many of them.
//!
//! # Model
//! M = sum_v [I - X_v (X_v'X_v + beta I)^{-1} X_v' + lambda L_v], L_v the Laplacian of the k nearest neighbours (either way); F the
//! eigenvectors of its smallest eigenvalues; W_v = (X_v'X_v + beta I)^{-1} X_v'F; a bit is x W_v at least its median.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | beta | [`crate::ViewConfig::ridge`] `* trace(X'X) / d` | - | above 0 |
//! | lambda, k | [`ImhConfig::lambda`], [`ImhConfig::n_neighbours`] | - | at least 0; at least 1 |
//! | F | not kept | `[n, bits]` | - |
//!
//! # Cost
//! O(n^3) time, O(n^2) memory, n at most `max_rows`.
//!
//! # Determinism
//! Above `max_rows` rows those that take part are drawn by the seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`].
//!
//! # Example
//! See [`crate::cvh`], which takes the same pairs.

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::fit::{FitError, Run};
use crate::hashing::{self, Regression};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution, pick_rows};

/// How inter-media hashing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct ImhConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Weight of neighbours against what the views can give.
    pub lambda: f64,
    /// Nearest rows that each row is joined with.
    pub n_neighbours: usize,
    /// Rows that take part at most.
    pub max_rows: usize,
    /// Bits of a code at most; there are no more than coordinates that a view can give.
    pub bits: usize,
}

impl Default for ImhConfig {
    /// Ten neighbours, weak against what the views can give.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
        Self { views: [view; 2], lambda: 1e-2, n_neighbours: 10, max_rows: 3000, bits: 64 }
    }
}

impl Linear for ImhConfig {
    fn name(&self) -> &'static str {
        "imh"
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        reduced::at_least_zero("lambda", self.lambda)?;
        reduced::at_least_one("n_neighbours", self.n_neighbours)?;
        reduced::at_least_one("max_rows", self.max_rows)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let n = reduced.n();
        let mut drawn = sample(&mut ChaCha8Rng::seed_from_u64(run.seed), n, n.min(self.max_rows)).into_vec();
        drawn.sort_unstable();
        let x: Vec<Mat> = (0..2).map(|v| pick_rows(&reduced.rows(v, &views[v]).to_owned(), &drawn)).collect();
        let ridges = hashing::ridges(reduced, views);
        let (f, _) = smoothest(&x, &ridges, self.lambda, self.n_neighbours, self.bits, run)?;
        let full = Regression::new(&x, &ridges).solve(&f)?;
        let projected: Vec<Mat> = x.iter().zip(&full).map(|(x, w)| product(x.as_ref(), w.as_ref())).collect();
        // A coordinate that no view can give makes a bit of noise: there are as many bits as before the first of these.
        let given =
            |j: usize| projected.iter().any(|z| z.col(j).iter().zip(f.col(j).iter()).map(|(z, f)| z * f).sum::<f64>() > 1e-3);
        let k = (0..f.ncols()).take_while(|j| given(*j)).count();
        if k == 0 {
            return Err(FitError::Unrelated { method: self.name() });
        }
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for (w, z) in full.iter().zip(&projected) {
            let (w, z) = (w.subcols(0, k).to_owned(), z.subcols(0, k));
            offsets.push((0..z.ncols()).map(|j| -median(z.col(j).iter().copied().collect())).collect());
            weights.push(w);
        }
        Ok(Solution::bits(weights, offsets, None))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = hashing::parameters(&self.views, self.bits);
        let rest = [
            ("lambda", self.lambda.to_string()),
            ("n_neighbours", self.n_neighbours.to_string()),
            ("max_rows", self.max_rows.to_string()),
        ];
        all.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.views[v].preprocess = entry));
        }
        lists.push(reduced::each(self, &[1e-4, 1e-3, 0.1], |c, r| c.views.iter_mut().for_each(|v| v.ridge = r)));
        lists.push(reduced::each(self, &[1e-3, 0.1], |c, lambda| c.lambda = lambda));
        reduced::listed(lists, MethodConfig::Imh)
    }
}

/// The eigenvectors of the `k` smallest eigenvalues of M, smallest first, and these.
///
/// # Errors
/// [`FitError::Numeric`], [`FitError::Cancelled`].
pub(crate) fn smoothest(
    x: &[Mat],
    ridges: &[f64],
    lambda: f64,
    n_neighbours: usize,
    k: usize,
    run: &Run<'_>,
) -> Result<(Mat, Vec<f64>), FitError> {
    let n = x[0].nrows();
    // Minus M, so that the greatest eigenvalues are wanted.
    let mut m = Mat::zeros(n, n);
    for (x, ridge) in x.iter().zip(ridges) {
        run.cancel.check()?;
        let own = std::slice::from_ref(x);
        let inside = Regression::new(own, &[*ridge]).solve(&Mat::identity(n, n))?.swap_remove(0);
        m += product(x.as_ref(), inside.as_ref());
        for i in 0..n {
            m[(i, i)] -= 1.0;
        }
        for (i, of) in joined(x, n_neighbours).iter().enumerate() {
            for j in of {
                m[(i, *j)] += lambda;
                m[(i, i)] -= lambda;
            }
        }
    }
    let (values, vectors) = linalg::eigen(m.as_ref())?;
    let k = k.min(n);
    Ok((vectors.subcols(0, k).to_owned(), values[..k].iter().map(|v| -v).collect()))
}

/// For each row those among whose nearest it is, or which are among its nearest, ascending.
fn joined(x: &Mat, k: usize) -> Vec<Vec<usize>> {
    let n = x.nrows();
    let rows: Vec<Vec<f64>> = (0..n).map(|i| x.row(i).iter().copied().collect()).collect();
    let nearest = |i: usize| -> Vec<usize> {
        let distance = |j: usize| rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mut all: Vec<(f64, usize)> = (0..n).filter(|j| *j != i).map(|j| (distance(j), j)).collect();
        if k < all.len() {
            all.select_nth_unstable_by(k, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.truncate(k);
        }
        all.into_iter().map(|(_, j)| j).collect()
    };
    let nearest: Vec<Vec<usize>> = (0..n).into_par_iter().map(nearest).collect();
    let mut joined = nearest.clone();
    for (i, of) in nearest.iter().enumerate() {
        of.iter().for_each(|j| joined[*j].push(i));
    }
    for of in &mut joined {
        of.sort_unstable();
        of.dedup();
    }
    joined
}

/// The middle value, or the midpoint of the two middle ones.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { 0.5 * (values[middle - 1] + values[middle]) }
}
