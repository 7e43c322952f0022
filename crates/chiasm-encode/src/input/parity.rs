//! Preprocessing against that of transformers and open_clip: pictures' (goldens by `reference/encode_preprocess.py` and
//! `reference/encode_siglip2.py`) and sounds' (`reference/encode_sounds.py`).

use std::path::{Path, PathBuf};

use chiasm_core::{Image, Waveform};
use safetensors::SafeTensors;

use super::{Defaults, ImageProcessor, SoundProcessor};
use crate::checkpoint::Checkpoint;
use crate::nets::cnn14;
use crate::nets::patches::unfold;

/// The goldens in a folder, in the order of their names.
fn goldens(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "safetensors"));
    files.sort();
    files
}

/// Compares every golden of pictures in a folder; gives how many there were.
fn compare(folder: &Path) -> usize {
    let files = goldens(folder);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().as_ref().unwrap();
        let mut side = 1;
        let in_patches = metadata.get("family").is_some_and(|family| family == "siglip2");
        let processor = if let Some(config) = metadata.get("preprocess_cfg") {
            let config = serde_json::from_str(config).unwrap();
            ImageProcessor::of_open_clip(file, &config, metadata["side"].parse().unwrap()).unwrap()
        } else if metadata.get("family").is_some_and(|family| family == "brivl") {
            ImageProcessor::between_pixels(file, metadata["side"].parse().unwrap()).unwrap()
        } else {
            let model = tempfile::tempdir().unwrap();
            std::fs::write(model.path().join("preprocessor_config.json"), &metadata["config"]).unwrap();
            let defaults = match metadata.get("family").map(String::as_str) {
                Some("blip") => Defaults::BLIP,
                _ => Defaults::CLIP,
            };
            let mut files = Checkpoint::new(model.path());
            if in_patches {
                let (processor, patch) = ImageProcessor::in_patches(&mut files).unwrap();
                side = patch as usize;
                processor
            } else {
                ImageProcessor::open(&mut files, defaults).unwrap()
            }
        };

        let image = golden.tensor("image").unwrap();
        let (height, width) = (image.shape()[0] as u32, image.shape()[1] as u32);
        let got = processor.pixels(&Image { width, height, rgb: image.data().to_vec() });
        let floats = |name: &str| -> Vec<f32> {
            golden.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let plane = got.height * got.width;
        // Both channel by channel; where they are cut into patches, those one after the other.
        let (values, want) = if in_patches {
            let mut patches = Vec::new();
            unfold(&got, [side; 2], &mut patches);
            assert_eq!([got.height / side, got.width / side].map(|n| n as f32), floats("grid").as_slice());
            assert_eq!([plane / side / side, side * side * 3], golden.tensor("patches").unwrap().shape());
            (patches, floats("patches"))
        } else {
            assert_eq!([3, got.height, got.width], golden.tensor("pixels").unwrap().shape());
            assert_eq!(processor.shape().map(|side| side as usize), [got.height, got.width]);
            let want = floats("pixels");
            (got.data, (0..plane).flat_map(|at| [0, 1, 2].map(|c| want[c * plane + at])).collect())
        };
        let (mut largest, mut n_off) = (0.0f32, 0);
        for (at, (v, want)) in values.iter().zip(&want).enumerate() {
            // In steps of a byte, the normalisation undone.
            let off = (v - want).abs() / processor.scale[at % 3];
            largest = largest.max(off);
            n_off += usize::from(off > 0.01);
        }
        eprintln!(
            "{}: differs by at most {largest:.3}/255, {n_off} of {}",
            file.file_stem().unwrap().to_string_lossy(),
            3 * plane
        );
        assert!(largest < 1.001, "{} differs by {largest}/255", file.display());
    }
    files.len()
}

#[test]
fn preprocessing_equals_its_reference() {
    assert!(compare(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/pictures"))) >= 10);
}

/// Real pictures, where the variable names a folder of goldens made of them.
#[test]
fn real_pictures_equal_their_reference() {
    match std::env::var_os("CHIASM_PARITY_PICTURES") {
        Some(folder) => assert!(compare(Path::new(&folder)) > 0, "no goldens there"),
        None => eprintln!("skipped: CHIASM_PARITY_PICTURES names no folder of goldens of real pictures"),
    }
}

/// Compares every golden of sounds in a folder; gives how many there were.
fn compare_sounds(folder: &Path) -> usize {
    let files = goldens(folder);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let described = metadata.metadata().as_ref().unwrap();
        let model = tempfile::tempdir().unwrap();
        std::fs::write(model.path().join("preprocessor_config.json"), &described["config"]).unwrap();
        std::fs::write(model.path().join("config.json"), &described["config"]).unwrap();
        let mut checkpoint = Checkpoint::new(model.path());
        let processor = match described["kind"].as_str() {
            "ast" => SoundProcessor::ast(&mut checkpoint),
            "cnn14" => cnn14::processor(&mut checkpoint),
            _ => SoundProcessor::clap(&mut checkpoint, !described["config"].contains("rand_trunc")),
        };
        let processor = processor.unwrap();

        let floats = |name: &str| -> Vec<f32> {
            golden.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let wave = Waveform { sample_rate_hz: processor.sample_rate_hz(), samples: floats("samples") };
        let got = processor.spectrum(&wave).unwrap();
        assert_eq!([got.height, got.width, got.channels], golden.tensor("spectrum").unwrap().shape());
        let (frames, bands) = processor.shape();
        assert!(got.width == bands && frames.is_none_or(|frames| got.height == frames));
        let want = floats("spectrum");
        let largest = got.data.iter().zip(&want).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0);
        let name = file.file_stem().unwrap().to_string_lossy();
        eprintln!("{name}: {} x {} values differ by at most {largest:.1e}", got.height, got.width);
        assert!(largest < 1e-4, "{} differs by {largest}", file.display());
    }
    files.len()
}

#[test]
fn spectra_equal_their_reference() {
    assert!(compare_sounds(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/sounds"))) >= 10);
}

/// Real sounds, where the variable names a folder of goldens made of them.
#[test]
fn real_sounds_equal_their_reference() {
    match std::env::var_os("CHIASM_PARITY_SOUNDS") {
        Some(folder) => assert!(compare_sounds(Path::new(&folder)) > 0, "no goldens there"),
        None => eprintln!("skipped: CHIASM_PARITY_SOUNDS names no folder of goldens of real sounds"),
    }
}
