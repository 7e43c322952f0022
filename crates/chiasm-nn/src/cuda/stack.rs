//! Blocks, and the patches before them.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::{Arc, Mutex};

use cudarc::driver::CudaSlice;

use super::device::{Arg, Device, Kernels, Region, Staging, lock};
use super::matrix::{Finish, Matrix, Number};
use super::{DeviceError, Keep, PictureParts};
use crate::activation::Activation;
use crate::map::FeatureMap;
use crate::norm::LayerNorm;
use crate::transformer::{Block, Order};

/// Rows that are computed at once at most: beyond, products get no faster.
const ROWS_MAX: usize = 1 << 17;

/// Blocks on a GPU.
pub struct DeviceStack {
    device: Device,
    kernels: Arc<Kernels>,
    blocks: Vec<DeviceBlock>,
    dim: usize,
    /// Numbers per token between the two layers of the feed-forward part.
    wide: usize,
    n_heads: usize,
    number: Number,
    scratch: Mutex<Scratch>,
}

struct DeviceBlock {
    qkv: Matrix,
    out: Matrix,
    norm_1: Norm,
    widen: Matrix,
    activation: i32,
    narrow: Matrix,
    norm_2: Norm,
    order: Order,
}

struct Norm {
    scale: CudaSlice<u8>,
    shift: CudaSlice<u8>,
    eps: f32,
}

/// Buffers that are used over and over, by one batch at a time.
#[derive(Default)]
struct Scratch {
    staging: Staging,
    /// States between blocks in single precision, `[rows, dim]`.
    x: Region,
    /// What goes into products, `[rows, dim]`.
    inner: Region,
    /// Queries, keys and values, `[rows, 3 dim]`, and what the feed-forward part has inside, `[rows, wide]`.
    between: Region,
    /// Rows at which sequences begin, and those that are kept.
    rows: Region,
    /// What is kept.
    kept: Region,
    /// Pictures, their patches, and these as tokens.
    pictures: Region,
    unfolded: Region,
    patches: Region,
}

impl Scratch {
    fn bytes(&self) -> usize {
        let Self { staging: _, x, inner, between, rows, kept, pictures, unfolded, patches } = self;
        [x, inner, between, rows, kept, pictures, unfolded, patches].iter().map(|region| region.bytes()).sum()
    }
}

impl Norm {
    fn new(device: &Device, norm: &LayerNorm) -> Result<Self, DeviceError> {
        let stored = |values: &[f32]| device.stored(values, Number::F32);
        Ok(Self { scale: stored(&norm.scale)?, shift: stored(&norm.shift)?, eps: norm.eps })
    }
}

impl DeviceBlock {
    fn new(device: &Device, block: &Block, number: Number) -> Result<Self, DeviceError> {
        let layer = |layer, of_bias| Matrix::new(device, layer, (number, of_bias), 1);
        Ok(Self {
            qkv: layer(&block.attention.qkv, number)?,
            out: layer(&block.out, Number::F32)?,
            norm_1: Norm::new(device, &block.norm_1)?,
            widen: layer(&block.widen, Number::F32)?,
            activation: kind(block.widen.activation()),
            narrow: layer(&block.narrow, Number::F32)?,
            norm_2: Norm::new(device, &block.norm_2)?,
            order: block.order,
        })
    }
}

/// The number by which `kernels.cu` knows a function.
fn kind(activation: Activation) -> i32 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
        Activation::Gelu => 3,
        Activation::GeluTanh => 4,
        Activation::QuickGelu => 5,
        Activation::Silu => 6,
        Activation::Tanh => 7,
    }
}

impl DeviceStack {
    /// Brings blocks there, in the precision that they have.
    ///
    /// # Errors
    /// [`DeviceError::Unfit`] for blocks in 8-bit integers, for heads that are too wide, and for blocks of several shapes;
    /// [`DeviceError::Memory`].
    pub fn new(device: &Device, blocks: &[Block]) -> Result<Self, DeviceError> {
        let unfit = |reason: &str| DeviceError::Unfit { reason: reason.to_owned() };
        let Some(first) = blocks.first() else { return Err(unfit("a network without blocks has nothing to do on a GPU")) };
        let shape = |block: &Block| (block.dim(), block.widen.n_out(), block.attention.n_heads, block.widen.precision());
        let (dim, wide, n_heads, precision) = shape(first);
        if blocks.iter().any(|block| shape(block) != (dim, wide, n_heads, precision)) {
            return Err(unfit("the blocks have several shapes, on a GPU they must be alike: leave `+cuda` off"));
        }
        let fits = |n: usize| i32::try_from(n).is_ok();
        if !fits(3 * dim) || !fits(wide) || dim == 0 || wide == 0 {
            return Err(unfit("the blocks are too wide, or have no width"));
        }
        let number = Number::of(precision)?;
        let (major, minor) = device.0.capability;
        if number == Number::Bf16 && major < 8 {
            return Err(unfit(&format!(
                "{} has compute capability {major}.{minor}, bfloat16 needs 8.0 or more: leave `+bf16` off",
                device.name()
            )));
        }
        device.bind()?;
        Ok(Self {
            device: device.clone(),
            kernels: device.kernels(dim / n_heads)?,
            blocks: blocks.iter().map(|block| DeviceBlock::new(device, block, number)).collect::<Result<_, _>>()?,
            dim,
            wide,
            n_heads,
            number,
            scratch: Mutex::default(),
        })
    }

    /// Carries sequences, one after the other in `x`, `[sum of lengths, dim]`, through the blocks, each token seeing its whole sequence, or
    /// itself and those before it; gives the states that are kept, one `[dim]` after the other.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] and [`DeviceError::Failed`].
    pub fn forward(&self, x: &[f32], lengths: &[usize], causal: bool, keep: Keep<'_>) -> Result<Vec<f32>, DeviceError> {
        assert_eq!(lengths.iter().sum::<usize>() * self.dim, x.len(), "lengths of the sequences");
        self.device.bind()?;
        let scratch = &mut *lock(&self.scratch);
        let at_a_time = self.rows_at_a_time(scratch, 0)?;
        let mut out = Vec::new();
        let mut first = 0;
        for part in parts(lengths, at_a_time) {
            let n: usize = lengths[part.clone()].iter().sum();
            let states = &x[first * self.dim..(first + n) * self.dim];
            let to = scratch.x.room(&self.device, states.len() * 4)?;
            let pieces: Vec<&[f32]> = states.chunks(states.len().div_ceil(16).max(1)).collect();
            self.device.bring(&pieces, Number::F32, &mut scratch.staging, to)?;
            self.run(scratch, &lengths[part.clone()], causal)?;
            self.fetch(scratch, &lengths[part.clone()], keep.of(part), &mut out)?;
            first += n;
        }
        Ok(out)
    }

    /// Rows for which there is room, where each takes `more` bytes beside what the blocks take; half of what is free, for others live there too.
    fn rows_at_a_time(&self, scratch: &Scratch, more: usize) -> Result<usize, DeviceError> {
        let each = self.dim * (4 + self.number.bytes()) + self.wide.max(3 * self.dim) * self.number.bytes() + more;
        Ok(((self.device.free()? + scratch.bytes()) / 2 / each).clamp(1, ROWS_MAX))
    }

    /// The blocks, on the states in `scratch.x`.
    fn run(&self, scratch: &mut Scratch, lengths: &[usize], causal: bool) -> Result<(), DeviceError> {
        let (device, dim, wide) = (&self.device, self.dim, self.wide);
        let first: Vec<usize> = std::iter::once(0)
            .chain(lengths.iter().scan(0, |at, n| {
                *at += n;
                Some(*at)
            }))
            .collect();
        let n = first[lengths.len()];
        let size = self.number.bytes();
        let x = scratch.x.room(device, n * dim * 4)?;
        let inner = scratch.inner.room(device, n * dim * size)?;
        let between = scratch.between.room(device, n * wide.max(3 * dim) * size)?;
        let rows = scratch.rows.room(device, first.len() * 4)?;
        device.bring_integers(&integers(&first)?, rows)?;
        if self.blocks.first().is_some_and(|block| block.order == Order::PostNorm) {
            let blocks = (n * dim).div_ceil(256).min(4096);
            let args = [Arg::At(x), Arg::Long((n * dim) as i64), Arg::At(inner)];
            // SAFETY: [n, dim] floats at x, room for as many numbers at inner.
            unsafe { device.launch(("converting", &self.kernels.convert[self.number as usize]), [blocks, 1, 1], 256, &args) }?;
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        for block in &self.blocks {
            let in_place = block.order == Order::PostNorm;
            if !in_place {
                self.normalise(&block.norm_1, x, n, inner, false)?;
            }
            // SAFETY: x has [n, dim] floats; inner has room for [n, dim] numbers, between for [n, 3 dim] and for [n, wide]; weights are of the
            // shapes that the block was loaded with.
            unsafe { block.qkv.multiply(device, (inner, n), (between, self.number), Finish::Biased) }?;
            self.attend(between, rows, (lengths.len(), longest), causal, inner)?;
            // SAFETY: as above.
            unsafe { block.out.multiply(device, (inner, n), (x, Number::F32), Finish::Added) }?;
            self.normalise(if in_place { &block.norm_1 } else { &block.norm_2 }, x, n, inner, in_place)?;
            // SAFETY: as above.
            unsafe { block.widen.multiply(device, (inner, n), (between, self.number), Finish::Bare) }?;
            let args =
                [Arg::At(between), Arg::At(block.widen.bias(device)), Arg::Int(to_i32(wide)?), Arg::Int(block.activation)];
            let activate = ("an activation", &self.kernels.activate[self.number as usize]);
            // SAFETY: [n, wide] numbers at between, [wide] floats in the bias; 128 threads of 8 columns cover 1024.
            unsafe { device.launch(activate, [n, wide.div_ceil(1024), 1], 128, &args) }?;
            // SAFETY: as above.
            unsafe { block.narrow.multiply(device, (between, n), (x, Number::F32), Finish::Added) }?;
            if in_place {
                self.normalise(&block.norm_2, x, n, inner, true)?;
            }
        }
        Ok(())
    }

    /// Normalises `n` rows at `x` to `out`, and in place too if asked.
    fn normalise(&self, norm: &Norm, x: u64, n: usize, out: u64, in_place: bool) -> Result<(), DeviceError> {
        let device = &self.device;
        let args = [
            Arg::At(x),
            Arg::At(device.address(&norm.scale)),
            Arg::At(device.address(&norm.shift)),
            Arg::Float(norm.eps),
            Arg::Int(to_i32(n)?),
            Arg::Int(to_i32(self.dim)?),
            Arg::At(out),
            Arg::Int(in_place.into()),
        ];
        let function = ("a normalisation", &self.kernels.layer_norm[self.number as usize]);
        // SAFETY: [n, dim] floats at x, room for as many numbers at out; four warps a block, a row for each.
        unsafe { device.launch(function, [n.div_ceil(4), 1, 1], 128, &args) }
    }

    /// Attention of all heads, from `[rows, 3 dim]` at `qkv` to `[rows, dim]` at `out`.
    fn attend(&self, qkv: u64, rows: u64, (n, longest): (usize, usize), causal: bool, out: u64) -> Result<(), DeviceError> {
        let (dim, size) = (self.dim, self.number.bytes());
        let tensor = self.kernels.attend_tensor.as_ref().filter(|_| self.number == Number::Bf16 && dim.is_multiple_of(8));
        let (function, tile) = tensor.map_or((&self.kernels.attend[self.number as usize], 16), |function| (function, 64));
        let args = [
            Arg::At(qkv),
            Arg::At(qkv + (dim * size) as u64),
            Arg::At(qkv + (2 * dim * size) as u64),
            Arg::Int(to_i32(3 * dim)?),
            Arg::At(rows),
            Arg::Int(causal.into()),
            Arg::At(out),
            Arg::Int(to_i32(dim)?),
        ];
        // SAFETY: rows has n + 1 integers, the last of them the number of rows of qkv and out; four warps a block, a tile of queries for
        // each block.
        unsafe { self.device.launch(("attention", function), [n, self.n_heads, longest.div_ceil(tile)], 128, &args) }
    }

    /// Fetches what is kept of the states in `scratch.x`.
    fn fetch(&self, scratch: &mut Scratch, lengths: &[usize], keep: Keep<'_>, out: &mut Vec<f32>) -> Result<(), DeviceError> {
        let (device, dim) = (&self.device, self.dim);
        let n: usize = lengths.iter().sum();
        let x = scratch.x.room(device, n * dim * 4)?;
        if keep == Keep::All {
            return device.fetch(x, n * dim, out);
        }
        let mut before = 0;
        let mut chosen = Vec::with_capacity(lengths.len());
        for (i, n) in lengths.iter().enumerate() {
            let place = if let Keep::One(places) = keep { places[i] } else { 0 };
            assert!(place < *n, "a place within its sequence");
            chosen.push(before + place);
            before += n;
        }
        let rows = scratch.rows.room(device, chosen.len() * 4)?;
        device.bring_integers(&integers(&chosen)?, rows)?;
        let kept = scratch.kept.room(device, chosen.len() * dim * 4)?;
        let args = [Arg::At(x), Arg::At(rows), Arg::Int(to_i32(dim)?), Arg::At(kept)];
        // SAFETY: the chosen are rows of x, and there is room for as many rows at kept.
        unsafe { device.launch(("choosing rows", &self.kernels.gather), [chosen.len(), 1, 1], 128, &args) }?;
        device.fetch(kept, chosen.len() * dim, out)
    }
}

impl std::fmt::Debug for DeviceStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, blocks, dim, number, .. } = self;
        f.debug_struct("DeviceStack")
            .field("device", device)
            .field("blocks", &blocks.len())
            .field("dim", dim)
            .field("number", number)
            .finish()
    }
}

/// A vision transformer on a GPU, up to its last block.
#[derive(Debug)]
pub struct DevicePictures {
    stack: DeviceStack,
    before: Before,
}

struct Before {
    patches: Matrix,
    side: usize,
    channels: usize,
    /// `[dim]`, where there is such a token.
    class: Option<CudaSlice<u8>>,
    /// `[patches, dim]`, with the bias of the patches' layer in them.
    positions: CudaSlice<u8>,
    n_patches: usize,
    norm: Option<Norm>,
}

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Before").field("side", &self.side).field("n_patches", &self.n_patches).finish_non_exhaustive()
    }
}

/// Pictures on a GPU.
#[derive(Debug)]
pub struct Uploaded {
    /// Of the numbers that the network's products take.
    pixels: CudaSlice<u8>,
    n: usize,
    size: [usize; 2],
}

impl DevicePictures {
    /// Brings patches and blocks there, in the precision that the blocks have.
    ///
    /// # Errors
    /// As [`DeviceStack::new`], and [`DeviceError::Unfit`] where the parts have other widths than the blocks.
    pub fn new(device: &Device, parts: PictureParts<'_>, blocks: &[Block]) -> Result<Self, DeviceError> {
        let stack = DeviceStack::new(device, blocks)?;
        let PictureParts { patches, side, channels, class, positions, norm } = parts;
        let dim = stack.dim;
        let fits = patches.n_out() == dim
            && patches.n_in() == side * side * channels
            && patches.activation() == Activation::None
            && class.is_none_or(|class| class.len() == dim)
            && positions.len().is_multiple_of(dim)
            && norm.is_none_or(|norm| norm.scale.len() == dim)
            && side > 0;
        if !fits || i32::try_from(patches.n_in() + 8).is_err() {
            let reason = "what stands before the blocks has not their width, or an activation of its own: leave `+cuda` off";
            return Err(DeviceError::Unfit { reason: reason.to_owned() });
        }
        let mut biased = positions.to_vec();
        for row in biased.chunks_exact_mut(dim) {
            row.iter_mut().zip(patches.bias()).for_each(|(v, b)| *v += b);
        }
        let before = Before {
            // Rows of whole 16 bytes: with others there are only slow products.
            patches: Matrix::new(device, patches, (stack.number, Number::F32), 8)?,
            side,
            channels,
            class: class.map(|class| device.stored(class, Number::F32)).transpose()?,
            positions: device.stored(&biased, Number::F32)?,
            n_patches: positions.len() / dim,
            norm: norm.map(|norm| Norm::new(device, norm)).transpose()?,
        };
        Ok(Self { stack, before })
    }

    /// Carries pictures through patches and blocks; gives the states that are kept, one `[dim]` after the other.
    ///
    /// # Errors
    /// [`DeviceError::Unfit`] for pictures of several sizes, or of another number of patches than there are positions for;
    /// [`DeviceError::Memory`] and [`DeviceError::Failed`].
    pub fn forward(&self, pictures: &[FeatureMap], keep: Keep<'_>) -> Result<Vec<f32>, DeviceError> {
        let Self { stack, .. } = self;
        stack.device.bind()?;
        let scratch = &mut *lock(&stack.scratch);
        let mut out = Vec::new();
        let Some(size) = self.size_of(pictures)? else { return Ok(out) };
        let lengths = vec![self.n_tokens(); pictures.len()];
        for part in parts(&lengths, self.rows_at_a_time(scratch, size)?) {
            let numbers: Vec<&[f32]> = pictures[part.clone()].iter().map(|picture| picture.data.as_slice()).collect();
            let to = scratch.pictures.room(&stack.device, self.bytes_of(size) * part.len())?;
            stack.device.bring(&numbers, stack.number, &mut scratch.staging, to)?;
            self.run(scratch, to, part.len(), size)?;
            stack.fetch(scratch, &lengths[part.clone()], keep.of(part), &mut out)?;
        }
        Ok(out)
    }

    /// Brings pictures there, to be computed by [`Self::forward_uploaded`].
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn upload(&self, pictures: &[FeatureMap]) -> Result<Uploaded, DeviceError> {
        let device = &self.stack.device;
        device.bind()?;
        let scratch = &mut *lock(&self.stack.scratch);
        let size = self.size_of(pictures)?.unwrap_or([0; 2]);
        let pixels = device.allocate((self.bytes_of(size) * pictures.len()).max(1))?;
        let numbers: Vec<&[f32]> = pictures.iter().map(|picture| picture.data.as_slice()).collect();
        device.bring(&numbers, self.stack.number, &mut scratch.staging, device.address(&pixels))?;
        Ok(Uploaded { pixels, n: pictures.len(), size })
    }

    /// As [`Self::forward`], for pictures that are there.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] and [`DeviceError::Failed`].
    pub fn forward_uploaded(&self, pictures: &Uploaded, keep: Keep<'_>) -> Result<Vec<f32>, DeviceError> {
        let Self { stack, .. } = self;
        stack.device.bind()?;
        let scratch = &mut *lock(&stack.scratch);
        let mut out = Vec::new();
        let lengths = vec![self.n_tokens(); pictures.n];
        let at = stack.device.address(&pictures.pixels);
        for part in parts(&lengths, self.rows_at_a_time(scratch, pictures.size)?) {
            let first = at + (self.bytes_of(pictures.size) * part.start) as u64;
            self.run(scratch, first, part.len(), pictures.size)?;
            stack.fetch(scratch, &lengths[part.clone()], keep.of(part), &mut out)?;
        }
        Ok(out)
    }

    /// Tokens of a picture.
    fn n_tokens(&self) -> usize {
        usize::from(self.before.class.is_some()) + self.before.n_patches
    }

    /// Height and width of all pictures, where there are any.
    fn size_of(&self, pictures: &[FeatureMap]) -> Result<Option<[usize; 2]>, DeviceError> {
        let Some(first) = pictures.first() else { return Ok(None) };
        let Before { side, channels, n_patches, .. } = self.before;
        let size = [first.height, first.width];
        for picture in pictures {
            let whole = picture.data.len() == picture.height * picture.width * channels && picture.channels == channels;
            let n = (picture.height / side) * (picture.width / side);
            if !whole || [picture.height, picture.width] != size || n != n_patches {
                let [height, width] = size;
                let came = format!("{} x {} x {}", picture.height, picture.width, picture.channels);
                let reason = format!(
                    "a picture of {came} with {n} patches came, expected all of {height} x {width} x {channels} with {n_patches}"
                );
                return Err(DeviceError::Unfit { reason });
            }
        }
        Ok(Some(size))
    }

    fn bytes_of(&self, [height, width]: [usize; 2]) -> usize {
        height * width * self.before.channels * self.stack.number.bytes()
    }

    fn rows_at_a_time(&self, scratch: &Scratch, size: [usize; 2]) -> Result<usize, DeviceError> {
        let of_patches = self.before.patches.n_in * self.stack.number.bytes() + 4 * self.stack.dim;
        self.stack.rows_at_a_time(scratch, of_patches + self.bytes_of(size) / self.n_tokens().max(1))
    }

    /// From `n` pictures at an address to states in `scratch.x`.
    fn run(&self, scratch: &mut Scratch, pictures: u64, n: usize, [height, width]: [usize; 2]) -> Result<(), DeviceError> {
        let Self { stack, before } = self;
        let (device, dim, kernels) = (&stack.device, stack.dim, &stack.kernels);
        let (n_tokens, n_patches) = (n * self.n_tokens(), n * before.n_patches);
        let k = before.patches.n_in;
        let unfolded = scratch.unfolded.room(device, n_patches * k * stack.number.bytes())?;
        let patches = scratch.patches.room(device, n_patches * dim * 4)?;
        let x = scratch.x.room(device, n_tokens * dim * 4)?;
        let inner = scratch.inner.room(device, n_tokens * dim * stack.number.bytes())?;
        let args = [
            Arg::At(pictures),
            Arg::Int(to_i32(height)?),
            Arg::Int(to_i32(width)?),
            Arg::Int(to_i32(before.channels)?),
            Arg::Int(to_i32(before.side)?),
            Arg::Int(to_i32(k)?),
            Arg::At(unfolded),
        ];
        // SAFETY: there are n pictures of this size, as they were checked to be, and room for [n_patches, k] numbers.
        unsafe { device.launch(("unfolding patches", &kernels.unfold[stack.number as usize]), [n_patches, 1, 1], 128, &args) }?;
        // SAFETY: [n_patches, k] numbers at unfolded, room for [n_patches, dim] floats at patches.
        unsafe { before.patches.multiply(device, (unfolded, n_patches), (patches, Number::F32), Finish::Bare) }?;
        let args = [
            Arg::At(patches),
            Arg::At(before.class.as_ref().map_or(0, |class| device.address(class))),
            Arg::Int(before.class.is_some().into()),
            Arg::At(device.address(&before.positions)),
            Arg::Int(to_i32(before.n_patches)?),
            Arg::Int(to_i32(dim)?),
            Arg::At(x),
        ];
        // SAFETY: room for [n_tokens, dim] floats at x; the class token is read only where there is one.
        unsafe { device.launch(("putting tokens together", &kernels.assemble), [n_tokens, 1, 1], 128, &args) }?;
        if let Some(norm) = &before.norm {
            stack.normalise(norm, x, n_tokens, inner, true)?;
        }
        stack.run(scratch, &vec![self.n_tokens(); n], false)
    }
}

impl<'a> Keep<'a> {
    /// The same of some of the sequences.
    fn of(self, part: Range<usize>) -> Self {
        match self {
            Keep::One(places) => Keep::One(&places[part]),
            Keep::All | Keep::First => self,
        }
    }
}

/// Ranges of consecutive sequences of at most so many rows together, or of one sequence.
fn parts(lengths: &[usize], at_a_time: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut rows) = (0, 0);
    for (i, n) in lengths.iter().enumerate() {
        if i > start && rows + n > at_a_time {
            parts.push(start..i);
            (start, rows) = (i, 0);
        }
        rows += n;
    }
    if start < lengths.len() {
        parts.push(start..lengths.len());
    }
    parts
}

fn integers(values: &[usize]) -> Result<Vec<i32>, DeviceError> {
    values.iter().map(|v| to_i32(*v)).collect()
}

fn to_i32(v: usize) -> Result<i32, DeviceError> {
    i32::try_from(v).map_err(|_| DeviceError::Unfit { reason: format!("{v} is more than a GPU's kernels count to here") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_all_sequences_and_few_rows() {
        assert_eq!(parts(&[3, 3, 3, 10, 1, 1], 6), [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(parts(&[5, 5], 1), [0..1, 1..2]);
        assert_eq!(parts(&[], 6), [] as [Range<usize>; 0]);
    }
}
