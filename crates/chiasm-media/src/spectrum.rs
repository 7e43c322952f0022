//! Spectra of sounds: Hann window, short-time Fourier magnitude, HTK mel filters, log-mel.
//!
//! # Reference
//! The front end of YAMNet (Plakal and Ellis, tensorflow/models, research/audioset/yamnet), whose every constant
//! `small_models/yamnet.json` states; mel scale as in HTK (Young et al., The HTK Book, 5.4): m(f) = 1127 ln(1 + f/700).
//! Checked against that network's golden log-mel to 1e-3. Differs from it in: nothing.
//! # Model
//! | quantity | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | periodic Hann window | [`hann_periodic`] | `[window_samples]` | 0..=1 |
//! | short-time Fourier magnitude | [`Stft::magnitude`] | `[n_frames, fft_size / 2 + 1]` | amplitude times samples, >= 0 |
//! | mel filters | [`mel_filters`] | `[n_mels, fft_size / 2 + 1]` | 0..=1, peak 1 |
//! | log-mel | [`LogMel::compute`] | `[n_frames, n_mels]` | ln(mel + offset) |
//!
//! Frame i covers samples `i * hop .. i * hop + window`, without padding: a sound shorter than one window has no frame.
//! # Cost
//! One real FFT per frame and, per frame and filter, as many products as the filter has bins; `n_frames * n_mels` values out.
//! # Determinism
//! Pure functions of their input, one thread.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// A log-mel front end cannot be made from these numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("log-mel configuration: {0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// With what is wrong.
    pub(crate) fn new(why: String) -> Self {
        Self(why)
    }
}

/// `0.5 - 0.5 cos(2 pi n / length)` for n in `0..length`: the periodic form, for analysis.
pub fn hann_periodic(length: usize) -> Vec<f32> {
    (0..length).map(|n| (0.5 - 0.5 * (2.0 * std::f64::consts::PI * n as f64 / length as f64).cos()) as f32).collect()
}

/// Hz to mel, HTK.
pub fn mel_of_hz(hz: f64) -> f64 {
    1127.0 * (1.0 + hz / 700.0).ln()
}

/// Mel to Hz, HTK; the inverse of [`mel_of_hz`].
pub fn hz_of_mel(mel: f64) -> f64 {
    700.0 * ((mel / 1127.0).exp() - 1.0)
}

/// Triangular filters `[n_mels, fft_size / 2 + 1]`, row-major, linear in mel, peak 1, no area normalisation; the first bin (DC)
/// has weight 0 everywhere, as in TensorFlow's `linear_to_mel_weight_matrix`.
///
/// `n_mels + 2` edges lie evenly in mel from `min_hz` to `max_hz`; filter m rises from edge m to m + 1 and falls to m + 2.
/// A filter narrower than the distance of two bins may be all 0.
pub fn mel_filters(n_mels: usize, fft_size: usize, sample_rate_hz: u32, min_hz: f64, max_hz: f64) -> Vec<f32> {
    let n_bins = fft_size / 2 + 1;
    let (low, high) = (mel_of_hz(min_hz), mel_of_hz(max_hz));
    let edge = |i: usize| low + (high - low) * i as f64 / (n_mels + 1) as f64;
    let mut filters = vec![0.0; n_mels * n_bins];
    for m in 0..n_mels {
        let (left, centre, right) = (edge(m), edge(m + 1), edge(m + 2));
        for bin in 1..n_bins {
            let mel = mel_of_hz(bin as f64 * f64::from(sample_rate_hz) / fft_size as f64);
            let weight = ((mel - left) / (centre - left)).min((right - mel) / (right - centre)).max(0.0);
            filters[m * n_bins + bin] = weight as f32;
        }
    }
    filters
}

/// Short-time Fourier transform with a periodic Hann window, zero-padded at the end to the FFT's size.
#[derive(Clone)]
pub struct Stft {
    window: Vec<f32>,
    hop_samples: usize,
    fft_size: usize,
    fft: Arc<dyn RealToComplex<f32>>,
}

impl Stft {
    /// A transform of frames of `window_samples`, `hop_samples` apart.
    ///
    /// # Panics
    /// When a length is 0 or the window is longer than the FFT: a caller's mistake.
    pub fn new(window_samples: usize, hop_samples: usize, fft_size: usize) -> Self {
        assert!(window_samples > 0 && hop_samples > 0 && window_samples <= fft_size, "need 0 < window <= fft and 0 < hop");
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(fft_size);
        Stft { window: hann_periodic(window_samples), hop_samples, fft_size, fft }
    }

    /// Frequency bins of a frame: `fft_size / 2 + 1`, bin k at `k * sample_rate / fft_size` Hz.
    pub fn n_bins(&self) -> usize {
        self.fft_size / 2 + 1
    }

    /// Whole frames in so many samples.
    pub fn n_frames(&self, n_samples: usize) -> usize {
        if n_samples < self.window.len() { 0 } else { (n_samples - self.window.len()) / self.hop_samples + 1 }
    }

    /// Magnitudes `[n_frames, n_bins]`, row-major.
    pub fn magnitude(&self, samples: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.n_frames(samples.len()) * self.n_bins());
        self.each_frame(samples, |magnitude| out.extend_from_slice(magnitude));
        out
    }

    /// Calls `use_frame` with the magnitudes of each frame in turn, so that a long sound's spectrum need not be held whole.
    fn each_frame(&self, samples: &[f32], mut use_frame: impl FnMut(&[f32])) {
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut magnitude = vec![0.0; self.n_bins()];
        for frame in 0..self.n_frames(samples.len()) {
            let start = frame * self.hop_samples;
            input.fill(0.0); // the transform uses its input as scratch
            for ((x, s), w) in input.iter_mut().zip(&samples[start..start + self.window.len()]).zip(&self.window) {
                *x = s * w;
            }
            self.fft.process_with_scratch(&mut input, &mut spectrum, &mut scratch).expect("buffers come from this transform");
            for (m, c) in magnitude.iter_mut().zip(&spectrum) {
                *m = (c.re * c.re + c.im * c.im).sqrt();
            }
            use_frame(&magnitude);
        }
    }
}

impl std::fmt::Debug for Stft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stft {{ window: {}, hop: {}, fft: {} }}", self.window.len(), self.hop_samples, self.fft_size)
    }
}

/// The numbers of a log-mel front end. Defaults are YAMNet's.
#[derive(Clone, Debug, PartialEq)]
pub struct LogMelConfig {
    /// Samples per second the input must have.
    pub sample_rate_hz: u32,
    /// Length of a frame.
    pub window_samples: usize,
    /// From one frame to the next.
    pub hop_samples: usize,
    /// Length of the Fourier transform, at least the window.
    pub fft_size: usize,
    /// Number of mel bands.
    pub n_mels: usize,
    /// Where the lowest band begins.
    pub min_hz: f64,
    /// Where the highest band ends; at most half the sample rate.
    pub max_hz: f64,
    /// Whether bands sum squared magnitudes rather than magnitudes.
    pub power: bool,
    /// Added before the logarithm, so that silence is finite.
    pub log_offset: f32,
}

impl Default for LogMelConfig {
    fn default() -> Self {
        LogMelConfig {
            sample_rate_hz: 16_000,
            window_samples: 400,
            hop_samples: 160,
            fft_size: 512,
            n_mels: 64,
            min_hz: 125.0,
            max_hz: 7_500.0,
            power: false,
            log_offset: 0.001,
        }
    }
}

/// One mel band: the bins from `first` on and their weights; bands are narrow, so only these are stored.
#[derive(Clone, Debug)]
struct Band {
    first: usize,
    weights: Vec<f32>,
}

/// A log-mel front end.
#[derive(Clone, Debug)]
pub struct LogMel {
    config: LogMelConfig,
    stft: Stft,
    bands: Vec<Band>,
}

impl LogMel {
    /// YAMNet's: 16 kHz, 25 ms windows every 10 ms, 64 bands from 125 to 7500 Hz, ln(magnitude + 0.001).
    pub fn yamnet() -> Self {
        LogMel::new(LogMelConfig::default()).expect("the published numbers are consistent")
    }

    /// # Errors
    /// [`ConfigError`] on a length of 0, a window longer than the transform, bands outside 0..=rate/2, an offset that is not
    /// positive.
    pub fn new(config: LogMelConfig) -> Result<Self, ConfigError> {
        let c = &config;
        let refuse = |why: String| Err(ConfigError(why));
        if c.sample_rate_hz == 0 || c.window_samples == 0 || c.hop_samples == 0 || c.n_mels == 0 {
            return refuse("sample rate, window, hop and number of bands must be at least 1".into());
        }
        if c.window_samples > c.fft_size || c.fft_size > 1 << 20 {
            return refuse(format!(
                "window {} and transform {}, expected window <= transform <= 2^20",
                c.window_samples, c.fft_size
            ));
        }
        let half_rate = f64::from(c.sample_rate_hz) / 2.0;
        if !(0.0 <= c.min_hz && c.min_hz < c.max_hz && c.max_hz <= half_rate) {
            return refuse(format!("bands from {} to {} Hz, expected 0 <= min < max <= {half_rate}", c.min_hz, c.max_hz));
        }
        if !(c.log_offset > 0.0 && c.log_offset.is_finite()) {
            return refuse(format!("log offset {}, expected a positive number", c.log_offset));
        }
        let stft = Stft::new(c.window_samples, c.hop_samples, c.fft_size);
        let filters = mel_filters(c.n_mels, c.fft_size, c.sample_rate_hz, c.min_hz, c.max_hz);
        let bands = filters
            .chunks_exact(stft.n_bins())
            .map(|row| {
                let first = row.iter().position(|&w| w > 0.0).unwrap_or(0);
                let end = row.iter().rposition(|&w| w > 0.0).map_or(first, |last| last + 1);
                Band { first, weights: row[first..end].to_vec() }
            })
            .collect();
        Ok(LogMel { config, stft, bands })
    }

    /// The numbers it was made from.
    pub fn config(&self) -> &LogMelConfig {
        &self.config
    }

    /// Mel bands per frame.
    pub fn n_mels(&self) -> usize {
        self.bands.len()
    }

    /// Whole frames in so many samples; 0 when shorter than one window.
    pub fn n_frames(&self, n_samples: usize) -> usize {
        self.stft.n_frames(n_samples)
    }

    /// `[n_frames, n_mels]`, row-major, lowest band first, of samples at [`LogMelConfig::sample_rate_hz`].
    pub fn compute(&self, samples: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.n_frames(samples.len()) * self.n_mels());
        self.stft.each_frame(samples, |magnitude| {
            for band in &self.bands {
                let bins = magnitude[band.first..].iter().zip(&band.weights);
                let energy: f32 =
                    if self.config.power { bins.map(|(m, w)| m * m * w).sum() } else { bins.map(|(m, w)| m * w).sum() };
                out.push((energy + self.config.log_offset).ln());
            }
        });
        out
    }
}
