//! Log-mel spectra equal to those of the libraries on which networks for sound were trained: Kaldi, torchaudio and librosa.
//!
//! # Reference
//! Povey et al., "The Kaldi Speech Recognition Toolkit", ASRU 2011 (`compute-fbank-feats`); Slaney, "Auditory Toolbox", 1998 (the mel
//! scale and filters of librosa); Young et al., The HTK Book, 5.4. Checked against the feature extractors of transformers
//! (`reference/encode_sounds.py`) within 1e-4. Differs from them in: nothing (no dither is added, as none is there).
//! # Model
//! | quantity | shape | unit, range |
//! | --- | --- | --- |
//! | frames | `[n_frames, fft_size]` | amplitude, windowed, zeros behind the window |
//! | power | `[n_frames, fft_size / 2 + 1]` | squared magnitude |
//! | bands | `[n_frames, n_mels]` | at least `floor` |
//! | result | `[n_frames, n_mels]` | ln, or 10 log10 |
//!
//! Everything is computed in `f64`, as numpy does: a band some 80 dB below the loudest has no digits left in an `f32` transform.
//! [`crate::spectrum`] is YAMNet's front end, which was trained in `f32`.
//! # Cost
//! One real FFT per frame and, per frame and band, as many products as the band has bins.
//! # Determinism
//! A pure function, one thread.

use std::ops::Range;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::spectrum::{ConfigError, hz_of_mel, mel_of_hz};

/// Longest transform.
const MAX_FFT: usize = 1 << 16;
/// Most bands.
const MAX_MELS: usize = 1 << 12;

/// How a sound is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    /// Whole frames only, from the first sample on, under a symmetric Hann window: Kaldi. Each has its mean taken away, then from every
    /// sample this part of the one before it.
    Kaldi {
        /// The part, 0.97 by Kaldi's default.
        pre_emphasis: f64,
    },
    /// Frames whose middles are the multiples of the hop, under a periodic Hann window; beyond its ends the sound is mirrored: librosa,
    /// torchaudio.
    Centred,
}

/// The scale on which bands lie evenly, and their triangles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bands {
    /// HTK's scale, triangles over the frequency, peak 1: torchaudio.
    Htk,
    /// HTK's scale, triangles over the scale itself, peak 1: Kaldi.
    Kaldi,
    /// Slaney's scale (linear up to 1 kHz, then logarithmic), triangles over the frequency, area 1: librosa.
    Slaney,
}

/// What is done to the bands' energies in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// `ln`.
    Natural,
    /// `10 log10`.
    Decibel,
}

/// The numbers of a front end.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterbankConfig {
    /// Samples per second the input must have.
    pub sample_rate_hz: u32,
    /// Length of a frame.
    pub window_samples: usize,
    /// From one frame to the next.
    pub hop_samples: usize,
    /// Length of the Fourier transform: even, at least the window.
    pub fft_size: usize,
    /// How frames are cut.
    pub framing: Framing,
    /// Number of bands.
    pub n_mels: usize,
    /// Where the lowest band begins.
    pub min_hz: f64,
    /// Where the highest band ends; at most half the sample rate.
    pub max_hz: f64,
    /// Their scale.
    pub bands: Bands,
    /// Smallest energy of a band, so that silence is finite.
    pub floor: f64,
    /// What stands for the energies.
    pub loudness: Loudness,
}

/// A front end.
#[derive(Clone)]
pub struct Filterbank {
    config: FilterbankConfig,
    /// `[window_samples]`.
    window: Vec<f64>,
    fft: Arc<dyn RealToComplex<f64>>,
    bands: Vec<Band>,
}

/// One band: the bins from `first` on and their weights; only those above 0 are stored.
#[derive(Clone, Debug)]
struct Band {
    first: usize,
    weights: Vec<f64>,
}

impl Filterbank {
    /// # Errors
    /// [`ConfigError`] on a length of 0, a window longer than the transform, a transform that is odd or beyond 65,536, more than 4,096
    /// bands, bands outside 0..=rate/2, a floor that is not positive.
    pub fn new(config: FilterbankConfig) -> Result<Self, ConfigError> {
        let c = &config;
        let refuse = |why: String| Err(ConfigError::new(why));
        if c.sample_rate_hz == 0 || c.window_samples == 0 || c.hop_samples == 0 || !(1..=MAX_MELS).contains(&c.n_mels) {
            return refuse(format!("sample rate, window and hop must be at least 1, the number of bands 1 to {MAX_MELS}"));
        }
        if c.window_samples > c.fft_size || c.fft_size > MAX_FFT || !c.fft_size.is_multiple_of(2) {
            return refuse(format!(
                "window {} and transform {}, expected window <= transform <= {MAX_FFT} and an even transform",
                c.window_samples, c.fft_size
            ));
        }
        let half_rate = f64::from(c.sample_rate_hz) / 2.0;
        if !(0.0 <= c.min_hz && c.min_hz < c.max_hz && c.max_hz <= half_rate) {
            return refuse(format!("bands from {} to {} Hz, expected 0 <= min < max <= {half_rate}", c.min_hz, c.max_hz));
        }
        if !(c.floor > 0.0 && c.floor.is_finite()) {
            return refuse(format!("a floor of {}, expected a positive number", c.floor));
        }
        let window = match c.framing {
            Framing::Kaldi { .. } => hann(c.window_samples, c.window_samples.saturating_sub(1)),
            Framing::Centred => hann(c.window_samples, c.window_samples),
        };
        let fft = RealFftPlanner::<f64>::new().plan_fft_forward(c.fft_size);
        let bands = bands(c);
        Ok(Self { config, window, fft, bands })
    }

    /// The numbers it was made from.
    pub fn config(&self) -> &FilterbankConfig {
        &self.config
    }

    /// Values per frame.
    pub fn n_mels(&self) -> usize {
        self.bands.len()
    }

    /// Frames of so many samples.
    pub fn n_frames(&self, n_samples: usize) -> usize {
        let (window, hop) = (self.config.window_samples, self.config.hop_samples);
        match self.config.framing {
            Framing::Kaldi { .. } if n_samples < window => 0,
            Framing::Kaldi { .. } => (n_samples - window) / hop + 1,
            Framing::Centred if n_samples == 0 => 0,
            Framing::Centred => (n_samples + window / 2 * 2).saturating_sub(window) / hop + 1,
        }
    }

    /// The bands' weights `[n_mels, fft_size / 2 + 1]`, row-major.
    pub fn weights(&self) -> Vec<f32> {
        let n_bins = self.config.fft_size / 2 + 1;
        let mut out = vec![0.0; self.n_mels() * n_bins];
        for (row, band) in out.chunks_exact_mut(n_bins).zip(&self.bands) {
            row[band.first..].iter_mut().zip(&band.weights).for_each(|(out, w)| *out = *w as f32);
        }
        out
    }

    /// `[n_frames, n_mels]`, row-major, lowest band first, of samples at [`FilterbankConfig::sample_rate_hz`].
    pub fn compute(&self, samples: &[f32]) -> Vec<f32> {
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0.0; spectrum.len()];
        let n_frames = self.n_frames(samples.len());
        let mut out = Vec::with_capacity(n_frames * self.n_mels());
        for frame in 0..n_frames {
            input.fill(0.0); // the transform uses its input as scratch
            self.frame(samples, frame, &mut input[..self.window.len()]);
            self.fft.process_with_scratch(&mut input, &mut spectrum, &mut scratch).expect("buffers come from this transform");
            power.iter_mut().zip(&spectrum).for_each(|(p, c)| *p = c.re * c.re + c.im * c.im);
            for band in &self.bands {
                let energy: f64 = power[band.first..].iter().zip(&band.weights).map(|(p, w)| p * w).sum();
                let energy = energy.max(self.config.floor);
                out.push(match self.config.loudness {
                    Loudness::Natural => energy.ln() as f32,
                    Loudness::Decibel => (10.0 * energy.log10()) as f32,
                });
            }
        }
        out
    }

    /// Writes the samples of a frame under the window.
    fn frame(&self, samples: &[f32], frame: usize, out: &mut [f64]) {
        let start = frame * self.config.hop_samples;
        match self.config.framing {
            Framing::Kaldi { pre_emphasis } => {
                out.iter_mut().zip(&samples[start..]).for_each(|(x, s)| *x = f64::from(*s));
                let mean = out.iter().sum::<f64>() / out.len() as f64;
                out.iter_mut().for_each(|x| *x -= mean);
                // The first sample has none before it, and serves as its own.
                let mut before = out[0];
                for x in out.iter_mut() {
                    let here = *x;
                    *x -= pre_emphasis * before;
                    before = here;
                }
            }
            Framing::Centred => {
                let first = start as isize - (self.window.len() / 2) as isize;
                for (i, x) in out.iter_mut().enumerate() {
                    *x = f64::from(samples[mirrored(first + i as isize, samples.len())]);
                }
            }
        }
        out.iter_mut().zip(&self.window).for_each(|(x, w)| *x *= w);
    }
}

impl std::fmt::Debug for Filterbank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

/// `0.5 - 0.5 cos(2 pi n / period)` for n in `0..length`; a single sample keeps its height.
fn hann(length: usize, period: usize) -> Vec<f64> {
    let turn = 2.0 * std::f64::consts::PI / period as f64;
    let at = |n: usize| if length == 1 { 1.0 } else { 0.5 - 0.5 * (turn * n as f64).cos() };
    (0..length).map(at).collect()
}

/// The place in `0..n` of a sample beyond the ends, where the sound is mirrored without repeating its end.
fn mirrored(at: isize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as isize - 1);
    let at = at.rem_euclid(period);
    at.min(period - at) as usize
}

/// The triangles, `n_mels + 2` edges lying evenly on the scale: band m rises from edge m to m + 1 and falls to m + 2.
fn bands(c: &FilterbankConfig) -> Vec<Band> {
    let n_bins = c.fft_size / 2 + 1;
    let to_scale = if c.bands == Bands::Slaney { slaney_of_hz } else { mel_of_hz };
    let to_hz = if c.bands == Bands::Slaney { hz_of_slaney } else { hz_of_mel };
    let (low, high) = (to_scale(c.min_hz), to_scale(c.max_hz));
    // Where an edge or a bin lies, in that in which the triangles' sides are straight.
    let edge = |i: usize| {
        let at = low + (high - low) * i as f64 / (c.n_mels + 1) as f64;
        if c.bands == Bands::Kaldi { at } else { to_hz(at) }
    };
    let bin = |k: usize| {
        let hz = k as f64 * f64::from(c.sample_rate_hz) / c.fft_size as f64;
        if c.bands == Bands::Kaldi { to_scale(hz) } else { hz }
    };
    let bins: Vec<f64> = (0..n_bins).map(bin).collect();
    let band = |m: usize| {
        let (left, middle, right) = (edge(m), edge(m + 1), edge(m + 2));
        let height = if c.bands == Bands::Slaney { 2.0 / (right - left) } else { 1.0 };
        let inside: Range<usize> = bins.partition_point(|x| *x <= left)..bins.partition_point(|x| *x < right);
        let weight = |x: &f64| ((x - left) / (middle - left)).min((right - x) / (right - middle)).max(0.0) * height;
        Band { first: inside.start, weights: bins[inside.start..inside.end.max(inside.start)].iter().map(weight).collect() }
    };
    (0..c.n_mels).map(band).collect()
}

/// Below this Slaney's scale is linear, 3 for every 200 Hz; above, 27 for every factor of 6.4.
const SLANEY_BREAK_HZ: f64 = 1000.0;
const SLANEY_BREAK: f64 = 15.0;

/// Hz to Slaney's mel.
fn slaney_of_hz(hz: f64) -> f64 {
    if hz < SLANEY_BREAK_HZ { 3.0 * hz / 200.0 } else { SLANEY_BREAK + (hz / SLANEY_BREAK_HZ).ln() * 27.0 / 6.4f64.ln() }
}

/// Slaney's mel to Hz; the inverse of [`slaney_of_hz`].
fn hz_of_slaney(mel: f64) -> f64 {
    if mel < SLANEY_BREAK { 200.0 * mel / 3.0 } else { SLANEY_BREAK_HZ * ((mel - SLANEY_BREAK) * 6.4f64.ln() / 27.0).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(framing: Framing, bands: Bands) -> FilterbankConfig {
        FilterbankConfig {
            sample_rate_hz: 8_000,
            window_samples: 200,
            hop_samples: 80,
            fft_size: 256,
            framing,
            n_mels: 20,
            min_hz: 40.0,
            max_hz: 4_000.0,
            bands,
            floor: 1e-10,
            loudness: Loudness::Natural,
        }
    }

    fn tone(hz: f64, n: usize) -> Vec<f32> {
        (0..n).map(|i| 0.5 * (std::f64::consts::TAU * hz * i as f64 / 8_000.0).sin() as f32).collect()
    }

    /// The power of bin `k` by the definition of the transform.
    fn power(frame: &[f64], k: usize, fft_size: usize) -> f64 {
        let turn = std::f64::consts::TAU * k as f64 / fft_size as f64;
        let part = |f: fn(f64) -> f64| frame.iter().enumerate().map(|(i, x)| x * f(turn * i as f64)).sum::<f64>();
        part(f64::cos).powi(2) + part(f64::sin).powi(2)
    }

    #[test]
    fn a_frame_equals_its_definition() {
        for (framing, bands) in [
            (Framing::Kaldi { pre_emphasis: 0.97 }, Bands::Kaldi),
            (Framing::Centred, Bands::Slaney),
            (Framing::Centred, Bands::Htk),
        ] {
            let bank = Filterbank::new(config(framing, bands)).unwrap();
            let samples: Vec<f32> = tone(700.0, 1_000).iter().enumerate().map(|(i, x)| x + 0.1 + i as f32 * 1e-4).collect();
            let (out, weights) = (bank.compute(&samples), bank.weights());
            assert_eq!(out.len(), bank.n_frames(1_000) * 20);
            // The third frame lies inside the sound in both.
            let start = if framing == Framing::Centred { 60 } else { 160 };
            let mut frame: Vec<f64> = samples[start..start + 200].iter().map(|x| f64::from(*x)).collect();
            let mut divisor = 200.0;
            if framing != Framing::Centred {
                divisor = 199.0;
                let mean = frame.iter().sum::<f64>() / 200.0;
                frame.iter_mut().for_each(|x| *x -= mean);
                frame = (0..200).map(|i| frame[i] - 0.97 * frame[i.saturating_sub(1)]).collect();
            }
            for (i, x) in frame.iter_mut().enumerate() {
                *x *= (std::f64::consts::PI * i as f64 / divisor).sin().powi(2);
            }
            for m in 0..20 {
                let energy: f64 = (0..129).map(|k| f64::from(weights[m * 129 + k]) * power(&frame, k, 256)).sum();
                let (got, want) = (f64::from(out[2 * 20 + m]), energy.max(1e-10).ln());
                assert!((got - want).abs() < 1e-5, "{bands:?}, band {m}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn bands_cover_their_range_in_their_way() {
        let weights = |bands| Filterbank::new(config(Framing::Centred, bands)).unwrap().weights();
        // Between the middles of the first and the last band triangles of height 1 add up to 1, on whichever axis they are straight.
        for bands in [Bands::Htk, Bands::Kaldi] {
            let weights = weights(bands);
            for k in 12..100 {
                let sum: f32 = (0..20).map(|m| weights[m * 129 + k]).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{bands:?}, bin {k}: {sum}");
            }
        }
        // Area 1 over the frequency: bins are 31.25 Hz apart, wide bands have enough of them.
        let weights = weights(Bands::Slaney);
        for m in 15..20 {
            let area = weights[m * 129..(m + 1) * 129].iter().sum::<f32>() * 31.25;
            assert!((area - 1.0).abs() < 0.02, "band {m}: {area}");
        }
        for hz in [0.0, 500.0, 999.9, 1_000.0, 3_999.0] {
            assert!((hz_of_slaney(slaney_of_hz(hz)) - hz).abs() < 1e-9);
        }
        assert!((slaney_of_hz(6_400.0) - 42.0).abs() < 1e-12);
    }

    #[test]
    fn lengths_and_ends() {
        let kaldi = Filterbank::new(config(Framing::Kaldi { pre_emphasis: 0.97 }, Bands::Kaldi)).unwrap();
        assert_eq!([0, 199, 200, 279, 280].map(|n| kaldi.n_frames(n)), [0, 0, 1, 1, 2]);
        let centred = Filterbank::new(config(Framing::Centred, Bands::Slaney)).unwrap();
        assert_eq!([0, 1, 79, 80, 8_000].map(|n| centred.n_frames(n)), [0, 1, 1, 2, 101]);
        for n in [0, 1, 2, 3, 99, 1_000] {
            assert_eq!(centred.compute(&tone(300.0, n)).len(), centred.n_frames(n) * 20);
            assert_eq!(kaldi.compute(&tone(300.0, n)).len(), kaldi.n_frames(n) * 20);
        }
        assert_eq!([-5, -1, 0, 3, 4, 5, 8].map(|at| mirrored(at, 4)), [1, 1, 0, 3, 2, 1, 2]);
        // Silence is at the floor.
        assert!(centred.compute(&[0.0; 500]).iter().all(|v| *v == 1e-10f64.ln() as f32));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let good = config(Framing::Centred, Bands::Htk);
        for (change, words) in [
            (FilterbankConfig { hop_samples: 0, ..good.clone() }, "at least 1"),
            (FilterbankConfig { n_mels: 5_000, ..good.clone() }, "1 to 4096"),
            (FilterbankConfig { fft_size: 199, ..good.clone() }, "window 200 and transform 199"),
            (FilterbankConfig { fft_size: 201, ..good.clone() }, "even"),
            (FilterbankConfig { fft_size: 1 << 40, ..good.clone() }, "transform"),
            (FilterbankConfig { max_hz: 4_001.0, ..good.clone() }, "<= 4000"),
            (FilterbankConfig { min_hz: f64::NAN, ..good.clone() }, "bands from NaN"),
            (FilterbankConfig { floor: 0.0, ..good.clone() }, "floor of 0"),
        ] {
            let message = Filterbank::new(change).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
