//! Normalisation.

use pulp::NullaryFnOnce;

use crate::simd::{sum, sum_of_squares, widest};
use crate::weights::{Weights, WeightsError};

/// Layer normalisation (Ba, Kiros and Hinton 2016): each row to mean 0 and variance 1, then scaled and shifted by column.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    /// Takes `{prefix}.weight` and `{prefix}.bias`, both `[dim]`, or `{prefix}.gamma` and `{prefix}.beta`, as the oldest checkpoints
    /// call them; `eps` is added to the variance.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(weights: &mut Weights, prefix: &str, dim: usize, eps: f32) -> Result<Self, WeightsError> {
        let [scale, shift] = if weights.has(&format!("{prefix}.gamma")) { ["gamma", "beta"] } else { ["weight", "bias"] };
        Ok(Self {
            scale: weights.take(&format!("{prefix}.{scale}"), &[dim])?,
            shift: weights.take(&format!("{prefix}.{shift}"), &[dim])?,
            eps,
        })
    }

    /// Normalises the rows of `x`, `[n, dim]`, in place.
    pub fn forward(&self, x: &mut [f32]) {
        widest(Forward { norm: self, x });
    }
}

struct Forward<'a> {
    norm: &'a LayerNorm,
    x: &'a mut [f32],
}

impl NullaryFnOnce for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let LayerNorm { scale, shift, eps } = self.norm;
        let dim = scale.len();
        for row in self.x.chunks_exact_mut(dim) {
            // The mean is taken away before squaring: the one-pass formula loses the variance of rows far from zero.
            let mean = sum(row) / dim as f32;
            for v in row.iter_mut() {
                *v -= mean;
            }
            let variance = sum_of_squares(row) / dim as f32;
            let inverse = 1.0 / (variance + eps).sqrt();
            for ((v, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
                *v = *v * inverse * scale + shift;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_rows_far_from_zero() {
        let norm = LayerNorm { scale: vec![1.0, 1.0, 2.0, 1.0], shift: vec![0.0, 0.0, 0.0, 5.0], eps: 0.0 };
        let mut x = vec![1000.0, 1002.0, 1000.0, 1002.0, -1.0, 1.0, -1.0, 1.0];
        norm.forward(&mut x);
        assert_eq!(x, [-1.0, 1.0, -2.0, 6.0, -1.0, 1.0, -2.0, 6.0]);
    }
}
