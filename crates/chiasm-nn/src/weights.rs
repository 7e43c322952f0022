//! The safetensors layout: named tensors in half, brain or single precision, read to `f32` and checked by name.
//!
//! An architecture *takes* each tensor it needs, stating the shape, and at the end calls [`Weights::finish`], which refuses
//! what nobody took. So a checkpoint of another model, a truncated or an altered one cannot be loaded by half.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, SafeTensors};

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
    /// The header is not that of a whole safetensors file.
    #[error("{} is no whole safetensors file ({reason}): fetch it again", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
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
    /// A tensor stored in a type that holds no weights.
    #[error("tensor `{tensor}` of {} is stored as {got}, weights must be F32, F16 or BF16", file.display())]
    Dtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type in the file.
        got: String,
    },
    /// NaN or an infinity among the weights.
    #[error("tensor `{tensor}` of {} has {value} at place {at}: the file is damaged", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Place of the first offender in the flat tensor.
        at: usize,
        /// What stands there.
        value: f32,
    },
}

/// A safetensors file whose tensors are taken one by one.
pub struct Weights {
    file: PathBuf,
    bytes: Vec<u8>,
    data_start: usize,
    metadata: Metadata,
    left: BTreeSet<String>,
    digest: blake3::Hash,
}

impl Weights {
    /// Reads a file whole.
    ///
    /// # Errors
    /// [`WeightsError::Io`] and [`WeightsError::Header`].
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Io { file: path.to_owned(), source })?;
        Self::from_bytes(path, bytes)
    }

    /// Reads the weights in a model's folder.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn open(folder: &Path) -> Result<Self, WeightsError> {
        Self::read(&folder.join("model.safetensors"))
    }

    /// Takes the bytes of a file; `label` stands for its name in messages.
    ///
    /// # Errors
    /// [`WeightsError::Header`] when the header lies about the rest: lengths, offsets, gaps, duplicates.
    pub fn from_bytes(label: &Path, bytes: Vec<u8>) -> Result<Self, WeightsError> {
        let (header_len, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| WeightsError::Header { file: label.to_owned(), reason: e.to_string() })?;
        let left = metadata.tensors().into_keys().collect();
        let digest = blake3::hash(&bytes);
        // Eight bytes of header length, then the header; `read_metadata` has checked that the tensors fill the rest exactly.
        Ok(Self { file: label.to_owned(), data_start: 8 + header_len, metadata, left, digest, bytes })
    }

    /// BLAKE3 of the whole file.
    pub fn digest(&self) -> &blake3::Hash {
        &self.digest
    }

    /// The shape of a tensor, taken or not, if it is there.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.metadata.info(tensor).map(|info| info.shape.as_slice())
    }

    /// Takes a tensor of exactly this shape, row-major.
    ///
    /// # Errors
    /// Every variant of [`WeightsError`] that names a tensor.
    pub fn take(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let file = || self.file.clone();
        let name = || tensor.to_owned();
        let info = self.metadata.info(tensor).ok_or_else(|| WeightsError::Missing { file: file(), tensor: name() })?;
        if info.shape != shape {
            return Err(WeightsError::Shape {
                file: file(),
                tensor: name(),
                got: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let bytes = &self.bytes[self.data_start + info.data_offsets.0..self.data_start + info.data_offsets.1];
        let values: Vec<f32> = if info.dtype == Dtype::F32 {
            bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        } else if info.dtype == Dtype::F16 {
            bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
        } else if info.dtype == Dtype::BF16 {
            bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
        } else {
            return Err(WeightsError::Dtype { file: file(), tensor: name(), got: info.dtype.to_string() });
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(WeightsError::NotFinite { file: file(), tensor: name(), at, value: values[at] });
        }
        self.left.remove(tensor);
        Ok(values)
    }

    /// Counts a tensor as taken without reading it: buffers that a framework stores beside the weights.
    pub fn skip(&mut self, tensor: &str) {
        self.left.remove(tensor);
    }

    /// The same for every tensor whose name starts so.
    pub fn skip_prefix(&mut self, prefix: &str) {
        self.left.retain(|name| !name.starts_with(prefix));
    }

    /// Whether there is such a tensor, taken or not.
    pub fn has(&self, tensor: &str) -> bool {
        self.metadata.info(tensor).is_some()
    }

    /// Ends the loading: every tensor must have been taken.
    ///
    /// # Errors
    /// [`WeightsError::Extra`].
    pub fn finish(self) -> Result<(), WeightsError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let n_left = self.left.len();
        let mut tensors: Vec<String> = self.left.into_iter().take(4).collect();
        if n_left > tensors.len() {
            tensors.push(format!("and {} more", n_left - tensors.len()));
        }
        Err(WeightsError::Extra { file: self.file, tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{TensorView, serialize};

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
