//! A matrix packed for one product, as attention needs it: keys and values are others each time.

use pulp::NullaryFnOnce;

use super::isa::{self, Kernel, Word};
use super::quantise::{Encoding, bf16};
use super::tile::Strip;
use super::words::bits_of;
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
    words: Vec<u32>,
    /// Rows as words, where their numbers are not multiplied as they are.
    rows: Vec<u32>,
}

impl Default for Panels {
    fn default() -> Self {
        Self { kernel: isa::best(Precision::F32), n_in: 0, n_columns: 0, words: Vec::new(), rows: Vec::new() }
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

    /// Words of a row, and of a column.
    fn steps(&self) -> usize {
        self.n_in.div_ceil(self.kernel.word.elements())
    }

    /// `[n_in, n_columns]`, rows `stride` apart.
    pub(crate) fn pack(&mut self, b: &[f32], n_in: usize, n_columns: usize, stride: usize) {
        let width = self.kernel.columns;
        (self.n_in, self.n_columns) = (n_in, n_columns);
        self.words.clear();
        self.words.resize(self.steps() * self.width(), 0);
        widest(Straight { b, n_in, n_columns, stride, width, pairs: self.kernel.word == Word::Bf16, words: &mut self.words });
    }

    /// The transpose of `[n_columns, n_in]`, rows `stride` apart.
    pub(crate) fn pack_transposed(&mut self, b: &[f32], n_columns: usize, n_in: usize, stride: usize) {
        let width = self.kernel.columns;
        (self.n_in, self.n_columns) = (n_in, n_columns);
        let steps = self.steps();
        self.words.clear();
        self.words.resize(steps * self.width(), 0);
        let (rows, row_stride) = as_words(self.kernel, (b, stride), n_columns, n_in, &mut self.rows);
        for (nth, panel) in self.words.chunks_exact_mut((steps * width).max(1)).enumerate() {
            let columns = &rows[nth * width * row_stride..];
            let n = width.min(n_columns - nth * width);
            for (step, to) in panel.chunks_exact_mut(width).enumerate() {
                for (column, to) in to[..n].iter_mut().enumerate() {
                    *to = columns[column * row_stride + step];
                }
            }
        }
    }

    /// `rows` rows of `a`, `a_stride` apart, times the packed matrix, to `c`, `[rows, width]`.
    pub(crate) fn multiply(&mut self, a: &[f32], a_stride: usize, rows: usize, c: &mut [f32]) {
        let (columns, width, steps) = (self.kernel.columns, self.width(), self.steps());
        let (a, a_stride) = as_words(self.kernel, (a, a_stride), rows, self.n_in, &mut self.rows);
        for first in (0..width).step_by(columns) {
            let b = &self.words[first * steps..][..columns * steps];
            Strip::strided(a, a_stride, rows, b, steps, &mut c[first..], width).run(self.kernel);
        }
    }
}

/// Words of a row of `n` numbers in pairs, whole lines of them.
fn row_words(n: usize) -> usize {
    n.div_ceil(2).next_multiple_of(LINE)
}

/// Rows of `n` numbers, so far apart, as the words that a kernel takes, and how far apart these are: as they are, or as pairs of bfloat16 in `room`.
fn as_words<'a>(
    kernel: &Kernel,
    (x, stride): (&'a [f32], usize),
    rows: usize,
    n: usize,
    room: &'a mut Vec<u32>,
) -> (&'a [u32], usize) {
    if kernel.word != Word::Bf16 {
        return (bits_of(x), stride);
    }
    room.resize(rows * row_words(n), 0);
    widest(Pairs { x, stride, n, to: room });
    (room, row_words(n))
}

struct Pairs<'a> {
    x: &'a [f32],
    stride: usize,
    n: usize,
    to: &'a mut [u32],
}

impl NullaryFnOnce for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, stride, n, to } = self;
        for (row, to) in to.chunks_exact_mut(row_words(n).max(1)).enumerate() {
            let row = &x[row * stride..][..n];
            for (part, to) in row.chunks(2 * LINE).zip(to.as_chunks_mut().0) {
                Encoding::PAIRS.line(part, to);
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
        let Self { b, n_in, n_columns, stride, width, pairs, words } = self;
        let rows_of_word = if pairs { 2 } else { 1 };
        let steps = n_in.div_ceil(rows_of_word);
        for (nth, panel) in words.chunks_exact_mut((steps * width).max(1)).enumerate() {
            let first = nth * width;
            let n = width.min(n_columns - first);
            for (step, to) in panel.chunks_exact_mut(width).enumerate() {
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
