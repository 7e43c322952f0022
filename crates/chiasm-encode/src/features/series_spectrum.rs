//! `series-spectrum`: statistics, spectrum, tempo and form of readings over time, whatever their unit and number of channels.
//!
//! # Model
//! Time is stretched linearly to 256 steps, so frequencies are in cycles per recording, and a recording of 2 steps can be
//! described like one of a million. (A long recording is to be cut into segments first.) Blocks, in order:
//!
//! | block | numbers | what |
//! | --- | --- | --- |
//! | per channel | 6 x 8 | mean, deviation, least, greatest (signed logarithms), skewness, share of steps upward, roughness, trend; the first six channels, zeros where there are fewer |
//! | pooled | 2 x 8 | mean and greatest of these over all channels |
//! | bands | (1 + 3) x 20 | log energy in 20 bands of 1 to 128 cycles, log-spaced: all channels together, then the first three |
//! | together | 3 x 5 | of each pair of the first three channels: correlation, signed area swept, its size, correlation of sizes and of changes |
//! | coarse path | 3 x 8 | means of the first three channels over eighths, in deviations |
//! | energy | 16 + 16 | log deviation (all channels) and log change within each sixteenth |
//! | tempo | 3 x 32 | of the whole and of each half: strength of repetition after each period, 32 log-spaced from 1 to 48 rounds per half |
//! | form | 3 x 34 | of the same three parts: log size, clarity of the period, then roots of the shares of harmonics 1 to 8 of the tempo, for all channels and the first three |
//! | rate (after each form) | 3 x 24 | the period as a soft one-of-24 code |
//!
//! # Cost
//! About 0.2 ms per channel; the recording itself is the only memory that grows.
//! # Errors
//! A series without a single step.

use chiasm_core::Series;

use super::{mean_std, splat, to_shares};

const STEPS: usize = 256;
const CHANNELS: usize = 6;
const AXES: usize = 3;
const N_STATS: usize = 8;
const BANDS: usize = 20;
const LAGS: usize = 32;
const HARMONICS: usize = 8;
const RATES: usize = 24;
const FORM: usize = 2 + (1 + AXES) * HARMONICS;

/// Numbers per series.
pub(super) const DIM: usize =
    CHANNELS * N_STATS + 2 * N_STATS + (1 + AXES) * BANDS + 3 * 5 + AXES * 8 + 32 + 3 * (LAGS + FORM + RATES);

pub(super) fn describe(series: &Series) -> Result<Vec<f32>, String> {
    let n_steps = series.n_steps();
    if n_steps == 0 {
        return Err("it has no readings".to_owned());
    }
    let channels: Vec<Vec<f32>> = (0..series.n_channels).map(|c| stretched(series, c)).collect();
    let mut row = Vec::with_capacity(DIM);

    let stats: Vec<[f32; N_STATS]> = channels.iter().map(|c| statistics(c)).collect();
    for c in 0..CHANNELS {
        row.extend(stats.get(c).copied().unwrap_or([0.0; N_STATS]));
    }
    for i in 0..N_STATS {
        row.push(stats.iter().map(|s| s[i]).sum::<f32>() / stats.len() as f32);
    }
    for i in 0..N_STATS {
        row.push(stats.iter().map(|s| s[i]).fold(f32::MIN, f32::max));
    }

    // From here on: centred, and in units of the largest channel's deviation where form, not size, is meant.
    let centred: Vec<Vec<f32>> = channels
        .iter()
        .map(|c| {
            let mean = mean_std(c.iter().copied()).0;
            c.iter().map(|v| v - mean).collect()
        })
        .collect();
    let none = vec![0.0; STEPS];
    let axis = |i: usize| centred.get(i).unwrap_or(&none);
    let size = centred.iter().map(|c| deviation(c)).fold(0.0, f32::max);
    // Below this a reciprocal might not be finite, and nothing moves.
    let unit = if size > 1e-30 { 1.0 / size } else { 0.0 };

    let spectra: Vec<[f32; BANDS]> = centred.iter().map(|c| band_energies(c, unit)).collect();
    for b in 0..BANDS {
        row.push(log_energy(spectra.iter().map(|s| s[b]).sum::<f32>() / spectra.len() as f32));
    }
    for i in 0..AXES {
        row.extend((0..BANDS).map(|b| spectra.get(i).map_or(0.0, |s| log_energy(s[b]))));
    }

    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        row.extend(together(axis(a), axis(b)));
    }
    for i in 0..AXES {
        row.extend(axis(i).chunks(STEPS / 8).map(|part| unit * part.iter().sum::<f32>() / part.len() as f32));
    }
    for part in 0..16 {
        let range = part * STEPS / 16..(part + 1) * STEPS / 16;
        row.push(log_size(centred.iter().map(|c| deviation(&c[range.clone()])).sum()));
    }
    for part in 0..16 {
        let range = part * STEPS / 16..(part + 1) * STEPS / 16;
        row.push(log_size(centred.iter().map(|c| change(&c[range.clone()])).sum()));
    }

    for part in [0..STEPS, 0..STEPS / 2, STEPS / 2..STEPS] {
        let parts: Vec<Vec<f32>> = centred
            .iter()
            .map(|c| {
                let (mean, _) = mean_std(c[part.clone()].iter().copied());
                c[part.clone()].iter().map(|v| v - mean).collect()
            })
            .collect();
        tempo_and_form(&parts, &mut row);
    }
    Ok(row)
}

/// A channel at [`STEPS`] even moments: averages where it has more readings, straight lines where it has fewer.
fn stretched(series: &Series, channel: usize) -> Vec<f32> {
    let n = series.n_steps();
    let value = |i: usize| series.values[i.min(n - 1) * series.n_channels + channel];
    (0..STEPS)
        .map(|i| {
            if n > STEPS {
                let (start, end) = (i * n / STEPS, ((i + 1) * n / STEPS).max(i * n / STEPS + 1));
                ((start..end).map(|j| f64::from(value(j))).sum::<f64>() / (end - start) as f64) as f32
            } else {
                let t = i as f32 * (n - 1) as f32 / (STEPS - 1) as f32;
                // Not a + t (b - a): that overflows between readings of opposite sign near the largest float.
                value(t as usize) * (1.0 - t.fract()) + value(t as usize + 1) * t.fract()
            }
        })
        // Readings beyond 1e15 are no measurement; their squares must stay finite.
        .map(|v| v.clamp(-1e15, 1e15))
        .collect()
}

/// asinh: linear near 0, logarithmic far from it, signed.
fn log_signed(value: f32) -> f32 {
    value.asinh()
}

fn log_size(value: f32) -> f32 {
    (value + 1e-3).ln()
}

fn log_energy(value: f32) -> f32 {
    (value + 1e-4).ln()
}

fn deviation(values: &[f32]) -> f32 {
    mean_std(values.iter().copied()).1
}

fn change(values: &[f32]) -> f32 {
    values.windows(2).map(|w| (w[1] - w[0]).abs()).sum::<f32>() / values.len() as f32
}

fn statistics(values: &[f32]) -> [f32; N_STATS] {
    let (mean, std) = mean_std(values.iter().copied());
    let (least, greatest) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    let safe = if std > 1e-30 { std } else { 1.0 };
    let skew = values.iter().map(|v| ((v - mean) / safe).powi(3)).sum::<f32>() / values.len() as f32;
    let upward = values.windows(2).filter(|w| w[1] > w[0]).count() as f32 / values.len() as f32;
    let trend = values.iter().enumerate().map(|(i, v)| (v - mean) / safe * (i as f32 / STEPS as f32 - 0.5)).sum::<f32>();
    [
        log_signed(mean),
        log_size(std),
        log_signed(least),
        log_signed(greatest),
        skew,
        upward,
        change(values) / safe,
        trend / values.len() as f32,
    ]
}

/// Energy at `cycles` per `values`, by the sum that defines it (Goertzel without the recurrence).
fn energy_at(values: &[f32], cycles: f32) -> f32 {
    let step = std::f32::consts::TAU * cycles / values.len() as f32;
    let (mut re, mut im) = (0.0, 0.0);
    // A rotation instead of a sine per step.
    let (sin_step, cos_step) = step.sin_cos();
    let (mut c, mut s) = (1.0f32, 0.0f32);
    for (i, v) in values.iter().enumerate() {
        // Hann: between neighbouring tempos nothing leaks.
        let t = i as f32 / values.len() as f32;
        let w = 4.0 * t * (1.0 - t);
        re += v * w * c;
        im += v * w * s;
        (c, s) = (c * cos_step - s * sin_step, s * cos_step + c * sin_step);
    }
    (re * re + im * im) / (values.len() as f32).powi(2)
}

fn band_energies(values: &[f32], unit: f32) -> [f32; BANDS] {
    let scaled: Vec<f32> = values.iter().map(|v| v * unit).collect();
    let edge = |b: usize| 128f32.powf(b as f32 / BANDS as f32);
    let mut energies = [0.0; BANDS];
    for (b, energy) in energies.iter_mut().enumerate() {
        let (low, high) = (edge(b), edge(b + 1));
        let n = (high - low).ceil() as usize;
        *energy = (0..n).map(|i| energy_at(&scaled, low + (high - low) * (i as f32 + 0.5) / n as f32)).sum();
    }
    energies
}

fn together(a: &[f32], b: &[f32]) -> [f32; 5] {
    let correlation = |a: &mut dyn Iterator<Item = (f32, f32)>| {
        let (mut ab, mut aa, mut bb) = (0.0f64, 0.0f64, 0.0f64);
        for (x, y) in a {
            let (x, y) = (f64::from(x), f64::from(y));
            (ab, aa, bb) = (ab + x * y, aa + x * x, bb + y * y);
        }
        if aa > 0.0 && bb > 0.0 { (ab / (aa * bb).sqrt()) as f32 } else { 0.0 }
    };
    let pairs = || a.iter().copied().zip(b.iter().copied());
    let changes = |v: &[f32]| v.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>();
    let (da, db) = (changes(a), changes(b));
    let scale = f64::from(deviation(a)) * f64::from(deviation(b)) * a.len() as f64;
    let area: f64 = (0..da.len()).map(|i| f64::from(a[i]) * f64::from(db[i]) - f64::from(b[i]) * f64::from(da[i])).sum();
    let area = if scale > 0.0 { (area / scale) as f32 } else { 0.0 };
    let (mean_a, mean_b) = (mean_std(a.iter().map(|v| v.abs())).0, mean_std(b.iter().map(|v| v.abs())).0);
    [
        correlation(&mut pairs()),
        area,
        area.abs(),
        correlation(&mut pairs().map(|(x, y)| (x.abs() - mean_a, y.abs() - mean_b))),
        correlation(&mut da.into_iter().zip(db)),
    ]
}

/// Appends strength of repetition `[LAGS]`, form `[FORM]` and the period's code `[RATES]` of one part.
fn tempo_and_form(channels: &[Vec<f32>], row: &mut Vec<f32>) {
    let n = channels[0].len();
    // Summed over channels: a movement repeats when all of it does.
    let autocorrelation: Vec<f32> = (0..n)
        .map(|lag| {
            let (mut product, mut energy) = (0.0f64, 0.0f64);
            for c in channels {
                for (x, y) in c.iter().zip(&c[lag..]) {
                    product += f64::from(*x) * f64::from(*y);
                    energy += 0.5 * (f64::from(*x).powi(2) + f64::from(*y).powi(2));
                }
            }
            // Few terms make no evidence: the last eighth of lags is not believed.
            if energy > 0.0 && lag < n * 7 / 8 { (product / energy) as f32 } else { 0.0 }
        })
        .collect();
    let at = |lag: f32| {
        let low = (lag as usize).min(n - 2);
        let share = (lag - low as f32).clamp(0.0, 1.0);
        autocorrelation[low] * (1.0 - share) + autocorrelation[low + 1] * share
    };
    // Periods from n / 48 to n / 1.2 steps.
    let period_of = |position: f32| n as f32 / (1.2 * 40f32.powf(position));
    row.extend((0..LAGS).map(|i| at(period_of(i as f32 / (LAGS - 1) as f32))));

    // The period: the shortest peak that is nearly as high as the highest.
    let peaks: Vec<usize> = (2..n * 7 / 8)
        .filter(|&lag| {
            let v = autocorrelation[lag];
            v > 0.0 && v >= autocorrelation[lag - 1] && v > autocorrelation[lag + 1]
        })
        .collect();
    let highest = peaks.iter().map(|&lag| autocorrelation[lag]).fold(0.0, f32::max);
    let period = peaks.iter().copied().find(|&lag| autocorrelation[lag] >= 0.85 * highest);
    let size: f32 = channels.iter().map(|c| deviation(c).powi(2)).sum::<f32>().sqrt();
    row.push(log_size(size));
    row.push(highest);
    let mut code = vec![0.0; RATES];
    let mut harmonics = vec![0.0; (1 + AXES) * HARMONICS];
    if let Some(lag) = period {
        let (a, b, c) = (autocorrelation[lag - 1], autocorrelation[lag], autocorrelation[lag + 1]);
        // The top of the parabola through the peak and its neighbours.
        let bend = a - 2.0 * b + c;
        let exact = lag as f32 + if bend < 0.0 { (0.5 * (a - c) / bend).clamp(-0.5, 0.5) } else { 0.0 };
        let rounds = n as f32 / exact;
        let position = (rounds / 1.2).ln() / 40f32.ln();
        splat(&mut code, position * (RATES - 1) as f32, highest);
        for (i, channel) in channels.iter().enumerate() {
            for h in 0..HARMONICS {
                let energy = energy_at(channel, rounds * (h + 1) as f32);
                harmonics[h] += energy;
                if i < AXES {
                    harmonics[(1 + i) * HARMONICS + h] = energy;
                }
            }
        }
        let total: f32 = harmonics[..HARMONICS].iter().sum();
        if total > 0.0 {
            harmonics.iter_mut().for_each(|v| *v = (*v / total).sqrt());
        }
    }
    to_shares(&mut code);
    row.extend(harmonics);
    row.extend(code);
}
