//! What tests of layers are fed: numbers and checkpoints made up from seeds.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::weights::Weights;

/// `n` numbers in -1..1.
pub(crate) fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A checkpoint called `test` of these tensors: names, values, shapes.
pub(crate) fn checkpoint<N: AsRef<str>>(tensors: &[(N, Vec<f32>, Vec<usize>)]) -> Weights {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, values, _)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, _, shape), bytes)| (name.as_ref(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    Weights::from_bytes(Path::new("test"), serialize(views, None).unwrap()).unwrap()
}
