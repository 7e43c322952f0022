//! What the tests of this crate share: where goldens and real data lie, and small files made by hand.

use std::path::{Path, PathBuf};

use chiasm_core::{Image, Media, Series, Waveform};
use chiasm_media::{Decoded, Limits, MediaError, decode};

pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/media").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run reference/media_goldens.py", path.display()))
}

pub(crate) fn golden_names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/media");
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The folder of real data; `None` after saying so where it is absent, which on CI is a failure.
pub(crate) fn real_data(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CHIASM_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let folder = root.join(part);
    if folder.exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no test data at {}", folder.display());
    println!("skipped: no test data at {}", folder.display());
    None
}

/// Every file below a folder with one of these extensions, in the order of their names.
pub(crate) fn files_below(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e.eq_ignore_ascii_case(x))) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn open(name: &str, bytes: &[u8]) -> Result<Decoded, MediaError> {
    decode(Path::new(name), bytes, &Limits::default())
}

pub(crate) fn picture(decoded: Decoded) -> Image {
    let modality = decoded.modality();
    let Media::Image(image) = decoded.media else { panic!("expected a picture, got {modality}") };
    image
}

pub(crate) fn sound(decoded: Decoded) -> Waveform {
    let modality = decoded.modality();
    let Media::Audio(wave) = decoded.media else { panic!("expected a sound, got {modality}") };
    wave
}

pub(crate) fn text(decoded: Decoded) -> String {
    let modality = decoded.modality();
    let Media::Text(text) = decoded.media else { panic!("expected a text, got {modality}") };
    text
}

pub(crate) fn series(decoded: Decoded) -> Series {
    let modality = decoded.modality();
    let Media::Series(series) = decoded.media else { panic!("expected a series, got {modality}") };
    series
}

/// What a refusal says.
pub(crate) fn refusal(result: Result<Decoded, MediaError>) -> String {
    match result {
        Ok(decoded) => panic!("expected a refusal, got {} of {}", decoded.modality(), decoded.metadata.format),
        Err(error) => error.to_string(),
    }
}

/// A WAV file by hand. `tag` 1: integers, 3: floats.
pub(crate) fn wav(tag: u16, n_channels: u16, rate: u32, n_bits: u16, data: &[u8]) -> Vec<u8> {
    let block = n_channels * n_bits.div_ceil(8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(tag.to_le_bytes());
    bytes.extend(n_channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(n_bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}
