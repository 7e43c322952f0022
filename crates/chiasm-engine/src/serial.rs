//! How types of crates that know no serde are written.

use std::path::{Path, PathBuf};

use chiasm_core::{Modality, Span};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

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

/// What a part covers, by its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "unit")]
pub enum UnitSpan {
    /// All of it.
    #[serde(rename = "whole")]
    Whole,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds {
        /// The first.
        start: f64,
        /// The end.
        end: f64,
    },
    /// Bytes of a text.
    #[serde(rename = "byte")]
    Bytes {
        /// The first.
        start: usize,
        /// The one after the last.
        end: usize,
    },
}

impl From<Span> for UnitSpan {
    fn from(span: Span) -> UnitSpan {
        match span {
            Span::Whole => UnitSpan::Whole,
            Span::Time { start_s, end_s } => UnitSpan::Seconds { start: start_s, end: end_s },
            Span::Bytes { start, end } => UnitSpan::Bytes { start, end },
        }
    }
}

pub(crate) fn unit_span<S: Serializer>(span: &Span, s: S) -> Result<S::Ok, S::Error> {
    UnitSpan::from(*span).serialize(s)
}

pub(crate) fn modality_from<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Modality, D::Error> {
    let word = <String as serde::Deserialize>::deserialize(d)?;
    word.parse().map_err(serde::de::Error::custom)
}
