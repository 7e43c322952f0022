//! Hits that a cross-encoder looks at again. The checkpoint is a BLIP of a few thousand made-up weights, for videos such an X-CLIP, which both
//! indexes and re-ranks: what it finds means nothing, but all of the chain runs on it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

use crate::common::{chiasm, command};
use crate::models::{checkpoint_of, film, pictures};

/// File names of the hits, best first, with closeness and the cross-encoder's score.
fn hits(folder: &Path, args: &[&str]) -> Vec<(String, f64, Option<f64>)> {
    let reply = chiasm(folder, &[&["search", "--json"][..], args].concat()).code(0).json();
    let hit = |hit: &Value| {
        let path = Path::new(hit["path"].as_str().unwrap());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, hit["score"].as_f64().unwrap(), hit["rerank_score"].as_f64())
    };
    reply["hits"].as_array().unwrap().iter().map(hit).collect()
}

fn names(hits: &[(String, f64, Option<f64>)]) -> Vec<&str> {
    hits.iter().map(|(name, _, _)| name.as_str()).collect()
}

/// A folder with the model and a library of three pictures and a text in its space.
fn library() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    checkpoint_of(dir.path(), "blip_pair", "tiny-blip");
    pictures(&dir.path().join("photos"));
    std::fs::write(dir.path().join("photos/second.txt"), "w20 w5 w41 w8").unwrap();
    chiasm(dir.path(), &["index", "photos", "--model", "tiny-blip", "--json"]).code(0);
    dir
}

#[test]
fn the_first_hits_are_put_in_order_by_a_cross_encoder() {
    let dir = library();
    let photos = dir.path().join("photos");
    // Words for which the two stages disagree.
    let words = ["w3 w14", "w20 w9 w31", "w7", "w50 w12", "w11 w23 w35 w47", "w6 w6"];
    let both = |words: &&str| {
        let plain = hits(&photos, &[*words, "--kind", "image"]);
        let again = hits(&photos, &[*words, "--kind", "image", "--rerank", "../tiny-blip"]);
        (words.to_string(), plain, again)
    };
    let (words, plain, again) = words.iter().map(both).find(|(_, plain, again)| names(plain) != names(again)).unwrap();
    assert!(plain.iter().all(|(_, _, score)| score.is_none()));
    assert_eq!(again.len(), 3);
    let scores: Vec<f64> = again.iter().map(|(_, _, score)| score.unwrap()).collect();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)) && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    for (name, closeness, _) in &again {
        assert!(plain.iter().any(|(other, same, _)| other == name && same == closeness), "{name}: {closeness}");
    }

    // Fewer are looked at, or fewer shown than looked at.
    let score_of = |name: &str| again.iter().find(|(other, _, _)| other == name).unwrap().2;
    let one = hits(&photos, &[&words, "--kind", "image", "--rerank", "../tiny-blip", "--rerank-top", "1"]);
    assert_eq!(names(&one), names(&plain));
    assert_eq!(one.iter().map(|(_, _, score)| *score).collect::<Vec<_>>(), [score_of(&plain[0].0), None, None]);
    let two = hits(&photos, &[&words, "--kind", "image", "--rerank", "../tiny-blip", "--rerank-top", "2"]);
    assert_eq!(two[2], plain[2]);
    assert!(two[0].2 >= two[1].2 && two[1].2.is_some());
    let shown = hits(&photos, &[&words, "--kind", "image", "--rerank", "../tiny-blip", "-k", "1"]);
    assert_eq!(shown, again[..1]);

    // Among hits of every kind, the texts stay where they are.
    let all = hits(&photos, &[&words]);
    let mixed = hits(&photos, &[&words, "--rerank", "../tiny-blip"]);
    for (before, after) in all.iter().zip(&mixed) {
        assert_eq!(before.0.ends_with(".txt"), after.0.ends_with(".txt"));
        assert!(after.2.is_some() || before == after);
    }
    let pictures: Vec<&str> = names(&mixed).into_iter().filter(|name| name.ends_with(".png")).collect();
    assert_eq!(pictures, names(&again));

    // The same pairs, asked from the other side, have the same scores; an indexed picture is as good as the file.
    let by_file = hits(&photos, &["--image", "0.png", "--kind", "text", "--rerank", "../tiny-blip"]);
    assert_eq!(by_file.len(), 2);
    let by_item = hits(&photos, &["--like", "0.png", "--kind", "text", "--rerank", "../tiny-blip"]);
    assert_eq!(by_item, by_file);
    for (name, _, score) in &by_file {
        let text = std::fs::read_to_string(photos.join(name)).unwrap();
        let other = hits(&photos, &[&text, "--kind", "image", "--rerank", "../tiny-blip"]);
        assert_eq!(other.iter().find(|(name, _, _)| name == "0.png").unwrap().2, *score);
    }

    let table =
        chiasm(&photos, &["search", &words, "--kind", "image", "--rerank", "../tiny-blip", "--rerank-top", "2"]).code(0);
    let first = table.out.lines().next().unwrap();
    assert!(first.starts_with(&format!("1  {:>6.3}  {:>6.3}", two[0].2.unwrap(), two[0].1)), "{}", table.out);
    assert!(table.out.lines().nth(2).unwrap().starts_with("3       -  "), "{}", table.out);
}

#[test]
fn what_cannot_be_looked_at_again_keeps_its_place() {
    let dir = library();
    let photos = dir.path().join("photos");
    let ask = ["search", "w3 w14", "--kind", "image", "--rerank", "../tiny-blip", "--json"];
    let plain = hits(&photos, &["w3 w14", "--kind", "image"]);
    std::fs::remove_file(photos.join(&plain[0].0)).unwrap();
    let reply = chiasm(&photos, &ask).code(0);
    let answer = reply.json();
    assert!(answer["hits"][0]["path"].as_str().unwrap().ends_with(&plain[0].0) && answer["hits"][0]["rerank_score"].is_null());
    let remarks = answer["remarks"].to_string();
    assert!(remarks.contains(&plain[0].0) && remarks.contains("cannot be read"), "{remarks}");
    assert!(reply.err.contains("was not re-ranked and keeps its place"), "{}", reply.err);

    // Another picture in the place of the last: its score would be that of something else.
    std::fs::copy(photos.join(&plain[1].0), photos.join(&plain[2].0)).unwrap();
    let answer = chiasm(&photos, &ask).code(0).json();
    let scored: Vec<bool> = answer["hits"].as_array().unwrap().iter().map(|hit| !hit["rerank_score"].is_null()).collect();
    assert_eq!(scored, [false, true, false]);
    let remarks = answer["remarks"].to_string();
    assert!(remarks.contains(&plain[2].0) && remarks.contains("has changed since it was indexed"), "{remarks}");
}

#[test]
fn what_cannot_be_re_ranked_is_refused() {
    let dir = library();
    checkpoint_of(dir.path(), "clip_quick_image", "tiny-clip");
    let photos = dir.path().join("photos");
    let refused = |args: &[&str], code: i32, words: &str| {
        let reply = chiasm(&photos, &[&["search"][..], args].concat()).code(code);
        assert!(reply.err.contains(words), "expected `{words}`:\n{}", reply.err);
    };
    refused(&["w3", "--not", "w4", "--rerank", "../tiny-blip"], 1, "re-ranking takes one part, words or a picture");
    refused(&["w3", "--rerank", "../tiny-clip"], 1, "model_type is `clip`, expected one of blip");
    refused(&["w3", "--rerank", "../nowhere"], 1, "config.json");
    refused(&["w3", "--rerank-top", "5"], 2, "--rerank");
    let description = dir.path().join("tiny-blip/config.json");
    let config = std::fs::read_to_string(&description).unwrap();
    for (from, to, words) in [
        (
            "\"num_attention_heads\":3",
            "\"num_attention_heads\":0",
            "text_config: hidden_size 24 does not divide into 0 attention heads",
        ),
        ("\"intermediate_size\":48", "\"intermediate_size\":0", "vision_config: intermediate_size is 0"),
        ("\"max_position_embeddings\":12", "\"max_position_embeddings\":2", "max_position_embeddings is below 3"),
        ("\"vocab_size\":60", "\"vocab_size\":59", "it has the token 59"),
        ("\"patch_size\":5", "\"patch_size\":4", "has shape"),
    ] {
        let changed = config.replace(from, to);
        assert_ne!(changed, config, "{from}");
        std::fs::write(&description, changed).unwrap();
        refused(&["--like", "0.png", "--rerank", "../tiny-blip"], 1, words);
    }
}

/// Writes the regions of a picture: three of ten numbers each, with boxes.
fn write_regions(path: &Path, first: f32) {
    let floats =
        |n: usize, first: f32| -> Vec<u8> { (0..n).flat_map(|i| ((first + i as f32 * 0.37).fract()).to_le_bytes()).collect() };
    let (features, boxes) = (floats(30, first), floats(12, first));
    let views = [("features", vec![3, 10], &features), ("boxes", vec![3, 4], &boxes)]
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape, bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

#[test]
fn a_cross_encoder_over_regions_reads_them_beside_the_pictures() {
    let dir = library();
    let photos = dir.path().join("photos");
    for (golden, name) in [("lxmert_pair", "tiny-lxmert"), ("visual_bert_pair", "tiny-visual-bert")] {
        checkpoint_of(dir.path(), golden, name);
    }
    write_regions(&photos.join("0.png.regions.safetensors"), 0.1);
    write_regions(&photos.join("1.regions.safetensors"), 0.6);
    // They are no media: the library is the same as before.
    let again = chiasm(&photos, &["index", ".", "--json"]).code(0).json();
    assert_eq!((&again["n_new"], again["refused"].as_array().map(Vec::len)), (&0.into(), Some(0)));
    for model in ["../tiny-lxmert", "../tiny-visual-bert"] {
        let ask = ["search", "w3 w14", "--kind", "image", "--rerank", model, "--json"];
        let answer = chiasm(&photos, &ask).code(0).json();
        let scored: Vec<(String, f64)> = answer["hits"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|hit| Some((hit["path"].as_str()?.to_owned(), hit["rerank_score"].as_f64()?)))
            .collect();
        assert!(scored.len() == 2 && scored[0].1 > scored[1].1, "{scored:?}");
        let remarks = answer["remarks"].to_string();
        assert!(remarks.contains("2.png") && remarks.contains("no file of regions beside it"), "{remarks}");

        // From the other side the pairs are the same, and a picture of no library has no regions.
        let texts = hits(&photos, &["--like", "0.png", "--kind", "text", "--rerank", model]);
        let (name, _, score) = &texts[0];
        let words = std::fs::read_to_string(photos.join(name)).unwrap();
        let pictures = hits(&photos, &[&words, "--kind", "image", "--rerank", model]);
        assert_eq!(pictures.iter().find(|(name, _, _)| name == "0.png").unwrap().2, *score);
        let refused = chiasm(&photos, &["search", "--image", "0.png", "--rerank", model]).code(1);
        assert!(refused.err.contains("looks at the regions of a picture"), "{}", refused.err);
    }

    write_regions(&photos.join("2.regions.safetensors"), 0.3);
    let config = dir.path().join("tiny-lxmert/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"visual_pos_dim\":4", "\"visual_pos_dim\":5")).unwrap();
    let refused = chiasm(&photos, &["search", "w3", "--rerank", "../tiny-lxmert"]).code(1);
    assert!(refused.err.contains("visual_pos_dim is 5, expected 4"), "{}", refused.err);
    std::fs::write(photos.join("0.png.regions.safetensors"), "no regions").unwrap();
    let spoilt = chiasm(&photos, &["search", "w3", "--kind", "image", "--rerank", "../tiny-visual-bert"]).code(0);
    assert!(spoilt.err.contains("has regions that cannot be used"), "{}", spoilt.err);
}

/// Frames of a film of half a minute, each for five seconds.
const LONG: [[u8; 3]; 6] = [[250, 10, 10], [240, 240, 240], [10, 10, 250], [0, 0, 0], [90, 200, 20], [250, 250, 10]];

/// A folder with the model for videos and a library of a long film, its three parts as films of their own, and two texts.
fn films() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    checkpoint_of(dir.path(), "xclip_pair", "tiny-xclip");
    let films = dir.path().join("films");
    std::fs::create_dir(&films).unwrap();
    film(&films.join("long.gif"), &LONG, 5_000);
    for (i, part) in LONG.chunks_exact(2).enumerate() {
        film(&films.join(format!("{i}.gif")), part, 5_000);
    }
    std::fs::write(films.join("first.txt"), "w3 w14 w15").unwrap();
    std::fs::write(films.join("second.txt"), "w20 w5 w41 w8").unwrap();
    // One that does not move, for which this model has no view.
    image::RgbImage::new(40, 30).save(films.join("still.gif")).unwrap();
    let report = chiasm(dir.path(), &["index", "films", "--model", "tiny-xclip", "--json"]).code(3).json();
    assert_eq!((&report["n_new"], report["refused"].as_array().map(Vec::len)), (&6.into(), Some(1)), "{report}");
    assert!(report["refused"].to_string().contains("holds image, for which the space has no view"), "{report}");
    dir
}

#[test]
fn videos_are_put_in_order_by_prompts_made_for_each() {
    let dir = films();
    let films = dir.path().join("films");
    let rerank = ["--rerank", "../tiny-xclip"];
    let words = ["w3 w14", "w20 w9 w31", "w7", "w50 w12", "w11 w23 w35 w47", "w6 w6"];
    let both = |words: &&'static str| {
        let plain = hits(&films, &[*words, "--kind", "video"]);
        (*words, plain, hits(&films, &[&[*words, "--kind", "video"][..], &rerank].concat()))
    };
    let all: Vec<_> = words.iter().map(both).collect();
    assert!(all.iter().any(|(_, plain, again)| names(plain) != names(again)), "{all:?}");
    for (words, plain, again) in &all {
        assert_eq!((plain.len(), again.len()), (4, 4));
        let score_of = |name: &str| again.iter().find(|(other, _, _)| other == name).unwrap().2.unwrap();
        let scores: Vec<f64> = again.iter().map(|(_, _, score)| score.unwrap()).collect();
        assert!(scores.iter().all(|score| (-1.0..=1.0).contains(score)) && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        assert!(scores[0] > scores[3], "{scores:?}");
        for (name, closeness, score) in again {
            assert!(plain.iter().any(|(other, same, _)| other == name && same == closeness), "{name}: {closeness}");
            assert_ne!(Some(*closeness), *score, "the prompts change nothing");
        }
        // Of the long film the stretch that matched was looked at, which stands there as a film of its own too.
        let reply = chiasm(&films, &[&["search", words, "--kind", "video", "--json"][..], &rerank].concat()).code(0).json();
        let long = reply["hits"].as_array().unwrap().iter().find(|hit| hit["path"].as_str().unwrap().ends_with("long.gif"));
        let start_s = long.unwrap()["span"]["start_s"].as_f64().unwrap();
        assert_eq!(score_of("long.gif"), score_of(&format!("{:.0}.gif", start_s / 10.0)), "{words}: {again:?}");
    }

    // Fewer are looked at than shown.
    let (words, plain, again) = &all[0];
    let one = hits(&films, &[&[*words, "--kind", "video", "--rerank-top", "1"][..], &rerank].concat());
    assert_eq!((names(&one), one.iter().filter(|(_, _, score)| score.is_some()).count()), (names(plain), 1));
    // Among hits of every kind the texts stay where they are.
    let mixed = hits(&films, &[&[*words][..], &rerank].concat());
    assert_eq!(mixed.iter().filter(|(name, _, score)| name.ends_with(".gif") == score.is_some()).count(), 6, "{mixed:?}");
    let videos: Vec<&str> = names(&mixed).into_iter().filter(|name| name.ends_with(".gif")).collect();
    assert_eq!(videos, names(again));

    // The same pairs have the same scores asked from the other side, by a film or by an item.
    let by_file = hits(&films, &[&["--video", "1.gif", "--kind", "text"][..], &rerank].concat());
    assert_eq!(by_file.len(), 2);
    assert_eq!(hits(&films, &[&["--like", "1.gif", "--kind", "text"][..], &rerank].concat()), by_file);
    for (name, _, score) in &by_file {
        let text = std::fs::read_to_string(films.join(name)).unwrap();
        let other = hits(&films, &[&[text.as_str(), "--kind", "video"][..], &rerank].concat());
        assert_eq!(other.iter().find(|(name, _, _)| name == "1.gif").unwrap().2, *score);
    }
}

#[test]
fn videos_that_cannot_be_looked_at_again_are_named() {
    let dir = films();
    let films = dir.path().join("films");
    pictures(&dir.path().join("photos"));
    checkpoint_of(dir.path(), "blip_pair", "tiny-blip");
    let refused = |args: &[&str], words: &str| {
        let reply = chiasm(&films, &[&["search"][..], args].concat()).code(1);
        assert!(reply.err.contains(words), "expected `{words}`:\n{}", reply.err);
    };
    let one_part = "re-ranking takes one part, words or a video";
    refused(&["w3", "--not", "w4", "--rerank", "../tiny-xclip"], one_part);
    refused(&["--video", "0.gif", "--rerank", "../tiny-blip"], "words or a picture: the query is video");
    refused(&["--like", "0.gif", "--rerank", "../tiny-blip"], "is video, expected a text or a picture");
    // One that takes pictures finds none here.
    let none = chiasm(&films, &["search", "w3", "--rerank", "../tiny-blip"]).code(0);
    assert!(none.err.contains("no hit is of the kind image"), "{}", none.err);

    let ask = ["search", "w3 w14", "--kind", "video", "--rerank", "../tiny-xclip", "--json"];
    std::fs::remove_file(films.join("0.gif")).unwrap();
    film(&films.join("1.gif"), &LONG[..2], 4_000);
    let answer = chiasm(&films, &ask).code(0).json();
    for hit in answer["hits"].as_array().unwrap() {
        let path = hit["path"].as_str().unwrap();
        let is_there = path.ends_with("2.gif") || path.ends_with("long.gif");
        assert_eq!(hit["rerank_score"].is_null(), !is_there, "{hit}");
    }
    let remarks = answer["remarks"].to_string();
    for words in ["0.gif was not re-ranked", "cannot be read", "1.gif was not re-ranked", "has changed since it was indexed"] {
        assert!(remarks.contains(words), "{words}: {remarks}");
    }

    let description = dir.path().join("tiny-xclip/config.json");
    let config = std::fs::read_to_string(&description).unwrap();
    for (from, to, words) in [
        ("\"prompt_num_attention_heads\":4", "\"prompt_num_attention_heads\":0", "projection_dim 16 does not divide into"),
        ("\"prompt_hidden_act\":\"gelu\"", "\"prompt_hidden_act\":\"bell\"", "the activation `bell` is unknown"),
        ("\"prompt_layers\":2", "\"prompt_layers\":3", "prompts_generator.decoder.2"),
        ("\"prompt_layers\":2", "\"prompt_layers\":1", "prompts_generator.decoder.1"),
        ("\"num_frames\":3", "\"num_frames\":4", "mit.position_embedding"),
    ] {
        let changed = config.replace(from, to);
        assert_ne!(changed, config, "{from}");
        std::fs::write(&description, changed).unwrap();
        // An item's vectors are in the library, so that the model is opened to re-rank alone.
        refused(&["--like", "2.gif", "--rerank", "../tiny-xclip"], words);
    }
}

/// The JSON that a server answers a GET with.
fn get(address: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    // One document, whole or in chunks of a line with its length before it.
    let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    (status, serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {reply}")))
}

#[test]
fn a_server_looks_again_where_it_is_asked_to() {
    let dir = library();
    let photos = dir.path().join("photos");
    let serve = ["--json", "serve", "--port", "0", "--rerank", "../tiny-blip", "--rerank-top", "2"];
    let mut server =
        command(&photos).args(serve).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
    // Its one document on stdout, which stays open as long as it runs.
    let (mut said, mut document) = (BufReader::new(server.stdout.take().unwrap()), String::new());
    while !document.ends_with("}\n") && said.read_line(&mut document).unwrap() > 0 {}
    let started: Value = serde_json::from_str(&document).unwrap();
    let address = started["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let asked = || {
        let (_, status) = get(&address, "/api/v1/status");
        let plain = get(&address, "/api/v1/search?q=w3%20w14&kind=image&lane=meaning");
        let again = get(&address, "/api/v1/search?q=w3%20w14&kind=image&lane=meaning&rerank=true");
        let by_time = get(&address, "/api/v1/search?q=w3%20w14&rerank=true&sort=newest");
        (status, plain, again, by_time)
    };
    let told = std::panic::catch_unwind(asked);
    server.kill().unwrap();
    server.wait().unwrap();
    let (status, plain, again, by_time) = told.unwrap();
    assert_eq!(status["rerank"], serde_json::json!({ "kind": "image", "n_top": 2 }), "{status}");
    let scores = |reply: &Value| -> Vec<Option<f64>> {
        reply["hits"].as_array().unwrap().iter().map(|hit| hit["rerank_score"].as_f64()).collect()
    };
    assert_eq!((plain.0, again.0, by_time.0), (200, 200, 400), "{} {} {}", plain.1, again.1, by_time.1);
    assert_eq!(scores(&plain.1), [None; 3]);
    let [Some(first), Some(second), None] = scores(&again.1)[..] else { panic!("two of three were looked at: {}", again.1) };
    let of_cli =
        hits(&photos, &["w3 w14", "--kind", "image", "--lane", "meaning", "--rerank", "../tiny-blip", "--rerank-top", "2"]);
    assert!(first >= second && (of_cli[0].2.unwrap() - first).abs() < 1e-6, "{of_cli:?}, {}", again.1);
}

#[test]
fn an_evaluation_judges_what_was_put_in_order_anew() {
    let dir = library();
    let photos = dir.path().join("photos");
    // Words for which the two stages disagree.
    let ask = |words: &str, rerank: &[&str]| hits(&photos, &[&[words, "--kind", "image"], rerank].concat());
    let words = ["w3 w14", "w20 w9 w31", "w7", "w50 w12", "w11 w23 w35 w47", "w6 w6"]
        .into_iter()
        .find(|words| names(&ask(words, &[])) != names(&ask(words, &["--rerank", "../tiny-blip"])))
        .unwrap();
    std::fs::write(photos.join("q.tsv"), format!("one\t{words}\n")).unwrap();
    std::fs::write(photos.join("q.qrels"), "one 0 1.png 1\n").unwrap();
    let asked = ["eval", "--queries", "q.tsv", "--qrels", "q.qrels", "--kind", "image", "--resamples", "0"];
    for rerank in [&[][..], &["--rerank", "../tiny-blip"]] {
        let order = ask(words, rerank);
        let report = chiasm(&photos, &[&asked[..], &["--run-out", "run.txt", "--json"], rerank].concat()).code(0).json();
        let run = std::fs::read_to_string(photos.join("run.txt")).unwrap();
        let of_line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[2].to_owned(), fields[4].parse::<f64>().unwrap())
        };
        let mut ran: Vec<(String, f64)> = run.lines().map(of_line).collect();
        assert!(ran.is_sorted_by(|a, b| a.1 >= b.1), "{run}");
        ran.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(ran.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names(&order));
        let place = names(&order).iter().position(|name| *name == "1.png").unwrap();
        let map = report["reports"][0]["figures"].as_array().unwrap().iter().find(|figure| figure["name"] == "MAP").unwrap();
        assert!((map["value"].as_f64().unwrap() - 1.0 / (1 + place) as f64).abs() < 1e-9, "{map}");
    }
    let told = chiasm(&photos, &["eval", "--space", "x.space", "--pairs", "q.tsv", "--rerank", "../tiny-blip"]).code(2).err;
    assert!(told.contains("--library"), "{told}");
}
