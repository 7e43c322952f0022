//! Optimisers and 50 steps of two towers against torch; `reference/nn_learn_goldens.py` writes the numbers.

#![allow(clippy::print_stdout)] // A test's own line: how far from torch.

use serde_json::Value;

use super::*;
use crate::grad::{Sees, Tape, Var};

fn golden() -> Value {
    let path = format!("{}/../../testdata/goldens/nn/learn.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the goldens stand in the repository")).expect("they are JSON")
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
}

/// `{"shape": [n, m], "data": [...]}`.
fn array(value: &Value) -> Array<f32> {
    let [n, m] = [0, 1].map(|i| value["shape"][i].as_u64().expect("a size") as usize);
    Array::new(n, m, numbers(&value["data"]))
}

fn arrays(value: &Value) -> Vec<Array<f32>> {
    value.as_array().expect("a list").iter().map(array).collect()
}

fn apart(a: &Array<f32>, b: &Array<f32>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn optimisers_are_torchs() {
    let golden = &golden()["optimisers"];
    let rules = [
        ("sgd", Rule::Sgd { momentum: 0.9 }),
        ("adam", Rule::Adam { betas: [0.9, 0.999], eps: 1e-8 }),
        ("adamw", Rule::ADAM_W),
        ("lamb", Rule::Lamb { betas: [0.9, 0.999], eps: 1e-6 }),
    ];
    for (name, rule) in rules {
        let values = arrays(&golden["parameters"]).into_iter();
        let mut parameters: Vec<_> = values
            .enumerate()
            .map(|(i, value)| Parameter { name: i.to_string(), value: value.into(), decays: i == 0 })
            .collect();
        let mut optimiser = Optimiser::new(rule, 0.1, &parameters);
        let rates = numbers(&golden["rates"]);
        for (gradients, rate) in golden["gradients"].as_array().expect("a list").iter().zip(rates) {
            optimiser.step(&mut parameters, &arrays(gradients), f64::from(rate));
        }
        for (parameter, expected) in parameters.iter().zip(arrays(&golden[name])) {
            // Seven steps of numbers of size one in single precision.
            let off = apart(&parameter.value, &expected);
            assert!(off < 2e-6, "{name}: off by {off:e}");
        }
    }
}

#[test]
fn a_state_continues_a_run_to_the_bit() {
    let start = || vec![Parameter::weight("w", Array::new(1, 3, vec![1.0, -2.0, 0.5]))];
    let gradient = |step: usize| [Array::new(1, 3, vec![0.1 * step as f32, 0.3, -0.2])];
    let (mut through, mut halves) = (start(), start());
    let mut one = Optimiser::new(Rule::ADAM_W, 0.1, &through);
    (0..6).for_each(|step| one.step(&mut through, &gradient(step), 0.01));
    let mut first = Optimiser::new(Rule::ADAM_W, 0.1, &halves);
    (0..3).for_each(|step| first.step(&mut halves, &gradient(step), 0.01));
    let (n, moments) = first.state();
    let mut second = Optimiser::new(Rule::ADAM_W, 0.1, &halves).with_state(n, moments.to_vec()).expect("the same shapes");
    (3..6).for_each(|step| second.step(&mut halves, &gradient(step), 0.01));
    assert_eq!(through, halves);
    assert_eq!(Optimiser::new(Rule::ADAM_W, 0.1, &halves).with_state(1, Vec::new()), None);
}

#[test]
fn schedules_rise_and_fall() {
    let of = |decay| Schedule { rate: 2.0, warm_up: 4, n_steps: 104, decay };
    let cosine = of(Decay::Cosine);
    assert_eq!([0, 1, 3, 4].map(|step| cosine.at(step)), [0.5, 1.0, 2.0, 2.0]);
    assert!((cosine.at(54) - 1.0).abs() < 1e-12 && cosine.at(104) < 1e-12 && cosine.at(1_000) < 1e-12);
    assert_eq!(of(Decay::Constant).at(77), 2.0);
    assert_eq!([4, 13, 14, 24].map(|step| of(Decay::Step { every: 10, factor: 0.5 }).at(step)), [2.0, 2.0, 1.0, 0.5]);
}

#[test]
fn gradients_are_clipped_together() {
    let mut gradients = [Array::new(1, 1, vec![3.0]), Array::new(1, 1, vec![4.0])];
    assert_eq!(clip(&mut gradients, 10.0), 5.0);
    assert_eq!(gradients[1].only(), 4.0);
    clip(&mut gradients, 1.0);
    assert!((gradients[0].only() - 0.6).abs() < 1e-6);
}

/// One pre-norm block over sequences of `n` rows, as PyTorch's `nn.MultiheadAttention` and two linear layers compute it; parameters in the order of the golden.
fn tower<'t>(x: Var<'t, f32>, p: &[Var<'t, f32>], lengths: &[usize], sees: Sees) -> Var<'t, f32> {
    let h = x.layer_norm(p[0], p[1], 1e-5);
    let [q, k, v] = [2, 4, 6].map(|at| h.linear(p[at], Some(p[at + 1])));
    let x = x + q.attend(k, v, lengths, lengths, 2, sees).linear(p[8], Some(p[9]));
    let h = x.layer_norm(p[10], p[11], 1e-5).linear(p[12], Some(p[13])).gelu();
    let x = x + h.linear(p[14], Some(p[15]));
    x.mean_of_runs(lengths).linear(p[16], None).unit_rows()
}

/// The loss of each of 50 steps, two-tower transformers from identical weights, InfoNCE with a learned temperature, AdamW and a cosine: section 8 of the
/// methods asks for 1e-4.
#[test]
fn fifty_steps_are_torchs() {
    let golden = &golden()["training"];
    let mut parameters: Vec<Parameter> = golden["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| Parameter {
            name: p["name"].as_str().expect("a name").to_owned(),
            value: array(p).into(),
            decays: p["decays"] == true,
        })
        .collect();
    let n_of_tower = 17;
    let inputs = arrays(&golden["inputs"]);
    let words: Vec<usize> = numbers(&golden["words"]).into_iter().map(|x| x as usize).collect();
    let lengths: Vec<Vec<usize>> =
        (0..2).map(|v| numbers(&golden["lengths"][v]).into_iter().map(|x| x as usize).collect()).collect();
    let schedule = Schedule { rate: 1e-2, warm_up: 5, n_steps: 50, decay: Decay::Cosine };
    let mut optimiser = Optimiser::new(Rule::ADAM_W, 0.1, &parameters);
    let expected = numbers(&golden["losses"]);
    let mut most = 0.0_f32;
    for (step, expected) in expected.iter().enumerate() {
        let tape = Tape::new();
        let p: Vec<Var<'_, f32>> = parameters.iter().map(|p| tape.leaf(p.value.clone())).collect();
        let pictures = tower(tape.constant(inputs[0].clone()), &p[..n_of_tower], &lengths[0], Sees::All);
        let texts = tower(p[2 * n_of_tower].rows(words.as_slice()), &p[n_of_tower..2 * n_of_tower], &lengths[1], Sees::Past);
        let scores = pictures.dot_rows(texts).times_number(p[2 * n_of_tower + 1].exp());
        let right: Vec<usize> = (0..lengths[0].len()).collect();
        let loss = (scores.cross_entropy_of(&right) + scores.transposed().cross_entropy_of(&right)).scaled(0.5);
        most = most.max((loss.value().only() - expected).abs());
        let mut gradients = tape.backward(loss);
        let mut gradients: Vec<Array<f32>> = p.iter().map(|var| gradients.take(*var)).collect();
        clip(&mut gradients, 1.0);
        optimiser.step(&mut parameters, &gradients, schedule.at(step));
    }
    println!("50 steps of two transformers, losses {} to {}: at most {most:.1e} from torch's", expected[0], expected[49]);
    assert!(most < 1e-4, "off by {most:e}");
    assert!(expected[49] < 0.5 * expected[0], "the reference learns");
}
