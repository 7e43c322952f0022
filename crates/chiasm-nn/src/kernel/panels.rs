//! A matrix packed for one product, as attention needs it: keys and values are others each time.

use pulp::NullaryFnOnce;

use super::isa::{self, Kernel, Word};
use super::quantise::{Encoding, Place, bf16};
use super::tile::Strip;
use super::words::{Words, bits_of};
use super::{LINE, Precision};
use crate::simd::widest;

/// A matrix, and the kernel that multiplies by it: in single precision, or in pairs of bfloat16 where the layers around are not in single precision
/// either and the processor multiplies such pairs.
#[derive(Debug)]
pub(crate) struct Panels {
    kernel: &'static Kernel,
    /// Numbers of a row that it multiplies.
    n_in: usize,
    n_columns: usize,
    words: Words,
    /// Rows as words, where their numbers are not multiplied as they are.
    rows: Words,
}

impl Default for Panels {
    fn default() -> Self {
        Self { kernel: isa::best(Precision::F32), n_in: 0, n_columns: 0, words: Words::default(), rows: Words::default() }
    }
}

impl Panels {
    /// From now on with what goes with layers of this precision.
    pub(crate) fn beside(&mut self, precision: Precision) {
        self.kernel = isa::beside(precision);
    }

    /// Numbers per row of a product: the columns, and what fills the last panel up.
    pub(crate) fn width(&self) -> usize {
        self.n_columns.next_multiple_of(self.kernel.columns)
    }

    /// Rows of a product of so many: they, and what fills the last tile up.
    pub(crate) fn filled(&self, rows: usize) -> usize {
        self.kernel.filled(rows)
    }

    /// Whether rows are multiplied as pairs, which must be made of them, and not as they are.
    fn in_pairs(&self) -> bool {
        self.kernel.word == Word::Bf16
    }

    /// Words of a row, and of a column.
    fn steps(&self) -> usize {
        if self.in_pairs() { self.kernel.steps(self.n_in) } else { self.n_in }
    }

    /// Makes place for so many columns, all zeros.
    fn clear(&mut self, n_in: usize, n_columns: usize) {
        (self.n_in, self.n_columns) = (n_in, n_columns);
        self.words.resize(self.steps() * self.width());
        self.words.as_mut_slice().fill(0);
    }

    /// `[n_in, n_columns]`, rows `stride` apart.
    pub(crate) fn pack(&mut self, b: &[f32], n_in: usize, n_columns: usize, stride: usize) {
        self.clear(n_in, n_columns);
        let (steps, width, pairs) = (self.steps(), self.kernel.columns, self.in_pairs());
        widest(Straight { b, n_in, n_columns, stride, steps, width, pairs, words: self.words.as_mut_slice() });
    }

    /// The transpose of `[n_columns, n_in]`, rows `stride` apart.
    pub(crate) fn pack_transposed(&mut self, b: &[f32], n_columns: usize, n_in: usize, stride: usize) {
        self.clear(n_in, n_columns);
        let (steps, width) = (self.steps(), self.kernel.columns);
        let (rows, row_stride) = if self.in_pairs() {
            self.rows.resize(n_columns * steps);
            // One row to a tile, which leaves them behind each other.
            widest(Pairs { x: b, stride, n_in, n: n_columns, place: Place { steps, rows: 1 }, to: self.rows.as_mut_slice() });
            (self.rows.as_slice(), steps)
        } else {
            (bits_of(b), stride)
        };
        for (nth, panel) in self.words.as_mut_slice().chunks_exact_mut((steps * width).max(1)).enumerate() {
            let columns = &rows[nth * width * row_stride..];
            let n = width.min(n_columns - nth * width);
            for (step, to) in panel.chunks_exact_mut(width).enumerate() {
                for (column, to) in to[..n].iter_mut().enumerate() {
                    *to = columns[column * row_stride + step];
                }
            }
        }
    }

    /// `n` rows of `a`, `stride` apart, times the packed matrix, to `c`, `[filled rows, width]`.
    pub(crate) fn multiply(&mut self, a: &[f32], stride: usize, n: usize, c: &mut [f32]) {
        let (kernel, n_in, width, steps, in_pairs) = (self.kernel, self.n_in, self.width(), self.steps(), self.in_pairs());
        let columns = kernel.columns;
        if in_pairs {
            self.rows.resize(kernel.filled(n) * steps);
            let place = Place { steps, rows: kernel.rows };
            widest(Pairs { x: a, stride, n_in, n, place, to: self.rows.as_mut_slice() });
        }
        for first in (0..width).step_by(columns) {
            let (b, c) = (&self.words.as_slice()[first * steps..][..columns * steps], &mut c[first..]);
            let strip = if in_pairs {
                Strip::packed(kernel, (self.rows.as_slice(), steps, n), 0, b, (c, width), false)
            } else {
                Strip::strided(bits_of(a), stride, n, b, steps, c, width)
            };
            strip.run(kernel);
        }
    }
}

/// Rows to tiles of pairs of bfloat16.
struct Pairs<'a> {
    /// Rows of `n_in` numbers, `stride` apart.
    x: &'a [f32],
    stride: usize,
    n_in: usize,
    /// How many.
    n: usize,
    place: Place,
    to: &'a mut [u32],
}

impl NullaryFnOnce for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, stride, n_in, n, place, to } = self;
        for i in 0..n {
            for (line, part) in x[i * stride..][..n_in].chunks(2 * LINE).enumerate() {
                Encoding::PAIRS.line(part, place.line(to, i, line));
            }
        }
    }
}

/// Rows of a matrix to panels.
struct Straight<'a> {
    b: &'a [f32],
    n_in: usize,
    n_columns: usize,
    stride: usize,
    /// Words of a column.
    steps: usize,
    /// Columns of a panel.
    width: usize,
    /// Whether two rows become one of words.
    pairs: bool,
    /// Zeros so far.
    words: &'a mut [u32],
}

impl NullaryFnOnce for Straight<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { b, n_in, n_columns, stride, steps, width, pairs, words } = self;
        let rows_of_word = if pairs { 2 } else { 1 };
        for (nth, panel) in words.chunks_exact_mut((steps * width).max(1)).enumerate() {
            let first = nth * width;
            let n = width.min(n_columns - first);
            for (step, to) in panel.chunks_exact_mut(width).take(n_in.div_ceil(rows_of_word)).enumerate() {
                let row = |nth: usize| &b[(step * rows_of_word + nth) * stride + first..][..n];
                if !pairs {
                    to.iter_mut().zip(row(0)).for_each(|(to, v)| *to = v.to_bits());
                } else if 2 * step + 1 < n_in {
                    let both = row(0).iter().zip(row(1));
                    to.iter_mut().zip(both).for_each(|(to, (a, b))| *to = u32::from(bf16(*a)) | u32::from(bf16(*b)) << 16);
                } else {
                    to.iter_mut().zip(row(0)).for_each(|(to, a)| *to = u32::from(bf16(*a)));
                }
            }
        }
    }
}
