//! Figures for operators, in the text format that Prometheus reads: requests by route, and where a search spends its time.

use std::fmt;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

/// Where the time of a request goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Waiting for a thread.
    Queue,
    /// Decoding an upload.
    Decode,
    /// Making the vectors of what is asked with.
    Encode,
    /// Ranking and reading what was found.
    Search,
    /// Making a thumbnail.
    Thumbnail,
    /// Making an explanation.
    Explain,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Queue => "queue",
            Stage::Decode => "decode",
            Stage::Encode => "encode",
            Stage::Search => "search",
            Stage::Thumbnail => "thumbnail",
            Stage::Explain => "explain",
        }
    }
}

/// The figures of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    stages: Family<StageLabels, Histogram>,
    /// Requests that wait for a thread.
    pub(crate) waiting: Gauge,
    /// Requests that were turned away since too many waited.
    pub(crate) turned_away: Counter,
    items: Gauge<i64, std::sync::atomic::AtomicI64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// From a tenth of a millisecond to 26 seconds.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("chiasm");
        let requests = Family::default();
        let seconds: Family<RouteLabels, Histogram> = Family::new_with_constructor(latencies);
        let stages: Family<StageLabels, Histogram> = Family::new_with_constructor(latencies);
        let (waiting, turned_away, items) = (Gauge::default(), Counter::default(), Gauge::default());
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_seconds", "Time from a request to its answer", seconds.clone());
        registry.register("stage_seconds", "Time by what it went to", stages.clone());
        registry.register("waiting_requests", "Requests that wait for a thread", waiting.clone());
        registry.register("turned_away", "Requests refused since too many waited", turned_away.clone());
        registry.register("items", "Items of the library", items.clone());
        Metrics { registry, requests, seconds, stages, waiting, turned_away, items }
    }

    pub(crate) fn request(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let labels = RequestLabels { route: route.to_owned(), method: method.as_str().to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&RouteLabels { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage: stage.name() }).observe(took.as_secs_f64());
    }

    pub(crate) fn items(&self, n: usize) {
        self.items.set(n as i64);
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
