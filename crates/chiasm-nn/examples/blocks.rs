//! CPU time of transformer blocks in every precision, on one thread.
//!
//! ```text
//! cargo run --release -p chiasm-nn --example blocks [SEQUENCES [TOKENS [PRECISION ...]]]
//! ```
//!
//! Blocks of ViT-B (768 wide, 12 heads) carry 8 sequences of 50 tokens, or as many as are named. Prints, per precision, the best of the rounds, the products' rate,
//! and how close the states are to those of the first. Precisions take turns.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use chiasm_nn::{Activation, Block, BlockNames, BlockScratch, BlockShape, Linear, Mask, Order, Precision, Qkv, Weights};

const N_BLOCKS: usize = 12;
const DIM: usize = 768;

fn main() -> Result<(), Box<dyn Error>> {
    let number = |nth, usual| std::env::args().nth(nth).map_or(Ok(usual), |word| word.parse::<usize>());
    let (sequences, tokens) = (number(1, 8)?, number(2, 50)?);
    let rows = sequences * tokens;
    let mut precisions: Vec<Precision> = std::env::args().skip(3).map(|word| word.parse()).collect::<Result<_, String>>()?;
    if precisions.is_empty() {
        precisions = vec![Precision::F32, Precision::Bf16, Precision::Int8];
    }
    let stacks = precisions.iter().map(|precision| stack(*precision)).collect::<Result<Vec<_>, _>>()?;
    let lengths = vec![tokens; sequences];
    let x = numbers(rows * DIM, 1);
    let mut best = vec![f64::INFINITY; precisions.len()];
    let mut states = vec![Vec::new(); precisions.len()];
    for _ in 0..5 {
        for (i, stack) in stacks.iter().enumerate() {
            let mut y = x.clone();
            let mut scratch = BlockScratch::default();
            let start = Instant::now();
            for block in stack {
                block.forward(&mut y, &lengths, Mask::None, &mut scratch);
            }
            best[i] = best[i].min(start.elapsed().as_secs_f64());
            states[i] = y;
        }
    }
    let products = (rows * 12 * DIM * DIM * N_BLOCKS) as f64;
    for ((precision, best), states_of) in precisions.iter().zip(&best).zip(&states) {
        println!(
            "{:<5} {:<12} {:>8.1} ms, {:>6.1} G products/s, cosine to the first {:.6}",
            precision.as_str(),
            chiasm_nn::instructions(*precision),
            best * 1000.0,
            products / best / 1e9,
            cosine(states_of, &states[0]),
        );
    }
    for [n_in, n_out] in [[256, 16], [768, 2304], [768, 768], [768, 3072], [3072, 768]] {
        for &precision in &precisions {
            let layer = Linear::with_precision(&numbers(n_in * n_out, 3), vec![0.0; n_out], n_in, Activation::None, precision);
            let (x, mut y, mut best) = (numbers(rows * n_in, 4), Vec::new(), f64::INFINITY);
            for _ in 0..20 {
                let start = Instant::now();
                layer.forward(&x, &mut y);
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!(
                "{n_in:>5} to {n_out:>5} {:<5} {:>6.1} G products/s",
                precision.as_str(),
                (rows * n_in * n_out) as f64 / best / 1e9
            );
        }
    }
    Ok(())
}

fn stack(precision: Precision) -> Result<Vec<Block>, Box<dyn Error>> {
    let shape = BlockShape {
        dim: DIM,
        wide: 4 * DIM,
        n_heads: 12,
        eps: 1e-5,
        activation: Activation::QuickGelu,
        order: Order::PreNorm,
    };
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for i in 0..N_BLOCKS {
        for (part, n_out, n_in) in
            [("q", DIM, DIM), ("k", DIM, DIM), ("v", DIM, DIM), ("out", DIM, DIM), ("up", 4 * DIM, DIM), ("down", DIM, 4 * DIM)]
        {
            let spread = (3.0 / n_in as f32).sqrt();
            let weight = numbers(n_in * n_out, 7 + i as u32).into_iter().map(|v| v * spread).collect();
            tensors.push((format!("{i}.{part}.weight"), vec![n_out, n_in], weight));
            tensors.push((format!("{i}.{part}.bias"), vec![n_out], vec![0.0; n_out]));
        }
        for norm in ["norm_1", "norm_2"] {
            tensors.push((format!("{i}.{norm}.weight"), vec![DIM], vec![1.0; DIM]));
            tensors.push((format!("{i}.{norm}.bias"), vec![DIM], vec![0.0; DIM]));
        }
    }
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| {
            Ok((name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let mut weights = Weights::from_bytes(Path::new("made up"), safetensors::serialize(views, None)?)?;
    weights.set_precision(precision);
    (0..N_BLOCKS)
        .map(|i| {
            let at = |part: &str| format!("{i}.{part}");
            let names = BlockNames {
                qkv: Qkv::Separate(["q", "k", "v"].map(at)),
                out: at("out"),
                norm_1: at("norm_1"),
                widen: at("up"),
                narrow: at("down"),
                norm_2: at("norm_2"),
                scales: None,
            };
            Ok(Block::load(&mut weights, &names, shape)?)
        })
        .collect()
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
