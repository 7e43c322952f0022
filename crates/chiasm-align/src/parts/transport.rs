//! Optimal transport by the inexact proximal point method (IPOT), and the distance of two sets by it.
//!
//! # Reference
//! Y. Xie, X. Wang, R. Wang, H. Zha, A Fast Proximal Point Method for Computing Exact Wasserstein Distance, UAI 2019, algorithm 1; for words and regions Y.-C. Chen
//! et al., UNITER, ECCV 2020, section 3.2 (WRA). Checked against the algorithm in numpy, whose costs are checked against a linear program
//! (`reference/align_parts_goldens.py`). Differs from them in nothing.
//!
//! # Model
//! T = 1 1', b = 1_m / m, K = e^(-C / beta); n_outer times: Q = K * T; n_inner times: a = 1 / (n Q b), b = 1 / (m Q' a); T = diag(a) Q diag(b).
//!
//! Columns of T sum to 1/m, rows only nearly to 1/n. Gradients pass by the cost, not by the plan.
//!
//! # Cost
//! O(n_outer n_inner n m) a pair of sets of n and m parts.

use chiasm_nn::grad::{Array, Real, Var};
use rayon::prelude::*;

use super::sets::starts;

/// How transport is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ipot {
    /// Weight of the proximal term; above 0.
    pub(super) beta: f64,
    /// Proximal points.
    pub(super) n_outer: usize,
    /// Scalings of each.
    pub(super) n_inner: usize,
}

impl Default for Ipot {
    /// As UNITER has it.
    fn default() -> Self {
        Self { beta: 0.5, n_outer: 50, n_inner: 1 }
    }
}

impl Ipot {
    /// The plan of a cost `[n, m]`, of the same shape; both sides weigh the same everywhere, 1 together.
    pub(super) fn plan<T: Real>(&self, cost: &Array<T>) -> Array<T> {
        let [n, m] = cost.shape();
        let mut kernel = cost.clone();
        kernel.change(|c| (T::of(-1.0 / self.beta) * c).exponential());
        let mut plan = Array::full(n, m, T::of(1.0));
        let mut a = vec![T::default(); n];
        let mut b = vec![T::of(1.0 / m as f64); m];
        let (of_rows, of_cols) = (T::of(n as f64), T::of(m as f64));
        for _ in 0..self.n_outer {
            plan.change_with(&kernel, |t, k| t * k);
            for _ in 0..self.n_inner {
                for (i, a) in a.iter_mut().enumerate() {
                    *a = T::of(1.0) / (of_rows * plan.row(i).iter().zip(&b).map(|(q, b)| *q * *b).sum::<T>());
                }
                for (j, b) in b.iter_mut().enumerate() {
                    *b = T::of(1.0) / (of_cols * (0..n).map(|i| plan.at(i, j) * a[i]).sum::<T>());
                }
            }
            for (i, a) in a.iter().enumerate() {
                plan.row_mut(i).iter_mut().zip(&b).for_each(|(t, b)| *t *= *a * *b);
            }
        }
        plan
    }

    /// `sum_ij T_ij (1 - cos)` of set `i` of one side with set `i` of the other, `[n_sets, 1]`, of parts at unit length.
    pub(super) fn distances<'t, T: Real>(&self, left: Var<'t, T>, right: Var<'t, T>, lengths: [&[usize]; 2]) -> Var<'t, T> {
        let (x, y) = (left.value(), right.value());
        let dim = x.n_cols();
        let runs: Vec<[(usize, usize); 2]> = {
            let side = |s: usize| starts(lengths[s]).into_iter().zip(lengths[s].iter().copied());
            side(0).zip(side(1)).map(|(left, right)| [left, right]).collect()
        };
        let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| *a * *b).sum::<T>();
        let done: Vec<(T, Array<T>)> = runs
            .par_iter()
            .map(|[(i, n), (j, m)]| {
                let cost = Array::from_fn(*n, *m, |a, b| T::of(1.0) - dot(x.row(i + a), y.row(j + b)));
                let plan = self.plan(&cost);
                (dot(cost.data(), plan.data()), plan)
            })
            .collect();
        let value = Array::new(done.len(), 1, done.iter().map(|(distance, _)| *distance).collect());
        let places = [left.place(), right.place()];
        left.tape().custom(&[left, right], value, move |d, sink| {
            let mut gradients = [Array::zeros(x.n_rows(), dim), Array::zeros(y.n_rows(), dim)];
            for (at, ([(i, n), (j, m)], (_, plan))) in runs.iter().zip(&done).enumerate() {
                for (a, b) in (0..*n).flat_map(|a| (0..*m).map(move |b| (a, b))) {
                    let by = -d.at(at, 0) * plan.at(a, b);
                    gradients[0].row_mut(i + a).iter_mut().zip(y.row(j + b)).for_each(|(d, y)| *d += by * *y);
                    gradients[1].row_mut(j + b).iter_mut().zip(x.row(i + a)).for_each(|(d, x)| *d += by * *x);
                }
            }
            places.into_iter().zip(gradients).for_each(|(place, gradient)| sink.add(place, || gradient));
        })
    }
}
