//! What ViT and DINOv2 share: patches with a class token before them, whose state after the last block stands for the picture.

use chiasm_nn::cuda::{Device, DeviceError, DevicePictures, Keep};
use chiasm_nn::{Block, BlockNames, BlockShape, FeatureMap, LayerNorm, Mask, Qkv, Weights, WeightsError};
use rayon::prelude::*;

use crate::net::{Net, Watch, on_all_cores, run};
use crate::nets::patches::Patches;

/// Where the checkpoint's network begins: behind `name.` where it was saved with a head on top.
pub(crate) fn prefix(w: &Weights, name: &str) -> String {
    let behind = format!("{name}.");
    if w.has(&format!("{behind}embeddings.cls_token")) { behind } else { String::new() }
}

/// Names of the attention in the block `at`, the same in both.
pub(crate) fn attention_names(at: &str, biased: bool) -> (Qkv, String) {
    let qkv = ["query", "key", "value"].map(|part| format!("{at}attention.attention.{part}"));
    (if biased { Qkv::Separate(qkv) } else { Qkv::Unbiased(qkv) }, format!("{at}attention.output.dense"))
}

/// What the block `at` calls its parts in ViT and AST.
pub(crate) fn vit_names(at: &str, biased: bool) -> BlockNames {
    let (qkv, out) = attention_names(at, biased);
    BlockNames {
        qkv,
        out,
        norm_1: format!("{at}layernorm_before"),
        widen: format!("{at}intermediate.dense"),
        narrow: format!("{at}output.dense"),
        norm_2: format!("{at}layernorm_after"),
        scales: None,
    }
}

/// Side of a patch, and how many a picture has: of the pictures that the positions were trained for, along a side, and of those
/// that the network is given, down and across.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) patch: usize,
    pub(crate) trained: usize,
    pub(crate) given: [usize; 2],
}

/// Patches, class token, positions, blocks, a normalisation; the embedding is the class token's state, `[dim]`, and the mean of the
/// patches' states behind it where that is asked for.
pub(crate) struct ClassToken {
    patches: Patches,
    /// Its embedding and its position in one, `[dim]`.
    class: Vec<f32>,
    /// Those of the patches, `[patches, dim]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    dim: usize,
    with_mean: bool,
    /// Patches and blocks on a GPU, where they were brought there.
    device: Option<DevicePictures>,
}

impl ClassToken {
    /// Takes the tensors after `prefix`; those of block `i` by `names(i)`.
    pub(crate) fn load(
        w: &mut Weights,
        prefix: &str,
        grid: Grid,
        shape: BlockShape,
        n_blocks: usize,
        names: impl Fn(usize) -> BlockNames,
    ) -> Result<Self, WeightsError> {
        let dim = shape.dim;
        let mut class = w.take(&format!("{prefix}embeddings.cls_token"), &[1, 1, dim])?;
        let n = grid.trained * grid.trained;
        let mut positions = w.take(&format!("{prefix}embeddings.position_embeddings"), &[1, 1 + n, dim])?;
        class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
        if grid.given != [grid.trained; 2] {
            positions = resized(&positions, grid.trained, grid.given, dim);
        }
        Ok(Self {
            patches: Patches::load(w, &format!("{prefix}embeddings.patch_embeddings.projection"), [dim, 3, grid.patch], true)?,
            class,
            positions,
            blocks: (0..n_blocks).map(|i| Block::load(w, &names(i), shape)).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(w, &format!("{prefix}layernorm"), dim, shape.eps)?,
            dim,
            with_mean: false,
            device: None,
        })
    }

    /// Puts the mean of the patches' states behind the class token's.
    pub(crate) fn with_mean(self) -> Self {
        Self { with_mean: true, ..self }
    }
}

impl Net<FeatureMap> for ClassToken {
    fn dim(&self) -> usize {
        if self.with_mean { 2 * self.dim } else { self.dim }
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        1 + self.patches.count(picture)
    }

    fn width(&self) -> Option<usize> {
        Some(self.dim)
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.dim;
        let mut patches = Vec::new();
        self.patches.forward(pictures, &mut patches);
        let n = 1 + self.positions.len() / dim;
        let mut x = Vec::with_capacity(pictures.len() * n * dim);
        for patches in patches.chunks_exact((n - 1) * dim) {
            x.extend_from_slice(&self.class);
            x.extend(patches.iter().zip(&self.positions).map(|(v, p)| v + p));
        }
        run(&self.blocks, &mut x, &vec![n; pictures.len()], Mask::None, watch);
        self.pooled(x, n)
    }

    fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        let parts = self.patches.parts(Some(&self.class), &self.positions, None);
        self.device = Some(DevicePictures::new(device, parts, &self.blocks)?);
        Ok(true)
    }

    fn embed_all(&self, pictures: &[FeatureMap]) -> Result<Vec<Vec<f32>>, DeviceError> {
        let Some(device) = &self.device else { return Ok(on_all_cores(self, pictures)) };
        let (keep, n) = if self.with_mean { (Keep::All, 1 + self.positions.len() / self.dim) } else { (Keep::First, 1) };
        let states = device.forward(pictures, keep)?;
        Ok(states.par_chunks(n * self.dim).flat_map_iter(|states| self.pooled(states.to_vec(), n)).collect())
    }
}

impl ClassToken {
    /// Embeddings from the states of pictures, `n` of each.
    fn pooled(&self, mut states: Vec<f32>, n: usize) -> Vec<Vec<f32>> {
        let dim = self.dim;
        if self.with_mean {
            self.norm.forward(&mut states);
            return states.chunks_exact(n * dim).map(|tokens| [&tokens[..dim], &mean(&tokens[dim..], dim)].concat()).collect();
        }
        let mut classes: Vec<f32> = states.chunks_exact(n * dim).flat_map(|tokens| &tokens[..dim]).copied().collect();
        self.norm.forward(&mut classes);
        classes.chunks_exact(dim).map(<[f32]>::to_vec).collect()
    }
}

/// The mean of rows, `[dim]`.
fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let n = (rows.len() / dim).max(1) as f64;
    sums.iter().map(|sum| (sum / n) as f32).collect()
}

/// Positions of a square grid for one of another shape: cubic convolution around the place that the middle of each new cell has in the
/// old grid.
fn resized(positions: &[f32], side: usize, [height, width]: [usize; 2], dim: usize) -> Vec<f32> {
    let mut out = Vec::new();
    mixed(positions, side, [&taps(side, height), &taps(side, width)], dim, &mut out);
    out
}

/// Appends the cells, `[height * width, dim]`, that are mixed from those of a square grid, `[side * side, dim]`: for each row and for each
/// column the old ones that it is mixed from, and their weights.
pub(crate) fn mixed<T: AsRef<[(usize, f32)]>>(
    old: &[f32],
    side: usize,
    [down, across]: [&[T]; 2],
    dim: usize,
    out: &mut Vec<f32>,
) {
    let before = out.len();
    out.resize(before + down.len() * across.len() * dim, 0.0);
    for (cell, out) in out[before..].chunks_exact_mut(dim).enumerate() {
        for (y, weight_y) in down[cell / across.len()].as_ref() {
            for (x, weight_x) in across[cell % across.len()].as_ref() {
                let from = &old[(y * side + x) * dim..][..dim];
                out.iter_mut().zip(from).for_each(|(out, v)| *out += weight_y * weight_x * v);
            }
        }
    }
}

/// For each of `n_out` cells along a side the four of `n_in` that it is mixed from, and their weights, which sum to 1.
fn taps(n_in: usize, n_out: usize) -> Vec<[(usize, f32); 4]> {
    let scale = n_in as f32 / n_out as f32;
    (0..n_out).map(|i| cubic((i as f32 + 0.5) * scale - 0.5, n_in)).collect()
}

/// The four cells of `n` from which cubic convolution (Keys 1981, with a = -3/4) mixes what lies at a place, and their weights, which
/// sum to 1. The rim is continued outwards.
pub(crate) fn cubic(at: f32, n: usize) -> [(usize, f32); 4] {
    const A: f32 = -0.75;
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let (first, t) = (at.floor() as isize - 1, at - at.floor());
    let weights = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
    std::array::from_fn(|k| ((first + k as isize).clamp(0, n as isize - 1) as usize, weights[k]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_keeps_what_is_even_and_what_rises_evenly() {
        // A constant stays, for the weights sum to 1; in the middle of a ramp, where no rim is touched, it stays a ramp.
        let ramp: Vec<f32> = (0..64).flat_map(|i| [7.0, (i % 8) as f32]).collect();
        let out = resized(&ramp, 8, [4, 16], 2);
        for (cell, v) in out.chunks_exact(2).enumerate() {
            assert!((v[0] - 7.0).abs() < 1e-5);
            let x = cell % 16;
            if (4..12).contains(&x) {
                assert!((v[1] - ((x as f32 + 0.5) / 2.0 - 0.5)).abs() < 0.1, "{x}: {}", v[1]);
            }
        }
        assert_eq!(resized(&ramp, 8, [8, 8], 2), ramp);
    }
}
