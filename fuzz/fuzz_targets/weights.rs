//! Weights: safetensors, PyTorch's archives and streams with their pickles; seed the corpus with testdata/goldens/nn.
#![no_main]

use std::path::Path;

use chiasm_nn::Weights;
use libfuzzer_sys::fuzz_target;

/// Numbers of a tensor that are read: one may repeat its storage many times, which costs time and finds nothing.
const MAX_NUMBERS: usize = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut weights) = Weights::from_bytes(Path::new("a"), bytes.to_vec()) else { return };
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    for name in &names {
        let shape = weights.shape(name).expect("a name that was listed").to_vec();
        // A tensor of no numbers may have sizes of which no product fits, in any order.
        if shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).is_some_and(|n| n <= MAX_NUMBERS) {
            let _ = weights.take(name, &shape);
            let _ = weights.take_i64(name, &shape);
        }
    }
    let _ = weights.strip_prefix("model.");
    weights.digest();
    let _ = weights.finish();
});
