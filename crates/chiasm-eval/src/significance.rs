//! How sure a figure is, and whether two systems differ.
//!
//! All take per-query values, those of two systems in the same order of queries. Same seed, same result; the stream is ChaCha8's,
//! which is the same on every machine.
//!
//! - [`bootstrap_mean`]: percentile interval of a mean (Efron 1979).
//! - [`randomisation_test`]: Fisher's paired randomisation test on the mean difference, recommended for retrieval by Smucker,
//!   Allan and Carterette (CIKM 2007): under the null the two systems' names on each query could be swapped. Equal to
//!   `scipy.stats.permutation_test(permutation_type="samples")` where that is exact.
//! - [`bootstrap_test`]: paired bootstrap of the mean difference, shifted to the null.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// An interval that holds the true value with a stated coverage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What two systems' paired values say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Mean of the first system minus mean of the second.
    pub difference: f64,
    /// Two-sided probability of a difference at least this large if the systems were equal.
    pub p_value: f64,
    /// Whether every assignment was enumerated, so that `p_value` is exact and not an estimate.
    pub exact: bool,
}

/// Why values cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompareError {
    /// Paired tests pair.
    #[error("{a} values of one system and {b} of the other: both must have been run on the same queries")]
    Unpaired {
        /// Values of the first.
        a: usize,
        /// Values of the second.
        b: usize,
    },
    /// Nothing to compare.
    #[error("no queries to compare the systems on")]
    Empty,
    /// NaN or an infinity.
    #[error("the value of query {0} is not finite")]
    NotFinite(usize),
}

/// Percentile bootstrap interval of the mean: ends are the `(1 - confidence) / 2` and `(1 + confidence) / 2` quantiles, linearly
/// interpolated, of the means of `n_resamples` resamples with replacement.
///
/// `None` for no values, values that are not finite, no resamples or a confidence outside 0..1.
pub fn bootstrap_mean(values: &[f64], confidence: f64, n_resamples: usize, seed: u64) -> Option<Interval> {
    let n = values.len();
    if n == 0 || n_resamples == 0 || !(0.0..1.0).contains(&confidence) || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut means = resampled_means(values, n_resamples, seed);
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval { low: quantile(&means, tail), high: quantile(&means, 1.0 - tail) })
}

/// Paired randomisation test of the mean difference, two-sided: the share of all sign patterns of the differences whose mean is
/// at least as far from 0 as the one seen. All `2^n` are enumerated when there are no more than `n_resamples`, else that many
/// are drawn and the seen one is counted with them, `(count + 1) / (n + 1)`, so that it never claims 0.
///
/// # Errors
/// [`CompareError`].
pub fn randomisation_test(a: &[f64], b: &[f64], n_resamples: usize, seed: u64) -> Result<Comparison, CompareError> {
    let differences = differences(a, b)?;
    let n = differences.len();
    let seen: f64 = differences.iter().sum();
    let far_enough = bar(&differences, seen);
    let exact = n < usize::BITS as usize && 1usize << n <= n_resamples;
    let p_value = if exact {
        let count = (0..1usize << n)
            .filter(|signs| {
                let sum: f64 = differences.iter().enumerate().map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d }).sum();
                sum.abs() >= far_enough
            })
            .count();
        count as f64 / (1usize << n) as f64
    } else {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut count = 0usize;
        for _ in 0..n_resamples {
            let mut sum = 0.0;
            for piece in differences.chunks(64) {
                let signs: u64 = rng.random();
                sum += piece.iter().enumerate().map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d }).sum::<f64>();
            }
            count += usize::from(sum.abs() >= far_enough);
        }
        (count + 1) as f64 / (n_resamples + 1) as f64
    };
    Ok(Comparison { difference: seen / n as f64, p_value, exact })
}

/// Paired bootstrap test of the mean difference, two-sided: how often the mean of a resample of the differences lies at least as
/// far from the mean seen as that lies from 0, `(count + 1) / (n + 1)`.
///
/// # Errors
/// [`CompareError`].
pub fn bootstrap_test(a: &[f64], b: &[f64], n_resamples: usize, seed: u64) -> Result<Comparison, CompareError> {
    let differences = differences(a, b)?;
    let n = differences.len() as f64;
    let seen = differences.iter().sum::<f64>();
    let far_enough = bar(&differences, seen);
    let means = resampled_means(&differences, n_resamples, seed);
    let count = means.iter().filter(|mean| (**mean * n - seen).abs() >= far_enough).count();
    Ok(Comparison { difference: seen / n, p_value: (count + 1) as f64 / (n_resamples + 1) as f64, exact: false })
}

fn differences(a: &[f64], b: &[f64]) -> Result<Vec<f64>, CompareError> {
    if a.len() != b.len() {
        return Err(CompareError::Unpaired { a: a.len(), b: b.len() });
    }
    if a.is_empty() {
        return Err(CompareError::Empty);
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    match differences.iter().position(|d| !d.is_finite()) {
        Some(at) => Err(CompareError::NotFinite(at)),
        None => Ok(differences),
    }
}

/// How large a sum counts as "as large as the one seen": a hair less, since sums in another order round differently and equal
/// cases must count as equal.
fn bar(differences: &[f64], seen: f64) -> f64 {
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    seen.abs() - 1e-12 * scale
}

fn resampled_means(values: &[f64], n_resamples: usize, seed: u64) -> Vec<f64> {
    let n = values.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n_resamples).map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64).collect()
}

/// Linear interpolation between order statistics, numpy's default.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_small_cases() {
        // Four differences of one sign: only the pattern seen and its mirror are as far out, 2 of 16.
        let got = randomisation_test(&[1.0, 2.0, 3.0, 4.0], &[0.0; 4], 100, 0).unwrap();
        assert_eq!(got, Comparison { difference: 2.5, p_value: 0.125, exact: true });
        assert_eq!(randomisation_test(&[0.1, 0.7], &[0.1, 0.7], 100, 0).unwrap().p_value, 1.0);
        // 0.3 and 0.1 + 0.2 differ in their last bit and must count as equal: signs ++, +- of (0.1, 0.2, -0.3) and so on.
        assert_eq!(randomisation_test(&[0.1, 0.2, 0.0], &[0.0, 0.0, 0.3], 100, 0).unwrap().p_value, 1.0);
    }

    #[test]
    fn drawing_comes_near_counting() {
        let a: Vec<f64> = (0..14).map(|i| f64::from(i % 5) + 0.8).collect();
        let b: Vec<f64> = (0..14).map(|i| f64::from(i % 3) + 0.5).collect();
        let exact = randomisation_test(&a, &b, 1 << 14, 0).unwrap();
        let drawn = randomisation_test(&a, &b, (1 << 14) - 1, 3).unwrap();
        assert!(exact.exact && !drawn.exact);
        // Three standard errors of 16,383 draws.
        assert!((exact.p_value - drawn.p_value).abs() < 0.012, "{exact:?} {drawn:?}");
        let shifted = bootstrap_test(&a, &b, 4000, 3).unwrap();
        assert!((exact.p_value - shifted.p_value).abs() < 0.1, "{exact:?} {shifted:?}");
        assert_eq!(shifted, bootstrap_test(&a, &b, 4000, 3).unwrap());
    }

    #[test]
    fn intervals_cover() {
        // Of 300 samples of 60 from a uniform distribution, about 95 % of the intervals hold its mean; 3.6 standard errors.
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let covered = (0..300)
            .filter(|seed| {
                let values: Vec<f64> = (0..60).map(|_| rng.random::<f64>()).collect();
                let Interval { low, high } = bootstrap_mean(&values, 0.95, 400, *seed).unwrap();
                low <= 0.5 && 0.5 <= high
            })
            .count();
        assert!((271..=298).contains(&covered), "{covered}");
        assert_eq!(bootstrap_mean(&[2.0; 9], 0.95, 10, 0), Some(Interval { low: 2.0, high: 2.0 }));
        assert_eq!(bootstrap_mean(&[], 0.95, 10, 0), None);
        assert_eq!(bootstrap_mean(&[1.0], 1.5, 10, 0), None);
    }

    #[test]
    fn what_does_not_pair_is_refused() {
        assert_eq!(randomisation_test(&[1.0], &[], 10, 0), Err(CompareError::Unpaired { a: 1, b: 0 }));
        assert_eq!(bootstrap_test(&[], &[], 10, 0), Err(CompareError::Empty));
        assert_eq!(bootstrap_test(&[1.0, f64::NAN], &[0.0, 0.0], 10, 0), Err(CompareError::NotFinite(1)));
    }
}
