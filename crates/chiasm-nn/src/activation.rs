//! What happens to single numbers, and to rows of scores.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::simd::{Loops, WIDE, halved, largest, map, map_with, sum, times_plus, widest_fused};

/// A function applied to every output of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// As it is.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x Phi(x)` with the Gaussian distribution function itself, not its tanh approximation (Hendrycks and Gimpel 2016).
    Gelu,
    /// The same with the Gaussian's distribution function approximated by `(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// `x sigmoid(1.702 x)`, the other approximation of Hendrycks and Gimpel, in which CLIP was trained.
    QuickGelu,
    /// `x sigmoid(x)`, also called swish (Elfwing et al. 2018).
    Silu,
    /// `tanh(x)`.
    Tanh,
}

impl Activation {
    /// The function that a Hugging Face configuration calls so.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "linear" => Self::None,
            "relu" => Self::Relu,
            "relu6" => Self::Relu6,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }
}

impl Activation {
    /// `x` becomes the function of `x + y`: where a shortcut ends.
    ///
    /// # Panics
    /// If they are not of one length.
    pub fn of_sum(self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "lengths of a sum");
        if !x.is_empty() {
            self.after_bias(x, y);
        }
    }

    /// Applies the function to every number of `x`, in place.
    pub fn apply(self, x: &mut [f32]) {
        const NOTHING: [f32; 256] = [0.0; 256];
        x.chunks_mut(NOTHING.len()).for_each(|part| self.after_bias(part, &NOTHING[..part.len()]));
    }

    /// Adds `bias` to every row of `x`, `[n, bias.len()]`, and applies the function, in place.
    pub(crate) fn after_bias(self, x: &mut [f32], bias: &[f32]) {
        widest_fused(AfterBias { activation: self, x, bias });
    }

    /// The same for callers that are compiled for the widest instructions already.
    #[inline(always)]
    pub(crate) fn add_bias<const FUSED: bool>(self, x: &mut [f32], bias: &[f32]) {
        match self {
            Activation::None => each(x, bias, |v| v),
            Activation::Relu => each(x, bias, |v| v.max(0.0)),
            Activation::Relu6 => each(x, bias, |v| v.clamp(0.0, 6.0)),
            Activation::Gelu => each(x, bias, gelu::<FUSED>),
            Activation::GeluTanh => each(x, bias, gelu_tanh::<FUSED>),
            Activation::QuickGelu => each(x, bias, |v| v * sigmoid_of::<FUSED>(1.702 * v)),
            Activation::Silu => each(x, bias, |v| v * sigmoid_of::<FUSED>(v)),
            Activation::Tanh => each(x, bias, tanh::<FUSED>),
        }
    }
}

struct AfterBias<'a> {
    activation: Activation,
    x: &'a mut [f32],
    bias: &'a [f32],
}

impl Loops for AfterBias<'_> {
    type Output = ();

    #[inline(always)]
    fn call<const FUSED: bool>(self) {
        self.activation.add_bias::<FUSED>(self.x, self.bias);
    }
}

#[inline(always)]
fn each(x: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    for row in x.chunks_exact_mut(bias.len()) {
        map_with(row, bias, |v, b| f(v + b));
    }
}

#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FUSED>(x * FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh<const FUSED: bool>(x: f32) -> f32 {
    // (1 + tanh(z)) / 2 is the sigmoid of 2 z.
    const TWICE_SQRT_2_BY_PI: f32 = 1.595_769;
    x * sigmoid_of::<FUSED>(TWICE_SQRT_2_BY_PI * (x + 0.044_715 * x * x * x))
}

/// `1 / (1 + e^-x)`, within 4e-7 relative where that is a normal number.
#[inline(always)]
pub(crate) fn sigmoid_of<const FUSED: bool>(x: f32) -> f32 {
    let e = exp_of_negative::<FUSED>(-x.abs());
    let inverse = 1.0 / (1.0 + e);
    if x >= 0.0 { inverse } else { e * inverse }
}

/// `tanh(x)`, within 2e-7 absolute.
#[inline(always)]
pub(crate) fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let e = exp_of_negative::<FUSED>(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// The error function, within 3e-7 relative: `x P(x^2) / Q(x^2)` on |x| < 4, beyond which it is 1 in `f32`.
///
/// The coefficients are a minimax fit, made by `reference/encode_erf.py`; rounded to `f32` the first is
/// 2 / sqrt(pi), the slope at 0, as it must be.
#[inline(always)]
pub(crate) fn erf<const FUSED: bool>(x: f32) -> f32 {
    const P: [f32; 7] =
        [FRAC_2_SQRT_PI, 0.184_710_47, 0.054_332_58, 0.003_839_530_3, 0.000_382_690_95, 4.780_500_6e-6, -1.366_658_5e-8];
    const Q: [f32; 6] = [1.0, 0.497_028_95, 0.113_826_34, 0.015_453_514, 0.001_309_577_6, 6.400_890_6e-5];
    let t = (x * x).min(16.0);
    let (p, q) = (polynomial::<FUSED, _>(&P, t), polynomial::<FUSED, _>(&Q, t));
    if x.abs() < 4.0 { (x * p / q).clamp(-1.0, 1.0) } else { x.signum() }
}

/// `c[0] + c[1] x + ...` by Horner's rule.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(c: &[f32; N], x: f32) -> f32 {
    c[..N - 1].iter().rev().fold(c[N - 1], |sum, c| times_plus::<FUSED>(sum, x, *c))
}

/// `e^x` for `x <= 0`, within 2e-7 relative; 0 below -87, where `f32` has no normal numbers left.
#[inline(always)]
pub(crate) fn exp_of_negative<const FUSED: bool>(x: f32) -> f32 {
    // Taylor to the 7th power: the next term is below 6e-9.
    exp_by_series::<FUSED, _>(x, &[1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0])
}

/// The same within 5e-5 relative, for what is rounded to bfloat16, which changes a number by up to 4e-3 of it.
#[inline(always)]
pub(crate) fn roughly_exp_of_negative<const FUSED: bool>(x: f32) -> f32 {
    exp_by_series::<FUSED, _>(x, &[1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0])
}

/// `e^x` for `x <= 0` by the series of `e^r` on |r| <= ln(2) / 2.
#[inline(always)]
fn exp_by_series<const FUSED: bool, const N: usize>(x: f32, c: &[f32; N]) -> f32 {
    // x = n ln 2 + r with |r| <= ln(2) / 2; ln 2 in two parts, so that the product with n is exact in the first.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, and unlike `round` it vectorises everywhere; in between the
    // integer stands in the lowest bits, as its two's complement, so that no cast is needed, which would not.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let rounded = times_plus::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = times_plus::<FUSED>(-n, LN_2_LOW, times_plus::<FUSED>(-n, LN_2_HIGH, clamped));
    let series = polynomial::<FUSED, _>(c, r);
    // Times 2^n, by adding n to the exponent: where n is -126, the least, the series is above 1, so that no exponent falls below its least.
    let product = f32::from_bits(series.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < -87.0 { 0.0 } else { product }
}

/// Turns every row of `dim` scores into probabilities that sum to 1, in place.
pub fn softmax(x: &mut [f32], dim: usize) {
    let mut seen = vec![Seen::NOTHING; x.len() / dim.max(1)];
    exponentials(x, dim, dim, &mut seen, &mut [], 0);
    for (row, seen) in x.chunks_exact_mut(dim.max(1)).zip(seen) {
        let inverse = 1.0 / seen.sum;
        row.iter_mut().for_each(|v| *v *= inverse);
    }
}

/// What has been seen of a row of scores of which part after part comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The largest score.
    largest: f32,
    /// The sum of the exponentials of all, less the largest.
    pub(crate) sum: f32,
}

impl Seen {
    /// Nothing yet.
    pub(crate) const NOTHING: Self = Self { largest: f32::NEG_INFINITY, sum: 0.0 };

    /// The largest score so far.
    #[inline(always)]
    pub(crate) fn largest(&self) -> f32 {
        self.largest
    }

    /// A part more, after which this is the largest score; `sum` is that of the part's exponentials, less it. What was computed with the exponentials `before`
    /// shrinks as the largest grows.
    #[inline(always)]
    pub(crate) fn and<const FUSED: bool>(&mut self, largest: f32, mut sum: f32, before: &mut [f32]) {
        if self.sum != 0.0 {
            let shrunk = exp_of_negative::<FUSED>(self.largest - largest);
            sum += self.sum * shrunk;
            map(before, |v| v * shrunk);
        }
        *self = Self { largest, sum };
    }
}

/// Turns the first `dim` scores of rows that are `stride` apart into what is in proportion to their probabilities, the exponentials of scores less the largest
/// one seen so far (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"). What was computed with the exponentials before, rows of
/// `of_before`, shrinks as the largest grows; where nothing was, it holds nothing yet.
pub(crate) fn exponentials(x: &mut [f32], dim: usize, stride: usize, seen: &mut [Seen], before: &mut [f32], of_before: usize) {
    widest_fused(Exponentials { x, dim, stride, seen, before, of_before });
}

struct Exponentials<'a> {
    x: &'a mut [f32],
    dim: usize,
    stride: usize,
    seen: &'a mut [Seen],
    before: &'a mut [f32],
    of_before: usize,
}

impl Loops for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn call<const FUSED: bool>(self) {
        for (i, (row, seen)) in self.x.chunks_exact_mut(self.stride.max(1)).zip(self.seen).enumerate() {
            let row = &mut row[..self.dim];
            let max = largest(row, seen.largest);
            // Sums beside each other, so that none waits for the one before.
            let mut sums = [0.0; WIDE];
            let (wide, rest) = row.as_chunks_mut::<WIDE>();
            for x in wide {
                (0..WIDE).for_each(|i| x[i] = exp_of_negative::<FUSED>(x[i] - max));
                (0..WIDE).for_each(|i| sums[i] += x[i]);
            }
            map(rest, |v| exp_of_negative::<FUSED>(v - max));
            let total = halved(sums, |a, b| a + b) + sum(rest);
            seen.and::<FUSED>(max, total, &mut self.before[i * self.of_before..][..self.of_before]);
        }
    }
}

/// `1 / (1 + e^-x)` for every number, in place.
pub fn sigmoid(x: &mut [f32]) {
    x.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf in f64: its Taylor series, which on |x| < 3 loses no more than five of sixteen digits.
    fn erf_exact(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn erf_is_exact_to_single_precision() {
        for i in -3000..=3000 {
            let x = i as f32 / 1000.0;
            let exact = erf_exact(f64::from(x));
            assert!(
                (f64::from(erf::<true>(x)) - exact).abs() <= 3e-7 * exact.abs(),
                "erf({x}) is {}, not {exact}",
                erf::<true>(x)
            );
        }
        for x in [3.9, 4.0, 5.0, 1e30, f32::INFINITY] {
            assert!(
                (erf::<true>(x) - 1.0).abs() < 1e-7 && erf::<true>(-x) == -erf::<true>(x),
                "erf({x}) is {}",
                erf::<true>(x)
            );
        }
    }

    #[test]
    fn exp_is_exact_to_single_precision() {
        for i in 0..87_000 {
            let x = -i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            for exp in [exp_of_negative::<true>, exp_of_negative::<false>] {
                assert!((f64::from(exp(x)) - exact).abs() <= 2e-7 * exact, "exp({x})");
            }
        }
        for exp in [exp_of_negative::<true>, exp_of_negative::<false>] {
            assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        }
    }

    #[test]
    fn activations_at_their_corners() {
        let mut x = [-7.0, -0.5, 0.0, 0.5, 7.0];
        Activation::Relu6.after_bias(&mut x, &[0.0]);
        assert_eq!(x, [0.0, 0.0, 0.0, 0.5, 6.0]);
        let mut x = [-20.0, 0.0, 10.0, -21.0, -1.0, 20.0];
        Activation::Gelu.after_bias(&mut x, &[0.0, 1.0, 10.0]);
        assert_eq!((x[0], x[2], x[3], x[4], x[5]), (0.0, 20.0, 0.0, 0.0, 30.0));
        assert!((x[1] - 0.841_344_7).abs() < 1e-7);
        for i in -12_000..=12_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x);
            let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
            let by_tanh = exact / 2.0 * (1.0 + (0.797_884_560_802_865_4 * (exact + 0.044_715 * exact.powi(3))).tanh());
            for (activation, want) in [
                (Activation::QuickGelu, exact * sigmoid(1.702 * exact)),
                (Activation::Silu, exact * sigmoid(exact)),
                (Activation::GeluTanh, by_tanh),
                (Activation::Tanh, exact.tanh()),
            ] {
                let mut y = [x];
                activation.after_bias(&mut y, &[0.0]);
                assert!(
                    (f64::from(y[0]) - want).abs() < 1e-6 * want.abs().max(0.25),
                    "{activation:?} of {x} is {}, not {want}",
                    y[0]
                );
            }
        }
        let mut x = [1000.0, 1000.0, -1000.0, 3.0, 3.0, 3.0];
        softmax(&mut x, 3);
        assert_eq!(x[..3], [0.5, 0.5, 0.0]);
        assert!(x[3..].iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-7));
        let mut x = [0.0, 200.0, -200.0];
        sigmoid(&mut x);
        assert_eq!(x, [0.5, 1.0, 0.0]);
    }
}
