//! Zero-shot classification: labels become texts, texts become vectors, and media take the nearest. With a few files of each label it is few-shot (`examples.rs`).
//!
//! # Reference
//! Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 3.1.4: each prompt's
//! vector at unit length, their mean per label, again at unit length; a softmax over cosines times the model's own scale. Zhai et
//! al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023: a sigmoid of cosine times scale plus bias, each label by itself.
//! Checked against both classes of transformers, see `reference/engine_classify.py`.
//! A space that was fitted here has no scale. For scores of related and of unrelated pairs
//! that are normal with the same deviation s and means m1 and m0, the log-odds of "related" grow by (m1 - m0) / s^2 per unit of
//! score: that is the factor, measured on the space's reference pairs. Without pairs it is 1 / s, and without references 1.
//! Examples add to a label's logit what Tip-Adapter's cache says (Zhang et al., ECCV 2022; `chiasm_align::adapter`), whose weights are chosen by leaving one example out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chiasm_align::adapter::Cached;
use chiasm_core::{Cancel, MatrixView, Media, Modality, Progress};
use serde::Serialize;

use crate::calibrate::PairScores;
use crate::examples::{LabelledFiles, Shots};
use crate::space::mean;
use crate::{Embedded, EngineError, Language, Prompts, Result, Space};

/// Texts that are embedded in one call of an encoder.
const TEXTS_AT_A_TIME: usize = 256;

/// A label and how well it fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// Closeness of the media to the label's vector.
    pub score: f32,
    /// Under [`Squash::Softmax`] its share among the labels given, 0..=1, summing to 1, which says nothing of labels that were not
    /// given; under [`Squash::Sigmoid`] the probability that it fits, whatever the others do.
    pub probability: f32,
}

/// What makes probabilities of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Squash {
    /// Shares among all labels.
    Softmax,
    /// Each label by itself.
    Sigmoid,
}

/// How closeness becomes probability: `squash(scale * score + bias)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Logits {
    /// What makes probabilities of logits.
    pub squash: Squash,
    /// The model's own where it brings one; else measured on the space's reference pairs.
    pub scale: f64,
    /// 0 where the model has none.
    pub bias: f64,
}

/// Labels made ready for any number of media.
pub struct Classifier<'a> {
    space: &'a Space,
    labels: Vec<String>,
    prompts: Prompts,
    language: Option<Language>,
    shots: Shots,
    /// By the kind of media that is asked.
    ready: Mutex<BTreeMap<Modality, Arc<Ready>>>,
}

/// What media of one kind are compared with, and how.
struct Ready {
    /// `[labels, dim]`, unit rows.
    vectors: Vec<f32>,
    logits: Logits,
    /// Names and examples together, where there are examples of the kind.
    cached: Option<Cached>,
}

impl<'a> Classifier<'a> {
    /// Takes labels and the sentences they are put in, in the labels' own language unless one is given.
    ///
    /// # Errors
    /// [`EngineError::Query`] for no labels, an empty one, or a sentence without `{}`; those of [`Space::embed`].
    pub fn new(space: &'a Space, labels: &[String], prompts: &Prompts, language: Option<Language>) -> Result<Self> {
        if labels.is_empty() {
            return Err(EngineError::Query("no labels to choose from: pass at least one, better two".to_owned()));
        }
        if let Some(bad) = labels.iter().find(|label| label.chars().all(|c| c.is_whitespace() || c == '|' || c == '_')) {
            return Err(EngineError::Query(format!("the label `{bad}` has no name in it")));
        }
        prompts.check()?;
        let (shots, ready) = (Shots::default(), Mutex::default());
        let classifier = Classifier { space, labels: labels.to_vec(), prompts: prompts.clone(), language, shots, ready };
        // Faults of labels and models are told now, not with each file.
        let kinds = space.modalities();
        let first = kinds.iter().find(|kind| **kind != Modality::Text).or(kinds.first());
        classifier.ready(first.copied().unwrap_or(Modality::Text))?;
        Ok(classifier)
    }

    /// The same with examples of its labels, which count for media of their own kind beside the labels' names; files of other labels are passed over. Also why some could
    /// not be used, a line each.
    ///
    /// # Errors
    /// Those of [`Space::embed`]; [`EngineError::Cancelled`].
    pub fn with_examples(
        mut self,
        files: &LabelledFiles,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Self, Vec<String>)> {
        let (shots, refused) = Shots::embed(self.space, &self.labels, files, progress, cancel)?;
        self.shots = shots;
        self.ready = Mutex::default();
        Ok((self, refused))
    }

    /// How many examples count for media of a kind.
    pub fn n_examples(&self, kind: Modality) -> usize {
        self.shots.count(kind)
    }

    /// The labels with their scores, best first.
    ///
    /// # Errors
    /// Those of [`Space::embed`].
    pub fn classify(&self, media: &Media) -> Result<Vec<LabelScore>> {
        self.ranked(media.modality(), &self.space.embed_query(media)?)
    }

    /// The same for media whose vectors were made before.
    ///
    /// # Errors
    /// [`EngineError::NoView`], [`EngineError::NoEncoder`] where the space has no vector of them; those of [`Space::embed`].
    pub fn classify_embedded(&self, embedded: &Embedded) -> Result<Vec<LabelScore>> {
        self.ranked(embedded.modality(), embedded.vector(self.space)?)
    }

    fn ranked(&self, kind: Modality, x: &[f32]) -> Result<Vec<LabelScore>> {
        let ready = self.ready(kind)?;
        let scores: Vec<f32> = ready
            .vectors
            .chunks_exact(self.space.dim())
            .map(|label| crate::calibrate::closeness(self.space.metric(), x, label))
            .collect();
        let probabilities = match &ready.cached {
            None => ready.logits.probabilities(&scores),
            Some(cached) => {
                let asked = MatrixView::new(x, self.space.dim());
                let asked = asked.map_err(|source| EngineError::Numbers { what: "what is classified".to_owned(), source })?;
                ready.logits.squashed(cached.logits(asked).map_err(crate::fit::stopped)?.row(0))
            }
        };
        let row = |((label, score), probability): ((&String, &f32), f64)| LabelScore {
            label: label.clone(),
            score: *score,
            probability: probability as f32,
        };
        let mut ranked: Vec<LabelScore> = self.labels.iter().zip(&scores).zip(probabilities).map(row).collect();
        // Without examples the order of the scores, which tells apart what rounds to one probability.
        let by_examples = |label: &LabelScore| if ready.cached.is_some() { label.probability } else { 0.0 };
        ranked.sort_by(|a, b| {
            let certain = by_examples(b).total_cmp(&by_examples(a));
            certain.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.label.cmp(&b.label))
        });
        Ok(ranked)
    }

    /// How closeness of media of a kind becomes probability.
    ///
    /// # Errors
    /// Those of [`Space::embed`].
    pub fn logits(&self, media: Modality) -> Result<Logits> {
        Ok(self.ready(media)?.logits)
    }

    /// What media of a kind are compared with, made when first asked for.
    fn ready(&self, media: Modality) -> Result<Arc<Ready>> {
        // Held while it is made: others who ask would only make the same.
        let mut made = self.ready.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(ready) = made.get(&media) {
            return Ok(Arc::clone(ready));
        }
        let texts = |label: &String| self.prompts.texts(media, self.space.is_of_model(), label, self.language);
        let texts: Vec<Vec<String>> = self.labels.iter().map(texts).collect();
        let all: Vec<Media> = texts.iter().flatten().cloned().map(Media::Text).collect();
        let dim = self.space.dim();
        let mut rows = Vec::with_capacity(all.len() * dim);
        for some in all.chunks(TEXTS_AT_A_TIME) {
            rows.extend_from_slice(self.space.embed(some)?.data());
        }
        let mut vectors = Vec::with_capacity(texts.len() * dim);
        let mut rows = rows.chunks_exact(dim);
        for of_label in &texts {
            vectors.extend(mean(rows.by_ref().take(of_label.len()), dim, self.space.metric()));
        }
        let logits = Logits::of(self.space, media)?;
        let cached = self.shots.cached(media, &vectors, dim, logits.scale)?;
        let ready = Arc::new(Ready { vectors, logits, cached });
        made.insert(media, Arc::clone(&ready));
        Ok(ready)
    }
}

impl Logits {
    fn of(space: &Space, media: Modality) -> Result<Self> {
        if let Some(own) = space.temperature(media)? {
            let squash = if own.bias.is_some() { Squash::Sigmoid } else { Squash::Softmax };
            return Ok(Logits { squash, scale: own.scale, bias: own.bias.unwrap_or(0.0) });
        }
        let measured = PairScores::of_references(space, media, Modality::Text);
        Ok(Logits { squash: Squash::Softmax, scale: measured.map_or(1.0, |p| p.log_odds_per_score()), bias: 0.0 })
    }

    fn probabilities(&self, scores: &[f32]) -> Vec<f64> {
        self.squashed(&scores.iter().map(|score| self.scale * f64::from(*score)).collect::<Vec<_>>())
    }

    /// Probabilities of `scale * score`, or of what stands in its place.
    fn squashed(&self, scaled: &[f64]) -> Vec<f64> {
        if self.squash == Squash::Sigmoid {
            return scaled.iter().map(|s| 1.0 / (1.0 + (-(s + self.bias)).exp())).collect();
        }
        let greatest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scaled.iter().map(|s| (s - greatest).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }
}
