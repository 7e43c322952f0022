//! Binding: a new kind of things joins a space through one that is there already, and so meets all others.
//!
//! # Reference
//! R. Girdhar, A. El-Nouby, Z. Liu, M. Singh, K. V. Alwala, A. Joulin, I. Misra, ImageBind: One Embedding Space To Bind Them All, CVPR 2023, eq. 1. Differs from it in: the
//! towers of this folder on ready features; any of the losses of pairs of this folder; the tower begins as a ridge regression to where the frozen rows are.
//!
//! # Model
//! Rows z of the frozen view are what the space makes of them, and no step changes them. The new view's tower g learns from pairs (z, m) by the loss L(z, g(m))
//! of the method; with `infonce` that is eq. 1. Views of the space that were never seen with m are then found by it: the *emergent* pairs.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | q_i = f(I_i), frozen | view `through` of the space | `[n, k]` | unit length |
//! | k_i = g(M_i) | the new view, last of the result | `[n, k]` | unit length |
//!
//! # Cost
//! Half of what the method costs with two towers.
//!
//! # Determinism
//! As all of this folder: the seed decides, whatever the count of threads.
//!
//! # Errors
//! [`FitError::Config`] for a method that has no loss of pairs by a cosine, for a space compared otherwise, and for a `through` that is no view; [`FitError::Project`]
//! for rows that the frozen view does not take; else those of the method.

use chiasm_core::{MatrixView, Metric, SharedSpace, Vectors};

use super::{DeepConfig, Objective, train};
use crate::cv::{self, Figures};
use crate::fit::{FitError, Pairs, Run};
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::pipeline::PipelineSpace;
use crate::preprocess::ViewConfig;
use crate::reduced::{self, Linear, Reduced, Solution};

/// The methods by which a view can be bound.
pub const METHODS: [&str; 5] = ["infonce", "siglip", "vse", "vse++", "triplet"];

/// The space with one view more, learned from pairs of rows of its view `through` (view 0 of the pairs) and of the new kind (view 1). All views that the space
/// has stay as they are. `method` is one of `infonce`, `siglip`, `vse`, `vse++`, `triplet`; of its towers the second is learned, with as many outputs as the space has.
///
/// # Errors
/// See the [module](self).
pub fn bind(
    space: &PipelineSpace,
    through: usize,
    pairs: &Pairs<'_>,
    method: &MethodConfig,
    run: &Run<'_>,
) -> Result<PipelineSpace, FitError> {
    if space.metric() != Metric::Cosine || space.n_bits().is_some() {
        let expected = "a space of real coordinates compared by their cosine";
        return Err(FitError::Config { name: "space", value: space.about().method.clone(), expected });
    }
    if through >= space.views().len() {
        let expected = "the number of a view of the space, counted from 0";
        return Err(FitError::Config { name: "through", value: through.to_string(), expected });
    }
    pairs.check("bind", 2..=2)?;
    let rows = space.project(through, pairs.views[0]).map_err(|cause| FitError::Project { view: 0, cause })?;
    let rows = Mat::from_fn(rows.n(), rows.dim(), |i, j| f64::from(rows.row(i)[j]));
    let new = Pairs { views: vec![pairs.views[1]], groups: pairs.groups, labels: None };
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other method has no loss of pairs by a cosine")]
    let of_new = match method {
        MethodConfig::InfoNce(config) if !config.objective.by_class => reduced::fit(&Held { config, rows }, &new, run),
        MethodConfig::Sigmoid(config) => reduced::fit(&Held { config, rows }, &new, run),
        MethodConfig::Triplet(config) => reduced::fit(&Held { config, rows }, &new, run),
        _ => {
            let expected = "one of infonce, siglip, vse, vse++, triplet";
            Err(FitError::Config { name: "method", value: method.name().to_owned(), expected })
        }
    }?;
    let views = space.views().iter().chain(of_new.space.views()).cloned().collect();
    PipelineSpace::new(Metric::Cosine, views, space.about().clone())
        .map_err(|_| FitError::Numeric { what: "joining the new view to the space" })
}

/// How well the new view and the frozen one find each other among rows that were left out, over `folds` folds; directions 0 and 1 are from the frozen view and to it.
/// Nothing is chosen by it.
///
/// # Errors
/// Those of [`bind`]; [`FitError::TooFewRows`] for fewer groups than folds, [`FitError::Config`] for fewer than two folds.
pub fn left_out(
    space: &PipelineSpace,
    through: usize,
    pairs: &Pairs<'_>,
    method: &MethodConfig,
    folds: usize,
    run: &Run<'_>,
) -> Result<Figures, FitError> {
    if folds < 2 {
        let expected = "cross-validation needs at least two folds";
        return Err(FitError::Config { name: "folds", value: folds.to_string(), expected });
    }
    pairs.check("bind", 2..=2)?;
    let dealt = cv::deal(pairs, folds, run.seed)?;
    run.progress.start("cross-validation", Some(folds as u64));
    let mut figures = Vec::new();
    for fold in dealt {
        let [train, test] = [&fold.train, &fold.test].map(|rows| Part::of(pairs, rows));
        // The folds report nothing of their own: there is one bar for all.
        let run = run.quietly();
        let bound = bind(space, through, &train.pairs(), method, &run)?;
        let two = bound.select_views(&[through, bound.views().len() - 1]);
        let two = two.map_err(|_| FitError::Numeric { what: "joining the new view to the space" })?;
        figures.push(cv::evaluate(&two, &test.pairs())?);
    }
    run.progress.finish();
    Ok(Figures::pool(&figures))
}

/// Some rows of pairs.
struct Part {
    views: Vec<Vectors>,
    groups: Vec<u32>,
}

impl Part {
    fn of(pairs: &Pairs<'_>, rows: &[usize]) -> Self {
        let pick = |x: &MatrixView<'_>| {
            let data = rows.iter().flat_map(|row| x.row(*row)).copied().collect();
            Vectors::new(data, x.dim()).expect("rows of a matrix are rows of its width")
        };
        Self { views: pairs.views.iter().map(pick).collect(), groups: rows.iter().map(|row| pairs.group(*row)).collect() }
    }

    fn pairs(&self) -> Pairs<'_> {
        Pairs::with_groups(self.views.iter().map(Vectors::view).collect(), &self.groups)
    }
}

/// One tower, learned towards rows that stay as they are.
struct Held<'a, O> {
    config: &'a DeepConfig<O>,
    rows: Mat,
}

impl<O: Objective + Clone> Linear for Held<'_, O> {
    fn name(&self) -> &'static str {
        "bind"
    }

    fn n_views(&self) -> std::ops::RangeInclusive<usize> {
        1..=1
    }

    fn views(&self, n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        Ok(vec![self.config.views(n_views)?[1]])
    }

    fn max_components(&self) -> usize {
        2 * self.rows.ncols() + self.config.towers.hidden
    }

    fn solve(&self, reduced: &Reduced, _views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        train::solve_held(&self.config.towers, &self.config.objective, reduced, &self.rows, run)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        self.config.parameters()
    }
}
