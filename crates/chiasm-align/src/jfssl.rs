//! Joint feature selection and subspace learning: regression to the labels that chooses columns and keeps neighbours together.
//!
//! # Reference
//! K. Wang, R. He, L. Wang, W. Wang, T. Tan, Joint Feature Selection and Subspace Learning for Cross-Modal Retrieval, TPAMI 38, 2016.
//! Checked against numpy, objective and weights per iteration (`reference/align_discriminative_goldens.py`). Differs from the authors'
//! public script in summing the graph's weights where that counts neighbours, and in using the new weights of the first view for
//! the second, so that the objective falls at every step; which similarity ranks is a choice here ([`JfsslConfig::metric`](field@JfsslConfig::metric)), and must
//! be said with every figure: the script calls a dot product a cosine.
//!
//! # Model
//! min sum_p |X_p U_p - Y|^2 + lambda1 sum_p sum_i sqrt(|u_pi|^2 + eps) + lambda2 sum_pq tr(U_p'X_p' L_pq X_q U_q), u_pi the i-th row
//! of U_p. L = D - W over the rows of both views: W within a view beta times the heat kernel to the k nearest (either way), across
//! views 1 where rows share a class. Each iteration: R_p = diag(1 / (2 sqrt(|u_pi|^2 + eps))),
//! U_p = (X_p'X_p + lambda1 R_p + lambda2 X_p'L_pp X_p)^{-1} (X_p'Y - lambda2 X_p'L_pq X_q U_q).
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_p | `pairs.views`, preprocessed and centred | `[n, d_p]` | - |
//! | Y | `pairs.labels`, 1 for each class of a row | `[n, c]` | - |
//! | lambda1, lambda2, beta | [`JfsslConfig`] | - | at least 0 |
//! | k | [`JfsslConfig::n_neighbours`] | - | at least 1 |
//!
//! # Cost
//! O(n^2 d + steps d^3) time, O(n d + d^2) memory, n at most [`JfsslConfig::max_rows`].
//!
//! # Determinism
//! Above `max_rows` rows the fitting rows are drawn by the seed. Coordinate c is class c.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::label_ridge`], which takes the same pairs.

use std::collections::BTreeMap;

use chiasm_core::{Labels, Metric};
use rayon::prelude::*;

use crate::fit::{FitError, Run};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution, pick_rows};
use crate::supervised::{draw_labelled, indicator, mean_diagonal};

/// Smooths the norm of a row of weights at 0.
const EPS: f64 = 1e-8;

/// How joint feature selection and subspace learning is done.
#[derive(Clone, Debug, PartialEq)]
pub struct JfsslConfig {
    /// Done to the rows of each view first; centring follows.
    pub preprocess: [Preprocess; 2],
    /// Weight of the choice of columns.
    pub lambda1: f64,
    /// Weight of keeping neighbours together.
    pub lambda2: f64,
    /// Weight of neighbours within a view beside those of a class across views.
    pub beta: f64,
    /// Nearest rows of the same view that each row is joined with.
    pub n_neighbours: usize,
    /// Rounds over both views.
    pub n_iterations: usize,
    /// Rows that take part at most.
    pub max_rows: usize,
    /// What ranks: [`Metric::Cosine`], or [`Metric::InnerProduct`] as the authors' script does.
    pub metric: Metric,
}

impl Default for JfsslConfig {
    /// Weights of the order of the authors' once sums, not counts, are weighed; five rounds.
    fn default() -> Self {
        Self {
            preprocess: [Preprocess::None; 2],
            lambda1: 1.0,
            lambda2: 1e-3,
            beta: 0.1,
            n_neighbours: 5,
            n_iterations: 5,
            max_rows: 5000,
            metric: Metric::Cosine,
        }
    }
}

impl Linear for JfsslConfig {
    fn name(&self) -> &'static str {
        "jfssl"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn in_columns(&self) -> bool {
        true
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        let numbers = [("lambda1", self.lambda1), ("lambda2", self.lambda2), ("beta", self.beta)];
        numbers.iter().try_for_each(|(name, value)| reduced::at_least_zero(name, *value))?;
        let counts = [("n_neighbours", self.n_neighbours), ("n_iterations", self.n_iterations), ("max_rows", self.max_rows)];
        counts.iter().try_for_each(|(name, value)| reduced::at_least_one(name, *value))?;
        Ok(self.preprocess.map(|preprocess| ViewConfig { preprocess, ..ViewConfig::default() }).to_vec())
    }

    fn max_components(&self) -> usize {
        usize::MAX
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let drawn = draw_labelled(reduced.labels(), self.max_rows, run.seed);
        let labels = reduced.labels().pick(&drawn);
        let x: Vec<Mat> = (0..2).map(|v| pick_rows(&reduced.rows(v, &views[v]).to_owned(), &drawn)).collect();
        let y = indicator(&labels, false);
        let (across, degrees) = classmates(&x, &labels);
        let graph: Vec<Mat> = x.iter().map(|x| self.neighbourhood(x, &degrees)).collect();
        let gram: Vec<Mat> = x.iter().map(|x| product(x.transpose(), x.as_ref())).collect();
        let target: Vec<Mat> = x.iter().map(|x| product(x.transpose(), y.as_ref())).collect();
        let start = |v: usize| {
            let mut left = gram[v].clone();
            (0..left.nrows()).for_each(|i| left[(i, i)] += self.lambda1);
            hold(&mut left, &gram[v]);
            linalg::solve_positive(&left, &target[v])
        };
        let mut u = vec![start(0)?, start(1)?];
        for _iteration in 0..self.n_iterations {
            for v in 0..2 {
                run.cancel.check()?;
                let mut left = gram[v].clone();
                for i in 0..left.nrows() {
                    left[(i, i)] += self.lambda1 * row_weight(&u[v], i, EPS);
                }
                add(&mut left, &graph[v], self.lambda2);
                // L across the views is -W.
                let pull =
                    if v == 0 { product(across.as_ref(), u[1].as_ref()) } else { product(across.transpose(), u[0].as_ref()) };
                let mut right = target[v].clone();
                add(&mut right, &pull, self.lambda2);
                hold(&mut left, &gram[v]);
                u[v] = linalg::solve_positive(&left, &right)?;
            }
        }
        let offsets = vec![vec![0.0; y.ncols()]; 2];
        let tail = if self.metric == Metric::Cosine { Vec::new() } else { vec![Vec::new(); 2] };
        Ok(Solution { tail, ..Solution::meaningful(u, offsets) })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let [x, y] = self.preprocess.map(Preprocess::describe);
        let all = [
            ("view 0", x),
            ("view 1", y),
            ("lambda1", self.lambda1.to_string()),
            ("lambda2", self.lambda2.to_string()),
            ("beta", self.beta.to_string()),
            ("n_neighbours", self.n_neighbours.to_string()),
            ("n_iterations", self.n_iterations.to_string()),
            ("max_rows", self.max_rows.to_string()),
            ("metric", self.metric.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.preprocess[v] = entry));
        }
        lists.push(reduced::each(self, &[0.01, 0.1, 10.0], |c, l| c.lambda1 = l));
        lists.push(reduced::each(self, &[1e-5, 1e-4, 1e-2, 0.1], |c, l| c.lambda2 = l));
        lists.push(reduced::each(self, &[0.01, 1.0], |c, beta| c.beta = beta));
        reduced::listed(lists, MethodConfig::Jfssl)
    }
}

impl JfsslConfig {
    /// `X'L_pp X`: the sum of both graphs' degrees on the diagonal, less the weights within the view.
    fn neighbourhood(&self, x: &Mat, degrees_across: &[f64]) -> Mat {
        let n = x.nrows();
        let rows: Vec<Vec<f64>> = (0..n).map(|i| x.row(i).iter().copied().collect()).collect();
        let distances = |i: usize| -> Vec<f64> {
            rows.iter().map(|row| row.iter().zip(&rows[i]).map(|(a, b)| (a - b) * (a - b)).sum()).collect()
        };
        let near: Vec<(f64, Vec<(usize, f64)>)> = (0..n)
            .into_par_iter()
            .map(|i| {
                let distances = distances(i);
                let mut order: Vec<usize> = (0..n).filter(|j| *j != i).collect();
                let k = self.n_neighbours.min(order.len());
                if k < order.len() {
                    order.select_nth_unstable_by(k, |a, b| distances[*a].total_cmp(&distances[*b]).then(a.cmp(b)));
                }
                (distances.iter().sum(), order[..k].iter().map(|j| (*j, distances[*j])).collect())
            })
            .collect();
        let width = near.iter().map(|(sum, _)| sum).sum::<f64>() / (n * (n - 1).max(1)) as f64;
        let mut edges: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (i, (_, of)) in near.iter().enumerate() {
            for (j, distance) in of {
                edges.insert((i.min(*j), i.max(*j)), self.beta * (-distance / (2.0 * width.max(f64::MIN_POSITIVE))).exp());
            }
        }
        let mut degrees = degrees_across.to_vec();
        let mut pulled = Mat::zeros(n, x.ncols());
        for ((i, j), weight) in &edges {
            degrees[*i] += weight;
            degrees[*j] += weight;
            for c in 0..x.ncols() {
                pulled[(*i, c)] += weight * x[(*j, c)];
                pulled[(*j, c)] += weight * x[(*i, c)];
            }
        }
        let mut held = x.clone();
        linalg::scale_rows(&mut held, &degrees);
        held -= pulled;
        product(x.transpose(), held.as_ref())
    }
}

/// `X_0' W X_1` where W joins rows that share a class, and how many rows of the other view each row is joined with.
fn classmates(x: &[Mat], labels: &Labels) -> (Mat, Vec<f64>) {
    let mut sets: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
    for row in 0..labels.n() {
        sets.entry(labels.of(row).to_vec()).or_default().push(row);
    }
    let sets: Vec<(Vec<u32>, Vec<usize>)> = sets.into_iter().collect();
    let share = |a: &[u32], b: &[u32]| a.iter().any(|class| b.binary_search(class).is_ok());
    let sums = |x: &Mat| Mat::from_fn(sets.len(), x.ncols(), |s, j| sets[s].1.iter().map(|row| x[(*row, j)]).sum());
    let joined = Mat::from_fn(sets.len(), sets.len(), |a, b| if share(&sets[a].0, &sets[b].0) { 1.0 } else { 0.0 });
    let across = product(product(sums(&x[0]).transpose(), joined.as_ref()).as_ref(), sums(&x[1]).as_ref());
    let mut degrees = vec![0.0; labels.n()];
    for (s, (_, rows)) in sets.iter().enumerate() {
        let degree = sets.iter().enumerate().map(|(t, (_, of))| joined[(s, t)] * of.len() as f64).sum();
        rows.iter().for_each(|row| degrees[*row] = degree);
    }
    (across, degrees)
}

/// The weight of column `i` in the quadratic that stands for the sum of norms, smoothed by `eps`.
pub(crate) fn row_weight(u: &Mat, i: usize, eps: f64) -> f64 {
    let squares: f64 = u.row(i).iter().map(|x| x * x).sum();
    1.0 / (2.0 * (squares + eps).sqrt())
}

/// Adds next to nothing to the diagonal, so that without a choice of columns those that never vary, or repeat others, still leave a
/// system that can be solved.
pub(crate) fn hold(left: &mut Mat, gram: &Mat) {
    let floor = (1e-10 * mean_diagonal(gram)).max(f64::MIN_POSITIVE);
    (0..left.nrows()).for_each(|i| left[(i, i)] += floor);
}

/// `a += factor b`.
pub(crate) fn add(a: &mut Mat, b: &Mat, factor: f64) {
    for j in 0..a.ncols() {
        a.col_mut(j).iter_mut().zip(b.col(j).iter()).for_each(|(a, b)| *a += factor * b);
    }
}
