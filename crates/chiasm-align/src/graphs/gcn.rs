//! Graph convolution: each node becomes a weighted mean of itself and its neighbours, mapped by weights that all nodes share.
//!
//! # Reference
//! T. N. Kipf, M. Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, eq. 2, 8 and 9. Checked against dense torch
//! (`reference/align_graph_goldens.py`). Differs from it in: what comes out is not classified but compared ([`super::Recommender`]); the edges that a
//! step is asked for are left out of the graph in that step, since a layer that sees an edge need not learn to tell it.
//!
//! # Model
//! H^(l+1) = s(G H^(l) W^(l)), G = D^-1/2 (A + I) D^-1/2, D_ii = sum_j (A + I)_ij; s is relu, and nothing after the last layer. As nodes of a graph of items
//! and tags: H^(0) = [X F; T], where X are the features of items and T rows that are learned, one for each tag.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | D^-1/2 (A + I) D^-1/2 | [`propagation`] | `[n, n]` | 0 to 1 |
//! | H^(0) | `h` of [`layers`] | `[n, d]` | - |
//! | W^(l) | `weights` of [`layers`] | `[d_l, d_l+1]` | - |
//!
//! # Cost
//! O(e d + n d^2) a layer and step, for n nodes and e edges; all nodes take every step, so the graph and its nodes must fit in memory.
//!
//! # Determinism
//! The seed draws the start, batches and negatives; nothing depends on the count of threads.
//!
//! # Errors
//! [`GraphError::NotSquare`]; [`GraphError::NoFeatures`] of a recommender without them.
//!
//! # Example
//! ```
//! use chiasm_align::graphs::{Sparse, gcn};
//! use chiasm_nn::grad::{Array, Tape};
//! let path = Sparse::new(3, 3, &[(0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 1, 1.0)])?;
//! let tape = Tape::new();
//! let (h, w) = (tape.constant(Array::new(3, 1, vec![1.0, 0.0, 0.0])), tape.leaf(Array::scalar(1.0)));
//! let y = gcn::layers(h, &gcn::propagation(&path)?, &[w]).value();
//! assert!((y.data()[0] - 0.5).abs() < 1e-12 && (y.data()[1] - 1.0 / 6f64.sqrt()).abs() < 1e-12 && y.data()[2] == 0.0);
//! # Ok::<(), chiasm_align::graphs::GraphError>(())
//! ```

use chiasm_nn::grad::{Array, Var};
use rand_chacha::ChaCha8Rng;

use super::network::{Asked, Network, Parameter, drawn};
use super::{GraphError, ItemTagGraph, Sparse};

/// `D^-1/2 (A + I) D^-1/2`.
///
/// # Errors
/// [`GraphError::NotSquare`].
pub fn propagation(graph: &Sparse) -> Result<Sparse, GraphError> {
    Ok(graph.with_loops()?.normalised())
}

/// The last layer's rows `[n, d_L]` of nodes that begin as `h [n, d_0]`, a layer for each of `weights`.
///
/// # Panics
/// If the shapes do not fit.
pub fn layers<'t>(h: Var<'t, f64>, propagation: &Sparse, weights: &[Var<'t, f64>]) -> Var<'t, f64> {
    weights.iter().enumerate().fold(h, |h, (layer, weight)| {
        let next = propagation.times(h.dot(*weight));
        if layer + 1 < weights.len() { next.relu() } else { next }
    })
}

/// The layers over a graph of items and tags.
pub(super) struct Gcn<'a> {
    pub(super) graph: &'a ItemTagGraph,
    pub(super) dim: usize,
    pub(super) n_layers: usize,
}

impl Network for Gcn<'_> {
    /// F, T, and a weight for each layer.
    fn start(&self, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        // Rows of unit length go in, and all that comes out of a layer keeps about that length.
        let scale = 1.0 / (self.dim as f64).sqrt();
        let heights =
            [self.graph.features().n_cols(), self.graph.n_tags()].into_iter().chain((0..self.n_layers).map(|_| self.dim));
        heights.map(|height| Parameter { value: drawn(height, self.dim, scale, rng), decays: true }).collect()
    }

    fn embed<'t>(&self, parameters: &[Var<'t, f64>], asked: &Asked<'_>) -> Var<'t, f64> {
        let tape = parameters[0].tape();
        let items = tape.constant(Array::clone(self.graph.features())).dot(parameters[0]);
        let h = tape.under(&[items, parameters[1]]);
        let graph = self.graph.edges().without(asked.hidden).bipartite();
        let propagation = propagation(&graph).expect("the graph of all nodes is square");
        layers(h, &propagation, &parameters[2..2 + self.n_layers]).rows(asked.nodes)
    }
}
