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

/// Replaces every number by `f` of it.
///
/// A plain loop is unrolled so far that rows of a few dozen numbers, as heads and panels have, would be left to its scalar rest.
#[inline(always)]
pub(crate) fn map(x: &mut [f32], f: impl Fn(f32) -> f32) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for v in chunk {
            *v = f(*v);
        }
    }
    rest.iter_mut().for_each(|v| *v = f(*v));
}

/// Likewise by `f` of it and of the number in its place in `with`, which is as long.
#[inline(always)]
pub(crate) fn map_with(x: &mut [f32], with: &[f32], f: impl Fn(f32, f32) -> f32) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    let (with, with_rest) = with.as_chunks::<LANES>();
    for (chunk, with) in chunks.iter_mut().zip(with) {
        for (v, w) in chunk.iter_mut().zip(with) {
            *v = f(*v, *w);
        }
    }
    rest.iter_mut().zip(with_rest).for_each(|(v, w)| *v = f(*v, *w));
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
