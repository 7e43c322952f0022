//! `.npz`: a ZIP archive of `.npy` files, stored (`np.savez`) or deflated (`np.savez_compressed`).
//!
//! # Reference
//! PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (ZIP64). Of it what archives of arrays need: one disk, no encryption.

use std::io::{BufReader, Read};

use flate2::read::DeflateDecoder;

use super::error::{At, FeatureError};
use super::input::Input;
use super::npy;
use super::{Entry, Limits, Loaded};

pub(super) const FORMAT: &str = "NPZ";

struct Member {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    unpacked: u64,
    offset: u64,
}

pub(super) fn list(input: &Input, limits: &Limits) -> Result<Vec<Entry>, FeatureError> {
    let members = members(input)?;
    let entry = |m: &Member| match m.open(input, Some(16_384), limits) {
        Ok(inside) => npy::entry(&inside, m.array_name(), FORMAT),
        Err(e) => Err(e),
    };
    members.iter().filter(|m| m.is_array()).map(entry).collect()
}

pub(super) fn load(input: &Input, name: Option<&str>, limits: &Limits) -> Result<Loaded, FeatureError> {
    let at = input.at(FORMAT);
    let members: Vec<Member> = members(input)?.into_iter().filter(Member::is_array).collect();
    // The heads of all are read only when the message needs them.
    let names = |m: &Member| Entry { name: m.array_name().to_owned(), shape: Vec::new(), kind: String::new() };
    let short: Vec<Entry> = members.iter().map(names).collect();
    let chosen = match at.choose("array", name, &short) {
        Ok(chosen) => chosen,
        Err(_) => at.choose("array", name, &list(input, limits)?)?,
    };
    let member = &members[chosen];
    let label = format!("array {}", member.array_name());
    let inside = member.open(input, None, limits)?;
    let content = npy::load(&inside, &label, FORMAT, limits)?;
    Ok(Loaded { label, format: FORMAT, content })
}

impl Member {
    fn is_array(&self) -> bool {
        self.name.ends_with(".npy")
    }

    fn array_name(&self) -> &str {
        self.name.strip_suffix(".npy").unwrap_or(&self.name)
    }

    /// The file inside, at most its first `n_max` bytes where that is given. A stored one stays in the archive.
    fn open(&self, input: &Input, n_max: Option<u64>, limits: &Limits) -> Result<Input, FeatureError> {
        let at = input.at(FORMAT);
        let damaged = |reason: String| at.damaged(format!("`{}`: {reason}", self.name));
        if self.flags & 1 != 0 {
            return Err(at.unsupported(format!("`{}`, which is encrypted,", self.name), "save it with `np.savez`"));
        }
        let head = input.bytes(self.offset, 30).map_err(|e| at.io(e))?;
        let Some(head) = head.filter(|h| h.starts_with(b"PK\x03\x04")) else {
            return Err(damaged(format!("nothing begins at byte {}", self.offset)));
        };
        let before = 30 + u64::from(half(&head, 26)) + u64::from(half(&head, 28));
        let packed = self.offset.checked_add(before).and_then(|start| input.part(start, self.packed));
        let Some(packed) = packed else {
            return Err(damaged(format!("{} bytes are said to begin at byte {}", self.packed, self.offset)));
        };
        match self.method {
            0 if self.packed == self.unpacked => Ok(packed),
            8 => {
                if self.unpacked > packed.inflated_max() {
                    let reason = format!("{} bytes cannot come of {} deflated ones", self.unpacked, self.packed);
                    return Err(damaged(reason));
                }
                if n_max.is_none() {
                    at.check(&format!("`{}`", self.name), self.unpacked / 8, limits.max_numbers)?;
                }
                let n = n_max.map_or(self.unpacked, |n| n.min(self.unpacked));
                let mut bytes = Vec::new();
                let mut decoder = DeflateDecoder::new(BufReader::new(packed.reader(0))).take(n);
                decoder.read_to_end(&mut bytes).map_err(|e| damaged(format!("its deflated data: {e}")))?;
                if bytes.len() as u64 != n {
                    return Err(damaged(format!("{} bytes came out, expected {n}", bytes.len())));
                }
                if n_max.is_none() {
                    let mut crc = flate2::Crc::new();
                    crc.update(&bytes);
                    if crc.sum() != self.crc {
                        return Err(damaged("its checksum does not match".to_owned()));
                    }
                }
                Ok(Input::of_memory(at.path, bytes))
            }
            0 => Err(damaged(format!("stored in {} bytes, but has {}", self.packed, self.unpacked))),
            other => Err(at.unsupported(format!("`{}`, packed by method {other},", self.name), "save it with `np.savez`")),
        }
    }
}

/// The archive's own directory, which stands at its end.
fn members(input: &Input) -> Result<Vec<Member>, FeatureError> {
    let at = input.at(FORMAT);
    // A comment of at most 65,535 bytes may follow the last record.
    let tail_start = input.len().saturating_sub(22 + 65_535);
    let tail = input.bytes(tail_start, input.len() - tail_start).map_err(|e| at.io(e))?.unwrap_or_default();
    let end = (0..tail.len().saturating_sub(21)).rev().find(|i| tail[*i..].starts_with(b"PK\x05\x06"));
    let Some(end) = end else {
        return Err(at.damaged("its directory is missing: the file is cut off"));
    };
    let record = &tail[end..];
    let (mut n, mut size, mut start) = (u64::from(half(record, 10)), word(record, 12), word(record, 16));
    if n == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        (n, size, start) = zip64_end(input, at, tail_start + end as u64)?;
    }
    // Each entry has 46 bytes and a name.
    let Some(directory) = input.part(start, size).filter(|_| n <= size / 46) else {
        return Err(at.damaged(format!("its directory of {n} entries is said to be {size} bytes at byte {start}")));
    };
    let bytes = directory.bytes(0, size).map_err(|e| at.io(e))?.unwrap_or_default();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    for i in 0..n {
        let member = member(rest).ok_or_else(|| at.damaged(format!("entry {} of its directory is cut off", i + 1)))?;
        rest = member.1;
        found.push(member.0);
    }
    Ok(found)
}

fn zip64_end(input: &Input, at: At, end: u64) -> Result<(u64, u64, u64), FeatureError> {
    let damaged = || at.damaged("its directory for large files is missing");
    let locator = end.checked_sub(20).ok_or_else(damaged)?;
    let locator =
        input.bytes(locator, 20).map_err(|e| at.io(e))?.filter(|l| l.starts_with(b"PK\x06\x07")).ok_or_else(damaged)?;
    let record = input.bytes(long(&locator, 8), 56).map_err(|e| at.io(e))?;
    let record = record.filter(|r| r.starts_with(b"PK\x06\x06")).ok_or_else(damaged)?;
    Ok((long(&record, 32), long(&record, 40), long(&record, 48)))
}

fn member(bytes: &[u8]) -> Option<(Member, &[u8])> {
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
    let name = String::from_utf8_lossy(name).into_owned();
    let (flags, method, crc) = (half(bytes, 8), half(bytes, 10), word(bytes, 16) as u32);
    Some((Member { name, flags, method, crc, packed, unpacked, offset }, rest))
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
