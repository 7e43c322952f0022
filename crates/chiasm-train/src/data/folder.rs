//! A folder of files and a table of captions.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use chiasm_core::Modality;

use super::{Part, Row};
use crate::error::{Result, TrainError, io};

/// One row for each file that the table names, with all its captions.
pub(super) fn rows(dir: &Path, captions: &Path) -> Result<Vec<Row>> {
    let data = |reason: String| TrainError::Data { path: captions.to_owned(), reason };
    let mut reader = csv::ReaderBuilder::new().from_reader(File::open(captions).map_err(io("read the captions in", captions))?);
    let n_columns = reader.headers().map_err(|e| data(e.to_string()))?.len();
    if n_columns != 2 {
        return Err(data(format!("{n_columns} columns, expected a header and two: file name, caption")));
    }
    let mut of_file: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|e| data(e.to_string()))?;
        of_file.entry(record[0].trim().to_owned()).or_default().push(Part::Text(record[1].trim().to_owned()));
    }
    let row = |(file, texts): (String, Vec<Part>)| {
        let path = dir.join(&file);
        let modality = chiasm_media::modality_of(&path)
            .filter(|modality| *modality != Modality::Text)
            .ok_or_else(|| data(format!("`{file}` is no file of a picture, sound or series by its name")))?;
        Ok(Row { parts: [(modality, vec![Part::File(path)]), (Modality::Text, texts)].into(), wrong: Vec::new() })
    };
    of_file.into_iter().map(row).collect()
}
