//! What happens to single numbers, and to rows of scores.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use pulp::NullaryFnOnce;

use crate::simd::{WIDE, largest, map, map_with, sum, widest};

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
        widest(AfterBias { activation: self, x, bias });
    }

    /// The same for callers that are compiled for the widest instructions already.
    #[inline(always)]
    pub(crate) fn add_bias(self, x: &mut [f32], bias: &[f32]) {
        match self {
            Activation::None => each(x, bias, |v| v),
            Activation::Relu => each(x, bias, |v| v.max(0.0)),
            Activation::Relu6 => each(x, bias, |v| v.clamp(0.0, 6.0)),
            Activation::Gelu => each(x, bias, gelu),
            Activation::GeluTanh => each(x, bias, gelu_tanh),
            Activation::QuickGelu => each(x, bias, |v| v * sigmoid_of(1.702 * v)),
            Activation::Silu => each(x, bias, |v| v * sigmoid_of(v)),
            Activation::Tanh => each(x, bias, tanh),
        }
    }
}

struct AfterBias<'a> {
    activation: Activation,
    x: &'a mut [f32],
    bias: &'a [f32],
}

impl NullaryFnOnce for AfterBias<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.activation.add_bias(self.x, self.bias);
    }
}

#[inline(always)]
fn each(x: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    for row in x.chunks_exact_mut(bias.len()) {
        map_with(row, bias, |v, b| f(v + b));
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    // (1 + tanh(z)) / 2 is the sigmoid of 2 z.
    const TWICE_SQRT_2_BY_PI: f32 = 1.595_769;
    x * sigmoid_of(TWICE_SQRT_2_BY_PI * (x + 0.044_715 * x * x * x))
}

/// `1 / (1 + e^-x)`, within 4e-7 relative where that is a normal number.
#[inline(always)]
pub(crate) fn sigmoid_of(x: f32) -> f32 {
    let e = exp_of_negative(-x.abs());
    let inverse = 1.0 / (1.0 + e);
    if x >= 0.0 { inverse } else { e * inverse }
}

/// `tanh(x)`, within 2e-7 absolute.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let e = exp_of_negative(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// The error function, within 3e-7 relative: `x P(x^2) / Q(x^2)` on |x| < 4, beyond which it is 1 in `f32`.
///
/// The coefficients are a minimax fit, made by `reference/encode_erf.py`; rounded to `f32` the first is
/// 2 / sqrt(pi), the slope at 0, as it must be.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    const P: [f32; 7] =
        [FRAC_2_SQRT_PI, 0.184_710_47, 0.054_332_58, 0.003_839_530_3, 0.000_382_690_95, 4.780_500_6e-6, -1.366_658_5e-8];
    const Q: [f32; 6] = [1.0, 0.497_028_95, 0.113_826_34, 0.015_453_514, 0.001_309_577_6, 6.400_890_6e-5];
    let t = (x * x).min(16.0);
    let p = P.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let q = Q.iter().rev().fold(0.0, |sum, c| sum * t + c);
    if x.abs() < 4.0 { (x * p / q).clamp(-1.0, 1.0) } else { x.signum() }
}

/// `e^x` for `x <= 0`, within 2e-7 relative; 0 below -87, where `f32` has no normal numbers left.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln(2) / 2; ln 2 in two parts, so that the product with n is exact in the first.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, and unlike `round` it vectorises everywhere; in between the
    // integer stands in the lowest bits, as its two's complement, so that no cast is needed, which would not.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    // Taylor to the 7th power: the next term is below 6e-9.
    const C: [f32; 8] = [1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];
    let series = C.iter().rev().fold(0.0, |sum, c| sum * r + c);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { series * power }
}

/// Turns every row of `dim` scores into probabilities that sum to 1, in place.
pub fn softmax(x: &mut [f32], dim: usize) {
    let mut inverses = vec![0.0; x.len() / dim.max(1)];
    exponentials(x, dim, dim, &mut inverses);
    for (row, inverse) in x.chunks_exact_mut(dim.max(1)).zip(inverses) {
        row.iter_mut().for_each(|v| *v *= inverse);
    }
}

/// Turns the first `dim` scores of rows that are `stride` apart into what is in proportion to their probabilities, the largest 1, and gives for
/// each row what these are to be multiplied by.
pub(crate) fn exponentials(x: &mut [f32], dim: usize, stride: usize, inverses: &mut [f32]) {
    widest(Exponentials { x, dim, stride, inverses });
}

struct Exponentials<'a> {
    x: &'a mut [f32],
    dim: usize,
    stride: usize,
    inverses: &'a mut [f32],
}

impl NullaryFnOnce for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (row, inverse) in self.x.chunks_exact_mut(self.stride.max(1)).zip(self.inverses) {
            let row = &mut row[..self.dim];
            let max = largest(row, f32::NEG_INFINITY);
            // Sums beside each other, so that none waits for the one before.
            let mut sums = [0.0; WIDE / 2];
            let (wide, rest) = row.as_chunks_mut::<WIDE>();
            for x in wide {
                (0..WIDE).for_each(|i| x[i] = exp_of_negative(x[i] - max));
                (0..WIDE / 2).for_each(|i| sums[i] += x[i] + x[i + WIDE / 2]);
            }
            map(rest, |v| exp_of_negative(v - max));
            *inverse = 1.0 / (sum(&sums) + sum(rest));
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
            assert!((f64::from(erf(x)) - exact).abs() <= 3e-7 * exact.abs(), "erf({x}) is {}, not {exact}", erf(x));
        }
        for x in [3.9, 4.0, 5.0, 1e30, f32::INFINITY] {
            assert!((erf(x) - 1.0).abs() < 1e-7 && erf(-x) == -erf(x), "erf({x}) is {}", erf(x));
        }
    }

    #[test]
    fn exp_is_exact_to_single_precision() {
        for i in 0..87_000 {
            let x = -i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp_of_negative(x)) - exact).abs() <= 2e-7 * exact, "exp({x})");
        }
        assert_eq!((exp_of_negative(0.0), exp_of_negative(-88.0), exp_of_negative(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
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
