//! What stands before a tower, for whoever trains one: media to what its first layer takes.
//!
//! The encoder that [`crate::open`] opens has the same inside. Which architectures can be trained stands in [`Inputs::open`].

use std::path::Path;

use chiasm_core::{Media, Modality};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{ImageProcessor, SeriesProcessor, SoundProcessor, TextTokenizer};
use crate::nets::patches::unfold;
use crate::nets::text_transformer::Speaker;
use crate::nets::{chiasm, clip, families};

/// What stands before a tower: media to what its first layer takes. For whoever trains one; the encoder that [`crate::open`] opens has it inside.
pub struct Inputs {
    pub(crate) how: How,
    /// Height and width of a patch; what becomes one token.
    pub(crate) patch: [usize; 2],
    /// Tokens of an input at most, and numbers of each (0 for words).
    pub(crate) shape: [usize; 2],
    /// Whether a patch comes channel by channel, as the weights of a convolution lie, or pixel by pixel.
    by_channel: bool,
    /// Who speaks for a text that is read causally: what stands behind counts for nothing and is left out.
    speaker: Option<Speaker>,
}

/// By what.
pub(crate) enum How {
    Image(ImageProcessor),
    Text(TextTokenizer),
    Audio(SoundProcessor),
    Series(SeriesProcessor),
}

/// What goes into a tower.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// `[tokens, numbers]`, row by row.
    Rows(Vec<f32>),
    /// Numbers of words.
    Words(Vec<u32>),
}

impl Inputs {
    /// Those of the tower for `modality` of the checkpoint in a folder, whose weights need not be there yet: of this project's own and of CLIP, the two that can be
    /// trained. Patches of CLIP's pictures come channel by channel, and its texts end with the token whose state stands for them.
    ///
    /// # Errors
    /// [`OpenError`], naming the file; [`OpenError::SeveralTowers`] where there is no such tower.
    pub fn open(folder: &Path, modality: Modality) -> Result<Self, OpenError> {
        let mut files = Checkpoint::new(folder);
        match families::model_type(folder)?.as_deref() {
            Some(chiasm::MODEL_TYPE) => chiasm::inputs(&mut files, modality).map(|(inputs, _)| inputs),
            Some(clip::MODEL_TYPE) => clip::inputs(&mut files, modality),
            other => Err(families::unknown(folder, other, &[chiasm::MODEL_TYPE, clip::MODEL_TYPE])),
        }
    }

    pub(crate) fn new(how: How, patch: [usize; 2], shape: [usize; 2]) -> Self {
        Self { how, patch, shape, by_channel: false, speaker: None }
    }

    /// With patches channel by channel.
    pub(crate) fn by_channel(self) -> Self {
        Self { by_channel: true, ..self }
    }

    /// With texts that end where their speaker stands.
    pub(crate) fn until(self, speaker: Speaker) -> Self {
        Self { speaker: Some(speaker), ..self }
    }

    /// Tokens of an input at most, and numbers of each; 0 numbers for words.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Bands of a frame of a sound's spectrum, in which [`Inputs::prepare`] gives sounds frame after frame; 1 for other media.
    pub fn bands(&self) -> usize {
        match self.how {
            How::Audio(_) => self.patch[1],
            How::Image(_) | How::Text(_) | How::Series(_) => 1,
        }
    }

    /// Media no larger than the tower needs if a part of them will be looked at: a picture's longer side at most four times as long as the tower's, a sound at the
    /// tower's rate and twice as long at most.
    pub fn draft(&self, media: Media) -> Media {
        match (&self.how, media) {
            (How::Image(processor), Media::Image(image)) => {
                let [height, width] = processor.shape();
                Media::Image(chiasm_media::shrink(image, height.max(width).saturating_mul(4)))
            }
            (How::Audio(processor), Media::Audio(wave)) => {
                let mut wave = chiasm_media::resample(&wave, processor.sample_rate_hz());
                wave.samples.truncate(2 * processor.n_samples().unwrap_or(usize::MAX / 2));
                Media::Audio(wave)
            }
            (_, other) => other,
        }
    }

    /// What the tower takes of one piece of media.
    ///
    /// # Errors
    /// Why nothing can be made of it: another kind of media, a text without words, a series without readings.
    pub fn prepare(&self, media: &Media) -> Result<Prepared, String> {
        let mut rows = Vec::new();
        match (&self.how, media) {
            (How::Text(tokenizer), Media::Text(text)) => {
                let mut words = tokenizer.ids_of("the text tower", 0, text).map_err(|e| e.to_string())?;
                if let Some(speaker) = &self.speaker {
                    words.truncate(speaker.place(&words) + 1);
                }
                return Ok(Prepared::Words(words));
            }
            (How::Image(processor), Media::Image(image)) => unfold(&processor.pixels(image), self.patch, &mut rows),
            (How::Audio(processor), Media::Audio(wave)) => unfold(&processor.spectrum(wave)?, self.patch, &mut rows),
            (How::Series(processor), Media::Series(series)) => unfold(&processor.windows(series)?, self.patch, &mut rows),
            (_, other) => return Err(format!("a tower for another kind of media cannot take {}", other.modality())),
        }
        if self.by_channel {
            let [height, width] = self.patch;
            rows = turned(&rows, height * width);
        }
        Ok(Prepared::Rows(rows))
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inputs of {} tokens of {} numbers", self.shape[0], self.shape[1])
    }
}

/// Patches of `area` pixels in three channels, from pixel by pixel to channel by channel.
fn turned(rows: &[f32], area: usize) -> Vec<f32> {
    let of_patch = |patch: &[f32]| {
        (0..3).flat_map(|c| (0..area).map(move |at| (at, c))).map(|(at, c)| patch[at * 3 + c]).collect::<Vec<f32>>()
    };
    rows.chunks_exact(3 * area).flat_map(of_patch).collect()
}
