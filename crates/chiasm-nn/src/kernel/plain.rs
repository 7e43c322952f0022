//! Kernels without special instructions, which the compiler vectorises as far as the target lets it.
#![allow(unsafe_code)]

use super::isa::{Kernel, Word};
use super::tile::{CHUNK_WORDS, Lanes, Strip, strip};

pub(super) static F32: Kernel =
    Kernel { name: "plain", word: Word::F32, columns: 16, rows: 2, chunk: CHUNK_WORDS / 16, strip: f32, is_here: || true };

pub(super) static I16: Kernel =
    Kernel { name: "plain", word: Word::I16, columns: 16, rows: 2, chunk: CHUNK_WORDS / 16, strip: i16, is_here: || true };

unsafe fn f32(s: Strip) {
    // SAFETY: no instructions are asked for; the strip is the caller's to answer for.
    unsafe { strip::<Numbers<8>, 2>(s) }
}

unsafe fn i16(s: Strip) {
    // SAFETY: see above.
    unsafe { strip::<Pairs, 2>(s) }
}

/// `N` numbers.
#[derive(Clone, Copy)]
struct Numbers<const N: usize>([f32; N]);

impl<const N: usize> Lanes for Numbers<N> {
    const N: usize = N;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; N])
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: the trait asks for `N` words at `at`, here and below.
        unsafe { Self(at.cast::<[f32; N]>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `load`.
        unsafe { at.cast::<[f32; N]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `load`.
        unsafe { Self([at.cast::<f32>().read_unaligned(); N]) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
}

/// Eight pairs of 16-bit integers.
#[derive(Clone, Copy)]
struct Pairs([u32; 8]);

impl Lanes for Pairs {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 8])
    }

    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: see `Numbers::load`.
        unsafe { Self(at.cast::<[u32; 8]>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u32) {
        // SAFETY: see `Numbers::load`.
        unsafe { at.cast::<[u32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn spread(at: *const u32) -> Self {
        // SAFETY: see `Numbers::load`.
        unsafe { Self([at.read_unaligned(); 8]) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_add(other.0[i])))
    }

    #[inline(always)]
    unsafe fn add_products(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| {
            let [low, high] = [0, 16].map(|shift| {
                let half = |word: u32| i32::from((word >> shift) as u16 as i16);
                half(a.0[i]) * half(b.0[i])
            });
            self.0[i].wrapping_add((low + high).cast_unsigned())
        }))
    }
}

#[cfg(test)]
mod tests {
    //! Wide registers in plain, so that tiles and panels of their sizes are tested on processors without them.

    use super::super::tests::{against_the_definition, row_by_row};
    use super::*;
    use crate::kernel::Precision;

    static WIDE: Kernel = Kernel { name: "wide in plain", columns: 32, rows: 12, chunk: CHUNK_WORDS / 32, strip: wide, ..F32 };

    unsafe fn wide(s: Strip) {
        // SAFETY: see `f32`.
        unsafe { strip::<Numbers<16>, 12>(s) }
    }

    #[test]
    fn wide_registers_take_their_panels() {
        for precision in [Precision::F32, Precision::Bf16] {
            against_the_definition(precision, &WIDE);
            row_by_row(precision, &WIDE);
        }
    }
}
