//! Loops that the compiler turns into the widest vector instructions of the machine it runs on.

/// Lanes of the partial sums in [`sum`], fixed so that the result is the same on every machine.
const LANES: usize = 16;

/// Runs `loops` compiled for AVX-512, AVX2, NEON or plain code, chosen at run time.
///
/// What is passed is a struct whose `call` is marked `#[inline(always)]`: only what is inlined is compiled for the wider
/// instructions, and a closure too large to be inlined would silently stay scalar.
#[inline(always)]
pub(crate) fn widest<L: pulp::NullaryFnOnce>(loops: L) -> L::Output {
    pulp::Arch::new().dispatch(loops)
}

/// The sum of `x` in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    sum_of(x, |v| v)
}

/// The sum of the squares of `x`, likewise.
#[inline(always)]
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    sum_of(x, |v| v * v)
}

/// The sum of a function of each number of `x`, likewise.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += term(*v);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|v| term(*v)).sum::<f32>()
}
