//! What a run says of itself: a line of JSON for each step and each validation, and a page of curves.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Result, io};

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A step.
    Step {
        /// Counted from 1.
        step: usize,
        /// Counted from 1.
        epoch: usize,
        /// Before the step.
        loss: f64,
        /// Learning rate.
        rate: f64,
        /// Length of all gradients together, before they were clipped.
        gradient: f64,
        /// What cosines are multiplied by.
        scale: f64,
        /// Things per second.
        items_per_s: f64,
    },
    /// What things that were set aside say.
    Validation {
        /// Steps so far.
        step: usize,
        /// Counted from 1.
        epoch: usize,
        /// Mean reciprocal rank over all directions, by which the best weights are kept.
        figure: f64,
        /// Whether it is the best so far.
        best: bool,
        /// Of each direction.
        directions: Vec<Direction>,
        /// Of each exchange: how often the right text of a thing is closer to it than one that is wrong by it.
        swaps: Vec<Swapped>,
    },
}

/// How well one kind finds another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// What asks.
    pub from: String,
    /// What is found.
    pub to: String,
    /// Share of the queries whose right answer is first, among five, among ten.
    pub recall: [f64; 3],
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Queries.
    pub n_queries: usize,
    /// Things among which they look.
    pub n_gallery: usize,
}

/// How well wrong texts are told from right ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// What is exchanged: colours, shapes, relation.
    pub what: String,
    /// The kind of media that is looked at.
    pub media: String,
    /// Share of the right ones; .5 is chance.
    pub right: f64,
    /// Texts.
    pub n: usize,
}

/// The log of a run.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    pub(crate) lines: Vec<Line>,
}

impl Log {
    /// A log cut to `n_bytes`, with what it holds: what came after a checkpoint comes again.
    pub(crate) fn open(path: &Path, n_bytes: u64) -> Result<Self> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path).map_err(io("write", path))?;
        file.set_len(n_bytes.min(file.metadata().map_err(io("read", path))?.len())).map_err(io("write", path))?;
        let text = std::fs::read_to_string(path).map_err(io("read", path))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let file = OpenOptions::new().append(true).open(path).map_err(io("write", path))?;
        Ok(Self { path: path.to_owned(), file, lines })
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_string(&line).expect("a line is plain data");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(io("write", &self.path))?;
        self.lines.push(line);
        Ok(())
    }

    /// How long it is.
    pub(crate) fn n_bytes(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(io("read", &self.path))?.len())
    }
}
