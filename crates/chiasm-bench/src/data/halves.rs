//! Halves of handwritten digits, and a pair that is made: what two measurements of one thing have in common, as correlation on rows not seen.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use chiasm_core::Vectors;

use super::{Place, split, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Pictures to learn from; the other 2,000 are for trying.
const N_TRAIN: usize = 8_000;
const SIDE: usize = 28;

/// The left and the right half of each picture; a random split, seed 0.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::Feature`].
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let drawn = place.folder("pictures of digits", "mnist_t10k", "mnist_t10k/t10k-images-idx3-ubyte.gz")?;
    let pictures = vectors(&drawn.join("t10k-images-idx3-ubyte.gz"), "")?;
    if pictures.dim() != SIDE * SIDE {
        let reason = format!("its pictures have {} pixels, expected {}", pictures.dim(), SIDE * SIDE);
        return Err(BenchError::File { path: drawn, reason });
    }
    let half = |first: usize| {
        let row = |picture: &[f32]| -> Vec<f32> {
            picture.chunks(SIDE).flat_map(|line| &line[first..first + SIDE / 2]).map(|v| v / 255.0).collect()
        };
        Vectors::new(pictures.rows().flat_map(row).collect(), SIDE * SIDE / 2)
    };
    let all = Part { views: vec![half(0)?, half(SIDE / 2)?], labels: None, groups: None };
    let (train, test) = split(all.n(), N_TRAIN * all.n() / 10_000, 0);
    Ok(Task {
        key: "halves",
        title: "Halves of digits".to_owned(),
        protocol: format!(
            "{} pictures of handwritten digits, cut in the middle; {} to learn from, {} to try (random, seed 0). Each half: 392 pixels. \
             Relevant: the other half of the picture.",
            all.n(),
            train.len(),
            test.len()
        ),
        views: vec!["left", "right"],
        train: all.pick(&train),
        test: all.pick(&test),
        cca_components: 50,
        correlations: Some(50),
    })
}

/// Hidden numbers of a made pair, and columns of each of its views.
const HIDDEN: usize = 6;
const COLUMNS: usize = 24;

/// Two views of the same hidden numbers, each bent in its own way: tables of 2,000 rows to learn from and 2,000 to try.
///
/// # Errors
/// None; a [`Result`] as the other sets have it.
pub fn bent() -> Result<Task, BenchError> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mixes: Vec<f32> = (0..2 * COLUMNS * HIDDEN).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut part = |n: usize| -> Result<Part, BenchError> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let hidden: [f32; HIDDEN] = std::array::from_fn(|_| rng.random_range(-1.5..1.5));
            let mixed = |column: usize| -> f32 {
                mixes[column * HIDDEN..(column + 1) * HIDDEN].iter().zip(hidden).map(|(mix, h)| mix * h).sum()
            };
            first.extend((0..COLUMNS).map(|j| (2.0 * mixed(j)).tanh() + rng.random_range(-0.2..0.2)));
            // Squares hide the sign, which a third of the columns tell.
            let bend = |j: usize, x: f32| if j.is_multiple_of(3) { x } else { x * x };
            second.extend((0..COLUMNS).map(|j| bend(j, mixed(COLUMNS + j)) + rng.random_range(-0.2..0.2)));
        }
        Ok(Part { views: vec![Vectors::new(first, COLUMNS)?, Vectors::new(second, COLUMNS)?], labels: None, groups: None })
    };
    let (train, test) = (part(2_000)?, part(2_000)?);
    Ok(Task {
        key: "bent",
        title: "A pair that no line joins".to_owned(),
        protocol: format!(
            "4,000 rows that are made (seed 0); 2,000 to learn from, 2,000 to try. {HIDDEN} hidden uniform numbers, mixed into {COLUMNS} \
             columns of each view with uniform noise of ±0.2: in the first view through tanh, in the second squared in two columns of three. \
             Relevant: the row of the same hidden numbers."
        ),
        views: vec!["first", "second"],
        train,
        test,
        cca_components: 20,
        correlations: Some(20),
    })
}
