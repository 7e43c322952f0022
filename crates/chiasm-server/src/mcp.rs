//! Tools for assistants, by the Model Context Protocol over HTTP: search, similar, describe_item, classify.
//!
//! A tool that ran and found nothing, or was asked for what is not there, says so in its result, where an assistant reads it; only a tool that does not
//! exist, or arguments of another shape, are errors of the protocol.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode, ErrorData, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::{App, Work};
use crate::classify::{ClassifyBody, judge};
use crate::error::ApiError;
use crate::search::answer;
use crate::wire::{ItemBody, Kind, Part, SearchBody};

/// Answers that an assistant gets at most: more would fill its mind.
const MAX_K: usize = 100;
const DEFAULT_K: usize = 10;

/// The tools of a server.
#[derive(Clone)]
pub(crate) struct Tools {
    app: Arc<App>,
}

/// The service to be mounted; whose name it may be called by is checked before it, as for all routes.
pub(crate) fn service(app: &Arc<App>) -> StreamableHttpService<Tools, NeverSessionManager> {
    let tools = Tools { app: Arc::clone(app) };
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_cancellation_token(app.ending.child_token())
        .disable_allowed_hosts()
        .with_max_request_body_bytes(1 << 20);
    StreamableHttpService::new(move || Ok(tools.clone()), Arc::default(), config)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchArgs {
    query: String,
    #[serde(default)]
    not: Option<String>,
    #[serde(default)]
    k: Option<usize>,
    #[serde(default)]
    kinds: Vec<Kind>,
    #[serde(default, rename = "where")]
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimilarArgs {
    item: i64,
    #[serde(default)]
    k: Option<usize>,
    #[serde(default)]
    kinds: Vec<Kind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribeArgs {
    item: i64,
}

fn schema(properties: Value, required: &[&str]) -> Arc<JsonObject> {
    let schema = json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}

fn tools() -> Vec<Tool> {
    let k = json!({ "type": "integer", "minimum": 1, "maximum": MAX_K, "description": format!("How many answers; {DEFAULT_K} when absent") });
    let kinds = json!({ "type": "array", "items": { "type": "string", "enum": ["image", "text", "audio", "series", "video"] }, "description": "Only these kinds of media" });
    let item = json!({ "type": "integer", "description": "The item's number, as search gives it" });
    let mut tools = vec![
        Tool::new(
            "search",
            "Find pictures, texts, sounds, videos and sensor series of the library by words, whatever their kind. Each hit has a strength: strong, fair, or weak, which is as good as chance.",
            schema(
                json!({
                    "query": { "type": "string", "description": "What to look for, in words" },
                    "not": { "type": "string", "description": "What to keep away from, in words" },
                    "k": k,
                    "kinds": kinds,
                    "where": { "type": "string", "description": "A filter, such as: taken >= 2020 AND folder = 'trips/*' AND size < 2MB" },
                }),
                &["query"],
            ),
        ),
        Tool::new(
            "similar",
            "Find what is like an item of the library, in the same or another kind of media.",
            schema(json!({ "item": item, "k": k, "kinds": kinds }), &["item"]),
        ),
        Tool::new(
            "describe_item",
            "What is known of an item: where it lies, size, date, place, captions, the beginning of its text, tags.",
            schema(json!({ "item": item }), &["item"]),
        ),
        Tool::new(
            "classify",
            "Choose which of some labels fits an item or a text best, without training.",
            schema(
                json!({
                    "labels": { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 1000 },
                    "item": item,
                    "text": { "type": "string", "description": "Words to be labelled, in place of an item" },
                }),
                &["labels"],
            ),
        ),
    ];
    // None of them changes anything.
    tools.iter_mut().for_each(|tool| tool.annotations = Some(ToolAnnotations::new().read_only(true).open_world(false)));
    tools
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("chiasm", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(
            "A library of pictures, texts, sounds, videos and sensor series in which one finds the other. Start with `search`; items are named by their numbers."
                .to_owned(),
        );
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let done = match request.name.as_ref() {
            "search" => self.search(read(arguments)?).await,
            "similar" => self.similar(read(arguments)?).await,
            "describe_item" => self.describe(read(arguments)?).await,
            "classify" => self.classify(read(arguments)?).await,
            unknown => {
                let has = tools().into_iter().map(|tool| tool.name).collect::<Vec<Cow<'_, str>>>().join(", ");
                let message = format!("there is no tool `{unknown}`: there are {has}");
                return Err(ErrorData::new(ErrorCode::INVALID_PARAMS, message, None));
            }
        };
        Ok(match done {
            Ok(value) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(value.to_string())]);
                result.structured_content = Some(value);
                result.into()
            }
            Err(error) => {
                let detail = error.detail();
                let text = serde_json::to_string(&detail).unwrap_or_else(|_| error.message().to_owned());
                CallToolResult::error(vec![ContentBlock::text(text)]).into()
            }
        })
    }
}

fn read<T: DeserializeOwned>(arguments: Value) -> Result<T, ErrorData> {
    serde_json::from_value(arguments)
        .map_err(|e| ErrorData::invalid_params(format!("the arguments are of another shape: {e}"), None))
}

fn value(of: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(of).map_err(|e| ApiError::internal("writing a result", &e))
}

fn k(given: Option<usize>) -> Result<usize, ApiError> {
    match given.unwrap_or(DEFAULT_K) {
        k @ 1..=MAX_K => Ok(k),
        k => Err(ApiError::bad_request(format!("k is {k}, expected 1 to {MAX_K}"))),
    }
}

impl Tools {
    async fn search(&self, args: SearchArgs) -> Result<Value, ApiError> {
        let k = k(args.k)?;
        let not = args.not.filter(|words| !words.trim().is_empty()).map(|words| Part::text(words).weighing(-1.0));
        let query = std::iter::once(Part::text(args.query)).chain(not).collect();
        let body = SearchBody { k, kinds: args.kinds, filter: args.filter, ..SearchBody::of(query) };
        self.answer(body).await
    }

    async fn similar(&self, args: SimilarArgs) -> Result<Value, ApiError> {
        let body = SearchBody { k: k(args.k)?, kinds: args.kinds, ..SearchBody::of(vec![Part::item(args.item)]) };
        self.answer(body).await
    }

    async fn answer(&self, body: SearchBody) -> Result<Value, ApiError> {
        let library = self.app.library()?;
        self.app.run(Work::Quick, move |app| value(&answer(app, &library, &body, MAX_K)?)).await
    }

    async fn describe(&self, args: DescribeArgs) -> Result<Value, ApiError> {
        let library = self.app.library()?;
        self.app
            .run(Work::Quick, move |_| {
                let details = library.details(args.item)?;
                let item = value(&ItemBody::from(details.entry))?;
                Ok(json!({ "item": item, "captions": details.captions, "text": details.text }))
            })
            .await
    }

    async fn classify(&self, body: ClassifyBody) -> Result<Value, ApiError> {
        let library = self.app.library()?;
        self.app.run(Work::Slow, move |app| value(&judge(app, &library, &body)?)).await
    }
}
