//! Dense layers.

use crate::activation::Activation;
use crate::kernel::{Packed, Precision};
use crate::norm::LayerNorm;
use crate::weights::{Weights, WeightsError};

/// `y = act(x W + b)`, also a 1x1 convolution over pixels that are stored channels last.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Weight, bias and activation.
    packed: Packed,
}

impl Linear {
    /// Takes `{prefix}.weight` of shape `[n_out, n_in]` and `{prefix}.bias` of shape `[n_out]`, and multiplies in the precision that
    /// was asked of the weights ([`Weights::set_precision`]).
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        n_in: usize,
        n_out: usize,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let (name, precision) = (format!("{prefix}.weight"), weights.precision());
        // Whoever has mistaken a size is told of the weight, though it is borrowed last.
        weights.demand(&name, &[n_out, n_in])?;
        let bias = weights.take(&format!("{prefix}.bias"), &[n_out])?;
        let stored = weights.borrow(&name, &[n_out, n_in])?;
        Ok(Self::with_precision(&stored, bias, n_in, activation, precision))
    }

    /// The same for a 1x1 convolution, whose weight is stored as `[n_out, n_in, 1, 1]`, in single precision.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load_pointwise(
        weights: &mut Weights,
        prefix: &str,
        n_in: usize,
        n_out: usize,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let stored = weights.take(&format!("{prefix}.weight"), &[n_out, n_in, 1, 1])?;
        let bias = weights.take(&format!("{prefix}.bias"), &[n_out])?;
        Ok(Self::new(&stored, bias, n_in, activation))
    }

    /// The same without a bias, `{prefix}.weight` alone, in single precision: the projection to an embedding.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load_unbiased(weights: &mut Weights, prefix: &str, n_in: usize, n_out: usize) -> Result<Self, WeightsError> {
        let stored = weights.borrow(&format!("{prefix}.weight"), &[n_out, n_in])?;
        Ok(Self::new(&stored, vec![0.0; n_out], n_in, Activation::None))
    }

    /// The same where the weight is stored the other way round: the tensor `name` of shape `[n_in, n_out]`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load_turned(weights: &mut Weights, name: &str, n_in: usize, n_out: usize) -> Result<Self, WeightsError> {
        let stored = weights.take(name, &[n_in, n_out])?;
        let turned: Vec<f32> = (0..n_out).flat_map(|o| stored.chunks_exact(n_out).map(move |row| row[o])).collect();
        Ok(Self::new(&turned, vec![0.0; n_out], n_in, Activation::None))
    }

    /// From a weight stored as `[n_out, n_in]`, where `n_out` is the length of `bias`, in single precision.
    pub fn new(stored: &[f32], bias: Vec<f32>, n_in: usize, activation: Activation) -> Self {
        Self::with_precision(stored, bias, n_in, activation, Precision::F32)
    }

    /// The same in another precision.
    pub fn with_precision(stored: &[f32], bias: Vec<f32>, n_in: usize, activation: Activation, precision: Precision) -> Self {
        Self { packed: Packed::new(stored, bias, n_in, activation, precision) }
    }

    /// Numbers per row going in.
    pub fn n_in(&self) -> usize {
        self.packed.n_in()
    }

    /// Numbers per row coming out.
    pub fn n_out(&self) -> usize {
        self.packed.n_out()
    }

    /// The weight as it was stored, `[n_out, n_in]`, rounded to the layer's precision.
    #[cfg(feature = "cuda")]
    pub(crate) fn stored(&self) -> Vec<f32> {
        self.packed.unpacked()
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn bias(&self) -> &[f32] {
        self.packed.bias()
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn activation(&self) -> Activation {
        self.packed.activation()
    }

    /// How it multiplies.
    pub(crate) fn precision(&self) -> Precision {
        self.packed.precision()
    }

    /// `[n, n_in]` to `[n, n_out]`; `out` is resized, so that a caller can use one buffer over and over.
    pub fn forward(&self, x: &[f32], out: &mut Vec<f32>) {
        self.forward_normed(x, None, out);
    }

    /// The same of rows that are normalised first, if so asked.
    pub(crate) fn forward_normed(&self, x: &[f32], norm: Option<&LayerNorm>, out: &mut Vec<f32>) {
        out.resize(x.len() / self.n_in() * self.n_out(), 0.0);
        self.packed.multiply(x, norm, false, out);
    }

    /// The same into numbers of another owner, `[n, n_out]`.
    pub(crate) fn forward_into(&self, x: &[f32], out: &mut [f32]) {
        self.packed.multiply(x, None, false, out);
    }

    /// The same, added to `out`, `[n, n_out]`: a layer with a shortcut around it.
    pub fn add_to(&self, x: &[f32], out: &mut [f32]) {
        self.packed.multiply(x, None, true, out);
    }

    /// Adds to `x`, `[n, n_in]`, what this layer and then `second`, of the same precision, make of it, normalised first if so asked: the
    /// feed-forward part of a transformer with the shortcut around it.
    pub(crate) fn add_twice(&self, second: &Linear, norm: Option<&LayerNorm>, x: &mut [f32]) {
        self.packed.multiply_twice(&second.packed, norm, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::numbers;

    #[test]
    fn equals_the_sum_written_out() {
        let (n, n_in, n_out) = (7, 33, 21);
        let (x, w, b) = (numbers(n * n_in, 1), numbers(n_in * n_out, 2), numbers(n_out, 3));
        let mut y = Vec::new();
        Linear::new(&w, b.clone(), n_in, Activation::None).forward(&x, &mut y);
        for i in 0..n {
            for o in 0..n_out {
                let exact: f64 = (0..n_in).map(|k| f64::from(x[i * n_in + k]) * f64::from(w[o * n_in + k])).sum();
                let exact = exact + f64::from(b[o]);
                // Sums of 33 products of size one: some ten roundings of 6e-8.
                assert!((f64::from(y[i * n_out + o]) - exact).abs() < 2e-6);
            }
        }
    }

    #[test]
    fn a_row_is_the_same_to_the_bit_in_any_batch() {
        // Shapes of the networks here, with depths on both sides of the kernels' chunks and parts.
        for (n_in, n_out) in [(16, 96), (27, 32), (384, 384), (384, 1536), (576, 96), (1536, 384), (1280, 1001), (1024, 521)] {
            let layer = Linear::new(&numbers(n_in * n_out, 5), numbers(n_out, 6), n_in, Activation::None);
            let x = numbers(300 * n_in, 7);
            let mut whole = Vec::new();
            layer.forward(&x, &mut whole);
            for (start, rows) in [(0, 1), (299, 1), (3, 2), (10, 3), (17, 13), (1, 64), (5, 97), (7, 257), (40, 258)] {
                let mut part = Vec::new();
                layer.forward(&x[start * n_in..(start + rows) * n_in], &mut part);
                assert!(part == whole[start * n_out..(start + rows) * n_out], "{n_in} to {n_out}: {rows} rows from {start}");
                crate::on_all_threads(|| layer.forward(&x[start * n_in..(start + rows) * n_in], &mut part));
                assert!(part == whole[start * n_out..(start + rows) * n_out], "on all threads: {rows} rows from {start}");
            }
        }
    }
}
