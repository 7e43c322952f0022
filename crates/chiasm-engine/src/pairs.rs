//! Tables of pairs: which picture, words, sound, series, video and shape belong together.
//!
//! A CSV with a header. Columns `image`, `audio`, `series`, `video` and `shape` hold paths relative to a root; `text`, `caption`, and any column
//! whose name begins with `text_` or `caption_` hold the words themselves. Other columns are left out. Several text columns
//! stand for several texts of the same thing. Lines with the same first path (the five captions of one picture) are one group.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chiasm_core::Modality;

use crate::{EngineError, Result};

/// A column of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextColumn {
    /// Its name in the header.
    pub name: String,
    /// One cell per line; empty where the table is.
    pub texts: Vec<String>,
}

/// A table of pairs, read and checked; no file it names has been opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairTable {
    /// Number of lines.
    pub n: usize,
    /// Paths by modality, joined with the root; `None` for an empty cell.
    pub files: Vec<(Modality, Vec<Option<PathBuf>>)>,
    /// Columns of texts.
    pub texts: Vec<TextColumn>,
    /// For each line the thing it shows, numbered from 0 in order of appearance.
    pub groups: Vec<u32>,
    /// Classes of each line, from a column `label`, `class` or `category`; several are separated by `|`.
    pub classes: Option<Vec<String>>,
    /// Names of columns that were left out.
    pub ignored: Vec<String>,
    /// Lines of another width than the header: their number and cells. They are left out, and whoever reads the table tells of them.
    pub wrong: Vec<(u64, usize)>,
}

impl PairTable {
    /// Reads a table; paths in it are relative to `root`.
    ///
    /// # Errors
    /// [`EngineError::Pairs`] naming line and column.
    pub fn read(path: &Path, root: &Path) -> Result<PairTable> {
        let fail = |place: String, reason: String| EngineError::Pairs { path: path.to_owned(), place, reason };
        let csv_error = |e| csv_error(path, &e);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(csv_error)?;
        let header = header(&mut reader).map_err(csv_error)?;
        let mut table = PairTable::default();
        // What each column is: a modality's files, a column of texts, or nothing to us.
        let mut columns = Vec::new();
        for name in &header {
            let column = match name.as_str() {
                "image" | "audio" | "series" | "video" | "shape" => {
                    let modality: Modality = name.parse().expect("these words name modalities");
                    if table.files.iter().any(|(m, _)| *m == modality) {
                        return Err(fail("the header".to_owned(), format!("the column `{name}` stands there twice")));
                    }
                    table.files.push((modality, Vec::new()));
                    Column::Files(table.files.len() - 1)
                }
                "text" | "caption" => Column::Texts(table.add_texts(name)),
                "label" | "class" | "category" if table.classes.is_none() => {
                    table.classes = Some(Vec::new());
                    Column::Classes
                }
                _ if name.starts_with("text_") || name.starts_with("caption_") => Column::Texts(table.add_texts(name)),
                _ => {
                    table.ignored.push(name.clone());
                    Column::Ignored
                }
            };
            columns.push(column);
        }
        if table.files.len() + table.texts.len() < 2 {
            let reason = format!(
                "it names {} usable columns ({}), at least two are needed of image, audio, series, video, shape (paths), text, caption, text_zh, ... (words)",
                table.files.len() + table.texts.len(),
                header.join(", ")
            );
            return Err(fail("the header".to_owned(), reason));
        }
        let mut groups: HashMap<PathBuf, u32> = HashMap::new();
        for (line, record) in reader.records().enumerate() {
            let record = record.map_err(csv_error)?;
            if record.len() != header.len() {
                table.wrong.push((record.position().map_or(0, csv::Position::line), record.len()));
                continue;
            }
            let mut shows = None;
            for (cell, column) in record.iter().zip(&columns) {
                let cell = cell.trim();
                match column {
                    Column::Files(at) => {
                        let file = (!cell.is_empty()).then(|| root.join(cell));
                        shows = shows.or_else(|| file.clone());
                        table.files[*at].1.push(file);
                    }
                    Column::Texts(at) => table.texts[*at].texts.push(cell.to_owned()),
                    Column::Classes => table.classes.get_or_insert_default().push(cell.to_owned()),
                    Column::Ignored => {}
                }
            }
            // A line without a file is a thing of its own; no path is empty but for the number after it.
            let shows = shows.unwrap_or_else(|| PathBuf::from(format!("\0{line}")));
            let next = groups.len() as u32;
            table.groups.push(*groups.entry(shows).or_insert(next));
            table.n += 1;
        }
        if let Some((line, found)) = table.wrong.first()
            && table.wrong.len() >= table.n
        {
            // Then it is the header or the separator that is wrong.
            let reason = format!("{found} cells, the header has {}: quote cells that hold a comma", header.len());
            return Err(fail(format!("line {line}"), reason));
        }
        if table.n == 0 {
            return Err(fail("line 2".to_owned(), "there are no lines below the header".to_owned()));
        }
        Ok(table)
    }

    fn add_texts(&mut self, name: &str) -> usize {
        self.texts.push(TextColumn { name: name.to_owned(), texts: Vec::new() });
        self.texts.len() - 1
    }

    /// The modalities it has a column for, in the order of [`Modality::ALL`].
    pub fn modalities(&self) -> Vec<Modality> {
        let has = |m: &Modality| self.files.iter().any(|(f, _)| f == m) || (*m == Modality::Text && !self.texts.is_empty());
        Modality::ALL.into_iter().filter(has).collect()
    }
}

/// What is wrong with a table, and where.
pub(crate) fn csv_error(path: &Path, e: &csv::Error) -> EngineError {
    let place = e.position().map_or_else(|| "its beginning".to_owned(), |p| format!("line {}", p.line()));
    EngineError::Pairs { path: path.to_owned(), place, reason: e.to_string() }
}

/// The names of a table's columns, as they are compared.
pub(crate) fn header(reader: &mut csv::Reader<std::fs::File>) -> csv::Result<Vec<String>> {
    let name = |name: &str| name.trim_start_matches('\u{feff}').trim().to_lowercase();
    Ok(reader.headers()?.iter().map(name).collect())
}

enum Column {
    Files(usize),
    Texts(usize),
    Classes,
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> Result<PairTable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.csv");
        std::fs::write(&path, content).unwrap();
        PairTable::read(&path, Path::new("/photos"))
    }

    #[test]
    fn lines_of_one_picture_are_one_group() {
        let table = read("\u{feff}image,caption\na.jpg,\"one, two\"\nb.jpg,three\na.jpg,四\n").unwrap();
        assert_eq!(table.groups, [0, 1, 0]);
        assert_eq!(
            table.files,
            [(Modality::Image, ["a", "b", "a"].map(|n| Some(PathBuf::from(format!("/photos/{n}.jpg")))).to_vec())]
        );
        assert_eq!(table.texts[0].texts, ["one, two", "three", "四"]);
        assert_eq!(table.modalities(), [Modality::Image, Modality::Text]);
    }

    #[test]
    fn several_texts_and_other_columns() {
        let table = read("id,text,text_zh,audio\n1,dog,狗,\n2,cat,猫,b.wav\n").unwrap();
        assert_eq!(table.ignored, ["id"]);
        assert_eq!(table.texts.len(), 2);
        assert_eq!(table.files[0].1[0], None);
        assert_eq!(table.groups, [0, 1]);
    }

    #[test]
    fn a_few_wrong_lines_are_left_out_and_told() {
        let table = read("image,text,label\na.jpg,one,x\nb.jpg\nc.jpg,three,y|x\nd.jpg,four,x,5\ne.jpg,five,\n").unwrap();
        assert_eq!((table.n, &table.wrong[..]), (3, &[(3, 1), (5, 4)][..]));
        assert_eq!(table.classes.unwrap(), ["x", "y|x", ""]);
    }

    #[test]
    fn what_is_no_table_is_told() {
        assert!(read("image\na.jpg\n").unwrap_err().to_string().contains("at least two are needed"));
        assert!(read("image,text\n").unwrap_err().to_string().contains("no lines"));
        assert!(read("image,text\na.jpg\n").unwrap_err().to_string().contains("line 2"));
    }
}
