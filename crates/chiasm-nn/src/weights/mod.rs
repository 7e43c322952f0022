//! The layouts in which public checkpoints come: named tensors in half, brain, single or double precision, read to `f32` and
//! checked by name.
//!
//! An architecture *takes* each tensor it needs, stating the shape, and at the end calls [`Weights::finish`], which refuses
//! what nobody took. So a checkpoint of another model, a truncated or an altered one cannot be loaded by half.
//!
//! | layout | file | read by |
//! | --- | --- | --- |
//! | safetensors | `model.safetensors` | `safetensors.rs` |
//! | PyTorch | `pytorch_model.bin`, `.pt`, `.pth` of either layout of `torch.save` | `torch.rs`, `pickle.rs`, `zip.rs` |
//! | shards | `*.index.json` beside several of the above | `shards.rs` |
//!
//! PyTorch's files are pickles, which are programs. None is run: what names anything but tensors and their like is refused.
//!
//! # Memory
//! Files are mapped, so opening costs no more than their headers and a tensor is read when it is taken; tables of embeddings ([`Table`])
//! stay mapped. [`Bytes::map`] says what a map is worth: who truncates a file while it is in use brings the program down.

mod bytes;
mod pickle;
mod safetensors;
mod shards;
mod table;
mod tensor;
mod torch;
mod zip;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use self::bytes::Bytes;
pub use self::shards::WEIGHT_FILES;
pub use self::table::Table;
use self::tensor::Stored;
use crate::kernel::Precision;
use crate::simd::{sum_of, widest};

/// The tensors of a file with their names.
type Named = Vec<(String, Stored)>;

/// Names that are listed in a message.
const N_NAMES_SHOWN: usize = 4;

/// Why weights were refused. `file` is the path, or the label given to [`Weights::from_bytes`].
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be read.
    #[error("cannot read the weights {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder without weights.
    #[error("{} has no weights: none of {} is there", folder.display(), sought.join(", "))]
    NotFound {
        /// The folder.
        folder: PathBuf,
        /// The names that were looked for, in this order.
        sought: Vec<String>,
    },
    /// The header is not that of a whole safetensors file.
    #[error("{} is no whole safetensors file ({reason}): fetch it again", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a whole file of `torch.save`, or one of something else than tensors.
    #[error("{} is no whole PyTorch file of weights ({reason}): fetch it again, or use the model's safetensors file", file.display())]
    Torch {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A PyTorch file that refers to code.
    #[error(
        "{} names `{global}`, which is no part of plain weights: to load it in PyTorch could run any code, here nothing was run; \
         use the model's safetensors file",
        file.display()
    )]
    Code {
        /// The file.
        file: PathBuf,
        /// Module and name of the function or class.
        global: String,
    },
    /// The index of shards and the shards do not belong together.
    #[error("{} does not fit its shards ({reason}): fetch all of them again", file.display())]
    Index {
        /// The index.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Two tensors that would have one name.
    #[error("{} has both `{tensor}` and `{other}`, of which one alone can be meant", file.display())]
    Ambiguous {
        /// The file.
        file: PathBuf,
        /// The name without the prefix.
        tensor: String,
        /// The name with the prefix.
        other: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("{} has no tensor `{tensor}`: these are the weights of another model", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Tensors that the architecture does not know.
    #[error("{} has tensors that the model does not: {}: these are the weights of another model", file.display(), tensors.join(", "))]
    Extra {
        /// The file.
        file: PathBuf,
        /// The first few of them, in alphabetical order.
        tensors: Vec<String>,
    },
    /// A tensor of another shape.
    #[error("tensor `{tensor}` of {} has shape {got:?}, the model needs {expected:?}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape in the file.
        got: Vec<usize>,
        /// The shape that the architecture needs.
        expected: Vec<usize>,
    },
    /// A tensor stored in a type that holds no weights, or no integers.
    #[error("tensor `{tensor}` of {} is stored as {got}, {expected}", file.display())]
    Dtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type in the file.
        got: String,
        /// What is read instead.
        expected: &'static str,
    },
    /// NaN or an infinity among the weights, or a number that `f32` does not hold.
    #[error("tensor `{tensor}` of {} has {value} at place {at}, which is no finite f32: the file is damaged", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Place of the first offender in the flat tensor.
        at: usize,
        /// What stands there.
        value: f64,
    },
    /// A variance that nothing can be divided by.
    #[error("tensor `{tensor}` of {} has the variance {value} at place {at}, none is below 0: the file is damaged", file.display())]
    Variance {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Place of the first offender.
        at: usize,
        /// What stands there.
        value: f32,
    },
}

/// A checkpoint whose tensors are taken one by one.
pub struct Weights {
    /// The file, or the index of the shards.
    file: PathBuf,
    /// Each file and its name, in the order of names.
    parts: Vec<(String, Arc<Bytes>)>,
    tensors: BTreeMap<String, Entry>,
    digest: OnceLock<blake3::Hash>,
    precision: Precision,
}

struct Entry {
    stored: Stored,
    taken: bool,
}

impl Weights {
    /// Opens the weights of a model's folder: the first of `model.safetensors`, `model.safetensors.index.json` with its shards,
    /// `open_clip_model.safetensors`, `pytorch_model.bin`, `pytorch_model.bin.index.json` with its shards and
    /// `open_clip_pytorch_model.bin` that is there.
    ///
    /// # Errors
    /// [`WeightsError::NotFound`] when none is there, [`WeightsError::Index`] when the shards are not those of their index, and
    /// those of [`Weights::read`].
    pub fn open(folder: &Path) -> Result<Self, WeightsError> {
        let file = shards::find(folder)?;
        if file.extension().is_some_and(|ending| ending == "json") { shards::open(file) } else { Self::read(&file) }
    }

    /// Sets the precision in which the layers loaded from here on multiply; single precision unless this is called.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// See [`Weights::set_precision`].
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Opens one file of either kind, which its first bytes tell. It is mapped: see the module's words on memory.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; [`WeightsError::Header`] for a safetensors file that is not whole, and for what is no weights at all;
    /// [`WeightsError::Torch`] and [`WeightsError::Code`] for one of PyTorch.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let bytes = Bytes::map(path).map_err(|source| WeightsError::Io { file: path.to_owned(), source })?;
        Self::of_file(path, bytes)
    }

    /// Takes the bytes of a file of either kind; `label` stands for its name in messages.
    ///
    /// # Errors
    /// [`WeightsError::Header`] when the header lies about the rest: lengths, offsets, gaps, duplicates;
    /// [`WeightsError::Torch`] and [`WeightsError::Code`] for a file of PyTorch.
    pub fn from_bytes(label: &Path, bytes: Vec<u8>) -> Result<Self, WeightsError> {
        Self::of_file(label, Bytes::Held(bytes))
    }

    fn of_file(path: &Path, bytes: Bytes) -> Result<Self, WeightsError> {
        let bytes = Arc::new(bytes);
        let tensors = tensors(path, &bytes)?;
        let tensors = tensors.into_iter().map(|(name, stored)| (name, Entry { stored, taken: false })).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            file: path.to_owned(),
            parts: vec![(name, bytes)],
            tensors,
            digest: OnceLock::new(),
            precision: Precision::default(),
        })
    }

    /// The file that was opened; of shards, their index.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// BLAKE3 of the whole file; of several shards, over their names and digests in the order of names. Computed on all cores when it
    /// is first asked for.
    pub fn digest(&self) -> &blake3::Hash {
        self.digest_known(|_| None, |_, _| ())
    }

    /// The same where digests of files may be known: `known` is asked before one is computed, and `learnt` is told what was.
    pub fn digest_known(
        &self,
        known: impl Fn(&Path) -> Option<blake3::Hash>,
        learnt: impl Fn(&Path, blake3::Hash),
    ) -> &blake3::Hash {
        let of_part = |name: &str, part: &Bytes| {
            let path = self.file.with_file_name(name);
            known(&path).unwrap_or_else(|| {
                let digest = part.digest();
                learnt(&path, digest);
                digest
            })
        };
        self.digest.get_or_init(|| {
            if let [(name, whole)] = self.parts.as_slice() {
                return of_part(name, whole);
            }
            let mut hasher = blake3::Hasher::new();
            for (name, part) in &self.parts {
                // Each by its own digest, so that no two lists of parts read the same.
                hasher.update(blake3::hash(name.as_bytes()).as_bytes());
                hasher.update(of_part(name, part).as_bytes());
            }
            hasher.finalize()
        })
    }

    /// The names of the tensors that are not yet taken, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().filter(|(_, entry)| !entry.taken).map(|(name, _)| name.as_str())
    }

    /// Whether there is such a tensor, taken or not.
    pub fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The shape of a tensor, taken or not, if it is there.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.tensors.get(tensor).map(|entry| entry.stored.shape.as_slice())
    }

    /// Lets the tensors whose names start with `prefix` be known without it: the same network is stored as `bert.` or
    /// `model.` by whoever had it in a larger one. Gives how many they are; none is no error.
    ///
    /// # Errors
    /// [`WeightsError::Ambiguous`] when a tensor is there both ways; then no name has changed.
    pub fn strip_prefix(&mut self, prefix: &str) -> Result<usize, WeightsError> {
        let short = |name: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(str::to_owned);
        let both = |(name, rest): (&String, String)| {
            (self.tensors.contains_key(&rest) && short(&rest).is_none()).then(|| (name.clone(), rest))
        };
        let found = self.tensors.keys().filter_map(|name| short(name).map(|rest| (name, rest))).find_map(both);
        if let Some((other, tensor)) = found {
            return Err(WeightsError::Ambiguous { file: self.file.clone(), tensor, other });
        }
        let mut n_renamed = 0;
        let rename = |(name, entry): (String, Entry)| match short(&name) {
            Some(rest) => {
                n_renamed += 1;
                (rest, entry)
            }
            None => (name, entry),
        };
        self.tensors = std::mem::take(&mut self.tensors).into_iter().map(rename).collect();
        Ok(n_renamed)
    }

    /// Takes a tensor of exactly this shape, row-major, of any float type.
    ///
    /// # Errors
    /// Every variant of [`WeightsError`] that names a tensor.
    pub fn take(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        self.borrow(tensor, shape).map(Cow::into_owned)
    }

    /// The same without a copy where it can be had so.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(crate) fn borrow(&mut self, tensor: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>, WeightsError> {
        let stored = &self.entry(tensor, shape)?.stored;
        let read = match stored.as_floats() {
            Some(_) => None,
            None => {
                let expected = "weights must be F32, F16, BF16 or F64";
                Some(stored.floats().ok_or_else(|| wrong_type(tensor, stored, expected))?)
            }
        };
        let values = read.as_deref().or(stored.as_floats()).unwrap_or_default();
        if let Some(at) = first_not_finite(values) {
            let value = stored.wide(at).unwrap_or(f64::from(values[at]));
            return Err(WeightsError::NotFinite { file: stored.file.to_path_buf(), tensor: tensor.to_owned(), at, value });
        }
        self.skip(tensor);
        let stored = &self.entry(tensor, shape)?.stored;
        Ok(read.map_or_else(|| Cow::Borrowed(stored.as_floats().unwrap_or_default()), Cow::Owned))
    }

    /// Takes a tensor of two dimensions as a table, which is not read before its rows are.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn table(&mut self, tensor: &str, shape: [usize; 2]) -> Result<Table, WeightsError> {
        let read = match self.borrow(tensor, &shape)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(values) => Some(values),
        };
        Ok(match read {
            Some(values) => Table::held(values, shape[1]),
            None => Table::mapped(self.entry(tensor, &shape)?.stored.clone(), shape[1]),
        })
    }

    /// Takes a tensor as [`Weights::take`] does if it is there.
    ///
    /// # Errors
    /// As [`Weights::take`], except that a missing tensor is none.
    pub fn take_opt(&mut self, tensor: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, WeightsError> {
        if self.has(tensor) { self.take(tensor, shape).map(Some) } else { Ok(None) }
    }

    /// Takes a tensor of integers or truth values of exactly this shape, row-major.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::Shape`], and [`WeightsError::Dtype`] for floats and for numbers beyond `i64`.
    pub fn take_i64(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<i64>, WeightsError> {
        let stored = &self.entry(tensor, shape)?.stored;
        let expected = "integers that fit i64 are needed";
        let values = stored.integers().ok_or_else(|| wrong_type(tensor, stored, expected))?;
        self.skip(tensor);
        Ok(values)
    }

    /// Counts a tensor as taken without reading it: buffers that a framework stores beside the weights.
    pub fn skip(&mut self, tensor: &str) {
        if let Some(entry) = self.tensors.get_mut(tensor) {
            entry.taken = true;
        }
    }

    /// Counts all tensors whose names start with `prefix` as taken: a part of the network that is not wanted.
    pub fn skip_prefix(&mut self, prefix: &str) {
        for (_, entry) in self.tensors.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
            entry.taken = true;
        }
    }

    /// Ends the loading: every tensor must have been taken.
    ///
    /// # Errors
    /// [`WeightsError::Extra`].
    pub fn finish(self) -> Result<(), WeightsError> {
        let n_left = self.names().count();
        if n_left == 0 {
            return Ok(());
        }
        let mut tensors: Vec<String> = self.names().take(N_NAMES_SHOWN).map(str::to_owned).collect();
        if n_left > tensors.len() {
            tensors.push(format!("and {} more", n_left - tensors.len()));
        }
        Err(WeightsError::Extra { file: self.file, tensors })
    }

    /// The entry of a tensor of exactly this shape.
    /// Checks that a tensor is there, and of this shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::Shape`].
    pub(crate) fn demand(&self, tensor: &str, shape: &[usize]) -> Result<(), WeightsError> {
        self.entry(tensor, shape).map(drop)
    }

    fn entry(&self, tensor: &str, shape: &[usize]) -> Result<&Entry, WeightsError> {
        let Some(entry) = self.tensors.get(tensor) else {
            return Err(WeightsError::Missing { file: self.file.clone(), tensor: tensor.to_owned() });
        };
        if entry.stored.shape != shape {
            return Err(WeightsError::Shape {
                file: entry.stored.file.to_path_buf(),
                tensor: tensor.to_owned(),
                got: entry.stored.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        Ok(entry)
    }
}

/// Where the first number is that is none, or infinite.
fn first_not_finite(values: &[f32]) -> Option<usize> {
    const AT_A_TIME: usize = 1 << 16;
    let nth = values.par_chunks(AT_A_TIME).position_first(|part| !widest(AllFinite(part)))?;
    values.iter().skip(nth * AT_A_TIME).position(|v| !v.is_finite()).map(|at| nth * AT_A_TIME + at)
}

struct AllFinite<'a>(&'a [f32]);

impl NullaryFnOnce for AllFinite<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        // 0 times what is not finite is not a number, and a sum with it neither.
        sum_of(self.0, |v| v * 0.0) == 0.0
    }
}

fn wrong_type(tensor: &str, stored: &Stored, expected: &'static str) -> WeightsError {
    let got = stored.dtype.to_string();
    WeightsError::Dtype { file: stored.file.to_path_buf(), tensor: tensor.to_owned(), got, expected }
}

/// The tensors of a file of either kind.
fn tensors(path: &Path, bytes: &Arc<Bytes>) -> Result<Named, WeightsError> {
    let file: Arc<Path> = path.into();
    // What a clone of a repository leaves where the large files should be.
    if bytes.starts_with(b"version https://git-lfs") {
        let reason = "it is a pointer of Git LFS, which stands for the file: `git lfs pull` fetches it".to_owned();
        return Err(WeightsError::Header { file: path.to_owned(), reason });
    }
    if torch::is_torch(bytes) { torch::tensors(&file, bytes) } else { safetensors::tensors(&file, bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::tensor::{Dtype, TensorView, serialize};
    use half::{bf16, f16};

    fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (name.to_string(), TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
        serialize(views, None).unwrap()
    }

    fn open(bytes: Vec<u8>) -> Result<Weights, WeightsError> {
        Weights::from_bytes(Path::new("w.safetensors"), bytes)
    }

    #[test]
    fn reads_three_precisions() {
        let single: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let half: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let brain: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let bytes =
            file(&[("a", Dtype::F32, &[2], &single), ("b", Dtype::F16, &[2, 1], &half), ("c", Dtype::BF16, &[1, 2], &brain)]);
        let mut weights = open(bytes).unwrap();
        assert_eq!(weights.take("a", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(weights.take("b", &[2, 1]).unwrap(), [1.5, -2.0]);
        assert_eq!(weights.take("c", &[1, 2]).unwrap(), [1.5, -2.0]);
        weights.finish().unwrap();
    }

    #[test]
    fn refuses_by_name() {
        let nan: Vec<u8> = [1.0f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut weights = open(file(&[
            ("good", Dtype::F32, &[1], &[0; 4]),
            ("ids", Dtype::I64, &[1], &[0; 8]),
            ("nan", Dtype::F32, &[2], &nan),
        ]))
        .unwrap();
        let message = |e: WeightsError| e.to_string();
        assert!(message(weights.take("absent", &[1]).unwrap_err()).contains("no tensor `absent`"));
        assert!(
            message(weights.take("good", &[2]).unwrap_err())
                .contains("`good` of w.safetensors has shape [1], the model needs [2]")
        );
        assert!(message(weights.take("ids", &[1]).unwrap_err()).contains("`ids` of w.safetensors is stored as I64"));
        assert!(message(weights.take("nan", &[2]).unwrap_err()).contains("`nan` of w.safetensors has NaN at place 1"));
        assert!(message(weights.finish().unwrap_err()).contains("good, ids, nan"));
    }

    #[test]
    fn refuses_hostile_headers() {
        let good = file(&[("a", Dtype::F32, &[4], &[0; 16])]);
        for len in 0..good.len() {
            assert!(matches!(open(good[..len].to_vec()), Err(WeightsError::Header { .. })), "cut to {len} bytes");
        }
        let with_header = |header: &str| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        for header in [
            "",
            "[]",
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,1000000]}}"#,
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#,
            r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,16]}}"#,
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            r#"{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}"#,
        ] {
            assert!(matches!(open(with_header(header)), Err(WeightsError::Header { .. })), "{header}");
        }
        let mut huge = u64::MAX.to_le_bytes().to_vec();
        huge.extend([b'{'; 64]);
        assert!(matches!(open(huge), Err(WeightsError::Header { .. })));
    }
}
