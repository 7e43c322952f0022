//! What the models of this folder learn by: AdamW ([`chiasm_nn::learn`]), batches, and a part set aside that says when to stop.

use chiasm_nn::grad::{Array, Tape, Var};
use chiasm_nn::learn::{Decay, Optimiser, Parameter, Rule, Schedule, clip};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::course::{self, Learner};
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
    /// Whether the start is something to come back to, where no epoch does better: what was drawn is not.
    fn start_counts(&self) -> bool {
        false
    }
    /// The loss of a batch, `[1, 1]`, by parameters on a tape.
    fn loss<'t>(&self, tape: &'t Tape<f32>, p: &[Var<'t, f32>], batch: &Batch<'_>, rng: &mut ChaCha8Rng) -> Var<'t, f32>;
    /// Tells what is learned from.
    fn tell(&self, key: &mut Key);
    /// How well parameters do on items set aside, 0 to 1; greater is better.
    fn figure(&self, p: &[Array<f32>], aside: &[usize]) -> f64;
}

/// Learns from items, of which number `i` belongs to group `groups[i]`: groups are set aside whole. Gives the parameters of the epoch that did best on
/// what was set aside, or of the last where there is too little to set aside. Where the run keeps a draft, what was stopped goes on at its step.
///
/// # Errors
/// [`FitError::TooFewRows`], [`FitError::Numeric`], [`FitError::Cancelled`].
pub(super) fn learn<L: Lesson>(
    start: Vec<Array<f32>>,
    course: &Course,
    groups: &[u32],
    lesson: &L,
    run: &Run<'_>,
) -> Result<Vec<Array<f32>>, FitError> {
    if groups.len() < 2 {
        return Err(FitError::TooFewRows { got: groups.len(), least: 2, what: "to learn from".to_owned() });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
    let is_aside = set_aside(groups, &mut rng);
    let aside: Vec<usize> = (0..groups.len()).filter(|i| is_aside[*i]).collect();
    let mut part = Part::new(run, "parts", |key| {
        key.words(&format!("{course:?}"));
        key.numbers(groups);
        start.iter().for_each(|value| key.array(value));
        lesson.tell(key);
    });
    let saved = part.read().and_then(|bytes| Saved::from_bytes(&bytes));
    let stretch =
        course::Course { stage: "training", max_epochs: course.max_epochs, part: &mut part, saved: saved.as_ref(), run };
    let begin = || Ok(vec![Learning::new(&start, course, lesson, &is_aside, rng.clone())]);
    let judge = |_: usize, learning: &Learning<'_, L>| {
        let counts = lesson.start_counts() || learning.n_epochs > 0;
        Ok(if counts { lesson.figure(&values(&learning.now), &aside) } else { f64::NEG_INFINITY })
    };
    let judge: course::Judge<'_, Learning<'_, L>> = if aside.is_empty() { None } else { Some(&judge) };
    let (mut learned, _) = stretch.go(&begin, judge)?;
    let learning = learned.remove(0);
    let learned = if aside.is_empty() { values(&learning.now) } else { learning.best };
    if learned.iter().all(Array::is_finite) { Ok(learned) } else { Err(FitError::Numeric { what: "training" }) }
}

fn values(of: &[Parameter]) -> Vec<Array<f32>> {
    of.iter().map(|p| Array::clone(&p.value)).collect()
}

/// Parameters on their way.
struct Learning<'a, L> {
    lesson: &'a L,
    is_aside: &'a [bool],
    batch: usize,
    schedule: Schedule,
    now: Vec<Parameter>,
    optimiser: Optimiser,
    /// Parameters of the epoch that did best.
    best: Vec<Array<f32>>,
    /// Those learned from, in the order of this epoch.
    items: Vec<usize>,
    /// Epochs, and batches of this one, that lie behind.
    n_epochs: usize,
    at: usize,
    /// Loss and rate of the last step.
    told: [f64; 2],
    rng: ChaCha8Rng,
}

impl<'a, L: Lesson> Learning<'a, L> {
    fn new(start: &[Array<f32>], course: &Course, lesson: &'a L, is_aside: &'a [bool], rng: ChaCha8Rng) -> Self {
        let items: Vec<usize> = (0..is_aside.len()).filter(|i| !is_aside[*i]).collect();
        let batch = course.batch.min(items.len());
        let n_steps = course.max_epochs * (items.len() / batch);
        let warm_up = ((n_steps as f64 * WARM_UP).ceil() as usize).max(1);
        // Rows by themselves (biases, gains) do not decay.
        let parameter = |(at, value): (usize, &Array<f32>)| Parameter {
            name: at.to_string(),
            decays: value.n_rows() > 1,
            value: value.clone().into(),
        };
        let now: Vec<Parameter> = start.iter().enumerate().map(parameter).collect();
        Self {
            lesson,
            is_aside,
            batch,
            schedule: Schedule { rate: course.rate, warm_up, n_steps, decay: Decay::Cosine },
            optimiser: Optimiser::new(RULE, course.decay, &now),
            now,
            best: start.to_vec(),
            items,
            n_epochs: 0,
            at: 0,
            told: [f64::NAN, 0.0],
            rng,
        }
    }

    /// A last batch of a few would be a step of much noise; the shuffle gives its items their turn in other epochs.
    fn n_batches(&self) -> usize {
        self.items.len() / self.batch
    }
}

impl<L: Lesson> Learner for Learning<'_, L> {
    fn step(&mut self) -> Result<(), FitError> {
        if self.at == 0 {
            self.items.shuffle(&mut self.rng);
        }
        let items = &self.items[self.at * self.batch..(self.at + 1) * self.batch];
        let tape = Tape::new();
        let leaves: Vec<Var<'_, f32>> = self.now.iter().map(|p| tape.leaf(p.value.clone())).collect();
        let batch = Batch { items, epoch: self.n_epochs, aside: self.is_aside };
        let loss = self.lesson.loss(&tape, &leaves, &batch, &mut self.rng);
        let value = f64::from(loss.value().only());
        if !value.is_finite() {
            return Err(FitError::Numeric { what: "the loss of a batch" });
        }
        let mut gradients = tape.backward(loss);
        let mut gradients: Vec<Array<f32>> = leaves.iter().map(|leaf| gradients.take(*leaf)).collect();
        drop(tape);
        clip(&mut gradients, MAX_NORM);
        let rate = self.schedule.at(self.n_epochs * self.n_batches() + self.at);
        self.optimiser.step(&mut self.now, &gradients, rate);
        self.told = [value, rate];
        self.at += 1;
        if self.at == self.n_batches() {
            (self.n_epochs, self.at) = (self.n_epochs + 1, 0);
        }
        Ok(())
    }

    fn n_epochs(&self) -> usize {
        self.n_epochs
    }

    fn told(&self) -> [f64; 2] {
        self.told
    }

    fn keep_best(&mut self) {
        self.best = values(&self.now);
    }

    fn save(&self, saved: &mut Saved, name: &str) {
        let word = |what: &str| format!("{name}.{what}");
        let (n_steps, moments) = self.optimiser.state();
        saved.set(word("n_steps"), n_steps);
        saved.set(word("n_epochs"), self.n_epochs);
        saved.set(word("at"), self.at);
        saved.set_arrays(&word("now"), self.now.iter().map(|p| &*p.value));
        saved.set_arrays(&word("moments"), moments.iter().flatten());
        saved.set_arrays(&word("best"), &self.best);
        saved.set_mats(&word("items"), &[Mat::from_fn(self.items.len(), 1, |i, _| self.items[i] as f64)]);
        saved.set(word("chances"), self.rng.get_word_pos());
    }

    fn restore(&mut self, saved: &Saved, name: &str) -> Option<()> {
        let word = |what: &str| format!("{name}.{what}");
        let now = saved.arrays_like(&word("now"), &self.best)?;
        let moments: Vec<Array<f32>> = self.optimiser.state().1.iter().flatten().cloned().collect();
        let moments = saved.arrays_like(&word("moments"), &moments)?;
        let moments = moments.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
        let best = saved.arrays_like(&word("best"), &self.best)?;
        let [n_epochs, at] = [saved.get(&word("n_epochs"))?, saved.get(&word("at"))?];
        let chances = saved.get(&word("chances"))?;
        let items = saved.mats(&word("items")).pop().filter(|items| items.nrows() == self.items.len())?;
        self.optimiser = self.optimiser.clone().with_state(saved.get(&word("n_steps"))?, moments)?;
        self.now.iter_mut().zip(now).for_each(|(p, value)| p.value = value.into());
        (self.best, self.n_epochs, self.at) = (best, n_epochs, at);
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
