//! Hamming distances of packed codes against a query: exclusive or, then a count of ones.
//!
//! # Layout
//! Codes are kept eight rows at a time, word by word: a [`Line`] holds word `w` of eight rows, and the lines of those rows follow
//! each other. So a register holds the same word of different rows, sums need no shuffling whatever the length of the codes, and
//! memory is read from front to back. Thirty-two rows are a *group*, the least that is looked at; the last one is filled with zeros.
//!
//! # Why a search is mostly a comparison
//! Once `k` rows are known, hardly any other is closer. So the main loop writes no distances: it takes the least of each group and
//! stops at the first that is below the limit ([`CodeKernel::first_below`]); only that group is looked at row by row
//! ([`CodeKernel::distances`]).
//!
//! | path | count of ones | rows at a time |
//! | --- | --- | --- |
//! | AVX-512 | `vpopcntq` (VPOPCNTDQ) | 8 |
//! | AVX2 | table of half bytes in a register, bytes added over up to 31 words (Mula, Kurz, Lemire, "Faster population counts using AVX2 instructions", 2018) | 4 |
//! | NEON | `cnt`, bytes added over up to 31 words | 2 |
//! | scalar | `u64::count_ones` | 1 |
//!
//! All of them count exactly, so the answer never depends on the machine.

use std::sync::OnceLock;

use crate::pages::{Number, Pages};

/// Rows of a line.
pub(crate) const LINE_ROWS: usize = 8;

/// Rows of a group.
pub(crate) const GROUP_ROWS: usize = 32;

/// Lines of a group for each word of a code.
const GROUP_LINES: usize = GROUP_ROWS / LINE_ROWS;

/// How far ahead a scan asks for memory: the processor's own reading ahead stops at the end of a page.
#[cfg(target_arch = "x86_64")]
const AHEAD_LINES: usize = 32;

/// One word of eight rows, in one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u64; LINE_ROWS]);

impl Number for Line {}

/// The instruction set of a scan of codes. A value exists only for what this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeKernel(Path);

/// Not public, and made only by [`CodeKernel::available`], so that nobody names a path the machine lacks: that is what makes calling
/// it sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

impl CodeKernel {
    /// The fastest one here.
    pub fn best() -> Self {
        static BEST: OnceLock<CodeKernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// All that this machine can run, fastest first; the last one is the scalar path, which is always there.
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            // All that have the others have POPCNT as well; it is asked for since the paths into buckets use it.
            let popcnt = is_x86_feature_detected!("popcnt");
            if popcnt && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq") {
                kernels.push(Self(Path::Avx512));
            }
            if popcnt && is_x86_feature_detected!("avx2") {
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

    /// Its name: `avx512-vpopcntdq`, `avx2`, `neon` or `scalar`.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512-vpopcntdq",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
            Path::Scalar => "scalar",
        }
    }

    /// Estimated nanoseconds that a scan counts on one word of a row that is in the first cache: where a search can go about it in
    /// several ways, it compares their costs.
    pub(crate) fn word_ns(self) -> f64 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => 0.1,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => 0.27,
            #[cfg(target_arch = "aarch64")]
            Path::Neon => 0.35,
            Path::Scalar => 2.0,
        }
    }

    /// What it runs, for kernels that stand elsewhere.
    pub(crate) fn path(self) -> Path {
        self.0
    }

    /// The first group that holds a row at a distance below `limit`; the number of groups when there is none.
    pub(crate) fn first_below(self, lines: &[Line], query: &[u64], limit: u32) -> usize {
        let groups = n_groups(lines, query);
        // SAFETY: a `Path` is made only by `available`, after the machine was seen to have the instructions; `n_groups` has checked
        // that the lines are this many whole groups of codes as long as the query.
        unsafe {
            match (self.0, query.len()) {
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, 1) => avx512::first_below::<1>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, 2) => avx512::first_below::<2>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, 4) => avx512::first_below::<4>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, _) => avx512::first_below::<ANY>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, 1) => avx2::first_below::<1>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, 2) => avx2::first_below::<2>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, 4) => avx2::first_below::<4>(lines, groups, query, limit),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, _) => avx2::first_below::<ANY>(lines, groups, query, limit),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, 1) => neon::first_below::<1>(lines, groups, query, limit),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, 2) => neon::first_below::<2>(lines, groups, query, limit),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, 4) => neon::first_below::<4>(lines, groups, query, limit),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, _) => neon::first_below::<ANY>(lines, groups, query, limit),
                (Path::Scalar, _) => scalar_first_below(lines, query, limit),
            }
        }
    }

    /// The distance of every row, `out` having room for whole groups.
    pub(crate) fn distances(self, lines: &[Line], query: &[u64], out: &mut [u32]) {
        let groups = n_groups(lines, query);
        assert_eq!(out.len(), groups * GROUP_ROWS, "one distance per row");
        // SAFETY: as in `first_below`, and the output was just seen to hold all rows.
        unsafe {
            match (self.0, query.len()) {
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, 1) => avx512::distances::<1>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, 2) => avx512::distances::<2>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, 4) => avx512::distances::<4>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx512, _) => avx512::distances::<ANY>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, 1) => avx2::distances::<1>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, 2) => avx2::distances::<2>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, 4) => avx2::distances::<4>(lines, query, out),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, _) => avx2::distances::<ANY>(lines, query, out),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, 1) => neon::distances::<1>(lines, query, out),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, 2) => neon::distances::<2>(lines, query, out),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, 4) => neon::distances::<4>(lines, query, out),
                #[cfg(target_arch = "aarch64")]
                (Path::Neon, _) => neon::distances::<ANY>(lines, query, out),
                (Path::Scalar, _) => scalar_distances(lines, query, out),
            }
        }
    }
}

/// A number of words that is known only at run time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ANY: usize = 0;

/// Words whose counts fit into bytes: at most 8 ones a byte each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const BYTE_WORDS: usize = 31;

/// Lines of these rows, eight rows at a time, filled up with zeros to whole groups.
pub(crate) fn lines_of(words: &[u64], words_per_code: usize) -> Pages<Line> {
    let n = words.len() / words_per_code;
    let mut lines = Pages::<Line>::zeros(lines_per_group(words_per_code) * n.div_ceil(GROUP_ROWS));
    for (code, lines) in words.chunks(LINE_ROWS * words_per_code).zip(lines.chunks_exact_mut(words_per_code)) {
        for (r, code) in code.chunks_exact(words_per_code).enumerate() {
            for (word, line) in code.iter().zip(lines.iter_mut()) {
                line.0[r] = *word;
            }
        }
    }
    lines
}

/// Lines of a group.
pub(crate) fn lines_per_group(words_per_code: usize) -> usize {
    GROUP_LINES * words_per_code
}

/// Number of groups; what the vector paths' safety rests on.
fn n_groups(lines: &[Line], query: &[u64]) -> usize {
    assert!(!query.is_empty() && lines.len().is_multiple_of(lines_per_group(query.len())), "whole groups of codes");
    lines.len() / lines_per_group(query.len())
}

/// The definition, which the vector paths follow.
fn scalar_distances(lines: &[Line], query: &[u64], out: &mut [u32]) {
    for (lines, out) in lines.chunks_exact(query.len()).zip(out.chunks_exact_mut(LINE_ROWS)) {
        out.fill(0);
        for (line, q) in lines.iter().zip(query) {
            for (word, out) in line.0.iter().zip(&mut *out) {
                *out += (word ^ q).count_ones();
            }
        }
    }
}

fn scalar_first_below(lines: &[Line], query: &[u64], limit: u32) -> usize {
    let mut out = [0; GROUP_ROWS];
    let mut groups = lines.chunks_exact(lines_per_group(query.len()));
    let n = groups.len();
    let found = groups.position(|group| {
        scalar_distances(group, query, &mut out);
        out.iter().any(|distance| *distance < limit)
    });
    found.unwrap_or(n)
}

/// A register counts eight rows.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{GROUP_LINES, LINE_ROWS, Line};

    /// # Safety
    /// The machine has AVX-512F and VPOPCNTDQ; `W` is `query.len()` or 0; `groups` whole groups of codes as long as the query.
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    pub(super) unsafe fn first_below<const W: usize>(lines: &[Line], groups: usize, query: &[u64], limit: u32) -> usize {
        let words = if W == 0 { query.len() } else { W };
        let limit = _mm512_set1_epi64(i64::from(limit));
        let mut at = lines.as_ptr();
        for group in 0..groups {
            let mut sums = [_mm512_setzero_si512(); GROUP_LINES];
            // Line after line as they lie: memory is quickest read in order.
            for (i, sum) in sums.iter_mut().enumerate() {
                for w in 0..words {
                    // SAFETY: w < words, the length of the query; a line is 64 bytes at a multiple of 64, and a group has 4 * words.
                    unsafe {
                        let q = _mm512_set1_epi64(*query.get_unchecked(w) as i64);
                        let x = _mm512_load_si512(at.add(i * words + w).cast());
                        *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(_mm512_xor_si512(x, q)));
                    }
                }
            }
            // Counts fit into 32 bits, and the other halves are 0: so the cheaper minimum of 32-bit numbers will do.
            let least = _mm512_min_epu32(_mm512_min_epu32(sums[0], sums[1]), _mm512_min_epu32(sums[2], sums[3]));
            if _mm512_cmplt_epu64_mask(least, limit) != 0 {
                return group;
            }
            at = at.wrapping_add(GROUP_LINES * words);
        }
        groups
    }

    /// # Safety
    /// The machine has AVX-512F and VPOPCNTDQ; `W` is `query.len()` or 0; the lines are codes as long, one output for each.
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    pub(super) unsafe fn distances<const W: usize>(lines: &[Line], query: &[u64], out: &mut [u32]) {
        let words = if W == 0 { query.len() } else { W };
        for (lines, out) in lines.chunks_exact(words).zip(out.chunks_exact_mut(LINE_ROWS)) {
            let mut sum = _mm512_setzero_si512();
            for w in 0..words {
                // SAFETY: w < words, the length of the query and of this chunk; a line is 64 bytes at a multiple of 64.
                unsafe {
                    let q = _mm512_set1_epi64(*query.get_unchecked(w) as i64);
                    let x = _mm512_load_si512(lines.as_ptr().add(w).cast());
                    sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(x, q)));
                }
            }
            // SAFETY: this chunk of the output is 8 numbers of 32 bits.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(sum)) };
        }
    }
}

/// A register counts four rows, half a line.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{AHEAD_LINES, BYTE_WORDS, GROUP_LINES, LINE_ROWS, Line};

    /// Distances of half `half` of a line's rows, as four numbers of 64 bits.
    ///
    /// # Safety
    /// The machine has AVX2; `W` is `query.len()` or 0; there are `query.len()` lines at `lines`; `half` is 0 or 1.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn half_line<const W: usize>(lines: *const Line, half: usize, query: &[u64]) -> __m256i {
        let words = if W == 0 { query.len() } else { W };
        let low = _mm256_set1_epi8(0x0f);
        let table = _mm256_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, //
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        );
        let mut sum = _mm256_setzero_si256();
        let mut w = 0;
        while w < words {
            let mut bytes = _mm256_setzero_si256();
            let end = words.min(w + BYTE_WORDS);
            while w < end {
                // SAFETY: w < words, the number of lines and of the query's words; half a line is 32 bytes at a multiple of 32.
                let (x, q) = unsafe {
                    let x = _mm256_load_si256(lines.add(w).cast::<__m256i>().add(half));
                    (x, _mm256_set1_epi64x(*query.get_unchecked(w) as i64))
                };
                let differ = _mm256_xor_si256(x, q);
                let of_low = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, low));
                let of_high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(differ), low));
                bytes = _mm256_add_epi8(bytes, _mm256_add_epi8(of_low, of_high));
                w += 1;
            }
            sum = _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
        }
        sum
    }

    /// # Safety
    /// The machine has AVX2; `W` is `query.len()` or 0; `groups` whole groups of codes as long as the query.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn first_below<const W: usize>(lines: &[Line], groups: usize, query: &[u64], limit: u32) -> usize {
        let words = if W == 0 { query.len() } else { W };
        let limit = _mm256_set1_epi64x(i64::from(limit));
        let mut at = lines.as_ptr();
        for group in 0..groups {
            (0..GROUP_LINES * words).for_each(|i| _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD_LINES + i).cast()));
            let mut least = _mm256_set1_epi64x(i64::from(i32::MAX));
            for i in 0..GROUP_LINES {
                // SAFETY: a group has 4 * words lines.
                let (a, b) = unsafe {
                    let lines = at.add(i * words);
                    (half_line::<W>(lines, 0, query), half_line::<W>(lines, 1, query))
                };
                least = _mm256_min_epu32(least, _mm256_min_epu32(a, b));
            }
            if _mm256_movemask_epi8(_mm256_cmpgt_epi64(limit, least)) != 0 {
                return group;
            }
            at = at.wrapping_add(GROUP_LINES * words);
        }
        groups
    }

    /// # Safety
    /// The machine has AVX2; `W` is `query.len()` or 0; the lines are codes as long, one output for each.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn distances<const W: usize>(lines: &[Line], query: &[u64], out: &mut [u32]) {
        let words = if W == 0 { query.len() } else { W };
        // The lower halves of four numbers of 64 bits, in front.
        let lower = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
        for (lines, out) in lines.chunks_exact(words).zip(out.chunks_exact_mut(LINE_ROWS)) {
            for half in 0..2 {
                // SAFETY: this chunk is `words` lines.
                let sum = unsafe { half_line::<W>(lines.as_ptr(), half, query) };
                let four = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(sum, lower));
                // SAFETY: this chunk of the output is 8 numbers of 32 bits, a half 4.
                unsafe { _mm_storeu_si128(out.as_mut_ptr().add(half * 4).cast(), four) };
            }
        }
    }
}

/// A register counts two rows, a quarter of a line.
#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{BYTE_WORDS, GROUP_LINES, LINE_ROWS, Line};

    /// Distances of quarter `quarter` of a line's rows, as two numbers of 64 bits.
    ///
    /// # Safety
    /// The machine has NEON; `W` is `query.len()` or 0; there are `query.len()` lines at `lines`; `quarter` is 0 to 3.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn quarter_line<const W: usize>(lines: *const Line, quarter: usize, query: &[u64]) -> uint64x2_t {
        let words = if W == 0 { query.len() } else { W };
        let mut sum = vdupq_n_u64(0);
        let mut w = 0;
        while w < words {
            let mut bytes = vdupq_n_u8(0);
            let end = words.min(w + BYTE_WORDS);
            while w < end {
                // SAFETY: w < words, the number of lines and of the query's words; a quarter of a line is two numbers of 64 bits.
                let (x, q) = unsafe {
                    let x = vld1q_u64(lines.add(w).cast::<u64>().add(quarter * 2));
                    (x, vdupq_n_u64(*query.get_unchecked(w)))
                };
                bytes = vaddq_u8(bytes, vcntq_u8(vreinterpretq_u8_u64(veorq_u64(x, q))));
                w += 1;
            }
            sum = vaddq_u64(sum, vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes))));
        }
        sum
    }

    /// # Safety
    /// The machine has NEON; `W` is `query.len()` or 0; `groups` whole groups of codes as long as the query.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn first_below<const W: usize>(lines: &[Line], groups: usize, query: &[u64], limit: u32) -> usize {
        let words = if W == 0 { query.len() } else { W };
        let mut at = lines.as_ptr();
        for group in 0..groups {
            let mut least = vdupq_n_u32(u32::MAX);
            for i in 0..GROUP_LINES {
                for quarter in (0..4).step_by(2) {
                    // SAFETY: a group has 4 * words lines.
                    let (a, b) = unsafe {
                        let lines = at.add(i * words);
                        (quarter_line::<W>(lines, quarter, query), quarter_line::<W>(lines, quarter + 1, query))
                    };
                    // The lower halves of four numbers of 64 bits.
                    least = vminq_u32(least, vuzp1q_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b)));
                }
            }
            if vminvq_u32(least) < limit {
                return group;
            }
            at = at.wrapping_add(GROUP_LINES * words);
        }
        groups
    }

    /// # Safety
    /// The machine has NEON; `W` is `query.len()` or 0; the lines are codes as long, one output for each.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn distances<const W: usize>(lines: &[Line], query: &[u64], out: &mut [u32]) {
        let words = if W == 0 { query.len() } else { W };
        for (lines, out) in lines.chunks_exact(words).zip(out.chunks_exact_mut(LINE_ROWS)) {
            for quarter in 0..4 {
                // SAFETY: this chunk is `words` lines.
                let sum = unsafe { quarter_line::<W>(lines.as_ptr(), quarter, query) };
                // SAFETY: this chunk of the output is 8 numbers of 32 bits, a quarter 2.
                unsafe { vst1_u32(out.as_mut_ptr().add(quarter * 2), vmovn_u64(sum)) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64, n: usize) -> Vec<u64> {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 32
        };
        (0..n).map(|_| next() << 32 | next()).collect()
    }

    /// Distances of rows by what the words say.
    fn naive(words: &[u64], query: &[u64]) -> Vec<u32> {
        words.chunks_exact(query.len()).map(|code| code.iter().zip(query).map(|(a, b)| (a ^ b).count_ones()).sum()).collect()
    }

    #[test]
    fn every_kernel_counts_the_same() {
        // Words around the specialised lengths, and around those at which bytes overflow.
        for words in (1..=12).chain([30, 31, 32, 33, 61, 62, 63, 64, 1024]) {
            for n in [1, 8, 31, 32, 33, 100] {
                let codes = random((words * 1000 + n) as u64, n * words);
                let lines = lines_of(&codes, words);
                let n_groups = n.div_ceil(GROUP_ROWS);
                // All ones against zeros: the greatest distance, which no counter may lose.
                for query in [random(7, words), codes[..words].to_vec(), vec![u64::MAX; words], vec![0; words]] {
                    let mut padded = codes.clone();
                    padded.resize(n_groups * GROUP_ROWS * words, 0);
                    let expected = naive(&padded, &query);
                    for kernel in CodeKernel::available() {
                        let mut out = vec![u32::MAX; n_groups * GROUP_ROWS];
                        kernel.distances(&lines, &query, &mut out);
                        assert_eq!(out, expected, "{} {words} words, {n} rows", kernel.as_str());
                        let mut limits = expected.clone();
                        limits.extend([0, 1, 64 * words as u32, 64 * words as u32 + 1]);
                        for limit in limits {
                            let first = expected.iter().position(|d| *d < limit).map_or(n_groups, |row| row / GROUP_ROWS);
                            assert_eq!(kernel.first_below(&lines, &query, limit), first, "{} below {limit}", kernel.as_str());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_scalar_path_is_always_there() {
        assert_eq!(CodeKernel::available().last().map(|k| k.as_str()), Some("scalar"));
        assert_eq!(CodeKernel::available()[0], CodeKernel::best());
        assert!(lines_of(&[], 3).is_empty());
        assert_eq!(CodeKernel::best().first_below(&[], &[0; 3], 9), 0);
    }
}
