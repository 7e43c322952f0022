//! Shards of the WebDataset layout (Aizman, Maltby and Breuel, 2019): tar files whose members of one name but for the ending are one thing.
//!
//! A shard is looked through once, header by header, and its members are read where they stand. So things come in any order without a buffer to
//! shuffle them in, and a run that goes on needs no more than the number of a step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chiasm_core::Modality;

use super::{Part, Row};
use crate::error::{Result, TrainError, io};

/// Bytes of a text within a shard at most: it is kept in memory.
const MAX_TEXT_BYTES: u64 = 1 << 16;
/// Bytes of a tar file's block.
const BLOCK: usize = 512;

/// One row for each name, in the order of the shards.
pub(super) fn rows(files: &[PathBuf]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files {
        let data = |reason: String| TrainError::Data { path: file.clone(), reason };
        let shared = Arc::new(file.clone());
        let mut of_name: BTreeMap<String, Row> = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(file).map_err(io("read", file))?);
        let n_file = ended(file)?;
        for entry in archive.entries_with_seek().map_err(io("read", file))? {
            let mut entry = entry.map_err(|e| data(format!("is no whole tar file: {e}")))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(|e| data(e.to_string()))?.into_owned();
            let (offset, length) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(length).is_none_or(|end| end > n_file) {
                return Err(data(format!("ends within `{}`", path.display())));
            }
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // The name ends at the first dot of the last part, as the layout has it.
            let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
            let key = path.with_file_name(stem).to_string_lossy().into_owned();
            let row = of_name.entry(key).or_default();
            match kind(ending) {
                Some(Modality::Text) => {
                    if length > MAX_TEXT_BYTES {
                        return Err(data(format!(
                            "`{}` has {length} bytes, expected a text of at most {MAX_TEXT_BYTES}",
                            path.display()
                        )));
                    }
                    let mut text = String::new();
                    entry.read_to_string(&mut text).map_err(|e| data(format!("`{}`: {e}", path.display())))?;
                    row.parts.entry(Modality::Text).or_default().push(Part::Text(text.trim().to_owned()));
                }
                Some(modality) => {
                    let part = Part::Slice { file: Arc::clone(&shared), name, offset, length };
                    row.parts.entry(modality).or_default().push(part);
                }
                // What belongs to no tower, as `.json` with a picture's size.
                None => {}
            }
        }
        rows.extend(of_name.into_values());
    }
    Ok(rows)
}

/// The length of a tar file, which must end as such files do: in a block of zeros. One that was cut off between two members would be taken for a whole one else.
fn ended(file: &Path) -> Result<u64> {
    let n = std::fs::metadata(file).map_err(io("read", file))?.len();
    let last = || {
        let (mut file, mut block) = (File::open(file)?, [1_u8; BLOCK]);
        file.seek(SeekFrom::End(-(BLOCK as i64)))?;
        file.read_exact(&mut block)?;
        Ok::<_, std::io::Error>(block)
    };
    let whole = n >= BLOCK as u64 && last().map_err(io("read", file))?.iter().all(|byte| *byte == 0);
    if !whole {
        let reason = "does not end as a tar file does: it was cut off, or is none".to_owned();
        return Err(TrainError::Data { path: file.to_owned(), reason });
    }
    Ok(n)
}

/// What a member holds, by its ending; `caption.txt`, `en.txt` and so on are texts too.
fn kind(ending: &str) -> Option<Modality> {
    match ending {
        "txt" | "caption" => Some(Modality::Text),
        _ => chiasm_media::modality_of(Path::new(&format!("member.{ending}"))),
    }
}
