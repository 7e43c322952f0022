//! A loss that is written down on a tape, for objectives whose gradients would be longer than they are.

use chiasm_nn::grad::{Array, Tape, Var};

use super::Loss;
use crate::linalg::Mat;

/// The loss that `of` makes of the outputs and the objective's own parameters, with its gradients by all of them.
pub(crate) fn taped(
    y: [&Mat; 2],
    own: &[Mat],
    of: impl for<'t> FnOnce([Var<'t, f64>; 2], &[Var<'t, f64>]) -> Var<'t, f64>,
) -> Loss {
    let tape = Tape::new();
    let leaves = y.map(|y| tape.leaf(array(y)));
    let parameters: Vec<Var<'_, f64>> = own.iter().map(|p| tape.leaf(array(p))).collect();
    let loss = of(leaves, &parameters);
    let mut gradients = tape.backward(loss);
    let outputs = leaves.map(|leaf| matrix(&gradients.take(leaf)));
    let own = parameters.into_iter().map(|p| matrix(&gradients.take(p))).collect();
    Loss { value: loss.value().only(), outputs, own }
}

/// A matrix as the tape has it.
pub(crate) fn array(m: &Mat) -> Array<f64> {
    Array::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)])
}

fn matrix(a: &Array<f64>) -> Mat {
    Mat::from_fn(a.n_rows(), a.n_cols(), |i, j| a.at(i, j))
}
