//! Alignment of two clouds of rows without pairs: a turn that a judge cannot tell from the other cloud, refined on rows that find one another.
//!
//! # Reference
//! A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jegou, Word Translation Without Parallel Data, ICLR 2018 (MUSE), eq. 1-2 (the judge and the map), 3 (CSLS), 7
//! (orthogonality), section 2.3 (refinement by Procrustes) and 3.5 (the criterion). Checked against torch (`reference/align_generative_goldens.py`). Differs from it in: rows in as many principal axes as
//! both views have, where the map begins as the identity, or, for further tries, as a turn drawn at random; Adam in place of descent at a falling rate; a judge of one hidden layer; the
//! criterion, the mean CSLS of rows with their nearest, is asked of every try after its refinement.
//!
//! # Model
//! The judge descends -mean log P(1|x W) - mean log P(0|y), with targets smoothed by .1; W descends the same with targets exchanged, and after each step W := (1 + b) W - b W W'W.
//! Then, some rounds: pairs are rows that are each other's nearest by CSLS(x W, y) = 2 cos - r_Y(x W) - r_X(y), r the mean cosine of the 10 nearest of the other side; W := U V' with
//! U D V' the decomposition of X'Y over these pairs.
//!
//! # Limits
//! It can find a turn, and no more. Where no turn brings the clouds together, or they look alike after several turns, it finds one at random; the criterion is then about
//! what a random turn has, and stands in [`crate::About::parameters`].
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | W | turned, row by row | `[k, k]` | orthogonal |
//! | beta | [`Adversarial::orthogonality`] | - | at least 0, below 1/2 |
//!
//! # Cost
//! O(t (s b k h + r m^2 k)) for t tries of s steps and r rounds on at most m = 2000 rows of each side; all rows in memory.
//!
//! # Determinism
//! The seed decides everything; the order of the rows nothing ([`super::unpaired`]).
//!
//! # Errors
//! [`FitError::TooFewRows`], [`FitError::Input`], [`FitError::Constant`], [`FitError::Config`], [`FitError::Numeric`], [`FitError::Cancelled`].

use chiasm_nn::grad::{Array, Tape, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::unpaired::{self, Side, Unpaired};
use super::{array, matrix};
use crate::deep::descent::{Descent, Pace};
use crate::deep::tower;
use crate::deep::unit::UnitRows;
use crate::fit::{FitError, Run};
use crate::hashing::above_zero;
use crate::linalg::{self, Mat, product};
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;
use crate::reduced::pick_rows;

/// What is taken off a target that is certain.
const SMOOTHING: f64 = 0.1;
/// Slope of the judge's hidden units below 0.
const LEAK: f64 = 0.2;
/// Neighbours that say how crowded a place is.
const NEIGHBOURS: usize = 10;
/// Rows of a side that take part in the refinement.
const MOST_ROWS: usize = 2_000;
/// Decay of the mean of gradients, and of their squares.
const BETAS: (f64, f64) = (0.5, 0.999);

/// The turn, and how it is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Adversarial {
    /// Preprocessing and principal components of each view.
    pub views: [ViewConfig; 2],
    /// Principal axes at most; at least 1.
    pub dim: usize,
    /// Hidden units of the judge; at least 1.
    pub hidden: usize,
    /// How strongly the map is pulled towards a turn after each step; at least 0, below 1/2.
    pub orthogonality: f64,
    /// Learning rate of the map and the judge; above 0.
    pub learning_rate: f64,
    /// Rows of each side that take a step; at least 1.
    pub batch: usize,
    /// Steps of the map; the judge takes five for each. 0 leaves the refinement alone.
    pub steps: usize,
    /// Rounds of refinement.
    pub rounds: usize,
    /// From how many starts it is tried; at least 1.
    pub tries: usize,
}

impl Default for Adversarial {
    fn default() -> Self {
        Self {
            views: [ViewConfig::default(); 2],
            dim: 64,
            hidden: 64,
            orthogonality: 0.01,
            learning_rate: 3e-3,
            batch: 32,
            steps: 300,
            rounds: 10,
            tries: 8,
        }
    }
}

/// Steps of the judge for each of the map.
const JUDGE_STEPS: usize = 5;

/// The judge's error where rows `z` are said to be of the first side with probability `first`, `[1, 1]`; `p` is `[W1, b1, W2, b2]`.
pub(super) fn judge_loss<'t>(p: &[Var<'t, f64>], z: Var<'t, f64>, first: f64) -> Var<'t, f64> {
    let said = z.dot(p[0]).add_row(p[1]).leaky_relu(LEAK).dot(p[2]).add_row(p[3]);
    (said.softplus() - said.scaled(first)).mean()
}

/// Both sides' errors, with targets exchanged for the map.
pub(super) fn adversarial_loss<'t>(p: &[Var<'t, f64>], [mapped, real]: [Var<'t, f64>; 2], exchanged: bool) -> Var<'t, f64> {
    let (one, zero) = (1.0 - SMOOTHING, SMOOTHING);
    let (first, second) = if exchanged { (zero, one) } else { (one, zero) };
    judge_loss(p, mapped, first) + judge_loss(p, real, second)
}

/// Cross-domain similarity local scaling of rows of unit length, `[n, m]`.
pub(super) fn csls(x: &Mat, y: &Mat) -> Mat {
    let cosines = product(x.as_ref(), y.transpose());
    let crowd = |of: &mut dyn Iterator<Item = f64>| {
        let mut all: Vec<f64> = of.collect();
        all.sort_by(|a, b| b.total_cmp(a));
        all.truncate(NEIGHBOURS);
        all.iter().sum::<f64>() / all.len().max(1) as f64
    };
    let of_x: Vec<f64> = (0..x.nrows()).map(|i| crowd(&mut cosines.row(i).iter().copied())).collect();
    let of_y: Vec<f64> = (0..y.nrows()).map(|j| crowd(&mut cosines.col(j).iter().copied())).collect();
    Mat::from_fn(x.nrows(), y.nrows(), |i, j| 2.0 * cosines[(i, j)] - of_x[i] - of_y[j])
}

/// The place of the greatest of each row.
fn nearest(scores: &Mat) -> Vec<usize> {
    let best = |i: usize| (0..scores.ncols()).max_by(|a, b| scores[(i, *a)].total_cmp(&scores[(i, *b)]).then(b.cmp(a)));
    (0..scores.nrows()).map(|i| best(i).unwrap_or(0)).collect()
}

/// The turn nearest to a map.
fn turn(map: &Mat) -> Result<Mat, FitError> {
    let (u, _, v) = linalg::thin_svd(map.as_ref())?;
    Ok(product(u.as_ref(), v.transpose()))
}

impl Adversarial {
    fn check(&self) -> Result<(), FitError> {
        for (name, value) in [("hidden", self.hidden), ("batch", self.batch), ("tries", self.tries)] {
            unpaired::check_count(name, value)?;
        }
        if !(0.0..0.5).contains(&self.orthogonality) {
            let expected = "a number of at least 0 and below 1/2, beyond which a map flies apart";
            return Err(FitError::Config { name: "orthogonality", value: self.orthogonality.to_string(), expected });
        }
        above_zero("learning_rate", self.learning_rate)
    }

    /// Its hyper-parameters by name, for reports.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let views = self.views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
        let rest = [
            ("dim", self.dim.to_string()),
            ("hidden", self.hidden.to_string()),
            ("orthogonality", self.orthogonality.to_string()),
            ("learning_rate", self.learning_rate.to_string()),
            ("batch", self.batch.to_string()),
            ("steps", self.steps.to_string()),
            ("rounds", self.rounds.to_string()),
            ("tries", self.tries.to_string()),
        ];
        views.chain(rest.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// Learns the turn, without pairs. In the space that comes out rows of the first view are turned, those of the second are as they are, in
    /// their principal axes; compared by their cosine. The parameters told of it have the criterion, `csls`.
    ///
    /// # Errors
    /// See the head of this file.
    pub fn fit(&self, rows: &Unpaired<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        self.check()?;
        let sides = rows.sides(&self.views, self.dim, run)?;
        let one = |seed: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let map = self.adversarial(&sides, seed == run.seed, &mut rng, run)?;
            let (criterion, map) = self.refined(&sides, map, run)?;
            run.progress.tell(&[("csls", criterion)]);
            run.progress.advance(1);
            Ok((criterion, vec![map]))
        };
        let (criterion, maps) = unpaired::best_of(self.tries, 1, &format!("{self:?}"), &sides, |a, b| a > b, run, one)?;
        let map = &maps[0];
        let mut parameters = self.parameters();
        parameters.push(("csls".to_owned(), format!("{criterion:.4}")));
        unpaired::space(&sides, (map, &[], Vec::new()), "adversarial", parameters)
    }

    /// The map that the judge cannot tell, as a turn.
    fn adversarial(&self, sides: &[Side; 2], first: bool, rng: &mut ChaCha8Rng, run: &Run<'_>) -> Result<Mat, FitError> {
        let k = sides[0].rows.ncols();
        let start = if first { Mat::identity(k, k) } else { turn(&tower::normal(k, k, 1.0, rng))? };
        let judge = vec![
            tower::normal(k, self.hidden, (2.0 / k as f64).sqrt(), rng),
            Mat::zeros(1, self.hidden),
            tower::normal(self.hidden, 1, (1.0 / self.hidden as f64).sqrt(), rng),
            Mat::zeros(1, 1),
        ];
        let pace = Pace { rate: self.learning_rate, decay: 0.0, max_norm: f64::INFINITY, of_steps: 1 };
        let mut map = Descent::new(vec![start], vec![false], pace).with_betas(BETAS);
        let mut judge = Descent::new(judge, vec![false; 4], pace).with_betas(BETAS);
        for step in 0..self.steps {
            run.cancel.check()?;
            let rate = self.learning_rate * (1.0 - step as f64 / self.steps as f64);
            for turn in 0..=JUDGE_STEPS {
                let of_map = turn == JUDGE_STEPS;
                let tape = Tape::new();
                let [x, y] = [0, 1].map(|v| tape.constant(drawn(&sides[v].rows, self.batch, rng)));
                let w = tape.leaf(array(&map.now[0]));
                let p: Vec<Var<'_, f64>> = judge.now.iter().map(|p| tape.leaf(array(p))).collect();
                let loss = adversarial_loss(&p, [x.dot(w), y], of_map);
                if !loss.value().is_finite() {
                    return Err(FitError::Numeric { what: "training (the loss is no number; a lower learning rate may help)" });
                }
                let mut gradients = tape.backward(loss);
                if of_map {
                    map.step_at(rate, &[matrix(&gradients.take(w))]);
                    map.now[0] = drawn_in(&map.now[0], self.orthogonality);
                } else {
                    let gradients: Vec<Mat> = p.into_iter().map(|p| matrix(&gradients.take(p))).collect();
                    judge.step_at(rate, &gradients);
                }
            }
        }
        turn(&map.now[0])
    }

    /// The turn after its rounds of refinement, and the criterion.
    fn refined(&self, sides: &[Side; 2], mut map: Mat, run: &Run<'_>) -> Result<(f64, Mat), FitError> {
        let [x, y] = [0, 1].map(|v| {
            let rows = &sides[v].rows;
            // They are shuffled.
            rows.subrows(0, rows.nrows().min(MOST_ROWS)).to_owned()
        });
        let unit_y = UnitRows::new(&y).u;
        let scores_of = |map: &Mat| csls(&UnitRows::new(&product(x.as_ref(), map.as_ref())).u, &unit_y);
        for _ in 0..self.rounds {
            run.cancel.check()?;
            let scores = scores_of(&map);
            let found = nearest(&scores);
            let back = nearest(&scores.transpose().to_owned());
            let pairs: Vec<usize> = (0..found.len()).filter(|i| back[found[*i]] == *i).collect();
            let answers: Vec<usize> = pairs.iter().map(|i| found[*i]).collect();
            map = turn(&product(pick_rows(&x, &pairs).transpose(), pick_rows(&y, &answers).as_ref()))?;
        }
        let scores = scores_of(&map);
        let found = nearest(&scores);
        let sum: f64 = found.iter().enumerate().map(|(i, j)| scores[(i, *j)]).sum();
        Ok((sum / found.len() as f64, map))
    }
}

/// A step towards a turn: `(1 + b) W - b W W'W`.
pub(super) fn drawn_in(w: &Mat, b: f64) -> Mat {
    let cube = product(product(w.as_ref(), w.transpose()).as_ref(), w.as_ref());
    Mat::from_fn(w.nrows(), w.ncols(), |i, j| (1.0 + b) * w[(i, j)] - b * cube[(i, j)])
}

/// Rows drawn at random.
fn drawn(rows: &Mat, n: usize, rng: &mut ChaCha8Rng) -> Array<f64> {
    let picked: Vec<usize> = (0..n).map(|_| rng.random_range(0..rows.nrows())).collect();
    Array::from_fn(n, rows.ncols(), |i, j| rows[(picked[i], j)])
}
