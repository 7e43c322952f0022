//! The hashing methods against numpy, scipy and torch; `reference/align_hashing_goldens.py` writes the numbers.
//!
//! Codes must be equal bit for bit, up to the complement of a bit position in both views together: the script asserts that no projection
//! is too close to its threshold to call. Both sides work in f64 on the same f32 inputs.

use chiasm_core::{Cancel, Labels, MatrixView, NoProgress};
use serde_json::Value;

use crate::cmfh::{CmfhConfig, Factors};
use crate::cmssh::{CmsshConfig, WeightedPairs};
use crate::cvh::CvhConfig;
use crate::dch::DchConfig;
use crate::fsh::FshConfig;
use crate::hashing::Regression;
use crate::imh::ImhConfig;
use crate::linalg::{Mat, product};
use crate::reduced::{Linear, Reduced, Solution, solve};
use crate::scm_hash::{ScmBits, ScmHashConfig};
use crate::seph::Affinity;
use crate::ssh::SshConfig;
use crate::{Pairs, Run, ViewConfig};

fn goldens(name: &str) -> Value {
    let path = format!("{}/../../testdata/goldens/align/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the goldens stand in the repository")).expect("they are JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn matrix(value: &Value) -> Mat {
    let rows: Vec<Vec<f64>> = value.as_array().expect("a list of rows").iter().map(numbers).collect();
    Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

/// Codes written as text, one a row, as +1 and -1.
fn codes(value: &Value) -> Mat {
    let rows: Vec<&str> = value.as_array().expect("a list of codes").iter().map(|c| c.as_str().expect("text")).collect();
    Mat::from_fn(rows.len(), rows[0].len(), |i, j| if rows[i].as_bytes()[j] == b'1' { 1.0 } else { -1.0 })
}

/// The rows that all goldens of a file share.
struct Inputs {
    views: Vec<(Vec<f32>, usize)>,
    new: Vec<(Vec<f32>, usize)>,
    single: Labels,
    multi: Labels,
}

impl Inputs {
    fn read(golden: &Value) -> Self {
        let set = |v: &Value| numbers(v).iter().map(|c| *c as u32).collect();
        let sets: Vec<Vec<u32>> = golden["label_sets"].as_array().expect("sets").iter().map(set).collect();
        Self {
            views: Self::views(&golden["views"]),
            new: Self::views(&golden["new"]),
            single: Labels::single(&set(&golden["classes"])),
            multi: Labels::from_rows(&sets, 4).expect("four classes"),
        }
    }

    fn views(value: &Value) -> Vec<(Vec<f32>, usize)> {
        let view = |v: &Value| {
            let m = matrix(v);
            let places = (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| (i, j)));
            (places.map(|(i, j)| m[(i, j)] as f32).collect(), m.ncols())
        };
        value.as_array().expect("views").iter().map(view).collect()
    }

    fn pairs<'a>(&'a self, labels: Option<&'a Labels>) -> Pairs<'a> {
        let views = self.views.iter().map(|(data, dim)| MatrixView::new(data, *dim).unwrap()).collect();
        Pairs { views, groups: None, labels }
    }

    /// Configurations whose ridge on `X'X` is `absolute`, and nothing else done.
    fn ridged(&self, absolute: f64) -> [ViewConfig; 2] {
        [0, 1].map(|v| {
            let (data, d) = &self.views[v];
            let n = data.len() / d;
            let column = |j: usize| (0..n).map(move |i| f64::from(data[i * d + j]));
            let trace: f64 = (0..*d)
                .map(|j| {
                    let mean = column(j).sum::<f64>() / n as f64;
                    column(j).map(|x| (x - mean) * (x - mean)).sum::<f64>()
                })
                .sum();
            ViewConfig { ridge: absolute * *d as f64 / trace, ..ViewConfig::default() }
        })
    }
}

fn solved(method: &dyn Linear, pairs: &Pairs<'_>) -> (Reduced, Solution) {
    let cancel = Cancel::default();
    solve(method, pairs, &Run { seed: 0, progress: &NoProgress, cancel: &cancel, draft: None }).unwrap()
}

/// Coordinates of rows of a view, fitting or unseen.
fn coordinates(reduced: &Reduced, solution: &Solution, v: usize, (data, dim): &(Vec<f32>, usize)) -> Mat {
    let x = MatrixView::new(data, *dim).unwrap();
    let axes = reduced.bases[v].coordinates(x, &(0..x.n()).collect::<Vec<_>>());
    let mut z = product(axes.subcols(0, solution.weights[v].nrows()), solution.weights[v].as_ref());
    if let Some(offsets) = &solution.offsets {
        for (j, offset) in offsets[v].iter().enumerate() {
            z.col_mut(j).iter_mut().for_each(|x| *x += offset);
        }
    }
    z
}

fn bits(z: &Mat) -> Mat {
    crate::hashing::signs(z.as_ref())
}

/// Bit positions of all these codes together equal those expected or their complements.
fn assert_equal_up_to_complement(what: &str, ours: &[Mat], theirs: &[Mat]) {
    let k = theirs[0].ncols();
    assert!(ours.iter().chain(theirs).all(|m| m.ncols() == k), "{what}: {} bits, expected {k}", ours[0].ncols());
    for j in 0..k {
        let column =
            |all: &[Mat]| -> Vec<f64> { all.iter().flat_map(|m| m.col(j).iter().copied().collect::<Vec<_>>()).collect() };
        let (ours, theirs) = (column(ours), column(theirs));
        let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        assert!(same == ours.len() || same == 0, "{what}: bit {j}: {same} of {} agree", ours.len());
    }
}

/// Codes of the fitting rows (where the golden has them) and of unseen ones.
fn check(what: &str, method: &dyn Linear, inputs: &Inputs, labels: Option<&Labels>, golden: &Value) -> (Reduced, Solution) {
    let (reduced, solution) = solved(method, &inputs.pairs(labels));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (v, (train, new)) in [("codes_x", "new_x"), ("codes_y", "new_y")].into_iter().enumerate() {
        for (rows, name) in [(&inputs.views[v], train), (&inputs.new[v], new)] {
            if !golden[name].is_null() {
                ours.push(bits(&coordinates(&reduced, &solution, v, rows)));
                theirs.push(codes(&golden[name]));
            }
        }
    }
    assert_equal_up_to_complement(what, &ours, &theirs);
    (reduced, solution)
}

#[test]
fn scm_hashing_equals_numpy() {
    let golden = goldens("hashing");
    let inputs = Inputs::read(&golden);
    let cases = [
        ("scm_seq", ScmBits::Sequential, &inputs.single),
        ("scm_seq_multi", ScmBits::Sequential, &inputs.multi),
        ("scm_orth", ScmBits::Orthogonal, &inputs.single),
        ("scm_orth_multi", ScmBits::Orthogonal, &inputs.multi),
    ];
    for (name, order, labels) in cases {
        let expected = number(&golden[name]["bits"]) as usize;
        // More bits than the rank of C are asked for and not given.
        let bits = if order == ScmBits::Orthogonal { expected + 3 } else { expected };
        let config = ScmHashConfig { views: inputs.ridged(1e-6), order, bits };
        check(name, &config, &inputs, Some(labels), &golden[name]);
    }
}

#[test]
fn cvh_equals_numpy() {
    let golden = goldens("hashing");
    let inputs = Inputs::read(&golden);
    let ridge = number(&golden["cvh"]["ridge"]);
    let config = CvhConfig { views: [ViewConfig { ridge, ..ViewConfig::default() }; 2], bits: 64 };
    check("cvh", &config, &inputs, None, &golden["cvh"]);
}

/// Some rows labelled; then its two ends: the orthogonal form of SCM, and CVH.
#[test]
fn ssh_equals_numpy_and_lies_between_scm_and_cvh() {
    let golden = goldens("hashing");
    let inputs = Inputs::read(&golden);
    let mut sets: Vec<Vec<u32>> = vec![Vec::new(); inputs.single.n()];
    for row in numbers(&golden["ssh"]["labelled"]) {
        sets[row as usize] = inputs.single.of(row as usize).to_vec();
    }
    let some = Labels::from_rows(&sets, 4).unwrap();
    let views = inputs.ridged(1e-6);
    for run in golden["ssh"]["runs"].as_array().unwrap() {
        let config = SshConfig { views, eta: number(&run["eta"]), bits: 64 };
        let (_, solution) = check("ssh", &config, &inputs, Some(&some), run);
        assert_eq!(solution.weights[0].ncols(), numbers(&run["singular_values"]).len());
    }
    check("ssh", &SshConfig { views, eta: 0.0, bits: 64 }, &inputs, Some(&inputs.single), &golden["scm_orth"]);
    let codes = |method: &dyn Linear| {
        let (reduced, solution) = solved(method, &inputs.pairs(Some(&some)));
        [0, 1].map(|v| bits(&coordinates(&reduced, &solution, v, &inputs.new[v])))
    };
    let far = codes(&SshConfig { views, eta: 1e9, bits: 64 });
    assert_equal_up_to_complement("ssh", &far, &codes(&CvhConfig { views, bits: 64 }));
}

#[test]
fn cmfh_equals_numpy_and_never_rises() {
    let golden = &goldens("hashing");
    let inputs = Inputs::read(golden);
    let golden = &golden["cmfh"];
    let config = CmfhConfig { mu: number(&golden["mu"]), gamma: number(&golden["gamma"]), bits: 8, ..CmfhConfig::default() };
    assert_eq!(numbers(&golden["lambda"]), [config.lambda, 1.0 - config.lambda]);
    // The principal axes come from any fit; the latent rows begin where the reference's did.
    let (reduced, mut solution) = solved(&config, &inputs.pairs(None));
    let x = [0, 1].map(|v| reduced.rows(v, &config.views[v]));
    let mut factors = Factors { v: matrix(&golden["v0"]), u: Vec::new(), w: Vec::new() };
    for expected in numbers(&golden["objective"]) {
        config.improve(x, [0.0; 2], &mut factors).unwrap();
        let objective = config.objective(x, &factors);
        // Rounding of two eigen-decompositions and twenty solves.
        assert!((objective - expected).abs() < 1e-8 * expected, "{objective}, expected {expected}");
    }
    solution.weights = config.regress(x, [0.0; 2], &factors.v).unwrap();
    let (latent, _) = crate::supervised::centred(factors.v);
    let mut ours = vec![bits(&latent)];
    ours.extend([0, 1].map(|v| bits(&coordinates(&reduced, &solution, v, &inputs.new[v]))));
    for (ours, name) in ours.iter().zip(["database", "new_x", "new_y"]) {
        assert_eq!(*ours, codes(&golden[name]), "{name}");
    }
}

/// Round by round, objective and codes.
#[test]
fn dch_equals_numpy_and_never_rises() {
    let golden = &goldens("hashing");
    let inputs = Inputs::read(golden);
    let golden = &golden["dch"];
    let (lambda, rho, mu) = (number(&golden["lambda"]), number(&golden["rho"]), numbers(&golden["mu"]));
    let mu = [mu[0], mu[1]];
    let config = DchConfig { views: inputs.ridged(rho), lambda, mu, n_iterations: 1, bits: 12 };
    let (reduced, mut solution) = solved(&config, &inputs.pairs(Some(&inputs.multi)));
    let x = [0, 1].map(|v| reduced.rows(v, &config.views[v]).to_owned());
    let l = crate::supervised::indicator(&inputs.multi, false);
    let mut b = codes(&golden["b0"]);
    let regression = Regression::new(&x, &[rho; 2]);
    for expected in numbers(&golden["objective"]) {
        let p = regression.solve(&b).unwrap();
        let w = crate::dch::sweep(&mut b, &l, &x, &p, lambda, mu).unwrap();
        let mut objective = (&l - product(b.as_ref(), w.as_ref())).squared_norm_l2() + lambda * w.squared_norm_l2();
        for v in 0..2 {
            let apart = &b - product(x[v].as_ref(), p[v].as_ref());
            objective += mu[v] * (apart.squared_norm_l2() + rho * p[v].squared_norm_l2());
        }
        assert!((objective - expected).abs() < 1e-8 * expected, "{objective}, expected {expected}");
    }
    assert_eq!(b, codes(&golden["database"]));
    solution.weights = regression.solve(&b).unwrap();
    for (v, name) in ["new_x", "new_y"].into_iter().enumerate() {
        assert_eq!(bits(&coordinates(&reduced, &solution, v, &inputs.new[v])), codes(&golden[name]), "{name}");
    }
}

#[test]
fn imh_equals_scipy() {
    let golden = &goldens("hashing");
    let inputs = Inputs::read(golden);
    let golden = &golden["imh"];
    let (beta, lambda) = (number(&golden["beta"]), number(&golden["lambda"]));
    let n_neighbours = number(&golden["neighbours"]) as usize;
    let config = ImhConfig { views: inputs.ridged(beta), lambda, n_neighbours, bits: 5, ..ImhConfig::default() };
    let (reduced, _) = check("imh", &config, &inputs, None, golden);
    let x = [0, 1].map(|v| reduced.rows(v, &config.views[v]).to_owned());
    let cancel = Cancel::default();
    let run = Run { seed: 0, progress: &NoProgress, cancel: &cancel, draft: None };
    let (_, values) = crate::imh::smoothest(&x, &[beta; 2], lambda, n_neighbours, 6, &run).unwrap();
    for (ours, theirs) in values.iter().zip(numbers(&golden["eigenvalues"])) {
        assert!((ours - theirs).abs() < 1e-9, "{ours}, expected {theirs}");
    }
}

/// Bit by bit: agreement, thresholds (their sign goes with that of the direction), and a loss that falls.
#[test]
fn cmssh_equals_numpy() {
    let golden = goldens("hashing_boost");
    let inputs = Inputs::read(&golden);
    let config = CmsshConfig { bits: 1, ..CmsshConfig::default() };
    let (reduced, _) = solved(&config, &inputs.pairs(Some(&inputs.single)));
    let [x, y] = [0, 1].map(|v| reduced.rows(v, &config.views[v]));
    let mut pairs = WeightedPairs::draw(reduced.n(), Some(&inputs.single), config.max_pairs, 0);
    let mut last = 1.0;
    for expected in golden["cmssh"]["bits"].as_array().unwrap() {
        let before = pairs.clone();
        let [(p, a), (q, b)] = crate::cmssh::boost(x, y, &mut pairs).unwrap().expect("a bit that agrees");
        let h = |rows: faer::MatRef<'_, f64>, w: &[f64], at: f64, i: u32| {
            crate::hashing::sign(w.iter().enumerate().map(|(j, w)| rows[(i as usize, j)] * w).sum::<f64>() + at)
        };
        let r: f64 = before.at.iter().zip(&before.signed).map(|((i, j), s)| s * h(x, &p, a, *i) * h(y, &q, b, *j)).sum();
        for (what, ours) in [("r", r), ("a", a), ("b", b)] {
            let theirs = number(&expected[what]);
            assert!((ours.abs() - theirs.abs()).abs() < 1e-9, "{what} {ours}, expected {theirs}");
        }
        assert!(r > 0.0 && number(&expected["loss"]) < last);
        last = number(&expected["loss"]);
    }
}

/// The graph, its spectrum, and the codes of each round.
#[test]
fn fsh_equals_numpy() {
    let golden = goldens("hashing_graph");
    let inputs = Inputs::views(&golden["views"]);
    let views = inputs.iter().map(|(data, dim)| MatrixView::new(data, *dim).unwrap()).collect();
    let n_neighbours = number(&golden["neighbours"]) as usize;
    let config = FshConfig { n_neighbours, n_anchors: 20, bits: 6, ..FshConfig::default() };
    let (reduced, _) = solved(&config, &Pairs::new(views));
    let x = [0, 1].map(|v| reduced.rows(v, &config.views[v]).to_owned());
    let anchors: Vec<usize> = numbers(&golden["anchors"]).iter().map(|a| *a as usize).collect();
    let z = config.similarities(&x, &anchors);
    assert!((&z - matrix(&golden["z"])).norm_max() < 1e-10);
    let (f, values) = crate::fsh::spectrum(z, config.bits).unwrap();
    for (ours, theirs) in values.iter().zip(numbers(&golden["eigenvalues"])) {
        assert!((ours - theirs).abs() < 1e-10, "{ours}, expected {theirs}");
    }
    let regression = Regression::new(&x, &[number(&golden["rho"]); 2]);
    let mut b = codes(&golden["b0"]);
    for expected in golden["rounds"].as_array().unwrap() {
        let w = regression.solve(&b).unwrap();
        b = bits(&crate::fsh::score(&f, &b, &x, &w, number(&golden["mu"])).unwrap());
        assert_eq!(b, codes(expected));
    }
}

#[test]
fn seph_has_the_objective_and_gradient_of_autograd() {
    let golden = goldens("hashing_kernel");
    let inputs = Inputs::read(&golden);
    let seph = &golden["seph"];
    let rows: Vec<usize> = (0..number(&seph["rows"]) as usize).collect();
    let unit = crate::supervised::indicator(&inputs.multi.pick(&rows), true);
    let (value, gradient) = Affinity::new(&unit).unwrap().objective(matrix(&seph["h"]).as_ref(), number(&seph["alpha"]));
    assert!((value - number(&seph["objective"])).abs() < 1e-12, "{value}");
    let off = (&gradient - matrix(&seph["gradient"])).norm_max();
    assert!(off < 1e-13, "{off}");
}

/// The regression converges to a gradient of 1e-6, which moves logits of size 5 by about as much.
#[test]
fn seph_has_the_kernel_logistic_regression_of_scipy() {
    let golden = goldens("hashing_kernel");
    let inputs = Inputs::read(&golden);
    let klr = &golden["klr"];
    let targets = codes(&klr["targets"]);
    let cancel = Cancel::default();
    let run = Run { seed: 0, progress: &NoProgress, cancel: &cancel, draft: None };
    let until = crate::lbfgs::Lbfgs { max_steps: 2000, gradient_tolerance: 1e-6, ..Default::default() };
    let mut on_train: Option<Mat> = None;
    for (v, name) in ["logits_x", "logits_y"].into_iter().enumerate() {
        let gamma = numbers(&klr["gamma"])[v];
        let row = |(data, d): &(Vec<f32>, usize), i: usize| data[i * d..(i + 1) * d].to_vec();
        let similarities = |rows: &(Vec<f32>, usize)| {
            let anchors: Vec<Vec<f32>> = numbers(&klr["anchors"]).iter().map(|a| row(&inputs.views[v], *a as usize)).collect();
            Mat::from_fn(rows.0.len() / rows.1, anchors.len(), |i, a| {
                crate::Kernel::Rbf.value(gamma, &row(rows, i), &anchors[a])
            })
        };
        let k = similarities(&inputs.views[v]);
        let (weights, offsets) = crate::seph::logistic(&k, &targets, number(&klr["lambda"]), until, &run).unwrap();
        let logits = |k: &Mat| {
            let z = product(k.as_ref(), weights.as_ref());
            Mat::from_fn(z.nrows(), z.ncols(), |i, j| z[(i, j)] + offsets[j])
        };
        let off = (logits(&similarities(&inputs.new[v])) - matrix(&klr[name])).norm_max();
        assert!(off < 1e-4, "{name}: {off}");
        on_train = Some(on_train.map_or(logits(&k), |other| other + logits(&k)));
    }
    let share = |j: usize| targets.col(j).iter().filter(|b| **b > 0.0).count() as f64 / targets.nrows() as f64;
    let both = on_train.unwrap();
    let both = Mat::from_fn(both.nrows(), both.ncols(), |i, j| both[(i, j)] - (share(j) / (1.0 - share(j))).ln());
    assert_eq!(bits(&both), codes(&klr["database"]));
}
