//! Speed against recall: which settings are worth having, and the speed at a recall between two of them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// A setting of a contestant's effort, by the names of its parameters.
pub type Setting = Map<String, Value>;

/// What one setting gives.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The setting.
    pub setting: Setting,
    /// Share of the exact best that were found.
    pub recall: f64,
    /// Queries per second of all threads together.
    pub per_cpu_s: f64,
    /// Queries per second on the clock.
    pub per_s: f64,
}

/// The points that no other beats in both recall and speed, by ascending recall.
pub fn envelope(points: &[Point]) -> Vec<&Point> {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| b.recall.total_cmp(&a.recall).then(b.per_cpu_s.total_cmp(&a.per_cpu_s)));
    let mut fastest = f64::NEG_INFINITY;
    sorted.retain(|point| {
        let kept = point.per_cpu_s > fastest;
        fastest = fastest.max(point.per_cpu_s);
        kept
    });
    sorted.reverse();
    sorted
}

/// Queries per CPU second at a recall: the logarithm of the speed is interpolated over recall between neighbours of the envelope. Below the
/// least recall of the envelope its speed there counts, which is reached or more; above the greatest there is none.
pub fn speed_at(points: &[Point], recall: f64) -> Option<f64> {
    let envelope = envelope(points);
    let above = envelope.iter().position(|point| point.recall >= recall)?;
    let high = envelope[above];
    let Some(low) = above.checked_sub(1).map(|at| envelope[at]) else { return Some(high.per_cpu_s) };
    let share = (recall - low.recall) / (high.recall - low.recall);
    Some((low.per_cpu_s.ln() * (1.0 - share) + high.per_cpu_s.ln() * share).exp())
}

/// The greatest recall that was reached.
pub fn best_recall(points: &[Point]) -> f64 {
    points.iter().map(|point| point.recall).fold(0.0, f64::max)
}

/// Share of the first `k` true neighbours of each query among the `k` hits that came for it. `truth` holds `depth` rows a query; hits that
/// are no row, and a hit that comes again, count for nothing.
pub fn recall(hits: &[i64], truth: &[u32], depth: usize, k: usize) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for (hits, truth) in hits.chunks(k).zip(truth.chunks(depth)) {
        let truth: BTreeSet<i64> = truth.iter().take(k).map(|row| i64::from(*row)).collect();
        let hits: BTreeSet<i64> = hits.iter().copied().collect();
        found += truth.intersection(&hits).count();
        wanted += truth.len();
    }
    found as f64 / f64::max(wanted as f64, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: &[(f64, f64)]) -> Vec<Point> {
        let point = |(recall, per_cpu_s): &(f64, f64)| Point {
            setting: Setting::new(),
            recall: *recall,
            per_cpu_s: *per_cpu_s,
            per_s: *per_cpu_s,
        };
        of.iter().map(point).collect()
    }

    #[test]
    fn the_envelope_is_what_nothing_beats() {
        let all = points(&[(0.9, 100.0), (0.8, 90.0), (0.95, 80.0), (0.95, 85.0), (0.7, 300.0), (0.99, 10.0), (0.99, 10.0)]);
        let kept: Vec<(f64, f64)> = envelope(&all).iter().map(|p| (p.recall, p.per_cpu_s)).collect();
        assert_eq!(kept, [(0.7, 300.0), (0.9, 100.0), (0.95, 85.0), (0.99, 10.0)]);
        assert!(envelope(&[]).is_empty());
    }

    #[test]
    fn speed_between_two_settings_is_their_geometric_mean() {
        // (0.85, 50) lies below the line and must not bend it.
        let all = points(&[(0.8, 1000.0), (0.85, 50.0), (0.9, 10.0), (0.96, 5.0)]);
        assert!((speed_at(&all, 0.85).unwrap() - (1000.0f64 * 50.0).sqrt()).abs() > 1.0);
        let all = points(&[(0.8, 1000.0), (0.82, 5.0), (0.9, 10.0), (0.96, 5.0)]);
        assert!((speed_at(&all, 0.85).unwrap() - 100.0).abs() < 1e-9);
        assert!((speed_at(&all, 0.825).unwrap() - 1000f64.powf(0.75) * 10f64.powf(0.25)).abs() < 1e-9);
        assert_eq!(speed_at(&all, 0.96).map(f64::round), Some(5.0));
        // What reaches more than is asked for is as fast as it is; what is never reached has no speed.
        assert_eq!(speed_at(&all, 0.5), Some(1000.0));
        assert_eq!((speed_at(&all, 0.97), speed_at(&[], 0.5)), (None, None));
        assert_eq!(best_recall(&all), 0.96);
    }

    #[test]
    fn recall_counts_rows_once_and_in_any_order() {
        let truth = [1, 2, 9, 3, 4, 9];
        assert_eq!(recall(&[2, 1, 4, 3], &truth, 3, 2), 1.0);
        assert_eq!(recall(&[2, 2, -1, 9], &truth, 3, 2), 0.25);
    }
}
