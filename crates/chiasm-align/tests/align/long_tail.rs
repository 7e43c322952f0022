//! Classes of uneven sizes: what adjusted logits and balanced weights do for the small ones.

use chiasm_align::deep::logit_adjusted::{LogitAdjusted, LogitAdjustedConfig};
use chiasm_align::{MethodConfig, Pairs, PipelineSpace, Run};
use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows to learn from of each class, and to try on.
const SIZES: [usize; 10] = [400, 240, 140, 80, 50, 30, 18, 11, 7, 4];
const TRIED: usize = 40;
const DIMS: [usize; 2] = [20, 14];
/// Head, medium, tail.
const PARTS: [std::ops::Range<u32>; 3] = [0..3, 3..6, 6..10];

/// `[n, 20]` and `[n, 14]` mixtures of six hidden numbers about the centre of each row's class.
fn rows(rng: &mut ChaCha8Rng, world: &World, classes: &[u32]) -> [Vec<f32>; 2] {
    let mut normal = || (0..12).map(|_| rng.random_range(-0.5_f32..0.5)).sum::<f32>();
    let mut views = [Vec::new(), Vec::new()];
    for class in classes {
        let hidden: Vec<f32> = world.centres[*class as usize].iter().map(|c| c + normal()).collect();
        for (view, (mix, d)) in views.iter_mut().zip(world.mixes.iter().zip(DIMS)) {
            view.extend((0..d).map(|j| hidden.iter().zip(&mix[6 * j..]).map(|(h, m)| h * m).sum::<f32>() + 1.5 * normal()));
        }
    }
    views
}

struct World {
    centres: Vec<Vec<f32>>,
    mixes: [Vec<f32>; 2],
}

fn pairs(views: &[Vec<f32>; 2]) -> Pairs<'_> {
    Pairs::new(views.iter().zip(DIMS).map(|(data, dim)| MatrixView::new(data, dim).unwrap()).collect())
}

/// Mean average precision of queries of each part of the classes, both ways.
fn map(space: &PipelineSpace, tried: &Pairs<'_>, classes: &[u32]) -> [f64; 3] {
    let views = [0, 1].map(|v| space.project(v, tried.views[v]).unwrap());
    let mut sums = [(0.0, 0.0); 3];
    for (from, to) in [(0, 1), (1, 0)] {
        for (i, query) in views[from].rows().enumerate() {
            let score = |row: &[f32]| query.iter().zip(row).map(|(a, b)| a * b).sum::<f32>();
            let mut order: Vec<(f32, u32)> = views[to].rows().map(score).zip(classes.iter().copied()).collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            let right = order.iter().enumerate().filter(|(_, (_, class))| *class == classes[i]);
            let precisions: Vec<f64> = right.enumerate().map(|(n, (rank, _))| (n + 1) as f64 / (rank + 1) as f64).collect();
            let part = PARTS.iter().position(|part| part.contains(&classes[i])).unwrap();
            sums[part].0 += precisions.iter().sum::<f64>() / precisions.len() as f64;
            sums[part].1 += 1.0;
        }
    }
    sums.map(|(sum, n)| sum / n)
}

#[test]
fn classes_of_few_rows_gain() {
    let settings = [("plain", 0.0, 0.0), ("weights", 0.0, 0.99), ("adjusted", 1.0, 0.0)];
    let mut means = [[0.0; 3]; 3];
    for seed in 0..3 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut numbers =
            |n: usize, scale: f32| -> Vec<f32> { (0..n).map(|_| scale * rng.random_range(-1.0_f32..1.0)).collect() };
        let centres = (0..SIZES.len()).map(|_| numbers(6, 2.2)).collect();
        let world = World { centres, mixes: DIMS.map(|d| numbers(6 * d, 1.0)) };
        let fitted: Vec<u32> = SIZES.iter().enumerate().flat_map(|(class, n)| vec![class as u32; *n]).collect();
        let tried: Vec<u32> = (0..SIZES.len()).flat_map(|class| vec![class as u32; TRIED]).collect();
        let (x, y) = (rows(&mut rng, &world, &fitted), rows(&mut rng, &world, &tried));
        let labels = Labels::single(&fitted);
        let run = Run { seed, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        for (at, (name, tau, beta)) in settings.into_iter().enumerate() {
            let config = LogitAdjustedConfig { objective: LogitAdjusted { tau, beta }, ..LogitAdjustedConfig::default() };
            let space = MethodConfig::LogitAdjusted(config).fit(&Pairs { labels: Some(&labels), ..pairs(&x) }, &run).unwrap();
            let figures = map(&space, &pairs(&y), &tried);
            println!("seed {seed} {name}: MAP head {:.3}, medium {:.3}, tail {:.3}", figures[0], figures[1], figures[2]);
            means[at].iter_mut().zip(figures).for_each(|(mean, figure)| *mean += figure / 3.0);
        }
    }
    for ((name, ..), [head, medium, tail]) in settings.iter().zip(&means) {
        println!("mean {name}: MAP head {head:.3}, medium {medium:.3}, tail {tail:.3}");
    }
    let [plain, weights, adjusted] = means;
    assert!(adjusted[2] > plain[2] + 0.01, "tail: adjusted {}, plain {}", adjusted[2], plain[2]);
    assert!(weights[2] > plain[2] + 0.01, "tail: weights {}, plain {}", weights[2], plain[2]);
}
