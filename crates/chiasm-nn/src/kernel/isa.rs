//! Which instructions there are, and the kernel for each precision.

use super::Precision;
use super::tile::Strip;
use super::{LINE, plain};

/// What stands in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// One number.
    F32,
    /// Two: of the numbers of a line the `i`-th of the first half, in the lower half, and the `i`-th of the second, so that registers of numbers become
    /// registers of words without any that changes its lane.
    Bf16,
    /// Two 8-bit integers widened to 16 bits, the first in the lower half.
    I16,
    /// Four 8-bit integers, the first lowest: signed in the weights, unsigned in the rows.
    I8,
}

impl Word {
    /// Numbers in a word.
    pub(super) fn elements(self) -> usize {
        match self {
            Word::F32 => 1,
            Word::Bf16 | Word::I16 => 2,
            Word::I8 => 4,
        }
    }
}

/// A way to multiply.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As people read it.
    pub(super) name: &'static str,
    /// What it multiplies.
    pub(super) word: Word,
    /// Columns of a panel.
    pub(super) columns: usize,
    /// Rows that are multiplied together, and stand together when packed.
    pub(super) rows: usize,
    /// Steps that are taken while their part of a panel stays in the first cache.
    pub(super) chunk: usize,
    /// # Safety
    /// Only where its instructions are there, on a strip of valid pointers over a panel of `columns` columns.
    pub(super) strip: unsafe fn(Strip),
    /// Whether its instructions are there.
    pub(super) is_here: fn() -> bool,
}

impl Kernel {
    /// Words of a row of `n` numbers, whole lines of them.
    pub(super) fn steps(&self, n: usize) -> usize {
        n.div_ceil(self.word.elements()).next_multiple_of(LINE)
    }

    /// Rows, filled up to whole tiles.
    pub(super) fn filled(&self, rows: usize) -> usize {
        rows.next_multiple_of(self.rows)
    }
}

/// The kernels of each precision, the fastest first; the last is everywhere.
static F32: &[&Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    &super::x86::AVX512_F32,
    #[cfg(target_arch = "x86_64")]
    &super::x86::AVX2_F32,
    #[cfg(target_arch = "aarch64")]
    &super::neon::NEON_F32,
    &plain::F32,
];
/// Before those of single precision: without instructions of their own, bfloat16 numbers are multiplied as what they are, numbers with
/// short fractions.
static BF16: &[&Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    &super::amx::AMX_BF16,
    #[cfg(target_arch = "x86_64")]
    &super::x86::AVX512_BF16,
];
static INT8: &[&Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    &super::amx::AMX_INT8,
    #[cfg(target_arch = "x86_64")]
    &super::x86::AVX512_VNNI,
    #[cfg(target_arch = "x86_64")]
    &super::x86::AVX2_I16,
    #[cfg(target_arch = "aarch64")]
    &super::neon::NEON_I16,
    &plain::I16,
];

/// The kernels that can run here, the fastest first.
pub(super) fn all(precision: Precision) -> impl Iterator<Item = &'static Kernel> {
    let (own, rest): (&[&Kernel], _) = match precision {
        Precision::F32 => (&[], F32),
        Precision::Bf16 => (BF16, F32),
        Precision::Int8 => (&[], INT8),
    };
    own.iter().chain(rest).copied().filter(|kernel| (kernel.is_here)())
}

/// The fastest.
pub(super) fn best(precision: Precision) -> &'static Kernel {
    all(precision).next().expect("the plain kernel is everywhere")
}

/// The fastest for products of numbers that are computed on the way, beside layers of this precision: bfloat16 beside it and beside integers, which
/// would have to be scaled first.
pub(super) fn beside(precision: Precision) -> &'static Kernel {
    best(if precision == Precision::Int8 { Precision::Bf16 } else { precision })
}
