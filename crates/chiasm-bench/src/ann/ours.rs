//! Our indexes as contestants: what each is built with, its settings, and the process that answers for it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chiasm_core::{Hit, Metric, NoProgress, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{CellConfig, CellIndex, Codes, Effort, ExactIndex, HammingIndex, RefinedIndex, Stored, f16, refine_hits};
use chiasm_nn::{Activation, Linear};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

use super::curve::Setting;
use super::world::normals;
use super::{Files, K, data};
use crate::error::BenchError;
use crate::measure::{cpu_s, status_mib, threads_cpu_s};

/// What an index of ours is built from. Row `i` of the base is known as `ids[i]`, which is `i`.
pub struct Material<'a> {
    /// Ids, ascending.
    pub ids: &'a [u64],
    /// The vectors, of unit length.
    pub base: &'a Vectors,
    /// A sample of queries of the other modality.
    pub sample: Option<&'a Vectors>,
}

/// An index of ours that was built.
pub trait Contender: Send + Sync {
    /// How it was built, in words.
    fn about(&self) -> String;

    /// Lists of settings, of growing effort each.
    fn ladders(&self) -> Vec<Vec<Setting>>;

    /// Bytes it says it takes.
    fn index_bytes(&self) -> usize;

    /// Bytes that a query reads, where it reads all there is.
    fn scanned_bytes(&self) -> Option<usize> {
        None
    }

    /// The best `k` rows of each query.
    ///
    /// # Errors
    /// In words, what the index says.
    fn search(&self, setting: &Setting, queries: &Vectors, k: usize) -> Result<Vec<Vec<Hit>>, String>;
}

/// A row of the table that is ours.
pub struct Ours {
    /// What it is called.
    pub id: &'static str,
    /// Builds it.
    pub build: fn(&Material<'_>) -> Result<Box<dyn Contender>, String>,
}

/// All of them: a new index takes part by a line here.
pub const OURS: [Ours; 7] = [
    Ours { id: "chiasm-exact", build: Exact::<f32>::build },
    Ours { id: "chiasm-exact-f16", build: Exact::<f16>::build },
    Ours { id: "chiasm-exact-bytes", build: Refined::build },
    Ours { id: "chiasm-cells", build: Cells::build },
    Ours { id: "chiasm-cells-no-sample", build: Cells::build_unsampled },
    Ours { id: "chiasm-hash-128", build: Hashed::build::<128> },
    Ours { id: "chiasm-hash-512", build: Hashed::build::<512> },
];

/// A number of a setting; 0 when there is none.
pub fn number(setting: &Setting, name: &str) -> usize {
    setting.get(name).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok()).unwrap_or(0)
}

struct Exact<T: Stored>(ExactIndex<T>);

impl<T: Stored> Exact<T> {
    fn build(from: &Material<'_>) -> Result<Box<dyn Contender>, String> {
        let index = ExactIndex::build_as(from.ids, from.base, Metric::InnerProduct).map_err(|e| e.to_string())?;
        Ok(Box::new(Self(index)))
    }
}

impl<T: Stored> Contender for Exact<T> {
    fn about(&self) -> String {
        format!("chiasm {}: exact scan in {}, {}", env!("CARGO_PKG_VERSION"), T::NAME, chiasm_index::Kernel::best().as_str())
    }

    fn ladders(&self) -> Vec<Vec<Setting>> {
        vec![vec![Setting::new()]]
    }

    fn index_bytes(&self) -> usize {
        self.0.len() * (size_of::<T>() * self.0.dim() + 8)
    }

    fn scanned_bytes(&self) -> Option<usize> {
        Some(self.0.len() * size_of::<T>() * self.0.dim())
    }

    fn search(&self, _setting: &Setting, queries: &Vectors, k: usize) -> Result<Vec<Vec<Hit>>, String> {
        self.0.search(queries, k, &SearchOptions::default()).map_err(|e| e.to_string())
    }
}

struct Refined(RefinedIndex);

impl Refined {
    fn build(from: &Material<'_>) -> Result<Box<dyn Contender>, String> {
        let index = ExactIndex::build(from.ids, from.base, Metric::InnerProduct).map_err(|e| e.to_string())?;
        Ok(Box::new(Self(RefinedIndex::new(index))))
    }
}

impl Contender for Refined {
    fn about(&self) -> String {
        format!("chiasm {}: exact scan by bytes first", env!("CARGO_PKG_VERSION"))
    }

    fn ladders(&self) -> Vec<Vec<Setting>> {
        vec![vec![Setting::new()]]
    }

    fn index_bytes(&self) -> usize {
        self.0.memory_bytes() + self.0.len() * (4 * self.0.dim() + 8)
    }

    fn scanned_bytes(&self) -> Option<usize> {
        Some(self.0.memory_bytes())
    }

    fn search(&self, _setting: &Setting, queries: &Vectors, k: usize) -> Result<Vec<Vec<Hit>>, String> {
        self.0.search(queries, k, &SearchOptions::default()).map_err(|e| e.to_string())
    }
}

/// Cells that are looked into, and vectors that are compared by their digits.
const PROBES: [usize; 22] = [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 90, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048];
const RERANKS: [usize; 7] = [15, 25, 40, 65, 100, 160, 320];

struct Cells {
    index: CellIndex,
    n_sample: usize,
}

impl Cells {
    fn build(from: &Material<'_>) -> Result<Box<dyn Contender>, String> {
        Self::build_with(from, Some(from.sample.ok_or("there is no sample of queries")?))
    }

    fn build_unsampled(from: &Material<'_>) -> Result<Box<dyn Contender>, String> {
        Self::build_with(from, None)
    }

    fn build_with(from: &Material<'_>, sample: Option<&Vectors>) -> Result<Box<dyn Contender>, String> {
        let config = CellConfig::default();
        let built = CellIndex::build(from.ids, from.base, Metric::InnerProduct, sample, &config, &NoProgress);
        Ok(Box::new(Self { index: built.map_err(|e| e.to_string())?, n_sample: sample.map_or(0, Vectors::n) }))
    }
}

impl Contender for Cells {
    fn about(&self) -> String {
        let sample = match self.n_sample {
            0 => "no sample of queries".to_owned(),
            n => format!("a sample of {n} queries"),
        };
        format!("chiasm {}: {} cells, {sample}", env!("CARGO_PKG_VERSION"), self.index.n_cells())
    }

    fn ladders(&self) -> Vec<Vec<Setting>> {
        let probes = || PROBES.into_iter().filter(|probes| *probes <= self.index.n_cells());
        let setting = |probes: usize, rerank: usize| {
            Setting::from_iter([("probes".to_owned(), json!(probes)), ("rerank".to_owned(), json!(rerank))])
        };
        RERANKS.iter().map(|rerank| probes().map(|probes| setting(probes, *rerank)).collect()).collect()
    }

    fn index_bytes(&self) -> usize {
        self.index.memory_bytes()
    }

    fn search(&self, setting: &Setting, queries: &Vectors, k: usize) -> Result<Vec<Vec<Hit>>, String> {
        let effort = Effort { probes: number(setting, "probes"), rerank: number(setting, "rerank") };
        self.index.search_with(queries, k, &SearchOptions::default(), effort).map_err(|e| e.to_string())
    }
}

/// Hits of the scan by codes that are compared by the vectors themselves.
const REFINED: [usize; 11] = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240];

/// Hash, then refine: signs of random projections (Charikar 2002), scanned whole, and then the vectors of the nearest codes. What lies between
/// the modalities is taken out first: a vector is projected less the mean of the side that it is nearer to.
struct Hashed {
    exact: ExactIndex,
    codes: HammingIndex,
    projection: Projection,
}

struct Projection {
    /// To a number for each bit.
    directions: Linear,
    /// Of the base, and of the sample of queries where there is one, `[dim]` and projected.
    means: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Projection {
    fn new(bits: usize, sides: impl Iterator<Item = Vec<f32>>) -> Self {
        let sides: Vec<_> = sides.collect();
        let dim = sides[0].len();
        let numbers = normals(&mut ChaCha8Rng::seed_from_u64(1), bits * dim);
        let directions = Linear::new(&numbers, vec![0.0; bits], dim, Activation::None);
        let mut means = Vec::new();
        for side in sides {
            let mut projected = Vec::new();
            directions.forward(&side, &mut projected);
            means.push((side, projected));
        }
        Self { directions, means }
    }

    fn codes(&self, vectors: &Vectors) -> Result<Codes, String> {
        let mut projected = Vec::new();
        self.directions.forward(vectors.data(), &mut projected);
        for (row, to) in vectors.rows().zip(projected.chunks_exact_mut(self.directions.n_out())) {
            let apart = |side: &[f32]| row.iter().zip(side).map(|(v, m)| (v - m).powi(2)).sum::<f32>();
            let nearest = self.means.iter().min_by(|a, b| apart(&a.0).total_cmp(&apart(&b.0))).expect("the mean of the base");
            to.iter_mut().zip(&nearest.1).for_each(|(v, m)| *v -= m);
        }
        let projected = Vectors::new(projected, self.directions.n_out()).map_err(|e| e.to_string())?;
        Codes::from_signs(&projected).map_err(|e| e.to_string())
    }
}

impl Hashed {
    fn build<const BITS: usize>(from: &Material<'_>) -> Result<Box<dyn Contender>, String> {
        let projection = Projection::new(BITS, std::iter::once(from.base).chain(from.sample).map(mean));
        let codes = HammingIndex::build(from.ids, &projection.codes(from.base)?).map_err(|e| e.to_string())?;
        let exact = ExactIndex::build(from.ids, from.base, Metric::InnerProduct).map_err(|e| e.to_string())?;
        Ok(Box::new(Self { exact, codes, projection }))
    }
}

/// Of all rows, `[dim]`.
fn mean(vectors: &Vectors) -> Vec<f32> {
    let mut sums = vec![0.0f64; vectors.dim()];
    vectors.rows().for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v)));
    sums.into_iter().map(|sum| (sum / vectors.n().max(1) as f64) as f32).collect()
}

impl Contender for Hashed {
    fn about(&self) -> String {
        let kernel = chiasm_index::CodeKernel::best().as_str();
        format!("chiasm {}: codes of {} bits by {kernel}, then the vectors", env!("CARGO_PKG_VERSION"), self.codes.n_bits())
    }

    fn ladders(&self) -> Vec<Vec<Setting>> {
        let refined = REFINED.into_iter().filter(|refined| *refined <= self.codes.len());
        vec![refined.map(|refined| Setting::from_iter([("refined".to_owned(), json!(refined))])).collect()]
    }

    fn index_bytes(&self) -> usize {
        self.codes.bytes() + self.exact.len() * (4 * self.exact.dim() + 8)
    }

    fn search(&self, setting: &Setting, queries: &Vectors, k: usize) -> Result<Vec<Vec<Hit>>, String> {
        let codes = self.projection.codes(queries)?;
        let near = self.codes.search(&codes, number(setting, "refined").max(k), &SearchOptions::default());
        refine_hits(&near.map_err(|e| e.to_string())?, &self.exact, queries, k).map_err(|e| e.to_string())
    }
}

/// A request, as it comes in a line; `reference/bench_ann_rivals.py` says what each asks for.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    Build,
    Search { queries: usize, setting: Setting, threads: usize, rounds: u32, hits: bool },
    Scan,
}

/// Answers for one of [`OURS`].
pub struct Worker {
    ours: &'static Ours,
    dim: usize,
    files: Files,
    queries: Vec<Vectors>,
    /// Kept, since the time of ended threads is lost.
    pools: BTreeMap<usize, ThreadPool>,
    threads: usize,
    built: Option<Box<dyn Contender>>,
}

impl Worker {
    /// A worker that has read the queries.
    ///
    /// # Errors
    /// [`BenchError`] when there is no such index, or its files are not what they should be.
    pub fn new(id: &str, dim: usize, threads: usize, files: Files) -> Result<Self, BenchError> {
        let names = OURS.iter().map(|ours| ours.id).collect::<Vec<_>>().join(", ");
        let unknown = || BenchError::Rival { reason: format!("there is no index `{id}`: expected one of {names}") };
        let ours = OURS.iter().find(|ours| ours.id == id).ok_or_else(unknown)?;
        let queries = files.queries.iter().map(|path| data::read(path, dim)).collect::<Result<_, _>>()?;
        Ok(Self { ours, dim, files, queries, pools: BTreeMap::from([(threads, pool(threads)?)]), threads, built: None })
    }

    /// One line of answer for a request, whatever happens.
    pub fn answer(&mut self, request: &Value) -> Value {
        let answer = Request::deserialize(request).map_err(|e| e.to_string()).and_then(|request| match request {
            Request::Build => self.build(),
            Request::Search { queries, setting, threads, rounds, hits } => {
                self.search(queries, &setting, threads, rounds, hits)
            }
            Request::Scan => self.scan(),
        });
        answer.unwrap_or_else(|reason| json!({ "error": reason }))
    }

    fn build(&mut self) -> Result<Value, String> {
        self.built = None;
        let before = status_mib("RssAnon");
        let read = |path: &Path| data::read(path, self.dim).map_err(|e| e.to_string());
        let base = read(&self.files.base)?;
        let sample = self.files.sample.as_deref().map(read).transpose()?;
        let ids: Vec<u64> = (0..base.n() as u64).collect();
        let material = Material { ids: &ids, base: &base, sample: sample.as_ref() };
        let pool = &self.pools[&self.threads];
        let (cpu, start) = (cpu_s(), Instant::now());
        let built = pool.install(|| (self.ours.build)(&material))?;
        let wall = start.elapsed().as_secs_f64();
        let cpu = cpu.zip(cpu_s()).map_or(wall, |(before, after)| after - before);
        drop((base, sample, ids));
        let memory = before.zip(status_mib("RssAnon")).map(|(before, after)| after - before);
        let answer = json!({
            "wall": wall, "cpu": cpu, "memory_mib": memory, "index_bytes": built.index_bytes(), "about": built.about(),
            "ladders": built.ladders(),
        });
        self.built = Some(built);
        Ok(answer)
    }

    fn search(&mut self, queries: usize, setting: &Setting, threads: usize, rounds: u32, hits: bool) -> Result<Value, String> {
        let pool = match self.pools.entry(threads) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => free.insert(pool(threads).map_err(|e| e.to_string())?),
        };
        let built = self.built.as_deref().ok_or("it was not built")?;
        let queries = self.queries.get(queries).ok_or("there are no such queries")?;
        let mut found = Vec::new();
        let (cpu, start) = (threads_cpu_s(), Instant::now());
        for _ in 0..rounds {
            found = pool.install(|| built.search(setting, queries, K))?;
        }
        let wall = start.elapsed().as_secs_f64();
        let cpu = cpu.zip(threads_cpu_s()).map_or(wall, |(before, after)| after - before);
        let mut answer = json!({ "wall": wall, "cpu": cpu });
        if hits {
            let row = |hits: &Vec<Hit>| (0..K).map(|i| hits.get(i).map_or(-1, |hit| hit.id as i64)).collect::<Vec<_>>();
            answer["hits"] = json!(found.iter().flat_map(row).collect::<Vec<_>>());
        }
        Ok(answer)
    }

    /// What one thread reads from memory, in bytes per second: adding up numbers, and searching for one query at a time.
    fn scan(&mut self) -> Result<Value, String> {
        const TURNS: usize = 5;
        let pool = pool(1).map_err(|e| e.to_string())?;
        let built = self.built.as_deref().ok_or("it was not built")?;
        let bytes = built.scanned_bytes().ok_or("it does not read all there is")? as f64;
        let alone = Vectors::new(self.queries[0].row(0).to_vec(), self.dim).map_err(|e| e.to_string())?;
        let numbers = vec![1u64; BANDWIDTH_BYTES / 8];
        let (mut memory, mut scan) = (0f64, 0f64);
        for _ in 0..TURNS {
            let start = Instant::now();
            std::hint::black_box(sum::<1>(std::hint::black_box(&numbers)));
            memory = memory.max(BANDWIDTH_BYTES as f64 / start.elapsed().as_secs_f64());
            let start = Instant::now();
            std::hint::black_box(sum::<4>(std::hint::black_box(&numbers)));
            memory = memory.max(BANDWIDTH_BYTES as f64 / start.elapsed().as_secs_f64());
            let start = Instant::now();
            pool.install(|| built.search(&Setting::new(), &alone, K))?;
            scan = scan.max(bytes / start.elapsed().as_secs_f64());
        }
        Ok(json!({ "memory": memory, "scan": scan }))
    }
}

/// Much larger than a cache.
const BANDWIDTH_BYTES: usize = 512 << 20;

/// The sum of numbers, read in so many places at once: some machines are quickest with one, some with four.
fn sum<const PLACES: usize>(numbers: &[u64]) -> u64 {
    const LANES: usize = 8;
    let part = numbers.len() / PLACES;
    let mut sums = [0u64; LANES];
    let parts: [&[[u64; LANES]]; PLACES] = std::array::from_fn(|i| numbers[i * part..(i + 1) * part].as_chunks().0);
    for at in 0..part / LANES {
        for part in parts {
            for lane in 0..LANES {
                sums[lane] = sums[lane].wrapping_add(part[at][lane]);
            }
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

pub(crate) fn pool(threads: usize) -> Result<ThreadPool, BenchError> {
    ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| BenchError::Rival { reason: e.to_string() })
}

/// Our contestant as a process: answers a line for a line until their end.
///
/// # Errors
/// [`BenchError`] when it cannot begin, or the pipe breaks.
pub fn serve(mut worker: Worker, requests: &mut dyn BufRead, answers: &mut dyn Write) -> Result<(), BenchError> {
    let failed = |reason: String| BenchError::File { path: PathBuf::from("stdin"), reason };
    let mut line = String::new();
    while requests.read_line(&mut line).map_err(|e| failed(e.to_string()))? > 0 {
        let request: Value = serde_json::from_str(&line).map_err(|e| failed(e.to_string()))?;
        line.clear();
        let answer = worker.answer(&request);
        writeln!(answers, "{answer}").and_then(|()| answers.flush()).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}
