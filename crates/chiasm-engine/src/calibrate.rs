//! What a score is worth: the closeness of unrelated pairs, measured.
//!
//! Closeness between two kinds of media has its own range: the cosine of two texts is greater than that of a text and its
//! picture. So for each ordered pair (kind of query, kind of answer) the scores of pairs that have nothing to do with one another
//! are measured, `reference queries x a sample of the library`, and a score s is told as z = (s - mean) / deviation and as
//! the number of answers that would score so by chance: (vectors searched) x P(unrelated score >= s).
//!
//! P is the measured share above s down to about ten of the measured scores, and beyond that falls on exponentially at the slope
//! of the last measured stretches, a slower fall than a normal law has. Some of the pairs measured are related after all (two dogs).
//! Both make `chance` too large rather than too small.

use chiasm_core::{Metric, Modality};

use crate::Space;

/// Closeness in a metric, greater is closer; cosine takes unit vectors.
pub(crate) fn closeness(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    match metric {
        Metric::Cosine | Metric::InnerProduct => a.iter().zip(b).map(|(x, y)| x * y).sum(),
        Metric::L2 => -a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>(),
    }
}

/// Shares of unrelated scores at which the tail is kept.
const TAIL: [f64; 13] = [0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4];
/// The slope beyond the last point is that of so many stretches before it: one alone hangs on a handful of scores.
const SLOPE_POINTS: usize = 4;
/// Scores that must lie above a point of the tail for it to be kept.
const MIN_ABOVE: f64 = 10.0;
/// Fewer scores than this say nothing of a distribution.
const MIN_SCORES: usize = 30;

/// Scores of unrelated pairs of two kinds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PairScores {
    pub(crate) mean: f64,
    /// Above zero.
    pub(crate) deviation: f64,
    /// Mean score of pairs that belong together, where such pairs are known.
    related_mean: Option<f64>,
    /// Scores with the share of unrelated scores at or above them, ascending by score.
    tail: Vec<(f64, f64)>,
}

impl PairScores {
    /// Measures `queries x items`, both `[n, dim]`; `unrelated(i, j)` says which pairs count, and the others (when any) give
    /// the mean of related pairs. `None` when too few pairs are left or all scores are the same.
    pub(crate) fn measure(
        queries: &[f32],
        items: &[f32],
        dim: usize,
        metric: Metric,
        unrelated: impl Fn(usize, usize) -> bool,
    ) -> Option<PairScores> {
        let mut scores = Vec::with_capacity(queries.len() / dim * (items.len() / dim));
        let mut related = (0.0_f64, 0_usize);
        for (i, query) in queries.chunks_exact(dim).enumerate() {
            for (j, item) in items.chunks_exact(dim).enumerate() {
                let score = closeness(metric, query, item);
                if unrelated(i, j) {
                    scores.push(score);
                } else {
                    related = (related.0 + f64::from(score), related.1 + 1);
                }
            }
        }
        if scores.len() < MIN_SCORES {
            return None;
        }
        let n = scores.len() as f64;
        let mean = scores.iter().map(|s| f64::from(*s)).sum::<f64>() / n;
        let variance = scores.iter().map(|s| (f64::from(*s) - mean).powi(2)).sum::<f64>() / n;
        if variance.is_nan() || variance.sqrt() <= 1e-9 * mean.abs().max(1e-9) {
            return None;
        }
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut tail: Vec<(f64, f64)> = Vec::new();
        for share in TAIL.into_iter().filter(|share| share * n >= MIN_ABOVE) {
            let at = f64::from(scores[((share * n) as usize).min(scores.len() - 1)]);
            // Ties would make the curve vertical.
            if tail.last().is_none_or(|(last, _)| at > *last) {
                tail.push((at, share));
            }
        }
        let related_mean = (related.1 > 0).then(|| related.0 / related.1 as f64);
        Some(PairScores { mean, deviation: variance.sqrt(), related_mean, tail })
    }

    /// Between the references of two views of a space.
    pub(crate) fn of_references(space: &Space, query: Modality, item: Modality) -> Option<PairScores> {
        let (a, b) = (space.references(query)?, space.references(item)?);
        let paired = space.references_paired() || query == item;
        PairScores::measure(a, b, space.dim(), space.metric(), |i, j| !(paired && i == j))
    }

    /// Standard deviations above unrelated pairs.
    pub(crate) fn z(&self, score: f64) -> f64 {
        (score - self.mean) / self.deviation
    }

    /// Share of unrelated pairs that score at least so, above 0 and at most 1.
    pub(crate) fn share_above(&self, score: f64) -> f64 {
        let (Some(first), Some(last)) = (self.tail.first(), self.tail.last()) else {
            return 1.0;
        };
        if score <= first.0 {
            // The lower half is of no use to anyone: straight from 1 at three deviations below the mean.
            let low = (self.mean - 3.0 * self.deviation).min(first.0 - f64::EPSILON);
            let t = ((score - low) / (first.0 - low)).clamp(0.0, 1.0);
            return 1.0 + t * (first.1 - 1.0);
        }
        let line = |a: &(f64, f64), b: &(f64, f64)| {
            let slope = (b.1.ln() - a.1.ln()) / (b.0 - a.0);
            (a.1.ln() + slope * (score - a.0)).exp()
        };
        if score >= last.0 {
            return match self.tail.len() {
                0 | 1 => last.1,
                n => line(&self.tail[n.saturating_sub(1 + SLOPE_POINTS)], last),
            };
        }
        let after = self.tail.partition_point(|(at, _)| *at <= score);
        line(&self.tail[after - 1], &self.tail[after])
    }

    /// By how much the log-odds of "related" grow per unit of score, see [`crate::Classifier`].
    pub(crate) fn log_odds_per_score(&self) -> f64 {
        match self.related_mean {
            Some(related) if related > self.mean => (related - self.mean) / (self.deviation * self.deviation),
            _ => 1.0 / self.deviation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of numbers that are as good as normal: sums of twelve uniform ones.
    fn normal_rows(n: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..n * dim).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn shares_of_unrelated_scores_are_those_of_the_normal_law() {
        // The inner product of a fixed direction with normal rows is normal with mean 0 and deviation 1.
        let (queries, items) = (normal_rows(200, 8, 1), normal_rows(1000, 8, 2));
        let queries: Vec<f32> = queries
            .chunks_exact(8)
            .flat_map(|q| {
                let norm = q.iter().map(|v| v * v).sum::<f32>().sqrt();
                q.iter().map(move |v| v / norm).collect::<Vec<_>>()
            })
            .collect();
        let scores = PairScores::measure(&queries, &items, 8, Metric::InnerProduct, |_, _| true).unwrap();
        assert!(scores.mean.abs() < 0.03 && (scores.deviation - 1.0).abs() < 0.03, "{scores:?}");
        // 200,000 scores of 1,000 rows, not independent: a tenth of the share, more in the far tail.
        for (z, share) in [(0.0, 0.5), (1.0, 0.1587), (2.0, 0.02275), (3.0, 0.00135)] {
            let got = scores.share_above(z);
            assert!((got / share).ln().abs() < 0.35, "{z}: {got} for {share}");
        }
        // Beyond what was measured the share falls on, and more slowly than the normal law, so that chance is not understated.
        assert!(scores.share_above(5.0) > 2.9e-7 && scores.share_above(5.0) < scores.share_above(4.0));
        assert_eq!(scores.share_above(-50.0), 1.0);
        let steps: Vec<f64> = (-60..60).map(|i| scores.share_above(f64::from(i) / 10.0)).collect();
        assert!(steps.windows(2).all(|w| w[0] >= w[1] && w[1] > 0.0), "it never rises");
    }

    #[test]
    fn related_pairs_set_the_odds_and_too_little_says_nothing() {
        let items = normal_rows(40, 4, 3);
        let scores = PairScores::measure(&items, &items, 4, Metric::InnerProduct, |i, j| i != j).unwrap();
        let related = scores.related_mean.unwrap();
        assert!((scores.log_odds_per_score() - (related - scores.mean) / scores.deviation.powi(2)).abs() < 1e-12);
        assert_eq!(PairScores::measure(&items[..8], &items[..8], 4, Metric::Cosine, |_, _| true), None);
        assert_eq!(PairScores::measure(&[1.0; 40], &[1.0; 40], 4, Metric::Cosine, |_, _| true), None);
    }
}
