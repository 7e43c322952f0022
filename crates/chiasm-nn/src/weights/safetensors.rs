//! The safetensors layout: eight bytes of header length, a header in JSON, the tensors row-major and without gaps.
//!
//! # Reference
//! The format section of the crate `safetensors`, which parses and checks the header.

use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::SafeTensors;

use super::bytes::Bytes;
use super::tensor::Stored;
use super::{Named, WeightsError};

/// All tensors of a file.
pub(super) fn tensors(file: &Arc<Path>, data: &Arc<Bytes>) -> Result<Named, WeightsError> {
    let (header_len, metadata) = SafeTensors::read_metadata(data)
        .map_err(|e| WeightsError::Header { file: file.to_path_buf(), reason: e.to_string() })?;
    // `read_metadata` has checked that the tensors have the size of their shapes and fill what follows the header exactly.
    let stored = |info: &safetensors::tensor::TensorInfo| Stored {
        file: Arc::clone(file),
        data: Arc::clone(data),
        start: 8 + header_len + info.data_offsets.0,
        dtype: info.dtype,
        big_endian: false,
        shape: info.shape.clone(),
        strides: None,
    };
    let names = metadata.offset_keys();
    Ok(names.into_iter().filter_map(|name| metadata.info(&name).map(stored).map(|s| (name, s))).collect())
}
