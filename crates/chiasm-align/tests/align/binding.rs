//! A third kind of things, learned beside one of two that have a space, is found by the other, with which it was never seen.

use chiasm_align::adapter::{CacheConfig, Cached, Residual, ResidualConfig};
use chiasm_align::deep::bind::bind;
use chiasm_align::{Direction, MethodConfig, Pairs, PipelineSpace, Run, evaluate};
use chiasm_core::{Cancel, MatrixView, NoProgress, SharedSpace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMS: [usize; 3] = [16, 12, 14];
const N_TRIED: usize = 300;

/// Three views of six hidden numbers, each mixed, bent and noisy.
fn views(n: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut number = || rng.random_range(-1.0_f32..1.0) + rng.random_range(-1.0_f32..1.0);
    let hidden: Vec<f32> = (0..6 * n).map(|_| number()).collect();
    let mut view = |d: usize| -> Vec<f32> {
        let mix: Vec<f32> = (0..6 * d).map(|_| number()).collect();
        let row = |h: &[f32]| -> Vec<f32> {
            (0..d).map(|j| (0..6).map(|i| h[i] * mix[i * d + j]).sum::<f32>().tanh() + 0.2 * number()).collect()
        };
        hidden.chunks_exact(6).flat_map(row).collect()
    };
    DIMS.map(&mut view).to_vec()
}

fn pairs(views: &[Vec<f32>], which: [usize; 2], rows: std::ops::Range<usize>) -> Pairs<'_> {
    let of = |v: usize| MatrixView::new(&views[v][rows.start * DIMS[v]..rows.end * DIMS[v]], DIMS[v]).unwrap();
    Pairs::new(which.map(of).to_vec())
}

fn r10(space: &PipelineSpace, which: [usize; 2], tried: &Pairs<'_>) -> f64 {
    let two = space.select_views(&which).unwrap();
    evaluate(&two, tried).unwrap().directions.iter().map(|d: &Direction| d.r10).sum::<f64>() / 2.0
}

#[test]
fn a_pair_that_was_never_seen_emerges() {
    // Things 0 to 800 are seen as image and text, 800 to 1600 as image and m, and the rest is asked for.
    let views = views(1_600 + N_TRIED);
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let first = MethodConfig::from_name("infonce").unwrap().fit(&pairs(&views, [0, 1], 0..800), &run).unwrap();
    let tried = |which: [usize; 2]| pairs(&views, which, 1_600..1_600 + N_TRIED);
    println!("image and text, as fitted: R@10 {:.3}", r10(&first, [0, 1], &tried([0, 1])));
    let mut all = Vec::new();
    for name in ["infonce", "siglip", "vse++"] {
        let method = MethodConfig::from_name(name).unwrap();
        let bound = bind(&first, 0, &pairs(&views, [0, 2], 800..1_600), &method, &run).unwrap();
        assert_eq!((bound.views().len(), &bound.views()[..2]), (3, first.views()), "what is frozen stays");
        let (seen, emergent) = (r10(&bound, [0, 2], &tried([0, 2])), r10(&bound, [1, 2], &tried([1, 2])));
        println!("{name}: image and m, as bound, R@10 {seen:.3}; text and m, never seen together, {emergent:.3}; chance .033");
        assert!(emergent > 0.4, "{name} {emergent}");
        all.push(bound.to_bytes());
    }
    // The same again, on one thread.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let method = MethodConfig::from_name("infonce").unwrap();
    let again = one.install(|| bind(&first, 0, &pairs(&views, [0, 2], 800..1_600), &method, &run).unwrap());
    assert!(again.to_bytes() == all[0]);
    assert_eq!(again.project(2, MatrixView::new(&[0.5; 14], 14).unwrap()).unwrap().dim(), first.dim());
}

#[test]
fn what_cannot_be_bound_is_an_error() {
    let views = views(120);
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let space = MethodConfig::from_name("cca").unwrap().fit(&pairs(&views, [0, 1], 0..120), &run).unwrap();
    let codes = MethodConfig::from_name("cvh").unwrap().fit(&pairs(&views, [0, 1], 0..120), &run).unwrap();
    let infonce = MethodConfig::from_name("infonce").unwrap();
    let new = pairs(&views, [0, 2], 0..120);
    let said = |space: &PipelineSpace, through: usize, pairs: &Pairs<'_>, method: &MethodConfig| {
        bind(space, through, pairs, method, &run).unwrap_err().to_string()
    };
    let through = said(&space, 2, &new, &infonce);
    assert_eq!(through, "through is 2: the number of a view of the space, counted from 0");
    let method = said(&space, 0, &new, &MethodConfig::from_name("dcca").unwrap());
    assert_eq!(method, "method is dcca: one of infonce, siglip, vse, vse++, triplet");
    assert_eq!(said(&codes, 0, &new, &infonce), "space is cvh: a space of real coordinates compared by their cosine");
    assert!(said(&space, 1, &new, &infonce).starts_with("view 0: "), "the frozen view takes rows of its own width");
}

/// Names of 20 classes, `[20, 48]`, and `n` rows of each, which lie about a place not quite that of the name.
fn classes(n: usize, seed: u64) -> [(Vec<f32>, Vec<u32>); 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let normal = |rng: &mut ChaCha8Rng| -> f32 { (0..12).map(|_| rng.random_range(-0.5_f32..0.5)).sum() };
    let names: Vec<f32> = (0..20 * 48).map(|_| normal(&mut rng)).collect();
    let places: Vec<f32> = names.iter().map(|x| 0.5 * x + normal(&mut rng)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = (Vec::new(), Vec::new());
    for _ in 0..n {
        for class in 0..20_u32 {
            let place = &places[class as usize * 48..(class as usize + 1) * 48];
            rows.0.extend(place.iter().map(|x| x + 2.0 * normal(&mut rng)));
            rows.1.push(class);
        }
    }
    [(names, (0..20).collect()), rows]
}

fn view(data: &[f32]) -> MatrixView<'_> {
    MatrixView::new(data, 48).unwrap()
}

#[test]
fn a_few_shots_do_better_than_none() {
    let [names, asked] = classes(50, 1);
    let [_, to_choose_by] = classes(10, 3);
    let right = |logits: &chiasm_nn::grad::Array<f64>, classes: &[u32]| -> f64 {
        let best = |row: &[f64]| (0..20_u32).max_by(|a, b| row[*a as usize].total_cmp(&row[*b as usize])).unwrap();
        classes.iter().enumerate().filter(|(i, class)| best(logits.row(*i)) == **class).count() as f64 / classes.len() as f64
    };
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    // Cosines here are not as small as CLIP's, so the factor is smaller.
    let cache = CacheConfig { scale: 10.0, ..CacheConfig::default() };
    let residual = ResidualConfig { scale: 10.0, ..ResidualConfig::default() };
    let none = Cached::new(&cache, view(&names.0), view(&[]), &[]).unwrap();
    let zero = right(&none.logits(view(&asked.0)).unwrap(), &asked.1);
    println!("zero shots: {zero:.3} right of 20 classes");
    let mut last = [0.0; 2];
    for n in [1, 2, 4, 8, 16] {
        let [_, shots] = classes(n, 2);
        // The weight of the cache is chosen on rows of neither the shots nor what is asked, as in the paper.
        let with = |alpha: f64| {
            let config = CacheConfig { alpha, ..cache.clone() };
            Cached::new(&config, view(&names.0), view(&shots.0), &shots.1).unwrap()
        };
        let figure = |alpha: f64| right(&with(alpha).logits(view(&to_choose_by.0)).unwrap(), &to_choose_by.1);
        let alphas = [0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
        let alpha = alphas.into_iter().fold(alphas[0], |best, alpha| if figure(alpha) > figure(best) { alpha } else { best });
        let cached = with(alpha).logits(view(&asked.0)).unwrap();
        let adapted = Residual::fit(&residual, view(&names.0), view(&shots.0), &shots.1, &run).unwrap();
        last = [cached, adapted.logits(view(&asked.0)).unwrap()].map(|logits| right(&logits, &asked.1));
        println!("{n} shots: cache {:.3} (alpha {alpha}), residual adapter {:.3}", last[0], last[1]);
        assert!(last[0] > zero && last[1] > zero, "{n} shots: {last:?}, none {zero}");
    }
    assert!(last[0] > zero + 0.1 && last[1] > zero + 0.02, "{last:?}, none {zero}");
}
