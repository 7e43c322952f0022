//! What the neural encoders share beside the layers: reading a model's files, and its fingerprint.

use std::path::{Path, PathBuf};

use chiasm_nn::{Activation, BlockShape, Order};
use serde::de::DeserializeOwned;

use crate::error::OpenError;

/// What a network gives: the pooled features before its classifier, or the classes' probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The pooled features.
    Embedding,
    /// One number per class.
    Classes,
}

/// The bytes of one of the model's files.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

/// JSON of a known form.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, OpenError> {
    serde_json::from_slice(bytes).map_err(|e| config(path, e.to_string()))
}

/// An error in a description file.
pub(crate) fn config(path: &Path, reason: impl Into<String>) -> OpenError {
    OpenError::Config { path: path.to_owned(), reason: reason.into() }
}

/// Refuses the description unless `holds`, saying what came and what was expected.
pub(crate) fn expect(path: &Path, holds: bool, reason: impl FnOnce() -> String) -> Result<(), OpenError> {
    if holds { Ok(()) } else { Err(config(path, reason())) }
}

/// The activation that a description names.
pub(crate) fn activation(path: &Path, name: &str) -> Result<Activation, OpenError> {
    Activation::named(name).ok_or_else(|| config(path, format!("the activation `{name}` is unknown")))
}

/// The shape of the blocks of a transformer from the five numbers that descriptions state of them: width, inner width and heads, activation and
/// what normalisations add to the variance. `part` is the section that they stand in, empty where it is the whole.
pub(crate) fn block_shape(
    path: &Path,
    part: &str,
    [dim, wide, n_heads]: [usize; 3],
    (act, eps): (&str, f32),
    order: Order,
) -> Result<BlockShape, OpenError> {
    let at = if part.is_empty() { String::new() } else { format!("{part}: ") };
    expect(path, dim > 0 && n_heads > 0 && dim.is_multiple_of(n_heads), || {
        format!("{at}hidden_size {dim} does not divide into {n_heads} attention heads")
    })?;
    expect(path, wide > 0, || format!("{at}intermediate_size is 0"))?;
    Ok(BlockShape { dim, wide, n_heads, eps, activation: activation(path, act)?, order })
}

/// Refuses a picture's shape that is not the one whose patches have positions.
pub(crate) fn fits_patches(path: &Path, shape: [u32; 2], image_size: u32, patch_size: usize) -> Result<(), OpenError> {
    expect(path, patch_size > 0 && image_size as usize >= patch_size, || {
        format!("patch_size {patch_size} does not fit an image_size of {image_size}")
    })?;
    expect(path, shape == [image_size; 2], || {
        format!(
            "the preprocessing gives pictures of {} x {}, the network takes {image_size} x {image_size}",
            shape[0], shape[1]
        )
    })
}

/// A file beside the description that the description names. A name that leads elsewhere is refused: descriptions come from
/// strangers.
pub(crate) fn beside(description: &Path, name: &str) -> Result<PathBuf, OpenError> {
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    expect(description, plain, || format!("`{name}` is no plain file name"))?;
    Ok(description.with_file_name(name))
}

/// Class names from the file that a description names first in `labels`: a text with a class per line, or a CSV with a
/// column `display_name`; rows in the order of the classes.
pub(crate) fn class_names(description: &Path, labels: &str, n_classes: usize) -> Result<Vec<String>, OpenError> {
    let path = beside(description, labels.split_whitespace().next().unwrap_or_default())?;
    let bytes = read(&path)?;
    let names: Vec<String> = if path.extension().is_some_and(|ext| ext == "csv") {
        let mut table = csv::Reader::from_reader(bytes.as_slice());
        let damaged = |e: csv::Error| config(&path, e.to_string());
        let column = table.headers().map_err(damaged)?.iter().position(|name| name == "display_name");
        let column = column.ok_or_else(|| config(&path, "the table has no column `display_name`"))?;
        let rows: Result<_, _> = table.records().map(|row| row.map(|row| row[column].to_owned())).collect();
        rows.map_err(damaged)?
    } else {
        let text = String::from_utf8(bytes).map_err(|e| config(&path, e.to_string()))?;
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    expect(&path, names.len() == n_classes, || format!("{} class names, the network has {n_classes} classes", names.len()))?;
    Ok(names)
}

/// Digest of all that decides an encoder's output, the digest of its weights among it. `arithmetic` names the code: it must change whenever the code gives other
/// numbers for the same files.
pub(crate) fn fingerprint(arithmetic: &str, weights: &blake3::Hash, descriptions: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(weights.as_bytes());
    for part in std::iter::once(arithmetic.as_bytes()).chain(descriptions.iter().copied()) {
        // Each part by its own digest, so that no two lists of parts read the same.
        hasher.update(blake3::hash(part).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
