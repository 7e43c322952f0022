//! Several models in one library, by the command line.

use std::fs;

use serde_json::Value;

use crate::common::{FIXTURE, chiasm, some_files, some_library};
use crate::models::checkpoint;

/// The names of lanes in a list of objects.
fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn several_models_answer_together() {
    let dir = some_files(6);
    let line = ["index", ".", "--space", &FIXTURE.space(), "--model", "char-ngrams", "--model", "colour-layout", "--json"];
    let report = chiasm(dir.path(), &line).code(0).json();
    assert_eq!((&report["n_new"], &report["n_segments"]), (&30.into(), &(30 + 12 + 6).into()));
    assert_eq!(report["lanes"], serde_json::json!(["world", "char-ngrams", "colour-layout"]));
    let info = chiasm(dir.path(), &["info", "--json"]).code(0).json();
    assert_eq!(names(&info["lanes"], "name"), ["world", "char-ngrams", "colour-layout"]);
    let shown = chiasm(dir.path(), &["info"]).code(0).out;
    assert!(shown.contains("lane         colour-layout") && shown.contains("30 parts"), "{shown}");
    assert_eq!(chiasm(dir.path(), &["verify", "--json"]).code(0).json()["n_segments"], 48);

    let words = fs::read_to_string(dir.path().join("texts/0003.en.txt")).unwrap();
    let found = chiasm(dir.path(), &["search", &words, "--json"]).code(0).json();
    let first = &found["hits"][0];
    assert!(first["path"].as_str().unwrap().ends_with("texts/0003.en.txt"), "{found}");
    assert_eq!(names(&first["lanes"], "lane"), ["world", "char-ngrams"]);
    assert_eq!(first["fused"].as_f64().unwrap(), 2.0 / 61.0);
    assert!(found["lanes"][2]["left_out"].as_str().unwrap().contains("no view for text"), "{found}");
    let text = chiasm(dir.path(), &["search", &words, "-k", "1"]).code(0);
    assert!(
        text.out.contains("(world 1, char-ngrams 1)") && text.err.contains("lane colour-layout was not asked"),
        "{}",
        text.err
    );
    // One lane by itself answers as a library of its own would.
    let alone = some_library(6);
    let hits = |dir: &std::path::Path, more: &[&str]| {
        let line: Vec<&str> = ["search", words.as_str(), "--json"].iter().chain(more).copied().collect();
        let reply = chiasm(dir, &line).code(0).json();
        let hits = reply["hits"].as_array().unwrap().iter();
        hits.map(|hit| (hit["item"].clone(), hit["score"].clone(), hit["z"].clone(), hit.get("lanes").is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(hits(dir.path(), &["--lane", "world"]), hits(alone.path(), &[]));
    let similar = chiasm(dir.path(), &["similar", "pictures/0002.png", "--lane", "colour-layout", "--json"]).code(0).json();
    assert_eq!((similar["hits"].as_array().unwrap().len(), &similar["n_candidates"]), (5, &5.into()));
    let refused = chiasm(dir.path(), &["search", "x", "--lane", "clip"]).code(1);
    assert!(refused.err.contains("no lane `clip`: it has world, char-ngrams, colour-layout"), "{}", refused.err);

    // A run is ordered by what ordered the answers: the joined ranks, or the lane's own measure.
    fs::write(dir.path().join("q.tsv"), format!("q1\t{}\n", words.trim())).unwrap();
    fs::write(dir.path().join("q.qrels"), "q1 0 texts/0003.en.txt 1\n").unwrap();
    let best = |more: &[&str]| -> f64 {
        let line = ["eval", "--queries", "q.tsv", "--qrels", "q.qrels", "--run-out", "q.run", "--resamples", "0"];
        let line: Vec<&str> = line.iter().chain(more).copied().collect();
        chiasm(dir.path(), &line).code(0);
        let run = fs::read_to_string(dir.path().join("q.run")).unwrap();
        run.split_whitespace().nth(4).unwrap().parse().unwrap()
    };
    assert!((best(&[]) - 2.0 / 61.0).abs() < 1e-6);
    assert!(best(&["--lane", "world"]) > 0.5);
    let labels = ["classify", "--labels", "red,green", "pictures/0001.png", "texts/0001.en.txt", "--json"];
    let rows = chiasm(dir.path(), &labels).code(0).json();
    assert_eq!(names(&rows, "lane"), ["world", "world"]);
    let line: Vec<&str> = labels.iter().copied().chain(["--lane", "char-ngrams"]).collect();
    let rows = chiasm(dir.path(), &line).code(3).json();
    assert!(rows[0]["refused"].as_str().unwrap().contains("no view for image") && rows[1]["lane"] == "char-ngrams", "{rows}");
}

#[test]
fn a_lane_is_added_to_what_is_there() {
    let dir = some_library(3);
    fs::create_dir(dir.path().join("models")).unwrap();
    let model = checkpoint(&dir.path().join("models"));
    // A tokeniser that refuses words it does not know: most texts of the world have no vector in this lane.
    let file = model.join("tokenizer.json");
    let tokenizer = fs::read_to_string(&file).unwrap();
    fs::write(&file, tokenizer.replace("\"unk_token\":\"w0\"", "\"unk_token\":\"nothing\"")).unwrap();
    fs::write(dir.path().join("texts/known.txt"), "w3 w14 w15").unwrap();

    let index = |more: &[&str]| {
        let line: Vec<&str> = ["index", "texts", "pictures", "--json"].iter().chain(more).copied().collect();
        chiasm(dir.path(), &line)
    };
    let refused = index(&["--model", "models/tiny-clip"]).code(1);
    assert!(refused.err.contains("--add-lane"), "{}", refused.err);
    assert!(index(&["--add-lane"]).code(2).err.contains("say what to add"));
    let report = index(&["--model", "models/tiny-clip", "--add-lane"]).code(0).json();
    assert_eq!((&report["n_new"], &report["n_segments"]), (&1.into(), &(2 + 3).into()), "{report}");
    let info = chiasm(dir.path(), &["info", "--json"]).code(0).json();
    let lane = &info["lanes"][1];
    assert_eq!((&lane["n_vectors"], &lane["n_gaps"], &lane["n_lacking"]), (&4.into(), &6.into(), &0.into()), "{info}");
    assert_eq!(info["format"], 2);
    chiasm(dir.path(), &["verify"]).code(0);
    // Once more is no harm, nor is saying again what is there.
    assert_eq!(index(&["--model", "models/tiny-clip", "--add-lane"]).code(0).json()["n_segments"], 0);
    assert_eq!(index(&["--model", "models/tiny-clip", "--space", &FIXTURE.space()]).code(0).json()["n_segments"], 0);
    // A new text that only one of the models understands is taken in, and that is said.
    fs::write(dir.path().join("texts/more.txt"), "strange words").unwrap();
    let reply = index(&[]).code(0);
    assert!(reply.err.contains("not in the lane tiny-clip"), "{}", reply.err);
    assert_eq!(reply.json()["n_segments"], 1);
    let found = chiasm(dir.path(), &["search", "w3 w14 w15", "--json", "-k", "20"]).code(0).json();
    assert_eq!(found["hits"][0]["lanes"].as_array().unwrap().len(), 2, "{found}");
    assert!(found["lanes"].as_array().unwrap().iter().all(|lane| lane["left_out"].is_null()));
    chiasm(dir.path(), &["verify"]).code(0);
}
