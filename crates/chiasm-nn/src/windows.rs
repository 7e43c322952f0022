//! Transformer blocks over a grid of patches in which attention stays within windows.

use crate::attention::Mask;
use crate::linear::Linear;
use crate::norm::LayerNorm;
use crate::transformer::{Block, BlockNames, BlockScratch, BlockShape};
use crate::weights::{Weights, WeightsError};

/// Added to the scores of two patches that only the rolling of the grid made neighbours; the reference's number.
const APART: f32 = -100.0;

/// Rows and columns of a grid.
type Grid = [usize; 2];

/// A transformer block whose attention stays within square windows, with a bias by the offset of key to query (Liu et al., "Swin
/// Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, eq. 3 and 4).
///
/// A grid that does not divide into windows is filled up with zeros at the right and the bottom, and the filling is attended to
/// as the reference does. Where windows are shifted, the grid is rolled up and to the left; patches that meet in a window only because of that do
/// not attend to each other.
#[derive(Clone, Debug)]
pub struct WindowBlock {
    block: Block,
    side: usize,
    shift: usize,
    /// `[n_heads, 2 side - 1, 2 side - 1]`: rows and columns by how far the key lies below and right of the query, from `1 - side`.
    biases: Vec<f32>,
}

impl WindowBlock {
    /// Takes the parts of the block, and its biases from the tensor `of_biases`, `[(2 side - 1)^2, n_heads]`. `side` is that of a
    /// window, above 0; `shift` is how far windows are shifted, below `side`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        w: &mut Weights,
        names: &BlockNames,
        of_biases: &str,
        shape: BlockShape,
        [side, shift]: [usize; 2],
    ) -> Result<Self, WeightsError> {
        assert!(shift < side, "windows are shifted by less than their side");
        let n_offsets = (2 * side - 1).pow(2);
        let stored = w.take(of_biases, &[n_offsets, shape.n_heads])?;
        // Stored by how far the query lies below and right of the key, which is the same list from its end.
        let head = |head: usize| stored.chunks_exact(shape.n_heads).rev().map(move |row| row[head]);
        let biases = (0..shape.n_heads).flat_map(head).collect();
        Ok(Self { block: Block::load(w, names, shape)?, side, shift, biases })
    }

    /// Carries `x`, `[n grids, rows, columns, dim]`, through the block, in place.
    pub fn forward(&self, x: &mut [f32], grid: Grid, scratch: &mut WindowScratch) {
        let (dim, area) = (self.block.dim(), self.side * self.side);
        let n_grids = x.len() / (grid[0] * grid[1] * dim);
        assert_eq!(n_grids * grid[0] * grid[1] * dim, x.len(), "patches of a grid");
        let n_windows = grid.map(|n| n.div_ceil(self.side));
        let WindowScratch { block, windows, mixed, places, lengths } = scratch;
        self.places(grid, n_windows, places);
        lengths.clear();
        lengths.resize(n_grids * n_windows[0] * n_windows[1], area);

        let bias = |sequence: usize, head: usize, scores: &mut [f32]| {
            let window = sequence % (n_windows[0] * n_windows[1]);
            self.bias(head, scores);
            if self.shift > 0 {
                let last = [window / n_windows[1] + 1 == n_windows[0], window % n_windows[1] + 1 == n_windows[1]];
                self.part(last, scores);
            }
        };
        self.block.around(x, block, |rows, out, scratch| {
            windows.clear();
            for grid in rows.chunks_exact(grid[0] * grid[1] * dim) {
                for place in places.iter() {
                    match place {
                        Some(at) => windows.extend_from_slice(&grid[at * dim..][..dim]),
                        None => windows.resize(windows.len() + dim, 0.0),
                    }
                }
            }
            self.block.attention.forward(windows, lengths, Mask::Added(&bias), mixed, scratch);
            out.resize(rows.len(), 0.0);
            let grids = out.chunks_exact_mut(grid[0] * grid[1] * dim);
            for (grid, mixed) in grids.zip(mixed.chunks_exact(places.len() * dim)) {
                for (place, row) in places.iter().zip(mixed.chunks_exact(dim)) {
                    if let Some(at) = place {
                        grid[at * dim..][..dim].copy_from_slice(row);
                    }
                }
            }
        });
    }

    /// Where the patches of the windows stand in the grid, window by window; none for those that fill it up.
    fn places(&self, grid: Grid, n_windows: Grid, places: &mut Vec<Option<usize>>) {
        let side = self.side;
        let filled = n_windows.map(|n| n * side);
        let along = |axis: usize, window: usize, i: usize| {
            let at = (window * side + i + self.shift) % filled[axis];
            (at < grid[axis]).then_some(at)
        };
        places.clear();
        for window in 0..n_windows[0] * n_windows[1] {
            for at in 0..side * side {
                let y = along(0, window / n_windows[1], at / side);
                let x = along(1, window % n_windows[1], at % side);
                places.push(y.zip(x).map(|(y, x)| y * grid[1] + x));
            }
        }
    }

    /// Adds the biases of one head to the scores of a window, `[side^2, side^2]`.
    fn bias(&self, head: usize, scores: &mut [f32]) {
        let (side, width) = (self.side, 2 * self.side - 1);
        let biases = &self.biases[head * width * width..][..width * width];
        for (query, scores) in scores.chunks_exact_mut(side * side).enumerate() {
            let (y, x) = (query / side, query % side);
            for (key_y, scores) in scores.chunks_exact_mut(side).enumerate() {
                let row = &biases[(key_y + side - 1 - y) * width + side - 1 - x..][..side];
                scores.iter_mut().zip(row).for_each(|(score, bias)| *score += bias);
            }
        }
    }

    /// Keeps apart what does not belong together in a window that stands `last` down or across in a rolled grid.
    fn part(&self, last: [bool; 2], scores: &mut [f32]) {
        if last == [false, false] {
            return;
        }
        let (side, n_whole) = (self.side, self.side - self.shift);
        let region = |at: usize| [last[0] && at / side >= n_whole, last[1] && at % side >= n_whole];
        for (query, scores) in scores.chunks_exact_mut(side * side).enumerate() {
            let own = region(query);
            for (key, score) in scores.iter_mut().enumerate() {
                if region(key) != own {
                    *score += APART;
                }
            }
        }
    }
}

/// Buffers that blocks with windows use over and over.
#[derive(Debug, Default)]
pub struct WindowScratch {
    block: BlockScratch,
    windows: Vec<f32>,
    mixed: Vec<f32>,
    places: Vec<Option<usize>>,
    lengths: Vec<usize>,
}

/// Two by two patches of a grid to one of twice the width (Liu et al. 2021, section 3.1): side by side, normalised, through a dense
/// layer without a bias. A grid of odd sides is filled up with zeros.
#[derive(Clone, Debug)]
pub struct PatchMerge {
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerge {
    /// Takes `{prefix}.norm` of width `4 dim` and `{prefix}.reduction`, `4 dim` to `2 dim`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(w: &mut Weights, prefix: &str, dim: usize) -> Result<Self, WeightsError> {
        // The references leave the number that is added to the variance at PyTorch's default here, whatever it is elsewhere.
        Ok(Self {
            norm: LayerNorm::load(w, &format!("{prefix}.norm"), 4 * dim, 1e-5)?,
            reduction: Linear::load_unbiased(w, &format!("{prefix}.reduction"), 4 * dim, 2 * dim)?,
        })
    }

    /// The grid that comes of one.
    pub fn merged(grid: Grid) -> Grid {
        grid.map(|n| n.div_ceil(2))
    }

    /// `x`, `[n grids, rows, columns, dim]`, to `out`, `[n grids, rows / 2, columns / 2, 2 dim]`.
    pub fn forward(&self, x: &[f32], grid: Grid, out: &mut Vec<f32>) {
        let dim = self.reduction.n_in() / 4;
        let merged = Self::merged(grid);
        let mut rows = Vec::with_capacity(x.len() / (grid[0] * grid[1]) * merged[0] * merged[1] * 4);
        for x in x.chunks_exact(grid[0] * grid[1] * dim) {
            for (y, column) in (0..merged[0]).flat_map(|y| (0..merged[1]).map(move |column| (2 * y, 2 * column))) {
                // Down before across.
                for (y, column) in [(y, column), (y + 1, column), (y, column + 1), (y + 1, column + 1)] {
                    if y < grid[0] && column < grid[1] {
                        rows.extend_from_slice(&x[(y * grid[1] + column) * dim..][..dim]);
                    } else {
                        rows.resize(rows.len() + dim, 0.0);
                    }
                }
            }
        }
        self.norm.forward(&mut rows);
        self.reduction.forward(&rows, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::attention::Qkv;
    use crate::made_up::{checkpoint, numbers};
    use crate::transformer::Order;

    const DIM: usize = 4;
    const HEADS: usize = 2;

    /// A block that normalises and attends and no more: the layer after attention is the identity, the feed-forward part is zero.
    fn block(side: usize, shift: usize) -> (WindowBlock, Vec<f32>, Vec<f32>) {
        let (qkv, biases) = (numbers(3 * DIM * DIM, 3), numbers((2 * side - 1).pow(2) * HEADS, 4));
        let tensors = [
            ("qkv.weight", qkv.clone(), vec![3 * DIM, DIM]),
            ("qkv.bias", vec![0.0; 3 * DIM], vec![3 * DIM]),
            ("biases", biases.clone(), vec![(2 * side - 1).pow(2), HEADS]),
            ("out.weight", (0..DIM * DIM).map(|i| f32::from(u8::from(i % (DIM + 1) == 0))).collect(), vec![DIM, DIM]),
            ("out.bias", vec![0.0; DIM], vec![DIM]),
            ("norm.weight", vec![1.0; DIM], vec![DIM]),
            ("norm.bias", vec![0.0; DIM], vec![DIM]),
            ("norm_2.weight", vec![1.0; DIM], vec![DIM]),
            ("norm_2.bias", vec![0.0; DIM], vec![DIM]),
            ("widen.weight", vec![0.0; DIM], vec![1, DIM]),
            ("widen.bias", vec![0.0], vec![1]),
            ("narrow.weight", vec![0.0; DIM], vec![DIM, 1]),
            ("narrow.bias", vec![0.0; DIM], vec![DIM]),
        ];
        let names = BlockNames {
            qkv: Qkv::Stacked(["qkv.weight", "qkv.bias"].map(str::to_owned)),
            out: "out".to_owned(),
            norm_1: "norm".to_owned(),
            widen: "widen".to_owned(),
            narrow: "narrow".to_owned(),
            norm_2: "norm_2".to_owned(),
            scales: None,
        };
        let shape =
            BlockShape { dim: DIM, wide: 1, n_heads: HEADS, eps: 1e-5, activation: Activation::None, order: Order::PreNorm };
        let block = WindowBlock::load(&mut checkpoint(&tensors), &names, "biases", shape, [side, shift]).unwrap();
        (block, qkv, biases)
    }

    fn normed(row: &[f32]) -> Vec<f64> {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
        row.iter().map(|v| (v - mean) / (variance + 1e-5).sqrt()).collect()
    }

    /// The block by its definition: for each patch the patches that lie in its window of the shifted grid, on its own side of the rim.
    fn written_out(x: &[f32], grid: Grid, side: usize, shift: usize, qkv: &[f32], biases: &[f32]) -> Vec<f64> {
        let filled = grid.map(|n| n.next_multiple_of(side));
        let row = |y: usize, column: usize| {
            let inside = y < grid[0] && column < grid[1];
            if inside { normed(&x[(y * grid[1] + column) * DIM..][..DIM]) } else { vec![0.0; DIM] }
        };
        let project = |which: usize, from: &[f64]| -> Vec<f64> {
            let matrix = &qkv[which * DIM * DIM..][..DIM * DIM];
            matrix.chunks_exact(DIM).map(|w| w.iter().zip(from).map(|(w, v)| f64::from(*w) * v).sum()).collect()
        };
        // Window along an axis in the rolled grid, place within it, and whether it was rolled over the rim.
        let along = |axis: usize, at: usize| {
            let rolled = (at + filled[axis] - shift) % filled[axis];
            (rolled / side, rolled % side, at < shift)
        };
        let mut out: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        for (y, column) in (0..grid[0]).flat_map(|y| (0..grid[1]).map(move |column| (y, column))) {
            let (wy, py, over_y) = along(0, y);
            let (wx, px, over_x) = along(1, column);
            let q = project(0, &row(y, column));
            for head in 0..HEADS {
                let at = head * DIM / HEADS..(head + 1) * DIM / HEADS;
                let (mut sum, mut mixed) = (0.0, vec![0.0; at.len()]);
                for (key_y, key_x) in (0..filled[0]).flat_map(|y| (0..filled[1]).map(move |x| (y, x))) {
                    let (key_wy, key_py, key_over_y) = along(0, key_y);
                    let (key_wx, key_px, key_over_x) = along(1, key_x);
                    if (key_wy, key_wx) != (wy, wx) || (key_over_y, key_over_x) != (over_y, over_x) {
                        continue;
                    }
                    let (k, v) = (project(1, &row(key_y, key_x)), project(2, &row(key_y, key_x)));
                    let dot: f64 = at.clone().map(|i| q[i] * k[i]).sum();
                    let offset = (py + side - 1 - key_py) * (2 * side - 1) + px + side - 1 - key_px;
                    let score = dot / (at.len() as f64).sqrt() + f64::from(biases[offset * HEADS + head]);
                    sum += score.exp();
                    mixed.iter_mut().zip(&v[at.clone()]).for_each(|(m, v)| *m += score.exp() * v);
                }
                let to = &mut out[(y * grid[1] + column) * DIM..][at];
                to.iter_mut().zip(&mixed).for_each(|(out, m)| *out += m / sum);
            }
        }
        out
    }

    #[test]
    fn windows_equal_their_definition() {
        // Grids that divide into windows, that do not, of a single window, and smaller than one.
        for (grid, side) in [([4, 6], 2), ([5, 7], 3), ([3, 3], 3), ([2, 5], 3)] {
            for shift in [0, side / 2] {
                let (block, qkv, biases) = block(side, shift);
                let x = numbers(2 * grid[0] * grid[1] * DIM, 5);
                let mut got = x.clone();
                block.forward(&mut got, grid, &mut WindowScratch::default());
                for (x, got) in x.chunks_exact(x.len() / 2).zip(got.chunks_exact(x.len() / 2)) {
                    for (got, exact) in got.iter().zip(written_out(x, grid, side, shift, &qkv, &biases)) {
                        assert!((f64::from(*got) - exact).abs() < 1e-5, "{got} is not {exact}: {grid:?}, {side}, {shift}");
                    }
                }
            }
        }
    }

    #[test]
    fn merging_takes_two_by_two_down_before_across() {
        // The first outputs copy the second and the third of the four patches.
        let mut reduction = vec![0.0; 8];
        (reduction[1], reduction[4 + 2]) = (1.0, 1.0);
        let tensors = [
            ("m.norm.weight", vec![1.0; 4], vec![4]),
            ("m.norm.bias", vec![0.0; 4], vec![4]),
            ("m.reduction.weight", reduction, vec![2, 4]),
        ];
        let merge = PatchMerge::load(&mut checkpoint(&tensors), "m", 1).unwrap();
        let x = numbers(2 * 3, 6);
        let mut out = Vec::new();
        merge.forward(&x, [2, 3], &mut out);
        assert_eq!(PatchMerge::merged([2, 3]), [1, 2]);
        // The second window lacks its right half.
        let exact = [normed(&[x[0], x[3], x[1], x[4]]), normed(&[x[2], x[5], 0.0, 0.0])];
        let exact: Vec<f64> = exact.iter().flat_map(|v| [v[1], v[2]]).collect();
        assert!(out.iter().zip(&exact).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{out:?}, not {exact:?}");
    }
}
