//! `mel-contour`: the spectrum of a sound over its time, its pitch and how that moves, its timbre and its rhythm.
//!
//! # Model
//! The sound is brought to 16 kHz. Spectra: frames of 40 ms every 10 ms, Hann, 48 mel bands of 60 to 7600 Hz, ln(mel + 0.05).
//! Pitch: every 20 ms the normalised autocorrelation r of 40 ms, lags of 80 to 1600 Hz; the shortest lag whose peak reaches
//! 0.9 of the highest; its weight is r^2 (voicing) times the root mean square of the frame. Blocks, in order:
//!
//! | block | numbers | what |
//! | --- | --- | --- |
//! | spectrum | 48 x 4 | mean, deviation, deviation of the change, and the mean weighted by loudness |
//! | layout | 8 x 24 | mean spectrum (pairs of bands) in each eighth of the time |
//! | loudness | 32 | ln of the root mean square in each 32nd of the time |
//! | pitch | 3 x 27 | share of the pitched sound in each two semitones from 80 Hz: of the whole, of each half |
//! | movement | 3 x 12 | share of changes of pitch over 120 ms, -5 to 5 semitones, and their mean size |
//! | timbre | 3 x 11 | roots of the shares of partials 1 to 8, voicing, share of pitched frames, brightness |
//! | tremor | 3 x 10 | log energy of the loudness contour at 2 to 45 Hz |
//! | attack | 3 x 3 | means of rise, of fall, of size of the loudness's change |
//! | rhythm | 28 + 9 + 13 | self-similarity of the onset curve after 40 to 1120 ms, number of onsets (one of 0 to 8), spacing |
//!
//! # Cost
//! Some milliseconds per second of sound, most of it the autocorrelation; memory for the spectra of the whole sound.
//! # Errors
//! A sound without a single sample.

use std::sync::LazyLock;

use chiasm_core::Waveform;
use chiasm_media::resample;
use chiasm_media::spectrum::{Stft, mel_filters};

use super::{mean_std, splat, to_shares};

const RATE_HZ: u32 = 16_000;
const WINDOW: usize = 640;
const HOP: usize = 160;
const FFT: usize = 1024;
const BINS: usize = FFT / 2 + 1;
const MELS: usize = 48;
const PITCH_HOP: usize = 320;
const LAG_MIN: usize = 10;
const LAG_MAX: usize = 200;
const SLICES: usize = 8;
const PITCHES: usize = 27;
const PARTIALS: usize = 8;
const TREMORS: [f32; 10] = [2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 19.0, 27.0, 33.0, 45.0];
const RHYTHM: usize = 28;

/// Numbers per sound.
pub(super) const DIM: usize =
    MELS * 4 + SLICES * MELS / 2 + 32 + 3 * (PITCHES + 12 + PARTIALS + 3 + TREMORS.len() + 3) + RHYTHM + 9 + 13;

static STFT: LazyLock<Stft> = LazyLock::new(|| Stft::new(WINDOW, HOP, FFT));
static FILTERS: LazyLock<Vec<f32>> = LazyLock::new(|| mel_filters(MELS, FFT, RATE_HZ, 60.0, 7600.0));

/// One moment of the pitch contour.
struct Pitched {
    /// Semitones above 80 Hz.
    semitones: f32,
    /// r^2 times root mean square.
    weight: f32,
    voicing: f32,
    hz: f32,
    /// Place in the sound, 0 to 1.
    at: f32,
}

pub(super) fn describe(wave: &Waveform) -> Result<Vec<f32>, String> {
    if wave.samples.is_empty() {
        return Err("it has no samples".to_owned());
    }
    // Amplitudes far beyond full scale come only from damaged float files; their squares must stay finite.
    let samples = wave.samples.iter().map(|s| s.clamp(-100.0, 100.0)).collect();
    let wave = Waveform { sample_rate_hz: wave.sample_rate_hz, samples };
    let mut samples = if wave.sample_rate_hz == RATE_HZ { wave.samples } else { resample(&wave, RATE_HZ).samples };
    // At least 8 frames and one full autocorrelation, so that every slice has something.
    samples.resize(samples.len().max(WINDOW + 8 * HOP), 0.0);

    let magnitude = STFT.magnitude(&samples);
    let n = magnitude.len() / BINS;
    let mels: Vec<f32> = magnitude
        .chunks_exact(BINS)
        .flat_map(|frame| FILTERS.chunks_exact(BINS).map(|filter| (dot(filter, frame) + 0.05).ln()))
        .collect();
    let mel = |t: usize, m: usize| mels[t * MELS + m];
    let rms: Vec<f32> = (0..n).map(|t| (dot_self(&samples[t * HOP..t * HOP + WINDOW]) / WINDOW as f32).sqrt()).collect();
    let loudness: Vec<f32> = rms.iter().map(|v| (v + 1e-3).ln()).collect();
    let mut row = Vec::with_capacity(DIM);

    // Spectrum.
    let each_band = |f: &dyn Fn(usize) -> f32| (0..MELS).map(f).collect::<Vec<f32>>();
    row.extend(each_band(&|m| mean_std((0..n).map(|t| mel(t, m))).0));
    row.extend(each_band(&|m| mean_std((0..n).map(|t| mel(t, m))).1));
    row.extend(each_band(&|m| mean_std((1..n).map(|t| mel(t, m) - mel(t - 1, m))).1));
    let total: f32 = rms.iter().sum();
    row.extend(each_band(&|m| if total > 0.0 { (0..n).map(|t| rms[t] * mel(t, m)).sum::<f32>() / total } else { mel(0, m) }));
    // Layout.
    for slice in 0..SLICES {
        let range = part(n, slice, SLICES);
        for pair in 0..MELS / 2 {
            row.push(mean_std(range.clone().flat_map(|t| [mel(t, 2 * pair), mel(t, 2 * pair + 1)])).0);
        }
    }
    // Loudness.
    row.extend((0..32).map(|i| mean_std(part(n, i, 32).map(|t| loudness[t])).0));

    let pitched = pitch_contour(&samples);
    for (start, end) in [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0)] {
        let within: Vec<&Pitched> = pitched.iter().filter(|p| (start..end).contains(&p.at)).collect();
        pitch_blocks(&within, &magnitude, n, &mut row);
        let range = (start * n as f32) as usize..((end * n as f32) as usize).max(1);
        loudness_blocks(&loudness[range], &mut row);
    }
    rhythm_blocks(&mels, n, &mut row);
    Ok(row)
}

/// Part `i` of `of` equal parts of `0..n`, never empty when `n > 0`.
fn part(n: usize, i: usize, of: usize) -> std::ops::Range<usize> {
    let start = (i * n / of).min(n - 1);
    start..((i + 1) * n / of).max(start + 1)
}

/// In 16 sums side by side, which the compiler turns into SIMD; one sum it must keep in order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (&a[..a.len().min(b.len())], &b[..a.len().min(b.len())]);
    let mut sums = [0.0f32; 16];
    let (chunks_a, chunks_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in chunks_a.zip(chunks_b) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn dot_self(a: &[f32]) -> f32 {
    dot(a, a)
}

fn pitch_contour(samples: &[f32]) -> Vec<Pitched> {
    let mut contour = Vec::new();
    let mut r = vec![0.0f32; LAG_MAX + 1];
    let span = WINDOW + LAG_MAX;
    for start in (0..samples.len().saturating_sub(span) + 1).step_by(PITCH_HOP) {
        let frame = &samples[start..(start + span).min(samples.len())];
        let head = &frame[..WINDOW];
        let energy = dot_self(head);
        // Below -80 dB there is nothing to have a pitch.
        if energy < 1e-8 * WINDOW as f32 {
            continue;
        }
        for lag in LAG_MIN - 1..=LAG_MAX {
            let tail = &frame[lag..(lag + WINDOW).min(frame.len())];
            r[lag] = dot(head, tail) / (energy * dot_self(tail)).sqrt().max(1e-12);
        }
        let peaks = || (LAG_MIN..LAG_MAX).filter(|&lag| r[lag] > 0.0 && r[lag] >= r[lag - 1] && r[lag] > r[lag + 1]);
        let highest = peaks().map(|lag| r[lag]).fold(0.0, f32::max);
        let Some(lag) = peaks().find(|&lag| r[lag] >= 0.9 * highest) else { continue };
        let bend = r[lag - 1] - 2.0 * r[lag] + r[lag + 1];
        let shift = if bend < 0.0 { (0.5 * (r[lag - 1] - r[lag + 1]) / bend).clamp(-0.5, 0.5) } else { 0.0 };
        let hz = RATE_HZ as f32 / (lag as f32 + shift);
        let voicing = highest.min(1.0).powi(2);
        contour.push(Pitched {
            semitones: 12.0 * (hz / 80.0).log2(),
            weight: voicing * (energy / WINDOW as f32).sqrt(),
            voicing,
            hz,
            at: start as f32 / samples.len() as f32,
        });
    }
    contour
}

/// Pitch, movement and timbre of one part.
fn pitch_blocks(pitched: &[&Pitched], magnitude: &[f32], n_frames: usize, row: &mut Vec<f32>) {
    let loudest = pitched.iter().map(|p| p.weight).fold(0.0, f32::max);
    let clear = |p: &Pitched| p.voicing > 0.4 && p.weight > 0.15 * loudest;

    let mut histogram = [0.0; PITCHES];
    for p in pitched {
        splat(&mut histogram, p.semitones / 2.0, p.weight);
    }
    to_shares(&mut histogram);
    row.extend(histogram);

    let mut movement = [0.0; 11];
    let (mut size, mut n_moves) = (0.0, 0);
    for pair in pitched.windows(7) {
        let (a, b) = (pair[0], pair[6]);
        let change = b.semitones - a.semitones;
        // Larger leaps are from one voice to another, or errors by an octave.
        if clear(a) && clear(b) && change.abs() < 5.0 {
            splat(&mut movement, change + 5.0, 1.0);
            (size, n_moves) = (size + change.abs(), n_moves + 1);
        }
    }
    to_shares(&mut movement);
    row.extend(movement);
    row.push(size / n_moves.max(1) as f32);

    let mut partials = [0.0; PARTIALS];
    let (mut voicing, mut brightness, mut total) = (0.0, 0.0, 0.0);
    for p in pitched.iter().filter(|p| clear(p)) {
        let frame = ((p.at * n_frames as f32) as usize).min(n_frames - 1);
        let spectrum = &magnitude[frame * BINS..(frame + 1) * BINS];
        let mut levels = [0.0f32; PARTIALS];
        for (h, level) in levels.iter_mut().enumerate() {
            let bin = (p.hz * (h + 1) as f32 * FFT as f32 / RATE_HZ as f32).round() as usize;
            if bin + 1 < BINS {
                *level = spectrum[bin - 1..=bin + 1].iter().copied().fold(0.0, f32::max);
            }
        }
        to_shares(&mut levels);
        partials.iter_mut().zip(levels).for_each(|(sum, level)| *sum += p.weight * level);
        let energy: f32 = spectrum.iter().sum();
        let centre: f32 = spectrum.iter().enumerate().map(|(bin, v)| bin as f32 * v).sum();
        voicing += p.weight * p.voicing;
        brightness += p.weight * (centre / (energy.max(1e-12) * p.hz * FFT as f32 / RATE_HZ as f32)).ln_1p();
        total += p.weight;
    }
    let share = if total > 0.0 { 1.0 / total } else { 0.0 };
    row.extend(partials.map(|v| (v * share).sqrt()));
    row.push(voicing * share);
    row.push(pitched.iter().filter(|p| clear(p)).count() as f32 / (n_frames / 2).max(1) as f32);
    row.push(brightness * share);
}

/// Tremor and attack of one part; `loudness` has 100 values per second.
fn loudness_blocks(loudness: &[f32], row: &mut Vec<f32>) {
    let (mean, _) = mean_std(loudness.iter().copied());
    for hz in TREMORS {
        let (mut re, mut im) = (0.0, 0.0);
        for (t, v) in loudness.iter().enumerate() {
            let (sin, cos) = (std::f32::consts::TAU * hz * t as f32 / 100.0).sin_cos();
            (re, im) = (re + (v - mean) * cos, im + (v - mean) * sin);
        }
        row.push(((re * re + im * im) / loudness.len() as f32 + 0.05).ln());
    }
    let n = loudness.len() as f32;
    let sum = |f: &dyn Fn(f32) -> f32| loudness.windows(2).map(|w| f(w[1] - w[0])).sum::<f32>() / n;
    row.extend([sum(&|d| d.max(0.0)), sum(&|d| d.min(0.0)), sum(&|d| d * d)]);
}

fn rhythm_blocks(mels: &[f32], n: usize, row: &mut Vec<f32>) {
    // Onset curve: what grows, over all bands.
    let onset: Vec<f32> = (0..n)
        .map(|t| match t {
            0 | 1 => 0.0,
            _ => (0..MELS).map(|m| (mels[t * MELS + m] - mels[(t - 2) * MELS + m]).max(0.0)).sum::<f32>() / MELS as f32,
        })
        .collect();
    let (mean, std) = mean_std(onset.iter().copied());
    for i in 1..=RHYTHM {
        let lag = 4 * i;
        let terms = onset.iter().zip(onset.iter().skip(lag)).map(|(a, b)| (a - mean) * (b - mean)).sum::<f32>();
        row.push(if std > 1e-6 { terms / (std * std * n as f32) } else { 0.0 });
    }
    // An onset: a local top well above the mean.
    let tops: Vec<usize> = (0..n)
        .filter(|&t| {
            let around = &onset[t.saturating_sub(4)..(t + 5).min(n)];
            onset[t] > 0.25 && onset[t] > mean + std && around.iter().all(|v| *v <= onset[t])
        })
        .collect();
    let mut count = [0.0; 9];
    splat(&mut count, tops.len() as f32, 1.0);
    row.extend(count);
    let mut spacing = [0.0; 12];
    for pair in tops.windows(2) {
        splat(&mut spacing, (pair[1] - pair[0]) as f32 / 5.0, 1.0);
    }
    to_shares(&mut spacing);
    row.extend(spacing);
    row.push((n as f32 / 100.0).ln());
}
