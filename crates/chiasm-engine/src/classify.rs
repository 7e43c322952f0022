//! Zero-shot classification: labels become texts, texts become vectors, and media take the nearest.
//!
//! # Reference
//! Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 3.1.4: each prompt's
//! vector at unit length, their mean per label, again at unit length.
//! Differs from it in the softmax, which there has a learned temperature. Here, for scores of related and of unrelated pairs
//! that are normal with the same deviation s and means m1 and m0, the log-odds of "related" grow by (m1 - m0) / s^2 per unit of
//! score: that is the factor, measured on the space's reference pairs. Without pairs it is 1 / s, and without references 1.

use chiasm_core::{Media, Modality};
use serde::Serialize;

use crate::calibrate::PairScores;
use crate::space::mean;
use crate::{EngineError, Result, Space};

/// Prompts that are used when none are given; `{}` is the label. Plain, since they must serve pictures and sounds.
pub const DEFAULT_TEMPLATES: [&str; 3] = ["{}", "a {}", "this is a {}"];

/// A label and how well it fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// Closeness of the media to the label's vector.
    pub score: f32,
    /// Share among the labels given, 0..=1, summing to 1: it says nothing of labels that were not given.
    pub probability: f32,
}

/// Labels made ready for any number of media.
pub struct Classifier<'a> {
    space: &'a Space,
    labels: Vec<String>,
    /// `[labels, dim]`, unit rows.
    vectors: Vec<f32>,
}

impl<'a> Classifier<'a> {
    /// Embeds every label in every template (`{}` stands for the label; [`DEFAULT_TEMPLATES`] when none are given).
    ///
    /// # Errors
    /// [`EngineError::Query`] for no labels or a template without `{}`; those of [`Space::embed`].
    pub fn new(space: &'a Space, labels: &[String], templates: &[String]) -> Result<Self> {
        if labels.is_empty() {
            return Err(EngineError::Query("no labels to choose from: pass at least one, better two".to_owned()));
        }
        if let Some(bad) = templates.iter().find(|t| !t.contains("{}")) {
            return Err(EngineError::Query(format!("the template `{bad}` has no `{{}}` where the label goes")));
        }
        let defaults = || DEFAULT_TEMPLATES.map(str::to_owned).to_vec();
        let templates = if templates.is_empty() { defaults() } else { templates.to_vec() };
        let mut vectors = Vec::with_capacity(labels.len() * space.dim());
        for label in labels {
            let prompts: Vec<Media> = templates.iter().map(|t| Media::Text(t.replace("{}", label))).collect();
            vectors.extend(mean(space.embed(&prompts)?.rows(), space.dim(), space.metric()));
        }
        Ok(Classifier { space, labels: labels.to_vec(), vectors })
    }

    /// The labels with their scores, best first.
    ///
    /// # Errors
    /// Those of [`Space::embed`].
    pub fn classify(&self, media: &Media) -> Result<Vec<LabelScore>> {
        let x = self.space.embed_query(media)?;
        let scores: Vec<f32> = self
            .vectors
            .chunks_exact(self.space.dim())
            .map(|label| crate::calibrate::closeness(self.space.metric(), &x, label))
            .collect();
        let factor =
            PairScores::of_references(self.space, media.modality(), Modality::Text).map_or(1.0, |p| p.log_odds_per_score());
        let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = scores.iter().map(|s| (factor * f64::from(s - greatest)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let row = |((label, score), weight): ((&String, &f32), &f64)| LabelScore {
            label: label.clone(),
            score: *score,
            probability: (weight / total) as f32,
        };
        let mut ranked: Vec<LabelScore> = self.labels.iter().zip(&scores).zip(&weights).map(row).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.label.cmp(&b.label)));
        Ok(ranked)
    }
}
