//! Small index files of every kind, for a fuzzer to begin with: `cargo run -p chiasm-index --example seeds FOLDER`.

use std::path::Path;

use chiasm_core::{Metric, NoProgress, Vectors};
use chiasm_index::{CellConfig, CellIndex, ExactIndex, Stamps};

const N: usize = 120;
const DIM: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("expected a folder to write into")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let data = (0..N * DIM).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let vectors = Vectors::new(data, DIM)?;
    let ids: Vec<u64> = (0..N as u64).collect();
    for metric in [Metric::Cosine, Metric::InnerProduct, Metric::L2] {
        ExactIndex::build(&ids, &vectors, metric)?.write(&folder.join(format!("exact-{metric}.idx")), 1)?;
        for (name, cells) in [("one", 1), ("some", 6)] {
            let config = CellConfig { cells: Some(cells), ..CellConfig::default() };
            let index = CellIndex::build(&ids, &vectors, metric, None, &config, &NoProgress)?;
            index.write(&folder.join(format!("cells-{name}-{metric}.idx")), Stamps::default())?;
        }
    }
    Ok(())
}
