//! The files of `torch.save`: a ZIP archive with a pickle and the numbers beside it, or one pickle after another and the numbers
//! at the end.
//!
//! # Reference
//! `torch/serialization.py` of PyTorch 2.15: `_save` and `_legacy_save`.
//!
//! # Layouts
//! In the archive everything stands under one folder of any name: `data.pkl` describes the tensors, `data/<key>` are the numbers
//! of a storage, `byteorder` is `little` or `big` (little where it is missing). The older layout has four pickles (a number that
//! marks it, 1001, a dict on the machine that wrote it, the object itself), a fifth with the list of keys, and for each key the
//! count of numbers as eight bytes and the numbers. Tensors may share a storage and step through it in any order.
//!
//! # Cost
//! Stored numbers are read where they stand; a deflated storage is unpacked to the heap when the file is opened.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::Dtype;

use super::bytes::Bytes;
use super::pickle::{self, Node, PICKLE_LEN_MAX, PickleError, Storage, Tensor, Value};
use super::tensor::Stored;
use super::zip::{self, Member};
use super::{Named, WeightsError};

/// The number that the older layout begins with, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_VERSION: i64 = 1001;
/// Numbers that a tensor may have beyond those of its storage, by repeating them: room for masks, none for a flood.
const N_REPEATED_MAX: usize = 1 << 24;
/// Bytes that may come of deflated storages, as multiples of the file and beside it: weights barely shrink, zeros do.
const INFLATED_RATIO_MAX: u64 = 16;
const INFLATED_LEN_MIN: u64 = 1 << 26;

/// Whether a file that is no safetensors file begins as one of PyTorch's.
pub(super) fn is_torch(data: &[u8]) -> bool {
    // A safetensors file may begin so by chance of its header's length, but then a brace follows as the ninth byte.
    let plain = data.get(8).is_some_and(|b| *b != b'{');
    plain && (data.starts_with(b"PK\x03\x04") || matches!(data, [0x80, 2..=5, ..]))
}

/// All tensors of a file of either layout.
pub(super) fn tensors(file: &Arc<Path>, data: &Arc<Bytes>) -> Result<Named, WeightsError> {
    let found = if data.starts_with(b"PK") { from_archive(file, data) } else { from_stream(file, data) };
    found.map_err(|e| match e {
        PickleError::Code(global) => WeightsError::Code { file: file.to_path_buf(), global },
        PickleError::Damaged(reason) => WeightsError::Torch { file: file.to_path_buf(), reason },
    })
}

fn from_archive(file: &Arc<Path>, data: &Arc<Bytes>) -> Result<Named, PickleError> {
    let members = zip::members(data).map_err(PickleError::Damaged)?;
    let mut pickles = members.keys().filter_map(|name| name.strip_suffix("/data.pkl").filter(|top| !top.contains('/')));
    let (Some(top), None) = (pickles.next(), pickles.next()) else {
        return Err(damaged("it is an archive without one `data.pkl`"));
    };
    let name = format!("{top}/data.pkl");
    let program = unpack(&name, &members[&name], data, PICKLE_LEN_MAX as u64)?;
    let name = format!("{top}/byteorder");
    let order = members.get(&name).map(|member| unpack(&name, member, data, 16)).transpose()?;
    let big_endian = match order.as_deref() {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(_) => return Err(damaged("its numbers are in no known byte order")),
    };
    let mut inflated_left = (data.len() as u64).saturating_mul(INFLATED_RATIO_MAX).max(INFLATED_LEN_MIN);
    let mut storages: BTreeMap<&str, Place> = BTreeMap::new();
    let pickle = pickle::load(&program)?;
    let mut found = Vec::new();
    for (name, tensor) in pickle.state_dict()? {
        let key = tensor.storage.key;
        if !storages.contains_key(key) {
            let path = format!("{top}/data/{key}");
            let member = members.get(&path).ok_or_else(|| damaged(format!("it has no `{path}`, the numbers of `{name}`")))?;
            let inside = |reason| damaged(format!("`{path}`: {reason}"));
            let place = if let Some(range) = member.stored(data).map_err(inside)? {
                Place { data: Arc::clone(data), start: range.start, len: range.len() }
            } else {
                inflated_left = inflated_left
                    .checked_sub(member.len())
                    .ok_or_else(|| inside("more would come of its deflated data than of weights".to_owned()))?;
                let bytes = member.inflate(data).map_err(inside)?;
                Place { start: 0, len: bytes.len(), data: Arc::new(Bytes::Held(bytes)) }
            };
            storages.insert(key, place);
        }
        found.push((name.to_owned(), stored(file, name, tensor, &storages[key], big_endian)?));
    }
    Ok(found)
}

/// The bytes of a small member.
fn unpack<'a>(name: &str, member: &Member, data: &'a [u8], len_max: u64) -> Result<Cow<'a, [u8]>, PickleError> {
    let inside = |reason| damaged(format!("`{name}`: {reason}"));
    if member.len() > len_max {
        return Err(inside(format!("{} bytes, at most {len_max} are read", member.len())));
    }
    Ok(match member.stored(data).map_err(inside)? {
        Some(range) => Cow::Borrowed(&data[range]),
        None => Cow::Owned(member.inflate(data).map_err(inside)?),
    })
}

fn from_stream(file: &Arc<Path>, data: &Arc<Bytes>) -> Result<Named, PickleError> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::load(&data[at..])?;
        at += pickle.len;
        Ok(pickle)
    };
    if !matches!(next()?.root, Value::Long(digits) if digits == MAGIC) {
        return Err(damaged("it is a pickle, but none that `torch.save` has written"));
    }
    if !matches!(next()?.root, Value::Int(LEGACY_VERSION)) {
        return Err(damaged(format!("its layout is not version {LEGACY_VERSION}")));
    }
    let machine = next()?;
    let order = machine.dict(machine.root).unwrap_or_default().iter().find_map(|entry| match entry {
        (Value::Str("little_endian"), Value::Bool(little)) => Some(*little),
        _ => None,
    });
    let big_endian = !order.ok_or_else(|| damaged("its numbers are in no known byte order"))?;
    let object = next()?;
    let keys = next()?;

    let mut types: BTreeMap<&str, Dtype> = BTreeMap::new();
    for node in &object.nodes {
        if let Node::Storage(Storage { dtype, key, .. }) = node
            && types.insert(key, *dtype).is_some_and(|before| before != *dtype)
        {
            return Err(damaged(format!("storage `{key}` is said to be of two types")));
        }
    }
    let mut storages: BTreeMap<&str, Place> = BTreeMap::new();
    for key in keys.list(keys.root).ok_or_else(|| damaged("the list of its storages is missing"))? {
        let Value::Str(key) = key else {
            return Err(damaged("the list of its storages has a key that is no string"));
        };
        let dtype = types.get(key).ok_or_else(|| damaged(format!("storage `{key}` is in its list alone")))?;
        let cut_off = || damaged(format!("storage `{key}` is cut off"));
        let count: [u8; 8] = *data[at..].first_chunk().ok_or_else(cut_off)?;
        let n = if big_endian { u64::from_be_bytes(count) } else { u64::from_le_bytes(count) };
        let start = at + 8;
        let len = usize::try_from(n).ok().and_then(|n| n.checked_mul(width(*dtype))).ok_or_else(cut_off)?;
        let end = start.checked_add(len).filter(|end| *end <= data.len()).ok_or_else(cut_off)?;
        if storages.insert(key, Place { data: Arc::clone(data), start, len }).is_some() {
            return Err(damaged(format!("storage `{key}` is in its list twice")));
        }
        at = end;
    }
    let mut found = Vec::new();
    for (name, tensor) in object.state_dict()? {
        let key = tensor.storage.key;
        let place = storages.get(key).ok_or_else(|| damaged(format!("it has no storage `{key}`, the numbers of `{name}`")))?;
        found.push((name.to_owned(), stored(file, name, tensor, place, big_endian)?));
    }
    Ok(found)
}

/// Where the bytes of a storage stand.
struct Place {
    data: Arc<Bytes>,
    start: usize,
    len: usize,
}

/// A tensor, once it is sure to lie within its storage.
fn stored(file: &Arc<Path>, name: &str, tensor: &Tensor, place: &Place, big_endian: bool) -> Result<Stored, PickleError> {
    let Tensor { storage, offset, shape, strides } = tensor;
    let width = width(storage.dtype);
    if storage.n.checked_mul(width) != Some(place.len) {
        let reason =
            format!("storage `{}` has {} bytes, {} numbers of {width} were expected", storage.key, place.len, storage.n);
        return Err(damaged(reason));
    }
    let outside = || damaged(format!("`{name}`, of shape {shape:?}, does not lie within its storage"));
    let n = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).ok_or_else(outside)?;
    let mut last = if n == 0 { 0 } else { *offset };
    if n > 0 {
        for (size, stride) in shape.iter().zip(strides) {
            last = (size - 1).checked_mul(*stride).and_then(|step| last.checked_add(step)).ok_or_else(outside)?;
        }
        if last >= storage.n || n > storage.n.saturating_add(N_REPEATED_MAX) {
            return Err(outside());
        }
    }
    // Row-major, whatever is written for dimensions of one. The products are parts of `n`, so they fit.
    let mut expected = 1;
    let row_major = n == 0
        || shape.iter().zip(strides).rev().all(|(size, stride)| {
            let matches = *size == 1 || *stride == expected;
            expected *= size;
            matches
        });
    Ok(Stored {
        file: Arc::clone(file),
        data: Arc::clone(&place.data),
        start: place.start + if n == 0 { 0 } else { offset * width },
        dtype: storage.dtype,
        big_endian,
        shape: shape.clone(),
        strides: (!row_major).then(|| strides.clone()),
    })
}

/// Bytes of a number; every type that a pickle may name has whole ones.
fn width(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

fn damaged(reason: impl Into<String>) -> PickleError {
    PickleError::Damaged(reason.into())
}
