//! Time of an exact search of codes: `cargo run --release -p chiasm-index --example hamming_scan -- [n] [rounds] [kernel]`, default
//! 1,000,000 codes, 20 rounds, the fastest kernel.
//!
//! For codes of 64, 128 and 256 bits and for 1 and 64 queries, k = 10: the least wall time of some rounds and the mean CPU time of
//! all threads together (Linux only), and from the CPU time the cost per row and query and the
//! rate at which codes are compared. Then, for one query, all codes ranked and a lookup within radius 2.
//! `RAYON_NUM_THREADS=1` measures one core; `reference/index_hamming_speed.py` runs it in turns with faiss.

#![allow(clippy::print_stdout)] // A program whose output is its table.

use std::time::Instant;

use chiasm_core::SearchOptions;
use chiasm_index::{CodeHit, CodeKernel, Codes, HammingIndex};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| words.get(at).map_or(Ok(default), |word| word.parse());
    let (n, rounds) = (number(0, 1_000_000)?, number(1, 20)?.max(1));
    let kernel = words
        .get(2)
        .map_or(Some(CodeKernel::best()), |name| CodeKernel::available().into_iter().find(|kernel| kernel.as_str() == name));
    let kernel = kernel.ok_or("this machine has no such kernel")?;
    println!("{n} codes, {} threads, kernel {}", rayon::current_num_threads(), kernel.as_str());
    println!(
        "{:>5} {:>8} {:>8} {:>10} {:>10} {:>12} {:>8}",
        "bits", "what", "queries", "wall ms", "CPU ms", "ns/row/query", "GB/s"
    );
    for n_bits in [64, 128, 256] {
        let ids: Vec<u64> = (0..n as u64).collect();
        let index = HammingIndex::build(&ids, &codes(n, n_bits, 1)?)?.with_kernel(kernel);
        let options = SearchOptions::default();
        for (what, n_queries) in [("top 10", 1), ("top 10", 64), ("all", 1), ("radius 2", 1)] {
            let queries = codes(n_queries, n_bits, 2)?;
            let (mut wall, cpu) = (f64::INFINITY, cpu_s());
            for _ in 0..rounds {
                let start = Instant::now();
                let hits: Vec<Vec<CodeHit>> = match what {
                    "all" => index.search(&queries, n, &options)?,
                    "radius 2" => index.within(&queries, 2, &options)?,
                    _ => index.search(&queries, 10, &options)?,
                };
                wall = wall.min(start.elapsed().as_secs_f64());
                assert_eq!(hits.len(), n_queries);
            }
            // The mean: one round may be shorter than what the system's clock of CPU time can tell.
            let cpu = (cpu_s() - cpu) / rounds as f64;
            let pairs = (n * n_queries) as f64;
            println!(
                "{n_bits:>5} {what:>8} {n_queries:>8} {:>10.3} {:>10.3} {:>12.3} {:>8.1}",
                1e3 * wall,
                1e3 * cpu,
                1e9 * cpu / pairs,
                pairs * n_bits as f64 / 8.0 / cpu / 1e9,
            );
        }
    }
    Ok(())
}

/// CPU time of all threads so far, NaN where the system does not tell.
fn cpu_s() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let nanoseconds = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.split(' ').next()?.parse::<f64>().ok();
    tasks.flatten().filter_map(|task| nanoseconds(task.path().join("schedstat"))).sum::<f64>() / 1e9
}

/// Random bits.
fn codes(n: usize, n_bits: usize, seed: u64) -> Result<Codes, Box<dyn std::error::Error>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 32
    };
    Ok(Codes::from_words(n_bits, (0..n * n_bits / 64).map(|_| next() << 32 | next()).collect())?)
}
