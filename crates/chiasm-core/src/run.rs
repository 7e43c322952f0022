//! How long work reports on itself and is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Listens to long work. The command line draws bars, a server streams events, tests use [`NoProgress`].
pub trait Progress: Send + Sync {
    /// A stage begins: what it does, and how many steps it has when that is known.
    fn start(&self, stage: &str, n_steps: Option<u64>);

    /// Steps done since the last call.
    fn advance(&self, n_steps: u64);

    /// How the stage goes: figures by name (a loss, a rate), in the order to be shown, that the next ones replace. Told before the step that they are of
    /// is counted.
    fn tell(&self, _figures: &[(&'static str, f64)]) {}

    /// A line the user should see while work goes on (a refused file, a warning).
    fn note(&self, line: &str);

    /// The stage is over.
    fn finish(&self);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _stage: &str, _n_steps: Option<u64>) {}
    fn advance(&self, _n_steps: u64) {}
    fn note(&self, _line: &str) {}
    fn finish(&self) {}
}

/// The user asked for the work to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

/// A switch that stops long work at its next safe point; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for a stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// To be called at each safe point, with `?`.
    ///
    /// # Errors
    /// [`Cancelled`] once a stop was asked for.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}
