//! Graphs: what is learned along edges. Items (with features of one or more views) hang together by the tags they share.
//!
//! [`TrainingEdges`] and features make an [`ItemTagGraph`], on which a [`Recommender`] learns a row for each item and tag: by [`lightgcn`], which learns from
//! edges alone, by [`gcn`], or by [`sage`], which gives rows to new items too. [`HeldOutEdges`] say how well. [`Sparse`] is the matrix under all of them.
//! How classes hang together, as a bridge: [`crate::deep::label_gcn`].
//!
//! # How deep
//! Each layer makes neighbours more alike, and many make all nodes alike (Q. Li, Z. Han, X. Wu, Deeper Insights into Graph Convolutional Networks for
//! Semi-Supervised Learning, AAAI 2018), so a recommender has three layers at most.
//!
//! # Determinism
//! The seed decides everything: the same seed, edges and features give the same rows, whatever the count of threads.

mod edges;
pub mod gcn;
#[cfg(test)]
mod goldens;
pub mod lightgcn;
pub(crate) mod network;
mod recommend;
pub mod sage;
mod sparse;

use chiasm_core::{MatrixView, ShapeError};
use chiasm_nn::grad::Array;

pub use self::edges::{FoundEdges, HeldOutEdges, TrainingEdges};
pub use self::recommend::{GraphMethod, Kind, Node, Recommender, RecommenderConfig, Suggestion};
pub use self::sparse::Sparse;
use crate::fit::FitError;

/// Why a graph is none, or cannot be learned from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// A node or entry that is not there.
    #[error("there is no {what} {got}: there are {n}, counted from 0")]
    NoSuch {
        /// Of what kind.
        what: &'static str,
        /// Its number.
        got: u32,
        /// How many there are.
        n: usize,
    },
    /// A weight that is none.
    #[error("entry {entry} of the graph has weight {got}: expected a finite number of at least 0")]
    Weight {
        /// Which entry, as given.
        entry: usize,
        /// Its weight.
        got: f64,
    },
    /// A graph between two kinds where one of a single kind is needed.
    #[error("a graph of {n_rows} rows and {n_cols} columns has no loops: expected as many rows as columns")]
    NotSquare {
        /// Its rows.
        n_rows: usize,
        /// Its columns.
        n_cols: usize,
    },
    /// An edge to be found that was learned from.
    #[error("the edge from item {item} to tag {tag} is learned from: held-out edges must not be")]
    Leak {
        /// Its item.
        item: u32,
        /// Its tag.
        tag: u32,
    },
    /// Other counts of rows than those of the graph.
    #[error("{got} rows of {what}, expected {expected}")]
    Rows {
        /// Rows of what.
        what: &'static str,
        /// How many came.
        got: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A view's rows that are no numbers.
    #[error("features of view {view}: {cause}")]
    Features {
        /// The view.
        view: usize,
        /// Where in it.
        cause: ShapeError,
    },
    /// Features of another width, or of another count of views.
    #[error("features of {got:?} columns, the graph has {expected:?}")]
    Widths {
        /// Columns of each view that came.
        got: Vec<usize>,
        /// Those of the graph.
        expected: Vec<usize>,
    },
    /// A method that learns from features got none.
    #[error("{method} learns from features of items, and the graph has none: give views, or use lightgcn")]
    NoFeatures {
        /// The method.
        method: &'static str,
    },
    /// A method that knows only what it learned from, asked for new items.
    #[error("{method} knows no items but those it learned from: use graphsage for new ones")]
    NotInductive {
        /// The method.
        method: &'static str,
    },
    /// Too little to learn from.
    #[error(
        "a graph of {items} items, {tags} tags and {edges} edges teaches nothing: expected two items, two tags and an edge at least"
    )]
    TooSmall {
        /// Items.
        items: usize,
        /// Tags.
        tags: usize,
        /// Edges.
        edges: usize,
    },
    /// What any fit may refuse.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl GraphError {
    fn in_range(what: &'static str, got: u32, n: usize) -> Result<(), GraphError> {
        if (got as usize) < n { Ok(()) } else { Err(GraphError::NoSuch { what, got, n }) }
    }

    fn config(name: &'static str, value: String, expected: &'static str) -> GraphError {
        GraphError::Fit(FitError::Config { name, value, expected })
    }
}

/// Items with features, and the tags they have, as far as learning may know.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemTagGraph {
    edges: TrainingEdges,
    features: Array<f64>,
    scaling: Scaling,
}

impl ItemTagGraph {
    /// A graph of these edges, with one matrix `[items, d_v]` of features for each view; none for methods that need none.
    ///
    /// # Errors
    /// [`GraphError::Rows`], [`GraphError::Features`].
    pub fn new(edges: TrainingEdges, views: &[MatrixView<'_>]) -> Result<Self, GraphError> {
        for (view, x) in views.iter().enumerate() {
            if x.n() != edges.n_items() {
                return Err(GraphError::Rows { what: "features", got: x.n(), expected: edges.n_items() });
            }
            x.check_finite().map_err(|cause| GraphError::Features { view, cause })?;
        }
        let scaling = Scaling::new(views);
        let features = scaling.apply(views)?;
        Ok(Self { edges, features, scaling })
    }

    /// Count of items.
    pub fn n_items(&self) -> usize {
        self.edges.n_items()
    }

    /// Count of tags.
    pub fn n_tags(&self) -> usize {
        self.edges.n_tags()
    }

    /// What is learned from.
    pub fn edges(&self) -> &TrainingEdges {
        &self.edges
    }

    /// The features of all views side by side, each view centred and of mean squared length 1 / views, `[items, d]`.
    pub fn features(&self) -> &Array<f64> {
        &self.features
    }
}

/// How features of several views become one row.
#[derive(Clone, Debug, PartialEq)]
struct Scaling {
    /// The mean of each view, `[d_v]`.
    means: Vec<Vec<f64>>,
    /// What each view is multiplied by.
    factors: Vec<f64>,
}

impl Scaling {
    fn new(views: &[MatrixView<'_>]) -> Self {
        let (mut means, mut factors) = (Vec::new(), Vec::new());
        for x in views {
            let share = 1.0 / x.n().max(1) as f64;
            let mut mean = vec![0.0; x.dim()];
            x.rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += share * f64::from(*x)));
            let square = |row: &[f32]| row.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum::<f64>();
            let squares = share * x.rows().map(square).sum::<f64>();
            // Columns that never change say nothing, and are left at zeros.
            factors.push(if squares > 0.0 { 1.0 / (squares * views.len() as f64).sqrt() } else { 0.0 });
            means.push(mean);
        }
        Self { means, factors }
    }

    fn apply(&self, views: &[MatrixView<'_>]) -> Result<Array<f64>, GraphError> {
        let widths = |of: &mut dyn Iterator<Item = usize>| of.collect::<Vec<usize>>();
        let (got, expected) = (widths(&mut views.iter().map(MatrixView::dim)), widths(&mut self.means.iter().map(Vec::len)));
        if got != expected {
            return Err(GraphError::Widths { got, expected });
        }
        let n = views.first().map_or(0, MatrixView::n);
        for (view, x) in views.iter().enumerate() {
            if x.n() != n {
                return Err(GraphError::Rows { what: "features", got: x.n(), expected: n });
            }
            x.check_finite().map_err(|cause| GraphError::Features { view, cause })?;
        }
        let mut data = Vec::with_capacity(n * got.iter().sum::<usize>());
        for i in 0..n {
            for ((x, mean), factor) in views.iter().zip(&self.means).zip(&self.factors) {
                data.extend(x.row(i).iter().zip(mean).map(|(x, mean)| factor * (f64::from(*x) - mean)));
            }
        }
        Ok(Array::new(n, got.iter().sum(), data))
    }
}
