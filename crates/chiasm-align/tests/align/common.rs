//! What several tests need.

use std::path::{Path, PathBuf};

/// A file or folder of the test data; none, told in a line, where there is none. In CI it must be there.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let root = std::env::var_os("CHIASM_TEST_DATA").map_or_else(|| Path::new(default).to_owned(), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "no test data at {}", path.display());
    eprintln!("skipped: no test data at {}", path.display());
    None
}
