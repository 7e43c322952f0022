//! The block that nearly every transformer encoder stacks.

use crate::activation::Activation;
use crate::attention::{AttentionScratch, CrossAttention, Mask, Qkv, SelfAttention};
use crate::kernel::rows_nearby;
use crate::linear::Linear;
use crate::norm::LayerNorm;
use crate::weights::{Weights, WeightsError};

/// Where the normalisations stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `x + f(norm(x))`: ViT, CLIP.
    PreNorm,
    /// `norm(x + f(x))`: BERT and its kin.
    PostNorm,
}

/// Sizes of a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Numbers per token.
    pub dim: usize,
    /// Numbers per token between the two layers of the feed-forward part.
    pub wide: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Added to the variance in the normalisations.
    pub eps: f32,
    /// Between the two layers of the feed-forward part.
    pub activation: Activation,
    /// Where the normalisations stand.
    pub order: Order,
}

/// What a checkpoint calls the parts of a block.
#[derive(Clone, Debug)]
pub struct BlockNames {
    /// Query, key and value.
    pub qkv: Qkv,
    /// The layer after attention.
    pub out: String,
    /// The normalisation that belongs to attention.
    pub norm_1: String,
    /// From `dim` to `wide`.
    pub widen: String,
    /// From `wide` to `dim`.
    pub narrow: String,
    /// The normalisation that belongs to the feed-forward part.
    pub norm_2: String,
    /// Full names of two vectors `[dim]` by which the results of attention and of the feed-forward part are multiplied before they
    /// are added (LayerScale, Touvron et al. 2021), where there are such.
    pub scales: Option<[String; 2]>,
}

/// Self-attention and two dense layers, each with a shortcut around it and a normalisation (Vaswani et al. 2017, section 3.1).
#[derive(Clone, Debug)]
pub struct Block {
    pub(crate) attention: SelfAttention,
    pub(crate) out: Linear,
    pub(crate) norm_1: LayerNorm,
    pub(crate) widen: Linear,
    pub(crate) narrow: Linear,
    pub(crate) norm_2: LayerNorm,
    pub(crate) order: Order,
}

impl Block {
    /// Takes the parts by their names.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(w: &mut Weights, names: &BlockNames, shape: BlockShape) -> Result<Self, WeightsError> {
        let BlockShape { dim, wide, n_heads, eps, activation, order } = shape;
        let [scale_1, scale_2] = match &names.scales {
            Some(scales) => [Some(w.take(&scales[0], &[dim])?), Some(w.take(&scales[1], &[dim])?)],
            None => [None, None],
        };
        Ok(Self {
            attention: SelfAttention::load(w, &names.qkv, dim, n_heads)?,
            out: scaled(w, &names.out, dim, dim, scale_1)?,
            norm_1: LayerNorm::load(w, &names.norm_1, dim, eps)?,
            widen: Linear::load(w, &names.widen, dim, wide, activation)?,
            narrow: scaled(w, &names.narrow, wide, dim, scale_2)?,
            norm_2: LayerNorm::load(w, &names.norm_2, dim, eps)?,
            order,
        })
    }

    /// Numbers per token.
    pub fn dim(&self) -> usize {
        self.out.n_out()
    }

    /// Carries `x`, `[sum of lengths, dim]`, through the block, in place; sequences do not see each other.
    pub fn forward(&self, x: &mut [f32], lengths: &[usize], mask: Mask<'_>, scratch: &mut BlockScratch) {
        self.forward_with(x, lengths, mask, |_| {}, scratch);
    }

    /// The same with something done to the states between attention and the feed-forward part, such as a [`CrossLayer`].
    pub fn forward_with(
        &self,
        x: &mut [f32],
        lengths: &[usize],
        mask: Mask<'_>,
        between: impl FnOnce(&mut [f32]),
        scratch: &mut BlockScratch,
    ) {
        let attend = |x: &mut [f32], norm: Option<&LayerNorm>, scratch: &mut BlockScratch| {
            let BlockScratch { mixed, attention, .. } = scratch;
            // A group of sequences after the other, so that queries, keys and values of one are still near when they are attended to.
            let (mut x, mut done) = (x, 0);
            for lengths in groups(lengths, rows_nearby()) {
                let (group, rest) = x.split_at_mut(lengths.iter().sum::<usize>() * self.dim());
                self.attention.forward_normed(group, norm, lengths, (mask, done), mixed, attention);
                self.out.add_to(mixed, group);
                (x, done) = (rest, done + lengths.len());
            }
        };
        self.around_with(x, scratch, attend, between);
    }

    /// The block around another way of attending: `attend` is called with the rows that attention takes and writes as many.
    pub(crate) fn around(
        &self,
        x: &mut [f32],
        scratch: &mut BlockScratch,
        attend: impl FnOnce(&[f32], &mut Vec<f32>, &mut AttentionScratch),
    ) {
        let attend = |x: &mut [f32], norm: Option<&LayerNorm>, scratch: &mut BlockScratch| {
            let BlockScratch { normed, mixed, attention } = scratch;
            let mut rows = &*x;
            if let Some(norm) = norm {
                normed.clear();
                normed.extend_from_slice(x);
                norm.forward(normed);
                rows = normed;
            }
            attend(rows, mixed, attention);
            self.out.add_to(mixed, x);
        };
        self.around_with(x, scratch, attend, |_| {});
    }

    /// The same where `attend` is called with the rows as they are and the normalisation that comes before attention, if one does, and adds
    /// to the rows what attention and the layer after it make of them.
    fn around_with(
        &self,
        x: &mut [f32],
        scratch: &mut BlockScratch,
        attend: impl FnOnce(&mut [f32], Option<&LayerNorm>, &mut BlockScratch),
        between: impl FnOnce(&mut [f32]),
    ) {
        match self.order {
            Order::PreNorm => {
                attend(x, Some(&self.norm_1), scratch);
                between(x);
                self.widen.add_twice(&self.narrow, Some(&self.norm_2), x);
            }
            Order::PostNorm => {
                attend(x, None, scratch);
                self.norm_1.forward(x);
                between(x);
                self.widen.add_twice(&self.narrow, None, x);
                self.norm_2.forward(x);
            }
        }
    }
}

/// Neighbouring sequences of at most so many rows in all, or one that is longer.
fn groups(mut lengths: &[usize], rows: usize) -> impl Iterator<Item = &[usize]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |length: &&usize| {
            sum += **length;
            sum <= rows
        };
        let n = lengths.iter().take_while(fits).count().max(1);
        let (group, rest) = lengths.split_at_checked(n)?;
        lengths = rest;
        Some(group)
    })
}

/// Buffers that blocks use over and over.
#[derive(Debug, Default)]
pub struct BlockScratch {
    normed: Vec<f32>,
    mixed: Vec<f32>,
    attention: AttentionScratch,
}

/// What a checkpoint calls the parts of a [`CrossLayer`].
#[derive(Clone, Debug)]
pub struct CrossNames {
    /// Query, key and value, each with `.weight` and `.bias` behind it.
    pub qkv: [String; 3],
    /// The layer after attention.
    pub out: String,
    /// The normalisation.
    pub norm: String,
}

/// Attention to another sequence with a shortcut around it, the part by which one modality looks at another (Vaswani et al. 2017, section
/// 3.2.3): `norm(x + out(attention(x, context)))`, or with the normalisation first, `x + out(attention(norm(x), context))`.
#[derive(Clone, Debug)]
pub struct CrossLayer {
    attention: CrossAttention,
    out: Linear,
    norm: LayerNorm,
    order: Order,
}

impl CrossLayer {
    /// Takes the parts by their names, for contexts of `context_dim` numbers per token; of `shape` its width, heads, `eps` and order count.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(w: &mut Weights, names: &CrossNames, shape: BlockShape, context_dim: usize) -> Result<Self, WeightsError> {
        let BlockShape { dim, n_heads, eps, order, .. } = shape;
        Ok(Self {
            attention: CrossAttention::load(w, &names.qkv, dim, context_dim, n_heads)?,
            out: Linear::load(w, &names.out, dim, dim, Activation::None)?,
            norm: LayerNorm::load(w, &names.norm, dim, eps)?,
            order,
        })
    }

    /// Lets every sequence in `x`, `[sum of lengths, dim]`, look at its own in `context`, `[sum of context_lengths, context_dim]`, in
    /// place. Rows of a sequence do not see each other, so several that look at one context may stand as one sequence.
    pub fn forward(&self, (x, lengths): (&mut [f32], &[usize]), context: (&[f32], &[usize]), scratch: &mut BlockScratch) {
        let BlockScratch { normed, mixed, attention } = scratch;
        match self.order {
            Order::PreNorm => {
                normed.clear();
                normed.extend_from_slice(x);
                self.norm.forward(normed);
                self.attention.forward((normed, lengths), context, mixed, attention);
                self.out.add_to(mixed, x);
            }
            Order::PostNorm => {
                self.attention.forward((x, lengths), context, mixed, attention);
                self.out.add_to(mixed, x);
                self.norm.forward(x);
            }
        }
    }
}

/// A linear layer whose outputs are multiplied by `scale`, which is folded into its weights.
fn scaled(w: &mut Weights, prefix: &str, n_in: usize, n_out: usize, scale: Option<Vec<f32>>) -> Result<Linear, WeightsError> {
    let Some(scale) = scale else { return Linear::load(w, prefix, n_in, n_out, Activation::None) };
    let mut weight = w.take(&format!("{prefix}.weight"), &[n_out, n_in])?;
    let mut bias = w.take(&format!("{prefix}.bias"), &[n_out])?;
    for ((row, bias), scale) in weight.chunks_exact_mut(n_in).zip(&mut bias).zip(&scale) {
        row.iter_mut().for_each(|v| *v *= scale);
        *bias *= scale;
    }
    Ok(Linear::with_precision(&weight, bias, n_in, Activation::None, w.precision()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{checkpoint, numbers};

    const DIM: usize = 6;
    const CONTEXT: usize = 5;
    const HEADS: usize = 2;
    const SHAPE: BlockShape =
        BlockShape { dim: DIM, wide: 8, n_heads: HEADS, eps: 1e-5, activation: Activation::Gelu, order: Order::PostNorm };

    /// The tensors of a layer by name, and the layer.
    fn layer(order: Order) -> (impl Fn(&str) -> Vec<f64>, CrossLayer) {
        let shapes: [(&str, &[usize]); 10] = [
            ("q.weight", &[DIM, DIM]),
            ("q.bias", &[DIM]),
            ("k.weight", &[DIM, CONTEXT]),
            ("k.bias", &[DIM]),
            ("v.weight", &[DIM, CONTEXT]),
            ("v.bias", &[DIM]),
            ("out.weight", &[DIM, DIM]),
            ("out.bias", &[DIM]),
            ("norm.weight", &[DIM]),
            ("norm.bias", &[DIM]),
        ];
        let tensors: Vec<(&str, Vec<f32>, Vec<usize>)> = shapes
            .iter()
            .enumerate()
            .map(|(i, (name, shape))| (*name, numbers(shape.iter().product(), 7 + i as u32), shape.to_vec()))
            .collect();
        let mut w = checkpoint(&tensors);
        let names = CrossNames { qkv: ["q", "k", "v"].map(str::to_owned), out: "out".to_owned(), norm: "norm".to_owned() };
        let layer = CrossLayer::load(&mut w, &names, BlockShape { order, ..SHAPE }, CONTEXT).unwrap();
        w.finish().unwrap();
        let named = move |name: &str| {
            let (_, values, _) = tensors.iter().find(|(other, _, _)| *other == name).unwrap();
            values.iter().map(|v| f64::from(*v)).collect()
        };
        (named, layer)
    }

    /// `x W^T + b` of rows, with tensors by name.
    fn dense(w: &impl Fn(&str) -> Vec<f64>, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (w(&format!("{name}.weight")), w(&format!("{name}.bias")));
        let n_in = weight.len() / bias.len();
        x.chunks_exact(n_in)
            .flat_map(|row| {
                let of = |(w, b): (&[f64], &f64)| row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + b;
                weight.chunks_exact(n_in).zip(&bias).map(of).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn groups_are_neighbours_and_all_there() {
        let of = |lengths, rows| groups(lengths, rows).map(<[usize]>::to_vec).collect::<Vec<_>>();
        assert_eq!(of(&[50, 50, 50], 100), [vec![50, 50], vec![50]]);
        assert_eq!(of(&[7, 300, 0, 100], 100), [vec![7], vec![300], vec![0, 100]]);
        assert!(of(&[], 100).is_empty());
    }

    #[test]
    fn sequences_of_later_groups_keep_their_numbers_and_their_states() {
        let tensor = |name: &str, shape: &[usize], seed| {
            (name.to_owned(), numbers(shape.iter().product::<usize>(), seed), shape.to_vec())
        };
        let mut tensors = Vec::new();
        for (i, name) in ["q", "k", "v", "out", "up", "down", "norm_1", "norm_2"].into_iter().enumerate() {
            let [n_out, n_in] = match name {
                "up" => [SHAPE.wide, DIM],
                "down" => [DIM, SHAPE.wide],
                _ => [DIM, DIM],
            };
            let weight: &[usize] = if name.starts_with("norm") { &[DIM] } else { &[n_out, n_in] };
            tensors.push(tensor(&format!("{name}.weight"), weight, 20 + i as u32));
            tensors.push(tensor(&format!("{name}.bias"), &[n_out], 40 + i as u32));
        }
        let by_name: Vec<(&str, Vec<f32>, Vec<usize>)> =
            tensors.iter().map(|(name, values, shape)| (name.as_str(), values.clone(), shape.clone())).collect();
        let names = BlockNames {
            qkv: Qkv::Separate(["q", "k", "v"].map(str::to_owned)),
            out: "out".to_owned(),
            norm_1: "norm_1".to_owned(),
            widen: "up".to_owned(),
            narrow: "down".to_owned(),
            norm_2: "norm_2".to_owned(),
            scales: None,
        };
        let block = Block::load(&mut checkpoint(&by_name), &names, SHAPE).unwrap();

        const ROWS: usize = 40;
        let n = 2 * rows_nearby() / ROWS + 3;
        let x = numbers(n * ROWS * DIM, 3);
        // Every sequence has scores of its own added to its own.
        let add = |sequence: usize, scores: &mut [f32]| {
            scores.iter_mut().enumerate().for_each(|(i, score)| *score += ((sequence * 31 + i) % 17) as f32 / 4.0);
        };
        let mut together = x.clone();
        let masked = |sequence: usize, _head: usize, scores: &mut [f32]| add(sequence, scores);
        block.forward(&mut together, &vec![ROWS; n], Mask::Added(&masked), &mut BlockScratch::default());
        for (sequence, want) in together.chunks_exact(ROWS * DIM).enumerate() {
            let mut alone = x[sequence * ROWS * DIM..][..ROWS * DIM].to_vec();
            let masked = |_: usize, _: usize, scores: &mut [f32]| add(sequence, scores);
            block.forward(&mut alone, &[ROWS], Mask::Added(&masked), &mut BlockScratch::default());
            assert!(alone == want, "sequence {sequence} of {n}");
        }
    }

    #[test]
    fn a_cross_layer_equals_its_definition() {
        equals_its_definition(Order::PostNorm);
        equals_its_definition(Order::PreNorm);
    }

    fn equals_its_definition(order: Order) {
        let (w, layer) = layer(order);
        let (lengths, context_lengths) = ([3, 2], [4, 2]);
        let (x, context) = (numbers(5 * DIM, 1), numbers(6 * CONTEXT, 2));
        let mut got = x.clone();
        layer.forward((&mut got, &lengths), (&context, &context_lengths), &mut BlockScratch::default());

        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let normed = |row: &[f64]| -> Vec<f64> {
            let (scale, shift) = (w("norm.weight"), w("norm.bias"));
            let mean = row.iter().sum::<f64>() / DIM as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / DIM as f64;
            (0..DIM).map(|c| (row[c] - mean) / (variance + 1e-5).sqrt() * scale[c] + shift[c]).collect()
        };
        let (mut at, mut at_context, width) = (0, 0, DIM / HEADS);
        for (n, m) in lengths.into_iter().zip(context_lengths) {
            let x = wide(&x[at * DIM..(at + n) * DIM]);
            let context = wide(&context[at_context * CONTEXT..(at_context + m) * CONTEXT]);
            let asking = if order == Order::PreNorm { x.chunks_exact(DIM).flat_map(normed).collect() } else { x.clone() };
            let (q, k, v) = (dense(&w, "q", &asking), dense(&w, "k", &context), dense(&w, "v", &context));
            let mut mixed = vec![0.0; n * DIM];
            for (i, head) in (0..n).flat_map(|i| (0..HEADS).map(move |head| (i, head))) {
                let of = |rows: &[f64], j: usize| rows[j * DIM + head * width..][..width].to_vec();
                let score = |j: usize| of(&q, i).iter().zip(of(&k, j)).map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt();
                let exps: Vec<f64> = (0..m).map(|j| score(j).exp()).collect();
                for (j, exp) in exps.iter().enumerate() {
                    let weight = exp / exps.iter().sum::<f64>();
                    let to = &mut mixed[i * DIM + head * width..][..width];
                    to.iter_mut().zip(of(&v, j)).for_each(|(to, v)| *to += weight * v);
                }
            }
            for (i, (y, x)) in dense(&w, "out", &mixed).chunks_exact(DIM).zip(x.chunks_exact(DIM)).enumerate() {
                let sum: Vec<f64> = y.iter().zip(x).map(|(y, x)| y + x).collect();
                let want = if order == Order::PreNorm { sum } else { normed(&sum) };
                for (c, want) in want.into_iter().enumerate() {
                    let got = f64::from(got[(at + i) * DIM + c]);
                    // A few dozen roundings of numbers of size one.
                    assert!((got - want).abs() < 5e-6, "{order:?}, row {i}, column {c}: {got}, expected {want}");
                }
            }
            (at, at_context) = (at + n, at_context + m);
        }
    }

    #[test]
    fn sequences_that_share_a_context_may_stand_as_one() {
        let (_, layer) = layer(Order::PostNorm);
        let (x, context) = (numbers(7 * DIM, 1), numbers(4 * CONTEXT, 2));
        let mut scratch = BlockScratch::default();
        let (mut apart, mut together) = (x.clone(), x);
        layer.forward((&mut apart, &[3, 4]), (&context.repeat(2), &[4, 4]), &mut scratch);
        layer.forward((&mut together, &[7]), (&context, &[4]), &mut scratch);
        assert_eq!(apart, together);
    }
}
