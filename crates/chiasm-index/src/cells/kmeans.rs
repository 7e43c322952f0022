//! Cells: centres by k-means, and which of them a vector belongs to.
//!
//! Lloyd's iterations over a sample, in the coordinates of [`ScoreMap`](super::map::ScoreMap), so that a cell holds vectors that score alike. A cell that lost all its
//! rows takes half of the fullest one's. Many cells are made in two levels, first some, then the cells within each, and a vector
//! then looks only into the nearest ones of the first: this costs `sqrt(cells)` per vector instead of `cells`.
//!
//! Sums are added in a fixed order, so neither threads nor chance decide; where to begin is drawn with the seed.

use chiasm_core::Cancel;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::kernels::{Form, Kernel, LANES, PANEL_ROWS, Scorer, n_steps};
use crate::pages::Pages;

/// Rows that one task assigns.
const TASK_ROWS: usize = 512;

/// Rows of the sample for each cell.
const SAMPLE_PER_CELL: usize = 48;

const ITERATIONS: usize = 8;

/// From so many cells on there are two levels.
const TWO_LEVELS_FROM: usize = 4096;

/// First-level groups whose cells a vector is compared with.
const GROUPS_PER_ROW: usize = 8;

/// Centres of cells, `dims` numbers each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Centres {
    pub(crate) dims: usize,
    pub(crate) rows: Vec<f32>,
    /// With two levels: the centre of each group, and where its cells begin; cells of a group follow each other.
    pub(crate) groups: Option<(Vec<f32>, Vec<usize>)>,
}

impl Centres {
    /// Makes `n_cells` cells of rows of `dims` numbers; fewer when there are fewer rows. Asked to stop it ends early with centres that are good
    /// for nothing: whoever can be stopped looks at `cancel` afterwards.
    pub(crate) fn fit(rows: &[f32], dims: usize, n_cells: usize, seed: u64, cancel: &Cancel) -> Self {
        let n = rows.len() / dims;
        let n_cells = n_cells.clamp(1, n.max(1));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let taken = n.min(n_cells * SAMPLE_PER_CELL);
        let mut picked = sample(&mut random, n, taken).into_vec();
        picked.sort_unstable();
        let mut of_sample = Pages::zeros(taken * dims);
        of_sample.chunks_exact_mut(dims).zip(picked).for_each(|(to, r)| to.copy_from_slice(&rows[r * dims..(r + 1) * dims]));
        let rows = of_sample;
        if n_cells < TWO_LEVELS_FROM {
            return Self { dims, rows: lloyd(&rows, dims, n_cells, &mut random, cancel), groups: None };
        }
        let group_centres = lloyd(&rows, dims, (n_cells as f64).sqrt() as usize, &mut random, cancel);
        let n_groups = group_centres.len() / dims;
        let mut members = vec![Vec::new(); n_groups];
        for (row, group) in rows.chunks_exact(dims).zip(nearest(&rows, dims, &group_centres)) {
            members[group as usize].extend_from_slice(row);
        }
        // Each group gets cells by its share of the rows.
        let seeds: Vec<u64> = members.iter().map(|_| random.random()).collect();
        let parts: Vec<Vec<f32>> = members
            .into_par_iter()
            .zip(seeds)
            .map(|(members, seed)| {
                let share = (members.len() / dims * n_cells).div_ceil(taken.max(1)).max(1);
                lloyd(&members, dims, share, &mut ChaCha8Rng::seed_from_u64(seed), cancel)
            })
            .collect();
        let mut starts = vec![0];
        let mut centres = Vec::new();
        for part in parts {
            centres.extend_from_slice(&part);
            starts.push(centres.len() / dims);
        }
        Self { dims, rows: centres, groups: Some((group_centres, starts)) }
    }

    /// How many cells.
    pub(crate) fn n(&self) -> usize {
        self.rows.len() / self.dims
    }

    /// The cell whose centre is nearest, for each row.
    pub(crate) fn assign(&self, rows: &[f32]) -> Vec<u32> {
        let Some((group_centres, starts)) = &self.groups else {
            return nearest(rows, self.dims, &self.rows);
        };
        let dims = self.dims;
        let parts = starts.windows(2).map(|w| Part {
            cells: (w[0] as u32..w[1] as u32).collect(),
            table: Table::new(self.rows[w[0] * dims..w[1] * dims].to_vec(), dims),
        });
        let levels = TwoLevels { groups: Table::new(group_centres.clone(), dims), parts: parts.collect() };
        rows.par_chunks(dims).map(|row| levels.nearest(row)).collect()
    }
}

/// Cells in groups, by which the nearest one is found at the cost of the square root of their number. Now and then it is another one
/// that is nearly as near.
#[derive(Clone)]
pub(crate) struct TwoLevels {
    groups: Table,
    parts: Vec<Part>,
}

/// The cells of a group.
#[derive(Clone)]
struct Part {
    cells: Vec<u32>,
    table: Table,
}

impl TwoLevels {
    /// Of cells with these centres, `dims` numbers each.
    pub(crate) fn new(centres: &[f32], dims: usize) -> Self {
        let n = centres.len() / dims;
        let group_centres = Centres::fit(centres, dims, (n as f64).sqrt() as usize, 1, &Cancel::default()).rows;
        let mut parts = vec![Part { cells: Vec::new(), table: Table::new(Vec::new(), dims) }; group_centres.len() / dims];
        for ((cell, centre), group) in centres.chunks_exact(dims).enumerate().zip(nearest(centres, dims, &group_centres)) {
            parts[group as usize].add(cell as u32, centre);
        }
        Self { groups: Table::new(group_centres, dims), parts }
    }

    /// The cell whose centre is nearest, of those of the nearest groups; the first of equals.
    pub(crate) fn nearest(&self, row: &[f32]) -> u32 {
        let mut query = vec![0.0; padded(row.len())];
        query[..row.len()].copy_from_slice(row);
        let scores = self.groups.scores(&query);
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        let mut best = (f32::NEG_INFINITY, 0);
        for group in order.into_iter().take(GROUPS_PER_ROW) {
            let part = &self.parts[group as usize];
            for (score, cell) in part.table.scores(&query).into_iter().zip(&part.cells) {
                if score > best.0 || (score == best.0 && *cell < best.1) {
                    best = (score, *cell);
                }
            }
        }
        best.1
    }

    /// A cell gets this centre, or is added with it.
    pub(crate) fn set(&mut self, cell: u32, centre: &[f32]) {
        self.parts.iter_mut().for_each(|part| part.remove(cell));
        let mut query = vec![0.0; padded(centre.len())];
        query[..centre.len()].copy_from_slice(centre);
        let scores = self.groups.scores(&query);
        let nearest = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
        self.parts[nearest.expect("cells have groups")].add(cell, centre);
    }
}

impl Part {
    fn add(&mut self, cell: u32, centre: &[f32]) {
        self.cells.push(cell);
        self.table.centres.extend_from_slice(centre);
        self.table.offsets.extend(offsets(centre, self.table.dims));
    }

    fn remove(&mut self, cell: u32) {
        let Some(at) = self.cells.iter().position(|own| *own == cell) else { return };
        let dims = self.table.dims;
        self.cells.remove(at);
        self.table.offsets.remove(at);
        self.table.centres.drain(at * dims..(at + 1) * dims);
    }
}

fn padded(dims: usize) -> usize {
    n_steps(dims) * LANES
}

/// Centres ready to be compared with one row: `y'c - |c|^2 / 2`, which is greatest where the distance is least.
#[derive(Clone)]
struct Table {
    centres: Vec<f32>,
    dims: usize,
    offsets: Vec<f32>,
}

impl Table {
    fn new(centres: Vec<f32>, dims: usize) -> Self {
        let offsets = offsets(&centres, dims);
        Self { centres, dims, offsets }
    }

    fn scores(&self, query: &[f32]) -> Vec<f32> {
        let mut scorer = Scorer::new(Kernel::best(), Form::Product, self.dims, query);
        let mut out = [[0.0; PANEL_ROWS]];
        let mut scores = Vec::with_capacity(self.offsets.len());
        for (panel, offsets) in self.centres.chunks(PANEL_ROWS * self.dims).zip(self.offsets.chunks(PANEL_ROWS)) {
            let mut rows = [&panel[..self.dims]; PANEL_ROWS];
            rows.iter_mut().zip(panel.chunks_exact(self.dims)).for_each(|(to, row)| *to = row);
            scorer.score(&rows[..offsets.len()], &mut out);
            scores.extend(out[0].iter().zip(offsets).map(|(score, offset)| score + offset));
        }
        scores
    }
}

fn offsets(centres: &[f32], dims: usize) -> Vec<f32> {
    centres.chunks_exact(dims).map(|c| -0.5 * c.iter().map(|v| v * v).sum::<f32>()).collect()
}

/// The nearest centre of each row; the first of equals.
fn nearest(rows: &[f32], dims: usize, centres: &[f32]) -> Vec<u32> {
    let stride = padded(dims);
    let mut queries = vec![0.0; centres.len() / dims * stride];
    for (to, centre) in queries.chunks_exact_mut(stride).zip(centres.chunks_exact(dims)) {
        to[..dims].copy_from_slice(centre);
    }
    let offsets = offsets(centres, dims);
    let mut cells = vec![0u32; rows.len() / dims];
    cells.par_chunks_mut(TASK_ROWS).zip(rows.par_chunks(TASK_ROWS * dims)).for_each(|(cells, rows)| {
        // Centres in parts that stay in the second cache while the rows pass.
        const PART: usize = 256;
        let mut best = vec![f32::NEG_INFINITY; cells.len()];
        for (p, (queries, offsets)) in queries.chunks(PART * stride).zip(offsets.chunks(PART)).enumerate() {
            let mut scorer = Scorer::new(Kernel::best(), Form::Product, dims, queries);
            let mut scores = vec![[0.0f32; PANEL_ROWS]; offsets.len()];
            for (panel, (best, cells)) in
                rows.chunks(PANEL_ROWS * dims).zip(best.chunks_mut(PANEL_ROWS).zip(cells.chunks_mut(PANEL_ROWS)))
            {
                let mut of_panel = [&panel[..dims]; PANEL_ROWS];
                of_panel.iter_mut().zip(panel.chunks_exact(dims)).for_each(|(to, row)| *to = row);
                scorer.score(&of_panel[..best.len()], &mut scores);
                // Over whole registers of rows: what stands behind the last one is not looked at afterwards.
                let (mut most, mut at) = ([f32::NEG_INFINITY; PANEL_ROWS], [0u32; PANEL_ROWS]);
                for (c, (scores, offset)) in scores.iter().zip(offsets).enumerate() {
                    for r in 0..PANEL_ROWS {
                        let score = scores[r] + offset;
                        let better = score > most[r];
                        most[r] = if better { score } else { most[r] };
                        at[r] = if better { c as u32 } else { at[r] };
                    }
                }
                for r in 0..best.len() {
                    if most[r] > best[r] {
                        (best[r], cells[r]) = (most[r], (p * PART) as u32 + at[r]);
                    }
                }
            }
        }
    });
    cells
}

/// Lloyd's iterations from rows drawn at random.
fn lloyd(rows: &[f32], dims: usize, n_cells: usize, random: &mut ChaCha8Rng, cancel: &Cancel) -> Vec<f32> {
    let n = rows.len() / dims;
    let n_cells = n_cells.min(n);
    let mut first = sample(random, n, n_cells).into_vec();
    first.sort_unstable();
    let mut centres: Vec<f32> = first.iter().flat_map(|r| &rows[r * dims..(r + 1) * dims]).copied().collect();
    for _ in 0..ITERATIONS {
        if cancel.is_cancelled() {
            break;
        }
        let cells = nearest(rows, dims, &centres);
        let mut sums = vec![0.0f64; n_cells * dims];
        let mut counts = vec![0usize; n_cells];
        for (row, cell) in rows.chunks_exact(dims).zip(&cells) {
            counts[*cell as usize] += 1;
            sums[*cell as usize * dims..][..dims].iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        for (c, centre) in centres.chunks_exact_mut(dims).enumerate() {
            if counts[c] > 0 {
                centre.iter_mut().zip(&sums[c * dims..]).for_each(|(to, sum)| *to = (sum / counts[c] as f64) as f32);
            }
        }
        for c in 0..n_cells {
            if counts[c] > 0 {
                continue;
            }
            // Beside the centre of the fullest cell, on both sides of it by a hair.
            let fullest = (0..n_cells).max_by_key(|c| (counts[*c], std::cmp::Reverse(*c))).unwrap_or(0);
            for j in 0..dims {
                let v = centres[fullest * dims + j];
                let hair = 1e-4 * if j % 2 == 0 { 1.0 } else { -1.0 };
                (centres[c * dims + j], centres[fullest * dims + j]) = (v * (1.0 + hair), v * (1.0 - hair));
            }
            counts[c] = counts[fullest] / 2;
            counts[fullest] -= counts[c];
        }
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMS: usize = 7;

    fn rows(n: usize, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..n * DIMS).map(|_| random.random::<f32>() - 0.5).collect()
    }

    #[test]
    fn two_levels_find_the_nearest_cell_nearly_always() {
        let (mut centres, rows) = (rows(900, 1), rows(500, 2));
        let mut levels = TwoLevels::new(&centres, DIMS);
        let both = |centres: &[f32], levels: &TwoLevels| {
            let wanted = nearest(&rows, DIMS, centres);
            let found = rows.chunks_exact(DIMS).map(|row| levels.nearest(row)).zip(&wanted).filter(|(a, b)| a == *b).count();
            assert!(found >= 490, "{found} of 500");
            wanted
        };
        both(&centres, &levels);
        // A cell that moves is no longer found where it was, and a new one is found.
        let there = centres[3 * DIMS..4 * DIMS].to_vec();
        levels.set(3, &[2.0; DIMS]);
        levels.set(900, &there);
        centres[3 * DIMS..4 * DIMS].fill(2.0);
        centres.extend_from_slice(&there);
        both(&centres, &levels);
        assert_eq!((levels.nearest(&there), levels.nearest(&[1.9; DIMS])), (900, 3));
    }
}
