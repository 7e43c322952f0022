//! How parameters follow their gradients: named parameters, optimisers, and the learning rate over time.
//!
//! Everything here is plain numbers that a checkpoint can hold ([`Optimiser::state`]), so that a run that was stopped goes on as if it had not been.

mod optimiser;
mod schedule;
#[cfg(test)]
mod tests;

pub use optimiser::{Optimiser, Rule, clip};
pub use schedule::{Decay, Schedule};

use crate::grad::Array;

/// A matrix that is learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// By which checkpoints know it.
    pub name: String,
    /// What it is now.
    pub value: Array<f32>,
    /// Whether weight decay holds it small: matrices of weights, not biases, gains and temperatures.
    pub decays: bool,
}

impl Parameter {
    /// A matrix of weights.
    pub fn weight(name: impl Into<String>, value: Array<f32>) -> Self {
        Self { name: name.into(), value, decays: true }
    }

    /// A bias, a gain, a temperature.
    pub fn plain(name: impl Into<String>, value: Array<f32>) -> Self {
        Self { name: name.into(), value, decays: false }
    }
}
