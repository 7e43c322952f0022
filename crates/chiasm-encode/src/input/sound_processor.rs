//! Sounds to the spectra that a network was trained on, as `preprocessor_config.json` states it.
//!
//! # Reference
//! `ASTFeatureExtractor` of transformers, and the front end of Kong et al., "PANNs", 2020, which is librosa's: these spectra equal theirs
//! within 1e-4.

use chiasm_core::Waveform;
use chiasm_media::filterbank::{Bands, Filterbank, FilterbankConfig, Framing, Loudness};
use chiasm_nn::FeatureMap;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::model;

/// Samples per second beyond this are refused, as no recording has them.
const MAX_RATE_HZ: u32 = 384_000;
/// Frames that a network takes at most: some minutes. A description comes from strangers, and decides how much memory a sound takes.
const MAX_FRAMES: usize = 1 << 16;

/// The steps from a sound to a network's input, `[frames, bands, 1]`.
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
    /// All of it, silence added up to `min` samples.
    Whole { min: usize, max: usize },
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

    /// That of PANNs: librosa's spectrum of the whole sound, which must be at most `max` samples long and is filled up with silence to
    /// `min`.
    pub(crate) fn panns(filterbank: Filterbank, min: usize, max: usize) -> Self {
        Self { filterbank, length: Length::Whole { min, max }, mean: 0.0, scale: 1.0 }
    }

    /// Frames and bands of what [`SoundProcessor::spectrum`] gives; no number of frames where it depends on the sound.
    pub(crate) fn shape(&self) -> (Option<usize>, usize) {
        let frames = match self.length {
            Length::Frames(n) => Some(n),
            Length::Whole { .. } => None,
        };
        (frames, self.filterbank.n_mels())
    }

    /// Samples per second to which sounds are brought first.
    #[cfg(test)]
    pub(super) fn sample_rate_hz(&self) -> u32 {
        self.filterbank.config().sample_rate_hz
    }

    /// The sound as the network takes it, or why it cannot be taken.
    pub(crate) fn spectrum(&self, wave: &Waveform) -> Result<FeatureMap, String> {
        if wave.samples.is_empty() {
            return Err("the sound is empty".to_owned());
        }
        let wave = chiasm_media::resample(wave, self.filterbank.config().sample_rate_hz);
        let mut data = match self.length {
            Length::Frames(n) => self.first_frames(&wave.samples, n)?,
            Length::Whole { min, max } => {
                let n = wave.samples.len();
                if n > max {
                    let rate = f64::from(wave.sample_rate_hz);
                    let (lasts, most) = (n as f64 / rate, max as f64 / rate);
                    return Err(format!("the sound lasts {lasts:.1} s, the network takes at most {most:.1} s: cut it first"));
                }
                let mut samples = wave.samples;
                samples.resize(min.max(n), 0.0);
                self.filterbank.compute(&samples)
            }
        };
        if (self.mean, self.scale) != (0.0, 1.0) {
            data.iter_mut().for_each(|v| *v = (*v - self.mean) / self.scale);
        }
        let width = self.filterbank.n_mels();
        Ok(FeatureMap { height: data.len() / width, width, channels: 1, data })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_recording_has_and_no_network_takes_is_refused() {
        let refusal = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("preprocessor_config.json"), text).unwrap();
            SoundProcessor::ast(&mut Checkpoint::new(folder.path())).unwrap_err().to_string()
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
            let message = refusal(text);
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
