//! How types of crates that know no serde are written.

use std::path::{Path, PathBuf};

use chiasm_core::{Modality, Span};
use serde::Serializer;
use serde::ser::SerializeMap;

pub(crate) fn modality<S: Serializer>(m: &Modality, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(m.as_str())
}

/// A path that is no valid Unicode is written with U+FFFD in place of the bytes at fault: JSON has no other strings.
pub(crate) fn path<S: Serializer>(p: &Path, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&p.to_string_lossy())
}

pub(crate) fn paths<S: Serializer>(all: &[PathBuf], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(all.iter().map(|p| p.to_string_lossy()))
}

/// `null` for the whole, else `{"start_s", "end_s"}` or `{"start_byte", "end_byte"}`.
pub(crate) fn span<S: Serializer>(span: &Span, s: S) -> Result<S::Ok, S::Error> {
    match span {
        Span::Whole => s.serialize_none(),
        Span::Time { start_s, end_s } => {
            let mut out = s.serialize_map(Some(2))?;
            out.serialize_entry("start_s", start_s)?;
            out.serialize_entry("end_s", end_s)?;
            out.end()
        }
        Span::Bytes { start, end } => {
            let mut out = s.serialize_map(Some(2))?;
            out.serialize_entry("start_byte", start)?;
            out.serialize_entry("end_byte", end)?;
            out.end()
        }
    }
}

/// What a part covers, by its unit: `{"unit": "whole"}`, `{"unit": "s", "start", "end"}` or `{"unit": "byte", "start", "end"}`.
pub(crate) fn unit_span<S: Serializer>(span: &Span, s: S) -> Result<S::Ok, S::Error> {
    let mut out = s.serialize_map(None)?;
    match span {
        Span::Whole => out.serialize_entry("unit", "whole")?,
        Span::Time { start_s, end_s } => {
            out.serialize_entry("unit", "s")?;
            out.serialize_entry("start", start_s)?;
            out.serialize_entry("end", end_s)?;
        }
        Span::Bytes { start, end } => {
            out.serialize_entry("unit", "byte")?;
            out.serialize_entry("start", start)?;
            out.serialize_entry("end", end)?;
        }
    }
    out.end()
}

pub(crate) fn modality_from<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Modality, D::Error> {
    let word = <String as serde::Deserialize>::deserialize(d)?;
    word.parse().map_err(serde::de::Error::custom)
}
