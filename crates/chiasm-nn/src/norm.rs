//! Normalisation.

use pulp::NullaryFnOnce;

use crate::simd::{sum, sum_of_squares, widest};
use crate::weights::{Weights, WeightsError};

/// Layer normalisation (Ba, Kiros and Hinton 2016): each row to mean 0 and variance 1, then scaled and shifted by column.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) eps: f32,
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

    /// One row, for callers that are compiled for the widest instructions already.
    #[inline(always)]
    pub(crate) fn normalise(&self, row: &mut [f32]) {
        let dim = row.len();
        // The mean is taken away before squaring: the one-pass formula loses the variance of rows far from zero.
        let mean = sum(row) / dim as f32;
        for v in row.iter_mut() {
            *v -= mean;
        }
        let variance = sum_of_squares(row) / dim as f32;
        let inverse = 1.0 / (variance + self.eps).sqrt();
        for ((v, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
            *v = *v * inverse * scale + shift;
        }
    }
}

/// Batch normalisation (Ioffe and Szegedy 2015) as it is after training: a scale and a shift for every channel.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl BatchNorm {
    /// Takes `{prefix}.weight`, `{prefix}.bias`, `{prefix}.running_mean` and `{prefix}.running_var`, all `[n]`; `eps` is added to the
    /// variance. The count of batches that PyTorch stores beside them is skipped.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor; [`WeightsError::Variance`] where a variance is too low to be divided by.
    pub fn load(weights: &mut Weights, prefix: &str, n: usize, eps: f64) -> Result<Self, WeightsError> {
        let mut take = |part: &str| weights.take(&format!("{prefix}.{part}"), &[n]);
        let (weight, bias) = (take("weight")?, take("bias")?);
        let (mean, variance) = (take("running_mean")?, take("running_var")?);
        if let Some(at) = variance.iter().position(|v| f64::from(*v) + eps <= 0.0) {
            let (file, tensor) = (weights.file().to_owned(), format!("{prefix}.running_var"));
            return Err(WeightsError::Variance { file, tensor, at, value: variance[at] });
        }
        weights.skip(&format!("{prefix}.num_batches_tracked"));
        let scale: Vec<f64> = weight.iter().zip(&variance).map(|(w, v)| f64::from(*w) / (f64::from(*v) + eps).sqrt()).collect();
        let shift = scale.iter().zip(&mean).zip(&bias).map(|((s, m), b)| f64::from(*b) - f64::from(*m) * s).collect();
        Ok(Self { scale, shift })
    }

    /// Normalises the rows of `x`, `[rows, n]`, in place.
    pub fn forward(&self, x: &mut [f32]) {
        for row in x.chunks_exact_mut(self.scale.len()) {
            for ((v, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                *v = (f64::from(*v) * scale + shift) as f32;
            }
        }
    }

    /// Lets a layer whose weights are `[n, ..]` do what it and the normalisation behind it do.
    pub fn fold(&self, weight: &mut [f32], bias: &mut [f32]) {
        let per_output = weight.len() / bias.len();
        for (row, scale) in weight.chunks_exact_mut(per_output).zip(&self.scale) {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
        }
        self.forward(bias);
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
        self.x.chunks_exact_mut(self.norm.scale.len()).for_each(|row| self.norm.normalise(row));
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
