//! One view's network: a straight linear path, and beside it one hidden layer of rectified units whose output is added to it.
//!
//! `y = x A + relu(x W1 + b1) W2 + b2`. With W2 = 0 it is the linear map A, so a tower can begin as a solution that a linear method has found
//! and learn only what that lacks. As steps of a space it is three layers: relu(x [A, -A, W1] + [0, 0, b1]) [I; -I; W2] + b2, for
//! `z = relu(z) - relu(-z)`.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::linalg::{self, Mat, product};
use crate::pipeline::Step;
use crate::reduced::row_major;

/// Places of a tower's parameters in its list.
const STRAIGHT: usize = 0;
const W1: usize = 1;
const B1: usize = 2;
const W2: usize = 3;
pub(super) const B2: usize = 4;
/// How many there are.
pub(super) const N_PARAMETERS: usize = 5;

/// A network of one view.
#[derive(Clone, Debug)]
pub(crate) struct Tower {
    /// `A [m, k]`, `W1 [m, h]`, `b1 [1, h]`, `W2 [h, k]`, `b2 [1, k]`.
    pub(crate) parameters: Vec<Mat>,
}

/// `y M + s`, for each row.
pub(crate) struct Affine {
    /// `M [k, l]`.
    pub(crate) map: Mat,
    /// `s [l]`.
    pub(crate) shift: Vec<f64>,
}

impl Affine {
    pub(crate) fn apply(&self, y: &Mat) -> Mat {
        let mut out = product(y.as_ref(), self.map.as_ref());
        (0..out.ncols()).for_each(|j| out.col_mut(j).iter_mut().for_each(|v| *v += self.shift[j]));
        out
    }
}

/// What a pass leaves behind for the way back.
pub(crate) struct Passed {
    /// Rows as they came in, after dropout, `[n, m]`.
    x: Mat,
    /// By what the hidden units are multiplied: 0 where one is off or dropped, `[n, h]`.
    gate: Mat,
    /// Hidden units, `[n, h]`.
    hidden: Mat,
    /// The output, `[n, k]`.
    pub(crate) y: Mat,
}

/// Which share of numbers is left out, and by which chances.
pub(crate) struct Dropout<'a> {
    pub(crate) input: f64,
    pub(crate) hidden: f64,
    pub(crate) rng: &'a mut ChaCha8Rng,
}

impl Tower {
    /// A tower that does what `straight` does, with `n_hidden` units that have yet to learn; `norm` is the mean squared length of an input.
    pub(crate) fn new(straight: Mat, n_hidden: usize, norm: f64, rng: &mut ChaCha8Rng) -> Tower {
        let (m, k) = straight.shape();
        // Units begin with a variance of 2, of which rectifying leaves half (He et al., ICCV 2015).
        let scale = (2.0 / norm.max(f64::MIN_POSITIVE)).sqrt();
        let w1 = normal(m, n_hidden, scale, rng);
        Tower { parameters: vec![straight, w1, Mat::zeros(1, n_hidden), Mat::zeros(n_hidden, k), Mat::zeros(1, k)] }
    }

    /// Which parameters are held small: the matrices, not what is added.
    pub(crate) fn decays(at: usize) -> bool {
        matches!(at, W1 | W2)
    }

    /// The outputs of rows `[n, m]`.
    pub(crate) fn forward(&self, mut x: Mat, dropout: Option<Dropout<'_>>) -> Passed {
        let p = &self.parameters;
        let mut drop_hidden = None;
        if let Some(Dropout { input, hidden, rng }) = dropout {
            drop_some(&mut x, input, rng);
            drop_hidden = (hidden > 0.0).then_some((hidden, rng));
        }
        let mut hidden = product(x.as_ref(), p[W1].as_ref());
        add_to_rows(&mut hidden, &p[B1]);
        let mut gate = Mat::from_fn(hidden.nrows(), hidden.ncols(), |i, j| if hidden[(i, j)] > 0.0 { 1.0 } else { 0.0 });
        if let Some((share, rng)) = drop_hidden {
            drop_some(&mut gate, share, rng);
        }
        times(&mut hidden, &gate);
        let mut y = product(x.as_ref(), p[STRAIGHT].as_ref());
        linalg::add_product(&mut y, hidden.as_ref(), p[W2].as_ref());
        add_to_rows(&mut y, &p[B2]);
        Passed { x, gate, hidden, y }
    }

    /// The gradients of the parameters where `dy` are those of the outputs.
    pub(crate) fn backward(&self, passed: &Passed, dy: &Mat) -> Vec<Mat> {
        let mut d_hidden = product(dy.as_ref(), self.parameters[W2].transpose());
        times(&mut d_hidden, &passed.gate);
        vec![
            product(passed.x.transpose(), dy.as_ref()),
            product(passed.x.transpose(), d_hidden.as_ref()),
            sum_of_rows(&d_hidden),
            product(passed.hidden.transpose(), dy.as_ref()),
            sum_of_rows(dy),
        ]
    }

    /// The tower as a linear map `[m, 2 k + h]`, what is added to it, and the steps that follow; `after` is done to the output last. `factors`
    /// are those by which a view's axes were multiplied before they came in.
    pub(crate) fn steps(&self, factors: &[f64], after: Option<&Affine>) -> (Mat, Vec<f64>, Vec<Step>) {
        let p = &self.parameters;
        let (m, k, h) = (p[STRAIGHT].nrows(), p[STRAIGHT].ncols(), p[W1].ncols());
        let mut first = Mat::from_fn(m, 2 * k + h, |i, j| match j {
            j if j < k => p[STRAIGHT][(i, j)],
            j if j < 2 * k => -p[STRAIGHT][(i, j - k)],
            j => p[W1][(i, j - 2 * k)],
        });
        linalg::scale_rows(&mut first, factors);
        let offsets = (0..2 * k + h).map(|j| if j < 2 * k { 0.0 } else { p[B1][(0, j - 2 * k)] }).collect();
        let mut second = Mat::from_fn(2 * k + h, k, |i, j| match i {
            i if i < k => f64::from(u8::from(i == j)),
            i if i < 2 * k => -f64::from(u8::from(i - k == j)),
            i => p[W2][(i - 2 * k, j)],
        });
        let mut bias = p[B2].clone();
        if let Some(after) = after {
            second = product(second.as_ref(), after.map.as_ref());
            bias = after.apply(&bias);
        }
        let n_out = second.ncols();
        let linear = Step::Linear { weights: row_major(&second), bias: row_major(&bias), n_out };
        (first, offsets, vec![Step::Relu, linear])
    }
}

/// Leaves out a share of the numbers and makes up for it in the others.
fn drop_some(x: &mut Mat, share: f64, rng: &mut ChaCha8Rng) {
    if share > 0.0 {
        let kept = 1.0 / (1.0 - share);
        for j in 0..x.ncols() {
            x.col_mut(j).iter_mut().for_each(|v| *v *= if rng.random::<f64>() < share { 0.0 } else { kept });
        }
    }
}

/// Normal numbers (Box and Muller).
pub(crate) fn normal(n: usize, m: usize, deviation: f64, rng: &mut ChaCha8Rng) -> Mat {
    let mut one = || {
        let (a, b): (f64, f64) = (rng.random(), rng.random());
        deviation * (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    Mat::from_fn(n, m, |_, _| one())
}

fn add_to_rows(x: &mut Mat, row: &Mat) {
    for j in 0..x.ncols() {
        let add = row[(0, j)];
        x.col_mut(j).iter_mut().for_each(|v| *v += add);
    }
}

fn times(x: &mut Mat, factors: &Mat) {
    for j in 0..x.ncols() {
        x.col_mut(j).iter_mut().zip(factors.col(j).iter()).for_each(|(v, f)| *v *= f);
    }
}

/// `[n, k]` to `[1, k]`.
fn sum_of_rows(x: &Mat) -> Mat {
    Mat::from_fn(1, x.ncols(), |_, j| x.col(j).iter().sum())
}
