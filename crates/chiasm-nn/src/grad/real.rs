//! The two kinds of numbers that can be learned with.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::activation;

/// `f32`, for encoders, or `f64`, for small networks and for comparisons with a reference.
pub trait Real:
    faer::traits::ComplexField
    + Copy
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
{
    /// The nearest number of this kind.
    fn of(x: f64) -> Self;
    /// The same number.
    fn wide(self) -> f64;
    /// `e^x`.
    fn exponential(self) -> Self;
    /// The natural logarithm.
    fn logarithm(self) -> Self;
    /// The square root.
    fn root(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh_of(self) -> Self;
    /// `1 / (1 + e^-x)`.
    fn sigmoid(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// Whether it is neither infinite nor no number.
    fn is_a_number(self) -> bool;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn exponential(self) -> Self {
        let e = activation::exp_of_negative(-self.abs());
        if self > 0.0 { 1.0 / e } else { e }
    }
    #[inline(always)]
    fn logarithm(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn tanh_of(self) -> Self {
        activation::tanh(self)
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        activation::sigmoid_of(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        activation::erf(self)
    }
    #[inline(always)]
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exponential(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn logarithm(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn tanh_of(self) -> Self {
        self.tanh()
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // Never of a positive exponent, which would overflow.
        let e = (-self.abs()).exp();
        if self >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
    }
    #[inline(always)]
    fn erf(self) -> Self {
        libm::erf(self)
    }
    #[inline(always)]
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
}
