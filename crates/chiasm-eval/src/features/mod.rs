//! Feature files: matrices of numbers and labels in the layouts in which people keep and publish them.
//!
//! A [`Source`] is what stands on a command line: a file, and where it holds several things, which one. [`read_features`] gives
//! its rows as numbers, [`read_labels`] its classes, [`list()`] what there is, and [`open_rows`] reads a large file block by
//! block. Each says what it found in one line, and refuses what does not match instead of guessing.
//!
//! | format | told by | a name is | read in blocks |
//! | --- | --- | --- | --- |
//! | MAT v5 (also v6, v7), either endianness | its head | a variable | where it is not deflated |
//! | MAT v7.3, HDF5 | its head | a variable, or a dataset such as `group/x` | no |
//! | `.npy` versions 1-3 | its head | - | yes |
//! | `.npz` | ZIP | an array | where it is not deflated |
//! | `.fvecs`, `.ivecs`, `.bvecs` | ending | - | yes |
//! | IDX, also gzipped | its head | - | where it is not gzipped |
//! | tables of text, also gzipped | otherwise | a column, a range `2-129`, or `a,b,c`, by number from 1 or by header | yes |
//!
//! # Shapes
//! Rows are the first dimension; further ones are flattened into the row in the order in which the file has them, and what was
//! found says so. A prime behind the source transposes, as in MATLAB: `faces.mat:X'` takes the columns for rows.
//!
//! # Labels
//! A vector of whole numbers, whatever the least is; words; one column of a table; a matrix rows x classes of 0 and 1. Several
//! classes of a row are separated by `|` or `;`; -1 and an empty cell are no class. Classes are numbered from 0 in ascending
//! order; [`with_common_classes`] numbers those of several files alike.
//!
//! # Limits
//! What a head says is held against the bytes that are there before memory is taken; what is deflated grows as it comes out.

mod binary;
mod error;
mod hdf5;
mod input;
mod kinds;
mod mat5;
mod npy;
mod npz;
mod numbers;
mod table;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use chiasm_core::{Labels, MatrixView, ShapeError, Vectors};

pub use error::FeatureError;
pub use kinds::with_common_classes;

use error::At;
use input::Input;
use numbers::{Numbers, Sparse, Type};
use table::{Rows, Table};

/// What a user names: `PATH`, `PATH:NAME`, and with a prime behind it the transposed matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The variable, array, dataset or columns in it, where one was named.
    pub name: Option<String>,
    /// Whether the columns are to be the rows.
    pub transposed: bool,
}

impl Source {
    /// Reads what stands on a command line. A colon may belong to a path: the longest path that exists is the file, and where
    /// none does, what follows the last colon is the name, unless it looks like the rest of a path.
    pub fn parse(text: &str) -> Source {
        Source::parse_with(text, &|path| Path::new(path).is_file())
    }

    fn parse_with(text: &str, exists: &dyn Fn(&str) -> bool) -> Source {
        let whole = |path: &str, transposed| Source { path: PathBuf::from(path), name: None, transposed };
        if exists(text) {
            return whole(text, false);
        }
        let (bare, transposed) = text.strip_suffix('\'').map_or((text, false), |bare| (bare, true));
        if exists(bare) {
            return whole(bare, transposed);
        }
        let named = |(path, name): (&str, &str)| Source {
            path: PathBuf::from(path),
            name: (!name.is_empty()).then(|| name.to_owned()),
            transposed,
        };
        let splits = || bare.rmatch_indices(':').map(|(i, _)| (&bare[..i], &bare[i + 1..]));
        if let Some(split) = splits().find(|(path, _)| exists(path)) {
            return named(split);
        }
        // `C:\x.npy` is a path, and so is `http://x`.
        let is_name = |(path, name): &(&str, &str)| path.len() > 1 && !name.starts_with(['/', '\\']);
        splits().next().filter(is_name).map_or_else(|| whole(bare, transposed), named)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(name) = &self.name {
            write!(f, ":{name}")?;
        }
        if self.transposed { f.write_str("'") } else { Ok(()) }
    }
}

/// What may be taken into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most numbers that are held at once.
    pub max_numbers: u64,
    /// Most numbers that a sparse matrix may have once its zeros are written out: they do not stand in the file.
    pub max_numbers_of_sparse: u64,
}

impl Default for Limits {
    /// 2^31 numbers, 8 GiB; 2^28 of a sparse matrix, 1 GiB.
    fn default() -> Limits {
        Limits { max_numbers: 1 << 31, max_numbers_of_sparse: 1 << 28 }
    }
}

/// One thing that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Variable, array, dataset or column; empty where the file is one matrix without a name.
    pub name: String,
    /// Rows first; empty for a single number.
    pub shape: Vec<usize>,
    /// The type of its numbers such as `f32`, or `text`, `cell`, `struct`.
    pub kind: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if self.name.is_empty() { "" } else { " " };
        write!(f, "{}{gap}[{} {}]", self.name, shape_text(&self.shape), self.kind)
    }
}

/// The entries in a sentence; of many the first.
pub(crate) fn holds(entries: &[Entry]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = entries.iter().take(MOST).map(Entry::to_string).collect();
    match entries.len() {
        0 => "nothing".to_owned(),
        n if n > MOST => format!("{} and {} more", shown.join(", "), n - MOST),
        _ => shown.join(", "),
    }
}

fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// A row with NaN or an infinity, and the first place where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadRow {
    /// Row, from 0.
    pub row: usize,
    /// Dimension, from 0.
    pub col: usize,
    /// What stands there; a number beyond f32 is an infinity.
    pub value: f32,
}

/// Rows of numbers out of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Row-major, shape `[n, dim]`; not finite in the bad rows.
    pub vectors: Vec<f32>,
    /// Numbers per row, at least 1.
    pub dim: usize,
    /// Rows, at least 1.
    pub n: usize,
    /// From where and in which form, as in `raw_features.mat: variable I_tr, 2173 x 128 f64, MAT v5`.
    pub found: String,
    /// Rows that no method can take.
    pub bad_rows: Vec<BadRow>,
}

impl Features {
    /// The rows as vectors.
    ///
    /// # Errors
    /// [`FeatureError::NotFinite`] when there is a bad row.
    pub fn into_vectors(self) -> Result<Vectors, FeatureError> {
        let (found, n_bad) = (self.found, self.bad_rows.len());
        Vectors::new(self.vectors, self.dim).map_err(|e| match e {
            ShapeError::NotFinite { row, col, value } => FeatureError::NotFinite { found, row, col, value, n_bad },
            other @ (ShapeError::Ragged { .. } | ShapeError::ZeroDim) => {
                FeatureError::Shape { found, reason: other.to_string() }
            }
        })
    }

    /// A borrowed view, which may hold bad rows.
    ///
    /// # Errors
    /// [`ShapeError`] where the fields were changed so that they contradict each other.
    pub fn view(&self) -> Result<MatrixView<'_>, ShapeError> {
        MatrixView::new(&self.vectors, self.dim)
    }
}

/// What a format reader hands over.
pub(crate) struct Loaded {
    /// `variable I_tr`; empty where a file is one matrix.
    label: String,
    format: &'static str,
    content: Content,
}

enum Content {
    Numbers(Numbers),
    Sparse(Sparse),
    /// One for each row.
    Texts(Vec<String>),
    Table(Table),
}

/// Reads a matrix whole.
///
/// Integers and f64 are rounded to f32. NaN, infinities and numbers beyond f32 are no error here: their rows are told in
/// [`Features::bad_rows`], since whoever pairs views must leave out the same rows of each.
///
/// # Errors
/// Every variant of [`FeatureError`] but `NotFinite` and `NoLabels`.
pub fn read_features(source: &Source, limits: &Limits) -> Result<Features, FeatureError> {
    features_of(open_rows(source, limits)?, limits)
}

/// [`read_features`] of bytes in memory; `file` is the name that tells the format where the bytes do not.
///
/// # Errors
/// As [`read_features`].
pub fn features_of_bytes(file: &str, bytes: Vec<u8>, name: Option<&str>, limits: &Limits) -> Result<Features, FeatureError> {
    let input = Input::of_memory(Path::new(file), bytes);
    features_of(RowReader::new(load(&input, name, limits)?, input, false)?, limits)
}

fn features_of(mut reader: RowReader, limits: &Limits) -> Result<Features, FeatureError> {
    let (n, dim) = (reader.n, reader.dim);
    let n_all = n as u64 * dim as u64;
    let limit = match reader.body {
        Body::Sparse(_) => limits.max_numbers.min(limits.max_numbers_of_sparse),
        Body::Numbers(_) | Body::Table { .. } => limits.max_numbers,
    };
    reader.input.at("").check(&reader.found, n_all, limit)?;
    let vectors = reader.block(n)?;
    let mut bad_rows = Vec::new();
    for (row, values) in vectors.chunks_exact(dim).enumerate() {
        if let Some(col) = values.iter().position(|v| !v.is_finite()) {
            bad_rows.push(BadRow { row, col, value: values[col] });
        }
    }
    Ok(Features { vectors, dim, n, found: reader.found, bad_rows })
}

/// Reads the classes of rows, and says how they were written.
///
/// # Errors
/// Every variant of [`FeatureError`] but `NotFinite`; [`FeatureError::NoLabels`] for numbers that are no classes.
pub fn read_labels(source: &Source, limits: &Limits) -> Result<(Labels, String), FeatureError> {
    let input = Input::open(&source.path)?;
    labels_of(&input, source.name.as_deref(), source.transposed, limits)
}

/// [`read_labels`] of bytes in memory; `file` is the name that tells the format where the bytes do not.
///
/// # Errors
/// As [`read_labels`].
pub fn labels_of_bytes(
    file: &str,
    bytes: Vec<u8>,
    name: Option<&str>,
    limits: &Limits,
) -> Result<(Labels, String), FeatureError> {
    labels_of(&Input::of_memory(Path::new(file), bytes), name, false, limits)
}

fn labels_of(input: &Input, name: Option<&str>, transposed: bool, limits: &Limits) -> Result<(Labels, String), FeatureError> {
    let mut loaded = load(input, name, limits)?;
    let found = found(&loaded, input);
    if transposed {
        loaded.content = transpose(loaded.content, input, &found)?;
    }
    if let Content::Numbers(numbers) = &loaded.content {
        let n_all = numbers.n as u64 * numbers.dim as u64;
        input.at("").check(&found, n_all, limits.max_numbers)?;
    }
    kinds::labels(&loaded, input, &found)
}

/// Opens a matrix to be read block by block, in memory of one block where the format allows it.
///
/// # Errors
/// As [`read_features`], but for what only reading shows.
pub fn open_rows(source: &Source, limits: &Limits) -> Result<RowReader, FeatureError> {
    let input = Input::open(&source.path)?;
    RowReader::new(load(&input, source.name.as_deref(), limits)?, input, source.transposed)
}

/// What a file holds.
///
/// # Errors
/// [`FeatureError::Io`], [`FeatureError::Unknown`], [`FeatureError::Damaged`].
pub fn list(path: &Path) -> Result<Vec<Entry>, FeatureError> {
    list_of(&Input::open(path)?, &Limits::default())
}

fn list_of(input: &Input, limits: &Limits) -> Result<Vec<Entry>, FeatureError> {
    let opened = open(input, limits)?;
    let input = &opened.input;
    match opened.format {
        Format::Mat5 { big_endian } => mat5::list(input, big_endian),
        Format::Hdf5 => hdf5::list(input, limits),
        Format::Npz => npz::list(input, limits),
        Format::Npy => Ok(vec![npy::entry(input, "", npy::FORMAT)?]),
        Format::Idx { ty, n_dims } => Ok(vec![of_numbers(&binary::idx(input, ty, n_dims)?)]),
        Format::Vecs { ty, name } => Ok(vec![of_numbers(&binary::vecs(input, ty, name)?)]),
        Format::Table => Table::open(input, None)?.entries(),
    }
}

fn of_numbers(numbers: &Numbers) -> Entry {
    Entry { name: String::new(), shape: numbers.dims.clone(), kind: numbers.type_name.to_owned() }
}

enum Format {
    Mat5 { big_endian: bool },
    Hdf5,
    Npy,
    Npz,
    Idx { ty: Type, n_dims: usize },
    Vecs { ty: Type, name: &'static str },
    Table,
}

struct Opened {
    format: Format,
    input: Input,
}

/// Tells the format and undoes a gzip around it.
fn open(input: &Input, limits: &Limits) -> Result<Opened, FeatureError> {
    let start = input.bytes(0, input.len().min(512)).map_err(|e| input.at("").io(e))?.unwrap_or_default();
    let input = if start.starts_with(&[0x1f, 0x8b]) { unzipped(input, limits)? } else { input.clone() };
    let start = input.bytes(0, input.len().min(512)).map_err(|e| input.at("").io(e))?.unwrap_or_default();
    let unknown = |reason: String| FeatureError::Unknown { path: input.path(), reason };
    if start.is_empty() {
        return Err(unknown("the file is empty".to_owned()));
    }
    let ending = input.ending();
    let format = if start.starts_with(npy::MAGIC) {
        Format::Npy
    } else if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        Format::Npz
    } else if hdf5::is_hdf5(&input) {
        Format::Hdf5
    } else if let Some(big_endian) = mat5::endianness(&start) {
        Format::Mat5 { big_endian }
    } else if let Some((ty, name)) = binary::vecs_type(&ending) {
        Format::Vecs { ty, name }
    } else if let Some((ty, n_dims)) = binary::idx_head(&start) {
        Format::Idx { ty, n_dims }
    } else {
        match ending.as_str() {
            "mat" => return Err(unknown("a .mat file that is neither v5 nor v7.3: save it with `-v7`".to_owned())),
            "npy" | "npz" | "h5" | "hdf5" => return Err(unknown(format!("its first bytes are not those of .{ending}"))),
            _ => Format::Table,
        }
    };
    Ok(Opened { format, input })
}

fn unzipped(input: &Input, limits: &Limits) -> Result<Input, FeatureError> {
    let at = input.at("gzip");
    let most = limits.max_numbers.saturating_mul(8);
    let mut bytes = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(std::io::BufReader::new(input.reader(0)));
    decoder.take(most + 1).read_to_end(&mut bytes).map_err(|e| at.damaged(format!("its deflated data: {e}")))?;
    at.check("its inside", bytes.len() as u64 / 8, limits.max_numbers)?;
    Ok(Input::of_memory(at.path, bytes))
}

fn load(input: &Input, name: Option<&str>, limits: &Limits) -> Result<Loaded, FeatureError> {
    let Opened { format, input } = open(input, limits)?;
    let bare = |format: &'static str, content| {
        let at: At = input.at(format);
        match name {
            None => Ok(Loaded { label: String::new(), format, content }),
            Some(name) => {
                Err(at.unsupported(format!("`{name}` of a file that holds one matrix without a name"), "leave the name out"))
            }
        }
    };
    match format {
        Format::Mat5 { big_endian } => mat5::load(&input, big_endian, name, limits),
        Format::Hdf5 => hdf5::load(&input, name, limits),
        Format::Npz => npz::load(&input, name, limits),
        Format::Npy => bare(npy::FORMAT, npy::load(&input, "the array", npy::FORMAT, limits)?),
        Format::Idx { ty, n_dims } => bare(binary::IDX, Content::Numbers(binary::idx(&input, ty, n_dims)?)),
        Format::Vecs { ty, name: format } => bare(format, Content::Numbers(binary::vecs(&input, ty, format)?)),
        Format::Table => {
            let table = Table::open(&input, name)?;
            Ok(Loaded { label: table.label(), format: "", content: Content::Table(table) })
        }
    }
}

/// `raw_features.mat: variable I_tr, 2173 x 128 f64, MAT v5`.
fn found(loaded: &Loaded, input: &Input) -> String {
    let what = match &loaded.content {
        Content::Numbers(n) if n.dims.len() > 2 => {
            format!("{} {}, each row flattened to {}", shape_text(&n.dims), n.type_name, n.dim)
        }
        Content::Numbers(n) => format!("{} {}", shape_text(&n.dims), n.type_name),
        Content::Sparse(s) => format!("{} x {} sparse", s.n, s.dim),
        Content::Texts(texts) => format!("{} texts", texts.len()),
        Content::Table(t) if t.columns.len() == 1 => format!("{} rows, {}", t.n, t.form()),
        Content::Table(t) => format!("{} x {}, {}", t.n, t.columns.len(), t.form()),
    };
    let parts: Vec<&str> = [&loaded.label, what.as_str(), loaded.format].into_iter().filter(|p| !p.is_empty()).collect();
    format!("{}: {}", input.file_name(), parts.join(", "))
}

fn transpose(content: Content, input: &Input, found: &str) -> Result<Content, FeatureError> {
    let refuse = |reason: &str| FeatureError::Shape { found: found.to_owned(), reason: reason.to_owned() };
    match content {
        Content::Numbers(numbers) => {
            let reason = "it cannot be transposed: that takes a plain matrix of two dimensions";
            numbers.transposed().map(Content::Numbers).ok_or_else(|| refuse(reason))
        }
        Content::Sparse(sparse) => Ok(Content::Sparse(sparse.transposed())),
        Content::Texts(_) => Err(refuse("texts cannot be transposed")),
        Content::Table(table) => {
            let values = table.numbers(&mut table.rows(), usize::MAX)?;
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let (dims, own) = (vec![table.n, table.columns.len()], Input::of_memory(&input.path(), bytes));
            let numbers = Numbers::new(dims, Type::F32, false, false, own).and_then(Numbers::transposed);
            numbers.map(Content::Numbers).ok_or_else(|| refuse("it cannot be transposed"))
        }
    }
}

/// A matrix read from front to back in blocks of rows.
pub struct RowReader {
    body: Body,
    n: usize,
    dim: usize,
    next: usize,
    found: String,
    input: Input,
}

enum Body {
    Numbers(Numbers),
    Sparse(Sparse),
    Table { table: Box<Table>, rows: Box<Rows> },
}

impl RowReader {
    fn new(mut loaded: Loaded, input: Input, transposed: bool) -> Result<RowReader, FeatureError> {
        let mut found = found(&loaded, &input);
        let refuse = |reason: &str| FeatureError::Shape { found: found.clone(), reason: reason.to_owned() };
        if transposed {
            loaded.content = transpose(loaded.content, &input, &found)?;
        }
        let (body, n, dim) = match loaded.content {
            Content::Numbers(numbers) => {
                if numbers.dims.len() < 2 {
                    let reason =
                        "features have two dimensions, rows x dimensions; this is one number per row: is it the labels?";
                    return Err(refuse(reason));
                }
                let (n, dim) = (numbers.n, numbers.dim);
                (Body::Numbers(numbers), n, dim)
            }
            Content::Sparse(sparse) => {
                let (n, dim) = (sparse.n, sparse.dim);
                (Body::Sparse(sparse), n, dim)
            }
            Content::Table(table) => {
                let (n, dim, rows) = (table.n, table.columns.len(), Box::new(table.rows()));
                (Body::Table { table: Box::new(table), rows }, n, dim)
            }
            Content::Texts(_) => return Err(refuse("texts are no features: are they the labels?")),
        };
        if n == 0 || dim == 0 {
            return Err(refuse("it holds no numbers"));
        }
        if transposed {
            found.push_str(&format!(", transposed to {n} x {dim}"));
        }
        Ok(RowReader { body, n, dim, next: 0, found, input })
    }

    /// Rows in all, at least 1.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Numbers per row, at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// From where and in which form, as [`Features::found`].
    pub fn found(&self) -> &str {
        &self.found
    }

    /// The next rows, row-major: at most `max_rows`, at least one, fewer where rows are very long; `None` after the last.
    ///
    /// # Errors
    /// [`FeatureError::Io`], [`FeatureError::Lines`], [`FeatureError::Damaged`].
    pub fn next_block(&mut self, max_rows: usize) -> Result<Option<Vec<f32>>, FeatureError> {
        /// 256 MiB of f32.
        const MOST_NUMBERS: usize = 1 << 26;
        let count = max_rows.min(MOST_NUMBERS / self.dim).max(1).min(self.n - self.next);
        if count == 0 { Ok(None) } else { self.block(count).map(Some) }
    }

    /// Begins anew.
    pub fn rewind(&mut self) {
        self.next = 0;
        if let Body::Table { table, rows } = &mut self.body {
            **rows = table.rows();
        }
    }

    fn block(&mut self, count: usize) -> Result<Vec<f32>, FeatureError> {
        let start = self.next;
        self.next += count;
        match &mut self.body {
            Body::Numbers(numbers) => numbers.rows(start, count),
            Body::Sparse(sparse) => Ok(sparse.rows(start, count)),
            Body::Table { table, rows } => {
                let values = table.numbers(rows, count)?;
                if values.len() == count * self.dim {
                    return Ok(values);
                }
                Err(self.input.at("table").damaged("it became shorter while it was read"))
            }
        }
    }
}

/// Why views do not pair up, row for row, and what would help; `None` when all have equally many rows.
pub fn mismatch_message(views: &[(&Source, &Features)]) -> Option<String> {
    let (first, rest) = views.split_first()?;
    let (source, features) = rest.iter().find(|(_, f)| f.n != first.1.n)?;
    let mut message = format!(
        "the views must have the same rows in the same order: {} has {} rows, {} has {} ({}; {})",
        first.0, first.1.n, source, features.n, first.1.found, features.found
    );
    let primed = |source: &Source| Source { transposed: !source.transposed, ..source.clone() };
    if features.dim == first.1.n {
        message.push_str(&format!(": the second has its rows as columns, take `{}`", primed(source)));
    } else if first.1.dim == features.n {
        message.push_str(&format!(": the first has its rows as columns, take `{}`", primed(first.0)));
    } else if features.dim == first.1.dim {
        message.push_str(&format!(": each has {} columns; if those are the items, put a prime behind both", features.dim));
    } else {
        message.push_str(": are both of the same part of the set, such as training or test?");
    }
    Some(message)
}

#[cfg(test)]
mod tests;
