//! Inner products and squared Euclidean distances of rows against queries.
//!
//! # The sum, and why every machine gives the same bits
//! The terms of a pair of vectors are dealt to four lanes, dimension `c` to lane `c % 4`; each lane adds its terms in order with
//! a fused multiply-add; the result is `(lane 0 + lane 2) + (lane 1 + lane 3)`. Four lanes are what one 128-bit piece of a
//! register holds on every machine, so AVX-512 works on 4 rows at a time, AVX2 on 2, NEON on 1, and the scalar path on plain
//! numbers, and all of them do the very same roundings. Hence a score never depends on the instruction set, the batch or the
//! neighbours of a row in memory.
//!
//! | sum | error bound, `e` = 2^-24, `d` dimensions |
//! | --- | --- |
//! | inner product | `(d/4 + 3) e` times the sum of `abs(a_c b_c)` |
//! | squared distance | `(d/4 + 5) e` times the squared distance: differences first, so near duplicates lose nothing |
//!
//! # Layout
//! Rows are scanned sixteen at a time, as *steps* of four dimensions: a step is four registers of 16 numbers, register `i` holding
//! four dimensions of rows `i`, `4 + i`, `8 + i` and `12 + i`. Up to one tile of queries, registers are put together from the rows
//! where they lie. For more, 256 dimensions of the sixteen rows are first packed into 16 kB that stay in the first cache while all
//! queries pass over them; sums wait in memory between two such blocks. Either way a panel's rows may lie anywhere, which is how a
//! filter works.

use std::sync::OnceLock;

use crate::stored::Stored;

/// Rows scored together.
pub(crate) const PANEL_ROWS: usize = 16;

/// Dimensions per step; queries are padded with zeros to a multiple of it.
pub(crate) const LANES: usize = 4;

/// Registers of 16 numbers per step.
const REGISTERS: usize = 4;

/// The instruction set of a scan. A value exists only for what this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Path);

/// Private, so that nobody can name a path the machine lacks: that is what makes calling it sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

impl Kernel {
    /// The fastest one here.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// All that this machine can run, fastest first; the last one is the scalar path, which is always there.
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            // For half floats; every processor with AVX2 has it.
            let halves = is_x86_feature_detected!("f16c");
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") && halves {
                kernels.push(Self(Path::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && halves {
                kernels.push(Self(Path::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            kernels.push(Self(Path::Neon));
        }
        kernels.push(Self(Path::Scalar));
        kernels
    }

    /// Up to how many queries take rows where they lie.
    fn tile_queries(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => 6,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => 3,
            #[cfg(target_arch = "aarch64")]
            Path::Neon => 6,
            Path::Scalar => 0,
        }
    }

    /// Its name: `avx512`, `avx2`, `neon` or `scalar`.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
            Path::Scalar => "scalar",
        }
    }
}

/// What is summed over the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `q_c * x_c`
    Product,
    /// `-(q_c - x_c)^2`
    MinusSquaredDistance,
}

/// Steps that vectors of `dim` numbers take.
pub(crate) fn n_steps(dim: usize) -> usize {
    dim.div_ceil(LANES)
}

/// One register of a step, where the processor reads it without crossing cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Register([f32; PANEL_ROWS]);

/// Four registers: of a step, or of the sums of one query.
type Step = [Register; REGISTERS];

const ZERO: Step = [Register([0.0; PANEL_ROWS]); REGISTERS];

/// Steps that are packed at a time: 256 dimensions.
const BLOCK_STEPS: usize = 64;

/// Scores sixteen rows against some queries; keeps the room that this takes.
pub(crate) struct Scorer<'q> {
    kernel: Kernel,
    form: Form,
    dim: usize,
    /// Rows of `4 * n_steps` numbers, zero-padded.
    queries: &'q [f32],
    block: Vec<Step>,
    /// One for each query.
    sums: Vec<Step>,
}

/// Where a tile's rows come from.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    /// Packed steps.
    Packed(&'a [Step]),
    /// The rows themselves.
    Rows(&'a [*const T; PANEL_ROWS]),
}

/// What a tile is asked to do with its sums.
#[derive(Clone, Copy)]
struct Part {
    /// Steps to add.
    steps: usize,
    /// Numbers from one query to the next.
    stride: usize,
    /// Numbers from a row to the one that is likely to be scored sixteen rows later.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86 is asked to fetch it"))]
    ahead: usize,
    /// Whether sums begin at zero; else they go on.
    first: bool,
    /// Whether sums are complete and become scores; else they are kept.
    last: bool,
}

impl<'q> Scorer<'q> {
    /// For vectors of `dim` numbers and `queries` of `4 * n_steps(dim)`, zero-padded.
    pub(crate) fn new(kernel: Kernel, form: Form, dim: usize, queries: &'q [f32]) -> Self {
        let width = n_steps(dim) * LANES;
        assert!(dim > 0 && queries.len().is_multiple_of(width), "queries are whole padded rows");
        let n_queries = queries.len() / width;
        Self { kernel, form, dim, queries, block: vec![ZERO; BLOCK_STEPS.min(n_steps(dim))], sums: vec![ZERO; n_queries] }
    }

    /// Scores of 1 to 16 rows: `out[q][r]`. What stands behind the rows there were means nothing.
    pub(crate) fn score<T: Stored>(&mut self, rows: &[&[T]], out: &mut [[f32; PANEL_ROWS]]) {
        // The vector paths read through pointers: these are what their safety rests on.
        assert!((1..=PANEL_ROWS).contains(&rows.len()) && rows.iter().all(|row| row.len() == self.dim), "up to 16 whole rows");
        assert_eq!(out.len(), self.sums.len(), "one output per query");
        // A panel that is not full repeats its last row.
        let row = |r: usize| rows[r.min(rows.len() - 1)];
        let width = n_steps(self.dim) * LANES;
        let ahead = PANEL_ROWS * self.dim;
        let whole = self.dim / LANES;
        let mut at = 0;
        if (1..=self.kernel.tile_queries()).contains(&out.len()) && whole > 0 {
            let pointers: [*const T; PANEL_ROWS] = std::array::from_fn(|r| row(r).as_ptr());
            let part = Part { steps: whole, stride: width, ahead, first: true, last: whole * LANES == self.dim };
            self.tiles(Source::Rows(&pointers), 0, part, out);
            at = whole;
        }
        while at * LANES < self.dim {
            let steps = BLOCK_STEPS.min(width / LANES - at);
            self.pack(steps, row, at * LANES);
            let part = Part { steps, stride: width, ahead, first: at == 0, last: (at + steps) * LANES == width };
            // Taken for the call, since `tiles` borrows the sums.
            let block = std::mem::take(&mut self.block);
            self.tiles(Source::<T>::Packed(&block[..steps]), at * LANES, part, out);
            self.block = block;
            at += steps;
        }
    }

    /// Packs steps from dimension `from` on into the block.
    fn pack<'a, T: Stored>(&mut self, steps: usize, row: impl Fn(usize) -> &'a [T], from: usize) {
        let block = &mut self.block[..steps];
        match self.kernel.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Path` is made only by `available`, after the machine was seen to have the instructions.
            Path::Avx512 | Path::Avx2 => unsafe { avx2::pack(block, row, from, self.dim) },
            // SAFETY: `pack` asks for four numbers of a row.
            _ => pack(block, row, from, self.dim, |at| std::array::from_fn(|i| unsafe { *at.add(i) }.get())),
        }
    }

    /// Adds `part.steps` steps, from dimension `from` of the queries on.
    fn tiles<T: Stored>(&mut self, source: Source<'_, T>, from: usize, part: Part, out: &mut [[f32; PANEL_ROWS]]) {
        let queries = &self.queries[from.min(self.queries.len())..];
        let (sums, distance) = (&mut self.sums[..], self.form == Form::MinusSquaredDistance);
        // SAFETY: a `Path` is made only by `available`, after the machine was seen to have the instructions. There are as many sums
        // and outputs as queries, each `part.stride` numbers from the last and with `part.steps` steps left, and rows come with
        // `part.steps` whole steps, as `score` has checked or made them.
        unsafe {
            match (self.kernel.0, distance) {
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, false) => avx512::tiles::<T, false>(source, queries, part, sums, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, true) => avx512::tiles::<T, true>(source, queries, part, sums, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, false) => avx2::tiles::<T, false>(source, queries, part, sums, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, true) => avx2::tiles::<T, true>(source, queries, part, sums, out),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, false) => neon::tiles::<T, false>(source, queries, part, sums, out),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, true) => neon::tiles::<T, true>(source, queries, part, sums, out),
                (Path::Scalar, _) => scalar(self.form, source, queries, part, sums, out),
            }
        }
    }
}

/// Asks for the cache line at an address that need not be anyone's: sixteen streams of rows are more than the processor foresees by
/// itself. The rows that come next mostly lie behind these, so they are asked for as they lie, at the rate at which lines are used. Into the
/// second cache: the first has few places for what is on its way. How near that comes to what memory gives is said by `chiasm bench ann`.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint, never a fault, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Packs the steps from dimension `from` on; dimensions beyond `dim` become zero. `four` reads four numbers from a place on.
#[inline(always)]
fn pack<'a, T: Stored>(
    block: &mut [Step],
    row: impl Fn(usize) -> &'a [T],
    from: usize,
    dim: usize,
    four: impl Fn(*const T) -> [f32; LANES],
) {
    let until = dim.min(from + block.len() * LANES);
    let rows: [&[T]; PANEL_ROWS] = std::array::from_fn(|r| &row(r)[from..until]);
    let whole = (until - from) / LANES;
    for (s, step) in block[..whole].iter_mut().enumerate() {
        for r in s % 4 * 4..s % 4 * 4 + 4 {
            prefetch(rows[r].as_ptr().wrapping_add(s * LANES + PANEL_ROWS * dim));
        }
        for r in 0..PANEL_ROWS {
            let lane = r / REGISTERS * LANES;
            // All rows have the same length, of which this is a whole step: s < whole.
            step[r % REGISTERS].0[lane..lane + LANES].copy_from_slice(&four(rows[r].as_ptr().wrapping_add(s * LANES)));
        }
    }
    if let [last] = &mut block[whole..] {
        *last = ZERO;
        for (r, row) in rows.iter().enumerate() {
            let (lane, rest) = (r / REGISTERS * LANES, &row[whole * LANES..]);
            last[r % REGISTERS].0[lane..lane + rest.len()].iter_mut().zip(rest).for_each(|(to, v)| *to = v.get());
        }
    }
}

/// The definition, which the vector paths follow to the bit. Where the processor has no fused multiply-add this is slow, but
/// still right.
fn scalar<T>(form: Form, source: Source<'_, T>, queries: &[f32], part: Part, sums: &mut [Step], out: &mut [[f32; PANEL_ROWS]]) {
    let Source::Packed(block) = source else { unreachable!("the scalar path takes no tile of queries unpacked") };
    for ((query, sums), out) in queries.chunks(part.stride).zip(sums).zip(out) {
        for (r, out) in out.iter_mut().enumerate() {
            let lane = r / REGISTERS * LANES;
            let kept = &mut sums[r % REGISTERS].0[lane..lane + LANES];
            let mut sum = [0.0f32; LANES];
            if !part.first {
                sum.copy_from_slice(kept);
            }
            for (q, step) in query.chunks_exact(LANES).zip(&block[..part.steps]) {
                let x = &step[r % REGISTERS].0[lane..lane + LANES];
                for l in 0..LANES {
                    sum[l] = match form {
                        Form::Product => q[l].mul_add(x[l], sum[l]),
                        Form::MinusSquaredDistance => (q[l] - x[l]).mul_add(q[l] - x[l], sum[l]),
                    };
                }
            }
            kept.copy_from_slice(&sum);
            let sum = (sum[0] + sum[2]) + (sum[1] + sum[3]);
            *out = match form {
                Form::Product => sum,
                Form::MinusSquaredDistance => 0.0 - sum,
            };
        }
    }
}

/// Calls `tile::<T, distance, rows, n>` for as many whole groups of `$most` queries as there are, then for what is left.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! in_tiles {
    ($distance:ident, $source:ident, $queries:ident, $part:ident, $sums:ident, $out:ident, $most:literal, [$($less:literal),*]) => {{
        let mut query = $queries.as_ptr();
        let (packed, rows) = match $source {
            Source::Packed(block) => (block.as_ptr().cast::<f32>(), &[std::ptr::null::<T>(); PANEL_ROWS]),
            Source::Rows(rows) => (std::ptr::null(), rows),
        };
        let mut sums = $sums.chunks_mut($most);
        for out in $out.chunks_mut($most) {
            let sums = sums.next().expect("as many sums as outputs");
            // SAFETY: what the caller promises of all queries holds of these; one of `packed` and `rows` is real.
            unsafe {
                match (rows[0].is_null(), out.len()) {
                    (true, $most) => tile::<T, $distance, false, $most>(packed, rows, query, $part, sums, out),
                    (false, $most) => tile::<T, $distance, true, $most>(packed, rows, query, $part, sums, out),
                    $(
                        (true, $less) => tile::<T, $distance, false, $less>(packed, rows, query, $part, sums, out),
                        (false, $less) => tile::<T, $distance, true, $less>(packed, rows, query, $part, sums, out),
                    )*
                    _ => unreachable!("chunks are not longer"),
                }
            }
            query = query.wrapping_add(out.len() * $part.stride);
        }
    }};
}

/// Six queries by four registers of four rows: 24 sums, which leaves 8 registers for what is read.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{LANES, PANEL_ROWS, Part, REGISTERS, Source, Step, Stored};

    /// Steps of rows that are read together: a register of each row.
    const TOGETHER: usize = 4;

    /// Four rows of four steps each become four steps of four rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turned([a, b, c, d]: [__m512; TOGETHER]) -> [__m512; TOGETHER] {
        let (ab, cd) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d));
        let (ab_behind, cd_behind) = (_mm512_shuffle_f32x4::<0xEE>(a, b), _mm512_shuffle_f32x4::<0xEE>(c, d));
        [
            _mm512_shuffle_f32x4::<0x88>(ab, cd),
            _mm512_shuffle_f32x4::<0xDD>(ab, cd),
            _mm512_shuffle_f32x4::<0x88>(ab_behind, cd_behind),
            _mm512_shuffle_f32x4::<0xDD>(ab_behind, cd_behind),
        ]
    }

    /// # Safety
    /// The machine has AVX-512F, AVX-512DQ and F16C; see `tiles` of the [`Scorer`](super::Scorer).
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    pub(super) unsafe fn tiles<T: Stored, const DISTANCE: bool>(
        source: Source<'_, T>,
        queries: &[f32],
        part: Part,
        sums: &mut [Step],
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        in_tiles!(DISTANCE, source, queries, part, sums, out, 6, [1, 2, 3, 4, 5]);
    }

    /// A sum and the terms of four dimensions of four rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add<const DISTANCE: bool>(sum: __m512, four: __m512, x: __m512) -> __m512 {
        if DISTANCE {
            let difference = _mm512_sub_ps(four, x);
            _mm512_fmadd_ps(difference, difference, sum)
        } else {
            _mm512_fmadd_ps(four, x, sum)
        }
    }

    /// Four dimensions of a query, for each of four rows.
    ///
    /// # Safety
    /// AVX-512F and DQ; four numbers at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn broadcast(at: *const f32) -> __m512 {
        // SAFETY: the caller promises four numbers.
        _mm512_broadcast_f32x4(unsafe { _mm_loadu_ps(at) })
    }

    /// Rows where they lie, `N` registers at a time, each of which is four rows: all sixteen would be more streams than memory gives at its best. Of half floats, of
    /// which memory gives more, one alone would wait for its own sums.
    ///
    /// # Safety
    /// As of `tile`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn of_rows<T: Stored, const DISTANCE: bool, const Q: usize, const N: usize>(
        rows: &[*const T; PANEL_ROWS],
        queries: *const f32,
        part: Part,
        sums: &mut [[__m512; REGISTERS]; Q],
    ) {
        for first in (0..REGISTERS).step_by(N) {
            for s in (0..part.steps).step_by(TOGETHER) {
                let steps = TOGETHER.min(part.steps - s);
                for line in 0..(N * steps * PANEL_ROWS * size_of::<T>()).div_ceil(64) {
                    let at = (first * part.steps + N * s) * PANEL_ROWS + line * 64 / size_of::<T>();
                    super::prefetch(rows[0].wrapping_add(part.ahead + at));
                }
                let mut x = [[_mm512_setzero_ps(); TOGETHER]; N];
                for i in 0..N {
                    let r = first + i;
                    let lanes = [rows[r], rows[4 + r], rows[8 + r], rows[12 + r]];
                    if steps == TOGETHER {
                        for (x, row) in x[i].iter_mut().zip(lanes) {
                            // SAFETY: so many steps are sixteen numbers, which the caller promises.
                            *x = unsafe { T::sixteen(row.add(s * LANES)) };
                        }
                        x[i] = turned(x[i]);
                        continue;
                    }
                    for nth in 0..steps {
                        // SAFETY: s + nth < part.steps, and the caller promises as much.
                        let four = |row: *const T| unsafe { T::four(row.add((s + nth) * LANES)) };
                        let of_two = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(four(lanes[0])), four(lanes[1]));
                        x[i][nth] = _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(of_two, four(lanes[2])), four(lanes[3]));
                    }
                }
                for nth in 0..steps {
                    for q in 0..Q {
                        // SAFETY: q < Q and s + nth < part.steps, and the caller promises as much.
                        let four = unsafe { broadcast(queries.add(q * part.stride + (s + nth) * LANES)) };
                        for i in 0..N {
                            sums[q][first + i] = add::<DISTANCE>(sums[q][first + i], four, x[i][nth]);
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// AVX-512F, DQ and F16C; `part.steps` steps at `packed`, at a multiple of 64 bytes, or at each of `rows`; `Q` queries, sums, outputs.
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn tile<T: Stored, const DISTANCE: bool, const ROWS: bool, const Q: usize>(
        packed: *const f32,
        rows: &[*const T; PANEL_ROWS],
        queries: *const f32,
        part: Part,
        kept: &mut [Step],
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        let mut sums = [[_mm512_setzero_ps(); REGISTERS]; Q];
        if !part.first {
            for q in 0..Q {
                for i in 0..REGISTERS {
                    // SAFETY: a register is 64 bytes at a multiple of 64.
                    sums[q][i] = unsafe { _mm512_load_ps(kept[q][i].0.as_ptr()) };
                }
            }
        }
        let of_query = |q: usize, s: usize| {
            // SAFETY: q < Q and s < part.steps, and the caller promises as much.
            unsafe { broadcast(queries.add(q * part.stride + s * LANES)) }
        };
        if ROWS {
            // SAFETY: the caller promises what this asks for.
            unsafe {
                if size_of::<T>() < 4 {
                    of_rows::<T, DISTANCE, Q, 2>(rows, queries, part, &mut sums);
                } else {
                    of_rows::<T, DISTANCE, Q, 1>(rows, queries, part, &mut sums);
                }
            }
        } else {
            for s in 0..part.steps {
                // SAFETY: s < part.steps and i < 4, and the caller promises as much.
                let x: [__m512; REGISTERS] =
                    std::array::from_fn(|i| unsafe { _mm512_load_ps(packed.add((s * REGISTERS + i) * PANEL_ROWS)) });
                for q in 0..Q {
                    let four = of_query(q, s);
                    for i in 0..REGISTERS {
                        sums[q][i] = add::<DISTANCE>(sums[q][i], four, x[i]);
                    }
                }
            }
        }
        for q in 0..Q {
            if !part.last {
                for i in 0..REGISTERS {
                    // SAFETY: a register is 64 bytes at a multiple of 64.
                    unsafe { _mm512_store_ps(kept[q][i].0.as_mut_ptr(), sums[q][i]) };
                }
                continue;
            }
            let [a, b, c, d] = sums[q];
            // Per 128-bit piece: a0+a2 b0+b2 a1+a3 b1+b3, then all four rows' (0+2)+(1+3), in the order of the rows.
            let ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
            let cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
            let even = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            let odd = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            let sum = _mm512_add_ps(even, odd);
            let sum = if DISTANCE { _mm512_sub_ps(_mm512_setzero_ps(), sum) } else { sum };
            // SAFETY: an output is 16 numbers.
            unsafe { _mm512_storeu_ps(out[q].as_mut_ptr(), sum) };
        }
    }
}

/// Three queries by four half registers of two rows: 12 sums of 16 registers. The two halves of a panel one after the other.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{LANES, PANEL_ROWS, Part, REGISTERS, Source, Step, Stored};

    /// [`super::pack`], with the instruction that reads half floats.
    ///
    /// # Safety
    /// The machine has AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn pack<'a, T: Stored>(block: &mut [Step], row: impl Fn(usize) -> &'a [T], from: usize, dim: usize) {
        super::pack(block, row, from, dim, |at| {
            let mut four = [0.0; LANES];
            // SAFETY: `pack` asks for four numbers of a row, and these are four.
            unsafe { _mm_storeu_ps(four.as_mut_ptr(), T::four(at)) };
            four
        });
    }

    /// # Safety
    /// The machine has AVX2, FMA and F16C; see `tiles` of the [`Scorer`](super::Scorer).
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn tiles<T: Stored, const DISTANCE: bool>(
        source: Source<'_, T>,
        queries: &[f32],
        part: Part,
        sums: &mut [Step],
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        in_tiles!(DISTANCE, source, queries, part, sums, out, 3, [1, 2]);
    }

    /// # Safety
    /// AVX2, FMA and F16C; `part.steps` steps at `packed`, at a multiple of 32 bytes, or at each of `rows`; `Q` queries, sums, outputs.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn tile<T: Stored, const DISTANCE: bool, const ROWS: bool, const Q: usize>(
        packed: *const f32,
        rows: &[*const T; PANEL_ROWS],
        queries: *const f32,
        part: Part,
        kept: &mut [Step],
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        for half in 0..2 {
            let mut sums = [[_mm256_setzero_ps(); REGISTERS]; Q];
            if !part.first {
                for q in 0..Q {
                    for i in 0..REGISTERS {
                        // SAFETY: half a register is 32 bytes at a multiple of 32.
                        sums[q][i] = unsafe { _mm256_load_ps(kept[q][i].0.as_ptr().add(half * 8)) };
                    }
                }
            }
            let add = |sum: __m256, four: __m256, x: __m256| {
                if DISTANCE {
                    let difference = _mm256_sub_ps(four, x);
                    _mm256_fmadd_ps(difference, difference, sum)
                } else {
                    _mm256_fmadd_ps(four, x, sum)
                }
            };
            let of_query = |q: usize, s: usize| {
                // SAFETY: q < Q and s < part.steps, and the caller promises as much.
                let four = unsafe { _mm_loadu_ps(queries.add(q * part.stride + s * LANES)) };
                _mm256_set_m128(four, four)
            };
            if ROWS {
                // Two registers, which are four rows, at a time; see above.
                for first in [0, 2] {
                    for s in 0..part.steps {
                        let line = (2 * half + first / 2) * part.steps + s;
                        super::prefetch(rows[0].wrapping_add(part.ahead + line * PANEL_ROWS));
                        for i in first..first + 2 {
                            // SAFETY: s < part.steps, i < 4 and half < 2, and the caller promises as much.
                            let four = |r: usize| unsafe { T::four(rows[half * 8 + r].add(s * LANES)) };
                            let x = _mm256_set_m128(four(4 + i), four(i));
                            for q in 0..Q {
                                sums[q][i] = add(sums[q][i], of_query(q, s), x);
                            }
                        }
                    }
                }
            } else {
                for s in 0..part.steps {
                    let fours: [__m256; Q] = std::array::from_fn(|q| of_query(q, s));
                    for i in 0..REGISTERS {
                        // SAFETY: s < part.steps, i < 4 and half < 2, and the caller promises as much.
                        let x = unsafe { _mm256_load_ps(packed.add((s * REGISTERS + i) * PANEL_ROWS + half * 8)) };
                        for q in 0..Q {
                            sums[q][i] = add(sums[q][i], fours[q], x);
                        }
                    }
                }
            }
            for q in 0..Q {
                if !part.last {
                    for i in 0..REGISTERS {
                        // SAFETY: half a register is 32 bytes at a multiple of 32.
                        unsafe { _mm256_store_ps(kept[q][i].0.as_mut_ptr().add(half * 8), sums[q][i]) };
                    }
                    continue;
                }
                let [a, b, c, d] = sums[q];
                let ab = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)));
                let cd = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)));
                let even = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
                let odd = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
                let sum = _mm256_add_ps(even, odd);
                let sum = if DISTANCE { _mm256_sub_ps(_mm256_setzero_ps(), sum) } else { sum };
                // SAFETY: an output is 16 numbers, a half 8.
                unsafe { _mm256_storeu_ps(out[q].as_mut_ptr().add(half * 8), sum) };
            }
        }
    }
}

/// Six queries by four quarter registers of one row: 24 sums of 32 registers. The four quarters of a panel one after the other.
#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{LANES, PANEL_ROWS, Part, REGISTERS, Source, Step, Stored};

    /// # Safety
    /// The machine has NEON; see `tiles` of the [`Scorer`](super::Scorer).
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn tiles<T: Stored, const DISTANCE: bool>(
        source: Source<'_, T>,
        queries: &[f32],
        part: Part,
        sums: &mut [Step],
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        in_tiles!(DISTANCE, source, queries, part, sums, out, 6, [1, 2, 3, 4, 5]);
    }

    /// # Safety
    /// NEON; `part.steps` steps at `packed` or at each of `rows`; `Q` queries, sums, outputs.
    #[target_feature(enable = "neon")]
    unsafe fn tile<T: Stored, const DISTANCE: bool, const ROWS: bool, const Q: usize>(
        packed: *const f32,
        rows: &[*const T; PANEL_ROWS],
        queries: *const f32,
        part: Part,
        kept: &mut [Step],
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        for quarter in 0..4 {
            let mut sums = [[vdupq_n_f32(0.0); REGISTERS]; Q];
            if !part.first {
                for q in 0..Q {
                    for i in 0..REGISTERS {
                        // SAFETY: a register is 16 numbers, a quarter 4.
                        sums[q][i] = unsafe { vld1q_f32(kept[q][i].0.as_ptr().add(quarter * LANES)) };
                    }
                }
            }
            for s in 0..part.steps {
                let mut x = [vdupq_n_f32(0.0); REGISTERS];
                for i in 0..REGISTERS {
                    // SAFETY: s < part.steps, i < 4 and quarter < 4, and the caller promises as much.
                    x[i] = unsafe {
                        if ROWS {
                            T::four(rows[quarter * REGISTERS + i].add(s * LANES))
                        } else {
                            vld1q_f32(packed.add((s * REGISTERS + i) * PANEL_ROWS + quarter * LANES))
                        }
                    };
                }
                for q in 0..Q {
                    // SAFETY: q < Q and s < part.steps, and the caller promises as much.
                    let four = unsafe { vld1q_f32(queries.add(q * part.stride + s * LANES)) };
                    for i in 0..REGISTERS {
                        sums[q][i] = if DISTANCE {
                            let difference = vsubq_f32(four, x[i]);
                            vfmaq_f32(sums[q][i], difference, difference)
                        } else {
                            vfmaq_f32(sums[q][i], four, x[i])
                        };
                    }
                }
            }
            for q in 0..Q {
                if !part.last {
                    for i in 0..REGISTERS {
                        // SAFETY: a register is 16 numbers, a quarter 4.
                        unsafe { vst1q_f32(kept[q][i].0.as_mut_ptr().add(quarter * LANES), sums[q][i]) };
                    }
                    continue;
                }
                let [a, b, c, d] = sums[q];
                let ab = vreinterpretq_f64_f32(vaddq_f32(vzip1q_f32(a, b), vzip2q_f32(a, b)));
                let cd = vreinterpretq_f64_f32(vaddq_f32(vzip1q_f32(c, d), vzip2q_f32(c, d)));
                let even = vreinterpretq_f32_f64(vzip1q_f64(ab, cd));
                let odd = vreinterpretq_f32_f64(vzip2q_f64(ab, cd));
                let sum = vaddq_f32(even, odd);
                let sum = if DISTANCE { vsubq_f32(vdupq_n_f32(0.0), sum) } else { sum };
                // SAFETY: an output is 16 numbers, a quarter 4.
                unsafe { vst1q_f32(out[q].as_mut_ptr().add(quarter * LANES), sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Dimensions around every edge, and one of each usual size.
    const DIMS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 127, 256, 257, 384, 515];

    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        // A multiplicative generator is random enough for sums; spread over four decades, both signs.
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let unit = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                unit * 10f32.powi((state >> 33 & 3) as i32)
            })
            .collect()
    }

    fn score_all(kernel: Kernel, form: Form, dim: usize, rows: &[f32], queries: &[f32]) -> Vec<[f32; PANEL_ROWS]> {
        let width = n_steps(dim) * LANES;
        let mut padded = vec![0.0; queries.len() / dim * width];
        for (from, to) in queries.chunks_exact(dim).zip(padded.chunks_exact_mut(width)) {
            to[..dim].copy_from_slice(from);
        }
        let mut out = vec![[f32::NAN; PANEL_ROWS]; queries.len() / dim];
        let rows: Vec<&[f32]> = rows.chunks_exact(dim).collect();
        Scorer::new(kernel, form, dim, &padded).score(&rows, &mut out);
        out
    }

    fn exact(form: Form, q: &[f32], x: &[f32]) -> (f64, f64) {
        let mut sum = (0.0, 0.0);
        for (q, x) in q.iter().zip(x) {
            let (q, x) = (f64::from(*q), f64::from(*x));
            let term = if form == Form::Product { q * x } else { -(q - x) * (q - x) };
            sum = (sum.0 + term, sum.1 + term.abs());
        }
        sum
    }

    #[test]
    fn every_kernel_gives_the_same_bits_within_the_stated_bound() {
        for form in [Form::Product, Form::MinusSquaredDistance] {
            for (d, dim) in DIMS.into_iter().enumerate() {
                for n_queries in 0..=13 {
                    let rows = numbers(d as u64, PANEL_ROWS * dim);
                    let queries = numbers(100 + n_queries as u64, n_queries * dim);
                    let scalar = score_all(Kernel(Path::Scalar), form, dim, &rows, &queries);
                    for kernel in Kernel::available() {
                        let got = score_all(kernel, form, dim, &rows, &queries);
                        let bits = |all: &[[f32; PANEL_ROWS]]| all.iter().flatten().map(|s| s.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(&got), bits(&scalar), "{} {form:?} {dim} {n_queries}", kernel.as_str());
                    }
                    for (q, scores) in queries.chunks_exact(dim).zip(&scalar) {
                        for (x, score) in rows.chunks_exact(dim).zip(scores) {
                            let (sum, of_abs) = exact(form, q, x);
                            let extra = if form == Form::Product { 3.0 } else { 5.0 };
                            let bound = (dim as f64 / 4.0 + extra) * 2f64.powi(-24) * of_abs * 1.001;
                            assert!((f64::from(*score) - sum).abs() <= bound, "{form:?} {dim}: {score} for {sum}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn kernels_agree_on_any_bits(dim in 1usize..40, seed in any::<u64>(), odd in proptest::collection::vec(any::<f32>(), 1..20)) {
            // Any f32 at all, subnormal, infinite or NaN: what a damaged file could hold.
            let mut rows = numbers(seed, PANEL_ROWS * dim);
            let len = rows.len();
            odd.iter().enumerate().for_each(|(i, v)| rows[(seed as usize / 7 + i * 31) % len] = *v);
            let queries = numbers(seed ^ 1, 7 * dim);
            for form in [Form::Product, Form::MinusSquaredDistance] {
                let scalar = score_all(Kernel(Path::Scalar), form, dim, &rows, &queries);
                for kernel in Kernel::available() {
                    let got = score_all(kernel, form, dim, &rows, &queries);
                    for (a, b) in got.iter().flatten().zip(scalar.iter().flatten()) {
                        // NaN has many bit patterns and one meaning.
                        prop_assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{a} {b} {}", kernel.as_str());
                    }
                }
            }
        }
    }

    #[test]
    fn a_score_does_not_depend_on_its_place() {
        let (dim, rows) = (37, numbers(5, PANEL_ROWS * 37));
        let queries = numbers(6, 9 * dim);
        for kernel in Kernel::available() {
            let all = score_all(kernel, Form::Product, dim, &rows, &queries);
            for r in 0..PANEL_ROWS {
                for q in 0..9 {
                    let alone = &queries[q * dim..(q + 1) * dim];
                    let mut turned = rows.clone();
                    turned.rotate_left(r * dim);
                    assert_eq!(score_all(kernel, Form::Product, dim, &turned, alone)[0][0].to_bits(), all[q][r].to_bits());
                }
            }
        }
    }

    #[test]
    fn a_vector_is_at_no_distance_from_itself() {
        let rows = numbers(9, PANEL_ROWS * 20);
        for kernel in Kernel::available() {
            let scores = score_all(kernel, Form::MinusSquaredDistance, 20, &rows, &rows[..20]);
            assert_eq!(scores[0][0].to_bits(), 0.0f32.to_bits());
        }
    }
}
