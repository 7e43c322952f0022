//! The loop at the bottom, once for every kind of register.
#![allow(unsafe_code)]

use super::LINE;
use super::isa::Kernel;

/// A register of words, and what a machine does with it.
///
/// # Safety
/// The functions may be called only where the instructions that the implementor names are there, and `at` must be valid for
/// [`Lanes::N`] words (one for `spread`); no alignment is asked for.
pub(super) trait Lanes: Copy {
    /// Words in it.
    const N: usize;
    /// Nothing summed yet.
    unsafe fn zero() -> Self;
    /// Consecutive words.
    unsafe fn load(at: *const u32) -> Self;
    /// To consecutive words.
    unsafe fn store(self, at: *mut u32);
    /// One word in every lane.
    unsafe fn spread(at: *const u32) -> Self;
    /// Asks for the cache line at `at`, which need not be valid, where a machine can be asked.
    #[inline(always)]
    fn prefetch(_at: *const u32) {}
    /// Lane by lane the sum of two sums.
    unsafe fn plus(self, other: Self) -> Self;
    /// Lane by lane the sum so far and the products of all numbers in the words of `a` and `b`.
    unsafe fn add_products(self, a: Self, b: Self) -> Self;
}

/// How the words of some rows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lay {
    /// Row by row, at some distance.
    Strided,
    /// In tiles, `[lines][rows of the kernel][LINE]`.
    Lines,
    /// In tiles, `[steps][rows of the kernel]`: how columns of a matrix become rows with the least ado.
    Steps,
}

/// Rows times some panels: `c (+)= a b`. Made of slices, whose lengths its constructors check against what a kernel will reach.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    parts: StripParts,
    panels: usize,
    /// Words from a panel to the next.
    b_stride: usize,
    /// And between what is summed for them.
    c_panel: usize,
}

/// Of one panel.
#[derive(Clone, Copy)]
pub(super) struct StripParts {
    pub(super) a: *const u32,
    /// Words from a row to the next, or, of packed rows, from a tile to the next.
    pub(super) a_stride: usize,
    /// Where in the row the steps begin; of packed rows a multiple of a line.
    pub(super) first_step: usize,
    pub(super) lay: Lay,
    pub(super) rows: usize,
    /// `[steps][columns of the kernel]`.
    pub(super) b: *const u32,
    /// Of packed rows a multiple of a line.
    pub(super) steps: usize,
    pub(super) c: *mut u32,
    pub(super) c_stride: usize,
    /// Whether `c` holds sums to go on from.
    pub(super) carry: bool,
}

/// The left side of a product.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) words: &'a [u32],
    pub(super) lay: Lay,
    /// Words from a row to the next; in tiles a multiple of a line.
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Where the steps begin; in tiles a multiple of a line.
    pub(super) first_step: usize,
}

/// The right side: of panels that are `stride` words apart the first `steps` steps.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) words: &'a [u32],
    pub(super) panels: usize,
    pub(super) stride: usize,
    pub(super) steps: usize,
}

/// Where sums go: rows are `stride` numbers apart, those of a panel and the next `panel` numbers.
pub(super) struct Sums<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) panel: usize,
    /// Whether it holds sums to go on from.
    pub(super) carry: bool,
}

impl Strip {
    /// Of rows in tiles, or packed in no way, and panels packed for `kernel`; of tiles all rows are written, filled up to whole ones.
    pub(super) fn new(kernel: &Kernel, a: Left<'_>, b: Right<'_>, c: Sums<'_>) -> Self {
        let (in_tiles, width) = (a.lay != Lay::Strided, kernel.columns);
        let rows = if in_tiles { kernel.filled(a.rows) } else { a.rows };
        assert!(
            !in_tiles || [a.stride, a.first_step, b.steps].iter().all(|n| n.is_multiple_of(LINE)),
            "whole lines of a strip"
        );
        assert!(
            a.first_step + b.steps <= a.stride
                && (rows == 0
                    || a.words.len()
                        >= if in_tiles { rows * a.stride } else { (rows - 1) * a.stride + a.first_step + b.steps }),
            "rows of a strip"
        );
        assert!(b.panels == 0 || b.words.len() >= (b.panels - 1) * b.stride + b.steps * width, "panels of a strip");
        assert!(
            c.stride >= width
                && (rows == 0 || b.panels == 0 || c.numbers.len() >= (b.panels - 1) * c.panel + (rows - 1) * c.stride + width),
            "sums of a strip"
        );
        let parts = StripParts {
            a: a.words.as_ptr(),
            a_stride: if in_tiles { a.stride * kernel.rows } else { a.stride },
            first_step: a.first_step,
            lay: a.lay,
            rows: a.rows,
            b: b.words.as_ptr(),
            steps: b.steps,
            c: c.numbers.as_mut_ptr().cast(),
            c_stride: c.stride,
            carry: c.carry,
        };
        Self { parts, panels: b.panels, b_stride: b.stride, c_panel: c.panel }
    }

    /// What it is made of, panel by panel.
    #[inline(always)]
    pub(super) fn panels(self) -> impl Iterator<Item = StripParts> {
        (0..self.panels).map(move |nth| StripParts {
            b: self.parts.b.wrapping_add(nth * self.b_stride),
            c: self.parts.c.wrapping_add(nth * self.c_panel),
            ..self.parts
        })
    }

    /// Computes it. The lifetimes of what it was made from end with the expression that calls this.
    pub(super) fn run(self, kernel: &Kernel) {
        // SAFETY: `isa::best` and `isa::all` hand out only kernels whose instructions are there; the constructor has checked that rows, panels
        // and sums are as long as the kernel will reach (a panel is `kernel.columns` wide, as all that are packed for it), and
        // `c` was borrowed exclusively.
        unsafe { (kernel.strip)(self) }
    }
}

/// Words of a panel that stay in the first cache while all rows pass.
pub(super) const CHUNK_WORDS: usize = 4096;

/// What of the next chunk is asked for while this one is multiplied: some lines with each line of the rows, so that the requests never queue up.
struct Ahead {
    at: *const u32,
    lines: usize,
}

impl Ahead {
    /// A chunk of `steps` from `at` on, while `tiles` tiles are multiplied by one as long.
    fn of<V: Lanes>(at: *const u32, steps: usize, tiles: usize) -> Self {
        Self { at, lines: (steps * 2 * V::N).div_ceil(LINE * steps.div_ceil(LINE).max(1) * tiles.max(1)) }
    }

    #[inline(always)]
    fn fetch<V: Lanes>(&mut self) {
        for _ in 0..self.lines {
            V::prefetch(self.at);
            self.at = self.at.wrapping_add(LINE);
        }
    }
}

/// The whole strip with tiles of up to `ROWS` rows.
///
/// # Safety
/// As [`Lanes`]; the strip's pointers must be valid for what they are said to point to, and the panels `2 N` columns wide.
#[inline(always)]
pub(super) unsafe fn strip<V: Lanes, const ROWS: usize>(s: Strip) {
    for panel in s.panels() {
        // SAFETY: passed on.
        unsafe { one_panel::<V, ROWS>(panel) }
    }
}

#[inline(always)]
unsafe fn one_panel<V: Lanes, const ROWS: usize>(s: StripParts) {
    let chunk = CHUNK_WORDS / (2 * V::N);
    let mut done = 0;
    loop {
        let steps = chunk.min(s.steps - done);
        let carry = s.carry || done > 0;
        // While this chunk is multiplied, the next one, which lies behind it, is fetched bit by bit.
        let mut ahead = Ahead::of::<V>(s.b.wrapping_add((done + steps) * 2 * V::N), steps, s.rows.div_ceil(ROWS));
        for row in (0..s.rows).step_by(ROWS) {
            let n = ROWS.min(s.rows - row);
            macro_rules! tiles {
                ($($n:literal)*) => {
                    match n {
                        // SAFETY: passed on; `row + n <= rows` and `done + steps <= s.steps`.
                        $($n if $n <= ROWS => unsafe { tile::<V, ROWS, $n>(&s, row, done, steps, carry, &mut ahead) },)*
                        _ => unreachable!("a tile of {n} rows"),
                    }
                };
            }
            tiles!(1 2 3 4 5 6 7 8 9 10 11 12);
        }
        done += steps;
        if done == s.steps {
            break;
        }
    }
}

/// `N` rows from `row` on, of a tile of `ROWS` where they are packed, over `steps` steps from `first` of the strip's own on.
#[inline(always)]
unsafe fn tile<V: Lanes, const ROWS: usize, const N: usize>(
    s: &StripParts,
    row: usize,
    first: usize,
    steps: usize,
    carry: bool,
    ahead: &mut Ahead,
) {
    let at = s.first_step + first;
    // Constants where they can be, so that the addresses of all rows are one register and a number each.
    // SAFETY: passed on. Row `r` of a tile of lines has its words of line `l` from word `(l ROWS + r) LINE` of the tile on, in a tile of steps its word of
    // step `t` is word `t ROWS + r`; a strided row begins at its multiple of `a_stride`. Steps begin at a line.
    unsafe {
        let tile = s.a.add(row / ROWS * s.a_stride + at * ROWS);
        match s.lay {
            Lay::Lines => sums::<V, N>(s, tile, [LINE, 1, ROWS * LINE], row, first, steps, carry, ahead),
            Lay::Steps => sums::<V, N>(s, tile, [1, ROWS, ROWS * LINE], row, first, steps, carry, ahead),
            Lay::Strided => {
                sums::<V, N>(s, s.a.add(row * s.a_stride + at), [s.a_stride, 1, LINE], row, first, steps, carry, ahead);
            }
        }
    }
}

/// The sums of `N` rows: the words of a line of the first begin at `a`; those of the next row lie `to_row` words further on, of the next step
/// `to_step`, of the next line `to_line`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "three matrices and where they begin")]
unsafe fn sums<V: Lanes, const N: usize>(
    s: &StripParts,
    mut a: *const u32,
    [to_row, to_step, to_line]: [usize; 3],
    row: usize,
    first: usize,
    mut steps: usize,
    carry: bool,
    ahead: &mut Ahead,
) {
    // SAFETY: `a` is the caller's to answer for; `b` is `[steps][2 V::N]`; rows of `c` are `c_stride` apart and `2 V::N` wide. The
    // constructors of `Strip` have checked all three. Behind the last line `a` and `b` only wrap.
    unsafe {
        let mut b = s.b.add(first * 2 * V::N);
        let c = s.c.add(row * s.c_stride);
        let mut sums = [[V::zero(); 2]; N];
        while steps > 0 {
            let of_line = LINE.min(steps);
            ahead.fetch::<V>();
            for step in 0..of_line {
                let columns = [V::load(b), V::load(b.add(V::N))];
                for (r, sum) in sums.iter_mut().enumerate() {
                    let word = V::spread(a.add(r * to_row + step * to_step));
                    *sum = [sum[0].add_products(word, columns[0]), sum[1].add_products(word, columns[1])];
                }
                b = b.wrapping_add(2 * V::N);
            }
            a = a.wrapping_add(to_line);
            steps -= of_line;
        }
        // Sums of a chunk are short and so lose little to rounding; only whole ones are added up.
        for (r, sum) in sums.into_iter().enumerate() {
            for (half, sum) in sum.into_iter().enumerate() {
                let c = c.add(r * s.c_stride + half * V::N);
                (if carry { V::load(c).plus(sum) } else { sum }).store(c);
            }
        }
    }
}
