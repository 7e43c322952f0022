//! The text transformer of CLIP and its kin: words and positions to the state of one token, projected. Checkpoints differ in what they
//! call its parts and in how the text is read; both are said by who loads it.

use chiasm_nn::cuda::{Device, DeviceError, DeviceStack, Keep};
use chiasm_nn::{Block, BlockNames, BlockShape, LayerNorm, Linear, Mask, Table, Weights, WeightsError};
use rayon::prelude::*;

use crate::net::{Net, Watch, on_all_cores, run};
use crate::nets::clip::projected;

/// What a checkpoint calls the parts, and how many there are of each.
pub(crate) struct Parts<'a> {
    /// The table of words, and its rows.
    pub(crate) words: (&'a str, usize),
    /// The table of positions, and its rows.
    pub(crate) positions: (&'a str, usize),
    /// The blocks, and their number.
    pub(crate) blocks: (&'a dyn Fn(usize) -> BlockNames, usize),
    /// The normalisation after the last block.
    pub(crate) norm: &'a str,
    /// The shape of every block.
    pub(crate) shape: BlockShape,
}

/// How a text is read.
pub(crate) struct Reading {
    /// Whether a token sees those before it alone, or all, padding among them: then texts must come filled up.
    pub(crate) causal: bool,
    /// Whose state stands for the text.
    pub(crate) speaker: Speaker,
}

/// The token whose state stands for the text.
pub(crate) enum Speaker {
    /// The first.
    First,
    /// The last, be it a word or padding.
    Last,
    /// The first of the highest number, which in CLIP's vocabulary is the end token.
    Highest,
    /// The first of this number; the first of all where it is missing.
    Token(u32),
    /// A vector that is no word, put behind the text that is filled up; see [`Appended`].
    Appended(Appended),
}

impl Speaker {
    /// Where the token stands whose state stands for the text.
    pub(crate) fn place(&self, ids: &[u32]) -> usize {
        match self {
            Speaker::First => 0,
            Speaker::Last | Speaker::Appended(_) => ids.len() - 1,
            Speaker::Highest => {
                ids.iter().enumerate().max_by_key(|(i, id)| (**id, std::cmp::Reverse(*i))).map_or(0, |(i, _)| i)
            }
            Speaker::Token(token) => ids.iter().position(|id| id == token).unwrap_or(0),
        }
    }
}

/// CoCa's class token, at the last position of all.
///
/// As the published weights were trained, the mask that should hide the padding stands one place too far right: a place is hidden from
/// all when the token *before* it is padding. So the first padding is seen, those after it are not, nor is the class token itself
/// where there is any padding. Hence all that is computed is the text, one padding and the class token.
pub(crate) struct Appended {
    /// `[dim]`.
    pub(crate) token: Vec<f32>,
    /// What fills texts up.
    pub(crate) padding: u32,
}

/// The network.
pub(crate) struct TextTransformer {
    /// `[vocabulary, dim]`.
    words: Table,
    /// `[positions, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    projection: Option<Linear>,
    reading: Reading,
    dim: usize,
    /// The blocks on a GPU, where they were brought there.
    device: Option<DeviceStack>,
}

/// Texts that are projected together by one thread.
const PROJECTED_AT_A_TIME: usize = 8;

impl TextTransformer {
    /// Takes all but the projection, which is given.
    pub(crate) fn load(
        w: &mut Weights,
        parts: &Parts<'_>,
        reading: Reading,
        projection: Option<Linear>,
    ) -> Result<Self, WeightsError> {
        let dim = parts.shape.dim;
        let (names, n_blocks) = parts.blocks;
        Ok(Self {
            words: w.table(parts.words.0, [parts.words.1, dim])?,
            positions: w.take(parts.positions.0, &[parts.positions.1, dim])?,
            blocks: (0..n_blocks).map(|i| Block::load(w, &names(i), parts.shape)).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(w, parts.norm, dim, parts.shape.eps)?,
            projection,
            reading,
            dim,
            device: None,
        })
    }

    /// What counts of the texts: read causally, states up to a place do not depend on what stands after it.
    fn read<'a>(&self, texts: &'a [Vec<u32>]) -> Vec<&'a [u32]> {
        let until = |ids: &[u32]| if self.reading.causal { self.reading.speaker.place(ids) + 1 } else { ids.len() };
        texts.iter().map(|ids| &ids[..until(ids)]).collect()
    }

    /// The embeddings of texts from the states that stand for them.
    fn finished(&self, mut speakers: Vec<f32>) -> Vec<Vec<f32>> {
        self.norm.forward(&mut speakers);
        match &self.projection {
            Some(projection) => projected(projection, &speakers),
            None => speakers.chunks_exact(self.dim).map(<[f32]>::to_vec).collect(),
        }
    }

    /// The states that go into the first block, and how many there are of each text.
    fn embedded(&self, texts: &[&[u32]]) -> (Vec<f32>, Vec<usize>) {
        let dim = self.dim;
        let mut x = Vec::new();
        let mut lengths = Vec::with_capacity(texts.len());
        let last = &self.positions[self.positions.len() - dim..];
        for ids in texts {
            let before = x.len();
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(dim)) {
                self.words.push_sum(*id as usize, position, &mut x);
            }
            if let Speaker::Appended(appended) = &self.reading.speaker {
                x.extend(appended.token.iter().zip(last).map(|(t, p)| t + p));
            }
            lengths.push((x.len() - before) / dim);
        }
        (x, lengths)
    }
}

impl Net<Vec<u32>> for TextTransformer {
    fn dim(&self) -> usize {
        self.projection.as_ref().map_or(self.dim, Linear::n_out)
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn width(&self) -> Option<usize> {
        Some(self.dim)
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.dim;
        let mut speakers = Vec::with_capacity(texts.len() * dim);
        if let Speaker::Appended(appended) = &self.reading.speaker {
            let room = self.positions.len() / dim - 1;
            let texts: Vec<Vec<u32>> = texts.iter().map(|ids| appended.with_padding(ids, room)).collect();
            let (mut x, lengths) = self.embedded(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mask = |sequence: usize, _: usize, scores: &mut [f32]| appended.hide(&texts[sequence], scores);
            run(&self.blocks, &mut x, &lengths, Mask::Added(&mask), watch);
            let mut after = 0;
            for n in &lengths {
                after += n * dim;
                speakers.extend_from_slice(&x[after - dim..after]);
            }
        } else {
            let texts = self.read(texts);
            let (mut x, lengths) = self.embedded(&texts);
            run(&self.blocks, &mut x, &lengths, if self.reading.causal { Mask::Causal } else { Mask::None }, watch);
            let mut first = 0;
            for ids in &texts {
                speakers.extend_from_slice(&x[(first + self.reading.speaker.place(ids)) * dim..][..dim]);
                first += ids.len();
            }
        }
        self.finished(speakers)
    }

    fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        // A mask that hides places of each text by itself has no kernel.
        if let Speaker::Appended(_) = self.reading.speaker {
            return Ok(false);
        }
        self.device = Some(DeviceStack::new(device, &self.blocks)?);
        Ok(true)
    }

    fn embed_all(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, DeviceError> {
        let Some(device) = &self.device else { return Ok(on_all_cores(self, texts)) };
        let texts = self.read(texts);
        let (x, lengths) = self.embedded(&texts);
        let places: Vec<usize> = texts.iter().map(|ids| self.reading.speaker.place(ids)).collect();
        let speakers = device.forward(&x, &lengths, self.reading.causal, Keep::One(&places))?;
        let some = speakers.par_chunks(PROJECTED_AT_A_TIME * self.dim);
        Ok(some.flat_map_iter(|speakers| self.finished(speakers.to_vec())).collect())
    }
}

impl Appended {
    /// A text with one padding behind it where there is room.
    fn with_padding(&self, ids: &[u32], room: usize) -> Vec<u32> {
        let mut ids = ids.to_vec();
        if ids.len() < room {
            ids.push(self.padding);
        }
        ids
    }

    /// Takes away the scores, `[n, n]` with `n` one more than `ids`, of the places that are not seen.
    fn hide(&self, ids: &[u32], scores: &mut [f32]) {
        let n = ids.len() + 1;
        for (query, row) in scores.chunks_exact_mut(n).enumerate() {
            for (key, score) in row.iter_mut().enumerate() {
                if key > query || (key > 0 && ids[key - 1] == self.padding) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }
}
