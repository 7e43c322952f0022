//! What the models of this folder learn by: AdamW ([`chiasm_nn::learn`]), batches, and a part set aside that says when to stop.

use chiasm_nn::grad::{Array, Real, Tape, Var};
use chiasm_nn::learn::{Decay, Optimiser, Parameter, Rule, Schedule, clip};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::draft::{Key, Part, Saved};
use crate::fit::{FitError, Run};
use crate::linalg::Mat;

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
    /// Tells what is learned from.
    fn tell(&self, key: &mut Key);
    /// How well parameters do on items set aside; greater is better.
    fn figure(&self, p: &[Array<f32>], aside: &[usize]) -> f64;
}

/// Learns from items, of which number `i` belongs to group `groups[i]`: groups are set aside whole. Gives the parameters of the epoch that did best on
/// what was set aside, or of the last where there is too little to set aside. Where the run keeps a draft, what was stopped goes on at its step.
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
    let (aside, items): (Vec<usize>, Vec<usize>) = (0..groups.len()).partition(|i| is_aside[*i]);
    let batch = course.batch.min(items.len());
    // A last batch of a few would be a step of much noise; the shuffle gives its items their turn in other epochs.
    let n_batches = items.len() / batch;
    let of_steps = course.max_epochs * n_batches;
    let warm_up = ((of_steps as f64 * WARM_UP).ceil() as usize).max(1);
    let schedule = Schedule { rate: course.rate, warm_up, n_steps: of_steps, decay: Decay::Cosine };
    // Rows by themselves (biases, gains) do not decay.
    let parameter =
        |(at, value): (usize, Array<f32>)| Parameter { name: at.to_string(), decays: value.n_rows() > 1, value: value.into() };
    let mut part = Part::new(run, "parts", |key| {
        key.words(&format!("{course:?}"));
        key.numbers(groups);
        start.iter().for_each(|value| key.array(value));
        lesson.tell(key);
    });
    let best = start.clone();
    let now: Vec<Parameter> = start.into_iter().enumerate().map(parameter).collect();
    let optimiser = Optimiser::new(RULE, course.decay, &now);
    let mut way = Way { now, optimiser, best, best_figure: (f64::NEG_INFINITY, 0), items, epoch: 0, at: 0, rng };
    if let Some(saved) = part.read().and_then(|bytes| Saved::from_bytes(&bytes)) {
        way.restore(&saved);
    }
    run.progress.start("training", Some(course.max_epochs as u64));
    run.progress.advance(way.epoch as u64);
    while way.epoch < course.max_epochs {
        part.pause(|| way.to_bytes())?;
        if way.at == 0 {
            way.items.shuffle(&mut way.rng);
        }
        let items = &way.items[way.at * batch..(way.at + 1) * batch];
        let tape = Tape::new();
        let leaves: Vec<Var<'_, f32>> = way.now.iter().map(|p| tape.leaf(p.value.clone())).collect();
        let loss = lesson.loss(&tape, &leaves, &Batch { items, epoch: way.epoch, aside: &is_aside }, &mut way.rng);
        if !loss.value().only().is_a_number() {
            return Err(FitError::Numeric { what: "the loss of a batch" });
        }
        let mut gradients = tape.backward(loss);
        let mut gradients: Vec<Array<f32>> = leaves.iter().map(|leaf| gradients.take(*leaf)).collect();
        drop(tape);
        clip(&mut gradients, MAX_NORM);
        way.optimiser.step(&mut way.now, &gradients, schedule.at(way.epoch * n_batches + way.at));
        way.at += 1;
        if way.at < n_batches {
            continue;
        }
        let epoch = way.epoch;
        (way.epoch, way.at) = (epoch + 1, 0);
        run.progress.advance(1);
        if aside.is_empty() {
            continue;
        }
        let learned = values(&way.now);
        let figure = lesson.figure(&learned, &aside);
        if figure > way.best_figure.0 {
            way.best_figure = (figure, epoch);
            way.best = learned;
        } else if epoch - way.best_figure.1 >= PATIENCE {
            break;
        }
    }
    let learned = if aside.is_empty() { values(&way.now) } else { way.best };
    if learned.iter().all(Array::is_finite) { Ok(learned) } else { Err(FitError::Numeric { what: "training" }) }
}

fn values(of: &[Parameter]) -> Vec<Array<f32>> {
    of.iter().map(|p| Array::clone(&p.value)).collect()
}

/// All that steps change; what a draft keeps.
struct Way {
    now: Vec<Parameter>,
    optimiser: Optimiser,
    /// Parameters of the epoch that did best, with its figure.
    best: Vec<Array<f32>>,
    best_figure: (f64, usize),
    /// In the order of this epoch.
    items: Vec<usize>,
    /// Epochs, and batches of this one, that lie behind.
    epoch: usize,
    at: usize,
    rng: ChaCha8Rng,
}

impl Way {
    fn to_bytes(&self) -> Vec<u8> {
        let mut saved = Saved::default();
        let (n_steps, moments) = self.optimiser.state();
        saved.set("n_steps", n_steps);
        saved.set_arrays("now", self.now.iter().map(|p| &*p.value));
        saved.set_arrays("moments", moments.iter().flatten());
        saved.set_arrays("best", &self.best);
        saved.set_number("best_figure", self.best_figure.0);
        for (name, number) in [("best_epoch", self.best_figure.1), ("epoch", self.epoch), ("at", self.at)] {
            saved.set(name, number);
        }
        saved.set_mats("items", &[Mat::from_fn(self.items.len(), 1, |i, _| self.items[i] as f64)]);
        saved.set("chances", self.rng.get_word_pos());
        saved.to_bytes()
    }

    /// Goes on where [`Way::to_bytes`] was; stays where it is if the draft is of something else.
    fn restore(&mut self, saved: &Saved) -> Option<()> {
        let now = saved.arrays_like("now", &self.best)?;
        let moments: Vec<Array<f32>> = self.optimiser.state().1.iter().flatten().cloned().collect();
        let moments = saved.arrays_like("moments", &moments)?;
        let moments = moments.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
        let best = saved.arrays_like("best", &self.best)?;
        let best_figure = (saved.number("best_figure")?, saved.get("best_epoch")?);
        let (epoch, at, chances) = (saved.get("epoch")?, saved.get("at")?, saved.get("chances")?);
        let items = saved.mats("items").pop().filter(|items| items.nrows() == self.items.len())?;
        self.optimiser = self.optimiser.clone().with_state(saved.get("n_steps")?, moments)?;
        self.now.iter_mut().zip(now).for_each(|(p, value)| p.value = value.into());
        (self.best, self.best_figure, self.epoch, self.at) = (best, best_figure, epoch, at);
        self.items = (0..items.nrows()).map(|i| items[(i, 0)] as usize).collect();
        self.rng.set_word_pos(chances);
        Some(())
    }
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
