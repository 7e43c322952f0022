//! Retrieval figures on the outputs of a real dual encoder, where the exact numbers are known.

use std::path::{Path, PathBuf};

use chiasm_align::{About, Pairs, PipelineSpace, View, evaluate};
use chiasm_core::{MatrixView, Metric};

use crate::common::data;

/// A two-dimensional little-endian f32 array in C order.
fn npy(path: &Path) -> (Vec<f32>, usize) {
    let bytes = std::fs::read(path).unwrap();
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let dim = shape.split(", ").nth(1).unwrap().parse().unwrap();
    (bytes[end..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(), dim)
}

#[test]
fn fashion_embeddings_give_the_known_figures() {
    let Some(folder) = data("fashion_embeddings_99") else { return };
    let find = |word: &str| {
        let files = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path());
        let named = |p: &PathBuf| p.extension().is_some_and(|e| e == "npy") && p.to_string_lossy().contains(word);
        npy(&files.filter(named).min().unwrap())
    };
    let ((images, d), (texts, _)) = (find("image"), find("text"));
    let view = || View { input_dim: d, steps: Vec::new() };
    let space = PipelineSpace::new(Metric::Cosine, vec![view(), view()], About::default()).unwrap();
    let pairs = Pairs::new(vec![MatrixView::new(&images, d).unwrap(), MatrixView::new(&texts, d).unwrap()]);
    let figures = evaluate(&space, &pairs).unwrap();
    let percent = |x: f64| (x * 1e4).round() / 100.0;
    let [to_text, to_image] = &figures.directions[..] else { panic!("two directions") };
    assert_eq!((percent(to_text.r1), percent(to_text.r5)), (84.85, 100.0));
    assert_eq!([to_image.r1, to_image.r5, to_image.r10].map(percent), [85.86, 98.99, 100.0]);
}
