//! Matrices as files hold them: any numeric type, either endianness, rows or columns first, dense or sparse.

use super::error::FeatureError;
use super::input::Input;

/// The type of a stored number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl Type {
    pub(super) fn size(self) -> usize {
        match self {
            Type::I8 | Type::U8 | Type::Bool => 1,
            Type::F16 | Type::I16 | Type::U16 => 2,
            Type::F32 | Type::I32 | Type::U32 => 4,
            Type::F64 | Type::I64 | Type::U64 => 8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::F16 => "f16",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::I8 => "i8",
            Type::I16 => "i16",
            Type::I32 => "i32",
            Type::I64 => "i64",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::Bool => "bool",
        }
    }
}

/// What numbers are read as: f32 for features, f64 for labels, which may be large.
pub(super) trait Number: Copy + Default {
    fn of_f32(value: f32) -> Self;
    fn of_f64(value: f64) -> Self;
}

impl Number for f32 {
    fn of_f32(value: f32) -> f32 {
        value
    }
    fn of_f64(value: f64) -> f32 {
        value as f32
    }
}

impl Number for f64 {
    fn of_f32(value: f32) -> f64 {
        f64::from(value)
    }
    fn of_f64(value: f64) -> f64 {
        value
    }
}

/// A dense matrix `[n, dim]` whose numbers stand in `input`.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// As the file says it, before anything was flattened or transposed.
    pub(super) dims: Vec<usize>,
    pub(super) n: usize,
    pub(super) dim: usize,
    /// What the file calls them, where that is not how they are stored.
    pub(super) type_name: &'static str,
    ty: Type,
    big_endian: bool,
    layout: Layout,
    input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A row is `skip` bytes and its numbers.
    Rows { skip: usize },
    /// All first numbers of the rows, then all second ones, as in MATLAB and Fortran.
    Columns,
}

impl Numbers {
    /// An array of shape `dims`, the rows first; further dimensions are flattened into the row, in the order in which they stand.
    /// `None` where its size is not that of `input`.
    pub(super) fn new(dims: Vec<usize>, ty: Type, big_endian: bool, by_columns: bool, input: Input) -> Option<Numbers> {
        let (&n, rest) = dims.split_first()?;
        let dim = rest.iter().try_fold(1usize, |a, b| a.checked_mul(*b))?;
        let bytes = n.checked_mul(dim)?.checked_mul(ty.size())?;
        let layout = if by_columns { Layout::Columns } else { Layout::Rows { skip: 0 } };
        (bytes as u64 == input.len()).then(|| Numbers { n, dim, type_name: ty.name(), ty, big_endian, layout, input, dims })
    }

    /// Little-endian rows with four bytes before each. `None` where `input` is no whole number of them.
    pub(super) fn with_heads(dim: usize, ty: Type, input: Input) -> Option<Numbers> {
        let stride = dim.checked_mul(ty.size())?.checked_add(4)? as u64;
        let n = usize::try_from(input.len() / stride).ok()?;
        input.len().is_multiple_of(stride).then(|| Numbers {
            dims: vec![n, dim],
            n,
            dim,
            type_name: ty.name(),
            ty,
            big_endian: false,
            layout: Layout::Rows { skip: 4 },
            input,
        })
    }

    /// The same under the name that the file gives its type.
    pub(super) fn called(self, type_name: &'static str) -> Numbers {
        Numbers { type_name, ..self }
    }

    /// Rows for columns: a matter of reading. `None` unless it has two dimensions that stand alone.
    pub(super) fn transposed(mut self) -> Option<Numbers> {
        self.layout = match self.layout {
            Layout::Rows { skip: 0 } => Layout::Columns,
            Layout::Rows { .. } => return None,
            Layout::Columns => Layout::Rows { skip: 0 },
        };
        if self.dims.len() != 2 {
            return None;
        }
        (self.n, self.dim) = (self.dim, self.n);
        Some(self)
    }

    /// The numbers of `count` rows from `start` on, row-major.
    pub(super) fn rows<T: Number>(&self, start: usize, count: usize) -> Result<Vec<T>, FeatureError> {
        let (dim, size) = (self.dim, self.ty.size());
        let failed = |reason| FeatureError::Io { path: self.input.path(), reason };
        let mut out = vec![T::default(); count * dim];
        match self.layout {
            Layout::Rows { skip } => {
                let stride = skip + dim * size;
                // Some hundred kilobytes at a time, so that the bytes do not stand in memory beside the numbers.
                let at_once = (1 << 18) / stride.max(1) + 1;
                let mut bytes = vec![0u8; at_once.min(count) * stride];
                for first in (0..count).step_by(at_once) {
                    let rows = at_once.min(count - first);
                    let bytes = &mut bytes[..rows * stride];
                    self.input.read_exact_at((start + first) as u64 * stride as u64, bytes).map_err(failed)?;
                    let out = &mut out[first * dim..][..rows * dim];
                    if skip == 0 {
                        decode(self.ty, self.big_endian, bytes, out);
                        continue;
                    }
                    for (row, (bytes, out)) in bytes.chunks_exact(stride).zip(out.chunks_exact_mut(dim)).enumerate() {
                        self.check_head(start + first + row, bytes)?;
                        decode(self.ty, self.big_endian, &bytes[skip..], out);
                    }
                }
            }
            Layout::Columns => {
                // In tiles of rows, so that neither side of the transposition leaves the cache; from a file in longer pieces.
                let tile = if self.input.is_memory() { 256 } else { 1024.max((1 << 21) / dim.max(1)) }.min(count.max(1));
                let (mut bytes, mut column) = (vec![0u8; tile * size], vec![T::default(); tile]);
                for first in (0..count).step_by(tile) {
                    let rows = tile.min(count - first);
                    let (bytes, column) = (&mut bytes[..rows * size], &mut column[..rows]);
                    for col in 0..dim {
                        let at = (col as u64 * self.n as u64 + (start + first) as u64) * size as u64;
                        self.input.read_exact_at(at, bytes).map_err(failed)?;
                        decode(self.ty, self.big_endian, bytes, column);
                        let mut to = first * dim + col;
                        for value in column.iter() {
                            out[to] = *value;
                            to += dim;
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    fn check_head(&self, row: usize, bytes: &[u8]) -> Result<(), FeatureError> {
        let head = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if head as usize == self.dim {
            return Ok(());
        }
        let reason = format!("row {} says that it has {head} dimensions, the first has {}", row + 1, self.dim);
        Err(self.input.at("vector").damaged(reason))
    }
}

/// Fills `out` with the numbers in `bytes`, which are as many.
fn decode<T: Number>(ty: Type, big_endian: bool, bytes: &[u8], out: &mut [T]) {
    macro_rules! each {
        ($ty:ty, $of:expr) => {{
            let (bytes, _) = bytes.as_chunks::<{ size_of::<$ty>() }>();
            if big_endian {
                out.iter_mut().zip(bytes).for_each(|(out, b)| *out = $of(<$ty>::from_be_bytes(*b)));
            } else {
                out.iter_mut().zip(bytes).for_each(|(out, b)| *out = $of(<$ty>::from_le_bytes(*b)));
            }
        }};
    }
    match ty {
        Type::F16 => each!(u16, |v| T::of_f32(half::f16::from_bits(v).to_f32())),
        Type::F32 => each!(f32, T::of_f32),
        Type::F64 => each!(f64, T::of_f64),
        Type::I8 => each!(i8, |v| T::of_f64(f64::from(v))),
        Type::I16 => each!(i16, |v| T::of_f64(f64::from(v))),
        Type::I32 => each!(i32, |v| T::of_f64(f64::from(v))),
        Type::I64 => each!(i64, |v| T::of_f64(v as f64)),
        Type::U8 => each!(u8, |v| T::of_f64(f64::from(v))),
        Type::U16 => each!(u16, |v| T::of_f64(f64::from(v))),
        Type::U32 => each!(u32, |v| T::of_f64(f64::from(v))),
        Type::U64 => each!(u64, |v| T::of_f64(v as f64)),
        Type::Bool => each!(u8, |v| T::of_f64(f64::from(u8::from(v != 0)))),
    }
}

/// All numbers of a part of a file, in their order.
pub(super) fn decode_all(ty: Type, big_endian: bool, bytes: &[u8]) -> Vec<f64> {
    let mut out = vec![0.0; bytes.len() / ty.size()];
    decode(ty, big_endian, bytes, &mut out);
    out
}

/// A sparse matrix `[n, dim]` in compressed rows.
#[derive(Clone, Debug)]
pub(super) struct Sparse {
    pub(super) n: usize,
    pub(super) dim: usize,
    offsets: Vec<usize>,
    cols: Vec<u32>,
    values: Vec<f64>,
}

impl Sparse {
    /// From `(row, column, value)`s, which are finite in number and within the shape; the order within a row is kept.
    fn of_entries(n: usize, dim: usize, entries: &[(u32, u32, f64)]) -> Sparse {
        let mut offsets = vec![0usize; n + 1];
        for (row, _, _) in entries {
            offsets[*row as usize + 1] += 1;
        }
        for i in 0..n {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let (mut cols, mut values) = (vec![0; entries.len()], vec![0.0; entries.len()]);
        for (row, col, value) in entries {
            let at = &mut next[*row as usize];
            (cols[*at], values[*at]) = (*col, *value);
            *at += 1;
        }
        Sparse { n, dim, offsets, cols, values }
    }

    /// From MATLAB's compressed columns: the rows of the numbers of column `j` are `rows[starts[j]..starts[j + 1]]`.
    pub(super) fn of_columns(n: usize, dim: usize, starts: &[f64], rows: &[f64], values: &[f64]) -> Result<Sparse, String> {
        if starts.len() != dim + 1 {
            return Err(format!("a sparse matrix of {dim} columns has {} column starts", starts.len()));
        }
        let mut entries = Vec::with_capacity(rows.len().min(values.len()));
        for (col, ends) in starts.windows(2).enumerate() {
            let within = ends[0] >= 0.0 && ends[0] <= ends[1] && ends[1] <= rows.len().min(values.len()) as f64;
            if !within {
                return Err(format!("column {} of a sparse matrix goes from {} to {}", col + 1, ends[0], ends[1]));
            }
            for i in ends[0] as usize..ends[1] as usize {
                if !(rows[i] >= 0.0 && rows[i] < n as f64) || entries.len() == values.len() {
                    return Err(format!("column {} of a sparse matrix of {n} rows has one at {}", col + 1, rows[i]));
                }
                entries.push((rows[i] as u32, col as u32, values[i]));
            }
        }
        Ok(Sparse::of_entries(n, dim, &entries))
    }

    pub(super) fn transposed(&self) -> Sparse {
        let mut entries = Vec::with_capacity(self.values.len());
        for row in 0..self.n {
            entries.extend(self.row(row).map(|(col, value)| (col, row as u32, value)));
        }
        Sparse::of_entries(self.dim, self.n, &entries)
    }

    /// What stands in a row: column and value.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = (u32, f64)> + '_ {
        let range = self.offsets[row]..self.offsets[row + 1];
        self.cols[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    /// The numbers of `count` rows from `start` on, zeros and all.
    pub(super) fn rows(&self, start: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count * self.dim];
        for row in 0..count {
            for (col, value) in self.row(start + row) {
                out[row * self.dim + col as usize] = value as f32;
            }
        }
        out
    }
}
