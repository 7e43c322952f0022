//! ConSE: a picture or a sound stands where the names of its likeliest classes stand.

use chiasm_core::MatrixView;

use crate::pipeline::{PipelineError, PipelineSpace, Step};

/// The steps from class probabilities `[n, n_classes]` to where the classes' names stand: the `k` largest, renormalised, times
/// the names' vectors, at unit length. `names` is `[n_classes, d]`.
pub fn steps(k: usize, names: MatrixView<'_>) -> Vec<Step> {
    let mut unit = names.data().to_vec();
    unit.chunks_exact_mut(names.dim()).for_each(crate::pipeline::unit);
    vec![Step::TopClasses { k }, Step::Linear { weights: unit, bias: Vec::new(), n_out: names.dim() }, Step::Unit]
}

/// The space of two views, class probabilities (0) and text embeddings (1), that needs no pairs at all.
///
/// # Errors
/// [`PipelineError::Step`] for `k` of 0 or names that are not finite.
pub fn space(k: usize, names: MatrixView<'_>) -> Result<PipelineSpace, PipelineError> {
    use crate::pipeline::{About, View};
    let about = About { method: "conse".to_owned(), parameters: vec![("k".to_owned(), k.to_string())], ..About::default() };
    let classes = View { input_dim: names.n(), steps: steps(k, names) };
    PipelineSpace::new(
        chiasm_core::Metric::Cosine,
        vec![classes, View { input_dim: names.dim(), steps: vec![Step::Unit] }],
        about,
    )
}
