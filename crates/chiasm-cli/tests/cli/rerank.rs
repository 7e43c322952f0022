//! Hits that a cross-encoder looks at again. The checkpoint is a BLIP of a few thousand made-up weights, which both indexes and
//! re-ranks: what it finds means nothing, but all of the chain runs on it.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

use crate::common::chiasm;
use crate::models::{checkpoint_of, pictures};

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
