//! Dense products at the machine's pace: weights are packed once, in the order in which the registers will meet them.
//!
//! Everything is made of 32-bit **words**: one `f32`, two `bf16`, two `i16` or four 8-bit integers. A step of any kernel takes one word
//! of a row, spreads it over a vector register, and adds its products with a register of words of the weights, one column in each
//! lane. So one packing, one blocking and one loop serve every precision and every machine; a machine brings six small functions
//! ([`tile::Lanes`]).
//!
//! | | layout | |
//! | --- | --- | --- |
//! | weights | `[panels][steps][columns]` | as many columns as two registers have lanes |
//! | rows | `[tiles][steps][rows]` | as many rows as there are registers for their sums; for AMX as they are |
//!
//! The blocking is that of Goto and van de Geert, "Anatomy of High-Performance Matrix Multiplication", 2008: a chunk of a panel stays in
//! the first cache while all tiles of a block of rows pass over it, and the block of rows stays in the second.
//!
//! Each number is summed over the steps of a chunk in their order, then over the chunks, whatever rows stand beside it: a row's result
//! does not depend on its batch.

#[cfg(target_arch = "x86_64")]
mod amx;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod quantise;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::RefCell;

use pulp::NullaryFnOnce;

use crate::activation::Activation;
use crate::simd::{map_with, widest};
use isa::{Kernel, RowOrder, Word};
use quantise::RowScale;
use tile::Strip;

/// How numbers stand in the products of dense layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Weights and rows in single precision.
    #[default]
    F32,
    /// Both rounded to bfloat16 (8 bits of fraction), summed in single precision. Faster where the processor multiplies such
    /// pairs (AMX, AVX512-BF16), and half the memory there; elsewhere as `F32`, on the rounded numbers.
    Bf16,
    /// Both as 8-bit integers, weights with a scale for each column, rows with a scale and an offset for each row, found anew each
    /// time; sums are exact in 32 bits. A quarter of the memory with AMX and AVX512-VNNI, half with AVX2, and faster with all of them.
    Int8,
}

impl Precision {
    /// The word in arguments, fingerprints and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Precision::F32, Precision::Bf16, Precision::Int8]
            .into_iter()
            .find(|precision| precision.as_str() == word)
            .ok_or_else(|| format!("`{word}` is no precision: expected f32, bf16 or int8"))
    }
}

/// The instructions that products of this precision run on here, as `avx512-vnni`.
pub fn instructions(precision: Precision) -> &'static str {
    isa::best(precision).name
}

/// Words in a cache line; panels begin on one.
const LINE: usize = 16;

/// A cache line of words.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
#[expect(dead_code, reason = "read and written as the slices of words that `Words` gives")]
struct Line([u32; LINE]);

/// A matrix `[n_in, n_out]` packed for the products of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    kernel: &'static Kernel,
    precision: Precision,
    n_in: usize,
    n_out: usize,
    /// Words per row.
    steps: usize,
    words: Vec<Line>,
    /// With integers: what a unit of each column is worth, as many as the panels have columns.
    units: Vec<f32>,
    /// And the column's sum in such units.
    sums: Vec<f32>,
}

/// What is done with a product on its way out.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// Added to every row, `[n_out]`.
    pub(crate) bias: &'a [f32],
    /// Applied after the bias.
    pub(crate) activation: Activation,
    /// Whether the result is added to what stands in the output, or takes its place.
    pub(crate) add: bool,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// Packed rows.
    rows: Vec<u32>,
    /// Sums on their way.
    sums: Vec<f32>,
    /// Scales of the rows.
    scales: Vec<RowScale>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Packed {
    /// Packs a weight stored as `[n_out, n_in]` for the best instructions here.
    pub(crate) fn new(stored: &[f32], n_in: usize, precision: Precision) -> Self {
        Self::for_kernel(stored, n_in, precision, isa::best(precision))
    }

    fn for_kernel(stored: &[f32], n_in: usize, precision: Precision, kernel: &'static Kernel) -> Self {
        let n_out = stored.len().checked_div(n_in).unwrap_or(0);
        assert_eq!(n_in * n_out, stored.len(), "rows of a weight");
        let width = kernel.columns;
        let (steps, n_panels) = (kernel.steps(n_in), n_out.div_ceil(width));
        let mut words = vec![Line([0; LINE]); (n_panels * steps * width).div_ceil(LINE)];
        let n_scales = if precision == Precision::Int8 { n_panels * width } else { 0 };
        let (mut units, mut sums) = (vec![0.0; n_scales], vec![0.0; n_scales]);
        let flat = words.as_flattened_words();
        let mut row = Vec::new();
        for (o, column) in stored.chunks_exact(n_in.max(1)).enumerate() {
            row.clear();
            match kernel.word {
                Word::F32 if precision == Precision::F32 => row.extend(column.iter().map(|v| v.to_bits())),
                Word::F32 => row.extend(column.iter().map(|v| u32::from(quantise::bf16(*v)) << 16)),
                Word::Bf16 => quantise::bf16_words(column, &mut row),
                Word::I16 | Word::I8 => {
                    (units[o], sums[o]) = quantise::column_words(column, kernel.word, &mut row);
                }
            }
            let panel = &mut flat[o / width * steps * width..][..steps * width];
            for (to, word) in panel[o % width..].iter_mut().step_by(width).zip(&row) {
                *to = *word;
            }
        }
        Self { kernel, precision, n_in, n_out, steps, words, units, sums }
    }

    /// Numbers per row going in.
    pub(crate) fn n_in(&self) -> usize {
        self.n_in
    }

    /// Numbers per row coming out.
    pub(crate) fn n_out(&self) -> usize {
        self.n_out
    }

    /// `x W`, finished, for the rows of `x`, `[n, n_in]`, to `out`, `[n, n_out]`.
    pub(crate) fn multiply(&self, x: &[f32], finish: Finish<'_>, out: &mut [f32]) {
        let n = out.len().checked_div(self.n_out).unwrap_or(0);
        assert!(x.len() == n * self.n_in && out.len() == n * self.n_out, "rows of a product");
        assert_eq!(finish.bias.len(), self.n_out, "a bias for every column");
        SCRATCH.with_borrow_mut(|scratch| {
            // Blocks of equal height: a short last one would stream the weights past a few rows.
            let n_blocks = n.div_ceil(self.kernel.block.0).max(1);
            let height = n.div_ceil(n_blocks).next_multiple_of(self.kernel.rows);
            let mut first = 0;
            while first < n {
                let rows = height.min(n - first);
                let x = &x[first * self.n_in..(first + rows) * self.n_in];
                self.block(x, rows, finish, &mut out[first * self.n_out..(first + rows) * self.n_out], scratch);
                first += rows;
            }
        });
    }

    /// The same for so few rows that they stay in the cache.
    fn block(&self, x: &[f32], rows: usize, finish: Finish<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let Scratch { rows: packed, sums, scales } = scratch;
        self.pack_rows(x, packed, scales);
        let width = self.kernel.columns;
        let words = self.words.as_flattened();
        let n_panels = self.n_out.div_ceil(width);
        // Parts of long rows; then the sums of all panels wait until the last part. Whole chunks, so that the same products are
        // summed together however many rows there are.
        let chunk = self.kernel.chunk();
        let part = (self.kernel.block.1 / (4 * rows) / chunk).max(1) * chunk;
        let n_parts = self.steps.div_ceil(part).max(1);
        let filled = self.kernel.filled(rows);
        let strip_len = filled * width;
        sums.resize(if n_parts > 1 { n_panels * strip_len } else { strip_len }, 0.0);
        for nth in 0..n_parts {
            let first_step = nth * part;
            let n_steps = part.min(self.steps - first_step);
            for panel in 0..n_panels {
                let c = if n_parts > 1 { &mut sums[panel * strip_len..][..strip_len] } else { &mut sums[..] };
                let b = &words[(panel * self.steps + first_step) * width..][..n_steps * width];
                Strip::packed(packed, self.steps, first_step, filled, b, c, width, nth > 0).run(self.kernel);
                if nth + 1 == n_parts {
                    let columns = panel * width..(panel + 1) * width;
                    let of_columns = || [&self.units[columns.clone()], &self.sums[columns.clone()]];
                    let integers = (!self.units.is_empty()).then(|| (of_columns(), &scales[..]));
                    let columns = columns.start..self.n_out.min(columns.end);
                    let c = &mut c[..rows * width];
                    widest(Finishing { c, width, integers, finish, columns, out: &mut *out, n_out: self.n_out });
                }
            }
        }
    }

    /// Rows to words, in the kernel's order.
    fn pack_rows(&self, x: &[f32], packed: &mut Vec<u32>, scales: &mut Vec<RowScale>) {
        packed.clear();
        scales.clear();
        let at_a_time = match self.kernel.order {
            RowOrder::Interleaved => self.kernel.rows,
            RowOrder::AsTheyAre { .. } => 1,
        };
        for tile in x.chunks(at_a_time * self.n_in) {
            quantise::pack_tile(tile, self.n_in, self.steps, self.precision, self.kernel.word, packed, scales);
        }
        packed.resize(self.kernel.filled(x.len() / self.n_in) * self.steps, 0);
    }
}

/// Lines seen as words.
trait Words {
    fn as_flattened(&self) -> &[u32];
    fn as_flattened_words(&mut self) -> &mut [u32];
}

impl Words for Vec<Line> {
    #[allow(unsafe_code)]
    fn as_flattened(&self) -> &[u32] {
        // SAFETY: a `Line` is sixteen words, as large as they are (64 bytes, of which none is padding).
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() * LINE) }
    }

    #[allow(unsafe_code)]
    fn as_flattened_words(&mut self) -> &mut [u32] {
        // SAFETY: as above; the borrow is exclusive, and any bits are a word.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len() * LINE) }
    }
}

/// Sums of a panel to numbers: scales, bias, activation, and out.
struct Finishing<'a> {
    /// `[rows, width]`.
    c: &'a mut [f32],
    width: usize,
    /// Of integers the scales: units and sums of the columns, and the rows'.
    integers: Option<([&'a [f32]; 2], &'a [RowScale])>,
    finish: Finish<'a>,
    /// Which columns of the output they are.
    columns: std::ops::Range<usize>,
    out: &'a mut [f32],
    n_out: usize,
}

impl NullaryFnOnce for Finishing<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { c, width, integers, finish, columns, out, n_out } = self;
        if let Some(([units, sums], of_row)) = integers {
            for (row, of_row) in c.chunks_exact_mut(width).zip(of_row) {
                // x is unit * q + offset, so that the sum of x w is this.
                map_with(row, sums, |v, sum| of_row.unit * (v.to_bits().cast_signed() as f32) + of_row.offset * sum);
                map_with(row, units, |v, unit| v * unit);
            }
        }
        // The columns that only fill the panel up get no bias, and go nowhere.
        let mut bias = [0.0; 2 * LINE];
        bias[..columns.len()].copy_from_slice(&finish.bias[columns.clone()]);
        finish.activation.add_bias(c, &bias[..width]);
        for (row, out) in c.chunks_exact(width).zip(out.chunks_exact_mut(n_out)) {
            let out = &mut out[columns.clone()];
            if finish.add {
                map_with(out, &row[..out.len()], |out, v| out + v);
            } else {
                out.copy_from_slice(&row[..out.len()]);
            }
        }
    }
}

/// A matrix in single precision packed for one product, as attention needs it: keys and values are others each time.
#[derive(Debug)]
pub(crate) struct Panels {
    kernel: &'static Kernel,
    steps: usize,
    n_columns: usize,
    words: Vec<u32>,
}

impl Default for Panels {
    fn default() -> Self {
        Self { kernel: isa::best(Precision::F32), steps: 0, n_columns: 0, words: Vec::new() }
    }
}

impl Panels {
    /// Numbers per row of a product: the columns, and what fills the last panel up.
    pub(crate) fn width(&self) -> usize {
        self.n_columns.next_multiple_of(self.kernel.columns)
    }

    /// `[steps, n_columns]`, rows `stride` apart.
    pub(crate) fn pack(&mut self, b: &[f32], steps: usize, n_columns: usize, stride: usize) {
        let width = self.kernel.columns;
        (self.steps, self.n_columns) = (steps, n_columns);
        self.words.clear();
        for first in (0..n_columns).step_by(width) {
            let n = width.min(n_columns - first);
            for step in 0..steps {
                let row = &b[step * stride + first..][..n];
                self.words.extend(row.iter().map(|v| v.to_bits()));
                self.words.extend(std::iter::repeat_n(0, width - n));
            }
        }
    }

    /// The transpose of `[n_columns, steps]`, rows `stride` apart.
    pub(crate) fn pack_transposed(&mut self, b: &[f32], n_columns: usize, steps: usize, stride: usize) {
        let width = self.kernel.columns;
        (self.steps, self.n_columns) = (steps, n_columns);
        self.words.clear();
        self.words.resize(steps * self.width(), 0);
        for column in 0..n_columns {
            let panel = &mut self.words[column / width * steps * width..][..steps * width];
            let row = &b[column * stride..][..steps];
            for (to, v) in panel[column % width..].iter_mut().step_by(width).zip(row) {
                *to = v.to_bits();
            }
        }
    }

    /// `rows` rows of `a`, `a_stride` apart, times the packed matrix, to `c`, `[rows, width]`.
    pub(crate) fn multiply(&self, a: &[f32], a_stride: usize, rows: usize, c: &mut [f32]) {
        let (columns, width) = (self.kernel.columns, self.width());
        for first in (0..width).step_by(columns) {
            let b = &self.words[first * self.steps..][..columns * self.steps];
            Strip::strided(a, a_stride, rows, b, self.steps, &mut c[first..], width).run(self.kernel);
        }
    }
}

#[cfg(test)]
mod tests;
