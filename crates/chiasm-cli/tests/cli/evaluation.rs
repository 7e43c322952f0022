//! `chiasm eval` and `chiasm import`.

use std::fs;

use crate::common::{FIXTURE, Reply, chiasm, command, some_library};

fn npy(values: &[f32], n: usize) -> Vec<u8> {
    chiasm_media::write_npy_f32(values, &[n, values.len() / n])
}

#[test]
fn pairs_in_a_space_in_every_direction() {
    let dir = FIXTURE.dir.path();
    let line =
        ["eval", "--space", "world.space", "--pairs", "world/train.csv", "--json", "--require", "image->text R@10 >= 0.5"];
    // A library of the environment's stands back behind a space that is named.
    let output = command(dir).args(line).env("CHIASM_LIBRARY", "nowhere").output().unwrap();
    let reply = Reply::of(output).code(0).json();
    // Five columns: image, text, text_zh, audio, series.
    assert_eq!(reply["reports"].as_array().unwrap().len(), 20, "{reply}");
    assert_eq!(reply["required"][0]["met"], true);
    for report in reply["reports"].as_array().unwrap() {
        let r10 = report["figures"].as_array().unwrap().iter().find(|f| f["name"] == "R@10").unwrap().clone();
        assert_eq!(report["n_queries"], 40);
        assert!((r10["chance"].as_f64().unwrap() - 0.25).abs() < 1e-9, "{r10}");
    }
    let failed = chiasm(dir, &["eval", "--space", "world.space", "--pairs", "world/train.csv", "--require", "R@1 > 1"]).code(1);
    assert!(failed.err.contains("not met: `R@1 > 1`"), "{}", failed.err);
    assert!(failed.out.contains("ties: equal scores"), "{}", failed.out);
    chiasm(dir, &["eval", "--space", "world.space", "--pairs", "world/train.csv", "--require", "smell->text R@1 >= 0"]).code(2);
}

#[test]
fn pairs_through_a_library() {
    let dir = some_library(8);
    let pairs = FIXTURE.path("world/train.csv").to_string_lossy().into_owned();
    let line = [
        "eval",
        "--pairs",
        &pairs,
        "--images",
        ".",
        "--kind",
        "image",
        "--json",
        "--run-out",
        "run.txt",
        "--qrels-out",
        "q.txt",
    ];
    let reply = chiasm(dir.path(), &line).code(0).json();
    let titles: Vec<&str> = reply["reports"].as_array().unwrap().iter().map(|r| r["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["text->image", "image->text", "text_zh->image", "image->text_zh"]);
    // 32 of the 40 captions belong to pictures that are not there: left out and said.
    assert_eq!((&reply["reports"][0]["n_queries"], &reply["reports"][0]["n_skipped"]), (&8.into(), &32.into()));
    assert!(reply["remarks"].to_string().contains("32 of 40 files"), "{}", reply["remarks"]);
    // The same figures from the files, without a library.
    let map = |r: &serde_json::Value| {
        r["figures"].as_array().unwrap().iter().find(|f| f["name"] == "MAP").unwrap()["value"].as_f64().unwrap()
    };
    let again = chiasm(dir.path(), &["eval", "--run", "run.txt", "--qrels", "q.txt", "--json"]).code(0).json();
    let both = (map(&reply["reports"][0]) + map(&reply["reports"][2])) / 2.0;
    assert!((map(&again["reports"][0]) - both).abs() < 1e-12, "{} {both}", map(&again["reports"][0]));
}

#[test]
fn queries_with_judgements() {
    let dir = some_library(4);
    fs::write(dir.path().join("q.tsv"), "a\titem\tpictures/0001.png\nb\taudio\tsounds/0002.wav\nc\tred things\n").unwrap();
    fs::write(dir.path().join("q.qrels"), "a 0 texts/0001.en.txt 1\na 0 gone.txt 1\nb 0 sounds/0002.wav 2\nd 0 x 1\n").unwrap();
    let reply = chiasm(dir.path(), &["eval", "--queries", "q.tsv", "--qrels", "q.qrels", "--json"]).code(0).json();
    assert_eq!(reply["reports"][0]["n_queries"], 2, "{reply}");
    let remarks = reply["remarks"].to_string();
    for part in ["gone.txt", "1 queries have no judgement", "1 judged queries are not among"] {
        assert!(remarks.contains(part), "no {part} in {remarks}");
    }
    fs::write(dir.path().join("bad.tsv"), "a\tsmell\tx\n").unwrap();
    let bad = chiasm(dir.path(), &["eval", "--queries", "bad.tsv", "--qrels", "q.qrels"]).code(1);
    assert!(bad.err.contains("bad.tsv, line 1") && bad.err.contains("`smell` is no kind of query"), "{}", bad.err);
}

#[test]
fn ready_embeddings_are_evaluated_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    // Text 1 lies nearest to picture 2 and picture 1 second; the others lie right.
    write("i.npy", &npy(&[1.0, 0.0, 0.9, 0.5, -1.0, 0.2], 3));
    write("t.npy", &npy(&[1.8, 0.9, 0.8, 0.7, -1.0, 0.1], 3));
    write("i.csv", "\u{feff}filename;link\n1.jpg;x\n2.jpg;y\n3.jpg;z\n".as_bytes());
    write("t.csv", "\u{feff}id;title \n1;one\n2;two\n3;three\n".as_bytes());
    let import = ["import", "--npy", "i.npy", "--names", "i.csv", "--kind", "image", "--npy", "t.npy", "--names", "t.csv"];
    let out = chiasm(dir.path(), &[&import[..], &["--kind", "text", "--library", "lib"]].concat()).code(0).out;
    assert!(out.contains("6 items") && out.contains("3 of kind image"), "{out}");
    let line = ["eval", "--library", "lib", "--by-name", "--json", "--run-out", "run.txt"];
    let reply = chiasm(dir.path(), &line).code(0).json();
    let r1 = |at: usize| reply["reports"][at]["figures"][0]["value"].as_f64().unwrap();
    assert_eq!(
        (reply["reports"][0]["title"].as_str(), reply["reports"][1]["title"].as_str()),
        (Some("image->text"), Some("text->image"))
    );
    assert!((r1(1) - 2.0 / 3.0).abs() < 1e-12, "{reply}");
    assert!(fs::read_to_string(dir.path().join("run.txt")).unwrap().lines().count() == 18);
    let similar = chiasm(dir.path(), &["similar", "3.jpg", "--library", "lib", "--kind", "text", "-k", "1"]).code(0).out;
    assert!(similar.contains("three"), "{similar}");
    // What cannot be: words (no encoder), a second import over the first, a table of another length.
    assert!(chiasm(dir.path(), &["search", "shoe", "--library", "lib"]).code(1).err.contains("imported"));
    chiasm(dir.path(), &[&import[..], &["--kind", "text", "--library", "lib"]].concat()).code(1);
    write("t.csv", b"id\n1\n");
    let short = chiasm(dir.path(), &[&import[..], &["--kind", "text", "--library", "lib2"]].concat()).code(1);
    assert!(short.err.contains("t.npy has 3 rows, t.csv has 1 names"), "{}", short.err);
}

#[test]
fn names_of_folders_find_their_files() {
    let dir = some_library(3);
    for kind in ["red", "green"] {
        fs::create_dir_all(dir.path().join("by").join(kind)).unwrap();
    }
    for (n, kind) in [(10, "red"), (11, "red"), (12, "green")] {
        let name = format!("{n:04}.png");
        fs::copy(FIXTURE.path("world/pictures").join(&name), dir.path().join("by").join(kind).join(&name)).unwrap();
    }
    chiasm(dir.path(), &["index", "by"]).code(0);
    let reply = chiasm(dir.path(), &["eval", "--by-folder", "--kind", "image", "--json"]).code(0).json();
    assert_eq!(reply["reports"][0]["title"], "folder name->image");
    // red, green and pictures itself.
    assert_eq!(reply["reports"][0]["n_queries"], 3, "{reply}");
}
