//! Checkpoints for the tests: those that the goldens describe, with made-up weights.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;

/// Names of the tensors of a golden with their shapes.
fn golden(name: &str) -> Value {
    let path = format!("{}/../../testdata/goldens/encode/nets/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes the checkpoint that a golden describes into a folder of that name.
pub(crate) fn checkpoint(dir: &Path, of: &str, folder: &str) -> PathBuf {
    let folder = dir.join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (file, content) in golden(of)["files"].as_object().unwrap() {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.to_string()).unwrap();
    }
    std::fs::write(folder.join("model.safetensors"), weights(of, |_| true)).unwrap();
    folder
}

/// The tensors of a golden whose names pass, as a file.
pub(crate) fn weights(of: &str, taken: impl Fn(&str) -> bool) -> Vec<u8> {
    let golden = golden(of);
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = golden["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| taken(name))
        .map(|(name, recipe)| {
            let shape: Vec<usize> = serde_json::from_value(recipe[0].clone()).unwrap();
            let n = shape.iter().product::<usize>();
            let [centre, spread] = [1, 2].map(|i| recipe[i].as_f64().unwrap() as f32);
            let number = |i: usize| centre + spread * ((i % 19) as f32 / 10.0 - 0.9);
            (name.as_str(), shape, (0..n).flat_map(|i| number(i).to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

/// Two files of weights as one.
pub(crate) fn together(first: &[u8], second: &[u8]) -> Vec<u8> {
    let parts = [first, second].map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
    let views: Vec<(String, _)> =
        parts.iter().flat_map(|part| part.tensors().into_iter().map(|(name, view)| (name.to_owned(), view))).collect();
    serialize(views, None).unwrap()
}
