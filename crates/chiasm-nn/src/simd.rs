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

/// Loops with sums of products, which most machines compute in one instruction and one rounding.
pub(crate) trait Loops {
    /// What comes of them.
    type Output;

    /// Runs them, `FUSED` where there is such an instruction: a machine without would call a function of the library for each. Marked
    /// `#[inline(always)]` as what [`widest`] takes.
    fn call<const FUSED: bool>(self) -> Self::Output;
}

/// [`widest`] of such loops.
#[inline(always)]
pub(crate) fn widest_fused<L: Loops>(loops: L) -> L::Output {
    struct Chosen<L>(L);
    impl<L: Loops> pulp::WithSimd for Chosen<L> {
        type Output = L::Output;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> L::Output {
            // All vector instructions that are chosen among have it.
            if size_of::<S::f32s>() > size_of::<f32>() { self.0.call::<true>() } else { self.0.call::<false>() }
        }
    }
    pulp::Arch::new().dispatch(Chosen(loops))
}

/// `a b + c`, rounded once if `FUSED`.
#[inline(always)]
pub(crate) fn times_plus<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Numbers that are mapped together where there are so many: a loop of constant length becomes vector instructions whole. A plain loop is unrolled so far that
/// rows of a few dozen numbers, as heads and panels have, would be left to its scalar rest; one of a register's length is unrolled to single
/// numbers, of which not all come together again.
pub(crate) const WIDE: usize = 128;

/// Replaces every number by `f` of it.
#[inline(always)]
pub(crate) fn map<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
    let (wide, rest) = x.as_chunks_mut::<WIDE>();
    let (chunks, rest) = rest.as_chunks_mut::<LANES>();
    wide.iter_mut().for_each(|x| (0..WIDE).for_each(|i| x[i] = f(x[i])));
    chunks.iter_mut().for_each(|x| (0..LANES).for_each(|i| x[i] = f(x[i])));
    rest.iter_mut().for_each(|v| *v = f(*v));
}

/// Likewise by `f` of it and of the number in its place in `with`, which is as long.
#[inline(always)]
pub(crate) fn map_with<T: Copy>(x: &mut [T], with: &[T], f: impl Fn(T, T) -> T) {
    let ((wide, rest), (wide_with, rest_with)) = (x.as_chunks_mut::<WIDE>(), with.as_chunks::<WIDE>());
    let ((chunks, rest), (chunks_with, rest_with)) = (rest.as_chunks_mut::<LANES>(), rest_with.as_chunks::<LANES>());
    wide.iter_mut().zip(wide_with).for_each(|(x, w)| (0..WIDE).for_each(|i| x[i] = f(x[i], w[i])));
    chunks.iter_mut().zip(chunks_with).for_each(|(x, w)| (0..LANES).for_each(|i| x[i] = f(x[i], w[i])));
    rest.iter_mut().zip(rest_with).for_each(|(v, w)| *v = f(*v, *w));
}

/// Likewise by `f` of it and of the numbers in its place in `a` and `b`, which are as long.
#[inline(always)]
pub(crate) fn map_with_both<T: Copy>(x: &mut [T], a: &[T], b: &[T], f: impl Fn(T, T, T) -> T) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for ((chunk, a), b) in chunks.iter_mut().zip(a).zip(b) {
        for ((v, a), b) in chunk.iter_mut().zip(a).zip(b) {
            *v = f(*v, *a, *b);
        }
    }
    rest.iter_mut().zip(a_rest).zip(b_rest).for_each(|((v, a), b)| *v = f(*v, *a, *b));
}

/// Replaces the numbers in each place of three slices by `f` of them and of that in `with`; all are of one length.
#[inline(always)]
pub(crate) fn map_three<T: Copy>([a, b, c]: [&mut [T]; 3], with: &[T], f: impl Fn([T; 3], T) -> [T; 3]) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut::<LANES>(), b.as_chunks_mut::<LANES>());
    let ((c, c_rest), (with, with_rest)) = (c.as_chunks_mut::<LANES>(), with.as_chunks::<LANES>());
    for (((a, b), c), with) in a.iter_mut().zip(b).zip(c).zip(with) {
        for i in 0..LANES {
            [a[i], b[i], c[i]] = f([a[i], b[i], c[i]], with[i]);
        }
    }
    for (((a, b), c), with) in a_rest.iter_mut().zip(b_rest).zip(c_rest).zip(with_rest) {
        [*a, *b, *c] = f([*a, *b, *c], *with);
    }
}

/// The sum of `x` in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn sum<T: Number>(x: &[T]) -> T {
    sum_of(x, |v| v)
}

/// The sum of the squares of `x`, likewise.
#[inline(always)]
pub(crate) fn sum_of_squares<T: Number>(x: &[T]) -> T {
    sum_of(x, |v| v * v)
}

/// The sum of a function of each number of `x`, likewise.
#[inline(always)]
pub(crate) fn sum_of<T: Number>(x: &[T], term: impl Fn(T) -> T) -> T {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [T::default(); LANES];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += term(*v);
        }
    }
    lanes.into_iter().sum::<T>() + rest.iter().map(|v| term(*v)).sum::<T>()
}

/// The sum of the products of numbers in the same places of `x` and `y`, which are of one length, likewise.
#[inline(always)]
pub(crate) fn sum_of_products<T: Number>(x: &[T], y: &[T]) -> T {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [T::default(); LANES];
    for (x, y) in x.iter().zip(y) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += *x * *y;
        }
    }
    lanes.into_iter().sum::<T>() + x_rest.iter().zip(y_rest).map(|(x, y)| *x * *y).sum::<T>()
}

/// The largest number of `x`; `least` where there is none larger.
#[inline(always)]
pub(crate) fn largest<T: Number>(x: &[T], least: T) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let (wide, rest) = x.as_chunks::<WIDE>();
    let (chunks, rest) = rest.as_chunks::<LANES>();
    // Many beside each other, so that none waits for the one before.
    let mut lanes = [least; WIDE];
    wide.iter().for_each(|x| (0..WIDE).for_each(|i| lanes[i] = larger(lanes[i], x[i])));
    chunks.iter().for_each(|x| (0..LANES).for_each(|i| lanes[i] = larger(lanes[i], x[i])));
    rest.iter().fold(halved(lanes, larger), |most, v| larger(most, *v))
}

/// All numbers brought together by `f`: those of the first half each with one of the second, and so on, since one after the other would each wait for the
/// one before.
#[inline(always)]
pub(crate) fn halved<T: Copy>(mut x: [T; WIDE], f: impl Fn(T, T) -> T) -> T {
    macro_rules! halve {
        ($($n:literal)*) => {$( (0..$n).for_each(|i| x[i] = f(x[i], x[i + $n])); )*};
    }
    halve!(64 32 16 8 4 2 1);
    x[0]
}

/// What can be summed: `f32` and `f64`.
pub(crate) trait Number:
    Copy + Default + PartialOrd + std::ops::AddAssign + std::ops::Add<Output = Self> + std::ops::Mul<Output = Self> + std::iter::Sum
{
}

impl<T> Number for T where
    T: Copy
        + Default
        + PartialOrd
        + std::ops::AddAssign
        + std::ops::Add<Output = T>
        + std::ops::Mul<Output = T>
        + std::iter::Sum
{
}
