//! NEON, which every 64-bit Arm processor has.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::isa::{Kernel, Word};
use super::tile::{CHUNK_WORDS, Lanes, Strip, strip};

pub(super) static NEON_F32: Kernel =
    Kernel { name: "neon", word: Word::F32, columns: 16, rows: 6, chunk: CHUNK_WORDS / 16, strip: neon_f32, is_here: || true };

pub(super) static NEON_I16: Kernel =
    Kernel { name: "neon", word: Word::I16, columns: 16, rows: 6, chunk: CHUNK_WORDS / 16, strip: neon_i16, is_here: || true };

#[target_feature(enable = "neon")]
unsafe fn neon_f32(s: Strip) {
    // SAFETY: the instructions are enabled; the strip is the caller's to answer for. So below.
    unsafe { strip::<Two, 6>(s) }
}

#[target_feature(enable = "neon")]
unsafe fn neon_i16(s: Strip) {
    // SAFETY: see above.
    unsafe { strip::<TwoPairs, 6>(s) }
}

/// Two registers of four numbers.
#[derive(Clone, Copy)]
struct Two(float32x4_t, float32x4_t);

impl Lanes for Two {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: here and in the other functions below, what the trait asks of the caller is what each intrinsic asks.
        unsafe { Self(vdupq_n_f32(0.0), vdupq_n_f32(0.0)) }
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(vld1q_f32(at.cast()), vld1q_f32(at.add(4).cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `zero`.
        unsafe {
            vst1q_f32(at.cast(), self.0);
            vst1q_f32(at.add(4).cast(), self.1);
        }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `zero`.
        unsafe {
            let all = vld1q_dup_f32(at.cast());
            Self(all, all)
        }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(vaddq_f32(self.0, other.0), vaddq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        // SAFETY: see `zero`.
        unsafe { Self(vfmaq_f32(self.0, a.0, b.0), vfmaq_f32(self.1, a.1, b.1)) }
    }
}

/// Two registers of four pairs of 16-bit integers.
#[derive(Clone, Copy)]
struct TwoPairs(int32x4_t, int32x4_t);

impl Lanes for TwoPairs {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see `Two::zero`.
        unsafe { Self(vdupq_n_s32(0), vdupq_n_s32(0)) }
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: see `Two::zero`.
        unsafe { Self(vld1q_s32(at.cast()), vld1q_s32(at.add(4).cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `Two::zero`.
        unsafe {
            vst1q_s32(at.cast(), self.0);
            vst1q_s32(at.add(4).cast(), self.1);
        }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `Two::zero`.
        unsafe {
            let all = vld1q_dup_s32(at.cast());
            Self(all, all)
        }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: see `Two::zero`.
        unsafe { Self(vaddq_s32(self.0, other.0), vaddq_s32(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        // The products of the pairs of one register, added in twos, lane by lane.
        let add = |sum, a, b| {
            // SAFETY: see `Two::zero`.
            unsafe {
                let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
                let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
                let high = vmull_high_s16(a, b);
                vaddq_s32(sum, vpaddq_s32(low, high))
            }
        };
        Self(add(self.0, a.0, b.0), add(self.1, a.1, b.1))
    }
}
