//! Matrices to files and back: weights in the layout that encoders are opened from, and checkpoints.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use chiasm_nn::grad::Array;
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Result, TrainError, io};

/// Whether weights are written at half the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Single,
    Half,
}

/// Writes a file so that at every moment the old one or the new one is there, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let write = || {
        let mut file = File::create(partial)?;
        file.write_all(bytes)?;
        // Onto the disk before the name: a machine that goes down must not leave a name without contents.
        file.sync_all()?;
        std::fs::rename(partial, path)
    };
    write().map_err(|source| {
        // The disk may be full: no half file is left behind. That this too can fail changes nothing for the caller.
        let _ = std::fs::remove_file(partial);
        TrainError::Io { doing: "write", path: path.to_owned(), source }
    })
}

/// How tensors lie in the file of a model.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The shapes of those whose shapes are known. Of others rows of one are stored as vectors, `logit_scale` and `logit_bias` as numbers, as other
    /// checkpoints have them.
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    /// Integers that stand beside them: name, shape, numbers.
    pub(crate) buffers: Vec<(String, Vec<usize>, Vec<i64>)>,
}

impl Layout {
    fn shape(&self, name: &str, [n, m]: [usize; 2]) -> Vec<usize> {
        match (self.shapes.get(name), name) {
            (Some(shape), _) => shape.clone(),
            (None, "logit_scale" | "logit_bias") => Vec::new(),
            (None, name) if n == 1 && (name.ends_with(".bias") || (name.ends_with(".weight") && name.contains("norm"))) => {
                vec![m]
            }
            (None, _) => vec![n, m],
        }
    }
}

/// The weights of a model.
pub(crate) fn write_weights(path: &Path, all: &[(&str, Cow<'_, Array<f32>>)], layout: &Layout, stored: Stored) -> Result<()> {
    let dtype = if stored == Stored::Half { Dtype::F16 } else { Dtype::F32 };
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = all
        .iter()
        .map(|(name, value)| {
            let bytes = match stored {
                Stored::Single => value.data().iter().flat_map(|x| x.to_le_bytes()).collect(),
                Stored::Half => value.data().iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            };
            (*name, dtype, layout.shape(name, value.shape()), bytes)
        })
        .collect();
    let buffers = layout.buffers.iter().map(|(name, shape, numbers)| {
        (name.as_str(), Dtype::I64, shape.clone(), numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    });
    tensors.extend(buffers);
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as numbers"))
    });
    // What transformers looks for before it reads a file.
    let metadata = (!layout.shapes.is_empty()).then(|| HashMap::from([("format".to_owned(), "pt".to_owned())]));
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|e| TrainError::Data { path: path.to_owned(), reason: e.to_string() })?;
    replace(path, &bytes)
}

/// The weights of the model in a folder, as matrices: vectors as rows.
pub(crate) fn read_weights(path: &Path) -> Result<HashMap<String, Array<f32>>> {
    let damaged = |reason: String| TrainError::Data { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(io("read", path))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut all = HashMap::new();
    for (name, view) in tensors.tensors() {
        let data: Vec<f32> = if view.dtype() == Dtype::F32 {
            singles(view.data())
        } else if view.dtype() == Dtype::F16 {
            view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        } else {
            return Err(damaged(format!("`{name}` is {:?}, expected F32 or F16", view.dtype())));
        };
        let [n, m] = match *view.shape() {
            [] => [1, 1],
            [m] => [1, m],
            [n, m] => [n, m],
            _ => return Err(damaged(format!("`{name}` has the shape {:?}, expected a matrix", view.shape()))),
        };
        if !data.iter().all(|x| x.is_finite()) {
            return Err(damaged(format!("`{name}` holds what is no number")));
        }
        all.insert(name, Array::new(n, m, data));
    }
    Ok(all)
}

fn singles(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Matrices by name and words by name, in single precision, in one file.
pub(crate) fn write_checkpoint(path: &Path, arrays: &[(String, &Array<f32>)], words: HashMap<String, String>) -> Result<()> {
    let bytes: Vec<Vec<u8>> = arrays.iter().map(|(_, a)| a.data().iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = arrays.iter().zip(&bytes).map(|((name, a), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, a.shape().to_vec(), bytes).expect("as many bytes as numbers"))
    });
    let bytes = safetensors::serialize(views, Some(words))
        .map_err(|e| TrainError::Data { path: path.to_owned(), reason: e.to_string() })?;
    replace(path, &bytes)
}

/// Matrices by name.
pub(crate) type Arrays = BTreeMap<String, Array<f32>>;

/// What [`write_checkpoint`] wrote.
pub(crate) fn read_checkpoint(path: &Path) -> Result<(Arrays, HashMap<String, String>)> {
    let damaged = |reason: String| TrainError::Data { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(io("read", path))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let words = metadata.metadata().clone().unwrap_or_default();
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut arrays = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let [n, m] = *view.shape() else { return Err(damaged(format!("`{name}` is no matrix"))) };
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("`{name}` is {:?}, expected F32", view.dtype())));
        }
        arrays.insert(name, Array::new(n, m, singles(view.data())));
    }
    Ok((arrays, words))
}
