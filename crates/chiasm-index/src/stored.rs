//! [`Stored`]: what the numbers of a vector are kept as. A scan waits for memory, so it is quicker by as much as these are smaller.
//!
//! Every number that is read becomes an f32, which loses nothing, and scores are sums of f32 in the order that `kernels.rs` gives. So an index of
//! half floats gives the exact scores, order and ties of its *rounded* vectors, the same on every machine.
//!
//! | | bytes | what rounding takes, relative | beyond |
//! | --- | --- | --- | --- |
//! | `f32` | 4 | nothing | |
//! | `f16` | 2 | up to 2^-11 | 65,504 |
//! | `bf16` | 2 | up to 2^-8 | 3e38 |

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{float32x4_t, vld1q_f32};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

pub use half::{bf16, f16};

use crate::pages::Number;

/// A number as it is kept: `f32`, or `f16` or `bf16` of the crate `half`.
#[expect(private_bounds, reason = "only these three: kernels read their bits")]
pub trait Stored: Number + Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;

    /// What a file of such numbers says it is; see `file.rs`.
    #[doc(hidden)]
    const KIND: u32;

    /// The nearest such number, ties to even; infinite where there is none near.
    fn of(number: f32) -> Self;

    /// The number.
    fn get(self) -> f32;

    /// Adds its bytes, little-endian.
    #[doc(hidden)]
    fn put(self, bytes: &mut Vec<u8>);

    /// Four numbers from `at` on.
    ///
    /// # Safety
    /// They can be read, and the machine has AVX2 and F16C.
    #[doc(hidden)]
    #[cfg(target_arch = "x86_64")]
    unsafe fn four(at: *const Self) -> __m128;

    /// Sixteen numbers from `at` on.
    ///
    /// # Safety
    /// They can be read, and the machine has AVX-512F.
    #[doc(hidden)]
    #[cfg(target_arch = "x86_64")]
    unsafe fn sixteen(at: *const Self) -> __m512;

    /// Four numbers from `at` on.
    ///
    /// # Safety
    /// They can be read, and the machine has NEON.
    #[doc(hidden)]
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn four(at: *const Self) -> float32x4_t {
        // SAFETY: the caller promises four numbers.
        let four: [f32; 4] = std::array::from_fn(|i| unsafe { *at.add(i) }.get());
        // SAFETY: four numbers are 16 bytes.
        unsafe { vld1q_f32(four.as_ptr()) }
    }
}

impl Stored for f32 {
    const NAME: &'static str = "f32";
    const KIND: u32 = 1;

    #[inline(always)]
    fn of(number: f32) -> Self {
        number
    }

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn four(at: *const Self) -> __m128 {
        // SAFETY: the caller promises four numbers.
        unsafe { _mm_loadu_ps(at) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn sixteen(at: *const Self) -> __m512 {
        // SAFETY: the caller promises sixteen numbers and the instructions.
        unsafe { _mm512_loadu_ps(at) }
    }
}

/// A half float, whose numbers `$four` makes of the 64 bits of four of them, and `$sixteen` of the 256 of sixteen.
macro_rules! half {
    ($half:ident, $kind:literal, $four:expr, $sixteen:expr) => {
        impl Stored for $half {
            const NAME: &'static str = stringify!($half);
            const KIND: u32 = $kind;

            #[inline(always)]
            fn of(number: f32) -> Self {
                $half::from_f32(number)
            }

            #[inline(always)]
            fn get(self) -> f32 {
                self.to_f32()
            }

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn four(at: *const Self) -> __m128 {
                // SAFETY: the caller promises four numbers and the instructions.
                unsafe { $four(_mm_loadl_epi64(at.cast())) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn sixteen(at: *const Self) -> __m512 {
                // SAFETY: the caller promises sixteen numbers and the instructions.
                unsafe { $sixteen(_mm256_loadu_si256(at.cast())) }
            }
        }
    };
}

half!(f16, 3, |four| _mm_cvtph_ps(four), |sixteen| _mm512_cvtph_ps(sixteen));
// The upper half of a number in single precision.
half!(bf16, 4, |four| _mm_castsi128_ps(_mm_slli_epi32::<16>(_mm_cvtepu16_epi32(four))), |sixteen| _mm512_castsi512_ps(
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(sixteen))
));
