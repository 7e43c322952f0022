//! Checkpoints for sounds as the world outside opens them: rows do not depend on their batch, and what does not fit is refused by name.
//! The checkpoints are those of the goldens, with made-up weights.

use std::path::Path;

use chiasm_core::{EncodeError, Media, Waveform};
use chiasm_encode::{ModelDirs, class_names, open};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Writes the checkpoint that a golden describes.
fn checkpoint(golden: &str) -> tempfile::TempDir {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/encode/nets");
    let golden: Value = serde_json::from_slice(&std::fs::read(goldens.join(format!("{golden}.json"))).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (file, content) in golden["files"].as_object().unwrap() {
        std::fs::write(folder.path().join(file), content.to_string()).unwrap();
    }
    let tensors: Vec<(&String, Vec<usize>, Vec<u8>)> = golden["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .zip(1..)
        .map(|((name, recipe), seed)| {
            let shape: Vec<usize> = serde_json::from_value(recipe[0].clone()).unwrap();
            let [centre, spread] = [1, 2].map(|i| recipe[i].as_f64().unwrap() as f32);
            let values = numbers(shape.iter().product(), seed);
            (name, shape, values.into_iter().flat_map(|u| (centre + spread * u).to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, b)| (*name, TensorView::new(Dtype::F32, shape.clone(), b).unwrap()));
    serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

fn sound(n: usize, sample_rate_hz: u32) -> Media {
    Media::Audio(Waveform { sample_rate_hz, samples: numbers(n, n as u32) })
}

#[test]
fn a_row_is_the_same_to_the_bit_in_any_batch() {
    // From a few samples to more than the networks take, at rates that must be resampled and such that must not.
    let batch = [(500, 16_000), (3_000, 4_000), (9_000, 8_012), (4_001, 4_000), (60_000, 32_000), (4_100, 16_000)]
        .map(|(n, rate)| sound(n, rate));
    for (golden, tower) in [("ast", ""), ("clap_audio", ":audio"), ("clap_fused_audio", ":audio"), ("cnn14", "")] {
        let folder = checkpoint(golden);
        let encoder = open(&format!("{}{tower}", folder.path().display()), &ModelDirs::default()).unwrap();
        let whole = encoder.encode(&batch).unwrap();
        for (i, media) in batch.iter().enumerate() {
            let alone = encoder.encode(std::slice::from_ref(media)).unwrap();
            assert!(alone.row(0) == whole.row(i), "{golden}: item {i} depends on its batch");
            assert!(i == 0 || whole.row(i) != whole.row(i - 1), "{golden}: two sounds have one embedding");
        }
        let error = encoder.encode(&[batch[0].clone(), sound(0, 16_000)]).unwrap_err();
        assert!(matches!(error, EncodeError::Unencodable { item: 1, .. }), "{golden}: {error}");
        assert_eq!(encoder.encode(&[]).unwrap().n(), 0);
    }
}

#[test]
fn classes_have_the_names_of_the_checkpoint() {
    // Whether the classes exclude each other: then they sum to 1.
    for (golden, one_holds, names) in [
        ("ast_classifier", true, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ("ast_several", false, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ("cnn14", false, ["sound 0", "sound 1", "sound 2"]),
    ] {
        let folder = checkpoint(golden);
        let (name, models) = (format!("{}:classes", folder.path().display()), ModelDirs::default());
        assert_eq!(class_names(&name, &models).unwrap(), names, "{golden}");
        let encoder = open(&name, &models).unwrap();
        let given = encoder.encode(&[sound(9_000, 16_000), sound(20_000, 16_000)]).unwrap();
        for i in 0..2 {
            let sum: f32 = given.row(i).iter().sum();
            assert!(given.row(i).len() == 3 && given.row(i).iter().all(|p| (0.0..=1.0).contains(p)), "{golden}");
            assert_eq!((sum - 1.0).abs() < 1e-5, one_holds, "{golden}: the classes sum to {sum}");
        }
        let features = open(&folder.path().display().to_string(), &models).unwrap();
        assert_ne!(features.fingerprint(), encoder.fingerprint());
    }
}

#[test]
fn descriptions_that_do_not_fit_are_refused_by_name() {
    let refusal = |golden: &str, tower: &str, file: &str, old: &str, new: &str| {
        let folder = checkpoint(golden);
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old} is not in {file} of {golden}");
        std::fs::write(&path, text.replace(old, new)).unwrap();
        let refused = open(&format!("{}{tower}", folder.path().display()), &ModelDirs::default()).err();
        refused.unwrap_or_else(|| panic!("{golden} opened with {new}")).to_string()
    };
    let (config, preprocessor) = ("config.json", "preprocessor_config.json");
    for (file, old, new, words) in [
        (config, r#""hidden_size":24"#, r#""hidden_size":25"#, "does not divide into 3 attention heads"),
        (config, r#""patch_size":6"#, r#""patch_size":0"#, "patch_size 0"),
        (config, r#""patch_size":6"#, r#""patch_size":16"#, "do not fit 15 bands"),
        (config, r#""time_stride":3"#, r#""time_stride":0"#, "strides 4 and 0"),
        (config, r#""time_stride":3"#, r#""time_stride":4"#, "`embeddings.position_embeddings`"),
        (config, r#""max_length":20"#, r#""max_length":21"#, "gives 20 frames of 15 bands, the network takes 21 of 15"),
        (config, r#""num_hidden_layers":2"#, r#""num_hidden_layers":3"#, "no tensor `encoder.layer.2."),
        (preprocessor, r#""num_mel_bins":15"#, r#""num_mel_bins":16"#, "frames of 16 bands"),
        (preprocessor, r#""max_length":20"#, r#""max_length":20,"sampling_rate":5"#, "sampling_rate is 5"),
    ] {
        let message = refusal("ast", "", file, old, new);
        assert!(message.contains(words), "{new}: {message}");
    }
    for (file, old, new, words) in [
        (config, r#""enable_fusion":false"#, r#""enable_fusion":true"#, "truncation is `rand_trunc`"),
        (config, r#""patch_size":2"#, r#""patch_size":4"#, "patches of 4 x 4, 2 and 2 apart"),
        (config, r#""patch_size":2"#, r#""patch_size":[2,1]"#, "patches of 2 x 1"),
        (config, r#""spec_size":32"#, r#""spec_size":0"#, "spec_size 0"),
        (config, r#""spec_size":32"#, r#""spec_size":33"#, "spec_size 33"),
        (config, r#""num_mel_bins":16"#, r#""num_mel_bins":0"#, "bands (0)"),
        (config, r#""depths":[2,1]"#, r#""depths":[]"#, "0 stages"),
        (config, r#""depths":[2,1]"#, r#""depths":[2,1,1,1,1,1]"#, "6 stages"),
        (config, r#""window_size":4"#, r#""window_size":9"#, "a window of 9"),
        (config, r#""hidden_size":16"#, r#""hidden_size":17"#, "hidden_size is 17, the stages give 16"),
        (config, r#""enable_patch_layer_norm":true"#, r#""enable_patch_layer_norm":false"#, "enable_patch_layer_norm is false"),
        (config, r#""projection_hidden_act":"relu""#, r#""projection_hidden_act":"mash""#, "`mash` is unknown"),
        (preprocessor, r#""feature_size":16"#, r#""feature_size":17"#, "51 frames of 17 bands"),
        (preprocessor, r#""hop_length":80"#, r#""hop_length":8"#, "501 frames"),
    ] {
        let message = refusal("clap_audio", ":audio", file, old, new);
        assert!(message.contains(words), "{new}: {message}");
    }
    for (old, new, words) in [
        (r#""max_position_embeddings":14"#, r#""max_position_embeddings":4"#, "max_position_embeddings is 4"),
        (r#""num_attention_heads":3"#, r#""num_attention_heads":5"#, "5 attention heads"),
        (r#""vocab_size":60"#, r#""vocab_size":"many""#, "text_config"),
        (r#""vocab_size":60"#, r#""vocab_size":50"#, "a vocabulary of 50"),
    ] {
        let message = refusal("clap_text", ":text", config, old, new);
        assert!(message.contains(words), "{new}: {message}");
    }
    let fused = refusal("clap_fused_audio", ":audio", config, r#""fusion_type":null"#, r#""fusion_type":"channel_map""#);
    assert!(fused.contains("fusion_type is `channel_map`"), "{fused}");
    for (old, new, words) in [
        (r#""channels":[3,5,8]"#, r#""channels":[]"#, "channels are []"),
        (r#""channels":[3,5,8]"#, r#""channels":[3,5,9]"#, "`conv_block3.conv1.weight`"),
        (r#""channels":[3,5,8]"#, r#""channels":[3,5,99999999]"#, "channels are [3, 5, 99999999]"),
        (r#""mel_bins":13"#, r#""mel_bins":3"#, "mel_bins is 3"),
        (r#""hop_size":320"#, r#""hop_size":0"#, "hop_size 0"),
        (r#""window_size":1024"#, r#""window_size":99999999999"#, "transform"),
        (r#""fmax":14000"#, r#""fmax":17000"#, "<= 16000"),
        (r#""sample_rate":32000"#, r#""sample_rate":1"#, "sample_rate 1"),
    ] {
        let message = refusal("cnn14", "", config, old, new);
        assert!(message.contains(words), "{new}: {message}");
    }
}
