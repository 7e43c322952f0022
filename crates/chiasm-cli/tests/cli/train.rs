//! `chiasm train` as a user meets it: killed at any moment and gone on with, a model like any other at the end; and the model that the program carries.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{FIXTURE, chiasm, command};

const CONFIG: &str = r#"
seed = 4

[model]
projection = 16
image = { size = 32, patch = 8, width = 32, inner = 64, layers = 1, heads = 2 }
text = { vocabulary = 300, tokens = 20, width = 32, inner = 64, layers = 1, heads = 2 }

[[data]]
kind = "world"
world = 2
scenes = 40
validation = 10

[train]
batch = 10
epochs = 6
checkpoint_s = 0
"#;

/// How often a run is killed at most, and how long this may take.
const KILLS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn kill_9_at_any_moment_and_the_weights_are_those_of_a_run_that_was_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.toml"), CONFIG).unwrap();
    let began = Instant::now();
    let through = chiasm(dir.path(), &["--json", "train", "train.toml", "--out", "through"]).code(0).json();
    let whole = began.elapsed();
    assert_eq!(through["n_train"], 40);
    let (began, mut killed) = (Instant::now(), 0);
    while killed < KILLS && began.elapsed() < PATIENCE {
        let mut child = command(dir.path())
            .args(["train", "train.toml", "--out", "killed", "--resume", "--quiet"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Anywhere within the first third of what a whole run takes, so that there is always more to do.
        thread::sleep(whole * (killed * 7 % KILLS + 1) / (3 * KILLS));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
        killed += 1;
    }
    let resumed = chiasm(dir.path(), &["--json", "train", "train.toml", "--out", "killed", "--resume"]).code(0).json();
    assert_eq!(resumed["best"], through["best"], "killed {killed} times");
    for file in ["model.safetensors", "tokenizer.json", "config.json", "set_aside.json"] {
        let [a, b] = ["through", "killed"].map(|run| fs::read(dir.path().join(run).join(file)).unwrap());
        assert!(a == b, "{file} differs after {killed} kills");
    }
    println!("killed {killed} times within runs of {whole:?}");
    // A folder that holds a training is not overwritten unasked.
    let refused = chiasm(dir.path(), &["train", "train.toml", "--out", "killed"]).code(1);
    assert!(refused.err.contains("--resume"), "{}", refused.err);
}

#[test]
fn what_was_trained_is_a_model_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("small.toml"), CONFIG).unwrap();
    let said = chiasm(dir.path(), &["train", "small.toml"]).code(0);
    assert!(said.out.contains("image->text") && said.out.contains("among"), "{}", said.out);
    let pictures = FIXTURE.path("world/pictures");
    let library = dir.path().join("library");
    let model = dir.path().join("small");
    let args = |more: &[&str]| more.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let place = |path: &Path| path.to_string_lossy().into_owned();
    let mut index = args(&["--json", "index"]);
    index.extend([place(&pictures), "--model".to_owned(), place(&model), "--library".to_owned(), place(&library)]);
    chiasm(dir.path(), &index).code(0);
    let mut search = args(&["--json", "search", "a red star", "--library"]);
    search.push(place(&library));
    let found = chiasm(dir.path(), &search).code(0).json();
    assert!(found["hits"].as_array().is_some_and(|hits| !hits.is_empty()), "{found}");
    let info = chiasm(dir.path(), &["--json", "model", "info", "small"]).code(0).json();
    assert_eq!(info["towers"].as_array().map(Vec::len), Some(2), "{info}");
    for (text, word) in [("[model]\n", "train.toml"), ("seed = 1\nnonsense = 2\n", "nonsense")] {
        fs::write(dir.path().join("train.toml"), text).unwrap();
        let refused = chiasm(dir.path(), &["train", "train.toml"]).code(1);
        assert!(refused.err.contains(word), "{}", refused.err);
    }
    chiasm(dir.path(), &["train", "absent.toml"]).code(1);
}

#[test]
fn what_reads_texts_with_pictures_re_ranks_a_search() {
    let dir = tempfile::tempdir().unwrap();
    let reads = "matching = { width = 16, inner = 32, layers = 1, heads = 2, pairs = 8 }\n\n[[data]]";
    fs::write(dir.path().join("reads.toml"), CONFIG.replacen("[[data]]", reads, 1)).unwrap();
    let said = chiasm(dir.path(), &["train", "reads.toml"]).code(0);
    assert!(said.out.contains("text->image (matched)"), "{}", said.out);
    let pictures = FIXTURE.path("world/pictures").to_string_lossy().into_owned();
    chiasm(dir.path(), &["index", &pictures, "--model", "reads", "--library", "library"]).code(0);
    let ask = ["--json", "search", "a red star", "--library", "library", "-k", "5"];
    let plain = chiasm(dir.path(), &ask).code(0).json();
    let read = chiasm(dir.path(), &[&ask[..], &["--rerank", "reads", "--rerank-top", "5"]].concat()).code(0).json();
    let of = |reply: &serde_json::Value, field: &str| -> Vec<serde_json::Value> {
        reply["hits"].as_array().expect("hits").iter().map(|hit| hit[field].clone()).collect()
    };
    let sorted = |mut paths: Vec<serde_json::Value>| {
        paths.sort_by_key(|path| path.to_string());
        paths
    };
    assert_eq!(sorted(of(&plain, "path")), sorted(of(&read, "path")), "the same five in another order");
    let scores: Vec<f64> = of(&read, "rerank_score").iter().map(|score| score.as_f64().expect("a score")).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]) && scores.iter().all(|s| (0.0..=1.0).contains(s)), "{scores:?}");
    // A model that was trained without it is told apart.
    fs::write(dir.path().join("plain.toml"), CONFIG.replace("epochs = 6", "epochs = 1")).unwrap();
    chiasm(dir.path(), &["train", "plain.toml"]).code(0);
    let refused = chiasm(dir.path(), &[&ask[..], &["--rerank", "plain"]].concat()).code(1);
    assert!(refused.err.contains("was trained without [model.matching]"), "{}", refused.err);
}

/// The program carries a model within itself, which needs no file and no network.
#[test]
fn the_model_that_the_program_carries_finds_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let listed = chiasm(dir.path(), &["model", "list", "--here"]).code(0);
    assert!(listed.out.contains("chiasm-nano") && listed.out.contains("built in"), "{}", listed.out);
    let info = chiasm(dir.path(), &["--json", "model", "info", "chiasm-nano"]).code(0).json();
    assert_eq!(info["towers"].as_array().map(Vec::len), Some(4), "{info}");
    let library = dir.path().join("library").to_string_lossy().into_owned();
    let folders = ["pictures", "sounds", "texts", "series"]
        .map(|folder| FIXTURE.path("world").join(folder).to_string_lossy().into_owned());
    let mut index =
        vec!["index".to_owned(), "--model".to_owned(), "chiasm-nano".to_owned(), "--library".to_owned(), library.clone()];
    index.extend(folders);
    chiasm(dir.path(), &index).code(0);
    let sound = FIXTURE.path("world/sounds/0041.wav").to_string_lossy().into_owned();
    let ask = ["--json", "search", "--audio", &sound, "--kind", "image", "--library", &library];
    let found = chiasm(dir.path(), &ask).code(0).json();
    let hits = found["hits"].as_array().expect("hits");
    assert!(hits.iter().all(|hit| hit["kind"] == "image"), "{found}");
    let is_right = |hit: &serde_json::Value| hit["path"].as_str().is_some_and(|path| path.ends_with("0041.png"));
    assert!(hits.iter().any(is_right), "the sound's own picture is not among the first ten of 48: {found}");
    // It also reads a text with a picture before it.
    let caption = fs::read_to_string(FIXTURE.path("world/texts/0041.en.txt")).unwrap();
    let ask = ["--json", "search", caption.trim(), "--kind", "image", "--rerank", "chiasm-nano", "--library", &library];
    let found = chiasm(dir.path(), &ask).code(0).json();
    let hits = found["hits"].as_array().expect("hits");
    assert!(hits.iter().all(|hit| hit["rerank_score"].is_number()), "{found}");
    assert!(hits[..3].iter().any(is_right), "the caption's own picture is not among the first three of 48: {found}");
    chiasm(dir.path(), &["verify", "--library", &library]).code(0);
}
