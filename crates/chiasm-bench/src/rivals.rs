//! Reference implementations in Python, asked over a pipe: one process for a whole run, so that no start is timed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::error::BenchError;

/// The script; its head says what it needs.
const SCRIPT: &str = include_str!("../../../reference/bench_align_rivals.py");

/// A running interpreter. It is ended when this is dropped.
pub struct Rivals {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What one fit of a rival took and gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of all threads together.
    pub cpu: f64,
    /// Correlations, or bits; what the script says.
    pub values: Vec<f64>,
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
        let mut child = Command::new(python)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Rival { reason: "no pipe to the interpreter".to_owned() });
        };
        Ok(Self { child, requests, answers: BufReader::new(answers) })
    }

    /// One fit.
    ///
    /// # Errors
    /// [`BenchError::Rival`] with what the interpreter says.
    pub fn ask(&mut self, request: &Value) -> Result<Answer, BenchError> {
        let failed = |reason: String| BenchError::Rival { reason };
        writeln!(self.requests, "{request}").map_err(|e| failed(e.to_string()))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|e| failed(e.to_string()))?;
        if line.is_empty() {
            return Err(failed("the interpreter ended; does it have numpy, scipy, scikit-learn and cca-zoo?".to_owned()));
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
