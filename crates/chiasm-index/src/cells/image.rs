//! What an index is made of, in one piece of memory that is the file too: built in place, written as it stands, mapped to be opened.
//!
//! # Format, version 1 of kind 2
//! All numbers little-endian; the header's first 24 bytes are those of every index file (see `file.rs`), sections follow each other at
//! multiples of 64 bytes, in this order, their sizes being told by the header's numbers.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | magic `CHIASMIX` |
//! | 8..24 | u32 version 1, u32 byte-order mark `0x0A0B0C0D`, u32 kind 2, u32 metric |
//! | 24..32 | u64 stamp, the caller's: the state of what it was made from |
//! | 32..72 | u64 `n` vectors, `dim`, `dims` of the codes, `cells`, `blocks` |
//! | 72..88 | u64 probes and rerank of a plain search |
//! | 88..112 | f64 recall that was asked for and that was measured (NaN: none was), u64 queries it was measured on |
//! | 112..120 | u64 owner, the caller's: what it was made from, in whatever state |
//! | 120..128 | u64 length of the file |
//! | 128..160 | zeros |
//! | 160..192 | BLAKE3 of bytes 256 to the end |
//! | 192..224 | BLAKE3 of bytes 0..192 |
//! | 224..256 | zeros |
//!
//! | section | what |
//! | --- | --- |
//! | mean | f32 per number of a vector |
//! | maps | f32, `dims` rows for vectors, then for queries |
//! | steps | f32 per code dimension: of residuals, then of centres |
//! | centres | f32, `dims` per cell |
//! | starts | u64: first slot of each cell and their number, then first block of each cell and their number |
//! | ids | u64 per row, ascending |
//! | places | u32 cell, u32 slot per row |
//! | blocks | codes of 32 slots, then their rows as u32 |
//! | records | scale, offset (f32), row, 0 (u32), digits (8 bits, then 4 bits), one per slot of a cell, cell after cell |
//!
//! # What is checked when
//! On opening: the header, its checksum, the length, and that the starts ascend within bounds. [`Image::verify`] reads everything. A damaged
//! section can give wrong hits; rows, cells and slots are compared with their bounds wherever they lead somewhere, so it cannot crash.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use chiasm_core::Metric;
use memmap2::Mmap;

use super::digits;
use super::kernel::{BLOCK_SLOTS, CODE_DIMS_MAX, CODE_STEP, block_len};
use super::map;
use crate::file::{BYTE_ORDER, FileError, MAGIC, Temporary, VERSION, io_error, metric_code, metric_of};
use crate::pages::Pages;

pub(crate) const KIND_CELLS: u32 = 2;
const HEADER_LEN: usize = 256;
const SIGNED_LEN: usize = 192;
const ALIGN: usize = 64;

/// Bytes before the digits of a record.
pub(crate) const RECORD_HEAD: usize = 16;

/// The numbers that tell all sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) metric: Metric,
    pub(crate) n: usize,
    pub(crate) dim: usize,
    /// Dimensions of the codes.
    pub(crate) dims: usize,
    pub(crate) cells: usize,
    pub(crate) blocks: usize,
}

impl Shape {
    /// Numbers of a vector as it enters the map.
    pub(crate) fn width(&self) -> usize {
        map::width(self.metric, self.dim)
    }

    /// Code dimensions with zeros to whole steps.
    pub(crate) fn code_width(&self) -> usize {
        self.dims.next_multiple_of(CODE_STEP)
    }

    /// Bytes of the codes of a block.
    pub(crate) fn codes_len(&self) -> usize {
        block_len(self.code_width())
    }

    /// Bytes of a block: codes and rows.
    pub(crate) fn block_len(&self) -> usize {
        self.codes_len() + 4 * BLOCK_SLOTS
    }

    /// Digits of a record, zeros among them.
    pub(crate) fn digits(&self) -> usize {
        digits::padded(self.dim)
    }

    /// Bytes of a record.
    pub(crate) fn record_len(&self) -> usize {
        (RECORD_HEAD + self.digits() * 3 / 2).next_multiple_of(16)
    }
}

/// Where each section lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    mean: Range<usize>,
    maps: Range<usize>,
    steps: Range<usize>,
    centres: Range<usize>,
    starts: Range<usize>,
    ids: Range<usize>,
    places: Range<usize>,
    blocks: Range<usize>,
    records: Range<usize>,
}

impl Layout {
    /// `None` for sizes beyond the machine.
    fn new(shape: &Shape) -> Option<Self> {
        // The parts of a size that a header could blow up; each is bounded, so what is computed from one alone cannot overflow.
        if shape.dim >= 1 << 24
            || shape.dims > CODE_DIMS_MAX
            || shape.n >= 1 << 32
            || shape.cells >= 1 << 32
            || shape.blocks >= 1 << 32
        {
            return None;
        }
        let mut at = HEADER_LEN;
        let mut section = |factors: [usize; 2], bytes: usize| {
            let len = factors[0].checked_mul(factors[1])?.checked_mul(bytes)?;
            let start = at;
            at = start.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
            Some(start..start + len)
        };
        let rows = map::padded(shape.width());
        Some(Self {
            mean: section([shape.width(), 1], 4)?,
            maps: section([2 * shape.dims, rows], 4)?,
            steps: section([2, shape.dims], 4)?,
            centres: section([shape.cells, shape.dims], 4)?,
            starts: section([2, shape.cells + 1], 8)?,
            ids: section([shape.n, 1], 8)?,
            places: section([shape.n, 2], 4)?,
            blocks: section([shape.blocks, shape.block_len()], 1)?,
            records: section([shape.n, shape.record_len()], 1)?,
        })
    }

    fn len(&self) -> usize {
        self.records.end.next_multiple_of(ALIGN)
    }
}

/// Types that are plain numbers, so that any bytes are some value of them.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for u32 {}
impl Plain for [u32; 2] {}
impl Plain for u64 {}

/// Bytes as numbers. The machine is little-endian, as [`Image::open`] demands.
pub(crate) fn numbers<T: Plain>(bytes: &[u8]) -> &[T] {
    // SAFETY: any bytes are valid, `Plain` says so; `align_to` gives only the aligned middle.
    let (before, middle, behind) = unsafe { bytes.align_to::<T>() };
    assert!(before.is_empty() && behind.is_empty(), "sections are aligned and whole");
    middle
}

/// Bytes as numbers, to be written.
pub(crate) fn numbers_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: any bytes are valid, `Plain` says so; `align_to` gives only the aligned middle.
    let (before, middle, behind) = unsafe { bytes.align_to_mut::<T>() };
    assert!(before.is_empty() && behind.is_empty(), "sections are aligned and whole");
    middle
}

/// How a plain search goes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tuned {
    pub(crate) probes: usize,
    pub(crate) rerank: usize,
    /// Recall that was asked for; NaN when none was.
    pub(crate) wanted: f64,
    /// Recall that was measured; NaN when none was.
    pub(crate) measured: f64,
    /// Queries that it was measured on.
    pub(crate) measured_on: usize,
}

/// Two numbers of the caller's that a file carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The state of what the index was made from: by it a stale file is known.
    pub state: u64,
    /// What the index was made from, in whatever state: a stale file of the same owner can be brought up to date.
    pub owner: u64,
}

enum Bytes {
    Built(Pages<u8>),
    Opened(Mmap),
}

/// The piece of memory.
pub(crate) struct Image {
    pub(crate) shape: Shape,
    layout: Layout,
    bytes: Bytes,
}

/// Everything that a build writes, at once.
pub(crate) struct Sections<'a> {
    pub(crate) mean: &'a mut [f32],
    pub(crate) maps: &'a mut [f32],
    pub(crate) steps: &'a mut [f32],
    pub(crate) centres: &'a mut [f32],
    pub(crate) starts: &'a mut [u64],
    pub(crate) ids: &'a mut [u64],
    pub(crate) places: &'a mut [[u32; 2]],
    pub(crate) blocks: &'a mut [u8],
    pub(crate) records: &'a mut [u8],
}

impl Image {
    /// Zeros of this shape.
    ///
    /// # Errors
    /// The system's, when there is no such memory.
    pub(crate) fn new(shape: Shape) -> std::io::Result<Self> {
        let too_large = || std::io::Error::new(std::io::ErrorKind::OutOfMemory, "sizes beyond the machine");
        let layout = Layout::new(&shape).ok_or_else(too_large)?;
        let bytes = Pages::try_zeros(layout.len())?;
        Ok(Self { shape, layout, bytes: Bytes::Built(bytes) })
    }

    /// The sections of an image that is being built.
    ///
    /// # Panics
    /// For an opened one.
    pub(crate) fn sections(&mut self) -> Sections<'_> {
        let Bytes::Built(bytes) = &mut self.bytes else { panic!("an opened image is not written") };
        let (mut at, mut rest) = (0, &mut bytes[..]);
        let mut take = |range: &Range<usize>| {
            let (section, behind) = std::mem::take(&mut rest)[range.start - at..].split_at_mut(range.len());
            (at, rest) = (range.end, behind);
            section
        };
        let l = &self.layout;
        Sections {
            mean: numbers_mut(take(&l.mean)),
            maps: numbers_mut(take(&l.maps)),
            steps: numbers_mut(take(&l.steps)),
            centres: numbers_mut(take(&l.centres)),
            starts: numbers_mut(take(&l.starts)),
            ids: numbers_mut(take(&l.ids)),
            places: numbers_mut(take(&l.places)),
            blocks: take(&l.blocks),
            records: take(&l.records),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Built(bytes) => bytes,
            Bytes::Opened(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.len()
    }

    pub(crate) fn mean(&self) -> &[f32] {
        numbers(&self.bytes()[self.layout.mean.clone()])
    }

    /// The map's rows for vectors and for queries.
    pub(crate) fn maps(&self) -> (&[f32], &[f32]) {
        let both: &[f32] = numbers(&self.bytes()[self.layout.maps.clone()]);
        both.split_at(both.len() / 2)
    }

    /// Steps of residuals and of centres.
    pub(crate) fn steps(&self) -> (&[f32], &[f32]) {
        let both: &[f32] = numbers(&self.bytes()[self.layout.steps.clone()]);
        both.split_at(both.len() / 2)
    }

    pub(crate) fn centres(&self) -> &[f32] {
        numbers(&self.bytes()[self.layout.centres.clone()])
    }

    /// First slots and first blocks of the cells, each with one number more.
    pub(crate) fn starts(&self) -> (&[u64], &[u64]) {
        let both: &[u64] = numbers(&self.bytes()[self.layout.starts.clone()]);
        both.split_at(self.shape.cells + 1)
    }

    pub(crate) fn ids(&self) -> &[u64] {
        numbers(&self.bytes()[self.layout.ids.clone()])
    }

    pub(crate) fn places(&self) -> &[[u32; 2]] {
        numbers(&self.bytes()[self.layout.places.clone()])
    }

    pub(crate) fn blocks(&self) -> &[u8] {
        &self.bytes()[self.layout.blocks.clone()]
    }

    pub(crate) fn records(&self) -> &[u8] {
        &self.bytes()[self.layout.records.clone()]
    }

    /// Writes the file: whole or not at all.
    ///
    /// # Errors
    /// [`FileError::Io`]; a file that stood at `path` is then untouched.
    pub(crate) fn write(&self, path: &Path, stamps: Stamps, tuned: Tuned) -> Result<(), FileError> {
        let (temporary, file) = Temporary::create(path).map_err(io_error(path, "create"))?;
        let payload = blake3::hash(&self.bytes()[HEADER_LEN..]);
        let header = self.header(stamps, tuned, payload.as_bytes());
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header).and_then(|()| out.write_all(&self.bytes()[HEADER_LEN..])).map_err(io_error(path, "write"))?;
        let file = out.into_inner().map_err(|e| io_error(path, "write")(e.into_error()))?;
        file.sync_all().map_err(io_error(path, "flush"))?;
        drop(file);
        temporary.put_at(path).map_err(io_error(path, "rename to"))
    }

    fn header(&self, stamps: Stamps, tuned: Tuned, payload: &[u8; 32]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, &MAGIC);
        for (i, number) in [VERSION, BYTE_ORDER, KIND_CELLS, metric_code(self.shape.metric)].into_iter().enumerate() {
            put(8 + 4 * i, &number.to_le_bytes());
        }
        let s = &self.shape;
        let whole = [s.n, s.dim, s.dims, s.cells, s.blocks, tuned.probes, tuned.rerank];
        put(24, &stamps.state.to_le_bytes());
        whole.into_iter().enumerate().for_each(|(i, number)| put(32 + 8 * i, &(number as u64).to_le_bytes()));
        put(88, &tuned.wanted.to_le_bytes());
        put(96, &tuned.measured.to_le_bytes());
        for (at, number) in [(104, tuned.measured_on as u64), (112, stamps.owner), (120, self.layout.len() as u64)] {
            put(at, &number.to_le_bytes());
        }
        put(160, payload);
        let signature = blake3::hash(&bytes[..SIGNED_LEN]);
        bytes[SIGNED_LEN..SIGNED_LEN + 32].copy_from_slice(signature.as_bytes());
        bytes
    }

    /// Maps a file and gives the stamps it was written with and how it is searched.
    ///
    /// # Errors
    /// [`FileError`], one variant for each way in which a file is not what it should be.
    pub(crate) fn open(path: &Path) -> Result<(Self, Stamps, Tuned), FileError> {
        let file = File::open(path).map_err(io_error(path, "open"))?;
        // SAFETY: as for the exact index: nothing writes into a finished file, a new version is renamed over it.
        let map = unsafe { Mmap::map(&file) }.map_err(io_error(path, "map"))?;
        let (shape, tuned, layout, stamps) = parse(&map, path)?;
        let image = Self { shape, layout, bytes: Bytes::Opened(map) };
        let (slots, blocks) = image.starts();
        let fits = |starts: &[u64], n: usize| starts[0] == 0 && starts.is_sorted() && starts[shape.cells] == n as u64;
        let holds = |s: &[u64], b: &[u64]| (b[1] - b[0]) == (s[1] - s[0]).div_ceil(BLOCK_SLOTS as u64);
        if !fits(slots, shape.n)
            || !fits(blocks, shape.blocks)
            || !slots.windows(2).zip(blocks.windows(2)).all(|(s, b)| holds(s, b))
        {
            return Err(FileError::Damaged { path: path.to_owned(), what: "the cells do not follow each other" });
        }
        Ok((image, stamps, tuned))
    }

    /// Reads everything and compares it with its checksum; nothing is to be done for one that was built here.
    ///
    /// # Errors
    /// [`FileError::Damaged`].
    pub(crate) fn verify(&self, path: &Path) -> Result<(), FileError> {
        let Bytes::Opened(bytes) = &self.bytes else { return Ok(()) };
        if blake3::hash(&bytes[HEADER_LEN..]).as_bytes()[..] != bytes[160..192]
            || bytes[224..HEADER_LEN].iter().any(|b| *b != 0)
        {
            return Err(FileError::Damaged { path: path.to_owned(), what: "the sections do not match their checksum" });
        }
        Ok(())
    }
}

/// Reads and checks a header; `file` holds all bytes there are.
fn parse(file: &[u8], path: &Path) -> Result<(Shape, Tuned, Layout, Stamps), FileError> {
    let damaged = |what| FileError::Damaged { path: path.to_owned(), what };
    crate::file::check_beginning(file, path, HEADER_LEN)?;
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    if blake3::hash(&file[..SIGNED_LEN]).as_bytes() != &file[SIGNED_LEN..SIGNED_LEN + 32] {
        return Err(damaged("the header does not match its checksum"));
    }
    if u32_at(8) != VERSION || u32_at(16) != KIND_CELLS {
        return Err(damaged("the header is not that of an index of cells"));
    }
    let metric = metric_of(u32_at(20)).ok_or_else(|| damaged("the header names a metric that is not known"))?;
    let contradict = || damaged("the header's sizes contradict each other");
    let whole = |at: usize| usize::try_from(u64_at(at)).map_err(|_| contradict());
    let shape = Shape { metric, n: whole(32)?, dim: whole(40)?, dims: whole(48)?, cells: whole(56)?, blocks: whole(64)? };
    let (wanted, measured) = (f64::from_bits(u64_at(88)), f64::from_bits(u64_at(96)));
    let tuned = Tuned { probes: whole(72)?, rerank: whole(80)?, wanted, measured, measured_on: whole(104)? };
    let stamps = Stamps { state: u64_at(24), owner: u64_at(112) };
    if shape.dim == 0 || shape.dims == 0 || shape.dims > shape.width() || shape.cells == 0 || tuned.probes == 0 {
        return Err(contradict());
    }
    let layout = Layout::new(&shape).filter(|layout| layout.len() as u64 == u64_at(120)).ok_or_else(contradict)?;
    if file.len() != layout.len() {
        return Err(FileError::Length { path: path.to_owned(), found: file.len() as u64, expected: layout.len() as u64 });
    }
    Ok((shape, tuned, layout, stamps))
}
