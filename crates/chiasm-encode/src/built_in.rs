//! The one model that the program carries within itself.
//!
//! `chiasm-nano` is this project's own, made by `chiasm train models/chiasm-nano/train.toml`; its card says what it can and what it cannot do. It is opened by its name as any other
//! is, from the bytes that were compiled in, unless a folder of models holds one of this name.

use std::path::Path;

/// Its name.
pub const NANO: &str = "chiasm-nano";

/// A file of a model by its name.
type File = (&'static str, &'static [u8]);

const FILES: [File; 4] = [
    ("config.json", include_bytes!("../../../models/chiasm-nano/config.json")),
    ("preprocessor_config.json", include_bytes!("../../../models/chiasm-nano/preprocessor_config.json")),
    ("tokenizer.json", include_bytes!("../../../models/chiasm-nano/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../../models/chiasm-nano/model.safetensors")),
];

/// The files of the model that stands for this path; none where the path is one of the disk's.
pub(crate) fn files(path: &Path) -> Option<&'static [File]> {
    (path == Path::new(NANO) && !path.exists()).then_some(&FILES)
}

/// One of them.
pub(crate) fn file(path: &Path, name: &str) -> Option<&'static [u8]> {
    files(path)?.iter().find(|(other, _)| *other == name).map(|(_, bytes)| *bytes)
}
