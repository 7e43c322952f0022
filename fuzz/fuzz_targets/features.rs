//! Feature files: MAT v5, HDF5, NumPy arrays and archives, vectors, IDX, tables; as matrices and as labels.
#![no_main]

use chiasm_eval::features::{Limits, features_of_bytes, labels_of_bytes};
use libfuzzer_sys::fuzz_target;

/// Small, so that a run spends its time on parsing and memory beyond a limit shows.
const LIMITS: Limits = Limits { max_numbers: 1 << 18, max_numbers_of_sparse: 1 << 16 };

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the ending, which matters where the bytes alone tell no format, and whether something is named.
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let file = ["a.mat", "a.npy", "a.fvecs", "a.bvecs", "a.csv", "a"][usize::from(choice & 7) % 6];
    let name = [None, Some("X"), Some("2"), Some("a/b")][usize::from(choice >> 3) % 4];
    let _ = features_of_bytes(file, bytes.to_vec(), name, &LIMITS);
    let _ = labels_of_bytes(file, bytes.to_vec(), name, &LIMITS);
});
