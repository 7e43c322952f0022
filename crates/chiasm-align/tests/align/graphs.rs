//! Items and tags of a generated world: tags that were held out are found, and new items get some.

use std::sync::LazyLock;

use chiasm_align::Run;
use chiasm_align::graphs::{
    FoundEdges, GraphError, GraphMethod, HeldOutEdges, ItemTagGraph, Kind, Node, Recommender, RecommenderConfig, TrainingEdges,
};
use chiasm_core::{Cancel, MatrixView, NoProgress};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N_ITEMS: usize = 800;
const N_NEW: usize = 200;
const N_TAGS: usize = 120;
/// Hidden interests behind items and tags.
const HIDDEN: usize = 8;
const DIMS: [usize; 2] = [24, 16];
const K: usize = 20;

/// A world in which each item has interests; two views show them through noise and a bend, one of them only half; a tag falls to an item the likelier
/// the better it fits its interests and the more popular it is.
struct World {
    /// `[items + new, d_v]`, row by row.
    views: [Vec<f32>; 2],
    edges: Vec<(u32, u32)>,
}

fn world(seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || -> f64 {
        let (a, b): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    let n = N_ITEMS + N_NEW;
    let mut matrix =
        |rows: usize, cols: usize| -> Vec<Vec<f64>> { (0..rows).map(|_| (0..cols).map(|_| normal()).collect()).collect() };
    let (items, tags) = (matrix(n, HIDDEN), matrix(N_TAGS, HIDDEN));
    let shown = [HIDDEN, HIDDEN / 2];
    let mixes = [0, 1].map(|v| matrix(shown[v], DIMS[v]));
    let noises = [0, 1].map(|v| matrix(n, DIMS[v]));
    let views = [0, 1].map(|v| {
        let mut view = Vec::new();
        for (item, noise) in items.iter().zip(&noises[v]) {
            for (j, noise) in noise.iter().enumerate() {
                let mixed: f64 = (0..shown[v]).map(|h| item[h] * mixes[v][h][j]).sum();
                view.push(((mixed / 2.0).tanh() + 0.8 * noise) as f32);
            }
        }
        view
    });
    let mut edges = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let fit = |t: usize| 1.2 * item.iter().zip(&tags[t]).map(|(a, b)| a * b).sum::<f64>() - 0.8 * ((t + 1) as f64).ln();
        let n_tags = rng.random_range(4..11);
        // The greatest of scores with Gumbel noise are a draw without replacement.
        let noisy = |t: usize, rng: &mut ChaCha8Rng| fit(t) - (-(1.0 - rng.random::<f64>()).ln()).ln();
        let mut scored: Vec<(f64, u32)> = (0..N_TAGS).map(|t| (noisy(t, &mut rng), t as u32)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        edges.extend(scored[..n_tags].iter().map(|(_, tag)| (i as u32, *tag)));
    }
    World { views, edges }
}

impl World {
    fn rows(&self, from: usize, to: usize) -> Vec<MatrixView<'_>> {
        let of = |v: usize| MatrixView::new(&self.views[v][from * DIMS[v]..to * DIMS[v]], DIMS[v]).unwrap();
        vec![of(0), of(1)]
    }
}

/// A world split for learning and asking.
struct Set {
    graph: ItemTagGraph,
    held_out: HeldOutEdges,
    of_new: HeldOutEdges,
    /// Features of all items and of the new ones, as the graph scales them.
    new: Vec<Vec<f64>>,
}

fn set(world: &World, seed: u64) -> Set {
    let is_new = |edge: &&(u32, u32)| edge.0 as usize >= N_ITEMS;
    let old: Vec<(u32, u32)> = world.edges.iter().filter(|edge| !is_new(edge)).copied().collect();
    let new: Vec<(u32, u32)> = world.edges.iter().filter(is_new).map(|(i, t)| (i - N_ITEMS as u32, *t)).collect();
    let (training, held_out) = TrainingEdges::new(N_ITEMS, N_TAGS, &old).unwrap().hold_out(0.3, seed).unwrap();
    let graph = ItemTagGraph::new(training, &world.rows(0, N_ITEMS)).unwrap();
    // The same scaling for the baselines: of the first items alone, as the graph has it.
    let scale = |v: usize| {
        let rows: Vec<&[f32]> = world.views[v][..N_ITEMS * DIMS[v]].chunks_exact(DIMS[v]).collect();
        let mean: Vec<f64> =
            (0..DIMS[v]).map(|j| rows.iter().map(|row| f64::from(row[j])).sum::<f64>() / rows.len() as f64).collect();
        let square = |row: &[f32]| row.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum::<f64>();
        let squares = rows.iter().map(|row| square(row)).sum::<f64>() / rows.len() as f64;
        (mean, 1.0 / (2.0 * squares).sqrt())
    };
    let scales = [scale(0), scale(1)];
    let row = |i: usize| -> Vec<f64> {
        let of = |v: usize| {
            let (mean, factor) = &scales[v];
            let row = &world.views[v][i * DIMS[v]..(i + 1) * DIMS[v]];
            row.iter().zip(mean).map(|(x, m)| factor * (f64::from(*x) - m)).collect::<Vec<f64>>()
        };
        [of(0), of(1)].concat()
    };
    for j in 0..40 {
        assert!((graph.features().at(3, j) - row(3)[j]).abs() < 1e-12);
    }
    let of_new = HeldOutEdges::of_new(N_NEW, N_TAGS, &new).unwrap();
    Set { graph, held_out, of_new, new: (N_ITEMS..N_ITEMS + N_NEW).map(row).collect() }
}

impl Set {
    /// How many items have each tag.
    fn popularity(&self) -> Vec<f64> {
        let mut counts = vec![0.0; N_TAGS];
        self.graph.edges().all().iter().for_each(|(_, tag)| counts[*tag as usize] += 1.0);
        counts
    }

    /// The tags of the `n` items whose features are most alike, by how alike they are; popularity decides between equals.
    fn by_features(&self, row: &[f64], myself: Option<usize>, n: usize) -> Vec<f64> {
        let cosine = |a: &[f64], b: &[f64]| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let others = (0..N_ITEMS).filter(|other| Some(*other) != myself);
        let mut near: Vec<(f64, usize)> = others.map(|other| (cosine(row, self.graph.features().row(other)), other)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut scores: Vec<f64> = self.popularity().iter().map(|count| 1e-6 * count).collect();
        for (alike, other) in &near[..n] {
            self.graph.edges().of_item(*other).iter().for_each(|tag| scores[*tag as usize] += alike);
        }
        scores
    }

    fn fit(&self, method: GraphMethod) -> Recommender {
        self.fit_in(method, RecommenderConfig::new(method).n_epochs)
    }

    fn fit_in(&self, method: GraphMethod, n_epochs: usize) -> Recommender {
        let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        Recommender::fit(&RecommenderConfig { n_epochs, ..RecommenderConfig::new(method) }, &self.graph, &run).unwrap()
    }

    /// Weights `[d + 1, tags]` of a ridge regression from features to tags, by elimination.
    fn ridge(&self) -> Vec<Vec<f64>> {
        let x = self.graph.features();
        let d = x.n_cols() + 1;
        let row = |i: usize| x.row(i).iter().copied().chain([1.0]).collect::<Vec<f64>>();
        let mut system = vec![vec![0.0; d + N_TAGS]; d];
        for i in 0..N_ITEMS {
            let row = row(i);
            for (a, equation) in row.iter().zip(&mut system) {
                equation.iter_mut().zip(&row).for_each(|(sum, b)| *sum += a * b);
                self.graph.edges().of_item(i).iter().for_each(|tag| equation[d + *tag as usize] += a);
            }
        }
        (0..d).for_each(|j| system[j][j] += 1.0);
        for j in 0..d {
            let pivot: Vec<f64> = system[j].iter().map(|x| x / system[j][j]).collect();
            for (i, equation) in system.iter_mut().enumerate() {
                let factor = equation[j];
                let change = |(x, p): (&mut f64, &f64)| *x = if i == j { *p } else { *x - factor * p };
                equation.iter_mut().zip(&pivot).for_each(change);
            }
        }
        system.into_iter().map(|equation| equation[d..].to_vec()).collect()
    }

    fn found(&self, recommender: &Recommender) -> FoundEdges {
        self.held_out.figures(K, |item| recommender.tag_scores(item as u32).unwrap()).unwrap()
    }
}

/// `[x, 1] W`.
fn times(x: &[f64], weights: &[Vec<f64>]) -> Vec<f64> {
    let mut sums = weights[x.len()].clone();
    for (x, row) in x.iter().zip(weights) {
        sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += x * w);
    }
    sums
}

/// The best of several counts of neighbours, judged by a part of the training edges.
fn best_neighbours(set: &Set) -> usize {
    let (_, aside) = set.graph.edges().clone().hold_out(0.2, 9).unwrap();
    // An item's neighbours are asked and not the item, so its own edges need not be taken from them.
    let scores = |item: usize, n: usize| set.by_features(set.graph.features().row(item), Some(item), n);
    let figure = |n: usize| aside.figures(K, |item| scores(item, n)).unwrap().ndcg;
    [10, 20, 40, 80, 160].into_iter().max_by(|a, b| figure(*a).total_cmp(&figure(*b))).unwrap()
}

static WORLD: LazyLock<World> = LazyLock::new(|| world(1));
static SET: LazyLock<Set> = LazyLock::new(|| set(&WORLD, 1));
static SAGE: LazyLock<Recommender> = LazyLock::new(|| SET.fit(GraphMethod::GraphSage));

fn say(name: &str, found: &FoundEdges) {
    println!("{name}: R@{K} {:.3}, NDCG@{K} {:.3}", found.recall, found.ndcg);
}

fn is_better(found: &FoundEdges, baseline: &FoundEdges) -> bool {
    found.recall > baseline.recall && found.ndcg > baseline.ndcg
}

#[test]
fn tags_that_were_held_out_are_found() {
    let set = &*SET;
    let popularity = set.popularity();
    let popular = set.held_out.figures(K, |_| popularity.clone()).unwrap();
    let n = best_neighbours(set);
    let alike = set.held_out.figures(K, |item| set.by_features(set.graph.features().row(item), Some(item), n)).unwrap();
    println!("{} edges held out of {}; {n} neighbours", set.held_out.n(), set.held_out.n() + set.graph.edges().n());
    say("popularity", &popular);
    say("feature neighbours", &alike);
    let [light, gcn] = [GraphMethod::LightGcn, GraphMethod::Gcn].map(|method| set.fit(method));
    for (method, recommender) in GraphMethod::ALL.iter().zip([&light, &gcn, &*SAGE]) {
        let found = set.found(recommender);
        say(method.name(), &found);
        assert!(is_better(&found, &popular) && is_better(&found, &alike), "{method:?} {found:?}, {popular:?}, {alike:?}");
    }
}

#[test]
fn new_items_get_tags_from_their_features() {
    let set = &*SET;
    let popularity = set.popularity();
    let popular = set.of_new.figures(K, |_| popularity.clone()).unwrap();
    let n = best_neighbours(set);
    let alike = set.of_new.figures(K, |item| set.by_features(&set.new[item], None, n)).unwrap();
    let ridge = set.ridge();
    let line = set.of_new.figures(K, |item| times(&set.new[item], &ridge)).unwrap();
    let rows = SAGE.embed_new(&WORLD.rows(N_ITEMS, N_ITEMS + N_NEW)).unwrap();
    let found = set.of_new.figures(K, |item| SAGE.tag_scores_of(rows.row(item)).unwrap()).unwrap();
    for (name, found) in
        [("popularity", &popular), ("feature neighbours", &alike), ("feature ridge", &line), ("graphsage", &found)]
    {
        say(&format!("new items, {name}"), found);
    }
    assert!(is_better(&found, &popular) && is_better(&found, &alike), "{found:?}, {popular:?}, {alike:?}");
    let said = set.fit_in(GraphMethod::LightGcn, 0).embed_new(&WORLD.rows(0, 1)).unwrap_err().to_string();
    assert_eq!(said, "lightgcn knows no items but those it learned from: use graphsage for new ones");
}

/// Items asked for by a tag, and by an item, are those that have it, and those that share its interests.
#[test]
fn items_are_found_by_tags_and_by_items() {
    let set = &*SET;
    let has = |item: u32, tag: u32| WORLD.edges.contains(&(item, tag));
    let (mut found, mut of_all, mut n) = (0.0, 0.0, 0.0);
    for tag in 0..40 {
        let having: Vec<u32> = (0..N_ITEMS as u32).filter(|item| set.graph.edges().has(*item, tag)).collect();
        let list = SAGE.recommend(Node::Tag(tag), Kind::Items, 10).unwrap();
        assert!(list.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert!(list.iter().all(|suggestion| !having.contains(&suggestion.which)), "a known edge was recommended");
        found += list.iter().filter(|suggestion| has(suggestion.which, tag)).count() as f64 / 10.0;
        let left = (N_ITEMS - having.len()) as f64;
        of_all += (0..N_ITEMS as u32).filter(|item| has(*item, tag) && !having.contains(item)).count() as f64 / left;
        n += 1.0;
    }
    println!("items for tags: P@10 {:.3}, chance {:.3}", found / n, of_all / n);
    assert!(found > 3.0 * of_all);
    let shared = |a: u32, b: u32| set.held_out.of_item(a as usize).iter().filter(|tag| has(b, **tag)).count() as f64;
    let (mut near, mut any) = (0.0, 0.0);
    for item in 0..200 {
        let list = SAGE.recommend(Node::Item(item), Kind::Items, 10).unwrap();
        assert!(list.len() == 10 && list.iter().all(|suggestion| suggestion.which != item));
        near += list.iter().map(|suggestion| shared(item, suggestion.which)).sum::<f64>() / 2_000.0;
        any += (0..N_ITEMS as u32).filter(|other| *other != item).map(|other| shared(item, other)).sum::<f64>() / 200.0 / 799.0;
    }
    println!("items for items: held-out tags shared with the first 10 {near:.3}, with any {any:.3}");
    assert!(near > 1.5 * any);
}

/// What is held out cannot reach learning; and what is asked, in whatever way, does not change what was learned.
#[test]
fn held_out_edges_do_not_leak() {
    let set = &*SET;
    let (training, all) = (set.graph.edges(), &WORLD.edges);
    let learned = training.all()[5];
    let leak = HeldOutEdges::new(training, &[learned]).unwrap_err();
    assert_eq!(leak, GraphError::Leak { item: learned.0, tag: learned.1 });
    let n_held = (0..N_ITEMS).flat_map(|item| set.held_out.of_item(item).iter().map(move |tag| (item as u32, *tag)));
    assert!(n_held.clone().all(|(item, tag)| !training.has(item, tag) && all.contains(&(item, tag))));
    assert_eq!(n_held.count() + training.n(), all.iter().filter(|edge| (edge.0 as usize) < N_ITEMS).count());
    // Held-out answers that are wrong by chance: a network that had seen the right ones would still rank these high, or these low.
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let drawn: Vec<(u32, u32)> = (0..N_ITEMS as u32).map(|item| (item, rng.random_range(0..N_TAGS as u32))).collect();
    let false_edges: Vec<(u32, u32)> = drawn.into_iter().filter(|edge| !all.contains(edge)).collect();
    let wrong = HeldOutEdges::new(training, &false_edges).unwrap();
    let found = set.held_out.figures(K, |item| SAGE.tag_scores(item as u32).unwrap()).unwrap();
    let false_found = wrong.figures(K, |item| SAGE.tag_scores(item as u32).unwrap()).unwrap();
    println!("held-out edges R@{K} {:.3}, edges that are not there {:.3}", found.recall, false_found.recall);
    assert!(false_found.recall < found.recall / 2.0);
}

#[test]
fn the_seed_decides_whatever_the_count_of_threads() {
    for method in GraphMethod::ALL {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| SET.fit_in(method, 1))
        };
        assert_eq!(run(1), run(3), "{method:?}");
    }
}

#[test]
fn what_cannot_be_learned_is_an_error() {
    let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let good = RecommenderConfig::new(GraphMethod::Gcn);
    let refused =
        |config: &RecommenderConfig, graph: &ItemTagGraph| Recommender::fit(config, graph, &run).unwrap_err().to_string();
    let said = |config: RecommenderConfig| refused(&config, &SET.graph);
    let layers = said(RecommenderConfig { n_layers: 4, ..good.clone() });
    assert_eq!(layers, "n_layers is 4: 1 to 3, for with more all nodes become alike");
    assert_eq!(said(RecommenderConfig { dim: 0, ..good.clone() }), "dim is 0: 1 to 4096");
    assert!(said(RecommenderConfig { batch: 0, ..good.clone() }).starts_with("batch is 0"));
    assert!(said(RecommenderConfig { learning_rate: f64::NAN, ..good.clone() }).starts_with("learning_rate is NaN"));
    assert_eq!(said(RecommenderConfig { isolated: 1.0, ..good.clone() }), "isolated is 1: a share of at least 0 and below 1");
    let bare = ItemTagGraph::new(SET.graph.edges().clone(), &[]).unwrap();
    let none = refused(&good, &bare);
    assert_eq!(none, "gcn learns from features of items, and the graph has none: give views, or use lightgcn");
    let empty = ItemTagGraph::new(TrainingEdges::new(3, 2, &[]).unwrap(), &[]).unwrap();
    let small = refused(&RecommenderConfig::new(GraphMethod::LightGcn), &empty);
    assert!(small.starts_with("a graph of 3 items, 2 tags and 0 edges teaches nothing"), "{small}");
    let edges = || TrainingEdges::new(2, 2, &[(0, 0)]).unwrap();
    let nan = ItemTagGraph::new(edges(), &[MatrixView::new(&[1.0, f32::NAN], 1).unwrap()]).unwrap_err().to_string();
    assert!(nan.starts_with("features of view 0: "), "{nan}");
    let rows = ItemTagGraph::new(edges(), &[MatrixView::new(&[1.0], 1).unwrap()]).unwrap_err().to_string();
    assert_eq!(rows, "1 rows of features, expected 2");
    let widths = SAGE.embed_new(&WORLD.rows(0, 1)[..1]).unwrap_err().to_string();
    assert_eq!(widths, "features of [24] columns, the graph has [24, 16]");
    let item = SAGE.recommend(Node::Item(800), Kind::Tags, 5).unwrap_err().to_string();
    assert_eq!(item, "there is no item 800: there are 800, counted from 0");
    assert!(SAGE.recommend(Node::Tag(0), Kind::Items, 0).unwrap_err().to_string().starts_with("k is 0"));
}
