//! Changes at random of what is learned from, anew each time that it comes: what stays the same through them is what there is to learn.
//!
//! # Reference
//! Pictures: a part of random size and shape (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6), mirroring, light, contrast and colour (Howard,
//! arXiv:1312.5402). Sounds: another speed, which changes pitch and length together (Ko et al., "Audio Augmentation for Speech Recognition", Interspeech 2015), loudness,
//! noise, and bands and frames of the spectrum left out (Park et al., "SpecAugment", Interspeech 2019; no warping). Series: each channel by a factor, and noise (Um
//! et al., ICMI 2017).

use chiasm_core::{Image, Media, Modality, Series, Waveform};
use chiasm_encode::Prepared;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::config::{Augment, AugmentAudio, AugmentImage, AugmentSeries};

/// Speeds are multiples of this part of the sound's own, so that sounds are resampled by ratios of small numbers.
const SPEEDS: f64 = 40.0;
/// Parts of a picture are tried so often until one fits, as the reference does.
const TRIES: usize = 10;
/// Width over height of a part at most, and its inverse at least.
const SHAPE: f64 = 4.0 / 3.0;
/// Shares of red, green and blue in how light a pixel is (ITU-R BT.601).
const LIGHT: [f32; 3] = [0.299, 0.587, 0.114];

impl Augment {
    /// Whether anything is done to media of this kind.
    pub(crate) fn changes(&self, modality: Modality) -> bool {
        match modality {
            Modality::Image => self.image.is_some(),
            Modality::Audio => self.audio.is_some(),
            Modality::Series => self.series.is_some(),
            Modality::Text | Modality::Video | Modality::Shape => false,
        }
    }

    /// What it is changed to.
    pub(crate) fn media(&self, media: &Media, rng: &mut ChaCha8Rng) -> Media {
        match (media, &self.image, &self.audio, &self.series) {
            (Media::Image(image), Some(how), _, _) => Media::Image(how.changed(image, rng)),
            (Media::Audio(wave), _, Some(how), _) => Media::Audio(how.changed(wave, rng)),
            (Media::Series(series), _, _, Some(how)) => Media::Series(how.changed(series, rng)),
            (other, ..) => other.clone(),
        }
    }

    /// What is left out of what a tower takes, of whose sounds a frame has so many bands.
    pub(crate) fn prepared(&self, modality: Modality, bands: usize, prepared: &mut Prepared, rng: &mut ChaCha8Rng) {
        if let (Modality::Audio, Some(how), Prepared::Rows(spectrum)) = (modality, &self.audio, prepared) {
            how.mask(spectrum, bands, rng);
        }
    }
}

impl AugmentImage {
    fn changed(&self, image: &Image, rng: &mut ChaCha8Rng) -> Image {
        let mut changed = if self.area < 1.0 { self.part(image, rng) } else { image.clone() };
        if self.mirror && rng.random::<bool>() {
            let row = 3 * changed.width as usize;
            changed.rgb.chunks_exact_mut(row).for_each(|row| {
                let (pixels, _) = row.as_chunks_mut::<3>();
                pixels.reverse();
            });
        }
        if self.light > 0.0 {
            self.in_other_light(&mut changed, rng);
        }
        changed
    }

    /// A part of it, of at least the share `area`.
    fn part(&self, image: &Image, rng: &mut ChaCha8Rng) -> Image {
        let [width, height] = [image.width, image.height].map(f64::from);
        for _ in 0..TRIES {
            let area = width * height * between(self.area, 1.0, rng);
            let shape = between(-SHAPE.ln(), SHAPE.ln(), rng).exp();
            let [w, h] = [(area * shape).sqrt(), (area / shape).sqrt()].map(|side| side.round().max(1.0));
            if w <= width && h <= height {
                let [left, top] = [width - w, height - h].map(|room| (between(0.0, room + 1.0, rng) as u32).min(room as u32));
                return cut(image, [left, top], [w as u32, h as u32]);
            }
        }
        image.clone()
    }

    /// Brightness, contrast and colour, each by a factor of its own.
    fn in_other_light(&self, image: &mut Image, rng: &mut ChaCha8Rng) {
        let [bright, contrast, colour] = [(); 3].map(|()| between(1.0 - self.light, 1.0 + self.light, rng) as f32);
        let (pixels, _) = image.rgb.as_chunks_mut::<3>();
        let light = |pixel: &[u8; 3]| pixel.iter().zip(LIGHT).map(|(v, share)| share * f32::from(*v)).sum::<f32>();
        let mean = pixels.iter().map(|pixel| f64::from(light(pixel))).sum::<f64>() / pixels.len().max(1) as f64;
        for pixel in pixels {
            let grey = light(pixel);
            for v in pixel {
                let coloured = grey + colour * (f32::from(*v) - grey);
                let clear = mean as f32 + contrast * (coloured - mean as f32);
                *v = (bright * clear).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// A rectangle of a picture.
fn cut(image: &Image, [left, top]: [u32; 2], [width, height]: [u32; 2]) -> Image {
    let row = |y: u32| {
        let first = 3 * (y as usize * image.width as usize + left as usize);
        &image.rgb[first..first + 3 * width as usize]
    };
    let rows: Vec<&[u8]> = (top..top + height).map(row).collect();
    Image { width, height, rgb: rows.concat() }
}

impl AugmentAudio {
    fn changed(&self, wave: &Waveform, rng: &mut ChaCha8Rng) -> Waveform {
        let mut changed = wave.clone();
        if self.speed > 0.0 {
            let faster = (SPEEDS * between(1.0 - self.speed, 1.0 + self.speed, rng)).round() / SPEEDS;
            let rate = f64::from(wave.sample_rate_hz);
            // Played as if it had been recorded at another rate, and then brought back to its own.
            let played = Waveform { sample_rate_hz: ((rate * faster).round() as u32).max(1), samples: changed.samples };
            changed = chiasm_media::resample(&played, wave.sample_rate_hz);
        }
        if self.gain_db > 0.0 {
            let by = 10_f64.powf(between(-self.gain_db, self.gain_db, rng) / 20.0) as f32;
            changed.samples.iter_mut().for_each(|v| *v = (by * *v).clamp(-1.0, 1.0));
        }
        if self.noise > 0.0 {
            let power =
                changed.samples.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / changed.samples.len().max(1) as f64;
            // Even noise between two bounds has a third of their square as power.
            let most = power.sqrt() * between(0.0, self.noise, rng) * 3.0_f64.sqrt();
            changed.samples.iter_mut().for_each(|v| *v += between(-most, most, rng) as f32);
        }
        changed
    }

    /// Sets some bands and some frames of a spectrum, `[frames, bands]`, to its mean.
    fn mask(&self, spectrum: &mut [f32], bands: usize, rng: &mut ChaCha8Rng) {
        let (frames, bands) = (spectrum.len() / bands.max(1), bands.max(1));
        let mean = (spectrum.iter().map(|v| f64::from(*v)).sum::<f64>() / spectrum.len().max(1) as f64) as f32;
        let left_out = |most: usize, of: usize, rng: &mut ChaCha8Rng| {
            let n = rng.random_range(0..=most.min(of));
            let first = rng.random_range(0..=of - n);
            first..first + n
        };
        let (no_bands, no_frames) = (left_out(self.bands, bands, rng), left_out(self.frames, frames, rng));
        for (at, frame) in spectrum.chunks_exact_mut(bands).enumerate() {
            let gone = if no_frames.contains(&at) { 0..bands } else { no_bands.clone() };
            frame[gone].fill(mean);
        }
    }
}

impl AugmentSeries {
    fn changed(&self, series: &Series, rng: &mut ChaCha8Rng) -> Series {
        let (n, m) = (series.n_steps().max(1) as f64, series.n_channels);
        let mut changed = series.clone();
        for channel in 0..m {
            let of_channel = || series.values.iter().skip(channel).step_by(m).map(|v| f64::from(*v));
            let mean = of_channel().sum::<f64>() / n;
            let deviation = (of_channel().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let by = between(1.0 - self.scale, 1.0 + self.scale, rng);
            let most = 3.0_f64.sqrt() * deviation * between(0.0, self.noise, rng);
            for v in changed.values.iter_mut().skip(channel).step_by(m) {
                *v = (by * f64::from(*v) + between(-most, most, rng)) as f32;
            }
        }
        changed
    }
}

/// A number between two, all alike likely.
fn between(least: f64, most: f64, rng: &mut ChaCha8Rng) -> f64 {
    least + (most - least) * rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::stream;

    fn picture() -> Image {
        let rgb = (0..20 * 12).flat_map(|at| [at as u8, 255 - at as u8, 7]).collect();
        Image { width: 20, height: 12, rgb }
    }

    #[test]
    fn parts_of_a_picture_are_in_it_and_as_large_as_asked() {
        let (how, image) = (AugmentImage { area: 0.4, ..AugmentImage::default() }, picture());
        let mut sizes = Vec::new();
        for number in 0..200 {
            let part = how.changed(&image, &mut stream(1, "test", number));
            let [w, h] = [part.width, part.height];
            assert_eq!(part.rgb.len(), 3 * (w * h) as usize);
            assert!(f64::from(w * h) > 0.33 * 240.0, "{w} x {h}: sides are whole numbers");
            // The red of a pixel is its number: rows of the part are rows of the picture.
            let first = u32::from(part.rgb[0]);
            let (left, top) = (first % 20, first / 20);
            assert!(left + w <= 20 && top + h <= 12);
            for (at, pixel) in part.rgb.chunks_exact(3).enumerate() {
                let at = at as u32;
                assert_eq!(u32::from(pixel[0]), (top + at / w) * 20 + left + at % w);
            }
            sizes.push((w, h, first));
        }
        sizes.sort_unstable();
        sizes.dedup();
        assert!(sizes.len() > 100, "{} different parts", sizes.len());
    }

    #[test]
    fn half_of_the_pictures_are_mirrored() {
        let (how, image) = (AugmentImage { mirror: true, ..AugmentImage::default() }, picture());
        let mut mirrored = 0;
        for number in 0..200 {
            let changed = how.changed(&image, &mut stream(1, "test", number));
            if changed != image {
                mirrored += 1;
                assert_eq!(changed.rgb[..3], image.rgb[57..60]);
                assert_eq!(changed.rgb[57..60], image.rgb[..3]);
            }
        }
        assert!((70..130).contains(&mirrored), "{mirrored} of 200");
    }

    #[test]
    fn light_leaves_the_picture_what_it_was_on_the_whole() {
        let (how, image) = (AugmentImage { light: 0.3, ..AugmentImage::default() }, picture());
        let mean = |image: &Image| image.rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / image.rgb.len() as f64;
        let means: Vec<f64> = (0..50).map(|number| mean(&how.changed(&image, &mut stream(1, "test", number)))).collect();
        assert!(means.iter().all(|of| (0.65..1.35).contains(&(of / mean(&image)))), "{means:?} of {}", mean(&image));
        assert!(means.iter().any(|of| *of > 1.1 * mean(&image)) && means.iter().any(|of| *of < 0.9 * mean(&image)));
    }

    #[test]
    fn sounds_get_other_lengths_and_pitches_together() {
        let tone = (0..8000).map(|i| (std::f32::consts::TAU * 440.0 * i as f32 / 8000.0).sin() * 0.5).collect();
        let wave = Waveform { sample_rate_hz: 8000, samples: tone };
        let how = AugmentAudio { speed: 0.2, ..AugmentAudio::default() };
        for number in 0..20 {
            let changed = how.changed(&wave, &mut stream(1, "test", number));
            assert_eq!(changed.sample_rate_hz, 8000);
            let faster = 8000.0 / changed.samples.len() as f64;
            assert!((0.79..1.21).contains(&faster), "{faster}");
            let crossings = changed.samples.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count() as f64;
            let pitch = crossings * 8000.0 / changed.samples.len() as f64;
            assert!((pitch / (440.0 * faster) - 1.0).abs() < 0.02, "{pitch} Hz, {faster} times as fast");
        }
        let how = AugmentAudio { gain_db: 6.0, noise: 0.1, ..AugmentAudio::default() };
        let power = |wave: &Waveform| wave.samples.iter().map(|v| v * v).sum::<f32>();
        for number in 0..20 {
            let ratio = power(&how.changed(&wave, &mut stream(1, "test", number))) / power(&wave);
            assert!((0.25..4.2).contains(&ratio), "{ratio}: 6 dB are a factor of 4");
        }
    }

    #[test]
    fn bands_and_frames_are_left_out_in_one_piece() {
        let how = AugmentAudio { bands: 3, frames: 4, ..AugmentAudio::default() };
        let whole: Vec<f32> = (0..10 * 8).map(|i| i as f32).collect();
        let mean = 39.5;
        let mut most = [0; 2];
        for number in 0..100 {
            let mut spectrum = whole.clone();
            how.mask(&mut spectrum, 8, &mut stream(1, "test", number));
            let frames = (0..10).filter(|t| spectrum[t * 8..(t + 1) * 8].iter().all(|v| *v == mean)).count();
            let bands = (0..8).filter(|b| (0..10).all(|t| spectrum[t * 8 + b] == mean)).count();
            let changed = spectrum.iter().zip(&whole).filter(|(a, b)| a != b).count();
            assert_eq!(changed, frames * 8 + bands * (10 - frames), "no number is gone elsewhere");
            most = [most[0].max(frames), most[1].max(bands)];
        }
        assert_eq!(most, [4, 3]);
    }

    #[test]
    fn channels_of_a_series_are_changed_each_by_itself() {
        let values: Vec<f32> = (0..50).flat_map(|i| [i as f32, 1.0]).collect();
        let series = Series { n_channels: 2, names: Vec::new(), values };
        let how = AugmentSeries { scale: 0.5, noise: 0.0 };
        let changed = how.changed(&series, &mut stream(1, "test", 0));
        let by = [changed.values[98] / 49.0, changed.values[1]];
        assert!(by.iter().all(|by| (0.5..1.5).contains(by)) && (by[0] - by[1]).abs() > 1e-3, "{by:?}");
        let noisy = AugmentSeries { scale: 0.0, noise: 0.2 }.changed(&series, &mut stream(1, "test", 0));
        assert_ne!(noisy.values[98], 49.0);
        // A channel that does not change has no deviation, and so no noise.
        assert!((0..50).all(|i| noisy.values[2 * i + 1] == 1.0));
    }
}
