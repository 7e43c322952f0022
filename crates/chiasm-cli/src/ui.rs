//! How the program speaks: data on stdout; progress, notes, errors and hints on stderr.
//!
//! Everything a command writes goes through here, so that `--json`, `--quiet`, `NO_COLOR`, a closed pipe and Ctrl-C behave the
//! same in every command.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiasm_core::{Cancel, Cancelled, Progress};
use chiasm_train::FitLog;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Everything asked for was done.
pub(crate) const DONE: u8 = 0;
/// It was not.
pub(crate) const FAILED: u8 = 1;
/// The command line asks for something that cannot be.
pub(crate) const USAGE: u8 = 2;
/// All was done, but some files were refused.
pub(crate) const SOME_REFUSED: u8 = 3;
/// Stopped by Ctrl-C.
pub(crate) const STOPPED: u8 = 130;

/// Lines of progress for a file or a pipe come no more often than this; bars on a terminal redraw by themselves.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How progress is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, a line every few seconds elsewhere
    #[default]
    Auto,
    /// Each step as a line of JSON on stderr, for programs
    Json,
    /// Not at all
    Never,
}

/// The voice of one run of the program.
pub(crate) struct Ui {
    /// Data goes out as one JSON document.
    pub(crate) json: bool,
    /// No progress, no remarks; errors and refused files only.
    pub(crate) quiet: bool,
    /// Set by Ctrl-C.
    pub(crate) cancel: Cancel,
    colour_out: bool,
    colour_err: bool,
    bars: bool,
    progress: ProgressMode,
    stage: Mutex<Option<Stage>>,
    /// Takes what is told of a fit, where that is asked for.
    log: Mutex<Option<FitLog>>,
    /// Lines that [`Progress::note`] said while work went on.
    noted: Mutex<BTreeSet<String>>,
}

/// One stage of long work, as [`Progress::start`] announced it.
struct Stage {
    name: String,
    n_steps: Option<u64>,
    /// The steps are bytes.
    in_bytes: bool,
    done: u64,
    began: Instant,
    spoke: Instant,
    bar: Option<ProgressBar>,
    /// How it goes, as [`Progress::tell`] said last.
    told: Vec<(&'static str, f64)>,
}

/// Tells progress whose steps are bytes.
pub(crate) struct InBytes<'a>(&'a Ui);

impl Progress for InBytes<'_> {
    fn start(&self, stage: &str, n_steps: Option<u64>) {
        self.0.begin(stage, n_steps, true);
    }

    fn advance(&self, n_steps: u64) {
        self.0.advance(n_steps);
    }

    fn note(&self, line: &str) {
        self.0.note(line);
    }

    fn finish(&self) {
        self.0.finish();
    }
}

impl Ui {
    /// Looks at the terminal and the environment once.
    pub(crate) fn new(json: bool, quiet: bool, progress: ProgressMode) -> Self {
        let colour_wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal = io::stderr().is_terminal();
        Self {
            json,
            quiet,
            cancel: Cancel::default(),
            colour_out: colour_wanted && io::stdout().is_terminal(),
            colour_err: colour_wanted && terminal,
            bars: terminal && !quiet && progress == ProgressMode::Auto,
            // What is asked for by name is given, with `--quiet` too.
            progress: if quiet && progress == ProgressMode::Auto { ProgressMode::Never } else { progress },
            stage: Mutex::new(None),
            log: Mutex::new(None),
            noted: Mutex::default(),
        }
    }

    /// First Ctrl-C: a stop at the next safe point. Second: out at once (a library is whole after that too).
    pub(crate) fn listen_for_ctrl_c(&self) {
        let (cancel, presses) = (self.cancel.clone(), Arc::new(AtomicU64::new(0)));
        // Without a handler Ctrl-C still ends the program, only less politely: no reason to refuse the work.
        let _ = ctrlc::set_handler(move || {
            if presses.fetch_add(1, Ordering::Relaxed) > 0 {
                std::process::exit(i32::from(STOPPED));
            }
            let _ = writeln!(io::stderr(), "\nstopping after what is under way; press Ctrl-C again to leave at once");
            cancel.cancel();
        });
    }

    /// Writes data to stdout. A reader that has gone away comes back as an [`io::Error`], which `main` takes for a quiet end.
    pub(crate) fn print(&self, text: impl Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.to_string().as_bytes())?;
        out.flush()
    }

    /// Writes bytes that need not be text (paths) to stdout.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes one JSON document to stdout.
    pub(crate) fn print_json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        Ok(self.print(text)?)
    }

    /// A remark on stderr, unless `--quiet`.
    pub(crate) fn remark(&self, line: impl Display) {
        if !self.quiet {
            self.to_stderr(&escape(&line.to_string()));
        }
    }

    /// What to do next, on stderr, unless `--quiet`.
    pub(crate) fn hint(&self, line: impl Display) {
        self.remark(format!("hint: {line}"));
    }

    /// Something that could not be done; said even with `--quiet`, unless it was said while the work went on.
    pub(crate) fn complaint(&self, line: impl Display) {
        let line = escape(&line.to_string());
        if !self.noted.lock().unwrap_or_else(PoisonError::into_inner).contains(&line) {
            self.to_stderr(&self.on_stderr(Paint::Warn, &line));
        }
    }

    /// Says why the program failed, with the chain of causes, and gives the exit code that belongs to it.
    pub(crate) fn fail(&self, error: &anyhow::Error) -> ExitCode {
        if is_closed_pipe(error) {
            return ExitCode::from(DONE);
        }
        self.clear();
        if error.chain().any(|cause| cause.is::<Cancelled>()) {
            self.to_stderr("stopped on request");
            return ExitCode::from(STOPPED);
        }
        self.to_stderr(&format!("{} {}", self.on_stderr(Paint::Error, "error:"), escape(&chain(error))));
        if let Some(hinted) = error.downcast_ref::<Hinted>() {
            self.to_stderr(&format!("hint: {}", escape(&hinted.hint)));
        }
        ExitCode::from(if error.downcast_ref::<Usage>().is_some() { USAGE } else { FAILED })
    }

    /// `text` in a style, where stdout may be coloured.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        painted(self.colour_out, paint, text)
    }

    /// The same voice for work whose steps are bytes.
    pub(crate) fn in_bytes(&self) -> InBytes<'_> {
        InBytes(self)
    }

    /// Does work while a log takes what it tells. That the log could not be written fails it when the work is done.
    pub(crate) fn logged<T>(&self, log: FitLog, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        *self.log() = Some(log);
        let done = work();
        let written = self.log().take().map_or(Ok(()), |log| log.close(done.is_ok()));
        let done = done?;
        written.context("the fit is done, its log is not")?;
        Ok(done)
    }

    fn begin(&self, stage: &str, n_steps: Option<u64>, in_bytes: bool) {
        self.finish();
        let bar = self.bars.then(|| {
            let bar = ProgressBar::with_draw_target(n_steps, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style(n_steps.is_some(), in_bytes));
            bar.set_message(escape(stage));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        let stage = Stage { name: stage.to_owned(), n_steps, in_bytes, done: 0, began: now, spoke: now, bar, told: Vec::new() };
        self.event(&stage, false);
        *self.stage() = Some(stage);
    }

    fn on_stderr(&self, paint: Paint, text: &str) -> String {
        painted(self.colour_err, paint, text)
    }

    /// One step as JSON, written at once: whoever reads it may rely on what it says being done.
    fn event(&self, stage: &Stage, finished: bool) {
        if self.progress == ProgressMode::Json {
            let seconds = stage.began.elapsed().as_secs_f64();
            let told: serde_json::Map<_, _> =
                stage.told.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            let event = serde_json::json!({
                "stage": stage.name, "told": told, "done": stage.done, "of": stage.n_steps, "seconds": seconds, "finished": finished,
            });
            let _ = writeln!(io::stderr(), "{event}");
        }
    }

    fn stage(&self) -> MutexGuard<'_, Option<Stage>> {
        // A panic elsewhere while a bar was drawn does not spoil the bar.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Option<FitLog>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if let Some(Stage { bar: Some(bar), .. }) = self.stage().take() {
            bar.finish_and_clear();
        }
    }

    fn to_stderr(&self, line: &str) {
        // Nobody left to read stderr is no reason to fail.
        let say = || drop(writeln!(io::stderr(), "{line}"));
        match self.stage().as_ref().and_then(|stage| stage.bar.as_ref()) {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

impl Progress for Ui {
    fn start(&self, stage: &str, n_steps: Option<u64>) {
        self.begin(stage, n_steps, false);
    }

    fn advance(&self, n_steps: u64) {
        let mut line = None;
        if let Some(stage) = self.stage().as_mut() {
            stage.done += n_steps;
            self.event(stage, false);
            match &stage.bar {
                Some(bar) => bar.inc(n_steps),
                None if self.progress == ProgressMode::Auto && stage.spoke.elapsed() >= LINE_EVERY => {
                    stage.spoke = Instant::now();
                    line = Some(stage.line());
                }
                None => {}
            }
        }
        if let Some(line) = line {
            self.remark(line);
        }
    }

    fn tell(&self, figures: &[(&'static str, f64)]) {
        if let Some(stage) = self.stage().as_mut() {
            stage.told = figures.to_vec();
            if let Some(log) = self.log().as_mut() {
                log.add(&stage.name, stage.done + 1, stage.n_steps, stage.began.elapsed().as_secs_f64(), figures);
            }
            if let Some(bar) = &stage.bar {
                bar.set_message(format!("{} · {}", escape(&stage.name), stage.told()));
            }
        }
    }

    fn note(&self, line: &str) {
        // Notes are refused files and warnings, which `--quiet` must not hide.
        let line = escape(line);
        self.to_stderr(&line);
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(line);
    }

    fn finish(&self) {
        let Some(stage) = self.stage().take() else { return };
        self.event(&stage, true);
        match &stage.bar {
            Some(bar) => bar.finish_and_clear(),
            // A stage too short for a single line needs no closing line either.
            None if stage.spoke > stage.began => self.remark(stage.line()),
            None => {}
        }
    }
}

impl Stage {
    /// `loss 0.412, rate 9.8e-4`
    fn told(&self) -> String {
        self.told.iter().map(|(name, value)| format!("{name} {}", figure(*value))).collect::<Vec<_>>().join(", ")
    }

    /// `reading files: 1200 of 5000, 85/s, 45 s left`
    fn line(&self) -> String {
        let took = self.began.elapsed().as_secs_f64().max(1e-3);
        let rate = self.done as f64 / took;
        let amount = |n: u64| if self.in_bytes { size(n) } else { n.to_string() };
        let told = if self.told.is_empty() { String::new() } else { format!(" · {}", self.told()) };
        let mut line = format!("{}{told}: {}", escape(&self.name), amount(self.done));
        if let Some(n) = self.n_steps {
            let _ = write!(line, " of {}", amount(n));
        }
        let rate_told = match self.in_bytes {
            true => size(rate as u64),
            false if rate < 10.0 => format!("{rate:.1}"),
            false => format!("{rate:.0}"),
        };
        let _ = write!(line, ", {rate_told}/s");
        match self.n_steps.map(|n| n.saturating_sub(self.done)) {
            Some(0) | None => line + &format!(", {}", duration(took)),
            Some(_) if rate == 0.0 => line,
            Some(left) => line + &format!(", {} left", duration(left as f64 / rate)),
        }
    }
}

fn style(bounded: bool, in_bytes: bool) -> ProgressStyle {
    let template = match (bounded, in_bytes) {
        (true, false) => "{msg} [{wide_bar}] {human_pos}/{human_len}  {per_sec}  {eta} left",
        (true, true) => "{msg} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
        (false, false) => "{spinner} {msg}  {human_pos}  {per_sec}  {elapsed}",
        (false, true) => "{spinner} {msg}  {elapsed}",
    };
    ProgressStyle::with_template(template).expect("a template that stands above").progress_chars("=> ")
}

/// The few styles in use.
#[derive(Clone, Copy)]
pub(crate) enum Paint {
    Bold,
    Dim,
    Good,
    Warn,
    Error,
}

fn painted(colour: bool, paint: Paint, text: &str) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Bold => "1",
        Paint::Dim => "2",
        Paint::Good => "32",
        Paint::Warn => "33",
        Paint::Error => "1;31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Text as it may stand on a terminal: control characters (a file name may hold any) are written out, so that none of them
/// moves the cursor or forges a line. Line feeds and tabs become `\n` and `\t` as well.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // The bidirectional overrides and isolates can make one name look like another.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A path for people; what is no Unicode shows as U+FFFD, control characters are written out.
pub(crate) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// The bytes of a path as the system takes them, for `-0` and `--paths`.
pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    #[cfg(unix)]
    {
        std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
    }
    #[cfg(not(unix))]
    {
        path.to_string_lossy().into_owned().into_bytes()
    }
}

/// Seconds for people: `0.42 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{seconds:.2} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A figure for people: `1.2e-5`, `0.412`, `37.5`, `1204`.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v < 0.01 => format!("{value:.1e}"),
        v if v < 10.0 => format!("{value:.3}"),
        v if v < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Bytes for people: `812 B`, `3.4 kB`, `1.2 GB` (powers of 1000).
pub(crate) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    match (n, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        (_, None) => format!("{n} {noun}s"),
    }
}

/// An error that carries its cure.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// An error with a `hint:` line below it.
pub(crate) fn hinted(message: impl Display, hint: impl Display) -> anyhow::Error {
    anyhow::Error::new(Hinted { message: message.to_string(), hint: hint.to_string() })
}

/// A command line that clap could not see is wrong: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A usage error: `return Err(usage("..."))`.
pub(crate) fn usage(message: impl Display) -> anyhow::Error {
    anyhow::Error::new(Usage(message.to_string()))
}

/// `what failed: why: why that`, leaving out a cause that its effect already quotes.
fn chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

/// Whoever read our stdout has left (`chiasm search ... | head -1`).
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(escape("a\nb\x1b[31mc\u{202e}d 猫"), "a\\nb\\u{1b}[31mc\\u{202e}d 猫");
    }

    #[test]
    fn a_chain_does_not_say_a_thing_twice() {
        let inner = io::Error::other("disk is gone");
        let error = anyhow::Error::new(inner).context("cannot read x: disk is gone").context("indexing");
        assert_eq!(chain(&error), "indexing: cannot read x: disk is gone");
    }

    #[test]
    fn hints_and_usage_survive_context() {
        let error = hinted("no library", "run index").context("searching");
        assert_eq!(error.downcast_ref::<Hinted>().map(|h| h.hint.as_str()), Some("run index"));
        assert!(usage("bad").context("more").downcast_ref::<Usage>().is_some());
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([duration(0.421), duration(59.6), duration(3725.0)], ["0.42 s", "1 min 0 s", "1 h 2 min"]);
        assert_eq!([size(812), size(3_400), size(999_960), size(1_240_000_000)], ["812 B", "3.4 kB", "1.0 MB", "1.2 GB"]);
        assert_eq!([count(1, "file"), count(0, "file"), count(2, "library")], ["1 file", "0 files", "2 libraries"]);
    }
}
