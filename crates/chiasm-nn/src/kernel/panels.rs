//! A matrix packed for one product, as attention needs it: keys and values are others each time.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::isa::{self, Kernel, Word};
use super::quantise::{Encoding, Place, bf16};
use super::tile::{self, Lay, Right, Strip};
use super::words::{Words, bits_of};
use super::{LINE, Precision};
use crate::activation::{Seen, exponentials, roughly_exp_of_negative};
use crate::simd::{Loops, WIDE, halved, largest, widest, widest_fused};

/// A matrix, and the kernel that multiplies by it: in single precision, or in pairs of bfloat16 where the layers around are not in single precision
/// either and the processor multiplies such pairs.
#[derive(Debug)]
pub(crate) struct Panels {
    kernel: &'static Kernel,
    /// Numbers of a row that it multiplies.
    n_in: usize,
    n_columns: usize,
    words: Words,
    /// What becomes columns, as words, where numbers are not multiplied as they are.
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

    /// So many columns, and what fills the last panel up.
    pub(crate) fn filled_columns(&self, columns: usize) -> usize {
        columns.next_multiple_of(self.kernel.columns)
    }

    /// So many rows of a product, and what fills the last tile up.
    pub(crate) fn filled_rows(&self, rows: usize) -> usize {
        self.kernel.filled(rows)
    }

    /// At most so many rows, and as many as make whole tiles, of which some kernels take two at a time.
    pub(crate) fn whole_tiles(&self, rows: usize) -> usize {
        let two = 2 * self.kernel.rows;
        (rows / two).max(1) * two
    }

    fn width(&self) -> usize {
        self.filled_columns(self.n_columns)
    }

    /// Whether rows are multiplied as pairs, which must be made of them, and not as they are.
    fn in_pairs(&self) -> bool {
        self.kernel.word == Word::Bf16
    }

    /// Words of a row, and of a column.
    fn steps(&self) -> usize {
        self.steps_of(self.n_in)
    }

    /// Words of so many numbers: of pairs whole lines.
    fn steps_of(&self, numbers: usize) -> usize {
        if self.in_pairs() { self.kernel.steps(numbers) } else { numbers }
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
        columns_of(rows, row_stride, n_columns, width, steps, self.words.as_mut_slice());
    }

    /// `n` rows of `n_in` numbers, `stride` apart, as this matrix is multiplied by them; `words` is for those that must be made others first.
    pub(crate) fn left<'a>(&self, x: &'a [f32], stride: usize, n_in: usize, n: usize, words: &'a mut Words) -> Left<'a> {
        let kernel = self.kernel;
        if !self.in_pairs() {
            return Left(tile::Left { words: bits_of(x), lay: Lay::Strided, stride, rows: n, first_step: 0 });
        }
        let steps = kernel.steps(n_in);
        words.resize(kernel.filled(n) * steps);
        widest(Pairs { x, stride, n_in, n, place: Place { steps, rows: kernel.rows }, to: words.as_mut_slice() });
        Left(tile::Left { words: words.as_slice(), lay: Lay::Lines, stride: steps, rows: n, first_step: 0 })
    }

    /// What [`exponentials`] makes of the scores of some queries, `n_keys` of them and what fills them up to `filled`, as this matrix is multiplied by it. Pairs are made
    /// of them while they are in registers.
    pub(crate) fn left_of_scores<'a>(
        &self,
        scores: Scores<'a>,
        n_keys: usize,
        seen: &mut [Seen],
        before: (&mut [f32], usize),
        words: &'a mut Words,
    ) -> Left<'a> {
        let Scores { numbers, filled, stride } = scores;
        if !self.in_pairs() {
            exponentials(numbers, filled, stride, seen, before.0, before.1);
            return self.left(numbers, stride, n_keys, seen.len(), words);
        }
        let (steps, n) = (self.kernel.steps(n_keys), seen.len());
        assert_eq!(2 * steps, filled, "whole lines of scores");
        words.resize(self.kernel.filled(n) * steps);
        let place = Place { steps, rows: self.kernel.rows };
        widest_fused(ScoresInPairs { scores: numbers, filled, stride, seen, before, place, to: words.as_mut_slice() });
        Left(tile::Left { words: words.as_slice(), lay: Lay::Lines, stride: steps, rows: n, first_step: 0 })
    }

    /// Rows, all of the matrix's numbers long, times these of its columns, the first of which begins a panel, to `c`, `[filled rows, columns]`, rows
    /// `stride` apart, where columns are filled up to whole panels.
    pub(crate) fn multiply_columns(&self, left: &Left<'_>, columns: Range<usize>, (c, stride): (&mut [f32], usize)) {
        let (steps, width) = (self.steps(), self.kernel.columns);
        assert!(columns.start.is_multiple_of(width) && columns.end <= self.n_columns, "columns of whole panels");
        let words = &self.words.as_slice()[columns.start * steps..];
        let right = Right { words, panels: columns.len().div_ceil(width), stride: steps * width, steps };
        self.run(left, right, tile::Sums { numbers: c, stride, panel: width, carry: false });
    }

    /// Rows of some of the matrix's numbers, the first of which begins a line, times that part of all its columns, to `c`, `[filled rows, width]`, or
    /// added to it.
    pub(crate) fn multiply_part(&self, left: &Left<'_>, part: Range<usize>, add: bool, c: &mut [f32]) {
        let (steps, width) = (self.steps(), self.kernel.columns);
        let per_step = self.kernel.word.elements();
        assert!(part.start.is_multiple_of(per_step * LINE) && part.end <= self.n_in, "a part of whole lines");
        let words = &self.words.as_slice()[part.start / per_step * width..];
        let right = Right { words, panels: self.width() / width, stride: steps * width, steps: self.steps_of(part.len()) };
        self.run(left, right, tile::Sums { numbers: c, stride: self.width(), panel: width, carry: add });
    }

    fn run(&self, Left(left): &Left<'_>, right: Right<'_>, sums: tile::Sums<'_>) {
        Strip::new(self.kernel, *left, right, sums).run(self.kernel);
    }
}

/// Rows of `steps` words, `stride` apart, become the columns of panels, `[panels][steps][width]`; what fills the last one up is left as it is.
pub(super) fn columns_of(rows: &[u32], stride: usize, n: usize, width: usize, steps: usize, panels: &mut [u32]) {
    for (nth, panel) in panels.chunks_exact_mut((steps * width).max(1)).enumerate() {
        let columns = &rows[nth * width * stride..];
        let n = width.min(n - nth * width);
        for (step, to) in panel.chunks_exact_mut(width).enumerate() {
            for (column, to) in to[..n].iter_mut().enumerate() {
                *to = columns[column * stride + step];
            }
        }
    }
}

/// Rows that [`Panels`] multiply.
pub(crate) struct Left<'a>(tile::Left<'a>);

/// Scores of queries, one row for each, `stride` apart, the first `filled` of a row.
pub(crate) struct Scores<'a> {
    pub(crate) numbers: &'a mut [f32],
    pub(crate) filled: usize,
    pub(crate) stride: usize,
}

/// Scores to tiles of pairs of their exponentials.
struct ScoresInPairs<'a, 'b> {
    scores: &'a [f32],
    filled: usize,
    stride: usize,
    seen: &'b mut [Seen],
    before: (&'b mut [f32], usize),
    place: Place,
    to: &'a mut [u32],
}

impl Loops for ScoresInPairs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call<const FUSED: bool>(self) {
        let Self { scores, filled, stride, seen, before: (before, of_before), place, to } = self;
        for (i, (row, seen)) in scores.chunks_exact(stride.max(1)).zip(seen).enumerate() {
            let row = &row[..filled];
            let max = largest(row, seen.largest());
            let mut sums = [0.0; WIDE];
            let (wide, rest) = row.as_chunks::<WIDE>();
            let per_wide = WIDE / (2 * LINE);
            for (nth, part) in wide.iter().enumerate() {
                let mut weights = [0.0; WIDE];
                for i in 0..WIDE {
                    weights[i] = roughly_exp_of_negative::<FUSED>(part[i] - max);
                    sums[i] += weights[i];
                }
                for (line, weights) in weights.as_chunks().0.iter().enumerate() {
                    pairs_of_weights(weights, place.line(to, i, nth * per_wide + line));
                }
            }
            for (nth, part) in rest.as_chunks::<{ 2 * LINE }>().0.iter().enumerate() {
                let mut weights = [0.0; 2 * LINE];
                for i in 0..2 * LINE {
                    weights[i] = roughly_exp_of_negative::<FUSED>(part[i] - max);
                    sums[i] += weights[i];
                }
                pairs_of_weights(&weights, place.line(to, i, wide.len() * per_wide + nth));
            }
            seen.and::<FUSED>(max, halved(sums, |a, b| a + b), &mut before[i * of_before..][..of_before]);
        }
    }
}

/// The pairs of a line of numbers of 0 to 1, rounded to the nearest: what [`Encoding::line`] does for any numbers, in a quarter of the instructions.
#[inline(always)]
fn pairs_of_weights(weights: &[f32; 2 * LINE], to: &mut [u32; LINE]) {
    for i in 0..LINE {
        to[i] =
            weights[i].to_bits().wrapping_add(0x8000) >> 16 | weights[LINE + i].to_bits().wrapping_add(0x8000) & 0xffff_0000;
    }
}

/// Rows to tiles of pairs of bfloat16.
pub(super) struct Pairs<'a> {
    /// Rows of `n_in` numbers, `stride` apart.
    pub(super) x: &'a [f32],
    pub(super) stride: usize,
    pub(super) n_in: usize,
    /// How many.
    pub(super) n: usize,
    pub(super) place: Place,
    pub(super) to: &'a mut [u32],
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
pub(super) struct Straight<'a> {
    pub(super) b: &'a [f32],
    pub(super) n_in: usize,
    pub(super) n_columns: usize,
    pub(super) stride: usize,
    /// Words of a column.
    pub(super) steps: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    /// Whether two rows become one of words.
    pub(super) pairs: bool,
    /// Zeros so far.
    pub(super) words: &'a mut [u32],
}

impl NullaryFnOnce for Straight<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { b, n_in, n_columns, stride, steps, width, pairs, words } = self;
        for (nth, panel) in words.chunks_exact_mut((steps * width).max(1)).enumerate() {
            let first = nth * width;
            let n = width.min(n_columns - first);
            let row = |at: usize| &b[at * stride + first..][..n];
            for (step, to) in panel.chunks_exact_mut(width).enumerate() {
                // Rows that become one are as far apart as the halves of a line.
                let at = if pairs { step / LINE * 2 * LINE + step % LINE } else { step };
                if at >= n_in {
                    continue;
                }
                if !pairs {
                    to.iter_mut().zip(row(at)).for_each(|(to, v)| *to = v.to_bits());
                } else if at + LINE < n_in {
                    let both = row(at).iter().zip(row(at + LINE));
                    to.iter_mut().zip(both).for_each(|(to, (a, b))| *to = u32::from(bf16(*a)) | u32::from(bf16(*b)) << 16);
                } else {
                    to.iter_mut().zip(row(at)).for_each(|(to, a)| *to = u32::from(bf16(*a)));
                }
            }
        }
    }
}
