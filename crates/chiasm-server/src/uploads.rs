//! Files to ask with. They are decoded under limits, embedded and forgotten: what is kept for a while is vectors and a thumbnail.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chiasm_core::Media;
use chiasm_media::Limits;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, Upload, Work};
use crate::error::ApiError;
use crate::metrics::Stage;
use crate::preview::{bars, jpeg};
use crate::wire::{Kind, MetadataBody, Named};

/// Longest side of an upload's thumbnail.
const SIDE: u32 = 320;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an upload is at least kept in mind, unless many others come.
const EXPIRES_S: u64 = 86_400;

/// A file that came.
pub(crate) struct Sent {
    pub(crate) name: Option<String>,
    pub(crate) bytes: Bytes,
}

/// A file as forms send it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct Form {
    /// The file
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Reads the one file of a request: its whole body, or the first field with a file's name of a form.
pub(crate) async fn sent(app: &App, request: Request) -> Result<Sent, ApiError> {
    let limit = app.config.max_upload_bytes;
    let stated =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if stated.is_some_and(|n| n > limit as u64 + 65_536) {
        return Err(ApiError::too_large("the file", limit));
    }
    let read = tokio::time::timeout(PATIENCE, read(request, limit)).await;
    let sent =
        read.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the file took too long to arrive"))??;
    if sent.bytes.is_empty() {
        return Err(ApiError::bad_request("no file came: send its bytes as the body, or one file field of a form"));
    }
    Ok(sent)
}

async fn read(request: Request, limit: usize) -> Result<Sent, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let name = request.headers().get("x-filename").and_then(|v| v.to_str().ok()).map(percent_decoded);
        let bytes =
            axum::body::to_bytes(request.into_body(), limit).await.map_err(|_| ApiError::too_large("the file", limit))?;
        return Ok(Sent { name, bytes });
    }
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|e| ApiError::bad_request(e.body_text()))?;
    while let Some(mut field) = form.next_field().await.map_err(|e| ApiError::bad_request(e.body_text()))? {
        let name = field.file_name().map(str::to_owned);
        if name.is_none() && field.name() != Some("file") {
            continue;
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(|e| ApiError::bad_request(e.body_text()))? {
            if bytes.len() + chunk.len() > limit {
                return Err(ApiError::too_large("the file", limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        return Ok(Sent { name, bytes: bytes.into() });
    }
    Err(ApiError::bad_request("the form has no file: send one field with a file"))
}

/// Text with `%41` for bytes; what is no such escape stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok()).filter(|_| bytes[at] == b'%');
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An upload that may be asked with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadBody {
    /// To be named in queries
    upload: String,
    kind: Kind,
    name: Option<String>,
    /// How long it is kept, unless many others come
    expires_s: u64,
    metadata: MetadataBody,
}

/// Send a picture, sound, text, series or video to ask with; nothing is added to the library
#[utoipa::path(post, path = "/uploads", tag = "search", request_body(content((String = "application/octet-stream"), (Form = "multipart/form-data"))),
    params(("X-Filename" = Option<String>, Header, description = "Its name, percent-encoded: tells a table from a text")), responses(
    (status = 201, description = "It may be asked with", body = UploadBody)
))]
pub(crate) async fn upload(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let library = app.library()?;
    let file = sent(&app, request).await?;
    let body = app
        .run(Work::Slow, move |app| {
            let id = blake3::hash(&file.bytes).to_hex()[..32].to_owned();
            let upload = match app.uploads.get(&id) {
                Some(kept) => kept,
                None => {
                    let upload = Arc::new(make(app, &library, &file)?);
                    app.uploads.insert(id.clone(), Arc::clone(&upload));
                    upload
                }
            };
            Ok(UploadBody::new(id, &upload))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

impl UploadBody {
    fn new(id: String, upload: &Upload) -> UploadBody {
        let m = upload.metadata.clone();
        let metadata = MetadataBody {
            format: m.format,
            size: upload.size,
            width: m.width,
            height: m.height,
            duration_s: m.duration_s,
            taken: m.taken,
            latitude: m.latitude,
            longitude: m.longitude,
        };
        UploadBody { upload: id, kind: upload.kind.into(), name: upload.name.clone(), expires_s: EXPIRES_S, metadata }
    }
}

/// What an upload is, as long as it is kept
#[utoipa::path(get, path = "/uploads/{upload}", tag = "search", params(("upload" = String, Path, description = "As POST /uploads gave it")), responses(
    (status = 200, description = "What it is", body = UploadBody)
))]
pub(crate) async fn about(State(app): State<Arc<App>>, Named(id): Named<String>) -> Result<Json<UploadBody>, ApiError> {
    let upload = kept(&app, &id)?;
    Ok(Json(UploadBody::new(id, &upload)))
}

fn make(app: &App, library: &chiasm_engine::Library, file: &Sent) -> Result<Upload, ApiError> {
    let started = Instant::now();
    // Tighter than for files of one's own: whoever asks with a film does not want to wait for it to be read whole.
    let limits = Limits { max_pixels: 60_000_000, max_video_s: 600, max_ffmpeg_s: 60, ..Limits::default() };
    let name = file.name.as_deref().unwrap_or("upload");
    let decoded = chiasm_media::decode(Path::new(name), &file.bytes, &limits).map_err(|e| ApiError::from(&e))?;
    app.metrics.stage(Stage::Decode, started.elapsed());
    let started = Instant::now();
    let embedded = Arc::new(library.embed(&decoded.media)?);
    app.metrics.stage(Stage::Encode, started.elapsed());
    let kind = decoded.media.modality();
    let (thumbnail, peaks) = match decoded.media {
        Media::Image(image) => (jpeg(image, SIDE).ok(), None),
        Media::Video(video) => (jpeg(video.frames[video.spread(1)[0]].as_ref().clone(), SIDE).ok(), None),
        Media::Shape(mesh) => (jpeg(chiasm_media::shape_view(&mesh, 0, SIDE), SIDE).ok(), None),
        Media::Audio(sound) => (None, Some(bars(&sound).peaks)),
        Media::Text(_) | Media::Series(_) => (None, None),
    };
    Ok(Upload {
        kind,
        name: file.name.clone(),
        size: file.bytes.len() as u64,
        metadata: decoded.metadata,
        embedded,
        thumbnail,
        peaks,
    })
}

fn kept(app: &App, id: &str) -> Result<Arc<Upload>, ApiError> {
    let missing =
        || ApiError::not_found("no_such_upload", format!("there is no upload `{id}` any more")).cure("send the file again");
    app.uploads.get(id).ok_or_else(missing)
}

/// A small JPEG of an upload
#[utoipa::path(get, path = "/uploads/{upload}/thumbnail", tag = "search", params(("upload" = String, Path, description = "As POST /uploads gave it")), responses(
    (status = 200, description = "A JPEG", body = String, content_type = "image/jpeg")
))]
pub(crate) async fn thumbnail(State(app): State<Arc<App>>, Named(id): Named<String>) -> Result<Response, ApiError> {
    let upload = kept(&app, &id)?;
    let jpeg = upload.thumbnail.clone().ok_or_else(|| ApiError::not_found("no_thumbnail", "this upload is no picture"))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    Ok((headers, jpeg).into_response())
}

/// How loud an upload is over time
#[utoipa::path(get, path = "/uploads/{upload}/waveform", tag = "search", params(("upload" = String, Path, description = "As POST /uploads gave it")), responses(
    (status = 200, description = "Two hundred bars", body = crate::preview::Bars)
))]
pub(crate) async fn waveform(
    State(app): State<Arc<App>>,
    Named(id): Named<String>,
) -> Result<Json<crate::preview::Bars>, ApiError> {
    let upload = kept(&app, &id)?;
    let peaks = upload.peaks.clone().ok_or_else(|| ApiError::not_found("no_waveform", "this upload is no sound"))?;
    Ok(Json(crate::preview::Bars { duration_s: upload.metadata.duration_s.unwrap_or(0.0), peaks }))
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn names_come_percent_encoded() {
        assert_eq!(percent_decoded("%E7%8B%97.jpg"), "狗.jpg");
        assert_eq!(percent_decoded("100%.txt"), "100%.txt");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    }
}
