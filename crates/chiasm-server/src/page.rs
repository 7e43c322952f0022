//! The page: files of `ui/`, embedded in the program, so that it works without any other file and without a network.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// Scripts and styles are files of their own, and nothing comes from elsewhere.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    bytes: &'static [u8],
}

/// All of them, as `build.rs` lists the folder.
const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// What a browser compares with what it has: a digest of the whole page, since its parts go together.
static ETAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    ASSETS.iter().for_each(|asset| _ = hasher.update(asset.name.as_bytes()).update(asset.bytes));
    format!("\"{}\"", &hasher.finalize().to_hex()[..16])
});

/// The page itself, whichever of its views the address names.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    named("index.html", StatusCode::OK, &headers)
}

/// A script, a style or a picture of it.
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match asset(&name) {
        Some(_) => named(&name, StatusCode::OK, &headers),
        None => missing(&headers),
    }
}

/// What a person sees where nothing is.
pub(crate) fn missing(headers: &HeaderMap) -> Response {
    named("404.html", StatusCode::NOT_FOUND, headers)
}

fn named(name: &str, status: StatusCode, headers: &HeaderMap) -> Response {
    let Some(asset) = asset(name) else { return StatusCode::NOT_FOUND.into_response() };
    let mut out = HeaderMap::new();
    out.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    out.insert("permissions-policy", HeaderValue::from_static("microphone=(self), camera=(), geolocation=()"));
    // Asked again with each visit, and answered in a line when it is the same.
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&ETAG) {
        out.insert(header::ETAG, etag);
    }
    if status == StatusCode::OK && headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == ETAG.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, out).into_response();
    }
    (status, out, asset.bytes).into_response()
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_needs_is_embedded() {
        for name in ["index.html", "404.html", "icon.svg"] {
            assert!(asset(name).is_some_and(|asset| !asset.bytes.is_empty()), "{name}");
        }
        assert!(ASSETS.iter().all(|asset| kind(asset.name) != "application/octet-stream"));
        // Whatever a page, a style or a script asks for under `/ui/` is there.
        for text in ASSETS.iter().filter_map(|asset| std::str::from_utf8(asset.bytes).ok()) {
            for named in text.split("\"/ui/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(asset(named).is_some(), "/ui/{named}");
            }
        }
    }

    #[test]
    fn the_page_names_no_other_place_and_runs_nothing_inline() {
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".html")) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for bad in ["http://", "https://", "style=", "onclick=", "onload=", "<style"] {
                assert!(!text.contains(bad), "{}: {bad}", asset.name);
            }
            for script in text.split("<script").skip(1) {
                let (tag, rest) = script.split_once('>').unwrap();
                assert!(tag.contains("src=\"/ui/") && rest.starts_with("</script>"), "{}: <script{tag}>", asset.name);
            }
        }
    }
}
