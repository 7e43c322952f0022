//! Products of two matrices that are both others each time, as training needs them: both are packed anew, the right one once for all rows.

use std::cell::{Cell, RefCell};

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::isa::{self, Kernel};
use super::tile::Strip;
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
}

/// `a b` to `out`, `[a.rows, b.columns]`, on all threads. A row of the product depends on its own row of `a` alone, so neither blocks nor threads change
/// a number.
///
/// # Panics
/// If the sizes do not go together.
pub(crate) fn product(a: Factor<'_>, b: Factor<'_>, out: &mut [f32]) {
    by(isa::best(Precision::F32), a, b, out);
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
    let (width, steps) = (kernel.columns, kernel.steps(k));
    let mut panels = PANELS.take();
    panels.resize(n.div_ceil(width) * steps * width);
    let pack = |(nth, panel): (usize, &mut [u32])| widest(Panel { of: b, first: nth * width, width, panel });
    panels.as_mut_slice().par_chunks_mut(steps * width).enumerate().for_each(pack);

    // As many rows as stay in the second cache, and some for every thread.
    let most = (cache::for_rows() / (4 * steps)).min(m.div_ceil(rayon::current_num_threads())).max(1);
    let height = m.div_ceil(m.div_ceil(most)).next_multiple_of(kernel.rows);
    out.par_chunks_mut(height * n).enumerate().for_each(|(nth, out)| {
        let rows = out.len() / n;
        LEFT.with_borrow_mut(|(tiles, sums)| {
            tiles.resize(kernel.filled(rows) * steps);
            widest(Tiles { of: a, first: nth * height, rows, kernel, steps, tiles: tiles.as_mut_slice() });
            for (panel, b) in panels.as_slice().chunks_exact(steps * width).enumerate() {
                let first = panel * width;
                let whole = rows.is_multiple_of(kernel.rows) && first + width <= n;
                let (c, stride) = if whole {
                    (&mut out[first..], n)
                } else {
                    sums.resize(kernel.filled(rows) * width);
                    (sums.as_mut_numbers(), width)
                };
                Strip::packed(kernel, (tiles.as_slice(), steps, rows), 0, b, (c, stride), false).run(kernel);
                if !whole {
                    let own = width.min(n - first);
                    let sums = sums.as_mut_numbers().chunks_exact(width);
                    out.chunks_exact_mut(n)
                        .zip(sums)
                        .for_each(|(out, sums)| out[first..first + own].copy_from_slice(&sums[..own]));
                }
            }
        });
    });
    PANELS.set(panels);
}

/// Columns from `first` on to a panel, `[steps][width]`, filled up with zeros.
struct Panel<'a> {
    of: Factor<'a>,
    first: usize,
    width: usize,
    panel: &'a mut [u32],
}

impl NullaryFnOnce for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of: Factor { rows: k, columns: n, numbers, turned }, first, width, panel } = self;
        let own = width.min(n - first);
        let (filled, rest) = panel.split_at_mut(k * width);
        rest.fill(0);
        if own < width {
            filled.fill(0);
        }
        if turned {
            turn(&numbers[first * k..(first + own) * k], k, width, filled);
        } else {
            for (to, row) in filled.chunks_exact_mut(width).zip(numbers.chunks_exact(n)) {
                to.iter_mut().zip(&row[first..first + own]).for_each(|(to, v)| *to = v.to_bits());
            }
        }
    }
}

/// Rows of `k` numbers each become columns, `[k][width]`: squares of a line at a time, which stay in the first cache.
#[inline(always)]
fn turn(rows: &[f32], k: usize, width: usize, to: &mut [u32]) {
    for (line, to) in to.chunks_mut(LINE * width).enumerate() {
        for (c, row) in rows.chunks_exact(k).enumerate() {
            let part = &row[line * LINE..k.min((line + 1) * LINE)];
            for (to, v) in to.chunks_exact_mut(width).zip(part) {
                to[c] = v.to_bits();
            }
        }
    }
}

/// Rows from `first` on to tiles, `[tiles][lines][rows of the kernel][LINE]`, filled up with zeros.
struct Tiles<'a> {
    of: Factor<'a>,
    first: usize,
    rows: usize,
    kernel: &'static Kernel,
    steps: usize,
    tiles: &'a mut [u32],
}

impl NullaryFnOnce for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of: Factor { rows: m, columns: k, numbers, turned }, first, rows, kernel, steps, tiles } = self;
        let height = kernel.rows;
        for (nth, tile) in tiles.chunks_exact_mut(steps * height).enumerate() {
            let (at, own) = (first + nth * height, height.min(rows - nth * height));
            for (line, tile) in tile.chunks_exact_mut(height * LINE).enumerate() {
                let (step, n) = (line * LINE, LINE.min(k - line * LINE));
                if own < height || n < LINE {
                    tile.fill(0);
                }
                if turned {
                    for s in 0..n {
                        let column = &numbers[(step + s) * m + at..][..own];
                        column.iter().enumerate().for_each(|(r, v)| tile[r * LINE + s] = v.to_bits());
                    }
                } else {
                    for (r, to) in tile.chunks_exact_mut(LINE).take(own).enumerate() {
                        let row = &numbers[(at + r) * k + step..][..n];
                        to.iter_mut().zip(row).for_each(|(to, v)| *to = v.to_bits());
                    }
                }
            }
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
            for [m, k, n] in [[1, 1, 1], [7, 33, 21], [24, 64, 64], [50, 130, 40], [130, 17, 96], [12, 300, 32]] {
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

    #[test]
    fn without_inner_numbers_it_is_zero() {
        let factor = |rows, columns| Factor { rows, columns, numbers: &[], turned: false };
        let mut out = [1.0; 6];
        product(factor(2, 0), factor(0, 3), &mut out);
        assert_eq!(out, [0.0; 6]);
        product(factor(0, 5), Factor { numbers: &[1.0; 5], ..factor(5, 1) }, &mut []);
    }
}
