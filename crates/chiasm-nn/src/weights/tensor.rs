//! A tensor as it lies in its file, and how its numbers are read.

use std::path::Path;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::Dtype;

use super::bytes::Bytes;

/// Where a tensor's numbers are. Whoever makes one has checked that they all lie within `data`.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) file: Arc<Path>,
    pub(super) data: Arc<Bytes>,
    /// Byte of the first number.
    pub(super) start: usize,
    pub(super) dtype: Dtype,
    pub(super) big_endian: bool,
    pub(super) shape: Vec<usize>,
    /// Numbers from one place to the next along each dimension, where the tensor is not simply row-major.
    pub(super) strides: Option<Vec<usize>>,
}

impl Stored {
    /// The numbers as `f32`, row-major, finite or not; none for a type that holds no weights.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        if self.dtype == Dtype::F32 {
            Some(self.numbers(f32::from_le_bytes))
        } else if self.dtype == Dtype::F16 {
            // All at once, for the processor's own instruction; one by one it takes several times as long.
            Some(self.numbers(f16::from_le_bytes).to_f32_vec())
        } else if self.dtype == Dtype::BF16 {
            Some(self.numbers(|b| bf16::from_le_bytes(b).to_f32()))
        } else if self.dtype == Dtype::F64 {
            Some(self.numbers(|b| f64::from_le_bytes(b) as f32))
        } else {
            None
        }
    }

    /// The same as they lie in the file, where they are single precision in this machine's order, and in their place.
    pub(super) fn as_floats(&self) -> Option<&[f32]> {
        if self.dtype != Dtype::F32 || self.big_endian == cfg!(target_endian = "little") || self.strides.is_some() {
            return None;
        }
        let n: usize = self.shape.iter().product();
        let bytes = &self.data[self.start..][..n * size_of::<f32>()];
        // SAFETY: any four bytes are a number.
        #[allow(unsafe_code)]
        let (before, numbers, behind) = unsafe { bytes.align_to::<f32>() };
        (before.is_empty() && behind.is_empty()).then_some(numbers)
    }

    /// The number at a place of the flat tensor as it stands in the file, for messages about what `f32` does not hold.
    pub(super) fn wide(&self, at: usize) -> Option<f64> {
        if self.dtype == Dtype::F64 {
            self.numbers(f64::from_le_bytes).get(at).copied()
        } else {
            self.floats()?.get(at).map(|v| f64::from(*v))
        }
    }

    /// The numbers of an integer type, row-major; none for another type or a number beyond `i64`.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        if self.dtype == Dtype::I64 {
            Some(self.numbers(i64::from_le_bytes))
        } else if self.dtype == Dtype::I32 {
            Some(self.numbers(|b| i64::from(i32::from_le_bytes(b))))
        } else if self.dtype == Dtype::I16 {
            Some(self.numbers(|b| i64::from(i16::from_le_bytes(b))))
        } else if self.dtype == Dtype::I8 {
            Some(self.numbers(|b| i64::from(i8::from_le_bytes(b))))
        } else if self.dtype == Dtype::U64 {
            self.numbers(|b| i64::try_from(u64::from_le_bytes(b)).ok()).into_iter().collect()
        } else if self.dtype == Dtype::U32 {
            Some(self.numbers(|b| i64::from(u32::from_le_bytes(b))))
        } else if self.dtype == Dtype::U16 {
            Some(self.numbers(|b| i64::from(u16::from_le_bytes(b))))
        } else if self.dtype == Dtype::U8 {
            Some(self.numbers(|[b]| i64::from(b)))
        } else if self.dtype == Dtype::BOOL {
            Some(self.numbers(|[b]| i64::from(b != 0)))
        } else {
            None
        }
    }

    /// Every number of `N` bytes, given to `read` in little-endian order.
    fn numbers<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        if self.big_endian {
            self.gather(|mut bytes: [u8; N]| {
                bytes.reverse();
                read(bytes)
            })
        } else {
            self.gather(read)
        }
    }

    fn gather<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        let n: usize = self.shape.iter().product();
        if n == 0 {
            return Vec::new();
        }
        let numbers = self.data[self.start..].as_chunks::<N>().0;
        let (Some(strides), Some((row_len, outer))) = (&self.strides, self.shape.split_last()) else {
            return numbers[..n].iter().map(|b| read(*b)).collect();
        };
        let (step, outer_strides) = strides.split_last().expect("there are as many strides as dimensions");
        let mut values = Vec::with_capacity(n);
        let mut place = vec![0; outer.len()];
        let mut first = 0;
        loop {
            values.extend((0..*row_len).map(|i| read(numbers[first + i * step])));
            // The next row: the last index that can grow grows, those after it begin again.
            let Some(dim) = (0..outer.len()).rev().find(|d| place[*d] + 1 < outer[*d]) else { break };
            place[dim] += 1;
            place[dim + 1..].fill(0);
            first = place.iter().zip(outer_strides).map(|(i, stride)| i * stride).sum();
        }
        values
    }
}
