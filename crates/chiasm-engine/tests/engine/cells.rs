//! A library whose searches look at a part of its vectors: what it finds, what it says of itself, and what becomes of its file.

use chiasm_core::{Cancel, Metric, Modality, NoProgress, Vectors};
use chiasm_engine::{
    CELLS_NEED, DEFAULT_RECALL, EngineError, Library, ModelDirs, Query, QueryMedia, ReadyVectors, SearchRequest,
};

const DIM: usize = 24;

/// Vectors near one of fifty centres, each modality around a point of its own.
fn vectors(n: usize, seed: u64, offset: f32) -> Vectors {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..50 * DIM).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect();
    let row = |i: usize, next: &mut dyn FnMut() -> f32| -> Vec<f32> {
        (0..DIM).map(|j| centres[i % 50 * DIM + j] + 0.5 * next() + if j == 0 { offset } else { 0.0 }).collect()
    };
    Vectors::new((0..n).flat_map(|i| row(i, &mut next)).collect(), DIM).unwrap()
}

fn library(dir: &std::path::Path, n: usize) -> Library {
    let ready = |modality, seed, offset| ReadyVectors {
        modality,
        vectors: vectors(n, seed, offset),
        names: (0..n).map(|i| format!("{i}")).collect(),
        texts: Vec::new(),
    };
    let both = [ready(Modality::Image, 1, 1.0), ready(Modality::Text, 2, -1.0)];
    Library::import_vectors(dir, "made", Metric::Cosine, &both, &NoProgress).unwrap()
}

/// Scores of the ten best pictures for each of some texts that are not in the library.
fn answers(library: &Library) -> Vec<Vec<(i64, f64)>> {
    vectors(40, 3, -1.0)
        .rows()
        .map(|row| {
            let request = SearchRequest {
                query: Query::of(QueryMedia::Vector(Modality::Text, row.to_vec())),
                k: 10,
                kinds: vec![Modality::Image],
                ..SearchRequest::default()
            };
            library.search(&request).unwrap().hits.iter().map(|hit| (hit.item, f64::from(hit.score))).collect()
        })
        .collect()
}

#[test]
fn a_tuned_library_finds_what_it_says_and_scores_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("library");
    let made = library(&path, 2000);
    assert_eq!(made.info().unwrap().lanes[0].cells, None, "small libraries are exact unless asked");
    let exact = answers(&made);
    made.tune(0.95, &NoProgress, &Cancel::default()).unwrap();
    let cells = made.info().unwrap().lanes[0].cells.clone().unwrap();
    assert_eq!(cells.wanted_recall, Some(0.95));
    assert!(cells.recall.unwrap() > 0.9 && cells.measured_on >= 100 && cells.probes < cells.cells, "{cells:?}");
    assert!(made.verify(false).unwrap().is_clean());

    // Opened anew, so that the file is what is searched.
    drop(made);
    let opened = Library::open(&path, &ModelDirs::default()).unwrap();
    let found = answers(&opened);
    let (mut right, mut all) = (0, 0);
    for (found, exact) in found.iter().zip(&exact) {
        assert_eq!(found.len(), 10);
        for hit in found {
            // A hit's score is that of exact search, to the bit.
            right += usize::from(exact.contains(hit));
            all += 1;
            assert!(exact.iter().all(|other| other.0 != hit.0 || other.1 == hit.1));
        }
    }
    assert!(f64::from(right as u32) / f64::from(all as u32) > 0.9, "{right} of {all}");

    // It is the cells that are searched: with hardly any of them looked into, something is missed.
    opened.tune(0.3, &NoProgress, &Cancel::default()).unwrap();
    assert_ne!(answers(&opened), exact);
    opened.tune(0.95, &NoProgress, &Cancel::default()).unwrap();

    // A damaged file is told by `verify`; one that is not there, or not of this state, is not used.
    let file = path.join("cells.idx");
    let whole = std::fs::read(&file).unwrap();
    let mut bad = whole.clone();
    let last = bad.len() - 100;
    bad[last] ^= 4;
    std::fs::write(&file, &bad).unwrap();
    let report = opened.verify(false).unwrap();
    assert!(format!("{:?}", report.problems).contains("cells.idx"), "{report:?}");
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let cut = Library::open(&path, &ModelDirs::default()).unwrap();
    assert_eq!(answers(&cut), exact);
    assert_eq!(cut.info().unwrap().lanes[0].cells, None);
    std::fs::remove_file(&file).unwrap();
    let without = Library::open(&path, &ModelDirs::default()).unwrap();
    assert_eq!(answers(&without), exact);
    // Made again, for another recall.
    without.tune(DEFAULT_RECALL, &NoProgress, &Cancel::default()).unwrap();
    assert_eq!(without.info().unwrap().lanes[0].cells.as_ref().unwrap().wanted_recall, Some(DEFAULT_RECALL));
}

#[test]
fn a_stopped_tuning_leaves_what_there_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("library");
    let made = library(&path, 1200);
    let exact = answers(&made);
    let stop = Cancel::default();
    stop.cancel();
    assert!(matches!(made.tune(0.95, &NoProgress, &stop), Err(EngineError::Cancelled(_))));
    assert_eq!((answers(&made), made.info().unwrap().lanes[0].cells.clone()), (exact, None));
    assert!(path.join("cells.draft").exists() && made.verify(false).unwrap().is_clean());
    made.tune(0.95, &NoProgress, &Cancel::default()).unwrap();
    assert!(path.join("cells.idx").exists() && !path.join("cells.draft").exists());
}

#[test]
fn too_few_vectors_stay_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("library");
    let made = library(&path, CELLS_NEED / 2 - 1);
    made.tune(0.9, &NoProgress, &Cancel::default()).unwrap();
    assert_eq!(made.info().unwrap().lanes[0].cells, None);
}
