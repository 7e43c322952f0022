//! Looking through a library: pages, what there is to narrow it by, tags.

use std::time::{Duration, Instant};

use crate::common::{Set, models, set, write_png};
use chiasm_core::{Cancel, Modality, NoProgress, Span};
use chiasm_engine::{BrowseRequest, Count, EngineError, Facets, Filter, IndexOptions, Library, Query, SearchRequest, Sort};

fn filter(source: &str) -> Filter {
    Filter::parse(source).unwrap()
}

fn names(set: &Set, request: &BrowseRequest) -> Vec<String> {
    set.library.browse(request).unwrap().items.into_iter().map(|entry| entry.name).collect()
}

fn told(counts: &[Count]) -> Vec<(&str, usize)> {
    counts.iter().map(|count| (count.value.as_str(), count.n)).collect()
}

/// The library's database, to put into it what no file of the tests says.
fn database(set: &Set) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(set.library.dir().join("library.db")).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection
}

#[test]
fn pages_are_stretches_of_one_order() {
    let set = set(0..6);
    set.index();
    let all = BrowseRequest { limit: 100, ..BrowseRequest::default() };
    let whole = set.library.browse(&all).unwrap();
    assert_eq!((whole.items.len(), whole.total, whole.next_offset), (30, 30, None));
    for sort in Sort::ALL {
        let whole: Vec<i64> =
            set.library.browse(&BrowseRequest { sort, ..all.clone() }).unwrap().items.iter().map(|e| e.item).collect();
        let (mut paged, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let page = set.library.browse(&BrowseRequest { sort, offset, limit: 7, ..all.clone() }).unwrap();
            assert_eq!((page.offset, page.total), (offset, 30));
            paged.extend(page.items.iter().map(|e| e.item));
            next = page.next_offset;
        }
        assert_eq!(paged, whole, "{}", sort.as_str());
        assert_eq!(sort.as_str().parse::<Sort>().unwrap(), sort);
    }
    assert!("random".parse::<Sort>().unwrap_err().to_string().contains("newest"));
    let beyond = set.library.browse(&BrowseRequest { offset: 500, ..all.clone() }).unwrap();
    assert_eq!((beyond.items.len(), beyond.total, beyond.next_offset), (0, 30, None));
    assert!(
        set.library.browse(&BrowseRequest { offset: usize::MAX, limit: usize::MAX, ..all.clone() }).unwrap().items.is_empty()
    );

    let pictures = BrowseRequest { kinds: vec![Modality::Image, Modality::Series], sort: Sort::Name, ..all.clone() };
    let expected: Vec<String> = (0..6).flat_map(|i| [format!("{i:03}.csv"), format!("{i:03}.png")]).collect();
    assert_eq!(names(&set, &pictures), expected);
    let narrow = BrowseRequest { filter: Some(filter("name = '00[1]*' OR name = '003.*' OR kind = text")), ..pictures };
    assert_eq!(names(&set, &narrow), ["003.csv", "003.png"], "either side of OR is narrowed to the kinds");
}

#[test]
fn orders_are_by_time_and_size() {
    let set = set(0..3);
    set.index();
    let db = database(&set);
    let update = "UPDATE items SET taken = ?2 WHERE id = ?1";
    for (name, taken) in [("pictures/000.png", "2020-05-01T10:00:00"), ("pictures/001.png", "2021-07-04T18:30:00+02:00")] {
        db.execute(update, (set.id(name), taken)).unwrap();
    }
    let mtime = "UPDATE paths SET mtime_ns = ?2 WHERE item = ?1";
    for (name, mtime_ns) in [("pictures/002.png", 9_i64 << 60), ("sounds/000.wav", 5), ("sounds/001.wav", 7)] {
        db.execute(mtime, (set.id(name), mtime_ns)).unwrap();
    }
    let ask = |sort, kinds: &[Modality]| {
        names(&set, &BrowseRequest { sort, kinds: kinds.to_vec(), limit: 9, ..BrowseRequest::default() })
    };
    assert_eq!(
        ask(Sort::Newest, &[Modality::Image]),
        ["001.png", "000.png", "002.png"],
        "without a date behind those with one"
    );
    assert_eq!(ask(Sort::Oldest, &[Modality::Image]), ["000.png", "001.png", "002.png"]);
    assert_eq!(ask(Sort::Newest, &[Modality::Audio]), ["002.wav", "001.wav", "000.wav"]);
    assert_eq!(ask(Sort::Oldest, &[Modality::Audio]), ["000.wav", "001.wav", "002.wav"]);
    let sizes = |sort| -> Vec<u64> {
        let page = set.library.browse(&BrowseRequest { sort, limit: 99, ..BrowseRequest::default() }).unwrap();
        page.items.iter().map(|e| e.metadata.size).collect()
    };
    assert!(sizes(Sort::Largest).is_sorted_by(|a, b| a >= b) && sizes(Sort::Smallest).is_sorted());
}

#[test]
fn an_item_is_told_in_full() {
    let set = set(0..2);
    let photo = set.files.join("pictures/000.png");
    std::fs::write(set.files.join("pictures/000.txt"), "grandmother in 上海").unwrap();
    std::fs::create_dir(set.files.join("copies")).unwrap();
    std::fs::copy(&photo, set.files.join("copies/z.png")).unwrap();
    let filler = "Nothing happens here. 这里什么也没有发生。 ".repeat(60);
    let long = format!("  {filler}\n\n \u{3000}A zeppelin lands.\n\n{filler}");
    std::fs::write(set.files.join("long.md"), &long).unwrap();
    set.index();

    let details = set.library.details(set.id("pictures/000.png")).unwrap();
    let entry = &details.entry;
    assert_eq!((entry.name.as_str(), entry.paths.len(), entry.n_segments), ("z.png", 2, 2));
    assert_eq!((details.captions.as_slice(), &details.text), (["grandmother in 上海".to_owned()].as_slice(), &None));
    assert_eq!(entry.snippet.as_deref(), Some("grandmother in 上海"));
    let parts: Vec<(Span, Modality)> = details.segments.iter().map(|p| (p.span, p.modality)).collect();
    assert_eq!(parts, [(Span::Whole, Modality::Image), (Span::Whole, Modality::Text)]);
    assert_eq!(set.library.entry(entry.item).unwrap(), *entry);
    assert_eq!(entry.folder, set.files.join("copies").canonicalize().unwrap().to_str().unwrap());

    let json = serde_json::to_value(&details).unwrap();
    for field in ["item", "kind", "hash", "path", "name", "folder", "paths", "metadata", "n_segments", "snippet", "tags"] {
        assert!(!json[field].is_null(), "{field}: {json}");
    }
    assert_eq!(json["segments"][0]["span"], serde_json::json!({"unit": "whole"}));

    let text = set.library.details(set.id("long.md")).unwrap();
    let shown = text.text.unwrap();
    assert!(text.segments.len() > 3);
    for part in &text.segments {
        let Span::Bytes { start, end } = part.span else { panic!("{part:?}") };
        assert_eq!(shown[start..end], long[start..end]);
    }
    assert_eq!(serde_json::to_value(text.segments[1]).unwrap()["span"]["unit"], "byte");
    assert!(matches!(set.library.details(9_999), Err(EngineError::NoSuchItem(_))));

    let huge = "word ".repeat(10_000);
    std::fs::write(set.files.join("huge.txt"), &huge).unwrap();
    set.index();
    let shown = set.library.details(set.id("huge.txt")).unwrap().text.unwrap();
    assert!(shown.chars().count() == 20_000 && huge.starts_with(&shown));
}

#[test]
fn what_was_refused_comes_in_pages() {
    let set = set(0..1);
    for i in 0..5 {
        std::fs::write(set.files.join(format!("broken{i}.png")), [0x89, b'P', b'N', b'G', i]).unwrap();
    }
    set.index_with(&IndexOptions::default());
    let page = set.library.refused(2, 2).unwrap();
    let names: Vec<_> = page.refused.iter().map(|r| r.path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!((names, page.total), (vec!["broken2.png".to_owned(), "broken3.png".to_owned()], 5));
    assert!(page.refused.iter().all(|r| !r.reason.is_empty()));
}

#[test]
fn facets_count_what_the_filter_leaves() {
    let set = set(0..6);
    let below = set.files.join("pictures/trips");
    std::fs::create_dir(&below).unwrap();
    write_png(&below.join("a.png"), 40);
    // One content twice below `pictures` counts once there.
    std::fs::copy(set.files.join("pictures/000.png"), below.join("copy.png")).unwrap();
    set.index();
    let db = database(&set);
    let (first, second) = (set.id("pictures/000.png"), set.id("pictures/001.png"));
    let place = "UPDATE items SET taken = '2021-07-04T18:30:00', latitude = 48.1, longitude = 11.5 WHERE id = ?1";
    db.execute(place, [first]).unwrap();
    db.execute("UPDATE items SET taken = '2020-12-31T23:59:59' WHERE id = ?1", [second]).unwrap();
    set.library.set_tags(first, &["Cat".to_owned(), "dog".to_owned()]).unwrap();
    set.library.set_tags(second, &["cat".to_owned()]).unwrap();

    let root = set.files.canonicalize().unwrap().to_str().unwrap().to_owned();
    let folder = |name: &str| format!("{root}/{name}");
    let all = set.library.facets(None, &[]).unwrap();
    assert_eq!(all.n_items, 31);
    assert_eq!(told(&all.kinds), [("image", 7), ("text", 12), ("audio", 6), ("series", 6)]);
    let folders: Vec<(String, usize)> = all.folders.iter().map(|c| (c.value.clone(), c.n)).collect();
    let expected = [(root.clone(), 31), (folder("texts"), 12), (folder("pictures"), 7), (folder("series"), 6)];
    assert_eq!(folders[..4], expected);
    assert_eq!(folders[4..], [(folder("sounds"), 6), (folder("pictures/trips"), 2)]);
    for (name, n) in &folders {
        let found = set.library.items(Some(&filter(&format!("folder = '{name}'")))).unwrap().len();
        assert_eq!(found, *n, "{name}: as many as its filter finds");
    }
    assert_eq!(told(&all.tags), [("Cat", 2), ("dog", 1)], "spelt as on the first item");
    let months: Vec<(&str, usize)> = all.taken.bins.iter().map(|b| (b.start.as_str(), b.n)).collect();
    assert_eq!((months, all.taken.n_undated), (vec![("2020-12", 1), ("2021-07", 1)], 29));
    assert_eq!(all.sizes.bins.iter().map(|b| b.n).sum::<usize>(), 31);
    assert_eq!((all.places.len(), all.places[0].item, all.places[0].latitude), (1, first, 48.1));

    let narrow = set.library.facets(Some(&filter("tag = CAT OR kind = audio")), &[Modality::Image]).unwrap();
    assert_eq!(
        (narrow.n_items, told(&narrow.kinds)),
        (2, vec![("image", 2), ("audio", 6)]),
        "other kinds can still be offered"
    );
    assert_eq!(told(&narrow.formats), [("PNG", 2)]);
    assert_eq!(narrow.folders[0], Count { value: root.clone(), n: 2 });
    assert_eq!(narrow.folders[2], Count { value: folder("pictures/trips"), n: 1 });
    let none = set.library.facets(Some(&filter("size > 1GB")), &[]).unwrap();
    assert_eq!(none, Facets::default());
    let json = serde_json::to_value(&all).unwrap();
    assert_eq!(json["taken"]["bins"][0], serde_json::json!({"start": "2020-12", "n": 1}));
}

#[test]
fn tags_are_kept_filtered_by_and_leave_with_their_item() {
    let set = set(0..4);
    set.index();
    let count = |source: &str| set.library.items(Some(&filter(source))).unwrap().len();
    assert_eq!(
        (count("has tag"), count("tag = x"), count("NOT tag = x AND kind = image")),
        (0, 0, 4),
        "before there is a table"
    );
    assert_eq!((count("tag != x"), count("tag contains x")), (20, 0));

    let generation = set.library.info().unwrap().generation;
    let (a, b) = (set.id("pictures/000.png"), set.id("pictures/001.png"));
    let put = |item, tags: &[&str]| set.library.set_tags(item, &tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
    assert_eq!(put(a, &[" sea ", "Dog", "dog", "日本"]).unwrap(), ["Dog", "sea", "日本"]);
    assert_eq!(put(b, &["sea side", "100%"]).unwrap(), ["100%", "sea side"]);
    assert_eq!(set.library.info().unwrap().generation, generation, "no index is made anew for a word");
    assert_eq!(set.library.entry(a).unwrap().tags, ["Dog", "sea", "日本"]);
    assert_eq!((count("tag = sea"), count("TAG = 'SEA'"), count("tag contains sea"), count("has tag")), (1, 1, 2, 2));
    assert_eq!((count("tag = 日本"), count("tag contains '%'"), count("tag != sea AND kind = image")), (1, 1, 3));
    let request =
        SearchRequest { query: Query::text("a square"), k: 9, filter: Some(filter("tag = dog")), ..Default::default() };
    assert_eq!(set.library.search(&request).unwrap().hits.iter().map(|h| h.item).collect::<Vec<_>>(), [a]);
    assert_eq!(Library::open(set.library.dir(), &models()).unwrap().entry(a).unwrap().tags.len(), 3);

    let fails = |item, tags: &[&str]| put(item, tags).unwrap_err().to_string();
    assert!(fails(a, &["ok", "  "]).contains("0 characters, expected 1 to 64"));
    assert!(fails(a, &[&"ä".repeat(65)]).contains("65 characters"));
    assert!(fails(a, &["a\u{7}b"]).contains("U+0007"));
    let many: Vec<String> = (0..65).map(|i| i.to_string()).collect();
    assert!(matches!(set.library.set_tags(a, &many), Err(EngineError::Tag { .. })));
    assert!(matches!(put(9_999, &["x"]), Err(EngineError::NoSuchItem(_))));
    assert_eq!(set.library.entry(a).unwrap().tags.len(), 3, "what was refused changes nothing");
    assert_eq!(put(b, &[]).unwrap(), [""; 0]);

    // Tags follow a content: they move with its file and leave with its last one.
    std::fs::rename(set.files.join("pictures/000.png"), set.files.join("moved.png")).unwrap();
    set.index();
    assert_eq!(set.library.entry(a).unwrap().tags.len(), 3);
    std::fs::remove_file(set.files.join("moved.png")).unwrap();
    set.index();
    assert_eq!(count("has tag"), 0);
    let left: i64 = database(&set).query_row("SELECT count(*) FROM tags", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    assert!(set.library.verify(true).unwrap().is_clean());
}

#[test]
fn tags_do_not_wait_for_an_indexing() {
    let set = set(0..8);
    set.index();
    let item = set.id("pictures/000.png");
    for i in 8..40 {
        write_png(&set.files.join(format!("pictures/{i:03}.png")), i);
    }
    std::thread::scope(|scope| {
        let roots = [set.files.clone()];
        let library = &set.library;
        let indexing =
            scope.spawn(move || library.index(&roots, &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap());
        let mut n = 0;
        while !indexing.is_finished() {
            library.set_tags(item, &[format!("tag {n}")]).unwrap();
            n += 1;
        }
        assert_eq!(indexing.join().unwrap().n_new, 32);
        assert_eq!(library.entry(item).unwrap().tags, [format!("tag {}", n - 1)]);
    });
}

/// Prints what 100,000 items take.
#[test]
fn a_large_library_is_counted_and_paged_quickly() {
    const N: i64 = 100_000;
    let set = set(0..1);
    let mut db = database(&set);
    let tx = db.transaction().unwrap();
    {
        let mut items = tx
            .prepare(
                "INSERT INTO items (hash, kind, format, size, taken, latitude, longitude) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .unwrap();
        let mut paths = tx
            .prepare("INSERT INTO paths (path, folder, name, size, mtime_ns, settled, item) VALUES (?1, ?2, ?3, 1, ?4, 1, ?5)")
            .unwrap();
        let (kinds, formats) = (["image", "image", "image", "text", "audio"], ["JPEG", "PNG", "JPEG", "text", "WAV"]);
        for i in 0..N {
            let mut hash = [0_u8; 32];
            hash[..8].copy_from_slice(&i.to_le_bytes());
            let dated = i % 5 < 3;
            let taken = dated.then(|| format!("20{:02}-{:02}-{:02}T10:00:{:02}", i % 24, 1 + i % 12, 1 + i % 28, i % 60));
            let place = (i % 3 == 0).then_some(i as f64 / N as f64 * 90.0);
            let at = (i % 5) as usize;
            items.execute((hash, kinds[at], formats[at], 1_000 + i * i % 9_000_000, taken, place, place)).unwrap();
            let folder = format!("/photos/{:02}/{:04}/", i / 2_500, i / 100);
            let name = format!("IMG_{i:06}.jpg");
            paths.execute((format!("{folder}{name}").as_bytes(), &folder, &name, i * 1_000, tx.last_insert_rowid())).unwrap();
        }
    }
    tx.execute("INSERT INTO roots (path) VALUES (?1)", [b"/photos"]).unwrap();
    tx.commit().unwrap();
    drop(db);
    for item in 1..50 {
        set.library.set_tags(item, &[format!("tag {}", item % 7)]).unwrap();
    }

    let mut took: Vec<(String, Duration)> = Vec::new();
    let mut time = |what: &str, work: &mut dyn FnMut()| {
        // The best of three: what else the machine does is no part of it.
        let best = (0..3).map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        });
        took.push((what.to_owned(), best.min().unwrap()));
    };
    // What SQLite takes to look at every row once, which no count can do without.
    let db = database(&set);
    let look = "SELECT (SELECT sum(length(taken)) FROM items) + (SELECT sum(length(folder)) FROM paths)";
    time("a look at every row", &mut || assert!(db.query_row(look, [], |row| row.get::<_, i64>(0)).unwrap() > N));
    let some = filter("taken >= 2010 AND folder = '/photos/07'");
    time("facets", &mut || {
        let facets = set.library.facets(None, &[]).unwrap();
        assert_eq!((facets.n_items as i64, facets.places.len()), (N, 5_000));
        assert_eq!(facets.folders[0], Count { value: "/photos".to_owned(), n: N as usize });
        assert_eq!(facets.tags.iter().map(|t| t.n).sum::<usize>(), 49);
    });
    time("facets, filtered", &mut || assert!(set.library.facets(Some(&some), &[Modality::Image]).unwrap().n_items > 100));
    for sort in Sort::ALL {
        let request = BrowseRequest { sort, offset: 50_000, limit: 60, ..BrowseRequest::default() };
        time(&format!("page by {}", sort.as_str()), &mut || {
            assert_eq!(set.library.browse(&request).unwrap().items.len(), 60);
        });
    }
    let look = took[0].1;
    for (what, took) in took {
        println!("{what}: {:.0} ms", took.as_secs_f64() * 1e3);
        assert!(took < look * 60, "{what}: {took:?}, a look at every row {look:?}");
    }
}
