//! How fast folders of pictures are indexed beside rclip, clip-retrieval and a plain loop over open_clip, from the files to what is stored.
//!
//! Every contestant is a process of its own from its start to its end, with the same weights and the same files, and keeps its own ways of
//! using the cores. They take turns, so that a machine that is slow for a while is slow for all. CPU time is that of the process and all
//! it started, memory what they hold together (shared pages once).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chiasm_core::{Cancel, Progress};
use chiasm_encode::{Precision, instructions};
use serde::Serialize;
use serde_json::Value;

use crate::error::BenchError;
use crate::measure::{children_cpu_s, processor};

/// What others are compared with: the library that the checkpoint comes from.
const STANDARD: &str = "open_clip";
const RIVALS: [&str; 3] = [STANDARD, "rclip", "clip-retrieval"];
const OURS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];
/// Files of the run that tells what starting and loading take.
const FEW: usize = 32;
/// How often a process is looked at, and its memory.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_AT_MEMORY: Duration = Duration::from_millis(250);

const SCRIPT: &str = include_str!("../../../reference/bench_index_rivals.py");

/// What is run.
pub struct Plan {
    /// Folder of JPEG photos.
    pub photos: PathBuf,
    /// How many different files are made of them, more than 32.
    pub n_files: usize,
    /// Their longer edge, to which photos are enlarged; 0 for as they are.
    pub side: u32,
    /// Deviation of the noise that enlarged photos get, in steps of 255.
    pub noise: f64,
    /// Turns of each contestant, at least 1.
    pub turns: usize,
    /// The interpreter.
    pub python: PathBuf,
    /// This program.
    pub program: PathBuf,
}

/// What one contestant gave.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// Who.
    pub contestant: String,
    /// What it gave, or why it gave nothing.
    pub outcome: Result<Outcome, String>,
}

/// What a contestant's turn with the least CPU time took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    /// Seconds on the clock, from the start of the process to its end.
    pub wall_s: f64,
    /// Seconds of all threads and processes together.
    pub cpu_s: f64,
    /// Greatest memory of the process and those it started, in MiB; absent where the system does not say.
    pub peak_mib: Option<f64>,
    /// Seconds on the clock and of all threads that few files take.
    pub few: Option<[f64; 2]>,
    /// Least and mean cosine to the standard's embeddings.
    pub cosine: Option<[f64; 2]>,
}

#[derive(Clone, Copy)]
struct Took {
    wall_s: f64,
    cpu_s: f64,
    peak_mib: Option<f64>,
}

/// Runs the plan.
///
/// # Errors
/// [`BenchError`] when files or model cannot be made; a contestant that fails is told in its line.
pub fn run(plan: &Plan, folder: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Vec<Timing>, BenchError> {
    let script = folder.join("rivals.py");
    std::fs::write(&script, SCRIPT).map_err(|e| BenchError::File { path: script.clone(), reason: e.to_string() })?;
    let [model, many, few] = ["made", "many", "few"].map(|name| folder.join(name));
    let call = |what: &str, args: &[&str]| {
        let mut command = Command::new(&plan.python);
        command.arg(&script).arg(what).args(args);
        output(&mut command).map_err(|reason| BenchError::Rival { reason: format!("{what}: {reason}") })
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (photos, side, noise) = (text(&plan.photos), plan.side.to_string(), plan.noise.to_string());
    for (n, place) in [(plan.n_files, &many), (FEW, &few)] {
        call("files", &[&photos, &n.to_string(), &side, &noise, &text(place)])?;
    }
    call("make", &[&text(&model)])?;

    let names: Vec<String> = RIVALS.iter().map(|r| (*r).to_owned()).chain(OURS.iter().map(|p| ours(*p))).collect();
    let log = folder.join("said");
    progress.start("bench index", Some((names.len() * (plan.turns + 1)) as u64));
    let mut best: Vec<Result<Took, String>> = Vec::new();
    let mut starts = Vec::new();
    let outs: Vec<PathBuf> = (0..names.len()).map(|at| folder.join(format!("out-{at}"))).collect();
    let compare = || -> Result<Value, BenchError> {
        let pairs: Vec<String> = names.iter().zip(&outs).map(|(name, out)| format!("{name}={}", text(out))).collect();
        let told = call("compare", &pairs.iter().map(String::as_str).collect::<Vec<_>>())?;
        serde_json::from_str(&told).map_err(|e| BenchError::Rival { reason: format!("compare: {e}") })
    };
    for turn in 0..=plan.turns {
        for at in 0..names.len() {
            cancel.check()?;
            // The first turn is of few files and tells who can run at all.
            let files = if turn == 0 { &few } else { &many };
            let _ = std::fs::remove_dir_all(&outs[at]);
            let mut command = contestant(plan, &script, &model, at, files, &outs[at]);
            if turn == 0 {
                starts.push(timed(&mut command, &log, cancel)?);
            } else if starts[at].is_ok() {
                let took = timed(&mut command, &log, cancel)?;
                match best.get_mut(at) {
                    None => best.push(took),
                    Some(before) => {
                        if let (Ok(before), Ok(took)) = (&before, &took)
                            && before.cpu_s <= took.cpu_s
                        {
                            continue;
                        }
                        *before = took;
                    }
                }
            } else if turn == 1 {
                best.push(starts[at].as_ref().map(|took| *took).map_err(Clone::clone));
            }
            progress.advance(1);
        }
        if turn == 0 {
            // What comparing needs is missed now, not when all has been measured.
            compare()?;
        }
    }
    progress.finish();
    let told = compare()?;
    let outcome = |name: &str, took: Result<Took, String>, few: &Result<Took, String>| {
        let (took, about) = (took?, &told[name]);
        let n = about["n"].as_u64().unwrap_or(0);
        if n != plan.n_files as u64 {
            return Err(format!("stored {n} of {} embeddings", plan.n_files));
        }
        Ok(Outcome {
            wall_s: took.wall_s,
            cpu_s: took.cpu_s,
            peak_mib: took.peak_mib,
            few: few.as_ref().ok().map(|few| [few.wall_s, few.cpu_s]),
            cosine: about["least"].as_f64().zip(about["mean"].as_f64()).map(|(least, mean)| [least, mean]),
        })
    };
    let timings = names.iter().zip(best).zip(&starts);
    Ok(timings.map(|((name, took), few)| Timing { contestant: name.clone(), outcome: outcome(name, took, few) }).collect())
}

fn ours(precision: Precision) -> String {
    format!("chiasm {} ({})", precision.as_str(), instructions(precision))
}

/// The process of the contestant at a place.
fn contestant(plan: &Plan, script: &Path, model: &Path, at: usize, files: &Path, out: &Path) -> Command {
    if let Some(rival) = RIVALS.get(at) {
        let mut command = Command::new(&plan.python);
        command.arg(script).args(["run", rival]).args([model, files, out]);
        // Whatever it would look for elsewhere is not there.
        command.env("HF_HUB_OFFLINE", "1").env("WANDB_MODE", "disabled");
        return command;
    }
    let precision = OURS[at - RIVALS.len()];
    let mut command = Command::new(&plan.program);
    let name = format!("{}+{}", model.join("model").display(), precision.as_str());
    command.arg("index").arg(files).args(["--model", &name, "--library"]).arg(out);
    command
}

/// Runs a command to its end and gives what it wrote, or the last line of its complaint.
fn output(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(last_line(&done.stderr))
}

fn last_line(said: &[u8]) -> String {
    String::from_utf8_lossy(said).lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word").to_owned()
}

/// Ends the process when its owner goes away early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a contestant from its start to its end.
fn timed(command: &mut Command, log: &Path, cancel: &Cancel) -> Result<Result<Took, String>, BenchError> {
    // A file, not a pipe, which would have to be emptied meanwhile.
    let said = match std::fs::File::create(log) {
        Ok(said) => said,
        Err(e) => return Ok(Err(format!("{}: {e}", log.display()))),
    };
    let (cpu, start) = (children_cpu_s(), Instant::now());
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
    let mut child = match spawned {
        Ok(child) => Running(child),
        Err(e) => return Ok(Err(format!("{}: {e}", command.get_program().to_string_lossy()))),
    };
    let (mut peak_mib, mut looked) = (None::<f64>, Instant::now());
    let status = loop {
        cancel.check()?;
        match child.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(e) => return Ok(Err(e.to_string())),
        }
        if looked.elapsed() >= LOOK_AT_MEMORY {
            looked = Instant::now();
            peak_mib = [peak_mib, tree_mib(child.0.id())].into_iter().flatten().reduce(f64::max);
        }
        std::thread::sleep(LOOK);
    };
    let wall_s = start.elapsed().as_secs_f64();
    if !status.success() {
        return Ok(Err(last_line(&std::fs::read(log).unwrap_or_default())));
    }
    let cpu_s = cpu.zip(children_cpu_s()).map_or(0.0, |(before, after)| after - before);
    Ok(Ok(Took { wall_s, cpu_s, peak_mib }))
}

/// Memory of a process and all it started, in MiB, where the system tells.
fn tree_mib(pid: u32) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib: f64 = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let mut mib = kib / 1024.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        mib += children.split_whitespace().filter_map(|child| tree_mib(child.parse().ok()?)).sum::<f64>();
    }
    Some(mib)
}

/// The timings as a document; `command` is what makes it again.
pub fn document(timings: &[Timing], plan: &Plan, command: &str) -> String {
    let (cpu, cores) = processor();
    let profile = if cfg!(debug_assertions) {
        " The program was built with the development profile, whose kernels and decoders are optimised as in a release, the rest less."
    } else {
        ""
    };
    let size = match (plan.side, plan.noise) {
        (0, _) => "as they are".to_owned(),
        (side, 0.0) => format!("enlarged to {side} pixels along the longer edge"),
        (side, noise) => format!("enlarged to {side} pixels along the longer edge, with noise of deviation {noise}"),
    };
    let mut out = format!(
        "# How fast pictures are indexed\n\n*Written by `{command}`; not edited by hand. Processor: {cpu}, {cores} cores.{profile}*\n\n\
         {} JPEG files, {size}, and ViT-B-32-256 with random weights for all, the only model that rclip runs. Each contestant is a process of its \
         own, from its start to its end, and uses the cores in its own way; they take turns, and of each the turn with the least CPU time is \
         shown. *CPU* is time of all threads and processes for 1,000 files, *cores* that time over the clock's, *MiB* the greatest memory of \
         all its processes. *After start* are files a second and CPU time without what {FEW} files take, which is mostly starting and \
         loading. *Cosine* is to the embeddings that open_clip gave. *open_clip* is its model over a torch `DataLoader`, {} files at once.\n\n\
         | contestant | files/s | CPU, s | cores | MiB | files/s after start | CPU, s after start | cosine, least | cosine, mean |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        plan.n_files, FEW,
    );
    let n = plan.n_files as f64;
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for t in timings {
        let _ = match &t.outcome {
            Ok(o) => {
                let after =
                    o.few.map(|[wall, cpu]| [o.wall_s - wall, o.cpu_s - cpu]).filter(|[wall, cpu]| *wall > 0.0 && *cpu > 0.0);
                let rest = n - FEW as f64;
                writeln!(
                    out,
                    "| {} | {:.1} | {:.1} | {:.2} | {} | {} | {} | {} | {} |",
                    t.contestant,
                    n / o.wall_s,
                    o.cpu_s * 1000.0 / n,
                    o.cpu_s / o.wall_s,
                    or_dash(o.peak_mib.map(|m| format!("{m:.0}"))),
                    or_dash(after.map(|[wall, _]| format!("{:.1}", rest / wall))),
                    or_dash(after.map(|[_, cpu]| format!("{:.1}", cpu * 1000.0 / rest))),
                    or_dash(o.cosine.map(|[least, _]| format!("{least:.6}"))),
                    or_dash(o.cosine.map(|[_, mean]| format!("{mean:.6}"))),
                )
            }
            Err(reason) => writeln!(out, "| {} | could not be run: {reason} | | | | | | | |", t.contestant),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let path = PathBuf::from;
        Plan { photos: path("p"), n_files: 132, side: 0, noise: 0.0, turns: 1, python: path("python"), program: path("chiasm") }
    }

    #[test]
    fn the_document_tells_outcomes_and_failures() {
        let outcome =
            Outcome { wall_s: 10.0, cpu_s: 15.0, peak_mib: Some(900.0), few: Some([5.0, 5.0]), cosine: Some([0.5, 0.75]) };
        let timing = |name: &str, outcome| Timing { contestant: name.to_owned(), outcome };
        let text =
            document(&[timing("open_clip", Ok(outcome)), timing("rclip", Err("no module".to_owned()))], &plan(), "COMMAND");
        assert!(text.contains("| open_clip | 13.2 | 113.6 | 1.50 | 900 | 20.0 | 100.0 | 0.500000 | 0.750000 |"), "{text}");
        assert!(
            text.contains("132 JPEG files, as they are") && text.contains("| rclip | could not be run: no module |"),
            "{text}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_timed_with_all_it_started() {
        let log = std::env::temp_dir().join(format!("chiasm-bench-index-test-{}", std::process::id()));
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sh -c '{busy}' & sh -c '{busy}' & wait")]);
        let took = timed(&mut command, &log, &Cancel::default()).unwrap().unwrap();
        assert!(took.wall_s > 0.0 && took.cpu_s > 0.05, "{} s of {}", took.cpu_s, took.wall_s);
        let mut fails = Command::new("sh");
        fails.args(["-c", "echo first >&2; echo the reason >&2; exit 3"]);
        assert_eq!(timed(&mut fails, &log, &Cancel::default()).unwrap().err().unwrap(), "the reason");
        assert!(tree_mib(std::process::id()).is_none_or(|mib| mib > 1.0));
        let stopped = Cancel::default();
        stopped.cancel();
        assert!(timed(Command::new("sleep").arg("60"), &log, &stopped).is_err());
        std::fs::remove_file(log).unwrap();
    }
}
