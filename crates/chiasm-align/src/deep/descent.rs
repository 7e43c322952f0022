//! Gradient descent: AdamW with warm-up and a cosine, bounded gradients, and a running mean of the parameters.
//!
//! # Reference
//! I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2. Checked against torch's `AdamW`
//! (`reference/align_deep_goldens.py`).

use chiasm_nn::learn::{Decay, Schedule};

use crate::draft::Saved;
use crate::linalg::Mat;

/// Decay of the mean of gradients, and of their squares.
const BETAS: (f64, f64) = (0.9, 0.98);
/// Added to the root of the mean square.
const EPSILON: f64 = 1e-8;
/// Share of the steps in which the rate rises from nothing.
const WARM_UP: f64 = 0.05;
/// Decay of the running mean of the parameters.
const MEAN_DECAY: f64 = 0.98;

/// Parameters on their way.
pub(crate) struct Descent {
    /// The parameters as they are.
    pub(crate) now: Vec<Mat>,
    /// Their running mean, which does better on rows not seen (Polyak and Juditsky, 1992).
    pub(crate) mean: Vec<Mat>,
    /// Which of them are held small.
    decays: Vec<bool>,
    moments: Vec<(Mat, Mat)>,
    betas: (f64, f64),
    n_steps: usize,
    rate: f64,
    decay: f64,
    max_norm: f64,
    of_steps: usize,
}

/// How fast, and how far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) rate: f64,
    pub(crate) decay: f64,
    /// Length of all gradients together at most.
    pub(crate) max_norm: f64,
    /// Steps after which the rate would reach 0.
    pub(crate) of_steps: usize,
}

impl Descent {
    pub(crate) fn new(start: Vec<Mat>, decays: Vec<bool>, pace: Pace) -> Descent {
        let zeros = |p: &Mat| (Mat::zeros(p.nrows(), p.ncols()), Mat::zeros(p.nrows(), p.ncols()));
        let Pace { rate, decay, max_norm, of_steps } = pace;
        let moments = start.iter().map(zeros).collect();
        Descent { mean: start.clone(), now: start, decays, moments, betas: BETAS, n_steps: 0, rate, decay, max_norm, of_steps }
    }

    /// The same with decays of one's own of the means of gradients and of their squares.
    pub(crate) fn with_betas(self, betas: (f64, f64)) -> Descent {
        Descent { betas, ..self }
    }

    /// Puts all that steps change into a draft.
    pub(crate) fn save(&self, saved: &mut Saved, name: &str) {
        saved.set(format!("{name}.n_steps"), self.n_steps);
        let (first, second): (Vec<Mat>, Vec<Mat>) = self.moments.iter().cloned().unzip();
        for (what, mats) in [("now", &self.now), ("mean", &self.mean), ("first", &first), ("second", &second)] {
            saved.set_mats(&format!("{name}.{what}"), mats);
        }
    }

    /// Goes on where [`Descent::save`] was; none where the draft is of other parameters.
    pub(crate) fn restore(&mut self, saved: &Saved, name: &str) -> Option<()> {
        let all = |what: &str| saved.mats_like(&format!("{name}.{what}"), &self.now);
        let (now, mean, first, second) = (all("now")?, all("mean")?, all("first")?, all("second")?);
        self.n_steps = saved.get(&format!("{name}.n_steps"))?;
        (self.now, self.mean, self.moments) = (now, mean, first.into_iter().zip(second).collect());
        Some(())
    }

    /// The rate of the step of that number, from 0.
    fn rate_at(&self, step: usize) -> f64 {
        let n_steps = self.of_steps.max(1);
        let warm_up = ((n_steps as f64 * WARM_UP).ceil() as usize).max(1);
        Schedule { rate: self.rate, warm_up, n_steps, decay: Decay::Cosine }.at(step)
    }

    /// The rate of the next step.
    pub(crate) fn rate(&self) -> f64 {
        self.rate_at(self.n_steps)
    }

    /// One step against the gradients.
    pub(crate) fn step(&mut self, gradients: &[Mat]) {
        self.step_at(self.rate(), gradients);
    }

    /// The same at a rate of one's own.
    pub(crate) fn step_at(&mut self, rate: f64, gradients: &[Mat]) {
        self.n_steps += 1;
        let t = self.n_steps as i32;
        let squares = |g: &Mat| (0..g.ncols()).map(|j| g.col(j).iter().map(|v| v * v).sum::<f64>()).sum::<f64>();
        let norm = gradients.iter().map(squares).sum::<f64>().sqrt();
        let scale = if norm > self.max_norm { self.max_norm / norm } else { 1.0 };
        let corrections = (1.0 - self.betas.0.powi(t), 1.0 - self.betas.1.powi(t));
        // The first steps leave the start behind, which says nothing of where the way leads.
        let mean_decay = MEAN_DECAY.min(f64::from(t) / f64::from(t + 9));
        for (at, gradient) in gradients.iter().enumerate() {
            let pace = Step {
                rate,
                shrink: if self.decays[at] { 1.0 - rate * self.decay } else { 1.0 },
                scale,
                betas: self.betas,
                corrections,
                mean_decay,
            };
            let (first, second) = &mut self.moments[at];
            let (now, mean) = (&mut self.now[at], &mut self.mean[at]);
            for j in 0..gradient.ncols() {
                let moments = (first.col_as_slice_mut(j), second.col_as_slice_mut(j));
                pace.take(gradient.col_as_slice(j), moments, now.col_as_slice_mut(j), mean.col_as_slice_mut(j));
            }
        }
    }
}

/// One step of one parameter.
struct Step {
    rate: f64,
    /// What decay leaves of the parameter.
    shrink: f64,
    /// What the bound leaves of the gradient.
    scale: f64,
    betas: (f64, f64),
    /// What the moments lack since they began at 0.
    corrections: (f64, f64),
    mean_decay: f64,
}

impl Step {
    fn take(&self, gradient: &[f64], moments: (&mut [f64], &mut [f64]), now: &mut [f64], mean: &mut [f64]) {
        let of_all = gradient.iter().zip(moments.0).zip(moments.1).zip(now).zip(mean);
        for ((((g, m), v), p), average) in of_all {
            let g = g * self.scale;
            *m = self.betas.0 * *m + (1.0 - self.betas.0) * g;
            *v = self.betas.1 * *v + (1.0 - self.betas.1) * g * g;
            let step = (*m / self.corrections.0) / ((*v / self.corrections.1).sqrt() + EPSILON);
            *p = *p * self.shrink - self.rate * step;
            *average = self.mean_decay * *average + (1.0 - self.mean_decay) * *p;
        }
    }
}
