//! Four-bit codes of residuals: what is left of a mapped vector beside the centre of its cell.
//!
//! Sixteen equal steps per dimension reach 2.7 deviations to both sides, beyond which the outermost step stands for all. A query meets them as 8-bit
//! weights, so a score is a whole number of *units* of that query; the centre's own score is added in the same units.

/// Deviations that the steps reach.
const REACH: f32 = 2.7;

/// Steps of a dimension.
const STEPS: f32 = 16.0;

/// Size of a step per dimension, for rows of `dims` numbers.
pub(crate) fn steps(rows: &[f32], dims: usize) -> Vec<f32> {
    let mut squares = vec![0.0f64; dims];
    for row in rows.chunks_exact(dims) {
        squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v) * f64::from(*v));
    }
    let n = (rows.len() / dims).max(1) as f64;
    squares.iter().map(|s| (2.0 * REACH / STEPS) * (s / n).sqrt() as f32).collect()
}

/// The code of a residual.
pub(crate) fn encode(residual: &[f32], steps: &[f32], code: &mut [u8]) {
    for ((code, v), step) in code.iter_mut().zip(residual).zip(steps) {
        let wanted = if *step > 0.0 { v / step } else { 0.0 };
        *code = (wanted.floor() + STEPS / 2.0).clamp(0.0, STEPS - 1.0) as u8;
    }
}

/// What a code stands for.
pub(crate) fn decode(code: &[u8], steps: &[f32], out: &mut [f32]) {
    for ((out, code), step) in out.iter_mut().zip(code).zip(steps) {
        *out = (f32::from(*code) - (STEPS - 1.0) / 2.0) * step;
    }
}

/// Rounds to whole numbers below 2^22, to even at halves: an addition where `round` is a call on older processors.
#[inline(always)]
pub(crate) fn whole(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

/// A query as codes meet it.
#[derive(Debug, Default)]
pub(crate) struct CodeQuery {
    /// A weight per dimension.
    pub(crate) weights: Vec<i8>,
    /// What one of the sum is worth.
    pub(crate) unit: f32,
    /// Added to each sum, in units: codes are counted from 0, residuals from -7.5 steps on.
    pub(crate) offset: f32,
}

impl CodeQuery {
    /// Prepares a mapped query for codes with these steps; `width` is their number of dimensions with zeros to whole steps of the kernels.
    pub(crate) fn set(&mut self, query: &[f32], steps: &[f32], width: usize) {
        let largest = query.iter().zip(steps).map(|(q, s)| (q * s).abs()).fold(0.0f32, f32::max);
        let inverse = if largest > 0.0 && largest.is_finite() { 127.0 / largest } else { 0.0 };
        self.unit = if inverse > 0.0 { largest / 127.0 } else { 1.0 };
        self.weights.clear();
        self.weights.extend(query.iter().zip(steps).map(|(q, s)| whole(q * s * inverse) as i8));
        self.weights.resize(width, 0);
        self.offset = -((STEPS - 1.0) / 2.0) * self.weights.iter().map(|w| f32::from(*w)).sum::<f32>();
    }

    /// The score that a sum stands for.
    pub(crate) fn score(&self, sum: i32) -> f32 {
        (sum as f32 + self.offset) * self.unit
    }

    /// A score in units, to be added to sums.
    pub(crate) fn units(&self, score: f32) -> i32 {
        // Far from the ends, so that adding a sum cannot overflow.
        (score / self.unit + self.offset).clamp(-1e9, 1e9) as i32
    }
}
