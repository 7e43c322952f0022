//! Dense layers.

use crate::activation::Activation;
use crate::gemm::{Strided, product};
use crate::weights::{Weights, WeightsError};

/// Rows per matrix product: a block of results stays in the cache from the product to the activation.
const BLOCK_ROWS: usize = 256;

/// `y = act(x W + b)`, also a 1x1 convolution over pixels that are stored channels last.
#[derive(Clone, Debug)]
pub struct Linear {
    n_in: usize,
    n_out: usize,
    /// `[n_in, n_out]`: the transpose of how checkpoints store it, since a transposed operand is repacked on every product.
    weight: Vec<f32>,
    /// `[n_out]`.
    bias: Vec<f32>,
    activation: Activation,
}

impl Linear {
    /// Takes `{prefix}.weight` of shape `[n_out, n_in]` and `{prefix}.bias` of shape `[n_out]`.
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
        Self::load_shaped(weights, prefix, &[n_out, n_in], activation)
    }

    /// The same for a 1x1 convolution, whose weight is stored as `[n_out, n_in, 1, 1]`.
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
        Self::load_shaped(weights, prefix, &[n_out, n_in, 1, 1], activation)
    }

    /// The same without a bias: `{prefix}.weight` alone.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load_unbiased(weights: &mut Weights, prefix: &str, n_in: usize, n_out: usize) -> Result<Self, WeightsError> {
        let stored = weights.take(&format!("{prefix}.weight"), &[n_out, n_in])?;
        Ok(Self::new(&stored, vec![0.0; n_out], n_in, Activation::None))
    }

    fn load_shaped(weights: &mut Weights, prefix: &str, shape: &[usize], activation: Activation) -> Result<Self, WeightsError> {
        let stored = weights.take(&format!("{prefix}.weight"), shape)?;
        let bias = weights.take(&format!("{prefix}.bias"), &shape[..1])?;
        Ok(Self::new(&stored, bias, shape[1], activation))
    }

    /// From a weight stored as `[n_out, n_in]`, where `n_out` is the length of `bias`.
    pub fn new(stored: &[f32], bias: Vec<f32>, n_in: usize, activation: Activation) -> Self {
        let n_out = bias.len();
        assert_eq!(stored.len(), n_in * n_out, "weight and bias of a linear layer");
        let mut weight = vec![0.0; n_in * n_out];
        for (o, row) in stored.chunks_exact(n_in).enumerate() {
            for (i, v) in row.iter().enumerate() {
                weight[i * n_out + o] = *v;
            }
        }
        Self { n_in, n_out, weight, bias, activation }
    }

    /// Numbers per row going in.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Numbers per row coming out.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// `[n, n_in]` to `[n, n_out]`; `out` is resized, so that a caller can use one buffer over and over.
    pub fn forward(&self, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len() / self.n_in * self.n_out, 0.0);
        self.forward_into(x, out);
    }

    /// The same into numbers of another owner, `[n, n_out]`.
    pub(crate) fn forward_into(&self, x: &[f32], out: &mut [f32]) {
        let n = x.len() / self.n_in;
        assert_eq!((n * self.n_in, n * self.n_out), (x.len(), out.len()), "rows of a linear layer");
        if n == 1 {
            // A lone row would take the matrix-vector path, which rounds otherwise than the same row in a batch: pair it up.
            let mut pair = vec![0.0; 2 * self.n_out];
            self.block(&[x, x].concat(), &mut pair);
            out.copy_from_slice(&pair[..self.n_out]);
            return;
        }
        let mut done = 0;
        while done < n {
            // Likewise no block is cut that would leave a lone row behind.
            let rows = if n - done == BLOCK_ROWS + 1 { BLOCK_ROWS + 1 } else { BLOCK_ROWS.min(n - done) };
            let x = &x[done * self.n_in..(done + rows) * self.n_in];
            self.block(x, &mut out[done * self.n_out..(done + rows) * self.n_out]);
            done += rows;
        }
    }

    fn block(&self, x: &[f32], out: &mut [f32]) {
        let x = Strided::rows(x, x.len() / self.n_in, self.n_in, self.n_in);
        product(out, self.n_out, x, Strided::rows(&self.weight, self.n_in, self.n_out, self.n_out));
        self.activation.after_bias(out, &self.bias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

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
        // Shapes of the networks here, with depths on both sides of the kernels' blocks of 512.
        for (n_in, n_out) in [(16, 96), (27, 32), (384, 384), (384, 1536), (576, 96), (1536, 384), (1280, 1001), (1024, 521)] {
            let layer = Linear::new(&numbers(n_in * n_out, 5), numbers(n_out, 6), n_in, Activation::None);
            let x = numbers(300 * n_in, 7);
            let mut whole = Vec::new();
            layer.forward(&x, &mut whole);
            for (start, rows) in [(0, 1), (299, 1), (3, 2), (10, 3), (17, 13), (1, 64), (5, 255), (7, 257), (40, 258)] {
                let mut part = Vec::new();
                layer.forward(&x[start * n_in..(start + rows) * n_in], &mut part);
                assert!(part == whole[start * n_out..(start + rows) * n_out], "{n_in} to {n_out}: {rows} rows from {start}");
            }
        }
    }
}
