//! HDF5, and with it MAT v7.3, which is HDF5 whose dimensions stand in MATLAB's order.
//!
//! MATLAB writes columns first, so HDF5 has its dimensions reversed, and marks each variable by the attribute `MATLAB_class`;
//! h5py writes rows first and no such mark. Each variable is taken by its own mark.

use std::sync::Arc;

use hdf5_reader::messages::datatype::Datatype;
use hdf5_reader::storage::{Storage, StorageBuffer};
use hdf5_reader::{Dataset, Hdf5File, OpenOptions};

use super::error::{At, FeatureError};
use super::input::Input;
use super::numbers::{Numbers, Sparse, Type, decode_all};
use super::{Content, Entry, Limits, Loaded};

pub(super) const FORMAT: &str = "HDF5";
pub(super) const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// So many groups and datasets are looked at, so deep: what is linked in a circle ends.
const MOST_OBJECTS: usize = 10_000;
const DEEPEST: usize = 8;

/// Whether HDF5 begins here or, as in MAT v7.3, after a block of the user's.
pub(super) fn is_hdf5(input: &Input) -> bool {
    let begins = |offset| input.bytes(offset, 8).ok().flatten().is_some_and(|b| b == MAGIC);
    begins(0) || (9..=13).any(|power| begins(1 << power))
}

impl Storage for Input {
    fn len(&self) -> u64 {
        Input::len(self)
    }

    fn read_range(&self, offset: u64, len: usize) -> hdf5_reader::error::Result<StorageBuffer> {
        let (needed, available) = (len as u64, Input::len(self).saturating_sub(offset));
        let bytes = self.bytes(offset, needed)?;
        let bytes = bytes.ok_or(hdf5_reader::error::Error::UnexpectedEof { offset, needed, available })?;
        Ok(StorageBuffer::from_vec(bytes))
    }
}

/// A matrix as HDF5 has it.
struct Variable {
    entry: Entry,
    matlab: bool,
    body: Body,
}

enum Body {
    Dense(Box<Dataset>),
    /// A group of three: numbers, rows, column starts; the number of rows is an attribute.
    Sparse {
        values: Box<Dataset>,
        rows: Box<Dataset>,
        starts: Box<Dataset>,
    },
}

pub(super) fn list(input: &Input, limits: &Limits) -> Result<Vec<Entry>, FeatureError> {
    Ok(variables(input, limits)?.into_iter().map(|v| v.entry).collect())
}

pub(super) fn load(input: &Input, name: Option<&str>, limits: &Limits) -> Result<Loaded, FeatureError> {
    let at = input.at(FORMAT);
    let variables = variables(input, limits)?;
    let entries: Vec<Entry> = variables.iter().map(|v| v.entry.clone()).collect();
    let kind = if variables.iter().any(|v| v.matlab) { "variable" } else { "dataset" };
    let chosen = at.choose(kind, name.map(|n| n.trim_start_matches('/')), &entries)?;
    let Variable { entry, matlab, body } = &variables[chosen];
    let (kind, format) = if *matlab { ("variable", "MAT v7.3 (columns first)") } else { ("dataset", "HDF5 (rows first)") };
    let label = format!("{kind} {}", entry.name);
    let content = match body {
        Body::Dense(dataset) => dense(dataset, entry, *matlab, &label, input, limits)?,
        Body::Sparse { values, rows, starts } => {
            let numbers = |part: &Dataset| -> Result<Vec<f64>, FeatureError> {
                let (ty, bytes) = bytes(part, &label, input, limits)?;
                Ok(decode_all(ty, cfg!(target_endian = "big"), &bytes))
            };
            let (values, rows, starts) = (numbers(values)?, numbers(rows)?, numbers(starts)?);
            let n = entry.shape[0];
            if n > (1 << 20).max(16 * rows.len()) {
                return Err(at.damaged(format!("{label} says that it has {n} rows, but holds {} numbers", rows.len())));
            }
            Sparse::of_columns(n, entry.shape[1], &starts, &rows, &values)
                .map(Content::Sparse)
                .map_err(|reason| at.damaged(format!("{label}: {reason}")))?
        }
    };
    Ok(Loaded { label, format, content })
}

fn dense(
    dataset: &Dataset,
    entry: &Entry,
    matlab: bool,
    label: &str,
    input: &Input,
    limits: &Limits,
) -> Result<Content, FeatureError> {
    let at = input.at(FORMAT);
    if entry.kind == "text" {
        budget(dataset, label, input, limits)?;
        return dataset.read_strings().map(Content::Texts).map_err(|e| at.damaged(format!("{label}: {e}")));
    }
    if matlab && (entry.kind == "cell" || entry.kind == "struct" || entry.kind == "object") {
        let cure = "save the matrix inside it as a variable of its own; classes as numbers or as a char matrix";
        return Err(at.unsupported(format!("{label}, a {},", entry.kind), cure));
    }
    if entry.shape.is_empty() {
        return Err(at.unsupported(format!("{label}, a single number,"), "expected rows of numbers"));
    }
    let (ty, bytes) = bytes(dataset, label, input, limits)?;
    let (shape, n_bytes) = (entry.shape.clone(), bytes.len());
    let numbers = Numbers::new(shape, ty, cfg!(target_endian = "big"), matlab, Input::of_memory(at.path, bytes));
    let numbers = numbers
        .ok_or_else(|| at.damaged(format!("{label} of shape {:?} has {n_bytes} bytes of {}", entry.shape, ty.name())))?;
    if entry.kind == "char" {
        // A row of codes is a text.
        let codes = numbers.rows::<f64>(0, numbers.n)?;
        let text = |row: &[f64]| {
            let wide = row.iter().map(|c| *c as u16);
            char::decode_utf16(wide).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().trim_end().to_owned()
        };
        return Ok(Content::Texts(codes.chunks(numbers.dim.max(1)).map(text).collect()));
    }
    let type_name = if entry.kind == "bool" { "bool" } else { ty.name() };
    Ok(Content::Numbers(numbers.called(type_name)))
}

/// Refuses what cannot be in a file of this length or is beyond the limits, before memory is taken for it.
fn budget(dataset: &Dataset, label: &str, input: &Input, limits: &Limits) -> Result<(), FeatureError> {
    let at = input.at(FORMAT);
    let said = |e| at.damaged(format!("{label}: {e}"));
    at.check(label, dataset.num_elements().map_err(said)?, limits.max_numbers)?;
    let n_bytes = dataset.raw_byte_len().map_err(said)? as u64;
    if n_bytes > input.inflated_max() {
        let reason = format!("{label} has {n_bytes} bytes, which a file of {} cannot hold even deflated", Input::len(input));
        return Err(at.damaged(reason));
    }
    Ok(())
}

fn bytes(dataset: &Dataset, label: &str, input: &Input, limits: &Limits) -> Result<(Type, Vec<u8>), FeatureError> {
    let at = input.at(FORMAT);
    let Some(ty) = type_of(dataset.dtype()) else {
        let cure = "save it as real numbers, such as float32";
        return Err(at.unsupported(format!("{label}, of type {},", kind_of(dataset.dtype())), cure));
    };
    budget(dataset, label, input, limits)?;
    let bytes = dataset.read_native_bytes().map_err(|e| at.damaged(format!("{label}: {e}")))?;
    Ok((ty, bytes))
}

fn type_of(ty: &Datatype) -> Option<Type> {
    Some(match ty {
        Datatype::FloatingPoint { size: 2, .. } => Type::F16,
        Datatype::FloatingPoint { size: 4, .. } => Type::F32,
        Datatype::FloatingPoint { size: 8, .. } => Type::F64,
        Datatype::FixedPoint { size: 1, signed: true, .. } => Type::I8,
        Datatype::FixedPoint { size: 2, signed: true, .. } => Type::I16,
        Datatype::FixedPoint { size: 4, signed: true, .. } => Type::I32,
        Datatype::FixedPoint { size: 8, signed: true, .. } => Type::I64,
        Datatype::FixedPoint { size: 1, signed: false, .. } => Type::U8,
        Datatype::FixedPoint { size: 2, signed: false, .. } => Type::U16,
        Datatype::FixedPoint { size: 4, signed: false, .. } => Type::U32,
        Datatype::FixedPoint { size: 8, signed: false, .. } => Type::U64,
        // h5py writes bool as an enumeration of one byte.
        Datatype::Enum { base, .. } if type_of(base)?.size() == 1 => Type::Bool,
        Datatype::FloatingPoint { .. }
        | Datatype::FixedPoint { .. }
        | Datatype::Enum { .. }
        | Datatype::String { .. }
        | Datatype::Compound { .. }
        | Datatype::Array { .. }
        | Datatype::VarLen { .. }
        | Datatype::Opaque { .. }
        | Datatype::Reference { .. }
        | Datatype::Bitfield { .. } => return None,
    })
}

fn kind_of(ty: &Datatype) -> String {
    if let Some(ty) = type_of(ty) {
        return ty.name().to_owned();
    }
    let words = match ty {
        Datatype::String { .. } => "text",
        Datatype::VarLen { .. } => "lists of varying length",
        Datatype::Compound { .. } => "records",
        Datatype::Reference { .. } => "references",
        Datatype::Array { .. } => "arrays",
        Datatype::Enum { .. } => "enumeration",
        Datatype::Opaque { .. } => "opaque",
        Datatype::FixedPoint { .. } | Datatype::FloatingPoint { .. } | Datatype::Bitfield { .. } => "numbers of odd width",
    };
    words.to_owned()
}

fn variables(input: &Input, limits: &Limits) -> Result<Vec<Variable>, FeatureError> {
    let at = input.at(FORMAT);
    let most = usize::try_from(limits.max_numbers.saturating_mul(8).min(input.inflated_max())).unwrap_or(usize::MAX);
    let options = OpenOptions::default().with_max_read_bytes(most).with_max_chunk_bytes(most);
    let failed = |e: hdf5_reader::error::Error| at.damaged(e.to_string());
    let file = Hdf5File::from_storage_with_options(Arc::new(input.clone()), options).map_err(failed)?;
    let mut found = Vec::new();
    let mut seen = 0;
    walk(&file.root_group().map_err(failed)?, "", 0, &mut seen, &mut found, at)?;
    Ok(found)
}

fn walk(
    group: &hdf5_reader::group::Group,
    prefix: &str,
    depth: usize,
    seen: &mut usize,
    found: &mut Vec<Variable>,
    at: At,
) -> Result<(), FeatureError> {
    let (groups, datasets) = group.members().map_err(|e| at.damaged(e.to_string()))?;
    *seen += groups.len() + datasets.len() + 1;
    if *seen > MOST_OBJECTS || depth > DEEPEST {
        let reason = format!("more than {MOST_OBJECTS} groups and datasets, or groups more than {DEEPEST} deep");
        return Err(at.unsupported(reason, "copy the features to a file of their own"));
    }
    for dataset in datasets {
        let name = format!("{prefix}{}", dataset.name());
        found.push(variable(name, dataset));
    }
    for group in groups {
        // MATLAB keeps what cells refer to here.
        if depth == 0 && group.name().starts_with('#') {
            continue;
        }
        let name = format!("{prefix}{}", group.name());
        match sparse(&group, &name) {
            Some(variable) => found.push(variable),
            None => walk(&group, &format!("{name}/"), depth + 1, seen, found, at)?,
        }
    }
    Ok(())
}

fn variable(name: String, dataset: Dataset) -> Variable {
    let class = dataset.attribute("MATLAB_class").ok().and_then(|a| a.read_string().ok());
    let mut shape: Vec<usize> = dataset.shape().iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).collect();
    let stored = kind_of(dataset.dtype());
    let kind = match class.as_deref() {
        Some("logical") => "bool".to_owned(),
        Some(class @ ("cell" | "struct" | "char")) => class.to_owned(),
        Some("single" | "double" | "int8" | "uint8" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "uint64") => stored,
        Some(_) => "object".to_owned(),
        None if matches!(dataset.dtype(), Datatype::VarLen { base, .. } if base.is_vlen_string_base()) => "text".to_owned(),
        None => stored,
    };
    let matlab = class.is_some();
    if matlab {
        shape.reverse();
        // An empty variable holds its own shape as numbers.
        if dataset.attribute("MATLAB_empty").is_ok_and(|a| a.read_as_f64().is_ok_and(|v| v != 0.0)) {
            shape = vec![0, 0];
        }
    }
    Variable { entry: Entry { name, shape, kind }, matlab, body: Body::Dense(Box::new(dataset)) }
}

fn sparse(group: &hdf5_reader::group::Group, name: &str) -> Option<Variable> {
    let n = group.attribute("MATLAB_sparse").ok()?.read_as_f64().ok()?;
    let [values, rows, starts] = ["data", "ir", "jc"].map(|part| group.dataset(part).ok().map(Box::new));
    let (values, rows, starts) = (values?, rows?, starts?);
    let dim = usize::try_from(starts.num_elements().ok()?).ok()?.checked_sub(1)?;
    let entry = Entry { name: name.to_owned(), shape: vec![n as usize, dim], kind: "sparse".to_owned() };
    Some(Variable { entry, matlab: true, body: Body::Sparse { values, rows, starts } })
}
