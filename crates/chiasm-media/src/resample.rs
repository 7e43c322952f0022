//! Changing the sample rate of a sound, band-limited.
//!
//! # Reference
//! Smith, Digital Audio Resampling (CCRMA, 1984-2020): a windowed-sinc low-pass evaluated at the positions of the new samples,
//! as `scipy.signal.resample_poly` does with the same filter (the golden). Kaiser window, beta 10.
//! # Model
//! y\[i\] = sum over k of x\[k\] h(i * down / up - k), h(t) = c sinc(c t) kaiser(t / T), with c = 0.95 min(1, up / down) and
//! T = 64 max(1, down / up) input samples on either side. Outside the sound there is silence.
//! # Accuracy
//! Flat within 0.001 dB up to 0.9 of the lower of the two Nyquist frequencies; what lies above that Nyquist frequency is
//! damped by more than 90 dB. Tones keep a signal-to-noise ratio above 90 dB (tests ask 80).
//! # Cost
//! 128 max(1, down / up) products per new sample; a table of at most 16 MB.
//! # Determinism
//! A pure function, one thread.

use chiasm_core::Waveform;

/// Zero crossings of the sinc on either side.
const HALF_WIDTH: f64 = 64.0;
/// Where the low-pass falls to a half, as a part of the lower Nyquist frequency: the stop band then begins at 1.
const ROLL_OFF: f64 = 0.95;
/// Shape of the Kaiser window: about 100 dB.
const BETA: f64 = 10.0;
/// Entries of the table of filter values, 4 bytes each.
const MAX_TABLE: u64 = 1 << 22;

/// Resamples to `rate_hz`. The result has `ceil(n * rate_hz / old rate)` samples and begins at the same instant.
///
/// # Panics
/// When `rate_hz` or the waveform's own rate is 0: a caller's mistake, not a file's.
pub fn resample(wave: &Waveform, rate_hz: u32) -> Waveform {
    assert!(rate_hz > 0 && wave.sample_rate_hz > 0, "sample rates are at least 1 Hz");
    if wave.sample_rate_hz == rate_hz {
        return wave.clone();
    }
    let divisor = gcd(rate_hz, wave.sample_rate_hz);
    let (up, down) = (u64::from(rate_hz / divisor), u64::from(wave.sample_rate_hz / divisor));
    let filter = Filter::new(up, down);
    let n_out = (wave.samples.len() as u64 * up).div_ceil(down);
    let samples = (0..n_out).map(|i| filter.at(&wave.samples, i * down / up, i * down % up)).collect();
    Waveform { sample_rate_hz: rate_hz, samples }
}

/// The low-pass, tabled at fractions of an input sample.
struct Filter {
    up: u64,
    /// Input samples on either side.
    half: usize,
    /// Fractions tabled: `up` of them when that fits, each then exact; else fewer, and values lie between two.
    n_phases: u64,
    /// `[n_phases + 1, 2 * half]`; row p holds h(p / n_phases + half - 1 - j) for j = 0, 1, ...
    table: Vec<f32>,
}

impl Filter {
    fn new(up: u64, down: u64) -> Self {
        let stretch = (down as f64 / up as f64).max(1.0);
        let half = (HALF_WIDTH * stretch).ceil() as usize;
        let n_taps = 2 * half;
        let exact = up.checked_mul(n_taps as u64).is_some_and(|n| n <= MAX_TABLE);
        // Between rows the values are interpolated linearly; 2048 rows per zero crossing keep that error below -120 dB.
        let n_phases = if exact { up } else { ((2048.0 / stretch).ceil() as u64).max(2) };
        let cutoff = ROLL_OFF / stretch;
        let mut table = Vec::with_capacity((n_phases as usize + 1) * n_taps);
        for phase in 0..=n_phases {
            let fraction = phase as f64 / n_phases as f64;
            for j in 0..n_taps {
                let t = fraction + (half as f64 - 1.0) - j as f64;
                table.push((cutoff * sinc(cutoff * t) * kaiser(t / (HALF_WIDTH * stretch))) as f32);
            }
        }
        Filter { up, half, n_phases, table }
    }

    /// The new sample at input position `base + fraction / up`.
    fn at(&self, samples: &[f32], base: u64, fraction: u64) -> f32 {
        let n_taps = 2 * self.half;
        // Tap 0 lies on input sample `base - half + 1`; taps beyond the ends meet silence.
        let first = base as i64 - self.half as i64 + 1;
        let skip = (-first).max(0) as usize;
        let start = first.max(0) as usize;
        let n = n_taps.saturating_sub(skip).min(samples.len().saturating_sub(start));
        let row = |phase: u64| &self.table[phase as usize * n_taps + skip..][..n];
        let window = &samples[start.min(samples.len())..][..n];
        if self.n_phases == self.up {
            return dot(window, row(fraction));
        }
        let position = fraction as f64 / self.up as f64 * self.n_phases as f64;
        let phase = (position as u64).min(self.n_phases - 1);
        let weight = (position - phase as f64) as f32;
        dot(window, row(phase)) * (1.0 - weight) + dot(window, row(phase + 1)) * weight
    }
}

/// Eight partial sums, which the compiler turns into vector instructions and which err less than one.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn sinc(x: f64) -> f64 {
    let x = std::f64::consts::PI * x;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

/// Kaiser window of `x` in -1..=1; 0 outside.
fn kaiser(x: f64) -> f64 {
    if x.abs() > 1.0 { 0.0 } else { bessel_i0(BETA * (1.0 - x * x).sqrt()) / bessel_i0(BETA) }
}

/// The modified Bessel function of the first kind and order 0, by its power series; 40 terms are exact for arguments to 20.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate_hz: u32, n: usize) -> Vec<f32> {
        (0..n).map(|i| (2.0 * std::f64::consts::PI * hz * i as f64 / f64::from(rate_hz)).sin() as f32 * 0.5).collect()
    }

    /// Energy of `x` beyond the edges' reach.
    fn power(x: &[f32], skip: usize) -> f64 {
        let inner = &x[skip..x.len() - skip];
        inner.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / inner.len() as f64
    }

    #[test]
    fn tones_keep_their_shape() {
        for (from, to) in [
            (8_012, 16_000),
            (11_127, 16_000),
            (44_100, 16_000),
            (22_050, 16_000),
            (48_000, 8_000),
            (8_000, 44_100),
            (44_099, 16_001),
        ] {
            let top = f64::from(from.min(to)) / 2.0;
            for part in [0.02, 0.3, 0.6, 0.89] {
                let n = from as usize / 4;
                let y = resample(&Waveform { sample_rate_hz: from, samples: tone(top * part, from, n) }, to);
                assert_eq!(y.samples.len(), (n as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize);
                let ideal = tone(top * part, to, y.samples.len());
                let error: Vec<f32> = y.samples.iter().zip(&ideal).map(|(a, b)| a - b).collect();
                let skip = to as usize / 16; // the reach of the filter at either end
                let snr_db = 10.0 * (power(&ideal, skip) / power(&error, skip)).log10();
                assert!(snr_db > 80.0, "{from} -> {to} Hz, tone at {part} of Nyquist: {snr_db:.1} dB");
            }
        }
    }

    #[test]
    fn what_the_new_rate_cannot_hold_is_gone() {
        for (from, to) in [(44_100, 16_000), (48_000, 8_000), (16_000, 8_012), (192_001, 16_000)] {
            for part in [1.01, 1.3, 1.9] {
                let hz = f64::from(to) / 2.0 * part;
                if hz >= f64::from(from) / 2.0 {
                    continue;
                }
                let x = tone(hz, from, from as usize / 4);
                let y = resample(&Waveform { sample_rate_hz: from, samples: x.clone() }, to);
                let alias_db = 10.0 * (power(&y.samples, to as usize / 16) / power(&x, 0)).log10();
                assert!(alias_db < -80.0, "{from} -> {to} Hz, tone at {part} of the new Nyquist: {alias_db:.1} dB");
            }
        }
    }

    #[test]
    fn lengths_and_edges() {
        let empty = Waveform { sample_rate_hz: 8_000, samples: vec![] };
        assert!(resample(&empty, 16_000).samples.is_empty());
        let one = Waveform { sample_rate_hz: 8_000, samples: vec![1.0] };
        assert_eq!(resample(&one, 16_000).samples.len(), 2);
        assert_eq!(resample(&one, 8_000), one);
        assert_eq!(resample(&one, 1).samples.len(), 1);
        let extreme = Waveform { sample_rate_hz: 1_000_000, samples: vec![0.5; 2_000] };
        assert_eq!(resample(&extreme, 1_000).samples.len(), 2);
    }
}
