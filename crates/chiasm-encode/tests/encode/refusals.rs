//! Models that are absent, damaged or of another kind are refused by name; input that means nothing is refused too.

use std::path::{Path, PathBuf};

use chiasm_core::{EncodeError, Image, Media, Modality, Waveform};
use chiasm_encode::{ModelDirs, OpenError, catalogue, class_names, open};

/// The folder of trained networks; `None`, with a line that says so, where it is not. On CI it must be there.
fn small_models() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder =
        std::env::var_os("CHIASM_TEST_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from).join("small_models");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no test data at {}", folder.display());
    eprintln!("skipped: no test data at {}", folder.display());
    None
}

fn refusal(name: &str, dir: &Path) -> String {
    let error = open(name, &ModelDirs::new(vec![dir.to_owned()])).err().map(|e| e.to_string());
    error.unwrap_or_else(|| panic!("{name} opened"))
}

/// A copy of a model's files, to be damaged.
fn copy(from: &Path, files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let to = dir.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Through memory: the originals may be read-only, and a copy would be too.
        std::fs::write(to, std::fs::read(from.join(file)).unwrap()).unwrap();
    }
    dir
}

fn replace(path: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{old} is not in {}", path.display());
    std::fs::write(path, text.replacen(old, new, 1)).unwrap();
}

/// Overwrites the first number of a tensor that is stored in half precision.
fn poison(path: &Path, tensor: &str, half: u16) {
    let mut bytes = std::fs::read(path).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    assert_eq!(header[tensor]["dtype"], "F16");
    let at = 8 + header_len + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, keep: usize) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..keep]).unwrap();
}

#[test]
fn absent_models_say_where_they_were_sought_and_the_ways_out() {
    let empty = tempfile::tempdir().unwrap();
    for name in ["mobilenet_v2", "mobilenet_v2:classes", "yamnet", "all-MiniLM-L6-v2"] {
        let message = refusal(name, empty.path());
        for part in [name, &empty.path().display().to_string(), "--models DIR", "CHIASM_MODELS", "path"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
    assert!(refusal("resnet_9000", empty.path()).contains("no encoder is called `resnet_9000`: the names are mobilenet_v2,"));
    assert!(refusal("./nowhere/net.json", empty.path()).contains("there is no such file or folder"));
    assert!(refusal(&empty.path().display().to_string(), empty.path()).contains("modules.json"));
    let other = empty.path().join("other.json");
    std::fs::write(&other, r#"{"name": "squeezenet"}"#).unwrap();
    assert!(refusal(&other.display().to_string(), empty.path()).contains("its name is `squeezenet`"));
    std::fs::write(&other, "[1, 2").unwrap();
    assert!(refusal(&other.display().to_string(), empty.path()).contains("other.json: "));
}

#[test]
fn the_catalogue_tells_the_truth() {
    let Some(folder) = small_models() else { return };
    let models = ModelDirs::new(vec![folder]);
    for info in catalogue() {
        let encoder = open(info.name, &models).unwrap();
        assert_eq!((encoder.name(), encoder.modality(), encoder.dim()), (info.name, info.modality, info.dim));
        assert!(encoder.fingerprint().len() == 64 && encoder.fingerprint().bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(open(info.name, &models).unwrap().fingerprint(), encoder.fingerprint());
        match class_names(info.name, &models) {
            Ok(names) => assert!(info.has_classes() && names.len() == info.dim && names.iter().all(|name| !name.is_empty())),
            Err(OpenError::NoClasses { .. }) => assert!(!info.has_classes()),
            Err(e) => panic!("{}: {e}", info.name),
        }
    }
}

#[test]
fn a_path_opens_what_a_name_opens() {
    let Some(folder) = small_models() else { return };
    let (by_name, none) = (ModelDirs::new(vec![folder.clone()]), ModelDirs::default());
    for (name, file) in [
        ("mobilenet_v2:classes", "mobilenet_v2.json:classes"),
        ("yamnet", "yamnet.json"),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
    ] {
        let path = folder.join(file).display().to_string();
        let encoder = open(&path, &none).unwrap();
        assert_eq!(encoder.name(), path);
        assert_eq!(encoder.fingerprint(), open(name, &by_name).unwrap().fingerprint());
    }
}

#[test]
fn damaged_image_and_sound_models_are_refused_by_name() {
    let Some(folder) = small_models() else { return };
    let fresh = || copy(&folder, &["mobilenet_v2.json", "mobilenet_v2.safetensors", "yamnet.json", "yamnet.safetensors"]);
    let dir = fresh();
    let (json, weights) = (dir.path().join("mobilenet_v2.json"), dir.path().join("mobilenet_v2.safetensors"));

    poison(&weights, "block.3.expand.weight", 0x7e00);
    let message = refusal("mobilenet_v2", dir.path());
    assert!(message.contains("`block.3.expand.weight`") && message.contains("NaN at place 0"), "{message}");
    poison(&weights, "block.3.expand.weight", 0x7c00);
    assert!(refusal("mobilenet_v2", dir.path()).contains("inf at place 0"));
    cut(&weights, 1_000_000);
    assert!(refusal("mobilenet_v2", dir.path()).contains("mobilenet_v2.safetensors is no whole safetensors file"));
    cut(&weights, 5);
    assert!(refusal("mobilenet_v2", dir.path()).contains("no whole safetensors file"));
    std::fs::remove_file(&weights).unwrap();
    assert!(refusal("mobilenet_v2", dir.path()).contains("cannot read the weights"));
    // YAMNet's weights in the place of MobileNet's.
    std::fs::copy(dir.path().join("yamnet.safetensors"), &weights).unwrap();
    assert!(refusal("mobilenet_v2", dir.path()).contains("no tensor `stem.weight`"));

    // Descriptions whose numbers do not chain, do not fit the weights, or would lead out of the folder.
    for (old, new, part) in [
        (r#""out_channels": 24"#, r#""out_channels": 25"#, "in_channels is 24, the layer before gives 25"),
        (r#""hidden_channels": 96"#, r#""hidden_channels": 97"#, "`block.1.expand.weight`"),
        (r#""stride": 2"#, r#""stride": 0"#, "layer `stem`: a conv with kernel 3 and stride 0"),
        (r#""kind": "inverted_residual""#, r#""kind": "transformer""#, "the layers are"),
        (r#""weights": "mobilenet_v2.safetensors""#, r#""weights": "../secret.safetensors""#, "no plain file name"),
        (r#""std": 128.0"#, r#""std": 0.0"#, "std"),
        ("224,\n   224", "224,\n   99999999", "at most 4096 pixels"),
    ] {
        let dir = fresh();
        replace(&dir.path().join("mobilenet_v2.json"), old, new);
        let message = refusal("mobilenet_v2", dir.path());
        assert!(message.contains(part), "{new}: {message}");
    }
    std::fs::write(&json, "{}").unwrap();
    assert!(refusal("mobilenet_v2", dir.path()).contains("mobilenet_v2.json: missing field"));
    for (old, new, part) in [
        (r#""out_channels": 521"#, r#""out_channels": 520"#, "`classifier.weight`"),
        (r#""mel_max_hz": 7500.0"#, r#""mel_max_hz": 7000.0"#, "mel filters"),
        (r#""patch_samples": 15600"#, r#""patch_samples": 16000"#, "patch_frames"),
        (r#""patch_samples": 15600"#, r#""patch_samples": 99999999999"#, "patch_samples"),
        (r#""patch_hop_samples": 7680"#, r#""patch_hop_samples": 0"#, "patch_hop_samples"),
        (r#""fft": 512"#, r#""fft": 99999999999"#, "fft"),
        (r#""hop_samples": 160"#, r#""hop_samples": 0"#, "hop"),
    ] {
        let dir = fresh();
        replace(&dir.path().join("yamnet.json"), old, new);
        let message = refusal("yamnet", dir.path());
        assert!(message.contains(part), "{new}: {message}");
    }
    // Class names that are too few, or absent.
    let dir = fresh();
    let models = ModelDirs::new(vec![dir.path().to_owned()]);
    assert!(matches!(class_names("mobilenet_v2:classes", &models), Err(OpenError::Io { .. })));
    std::fs::write(dir.path().join("imagenet_labels.txt"), "background\ntench\n").unwrap();
    assert!(
        class_names("mobilenet_v2:classes", &models).unwrap_err().to_string().contains("2 class names, the network has 1001")
    );
    std::fs::write(dir.path().join("yamnet_class_map.csv"), "index,mid\n0,x\n").unwrap();
    assert!(class_names("yamnet:classes", &models).unwrap_err().to_string().contains("no column `display_name`"));
}

#[test]
fn damaged_sentence_models_are_refused_by_name() {
    let Some(folder) = small_models() else { return };
    let files = [
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "tokenizer.json",
        "model.safetensors",
    ];
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("all-MiniLM-L6-v2");
    let restore = |file: &str| {
        let to = model.join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, std::fs::read(folder.join("all-MiniLM-L6-v2").join(file)).unwrap()).unwrap();
    };
    files.iter().for_each(|file| restore(file));

    for (file, old, new, part) in [
        ("config.json", r#""hidden_size": 384"#, r#""hidden_size": 383"#, "attention heads"),
        ("config.json", r#""num_attention_heads": 12"#, r#""num_attention_heads": 0"#, "attention heads"),
        (
            "config.json",
            r#""intermediate_size": 1536"#,
            r#""intermediate_size": 1537"#,
            "`encoder.layer.0.intermediate.dense.weight`",
        ),
        ("config.json", r#""num_hidden_layers": 6"#, r#""num_hidden_layers": 7"#, "no tensor `encoder.layer.6."),
        (
            "config.json",
            r#""num_hidden_layers": 6"#,
            r#""num_hidden_layers": 5"#,
            "has tensors that the model does not: encoder.layer.5.",
        ),
        ("config.json", r#""vocab_size": 30522"#, r#""vocab_size": 30000"#, "a vocabulary of 30000"),
        ("config.json", r#""model_type": "bert""#, r#""model_type": "gpt2""#, "model_type is `gpt2`, expected one of bert"),
        ("config.json", r#""hidden_act": "gelu""#, r#""hidden_act": "mash""#, "the activation `mash` is unknown"),
        ("modules.json", "models.Normalize", "models.Dense", "Transformer, Pooling, Dense"),
        (
            "1_Pooling/config.json",
            r#""pooling_mode_cls_token": false"#,
            r#""pooling_mode_cls_token": true"#,
            "pooling_mode_mean_tokens alone",
        ),
        ("sentence_bert_config.json", "256", "513", "max_seq_length is 513"),
        ("sentence_bert_config.json", "256", "0", "max_seq_length is 0"),
        ("tokenizer.json", r#""version":"1.0""#, r#""version":"#, "tokenizer.json: "),
    ] {
        replace(&model.join(file), old, new);
        let message = refusal("all-MiniLM-L6-v2", dir.path());
        assert!(message.contains(part), "{new}: {message}");
        restore(file);
    }
    poison(&model.join("model.safetensors"), "embeddings.word_embeddings.weight", 0x7e00);
    assert!(refusal("all-MiniLM-L6-v2", dir.path()).contains("`embeddings.word_embeddings.weight`"));
    cut(&model.join("model.safetensors"), 20_000_000);
    assert!(refusal("all-MiniLM-L6-v2", dir.path()).contains("no whole safetensors file"));
    for file in files {
        std::fs::remove_file(model.join(file)).unwrap();
        let message = refusal("all-MiniLM-L6-v2", dir.path());
        assert!(message.contains(file), "without {file}: {message}");
        restore(file);
    }
}

#[test]
fn classes_are_those_of_a_checkpoint_with_a_classifier() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{}:classes", dir.path().display());
    let models = ModelDirs::new(Vec::new());
    let describe = |config: &str| std::fs::write(dir.path().join("config.json"), config).unwrap();
    describe(r#"{"model_type": "clip"}"#);
    assert!(matches!(class_names(&name, &models), Err(OpenError::NoClasses { .. })));
    assert!(matches!(open(&name, &models), Err(OpenError::NoClasses { .. })));
    describe(r#"{"model_type": "resnet"}"#);
    assert!(class_names(&name, &models).unwrap_err().to_string().contains("names no classes under id2label"));
    assert!(refusal(&name, dir.path()).contains("names no classes under id2label"));
    describe(r#"{"model_type": "resnet", "id2label": {"1": "dog", "0": "cat"}}"#);
    assert_eq!(class_names(&name, &models).unwrap(), ["cat", "dog"]);
    // Its weights are still looked for.
    assert!(refusal(&name, dir.path()).contains("model.safetensors"));
}

#[test]
fn a_mixture_of_two_models_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let clip = || {
        let _ = std::fs::remove_dir_all(dir.path().join("clip"));
        crate::common::checkpoint(dir.path(), "clip_quick_image", "clip")
    };
    let path = |tower: &str| format!("{}:{tower}", dir.path().join("clip").display());
    let refused = |tower: &str, parts: &[&str]| {
        let message = refusal(&path(tower), dir.path());
        for part in parts {
            assert!(message.contains(part), "no `{part}` in: {message}");
        }
    };
    let here = ModelDirs::default();
    clip();
    assert_eq!(open(&path("image"), &here).unwrap().dim(), open(&path("text"), &here).unwrap().dim());
    let tensors = "clip_quick_image";
    let no_text = |name: &str| !name.starts_with("text_");

    // The text tower of another family: its own tensors are missing, the other's are not asked for by name.
    let bert = crate::common::weights("bert", |_| true);
    std::fs::write(clip().join("model.safetensors"), crate::common::together(&crate::common::weights(tensors, no_text), &bert))
        .unwrap();
    refused("text", &["no tensor `text_"]);
    refused("image", &["has tensors that the model does not", "embeddings.position_embeddings.weight", "of another model"]);
    // That of a CLIP of another width.
    let vision = crate::common::weights(tensors, |name| !name.starts_with("text_model."));
    let other = crate::common::weights("siglip_text", |name| name.starts_with("text_model."));
    std::fs::write(clip().join("model.safetensors"), crate::common::together(&vision, &other)).unwrap();
    refused("text", &["model.safetensors", "tensor `text_model.", "has shape"]);

    // A description of another model: its numbers do not fit the weights, whichever tower is opened.
    for (old, new, tower, part) in [
        (r#""projection_dim":16"#, r#""projection_dim":24"#, "text", "`text_projection.weight`"),
        (r#""projection_dim":16"#, r#""projection_dim":24"#, "image", "`visual_projection.weight`"),
        (r#""vocab_size":60"#, r#""vocab_size":61"#, "text", "has shape [60, 24], the model needs [61, 24]"),
        (r#""vocab_size":60"#, r#""vocab_size":59"#, "text", "it has the token 59, config.json has a vocabulary of 59"),
        (r#""vocab_size":60"#, r#""vocab_size":49408"#, "text", "its last token is 59, config.json has a vocabulary of 49408"),
        (r#""eos_token_id":59"#, r#""eos_token_id":49407"#, "text", "no text ends with the token 49407"),
        (r#""image_size":20"#, r#""image_size":25"#, "image", "the preprocessing gives pictures of 20 x 20"),
    ] {
        replace(&clip().join("config.json"), old, new);
        refused(tower, &[part]);
    }
    for part in ["they are of two models", "take both files from one"] {
        replace(&clip().join("config.json"), r#""vocab_size":60"#, r#""vocab_size":49408"#);
        refused("text", &[part]);
    }
    // The tokeniser of another model, which would give numbers that mean other words: as many tokens, but none where a text ends.
    let tokenizer = clip().join("tokenizer.json");
    replace(&tokenizer, r#"{"id":59,"content":"<|endoftext|>""#, r#"{"id":57,"content":"<|endoftext|>""#);
    replace(&tokenizer, r#""<|endoftext|>":59"#, r#""<|endoftext|>":57"#);
    refused("text", &["no text ends with the token 59, which is eos_token_id in config.json"]);
    // The preprocessing of a model for larger pictures.
    std::fs::write(clip().join("preprocessor_config.json"), r#"{"size": 336, "crop_size": 336}"#).unwrap();
    refused("image", &["the preprocessing gives pictures of 336 x 336, the network takes 20 x 20"]);
}

#[test]
fn a_description_of_pictures_of_any_shape_must_fit_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = || crate::common::checkpoint(dir.path(), "siglip2_image", "siglip2");
    let path = |tower: &str| format!("{}:{tower}", fresh().display());
    let here = ModelDirs::default();
    let encoder = open(&path("image"), &here).unwrap();
    assert_eq!(encoder.dim(), open(&path("text"), &here).unwrap().dim());
    // A column, a row and a single pixel together; each by itself gives the same bits.
    let picture = |width: u32, height: u32| {
        let rgb = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
        Media::Image(Image { width, height, rgb })
    };
    let batch = [picture(3, 400), picture(90, 31), picture(1, 1)];
    let together = encoder.encode(&batch).unwrap();
    for (i, one) in batch.iter().enumerate() {
        let alone = encoder.encode(std::slice::from_ref(one)).unwrap();
        assert_eq!(alone.data(), &together.data()[i * encoder.dim()..][..encoder.dim()]);
    }

    for (file, old, new, parts) in [
        ("config.json", r#""num_patches":16"#, r#""num_patches":0"#, ["num_patches is 0", "a square"]),
        ("config.json", r#""num_patches":16"#, r#""num_patches":15"#, ["num_patches is 15", "a square"]),
        ("config.json", r#""num_patches":16"#, r#""num_patches":25"#, ["position_embedding.weight", "needs [25, 32]"]),
        // The square of 2^31, and the largest square.
        (
            "config.json",
            r#""num_patches":16"#,
            r#""num_patches":4611686018427387904"#,
            ["position_embedding.weight", "has shape [16, 32]"],
        ),
        (
            "config.json",
            r#""num_patches":16"#,
            r#""num_patches":18446744065119617025"#,
            ["position_embedding.weight", "has shape [16, 32]"],
        ),
        (
            "config.json",
            r#""patch_size":5"#,
            r#""patch_size":0"#,
            ["vision_config: patch_size is 0", "patch_size of preprocessor_config.json is 5"],
        ),
        (
            "config.json",
            r#""patch_size":5"#,
            r#""patch_size":18446744073709551615"#,
            ["patch_size is 18446744073709551615", "one model"],
        ),
        ("config.json", r#""num_channels":3"#, r#""num_channels":1"#, ["num_channels is 1", "expected 3"]),
        ("config.json", r#""vision_use_head":true"#, r#""vision_use_head":false"#, ["vision_use_head is false", "no pooling"]),
        (
            "preprocessor_config.json",
            r#""max_num_patches":22"#,
            r#""max_num_patches":0"#,
            ["max_num_patches is 0", "1 to 4096"],
        ),
        (
            "preprocessor_config.json",
            r#""max_num_patches":22"#,
            r#""max_num_patches":1000000000000"#,
            ["max_num_patches is 1000000000000", "1 to 4096"],
        ),
        ("preprocessor_config.json", r#""patch_size":5"#, r#""patch_size":6"#, ["vision_config: patch_size is 5", "is 6"]),
    ] {
        replace(&fresh().join(file), old, new);
        let message = refusal(&format!("{}:image", dir.path().join("siglip2").display()), dir.path());
        for part in [file].iter().filter(|_| !message.contains("position_embedding")).chain(&parts) {
            assert!(message.contains(part), "no `{part}` in: {message}");
        }
    }
}

#[test]
fn what_means_nothing_is_refused_with_its_place() {
    let Some(folder) = small_models() else { return };
    let models = ModelDirs::new(vec![folder]);
    let minilm = open("all-MiniLM-L6-v2", &models).unwrap();
    let good = Media::Text("good".to_owned());
    // Nothing, blanks of several kinds, and what the tokeniser throws away.
    for empty in ["", "   ", "\t\r\n", "\u{3000}\u{a0}", "\u{200b}\u{0}"] {
        let error = minilm.encode(&[good.clone(), Media::Text(empty.to_owned())]).unwrap_err();
        assert!(matches!(error, EncodeError::Unencodable { item: 1, .. }), "{empty:?}: {error}");
    }
    let yamnet = open("yamnet", &models).unwrap();
    let silence = |n| Media::Audio(Waveform { sample_rate_hz: 16_000, samples: vec![0.0; n] });
    assert!(matches!(yamnet.encode(&[silence(5), silence(0)]).unwrap_err(), EncodeError::Unencodable { item: 1, .. }));
    assert!(yamnet.encode(&[silence(1)]).unwrap().row(0).iter().all(|v| v.is_finite()));
    let error = yamnet.encode(&[silence(5), good]).unwrap_err();
    assert!(matches!(error, EncodeError::Modality { item: 1, got: Modality::Text, expected: Modality::Audio, .. }));
    // The smallest picture there is.
    let dot = Media::Image(Image { width: 1, height: 1, rgb: vec![255, 0, 0] });
    assert_eq!(open("mobilenet_v2", &models).unwrap().encode(&[dot]).unwrap().n(), 1);
}

#[test]
fn descriptions_of_brivl_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (tower, fields, words) in [
        ("image", r#""patch_grid": 0"#, "patch_grid 0 and patch_points 4: expected 1 to 64"),
        ("image", r#""patch_points": 65"#, "patch_grid 6 and patch_points 65: expected 1 to 64"),
        ("image", r#""image_attention_heads": 3"#, "the width 2048 does not divide into 3 attention heads"),
        ("image", r#""attention_intermediate_size": 0"#, "attention_intermediate_size is 0"),
        ("image", r#""vision_config": {"hidden_dim": 0}"#, "hidden_dim is 0"),
        ("image", r#""vision_config": {"image_size": 0}"#, "image_size is 0, expected 1 to 4096"),
        ("text", r#""max_text_length": 513"#, "max_text_length is 513, expected 3 to 512"),
        ("text", r#""max_text_length": 2"#, "max_text_length is 2, expected 3 to 512"),
        ("text", r#""text_attention_heads": 0"#, "the width 768 does not divide into 0 attention heads"),
        ("text", r#""text_config": {"pad_token_id": 30522}"#, "pad_token_id is 30522, the vocabulary has 30522"),
        // The published sizes; the tokeniser and the weights are looked for next.
        ("text", r#""seen": 0"#, "tokenizer.json"),
        ("image", r#""seen": 0"#, "model.safetensors"),
    ] {
        let description = format!(r#"{{"model_type": "brivl", {fields}}}"#);
        std::fs::write(dir.path().join("config.json"), &description).unwrap();
        let message = refusal(&format!("{}:{tower}", dir.path().display()), dir.path());
        assert!(message.contains(words), "{description}: {message}");
    }
}

#[test]
fn brivl_opens_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let folder = crate::common::checkpoint(dir.path(), "brivl_image", "brivl");
    let (name, models) = (folder.display().to_string(), ModelDirs::default());
    let picture = |side: u32| {
        Media::Image(Image { width: side, height: 40, rgb: (0..side * 40 * 3).map(|i| (i * 7 % 251) as u8).collect() })
    };
    let image = open(&format!("{name}:image"), &models).unwrap();
    let pictures = image.encode(&[picture(9), picture(70)]).unwrap();
    assert_eq!(image.encode(&[picture(70)]).unwrap().row(0), pictures.row(1));
    let text = open(&format!("{name}:text"), &models).unwrap();
    let texts =
        text.encode(&["w5 w6", "w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16"].map(|t| Media::Text(t.to_owned()))).unwrap();
    assert_eq!(text.encode(&[Media::Text("w5 w6".to_owned())]).unwrap().row(0), texts.row(0));
    assert_eq!((image.dim(), text.dim()), (128, 128));
    for row in [pictures.row(0), pictures.row(1), texts.row(0), texts.row(1)] {
        let square: f32 = row.iter().map(|v| v * v).sum();
        assert!((square - 1.0).abs() < 1e-5, "a length of {square}");
    }
}

#[test]
fn descriptions_of_video_models_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |description: &str| {
        std::fs::write(dir.path().join("config.json"), description).unwrap();
        refusal(&format!("{}:video", dir.path().display()), dir.path())
    };
    for (description, words) in [
        (r#"{"model_type": "timesformer", "num_frames": 0}"#, "num_frames is 0, expected 1 to 256"),
        (r#"{"model_type": "timesformer", "num_frames": 18446744073709551615}"#, "num_frames is 18446744073709551615"),
        (r#"{"model_type": "timesformer", "qkv_bias": false}"#, "qkv_bias is false"),
        (r#"{"model_type": "timesformer", "attention_type": "everywhere"}"#, "unknown variant `everywhere`"),
        (r#"{"model_type": "timesformer", "hidden_size": 100}"#, "hidden_size 100 does not divide into 12 attention heads"),
        (r#"{"model_type": "timesformer", "image_size": 32}"#, "the preprocessing gives pictures of 224 x 224"),
        (r#"{"model_type": "timesformer", "patch_size": 0}"#, "patch_size 0 does not fit"),
        (r#"{"model_type": "timesformer"}"#, "model.safetensors"),
        (
            r#"{"model_type": "xclip", "text_config": {}, "vision_config": {"mit_hidden_size": 256}}"#,
            "mit_hidden_size is 256, projection_dim 512",
        ),
        (
            r#"{"model_type": "xclip", "text_config": {}, "vision_config": {"mit_num_attention_heads": 0}}"#,
            "vision_config (mit): hidden_size 512 does not divide into 0 attention heads",
        ),
        (
            r#"{"model_type": "xclip", "text_config": {}, "vision_config": {"image_size": 4096, "num_frames": 99}}"#,
            "99 frames of 4096 x 4096 are 1660944384 pixels",
        ),
        (r#"{"model_type": "r3d", "widths": []}"#, "widths has 0 stages, depths 4"),
        (r#"{"model_type": "r3d", "widths": [8, 8], "depths": [1]}"#, "widths has 2 stages, depths 1"),
        (r#"{"model_type": "r3d", "widths": [8, 0], "depths": [1, 1]}"#, "widths and depths must be above 0"),
    ] {
        let message = open(description);
        assert!(message.contains(words), "{description}: {message}");
    }
    let one_tower = refusal(&format!("{}:image", dir.path().display()), dir.path());
    assert!(one_tower.contains("video"), "{one_tower}");
}
