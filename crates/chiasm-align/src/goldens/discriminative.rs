//! Logistic regression, GMLDA, GMMFA and MvDA against scipy and scikit-learn: `reference/align_discriminative_goldens.py`.

use chiasm_core::Labels;
use serde_json::Value;

use super::{Inputs, TOLERANCE, absolute, classes, fitted, in_axes, label_sets, matrix, number, numbers, same, same_entries};
use super::{same_sizes, scores};
use crate::gma::Gma;
use crate::gmlda::coupled;
use crate::gmmfa::margins;
use crate::linalg::{Mat, product};
use crate::mvda::Problem;
use crate::pipeline::Step;
use crate::reduced::{Reduced, Solution};
use crate::supervised::{Scatters, mean_diagonal, scatters};
use crate::{Coupling, GmldaConfig, Pairs, SmConfig, ViewConfig};

const PLAIN: [ViewConfig; 2] = [ViewConfig { preprocess: crate::Preprocess::None, kernel: None, pca_dim: None, ridge: 0.0 }; 2];

struct Goldens {
    golden: Value,
    train: Inputs,
    new: Inputs,
    labels: Labels,
}

impl Goldens {
    fn read() -> Self {
        let golden = super::golden("discriminative");
        let (train, new) = (Inputs::read(&golden["views"]), Inputs::read(&golden["new"]));
        Self { labels: classes(&golden), golden, train, new }
    }

    fn pairs(&self) -> Pairs<'_> {
        Pairs { labels: Some(&self.labels), ..self.train.pairs(2) }
    }

    /// The views in their axes.
    fn reduced(&self) -> Reduced {
        fitted(&GmldaConfig::default(), &self.pairs()).0
    }

    fn check(&self, what: &str, reduced: &Reduced, (values, weights): &(Vec<f64>, Vec<Mat>), golden: &Value) {
        same(what, values, &numbers(&golden["eigenvalues"]), TOLERANCE);
        for v in 0..2 {
            let ours = product(in_axes(reduced, v, self.new.view(v)).as_ref(), weights[v].as_ref());
            same_sizes(&format!("{what} view {v}"), &ours, &matrix(&golden["abs_new"][v]), 1.0);
        }
    }
}

fn both_scatters(reduced: &Reduced) -> [Scatters; 2] {
    [0, 1].map(|v| scatters(reduced.rows(v, &PLAIN[v]), reduced.labels(), reduced.classes(), v))
}

/// The golden's problem: its own alpha and mu, gamma from the traces of `b` with the ridge on its diagonal.
fn problem(golden: &Value, reduced: &Reduced, a: [Mat; 2], mut b: [Mat; 2]) -> Gma {
    for b in &mut b {
        let added = number(&golden["reg"]) * mean_diagonal(b);
        (0..b.nrows()).for_each(|i| b[(i, i)] += added);
    }
    let sides = both_scatters(reduced);
    let z = if golden["weighted"].as_bool().expect("true or false") {
        coupled(Coupling::ClassMeans, reduced, &PLAIN, &sides)
    } else {
        product(sides[0].means.transpose(), sides[1].means.as_ref())
    };
    let trace = |m: &Mat| mean_diagonal(m) * m.nrows() as f64;
    let gamma = trace(&b[0]) / trace(&b[1]);
    assert!((gamma - number(&golden["gamma"])).abs() < TOLERANCE);
    Gma { a, b, z, alpha: number(&golden["alpha"]), mu: number(&golden["mu"]), gamma }
}

/// Probabilities of the unseen rows. Ours come from a search that ends where no slope is above 1e-9 a row, theirs from Newton steps;
/// the minimum is flat, so that probabilities agree to less than weights elsewhere.
#[test]
fn logistic_regression_equals_scikit_learn() {
    let goldens = Goldens::read();
    let logistic = &goldens.golden["logistic"];
    let config = SmConfig { inverse_penalty: number(&logistic["c"]), ..SmConfig::default() };
    for (name, labels) in [("single", classes(&goldens.golden)), ("multi", label_sets(&goldens.golden))] {
        let pairs = Pairs { labels: Some(&labels), ..goldens.train.pairs(2) };
        let (reduced, solution) = fitted(&config, &pairs);
        for v in 0..2 {
            let mut p = scores(&config, &reduced, &solution, v, goldens.new.view(v));
            for i in 0..p.nrows() {
                let sum: f64 = p.row(i).iter().map(|s| s.exp()).sum();
                p.row_mut(i).iter_mut().for_each(|s| *s = s.exp() / sum);
            }
            same_entries(&format!("{name} view {v}"), &p, &matrix(&logistic[name][v]), 1.0, 1e-7);
            // And as the space gives them, in f32.
            let space = Solution { tail: vec![vec![Step::Softmax]; 2], ..fitted(&config, &pairs).1 };
            let z = product(in_axes(&reduced, v, goldens.new.view(v)).as_ref(), solution.weights[v].as_ref());
            let given = space.finish(v, &z, 4, 0.0);
            same_entries(&format!("{name} view {v}, f32"), &given, &p, 1.0, 1e-6);
            assert!((0..given.nrows()).all(|i| (given.row(i).iter().sum::<f64>() - 1.0).abs() < 1e-6));
        }
    }
}

#[test]
fn gmlda_equals_scipy() {
    let goldens = Goldens::read();
    let reduced = goldens.reduced();
    for golden in goldens.golden["gmlda"].as_array().expect("runs") {
        let [x, y] = both_scatters(&reduced);
        let b = [&x.total - &x.between, &y.total - &y.between];
        let solved = problem(golden, &reduced, [x.between, y.between], b).solve().unwrap();
        goldens.check("gmlda", &reduced, &solved, golden);
    }
}

#[test]
fn gmmfa_equals_scipy() {
    let goldens = Goldens::read();
    let reduced = goldens.reduced();
    let gmmfa = &goldens.golden["gmmfa"];
    let count = |name: &str| gmmfa[name].as_u64().expect("a count") as usize;
    for golden in gmmfa["runs"].as_array().expect("runs") {
        let [(a0, b0), (a1, b1)] =
            [0, 1].map(|v| margins(reduced.rows(v, &PLAIN[v]), reduced.labels(), count("same"), count("other")));
        let solved = problem(golden, &reduced, [a0, a1], [b0, b1]).solve().unwrap();
        goldens.check("gmmfa", &reduced, &solved, golden);
    }
}

/// The configuration's relative numbers stand for these absolute ones.
#[test]
fn gmlda_counts_alpha_in_units_of_the_spread_within_classes() {
    let goldens = Goldens::read();
    let config = GmldaConfig { alpha: 7.0, eigenvalue_power: 0.0, ..GmldaConfig::default() };
    let (reduced, solution) = fitted(&config, &goldens.pairs());
    let [x, y] = both_scatters(&reduced);
    let b = [&x.total - &x.between, &y.total - &y.between];
    let mut raw = Gma::balanced([x.between, y.between], b, Mat::zeros(0, 0), 0.0, [config.views[0].ridge; 2]);
    let sides = both_scatters(&reduced);
    raw.z = coupled(Coupling::ClassMeans, &reduced, &PLAIN, &sides);
    (raw.alpha, raw.mu) = (7.0 * raw.gamma.sqrt(), raw.gamma);
    let (values, weights) = raw.solve().unwrap();
    let relative: Vec<f64> = values.iter().map(|v| v / values[0]).collect();
    same("relative eigenvalues", &solution.correlations, &relative, TOLERANCE);
    for v in 0..2 {
        same_sizes(&format!("view {v}"), &solution.weights[v], &absolute(&weights[v]), 1.0);
    }
    // Another unit for one view changes nothing: gamma takes it up.
    let larger = Inputs(
        [0, 1].map(|v| (goldens.train.0[v].0.iter().map(|x| x * [1.0, 8.0][v]).collect(), goldens.train.0[v].1)).to_vec(),
    );
    let (_, again) = fitted(&config, &Pairs { labels: Some(&goldens.labels), ..larger.pairs(2) });
    same("in another unit", &again.correlations, &solution.correlations, TOLERANCE);
    same_sizes("in another unit", &again.weights[1], &absolute(&solution.weights[1]), 1.0);
}

#[test]
fn mvda_equals_scipy_with_and_without_view_consistency() {
    let goldens = Goldens::read();
    let reduced = goldens.reduced();
    let problem = Problem::new(&reduced, &PLAIN);
    let widths: Vec<f64> = problem.scatters.iter().map(|s| s.len() as f64).collect();
    let trace: f64 = problem.spreads.iter().zip(&widths).map(|(s, m)| s * m).sum();
    for name in ["mvda", "mvda_vc"] {
        let golden = &goldens.golden[name];
        let ridge = number(&golden["reg"]) * trace / widths.iter().sum::<f64>();
        // The script sums over ordered pairs of views, we over each two views once.
        let solved = problem.solve(&[ridge; 2], 2.0 * number(&golden["lambda"])).unwrap();
        goldens.check(name, &reduced, &solved, golden);
    }
}
