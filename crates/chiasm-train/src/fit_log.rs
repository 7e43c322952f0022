//! What a fit of a space says of itself while it trains: a line of JSON for each epoch, and a page of curves, in a folder.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::curves::{self, Curve};
use crate::error::{Result, TrainError, io};
use crate::files;

const LOG: &str = "log.jsonl";
const PAGE: &str = "curves.html";
/// The page is drawn anew no more often than this.
const DRAWN_EVERY: Duration = Duration::from_secs(5);

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitLine {
    /// What is fitted, as [`FitLog::open`] was told.
    pub fit: String,
    /// What is under way: `training`.
    pub stage: String,
    /// Steps of the stage so far, from 1; mostly epochs.
    pub done: u64,
    /// Of so many, where that is known.
    pub of: Option<u64>,
    /// Since the stage began in this process.
    pub seconds: f64,
    /// Loss, rate and what else is told, by name. What is no number is left out.
    pub figures: BTreeMap<String, f64>,
}

/// The log of a fit. Nothing is written before there is something to tell, so that a fit that cannot begin leaves the log of another as it is.
#[derive(Debug)]
pub struct FitLog {
    folder: PathBuf,
    fit: String,
    /// Those of an earlier run of the same fit, and this one's.
    lines: Vec<FitLine>,
    /// Bytes of the log that stay.
    kept: u64,
    file: Option<File>,
    drawn: Option<Instant>,
    /// What went wrong first; nothing is written after it.
    failed: Option<TrainError>,
}

impl FitLog {
    /// The log in a folder, which need not be there. `fit` tells this fit from others. One that goes on from a stop adds to what is there of it; else the log
    /// begins anew.
    ///
    /// # Errors
    /// [`TrainError::Folder`] for a folder with a log of something else than fits, which stays as it is; [`TrainError::Io`].
    pub fn open(folder: &Path, fit: &str, goes_on: bool) -> Result<Self> {
        let path = folder.join(LOG);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io("read", &path)(e)),
        };
        // A process that was killed, or a full disk, may have left half a line.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let lines: Vec<FitLine> = whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.is_empty() && !whole.is_empty() {
            let reason = "is no log of a fit, and stays as it is: name another folder".to_owned();
            return Err(TrainError::Folder { path, reason });
        }
        let goes_on = goes_on && lines.iter().all(|line| line.fit == fit);
        let (lines, kept) = if goes_on { (lines, whole.len() as u64) } else { (Vec::new(), 0) };
        let (folder, fit) = (folder.to_owned(), fit.to_owned());
        Ok(Self { folder, fit, lines, kept, file: None, drawn: None, failed: None })
    }

    /// Adds a line: so many steps of a stage are done, of so many, after so many seconds, and what is told of them. That it could not be written is told by
    /// [`FitLog::close`]: a fit does not end for it.
    pub fn add(&mut self, stage: &str, done: u64, of: Option<u64>, seconds: f64, figures: &[(&'static str, f64)]) {
        let of_numbers = figures.iter().filter(|(_, value)| value.is_finite());
        let figures = of_numbers.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let line = FitLine { fit: self.fit.clone(), stage: stage.to_owned(), done, of, seconds, figures };
        if self.failed.is_none() {
            self.failed = self.write(line).err();
        }
    }

    fn write(&mut self, line: FitLine) -> Result<()> {
        let path = self.folder.join(LOG);
        let mut text = serde_json::to_string(&line).expect("a line is plain data");
        text.push('\n');
        self.begun()?.write_all(text.as_bytes()).map_err(io("write", &path))?;
        self.lines.push(line);
        if self.drawn.is_none_or(|drawn| drawn.elapsed() > DRAWN_EVERY) {
            self.draw()?;
            self.drawn = Some(Instant::now());
        }
        Ok(())
    }

    /// The file, cut to what stays of it.
    fn begun(&mut self) -> Result<&mut File> {
        if self.file.is_none() {
            let path = self.folder.join(LOG);
            std::fs::create_dir_all(&self.folder).map_err(io("make", &self.folder))?;
            let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io("write", &path))?;
            file.set_len(self.kept).map_err(io("write", &path))?;
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("opened above"))
    }

    /// Draws the page a last time, where the fit is done or something was told of it.
    ///
    /// # Errors
    /// [`TrainError::Io`]: the first that kept a line or the page from being written.
    pub fn close(mut self, is_done: bool) -> Result<()> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if is_done {
            self.begun()?;
        }
        if self.file.is_some() { self.draw() } else { Ok(()) }
    }

    fn draw(&self) -> Result<()> {
        let page = curves::page(&self.fit, &head(&self.lines), &plots(&self.lines));
        files::replace(&self.folder.join(PAGE), page.as_bytes())
    }
}

/// Where it stands.
fn head(lines: &[FitLine]) -> String {
    let Some(FitLine { stage, done, of, .. }) = lines.last() else {
        return "<p>Nothing was told: the method has no steps to tell of, or none was done yet.</p>".to_owned();
    };
    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
    format!("<p>{}: {done}{of}.</p>", curves::escaped(stage))
}

/// A plot for each figure of each stage, in the order in which they came. A step that came again after a stop counts as it came last.
fn plots(lines: &[FitLine]) -> Vec<(String, Vec<Curve>)> {
    let mut stages: Vec<(&str, BTreeMap<u64, &FitLine>)> = Vec::new();
    for line in lines {
        match stages.iter_mut().find(|(stage, _)| *stage == line.stage) {
            Some((_, steps)) => drop(steps.insert(line.done, line)),
            None => stages.push((&line.stage, BTreeMap::from([(line.done, line)]))),
        }
    }
    let mut plots = Vec::new();
    for (stage, steps) in stages {
        let names: std::collections::BTreeSet<&String> = steps.values().flat_map(|line| line.figures.keys()).collect();
        for name in names {
            let points = steps.iter().filter_map(|(done, line)| Some([*done as f64, *line.figures.get(name)?])).collect();
            plots.push((format!("{stage}: {name}"), vec![Curve { name: name.clone(), points }]));
        }
    }
    plots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(folder: &Path) -> String {
        std::fs::read_to_string(folder.join(LOG)).unwrap_or_default()
    }

    #[test]
    fn a_fit_that_was_stopped_goes_on_in_its_log_and_another_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let run = |fit: &str, goes_on: bool, steps: &[(&str, u64, f64)]| {
            let mut log = FitLog::open(folder.path(), fit, goes_on).unwrap();
            for (stage, done, loss) in steps {
                log.add(stage, *done, Some(9), 0.5, &[("loss", *loss), ("rate", f64::NAN)]);
            }
            log.close(true).unwrap();
            log_of(folder.path()).lines().count()
        };
        assert_eq!(run("a", false, &[("how long", 1, 3.0), ("training", 1, 2.0), ("training", 2, 1.0)]), 3);
        // Killed in the middle of a line, which comes again.
        let mut file = OpenOptions::new().append(true).open(folder.path().join(LOG)).unwrap();
        file.write_all(b"{\"fit\":\"a\",\"sta").unwrap();
        assert_eq!(run("a", true, &[("training", 2, 0.75), ("training", 3, 0.5)]), 5);
        let log = FitLog::open(folder.path(), "a", true).unwrap();
        assert!(log.lines.iter().all(|line| line.figures.len() == 1), "what is no number is left out: {:?}", log.lines);
        let plots = plots(&log.lines);
        let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["how long: loss", "training: loss"]);
        assert_eq!(plots[1].1[0].points, [[1.0, 2.0], [2.0, 0.75], [3.0, 0.5]]);
        let page = std::fs::read_to_string(folder.path().join(PAGE)).unwrap();
        assert!(page.contains("training: 3 of 9") && page.contains("<h2>training: loss</h2><svg"), "{page}");
        // Opened for a fit that did not begin, it stays.
        FitLog::open(folder.path(), "b", false).unwrap().close(false).unwrap();
        assert_eq!(log_of(folder.path()).lines().count(), 5);
        // A draft may be of another fit than the log.
        assert_eq!(run("b", true, &[("training", 1, 2.0)]), 1);
        assert_eq!(run("b", false, &[]), 0);
    }

    #[test]
    fn a_log_of_something_else_stays_and_half_a_line_is_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOG), "{\"kind\":\"step\"}\n").unwrap();
        let told = FitLog::open(folder.path(), "a", false).unwrap_err().to_string();
        assert!(told.contains("no log of a fit") && told.contains("log.jsonl"), "{told}");
        assert_eq!(log_of(folder.path()), "{\"kind\":\"step\"}\n");
        std::fs::write(folder.path().join(LOG), "{\"fit\":\"a\",\"sta").unwrap();
        FitLog::open(folder.path(), "a", true).unwrap().close(true).unwrap();
        assert_eq!(log_of(folder.path()), "");
    }

    #[test]
    fn what_cannot_be_written_is_told_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(PAGE)).unwrap();
        let mut log = FitLog::open(folder.path(), "a", false).unwrap();
        log.add("training", 1, None, 0.1, &[("loss", 2.0)]);
        log.add("training", 2, None, 0.2, &[("loss", 1.0)]);
        let told = log.close(true).unwrap_err().to_string();
        assert!(told.contains("cannot write") && told.contains(PAGE), "{told}");
    }
}
