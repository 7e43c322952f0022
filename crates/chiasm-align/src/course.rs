//! The loop of all that learns here step by step: epochs, how long, what is told on the way, and what a draft keeps. Whoever learns says what a step is.

use crate::draft::{Part, Saved};
use crate::fit::{FitError, Run};

/// Epochs without a better one after which it is known how long.
const PATIENCE: usize = 8;

/// Something that learns by steps.
pub(crate) trait Learner {
    /// One step; the first of an epoch draws its batches, the last ends it.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    fn step(&mut self) -> Result<(), FitError>;
    /// Epochs that lie behind.
    fn n_epochs(&self) -> usize;
    /// The loss of the last step, and the rate.
    fn told(&self) -> [f64; 2];
    /// The epoch was the best so far: for whoever wants to come back to it.
    fn keep_best(&mut self) {}
    /// Puts all that steps change into a draft; what is put begins with `name`.
    fn save(&self, saved: &mut Saved, name: &str);
    /// Goes on where [`Learner::save`] was; none where the draft is of another.
    fn restore(&mut self, saved: &Saved, name: &str) -> Option<()>;
}

/// A number of epochs, or fewer.
pub(crate) struct Course<'c, 'r> {
    /// What it is called.
    pub(crate) stage: &'static str,
    /// Epochs at most.
    pub(crate) max_epochs: usize,
    /// Where it is kept, and what an earlier run kept there.
    pub(crate) part: &'c mut Part<'r>,
    pub(crate) saved: Option<&'c Saved>,
    pub(crate) run: &'c Run<'r>,
}

/// The best of the epochs, 0 for the start, by a figure of which more is better.
#[derive(Clone, Copy)]
pub(crate) struct Best {
    figure: f64,
    pub(crate) epoch: usize,
}

/// How well what one learner learned does on what was set aside for it; greater is better. None where nothing was.
pub(crate) type Judge<'j, L> = Option<&'j dyn Fn(usize, &L) -> Result<f64, FitError>>;

impl Course<'_, '_> {
    /// Which stage an earlier run was at, and of how many epochs.
    pub(crate) fn reached(saved: &Saved) -> Option<(String, usize)> {
        Some((saved.get("stage")?, saved.get("max_epochs")?))
    }

    /// Goes on from where an earlier run was, or from what `begin` makes, until all epochs are done or the last ones brought nothing better. Learners take
    /// their epochs side by side, and each epoch is judged by all of them together.
    ///
    /// # Errors
    /// Those of steps and of `judge`; [`FitError::Cancelled`], [`FitError::Draft`].
    pub(crate) fn go<L: Learner>(
        self,
        begin: &dyn Fn() -> Result<Vec<L>, FitError>,
        judge: Judge<'_, L>,
    ) -> Result<(Vec<L>, Best), FitError> {
        let Course { stage, max_epochs, part, saved, run } = self;
        let figure = |learners: &[L]| match judge {
            Some(judge) => learners.iter().enumerate().map(|(at, learner)| judge(at, learner)).sum(),
            None => Ok(0.0),
        };
        run.progress.start(stage, Some(max_epochs as u64));
        let mut learners = begin()?;
        let of_stage = saved.filter(|saved| Self::reached(saved).is_some_and(|(of, _)| of == stage));
        let mut best = match of_stage.map(|saved| taken_up(&mut learners, saved)) {
            Some(Some(best)) => best,
            fits => {
                if fits.is_some() {
                    // What a draft that fits in part has changed is made anew.
                    learners = begin()?;
                }
                Best { figure: figure(&learners)?, epoch: 0 }
            }
        };
        let state = |learners: &[L], best: Best| {
            let mut saved = Saved::default();
            saved.set("stage", stage);
            saved.set("max_epochs", max_epochs);
            saved.set_number("best", best.figure);
            saved.set("best_epoch", best.epoch);
            learners.iter().enumerate().for_each(|(at, learner)| learner.save(&mut saved, &at.to_string()));
            saved.to_bytes()
        };
        // Only the last epoch can be one that is not done with all of them.
        let mut epoch = learners.iter().map(L::n_epochs).min().unwrap_or(0);
        run.progress.advance(epoch as u64);
        while epoch < max_epochs && (judge.is_none() || epoch < best.epoch + PATIENCE) {
            epoch += 1;
            for at in 0..learners.len() {
                while learners[at].n_epochs() < epoch {
                    part.pause(|| state(&learners, best))?;
                    learners[at].step()?;
                }
            }
            let [loss, rate] = learners[0].told();
            let told = [("loss", loss), ("rate", rate)];
            if judge.is_some() {
                let figure = figure(&learners)?;
                run.progress.tell(&[told[0], told[1], ("found", figure / learners.len() as f64)]);
                if figure > best.figure {
                    best = Best { figure, epoch };
                    learners.iter_mut().for_each(L::keep_best);
                }
            } else {
                run.progress.tell(&told);
            }
            run.progress.advance(1);
        }
        part.finish(|| state(&learners, best))?;
        Ok((learners, best))
    }
}

/// Brings the learners to where a draft left them; gives the best epoch until then. None where it is of other learners.
fn taken_up<L: Learner>(learners: &mut [L], saved: &Saved) -> Option<Best> {
    for (at, learner) in learners.iter_mut().enumerate() {
        learner.restore(saved, &at.to_string())?;
    }
    Some(Best { figure: saved.number("best")?, epoch: saved.get("best_epoch")? })
}
