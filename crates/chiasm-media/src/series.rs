//! Series: comma- and tab-separated tables, NumPy arrays.

use chiasm_core::{Media, Series};

use crate::error::{MediaError, excerpt};
use crate::{Decoded, Limits, Metadata, text};

/// A table of decimal numbers: one time step per row, one channel per column, with or without a header row.
///
/// The first row is a header when none of its cells is a number. The delimiter is a tab for `.tsv`, else whichever of comma,
/// semicolon and tab is most frequent in the first line. Empty cells, NaN, infinities and words are refused by row and column.
pub(crate) fn decode_table(tabs: bool, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let mut metadata = Metadata { format: if tabs { "TSV" } else { "CSV" }.to_owned(), ..Metadata::default() };
    // The values bound the memory; the bytes of a number are few, so the text limit is widened by them.
    let table_limits =
        Limits { max_text_bytes: limits.max_text_bytes.max(limits.max_series_values.saturating_mul(25)), ..*limits };
    let table = text::to_unicode(bytes, &table_limits, &mut metadata)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true) // ragged rows are reported here, with the row's number
        .delimiter(if tabs { b'\t' } else { delimiter_of(&table) })
        .trim(csv::Trim::All)
        .from_reader(table.as_bytes());

    let mut names: Vec<String> = Vec::new();
    let mut n_channels = 0;
    let mut values: Vec<f32> = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        // Where quoted cells span lines, rows are counted as a spreadsheet shows them.
        let row = reader.position().record() + 1;
        if !reader.read_record(&mut record).map_err(|e| MediaError::damaged("CSV", e))? {
            break;
        }
        if n_channels == 0 {
            n_channels = record.len();
            if record.iter().all(|cell| cell.parse::<f64>().is_err()) && record.iter().any(|cell| !cell.is_empty()) {
                names = record.iter().map(str::to_owned).collect();
                continue;
            }
        }
        if record.len() != n_channels {
            let reason = format!("has {} cells, the rows before have {n_channels}: give every row as many", record.len());
            return Err(MediaError::BadLine { line: row, reason });
        }
        for (cell, column) in record.iter().zip(1..) {
            let value = cell.parse::<f64>().ok().map(|v| v as f32).filter(|v| v.is_finite());
            values.push(value.ok_or_else(|| MediaError::BadCell { row, column, came: excerpt(cell, 24) })?);
        }
        check_values(values.len() as u64, limits)?;
    }
    if values.is_empty() {
        return Err(MediaError::Empty { reason: "the table has no row of numbers" });
    }
    metadata.n_channels = u32::try_from(n_channels).ok();
    Ok(Decoded { media: Media::Series(Series { n_channels, names, values }), metadata })
}

fn delimiter_of(table: &str) -> u8 {
    let first = table.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    let count = |delimiter: u8| first.bytes().filter(|&b| b == delimiter).count();
    // The first of equals wins, so the comma does.
    [b';', b'\t', b','].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',')
}

fn check_values(n_values: u64, limits: &Limits) -> Result<(), MediaError> {
    if n_values > limits.max_series_values {
        return Err(MediaError::TooLarge {
            came: format!("has {n_values} values or more"),
            limit: limits.max_series_values,
            unit: "values",
            cure: "split it or thin it out",
            option: "max_series_values",
        });
    }
    Ok(())
}

/// A NumPy array of 1 (steps) or 2 (steps, channels) dimensions.
pub(crate) fn decode_npy(bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let (values, shape) = read_npy_f32(bytes, limits.max_series_values)?;
    let n_channels = match shape[..] {
        [_] => 1,
        [_, n_channels] => n_channels,
        _ => {
            return Err(MediaError::Unsupported {
                format: format!("a NumPy array of shape {shape:?}"),
                reason: "a series has 1 or 2 dimensions: steps, channels".to_owned(),
                cure: "save each series as an array of its own",
            });
        }
    };
    if values.is_empty() {
        return Err(MediaError::Empty { reason: "the array has no element" });
    }
    let metadata = Metadata { format: "NPY".to_owned(), n_channels: u32::try_from(n_channels).ok(), ..Metadata::default() };
    Ok(Decoded { media: Media::Series(Series { n_channels, names: Vec::new(), values }), metadata })
}

pub(crate) const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a NumPy `.npy` array of real numbers as `f32`, with its shape; row-major whatever order the file has.
///
/// Takes format versions 1 to 3; `f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8`, little- or big-endian; integers beyond 2^24 lose their
/// last digits. `max_values` is checked against the header before memory is taken.
///
/// # Errors
/// [`MediaError::Damaged`] on a hostile header or a length that does not fit the shape, [`MediaError::Unsupported`] on other
/// types (objects are never unpickled), [`MediaError::TooLarge`], [`MediaError::NotFinite`].
///
/// # Example
/// ```
/// let bytes = chiasm_media::write_npy_f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]);
/// let (values, shape) = chiasm_media::read_npy_f32(&bytes, 1_000)?;
/// assert_eq!(shape, [3, 2]);
/// assert_eq!(values[2], 3.0);
/// # Ok::<(), chiasm_media::MediaError>(())
/// ```
pub fn read_npy_f32(bytes: &[u8], max_values: u64) -> Result<(Vec<f32>, Vec<usize>), MediaError> {
    let damaged = |reason: String| MediaError::Damaged { format: "NPY", reason };
    let Some([major, _minor]) = bytes.strip_prefix(NPY_MAGIC).and_then(|rest| rest.first_chunk()) else {
        return Err(damaged("its magic bytes are missing".to_owned()));
    };
    let (n_header, start) = match major {
        1 => (bytes.get(8..10).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]]))), 10),
        2 | 3 => (bytes.get(8..12).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize), 12),
        other => return Err(damaged(format!("version {other}, expected 1, 2 or 3"))),
    };
    // NumPy itself refuses headers beyond 10,000 bytes.
    let header = n_header
        .filter(|&n| n <= 10_000)
        .and_then(|n| bytes.get(start..start + n))
        .and_then(|h| std::str::from_utf8(h).ok())
        .ok_or_else(|| damaged("its header is cut off, too long, or no text".to_owned()))?;
    let header_of =
        parse_npy_header(header).ok_or_else(|| damaged(format!("header `{}` is not understood", excerpt(header, 80))))?;
    let NpyHeader { descr, fortran, shape } = header_of;

    let unsupported = || MediaError::Unsupported {
        format: format!("a NumPy array of type `{}`", excerpt(&descr, 40)),
        reason: "expected real numbers: f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8".to_owned(),
        cure: "save it with `.astype('float32')`",
    };
    let big_endian = descr.starts_with('>');
    let kind = descr.strip_prefix(['<', '>', '|', '=']).ok_or_else(unsupported)?;
    let (width, to_f32): (usize, fn([u8; 8]) -> f32) = match kind {
        "f2" => (2, |b| half_to_f32(u16::from_le_bytes([b[0], b[1]]))),
        "f4" => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        "f8" => (8, |b| f64::from_le_bytes(b) as f32),
        "i1" => (1, |b| f32::from(b[0] as i8)),
        "i2" => (2, |b| f32::from(i16::from_le_bytes([b[0], b[1]]))),
        "i4" => (4, |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32),
        "i8" => (8, |b| i64::from_le_bytes(b) as f32),
        "u1" => (1, |b| f32::from(b[0])),
        "u2" => (2, |b| f32::from(u16::from_le_bytes([b[0], b[1]]))),
        "u4" => (4, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32),
        "u8" => (8, |b| u64::from_le_bytes(b) as f32),
        _ => return Err(unsupported()),
    };

    let data = &bytes[start + header.len()..];
    let n_values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let n_bytes = n_values.and_then(|n| n.checked_mul(width));
    let Some(n_values) = n_values.filter(|_| n_bytes == Some(data.len())) else {
        return Err(damaged(format!("shape {shape:?} of {width}-byte elements does not fit its {} bytes of data", data.len())));
    };
    check_values(n_values as u64, &Limits { max_series_values: max_values, ..Limits::default() })?;

    let mut values = Vec::with_capacity(n_values);
    for (element, i) in data.chunks_exact(width).zip(0usize..) {
        let mut b = [0u8; 8];
        b[..width].copy_from_slice(element);
        if big_endian {
            b[..width].reverse();
        }
        let value = to_f32(b);
        if !value.is_finite() {
            return Err(MediaError::NotFinite {
                came: value.to_string(),
                place: format!("element {i} in the order of the file"),
            });
        }
        values.push(value);
    }
    if fortran && shape.len() > 1 {
        values = from_fortran_order(&values, &shape);
    }
    Ok((values, shape))
}

/// Writes a NumPy `.npy` array of `f32`, version 1, row-major.
///
/// # Panics
/// When `shape` does not multiply to the number of values, or has more than 32 dimensions: a caller's mistake.
pub fn write_npy_f32(values: &[f32], shape: &[usize]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} and number of values");
    assert!(shape.len() <= 32, "NumPy has at most 32 dimensions");
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // Data begins at a multiple of 64 bytes; the header ends in a line break.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + header.len() + 4 * values.len());
    bytes.extend_from_slice(NPY_MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&u16::try_from(header.len()).expect("32 dimensions of 20 digits fit").to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

struct NpyHeader {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// The Python dictionary literal `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`, keys in any order, and nothing
/// else of Python.
fn parse_npy_header(header: &str) -> Option<NpyHeader> {
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    let mut rest = header.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (text, after) = quoted(value)?;
                descr = Some(text.to_owned());
                after
            }
            "fortran_order" => {
                let (truth, after) = match value.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, value.strip_prefix("False")?),
                };
                fortran = Some(truth);
                after
            }
            "shape" => {
                let (dims, after) = value.strip_prefix('(')?.split_once(')')?;
                let dims = dims.trim();
                let dims = dims.strip_suffix(',').unwrap_or(dims);
                let parsed: Option<Vec<usize>> =
                    if dims.is_empty() { Some(Vec::new()) } else { dims.split(',').map(|d| d.trim().parse().ok()).collect() };
                shape = Some(parsed.filter(|s| s.len() <= 32)?);
                after
            }
            _ => return None,
        };
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(NpyHeader { descr: descr?, fortran: fortran?, shape: shape? })
}

/// A Python string without escapes at the start of `text`, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// Row-major values of a column-major array: the first index varies fastest in the file, the last one in the result.
fn from_fortran_order(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let mut index = vec![0usize; shape.len()];
    let mut strides = vec![1usize; shape.len()];
    for d in 1..shape.len() {
        strides[d] = strides[d - 1] * shape[d - 1];
    }
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            if index[d] < shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
    out
}

/// IEEE 754 binary16.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}
