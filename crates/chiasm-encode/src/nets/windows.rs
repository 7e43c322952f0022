//! What networks share that attend within windows of a grid and merge its patches: the stages of Swin, and of what is built like it.

use std::path::Path;

use chiasm_nn::{Activation, BlockNames, BlockShape, Order, PatchMerge, Qkv, Weights, WindowBlock, WindowScratch};

use crate::error::OpenError;
use crate::model;
use crate::net::Watch;

/// How the checkpoint calls the parts of a block, which stand in `{prefix}layers.{stage}.blocks.{block}.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As Hugging Face's checkpoints: `attention.self.query`.
    HuggingFace,
    /// As the authors' own: `attn.qkv`.
    Authors,
}

/// Sizes of all stages.
#[derive(Clone, Copy)]
pub(crate) struct Sizes<'a> {
    /// Numbers per patch in the first stage; each next has twice as many.
    pub(crate) dim: usize,
    /// Blocks of each stage.
    pub(crate) depths: &'a [usize],
    /// Attention heads of each stage.
    pub(crate) n_heads: &'a [usize],
    /// Side of a window.
    pub(crate) window: usize,
    /// Width of the feed-forward part as a multiple of the width of a patch.
    pub(crate) mlp_ratio: f32,
    pub(crate) activation: Activation,
    /// Added to the variance in the normalisations of the blocks.
    pub(crate) eps: f32,
    /// Whether query, key and value have biases.
    pub(crate) biased: bool,
    /// Rows and columns of the first stage.
    pub(crate) grid: [usize; 2],
}

impl Sizes<'_> {
    /// Numbers per patch after the last stage.
    pub(crate) fn last_dim(&self) -> usize {
        self.dim << (self.depths.len() - 1)
    }

    /// Refuses sizes that no network has; `path` is where the description stands. Nothing else here is to be called before.
    pub(crate) fn check(&self, path: &Path, naming: Naming) -> Result<(), OpenError> {
        let n_stages = self.depths.len();
        model::expect(path, (1..=16).contains(&n_stages) && self.n_heads.len() == n_stages, || {
            format!("{n_stages} depths and {} num_heads, expected as many of both, at most 16", self.n_heads.len())
        })?;
        model::expect(path, (1..=1 << 16).contains(&self.dim), || {
            format!("patches of width {}, expected 1 to 65536", self.dim)
        })?;
        for (stage, n_heads) in self.n_heads.iter().enumerate() {
            let dim = self.dim << stage;
            model::expect(path, *n_heads > 0 && dim.is_multiple_of(*n_heads), || {
                format!("stage {stage}: the width {dim} does not divide into {n_heads} attention heads")
            })?;
        }
        model::expect(path, (1..=1 << 12).contains(&self.window), || {
            format!("window_size is {}, expected 1 to 4096", self.window)
        })?;
        model::expect(path, self.mlp_ratio > 0.0 && self.mlp_ratio <= 1024.0, || {
            format!("mlp_ratio is {}, expected a number above 0, at most 1024", self.mlp_ratio)
        })?;
        model::expect(path, self.wide(self.dim) > 0, || "the feed-forward part has no width".to_owned())?;
        model::expect(path, self.grid[0] > 0 && self.grid[1] > 0, || "the picture has no patches".to_owned())?;
        let mut grid = self.grid;
        for stage in 0..n_stages {
            let [rows, columns] = grid;
            // The authors make the windows of such a stage smaller, and its biases fewer; Hugging Face's classes have no way out.
            model::expect(path, naming == Naming::Authors || rows.min(columns) >= self.window, || {
                format!("stage {stage} has {rows} x {columns} patches, fewer than a window of {} a side", self.window)
            })?;
            grid = PatchMerge::merged(grid);
        }
        Ok(())
    }

    fn wide(&self, dim: usize) -> usize {
        (dim as f64 * f64::from(self.mlp_ratio)) as usize
    }
}

/// Blocks over one grid, and the layer to the next.
struct Stage {
    grid: [usize; 2],
    blocks: Vec<WindowBlock>,
    merge: Option<PatchMerge>,
}

/// Stage after stage.
pub(crate) struct Stages(Vec<Stage>);

impl Stages {
    /// Takes the tensors `{prefix}layers.*`. The sizes have been checked.
    pub(crate) fn load(w: &mut Weights, prefix: &str, naming: Naming, sizes: Sizes<'_>) -> Result<Self, OpenError> {
        let mut stages = Vec::new();
        let mut grid = sizes.grid;
        for (stage, (&depth, &n_heads)) in sizes.depths.iter().zip(sizes.n_heads).enumerate() {
            let dim = sizes.dim << stage;
            let (wide, activation, eps) = (sizes.wide(dim), sizes.activation, sizes.eps);
            let shape = BlockShape { dim, wide, n_heads, eps, activation, order: Order::PreNorm };
            // A grid of a single window has nothing to shift.
            let shortest = grid[0].min(grid[1]);
            let (side, shift) = if shortest <= sizes.window { (shortest, 0) } else { (sizes.window, sizes.window / 2) };
            let at = format!("{prefix}layers.{stage}.");
            let mut blocks = Vec::new();
            for block in 0..depth {
                let at = format!("{at}blocks.{block}.");
                let (names, biases) = naming.block(&at, sizes.biased);
                let shift = if block % 2 == 0 { 0 } else { shift };
                blocks.push(WindowBlock::load(w, &names, &biases, shape, [side, shift])?);
                for buffer in naming.buffers() {
                    w.skip(&format!("{at}{buffer}"));
                }
            }
            let is_last = stage + 1 == sizes.depths.len();
            let merge = if is_last { None } else { Some(PatchMerge::load(w, &format!("{at}downsample"), dim)?) };
            stages.push(Stage { grid, blocks, merge });
            grid = if is_last { grid } else { PatchMerge::merged(grid) };
        }
        Ok(Self(stages))
    }

    /// Patches of a grid after the last stage.
    pub(crate) fn n_last(&self) -> usize {
        self.0.last().map_or(0, |stage| stage.grid[0] * stage.grid[1])
    }

    /// Carries `x`, `[n grids, rows, columns, dim]`, through all stages, to `[n grids, last rows, last columns, last dim]`. Shows the
    /// states before the first block, and after every block and every merging.
    pub(crate) fn forward(&self, x: &mut Vec<f32>, watch: &mut Watch<'_>) {
        let (mut scratch, mut merged, mut n_shown) = (WindowScratch::default(), Vec::new(), 0);
        let mut show = |x: &[f32]| {
            watch(&format!("hidden.{n_shown}"), x);
            n_shown += 1;
        };
        show(x);
        for stage in &self.0 {
            for block in &stage.blocks {
                block.forward(x, stage.grid, &mut scratch);
                show(x);
            }
            if let Some(merge) = &stage.merge {
                merge.forward(x, stage.grid, &mut merged);
                std::mem::swap(x, &mut merged);
                show(x);
            }
        }
    }
}

impl Naming {
    /// Names of a block's parts, and of its biases by offset.
    fn block(self, at: &str, biased: bool) -> (BlockNames, String) {
        let name = |part: &str| format!("{at}{part}");
        match self {
            Self::HuggingFace => {
                let qkv = ["query", "key", "value"].map(|part| format!("{at}attention.self.{part}"));
                let names = BlockNames {
                    qkv: if biased { Qkv::Separate(qkv) } else { Qkv::Unbiased(qkv) },
                    out: name("attention.output.dense"),
                    norm_1: name("layernorm_before"),
                    widen: name("intermediate.dense"),
                    narrow: name("output.dense"),
                    norm_2: name("layernorm_after"),
                    scales: None,
                };
                (names, name("attention.self.relative_position_bias_table"))
            }
            Self::Authors => {
                let names = BlockNames {
                    qkv: Qkv::Stacked(["attn.qkv.weight", "attn.qkv.bias"].map(name)),
                    out: name("attn.proj"),
                    norm_1: name("norm1"),
                    widen: name("mlp.fc1"),
                    narrow: name("mlp.fc2"),
                    norm_2: name("norm2"),
                    scales: None,
                };
                (names, name("attn.relative_position_bias_table"))
            }
        }
    }

    /// What is stored beside a block's weights and follows from its sizes.
    fn buffers(self) -> &'static [&'static str] {
        match self {
            Self::HuggingFace => &["attention.self.relative_position_index"],
            Self::Authors => &["attn.relative_position_index", "attn_mask"],
        }
    }
}

/// The mean of each `[n, dim]` of `rows`.
pub(crate) fn means(rows: &[f32], n: usize, dim: usize) -> Vec<Vec<f32>> {
    let mean = |rows: &[f32]| {
        let mut sums = vec![0.0f64; dim];
        for row in rows.chunks_exact(dim) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        sums.iter().map(|sum| (sum / n as f64) as f32).collect()
    };
    rows.chunks_exact(n * dim).map(mean).collect()
}
