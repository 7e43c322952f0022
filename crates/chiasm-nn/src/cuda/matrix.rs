//! Products by cuBLASLt.
#![allow(unsafe_code)]

use std::ffi::c_void;

use cudarc::cublaslt::{result as lt, sys};
use cudarc::driver::CudaSlice;

use super::DeviceError;
use super::device::{Device, failed, lock};
use crate::kernel::Precision;
use crate::linear::Linear;

/// What the library calls the turning of a matrix; the bindings leave it out.
const TURNED: i32 = 1;

/// What goes into products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Number {
    F32,
    Bf16,
}

impl Number {
    pub(super) fn of(precision: Precision) -> Result<Self, DeviceError> {
        match precision {
            Precision::F32 => Ok(Number::F32),
            Precision::Bf16 => Ok(Number::Bf16),
            Precision::Int8 => {
                let reason = "a GPU multiplies in single precision or in bfloat16, not in 8-bit integers: ask for `+cuda` or `+bf16+cuda`";
                Err(DeviceError::Unfit { reason: reason.to_owned() })
            }
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Number::F32 => 4,
            Number::Bf16 => 2,
        }
    }

    /// Writes numbers as the card reads them.
    pub(super) fn write(self, values: &[f32], to: &mut [u8]) {
        match self {
            Number::F32 => to.as_chunks_mut().0.iter_mut().zip(values).for_each(|(to, v)| *to = v.to_le_bytes()),
            Number::Bf16 => {
                to.as_chunks_mut().0.iter_mut().zip(values).for_each(|(to, v)| *to = half::bf16::from_f32(*v).to_le_bytes());
            }
        }
    }

    fn type_of(self) -> sys::cudaDataType {
        match self {
            Number::F32 => sys::cudaDataType::CUDA_R_32F,
            Number::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        }
    }
}

/// The weight and the bias of a linear layer.
pub(super) struct Matrix {
    /// `[n_out, n_in]`.
    weight: CudaSlice<u8>,
    /// `[n_out]`.
    bias: CudaSlice<u8>,
    /// Filled up where that was asked for.
    pub(super) n_in: usize,
    pub(super) n_out: usize,
    number: Number,
}

/// A product by its shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Product {
    n: usize,
    n_in: usize,
    n_out: usize,
    number: Number,
    into: Number,
    finish: Finish,
}

/// What is done with a product on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Finish {
    /// Nothing.
    Bare,
    /// The bias is added.
    Biased,
    /// The bias and what stands there already: a layer with a shortcut around it.
    Added,
}

impl Matrix {
    /// Brings a layer there; rows are filled up with zeros to a multiple of `multiple`.
    pub(super) fn new(
        device: &Device,
        layer: &Linear,
        (number, of_bias): (Number, Number),
        multiple: usize,
    ) -> Result<Self, DeviceError> {
        let (n_in, n_out) = (layer.n_in().next_multiple_of(multiple), layer.n_out());
        let mut weight = layer.stored();
        if n_in > layer.n_in() {
            let mut filled = vec![0.0; n_in * n_out];
            for (to, row) in filled.chunks_exact_mut(n_in).zip(weight.chunks_exact(layer.n_in())) {
                to[..row.len()].copy_from_slice(row);
            }
            weight = filled;
        }
        Ok(Self { weight: device.stored(&weight, number)?, bias: device.stored(layer.bias(), of_bias)?, n_in, n_out, number })
    }

    /// Where the bias stands.
    pub(super) fn bias(&self, device: &Device) -> u64 {
        device.address(&self.bias)
    }

    /// Puts `x W`, finished, on the stream: from `n` rows at `x` to as many at `out`. The bias is of the numbers that come out.
    ///
    /// # Safety
    /// There are `[n, n_in]` numbers of the weight's kind at `x`, and there is room for `[n, n_out]` of `into` at `out`.
    pub(super) unsafe fn multiply(
        &self,
        device: &Device,
        (x, n): (u64, usize),
        (out, into): (u64, Number),
        finish: Finish,
    ) -> Result<(), DeviceError> {
        if n == 0 || self.n_out == 0 {
            return Ok(());
        }
        let product = Product { n, n_in: self.n_in, n_out: self.n_out, number: self.number, into, finish };
        let doing =
            || format!("a product of {n} x {} by {} x {} ({:?} to {into:?})", self.n_in, self.n_in, self.n_out, self.number);
        let refused = |e: lt::CublasError| failed(&doing(), &e);
        // cuBLAS reads columns: what are rows here are columns to it, so it computes out^T = W x^T, with W turned back.
        let size = |n: usize| i64::try_from(n).map(|_| n as u64).map_err(|e| failed(&doing(), &e));
        let (rows, n_in, n_out) = (size(n)?, size(self.n_in)?, size(self.n_out)?);
        let kind = self.number.type_of();
        let weight_layout = Layout::new(kind, n_in, n_out).map_err(refused)?;
        let x_layout = Layout::new(kind, n_in, rows).map_err(refused)?;
        let out_layout = Layout::new(into.type_of(), n_out, rows).map_err(refused)?;
        let description = Description::new().map_err(refused)?;
        let turned = TURNED;
        description.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &turned).map_err(refused)?;
        if finish != Finish::Bare {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            description.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue).map_err(refused)?;
            let bias = self.bias(device);
            description.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias).map_err(refused)?;
        }
        let inner = &device.0;
        let known = lock(&inner.algorithms).get(&product).copied();
        let algorithm = match known {
            Some(algorithm) => algorithm,
            None => {
                let preference = Preference::new(inner.workspace.len()).map_err(refused)?;
                // SAFETY: all of these were created above and live until the end of this function.
                let found = unsafe {
                    lt::get_matmul_algo_heuristic(
                        inner.lt.0,
                        description.0,
                        weight_layout.0,
                        x_layout.0,
                        out_layout.0,
                        out_layout.0,
                        preference.0,
                    )
                };
                let algorithm = found.map_err(refused)?.algo;
                lock(&inner.algorithms).insert(product, algorithm);
                algorithm
            }
        };
        let (alpha, beta) = (1.0f32, if finish == Finish::Added { 1.0f32 } else { 0.0 });
        // SAFETY: the descriptions live until the end of this function, by when the library has read them; the weight is as large as its
        // layout says, x and out by the caller's promise; the workspace belongs to the one stream, on which its users follow one another.
        unsafe {
            lt::matmul(
                inner.lt.0,
                description.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                device.address(&self.weight) as *const c_void,
                weight_layout.0,
                x as *const c_void,
                x_layout.0,
                out as *const c_void,
                out_layout.0,
                out as *mut c_void,
                out_layout.0,
                &raw const algorithm,
                device.address(&inner.workspace) as *mut c_void,
                inner.workspace.len(),
                inner.stream.cu_stream().cast(),
            )
        }
        .map_err(refused)
    }
}

/// How a matrix lies in memory, to cuBLASLt.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    /// Columns of `length` numbers, one after the other.
    fn new(kind: sys::cudaDataType, length: u64, columns: u64) -> Result<Self, lt::CublasError> {
        lt::create_matrix_layout(kind, length, columns, length.cast_signed()).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created once, dropped once. There is nothing to be done about a failure.
        let _ = unsafe { lt::destroy_matrix_layout(self.0) };
    }
}

/// What a product is, to cuBLASLt.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    /// Summed in single precision, and without the shortened single precision of tensor cores.
    fn new() -> Result<Self, lt::CublasError> {
        lt::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F).map(Self)
    }

    fn set<T: Copy>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), lt::CublasError> {
        // SAFETY: the library reads as many bytes as it is told, and refuses another number than the attribute has.
        unsafe { lt::set_matmul_desc_attribute(self.0, attribute, (&raw const *value).cast(), size_of::<T>()) }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created once, dropped once. There is nothing to be done about a failure.
        let _ = unsafe { lt::destroy_matmul_desc(self.0) };
    }
}

/// What an algorithm may use, to cuBLASLt.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(workspace: usize) -> Result<Self, lt::CublasError> {
        let preference = lt::create_matmul_pref().map(Self)?;
        let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        // SAFETY: the attribute is a number of this size.
        unsafe { lt::set_matmul_pref_attribute(preference.0, attribute, (&raw const workspace).cast(), size_of::<usize>()) }?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created once, dropped once. There is nothing to be done about a failure.
        let _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}
