//! How fast encoders run beside onnxruntime, OpenVINO and torch on the same weights and the same input.
//!
//! Every contestant, ours among them, is a process of its own that answers a line for a line, so that memory is told apart and CPU time is
//! that of all its threads. They take turns, so that a machine that is slow for a while is slow for all. Ours are timed from decoded media
//! on (pixels are normalised, texts cut to tokens), the rivals from preprocessed input on.

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use chiasm_core::{Cancel, Encoder, Image, Media, Modality, Progress, Waveform};
use chiasm_encode::{ModelDirs, Precision, instructions, open, towers};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::BenchError;
use crate::measure::{cpu_s, processor, status_mib};
use crate::rivals::{Answer, Rivals};

/// The models, as the script of the rivals makes them.
pub const MODELS: [&str; 6] = ["ViT-B-32", "ViT-B-16", "ViT-L-14", "CLIP-text", "MiniLM", "AST"];
/// Items at once.
const BATCHES: [usize; 2] = [1, 16];
/// The rival that others are measured against.
const STANDARD: &str = "onnxruntime";
const RIVALS: [&str; 5] = [STANDARD, "onnxruntime int8", "openvino", "openvino bf16", "torch"];
const OURS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];
/// Seconds that a turn is meant to take.
const TURN_S: f64 = 1.0;
/// Side of the pictures, samples of the sounds and their rate, as the script writes them.
const SIDE: u32 = 224;
const SAMPLES: usize = 160_000;
const SAMPLE_RATE_HZ: u32 = 16_000;

const SCRIPT: &str = include_str!("../../../reference/bench_encode_rivals.py");

/// What is run.
pub struct Plan {
    /// Some of [`MODELS`].
    pub models: Vec<&'static str>,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Turns of each contestant, at least 1.
    pub turns: usize,
    /// The interpreter.
    pub python: PathBuf,
    /// This program, which `bench encode-worker` makes a contestant.
    pub program: PathBuf,
}

/// What one contestant gave.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// The model.
    pub model: &'static str,
    /// Threads it may use.
    pub threads: usize,
    /// Items at once.
    pub batch: usize,
    /// Who.
    pub contestant: String,
    /// What it gave, or why it gave nothing.
    pub outcome: Result<Outcome, String>,
}

/// What a contestant's best turn took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    /// Milliseconds on the clock for an item.
    pub wall_ms: f64,
    /// Milliseconds of all threads for an item.
    pub cpu_ms: f64,
    /// Greatest resident memory of the process, in MiB, loading included.
    pub peak_mib: f64,
    /// CPU time over the standard rival's.
    pub cpu_ratio: Option<f64>,
    /// Least cosine to the standard rival's embeddings.
    pub cosine: Option<f64>,
    /// Largest difference from them.
    pub apart: Option<f64>,
    /// Milliseconds from the start of loading to being ready, of ours.
    pub load_ms: Option<f64>,
}

/// Runs the plan; `so_far` hears of all timings after every batch of a model.
///
/// # Errors
/// [`BenchError`] when models cannot be made; a contestant that fails is told in its line.
pub fn run(
    plan: &Plan,
    folder: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
    so_far: &mut dyn FnMut(&[Timing]),
) -> Result<Vec<Timing>, BenchError> {
    let script = folder.join("rivals.py");
    std::fs::write(&script, SCRIPT).map_err(|e| BenchError::File { path: script.clone(), reason: e.to_string() })?;
    let mut timings = Vec::new();
    progress.start("bench encode", Some((plan.models.len() * plan.threads.len() * BATCHES.len()) as u64));
    for model in &plan.models {
        let place = folder.join(model);
        make(plan, &script, model, &place)?;
        for threads in &plan.threads {
            let mut contestants = contestants(plan, &script, &place, *threads);
            for batch in BATCHES {
                cancel.check()?;
                timings.extend(turns(plan, model, *threads, batch, &mut contestants, cancel)?);
                so_far(&timings);
                progress.advance(1);
            }
        }
        // It lies in a folder that goes away as well.
        let _ = std::fs::remove_dir_all(&place);
    }
    progress.finish();
    Ok(timings)
}

/// Makes the checkpoint, its graphs and its input.
fn make(plan: &Plan, script: &Path, model: &str, place: &Path) -> Result<(), BenchError> {
    let failed = |reason: String| BenchError::Rival { reason: format!("making {model}: {reason}") };
    let made = Command::new(&plan.python)
        .args([script.as_os_str(), "make".as_ref(), model.as_ref(), place.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("{}: {e}", plan.python.display())))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(failed(said.lines().last().unwrap_or("the interpreter failed").to_owned()))
}

/// A name, and the process, or why there is none.
type Contestant = (String, Result<Rivals, String>);
/// The best turn so far and the rounds in it, or why there is none.
type Best = Result<Option<(Answer, u32)>, String>;

fn contestants(plan: &Plan, script: &Path, place: &Path, threads: usize) -> Vec<Contestant> {
    let n = threads.to_string();
    let ours = OURS.iter().map(|precision| {
        let mut command = Command::new(&plan.program);
        command.args(["bench", "encode-worker"]).arg(place).arg(precision.as_str()).env("RAYON_NUM_THREADS", &n);
        (format!("chiasm {} ({})", precision.as_str(), instructions(*precision)), command, "this model")
    });
    let theirs = RIVALS.iter().map(|rival| {
        let mut command = Command::new(&plan.python);
        command.arg(script).args(["run", rival]).arg(place).arg(&n).env("OMP_NUM_THREADS", &n);
        ((*rival).to_owned(), command, "onnxruntime, openvino, torch and transformers")
    });
    ours.chain(theirs)
        .map(|(name, mut command, needs)| (name, Rivals::spawn(&mut command, needs).map_err(|e| e.to_string())))
        .collect()
}

/// All contestants at one batch, in turns.
fn turns(
    plan: &Plan,
    model: &'static str,
    threads: usize,
    batch: usize,
    contestants: &mut [Contestant],
    cancel: &Cancel,
) -> Result<Vec<Timing>, BenchError> {
    let mut best: Vec<Best> = contestants.iter().map(|_| Ok(None)).collect();
    for _turn in 0..plan.turns {
        for ((_, process), best) in contestants.iter_mut().zip(&mut best) {
            cancel.check()?;
            // One that failed is not asked again.
            let Ok(before) = best else { continue };
            let answer = process.as_mut().map_err(|e| e.clone()).and_then(|process| {
                // The first round tells how many make a turn.
                let rounds = match before {
                    Some((_, rounds)) => *rounds,
                    None => {
                        let first: Answer = process.ask(&json!({ "batch": batch, "rounds": 1 })).map_err(|e| e.to_string())?;
                        (TURN_S / first.wall.max(1e-4)).clamp(1.0, 200.0) as u32
                    }
                };
                let answer = process.ask(&json!({ "batch": batch, "rounds": rounds })).map_err(|e| e.to_string())?;
                Ok((answer, rounds))
            });
            *best = answer.map(|now| match before.take() {
                Some(before) if before.0.cpu <= now.0.cpu => Some(before),
                _ => Some(now),
            });
        }
    }
    let standard = contestants.iter().position(|(name, _)| name == STANDARD);
    let standard = standard.and_then(|at| best[at].as_ref().ok()?.clone());
    let per_item = |seconds: f64, rounds: u32| seconds * 1000.0 / f64::from(rounds) / batch as f64;
    let timing = |((name, _), best): (&Contestant, &Best)| {
        let outcome = best.as_ref().map_err(Clone::clone).and_then(|best| {
            let (answer, rounds) = best.as_ref().ok_or("no turn was taken")?;
            let cpu_ms = per_item(answer.cpu, *rounds);
            let values = standard.as_ref().map(|(s, _)| &s.values).filter(|values| values.len() == answer.values.len());
            Ok(Outcome {
                wall_ms: per_item(answer.wall, *rounds),
                cpu_ms,
                peak_mib: answer.peak_mib,
                cpu_ratio: standard.as_ref().map(|(s, rounds)| cpu_ms / per_item(s.cpu, *rounds)),
                cosine: values.map(|values| least_cosine(&answer.values, values, batch)),
                apart: values.map(|values| answer.values.iter().zip(values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)),
                load_ms: (answer.load > 0.0).then_some(answer.load * 1000.0),
            })
        });
        Timing { model, threads, batch, contestant: name.clone(), outcome }
    };
    Ok(contestants.iter().zip(&best).map(timing).collect())
}

/// The least cosine between rows of the same place.
fn least_cosine(a: &[f64], b: &[f64], rows: usize) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let width = a.len() / rows;
    let rows = a.chunks(width.max(1)).zip(b.chunks(width.max(1)));
    rows.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).fold(1.0, f64::min)
}

#[derive(Deserialize)]
struct Request {
    batch: usize,
    rounds: u32,
}

/// Our contestant: answers requests until their end.
///
/// # Errors
/// [`BenchError`] when the model does not open or its input is not there.
pub fn serve(folder: &Path, precision: &str, requests: &mut dyn BufRead, answers: &mut dyn Write) -> Result<(), BenchError> {
    let failed = |reason: String| BenchError::File { path: folder.to_owned(), reason };
    let kind = std::fs::read_to_string(folder.join("kind")).map_err(|e| failed(format!("kind: {e}")))?;
    let models = ModelDirs::new(Vec::new());
    let path = folder.to_string_lossy();
    let tower = if towers(&path, &models)?.len() > 1 { format!(":{kind}") } else { String::new() };
    let start = Instant::now();
    let encoder = open(&format!("{path}{tower}+{precision}"), &models)?;
    let load = start.elapsed().as_secs_f64();
    let mut warm = None;
    let mut line = String::new();
    while requests.read_line(&mut line).map_err(|e| failed(e.to_string()))? > 0 {
        let request: Request = serde_json::from_str(&line).map_err(|e| failed(e.to_string()))?;
        line.clear();
        let media = input(folder, &kind, request.batch)?;
        if warm != Some(request.batch) {
            encoder.encode(&media)?;
            warm = Some(request.batch);
        }
        let answer = timed(encoder.as_ref(), &media, request.rounds)?;
        let answer = json!({
            "wall": answer.wall, "cpu": answer.cpu, "values": answer.values, "load": load,
            "peak_mib": status_mib("VmHWM").unwrap_or_default(),
        });
        writeln!(answers, "{answer}").and_then(|()| answers.flush()).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

struct Timed {
    wall: f64,
    cpu: f64,
    values: Vec<f32>,
}

fn timed(encoder: &dyn Encoder, media: &[Media], rounds: u32) -> Result<Timed, BenchError> {
    let (cpu, start) = (cpu_s(), Instant::now());
    let mut values = Vec::new();
    for _ in 0..rounds {
        values = encoder.encode(media)?.data().to_vec();
    }
    let wall = start.elapsed().as_secs_f64();
    Ok(Timed { wall, cpu: cpu.zip(cpu_s()).map_or(0.0, |(before, after)| after - before), values })
}

/// The first items of what the script has written for a model.
fn input(folder: &Path, kind: &str, batch: usize) -> Result<Vec<Media>, BenchError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|e| BenchError::File { path, reason: e.to_string() })
    };
    let unknown = || BenchError::File { path: folder.join("kind"), reason: format!("`{kind}` is no kind of media") };
    Ok(match kind.parse::<Modality>().map_err(|_| unknown())? {
        Modality::Text => {
            let texts = String::from_utf8_lossy(&read("input.txt")?).into_owned();
            texts.lines().take(batch).map(|line| Media::Text(line.to_owned())).collect()
        }
        Modality::Audio => {
            let samples: Vec<f32> = read("input.f32")?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let wave = |samples: &[f32]| Media::Audio(Waveform { sample_rate_hz: SAMPLE_RATE_HZ, samples: samples.to_vec() });
            samples.chunks_exact(SAMPLES).take(batch).map(wave).collect()
        }
        Modality::Image => {
            let picture = |rgb: &[u8]| Media::Image(Image { width: SIDE, height: SIDE, rgb: rgb.to_vec() });
            read("input.rgb")?.chunks_exact((SIDE * SIDE * 3) as usize).take(batch).map(picture).collect()
        }
        Modality::Video | Modality::Series | Modality::Shape => return Err(unknown()),
    })
}

/// The timings as a document; `command` is what makes it again.
pub fn document(timings: &[Timing], command: &str) -> String {
    let (cpu, _) = processor();
    let mut out = format!(
        "# How fast encoders run\n\n*Written by `{command}`; not edited by hand. Processor: {cpu}.*\n\n\
         The same random weights and the same input for all. Contestants are processes of their own and take turns; of each the turn with the \
         least CPU time is shown. Ours include preprocessing from decoded media (pixels of the right size, texts, waveforms), the rivals begin with \
         preprocessed input. *CPU* is time of all threads for an item, *ratio* that over onnxruntime's in single precision, *MiB* the process's \
         greatest resident memory, *cosine* the least to onnxruntime's embeddings and *apart* the largest difference from them. *Load* is \
         what ours take from the files on disk to being ready.\n"
    );
    let mut before = None;
    for t in timings {
        if before != Some((t.model, t.threads, t.batch)) {
            before = Some((t.model, t.threads, t.batch));
            let _ = write!(
                out,
                "\n**{}**, {} at once, {} thread{}\n\n| contestant | items/s | CPU, ms | ratio | MiB | cosine | apart | load, ms |\n\
                 | --- | --- | --- | --- | --- | --- | --- | --- |\n",
                t.model,
                t.batch,
                t.threads,
                if t.threads == 1 { "" } else { "s" },
            );
        }
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let _ = match &t.outcome {
            Ok(o) => writeln!(
                out,
                "| {} | {:.1} | {:.2} | {} | {:.0} | {} | {} | {} |",
                t.contestant,
                1000.0 / o.wall_ms,
                o.cpu_ms,
                or_dash(o.cpu_ratio.map(|r| format!("{r:.2}"))),
                o.peak_mib,
                or_dash(o.cosine.map(|c| format!("{c:.6}"))),
                or_dash(o.apart.map(|a| format!("{a:.1e}"))),
                or_dash(o.load_ms.map(|ms| format!("{ms:.0}"))),
            ),
            Err(reason) => writeln!(out, "| {} | {reason} | | | | | | |", t.contestant),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_tells_outcomes_and_failures() {
        let outcome = Outcome {
            wall_ms: 20.0,
            cpu_ms: 40.0,
            peak_mib: 500.0,
            cpu_ratio: Some(0.5),
            cosine: Some(0.99991),
            apart: Some(1e-5),
            load_ms: None,
        };
        let timing = |contestant: &str, outcome| Timing {
            model: "MiniLM",
            threads: 2,
            batch: 16,
            contestant: contestant.to_owned(),
            outcome,
        };
        let text = document(&[timing("chiasm f32", Ok(outcome)), timing("torch", Err("no module".to_owned()))], "COMMAND");
        assert!(text.contains("| chiasm f32 | 50.0 | 40.00 | 0.50 | 500 | 0.999910 | 1.0e-5 | - |"), "{text}");
        assert!(text.contains("**MiniLM**, 16 at once, 2 threads") && text.contains("| torch | no module |"), "{text}");
    }

    #[test]
    fn the_least_cosine_is_over_rows() {
        assert!((least_cosine(&[1.0, 0.0, 0.0, 1.0], &[2.0, 0.0, 1.0, 1.0], 2) - 0.5f64.sqrt()).abs() < 1e-12);
    }
}
