//! Minimisation of a smooth function by L-BFGS: Newton's method with the curvature seen along the last few steps.
//!
//! # Reference
//! J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., 2006, algorithm 7.4 (two-loop recursion). The line search is the bisection
//! for the weak Wolfe conditions of A. S. Lewis, M. L. Overton, Nonsmooth optimization via quasi-Newton methods, Mathematical
//! Programming 141, 2013: it ends for any smooth function that is bounded below, and leaves every step with positive curvature.
//!
//! # Determinism
//! No chance is involved, and all sums run in order on one thread.

use std::collections::VecDeque;

use crate::fit::{FitError, Run};

/// Decrease that a step must bring, as a share of what the slope promises.
const ARMIJO: f64 = 1e-4;
/// Share of the slope that may be left after a step.
const CURVATURE: f64 = 0.9;
/// Halvings and doublings of one step.
const MAX_TRIALS: usize = 60;

/// When a minimisation stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lbfgs {
    /// Steps at most.
    pub(crate) max_steps: usize,
    /// Stops when no entry of the gradient is above this in size.
    pub(crate) gradient_tolerance: f64,
    /// Stops when a step lowers the value by less than this share of it.
    pub(crate) value_tolerance: f64,
    /// Steps whose curvature is remembered.
    pub(crate) memory: usize,
}

impl Default for Lbfgs {
    fn default() -> Self {
        Self { max_steps: 500, gradient_tolerance: 1e-8, value_tolerance: 0.0, memory: 10 }
    }
}

/// Where a minimisation ended.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    pub(crate) x: Vec<f64>,
    #[cfg_attr(not(test), expect(dead_code, reason = "methods want the place; tests look at the rest too"))]
    pub(crate) value: f64,
    #[cfg_attr(not(test), expect(dead_code, reason = "methods want the place; tests look at the rest too"))]
    pub(crate) n_steps: usize,
}

struct Step {
    /// Change of the place.
    s: Vec<f64>,
    /// Change of the gradient.
    y: Vec<f64>,
    /// `1 / s'y`.
    rho: f64,
}

/// Minimises `f` from `x0`; `f(x, gradient)` writes the gradient at `x` and gives the value. It ends where the gradient vanishes to the
/// tolerance, after `max_steps`, or where rounding leaves no step that lowers the value.
///
/// # Errors
/// [`FitError::Numeric`] when the value or the gradient at `x0` is not finite; [`FitError::Cancelled`].
pub(crate) fn minimise(
    x0: Vec<f64>,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
    config: Lbfgs,
    run: &Run<'_>,
) -> Result<Minimum, FitError> {
    let mut x = x0;
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(&x, &mut gradient);
    if !value.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
        return Err(FitError::Numeric { what: "a minimisation" });
    }
    let mut steps: VecDeque<Step> = VecDeque::new();
    let (mut there, mut gradient_there) = (x.clone(), gradient.clone());
    for n_steps in 0..config.max_steps {
        run.cancel.check()?;
        if largest(&gradient) <= config.gradient_tolerance {
            return Ok(Minimum { x, value, n_steps });
        }
        let mut direction = descent(&gradient, &steps);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding spoiled the memory: begin anew from the gradient.
            steps.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        // Without memory nothing says how long a step is: begin with one of length 1 at most.
        let first = if steps.is_empty() { (1.0 / (-slope).sqrt()).min(1.0) } else { 1.0 };
        let (mut least, mut most, mut t) = (0.0, f64::INFINITY, first);
        let mut found = None;
        for _trial in 0..MAX_TRIALS {
            there.iter_mut().zip(&x).zip(&direction).for_each(|((to, from), d)| *to = from + t * d);
            let value_there = f(&there, &mut gradient_there);
            let finite = value_there.is_finite() && gradient_there.iter().all(|g| g.is_finite());
            if !finite || value_there > value + ARMIJO * t * slope {
                most = t;
            } else if dot(&gradient_there, &direction) < CURVATURE * slope {
                least = t;
            } else {
                found = Some(value_there);
                break;
            }
            t = if most.is_finite() { 0.5 * (least + most) } else { 2.0 * t };
        }
        let Some(value_there) = found else {
            return Ok(Minimum { x, value, n_steps });
        };
        let s: Vec<f64> = there.iter().zip(&x).map(|(to, from)| to - from).collect();
        let y: Vec<f64> = gradient_there.iter().zip(&gradient).map(|(to, from)| to - from).collect();
        let curvature = dot(&s, &y);
        if curvature > 0.0 {
            if steps.len() == config.memory.max(1) {
                steps.pop_front();
            }
            steps.push_back(Step { s, y, rho: 1.0 / curvature });
        }
        let gain = value - value_there;
        std::mem::swap(&mut x, &mut there);
        std::mem::swap(&mut gradient, &mut gradient_there);
        value = value_there;
        if gain <= config.value_tolerance * value.abs() {
            return Ok(Minimum { x, value, n_steps: n_steps + 1 });
        }
    }
    Ok(Minimum { x, value, n_steps: config.max_steps })
}

/// Minus the inverse Hessian, as far as the steps know it, times the gradient.
fn descent(gradient: &[f64], steps: &VecDeque<Step>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(steps.len());
    for step in steps.iter().rev() {
        let alpha = step.rho * dot(&step.s, &q);
        q.iter_mut().zip(&step.y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some(last) = steps.back() {
        let scale = 1.0 / (last.rho * dot(&last.y, &last.y));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (step, alpha) in steps.iter().zip(alphas.iter().rev()) {
        let beta = step.rho * dot(&step.y, &q);
        q.iter_mut().zip(&step.s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums side by side, so that the compiler can use vector registers.
    let mut sums = [0.0f64; 8];
    let (a8, b8) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (x, y) in a8.0.iter().zip(b8.0) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + a8.1.iter().zip(b8.1).map(|(x, y)| x * y).sum::<f64>()
}

fn largest(a: &[f64]) -> f64 {
    a.iter().fold(0.0, |most, x| most.max(x.abs()))
}

#[cfg(test)]
mod tests {
    use chiasm_core::{Cancel, NoProgress};

    use super::*;

    fn minimum(x0: &[f64], f: impl FnMut(&[f64], &mut [f64]) -> f64, config: Lbfgs) -> Result<Minimum, FitError> {
        let cancel = Cancel::default();
        minimise(x0.to_vec(), f, config, &Run { seed: 0, progress: &NoProgress, cancel: &cancel, draft: None })
    }

    /// The valley of Rosenbrock, in as many dimensions as `x` has.
    fn rosenbrock(x: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let mut value = 0.0;
        for i in 0..x.len() - 1 {
            let (rise, run) = (x[i + 1] - x[i] * x[i], 1.0 - x[i]);
            value += 100.0 * rise * rise + run * run;
            gradient[i] += -400.0 * rise * x[i] - 2.0 * run;
            gradient[i + 1] += 200.0 * rise;
        }
        value
    }

    #[test]
    fn finds_the_bottom_of_a_bent_valley() {
        for n in [2, 5, 30] {
            let start: Vec<f64> = (0..n).map(|i| if i % 2 == 0 { -1.2 } else { 1.0 }).collect();
            let end = minimum(&start, rosenbrock, Lbfgs::default()).unwrap();
            assert!(end.x.iter().all(|x| (x - 1.0).abs() < 1e-6) && end.value < 1e-12, "{n}: {end:?}");
            assert!(end.n_steps < 200, "{n}: {} steps", end.n_steps);
        }
    }

    #[test]
    fn a_quadratic_with_uneven_scales_is_solved() {
        // Sum of s_i (x_i - i)^2 / 2 with s over three orders of magnitude.
        let scale = |i: usize| 10f64.powf(i as f64 / 4.0 - 3.0);
        let f = |x: &[f64], gradient: &mut [f64]| {
            x.iter()
                .enumerate()
                .zip(gradient)
                .map(|((i, x), g)| {
                    *g = scale(i) * (x - i as f64);
                    0.5 * *g * (x - i as f64)
                })
                .sum()
        };
        let end = minimum(&[0.0; 13], f, Lbfgs { gradient_tolerance: 1e-10, ..Lbfgs::default() }).unwrap();
        assert!(end.x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-6), "{end:?}");
    }

    #[test]
    fn it_stops_when_it_should() {
        let half = Lbfgs { max_steps: 3, ..Lbfgs::default() };
        let end = minimum(&[-1.2, 1.0], rosenbrock, half).unwrap();
        assert!(end.n_steps == 3 && end.value > 1e-3 && end.value < rosenbrock(&[-1.2, 1.0], &mut [0.0; 2]));
        // At the bottom already.
        assert_eq!(minimum(&[1.0, 1.0], rosenbrock, half).unwrap().n_steps, 0);
        // A wall of infinity is backed away from: -ln(x) + x has its minimum at 1.
        let wall = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = 1.0 - 1.0 / x[0];
            if x[0] > 0.0 { x[0] - x[0].ln() } else { f64::NAN }
        };
        assert!((minimum(&[1e-3], wall, Lbfgs::default()).unwrap().x[0] - 1.0).abs() < 1e-7);
        assert!(matches!(minimum(&[-1.0], wall, Lbfgs::default()), Err(FitError::Numeric { .. })));
        let cancel = Cancel::default();
        cancel.cancel();
        let run = Run { seed: 0, progress: &NoProgress, cancel: &cancel, draft: None };
        assert!(matches!(minimise(vec![-1.2, 1.0], rosenbrock, half, &run), Err(FitError::Cancelled(_))));
    }
}
