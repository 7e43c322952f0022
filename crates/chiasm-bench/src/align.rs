//! How long fits take, beside numpy, scikit-learn and cca-zoo on the same arrays.
//!
//! Each run goes in turns, ours, theirs, ours, theirs, so that a machine that is slow for a while is slow for both. Ours of methods that need
//! only sums includes reading the files block by block; theirs begins with arrays of f64 in memory. What both compute is compared where the
//! problem is the same to the last digit: canonical correlations, and the bits of codes.

use std::fmt::Write;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use chiasm_align::{
    Anchors, CcaConfig, CmfhConfig, GccaConfig, KccaConfig, Kernel, KernelConfig, KernelRole, MethodConfig, Pairs, Run,
    ScmHashConfig, ViewConfig,
};
use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, Progress, SharedSpace, Vectors};
use chiasm_eval::features::{Limits, Source, open_rows, read_features};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::error::BenchError;
use crate::measure::{Cost, measured};
use crate::plot::{self, Axes, Line};
use crate::rivals::{Answer, Rivals};
use crate::stream;

/// Coordinates that CCA and its kin keep.
const COMPONENTS: usize = 8;
/// Ridge, relative to a view's mean variance.
const RIDGE: f64 = 1e-3;
/// Bits of a code, and rounds of an iteration.
const BITS: usize = 32;
const ROUNDS: usize = 20;
/// Rows up to which a kernel is exact; anchors above.
const EXACT: usize = 2000;
const ANCHORS: usize = 500;
const KAPPA: f64 = 1e-3;
const CLASSES: usize = 10;
/// Rows and bits of codes that are compared; the script of the rivals gives as many.
const CODES_COMPARED: (usize, usize) = (50, 8);

/// One comparison.
#[derive(Clone, Debug)]
pub struct Case {
    /// The method.
    pub method: &'static str,
    /// Rows.
    pub n: usize,
    /// Columns of each view.
    pub dims: Vec<usize>,
    /// Whom it is compared with.
    pub rivals: Vec<&'static str>,
    /// Turns.
    pub turns: usize,
}

/// What a comparison gave.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// The method.
    pub method: &'static str,
    /// Rows.
    pub n: usize,
    /// Columns of each view.
    pub dims: Vec<usize>,
    /// Ours: the least over the turns.
    pub ours: Cost,
    /// Theirs, by name: the least over the turns, or why there is none.
    pub rivals: Vec<(&'static str, Result<Cost, String>)>,
    /// Greatest difference between our numbers and numpy's, where both solve the same problem.
    pub apart: Option<f64>,
}

impl Timing {
    /// Our time over the fastest rival's.
    pub fn ratio(&self) -> Option<f64> {
        let fastest = self.rivals.iter().filter_map(|(_, cost)| cost.as_ref().ok()).map(|cost| cost.wall_s);
        fastest.min_by(f64::total_cmp).map(|theirs| self.ours.wall_s / theirs)
    }
}

/// The comparisons: `small` takes a minute or two, the whole a good half hour.
pub fn cases(small: bool) -> Vec<Case> {
    let case = |method, n, dims: &[usize], rivals: &[&'static str], turns| Case {
        method,
        n,
        dims: dims.to_vec(),
        rivals: rivals.to_vec(),
        turns,
    };
    let mut all = vec![
        case("cca", 2_000, &[128, 10], &["numpy", "scikit-learn", "cca-zoo"], 5),
        case("cca", 2_000, &[512, 256], &["numpy", "scikit-learn", "cca-zoo"], 3),
        case("gcca", 2_000, &[256, 128, 64], &["numpy", "cca-zoo"], 3),
        case("kcca", 2_000, &[128, 64], &["numpy", "cca-zoo"], 3),
        case("scm-seq", 2_000, &[128, 64], &["numpy"], 5),
        case("cmfh", 2_000, &[128, 64], &["numpy"], 5),
    ];
    if small {
        return all;
    }
    for n in [20_000, 200_000] {
        let zoo: &[&'static str] = if n < 100_000 { &["numpy", "cca-zoo"] } else { &["numpy"] };
        all.extend([
            case("cca", n, &[128, 10], zoo, 3),
            case("cca", n, &[512, 256], zoo, 3),
            case("gcca", n, &[256, 128, 64], &["numpy"], 3),
            case("kcca", n, &[128, 64], &["numpy"], 3),
            case("scm-seq", n, &[128, 64], &["numpy"], 3),
            case("cmfh", n, &[128, 64], &["numpy"], 3),
        ]);
    }
    all.push(case("cca", 20_000, &[4096, 1024], &["numpy"], 2));
    all.push(case("gcca", 20_000, &[1024, 512, 256], &["numpy"], 2));
    all
}

/// Runs the comparisons; without rivals ours alone.
///
/// # Errors
/// [`BenchError`]; a rival that fails at one comparison is told in its line.
pub fn run(
    cases: &[Case],
    folder: &Path,
    mut rivals: Option<Rivals>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<Timing>, BenchError> {
    let mut timings = Vec::new();
    progress.start("bench align", Some(cases.len() as u64));
    for case in cases {
        cancel.check()?;
        timings.push(compare(case, folder, rivals.as_mut(), cancel)?);
        progress.advance(1);
    }
    progress.finish();
    Ok(timings)
}

/// The quickest fit so far, and what it gave.
struct Least {
    cost: Cost,
    values: Vec<f64>,
}

impl Least {
    fn of(before: Option<Self>, now: Self) -> Self {
        before.filter(|before| before.cost.wall_s <= now.cost.wall_s).unwrap_or(now)
    }
}

fn compare(case: &Case, folder: &Path, mut rivals: Option<&mut Rivals>, cancel: &Cancel) -> Result<Timing, BenchError> {
    let world = World::write(case, folder)?;
    let method = method(case);
    let run = Run { seed: 0, progress: &NoProgress, cancel, draft: None };
    let request = |rival: &str| {
        json!({
            "method": case.method, "rival": rival, "views": world.views, "labels": world.labels, "components": COMPONENTS,
            "ridge": RIDGE, "bits": BITS, "rounds": ROUNDS, "anchors": if case.n <= EXACT { EXACT } else { ANCHORS }, "kappa": KAPPA,
            "gammas": case.dims.iter().map(|d| gamma(*d)).collect::<Vec<_>>(), "seed": 0,
        })
    };
    let memory = if by_sums(case.method) { None } else { Some(world.read()?) };
    let mut ours: Option<Least> = None;
    let asked = if rivals.is_some() { &case.rivals[..] } else { &[] };
    let mut theirs: Vec<Result<Option<Least>, String>> = asked.iter().map(|_| Ok(None)).collect();
    for _turn in 0..case.turns {
        cancel.check()?;
        ours = Some(Least::of(ours, fit(case, &world, memory.as_ref(), &method, &run)?));
        let Some(rivals) = rivals.as_mut() else { continue };
        for (name, known) in asked.iter().zip(&mut theirs) {
            // One that failed, or took minutes, is not asked again.
            let Ok(before) = known else { continue };
            if before.as_ref().is_some_and(|least| least.cost.wall_s > 60.0) {
                continue;
            }
            let least =
                |a: Answer| Least { cost: Cost { wall_s: a.wall, cpu_s: Some(a.cpu), extra_mib: None }, values: a.values };
            *known = match rivals.ask(&request(name)) {
                Ok(answer) => Ok(Some(Least::of(before.take(), least(answer)))),
                Err(error) => Err(error.to_string()),
            };
        }
    }
    if let Some(rivals) = rivals.as_mut() {
        // Gives the arrays' memory back; the answer holds nothing.
        let mut forget = request("numpy");
        forget["forget"] = json!(true);
        let _ = rivals.ask(&forget);
    }
    world.remove();
    let ours = ours.ok_or_else(|| BenchError::Rival { reason: "a comparison takes at least one turn".to_owned() })?;
    let same = match case.method {
        "cca" | "gcca" | "scm-seq" => true,
        "kcca" => case.n <= EXACT,
        _ => false,
    };
    let numpy = asked.iter().zip(&theirs).find(|(name, _)| **name == "numpy").and_then(|(_, of)| of.as_ref().ok()?.as_ref());
    let apart = numpy.filter(|_| same).map(|theirs| apart(case.method, &ours.values, &theirs.values));
    let cost = |of: Result<Option<Least>, String>| of.map(|least| least.map_or_else(Cost::default, |least| least.cost));
    let rivals = asked.iter().copied().zip(theirs.into_iter().map(cost)).collect();
    Ok(Timing { method: case.method, n: case.n, dims: case.dims.clone(), ours: ours.cost, rivals, apart })
}

/// One fit of ours, with what is compared: correlations, of codes the first bits of the first rows.
fn fit(
    case: &Case,
    world: &World,
    memory: Option<&(Vec<Vectors>, Labels)>,
    method: &MethodConfig,
    run: &Run<'_>,
) -> Result<Least, BenchError> {
    let (fitted, cost) = measured(|| match memory {
        None => world.stream(method, run),
        Some((views, labels)) => {
            let views: Vec<MatrixView<'_>> = views.iter().map(Vectors::view).collect();
            let pairs = Pairs { labels: Some(labels), ..Pairs::new(views) };
            let failed = |source| BenchError::Fit { method: case.method.to_owned(), task: "bench align".to_owned(), source };
            method.fit(&pairs, run).map_err(failed)
        }
    });
    let space = fitted?;
    let values = match memory {
        Some((views, _)) if case.method == "scm-seq" => {
            let (rows, d) = (CODES_COMPARED.0, views[0].dim());
            let codes = space.project(0, MatrixView::new(&views[0].data()[..rows * d], d)?)?;
            let places = (0..CODES_COMPARED.1).flat_map(|bit| (0..rows).map(move |row| (row, bit)));
            places.map(|(row, bit)| f64::from(codes.row(row)[bit])).collect()
        }
        _ => space.about().correlations.iter().map(|c| f64::from(*c)).collect(),
    };
    Ok(Least { cost, values })
}

/// Width of a Gaussian kernel on so many columns.
fn gamma(d: usize) -> f64 {
    1.0 / (2.0 * d as f64)
}

/// Methods that are fitted from files by sums.
fn by_sums(method: &str) -> bool {
    matches!(method, "cca" | "gcca")
}

/// Greatest difference of correlations; of codes the share of bits that differ, a whole bit position being free to be turned.
fn apart(method: &str, ours: &[f64], theirs: &[f64]) -> f64 {
    if method != "scm-seq" {
        return ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    }
    let (rows, _) = CODES_COMPARED;
    let differing = |(a, b): (&[f64], &[f64])| a.iter().zip(b).filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
    let bits = ours.chunks(rows).zip(theirs.chunks(rows)).map(|pair| differing(pair).min(rows - differing(pair)));
    bits.sum::<usize>() as f64 / ours.len().max(1) as f64
}

fn method(case: &Case) -> MethodConfig {
    let view = ViewConfig { ridge: RIDGE, ..ViewConfig::default() };
    match case.method {
        "gcca" => MethodConfig::Gcca(GccaConfig { views: vec![view], max_components: COMPONENTS, correlation_power: 0.0 }),
        "kcca" => {
            let kernel = |d: usize| KernelConfig {
                kernel: Kernel::Rbf,
                gamma: Some(gamma(d)),
                sharpness: 1.0,
                max_exact_rows: EXACT,
                max_anchors: ANCHORS,
                anchors: Anchors::Random,
                role: KernelRole::Geometry,
            };
            let kernels = [kernel(case.dims[0]), kernel(case.dims[1])];
            MethodConfig::Kcca(KccaConfig { kernels, kappa: KAPPA, max_components: COMPONENTS, ..KccaConfig::default() })
        }
        "scm-seq" => {
            // Columns of these arrays have a variance near 1; the paper's ridge on X'X is 1e-6.
            let view = ViewConfig { ridge: 1e-6 / case.n as f64, ..ViewConfig::default() };
            MethodConfig::ScmHash(ScmHashConfig { views: [view; 2], bits: BITS, ..ScmHashConfig::default() })
        }
        "cmfh" => MethodConfig::Cmfh(CmfhConfig { bits: BITS, iterations: ROUNDS, ..CmfhConfig::default() }),
        _ => MethodConfig::Cca(CcaConfig { views: [view; 2], max_components: COMPONENTS, correlation_power: 0.0 }),
    }
}

/// The arrays of one comparison as files.
struct World {
    views: Vec<PathBuf>,
    labels: PathBuf,
}

impl World {
    /// Views of 32 hidden numbers, mixed differently in each, with noise; the class is where the first is.
    fn write(case: &Case, folder: &Path) -> Result<Self, BenchError> {
        const HIDDEN: usize = 32;
        const CHUNK: usize = 1000;
        let uniform = |rng: &mut ChaCha8Rng| rng.random_range(-1.0f32..1.0);
        let mixes: Vec<Vec<f32>> = case
            .dims
            .iter()
            .enumerate()
            .map(|(v, d)| {
                let mut rng = ChaCha8Rng::seed_from_u64(v as u64);
                (0..HIDDEN * d).map(|_| 0.3 * uniform(&mut rng)).collect()
            })
            .collect();
        let views: Vec<PathBuf> = (0..case.dims.len()).map(|v| folder.join(format!("view{v}.npy"))).collect();
        let labels = folder.join("labels.npy");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |e: std::io::Error| BenchError::File { path, reason: e.to_string() }
        };
        let open = |path: &PathBuf, d: Option<usize>| -> Result<BufWriter<File>, BenchError> {
            let mut file = BufWriter::new(File::create(path).map_err(failed(path))?);
            let shape = d.map_or(format!("({},)", case.n), |d| format!("({}, {d})", case.n));
            let mut head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
            // The magic, the length and the head fill a multiple of 64 bytes.
            while !(head.len() + 11).is_multiple_of(64) {
                head.push(' ');
            }
            head.push('\n');
            let bytes = [b"\x93NUMPY\x01\x00", &(head.len() as u16).to_le_bytes()[..], head.as_bytes()].concat();
            file.write_all(&bytes).map_err(failed(path))?;
            Ok(file)
        };
        let mut files = views.iter().zip(&case.dims).map(|(path, d)| open(path, Some(*d))).collect::<Result<Vec<_>, _>>()?;
        let mut classes = open(&labels, None)?;
        for first in (0..case.n).step_by(CHUNK) {
            let rows = CHUNK.min(case.n - first);
            let mut rng = ChaCha8Rng::seed_from_u64(1000 + first as u64);
            let hidden: Vec<f32> = (0..rows * HIDDEN).map(|_| uniform(&mut rng) + uniform(&mut rng)).collect();
            let class = |h: &[f32]| (((h[0] + 2.0) / 4.0 * CLASSES as f32) as usize).min(CLASSES - 1) as f32;
            let of: Vec<u8> = hidden.chunks(HIDDEN).flat_map(|h| class(h).to_le_bytes()).collect();
            classes.write_all(&of).map_err(failed(&labels))?;
            let seeds: Vec<u64> = (0..case.dims.len()).map(|_| rng.random()).collect();
            for (v, (file, d)) in files.iter_mut().zip(&case.dims).enumerate() {
                let noisy = |(i, h): (usize, &[f32])| -> Vec<u8> {
                    let mut rng = ChaCha8Rng::seed_from_u64(seeds[v].wrapping_add(i as u64));
                    let mut row = vec![0.0f32; *d];
                    for (h, mix) in h.iter().zip(mixes[v].chunks(*d)) {
                        row.iter_mut().zip(mix).for_each(|(x, m)| *x += h * m);
                    }
                    row.into_iter().flat_map(|x| (x + uniform(&mut rng)).to_le_bytes()).collect()
                };
                let block: Vec<Vec<u8>> = hidden.par_chunks(HIDDEN).enumerate().map(noisy).collect();
                file.write_all(&block.concat()).map_err(failed(&views[v]))?;
            }
        }
        for (file, path) in files.iter_mut().zip(&views).chain([(&mut classes, &labels)]) {
            file.flush().map_err(failed(path))?;
        }
        Ok(Self { views, labels })
    }

    fn stream(&self, method: &MethodConfig, run: &Run<'_>) -> Result<chiasm_align::PipelineSpace, BenchError> {
        let source = |path: &PathBuf| Source { path: path.clone(), name: None, transposed: false };
        let mut readers =
            self.views.iter().map(|path| open_rows(&source(path), &Limits::default())).collect::<Result<Vec<_>, _>>()?;
        let summed = stream::sum(method, &mut readers, None, false, run)?;
        method.fit_moments(&summed.moments, run).map_err(BenchError::Sum)
    }

    fn read(&self) -> Result<(Vec<Vectors>, Labels), BenchError> {
        let source = |path: &PathBuf| Source { path: path.clone(), name: None, transposed: false };
        let read = |path: &PathBuf| Ok(read_features(&source(path), &Limits::default())?.into_vectors()?);
        let views = self.views.iter().map(read).collect::<Result<_, BenchError>>()?;
        Ok((views, chiasm_eval::features::read_labels(&source(&self.labels), &Limits::default())?.0))
    }

    fn remove(&self) {
        // They lie in a folder that goes away as well.
        self.views.iter().chain([&self.labels]).for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// The timings as a document; `command` is what makes it again.
pub fn document(timings: &[Timing], command: &str) -> String {
    let mut out = format!(
        "# How long a fit takes\n\n*Written by `{command}`; not edited by hand.*\n\n\
         The same arrays for all, made by the command: 32 hidden numbers mixed into each view, with noise. Ours and the rivals' take turns in \
         one run; the least of the turns is shown, seconds on the clock and in brackets CPU seconds of all threads. Ours of CCA and GCCA \
         reads its files block by block within that time and holds sums only; the rivals begin with arrays of f64 in memory. MiB is what our \
         fit took on top of what the process held. *Ratio* is our time over the fastest rival's, below 1 where ours is faster. *Apart* is \
         the greatest difference of the canonical correlations from numpy's, for SCM-seq the share of differing bits in the first 8 of 50 \
         rows. KCCA is exact up to {EXACT} rows and goes through {ANCHORS} anchors above, where each side draws its own; CMFH starts at \
         random: neither is compared there. {COMPONENTS} coordinates, ridge {RIDGE}; {BITS} bits; CMFH {ROUNDS} rounds.\n\n\
         | method | rows | columns | ours, s (CPU) | MiB | rivals, s (CPU) | ratio | apart |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let cost = |c: &Cost| {
        let digits = if c.wall_s < 0.1 { 4 } else { 2 };
        format!("{:.digits$} ({:.2})", c.wall_s, c.cpu_s.unwrap_or(f64::NAN))
    };
    for t in timings {
        let dims: Vec<String> = t.dims.iter().map(usize::to_string).collect();
        let rival = |(name, of): &(&str, Result<Cost, String>)| match of {
            Ok(c) => format!("{name} {}", cost(c)),
            Err(reason) => format!("{name}: {reason}"),
        };
        let rivals: Vec<String> = t.rivals.iter().map(rival).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            t.method,
            t.n,
            dims.join(" x "),
            cost(&t.ours),
            t.ours.extra_mib.map_or("-".to_owned(), |m| format!("{m:.0}")),
            rivals.join("; "),
            t.ratio().map_or("-".to_owned(), |r| format!("{r:.2}")),
            t.apart.map_or("-".to_owned(), |a| format!("{a:.1e}")),
        );
    }
    out
}

/// Time against rows: for each method ours, and the fastest rival's; of several widths the one that most sizes have.
pub fn plot(timings: &[Timing]) -> String {
    let mut lines: Vec<Line> = Vec::new();
    let mut methods: Vec<(&str, &[usize])> = timings.iter().map(|t| (t.method, &t.dims[..])).collect();
    methods.sort_unstable();
    methods.dedup();
    for (method, dims) in methods {
        let of = || timings.iter().filter(move |t| t.method == method && t.dims == dims);
        if of().count() < 2 {
            continue;
        }
        let width = dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let ours = of().map(|t| (t.n as f64, t.ours.wall_s)).collect();
        let theirs = of().filter_map(|t| Some((t.n as f64, t.ours.wall_s / t.ratio()?))).collect();
        lines.push(Line { name: format!("{method} {width}"), points: ours, beside: false });
        lines.push(Line { name: "fastest rival".to_owned(), points: theirs, beside: true });
    }
    let axes = Axes {
        title: "Time of a fit against rows".to_owned(),
        x: "rows".to_owned(),
        x_ticks: Vec::new(),
        y: "seconds".to_owned(),
        log_y: true,
    };
    plot::svg(&axes, &lines)
}
