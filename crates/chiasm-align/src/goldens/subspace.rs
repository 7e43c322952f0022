//! GCCA, CCA with labels as a view, cluster CCA, Procrustes and regression to the labels against numpy, scipy, scikit-learn and
//! cca-zoo: `reference/align_subspace_goldens.py`.

use chiasm_core::Labels;
use serde_json::Value;

use super::transposed;
use super::{
    Inputs, TOLERANCE, classes, fitted, in_axes, label_sets, matrix, number, numbers, same, same_entries, same_sizes, scores,
};
use crate::linalg::product;
use crate::reduced::Linear;
use crate::{Cca3vConfig, ClusterCcaConfig, GccaConfig, LabelRidgeConfig, Pairs, ProcrustesConfig, ViewConfig};

struct Goldens {
    golden: Value,
    train: Inputs,
    new: Inputs,
}

impl Goldens {
    fn read() -> Self {
        let golden = super::golden("subspace");
        let (train, new) = (Inputs::read(&golden["views"]), Inputs::read(&golden["new"]));
        Self { golden, train, new }
    }

    /// Correlations, and the sizes of the coordinates of unseen rows of two views.
    fn check(&self, name: &str, method: &dyn Linear, labels: &Labels, scale: f64) {
        let golden = &self.golden[name];
        let (reduced, solution) = fitted(method, &Pairs { labels: Some(labels), ..self.train.pairs(2) });
        same(name, &solution.correlations, &numbers(&golden["correlations"]), TOLERANCE);
        for v in 0..2 {
            let ours = scores(method, &reduced, &solution, v, self.new.view(v));
            same_sizes(&format!("{name} view {v}"), &ours, &matrix(&golden["abs_new"][v]), scale);
        }
    }
}

fn ridged(ridge: f64) -> ViewConfig {
    ViewConfig { ridge, ..ViewConfig::default() }
}

#[test]
fn gcca_equals_scipy_and_cca_zoo() {
    let goldens = Goldens::read();
    for golden in goldens.golden["gcca"].as_array().expect("runs") {
        let config =
            GccaConfig { views: vec![ridged(number(&golden["ridge"]))], correlation_power: 0.0, ..GccaConfig::default() };
        let (reduced, solution) = fitted(&config, &goldens.train.pairs(3));
        let expected = numbers(&golden["eigenvalues"]);
        if number(&golden["ridge"]) == 0.0 {
            let eigenvalues: Vec<f64> = solution.correlations.iter().map(|c| 1.0 + 2.0 * c).collect();
            same("eigenvalues", &eigenvalues, &expected, TOLERANCE);
        }
        // Ours have the scale of covariances, theirs of scatters.
        let scale = 1.0 / (reduced.n() as f64 - 1.0).sqrt();
        let mut g = crate::linalg::Mat::zeros(reduced.n(), expected.len());
        for v in 0..3 {
            let ours = scores(&config, &reduced, &solution, v, goldens.new.view(v));
            same_sizes(&format!("new rows of view {v}"), &ours, &matrix(&golden["abs_new"][v]), scale);
            g += scores(&config, &reduced, &solution, v, goldens.train.view(v)).subcols(0, expected.len());
        }
        // What the views say sums to G, which has length 1, times the eigenvalue.
        let lengths: Vec<f64> = (0..g.ncols()).map(|j| g.col(j).norm_l2() * scale).collect();
        same("lengths of the sums", &lengths, &expected, TOLERANCE);
        crate::linalg::scale_cols(&mut g, &expected.iter().map(|e| 1.0 / e).collect::<Vec<_>>());
        same_sizes("G", &g, &matrix(&golden["abs_g"]), scale);
    }
}

#[test]
fn three_view_cca_equals_scipy_and_cca_zoo() {
    let goldens = Goldens::read();
    for (name, labels) in [("cca3v", classes(&goldens.golden)), ("cca3v_multi", label_sets(&goldens.golden))] {
        let ridge = number(&goldens.golden[name]["ridge"]);
        let config =
            Cca3vConfig { views: [ridged(ridge); 2], label_ridge: ridge, eigenvalue_power: 0.0, ..Cca3vConfig::default() };
        // The three views' weights have length 1 here, 3 there.
        goldens.check(name, &config, &labels, 3f64.sqrt());
    }
}

#[test]
fn cluster_cca_equals_numpy_over_all_pairs() {
    let goldens = Goldens::read();
    for (name, labels) in [("cluster_cca", classes(&goldens.golden)), ("ml_cca", label_sets(&goldens.golden))] {
        let ridge = number(&goldens.golden[name]["ridge"]);
        let config = ClusterCcaConfig { views: [ridged(ridge); 2], correlation_power: 0.0, ..ClusterCcaConfig::default() };
        goldens.check(name, &config, &labels, 1.0);
    }
}

#[test]
fn procrustes_equals_scipy() {
    let goldens = Goldens::read();
    // The script turns the first six columns.
    let (data, d) = &goldens.train.0[0];
    let six = data.chunks_exact(*d).flat_map(|row| row[..6].to_vec()).collect();
    let inputs = Inputs(vec![(six, 6), goldens.train.0[1].clone()]);
    let (reduced, solution) = fitted(&ProcrustesConfig::default(), &inputs.pairs(2));
    let [x, y] = [0, 1].map(|v| product(reduced.bases[v].axes.as_ref(), solution.weights[v].as_ref()));
    let rotation = product(x.as_ref(), transposed(&y).as_ref());
    same_entries("rotation", &rotation, &matrix(&goldens.golden["procrustes"]["rotation"]), 1.0, TOLERANCE);
    // The best factor of a rotation that may also stretch: the sum of singular values over |X|^2.
    let turned = product(in_axes(&reduced, 0, inputs.view(0)).as_ref(), solution.weights[0].as_ref());
    let other = product(in_axes(&reduced, 1, inputs.view(1)).as_ref(), solution.weights[1].as_ref());
    let size = |a: &crate::linalg::Mat, b: &crate::linalg::Mat| -> f64 {
        (0..6).map(|j| a.col(j).iter().zip(b.col(j).iter()).map(|(a, b)| a * b).sum::<f64>()).sum()
    };
    let factor = size(&turned, &other) / size(&turned, &turned);
    assert!((factor - number(&goldens.golden["procrustes"]["scale"])).abs() < TOLERANCE, "{factor}");
}

#[test]
fn label_ridge_equals_scikit_learn() {
    let goldens = Goldens::read();
    for (name, labels) in [("label_ridge", classes(&goldens.golden)), ("label_ridge_multi", label_sets(&goldens.golden))] {
        let golden = &goldens.golden[name];
        let config = LabelRidgeConfig { views: [ridged(number(&golden["ridge"])); 2] };
        let (reduced, solution) = fitted(&config, &Pairs { labels: Some(&labels), ..goldens.train.pairs(2) });
        assert!((reduced.scatter(0, &config.views[0]).1 - number(&golden["alpha"])).abs() < TOLERANCE);
        let mut ours = scores(&config, &reduced, &solution, 0, goldens.new.view(0));
        // scikit-learn's intercept holds each class's share of the rows, which ours leaves out.
        for (class, count) in reduced.classes().counts.iter().enumerate() {
            let share = count / reduced.n() as f64;
            ours.col_mut(class).iter_mut().for_each(|x| *x += share);
        }
        same_entries(name, &ours, &matrix(&golden["new"]), 1.0, TOLERANCE);
    }
}
