//! SigLIP 2 over pictures of any shape (NaFlex): a picture keeps its proportions, is cut into as many patches as fill it, and the
//! table of positions is resized to their grid.
//!
//! # Reference
//! Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, Localization, and Dense
//! Features", 2025, section 2.4.2; the checkpoints for pictures of one size open in `siglip.rs`. Checked layer by layer against
//! `Siglip2Model` of transformers. Differs from it in: pictures are not filled up with patches that nobody sees, so sequences of
//! different length stand one after the other; texts are in lower case whatever the tokeniser, are filled up at their end, and see
//! what fills them, as all checkpoints were trained.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `siglip2`), `preprocessor_config.json`, `tokenizer.json`,
//! `tokenizer_config.json` for the name of the padding, the weights.
//! # Preprocessing
//! Pictures: to the largest size of their shape that at most 256 patches of 16 x 16 fill, sides rounded up to whole patches, by a
//! triangle, to -1..1, unless the description says otherwise. Texts: lower case, cut and filled up to 64 tokens.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[16 down, 16 across, 3]` in pixels, `down * across` at most 256 | -1..=1 |
//! | table of positions | `[16 * 16, dim]` | any |
//! | tokens of a picture | `[down * across, dim]` | any |
//! | tokens of a text | `[64, dim]` | any |
//! | embedding | `[dim of the vision tower]` | unit length |

use chiasm_core::Modality;
use chiasm_nn::cuda::{Device, DeviceError, DeviceStack, Keep};
use chiasm_nn::{Block, FeatureMap, Mask, Order, Weights};
use rayon::prelude::*;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::ImageProcessor;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch, groups_for_threads, on_all_cores, run};
use crate::nets::class_token;
use crate::nets::patches::Patches;
use crate::nets::siglip::{self, TextConfig};
use crate::nets::vision_transformer::{self, Pooling};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "siglip2 1";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
}

/// What is silent has the reference's default, which is that of the base model.
#[derive(Deserialize)]
#[serde(default)]
struct VisionConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    patch_size: usize,
    /// Rows of the table of positions, a square.
    num_patches: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    vision_use_head: bool,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            patch_size: 16,
            num_patches: 256,
            hidden_act: "gelu_pytorch_tanh".to_owned(),
            layer_norm_eps: 1e-6,
            vision_use_head: true,
        }
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let tower = if wanted.modality == Modality::Text {
        siglip::open_text(files, &path, &config.text_config)?
    } else {
        let c = &config.vision_config;
        let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
        let shape = model::block_shape(&path, "vision_config", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
        siglip::has_head(&path, c.vision_use_head)?;
        model::expect(&path, c.num_channels == 3, || {
            format!("vision_config: num_channels is {}, expected 3: red, green and blue", c.num_channels)
        })?;
        let side = c.num_patches.isqrt();
        model::expect(&path, side > 0 && side * side == c.num_patches, || {
            format!("vision_config: num_patches is {}, expected a square as 256: the positions of a square grid", c.num_patches)
        })?;
        let (processor, patch) = ImageProcessor::in_patches(files)?;
        model::expect(&path, c.patch_size == patch as usize, || {
            format!(
                "vision_config: patch_size is {}, patch_size of preprocessor_config.json is {patch}: take both files from one model",
                c.patch_size
            )
        })?;
        let mut w = files.weights()?;
        let blocks =
            |w: &mut Weights| vision_transformer::blocks(w, &|i| siglip::names("vision_model", i), c.num_hidden_layers, shape);
        let net = VisionTower {
            patches: Patches::load_flat(&mut w, "vision_model.embeddings.patch_embedding", [shape.dim, 3, c.patch_size])?,
            positions: w.take("vision_model.embeddings.position_embedding.weight", &[c.num_patches, shape.dim])?,
            side,
            blocks: blocks(&mut w)?,
            pooling: siglip::pooling(&mut w, shape)?,
            dim: shape.dim,
            device: None,
        };
        siglip::finish(w, "text_model.")?;
        Tower::Image(processor, Box::new(net))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// The tower of pictures.
struct VisionTower {
    patches: Patches,
    /// The table of positions, `[side * side, dim]`.
    positions: Vec<f32>,
    side: usize,
    blocks: Vec<Block>,
    pooling: Pooling,
    dim: usize,
    /// The blocks on a GPU, where they were brought there.
    device: Option<DeviceStack>,
}

impl VisionTower {
    /// The states that go into the first block, `[patches of all pictures, dim]`.
    fn tokens(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<f32> {
        let (mut x, mut positions) = (Vec::new(), Vec::new());
        self.patches.forward(pictures, &mut x);
        for picture in pictures {
            let [down, across] = self.patches.grid(picture).map(|n| taps(self.side, n));
            class_token::mixed(&self.positions, self.side, [&down, &across], self.dim, &mut positions);
        }
        watch("hidden.positions", &positions);
        x.iter_mut().zip(&positions).for_each(|(v, position)| *v += position);
        x
    }

    /// Embeddings from the states behind the last block.
    fn pooled(&self, states: Vec<f32>, lengths: &[usize]) -> Vec<Vec<f32>> {
        self.pooling.forward(states, lengths, self.dim, 0).chunks_exact(self.dim).map(<[f32]>::to_vec).collect()
    }
}

impl Net<FeatureMap> for VisionTower {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        self.patches.count(picture)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = pictures.iter().map(|picture| self.rows(picture)).collect();
        let mut x = self.tokens(pictures, watch);
        run(&self.blocks, &mut x, &lengths, Mask::None, watch);
        self.pooled(x, &lengths)
    }

    /// The blocks alone: the kernels for patches know pictures of one size.
    fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        self.device = Some(DeviceStack::new(device, &self.blocks)?);
        Ok(true)
    }

    fn embed_all(&self, pictures: &[FeatureMap]) -> Result<Vec<Vec<f32>>, DeviceError> {
        let Some(device) = &self.device else { return Ok(on_all_cores(self, pictures)) };
        let lengths: Vec<usize> = pictures.iter().map(|picture| self.rows(picture)).collect();
        let groups = groups_for_threads(&lengths);
        let tokens = groups.par_iter().flat_map_iter(|group| self.tokens(&pictures[group.clone()], &mut |_, _| {}));
        let states = device.forward(&tokens.collect::<Vec<f32>>(), &lengths, false, Keep::All)?;
        let mut rest = states.as_slice();
        let parts: Vec<(&[f32], &[usize])> = groups
            .iter()
            .map(|group| {
                let lengths = &lengths[group.clone()];
                let (part, after) = rest.split_at(lengths.iter().sum::<usize>() * self.dim);
                rest = after;
                (part, lengths)
            })
            .collect();
        Ok(parts.into_par_iter().flat_map_iter(|(states, lengths)| self.pooled(states.to_vec(), lengths)).collect())
    }
}

/// For each of `n_out` cells along a side those of `n_in` that it is mixed from, and their weights, which sum to 1: a triangle around the
/// middle of the new cell, as wide as two cells of the coarser side (bilinear, antialiased).
fn taps(n_in: usize, n_out: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = n_in as f64 / n_out as f64;
    let reach = scale.max(1.0);
    let cell = |i: usize| {
        let middle = (i as f64 + 0.5) * scale;
        let first = (middle - reach + 0.5).max(0.0) as usize;
        let end = ((middle + reach + 0.5) as usize).min(n_in);
        let weights: Vec<f64> = (first..end).map(|at| (1.0 - ((at as f64 + 0.5 - middle) / reach).abs()).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        (first..end).zip(weights).map(|(at, weight)| (at, (weight / sum) as f32)).filter(|(_, weight)| *weight > 0.0).collect()
    };
    (0..n_out).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_mixed_by_a_triangle() {
        assert_eq!(taps(3, 3), [[(0, 1.0)], [(1, 1.0)], [(2, 1.0)]]);
        // Twice as many: three quarters of the nearer, a quarter of the farther, the rim as it is.
        assert_eq!(taps(2, 4), [vec![(0, 1.0)], vec![(0, 0.75), (1, 0.25)], vec![(0, 0.25), (1, 0.75)], vec![(1, 1.0)]]);
        // Half as many: what lies beyond the rim is left out, and the rest weighs the more.
        assert_eq!(taps(4, 2)[0], [(0, 3.0 / 7.0), (1, 3.0 / 7.0), (2, 1.0 / 7.0)]);
        for (n_in, n_out) in [(1, 9), (16, 1), (16, 23), (16, 7), (5, 4096)] {
            let taps = taps(n_in, n_out);
            assert_eq!(taps.len(), n_out);
            for cell in taps {
                assert!((cell.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(cell.iter().all(|(at, _)| *at < n_in));
            }
        }
    }
}
