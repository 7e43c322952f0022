//! Of ZIP archives what PyTorch's files need: one disk, members stored or deflated, no encryption.
//!
//! # Reference
//! PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (ZIP64).
//!
//! # What is not checked
//! The checksum of a stored member: PyTorch can be told to write files without, and reads them all the same.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use flate2::read::DeflateDecoder;

/// Deflate packs at most 258 bytes into two bits.
const DEFLATE_RATIO_MAX: u64 = 1032;

/// A file of the archive, as its directory tells.
pub(super) struct Member {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    unpacked: u64,
    offset: u64,
}

/// The archive's own directory, which stands at its end: each name once.
pub(super) fn members(archive: &[u8]) -> Result<BTreeMap<String, Member>, String> {
    // A comment of at most 65,535 bytes may follow the last record.
    let tail_start = archive.len().saturating_sub(22 + 65_535);
    let tail = &archive[tail_start..];
    let end = (0..tail.len().saturating_sub(21)).rev().find(|i| tail[*i..].starts_with(b"PK\x05\x06"));
    let end = tail_start + end.ok_or("its directory is missing: the file is cut off")?;
    let record = &archive[end..];
    let (mut n, mut size, mut start) = (u64::from(half(record, 10)), word(record, 12), word(record, 16));
    if n == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        (n, size, start) = zip64_end(archive, end).ok_or("its directory for large files is missing")?;
    }
    let mut rest = part(archive, start, size)
        .filter(|_| n <= size / 46)
        .ok_or_else(|| format!("its directory of {n} entries is said to be {size} bytes at byte {start}"))?;
    let mut found = BTreeMap::new();
    for i in 0..n {
        let (name, member, after) = member(rest).ok_or_else(|| format!("entry {} of its directory is cut off", i + 1))?;
        rest = after;
        if found.insert(name.clone(), member).is_some() {
            return Err(format!("its directory has `{name}` twice"));
        }
    }
    Ok(found)
}

impl Member {
    /// Bytes it has when unpacked, by its own account.
    pub(super) fn len(&self) -> u64 {
        self.unpacked
    }

    /// Where its bytes stand in the archive, if they are stored as they are.
    pub(super) fn stored(&self, archive: &[u8]) -> Result<Option<Range<usize>>, String> {
        let packed = self.packed(archive)?;
        match self.method {
            0 if self.packed == self.unpacked => Ok(Some(packed)),
            0 => Err(format!("stored in {} bytes, but has {}", self.packed, self.unpacked)),
            _ => Ok(None),
        }
    }

    /// Its bytes, unpacked to the heap. The caller has limited [`Member::len`].
    pub(super) fn inflate(&self, archive: &[u8]) -> Result<Vec<u8>, String> {
        let packed = &archive[self.packed(archive)?];
        if self.method != 8 {
            return Err(format!("packed by method {}, which is neither stored nor deflated", self.method));
        }
        if self.unpacked > self.packed.saturating_mul(DEFLATE_RATIO_MAX) {
            return Err(format!("{} bytes cannot come of {} deflated ones", self.unpacked, self.packed));
        }
        let mut bytes = Vec::new();
        // One byte more than it should have, so that too many are seen as well as too few.
        let mut decoder = DeflateDecoder::new(packed).take(self.unpacked + 1);
        decoder.read_to_end(&mut bytes).map_err(|e| format!("its deflated data: {e}"))?;
        if bytes.len() as u64 != self.unpacked {
            return Err(format!("not {} bytes came out of its deflated data", self.unpacked));
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        if crc.sum() != self.crc {
            return Err("its checksum does not match".to_owned());
        }
        Ok(bytes)
    }

    fn packed(&self, archive: &[u8]) -> Result<Range<usize>, String> {
        if self.flags & 1 != 0 {
            return Err("it is encrypted".to_owned());
        }
        let head = part(archive, self.offset, 30).filter(|h| h.starts_with(b"PK\x03\x04"));
        let head = head.ok_or_else(|| format!("nothing begins at byte {}", self.offset))?;
        // The name and the extra field of this head may differ in length from those of the directory.
        let before = 30 + u64::from(half(head, 26)) + u64::from(half(head, 28));
        let start = self.offset.checked_add(before);
        let found = start.and_then(|start| range(archive.len(), start, self.packed));
        found.ok_or_else(|| format!("{} bytes are said to begin at byte {}", self.packed, self.offset))
    }
}

fn zip64_end(archive: &[u8], end: usize) -> Option<(u64, u64, u64)> {
    let locator = archive.get(end.checked_sub(20)?..end).filter(|l| l.starts_with(b"PK\x06\x07"))?;
    let record = part(archive, long(locator, 8), 56).filter(|r| r.starts_with(b"PK\x06\x06"))?;
    Some((long(record, 32), long(record, 40), long(record, 48)))
}

/// An entry of the directory, and what follows it.
fn member(bytes: &[u8]) -> Option<(String, Member, &[u8])> {
    if bytes.len() < 46 || !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let n_name = usize::from(half(bytes, 28));
    let (n_extra, n_comment) = (usize::from(half(bytes, 30)), usize::from(half(bytes, 32)));
    let name = bytes.get(46..46 + n_name)?;
    let mut extra = bytes.get(46 + n_name..46 + n_name + n_extra)?;
    let rest = bytes.get(46 + n_name + n_extra + n_comment..)?;
    let mut sizes = [word(bytes, 24), word(bytes, 20), word(bytes, 42)];
    while extra.len() >= 4 {
        let (id, n) = (half(extra, 0), usize::from(half(extra, 2)));
        let field = extra.get(4..4 + n)?;
        if id == 1 {
            // Eight bytes for each of the three that did not fit, in this order.
            let large = sizes.iter_mut().filter(|s| **s == 0xffff_ffff);
            for (size, bytes) in large.zip(field.chunks_exact(8)) {
                *size = long(bytes, 0);
            }
        }
        extra = &extra[4 + n..];
    }
    let [unpacked, packed, offset] = sizes;
    let (flags, method, crc) = (half(bytes, 8), half(bytes, 10), word(bytes, 16) as u32);
    let name = String::from_utf8_lossy(name).into_owned();
    Some((name, Member { flags, method, crc, packed, unpacked, offset }, rest))
}

fn range(len: usize, start: u64, n: u64) -> Option<Range<usize>> {
    let end = usize::try_from(start.checked_add(n)?).ok()?;
    (end <= len).then_some(start as usize..end)
}

fn part(archive: &[u8], start: u64, n: u64) -> Option<&[u8]> {
    range(archive.len(), start, n).map(|r| &archive[r])
}

fn half(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[i], bytes[i + 1]])
}

fn word(bytes: &[u8], i: usize) -> u64 {
    u64::from(u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]))
}

fn long(bytes: &[u8], i: usize) -> u64 {
    word(bytes, i) | word(bytes, i + 4) << 32
}
