//! The folder in which a model is stored: its descriptions, its weights, and the fingerprint of all that was read.

use std::path::{Path, PathBuf};

use chiasm_nn::{Precision, Weights};
use serde::de::DeserializeOwned;

use crate::error::OpenError;
use crate::registry::Manner;
use crate::{built_in, digests, model};

/// Raised whenever other products are rounded than before, or in another way: since 2 those of patches and of attention too, since 3 what
/// the softmax has not yet divided. What is in single precision stays the same.
const ROUNDED: &str = "3";

/// A model's folder in the layout of Hugging Face or open_clip, read file by file.
///
/// It remembers what was read, so that [`Checkpoint::fingerprint`] covers everything that decides the output and nothing else.
pub(crate) struct Checkpoint {
    folder: PathBuf,
    descriptions: Vec<Vec<u8>>,
    weights: Option<blake3::Hash>,
    manner: Manner,
}

impl Checkpoint {
    /// The folder, nothing read yet.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), descriptions: Vec::new(), weights: None, manner: Manner::default() }
    }

    /// The same, to compute in another manner.
    pub(crate) fn with_manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// Where one of its files stands. `file` is a name that the code chose, never one that a file of the model gave.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Whether it has the file.
    pub(crate) fn has(&self, file: &str) -> bool {
        built_in::file(&self.folder, file).is_some() || self.path(file).is_file()
    }

    /// The bytes of a description, and where it stands.
    pub(crate) fn read(&mut self, file: &str) -> Result<(PathBuf, Vec<u8>), OpenError> {
        let path = self.path(file);
        let bytes = match built_in::file(&self.folder, file) {
            Some(bytes) => bytes.to_vec(),
            None => model::read(&path)?,
        };
        self.descriptions.push(bytes.clone());
        Ok((path, bytes))
    }

    /// A JSON description, and where it stands.
    pub(crate) fn json<T: DeserializeOwned>(&mut self, file: &str) -> Result<(PathBuf, T), OpenError> {
        let (path, bytes) = self.read(file)?;
        let parsed = model::parse(&path, &bytes)?;
        Ok((path, parsed))
    }

    /// The weights, in whichever layout they are.
    pub(crate) fn weights(&mut self) -> Result<Weights, OpenError> {
        const FILE: &str = "model.safetensors";
        let weights = match built_in::file(&self.folder, FILE) {
            Some(bytes) => Weights::from_bytes(&self.path(FILE), bytes.to_vec())?,
            None => Weights::open(&self.folder)?,
        };
        Ok(self.noted(weights))
    }

    /// The same from the first of these files that is there; from whichever is, where none of them is.
    pub(crate) fn weights_first(&mut self, files: &[&str]) -> Result<Weights, OpenError> {
        let Some(file) = files.iter().map(|file| self.path(file)).find(|path| path.is_file()) else { return self.weights() };
        let weights = Weights::read(&file)?;
        Ok(self.noted(weights))
    }

    fn noted(&mut self, mut weights: Weights) -> Weights {
        weights.set_precision(self.manner.precision);
        self.weights = Some(digests::of(&weights));
        weights
    }

    /// Digest of the weights, of every description read so far, of the manner of computing, and of `arithmetic`, which names the code (see [`model::fingerprint`]).
    pub(crate) fn fingerprint(&self, arithmetic: &str) -> String {
        let weights = self.weights.expect("the weights are read before the model is named");
        let descriptions: Vec<&[u8]> = self.descriptions.iter().map(Vec::as_slice).collect();
        let mut arithmetic = match self.manner.precision {
            Precision::F32 => arithmetic.to_owned(),
            precision @ (Precision::Bf16 | Precision::Int8) => format!("{arithmetic} {} {ROUNDED}", precision.as_str()),
        };
        // A GPU sums in another order: its vectors are close to those of the CPU, not the same.
        if self.manner.on_device {
            arithmetic.push_str(" cuda");
        }
        model::fingerprint(&arithmetic, &weights, &descriptions)
    }
}
