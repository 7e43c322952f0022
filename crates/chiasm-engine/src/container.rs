//! The one file a fitted space is kept in, whatever it was fitted on.
//!
//! # File
//! A safetensors container. Its `__metadata__` has the one key `chiasm`, a JSON text: `format`, `metric`, `views` (each the columns it
//! takes and its steps in order, where numbers of some size are names of tensors), `about` (method, hyper-parameters,
//! correlations), and under `beside` what this crate adds: `space_format` (2), `kind` (`media` or `features`), `fingerprint`,
//! `written_by`, `header`, and `blake3`, the digest of the file with 64 zeros in the digest's own place. `docs/library-format.md` reads it
//! with a few lines of Python.

use chiasm_align::{Beside, PipelineSpace};
use serde_json::{Value, json};

const FORMAT: u64 = 2;
/// What stands in the digest's place while the digest is made.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";
pub(crate) const DAMAGED: &str = "its checksum does not match, so it is damaged or cut short: copy it again or fit it again";

/// What stands in a file.
#[derive(Debug)]
pub struct Opened {
    /// The pipelines.
    pub projection: PipelineSpace,
    /// `media` or `features`.
    pub kind: String,
    /// What decides the vectors.
    pub fingerprint: String,
    /// What the writer adds.
    pub header: Value,
    /// Name, columns and rows of what the writer keeps beside the pipelines.
    pub tensors: Vec<(String, usize, Vec<f32>)>,
}

/// The bytes of a file.
pub fn seal(
    projection: &PipelineSpace,
    kind: &str,
    fingerprint: &str,
    header: Value,
    tensors: Vec<(String, usize, Vec<f32>)>,
) -> Vec<u8> {
    let record = json!({
        "space_format": FORMAT,
        "kind": kind,
        "fingerprint": fingerprint,
        "written_by": format!("chiasm {}", env!("CARGO_PKG_VERSION")),
        "header": header,
        "blake3": BLANK,
    });
    let mut bytes = projection.to_bytes_beside(&Beside { record, tensors });
    let digest = blake3::hash(&bytes).to_hex();
    // The head is JSON, which no text of 64 zeros but this one can stand in by accident.
    let place = place_of(&bytes, BLANK).expect("the digest's place was written above");
    bytes[place..place + BLANK.len()].copy_from_slice(digest.as_bytes());
    bytes
}

/// Where a text stands first in the head of a file; an empty one nowhere.
fn place_of(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len().max(1)).position(|window| window == text.as_bytes())
}

/// Reads what [`seal`] wrote.
///
/// # Errors
/// Why not, in words that fit behind the file's name: damaged, cut short, hostile, of a later version, or no space at all.
pub fn open(bytes: &[u8]) -> Result<Opened, String> {
    const NO_SPACE: &str = "it is no space file: make one with `chiasm space fit`";
    let mut beside = Beside::from_bytes(bytes).map_err(|e| format!("{NO_SPACE} ({e})"))?;
    let Some(format) = beside.record["space_format"].as_u64() else { return Err(NO_SPACE.to_owned()) };
    if format != FORMAT {
        return Err(format!("it has format {format}, this program reads 1 and {FORMAT}: use a newer chiasm"));
    }
    let projection = PipelineSpace::from_bytes(bytes).map_err(|e| e.to_string())?;
    let digest = beside.record["blake3"].as_str().filter(|digest| digest.len() == BLANK.len()).unwrap_or_default();
    let place = place_of(bytes, digest).ok_or(DAMAGED)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..place]).update(BLANK.as_bytes()).update(&bytes[place + BLANK.len()..]);
    if hasher.finalize().to_hex().as_str() != digest {
        return Err(DAMAGED.to_owned());
    }
    let word = |key: &str| beside.record[key].as_str().unwrap_or_default().to_owned();
    let (kind, fingerprint) = (word("kind"), word("fingerprint"));
    Ok(Opened { projection, kind, fingerprint, header: beside.record["header"].take(), tensors: beside.tensors })
}

#[cfg(test)]
mod tests {
    use chiasm_align::{About, Step, View};
    use chiasm_core::Metric;

    use super::*;

    #[test]
    fn a_file_opens_whole_or_not_at_all() {
        let view = View { input_dim: 2, steps: vec![Step::Center { mean: vec![0.1, 0.2] }] };
        let space = PipelineSpace::new(Metric::Cosine, vec![view.clone(), view], About::default()).expect("a space");
        // Numbers that JSON does not give back to the last bit.
        let header = json!({ "seconds": 0.1 + 0.2, "share": 2.0 / 3.0 });
        let tensors = vec![("references.000".to_owned(), 2, vec![1.0, 2.0, 3.0, 4.0])];
        let bytes = seal(&space, "media", "f00d", header, tensors.clone());
        let opened = open(&bytes).expect("what was sealed opens");
        assert_eq!((opened.projection, opened.kind.as_str(), opened.fingerprint.as_str()), (space, "media", "f00d"));
        assert_eq!(opened.tensors, tensors);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(open(&changed).is_err(), "byte {at} was changed");
            assert!(open(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
