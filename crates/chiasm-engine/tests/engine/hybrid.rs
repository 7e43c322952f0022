//! What is meant and what is written: models, words in texts and captions, and names, joined in one ranking.

use std::path::PathBuf;
use std::sync::Arc;

use crate::common::{models, set, write_png};
use chiasm_core::{Cancel, Media, Modality, NoProgress};
use chiasm_engine::{
    EngineError, Filter, Found, IndexOptions, Library, Order, Query, QueryMedia, SearchReply, SearchRequest, Strength,
};

struct Made {
    set: crate::common::Set,
}

impl Made {
    fn new() -> Made {
        Made::of(24)
    }

    fn of(n: usize) -> Made {
        let set = set(0..n);
        write_png(&set.files.join("IMG_2043.png"), 40);
        std::fs::write(set.files.join("IMG_2043.txt"), "grandmother's birthday at the lake, 外婆的生日").unwrap();
        std::fs::write(set.files.join("diary.txt"), "We went to the lakes. Nobody had a birthday.").unwrap();
        let made = Made { set };
        made.index();
        made
    }

    fn index(&self) {
        self.library()
            .index(std::slice::from_ref(&self.set.files), &IndexOptions::default(), &NoProgress, &Cancel::default())
            .unwrap();
    }

    fn library(&self) -> &Library {
        &self.set.library
    }

    fn ask(&self, words: &str, lanes: &[&str]) -> SearchReply {
        self.library().search(&request(Query::text(words), lanes)).unwrap()
    }
}

fn request(query: Query, lanes: &[&str]) -> SearchRequest {
    let lanes = lanes.iter().map(|lane| (*lane).to_owned()).collect();
    SearchRequest { query, k: 10, hybrid: true, lanes, ..SearchRequest::default() }
}

fn names(hits: &[Found]) -> Vec<String> {
    hits.iter().map(|hit| hit.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn words_and_names_find_what_no_model_was_taught() {
    let made = Made::new();
    for (query, lane) in [("grandmothers birthday lake", "words"), ("外婆", "words"), ("img 2043", "names")] {
        let reply = made.ask(query, &[]);
        let first = &reply.hits[0];
        assert_eq!(
            (names(&reply.hits)[0].as_str(), first.all_words, first.strength()),
            ("IMG_2043.png", true, Strength::Strong),
            "{query}"
        );
        assert!(first.lanes.iter().any(|in_lane| in_lane.lane == lane && in_lane.rank == 1), "{query}: {:?}", first.lanes);
        assert!(reply.cut.is_some_and(|cut| cut >= 1), "{query}");
    }
    // Without them, only what the model sees.
    let plain = made.library().search(&SearchRequest { hybrid: false, ..request(Query::text("img 2043"), &[]) }).unwrap();
    assert!(plain.hits.iter().all(|hit| !hit.all_words && hit.lanes.is_empty()) && plain.lanes.is_empty());
}

#[test]
fn lanes_are_chosen_by_name() {
    let made = Made::new();
    let words = made.ask("birthday lake", &["words"]);
    assert_eq!(names(&words.hits), ["diary.txt", "IMG_2043.png"], "the shorter text first");
    let marked = |hit: &Found| -> Vec<String> {
        hit.marks.iter().map(|(from, to)| slice(hit.snippet.as_deref().unwrap(), *from, *to)).collect()
    };
    assert_eq!(marked(&words.hits[0]), ["lakes", "birthday"]);
    assert_eq!(marked(&words.hits[1]), ["birthday", "lake"]);
    assert_eq!((words.n_candidates, words.hits[0].z), (24 * 5 + 2, None), "no model was asked");
    assert_eq!(made.ask("birthday -nothing", &["names"]).hits.len(), 0);
    let meaning = made.ask("a red square on the left", &["meaning"]);
    let plain = made
        .library()
        .search(&SearchRequest { hybrid: false, ..request(Query::text("a red square on the left"), &[]) })
        .unwrap();
    assert_eq!(meaning.hits, plain.hits);
    let unknown = made.library().search(&request(Query::text("x"), &["nothing"])).unwrap_err();
    assert!(matches!(unknown, EngineError::NoSuchLane { .. }), "{unknown}");
    // A picture has no words.
    let picture = Query::of(QueryMedia::Item(1));
    assert!(matches!(made.library().search(&request(picture.clone(), &["words"])), Err(EngineError::Query(_))));
    assert!(made.library().search(&request(picture, &[])).unwrap().lanes.is_empty());
}

fn slice(text: &str, from: usize, to: usize) -> String {
    text.chars().skip(from).take(to - from).collect()
}

#[test]
fn kinds_filters_and_exclusions_narrow_the_words() {
    let made = Made::new();
    let mut asked = request(Query::text("birthday"), &["words"]);
    asked.kinds = vec![Modality::Text];
    assert_eq!(names(&made.library().search(&asked).unwrap().hits), ["diary.txt"]);
    asked.kinds.clear();
    asked.filter = Some(Filter::parse("name = '*.png'").unwrap());
    assert_eq!(names(&made.library().search(&asked).unwrap().hits), ["IMG_2043.png"]);
    let not = Query::text("birthday").and(QueryMedia::Media(Media::Text("nobody".to_owned())), -1.0);
    assert_eq!(names(&made.library().search(&request(not, &["words"])).unwrap().hits), ["IMG_2043.png"]);
}

#[test]
fn pages_of_a_list_are_the_list() {
    // More than are joined by their ranks.
    let made = Made::of(48);
    let mut asked = request(Query::text("a blue square"), &[]);
    asked.k = 240;
    let whole = made.library().search(&asked).unwrap();
    asked.k = 7;
    let mut pages = Vec::new();
    for offset in (0..240).step_by(7) {
        asked.offset = offset;
        pages.extend(made.library().search(&asked).unwrap().hits);
    }
    pages.truncate(240);
    assert_eq!(names(&pages), names(&whole.hits));
    asked.offset = 1_000;
    assert!(made.library().search(&asked).unwrap().hits.is_empty());
}

#[test]
fn what_was_embedded_once_asks_like_the_media_itself() {
    let made = Made::new();
    let media = Media::Text("a green square on the right".to_owned());
    let embedded = Arc::new(made.library().embed(&media).unwrap());
    assert_eq!(embedded.text(), Some("a green square on the right"));
    let by_media = made.library().search(&request(Query::of(QueryMedia::Media(media)), &[])).unwrap();
    let by_vectors = made.library().search(&request(Query::of(QueryMedia::Embedded(embedded)), &[])).unwrap();
    assert_eq!(by_media.hits, by_vectors.hits);
}

#[test]
fn dates_order_what_stands_out() {
    let made = Made::new();
    let db = rusqlite::Connection::open(made.library().dir().join("library.db")).unwrap();
    db.execute("UPDATE items SET taken = '2020-01-0' || (id % 9 + 1) WHERE kind = 'image' AND id % 3 > 0", []).unwrap();
    let mut asked = request(Query::text("a red square on the left"), &["meaning"]);
    asked.k = 500;
    let relevant = made.library().search(&asked).unwrap();
    asked.order = Order::Newest;
    let newest = made.library().search(&asked).unwrap();
    let expected = relevant.cut.expect("red squares stand out of squares of other colours");
    assert_eq!(newest.hits.len(), expected);
    let dates: Vec<Option<String>> = newest.hits.iter().map(|hit| hit.metadata.taken.clone()).collect();
    let mut sorted = dates.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(dates, sorted);
    asked.order = Order::Oldest;
    let oldest: Vec<Option<String>> =
        made.library().search(&asked).unwrap().hits.iter().map(|hit| hit.metadata.taken.clone()).collect();
    assert!(oldest.iter().flatten().is_sorted());
    assert_eq!(oldest.iter().filter(|d| d.is_none()).count(), dates.iter().filter(|d| d.is_none()).count());
}

#[test]
fn a_library_from_before_words_gets_them_with_its_next_change() {
    let made = Made::new();
    let dir: PathBuf = made.library().dir().to_owned();
    let db = rusqlite::Connection::open(dir.join("library.db")).unwrap();
    for table in ["terms", "names", "names_due"] {
        db.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
    for trigger in ["terms_removed", "names_added", "names_changed", "names_removed"] {
        db.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    drop(db);
    let library = Library::open(&dir, &models()).unwrap();
    let reply = library.search(&request(Query::text("img 2043"), &[])).unwrap();
    assert!(
        reply
            .lanes
            .iter()
            .any(|lane| lane.lane == "names" && lane.left_out.as_deref().is_some_and(|r| r.contains("index it again")))
    );
    made.index();
    assert_eq!(names(&library.search(&request(Query::text("img 2043"), &[])).unwrap().hits)[0], "IMG_2043.png");
}
