//! Tags that are suggested: those of the things that an item is of, for items of another kind too, with figures of what was set aside.

use chiasm_core::{Cancel, Metric, Modality, NoProgress, Vectors};
use chiasm_engine::{EngineError, Library, ReadyVectors, SuggestRequest, TagWay};

const DIM: usize = 24;
const THINGS: usize = 6;

/// Pictures and texts of some things, `n` of each kind; texts lie elsewhere than pictures.
fn library(dir: &std::path::Path, n: usize) -> Library {
    let mut state = 5u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut normal = |scale: f32| scale * (0..4).map(|_| uniform()).sum::<f32>() * 1.7;
    let things: Vec<f32> = (0..THINGS * DIM).map(|_| normal(1.0)).collect();
    let gap: Vec<f32> = (0..DIM).map(|_| normal(3.0)).collect();
    let mut of_kind = |modality: Modality, away: f32| {
        let row = |i: usize| things[i % THINGS * DIM..][..DIM].iter().zip(&gap);
        let rows = (0..n).flat_map(|i| row(i).map(|(v, g)| v + away * g + normal(0.5)).collect::<Vec<_>>());
        let vectors = Vectors::new(rows.collect(), DIM).unwrap();
        ReadyVectors { modality, vectors, names: (0..n).map(|i| format!("{modality} {i}")).collect(), texts: Vec::new() }
    };
    let both = [of_kind(Modality::Image, 0.0), of_kind(Modality::Text, 1.0)];
    Library::import_vectors(dir, "made", Metric::Cosine, &both, &NoProgress).unwrap()
}

/// Two tags of each thing, one of which things share by twos, and one that hangs on nothing.
fn tags(i: usize) -> Vec<String> {
    let thing = i % THINGS;
    let mut tags = vec![format!("thing {thing}"), format!("pair {}", thing / 2)];
    if i.is_multiple_of(5) {
        tags.push("seen".to_owned());
    }
    tags
}

fn item(library: &Library, kind: Modality, i: usize) -> i64 {
    library.find_item(&format!("{kind} {i}")).unwrap().id
}

#[test]
fn tags_of_like_things_are_suggested_for_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let made = library(&dir.path().join("library"), 180);
    for i in 0..150 {
        made.set_tags(item(&made, Modality::Image, i), &tags(i)).unwrap();
    }
    let ask = |way| {
        let request = SuggestRequest { k: 2, way, seed: 1, ..SuggestRequest::default() };
        made.suggest_tags(&request, &NoProgress, &Cancel::default()).unwrap()
    };
    for way in [Some(TagWay::Neighbours), Some(TagWay::GraphSage), None] {
        let told = ask(way);
        assert_eq!((told.n_tagged, told.n_tags, told.items.len()), (150, THINGS + 4, 30 + 180), "{way:?}");
        let right = told.items.iter().filter(|of_item| {
            let name = of_item.item.paths[0].to_string_lossy().into_owned();
            let i: usize = name.rsplit(' ').next().unwrap().parse().unwrap();
            let found: Vec<&str> = of_item.suggested.iter().map(|s| s.tag.as_str()).collect();
            of_item.has.is_empty() && found.len() == 2 && tags(i)[..2].iter().all(|tag| found.contains(&tag.as_str()))
        });
        let right = right.count();
        let figures = told.figures.as_ref().unwrap();
        assert!(right >= 185, "{way:?}: {right} of 210, {figures:?}");
        // Two of two or of three tags can be right.
        assert!(figures.recall > 0.8 && figures.most_frequent < 0.5 && figures.measured_on == 30, "{figures:?}");
        assert_eq!(figures.chosen_by.len(), if way.is_none() { 2 } else { 0 });
        assert_eq!(ask(way), told, "the same seed, the same answer");
    }
}

#[test]
fn what_an_item_has_is_not_suggested_and_too_little_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let made = library(&dir.path().join("library"), 12);
    let ask = |items: Vec<i64>, k: usize| {
        let request = SuggestRequest { items, k, way: None, seed: 1 };
        made.suggest_tags(&request, &NoProgress, &Cancel::default())
    };
    assert!(ask(Vec::new(), 0).unwrap_err().to_string().contains("at least 1"));
    assert!(ask(Vec::new(), 2).unwrap_err().to_string().starts_with("0 items have tags"));
    let [a, b] = [0, 6].map(|i| item(&made, Modality::Image, i));
    made.set_tags(a, &["Thing".to_owned(), "old".to_owned()]).unwrap();
    assert!(ask(Vec::new(), 2).unwrap_err().to_string().starts_with("1 items have tags"));
    made.set_tags(b, &["thing".to_owned()]).unwrap();
    let told = ask(vec![b], 3).unwrap();
    assert_eq!((told.way, told.n_tags, &told.figures), (TagWay::Neighbours, 2, &None));
    let suggested: Vec<&str> = told.items[0].suggested.iter().map(|s| s.tag.as_str()).collect();
    assert_eq!((told.items[0].has.len(), suggested), (1, vec!["old"]));
    assert!(matches!(ask(vec![9999], 1), Err(EngineError::NoSuchItem(_))));
    assert_eq!(made.all_tags().unwrap(), [("old".to_owned(), 1), ("Thing".to_owned(), 2)]);
    assert_eq!(made.tags_of(b).unwrap(), ["thing"]);
}
