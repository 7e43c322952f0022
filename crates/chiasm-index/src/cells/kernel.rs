//! Sums of small whole numbers: 4-bit codes of thirty-two slots against a query, and one vector's 8-bit and 4-bit digits against a
//! query.
//!
//! All sums are of integers and none overflows, so every path gives the same numbers.
//!
//! # Scan: thirty-two slots at a time
//! A *block* holds the 4-bit codes of 32 slots in `dims` dimensions, `dims` being a multiple of 8. For each eight dimensions `g` there are four pieces
//! of 32 bytes, piece `h` for slots `8h .. 8h + 8`. Byte `4 s + t` of a piece belongs to slot `8h + s`; its low half is dimension
//! `8g + t`, its high half dimension `8g + 4 + t`. So one register holds the next dimensions of eight slots, no sum crosses
//! slots, and a byte is read once. Sums of eight products of pairs fit 16 bits (`8 * 2 * 15 * 127 < 2^15`); they are widened after that.
//!
//! # Digits: one vector at a time
//! [`IntegerKernel::bytes`] and [`IntegerKernel::halves`] take a query of 16-bit numbers, so that rounding the query costs less than
//! rounding the vector did; [`IntegerKernel::tile`] takes four vectors and several queries at once. Half bytes come in pieces of 32 dimensions: byte `j` holds dimension `j` low and `16 + j` high.

use std::sync::OnceLock;

/// Slots of a block.
pub(crate) const BLOCK_SLOTS: usize = 32;

/// Dimensions that codes are a multiple of.
pub(crate) const CODE_STEP: usize = 8;

/// The most dimensions that codes have: sixteen times a sum of them fits 32 bits (`65,536 * 240 * 127 < 2^31`).
pub(crate) const CODE_DIMS_MAX: usize = 1 << 16;

/// Dimensions that digits are a multiple of.
pub(crate) const DIGIT_STEP: usize = 32;

/// Vectors that [`IntegerKernel::tile`] takes together.
pub(crate) const TILE_ROWS: usize = 4;

/// Bytes by which memory is asked for before it is read.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8 << 10;

/// Steps of eight dimensions whose sums fit 16 bits.
#[cfg(target_arch = "x86_64")]
const STEPS_IN_16_BITS: usize = 4;

/// Bytes of a block of codes.
pub(crate) const fn block_len(dims: usize) -> usize {
    dims * BLOCK_SLOTS / 2
}

/// The instruction set of these sums. A value exists only for what this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IntegerKernel(Path);

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

impl IntegerKernel {
    /// The fastest one here.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<IntegerKernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// All that this machine can run, fastest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
            kernels.push(Self(Path::Avx512));
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            kernels.push(Self(Path::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            kernels.push(Self(Path::Neon));
        }
        kernels.push(Self(Path::Scalar));
        kernels
    }

    /// Calls `found(slot, sum)` for each of the first `n` slots whose sum of products is greater than `floor`. From one block of
    /// codes to the next there are `stride` bytes.
    ///
    /// # Panics
    /// When there are no whole blocks that hold `n` slots of the query's dimensions, or these are more than [`CODE_DIMS_MAX`].
    #[inline]
    pub(crate) fn scan(
        self,
        blocks: &[u8],
        stride: usize,
        query: &[i8],
        n: usize,
        floor: i32,
        mut found: impl FnMut(usize, i32),
    ) {
        let len = block_len(query.len());
        assert!(
            query.len().is_multiple_of(CODE_STEP)
                && query.len() <= CODE_DIMS_MAX
                && len <= stride
                && n <= blocks.len() / stride * BLOCK_SLOTS,
            "whole blocks"
        );
        let mut sums = [0i32; BLOCK_SLOTS];
        for (b, block) in blocks.chunks_exact(stride).take(n.div_ceil(BLOCK_SLOTS)).enumerate() {
            // SAFETY: the block is as long as the query asks.
            let mut above = unsafe { self.block(&block[..len], query, floor, &mut sums) };
            let left = n - b * BLOCK_SLOTS;
            if left < BLOCK_SLOTS {
                above &= (1 << left) - 1;
            }
            while above != 0 {
                let slot = above.trailing_zeros() as usize;
                found(b * BLOCK_SLOTS + slot, sums[slot]);
                above &= above - 1;
            }
        }
    }

    /// The sums of all slots of whole blocks, those that hold nothing among them; `out` has room for so many. From one block to the next there are as many bytes as
    /// the query asks for.
    ///
    /// # Panics
    /// As [`IntegerKernel::scan`].
    pub(crate) fn sums(self, blocks: &[u8], query: &[i8], out: &mut [i32]) {
        let stride = block_len(query.len());
        assert!(query.len().is_multiple_of(CODE_STEP) && query.len() <= CODE_DIMS_MAX, "whole steps");
        for (block, out) in blocks.chunks_exact(stride).zip(out.as_chunks_mut().0) {
            // SAFETY: the block is as long as the query asks. Every sum is above this floor, and so is stored.
            unsafe { self.block(block, query, i32::MIN, out) };
        }
    }

    /// The sums of a block, stored if any is above the floor, and a bit for each that is.
    ///
    /// # Safety
    /// `block` is one block of `query.len()` dimensions, a multiple of [`CODE_STEP`] and at most [`CODE_DIMS_MAX`].
    #[inline]
    unsafe fn block(self, block: &[u8], query: &[i8], floor: i32, sums: &mut [i32; BLOCK_SLOTS]) -> u32 {
        // SAFETY: a `Path` is made only by `available`, after the machine was seen to have the instructions; the rest is the caller's.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => avx512::block(block, query, floor, sums),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => avx2::block(block, query, floor, sums),
                #[cfg(target_arch = "aarch64")]
                Path::Neon => neon::block(block, query, floor, sums),
                Path::Scalar => scalar_block(block, query, floor, sums),
            }
        }
    }

    /// Sum of 8-bit digits times the query.
    ///
    /// # Panics
    /// When the lengths differ or are not whole steps.
    #[inline]
    pub(crate) fn bytes(self, digits: &[i8], query: &[i16]) -> i32 {
        assert!(digits.len() == query.len() && query.len().is_multiple_of(DIGIT_STEP), "one digit per dimension");
        // SAFETY: as above; the lengths are equal and whole steps.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => avx512::bytes(digits, query),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => avx2::bytes(digits, query),
                #[cfg(target_arch = "aarch64")]
                Path::Neon => neon::bytes(digits, query),
                Path::Scalar => digits.iter().zip(query).map(|(d, q)| i32::from(*d) * i32::from(*q)).sum(),
            }
        }
    }

    /// Sums of 8-bit digits of four vectors, one behind the other, times each of the queries: `out[q][r]` is what [`IntegerKernel::bytes`] gives for vector
    /// `r`. Digits are widened once for several queries, and four sums do not wait for each other.
    ///
    /// # Panics
    /// When there are not four vectors of each query's length, that is no whole steps, or there is not one output for each query.
    #[inline]
    pub(crate) fn tile(self, digits: &[i8], queries: &[&[i16]], out: &mut [[i32; TILE_ROWS]]) {
        let width = digits.len() / TILE_ROWS;
        assert!(
            digits.len() == TILE_ROWS * width
                && width.is_multiple_of(DIGIT_STEP)
                && queries.iter().all(|query| query.len() == width)
                && out.len() == queries.len(),
            "four vectors as long as each query"
        );
        // Asked for while these are read, by the first queries alone: the others find at hand what they ask for.
        #[cfg(target_arch = "x86_64")]
        let mut next = digits.as_ptr().wrapping_add(AHEAD);
        // SAFETY: as above; all lengths are equal and whole steps.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => {
                    for (queries, out) in queries.chunks(4).zip(out.chunks_mut(4)) {
                        match *queries {
                            [a, b, c, d] => out.copy_from_slice(&avx512::tile(digits, next, [a, b, c, d])),
                            _ => queries.iter().zip(out).for_each(|(query, out)| [*out] = avx512::tile(digits, next, [query])),
                        }
                        next = digits.as_ptr();
                    }
                }
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => {
                    for (queries, out) in queries.chunks(2).zip(out.chunks_mut(2)) {
                        match *queries {
                            [a, b] => out.copy_from_slice(&avx2::tile(digits, next, [a, b])),
                            _ => queries.iter().zip(out).for_each(|(query, out)| [*out] = avx2::tile(digits, next, [query])),
                        }
                        next = digits.as_ptr();
                    }
                }
                _ => {
                    for (query, out) in queries.iter().zip(out) {
                        let rows = digits.chunks_exact(width.max(1));
                        out.iter_mut().zip(rows).for_each(|(sum, row)| *sum = self.bytes(row, query));
                    }
                }
            }
        }
    }

    /// Sum of 4-bit digits times the query.
    ///
    /// # Panics
    /// When the lengths do not match or are not whole steps.
    #[inline]
    pub(crate) fn halves(self, digits: &[u8], query: &[i16]) -> i32 {
        assert!(2 * digits.len() == query.len() && query.len().is_multiple_of(DIGIT_STEP), "half a byte per dimension");
        // SAFETY: as above; the lengths match and are whole steps.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => avx512::halves(digits, query),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => avx2::halves(digits, query),
                #[cfg(target_arch = "aarch64")]
                Path::Neon => neon::halves(digits, query),
                Path::Scalar => scalar_halves(digits, query),
            }
        }
    }
}

/// Puts the code of a slot into its place; see the head of the file.
pub(crate) fn put_code(blocks: &mut [u8], stride: usize, slot: usize, code: &[u8]) {
    let block = &mut blocks[slot / BLOCK_SLOTS * stride..][..block_len(code.len())];
    let (piece, place) = (slot % BLOCK_SLOTS / 8, slot % 8 * 4);
    for (g, eight) in code.chunks_exact(CODE_STEP).enumerate() {
        let out = &mut block[(g * 4 + piece) * 32 + place..][..4];
        for t in 0..4 {
            out[t] = eight[t] | eight[4 + t] << 4;
        }
    }
}

/// Packs 4-bit digits, a multiple of 32 of them, for [`IntegerKernel::halves`].
pub(crate) fn pack_halves(digits: &[u8], out: &mut [u8]) {
    for (piece, out) in digits.chunks_exact(DIGIT_STEP).zip(out.chunks_exact_mut(DIGIT_STEP / 2)) {
        for j in 0..DIGIT_STEP / 2 {
            out[j] = piece[j] | piece[DIGIT_STEP / 2 + j] << 4;
        }
    }
}

/// The definition of a block's sums. Gives a bit for each slot above the floor.
fn scalar_block(block: &[u8], query: &[i8], floor: i32, sums: &mut [i32; BLOCK_SLOTS]) -> u32 {
    *sums = [0; BLOCK_SLOTS];
    for (pieces, q) in block.chunks_exact(128).zip(query.chunks_exact(CODE_STEP)) {
        for (slot, four) in pieces.chunks_exact(4).enumerate() {
            for t in 0..4 {
                sums[slot] += i32::from(four[t] & 15) * i32::from(q[t]) + i32::from(four[t] >> 4) * i32::from(q[4 + t]);
            }
        }
    }
    sums.iter().enumerate().fold(0, |above, (slot, sum)| above | u32::from(*sum > floor) << slot)
}

fn scalar_halves(digits: &[u8], query: &[i16]) -> i32 {
    let mut sum = 0;
    for (digits, q) in digits.chunks_exact(DIGIT_STEP / 2).zip(query.chunks_exact(DIGIT_STEP)) {
        for (j, digit) in digits.iter().enumerate() {
            sum += i32::from(digit & 15) * i32::from(q[j]) + i32::from(digit >> 4) * i32::from(q[DIGIT_STEP / 2 + j]);
        }
    }
    sum
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{BLOCK_SLOTS, CODE_STEP, DIGIT_STEP, TILE_ROWS};
    use crate::kernels::prefetch;

    /// Sums of some steps of a block: of low halves, and of high ones.
    #[derive(Clone, Copy)]
    struct Steps {
        once: [__m512i; 2],
        sixteenfold: [__m512i; 2],
    }

    impl Steps {
        #[target_feature(enable = "avx512f")]
        fn zero() -> Self {
            Self { once: [_mm512_setzero_si512(); 2], sixteenfold: [_mm512_setzero_si512(); 2] }
        }

        /// # Safety
        /// 128 bytes of a block, and eight numbers of the query.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        unsafe fn add(&mut self, at: *const u8, q: *const i8) {
            let low = _mm512_set1_epi8(15);
            // SAFETY: as the caller says.
            unsafe {
                let first = _mm512_set1_epi32(q.cast::<i32>().read_unaligned());
                let second = _mm512_set1_epi32(q.add(4).cast::<i32>().read_unaligned());
                for h in 0..2 {
                    let both = _mm512_loadu_si512(at.add(64 * h).cast());
                    self.once[h] = _mm512_dpbusd_epi32(self.once[h], _mm512_and_si512(both, low), first);
                    self.sixteenfold[h] = _mm512_dpbusd_epi32(self.sixteenfold[h], _mm512_andnot_si512(low, both), second);
                }
            }
        }
    }

    /// # Safety
    /// AVX-512 with BW and VNNI; `block` is one block of `query.len()` dimensions, a multiple of eight and at most
    /// [`super::CODE_DIMS_MAX`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn block(block: &[u8], query: &[i8], floor: i32, sums: &mut [i32; BLOCK_SLOTS]) -> u32 {
        // A high half stays where it is and counts sixteenfold until the end: a shift less for each register. Even and odd steps have sums of their own, or each
        // step would wait for the one before it.
        let mut sums_of_steps = [Steps::zero(); 2];
        let (mut at, mut q) = (block.as_ptr(), query.as_ptr());
        let n_steps = query.len() / CODE_STEP;
        for _ in 0..n_steps / 2 {
            for sums in &mut sums_of_steps {
                // SAFETY: each step reads eight numbers of the query and 128 bytes of the block, which has them for each step.
                unsafe {
                    sums.add(at, q);
                    at = at.add(128);
                    q = q.add(CODE_STEP);
                }
            }
        }
        if !n_steps.is_multiple_of(2) {
            // SAFETY: the last step's.
            unsafe { sums_of_steps[0].add(at, q) };
        }
        let [even, odd] = sums_of_steps;
        let wide = [0, 1].map(|h| {
            let once = _mm512_add_epi32(even.once[h], odd.once[h]);
            _mm512_add_epi32(once, _mm512_srai_epi32::<4>(_mm512_add_epi32(even.sixteenfold[h], odd.sixteenfold[h])))
        });
        let floor = _mm512_set1_epi32(floor);
        let above = wide.map(|wide| u32::from(_mm512_cmpgt_epi32_mask(wide, floor)));
        let above = above[0] | above[1] << 16;
        if above != 0 {
            for (out, wide) in sums.chunks_exact_mut(16).zip(wide) {
                // SAFETY: sixteen sums.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), wide) };
            }
        }
        above
    }

    /// # Safety
    /// As [`block`]; equal lengths, multiples of 32.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn bytes(digits: &[i8], query: &[i16]) -> i32 {
        let mut sums = [_mm512_setzero_si512(); 2];
        for at in (0..query.len()).step_by(DIGIT_STEP) {
            // SAFETY: 32 digits and 32 numbers of the query, one step.
            let (d, q) = unsafe {
                let d = _mm256_loadu_si256(digits.as_ptr().add(at).cast());
                (_mm512_cvtepi8_epi16(d), _mm512_loadu_si512(query.as_ptr().add(at).cast()))
            };
            sums = [sums[1], _mm512_dpwssd_epi32(sums[0], d, q)];
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    /// # Safety
    /// As [`block`]; four vectors of digits, each as long as each query, a multiple of 32.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn tile<const Q: usize>(digits: &[i8], next: *const i8, queries: [&[i16]; Q]) -> [[i32; TILE_ROWS]; Q] {
        let width = queries[0].len();
        let mut sums = [[_mm512_setzero_si512(); TILE_ROWS]; Q];
        for at in (0..width).step_by(DIGIT_STEP) {
            // A step of four vectors is two cache lines.
            prefetch(next.wrapping_add(TILE_ROWS * at));
            prefetch(next.wrapping_add(TILE_ROWS * at + 64));
            let mut numbers = [_mm512_setzero_si512(); Q];
            for (numbers, query) in numbers.iter_mut().zip(queries) {
                // SAFETY: 32 numbers of the query, one step.
                *numbers = unsafe { _mm512_loadu_si512(query.as_ptr().add(at).cast()) };
            }
            for r in 0..TILE_ROWS {
                // SAFETY: 32 digits of vector `r`, the same step.
                let d = unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(digits.as_ptr().add(r * width + at).cast())) };
                for (sums, numbers) in sums.iter_mut().zip(numbers) {
                    sums[r] = _mm512_dpwssd_epi32(sums[r], d, numbers);
                }
            }
        }
        let mut out = [[0; TILE_ROWS]; Q];
        for (out, sums) in out.iter_mut().zip(sums) {
            let mut halves = [_mm256_setzero_si256(); TILE_ROWS];
            for (half, sum) in halves.iter_mut().zip(sums) {
                *half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
            }
            *out = super::avx2::four(halves);
        }
        out
    }

    /// # Safety
    /// As [`block`]; `query` is twice as long as `digits`, a multiple of 32.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn halves(digits: &[u8], query: &[i16]) -> i32 {
        let low = _mm_set1_epi8(15);
        let mut sum = _mm512_setzero_si512();
        for at in (0..query.len()).step_by(DIGIT_STEP) {
            // SAFETY: 16 bytes of digits and 32 numbers of the query, one step.
            unsafe {
                let both = _mm_loadu_si128(digits.as_ptr().add(at / 2).cast());
                let high = _mm_and_si128(_mm_srli_epi16::<4>(both), low);
                let d = _mm512_cvtepu8_epi16(_mm256_set_m128i(high, _mm_and_si128(both, low)));
                sum = _mm512_dpwssd_epi32(sum, d, _mm512_loadu_si512(query.as_ptr().add(at).cast()));
            }
        }
        _mm512_reduce_add_epi32(sum)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{BLOCK_SLOTS, CODE_STEP, DIGIT_STEP, STEPS_IN_16_BITS, TILE_ROWS};
    use crate::kernels::prefetch;

    /// # Safety
    /// AVX2; `block` is one block of `query.len()` dimensions, a multiple of eight.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn block(block: &[u8], query: &[i8], floor: i32, sums: &mut [i32; BLOCK_SLOTS]) -> u32 {
        let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut wide = [_mm256_setzero_si256(); 4];
        let (mut at, mut q) = (block.as_ptr(), query.as_ptr());
        let mut left = query.len() / CODE_STEP;
        while left > 0 {
            let steps = left.min(STEPS_IN_16_BITS);
            left -= steps;
            let mut narrow = [_mm256_setzero_si256(); 4];
            for _ in 0..steps {
                // SAFETY: each step reads eight numbers of the query and 128 bytes of the block, which has them for each step.
                unsafe {
                    let first = _mm256_set1_epi32(q.cast::<i32>().read_unaligned());
                    let second = _mm256_set1_epi32(q.add(4).cast::<i32>().read_unaligned());
                    for (h, sum) in narrow.iter_mut().enumerate() {
                        let both = _mm256_loadu_si256(at.add(32 * h).cast());
                        let a = _mm256_maddubs_epi16(_mm256_and_si256(both, low), first);
                        let b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(both), low), second);
                        *sum = _mm256_add_epi16(*sum, _mm256_add_epi16(a, b));
                    }
                    at = at.add(128);
                    q = q.add(CODE_STEP);
                }
            }
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(narrow, ones));
            }
        }
        let floor = _mm256_set1_epi32(floor);
        let mut above = 0;
        for (h, wide) in wide.into_iter().enumerate() {
            let mask = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, floor)));
            above |= (mask as u32) << (8 * h);
        }
        if above != 0 {
            for (out, wide) in sums.chunks_exact_mut(8).zip(wide) {
                // SAFETY: eight sums.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), wide) };
            }
        }
        above
    }

    /// # Safety
    /// AVX2; equal lengths, multiples of 32.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn bytes(digits: &[i8], query: &[i16]) -> i32 {
        let mut sums = [_mm256_setzero_si256(); 2];
        for at in (0..query.len()).step_by(DIGIT_STEP) {
            for (h, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 16 digits and 16 numbers of the query from `at + 16 h` on, within a step of 32.
                let (d, q) = unsafe {
                    let d = _mm_loadu_si128(digits.as_ptr().add(at + 16 * h).cast());
                    (_mm256_cvtepi8_epi16(d), _mm256_loadu_si256(query.as_ptr().add(at + 16 * h).cast()))
                };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(d, q));
            }
        }
        add_up(_mm256_add_epi32(sums[0], sums[1]))
    }

    /// # Safety
    /// AVX2; four vectors of digits, each as long as each query, a multiple of 32.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn tile<const Q: usize>(digits: &[i8], next: *const i8, queries: [&[i16]; Q]) -> [[i32; TILE_ROWS]; Q] {
        let width = queries[0].len();
        let mut sums = [[_mm256_setzero_si256(); TILE_ROWS]; Q];
        for at in (0..width).step_by(DIGIT_STEP / 2) {
            // Half a step of four vectors is a cache line.
            prefetch(next.wrapping_add(TILE_ROWS * at));
            let mut numbers = [_mm256_setzero_si256(); Q];
            for (numbers, query) in numbers.iter_mut().zip(queries) {
                // SAFETY: 16 numbers of the query, half a step.
                *numbers = unsafe { _mm256_loadu_si256(query.as_ptr().add(at).cast()) };
            }
            for r in 0..TILE_ROWS {
                // SAFETY: 16 digits of vector `r`, the same half.
                let d = unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(digits.as_ptr().add(r * width + at).cast())) };
                for (sums, numbers) in sums.iter_mut().zip(numbers) {
                    sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(d, numbers));
                }
            }
        }
        let mut out = [[0; TILE_ROWS]; Q];
        out.iter_mut().zip(sums).for_each(|(out, sums)| *out = four(sums));
        out
    }

    /// Each register's numbers added up.
    #[target_feature(enable = "avx2")]
    pub(super) fn four(sums: [__m256i; TILE_ROWS]) -> [i32; TILE_ROWS] {
        let [a, b, c, d] = sums;
        let eight = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
        let mut out = [0; TILE_ROWS];
        // SAFETY: four numbers.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
        out
    }

    /// # Safety
    /// AVX2; `query` is twice as long as `digits`, a multiple of 32.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn halves(digits: &[u8], query: &[i16]) -> i32 {
        let low = _mm_set1_epi8(15);
        let mut sums = [_mm256_setzero_si256(); 2];
        for at in (0..query.len()).step_by(DIGIT_STEP) {
            // SAFETY: 16 bytes of digits and 32 numbers of the query, one step.
            unsafe {
                let both = _mm_loadu_si128(digits.as_ptr().add(at / 2).cast());
                let parts = [_mm_and_si128(both, low), _mm_and_si128(_mm_srli_epi16::<4>(both), low)];
                for h in 0..2 {
                    let q = _mm256_loadu_si256(query.as_ptr().add(at + 16 * h).cast());
                    sums[h] = _mm256_add_epi32(sums[h], _mm256_madd_epi16(_mm256_cvtepu8_epi16(parts[h]), q));
                }
            }
        }
        add_up(_mm256_add_epi32(sums[0], sums[1]))
    }

    #[target_feature(enable = "avx2")]
    fn add_up(sums: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{BLOCK_SLOTS, CODE_STEP, DIGIT_STEP};

    /// # Safety
    /// NEON; `block` is one block of `query.len()` dimensions, a multiple of eight.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn block(block: &[u8], query: &[i8], floor: i32, sums: &mut [i32; BLOCK_SLOTS]) -> u32 {
        let low = vdup_n_u8(15);
        // Two sums for each slot, a register for two slots.
        let mut pairs = [vdupq_n_s32(0); BLOCK_SLOTS / 2];
        for (g, q) in query.chunks_exact(CODE_STEP).enumerate() {
            let four = |q: &[i8]| {
                vreinterpret_s8_s32(vdup_n_s32(i32::from_ne_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8])))
            };
            let (first, second) = (four(&q[..4]), four(&q[4..]));
            for (p, sum) in pairs.iter_mut().enumerate() {
                // SAFETY: 8 of the 128 bytes of this step.
                let both = unsafe { vld1_u8(block.as_ptr().add(g * 128 + 8 * p)) };
                let a = vmull_s8(vreinterpret_s8_u8(vand_u8(both, low)), first);
                let sum16 = vmlal_s8(a, vreinterpret_s8_u8(vshr_n_u8::<4>(both)), second);
                *sum = vpadalq_s16(*sum, sum16);
            }
        }
        let mut above = 0;
        for (p, pair) in pairs.into_iter().enumerate() {
            let two = vpadd_s32(vget_low_s32(pair), vget_high_s32(pair));
            for (i, sum) in [vget_lane_s32::<0>(two), vget_lane_s32::<1>(two)].into_iter().enumerate() {
                sums[2 * p + i] = sum;
                above |= u32::from(sum > floor) << (2 * p + i);
            }
        }
        above
    }

    /// # Safety
    /// NEON; equal lengths, multiples of 32.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn bytes(digits: &[i8], query: &[i16]) -> i32 {
        let mut sum = vdupq_n_s32(0);
        for at in (0..query.len()).step_by(8) {
            // SAFETY: eight digits and eight numbers of the query.
            let (d, q) = unsafe { (vmovl_s8(vld1_s8(digits.as_ptr().add(at))), vld1q_s16(query.as_ptr().add(at))) };
            sum = vmlal_s16(sum, vget_low_s16(d), vget_low_s16(q));
            sum = vmlal_s16(sum, vget_high_s16(d), vget_high_s16(q));
        }
        vaddvq_s32(sum)
    }

    /// # Safety
    /// NEON; `query` is twice as long as `digits`, a multiple of 32.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn halves(digits: &[u8], query: &[i16]) -> i32 {
        let low = vdup_n_u8(15);
        let mut sum = vdupq_n_s32(0);
        for at in (0..query.len()).step_by(DIGIT_STEP) {
            for h in 0..2 {
                // SAFETY: eight bytes of the step's sixteen.
                let both = unsafe { vld1_u8(digits.as_ptr().add(at / 2 + 8 * h)) };
                for (part, offset) in [(vand_u8(both, low), 0), (vshr_n_u8::<4>(both), DIGIT_STEP / 2)] {
                    let d = vreinterpretq_s16_u16(vmovl_u8(part));
                    // SAFETY: eight numbers of the step's 32.
                    let q = unsafe { vld1q_s16(query.as_ptr().add(at + offset + 8 * h)) };
                    sum = vmlal_s16(sum, vget_low_s16(d), vget_low_s16(q));
                    sum = vmlal_s16(sum, vget_high_s16(d), vget_high_s16(q));
                }
            }
        }
        vaddvq_s32(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        (0..n).map(move |_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        })
    }

    #[test]
    fn a_scan_is_the_sum_of_products_on_every_path() {
        for (dims, n) in [(8usize, 1usize), (8, 32), (40, 33), (96, 70), (128, 96), (256, 31)] {
            let codes: Vec<Vec<u8>> = (0..n).map(|i| numbers(dims, i as u64).map(|v| (v % 16) as u8).collect()).collect();
            // Something else between the blocks, as the rows are.
            let stride = block_len(dims) + 4 * BLOCK_SLOTS;
            let mut blocks = vec![0xAB; n.div_ceil(BLOCK_SLOTS) * stride];
            codes.iter().enumerate().for_each(|(slot, code)| put_code(&mut blocks, stride, slot, code));
            let some: Vec<i8> = numbers(dims, 77).map(|v| (v % 255) as i8).map(|v| v.max(-127)).collect();
            for query in [some, vec![127; dims], vec![-127; dims]] {
                let sum = |code: &[u8]| code.iter().zip(&query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum::<i32>();
                let all: Vec<(usize, i32)> = codes.iter().map(|code| sum(code)).enumerate().collect();
                for floor in [i32::MIN, all[n / 2].1, i32::MAX] {
                    let expected: Vec<(usize, i32)> = all.iter().copied().filter(|(_, sum)| *sum > floor).collect();
                    for kernel in IntegerKernel::available() {
                        let mut got = Vec::new();
                        kernel.scan(&blocks, stride, &query, n, floor, |slot, sum| got.push((slot, sum)));
                        assert_eq!(got, expected, "{kernel:?}, {dims} dimensions, {n} slots, above {floor}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tile_is_the_sums_of_its_vectors_on_every_path() {
        for dims in [32, 96, 512] {
            let digits: Vec<i8> = numbers(TILE_ROWS * dims, 1).map(|v| (v % 255) as i8).collect();
            let all: Vec<Vec<i16>> =
                (0..7).map(|q| numbers(dims, 10 + q).map(|v| (v % 16383) as i16 - 8191).collect()).collect();
            for n_queries in 0..=all.len() {
                let queries: Vec<&[i16]> = all[..n_queries].iter().map(Vec::as_slice).collect();
                let sum = |query: &[i16], r: usize| -> i32 {
                    digits[r * dims..(r + 1) * dims].iter().zip(query).map(|(d, q)| i32::from(*d) * i32::from(*q)).sum()
                };
                let expected: Vec<[i32; TILE_ROWS]> = queries.iter().map(|q| std::array::from_fn(|r| sum(q, r))).collect();
                for kernel in IntegerKernel::available() {
                    let mut got = vec![[0; TILE_ROWS]; n_queries];
                    kernel.tile(&digits, &queries, &mut got);
                    assert_eq!(got, expected, "{kernel:?}, {n_queries} queries of {dims}");
                }
            }
        }
    }

    #[test]
    fn digits_are_the_same_sums_on_every_path() {
        for dims in [32, 96, 512, 1024] {
            let bytes: Vec<i8> = numbers(dims, 1).map(|v| (v % 255) as i8).collect();
            let halves: Vec<u8> = numbers(dims, 2).map(|v| (v % 16) as u8).collect();
            let mut packed = vec![0; dims / 2];
            pack_halves(&halves, &mut packed);
            for query in
                [numbers(dims, 3).map(|v| (v % 16383) as i16 - 8191).collect::<Vec<_>>(), vec![8191; dims], vec![-8191; dims]]
            {
                let by_bytes: i32 = bytes.iter().zip(&query).map(|(d, q)| i32::from(*d) * i32::from(*q)).sum();
                let by_halves: i32 = halves.iter().zip(&query).map(|(d, q)| i32::from(*d) * i32::from(*q)).sum();
                for kernel in IntegerKernel::available() {
                    assert_eq!(kernel.bytes(&bytes, &query), by_bytes, "{kernel:?}");
                    assert_eq!(kernel.halves(&packed, &query), by_halves, "{kernel:?}");
                }
            }
        }
    }
}
