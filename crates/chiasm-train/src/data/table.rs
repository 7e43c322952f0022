//! Tables: a row is one thing, a column one of the ways in which it is known.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use chiasm_core::Modality;

use super::{Part, Row};
use crate::error::{Result, TrainError, io};

/// The rows of a CSV with a header, or of JSON lines.
pub(super) fn rows(file: &Path, columns: &BTreeMap<String, Vec<String>>) -> Result<Vec<Row>> {
    let data = |reason: String| TrainError::Data { path: file.to_owned(), reason };
    let columns: Vec<(Modality, &Vec<String>)> = columns
        .iter()
        .map(|(word, names)| Ok((word.parse::<Modality>().map_err(|e| data(e.to_string()))?, names)))
        .collect::<Result<_>>()?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let row = |cell: &dyn Fn(&str) -> Vec<String>| {
        let mut row = Row::default();
        for (modality, names) in &columns {
            let cells = names.iter().flat_map(|name| cell(name)).filter(|cell| !cell.trim().is_empty());
            let part =
                |cell: String| if *modality == Modality::Text { Part::Text(cell) } else { Part::File(folder.join(cell)) };
            row.parts.entry(*modality).or_default().extend(cells.map(part));
        }
        row
    };
    let absent = |name: &str, known: &[String]| data(format!("has no column `{name}`, expected one of {}", known.join(", ")));
    if file.extension().is_some_and(|ext| ext == "jsonl") {
        let text = std::fs::read_to_string(file).map_err(io("read", file))?;
        let mut rows = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value: serde_json::Value = serde_json::from_str(line).map_err(|e| data(format!("line {}: {e}", at + 1)))?;
            let object = value.as_object().ok_or_else(|| data(format!("line {}: no JSON object", at + 1)))?;
            if rows.is_empty() {
                let known: Vec<String> = object.keys().cloned().collect();
                let lacking = columns.iter().flat_map(|(_, names)| names.iter()).find(|name| !object.contains_key(*name));
                lacking.map_or(Ok(()), |name| Err(absent(name, &known)))?;
            }
            // A list is several ways, each as good as the others.
            let cell = |name: &str| match object.get(name) {
                Some(serde_json::Value::String(text)) => vec![text.clone()],
                Some(serde_json::Value::Array(list)) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                Some(_) | None => Vec::new(),
            };
            rows.push(row(&cell));
        }
        return Ok(rows);
    }
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(File::open(file).map_err(io("read", file))?);
    let header: Vec<String> = reader
        .headers()
        .map_err(|e| data(e.to_string()))?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    let place = |name: &str| header.iter().position(|other| other == name).ok_or_else(|| absent(name, &header));
    let places: BTreeMap<&str, usize> = columns
        .iter()
        .flat_map(|(_, names)| names.iter())
        .map(|name| Ok((name.as_str(), place(name)?)))
        .collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| data(e.to_string()))?;
        rows.push(row(&|name| vec![record[places[name]].to_owned()]));
    }
    Ok(rows)
}
