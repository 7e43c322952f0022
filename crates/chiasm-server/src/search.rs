//! Search: by words, uploads, items and vectors, one question or many, in one document or a line an answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use chiasm_engine::Library;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, Work};
use crate::error::{ApiError, ErrorBody};
use crate::metrics::Stage;
use crate::wire::{Hit, In, MAX_K, MAX_STREAMED, Named, Params, Part, Reply, SearchBody, SearchParams};

/// Questions in one batch.
const MAX_BATCH: usize = 256;
/// Lines that are written at once.
const LINES: usize = 64;
const NDJSON: &str = "application/x-ndjson";

/// Answers a question.
pub(crate) fn answer(app: &App, library: &Library, body: &SearchBody, max_k: usize) -> Result<Reply, ApiError> {
    let started = Instant::now();
    let request = body.request(app, library, max_k)?;
    let searching = Instant::now();
    let reply = library.search(&request)?;
    app.metrics.stage(Stage::Search, searching.elapsed());
    Ok(Reply::new(reply, body, started.elapsed().as_secs_f64() * 1e3))
}

/// How long a question takes: whoever looks at answers again reads their files.
fn work(body: &SearchBody) -> Work {
    if body.rerank { Work::Slow } else { Work::Quick }
}

/// Find by words, uploads, items and vectors, mixed and weighed
///
/// With `Accept: application/x-ndjson` up to 100,000 answers are streamed, a line each, after one line about them.
#[utoipa::path(post, path = "/search", tag = "search", request_body = SearchBody, responses(
    (status = 200, description = "Answers, best first", content((Reply = "application/json"), (String = "application/x-ndjson")))
))]
pub(crate) async fn search(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    In(body): In<SearchBody>,
) -> Result<Response, ApiError> {
    respond(&app, &headers, body).await
}

/// The same question in a query string
#[utoipa::path(get, path = "/search", tag = "search", params(SearchParams), responses(
    (status = 200, description = "Answers, best first", content((Reply = "application/json"), (String = "application/x-ndjson")))
))]
pub(crate) async fn search_by_url(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<SearchParams>,
) -> Result<Response, ApiError> {
    respond(&app, &headers, params.body()?).await
}

async fn respond(app: &Arc<App>, headers: &HeaderMap, body: SearchBody) -> Result<Response, ApiError> {
    let library = app.library()?;
    let streamed = wants_lines(headers);
    let max_k = if streamed { MAX_STREAMED } else { MAX_K };
    let reply = app.run(work(&body), move |app| answer(app, &library, &body, max_k)).await?;
    if !streamed {
        return Ok(Json(reply).into_response());
    }
    let Reply { hits, about } = reply;
    Ok(lines(std::iter::once(line(&about)).chain(hits.into_iter().map(|hit: Hit| line(&hit)))))
}

/// Whether a line an answer was asked for.
pub(crate) fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| one.split(';').next().is_some_and(|kind| kind.trim() == NDJSON))
}

pub(crate) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A body that is made while it is sent.
pub(crate) fn lines(lines: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response {
    let mut lines = lines.peekable();
    let chunks = std::iter::from_fn(move || {
        lines.peek()?;
        let chunk: Vec<u8> = lines.by_ref().take(LINES).flatten().collect();
        Some(Ok::<_, std::convert::Infallible>(Bytes::from(chunk)))
    });
    let mut response = Body::from_stream(tokio_stream::iter(chunks)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}

/// Several questions at once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    #[schema(max_items = 256)]
    searches: Vec<SearchBody>,
}

/// The answers, in the order of the questions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchReply {
    replies: Vec<OneReply>,
}

/// What one question of several came to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneReply {
    Found(Reply),
    Refused(ErrorBody),
}

/// Answer several questions; one that the library refuses does not stop the others
#[utoipa::path(post, path = "/batch", tag = "search", request_body = Batch, responses(
    (status = 200, description = "Answers in the order of the questions", body = BatchReply)
))]
pub(crate) async fn batch(State(app): State<Arc<App>>, In(batch): In<Batch>) -> Result<Json<BatchReply>, ApiError> {
    if batch.searches.len() > MAX_BATCH {
        return Err(ApiError::bad_request(format!("{} searches came, expected at most {MAX_BATCH}", batch.searches.len())));
    }
    batch.searches.iter().try_for_each(|body| body.check(MAX_K))?;
    let library = app.library()?;
    let mut replies = Vec::with_capacity(batch.searches.len());
    for body in batch.searches {
        let library = Arc::clone(&library);
        // Each takes its turn among all requests, so that a batch keeps nobody waiting.
        replies.push(match app.run(work(&body), move |app| answer(app, &library, &body, MAX_K)).await {
            Ok(reply) => OneReply::Found(reply),
            Err(error) => OneReply::Refused(error.body()),
        });
    }
    Ok(Json(BatchReply { replies }))
}

/// How many neighbours of each kind.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NeighbourParams {
    /// Of each kind, 1 to 50
    #[param(minimum = 1, maximum = 50)]
    k: Option<usize>,
}

/// What lies nearest to an item, kind by kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Neighbours {
    neighbours: Vec<OfKind>,
}

/// The nearest of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfKind {
    kind: crate::wire::Kind,
    hits: Vec<Hit>,
}

/// What lies nearest to an item, in every kind of media that the library has
#[utoipa::path(get, path = "/items/{item}/neighbours", tag = "search", params(("item" = i64, Path, description = "Its number"), NeighbourParams), responses(
    (status = 200, description = "The nearest of each kind", body = Neighbours)
))]
pub(crate) async fn neighbours(
    State(app): State<Arc<App>>,
    Named(item): Named<i64>,
    Params(params): Params<NeighbourParams>,
) -> Result<Json<Neighbours>, ApiError> {
    let k = params.k.unwrap_or(6);
    if !(1..=50).contains(&k) {
        return Err(ApiError::bad_request(format!("k is {k}, expected 1 to 50")));
    }
    let library = app.library()?;
    app.run(Work::Quick, move |app| {
        library.item(item)?;
        let mut neighbours = Vec::new();
        for count in library.info()?.kinds {
            let kind = crate::wire::Kind::from(count.kind);
            let body = SearchBody { k, kinds: vec![kind], ..SearchBody::of(vec![Part::item(item)]) };
            let hits = answer(app, &library, &body, MAX_K)?.hits;
            if !hits.is_empty() {
                neighbours.push(OfKind { kind, hits });
            }
        }
        Ok(Json(Neighbours { neighbours }))
    })
    .await
}
