//! The bytes of a file, mapped or held.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// From here on hashing on all cores is faster than on one: below, handing out the work costs more than it saves.
const HASHED_BY_ALL_MIN: usize = 1 << 20;

pub(super) enum Bytes {
    Mapped(Mmap),
    Held(Vec<u8>),
}

impl Bytes {
    /// Maps a file: it is read page by page as its tensors are taken, and the pages are the system's to drop.
    #[allow(unsafe_code)]
    pub(super) fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and private to this value, and values are copied out of it, so no reference into it
        // leaves this crate. Nothing in this program writes into a model's file: whoever fetches one renames it to its place.
        // Another program that truncates the file while it is mapped, which it
        // is as long as a table of its is in use, would make reading fault, and one that writes into it
        // would change the weights that are read; that is the known price of a memory map.
        Ok(Self::Mapped(unsafe { Mmap::map(&file) }?))
    }

    /// BLAKE3, on all cores for more than a few bytes.
    pub(super) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        if self.len() < HASHED_BY_ALL_MIN {
            hasher.update(self);
        } else {
            hasher.update_rayon(self);
        }
        hasher.finalize()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}
