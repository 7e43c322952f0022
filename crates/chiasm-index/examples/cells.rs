//! prototype measure
use chiasm_core::{Metric, NoProgress, SearchOptions, Vectors};
use chiasm_index::{CellConfig, CellIndex, Effort};
fn load(p: &str) -> Vec<f32> {
    std::fs::read(p).unwrap().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let dir = &a[1];
    let arg = |i: usize, d: usize| a.get(i).and_then(|v| v.parse().ok()).unwrap_or(d);
    let dims = arg(2, 96);
    let cells = a.get(3).and_then(|v| v.parse().ok()).filter(|v| *v > 0);
    let base = Vectors::new(load(&format!("{dir}/base.f32")), 512).unwrap();
    let train = Vectors::new(load(&format!("{dir}/train.f32")), 512).unwrap();
    let ids: Vec<u64> = (0..base.n() as u64).collect();
    let t = std::time::Instant::now();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let index = pool.install(|| {
        CellIndex::build(
            &ids,
            &base,
            Metric::InnerProduct,
            (arg(4, 1) == 1).then_some(&train),
            &CellConfig { cells, code_dims: dims, seed: 1 },
            &NoProgress,
        )
        .unwrap()
    });
    println!("built {:?} cells {} bytes/vector {}", t.elapsed(), index.n_cells(), index.memory_bytes() / base.n());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for kind in ["ood", "id"] {
        let q = Vectors::new(load(&format!("{dir}/query_{kind}.f32")), 512).unwrap();
        let gt: Vec<u64> = std::fs::read(format!("{dir}/gt_{kind}.i32"))
            .unwrap()
            .chunks_exact(4)
            .map(|b| u64::from(u32::from_le_bytes(b.try_into().unwrap())))
            .collect();
        for rerank in list("RERANK", "30,50,80") {
            for probes in list("PROBES", "20,40,60,80,120,160") {
                let effort = Effort { probes, rerank };
                let (mut best, mut recall) = (f64::MAX, 0.0);
                for _ in 0..list("TURNS", "5")[0] {
                    let (found, took) = one.install(|| {
                        let c = cpu_thread();
                        let found = index.search_with(&q, 10, &SearchOptions::default(), effort).unwrap();
                        (found, cpu_thread() - c)
                    });
                    best = best.min(took);
                    recall = found
                        .iter()
                        .enumerate()
                        .map(|(i, h)| h.iter().filter(|h| gt[i * 100..i * 100 + 10].contains(&h.id)).count())
                        .sum::<usize>() as f64
                        / (10 * q.n()) as f64;
                }
                println!("{kind} rerank {rerank} probes {probes} recall {recall:.4} qps/cpu {:.0}", q.n() as f64 / best);
            }
        }
    }
    let _ = cpu();
}
fn cpu_thread() -> f64 {
    let s = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn list(name: &str, default: &str) -> Vec<usize> {
    std::env::var(name).unwrap_or(default.into()).split(',').map(|v| v.parse().unwrap()).collect()
}
