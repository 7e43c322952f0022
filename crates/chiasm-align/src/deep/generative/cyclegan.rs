//! CycleGAN on features: two networks that translate each view into the other, learned without pairs.
//!
//! # Reference
//! J.-Y. Zhu, T. Park, P. Isola, A. Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017, eq. 1-3 with the squared errors of
//! section 4 (X. Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017) and the identity term of section 5.2; the history of generated rows is A. Shrivastava et
//! al., CVPR 2017. Checked against torch (`reference/align_generative_goldens.py`). Differs from it in: networks of one hidden layer beside a linear path, on rows in as many
//! principal axes as both views have; batches of [`CycleGan::batch`] rows in place of one; several starts, of which the one is kept whose translated rows are nearest to those of the
//! other view as a whole, by the energy distance. The paper's weight of the identity term is 5, its rate 2e-4 and its history 50; here the default of the first is 0, for a number
//! in one place means different things in two views, where the paper's two kinds of pictures have the same pixels, and the rate is that of small networks.
//!
//! # Model
//! G: X to Y, F: Y to X, judges D_X, D_Y with one number each. G and F descend mean (D_Y(G(x)) - 1)^2 + mean (D_X(F(y)) - 1)^2 + c (mean |F(G(x)) - x| + mean |G(F(y)) - y|) +
//! i (mean |G(y) - y| + mean |F(x) - x|), means over all numbers. D_Y descends 1/2 (mean (D_Y(y) - 1)^2 + mean D_Y(y')^2), where y' are translated rows, half of them of earlier steps;
//! D_X alike. Adam with moments (.5, .999); the rate is constant for half of the epochs and falls to 0 in the other.
//!
//! # Limits
//! That a row comes back is true of any map that can be undone, so nothing here says *which* row of the other view belongs to this one: single partners are found about as
//! often as by chance. Classes are found only where training ends with the right exchange of clouds; many starts end with a wrong one, and of some views all do. The energy distance of the start
//! that was kept stands in [`crate::About::parameters`]: where it is a few hundredths at most (rows have a mean square of 1), classes were found in what was tried; at .2 they were found
//! hardly better than by a map drawn at random. `tests/align/unpaired.rs` measures this beside [`super::adversarial`], which is to be preferred wherever the views may be turns of one another.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | lambda | [`CycleGan::cycle`] | - | at least 0 |
//! | identity weight | [`CycleGan::identity`] | - | at least 0 |
//!
//! # Cost
//! O(n k h) an epoch; all rows in memory.
//!
//! # Determinism
//! The seed decides everything; the order of the rows nothing ([`super::unpaired`]).
//!
//! # Errors
//! [`FitError::TooFewRows`], [`FitError::Input`], [`FitError::Constant`], [`FitError::Config`], [`FitError::Numeric`], [`FitError::Cancelled`].

use chiasm_nn::grad::{Array, Tape, Var};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::unpaired::{self, Side, Unpaired};
use super::{array, matrix, network};
use crate::deep::descent::{Descent, Pace};
use crate::deep::tower::{self, N_PARAMETERS, Tower};
use crate::fit::{FitError, Run};
use crate::hashing::above_zero;
use crate::linalg::{Mat, product};
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;
use crate::reduced::at_least_zero;

/// Decay of the mean of gradients, and of their squares.
const BETAS: (f64, f64) = (0.5, 0.999);
/// Rows of a side by which tries are compared.
const MOST_ROWS: usize = 1_000;
/// Slope of the judges' hidden units below 0.
const LEAK: f64 = 0.2;

/// The translation, and how it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct CycleGan {
    /// Preprocessing and principal components of each view.
    pub views: [ViewConfig; 2],
    /// Principal axes at most; at least 1.
    pub dim: usize,
    /// Hidden units of each network; at least 1.
    pub hidden: usize,
    /// Weight of what does not come back; at least 0.
    pub cycle: f64,
    /// Weight of what is changed of rows that are of the other view already; at least 0.
    pub identity: f64,
    /// Learning rate; above 0.
    pub learning_rate: f64,
    /// Rows of each side that take a step; at least 1.
    pub batch: usize,
    /// Batches of translated rows that are kept for the judges; at least 1.
    pub history: usize,
    /// Epochs over the longer side; at least 1.
    pub epochs: usize,
    /// From how many starts it is tried; at least 1. The one whose translated rows are nearest to those of the other view as a whole is kept.
    pub tries: usize,
}

impl Default for CycleGan {
    fn default() -> Self {
        Self {
            views: [ViewConfig::default(); 2],
            dim: 64,
            hidden: 64,
            cycle: 10.0,
            identity: 0.0,
            learning_rate: 5e-3,
            batch: 32,
            history: 10,
            epochs: 60,
            tries: 10,
        }
    }
}

/// What the translating networks descend: G and F are `[A, W1, b1, W2, b2]`, the judges `[W1, b1, W2, b2]`, of X then of Y.
pub(super) fn translators_loss<'t>(
    config: &CycleGan,
    [g, f]: [&[Var<'t, f64>]; 2],
    judges: [&[Var<'t, f64>]; 2],
    [x, y]: [Var<'t, f64>; 2],
) -> Var<'t, f64> {
    let (to_y, to_x) = (network(g, x), network(f, y));
    let deceived = |judge: &[Var<'t, f64>], made| judged(judge, made).plus(-1.0).square().mean();
    let apart = |a: Var<'t, f64>, b: Var<'t, f64>| (a - b).absolute().mean();
    let adversarial = deceived(judges[1], to_y) + deceived(judges[0], to_x);
    let cycle = apart(network(f, to_y), x) + apart(network(g, to_x), y);
    let identity = apart(network(g, y), y) + apart(network(f, x), x);
    adversarial + cycle.scaled(config.cycle) + identity.scaled(config.identity)
}

/// What a judge descends.
pub(super) fn judge_loss<'t>(judge: &[Var<'t, f64>], real: Var<'t, f64>, made: Var<'t, f64>) -> Var<'t, f64> {
    (judged(judge, real).plus(-1.0).square().mean() + judged(judge, made).square().mean()).scaled(0.5)
}

/// What a judge says of rows, `[n, 1]`: 1 for real ones.
fn judged<'t>(p: &[Var<'t, f64>], x: Var<'t, f64>) -> Var<'t, f64> {
    x.dot(p[0]).add_row(p[1]).leaky_relu(LEAK).dot(p[2]).add_row(p[3])
}

/// A judge of rows of `k` numbers before it has learned anything.
fn judge(k: usize, hidden: usize, rng: &mut ChaCha8Rng) -> Vec<Mat> {
    let first = tower::normal(k, hidden, (2.0 / k as f64).sqrt(), rng);
    vec![first, Mat::zeros(1, hidden), tower::normal(hidden, 1, (1.0 / hidden as f64).sqrt(), rng), Mat::zeros(1, 1)]
}

/// Translated rows of earlier steps.
struct History {
    rows: Vec<Vec<f64>>,
    most: usize,
}

impl History {
    /// Each row, or in its place one of earlier, which it replaces.
    fn exchange(&mut self, mut made: Array<f64>, rng: &mut ChaCha8Rng) -> Array<f64> {
        for i in 0..made.n_rows() {
            if self.rows.len() < self.most {
                self.rows.push(made.row(i).to_vec());
            } else if rng.random::<f64>() < 0.5 {
                let at = rng.random_range(0..self.rows.len());
                made.row_mut(i).swap_with_slice(&mut self.rows[at]);
            }
        }
        made
    }
}

/// Batches of rows without end, each row once before any comes again.
struct Deck<'a> {
    rows: &'a Mat,
    left: Vec<usize>,
}

impl Deck<'_> {
    fn deal(&mut self, n: usize, rng: &mut ChaCha8Rng) -> Array<f64> {
        let mut dealt = Vec::with_capacity(n);
        while dealt.len() < n {
            if self.left.is_empty() {
                self.left = (0..self.rows.nrows()).collect();
                self.left.shuffle(rng);
            }
            dealt.extend(self.left.pop());
        }
        Array::from_fn(n, self.rows.ncols(), |i, j| self.rows[(dealt[i], j)])
    }
}

impl CycleGan {
    fn check(&self) -> Result<(), FitError> {
        for (name, value) in [
            ("hidden", self.hidden),
            ("batch", self.batch),
            ("history", self.history),
            ("epochs", self.epochs),
            ("tries", self.tries),
        ] {
            unpaired::check_count(name, value)?;
        }
        at_least_zero("cycle", self.cycle)?;
        at_least_zero("identity", self.identity)?;
        above_zero("learning_rate", self.learning_rate)
    }

    /// Its hyper-parameters by name, for reports.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let views = self.views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
        let rest = [
            ("dim", self.dim.to_string()),
            ("hidden", self.hidden.to_string()),
            ("cycle", self.cycle.to_string()),
            ("identity", self.identity.to_string()),
            ("learning_rate", self.learning_rate.to_string()),
            ("batch", self.batch.to_string()),
            ("history", self.history.to_string()),
            ("epochs", self.epochs.to_string()),
            ("tries", self.tries.to_string()),
        ];
        views.chain(rest.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// Learns to translate, without pairs. In the space that comes out rows of the first view are translated, those of the second are as they
    /// are, in their principal axes; compared by their cosine.
    ///
    /// # Errors
    /// See the head of this file.
    pub fn fit(&self, rows: &Unpaired<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        self.check()?;
        let sides = rows.sides(&self.views, self.dim, run)?;
        let one = |seed: u64| {
            let [g, f] = self.train(&sides, seed, run)?;
            let away = |tower: &Tower, from: usize| {
                energy_distance(&tower.forward(some_of(&sides[from]), None).y, &some_of(&sides[1 - from]))
            };
            Ok((away(&g, 0) + away(&f, 1), g.parameters))
        };
        let config = format!("{self:?}");
        let (distance, parameters) = unpaired::best_of(self.tries, self.epochs, &config, &sides, |a, b| a < b, run, one)?;
        let g = Tower { parameters };
        let (map, shift, after) = g.steps(&vec![1.0; sides[0].rows.ncols()], None);
        let mut parameters = self.parameters();
        parameters.push(("energy distance".to_owned(), format!("{distance:.4}")));
        unpaired::space(&sides, (&map, &shift, after), "cyclegan", parameters)
    }

    /// G and F.
    fn train(&self, sides: &[Side; 2], seed: u64, run: &Run<'_>) -> Result<[Tower; 2], FitError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let k = sides[0].rows.ncols();
        let mut translators = Vec::new();
        for _ in 0..2 {
            let straight = tower::normal(k, k, 1.0 / (k as f64).sqrt(), &mut rng);
            translators.extend(Tower::new(straight, self.hidden, k as f64, &mut rng).parameters);
        }
        let mut judges = judge(k, self.hidden, &mut rng);
        judges.extend(judge(k, self.hidden, &mut rng));
        let pace = Pace { rate: self.learning_rate, decay: 0.0, max_norm: f64::INFINITY, of_steps: 1 };
        let descent = |start: Vec<Mat>| {
            let n = start.len();
            Descent::new(start, vec![false; n], pace).with_betas(BETAS)
        };
        let (mut translators, mut judges) = (descent(translators), descent(judges));
        let batch = self.batch.min(sides[0].rows.nrows()).min(sides[1].rows.nrows());
        let mut decks = [0, 1].map(|v| Deck { rows: &sides[v].rows, left: Vec::new() });
        let mut histories = [0, 1].map(|_| History { rows: Vec::new(), most: self.history * batch });
        let per_epoch = sides[0].rows.nrows().max(sides[1].rows.nrows()).div_ceil(batch);
        for epoch in 0..self.epochs {
            let mut losses = [0.0; 2];
            let left = 2.0 * (self.epochs - epoch) as f64 / self.epochs as f64;
            let rate = self.learning_rate * left.min(1.0);
            for _ in 0..per_epoch {
                run.cancel.check()?;
                let rows = [0, 1].map(|v| decks[v].deal(batch, &mut rng));
                let (of_translators, [of_x, of_y]) = self.step_translators(&mut translators, &judges.now, &rows, rate)?;
                let made = [histories[0].exchange(of_x, &mut rng), histories[1].exchange(of_y, &mut rng)];
                losses = [of_translators, step_judges(&mut judges, rows, made, rate)];
            }
            run.progress.tell(&[("translators' loss", losses[0]), ("judges' loss", losses[1]), ("rate", rate)]);
            run.progress.advance(1);
        }
        Ok([0, N_PARAMETERS].map(|at| Tower { parameters: translators.now[at..at + N_PARAMETERS].to_vec() }))
    }

    /// One step of G and F; gives their loss, and what they made of the rows: F(y), of the first view, then G(x).
    fn step_translators(
        &self,
        translators: &mut Descent,
        judges: &[Mat],
        rows: &[Array<f64>; 2],
        rate: f64,
    ) -> Result<(f64, [Array<f64>; 2]), FitError> {
        let tape = Tape::new();
        let leaves: Vec<Var<'_, f64>> = translators.now.iter().map(|p| tape.leaf(array(p))).collect();
        let judges: Vec<Var<'_, f64>> = judges.iter().map(|p| tape.constant(array(p))).collect();
        let [x, y] = [0, 1].map(|v| tape.constant(rows[v].clone()));
        let (g, f) = leaves.split_at(N_PARAMETERS);
        let made = [network(f, y), network(g, x)].map(|made| Array::clone(&made.value()));
        let loss = translators_loss(self, [g, f], [&judges[..4], &judges[4..]], [x, y]);
        if !loss.value().is_finite() {
            return Err(FitError::Numeric { what: "training (the loss is no number; a lower learning rate may help)" });
        }
        let value = loss.value().only();
        let mut gradients = tape.backward(loss);
        let gradients: Vec<Mat> = leaves.into_iter().map(|leaf| matrix(&gradients.take(leaf))).collect();
        translators.step_at(rate, &gradients);
        Ok((value, made))
    }
}

/// As many of a side's rows as take part in a comparison; they are shuffled.
fn some_of(side: &Side) -> Mat {
    side.rows.subrows(0, side.rows.nrows().min(MOST_ROWS)).to_owned()
}

/// How far apart two clouds are, 0 where they are one: `2 E|a - b| - E|a - a'| - E|b - b'|` (G. Szekely, M. Rizzo, 2004).
fn energy_distance(a: &Mat, b: &Mat) -> f64 {
    let mean = |a: &Mat, b: &Mat| {
        let squares = |of: &Mat| -> Vec<f64> { (0..of.nrows()).map(|i| of.row(i).iter().map(|x| x * x).sum()).collect() };
        let (of_a, of_b, products) = (squares(a), squares(b), product(a.as_ref(), b.transpose()));
        let away = |i: usize, j: usize| (of_a[i] + of_b[j] - 2.0 * products[(i, j)]).max(0.0).sqrt();
        let sum: f64 = (0..b.nrows()).map(|j| (0..a.nrows()).map(|i| away(i, j)).sum::<f64>()).sum();
        sum / (a.nrows() * b.nrows()) as f64
    };
    2.0 * mean(a, b) - mean(a, a) - mean(b, b)
}

/// One step of both judges; gives their loss.
fn step_judges(judges: &mut Descent, rows: [Array<f64>; 2], made: [Array<f64>; 2], rate: f64) -> f64 {
    let tape = Tape::new();
    let leaves: Vec<Var<'_, f64>> = judges.now.iter().map(|p| tape.leaf(array(p))).collect();
    let [x, y] = rows.map(|rows| tape.constant(rows));
    let [made_x, made_y] = made.map(|made| tape.constant(made));
    let loss = judge_loss(&leaves[..4], x, made_x) + judge_loss(&leaves[4..], y, made_y);
    let value = loss.value().only();
    let mut gradients = tape.backward(loss);
    let gradients: Vec<Mat> = leaves.into_iter().map(|leaf| matrix(&gradients.take(leaf))).collect();
    judges.step_at(rate, &gradients);
    value
}
