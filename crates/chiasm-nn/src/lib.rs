//! Layers of neural networks on the CPU, and how their weights are loaded.
//!
//! Row-major slices of `f32` go in and out, and no tensor type stands between: a layer is a struct of plain weights with one
//! `forward`. Inside, dense layers multiply in a [`Precision`] of their own, with weights packed for the machine. Pictures are
//! height-width-channels, so that a 1x1 convolution *is* a linear layer over pixels and a depthwise one runs along memory.
//!
//! Two promises hold throughout. Layers compute on the calling thread; whoever has a batch spreads it over threads. And a row
//! of the result depends, to the last bit, on its own row of the input alone, whatever else is in the batch.
#![deny(unsafe_code)]

mod activation;
mod attention;
mod conv;
mod conv3d;
pub mod cuda;
mod depthwise;
pub mod grad;
mod kernel;
pub mod learn;
mod linear;
#[cfg(test)]
mod made_up;
mod map;
mod norm;
mod pool;
mod recurrent;
mod simd;
mod transformer;
mod weights;
mod windows;

pub use activation::{Activation, sigmoid, softmax};
pub use attention::{AttentionScratch, CrossAttention, Mask, Qkv, SelfAttention};
pub use conv::{Conv2d, ConvShape, Filters};
pub use conv3d::{Conv3d, Conv3dShape, FeatureVolume};
pub use depthwise::Depthwise;
pub use kernel::{Precision, instructions, on_all_threads};
pub use linear::Linear;
pub use map::{FeatureMap, Padding, Window, same_padding};
pub use norm::{BatchNorm, LayerNorm};
pub use pool::{Pool, Pooling, SqueezeExcite};
pub use recurrent::{Cell, RecurrentLayer, RecurrentScratch, RecurrentShape};
pub use transformer::{Block, BlockNames, BlockScratch, BlockShape, CrossLayer, CrossNames, Order};
pub use weights::{Table, WEIGHT_FILES, Weights, WeightsError};
pub use windows::{PatchMerge, WindowBlock, WindowScratch};
