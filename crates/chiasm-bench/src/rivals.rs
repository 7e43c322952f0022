//! Reference implementations in Python, asked over a pipe: one process for a whole run, so that no start is timed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chiasm_core::Cancel;
use serde::Deserialize;
use serde_json::Value;

use crate::error::BenchError;

/// The script; its head says what it needs.
const SCRIPT: &str = include_str!("../../../reference/bench_align_rivals.py");

/// How often a wish to stop is looked at while an answer is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A running process that answers a line for a line. It is ended when this is dropped.
pub struct Rivals {
    child: Child,
    requests: ChildStdin,
    /// Lines, read by a thread of their own, so that waiting for them can end.
    answers: Receiver<std::io::Result<String>>,
    /// What it may lack when it ends unasked.
    needs: &'static str,
    /// File that takes what it says on the side.
    said: Option<PathBuf>,
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
        Self::start_with(command, needs, None)
    }

    /// Starts a process whose last words are told when it ends unasked; the file at `said` takes them.
    ///
    /// # Errors
    /// [`BenchError::Rival`].
    pub fn spawn_heard(command: &mut Command, needs: &'static str, said: &Path) -> Result<Self, BenchError> {
        Self::start_with(command, needs, Some(said.to_owned()))
    }

    fn start_with(command: &mut Command, needs: &'static str, said: Option<PathBuf>) -> Result<Self, BenchError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |e: std::io::Error| BenchError::Rival { reason: format!("{program}: {e}") };
        // A file, not a pipe, which would have to be emptied meanwhile.
        let stderr = match &said {
            Some(path) => std::fs::File::create(path).map_err(failed)?.into(),
            None => Stdio::null(),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().map_err(failed)?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Rival { reason: format!("no pipe to {program}") });
        };
        let (lines, received) = mpsc::channel();
        // It ends with the process, whose end of the pipe closes, or with this one's.
        std::thread::spawn(move || BufReader::new(answers).lines().try_for_each(|line| lines.send(line)));
        Ok(Self { child, requests, answers: received, needs, said })
    }

    /// One piece of work.
    ///
    /// # Errors
    /// [`BenchError::Rival`] with what the process says.
    pub fn ask(&mut self, request: &Value) -> Result<Answer, BenchError> {
        let answer = self.ask_within(request, None, &Cancel::default())?;
        serde_json::from_value(answer).map_err(|e| BenchError::Rival { reason: e.to_string() })
    }

    /// One piece of work whose answer is waited for no longer than `limit`, nor once a stop was asked for. The process is ended then.
    ///
    /// # Errors
    /// [`BenchError::Rival`] with what the process says, or that it was too slow; [`BenchError::Cancelled`].
    pub fn ask_within(&mut self, request: &Value, limit: Option<Duration>, cancel: &Cancel) -> Result<Value, BenchError> {
        let failed = |reason: String| BenchError::Rival { reason };
        // A process that has ended refuses the request; why it ended is told below.
        let refused = writeln!(self.requests, "{request}").err();
        let asked = Instant::now();
        let line = loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(line) => break line.map_err(|e| failed(e.to_string()))?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                    let refused = refused.map_or_else(String::new, |e| format!(", {e}"));
                    let said = self.said.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
                    let said = match String::from_utf8_lossy(&said).lines().rfind(|line| !line.trim().is_empty()) {
                        Some(line) => format!(" with `{}`", line.trim()),
                        None => String::new(),
                    };
                    return Err(failed(format!("it ended ({ended}{refused}){said}; does it have {}?", self.needs)));
                }
            }
            let stop = cancel.check();
            if stop.is_err() || limit.is_some_and(|limit| asked.elapsed() >= limit) {
                // Its answer would come for another request.
                let _ = self.child.kill();
                stop?;
                return Err(failed(format!("no answer within {} s", limit.unwrap_or_default().as_secs())));
            }
        };
        let answer: Value = serde_json::from_str(&line).map_err(|e| failed(e.to_string()))?;
        match answer["error"].as_str() {
            Some(error) => Err(failed(error.to_owned())),
            None => Ok(answer),
        }
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        // It may be in the middle of a fit that nobody waits for any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str) -> Rivals {
        Rivals::spawn(Command::new("sh").args(["-c", script]), "what it needs").unwrap()
    }

    #[test]
    fn answers_come_and_waiting_for_them_ends() {
        let never = Cancel::default();
        let mut echo = shell("while read -r line; do echo \"$line\"; done");
        assert_eq!(echo.ask_within(&json!({ "a": 1 }), None, &never).unwrap()["a"], 1);
        let told = echo.ask_within(&json!({ "error": "no module" }), None, &never).unwrap_err().to_string();
        assert!(told.ends_with("no module"), "{told}");
        let mut ends = shell("exit 3");
        let told = ends.ask(&json!({})).unwrap_err().to_string();
        assert!(told.contains("exit status: 3") && told.contains("what it needs"), "{told}");
        let said = std::env::temp_dir().join(format!("chiasm-bench-rivals-test-{}", std::process::id()));
        let mut speaks = Command::new("sh");
        speaks.args(["-c", "echo first >&2; echo the reason >&2; echo >&2; exit 4"]);
        let told = Rivals::spawn_heard(&mut speaks, "it", &said).unwrap().ask(&json!({})).unwrap_err().to_string();
        assert!(told.contains("exit status: 4") && told.contains("with `the reason`"), "{told}");
        std::fs::remove_file(said).unwrap();
        let mut slow = shell("sleep 60");
        let told = slow.ask_within(&json!({}), Some(Duration::from_millis(1)), &never).unwrap_err().to_string();
        assert!(told.contains("no answer within 0 s"), "{told}");
        let stop = Cancel::default();
        stop.cancel();
        assert!(matches!(shell("sleep 60").ask_within(&json!({}), None, &stop), Err(BenchError::Cancelled(_))));
    }
}
