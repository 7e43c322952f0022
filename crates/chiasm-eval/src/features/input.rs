//! A file or a part of one, read where it is needed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{At, FeatureError};

/// Deflate makes at most 1,032 bytes of one: more than that is a lie of the header.
const DEFLATE_MAX: u64 = 1032;

/// Bytes of a file or of memory, from `start` on for `len`. A clone shares them.
#[derive(Clone, Debug)]
pub(super) struct Input {
    path: Arc<Path>,
    bytes: Bytes,
    start: u64,
    len: u64,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<Vec<u8>>),
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Input, FeatureError> {
        let failed = |reason| FeatureError::Io { path: path.to_owned(), reason };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            return Err(failed(std::io::Error::other("it is a folder, expected a file of features")));
        }
        Ok(Input { path: path.into(), bytes: Bytes::File(Arc::new(file)), start: 0, len: about.len() })
    }

    pub(super) fn of_memory(path: &Path, bytes: Vec<u8>) -> Input {
        let len = bytes.len() as u64;
        Input { path: path.into(), bytes: Bytes::Memory(Arc::new(bytes)), start: 0, len }
    }

    pub(super) fn at(&self, format: &'static str) -> At<'_> {
        At { path: &self.path, format }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The ending of the file's name in lower case, without that of a compression.
    pub(super) fn ending(&self) -> String {
        let name = self.path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_owned())
    }

    /// The file's name, for what was found.
    pub(super) fn file_name(&self) -> String {
        self.path.file_name().map_or_else(|| self.path.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// The part from `offset` on for `len` bytes; `None` beyond the end.
    pub(super) fn part(&self, offset: u64, len: u64) -> Option<Input> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| Input { start: self.start + offset, len, ..self.clone() })
    }

    /// Fills `into` from `offset` on.
    pub(super) fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read_at(offset + filled as u64, &mut into[filled..])? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = left.min(into.len());
        match &self.bytes {
            Bytes::Memory(bytes) => {
                // Parts end within the bytes, so the place exists wherever `n` is not 0.
                if n > 0 {
                    let from = (self.start + offset) as usize;
                    into[..n].copy_from_slice(&bytes[from..from + n]);
                }
                Ok(n)
            }
            Bytes::File(file) => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(self.start + offset))?;
                file.read(&mut into[..n])
            }
        }
    }

    /// `len` bytes at `offset`, `None` where the file ends before; nothing is taken from memory for a length that is not there.
    pub(super) fn bytes(&self, offset: u64, len: u64) -> std::io::Result<Option<Vec<u8>>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        self.read_exact_at(offset, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// A reader from `offset` to the end.
    pub(super) fn reader(&self, offset: u64) -> InputReader {
        InputReader { input: self.clone(), at: offset }
    }

    pub(super) fn is_memory(&self) -> bool {
        matches!(self.bytes, Bytes::Memory(_))
    }

    /// At most how many bytes this can hold when deflated.
    pub(super) fn inflated_max(&self) -> u64 {
        self.len.saturating_mul(DEFLATE_MAX).saturating_add(DEFLATE_MAX)
    }
}

/// Reads an [`Input`] from a place on.
pub(super) struct InputReader {
    input: Input,
    at: u64,
}

impl InputReader {
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    pub(super) fn skip(&mut self, n: u64) {
        self.at = self.at.saturating_add(n);
    }
}

impl Read for InputReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read_at(self.at, into)?;
        self.at += n as u64;
        Ok(n)
    }
}
