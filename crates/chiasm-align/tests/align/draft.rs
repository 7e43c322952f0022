//! A fit that is stopped, again and again, and goes on from its draft ends in the same space, to the bit.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chiasm_align::deep::brivl::BrivlConfig;
use chiasm_align::deep::dcca::DccaConfig;
use chiasm_align::deep::ddh::DdhConfig;
use chiasm_align::deep::generative::adversarial::Adversarial;
use chiasm_align::deep::generative::cyclegan::CycleGan;
use chiasm_align::deep::generative::unpaired::{Unpaired, UnpairedMethod};
use chiasm_align::deep::infonce::InfoNceConfig;
use chiasm_align::deep::ucch::UcchConfig;
use chiasm_align::deep::{TowerConfig, bind};
use chiasm_align::graphs::{GraphError, GraphMethod, ItemTagGraph, Recommender, RecommenderConfig, TrainingEdges};
use chiasm_align::parts::fusion::{Fusion, FusionConfig, Queries};
use chiasm_align::parts::reranker::{Reranker, RerankerConfig};
use chiasm_align::parts::scan::{Scan, ScanConfig};
use chiasm_align::parts::{Captioned, PartSets};
use chiasm_align::{Draft, FitError, FolderDraft, MethodConfig, Pairs, Run};
use chiasm_core::{Cancel, Labels, MatrixView, NoProgress};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMS: [usize; 2] = [8, 6];
const N: usize = 160;

/// A draft in memory that asks for a stop when it was written so many times.
#[derive(Default)]
struct Stopping {
    parts: Mutex<HashMap<String, Vec<u8>>>,
    left: AtomicUsize,
    cancel: Cancel,
}

impl Draft for Stopping {
    fn get(&self, part: &str) -> Option<Vec<u8>> {
        self.parts.lock().unwrap().get(part).cloned()
    }

    fn put(&self, part: &str, bytes: &[u8]) -> Result<(), String> {
        self.parts.lock().unwrap().insert(part.to_owned(), bytes.to_vec());
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
        Ok(())
    }

    fn forget(&self, part: &str) {
        self.parts.lock().unwrap().remove(part);
    }

    fn every(&self, _took: Duration) -> Duration {
        Duration::ZERO
    }
}

/// Fits until it is done, stopped again and again after so few writes that a fit which did not go on would never end; says how often.
fn in_pieces<T>(fit: impl Fn(&Run<'_>) -> Result<T, FitError>) -> (T, usize) {
    in_pieces_of(2, fit)
}

/// The same with a number of writes of one's own.
fn in_pieces_of<T>(writes: usize, fit: impl Fn(&Run<'_>) -> Result<T, FitError>) -> (T, usize) {
    let mut parts = HashMap::new();
    for n_stops in 0..1_000 {
        let draft = Stopping { parts: Mutex::new(parts), left: AtomicUsize::new(writes), cancel: Cancel::default() };
        match fit(&Run { seed: 3, progress: &NoProgress, cancel: &draft.cancel, draft: Some(&draft) }) {
            Ok(done) => return (done, n_stops),
            Err(FitError::Cancelled(_)) => parts = draft.parts.into_inner().unwrap(),
            Err(e) => panic!("{e}"),
        }
    }
    panic!("it never ends")
}

/// Two views of the same hidden numbers, and a class for each row.
struct World {
    views: [Vec<f32>; 2],
    labels: Labels,
}

impl World {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut number = || rng.random_range(-1.0_f32..1.0);
        let mixes = DIMS.map(|dim| (0..3 * dim).map(|_| number()).collect::<Vec<f32>>());
        let (mut views, mut classes) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..N {
            let z: [f32; 3] = std::array::from_fn(|_| number());
            classes.push(u32::from(z[0] > 0.0) + 2 * u32::from(z[1] > 0.0));
            for v in 0..2 {
                let mixed = |j: usize| (0..3).map(|i| z[i] * mixes[v][3 * j + i]).sum::<f32>();
                views[v].extend((0..DIMS[v]).map(|j| mixed(j) + 0.1 * number()));
            }
        }
        Self { views, labels: Labels::single(&classes) }
    }

    fn view(&self, view: usize) -> MatrixView<'_> {
        MatrixView::new(&self.views[view], DIMS[view]).unwrap()
    }

    fn pairs(&self) -> Pairs<'_> {
        Pairs::with_labels(vec![self.view(0), self.view(1)], &self.labels)
    }
}

/// Several steps of an epoch, few epochs.
fn towers(like: TowerConfig) -> TowerConfig {
    TowerConfig { dim: 4, hidden: 8, batch: 40, max_epochs: 4, ..like }
}

#[test]
fn towers_go_on_at_the_step_at_which_they_were() {
    let world = World::new();
    let mut methods = Vec::new();
    macro_rules! small {
        ($($method:ident($config:ty)),*) => {
            $(methods.push(MethodConfig::$method({
                let default = <$config>::default();
                chiasm_align::deep::DeepConfig { towers: towers(default.towers), objective: default.objective }
            }));)*
        };
    }
    // Beside the plain one those that remember: keys, means of codes, codes; and one whose outputs go through what all rows say in the end.
    small!(InfoNce(InfoNceConfig), Brivl(BrivlConfig), Ucch(UcchConfig), Ddh(DdhConfig), Dcca(DccaConfig));
    for method in methods {
        let pairs = Pairs { labels: method.needs_labels().then_some(&world.labels), ..world.pairs() };
        let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        let through = method.fit(&pairs, &run).unwrap();
        let (pieced, n_stops) = in_pieces(|run| method.fit(&pairs, run));
        assert_eq!(through, pieced, "{}", method.name());
        assert!(n_stops > 4, "{}: {n_stops} stops are none", method.name());
    }
}

#[test]
fn a_search_does_not_try_again_what_it_knows() {
    let world = World::new();
    let pairs = Pairs { labels: None, ..world.pairs() };
    // Of the learned one each fold's training is cut into pieces, too; every fold writes once more of what is done before the next step.
    let mut small =
        MethodConfig::InfoNce(InfoNceConfig { towers: towers(InfoNceConfig::default().towers), ..Default::default() });
    if let MethodConfig::InfoNce(config) = &mut small {
        config.towers.max_epochs = 2;
    }
    let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let through = small.clone().auto_from(&pairs, 3, &run).unwrap();
    let (pieced, n_stops) = in_pieces_of(12, |run| small.clone().auto_from(&pairs, 3, run));
    assert_eq!(through, pieced);
    assert!(n_stops > 8, "{n_stops} stops are none");
    for name in ["cca", "pls", "scm-seq"] {
        let pairs = Pairs { labels: (name == "scm-seq").then_some(&world.labels), ..pairs.clone() };
        let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        let through = MethodConfig::auto(name, &pairs, 4, &run).unwrap();
        let (pieced, n_stops) = in_pieces(|run| MethodConfig::auto(name, &pairs, 4, run));
        assert_eq!(through, pieced, "{name}");
        assert!(n_stops > 2, "{name}: {n_stops} stops are none");
    }
}

#[test]
fn tries_without_pairs_and_bound_views_go_on() {
    let world = World::new();
    let rows = Unpaired { views: [world.view(0), world.view(1)] };
    let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let cyclegan = CycleGan { dim: 3, hidden: 4, epochs: 2, tries: 5, ..CycleGan::default() };
    let adversarial = Adversarial { dim: 3, hidden: 4, steps: 5, rounds: 2, tries: 5, ..Adversarial::default() };
    for method in [UnpairedMethod::CycleGan(cyclegan), UnpairedMethod::Adversarial(adversarial)] {
        let through = method.fit(&rows, &run).unwrap();
        let (pieced, n_stops) = in_pieces(|run| method.fit(&rows, run));
        assert_eq!(through, pieced, "{}", method.name());
        assert!(n_stops > 1, "{}: {n_stops} stops are none", method.name());
    }
    let pairs = Pairs { labels: None, ..world.pairs() };
    let space = MethodConfig::from_name("cca").unwrap().fit(&pairs, &run).unwrap();
    let method = MethodConfig::from_name("infonce").unwrap();
    let through = bind::bind(&space, 0, &pairs, &method, &run).unwrap();
    let (pieced, n_stops) = in_pieces(|run| bind::bind(&space, 0, &pairs, &method, run));
    assert_eq!(through, pieced);
    assert!(n_stops > 4, "{n_stops} stops are none");
}

#[test]
fn models_of_parts_go_on_at_the_step_at_which_they_were() {
    let world = World::new();
    // Pictures of two regions each, texts of two words.
    let [pictures, texts] = [0, 1].map(|view| PartSets::new(world.views[view].clone(), DIMS[view], vec![2; N / 2]).unwrap());
    let picture_of: Vec<u32> = (0..N as u32 / 2).collect();
    let data = Captioned::new(&pictures, &texts, &picture_of).unwrap();
    let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let config = ScanConfig { dim: 8, batch: 20, max_epochs: 4, ..ScanConfig::default() };
    let scan = Scan::fit(&config, &data, &run).unwrap();
    let (pieced, n_stops) = in_pieces(|run| Scan::fit(&config, &data, run));
    assert_eq!(scan, pieced);
    assert!(n_stops > 3, "{n_stops} stops are none");

    let lists = scan.rank_pictures(&pictures, &texts, 5).unwrap();
    let config = RerankerConfig { dim: 8, hidden: 8, batch: 20, max_epochs: 2, ..RerankerConfig::default() };
    let through = Reranker::fit(&config, &data, &lists, &scan, &run).unwrap();
    let (pieced, n_stops) = in_pieces(|run| Reranker::fit(&config, &data, &lists, &scan, run));
    assert_eq!(through, pieced);
    assert!(n_stops > 1, "{n_stops} stops are none");

    let config = FusionConfig { dim: 4, batch: 30, max_epochs: 3, ..FusionConfig::default() };
    let items = Queries::new(vec![world.view(0), world.view(1)], None).unwrap();
    let through = Fusion::fit(&config, &items, world.view(1), None, &run).unwrap();
    let (pieced, n_stops) = in_pieces(|run| Fusion::fit(&config, &items, world.view(1), None, run));
    assert_eq!(through, pieced);
    assert!(n_stops > 3, "{n_stops} stops are none");
}

#[test]
fn a_recommender_goes_on_along_its_edges() {
    let world = World::new();
    let classes = |row: usize| world.labels.of(row).iter().map(move |class| (row as u32, *class));
    let edges: Vec<(u32, u32)> = (0..N).flat_map(classes).collect();
    let graph = ItemTagGraph::new(TrainingEdges::new(N, 4, &edges).unwrap(), &[world.view(0)]).unwrap();
    for method in GraphMethod::ALL {
        let config = RecommenderConfig { dim: 4, n_epochs: 4, batch: 40, ..RecommenderConfig::new(method) };
        let fit = |run: &Run<'_>| {
            Recommender::fit(&config, &graph, run).map_err(|e| {
                let GraphError::Fit(fit) = e else { panic!("{e}") };
                fit
            })
        };
        let through = fit(&Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None }).unwrap();
        let (pieced, n_stops) = in_pieces(fit);
        assert_eq!(through.rows().data(), pieced.rows().data(), "{}", method.name());
        assert!(n_stops > 4, "{}: {n_stops} stops are none", method.name());
    }
}

#[test]
fn a_draft_of_something_else_or_a_damaged_one_is_none() {
    let world = World::new();
    let pairs = Pairs { labels: None, ..world.pairs() };
    let method = MethodConfig::InfoNce(InfoNceConfig { towers: towers(InfoNceConfig::default().towers), ..Default::default() });
    let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let through = method.fit(&pairs, &run).unwrap();
    let draft = Stopping { left: AtomicUsize::new(8), ..Stopping::default() };
    let stopped = Run { cancel: &draft.cancel, draft: Some(&draft), ..run };
    assert!(matches!(method.fit(&pairs, &stopped), Err(FitError::Cancelled(_))));
    // Another seed looks for another part, and finds none.
    let parts = draft.parts.into_inner().unwrap();
    let again = Stopping { parts: Mutex::new(parts.clone()), ..Stopping::default() };
    let other = method.fit(&pairs, &Run { seed: 4, draft: Some(&again), ..run }).unwrap();
    assert_eq!(other, method.fit(&pairs, &Run { seed: 4, ..run }).unwrap());
    // A part cut anywhere, or with a number that is none.
    let (name, whole) = parts.into_iter().next().unwrap();
    for n in [0, 7, whole.len() / 2, whole.len() - 1] {
        let cut = Stopping { parts: Mutex::new([(name.clone(), whole[..n].to_vec())].into()), ..Stopping::default() };
        assert_eq!(through, method.fit(&pairs, &Run { draft: Some(&cut), ..run }).unwrap(), "cut to {n}");
    }
    let mut wrong = whole.clone();
    wrong[whole.len() - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
    let wrong = Stopping { parts: Mutex::new([(name, wrong)].into()), ..Stopping::default() };
    assert_eq!(through, method.fit(&pairs, &Run { draft: Some(&wrong), ..run }).unwrap());
}

#[test]
fn a_folder_keeps_parts_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let draft = FolderDraft::new(folder.path().join("space.draft"));
    assert_eq!(draft.get("a-1"), None);
    draft.remove().unwrap();
    draft.put("b-1", b"one").unwrap();
    draft.forget("b-1");
    draft.forget("never there");
    assert_eq!(draft.get("b-1"), None);
    draft.put("a-1", b"one").unwrap();
    draft.put("a-1", b"two").unwrap();
    assert_eq!(draft.get("a-1").as_deref(), Some(b"two".as_slice()));
    // Damage is noticed.
    let path = draft.folder().join("a-1.draft");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(draft.get("a-1"), None);
    // What is someone else's stays.
    std::fs::write(draft.folder().join("notes.txt"), "mine").unwrap();
    draft.remove().unwrap();
    assert!(!path.exists() && draft.folder().join("notes.txt").exists());
    std::fs::remove_file(draft.folder().join("notes.txt")).unwrap();
    draft.remove().unwrap();
    assert!(!draft.folder().exists());
    // No place to write: said with the path.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = FolderDraft::new(&file).put("a-1", b"one").unwrap_err();
    assert!(error.contains("file"), "{error}");
}
