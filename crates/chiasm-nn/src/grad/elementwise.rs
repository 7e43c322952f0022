//! Operations of numbers in the same place, and of a matrix with a row or a column.

use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::Arc;

use super::{Array, Real, Var};
use crate::simd;

/// `1 / sqrt(2)` and `1 / sqrt(2 pi)`.
const ROOT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

impl<'t, T: Real> Var<'t, T> {
    /// A function of each number, and its derivative by the number and by the function's value there.
    fn each(self, f: impl Fn(T) -> T + Sync, slope: impl Fn(T, T) -> T + Sync + 'static) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let y = Arc::new(x.mapped(f));
        self.made(Arc::clone(&y), move |mut d, sink| {
            sink.add(to, || {
                d.change_with_both(&x, &y, |d, x, y| d * slope(x, y));
                d
            });
        })
    }

    /// `factor x`.
    pub fn scaled(self, factor: T) -> Var<'t, T> {
        self.each(move |x| factor * x, move |_, _| factor)
    }

    /// `x + number`.
    pub fn plus(self, number: T) -> Var<'t, T> {
        self.each(move |x| x + number, |_, _| T::of(1.0))
    }

    /// `x^2`.
    pub fn square(self) -> Var<'t, T> {
        self.each(|x| x * x, |x, _| x + x)
    }

    /// `sqrt(x)`, for numbers above 0.
    pub fn root(self) -> Var<'t, T> {
        self.each(T::root, |_, y| T::of(0.5) / y)
    }

    /// `|x|`; at 0 its slope is 0.
    pub fn absolute(self) -> Var<'t, T> {
        let zero = T::of(0.0);
        self.each(
            move |x| if x < zero { -x } else { x },
            move |x, _| {
                if x > zero {
                    T::of(1.0)
                } else if x < zero {
                    T::of(-1.0)
                } else {
                    zero
                }
            },
        )
    }

    /// `e^x`.
    pub fn exp(self) -> Var<'t, T> {
        self.each(T::exponential, |_, y| y)
    }

    /// The natural logarithm, for numbers above 0.
    pub fn ln(self) -> Var<'t, T> {
        self.each(T::logarithm, |x, _| T::of(1.0) / x)
    }

    /// `max(x, 0)`.
    pub fn relu(self) -> Var<'t, T> {
        self.leaky_relu(T::of(0.0))
    }

    /// `x` above 0, `slope x` below.
    pub fn leaky_relu(self, slope: T) -> Var<'t, T> {
        let zero = T::of(0.0);
        self.each(move |x| if x > zero { x } else { slope * x }, move |x, _| if x > zero { T::of(1.0) } else { slope })
    }

    /// The hyperbolic tangent.
    pub fn tanh(self) -> Var<'t, T> {
        self.each(T::tanh_of, |_, y| T::of(1.0) - y * y)
    }

    /// `1 / (1 + e^-x)`.
    pub fn sigmoid(self) -> Var<'t, T> {
        self.each(T::sigmoid, |_, y| y * (T::of(1.0) - y))
    }

    /// `ln(1 + e^x)`, so that `-softplus(-x)` is the logarithm of the sigmoid.
    pub fn softplus(self) -> Var<'t, T> {
        let zero = T::of(0.0);
        self.each(
            move |x| {
                let (above, below) = if x > zero { (x, -x) } else { (zero, x) };
                above + (T::of(1.0) + below.exponential()).logarithm()
            },
            |x, _| x.sigmoid(),
        )
    }

    /// `x Phi(x)`, with the Gaussian's distribution function itself (Hendrycks and Gimpel 2016).
    pub fn gelu(self) -> Var<'t, T> {
        let phi = |x: T| T::of(0.5) * (T::of(1.0) + (x * T::of(ROOT_HALF)).erf());
        self.each(move |x| x * phi(x), move |x, _| phi(x) + x * T::of(DENSITY_AT_0) * (T::of(-0.5) * x * x).exponential())
    }

    /// `x sigmoid(1.702 x)`, in which CLIP was trained.
    pub fn quick_gelu(self) -> Var<'t, T> {
        let a = T::of(1.702);
        self.each(
            move |x| x * (a * x).sigmoid(),
            move |x, _| {
                let s = (a * x).sigmoid();
                s + a * x * s * (T::of(1.0) - s)
            },
        )
    }

    /// `x` within two bounds; outside of them no gradient passes.
    pub fn clamped(self, least: T, most: T) -> Var<'t, T> {
        self.each(
            move |x| {
                if x < least {
                    least
                } else if x > most {
                    most
                } else {
                    x
                }
            },
            move |x, _| T::of(if x < least || x > most { 0.0 } else { 1.0 }),
        )
    }

    /// Adds one row, `[1, m]`, to every row.
    ///
    /// # Panics
    /// If it is not one row as wide.
    pub fn add_row(self, row: Var<'t, T>) -> Var<'t, T> {
        let ([_, m], from) = (self.shape(), row.value());
        assert_eq!(from.shape(), [1, m], "a row to be added to each");
        let y = self.value().mapped_rows(|_, out| simd::map_with(out, from.data(), |y, b| y + b));
        let (to, to_row) = (self.place(), row.place());
        self.tape.custom(&[self, row], y, move |d, sink| {
            sink.add(to_row, || d.sum_of_rows());
            sink.add(to, || d);
        })
    }

    /// Multiplies every row by one row, `[1, m]`, number by number.
    ///
    /// # Panics
    /// If it is not one row as wide.
    pub fn times_row(self, row: Var<'t, T>) -> Var<'t, T> {
        let ([_, m], x, from) = (self.shape(), self.value(), row.value());
        assert_eq!(from.shape(), [1, m], "a row by which each is multiplied");
        let times = |of: &Array<T>, by: &Array<T>| of.mapped_rows(|_, out| simd::map_with(out, by.data(), |y, b| y * b));
        let y = times(&x, &from);
        let (to, to_row) = (self.place(), row.place());
        self.tape.custom(&[self, row], y, move |d, sink| {
            sink.add(to, || times(&d, &from));
            sink.add(to_row, || d.sum_of_rows_times(&x));
        })
    }

    /// Multiplies every column by one column, `[n, 1]`, number by number: each row by a number of its own.
    ///
    /// # Panics
    /// If it is not one column as high.
    pub fn times_column(self, column: Var<'t, T>) -> Var<'t, T> {
        let ([n, _], x, from) = (self.shape(), self.value(), column.value());
        assert_eq!(from.shape(), [n, 1], "a column by which each is multiplied");
        let times = |of: &Array<T>, by: &Array<T>| of.mapped_rows(|i, out| simd::map(out, |y| y * by.data()[i]));
        let y = times(&x, &from);
        let (to, to_column) = (self.place(), column.place());
        self.tape.custom(&[self, column], y, move |d, sink| {
            sink.add(to, || times(&d, &from));
            sink.add(to_column, || {
                let mut each = d;
                each.change_with(&x, |d, x| d * x);
                each.sum_of_columns()
            });
        })
    }

    /// Multiplies by a single number that is learned, `[1, 1]`.
    ///
    /// # Panics
    /// If it is not a single one.
    pub fn times_number(self, number: Var<'t, T>) -> Var<'t, T> {
        let (x, factor) = (self.value(), number.value().only());
        let y = x.mapped(|x| factor * x);
        let (to, to_number) = (self.place(), number.place());
        self.tape.custom(&[self, number], y, move |d, sink| {
            sink.add(to_number, || Array::scalar(T::of(d.data().iter().zip(x.data()).map(|(d, x)| d.wide() * x.wide()).sum())));
            sink.add(to, || {
                let mut d = d;
                d.change(|d| factor * d);
                d
            });
        })
    }

    /// An operation of two matrices of one shape: its value, and its derivatives by either, as functions of both.
    fn both(self, other: Var<'t, T>, f: impl Fn(T, T) -> T + Sync, slopes: [fn(T, T) -> T; 2]) -> Var<'t, T> {
        let (a, b) = (self.value(), other.value());
        let y = a.mapped_with(&b, f);
        let (to, to_other) = (self.place(), other.place());
        self.tape.custom(&[self, other], y, move |d, sink| {
            let [slope, slope_of_other] = slopes;
            sink.add(to, || {
                let mut d = d.clone();
                d.change_with_both(&a, &b, |d, a, b| d * slope(a, b));
                d
            });
            sink.add(to_other, || {
                let mut d = d;
                d.change_with_both(&a, &b, |d, a, b| d * slope_of_other(a, b));
                d
            });
        })
    }
}

impl<'t, T: Real> Add for Var<'t, T> {
    type Output = Var<'t, T>;

    fn add(self, other: Self) -> Self {
        let y = self.value().mapped_with(&other.value(), |a, b| a + b);
        let (to, to_other) = (self.place(), other.place());
        self.tape.custom(&[self, other], y, move |d, sink| {
            sink.add(to, || d.clone());
            sink.add(to_other, || d);
        })
    }
}

impl<'t, T: Real> Sub for Var<'t, T> {
    type Output = Var<'t, T>;

    fn sub(self, other: Self) -> Self {
        self.both(other, |a, b| a - b, [|_, _| T::of(1.0), |_, _| T::of(-1.0)])
    }
}

/// Number by number; for the product of matrices see [`Var::dot`].
impl<'t, T: Real> Mul for Var<'t, T> {
    type Output = Var<'t, T>;

    fn mul(self, other: Self) -> Self {
        self.both(other, |a, b| a * b, [|_, b| b, |a, _| a])
    }
}

impl<'t, T: Real> Div for Var<'t, T> {
    type Output = Var<'t, T>;

    fn div(self, other: Self) -> Self {
        self.both(other, |a, b| a / b, [|_, b| T::of(1.0) / b, |a, b| -a / (b * b)])
    }
}

impl<'t, T: Real> Neg for Var<'t, T> {
    type Output = Var<'t, T>;

    fn neg(self) -> Self {
        self.scaled(T::of(-1.0))
    }
}
