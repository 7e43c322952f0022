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
//! Rows are scanned in panels of 16. A panel is first *packed*: step `s` holds dimensions `4 s .. 4 s + 4` of all rows as four
//! registers of 16 numbers, register `i` holding rows `i`, `4 + i`, `8 + i`, `12 + i`. Copying costs a few percent of a batch,
//! nothing that can be measured of a single query (memory is the limit there), and makes the panel's rows free to lie anywhere,
//! which is how a filter works.

use std::sync::OnceLock;

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
            if is_x86_feature_detected!("avx512f") {
                kernels.push(Self(Path::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
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

/// One register of a panel, where the processor reads it without crossing cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Register([f32; PANEL_ROWS]);

/// Sixteen packed rows.
pub(crate) struct Panel {
    /// `4 * n_steps`, see the head of this file.
    registers: Vec<Register>,
}

impl Panel {
    /// A panel for rows of `dim` numbers, all zero.
    pub(crate) fn new(dim: usize) -> Self {
        Self { registers: vec![Register([0.0; PANEL_ROWS]); n_steps(dim) * REGISTERS] }
    }

    /// Copies a row, of the length the panel was made for, to place `at` below 16.
    pub(crate) fn pack(&mut self, at: usize, row: &[f32]) {
        let lane = at / REGISTERS * LANES;
        let registers = self.registers[at % REGISTERS..].iter_mut().step_by(REGISTERS);
        let mut fours = row.chunks_exact(LANES);
        // The last, partly filled step comes after the whole ones; its rest stays zero from the beginning.
        for (register, four) in registers.zip(fours.by_ref()) {
            register.0[lane..lane + LANES].copy_from_slice(four);
        }
        let rest = fours.remainder();
        if !rest.is_empty() {
            let last = row.len() / LANES * REGISTERS + at % REGISTERS;
            self.registers[last].0[lane..lane + rest.len()].copy_from_slice(rest);
        }
    }
}

/// Scores a panel against `out.len()` queries: `out[q][r]`.
///
/// `queries` are rows of `4 * n_steps` numbers, zero-padded.
pub(crate) fn score(kernel: Kernel, form: Form, panel: &Panel, queries: &[f32], out: &mut [[f32; PANEL_ROWS]]) {
    let steps = panel.registers.len() / REGISTERS;
    // The vector paths read through pointers: these two are what their safety rests on.
    assert_eq!(panel.registers.len(), steps * REGISTERS, "a panel is a whole number of steps");
    assert_eq!(queries.len(), out.len() * steps * LANES, "one output per query");
    match (kernel.0, form) {
        // SAFETY (all): a `Path` is made only by `available`, after the machine was seen to have the instructions, and the
        // lengths were just checked.
        #[cfg(target_arch = "x86_64")]
        (Path::Avx512, Form::Product) => unsafe { avx512::score::<false>(&panel.registers, queries, out) },
        #[cfg(target_arch = "x86_64")]
        (Path::Avx512, Form::MinusSquaredDistance) => unsafe { avx512::score::<true>(&panel.registers, queries, out) },
        #[cfg(target_arch = "x86_64")]
        (Path::Avx2, Form::Product) => unsafe { avx2::score::<false>(&panel.registers, queries, out) },
        #[cfg(target_arch = "x86_64")]
        (Path::Avx2, Form::MinusSquaredDistance) => unsafe { avx2::score::<true>(&panel.registers, queries, out) },
        #[cfg(target_arch = "aarch64")]
        (Path::Neon, Form::Product) => unsafe { neon::score::<false>(&panel.registers, queries, out) },
        #[cfg(target_arch = "aarch64")]
        (Path::Neon, Form::MinusSquaredDistance) => unsafe { neon::score::<true>(&panel.registers, queries, out) },
        (Path::Scalar, form) => scalar(form, &panel.registers, queries, out),
    }
}

/// The definition, which the vector paths follow to the bit. Where the processor has no fused multiply-add this is slow, but
/// still right.
fn scalar(form: Form, registers: &[Register], queries: &[f32], out: &mut [[f32; PANEL_ROWS]]) {
    let width = registers.len() / REGISTERS * LANES;
    for (query, out) in queries.chunks_exact(width).zip(out) {
        for (r, out) in out.iter_mut().enumerate() {
            let lane = r / REGISTERS * LANES;
            let mut sum = [0.0f32; LANES];
            for (q, step) in query.chunks_exact(LANES).zip(registers.chunks_exact(REGISTERS)) {
                let x = &step[r % REGISTERS].0[lane..lane + LANES];
                for l in 0..LANES {
                    sum[l] = match form {
                        Form::Product => q[l].mul_add(x[l], sum[l]),
                        Form::MinusSquaredDistance => (q[l] - x[l]).mul_add(q[l] - x[l], sum[l]),
                    };
                }
            }
            let sum = (sum[0] + sum[2]) + (sum[1] + sum[3]);
            *out = match form {
                Form::Product => sum,
                Form::MinusSquaredDistance => 0.0 - sum,
            };
        }
    }
}

/// Calls `$tile::<$form, n>` for as many whole groups of `$most` queries as there are, then for what is left.
#[allow(unused_macros)] // Not on a machine without vector instructions.
macro_rules! in_tiles {
    ($tile:ident, $form:ident, $registers:ident, $queries:ident, $out:ident, $most:literal, [$($less:literal),*]) => {{
        let steps = $registers.len() / REGISTERS;
        let mut query = $queries.as_ptr();
        let mut tiles = $out.chunks_exact_mut($most);
        for tile in tiles.by_ref() {
            // SAFETY: the caller promises `4 * steps` numbers for each output, and this tile has as many outputs as queries.
            unsafe {
                $tile::<$form, $most>($registers.as_ptr().cast(), query, steps, tile);
                query = query.add($most * steps * LANES);
            }
        }
        let rest = tiles.into_remainder();
        match rest.len() {
            // SAFETY: as above, with the queries that are left.
            $($less => unsafe { $tile::<$form, $less>($registers.as_ptr().cast(), query, steps, rest) },)*
            _ => {}
        }
    }};
}

/// Six queries by four registers of four rows: 24 sums, which leaves 8 registers for what is read.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{LANES, PANEL_ROWS, REGISTERS, Register};

    /// # Safety
    /// The machine has AVX-512F; `queries` holds `4 * registers.len() / 4` numbers for each output.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn score<const DISTANCE: bool>(registers: &[Register], queries: &[f32], out: &mut [[f32; PANEL_ROWS]]) {
        in_tiles!(tile, DISTANCE, registers, queries, out, 6, [1, 2, 3, 4, 5]);
    }

    /// # Safety
    /// AVX-512F; `panel` has `64 * steps` numbers at a multiple of 64 bytes, `queries` `Q * 4 * steps`; `out` has `Q` places.
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const DISTANCE: bool, const Q: usize>(
        panel: *const f32,
        queries: *const f32,
        steps: usize,
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        let mut sums = [[_mm512_setzero_ps(); REGISTERS]; Q];
        for s in 0..steps {
            // SAFETY: s < steps, and the caller promises this many.
            let x = unsafe {
                let step = panel.add(s * REGISTERS * PANEL_ROWS);
                [_mm512_load_ps(step), _mm512_load_ps(step.add(16)), _mm512_load_ps(step.add(32)), _mm512_load_ps(step.add(48))]
            };
            for q in 0..Q {
                // SAFETY: q < Q and s < steps, and the caller promises this many.
                let four = unsafe { _mm_loadu_ps(queries.add((q * steps + s) * LANES)) };
                let four = _mm512_broadcast_f32x4(four);
                for i in 0..REGISTERS {
                    sums[q][i] = if DISTANCE {
                        let difference = _mm512_sub_ps(four, x[i]);
                        _mm512_fmadd_ps(difference, difference, sums[q][i])
                    } else {
                        _mm512_fmadd_ps(four, x[i], sums[q][i])
                    };
                }
            }
        }
        for q in 0..Q {
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

    use super::{LANES, PANEL_ROWS, REGISTERS, Register};

    /// # Safety
    /// The machine has AVX2 and FMA; `queries` holds `4 * registers.len() / 4` numbers for each output.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn score<const DISTANCE: bool>(registers: &[Register], queries: &[f32], out: &mut [[f32; PANEL_ROWS]]) {
        in_tiles!(tile, DISTANCE, registers, queries, out, 3, [1, 2]);
    }

    /// # Safety
    /// AVX2, FMA; `panel` has `64 * steps` numbers at a multiple of 32 bytes, `queries` `Q * 4 * steps`; `out` has `Q` places.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const DISTANCE: bool, const Q: usize>(
        panel: *const f32,
        queries: *const f32,
        steps: usize,
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        for half in 0..2 {
            let mut sums = [[_mm256_setzero_ps(); REGISTERS]; Q];
            for s in 0..steps {
                let mut fours = [_mm256_setzero_ps(); Q];
                for q in 0..Q {
                    // SAFETY: q < Q and s < steps, and the caller promises this many.
                    let four = unsafe { _mm_loadu_ps(queries.add((q * steps + s) * LANES)) };
                    fours[q] = _mm256_set_m128(four, four);
                }
                for i in 0..REGISTERS {
                    // SAFETY: s < steps, i < 4, half < 2, and the caller promises this many.
                    let x = unsafe { _mm256_load_ps(panel.add((s * REGISTERS + i) * PANEL_ROWS + half * 8)) };
                    for q in 0..Q {
                        sums[q][i] = if DISTANCE {
                            let difference = _mm256_sub_ps(fours[q], x);
                            _mm256_fmadd_ps(difference, difference, sums[q][i])
                        } else {
                            _mm256_fmadd_ps(fours[q], x, sums[q][i])
                        };
                    }
                }
            }
            for q in 0..Q {
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

    use super::{LANES, PANEL_ROWS, REGISTERS, Register};

    /// # Safety
    /// The machine has NEON; `queries` holds `4 * registers.len() / 4` numbers for each output.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn score<const DISTANCE: bool>(registers: &[Register], queries: &[f32], out: &mut [[f32; PANEL_ROWS]]) {
        in_tiles!(tile, DISTANCE, registers, queries, out, 6, [1, 2, 3, 4, 5]);
    }

    /// # Safety
    /// NEON; `panel` has `64 * steps` numbers, `queries` `Q * 4 * steps`; `out` has `Q` places.
    #[target_feature(enable = "neon")]
    unsafe fn tile<const DISTANCE: bool, const Q: usize>(
        panel: *const f32,
        queries: *const f32,
        steps: usize,
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        for quarter in 0..4 {
            let mut sums = [[vdupq_n_f32(0.0); REGISTERS]; Q];
            for s in 0..steps {
                let mut x = [vdupq_n_f32(0.0); REGISTERS];
                for i in 0..REGISTERS {
                    // SAFETY: s < steps, i < 4, quarter < 4, and the caller promises this many.
                    x[i] = unsafe { vld1q_f32(panel.add((s * REGISTERS + i) * PANEL_ROWS + quarter * LANES)) };
                }
                for q in 0..Q {
                    // SAFETY: q < Q and s < steps, and the caller promises this many.
                    let four = unsafe { vld1q_f32(queries.add((q * steps + s) * LANES)) };
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
    const DIMS: [usize; 14] = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 64, 127, 384];

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
        let mut panel = Panel::new(dim);
        rows.chunks_exact(dim).enumerate().for_each(|(at, row)| panel.pack(at, row));
        let width = n_steps(dim) * LANES;
        let mut padded = vec![0.0; queries.len() / dim * width];
        for (from, to) in queries.chunks_exact(dim).zip(padded.chunks_exact_mut(width)) {
            to[..dim].copy_from_slice(from);
        }
        let mut out = vec![[f32::NAN; PANEL_ROWS]; queries.len() / dim];
        score(kernel, form, &panel, &padded, &mut out);
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
