//! The file of an exact index: header, vectors, ids; mapped, never parsed.
//!
//! # Format, version 1
//! All numbers little-endian, sections at multiples of 64 bytes, gaps filled with zeros.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | magic `CHIASMIX` |
//! | 8..12 | u32 version of the format, 1 |
//! | 12..16 | u32 byte-order mark `0x0A0B0C0D` |
//! | 16..20 | u32 kind of index: 1 = exact f32, 3 = exact f16, 4 = exact bf16 (2 = cells, see `cells/image.rs`) |
//! | 20..24 | u32 metric: 1 cosine, 2 inner product, 3 L2 |
//! | 24..32 | u64 `n`, number of vectors |
//! | 32..40 | u64 `dim`, numbers per vector |
//! | 40..48 | u64 stamp, the caller's |
//! | 48..56 | u64 offset of the vectors, `n * dim` numbers row-major |
//! | 56..64 | u64 offset of the ids, `n` u64, strictly ascending |
//! | 64..72 | u64 length of the file |
//! | 72..96 | zeros |
//! | 96..128 | BLAKE3 of bytes 192 to the end of the file |
//! | 128..160 | BLAKE3 of bytes 0..128 |
//! | 160..192 | zeros |
//! | 192.. | the sections |
//!
//! # What is checked when
//! On opening: magic, version, byte order, the header's checksum, that the sections lie in the file and the file has its whole
//! length. That reads one page, so opening takes the same fraction of a millisecond at any size. The payload's checksum is
//! compared only by `verify`, which reads the file. A flipped bit in the payload can therefore give a wrong hit until someone
//! verifies; it cannot crash.
//!
//! # Writing
//! To a temporary file beside the target, flushed to the disk, then renamed over it, and the folder flushed: after a crash or a
//! full disk there is the old file or the new one. A reader that has the old one mapped keeps reading that.
//!
//! # Memory
//! `4 * dim + 8` bytes per vector (`2 * dim + 8` for half floats) in the page cache, 192 bytes and up to 63 of padding per file, nothing on the heap.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chiasm_core::{Metric, Vectors};
use memmap2::Mmap;

use crate::exact::{BuildError, check_order, keep};
use crate::stored::Stored;

pub(crate) const MAGIC: [u8; 8] = *b"CHIASMIX";
pub(crate) const VERSION: u32 = 1;
pub(crate) const BYTE_ORDER: u32 = 0x0A0B_0C0D;
const HEADER_LEN: usize = 192;
/// What the header's checksum covers.
const SIGNED_LEN: usize = 128;
const ALIGN: u64 = 64;

/// Why an index file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("cannot {action} the index {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not an index file at all.
    #[error("{} is no chiasm index: it begins with {found:?}, an index with \"CHIASMIX\"", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its first bytes, as text.
        found: String,
    },
    /// Written by a later version of the program.
    #[error("the index {} has format {found}, this program reads {VERSION}: use a newer chiasm, or delete the file and it is rebuilt", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Written on, or read by, a machine that stores numbers the other way round.
    #[error("the index {} is of another byte order than this machine: delete the file and it is rebuilt", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// Shorter or longer than it says.
    #[error("the index {} has {found} bytes, its header says {expected}: it was cut or added to; delete it and it is rebuilt", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The bytes are not those that were written.
    #[error("the index {} is damaged ({what}): delete the file and it is rebuilt", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part, and how it is known.
        what: &'static str,
    },
    /// Vectors of another dimension than the file's.
    #[error("{got} dimensions for an index of {expected}")]
    Dimension {
        /// What came.
        got: usize,
        /// What the file holds.
        expected: usize,
    },
    /// Ids that do not fit the vectors.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The numbers of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u32,
    metric: Metric,
    n: u64,
    dim: u64,
    stamp: u64,
    vectors_at: u64,
    ids_at: u64,
    file_len: u64,
    payload: [u8; 32],
}

impl Header {
    fn new<T: Stored>(metric: Metric, n: u64, dim: u64, stamp: u64) -> Option<Self> {
        let vectors_at = HEADER_LEN as u64;
        let vectors_len = n.checked_mul(dim)?.checked_mul(size_of::<T>() as u64)?;
        let ids_at = vectors_at.checked_add(vectors_len)?.checked_next_multiple_of(ALIGN)?;
        let file_len = ids_at.checked_add(n.checked_mul(8)?)?;
        Some(Self { kind: T::KIND, metric, n, dim, stamp, vectors_at, ids_at, file_len, payload: [0; 32] })
    }

    fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &BYTE_ORDER.to_le_bytes());
        put(16, &self.kind.to_le_bytes());
        put(20, &metric_code(self.metric).to_le_bytes());
        for (i, number) in [self.n, self.dim, self.stamp, self.vectors_at, self.ids_at, self.file_len].into_iter().enumerate() {
            put(24 + 8 * i, &number.to_le_bytes());
        }
        put(96, &self.payload);
        let signature = blake3::hash(&bytes[..SIGNED_LEN]);
        bytes[SIGNED_LEN..SIGNED_LEN + 32].copy_from_slice(signature.as_bytes());
        bytes
    }

    /// Reads and checks a header; `file` holds all bytes there are.
    fn parse<T: Stored>(file: &[u8], path: &Path) -> Result<Self, FileError> {
        let damaged = |what| FileError::Damaged { path: path.to_owned(), what };
        check_beginning(file, path, HEADER_LEN)?;
        let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
        if blake3::hash(&file[..SIGNED_LEN]).as_bytes() != &file[SIGNED_LEN..SIGNED_LEN + 32] {
            return Err(damaged("the header does not match its checksum"));
        }
        // From here on the bytes are as they were written; what follows fails only for a writer with another mind.
        if u32_at(8) != VERSION || u32_at(12) != BYTE_ORDER {
            return Err(damaged("the header has no version 1"));
        }
        if u32_at(16) != T::KIND {
            return Err(damaged("the header names another kind of index than was asked for"));
        }
        let metric = metric_of(u32_at(20)).ok_or_else(|| damaged("the header names a metric that version 1 does not have"))?;
        let mut header = Self::new::<T>(metric, u64_at(24), u64_at(32), u64_at(40))
            .filter(|h| h.dim > 0 && h.vectors_at == u64_at(48) && h.ids_at == u64_at(56) && h.file_len == u64_at(64))
            .ok_or_else(|| damaged("the header's sizes contradict each other"))?;
        header.payload.copy_from_slice(&file[96..128]);
        if file.len() as u64 != header.file_len {
            return Err(FileError::Length { path: path.to_owned(), found: file.len() as u64, expected: header.file_len });
        }
        Ok(header)
    }
}

/// Checks what all index files begin with: magic, whole header, byte order and version.
pub(crate) fn check_beginning(file: &[u8], path: &Path, header_len: usize) -> Result<(), FileError> {
    let path = || path.to_owned();
    // An empty or short file that begins rightly was cut; anything else is not ours.
    let seen = &file[..file.len().min(MAGIC.len())];
    if seen.is_empty() || !MAGIC.starts_with(seen) {
        return Err(FileError::Foreign { path: path(), found: String::from_utf8_lossy(seen).into_owned() });
    }
    if file.len() < header_len {
        return Err(FileError::Length { path: path(), found: file.len() as u64, expected: header_len as u64 });
    }
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    // Order and version come before the checksum: a later version may sign other bytes.
    if cfg!(target_endian = "big") || u32_at(12) == BYTE_ORDER.swap_bytes() {
        return Err(FileError::ByteOrder { path: path() });
    }
    if u32_at(8) > VERSION {
        return Err(FileError::NewerVersion { path: path(), found: u32_at(8) });
    }
    Ok(())
}

pub(crate) fn metric_code(metric: Metric) -> u32 {
    match metric {
        Metric::Cosine => 1,
        Metric::InnerProduct => 2,
        Metric::L2 => 3,
    }
}

pub(crate) fn metric_of(code: u32) -> Option<Metric> {
    [Metric::Cosine, Metric::InnerProduct, Metric::L2].into_iter().find(|m| metric_code(*m) == code)
}

/// Writes an index file row by row, so that a base need not fit in memory: only the ids are kept, 8 bytes a row.
///
/// Nothing stands at the path until [`IndexWriter::finish`]; dropping the writer before leaves no trace.
pub struct IndexWriter<T: Stored = f32> {
    path: PathBuf,
    temporary: Temporary,
    body: Body<BufWriter<File>, T>,
}

impl IndexWriter {
    /// Begins a file of single precision that will stand at `path`, in a folder that exists.
    ///
    /// # Errors
    /// [`FileError::Io`]; [`FileError::Dimension`] for no dimensions.
    pub fn create(path: &Path, dim: usize, metric: Metric) -> Result<Self, FileError> {
        Self::create_as(path, dim, metric)
    }
}

impl<T: Stored> IndexWriter<T> {
    /// As [`IndexWriter::create`], for numbers that are kept as `T`.
    ///
    /// # Errors
    /// As there.
    pub fn create_as(path: &Path, dim: usize, metric: Metric) -> Result<Self, FileError> {
        if dim == 0 {
            return Err(FileError::Dimension { got: 0, expected: 1 });
        }
        let (temporary, file) = Temporary::create(path).map_err(io_error(path, "create"))?;
        let body = Body::begin(BufWriter::with_capacity(1 << 20, file), dim, metric).map_err(io_error(path, "write"))?;
        Ok(Self { path: path.to_owned(), temporary, body })
    }

    /// Adds rows. `ids` ascend strictly, going on from the rows before.
    ///
    /// # Errors
    /// [`FileError::Dimension`], [`FileError::Build`] and [`FileError::Io`].
    pub fn push(&mut self, ids: &[u64], vectors: &Vectors) -> Result<(), FileError> {
        if vectors.dim() != self.body.dim {
            return Err(FileError::Dimension { got: vectors.dim(), expected: self.body.dim });
        }
        if ids.len() != vectors.n() {
            return Err(BuildError::Count { ids: ids.len(), vectors: vectors.n() }.into());
        }
        let mut stored = vec![T::of(0.0); vectors.data().len()];
        keep(vectors, self.body.metric, self.body.ids.len(), &mut stored)?;
        self.push_stored(ids, &stored)
    }

    /// Adds rows as they are to be stored.
    pub(crate) fn push_stored(&mut self, ids: &[u64], vectors: &[T]) -> Result<(), FileError> {
        check_order(ids, self.body.ids.len(), self.body.ids.last().copied())?;
        self.body.push(ids, vectors).map_err(io_error(&self.path, "write"))
    }

    /// Completes the file and puts it in its place.
    ///
    /// # Errors
    /// [`FileError::Io`], disk full among its causes; a file that stood there is then untouched.
    pub fn finish(self, stamp: u64) -> Result<(), FileError> {
        let Self { path, temporary, body } = self;
        let file = body
            .finish(stamp)
            .and_then(|writer| writer.into_inner().map_err(io::IntoInnerError::into_error))
            .map_err(io_error(&path, "write"))?;
        file.sync_all().map_err(io_error(&path, "flush"))?;
        drop(file);
        temporary.put_at(&path).map_err(io_error(&path, "rename to"))
    }
}

pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, action, source }
}

/// The bytes of a file, to whatever takes them.
struct Body<W, T> {
    out: W,
    metric: Metric,
    dim: usize,
    ids: Vec<u64>,
    payload: blake3::Hasher,
    bytes: Vec<u8>,
    of: PhantomData<T>,
}

impl<W: Write + Seek, T: Stored> Body<W, T> {
    fn begin(mut out: W, dim: usize, metric: Metric) -> io::Result<Self> {
        // Room for the header, which is known only at the end.
        out.write_all(&[0; HEADER_LEN])?;
        Ok(Self { out, metric, dim, ids: Vec::new(), payload: blake3::Hasher::new(), bytes: Vec::new(), of: PhantomData })
    }

    fn push(&mut self, ids: &[u64], vectors: &[T]) -> io::Result<()> {
        self.ids.extend_from_slice(ids);
        for piece in vectors.chunks(1 << 16) {
            self.bytes.clear();
            piece.iter().for_each(|v| v.put(&mut self.bytes));
            self.put()?;
        }
        Ok(())
    }

    fn put(&mut self) -> io::Result<()> {
        self.payload.update(&self.bytes);
        self.out.write_all(&self.bytes)
    }

    fn finish(mut self, stamp: u64) -> io::Result<W> {
        let header = Header::new::<T>(self.metric, self.ids.len() as u64, self.dim as u64, stamp);
        let mut header = header.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "sizes beyond 64 bits"))?;
        let end_of_vectors = header.vectors_at + size_of::<T>() as u64 * header.n * header.dim;
        self.bytes.clear();
        self.bytes.resize((header.ids_at - end_of_vectors) as usize, 0);
        self.put()?;
        for piece in std::mem::take(&mut self.ids).chunks(1 << 16) {
            self.bytes.clear();
            self.bytes.extend(piece.iter().flat_map(|v| v.to_le_bytes()));
            self.put()?;
        }
        header.payload = *self.payload.finalize().as_bytes();
        assert_eq!(self.out.stream_position()?, header.file_len, "the file is as long as its header says");
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header.to_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A file beside its target that goes away unless it is put there.
pub(crate) struct Temporary {
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    pub(crate) fn create(target: &Path) -> io::Result<(Self, File)> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        let mut own = name.to_owned();
        own.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let path = target.with_file_name(own);
        // Truncating, not `create_new`: a leftover under this name is of a process of the same number that died.
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        Ok((Self { path, placed: false }, file))
    }

    pub(crate) fn put_at(mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.placed = true;
        #[cfg(unix)]
        {
            let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing sensible is left to do when this fails too.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// An opened file.
pub(crate) struct Mapped<T> {
    path: PathBuf,
    map: Mmap,
    header: Header,
    of: PhantomData<T>,
}

impl<T: Stored> Mapped<T> {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(io_error(path, "open"))?;
        // SAFETY: the mapping is read-only and private to this value. Nothing in this program writes into a finished index
        // file: a new version is renamed over the old one, whose pages stay as they are. Another program that truncates the
        // file while it is mapped would make reading fault; that is the known price of a memory map.
        let map = unsafe { Mmap::map(&file) }.map_err(io_error(path, "map"))?;
        let header = Header::parse::<T>(&map, path)?;
        let mapped = Self { path: path.to_owned(), map, header, of: PhantomData };
        // Sections are at multiples of 64 of a page-aligned mapping, so these cannot fail; better here than in a search.
        assert_eq!(mapped.vectors().len() as u64, header.n * header.dim, "the section has the header's size");
        assert_eq!(mapped.ids().len() as u64, header.n, "the section has the header's size");
        Ok(mapped)
    }

    pub(crate) fn metric(&self) -> Metric {
        self.header.metric
    }

    pub(crate) fn dim(&self) -> usize {
        self.header.dim as usize
    }

    pub(crate) fn stamp(&self) -> u64 {
        self.header.stamp
    }

    pub(crate) fn vectors(&self) -> &[T] {
        let start = self.header.vectors_at as usize;
        let bytes = &self.map[start..start + size_of::<T>() * (self.header.n * self.header.dim) as usize];
        // SAFETY: any bytes are a `Number`, and `align_to` gives only the aligned middle (all of it, as `open` asserts).
        unsafe { bytes.align_to::<T>() }.1
    }

    pub(crate) fn ids(&self) -> &[u64] {
        let start = self.header.ids_at as usize;
        let bytes = &self.map[start..start + 8 * self.header.n as usize];
        // SAFETY: any bytes are valid u64, and `align_to` gives only the aligned middle (all of it, as `open` asserts).
        unsafe { bytes.align_to::<u64>() }.1
    }

    pub(crate) fn verify(&self) -> Result<(), FileError> {
        let damaged = |what| FileError::Damaged { path: self.path.clone(), what };
        if self.map[SIGNED_LEN + 32..HEADER_LEN].iter().any(|b| *b != 0) {
            return Err(damaged("the header's padding is not zero"));
        }
        if blake3::hash(&self.map[HEADER_LEN..]).as_bytes() != &self.header.payload {
            return Err(damaged("the vectors or ids do not match their checksum"));
        }
        check_order(self.ids(), 0, None).map_err(|_| damaged("the ids do not ascend"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A disk of so many bytes.
    struct Small(Cursor<Vec<u8>>, usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.1.saturating_sub(self.0.position() as usize);
            if room == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write(&bytes[..bytes.len().min(room)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Small {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_fills() {
        let write = |room: usize| -> io::Result<Vec<u8>> {
            let mut body = Body::<_, f32>::begin(Small(Cursor::default(), room), 3, Metric::L2)?;
            body.push(&[1, 2, 9], &[0.5; 9])?;
            Ok(body.finish(5)?.0.into_inner())
        };
        let whole = write(usize::MAX).unwrap();
        assert_eq!(whole.len(), 192 + 64 + 24);
        assert_eq!(Header::parse::<f32>(&whole, Path::new("x")).unwrap().stamp, 5);
        for room in 0..whole.len() {
            assert_eq!(write(room).unwrap_err().kind(), io::ErrorKind::StorageFull, "{room}");
        }
    }

    #[test]
    fn sizes_beyond_the_machine_are_no_header() {
        assert_eq!(Header::new::<f32>(Metric::L2, u64::MAX / 4, 3, 0), None);
        assert_eq!(Header::new::<f32>(Metric::L2, u64::MAX / 8, 1, 0), None);
    }
}
