//! The map of a library: made once, kept, made anew when the library changes.

use crate::common::{models, set, write_png};
use chiasm_core::{Cancel, NoProgress};
use chiasm_engine::{EngineError, Library, SpaceMap};

fn map(library: &Library, n: usize) -> SpaceMap {
    library.map(n, None, &NoProgress, &Cancel::default()).unwrap()
}

#[test]
fn a_map_is_kept_until_the_library_changes() {
    let set = set(0..24);
    assert_eq!(map(&set.library, 100).items.len(), 0, "an empty library has an empty map");
    set.index();
    assert_eq!(set.library.last_map(None).unwrap().map(|(_, current)| current), Some(false));
    let first = map(&set.library, 1_000);
    assert_eq!((first.items.len(), first.n_items), (120, 120));
    assert_eq!(first.kinds, ["image", "text", "audio", "series"]);
    assert!(first.x.iter().chain(&first.y).all(|v| v.abs() <= 1.0));
    assert_eq!(first.clusters.iter().map(|c| c.n).sum::<usize>(), 120);
    for (item, kind) in first.items.iter().zip(&first.kind) {
        assert_eq!(set.library.item(*item).unwrap().kind.as_str(), first.kinds[*kind]);
    }
    for cluster in &first.clusters {
        assert!(first.items.contains(&cluster.example));
    }
    let json = serde_json::to_value(&first).unwrap();
    for field in ["items", "x", "y", "kind", "kinds", "cluster", "clusters", "n_items", "method"] {
        assert!(!json[field].is_null(), "{field}");
    }

    // From the file: another process finds it, and the file's own numbers are told.
    let path = set.library.dir().join("map.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace(&first.method, "from the file")).unwrap();
    let opened = Library::open(set.library.dir(), &models()).unwrap();
    assert_eq!(map(&opened, 1_000).method, "from the file");
    assert_eq!(map(&opened, 500), map(&opened, 1_000), "as many as there are, however many are asked for");
    assert_eq!(set.library.last_map(None).unwrap().map(|(_, current)| current), Some(true));

    let few = map(&set.library, 40);
    assert_eq!((few.items.len(), few.n_items, few.kind.iter().filter(|k| **k == 0).count()), (40, 120, 10));

    // What is damaged or of another state is made anew.
    for damage in [&kept[..kept.len() / 2], "", &kept.replace("\"x\":[", "\"x\":[7.5,")] {
        std::fs::write(&path, damage).unwrap();
        assert_eq!(map(&set.library, 1_000), first);
    }
    write_png(&set.files.join("pictures/new.png"), 40);
    set.index();
    assert_eq!(set.library.last_map(None).unwrap().map(|(_, current)| current), Some(false));
    assert_eq!(map(&set.library, 1_000).items.len(), 121);

    let cancel = Cancel::default();
    cancel.cancel();
    assert!(matches!(set.library.map(20, None, &NoProgress, &cancel), Err(EngineError::Cancelled(_))));
    assert!(matches!(set.library.map(20, Some("nope"), &NoProgress, &Cancel::default()), Err(EngineError::NoSuchLane { .. })));
    let huge = set.library.map(1_000_000, None, &NoProgress, &Cancel::default());
    assert!(matches!(huge, Err(EngineError::Query(_))));
    std::fs::remove_file(&path).unwrap();
    assert!(set.library.last_map(None).unwrap().is_none());
    assert!(set.library.verify(true).unwrap().is_clean());
}
