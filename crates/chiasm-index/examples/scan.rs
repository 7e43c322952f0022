//! Time of an exact scan: `cargo run --release -p chiasm-index --example scan -- [n] [d] [rounds] [kernel]`, default both 128 and 512
//! dimensions, 200,000 vectors, the fastest kernel here (0; 1 is the next).
//!
//! Rows kept as f32, f16, bf16, and by bytes first; for 1 and for 64 queries, k = 10, inner product: the least wall time of some rounds and the least CPU time of all threads
//! together (Linux only; on a busy machine the one to compare), and from the CPU time the cost per row and query, the rate at
//! which the base is read and the arithmetic. `RAYON_NUM_THREADS=1` measures one core.

#![allow(clippy::print_stdout)] // A program whose output is its table.

use std::time::Instant;

use chiasm_core::{Metric, SearchError, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{ExactIndex, Kernel, RefinedIndex, bf16, f16};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let n = numbers.first().copied().unwrap_or(200_000);
    let rounds = numbers.get(2).copied().unwrap_or(20);
    let kernel = *Kernel::available().get(numbers.get(3).copied().unwrap_or(0)).ok_or("there are fewer kernels here")?;
    println!("{n} vectors, {} threads, kernel {}", rayon::current_num_threads(), kernel.as_str());
    println!("a sum over 512 MiB reads {:.1} GB/s", memory(rounds) / 1e9);
    println!(
        "{:>5} {:>6} {:>8} {:>10} {:>10} {:>12} {:>8} {:>8}",
        "dim", "kept", "queries", "wall ms", "CPU ms", "ns/row/query", "GB/s", "GFLOP/s"
    );
    for dim in numbers.get(1).map_or(vec![128, 512], |d| vec![*d]) {
        let (ids, base, metric) = ((0..n as u64).collect::<Vec<_>>(), vectors(n, dim, 1), Metric::InnerProduct);
        let single = ExactIndex::build(&ids, &base, metric)?.with_kernel(kernel);
        time("f32", 4, &single, dim, rounds)?;
        time("f16", 2, &ExactIndex::<f16>::build_as(&ids, &base, metric)?.with_kernel(kernel), dim, rounds)?;
        time("bf16", 2, &ExactIndex::<bf16>::build_as(&ids, &base, metric)?.with_kernel(kernel), dim, rounds)?;
        time("bytes", 1, &RefinedIndex::new(single), dim, rounds)?;
    }
    Ok(())
}

/// Lines of one index, whose numbers take so many bytes.
fn time(kept: &str, bytes: usize, index: &dyn VectorIndex, dim: usize, rounds: usize) -> Result<(), SearchError> {
    for n_queries in [1, 64] {
        let queries = vectors(n_queries, dim, 2);
        let (mut wall, mut best) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds {
            let (start, cpu) = (Instant::now(), cpu_s());
            let hits = index.search(&queries, 10, &SearchOptions::default())?;
            wall = wall.min(start.elapsed().as_secs_f64());
            best = best.min(cpu_s() - cpu);
            assert_eq!(hits.len(), n_queries);
        }
        let scores = (index.len() * n_queries) as f64;
        println!(
            "{dim:>5} {kept:>6} {n_queries:>8} {:>10.3} {:>10.3} {:>12.3} {:>8.1} {:>8.1}",
            1e3 * wall,
            1e3 * best,
            1e9 * best / scores,
            (index.len() * dim * bytes) as f64 / best / 1e9,
            2.0 * scores * dim as f64 / best / 1e9,
        );
    }
    Ok(())
}

/// Bytes per second that one thread reads when it adds up an array.
fn memory(rounds: usize) -> f64 {
    let numbers: Vec<u64> = (0..1 << 26).collect();
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let cpu = cpu_s();
        let mut sums = [0u64; 32];
        for piece in numbers.chunks_exact(32) {
            sums.iter_mut().zip(piece).for_each(|(sum, v)| *sum = sum.wrapping_add(*v));
        }
        std::hint::black_box(sums);
        best = best.min(cpu_s() - cpu);
    }
    (8 * numbers.len()) as f64 / best
}

/// CPU time of all threads so far, NaN where the system does not tell.
fn cpu_s() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let nanoseconds = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.split(' ').next()?.parse::<f64>().ok();
    tasks.flatten().filter_map(|task| nanoseconds(task.path().join("schedstat"))).sum::<f64>() / 1e9
}

fn vectors(n: usize, dim: usize, seed: u64) -> Vectors {
    let mut state = seed;
    let data = (0..n * dim)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect();
    Vectors::new(data, dim).expect("finite numbers, whole rows")
}
