//! Products of two matrices that are both others each time, as training needs them: both are packed anew, the right one once for all rows.

use std::cell::{Cell, RefCell};

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::isa::{self, Kernel, Word};
use super::panels::{Pairs, Straight, columns_of};
use super::quantise::{Place, bf16};
use super::tile::{Lay, Left, Right, Strip, Sums};
use super::words::Words;
use super::{LINE, Precision, cache};
use crate::simd::widest;

/// A matrix `[rows, columns]` as it enters a product.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Row by row, or, if `turned`, column by column.
    pub(crate) numbers: &'a [f32],
    pub(crate) turned: bool,
}

thread_local! {
    /// Panels of the right side; taken while they are used, since a thread that waits for others may begin another product.
    static PANELS: Cell<Words> = Cell::default();
    /// Tiles of rows of the left side, and sums that do not fit into the product.
    static LEFT: RefCell<(Words, Words)> = RefCell::default();
    /// What is turned on its way to pairs: rows of the left side, or words of the right.
    static TURNED: RefCell<(Vec<f32>, Words)> = RefCell::default();
}

/// `a b` to `out`, `[a.rows, b.columns]`, on all threads. A row of the product depends on its own row of `a` alone, so neither blocks nor threads change
/// a number. In bfloat16 both sides are rounded and summed in single precision; where the processor multiplies no such pairs the rounded numbers are multiplied as
/// any others, which gives about the same and takes longer than without.
///
/// # Panics
/// If the sizes do not go together, or precision is that of integers.
pub(crate) fn product(precision: Precision, a: Factor<'_>, b: Factor<'_>, out: &mut [f32]) {
    assert!(precision != Precision::Int8, "products of numbers that change have no scales for integers");
    let kernel = isa::best(precision);
    if precision == Precision::Bf16 && kernel.word == Word::F32 {
        let round = |of: &[f32]| of.iter().map(|v| f32::from_bits(u32::from(bf16(*v)) << 16)).collect::<Vec<f32>>();
        let (left, right) = (round(a.numbers), round(b.numbers));
        return by(kernel, Factor { numbers: &left, ..a }, Factor { numbers: &right, ..b }, out);
    }
    by(kernel, a, b, out);
}

fn by(kernel: &'static Kernel, a: Factor<'_>, b: Factor<'_>, out: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(
        k == b.rows && a.numbers.len() == m * k && b.numbers.len() == k * n && out.len() == m * n,
        "sizes of a product: [{m}, {k}] by [{}, {n}]",
        b.rows
    );
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        out.fill(0.0);
        return;
    }
    let (width, steps, pairs) = (kernel.columns, kernel.steps(k), kernel.word == Word::Bf16);
    let mut panels = PANELS.take();
    panels.resize(n.div_ceil(width) * steps * width);
    let pack = |(nth, panels): (usize, &mut [u32])| {
        let first = nth * SIDE_BY_SIDE * width;
        if pairs {
            panels_of_pairs(b, first, width, steps, panels)
        } else {
            widest(Panels { of: b, first, width, steps, panels })
        }
    };
    panels.as_mut_slice().par_chunks_mut(SIDE_BY_SIDE * steps * width).enumerate().for_each(pack);

    // As many rows as stay in the second cache, and some for every thread.
    let most = (cache::for_rows() / (4 * steps.min(PART))).min(m.div_ceil(rayon::current_num_threads())).max(1);
    let height = m.div_ceil(m.div_ceil(most)).next_multiple_of(kernel.rows);
    out.par_chunks_mut(height * n).enumerate().for_each(|(nth, out)| {
        let rows = out.len() / n;
        LEFT.with_borrow_mut(|(tiles, sums)| {
            // Where a kernel would write beside the product, it writes into sums of its own.
            let whole = rows.is_multiple_of(kernel.rows) && n.is_multiple_of(width);
            let stride = n.next_multiple_of(width);
            if !whole {
                sums.resize(kernel.filled(rows) * stride);
            }
            for first in (0..steps).step_by(PART) {
                let part = PART.min(steps - first);
                tiles.resize(kernel.filled(rows) * part);
                let tiles_of = Tiles {
                    of: a,
                    first: nth * height,
                    rows,
                    first_step: first,
                    kernel,
                    steps: part,
                    tiles: tiles.as_mut_slice(),
                };
                if pairs {
                    tiles_of.of_pairs()
                } else {
                    widest(tiles_of)
                }
                let lay = if a.turned && !pairs { Lay::Steps } else { Lay::Lines };
                let left = Left { words: tiles.as_slice(), lay, stride: part, rows, first_step: 0 };
                let right = Right {
                    words: &panels.as_slice()[first * width..],
                    panels: stride / width,
                    stride: steps * width,
                    steps: part,
                };
                let numbers = if whole { &mut *out } else { sums.as_mut_numbers() };
                Strip::new(kernel, left, right, Sums { numbers, stride, panel: width, carry: first > 0 }).run(kernel);
            }
            if !whole {
                let sums = sums.as_mut_numbers().chunks_exact(stride);
                out.chunks_exact_mut(n).zip(sums).for_each(|(out, sums)| out.copy_from_slice(&sums[..n]));
            }
        });
    });
    PANELS.set(panels);
}

/// Steps of the rows that are packed at a time: whole chunks of every kernel, whose sums are added up in any case, so that this changes no number. Of
/// rows as long as a batch has things, as gradients of weights multiply, only few would stay in the second cache whole.
const PART: usize = 512;

/// Panels that are packed together, from longer pieces of each row.
const SIDE_BY_SIDE: usize = 8;

/// Columns from `first` on to panels, `[panels][steps][width]`, filled up with zeros.
struct Panels<'a> {
    of: Factor<'a>,
    first: usize,
    width: usize,
    steps: usize,
    panels: &'a mut [u32],
}

impl NullaryFnOnce for Panels<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of: Factor { rows: k, columns: n, numbers, turned }, first, width, steps, panels } = self;
        if n < first + panels.len() / steps || k < steps {
            panels.fill(0);
        }
        if turned {
            for (panel, rows) in panels.chunks_exact_mut(steps * width).zip(numbers[first * k..].chunks(width * k)) {
                turn(rows, k, width, &mut panel[..k * width]);
            }
            return;
        }
        for (step, row) in numbers.chunks_exact(n).enumerate() {
            for (panel, row) in panels.chunks_exact_mut(steps * width).zip(row[first..].chunks(width)) {
                let to = &mut panel[step * width..][..row.len()];
                let ((to, to_rest), (row, row_rest)) = (to.as_chunks_mut::<LINE>(), row.as_chunks::<LINE>());
                to.iter_mut().zip(row).for_each(|(to, row)| *to = row.map(f32::to_bits));
                to_rest.iter_mut().zip(row_rest).for_each(|(to, v)| *to = v.to_bits());
            }
        }
    }
}

/// The same columns to panels of pairs.
fn panels_of_pairs(b: Factor<'_>, first: usize, width: usize, steps: usize, panels: &mut [u32]) {
    let Factor { rows: k, columns: n, numbers, turned } = b;
    let n_columns = (n - first).min(panels.len() / steps);
    panels.fill(0);
    if !turned {
        widest(Straight { b: &numbers[first..], n_in: k, n_columns, stride: n, steps, width, pairs: true, words: panels });
        return;
    }
    TURNED.with_borrow_mut(|(_, words)| {
        words.resize(n_columns * steps);
        // One row to a tile, which leaves them behind each other.
        let place = Place { steps, rows: 1 };
        widest(Pairs { x: &numbers[first * k..], stride: k, n_in: k, n: n_columns, place, to: words.as_mut_slice() });
        columns_of(words.as_slice(), steps, n_columns, width, steps, panels);
    });
}

/// Rows of `k` numbers each become columns, `[k][width]`: squares of eight by eight numbers, which the registers hold.
#[inline(always)]
fn turn(rows: &[f32], k: usize, width: usize, to: &mut [u32]) {
    const SIDE: usize = 8;
    for (block, rows) in rows.chunks(SIDE * k).enumerate() {
        let (first, n) = (block * SIDE, rows.len() / k);
        let mut step = 0;
        if n == SIDE {
            while step + SIDE <= k {
                let square: [[f32; SIDE]; SIDE] =
                    std::array::from_fn(|r| *rows[r * k + step..].first_chunk().expect("eight of a row"));
                for s in 0..SIDE {
                    let column: [u32; SIDE] = std::array::from_fn(|r| square[r][s].to_bits());
                    to[(step + s) * width + first..][..SIDE].copy_from_slice(&column);
                }
                step += SIDE;
            }
        }
        for (r, row) in rows.chunks_exact(k).enumerate() {
            (step..k).for_each(|s| to[s * width + first + r] = row[s].to_bits());
        }
    }
}

/// Steps from `first_step` on of rows from `first` on to tiles, filled up with zeros: [`Lay::Lines`], or [`Lay::Steps`] where rows are columns of the matrix.
struct Tiles<'a> {
    of: Factor<'a>,
    first: usize,
    rows: usize,
    first_step: usize,
    steps: usize,
    kernel: &'static Kernel,
    tiles: &'a mut [u32],
}

impl Tiles<'_> {
    /// The same in pairs, always as [`Lay::Lines`].
    fn of_pairs(self) {
        let Self { of: Factor { rows: m, columns: k, numbers, turned }, first, rows, first_step, steps, kernel, tiles } = self;
        let (from, n_in) = (2 * first_step, (k - 2 * first_step).min(2 * steps));
        let place = Place { steps, rows: kernel.rows };
        if kernel.filled(rows) > rows || n_in < 2 * steps {
            tiles.fill(0);
        }
        if !turned {
            widest(Pairs { x: &numbers[first * k + from..], stride: k, n_in, n: rows, place, to: tiles });
            return;
        }
        TURNED.with_borrow_mut(|(straight, _)| {
            straight.resize(rows * n_in, 0.0);
            // A few columns at a time, or each number that is written would lie in another line of the cache than the one before.
            for at in (0..n_in).step_by(8) {
                for (row, to) in straight.chunks_exact_mut(n_in).enumerate() {
                    let of_row = (at..n_in.min(at + 8)).map(|column| numbers[(from + column) * m + first + row]);
                    to[at..].iter_mut().zip(of_row).for_each(|(to, v)| *to = v);
                }
            }
            widest(Pairs { x: straight.as_slice(), stride: n_in, n_in, n: rows, place, to: tiles });
        });
    }
}

impl NullaryFnOnce for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of: Factor { rows: m, columns: k, numbers, turned }, first, rows, first_step, steps, kernel, tiles } = self;
        let (height, tile) = (kernel.rows, steps * kernel.rows);
        if kernel.filled(rows) > rows || first_step + steps > k {
            tiles.fill(0);
        }
        let steps_here = steps.min(k - first_step);
        if turned {
            let columns = (first_step..first_step + steps_here).map(|step| &numbers[step * m + first..][..rows]);
            match height {
                6 => side_by_side::<6>(columns, tiles, tile),
                12 => side_by_side::<12>(columns, tiles, tile),
                _ => columns.enumerate().for_each(|(step, column)| {
                    for (tile, part) in tiles.chunks_exact_mut(tile).zip(column.chunks(height)) {
                        tile[step * height..].iter_mut().zip(part).for_each(|(to, v)| *to = v.to_bits());
                    }
                }),
            }
            return;
        }
        for (nth, tile) in tiles.chunks_exact_mut(tile).enumerate() {
            let (at, own) = (first + nth * height, height.min(rows - nth * height));
            for (line, tile) in tile.chunks_exact_mut(height * LINE).enumerate() {
                let (step, n) = (first_step + line * LINE, LINE.min(steps_here - line * LINE));
                for (r, to) in tile.chunks_exact_mut(LINE).take(own).enumerate() {
                    let row = &numbers[(at + r) * k + step..][..n];
                    to.iter_mut().zip(row).for_each(|(to, v)| *to = v.to_bits());
                }
            }
        }
    }
}

/// Columns, each of which is a step, to tiles of `tile` words, `[tiles][steps][ROWS]`.
#[inline(always)]
fn side_by_side<'a, const ROWS: usize>(columns: impl Iterator<Item = &'a [f32]>, tiles: &mut [u32], tile: usize) {
    for (step, column) in columns.enumerate() {
        let (whole, rest) = column.as_chunks::<ROWS>();
        let mut at = tiles.chunks_exact_mut(tile);
        for (part, tile) in whole.iter().zip(&mut at) {
            tile[step * ROWS..][..ROWS].copy_from_slice(&part.map(f32::to_bits));
        }
        if let Some(tile) = at.next() {
            tile[step * ROWS..].iter_mut().zip(rest).for_each(|(to, v)| *to = v.to_bits());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::numbers;

    fn turned(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
    }

    #[test]
    fn equals_the_sum_written_out_whichever_way_the_sides_lie() {
        for kernel in isa::all(Precision::F32) {
            for [m, k, n] in
                [[1, 1, 1], [7, 33, 21], [24, 64, 64], [50, 130, 40], [130, 17, 96], [12, 300, 32], [31, 1100, 150]]
            {
                let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
                let left = |turned| Factor { rows: m, columns: k, numbers: if turned { &a_turned } else { &a }, turned };
                let right = |turned| Factor { rows: k, columns: n, numbers: if turned { &b_turned } else { &b }, turned };
                let mut first = vec![f32::NAN; m * n];
                by(kernel, left(false), right(false), &mut first);
                for (i, row) in first.chunks_exact(n).enumerate() {
                    for (j, v) in row.iter().enumerate() {
                        let exact: f64 = (0..k).map(|s| f64::from(a[i * k + s]) * f64::from(b[s * n + j])).sum();
                        let off = (f64::from(*v) - exact).abs();
                        assert!(off < 1e-7 * k as f64 + 2e-6, "{} [{m}, {k}, {n}] at {i}, {j}: off by {off:.1e}", kernel.name);
                    }
                }
                for (of_left, of_right) in [(true, false), (false, true), (true, true)] {
                    let mut other = vec![f32::NAN; m * n];
                    by(kernel, left(of_left), right(of_right), &mut other);
                    assert!(other == first, "{} [{m}, {k}, {n}], turned {of_left}, {of_right}", kernel.name);
                }
            }
        }
    }

    /// Pairs in plain, in the shapes of AMX: what is packed for it is tested on processors without it.
    static PAIRS: Kernel =
        Kernel { name: "pairs in plain", word: Word::Bf16, columns: 32, rows: 16, chunk: 128, strip: pairs, is_here: || true };

    #[expect(unsafe_code, reason = "a kernel is given pointers")]
    unsafe fn pairs(s: Strip) {
        let half = |word: u32, nth: u32| f32::from_bits(word >> (16 * nth) << 16);
        for part in s.panels() {
            for row in 0..part.rows.next_multiple_of(16) {
                for column in 0..32 {
                    // SAFETY: of packed rows the strip holds whole tiles, `[lines][16 rows][16 words]`, of the panel `[steps][32]`, and its constructor has
                    // checked that all of them, and the sums, are there.
                    unsafe {
                        let sum = part.c.add(row * part.c_stride + column).cast::<f32>();
                        let mut total = if part.carry { sum.read() } else { 0.0 };
                        for step in 0..part.steps {
                            let at = part.first_step + step;
                            let tile = part.a.add(row / 16 * part.a_stride + (at / LINE * 16 + row % 16) * LINE + at % LINE);
                            let (a, b) = (tile.read(), part.b.add(step * 32 + column).read());
                            total += half(a, 0) * half(b, 0) + half(a, 1) * half(b, 1);
                        }
                        sum.write(total);
                    }
                }
            }
        }
    }

    #[test]
    fn products_in_bfloat16_are_those_of_rounded_numbers() {
        let round = |v: &f32| f64::from(f32::from_bits(u32::from(bf16(*v)) << 16));
        for [m, k, n] in [[1, 1, 1], [7, 33, 21], [24, 64, 64], [50, 130, 40], [17, 1100, 33], [31, 2100, 300]] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
            for (of_left, of_right) in [(false, false), (true, false), (false, true), (true, true)] {
                let left = Factor { rows: m, columns: k, numbers: if of_left { &a_turned } else { &a }, turned: of_left };
                let right = Factor { rows: k, columns: n, numbers: if of_right { &b_turned } else { &b }, turned: of_right };
                let (mut here, mut in_pairs) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
                product(Precision::Bf16, left, right, &mut here);
                by(&PAIRS, left, right, &mut in_pairs);
                for (at, (here, in_pairs)) in here.iter().zip(&in_pairs).enumerate() {
                    let (i, j) = (at / n, at % n);
                    let exact: f64 = (0..k).map(|s| round(&a[i * k + s]) * round(&b[s * n + j])).sum();
                    for v in [here, in_pairs] {
                        let off = (f64::from(*v) - exact).abs();
                        assert!(off < 1e-7 * k as f64 + 2e-6, "[{m}, {k}, {n}] at {i}, {j}: off by {off:.1e}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_inner_numbers_it_is_zero() {
        let factor = |rows, columns| Factor { rows, columns, numbers: &[], turned: false };
        let mut out = [1.0; 6];
        product(Precision::F32, factor(2, 0), factor(0, 3), &mut out);
        assert_eq!(out, [0.0; 6]);
        product(Precision::F32, factor(0, 5), Factor { numbers: &[1.0; 5], ..factor(5, 1) }, &mut []);
    }
}
