//! Rows that stand for others: a random draw, or the centres of k-means (Lloyd's iterations from a random draw).

use chiasm_core::MatrixView;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::fit::{FitError, Run};

const MAX_ROUNDS: usize = 30;
/// Rows that share one task.
const BLOCK: usize = 256;

/// `k` rows drawn without replacement, in the order of their numbers, `[k, d]`.
pub(crate) fn draw(rows: MatrixView<'_>, k: usize, seed: u64) -> Vec<f32> {
    let mut drawn = sample(&mut ChaCha8Rng::seed_from_u64(seed), rows.n(), k.min(rows.n())).into_vec();
    drawn.sort_unstable();
    drawn.iter().flat_map(|i| rows.row(*i)).copied().collect()
}

/// The `k` centres that k-means finds, `[k, d]`; a centre that loses all its rows stays where it is.
///
/// # Errors
/// [`FitError::Cancelled`].
pub(crate) fn centres(rows: MatrixView<'_>, k: usize, run: &Run<'_>) -> Result<Vec<f32>, FitError> {
    let d = rows.dim();
    let mut centres = draw(rows, k, run.seed);
    let mut nearest: Vec<usize> = Vec::new();
    for _round in 0..MAX_ROUNDS {
        run.cancel.check()?;
        // |x - c|^2 less |x|^2, which is the same for all centres.
        let halves: Vec<f32> = centres.chunks_exact(d).map(|c| 0.5 * dot(c, c)).collect();
        let of_row = |row: &[f32]| {
            let mut best = (f32::NEG_INFINITY, 0);
            for (i, (c, half)) in centres.chunks_exact(d).zip(&halves).enumerate() {
                let closeness = dot(row, c) - half;
                if closeness > best.0 {
                    best = (closeness, i);
                }
            }
            best.1
        };
        let now: Vec<usize> =
            rows.data().par_chunks(d * BLOCK).flat_map_iter(|block| block.chunks_exact(d).map(of_row)).collect();
        if now == nearest {
            break;
        }
        nearest = now;
        let (mut sums, mut counts) = (vec![0.0f64; centres.len()], vec![0.0f64; centres.len() / d]);
        for (row, c) in rows.rows().zip(&nearest) {
            counts[*c] += 1.0;
            sums[c * d..(c + 1) * d].iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x));
        }
        for (c, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let place = c * d..(c + 1) * d;
            centres[place.clone()].iter_mut().zip(&sums[place]).for_each(|(x, s)| *x = (s / count) as f32);
        }
    }
    Ok(centres)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side, so that the compiler can use vector registers.
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (x, y) in a8.0.iter().zip(b8.0) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + a8.1.iter().zip(b8.1).map(|(x, y)| x * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiasm_core::{Cancel, NoProgress};

    #[test]
    fn two_heaps_have_two_centres() {
        let rows = [0.0, 0.0, 1.0, 0.0, 10.0, 10.0, 11.0, 10.0];
        let view = MatrixView::new(&rows, 2).unwrap();
        for seed in 0..5 {
            let run = Run { seed, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
            let mut found: Vec<Vec<f32>> = centres(view, 2, &run).unwrap().chunks(2).map(<[f32]>::to_vec).collect();
            found.sort_by(|a, b| a[0].total_cmp(&b[0]));
            assert_eq!(found, [[0.5, 0.0], [10.5, 10.0]]);
        }
        assert_eq!(draw(view, 9, 3), rows);
    }
}
