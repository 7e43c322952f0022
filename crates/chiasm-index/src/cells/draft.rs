//! A build under way, in a file beside the index to be: who was stopped goes on from there.
//!
//! What a build learns is kept as it comes: the map and the centres, then, piece by piece, which cell each row belongs to. What is left after that is
//! to write every vector into its cell, which is one pass.
//!
//! # Format
//! Parts behind each other, each a u64 of its length, the BLAKE3 of its bytes, and these; numbers little-endian. The first part names what the build is of: a digest
//! of vectors, ids, sample and settings, and [`VERSION`] of the way of learning. The second holds arrays of the map and of the centres, each behind a u64 of its
//! length; all others are cells, u32 a row. Whatever was cut, by a kill or a full disk, ends the file for who reads it, and a draft of anything else is begun anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use chiasm_core::Vectors;

use super::CellConfig;
use super::build::Material;
use super::kernel::CODE_DIMS_MAX;
use super::kmeans::Centres;
use super::map::{self, Fitted};
use crate::file::metric_code;

const MAGIC: &[u8; 8] = b"CHIASMDR";
/// To be raised whenever maps, centres or cells of the same vectors become others.
const VERSION: u32 = 1;
/// Bytes before a part: length and digest.
const FRAME: usize = 8 + 32;

/// What a build learns before it looks at all rows.
pub(crate) struct Learned {
    pub(crate) fitted: Fitted,
    pub(crate) centres: Centres,
}

/// What a build is of; see the head of the file.
pub(crate) struct Subject([u8; 32]);

impl Subject {
    pub(crate) fn of(Material { ids, vectors, metric, sample }: Material<'_>, config: &CellConfig) -> Self {
        let mut digest = blake3::Hasher::new();
        let n_sample = sample.map_or(0, Vectors::n);
        let cells = config.cells.map_or(0, |cells| cells as u64 + 1);
        for number in [ids.len() as u64, vectors.dim() as u64, n_sample as u64, cells, config.code_dims as u64, config.seed] {
            digest.update(&number.to_le_bytes());
        }
        digest.update(&metric_code(metric).to_le_bytes());
        let mut room = Vec::new();
        let mut add = |numbers: &[f32]| {
            for piece in numbers.chunks(1 << 16) {
                room.clear();
                room.extend(piece.iter().flat_map(|v| v.to_le_bytes()));
                digest.update(&room);
            }
        };
        add(sample.map_or(&[], Vectors::data));
        add(vectors.data());
        ids.iter().for_each(|id| _ = digest.update(&id.to_le_bytes()));
        Self(*digest.finalize().as_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &VERSION.to_le_bytes(), &self.0].concat()
    }
}

/// The file, and what was in it.
pub(crate) struct Draft {
    file: File,
    pub(crate) learned: Option<Learned>,
    /// Cells of the first rows.
    pub(crate) owners: Vec<u32>,
}

impl Draft {
    /// Opens the draft of a build of `n` vectors of `dim` numbers, or begins it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(path: &Path, subject: &Subject, n: usize, width: usize) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        // Twice what a draft of so many rows has: of another file no more is read than that.
        let most = (1 << 28) + 16 * n as u64;
        (&mut file).take(most).read_to_end(&mut bytes)?;
        let mut parts = Parts { bytes: &bytes, at: 0 };
        let mut draft = Self { file, learned: None, owners: Vec::new() };
        let mut good = 0;
        if parts.next() == Some(&subject.to_bytes()[..]) {
            good = parts.at;
            draft.learned = parts.next().and_then(|part| read_learned(part, width));
        }
        if let Some(learned) = &draft.learned {
            good = parts.at;
            let n_cells = learned.centres.n() as u32;
            while let Some(part) = parts.next() {
                let cells = part.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes")));
                if !part.len().is_multiple_of(4)
                    || draft.owners.len() + part.len() / 4 > n
                    || cells.clone().any(|c| c >= n_cells)
                {
                    break;
                }
                draft.owners.extend(cells);
                good = parts.at;
            }
        }
        draft.file.set_len(good as u64)?;
        draft.file.seek(SeekFrom::Start(good as u64))?;
        if good == 0 {
            draft.put(&subject.to_bytes())?;
        }
        Ok(draft)
    }

    pub(crate) fn keep_learned(&mut self, fitted: &Fitted, centres: &Centres) -> io::Result<()> {
        let mut part = Vec::new();
        let (groups, starts) = centres.groups.as_ref().map_or((&[][..], &[][..]), |(groups, starts)| (groups, starts));
        for numbers in [&fitted.mean[..], &fitted.of_vectors, &fitted.of_queries, &centres.rows, groups] {
            part.extend((numbers.len() as u64).to_le_bytes());
            part.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
        }
        part.extend((starts.len() as u64).to_le_bytes());
        part.extend(starts.iter().flat_map(|v| (*v as u64).to_le_bytes()));
        self.put(&part)
    }

    pub(crate) fn keep_owners(&mut self, owners: &[u32]) -> io::Result<()> {
        self.put(&owners.iter().flat_map(|cell| cell.to_le_bytes()).collect::<Vec<_>>())
    }

    fn put(&mut self, part: &[u8]) -> io::Result<()> {
        let frame = [&(part.len() as u64).to_le_bytes()[..], blake3::hash(part).as_bytes(), part].concat();
        self.file.write_all(&frame)
    }
}

/// The whole parts of a file, in order.
struct Parts<'a> {
    bytes: &'a [u8],
    /// Where the next one begins.
    at: usize,
}

impl<'a> Parts<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (frame, rest) = self.bytes[self.at..].split_at_checked(FRAME)?;
        let len = u64::from_le_bytes(*frame.first_chunk::<8>()?);
        let part = rest.get(..usize::try_from(len).ok()?)?;
        if blake3::hash(part).as_bytes()[..] != frame[8..] {
            return None;
        }
        self.at += FRAME + part.len();
        Some(part)
    }
}

/// Reads what [`Draft::keep_learned`] wrote, for vectors that enter the map with `width` numbers.
fn read_learned(part: &[u8], width: usize) -> Option<Learned> {
    let mut rest = part;
    let mut array = |size: usize| -> Option<&[u8]> {
        let (len, behind) = rest.split_at_checked(8)?;
        let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
        let (array, behind) = behind.split_at_checked(len.checked_mul(size)?)?;
        rest = behind;
        Some(array)
    };
    let mut floats =
        || Some(array(4)?.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("four bytes"))).collect::<Vec<f32>>());
    let (mean, of_vectors, of_queries, rows, groups) = (floats()?, floats()?, floats()?, floats()?, floats()?);
    let starts = array(8)?.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes")) as usize);
    let starts: Vec<usize> = starts.collect();
    let dims = of_vectors.len() / map::padded(width);
    let fits = mean.len() == width
        && dims > 0
        && of_vectors.len() == dims * map::padded(width)
        && of_queries.len() == of_vectors.len()
        && !rows.is_empty()
        && rows.len().is_multiple_of(dims)
        && groups.len().is_multiple_of(dims);
    let all_finite = [&mean, &of_vectors, &of_queries, &rows, &groups].into_iter().flatten().all(|x| x.is_finite());
    if !fits || dims > CODE_DIMS_MAX || !all_finite {
        return None;
    }
    let groups = match starts.as_slice() {
        [] => None,
        [0, .., last] if *last == rows.len() / dims && starts.is_sorted() && starts.len() == groups.len() / dims + 1 => {
            Some((groups, starts))
        }
        _ => return None,
    };
    Some(Learned { fitted: Fitted { dims, mean, of_vectors, of_queries }, centres: Centres { dims, rows, groups } })
}
