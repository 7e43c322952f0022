//! Readings over time to the windows that a network was trained on.
//!
//! Time is stretched to a fixed count of steps and cut into windows. A channel has its mean taken away; all are divided by the largest deviation of
//! a channel, since their unit is unknown; and what is lost by that, how large the readings were and how many there were, stands as two
//! more numbers in each window, as logarithms.

use std::path::Path;

use chiasm_core::Series;
use chiasm_nn::FeatureMap;

use crate::error::OpenError;
use crate::model;

/// Numbers of an input beyond these are refused: a description comes from strangers, and decides how much memory a series takes.
const MAX_NUMBERS: usize = 1 << 22;
/// Beside the readings of a window: logarithms of the largest deviation and of the count of readings.
const MORE: usize = 2;

/// The steps from a series to a network's input.
#[derive(Clone, Debug)]
pub(crate) struct SeriesProcessor {
    n_steps: usize,
    n_channels: usize,
    window: usize,
}

impl SeriesProcessor {
    /// `n_steps` in windows of `window`, of the first `n_channels` channels; `path` is where they stand.
    pub(crate) fn new(path: &Path, n_steps: usize, n_channels: usize, window: usize) -> Result<Self, OpenError> {
        let fits = window > 0 && n_channels > 0 && n_steps >= window && n_steps.is_multiple_of(window);
        model::expect(path, fits, || {
            format!("{n_steps} steps of {n_channels} channels do not divide into windows of {window}")
        })?;
        model::expect(path, n_steps.saturating_mul(n_channels) <= MAX_NUMBERS, || {
            format!("{n_steps} steps of {n_channels} channels, expected at most {MAX_NUMBERS} numbers")
        })?;
        Ok(Self { n_steps, n_channels, window })
    }

    /// How many windows there are, and how many numbers each has.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.n_steps / self.window, self.window * self.n_channels + MORE]
    }

    /// `[windows, 1, numbers]`; channels that are missing are 0. An error says why nothing can be made of a series.
    pub(crate) fn windows(&self, series: &Series) -> Result<FeatureMap, String> {
        let (n, channels) = (series.n_steps(), series.n_channels.min(self.n_channels));
        if n == 0 {
            return Err("it has no readings".to_owned());
        }
        let reading = |step: usize, channel: usize| f64::from(series.values[step * series.n_channels + channel]);
        let mut stretched = vec![0.0_f64; self.n_steps * self.n_channels];
        let mut largest = 0.0_f64;
        for channel in 0..channels {
            let mut sums = [0.0; 2];
            for step in 0..self.n_steps {
                // The middle of each stretch of time, between the two readings that are next to it.
                let at = ((step as f64 + 0.5) * n as f64 / self.n_steps as f64 - 0.5).clamp(0.0, (n - 1) as f64);
                let (before, share) = (at.floor() as usize, at.fract());
                let value = (1.0 - share) * reading(before, channel) + share * reading((before + 1).min(n - 1), channel);
                stretched[step * self.n_channels + channel] = value;
                sums[0] += value;
            }
            let mean = sums[0] / self.n_steps as f64;
            for step in 0..self.n_steps {
                let value = &mut stretched[step * self.n_channels + channel];
                *value -= mean;
                sums[1] += *value * *value;
            }
            largest = largest.max((sums[1] / self.n_steps as f64).sqrt());
        }
        if !largest.is_finite() {
            return Err("its readings are too large to be compared".to_owned());
        }
        // Where nothing moves there is nothing to divide by.
        let by = if largest > 1e-12 { 1.0 / largest } else { 0.0 };
        let more = [largest.max(1e-12).ln() / 8.0, (n as f64).ln() / 8.0];
        let [n_windows, numbers] = self.shape();
        let mut data = Vec::with_capacity(n_windows * numbers);
        for window in stretched.chunks_exact(self.window * self.n_channels) {
            data.extend(window.iter().map(|v| (v * by) as f32));
            data.extend(more.map(|v| v as f32));
        }
        Ok(FeatureMap { height: n_windows, width: 1, channels: numbers, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor() -> SeriesProcessor {
        SeriesProcessor::new(Path::new("config.json"), 8, 2, 4).unwrap()
    }

    #[test]
    fn windows_hold_stretched_readings_without_unit() {
        let values = vec![1.0, 5.0, 3.0, 5.0];
        let series = Series { n_channels: 2, names: Vec::new(), values };
        let map = processor().windows(&series).unwrap();
        assert_eq!((map.height, map.width, map.channels), (2, 1, 10));
        // The second channel stands still; the first rises, and its mean is gone.
        assert!(map.data[..8].iter().skip(1).step_by(2).all(|v| *v == 0.0));
        assert!(map.data[0] < 0.0 && map.data[0] == -map.data[10 + 6], "{:?}", map.data);
        let larger = Series { values: series.values.iter().map(|v| 100.0 * v).collect(), ..series };
        let other = processor().windows(&larger).unwrap();
        assert!((other.data[0] - map.data[0]).abs() < 1e-6 && other.data[8] > map.data[8]);
    }

    #[test]
    fn odd_series_are_answered() {
        let of = |n_channels: usize, values: Vec<f32>| processor().windows(&Series { n_channels, names: Vec::new(), values });
        assert!(of(3, Vec::new()).unwrap_err().contains("no readings"));
        assert!(of(1, vec![7.0]).unwrap().data[..8].iter().all(|v| *v == 0.0));
        assert!(of(1, vec![f32::MAX, -f32::MAX, f32::MAX]).unwrap().data.iter().all(|v| v.is_finite()));
        for (steps, channels, window) in [(8, 2, 3), (0, 2, 4), (8, 0, 4), (8, 2, 0), (1 << 40, 1 << 30, 1)] {
            SeriesProcessor::new(Path::new("config.json"), steps, channels, window).unwrap_err();
        }
    }
}
