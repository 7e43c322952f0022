//! Each command on a small library.

use std::fs;
use std::process::Stdio;

use crate::common::{FIXTURE, chiasm, some_files, some_library};

fn kinds(json: &serde_json::Value) -> Vec<String> {
    json["hits"].as_array().unwrap().iter().map(|h| h["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_space_tells_how_it_was_made() {
    let dir = FIXTURE.dir.path();
    let json = chiasm(dir, &["space", "info", "world.space", "--json"]).code(0).json();
    assert_eq!(json["name"], "world");
    let views: Vec<&str> = json["views"].as_array().unwrap().iter().map(|v| v["modality"].as_str().unwrap()).collect();
    assert_eq!(views, ["image", "text", "audio", "series"]);
    let text = chiasm(dir, &["space", "info", "world.space"]).code(0).out;
    for word in ["colour-layout", "char-ngrams", "mcca", "image->text", "R@10", "parameters"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
}

#[test]
fn a_second_run_does_what_changed() {
    let dir = some_library(3);
    let index = |expected: i32| chiasm(dir.path(), &["index", ".", "--json"]).code(expected).json();
    let same = index(0);
    assert_eq!((&same["n_unchanged"], &same["n_segments"]), (&15.into(), &0.into()));
    let id = |path: &str| chiasm(dir.path(), &["search", "--like", path, "-k", "1", "--json"]).code;
    assert_eq!(id("pictures/0001.png"), 0);
    // One moves, one changes, one goes, one is new.
    fs::rename(dir.path().join("pictures/0001.png"), dir.path().join("moved.png")).unwrap();
    fs::write(dir.path().join("texts/0002.en.txt"), "something else altogether\n").unwrap();
    fs::remove_file(dir.path().join("sounds/0003.wav")).unwrap();
    fs::write(dir.path().join("note.md"), "a note about shapes\n").unwrap();
    let changed = index(0);
    let n = |name: &str| changed[name].as_u64().unwrap();
    // An item is a content, so two left: the one whose file is gone, and the one whose file holds something else now.
    assert_eq!((n("n_moved"), n("n_updated"), n("n_removed"), n("n_new")), (1, 1, 2, 1), "{changed}");
    assert_eq!(n("n_unchanged"), 12);
    assert_eq!(n("n_segments"), 2, "{changed}");
    assert_eq!(id("moved.png"), 0);
    assert_eq!(id("sounds/0003.wav"), 1);
    assert!(chiasm(dir.path(), &["verify", "--deep"]).code(0).out.starts_with("clean"));
}

#[test]
fn the_library_is_found_from_below_and_by_the_environment() {
    let dir = some_library(1);
    let info = chiasm(&dir.path().join("pictures"), &["info", "--json"]).code(0).json();
    assert_eq!(info["n_items"], 5);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = crate::common::command(elsewhere.path());
    let output = command.args(["info", "--json"]).env("CHIASM_LIBRARY", dir.path().join(".chiasm")).output().unwrap();
    assert_eq!(crate::common::Reply::of(output).code(0).json()["n_items"], 5);
}

#[test]
fn search_by_every_kind_and_mixtures() {
    let dir = some_library(6);
    let ask = |args: &[&str]| chiasm(dir.path(), &[&["search", "--json", "-k", "4"], args].concat()).code(0).json();
    for question in [
        &["a", "red", "circle"][..],
        &["--text", "圆形"],
        &["--image", "pictures/0002.png"],
        &["--audio", "sounds/0002.wav"],
        &["--series", "series/0002.csv"],
        &["--text-file", "texts/0002.en.txt"],
        &["--like", "pictures/0002.png"],
        &["--image", "pictures/0001.png", "--weight", "0.7", "--text", "blue", "--not", "green", "--weight", "0.5"],
    ] {
        let reply = ask(question);
        let hits = reply["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 4, "{question:?}");
        assert_eq!(hits[0]["rank"], 1);
        assert!(hits.iter().all(|h| h["score"].is_number() && h["path"].is_string() && h["strength"].is_string()), "{reply}");
    }
    // A picture asked by itself is the closest picture; asked as an item it is left out.
    let own = ask(&["--image", "pictures/0002.png", "--kind", "image"]);
    assert!(own["hits"][0]["path"].as_str().unwrap().ends_with("pictures/0002.png"), "{own}");
    let others = ask(&["--like", "pictures/0002.png", "--kind", "image"]);
    assert!(!others.to_string().contains("pictures/0002.png"), "{others}");
    assert!(kinds(&ask(&["red", "--kind", "audio,series"])).iter().all(|k| k == "audio" || k == "series"));
    assert_eq!(kinds(&ask(&["red", "--where", "kind = image AND size > 10"])), ["image"; 4]);
}

#[test]
fn people_and_programs_are_answered() {
    let dir = some_library(3);
    let shown = chiasm(dir.path(), &["search", "a red circle", "-k", "3"]).code(0);
    assert_eq!(shown.out.lines().filter(|l| l.trim_start().starts_with(['1', '2', '3'])).count(), 3, "{}", shown.out);
    assert!(!shown.out.contains('\u{1b}'), "colour without a terminal: {:?}", shown.out);
    assert!(shown.err.contains("15 candidates"), "{}", shown.err);
    assert!(chiasm(dir.path(), &["search", "a", "--quiet"]).code(0).err.is_empty());
    let lines = chiasm(dir.path(), &["search", "a", "-k", "3", "--paths"]).code(0).out;
    assert!(lines.lines().count() == 3 && lines.lines().all(|l| std::path::Path::new(l).is_file()), "{lines}");
    let picture = chiasm(dir.path(), &["search", "a", "-k", "1", "--kind", "image", "--thumbs", "always"]).code(0).out;
    assert!(picture.contains("\u{1b}]1337;File=inline=1;"), "{picture:?}");
    let similar = chiasm(dir.path(), &["similar", "pictures/0001.png", "-k", "2", "--json"]).code(0).json();
    assert_eq!(similar["hits"].as_array().unwrap().len(), 2);
    // A file that is not in the library is asked by its content.
    fs::create_dir(dir.path().join(".hidden")).unwrap();
    fs::copy(FIXTURE.path("world/pictures/0009.png"), dir.path().join(".hidden/x.png")).unwrap();
    chiasm(dir.path(), &["similar", ".hidden/x.png"]).code(0);
    chiasm(dir.path(), &["similar", "nowhere.png"]).code(1);
}

#[test]
fn classify_ranks_labels_and_refuses_what_it_cannot_read() {
    let dir = some_library(2);
    fs::write(dir.path().join("bad.png"), b"not a picture at all\x00\x01").unwrap();
    let line = ["classify", "--labels", "red, green,blue", "pictures/0001.png", "bad.png", "sounds/0001.wav", "--json"];
    let reply = chiasm(dir.path(), &line).code(3);
    let rows = reply.json();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    let labels = rows[0]["labels"].as_array().unwrap();
    let total: f64 = labels.iter().map(|l| l["probability"].as_f64().unwrap()).sum();
    assert!(labels.len() == 3 && (total - 1.0).abs() < 1e-3, "{rows}");
    assert!(rows[1]["refused"].is_string() && reply.err.contains("bad.png"), "{rows}");
    let text = chiasm(dir.path(), &["classify", "--labels", "red,green", "--space", &FIXTURE.space(), "texts/0001.en.txt"])
        .code(0)
        .out;
    assert!(text.contains('%') && text.contains("red"), "{text}");
    chiasm(dir.path(), &["classify", "--labels", "red", "--template", "a thing", "pictures/0001.png"]).code(1);
}

#[test]
fn rm_info_verify() {
    let dir = some_library(3);
    let n_items = || chiasm(dir.path(), &["info", "--json"]).code(0).json()["n_items"].as_u64().unwrap();
    assert_eq!(n_items(), 15);
    assert!(chiasm(dir.path(), &["rm", "pictures/0001.png", "sounds"]).code(0).out.starts_with("4 items left"));
    assert_eq!(n_items(), 11);
    assert!(dir.path().join("pictures/0001.png").exists());
    chiasm(dir.path(), &["rm", "nowhere.png"]).code(1);
    assert!(!chiasm(dir.path(), &["search", "a", "-k", "50", "--paths"]).code(0).out.contains("sounds/"));
    let text = chiasm(dir.path(), &["info"]).code(0).out;
    for word in ["11 items", "fingerprint", "colour-layout", "database"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    let verified = chiasm(dir.path(), &["verify", "--json"]).code(0).json();
    assert_eq!((&verified["clean"], &verified["n_items"]), (&true.into(), &11.into()));
}

#[test]
fn two_writers_do_not_mix() {
    // The lock's own tests are the engine's; here, that a second writer either waits or says who writes.
    let dir = some_files(12);
    let index = ["index", ".", "--space", &FIXTURE.space(), "--wait"].map(str::to_owned);
    let start = |_| {
        let mut command = crate::common::command(dir.path());
        command.args(&index).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..3).map(start).collect();
    for child in children {
        crate::common::Reply::of(child.wait_with_output().unwrap()).code(0);
    }
    assert_eq!(chiasm(dir.path(), &["info", "--json"]).code(0).json()["n_items"], 60);
    chiasm(dir.path(), &["verify"]).code(0);
}

#[test]
fn models_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let json = chiasm(dir.path(), &["model", "list", "--json"]).code(0).json();
    let of = |name: &str| json["models"].as_array().unwrap().iter().find(|m| m["name"] == name).unwrap().clone();
    assert_eq!(of("char-ngrams")["found"], true);
    assert_eq!(of("mobilenet_v2")["found"], false);
    let info = chiasm(dir.path(), &["model", "info", "colour-layout", "--json"]).code(0).json();
    assert!(info["kind"] == "image" && info["dim"].as_u64().unwrap() > 0 && info["fingerprint"].is_string());
}

#[test]
fn a_peer_is_named_before_a_library() {
    let dir = tempfile::tempdir().unwrap();
    let named = |word: &str| {
        // Nobody answers: who would have been measured is told all the same.
        let line = ["bench", "ann", "--rows", "300", "--ours", "chiasm-exact", "--python", "/nowhere/python", "--turns", "1"];
        let told = chiasm(dir.path(), &[&line[..], &["--threads", "1", "--json", "--rivals", word]].concat()).code(0).json();
        let rows = told[0]["rows"].as_array().unwrap().iter().skip(1);
        rows.map(|row| row["contestant"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(named("scann"), ["scann"]);
    assert_eq!(named("hnswlib"), ["hnswlib-16", "hnswlib-32"]);
}
