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
//! | rows | `[tiles][lines][rows][16]` | as many rows as there are registers for their sums; a line is 16 words |
//!
//! The blocking is that of Goto and van de Geert, "Anatomy of High-Performance Matrix Multiplication", 2008: a chunk of a panel stays in
//! the first cache while all tiles of a block of rows pass over it, and the block of rows stays in the second. What stands between two
//! layers of a block of rows is packed as it leaves the first ([`Packed::multiply_twice`]).
//!
//! Each number is summed over the steps of a chunk in their order, then over the chunks, whatever rows stand beside it: a row's result
//! does not depend on its batch.

#[cfg(target_arch = "x86_64")]
mod amx;
mod cache;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
mod plain;
mod product;
mod quantise;
mod tile;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::{Cell, RefCell};

use rayon::prelude::*;

use crate::activation::Activation;
use crate::norm::LayerNorm;
use crate::simd::{Loops, widest, widest_fused};
use isa::Kernel;
pub(crate) use panels::{Panels, Scores};
pub(crate) use product::{Factor, product};
use quantise::{Columns, Encoding, Place, RowScale, Rows, Spread};
use tile::{Lay, Left, Right, Strip, Sums};
pub(crate) use words::Words;

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

/// A matrix `[n_in, n_out]` packed for the products of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    kernel: &'static Kernel,
    encoding: Encoding,
    n_in: usize,
    n_out: usize,
    /// Words per row.
    steps: usize,
    words: Words,
    /// Added to every row; filled up to whole groups of [`COLUMNS_TO_FINISH`], like the following.
    bias: Vec<f32>,
    /// With integers: what a unit of each column is worth.
    units: Vec<f32>,
    /// And what the column's sum is worth.
    sums: Vec<f32>,
    /// Applied after the bias.
    activation: Activation,
}

/// Where it goes.
enum Target<'a> {
    /// Takes the place of `[n, n_out]`.
    Set(&'a mut [f32]),
    /// Likewise, and it is noted between what the numbers of each row lie.
    Measure(&'a mut [f32], &'a mut [Spread]),
    /// Is added to it.
    Add(&'a mut [f32]),
    /// To rows packed for a product by the same kernel.
    Pack(&'a mut Rows),
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// Packed rows.
    rows: Rows,
    /// What stands between two products, packed or, where rows must be whole to be packed, as it is.
    between: Rows,
    wide: Vec<f32>,
    spreads: Vec<Spread>,
    /// Sums on their way.
    sums: Words,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Packed {
    /// Packs a weight stored as `[n_out, n_in]` for the best instructions here, to multiply by it, add the bias, `[n_out]`, and apply the
    /// activation.
    pub(crate) fn new(stored: &[f32], bias: Vec<f32>, n_in: usize, activation: Activation, precision: Precision) -> Self {
        Self::for_kernel(stored, bias, n_in, activation, precision, isa::best(precision))
    }

    fn for_kernel(
        stored: &[f32],
        mut bias: Vec<f32>,
        n_in: usize,
        activation: Activation,
        precision: Precision,
        kernel: &'static Kernel,
    ) -> Self {
        let n_out = bias.len();
        assert_eq!(n_in * n_out, stored.len(), "rows of a weight, and numbers of its bias");
        let encoding = Encoding::of(precision, kernel);
        let width = kernel.columns;
        let (steps, n_panels) = (kernel.steps(n_in), n_out.div_ceil(width));
        let mut words = Words::zeros(n_panels * steps * width);
        bias.resize((n_panels * width).next_multiple_of(COLUMNS_TO_FINISH), 0.0);
        let (mut units, mut sums) = (vec![0.0; bias.len()], vec![0.0; bias.len()]);
        if n_in > 0 {
            let panels = words.as_mut_slice().par_chunks_mut(steps * width);
            let scales = units.par_chunks_mut(width).zip(sums.par_chunks_mut(width));
            panels.zip(stored.par_chunks(width * n_in)).zip(scales).for_each(|((panel, stored), (units, sums))| {
                widest(Columns { stored, n_in, encoding, width, panel, units, sums });
            });
        }
        if encoding.is_direct() {
            (units, sums) = (Vec::new(), Vec::new());
        }
        sums.iter_mut().zip(&units).for_each(|(sum, unit)| *sum *= unit);
        Self { kernel, encoding, n_in, n_out, steps, words, bias, units, sums, activation }
    }

    /// Numbers per row going in.
    pub(crate) fn n_in(&self) -> usize {
        self.n_in
    }

    /// Numbers per row coming out.
    pub(crate) fn n_out(&self) -> usize {
        self.n_out
    }

    /// How it multiplies.
    pub(crate) fn precision(&self) -> Precision {
        self.encoding.precision()
    }

    /// What is added to every row, `[n_out]`.
    #[cfg(feature = "cuda")]
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias[..self.n_out]
    }

    /// What is applied after that.
    #[cfg(feature = "cuda")]
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// The weight as it was stored, `[n_out, n_in]`, with the roundings of its precision; not of 8-bit integers, which are refused before.
    #[cfg(feature = "cuda")]
    pub(crate) fn unpacked(&self) -> Vec<f32> {
        assert!(self.encoding.is_direct(), "integers do not go back");
        let (width, words) = (self.kernel.columns, self.words.as_slice());
        let mut stored = vec![0.0; self.n_in * self.n_out];
        stored.par_chunks_mut(self.n_in.max(1)).enumerate().for_each(|(o, row)| {
            let words = words[o / width * self.steps * width + o % width..].iter().step_by(width).copied();
            if self.kernel.word.elements() == 1 {
                row.iter_mut().zip(words).for_each(|(to, word)| *to = f32::from_bits(word));
            } else {
                let words: Vec<u32> = words.take(self.steps).collect();
                let lines = words.as_chunks::<LINE>().0.iter();
                let numbers =
                    lines.flat_map(|line| line.map(|word| word << 16).into_iter().chain(line.map(|word| word & 0xffff_0000)));
                row.iter_mut().zip(numbers).for_each(|(to, bits)| *to = f32::from_bits(bits));
            }
        });
        stored
    }

    /// `x W`, finished, for the rows of `x`, `[n, n_in]`, normalised first if so asked, to `out`, `[n, n_out]`, or added to it.
    pub(crate) fn multiply(&self, x: &[f32], norm: Option<&LayerNorm>, add: bool, out: &mut [f32]) {
        let n = out.len().checked_div(self.n_out).unwrap_or(0);
        assert!(x.len() == n * self.n_in && out.len() == n * self.n_out, "rows of a product");
        let height = height(n, self.kernel);
        let block = |x: &[f32], out: &mut [f32]| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.rows.pack(x, self.n_in, norm, self.encoding, self.kernel);
                let n = out.len() / self.n_out;
                let target = if add { Target::Add(out) } else { Target::Set(out) };
                self.block(&scratch.rows, n, target, &mut scratch.sums);
            });
        };
        let (of_x, of_out) = ((height * self.n_in).max(1), (height * self.n_out).max(1));
        if ALONE.get() {
            x.par_chunks(of_x).zip(out.par_chunks_mut(of_out)).for_each(|(x, out)| block(x, out));
        } else {
            x.chunks(of_x).zip(out.chunks_mut(of_out)).for_each(|(x, out)| block(x, out));
        }
    }

    /// Adds to the rows of `x`, `[n, n_in]`, what `self` and then `second` make of them, normalised first if so asked; what stands between
    /// the two is packed at once where it can be, and lives in the cache.
    pub(crate) fn multiply_twice(&self, second: &Packed, norm: Option<&LayerNorm>, x: &mut [f32]) {
        let n = x.len().checked_div(self.n_in).unwrap_or(0);
        assert_eq!((self.n_in, self.n_out), (second.n_out, second.n_in), "sizes of two products behind each other");
        assert_eq!(self.encoding, second.encoding, "precisions of two products behind each other");
        let block = |x: &mut [f32]| {
            SCRATCH.with_borrow_mut(|scratch| {
                let Scratch { rows, between, wide, spreads, sums } = scratch;
                let n = x.len() / self.n_in;
                rows.pack(x, self.n_in, norm, self.encoding, self.kernel);
                if self.encoding.is_direct() {
                    between.resize(self.kernel, n, second.steps);
                    self.block(rows, n, Target::Pack(between), sums);
                } else {
                    wide.resize(n * self.n_out, 0.0);
                    spreads.clear();
                    spreads.resize(n, Spread::NONE);
                    self.block(rows, n, Target::Measure(wide, spreads), sums);
                    between.pack_measured(wide, self.n_out, spreads, self.encoding, self.kernel);
                }
                second.block(between, n, Target::Add(x), sums);
            });
        };
        let of_x = (height(n, self.kernel) * self.n_in).max(1);
        if ALONE.get() { x.par_chunks_mut(of_x).for_each(block) } else { x.chunks_mut(of_x).for_each(block) }
    }

    /// The product of packed rows, so few that they stay in the cache.
    fn block(&self, rows: &Rows, n: usize, mut target: Target<'_>, sums: &mut Words) {
        let (kernel, width) = (self.kernel, self.kernel.columns);
        let words = self.words.as_slice();
        let n_panels = self.n_out.div_ceil(width);
        // Parts of long rows; then the sums of all panels wait until the last part. Whole chunks, so that the same products are
        // summed together however many rows there are.
        let part = (cache::for_rows() / (4 * n) / kernel.chunk).max(1) * kernel.chunk;
        let n_parts = self.steps.div_ceil(part).max(1);
        let strip_len = kernel.filled(n) * width;
        // Panels that are finished together, so that what is written of each row are several lines behind each other.
        let group = (COLUMNS_TO_FINISH / width).min(n_panels);
        sums.resize(if n_parts > 1 { n_panels } else { group } * strip_len);
        let sums = sums.as_mut_numbers();
        for nth in 0..n_parts {
            let first_step = nth * part;
            let steps = part.min(self.steps - first_step);
            for first_panel in (0..n_panels).step_by(group) {
                let panels = group.min(n_panels - first_panel);
                let c = &mut sums[if n_parts > 1 { first_panel * strip_len } else { 0 }..][..panels * strip_len];
                let left = Left { words: rows.words.as_slice(), lay: Lay::Lines, stride: self.steps, rows: n, first_step };
                let words = &words[(first_panel * self.steps + first_step) * width..];
                let right = Right { words, panels, stride: self.steps * width, steps };
                let to = Sums { numbers: &mut *c, stride: width, panel: strip_len, carry: nth > 0 };
                Strip::new(kernel, left, right, to).run(kernel);
                if nth + 1 == n_parts {
                    widest_fused(Finishing {
                        of: self,
                        c,
                        strip_len,
                        n,
                        scales: &rows.scales,
                        first_panel,
                        target: &mut target,
                    });
                }
            }
        }
    }
}

/// Rows of which a product of 768 numbers each stays near: those of a block for every thread that takes part.
pub(crate) fn rows_nearby() -> usize {
    cache::rows_at_a_time() * n_threads()
}

/// Threads that share a product.
fn n_threads() -> usize {
    if ALONE.get() { rayon::current_num_threads() } else { 1 }
}

/// Rows that are multiplied together: as many as stay in the cache, or as few as give every thread some, in blocks of equal height, since
/// a short last one would stream the weights past a few rows.
fn height(n: usize, kernel: &Kernel) -> usize {
    let n_blocks = n.div_ceil(cache::rows_at_a_time()).max(n_threads()).max(1);
    kernel.filled(n.div_ceil(n_blocks).max(1))
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with products that use all threads. For a network that runs by itself: where several do, each with a thread of its own, they
/// would only get in each other's way.
pub fn on_all_threads<R>(work: impl FnOnce() -> R) -> R {
    /// Back to what it was, also when `work` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    work()
}

/// Sums of some panels to numbers: scales, bias, activation, and out.
struct Finishing<'a, 'b> {
    of: &'a Packed,
    /// `[panels][rows, columns]`, `strip_len` for each panel.
    c: &'a mut [f32],
    strip_len: usize,
    n: usize,
    /// Of integers the rows' scales.
    scales: &'a [RowScale],
    first_panel: usize,
    target: &'a mut Target<'b>,
}

/// Columns that are finished together, those of several panels, since loops of so many numbers become vector instructions whole.
const COLUMNS_TO_FINISH: usize = crate::simd::WIDE;
/// And where there are no more than so many, as in small convolutions.
const FEW_COLUMNS: usize = 32;

impl Loops for Finishing<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call<const FUSED: bool>(self) {
        if self.of.n_out - self.first_panel * self.of.kernel.columns > FEW_COLUMNS {
            self.rows::<FUSED, COLUMNS_TO_FINISH>();
        } else {
            self.rows::<FUSED, FEW_COLUMNS>();
        }
    }
}

/// A few numbers, as many as `to` takes: a call of the library's would cost more than the copy.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    const AT_A_TIME: usize = 16;
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<AT_A_TIME>(), to.as_chunks_mut::<AT_A_TIME>());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

impl Finishing<'_, '_> {
    /// All rows, in columns of which there are at most `N`.
    #[inline(always)]
    fn rows<const FUSED: bool, const N: usize>(self) {
        let Self { of, c, strip_len, n, scales, first_panel, target } = self;
        let Packed { kernel, encoding, n_out, activation, .. } = of;
        let first = first_panel * kernel.columns;
        let of_columns = |numbers: &'_ [f32]| numbers.get(first..).and_then(|numbers| numbers.first_chunk::<N>().copied());
        let bias = of_columns(&of.bias).expect("the bias of whole groups");
        let of_integers = of_columns(&of.units).zip(of_columns(&of.sums));
        let columns = first..first + N.min(n_out - first);
        let place = Place { steps: kernel.steps(*n_out), rows: kernel.rows };
        let mut numbers = [0.0; N];
        for row in 0..n {
            for (to, c) in numbers.chunks_exact_mut(kernel.columns).zip(c.chunks_exact(strip_len)) {
                copy(&c[row * kernel.columns..][..kernel.columns], to);
            }
            if let Some((units, sums)) = of_integers {
                let RowScale { unit, offset } = scales[row];
                // x is unit * q + offset, so that the sum of x w is this.
                for i in 0..N {
                    let sum = numbers[i].to_bits().cast_signed() as f32;
                    numbers[i] = sum * (unit * units[i]) + offset * sums[i];
                }
            }
            activation.add_bias::<FUSED>(&mut numbers, &bias);
            match target {
                Target::Set(out) => copy(&numbers[..columns.len()], &mut out[row * n_out..][columns.clone()]),
                Target::Measure(out, spreads) => {
                    let numbers = &numbers[..columns.len()];
                    spreads[row] = spreads[row].with(numbers);
                    copy(numbers, &mut out[row * n_out..][columns.clone()]);
                }
                Target::Add(out) => {
                    let out = &mut out[row * n_out..][columns.clone()];
                    match <&mut [f32; N]>::try_from(&mut *out) {
                        Ok(out) => (0..N).for_each(|i| out[i] += numbers[i]),
                        Err(_) => out.iter_mut().zip(&numbers).for_each(|(out, v)| *out += v),
                    }
                }
                Target::Pack(rows) => {
                    // What only fills the group up goes nowhere.
                    numbers[columns.len()..].fill(0.0);
                    let (per_line, words) = (encoding.per_line(), rows.words.as_mut_slice());
                    for (line, part) in (first / per_line..place.steps / LINE).zip(numbers.chunks(per_line)) {
                        encoding.line(part, place.line(words, row, line));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
