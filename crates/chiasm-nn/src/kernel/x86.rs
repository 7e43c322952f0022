//! AVX-512 and AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::isa::{Kernel, Word};
use super::tile::{CHUNK_WORDS, Lanes, Strip, strip};

pub(super) static AVX512_F32: Kernel = Kernel {
    name: "avx512",
    word: Word::F32,
    columns: 32,
    rows: 12,
    chunk: CHUNK_WORDS / 32,
    strip: avx512_f32,
    is_here: || is_x86_feature_detected!("avx512f"),
};

pub(super) static AVX512_BF16: Kernel = Kernel {
    name: "avx512-bf16",
    word: Word::Bf16,
    columns: 32,
    rows: 12,
    chunk: CHUNK_WORDS / 32,
    strip: avx512_bf16,
    is_here: || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"),
};

pub(super) static AVX512_VNNI: Kernel = Kernel {
    name: "avx512-vnni",
    word: Word::I8,
    columns: 32,
    rows: 12,
    chunk: CHUNK_WORDS / 32,
    strip: avx512_vnni,
    is_here: || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"),
};

pub(super) static AVX2_F32: Kernel = Kernel {
    name: "avx2",
    word: Word::F32,
    columns: 16,
    rows: 6,
    chunk: CHUNK_WORDS / 16,
    strip: avx2_f32,
    is_here: || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
};

pub(super) static AVX2_I16: Kernel = Kernel {
    name: "avx2",
    word: Word::I16,
    columns: 16,
    rows: 6,
    chunk: CHUNK_WORDS / 16,
    strip: avx2_i16,
    is_here: || is_x86_feature_detected!("avx2"),
};

#[target_feature(enable = "avx512f")]
unsafe fn avx512_f32(s: Strip) {
    // SAFETY: the instructions are enabled; the strip is the caller's to answer for. So below.
    unsafe { strip::<Wide, 12>(s) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16(s: Strip) {
    // SAFETY: see above.
    unsafe { strip::<WidePairs, 12>(s) }
}

#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn avx512_vnni(s: Strip) {
    // SAFETY: see above.
    unsafe { strip::<WideBytes, 12>(s) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_f32(s: Strip) {
    // SAFETY: see above.
    unsafe { strip::<Half, 6>(s) }
}

#[target_feature(enable = "avx2")]
unsafe fn avx2_i16(s: Strip) {
    // SAFETY: see above.
    unsafe { strip::<HalfPairs, 6>(s) }
}

/// Sixteen numbers (AVX-512).
#[derive(Clone, Copy)]
struct Wide(__m512);

impl Lanes for Wide {
    const N: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: here and in the other implementations below, what the trait asks of the caller is what each intrinsic asks.
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(_mm512_loadu_ps(at.cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `zero`.
        unsafe { _mm512_storeu_ps(at.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(_mm512_set1_ps(at.cast::<f32>().read_unaligned())) }
    }

    #[inline(always)]
    fn prefetch(at: *const u32) {
        // SAFETY: a prefetch of any address is without effect but on the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
}

/// The functions of registers of 512 bits of several numbers to a word, which differ only in how these are added and multiplied.
macro_rules! wide_words {
    ($(#[$doc:meta])* $name:ident, |$sum:ident, $other:ident| $plus:expr, |$a:ident, $b:ident| $products:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        struct $name(__m512i);

        impl Lanes for $name {
            const N: usize = 16;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: see `Wide::zero`.
                unsafe { Self(_mm512_setzero_si512()) }
            }

            #[inline(always)]
            unsafe fn load(at: *const u32) -> Self {
                // SAFETY: see `Wide::zero`.
                unsafe { Self(_mm512_loadu_si512(at.cast())) }
            }

            #[inline(always)]
            unsafe fn store(self, at: *mut u32) {
                // SAFETY: see `Wide::zero`.
                unsafe { _mm512_storeu_si512(at.cast(), self.0) }
            }

            #[inline(always)]
            unsafe fn spread(at: *const u32) -> Self {
                // SAFETY: see `Wide::zero`.
                unsafe { Self(_mm512_set1_epi32(at.read_unaligned().cast_signed())) }
            }

            #[inline(always)]
            fn prefetch(at: *const u32) {
                // SAFETY: a prefetch of any address is without effect but on the cache.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }

            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                let ($sum, $other) = (self.0, other.0);
                // SAFETY: see `Wide::zero`.
                unsafe { Self($plus) }
            }

            #[inline(always)]
            unsafe fn add_products(self, a: Self, b: Self) -> Self {
                let ($sum, $a, $b) = (self.0, a.0, b.0);
                // SAFETY: see `Wide::zero`.
                unsafe { Self($products) }
            }
        }
    };
}

wide_words!(
    /// Sixteen pairs of bfloat16, summed in single precision (AVX512-BF16).
    WidePairs,
    |sum, other| _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(sum), _mm512_castsi512_ps(other))),
    |a, b| _mm512_castps_si512(_mm512_dpbf16_ps(
        _mm512_castsi512_ps(sum),
        std::mem::transmute::<__m512i, __m512bh>(a),
        std::mem::transmute::<__m512i, __m512bh>(b),
    ))
);

wide_words!(
    /// Sixteen times four bytes, those of `a` unsigned (AVX512-VNNI).
    WideBytes,
    |sum, other| _mm512_add_epi32(sum, other),
    |a, b| _mm512_dpbusd_epi32(sum, a, b)
);

/// Eight numbers (AVX2).
#[derive(Clone, Copy)]
struct Half(__m256);

impl Lanes for Half {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_loadu_ps(at.cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `Wide::zero`.
        unsafe { _mm256_storeu_ps(at.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_set1_ps(at.cast::<f32>().read_unaligned())) }
    }

    #[inline(always)]
    fn prefetch(at: *const u32) {
        // SAFETY: a prefetch of any address is without effect but on the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0)) }
    }
}

/// Eight pairs of 16-bit integers (AVX2).
#[derive(Clone, Copy)]
struct HalfPairs(__m256i);

impl Lanes for HalfPairs {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `Wide::zero`.
        unsafe { _mm256_storeu_si256(at.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_set1_epi32(at.read_unaligned().cast_signed())) }
    }

    #[inline(always)]
    fn prefetch(at: *const u32) {
        // SAFETY: a prefetch of any address is without effect but on the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        // SAFETY: see `Wide::zero`.
        unsafe { Self(_mm256_add_epi32(self.0, _mm256_madd_epi16(a.0, b.0))) }
    }
}
