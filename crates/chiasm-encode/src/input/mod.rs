//! What stands before the networks: pictures to pixels, texts to tokens. Shared by the architectures whose checkpoints bring a
//! description of their preprocessing.

mod image_processor;
#[cfg(test)]
mod parity;
mod tokens;

pub(crate) use image_processor::{Defaults, ImageProcessor};
pub(crate) use tokens::TextTokenizer;
