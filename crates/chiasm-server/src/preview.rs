//! The files themselves and what is shown of them: originals with ranges, thumbnails, waveforms, sparklines.
//!
//! What is served of a file is what the catalogue knows: the path must lie, links followed, under a folder that was indexed or in the library's
//! own, and the bytes must be those that were indexed. So neither a link that was put in a file's place nor another content gets out.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chiasm_core::{Image, Media, Modality};
use chiasm_engine::{Item, Library};
use chiasm_media::{Limits, N_VIEWS};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Work};
use crate::error::ApiError;
use crate::metrics::Stage;
use crate::wire::{Named, Params};

/// Longest sides that thumbnails come in: few, so that each is made once.
const SIDES: [u32; 4] = [160, 320, 640, 1280];
const QUALITY: u8 = 82;
/// Bars of a waveform, readings of a sparkline.
const BARS: usize = 200;
const READINGS: usize = 300;
/// Files up to this size are hashed before they are served for the first time; of larger ones, size and place must do.
const HASHED: u64 = 256 << 20;
/// Seconds of a video that are decoded for its thumbnail.
const VIDEO_S: u64 = 4;

/// A file of the library, opened.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) size: u64,
}

/// Opens the first of an item's files that is still what was indexed.
pub(crate) fn open(app: &App, library: &Library, item: &Item) -> Result<Opened, ApiError> {
    let roots = roots(library)?;
    let mut refused = ApiError::not_found("no_file", format!("item {} has no file", item.id));
    for path in &item.paths {
        match open_one(app, &roots, item, path) {
            Ok(opened) => return Ok(opened),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn open_one(app: &App, roots: &[PathBuf], item: &Item, path: &Path) -> Result<Opened, ApiError> {
    let gone = |why: &dyn std::fmt::Display| {
        ApiError::not_found("no_file", format!("{} cannot be read: {why}", path.display())).cure("index its folder again")
    };
    let real = path.canonicalize().map_err(|e| gone(&e))?;
    if !roots.iter().any(|root| real.starts_with(root)) {
        let message = format!("{} leads out of the folders that were indexed", path.display());
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message).cure("index the folder that it leads to"));
    }
    let mut file = File::open(&real).map_err(|e| gone(&e))?;
    let metadata = file.metadata().map_err(|e| gone(&e))?;
    if !metadata.is_file() {
        return Err(gone(&"it is no file"));
    }
    let changed =
        || ApiError::conflict(format!("{} has changed since it was indexed", path.display())).cure("index its folder again");
    if metadata.len() != item.metadata.size {
        return Err(changed());
    }
    let time = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |t| t.as_nanos());
    let key = (real.clone(), metadata.len(), time);
    if metadata.len() <= HASHED && app.seen.get(&key).is_none() {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file).map_err(|e| gone(&e))?;
        if hasher.finalize().to_hex().as_str() != item.hash {
            return Err(changed());
        }
        file.seek(SeekFrom::Start(0)).map_err(|e| gone(&e))?;
        app.seen.insert(key, ());
    }
    Ok(Opened { path: real, file, size: metadata.len() })
}

/// The folders that files are served from.
fn roots(library: &Library) -> Result<Vec<PathBuf>, ApiError> {
    let roots = library.roots()?;
    let all = roots.iter().map(PathBuf::as_path).chain([library.dir()]);
    Ok(all.filter_map(|root| root.canonicalize().ok()).collect())
}

/// Decodes an item's file.
pub(crate) fn decode(app: &App, library: &Library, item: &Item, limits: &Limits) -> Result<Media, ApiError> {
    let Opened { path, mut file, size } = open(app, library, item)?;
    if size > limits.max_file_bytes {
        return Err(ApiError::too_large(
            &path.display().to_string(),
            usize::try_from(limits.max_file_bytes).unwrap_or(usize::MAX),
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes).map_err(|e| ApiError::internal("reading a file", &e))?;
    Ok(chiasm_media::decode(&path, &bytes, limits).map_err(|e| ApiError::from(&e))?.media)
}

/// How a file is sent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileParams {
    /// 1 to have it saved rather than shown
    download: Option<u8>,
}

/// The original, with ranges
///
/// Only kinds that a browser shows without running anything are sent as what they are; all others as an attachment.
#[utoipa::path(get, path = "/items/{item}/file", tag = "items", params(("item" = i64, Path, description = "Its number"), FileParams), responses(
    (status = 200, description = "Its bytes", body = String, content_type = "*/*"),
    (status = 206, description = "The range that was asked for", body = String, content_type = "*/*"),
    (status = 416, description = "No such range", body = String, content_type = "application/octet-stream")
))]
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    Named(item): Named<i64>,
    Params(params): Params<FileParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let library = app.library()?;
    let (item, opened) = app
        .run(Work::Slow, move |app| {
            let item = library.item(item)?;
            open(app, &library, &item).map(|opened| (item, opened))
        })
        .await?;
    let mut out = HeaderMap::new();
    let shown = shown_as(&opened.path, item.kind).filter(|_| params.download.unwrap_or(0) == 0);
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(shown.unwrap_or("application/octet-stream")));
    if shown.is_none() {
        out.insert(header::CONTENT_DISPOSITION, attachment(&opened.path));
    }
    // Should a browser show it as a page of its own, then as one that may do nothing.
    out.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    );
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let etag = format!("\"{}\"", item.hash);
    remember(&mut out, &etag);
    if not_modified(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, out).into_response());
    }
    let Opened { mut file, size, .. } = opened;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    // A range of what the client has an older state of would be of another file.
    let asked = asked.filter(|_| headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag.as_bytes()));
    let (status, start, end) = match asked.map(|asked| range(asked, size)) {
        None | Some(Range::Whole) => (StatusCode::OK, 0, size),
        Some(Range::Part(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Range::Outside) => {
            out.insert(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, out).into_response());
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        out.insert(header::CONTENT_RANGE, value(&format!("bytes {start}-{}/{size}", end - 1)));
    }
    out.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    file.seek(SeekFrom::Start(start)).map_err(|e| ApiError::internal("reading a file", &e))?;
    let body = tokio::fs::File::from_std(file).take(end - start);
    Ok((status, out, Body::from_stream(ReaderStream::with_capacity(body, 64 << 10))).into_response())
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// A content never changes under its hash, so a browser may keep it; only for its owner, and asked again with each visit.
fn remember(headers: &mut HeaderMap, etag: &str) {
    headers.insert(header::ETAG, value(etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600, must-revalidate"));
}

fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    given.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == etag || tag.trim() == "*"))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// From the first byte up to but without the last.
    Part(u64, u64),
    Outside,
}

/// One range of bytes (RFC 9110, 14.1.2). Several at once are answered with the whole, as the standard allows.
fn range(asked: &str, size: u64) -> Range {
    let Some(spec) = asked.strip_prefix("bytes=") else { return Range::Whole };
    if spec.contains(',') {
        return Range::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Range::Whole };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(n)) if first.is_empty() => match n {
            0 => Range::Outside,
            _ if size == 0 => Range::Outside,
            n => Range::Part(size.saturating_sub(n), size),
        },
        (Some(start), _) if start >= size => Range::Outside,
        (Some(start), None) if last.is_empty() => Range::Part(start, size),
        (Some(start), Some(end)) if start <= end => Range::Part(start, end.saturating_add(1).min(size)),
        _ => Range::Whole,
    }
}

/// The type of a file that a browser may show, by its ending: none of these can run anything.
fn shown_as(path: &Path, kind: Modality) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let known = match (kind, ending.as_str()) {
        (Modality::Image | Modality::Video, "jpg" | "jpeg" | "jpe" | "jfif") => "image/jpeg",
        (Modality::Image | Modality::Video, "png" | "apng") => "image/png",
        (Modality::Image | Modality::Video, "webp") => "image/webp",
        (Modality::Image | Modality::Video, "gif") => "image/gif",
        (Modality::Image, "bmp") => "image/bmp",
        (Modality::Audio, "wav") => "audio/wav",
        (Modality::Audio, "mp3") => "audio/mpeg",
        (Modality::Audio, "ogg" | "oga") => "audio/ogg",
        (Modality::Audio, "flac") => "audio/flac",
        (Modality::Audio, "m4a" | "aac") => "audio/mp4",
        (Modality::Video, "mp4" | "m4v") => "video/mp4",
        (Modality::Video, "mov") => "video/quicktime",
        (Modality::Video, "webm") => "video/webm",
        (Modality::Video, "ogv") => "video/ogg",
        (Modality::Text, "txt" | "md" | "text") => "text/plain; charset=utf-8",
        _ => return None,
    };
    Some(known)
}

/// `attachment` with the file's name, as RFC 6266 writes names of any letters.
fn attachment(path: &Path) -> HeaderValue {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let encoded: String = name
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b".-_".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    value(&format!("attachment; filename*=UTF-8''{encoded}"))
}

/// Which thumbnail.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ThumbnailParams {
    /// Longest side in pixels: 160, 320, 640 or 1280
    side: Option<u32>,
    /// Seconds into a video; its middle when absent
    at: Option<f64>,
    /// Of a shape, from which of twelve sides around it, 0 to 11; 0 is the front
    #[param(maximum = 11)]
    view: Option<usize>,
}

/// A small JPEG of a picture, of a video's frame or of a shape, made anew from the pixels
#[utoipa::path(get, path = "/items/{item}/thumbnail", tag = "items", params(("item" = i64, Path, description = "Its number"), ThumbnailParams), responses(
    (status = 200, description = "A JPEG", body = String, content_type = "image/jpeg")
))]
pub(crate) async fn thumbnail(
    State(app): State<Arc<App>>,
    Named(id): Named<i64>,
    Params(params): Params<ThumbnailParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let side = params.side.unwrap_or(320);
    if !SIDES.contains(&side) {
        return Err(ApiError::bad_request(format!("side is {side}, expected 160, 320, 640 or 1280")));
    }
    if params.at.is_some_and(|at| !(0.0..=1e6).contains(&at)) {
        return Err(ApiError::bad_request("`at` is no time within a video, expected seconds from 0 on"));
    }
    if let Some(view) = params.view.filter(|view| *view >= N_VIEWS) {
        return Err(ApiError::bad_request(format!("view is {view}, expected 0 to {}", N_VIEWS - 1)));
    }
    let library = app.library()?;
    let item = {
        let library = Arc::clone(&library);
        app.run(Work::Quick, move |_| Ok(library.item(id)?)).await?
    };
    if !matches!(item.kind, Modality::Image | Modality::Video | Modality::Shape) {
        let message = format!("item {id} is {}, thumbnails are of pictures, videos and shapes", item.kind);
        return Err(ApiError::not_found("no_thumbnail", message));
    }
    let at = match item.kind {
        Modality::Video => params.at.map_or(Shown::Usual, Shown::At),
        Modality::Shape => params.view.map_or(Shown::Usual, Shown::View),
        Modality::Image | Modality::Text | Modality::Audio | Modality::Series => Shown::Usual,
    };
    let what = match at {
        Shown::Usual => String::new(),
        Shown::At(at) => format!("-{at:.1}"),
        Shown::View(view) => format!("-view{view}"),
    };
    let key = format!("{}-{side}{what}", item.hash);
    let mut out = HeaderMap::new();
    let etag = format!("\"{key}\"");
    remember(&mut out, &etag);
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    if not_modified(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, out).into_response());
    }
    let jpeg = match app.thumbnails.get(&key) {
        Some(kept) => kept,
        None => app.run(Work::Slow, move |app| make_thumbnail(app, &library, &item, side, at, key)).await?,
    };
    Ok((out, jpeg).into_response())
}

/// What of an item a thumbnail shows.
#[derive(Clone, Copy)]
enum Shown {
    /// A picture, the middle of a video, a shape from the front
    Usual,
    /// Seconds into a video
    At(f64),
    /// A shape from this side
    View(usize),
}

fn make_thumbnail(app: &App, library: &Library, item: &Item, side: u32, shown: Shown, key: String) -> Result<Bytes, ApiError> {
    // Another request may have made it while this one waited.
    if let Some(kept) = app.thumbnails.get(&key) {
        return Ok(kept);
    }
    let name = format!("{key}.jpg");
    let jpeg = match app.shelf.take(&name) {
        Some(bytes) if bytes.starts_with(&[0xFF, 0xD8]) => Bytes::from(bytes),
        _ => {
            let started = Instant::now();
            let at = if let Shown::At(at) = shown { Some(at) } else { None };
            let limits = Limits { max_video_s: at.map_or(VIDEO_S, |at| at as u64 + VIDEO_S), ..Limits::default() };
            let jpeg = match decode(app, library, item, &limits)? {
                Media::Image(image) => jpeg(image, side),
                Media::Video(video) => {
                    let frame = at.map_or_else(|| video.spread(1)[0], |at| video.frame_at(at));
                    jpeg(video.frames[frame].as_ref().clone(), side)
                }
                Media::Shape(mesh) => {
                    jpeg(chiasm_media::shape_view(&mesh, if let Shown::View(view) = shown { view } else { 0 }, side), side)
                }
                Media::Text(_) | Media::Audio(_) | Media::Series(_) => {
                    return Err(ApiError::not_found("no_thumbnail", format!("item {} is no picture any more", item.id)));
                }
            };
            let jpeg = Bytes::from(jpeg.map_err(|e| ApiError::internal("making a thumbnail", &e))?);
            app.metrics.stage(Stage::Thumbnail, started.elapsed());
            // A cache: where it cannot be written, the next request makes it again.
            let _ = app.shelf.put(&name, &jpeg);
            jpeg
        }
    };
    app.thumbnails.insert(key, jpeg.clone());
    Ok(jpeg)
}

/// A picture as a JPEG of at most `side` pixels along its longer edge.
pub(crate) fn jpeg(image: Image, side: u32) -> Result<Vec<u8>, image::ImageError> {
    let small = chiasm_media::shrink(image, side);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode(&small.rgb, small.width, small.height, ExtendedColorType::Rgb8)?;
    Ok(jpeg)
}

/// A sound as bars.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bars {
    pub(crate) duration_s: f64,
    /// Loudest of each stretch, 0 to 1
    pub(crate) peaks: Vec<f32>,
}

/// How loud a sound is over time
#[utoipa::path(get, path = "/items/{item}/waveform", tag = "items", params(("item" = i64, Path, description = "Its number")), responses(
    (status = 200, description = "Two hundred bars", body = Bars)
))]
pub(crate) async fn waveform(State(app): State<Arc<App>>, Named(item): Named<i64>) -> Result<Json<Bars>, ApiError> {
    let library = app.library()?;
    app.run(Work::Slow, move |app| {
        let item = library.item(item)?;
        match decode(app, &library, &item, &Limits::default())? {
            Media::Audio(sound) => Ok(Json(bars(&sound))),
            other @ (Media::Image(_) | Media::Text(_) | Media::Series(_) | Media::Video(_) | Media::Shape(_)) => {
                Err(ApiError::not_found("no_waveform", format!("item {} is {}, expected a sound", item.id, other.modality())))
            }
        }
    })
    .await
}

/// The bars of a sound.
pub(crate) fn bars(sound: &chiasm_core::Waveform) -> Bars {
    Bars {
        duration_s: sound.samples.len() as f64 / f64::from(sound.sample_rate_hz.max(1)),
        peaks: chiasm_media::peaks(sound, BARS),
    }
}

/// A series as curves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Curves {
    /// Readings of each channel, extremes kept
    channels: Vec<Vec<f32>>,
    /// As the file names them; empty where it does not
    names: Vec<String>,
    n_readings: usize,
}

/// A sensor series as curves
#[utoipa::path(get, path = "/items/{item}/series", tag = "items", params(("item" = i64, Path, description = "Its number")), responses(
    (status = 200, description = "At most 300 readings of each channel", body = Curves)
))]
pub(crate) async fn series(State(app): State<Arc<App>>, Named(item): Named<i64>) -> Result<Json<Curves>, ApiError> {
    let library = app.library()?;
    app.run(Work::Slow, move |app| {
        let item = library.item(item)?;
        match decode(app, &library, &item, &Limits::default())? {
            Media::Series(series) => {
                let channels = chiasm_media::sparkline(&series, READINGS);
                Ok(Json(Curves { channels, n_readings: series.n_steps(), names: series.names.clone() }))
            }
            other @ (Media::Image(_) | Media::Text(_) | Media::Audio(_) | Media::Video(_) | Media::Shape(_)) => {
                Err(ApiError::not_found("no_series", format!("item {} is {}, expected a series", item.id, other.modality())))
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_bytes() {
        for (asked, expected) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=2-", Range::Part(2, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-30", Range::Part(0, 10)),
            ("bytes=5-99999999999999999999999", Range::Part(5, 10)),
            ("bytes=10-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=99999999999999999999999-", Range::Outside),
            ("bytes=5-4", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=1-2", Range::Whole),
        ] {
            assert_eq!(range(asked, 10), expected, "{asked}");
        }
        assert_eq!(range("bytes=0-", 0), Range::Outside);
        assert_eq!(range("bytes=-5", 0), Range::Outside);
    }

    #[test]
    fn nothing_that_runs_is_shown() {
        for name in ["a.html", "a.svg", "a.js", "a.pdf", "a", "a.xml"] {
            for kind in Modality::ALL {
                assert_eq!(shown_as(Path::new(name), kind), None, "{name}");
            }
        }
        // A page that calls itself a picture is sent as a picture, which no browser runs.
        assert_eq!(shown_as(Path::new("a.JPG"), Modality::Image), Some("image/jpeg"));
        assert_eq!(shown_as(Path::new("a.jpg"), Modality::Text), None);
    }

    #[test]
    fn names_of_any_letters_are_attached() {
        assert_eq!(attachment(Path::new("/x/a \"b\"\r\n.html")), "attachment; filename*=UTF-8''a%20%22b%22%0D%0A.html");
    }
}
