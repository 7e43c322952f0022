//! Drafts of a build that was stopped. Checksums keep out what chance has changed; here a stranger has made them right, so that what stands behind them is looked at.
//!
//! The input is parts one behind the other, each a little-endian u16 of its length and so many bytes.
#![no_main]

use std::sync::LazyLock;

use chiasm_core::{Cancel, Metric, NoProgress, Vectors};
use chiasm_index::{Building, CellConfig, CellIndex, ExactIndex};
use libfuzzer_sys::fuzz_target;

const N: usize = 200;
const DIM: usize = 6;

/// What is built, and the part of its draft that names it.
static BUILT: LazyLock<(ExactIndex, Vec<u8>)> = LazyLock::new(|| {
    let data = (0..N * DIM).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let vectors = Vectors::new(data, DIM).expect("finite numbers");
    let ids: Vec<u64> = (0..N as u64).collect();
    let exact = ExactIndex::build(&ids, &vectors, Metric::L2).expect("as many ids as vectors");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let draft = folder.path().join("cells.draft");
    build(&exact, &draft);
    let bytes = std::fs::read(&draft).expect("a draft was kept");
    let len = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    (exact, bytes[..40 + len].to_vec())
});

fn build(exact: &ExactIndex, draft: &std::path::Path) {
    let cancel = Cancel::default();
    let how = Building { progress: &NoProgress, cancel: &cancel, draft: Some(draft) };
    let config = CellConfig { cells: Some(8), ..CellConfig::default() };
    let index = CellIndex::of_exact(exact, None, &config, &how).expect("a draft costs time at most");
    assert_eq!(chiasm_core::VectorIndex::len(&index), N);
}

fuzz_target!(|bytes: &[u8]| {
    let (exact, subject) = &*BUILT;
    let mut draft = subject.clone();
    let mut rest = bytes;
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let (part, behind) = behind.split_at(usize::from(u16::from_le_bytes(*len)).min(behind.len()));
        draft.extend((part.len() as u64).to_le_bytes());
        draft.extend(blake3::hash(part).as_bytes());
        draft.extend(part);
        rest = behind;
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    std::fs::write(file.path(), &draft).expect("room for a small file");
    build(exact, file.path());
});
