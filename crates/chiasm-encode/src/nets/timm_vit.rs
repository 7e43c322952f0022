//! Vision transformers in timm's layout, as open_clip's models have them: what their names stand for, and their parts.
//!
//! # Reference
//! Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (`vit_*_patch*_siglip_*`); Radford et al., "Learning
//! Transferable Visual Models From Natural Language Supervision", ICML 2021 (`vit_*_patch*_clip_*`); Vasu et al., "MobileCLIP", CVPR 2024
//! (`vit_base_mci_224`). Checked layer by layer against timm's `VisionTransformer`. Differs from it in: nothing. The activation is the one
//! that timm gives a name: for most of SigLIP's first generation that is the Gaussian itself, where transformers takes the approximation.

use chiasm_nn::{
    Activation, BlockNames, BlockShape, CrossAttention, Filters, LayerNorm, Linear, Order, Qkv, Weights, WeightsError,
};

use crate::nets::patches::Patches;
use crate::nets::vision_transformer::{self, Pooling, Probe, VisionTransformer};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimmVit {
    kind: Kind,
    pub(crate) shape: BlockShape,
    n_blocks: usize,
    /// Side of the pictures.
    pub(crate) side: u32,
    /// Side of a patch.
    patch: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No class token, pooled by attention.
    Siglip,
    /// A normalisation before the blocks, patches without bias.
    Clip,
    /// Patches of patches of patches, a class token without a position.
    Mci,
}

/// Added to the variance by timm's own normalisation.
const EPS: f32 = 1e-6;
/// Added to the variance in batch normalisation.
const BATCH_EPS: f64 = 1e-5;

/// The network of this name, where it is one of these.
pub(crate) fn named(name: &str) -> Option<TimmVit> {
    let (size, rest) = name.strip_prefix("vit_")?.split_once('_')?;
    let (dim, n_blocks, n_heads, mlp_ratio) = match size {
        "base" => (768, 12, 12, 4.0),
        "large" => (1024, 24, 16, 4.0),
        "huge" => (1280, 32, 16, 4.0),
        "so400m" => (1152, 27, 16, 3.7362),
        "giantopt" => (1536, 40, 16, 4.0),
        // Of the goldens alone: timm's own names stand for networks too large for them.
        #[cfg(test)]
        "golden" => (32, 2, 4, 3.7362),
        _ => return None,
    };
    let (kind, patch, side) = match rest.strip_prefix("mci_") {
        Some(side) if dim <= 768 => (Kind::Mci, 16, side),
        Some(_) => return None,
        None => {
            let (patch, rest) = rest.strip_prefix("patch")?.split_once('_')?;
            let (kind, side) = rest.rsplit_once('_')?;
            let kind = match kind {
                "siglip" => Kind::Siglip,
                "clip" => Kind::Clip,
                _ => return None,
            };
            (kind, patch.parse().ok()?, side)
        }
    };
    let side: u32 = side.parse().ok()?;
    if !(1..=1024).contains(&side) || !(1..=side).contains(&patch) {
        return None;
    }
    let approximate = kind == Kind::Siglip
        && (size == "giantopt" || [("base", 32), ("so400m", 16)].contains(&(size, patch)) || (size == "large" && side == 512));
    let activation = if approximate { Activation::GeluTanh } else { Activation::Gelu };
    let eps = if kind == Kind::Clip { 1e-5 } else { EPS };
    let wide = (f64::from(dim) * mlp_ratio) as usize;
    let shape = BlockShape { dim: dim as usize, wide, n_heads, eps, activation, order: Order::PreNorm };
    Some(TimmVit { kind, shape, n_blocks, side, patch })
}

impl TimmVit {
    /// What timm calls its pooling.
    pub(crate) fn pool(&self) -> &'static str {
        match self.kind {
            Kind::Siglip => "map",
            Kind::Clip | Kind::Mci => "token",
        }
    }

    /// Takes the parts, whose names begin with `at`.
    pub(crate) fn load(
        &self,
        w: &mut Weights,
        at: &str,
        projection: Option<Linear>,
    ) -> Result<VisionTransformer, WeightsError> {
        let BlockShape { dim, eps, .. } = self.shape;
        let n_patches = (self.side / self.patch).pow(2) as usize;
        let n_positions = n_patches + usize::from(self.kind == Kind::Clip);
        let mut positions = w.take(&format!("{at}pos_embed"), &[1, n_positions, dim])?;
        let class = match self.kind {
            Kind::Siglip => None,
            Kind::Clip | Kind::Mci => {
                let mut class = w.take(&format!("{at}cls_token"), &[1, 1, dim])?;
                if self.kind == Kind::Clip {
                    class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
                }
                Some(class)
            }
        };
        let norm_before =
            if self.kind == Kind::Clip { Some(LayerNorm::load(w, &format!("{at}norm_pre"), dim, eps)?) } else { None };
        let (mut stem, patches) = match self.kind {
            Kind::Siglip | Kind::Clip => {
                let (name, size) = (format!("{at}patch_embed.proj"), [dim, 3, self.patch as usize]);
                (Vec::new(), Patches::load(w, &name, size, self.kind == Kind::Siglip)?)
            }
            Kind::Mci => {
                let (name, size) = (format!("{at}patch_embed.backbone.2.conv"), [dim, dim / 4, 2]);
                (Vec::new(), Patches::load(w, &name, size, true)?)
            }
        };
        if self.kind == Kind::Mci {
            stem.push(batch_normed(w, &format!("{at}patch_embed.backbone.0"), [dim / 4, 3, 4])?);
            stem.push(batch_normed(w, &format!("{at}patch_embed.backbone.1"), [dim / 4, dim / 4, 2])?);
        }
        let norm = LayerNorm::load(w, &format!("{at}norm"), dim, eps)?;
        let pooling = match self.kind {
            Kind::Siglip => Pooling::Probe(norm, Box::new(self.probe(w, &format!("{at}attn_pool."))?)),
            Kind::Clip | Kind::Mci => Pooling::Class(norm),
        };
        let blocks = vision_transformer::blocks(w, &|i| names(at, i), self.n_blocks, self.shape)?;
        Ok(VisionTransformer { stem, patches, class, positions, norm_before, blocks, pooling, projection, dim, device: None })
    }

    /// The pooling by attention.
    fn probe(&self, w: &mut Weights, at: &str) -> Result<Probe, WeightsError> {
        let BlockShape { dim, n_heads, .. } = self.shape;
        let probe = w.take(&format!("{at}latent"), &[1, 1, dim])?;
        let q = (w.take(&format!("{at}q.weight"), &[dim, dim])?, w.take(&format!("{at}q.bias"), &[dim])?);
        let kv = (w.take(&format!("{at}kv.weight"), &[2 * dim, dim])?, w.take(&format!("{at}kv.bias"), &[2 * dim])?);
        let attention = CrossAttention::new(q, kv, dim, n_heads, w.precision());
        let behind = ["proj", "norm", "mlp.fc1", "mlp.fc2"].map(|part| format!("{at}{part}"));
        Probe::load(w, probe, attention, behind.each_ref().map(String::as_str), self.shape)
    }
}

/// Names in block `i`.
fn names(prefix: &str, i: usize) -> BlockNames {
    let at = |part: &str| format!("{prefix}blocks.{i}.{part}");
    BlockNames {
        qkv: Qkv::Stacked([at("attn.qkv.weight"), at("attn.qkv.bias")]),
        out: at("attn.proj"),
        norm_1: at("norm1"),
        widen: at("mlp.fc1"),
        narrow: at("mlp.fc2"),
        norm_2: at("norm2"),
        scales: None,
    }
}

/// A layer of patches whose outputs are normalised by the statistics of training, which are folded into its weights.
fn batch_normed(w: &mut Weights, at: &str, [n_out, channels, side]: [usize; 3]) -> Result<Patches, WeightsError> {
    let (conv, norm) = (format!("{at}.conv"), format!("{at}.bn"));
    let (weight, bias) = Filters::normed(&conv, &norm, BATCH_EPS).take(w, &[n_out, channels, side, side])?;
    Ok(Patches::new(&weight, bias, [channels, side], Activation::Gelu, w.precision()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_timms_networks() {
        let so400m = named("vit_so400m_patch14_siglip_378").unwrap();
        assert_eq!((so400m.shape.dim, so400m.shape.wide, so400m.n_blocks, so400m.patch), (1152, 4304, 27, 14));
        assert_eq!(so400m.shape.activation, Activation::Gelu);
        assert_eq!(named("vit_so400m_patch16_siglip_256").unwrap().shape.activation, Activation::GeluTanh);
        assert_eq!(named("vit_large_patch14_clip_224").unwrap().pool(), "token");
        assert_eq!(named("vit_base_mci_224").unwrap().patch, 16);
        for other in [
            "vit_base",
            "vit_base_patch16_224",
            "vit_pe_core_base_patch16_224",
            "vit_base_patch0_siglip_224",
            "vit_base_mci_0",
            "vit_large_mci_224",
        ] {
            assert!(named(other).is_none(), "{other}");
        }
    }
}
