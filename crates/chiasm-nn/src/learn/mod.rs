//! How parameters follow their gradients: named parameters, optimisers, and the learning rate over time.
//!
//! Everything here is plain numbers that a checkpoint can hold ([`Optimiser::state`]), so that a run that was stopped goes on as if it had not been.

mod memory;
mod optimiser;
mod schedule;
#[cfg(test)]
mod tests;

pub use memory::keep_freed_memory;
pub use optimiser::{Optimiser, Rule, clip};
pub use schedule::{Decay, Schedule};

use std::sync::Arc;

use crate::grad::Array;

/// A matrix that is learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// By which checkpoints know it.
    pub name: String,
    /// What it is now; a tape that it stands on shares it.
    pub value: Arc<Array<f32>>,
    /// Whether weight decay holds it small: matrices of weights, not biases, gains and temperatures.
    pub decays: bool,
}

impl Parameter {
    /// A matrix of weights.
    pub fn weight(name: impl Into<String>, value: Array<f32>) -> Self {
        Self { name: name.into(), value: Arc::new(value), decays: true }
    }

    /// A bias, a gain, a temperature.
    pub fn plain(name: impl Into<String>, value: Array<f32>) -> Self {
        Self { name: name.into(), value: Arc::new(value), decays: false }
    }
}
