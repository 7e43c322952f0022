//! The vectors of a measurement: files of rows, queries of both modalities, and their exact neighbours.
//!
//! A folder holds little-endian f32 row after row in `base.f32`, `query_ood.f32` (queries of the other modality), `query_id.f32` (of the
//! base's own) and perhaps `train.f32` (a sample of queries of the other modality), and perhaps the neighbours by inner product as
//! little-endian i32, [`DEPTH`] a query, in `gt_ood.i32` and `gt_id.i32`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use chiasm_core::{Cancel, Hit, Metric, Progress, SearchOptions, ShapeError, VectorIndex, Vectors};
use chiasm_index::ExactIndex;

use crate::error::BenchError;

/// Neighbours that are known of each query.
pub const DEPTH: usize = 100;
/// Rows that are read at once.
const BLOCK_ROWS: usize = 16_384;
/// The kinds of queries: the end of their files' names.
pub const KINDS: [&str; 2] = ["ood", "id"];

/// The vectors of one section of the table.
#[derive(Debug)]
pub struct Bed {
    /// What the section is called, and files that belong to it.
    pub name: String,
    /// Numbers per vector.
    pub dim: usize,
    /// Rows of the base.
    pub n: usize,
    /// File of the base.
    pub base: PathBuf,
    /// File with a sample of queries.
    pub sample: Option<PathBuf>,
    /// Rows of it.
    pub n_sample: usize,
    /// Queries, in the order of [`KINDS`].
    pub queries: [Queries; 2],
}

/// Queries of one kind.
#[derive(Debug)]
pub struct Queries {
    /// Their file.
    pub file: PathBuf,
    /// How many they are.
    pub n: usize,
    /// Rows of the base closest to each, `depth` a query, closest first.
    pub truth: Vec<u32>,
    /// Neighbours known of each.
    pub depth: usize,
}

/// Reads what a folder holds; neighbours that are not there are computed.
///
/// # Errors
/// [`BenchError::File`] that names the file and what is wrong with it; [`BenchError::Cancelled`].
pub fn open(folder: &Path, dim: usize, progress: &dyn Progress, cancel: &Cancel) -> Result<Bed, BenchError> {
    let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let base = folder.join("base.f32");
    let n = Rows::open(&base, dim)?.n;
    if n < DEPTH || n > i32::MAX as usize {
        let reason = format!(
            "{n} rows: a base has at least {DEPTH}, as many as neighbours are known of each query, and fewer than 2^31"
        );
        return Err(BenchError::File { path: base, reason });
    }
    let sample = Some(folder.join("train.f32")).filter(|path| path.exists());
    // Read to its end once, so that a damaged row is told here and not by each contestant.
    let n_sample = sample.as_deref().map_or(Ok(0), |path| read(path, dim).map(|rows| rows.n()))?;
    let load = |kind: &str| {
        let file = folder.join(format!("query_{kind}.f32"));
        let rows = read(&file, dim)?;
        if rows.n() == 0 {
            return Err(BenchError::File { path: file, reason: "no rows: at least one query is needed".to_owned() });
        }
        Ok((file, rows))
    };
    let queries = [load(KINDS[0])?, load(KINDS[1])?];
    let known = KINDS.map(|kind| folder.join(format!("gt_{kind}.i32")));
    let truths = if known.iter().all(|path| path.exists()) {
        check_base(&base, dim, cancel)?;
        [read_truth(&known[0], queries[0].1.n(), n)?, read_truth(&known[1], queries[1].1.n(), n)?]
    } else {
        let name = name.as_deref().unwrap_or("base");
        progress.start(&format!("bench ann: exact neighbours in {name}"), Some(n as u64));
        let found = neighbours(&base, dim, [&queries[0].1, &queries[1].1], progress, cancel);
        progress.finish();
        found?
    };
    let mut truths = truths.into_iter();
    let queries =
        queries.map(|(file, rows)| Queries { file, n: rows.n(), truth: truths.next().unwrap_or_default(), depth: DEPTH });
    Ok(Bed { name: name.unwrap_or_else(|| "data".to_owned()), dim, n, base, sample, n_sample, queries })
}

/// All rows of a file.
///
/// # Errors
/// [`BenchError::File`].
pub fn read(path: &Path, dim: usize) -> Result<Vectors, BenchError> {
    let mut rows = Rows::open(path, dim)?;
    let mut data = Vec::new();
    data.try_reserve_exact(rows.n * dim).map_err(|e| BenchError::File { path: path.to_owned(), reason: e.to_string() })?;
    while let Some(block) = rows.next_block()? {
        data.extend_from_slice(block.data());
    }
    Ok(Vectors::new(data, dim)?)
}

/// A file read block by block.
struct Rows {
    path: PathBuf,
    file: File,
    dim: usize,
    n: usize,
    at: usize,
}

impl Rows {
    fn open(path: &Path, dim: usize) -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::File { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|e| failed(e.to_string()))?;
        let bytes = file.metadata().map_err(|e| failed(e.to_string()))?.len();
        let row = 4 * dim as u64;
        if row == 0 || !bytes.is_multiple_of(row) {
            return Err(failed(format!(
                "{bytes} bytes are no whole rows of {dim} numbers of 4 bytes: was it cut off, or is `--dim` another?"
            )));
        }
        let n = usize::try_from(bytes / row).map_err(|e| failed(e.to_string()))?;
        Ok(Self { path: path.to_owned(), file, dim, n, at: 0 })
    }

    /// The next rows; none at the end.
    fn next_block(&mut self) -> Result<Option<Vectors>, BenchError> {
        let rows = BLOCK_ROWS.min(self.n - self.at);
        if rows == 0 {
            return Ok(None);
        }
        let failed = |reason: String| BenchError::File { path: self.path.clone(), reason };
        let mut bytes = vec![0; rows * self.dim * 4];
        self.file.read_exact(&mut bytes).map_err(|e| failed(e.to_string()))?;
        let numbers = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let block = Vectors::new(numbers, self.dim).map_err(|e| match e {
            ShapeError::NotFinite { row, col, value } => ShapeError::NotFinite { row: row + self.at, col, value },
            other @ (ShapeError::Ragged { .. } | ShapeError::ZeroDim) => other,
        });
        let block = block.map_err(|e| failed(e.to_string()))?;
        self.at += rows;
        Ok(Some(block))
    }
}

fn check_base(path: &Path, dim: usize, cancel: &Cancel) -> Result<(), BenchError> {
    let mut rows = Rows::open(path, dim)?;
    while rows.next_block()?.is_some() {
        cancel.check()?;
    }
    Ok(())
}

fn read_truth(path: &Path, n_queries: usize, n_base: usize) -> Result<Vec<u32>, BenchError> {
    let failed = |reason: String| BenchError::File { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    if bytes.len() != n_queries * DEPTH * 4 {
        let expected = n_queries * DEPTH * 4;
        return Err(failed(format!(
            "{} bytes, expected {expected}: {DEPTH} row numbers of 4 bytes for {n_queries} queries",
            bytes.len()
        )));
    }
    let numbers = bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
    let row = |(i, number): (usize, i32)| match u32::try_from(number) {
        Ok(row) if (row as usize) < n_base => Ok(row),
        _ => Err(failed(format!("query {}, neighbour {}: row {number} of a base of {n_base}", i / DEPTH, i % DEPTH))),
    };
    numbers.enumerate().map(row).collect()
}

/// The exact neighbours of both kinds of queries, a block of the base at a time.
fn neighbours(
    base: &Path,
    dim: usize,
    queries: [&Vectors; 2],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<[Vec<u32>; 2], BenchError> {
    let mut best = queries.map(|queries| vec![Vec::<Hit>::new(); queries.n()]);
    let mut rows = Rows::open(base, dim)?;
    let failed = |reason: String| BenchError::File { path: base.to_owned(), reason };
    while let Some(block) = { rows.next_block()? } {
        cancel.check()?;
        let first = (rows.at - block.n()) as u64;
        let ids: Vec<u64> = (first..first + block.n() as u64).collect();
        let index = ExactIndex::build(&ids, &block, Metric::InnerProduct).map_err(|e| failed(e.to_string()))?;
        for (queries, best) in queries.iter().zip(&mut best) {
            let found = index.search(queries, DEPTH, &SearchOptions::default()).map_err(|e| failed(e.to_string()))?;
            for (best, found) in best.iter_mut().zip(found) {
                best.extend(found);
                best.sort_by(Hit::rank_cmp);
                best.truncate(DEPTH);
            }
        }
        progress.advance(block.n() as u64);
    }
    Ok(best.map(|best| best.into_iter().flatten().map(|hit| hit.id as u32).collect()))
}

#[cfg(test)]
mod tests {
    use chiasm_core::NoProgress;

    use super::*;

    const DIM: usize = 3;

    fn write(path: &Path, numbers: &[f32]) {
        std::fs::write(path, numbers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }

    /// Rows on a circle, so that a row's neighbours are those beside it.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chiasm-bench-ann-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let circle = |n: usize| (0..n).flat_map(move |i| [(i as f32 / n as f32).cos(), (i as f32 / n as f32).sin(), 0.0]);
        write(&folder.join("base.f32"), &circle(400).collect::<Vec<_>>());
        write(&folder.join("query_ood.f32"), &circle(4).collect::<Vec<_>>());
        write(&folder.join("query_id.f32"), &circle(5).collect::<Vec<_>>());
        folder
    }

    fn refusal(folder: &Path, dim: usize) -> String {
        open(folder, dim, &NoProgress, &Cancel::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_is_read_and_its_neighbours_are_found() {
        let folder = folder("whole");
        let bed = open(&folder, DIM, &NoProgress, &Cancel::default()).unwrap();
        assert_eq!((bed.n, bed.n_sample, bed.sample.is_none()), (400, 0, true));
        assert_eq!(bed.queries.each_ref().map(|q| (q.n, q.truth.len())), [(4, 4 * DEPTH), (5, 5 * DEPTH)]);
        assert_eq!(&bed.queries[0].truth[DEPTH..DEPTH + 3], [100, 99, 101]);
        // Neighbours that stand in files are taken as they are.
        let made: Vec<u8> = (0..4 * DEPTH as i32).flat_map(|i| (i % 7).to_le_bytes()).collect();
        std::fs::write(folder.join("gt_ood.i32"), &made).unwrap();
        std::fs::write(folder.join("gt_id.i32"), [&made[..], &made[..4 * DEPTH]].concat()).unwrap();
        write(&folder.join("train.f32"), &[0.5; 2 * DIM]);
        let bed = open(&folder, DIM, &NoProgress, &Cancel::default()).unwrap();
        assert_eq!((bed.queries[0].truth[8], bed.n_sample), (1, 2));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_blocks_of_a_base_give_what_the_whole_gives() {
        let folder = folder("blocks");
        let n = BLOCK_ROWS + 500;
        let row = |i: usize| [(i * 7919 % 1000) as f32, (i * 104_729 % 997) as f32, (i % 13) as f32];
        let numbers: Vec<f32> = (0..n).flat_map(row).collect();
        write(&folder.join("base.f32"), &numbers);
        let bed = open(&folder, DIM, &NoProgress, &Cancel::default()).unwrap();
        let whole =
            ExactIndex::build(&(0..n as u64).collect::<Vec<_>>(), &Vectors::new(numbers, DIM).unwrap(), Metric::InnerProduct);
        let queries = read(&bed.queries[1].file, DIM).unwrap();
        let hits = whole.unwrap().search(&queries, DEPTH, &SearchOptions::default()).unwrap();
        let hits: Vec<u32> = hits.into_iter().flatten().map(|hit| hit.id as u32).collect();
        assert_eq!(bed.queries[1].truth, hits);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damaged_files_are_told_by_name() {
        let folder = folder("damaged");
        let told = refusal(&folder, 7);
        assert!(told.contains("base.f32") && told.contains("4800 bytes are no whole rows of 7"), "{told}");
        assert!(refusal(&folder, 0).contains("rows of 0"));
        let mut rows = vec![0.5; 400 * DIM];
        rows[2 * DIM + 1] = f32::NAN;
        write(&folder.join("base.f32"), &rows);
        let told = refusal(&folder, DIM);
        assert!(told.contains("base.f32") && told.contains("row 2, dimension 1 is NaN"), "{told}");
        write(&folder.join("base.f32"), &[0.5; 12 * DIM]);
        assert!(refusal(&folder, DIM).contains("12 rows: a base has at least 100"));
        write(&folder.join("base.f32"), &[0.5; 400 * DIM]);
        std::fs::write(folder.join("gt_ood.i32"), vec![0; 12]).unwrap();
        std::fs::write(folder.join("gt_id.i32"), vec![0; 5 * DEPTH * 4]).unwrap();
        let told = refusal(&folder, DIM);
        assert!(told.contains("gt_ood.i32") && told.contains("12 bytes, expected 1600"), "{told}");
        let far: Vec<u8> = (0..4 * DEPTH as i32).flat_map(i32::to_le_bytes).collect();
        std::fs::write(folder.join("gt_ood.i32"), &far).unwrap();
        write(&folder.join("base.f32"), &[0.5; 300 * DIM]);
        let told = refusal(&folder, DIM);
        assert!(told.contains("query 3, neighbour 0: row 300 of a base of 300"), "{told}");
        write(&folder.join("query_id.f32"), &[]);
        assert!(refusal(&folder, DIM).contains("at least one query"));
        std::fs::remove_file(folder.join("query_id.f32")).unwrap();
        assert!(refusal(&folder, DIM).contains("query_id.f32"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
