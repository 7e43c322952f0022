//! A library from its making to its verification: what goes in is found, what changes is noticed, what is damaged is told.

use std::sync::atomic::AtomicU64;

use crate::common::{StopAfter, models, set, space, words, write_png, write_wav};
use chiasm_core::{Cancel, Metric, Modality, NoProgress, Vectors};
use chiasm_engine::{
    Classifier, EngineError, Filter, IndexOptions, Library, Prompts, Query, QueryMedia, ReadyVectors, SearchRequest, Space,
    load_media,
};

fn ask(text: &str, k: usize) -> SearchRequest {
    SearchRequest { query: Query::text(text), k, ..SearchRequest::default() }
}

#[test]
fn words_find_pictures_sounds_and_series() {
    let set = set(0..24);
    let report = set.index();
    assert_eq!((report.n_seen, report.n_new, report.n_segments), (24 * 5, 24 * 5, 24 * 5));
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    // Things 0, 12 are red squares on the left; chance would give 2 of 24.
    for text in [words(0).0, words(0).1] {
        for kind in [Modality::Image, Modality::Audio, Modality::Series] {
            let request = SearchRequest { kinds: vec![kind], ..ask(&text, 2) };
            let reply = set.library.search(&request).unwrap();
            assert_eq!((reply.hits.len(), reply.n_candidates), (2, 24));
            let best = reply.hits[0].path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(["000", "012"].contains(&best.as_str()), "{text} -> {kind}: {best}");
            assert!(reply.hits[0].z.unwrap() > 1.5 && reply.hits[0].chance.unwrap() < 12.0, "{:?}", reply.hits[0]);
        }
    }
    let whole = set.library.search(&ask("a red square on the left", 200)).unwrap();
    assert_eq!(whole.hits.len(), 120);
    assert!(whole.hits.windows(2).all(|w| w[0].z >= w[1].z), "mixed kinds are ranked by z");
    assert!(set.library.search(&ask("anything", 0)).unwrap().hits.is_empty());
}

#[test]
fn queries_of_several_parts_and_their_faults() {
    let set = set(0..12);
    set.index();
    let picture = load_media(&set.files.join("pictures/000.png"), &Default::default()).unwrap();
    let reds = |reply: &chiasm_engine::SearchReply| {
        reply.hits.iter().take(2).filter(|h| ["000", "006"].contains(&&*h.path.file_stem().unwrap().to_string_lossy())).count()
    };
    let request = |query| SearchRequest { query, k: 12, kinds: vec![Modality::Image], ..SearchRequest::default() };
    let both = Query::text("a red square").and(QueryMedia::Media(picture), 1.0);
    assert!(reds(&set.library.search(&request(both.clone())).unwrap()) >= 1);
    let without = Query::text("a square on the left").and(QueryMedia::Media(chiasm_core::Media::Text(words(0).0)), -2.0);
    let reply = set.library.search(&request(without)).unwrap();
    assert_ne!(reply.hits[0].path.file_stem().unwrap(), "000");
    assert!(reply.hits.iter().all(|h| h.chance.is_none() && h.z.is_some()));

    let fails = |query| set.library.search(&request(query)).unwrap_err().to_string();
    assert!(fails(Query::default()).contains("empty"));
    assert!(fails(Query::default().and(QueryMedia::Item(1), -1.0)).contains("not wanted"));
    assert!(fails(Query::text("x").and(QueryMedia::Item(1), 0.0)).contains("other than 0"));
    assert!(fails(Query::of(QueryMedia::Item(999))).contains("999"));
    assert!(fails(Query::of(QueryMedia::Vector(Modality::Text, vec![0.0; 3]))).contains("3 dimensions"));
    let dim = set.library.space().dim();
    assert!(fails(Query::of(QueryMedia::Vector(Modality::Text, vec![f32::NAN; dim]))).contains("finite"));
    let foreign = SearchRequest {
        space: Some("0123".to_owned()),
        ..request(Query::of(QueryMedia::Vector(Modality::Text, vec![1.0; dim])))
    };
    let error = set.library.search(&foreign).unwrap_err();
    let own = set.library.space().fingerprint();
    assert!(matches!(&error, EngineError::ForeignSpace { got, library, .. } if got == "0123" && library == own), "{error}");
    assert!(error.to_string().contains("0123") && error.to_string().contains(own));
}

#[test]
fn similar_leaves_the_item_out_and_filters_act_inside() {
    let set = set(0..12);
    set.index();
    let id = set.id("pictures/003.png");
    let reply = set.library.similar(id, 5, &[Modality::Image], None).unwrap();
    assert!(reply.hits.iter().all(|h| h.item != id));
    assert_eq!(reply.n_candidates, 11);
    assert_eq!(reply.hits[0].path.file_name().unwrap(), "009.png", "the other yellow one");

    let count = |filter: &str| set.library.items(Some(&Filter::parse(filter).unwrap())).unwrap().len();
    assert_eq!(count("kind = image"), 12);
    assert_eq!(count("kind in (image, audio) AND NOT name = '00*'"), 4);
    assert_eq!(count("folder = 'pictures'"), 12);
    assert_eq!(count("folder = files AND kind != text"), 36);
    assert_eq!(count("folder = 'file'"), 0);
    assert_eq!(count("width = 64 AND height >= 48"), 12);
    assert_eq!(count("duration >= 1s AND duration < 0:02"), 12);
    assert_eq!(count("size > 1GB"), 0);
    assert_eq!(count("text contains 'RED SQUARE'"), 2);
    assert_eq!(count("text contains '红色的方块'"), 2);
    assert_eq!(count("text contains '红'"), 2, "fewer letters than the index knows");
    assert_eq!(count("text contains '100%'"), 0);
    assert_eq!(count("text contains '\"red\" OR'"), 0, "no query language of the index leaks through");
    assert_eq!(count("taken > 2020-01-01"), 0);
    assert_eq!(count("NOT taken > 2020-01-01"), 60);
    assert_eq!(count("has place OR has text"), 24);
    let filter = Some(Filter::parse("name = '01*.png'").unwrap());
    let reply = set.library.search(&SearchRequest { filter, ..ask("a red square", 5) }).unwrap();
    assert_eq!((reply.hits.len(), reply.n_candidates), (2, 2));
}

#[test]
fn a_second_run_embeds_only_what_changed() {
    let set = set(0..6);
    set.index();
    let again = set.index();
    assert_eq!((again.n_unchanged, again.n_new, again.n_segments, again.n_removed), (30, 0, 0, 0));

    let id = set.id("pictures/000.png");
    std::fs::create_dir(set.files.join("moved")).unwrap();
    std::fs::rename(set.files.join("pictures/000.png"), set.files.join("moved/new name.png")).unwrap();
    std::fs::copy(set.files.join("pictures/001.png"), set.files.join("moved/copy.png")).unwrap();
    let moved = set.index();
    assert_eq!((moved.n_moved, moved.n_copies, moved.n_segments, moved.n_removed), (1, 1, 0, 0), "{moved:?}");
    assert_eq!(set.id("moved/new name.png"), id);
    assert_eq!(set.id("moved/copy.png"), set.id("pictures/001.png"));
    assert!(!set.has("pictures/000.png"));
    assert_eq!(set.library.find_item(&set.id("moved/copy.png").to_string()).unwrap().paths.len(), 2);

    write_png(&set.files.join("pictures/002.png"), 40);
    std::fs::remove_file(set.files.join("pictures/003.png")).unwrap();
    let gone = set.id("sounds/004.wav");
    std::fs::remove_file(set.files.join("sounds/004.wav")).unwrap();
    let changed = set.index();
    assert_eq!((changed.n_updated, changed.n_segments, changed.n_removed), (1, 1, 3), "{changed:?}");
    assert!(set.library.item(gone).is_err());
    let all = set.library.search(&ask("a square", 100)).unwrap();
    assert_eq!(all.hits.len(), 28);
    assert!(all.hits.iter().all(|h| h.item != gone));

    let left = set.library.remove(&[set.files.join("texts")]).unwrap();
    assert_eq!(left, 12);
    assert!(matches!(set.library.remove(&[set.files.join("texts")]), Err(EngineError::NoSuchItem(_))));
    assert_eq!(set.index().n_new, 12);
}

#[test]
fn a_missing_root_empties_nothing() {
    let set = set(0..2);
    set.index();
    let away = set.dir.path().join("away");
    std::fs::rename(&set.files, &away).unwrap();
    let error = set
        .library
        .index(std::slice::from_ref(&set.files), &IndexOptions::default(), &NoProgress, &Cancel::default())
        .unwrap_err();
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
    assert_eq!(set.library.info().unwrap().n_items, 10);
}

#[test]
fn captions_beside_media_speak_for_them() {
    let set = set(0..4);
    let photos = set.files.join("photos");
    std::fs::create_dir(&photos).unwrap();
    write_png(&photos.join("a.png"), 30);
    write_png(&photos.join("b.png"), 31);
    std::fs::write(photos.join("a.txt"), "grandmother's birthday in 上海").unwrap();
    std::fs::write(photos.join("b.png.txt"), "a harbour at dawn").unwrap();
    std::fs::write(photos.join("c.txt"), "a text of its own").unwrap();
    let report = set.index();
    assert_eq!((report.n_captions, report.n_new), (2, 23), "{report:?}");
    let reply = set.library.search(&ask("grandmother's birthday in 上海", 1)).unwrap();
    let hit = &reply.hits[0];
    assert_eq!((hit.kind, hit.via, hit.path.file_name().unwrap().to_str()), (Modality::Image, Modality::Text, Some("a.png")));
    assert_eq!(hit.snippet.as_deref(), Some("grandmother's birthday in 上海"));
    let filter = |f: &str| set.library.items(Some(&Filter::parse(f).unwrap())).unwrap().len();
    assert_eq!((filter("text contains 上海"), filter("has caption"), filter("has caption AND kind = text")), (1, 2, 0));

    let id = set.id("photos/a.png");
    std::fs::write(photos.join("a.txt"), "grandfather's boat").unwrap();
    std::fs::remove_file(photos.join("b.png.txt")).unwrap();
    let changed = set.index();
    assert_eq!((changed.n_segments, changed.n_captions, set.id("photos/a.png")), (1, 1, id), "{changed:?}");
    assert_eq!((filter("text contains boat"), filter("text contains birthday"), filter("text contains harbour")), (1, 0, 0));

    let plain = set.index_with(&IndexOptions { captions: false, ..IndexOptions::default() });
    assert_eq!(plain.n_new, 1, "{plain:?}");
    assert_eq!(filter("has caption"), 0);
}

#[test]
fn a_long_text_is_found_by_its_passage() {
    let set = set(0..4);
    let filler = "Nothing happens in this sentence of the long account. ".repeat(400);
    std::fs::write(set.files.join("long.md"), format!("{filler}\n\nA zeppelin lands by the lighthouse.\n\n{filler}")).unwrap();
    let report = set.index();
    assert!(report.n_segments > 20 + 20, "{report:?}");
    let reply = set.library.search(&ask("A zeppelin lands by the lighthouse.", 3)).unwrap();
    let items: Vec<i64> = reply.hits.iter().map(|h| h.item).collect();
    assert_eq!(items.iter().collect::<std::collections::BTreeSet<_>>().len(), items.len(), "one hit per item");
    let hit = reply.hits.iter().find(|h| h.path.ends_with("long.md")).expect("found by its passage");
    assert!(matches!(hit.span, chiasm_core::Span::Bytes { .. }));
}

#[test]
fn a_stopped_run_keeps_whole_batches_and_the_next_does_the_rest() {
    let set = set(0..24);
    let cancel = Cancel::default();
    let stop = StopAfter { on: Default::default(), steps: AtomicU64::new(0), limit: 40, cancel: cancel.clone() };
    let report = set.library.index(std::slice::from_ref(&set.files), &IndexOptions::default(), &stop, &cancel).unwrap();
    assert!(report.cancelled);
    let stored = set.library.info().unwrap().n_items;
    assert_eq!(stored, report.n_new, "what was reported is there");
    assert!((40..120).contains(&stored), "{stored}");
    assert!(set.library.verify(false).unwrap().is_clean());
    let rest = set.index();
    assert_eq!(rest.n_new + stored, 120);
}

#[test]
fn one_writer_at_a_time_and_readers_go_on() {
    let set = set(0..24);
    let second = Library::open(set.library.dir(), &models()).unwrap();
    let waits = IndexOptions { wait: true, ..IndexOptions::default() };
    std::thread::scope(|scope| {
        let files = std::slice::from_ref(&set.files);
        struct Hold<'a>(&'a Library, std::sync::Mutex<bool>);
        impl chiasm_core::Progress for Hold<'_> {
            fn start(&self, _: &str, _: Option<u64>) {
                let mut told = self.1.lock().unwrap();
                if !std::mem::replace(&mut *told, true) {
                    let root = self.0.dir().parent().unwrap().join("files");
                    let error = self.0.index(&[root], &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap_err();
                    let me = std::process::id();
                    assert!(matches!(error, EngineError::Locked { holder: Some(pid), .. } if pid == me), "{error}");
                    assert!(error.to_string().contains(&me.to_string()));
                }
            }
            fn advance(&self, _: u64) {
                self.0.search(&super_ask()).unwrap();
            }
            fn note(&self, _: &str) {}
            fn finish(&self) {}
        }
        fn super_ask() -> SearchRequest {
            ask("a red square", 3)
        }
        let first = scope.spawn(|| {
            set.library.index(files, &IndexOptions::default(), &Hold(&second, Default::default()), &Cancel::default())
        });
        assert_eq!(first.join().unwrap().unwrap().n_new, 120);
        let (a, b) = (
            scope.spawn(|| set.library.index(files, &waits, &NoProgress, &Cancel::default())),
            second.index(files, &waits, &NoProgress, &Cancel::default()),
        );
        assert_eq!((a.join().unwrap().unwrap().n_unchanged, b.unwrap().n_unchanged), (120, 120));
    });
}

#[test]
fn a_derived_index_that_is_missing_stale_or_damaged_is_made_again() {
    let set = set(0..6);
    set.index();
    let path = set.library.dir().join("exact.idx");
    let answers = |library: &Library| library.search(&ask("a green square", 30)).unwrap().hits;
    let before = answers(&set.library);
    let sound = std::fs::read(&path).unwrap();
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    for damage in
        [None, Some(Vec::new()), Some(flipped), Some(b"something else".to_vec()), Some(sound[..sound.len() - 8].to_vec())]
    {
        match &damage {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
        let library = Library::open(set.library.dir(), &models()).unwrap();
        if damage.is_some() {
            let report = library.verify(false).unwrap();
            assert!(report.problems.iter().any(|p| p.cure.contains("delete the file")), "{report:?}");
        }
        assert_eq!(answers(&library), before);
        assert!(library.verify(false).unwrap().is_clean());
    }
    // The index of another library with the same count of changes.
    let other = crate::common::set(6..12);
    other.index();
    std::fs::copy(other.library.dir().join("exact.idx"), &path).unwrap();
    assert_eq!(answers(&Library::open(set.library.dir(), &models()).unwrap()), before);
}

#[test]
fn what_is_no_library_of_ours_is_refused() {
    let set = set(0..2);
    set.index();
    let dir = set.library.dir().to_owned();
    assert!(matches!(Library::create(&dir, &space()), Err(EngineError::LibraryExists { .. })));
    assert!(matches!(Library::create(&set.files, &space()), Err(EngineError::NotALibrary { .. })));
    assert!(matches!(Library::open(&set.files, &models()), Err(EngineError::NoLibrary { .. })));
    assert!(Library::open_or_create(&dir, &space(), &models()).is_ok());

    // Another space: the same one with a view left out.
    let other =
        Library::import_vectors(&set.dir.path().join("other"), "other", Metric::Cosine, &[ready(Modality::Image)], &NoProgress)
            .unwrap();
    let error = Library::open_or_create(&dir, other.space(), &models()).unwrap_err();
    assert!(matches!(error, EngineError::ForeignSpace { .. }), "{error}");

    let sql = |statement: &str| rusqlite::Connection::open(dir.join("library.db")).unwrap().execute_batch(statement).unwrap();
    sql("PRAGMA user_version = 99");
    assert!(matches!(Library::open(&dir, &models()), Err(EngineError::LibraryVersion { found: 99, supported: 2, .. })));
    sql("PRAGMA user_version = 2; PRAGMA application_id = 7");
    assert!(matches!(Library::open(&dir, &models()), Err(EngineError::NotALibrary { .. })));
    std::fs::write(dir.join("library.db"), "no database at all, just some words that are long enough").unwrap();
    assert!(matches!(Library::open(&dir, &models()), Err(EngineError::NotALibrary { .. })));

    let file = set.dir.path().join("x.space");
    space().save(&file).unwrap();
    let sound = std::fs::read(&file).unwrap();
    for cut in [0, 7, 15, 60, sound.len() / 2, sound.len() - 1] {
        std::fs::write(&file, &sound[..cut]).unwrap();
        assert!(matches!(Space::load(&file, &models()), Err(EngineError::SpaceFile { .. })), "{cut} bytes");
    }
    let mut changed = sound.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&file, changed).unwrap();
    assert!(Space::load(&file, &models()).unwrap_err().to_string().contains("checksum"));
    std::fs::write(&file, &sound).unwrap();
    assert_eq!(Space::load(&file, &models()).unwrap().fingerprint(), space().fingerprint());
}

#[test]
fn verify_tells_damage_and_files_that_changed() {
    let set = set(0..4);
    set.index();
    write_wav(&set.files.join("sounds/000.wav"), 47, 1.0);
    std::fs::remove_file(set.files.join("pictures/000.png")).unwrap();
    let report = set.library.verify(true).unwrap();
    assert!(report.is_clean());
    assert_eq!((report.outdated.len(), report.n_files_hashed), (2, 20), "{report:?}");
    let db = rusqlite::Connection::open(set.library.dir().join("library.db")).unwrap();
    db.execute("UPDATE vectors SET vector = zeroblob(5) WHERE segment = 1", []).unwrap();
    db.execute("UPDATE vectors SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB) WHERE segment = 2", []).unwrap();
    db.execute("DELETE FROM paths WHERE item = 3", []).unwrap();
    let report = set.library.verify(false).unwrap();
    let told = format!("{:?}", report.problems);
    assert!(told.contains("segment 1 of item 1 has 5 bytes") && told.contains("segment 2 of item 2 is NaN"), "{told}");
    assert!(told.contains("1 items without a file: item 3"), "{told}");
    // The word index agrees with the texts, by SQLite's own comparison.
    db.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)", []).unwrap();
}

fn ready(modality: Modality) -> ReadyVectors {
    let vectors = Vectors::new(vec![2.0, 0.0, 0.0, 3.0, 1.0, 1.0], 2).unwrap();
    ReadyVectors { modality, vectors, names: ["east", "north", "both"].map(str::to_owned).to_vec(), texts: Vec::new() }
}

#[test]
fn ready_vectors_are_a_library() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ready");
    let library = Library::import_vectors(
        &path,
        "fashion",
        Metric::Cosine,
        &[ready(Modality::Image), ready(Modality::Text)],
        &NoProgress,
    )
    .unwrap();
    let request = |v: Vec<f32>| SearchRequest {
        query: Query::of(QueryMedia::Vector(Modality::Text, v)),
        k: 3,
        kinds: vec![Modality::Image],
        ..SearchRequest::default()
    };
    let reply = library.search(&request(vec![0.1, 5.0])).unwrap();
    let names: Vec<_> = reply.hits.iter().map(|h| h.path.to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["north", "both", "east"]);
    assert!((reply.hits[0].score - 0.9998).abs() < 1e-4);
    assert_eq!(library.find_item("text:north").unwrap().kind, Modality::Text);
    assert!(matches!(library.search(&ask("words", 1)), Err(EngineError::NoEncoder { .. })));
    assert!(library.verify(true).unwrap().is_clean());
    drop(library);
    assert_eq!(Library::open(&path, &models()).unwrap().info().unwrap().n_items, 6);
    let twice = ReadyVectors { names: vec!["a".to_owned(); 3], ..ready(Modality::Image) };
    let error = Library::import_vectors(&dir.path().join("x"), "x", Metric::Cosine, &[twice], &NoProgress).unwrap_err();
    assert!(error.to_string().contains("`a` stands for two"), "{error}");
}

#[test]
fn labels_name_pictures() {
    let set = set(0..1);
    let space = space();
    let labels: Vec<String> = ["red square on the left", "black square on the right"].map(str::to_owned).into();
    let classifier = Classifier::new(&space, &labels, &Prompts::Own(vec!["a {}".to_owned()]), None).unwrap();
    let media = load_media(&set.files.join("pictures/000.png"), &Default::default()).unwrap();
    let ranked = classifier.classify(&media).unwrap();
    assert_eq!(ranked[0].label, labels[0]);
    assert!((ranked.iter().map(|l| l.probability).sum::<f32>() - 1.0).abs() < 1e-6 && ranked[0].probability > 0.5);
    assert!(Classifier::new(&space, &[], &Prompts::Plain, None).is_err());
    assert!(Classifier::new(&space, &labels, &Prompts::Own(vec!["no place".to_owned()]), None).is_err());
}

#[test]
fn a_library_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Library>();
}
