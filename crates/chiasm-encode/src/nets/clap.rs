//! CLAP: sounds and texts to one space.
//!
//! # Reference
//! Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation", ICASSP 2023;
//! the sound tower is HTS-AT (Chen et al., ICASSP 2022), the text tower RoBERTa. Checked layer by layer against `ClapModel` of transformers.
//! Differs from it in: where no sound of a batch is longer than the network takes, the reference draws one at random that it fuses
//! as if it were; here a sound is fused if it is longer and not else, as the paper has it. Long sounds are cut in the middle of the places
//! from which the reference draws.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `clap`), `preprocessor_config.json`, `tokenizer.json`, the weights.
//! # Preprocessing
//! To 48 kHz, 10 seconds: short sounds repeated as often as they fit whole, long ones cut, or, with `enable_fusion`, seen whole and in three
//! parts; log-mel of 64 bands in decibel. Texts as RoBERTa's.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | spectrum | `[1001 frames, 64 bands, 1]`, or 4 where it is fused | -100 and up |
//! | picture | `[4 quarters of the time x 64 bands, 256 frames]` | any |
//! | patches | `[64, 64, 96]`, then in stages to `[8, 8, 768]` | any |
//! | tokens of a text | `[n, dim]`, 3 to 512 of them | any |
//! | embedding | `[projection_dim]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{
    Activation, BatchNorm, Conv2d, ConvShape, FeatureMap, Filters, LayerNorm, Linear, Padding, Weights, WeightsError, Window,
    sigmoid,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{SoundProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::bert::{self, Bert, Head, Headed, Pooling};
use crate::nets::class_token::cubic;
use crate::nets::swin::Sides;
use crate::nets::windows::{Naming, Sizes, Stages, means};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "clap 1";

/// Added to the variance in the normalisations that no description names.
const EPS: f32 = 1e-5;

/// Where a sound's network begins in the checkpoint.
const AUDIO: &str = "audio_model.audio_encoder.";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    text_config: Map<String, Value>,
    #[serde(default)]
    audio_config: AudioConfig,
    #[serde(default = "projection_dim")]
    projection_dim: usize,
    #[serde(default = "projection_act")]
    projection_hidden_act: String,
}

fn projection_dim() -> usize {
    512
}

fn projection_act() -> String {
    "relu".to_owned()
}

/// What is silent has the reference's default, which is that of HTSAT-tiny.
#[derive(Deserialize)]
#[serde(default)]
struct AudioConfig {
    window_size: usize,
    num_mel_bins: usize,
    spec_size: usize,
    hidden_act: String,
    patch_size: Sides,
    patch_stride: Sides,
    hidden_size: usize,
    depths: Vec<usize>,
    num_attention_heads: Vec<usize>,
    enable_fusion: bool,
    fusion_type: Option<String>,
    patch_embed_input_channels: usize,
    flatten_patch_embeds: bool,
    patch_embeds_hidden_size: usize,
    enable_patch_layer_norm: bool,
    qkv_bias: bool,
    mlp_ratio: f32,
    aff_block_r: usize,
    layer_norm_eps: f32,
}

impl Default for AudioConfig {
    fn default() -> Self {
        Self {
            window_size: 8,
            num_mel_bins: 64,
            spec_size: 256,
            hidden_act: "gelu".to_owned(),
            patch_size: Sides::Square(4),
            patch_stride: Sides::Square(4),
            hidden_size: 768,
            depths: vec![2, 2, 6, 2],
            num_attention_heads: vec![4, 8, 16, 32],
            enable_fusion: false,
            fusion_type: None,
            patch_embed_input_channels: 1,
            flatten_patch_embeds: true,
            patch_embeds_hidden_size: 96,
            enable_patch_layer_norm: true,
            qkv_bias: true,
            mlp_ratio: 4.0,
            aff_block_r: 4,
            layer_norm_eps: 1e-5,
        }
    }
}

/// The text side's description, whose defaults are not those of BERT.
fn text_config(path: &Path, mut given: Map<String, Value>) -> Result<bert::Config, OpenError> {
    for (field, value) in [("vocab_size", 50265), ("max_position_embeddings", 514), ("type_vocab_size", 1)] {
        given.entry(field).or_insert(value.into());
    }
    serde_json::from_value(Value::Object(given)).map_err(|e| model::config(path, format!("text_config: {e}")))
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let projected = config.projection_dim;
    model::expect(&path, projected > 0, || "projection_dim is 0".to_owned())?;
    let act = model::activation(&path, &config.projection_hidden_act)?;
    let tower = if wanted.modality == Modality::Text {
        let c = text_config(&path, config.text_config)?;
        let positions = c.after_padding();
        let tokenizer = TextTokenizer::open(files, c.max_tokens(&path, positions)?, c.vocab_size)?;
        let mut w = files.weights()?;
        let bert = Bert::load(&mut w, &path, &c, positions, "text_model.")?;
        let dim = c.hidden_size;
        let pooler = Linear::load(&mut w, "text_model.pooler.dense", dim, dim, Activation::Tanh)?;
        let projection = Projection::load(&mut w, "text_projection", [dim, projected], act)?;
        w.skip("text_model.embeddings.token_type_ids");
        w.skip_prefix("audio_model.");
        w.skip_prefix("audio_projection.");
        finish(w)?;
        Tower::Text(tokenizer, Box::new(Headed { bert, head: TextHead { pooler, projection } }))
    } else {
        let c = &config.audio_config;
        let (fold, sizes) = c.sizes(&path)?;
        let processor = SoundProcessor::clap(files, c.enable_fusion)?;
        let (frames, bands) = processor.shape();
        let frames = frames.unwrap_or_default();
        model::expect(&path, frames <= fold.frames() && bands == c.num_mel_bins, || {
            format!(
                "the preprocessing gives {frames} frames of {bands} bands, the network takes at most {} of {}",
                fold.frames(),
                c.num_mel_bins
            )
        })?;
        let mut w = files.weights()?;
        let net = Audio::load(&mut w, c, fold, sizes, [projected, c.num_mel_bins], act)?;
        w.skip_prefix("text_model.");
        w.skip_prefix("text_projection.");
        finish(w)?;
        Tower::Audio(processor, Box::new(net))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

fn finish(mut w: Weights) -> Result<(), WeightsError> {
    w.skip("logit_scale_a");
    w.skip("logit_scale_t");
    w.finish()
}

/// Two dense layers from a tower's own width to the common one.
struct Projection {
    first: Linear,
    second: Linear,
}

impl Projection {
    fn load(w: &mut Weights, prefix: &str, [dim, to]: [usize; 2], act: Activation) -> Result<Self, WeightsError> {
        Ok(Self {
            first: Linear::load(w, &format!("{prefix}.linear1"), dim, to, act)?,
            second: Linear::load(w, &format!("{prefix}.linear2"), to, to, Activation::None)?,
        })
    }

    /// One vector per row.
    fn each(&self, rows: &[f32]) -> Vec<Vec<f32>> {
        let (mut between, mut out) = (Vec::new(), Vec::new());
        self.first.forward(rows, &mut between);
        self.second.forward(&between, &mut out);
        out.chunks_exact(self.second.n_out()).map(<[f32]>::to_vec).collect()
    }
}

/// The text tower behind the encoder: the state of the first token through one more layer, projected.
struct TextHead {
    pooler: Linear,
    projection: Projection,
}

impl Head for TextHead {
    fn dim(&self, _: usize) -> usize {
        self.projection.second.n_out()
    }

    fn embeddings(&self, states: &[f32], texts: &[Vec<u32>], dim: usize) -> Vec<Vec<f32>> {
        let first = Pooling::First.each(states, texts, dim, false).concat();
        let mut pooled = Vec::new();
        self.pooler.forward(&first, &mut pooled);
        self.projection.each(&pooled)
    }
}

/// How a spectrum is laid out as a square picture: the time in so many parts one under the other, the bands of each along the height.
#[derive(Clone, Copy)]
struct Fold {
    side: usize,
    parts: usize,
}

impl Fold {
    /// Frames that fill the picture.
    fn frames(self) -> usize {
        self.side * self.parts
    }

    /// The picture `[side, side, 1]` of a spectrum `[frames, bands]`, which is stretched to fill it.
    fn picture(self, mut spectrum: Vec<f32>, bands: usize) -> FeatureMap {
        let (frames, wanted) = (self.frames(), self.side / self.parts);
        if spectrum.len() / bands < frames {
            spectrum = stretched(&spectrum, spectrum.len() / bands, frames, bands);
        }
        if bands < wanted {
            spectrum = spectrum.chunks_exact(bands).flat_map(|frame| stretched(frame, bands, wanted, 1)).collect();
        }
        let mut data = Vec::with_capacity(self.side * self.side);
        for part in spectrum.chunks_exact(self.side * wanted) {
            for band in 0..wanted {
                data.extend(part.iter().skip(band).step_by(wanted));
            }
        }
        FeatureMap { height: self.side, width: self.side, channels: 1, data }
    }
}

/// `n_in` rows to `n_out` by cubic convolution (Keys 1981, with a = -3/4), the first and the last staying in place.
fn stretched(rows: &[f32], n_in: usize, n_out: usize, dim: usize) -> Vec<f32> {
    let scale = if n_out > 1 { (n_in - 1) as f32 / (n_out - 1) as f32 } else { 0.0 };
    let mut out = vec![0.0; n_out * dim];
    for (i, out) in out.chunks_exact_mut(dim).enumerate() {
        for (from, weight) in cubic(i as f32 * scale, n_in) {
            out.iter_mut().zip(&rows[from * dim..][..dim]).for_each(|(out, v)| *out += weight * v);
        }
    }
    out
}

impl AudioConfig {
    /// The layout and the sizes of all stages; refuses what does not fit, and what is written nowhere but in the reference.
    fn sizes(&self, path: &Path) -> Result<(Fold, Sizes<'_>), OpenError> {
        let ([side, across], strides) = (self.patch_size.pair(), self.patch_stride.pair());
        model::expect(path, side == across && strides == [side; 2] && side > 0, || {
            format!("patches of {side} x {across}, {} and {} apart, expected squares side by side", strides[0], strides[1])
        })?;
        for (fits, words) in [
            (self.patch_embed_input_channels == 1, "patch_embed_input_channels is not 1"),
            (self.flatten_patch_embeds, "flatten_patch_embeds is false"),
            (self.enable_patch_layer_norm, "enable_patch_layer_norm is false"),
            (self.aff_block_r > 0 && self.aff_block_r <= self.patch_embeds_hidden_size, "aff_block_r does not fit the patches"),
        ] {
            model::expect(path, fits, || format!("audio_config: {words}, which no published checkpoint has"))?;
        }
        if let (true, Some(kind)) = (self.enable_fusion, &self.fusion_type) {
            model::expect(path, kind == "aff_2d", || format!("fusion_type is `{kind}`, expected `aff_2d` or none"))?;
        }
        let (size, bands, side) = (self.spec_size, self.num_mel_bins, side as usize);
        let n_stages = self.depths.len();
        // Every stage but the last halves the grid.
        let grid_fits = (1..=16).contains(&n_stages) && size.is_multiple_of(side << (n_stages - 1));
        let parts = size.checked_div(bands).unwrap_or(0);
        let fits = (1..=1 << 12).contains(&size) && parts > 0 && size.is_multiple_of(parts) && grid_fits;
        model::expect(path, fits, || {
            format!("spec_size {size} does not divide into bands ({bands}), patches ({side}) and {n_stages} stages")
        })?;
        let sizes = Sizes {
            dim: self.patch_embeds_hidden_size,
            depths: &self.depths,
            n_heads: &self.num_attention_heads,
            window: self.window_size,
            mlp_ratio: self.mlp_ratio,
            activation: model::activation(path, &self.hidden_act)?,
            eps: self.layer_norm_eps,
            biased: self.qkv_bias,
            grid: [size / side; 2],
        };
        sizes.check(path, Naming::HuggingFace)?;
        let last = sizes.last_dim();
        model::expect(path, self.hidden_size == last, || {
            format!("hidden_size is {}, the stages give {last}", self.hidden_size)
        })?;
        Ok((Fold { side: size, parts }, sizes))
    }
}

/// The sound tower.
struct Audio {
    /// Over the bands.
    norm_before: BatchNorm,
    fold: Fold,
    patches: Conv2d,
    fusion: Option<Fusion>,
    patches_norm: LayerNorm,
    stages: Stages,
    norm: LayerNorm,
    projection: Projection,
    dim: usize,
}

impl Audio {
    fn load(
        w: &mut Weights,
        c: &AudioConfig,
        fold: Fold,
        sizes: Sizes<'_>,
        [projected, bands]: [usize; 2],
        act: Activation,
    ) -> Result<Self, OpenError> {
        let (patch, dim) = (fold.side / sizes.grid[0], sizes.last_dim());
        let window = Window::square(patch, patch, Padding::NONE);
        let projection = format!("{AUDIO}patch_embed.proj");
        Ok(Self {
            norm_before: BatchNorm::load(w, &format!("{AUDIO}batch_norm"), bands, f64::from(EPS))?,
            fold,
            patches: Conv2d::load(w, Filters::biased(&projection), ConvShape::new(1, sizes.dim, window), Activation::None)?,
            fusion: if c.enable_fusion { Some(Fusion::load(w, [sizes.dim, patch], c.aff_block_r)?) } else { None },
            patches_norm: LayerNorm::load(w, &format!("{AUDIO}patch_embed.norm"), sizes.dim, EPS)?,
            stages: Stages::load(w, AUDIO, Naming::HuggingFace, sizes)?,
            norm: LayerNorm::load(w, &format!("{AUDIO}norm"), dim, EPS)?,
            projection: Projection::load(w, "audio_projection", [dim, projected], act)?,
            dim,
        })
    }

    /// The patches of one sound, before their normalisation.
    fn patches(&self, spectrum: &FeatureMap) -> FeatureMap {
        let (mut patches, mut windows) = (FeatureMap::default(), Vec::new());
        let picture = |channel: usize| {
            let mut plane: Vec<f32> = spectrum.data.iter().skip(channel).step_by(spectrum.channels).copied().collect();
            self.norm_before.forward(&mut plane);
            self.fold.picture(plane, spectrum.width)
        };
        self.patches.forward(&picture(0), &mut patches, &mut windows);
        if let (Some(fusion), 4) = (&self.fusion, spectrum.channels) {
            fusion.forward(&mut patches, [1, 2, 3].map(picture), &mut windows);
        }
        patches
    }
}

impl Net<FeatureMap> for Audio {
    fn dim(&self) -> usize {
        self.projection.second.n_out()
    }

    fn rows(&self, _: &FeatureMap) -> usize {
        (self.fold.side / self.patches.shape().window.kernel[0]).pow(2)
    }

    fn embed(&self, spectra: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let mut x: Vec<f32> = spectra.iter().flat_map(|spectrum| self.patches(spectrum).data).collect();
        self.patches_norm.forward(&mut x);
        self.stages.forward(&mut x, watch);
        self.norm.forward(&mut x);
        self.projection.each(&means(&x, self.stages.n_last(), self.dim).concat())
    }
}

/// Attentional feature fusion (Dai et al., WACV 2021, eq. 4): the patches of the whole sound and those of its three parts, mixed patch by
/// patch and channel by channel.
struct Fusion {
    /// Patches three times as wide.
    parts: Conv2d,
    local: [Conv2d; 2],
    global: [Conv2d; 2],
}

impl Fusion {
    fn load(w: &mut Weights, [dim, side]: [usize; 2], reduction: usize) -> Result<Self, WeightsError> {
        let inner = dim / reduction;
        let window = Window { kernel: [side, 3 * side], stride: [side, 3 * side], padding: Padding::NONE };
        let parts = format!("{AUDIO}patch_embed.mel_conv2d");
        let mut pair = |at: &str, places: [usize; 4]| {
            let [conv_1, norm_1, conv_2, norm_2] = places.map(|i| format!("{AUDIO}patch_embed.fusion_model.{at}.{i}"));
            let pointwise = Window::square(1, 1, Padding::NONE);
            let mut load = |conv: &str, norm: &str, n_in, n_out, act| {
                let filters = Filters { conv, biased: true, norm: Some((norm, f64::from(EPS))) };
                Conv2d::load(w, filters, ConvShape::new(n_in, n_out, pointwise), act)
            };
            Ok::<_, WeightsError>([
                load(&conv_1, &norm_1, dim, inner, Activation::Relu)?,
                load(&conv_2, &norm_2, inner, dim, Activation::None)?,
            ])
        };
        let (local, global) = (pair("local_att", [0, 1, 3, 4])?, pair("global_att", [1, 2, 4, 5])?);
        let parts = Conv2d::load(w, Filters::biased(&parts), ConvShape::new(1, dim, window), Activation::None)?;
        Ok(Self { parts, local, global })
    }

    /// Mixes the patches of the whole sound, in place, with those of its parts.
    fn forward(&self, whole: &mut FeatureMap, parts: [FeatureMap; 3], windows: &mut Vec<f32>) {
        let dim = whole.channels;
        // The parts side by side; what the whole has beyond them meets zeros.
        let mut beside = vec![0.0; whole.data.len()];
        let mut patches = FeatureMap::default();
        for (i, part) in parts.iter().enumerate() {
            self.parts.forward(part, &mut patches, windows);
            let run = patches.width * dim;
            for (row, from) in beside.chunks_exact_mut(whole.width * dim).zip(patches.data.chunks_exact(run)) {
                row[i * run..(i + 1) * run].copy_from_slice(from);
            }
        }
        let mut sum = whole.clone();
        sum.data.iter_mut().zip(&beside).for_each(|(a, b)| *a += b);
        let mean = FeatureMap { height: 1, width: 1, channels: dim, data: sum.mean() };
        let mut through = |[first, second]: &[Conv2d; 2], x: &FeatureMap| {
            let (mut between, mut out) = (FeatureMap::default(), FeatureMap::default());
            first.forward(x, &mut between, windows);
            second.forward(&between, &mut out, windows);
            out.data
        };
        let mut gates = through(&self.local, &sum);
        let global = through(&self.global, &mean);
        for row in gates.chunks_exact_mut(dim) {
            row.iter_mut().zip(&global).for_each(|(gate, g)| *gate += g);
        }
        sigmoid(&mut gates);
        for ((v, part), gate) in whole.data.iter_mut().zip(&beside).zip(&gates) {
            *v = 2.0 * *v * gate + 2.0 * part * (1.0 - gate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spectra_become_squares() {
        // Two parts of the time, the bands of each along the height.
        let fold = Fold { side: 4, parts: 2 };
        let spectrum: Vec<f32> = (0..8).flat_map(|frame| [frame as f32, 10.0 + frame as f32]).collect();
        let rows = [[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0], [4.0, 5.0, 6.0, 7.0], [14.0, 15.0, 16.0, 17.0]];
        assert_eq!(fold.picture(spectrum, 2).data, rows.concat());
        // Stretched, a ramp stays one where no rim is touched, and its ends stay.
        let ramp: Vec<f32> = (0..7).map(|i| i as f32).collect();
        let out = stretched(&ramp, 7, 13, 1);
        assert_eq!((out[0], out[12]), (0.0, 6.0));
        assert!(out[2..11].iter().enumerate().all(|(i, v)| (v - (i + 2) as f32 / 2.0).abs() < 1e-5), "{out:?}");
    }
}
