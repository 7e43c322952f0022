//! Several models in one library: each lane has the vectors it would have by itself, and their rankings are joined.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{models, space, write_png, write_things};
use chiasm_core::{Cancel, Modality, NoProgress, Progress};
use chiasm_engine::{
    EngineError, Found, IndexOptions, IndexReport, Library, Query, QueryMedia, SearchReply, SearchRequest, Space,
};

/// The spaces of the lanes: one of four kinds, one of pictures and one of texts.
fn spaces() -> [Space; 3] {
    let of_model = |name| Space::of_model(name, &models()).unwrap();
    [space(), of_model("colour-layout"), of_model("char-ngrams")]
}

struct Made {
    dir: tempfile::TempDir,
    files: PathBuf,
}

impl Made {
    fn new(n: usize) -> Made {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("files");
        write_things(&files, 0..n);
        // Captions, a copy, a text of several parts.
        write_png(&files.join("photo.png"), 40);
        std::fs::write(files.join("photo.txt"), "grandmother's birthday").unwrap();
        std::fs::copy(files.join("photo.png"), files.join("copy.png")).unwrap();
        std::fs::write(files.join("long.txt"), "Nothing happens in this sentence of the account. ".repeat(200)).unwrap();
        Made { dir, files }
    }

    fn library(&self, name: &str, spaces: &[&Space]) -> Library {
        let library = Library::create_with_lanes(&self.dir.path().join(name), spaces).unwrap();
        index(&library, &self.files);
        library
    }
}

fn index(library: &Library, files: &Path) -> IndexReport {
    library.index(&[files.to_owned()], &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap()
}

/// Every vector of a lane, by the path of its item, whether it is of a caption, and its span.
fn vectors(library: &Library, lane: usize) -> Vec<(Vec<u8>, bool, String, Vec<u8>)> {
    let db = rusqlite::Connection::open(library.dir().join("library.db")).unwrap();
    let table = if lane == 0 {
        "vectors v ON v.segment = s.id".to_owned()
    } else {
        format!("lane_vectors v ON v.segment = s.id AND v.lane = {}", lane + 1)
    };
    let sql = format!(
        "SELECT (SELECT min(path) FROM paths WHERE item = s.item), s.caption IS NOT NULL,
            ifnull(s.span_unit || s.span_start || ' ' || s.span_end, ''), v.vector FROM segments s JOIN {table} ORDER BY 1, 2, 3"
    );
    let mut statement = db.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn ask(library: &Library, query: Query, k: usize, lanes: &[&str]) -> SearchReply {
    let lanes = lanes.iter().map(|lane| (*lane).to_owned()).collect();
    library.search(&SearchRequest { query, k, lanes, ..SearchRequest::default() }).unwrap()
}

fn clean(library: &Library) {
    let report = library.verify(true).unwrap();
    assert!(report.is_clean() && report.outdated.is_empty(), "{report:?}");
}

#[test]
fn a_lane_has_the_vectors_and_answers_of_a_library_of_its_own() {
    let made = Made::new(6);
    let [all, pictures, texts] = spaces();
    let library = made.library("lanes", &[&all, &pictures, &texts]);
    clean(&library);
    let names: Vec<&str> = library.lanes().iter().map(|lane| lane.name()).collect();
    assert_eq!(names, ["things", "colour-layout", "char-ngrams"]);
    for (at, space) in [&all, &pictures, &texts].into_iter().enumerate() {
        let alone = made.library(&format!("alone-{at}"), &[space]);
        let (got, expected) = (vectors(&library, at), vectors(&alone, 0));
        // A library of texts alone has no picture whose caption the words could be: there they are a text of their own.
        if at < 2 {
            assert!(!expected.is_empty() && got == expected, "lane {at}");
        } else {
            let bare = |rows: Vec<(Vec<u8>, bool, String, Vec<u8>)>| -> std::collections::BTreeSet<Vec<u8>> {
                rows.into_iter().map(|row| row.3).collect()
            };
            assert!(bare(expected).is_subset(&bare(got)), "lane {at}");
            continue;
        }
        let id = |library: &Library| library.find_item(made.files.join("pictures/003.png").to_str().unwrap()).unwrap().id;
        let of = |library: &Library| {
            let item = Query::of(QueryMedia::Item(id(library)));
            let reply = ask(library, item, 30, if library.lanes().len() > 1 { &names[at..=at] } else { &[] });
            let row =
                |hit: &Found| (hit.path.clone(), hit.score.to_bits(), hit.z.map(f32::to_bits), hit.chance.map(f32::to_bits));
            assert!(reply.lanes.is_empty() && reply.hits.iter().all(|hit| hit.lanes.is_empty() && hit.fused.is_none()));
            (reply.hits.iter().map(row).collect::<Vec<_>>(), reply.n_candidates)
        };
        assert_eq!(of(&library), of(&alone), "lane {at}");
    }
}

#[test]
fn rankings_are_joined_by_their_reciprocal_ranks() {
    let made = Made::new(12);
    let [all, pictures, texts] = spaces();
    let library = made.library("lanes", &[&all, &pictures, &texts]);
    let item = library.find_item(made.files.join("pictures/003.png").to_str().unwrap()).unwrap().id;
    let query = || Query::of(QueryMedia::Item(item));
    let reply = ask(&library, query(), 5, &[]);
    let left_out: Vec<bool> = reply.lanes.iter().map(|lane| lane.left_out.is_some()).collect();
    assert_eq!(left_out, [false, false, true], "{:?}", reply.lanes);
    let alone = ["things", "colour-layout"].map(|lane| ask(&library, query(), 100, &[lane]).hits);
    let mut expected: Vec<(f64, i64)> = Vec::new();
    for hit in alone.iter().flatten() {
        if expected.iter().all(|(_, item)| *item != hit.item) {
            let place =
                |hits: &Vec<Found>| hits.iter().position(|h| h.item == hit.item).map_or(0.0, |at| 1.0 / (61.0 + at as f64));
            expected.push((place(&alone[0]) + place(&alone[1]), hit.item));
        }
    }
    expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let got: Vec<(f64, i64)> = reply.hits.iter().map(|hit| (hit.fused.unwrap(), hit.item)).collect();
    assert_eq!(got, expected[..5]);
    for hit in &reply.hits {
        let best = hit.lanes.iter().min_by_key(|lane| lane.rank).unwrap();
        assert_eq!((hit.score, hit.z, hit.chance), (best.score, best.z, best.chance));
        for lane in &hit.lanes {
            let at = if lane.lane == "things" { 0 } else { 1 };
            assert_eq!((alone[at][lane.rank - 1].item, alone[at][lane.rank - 1].score), (hit.item, lane.score));
        }
    }
    assert_eq!(reply.n_candidates, 12 * 5 + 2 - 1);
    // Words are known to two lanes, and to none of those named.
    let words = ask(&library, Query::text("a red square on the left"), 3, &[]);
    assert_eq!(words.lanes.iter().filter(|lane| lane.left_out.is_none()).count(), 2);
    let refused = |lanes: &[&str]| {
        let lanes = lanes.iter().map(|lane| (*lane).to_owned()).collect();
        library.search(&SearchRequest { query: Query::text("x y"), k: 3, lanes, ..SearchRequest::default() }).unwrap_err()
    };
    assert!(matches!(refused(&["colour-layout"]), EngineError::NoView { .. }));
    assert!(matches!(refused(&["nothing"]), EngineError::NoSuchLane { .. }));
    // A vector is of the space it says, else of the first lane.
    let vector = |space: &Space, named: bool| SearchRequest {
        query: Query::of(QueryMedia::Vector(Modality::Image, vec![0.5; space.dim()])),
        k: 3,
        space: named.then(|| space.fingerprint().to_owned()),
        ..SearchRequest::default()
    };
    assert_eq!(library.search(&vector(&pictures, true)).unwrap().hits.len(), 3);
    assert_eq!(library.search(&vector(&all, false)).unwrap().hits.len(), 3);
    assert!(library.search(&vector(&pictures, false)).is_err());
}

/// Stops the work once the lanes have got so many vectors.
struct Stop {
    cancel: Cancel,
    limit: u64,
    steps: AtomicU64,
    on: std::sync::atomic::AtomicBool,
}

impl Progress for Stop {
    fn start(&self, stage: &str, _: Option<u64>) {
        self.on.store(stage == "lanes", Ordering::Relaxed);
    }

    fn advance(&self, n: u64) {
        if self.on.load(Ordering::Relaxed) && self.steps.fetch_add(n, Ordering::Relaxed) + n >= self.limit {
            self.cancel.cancel();
        }
    }

    fn note(&self, _: &str) {}

    fn finish(&self) {}
}

#[test]
fn a_lane_that_is_added_later_gets_what_it_lacks_and_may_be_stopped() {
    let made = Made::new(24);
    let [all, pictures, texts] = spaces();
    let at_once = made.library("at once", &[&all, &pictures, &texts]);
    let mut library = made.library("later", &[&all]);
    library.add_lane(&pictures).unwrap();
    library.add_lane(&texts).unwrap();
    assert!(matches!(library.add_lane(&texts), Err(EngineError::LaneExists { .. })));
    let lacks = |library: &Library| library.info().unwrap().lanes.iter().map(|lane| lane.n_lacking).collect::<Vec<_>>();
    let whole = lacks(&library);
    assert!(whole[0] == 0 && whole[1] == 25 && whole[2] > 48, "{whole:?}");
    // The lane answers with what it has: nothing yet.
    assert!(ask(&library, Query::text("a red square"), 3, &["char-ngrams"]).hits.is_empty());
    let mut runs = 0;
    let mut before = whole.clone();
    loop {
        let cancel = Cancel::default();
        let stop = Stop { cancel: cancel.clone(), limit: 20, steps: AtomicU64::new(0), on: Default::default() };
        let report = library.index(std::slice::from_ref(&made.files), &IndexOptions::default(), &stop, &cancel).unwrap();
        let verified = library.verify(false).unwrap();
        assert!(verified.is_clean(), "{verified:?}");
        let left = lacks(&library);
        assert_eq!(verified.outdated.is_empty(), left.iter().sum::<usize>() == 0);
        let made_now: usize = before.iter().sum::<usize>() - left.iter().sum::<usize>();
        assert_eq!((report.n_segments, report.n_new), (made_now, 0), "what is reported is there");
        (before, runs) = (left, runs + 1);
        if !report.cancelled {
            break;
        }
        assert!(made_now >= 20);
        library = Library::open(library.dir(), &models()).unwrap();
    }
    assert!(runs >= 2, "it was never stopped");
    clean(&library);
    (0..3).for_each(|lane| assert_eq!(vectors(&library, lane), vectors(&at_once, lane), "lane {lane}"));
    assert_eq!(index(&library, &made.files).n_segments, 0);

    // What leaves, leaves all lanes; what comes, comes to all.
    std::fs::remove_file(made.files.join("photo.txt")).unwrap();
    std::fs::remove_file(made.files.join("pictures/001.png")).unwrap();
    write_png(&made.files.join("pictures/new.png"), 44);
    let report = index(&library, &made.files);
    assert_eq!((report.n_new, report.n_removed, report.n_segments), (1, 1, 2), "{report:?}");
    library.remove(&[made.files.join("texts")]).unwrap();
    clean(&library);
    let db = rusqlite::Connection::open(library.dir().join("library.db")).unwrap();
    let n = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(n("SELECT count(*) FROM lane_vectors WHERE segment NOT IN (SELECT id FROM segments)"), 0);
    assert_eq!(n("SELECT count(*) FROM lane_vectors WHERE lane = 2"), 25);
}

#[test]
fn what_a_lane_cannot_get_is_told() {
    let made = Made::new(2);
    let [all, pictures, _] = spaces();
    let mut library = made.library("library", &[&all]);
    let second = Library::open(library.dir(), &models()).unwrap();
    library.add_lane(&pictures).unwrap();
    // Who has opened the library before must not write without the lane.
    let error = second.index(std::slice::from_ref(&made.files), &IndexOptions::default(), &NoProgress, &Cancel::default());
    assert!(matches!(error, Err(EngineError::LanesChanged { .. })));
    // A folder that is away: its items stay, and lack the lane until it is back.
    let away = made.dir.path().join("away");
    std::fs::rename(made.files.join("pictures"), &away).unwrap();
    let report = index(&library, &made.files.join("texts"));
    assert_eq!((report.lacking.len(), report.lacking[0].n_segments, report.notes.len()), (1, 2, 2), "{report:?}");
    assert_eq!(library.verify(false).unwrap().outdated.len(), 1);
    assert_eq!(ask(&library, Query::of(QueryMedia::Vector(Modality::Image, vec![1.0; all.dim()])), 50, &[]).hits.len(), 12);
    std::fs::rename(&away, made.files.join("pictures")).unwrap();
    assert!(index(&library, &made.files.join("texts")).lacking.is_empty());
    clean(&library);
    // A lane's vectors and space are checked like the first's.
    let db = rusqlite::Connection::open(library.dir().join("library.db")).unwrap();
    db.execute("UPDATE lane_vectors SET vector = zeroblob(5) WHERE segment = (SELECT min(segment) FROM lane_vectors)", [])
        .unwrap();
    db.execute("DELETE FROM lane_vectors WHERE segment = (SELECT max(segment) FROM lane_vectors)", []).unwrap();
    let told = format!("{:?}", library.verify(false).unwrap().problems);
    assert!(told.contains("lane colour-layout: the vector of segment") && told.contains("has 5 bytes"), "{told}");
    assert!(told.contains("is missing"), "{told}");
    let file = library.dir().join(format!("space-{}.space", pictures.fingerprint()));
    all.save(&file).unwrap();
    assert!(matches!(Library::open(library.dir(), &models()), Err(EngineError::ForeignSpace { .. })));
}
