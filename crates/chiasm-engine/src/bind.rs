//! Binding: a kind of media joins a space that was fitted without it, through a kind that is there (Girdhar et al., "ImageBind", CVPR 2023).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use chiasm_align::deep::bind;
use chiasm_align::{Draft, MethodConfig, Pairs, Run};
use chiasm_core::{Cancel, Modality, Progress};
use chiasm_encode::ModelDirs;

use crate::embed_table::embed_table;
use crate::fit::{FitOutcome, figures, open, refuse, stopped};
use crate::space::View;
use crate::{EngineError, FeatureSpace, FitReport, PairTable, Result, Space};

/// What is to be bound.
#[derive(Clone, Debug)]
pub struct BindRequest {
    /// Name of the space that comes out.
    pub name: String,
    /// The kind of the space through which the new one joins.
    pub through: Modality,
    /// The new kind, and its encoder as `chiasm model list` names it, or a path.
    pub encoder: (Modality, String),
    /// One of [`bind::METHODS`].
    pub method: String,
    /// Table of what belongs together, with columns for both kinds; see [`crate::PairTable`].
    pub pairs: PathBuf,
    /// Where the table's paths begin.
    pub root: PathBuf,
    /// Folds over which rows left out are searched; none where there are less than two.
    pub folds: usize,
    /// Decides every random choice.
    pub seed: u64,
}

/// The space with a view for one kind more. All that it has stays as it is: vectors of before are vectors of the new space too.
///
/// # Errors
/// [`EngineError::FitRequest`] for a kind that is there already or one that is not there to be bound through; else as [`crate::fit_space`].
pub fn bind_space(
    space: &Space,
    request: &BindRequest,
    models: &ModelDirs,
    progress: &dyn Progress,
    cancel: &Cancel,
    draft: Option<&dyn Draft>,
) -> Result<FitOutcome> {
    let started = Instant::now();
    let (kind, name) = &request.encoder;
    let has = || space.describe().views.iter().map(|view| view.modality.to_string()).collect::<Vec<_>>().join(", ");
    let views = space.views();
    if views.iter().any(|view| view.modality == *kind) {
        return refuse(format!("the space has a view for {kind} already ({}): bind a kind that it has none for", has()));
    }
    let Some(through) = views.iter().position(|view| view.modality == request.through) else {
        return refuse(format!("the space has no view for {} to bind through, it has {}", request.through, has()));
    };
    let method = MethodConfig::from_name(&request.method).map_err(stopped)?;
    let table = PairTable::read(&request.pairs, &request.root)?;
    for needed in [request.through, *kind] {
        if !table.modalities().contains(&needed) {
            let columns = table.modalities().iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", ");
            return refuse(format!("{} has no column for {needed}, it has {columns}", request.pairs.display()));
        }
    }
    let new = open(name, *kind, models)?;
    let run = Run { seed: request.seed, progress, cancel, draft };
    let rows = embed_table(&table, &[space.encoder(through)?, Arc::clone(&new)], &run)?;
    let pairs = Pairs::with_groups(rows.views.iter().map(|view| view.view()).collect(), &rows.groups);
    let measured = if request.folds < 2 {
        Vec::new()
    } else {
        let left_out = bind::left_out(space.projection(), through, &pairs, &method, request.folds, &run).map_err(stopped)?;
        figures(&left_out, &[request.through, *kind])
    };
    let projection = bind::bind(space.projection(), through, &pairs, &method, &run).map_err(stopped)?;
    let mut told: Vec<String> = views.iter().map(|view| format!("{}: {}", view.modality, view.encoder)).collect();
    told.push(format!("{kind}: {}, bound through {}", new.name(), request.through));
    let report = FitReport {
        method: format!("{} bound by {}", projection.about().method, request.method),
        n_pairs: rows.groups.len(),
        n_groups: rows.n_groups,
        dropped: rows.dropped.into_iter().collect(),
        parameters: method.parameters(),
        n_folds: if measured.is_empty() { 0 } else { request.folds },
        figures: measured,
        views: told,
        correlations: projection.about().correlations.clone(),
        wall_s: started.elapsed().as_secs_f64(),
        ..FitReport::default()
    };
    // Rows of the new kind belong to none of the rows that are kept of the others, so it keeps none.
    let mut references = space.all_references().clone();
    references.views.push(Vec::new());
    let views = views.iter().cloned().chain([View::of(&new)]).collect::<Vec<_>>();
    let at = views.len() - 1;
    let bound = Space::assemble(request.name.clone(), views, projection, references, Some(report.clone()), models.clone())?;
    bound.adopt(at, new);
    Ok(FitOutcome { space: bound, report })
}

impl FeatureSpace {
    /// The space with a view `name` more, learned from pairs of rows of its view `through` and of the new kind (view 0 and view 1 of the pairs).
    ///
    /// # Errors
    /// [`EngineError::FitRequest`] for a name that is taken; [`EngineError::Fit`], [`EngineError::Cancelled`].
    pub fn bind(
        &self,
        name: &str,
        through: usize,
        method: &MethodConfig,
        folds: usize,
        pairs: &Pairs<'_>,
        run: &Run<'_>,
    ) -> Result<Self> {
        let started = Instant::now();
        if self.view(name).is_some() {
            return Err(EngineError::FitRequest(format!(
                "the space has a view `{name}` already: give the new one another name"
            )));
        }
        let mut bound = self.clone();
        bound.report.figures = if folds < 2 {
            Vec::new()
        } else {
            let left_out = bind::left_out(&self.projection, through, pairs, method, folds, run).map_err(stopped)?;
            crate::feature_space::figures(&left_out, &[self.views.get(through).cloned().unwrap_or_default(), name.to_owned()])
        };
        bound.projection = bind::bind(&self.projection, through, pairs, method, run).map_err(stopped)?;
        bound.views.push(name.to_owned());
        bound.report.n_folds = if folds < 2 { 0 } else { folds };
        bound.report.method = format!("{} bound by {}", self.report.method, method.name());
        bound.report.parameters = method.parameters();
        bound.report.n_rows = pairs.n();
        bound.report.n_classes = 0;
        bound.report.seed = run.seed;
        bound.report.wall_s = crate::feature_space::round(started.elapsed());
        Ok(bound)
    }
}
