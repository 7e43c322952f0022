//! GraphSAGE: a node's row from its own features and the mean of its neighbours', so that nodes never seen before get rows too.
//!
//! # Reference
//! W. L. Hamilton, R. Ying, J. Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017, algorithms 1 and 2 with the mean aggregator. Checked
//! against dense torch (`reference/align_graph_goldens.py`). Differs from it in: the last layer has no relu, since comparisons want both signs; neighbours are
//! drawn without replacement, and all are taken where there are fewer; the edges that a step is asked for are no neighbours in that step; a share of a
//! step's items gets no neighbours at all (as M. Volkovs, G. Yu, T. Poutanen, DropoutNet, NeurIPS 2017, leave out what a new item lacks), for that is what new
//! items look like; the loss is [`super::lightgcn::bpr`] over cosines with a learned scale.
//!
//! # Model
//! h_v^l = u(s([h_v^(l-1), mean over N(v) of h^(l-1)] W^l + b^l)), u(z) = z / |z|, s = relu but in the last layer; h^0 of an item is x F of its features x, of a tag a
//! learned row. Scores are e^t h_i . h_t.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | W^l, b^l | parameters | `[2 d, d]`, `[1, d]` | - |
//! | S_l | [`super::RecommenderConfig::n_neighbours`] | - | at least 1 |
//! | mean over N(v) | [`Block::mean`] | `[n, m]` | rows sum to 1 or 0 |
//!
//! # Cost
//! O(b S^L d^2) a step of b nodes, whatever the size of the graph.
//!
//! # Determinism
//! The seed draws the start, batches, negatives and neighbours; nothing depends on the count of threads.
//!
//! # Errors
//! [`GraphError::NoFeatures`](super::GraphError::NoFeatures) without features.

use std::collections::BTreeMap;

use chiasm_nn::grad::{Array, Tape, Var};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::network::{Asked, Network, Parameter, drawn};
use super::{ItemTagGraph, Sparse};

/// One layer's nodes: the first of the rows that come in are those that go out.
#[derive(Clone, Debug)]
pub struct Block {
    /// The weights by which rows that come in are averaged, for each that goes out, `[n_out, n_in]`.
    pub mean: Sparse,
}

impl Block {
    /// All nodes of a homogeneous graph, each with all its neighbours.
    pub fn whole(graph: &Sparse) -> Self {
        Self { mean: graph.averaging() }
    }
}

/// A layer: rows `[n_out, d']` of rows `[n_in, d]`, by a weight `[2 d, d']` and a bias `[1, d']`.
///
/// # Panics
/// If the shapes do not fit.
pub fn layer<'t>(h: Var<'t, f64>, block: &Block, [weight, bias]: [Var<'t, f64>; 2], is_last: bool) -> Var<'t, f64> {
    let own: Vec<usize> = (0..block.mean.n_rows()).collect();
    let both = h.tape().beside(&[h.rows(own), block.mean.times(h)]);
    let next = both.dot(weight).add_row(bias);
    if is_last { next.unit_rows() } else { next.relu().unit_rows() }
}

/// The layers over a graph of items and tags.
pub(super) struct Sage<'a> {
    pub(super) graph: &'a ItemTagGraph,
    /// The neighbours of each node, items first, ascending.
    pub(super) neighbours: Vec<Vec<u32>>,
    pub(super) dim: usize,
    pub(super) n_layers: usize,
    pub(super) n_neighbours: usize,
    pub(super) isolated: f64,
}

impl<'a> Sage<'a> {
    pub(super) fn new(graph: &'a ItemTagGraph, [dim, n_layers, n_neighbours]: [usize; 3], isolated: f64) -> Self {
        let all = graph.edges().without(&[]).bipartite();
        let neighbours = (0..all.n_rows()).map(|node| all.row(node).map(|(other, _)| other).collect()).collect();
        Self { graph, neighbours, dim, n_layers, n_neighbours, isolated }
    }

    /// The nodes whose features go in, and the blocks, first layer first.
    fn blocks(&self, asked: &Asked<'_>) -> (Vec<usize>, Vec<Block>) {
        let n_items = self.graph.n_items() as u32;
        let mut rng = asked.seed.map(ChaCha8Rng::seed_from_u64);
        let is_hidden = |a: u32, b: u32| asked.hidden.binary_search(&(a.min(b), a.max(b) - n_items)).is_ok();
        let alone: Vec<bool> = match &mut rng {
            Some(rng) => self.neighbours[..n_items as usize].iter().map(|_| rng.random::<f64>() < self.isolated).collect(),
            None => vec![false; n_items as usize],
        };
        let mut nodes = asked.nodes.to_vec();
        let mut blocks = Vec::with_capacity(self.n_layers);
        for _ in 0..self.n_layers {
            let n_out = nodes.len();
            let mut places: BTreeMap<usize, u32> = nodes.iter().enumerate().map(|(at, node)| (*node, at as u32)).collect();
            let mut entries = Vec::new();
            for at in 0..n_out {
                let node = nodes[at];
                if alone.get(node).copied().unwrap_or(false) {
                    continue;
                }
                // An item is nobody's neighbour either where it is to look like one that has none.
                let seen =
                    |other: &&u32| !is_hidden(node as u32, **other) && !alone.get(**other as usize).copied().unwrap_or(false);
                let mut near: Vec<u32> = self.neighbours[node].iter().filter(seen).copied().collect();
                if let Some(rng) = &mut rng
                    && near.len() > self.n_neighbours
                {
                    near = near.partial_shuffle(rng, self.n_neighbours).0.to_vec();
                    near.sort_unstable();
                }
                let share = 1.0 / near.len().max(1) as f64;
                for other in near {
                    let place = *places.entry(other as usize).or_insert_with(|| {
                        nodes.push(other as usize);
                        nodes.len() as u32 - 1
                    });
                    entries.push((at as u32, place, share));
                }
            }
            blocks.push(Block { mean: Sparse::of(n_out, nodes.len(), entries) });
        }
        blocks.reverse();
        (nodes, blocks)
    }

    /// What goes into the first layer: x F of items, learned rows of tags, in the order of the nodes.
    fn features<'t>(&self, parameters: &[Var<'t, f64>], nodes: &[usize]) -> Var<'t, f64> {
        let n_items = self.graph.n_items();
        let (items, tags): (Vec<usize>, Vec<usize>) = nodes.iter().partition(|node| **node < n_items);
        let tape = parameters[0].tape();
        let of_items = tape.constant(self.graph.features().pick(&items)).dot(parameters[0]);
        let of_tags = parameters[1].rows(tags.iter().map(|node| node - n_items).collect::<Vec<_>>());
        let (mut item, mut tag) = (0..items.len(), items.len()..nodes.len());
        let order: Vec<usize> =
            nodes.iter().filter_map(|node| if *node < n_items { item.next() } else { tag.next() }).collect();
        tape.under(&[of_items, of_tags]).rows(order)
    }
}

/// All layers, the last of which has no relu; `weights` are weight and bias of each.
pub(super) fn layers<'t>(h: Var<'t, f64>, blocks: &[Block], weights: &[Var<'t, f64>]) -> Var<'t, f64> {
    let both = blocks.iter().zip(weights.chunks_exact(2)).enumerate();
    both.fold(h, |h, (at, (block, weights))| layer(h, block, [weights[0], weights[1]], at + 1 == blocks.len()))
}

/// The rows of new items with these features and no tags, `[n, d]`; `parameters` are F, the rows of tags, and weight and bias of each layer.
pub(super) fn embed_new(parameters: &[Array<f64>], features: &Array<f64>, n_layers: usize) -> Array<f64> {
    let tape = Tape::new();
    let parameters: Vec<_> = parameters.iter().map(|parameter| tape.constant(parameter.clone())).collect();
    let n = features.n_rows();
    let block = Block { mean: Sparse::of(n, n, Vec::new()) };
    let h = tape.constant(features.clone()).dot(parameters[0]);
    let rows = layers(h, &vec![block; n_layers], &parameters[2..2 + 2 * n_layers]).value();
    Array::clone(&rows)
}

impl Network for Sage<'_> {
    /// F, the rows of tags, and weight and bias of each layer.
    fn start(&self, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        let (d, scale) = (self.dim, 1.0 / (self.dim as f64).sqrt());
        let mut all = Vec::new();
        for height in [self.graph.features().n_cols(), self.graph.n_tags()] {
            all.push(Parameter { value: drawn(height, d, scale, rng), decays: true });
        }
        for _ in 0..self.n_layers {
            all.push(Parameter { value: drawn(2 * d, d, scale, rng), decays: true });
            all.push(Parameter { value: Array::zeros(1, d), decays: false });
        }
        all
    }

    fn embed<'t>(&self, parameters: &[Var<'t, f64>], asked: &Asked<'_>) -> Var<'t, f64> {
        let (nodes, blocks) = self.blocks(asked);
        let h = self.features(parameters, &nodes);
        layers(h, &blocks, &parameters[2..2 + 2 * self.n_layers])
    }

    fn is_unit(&self) -> bool {
        true
    }
}
