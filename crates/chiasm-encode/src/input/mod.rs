//! What stands before the networks: pictures to pixels, videos to frames, texts to tokens. Shared by the architectures whose checkpoints bring a
//! description of their preprocessing.

mod clip;
mod image_processor;
#[cfg(test)]
mod parity;
mod tokens;

pub(crate) use clip::{Clip, ClipProcessor};
pub(crate) use image_processor::{Defaults, ImageProcessor};
pub(crate) use tokens::TextTokenizer;
