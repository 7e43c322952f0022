//! The block that nearly every transformer encoder stacks.

use crate::activation::Activation;
use crate::attention::{AttentionScratch, Mask, Qkv, SelfAttention};
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
    attention: SelfAttention,
    out: Linear,
    norm_1: LayerNorm,
    widen: Linear,
    narrow: Linear,
    norm_2: LayerNorm,
    order: Order,
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
        let attend = |x: &[f32], mixed: &mut Vec<f32>, scratch: &mut AttentionScratch| {
            self.attention.forward(x, lengths, mask, mixed, scratch);
        };
        self.around(x, scratch, attend);
    }

    /// The block's self-attention, for whoever calls [`Block::around`].
    pub(crate) fn attention(&self) -> &SelfAttention {
        &self.attention
    }

    /// The block around another way of attending: `attend` is called with the rows that attention takes and writes as many.
    pub(crate) fn around(
        &self,
        x: &mut [f32],
        scratch: &mut BlockScratch,
        attend: impl FnOnce(&[f32], &mut Vec<f32>, &mut AttentionScratch),
    ) {
        let BlockScratch { normed, mixed, wide, attention } = scratch;
        match self.order {
            Order::PreNorm => {
                normed.clear();
                normed.extend_from_slice(x);
                self.norm_1.forward(normed);
                attend(normed, mixed, attention);
                self.out.add_to(mixed, x);
                normed.clear();
                normed.extend_from_slice(x);
                self.norm_2.forward(normed);
                self.widen.forward(normed, wide);
                self.narrow.add_to(wide, x);
            }
            Order::PostNorm => {
                attend(x, mixed, attention);
                self.out.add_to(mixed, x);
                self.norm_1.forward(x);
                self.widen.forward(x, wide);
                self.narrow.add_to(wide, x);
                self.norm_2.forward(x);
            }
        }
    }
}

/// Buffers that blocks use over and over.
#[derive(Debug, Default)]
pub struct BlockScratch {
    normed: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    attention: AttentionScratch,
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
