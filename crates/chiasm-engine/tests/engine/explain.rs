//! Why an item was found: words of the query, parts of the item.

use crate::common::{set, words, write_gif, write_png};
use chiasm_core::{Cancel, Media, Modality, Span};
use chiasm_engine::{
    DropUnit, EngineError, ExplainRequest, Explanation, Heat, Library, Limits, Query, QueryMedia, SearchRequest, WordDrop,
    load_media,
};

fn explain(library: &Library, query: Query, item: i64) -> Explanation {
    library.explain(&request(query, item), &Cancel::default()).unwrap()
}

fn request(query: Query, item: i64) -> ExplainRequest {
    ExplainRequest { query, item, lanes: Vec::new(), words: true, heat: true, limits: Limits::default() }
}

fn word<'a>(words: &'a [WordDrop], word: &str) -> &'a WordDrop {
    words.iter().find(|w| w.word == word).unwrap_or_else(|| panic!("{word}: {words:?}"))
}

/// Mean drop of the cells of a grid that are so.
fn mean(heat: &Heat, cells: impl Fn(usize, usize) -> bool) -> f32 {
    let Heat::Grid { columns, rows, drop, .. } = heat else { panic!("{heat:?}") };
    assert_eq!((*columns, *rows, drop.len()), (8, 8, 64));
    let those: Vec<f32> = (0..64).filter(|i| cells(i % 8, i / 8)).map(|i| drop[i]).collect();
    those.iter().sum::<f32>() / those.len() as f32
}

fn on_the_square(x: usize, y: usize) -> bool {
    (1..4).contains(&x) && (2..6).contains(&y)
}

fn far_from_it(x: usize, _y: usize) -> bool {
    x == 7
}

/// Mean size of the drops of the cells of a grid that are so, whichever way.
fn spread(heat: &Heat, cells: impl Fn(usize, usize) -> bool) -> f32 {
    let Heat::Grid { columns, rows, drop, at_s, view } = heat.clone() else { panic!("{heat:?}") };
    mean(&Heat::Grid { columns, rows, drop: drop.iter().map(|d| d.abs()).collect(), at_s, view }, cells)
}

#[test]
fn a_picture_is_explained_by_words_and_cells() {
    let set = set(0..24);
    set.index();
    let item = set.id("pictures/000.png");
    let text = "a red square on the left";
    let told = explain(&set.library, Query::text(text), item);

    // What a search says of it.
    let hits = set.library.search(&SearchRequest { query: Query::text(text), k: 200, ..Default::default() }).unwrap().hits;
    let rank = hits.iter().position(|hit| hit.item == item).unwrap();
    let lane = &told.lanes[0];
    assert_eq!((told.lanes.len(), lane.rank, lane.via, lane.span), (1, Some(rank + 1), Modality::Image, Span::Whole));
    let close = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    assert!(close(lane.score, hits[rank].score) && close(lane.z.unwrap(), hits[rank].z.unwrap()), "{lane:?} {:?}", hits[rank]);
    assert!(close(lane.chance.unwrap(), hits[rank].chance.unwrap()));
    assert_eq!((told.unit, told.left_out.len(), told.remarks.len()), (DropUnit::Z, 0, 0), "{told:?}");

    let said = told.words.unwrap();
    assert_eq!(said.iter().map(|w| w.word.as_str()).collect::<Vec<_>>(), ["a", "red", "square", "on", "the", "left"]);
    assert_eq!((said[1].start, said[1].end, said[1].part), (2, 5, 0));
    assert!(word(&said, "red").drop > 0.2 && word(&said, "red").drop > word(&said, "the").drop, "{said:?}");

    // The square lies in columns 1 to 3 of 8 and rows 2 to 5; what is far from it does not matter. For words this descriptor makes little
    // of how much of a square is seen, so there is no telling which way.
    let heat = told.heat.unwrap();
    let (inside, outside) = (spread(&heat, on_the_square), spread(&heat, far_from_it));
    assert!(inside > 2.0 * outside, "{inside} {outside}");
    // Like itself is what it is most: whatever is covered of the square takes from that.
    let picture = load_media(&set.files.join("pictures/000.png"), &Limits::default()).unwrap();
    let like = explain(&set.library, Query::of(QueryMedia::Media(picture)), item).heat.unwrap();
    let (inside, outside) = (mean(&like, on_the_square), mean(&like, far_from_it));
    assert!(inside > 0.0 && inside > 2.0 * outside.abs(), "{inside} {outside}");

    let json = serde_json::to_value(&heat).unwrap();
    assert_eq!((&json["kind"], &json["columns"]), (&"grid".into(), &8.into()));
    assert!(json.get("at_s").is_none());

    // Without words or heat nothing is encoded but the query.
    let bare = ExplainRequest { words: false, heat: false, ..request(Query::text(text), item) };
    let bare = set.library.explain(&bare, &Cancel::default()).unwrap();
    assert_eq!((bare.words, bare.heat), (None, None));
}

#[test]
fn queries_of_every_kind_are_explained() {
    let set = set(0..12);
    set.index();
    let item = set.id("pictures/000.png");
    let zh = words(0).1;
    let told = explain(&set.library, Query::text(&zh), item);
    let said = told.words.unwrap();
    let of_text: Vec<char> = zh.chars().collect();
    for word in &said {
        assert_eq!(word.word, of_text[word.start..word.end].iter().collect::<String>());
    }
    assert!(said.iter().any(|w| w.word == "红"));

    // Words of the second part are told as its own, and a part that is not wanted brings a drop of its own sign.
    let picture = load_media(&set.files.join("pictures/006.png"), &Limits::default()).unwrap();
    let query = Query::of(QueryMedia::Media(picture)).and(QueryMedia::Media(Media::Text("blue".to_owned())), -0.5);
    let told = explain(&set.library, query, item);
    let said = told.words.unwrap();
    assert_eq!((said.len(), said[0].part, said[0].word.as_str()), (1, 1, "blue"));
    assert!(told.lanes[0].chance.is_none() && told.lanes[0].z.is_some());

    let told = explain(&set.library, Query::of(QueryMedia::Item(set.id("sounds/000.wav"))), item);
    assert_eq!(told.words, None);
    assert!(matches!(told.heat, Some(Heat::Grid { .. })));
    let itself = explain(&set.library, Query::of(QueryMedia::Item(item)), item);
    assert_eq!(itself.lanes[0].rank, None, "an item is no answer to itself");
    assert!(itself.lanes[0].score > 0.99);

    let one = explain(&set.library, Query::text("red"), item).words.unwrap();
    let all = explain(&set.library, Query::text("red"), item).lanes[0].z.unwrap();
    assert!((one[0].drop - all).abs() < 1e-3, "without its only word nothing is asked: {one:?} {all}");
}

#[test]
fn sounds_series_texts_and_videos_have_parts_of_their_own() {
    let set = set(0..12);
    write_gif(&set.files.join("flicker.gif"), 0);
    let passage = "Nothing of note here. ".repeat(60);
    let long = format!(
        "{passage}\n\nThe weather was 很好 that day. A zeppelin lands by the lighthouse. Then it was gone.\n\n{passage}"
    );
    std::fs::write(set.files.join("long.md"), &long).unwrap();
    set.index();

    let sound = explain(&set.library, Query::text(&words(0).0), set.id("sounds/000.wav"));
    let Some(Heat::Time { windows }) = &sound.heat else { panic!("{sound:?}") };
    assert_eq!((windows.len(), windows[0].start_s, windows[3].end_s), (4, 0.0, 1.0));
    assert!(windows.windows(2).all(|w| w[0].end_s == w[1].start_s));
    assert!(windows.iter().any(|w| w.drop > 0.0));

    let series = explain(&set.library, Query::text(&words(0).0), set.id("series/000.csv"));
    let Some(Heat::Steps { windows }) = &series.heat else { panic!("{series:?}") };
    assert_eq!((windows.len(), windows[0].start, windows[31].end), (32, 0, 128));
    assert!(windows.iter().any(|w| w.drop != 0.0));

    let text = explain(&set.library, Query::text("A zeppelin lands by the lighthouse."), set.id("long.md"));
    assert!(matches!(text.lanes[0].span, Span::Bytes { .. }));
    let Some(Heat::Text { passages }) = &text.heat else { panic!("{text:?}") };
    let best = passages.iter().max_by(|a, b| a.drop.total_cmp(&b.drop)).unwrap();
    assert_eq!(best.text, "A zeppelin lands by the lighthouse.", "{passages:?}");
    let shown: Vec<char> = set.library.details(set.id("long.md")).unwrap().text.unwrap().chars().collect();
    for passage in passages {
        assert_eq!(passage.text, shown[passage.start..passage.end].iter().collect::<String>());
    }

    let one = explain(&set.library, Query::text("a red square"), set.id("texts/000.en.txt"));
    let Some(Heat::Text { passages }) = &one.heat else { panic!("{one:?}") };
    assert!(passages.len() > 3, "one sentence is told word by word: {passages:?}");

    std::fs::write(set.files.join("word.txt"), "Zeppelin").unwrap();
    set.index();
    let word = explain(&set.library, Query::text("zeppelin"), set.id("word.txt"));
    let Some(Heat::Text { passages }) = &word.heat else { panic!("{word:?}") };
    assert!(passages.len() == 1 && passages[0].drop > 0.0, "nothing is left of it: {passages:?}");

    // Every other frame is grey: the one with the thing comes closest.
    let picture = load_media(&set.files.join("pictures/000.png"), &Limits::default()).unwrap();
    let video = explain(&set.library, Query::of(QueryMedia::Media(picture)), set.id("flicker.gif")).heat.unwrap();
    let Heat::Grid { at_s: Some(at_s), .. } = video else { panic!("{video:?}") };
    assert!([0.0, 1.0].iter().any(|begins| (at_s - begins).abs() < 1e-6), "{at_s}");
    assert!(mean(&video, on_the_square) > 2.0 * mean(&video, far_from_it).abs());
}

#[test]
fn a_caption_that_matched_is_said_and_files_that_are_gone_too() {
    let set = set(0..12);
    let photo = set.files.join("pictures/000.png");
    std::fs::write(set.files.join("pictures/000.txt"), "grandmother's birthday in 上海").unwrap();
    set.index();
    let item = set.id("pictures/000.png");
    let told = explain(&set.library, Query::text("grandmother's birthday in 上海"), item);
    assert_eq!((told.lanes[0].via, told.remarks.len()), (Modality::Text, 1), "{told:?}");
    assert!(told.remarks[0].contains("caption"));
    let said = told.words.unwrap();
    assert!(word(&said, "grandmother's").drop > 0.0 && word(&said, "birthday").drop > 0.0, "{said:?}");
    assert!(matches!(told.heat, Some(Heat::Grid { .. })), "the picture itself is shown as well");

    let fails = |request: &ExplainRequest| set.library.explain(request, &Cancel::default()).unwrap_err();
    std::fs::remove_file(&photo).unwrap();
    let error = fails(&request(Query::text("red"), item));
    assert!(matches!(&error, EngineError::ItemFile { item: i, reason } if *i == item && reason.contains("000.png")), "{error}");
    write_png(&photo, 5);
    assert!(fails(&request(Query::text("red"), item)).to_string().contains("index again"));
    let no_heat = ExplainRequest { heat: false, ..request(Query::text("red"), item) };
    assert!(set.library.explain(&no_heat, &Cancel::default()).is_ok());
    let tight = ExplainRequest {
        limits: Limits { max_pixels: 10, ..Limits::default() },
        ..request(Query::text("red"), set.id("pictures/001.png"))
    };
    assert!(matches!(fails(&tight), EngineError::ItemFile { .. }));

    assert!(matches!(fails(&request(Query::text("red"), 9_999)), EngineError::NoSuchItem(_)));
    assert!(matches!(fails(&request(Query::default(), item)), EngineError::Query(_)));
    let unknown = ExplainRequest { lanes: vec!["nope".to_owned()], ..request(Query::text("red"), item) };
    assert!(matches!(fails(&unknown), EngineError::NoSuchLane { .. }));
    let words = ExplainRequest { lanes: vec!["words".to_owned()], heat: false, ..request(Query::text("red"), item) };
    assert_eq!(set.library.explain(&words, &Cancel::default()).unwrap().lanes.len(), 1, "by what models make of it");
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = set.library.explain(&request(Query::text("red"), item), &cancel);
    assert!(matches!(stopped, Err(EngineError::Cancelled(_))));
}
