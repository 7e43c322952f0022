//! Files whose labels are known: a few of each make classification surer than names alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chiasm_align::adapter::{self, CacheConfig, Cached};
use chiasm_core::{Cancel, MatrixView, Modality, Progress};
use chiasm_media::Limits;

use crate::pairs::{csv_error, header};
use crate::search::load_media;
use crate::{EngineError, Result, Space};

/// Files with their labels, not opened yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledFiles {
    /// Each with its label.
    pub files: Vec<(PathBuf, String)>,
}

impl LabelledFiles {
    /// From a folder, whose folders are the labels of the files in them; or from a table, CSV with a header of `file` (or `image`, `audio`, `series`, `video`, `shape`,
    /// `path`) and `label` (or `class`, `category`), whose paths begin in its own folder.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Pairs`], naming line or column.
    pub fn read(path: &Path) -> Result<Self> {
        let files = if path.is_dir() { in_folders(path)? } else { in_table(path)? };
        if files.is_empty() {
            let reason =
                "names no file with a label: expected a folder of a folder for each label, or a table of files and labels";
            return Err(EngineError::Pairs { path: path.to_owned(), place: "all of it".to_owned(), reason: reason.to_owned() });
        }
        Ok(Self { files })
    }

    /// The labels, each once, in the order in which they first come.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        self.files.iter().for_each(|(_, label)| {
            if !labels.contains(label) {
                labels.push(label.clone());
            }
        });
        labels
    }
}

fn in_folders(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = |folder: &Path| -> Result<Vec<PathBuf>> {
        let read = std::fs::read_dir(folder).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
        let mut paths: Vec<PathBuf> = read.map_err(EngineError::io("cannot read the folder of examples", folder))?;
        paths.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
        paths.sort();
        Ok(paths)
    };
    let mut files = Vec::new();
    for folder in entries(path)?.into_iter().filter(|path| path.is_dir()) {
        let label = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.extend(entries(&folder)?.into_iter().filter(|path| path.is_file()).map(|file| (file, label.clone())));
    }
    Ok(files)
}

fn in_table(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let fail = |place: String, reason: String| EngineError::Pairs { path: path.to_owned(), place, reason };
    let csv_error = |e| csv_error(path, &e);
    let mut reader = csv::Reader::from_path(path).map_err(csv_error)?;
    let header = header(&mut reader).map_err(csv_error)?;
    let column = |names: &[&str], what: &str| {
        let found = header.iter().position(|name| names.contains(&name.as_str()));
        found.ok_or_else(|| fail("the header".to_owned(), format!("has no column {what}, it has {}", header.join(", "))))
    };
    let file = column(&["file", "path", "image", "audio", "series", "video", "shape"], "`file`")?;
    let label = column(&["label", "class", "category"], "`label`")?;
    let root = path.parent().unwrap_or(Path::new(""));
    let mut files = Vec::new();
    for record in reader.records() {
        let record = record.map_err(csv_error)?;
        let [file, label] = [file, label].map(|column| record.get(column).unwrap_or_default().trim());
        if file.is_empty() || label.is_empty() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(fail(format!("line {line}"), "has no file or no label, expected both".to_owned()));
        }
        files.push((root.join(file), label.to_owned()));
    }
    Ok(files)
}

/// Examples in a space, by kind of media.
#[derive(Debug, Default)]
pub(crate) struct Shots {
    of: BTreeMap<Modality, (Vec<f32>, Vec<u32>)>,
}

impl Shots {
    /// Embeds examples whose label is one of `labels`; those that cannot be read or embedded are given back with the reason.
    pub(crate) fn embed(
        space: &Space,
        labels: &[String],
        files: &LabelledFiles,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Self, Vec<String>)> {
        let limits = Limits::default();
        let (mut shots, mut refused) = (Shots::default(), Vec::new());
        if labels.len() < 2 {
            // One label alone has nothing to be told from, by examples as by its name.
            return Ok((shots, refused));
        }
        progress.start("examples", Some(files.files.len() as u64));
        for (path, label) in &files.files {
            cancel.check()?;
            progress.advance(1);
            let Some(class) = labels.iter().position(|other| other == label) else { continue };
            let embedded = load_media(path, &limits).and_then(|media| Ok((media.modality(), space.embed_query(&media)?)));
            match embedded {
                Ok((kind, row)) => {
                    let (rows, classes) = shots.of.entry(kind).or_default();
                    rows.extend(row);
                    classes.push(class as u32);
                }
                Err(e @ (EngineError::Media { .. } | EngineError::NoView { .. } | EngineError::Encode(_))) => {
                    refused.push(format!("{}: {e}", path.display()));
                }
                Err(other) => return Err(other),
            }
        }
        progress.finish();
        Ok((shots, refused))
    }

    /// How many there are of a kind.
    pub(crate) fn count(&self, kind: Modality) -> usize {
        self.of.get(&kind).map_or(0, |(_, classes)| classes.len())
    }

    /// What classifies media of a kind by names, `[labels, dim]`, and by the examples of that kind, if there are any.
    pub(crate) fn cached(&self, kind: Modality, names: &[f32], dim: usize, scale: f64) -> Result<Option<Cached>> {
        let Some((rows, classes)) = self.of.get(&kind) else { return Ok(None) };
        let wrong = |source| EngineError::Numbers { what: "examples".to_owned(), source };
        let [names, rows] = [MatrixView::new(names, dim).map_err(wrong)?, MatrixView::new(rows, dim).map_err(wrong)?];
        let start = CacheConfig { scale, ..CacheConfig::default() };
        let config = adapter::chosen(&start, names, rows, classes).map_err(crate::fit::stopped)?;
        Ok(Some(Cached::new(&config, names, rows, classes).map_err(crate::fit::stopped)?))
    }
}
