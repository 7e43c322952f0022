//! What objectives share that look beyond the batch: what they know of a step, what they keep for the next, and a contrast with rows remembered.

use std::any::Any;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::tower::Tower;
use super::unit::log_softmax;
use super::{Batch, Loss};
use crate::fit::FitError;
use crate::linalg::{Mat, product};

/// What an objective may keep from one step to the next.
pub(crate) trait Kept: Any {
    /// It as matrices, for a draft.
    fn to_mats(&self) -> Vec<Mat>;
    /// Becomes what gave these; none if they are of something else.
    fn take(&mut self, mats: &[Mat]) -> Option<()>;
}

/// What an objective keeps; it decides itself of which type.
#[derive(Default)]
pub(crate) struct Memory {
    kept: Option<Box<dyn Kept>>,
    /// What a draft had, until the objective says of which type it is.
    drafted: Option<Vec<Mat>>,
}

impl Memory {
    /// One of a draft.
    pub(crate) fn of(mats: Vec<Mat>) -> Self {
        Self { kept: None, drafted: (!mats.is_empty()).then_some(mats) }
    }

    /// All of it, for a draft.
    pub(crate) fn to_mats(&self) -> Vec<Mat> {
        match &self.kept {
            Some(kept) => kept.to_mats(),
            None => self.drafted.clone().unwrap_or_default(),
        }
    }

    /// What is kept, which at the first step is what `begin` gives.
    pub(crate) fn kept<T: Kept>(&mut self, begin: impl FnOnce() -> T) -> &mut T {
        if self.kept.is_none() {
            let mut kept = begin();
            if let Some(mats) = self.drafted.take() {
                // Another objective's would have another name; so nothing is lost but what a damaged draft had.
                let _ = kept.take(&mats);
            }
            self.kept = Some(Box::new(kept));
        }
        let kept: &mut dyn Any = self.kept.as_deref_mut().expect("filled above");
        kept.downcast_mut().expect("an objective keeps one type of thing")
    }
}

/// A step of training, as an objective may look at it beside the outputs.
pub(crate) struct Context<'a> {
    /// The rows that take the step.
    pub(crate) batch: &'a Batch,
    /// The same rows as they go into the towers, with nothing left out, `[n, m_v]`.
    pub(crate) x: &'a [Mat; 2],
    /// The towers as they are; none where outputs were not made by any.
    pub(crate) towers: Option<&'a [Tower; 2]>,
    /// Places of the batch's rows among all that are learned from, `[n]`.
    pub(crate) rows: &'a [usize],
    /// The groups of all rows that are learned from.
    pub(crate) groups: &'a [u32],
    /// How many of these rows are of each class; empty for a method that does not learn from classes.
    pub(crate) class_counts: &'a [usize],
    /// What is kept between steps.
    pub(crate) memory: &'a mut Memory,
    /// The objective's chances.
    pub(crate) rng: &'a mut ChaCha8Rng,
}

/// A batch as if it were all that is learned from, each row its own group, and nothing had come before.
pub(crate) fn alone(batch: &Batch, loss: impl FnOnce(&mut Context<'_>) -> Result<Loss, FitError>) -> Result<Loss, FitError> {
    let rows: Vec<usize> = (0..batch.n()).collect();
    let groups: Vec<u32> = (0..batch.n() as u32).collect();
    loss(&mut Context {
        batch,
        x: &batch.inputs,
        towers: None,
        rows: &rows,
        groups: &groups,
        class_counts: &batch.labels.as_ref().map(class_counts).unwrap_or_default(),
        memory: &mut Memory::default(),
        rng: &mut ChaCha8Rng::seed_from_u64(0),
    })
}

/// How many rows are of each class.
pub(crate) fn class_counts(labels: &chiasm_core::Labels) -> Vec<usize> {
    let mut counts = vec![0; labels.n_classes()];
    (0..labels.n()).flat_map(|row| labels.of(row)).for_each(|class| counts[*class as usize] += 1);
    counts
}

/// `-1/n sum_i log [ e^(s q_i . right_i) / (e^(s q_i . right_i) + sum_j e^(s q_i . wrong_j)) ]` over the `wrong` rows that count for `i`, and its gradient by
/// the queries `q`, `[n, k]`; what they are compared with is taken as given.
pub(crate) fn contrast(q: &Mat, right: &Mat, wrong: &Mat, counts: impl Fn(usize, usize) -> bool, s: f64) -> (f64, Mat) {
    let n = q.nrows();
    let to_wrong = product(q.as_ref(), wrong.transpose());
    let to_right = |i: usize| (0..q.ncols()).map(|c| q[(i, c)] * right[(i, c)]).sum::<f64>();
    let mut d = log_softmax(&Mat::from_fn(n, 1 + wrong.nrows(), |i, j| match j {
        0 => s * to_right(i),
        j if counts(i, j - 1) => s * to_wrong[(i, j - 1)],
        _ => f64::NEG_INFINITY,
    }));
    let value = -d.col(0).iter().sum::<f64>() / n as f64;
    for j in 0..d.ncols() {
        d.col_mut(j).iter_mut().for_each(|log| *log = s / n as f64 * (log.exp() - f64::from(u8::from(j == 0))));
    }
    let mut d_q = product(d.subcols(1, wrong.nrows()), wrong.as_ref());
    for c in 0..d_q.ncols() {
        (0..n).for_each(|i| d_q[(i, c)] += d[(i, 0)] * right[(i, c)]);
    }
    (value, d_q)
}
