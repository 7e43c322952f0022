//! Index files, exact and in cells: opened, and searched if they open. A file whose checksums a stranger made right is searched as well.
#![no_main]

use chiasm_core::{SearchOptions, VectorIndex, Vectors};
use chiasm_index::{CellIndex, ExactIndex};
use libfuzzer_sys::fuzz_target;

fn search(index: &dyn VectorIndex) {
    // The dimension is the file's claim; a query of that size must be affordable to be tried.
    if index.dim() <= 4096 {
        let query = Vectors::new(vec![0.5; index.dim()], index.dim()).expect("finite numbers");
        let _ = index.search(&query, 5, &SearchOptions::default());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    std::fs::write(file.path(), bytes).expect("room for a small file");
    if let Ok((index, _)) = ExactIndex::open(file.path()) {
        search(&index);
    }
    if let Ok((index, _)) = CellIndex::open(file.path()) {
        search(&index);
        let _ = index.verify(file.path());
    }
});
