//! A library over HTTP: the interface for programs under `/api/v1`, the page for people, tools for assistants at `/mcp`.
//!
//! | file | what stands there |
//! | --- | --- |
//! | `guard.rs`, `tokens.rs` | who may ask, and from where |
//! | `app.rs` | what requests share: the library, the bounded room for work, what is kept between requests |
//! | `wire.rs`, `error.rs` | the shapes of requests, answers and refusals |
//! | `search.rs`, `uploads.rs`, `classify.rs`, `explain.rs` | asking |
//! | `items.rs`, `preview.rs`, `shelf.rs` | the items, what is shown of them, and where thumbnails are kept |
//! | `indexing.rs`, `spaces.rs`, `status.rs`, `metrics.rs` | filling the library, and where the server stands |
//! | `page.rs` | the files of `ui/` |
//! | `mcp.rs` | tools for assistants |
//!
//! The document of the interface is made from the handlers and their types and served at `/api/v1/openapi.json`. This crate alone knows HTTP and JSON.
#![forbid(unsafe_code)]

mod app;
mod classify;
mod error;
mod explain;
mod guard;
mod indexing;
mod items;
mod listen;
mod mcp;
mod metrics;
mod page;
mod preview;
mod search;
mod shelf;
mod spaces;
mod status;
mod tokens;
mod uploads;
mod wire;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use chiasm_core::Cancel;
use chiasm_engine::{Library, ModelDirs, Rerank};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::{RefOr, Response as ResponseDocument};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::{ApiError, ErrorBody};
pub use crate::tokens::{Scope, Token, TokenError, Tokens};

/// Bytes of a request in JSON.
const MAX_JSON: usize = 4 << 20;
/// How often it is looked whether the server is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long requests that are being answered may take when it is to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub address: SocketAddr,
    /// The library's folder; it need not be there yet.
    pub library: PathBuf,
    /// Where models are looked for.
    pub models: ModelDirs,
    /// Whether callers need a token of [`Tokens`]. Without, whoever reaches the address may do everything.
    pub tokens: bool,
    /// Whether to listen without tokens where others can reach.
    pub insecure: bool,
    /// Bytes of a file that is sent. Default 64 MiB.
    pub max_upload_bytes: usize,
    /// Requests that may wait for a thread; more are told to come back. Default 256.
    pub max_waiting: usize,
    /// Who looks at the first answers again where that is asked for.
    pub rerank: Option<Rerank>,
}

impl Config {
    /// A server for one person on this machine.
    pub fn new(library: PathBuf, models: ModelDirs) -> Config {
        Config {
            address: SocketAddr::from(([127, 0, 0, 1], 7700)),
            library,
            models,
            tokens: false,
            insecure: false,
            max_upload_bytes: 64 << 20,
            max_waiting: 256,
            rerank: None,
        }
    }

    /// What the library is called: its folder, or the one that it stands in when it is a hidden one.
    pub(crate) fn name(&self) -> String {
        let path = self.library.canonicalize().unwrap_or_else(|_| self.library.clone());
        let named = path.ancestors().filter_map(|folder| folder.file_name()).map(|name| name.to_string_lossy().into_owned());
        named.into_iter().find(|name| !name.starts_with('.')).unwrap_or_else(|| "chiasm".to_owned())
    }
}

/// Why a server did not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address that others can reach, and nothing that says who they are.
    #[error(
        "{0} can be reached from other machines: give `--token` so that callers need one, or `--insecure` where whoever reaches it may do everything"
    )]
    Open(SocketAddr),
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The library cannot be opened.
    #[error(transparent)]
    Library(#[from] chiasm_engine::EngineError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The system gives no threads.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

/// What is logged on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// What went wrong, for people.
    Problems,
    /// Each request, for people.
    Requests,
    /// Each request as a line of JSON.
    Json,
}

/// Begins to log. What was asked is never logged: paths name items, not words.
pub fn log(what: LogTo) {
    let level = if what == LogTo::Problems { tracing::Level::WARN } else { tracing::Level::INFO };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_target(false);
    // Somebody else's log in this process stays.
    let _ = match what {
        LogTo::Json => log.json().flatten_event(true).try_init(),
        LogTo::Problems | LogTo::Requests => log.with_ansi(false).try_init(),
    };
}

/// Serves a library until `stop` says so; `listening` is told the address once it can be asked. What is being answered is finished first, and an
/// indexing that runs stores what it has.
///
/// # Errors
/// [`ServeError`].
pub fn serve(config: Config, stop: &Cancel, listening: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    if !config.address.ip().is_loopback() && !config.tokens && !config.insecure {
        return Err(ServeError::Open(config.address));
    }
    let library = match Library::open(&config.library, &config.models) {
        Ok(library) => Some(library),
        Err(chiasm_engine::EngineError::NoLibrary { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let address = config.address;
    let app = Arc::new(App::new(config, library));
    if app.config.tokens {
        app.tokens.list()?;
    }
    warm_up(&app);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Start)?;
    let served = runtime.block_on(async {
        let listen = |source| ServeError::Listen { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        listening(bound);
        let server = listen::answer(listener, router(&app), app.ending.clone(), listen::HEAD_WITHIN);
        let watched = async {
            while !stop.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            app.ending.cancel();
            app.jobs.stop();
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            () = server => {}
            () = watched => {}
        }
        Ok(())
    });
    // What an indexing has begun is stored before the process ends.
    while app.jobs.is_running() {
        std::thread::sleep(LOOK_EVERY);
    }
    runtime.shutdown_timeout(PATIENCE);
    served
}

/// Opens the index and the encoder of words on a thread of its own, so that the first question does not wait for them.
fn warm_up(app: &Arc<App>) {
    let app = Arc::clone(app);
    let begun = std::thread::Builder::new().name("warm-up".to_owned()).spawn(move || {
        if let Some(library) = app.library_if_any() {
            let body = wire::SearchBody { k: 1, ..wire::SearchBody::of(vec![wire::Part::text("warm up".to_owned())]) };
            let _ = search::answer(&app, &library, &body, wire::MAX_K);
        }
    });
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread to warm up on");
    }
}

/// What the document of the interface says of itself.
#[derive(OpenApi)]
#[openapi(
    info(title = "chiasm", description = "Find anything with anything: pictures, texts, sounds, videos and sensor series."),
    servers((url = "/api/v1")),
    tags(
        (name = "search", description = "Asking"),
        (name = "items", description = "What the library holds"),
        (name = "indexing", description = "Filling it"),
        (name = "library", description = "Making it"),
        (name = "status", description = "Where the server stands")
    ),
    components(schemas(ErrorBody))
)]
struct Document;

/// All routes of a server.
fn router(app: &Arc<App>) -> Router {
    let read = OpenApiRouter::new()
        .routes(routes!(search::search, search::search_by_url))
        .routes(routes!(search::batch))
        .routes(routes!(search::neighbours))
        .routes(routes!(uploads::upload))
        .routes(routes!(uploads::about))
        .routes(routes!(uploads::thumbnail))
        .routes(routes!(uploads::waveform))
        .routes(routes!(classify::classify))
        .routes(routes!(explain::explain))
        .routes(routes!(explain::map))
        .routes(routes!(items::browse))
        .routes(routes!(items::details))
        .routes(routes!(items::facets))
        .routes(routes!(preview::file))
        .routes(routes!(preview::thumbnail))
        .routes(routes!(preview::waveform))
        .routes(routes!(preview::series))
        .routes(routes!(indexing::state))
        .routes(routes!(indexing::events))
        .routes(routes!(status::status));
    let write = OpenApiRouter::new()
        .routes(routes!(items::add))
        .routes(routes!(items::remove))
        .routes(routes!(items::set_tags))
        .route_layer(from_fn(|request: Request, next: Next| guard::need(Scope::Write, request, next)));
    let admin = OpenApiRouter::new()
        .routes(routes!(indexing::start, indexing::stop))
        .routes(routes!(indexing::refused))
        .routes(routes!(indexing::folders))
        .routes(routes!(spaces::spaces))
        .routes(routes!(spaces::create))
        .route_layer(from_fn(|request: Request, next: Next| guard::need(Scope::Admin, request, next)));
    let guarded = read.merge(write).merge(admin).route_layer(from_fn_with_state(Arc::clone(app), guard::who));
    let open = OpenApiRouter::new().routes(routes!(status::login, status::logout));
    let (api, mut document) = OpenApiRouter::with_openapi(Document::openapi()).merge(guarded).merge(open).split_for_parts();
    every_answer_may_be_a_refusal(&mut document);
    let document = Arc::new(document);
    let described = get(move || {
        let document = Arc::clone(&document);
        async move { Json(document.as_ref().clone()) }
    });
    let api = api.route("/openapi.json", described).fallback(guard::nowhere).method_not_allowed_fallback(not_this_way);
    let mcp =
        Router::new().route_service("/mcp", mcp::service(app)).route_layer(from_fn_with_state(Arc::clone(app), guard::who));
    let metrics =
        Router::new().route("/metrics", get(status::metrics)).route_layer(from_fn_with_state(Arc::clone(app), guard::who));
    let page = ["/", "/map", "/library"].into_iter().fold(Router::new(), |router, path| router.route(path, get(page::index)));
    Router::new()
        .nest("/api/v1", api)
        .merge(mcp)
        .merge(metrics)
        .merge(page)
        .route("/ui/{name}", get(page::file))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .fallback(elsewhere)
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), guard::origin))
        .layer(from_fn_with_state(Arc::clone(app), guard::observe))
        .with_state(Arc::clone(app))
}

/// Each operation may be refused, in one shape.
fn every_answer_may_be_a_refusal(document: &mut utoipa::openapi::OpenApi) {
    use utoipa::openapi::content::ContentBuilder;
    use utoipa::openapi::{Ref, ResponseBuilder};
    let refusal = || -> ResponseDocument {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        ResponseBuilder::new().description("A refusal").content("application/json", content).build()
    };
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(refusal()));
        }
    }
}

/// What is at no address: a page for people.
async fn elsewhere(headers: HeaderMap) -> Response {
    page::missing(&headers)
}

async fn not_this_way() -> ApiError {
    ApiError::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address does not take that method")
        .cure("GET /api/v1/openapi.json lists what there is")
}

/// A panic is an error of the program's: it is told and logged, and ends one request alone.
fn panicked(what: Box<dyn Any + Send + 'static>) -> Response {
    let said = what.downcast_ref::<String>().map(String::as_str).or(what.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    ApiError::internal("the request", &said).into_response()
}
