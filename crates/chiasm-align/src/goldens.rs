//! The linear methods against numpy, scikit-learn and cca-zoo; `reference/align_goldens.py` writes the numbers and asserts that
//! those agree with one another.

use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
use serde_json::Value;

use crate::linalg::{Mat, product};
use crate::reduced::{Linear, full_weights, solve};
use crate::{CcaConfig, MccaConfig, Pairs, PlsConfig, RidgeConfig, Run, ViewConfig};

/// Both sides work in f64 on the same f32 inputs; the problems are well conditioned.
const TOLERANCE: f64 = 1e-8;

fn goldens() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/align/linear.json");
    serde_json::from_slice(&std::fs::read(path).expect("the goldens stand in the repository")).expect("they are JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("a list of rows").iter().map(numbers).collect()
}

struct Inputs(Vec<(Vec<f32>, usize)>);

impl Inputs {
    fn read(golden: &Value) -> Self {
        let view = |v: &Value| {
            let rows = rows(v);
            (rows.iter().flatten().map(|x| *x as f32).collect(), rows[0].len())
        };
        Self(golden["views"].as_array().expect("views").iter().map(view).collect())
    }

    fn pairs(&self, n_views: usize) -> Pairs<'_> {
        Pairs::new(self.0[..n_views].iter().map(|(data, dim)| MatrixView::new(data, *dim).unwrap()).collect())
    }
}

/// Fits in f64 and compares correlations and the absolute projections of the fitting rows.
fn check(method: &dyn Linear, pairs: &Pairs<'_>, golden: &Value) {
    let cancel = Cancel::default();
    let run = Run { seed: 0, progress: &NoProgress, cancel: &cancel };
    let (reduced, solution) = solve(method, pairs, &run).unwrap();
    let expected = numbers(&golden["correlations"]);
    for (ours, theirs) in solution.correlations.iter().zip(&expected) {
        assert!((ours - theirs).abs() < TOLERANCE, "{} correlation {ours}, expected {theirs}", method.name());
    }
    let weights = full_weights(method, &reduced.bases, &solution, expected.len());
    for (v, x) in pairs.views.iter().enumerate() {
        let mean = &reduced.bases[v].mean;
        let centred = Mat::from_fn(x.n(), x.dim(), |i, j| f64::from(x.row(i)[j]) - mean[j]);
        let scores = product(centred.as_ref(), weights[v].as_ref());
        for (i, row) in rows(&golden["abs_scores"][v]).iter().enumerate() {
            for (j, theirs) in row.iter().enumerate() {
                let ours = scores[(i, j)].abs();
                assert!((ours - theirs).abs() < TOLERANCE, "{} view {v} row {i} column {j}: {ours}, {theirs}", method.name());
            }
        }
    }
}

#[test]
fn cca_equals_numpy_scikit_learn_and_cca_zoo() {
    let golden = goldens();
    let inputs = Inputs::read(&golden);
    let mut config = CcaConfig { correlation_power: 0.0, ..CcaConfig::default() };
    check(&config, &inputs.pairs(2), &golden["cca"]);
    let ridges = numbers(&golden["cca_ridge"]["ridge"]);
    config.views = [0, 1].map(|v| ViewConfig { ridge: ridges[v], ..ViewConfig::default() });
    check(&config, &inputs.pairs(2), &golden["cca_ridge"]);
}

#[test]
fn mcca_equals_cca_zoo_and_is_cca_for_two_views() {
    let golden = goldens();
    let inputs = Inputs::read(&golden);
    let mut config = MccaConfig { correlation_power: 0.0, ..MccaConfig::default() };
    check(&config, &inputs.pairs(3), &golden["mcca"]);
    check(&config, &inputs.pairs(2), &golden["cca"]);
    let ridges = numbers(&golden["cca_ridge"]["ridge"]);
    config.views = [0, 1].map(|v| ViewConfig { ridge: ridges[v], ..ViewConfig::default() }).to_vec();
    check(&config, &inputs.pairs(2), &golden["cca_ridge"]);
}

#[test]
fn pls_equals_scikit_learn() {
    let golden = goldens();
    check(&PlsConfig::default(), &Inputs::read(&golden).pairs(2), &golden["pls"]);
}

/// Rows in the space are f32, so their cosines agree to f32.
#[test]
fn ridge_equals_scikit_learn() {
    let golden = goldens();
    let inputs = Inputs::read(&golden);
    let pairs = inputs.pairs(2);
    let ridge = golden["ridge"]["ridge"].as_f64().unwrap();
    let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default() };
    let space = RidgeConfig { ridge, ..RidgeConfig::default() }.fit(&pairs, &run).unwrap();
    let (a, b) = (space.project(0, pairs.views[0]).unwrap(), space.project(1, pairs.views[1]).unwrap());
    for (i, theirs) in numbers(&golden["ridge"]["cosines"]).iter().enumerate() {
        let ours: f64 = a.row(i).iter().zip(b.row(i)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        assert!((ours - theirs).abs() < 2e-6, "row {i}: {ours}, expected {theirs}");
    }
}
