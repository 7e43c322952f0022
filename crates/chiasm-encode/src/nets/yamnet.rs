//! YAMNet: sounds to 1024 pooled features, or to the probabilities of 521 AudioSet classes.
//!
//! # Reference
//! Plakal and Ellis, "YAMNet", tensorflow/models research/audioset, 2019: the MobileNetV1 of Howard et al., 2017, over log-mel
//! patches, trained on AudioSet. Checked against golden log-mels, embeddings and scores of the converted network. Differs
//! from it in: nothing (batch normalisation comes folded into the convolutions).
//! # Preprocessing
//! To 16 kHz; patches of 15,600 samples (0.975 s), 7,680 apart, the last padded with zeros; each patch to a log-mel of
//! 96 frames by 64 bands. Embeddings and probabilities are means over the patches.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | log-mel | `[96, 64, 1]` | ln 0.001 and up |
//! | layer 1 | `[48, 32, 32]` | 0 and up |
//! | layers 2 to 14 | `[3, 2, 1024]` at the last | 0 and up |
//! | embedding | `[1024]` | 0 and up |
//! | classes | `[521]` | 0..=1, each by itself |
//! # Cost
//! About 3 ms of one core per patch. Memory beside the sound: its copy at 16 kHz and a few dozen patches at a time.
//! # Errors
//! [`OpenError`] when description and weights do not fit each other; an empty sound cannot be encoded.

use std::path::Path;

use chiasm_core::{EncodeError, Encoder, Media, Modality, Vectors, Waveform};
use chiasm_media::spectrum::{LogMel, LogMelConfig, hann_periodic, mel_filters};
use chiasm_nn::{Activation, Conv2d, ConvShape, Depthwise, FeatureMap, Filters, Linear, Padding, Weights, Window, sigmoid};
use rayon::prelude::*;
use serde::Deserialize;

use crate::batch;
use crate::error::OpenError;
use crate::model::{self, Output};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "yamnet 1";

/// Patches that are in work at a time: they bound the memory, and are enough for every core.
const PATCHES_AT_A_TIME: usize = 64;

#[derive(Deserialize)]
struct Config {
    weights: String,
    input: Input,
    log_mel: FrontEnd,
    layers: Vec<Layer>,
    output: Classes,
}

#[derive(Deserialize)]
struct Input {
    sample_rate: u32,
    patch_samples: usize,
}

#[derive(Deserialize)]
struct FrontEnd {
    window_samples: usize,
    hop_samples: usize,
    fft: usize,
    mel_bins: usize,
    mel_min_hz: f64,
    mel_max_hz: f64,
    patch_frames: usize,
    patch_hop_samples: usize,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    kind: String,
    #[serde(default)]
    kernel: usize,
    #[serde(default)]
    stride: usize,
    #[serde(default)]
    in_channels: usize,
    out_channels: usize,
}

#[derive(Deserialize)]
struct Classes {
    labels: String,
}

impl Config {
    fn read(path: &Path) -> Result<(Self, Vec<u8>), OpenError> {
        let bytes = model::read(path)?;
        let config: Self = model::parse(path, &bytes)?;
        let kinds: Vec<&str> = config.layers.iter().map(|layer| layer.kind.as_str()).collect();
        let n_separable = kinds.len().saturating_sub(3);
        let expected = [&["conv"][..], &vec!["depthwise_separable"; n_separable], &["global_average_pool", "linear"]].concat();
        model::expect(path, kinds == expected, || {
            format!("the layers are {}, expected conv, depthwise_separable.., global_average_pool, linear", kinds.join(", "))
        })?;
        let mut channels = 1;
        for layer in &config.layers {
            let fault = if layer.kind == "global_average_pool" {
                (layer.out_channels != channels).then(|| format!("out_channels is {}, expected {channels}", layer.out_channels))
            } else if layer.in_channels != channels {
                Some(format!("in_channels is {}, the layer before gives {channels}", layer.in_channels))
            } else if layer.kind != "linear" && (layer.kernel != 3 || !(1..=2).contains(&layer.stride)) {
                Some(format!("kernel {} and stride {}, expected 3 and 1 or 2", layer.kernel, layer.stride))
            } else {
                None
            };
            model::expect(path, fault.is_none(), || format!("layer `{}`: {}", layer.name, fault.unwrap_or_default()))?;
            channels = layer.out_channels;
        }
        Ok((config, bytes))
    }

    /// The front end that the description states.
    fn log_mel(&self, path: &Path) -> Result<LogMel, OpenError> {
        let (input, f) = (&self.input, &self.log_mel);
        // Checked before anything of such a size is made: a patch of a minute is far beyond what the network was trained on.
        model::expect(path, f.window_samples <= f.fft && f.fft <= 1 << 16 && f.mel_bins <= 1 << 10, || {
            format!("log_mel: window {}, fft {} and {} bands are out of range", f.window_samples, f.fft, f.mel_bins)
        })?;
        let patch = (1..=1 << 20).contains(&input.patch_samples) && f.patch_hop_samples > 0;
        model::expect(path, patch, || "input: patch_samples and patch_hop_samples must be 1 to 2^20".to_owned())?;
        let log_mel = LogMel::new(LogMelConfig {
            sample_rate_hz: input.sample_rate,
            window_samples: f.window_samples,
            hop_samples: f.hop_samples,
            fft_size: f.fft,
            n_mels: f.mel_bins,
            min_hz: f.mel_min_hz,
            max_hz: f.mel_max_hz,
            ..LogMelConfig::default()
        })
        .map_err(|e| model::config(path, e.to_string()))?;
        let n_frames = log_mel.n_frames(input.patch_samples);
        model::expect(path, n_frames == f.patch_frames && n_frames > 0, || {
            format!("{} samples make {n_frames} frames, patch_frames says {}", input.patch_samples, f.patch_frames)
        })?;
        Ok(log_mel)
    }
}

/// The names of the classes, in the order of the output.
pub(crate) fn class_names(path: &Path) -> Result<Vec<String>, OpenError> {
    let (config, _) = Config::read(path)?;
    let n_classes = config.layers.last().map_or(0, |layer| layer.out_channels);
    model::class_names(path, &config.output.labels, n_classes)
}

/// The network with its preprocessing.
pub(crate) struct Yamnet {
    name: String,
    fingerprint: String,
    output: Output,
    sample_rate_hz: u32,
    patch_samples: usize,
    patch_hop_samples: usize,
    log_mel: LogMel,
    first: Conv2d,
    separable: Vec<(Depthwise, Linear)>,
    classifier: Linear,
}

/// Buffers that one thread uses over and over.
#[derive(Default)]
struct Scratch {
    samples: Vec<f32>,
    x: FeatureMap,
    filtered: FeatureMap,
    windows: Vec<f32>,
}

impl Yamnet {
    /// Loads the network that the description at `path` states, to be known as `name`.
    pub(crate) fn open(path: &Path, name: &str, output: Output) -> Result<Self, OpenError> {
        let (config, bytes) = Config::read(path)?;
        let log_mel = config.log_mel(path)?;
        let mut weights = Weights::read(&model::beside(path, &config.weights)?)?;
        let fingerprint = model::fingerprint(&format!("{ARITHMETIC} {output:?}"), weights.digest(), &[&bytes]);
        let w = &mut weights;

        // The weights bring the front end they were trained on; ours is computed, and must be the same.
        let f = &config.log_mel;
        let mel = w.take("frontend.mel", &[f.mel_bins, f.fft / 2 + 1])?;
        let window = w.take("frontend.window", &[f.window_samples])?;
        let ours = mel_filters(f.mel_bins, f.fft, config.input.sample_rate, f.mel_min_hz, f.mel_max_hz);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        model::expect(path, close(&mel, &ours) && close(&window, &hann_periodic(f.window_samples)), || {
            "the window or the mel filters of the weights are not those that the numbers under log_mel give".to_owned()
        })?;

        let [first, separable @ .., _pool, classifier] = config.layers.as_slice() else {
            return Err(model::config(path, "too few layers"));
        };
        let window = |stride: usize| Window::square(3, stride, Padding::Same);
        let shape = ConvShape::new(1, first.out_channels, window(first.stride));
        let first = Conv2d::load(w, Filters::biased(&first.name), shape, Activation::Relu)?;
        let separable = separable
            .iter()
            .map(|l| {
                let (depthwise, pointwise) = (format!("{}.depthwise", l.name), format!("{}.pointwise", l.name));
                let filters = Filters::biased(&depthwise);
                Ok((
                    Depthwise::load(w, filters, l.in_channels, window(l.stride), Activation::Relu)?,
                    Linear::load_pointwise(w, &pointwise, l.in_channels, l.out_channels, Activation::Relu)?,
                ))
            })
            .collect::<Result<_, OpenError>>()?;
        let classifier = Linear::load(w, &classifier.name, classifier.in_channels, classifier.out_channels, Activation::None)?;
        weights.finish()?;
        Ok(Self {
            name: name.to_owned(),
            fingerprint,
            output,
            sample_rate_hz: config.input.sample_rate,
            patch_samples: config.input.patch_samples,
            patch_hop_samples: config.log_mel.patch_hop_samples,
            log_mel,
            first,
            separable,
            classifier,
        })
    }

    /// The mean over the patches of one sound.
    fn sound(&self, wave: &Waveform) -> Vec<f32> {
        let wave = chiasm_media::resample(wave, self.sample_rate_hz);
        let beyond_first = wave.samples.len().saturating_sub(self.patch_samples);
        let n_patches = 1 + beyond_first.div_ceil(self.patch_hop_samples);
        let patches: Vec<usize> = (0..n_patches).collect();
        let mut sum = vec![0.0f64; self.dim()];
        for some in patches.chunks(PATCHES_AT_A_TIME) {
            let rows: Vec<Vec<f32>> =
                some.par_iter().map_init(Scratch::default, |s, patch| self.patch(&wave.samples, *patch, s)).collect();
            // In the order of time, so that the sum is the same however many threads there were.
            for row in rows {
                sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(v));
            }
        }
        sum.iter().map(|sum| (sum / n_patches as f64) as f32).collect()
    }

    /// Features or probabilities of one patch.
    fn patch(&self, samples: &[f32], patch: usize, s: &mut Scratch) -> Vec<f32> {
        let start = (patch * self.patch_hop_samples).min(samples.len());
        let end = (start + self.patch_samples).min(samples.len());
        s.samples.clear();
        s.samples.extend_from_slice(&samples[start..end]);
        s.samples.resize(self.patch_samples, 0.0);
        let log_mel = self.log_mel.compute(&s.samples);
        s.x = FeatureMap {
            height: self.log_mel.n_frames(self.patch_samples),
            width: self.log_mel.n_mels(),
            channels: 1,
            data: log_mel,
        };

        let features = self.features(s);
        match self.output {
            Output::Embedding => features,
            Output::Classes => self.probabilities(&features),
        }
    }

    /// The embedding of the log-mel that `s.x` holds.
    fn features(&self, s: &mut Scratch) -> Vec<f32> {
        self.first.forward(&s.x, &mut s.filtered, &mut s.windows);
        std::mem::swap(&mut s.x, &mut s.filtered);
        for (depthwise, pointwise) in &self.separable {
            depthwise.forward(&s.x, &mut s.filtered);
            pointwise.forward(&s.filtered.data, &mut s.x.data);
            s.x.reshape(s.filtered.height, s.filtered.width, pointwise.n_out());
        }
        s.x.mean()
    }

    fn probabilities(&self, features: &[f32]) -> Vec<f32> {
        let mut classes = Vec::new();
        self.classifier.forward(features, &mut classes);
        sigmoid(&mut classes);
        classes
    }
}

impl Encoder for Yamnet {
    fn name(&self) -> &str {
        &self.name
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn dim(&self) -> usize {
        match self.output {
            Output::Embedding => self.classifier.n_in(),
            Output::Classes => self.classifier.n_out(),
        }
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn encode(&self, batch: &[Media]) -> Result<Vectors, EncodeError> {
        let sounds = batch::sounds(self, batch)?;
        if let Some(item) = sounds.iter().position(|wave| wave.samples.is_empty()) {
            return Err(batch::unencodable(self, item, "the sound is empty"));
        }
        let rows: Vec<Vec<f32>> = sounds.par_iter().map(|wave| self.sound(wave)).collect();
        batch::vectors(self, &rows)
    }
}
