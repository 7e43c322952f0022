//! A library in the space of a dual encoder. The checkpoint is a CLIP of a few thousand made-up weights: what it finds means
//! nothing, but all of the chain runs on it.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

use crate::common::chiasm;

/// Writes the checkpoint that a golden of the encoders describes, with weights of its own.
fn checkpoint(folder: &Path) -> PathBuf {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/nets/clip_quick_image.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let folder = folder.join("tiny-clip");
    std::fs::create_dir(&folder).unwrap();
    for (file, content) in golden["files"].as_object().unwrap() {
        std::fs::write(folder.join(file), content.to_string()).unwrap();
    }
    let mut state = 1u32;
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = golden["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, recipe)| {
            let shape: Vec<usize> = serde_json::from_value(recipe[0].clone()).unwrap();
            let bytes = (0..shape.iter().product::<usize>())
                .flat_map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 8) as f32 / (1 << 23) as f32 - 0.9).to_le_bytes()
                })
                .collect();
            (name.as_str(), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, b)| (*name, TensorView::new(Dtype::F32, shape.clone(), b).unwrap()));
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    folder
}

fn pictures(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (i, colour) in [[250u8, 10, 10], [10, 250, 10], [10, 10, 250]].into_iter().enumerate() {
        let picture = image::RgbImage::from_fn(40, 30, |x, y| {
            if (x / 8 + y / (4 + i as u32)).is_multiple_of(2) { image::Rgb(colour) } else { image::Rgb([240; 3]) }
        });
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(folder.join("note.txt"), "w3 w14 w15").unwrap();
}

#[test]
fn a_library_stands_in_the_space_of_a_dual_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint(dir.path());
    pictures(&dir.path().join("photos"));
    // Named from the folder it stands in, and found later from elsewhere.
    let reply = chiasm(dir.path(), &["index", "photos", "--model", "tiny-clip", "--json"]).code(0).json();
    assert_eq!((&reply["n_new"], &reply["refused"]), (&4.into(), &Value::Array(Vec::new())));
    let found = chiasm(&dir.path().join("photos"), &["search", "w3 w14", "--kind", "image", "--json"]).code(0).json();
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 3);
    let scores: Vec<f64> = hits.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]) && scores[0] > scores[2], "{scores:?}");
    // The same text is nearest to itself.
    let found = chiasm(&dir.path().join("photos"), &["search", "w3 w14 w15", "--kind", "text", "--json"]).code(0).json();
    assert!((found["hits"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{found}");

    let labels = ["classify", "photos/0.png", "--labels", "w1,w2 w9", "--model", "tiny-clip", "--json"];
    let rows = chiasm(dir.path(), &labels).code(0).json();
    assert_eq!(rows[0]["labels"].as_array().unwrap().len(), 2);

    let described = chiasm(dir.path(), &["space", "of-model", "tiny-clip", "-o", "clip.space", "--json"]).code(0).json();
    assert_eq!((&described["dim"], described["views"].as_array().unwrap().len()), (&16.into(), 2));
    assert_eq!(reply["space"], described["fingerprint"]);

    // Weights that change under a library are noticed, not searched with.
    let file = model.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = chiasm(&dir.path().join("photos"), &["search", "w3"]);
    assert!(refused.code != 0 && refused.err.contains("fingerprint"), "{}", refused.err);
}

#[test]
fn a_model_that_is_not_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint(dir.path());
    pictures(&dir.path().join("photos"));
    let index = |words: &str| {
        let reply = chiasm(dir.path(), &["index", "photos", "--model", "tiny-clip"]);
        assert!(reply.code != 0 && reply.err.contains(words), "expected `{words}`:\n{}", reply.err);
        assert!(!dir.path().join("photos/.chiasm").exists(), "a library was left behind");
    };
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    for (change, words) in [
        (config.replace("\"model_type\":\"clip\"", "\"model_type\":\"clap_of_thunder\""), "model_type is `clap_of_thunder`"),
        (config.replace("\"num_attention_heads\":4", "\"num_attention_heads\":5"), "does not divide into 5 attention heads"),
        (config.replace("\"quick_gelu\"", "\"slow_gelu\""), "the activation `slow_gelu` is unknown"),
        (config.replace("\"patch_size\":5", "\"patch_size\":0"), "patch_size 0 does not fit"),
        (config.replace("\"image_size\":20", "\"image_size\":40"), "the preprocessing gives pictures of 20 x 20"),
        (config.replace("\"projection_dim\":16", "\"projection_dim\":17"), "has shape [16, 32], the model needs [17, 32]"),
        (config[..config.len() / 2].to_owned(), "config.json"),
    ] {
        assert_ne!(change, config, "{words}: nothing was changed");
        std::fs::write(model.join("config.json"), change).unwrap();
        index(words);
    }
    std::fs::write(model.join("config.json"), &config).unwrap();
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    index("model.safetensors");
    let several = chiasm(
        dir.path(),
        &["space", "fit", "--image", "tiny-clip", "--text", "char-ngrams", "--pairs", "x.csv", "--method", "cca", "-o", "x"],
    );
    assert!(several.code != 0, "{}", several.out);
}
