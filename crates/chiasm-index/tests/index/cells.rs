//! The index of cells against exact search: recall, filters, files, changes, and that nothing but the question decides the answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use chiasm_core::{Cancel, Hit, Metric, NoProgress, Progress, RowSet, SearchError, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{Building, CellBuildError, CellConfig, CellIndex, Effort, ExactIndex, FileError, SharedCells, Stamps};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::InnerProduct, Metric::L2];

/// Two modalities of the same things: heaps of vectors near some centres, and queries that mean one of them but lie elsewhere.
fn world(n: usize, n_queries: usize, dim: usize, seed: u64) -> (Vectors, Vectors) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal =
        |n: usize| -> Vec<f32> { (0..n).map(|_| (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>() * 1.7).collect() };
    let (centres, latent) = (40, 8);
    let axes = normal(latent * dim);
    let middles = normal(centres * latent);
    let offset = normal(dim);
    let mut place = |i: usize, noise: f32| -> Vec<f32> {
        let own = normal(latent);
        let z = middles[i % centres * latent..].iter().zip(own).map(|(m, v)| m + 0.5 * v).collect::<Vec<f32>>();
        let private = normal(dim);
        (0..dim).map(|j| (0..latent).map(|l| z[l] * axes[l * dim + j]).sum::<f32>() + noise * private[j]).collect()
    };
    let base = (0..n).flat_map(|i| place(i, 0.3)).collect();
    let queries = (0..n_queries)
        .flat_map(|i| place(i * 7, 0.6).into_iter().zip(&offset).map(|(v, o)| v + 4.0 * o).collect::<Vec<_>>())
        .collect();
    (Vectors::new(base, dim).unwrap(), Vectors::new(queries, dim).unwrap())
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).map(|i| 3 * i + 7).collect()
}

fn build(base: &Vectors, metric: Metric, sample: Option<&Vectors>) -> CellIndex {
    CellIndex::build(&ids(base.n()), base, metric, sample, &CellConfig::default(), &NoProgress).unwrap()
}

fn recall(found: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let all: usize = truth.iter().map(Vec::len).sum();
    let right: usize =
        found.iter().zip(truth).map(|(f, t)| t.iter().filter(|hit| f.iter().any(|other| other.id == hit.id)).count()).sum();
    right as f64 / all.max(1) as f64
}

/// Everything is looked at: what is missing then was lost by the digits alone.
fn everything(index: &CellIndex) -> Effort {
    Effort { probes: index.n_cells(), rerank: index.n_rows() }
}

#[test]
fn finds_what_exact_search_finds_for_every_metric() {
    let (base, queries) = world(4000, 120, 48, 1);
    let (_, sample) = world(10, 500, 48, 2);
    for metric in METRICS {
        let truth =
            ExactIndex::build(&ids(4000), &base, metric).unwrap().search(&queries, 10, &SearchOptions::default()).unwrap();
        for sample in [None, Some(&sample)] {
            let index = build(&base, metric, sample);
            assert_eq!((index.len(), index.dim(), index.metric(), index.n_rows()), (4000, 48, metric, 4000));
            let found = index.search_with(&queries, 10, &SearchOptions::default(), everything(&index)).unwrap();
            assert!(recall(&found, &truth) > 0.995, "{metric}: {}", recall(&found, &truth));
            let plain = index.search(&queries, 10, &SearchOptions::default()).unwrap();
            assert!(recall(&plain, &truth) > 0.85, "{metric}: {}", recall(&plain, &truth));
            for (found, truth) in found.iter().flatten().zip(truth.iter().flatten()) {
                let (got, expected) = (found.score.get(), truth.score.get());
                assert!((got - expected).abs() <= 2e-3 * (1.0 + expected.abs()), "{metric}: {got} for {expected}");
            }
            assert!(found.iter().all(|hits| hits.is_sorted_by(|a, b| a.rank_cmp(b).is_lt())), "{metric}");
        }
    }
}

/// Vectors that differ most where no query asks: who knows the queries finds with codes of few dimensions what others do not.
#[test]
fn a_sample_of_queries_shapes_the_index() {
    let (n, asked_for, other) = (4000, 8, 56);
    let mut random = ChaCha8Rng::seed_from_u64(40);
    let mut normal = |size: f32| size * (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>() * 1.7;
    let mut rows = |n: usize, size: f32| -> Vectors {
        let rows = (0..n)
            .flat_map(|_| (0..asked_for + other).map(|j| normal(if j < asked_for { 1.0 } else { size })).collect::<Vec<_>>());
        Vectors::new(rows.collect(), asked_for + other).unwrap()
    };
    let (base, queries, sample) = (rows(n, 1.5), rows(100, 0.0), rows(500, 0.0));
    let metric = Metric::InnerProduct;
    let truth = ExactIndex::build(&ids(n), &base, metric).unwrap().search(&queries, 10, &SearchOptions::default()).unwrap();
    let config = CellConfig { code_dims: asked_for, ..CellConfig::default() };
    let recall_with = |sample: Option<&Vectors>| {
        let index = CellIndex::build(&ids(n), &base, metric, sample, &config, &NoProgress).unwrap();
        let effort = Effort { probes: index.n_cells() / 4, rerank: 100 };
        recall(&index.search_with(&queries, 10, &SearchOptions::default(), effort).unwrap(), &truth)
    };
    let (with, without) = (recall_with(Some(&sample)), recall_with(None));
    assert!(with > 0.9 && without < 0.5, "{with} with a sample, {without} without");
}

#[test]
fn odd_sizes_and_odd_vectors_are_searched() {
    for (n, dim) in [(1, 1), (2, 3), (15, 8), (33, 1), (100, 33), (700, 5)] {
        let (base, queries) = world(n, 5, dim, 3);
        for metric in METRICS {
            let truth =
                ExactIndex::build(&ids(n), &base, metric).unwrap().search(&queries, 3, &SearchOptions::default()).unwrap();
            let index = build(&base, metric, None);
            let found = index.search_with(&queries, 3, &SearchOptions::default(), everything(&index)).unwrap();
            for (found, truth) in found.iter().zip(&truth) {
                assert_eq!(found.len(), truth.len(), "{metric}, {n} x {dim}");
                for (found, truth) in found.iter().zip(truth) {
                    let (got, expected) = (found.score.get(), truth.score.get());
                    assert!(
                        (got - expected).abs() <= 5e-3 * (1.0 + expected.abs()),
                        "{metric}, {n} x {dim}: {got} for {expected}"
                    );
                }
            }
        }
    }
    // All the same, all zero, and numbers at the end of what f32 holds: ranked without panic, ties by id.
    for value in [1.0, 0.0, 3e38, 1e-40] {
        let base = Vectors::new(vec![value; 500 * 4], 4).unwrap();
        for metric in METRICS {
            let index = build(&base, metric, None);
            let hits = index.search_with(&base, 500, &SearchOptions::default(), everything(&index)).unwrap().remove(0);
            assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), ids(500), "{metric}, {value}");
        }
    }
}

#[test]
fn empty_questions_and_empty_indexes_have_empty_answers() {
    let none = Vectors::new(vec![], 4).unwrap();
    let (some, _) = world(5, 1, 4, 4);
    for metric in METRICS {
        let empty = build(&none, metric, None);
        assert!(empty.is_empty());
        assert_eq!(empty.search(&some, 3, &SearchOptions { allow: Some(&RowSet::new(0)) }).unwrap(), vec![vec![]; 5]);
        let index = build(&some, metric, None);
        assert_eq!(index.search(&some, 0, &SearchOptions::default()).unwrap(), vec![vec![]; 5]);
        assert!(index.search(&none, 3, &SearchOptions::default()).unwrap().is_empty());
        assert_eq!(index.search(&some, 9, &SearchOptions { allow: Some(&RowSet::new(5)) }).unwrap(), vec![vec![]; 5]);
        let (other, _) = world(1, 1, 3, 5);
        assert_eq!(index.search(&other, 3, &SearchOptions::default()), Err(SearchError::Dimension { got: 3, expected: 4 }));
        let refused = index.search(&some, 1, &SearchOptions { allow: Some(&RowSet::new(6)) });
        assert_eq!(refused, Err(SearchError::Filter { got: 6, expected: 5 }));
    }
    let refused = CellIndex::build(&[1, 2], &some, Metric::L2, None, &CellConfig::default(), &NoProgress);
    assert!(matches!(refused, Err(CellBuildError::Build(_))));
    let (other, _) = world(9, 1, 3, 6);
    let refused = CellIndex::build(&ids(5), &some, Metric::L2, Some(&other), &CellConfig::default(), &NoProgress);
    assert!(matches!(refused, Err(CellBuildError::Sample { got: 3, expected: 4 })));
}

#[test]
fn nothing_but_the_question_decides_the_answer() {
    let (base, queries) = world(3000, 70, 40, 7);
    for metric in METRICS {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        let mut answers = Vec::new();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let index = build(&base, metric, Some(&queries));
                let path = folder.path().join(format!("{threads}"));
                index.write(&path, Stamps::default()).unwrap();
                files.push(std::fs::read(&path).unwrap());
                for index in index.on_every_kernel() {
                    answers.push(index.search(&queries, 10, &SearchOptions::default()).unwrap());
                }
            });
        }
        assert!(files[0] == files[1], "{metric}: the same file whatever the number of threads");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{metric}: the same answers on every kernel");
        let index = build(&base, metric, Some(&queries));
        for q in (0..70).step_by(9) {
            let alone = Vectors::new(queries.row(q).to_vec(), 40).unwrap();
            assert_eq!(index.search(&alone, 10, &SearchOptions::default()).unwrap()[0], answers[0][q], "{metric}: alone");
        }
    }
}

/// Many queries go through cells together, one goes by itself. Of few dimensions, whose codes have so few sums that vectors of several cells are
/// level at the end of what is kept: both ways must decide alike.
#[test]
fn a_batch_finds_what_each_query_finds_alone() {
    let mut allow = RowSet::new(3000);
    (0..3000).filter(|row| row % 3 != 1).for_each(|row| allow.insert(row));
    for dim in [1, 2, 24] {
        let (base, queries) = world(3000, 300, dim, 17);
        for metric in METRICS {
            let index = build(&base, metric, Some(&queries));
            for (probes, rerank) in [(index.n_cells() / 2, 10), (index.n_cells(), 40)] {
                for allow in [None, Some(&allow)] {
                    let (options, effort) = (SearchOptions { allow }, Effort { probes, rerank });
                    let together = index.search_with(&queries, 10, &options, effort).unwrap();
                    for (query, together) in queries.rows().zip(&together) {
                        let alone = Vectors::new(query.to_vec(), dim).unwrap();
                        let found = index.search_with(&alone, 10, &options, effort).unwrap().remove(0);
                        assert_eq!(found, *together, "{dim}, {metric}, {effort:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn filters_act_inside_the_search() {
    let (n, dim) = (6000, 32);
    let (base, queries) = world(n, 60, dim, 8);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    for metric in METRICS {
        let (exact, index) = (ExactIndex::build(&ids(n), &base, metric).unwrap(), build(&base, metric, Some(&queries)));
        for share in [0.001, 0.01, 0.1, 0.5, 0.9, 1.0] {
            let mut allow = RowSet::new(n);
            (0..n).filter(|_| random.random::<f64>() < share).for_each(|row| allow.insert(row));
            let options = SearchOptions { allow: Some(&allow) };
            let (found, truth) = (index.search(&queries, 10, &options).unwrap(), exact.search(&queries, 10, &options).unwrap());
            assert!(found.iter().flatten().all(|hit| allow.contains((hit.id as usize - 7) / 3)), "{metric}, {share}");
            assert!(recall(&found, &truth) > 0.9, "{metric}, {share}: {}", recall(&found, &truth));
        }
    }
}

#[test]
fn tuning_reaches_what_is_asked_and_measures_on_other_queries() {
    let (base, queries) = world(5000, 200, 32, 10);
    let exact = ExactIndex::build(&ids(5000), &base, Metric::Cosine).unwrap();
    let truth: Vec<Vec<u64>> = exact
        .search(&queries, 10, &SearchOptions::default())
        .unwrap()
        .iter()
        .map(|hits| hits.iter().map(|hit| hit.id).collect())
        .collect();
    let mut index = build(&base, Metric::Cosine, None);
    assert_eq!(index.tuning(), None);
    let mut last = 0;
    for wanted in [0.8, 0.95, 0.99] {
        let tuning = index.tune(&queries, &truth, 10, wanted, None).unwrap();
        assert!(tuning.wanted == wanted && tuning.recall > wanted - 0.03 && tuning.measured_on == 100, "{wanted}: {tuning:?}");
        assert!(tuning.effort.probes >= last, "more recall takes more cells");
        last = tuning.effort.probes;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cells");
    let written = Stamps { state: 5, owner: 6 };
    index.write(&path, written).unwrap();
    let (opened, stamps) = CellIndex::open(&path).unwrap();
    assert_eq!((opened.effort(), opened.tuning(), stamps), (index.effort(), index.tuning(), written));
    let tuning = index.tune(&queries, &truth, 10, 1.1, None).unwrap();
    assert_eq!(tuning.effort.probes, index.n_cells(), "no recall is above 1: everything is looked at");
    // Under a filter, against the truth under it.
    let mut allow = RowSet::new(5000);
    (0..5000).step_by(3).for_each(|row| allow.insert(row));
    let options = SearchOptions { allow: Some(&allow) };
    let truth: Vec<Vec<u64>> =
        exact.search(&queries, 10, &options).unwrap().iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect();
    let tuning = index.tune(&queries, &truth, 10, 0.95, Some(&allow)).unwrap();
    assert!(tuning.recall > 0.92, "{tuning:?}");
}

#[test]
fn a_file_is_what_was_written_or_is_refused() {
    let (base, queries) = world(900, 8, 20, 11);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cells");
    for metric in METRICS {
        let index = build(&base, metric, None);
        let written = Stamps { state: 77, owner: 3 };
        index.write(&path, written).unwrap();
        let (opened, stamps) = CellIndex::open(&path).unwrap();
        opened.verify(&path).unwrap();
        assert_eq!(stamps, written);
        let search = |index: &CellIndex| index.search(&queries, 10, &SearchOptions::default()).unwrap();
        assert_eq!(search(&opened), search(&index));
    }
    // An exact index is no index of cells, nor the other way round.
    assert!(matches!(ExactIndex::open(&path), Err(FileError::Damaged { .. })));
    let exact = folder.path().join("exact");
    ExactIndex::build(&ids(900), &base, Metric::L2).unwrap().write(&exact, 1).unwrap();
    assert!(matches!(CellIndex::open(&exact), Err(FileError::Damaged { .. } | FileError::Length { .. })));

    let whole = std::fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        let path = folder.path().join("other");
        std::fs::write(&path, bytes).unwrap();
        let (index, _) = CellIndex::open(&path)?;
        // Whatever it holds, it can be searched; what was changed is found by verifying.
        index.search_with(&queries, 10, &SearchOptions::default(), everything(&index)).unwrap();
        let mut few = RowSet::new(index.n_rows());
        (0..index.n_rows().min(20)).for_each(|row| few.insert(row));
        index.search(&queries, 10, &SearchOptions { allow: Some(&few) }).unwrap();
        index.verify(Path::new("other"))
    };
    open(&whole).unwrap();
    for cut in [0, 5, 100, 255, 256, 1000, whole.len() - 1] {
        assert!(open(&whole[..cut]).is_err(), "cut at {cut}");
    }
    assert!(open(&[&whole[..], &[0]].concat()).is_err());
    assert!(matches!(open(b"something else entirely"), Err(FileError::Foreign { .. })));
    let mut random = ChaCha8Rng::seed_from_u64(12);
    for round in 0..400 {
        let mut bytes = whole.clone();
        // Header and starts as often as everything else.
        let at = if round % 2 == 0 { random.random_range(0..256) } else { random.random_range(256..bytes.len()) };
        bytes[at] ^= 1 << random.random_range(0..8);
        assert!(open(&bytes).is_err(), "bit at {at}");
    }
    // A hostile writer signs what it wrote: sizes beyond the machine, cells that lead elsewhere.
    for (at, value) in
        [(32, u64::MAX), (40, 1 << 40), (40, 0), (48, 1 << 30), (56, u64::MAX / 2), (56, 0), (64, u64::MAX), (72, 0), (120, 3)]
    {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let signature = *blake3::hash(&bytes[..192]).as_bytes();
        bytes[192..224].copy_from_slice(&signature);
        assert!(open(&bytes).is_err(), "{value} at {at}");
    }
}

/// What `testdata/index/cells-v1.idx` was made of, by `first().write(path, Stamps { state: 42, owner: 7 })`.
fn first() -> CellIndex {
    let (base, queries) = world(90, 30, 6, 30);
    build(&base, Metric::L2, Some(&queries))
}

#[test]
fn version_1_stays_openable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/index/cells-v1.idx");
    let (index, stamps) = CellIndex::open(&path).unwrap();
    index.verify(&path).unwrap();
    assert_eq!(stamps, Stamps { state: 42, owner: 7 });
    assert_eq!((index.len(), index.dim(), index.metric()), (90, 6, Metric::L2));
    assert!(index.ids().eq(ids(90)));
    // The map is of eigenvectors, whose last digits may differ from machine to machine: hits are compared, not bytes.
    let (_, queries) = world(90, 30, 6, 30);
    let search = |index: &CellIndex| index.search_with(&queries, 5, &SearchOptions::default(), everything(index)).unwrap();
    assert_eq!(search(&index), search(&first()));
}

/// The model: what is there, by id.
struct Model {
    there: BTreeMap<u64, Vec<f32>>,
    dim: usize,
    metric: Metric,
}

impl Model {
    fn search(&self, queries: &Vectors, k: usize) -> Vec<Vec<Hit>> {
        let ids: Vec<u64> = self.there.keys().copied().collect();
        let base = Vectors::new(self.there.values().flatten().copied().collect(), self.dim).unwrap();
        ExactIndex::build(&ids, &base, self.metric).unwrap().search(queries, k, &SearchOptions::default()).unwrap()
    }
}

#[test]
fn a_hundred_thousand_changes_leave_what_a_model_has() {
    let dim = 12;
    let (pool, queries) = world(20_000, 20, dim, 13);
    let mut random = ChaCha8Rng::seed_from_u64(14);
    let metric = Metric::InnerProduct;
    let first = Vectors::new(pool.data()[..600 * dim].to_vec(), dim).unwrap();
    let mut index = build(&first, metric, None);
    let mut model = Model { there: ids(600).into_iter().zip(first.rows().map(<[f32]>::to_vec)).collect(), dim, metric };
    for step in 1..=100_000 {
        let id = random.random_range(0..3000);
        if random.random_range(0..5) < 3 {
            let row = pool.row(random.random_range(0..pool.n()));
            index.insert(&[id], &Vectors::new(row.to_vec(), dim).unwrap()).unwrap();
            model.there.insert(id, row.to_vec());
        } else {
            assert_eq!(index.remove(id), model.there.remove(&id).is_some(), "step {step}");
        }
        assert_eq!(index.len(), model.there.len(), "step {step}");
        if step % 10_000 == 0 {
            let found = index.search_with(&queries, 10, &SearchOptions::default(), everything(&index)).unwrap();
            let truth = model.search(&queries, 10);
            assert!(recall(&found, &truth) > 0.99, "step {step}: {}", recall(&found, &truth));
            assert!(found.iter().flatten().all(|hit| model.there.contains_key(&hit.id)), "step {step}");
            let compact = index.compact().unwrap();
            assert_eq!((compact.len(), compact.n_rows()), (index.len(), index.len()));
            assert_eq!(
                compact.search_with(&queries, 10, &SearchOptions::default(), everything(&compact)).unwrap(),
                found,
                "step {step}"
            );
            if step % 20_000 == 0 {
                index = compact;
            }
        }
    }
}

#[test]
fn recall_stays_when_half_was_replaced() {
    let (n, dim) = (8000, 32);
    let (all, queries) = world(n + n / 2, 150, dim, 15);
    let mut rows: Vec<usize> = (0..n + n / 2).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(16));
    let take = |rows: &[usize]| Vectors::new(rows.iter().flat_map(|r| all.row(*r)).copied().collect(), dim).unwrap();
    let own: Vec<u64> = (0..n as u64).collect();
    let build =
        |vectors: &Vectors| CellIndex::build(&own, vectors, Metric::Cosine, None, &CellConfig::default(), &NoProgress).unwrap();
    let mut index = build(&take(&rows[..n]));
    // Half of the ids, in random order, get other vectors.
    let mut order = own.clone();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(17));
    let mut now: Vec<usize> = rows[..n].to_vec();
    for (id, row) in order.into_iter().take(n / 2).zip(&rows[n..]) {
        index.insert(&[id], &take(&[*row])).unwrap();
        now[id as usize] = *row;
    }
    let fresh = build(&take(&now));
    let truth =
        ExactIndex::build(&own, &take(&now), Metric::Cosine).unwrap().search(&queries, 10, &SearchOptions::default()).unwrap();
    let effort = Effort { probes: fresh.n_cells() / 8, rerank: 60 };
    let of = |index: &CellIndex| recall(&index.search_with(&queries, 10, &SearchOptions::default(), effort).unwrap(), &truth);
    let (changed, fresh) = (of(&index), of(&fresh));
    assert!(fresh > 0.8 && changed > fresh - 0.01, "{changed} after changes, {fresh} built anew");
}

#[test]
fn readers_see_all_of_a_change_or_nothing() {
    let (base, queries) = world(2000, 4, 16, 18);
    let shared = SharedCells::new(build(&base, Metric::L2, None));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    while seen.last() != Some(&1000) {
                        let index = shared.read();
                        // Twenty leave together.
                        assert_eq!(index.len() % 20, 0);
                        let hits = index.search(&queries, 5, &SearchOptions::default()).unwrap();
                        assert!(hits.iter().flatten().all(|hit| index.row_of(hit.id).is_some()));
                        seen.push(index.len());
                    }
                    assert!(seen.is_sorted_by(|a, b| a >= b));
                })
            })
            .collect();
        for batch in ids(1000).chunks(20) {
            shared
                .change(|index| {
                    batch.iter().for_each(|id| assert!(index.remove(*id)));
                    Ok::<(), ()>(())
                })
                .unwrap();
            assert_eq!(
                shared.change(|index| {
                    index.remove(u64::MAX - 1);
                    index.remove(ids(2000)[1999]);
                    Err::<(), i32>(3)
                }),
                Err(3)
            );
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(shared.read().len(), 1000);
}

/// Asks for a stop when it has been told something for the last of so many times.
struct StopAt {
    left: AtomicU64,
    cancel: Cancel,
}

impl StopAt {
    fn told(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
    }
}

impl Progress for StopAt {
    fn start(&self, _stage: &str, _n_steps: Option<u64>) {
        self.told();
    }
    fn advance(&self, _n_steps: u64) {
        self.told();
    }
    fn note(&self, line: &str) {
        assert!(line.contains("goes on with a build that was stopped"), "nothing else was to be told: {line}");
    }
    fn finish(&self) {
        self.told();
    }
}

#[test]
fn a_build_that_is_stopped_again_and_again_ends_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let (draft, file) = (folder.path().join("cells.draft"), folder.path().join("cells.idx"));
    // More rows than one piece of a draft.
    let (base, sample) = world(70_000, 300, 6, 9);
    let config = CellConfig { cells: Some(60), ..CellConfig::default() };
    for metric in [Metric::Cosine, Metric::L2] {
        let image = |index: &CellIndex| {
            index.write(&file, Stamps::default()).unwrap();
            std::fs::read(&file).unwrap()
        };
        let exact = ExactIndex::build(&ids(70_000), &base, metric).unwrap();
        let whole = image(&CellIndex::build(exact.ids(), &base, metric, Some(&sample), &config, &NoProgress).unwrap());
        let (mut stops, mut longest) = (0, 0);
        let index = loop {
            let cancel = Cancel::default();
            // A little later each time, as it would begin the same work again and again if it kept nothing.
            let stop = StopAt { left: AtomicU64::new(1 + stops), cancel: cancel.clone() };
            let how = Building { progress: &stop, cancel: &cancel, draft: Some(&draft) };
            match CellIndex::of_exact(&exact, Some(&sample), &config, &how) {
                Ok(index) => break index,
                Err(CellBuildError::Cancelled(_)) => stops += 1,
                Err(other) => panic!("{other}"),
            }
            let kept = std::fs::metadata(&draft).unwrap().len();
            assert!(kept >= longest, "{metric}: {kept} bytes after {longest}");
            longest = kept;
        };
        assert!(stops > 5 && longest > 4 * 70_000, "{metric}: {stops} stops, {longest} bytes");
        assert!(image(&index) == whole, "{metric}");

        // What stands in a draft is not found again.
        let (stages, quiet) = (Told::default(), Cancel::default());
        let how = Building { progress: &stages, cancel: &quiet, draft: Some(&draft) };
        assert!(image(&CellIndex::of_exact(&exact, Some(&sample), &config, &how).unwrap()) == whole, "{metric}");
        let stages = stages.0.into_inner().unwrap();
        assert!(
            stages.contains("filling cells 70000") && !stages.contains("learning") && !stages.contains("making"),
            "{stages}"
        );
        assert!(stages.contains("70000 of 70000 vectors have their cells"), "{stages}");

        // Whatever is left of a draft: cut anywhere, damaged, or of other vectors.
        let all = std::fs::read(&draft).unwrap();
        let quiet = Cancel::default();
        let how = Building { progress: &NoProgress, cancel: &quiet, draft: Some(&draft) };
        for cut in [0, 7, 60, 84, 85, 3000, all.len() - 5000, all.len() - 1] {
            let mut left = all[..cut].to_vec();
            std::fs::write(&draft, &left).unwrap();
            assert!(image(&CellIndex::of_exact(&exact, Some(&sample), &config, &how).unwrap()) == whole, "{metric}, {cut}");
            assert_eq!(std::fs::read(&draft).unwrap(), all, "{metric}, {cut}");
            if let Some(byte) = left.last_mut() {
                *byte ^= 1;
                std::fs::write(&draft, &left).unwrap();
                assert!(image(&CellIndex::of_exact(&exact, Some(&sample), &config, &how).unwrap()) == whole, "{metric}, {cut}");
            }
        }
        CellIndex::of_exact(&exact, None, &config, &how).unwrap();
        assert_ne!(std::fs::read(&draft).unwrap(), all, "a draft of another sample is begun anew");
    }
    // A place where none can be kept is told, and costs nothing else.
    let told = Told::default();
    let none = folder.path().join("no folder").join("cells.draft");
    let how = Building { progress: &told, cancel: &Cancel::default(), draft: Some(&none) };
    let exact = ExactIndex::build(&ids(300), &world(300, 1, 6, 9).0, Metric::L2).unwrap();
    assert_eq!(CellIndex::of_exact(&exact, None, &config, &how).unwrap().len(), 300);
    assert!(told.0.lock().unwrap().contains("begin anew"));
}

/// Parts of a draft, each behind its length and digest.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let frame = |part: &&[u8]| [&(part.len() as u64).to_le_bytes()[..], blake3::hash(part).as_bytes(), part].concat();
    parts.iter().flat_map(frame).collect()
}

#[test]
fn a_draft_whose_checksums_a_stranger_made_right_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (draft, file) = (folder.path().join("cells.draft"), folder.path().join("cells.idx"));
    let (base, _) = world(400, 1, 6, 9);
    let config = CellConfig { cells: Some(12), ..CellConfig::default() };
    let exact = ExactIndex::build(&ids(400), &base, Metric::L2).unwrap();
    let build = || {
        let quiet = Cancel::default();
        let how = Building { progress: &NoProgress, cancel: &quiet, draft: Some(&draft) };
        let index = CellIndex::of_exact(&exact, None, &config, &how).unwrap();
        index.write(&file, Stamps::default()).unwrap();
        std::fs::read(&file).unwrap()
    };
    let whole = build();
    let all = std::fs::read(&draft).unwrap();
    let mut rest = &all[..];
    let mut parts: Vec<Vec<u8>> = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk::<8>() {
        let (part, behind) = behind[32..].split_at(u64::from_le_bytes(*len) as usize);
        parts.push(part.to_vec());
        rest = behind;
    }
    let [subject, learned, owners] = &parts[..] else { panic!("a draft of so few rows has three parts") };
    assert_eq!(framed(&[subject, learned, owners]), all);
    // Arrays of what was learned: the map's mean and its two matrices, centres, groups of centres, where these begin.
    let mut arrays: Vec<Vec<u8>> = Vec::new();
    let mut rest = &learned[..];
    for size in [4, 4, 4, 4, 4, 8] {
        let (len, behind) = rest.split_first_chunk::<8>().unwrap();
        let (array, behind) = behind.split_at(u64::from_le_bytes(*len) as usize * size);
        arrays.push(array.to_vec());
        rest = behind;
    }
    let joined = |arrays: &[Vec<u8>]| -> Vec<u8> {
        let each = arrays.iter().zip([4, 4, 4, 4, 4, 8]);
        each.flat_map(|(array, size)| [&((array.len() / size) as u64).to_le_bytes()[..], array].concat()).collect()
    };
    assert_eq!(&joined(&arrays), learned);
    let nan = |array: &[u8]| [&f32::NAN.to_le_bytes()[..], &array[4..]].concat();
    for (which, with) in [
        (3, Vec::new()),
        (3, nan(&arrays[3])),
        (0, nan(&arrays[0])),
        (1, nan(&arrays[1])),
        (1, Vec::new()),
        (2, arrays[2][4..].to_vec()),
        (4, arrays[3].clone()),
        (5, u64::MAX.to_le_bytes().repeat(2)),
        (5, [0_u64.to_le_bytes(), 5_u64.to_le_bytes()].concat()),
    ] {
        let mut changed = arrays.clone();
        changed[which] = with;
        std::fs::write(&draft, framed(&[subject, &joined(&changed), owners])).unwrap();
        assert!(build() == whole, "array {which}");
    }
    // Cells that there are not, more of them than rows, and half a number.
    for cells in [&u32::MAX.to_le_bytes()[..], &vec![0; 4 * 401], &[0; 3]] {
        std::fs::write(&draft, framed(&[subject, learned, cells])).unwrap();
        assert!(build() == whole, "{} bytes of cells", cells.len());
    }
    let claimed = [&u64::MAX.to_le_bytes()[..], &[0; 40]].concat();
    std::fs::write(&draft, claimed).unwrap();
    assert!(build() == whole);
}

/// Keeps what it is told: stages with their steps, and notes.
#[derive(Default)]
struct Told(Mutex<String>);

impl Progress for Told {
    fn start(&self, stage: &str, n_steps: Option<u64>) {
        *self.0.lock().unwrap() += &format!("{stage} {}\n", n_steps.unwrap_or(0));
    }
    fn advance(&self, _n_steps: u64) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push_str(line);
    }
    fn finish(&self) {}
}
