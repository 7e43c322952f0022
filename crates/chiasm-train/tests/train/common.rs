//! What the tests of trainings share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chiasm_core::{Cancel, NoProgress, Progress};
use chiasm_encode::ModelDirs;
use chiasm_train::{Begin, Config, Line, Outcome, TrainError, train};

/// A description, as a user would write it to a file.
pub(crate) fn config(dir: &Path, text: &str) -> Config {
    let path = dir.join("train.toml");
    std::fs::write(&path, text).unwrap();
    Config::read(&path).unwrap_or_else(|e| panic!("{e}"))
}

/// A run to its end.
pub(crate) fn run(config: &Config, folder: &Path, begin: Begin) -> Result<Outcome, TrainError> {
    train(config, folder, begin, &ModelDirs::default(), &NoProgress, &Cancel::default())
}

pub(crate) fn lines(folder: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let line = |line: &str| match serde_json::from_str(line).unwrap() {
        // What time it took is no part of what was learned.
        Line::Step { step, epoch, loss, rate, gradient, scale, .. } => {
            Line::Step { step, epoch, loss, rate, gradient, scale, items_per_s: 0.0 }
        }
        line => line,
    };
    text.lines().map(line).collect()
}

pub(crate) fn losses(folder: &Path) -> Vec<f64> {
    lines(folder).iter().filter_map(|line| if let Line::Step { loss, .. } = line { Some(*loss) } else { None }).collect()
}

/// Stops a run after so many steps.
pub(crate) struct StopAfter {
    steps: AtomicUsize,
    most: usize,
    cancel: Cancel,
    notes: Mutex<Vec<String>>,
}

impl Progress for StopAfter {
    fn start(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, n: u64) {
        if self.steps.fetch_add(n as usize, Ordering::Relaxed) + n as usize >= self.most {
            self.cancel.cancel();
        }
    }
    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
    fn finish(&self) {}
}

pub(crate) fn stopped_after(steps: usize, config: &Config, folder: &Path, begin: Begin) {
    let cancel = Cancel::default();
    let stop = StopAfter { steps: AtomicUsize::new(0), most: steps, cancel: cancel.clone(), notes: Mutex::default() };
    let stopped = train(config, folder, begin, &ModelDirs::default(), &stop, &cancel);
    assert!(matches!(stopped, Err(TrainError::Cancelled(_))), "{stopped:?}");
}

/// A tensor of a file: its type, its shape and its bytes.
pub(crate) type Tensor = (String, Vec<usize>, Vec<u8>);

/// The tensors of the model in a folder.
pub(crate) fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let from = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..from]).unwrap();
    let named = header.into_iter().filter(|(name, _)| name != "__metadata__");
    named
        .map(|(name, entry)| {
            let [a, b] = [0, 1].map(|at| entry["data_offsets"][at].as_u64().unwrap() as usize);
            let shape = entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            (name, (entry["dtype"].as_str().unwrap().to_owned(), shape, bytes[from + a..from + b].to_vec()))
        })
        .collect()
}

/// Asserts that two runs left the same weights, means and descriptions, to the bit.
pub(crate) fn same_files(through: &Path, halves: &Path) {
    for file in ["model.safetensors", "checkpoint.safetensors", "config.json", "tokenizer.json"] {
        let [through, halves] = [through, halves].map(|run| std::fs::read(run.join(file)).unwrap());
        if file == "checkpoint.safetensors" {
            // The header's order of words is free, and lengths of logs hold digits of times; the numbers are the same.
            let n = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
            assert_eq!(through[n(&through)..], halves[n(&halves)..], "{file}");
        } else {
            assert!(through == halves, "{file} differs");
        }
    }
}
