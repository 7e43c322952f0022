//! What stands before the networks: pictures to pixels, videos to frames, texts to tokens, sounds to spectra. Shared by the architectures whose checkpoints bring a
//! description of their preprocessing.

mod clip;
mod image_processor;
#[cfg(test)]
mod parity;
mod sentencepiece;
mod series_processor;
mod sound_processor;
mod tokens;
mod vocabularies;

pub(crate) use clip::{Clip, ClipProcessor};
pub(crate) use image_processor::{Defaults, ImageProcessor, OpenClipPreprocess};
pub(crate) use series_processor::SeriesProcessor;
pub(crate) use sound_processor::SoundProcessor;
pub(crate) use tokens::{Cleaning, TextTokenizer};
