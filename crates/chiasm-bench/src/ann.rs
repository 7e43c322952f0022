//! How fast indexes find nearest neighbours, at which recall, beside faiss, hnswlib, usearch, ScaNN and SVS on the same vectors.
//!
//! # Protocol
//! Every contestant, ours among them, is a process of its own that answers a line for a line. It builds, then searches for all queries in
//! one call at each setting of its effort. Contestants take turns, so that a machine that is slow for a while is slow for all, and of each setting
//! the turn with the least CPU time counts. Recall is judged here, against exact neighbours, from the hits that came back. The first turn goes
//! through all settings as far as they help; later turns ask for those that it leaves worth having.
//!
//! [`ours`] holds our indexes, [`curve`] what is made of the settings, [`data`] and [`world`] the vectors, [`document`] the page.

pub mod curve;
pub mod data;
pub mod document;
pub mod growth;
pub mod ours;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chiasm_core::{Cancel, Progress};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::rivals::Rivals;
use curve::{Point, Setting, recall};
use data::{Bed, KINDS};
use ours::{OURS, Worker};
use world::{Side, World};

/// Neighbours asked for.
pub const K: usize = 10;
/// The peers, as `reference/bench_ann_rivals.py` knows them; the word before the first dash is the library.
pub const PEERS: [&str; 16] = [
    "faiss-ivfpq2",
    "faiss-ivfpq2-sq8",
    "faiss-ivfpq4",
    "faiss-hnsw32-sq8",
    "faiss-hnsw16",
    "faiss-hnsw32",
    "faiss-nsg32",
    "hnswlib-16",
    "hnswlib-32",
    "usearch-bf16",
    "scann",
    "scann-soar",
    "svs-f16",
    "svs-lvq4x8",
    "svs-leanvec",
    "svs-leanvec-ood",
];
const SCRIPT: &str = include_str!("../../../reference/bench_ann_rivals.py");
const NEEDS: &str = "numpy and the library";

/// Rounds of a measurement at most.
const ROUNDS_MAX: f64 = 200.0;
/// A ladder is left where more effort is no use: at this recall, when so many steps together brought no more than this, or when one pass takes
/// so many seconds.
const RECALL_ENOUGH: f64 = 0.997;
const STEPS: usize = 2;
const GAIN: f64 = 0.002;
const PASS_S: f64 = 30.0;
/// Later turns leave out settings that another one, no worse in recall, beats by this factor.
const BEATEN: f64 = 1.4;
/// An exact scan that finds less than this was judged by neighbours of other vectors.
const EXACT_RECALL: f64 = 0.99;

/// Where the vectors of a section come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder, as [`data`] describes it.
    Folder(PathBuf),
    /// So many rows of a made [`World`].
    Made {
        /// Rows of the base.
        rows: usize,
        /// Of the world.
        seed: u64,
    },
}

/// What is run.
pub struct Plan {
    /// A section of the table each.
    pub sources: Vec<Source>,
    /// Numbers per vector of folders.
    pub dim: usize,
    /// Threads of searches; indexes are built with the first of them.
    pub threads: Vec<usize>,
    /// Turns of each contestant, at least 1.
    pub turns: usize,
    /// The interpreter; ours alone run without one.
    pub python: Option<PathBuf>,
    /// Names of some of [`OURS`].
    pub ours: Vec<&'static str>,
    /// Some of [`PEERS`].
    pub peers: Vec<&'static str>,
    /// Whether each contestant ends before the next begins: for bases of which memory holds the indexes one by one. Turns of one contestant then
    /// follow each other, so a machine that is slow for a while is slow for one of them; the first of ours is measured again at the end, to tell.
    pub apart: bool,
    /// This program, which `bench ann-worker` makes a contestant; within this process where there is none.
    pub program: Option<PathBuf>,
    /// CPU time that the rounds of a setting take together, at least.
    pub least: Duration,
    /// How long a build or a search may take.
    pub limit: Duration,
}

/// The files a contestant reads.
#[derive(Clone, Debug)]
pub struct Files {
    /// The base.
    pub base: PathBuf,
    /// A sample of queries.
    pub sample: Option<PathBuf>,
    /// Queries of the kinds of [`KINDS`].
    pub queries: Vec<PathBuf>,
}

/// What all contestants gave on one set of vectors with one number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The vectors.
    pub name: String,
    /// Rows of the base.
    pub n: usize,
    /// Numbers per vector.
    pub dim: usize,
    /// Rows of the sample of queries; 0 where there is none.
    pub n_sample: usize,
    /// Queries of each kind.
    pub n_queries: [usize; 2],
    /// Threads of the searches.
    pub threads: usize,
    /// Threads of the builds.
    pub build_threads: usize,
    /// What one thread reads from memory.
    pub bandwidth: Option<Bandwidth>,
    /// The contestants, ours first.
    pub rows: Vec<Row>,
}

/// Bytes per second that one thread reads.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bandwidth {
    /// Of a sum over an array much larger than the cache.
    pub memory: f64,
    /// Of each index that is read whole, by its name, for one query.
    pub scans: Vec<(&'static str, f64)>,
}

/// What an index that is read whole says of itself.
#[derive(Deserialize)]
struct Scanned {
    memory: f64,
    scan: f64,
}

/// A contestant.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who.
    pub contestant: String,
    /// Whether it is ours.
    pub ours: bool,
    /// What it gave, or why it gave nothing.
    pub outcome: Result<Outcome, String>,
}

/// What a contestant gave.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What the build took and gave.
    #[serde(flatten)]
    pub build: Build,
    /// A point for each setting, by kind of query.
    pub curves: [Vec<Point>; 2],
}

/// A build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Build {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of all threads together.
    pub cpu: f64,
    /// Private memory that the process holds more than before, in MiB; absent where the system does not say.
    pub memory_mib: Option<f64>,
    /// Bytes that the index says it takes.
    pub index_bytes: Option<u64>,
    /// How it was built, in words.
    pub about: String,
    /// Lists of settings, of growing effort each.
    #[serde(skip_serializing)]
    pub ladders: Vec<Vec<Setting>>,
}

/// Runs the plan. `told` is given all sections so far after each set of vectors, and after each contestant where they are apart, so that a stop
/// loses at most what is under way.
///
/// # Errors
/// [`BenchError`] when vectors cannot be read or made, or a stop was asked for; a contestant that fails is told in its line.
pub fn run(
    plan: &Plan,
    folder: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
    told: &mut dyn FnMut(&[Section]),
) -> Result<Vec<Section>, BenchError> {
    let script = folder.join("rivals.py");
    std::fs::write(&script, SCRIPT).map_err(|e| BenchError::File { path: script.clone(), reason: e.to_string() })?;
    let mut sections = Vec::new();
    for source in &plan.sources {
        let (bed, made) = match source {
            Source::Folder(path) => (data::open(path, plan.dim, progress, cancel)?, None),
            Source::Made { rows, seed } => {
                let place = folder.join(format!("made-{rows}"));
                make(*rows, *seed, &place, progress, cancel)?;
                (data::open(&place, world::DIM, progress, cancel)?, Some(place))
            }
        };
        let known = sections.len();
        measure(plan, &bed, &script, folder, progress, cancel, &mut |under_way| {
            sections.truncate(known);
            sections.extend_from_slice(under_way);
            told(&sections);
        })?;
        if let Some(place) = made {
            // It lies in a folder that goes away as well.
            let _ = std::fs::remove_dir_all(place);
        }
    }
    Ok(sections)
}

/// Rows of the parts that are not the base: at most as many as it has, and at most a tenth of them.
const MADE_SAMPLE: usize = 20_000;
const MADE_QUERIES: usize = 1000;

/// Writes the vectors of a made world, as folders hold them.
fn make(rows: usize, seed: u64, place: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<(), BenchError> {
    std::fs::create_dir_all(place).map_err(|e| BenchError::File { path: place.to_owned(), reason: e.to_string() })?;
    let world = World::new(seed);
    let n_queries = MADE_QUERIES.min(rows / 10).max(1);
    let sets = [
        ("base", Side::First, rows),
        ("train", Side::Second, MADE_SAMPLE.min(rows)),
        ("query_ood", Side::Second, n_queries),
        ("query_id", Side::First, n_queries),
    ];
    progress.start(&format!("bench ann: making {rows} vectors"), Some(sets.iter().map(|set| set.2 as u64).sum()));
    for (part, (name, side, n)) in (0..).zip(sets) {
        world.write(&place.join(format!("{name}.f32")), side, n, part, progress, cancel)?;
    }
    progress.finish();
    Ok(())
}

/// Who answers: a process, or an index of ours within this one.
enum Seat {
    Process(Rivals),
    Here(Box<Worker>),
}

impl Seat {
    fn ask<T: for<'a> Deserialize<'a>>(&mut self, request: &Value, limit: Duration, cancel: &Cancel) -> Result<T, BenchError> {
        cancel.check()?;
        let answer = match self {
            Seat::Process(process) => process.ask_within(request, Some(limit), cancel)?,
            Seat::Here(worker) => worker.answer(request),
        };
        let reason = answer["error"].as_str().map(str::to_owned);
        let read = reason.map_or_else(|| serde_json::from_value(answer).map_err(|e| e.to_string()), Err);
        read.map_err(|reason| BenchError::Rival { reason })
    }
}

/// A contestant under way.
struct Contestant {
    name: &'static str,
    ours: bool,
    state: Result<(Seat, Build), String>,
    /// By kind of query.
    tried: [Vec<Tried>; 2],
}

/// A setting that was tried.
struct Tried {
    setting: Setting,
    recall: f64,
    rounds: u32,
    cpu_s: f64,
    wall_s: f64,
}

#[derive(Deserialize)]
struct Searched {
    wall: f64,
    cpu: f64,
    #[serde(default)]
    hits: Vec<i64>,
}

/// Gives back what only a stop may end.
fn unless_stopped<T>(result: Result<T, BenchError>) -> Result<Result<T, String>, BenchError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(stop @ BenchError::Cancelled(_)) => Err(stop),
        Err(BenchError::Rival { reason }) => Ok(Err(reason)),
        Err(other) => Ok(Err(other.to_string())),
    }
}

/// All contestants on one set of vectors. `told` is given its sections as often as they grow.
fn measure(
    plan: &Plan,
    bed: &Bed,
    script: &Path,
    folder: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
    told: &mut dyn FnMut(&[Section]),
) -> Result<(), BenchError> {
    let peers = plan.peers.iter().filter(|_| plan.python.is_some());
    let ours = plan.ours.iter();
    let names: Vec<(&'static str, bool)> = ours.map(|ours| (*ours, true)).chain(peers.map(|peer| (*peer, false))).collect();
    let groups: Vec<Vec<(&'static str, bool)>> =
        if plan.apart { names.iter().chain(names.first()).map(|name| vec![*name]).collect() } else { vec![names] };
    let section = |threads: usize| Section {
        name: bed.name.clone(),
        n: bed.n,
        dim: bed.dim,
        n_sample: bed.n_sample,
        n_queries: bed.queries.each_ref().map(|queries| queries.n),
        threads,
        build_threads: plan.threads.first().copied().unwrap_or(1),
        bandwidth: None,
        rows: Vec::new(),
    };
    let mut sections: Vec<Section> = plan.threads.iter().map(|threads| section(*threads)).collect();
    for group in groups {
        together(plan, bed, script, folder, &group, &mut sections, progress, cancel)?;
        check_truth(bed, &sections)?;
        told(&sections);
    }
    Ok(())
}

/// Builds some contestants and lets them take turns; their rows are added to the sections, one for each number of threads.
#[expect(clippy::too_many_arguments, reason = "what one measurement hands down")]
fn together(
    plan: &Plan,
    bed: &Bed,
    script: &Path,
    folder: &Path,
    names: &[(&'static str, bool)],
    sections: &mut [Section],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), BenchError> {
    progress.start(&format!("bench ann: building indexes of {}", bed.name), Some(names.len() as u64));
    let mut contestants = Vec::new();
    for (name, ours) in names {
        let built =
            enough_memory(bed, plan.apart).and_then(|()| seat(plan, bed, script, folder, name, *ours)).and_then(|mut seat| {
                let build = seat.ask(&json!({ "do": "build" }), plan.limit, cancel)?;
                Ok((seat, build))
            });
        let state = unless_stopped(built)?;
        if let Err(reason) = &state {
            progress.note(&format!("{name} is not measured: {reason}"));
        }
        contestants.push(Contestant { name, ours: *ours, state, tried: Default::default() });
        progress.advance(1);
    }
    progress.finish();
    for contestant in contestants.iter_mut().filter(|c| c.ours) {
        if let Ok((seat, _)) = &mut contestant.state {
            // Whoever reads less than all there is refuses.
            let told = unless_stopped(seat.ask::<Scanned>(&json!({ "do": "scan" }), plan.limit, cancel))?;
            let Ok(Scanned { memory, scan }) = told else { continue };
            for section in &mut *sections {
                let bandwidth = section.bandwidth.get_or_insert_default();
                bandwidth.memory = bandwidth.memory.max(memory);
                bandwidth.scans.push((contestant.name, scan));
            }
        }
    }
    for section in sections {
        let threads = section.threads;
        let steps = plan.turns * contestants.len();
        let plural = if threads == 1 { "" } else { "s" };
        progress.start(&format!("bench ann: searching {} with {threads} thread{plural}", bed.name), Some(steps as u64));
        contestants.iter_mut().for_each(|contestant| contestant.tried = Default::default());
        for turn in 0..plan.turns {
            for contestant in &mut contestants {
                for kind in 0..KINDS.len() {
                    let done = if turn == 0 {
                        contestant.climb(plan, bed, kind, threads, cancel)
                    } else {
                        contestant.again(kind, threads, plan.limit, cancel)
                    };
                    if let Err(reason) = unless_stopped(done)? {
                        progress.note(&format!("{} is not measured: {reason}", contestant.name));
                        contestant.state = Err(reason);
                    }
                }
                progress.advance(1);
            }
        }
        progress.finish();
        section.rows.extend(contestants.iter().map(|contestant| contestant.row(bed)));
    }
    Ok(())
}

/// Refuses neighbours that an exact scan does not find.
fn check_truth(bed: &Bed, sections: &[Section]) -> Result<(), BenchError> {
    let exact = sections.iter().flat_map(|section| &section.rows).filter(|row| row.contestant == OURS[0].id);
    for outcome in exact.filter_map(|row| row.outcome.as_ref().ok()) {
        for (queries, points) in bed.queries.iter().zip(&outcome.curves) {
            let found = curve::best_recall(points);
            if found < EXACT_RECALL {
                let reason = format!(
                    "the exact scan finds {found:.3} of the neighbours that stand beside these queries: are they of this base?"
                );
                return Err(BenchError::File { path: queries.file.clone(), reason });
            }
        }
    }
    Ok(())
}

/// Contestants stay until the end of their group. One more needs the base, an index of the size of the base, and something to build it; who is alone
/// may take the rest of what there is for that.
fn enough_memory(bed: &Bed, alone: bool) -> Result<(), BenchError> {
    let bases = if alone { 2 } else { 3 };
    let needs_mib = (bases * bed.n * bed.dim * 4) as f64 / f64::from(1 << 20);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    match line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()) {
        Some(kib) if kib / 1024.0 < needs_mib => {
            let reason = format!(
                "{:.0} MiB of memory are left, {needs_mib:.0} may be needed: name fewer peers with `--rivals`",
                kib / 1024.0
            );
            Err(BenchError::Rival { reason })
        }
        _ => Ok(()),
    }
}

/// Starts a contestant.
fn seat(plan: &Plan, bed: &Bed, script: &Path, folder: &Path, name: &str, ours: bool) -> Result<Seat, BenchError> {
    let threads = plan.threads.first().copied().unwrap_or(1);
    let files = Files {
        base: bed.base.clone(),
        sample: bed.sample.clone(),
        queries: bed.queries.iter().map(|queries| queries.file.clone()).collect(),
    };
    let mut command = match (ours, &plan.program, &plan.python) {
        (true, None, _) => return Ok(Seat::Here(Box::new(Worker::new(name, bed.dim, threads, files)?))),
        (true, Some(program), _) => {
            let mut command = Command::new(program);
            command.args(["bench", "ann-worker"]);
            command
        }
        (false, _, Some(python)) => {
            let mut command = Command::new(python);
            command.arg(script);
            command
        }
        (false, _, None) => return Err(BenchError::Rival { reason: "there is no interpreter".to_owned() }),
    };
    command.arg(name).args([bed.dim.to_string(), threads.to_string()]).arg(&files.base);
    command.arg(files.sample.as_deref().unwrap_or(Path::new("-"))).args(&files.queries);
    for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"] {
        command.env(variable, threads.to_string());
    }
    Ok(Seat::Process(Rivals::spawn_heard(&mut command, NEEDS, &folder.join(format!("{name}.said")))?))
}

impl Contestant {
    /// Goes through all settings, as far as more effort is of use.
    fn climb(&mut self, plan: &Plan, bed: &Bed, kind: usize, threads: usize, cancel: &Cancel) -> Result<(), BenchError> {
        let Ok((seat, build)) = &mut self.state else { return Ok(()) };
        let queries = &bed.queries[kind];
        let tried = &mut self.tried[kind];
        for ladder in &build.ladders {
            let mut recalls: Vec<f64> = Vec::new();
            for setting in ladder {
                // The first round tells how many make a turn, and what is found.
                let first: Searched = seat.ask(&search(kind, setting, threads, 1, true), plan.limit, cancel)?;
                if first.hits.len() != queries.n * K {
                    let reason = format!("{} hits for {} queries, expected {K} each", first.hits.len(), queries.n);
                    return Err(BenchError::Rival { reason });
                }
                let recall = recall(&first.hits, &queries.truth, queries.depth, K);
                let rounds = (plan.least.as_secs_f64() / first.cpu.max(1e-4)).ceil().clamp(1.0, ROUNDS_MAX) as u32;
                let more = rounds > 1;
                let told: Searched =
                    if more { seat.ask(&search(kind, setting, threads, rounds, false), plan.limit, cancel)? } else { first };
                let (cpu_s, wall_s) = (told.cpu / f64::from(rounds), told.wall / f64::from(rounds));
                tried.push(Tried { setting: setting.clone(), recall, rounds, cpu_s, wall_s });
                recalls.push(recall);
                let no_gain = recalls.len() > STEPS && recall - recalls[recalls.len() - 1 - STEPS] < GAIN;
                if recall >= RECALL_ENOUGH || no_gain || cpu_s > PASS_S {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Times the settings worth having once more.
    fn again(&mut self, kind: usize, threads: usize, limit: Duration, cancel: &Cancel) -> Result<(), BenchError> {
        let Ok((seat, _)) = &mut self.state else { return Ok(()) };
        let tried = &mut self.tried[kind];
        let beaten = |one: &Tried| tried.iter().any(|other| other.recall >= one.recall && other.cpu_s * BEATEN < one.cpu_s);
        let kept: Vec<bool> = tried.iter().map(|one| !beaten(one)).collect();
        for (one, _) in tried.iter_mut().zip(kept).filter(|(_, kept)| *kept) {
            let told: Searched = seat.ask(&search(kind, &one.setting, threads, one.rounds, false), limit, cancel)?;
            let rounds = f64::from(one.rounds);
            if told.cpu / rounds < one.cpu_s {
                (one.cpu_s, one.wall_s) = (told.cpu / rounds, told.wall / rounds);
            }
        }
        Ok(())
    }

    fn row(&self, bed: &Bed) -> Row {
        let curve = |kind: usize| {
            let n = bed.queries[kind].n as f64;
            let point = |t: &Tried| Point {
                setting: t.setting.clone(),
                recall: t.recall,
                per_cpu_s: n / t.cpu_s.max(1e-9),
                per_s: n / t.wall_s.max(1e-9),
            };
            self.tried[kind].iter().map(point).collect()
        };
        let outcome = match &self.state {
            Ok((_, build)) => Ok(Outcome { build: build.clone(), curves: [curve(0), curve(1)] }),
            Err(reason) => Err(reason.clone()),
        };
        Row { contestant: self.name.to_owned(), ours: self.ours, outcome }
    }
}

fn search(kind: usize, setting: &Setting, threads: usize, rounds: u32, hits: bool) -> Value {
    json!({ "do": "search", "queries": kind, "setting": setting, "threads": threads, "rounds": rounds, "hits": hits })
}

#[cfg(test)]
mod tests {
    use chiasm_core::NoProgress;

    use super::*;

    fn plan(sources: Vec<Source>) -> Plan {
        Plan {
            sources,
            dim: 512,
            threads: vec![1, 2],
            turns: 2,
            python: None,
            ours: OURS.iter().map(|ours| ours.id).collect(),
            peers: Vec::new(),
            apart: false,
            program: None,
            least: Duration::ZERO,
            limit: Duration::from_secs(600),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chiasm-bench-ann-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn our_indexes_are_measured_without_python() {
        let folder = scratch("run");
        let plan = plan(vec![Source::Made { rows: 1000, seed: 7 }]);
        let sections = run(&plan, &folder, &NoProgress, &Cancel::default(), &mut |_| ()).unwrap();
        assert_eq!(
            sections.iter().map(|s| (s.threads, s.build_threads, s.n)).collect::<Vec<_>>(),
            [(1, 1, 1000), (2, 1, 1000)]
        );
        for section in &sections {
            assert_eq!(section.rows.len(), OURS.len());
            for row in &section.rows {
                let outcome = row.outcome.as_ref().unwrap();
                let best = outcome.curves.each_ref().map(|points| curve::best_recall(points));
                assert!(best[0] > 0.9 && best[1] > 0.9, "{}: {best:?}", row.contestant);
                assert!(outcome.build.index_bytes.is_some_and(|bytes| bytes > 1000 * 512));
            }
            let exact = section.rows[0].outcome.as_ref().unwrap();
            assert!(exact.curves.iter().flatten().all(|point| point.recall == 1.0 && point.per_cpu_s > 0.0));
        }
        // One after the other, the first once more at the end.
        let plan = Plan { threads: vec![1], turns: 1, ours: vec!["chiasm-cells", "chiasm-exact"], apart: true, ..plan };
        let mut rows_told = Vec::new();
        let tell = &mut |so_far: &[Section]| rows_told.push(so_far[0].rows.len());
        let apart = run(&plan, &folder, &NoProgress, &Cancel::default(), tell).unwrap();
        assert_eq!(rows_told, [1, 2, 3], "a stop loses one contestant, not all");
        let names: Vec<&str> = apart[0].rows.iter().map(|row| row.contestant.as_str()).collect();
        assert_eq!(names, ["chiasm-cells", "chiasm-exact", "chiasm-cells"]);
        let bandwidth = sections[0].bandwidth.as_ref().unwrap();
        let scans: Vec<&str> = bandwidth.scans.iter().map(|(name, _)| *name).collect();
        assert_eq!(scans, ["chiasm-exact", "chiasm-exact-f16", "chiasm-exact-bytes"]);
        assert!(bandwidth.memory > 1e8 && bandwidth.scans.iter().all(|(_, scan)| *scan > 1e6), "{bandwidth:?}");
        assert!(!folder.join("made-1000").exists());
        let page = document::document(&sections, &[0.9, 0.99], "COMMAND", &[]);
        assert!(page.contains("| chiasm-exact |"), "{page}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn neighbours_of_another_base_are_refused_and_a_stop_is_one() {
        let folder = scratch("truth");
        let place = folder.join("place");
        make(500, 1, &place, &NoProgress, &Cancel::default()).unwrap();
        let wrong = vec![0u8; 50 * data::DEPTH * 4];
        std::fs::write(place.join("gt_ood.i32"), &wrong).unwrap();
        std::fs::write(place.join("gt_id.i32"), &wrong).unwrap();
        let plan = plan(vec![Source::Folder(place)]);
        let told = run(&plan, &folder, &NoProgress, &Cancel::default(), &mut |_| ()).unwrap_err().to_string();
        assert!(told.contains("query_ood.f32") && told.contains("are they of this base"), "{told}");
        let stop = Cancel::default();
        stop.cancel();
        assert!(matches!(run(&plan, &folder, &NoProgress, &stop, &mut |_| ()), Err(BenchError::Cancelled(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_peer_that_cannot_run_is_told_with_its_reason() {
        let folder = scratch("peers");
        let python = folder.join("python");
        std::fs::write(
            &python,
            "#!/bin/sh\nread -r line\necho '{\"error\": \"ModuleNotFoundError: no scann\"}'\nread -r line\n",
        )
        .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&python, mode).unwrap();
        let mut plan = plan(vec![Source::Made { rows: 300, seed: 2 }]);
        (plan.python, plan.peers, plan.threads, plan.turns) = (Some(python), vec!["scann"], vec![1], 1);
        let sections = run(&plan, &folder, &NoProgress, &Cancel::default(), &mut |_| ()).unwrap();
        let page = document::document(&sections, &[0.9], "COMMAND", &[]);
        assert!(page.contains("| scann | not measured: ModuleNotFoundError: no scann |"), "{page}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
