//! Transformers on an NVIDIA GPU: a whole stack of blocks, and for pictures the patches before it, without coming back between
//! layers.
//!
//! Products are cuBLASLt's, everything else is in `kernels.cu`, which NVRTC compiles for the card when it is first used. Driver and libraries are
//! opened at run time, so a program with this part runs where there are none, and [`Device::open`] says what is missing. Without
//! the feature `cuda` the same types are here, and opening says that.
//!
//! Two things differ from the layers on the CPU. A batch is computed as one, by whichever thread brings it, and a row may differ in its
//! last digits with what else is in the batch, since cuBLASLt sums in another order for other shapes. States between blocks are in
//! single precision whatever the products are in.

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod matrix;
#[cfg(feature = "cuda")]
mod stack;
#[cfg(all(test, feature = "cuda"))]
mod tests;

use crate::linear::Linear;
use crate::norm::LayerNorm;

#[cfg(not(feature = "cuda"))]
pub use absent::{Device, DevicePictures, DeviceStack, Uploaded};
#[cfg(feature = "cuda")]
pub use device::Device;
#[cfg(feature = "cuda")]
pub use stack::{DevicePictures, DeviceStack, Uploaded};

/// Why a GPU does not compute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The feature `cuda` is off.
    #[error(
        "this program was built without its part for GPUs: build it with `cargo build --release --features cuda`, or leave `+cuda` off the \
         model's name"
    )]
    NotBuilt,
    /// A library cannot be opened.
    #[error(
        "the GPU needs the library {library}, which cannot be opened (looked for {}, where the system looks for libraries): {cure}",
        looked.join(", ")
    )]
    Library {
        /// Which.
        library: &'static str,
        /// Under which names it was looked for.
        looked: Vec<String>,
        /// How to get it.
        cure: &'static str,
    },
    /// There is none, or none that can be used.
    #[error("no NVIDIA GPU can be used: {reason}; `nvidia-smi` tells which there are, CUDA_VISIBLE_DEVICES hides some")]
    NoCard {
        /// What the driver says.
        reason: String,
    },
    /// A network that cannot be brought there.
    #[error("{reason}")]
    Unfit {
        /// Why, and what to ask for.
        reason: String,
    },
    /// Out of memory.
    #[error("the GPU has no room for {} MiB more, {} MiB are free: give smaller batches, or end what else runs there", bytes >> 20, free >> 20)]
    Memory {
        /// What was asked for.
        bytes: usize,
        /// What is left.
        free: usize,
    },
    /// Anything else that went wrong there.
    #[error("the GPU failed in {doing}: {reason}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What the driver or a library says.
        reason: String,
    },
}

/// What stands before the blocks of a vision transformer.
#[derive(Clone, Copy)]
pub struct PictureParts<'a> {
    /// From the numbers of a patch, `[side, side, channels]`, to those of a token.
    pub patches: &'a Linear,
    /// Pixels along a side of a patch.
    pub side: usize,
    /// Numbers per pixel.
    pub channels: usize,
    /// Embedding and position of the class token in one, `[dim]`, where there is such a token.
    pub class: Option<&'a [f32]>,
    /// Positions of the patches, `[patches, dim]`.
    pub positions: &'a [f32],
    /// Applied to all tokens before the first block.
    pub norm: Option<&'a LayerNorm>,
}

/// Which states come back from behind the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep<'a> {
    /// All.
    All,
    /// Of every sequence the one at this place.
    One(&'a [usize]),
    /// Of every sequence the first.
    First,
}
