//! chiasm: pictures, texts, sounds and series to one space, by one transformer for each, as `chiasm train` makes it. What reads a text with a
//! picture before it stands in `chiasm_pair.rs`.
//!
//! # Reference
//! This project's own: the pre-norm transformer of Vaswani et al. (2017) over patches (Dosovitskiy et al., ICLR 2021) and over words alike, whose states
//! are averaged, towers trained together as CLIP's are (Radford et al., ICML 2021). Checked against the tape that trains it
//! (`crates/chiasm-train/src/tower.rs`).
//! # Files
//! `config.json` (`model_type` `chiasm`), `preprocessor_config.json`, `tokenizer.json` where it takes texts, the weights.
//! # Preprocessing
//! Pictures as `preprocessor_config.json` says, to a square. Sounds: Kaldi's log-mel, of the first so many frames. Series: see
//! [`SeriesProcessor`]. Texts: the tokeniser's, cut to the greatest length.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | a patch of a picture, a stretch of a spectrum, a window of a series | `[numbers]` | about -3..3 |
//! | tokens | `[n, width]` | any |
//! | embedding | `[projection_dim]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{
    Activation, Block, BlockNames, BlockShape, FeatureMap, LayerNorm, Linear, Mask, Order, Qkv, Table, Weights, WeightsError,
};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, SeriesProcessor, SoundProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, run};
use crate::nets::inputs::{How, Inputs};
use crate::nets::patches::unfold;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "chiasm 1";

/// What `config.json` calls the architecture.
pub const MODEL_TYPE: &str = "chiasm";

/// How the names of what reads a text with a picture before it begin.
pub(crate) const MATCHING: &str = "matching.";

/// Pixels or frames beyond these are refused: a description comes from strangers, and decides how many tokens there are.
const MAX_SIDE: usize = 1 << 16;

/// Added to the variance in all normalisations.
pub const EPS: f32 = 1e-5;

/// `config.json`: which towers there are, and their sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointConfig {
    /// [`MODEL_TYPE`].
    pub model_type: String,
    /// Numbers per embedding.
    pub projection_dim: usize,
    /// For pictures: `size` pixels square, patches of `patch` pixels square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageTower>,
    /// For texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextTower>,
    /// For sounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioTower>,
    /// For readings over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesTower>,
    /// Of what reads a text with a picture before it, where there is such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<Sizes>,
}

/// Sizes that every tower has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Numbers per token.
    pub width: usize,
    /// Numbers per token between the two layers of the feed-forward part.
    pub inner: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
}

/// A tower for pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTower {
    /// Of the transformer.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Pixels along a side.
    pub size: usize,
    /// Pixels along a side of a patch.
    pub patch: usize,
}

/// A tower for texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextTower {
    /// Of the transformer.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Words of the tokeniser.
    pub vocabulary: usize,
    /// Words of a text at most.
    pub tokens: usize,
}

/// A tower for sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioTower {
    /// Of the transformer.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Frames of a sound, 10 ms apart.
    pub frames: usize,
    /// Bands of the spectrum.
    pub bands: usize,
    /// Frames that become one token.
    pub patch: usize,
}

/// A tower for readings over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesTower {
    /// Of the transformer.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Steps to which time is stretched.
    pub steps: usize,
    /// Channels that are looked at.
    pub channels: usize,
    /// Steps that become one token.
    pub window: usize,
}

impl JointConfig {
    /// What its towers take.
    pub fn modalities(&self) -> Vec<Modality> {
        Modality::ALL.into_iter().filter(|modality| self.sizes(*modality).is_some()).collect()
    }

    /// Sizes of the tower for a kind of media, if there is one.
    pub fn sizes(&self, modality: Modality) -> Option<Sizes> {
        match modality {
            Modality::Image => self.image.map(|tower| tower.sizes),
            Modality::Text => self.text.map(|tower| tower.sizes),
            Modality::Audio => self.audio.map(|tower| tower.sizes),
            Modality::Series => self.series.map(|tower| tower.sizes),
            Modality::Video | Modality::Shape => None,
        }
    }
}

/// What the towers of the checkpoint in a folder take.
pub(crate) fn modalities(folder: &Path) -> Result<Vec<Modality>, OpenError> {
    let (_, config): (_, JointConfig) = Checkpoint::new(folder).json("config.json")?;
    Ok(config.modalities())
}

/// What stands before the tower for `modality` of a checkpoint whose weights need not be there yet.
pub(crate) fn inputs(files: &mut Checkpoint, modality: Modality) -> Result<(Inputs, JointConfig), OpenError> {
    let (path, config): (_, JointConfig) = files.json("config.json")?;
    let none = || OpenError::SeveralTowers { name: path.display().to_string(), towers: config.modalities() };
    let divides = |part: &str, whole: usize, patch: usize| {
        model::expect(&path, patch > 0 && (1..=MAX_SIDE).contains(&whole) && whole.is_multiple_of(patch), || {
            format!("{part}: {whole} does not divide into patches of {patch}, or is beyond {MAX_SIDE}")
        })
    };
    let inputs = match modality {
        Modality::Image => {
            let tower = config.image.ok_or_else(none)?;
            divides("image", tower.size, tower.patch)?;
            let processor = ImageProcessor::open(files, Defaults { side: tower.size as u32, ..Defaults::BLIP })?;
            model::expect(&path, processor.shape() == [tower.size as u32; 2], || {
                format!("the preprocessing gives pictures of {:?}, the network takes {} square", processor.shape(), tower.size)
            })?;
            let along = tower.size / tower.patch;
            let shape = [along * along, tower.patch * tower.patch * 3];
            Inputs::new(How::Image(processor), [tower.patch; 2], shape)
        }
        Modality::Text => {
            let tower = config.text.ok_or_else(none)?;
            model::expect(&path, tower.tokens > 0, || "text: texts of 0 tokens".to_owned())?;
            let tokenizer = TextTokenizer::open(files, tower.tokens, tower.vocabulary)?;
            Inputs::new(How::Text(tokenizer), [1; 2], [tower.tokens, 0])
        }
        Modality::Audio => {
            let tower = config.audio.ok_or_else(none)?;
            divides("audio", tower.frames, tower.patch)?;
            let processor = SoundProcessor::ast(files)?;
            model::expect(&path, processor.shape() == (Some(tower.frames), tower.bands), || {
                let (frames, bands) = processor.shape();
                let frames = frames.unwrap_or_default();
                format!(
                    "the preprocessing gives {frames} frames of {bands} bands, the network takes {} of {}",
                    tower.frames, tower.bands
                )
            })?;
            let shape = [tower.frames / tower.patch, tower.patch * tower.bands];
            Inputs::new(How::Audio(processor), [tower.patch, tower.bands], shape)
        }
        Modality::Series => {
            let tower = config.series.ok_or_else(none)?;
            let processor = SeriesProcessor::new(&path, tower.steps, tower.channels, tower.window)?;
            let shape = processor.shape();
            Inputs::new(How::Series(processor), [1; 2], shape)
        }
        Modality::Video | Modality::Shape => return Err(none()),
    };
    Ok((inputs, config))
}

/// Opens one of the towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let modality = wanted.modality;
    let (inputs, config) = inputs(files, modality)?;
    let path = files.path("config.json");
    let mut w = files.weights()?;
    let net = Transformer::of(&mut w, &path, &config, modality, &inputs)?;
    Modality::ALL.into_iter().filter(|other| *other != modality).for_each(|other| w.skip_prefix(&format!("{other}.")));
    if config.matching.is_some() {
        w.skip_prefix(MATCHING);
    }
    skip_numbers(&mut w);
    w.finish()?;
    let tower = match inputs.how {
        How::Image(processor) => Tower::Image(processor, Box::new(net)),
        How::Text(tokenizer) => Tower::Text(tokenizer, Box::new(net)),
        How::Audio(processor) => Tower::Audio(processor, Box::new(net)),
        How::Series(processor) => Tower::Series(processor, Box::new(net)),
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// Passes over what the losses learn beside the network.
pub(crate) fn skip_numbers(w: &mut Weights) {
    w.skip("logit_scale");
    w.skip("logit_bias");
}

/// How an input becomes tokens.
enum Entry {
    Words(Table),
    /// A dense layer over patches, whose height and width stand beside it.
    Patches(Linear, [usize; 2]),
}

/// The network of one tower.
pub(crate) struct Transformer {
    entry: Entry,
    /// `[tokens, width]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    project: Linear,
    width: usize,
}

impl Transformer {
    /// The tower of a model for what `inputs` prepare.
    pub(crate) fn of(
        w: &mut Weights,
        path: &Path,
        config: &JointConfig,
        modality: Modality,
        inputs: &Inputs,
    ) -> Result<Self, OpenError> {
        let sizes = config.sizes(modality).expect("a tower whose inputs could be read");
        let shape = model::block_shape(
            path,
            modality.as_str(),
            [sizes.width, sizes.inner, sizes.heads],
            ("gelu", EPS),
            Order::PreNorm,
        )?;
        model::expect(path, config.projection_dim > 0, || "projection_dim is 0".to_owned())?;
        let entry = match &inputs.how {
            How::Text(_) => {
                let vocabulary = config.text.map_or(0, |tower| tower.vocabulary);
                Entry::Words(w.table(&format!("{modality}.embed.weight"), [vocabulary, sizes.width])?)
            }
            How::Image(_) | How::Audio(_) | How::Series(_) => {
                let embed = Linear::load(w, &format!("{modality}.embed"), inputs.shape[1], sizes.width, Activation::None)?;
                Entry::Patches(embed, inputs.patch)
            }
        };
        Ok(Self::load(w, modality, entry, inputs.shape[0], shape, sizes.layers, config.projection_dim)?)
    }

    fn load(
        w: &mut Weights,
        modality: Modality,
        entry: Entry,
        n_tokens: usize,
        shape: BlockShape,
        n_layers: usize,
        projected: usize,
    ) -> Result<Self, WeightsError> {
        let at = |part: &str| format!("{modality}.{part}");
        let names = |i: usize| block_names(&at(&format!("blocks.{i}.")));
        Ok(Self {
            entry,
            positions: w.take(&at("positions"), &[n_tokens, shape.dim])?,
            blocks: (0..n_layers).map(|i| Block::load(w, &names(i), shape)).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(w, &at("norm"), shape.dim, shape.eps)?,
            project: Linear::load_unbiased(w, &at("project"), shape.dim, projected)?,
            width: shape.dim,
        })
    }

    /// Numbers per token.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The normalised states of pictures, or of what else comes as patches: `[sum of tokens, width]`.
    pub(crate) fn states_of_patches(&self, inputs: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<f32> {
        let Entry::Patches(embed, patch) = &self.entry else { unreachable!("words do not come as pictures") };
        let (mut unfolded, mut x) = (Vec::new(), Vec::new());
        inputs.iter().for_each(|input| unfold(input, *patch, &mut unfolded));
        embed.forward(&unfolded, &mut x);
        for tokens in x.chunks_exact_mut(self.positions.len()) {
            tokens.iter_mut().zip(&self.positions).for_each(|(x, p)| *x += p);
        }
        self.states(x, &vec![self.positions.len() / self.width; inputs.len()], watch)
    }

    /// The normalised states of texts, `[sum of lengths, width]`.
    pub(crate) fn states_of_words(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let Entry::Words(table) = &self.entry else { unreachable!("pictures do not come as words") };
        let mut x = Vec::new();
        for ids in texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(self.width)) {
                table.push_sum(*id as usize, position, &mut x);
            }
        }
        self.states(x, &texts.iter().map(Vec::len).collect::<Vec<_>>(), watch)
    }

    /// From embedded tokens, positions added, to normalised states.
    fn states(&self, mut x: Vec<f32>, lengths: &[usize], watch: &mut Watch<'_>) -> Vec<f32> {
        run(&self.blocks, &mut x, lengths, Mask::None, watch);
        self.norm.forward(&mut x);
        x
    }

    /// From states to embeddings.
    fn finish(&self, states: &[f32], lengths: &[usize]) -> Vec<Vec<f32>> {
        let mut out = Vec::new();
        self.project.forward(&means(states, lengths, self.width), &mut out);
        out.chunks_exact(self.project.n_out()).map(<[f32]>::to_vec).collect()
    }
}

/// What the parts of a block are called behind a prefix.
pub(crate) fn block_names(prefix: &str) -> BlockNames {
    let at = |part: &str| format!("{prefix}{part}");
    BlockNames {
        qkv: Qkv::Separate(["q", "k", "v"].map(at)),
        out: at("out"),
        norm_1: at("norm_1"),
        widen: at("widen"),
        narrow: at("narrow"),
        norm_2: at("norm_2"),
        scales: None,
    }
}

/// The mean of each sequence's states, `[sequences, width]`.
pub(crate) fn means(states: &[f32], lengths: &[usize], width: usize) -> Vec<f32> {
    let mut means = vec![0.0; lengths.len() * width];
    let mut rows = states.chunks_exact(width);
    for (mean, n) in means.chunks_exact_mut(width).zip(lengths) {
        let share = 1.0 / *n as f32;
        for row in rows.by_ref().take(*n) {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += share * v);
        }
    }
    means
}

impl Net<FeatureMap> for Transformer {
    fn dim(&self) -> usize {
        self.project.n_out()
    }

    fn rows(&self, _: &FeatureMap) -> usize {
        self.positions.len() / self.width
    }

    fn width(&self) -> Option<usize> {
        Some(self.width)
    }

    fn embed(&self, inputs: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let states = self.states_of_patches(inputs, watch);
        self.finish(&states, &vec![self.positions.len() / self.width; inputs.len()])
    }
}

impl Net<Vec<u32>> for Transformer {
    fn dim(&self) -> usize {
        self.project.n_out()
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn width(&self) -> Option<usize> {
        Some(self.width)
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let states = self.states_of_words(texts, watch);
        self.finish(&states, &texts.iter().map(Vec::len).collect::<Vec<_>>())
    }
}
