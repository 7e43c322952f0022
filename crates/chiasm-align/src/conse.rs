//! ConSE: a picture or a sound stands where the names of its likeliest classes stand, so that it needs no pairs at all.
//!
//! # Reference
//! M. Norouzi, T. Mikolov, S. Bengio, Y. Singer, J. Shlens, A. Frome, G. Corrado, J. Dean, Zero-Shot Learning by Convex Combination of
//! Semantic Embeddings, ICLR 2014, eq. (2)-(3). Differs from it in: nothing; names are sentence embeddings instead of word
//! vectors.
//!
//! # Model
//! f(x) = 1/Z sum_{t=1..T} p(y_t | x) s(y_t), y_t the t-th likeliest class, Z = sum_{t=1..T} p(y_t | x); compared by cosine.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | p(y given x) | input rows | `[n, n_classes]` | 0..=1, negative numbers count as 0 |
//! | T | `k` | - | at least 1; more than there are classes means all |
//! | s(y) | `names`, brought to unit length | `[n_classes, d]` | - |
//!
//! # Cost
//! O(n_classes d) per row.
//!
//! # Determinism
//! No chance is involved. Of equally likely classes the first are taken.
//!
//! # Errors
//! [`PipelineError::Step`] for `k` of 0 or names that are not finite.
//!
//! # Example
//! Three quarters dog, a quarter cat, with names at right angles:
//! ```
//! use chiasm_core::{MatrixView, SharedSpace};
//! let names = [1.0, 0.0, 0.0, 2.0, -1.0, 0.0];
//! let space = chiasm_align::conse::space(2, MatrixView::new(&names, 2)?)?;
//! let at = space.project(0, MatrixView::new(&[0.6, 0.2, 0.2], 3)?)?;
//! assert!((at.row(0)[0] - 0.9487).abs() < 1e-4 && (at.row(0)[1] - 0.3162).abs() < 1e-4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::{MatrixView, Metric, to_unit_length};

use crate::pipeline::{About, PipelineError, PipelineSpace, Step, View};

/// The number of classes that the paper found best on ImageNet.
pub const DEFAULT_K: usize = 10;

/// The steps from class probabilities `[n, n_classes]` to where the classes' names stand. `names` is `[n_classes, d]`.
///
/// These may be the first steps of a view that joins a space through its text view:
/// [`PipelineSpace::with_view_through`].
pub fn steps(k: usize, names: MatrixView<'_>) -> Vec<Step> {
    let mut weights = names.data().to_vec();
    weights.chunks_exact_mut(names.dim()).for_each(to_unit_length);
    vec![Step::TopClasses { k }, Step::Linear { weights, bias: Vec::new(), n_out: names.dim() }, Step::Unit]
}

/// The space of two views, class probabilities (0) and text embeddings (1).
///
/// # Errors
/// See the [module](self).
pub fn space(k: usize, names: MatrixView<'_>) -> Result<PipelineSpace, PipelineError> {
    let about = About { method: "conse".to_owned(), parameters: vec![("k".to_owned(), k.to_string())], ..About::default() };
    let classes = View { input_dim: names.n(), steps: steps(k, names) };
    let text = View { input_dim: names.dim(), steps: vec![Step::Unit] };
    PipelineSpace::new(Metric::Cosine, vec![classes, text], about)
}
