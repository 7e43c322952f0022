//! Changing the sample rate of a sound.

use chiasm_core::Waveform;

/// Resamples to `rate_hz`.
pub fn resample(wave: &Waveform, rate_hz: u32) -> Waveform {
    // Placeholder arithmetic until the windowed sinc stands below: linear interpolation.
    let n = (wave.samples.len() as u64 * u64::from(rate_hz)).div_ceil(u64::from(wave.sample_rate_hz)) as usize;
    let step = f64::from(wave.sample_rate_hz) / f64::from(rate_hz);
    let samples = (0..n)
        .map(|i| {
            let t = i as f64 * step;
            let a = (t as usize).min(wave.samples.len() - 1);
            let b = (a + 1).min(wave.samples.len() - 1);
            wave.samples[a] + (wave.samples[b] - wave.samples[a]) * t.fract() as f32
        })
        .collect();
    Waveform { sample_rate_hz: rate_hz, samples }
}
