//! Closed forms, losses and gradients against `testdata/goldens/align/generative.json` (`reference/align_generative_goldens.py`), and laws.

use chiasm_nn::grad::{Tape, Var};
use serde_json::Value;

use super::adversarial::{adversarial_loss, csls, drawn_in};
use super::cada_vae::{CadaVae, wasserstein};
use super::cyclegan::{CycleGan, judge_loss, translators_loss};
use super::jmvae::Jmvae;
use super::mmvae::Mmvae;
use super::mvae::{Mvae, product_of_experts};
use super::{Elbo, Gaussian, array, graded, matrix};
use crate::deep::Batch;
use crate::deep::goldens::{apart, list, matrix as read, number};
use crate::deep::tower;
use crate::linalg::Mat;

/// Sums of a hundred numbers near 1, in f64.
const TOLERANCE: f64 = 1e-9;

fn golden() -> Value {
    crate::deep::goldens::read("generative")
}

fn outputs(golden: &Value) -> [Mat; 2] {
    ["y0", "y1"].map(|name| read(&golden[name]))
}

fn only(x: Var<'_, f64>) -> f64 {
    x.value().only()
}

#[test]
fn closed_forms_are_torchs() {
    let golden = golden();
    let expected = &golden["gaussians"];
    let tape = Tape::new();
    let [a, b] = outputs(&golden).map(|y| Gaussian::new(tape.constant(array(&y))));
    let near = |got: f64, expected: &Value| assert!((got - number(expected)).abs() < TOLERANCE, "{got}, expected {expected}");
    near(only(a.kl_from_prior()), &expected["kl_from_prior"][0]);
    near(only(b.kl_from_prior()), &expected["kl_from_prior"][1]);
    near(only(a.kl(b)), &expected["kl"]);
    // Of the general formula by roots of matrices; ours adds 1e-12 below its own.
    near(only(wasserstein(a, b)), &expected["wasserstein"]);
    let product = product_of_experts(&[a, b]);
    let got = matrix(&tape.beside(&[product.mean, product.log_variance]).value());
    let off = apart(&got, &read(&expected["product"]));
    assert!(off < TOLERANCE, "off by {off:e}");
}

/// What must hold of all Gaussians.
#[test]
fn divergences_are_never_negative_and_a_product_with_the_prior_is_known() {
    let mut rng = rand::SeedableRng::seed_from_u64(1);
    for deviation in [1e-3, 1.0, 4.0] {
        let tape = Tape::new();
        let [a, b] = [0, 1].map(|_| Gaussian::new(tape.constant(array(&tower::normal(50, 6, deviation, &mut rng)))));
        let same = Gaussian { mean: a.mean, log_variance: a.log_variance };
        assert!(only(a.kl(b)) > 0.0 && only(a.kl_from_prior()) > 0.0 && only(a.kl(same)).abs() < 1e-12);
        // N(m (1 + s^2), s^2) times N(0, 1) has precision 1 + 1 / s^2 and mean m, and so has the general form.
        let one = product_of_experts(&[a]);
        let (mean, log) = (matrix(&one.mean.value()), matrix(&one.log_variance.value()));
        let (m, s) = (matrix(&a.mean.value()), matrix(&a.log_variance.value()));
        assert!(apart(&mean, &m) == 0.0);
        let expected = Mat::from_fn(50, 3, |i, j| -(1.0 + (-s[(i, j)]).exp()).ln());
        assert!(apart(&log, &expected) < 1e-12);
        // Experts who agree are surer than either, and an expert who knows nothing changes nothing.
        let both = matrix(&product_of_experts(&[a, same]).log_variance.value());
        assert!((0..3).all(|j| (0..50).all(|i| both[(i, j)] < log[(i, j)])));
        let vague = Gaussian { mean: tape.constant(array(&Mat::zeros(50, 3))), log_variance: a.mean.scaled(0.0).plus(60.0) };
        let with = product_of_experts(&[a, vague]);
        assert!(apart(&matrix(&with.mean.value()), &mean) < 1e-9 && apart(&matrix(&with.log_variance.value()), &log) < 1e-9);
    }
}

fn check<E: Elbo>(golden: &Value, name: &str, elbo: &E) {
    let expected = &golden["losses"][name];
    let matrices = |value: &Value| -> Vec<Mat> { list(value).iter().map(read).collect() };
    let y = outputs(golden);
    let inputs: Vec<Mat> = matrices(&golden["inputs"]);
    let n = y[0].nrows();
    let batch = Batch {
        inputs: [inputs[0].clone(), inputs[1].clone()],
        related: (0..n * n).map(|at| at % (n + 1) == 0).collect(),
        labels: None,
        done: 0.3,
        scales: [0, 1].map(|v| number(&golden["scales"][v])),
        rng_seed: 0,
    };
    let (own, d_own) = (matrices(&expected["own"]), matrices(&expected["d_own"]));
    let loss = graded(elbo, [&y[0], &y[1]], &own, &batch, &matrices(&golden["noise"]));
    let off = (loss.value - number(&expected["value"])).abs();
    let off = off.max(apart(&loss.outputs[0], &read(&expected["d0"]))).max(apart(&loss.outputs[1], &read(&expected["d1"])));
    assert_eq!(loss.own.len(), d_own.len(), "{name}");
    let off = loss.own.iter().zip(&d_own).fold(off, |off, (d, expected)| off.max(apart(d, expected)));
    assert!(off < TOLERANCE, "{name}: off by {off:e}");
}

#[test]
fn losses_and_gradients_are_torchs() {
    let golden = golden();
    let weight = number(&golden["weight"]);
    check(&golden, "jmvae", &Jmvae { weight, alpha: 0.1, hidden: 4 });
    check(&golden, "mvae", &Mvae { weight, beta: 1.0, warm_up: 0.5, hidden: 4 });
    check(&golden, "mmvae", &Mmvae { weight, samples: 3, hidden: 4 });
    check(&golden, "mmvae_elbo", &Mmvae { weight, samples: 1, hidden: 4 });
    let cada = CadaVae { hidden: 4, ..CadaVae::default() };
    check(&golden, "cada-vae", &cada);
    check(&golden, "cada-vae_released", &CadaVae { as_released: true, ..cada });
}

/// The value and all gradients of a loss of matrices.
fn check_by<'t>(golden: &Value, tape: &'t Tape<f64>, loss: impl Fn(&[Var<'t, f64>]) -> Var<'t, f64>) {
    let leaves: Vec<Var<'_, f64>> = list(&golden["of"]).iter().map(|leaf| tape.leaf(array(&read(leaf)))).collect();
    let value = loss(&leaves);
    assert!((only(value) - number(&golden["value"])).abs() < TOLERANCE);
    let gradients = tape.backward(value);
    assert_eq!(leaves.len(), list(&golden["d"]).len());
    for (at, (leaf, expected)) in leaves.iter().zip(list(&golden["d"])).enumerate() {
        let off = apart(&matrix(&gradients.of(*leaf)), &read(expected));
        assert!(off < TOLERANCE, "gradient {at} is off by {off:e}");
    }
}

#[test]
fn what_learns_without_pairs_descends_what_torch_descends() {
    let golden = &golden()["unpaired"];
    let tape = Tape::new();
    let [u, v] = [0, 1].map(|at| tape.constant(array(&read(&golden["clouds"][at]))));
    let config = CycleGan { cycle: 10.0, identity: 5.0, ..CycleGan::default() };
    check_by(&golden["translators"], &tape, |p| {
        translators_loss(&config, [&p[..5], &p[5..10]], [&p[10..14], &p[14..]], [u, v])
    });
    check_by(&golden["judge"], &tape, |p| judge_loss(p, u, v));
    check_by(&golden["told"], &tape, |p| adversarial_loss(&p[2..], [p[0], p[1]], false));
    let unit = |at: usize| crate::deep::unit::UnitRows::new(&read(&golden["csls"]["of"][at])).u;
    assert!(apart(&csls(&unit(0), &unit(1)), &read(&golden["csls"]["value"])) < TOLERANCE);
    let drawn = drawn_in(&read(&golden["drawn_in"]["of"]), 0.01);
    assert!(apart(&drawn, &read(&golden["drawn_in"]["value"])) < TOLERANCE);
}
