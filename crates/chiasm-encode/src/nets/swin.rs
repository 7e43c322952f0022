//! Swin: pictures to the mean of patches that attend within windows, which shift from block to block.
//!
//! # Reference
//! Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021. Checked block by block against
//! `SwinModel` and `SwinForImageClassification` of transformers. Differs from it in: nothing.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `swin`), `preprocessor_config.json`, the weights.
//! # Preprocessing
//! To the size of the training, cubic, the shape not kept, ImageNet's mean and deviation, unless the description says otherwise. A
//! picture that does not divide into patches is filled up with zeros at the right and the bottom.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -2..2.7 |
//! | patches of stage `i` | `[56 / 2^i, 56 / 2^i, embed_dim 2^i]` | any |
//! | embedding | `[embed_dim 2^(stages - 1)]`, the mean of normalised patches | any |

use std::path::Path;

use chiasm_media::Filter;
use chiasm_nn::{FeatureMap, LayerNorm, Weights};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor};
use crate::model::{self, Output};
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};
use crate::nets::patches::Patches;
use crate::nets::windows::{Naming, Sizes, Stages, means};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "swin 1";

/// Added to the variance in the normalisation of the patches, whatever the description says of the others: PyTorch's default.
const PATCHES_EPS: f32 = 1e-5;

/// `config.json`. What is silent has the reference's default, which is that of Swin-T.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    image_size: Sides,
    patch_size: Sides,
    embed_dim: usize,
    depths: Vec<usize>,
    num_heads: Vec<usize>,
    window_size: usize,
    mlp_ratio: f32,
    qkv_bias: bool,
    hidden_act: String,
    use_absolute_embeddings: bool,
    layer_norm_eps: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: Sides::Square(224),
            patch_size: Sides::Square(4),
            embed_dim: 96,
            depths: vec![2, 2, 6, 2],
            num_heads: vec![3, 6, 12, 24],
            window_size: 7,
            mlp_ratio: 4.0,
            qkv_bias: true,
            hidden_act: "gelu".to_owned(),
            use_absolute_embeddings: false,
            layer_norm_eps: 1e-5,
        }
    }
}

/// One number for both sides, or height and width.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(crate) enum Sides {
    Square(u32),
    Box([u32; 2]),
}

impl Sides {
    /// Height and width.
    pub(crate) fn pair(self) -> [u32; 2] {
        match self {
            Self::Square(side) => [side; 2],
            Self::Box(sides) => sides,
        }
    }
}

impl Config {
    /// Height and width of the pictures that it was trained on.
    pub(crate) fn image_size(&self) -> [u32; 2] {
        self.image_size.pair()
    }

    /// Side of a patch and the sizes of the stages, for pictures of a shape; refuses what does not fit.
    pub(crate) fn sizes(&self, path: &Path, shape: [u32; 2], naming: Naming) -> Result<(usize, Sizes<'_>), OpenError> {
        let [side, across] = self.patch_size.pair();
        model::expect(path, side == across && side > 0, || {
            format!("patches of {side} x {across} pixels, expected squares of at least one")
        })?;
        let sizes = Sizes {
            dim: self.embed_dim,
            depths: &self.depths,
            n_heads: &self.num_heads,
            window: self.window_size,
            mlp_ratio: self.mlp_ratio,
            activation: model::activation(path, &self.hidden_act)?,
            eps: self.layer_norm_eps,
            biased: self.qkv_bias,
            grid: shape.map(|n| n.div_ceil(side) as usize),
        };
        sizes.check(path, naming)?;
        let trained = self.image_size().map(|n| (n / side) as usize);
        model::expect(path, !self.use_absolute_embeddings || trained == sizes.grid, || {
            format!(
                "{} x {} patches have positions, the preprocessing gives {} x {}",
                trained[0], trained[1], sizes.grid[0], sizes.grid[1]
            )
        })?;
        Ok((side as usize, sizes))
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    model::expect(&path, wanted.output == Output::Embedding, || {
        "the classes of this architecture are not read: leave out `:classes` to have its features".to_owned()
    })?;
    let processor = ImageProcessor::open(files, preprocessing(&c))?;
    let mut w = files.weights()?;
    let prefix = if w.has("swin.embeddings.patch_embeddings.projection.weight") { "swin." } else { "" };
    let net = Swin::load(&mut w, &path, &c, processor.shape(), Naming::HuggingFace, prefix)?;
    w.skip(&format!("{prefix}embeddings.mask_token"));
    w.skip_prefix("classifier.");
    w.skip_prefix("decoder.");
    w.finish()?;
    Ok(Opened { tower: Tower::Image(processor, Box::new(net)), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}

/// What is done to pictures where no description says it.
pub(crate) fn preprocessing(c: &Config) -> Defaults {
    let [height, _] = c.image_size();
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Defaults { side: height, square: true, filter: Filter::Bicubic, crop: false, mean, std }
}

/// The network.
pub(crate) struct Swin {
    patches: Patches,
    side: usize,
    patches_norm: LayerNorm,
    /// `[rows, columns, dim]`; empty where the only positions are those within windows.
    positions: Vec<f32>,
    stages: Stages,
    norm: LayerNorm,
    /// Numbers per patch in the first stage and after the last.
    dims: [usize; 2],
}

impl Swin {
    /// Takes the tensors after `prefix` of a network that is given pictures of `shape`; `path` is where the description stands.
    pub(crate) fn load(
        w: &mut Weights,
        path: &Path,
        c: &Config,
        shape: [u32; 2],
        naming: Naming,
        prefix: &str,
    ) -> Result<Self, OpenError> {
        let (side, sizes) = c.sizes(path, shape, naming)?;
        let (dim, last_dim, n) = (sizes.dim, sizes.last_dim(), sizes.grid[0] * sizes.grid[1]);
        let at = |part: &str| format!("{prefix}{part}");
        let [patches, patches_norm, positions, stages, norm] = match naming {
            Naming::HuggingFace => [
                "embeddings.patch_embeddings.projection",
                "embeddings.norm",
                "embeddings.position_embeddings",
                "encoder.",
                "layernorm",
            ],
            Naming::Authors => ["patch_embed.proj", "patch_embed.norm", "absolute_pos_embed", "", "norm"],
        };
        Ok(Self {
            patches: Patches::load(w, &at(patches), [dim, 3, side], true)?,
            side,
            patches_norm: LayerNorm::load(w, &at(patches_norm), dim, PATCHES_EPS)?,
            positions: if c.use_absolute_embeddings { w.take(&at(positions), &[1, n, dim])? } else { Vec::new() },
            stages: Stages::load(w, &at(stages), naming, sizes)?,
            norm: LayerNorm::load(w, &at(norm), last_dim, c.layer_norm_eps)?,
            dims: [dim, last_dim],
        })
    }

    /// The mean of the patches of each picture after the last stage, normalised.
    pub(crate) fn pooled(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let whole: Vec<FeatureMap> = pictures.iter().map(|picture| filled_up(picture, self.side)).collect();
        let mut x = Vec::new();
        self.patches.forward(&whole, &mut x);
        self.patches_norm.forward(&mut x);
        if !self.positions.is_empty() {
            for patches in x.chunks_exact_mut(self.positions.len()) {
                patches.iter_mut().zip(&self.positions).for_each(|(v, p)| *v += p);
            }
        }
        self.stages.forward(&mut x, watch);
        self.norm.forward(&mut x);
        means(&x, self.stages.n_last(), self.dims[1])
    }

    /// Numbers per patch after the last stage.
    pub(crate) fn last_dim(&self) -> usize {
        self.dims[1]
    }

    /// Patches of a picture in the first stage.
    pub(crate) fn n_patches(&self, picture: &FeatureMap) -> usize {
        picture.height.div_ceil(self.side) * picture.width.div_ceil(self.side)
    }
}

impl Net<FeatureMap> for Swin {
    fn dim(&self) -> usize {
        self.last_dim()
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        self.n_patches(picture)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        self.pooled(pictures, watch)
    }
}

/// The picture with zeros at the right and the bottom, up to multiples of `side`.
fn filled_up(picture: &FeatureMap, side: usize) -> FeatureMap {
    let (channels, mut out) = (picture.channels, FeatureMap::default());
    out.reshape(picture.height.next_multiple_of(side), picture.width.next_multiple_of(side), channels);
    let (from, to) = (picture.width * channels, out.width * channels);
    for (out, row) in out.data.chunks_exact_mut(to).zip(picture.data.chunks_exact(from)) {
        out[..from].copy_from_slice(row);
    }
    out
}
