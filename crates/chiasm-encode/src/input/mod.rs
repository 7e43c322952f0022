//! What stands before the networks: pictures to pixels, texts to tokens. Shared by the architectures whose checkpoints bring a
//! description of their preprocessing.

mod image_processor;
mod tokens;

pub(crate) use image_processor::{Defaults, ImageProcessor};
pub(crate) use tokens::TextTokenizer;
