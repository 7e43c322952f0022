//! Why an item was found, and where all of them lie.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use chiasm_core::{Cancel, NoProgress};
use chiasm_engine::{ExplainRequest, Explanation, SpaceMap};
use chiasm_media::Limits;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Work};
use crate::error::ApiError;
use crate::metrics::Stage;
use crate::wire::{In, Params, Part, query};

/// What is to be explained.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainBody {
    /// The question, as it was asked
    #[schema(min_items = 1, max_items = 32)]
    query: Vec<Part>,
    /// The answer
    item: i64,
    /// Models to ask; all when empty
    #[serde(default)]
    lanes: Vec<String>,
    /// Whether to tell what each word brought
    #[serde(default)]
    words: bool,
    /// Whether to tell what each part of the item brought
    #[serde(default)]
    heat: bool,
}

/// Why an item was found: what each model sees, what each word and each part of the item brought
///
/// Parts of the item are hidden in turn and the rest is encoded again, which takes a second or more.
#[utoipa::path(post, path = "/explain", tag = "search", request_body = ExplainBody, responses(
    (status = 200, description = "Why", body = Explanation)
))]
pub(crate) async fn explain(State(app): State<Arc<App>>, In(body): In<ExplainBody>) -> Result<Json<Explanation>, ApiError> {
    let library = app.library()?;
    app.run(Work::Slow, move |app| {
        let started = Instant::now();
        let mut space = None;
        let query = query(&body.query, app, &library, &mut space, false)?;
        let ExplainBody { item, words, heat, lanes, .. } = body;
        let request = ExplainRequest { query, item, lanes, words, heat, limits: Limits::default() };
        let explanation = library.explain(&request, &Cancel::default())?;
        app.metrics.stage(Stage::Explain, started.elapsed());
        Ok(Json(explanation))
    })
    .await
}

/// Items on a map.
const MAX_MAPPED: usize = 20_000;

/// What the map is of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MapParams {
    /// How many items at most, 1 to 20,000
    #[param(minimum = 1, maximum = 20000)]
    n: Option<usize>,
    /// The model that sees them; the first when absent
    lane: Option<String>,
}

/// Where items lie to one another, in two dimensions: kept until the library changes
#[utoipa::path(get, path = "/map", tag = "search", params(MapParams), responses((status = 200, description = "A map", body = SpaceMap)))]
pub(crate) async fn map(State(app): State<Arc<App>>, Params(params): Params<MapParams>) -> Result<Json<SpaceMap>, ApiError> {
    let n = params.n.unwrap_or(10_000);
    if !(1..=MAX_MAPPED).contains(&n) {
        return Err(ApiError::bad_request(format!("n is {n}, expected 1 to {MAX_MAPPED}")));
    }
    let library = app.library()?;
    app.run(Work::Slow, move |_| Ok(Json(library.map(n, params.lane.as_deref(), &NoProgress, &Cancel::default())?))).await
}
