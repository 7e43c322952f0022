//! Embedding what a table of pairs names, each distinct file and text once.
//!
//! Where the run keeps a draft, what is embedded stands in it, and a later run goes on behind it: for files that are as they were, by path, size and time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use chiasm_align::{Part, Run};
use chiasm_core::{EncodeError, Encoder, Labels, Media, Modality, Vectors};
use chiasm_media::Limits;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::fit::{BATCH, BATCH_OF_VIDEOS, refuse, stopped};
use crate::pairs::TextColumn;
use crate::search::load_media;
use crate::{EngineError, PairTable, Result};

/// The rows of a table in which every modality asked for is there, with their embeddings.
pub(crate) struct Rows {
    /// One matrix per modality asked for, `[n, dim]`.
    pub(crate) views: Vec<Vectors>,
    pub(crate) groups: Vec<u32>,
    pub(crate) n_groups: usize,
    /// Classes of the rows, where the table has a column of them.
    pub(crate) labels: Option<Labels>,
    pub(crate) dropped: BTreeMap<String, usize>,
}

/// Embeds what a table names and lays it out as rows: one per line and text column.
pub(crate) fn embed_table(table: &PairTable, encoders: &[Arc<dyn Encoder>], run: &Run<'_>) -> Result<Rows> {
    let mut dropped: BTreeMap<String, usize> = BTreeMap::new();
    if !table.wrong.is_empty() {
        let lines: Vec<String> = table.wrong.iter().take(5).map(|(line, found)| format!("{line} ({found} cells)")).collect();
        run.progress.note(&format!("lines of another width than the header are left out: {}, ...", lines.join(", ")));
        dropped.insert("the line has more or fewer cells than the header".to_owned(), table.wrong.len());
    }
    let has_text = encoders.iter().any(|e| e.modality() == Modality::Text);
    // Without a text view each line counts once.
    let n_texts = if has_text { table.texts.len() } else { 1 };
    let mut embedded: Vec<Embedded> = Vec::new();
    for encoder in encoders {
        embedded.push(match table.files.iter().find(|(m, _)| *m == encoder.modality()) {
            Some((_, files)) => embed_files(encoder, files, run)?,
            None => embed_texts(encoder, &table.texts, run)?,
        });
    }
    let (mut views, mut groups, mut lines) = (vec![Vec::new(); encoders.len()], Vec::new(), Vec::new());
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    for line in 0..table.n {
        for column in 0..n_texts {
            let places: Result<Vec<usize>, &str> = embedded.iter().map(|e| e.place(line, column)).collect();
            match places {
                Err(reason) => *dropped.entry(reason.to_owned()).or_insert(0) += 1,
                Ok(places) => {
                    places
                        .iter()
                        .zip(&mut views)
                        .zip(&embedded)
                        .for_each(|((at, view), e)| view.extend_from_slice(e.vectors.row(*at)));
                    lines.push(line);
                    let next = numbers.len() as u32;
                    groups.push(*numbers.entry(table.groups[line]).or_insert(next));
                }
            }
        }
    }
    if groups.is_empty() {
        let why = dropped.iter().map(|(reason, n)| format!("{n} x {reason}")).collect::<Vec<_>>().join("; ");
        return refuse(format!("no line of the table can be used: {why}"));
    }
    let views = views
        .into_iter()
        .zip(encoders)
        .map(|(data, e)| {
            Vectors::new(data, e.dim()).map_err(|source| EngineError::Numbers { what: e.name().to_owned(), source })
        })
        .collect::<Result<_>>()?;
    let labels = table.classes.as_ref().map(|classes| labels_of(classes, &lines));
    Ok(Rows { views, groups, n_groups: numbers.len(), labels, dropped })
}

/// The classes of some lines, numbered in the order of their names.
fn labels_of(classes: &[String], lines: &[usize]) -> Labels {
    let of = |line: &usize| classes[*line].split('|').map(str::trim).filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let names: BTreeSet<&str> = lines.iter().flat_map(of).collect();
    let numbers: BTreeMap<&str, u32> = names.iter().zip(0..).map(|(name, number)| (*name, number)).collect();
    let rows: Vec<Vec<u32>> = lines.iter().map(|line| of(line).iter().map(|name| numbers[name]).collect()).collect();
    Labels::from_rows(&rows, numbers.len()).expect("every class was numbered")
}

/// Embeddings of one modality and where each cell's stands.
struct Embedded {
    vectors: Vectors,
    /// By column and line; why there is none.
    places: Vec<Vec<Result<usize, String>>>,
}

impl Embedded {
    fn place(&self, line: usize, column: usize) -> Result<usize, &str> {
        // Files have one column, which goes with every column of texts.
        let column = if self.places.len() == 1 { 0 } else { column };
        self.places[column][line].as_ref().copied().map_err(String::as_str)
    }
}

fn embed_files(encoder: &Arc<dyn Encoder>, files: &[Option<PathBuf>], run: &Run<'_>) -> Result<Embedded> {
    let modality = encoder.modality();
    let distinct: Vec<&PathBuf> = files.iter().flatten().collect::<BTreeSet<_>>().into_iter().collect();
    let limits = Limits::default();
    let at_a_time = if modality == Modality::Video { BATCH_OF_VIDEOS } else { BATCH };
    let load = |path: &&PathBuf| match load_media(path, &limits) {
        Ok(media) if media.modality() == modality => Ok(media),
        Ok(media) => Err(Refused {
            note: format!("{} holds {}", path.display(), media.modality()),
            reason: format!("the {modality} file holds something else"),
        }),
        Err(e) => Err(Refused { note: e.to_string(), reason: format!("the {modality} file cannot be read") }),
    };
    let told = |path: &&PathBuf| path.display().to_string();
    let mut key = blake3::Hasher::new();
    for path in &distinct {
        let found = std::fs::metadata(path).ok();
        let time = found.as_ref().and_then(|found| found.modified().ok()?.duration_since(UNIX_EPOCH).ok());
        key.update(format!("{path:?} {:?} {time:?}\n", found.map(|found| found.len())).as_bytes());
    }
    let (places, vectors) = Work { encoder, things: &distinct, at_a_time, what: "file" }.embed(key, load, told, run)?;
    let place: HashMap<&PathBuf, Result<usize, String>> = distinct.into_iter().zip(places).collect();
    let empty = || format!("no {modality} in the line");
    let of_line = |file: &Option<PathBuf>| file.as_ref().map_or_else(|| Err(empty()), |path| place[path].clone());
    Ok(Embedded { vectors, places: vec![files.iter().map(of_line).collect()] })
}

fn embed_texts(encoder: &Arc<dyn Encoder>, columns: &[TextColumn], run: &Run<'_>) -> Result<Embedded> {
    let distinct: BTreeSet<&str> =
        columns.iter().flat_map(|c| c.texts.iter().map(String::as_str)).filter(|t| !t.is_empty()).collect();
    let distinct: Vec<&str> = distinct.into_iter().collect();
    let mut key = blake3::Hasher::new();
    distinct.iter().for_each(|text| _ = key.update(format!("{text:?}\n").as_bytes()));
    let load = |text: &&str| Ok(Media::Text((*text).to_owned()));
    let told = |text: &&str| format!("{text:?}");
    let work = Work { encoder, things: &distinct, at_a_time: BATCH, what: "cell" };
    let (places, vectors) = work.embed(key, load, told, run)?;
    let place: HashMap<&str, Result<usize, String>> = distinct.into_iter().zip(places).collect();
    let of_text = |text: &String| place.get(text.as_str()).cloned().unwrap_or_else(|| Err("no text in the line".to_owned()));
    Ok(Embedded { vectors, places: columns.iter().map(|c| c.texts.iter().map(of_text).collect()).collect() })
}

/// A thing that has no embedding: what is said of it, and what is counted.
struct Refused {
    note: String,
    reason: String,
}

/// Things of one kind, to be embedded.
struct Work<'a, T> {
    encoder: &'a Arc<dyn Encoder>,
    things: &'a [T],
    at_a_time: usize,
    /// What holds one of them.
    what: &'static str,
}

/// What is done of it.
#[derive(Default, Serialize, Deserialize)]
struct Done {
    /// Things that lie behind.
    n: usize,
    /// Those of which there is no embedding, by their number, and why.
    refused: BTreeMap<usize, String>,
    /// Embeddings of the others, row after row.
    #[serde(skip)]
    data: Vec<f32>,
}

impl<T: Sync> Work<'_, T> {
    /// For each thing its row, or why there is none, and the rows. `key` says of which things; `load` decodes one, `told` names it.
    fn embed(
        self,
        mut key: blake3::Hasher,
        load: impl Fn(&T) -> Result<Media, Refused> + Sync,
        told: impl Fn(&T) -> String,
        run: &Run<'_>,
    ) -> Result<(Vec<Result<usize, String>>, Vectors)> {
        let Self { encoder, things, at_a_time, what } = self;
        key.update(encoder.fingerprint().as_bytes());
        let mut part = Part::named(run, format!("embeddings-{}", &key.finalize().to_hex()[..16]));
        let mut done = part.read().and_then(|bytes| Done::from_bytes(&bytes, encoder.dim())).unwrap_or_default();
        run.progress.start(&format!("embed {}", encoder.modality()), Some(things.len() as u64));
        run.progress.advance(done.n as u64);
        for chunk in things[done.n.min(things.len())..].chunks(at_a_time) {
            part.pause(|| done.to_bytes()).map_err(stopped)?;
            let media: Vec<Result<Media, Refused>> = chunk.par_iter().map(&load).collect();
            let (mut numbers, mut batch) = (Vec::new(), Vec::new());
            for (number, media) in (done.n..).zip(media) {
                match media {
                    Ok(media) => {
                        numbers.push(number);
                        batch.push(media);
                    }
                    Err(Refused { note, reason }) => {
                        run.progress.note(&note);
                        done.refused.insert(number, reason);
                    }
                }
            }
            while !batch.is_empty() {
                match encoder.encode(&batch) {
                    Ok(vectors) => {
                        done.data.extend(vectors.into_data());
                        break;
                    }
                    Err(e @ EncodeError::Unencodable { .. }) => {
                        let EncodeError::Unencodable { item, .. } = &e else { unreachable!("matched above") };
                        let number = numbers.remove(*item);
                        batch.remove(*item);
                        run.progress.note(&format!("{}: {e}", told(&things[number])));
                        done.refused.insert(number, format!("the {} {what} cannot be encoded", encoder.modality()));
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            done.n += chunk.len();
            run.progress.advance(chunk.len() as u64);
        }
        part.finish(|| done.to_bytes()).map_err(stopped)?;
        run.progress.finish();
        let mut rows = 0..;
        let place = |number: usize| match done.refused.get(&number) {
            Some(reason) => Err(reason.clone()),
            None => Ok(rows.next().expect("without end")),
        };
        let places = (0..things.len()).map(place).collect();
        let wrong = |source| EngineError::Numbers { what: encoder.name().to_owned(), source };
        Ok((places, Vectors::new(done.data, encoder.dim()).map_err(wrong)?))
    }
}

impl Done {
    /// A line of JSON, then the numbers.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("numbers and words");
        bytes.push(b'\n');
        bytes.extend(self.data.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    /// What [`Done::to_bytes`] gave, of rows of so many numbers; none of bytes that are something else.
    fn from_bytes(bytes: &[u8], dim: usize) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let done: Self = serde_json::from_slice(&bytes[..end]).ok()?;
        let four = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("four of them"));
        let data: Vec<f32> = bytes[end + 1..].chunks_exact(4).map(four).collect();
        let is_whole = done.n.checked_sub(done.refused.len())?.checked_mul(dim)? == data.len();
        is_whole.then_some(Self { data, ..done })
    }
}
