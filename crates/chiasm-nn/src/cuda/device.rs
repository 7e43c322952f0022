//! The card: driver, libraries, kernels, memory.
//!
//! Everything is put on one stream, in order, so a buffer may be written again as soon as what reads it has been asked for.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::cublaslt::{result as lt, sys as lt_sys};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PinnedHostSlice, PushKernelArg,
    result, sys,
};
use cudarc::nvrtc::{Ptx, result as nvrtc, sys as nvrtc_sys};

use super::DeviceError;
use super::matrix::{Number, Product};

/// What NVRTC compiles.
const SOURCE: &str = include_str!("kernels.cu");
/// Numbers per attention head at most: keys and values of a tile stay in the 48 KiB that every block may have.
const HEAD_MAX: usize = 128;
/// Bytes that a product may use on the side; what cuBLAS itself takes on Hopper.
const WORKSPACE: usize = 32 << 20;
/// Threads that bring numbers into the memory from which the card fetches them: a core alone is slower than the bus.
const THREADS_MAX: usize = 16;
/// Numbers for which another thread is worth its start.
const NUMBERS_PER_THREAD: usize = 1 << 18;

/// A GPU: the first that the driver shows, one for the whole program.
#[derive(Clone)]
pub struct Device(pub(super) Arc<Inner>);

pub(super) struct Inner {
    context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
    pub(super) lt: Handle,
    pub(super) workspace: CudaSlice<u8>,
    /// Compute capability.
    pub(super) capability: (i32, i32),
    name: String,
    /// Kernels by the width of attention heads.
    kernels: Mutex<HashMap<usize, Arc<Kernels>>>,
    /// How each product is computed.
    pub(super) algorithms: Mutex<HashMap<Product, lt_sys::cublasLtMatmulAlgo_t>>,
}

/// cuBLASLt's.
pub(super) struct Handle(pub(super) lt_sys::cublasLtHandle_t);

// SAFETY: NVIDIA's manual says of this handle that it may be used by several threads at once.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was created once, is dropped once, and nobody else has it. There is nothing to be done about a failure here.
        let _ = unsafe { lt::destroy_handle(self.0) };
    }
}

/// The functions of `kernels.cu`, those for both numbers in the order of [`Number`].
pub(super) struct Kernels {
    pub(super) layer_norm: [CudaFunction; 2],
    pub(super) activate: [CudaFunction; 2],
    pub(super) convert: [CudaFunction; 2],
    pub(super) unfold: [CudaFunction; 2],
    pub(super) attend: [CudaFunction; 2],
    /// Where the card and the width of the heads allow it.
    pub(super) attend_tensor: Option<CudaFunction>,
    pub(super) assemble: CudaFunction,
    pub(super) gather: CudaFunction,
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub(super) enum Arg {
    /// An address on the card.
    At(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.0.name).finish()
    }
}

impl Device {
    /// Opens the first GPU that the driver shows.
    ///
    /// # Errors
    /// [`DeviceError::Library`], [`DeviceError::NoCard`], and what the driver says.
    pub fn open() -> Result<Self, DeviceError> {
        static OPENED: Mutex<Option<Device>> = Mutex::new(None);
        let mut opened = lock(&OPENED);
        if let Some(device) = &*opened {
            return Ok(device.clone());
        }
        let device = Self::open_anew()?;
        *opened = Some(device.clone());
        Ok(device)
    }

    fn open_anew() -> Result<Self, DeviceError> {
        // The bindings panic where a library is missing, so each is looked for before it is called.
        let toolkit = "it comes with the CUDA toolkit, and with the Python packages nvidia-cuda-nvrtc and nvidia-cublas; name its folder in \
                       LD_LIBRARY_PATH";
        // SAFETY: these libraries may be opened at any time, and do nothing harmful when they are.
        let (driver, compiler, products) =
            unsafe { (sys::is_culib_present(), nvrtc_sys::is_culib_present(), lt_sys::is_culib_present()) };
        present("cuda", driver, "it comes with NVIDIA's driver, not with the toolkit: install the driver")?;
        present("nvrtc", compiler, toolkit)?;
        present("cublasLt", products, toolkit)?;

        let no_card = |e: DriverError| DeviceError::NoCard { reason: e.to_string() };
        let context = CudaContext::new(0).map_err(no_card)?;
        let capability = context.compute_capability().map_err(no_card)?;
        let name = context.name().map_err(no_card)?;
        let stream = context.default_stream();
        let lt = lt::create_handle().map_err(|e| failed("opening cuBLASLt", &e))?;
        let workspace = allocate(&context, &stream, WORKSPACE)?;
        Ok(Self(Arc::new(Inner {
            context,
            stream,
            lt: Handle(lt),
            workspace,
            capability,
            name,
            kernels: Mutex::default(),
            algorithms: Mutex::default(),
        })))
    }

    /// What the card is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Lets the calling thread speak to the card.
    pub(super) fn bind(&self) -> Result<(), DeviceError> {
        self.0.context.bind_to_thread().map_err(|e| failed("turning to it", &e))
    }

    /// Free memory in bytes.
    pub(super) fn free(&self) -> Result<usize, DeviceError> {
        self.0.context.mem_get_info().map(|(free, _)| free).map_err(|e| failed("asking for its free memory", &e))
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
        allocate(&self.0.context, &self.0.stream, bytes)
    }

    /// Numbers in memory of their own.
    pub(super) fn stored(&self, values: &[f32], number: Number) -> Result<CudaSlice<u8>, DeviceError> {
        let mut bytes = vec![0; values.len() * number.bytes()];
        number.write(values, &mut bytes);
        let mut to = self.allocate(bytes.len())?;
        self.0.stream.memcpy_htod(&bytes, &mut to).map_err(|e| failed("bringing weights there", &e))?;
        Ok(to)
    }

    /// Where memory begins.
    pub(super) fn address(&self, of: &CudaSlice<u8>) -> u64 {
        // One stream needs no events, so what waits for them is dropped at once.
        of.device_ptr(&self.0.stream).0
    }

    /// Waits until all is done.
    pub(super) fn finish(&self, doing: &'static str) -> Result<(), DeviceError> {
        self.0.stream.synchronize().map_err(|e| failed(doing, &e))
    }

    /// Puts a kernel on the stream.
    ///
    /// # Safety
    /// The arguments are those of the function in `kernels.cu`, and what it reads and writes lies in memory that is allocated.
    pub(super) unsafe fn launch(
        &self,
        (doing, function): (&'static str, &CudaFunction),
        grid: [usize; 3],
        threads: u32,
        args: &[Arg],
    ) -> Result<(), DeviceError> {
        let [x, y, z] = grid;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let (Ok(x), Ok(y), Ok(z)) = (i32::try_from(x), u16::try_from(y), u16::try_from(z)) else {
            return Err(DeviceError::Unfit {
                reason: format!("{doing}: {x} x {y} x {z} blocks are more than a GPU starts at once"),
            });
        };
        let config =
            LaunchConfig { grid_dim: (x.cast_unsigned(), y.into(), z.into()), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        let mut builder = self.0.stream.launch_builder(function);
        for arg in args {
            match arg {
                Arg::At(v) => builder.arg(v),
                Arg::Int(v) => builder.arg(v),
                Arg::Long(v) => builder.arg(v),
                Arg::Float(v) => builder.arg(v),
            };
        }
        // SAFETY: the caller's promise; the arguments live until the call is over, when the driver has copied them.
        unsafe { builder.launch(config) }.map_err(|e| failed(doing, &e))?;
        Ok(())
    }

    /// The kernels for heads of so many numbers.
    pub(super) fn kernels(&self, head: usize) -> Result<Arc<Kernels>, DeviceError> {
        if head == 0 || head > HEAD_MAX {
            let reason =
                format!("attention heads are {head} numbers wide, on a GPU they may be 1 to {HEAD_MAX}: leave `+cuda` off");
            return Err(DeviceError::Unfit { reason });
        }
        let mut known = lock(&self.0.kernels);
        if let Some(kernels) = known.get(&head) {
            return Ok(kernels.clone());
        }
        let cubin = compile(head, self.0.capability)?;
        let loading = |e: DriverError| failed("loading its kernels", &e);
        let module = self.0.context.load_module(Ptx::from_binary(cubin)).map_err(loading)?;
        let one = |name: &str| module.load_function(name).map_err(loading);
        let both = |name: &str| Ok([one(&format!("{name}_f32"))?, one(&format!("{name}_bf16"))?]);
        let tensor = head.is_multiple_of(8) && self.0.capability.0 >= 8;
        let kernels = Arc::new(Kernels {
            layer_norm: both("layer_norm")?,
            activate: both("activate")?,
            convert: both("convert")?,
            unfold: both("unfold")?,
            attend: both("attend")?,
            attend_tensor: tensor.then(|| one("attend_tensor")).transpose()?,
            assemble: one("assemble")?,
            gather: one("gather")?,
        });
        known.insert(head, kernels.clone());
        Ok(kernels)
    }

    /// Brings numbers, given in parts, to an address where there is room for all. Returns when they are there.
    pub(super) fn bring(&self, parts: &[&[f32]], number: Number, staging: &mut Staging, to: u64) -> Result<(), DeviceError> {
        let n: usize = parts.iter().map(|part| part.len()).sum();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(THREADS_MAX).min(n.div_ceil(NUMBERS_PER_THREAD)).max(1);
        let mut rest = staging.room(self, n * number.bytes())?;
        let mut jobs = Vec::new();
        let mut at = to;
        for parts in parts.chunks(parts.len().div_ceil(threads).max(1)) {
            let bytes = parts.iter().map(|part| part.len()).sum::<usize>() * number.bytes();
            let (piece, after) = rest.split_at_mut(bytes);
            rest = after;
            jobs.push((parts, piece, at));
            at += bytes as u64;
        }
        let one = |(parts, piece, at): (&[&[f32]], &mut [u8], u64)| {
            let mut rest = &mut *piece;
            for part in parts {
                let (to, after) = rest.split_at_mut(part.len() * number.bytes());
                number.write(part, to);
                rest = after;
            }
            self.bind()?;
            // SAFETY: the caller has room there; the piece stays as it is until the stream is waited for below, before anyone else
            // can have it.
            unsafe { result::memcpy_htod_async(at, piece, self.0.stream.cu_stream()) }
                .map_err(|e| failed("bringing a batch there", &e))
        };
        let done: Result<Vec<()>, DeviceError> = if jobs.len() <= 1 {
            jobs.into_iter().map(one).collect()
        } else {
            std::thread::scope(|scope| {
                let started: Vec<_> = jobs.into_iter().map(|job| scope.spawn(move || one(job))).collect();
                let joined = started.into_iter().map(|thread| thread.join());
                joined.map(|done| done.unwrap_or_else(|_| Err(failed("bringing a batch there", &"a thread stopped")))).collect()
            })
        };
        // Waited for even after a failure: copies under way read the staging memory.
        let waited = self.finish("bringing a batch there");
        done.and(waited)
    }

    /// Integers to an address where there is room for them.
    pub(super) fn bring_integers(&self, values: &[i32], to: u64) -> Result<(), DeviceError> {
        // SAFETY: the caller has room there, and from memory that is not pinned the driver takes a copy before it returns.
        unsafe { result::memcpy_htod_async(to, values, self.0.stream.cu_stream()) }
            .map_err(|e| failed("bringing row numbers there", &e))
    }

    /// Fetches `n` numbers, behind those in `out`.
    pub(super) fn fetch(&self, from: u64, n: usize, out: &mut Vec<f32>) -> Result<(), DeviceError> {
        let before = out.len();
        out.resize(before + n, 0.0);
        // SAFETY: the caller has written so many numbers there; the slice lives until the stream is waited for.
        let asked = unsafe { result::memcpy_dtoh_async(&mut out[before..], from, self.0.stream.cu_stream()) };
        let waited = self.finish("computing");
        asked.map_err(|e| failed("fetching its results", &e)).and(waited)
    }
}

/// Memory on the card that grows with what is asked of it.
#[derive(Default)]
pub(super) struct Region(Option<CudaSlice<u8>>);

impl Region {
    /// So many bytes, in which anything may stand.
    pub(super) fn room(&mut self, device: &Device, bytes: usize) -> Result<u64, DeviceError> {
        if self.bytes() < bytes || self.0.is_none() {
            // The old goes first: both together might not fit.
            self.0 = None;
            self.0 = Some(device.allocate(bytes.max(1))?);
        }
        Ok(self.0.as_ref().map_or(0, |slice| device.address(slice)))
    }

    /// How many it has.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, CudaSlice::len)
    }
}

/// Memory of the machine from which the card fetches by itself.
#[derive(Default)]
pub(super) struct Staging(Option<PinnedHostSlice<u8>>);

impl Staging {
    fn room(&mut self, device: &Device, bytes: usize) -> Result<&mut [u8], DeviceError> {
        let doing = "taking memory to send batches from";
        if self.0.as_ref().is_none_or(|slice| slice.len() < bytes) {
            self.0 = None;
            // SAFETY: it is memory of bytes, of which any value is one, and what is sent is written before.
            self.0 = Some(unsafe { device.0.context.alloc_pinned(bytes.max(1)) }.map_err(|e| failed(doing, &e))?);
        }
        match &mut self.0 {
            Some(slice) => Ok(&mut slice.as_mut_slice().map_err(|e| failed(doing, &e))?[..bytes]),
            None => Ok(&mut []),
        }
    }
}

/// A lock that another thread's panic does not spoil: what it guards is caches and buffers.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn failed(doing: &str, reason: &dyn std::fmt::Display) -> DeviceError {
    DeviceError::Failed { doing: doing.to_owned(), reason: reason.to_string() }
}

fn present(library: &'static str, is_here: bool, cure: &'static str) -> Result<(), DeviceError> {
    let looked = || {
        let mut names = cudarc::get_lib_name_candidates(library);
        // Of the many names those that Linux uses now.
        names.retain(|name| {
            name == &format!("lib{library}.so") || [".1", ".12", ".13"].iter().any(|end| name.ends_with(&format!(".so{end}")))
        });
        names
    };
    if is_here { Ok(()) } else { Err(DeviceError::Library { library, looked: looked(), cure }) }
}

fn allocate(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
    // SAFETY: bytes may have any value; whoever reads numbers there has written them before.
    unsafe { stream.alloc(bytes) }.map_err(|e| {
        if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            DeviceError::Memory { bytes, free: context.mem_get_info().map_or(0, |(free, _)| free) }
        } else {
            failed("taking memory", &e)
        }
    })
}

/// Machine code for the card, and no code between that an older driver might not know.
fn compile(head: usize, (major, minor): (i32, i32)) -> Result<Vec<u8>, DeviceError> {
    let refused = |e: nvrtc::NvrtcError| failed("compiling its kernels", &format!("{e:?}"));
    let source = CString::new(SOURCE).map_err(|e| failed("compiling its kernels", &e))?;
    let program = nvrtc::create_program(&source, Some(c"kernels.cu")).map_err(refused)?;
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), format!("-DHEAD={head}"), "--std=c++17".to_owned()];
    let compiled = || {
        // SAFETY: the program was created above and is destroyed below.
        if let Err(e) = unsafe { nvrtc::compile_program(program, &options) } {
            // SAFETY: likewise.
            let log = unsafe { nvrtc::get_program_log(program) }.unwrap_or_default();
            let log: Vec<u8> = log.into_iter().map(|c| c.to_ne_bytes()[0]).take_while(|c| *c != 0).collect();
            let with = format!("NVRTC with {}", options.join(" "));
            return Err(failed("compiling its kernels", &format!("{with}: {e:?}: {}", String::from_utf8_lossy(&log))));
        }
        let mut n = 0;
        // SAFETY: likewise; `n` is written.
        unsafe { nvrtc_sys::nvrtcGetCUBINSize(program, &raw mut n) }.result().map_err(refused)?;
        let mut cubin = vec![0u8; n];
        // SAFETY: likewise; so many bytes are written as were asked for.
        unsafe { nvrtc_sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()) }.result().map_err(refused)?;
        Ok(cubin)
    };
    let cubin = compiled();
    // SAFETY: it was created above, and nobody else has it. It is compiled, so a failure to put it away harms nothing.
    let _ = unsafe { nvrtc::destroy_program(program) };
    cubin
}
