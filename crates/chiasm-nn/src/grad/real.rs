//! The two kinds of numbers that can be learned with.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use super::array::product_by_faer;
use crate::kernel::Precision;
use crate::{activation, kernel};

/// A matrix as it enters a product: its rows and columns, its numbers, and whether these lie column by column.
pub(super) type Entering<'a, T> = ([usize; 2], &'a [T], bool);

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
    /// The product of two matrices to zeros; double precision knows no other.
    fn product(precision: Precision, a: Entering<'_, Self>, b: Entering<'_, Self>, out: &mut [Self]);
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
        let e = activation::exp_of_negative::<false>(-self.abs());
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
        activation::tanh::<false>(self)
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        activation::sigmoid_of::<false>(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        activation::erf::<false>(self)
    }
    #[inline(always)]
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
    fn product(
        precision: Precision,
        ([m, k], a, a_turned): Entering<'_, f32>,
        ([_, n], b, b_turned): Entering<'_, f32>,
        out: &mut [f32],
    ) {
        let left = kernel::Factor { rows: m, columns: k, numbers: a, turned: a_turned };
        let right = kernel::Factor { rows: k, columns: n, numbers: b, turned: b_turned };
        kernel::product(precision, left, right, out);
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
    fn product(_: Precision, a: Entering<'_, f64>, b: Entering<'_, f64>, out: &mut [f64]) {
        product_by_faer(a, b, out);
    }
}
