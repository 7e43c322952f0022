//! Architectures with their own preprocessing and tokenisers, and the model registry.
//!
//! Everything outside meets an encoder through [`open`], which takes a name of the [`catalogue`] or the path of a model and
//! gives a [`chiasm_core::Encoder`]. One file holds one architecture together with the preprocessing its weights were trained
//! on, since the two are worth nothing apart.
#![forbid(unsafe_code)]

mod batch;
mod checkpoint;
mod cross;
mod dirs;
mod error;
mod features;
mod input;
mod model;
mod net;
mod nets;
#[cfg(test)]
mod parity;
mod registry;
mod temperature;

pub use chiasm_nn::{Precision, instructions};
pub use cross::{RegionsFileError, open_cross_encoder, read_regions};
pub use dirs::ModelDirs;
pub use error::OpenError;
pub use registry::{ModelInfo, catalogue, class_names, open, temperature, towers};
pub use temperature::Temperature;
