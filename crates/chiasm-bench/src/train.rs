//! How fast towers are trained beside PyTorch: the same sizes, batch and optimiser on the same processor, turn by turn.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chiasm_core::{Cancel, Progress};
use chiasm_nn::Precision;
use chiasm_train::{Probe, Probed};
use serde::Serialize;
use serde_json::json;

use crate::error::BenchError;
use crate::measure::{cpu_s, processor};
use crate::rivals::Rivals;

const SCRIPT: &str = include_str!("../../../reference/bench_train_rivals.py");

/// What dense layers multiply in.
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];
/// Towers, their name, pairs of a batch, and steps of a turn.
const PROBES: [(Probed, &str, usize, usize); 2] = [(Probed::Mlp, "mlp", 256, 40), (Probed::VitTiny, "vit-tiny", 16, 2)];

/// What is run.
pub struct Plan {
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Turns of each contestant, at least 1.
    pub turns: usize,
    /// The interpreter; ours alone without one.
    pub python: Option<PathBuf>,
}

/// What one contestant gave.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// The towers.
    pub probe: &'static str,
    /// Threads it may use.
    pub threads: usize,
    /// What dense layers multiply in: `f32`, or `bf16` with sums in single precision.
    pub precision: &'static str,
    /// Who.
    pub contestant: &'static str,
    /// Pairs per second, of the best turn.
    pub pairs_per_s: f64,
    /// Milliseconds of all threads for a pair, of the best turn.
    pub cpu_ms: f64,
}

/// Trains in turns.
///
/// # Errors
/// [`BenchError`].
pub fn run(plan: &Plan, folder: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Vec<Timing>, BenchError> {
    let failed = |e: String| BenchError::Rival { reason: e };
    let mut timings = Vec::new();
    for threads in &plan.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build().map_err(|e| failed(e.to_string()))?;
        let mut rival = match &plan.python {
            Some(python) => {
                let script = folder.join("train_rivals.py");
                std::fs::write(&script, SCRIPT).map_err(|e| failed(format!("{}: {e}", script.display())))?;
                Some(Rivals::spawn(Command::new(python).arg(&script).arg(threads.to_string()), "torch")?)
            }
            None => None,
        };
        let rows = PRECISIONS.into_iter().flat_map(|precision| PROBES.map(|probe| (precision, probe)));
        for (precision, (probed, name, batch, steps)) in rows {
            progress.start(&format!("{name} in {}, {threads} threads", precision.as_str()), Some(plan.turns as u64 + 1));
            let mut probe = Probe::new(probed, batch, precision);
            // Seconds on the clock and of all threads, least of all turns; the first turn of each warms up.
            let mut least = [[f64::INFINITY; 2]; 2];
            for turn in 0..=plan.turns {
                cancel.check()?;
                let (began, before) = (Instant::now(), cpu_s());
                pool.install(|| {
                    for _ in 0..steps {
                        probe.step();
                    }
                });
                let ours =
                    [began.elapsed().as_secs_f64(), before.zip(cpu_s()).map_or(f64::NAN, |(before, after)| after - before)];
                let theirs = match &mut rival {
                    Some(rival) => {
                        let answer = rival
                            .ask(&json!({ "probe": name, "batch": batch, "steps": steps, "precision": precision.as_str() }))?;
                        Some([answer.wall, answer.cpu])
                    }
                    None => None,
                };
                for (least, took) in least.iter_mut().zip([Some(ours), theirs]).filter(|_| turn > 0) {
                    let Some(took) = took else { continue };
                    (0..2).for_each(|i| least[i] = least[i].min(took[i]));
                }
                progress.advance(1);
            }
            progress.finish();
            let n_pairs = (batch * steps) as f64;
            for (contestant, [wall, cpu]) in
                ["chiasm", "PyTorch"].into_iter().zip(least).filter(|(_, took)| took[0].is_finite())
            {
                timings.push(Timing {
                    probe: name,
                    threads: *threads,
                    precision: precision.as_str(),
                    contestant,
                    pairs_per_s: n_pairs / wall,
                    cpu_ms: 1e3 * cpu / n_pairs,
                });
            }
        }
    }
    Ok(timings)
}

/// The timings as a document; `command` is what makes it again.
pub fn document(timings: &[Timing], plan: &Plan, command: &str) -> String {
    let (name, cores) = processor();
    let mut out = format!(
        "# Training beside PyTorch\n\n*Written by `{command}`; not edited by hand.*\n\n\
         {name}, {cores} cores. Both train the same towers on the same batch by AdamW and take turns; shown is the best of {} turns. \
         Dense layers multiply in single precision, or in bfloat16 with sums in single precision: PyTorch by `autocast`, which has attention multiply so too, ours without it. \
         `mlp`: two towers of dense layers, 512, 1024 and 256 numbers, 256 pairs a step. `vit-tiny`: ViT-Ti/16 at 224 pixels and a text transformer of its \
         size over 32 words, 16 pairs a step. Ratios are PyTorch's times over ours: above 1, ours is faster.\n\n\
         | towers | dense layers | threads | pairs/s, chiasm | pairs/s, PyTorch | ratio of times | CPU ms a pair, chiasm | PyTorch | ratio of CPU times |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        plan.turns
    );
    for ours in timings.iter().filter(|t| t.contestant == "chiasm") {
        let same = |t: &&Timing| (t.probe, t.precision, t.threads) == (ours.probe, ours.precision, ours.threads);
        let theirs = timings.iter().find(|t| t.contestant != "chiasm" && same(t));
        let cell = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.0} | {} | {} | {:.2} | {} | {} |",
            ours.probe,
            ours.precision,
            ours.threads,
            ours.pairs_per_s,
            cell(theirs.map(|t| t.pairs_per_s), 0),
            cell(theirs.map(|t| ours.pairs_per_s / t.pairs_per_s), 2),
            ours.cpu_ms,
            cell(theirs.map(|t| t.cpu_ms), 2),
            cell(theirs.map(|t| t.cpu_ms / ours.cpu_ms), 2),
        );
    }
    out
}
