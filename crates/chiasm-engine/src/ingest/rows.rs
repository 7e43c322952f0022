//! What of a file goes into the catalogue: items, paths, parts with their vectors and words, refusals.

use chiasm_core::{Media, Modality, Span};
use rusqlite::{Connection, params};

use super::embed::{InLanes, part};
use super::{Lies, Parts, Pending, Waiting, program};
use crate::lane::{insert_gap, insert_vector};
use crate::store::{path_bytes, path_of};
use crate::walk::Stat;

pub(super) fn add_item(tx: &Connection, pending: &Pending, in_lanes: &InLanes) -> rusqlite::Result<i64> {
    let m = &pending.metadata;
    let sql = "INSERT INTO items (hash, kind, format, size, width, height, duration_s, taken, latitude, longitude)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let kind = pending.parts.modality();
    let (format, size) = (&m.format, pending.size as i64);
    let values =
        params![pending.hash, kind.as_str(), format, size, m.width, m.height, m.duration_s, m.taken, m.latitude, m.longitude];
    tx.prepare_cached(sql)?.execute(values)?;
    let id = tx.last_insert_rowid();
    add_segments(tx, id, None, &pending.parts, in_lanes)?;
    pending.lies.iter().try_for_each(|(lies, _)| add_path(tx, lies, id))?;
    Ok(id)
}

pub(super) fn add_path(tx: &Connection, lies: &Lies, item: i64) -> rusqlite::Result<()> {
    let Stat { size, mtime_ns } = lies.stat;
    insert_path(tx, &lies.path, size, mtime_ns, lies.settled, item)?;
    forget_refusal(tx, &lies.path)
}

/// Adds a path, or says that it now leads elsewhere.
pub(crate) fn insert_path(
    tx: &Connection,
    path: &[u8],
    size: u64,
    mtime_ns: i64,
    settled: bool,
    item: i64,
) -> rusqlite::Result<()> {
    let text = path_of(path.to_vec());
    // With a slash at its end, so that a pattern can tell where a folder's name ends.
    let folder = text.parent().map_or_else(String::new, |f| format!("{}/", f.to_string_lossy().trim_end_matches('/')));
    let name = text.file_name().unwrap_or_default().to_string_lossy();
    let sql =
        "INSERT OR REPLACE INTO paths (path, folder, name, size, mtime_ns, settled, item) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    tx.prepare_cached(sql)?.execute(params![path, folder, name, size as i64, mtime_ns, settled, item])?;
    Ok(())
}

/// Adds the parts of media with their vectors in each lane, and their words when they are text.
pub(super) fn add_segments(
    tx: &Connection,
    item: i64,
    caption: Option<i64>,
    parts: &Parts,
    in_lanes: &InLanes,
) -> rusqlite::Result<()> {
    let (media, spans) = parts.of(0);
    for (at, span) in spans.iter().enumerate() {
        let (unit, start, end) = match span {
            Span::Whole => (None, None, None),
            Span::Time { start_s, end_s } => (Some("s"), Some(*start_s), Some(*end_s)),
            Span::Bytes { start, end } => (Some("byte"), Some(*start as f64), Some(*end as f64)),
        };
        let body = part_text(media, *span);
        let id = add_segment(tx, item, caption, media.modality(), (unit, start, end), body.as_deref())?;
        for (lane, embedded) in in_lanes {
            match embedded {
                Ok(vectors) => insert_vector(tx, *lane, id, &vectors[at])?,
                Err(reason) => insert_gap(tx, *lane, id, reason)?,
            }
        }
    }
    Ok(())
}

fn part_text(media: &Media, span: Span) -> Option<String> {
    match media {
        Media::Text(_) => match part(media, span) {
            Media::Text(text) => Some(text),
            Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => None,
        },
        Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_) => None,
    }
}

/// Adds one part, without a vector; gives its number.
pub(crate) fn add_segment(
    tx: &Connection,
    item: i64,
    caption: Option<i64>,
    modality: Modality,
    span: (Option<&str>, Option<f64>, Option<f64>),
    body: Option<&str>,
) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO segments (item, caption, modality, span_unit, span_start, span_end) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.prepare_cached(sql)?.execute(params![item, caption, modality.as_str(), span.0, span.1, span.2])?;
    let id = tx.last_insert_rowid();
    if let Some(body) = body {
        tx.prepare_cached("INSERT INTO texts (segment, body) VALUES (?1, ?2)")?.execute(params![id, body])?;
    }
    Ok(id)
}

/// Stores what waits: paths of known contents, and refusals. A file whose content can no longer be read as media leaves the
/// catalogue; one that could only not be read just now stays.
pub(super) fn store(tx: &Connection, waiting: &Waiting) -> rusqlite::Result<()> {
    waiting.lies.iter().try_for_each(|(lies, item, _)| add_path(tx, lies, *item))?;
    for (path, stat, refused) in &waiting.refused {
        let path = path_bytes(path);
        let sql =
            "INSERT OR REPLACE INTO refusals (path, reason, size, mtime_ns, lasting, program) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![path, refused.reason, stat.size as i64, stat.mtime_ns, refused.lasting, program()];
        tx.prepare_cached(sql)?.execute(values)?;
        if refused.lasting {
            tx.prepare_cached("DELETE FROM paths WHERE path = ?1")?.execute([&path])?;
        }
    }
    Ok(())
}

pub(super) fn forget_refusal(tx: &Connection, path: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM refusals WHERE path = ?1")?.execute([path]).map(|_| ())
}
