//! The library's items: listing, details, tags, taking in, taking out.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chiasm_core::{Cancel, NoProgress};
use chiasm_engine::{BrowseRequest, Facets, IndexOptions, Library, UnitSpan};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Work};
use crate::error::ApiError;
use crate::search::{line, lines, wants_lines};
use crate::uploads::{Sent, sent};
use crate::wire::{In, ItemBody, Kind, Named, Params, filter, kinds};

/// Items that are read at once while all are streamed.
const STREAMED: usize = 500;
/// Where files that were sent are kept, in the library's folder.
const ADDED: &str = "added";

/// Which items, and in which order.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BrowseParams {
    /// A filter, such as `taken >= 2020`
    #[serde(rename = "where")]
    filter: Option<String>,
    /// Kinds, separated by commas
    kind: Option<String>,
    /// In which order: id, name, newest, oldest, largest, smallest
    sort: Option<String>,
    /// How many of the first to leave out
    #[param(maximum = 1000000000)]
    offset: Option<usize>,
    /// How many, 1 to 1000
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl BrowseParams {
    fn request(&self) -> Result<BrowseRequest, ApiError> {
        let limit = self.limit.unwrap_or(60);
        if !(1..=1000).contains(&limit) {
            return Err(ApiError::bad_request(format!("limit is {limit}, expected 1 to 1000")));
        }
        let sort = self.sort.as_deref().unwrap_or("id").parse()?;
        let offset = self.offset.unwrap_or(0);
        if offset > 1_000_000_000 {
            return Err(ApiError::bad_request(format!("offset is {offset}, expected at most a thousand million")));
        }
        Ok(BrowseRequest { filter: filter(self.filter.as_deref())?, kinds: kinds(self.kind.as_deref())?, sort, offset, limit })
    }
}

/// A page of items.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemsPage {
    items: Vec<ItemBody>,
    offset: usize,
    next_offset: Option<usize>,
    total: usize,
}

/// List items; with `Accept: application/x-ndjson` all of them, a line each
#[utoipa::path(get, path = "/items", tag = "items", params(BrowseParams), responses(
    (status = 200, description = "A page of them", content((ItemsPage = "application/json"), (String = "application/x-ndjson")))
))]
pub(crate) async fn browse(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<BrowseParams>,
) -> Result<Response, ApiError> {
    let (library, request) = (app.library()?, params.request()?);
    if wants_lines(&headers) {
        return stream(&app, library, request).await;
    }
    app.run(Work::Quick, move |_| {
        let page = library.browse(&request)?;
        let items = page.items.into_iter().map(ItemBody::from).collect();
        Ok(Json(ItemsPage { items, offset: page.offset, next_offset: page.next_offset, total: page.total }).into_response())
    })
    .await
}

/// All items from the request's offset on. What comes or goes meanwhile may be missed, or come twice.
async fn stream(app: &Arc<App>, library: Arc<Library>, request: BrowseRequest) -> Result<Response, ApiError> {
    let first = {
        let (library, request) = (Arc::clone(&library), BrowseRequest { limit: STREAMED, ..request.clone() });
        app.run(Work::Quick, move |_| Ok(library.browse(&request)?)).await?
    };
    let mut next = first.next_offset;
    let mut page = first.items.into_iter();
    let all = std::iter::from_fn(move || {
        if let Some(entry) = page.next() {
            return Some(line(&ItemBody::from(entry)));
        }
        let offset = next.take()?;
        // The head is sent already, so an error can only end the list.
        let further = library.browse(&BrowseRequest { offset, limit: STREAMED, ..request.clone() }).ok()?;
        (next, page) = (further.next_offset, further.items.into_iter());
        page.next().map(|entry| line(&ItemBody::from(entry)))
    });
    Ok(lines(all))
}

/// A part of an item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SegmentBody {
    span: UnitSpan,
    modality: Kind,
}

/// An item with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DetailsBody {
    #[serde(flatten)]
    item: ItemBody,
    captions: Vec<String>,
    /// At most 200 parts, each with a vector
    segments: Vec<SegmentBody>,
    /// The first 20,000 characters of a text
    text: Option<String>,
}

/// One item
#[utoipa::path(get, path = "/items/{item}", tag = "items", params(("item" = i64, Path, description = "Its number")), responses(
    (status = 200, description = "All that is known of it", body = DetailsBody)
))]
pub(crate) async fn details(State(app): State<Arc<App>>, Named(item): Named<i64>) -> Result<Json<DetailsBody>, ApiError> {
    let library = app.library()?;
    app.run(Work::Quick, move |_| {
        let details = library.details(item)?;
        let segments =
            details.segments.into_iter().map(|part| SegmentBody { span: part.span.into(), modality: part.modality.into() });
        Ok(Json(DetailsBody {
            segments: segments.collect(),
            captions: details.captions,
            text: details.text,
            item: details.entry.into(),
        }))
    })
    .await
}

/// Put tags on an item, in place of those it has
#[utoipa::path(put, path = "/items/{item}/tags", tag = "items", params(("item" = i64, Path, description = "Its number")), request_body = Vec<String>, responses(
    (status = 200, description = "Its tags", body = Vec<String>)
))]
pub(crate) async fn set_tags(
    State(app): State<Arc<App>>,
    Named(item): Named<i64>,
    In(tags): In<Vec<String>>,
) -> Result<Json<Vec<String>>, ApiError> {
    let library = app.library()?;
    app.run(Work::Quick, move |_| Ok(Json(library.set_tags(item, &tags)?))).await
}

/// How many items left.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Removed {
    removed: usize,
}

/// Take an item out of the library; its files stay where they are
#[utoipa::path(delete, path = "/items/{item}", tag = "items", params(("item" = i64, Path, description = "Its number")), responses(
    (status = 200, description = "It is out", body = Removed)
))]
pub(crate) async fn remove(State(app): State<Arc<App>>, Named(item): Named<i64>) -> Result<Json<Removed>, ApiError> {
    let library = app.library()?;
    let removed = app
        .run(Work::Quick, move |_| {
            let paths = library.item(item)?.paths;
            Ok(library.remove(&paths)?)
        })
        .await?;
    app.jobs.changed();
    Ok(Json(Removed { removed }))
}

/// Take a file in: it is kept in the library's own folder
///
/// The answer comes when the item is stored: whatever happens to the server afterwards, it is there.
#[utoipa::path(post, path = "/items", tag = "items", request_body(content((String = "application/octet-stream"), (crate::uploads::Form = "multipart/form-data"))),
    params(("X-Filename" = Option<String>, Header, description = "Its name, percent-encoded")), responses(
    (status = 201, description = "It is in", body = ItemBody),
    (status = 200, description = "It was in already", body = ItemBody)
))]
pub(crate) async fn add(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let library = app.library()?;
    let file = sent(&app, request).await?;
    let (created, item) = app.run(Work::Slow, move |app| take_in(app, &library, &file)).await?;
    app.jobs.changed();
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(item)).into_response())
}

fn take_in(app: &App, library: &Library, file: &Sent) -> Result<(bool, ItemBody), ApiError> {
    // What it is is decided before anything is written.
    let name = file.name.clone().unwrap_or_else(|| "file".to_owned());
    let decoded = chiasm_media::decode(std::path::Path::new(&name), &file.bytes, &chiasm_media::Limits::default());
    drop(decoded.map_err(|e| ApiError::from(&e))?);
    let digest = blake3::hash(&file.bytes).to_hex();
    if let Some(id) = library.item_of_hash(&digest)? {
        return Ok((false, library.entry(id)?.into()));
    }
    let added = app.config.library.join(ADDED);
    let folder = added.join(&digest[..12]);
    let path = folder.join(safe(&name));
    keep(&folder, &path, &file.bytes)?;
    // One at a time, for the library has one writer; whoever has the turn takes in what the others have kept meanwhile.
    let _turn = app.jobs.turn()?;
    if let Some(id) = library.item_of_hash(&digest)? {
        return Ok((true, library.entry(id)?.into()));
    }
    let options = IndexOptions { wait: true, ..IndexOptions::default() };
    let report = library.index(&[added], &options, &NoProgress, &Cancel::default())?;
    match library.item_of_hash(&digest)? {
        Some(id) => Ok((true, library.entry(id)?.into())),
        None => {
            let own = report.refused.iter().find(|refused| refused.path.starts_with(&folder));
            let reason = own.map_or_else(|| "it is no media of this library's kinds".to_owned(), |r| r.reason.clone());
            let _ = std::fs::remove_dir_all(&folder);
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", format!("{name} was not taken in: {reason}")))
        }
    }
}

/// The file, whole and on the disk.
fn keep(folder: &std::path::Path, path: &PathBuf, bytes: &[u8]) -> Result<(), ApiError> {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // Hidden until it is whole, so that no indexing finds a part of it.
        let beside = folder.join(".part");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|e| {
        if e.kind() == std::io::ErrorKind::StorageFull {
            return ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "the disk is full: nothing was taken in");
        }
        ApiError::internal("keeping a file", &e)
    })
}

/// A name that is one name and no hidden one, of at most 100 characters.
fn safe(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().map(|c| if c.is_control() || "<>:\"|?*".contains(c) { '_' } else { c }).collect();
    let clean = clean.trim().trim_start_matches('.');
    // The ending says what it is, so the beginning is cut.
    let n = clean.chars().count();
    let short: String = clean.chars().skip(n.saturating_sub(60)).collect();
    if short.is_empty() { "file".to_owned() } else { short }
}

/// Which items are counted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FacetParams {
    /// A filter
    #[serde(rename = "where")]
    filter: Option<String>,
    /// Kinds, separated by commas
    kind: Option<String>,
}

/// What items have in common: kinds, formats, folders, tags, months, sizes, places
#[utoipa::path(get, path = "/facets", tag = "items", params(FacetParams), responses(
    (status = 200, description = "Counts", body = Facets)
))]
pub(crate) async fn facets(State(app): State<Arc<App>>, Params(params): Params<FacetParams>) -> Result<Json<Facets>, ApiError> {
    let (filter, kinds) = (filter(params.filter.as_deref())?, kinds(params.kind.as_deref())?);
    let library = app.library()?;
    app.run(Work::Quick, move |_| Ok(Json(library.facets(filter.as_ref(), &kinds)?))).await
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn names_stay_in_their_folder() {
        for (given, expected) in [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\a.png", "a.png"),
            ("..", "file"),
            ("", "file"),
            (".hidden.txt", "hidden.txt"),
            ("a\0b\n.png", "a_b_.png"),
            ("photo de l'été.jpg", "photo de l'été.jpg"),
            ("/", "file"),
        ] {
            assert_eq!(safe(given), expected, "{given:?}");
        }
        let long = format!("{}.png", "字".repeat(300));
        assert!(safe(&long).ends_with("字.png") && safe(&long).chars().count() == 60);
    }
}
