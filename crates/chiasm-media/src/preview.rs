//! Sounds and series small enough to be drawn.

use chiasm_core::{Series, Waveform};

/// The outline of a sound: the greatest amplitude within each of `n_bars` equal stretches, in 0..=1, where the loudest bar is 1, since a quiet
/// recording should be seen too. Silence gives zeros, and a sound of fewer samples than bars shows each for as long as it lasts.
///
/// ```
/// # use chiasm_core::Waveform;
/// let wave = Waveform { sample_rate_hz: 4, samples: vec![0.0, 0.1, -0.4, 0.2] };
/// assert_eq!(chiasm_media::peaks(&wave, 2), [0.25, 1.0]);
/// ```
pub fn peaks(wave: &Waveform, n_bars: usize) -> Vec<f32> {
    let n = wave.samples.len();
    // Wide enough for any two lengths.
    let at = |bar: usize| (bar as u128 * n as u128 / n_bars as u128) as usize;
    let loudest = |samples: &[f32]| samples.iter().fold(0.0_f32, |most, s| most.max(s.abs()));
    let bar = |bar: usize| wave.samples.get(at(bar)..at(bar + 1).max(at(bar) + 1)).map_or(0.0, loudest);
    let bars: Vec<f32> = (0..n_bars).map(bar).collect();
    let most = loudest(&bars);
    if most > 0.0 { bars.into_iter().map(|b| b / most).collect() } else { bars }
}

/// The channels of a series, each of at most `max_readings` readings, extremes kept: of every stretch the least and the greatest stand in
/// the order in which they came, so that no spike is lost. A series that is short enough stays as it is.
///
/// ```
/// # use chiasm_core::Series;
/// let series = Series { n_channels: 1, names: vec![], values: vec![0.0, 1.0, 9.0, 1.0, 0.0, -3.0, 0.0, 0.0] };
/// assert_eq!(chiasm_media::sparkline(&series, 4), [[0.0, 9.0, 0.0, -3.0]]);
/// ```
pub fn sparkline(series: &Series, max_readings: usize) -> Vec<Vec<f32>> {
    let n = series.n_steps();
    let channel = |c: usize| (0..n).map(move |step| series.values[step * series.n_channels + c]);
    if n <= max_readings {
        return (0..series.n_channels).map(|c| channel(c).collect()).collect();
    }
    let n_stretches = max_readings / 2;
    let drawn = |c: usize| -> Vec<f32> {
        let all: Vec<f32> = channel(c).collect();
        let mut drawn = Vec::with_capacity(2 * n_stretches);
        for i in 0..n_stretches {
            let at = |i: usize| (i as u128 * n as u128 / n_stretches as u128) as usize;
            let stretch = &all[at(i)..at(i + 1)];
            let place = |better: fn(&f32, &f32) -> bool| {
                (0..stretch.len()).reduce(|a, b| if better(&stretch[b], &stretch[a]) { b } else { a }).unwrap_or(0)
            };
            let (least, greatest) = (place(|a, b| a < b), place(|a, b| a > b));
            drawn.extend([stretch[least.min(greatest)], stretch[least.max(greatest)]]);
        }
        drawn
    };
    (0..series.n_channels).map(drawn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wave(samples: Vec<f32>) -> Waveform {
        Waveform { sample_rate_hz: 8_000, samples }
    }

    #[test]
    fn bars_follow_the_sound() {
        let loud_in_the_middle: Vec<f32> = (0..1_000)
            .map(|i| if (400..600).contains(&i) { 0.5 } else { 0.05 } * if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let bars = peaks(&wave(loud_in_the_middle), 10);
        assert_eq!(bars, [0.1, 0.1, 0.1, 0.1, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(peaks(&wave(vec![0.0; 50]), 4), [0.0; 4]);
        assert_eq!(peaks(&wave(vec![0.2, -0.4]), 4), [0.5, 0.5, 1.0, 1.0], "fewer samples than bars");
        assert_eq!(peaks(&wave(Vec::new()), 3), [0.0; 3]);
        assert!(peaks(&wave(vec![1.0]), 0).is_empty());
    }

    #[test]
    fn spikes_are_drawn() {
        let mut values = vec![0.0_f32; 2 * 10_000];
        (values[2 * 1_234], values[2 * 4_321], values[2 * 777 + 1]) = (7.0, -8.0, 9.0);
        let series = Series { n_channels: 2, names: vec![], values };
        let drawn = sparkline(&series, 300);
        assert!(drawn.iter().all(|c| c.len() == 300));
        let place = |channel: &[f32], value: f32| channel.iter().position(|v| *v == value).unwrap();
        assert!(place(&drawn[0], 7.0) < place(&drawn[0], -8.0));
        assert_eq!(place(&drawn[1], 9.0) / 2, 777 * 150 / 10_000);
    }

    proptest! {
        #[test]
        fn extremes_stay(values in proptest::collection::vec(-1e6_f32..1e6, 2..400), max in 2_usize..50) {
            let drawn = sparkline(&Series { n_channels: 1, names: vec![], values: values.clone() }, max).remove(0);
            prop_assert!(drawn.len() <= max.max(2));
            let range = |v: &[f32]| v.iter().fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
            prop_assert_eq!(range(&drawn), range(&values));
        }

        #[test]
        fn bars_are_shares_of_the_loudest(samples in proptest::collection::vec(-2.0_f32..2.0, 1..300), n in 1_usize..250) {
            let bars = peaks(&wave(samples.clone()), n);
            prop_assert_eq!(bars.len(), n);
            prop_assert!(bars.iter().all(|b| (0.0..=1.0).contains(b)));
            if samples.iter().any(|s| *s != 0.0) {
                prop_assert!(bars.contains(&1.0));
            }
        }
    }
}
