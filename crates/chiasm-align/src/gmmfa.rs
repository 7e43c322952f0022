//! Generalised multiview marginal Fisher analysis: near rows of one class close, near rows of other classes far, pairs together.
//!
//! # Reference
//! A. Sharma, A. Kumar, H. Daume III, D. W. Jacobs, Generalized Multiview Analysis: A Discriminative Latent Space, CVPR 2012, section
//! 4.1; the graphs: S. Yan et al., Graph Embedding and Extensions, TPAMI 29, 2007. Checked against scipy's generalised eigenproblem
//! (`reference/align_discriminative_goldens.py`). Differs from the paper in the units of alpha (see [`crate::gmlda`]), and in that
//! above [`GmmfaConfig::max_rows`] rows the graphs are drawn over that many of them.
//!
//! # Model
//! A = X'(D_p - W_p)X, W_p joins each row with its k2 nearest of other classes; B = X'(D_i - W_i)X + ridge, W_i joins it with its k1
//! nearest of its class (both made symmetric); Z as in [`crate::gmlda`]; solved together as in `gma.rs`.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X | `pairs.views`, preprocessed, centred, in principal axes | `[n, m]` | - |
//! | k1, k2 | [`GmmfaConfig::n_same`], [`GmmfaConfig::n_other`] | - | at least 1; 50 and 400 in the authors' code |
//! | alpha | [`GmmfaConfig::alpha`] | - | at least 0 |
//!
//! # Cost
//! O(n^2 m + (m0 + m1)^3) time, O(n m + n (k1 + k2)) memory, n at most `max_rows`.
//!
//! # Determinism
//! The rows of the graphs are drawn by the seed. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::label_ridge`], which takes the same pairs.

use chiasm_core::Labels;
use faer::MatRef;
use rayon::prelude::*;

use crate::fit::{FitError, Run};
use crate::gma::{self, Gma};
use crate::gmlda::{Coupling, coupled};
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution, pick_rows};
use crate::supervised::{draw_labelled, scatters};

/// How GMMFA is done.
#[derive(Clone, Debug, PartialEq)]
pub struct GmmfaConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// How much being together across views counts; at least 0.
    pub alpha: f64,
    /// What couples the views.
    pub coupling: Coupling,
    /// Nearest rows of its class that each row is joined with.
    pub n_same: usize,
    /// Nearest rows of other classes that each row is joined with.
    pub n_other: usize,
    /// Rows over which the graphs are drawn at most.
    pub max_rows: usize,
    /// Coordinates kept at most.
    pub max_components: usize,
    /// Each coordinate is multiplied by its eigenvalue, relative to the first, to this power; at least 0, which is the paper's.
    pub eigenvalue_power: f64,
}

impl Default for GmmfaConfig {
    /// The authors' neighbourhoods, class means coupled strongly.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
        Self {
            views: [view; 2],
            alpha: 100.0,
            coupling: Coupling::ClassMeans,
            n_same: 50,
            n_other: 400,
            max_rows: 5000,
            max_components: 128,
            eigenvalue_power: 0.5,
        }
    }
}

impl Linear for GmmfaConfig {
    fn name(&self) -> &'static str {
        "gmmfa"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, self.eigenvalue_power)?;
        reduced::at_least_zero("alpha", self.alpha)?;
        let fields = [("n_same", self.n_same), ("n_other", self.n_other), ("max_rows", self.max_rows)];
        fields.iter().try_for_each(|(name, value)| reduced::at_least_one(name, *value))?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn correlation_power(&self) -> f64 {
        self.eigenvalue_power
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let of = |v: usize| scatters(reduced.rows(v, &views[v]), reduced.labels(), reduced.classes(), v);
        let sides = [of(0), of(1)];
        let z = coupled(self.coupling, reduced, views, &sides);
        let drawn = draw_labelled(reduced.labels(), self.max_rows, run.seed);
        let labels = reduced.labels().pick(&drawn);
        let margins = |v: usize| -> Result<(Mat, Mat), FitError> {
            run.cancel.check()?;
            let x = pick_rows(&reduced.rows(v, &views[v]).to_owned(), &drawn);
            Ok(margins(x.as_ref(), &labels, self.n_same, self.n_other))
        };
        let ((a0, b0), (a1, b1)) = (margins(0)?, margins(1)?);
        let (values, weights) = Gma::balanced([a0, a1], [b0, b1], z, self.alpha, [views[0].ridge, views[1].ridge]).solve()?;
        Ok(Solution::ordered(weights, gma::relative(&values)))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = reduced::parameters(&self.views, self.max_components, self.eigenvalue_power);
        if let Some((name, _)) = all.last_mut() {
            *name = "eigenvalue_power".to_owned();
        }
        let fields = [
            ("alpha", self.alpha.to_string()),
            ("coupling", self.coupling.describe()),
            ("n_same", self.n_same.to_string()),
            ("n_other", self.n_other.to_string()),
            ("max_rows", self.max_rows.to_string()),
        ];
        all.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            lists.push(reduced::each(self, entries, |c, entry| c.views[v].preprocess = entry));
        }
        lists.push(reduced::each(self, &[1e-3, 0.1, 1.0], |c, r| c.views.iter_mut().for_each(|v| v.ridge = r)));
        lists.push(reduced::each(self, &[1.0, 10.0, 1e3, 1e4], |c, alpha| c.alpha = alpha));
        lists.push(reduced::each(self, &[Coupling::ClassMeans, Coupling::Pairs], |c, z| c.coupling = z));
        lists.push(reduced::each(self, &[4, 6, 9, 12, 18, 32, 64], |c, k| c.max_components = k));
        lists.push(reduced::each(self, &[0.0, 0.5, 1.0], |c, p| c.eigenvalue_power = p));
        reduced::listed(lists, MethodConfig::Gmmfa)
    }
}

/// `X'(D - W)X` of the graph to other classes, and of the graph within classes, `[m, m]` each.
pub(crate) fn margins(x: MatRef<'_, f64>, labels: &Labels, n_same: usize, n_other: usize) -> (Mat, Mat) {
    let n = x.nrows();
    let rows: Vec<Vec<f64>> = (0..n).map(|i| x.row(i).iter().copied().collect()).collect();
    let nearest = |i: usize| -> (Vec<usize>, Vec<usize>) {
        let distance = |j: usize| rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let (mut same, mut other) = (Vec::new(), Vec::new());
        for j in (0..n).filter(|j| *j != i) {
            if labels.share(i, labels, j) { same.push((distance(j), j)) } else { other.push((distance(j), j)) }
        }
        (closest(same, n_same), closest(other, n_other))
    };
    let graphs: Vec<(Vec<usize>, Vec<usize>)> = (0..n).into_par_iter().map(nearest).collect();
    let (same, other): (Vec<_>, Vec<_>) = graphs.into_iter().unzip();
    (laplacian_form(x, &other), laplacian_form(x, &same))
}

fn closest(mut all: Vec<(f64, usize)>, k: usize) -> Vec<usize> {
    let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.into_iter().map(|(_, j)| j).collect()
}

/// `X'(D - W)X = sum over edges of (x_i - x_j)(x_i - x_j)'`; an edge stands once, whoever named it.
fn laplacian_form(x: MatRef<'_, f64>, neighbours: &[Vec<usize>]) -> Mat {
    const EDGES_PER_BLOCK: usize = 4096;
    let mut edges: Vec<(usize, usize)> =
        neighbours.iter().enumerate().flat_map(|(i, of)| of.iter().map(move |j| (i.min(*j), i.max(*j)))).collect();
    edges.sort_unstable();
    edges.dedup();
    let m = x.ncols();
    let mut sum = Mat::zeros(m, m);
    for block in edges.chunks(EDGES_PER_BLOCK) {
        let steps = Mat::from_fn(block.len(), m, |e, j| x[(block[e].0, j)] - x[(block[e].1, j)]);
        sum += crate::linalg::product(steps.transpose(), steps.as_ref());
    }
    sum
}
