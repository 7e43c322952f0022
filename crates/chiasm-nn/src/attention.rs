//! Multi-head attention.

use std::ops::Range;

use pulp::NullaryFnOnce;

use crate::activation::{Activation, Seen};
use crate::kernel::{Panels, Precision, Scores, Words};
use crate::linear::Linear;
use crate::norm::LayerNorm;
use crate::simd::{map_with, widest};
use crate::weights::{Weights, WeightsError};

/// Which positions see which, and how scores are changed before the softmax.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Every position sees every other.
    None,
    /// A position sees itself and those before it.
    Causal,
    /// Added to the scores: called with the number of the sequence, the number of the head and the scores `[n, m]` of its `n`
    /// queries and `m` keys, already divided by the square root of the head's width.
    Added(&'a (dyn Fn(usize, usize, &mut [f32]) + Sync)),
}

/// Where a checkpoint keeps the projections to query, key and value.
#[derive(Clone, Debug)]
pub enum Qkv {
    /// In three linear layers, each with `{prefix}.weight` and `{prefix}.bias`.
    Separate([String; 3]),
    /// Likewise, without biases.
    Unbiased([String; 3]),
    /// One above the other in a layer of `[3 dim, dim]`: the full names of weight and bias.
    Stacked([String; 2]),
    /// Likewise, without a bias: the full name of the weight.
    StackedUnbiased(String),
}

/// Scaled dot-product attention of a sequence to itself (Vaswani et al. 2017, eq. 1), without the projection after it.
///
/// | paper | code | shape |
/// | --- | --- | --- |
/// | Q, K, V | `qkv` | `[n, 3 dim]`: Q, K and V side by side, heads within each |
/// | softmax(Q K^T / sqrt(d_k)) | `scores` | `[n, n]`, one head at a time |
#[derive(Clone, Debug)]
pub struct SelfAttention {
    pub(crate) qkv: Linear,
    pub(crate) n_heads: usize,
}

impl SelfAttention {
    /// Takes the weights and biases of the three projections, all `dim` to `dim`, in the order query, key, value.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(weights: &mut Weights, qkv: &Qkv, dim: usize, n_heads: usize) -> Result<Self, WeightsError> {
        let (mut weight, mut bias) = (Vec::with_capacity(3 * dim * dim), Vec::new());
        match qkv {
            Qkv::Separate(prefixes) => {
                for prefix in prefixes {
                    weight.extend_from_slice(&weights.borrow(&format!("{prefix}.weight"), &[dim, dim])?);
                    bias.extend(weights.take(&format!("{prefix}.bias"), &[dim])?);
                }
            }
            Qkv::Unbiased(prefixes) => {
                for prefix in prefixes {
                    weight.extend_from_slice(&weights.borrow(&format!("{prefix}.weight"), &[dim, dim])?);
                }
                bias = vec![0.0; 3 * dim];
            }
            Qkv::Stacked([of_weight, of_bias]) => {
                weight = weights.take(of_weight, &[3 * dim, dim])?;
                bias = weights.take(of_bias, &[3 * dim])?;
            }
            Qkv::StackedUnbiased(of_weight) => {
                weight = weights.take(of_weight, &[3 * dim, dim])?;
                bias = vec![0.0; 3 * dim];
            }
        }
        // The scores' factor is folded into the query.
        let scale = scale_of(dim, n_heads);
        weight[..dim * dim].iter_mut().chain(&mut bias[..dim]).for_each(|v| *v *= scale);
        Ok(Self { qkv: Linear::with_precision(&weight, bias, dim, Activation::None, weights.precision()), n_heads })
    }

    /// Attention within each of several sequences that stand one after the other in `x`, `[sum of lengths, dim]`; the result,
    /// of the same shape, is written to `out`. Sequences do not see each other, so nothing is padded.
    pub fn forward(&self, x: &[f32], lengths: &[usize], mask: Mask<'_>, out: &mut Vec<f32>, scratch: &mut AttentionScratch) {
        self.forward_normed(x, None, lengths, (mask, 0), out, scratch);
    }

    /// The same of rows that are normalised first, if so asked, and of sequences whose first has this number for the mask.
    pub(crate) fn forward_normed(
        &self,
        x: &[f32],
        norm: Option<&LayerNorm>,
        lengths: &[usize],
        (mask, first_sequence): (Mask<'_>, usize),
        out: &mut Vec<f32>,
        scratch: &mut AttentionScratch,
    ) {
        let dim = self.qkv.n_in();
        assert_eq!(lengths.iter().sum::<usize>() * dim, x.len(), "lengths of the sequences");
        let AttentionScratch { q: qkv, heads, .. } = scratch;
        heads.beside(self.qkv.precision());
        self.qkv.forward_normed(x, norm, qkv);
        out.resize(x.len(), 0.0);
        let mut first = 0;
        for (sequence, &n) in lengths.iter().enumerate() {
            let part = |which: usize| &qkv[first * 3 * dim + which * dim..(first + n) * 3 * dim];
            let to = &mut out[first * dim..(first + n) * dim];
            let rows =
                Rows { q: part(0), q_stride: 3 * dim, k: part(1), v: part(2), kv_stride: 3 * dim, n_queries: n, n_keys: n };
            attend(rows, dim, self.n_heads, mask, first_sequence + sequence, to, heads);
            first += n;
        }
    }
}

/// The same from one sequence to another: queries of the first, keys and values of the second.
#[derive(Clone, Debug)]
pub struct CrossAttention {
    q: Linear,
    kv: Linear,
    n_heads: usize,
}

impl CrossAttention {
    /// From weight and bias of the query's layer, `[dim, dim]` and `[dim]`, and of those of key and value, one above the other,
    /// `[2 dim, context_dim]` and `[2 dim]`.
    pub fn new(
        q: (Vec<f32>, Vec<f32>),
        kv: (Vec<f32>, Vec<f32>),
        context_dim: usize,
        n_heads: usize,
        precision: Precision,
    ) -> Self {
        let (mut weight, mut bias) = q;
        let dim = bias.len();
        let scale = scale_of(dim, n_heads);
        weight.iter_mut().chain(&mut bias).for_each(|v| *v *= scale);
        let q = Linear::with_precision(&weight, bias, dim, Activation::None, precision);
        let kv = Linear::with_precision(&kv.0, kv.1, context_dim, Activation::None, precision);
        assert_eq!(kv.n_out(), 2 * dim, "a key and a value as wide as the query");
        Self { q, kv, n_heads }
    }

    /// Takes the layers of query, key and value: `dim` to `dim`, and `context_dim` to `dim` twice, each with
    /// `{prefix}.weight` and `{prefix}.bias`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        prefixes: &[String; 3],
        dim: usize,
        context_dim: usize,
        n_heads: usize,
    ) -> Result<Self, WeightsError> {
        Self::load_layers(weights, prefixes, [dim, context_dim], n_heads, true)
    }

    /// The same without biases: `{prefix}.weight` alone of each.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load_unbiased(
        weights: &mut Weights,
        prefixes: &[String; 3],
        dim: usize,
        context_dim: usize,
        n_heads: usize,
    ) -> Result<Self, WeightsError> {
        Self::load_layers(weights, prefixes, [dim, context_dim], n_heads, false)
    }

    fn load_layers(
        weights: &mut Weights,
        [of_q, of_k, of_v]: &[String; 3],
        [dim, context_dim]: [usize; 2],
        n_heads: usize,
        biased: bool,
    ) -> Result<Self, WeightsError> {
        let mut layer = |prefix: &str, n_in: usize| {
            let weight = weights.take(&format!("{prefix}.weight"), &[dim, n_in])?;
            let bias = if biased { weights.take(&format!("{prefix}.bias"), &[dim])? } else { vec![0.0; dim] };
            Ok::<_, WeightsError>((weight, bias))
        };
        let (q, mut kv, v) = (layer(of_q, dim)?, layer(of_k, context_dim)?, layer(of_v, context_dim)?);
        kv.0.extend(v.0);
        kv.1.extend(v.1);
        Ok(Self::new(q, kv, context_dim, n_heads, weights.precision()))
    }

    /// The same where the three layers stand one above the other, `[3 dim, dim]`, as PyTorch's own attention stores them: the full
    /// names of weight and bias. Contexts are as wide as queries.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load_stacked(
        weights: &mut Weights,
        [of_weight, of_bias]: [&str; 2],
        dim: usize,
        n_heads: usize,
    ) -> Result<Self, WeightsError> {
        let mut weight = weights.take(of_weight, &[3 * dim, dim])?;
        let mut bias = weights.take(of_bias, &[3 * dim])?;
        let kv = (weight.split_off(dim * dim), bias.split_off(dim));
        Ok(Self::new((weight, bias), kv, dim, n_heads, weights.precision()))
    }

    /// From every sequence in `x`, `[sum of lengths, dim]`, to its own in `context`, `[sum of context_lengths, context_dim]`;
    /// `out` becomes `[sum of lengths, dim]`.
    pub fn forward(
        &self,
        (x, lengths): (&[f32], &[usize]),
        (context, context_lengths): (&[f32], &[usize]),
        out: &mut Vec<f32>,
        scratch: &mut AttentionScratch,
    ) {
        let dim = self.q.n_out();
        assert_eq!(lengths.len(), context_lengths.len(), "a context for every sequence");
        assert_eq!(lengths.iter().sum::<usize>() * dim, x.len(), "lengths of the sequences");
        assert_eq!(context_lengths.iter().sum::<usize>() * self.kv.n_in(), context.len(), "lengths of the contexts");
        let AttentionScratch { q, kv, heads } = scratch;
        heads.beside(self.q.precision());
        self.q.forward(x, q);
        self.kv.forward(context, kv);
        out.resize(x.len(), 0.0);
        let (mut first, mut first_key) = (0, 0);
        for (sequence, (&n, &m)) in lengths.iter().zip(context_lengths).enumerate() {
            let to = &mut out[first * dim..(first + n) * dim];
            let kv = &kv[first_key * 2 * dim..(first_key + m) * 2 * dim];
            let q = &q[first * dim..(first + n) * dim];
            let rows = Rows { q, q_stride: dim, k: kv, v: &kv[dim..], kv_stride: 2 * dim, n_queries: n, n_keys: m };
            attend(rows, dim, self.n_heads, Mask::None, sequence, to, heads);
            (first, first_key) = (first + n, first_key + m);
        }
    }
}

fn scale_of(dim: usize, n_heads: usize) -> f32 {
    assert!(n_heads > 0 && dim.is_multiple_of(n_heads), "heads share the width evenly");
    1.0 / ((dim / n_heads) as f32).sqrt()
}

/// Queries, keys and values of one sequence: rows of `dim` numbers, heads side by side, each `stride` after the last.
#[derive(Clone, Copy)]
struct Rows<'a> {
    q: &'a [f32],
    q_stride: usize,
    k: &'a [f32],
    v: &'a [f32],
    kv_stride: usize,
    n_queries: usize,
    n_keys: usize,
}

/// Queries, fewer where that makes whole tiles, and keys whose scores are in the cache together. Of more keys one part comes after the other, and what was found with those before is brought
/// in proportion (Dao et al. 2022, "FlashAttention").
const QUERIES_AT_A_TIME: usize = 64;
const KEYS_AT_A_TIME: usize = 512;

/// Attention of one sequence with all heads, queries already divided by the root of the head's width; `out` is `[n_queries, dim]`.
fn attend(rows: Rows<'_>, dim: usize, n_heads: usize, mask: Mask<'_>, sequence: usize, out: &mut [f32], scratch: &mut Heads) {
    let Rows { q, q_stride, k, v, kv_stride, n_queries: n, n_keys: m } = rows;
    if n == 0 {
        return;
    }
    let width = dim / n_heads;
    let Heads { keys, values, queries, scores, weights, seen, mixed, whole } = scratch;
    // A mask of the caller's sees the scores of all queries and keys at once, and nothing between the rows.
    let (queries_at_a_time, keys_at_a_time) = if matches!(mask, Mask::Added(_)) {
        (n, m)
    } else {
        (n.min(keys.whole_tiles(QUERIES_AT_A_TIME)), m.min(KEYS_AT_A_TIME))
    };
    for head in 0..n_heads {
        let at = head * width;
        keys.pack_transposed(&k[at..], m, width, kv_stride);
        values.pack(&v[at..], m, width, kv_stride);
        let (stride, mixed_stride) = (keys.filled_columns(keys_at_a_time), values.filled_columns(width));
        scores.resize(keys.filled_rows(queries_at_a_time) * stride);
        mixed.resize(values.filled_rows(queries_at_a_time) * mixed_stride);
        let (scores, mixed) = (scores.as_mut_numbers(), mixed.as_mut_numbers());
        for first in (0..n).step_by(queries_at_a_time) {
            let n = queries_at_a_time.min(n - first);
            let queries = keys.left(&q[first * q_stride + at..], q_stride, width, n, queries);
            seen.clear();
            seen.resize(n, Seen::NOTHING);
            // Of a causal mask, keys behind the last query are seen by none.
            let m = if matches!(mask, Mask::Causal) { m.min(first + n) } else { m };
            for first_key in (0..m).step_by(keys_at_a_time.max(1)) {
                let part = first_key..m.min(first_key + keys_at_a_time);
                keys.multiply_columns(&queries, part.clone(), (scores, stride));
                let scores = &mut scores[..n * stride];
                match mask {
                    Mask::None => {}
                    Mask::Causal => {
                        for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
                            row[stride.min((first + i + 1).saturating_sub(first_key))..].fill(f32::NEG_INFINITY);
                        }
                    }
                    Mask::Added(add) => {
                        whole.clear();
                        whole.extend(scores.chunks_exact(stride).flat_map(|row| &row[..m]));
                        add(sequence, head, whole);
                        scores
                            .chunks_exact_mut(stride)
                            .zip(whole.chunks_exact(m))
                            .for_each(|(to, row)| to[..m].copy_from_slice(row));
                    }
                }
                // What fills the panel up weighs nothing, so that rows are whole registers long.
                let filled = keys.filled_columns(part.len());
                scores.chunks_exact_mut(stride).for_each(|row| row[part.len()..filled].fill(f32::NEG_INFINITY));
                let scores = Scores { numbers: scores, filled, stride };
                let weights = values.left_of_scores(scores, part.len(), seen, (mixed, mixed_stride), weights);
                values.multiply_part(&weights, part, first_key > 0, mixed);
            }
            widest(Division { mixed, stride: mixed_stride, seen, out: &mut out[first * dim..], dim, columns: at..at + width });
        }
    }
}

/// The softmax divides after the product, where there are fewer numbers: rows of `mixed`, `stride` apart, over their sums, to some columns of `out`, `[n, dim]`.
struct Division<'a> {
    mixed: &'a [f32],
    stride: usize,
    seen: &'a [Seen],
    out: &'a mut [f32],
    dim: usize,
    columns: Range<usize>,
}

impl NullaryFnOnce for Division<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.mixed.chunks_exact(self.stride).zip(self.out.chunks_exact_mut(self.dim));
        for ((mixed, out), seen) in rows.zip(self.seen) {
            let inverse = 1.0 / seen.sum;
            let out = &mut out[self.columns.clone()];
            map_with(out, &mixed[..out.len()], |_, v| v * inverse);
        }
    }
}

/// Buffers that attention uses over and over.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    q: Vec<f32>,
    kv: Vec<f32>,
    heads: Heads,
}

/// Those of one head at a time.
#[derive(Debug, Default)]
struct Heads {
    keys: Panels,
    values: Panels,
    /// Some queries, as keys are multiplied by them.
    queries: Words,
    /// Their scores with some keys, `[queries, keys]`, filled up to whole tiles and panels; so below.
    scores: Words,
    /// What scores became, as values are multiplied by it.
    weights: Words,
    seen: Vec<Seen>,
    /// `[queries, width of a head]`.
    mixed: Words,
    /// `[n_queries, n_keys]`, for masks of the caller's.
    whole: Vec<f32>,
}

impl Heads {
    fn beside(&mut self, precision: Precision) {
        self.keys.beside(precision);
        self.values.beside(precision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{checkpoint, numbers};

    #[test]
    fn more_keys_than_are_taken_at_a_time_equal_the_definition() {
        let (dim, n_heads, n) = (6, 2, 2 * KEYS_AT_A_TIME + 70);
        let width = dim / n_heads;
        // The largest score grows from part to part for some queries and not for others, and single ones stand out.
        let mut qkv = numbers(n * 3 * dim, 1);
        qkv.iter_mut().enumerate().for_each(|(i, v)| *v *= 1.0 + (i / (3 * dim) % 97) as f32 / 60.0);
        let rows = Rows {
            q: &qkv,
            q_stride: 3 * dim,
            k: &qkv[dim..],
            v: &qkv[2 * dim..],
            kv_stride: 3 * dim,
            n_queries: n,
            n_keys: n,
        };
        let nothing_added = |_: usize, _: usize, _: &mut [f32]| {};
        // Numbers of up to 2.6 make scores of up to 20, which single precision rounds by 2e-6 and factors of bfloat16 by 2^-8 of it; a weight is off
        // by as great a share, and the result by that share of the values.
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.1)] {
            for (causal, mask) in [(false, Mask::None), (true, Mask::Causal), (false, Mask::Added(&nothing_added))] {
                let (mut out, mut heads) = (vec![f32::NAN; n * dim], Heads::default());
                heads.beside(precision);
                attend(rows, dim, n_heads, mask, 0, &mut out, &mut heads);
                for (i, head) in (0..n).step_by(37).flat_map(|i| (0..n_heads).map(move |head| (i, head))) {
                    let of = |part: usize, j: usize| {
                        let row = &qkv[j * 3 * dim + part * dim + head * width..][..width];
                        row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()
                    };
                    let m = if causal { i + 1 } else { n };
                    let score = |j: usize| of(0, i).iter().zip(of(1, j)).map(|(q, k)| q * k).sum::<f64>();
                    let scores: Vec<f64> = (0..m).map(score).collect();
                    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                    for c in 0..width {
                        let want: f64 = (0..m).map(|j| (scores[j] - most).exp() / sum * of(2, j)[c]).sum();
                        let got = f64::from(out[i * dim + head * width + c]);
                        assert!(
                            (got - want).abs() < tolerance,
                            "{precision:?}, causal {causal}, {i}, {c}: {got}, expected {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn without_biases_is_with_biases_of_zero() {
        let (dim, context_dim, n_heads) = (6, 5, 2);
        let prefixes = ["q", "k", "v"].map(str::to_owned);
        let mut tensors: Vec<(&str, Vec<f32>, Vec<usize>)> =
            [("q.weight", dim), ("k.weight", context_dim), ("v.weight", context_dim)]
                .into_iter()
                .enumerate()
                .map(|(i, (name, n_in))| (name, numbers(dim * n_in, 5 + i as u32), vec![dim, n_in]))
                .collect();
        let mut w = checkpoint(&tensors);
        assert!(CrossAttention::load(&mut w, &prefixes, dim, context_dim, n_heads).is_err(), "it has no biases");
        let mut w = checkpoint(&tensors);
        let without = CrossAttention::load_unbiased(&mut w, &prefixes, dim, context_dim, n_heads).unwrap();
        w.finish().unwrap();
        tensors.extend(["q.bias", "k.bias", "v.bias"].map(|name| (name, vec![0.0; dim], vec![dim])));
        let with = CrossAttention::load(&mut checkpoint(&tensors), &prefixes, dim, context_dim, n_heads).unwrap();
        let (x, context) = (numbers(3 * dim, 1), numbers(4 * context_dim, 2));
        let [a, b] = [without, with].map(|attention| {
            let mut out = Vec::new();
            attention.forward((&x, &[3]), (&context, &[4]), &mut out, &mut AttentionScratch::default());
            out
        });
        assert_eq!(a, b);
    }
}
