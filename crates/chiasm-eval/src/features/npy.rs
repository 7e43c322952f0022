//! NumPy arrays: `.npy` of versions 1 to 3.
//!
//! # Reference
//! NumPy enhancement proposal 1 and `numpy.lib.format`. Checked against numpy 2.4. Objects are never unpickled.

use super::error::{At, FeatureError, excerpt};
use super::input::Input;
use super::numbers::{Numbers, Type};
use super::{Content, Entry, Limits};

pub(super) const FORMAT: &str = "NPY";
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the numbers begin.
    start: u64,
}

impl Header {
    fn read(input: &Input, at: At) -> Result<Header, FeatureError> {
        let cut = || at.damaged("it ends within its header");
        let read = |offset, n| input.bytes(offset, n).map_err(|e| at.io(e))?.ok_or_else(cut);
        let start = read(0, 10)?;
        if !start.starts_with(MAGIC) {
            return Err(at.damaged("its magic bytes are missing"));
        }
        let (n, from) = match start[6] {
            1 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
            2 | 3 => {
                let n = read(8, 4)?;
                (u64::from(u32::from_le_bytes([n[0], n[1], n[2], n[3]])), 12)
            }
            other => return Err(at.damaged(format!("version {other}, expected 1, 2 or 3"))),
        };
        // NumPy itself refuses longer ones.
        if n > 10_000 {
            return Err(at.damaged(format!("a header of {n} bytes, expected at most 10,000")));
        }
        let text = String::from_utf8_lossy(&read(from, n)?).into_owned();
        let Some((descr, fortran, shape)) = parse(&text) else {
            if text.contains("'descr': [") {
                let cure = "save the column as an array of its own, as in `np.save('x.npy', a['field'])`";
                return Err(at.unsupported("a structured array", cure));
            }
            return Err(at.damaged(format!("its header `{}` is not understood", excerpt(&text))));
        };
        Ok(Header { descr, fortran, shape, start: from + n })
    }
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }` in any order.
fn parse(text: &str) -> Option<(String, bool, Vec<usize>)> {
    let after = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let descr = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let fortran = match after("fortran_order")? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return None,
    };
    let inner = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    let (last, before) = parts.split_last()?;
    let dims = before.iter().chain((!last.is_empty()).then_some(last));
    // Python 2 wrote long integers with an L.
    let shape = dims.map(|d| d.trim_end_matches('L').parse().ok()).collect::<Option<Vec<usize>>>()?;
    (shape.len() <= 64).then_some((descr, fortran, shape))
}

fn type_of(descr: &str) -> Option<(Type, bool)> {
    let big_endian = descr.starts_with('>');
    let ty = match descr.strip_prefix(['<', '>', '|', '='])? {
        "f2" => Type::F16,
        "f4" => Type::F32,
        "f8" => Type::F64,
        "i1" => Type::I8,
        "i2" => Type::I16,
        "i4" => Type::I32,
        "i8" => Type::I64,
        "u1" => Type::U8,
        "u2" => Type::U16,
        "u4" => Type::U32,
        "u8" => Type::U64,
        "b1" => Type::Bool,
        _ => return None,
    };
    Some((ty, big_endian))
}

/// Texts of fixed width: bytes for `S`, UTF-32 for `U`.
fn text_width(descr: &str) -> Option<(bool, usize)> {
    let rest = descr.strip_prefix(['<', '>', '|', '='])?;
    let wide = rest.starts_with('U');
    Some((wide, rest.strip_prefix(['U', 'S'])?.parse().ok()?))
}

pub(super) fn entry(input: &Input, name: &str, format: &'static str) -> Result<Entry, FeatureError> {
    let header = Header::read(input, input.at(format))?;
    let kind = match type_of(&header.descr) {
        Some((ty, _)) => ty.name().to_owned(),
        None if text_width(&header.descr).is_some() => "text".to_owned(),
        None => excerpt(&header.descr),
    };
    Ok(Entry { name: name.to_owned(), shape: header.shape, kind })
}

/// The array in `input`; `what` names it in errors.
pub(super) fn load(input: &Input, what: &str, format: &'static str, limits: &Limits) -> Result<Content, FeatureError> {
    let at = input.at(format);
    let Header { descr, fortran, shape, start } = Header::read(input, at)?;
    let n_left = input.len() - start;
    let data = input.part(start, n_left).ok_or_else(|| at.damaged("it ends within its header"))?;
    let n_all = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64)).unwrap_or(u64::MAX);
    let lies =
        |size: usize| at.damaged(format!("{what} of shape {shape:?} and {size} bytes each does not fit its {n_left} bytes"));
    if let Some((wide, width)) = text_width(&descr) {
        let size = if wide { width.saturating_mul(4) } else { width };
        if n_all.checked_mul(size as u64) != Some(n_left) || size == 0 {
            return Err(lies(size));
        }
        at.check(what, n_left, limits.max_numbers)?;
        let bytes = data.bytes(0, n_left).map_err(|e| at.io(e))?.unwrap_or_default();
        let big_endian = descr.starts_with('>');
        return Ok(Content::Texts(bytes.chunks_exact(size).map(|b| text(b, wide, big_endian)).collect()));
    }
    let Some((ty, big_endian)) = type_of(&descr) else {
        let cure = if descr.contains('O') {
            "objects are not unpickled; save numbers with `.astype('float32')`, or texts with `.astype(str)`"
        } else {
            "save real numbers with `.astype('float32')`"
        };
        return Err(at.unsupported(format!("{what}, an array of type `{}`,", excerpt(&descr)), cure));
    };
    if fortran && shape.len() > 2 {
        let cure = "save it with `np.ascontiguousarray`";
        return Err(at.unsupported(format!("{what} in Fortran order of shape {shape:?}"), cure));
    }
    if n_all.checked_mul(ty.size() as u64) != Some(n_left) {
        return Err(lies(ty.size()));
    }
    if shape.is_empty() {
        return Err(at.unsupported(format!("{what}, a single number,"), "expected rows of numbers"));
    }
    // A dimension of 0 beside large ones has no numbers, but its product may overflow.
    Numbers::new(shape.clone(), ty, big_endian, fortran, data).map(Content::Numbers).ok_or_else(|| lies(ty.size()))
}

fn text(bytes: &[u8], wide: bool, big_endian: bool) -> String {
    if !wide {
        return String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    }
    let of = |b: &[u8]| {
        let own = [b[0], b[1], b[2], b[3]];
        let code = if big_endian { u32::from_be_bytes(own) } else { u32::from_le_bytes(own) };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    bytes.chunks_exact(4).map(of).collect::<String>().trim_end_matches('\0').to_owned()
}
