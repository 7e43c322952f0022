//! Which of some labels fits best, without training on any of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chiasm_core::Modality;
use chiasm_engine::{Classifier, Embedded, Library, Prompts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, Work};
use crate::error::ApiError;
use crate::wire::In;

const MAX_LABELS: usize = 1_000;
const MAX_LABEL_CHARS: usize = 200;

/// What to choose among, and for what: exactly one of `item`, `upload`, `text`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassifyBody {
    /// Names to choose from; `|` between names of one thing
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) labels: Vec<String>,
    /// An item of the library
    pub(crate) item: Option<i64>,
    /// What POST /uploads gave
    pub(crate) upload: Option<String>,
    /// Words
    pub(crate) text: Option<String>,
    /// The model to ask; the first that knows the kind when absent
    pub(crate) lane: Option<String>,
}

/// How well a label fits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LabelBody {
    label: String,
    /// Closeness
    score: f32,
    /// Among the labels given
    probability: f32,
}

/// The labels, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LabelsBody {
    lane: String,
    labels: Vec<LabelBody>,
}

/// Choose among labels, without training on them
#[utoipa::path(post, path = "/classify", tag = "search", request_body = ClassifyBody, responses(
    (status = 200, description = "Labels, best first", body = LabelsBody)
))]
pub(crate) async fn classify(State(app): State<Arc<App>>, In(body): In<ClassifyBody>) -> Result<Json<LabelsBody>, ApiError> {
    let library = app.library()?;
    app.run(Work::Slow, move |app| judge(app, &library, &body).map(Json)).await
}

/// The labels in their order.
pub(crate) fn judge(app: &App, library: &Library, body: &ClassifyBody) -> Result<LabelsBody, ApiError> {
    if body.labels.is_empty() || body.labels.len() > MAX_LABELS {
        return Err(ApiError::bad_request(format!("{} labels came, expected 1 to {MAX_LABELS}", body.labels.len())));
    }
    if body.labels.iter().any(|label| label.chars().count() > MAX_LABEL_CHARS) {
        return Err(ApiError::bad_request(format!("a label has more than {MAX_LABEL_CHARS} characters")));
    }
    let asked: Arc<Embedded> = match (body.item, &body.upload, &body.text) {
        (Some(item), None, None) => Arc::new(library.embedded_item(item)?),
        (None, Some(upload), None) => {
            let missing = || ApiError::not_found("no_such_upload", format!("there is no upload `{upload}` any more"));
            Arc::clone(&app.uploads.get(upload).ok_or_else(missing)?.embedded)
        }
        (None, None, Some(text)) if !text.trim().is_empty() => app.embed_text(library, text.trim())?,
        _ => return Err(ApiError::bad_request("give exactly one of item, upload, text")),
    };
    let named: Vec<String> = body.lane.iter().cloned().collect();
    let lanes = library.lanes_named(&named)?;
    let knows = |kind: Modality| {
        move |space: &chiasm_engine::Space| space.can_embed(Modality::Text) && space.modalities().contains(&kind)
    };
    let lane = lanes.iter().find(|lane| knows(asked.modality())(lane.space())).or(lanes.first());
    let lane = lane.ok_or_else(|| ApiError::bad_request("the library has no lane"))?;
    let classifier = Classifier::new(lane.space(), &body.labels, &Prompts::Suitable, None)?;
    let labels = classifier.classify_embedded(&asked)?.into_iter();
    let labels = labels.map(|l| LabelBody { label: l.label, score: l.score, probability: l.probability }).collect();
    Ok(LabelsBody { lane: lane.name().to_owned(), labels })
}
