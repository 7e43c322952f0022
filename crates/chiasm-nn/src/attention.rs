//! Multi-head self-attention.

use crate::activation::{Activation, softmax};
use crate::gemm::{Strided, product};
use crate::linear::Linear;
use crate::weights::{Weights, WeightsError};

/// Scaled dot-product attention of a sequence to itself (Vaswani et al. 2017, eq. 1), all positions visible; without the
/// projection after it.
///
/// | paper | code | shape |
/// | --- | --- | --- |
/// | Q, K, V | `qkv` | `[n, 3 dim]`: Q, K and V side by side, heads within each |
/// | softmax(Q K^T / sqrt(d_k)) | `scores` | `[n, n]`, one head at a time |
#[derive(Clone, Debug)]
pub struct SelfAttention {
    qkv: Linear,
    n_heads: usize,
}

impl SelfAttention {
    /// Takes the weights and biases of the three projections, all `dim` to `dim`, in the order query, key, value.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(weights: &mut Weights, prefixes: [String; 3], dim: usize, n_heads: usize) -> Result<Self, WeightsError> {
        assert!(n_heads > 0 && dim.is_multiple_of(n_heads), "heads share the width evenly");
        let scale = 1.0 / ((dim / n_heads) as f32).sqrt();
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for (i, prefix) in prefixes.iter().enumerate() {
            // The scores' factor is folded into the query.
            let factor = if i == 0 { scale } else { 1.0 };
            weight.extend(weights.take(&format!("{prefix}.weight"), &[dim, dim])?.iter().map(|v| v * factor));
            bias.extend(weights.take(&format!("{prefix}.bias"), &[dim])?.iter().map(|v| v * factor));
        }
        Ok(Self { qkv: Linear::new(&weight, bias, dim, Activation::None), n_heads })
    }

    /// Attention within each of several sequences that stand one after the other in `x`, `[sum of lengths, dim]`; the result,
    /// of the same shape, is written to `out`. Sequences do not see each other, so nothing is padded or masked.
    pub fn forward(&self, x: &[f32], lengths: &[usize], out: &mut Vec<f32>, scratch: &mut AttentionScratch) {
        let dim = self.qkv.n_in();
        assert_eq!(lengths.iter().sum::<usize>() * dim, x.len(), "lengths of the sequences");
        let AttentionScratch { qkv, scores } = scratch;
        self.qkv.forward(x, qkv);
        out.resize(x.len(), 0.0);
        let width = dim / self.n_heads;
        let mut first = 0;
        for &n in lengths {
            let qkv = &qkv[first * 3 * dim..(first + n) * 3 * dim];
            let out = &mut out[first * dim..(first + n) * dim];
            for head in 0..self.n_heads {
                let part = |which: usize| Strided::rows(&qkv[which * dim + head * width..], n, width, 3 * dim);
                scores.resize(n * n, 0.0);
                product(scores, n, part(0), part(1).transposed());
                softmax(scores, n);
                product(&mut out[head * width..], dim, Strided::rows(scores, n, n, n), part(2));
            }
            first += n;
        }
    }
}

/// Buffers that attention uses over and over.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    qkv: Vec<f32>,
    scores: Vec<f32>,
}
