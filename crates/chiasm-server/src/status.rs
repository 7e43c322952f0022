//! Where the server stands: status for people and programs, health and figures for operators, the login of the page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use chiasm_engine::{LibraryInfo, Space};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, Work};
use crate::error::ApiError;
use crate::guard::COOKIE;
use crate::indexing::IndexState;
use crate::tokens::Scope;
use crate::wire::{In, Kind, MAX_K};

/// Items of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KindBody {
    kind: Kind,
    n_items: usize,
    n_segments: usize,
}

/// A model of the library.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelLane {
    name: String,
    dim: usize,
    /// What it knows
    kinds: Vec<Kind>,
    n_vectors: usize,
    /// Vectors that the next indexing is to make
    n_lacking: usize,
}

/// What the library holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LibraryBody {
    dir: String,
    generation: i64,
    n_items: usize,
    n_paths: usize,
    n_segments: usize,
    n_captions: usize,
    n_refused: usize,
    kinds: Vec<KindBody>,
    roots: Vec<String>,
    lanes: Vec<ModelLane>,
    /// What may be asked with
    query_kinds: Vec<Kind>,
}

impl LibraryBody {
    pub(crate) fn new(info: LibraryInfo, spaces: &[&Space]) -> LibraryBody {
        let lanes = info.lanes.iter().map(|lane| ModelLane {
            name: lane.name.clone(),
            dim: lane.space.dim,
            kinds: lane.space.views.iter().map(|view| view.modality.into()).collect(),
            n_vectors: lane.n_vectors,
            n_lacking: lane.n_lacking,
        });
        let asked = |kind: &chiasm_core::Modality| spaces.iter().any(|space| space.can_embed(*kind));
        LibraryBody {
            dir: info.dir.to_string_lossy().into_owned(),
            generation: info.generation,
            n_items: info.n_items,
            n_paths: info.n_paths,
            n_segments: info.n_segments,
            n_captions: info.n_captions,
            n_refused: info.refused.len(),
            kinds: info
                .kinds
                .iter()
                .map(|k| KindBody { kind: k.kind.into(), n_items: k.n_items, n_segments: k.n_segments })
                .collect(),
            roots: info.roots.iter().map(|root| root.to_string_lossy().into_owned()).collect(),
            lanes: lanes.collect(),
            query_kinds: chiasm_core::Modality::ALL.into_iter().filter(asked).map(Kind::from).collect(),
        }
    }
}

/// How much one may ask for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitsBody {
    max_upload_bytes: usize,
    max_k: usize,
}

/// Who looks at the first answers again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RerankBody {
    /// What words have looked at
    kind: Kind,
    /// How many answers
    n_top: usize,
}

/// Where the server stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusBody {
    version: &'static str,
    /// What the library is called: the folder that it stands in
    name: String,
    /// What the caller may do
    scopes: Vec<Scope>,
    auth_required: bool,
    /// Null while there is none
    library: Option<LibraryBody>,
    index: IndexState,
    /// Null where a search cannot ask for `rerank`
    rerank: Option<RerankBody>,
    limits: LimitsBody,
}

/// Where the server stands, and what the caller may do
#[utoipa::path(get, path = "/status", tag = "status", responses((status = 200, description = "Where it stands", body = StatusBody)))]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
) -> Result<Json<StatusBody>, ApiError> {
    app.run(Work::Quick, move |app| now(app, scope).map(Json)).await
}

/// The status as one of this scope sees it.
pub(crate) fn now(app: &App, scope: Scope) -> Result<StatusBody, ApiError> {
    let library = app.library_if_any();
    let library = library.map(|library| -> Result<LibraryBody, ApiError> {
        let info = library.info()?;
        app.metrics.items(info.n_items);
        let spaces: Vec<&Space> = library.lanes().iter().map(|lane| lane.space()).collect();
        Ok(LibraryBody::new(info, &spaces))
    });
    Ok(StatusBody {
        version: env!("CARGO_PKG_VERSION"),
        name: app.config.name(),
        scopes: scope.included(),
        auth_required: app.config.tokens,
        library: library.transpose()?,
        index: app.jobs.state(),
        rerank: app.config.rerank.as_ref().map(|r| RerankBody { kind: r.kind().into(), n_top: r.n_top() }),
        limits: LimitsBody { max_upload_bytes: app.config.max_upload_bytes, max_k: MAX_K },
    })
}

/// Whether the process is alive.
pub(crate) async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

/// Whether it can answer questions.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, ApiError> {
    let not_ready = |why: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why);
    if app.ending.is_cancelled() {
        return Err(not_ready("the server is ending".to_owned()));
    }
    let library = app.library_if_any().ok_or_else(|| not_ready("there is no library yet".to_owned()))?;
    app.run(Work::Quick, move |_| {
        let generation = library.generation().map_err(|e| not_ready(e.to_string()))?;
        Ok(Json(serde_json::json!({ "status": "ok", "generation": generation })))
    })
    .await
}

/// Figures as Prometheus reads them.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = app.metrics.text().map_err(|e| ApiError::internal("writing the metrics", &e))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}

/// A token to log in with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    token: String,
}

/// Log a browser in: the token is kept in a cookie that scripts cannot read
#[utoipa::path(post, path = "/session", tag = "status", request_body = Login, responses((status = 204, description = "Logged in")))]
pub(crate) async fn login(State(app): State<Arc<App>>, In(login): In<Login>) -> Result<Response, ApiError> {
    let token = login.token.trim();
    let known = app.tokens.scope_of(token).map_err(|e| ApiError::internal("reading the tokens", &e))?;
    if known.is_none() {
        let error = ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is not known");
        return Err(error.cure("`chiasm token add NAME` makes a new one"));
    }
    // Only what a known token is made of: letters, digits, `-` and `_`.
    Ok(with_cookie(&format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000")))
}

/// Log a browser out
#[utoipa::path(delete, path = "/session", tag = "status", responses((status = 204, description = "Logged out")))]
pub(crate) async fn logout() -> Response {
    with_cookie(&format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"))
}

fn with_cookie(cookie: &str) -> Response {
    let value = HeaderValue::from_str(cookie).unwrap_or(HeaderValue::from_static(""));
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, value)]).into_response()
}
