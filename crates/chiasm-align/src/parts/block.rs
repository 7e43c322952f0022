//! One block of a transformer encoder, with its normalisations after its parts (Vaswani et al. 2017; Devlin et al. 2019).

use chiasm_nn::grad::{Array, Real, Sees, Var};
use rand_chacha::ChaCha8Rng;

use super::learn;

/// Parameters of a block: weight and bias of queries, keys, values and output, gain and shift; weight and bias of either layer, gain and shift.
pub(super) const N_PARAMETERS: usize = 16;
/// Added to the variance of a normalisation.
pub(super) const EPS: f64 = 1e-12;

/// `h = LN(x + attention(x))`, then `LN(h + W_2 gelu(W_1 h))`, of sequences of these lengths, one under the other: `[sum of lengths, dim]` in and out.
pub(super) fn forward<'t, T: Real>(b: &[Var<'t, T>], x: Var<'t, T>, lengths: &[usize], n_heads: usize) -> Var<'t, T> {
    let [q, k, v] = [0, 2, 4].map(|at| x.linear(b[at], Some(b[at + 1])));
    let seen = q.attend(k, v, lengths, lengths, n_heads, Sees::All).linear(b[6], Some(b[7]));
    let h = (x + seen).layer_norm(b[8], b[9], EPS);
    let inner = h.linear(b[10], Some(b[11])).gelu().linear(b[12], Some(b[13]));
    (h + inner).layer_norm(b[14], b[15], EPS)
}

/// A block at the start. Keys begin as queries, so that like attends to like.
pub(super) fn start(dim: usize, hidden: usize, rng: &mut ChaCha8Rng) -> Vec<Array<f32>> {
    let row = |value: f32, n: usize| Array::full(1, n, value);
    let queries = learn::weight(dim, dim, rng);
    let mut p = vec![queries.clone(), row(0.0, dim), queries, row(0.0, dim)];
    p.extend([learn::weight(dim, dim, rng), row(0.0, dim), learn::weight(dim, dim, rng), row(0.0, dim)]);
    p.extend([row(1.0, dim), row(0.0, dim)]);
    p.extend([learn::weight(hidden, dim, rng), row(0.0, hidden), learn::weight(dim, hidden, rng), row(0.0, dim)]);
    p.extend([row(1.0, dim), row(0.0, dim)]);
    p
}
