//! The learning rate over the steps of a run.

/// How the rate falls after its rise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// It does not.
    Constant,
    /// Half a cosine, to nothing at the last step (Loshchilov and Hutter, ICLR 2017, without restarts).
    Cosine,
    /// It is multiplied by `factor` after each `every` steps.
    Step {
        /// Steps between two falls, at least 1.
        every: usize,
        /// By what it is multiplied, above 0 and at most 1.
        factor: f64,
    },
}

/// A rise from nothing, then a decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The greatest rate.
    pub rate: f64,
    /// Steps of the rise.
    pub warm_up: usize,
    /// Steps of the whole run.
    pub n_steps: usize,
    /// What comes after the rise.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let since = step - self.warm_up;
        match self.decay {
            Decay::Constant => self.rate,
            Decay::Cosine => {
                let of = self.n_steps.saturating_sub(self.warm_up).max(1);
                let done = (since as f64 / of as f64).min(1.0);
                self.rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            Decay::Step { every, factor } => self.rate * factor.powi(i32::try_from(since / every.max(1)).unwrap_or(i32::MAX)),
        }
    }
}
