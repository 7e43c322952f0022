//! Looking through a library without a question: pages of items in an order, one item in full, the files that were refused.
//!
//! A page is cut by SQL; what stands on it is read by three queries, however many items it has, all within one transaction, so that
//! a page is of one state. Pages asked for one after the other may be of different ones: an item that comes or goes between them
//! moves what stands behind it by one place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use chiasm_core::{Modality, Span};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;

use crate::derived::modality_at;
use crate::ingest::Refusal;
use crate::library::{METADATA_COLUMNS, item_metadata, one_line, span_at};
use crate::store::path_of;
use crate::{EngineError, Filter, ItemMetadata, Library, Result, tags};

/// Parts of an item that are listed.
const MAX_PARTS: usize = 200;
/// Characters of a text that are shown.
const MAX_TEXT_CHARS: usize = 20_000;

/// The order of a page. Items that are equal in it stand by their numbers, so it is one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By number: in the order in which they were taken in.
    #[default]
    Id,
    /// By file name, ASCII letters in any case; the first file's for copies.
    Name,
    /// By when they were taken, the latest first; behind them those that do not say, by the time of their file.
    Newest,
    /// The other way round, those that do not say last too.
    Oldest,
    /// By bytes, most first.
    Largest,
    /// By bytes, fewest first.
    Smallest,
}

impl Sort {
    /// All of them.
    pub const ALL: [Sort; 6] = [Sort::Id, Sort::Name, Sort::Newest, Sort::Oldest, Sort::Largest, Sort::Smallest];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Sort::Id => "id",
            Sort::Name => "name",
            Sort::Newest => "newest",
            Sort::Oldest => "oldest",
            Sort::Largest => "largest",
            Sort::Smallest => "smallest",
        }
    }

    /// What stands behind ORDER BY, of `items AS i`, and of `paths AS first` for [`Sort::Name`].
    fn sql(self) -> &'static str {
        match self {
            Sort::Id => "i.id",
            Sort::Name => "first.name COLLATE NOCASE, i.id",
            Sort::Newest => {
                "i.taken IS NULL, i.taken DESC,
                CASE WHEN i.taken IS NULL THEN (SELECT max(p.mtime_ns) FROM paths p WHERE p.item = i.id) END DESC, i.id"
            }
            Sort::Oldest => {
                "i.taken IS NULL, i.taken,
                CASE WHEN i.taken IS NULL THEN (SELECT max(p.mtime_ns) FROM paths p WHERE p.item = i.id) END, i.id"
            }
            Sort::Largest => "i.size DESC, i.id",
            Sort::Smallest => "i.size, i.id",
        }
    }

    /// What stands behind FROM. Of paths looked at once each, those that come first are a quarter of the work of looking for each item's.
    fn tables(self) -> &'static str {
        match self {
            Sort::Name => {
                "items i JOIN paths first ON first.item = i.id
                    AND NOT EXISTS (SELECT 1 FROM paths p WHERE p.item = first.item AND p.path < first.path)"
            }
            Sort::Id | Sort::Newest | Sort::Oldest | Sort::Largest | Sort::Smallest => "items i",
        }
    }
}

impl FromStr for Sort {
    type Err = EngineError;

    fn from_str(word: &str) -> Result<Sort> {
        let found = Sort::ALL.into_iter().find(|sort| sort.as_str() == word);
        let all = || Sort::ALL.map(Sort::as_str).join(", ");
        found.ok_or_else(|| EngineError::Query(format!("`{word}` is no order of items: expected one of {}", all())))
    }
}

/// Which items, in which order, and which stretch of it.
#[derive(Clone, Debug, Default)]
pub struct BrowseRequest {
    /// Only items of which this is true.
    pub filter: Option<Filter>,
    /// Only items of these kinds; of any when empty.
    pub kinds: Vec<Modality>,
    /// The order.
    pub sort: Sort,
    /// Items before the page.
    pub offset: usize,
    /// Items of the page at most; the memory it takes grows with them.
    pub limit: usize,
}

/// An item as a page shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its number in this library.
    pub item: i64,
    /// What it is.
    #[serde(serialize_with = "crate::serial::modality")]
    pub kind: Modality,
    /// BLAKE3 of its bytes, hexadecimal.
    pub hash: String,
    /// Where it lies; the first in byte order when there are copies.
    #[serde(serialize_with = "crate::serial::path")]
    pub path: PathBuf,
    /// The file's name.
    pub name: String,
    /// The folder it lies in.
    pub folder: String,
    /// Where it lies, in byte order; several for copies.
    #[serde(serialize_with = "crate::serial::paths")]
    pub paths: Vec<PathBuf>,
    /// What is known of it.
    pub metadata: ItemMetadata,
    /// How many parts of it have vectors, those of captions included.
    pub n_segments: usize,
    /// The beginning of its text or of its caption.
    pub snippet: Option<String>,
    /// What people put on it.
    pub tags: Vec<String>,
}

/// A stretch of the items asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// In the order asked for.
    pub items: Vec<Entry>,
    /// Items before them.
    pub offset: usize,
    /// Where the next page begins; absent behind the last.
    pub next_offset: Option<usize>,
    /// Items on all pages together.
    pub total: usize,
}

/// A part of an item.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What it covers.
    #[serde(serialize_with = "crate::serial::unit_span")]
    pub span: Span,
    /// What it is: `text` for a part of a caption.
    #[serde(serialize_with = "crate::serial::modality")]
    pub modality: Modality,
}

/// An item in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Details {
    /// What a page shows of it.
    #[serde(flatten)]
    pub entry: Entry,
    /// The captions beside its files.
    pub captions: Vec<String>,
    /// Its parts, at most 200.
    pub segments: Vec<Part>,
    /// The first 20,000 characters of a text item, from what the library keeps: white space between passages may be other white space
    /// than the file's, of as many bytes, so that spans in bytes hold.
    pub text: Option<String>,
}

/// A stretch of the files that could not be taken in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RefusedPage {
    /// In byte order of their paths.
    pub refused: Vec<Refusal>,
    /// On all pages together.
    pub total: usize,
}

impl Library {
    /// A page of items.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn browse(&self, request: &BrowseRequest) -> Result<Page> {
        let err = self.store.err("cannot list items");
        let mut reader = self.store.reader()?;
        let tx = reader.transaction().map_err(&err)?;
        let read = || -> rusqlite::Result<Page> {
            let (condition, mut values) = condition(&tx, request.filter.as_ref(), &request.kinds)?;
            let sql = format!("SELECT count(*) FROM items i WHERE {condition}");
            let total: i64 = tx.prepare_cached(&sql)?.query_row(params_from_iter(&values), |row| row.get(0))?;
            let (tables, order) = (request.sort.tables(), request.sort.sql());
            let sql = format!("SELECT i.id FROM {tables} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?");
            values.extend([request.limit, request.offset].map(|n| Value::Integer(n.try_into().unwrap_or(i64::MAX))));
            let ids: Vec<i64> =
                tx.prepare_cached(&sql)?.query_map(params_from_iter(&values), |row| row.get(0))?.collect::<Result<_, _>>()?;
            let (offset, total) = (request.offset, total as usize);
            let next = offset.saturating_add(ids.len());
            let next_offset = (next < total && !ids.is_empty()).then_some(next);
            Ok(Page { items: entries(&tx, &ids)?, offset, next_offset, total })
        };
        read().map_err(&err)
    }

    /// An item as a page shows it.
    ///
    /// # Errors
    /// [`EngineError::NoSuchItem`], [`EngineError::Store`].
    pub fn entry(&self, item: i64) -> Result<Entry> {
        let mut reader = self.store.reader()?;
        let err = self.store.err("cannot read an item");
        let tx = reader.transaction().map_err(&err)?;
        entries(&tx, &[item]).map_err(&err)?.pop().ok_or_else(|| EngineError::NoSuchItem(item.to_string()))
    }

    /// An item in full.
    ///
    /// # Errors
    /// As [`Library::entry`].
    pub fn details(&self, item: i64) -> Result<Details> {
        let mut reader = self.store.reader()?;
        let err = self.store.err("cannot read an item");
        let tx = reader.transaction().map_err(&err)?;
        let entry = entries(&tx, &[item]).map_err(&err)?.pop();
        let entry = entry.ok_or_else(|| EngineError::NoSuchItem(item.to_string()))?;
        let read = || -> rusqlite::Result<Details> {
            let sql = "SELECT span_unit, span_start, span_end, modality FROM segments WHERE item = ?1 ORDER BY id LIMIT ?2";
            let part = |row: &rusqlite::Row<'_>| Ok(Part { span: span_at(row, 0)?, modality: modality_at(row, 3)? });
            let segments = tx.prepare_cached(sql)?.query_map((item, MAX_PARTS as i64), part)?.collect::<Result<_, _>>()?;
            let captions = captions(&tx, item)?;
            let text = (entry.kind == Modality::Text).then(|| own_text(&tx, item)).transpose()?;
            Ok(Details { captions, segments, text, entry: entry.clone() })
        };
        read().map_err(&err)
    }

    /// Files that could not be taken in, a page of them.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn refused(&self, offset: usize, limit: usize) -> Result<RefusedPage> {
        let reader = self.store.reader()?;
        let read = || -> rusqlite::Result<RefusedPage> {
            let total = reader.query_row("SELECT count(*) FROM refusals", [], |row| row.get::<_, i64>(0))? as usize;
            let sql = "SELECT path, reason FROM refusals ORDER BY path LIMIT ?1 OFFSET ?2";
            let page = [limit, offset].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            let one = |row: &rusqlite::Row<'_>| Ok(Refusal { path: path_of(row.get(0)?), reason: row.get(1)? });
            let refused = reader.prepare_cached(sql)?.query_map(page, one)?.collect::<Result<_, _>>()?;
            Ok(RefusedPage { refused, total })
        };
        read().map_err(self.store.err("cannot list the refused files"))
    }
}

/// The condition on `items AS i` that a filter and kinds make together, with its values.
pub(crate) fn condition(
    library: &Connection,
    filter: Option<&Filter>,
    kinds: &[Modality],
) -> rusqlite::Result<(String, Vec<Value>)> {
    let (mut sql, mut values) = match filter {
        Some(filter) => filter.sql(library).map(|(sql, values)| (sql.into_owned(), values.to_vec()))?,
        None => ("1".to_owned(), Vec::new()),
    };
    if !kinds.is_empty() {
        sql = format!("{sql} AND i.kind IN ({})", vec!["?"; kinds.len()].join(", "));
        values.extend(kinds.iter().map(|kind| Value::Text(kind.as_str().to_owned())));
    }
    Ok((sql, values))
}

/// What a page shows of items, in the order of the numbers given; those that are not there are left out.
fn entries(tx: &Connection, ids: &[i64]) -> rusqlite::Result<Vec<Entry>> {
    let list = serde_json::Value::from(ids).to_string();
    let mut paths: BTreeMap<i64, Vec<PathBuf>> = BTreeMap::new();
    let sql = "SELECT p.item, p.path FROM json_each(?1) j CROSS JOIN paths p ON p.item = j.value ORDER BY p.path";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([&list])?;
    while let Some(row) = rows.next()? {
        paths.entry(row.get(0)?).or_default().push(path_of(row.get(1)?));
    }
    let mut tagged: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    if tags::exist(tx)? {
        let sql = "SELECT g.item, g.tag FROM json_each(?1) j CROSS JOIN tags g ON g.item = j.value ORDER BY g.item, g.tag";
        let mut statement = tx.prepare_cached(sql)?;
        let mut rows = statement.query([&list])?;
        while let Some(row) = rows.next()? {
            tagged.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
    }
    let sql = format!(
        "SELECT i.id, i.kind, i.hash, (SELECT count(*) FROM segments s WHERE s.item = i.id),
            (SELECT t.body FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = i.id ORDER BY s.id LIMIT 1), {METADATA_COLUMNS}
        FROM json_each(?1) j CROSS JOIN items i ON i.id = j.value ORDER BY j.key"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let item: i64 = row.get(0)?;
        let paths = paths.remove(&item).unwrap_or_default();
        let path = paths.first().cloned().unwrap_or_default();
        Ok(Entry {
            item,
            kind: modality_at(row, 1)?,
            hash: row.get::<_, Vec<u8>>(2)?.iter().map(|b| format!("{b:02x}")).collect(),
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            folder: path.parent().map_or_else(String::new, |folder| folder.to_string_lossy().into_owned()),
            path,
            paths,
            metadata: item_metadata(row, 5)?,
            n_segments: row.get::<_, i64>(3)? as usize,
            snippet: row.get::<_, Option<String>>(4)?.map(|body| one_line(&body)),
            tags: tagged.remove(&item).unwrap_or_default(),
        })
    };
    statement.query_map([&list], read)?.collect()
}

/// The captions beside an item's files, each in one piece.
fn captions(tx: &Connection, item: i64) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT s.caption, t.body FROM segments s JOIN texts t ON t.segment = s.id
        WHERE s.item = ?1 AND s.caption IS NOT NULL ORDER BY s.caption, s.id";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([item])?;
    let mut captions: Vec<(i64, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, body) = (row.get::<_, i64>(0)?, row.get_ref(1)?.as_str()?);
        match captions.last_mut().filter(|(last, _)| *last == id) {
            Some((_, caption)) if caption.chars().count() < MAX_TEXT_CHARS => {
                caption.push('\n');
                caption.push_str(body);
            }
            Some(_) => {}
            None => captions.push((id, body.to_owned())),
        }
    }
    Ok(captions.into_iter().map(|(_, caption)| caption).collect())
}

/// The beginning of a text item, put together from its passages, each at its own byte.
pub(crate) fn own_text(tx: &Connection, item: i64) -> rusqlite::Result<String> {
    let sql = "SELECT s.span_unit, s.span_start, s.span_end, t.body FROM segments s JOIN texts t ON t.segment = s.id
        WHERE s.item = ?1 AND s.caption IS NULL ORDER BY s.id";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([item])?;
    let mut text = String::new();
    while let Some(row) = rows.next()? {
        if text.len() >= MAX_TEXT_CHARS && text.chars().count() >= MAX_TEXT_CHARS {
            break;
        }
        if let Span::Bytes { start, .. } = span_at(row, 0)? {
            // Between passages there is white space, or what parts records: a line's end where there is room for more than a space.
            let gap = start.saturating_sub(text.len()).min(MAX_TEXT_CHARS);
            let between = if gap > 1 { "\n" } else { " " };
            text.push_str(&between.repeat(gap));
        }
        text.push_str(row.get_ref(3)?.as_str()?);
    }
    Ok(match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    })
}

/// Characters of a text item, as [`own_text`] puts it together, before one of its passages.
pub(crate) fn chars_before(connection: &Connection, item: i64, segment: i64) -> rusqlite::Result<usize> {
    let sql = "SELECT s.span_unit, s.span_start, s.span_end, t.body, s.id FROM segments s JOIN texts t ON t.segment = s.id
        WHERE s.item = ?1 AND s.caption IS NULL AND s.id <= ?2 ORDER BY s.id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((item, segment))?;
    let (mut n_chars, mut n_bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        if let Span::Bytes { start, .. } = span_at(row, 0)? {
            let gap = start.saturating_sub(n_bytes).min(MAX_TEXT_CHARS);
            (n_chars, n_bytes) = (n_chars + gap, n_bytes + gap);
        }
        if row.get::<_, i64>(4)? < segment {
            let body = row.get_ref(3)?.as_str()?;
            (n_chars, n_bytes) = (n_chars + body.chars().count(), n_bytes + body.len());
        }
    }
    Ok(n_chars)
}
