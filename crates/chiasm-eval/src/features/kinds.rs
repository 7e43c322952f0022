//! Labels in all the ways in which people write them.

use std::collections::BTreeMap;

use chiasm_core::Labels;

use super::error::FeatureError;
use super::input::Input;
use super::numbers::{Numbers, Sparse};
use super::table::Table;
use super::{Content, Entry, Loaded, holds};

/// Reads labels out of what was loaded; `found` says from where.
pub(super) fn labels(loaded: &Loaded, input: &Input, found: &str) -> Result<(Labels, String), FeatureError> {
    let refuse = |reason: String| FeatureError::NoLabels { found: found.to_owned(), reason };
    let (labels, how) = match &loaded.content {
        Content::Texts(texts) => of_texts(texts).map_err(refuse)?,
        Content::Numbers(numbers) => of_numbers(numbers)?.map_err(refuse)?,
        Content::Sparse(sparse) => of_sparse(sparse).map_err(refuse)?,
        Content::Table(table) if table.columns.len() == 1 => of_texts(&table.texts()?).map_err(refuse)?,
        Content::Table(table) => of_table(table, input)?.map_err(refuse)?,
    };
    if labels.n() == 0 {
        return Err(refuse("it has no rows".to_owned()));
    }
    if labels.n_classes() == 0 {
        return Err(refuse("no row has a class".to_owned()));
    }
    let count = |n: usize| match n {
        1 => "1 class".to_owned(),
        n => format!("{n} classes"),
    };
    let mut text = format!("{found}: {how}{}", count(labels.n_classes()));
    if labels.is_single() {
        text.push_str(", one per row");
    } else {
        let without = (0..labels.n()).filter(|row| labels.of(*row).is_empty()).count();
        let several = (0..labels.n()).filter(|row| labels.of(*row).len() > 1).count();
        text.push_str(&format!(", {several} rows have several, {without} none"));
    }
    Ok((labels, text))
}

pub(super) fn which_column(input: &Input, entries: &[Entry]) -> FeatureError {
    let example = entries.last().map_or("1".to_owned(), |e| e.name.clone());
    FeatureError::NotNamed { path: input.path(), kind: "column", example, holds: holds(entries) }
}

type Read = Result<(Labels, &'static str), String>;

/// Words or numbers, several of a row separated by `|` or `;`; empty and -1 are none.
fn of_texts(texts: &[String]) -> Read {
    let rows: Vec<Vec<&str>> = texts
        .iter()
        .map(|text| text.split(['|', ';']).map(str::trim).filter(|word| !word.is_empty() && *word != "-1").collect())
        .collect();
    // A column of a table says 3 or 3.0 for the same class.
    let whole = |word: &str| word.parse::<f64>().ok().filter(|v| v.fract() == 0.0 && v.abs() < 9e15).map(|v| v as i64);
    let numbers: Option<Vec<Vec<i64>>> = rows.iter().map(|row| row.iter().map(|w| whole(w)).collect()).collect();
    if let Some(rows) = numbers {
        return dense(&rows);
    }
    let measured = |row: &Vec<&str>| matches!(row[..], [word] if word.parse::<f64>().is_ok());
    if rows.iter().filter(|row| !row.is_empty()).all(measured) {
        let odd = rows.iter().position(|row| row.first().is_some_and(|word| whole(word).is_none())).unwrap_or(0);
        return Err(not_whole(odd, rows[odd].first().unwrap_or(&"")));
    }
    dense(&rows)
}

fn not_whole(row: usize, value: &str) -> String {
    let finite = value.parse().is_ok_and(f64::is_finite);
    let cure = if finite { ": are these features?" } else { ": write -1 for a row without a class" };
    format!("row {} is {value}, expected a whole number for the class{cure}", row + 1)
}

/// Numbers the classes in ascending order and keeps what they were called.
fn dense<T: Ord + ToString>(rows: &[Vec<T>]) -> Read {
    let mut classes: BTreeMap<&T, u32> = rows.iter().flatten().map(|class| (class, 0)).collect();
    for (i, class) in classes.values_mut().enumerate() {
        *class = u32::try_from(i).map_err(|_| "it has more than 2^32 classes".to_owned())?;
    }
    let rows: Vec<Vec<u32>> = rows.iter().map(|row| row.iter().map(|class| classes[class]).collect()).collect();
    let names = classes.keys().map(|class| class.to_string()).collect();
    let labels = Labels::from_rows(&rows, classes.len()).and_then(|labels| labels.with_names(names));
    labels.map(|labels| (labels, "")).map_err(|e| e.to_string())
}

fn of_numbers(numbers: &Numbers) -> Result<Read, FeatureError> {
    let is_vector = numbers.dims.iter().filter(|d| **d != 1).count() <= 1;
    if is_vector {
        // n x 1 and 1 x n alike.
        let values = numbers.rows::<f64>(0, numbers.n)?;
        return Ok(of_vector(&values));
    }
    if numbers.dims.len() > 2 {
        let reason = format!(
            "labels are a vector of classes or a matrix rows x classes of 0 and 1, not {} dimensions",
            numbers.dims.len()
        );
        return Ok(Err(reason));
    }
    let mut rows = Vec::with_capacity(numbers.n);
    let at_once = (1 << 20) / numbers.dim.max(1) + 1;
    for first in (0..numbers.n).step_by(at_once) {
        for values in numbers.rows::<f64>(first, at_once.min(numbers.n - first))?.chunks_exact(numbers.dim) {
            match classes_of(values.iter().copied().enumerate(), rows.len()) {
                Ok(row) => rows.push(row),
                Err(reason) => return Ok(Err(reason)),
            }
        }
    }
    Ok(of_matrix(&rows, numbers.dim))
}

fn of_vector(values: &[f64]) -> Read {
    let mut rows = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        if value.fract() != 0.0 || value.abs() > 9e15 {
            return Err(not_whole(row, &value.to_string()));
        }
        rows.push(if *value == -1.0 { Vec::new() } else { vec![*value as i64] });
    }
    dense(&rows)
}

fn classes_of(values: impl Iterator<Item = (usize, f64)>, row: usize) -> Result<Vec<u32>, String> {
    let mut classes = Vec::new();
    for (col, value) in values {
        if value == 1.0 {
            classes.push(col as u32);
        } else if value != 0.0 {
            return Err(format!(
                "row {}, column {} is {value}: a matrix of labels holds only 0 and 1; name a single column where each row has one class",
                row + 1,
                col + 1
            ));
        }
    }
    Ok(classes)
}

fn of_matrix(rows: &[Vec<u32>], n_classes: usize) -> Read {
    let labels = Labels::from_rows(rows, n_classes).map_err(|e| e.to_string())?;
    let how = if labels.is_single() { "one-hot, " } else { "multi-hot, " };
    Ok((labels, how))
}

fn of_sparse(sparse: &Sparse) -> Read {
    if sparse.n == 1 || sparse.dim == 1 {
        let size = sparse.n.max(sparse.dim);
        if size > 1 << 26 {
            return Err(format!("a sparse vector of {size} classes: save it as a full one"));
        }
        let mut values = vec![0.0; size];
        for row in 0..sparse.n {
            sparse.row(row).for_each(|(col, value)| values[row.max(col as usize)] = value);
        }
        return of_vector(&values);
    }
    let rows: Result<Vec<Vec<u32>>, String> =
        (0..sparse.n).map(|row| classes_of(sparse.row(row).map(|(col, value)| (col as usize, value)), row)).collect();
    of_matrix(&rows?, sparse.dim)
}

/// Several columns: one for each class, of 0 and 1, called as the header has it.
fn of_table(table: &Table, input: &Input) -> Result<Read, FeatureError> {
    let mut rows = Vec::new();
    let mut reader = table.rows();
    let dim = table.columns.len();
    loop {
        let values = match table.numbers(&mut reader, 4096) {
            Ok(values) => values,
            // Words stand there: which column holds the class?
            Err(FeatureError::Lines { .. }) => return Err(which_column(input, &table.entries()?)),
            Err(other) => return Err(other),
        };
        if values.is_empty() {
            break;
        }
        for values in values.chunks_exact(dim) {
            match classes_of(values.iter().map(|v| f64::from(*v)).enumerate(), rows.len()) {
                Ok(row) => rows.push(row),
                Err(reason) => return Ok(Err(reason)),
            }
        }
    }
    Ok(of_matrix(&rows, dim).and_then(|(labels, how)| match table.names() {
        Some(names) => labels.with_names(names).map(|l| (l, how)).map_err(|e| e.to_string()),
        None => Ok((labels, how)),
    }))
}

/// Gives labels of several sources, such as training and test rows, the same numbers for the same classes.
///
/// Where all have names, as classes read from words or numbers do, the classes are those of any of them in the order of their
/// names, whole numbers by value. Where none has names, as with matrices of 0 and 1, the classes must be equally many and stand.
///
/// # Errors
/// A sentence when named and unnamed classes meet, or unnamed ones of different number.
pub fn with_common_classes(all: &[Labels]) -> Result<Vec<Labels>, String> {
    if all.iter().all(|l| l.names().is_empty()) {
        let counts: Vec<String> = all.iter().map(|l| l.n_classes().to_string()).collect();
        return match all.windows(2).all(|w| w[0].n_classes() == w[1].n_classes()) {
            true => Ok(all.to_vec()),
            false => Err(format!("the matrices of labels have {} columns: give each the same classes", counts.join(" and "))),
        };
    }
    if all.iter().any(|l| l.names().is_empty() && l.n() > 0) {
        return Err("some labels have names and others are columns of a matrix: write all in one way".to_owned());
    }
    let mut names: Vec<&str> = all.iter().flat_map(|l| l.names()).map(String::as_str).collect();
    let by_value: Option<BTreeMap<&str, i64>> = names.iter().map(|n| Some((*n, n.parse().ok()?))).collect();
    match by_value {
        Some(values) => names.sort_by_key(|n| values[n]),
        None => names.sort_unstable(),
    }
    names.dedup();
    let place: BTreeMap<&str, u32> = names.iter().zip(0..).map(|(n, i)| (*n, i)).collect();
    let renumber = |labels: &Labels| {
        let of = |class: &u32| labels.name(*class).map_or(0, |name| place[name]);
        let rows: Vec<Vec<u32>> = (0..labels.n()).map(|row| labels.of(row).iter().map(of).collect()).collect();
        let owned = names.iter().map(|n| (*n).to_owned()).collect();
        Labels::from_rows(&rows, names.len()).and_then(|l| l.with_names(owned)).map_err(|e| e.to_string())
    };
    all.iter().map(renumber).collect()
}
