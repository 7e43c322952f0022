//! Between media and networks: what a checkpoint opens to, and the encoders that spread a batch over the cores.

use chiasm_core::{EncodeError, Encoder, Media, Modality, Vectors};
use chiasm_nn::cuda::{Device, DeviceError};
use chiasm_nn::{Block, BlockScratch, FeatureMap, Mask};
use rayon::prelude::*;

use crate::batch;
use crate::input::{Clip, ClipProcessor, ImageProcessor, SeriesProcessor, SoundProcessor, TextTokenizer};
use crate::model::Output;

/// Rows (tokens, patches) that one thread computes at once: enough to make the most of the weights while they are in the
/// cache, few enough that the rows stay near too.
const ROWS_AT_A_TIME: usize = 512;

/// Sees the hidden states on their way: called with a name (`hidden.0` before the first layer, `hidden.1` after it, and so on) and
/// the states of the whole batch, one item after the other.
pub(crate) type Watch<'a> = dyn FnMut(&str, &[f32]) + 'a;

/// A network over preprocessed inputs: a picture or a spectrum ([`FeatureMap`]), frames ([`Clip`]), token ids (`Vec<u32>`).
pub(crate) trait Net<I>: Send + Sync {
    /// Numbers per embedding.
    fn dim(&self) -> usize;

    /// Rows that an input becomes in the network's dense layers, by which inputs are put together for one thread.
    fn rows(&self, input: &I) -> usize;

    /// One embedding per input, before [`Opened::finish`]; each depends on its own input alone, to the last bit. Computes on the
    /// calling thread, but for products within [`chiasm_nn::on_all_threads`].
    fn embed(&self, inputs: &[I], watch: &mut Watch<'_>) -> Vec<Vec<f32>>;

    /// Numbers of a hidden state, of a network whose last hidden states are those of the parts of its input: tokens, patches, places of a map. For
    /// [`Encoder::parts`].
    fn width(&self) -> Option<usize> {
        None
    }

    /// Lets the network compute on a GPU from now on; gives whether its architecture can. Most cannot: they say so by leaving this as it is.
    fn move_to(&mut self, _: &Device) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// The embeddings of a whole batch, as many as there are inputs: on all cores, or on the GPU that the network was brought to.
    fn embed_all(&self, inputs: &[I]) -> Result<Vec<Vec<f32>>, DeviceError>
    where
        I: Sync,
    {
        Ok(on_all_cores(self, inputs))
    }
}

/// Carries the tokens of several sequences, `[sum of lengths, dim]`, through the blocks of a network.
pub(crate) fn run(blocks: &[Block], x: &mut [f32], lengths: &[usize], mask: Mask<'_>, watch: &mut Watch<'_>) {
    let mut scratch = BlockScratch::default();
    watch("hidden.0", x);
    for (i, block) in blocks.iter().enumerate() {
        block.forward(x, lengths, mask, &mut scratch);
        watch(&format!("hidden.{}", i + 1), x);
    }
}

/// Shows pictures' states as [`run`] shows those of tokens.
pub(crate) fn watch_maps(name: &str, maps: &[FeatureMap], watch: &mut Watch<'_>) {
    match maps {
        // What every encoder does most of the time costs no copy.
        [map] => watch(name, &map.data),
        maps => watch(name, &maps.iter().flat_map(|map| &map.data).copied().collect::<Vec<f32>>()),
    }
}

/// A network with what stands before it.
pub(crate) enum Tower {
    /// Takes pictures.
    Image(ImageProcessor, Box<dyn Net<FeatureMap>>),
    /// Takes texts.
    Text(TextTokenizer, Box<dyn Net<Vec<u32>>>),
    /// Takes videos.
    Video(ClipProcessor, Box<dyn Net<Clip>>),
    /// Takes sounds; their spectra are `[frames, bands, channels]`.
    Audio(SoundProcessor, Box<dyn Net<FeatureMap>>),
    /// Takes readings over time, in windows `[windows, 1, numbers]`.
    Series(SeriesProcessor, Box<dyn Net<FeatureMap>>),
}

impl Tower {
    /// See [`Net::move_to`].
    pub(crate) fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        match self {
            Tower::Image(_, net) | Tower::Audio(_, net) | Tower::Series(_, net) => net.move_to(device),
            Tower::Text(_, net) => net.move_to(device),
            Tower::Video(_, net) => net.move_to(device),
        }
    }
}

/// What is done to the numbers that a network gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Nothing.
    AsIs,
    /// They are brought to unit length: embeddings that are compared by their cosine.
    UnitLength,
}

/// Which part of a model is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What it takes.
    pub(crate) modality: Modality,
    /// What it gives.
    pub(crate) output: Output,
}

/// One tower of a checkpoint.
pub(crate) struct Opened {
    pub(crate) tower: Tower,
    pub(crate) finish: Finish,
    /// Name and number of the code; see [`crate::model::fingerprint`].
    pub(crate) arithmetic: &'static str,
}

/// A tower as the world outside meets it.
pub(crate) struct TowerEncoder {
    name: String,
    fingerprint: String,
    tower: Tower,
    finish: Finish,
}

impl TowerEncoder {
    /// A tower, to be known as `name`.
    pub(crate) fn new(name: &str, fingerprint: String, opened: Opened) -> Self {
        Self { name: name.to_owned(), fingerprint, tower: opened.tower, finish: opened.finish }
    }

    /// Prepares a batch and asks the network.
    fn ask<A: Asked>(&self, batch: &[Media], asked: &A) -> Result<A::Answer, EncodeError> {
        match &self.tower {
            Tower::Image(processor, net) => {
                let pixels: Vec<FeatureMap> =
                    batch::images(self, batch)?.into_par_iter().map(|image| processor.pixels(image)).collect();
                asked.ask(self, &**net, &pixels)
            }
            Tower::Video(processor, net) => {
                let clips: Vec<Clip> = batch::videos(self, batch)?.into_par_iter().map(|video| processor.clip(video)).collect();
                asked.ask(self, &**net, &clips)
            }
            Tower::Text(tokenizer, net) => {
                let texts = batch::texts(self, batch)?;
                let tokens: Vec<Vec<u32>> = texts
                    .par_iter()
                    .enumerate()
                    .map(|(item, text)| tokenizer.ids_of(&self.name, item, text))
                    .collect::<Result<_, EncodeError>>()?;
                asked.ask(self, &**net, &tokens)
            }
            Tower::Audio(processor, net) => {
                let sounds = batch::sounds(self, batch)?;
                let spectra: Vec<FeatureMap> = sounds
                    .par_iter()
                    .enumerate()
                    .map(|(item, wave)| processor.spectrum(wave).map_err(|reason| batch::unencodable(self, item, &reason)))
                    .collect::<Result<_, EncodeError>>()?;
                asked.ask(self, &**net, &spectra)
            }
            Tower::Series(processor, net) => {
                let series = batch::series(self, batch)?;
                let windows: Vec<FeatureMap> = series
                    .par_iter()
                    .enumerate()
                    .map(|(item, series)| processor.windows(series).map_err(|reason| batch::unencodable(self, item, &reason)))
                    .collect::<Result<_, EncodeError>>()?;
                asked.ask(self, &**net, &windows)
            }
        }
    }

    fn finished(&self, rows: &mut [Vec<f32>]) {
        for row in rows {
            match self.finish {
                Finish::AsIs => {}
                Finish::UnitLength => {
                    let square: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
                    let scale = 1.0 / square.sqrt().max(1e-12);
                    row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
                }
            }
        }
    }
}

/// What a network is asked for its prepared inputs.
trait Asked {
    /// What it gives for a batch.
    type Answer;

    fn ask<I: Sync>(&self, encoder: &dyn Encoder, net: &dyn Net<I>, inputs: &[I]) -> Result<Self::Answer, EncodeError>;
}

/// [`Encoder::encode`], before the rows are finished.
struct Embeddings;

impl Asked for Embeddings {
    type Answer = Vec<Vec<f32>>;

    fn ask<I: Sync>(&self, encoder: &dyn Encoder, net: &dyn Net<I>, inputs: &[I]) -> Result<Self::Answer, EncodeError> {
        net.embed_all(inputs).map_err(|e| EncodeError::Device { encoder: encoder.name().to_owned(), reason: e.to_string() })
    }
}

/// [`Encoder::parts`]; on the processor, whatever was moved to a GPU.
struct Parts;

impl Asked for Parts {
    type Answer = Vec<Vectors>;

    fn ask<I: Sync>(&self, encoder: &dyn Encoder, net: &dyn Net<I>, inputs: &[I]) -> Result<Self::Answer, EncodeError> {
        let encoder_name = || encoder.name().to_owned();
        let width = net.width().ok_or_else(|| EncodeError::NoParts { encoder: encoder_name() })?;
        let of_one = |input: &I| {
            let mut last = Vec::new();
            net.embed(std::slice::from_ref(input), &mut |_, states| {
                last.clear();
                last.extend_from_slice(states);
            });
            Vectors::new(last, width).map_err(|cause| EncodeError::NotFinite { encoder: encoder_name(), cause })
        };
        inputs.par_iter().map(of_one).collect()
    }
}

impl Encoder for TowerEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn modality(&self) -> Modality {
        match self.tower {
            Tower::Image(..) => Modality::Image,
            Tower::Text(..) => Modality::Text,
            Tower::Video(..) => Modality::Video,
            Tower::Audio(..) => Modality::Audio,
            Tower::Series(..) => Modality::Series,
        }
    }

    fn dim(&self) -> usize {
        match &self.tower {
            Tower::Image(_, net) | Tower::Audio(_, net) | Tower::Series(_, net) => net.dim(),
            Tower::Text(_, net) => net.dim(),
            Tower::Video(_, net) => net.dim(),
        }
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn encode(&self, batch: &[Media]) -> Result<Vectors, EncodeError> {
        let mut rows = self.ask(batch, &Embeddings)?;
        self.finished(&mut rows);
        batch::vectors(self, &rows)
    }

    fn parts(&self, batch: &[Media]) -> Result<Vec<Vectors>, EncodeError> {
        self.ask(batch, &Parts)
    }

    fn reduced(&self, media: &Media) -> Option<Media> {
        match (&self.tower, media) {
            (Tower::Image(processor, _), Media::Image(image)) => processor.reduced(image).map(Media::Image),
            _ => None,
        }
    }
}

/// Embeddings of inputs on all cores.
pub(crate) fn on_all_cores<I: Sync, N: Net<I> + ?Sized>(net: &N, inputs: &[I]) -> Vec<Vec<f32>> {
    let rows: Vec<usize> = inputs.iter().map(|input| net.rows(input)).collect();
    let groups = groups_for_threads(&rows);
    if let [_] = groups.as_slice() {
        return chiasm_nn::on_all_threads(|| net.embed(inputs, &mut |_, _| {}));
    }
    groups.into_par_iter().flat_map_iter(|group| net.embed(&inputs[group], &mut |_, _| {})).collect()
}

/// Ranges of consecutive inputs of about as many rows, each for one thread at a time.
pub(crate) fn groups_for_threads(rows: &[usize]) -> Vec<std::ops::Range<usize>> {
    groups(rows, rows_for_threads(rows.iter().sum(), rayon::current_num_threads()))
}

/// Rows of a group: as many groups for each thread as for any other, for three groups keep two threads as long as four do.
fn rows_for_threads(n_rows: usize, n_threads: usize) -> usize {
    n_rows.div_ceil(n_rows.div_ceil(ROWS_AT_A_TIME).max(1).next_multiple_of(n_threads.max(1)))
}

/// Ranges of consecutive inputs, each closed once it has `at_a_time` rows.
fn groups(rows: &[usize], at_a_time: usize) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut n_rows) = (0, 0);
    for (i, n) in rows.iter().enumerate() {
        n_rows += n;
        if n_rows >= at_a_time {
            groups.push(start..i + 1);
            (start, n_rows) = (i + 1, 0);
        }
    }
    if start < rows.len() {
        groups.push(start..rows.len());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_the_order_and_lose_nothing() {
        let rows = [3, 5, 300, 4, 4];
        for at_a_time in [0, 1, 8, 1000] {
            let together: Vec<usize> = groups(&rows, at_a_time).into_iter().flatten().collect();
            assert_eq!(together, [0, 1, 2, 3, 4]);
        }
        assert_eq!(groups(&rows, 8), [0..2, 2..3, 3..5]);
    }

    #[test]
    fn every_thread_has_as_many_groups_as_any_other() {
        // 32 pictures of 50 patches: 512 rows at a time would be three groups, of 11, 11 and 10.
        let sizes: Vec<usize> = groups(&[50; 32], rows_for_threads(1600, 2)).iter().map(ExactSizeIterator::len).collect();
        assert_eq!(sizes, [8; 4]);
        for (n_rows, n_threads) in [(0, 2), (1, 16), (50, 1), (512, 1), (513, 2), (6304, 5)] {
            let rows = rows_for_threads(n_rows, n_threads);
            assert!(rows <= ROWS_AT_A_TIME, "{n_rows} rows, {n_threads} threads: {rows}");
        }
    }
}
