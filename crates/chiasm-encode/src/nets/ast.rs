//! AST: sounds to the states of a class and a distillation token.
//!
//! # Reference
//! Gong, Chung and Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021. Checked layer by layer against `ASTModel` and
//! `ASTForAudioClassification` of transformers. Differs from it in: nothing.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `audio-spectrogram-transformer`), `preprocessor_config.json`, the weights.
//! # Preprocessing
//! To 16 kHz, Kaldi's log-mel of 128 bands, the first 1024 frames (10.24 s), what is missing filled up; to mean 0 and deviation 0.5 over
//! AudioSet, unless the description says otherwise.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | spectrum | `[1024 frames, 128 bands, 1]` | about -1.3..1.5 |
//! | patches | `[12 along the bands, 101 along the time]`, 16 x 16 each, 10 apart | any |
//! | tokens | `[2 + patches, dim]` | any |
//! | embedding | `[dim]`, mean of two normalised states | any |
//! | classes | those that the description names | 0..=1 |

use chiasm_nn::{Activation, Block, BlockShape, FeatureMap, LayerNorm, Linear, Mask, Order, Weights, WeightsError};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::SoundProcessor;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, run};
use crate::nets::class_token::{prefix, vit_names};
use crate::nets::classes::{self, Classes, Head};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "ast 1";

/// `config.json`. What is silent has the reference's default, which is that of the AudioSet model.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    patch_size: usize,
    qkv_bias: bool,
    frequency_stride: usize,
    time_stride: usize,
    max_length: usize,
    num_mel_bins: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            patch_size: 16,
            qkv_bias: true,
            frequency_stride: 10,
            time_stride: 10,
            max_length: 1024,
            num_mel_bins: 128,
        }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(&path, "", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    let (side, strides) = (c.patch_size, [c.time_stride, c.frequency_stride]);
    model::expect(&path, side > 0 && side <= c.num_mel_bins.min(c.max_length) && !strides.contains(&0), || {
        format!(
            "patch_size {side} and strides {} and {} do not fit {} bands and {} frames",
            c.frequency_stride, c.time_stride, c.num_mel_bins, c.max_length
        )
    })?;
    let classes = Classes::wanted(files, wanted)?;
    let processor = SoundProcessor::ast(files)?;
    let (frames, bands) = processor.shape();
    model::expect(&path, (frames, bands) == (Some(c.max_length), c.num_mel_bins), || {
        let frames = frames.unwrap_or_default();
        format!(
            "the preprocessing gives {frames} frames of {bands} bands, the network takes {} of {}",
            c.max_length, c.num_mel_bins
        )
    })?;
    let along = |length: usize, stride: usize| (length - side) / stride + 1;
    let grid = [along(c.max_length, c.time_stride), along(c.num_mel_bins, c.frequency_stride)];

    let mut w = files.weights()?;
    let prefix = prefix(&w, "audio_spectrogram_transformer");
    let net = Ast::load(&mut w, &prefix, &c, shape, Patches { side, strides, grid })?;
    let head = Head { norm: Some(("classifier.layernorm", c.layer_norm_eps)), ..Head::dense("classifier.dense") };
    let net = classes::on_top(&mut w, classes, head, net)?;
    w.finish()?;
    Ok(Opened { tower: Tower::Audio(processor, net), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

/// Squares of a spectrum that overlap; pairs are along the time and along the bands.
#[derive(Clone, Copy)]
struct Patches {
    side: usize,
    strides: [usize; 2],
    grid: [usize; 2],
}

impl Patches {
    fn count(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Appends the numbers of every patch, frame by frame: all times of the lowest bands, then of the next.
    fn unfold(&self, spectrum: &FeatureMap, out: &mut Vec<f32>) {
        for band in (0..self.grid[1]).map(|i| i * self.strides[1]) {
            for frame in (0..self.grid[0]).map(|i| i * self.strides[0]) {
                for line in frame..frame + self.side {
                    out.extend_from_slice(&spectrum.data[line * spectrum.width + band..][..self.side]);
                }
            }
        }
    }
}

/// The network.
struct Ast {
    patches: Patches,
    projection: Linear,
    /// Embeddings and positions of the class and the distillation token in one, `[2, dim]`.
    tokens: Vec<f32>,
    /// Positions of the patches, `[patches, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    dim: usize,
}

impl Ast {
    fn load(w: &mut Weights, prefix: &str, c: &Config, shape: BlockShape, patches: Patches) -> Result<Self, WeightsError> {
        let (dim, side) = (shape.dim, patches.side);
        let mut tokens = w.take(&format!("{prefix}embeddings.cls_token"), &[1, 1, dim])?;
        tokens.extend(w.take(&format!("{prefix}embeddings.distillation_token"), &[1, 1, dim])?);
        let mut positions = w.take(&format!("{prefix}embeddings.position_embeddings"), &[1, 2 + patches.count(), dim])?;
        tokens.iter_mut().zip(positions.drain(..2 * dim)).for_each(|(t, p)| *t += p);
        let projection = format!("{prefix}embeddings.patch_embeddings.projection");
        let stored = w.take(&format!("{projection}.weight"), &[dim, 1, side, side])?;
        let bias = w.take(&format!("{projection}.bias"), &[dim])?;
        // The reference's picture has the bands along its height; ours has the time.
        let area = side * side;
        let turned = |filter: &[f32]| (0..area).map(|at| filter[at % side * side + at / side]).collect::<Vec<_>>();
        let turned: Vec<f32> = stored.chunks_exact(area).flat_map(turned).collect();
        let names = |i: usize| vit_names(&format!("{prefix}encoder.layer.{i}."), c.qkv_bias);
        Ok(Self {
            patches,
            projection: Linear::with_precision(&turned, bias, area, Activation::None, w.precision()),
            tokens,
            positions,
            blocks: (0..c.num_hidden_layers).map(|i| Block::load(w, &names(i), shape)).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(w, &format!("{prefix}layernorm"), dim, shape.eps)?,
            dim,
        })
    }
}

impl Net<FeatureMap> for Ast {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, _: &FeatureMap) -> usize {
        2 + self.patches.count()
    }

    fn width(&self) -> Option<usize> {
        Some(self.dim)
    }

    fn embed(&self, spectra: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let (dim, n) = (self.dim, 2 + self.patches.count());
        let (mut unfolded, mut patches) = (Vec::new(), Vec::new());
        spectra.iter().for_each(|spectrum| self.patches.unfold(spectrum, &mut unfolded));
        self.projection.forward(&unfolded, &mut patches);
        let mut x = Vec::with_capacity(spectra.len() * n * dim);
        for patches in patches.chunks_exact((n - 2) * dim) {
            x.extend_from_slice(&self.tokens);
            x.extend(patches.iter().zip(&self.positions).map(|(v, p)| v + p));
        }
        run(&self.blocks, &mut x, &vec![n; spectra.len()], Mask::None, watch);
        let mut pairs: Vec<f32> = x.chunks_exact(n * dim).flat_map(|tokens| &tokens[..2 * dim]).copied().collect();
        self.norm.forward(&mut pairs);
        let mean = |pair: &[f32]| pair[..dim].iter().zip(&pair[dim..]).map(|(a, b)| (a + b) / 2.0).collect();
        pairs.chunks_exact(2 * dim).map(mean).collect()
    }
}
