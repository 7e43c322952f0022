//! The linear methods against numpy, scikit-learn and cca-zoo: `reference/align_goldens.py`.

use chiasm_core::{Cancel, NoProgress, SharedSpace};
use serde_json::Value;

use super::{Inputs, TOLERANCE, fitted, matrix, number, numbers, same, same_entries};
use crate::linalg::{Mat, product};
use crate::reduced::{Linear, full_weights};
use crate::{CcaConfig, MccaConfig, Pairs, PlsConfig, RidgeConfig, Run, ViewConfig};

fn goldens() -> (Value, Inputs) {
    let golden = super::golden("linear");
    let inputs = Inputs::read(&golden["views"]);
    (golden, inputs)
}

/// Fits in f64 and compares correlations and the absolute projections of the fitting rows.
fn check(method: &dyn Linear, pairs: &Pairs<'_>, golden: &Value) {
    let (reduced, solution) = fitted(method, pairs);
    let expected = numbers(&golden["correlations"]);
    same(method.name(), &solution.correlations, &expected, TOLERANCE);
    let (weights, _) = full_weights(method, &reduced.bases, &solution, expected.len());
    for (v, x) in pairs.views.iter().enumerate() {
        let mean = &reduced.bases[v].mean;
        let centred = Mat::from_fn(x.n(), x.dim(), |i, j| f64::from(x.row(i)[j]) - mean[j]);
        let scores = super::absolute(&product(centred.as_ref(), weights[v].as_ref()));
        let what = format!("{} view {v}", method.name());
        same_entries(&what, &scores, &matrix(&golden["abs_scores"][v]), 1.0, TOLERANCE);
    }
}

#[test]
fn cca_equals_numpy_scikit_learn_and_cca_zoo() {
    let (golden, inputs) = goldens();
    let mut config = CcaConfig { correlation_power: 0.0, ..CcaConfig::default() };
    check(&config, &inputs.pairs(2), &golden["cca"]);
    let ridges = numbers(&golden["cca_ridge"]["ridge"]);
    config.views = [0, 1].map(|v| ViewConfig { ridge: ridges[v], ..ViewConfig::default() });
    check(&config, &inputs.pairs(2), &golden["cca_ridge"]);
}

#[test]
fn mcca_equals_cca_zoo_and_is_cca_for_two_views() {
    let (golden, inputs) = goldens();
    let mut config = MccaConfig { correlation_power: 0.0, ..MccaConfig::default() };
    check(&config, &inputs.pairs(3), &golden["mcca"]);
    check(&config, &inputs.pairs(2), &golden["cca"]);
    let ridges = numbers(&golden["cca_ridge"]["ridge"]);
    config.views = [0, 1].map(|v| ViewConfig { ridge: ridges[v], ..ViewConfig::default() }).to_vec();
    check(&config, &inputs.pairs(2), &golden["cca_ridge"]);
}

#[test]
fn pls_equals_scikit_learn() {
    let (golden, inputs) = goldens();
    check(&PlsConfig::default(), &inputs.pairs(2), &golden["pls"]);
}

/// Rows in the space are f32, so their cosines agree to f32.
#[test]
fn ridge_equals_scikit_learn() {
    let (golden, inputs) = goldens();
    let pairs = inputs.pairs(2);
    let ridge = number(&golden["ridge"]["ridge"]);
    let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let space = RidgeConfig { ridge, ..RidgeConfig::default() }.fit(&pairs, &run).unwrap();
    let (a, b) = (space.project(0, pairs.views[0]).unwrap(), space.project(1, pairs.views[1]).unwrap());
    for (i, theirs) in numbers(&golden["ridge"]["cosines"]).iter().enumerate() {
        let ours: f64 = a.row(i).iter().zip(b.row(i)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        assert!((ours - theirs).abs() < 2e-6, "row {i}: {ours}, expected {theirs}");
    }
}
