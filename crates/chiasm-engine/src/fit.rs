//! Learning a space from pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use chiasm_align::{self as align, About, Draft, Figures, FitError, MethodConfig, Pairs, PipelineSpace, Run, Step, conse};
use chiasm_core::{Cancel, Encoder, Media, Metric, Modality, Progress, SharedSpace, Vectors};
use chiasm_encode::ModelDirs;
use serde::{Deserialize, Serialize};

use crate::embed_table::{Rows, embed_table};
use crate::space::{References, View, mean};
use crate::{EngineError, PairTable, Result, Space};

/// Which part of a class's name is embedded: ImageNet's are lists such as `tench, Tinca tinca`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassNames {
    /// The mean of all synonyms' vectors.
    #[default]
    AllSynonyms,
    /// The first synonym.
    First,
    /// The list as it stands.
    Whole,
}

/// What to learn.
#[derive(Clone, Debug, Default)]
pub struct FitRequest {
    /// Name of the space.
    pub name: String,
    /// Encoder by modality, as `chiasm model list` names them, or paths.
    pub encoders: BTreeMap<Modality, String>,
    /// `cca`, `mcca`, `pls`, `ridge`, or `conse`, which needs no pairs.
    pub method: String,
    /// The table of pairs, see [`crate::PairTable`]; for `conse` alone it may be absent.
    pub pairs: Option<PathBuf>,
    /// Where the table's paths begin.
    pub root: PathBuf,
    /// Folds of the cross-validation that chooses hyper-parameters and measures the space. Default 5.
    pub folds: Option<usize>,
    /// Decides every random choice.
    pub seed: u64,
    /// How the names of classes are embedded.
    pub class_names: ClassNames,
}

/// How well one kind finds another among rows that were left out of the fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldFigures {
    /// Kind of the queries.
    #[serde(serialize_with = "crate::serial::modality", deserialize_with = "crate::serial::modality_from")]
    pub query: Modality,
    /// Kind of the answers.
    #[serde(serialize_with = "crate::serial::modality", deserialize_with = "crate::serial::modality_from")]
    pub item: Modality,
    /// Share of queries, 0..=1, whose right answer comes first.
    pub r_at_1: f64,
    /// ... among the first five.
    pub r_at_5: f64,
    /// ... among the first ten.
    pub r_at_10: f64,
    /// Queries over all folds.
    pub n_queries: usize,
    /// Things among which each was searched, the mean over folds.
    pub n_gallery: f64,
}

/// How a space came about; kept in its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// The method.
    pub method: String,
    /// Rows it was fitted on: each text with what it belongs to.
    pub n_pairs: usize,
    /// Distinct things among them.
    pub n_groups: usize,
    /// Lines that could not be used, by reason.
    pub dropped: Vec<(String, usize)>,
    /// The hyper-parameters, those chosen and those by default.
    pub parameters: Vec<(String, String)>,
    /// Folds of the cross-validation; 0 when there was none.
    pub n_folds: usize,
    /// Figures on left-out rows. They chose the hyper-parameters too, so they flatter a little.
    pub figures: Vec<FoldFigures>,
    /// Every configuration tried with its mean of R@1, R@5 and R@10 over all directions.
    pub tried: Vec<(String, f64)>,
    /// What each view is, in words: `image: mobilenet_v2`, `audio: yamnet:classes, through text`.
    pub views: Vec<String>,
    /// Canonical correlations, or what the method has in their place, greatest first.
    pub correlations: Vec<f32>,
    /// Seconds.
    pub wall_s: f64,
}

/// A fitted space and how it came about.
#[derive(Debug)]
pub struct FitOutcome {
    /// The space.
    pub space: Space,
    /// Also in the space's file.
    pub report: FitReport,
}

/// Learns a space. A modality with an encoder but without a column in the table joins *through text*: its encoder gives
/// probabilities of named classes, and it stands where the names of its likeliest classes stand (ConSE). A run that was stopped goes on from its `draft`, if
/// there is one.
///
/// # Errors
/// [`EngineError::FitRequest`], [`EngineError::Pairs`], [`EngineError::Model`], [`EngineError::Media`],
/// [`EngineError::Encode`], [`EngineError::Fit`], [`EngineError::Cancelled`].
pub fn fit_space(
    request: &FitRequest,
    models: &ModelDirs,
    progress: &dyn Progress,
    cancel: &Cancel,
    draft: Option<&dyn Draft>,
) -> Result<FitOutcome> {
    let started = Instant::now();
    let run = Run { seed: request.seed, progress, cancel, draft };
    let mut fitted = match request.method.as_str() {
        CONSE => by_names_alone(request, models, &run)?,
        _ => from_pairs(request, models, &run)?,
    };
    fitted.report.wall_s = started.elapsed().as_secs_f64();
    let Fitted { views, encoders, projection, references, report } = fitted;
    let name = if request.name.is_empty() { request.method.clone() } else { request.name.clone() };
    let space = Space::assemble(name, views, projection, references, Some(report.clone()), models.clone())?;
    encoders.into_iter().enumerate().for_each(|(view, encoder)| space.adopt(view, encoder));
    Ok(FitOutcome { space, report })
}

const CONSE: &str = "conse";
const DEFAULT_FOLDS: usize = 5;
/// Media decoded and encoded at a time.
pub(crate) const BATCH: usize = 32;
/// Videos decoded and encoded at a time: each may be hundreds of megabytes.
pub(crate) const BATCH_OF_VIDEOS: usize = 4;
/// Vectors kept per view for calibration: the mean of 256^2 unrelated scores is known to a hundredth of their deviation.
const N_REFERENCES: usize = 256;

struct Fitted {
    views: Vec<View>,
    encoders: Vec<Arc<dyn Encoder>>,
    projection: PipelineSpace,
    references: References,
    report: FitReport,
}

pub(crate) fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(EngineError::FitRequest(reason.into()))
}

pub(crate) fn open(name: &str, modality: Modality, models: &ModelDirs) -> Result<Arc<dyn Encoder>> {
    let encoder: Arc<dyn Encoder> = Arc::from(chiasm_encode::open(name, models)?);
    if encoder.modality() != modality {
        return refuse(format!("`{name}` encodes {}, it was given for {modality}", encoder.modality()));
    }
    Ok(encoder)
}

fn from_pairs(request: &FitRequest, models: &ModelDirs, run: &Run<'_>) -> Result<Fitted> {
    let Some(path) = &request.pairs else {
        return refuse(format!(
            "`{}` learns from pairs: give a table with `--pairs FILE`, or use the method `conse`",
            request.method
        ));
    };
    MethodConfig::from_name(&request.method)?;
    let table = PairTable::read(path, &request.root)?;
    let in_table = table.modalities();
    let (direct, through): (Vec<_>, Vec<_>) = request.encoders.iter().partition(|(m, _)| in_table.contains(m));
    if direct.len() < 2 {
        let columns = in_table.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", ");
        return refuse(format!(
            "encoders were given for {} of the columns of {} ({columns}), two are needed",
            direct.len(),
            path.display()
        ));
    }
    let mut encoders: Vec<Arc<dyn Encoder>> = direct.iter().map(|(m, name)| open(name, **m, models)).collect::<Result<_>>()?;
    let rows = embed_table(&table, &encoders, run)?;
    let mut pairs = Pairs::with_groups(rows.views.iter().map(Vectors::view).collect(), &rows.groups);
    // Methods that do not learn from classes go on finding the one partner.
    if MethodConfig::from_name(&request.method).is_ok_and(|method| method.needs_labels()) {
        pairs.labels = rows.labels.as_ref();
    }
    let folds = request.folds.unwrap_or(DEFAULT_FOLDS);
    let chosen = MethodConfig::auto(&request.method, &pairs, folds, run).map_err(stopped)?;
    let mut projection = chosen.config.fit(&pairs, run).map_err(stopped)?;
    let mut references = references(&projection, &rows)?;
    let kinds: Vec<Modality> = encoders.iter().map(|e| e.modality()).collect();
    let mut told: Vec<String> = encoders.iter().map(|e| format!("{}: {}", e.modality(), e.name())).collect();
    let figures = figures(&chosen.figures, &kinds);
    let about = projection.about().clone();

    if !through.is_empty() {
        let Some(text) = kinds.iter().position(|m| *m == Modality::Text) else {
            let first = through[0].0;
            return refuse(format!("the table has no column for {first}, and without a text view it cannot join through text"));
        };
        let text_encoder = Arc::clone(&encoders[text]);
        for (modality, name) in through {
            let encoder = open_classes(name, *modality, models)?;
            let names = class_vectors(encoder.name(), request.class_names, &text_encoder, models)?;
            projection = projection.with_view_through(text, names.n(), conse_steps(conse::DEFAULT_K, &names))?;
            told.push(format!("{modality}: {}, through text", encoder.name()));
            encoders.push(encoder);
            references.views.push(Vec::new());
        }
    }
    let mut parameters = chosen.config.parameters();
    if parameters.is_empty() {
        parameters = about.parameters;
    }
    let describe =
        |config: &MethodConfig| config.parameters().iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
    let report = FitReport {
        method: request.method.clone(),
        n_pairs: rows.groups.len(),
        n_groups: rows.n_groups,
        dropped: rows.dropped.into_iter().collect(),
        parameters,
        n_folds: chosen.n_folds,
        figures,
        tried: chosen.tried.iter().map(|t| (describe(&t.config), t.figures.mean())).collect(),
        views: told,
        correlations: about.correlations,
        wall_s: 0.0,
    };
    Ok(Fitted { views: encoders.iter().map(View::of).collect(), encoders, projection, references, report })
}

/// A space without training: classes stand where their names stand. With pairs, which synonyms and how many classes count is
/// chosen on them, and the figures of the choice are reported.
fn by_names_alone(request: &FitRequest, models: &ModelDirs, run: &Run<'_>) -> Result<Fitted> {
    let Some(text_name) = request.encoders.get(&Modality::Text) else {
        return refuse("`conse` places everything by the names of classes: give an encoder for text with `--text`");
    };
    let text = open(text_name, Modality::Text, models)?;
    let named = request.encoders.iter().filter(|(m, _)| **m != Modality::Text);
    let classed: Vec<Arc<dyn Encoder>> = named.map(|(m, name)| open_classes(name, *m, models)).collect::<Result<_>>()?;
    if classed.is_empty() {
        return refuse("`conse` needs an encoder with classes beside the one for text: give `--image` or `--audio`");
    }
    let assemble = |k: usize, which: ClassNames| -> Result<PipelineSpace> {
        let mut projection: Option<PipelineSpace> = None;
        for encoder in &classed {
            let names = class_vectors(encoder.name(), which, &text, models)?;
            let steps = conse_steps(k, &names);
            projection = Some(match projection {
                None => {
                    // The text view first: the others join through it.
                    let about = About {
                        method: CONSE.to_owned(),
                        parameters: vec![("k".to_owned(), k.to_string())],
                        ..About::default()
                    };
                    let text = align::View { input_dim: text.dim(), steps: vec![Step::Unit] };
                    PipelineSpace::new(Metric::Cosine, vec![text], about)?.with_view_through(0, names.n(), steps)?
                }
                Some(projection) => projection.with_view_through(0, names.n(), steps)?,
            });
        }
        Ok(projection.expect("there is at least one encoder with classes"))
    };
    let mut encoders = vec![Arc::clone(&text)];
    encoders.extend(classed.iter().map(Arc::clone));
    let mut report = FitReport { method: CONSE.to_owned(), ..FitReport::default() };
    report.views = encoders.iter().map(|e| format!("{}: {}", e.modality(), e.name())).collect();

    let Some(path) = &request.pairs else {
        let projection = assemble(conse::DEFAULT_K, request.class_names)?;
        report.parameters = parameters(conse::DEFAULT_K, request.class_names);
        let names = class_vectors(classed[0].name(), request.class_names, &text, models)?;
        let sample: Vec<f32> = spread(names.n(), N_REFERENCES).flat_map(|i| names.row(i).to_vec()).collect();
        let sample = Vectors::new(sample, names.dim())
            .map_err(|source| EngineError::Numbers { what: "the names of classes".to_owned(), source })?;
        let mut references = References { views: vec![Vec::new(); encoders.len()], paired: false };
        references.views[0] = projection.project(0, sample.view())?.into_data();
        return Ok(Fitted { views: encoders.iter().map(View::of).collect(), encoders, projection, references, report });
    };
    let table = PairTable::read(path, &request.root)?;
    let in_table: Vec<usize> = (0..encoders.len()).filter(|i| table.modalities().contains(&encoders[*i].modality())).collect();
    if in_table.len() < 2 || in_table[0] != 0 {
        return refuse(format!("{} has no texts beside files of a kind with classes: leave `--pairs` out", path.display()));
    }
    let measured: Vec<Arc<dyn Encoder>> = in_table.iter().map(|i| Arc::clone(&encoders[*i])).collect();
    let rows = embed_table(&table, &measured, run)?;
    let pairs = Pairs::with_groups(rows.views.iter().map(Vectors::view).collect(), &rows.groups);
    let mut best: Option<(f64, PipelineSpace)> = None;
    for which in [ClassNames::AllSynonyms, ClassNames::First, ClassNames::Whole] {
        for k in [5, conse::DEFAULT_K, 20, 50] {
            run.cancel.check()?;
            let projection = assemble(k, which)?;
            let measured = chiasm_align::evaluate(&projection.select_views(&in_table)?, &pairs)?;
            let told = parameters(k, which).iter().map(|(n, v)| format!("{n} {v}")).collect::<Vec<_>>().join(", ");
            report.tried.push((told, measured.mean()));
            if best.as_ref().is_none_or(|(mean, _)| measured.mean() > *mean) {
                report.parameters = parameters(k, which);
                report.figures = figures(&measured, &in_table.iter().map(|i| encoders[*i].modality()).collect::<Vec<_>>());
                best = Some((measured.mean(), projection));
            }
        }
    }
    let (_, projection) = best.expect("at least one choice was measured");
    let of_pairs = self::references(&projection.select_views(&in_table)?, &rows)?;
    let mut references = References { views: vec![Vec::new(); encoders.len()], paired: of_pairs.paired };
    in_table.iter().zip(of_pairs.views).for_each(|(at, rows)| references.views[*at] = rows);
    (report.n_pairs, report.n_groups) = (rows.groups.len(), rows.n_groups);
    report.dropped = rows.dropped.into_iter().collect();
    Ok(Fitted { views: encoders.iter().map(View::of).collect(), encoders, projection, references, report })
}

fn parameters(k: usize, which: ClassNames) -> Vec<(String, String)> {
    let names = match which {
        ClassNames::AllSynonyms => "all synonyms",
        ClassNames::First => "first synonym",
        ClassNames::Whole => "whole",
    };
    vec![("k".to_owned(), k.to_string()), ("class names".to_owned(), names.to_owned())]
}

/// An encoder whose output is classes: of `mobilenet_v2` that is `mobilenet_v2:classes`.
fn open_classes(name: &str, modality: Modality, models: &ModelDirs) -> Result<Arc<dyn Encoder>> {
    let with_classes = if name.ends_with(":classes") { name.to_owned() } else { format!("{name}:classes") };
    // The plain name's own error is the better one where there is no such model at all.
    match chiasm_encode::class_names(&with_classes, models) {
        Ok(_) => open(&with_classes, modality, models),
        Err(of_classes) => match chiasm_encode::open(name, models) {
            Err(e) => Err(e.into()),
            Ok(_) => refuse(format!(
                "{modality} is to join through the names of classes, but `{name}` has none ({of_classes}): give pairs with a column for it, or another encoder"
            )),
        },
    }
}

/// Vectors of the classes' names `[n_classes, text dim]`; zeros for the class that stands for "none of these".
fn class_vectors(encoder: &str, which: ClassNames, text: &Arc<dyn Encoder>, models: &ModelDirs) -> Result<Vectors> {
    let names = chiasm_encode::class_names(encoder, models)?;
    let synonyms = |name: &str| -> Vec<Media> {
        let mut parts = name.split(", ").map(|part| Media::Text(part.trim().to_owned()));
        match which {
            ClassNames::Whole => vec![Media::Text(name.to_owned())],
            ClassNames::First => parts.next().into_iter().collect(),
            ClassNames::AllSynonyms => parts.collect(),
        }
    };
    let lists: Vec<Vec<Media>> = names.iter().map(|name| if is_none(name) { Vec::new() } else { synonyms(name) }).collect();
    let flat: Vec<Media> = lists.iter().flatten().cloned().collect();
    let mut vectors = Vec::with_capacity(flat.len() * text.dim());
    for chunk in flat.chunks(BATCH) {
        let mut unit = text.encode(chunk)?;
        unit.normalise();
        vectors.extend(unit.into_data());
    }
    let mut rows = vectors.chunks_exact(text.dim());
    let mut means = Vec::with_capacity(names.len() * text.dim());
    for list in &lists {
        means.extend(mean(rows.by_ref().take(list.len()), text.dim(), Metric::Cosine));
    }
    Vectors::new(means, text.dim()).map_err(|source| EngineError::Numbers { what: "the names of classes".to_owned(), source })
}

/// ImageNet nets of some makers have a class for everything else.
fn is_none(name: &str) -> bool {
    name.eq_ignore_ascii_case("background")
}

/// ConSE in which classes without a name never count.
fn conse_steps(k: usize, names: &Vectors) -> Vec<Step> {
    let factor: Vec<f32> = names.rows().map(|row| if row.iter().all(|v| *v == 0.0) { 0.0 } else { 1.0 }).collect();
    let mut steps = Vec::new();
    if factor.contains(&0.0) {
        steps.push(Step::Scale { factor });
    }
    steps.extend(conse::steps(k, names.view()));
    steps
}

/// `n` places spread evenly over `0..len`.
fn spread(len: usize, n: usize) -> impl Iterator<Item = usize> {
    let n = n.min(len);
    (0..n).map(move |i| i * len / n)
}

/// Projections of rows of different groups, paired.
fn references(projection: &PipelineSpace, rows: &Rows) -> Result<References> {
    let mut seen = vec![false; rows.n_groups];
    let firsts: Vec<usize> =
        (0..rows.groups.len()).filter(|row| !std::mem::replace(&mut seen[rows.groups[*row] as usize], true)).collect();
    let chosen: Vec<usize> = spread(firsts.len(), N_REFERENCES).map(|i| firsts[i]).collect();
    let project = |(view, x): (usize, &Vectors)| -> Result<Vec<f32>> {
        let picked: Vec<f32> = chosen.iter().flat_map(|row| x.row(*row).to_vec()).collect();
        let picked =
            Vectors::new(picked, x.dim()).map_err(|source| EngineError::Numbers { what: "embeddings".to_owned(), source })?;
        Ok(projection.project(view, picked.view())?.into_data())
    };
    Ok(References { views: rows.views.iter().enumerate().map(project).collect::<Result<_>>()?, paired: true })
}

pub(crate) fn figures(figures: &Figures, kinds: &[Modality]) -> Vec<FoldFigures> {
    let one = |d: &chiasm_align::Direction| FoldFigures {
        query: kinds[d.from],
        item: kinds[d.to],
        r_at_1: d.r1,
        r_at_5: d.r5,
        r_at_10: d.r10,
        n_queries: d.n_queries,
        n_gallery: d.n_gallery,
    };
    figures.directions.iter().map(one).collect()
}

/// A stop is a stop wherever it was noticed.
pub(crate) fn stopped(error: FitError) -> EngineError {
    if let FitError::Cancelled(stop) = error { EngineError::Cancelled(stop) } else { EngineError::Fit(error) }
}
