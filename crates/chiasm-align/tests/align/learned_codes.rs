//! Codes that are learned, on a generated set with tags: which method does better than which, and what rows without classes bring.

use chiasm_align::deep::TowerConfig;
use chiasm_align::deep::dcmh::DcmhConfig;
use chiasm_align::deep::ddh::DdhConfig;
use chiasm_align::deep::ssah::SsahConfig;
use chiasm_align::{About, MethodConfig, Pairs, PipelineSpace, Run, Step, View, evaluate};
use chiasm_core::{Cancel, Labels, MatrixView, Metric, NoProgress};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TAGS: usize = 5;
const N_FIT: usize = 1_000;
const N_TRIED: usize = 300;
const DIMS: [usize; 2] = [24, 18];
const BITS: usize = 24;

/// Things with one to three of five tags. A tag shows in both views in two ways: faintly as a number that rises with it, clearly as one that is far from 0 with
/// it, on either side. What else the views share has nothing to do with tags.
struct World {
    views: [Vec<f32>; 2],
    tags: Vec<Vec<u32>>,
}

impl World {
    fn new(seed: u64, n: usize) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = || (0..12).map(|_| rng.random_range(-0.5_f32..0.5)).sum::<f32>();
        let n_hidden = 2 * TAGS + 4;
        let mixes = DIMS.map(|d| (0..d * n_hidden).map(|_| normal()).collect::<Vec<f32>>());
        let (mut views, mut tags) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..n {
            let mut of: Vec<u32> =
                (0..1 + (normal().abs() * 1.5) as usize % 3).map(|_| (normal().abs() * 1e4) as u32 % TAGS as u32).collect();
            of.sort_unstable();
            of.dedup();
            let has = |tag: usize| if of.contains(&(tag as u32)) { 1.0 } else { 0.0 };
            let mut hidden: Vec<f32> = (0..TAGS).map(|tag| 0.6 * has(tag) + 0.5 * normal()).collect();
            for tag in 0..TAGS {
                let side = if normal() > 0.0 { 1.5 } else { -1.5 };
                hidden.push(side * has(tag) + 0.3 * normal());
            }
            hidden.extend((0..4).map(|_| 1.5 * normal()));
            for (view, (mix, d)) in views.iter_mut().zip(mixes.iter().zip(DIMS)) {
                for j in 0..d {
                    let mixed: f32 = hidden.iter().zip(&mix[j * n_hidden..]).map(|(h, m)| h * m).sum();
                    view.push(mixed + 0.3 * normal());
                }
            }
            tags.push(of);
        }
        World { views, tags }
    }

    fn pairs(&self, rows: std::ops::Range<usize>) -> Pairs<'_> {
        let view = |v: usize| MatrixView::new(&self.views[v][rows.start * DIMS[v]..rows.end * DIMS[v]], DIMS[v]).unwrap();
        Pairs::new(vec![view(0), view(1)])
    }

    /// The tags of some rows, of which those that `is_known` says are known.
    fn labels(&self, rows: std::ops::Range<usize>, is_known: impl Fn(usize) -> bool) -> Labels {
        let of = |row: usize| if is_known(row) { self.tags[row].clone() } else { Vec::new() };
        Labels::from_rows(&rows.map(of).collect::<Vec<_>>(), TAGS).unwrap()
    }

    /// Mean average precision by tags, both ways, on rows that nothing was fitted on.
    fn map(&self, space: &PipelineSpace) -> f64 {
        let labels = self.labels(N_FIT..N_FIT + N_TRIED, |_| true);
        let pairs = Pairs { labels: Some(&labels), ..self.pairs(N_FIT..N_FIT + N_TRIED) };
        evaluate(space, &pairs).unwrap().directions.iter().map(|d| d.map.unwrap()).sum::<f64>() / 2.0
    }

    fn fit(&self, name: &str, rows: std::ops::Range<usize>, labels: &Labels, seed: u64) -> PipelineSpace {
        let method = match name {
            "dcmh" => MethodConfig::Dcmh(DcmhConfig { towers: towers(), ..DcmhConfig::default() }),
            "ddh" => MethodConfig::Ddh(DdhConfig { towers: towers(), ..DdhConfig::default() }),
            "ssah" => MethodConfig::Ssah(SsahConfig { towers: towers(), ..SsahConfig::default() }),
            other => MethodConfig::from_name(other).unwrap(),
        }
        .with_components(BITS);
        let labels = method.needs_labels().then_some(labels);
        let run = Run { seed, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        method.fit(&Pairs { labels, ..self.pairs(rows) }, &run).unwrap()
    }
}

/// Longer and faster than by default: five tags in eight hidden numbers take their time.
fn towers() -> TowerConfig {
    TowerConfig { correlation_power: 0.0, learning_rate: 3e-3, max_epochs: 40, ..TowerConfig::default() }
}

/// Codes by planes that nothing was learned for.
fn random(seed: u64) -> PipelineSpace {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let view = |d: usize| {
        let weights = (0..d * BITS).map(|_| rng.random_range(-1.0..1.0)).collect();
        View { input_dim: d, steps: vec![Step::Linear { weights, bias: Vec::new(), n_out: BITS }, Step::Sign, Step::Unit] }
    };
    PipelineSpace::new(Metric::Cosine, DIMS.map(view).into(), About::default()).unwrap()
}

/// Random codes < CVH, which knows no classes < SCM, which is linear < towers that learn from classes: the order in which the literature has them.
#[test]
fn methods_stand_in_the_order_of_the_literature() {
    let names = ["cvh", "scm-seq", "dcmh", "ddh", "ssah"];
    let mut means = vec![0.0; 1 + names.len()];
    for seed in 0..3 {
        let world = World::new(seed, N_FIT + N_TRIED);
        let labels = world.labels(0..N_FIT, |_| true);
        let mut figures = vec![world.map(&random(seed))];
        figures.extend(names.map(|name| world.map(&world.fit(name, 0..N_FIT, &labels, seed))));
        println!("seed {seed}: random {:.3}, {}", figures[0], said(&names, &figures[1..]));
        let [random, cvh, scm, dcmh, ..] = figures[..] else { unreachable!("five methods") };
        assert!(random < cvh && cvh < scm && scm < dcmh, "seed {seed}: {figures:?}");
        means.iter_mut().zip(&figures).for_each(|(mean, figure)| *mean += figure / 3.0);
    }
    println!("mean: random {:.3}, {}", means[0], said(&names, &means[1..]));
    // The steps are wide, and the other two that learn from classes stand where dcmh does.
    let scm = means[2];
    assert!(means[0] + 0.02 < means[1] && means[1] + 0.02 < scm, "{means:?}");
    assert!(means[3..].iter().all(|learned| *learned > scm + 0.03), "{means:?}");
}

fn said(names: &[&str], figures: &[f64]) -> String {
    names.iter().zip(figures).map(|(name, figure)| format!("{name} {figure:.3}")).collect::<Vec<_>>().join(", ")
}

/// Of rows without tags `ddh` learns that they are pairs. Beside it stands the same method on the rows with tags alone.
#[test]
fn rows_without_classes_help_where_few_have_some() {
    let world = World::new(5, N_FIT + N_TRIED);
    let mut all = Vec::new();
    for share in [1, 5, 10, 50, 100] {
        let n_known = N_FIT * share / 100;
        let map = |n: usize| {
            let labels = world.labels(0..n, |row| row < n_known);
            world.map(&world.fit("ddh", 0..n, &labels, 1))
        };
        let (with, without) = (map(N_FIT), map(n_known));
        println!("{share:>3} % of {N_FIT} rows have classes: MAP {with:.3}, without the others {without:.3}");
        all.push((share, with, without));
    }
    for (share, with, without) in &all[..4] {
        assert!(*with > without + 0.01, "{share} %: {with}, without the others {without}");
    }
    assert!(all[4].1 > all[0].1 + 0.1, "{all:?}");
}
