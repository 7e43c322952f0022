//! LightGCN: rows that are learned for each node, smoothed along the edges, and nothing else.
//!
//! # Reference
//! X. He, K. Deng, X. Wang, Y. Li, Y. Zhang, M. Wang, LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020,
//! eq. 3, 4 and 15; the loss: S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme, BPR: Bayesian Personalized Ranking from Implicit Feedback,
//! UAI 2009. Checked against dense torch (`reference/align_graph_goldens.py`). Differs from it in: wrong answers are drawn for both ends of an edge, since
//! both tags and items are asked for; means over the batch in place of sums; AdamW with a falling rate in place of Adam.
//!
//! # Model
//! E^(k+1) = D^-1/2 A D^-1/2 E^(k), no loops; E = 1/(K + 1) sum_k E^(k); y_it = e_i . e_t;
//! L = mean over edges (i, t) and wrong t', i' of -ln s(y_it - y_it') - ln s(y_it - y_i't), + lambda |E^(0) of the batch|^2 / its edges.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | E^(0) | the only parameter | `[n, d]` | - |
//! | K | [`super::RecommenderConfig::n_layers`] | - | 1 to 3 |
//! | lambda | [`super::RecommenderConfig::l2`] | - | at least 0 |
//!
//! # Cost
//! O(K e d) a step for e edges; the rows of all nodes and the graph must fit in memory.
//!
//! # Determinism
//! The seed draws the start, batches and negatives; nothing depends on the count of threads.
//!
//! # Errors
//! None of its own. It knows no item that it did not learn from: [`GraphError::NotInductive`](super::GraphError::NotInductive).
//!
//! # Example
//! ```
//! use chiasm_align::graphs::{Sparse, lightgcn};
//! use chiasm_nn::grad::{Array, Tape};
//! let edge = Sparse::new(1, 1, &[(0, 0, 1.0)])?.bipartite().normalised();
//! let tape = Tape::new();
//! let e = lightgcn::propagate(tape.leaf(Array::new(2, 1, vec![3.0, 1.0])), &edge, 1);
//! assert_eq!(e.value().data(), [2.0, 2.0]);
//! # Ok::<(), chiasm_align::graphs::GraphError>(())
//! ```

use chiasm_nn::grad::Var;
use rand_chacha::ChaCha8Rng;

use super::network::{Asked, Network, Parameter, drawn};
use super::{ItemTagGraph, Sparse};

/// Deviation of the rows at the start, as in the authors' code.
const START: f64 = 0.1;

/// The mean of `e [n, d]` and of what it becomes by `n_layers` products with the normalised graph.
///
/// # Panics
/// If the graph has not as many rows and columns as `e` has rows.
pub fn propagate<'t>(e: Var<'t, f64>, normalised: &Sparse, n_layers: usize) -> Var<'t, f64> {
    let (mut layer, mut sum) = (e, e);
    for _ in 0..n_layers {
        layer = normalised.times(layer);
        sum = sum + layer;
    }
    sum.scaled(1.0 / (n_layers + 1) as f64)
}

/// `mean -ln s(right - wrong)`, `[1, 1]`, of scores `[n, 1]` (BPR).
///
/// # Panics
/// If there are not as many of both.
pub fn bpr<'t>(right: Var<'t, f64>, wrong: Var<'t, f64>) -> Var<'t, f64> {
    (wrong - right).softplus().mean()
}

/// The rows of all items and tags.
pub(super) struct LightGcn {
    normalised: Sparse,
    dim: usize,
    n_layers: usize,
    l2: f64,
}

impl LightGcn {
    pub(super) fn new(graph: &ItemTagGraph, dim: usize, n_layers: usize, l2: f64) -> Self {
        Self { normalised: graph.edges().without(&[]).bipartite().normalised(), dim, n_layers, l2 }
    }
}

impl Network for LightGcn {
    fn start(&self, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        vec![Parameter { value: drawn(self.normalised.n_rows(), self.dim, START, rng), decays: false }]
    }

    fn embed<'t>(&self, parameters: &[Var<'t, f64>], asked: &Asked<'_>) -> Var<'t, f64> {
        propagate(parameters[0], &self.normalised, self.n_layers).rows(asked.nodes)
    }

    fn penalty<'t>(&self, parameters: &[Var<'t, f64>], asked: &Asked<'_>) -> Option<Var<'t, f64>> {
        let share = self.l2 / asked.hidden.len().max(1) as f64;
        (self.l2 > 0.0).then(|| parameters[0].rows(asked.nodes).square().sum().scaled(share))
    }
}
