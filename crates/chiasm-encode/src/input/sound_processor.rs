//! Sounds to the spectra that a network was trained on, as `preprocessor_config.json` states it.
//!
//! # Reference
//! `ASTFeatureExtractor` and `ClapFeatureExtractor` of transformers, whose spectra these equal within 1e-4; the front end of Kong et al.,
//! "PANNs", 2020, which is librosa's. Where the second cuts a long sound at random, here the cut is always in the middle of the places
//! that it draws from, so that a sound has one embedding.

use chiasm_core::Waveform;
use chiasm_media::filterbank::{Bands, Filterbank, FilterbankConfig, Framing, Loudness};
use chiasm_nn::FeatureMap;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::model;

/// Samples per second beyond this are refused, as no recording has them.
const MAX_RATE_HZ: u32 = 384_000;
/// Samples and frames that a network takes at most: some minutes. A description comes from strangers, and decides how much memory a
/// sound takes.
const MAX_SAMPLES: usize = 1 << 24;
const MAX_FRAMES: usize = 1 << 16;

/// The steps from a sound to a network's input, `[frames, bands, channels]`.
#[derive(Clone, Debug)]
pub(crate) struct SoundProcessor {
    filterbank: Filterbank,
    length: Length,
    /// A value `v` of the spectrum becomes `(v - mean) / scale`.
    mean: f32,
    scale: f32,
}

/// How sounds of all lengths come to one that the network takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Length {
    /// The first so many frames; what is missing is 0, as if it were a loudness.
    Frames(usize),
    /// So many samples.
    Samples {
        n: usize,
        short: Short,
        /// Whether a longer sound is seen as a whole and in three cuts; else in one cut.
        fused: bool,
    },
    /// All of it, silence added up to `min` samples.
    Whole { min: usize, max: usize },
}

/// What a sound is filled up with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Short {
    /// Itself, the last time cut.
    Repeated,
    /// Itself as often as it fits, then silence.
    RepeatedWhole,
    /// Silence.
    Silence,
}

impl SoundProcessor {
    /// That of AST; without `preprocessor_config.json` the reference's defaults hold.
    pub(crate) fn ast(files: &mut Checkpoint) -> Result<Self, OpenError> {
        /// What is silent has the reference's default, which is that of AudioSet.
        #[derive(Deserialize)]
        #[serde(default)]
        struct Config {
            sampling_rate: u32,
            num_mel_bins: usize,
            max_length: usize,
            do_normalize: bool,
            mean: f32,
            std: f32,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    sampling_rate: 16_000,
                    num_mel_bins: 128,
                    max_length: 1024,
                    do_normalize: true,
                    mean: -4.267_739_3,
                    std: 4.568_997_4,
                }
            }
        }

        let file = "preprocessor_config.json";
        let (path, c): (_, Config) = if files.has(file) { files.json(file)? } else { (files.path(file), Config::default()) };
        model::expect(&path, (1_000..=MAX_RATE_HZ).contains(&c.sampling_rate), || rate(c.sampling_rate))?;
        model::expect(&path, (1..=MAX_FRAMES).contains(&c.max_length), || {
            format!("max_length is {}, expected 1 to {MAX_FRAMES} frames", c.max_length)
        })?;
        let scale = 2.0 * c.std;
        model::expect(&path, c.mean.is_finite() && scale.is_finite() && scale > 0.0, || {
            format!("mean {} and std {}, expected finite numbers and a std above 0", c.mean, c.std)
        })?;
        // Kaldi's frames: 25 ms every 10 ms, filled up to a power of two.
        let window = c.sampling_rate as usize * 25 / 1000;
        let filterbank = FilterbankConfig {
            sample_rate_hz: c.sampling_rate,
            window_samples: window,
            hop_samples: c.sampling_rate as usize / 100,
            fft_size: window.next_power_of_two(),
            framing: Framing::Kaldi { pre_emphasis: 0.97 },
            n_mels: c.num_mel_bins,
            min_hz: 20.0,
            max_hz: f64::from(c.sampling_rate) / 2.0,
            bands: Bands::Kaldi,
            floor: f64::from(f32::EPSILON),
            loudness: Loudness::Natural,
        };
        let filterbank = Filterbank::new(filterbank).map_err(|e| model::config(&path, e.to_string()))?;
        let (mean, scale) = if c.do_normalize { (c.mean, scale) } else { (0.0, 1.0) };
        Ok(Self { filterbank, length: Length::Frames(c.max_length), mean, scale })
    }

    /// That of CLAP; without `preprocessor_config.json` the reference's defaults hold. `fused` says whether the network can take the
    /// four spectra that the description's `truncation` may ask for.
    pub(crate) fn clap(files: &mut Checkpoint, fused: bool) -> Result<Self, OpenError> {
        /// What is silent has the reference's default.
        #[derive(Deserialize)]
        #[serde(default)]
        struct Config {
            feature_size: usize,
            sampling_rate: u32,
            hop_length: usize,
            max_length_s: usize,
            fft_window_size: usize,
            frequency_min: f64,
            frequency_max: f64,
            truncation: String,
            padding: String,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    feature_size: 64,
                    sampling_rate: 48_000,
                    hop_length: 480,
                    max_length_s: 10,
                    fft_window_size: 1024,
                    frequency_min: 0.0,
                    frequency_max: 14_000.0,
                    truncation: "fusion".to_owned(),
                    padding: "repeatpad".to_owned(),
                }
            }
        }

        let file = "preprocessor_config.json";
        let (path, c): (_, Config) = if files.has(file) { files.json(file)? } else { (files.path(file), Config::default()) };
        model::expect(&path, (1..=MAX_RATE_HZ).contains(&c.sampling_rate), || rate(c.sampling_rate))?;
        let n = c.max_length_s.saturating_mul(c.sampling_rate as usize);
        model::expect(&path, (1..=MAX_SAMPLES).contains(&n), || {
            format!("max_length_s is {}, expected 1 to {} s", c.max_length_s, MAX_SAMPLES / c.sampling_rate as usize)
        })?;
        let short = match c.padding.as_str() {
            "repeat" => Short::Repeated,
            "repeatpad" => Short::RepeatedWhole,
            "pad" => Short::Silence,
            other => {
                return Err(model::config(&path, format!("padding is `{other}`, expected repeatpad, repeat or pad")));
            }
        };
        let (bands, several) = match c.truncation.as_str() {
            "fusion" => (Bands::Htk, true),
            "rand_trunc" => (Bands::Slaney, false),
            other => {
                return Err(model::config(&path, format!("truncation is `{other}`, expected fusion or rand_trunc")));
            }
        };
        model::expect(&path, fused == several, || {
            format!("truncation is `{}`, the network has enable_fusion {fused}: these do not belong together", c.truncation)
        })?;
        let filterbank = FilterbankConfig {
            sample_rate_hz: c.sampling_rate,
            window_samples: c.fft_window_size,
            hop_samples: c.hop_length,
            fft_size: c.fft_window_size,
            framing: Framing::Centred,
            n_mels: c.feature_size,
            min_hz: c.frequency_min,
            max_hz: c.frequency_max,
            bands,
            floor: 1e-10,
            loudness: Loudness::Decibel,
        };
        let filterbank = Filterbank::new(filterbank).map_err(|e| model::config(&path, e.to_string()))?;
        Ok(Self { filterbank, length: Length::Samples { n, short, fused }, mean: 0.0, scale: 1.0 })
    }

    /// That of PANNs: librosa's spectrum of the whole sound, which must be at most `max` samples long and is filled up with silence to
    /// `min`.
    pub(crate) fn panns(filterbank: Filterbank, min: usize, max: usize) -> Self {
        Self { filterbank, length: Length::Whole { min, max }, mean: 0.0, scale: 1.0 }
    }

    /// Frames and bands of what [`SoundProcessor::spectrum`] gives; no number of frames where it depends on the sound.
    pub(crate) fn shape(&self) -> (Option<usize>, usize) {
        let frames = match self.length {
            Length::Frames(n) => Some(n),
            Length::Samples { n, .. } => Some(self.filterbank.n_frames(n)),
            Length::Whole { .. } => None,
        };
        (frames, self.filterbank.n_mels())
    }

    /// Samples per second to which sounds are brought first.
    pub(crate) fn sample_rate_hz(&self) -> u32 {
        self.filterbank.config().sample_rate_hz
    }

    /// Samples at that rate of which something is seen; none where all are.
    pub(crate) fn n_samples(&self) -> Option<usize> {
        let c = self.filterbank.config();
        match self.length {
            Length::Frames(n) => Some(n * c.hop_samples + c.window_samples),
            Length::Samples { .. } | Length::Whole { .. } => None,
        }
    }

    /// The sound as the network takes it, or why it cannot be taken.
    pub(crate) fn spectrum(&self, wave: &Waveform) -> Result<FeatureMap, String> {
        if wave.samples.is_empty() {
            return Err("the sound is empty".to_owned());
        }
        let wave = chiasm_media::resample(wave, self.filterbank.config().sample_rate_hz);
        let n_mels = self.filterbank.n_mels();
        let mut spectra = match self.length {
            Length::Frames(n) => vec![self.first_frames(&wave.samples, n)?],
            Length::Samples { n, short, .. } if wave.samples.len() <= n => {
                vec![self.filterbank.compute(&filled(wave.samples, n, short))]
            }
            Length::Samples { n, fused: false, .. } => {
                // The reference begins anywhere from 0 to the overhang.
                let start = (wave.samples.len() - n) / 2;
                vec![self.filterbank.compute(&wave.samples[start..start + n])]
            }
            Length::Samples { n, fused: true, .. } => fused(&self.filterbank, &wave.samples, n),
            Length::Whole { min, max } => {
                let n = wave.samples.len();
                if n > max {
                    let rate = f64::from(wave.sample_rate_hz);
                    let (lasts, most) = (n as f64 / rate, max as f64 / rate);
                    return Err(format!("the sound lasts {lasts:.1} s, the network takes at most {most:.1} s: cut it first"));
                }
                vec![self.filterbank.compute(&filled(wave.samples, min.max(n), Short::Silence))]
            }
        };
        if (self.mean, self.scale) != (0.0, 1.0) {
            spectra.iter_mut().flatten().for_each(|v| *v = (*v - self.mean) / self.scale);
        }
        let channels = spectra.len();
        let data = match <[Vec<f32>; 1]>::try_from(spectra) {
            Ok([one]) => one,
            Err(several) => (0..several[0].len()).flat_map(|at| several.iter().map(move |s| s[at])).collect(),
        };
        Ok(FeatureMap { height: data.len() / (n_mels * channels), width: n_mels, channels, data })
    }

    /// `n` frames from the beginning.
    fn first_frames(&self, samples: &[f32], n: usize) -> Result<Vec<f32>, String> {
        let c = self.filterbank.config();
        if samples.len() < c.window_samples {
            let shortest = 1000.0 * c.window_samples as f64 / f64::from(c.sample_rate_hz);
            return Err(format!("the sound is shorter than {shortest:.0} ms, the length of one frame"));
        }
        let needed = c.window_samples + (n - 1) * c.hop_samples;
        let mut spectrum = self.filterbank.compute(&samples[..needed.min(samples.len())]);
        spectrum.resize(n * self.filterbank.n_mels(), 0.0);
        Ok(spectrum)
    }
}

fn rate(given: u32) -> String {
    format!("sampling_rate is {given}, which no recording of a sound has")
}

/// A sound of at most `n` samples, filled up.
fn filled(mut samples: Vec<f32>, n: usize, short: Short) -> Vec<f32> {
    let length = samples.len();
    let to = match short {
        Short::Repeated => n,
        Short::RepeatedWhole => n / length * length,
        Short::Silence => length,
    };
    samples.reserve_exact(n - length);
    for at in length..to {
        samples.push(samples[at - length]);
    }
    samples.resize(n, 0.0);
    samples
}

/// Spectra of a sound of more than `n` samples, each of as many frames as `n` have: all of it, made shorter, and three parts of it.
fn fused(filterbank: &Filterbank, samples: &[f32], n: usize) -> Vec<Vec<f32>> {
    let whole = filterbank.compute(samples);
    let n_mels = filterbank.n_mels();
    let (n_short, n_long) = (filterbank.n_frames(n), whole.len() / n_mels);
    if n_short == n_long {
        // Longer by less than a hop: the reference counts it as not longer.
        return vec![whole];
    }
    // The parts begin in the first, second and last third of the places there are; the reference draws one of each third.
    let places = n_long - n_short + 1;
    let third = |i: usize| places / 3 + usize::from(i < places % 3);
    let mut spectra = vec![shortened(&whole, n_mels, n_short)];
    let mut first = 0;
    for i in 0..3 {
        // A third without a place stands for the beginning.
        let start = if third(i) == 0 { 0 } else { first + third(i) / 2 };
        spectra.push(whole[start * n_mels..(start + n_short) * n_mels].to_vec());
        first += third(i);
    }
    spectra
}

/// A spectrum of `n` frames, each mixed from the two nearest of those there are (bilinear, without averaging over what lies between).
fn shortened(whole: &[f32], n_mels: usize, n: usize) -> Vec<f32> {
    let n_long = whole.len() / n_mels;
    let scale = n_long as f32 / n as f32;
    let mut out = Vec::with_capacity(n * n_mels);
    for i in 0..n {
        let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let before = (at as usize).min(n_long - 1);
        let after = (before + 1).min(n_long - 1);
        let part = at - before as f32;
        let frame = |i: usize| &whole[i * n_mels..][..n_mels];
        out.extend(frame(before).iter().zip(frame(after)).map(|(a, b)| (1.0 - part) * a + part * b));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sounds_are_filled_up_in_three_ways() {
        let sound = || vec![1.0, 2.0, 3.0];
        assert_eq!(filled(sound(), 8, Short::Repeated), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]);
        assert_eq!(filled(sound(), 8, Short::RepeatedWhole), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
        assert_eq!(filled(sound(), 5, Short::RepeatedWhole), [1.0, 2.0, 3.0, 0.0, 0.0]);
        assert_eq!(filled(sound(), 8, Short::Silence)[3..], [0.0; 5]);
        assert_eq!(filled(sound(), 3, Short::Silence), sound());
    }

    #[test]
    fn what_no_recording_has_and_no_network_takes_is_refused() {
        let refusal = |text: &str, open: fn(&mut Checkpoint) -> Result<SoundProcessor, OpenError>| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("preprocessor_config.json"), text).unwrap();
            open(&mut Checkpoint::new(folder.path())).unwrap_err().to_string()
        };
        for (text, words) in [
            (r#"{"sampling_rate": 0}"#, "sampling_rate is 0"),
            (r#"{"sampling_rate": 4000000000}"#, "sampling_rate is 4000000000"),
            (r#"{"max_length": 0}"#, "max_length is 0"),
            (r#"{"max_length": 99999999999}"#, "max_length is 99999999999"),
            (r#"{"std": 0}"#, "std 0"),
            (r#"{"num_mel_bins": 0}"#, "the number of bands"),
            (r#"{"num_mel_bins": -1}"#, "preprocessor_config.json"),
        ] {
            let message = refusal(text, SoundProcessor::ast);
            assert!(message.contains(words), "{text}: {message}");
        }
        for (text, words) in [
            (r#"{"sampling_rate": 0}"#, "sampling_rate is 0"),
            (r#"{"max_length_s": 0}"#, "max_length_s is 0"),
            (r#"{"max_length_s": 18446744073709551615}"#, "max_length_s is 18446744073709551615"),
            (r#"{"padding": "mirror"}"#, "padding is `mirror`"),
            (r#"{"truncation": "never"}"#, "truncation is `never`"),
            (r#"{"truncation": "rand_trunc"}"#, "enable_fusion true"),
            (r#"{"fft_window_size": 1023}"#, "even"),
            (r#"{"hop_length": 0}"#, "hop"),
            (r#"{"frequency_max": 30000}"#, "expected 0 <= min < max <= 24000"),
        ] {
            let message = refusal(text, |files| SoundProcessor::clap(files, true));
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn sounds_that_are_nothing_or_too_much_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ast = SoundProcessor::ast(&mut Checkpoint::new(folder.path())).unwrap();
        let sound = |n: usize| Waveform { sample_rate_hz: 16_000, samples: vec![0.1; n] };
        assert!(ast.spectrum(&sound(0)).unwrap_err().contains("empty"));
        assert!(ast.spectrum(&sound(399)).unwrap_err().contains("25 ms"));
        let spectrum = ast.spectrum(&sound(400)).unwrap();
        assert_eq!((spectrum.height, spectrum.width, spectrum.channels), (1024, 128, 1));
        assert_eq!(ast.shape(), (Some(1024), 128));
        let panns = SoundProcessor::panns(ast.filterbank, 1_000, 2_000);
        assert_eq!(panns.spectrum(&sound(1)).unwrap().height, 4);
        assert!(panns.spectrum(&sound(2_001)).unwrap_err().contains("at most 0.1 s"));
    }
}
