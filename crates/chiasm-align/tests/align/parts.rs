//! What models that look at parts find, and single vectors do not: on worlds made here, on things they were not fitted on.

use chiasm_align::parts::fusion::{Fusion, FusionConfig, Kind, Queries};
use chiasm_align::parts::reranker::{Reranker, RerankerConfig};
use chiasm_align::parts::scan::{Attention, Direction, Pooling, Scan, ScanConfig};
use chiasm_align::parts::{Captioned, PartSets, SetError};
use chiasm_align::{FitError, MethodConfig, Pairs, PipelineSpace, Run};
use chiasm_core::{Cancel, MatrixView, NoProgress, ProjectError, SharedSpace};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N_KINDS: usize = 20;
const N_COLOURS: usize = 8;
const REGION_DIM: usize = 20;
const WORD_DIM: usize = 16;

fn run() -> Run<'static> {
    static CANCEL: std::sync::LazyLock<Cancel> = std::sync::LazyLock::new(Cancel::default);
    Run { seed: 1, progress: &NoProgress, cancel: &CANCEL, draft: None }
}

/// How objects look, and what they are called: a vector for each kind and for each colour, which a region or a word adds up.
struct Look {
    kinds: [Vec<f32>; 2],
    colours: [Vec<f32>; 2],
    rng: ChaCha8Rng,
}

impl Look {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut table = |n: usize, dim: usize| (0..n * dim).map(|_| normal(&mut rng)).collect();
        let kinds = [table(N_KINDS, REGION_DIM), table(N_KINDS, WORD_DIM)];
        let colours = [table(N_COLOURS, REGION_DIM), table(N_COLOURS, WORD_DIM)];
        Self { kinds, colours, rng }
    }

    /// The vector of an object in a picture (0) or in a text (1), with some noise.
    fn of(&mut self, side: usize, (kind, colour): (usize, usize)) -> Vec<f32> {
        let dim = [REGION_DIM, WORD_DIM][side];
        (0..dim)
            .map(|j| self.kinds[side][kind * dim + j] + self.colours[side][colour * dim + j] + 0.3 * normal(&mut self.rng))
            .collect()
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| rng.random_range(-0.5_f32..0.5)).sum()
}

/// Pictures of four to six objects of different kinds, each with two texts that name two or three of them.
struct World {
    pictures: PartSets,
    texts: PartSets,
    picture_of: Vec<u32>,
}

impl World {
    /// With `twins`, every second picture is the one before with the colours of two objects exchanged, and all texts name these two.
    fn new(look: &mut Look, n: usize, twins: bool) -> Self {
        let (mut regions, mut n_regions, mut words, mut n_words, mut picture_of) = (vec![], vec![], vec![], vec![], vec![]);
        let mut last: Vec<(usize, usize)> = Vec::new();
        for picture in 0..n {
            let objects = if twins && picture % 2 == 1 {
                let mut twin = last.clone();
                (twin[0].1, twin[1].1) = (last[1].1, last[0].1);
                twin
            } else {
                let mut kinds: Vec<usize> = (0..N_KINDS).collect();
                kinds.shuffle(&mut look.rng);
                let n_objects = look.rng.random_range(4..=6);
                let first = look.rng.random_range(0..N_COLOURS);
                let other = (first + look.rng.random_range(1..N_COLOURS)) % N_COLOURS;
                let rest = (2..n_objects).map(|_| look.rng.random_range(0..N_COLOURS)).collect::<Vec<_>>();
                kinds.into_iter().zip([first, other].into_iter().chain(rest)).collect()
            };
            n_regions.push(objects.len());
            regions.extend(objects.iter().flat_map(|object| look.of(0, *object)));
            for _ in 0..2 {
                let mut rest: Vec<usize> = (2..objects.len()).collect();
                rest.shuffle(&mut look.rng);
                let mut named = vec![0, 1];
                named.extend(&rest[..1]);
                if !twins {
                    named = (0..objects.len()).collect();
                    named.shuffle(&mut look.rng);
                    named.truncate(look.rng.random_range(2..=3));
                }
                named.shuffle(&mut look.rng);
                n_words.push(named.len());
                words.extend(named.iter().flat_map(|at| look.of(1, objects[*at])));
                picture_of.push(picture as u32);
            }
            last = objects;
        }
        let pictures = PartSets::new(regions, REGION_DIM, n_regions).unwrap();
        let texts = PartSets::new(words, WORD_DIM, n_words).unwrap();
        Self { pictures, texts, picture_of }
    }

    fn captioned(&self) -> Captioned<'_> {
        Captioned::new(&self.pictures, &self.texts, &self.picture_of).unwrap()
    }

    /// A bridge of single vectors, fitted on the means of parts.
    fn bridge(&self, name: &str) -> PipelineSpace {
        let each: Vec<usize> = self.picture_of.iter().map(|picture| *picture as usize).collect();
        let means = [self.pictures.pick(&each).means(), self.texts.means()];
        let views = means.iter().zip([REGION_DIM, WORD_DIM]).map(|(x, dim)| MatrixView::new(x, dim).unwrap()).collect();
        MethodConfig::from_name(name).unwrap().fit(&Pairs::with_groups(views, &self.picture_of), &run()).unwrap()
    }

    /// The `k` closest pictures of each text by such a bridge.
    fn nearest(&self, bridge: &PipelineSpace, k: usize) -> Vec<Vec<u32>> {
        let project = |view: usize, x: Vec<f32>, dim: usize| {
            bridge.project(view, MatrixView::new(&x, dim).unwrap()).unwrap().data().to_vec()
        };
        let pictures = project(0, self.pictures.means(), REGION_DIM);
        let texts = project(1, self.texts.means(), WORD_DIM);
        let dim = pictures.len() / self.pictures.n();
        let rank = |text: &[f32]| {
            let score = |p: u32| -> f32 { pictures[p as usize * dim..][..dim].iter().zip(text).map(|(a, b)| a * b).sum() };
            let mut order: Vec<u32> = (0..self.pictures.n() as u32).collect();
            order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
            order.truncate(k);
            order
        };
        texts.chunks_exact(dim).map(rank).collect()
    }

    /// Share of texts whose first picture is theirs.
    fn r1(&self, ranked: &[Vec<u32>]) -> f64 {
        let hits = ranked.iter().zip(&self.picture_of).filter(|(ranked, picture)| ranked[0] == **picture).count();
        hits as f64 / self.picture_of.len() as f64
    }
}

fn small_scan() -> ScanConfig {
    ScanConfig { dim: 32, batch: 32, learning_rate: 5e-3, max_epochs: 25, ..ScanConfig::default() }
}

#[test]
fn cross_attention_finds_what_means_of_parts_blur() {
    let mut look = Look::new(1);
    let (fitted, tried) = (World::new(&mut look, 600, false), World::new(&mut look, 300, false));
    let of_means = ["cca", "infonce"].map(|name| {
        let figure = tried.r1(&tried.nearest(&fitted.bridge(name), 1));
        println!("{name} on means of parts: R@1 {figure:.3}");
        figure
    });
    let ways = [
        Attention { direction: Direction::TextToImage, sharpness: 9.0, pooling: Pooling::Mean },
        Attention { direction: Direction::ImageToText, sharpness: 4.0, pooling: Pooling::LogSumExp(5.0) },
    ];
    for attention in ways {
        let config = ScanConfig { attention, ..small_scan() };
        let scan = Scan::fit(&config, &fitted.captioned(), &run()).unwrap();
        let figure = tried.r1(&scan.rank_pictures(&tried.pictures, &tried.texts, 1).unwrap());
        println!("scan {attention:?}: R@1 {figure:.3}");
        assert!(figure > 0.15 + of_means[0].max(of_means[1]), "{attention:?}: {figure}, means {of_means:?}");
    }
}

#[test]
fn a_cross_encoder_puts_right_what_a_dual_encoder_cannot_tell() {
    let mut look = Look::new(2);
    let (fitted, tried) = (World::new(&mut look, 500, true), World::new(&mut look, 200, true));
    let bridge = fitted.bridge("infonce");
    let lists = tried.nearest(&bridge, 20);
    let before = tried.r1(&lists);
    let listed =
        lists.iter().zip(&tried.picture_of).filter(|(list, own)| list.contains(own)).count() as f64 / lists.len() as f64;
    let scan = Scan::fit(&small_scan(), &fitted.captioned(), &run()).unwrap();
    let of_fitted = fitted.nearest(&bridge, 20);
    let [after, unaligned] = [0.1, 0.0].map(|alignment| {
        let config = RerankerConfig { alignment, max_epochs: 12, ..RerankerConfig::default() };
        let reranker = Reranker::fit(&config, &fitted.captioned(), &of_fitted, &scan, &run()).unwrap();
        let after = tried.r1(&reranker.rerank(&tried.pictures, &tried.texts, &lists).unwrap());
        println!("infonce on means R@1 {before:.3}, R@20 {listed:.3}; reranked, alignment {alignment}: R@1 {after:.3}");
        after
    });
    assert!(after > before + 0.3, "{after}, before {before}, at most {listed}");
    assert!(after > unaligned, "{after}, without alignment {unaligned}");
    let scanned = tried.r1(&scan.rank_pictures(&tried.pictures, &tried.texts, 1).unwrap());
    println!("scan over the whole gallery: R@1 {scanned:.3}");
}

#[test]
fn the_seed_decides_whatever_the_threads() {
    let world = World::new(&mut Look::new(3), 60, false);
    let fit = |n_threads: usize, seed: u64| {
        rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap().install(|| {
            let run = Run { seed, ..run() };
            let scan = Scan::fit(&ScanConfig { max_epochs: 2, ..small_scan() }, &world.captioned(), &run).unwrap();
            let lists: Vec<Vec<u32>> = scan.rank_pictures(&world.pictures, &world.texts, 5).unwrap();
            let config = RerankerConfig { dim: 16, hidden: 16, max_epochs: 2, ..RerankerConfig::default() };
            (Reranker::fit(&config, &world.captioned(), &lists, &scan, &run).unwrap(), scan)
        })
    };
    let one = fit(1, 1);
    assert!(one == fit(4, 1));
    let other = fit(1, 2);
    assert!(one.0 != other.0 && one.1 != other.1);
}

#[test]
fn what_is_no_set_of_parts_is_an_error() {
    let message =
        |rows: Vec<f32>, dim: usize, lengths: &[usize]| PartSets::new(rows, dim, lengths.to_vec()).unwrap_err().to_string();
    assert_eq!(
        message(vec![0.0; 6], 2, &[1, 1]),
        "the sets have 2 parts together, and there are 3 rows: give the count of rows of each set"
    );
    assert!(message(vec![0.0; 6], 2, &[1, usize::MAX, 1]).starts_with("the sets have"));
    assert_eq!(message(vec![0.0; 6], 2, &[3, 0]), "set 1 has no parts: leave out what has none");
    assert_eq!(message(vec![0.0; 6], 0, &[3]), "a vector needs at least one dimension, got 0");
    assert_eq!(message(vec![0.0, 1.0, f32::NAN], 1, &[3]), "row 2, dimension 0 is NaN: every number must be finite");
    let found = |dim: usize| chiasm_core::Regions::new(vec![1.0; 2 * dim], dim, None).unwrap();
    assert_eq!(PartSets::of_regions(&[found(3), found(3)]).unwrap().lengths(), [2, 2]);
    assert_eq!(PartSets::of_regions(&[found(3), found(4)]), Err(SetError::Regions { picture: 1, got: 4, expected: 3 }));
    let world = World::new(&mut Look::new(4), 10, false);
    let refused = |picture_of: &[u32]| Captioned::new(&world.pictures, &world.texts, picture_of).unwrap_err();
    assert_eq!(refused(&[0]), SetError::Pairing { got: 1, expected: 20 });
    assert_eq!(refused(&[10; 20]).to_string(), "text 0 names picture 10, and there are 10 pictures, counted from 0");
}

#[test]
fn what_cannot_be_learned_is_an_error() {
    let world = World::new(&mut Look::new(5), 10, false);
    let scan = |config: ScanConfig| Scan::fit(&config, &world.captioned(), &run()).map(|_| ()).unwrap_err().to_string();
    let attention = small_scan().attention;
    assert_eq!(scan(ScanConfig { dim: 0, ..small_scan() }), "dim is 0: 1 to 4096");
    assert_eq!(
        scan(ScanConfig { margin: f64::NAN, ..small_scan() }),
        "margin is NaN: a difference of cosines above 0 and below 2"
    );
    assert_eq!(scan(ScanConfig { batch: 1, ..small_scan() }), "batch is 1: at least two, for one has nothing to be told from");
    assert!(scan(ScanConfig { learning_rate: f64::INFINITY, ..small_scan() }).starts_with("learning_rate is inf"));
    assert!(scan(ScanConfig { max_epochs: 0, ..small_scan() }).starts_with("max_epochs is 0"));
    assert!(
        scan(ScanConfig { attention: Attention { sharpness: -1.0, ..attention }, ..small_scan() })
            .starts_with("sharpness is -1")
    );
    let pooling = Pooling::LogSumExp(0.0);
    assert!(
        scan(ScanConfig { attention: Attention { pooling, ..attention }, ..small_scan() })
            .starts_with("lambda of the pooling is 0")
    );
    let same = PartSets::new(vec![0.5; 10 * REGION_DIM], REGION_DIM, vec![1; 10]).unwrap();
    let of_same = Captioned::new(&same, &world.texts, &world.picture_of).unwrap();
    assert!(matches!(Scan::fit(&small_scan(), &of_same, &run()), Err(FitError::Constant { view: 0, .. })));
    let one = Captioned::new(&world.pictures, &world.texts, &[0; 20]).unwrap();
    assert!(matches!(Scan::fit(&small_scan(), &one, &run()), Err(FitError::TooFewRows { got: 1, .. })));
    let none = PartSets::new(vec![], WORD_DIM, vec![]).unwrap();
    assert!(matches!(
        Scan::fit(&small_scan(), &Captioned::new(&world.pictures, &none, &[]).unwrap(), &run()),
        Err(FitError::TooFewRows { got: 0, .. })
    ));

    let fitted = Scan::fit(&ScanConfig { max_epochs: 1, ..small_scan() }, &world.captioned(), &run()).unwrap();
    let project = |view, expected, got| ProjectError::Dimension { view, expected, got };
    assert_eq!(fitted.scores(&world.texts, &world.texts), Err(project(0, REGION_DIM, WORD_DIM)));
    assert_eq!(fitted.rank_texts(&world.pictures, &world.pictures, 1), Err(project(1, WORD_DIM, REGION_DIM)));
    assert_eq!(fitted.rank_pictures(&world.pictures, &none, 1), Ok(vec![]));

    let lists = vec![vec![]; 20];
    let reranker = |config: RerankerConfig, lists: &[Vec<u32>]| {
        Reranker::fit(&config, &world.captioned(), lists, &fitted, &run()).map(|_| ()).unwrap_err().to_string()
    };
    let good = RerankerConfig { max_epochs: 1, ..RerankerConfig::default() };
    assert_eq!(
        reranker(RerankerConfig { n_heads: 3, ..good.clone() }, &lists),
        "dim is 64: 1 to 4096, and a multiple of n_heads"
    );
    assert_eq!(reranker(RerankerConfig { n_layers: 0, ..good.clone() }, &lists), "n_layers is 0: 1 to 48");
    assert!(reranker(RerankerConfig { alignment: f64::NAN, ..good.clone() }, &lists).starts_with("alignment is NaN"));
    assert_eq!(reranker(good.clone(), &lists[1..]), "19 lists of pictures for 20 texts: give one list for each text");
    assert!(reranker(good.clone(), &vec![vec![10]; 20]).starts_with("text 0 names picture 10"));
    // Without any list, wrong pictures are drawn from all.
    let reranker = Reranker::fit(&good, &world.captioned(), &lists, &fitted, &run()).unwrap();
    assert_eq!(reranker.rerank(&world.pictures, &world.texts, &lists), Ok(vec![vec![]; 20]));
    assert!(matches!(reranker.rerank(&world.texts, &world.texts, &vec![vec![]; 20]), Err(SetError::Project(_))));
}

const N_FUSED: usize = 1_500;
const N_TRIED: usize = 300;

/// Two views of three hidden numbers each, `[n, 8]` and `[n, 6]`, and a gallery view of all six and of the products of one half with the other, `[n, 10]`.
struct Halves {
    views: [Vec<f32>; 2],
    gallery: Vec<f32>,
    /// Whether the first numbers of both halves have one sign.
    classes: Vec<u32>,
}

const HALF_DIMS: [usize; 2] = [8, 6];
const GALLERY_DIM: usize = 10;

impl Halves {
    fn new(seed: u64, n: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut mix = |d: usize, from: usize| -> Vec<f32> { (0..d * from).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let mixes = [mix(HALF_DIMS[0], 3), mix(HALF_DIMS[1], 3)];
        let to_gallery = mix(GALLERY_DIM, 9);
        let mut halves = Self { views: Default::default(), gallery: Vec::new(), classes: Vec::new() };
        for _ in 0..n {
            let z: [f32; 6] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            let mut seen = |mix: &[f32], from: &[f32]| -> Vec<f32> {
                let row =
                    |w: &[f32]| w.iter().zip(from).map(|(w, z)| w * z).sum::<f32>() + 0.03 * rng.random_range(-1.0..1.0_f32);
                mix.chunks_exact(from.len()).map(row).collect()
            };
            (0..2).for_each(|half| halves.views[half].extend(seen(&mixes[half], &z[3 * half..3 * half + 3])));
            let products = [2.0 * z[0] * z[3], 2.0 * z[1] * z[4], 2.0 * z[2] * z[5]];
            halves.gallery.extend(seen(&to_gallery, &[&z[..], &products].concat()));
            halves.classes.push(u32::from(z[0] * z[3] > 0.0));
        }
        halves
    }

    fn queries<'a>(&'a self, rows: std::ops::Range<usize>, views: &[usize], present: Option<&'a [bool]>) -> Queries<'a> {
        let view =
            |v: &usize| MatrixView::new(&self.views[*v][rows.start * HALF_DIMS[*v]..rows.end * HALF_DIMS[*v]], HALF_DIMS[*v]);
        Queries::new(views.iter().map(|v| view(v).unwrap()).collect(), present).unwrap()
    }

    fn gallery(&self, rows: std::ops::Range<usize>) -> MatrixView<'_> {
        MatrixView::new(&self.gallery[rows.start * GALLERY_DIM..rows.end * GALLERY_DIM], GALLERY_DIM).unwrap()
    }
}

/// Shares of queries whose own row of the gallery is the first, and among the first ten.
fn found(fusion: &Fusion, items: &Queries<'_>, gallery: MatrixView<'_>) -> [f64; 2] {
    let (q, g) = (fusion.queries(items).unwrap(), fusion.gallery(gallery).unwrap());
    let n = items.n();
    let dim = q.len() / n;
    let rank = |i: usize| {
        let score = |j: usize| -> f32 { q[i * dim..][..dim].iter().zip(&g[j * dim..][..dim]).map(|(a, b)| a * b).sum() };
        let own = score(i);
        (0..gallery.n()).filter(|j| *j != i && score(*j) >= own).count()
    };
    let ranks: Vec<usize> = (0..n).map(rank).collect();
    [1, 10].map(|k| ranks.iter().filter(|rank| **rank < k).count() as f64 / n as f64)
}

const KINDS: [Kind; 3] = [Kind::Gated, Kind::Bilinear { factors: 2 }, Kind::Attention { n_heads: 4 }];

#[test]
fn fused_views_find_what_neither_finds_alone_and_dropout_prepares_for_one_missing() {
    let halves = Halves::new(1, N_FUSED + N_TRIED);
    let (fitted, tried) = (0..N_FUSED, N_FUSED..N_FUSED + N_TRIED);
    let gallery = halves.gallery(tried.clone());
    for kind in KINDS {
        let fit = |views: &[usize], modality_dropout: f64| {
            let config = FusionConfig { kind, dim: 32, batch: 64, modality_dropout, max_epochs: 30, ..FusionConfig::default() };
            let items = halves.queries(fitted.clone(), views, None);
            Fusion::fit(&config, &items, halves.gallery(fitted.clone()), None, &run()).unwrap()
        };
        let alone = [0, 1].map(|view| found(&fit(&[view], 0.0), &halves.queries(tried.clone(), &[view], None), gallery)[0]);
        let best_alone = alone[0].max(alone[1]);
        // R@10 lost when either view is missing, their mean.
        let [without, with] = [0.0, 0.3].map(|dropout| {
            let fusion = fit(&[0, 1], dropout);
            let there = |there: [bool; 2]| {
                let present = there.repeat(N_TRIED);
                found(&fusion, &halves.queries(tried.clone(), &[0, 1], Some(&present)), gallery)
            };
            let (all, one) = (there([true; 2]), [there([false, true])[1], there([true, false])[1]]);
            println!(
                "{kind:?}, dropout {dropout}: R@1 {:.3}, alone {alone:.3?}; R@10 {:.3}, one missing {one:.3?}",
                all[0], all[1]
            );
            assert!(all[0] > best_alone + 0.3, "{kind:?}, dropout {dropout}: {all:?}, alone {alone:?}");
            all[1] - (one[0] + one[1]) / 2.0
        });
        assert!(with < without - 0.02, "{kind:?}: R@10 lost with dropout {with:.3}, without {without:.3}");
    }
}

#[test]
fn fused_views_tell_classes_that_neither_tells_alone() {
    let halves = Halves::new(2, N_FUSED + N_TRIED);
    let hot: Vec<f32> =
        halves.classes.iter().flat_map(|class| [f32::from(u8::from(*class == 0)), f32::from(u8::from(*class == 1))]).collect();
    let of_classes = MatrixView::new(&hot[..2 * N_FUSED], 2).unwrap();
    let two = [1.0, 0.0, 0.0, 1.0];
    for kind in KINDS {
        let right = |views: &[usize]| {
            let config = FusionConfig { kind, dim: 32, batch: 64, modality_dropout: 0.0, ..FusionConfig::default() };
            let items = halves.queries(0..N_FUSED, views, None);
            let fusion = Fusion::fit(&config, &items, of_classes, Some(&halves.classes[..N_FUSED]), &run()).unwrap();
            let q = fusion.queries(&halves.queries(N_FUSED..N_FUSED + N_TRIED, views, None)).unwrap();
            let g = fusion.gallery(MatrixView::new(&two, 2).unwrap()).unwrap();
            let score = |q: &[f32], class: usize| -> f32 { q.iter().zip(&g[32 * class..]).map(|(a, b)| a * b).sum() };
            let told = q.chunks_exact(32).map(|q| u32::from(score(q, 1) > score(q, 0)));
            told.zip(&halves.classes[N_FUSED..]).filter(|(told, class)| told == *class).count() as f64 / N_TRIED as f64
        };
        let (alone, both) = ([right(&[0]), right(&[1])], right(&[0, 1]));
        println!("{kind:?}: classes right {both:.3}, alone {alone:.3?}");
        assert!(both > 0.85 && alone.iter().all(|alone| *alone < 0.6), "{kind:?}: {both}, alone {alone:?}");
    }
}

#[test]
fn fusion_is_decided_by_the_seed_and_looks_at_nothing_that_is_missing() {
    let mut halves = Halves::new(3, 80);
    let present: Vec<bool> = (0..80).flat_map(|i| [i % 3 != 0, i % 3 != 1]).collect();
    for kind in KINDS {
        let config = FusionConfig { kind, dim: 8, batch: 16, max_epochs: 2, ..FusionConfig::default() };
        let fit = |halves: &Halves, n_threads: usize, seed: u64| {
            rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap().install(|| {
                let items = halves.queries(0..80, &[0, 1], Some(&present));
                let fusion = Fusion::fit(&config, &items, halves.gallery(0..80), None, &Run { seed, ..run() }).unwrap();
                (fusion.queries(&items).unwrap(), fusion.gallery(halves.gallery(0..80)).unwrap())
            })
        };
        let one = fit(&halves, 1, 1);
        assert!(one == fit(&halves, 4, 1), "{kind:?}");
        assert!(one != fit(&halves, 1, 2), "{kind:?}");
        (0..80).filter(|i| i % 3 == 0).for_each(|i| halves.views[0][HALF_DIMS[0] * i] = f32::NAN);
        assert!(one == fit(&halves, 1, 1), "{kind:?}: what is missing was looked at");
    }
}

#[test]
fn what_cannot_be_fused_is_an_error() {
    let halves = Halves::new(4, 20);
    let view = |v: usize| MatrixView::new(&halves.views[v], HALF_DIMS[v]).unwrap();
    let refused = |views: Vec<MatrixView<'_>>, present: Option<&[bool]>| Queries::new(views, present).unwrap_err().to_string();
    assert_eq!(refused(vec![], None), "a query is made of one or more views, got none");
    let short = MatrixView::new(&halves.views[1][..6], 6).unwrap();
    assert_eq!(
        refused(vec![view(0), short], None),
        "view 1 has 1 rows, view 0 has 20: row i of every view must belong together"
    );
    assert!(refused(vec![view(0), view(1)], Some(&[true])).starts_with("whether a view is there is said 1 times, expected 40"));
    assert_eq!(refused(vec![view(0), view(1)], Some(&[false; 40])), "row 0 has no view at all: leave out what has none");
    let broken = [1.0, f32::NAN];
    let of_broken = refused(vec![MatrixView::new(&broken, 1).unwrap()], None);
    assert_eq!(of_broken, "view 0: row 1, dimension 0 is NaN: every number must be finite");

    let items = halves.queries(0..20, &[0, 1], None);
    let gallery = halves.gallery(0..20);
    let good = FusionConfig { max_epochs: 1, batch: 8, ..FusionConfig::default() };
    let refused = |config: FusionConfig| Fusion::fit(&config, &items, gallery, None, &run()).unwrap_err().to_string();
    assert_eq!(refused(FusionConfig { dim: 5000, ..good.clone() }), "dim is 5000: 1 to 4096");
    assert_eq!(
        refused(FusionConfig { modality_dropout: 1.0, ..good.clone() }),
        "modality_dropout is 1: a share of at least 0 and below 1"
    );
    assert_eq!(refused(FusionConfig { kind: Kind::Bilinear { factors: 0 }, ..good.clone() }), "factors is 0: 1 to 64");
    assert_eq!(
        refused(FusionConfig { kind: Kind::Attention { n_heads: 3 }, ..good.clone() }),
        "n_heads is 3: a divisor of dim"
    );
    let fit = |gallery: MatrixView<'_>, groups: Option<&[u32]>| Fusion::fit(&good, &items, gallery, groups, &run());
    assert!(matches!(fit(halves.gallery(0..10), None), Err(FitError::Rows { view: 2, got: 10, expected: 20 })));
    assert!(matches!(fit(gallery, Some(&[1, 2])), Err(FitError::Groups { got: 2, expected: 20 })));
    let same = vec![1.5; 20];
    assert!(matches!(fit(MatrixView::new(&same, 1).unwrap(), None), Err(FitError::Constant { view: 2, .. })));
    let mut broken = halves.gallery.clone();
    broken[3] = f32::INFINITY;
    assert!(matches!(fit(MatrixView::new(&broken, GALLERY_DIM).unwrap(), None), Err(FitError::Input { view: 2, .. })));

    let fusion = fit(gallery, None).unwrap();
    assert_eq!(fusion.queries(&halves.queries(0..20, &[0], None)), Err(SetError::Views { got: 1, expected: 2 }));
    let dimension = |view, expected, got| ProjectError::Dimension { view, expected, got };
    assert_eq!(fusion.queries(&halves.queries(0..20, &[1, 0], None)), Err(SetError::Project(dimension(0, 8, 6))));
    assert_eq!(fusion.gallery(view(0)), Err(dimension(2, GALLERY_DIM, 8)));
}
