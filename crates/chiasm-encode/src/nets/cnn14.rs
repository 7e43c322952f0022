//! CNN14: sounds to 2048 pooled features.
//!
//! # Reference
//! Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM TASLP 2020, table 1. Checked
//! layer by layer against the network built of torch's layers (`reference/encode_cnn14.py`). Differs from it in: sounds too short for
//! the poolings (0.31 s) are filled up with silence, and those beyond a minute refused.
//! # Files
//! `config.json` (`model_type` `cnn14`, the numbers with which the network was made: `sample_rate`, `window_size`, `hop_size`, `mel_bins`,
//! `fmin`, `fmax`, where they are others `channels`, and for classes their names: `id2label`), the weights under the names of the authors' checkpoint.
//! # Preprocessing
//! To 32 kHz, librosa's log-mel of 64 bands in decibel, frames of 1024 samples, 320 apart. The spectrogram's tensors of the checkpoint are
//! computed instead of read; its mel filters, where it has them, must be those that the numbers give.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | spectrum | `[frames, 64 bands, 1]` | -100 and up |
//! | block 1 to 5 | halved both ways each; 64, 128, 256, 512, 1024 channels | 0 and up |
//! | block 6 | `[frames / 32, 2, 2048]` | 0 and up |
//! | embedding | `[2048]` | 0 and up |
//! | classes | those that the description names under `id2label`, each by itself | 0..=1 |
//! # Cost
//! About 2 GFLOP per second of sound.

use std::path::{Path, PathBuf};

use chiasm_media::filterbank::{Bands, Filterbank, FilterbankConfig, Framing, Loudness};
use chiasm_nn::{
    Activation, BatchNorm, Conv2d, ConvShape, FeatureMap, Filters, Linear, Padding, Pool, Pooling, Weights, WeightsError,
    Window,
};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::SoundProcessor;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::classes::{self, Classes, Head};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "cnn14 1";

/// Added to the variance in the normalisations.
const EPS: f64 = 1e-5;

/// Longest sound: its first block then takes some 200 MB.
const MAX_SECONDS: usize = 60;

/// `config.json`. What is silent is as in the published checkpoint.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    sample_rate: u32,
    window_size: usize,
    hop_size: usize,
    mel_bins: usize,
    fmin: f64,
    fmax: f64,
    /// Of each block; all but the last halve the picture.
    channels: Vec<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_rate: 32_000,
            window_size: 1024,
            hop_size: 320,
            mel_bins: 64,
            fmin: 50.0,
            fmax: 14_000.0,
            channels: vec![64, 128, 256, 512, 1024, 2048],
        }
    }
}

impl Config {
    fn read(files: &mut Checkpoint) -> Result<(PathBuf, Self), OpenError> {
        let (path, c): (_, Self) = files.json("config.json")?;
        let sizes = (1..=8).contains(&c.channels.len()) && c.channels.iter().all(|n| (1..=1 << 14).contains(n));
        model::expect(&path, sizes, || {
            format!("channels are {:?}, expected those of 1 to 8 blocks, each 1 to 16384", c.channels)
        })?;
        let halved = 1 << (c.channels.len() - 1);
        model::expect(&path, c.mel_bins >= halved, || {
            format!("mel_bins is {}, too few for {} blocks that halve them", c.mel_bins, c.channels.len() - 1)
        })?;
        model::expect(&path, (1_000..=384_000).contains(&c.sample_rate) && (1..=c.window_size).contains(&c.hop_size), || {
            format!(
                "sample_rate {}, window_size {} and hop_size {}, expected 1000 to 384000 Hz and a hop of at most the window",
                c.sample_rate, c.window_size, c.hop_size
            )
        })?;
        Ok((path, c))
    }

    /// The front end.
    fn filterbank(&self, path: &Path) -> Result<Filterbank, OpenError> {
        let config = FilterbankConfig {
            sample_rate_hz: self.sample_rate,
            window_samples: self.window_size,
            hop_samples: self.hop_size,
            fft_size: self.window_size,
            framing: Framing::Centred,
            n_mels: self.mel_bins,
            min_hz: self.fmin,
            max_hz: self.fmax,
            bands: Bands::Slaney,
            floor: 1e-10,
            loudness: Loudness::Decibel,
        };
        Filterbank::new(config).map_err(|e| model::config(path, e.to_string()))
    }

    fn processor(&self, filterbank: Filterbank) -> SoundProcessor {
        // A frame stands on every hop from 0 on, and each of the last block's needs so many.
        let halved = 1usize << (self.channels.len() - 1);
        let (min, max) = ((halved - 1) * self.hop_size, MAX_SECONDS * self.sample_rate as usize);
        SoundProcessor::panns(filterbank, min, max.max(min))
    }
}

/// The preprocessing alone.
#[cfg(test)]
pub(crate) fn processor(files: &mut Checkpoint) -> Result<SoundProcessor, OpenError> {
    let (path, c) = Config::read(files)?;
    Ok(c.processor(c.filterbank(&path)?))
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c) = Config::read(files)?;
    let filterbank = c.filterbank(&path)?;
    let classes = Classes::wanted(files, wanted)?.map(Classes::several);
    let mut w = files.weights()?;
    w.skip_prefix("spectrogram_extractor.");
    let n_bins = c.window_size / 2 + 1;
    if let Some(theirs) = w.take_opt("logmel_extractor.melW", &[n_bins, c.mel_bins])? {
        let ours = filterbank.weights();
        let same = |at: usize| (theirs[at % n_bins * c.mel_bins + at / n_bins] - ours[at]).abs() < 1e-6;
        model::expect(&path, (0..ours.len()).all(same), || {
            "the mel filters of the weights are not those that sample_rate, window_size, mel_bins, fmin and fmax give"
                .to_owned()
        })?;
    }
    let net = Cnn14::load(&mut w, &c)?;
    let head = Head { prefix: "fc_audioset.", dense: "fc_audioset", norm: None };
    let net = classes::on_top(&mut w, classes, head, net)?;
    w.finish()?;
    let tower = Tower::Audio(c.processor(filterbank), net);
    Ok(Opened { tower, finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

/// The network.
struct Cnn14 {
    /// Over the bands.
    norm: BatchNorm,
    /// Two convolutions each.
    blocks: Vec<[Conv2d; 2]>,
    dense: Linear,
}

impl Cnn14 {
    fn load(w: &mut Weights, c: &Config) -> Result<Self, WeightsError> {
        let mut before = 1;
        let mut blocks = Vec::new();
        for (i, &n) in c.channels.iter().enumerate() {
            let mut load = |conv: usize, n_in: usize| {
                let name = |part: &str| format!("conv_block{}.{part}{conv}", i + 1);
                let shape = ConvShape::new(n_in, n, Window::square(3, 1, Padding::even(1)));
                Conv2d::load(w, Filters::normed(&name("conv"), &name("bn"), EPS), shape, Activation::Relu)
            };
            blocks.push([load(1, before)?, load(2, n)?]);
            before = n;
        }
        Ok(Self {
            norm: BatchNorm::load(w, "bn0", c.mel_bins, EPS)?,
            blocks,
            dense: Linear::load(w, "fc1", before, before, Activation::Relu)?,
        })
    }

    /// The largest and the mean over the time, added, of the means over the bands.
    fn pooled(x: &FeatureMap) -> Vec<f32> {
        let (mut largest, mut sums) = (vec![f32::NEG_INFINITY; x.channels], vec![0.0f32; x.channels]);
        let mut mean = vec![0.0f32; x.channels];
        for frame in x.data.chunks_exact(x.width * x.channels) {
            mean.fill(0.0);
            for band in frame.chunks_exact(x.channels) {
                mean.iter_mut().zip(band).for_each(|(sum, v)| *sum += v);
            }
            for ((mean, largest), sum) in mean.iter_mut().zip(&mut largest).zip(&mut sums) {
                *mean /= x.width as f32;
                *largest = largest.max(*mean);
                *sum += *mean;
            }
        }
        largest.iter().zip(&sums).map(|(largest, sum)| largest + sum / x.height as f32).collect()
    }
}

impl Net<FeatureMap> for Cnn14 {
    fn dim(&self) -> usize {
        self.dense.n_out()
    }

    fn rows(&self, spectrum: &FeatureMap) -> usize {
        spectrum.height * spectrum.width
    }

    fn embed(&self, spectra: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let halve = Pool { pooling: Pooling::Mean, window: Window::square(2, 2, Padding::NONE) };
        let (mut between, mut windows) = (FeatureMap::default(), Vec::new());
        let mut maps = spectra.to_vec();
        maps.iter_mut().for_each(|x| self.norm.forward(&mut x.data));
        show(&maps, 0, watch);
        for (i, [first, second]) in self.blocks.iter().enumerate() {
            for x in &mut maps {
                first.forward(x, &mut between, &mut windows);
                second.forward(&between, x, &mut windows);
                if i + 1 < self.blocks.len() {
                    halve.forward(x, &mut between);
                    std::mem::swap(x, &mut between);
                }
            }
            show(&maps, i + 1, watch);
        }
        let pooled: Vec<f32> = maps.iter().flat_map(Self::pooled).collect();
        let mut out = Vec::new();
        self.dense.forward(&pooled, &mut out);
        out.chunks_exact(self.dense.n_out()).map(<[f32]>::to_vec).collect()
    }
}

/// Shows the maps of all sounds, one after the other.
fn show(maps: &[FeatureMap], at: usize, watch: &mut Watch<'_>) {
    let name = format!("hidden.{at}");
    match maps {
        // Nothing is copied for a sound by itself, which is how they come outside of tests.
        [one] => watch(&name, &one.data),
        several => watch(&name, &several.iter().flat_map(|x| &x.data).copied().collect::<Vec<f32>>()),
    }
}
