//! The vision transformer of CLIP, SigLIP and their kin: patches and positions to one vector. Checkpoints differ in what they call
//! its parts and in how the patches' states become one; both are said by who loads it.

use chiasm_nn::cuda::{Device, DeviceError, DevicePictures, Keep};
use chiasm_nn::{
    Activation, AttentionScratch, Block, BlockNames, BlockShape, CrossAttention, FeatureMap, LayerNorm, Linear, Mask, Weights,
    WeightsError,
};
use rayon::prelude::*;

use crate::net::{Net, Watch, on_all_cores, run};
use crate::nets::clip::projected;
use crate::nets::patches::Patches;

/// Patches, positions, perhaps a class token before them and a normalisation; blocks; a way of pooling; perhaps a projection.
pub(crate) struct VisionTransformer {
    /// Layers of small patches, each of the last one's, before the one that makes tokens; mostly none.
    pub(crate) stem: Vec<Patches>,
    pub(crate) patches: Patches,
    /// Embedding and position of the class token in one, `[dim]`.
    pub(crate) class: Option<Vec<f32>>,
    /// Those of the patches, `[patches, dim]`.
    pub(crate) positions: Vec<f32>,
    pub(crate) norm_before: Option<LayerNorm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) pooling: Pooling,
    pub(crate) projection: Option<Linear>,
    pub(crate) dim: usize,
    /// Patches and blocks on a GPU, where they were brought there.
    pub(crate) device: Option<DevicePictures>,
}

/// Pictures of which the states are pooled together by one thread.
const POOLED_AT_A_TIME: usize = 8;

/// How the states after the last block become one vector; each with its normalisation.
pub(crate) enum Pooling {
    /// The class token's.
    Class(LayerNorm),
    /// The mean over the patches, of states that are normalised.
    MeanOfNormed(LayerNorm),
    /// The mean over the patches, which is then normalised.
    NormedMean(LayerNorm),
    /// Attention of a learnt query to the states, normalised, and a feed-forward part: SigLIP.
    Probe(LayerNorm, Box<Probe>),
    /// Attention of learnt queries to the states: CoCa.
    Queries(Box<Queries>),
}

/// The blocks, whose parts have these names.
pub(crate) fn blocks(
    w: &mut Weights,
    names: &dyn Fn(usize) -> BlockNames,
    n: usize,
    shape: BlockShape,
) -> Result<Vec<Block>, WeightsError> {
    (0..n).map(|i| Block::load(w, &names(i), shape)).collect()
}

impl Net<FeatureMap> for VisionTransformer {
    fn dim(&self) -> usize {
        self.projection.as_ref().map_or_else(|| self.pooling.dim(self.dim), Linear::n_out)
    }

    fn rows(&self, _: &FeatureMap) -> usize {
        usize::from(self.class.is_some()) + self.positions.len() / self.dim
    }

    fn width(&self) -> Option<usize> {
        Some(self.dim)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let mut patches = Vec::new();
        if self.stem.is_empty() {
            self.patches.forward(pictures, &mut patches);
        } else {
            let through = |picture: &FeatureMap| self.stem.iter().fold(picture.clone(), |map, layer| layer.map(&map));
            self.patches.forward(&pictures.iter().map(through).collect::<Vec<_>>(), &mut patches);
        }
        let first = self.class.as_deref().unwrap_or_default();
        let n = (first.len() + self.positions.len()) / self.dim;
        let mut x = Vec::with_capacity(pictures.len() * n * self.dim);
        for patches in patches.chunks_exact(self.positions.len()) {
            x.extend_from_slice(first);
            x.extend(patches.iter().zip(&self.positions).map(|(v, p)| v + p));
        }
        if let Some(norm) = &self.norm_before {
            norm.forward(&mut x);
        }
        let lengths = vec![n; pictures.len()];
        run(&self.blocks, &mut x, &lengths, Mask::None, watch);
        self.pooled(x, &lengths)
    }

    fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        if !self.stem.is_empty() {
            return Ok(false);
        }
        let parts = self.patches.parts(self.class.as_deref(), &self.positions, self.norm_before.as_ref());
        self.device = Some(DevicePictures::new(device, parts, &self.blocks)?);
        Ok(true)
    }

    fn embed_all(&self, pictures: &[FeatureMap]) -> Result<Vec<Vec<f32>>, DeviceError> {
        let Some(device) = &self.device else { return Ok(on_all_cores(self, pictures)) };
        let (keep, n) = match self.pooling {
            Pooling::Class(_) => (Keep::First, 1),
            Pooling::MeanOfNormed(_) | Pooling::NormedMean(_) | Pooling::Probe(..) | Pooling::Queries(_) => {
                (Keep::All, usize::from(self.class.is_some()) + self.positions.len() / self.dim)
            }
        };
        Ok(self.pooled_on_all_cores(&device.forward(pictures, keep)?, n))
    }
}

impl VisionTransformer {
    /// Brings pictures to the GPU that the network was brought to, for [`Self::embed_uploaded`].
    #[cfg(all(test, feature = "cuda"))]
    pub(crate) fn upload(&self, pictures: &[FeatureMap]) -> Result<chiasm_nn::cuda::Uploaded, DeviceError> {
        self.device.as_ref().expect("it was brought there").upload(pictures)
    }

    /// As [`Net::embed_all`], for pictures that are there, and pooling by the class token.
    #[cfg(all(test, feature = "cuda"))]
    pub(crate) fn embed_uploaded(&self, pictures: &chiasm_nn::cuda::Uploaded) -> Result<Vec<Vec<f32>>, DeviceError> {
        let device = self.device.as_ref().expect("it was brought there");
        Ok(self.pooled_on_all_cores(&device.forward_uploaded(pictures, Keep::First)?, 1))
    }

    /// Embeddings from the states of pictures, `n` of each.
    fn pooled_on_all_cores(&self, states: &[f32], n: usize) -> Vec<Vec<f32>> {
        let some = states.par_chunks(POOLED_AT_A_TIME * n * self.dim);
        some.flat_map_iter(|states| self.pooled(states.to_vec(), &vec![n; states.len() / (n * self.dim)])).collect()
    }

    /// Embeddings from the states of pictures, or from the class tokens' alone where no others count.
    fn pooled(&self, states: Vec<f32>, lengths: &[usize]) -> Vec<Vec<f32>> {
        let pooled = self.pooling.forward(states, lengths, self.dim, usize::from(self.class.is_some()));
        match &self.projection {
            Some(projection) => projected(projection, &pooled),
            None => pooled.chunks_exact(self.pooling.dim(self.dim)).map(<[f32]>::to_vec).collect(),
        }
    }
}

impl Pooling {
    /// Numbers per picture, of states of `dim`.
    fn dim(&self, dim: usize) -> usize {
        match self {
            Pooling::Queries(queries) => queries.out.n_out(),
            Pooling::Class(_) | Pooling::MeanOfNormed(_) | Pooling::NormedMean(_) | Pooling::Probe(..) => dim,
        }
    }

    /// One vector per picture, one after the other, from the states `[sum of lengths, dim]`, of which the first `n_before` of each
    /// picture are no patches.
    pub(crate) fn forward(&self, mut x: Vec<f32>, lengths: &[usize], dim: usize, n_before: usize) -> Vec<f32> {
        let each = |x: &[f32], one: &dyn Fn(&[f32]) -> Vec<f32>| {
            let mut rest = x;
            let mut next = |n: &usize| {
                let (states, after) = rest.split_at(n * dim);
                rest = after;
                one(states)
            };
            lengths.iter().flat_map(&mut next).collect::<Vec<f32>>()
        };
        match self {
            Pooling::Class(norm) => {
                let mut first = each(&x, &|states| states[..dim].to_vec());
                norm.forward(&mut first);
                first
            }
            Pooling::MeanOfNormed(norm) => {
                norm.forward(&mut x);
                each(&x, &|states| mean(&states[n_before * dim..], dim))
            }
            Pooling::NormedMean(norm) => {
                let mut means = each(&x, &|states| mean(&states[n_before * dim..], dim));
                norm.forward(&mut means);
                means
            }
            Pooling::Probe(norm, probe) => {
                norm.forward(&mut x);
                probe.forward(&x, lengths)
            }
            Pooling::Queries(queries) => queries.forward(x, lengths),
        }
    }
}

/// The mean over rows of `dim`, summed in `f64`.
fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let n = (rows.len() / dim) as f64;
    sums.iter().map(|sum| (sum / n) as f32).collect()
}

/// A learnt query to all tokens, then a feed-forward part with a shortcut around it ("MAP head", Zhai et al., "Scaling Vision
/// Transformers", CVPR 2022).
pub(crate) struct Probe {
    /// `[dim]`.
    pub(crate) probe: Vec<f32>,
    pub(crate) attention: CrossAttention,
    pub(crate) out: Linear,
    pub(crate) norm: LayerNorm,
    pub(crate) widen: Linear,
    pub(crate) narrow: Linear,
}

impl Probe {
    /// Takes what stands behind the attention, which is given: the layer after it, the normalisation and the two layers of the
    /// feed-forward part, by these names.
    pub(crate) fn load(
        w: &mut Weights,
        probe: Vec<f32>,
        attention: CrossAttention,
        [out, norm, widen, narrow]: [&str; 4],
        shape: BlockShape,
    ) -> Result<Self, WeightsError> {
        let BlockShape { dim, wide, eps, activation, .. } = shape;
        Ok(Self {
            probe,
            attention,
            out: Linear::load(w, out, dim, dim, Activation::None)?,
            norm: LayerNorm::load(w, norm, dim, eps)?,
            widen: Linear::load(w, widen, dim, wide, activation)?,
            narrow: Linear::load(w, narrow, wide, dim, Activation::None)?,
        })
    }

    /// `[dim]` for each of the sequences in `x`, `[sum of lengths, dim]`, one after the other.
    fn forward(&self, x: &[f32], lengths: &[usize]) -> Vec<f32> {
        let probes = self.probe.repeat(lengths.len());
        let (mut mixed, mut pooled, mut wide, mut y) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let ones = vec![1; lengths.len()];
        self.attention.forward((&probes, &ones), (x, lengths), &mut mixed, &mut AttentionScratch::default());
        self.out.forward(&mixed, &mut pooled);
        let mut normed = pooled.clone();
        self.norm.forward(&mut normed);
        self.widen.forward(&normed, &mut wide);
        self.narrow.forward(&wide, &mut y);
        pooled.iter_mut().zip(&y).for_each(|(v, y)| *v += y);
        pooled
    }
}

/// Learnt queries to all tokens (Yu et al., "CoCa: Contrastive Captioners are Image-Text Foundation Models", TMLR 2022). Those that
/// only captions look at are left out.
pub(crate) struct Queries {
    /// `[queries, dim of the embedding]`, normalised.
    pub(crate) queries: Vec<f32>,
    /// The normalisation of the tokens.
    pub(crate) norm_tokens: LayerNorm,
    pub(crate) attention: CrossAttention,
    pub(crate) out: Linear,
    /// The normalisation of what the queries gathered.
    pub(crate) norm: LayerNorm,
}

impl Queries {
    /// The mean over the queries for each of the sequences in `x`, one after the other.
    fn forward(&self, mut x: Vec<f32>, lengths: &[usize]) -> Vec<f32> {
        let dim = self.out.n_out();
        let n = self.queries.len() / dim;
        self.norm_tokens.forward(&mut x);
        let (mut mixed, mut gathered) = (Vec::new(), Vec::new());
        let queries = self.queries.repeat(lengths.len());
        let counts = vec![n; lengths.len()];
        self.attention.forward((&queries, &counts), (&x, lengths), &mut mixed, &mut AttentionScratch::default());
        self.out.forward(&mixed, &mut gathered);
        self.norm.forward(&mut gathered);
        gathered.chunks_exact(n * dim).flat_map(|states| mean(states, dim)).collect()
    }
}
