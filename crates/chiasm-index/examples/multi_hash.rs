//! Time of a search of codes by multi-index hashing: `cargo run --release -p chiasm-index --example multi_hash -- BITS BASE QUERIES [k]
//! [rounds] [routes] [ANSWERS]`, default the best 10, 3 rounds, routes `estimate,scan`.
//!
//! BASE and QUERIES are files of packed codes, `BITS / 8` bytes each, the lowest bit first; BITS is a multiple of 64. A route is
//! `estimate`, `tables` or `scan`. Shown for each route: the least CPU time per query of some rounds (Linux only), all queries in one
//! batch and one by one. ANSWERS gets the distances found in the batch of the first route, `k` numbers of 32 bits per query.
//! `RAYON_NUM_THREADS=1` measures one core; `reference/index_multi_hash_speed.py` runs it in turns with faiss.

#![allow(clippy::print_stdout)] // A program whose output is its table.

use std::error::Error;

use chiasm_core::SearchOptions;
use chiasm_index::{Codes, MultiIndexHamming, Route};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [bits, base, queries, rest @ ..] = &words[..] else { return Err("give BITS, BASE and QUERIES".into()) };
    let number = |at: usize, default| rest.get(at).map_or(Ok(default), |word| word.parse::<usize>());
    let (n_bits, k, rounds) = (bits.parse()?, number(0, 10)?, number(1, 3)?.max(1));
    let routes = rest.get(2).map_or("estimate,scan", String::as_str);
    let (base, queries) = (read(n_bits, base)?, read(n_bits, queries)?);

    let ids: Vec<u64> = (0..base.n() as u64).collect();
    let start = cpu_s();
    let mut index = MultiIndexHamming::build(&ids, &base)?;
    let built_s = cpu_s() - start;
    let bytes_per_code = index.bytes() as f64 / base.n().max(1) as f64;
    println!("{} codes of {n_bits} bits, {} queries, {} threads", base.n(), queries.n(), rayon::current_num_threads());
    println!("{} tables, {bytes_per_code:.1} bytes per code, built in {built_s:.2} CPU s", index.n_tables());
    println!("{:>9} {:>15} {:>15}", "route", "batch ms/query", "alone ms/query");
    for (i, name) in routes.split(',').enumerate() {
        index = index.with_route(match name {
            "estimate" => Route::Estimate,
            "tables" => Route::Tables,
            "scan" => Route::Scan,
            other => return Err(format!("route {other}: estimate, tables or scan").into()),
        });
        let options = SearchOptions::default();
        let (mut batch, mut alone) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds {
            let start = cpu_s();
            let hits = index.search(&queries, k, &options)?;
            batch = batch.min(cpu_s() - start);
            if let (0, Some(path)) = (i, rest.get(3)) {
                std::fs::write(path, hits.iter().flatten().flat_map(|hit| hit.distance.to_le_bytes()).collect::<Vec<_>>())?;
            }
            let singles = queries.words().chunks(queries.words_per_code()).map(|code| Codes::from_words(n_bits, code.to_vec()));
            let singles = singles.collect::<Result<Vec<_>, _>>()?;
            let start = cpu_s();
            for single in &singles {
                index.search(single, k, &options)?;
            }
            alone = alone.min(cpu_s() - start);
        }
        let per_query = 1e3 / queries.n().max(1) as f64;
        println!("{name:>9} {:>15.4} {:>15.4}", batch * per_query, alone * per_query);
    }
    Ok(())
}

fn read(n_bits: usize, path: &str) -> Result<Codes, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    Ok(Codes::from_words(n_bits, bytes.chunks(8).map(word).collect())?)
}

/// CPU time of all threads so far, NaN where the system does not tell.
fn cpu_s() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let nanoseconds = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.split(' ').next()?.parse::<f64>().ok();
    tasks.flatten().filter_map(|task| nanoseconds(task.path().join("schedstat"))).sum::<f64>() / 1e9
}
