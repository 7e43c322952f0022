//! The centres of the cells as they are scanned.

use std::sync::OnceLock;

use super::codes::{self, CodeQuery};
use super::image::Shape;
use super::kernel::{BLOCK_SLOTS, IntegerKernel, put_code};
use super::kmeans::TwoLevels;
use super::search::keep_best;

/// Sums by which it is told above which the best stand.
const SAMPLE: usize = 256;

/// Deviations of their count in the sample by which more are taken than are wanted.
const SPARE: f64 = 3.0;

/// The centres.
pub(crate) struct Coarse {
    pub(crate) n: usize,
    dims: usize,
    codes: Vec<u8>,
    /// Each centre's code, one number a byte.
    plain: Vec<u8>,
    /// To find the nearest to a vector; made when one is inserted.
    levels: OnceLock<TwoLevels>,
}

/// Room that searches of one thread share.
#[derive(Default)]
pub(crate) struct Room {
    /// Sums of all centres' codes.
    sums: Vec<i32>,
    /// Some of them.
    sample: Vec<i32>,
}

impl Coarse {
    /// Of these centres, `[n, dims]`, coded with these steps.
    pub(crate) fn new(shape: &Shape, centres: &[f32], steps: &[f32]) -> Self {
        let (n, dims, width) = (centres.len() / shape.dims, shape.dims, shape.code_width());
        let mut coarse = Self {
            n: 0,
            dims,
            codes: Vec::with_capacity(n.div_ceil(BLOCK_SLOTS) * shape.codes_len()),
            plain: Vec::with_capacity(n * width),
            levels: OnceLock::new(),
        };
        centres.chunks_exact(dims).enumerate().for_each(|(cell, centre)| coarse.set(shape, cell, centre, steps));
        coarse
    }

    /// A cell gets this centre, or, being one more than there are, is added with it.
    fn set(&mut self, shape: &Shape, cell: usize, centre: &[f32], steps: &[f32]) {
        let (width, stride) = (shape.code_width(), shape.codes_len());
        if cell == self.n {
            self.n += 1;
            self.plain.resize(self.n * width, 0);
            self.codes.resize(self.n.div_ceil(BLOCK_SLOTS) * stride, 0);
        }
        let code = &mut self.plain[cell * width..(cell + 1) * width];
        codes::encode(centre, steps, &mut code[..self.dims]);
        put_code(&mut self.codes, stride, cell, code);
    }

    /// The same with these cells changed, each to its centre; a cell that is one more than there are is added.
    pub(crate) fn with(&self, shape: &Shape, changed: &[(usize, &[f32])], steps: &[f32]) -> Self {
        // The other cells stay in the groups that they were in.
        let mut levels = self.levels(steps).clone();
        let mut coarse = Self { codes: self.codes.clone(), plain: self.plain.clone(), levels: OnceLock::new(), ..*self };
        let mut decoded = vec![0.0; self.dims];
        for (cell, centre) in changed {
            coarse.set(shape, *cell, centre, steps);
            coarse.decode(*cell, steps, &mut decoded);
            levels.set(*cell as u32, &decoded);
        }
        Self { levels: levels.into(), ..coarse }
    }

    /// What the code of a centre stands for.
    pub(crate) fn decode(&self, cell: usize, steps: &[f32], out: &mut [f32]) {
        let width = self.plain.len() / self.n;
        codes::decode(&self.plain[cell * width..][..out.len()], steps, out);
    }

    /// The centres as their codes stand for them, in groups.
    pub(crate) fn levels(&self, steps: &[f32]) -> &TwoLevels {
        self.levels.get_or_init(|| {
            let mut centres = vec![0.0; self.n * self.dims];
            centres.chunks_exact_mut(self.dims).enumerate().for_each(|(cell, centre)| self.decode(cell, steps, centre));
            TwoLevels::new(&centres, self.dims)
        })
    }

    /// Bytes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.codes.len() + self.plain.len()
    }

    /// The `probes` cells whose centres score best, with the sums of their codes, of which the first `in_order` stand best first.
    pub(crate) fn choose(
        &self,
        kernel: IntegerKernel,
        [probes, in_order]: [usize; 2],
        query: &CodeQuery,
        room: &mut Room,
        cells: &mut Vec<(i32, u32)>,
    ) {
        let probes = probes.clamp(1, self.n);
        let Room { sums, sample } = room;
        sums.resize(self.n.next_multiple_of(BLOCK_SLOTS), 0);
        kernel.sums(&self.codes, &query.weights, sums);
        let mut above = |floor: i32| {
            cells.clear();
            for (block, sums) in sums.as_chunks::<BLOCK_SLOTS>().0.iter().enumerate() {
                let first = block * BLOCK_SLOTS;
                let mut mask = sums.iter().enumerate().fold(0u32, |mask, (slot, sum)| mask | u32::from(*sum >= floor) << slot);
                if self.n - first < BLOCK_SLOTS {
                    mask &= (1 << (self.n - first)) - 1;
                }
                while mask != 0 {
                    let slot = mask.trailing_zeros() as usize;
                    cells.push((sums[slot], (first + slot) as u32));
                    mask &= mask - 1;
                }
            }
            cells.len()
        };
        // As many as are wanted and some more stand above a floor that every so manieth tells; if that is wrong for once, all are taken.
        let stride = (self.n / SAMPLE).max(1);
        sample.clear();
        sample.extend(sums[..self.n].iter().step_by(stride));
        let rank = probes as f64 / stride as f64;
        let rank = (rank + SPARE * rank.sqrt() + SPARE) as usize;
        let floor = if rank < sample.len() { *sample.select_nth_unstable_by(rank, |a, b| b.cmp(a)).1 } else { i32::MIN };
        if above(floor) < probes {
            above(i32::MIN);
        }
        if cells.len() > probes {
            keep_best(cells, probes);
        }
        if in_order < cells.len() {
            cells.select_nth_unstable_by(in_order, |a, b| b.cmp(a));
        }
        let in_order = in_order.min(cells.len());
        cells[..in_order].sort_unstable_by(|a, b| b.cmp(a));
    }
}

#[cfg(test)]
mod tests {
    use chiasm_core::Metric;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const DIMS: usize = 12;

    fn shape(cells: usize) -> Shape {
        Shape { metric: Metric::InnerProduct, n: 0, dim: DIMS, dims: DIMS, cells, blocks: 0 }
    }

    fn rows(n: usize, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..n * DIMS).map(|_| random.random::<f32>() - 0.5).collect()
    }

    /// What is chosen is what sorting all gives, on every path; of what is not asked to be in order the set alone is compared.
    fn check(coarse: &Coarse, query: &CodeQuery) {
        let width = coarse.plain.len() / coarse.n;
        let sum = |code: &[u8]| code.iter().zip(&query.weights).map(|(c, w)| i32::from(*c) * i32::from(*w)).sum::<i32>();
        let mut all: Vec<(i32, u32)> = coarse.plain.chunks_exact(width).map(sum).zip(0..).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let (mut room, mut cells) = (Room::default(), Vec::new());
        for kernel in IntegerKernel::available() {
            for probes in [1, 2, 7, 40, 400, coarse.n] {
                for in_order in [0, 1, 5, probes] {
                    coarse.choose(kernel, [probes, in_order], query, &mut room, &mut cells);
                    let (probes, in_order) = (probes.min(coarse.n), in_order.min(cells.len()));
                    assert_eq!(cells[..in_order], all[..in_order], "{kernel:?}, {probes} of {}", coarse.n);
                    cells.sort_unstable_by(|a, b| b.cmp(a));
                    assert_eq!(cells, all[..probes], "{kernel:?}, {probes} of {}", coarse.n);
                }
            }
        }
    }

    #[test]
    fn the_best_are_chosen_wherever_they_stand() {
        for n in [1, 31, 32, 100, 1024, 3001] {
            let mut centres = rows(n, 1);
            let steps = codes::steps(&centres, DIMS);
            let mut query = CodeQuery::default();
            query.set(&[1.0; DIMS], &steps, shape(n).code_width());
            check(&Coarse::new(&shape(n), &centres, &steps), &query);
            // Those by which it is told above which the best stand are better than all others: it is told wrongly, for many.
            let stride = (n / SAMPLE).max(1);
            centres.chunks_exact_mut(DIMS).step_by(stride).for_each(|row| row.iter_mut().for_each(|v| *v += 1.0));
            check(&Coarse::new(&shape(n), &centres, &steps), &query);
        }
    }

    #[test]
    fn centres_that_change_are_as_if_they_had_been_so() {
        let (mut centres, others) = (rows(95, 2), rows(3, 3));
        let steps = codes::steps(&centres, DIMS);
        let shape = shape(95);
        let changed: Vec<(usize, &[f32])> = [7, 95, 96].into_iter().zip(others.chunks_exact(DIMS)).collect();
        let coarse = Coarse::new(&shape, &centres, &steps).with(&shape, &changed, &steps);
        centres[7 * DIMS..8 * DIMS].copy_from_slice(&others[..DIMS]);
        centres.extend_from_slice(&others[DIMS..]);
        let whole = Coarse::new(&shape, &centres, &steps);
        assert_eq!((coarse.n, &coarse.codes, &coarse.plain), (97, &whole.codes, &whole.plain));
        let mut decoded = vec![0.0; DIMS];
        for cell in [7, 95, 96] {
            coarse.decode(cell, &steps, &mut decoded);
            assert_eq!(coarse.levels(&steps).nearest(&decoded), cell as u32);
        }
    }
}
