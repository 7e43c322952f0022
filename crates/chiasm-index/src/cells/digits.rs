//! A vector kept to about twelve bits per number, read in two steps.
//!
//! `x = mean + scale * (c + (t - 7.5) / 16)` with `c` a signed byte and `t` half a byte: eight bits tell which of many are near, and the other four are read
//! only for the few that are. `scale` is the greatest difference from the mean over 127, each vector's own, so nothing is clipped
//! (locally adaptive quantisation, Aguerrebere et al. 2023, with a second level). The error of a number is at most `scale / 32`,
//! 1/4,064 of the greatest difference from the mean.

use chiasm_core::Metric;

use super::codes::whole;
use super::kernel::{DIGIT_STEP, IntegerKernel, pack_halves};

/// Numbers of a vector with zeros to whole steps of the kernels.
pub(crate) const fn padded(dim: usize) -> usize {
    dim.next_multiple_of(DIGIT_STEP)
}

/// What goes with the digits of one vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Of the digits.
    pub(crate) scale: f32,
    /// Added to the inner product: for L2 `-|x|^2 / 2`, else 0.
    pub(crate) offset: f32,
}

/// The scale of a vector, and its first digits.
pub(crate) fn round_to_bytes(x: &[f32], mean: &[f32], bytes: &mut [i8]) -> f32 {
    let most = x.iter().zip(mean).map(|(v, m)| (v - m).abs()).fold(0.0f32, f32::max);
    let scale = (most / 127.0).clamp(0.0, f32::MAX);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    bytes.fill(0);
    for (byte, (v, m)) in bytes.iter_mut().zip(x.iter().zip(mean)) {
        *byte = whole((v - m) * inverse).clamp(-127.0, 127.0) as i8;
    }
    scale
}

/// Writes the digits of a vector; `bytes` has `padded(dim)` places and `halves` half of that.
pub(crate) fn encode(x: &[f32], mean: &[f32], bytes: &mut [i8], halves: &mut [u8], room: &mut Vec<u8>) -> f32 {
    let scale = round_to_bytes(x, mean, bytes);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    room.clear();
    room.extend(
        x.iter()
            .zip(mean)
            .zip(bytes.iter())
            .map(|((v, m), byte)| (((v - m) * inverse - f32::from(*byte) + 0.5) * 16.0).floor().clamp(0.0, 15.0) as u8),
    );
    // What stands behind the vector meets zeros in the query.
    room.resize(bytes.len(), 0);
    pack_halves(room, halves);
    scale
}

/// The vector that digits stand for.
pub(crate) fn decode(bytes: &[i8], halves: &[u8], scale: f32, mean: &[f32], out: &mut [f32]) {
    for (i, (out, m)) in out.iter_mut().zip(mean).enumerate() {
        let (piece, place) = (i / DIGIT_STEP, i % DIGIT_STEP);
        let pair = halves[piece * DIGIT_STEP / 2 + place % (DIGIT_STEP / 2)];
        let half = if place < DIGIT_STEP / 2 { pair & 15 } else { pair >> 4 };
        *out = m + scale * (f32::from(bytes[i]) + (f32::from(half) - 7.5) / 16.0);
    }
}

/// A query as digits meet it.
#[derive(Debug, Default)]
pub(crate) struct DigitQuery {
    numbers: Vec<i16>,
    /// One unit of `numbers`.
    unit: f64,
    /// Sum of `numbers`.
    sum: i64,
    /// Inner product with the mean.
    with_mean: f64,
}

impl DigitQuery {
    /// Prepares `query` for vectors around `mean`.
    pub(crate) fn set(&mut self, query: &[f32], mean: &[f32]) {
        let width = padded(query.len());
        // The greatest that no sum of `width` products with a signed byte overflows 32 bits with.
        let most = (i32::MAX / (128 * width as i32)).min(8191);
        let largest = query.iter().map(|v| v.abs()).fold(0.0f32, f32::max);
        self.unit = f64::from(largest) / f64::from(most);
        let inverse = if largest > 0.0 { most as f32 / largest } else { 0.0 };
        self.numbers.clear();
        self.numbers.extend(query.iter().map(|v| whole(v * inverse) as i16));
        self.numbers.resize(width, 0);
        self.sum = i64::from(self.numbers.iter().map(|v| i32::from(*v)).sum::<i32>());
        // Eight sums at once: one alone waits for each of its additions.
        let mut sums = [0.0f64; 8];
        for (q, m) in query.chunks(8).zip(mean.chunks(8)) {
            sums.iter_mut().zip(q.iter().zip(m)).for_each(|(sum, (q, m))| *sum += f64::from(*q) * f64::from(*m));
        }
        self.with_mean = sums.iter().sum();
    }

    /// Length of what rounding took away from the query.
    pub(crate) fn error(&self, query: &[f32]) -> f64 {
        let parts = query.iter().zip(&self.numbers).map(|(q, n)| (f64::from(*q) - self.unit * f64::from(*n)).powi(2));
        parts.sum::<f64>().sqrt()
    }

    /// What bytes are multiplied by.
    pub(crate) fn numbers(&self) -> &[i16] {
        &self.numbers
    }

    /// Score from the sum of products with the bytes.
    #[inline]
    pub(crate) fn of_sum(&self, sum: i32, scale: f32, offset: f32) -> f64 {
        self.with_mean + f64::from(offset) + f64::from(scale) * self.unit * f64::from(sum)
    }

    /// Score from the bytes of a record.
    #[inline]
    pub(crate) fn first(&self, kernel: IntegerKernel, bytes: &[i8], scale: Scale) -> f64 {
        self.of_sum(kernel.bytes(bytes, &self.numbers), scale.scale, scale.offset)
    }

    /// What the half bytes add to the score.
    #[inline]
    pub(crate) fn second(&self, kernel: IntegerKernel, halves: &[u8], scale: Scale) -> f64 {
        let sum = f64::from(kernel.halves(halves, &self.numbers)) - 7.5 * self.sum as f64;
        f64::from(scale.scale) * self.unit * sum / 16.0
    }
}

/// What is added to inner products with a vector; see [`Scale`].
pub(crate) fn offset(metric: Metric, x: &[f32]) -> f32 {
    if metric == Metric::L2 { (x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / -2.0) as f32 } else { 0.0 }
}
