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

/// Rows times a panel: `c (+)= a b`. Made of slices, whose lengths its constructors check against what a kernel will reach.
#[derive(Clone, Copy)]
pub(super) struct Strip(StripParts);

/// What a strip is made of.
#[derive(Clone, Copy)]
pub(super) struct StripParts {
    pub(super) a: *const u32,
    /// Words from a row to the next, or of a packed row.
    pub(super) a_stride: usize,
    /// Where in the row the steps begin.
    pub(super) first_step: usize,
    /// Whether rows stand in tiles, `[steps][rows]`.
    pub(super) interleaved: bool,
    pub(super) rows: usize,
    /// `[steps][columns of the kernel]`.
    pub(super) b: *const u32,
    pub(super) steps: usize,
    pub(super) c: *mut u32,
    pub(super) c_stride: usize,
    /// Whether `c` holds sums to go on from.
    pub(super) carry: bool,
}

impl Strip {
    /// Rows packed for a kernel, `row_steps` steps each, of which those from `first_step` on belong to `b`, `[steps, c_stride]`; `c` is
    /// `[rows, c_stride]`.
    #[expect(clippy::too_many_arguments, reason = "three matrices and where they begin")]
    pub(super) fn packed(
        a: &[u32],
        row_steps: usize,
        first_step: usize,
        rows: usize,
        b: &[u32],
        c: &mut [f32],
        c_stride: usize,
        carry: bool,
    ) -> Self {
        let steps = b.len() / c_stride;
        assert!(
            a.len() >= rows * row_steps && first_step + steps <= row_steps && c.len() >= rows * c_stride,
            "parts of a strip"
        );
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr().cast());
        Self(StripParts { a, a_stride: row_steps, first_step, interleaved: true, rows, b, steps, c, c_stride, carry })
    }

    /// Rows of plain numbers `a_stride` apart; `b` is one panel of `steps` steps, `c` rows `c_stride` apart.
    pub(super) fn strided(
        a: &[f32],
        a_stride: usize,
        rows: usize,
        b: &[u32],
        steps: usize,
        c: &mut [f32],
        c_stride: usize,
    ) -> Self {
        let width = b.len().checked_div(steps).unwrap_or(0);
        assert!(rows == 0 || a.len() >= (rows - 1) * a_stride + steps, "rows of a strip");
        assert!(rows == 0 || c.len() >= (rows - 1) * c_stride + width, "sums of a strip");
        let (a, b, c) = (a.as_ptr().cast(), b.as_ptr(), c.as_mut_ptr().cast());
        Self(StripParts { a, a_stride, first_step: 0, interleaved: false, rows, b, steps, c, c_stride, carry: false })
    }

    /// What it is made of.
    pub(super) fn parts(self) -> StripParts {
        self.0
    }

    /// Computes it. The lifetimes of what it was made from end with the expression that calls this.
    pub(super) fn run(self, kernel: &Kernel) {
        // SAFETY: `isa::best` and `isa::all` hand out only kernels whose instructions are there; the constructors have checked that rows, panel
        // and sums are as long as the kernel will reach (a panel is `kernel.columns` wide, as all that are packed for it), and
        // `c` was borrowed exclusively.
        unsafe { (kernel.strip)(self) }
    }
}

/// Words of a panel that stay in the first cache while all rows pass.
pub(super) const CHUNK_WORDS: usize = 4096;

/// The whole strip with tiles of up to `ROWS` rows.
///
/// # Safety
/// As [`Lanes`]; the strip's pointers must be valid for what they are said to point to, and the panel `2 N` columns wide.
#[inline(always)]
pub(super) unsafe fn strip<V: Lanes, const ROWS: usize>(s: Strip) {
    let s = s.parts();
    let chunk = CHUNK_WORDS / (2 * V::N);
    let mut done = 0;
    loop {
        let steps = chunk.min(s.steps - done);
        let carry = s.carry || done > 0;
        let mut row = 0;
        // While this chunk is multiplied, the next one, which lies behind it, is fetched bit by bit.
        let mut ahead = s.b.wrapping_add((done + steps) * 2 * V::N);
        let lines_a_tile = (steps * 2 * V::N).div_ceil(LINE * s.rows.div_ceil(ROWS).max(1));
        while row < s.rows {
            let n = ROWS.min(s.rows - row);
            for _ in 0..lines_a_tile {
                V::prefetch(ahead);
                ahead = ahead.wrapping_add(LINE);
            }
            macro_rules! tiles {
                ($($n:literal)*) => {
                    match n {
                        // SAFETY: passed on; `row + n <= rows` and `done + steps <= s.steps`.
                        $($n if $n <= ROWS => unsafe { tile::<V, $n>(&s, row, done, steps, carry) },)*
                        _ => unreachable!("a tile of {n} rows"),
                    }
                };
            }
            tiles!(1 2 3 4 5 6 7 8 9 10 11 12);
            row += n;
        }
        done += steps;
        if done == s.steps {
            break;
        }
    }
}

/// `N` rows from `row` on, over `steps` steps from `first` of the strip's own on.
#[inline(always)]
unsafe fn tile<V: Lanes, const N: usize>(s: &StripParts, row: usize, first: usize, steps: usize, carry: bool) {
    if s.interleaved {
        // SAFETY: passed on.
        unsafe { sums::<V, N, true>(s, row, first, steps, carry) }
    } else {
        // SAFETY: passed on.
        unsafe { sums::<V, N, false>(s, row, first, steps, carry) }
    }
}

#[inline(always)]
unsafe fn sums<V: Lanes, const N: usize, const PACKED: bool>(
    s: &StripParts,
    row: usize,
    first: usize,
    steps: usize,
    carry: bool,
) {
    // SAFETY: a packed tile of `N` rows is `[a_stride steps][N]` from word `row * a_stride` on; a strided row begins at its multiple of
    // `a_stride`; `b` is `[steps][2 V::N]`; rows of `c` are `c_stride` apart and `2 V::N` wide. The constructors of `Strip` have checked all three.
    unsafe {
        let at = s.first_step + first;
        let mut a = if PACKED { s.a.add(row * s.a_stride + at * N) } else { s.a.add(row * s.a_stride + at) };
        let mut b = s.b.add(first * 2 * V::N);
        let c = s.c.add(row * s.c_stride);
        let mut sums = [[V::zero(); 2]; N];
        for _ in 0..steps {
            let columns = [V::load(b), V::load(b.add(V::N))];
            for (r, sum) in sums.iter_mut().enumerate() {
                let word = V::spread(if PACKED { a.add(r) } else { a.add(r * s.a_stride) });
                *sum = [sum[0].add_products(word, columns[0]), sum[1].add_products(word, columns[1])];
            }
            a = a.add(if PACKED { N } else { 1 });
            b = b.add(2 * V::N);
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
