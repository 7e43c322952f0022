//! Libraries that older programs wrote.

use std::path::Path;

use crate::common::{models, write_png};
use chiasm_core::{Cancel, NoProgress};
use chiasm_engine::{IndexOptions, Library, Query, SearchRequest, Space};

/// `testdata/libraries/format_1`: seven texts in the space of `char-ngrams`, as the last program of format 1 left them, and what it
/// answered (`chiasm search "a dog in the snow" --json`).
#[test]
fn a_library_of_format_1_stays_one_until_it_gets_a_lane() {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/libraries/format_1");
    let dir = tempfile::tempdir().unwrap();
    let (place, files) = (dir.path().join("library"), dir.path().join("files"));
    std::fs::create_dir(&place).unwrap();
    for file in ["library.db", "space.space"] {
        std::fs::copy(stored.join(file), place.join(file)).unwrap();
    }
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(stored.join("expected.json")).unwrap()).unwrap();
    let answers = |library: &Library, lanes: &[&str]| {
        let lanes = lanes.iter().map(|lane| (*lane).to_owned()).collect();
        let request = SearchRequest { query: Query::text("a dog in the snow"), k: 10, lanes, ..SearchRequest::default() };
        let hits = library.search(&request).unwrap().hits;
        hits.into_iter().map(|hit| serde_json::to_value(hit).unwrap()).collect::<Vec<_>>()
    };
    let same = |library: &Library, lanes: &[&str]| {
        let hits = expected["hits"].as_array().unwrap();
        let got = answers(library, lanes);
        assert_eq!(got.len(), hits.len());
        for (got, hit) in got.iter().zip(hits) {
            for field in ["item", "kind", "via", "span", "snippet"] {
                assert_eq!(got[field], hit[field], "{field} of {hit}");
            }
            // Another machine may sum in another order.
            for field in ["score", "z", "chance"] {
                let off = (got[field].as_f64().unwrap() - hit[field].as_f64().unwrap()).abs();
                assert!(off < 1e-5, "{field} differs by {off} from {hit}");
            }
        }
    };

    let library = Library::open(&place, &models()).unwrap();
    assert_eq!((library.info().unwrap().format, library.lanes().len()), (1, 1));
    assert!(library.verify(false).unwrap().is_clean());
    same(&library, &[]);

    // Written as it is: copies of what it holds cost no embedding, and something new is taken in and out again.
    std::fs::create_dir(&files).unwrap();
    for hit in expected["hits"].as_array().unwrap() {
        let name = Path::new(hit["path"].as_str().unwrap()).file_name().unwrap();
        std::fs::write(files.join(name), hit["snippet"].as_str().unwrap()).unwrap();
    }
    std::fs::write(files.join("new.txt"), "a ship in a bottle").unwrap();
    write_png(&files.join("new.png"), 1);
    let index = |library: &Library| {
        library.index(std::slice::from_ref(&files), &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap()
    };
    let report = index(&library);
    assert_eq!((report.n_copies, report.n_new, report.n_segments), (7, 1, 1), "{report:?}");
    library.remove(&[files.join("new.txt")]).unwrap();
    std::fs::remove_file(files.join("new.txt")).unwrap();
    assert_eq!(library.info().unwrap().format, 1);

    let mut library = Library::open(&place, &models()).unwrap();
    library.add_lane(&Space::of_model("colour-layout", &models()).unwrap()).unwrap();
    assert_eq!((library.info().unwrap().format, library.lanes().len()), (2, 2));
    let report = index(&library);
    assert_eq!((report.n_new, report.n_segments), (1, 1), "the picture, now that there is a view for it: {report:?}");
    drop(library);
    let library = Library::open(&place, &models()).unwrap();
    let names: Vec<&str> = library.lanes().iter().map(|lane| lane.name()).collect();
    assert_eq!(names, ["char-ngrams", "colour-layout"]);
    assert!(library.verify(false).unwrap().is_clean());
    same(&library, &["char-ngrams"]);
}
