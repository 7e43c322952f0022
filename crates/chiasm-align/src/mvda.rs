//! Multi-view discriminant analysis: one Fisher criterion over the rows of all views together.
//!
//! # Reference
//! M. Kan, S. Shan, H. Zhang, S. Lao, X. Chen, Multi-view Discriminant Analysis, ECCV 2012; with view consistency: TPAMI 38, 2016.
//! Checked against scipy's generalised eigenproblem (`reference/align_discriminative_goldens.py`). Differs from them in the unit
//! of lambda, which here is relative.
//!
//! # Model
//! z = w_v'x_v over all views; max (between-class scatter of all z) / (within-class scatter of all z + lambda sum_{v<u}
//! |beta_v - beta_u|^2), w_v = X_v'beta_v. With S_v = X_v'X_v the last term is w_v'S_v^{-1}w_v + w_u'S_u^{-1}w_u
//! - 2 w_v'S_v^{-1} X_v'X_u S_u^{-1} w_u.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_v | `pairs.views`, preprocessed and centred | `[n, d_v]` | - |
//! | lambda | [`MvdaConfig::view_consistency`], relative | - | at least 0; 0 is plain MvDA |
//! | - | [`crate::ViewConfig::ridge`], on each view's within-class scatter | - | at least 0 |
//!
//! # Cost
//! O(n d^2 + D^3) time for D columns in all, O(d^2 + n m) memory.
//!
//! # Determinism
//! No chance is involved. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`crate::MccaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! See [`crate::label_ridge`], which takes the same pairs.

use std::ops::RangeInclusive;

use crate::fit::{FitError, Run};
use crate::linalg::{self, Blocks, Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::mean_diagonal;

/// How multi-view discriminant analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct MvdaConfig {
    /// Preprocessing, principal components and ridge, the same for every view or one for each.
    pub views: Vec<ViewConfig>,
    /// Weight of view consistency, relative to the within-class scatter; at least 0. It stands before the consistency times the mean
    /// diagonal of the within-class scatter times that of the views' scatters, so that it means the same on data of any size and
    /// scale.
    pub view_consistency: f64,
    /// Coordinates kept at most; there are no more than classes less one.
    pub max_components: usize,
}

impl Default for MvdaConfig {
    /// Plain MvDA on rows as they come, with a small ridge.
    fn default() -> Self {
        let view = ViewConfig { ridge: 1e-2, ..ViewConfig::default() };
        Self { views: vec![view], view_consistency: 0.0, max_components: 128 }
    }
}

impl Linear for MvdaConfig {
    fn name(&self) -> &'static str {
        "mvda"
    }

    fn n_views(&self) -> RangeInclusive<usize> {
        2..=usize::MAX
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        reduced::check(&self.views, self.max_components, 0.0)?;
        reduced::at_least_zero("view_consistency", self.view_consistency)?;
        reduced::one_for_each(&self.views, n_views)
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        let problem = Problem::new(reduced, views);
        let ridges: Vec<f64> = views.iter().zip(&problem.spreads).map(|(view, spread)| view.ridge * spread).collect();
        let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        let scatters: Vec<f64> = problem.scatters.iter().map(|s| mean(s)).collect();
        let (_, weights) = problem.solve(&ridges, self.view_consistency * mean(&problem.spreads) * mean(&scatters))?;
        let k = weights[0].ncols();
        Ok(Solution::ordered(weights, vec![1.0; k]))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = reduced::parameters(&self.views, self.max_components, 0.0);
        all.pop();
        all.push(("view_consistency".to_owned(), self.view_consistency.to_string()));
        all
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let one_each = Self { views: vec![self.views[0]; entries.len()], ..self.clone() };
        let here = if self.views.len() == entries.len() { self } else { &one_each };
        let mut lists = reduced::view_neighbours(here, entries, |c| &mut c.views);
        lists.push(reduced::each(here, &[1e-2, 0.1, 1.0, 10.0], |c, weight| c.view_consistency = weight));
        reduced::listed(lists, MethodConfig::Mvda)
    }
}

/// The criterion in the views' axes, without its regularisation.
pub(crate) struct Problem {
    /// Scatter within classes, one block `[m_v, m_u]` for each two views `u <= v`, in the order `(0, 0), (1, 0), (1, 1), ...`
    within: Vec<Mat>,
    /// Scatter between classes, likewise.
    between: Vec<Mat>,
    /// `X_v'X_u`, likewise; one of `u == v` is diagonal in these axes and stands in `scatters`.
    across: Vec<Mat>,
    /// `X_v'X_v`, its diagonal, `[m_v]` for each view.
    pub(crate) scatters: Vec<Vec<f64>>,
    /// Mean diagonal of each view's scatter within classes.
    pub(crate) spreads: Vec<f64>,
    /// Classes that have rows.
    n_classes: usize,
}

impl Problem {
    pub(crate) fn new(reduced: &Reduced, views: &[ViewConfig]) -> Self {
        let classes = reduced.classes();
        let n_views = views.len();
        // Rows of all views count, so each class has as many as its rows times the views.
        let all: f64 = classes.counts.iter().sum::<f64>() * n_views as f64;
        let present: Vec<usize> = (0..classes.counts.len()).filter(|c| classes.counts[*c] > 0.0).collect();
        let width = |v: usize| reduced.rows(v, &views[v]).ncols();
        let sums = |v: usize| classes.sums[v].subcols(0, width(v));
        // [classes, m]: class sums over the root of the class's size.
        let scaled = |v: usize| {
            Mat::from_fn(present.len(), width(v), |i, j| {
                sums(v)[(present[i], j)] / (classes.counts[present[i]] * n_views as f64).sqrt()
            })
        };
        let total_sum = |v: usize| Mat::from_fn(1, width(v), |_, j| present.iter().map(|c| sums(v)[(*c, j)]).sum::<f64>());
        let labels = reduced.labels();
        let weight: Vec<f64> = (0..labels.n()).map(|row| labels.of(row).len() as f64).collect();
        let (mut within, mut between, mut across, mut spreads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for v in 0..n_views {
            for u in 0..=v {
                let joint = product(scaled(v).transpose(), scaled(u).as_ref());
                let mut overall = product(total_sum(v).transpose(), total_sum(u).as_ref());
                let m = overall.nrows();
                linalg::scale_rows(&mut overall, &vec![1.0 / all; m]);
                between.push(&joint - &overall);
                let x = reduced.rows(v, &views[v]);
                if u == v {
                    let mut weighted = x.to_owned();
                    linalg::scale_rows(&mut weighted, &weight);
                    let w = product(x.transpose(), weighted.as_ref()) - joint;
                    spreads.push(mean_diagonal(&w));
                    within.push(w);
                    across.push(Mat::zeros(0, 0));
                } else {
                    within.push(-joint);
                    across.push(product(x.transpose(), reduced.rows(u, &views[u])));
                }
            }
        }
        let scatters = views.iter().enumerate().map(|(v, view)| reduced.scatter(v, view).0).collect();
        Self { within, between, across, scatters, spreads, n_classes: present.len() }
    }

    /// Eigenvalues, greatest first, and weights of each view, with `ridges` on the diagonal of each view's scatter within classes and
    /// `lambda` before the view consistency, all absolute.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub(crate) fn solve(&self, ridges: &[f64], lambda: f64) -> Result<(Vec<f64>, Vec<Mat>), FitError> {
        let n_views = self.scatters.len();
        let widths: Vec<usize> = self.scatters.iter().map(Vec::len).collect();
        let (mut within, mut between) = (Blocks::new(widths.clone()), Blocks::new(widths));
        for v in 0..n_views {
            for u in 0..=v {
                let at = v * (v + 1) / 2 + u;
                between.set(v, u, self.between[at].as_ref());
                let mut block = self.within[at].clone();
                if u == v {
                    let others = n_views as f64 - 1.0;
                    for (i, scatter) in self.scatters[v].iter().enumerate() {
                        block[(i, i)] += ridges[v] + lambda * others / scatter;
                    }
                } else {
                    let mut pull = self.across[at].clone();
                    linalg::scale_rows(&mut pull, &self.scatters[v].iter().map(|s| -lambda / s).collect::<Vec<_>>());
                    linalg::scale_cols(&mut pull, &self.scatters[u].iter().map(|s| 1.0 / s).collect::<Vec<_>>());
                    block += pull;
                }
                within.set(v, u, block.as_ref());
            }
        }
        let (values, weights) = Blocks::generalised(&between, &within)?;
        // Without a ridge and with fewer rows than columns all within-class scatter can vanish; what is left is the rank.
        let floor = values.first().copied().unwrap_or(0.0).max(0.0) * 1e-9;
        let k = values.iter().take(self.n_classes.saturating_sub(1)).take_while(|value| **value > floor).count();
        let weights = weights.iter().map(|w| w.subcols(0, k).to_owned()).collect();
        Ok((values[..k].to_vec(), weights))
    }
}
