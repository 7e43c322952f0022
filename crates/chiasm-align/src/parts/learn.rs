//! What the models of this folder learn by: AdamW ([`chiasm_nn::learn`]), batches, and a part set aside that says when to stop.

use chiasm_nn::grad::{Array, Real, Tape, Var};
use chiasm_nn::learn::{Decay, Optimiser, Parameter, Rule, Schedule, clip};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fit::{FitError, Run};

const RULE: Rule = Rule::AdamW { betas: [0.9, 0.98], eps: 1e-8 };
/// Length of all gradients together at most.
const MAX_NORM: f64 = 2.0;
/// Share of the steps in which the rate rises from nothing.
const WARM_UP: f64 = 0.05;
/// Fewer groups than these, and none are set aside.
const MIN_GROUPS: usize = 50;
/// One group of so many is set aside.
const SET_ASIDE: usize = 7;
/// Groups set aside at most: each is compared with all others after every epoch.
const MOST_SET_ASIDE: usize = 500;
/// Epochs without a better one after which it is known how long.
const PATIENCE: usize = 8;

/// How fast, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Greatest learning rate.
    pub(super) rate: f64,
    /// Decoupled weight decay of what has more than one row.
    pub(super) decay: f64,
    /// Items of a batch.
    pub(super) batch: usize,
    /// Epochs at most.
    pub(super) max_epochs: usize,
}

impl Course {
    /// # Errors
    /// [`FitError::Config`].
    pub(super) fn check(&self) -> Result<(), FitError> {
        crate::hashing::above_zero("learning_rate", self.rate)?;
        crate::reduced::at_least_zero("weight_decay", self.decay)?;
        crate::reduced::at_least_one("max_epochs", self.max_epochs)?;
        if self.batch < 2 {
            let expected = "at least two, for one has nothing to be told from";
            return Err(FitError::Config { name: "batch", value: self.batch.to_string(), expected });
        }
        Ok(())
    }
}

/// Items that take a step together.
pub(super) struct Batch<'a> {
    /// Their numbers.
    pub(super) items: &'a [usize],
    /// How many epochs lie behind.
    pub(super) epoch: usize,
    /// Which of all items were set aside: nothing may be learned from them.
    pub(super) aside: &'a [bool],
}

/// What is to be learned.
pub(super) trait Lesson {
    /// The loss of a batch, `[1, 1]`, by parameters on a tape.
    fn loss<'t>(&self, tape: &'t Tape<f32>, p: &[Var<'t, f32>], batch: &Batch<'_>, rng: &mut ChaCha8Rng) -> Var<'t, f32>;
    /// How well parameters do on items set aside; greater is better.
    fn figure(&self, p: &[Array<f32>], aside: &[usize]) -> f64;
}

/// Learns from items, of which number `i` belongs to group `groups[i]`: groups are set aside whole. Gives the parameters of the epoch that did best on
/// what was set aside, or of the last where there is too little to set aside.
///
/// # Errors
/// [`FitError::TooFewRows`], [`FitError::Numeric`], [`FitError::Cancelled`].
pub(super) fn learn(
    start: Vec<Array<f32>>,
    course: &Course,
    groups: &[u32],
    lesson: &impl Lesson,
    run: &Run<'_>,
) -> Result<Vec<Array<f32>>, FitError> {
    if groups.len() < 2 {
        return Err(FitError::TooFewRows { got: groups.len(), least: 2, what: "to learn from".to_owned() });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
    let is_aside = set_aside(groups, &mut rng);
    let (aside, mut items): (Vec<usize>, Vec<usize>) = (0..groups.len()).partition(|i| is_aside[*i]);
    let batch = course.batch.min(items.len());
    // A last batch of a few would be a step of much noise; the shuffle gives its items their turn in other epochs.
    let n_batches = items.len() / batch;
    let of_steps = course.max_epochs * n_batches;
    let warm_up = ((of_steps as f64 * WARM_UP).ceil() as usize).max(1);
    let schedule = Schedule { rate: course.rate, warm_up, n_steps: of_steps, decay: Decay::Cosine };
    // Rows by themselves (biases, gains) do not decay.
    let parameter =
        |(at, value): (usize, Array<f32>)| Parameter { name: at.to_string(), decays: value.n_rows() > 1, value: value.into() };
    let mut now: Vec<Parameter> = start.into_iter().enumerate().map(parameter).collect();
    let mut optimiser = Optimiser::new(RULE, course.decay, &now);
    let values = |of: &[Parameter]| of.iter().map(|p| Array::clone(&p.value)).collect::<Vec<_>>();
    let mut best = values(&now);
    let mut best_figure = (f64::NEG_INFINITY, 0);
    run.progress.start("training", Some(course.max_epochs as u64));
    for epoch in 0..course.max_epochs {
        items.shuffle(&mut rng);
        for (at, part) in items.chunks_exact(batch).enumerate() {
            run.cancel.check()?;
            let tape = Tape::new();
            let leaves: Vec<Var<'_, f32>> = now.iter().map(|p| tape.leaf(p.value.clone())).collect();
            let loss = lesson.loss(&tape, &leaves, &Batch { items: part, epoch, aside: &is_aside }, &mut rng);
            if !loss.value().only().is_a_number() {
                return Err(FitError::Numeric { what: "the loss of a batch" });
            }
            let mut gradients = tape.backward(loss);
            let mut gradients: Vec<Array<f32>> = leaves.iter().map(|leaf| gradients.take(*leaf)).collect();
            drop(tape);
            clip(&mut gradients, MAX_NORM);
            optimiser.step(&mut now, &gradients, schedule.at(epoch * n_batches + at));
        }
        run.progress.advance(1);
        if aside.is_empty() {
            continue;
        }
        let learned = values(&now);
        let figure = lesson.figure(&learned, &aside);
        if figure > best_figure.0 {
            best_figure = (figure, epoch);
            best = learned;
        } else if epoch - best_figure.1 >= PATIENCE {
            break;
        }
    }
    let learned = if aside.is_empty() { values(&now) } else { best };
    if learned.iter().all(Array::is_finite) { Ok(learned) } else { Err(FitError::Numeric { what: "training" }) }
}

/// Which items are set aside: whole groups, a seventh of them, none where there are few.
fn set_aside(groups: &[u32], rng: &mut ChaCha8Rng) -> Vec<bool> {
    let mut all: Vec<u32> = groups.to_vec();
    all.sort_unstable();
    all.dedup();
    if all.len() < MIN_GROUPS {
        return vec![false; groups.len()];
    }
    all.shuffle(rng);
    let mut aside = all[..(all.len() / SET_ASIDE).min(MOST_SET_ASIDE)].to_vec();
    aside.sort_unstable();
    groups.iter().map(|group| aside.binary_search(group).is_ok()).collect()
}

/// A weight `[n_out, n_in]` of a dense layer at the start: even between `-r` and `r`, `r = sqrt(6 / (n_in + n_out))` (Glorot and Bengio, 2010).
pub(super) fn weight(n_out: usize, n_in: usize, rng: &mut ChaCha8Rng) -> Array<f32> {
    let r = (6.0 / (n_in + n_out) as f64).sqrt() as f32;
    Array::from_fn(n_out, n_in, |_, _| rng.random_range(-r..r))
}

/// The mean over rows of one over the rank of their best right column.
pub(super) fn mean_reciprocal_rank(scores: &Array<f32>, right: impl Fn(usize, usize) -> bool) -> f64 {
    let of_row = |i: usize| {
        let row = scores.row(i);
        let best = (0..row.len()).filter(|j| right(i, *j)).map(|j| row[j]).fold(f32::NEG_INFINITY, f32::max);
        // Equal wrong ones stand before it: a constant must not do well.
        let before = (0..row.len()).filter(|j| !right(i, *j) && row[*j] >= best).count();
        1.0 / (1 + before) as f64
    };
    (0..scores.n_rows()).map(of_row).sum::<f64>() / scores.n_rows().max(1) as f64
}
