//! A library that grows and shrinks: its derived files stay as they are while little has changed, and what is answered is always what a
//! library made anew would answer.

use std::path::{Path, PathBuf};

use crate::common::{models, set, space, write_things};
use chiasm_core::{Cancel, Modality, NoProgress};
use chiasm_engine::{IndexOptions, Library, Query, SearchRequest};

/// What is found, with its scores to the bit.
fn answers(library: &Library) -> Vec<(i64, f32, Option<f32>)> {
    let of = |text: &str| {
        let request = SearchRequest { query: Query::text(text), k: 500, ..SearchRequest::default() };
        library.search(&request).unwrap().hits.into_iter().map(|hit| (hit.item, hit.score, hit.z)).collect::<Vec<_>>()
    };
    [of("a green square on the right"), of("红色的方块")].concat()
}

/// The answers of a library that has no derived file; what stood there is put back.
fn from_the_database(dir: &Path, file: &Path) -> Vec<(i64, f32, Option<f32>)> {
    let kept = std::fs::read(file).unwrap();
    std::fs::remove_file(file).unwrap();
    let found = answers(&Library::open(dir, &models()).unwrap());
    std::fs::write(file, kept).unwrap();
    found
}

#[test]
fn little_changes_leave_the_file_and_much_is_written_anew() {
    let set = set(0..24);
    set.index();
    let file = set.library.dir().join("exact.idx");
    let written = || std::fs::read(&file).unwrap();
    let first = written();
    let check = |what: &str| {
        let opened = Library::open(set.library.dir(), &models()).unwrap();
        let expected = from_the_database(set.library.dir(), &file);
        assert_eq!(answers(&opened), expected, "opened, {what}");
        // One that was open all the time has measured what is unrelated when it was asked first.
        let without_z = |found: Vec<(i64, f32, Option<f32>)>| {
            let mut found: Vec<(i64, u32)> = found.into_iter().map(|(item, score, _)| (item, score.to_bits())).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(without_z(answers(&set.library)), without_z(expected), "{what}");
        assert!(opened.verify(true).unwrap().is_clean());
    };
    answers(&set.library);
    check("as it was made");

    // 10 of 120 come, 5 go.
    write_things(&set.files, 24..26);
    set.index();
    assert_eq!(written(), first);
    check("grown");
    let gone: Vec<PathBuf> = (3..8).map(|i| set.files.join(format!("pictures/{i:03}.png"))).collect();
    set.library.remove(&gone).unwrap();
    assert_eq!(written(), first);
    check("grown and shrunk");
    let gone: Vec<PathBuf> = (24..26).map(|i| set.files.join(format!("sounds/{i:03}.wav"))).collect();
    set.library.remove(&gone).unwrap();
    // Those came since the file was made, and are let out again; more than an eighth has changed now.
    let second = written();
    assert_ne!(second, first);
    check("written anew");

    // The files come back, as new contents.
    write_things(&set.files, 26..27);
    set.index();
    assert_eq!(written(), second);
    check("grown again");
    write_things(&set.files, 27..40);
    set.index();
    assert_ne!(written(), second);
    check("much grown");
}

#[test]
fn what_came_since_is_found_beside_cells() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let words = |i: usize| format!("{} {} of the {} {}", ["red", "old", "quiet", "wooden"][i % 4], i * 7919, i % 13, i * i);
    let write = |range: std::ops::Range<usize>| {
        range.for_each(|i| std::fs::write(files.join(format!("{i:04}.txt")), words(i)).unwrap());
    };
    write(0..1100);
    let library = Library::create(&dir.path().join("library"), &space()).unwrap();
    let index = |recall| {
        let options = IndexOptions { recall, ..IndexOptions::default() };
        library.index(std::slice::from_ref(&files), &options, &NoProgress, &Cancel::default()).unwrap()
    };
    index(Some(0.99));
    let derived = || ["exact.idx", "cells.idx"].map(|name| std::fs::read(library.dir().join(name)).unwrap());
    let first = derived();
    let best = |library: &Library, i: usize| {
        let request =
            SearchRequest { query: Query::text(&words(i)), k: 3, kinds: vec![Modality::Text], ..SearchRequest::default() };
        library.search(&request).unwrap().hits[0].path.file_stem().unwrap().to_string_lossy().into_owned()
    };
    assert_eq!(best(&library, 500), "0500");
    write(1100..1120);
    (500..505).for_each(|i| std::fs::remove_file(files.join(format!("{i:04}.txt"))).unwrap());
    let report = index(None);
    assert_eq!((report.n_new, report.n_removed), (20, 5));
    assert_eq!(derived(), first);
    let opened = Library::open(library.dir(), &models()).unwrap();
    for library in [&library, &opened] {
        assert!(library.info().unwrap().lanes[0].cells.is_some());
        for i in (1100..1120).chain([7, 499, 900]) {
            assert_eq!(best(library, i), format!("{i:04}"));
        }
        (500..505).for_each(|i| assert_ne!(best(library, i), format!("{i:04}")));
    }

    // Much more: both files are brought up to date, and go together again.
    write(1120..1400);
    index(None);
    let second = derived();
    assert!(second.iter().zip(&first).all(|(second, first)| second != first));
    let opened = Library::open(library.dir(), &models()).unwrap();
    for i in [3, 1110, 1130, 1399] {
        assert_eq!(best(&opened, i), format!("{i:04}"));
    }
    assert!(opened.verify(false).unwrap().is_clean());
}
