//! Intermediate fusion: several views of one item, some of which may be missing, become one query for a gallery of another view, or of classes.
//!
//! # Reference
//! Gated: J. Arevalo, T. Solorio, M. Montes-y-Gomez, F. A. Gonzalez, Gated Multimodal Units for Information Fusion, ICLR workshop 2017, eq. (1)-(5). Bilinear: Z. Yu,
//! J. Yu, J. Fan, D. Tao, Multi-modal Factorized Bilinear Pooling (MFB), ICCV 2017, eq. (3)-(5) and section 3.2. Attention: A. Vaswani et al., 2017, over one token for
//! each view. Missing views: N. Neverova, C. Wolf, G. Taylor, F. Nebout, ModDrop, TPAMI 2016. Queries, loss and gradients are checked against the equations in torch
//! (`reference/align_parts_goldens.py`). Differs from them in: any number of views; gates are told which views are there; in place of each missing factor of a
//! bilinear query stands 1, which also is where every factor's bias begins, so that single views count beside their products; the root of MFB's power
//! normalisation is `z / sqrt(|z| + 1e-4)`, for that of the paper has no bounded gradient at 0.
//!
//! # Model
//! Views x_m at mean 0 and mean square 1, p_m = 1 where view m is there, else 0; then, up to unit length,
//!
//! gated: q = sum_m p_m sigma(Z_m [p x; p] + c_m) * tanh(W_m x_m + b_m);
//! bilinear: q = sgnroot(sum over groups of `factors` of prod_m (W_m x_m + b_m)), with 1 for a factor of p_m = 0;
//! attention: t_m = W_m x_m + b_m for those with p_m = 1, one block of a transformer over them (`block.rs`), q = W_o mean + b_o.
//!
//! The gallery is g = W_g y + b_g at unit length. loss = half the mean cross-entropies of e^t q g' along rows and columns, targets spread over rows of a group (InfoNCE).
//! While learning, each row loses each view with probability `modality_dropout`, but never all.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | W_m, b_m | | `[dim, d_m]`; bilinear `[dim * factors, d_m]` | for each view |
//! | Z_m, c_m | gated | `[dim, sum d_m + n_views]` | for each view |
//! | W_g, b_g | | `[dim, d_g]` | |
//! | e^t | | | 1 to 100; begins at 1/.07 |
//!
//! # Classes
//! A gallery of classes is one row for each class: fit with the class's row (one-hot, or a vector of its name) beside each item and the classes as groups.
//!
//! # Cost
//! O(sum d_m dim) a query, times the factors; gated O(n_views sum d_m dim). The gallery is mapped once and can stand in any index for inner products.
//!
//! # Determinism
//! The seed decides the start, the batches, the views dropped and what is set aside.
//!
//! # Errors
//! [`FitError::Config`], [`FitError::Rows`], [`FitError::Groups`], [`FitError::Input`], [`FitError::Constant`], [`FitError::TooFewRows`], [`FitError::Numeric`],
//! [`FitError::Cancelled`]; queries: [`SetError`]; a gallery: [`ProjectError`].
//!
//! # Example
//! ```
//! use chiasm_align::parts::fusion::{Fusion, FusionConfig, Queries};
//! use chiasm_align::Run;
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//!
//! // The column of either view says half of which of four things it is.
//! let (first, second) = ([-1., -1., 1., 1.], [-1., 1., -1., 1.]);
//! let gallery: Vec<f32> = (0..16).map(|at| f32::from(u8::from(at % 5 == 0))).collect();
//! let views = [&first[..], &second].map(|x| MatrixView::new(x, 1).unwrap());
//! let gallery = MatrixView::new(&gallery, 4)?;
//! let config = FusionConfig { dim: 8, batch: 4, max_epochs: 300, learning_rate: 0.01, ..FusionConfig::default() };
//! let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let fusion = Fusion::fit(&config, &Queries::new(views.to_vec(), None)?, gallery, None, &run)?;
//! let (q, g) = (fusion.queries(&Queries::new(views.to_vec(), None)?)?, fusion.gallery(gallery)?);
//! let score = |i: usize, j: usize| -> f32 { (0..8).map(|k| q[8 * i + k] * g[8 * j + k]).sum() };
//! let best = |i: usize| (0..4).max_by(|a, b| score(i, *a).total_cmp(&score(i, *b)));
//! assert_eq!([0, 1, 2, 3].map(best), [0, 1, 2, 3].map(Some));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::{MatrixView, ProjectError};
use chiasm_nn::grad::{Array, Real, Tape, Var};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::block;
use super::learn::{self, Batch, Course, Lesson, mean_reciprocal_rank};
use super::sets::{SetError, Standard};
use crate::draft::Key;
use crate::fit::{FitError, Run};

/// Keeps the gradient of a root bounded.
const ROOT_EPS: f64 = 1e-4;
/// Logarithm of the factor of cosines at the start, `1 / .07`, and at most.
const SCALE: f64 = 2.659_260_036_932_778;
const MOST_SCALE: f64 = 4.605_170_185_988_092;
/// Width within the block of attention, in widths of the query.
const HIDDEN: usize = 2;
/// Rows that are mapped together.
const AT_ONCE: usize = 4096;

/// How views become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each view weighted, coordinate by coordinate, by what all views say.
    Gated,
    /// Products of the views' coordinates.
    Bilinear {
        /// Products that are summed to a coordinate, 1 to 64.
        factors: usize,
    },
    /// Views look at each other.
    Attention {
        /// Heads; a divisor of the width.
        n_heads: usize,
    },
}

/// Fusion and how it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct FusionConfig {
    /// How views become one.
    pub kind: Kind,
    /// Coordinates of a query, 1 to 4096.
    pub dim: usize,
    /// Probability with which a row loses a view while learning; at least 0, below 1.
    pub modality_dropout: f64,
    /// Greatest learning rate; above 0.
    pub learning_rate: f64,
    /// Decoupled weight decay; at least 0.
    pub weight_decay: f64,
    /// Rows of a batch; at least 2.
    pub batch: usize,
    /// Epochs at most; at least 1.
    pub max_epochs: usize,
}

impl Default for FusionConfig {
    fn default() -> Self {
        Self {
            kind: Kind::Gated,
            dim: 128,
            modality_dropout: 0.3,
            learning_rate: 2e-3,
            weight_decay: 0.01,
            batch: 128,
            max_epochs: 40,
        }
    }
}

impl FusionConfig {
    fn course(&self) -> Course {
        Course { rate: self.learning_rate, decay: self.weight_decay, batch: self.batch, max_epochs: self.max_epochs }
    }

    fn check(&self) -> Result<(), FitError> {
        self.course().check()?;
        let wrong = |name, value: String, expected| Err(FitError::Config { name, value, expected });
        if !(1..=4096).contains(&self.dim) {
            return wrong("dim", self.dim.to_string(), "1 to 4096");
        }
        if !(0.0..1.0).contains(&self.modality_dropout) {
            return wrong("modality_dropout", self.modality_dropout.to_string(), "a share of at least 0 and below 1");
        }
        match self.kind {
            Kind::Bilinear { factors } if !(1..=64).contains(&factors) => wrong("factors", factors.to_string(), "1 to 64"),
            Kind::Attention { n_heads } if n_heads == 0 || !self.dim.is_multiple_of(n_heads) => {
                wrong("n_heads", n_heads.to_string(), "a divisor of dim")
            }
            Kind::Gated | Kind::Bilinear { .. } | Kind::Attention { .. } => Ok(()),
        }
    }
}

/// Items by their views.
#[derive(Clone, Debug)]
pub struct Queries<'a> {
    views: Vec<MatrixView<'a>>,
    present: Option<&'a [bool]>,
}

impl<'a> Queries<'a> {
    /// Items of which row `i` of every view speaks. `present[i * n_views + m]` says whether item `i` has view `m`; its numbers are not looked at where it has not.
    /// All are there without `present`.
    ///
    /// # Errors
    /// [`SetError::NoViews`], [`SetError::Rows`], [`SetError::Presence`], [`SetError::Absent`], [`SetError::View`].
    pub fn new(views: Vec<MatrixView<'a>>, present: Option<&'a [bool]>) -> Result<Self, SetError> {
        let Some(first) = views.first() else { return Err(SetError::NoViews) };
        let (n, n_views) = (first.n(), views.len());
        for (view, x) in views.iter().enumerate() {
            if x.n() != n {
                return Err(SetError::Rows { view, got: x.n(), expected: n });
            }
        }
        if let Some(present) = present {
            if present.len() != n * n_views {
                return Err(SetError::Presence { got: present.len(), expected: n * n_views });
            }
            if let Some(row) = present.chunks_exact(n_views).position(|row| !row.contains(&true)) {
                return Err(SetError::Absent { row });
            }
        }
        let queries = Self { views, present };
        for (view, x) in queries.views.iter().enumerate() {
            let rows = (0..n).filter(|row| queries.has(*row, view));
            for row in rows {
                if let Some(col) = x.row(row).iter().position(|v| !v.is_finite()) {
                    let cause = chiasm_core::ShapeError::NotFinite { row, col, value: x.row(row)[col] };
                    return Err(SetError::View { view, cause });
                }
            }
        }
        Ok(queries)
    }

    /// How many items.
    pub fn n(&self) -> usize {
        self.views[0].n()
    }

    fn has(&self, row: usize, view: usize) -> bool {
        self.present.is_none_or(|present| present[row * self.views.len() + view])
    }

    /// The rows of a view that are there.
    fn rows(&self, view: usize) -> Array<f32> {
        let x = &self.views[view];
        let rows: Vec<usize> = (0..self.n()).filter(|row| self.has(*row, view)).collect();
        Array::new(rows.len(), x.dim(), rows.iter().flat_map(|row| x.row(*row)).copied().collect())
    }

    /// Some rows of a view, zeros where it is not there.
    fn filled(&self, view: usize, rows: &[usize]) -> Array<f32> {
        let x = &self.views[view];
        Array::from_fn(rows.len(), x.dim(), |i, j| if self.has(rows[i], view) { x.row(rows[i])[j] } else { 0.0 })
    }

    fn presence(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().flat_map(|row| (0..self.views.len()).map(move |view| self.has(*row, view))).collect()
    }
}

/// Fitted fusion.
#[derive(Clone, Debug, PartialEq)]
pub struct Fusion {
    kind: Kind,
    standards: Vec<Standard>,
    parameters: Vec<Array<f32>>,
}

impl Fusion {
    /// Learns from items and the row of the gallery that belongs to each, `[n, d_g]`. Rows of one of `groups` are all right answers to one another; each row is its
    /// own group without. A seventh of the groups is set aside, and the epoch kept after which these find each other best; with fewer than 50 groups all
    /// epochs are run.
    ///
    /// # Errors
    /// Those of the head of this file.
    pub fn fit(
        config: &FusionConfig,
        items: &Queries<'_>,
        gallery: MatrixView<'_>,
        groups: Option<&[u32]>,
        run: &Run<'_>,
    ) -> Result<Fusion, FitError> {
        config.check()?;
        let (n, n_views) = (items.n(), items.views.len());
        if gallery.n() != n {
            return Err(FitError::Rows { view: n_views, got: gallery.n(), expected: n });
        }
        if n < 2 {
            return Err(FitError::TooFewRows { got: n, least: 2, what: "to learn from".to_owned() });
        }
        let own: Vec<u32> = (0..n as u32).collect();
        let groups = groups.unwrap_or(&own);
        if groups.len() != n {
            return Err(FitError::Groups { got: groups.len(), expected: n });
        }
        gallery.check_finite().map_err(|cause| FitError::Input { view: n_views, cause })?;
        let mut standards = Vec::with_capacity(n_views + 1);
        for view in 0..n_views {
            let rows = items.rows(view);
            if rows.n_rows() == 0 {
                return Err(FitError::TooFewRows { got: 0, least: 1, what: format!("of view {view}") });
            }
            standards.push(Standard::of(&rows, view)?);
        }
        let all = Array::new(n, gallery.dim(), gallery.data().to_vec());
        standards.push(Standard::of(&all, n_views)?);
        let gallery = standards[n_views].apply(&all);
        let dims: Vec<usize> = items.views.iter().map(MatrixView::dim).collect();
        let start = start(config, &dims, gallery.n_cols(), &mut ChaCha8Rng::seed_from_u64(run.seed ^ 0xF05E));
        let lesson = Finding { config, items, standards: &standards, gallery, groups };
        let parameters = learn::learn(start, &config.course(), groups, &lesson, run)?;
        Ok(Fusion { kind: config.kind, standards, parameters })
    }

    /// Items as queries, `[n, dim]` row by row, at unit length.
    ///
    /// # Errors
    /// [`SetError::Views`], [`SetError::Project`].
    pub fn queries(&self, items: &Queries<'_>) -> Result<Vec<f32>, SetError> {
        let n_views = self.standards.len() - 1;
        if items.views.len() != n_views {
            return Err(SetError::Views { got: items.views.len(), expected: n_views });
        }
        for (view, x) in items.views.iter().enumerate() {
            let expected = self.standards[view].dim();
            if x.dim() != expected {
                return Err(ProjectError::Dimension { view, expected, got: x.dim() }.into());
            }
        }
        let rows: Vec<usize> = (0..items.n()).collect();
        let mut out = Vec::new();
        for rows in rows.chunks(AT_ONCE) {
            let tape = Tape::new();
            let p: Vec<Var<'_, f32>> = self.parameters.iter().map(|p| tape.constant(p.clone())).collect();
            let presence = items.presence(rows);
            let queries = fuse(self.kind, &p, &views(&tape, items, &self.standards, rows, &presence), &presence).value();
            out.extend_from_slice(queries.data());
        }
        Ok(out)
    }

    /// Rows of the gallery, `[n, dim]` row by row, at unit length: a query is as close as its product with them.
    ///
    /// # Errors
    /// [`ProjectError`].
    pub fn gallery(&self, rows: MatrixView<'_>) -> Result<Vec<f32>, ProjectError> {
        let view = self.standards.len() - 1;
        let expected = self.standards[view].dim();
        if rows.dim() != expected {
            return Err(ProjectError::Dimension { view, expected, got: rows.dim() });
        }
        rows.check_finite()?;
        let x = self.standards[view].apply(&Array::new(rows.n(), rows.dim(), rows.data().to_vec()));
        Ok(mapped(&self.parameters, x))
    }
}

/// Rows of the gallery by the map at the end of the parameters.
fn mapped(p: &[Array<f32>], x: Array<f32>) -> Vec<f32> {
    let tape = Tape::new();
    let [weight, bias] = [3, 2].map(|from_end| tape.constant(p[p.len() - from_end].clone()));
    tape.constant(x).linear(weight, Some(bias)).unit_rows().value().data().to_vec()
}

/// Parameters at the start: weight and bias of each view; gates, or a block and its output; the gallery's weight and bias; the factor of cosines.
fn start(config: &FusionConfig, dims: &[usize], gallery_dim: usize, rng: &mut ChaCha8Rng) -> Vec<Array<f32>> {
    let dim = config.dim;
    let mut p = Vec::new();
    for d in dims {
        match config.kind {
            Kind::Bilinear { factors } => p.extend([learn::weight(dim * factors, *d, rng), Array::full(1, dim * factors, 1.0)]),
            Kind::Gated | Kind::Attention { .. } => p.extend([learn::weight(dim, *d, rng), Array::zeros(1, dim)]),
        }
    }
    match config.kind {
        Kind::Gated => {
            let told = dims.iter().sum::<usize>() + dims.len();
            p.extend(dims.iter().flat_map(|_| [learn::weight(dim, told, rng), Array::zeros(1, dim)]));
        }
        Kind::Bilinear { .. } => {}
        Kind::Attention { .. } => {
            p.extend(block::start(dim, HIDDEN * dim, rng));
            p.extend([learn::weight(dim, dim, rng), Array::zeros(1, dim)]);
        }
    }
    p.extend([learn::weight(dim, gallery_dim, rng), Array::zeros(1, dim), Array::scalar(SCALE as f32)]);
    p
}

/// Some rows of all views at their scale, zeros where a view is not there, or is to be dropped.
fn views<'t>(
    tape: &'t Tape<f32>,
    items: &Queries<'_>,
    standards: &[Standard],
    rows: &[usize],
    presence: &[bool],
) -> Vec<Var<'t, f32>> {
    let n_views = items.views.len();
    let view = |view: usize| {
        let mut x = standards[view].apply(&items.filled(view, rows));
        (0..rows.len()).filter(|i| !presence[i * n_views + view]).for_each(|i| x.row_mut(i).fill(0.0));
        tape.constant(x)
    };
    (0..n_views).map(view).collect()
}

/// Queries `[n, dim]` at unit length, of views `[n, d_m]` that are zeros where `presence`, `[n * n_views]`, says that they are not there.
pub(super) fn fuse<'t, T: Real>(kind: Kind, p: &[Var<'t, T>], views: &[Var<'t, T>], presence: &[bool]) -> Var<'t, T> {
    let (n, n_views, tape) = (views[0].shape()[0], views.len(), views[0].tape());
    let indicator = |view: usize, of: bool| {
        tape.constant(Array::from_fn(n, 1, |i, _| T::of(if presence[i * n_views + view] == of { 1.0 } else { 0.0 })))
    };
    let straight = |view: usize| views[view].linear(p[2 * view], Some(p[2 * view + 1]));
    let own = &p[2 * n_views..];
    let fused = match kind {
        Kind::Gated => {
            let mut told = views.to_vec();
            told.extend((0..n_views).map(|view| indicator(view, true)));
            let told = tape.beside(&told);
            let weighted = |view: usize| {
                let gate = told.linear(own[2 * view], Some(own[2 * view + 1])).sigmoid();
                (gate * straight(view).tanh()).times_column(indicator(view, true))
            };
            (1..n_views).fold(weighted(0), |sum, view| sum + weighted(view))
        }
        Kind::Bilinear { factors } => {
            let width = p[0].shape()[0];
            let ones = tape.constant(Array::full(n, width, T::of(1.0)));
            let factor =
                |view: usize| straight(view).times_column(indicator(view, true)) + ones.times_column(indicator(view, false));
            let products = (1..n_views).fold(factor(0), |product, view| product * factor(view));
            let z = products.reshaped(n * width / factors, factors).sum_columns().reshaped(n, width / factors);
            z / z.absolute().plus(T::of(ROOT_EPS)).root()
        }
        Kind::Attention { n_heads } => {
            let tokens: Vec<Var<'t, T>> = (0..n_views).map(straight).collect();
            let there = |i: usize| (0..n_views).filter(move |view| presence[i * n_views + view]);
            let order: Vec<usize> = (0..n).flat_map(|i| there(i).map(move |view| view * n + i)).collect();
            let lengths: Vec<usize> = (0..n).map(|i| there(i).count()).collect();
            let x = block::forward(&own[..block::N_PARAMETERS], tape.under(&tokens).rows(order), &lengths, n_heads);
            let out = &own[block::N_PARAMETERS..];
            x.mean_of_runs(&lengths).linear(out[0], Some(out[1]))
        }
    };
    fused.unit_rows()
}

/// The contrastive loss of queries and rows of the gallery at unit length, `[n, dim]` both, by the logarithm of the factor of their cosines, `[1, 1]`.
pub(super) fn contrast<'t, T: Real>(queries: Var<'t, T>, gallery: Var<'t, T>, scale: Var<'t, T>, groups: &[u32]) -> Var<'t, T> {
    let n = groups.len();
    let logits = queries.dot_rows(gallery).times_number(scale.clamped(T::of(0.0), T::of(MOST_SCALE)).exp());
    let n_right: Vec<f64> = groups.iter().map(|a| groups.iter().filter(|b| a == *b).count() as f64).collect();
    let target = Array::from_fn(n, n, |i, j| T::of(if groups[i] == groups[j] { 1.0 / n_right[i] } else { 0.0 }));
    let target = queries.tape().constant(target);
    (logits.cross_entropy(target) + logits.transposed().cross_entropy(target)).scaled(T::of(0.5))
}

/// What is learned from.
struct Finding<'a> {
    config: &'a FusionConfig,
    items: &'a Queries<'a>,
    standards: &'a [Standard],
    /// At its scale.
    gallery: Array<f32>,
    groups: &'a [u32],
}

impl Lesson for Finding<'_> {
    fn loss<'t>(&self, tape: &'t Tape<f32>, p: &[Var<'t, f32>], batch: &Batch<'_>, rng: &mut ChaCha8Rng) -> Var<'t, f32> {
        let rows = batch.items;
        let mut presence = self.items.presence(rows);
        for row in presence.chunks_exact_mut(self.items.views.len()) {
            let there: Vec<usize> = (0..row.len()).filter(|view| row[*view]).collect();
            let kept: Vec<usize> = there.iter().copied().filter(|_| !rng.random_bool(self.config.modality_dropout)).collect();
            let kept = if kept.is_empty() { there.choose(rng).copied().into_iter().collect() } else { kept };
            (0..row.len()).for_each(|view| row[view] = kept.contains(&view));
        }
        let queries = fuse(self.config.kind, p, &views(tape, self.items, self.standards, rows, &presence), &presence);
        let [weight, bias, scale] = [3, 2, 1].map(|from_end| p[p.len() - from_end]);
        let gallery = tape.constant(self.gallery.pick(rows)).linear(weight, Some(bias)).unit_rows();
        let groups: Vec<u32> = rows.iter().map(|row| self.groups[*row]).collect();
        contrast(queries, gallery, scale, &groups)
    }

    fn tell(&self, key: &mut Key) {
        key.words(&format!("{:?} {:?}", self.config, self.items.present));
        (0..self.items.views.len()).for_each(|view| key.array(&self.items.rows(view)));
        key.array(&self.gallery);
    }

    fn figure(&self, p: &[Array<f32>], aside: &[usize]) -> f64 {
        let tape = Tape::new();
        let presence = self.items.presence(aside);
        let parameters: Vec<Var<'_, f32>> = p.iter().map(|p| tape.constant(p.clone())).collect();
        let x = views(&tape, self.items, self.standards, aside, &presence);
        let queries = fuse(self.config.kind, &parameters, &x, &presence);
        let [n, dim] = queries.shape();
        let gallery = tape.constant(Array::new(n, dim, mapped(p, self.gallery.pick(aside))));
        let scores = queries.dot_rows(gallery).value();
        let right = |i: usize, j: usize| self.groups[aside[i]] == self.groups[aside[j]];
        (mean_reciprocal_rank(&scores, right) + mean_reciprocal_rank(&scores.transposed(), right)) / 2.0
    }
}
