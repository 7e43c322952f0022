//! What the networks of items and tags share: how they are asked, and their parameters on their way.

use chiasm_nn::grad::{Array, Gradients, Tape, Var};
use rand_chacha::ChaCha8Rng;

use crate::deep::descent::{Descent, Pace};
use crate::deep::tower::normal;
use crate::draft::Saved;
use crate::linalg::Mat;

/// Which nodes a step asks for. Items come first, tags after them.
pub(crate) struct Asked<'a> {
    /// Nodes, each once.
    pub(crate) nodes: &'a [usize],
    /// The edges (item, tag) that are to be told, sorted: a network that would see them must look away.
    pub(crate) hidden: &'a [(u32, u32)],
    /// What draws neighbours while learning; all neighbours count where there is none.
    pub(crate) seed: Option<u64>,
}

/// A matrix that is learned.
#[derive(Clone)]
pub(crate) struct Parameter {
    pub(crate) value: Array<f64>,
    /// Whether it is held small.
    pub(crate) decays: bool,
}

/// A network that gives each node a row.
pub(crate) trait Network {
    /// The parameters at the start.
    fn start(&self, rng: &mut ChaCha8Rng) -> Vec<Parameter>;
    /// The rows of the nodes that are asked for, `[n, d]`.
    fn embed<'t>(&self, parameters: &[Var<'t, f64>], asked: &Asked<'_>) -> Var<'t, f64>;
    /// What is added to the loss of a step.
    fn penalty<'t>(&self, _parameters: &[Var<'t, f64>], _asked: &Asked<'_>) -> Option<Var<'t, f64>> {
        None
    }
    /// Whether rows have unit length, so that products of them need a scale.
    fn is_unit(&self) -> bool {
        false
    }
}

/// Normal numbers.
pub(crate) fn drawn(n: usize, m: usize, deviation: f64, rng: &mut ChaCha8Rng) -> Array<f64> {
    let drawn = normal(m, n, deviation, rng);
    Array::from_fn(n, m, |i, j| drawn[(j, i)])
}

/// Parameters of a tape, moved by the descent that towers are moved by.
pub(crate) struct Learning {
    descent: Descent,
}

impl Learning {
    pub(crate) fn new(parameters: Vec<Parameter>, pace: Pace) -> Self {
        let decays = parameters.iter().map(|parameter| parameter.decays).collect();
        Self { descent: Descent::new(parameters.iter().map(|parameter| turned(&parameter.value)).collect(), decays, pace) }
    }

    /// The parameters as they are, as leaves.
    pub(crate) fn leaves<'t>(&self, tape: &'t Tape<f64>) -> Vec<Var<'t, f64>> {
        self.descent.now.iter().map(|parameter| tape.leaf(array(parameter))).collect()
    }

    /// A step against the gradients of the leaves.
    pub(crate) fn step(&mut self, mut gradients: Gradients<f64>, leaves: &[Var<'_, f64>]) {
        let gradients: Vec<Mat> = leaves.iter().map(|leaf| turned(&gradients.take(*leaf))).collect();
        self.descent.step(&gradients);
    }

    /// The rate of the next step.
    pub(crate) fn rate(&self) -> f64 {
        self.descent.rate()
    }

    /// Puts all that steps change into a draft.
    pub(crate) fn save(&self, saved: &mut Saved, name: &str) {
        self.descent.save(saved, name);
    }

    /// Goes on where [`Learning::save`] was; none where the draft is of other parameters.
    pub(crate) fn restore(&mut self, saved: &Saved, name: &str) -> Option<()> {
        self.descent.restore(saved, name)
    }

    /// The running means of the parameters.
    pub(crate) fn means(&self) -> Vec<Array<f64>> {
        self.descent.mean.iter().map(array).collect()
    }
}

/// Rows of the one kind of matrix are columns of the other, so that numbers keep their order in memory.
pub(crate) fn turned(array: &Array<f64>) -> Mat {
    Mat::from_fn(array.n_cols(), array.n_rows(), |j, i| array.at(i, j))
}

fn array(turned: &Mat) -> Array<f64> {
    Array::from_fn(turned.ncols(), turned.nrows(), |i, j| turned[(j, i)])
}
