//! Multinomial logistic regression: rows to class probabilities.
//!
//! # Model
//! P(c | x) proportional to exp(x w_c + b_c); min sum_i KL(t_i | P(. | x_i)) + |W|^2 / (2 C), the offsets free. The target t_i of a
//! row of one class is that class; of several, they share it equally; a class without rows has probability 0. Checked against scikit-learn 1.9.1 `LogisticRegression`
//! (`reference/align_discriminative_goldens.py`).

use chiasm_core::Labels;
use faer::MatRef;

use crate::fit::{FitError, Run};
use crate::lbfgs::{self, Lbfgs};
use crate::linalg::{Mat, product};
use crate::reduced::pick_rows;
use crate::supervised::{indicator, labelled};

/// Offset of a class that no row has: its probability is 0 whatever the scores of the others, and f32 holds it.
const NEVER: f64 = -1e30;

/// Weights `[m, c]` and offsets `[c]` from the rows of `x` that have a class; `inverse_penalty` is C above.
///
/// # Errors
/// [`FitError::Numeric`], [`FitError::Cancelled`].
pub(crate) fn fit(
    x: MatRef<'_, f64>,
    labels: &Labels,
    inverse_penalty: f64,
    run: &Run<'_>,
) -> Result<(Mat, Vec<f64>), FitError> {
    let known = labelled(labels);
    let mut x = pick_rows(&x.to_owned(), &known);
    let targets = pick_rows(&indicator(labels, false), &known);
    // The offset of a class without rows would run to minus infinity: it takes no part.
    let present: Vec<usize> = (0..targets.ncols()).filter(|c| targets.col(*c).iter().any(|t| *t > 0.0)).collect();
    let n_classes = targets.ncols();
    let mut targets = Mat::from_fn(targets.nrows(), present.len(), |i, j| targets[(i, present[j])]);
    let (n, m, c) = (x.nrows(), x.ncols(), targets.ncols());
    for i in 0..n {
        let sum: f64 = targets.row(i).iter().sum();
        targets.row_mut(i).iter_mut().for_each(|t| *t /= sum);
    }
    // Columns of very different spread make a narrow valley: the search runs over weights of unit-spread columns.
    let spread: Vec<f64> = (0..m)
        .map(|j| {
            let root = (x.col(j).iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
            if root > 0.0 { root } else { 1.0 }
        })
        .collect();
    crate::linalg::scale_cols(&mut x, &spread.iter().map(|s| 1.0 / s).collect::<Vec<_>>());
    // w of a unit-spread column is spread times w of the column; the penalty is on the latter.
    let penalty: Vec<f64> = spread.iter().map(|s| 1.0 / (inverse_penalty * s * s)).collect();
    let objective = |at: &[f64], gradient: &mut [f64]| -> f64 {
        let w = Mat::from_fn(m, c, |i, j| at[j * (m + 1) + i]);
        let mut p = product(x.as_ref(), w.as_ref());
        let mut loss = 0.0;
        for i in 0..n {
            let scores: Vec<f64> = (0..c).map(|j| p[(i, j)] + at[j * (m + 1) + m]).collect();
            let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - greatest).exp()).sum();
            let log_sum = greatest + sum.ln();
            for (j, score) in scores.iter().enumerate() {
                let target = targets[(i, j)];
                loss += target * (log_sum - score);
                p[(i, j)] = (score - log_sum).exp() - target;
            }
        }
        let slope = product(x.transpose(), p.as_ref());
        for j in 0..c {
            let of = &mut gradient[j * (m + 1)..(j + 1) * (m + 1)];
            for i in 0..m {
                loss += 0.5 * penalty[i] * w[(i, j)] * w[(i, j)];
                of[i] = slope[(i, j)] + penalty[i] * w[(i, j)];
            }
            of[m] = p.col(j).iter().sum();
        }
        loss
    };
    let config = Lbfgs { max_steps: 1000, gradient_tolerance: 1e-9 * n as f64, ..Lbfgs::default() };
    let best = lbfgs::minimise(vec![0.0; c * (m + 1)], objective, config, run)?.x;
    let (mut weights, mut offsets) = (Mat::zeros(m, n_classes), vec![NEVER; n_classes]);
    for (j, class) in present.iter().enumerate() {
        (0..m).for_each(|i| weights[(i, *class)] = best[j * (m + 1) + i] / spread[i]);
        offsets[*class] = best[j * (m + 1) + m];
    }
    Ok((weights, offsets))
}
