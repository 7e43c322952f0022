//! Reference implementations in Python, asked over a pipe: one process for a whole run, so that no start is timed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::error::BenchError;

/// The script; its head says what it needs.
const SCRIPT: &str = include_str!("../../../reference/bench_align_rivals.py");

/// A running process that answers a line for a line. It is ended when this is dropped.
pub struct Rivals {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it may lack when it ends unasked.
    needs: &'static str,
}

/// What one piece of a rival's work took and gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of all threads together.
    pub cpu: f64,
    /// Correlations, bits, embeddings; what the script says.
    pub values: Vec<f64>,
    /// Greatest resident memory of the process so far, in MiB, where it is told.
    #[serde(default)]
    pub peak_mib: f64,
    /// Seconds to be ready, where they are told.
    #[serde(default)]
    pub load: f64,
}

impl Rivals {
    /// Starts the interpreter with the script, which is written into `folder`.
    ///
    /// # Errors
    /// [`BenchError::Rival`].
    pub fn start(python: &Path, folder: &Path) -> Result<Self, BenchError> {
        let script = folder.join("rivals.py");
        let failed = |e: std::io::Error| BenchError::Rival { reason: format!("{}: {e}", python.display()) };
        std::fs::write(&script, SCRIPT).map_err(failed)?;
        Self::spawn(Command::new(python).arg(&script), "numpy, scipy, scikit-learn and cca-zoo")
    }

    /// Starts a process; `needs` is what it may lack when it ends unasked.
    ///
    /// # Errors
    /// [`BenchError::Rival`].
    pub fn spawn(command: &mut Command, needs: &'static str) -> Result<Self, BenchError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.map_err(|e| BenchError::Rival { reason: format!("{program}: {e}") })?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Rival { reason: format!("no pipe to {program}") });
        };
        Ok(Self { child, requests, answers: BufReader::new(answers), needs })
    }

    /// One piece of work.
    ///
    /// # Errors
    /// [`BenchError::Rival`] with what the process says.
    pub fn ask(&mut self, request: &Value) -> Result<Answer, BenchError> {
        let failed = |reason: String| BenchError::Rival { reason };
        writeln!(self.requests, "{request}").map_err(|e| failed(e.to_string()))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|e| failed(e.to_string()))?;
        if line.is_empty() {
            return Err(failed(format!("it ended; does it have {}?", self.needs)));
        }
        let answer: Value = serde_json::from_str(&line).map_err(|e| failed(e.to_string()))?;
        if let Some(error) = answer["error"].as_str() {
            return Err(failed(error.to_owned()));
        }
        serde_json::from_value(answer).map_err(|e| failed(e.to_string()))
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        // It may be in the middle of a fit that nobody waits for any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
