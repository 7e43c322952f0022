//! What every method must do, run over the list of methods: a new method is tested by being listed.

use chiasm_align::{FitError, MethodConfig, Pairs, PipelineError, PipelineSpace, Preprocess, Run, evaluate};
use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, ProjectError, SharedSpace};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Views of one hidden thing: `[n, 4]` numbers, mixed differently in each view, with noise. The signs of the first two numbers are the
/// thing's class, 0 to 3.
struct World {
    views: Vec<(Vec<f32>, usize)>,
    classes: Vec<u32>,
}

impl World {
    fn new(seed: u64, n: usize, dims: &[usize], noise: f32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut number = move || rng.random_range(-1.0f32..1.0) + rng.random_range(-1.0f32..1.0);
        let hidden: Vec<f32> = (0..n * 4).map(|_| number()).collect();
        let view = |d: &usize| {
            let mix: Vec<f32> = (0..4 * d).map(|_| number()).collect();
            let shift: Vec<f32> = (0..*d).map(|_| 3.0 * number()).collect();
            let row = |h: &[f32]| {
                (0..*d)
                    .map(|j| shift[j] + (0..4).map(|i| h[i] * mix[i * d + j]).sum::<f32>() + noise * number())
                    .collect::<Vec<f32>>()
            };
            (hidden.chunks(4).flat_map(row).collect(), *d)
        };
        let classes = hidden.chunks(4).map(|h| u32::from(h[0] > 0.0) + 2 * u32::from(h[1] > 0.0)).collect();
        Self { views: dims.iter().map(view).collect(), classes }
    }

    fn pairs(&self, rows: std::ops::Range<usize>) -> Pairs<'_> {
        Pairs::new(
            self.views.iter().map(|(data, d)| MatrixView::new(&data[rows.start * d..rows.end * d], *d).unwrap()).collect(),
        )
    }
}

/// The classes of some rows of a world, for a method that learns from them.
fn labels_for(method: &MethodConfig, classes: &[u32]) -> Option<Labels> {
    method.needs_labels().then(|| Labels::from_rows(&classes.iter().map(|c| vec![*c]).collect::<Vec<_>>(), 4).unwrap())
}

/// Rows of a world that hold all that a method needs.
struct Given<'a> {
    pairs: Pairs<'a>,
    labels: Option<Labels>,
}

impl Given<'_> {
    fn pairs(&self) -> Pairs<'_> {
        Pairs { labels: self.labels.as_ref(), ..self.pairs.clone() }
    }
}

fn given<'a>(method: &MethodConfig, world: &'a World, rows: std::ops::Range<usize>) -> Given<'a> {
    Given { labels: labels_for(method, &world.classes[rows.clone()]), pairs: world.pairs(rows) }
}

fn methods() -> Vec<MethodConfig> {
    MethodConfig::names().iter().map(|name| MethodConfig::from_name(name).unwrap()).collect()
}

/// Two views for a method of two, three for one that takes more.
fn world_for(method: &MethodConfig, n: usize) -> World {
    let dims = [9, 6, 7];
    World::new(3, n, &dims[..3.min(*method.n_views().end())], 0.3)
}

fn fit(method: &MethodConfig, pairs: &Pairs<'_>) -> Result<PipelineSpace, FitError> {
    method.fit(pairs, &Run { seed: 5, progress: &NoProgress, cancel: &Cancel::default(), draft: None })
}

#[test]
fn names_and_methods_are_one_list() {
    for (method, name) in methods().iter().zip(MethodConfig::names()) {
        assert_eq!(method.name(), *name);
        assert!(!method.parameters().is_empty());
    }
    let error = MethodConfig::from_name("magic").unwrap_err();
    let names = MethodConfig::names().join(", ");
    assert_eq!(error.to_string(), format!("there is no method `magic`: expected one of {names}"));
}

#[test]
fn the_same_seed_gives_the_same_space_whatever_the_threads() {
    for method in methods() {
        let world = world_for(&method, 80);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let given = given(&method, &world, 0..80);
        let run = Run { seed: 5, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        let fit = || method.fit_with_codes(&given.pairs(), &run).unwrap();
        let (a, b) = (one.install(fit), three.install(fit));
        assert!(a.space.to_bytes() == b.space.to_bytes() && a.codes == b.codes, "{}", method.name());
        if let Some(codes) = &a.codes {
            assert_eq!((codes.n(), Some(codes.dim())), (80, a.space.n_bits()), "{}", method.name());
            assert!(codes.data().iter().all(|bit| bit.abs() == 1.0), "{}", method.name());
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for method in methods() {
        let world = world_for(&method, 80);
        let given = given(&method, &world, 0..80);
        let pairs = given.pairs();
        let space = fit(&method, &pairs).unwrap();
        for (v, x) in pairs.views.iter().enumerate() {
            let all = space.project(v, *x).unwrap();
            assert_eq!((all.n(), all.dim()), (80, space.dim()));
            for i in [0, 1, 15, 16, 17, 79] {
                let alone = space.project(v, MatrixView::new(x.row(i), x.dim()).unwrap()).unwrap();
                assert_eq!(alone.row(0), all.row(i), "{} view {v} row {i}", method.name());
                let norm: f32 = all.row(i).iter().map(|z| z * z).sum();
                assert!((norm - 1.0).abs() < 1e-5, "{} gives rows of unit length", method.name());
            }
        }
    }
}

#[test]
fn saving_and_loading_is_the_identity() {
    for method in methods() {
        let world = world_for(&method, 80);
        let space = fit(&method, &given(&method, &world, 0..80).pairs()).unwrap();
        let bytes = space.to_bytes();
        let loaded = PipelineSpace::from_bytes(&bytes).unwrap();
        assert_eq!(loaded, space);
        assert_eq!(loaded.to_bytes(), bytes);
        assert_eq!(loaded.about().method, method.name());
    }
}

#[test]
fn damaged_bytes_are_an_error() {
    let method = MethodConfig::from_name("cca").unwrap();
    let world = world_for(&method, 40);
    let bytes = fit(&method, &world.pairs(0..40)).unwrap().to_bytes();
    for cut in (0..bytes.len()).step_by(7) {
        assert!(PipelineSpace::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut claims = bytes.clone();
    claims[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(PipelineSpace::from_bytes(&claims), Err(PipelineError::Bytes { .. })));
    let text = String::from_utf8_lossy(&bytes).replace("\\\"format\\\":1", "\\\"format\\\":9");
    // The header is ASCII; the numbers after it are of no interest here.
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut newer = bytes.clone();
    newer[8..end].copy_from_slice(&text.as_bytes()[text.find('{').unwrap()..][..end - 8]);
    assert_eq!(PipelineSpace::from_bytes(&newer), Err(PipelineError::Format { got: 9 }));
}

proptest! {
    /// Any change of any bytes gives a space or an error, and a space read has passed every check.
    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 1..6)) {
        let names = [1.0, 0.0, 0.5, 0.0, 1.0, 0.5];
        let mut bytes = chiasm_align::conse::space(2, MatrixView::new(&names, 3).unwrap()).unwrap().to_bytes();
        for (at, value) in changes {
            let place = (at * bytes.len() as f64) as usize;
            bytes[place] = value;
        }
        if let Ok(space) = PipelineSpace::from_bytes(&bytes) {
            let x = vec![0.5; space.input_dim(0).unwrap()];
            prop_assert!(space.project(0, MatrixView::new(&x, x.len()).unwrap()).is_ok());
        }
    }
}

#[test]
fn bad_input_is_an_error() {
    for method in methods() {
        let name = method.name();
        let world = world_for(&method, 40);
        let given = given(&method, &world, 0..40);
        let good = given.pairs();
        if method.needs_labels() {
            assert!(matches!(fit(&method, &world.pairs(0..40)), Err(FitError::NoLabels { .. })), "{name}");
            for classes in [vec![vec![]; 40], vec![vec![1]; 40]] {
                let labels = Labels::from_rows(&classes, 4).unwrap();
                let pairs = Pairs { labels: Some(&labels), ..good.clone() };
                assert!(matches!(fit(&method, &pairs), Err(FitError::NoLabels { .. })), "{name}");
            }
        }
        let few = Labels::single(&[0, 1, 2]);
        let few = Pairs { labels: Some(&few), ..good.clone() };
        assert_eq!(fit(&method, &few), Err(FitError::Labels { got: 3, expected: 40 }), "{name}");
        let mut one_view = good.clone();
        one_view.views.truncate(1);
        assert!(matches!(fit(&method, &one_view), Err(FitError::Views { got: 1, .. })), "{name}");
        assert!(matches!(fit(&method, &world.pairs(0..0)), Err(FitError::TooFewRows { got: 0, .. })), "{name}");
        assert!(matches!(fit(&method, &world.pairs(0..1)), Err(FitError::TooFewRows { got: 1, .. })), "{name}");
        let mut uneven = good.clone();
        uneven.views[1] = world.pairs(0..39).views[1];
        assert_eq!(fit(&method, &uneven), Err(FitError::Rows { view: 1, got: 39, expected: 40 }), "{name}");
        let groups = [0; 7];
        let groups = Pairs { groups: Some(&groups), ..good.clone() };
        assert_eq!(fit(&method, &groups), Err(FitError::Groups { got: 7, expected: 40 }), "{name}");
        for bad in [f32::NAN, f32::INFINITY] {
            let mut data = good.views[1].data().to_vec();
            data[13] = bad;
            let mut pairs = good.clone();
            pairs.views[1] = MatrixView::new(&data, good.views[1].dim()).unwrap();
            assert!(matches!(fit(&method, &pairs), Err(FitError::Input { view: 1, .. })), "{name}");
        }
        // 0.1 is not its own mean once summed and divided.
        for level in [2.5, 0.1, 0.0] {
            let flat = vec![level; 40 * 3];
            let mut pairs = good.clone();
            pairs.views[0] = MatrixView::new(&flat, 3).unwrap();
            assert!(matches!(fit(&method, &pairs), Err(FitError::Constant { view: 0, .. })), "{name} {level}");
        }

        let space = fit(&method, &good).unwrap();
        let wrong = MatrixView::new(&[0.0; 8], 4).unwrap();
        assert_eq!(space.project(0, wrong), Err(ProjectError::Dimension { view: 0, expected: 9, got: 4 }), "{name}");
        let none = ProjectError::NoSuchView { view: 9, n_views: good.views.len() };
        assert_eq!(space.project(9, wrong), Err(none), "{name}");
        let nan = [f32::NAN; 9];
        assert!(matches!(space.project(0, MatrixView::new(&nan, 9).unwrap()), Err(ProjectError::Shape(_))), "{name}");
        assert_eq!(space.project(0, MatrixView::new(&[], 9).unwrap()).unwrap().n(), 0, "{name}");
    }
}

#[test]
fn hyper_parameters_out_of_range_are_an_error() {
    let world = World::new(1, 20, &[4, 3], 0.3);
    let pairs = world.pairs(0..20);
    let cca = chiasm_align::CcaConfig::default();
    let with = |change: &dyn Fn(&mut chiasm_align::CcaConfig)| {
        let mut config = cca.clone();
        change(&mut config);
        fit(&MethodConfig::Cca(config), &pairs).unwrap_err().to_string()
    };
    assert_eq!(with(&|c| c.views[0].ridge = -1.0), "ridge is -1: a ridge is a finite number of at least 0");
    assert_eq!(with(&|c| c.views[1].pca_dim = Some(0)), "pca_dim is 0: at least one component is kept");
    assert_eq!(with(&|c| c.max_components = 0), "max_components is 0: at least one coordinate is kept");
    assert_eq!(
        with(&|c| c.correlation_power = f64::NAN),
        "correlation_power is NaN: the power is a finite number of at least 0"
    );
    let power = with(&|c| c.views[0].preprocess = Preprocess::Power(2.0));
    assert_eq!(power, "preprocess is 2: the exponent of a power must be above 0 and at most 1");
}

#[test]
fn beats_chance_clearly_on_unseen_rows() {
    for method in methods() {
        let world = world_for(&method, 300);
        let space = fit(&method, &given(&method, &world, 0..200).pairs()).unwrap();
        let figures = evaluate(&space, &given(&method, &world, 200..300).pairs()).unwrap();
        for d in &figures.directions {
            assert_eq!((d.n_queries, d.n_gallery), (100, 100.0));
            // Chance is 0.1 for R@10 (equal scores count against a method, and codes have many), about 0.28 for MAP. Procrustes may
            // only turn, and stays below the others.
            let (figure, bar) = match (d.map, space.n_bits()) {
                (Some(map), Some(_)) => (map, 0.36),
                (Some(map), None) => (map, 0.5),
                (None, Some(_)) => (d.r10, 0.25),
                (None, None) => (d.r10, 0.6),
            };
            assert!(figure > bar, "{} finds view {} from view {} at {figure}", method.name(), d.to, d.from);
        }
    }
}

#[test]
fn chooses_hyper_parameters_that_do_no_worse_than_the_start() {
    for method in methods() {
        let world = world_for(&method, 120);
        let given = given(&method, &world, 0..120);
        let pairs = given.pairs();
        let run = Run { seed: 5, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        let chosen = MethodConfig::auto(method.name(), &pairs, 4, &run).unwrap();
        assert!(chosen.figures.mean() >= chosen.tried[0].figures.mean() && chosen.tried.len() > 3, "{}", method.name());
        // What is learned by steps takes long, and that its seed decides is seen by itself.
        if !method.parameters().iter().any(|(name, _)| name == "max_epochs") {
            assert_eq!(chosen, MethodConfig::auto(method.name(), &pairs, 4, &run).unwrap(), "the seed decides");
        }
        assert!(chosen.figures.directions.iter().all(|d| d.n_queries == 120 && d.n_gallery == 30.0));
        let again = chiasm_align::cross_validate(&[method.clone(), chosen.config.clone()], &pairs, 4, &run).unwrap();
        assert!(again.figures.mean() >= again.tried[0].figures.mean());
    }
}

#[test]
fn hard_sets_are_fitted_or_refused_with_a_reason() {
    for method in methods() {
        let name = method.name();
        let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        let n_views = 3.min(*method.n_views().end());
        // Twenty pairs of more dimensions than rows.
        let world = World::new(2, 20, &[200, 64, 30][..n_views], 0.2);
        let given = given(&method, &world, 0..20);
        let chosen = MethodConfig::auto(name, &given.pairs(), 5, &run).unwrap();
        let space = chosen.config.fit(&given.pairs(), &run).unwrap();
        let known = evaluate(&space, &given.pairs()).unwrap().mean();
        // With labels it is MAP over classes (chance 0.35) that were drawn through noise, and equal codes count against a method.
        let bar = match (space.n_bits(), method.needs_labels()) {
            (Some(_), _) => 0.5,
            (None, true) => 0.7,
            (None, false) => 0.9,
        };
        assert!(known > bar, "{name} knows what it was fitted on: {known}");
        // Constant columns, columns that repeat others, rows that repeat others.
        let (mut views, rows) = (world.views.clone(), 20);
        for (data, d) in &mut views {
            for i in 0..rows {
                data[i * *d] = 1.0;
                data[i * *d + 2] = data[i * *d + 1];
                if i >= 10 {
                    let copy = data[(i - 10) * *d..(i - 9) * *d].to_vec();
                    data[i * *d..(i + 1) * *d].copy_from_slice(&copy);
                }
            }
        }
        let groups: Vec<u32> = (0..20).map(|i| i % 10).collect();
        let views = views.iter().map(|(data, d)| MatrixView::new(data, *d).unwrap()).collect();
        let labels = labels_for(&method, &[&world.classes[..10], &world.classes[..10]].concat());
        let pairs = Pairs { views, groups: Some(&groups), labels: labels.as_ref() };
        let chosen = MethodConfig::auto(name, &pairs, 5, &run).unwrap();
        assert!(chosen.figures.directions.iter().all(|d| d.n_gallery == 2.0), "{name}: equal rows of a group are one thing");
        chosen.config.fit(&pairs, &run).unwrap();
        // Too few groups for the folds; folds that are none; a stop.
        let error = MethodConfig::auto(name, &pairs, 11, &run).unwrap_err();
        assert!(matches!(error, FitError::TooFewRows { got: 10, least: 11, .. }), "{name}: {error}");
        assert!(matches!(MethodConfig::auto(name, &pairs, 1, &run), Err(FitError::Config { name: "folds", .. })), "{name}");
        let stop = Cancel::default();
        stop.cancel();
        let stopped = Run { cancel: &stop, ..run };
        assert!(matches!(MethodConfig::auto(name, &pairs, 5, &stopped), Err(FitError::Cancelled(_))), "{name}");
        assert!(matches!(method.fit(&pairs, &stopped), Err(FitError::Cancelled(_))), "{name}");
        // Numbers near the limits of f32.
        let huge: Vec<Vec<f32>> = world.views.iter().map(|(data, _)| data.iter().map(|x| x * 1e37).collect()).collect();
        let views = huge.iter().zip(&world.views).map(|(data, (_, d))| MatrixView::new(data, *d).unwrap()).collect();
        let _ = method.fit(&Pairs { views, ..given.pairs() }, &run);
    }
}

#[test]
fn counts_are_weighted_by_rarity() {
    // Column 0 is in every row, column 1 in one: whole numbers, most of them 0.
    let counts = [3.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 3.0, 1.0, 0.0, 0.0, 3.0, 0.0, 2.0, 0.0];
    let view = MatrixView::new(&counts, 4).unwrap();
    assert_eq!(Preprocess::choices(view), [Preprocess::LogIdf]);
    let other = [1.0, 2.0, -3.0, 4.5];
    let mut config = chiasm_align::CcaConfig::default();
    config.views[0].preprocess = Preprocess::LogIdf;
    let pairs = Pairs::new(vec![view, MatrixView::new(&other, 1).unwrap()]);
    let space = fit(&MethodConfig::Cca(config), &pairs).unwrap();
    let chiasm_align::Step::LogIdf { idf } = &space.views()[0].steps[0] else { panic!("the first step learns the rarity") };
    assert_eq!(idf[0], 1.0);
    assert!((idf[1] - ((5.0f32 / 2.0).ln() + 1.0)).abs() < 1e-6 && (idf[3] - (5.0f32.ln() + 1.0)).abs() < 1e-6);
    assert_eq!(Preprocess::choices(MatrixView::new(&[0.6, 0.8, 1.0, 0.0], 2).unwrap()), [Preprocess::None]);
    let histogram = MatrixView::new(&[0.2, 1.8, 1.5, 0.5], 2).unwrap();
    assert_eq!(Preprocess::choices(histogram), [Preprocess::Power(0.5), Preprocess::None]);
}

#[test]
fn a_view_joins_through_another() {
    let world = World::new(4, 60, &[8, 5], 0.2);
    let pairs = world.pairs(0..60);
    let space = fit(&MethodConfig::from_name("cca").unwrap(), &pairs).unwrap();
    // Three classes of sounds whose names stand at the first three texts.
    let text = pairs.views[1];
    let names = MatrixView::new(&text.data()[..15], 5).unwrap();
    let joint = space.clone().with_view_through(1, 3, chiasm_align::conse::steps(1, names)).unwrap();
    let sure = joint.project(2, MatrixView::new(&[0.1, 0.7, 0.2], 3).unwrap()).unwrap();
    let name: Vec<f32> = {
        let norm = names.row(1).iter().map(|x| x * x).sum::<f32>().sqrt();
        names.row(1).iter().map(|x| x / norm).collect()
    };
    let text = joint.project(1, MatrixView::new(&name, 5).unwrap()).unwrap();
    assert!(sure.row(0).iter().zip(text.row(0)).all(|(a, b)| (a - b).abs() < 1e-5));
    assert_eq!(PipelineSpace::from_bytes(&joint.to_bytes()).unwrap(), joint);
    let wrong = space.clone().with_view_through(0, 3, chiasm_align::conse::steps(1, names));
    assert_eq!(wrong, Err(PipelineError::Through { view: 0, got: 5, expected: 8 }));
    assert_eq!(joint.select_views(&[2, 1]).unwrap().input_dim(0), Some(3));
}

/// Rows of no class, of several, a class of one row (missing from most folds), classes that no row has.
#[test]
fn uneven_labels_are_learned_from() {
    let run = Run { seed: 5, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    for method in methods().iter().filter(|m| m.needs_labels()) {
        let name = method.name();
        let world = world_for(method, 60);
        let of_row = |(i, class): (usize, &u32)| match i {
            7 => vec![9],
            _ if i % 3 == 0 => Vec::new(),
            _ if i % 5 == 0 => vec![*class, 5],
            _ => vec![*class],
        };
        let classes: Vec<Vec<u32>> = world.classes.iter().enumerate().map(of_row).collect();
        let labels = Labels::from_rows(&classes, 12).unwrap();
        let pairs = Pairs { labels: Some(&labels), ..world.pairs(0..60) };
        let space = fit(method, &pairs).unwrap();
        // Of two directions of equal value any two of their plane may come, so that a few bits can cut across the classes; and equal codes
        // count against a method. Codes must be clearly above chance, which is the share of right answers.
        let known: Vec<usize> = (0..60).filter(|i| !labels.of(*i).is_empty()).collect();
        let right = known.iter().map(|i| (0..60).filter(|j| labels.share(*i, &labels, *j)).count()).sum::<usize>();
        let chance = right as f64 / (known.len() * 60) as f64;
        let bar = if space.n_bits().is_some() { chance + 0.08 } else { 0.5 };
        let figure = evaluate(&space, &pairs).unwrap().mean();
        assert!(figure > bar, "{name} {figure}, chance {chance}");
        // Each row of its own class; and all but one row of one class, so that some folds see one class alone.
        let own: Vec<u32> = (0..20).collect();
        let one: Vec<u32> = (0..20).map(|i| u32::from(i == 3)).collect();
        for classes in [own, one] {
            let labels = Labels::single(&classes);
            let pairs = Pairs { labels: Some(&labels), ..world.pairs(0..20) };
            let has_reason = |error: FitError| {
                let expected =
                    matches!(error, FitError::Unrelated { .. } | FitError::Numeric { .. } | FitError::NoLabels { .. });
                assert!(expected, "{name}: {error}");
            };
            match fit(method, &pairs) {
                Ok(space) => assert!(space.dim() > 0, "{name}"),
                Err(error) => has_reason(error),
            }
            match MethodConfig::auto(name, &pairs, 5, &run) {
                Ok(chosen) => assert!(chosen.figures.mean().is_finite(), "{name}"),
                Err(error) => has_reason(error),
            }
        }
    }
}

/// Rows that come in chunks, of any size, give the space that they give together.
#[test]
fn chunks_are_the_same_as_the_whole() {
    let run = Run { seed: 5, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let mut fitted = Vec::new();
    for method in methods() {
        let world = world_for(&method, 200);
        let dims: Vec<usize> = world.views.iter().map(|(_, d)| *d).collect();
        let n_classes = method.needs_labels().then_some(4);
        let mut moments = match method.moments(&dims, n_classes) {
            Ok(moments) => moments,
            Err(error) => {
                assert!(matches!(error, FitError::NeedsRows { .. }), "{}: {error}", method.name());
                continue;
            }
        };
        fitted.push(method.name());
        for rows in [0..1, 1..50, 50..50, 50..173, 173..200] {
            moments.add(&given(&method, &world, rows).pairs()).unwrap();
        }
        let whole = given(&method, &world, 0..200);
        let (batch, chunked) = (fit(&method, &whole.pairs()).unwrap(), method.fit_moments(&moments, &run).unwrap());
        for (v, x) in whole.pairs.views.iter().enumerate() {
            let (a, b) = (batch.project(v, *x).unwrap(), chunked.project(v, *x).unwrap());
            // Spaces are kept in f32; `moments` has a test of the sums themselves.
            let off = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{} view {v}: {off}", method.name());
        }
        // What does not fit is refused, and adds nothing.
        let narrow = World::new(1, 3, &[2, 2, 2][..dims.len()], 0.1);
        let refused = moments.clone().add(&given(&method, &narrow, 0..3).pairs());
        assert!(matches!(refused, Err(FitError::Columns { view: 0, got: 2, .. })), "{}", method.name());
        let mut nan = whole.pairs.views[1].data().to_vec();
        nan[5] = f32::NAN;
        let mut bad = whole.pairs();
        bad.views[1] = MatrixView::new(&nan, dims[1]).unwrap();
        assert!(matches!(moments.add(&bad), Err(FitError::Input { view: 1, .. })) && moments.n() == 200);
        let none = method.moments(&dims, n_classes).unwrap();
        let refused = method.fit_moments(&none, &run);
        assert!(matches!(refused, Err(FitError::TooFewRows { got: 0, .. })), "{}", method.name());
    }
    let expected = ["cca", "mcca", "pls", "ridge", "cvh", "ssh", "scm-orth", "gcca", "procrustes", "cca-3v", "label-ridge"];
    assert_eq!(fitted, expected);
}
