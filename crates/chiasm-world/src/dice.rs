//! The world's only source of chance: a ChaCha stream read by rules written out here.
//!
//! The helpers of the `rand` crate may change what they draw from one version to the next; these do not, so a seed means the
//! same world for as long as this file stands.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws for one purpose of one scene.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream number `stream` of `seed`; streams are independent of each other, whatever the order they are read in.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Uniform in `0..n`, `n` at least 1. The bias is below 2^-32 for the small `n` used here.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform in `0..1`, 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `centre - spread .. centre + spread`.
    pub(crate) fn around(&mut self, centre: f64, spread: f64) -> f64 {
        centre + spread * (2.0 * self.unit() - 1.0)
    }

    /// Nearly normal, mean 0, deviation 1, within ±3.5: the sum of four uniform bytes.
    pub(crate) fn noise(&mut self) -> f64 {
        let bytes = self.0.next_u32().to_le_bytes();
        let sum: i32 = bytes.iter().map(|b| i32::from(*b)).sum();
        // Variance of one byte: (256^2 - 1) / 12; four of them.
        f64::from(sum - 510) / 147.80
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A permutation of `0..n` (Fisher-Yates).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}
