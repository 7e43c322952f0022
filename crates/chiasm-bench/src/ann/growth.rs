//! How the index of cells fares as a library grows: speed against size, insertions, half of it replaced, filters.
//!
//! Everything on one thread and one made [`World`], whose rows are the same whatever their number. At each size the index is tuned for the
//! recall on every second query and measured on the others, as a library does it; CPU time is that of the least of some turns.

use std::fmt::Write as _;
use std::path::Path;

use chiasm_core::{Cancel, Hit, Metric, NoProgress, Progress, RowSet, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{CellConfig, CellIndex, Effort, ExactIndex};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::world::{DIM, Side, World};
use super::{K, data};
use crate::error::BenchError;
use crate::measure::threads_cpu_s;

/// Queries of the other modality, and as many more as a sample.
const QUERIES: usize = 600;
const SAMPLE: usize = 10_000;
/// Vectors that are inserted, some at a time, but no more than a fifth of those there.
const INSERTED: usize = 20_000;
const INSERTED_AT_ONCE: usize = 100;
const TURNS: usize = 5;
/// Shares of the rows that filters allow.
const SHARES: [f64; 4] = [0.001, 0.01, 0.1, 0.5];
/// Filters and replacements are measured at the greatest size up to this.
const CHANGED_AT: usize = 200_000;

/// What came of one size.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Vectors.
    pub n: usize,
    /// CPU seconds of the build.
    pub build_s: f64,
    /// Bytes of the index.
    pub bytes: usize,
    /// Cells, and how many are looked into.
    pub cells: usize,
    /// See `cells`.
    pub effort: (usize, usize),
    /// Recall on queries that had no part in the choice.
    pub recall: f64,
    /// Queries per CPU second.
    pub per_s: f64,
    /// Insertions per CPU second.
    pub inserted_per_s: f64,
}

/// One filter.
#[derive(Clone, Debug, Serialize)]
pub struct Filtered {
    /// Share of the rows it allows, chosen at random.
    pub share: f64,
    /// Recall with the effort that was chosen without a filter.
    pub recall: f64,
    /// Queries per CPU second.
    pub per_s: f64,
    /// The same by exact search.
    pub exact_per_s: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// The recall that was asked for.
    pub wanted: f64,
    /// By size.
    pub sizes: Vec<Size>,
    /// `e` where queries per second go with `n^e`, by least squares of the logarithms.
    pub exponent: Option<f64>,
    /// Size at which the rest was measured.
    pub changed_at: usize,
    /// Queries per CPU second there without a filter.
    pub unfiltered_per_s: f64,
    /// By share.
    pub filtered: Vec<Filtered>,
    /// Recall after half of the items got other vectors in random order, and of an index built of the same vectors.
    pub replaced: (f64, f64),
}

/// Measures all sizes, smallest first.
///
/// # Errors
/// [`BenchError`] when vectors cannot be made, or a stop was asked for.
pub fn run(
    rows: &[usize],
    seed: u64,
    wanted: f64,
    folder: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Growth, BenchError> {
    let pool = super::ours::pool(1)?;
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    rows.dedup();
    let most = rows.last().copied().unwrap_or(0);
    let changed_at = rows.iter().copied().filter(|n| *n <= CHANGED_AT).max().unwrap_or(most);
    let world = World::new(seed);
    let path = folder.join("grow.f32");
    let make = |side: Side, n: usize, part: u64| -> Result<Vectors, BenchError> {
        progress.start("make vectors", Some(n as u64));
        let written = world.write(&path, side, n, part, progress, cancel);
        progress.finish();
        written?;
        data::read(&path, DIM)
    };
    let (queries, sample) = (make(Side::Second, QUERIES, 1)?, make(Side::Second, SAMPLE, 2)?);
    let extra = make(Side::First, INSERTED.max(changed_at / 2), 3)?;
    let all = make(Side::First, most, 0)?;
    progress.start("grow", Some(rows.len() as u64 + 1));
    let mut sizes = Vec::new();
    let mut rest = None;
    for n in rows {
        cancel.check()?;
        // The largest may take half of the memory, and is not copied.
        let part = (n < most).then(|| first(&all, n));
        let base = part.as_ref().unwrap_or(&all);
        let (index, size, truth) = pool.install(|| grow(base, &sample, &queries, wanted))?;
        progress.advance(1);
        if n == changed_at {
            cancel.check()?;
            rest = Some(pool.install(|| changed(&index, base, &sample, &queries, &extra, &truth))?);
            progress.advance(1);
        }
        let inserted_per_s = pool.install(|| inserted(index, &extra))?;
        sizes.push(Size { inserted_per_s, ..size });
    }
    progress.finish();
    let (unfiltered_per_s, filtered, replaced) = rest.unwrap_or((0.0, Vec::new(), (0.0, 0.0)));
    Ok(Growth { wanted, exponent: exponent(&sizes), sizes, changed_at, unfiltered_per_s, filtered, replaced })
}

fn first(all: &Vectors, n: usize) -> Vectors {
    Vectors::new(all.data()[..n * all.dim()].to_vec(), all.dim()).expect("rows of checked vectors")
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).collect()
}

fn failed(e: impl std::fmt::Display) -> BenchError {
    BenchError::Rival { reason: e.to_string() }
}

/// The least CPU time of some turns, and what the last of them gave.
fn least<T>(turns: usize, mut work: impl FnMut() -> T) -> (f64, T) {
    let mut turn = || {
        let (before, start) = (threads_cpu_s(), std::time::Instant::now());
        let out = work();
        let wall = start.elapsed().as_secs_f64();
        // What is too short for the clock of CPU time is told by the other one.
        let cpu = before.zip(threads_cpu_s()).map(|(before, after)| after - before).filter(|took| *took > 0.0);
        (cpu.unwrap_or(wall), out)
    };
    let (mut best, mut out) = turn();
    for _ in 1..turns {
        let (took, other) = turn();
        best = best.min(took);
        out = other;
    }
    (best, out)
}

fn build(n: usize, base: &Vectors, sample: &Vectors) -> Result<CellIndex, BenchError> {
    CellIndex::build(&ids(n), base, Metric::InnerProduct, Some(sample), &CellConfig::default(), &NoProgress).map_err(failed)
}

/// The ids of exact search.
fn exact_ids(exact: &ExactIndex, queries: &Vectors, allow: Option<&RowSet>) -> Result<Vec<Vec<u64>>, BenchError> {
    let found = exact.search(queries, K, &SearchOptions { allow }).map_err(failed)?;
    Ok(found.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect())
}

fn recall(found: &[Vec<Hit>], truth: &[Vec<u64>]) -> f64 {
    let right: usize =
        found.iter().zip(truth).map(|(hits, truth)| hits.iter().filter(|hit| truth.contains(&hit.id)).count()).sum();
    right as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64
}

type Grown = (CellIndex, Size, Vec<Vec<u64>>);

fn grow(base: &Vectors, sample: &Vectors, queries: &Vectors, wanted: f64) -> Result<Grown, BenchError> {
    let n = base.n();
    let (build_s, index) = least(1, || build(n, base, sample));
    let mut index = index?;
    let truth = neighbours(base, queries)?;
    let tuning = index.tune(queries, &truth, K, wanted, None).map_err(failed)?;
    let (took, found) = least(TURNS, || index.search(queries, K, &SearchOptions::default()));
    found.map_err(failed)?;
    let size = Size {
        n,
        build_s,
        bytes: index.memory_bytes(),
        cells: index.n_cells(),
        effort: (tuning.effort.probes, tuning.effort.rerank),
        recall: tuning.recall,
        per_s: queries.n() as f64 / took,
        inserted_per_s: 0.0,
    };
    Ok((index, size, truth))
}

/// Insertions per second.
fn inserted(mut index: CellIndex, extra: &Vectors) -> Result<f64, BenchError> {
    let n = index.len();
    let n_inserted = INSERTED.min(n / 5);
    let (inserting, done) = least(1, || {
        let rows = extra.data()[..n_inserted * DIM].chunks(INSERTED_AT_ONCE * DIM);
        rows.enumerate().try_for_each(|(i, rows)| {
            let first = (n + i * INSERTED_AT_ONCE) as u64;
            let own: Vec<u64> = (first..first + (rows.len() / DIM) as u64).collect();
            index.insert(&own, &Vectors::new(rows.to_vec(), DIM).expect("rows of checked vectors"))
        })
    });
    done.map_err(failed)?;
    Ok(n_inserted as f64 / inserting)
}

/// The ids of exact search, some rows after the other, since an index of all would be a copy of them.
fn neighbours(base: &Vectors, queries: &Vectors) -> Result<Vec<Vec<u64>>, BenchError> {
    const ROWS_AT_ONCE: usize = 1 << 18;
    let mut best: Vec<Vec<Hit>> = vec![Vec::new(); queries.n()];
    for (nth, rows) in base.data().chunks(ROWS_AT_ONCE * DIM).enumerate() {
        let first = (nth * ROWS_AT_ONCE) as u64;
        let own: Vec<u64> = (first..first + (rows.len() / DIM) as u64).collect();
        let rows = Vectors::new(rows.to_vec(), DIM).expect("rows of checked vectors");
        let exact = ExactIndex::build(&own, &rows, Metric::InnerProduct).map_err(failed)?;
        drop(rows);
        let found = exact.search(queries, K, &SearchOptions::default()).map_err(failed)?;
        for (best, found) in best.iter_mut().zip(found) {
            best.extend(found);
            best.sort_by(|a, b| b.score.cmp(&a.score).then(a.id.cmp(&b.id)));
            best.truncate(K);
        }
    }
    Ok(best.into_iter().map(|hits| hits.into_iter().map(|hit| hit.id).collect()).collect())
}

type Changed = (f64, Vec<Filtered>, (f64, f64));

/// Filters, and half of the vectors replaced.
fn changed(
    index: &CellIndex,
    base: &Vectors,
    sample: &Vectors,
    queries: &Vectors,
    extra: &Vectors,
    truth: &[Vec<u64>],
) -> Result<Changed, BenchError> {
    let n = base.n();
    let exact = ExactIndex::build(&ids(n), base, Metric::InnerProduct).map_err(failed)?;
    let per_s = |took: f64| queries.n() as f64 / took;
    let (unfiltered, found) = least(TURNS, || index.search(queries, K, &SearchOptions::default()));
    debug_assert!(recall(&found.map_err(failed)?, truth) > 0.0);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut filtered = Vec::new();
    for share in SHARES {
        let mut allow = RowSet::new(n);
        (0..n).filter(|_| random.random::<f64>() < share).for_each(|row| allow.insert(row));
        let options = SearchOptions { allow: Some(&allow) };
        let truth = exact_ids(&exact, queries, Some(&allow))?;
        let (took, found) = least(TURNS, || index.search(queries, K, &options));
        let (exactly, _) = least(1, || exact.search(queries, K, &options));
        let recall = recall(&found.map_err(failed)?, &truth);
        filtered.push(Filtered { share, recall, per_s: per_s(took), exact_per_s: per_s(exactly) });
    }
    drop(exact);

    let mut order = ids(n);
    order.shuffle(&mut random);
    order.truncate(n / 2);
    let mut now = base.data().to_vec();
    let mut replaced = index.clone();
    for (part, rows) in order.chunks(INSERTED_AT_ONCE).zip(extra.data().chunks(INSERTED_AT_ONCE * DIM)) {
        let rows = &rows[..part.len() * DIM];
        replaced.insert(part, &Vectors::new(rows.to_vec(), DIM).expect("rows of checked vectors")).map_err(failed)?;
        for (id, row) in part.iter().zip(rows.chunks_exact(DIM)) {
            now[*id as usize * DIM..(*id as usize + 1) * DIM].copy_from_slice(row);
        }
    }
    let now = Vectors::new(now, DIM).expect("rows of checked vectors");
    let truth = exact_ids(&ExactIndex::build(&ids(n), &now, Metric::InnerProduct).map_err(failed)?, queries, None)?;
    let fresh = build(n, &now, sample)?;
    let Effort { probes, rerank } = index.effort();
    // The same share of the cells, since some were parted.
    let of = |index: &CellIndex| -> Result<f64, BenchError> {
        let probes = probes * index.n_cells() / fresh.n_cells();
        let found = index.search_with(queries, K, &SearchOptions::default(), Effort { probes, rerank }).map_err(failed)?;
        Ok(recall(&found, &truth))
    };
    Ok((per_s(unfiltered), filtered, (of(&replaced)?, of(&fresh)?)))
}

/// The slope of a line through the logarithms; none through fewer than two sizes.
fn exponent(sizes: &[Size]) -> Option<f64> {
    let points: Vec<(f64, f64)> = sizes.iter().map(|size| ((size.n as f64).ln(), size.per_s.ln())).collect();
    let n = points.len() as f64;
    let (mean_x, mean_y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let across: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let along: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (points.len() >= 2 && along > 0.0).then(|| across / along)
}

/// The page. `command` is what makes it again.
pub fn document(growth: &Growth, command: &str) -> String {
    let mut out = format!(
        "# How the index of cells grows\n\n*Written by `{command}`; not edited by hand. {}*\n\n\
         Made vectors of {DIM} numbers, {QUERIES} queries of the other modality, a sample of {SAMPLE} more. At each size the effort is chosen for a recall \
         of {} among the {K} nearest on every second query and the recall measured on the others. One thread; speeds are per second of CPU time. \
         Insertions are {INSERTED}, or a fifth of the vectors where these are fewer, {INSERTED_AT_ONCE} at a time, into an index that others may be reading.\n\n\
         | vectors | build, CPU s | B/vector | cells | looked into | compared | recall | queries/s | insertions/s |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        super::document::machine(),
        growth.wanted,
    );
    for size in &growth.sizes {
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.0} | {} | {} | {} | {:.4} | {:.0} | {:.0} |",
            size.n,
            size.build_s,
            size.bytes as f64 / size.n.max(1) as f64,
            size.cells,
            size.effort.0,
            size.effort.1,
            size.recall,
            size.per_s,
            size.inserted_per_s,
        );
    }
    if let Some(exponent) = growth.exponent {
        let _ = writeln!(out, "\nQueries per second go with the number of vectors to the power of {exponent:.2}.");
    }
    let _ = write!(
        out,
        "\n## Filters, at {} vectors\n\nRows allowed at random, with the effort chosen without a filter. Unfiltered: {:.0} queries/s.\n\n\
         | allowed | recall | queries/s | of unfiltered | exact search, queries/s |\n| --- | --- | --- | --- | --- |\n",
        growth.changed_at, growth.unfiltered_per_s,
    );
    for f in &growth.filtered {
        let share = f.per_s / growth.unfiltered_per_s;
        let _ = writeln!(out, "| {} | {:.4} | {:.0} | {share:.2} | {:.0} |", f.share, f.recall, f.per_s, f.exact_per_s);
    }
    let (changed, fresh) = growth.replaced;
    let _ = write!(
        out,
        "\n## Half of it replaced, at {} vectors\n\nEvery second item got another vector, in random order, {INSERTED_AT_ONCE} at a time. Recall with the same share of the \
         cells looked into: {changed:.4}; of an index built of the same vectors: {fresh:.4}.\n",
        growth.changed_at,
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_growth_is_measured_whole() {
        let folder = std::env::temp_dir().join(format!("chiasm-bench-ann-growth-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let growth = run(&[6000, 3000], 3, 0.9, &folder, &NoProgress, &Cancel::default()).unwrap();
        assert_eq!(growth.sizes.iter().map(|size| size.n).collect::<Vec<_>>(), [3000, 6000]);
        assert_eq!((growth.changed_at, growth.filtered.len()), (6000, SHARES.len()));
        assert!(growth.sizes.iter().all(|size| size.recall > 0.85 && size.per_s > 0.0 && size.inserted_per_s > 0.0));
        assert!(growth.filtered.iter().all(|f| f.recall > 0.85), "{growth:?}");
        let (changed, fresh) = growth.replaced;
        assert!(changed > fresh - 0.03, "{changed} {fresh}");
        let page = document(&growth, "chiasm bench ann");
        assert!(page.contains("| 6000 |") && page.contains("to the power of"), "{page}");
        let cancelled = Cancel::default();
        cancelled.cancel();
        assert!(matches!(run(&[3000], 3, 0.9, &folder, &NoProgress, &cancelled), Err(BenchError::Cancelled(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_exponent_is_a_slope() {
        let size = |n: usize, per_s: f64| Size {
            n,
            build_s: 1.0,
            bytes: 1,
            cells: 1,
            effort: (1, 1),
            recall: 1.0,
            per_s,
            inserted_per_s: 1.0,
        };
        let sizes = [size(100, 1000.0), size(10_000, 100.0), size(1_000_000, 10.0)];
        assert!((exponent(&sizes).unwrap() + 0.5).abs() < 1e-12);
        assert_eq!(exponent(&sizes[..1]), None);
    }
}
