//! What stands between the network and the handlers: the request's number, log and figures; whether it comes from where it may; who asks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::app::App;
use crate::error::ApiError;
use crate::tokens::Scope;

/// The cookie that the page's login sets.
pub(crate) const COOKIE: &str = "chiasm_token";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static ID: String;
}

/// The number of the request that is being answered; empty outside of one.
pub(crate) fn request_id() -> String {
    ID.try_with(Clone::clone).unwrap_or_default()
}

/// Gives each request a number, times it, writes its line in the log, and puts on the answer what keeps a browser from doing more with it than
/// is meant.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = format!("{:016x}", rand::random::<u64>());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // The route, not the path: a metric for each item would never end.
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "unknown".to_owned(), |p| p.as_str().to_owned());
    let mut response = ID.scope(id.clone(), next.run(request)).await;
    let took = started.elapsed();
    app.metrics.request(&method, &route, response.status(), took);
    let status = response.status().as_u16();
    let ms = took.as_secs_f64() * 1e3;
    // Paths name items, never what was asked: queries of people stay out of the log.
    tracing::info!(id, %method, path, status, ms, "request");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    let mut set = |name: HeaderName, value: &'static str| _ = headers.entry(name).or_insert(HeaderValue::from_static(value));
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    set(header::CACHE_CONTROL, "no-store");
    response
}

/// Refuses what another site's page makes a browser send. Without tokens everybody who reaches the server may do everything, so the name that it was
/// called by must be one of this machine's: a foreign name that leads here is an attack (DNS rebinding).
pub(crate) async fn origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match foreign(&app, &request) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

fn foreign(app: &App, request: &Request) -> Option<ApiError> {
    let forbidden = |message: String| ApiError::new(StatusCode::FORBIDDEN, "forbidden", message);
    let headers = request.headers();
    let host = text(headers, &header::HOST).or(request.uri().authority().map(|a| a.as_str())).unwrap_or_default();
    if !app.config.tokens && !app.config.insecure && !is_here(host) {
        let error =
            forbidden(format!("the server was called `{host}`, without tokens it answers to names of this machine only"));
        return Some(error.cure("open http://127.0.0.1, or start the server with --token"));
    }
    if request.method().is_safe() {
        return None;
    }
    let from_elsewhere = match text(headers, &header::ORIGIN) {
        Some(origin) => origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host)),
        None => text(headers, &HeaderName::from_static("sec-fetch-site"))
            .is_some_and(|site| site != "same-origin" && site != "none"),
    };
    from_elsewhere.then(|| forbidden("a page of another site asked for a change".to_owned()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a `Host` names this machine itself.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Finds out who asks; handlers find a [`Scope`] among the request's extensions.
pub(crate) async fn who(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match scope(&app, request.headers()) {
        Ok(scope) => {
            request.extensions_mut().insert(scope);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn scope(app: &App, headers: &HeaderMap) -> Result<Scope, ApiError> {
    if !app.config.tokens {
        return Ok(Scope::Admin);
    }
    let unauthorized = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    let bearer = text(headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.map(str::trim).or_else(|| cookie(headers));
    let Some(given) = given else {
        let cure = "send `Authorization: Bearer TOKEN`; `chiasm token add NAME` makes one";
        return Err(unauthorized("this server wants a token").cure(cure));
    };
    match app.tokens.scope_of(given) {
        Ok(Some(scope)) => Ok(scope),
        Ok(None) => Err(unauthorized("the token is not known").cure("`chiasm token add NAME` makes a new one")),
        Err(error) => Err(ApiError::internal("reading the tokens", &error)),
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// Lets through whom `needed` is within the scope of.
pub(crate) async fn need(needed: Scope, request: Request, next: Next) -> Response {
    let has = request.extensions().get::<Scope>().copied();
    match has {
        Some(scope) if scope >= needed => next.run(request).await,
        _ => {
            let message = format!("this needs a token of scope {}", needed.as_str());
            ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
                .cure(format!("`chiasm token add NAME --scope {}` makes one", needed.as_str()))
                .into_response()
        }
    }
}

/// What is not there, and what is asked in a way that is not there.
pub(crate) async fn nowhere(method: Method) -> ApiError {
    ApiError::not_found("not_found", format!("there is nothing at this address for {method}"))
        .cure("GET /api/v1/openapi.json lists what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_here() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:7777", "127.9.9.9", "[::1]:7777", "[::1]"] {
            assert!(is_here(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "0.0.0.0"]
        {
            assert!(!is_here(host), "{host}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; chiasm_token=x; c=d"));
        assert_eq!(cookie(&headers), Some("x"));
        headers.clear();
        headers.append(header::COOKIE, HeaderValue::from_static("not_chiasm_token=x"));
        assert_eq!(cookie(&headers), None);
    }
}
