//! Tags for items, items for tags and items for items, by rows that are learned along the edges of a graph.
//!
//! Batches of edges are told from wrong ones by [`super::lightgcn::bpr`], wrong ends drawn for both; which rows nodes have is the method's own matter.

use chiasm_core::MatrixView;
use chiasm_nn::grad::{Array, Tape};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::edges::best;
use super::gcn::Gcn;
use super::lightgcn::{LightGcn, bpr};
use super::network::{Asked, Learning, Network, Parameter, turned};
use super::sage::{self, Sage};
use super::{GraphError, ItemTagGraph, Scaling, TrainingEdges};
use crate::course::{Course, Learner};
use crate::deep::descent::Pace;
use crate::draft::{Part, Saved};
use crate::fit::{FitError, Run};
use crate::hashing::above_zero;
use crate::linalg::Mat;
use crate::reduced::{at_least_one, at_least_zero};

/// Length of all gradients together at most.
const MAX_NORM: f64 = 2.0;
/// What cosines are multiplied by at first.
const SCALE: f64 = 5.0;
/// How often a wrong end is drawn anew where it is a right one.
const TRIES: usize = 64;

/// Whence nodes have their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphMethod {
    /// [`super::lightgcn`]: from edges alone.
    LightGcn,
    /// [`super::gcn`]: from features and edges.
    Gcn,
    /// [`super::sage`]: from features and sampled edges; new items too.
    GraphSage,
}

impl GraphMethod {
    /// All of them.
    pub const ALL: [GraphMethod; 3] = [GraphMethod::LightGcn, GraphMethod::Gcn, GraphMethod::GraphSage];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            GraphMethod::LightGcn => "lightgcn",
            GraphMethod::Gcn => "gcn",
            GraphMethod::GraphSage => "graphsage",
        }
    }
}

/// A recommender's method and how it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct RecommenderConfig {
    /// Whence nodes have their rows.
    pub method: GraphMethod,
    /// Columns of a row; 1 to 4096.
    pub dim: usize,
    /// How many edges far a node sees; 1 to 3, for with more all nodes become alike.
    pub n_layers: usize,
    /// Times that all edges are learned from.
    pub n_epochs: usize,
    /// Edges of a step; at least 1.
    pub batch: usize,
    /// Greatest learning rate; above 0.
    pub learning_rate: f64,
    /// Decoupled weight decay of what all nodes share; at least 0.
    pub weight_decay: f64,
    /// Weight of the squared rows of a step's nodes, of LightGCN; at least 0.
    pub l2: f64,
    /// Neighbours drawn for a node in each layer while learning, of GraphSAGE; at least 1.
    pub n_neighbours: usize,
    /// Share of items that learn as if they had no tags, of GraphSAGE; at least 0, below 1.
    pub isolated: f64,
}

impl RecommenderConfig {
    /// What suits a method.
    pub fn new(method: GraphMethod) -> Self {
        Self {
            method,
            dim: 64,
            n_layers: 2,
            n_epochs: 60,
            batch: 512,
            learning_rate: 0.01,
            weight_decay: 0.1,
            l2: 1e-3,
            n_neighbours: 10,
            isolated: 0.5,
        }
    }

    fn check(&self) -> Result<(), GraphError> {
        if !(1..=4096).contains(&self.dim) {
            return Err(GraphError::config("dim", self.dim.to_string(), "1 to 4096"));
        }
        if !(1..=3).contains(&self.n_layers) {
            return Err(GraphError::config(
                "n_layers",
                self.n_layers.to_string(),
                "1 to 3, for with more all nodes become alike",
            ));
        }
        for (name, value) in [("batch", self.batch), ("n_neighbours", self.n_neighbours)] {
            at_least_one(name, value)?;
        }
        above_zero("learning_rate", self.learning_rate)?;
        at_least_zero("weight_decay", self.weight_decay)?;
        at_least_zero("l2", self.l2)?;
        if !(0.0..1.0).contains(&self.isolated) {
            return Err(GraphError::config("isolated", self.isolated.to_string(), "a share of at least 0 and below 1"));
        }
        Ok(())
    }
}

/// An item or a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// An item, counted from 0.
    Item(u32),
    /// A tag, counted from 0.
    Tag(u32),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Items.
    Items,
    /// Tags.
    Tags,
}

/// What is recommended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suggestion {
    /// The item or tag, counted from 0.
    pub which: u32,
    /// How well it fits, greater for better: an inner product between kinds, a cosine within one.
    pub score: f64,
}

/// Rows of items and tags, learned along the edges of a graph.
///
/// ```
/// use chiasm_align::Run;
/// use chiasm_align::graphs::{GraphMethod, ItemTagGraph, Kind, Node, Recommender, RecommenderConfig, TrainingEdges};
/// use chiasm_core::{Cancel, NoProgress};
/// // Items 0 to 2 have tags 0 and 1, items 3 to 5 tags 2 and 3; item 2 lacks tag 1.
/// let edges = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 2), (3, 3), (4, 2), (4, 3), (5, 2), (5, 3)];
/// let graph = ItemTagGraph::new(TrainingEdges::new(6, 4, &edges)?, &[])?;
/// let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
/// let recommender = Recommender::fit(&RecommenderConfig::new(GraphMethod::LightGcn), &graph, &run)?;
/// assert_eq!(recommender.recommend(Node::Item(2), Kind::Tags, 1)?[0].which, 1);
/// # Ok::<(), chiasm_align::graphs::GraphError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recommender {
    config: RecommenderConfig,
    edges: TrainingEdges,
    scaling: Scaling,
    parameters: Vec<Array<f64>>,
    /// Items first, tags after them, `[items + tags, dim]`.
    rows: Array<f64>,
}

impl Recommender {
    /// Learns from a graph. Where the run keeps a draft, what was stopped goes on at its step.
    ///
    /// # Errors
    /// [`GraphError::TooSmall`], [`GraphError::NoFeatures`]; [`FitError::Config`], [`FitError::Numeric`] and [`FitError::Cancelled`] as [`GraphError::Fit`].
    pub fn fit(config: &RecommenderConfig, graph: &ItemTagGraph, run: &Run<'_>) -> Result<Self, GraphError> {
        config.check()?;
        let (items, tags, edges) = (graph.n_items(), graph.n_tags(), graph.edges().n());
        if items < 2 || tags < 2 || edges == 0 {
            return Err(GraphError::TooSmall { items, tags, edges });
        }
        if config.method != GraphMethod::LightGcn && graph.features().n_cols() == 0 {
            return Err(GraphError::NoFeatures { method: config.method.name() });
        }
        let network: Box<dyn Trained> = match config.method {
            GraphMethod::LightGcn => Box::new(LightGcn::new(graph, config.dim, config.n_layers, config.l2)),
            GraphMethod::Gcn => Box::new(Gcn { graph, dim: config.dim, n_layers: config.n_layers }),
            GraphMethod::GraphSage => {
                Box::new(Sage::new(graph, [config.dim, config.n_layers, config.n_neighbours], config.isolated))
            }
        };
        let (parameters, rows) = network.train(config, graph, run)?;
        Ok(Self { config: config.clone(), edges: graph.edges().clone(), scaling: graph.scaling.clone(), parameters, rows })
    }

    /// How it was learned.
    pub fn config(&self) -> &RecommenderConfig {
        &self.config
    }

    /// The rows of all nodes, items first, `[items + tags, dim]`.
    pub fn rows(&self) -> &Array<f64> {
        &self.rows
    }

    /// The `k` nodes of a kind that fit one best. Tags that an item is known to have are left out, and items that a tag is known to be of; a node is not
    /// recommended for itself.
    ///
    /// # Errors
    /// [`GraphError::NoSuch`]; [`GraphError::Fit`] for `k` = 0.
    pub fn recommend(&self, of: Node, want: Kind, k: usize) -> Result<Vec<Suggestion>, GraphError> {
        at_least_one("k", k)?;
        let (n_items, n_tags) = (self.edges.n_items(), self.edges.n_tags());
        let (row, known): (usize, Vec<u32>) = match (of, want) {
            (Node::Item(item), _) => {
                GraphError::in_range("item", item, n_items)?;
                let known = if want == Kind::Tags { self.edges.of_item(item as usize).to_vec() } else { vec![item] };
                (item as usize, known)
            }
            (Node::Tag(tag), _) => {
                GraphError::in_range("tag", tag, n_tags)?;
                let having = (0..n_items as u32).filter(|item| self.edges.has(*item, tag));
                (n_items + tag as usize, if want == Kind::Items { having.collect() } else { vec![tag] })
            }
        };
        let same = matches!((of, want), (Node::Item(_), Kind::Items) | (Node::Tag(_), Kind::Tags));
        let scores = self.scores(self.rows.row(row), want, same);
        let ranked = best(&scores, &known, scores.len(), k)?;
        Ok(ranked.into_iter().map(|(which, score)| Suggestion { which, score }).collect())
    }

    /// The scores of all tags for an item, known ones among them.
    ///
    /// # Errors
    /// [`GraphError::NoSuch`].
    pub fn tag_scores(&self, item: u32) -> Result<Vec<f64>, GraphError> {
        GraphError::in_range("item", item, self.edges.n_items())?;
        Ok(self.scores(self.rows.row(item as usize), Kind::Tags, false))
    }

    /// The rows of new items, of which nothing is known but their features, `[n, dim]`. [`Recommender::tag_scores_of`] ranks tags for them.
    ///
    /// # Errors
    /// [`GraphError::NotInductive`] but for GraphSAGE; [`GraphError::Widths`], [`GraphError::Rows`], [`GraphError::Features`].
    pub fn embed_new(&self, views: &[MatrixView<'_>]) -> Result<Array<f64>, GraphError> {
        if self.config.method != GraphMethod::GraphSage {
            return Err(GraphError::NotInductive { method: self.config.method.name() });
        }
        Ok(sage::embed_new(&self.parameters, &self.scaling.apply(views)?, self.config.n_layers))
    }

    /// The scores of all tags for a row of [`Recommender::embed_new`].
    ///
    /// # Errors
    /// [`GraphError::Rows`] for a row of another width.
    pub fn tag_scores_of(&self, row: &[f64]) -> Result<Vec<f64>, GraphError> {
        if row.len() != self.config.dim {
            return Err(GraphError::Widths { got: vec![row.len()], expected: vec![self.config.dim] });
        }
        Ok(self.scores(row, Kind::Tags, false))
    }

    fn scores(&self, row: &[f64], of: Kind, as_cosines: bool) -> Vec<f64> {
        let n_items = self.edges.n_items();
        let range = if of == Kind::Items { 0..n_items } else { n_items..self.rows.n_rows() };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let length = |a: &[f64]| if as_cosines { dot(a, a).sqrt().max(f64::MIN_POSITIVE) } else { 1.0 };
        range.map(|node| self.rows.row(node)).map(|other| dot(row, other) / length(row) / length(other)).collect()
    }
}

/// What is left when all has been learned: the parameters, and the rows of all nodes.
type Learned = (Vec<Array<f64>>, Array<f64>);

/// A network that can be trained.
trait Trained {
    fn train(&self, config: &RecommenderConfig, graph: &ItemTagGraph, run: &Run<'_>) -> Result<Learned, GraphError>;
}

impl<N: Network> Trained for N {
    fn train(&self, config: &RecommenderConfig, graph: &ItemTagGraph, run: &Run<'_>) -> Result<Learned, GraphError> {
        let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
        let edges = graph.edges();
        let all = edges.all();
        let mut parameters = self.start(&mut rng);
        if self.is_unit() {
            parameters.push(Parameter { value: Array::scalar(SCALE.ln()), decays: false });
        }
        let pace = Pace {
            rate: config.learning_rate,
            decay: config.weight_decay,
            max_norm: MAX_NORM,
            of_steps: config.n_epochs * all.len().div_ceil(config.batch),
        };
        let mut part = Part::new(run, "edges", |key| {
            key.words(&format!("{config:?} {} {}", edges.n_items(), edges.n_tags()));
            key.numbers(&all.iter().flat_map(|(item, tag)| [*item, *tag]).collect::<Vec<_>>());
            key.mat(&turned(graph.features()));
        });
        let saved = part.read().and_then(|bytes| Saved::from_bytes(&bytes));
        let course =
            Course { stage: "learning along edges", max_epochs: config.n_epochs, part: &mut part, saved: saved.as_ref(), run };
        let begin = || {
            let learning = Learning::new(parameters.clone(), pace);
            let (order, rng) = (all.clone(), rng.clone());
            Ok(vec![Way { network: self, edges, batch: config.batch, learning, order, n_steps: 0, loss: f64::NAN, rng }])
        };
        let (learned, _) = course.go(&begin, None)?;
        let parameters = learned[0].learning.means();
        let tape = Tape::new();
        let leaves: Vec<_> = parameters.iter().map(|parameter| tape.constant(parameter.clone())).collect();
        let nodes: Vec<usize> = (0..edges.n_items() + edges.n_tags()).collect();
        let rows = self.embed(&leaves, &Asked { nodes: &nodes, hidden: &[], seed: None }).value();
        if !rows.is_finite() {
            return Err(FitError::Numeric { what: "learning along edges (a lower learning rate may help)" }.into());
        }
        Ok((parameters, Array::clone(&rows)))
    }
}

/// A network on its way.
struct Way<'a, N: ?Sized> {
    network: &'a N,
    edges: &'a TrainingEdges,
    /// Edges of a step.
    batch: usize,
    learning: Learning,
    /// The edges in the order of this epoch.
    order: Vec<(u32, u32)>,
    n_steps: usize,
    /// Of the last step.
    loss: f64,
    rng: ChaCha8Rng,
}

impl<N: ?Sized> Way<'_, N> {
    fn n_batches(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }
}

impl<N: Network + ?Sized> Learner for Way<'_, N> {
    fn step(&mut self) -> Result<(), FitError> {
        let at = self.n_steps % self.n_batches();
        if at == 0 {
            self.order.shuffle(&mut self.rng);
        }
        let batch = self.order.chunks(self.batch).nth(at).expect("as many batches as were counted");
        self.loss = step(self.network, &mut self.learning, self.edges, batch, &mut self.rng)?;
        self.n_steps += 1;
        Ok(())
    }

    fn n_epochs(&self) -> usize {
        self.n_steps / self.n_batches()
    }

    fn told(&self) -> [f64; 2] {
        [self.loss, self.learning.rate()]
    }

    fn save(&self, saved: &mut Saved, name: &str) {
        self.learning.save(saved, name);
        saved.set(format!("{name}.done"), self.n_steps);
        saved.set(format!("{name}.chances"), self.rng.get_word_pos());
        let end = |(item, tag): (u32, u32), end: usize| f64::from([item, tag][end]);
        saved.set_mats(&format!("{name}.order"), &[Mat::from_fn(self.order.len(), 2, |i, j| end(self.order[i], j))]);
    }

    fn restore(&mut self, saved: &Saved, name: &str) -> Option<()> {
        let order = saved.mats(&format!("{name}.order")).pop().filter(|order| order.shape() == (self.order.len(), 2))?;
        let (n_steps, chances) = (saved.get(&format!("{name}.done"))?, saved.get(&format!("{name}.chances"))?);
        self.learning.restore(saved, name)?;
        self.order = (0..order.nrows()).map(|i| (order[(i, 0)] as u32, order[(i, 1)] as u32)).collect();
        self.n_steps = n_steps;
        self.rng.set_word_pos(chances);
        Some(())
    }
}

/// One step: right edges told from wrong ones at both ends. Gives the loss.
fn step<N: Network + ?Sized>(
    network: &N,
    learning: &mut Learning,
    edges: &TrainingEdges,
    batch: &[(u32, u32)],
    rng: &mut ChaCha8Rng,
) -> Result<f64, FitError> {
    let n_items = edges.n_items();
    let (mut right, mut wrong_tag, mut wrong_item) = (Vec::new(), Vec::new(), Vec::new());
    for (item, tag) in batch {
        let other_tag = drawn_wrong(edges.n_tags(), |other| edges.has(*item, other), rng);
        let other_item = drawn_wrong(n_items, |other| edges.has(other, *tag), rng);
        right.push([*item as usize, n_items + *tag as usize]);
        wrong_tag.push([*item as usize, n_items + other_tag as usize]);
        wrong_item.push([other_item as usize, n_items + *tag as usize]);
    }
    let mut nodes: Vec<usize> = [&right, &wrong_tag, &wrong_item].into_iter().flatten().flatten().copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut hidden = batch.to_vec();
    hidden.sort_unstable();
    let asked = Asked { nodes: &nodes, hidden: &hidden, seed: Some(rng.random()) };
    let tape = Tape::new();
    let leaves = learning.leaves(&tape);
    let rows = network.embed(&leaves, &asked);
    let scores = |edges: &[[usize; 2]]| {
        let side = |end: usize| -> Vec<usize> {
            edges.iter().map(|edge| nodes.binary_search(&edge[end]).expect("every node of an edge is asked for")).collect()
        };
        let products = (rows.rows(side(0)) * rows.rows(side(1))).sum_columns();
        if network.is_unit() { products.times_number(leaves[leaves.len() - 1].exp()) } else { products }
    };
    let told = scores(&right);
    let mut loss = bpr(told, scores(&wrong_tag)) + bpr(told, scores(&wrong_item));
    if let Some(penalty) = network.penalty(&leaves, &asked) {
        loss = loss + penalty;
    }
    if !loss.value().is_finite() {
        return Err(FitError::Numeric { what: "learning along edges (the loss is no number; a lower learning rate may help)" });
    }
    let value = loss.value().only();
    learning.step(tape.backward(loss), &leaves);
    Ok(value)
}

/// One of `n` that is not right; where nearly all are, any.
fn drawn_wrong(n: usize, is_right: impl Fn(u32) -> bool, rng: &mut ChaCha8Rng) -> u32 {
    let mut draw = || rng.random_range(0..n as u32);
    (0..TRIES).map(|_| draw()).find(|other| !is_right(*other)).unwrap_or(0)
}
