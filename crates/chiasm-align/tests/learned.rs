//! What towers learn that no linear map can: views that hang together without correlating.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

use chiasm_align::deep::TowerConfig;
use chiasm_align::deep::triplet::{Triplet, TripletConfig};
use chiasm_align::{Direction, MethodConfig, Pairs, Run, evaluate};
use chiasm_core::{Cancel, Labels, MatrixView, NoProgress};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N_FIT: usize = 2_000;
const N_TRIED: usize = 300;

/// `[n, 10]` numbers that mix three hidden ones, and `[n, 6]` their squares and products: of the same numbers, and uncorrelated.
fn views(seed: u64, n: usize) -> [Vec<f32>; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut number = || rng.random_range(-1.0_f32..1.0);
    let mix: Vec<f32> = (0..30).map(|_| number()).collect();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let z: [f32; 3] = std::array::from_fn(|_| number());
        x.extend((0..10).map(|j| (0..3).map(|i| z[i] * mix[3 * j + i]).sum::<f32>() + 0.02 * number()));
        for i in 0..3 {
            y.extend((i..3).map(|j| z[i] * z[j] + 0.02 * number()));
        }
    }
    [x, y]
}

fn pairs(views: &[Vec<f32>; 2]) -> Pairs<'_> {
    Pairs::new(views.iter().zip([10, 6]).map(|(data, dim)| MatrixView::new(data, dim).unwrap()).collect())
}

#[test]
fn learned_towers_find_what_does_not_correlate() {
    let [x, y] = views(1, N_FIT + N_TRIED);
    let rows = |from: usize, to: usize| {
        let view = |data: &[f32], dim: usize| -> Vec<f32> { data[from * dim..to * dim].to_vec() };
        [view(&x, 10), view(&y, 6)]
    };
    let (fitted, tried) = (rows(0, N_FIT), rows(N_FIT, N_FIT + N_TRIED));
    let (fitted, tried) = (pairs(&fitted), pairs(&tried));
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default() };
    let r10 = |name: &str| -> f64 {
        let space = MethodConfig::from_name(name).unwrap().fit(&fitted, &run).unwrap();
        let of = |d: &Direction| d.r10;
        evaluate(&space, &tried).unwrap().directions.iter().map(of).sum::<f64>() / 2.0
    };
    let linear = r10("cca");
    // Chance is .033.
    assert!(linear < 0.1, "cca {linear}");
    for name in ["infonce", "siglip", "vse", "npair", "dcca", "dccae"] {
        let learned = r10(name);
        println!("{name} {learned:.3}, cca {linear:.3}");
        assert!(learned > 0.4, "{name} {learned}, cca {linear}");
    }
}

#[test]
fn learned_towers_find_classes_that_no_line_tells() {
    // Of the hidden numbers' products, which one view shows and the other does not.
    let n = N_FIT / 2 + N_TRIED;
    let [x, y] = views(2, n);
    let classes: Vec<u32> = y.chunks_exact(6).map(|y| u32::from(y[1] > 0.0) + 2 * u32::from(y[4] > 0.0)).collect();
    let part = |from: usize, to: usize| {
        let labels = Labels::single(&classes[from..to]);
        ([x[from * 10..to * 10].to_vec(), y[from * 6..to * 6].to_vec()], labels)
    };
    let ((fitted, of_fitted), (tried, of_tried)) = (part(0, N_FIT / 2), part(N_FIT / 2, n));
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default() };
    let map = |name: &str| -> f64 {
        let space =
            MethodConfig::from_name(name).unwrap().fit(&Pairs { labels: Some(&of_fitted), ..pairs(&fitted) }, &run).unwrap();
        let of = |d: &Direction| d.map.unwrap();
        evaluate(&space, &Pairs { labels: Some(&of_tried), ..pairs(&tried) }).unwrap().directions.iter().map(of).sum::<f64>()
            / 2.0
    };
    let linear = map("sm");
    // Chance is about .25.
    assert!(linear < 0.5, "sm {linear}");
    for name in ["dscmr", "acmr"] {
        let learned = map(name);
        println!("{name} {learned:.3}, sm {linear:.3}");
        assert!(learned > 0.6, "{name} {learned}, sm {linear}");
    }
}

#[test]
fn what_no_tower_can_be_is_an_error() {
    let views = views(1, 20);
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default() };
    let refused = |towers: TowerConfig, margin: f64| {
        let objective = Triplet { margin, ..Triplet::default() };
        let config = TripletConfig { towers, objective };
        MethodConfig::Triplet(config).fit(&pairs(&views), &run).unwrap_err().to_string()
    };
    let good = TowerConfig::default();
    assert_eq!(refused(TowerConfig { dropout: 1.0, ..good.clone() }, 0.2), "dropout is 1: a share of at least 0 and below 1");
    let batch = refused(TowerConfig { batch: 1, ..good.clone() }, 0.2);
    assert_eq!(batch, "batch is 1: at least two pairs, for one has nothing to be told from");
    assert!(refused(TowerConfig { hidden: 0, ..good.clone() }, 0.2).starts_with("hidden is 0"));
    assert!(refused(TowerConfig { learning_rate: f64::NAN, ..good.clone() }, 0.2).starts_with("learning_rate is NaN"));
    assert_eq!(refused(good, 2.0), "margin is 2: a difference of cosines above 0 and below 2");
}
