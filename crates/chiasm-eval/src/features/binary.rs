//! Formats that are little more than numbers: IDX (MNIST), and `.fvecs`, `.ivecs`, `.bvecs` (TEXMEX).
//!
//! # Reference
//! LeCun, Cortes and Burges, The MNIST database, "File formats". Jégou, Douze and Amsaleg, Datasets for approximate nearest
//! neighbor search, "File formats": each vector is its dimension as a little-endian i32, and its numbers.

use super::error::FeatureError;
use super::input::Input;
use super::numbers::{Numbers, Type};

pub(super) const IDX: &str = "IDX";

/// The type and the number of dimensions that the four bytes before an IDX file say, if they are such.
pub(super) fn idx_head(start: &[u8]) -> Option<(Type, usize)> {
    let [0, 0, ty, n_dims @ 1..=8, ..] = *start else { return None };
    let ty = match ty {
        0x08 => Type::U8,
        0x09 => Type::I8,
        0x0b => Type::I16,
        0x0c => Type::I32,
        0x0d => Type::F32,
        0x0e => Type::F64,
        _ => return None,
    };
    Some((ty, usize::from(n_dims)))
}

pub(super) fn idx(input: &Input, ty: Type, n_dims: usize) -> Result<Numbers, FeatureError> {
    let at = input.at(IDX);
    let cut = || at.damaged("it ends within its header");
    let dims = input.bytes(4, 4 * n_dims as u64).map_err(|e| at.io(e))?.ok_or_else(cut)?;
    let dims: Vec<usize> = dims.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let start = 4 + 4 * n_dims as u64;
    let data = input.part(start, input.len() - start).ok_or_else(cut)?;
    let n_left = data.len();
    Numbers::new(dims.clone(), ty, true, false, data)
        .ok_or_else(|| at.damaged(format!("shape {dims:?} of {} does not fit its {n_left} bytes", ty.name())))
}

/// The type and the name of the format that an ending stands for.
pub(super) fn vecs_type(ending: &str) -> Option<(Type, &'static str)> {
    match ending {
        "fvecs" => Some((Type::F32, "FVECS")),
        "ivecs" => Some((Type::I32, "IVECS")),
        "bvecs" => Some((Type::U8, "BVECS")),
        _ => None,
    }
}

pub(super) fn vecs(input: &Input, ty: Type, format: &'static str) -> Result<Numbers, FeatureError> {
    let at = input.at(format);
    let Some(head) = input.bytes(0, 4).map_err(|e| at.io(e))? else {
        return Err(at.damaged("it has not even the dimension of a first vector"));
    };
    let dim = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if dim == 0 || dim > i32::MAX as u32 {
        return Err(at.damaged(format!("its first vector says that it has {dim} dimensions")));
    }
    Numbers::with_heads(dim as usize, ty, input.clone()).ok_or_else(|| {
        let reason = format!("{} bytes are no whole number of vectors of {dim} {} and their heads", input.len(), ty.name());
        at.damaged(reason)
    })
}
