//! What a request may be refused with: a status, a code for programs, and for people what is wrong and what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chiasm_core::EncodeError;
use chiasm_engine::EngineError;
use chiasm_media::MediaError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::guard::request_id;

/// Why a request was refused.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    cure: Option<String>,
    /// Character of a filter.
    at: Option<usize>,
    retry_after_s: Option<u64>,
}

/// The body of every answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// For programs, such as `no_such_item`
    code: &'static str,
    /// What is wrong, in a sentence
    message: String,
    /// What to do about it
    cure: Option<String>,
    /// The character of a filter that is at fault, counted from 0
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<usize>,
    /// As in the header X-Request-Id and in the server's log
    request_id: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status, code, message: message.into(), cure: None, at: None, retry_after_s: None }
    }

    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn busy() -> Self {
        let mut error =
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "busy", "as many requests as may wait are waiting already");
        error.retry_after_s = Some(1);
        error.cure("ask again in a second")
    }

    pub(crate) fn too_large(what: &str, limit: usize) -> Self {
        let message = format!("{what} is larger than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(crate) fn no_library() -> Self {
        let error = ApiError::new(StatusCode::CONFLICT, "no_library", "there is no library yet");
        error.cure("make one with POST /api/v1/library, or `chiasm index DIR --model NAME`")
    }

    /// Something of the server's own went wrong: told in the log, not to a stranger.
    pub(crate) fn internal(doing: &str, source: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %source, doing, "a request failed");
        let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{doing} failed"));
        error.cure("the server's log says why, under the request's id")
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody { error: self.detail() }
    }

    pub(crate) fn detail(&self) -> ErrorDetail {
        let ApiError { code, message, cure, at, .. } = self.clone();
        ErrorDetail { code, message, cure, at, request_id: request_id() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chiasm\""));
        }
        response
    }
}

impl From<EngineError> for ApiError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "whatever is not a fault of the request is one of the server's own")]
    fn from(error: EngineError) -> Self {
        let (status, code) = match &error {
            EngineError::NoSuchItem(_) => (StatusCode::NOT_FOUND, "no_such_item"),
            EngineError::NoSuchLane { .. } => (StatusCode::BAD_REQUEST, "no_such_lane"),
            EngineError::Filter(filter) => {
                let at = Some(filter.at);
                return ApiError { at, ..ApiError::new(StatusCode::BAD_REQUEST, "bad_filter", error.to_string()) };
            }
            EngineError::Query(_)
            | EngineError::OneAtATime
            | EngineError::ForeignSpace { .. }
            | EngineError::Search(_)
            | EngineError::Numbers { .. }
            | EngineError::FitRequest(_)
            | EngineError::Tag { .. }
            | EngineError::Import(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            EngineError::NoView { .. }
            | EngineError::NoEncoder { .. }
            | EngineError::Encode(EncodeError::Unencodable { .. } | EncodeError::Modality { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable")
            }
            EngineError::Media { source, .. } => return ApiError::from(source),
            EngineError::Locked { .. } | EngineError::LanesChanged { .. } | EngineError::ItemFile { .. } => {
                (StatusCode::CONFLICT, "conflict")
            }
            EngineError::LibraryExists { .. } | EngineError::LaneExists { .. } => (StatusCode::CONFLICT, "conflict"),
            EngineError::Model(_) | EngineError::ForeignEncoder { .. } | EngineError::Cancelled(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            EngineError::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            EngineError::SpaceFile { .. } | EngineError::NotALibrary { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable")
            }
            other => return ApiError::internal("the request", other),
        };
        // What the engine says names the thing, what came, what was expected and the cure in one sentence.
        ApiError::new(status, code, error.to_string())
    }
}

impl From<&MediaError> for ApiError {
    fn from(error: &MediaError) -> Self {
        let (status, code) = if matches!(error, MediaError::TooLarge { .. }) {
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        } else {
            (StatusCode::UNPROCESSABLE_ENTITY, "unsupported_media")
        };
        ApiError::new(status, code, error.to_string())
    }
}
