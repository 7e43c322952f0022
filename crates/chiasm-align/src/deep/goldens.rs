//! Losses, gradients and steps against torch; `reference/align_deep_goldens.py` and `reference/align_deep_memory_goldens.py` write the numbers.

use chiasm_core::Labels;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::acmr::Acmr;
use super::brivl::Brivl;
use super::dcca::Dcca;
use super::dccae::Dccae;
use super::dcmh::Dcmh;
use super::ddh::Ddh;
use super::descent::{Descent, Pace};
use super::dgcca::Dgcca;
use super::djsrh::Djsrh;
use super::dscmr::Dscmr;
use super::infonce::InfoNce;
use super::logit_adjusted::LogitAdjusted;
use super::memory::{Context, Memory};
use super::npair::NPair;
use super::sigmoid::Sigmoid;
use super::ssah::Ssah;
use super::tower::Tower;
use super::triplet::{Negatives, Triplet};
use super::ucch::Ucch;
use super::{Batch, Objective};
use crate::linalg::Mat;

/// Both sides work in f64.
const TOLERANCE: f64 = 1e-9;

fn golden() -> Value {
    read("deep")
}

pub(super) fn read(name: &str) -> Value {
    let path = format!("{}/../../testdata/goldens/align/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the goldens stand in the repository")).expect("they are JSON")
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

pub(super) fn matrix(value: &Value) -> Mat {
    let rows: Vec<Vec<f64>> = list(value).iter().map(|row| list(row).iter().map(number).collect()).collect();
    Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

pub(super) fn apart(a: &Mat, b: &Mat) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (0..a.ncols()).flat_map(|j| (0..a.nrows()).map(move |i| (i, j))).map(|at| (a[at] - b[at]).abs()).fold(0.0, f64::max)
}

/// The batch of the goldens, with answers by class, by group, or each row alone.
pub(super) fn batch(golden: &Value, related: &str, done: f64) -> Batch {
    let inputs = [0, 1].map(|v| matrix(&golden["inputs"][v]));
    let groups: Vec<u64> = list(&golden["groups"]).iter().map(|g| g.as_u64().unwrap()).collect();
    let sets: Vec<Vec<u32>> =
        list(&golden["sets"]).iter().map(|set| list(set).iter().map(|c| c.as_u64().unwrap() as u32).collect()).collect();
    let n = groups.len();
    let is = |i: usize, j: usize| match related {
        "class" => i == j || sets[i].iter().any(|class| sets[j].contains(class)),
        "group" => groups[i] == groups[j],
        _ => i == j,
    };
    let related = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| is(i, j)).collect();
    Batch { inputs, related, labels: Some(Labels::from_rows(&sets, 4).unwrap()), done, scales: [1.0; 2], rng_seed: 0 }
}

pub(super) fn check<O: Objective>(golden: &Value, name: &str, objective: &O, batch: &Batch) {
    let expected = &golden["losses"][name];
    let y = [matrix(&golden["y0"]), matrix(&golden["y1"])];
    let matrices = |name: &str| -> Vec<Mat> { list(&expected[name]).iter().map(matrix).collect() };
    let own = matrices("own");
    let loss = objective.loss([&y[0], &y[1]], &own, batch).unwrap();
    let off = (loss.value - number(&expected["value"])).abs();
    let off = off.max(apart(&loss.outputs[0], &matrix(&expected["d0"]))).max(apart(&loss.outputs[1], &matrix(&expected["d1"])));
    let d_own = matrices("d_own");
    assert_eq!(loss.own.len(), d_own.len(), "{name}");
    let off = loss.own.iter().zip(&d_own).fold(off, |off, (d, expected)| off.max(apart(d, expected)));
    assert!(off < TOLERANCE, "{name}: off by {off:e}");
}

#[test]
fn losses_and_gradients_are_torchs() {
    let golden = golden();
    let (by_group, by_class) = (batch(&golden, "group", 0.3), batch(&golden, "class", 0.3));
    check(&golden, "infonce", &InfoNce::default(), &by_group);
    check(&golden, "infonce_smooth", &InfoNce { smoothing: 0.1, ..InfoNce::default() }, &by_group);
    check(&golden, "unicl", &InfoNce { by_class: true, ..InfoNce::default() }, &by_class);
    check(&golden, "siglip", &Sigmoid::default(), &by_group);
    for (name, negatives) in [("vse", Negatives::All), ("vse_hardest", Negatives::Hardest), ("triplet", Negatives::SemiHard)] {
        check(&golden, name, &Triplet { negatives, ..Triplet::default() }, &by_group);
    }
    check(&golden, "npair", &NPair::default(), &by_group);
    check(&golden, "dcca", &Dcca::default(), &by_group);
    check(&golden, "dccae", &Dccae::default(), &by_group);
    check(&golden, "acmr", &Acmr { margin: 0.4, alpha: 1.0, adversary: 0.1 }, &by_class);
    check(&golden, "dscmr", &Dscmr::default(), &by_class);
    check(&golden, "dcmh", &Dcmh::default(), &by_class);
    check(&golden, "djsrh", &Djsrh::default(), &by_group);
}

#[test]
fn steps_are_those_of_torchs_adamw() {
    let golden = &golden()["adamw"];
    let matrices = |v: &Value| -> Vec<Mat> { list(v).iter().map(matrix).collect() };
    let pace = Pace { rate: 1.0, decay: 0.1, max_norm: f64::INFINITY, of_steps: 1 };
    let mut descent = Descent::new(matrices(&golden["start"]), vec![true, false], pace);
    for (rate, gradients) in list(&golden["rates"]).iter().zip(list(&golden["gradients"])) {
        descent.step_at(number(rate), &matrices(gradients));
    }
    for (now, end) in descent.now.iter().zip(&matrices(&golden["end"])) {
        assert!(apart(now, end) < TOLERANCE, "off by {:e}", apart(now, end));
    }
}

#[test]
fn fifty_steps_of_training_are_torchs() {
    let golden = golden();
    let batch = batch(&golden, "alone", 0.0);
    let towers: Vec<Tower> = list(&golden["descent"]["towers"])
        .iter()
        .map(|tower| Tower { parameters: list(tower).iter().map(matrix).collect() })
        .collect();
    let objective = InfoNce::default();
    let mut parameters: Vec<Mat> = towers.iter().flat_map(|tower| tower.parameters.clone()).collect();
    let decays = (0..10).map(|at| Tower::decays(at % 5)).chain([false]).collect();
    parameters.extend(objective.own(5, 0, [7, 6]));
    let losses: Vec<f64> = list(&golden["descent"]["losses"]).iter().map(number).collect();
    let pace = Pace { rate: 1e-3, decay: 0.1, max_norm: 2.0, of_steps: losses.len() };
    let mut descent = Descent::new(parameters, decays, pace);
    let mut off = 0.0_f64;
    for expected in losses {
        let towers = [0, 5].map(|at| Tower { parameters: descent.now[at..at + 5].to_vec() });
        let passed = [0, 1].map(|v| towers[v].forward(batch.inputs[v].clone(), None));
        let loss = objective.loss([&passed[0].y, &passed[1].y], &descent.now[10..], &batch).unwrap();
        off = off.max((loss.value - expected).abs());
        let mut gradients: Vec<Mat> = (0..2).flat_map(|v| towers[v].backward(&passed[v], &loss.outputs[v])).collect();
        gradients.extend(loss.own);
        descent.step(&gradients);
    }
    assert!(off < 1e-9, "off by {off:e}");
}

#[test]
fn a_tower_as_steps_gives_what_the_tower_gives() {
    let golden = golden();
    let tower = Tower { parameters: list(&golden["descent"]["towers"][0]).iter().map(matrix).collect() };
    let x = matrix(&golden["inputs"][0]);
    let (first, offsets, steps) = tower.steps(&vec![1.0; x.ncols()], None);
    let mut z = crate::linalg::product(x.as_ref(), first.as_ref());
    (0..z.ncols()).for_each(|j| z.col_mut(j).iter_mut().for_each(|v| *v += offsets[j]));
    let rows = crate::pipeline::apply_rows(&steps, crate::reduced::row_major(&z), z.ncols());
    let y = tower.forward(x, None).y;
    let given = Mat::from_fn(y.nrows(), y.ncols(), |i, j| f64::from(rows[i * y.ncols() + j]));
    // The steps are in f32.
    assert!(apart(&given, &y) < 1e-5, "off by {:e}", apart(&given, &y));
}

#[test]
fn losses_that_remember_are_torchs() {
    let golden = read("deep_memory");
    let (by_group, by_class) = (batch(&golden, "group", 0.0), batch(&golden, "class", 0.0));
    check(&golden, "dgcca", &Dgcca::default(), &by_group);
    check(&golden, "ssah", &Ssah { adversary: 0.3, ..Ssah::default() }, &by_class);
    check(&golden, "logit_adjusted", &LogitAdjusted { tau: 0.7, beta: 0.9 }, &by_class);
    check(&golden, "ucch", &Ucch::default(), &by_group);
    check(&golden, "ddh", &Ddh::default(), &by_class);
    second_step(&golden, "brivl", &Brivl { momentum: 0.0, ..Brivl::default() }, "group");
    second_step(&golden, "ucch", &Ucch::default(), "group");
    second_step(&golden, "ddh", &Ddh::default(), "class");
}

/// The loss of other outputs of the same rows after a step with those of the batch.
fn second_step<O: Objective>(golden: &Value, name: &str, objective: &O, related: &str) {
    let mut memory = Memory::default();
    let first = [matrix(&golden["y0"]), matrix(&golden["y1"])];
    let then = [matrix(&golden["steps"]["y0"]), matrix(&golden["steps"]["y1"])];
    let rows: Vec<usize> = (0..first[0].nrows()).collect();
    let groups: Vec<u32> = (0..rows.len() as u32).collect();
    let mut losses = Vec::new();
    for (y, done) in [(&first, 0.0), (&then, 0.5)] {
        let batch = batch(golden, related, done);
        let mut context = Context {
            batch: &batch,
            x: &batch.inputs,
            towers: None,
            rows: &rows,
            groups: &groups,
            class_counts: &[],
            memory: &mut memory,
            rng: &mut ChaCha8Rng::seed_from_u64(0),
        };
        losses.push(objective.step([&y[0], &y[1]], &[], &mut context).unwrap());
    }
    let (loss, expected) = (&losses[1], &golden["steps"]["losses"][name]);
    let off = (loss.value - number(&expected["value"])).abs();
    let off = off.max(apart(&loss.outputs[0], &matrix(&expected["d0"]))).max(apart(&loss.outputs[1], &matrix(&expected["d1"])));
    assert!(off < TOLERANCE, "{name}: off by {off:e}");
}

#[test]
fn keys_of_the_batch_alone_give_infonce() {
    // With every other row of the batch in the queue, and towers of keys that are the towers themselves.
    let golden = golden();
    let batch = batch(&golden, "alone", 0.0);
    let towers: Vec<Tower> = list(&golden["descent"]["towers"])
        .iter()
        .map(|tower| Tower { parameters: list(tower).iter().map(matrix).collect() })
        .collect();
    let towers: [Tower; 2] = towers.try_into().expect("two towers");
    let y = [0, 1].map(|v| towers[v].forward(batch.inputs[v].clone(), None).y);
    let rows: Vec<usize> = (0..batch.n()).collect();
    let groups: Vec<u32> = (0..batch.n() as u32).collect();
    let (mut memory, objective) = (Memory::default(), Brivl { momentum: 0.0, ..Brivl::default() });
    let mut step = || {
        let mut context = Context {
            batch: &batch,
            x: &batch.inputs,
            towers: Some(&towers),
            rows: &rows,
            groups: &groups,
            class_counts: &[],
            memory: &mut memory,
            rng: &mut ChaCha8Rng::seed_from_u64(0),
        };
        objective.step([&y[0], &y[1]], &[], &mut context).unwrap()
    };
    assert_eq!(step().value, 0.0, "nothing is remembered yet");
    let remembered = step();
    let infonce = InfoNce::default();
    let whole = infonce.loss([&y[0], &y[1]], &infonce.own(5, 0, [7, 6]), &batch).unwrap();
    // Directions are added here and averaged there.
    assert!((remembered.value - 2.0 * whole.value).abs() < 1e-12, "{} {}", remembered.value, whole.value);
    // Keys are given, so that gradients are others.
    assert!(apart(&remembered.outputs[0], &whole.outputs[0]) > 1e-3);
}
