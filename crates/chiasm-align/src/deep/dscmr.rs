//! Deep supervised cross-modal retrieval: a shared classifier, answers alike by class, pairs near to one another.
//!
//! # Reference
//! L. Zhen, P. Hu, X. Wang, D. Peng, Deep Supervised Cross-Modal Retrieval, CVPR 2019, eq. 2-6. Checked against torch
//! (`reference/align_deep_goldens.py`). Differs from it in: the towers of this folder; the norms of the first and third term are not squared, as in
//! the authors' code; the likelihood is written without overflow; the epoch is chosen on rows set aside from those learned from.
//!
//! # Model
//! loss = mean_i |P(u_i) - y_i| + mean_i |P(v_i) - y_i| + alpha sum over (u,u), (u,v), (v,v) of mean_ij [ log(1 + e^O_ij) - S_ij O_ij ]
//! + beta mean_i |u_i - v_i|, with O = cosine / 2, S_ij = 1 where classes are shared, P linear and shared by the views.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | y_i | 1 for each class of the row | `[c]` | - |
//! | P | own parameter | `[k, c]` | - |
//! | lambda, eta | [`Dscmr::alpha`], [`Dscmr::beta`] | - | at least 0 |
//!
//! # Cost
//! O(n^2 k + n k c) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`].

use super::unit::{UnitRows, add_scaled, softplus};
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Deep supervised cross-modal retrieval.
pub type DscmrConfig = DeepConfig<Dscmr>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Dscmr {
    /// Weight of the likelihood of shared classes; at least 0.
    pub alpha: f64,
    /// Weight of the distance of pairs; at least 0.
    pub beta: f64,
}

impl Default for Dscmr {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 0.1 }
    }
}

impl Objective for Dscmr {
    fn name(&self) -> &'static str {
        "dscmr"
    }

    fn towers() -> TowerConfig {
        TowerConfig { correlation_power: 0.5, max_epochs: 60, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        at_least_zero("alpha", self.alpha)?;
        at_least_zero("beta", self.beta)
    }

    fn own(&self, dim: usize, n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        vec![Mat::zeros(dim, n_classes)]
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (n, p) = (batch.n(), &own[0]);
        let labels = batch.labels.as_ref().expect("a method that needs labels is not fitted without");
        let share = 1.0 / n as f64;
        let mut value = 0.0;
        let mut outputs = [0, 1].map(|v: usize| Mat::zeros(y[v].nrows(), y[v].ncols()));
        let mut d_own = Mat::zeros(p.nrows(), p.ncols());
        for v in 0..2 {
            let mut rest = product(y[v].as_ref(), p.as_ref());
            for i in 0..n {
                // Nothing is known of a row without a class.
                if labels.of(i).is_empty() {
                    rest.row_mut(i).fill(0.0);
                }
                labels.of(i).iter().for_each(|class| rest[(i, *class as usize)] -= 1.0);
            }
            value += share * norms_and_slopes(&mut rest, share).iter().sum::<f64>();
            add_scaled(&mut outputs[v], 1.0, &product(rest.as_ref(), p.transpose()));
            add_scaled(&mut d_own, 1.0, &product(y[v].transpose(), rest.as_ref()));
        }
        let units = [UnitRows::new(y[0]), UnitRows::new(y[1])];
        let mut d_units = [0, 1].map(|v: usize| Mat::zeros(y[v].nrows(), y[v].ncols()));
        let square = self.alpha * share * share;
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            let mut d = product(units[a].u.as_ref(), units[b].u.transpose());
            for j in 0..n {
                for i in 0..n {
                    let (o, s) = (d[(i, j)] / 2.0, f64::from(u8::from(batch.related(i, j))));
                    let (plus, slope) = softplus(o);
                    value += square * (plus - s * o);
                    d[(i, j)] = square * (slope - s) / 2.0;
                }
            }
            let (to_a, to_b) = (product(d.as_ref(), units[b].u.as_ref()), product(d.transpose(), units[a].u.as_ref()));
            add_scaled(&mut d_units[a], 1.0, &to_a);
            add_scaled(&mut d_units[b], 1.0, &to_b);
        }
        for v in 0..2 {
            let back = units[v].backward(&d_units[v]);
            add_scaled(&mut outputs[v], 1.0, &back);
        }
        let mut apart = y[0].clone();
        add_scaled(&mut apart, -1.0, y[1]);
        value += self.beta * share * norms_and_slopes(&mut apart, self.beta * share).iter().sum::<f64>();
        add_scaled(&mut outputs[0], 1.0, &apart);
        add_scaled(&mut outputs[1], -1.0, &apart);
        Ok(Loss { value, outputs, own: vec![d_own] })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("alpha".to_owned(), self.alpha.to_string()), ("beta".to_owned(), self.beta.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![[0.1, 10.0].map(|alpha| Dscmr { alpha, ..self.clone() }).to_vec()]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Dscmr(config)
    }
}

/// The length of each row, which is replaced by the gradient of `factor` times it; 0 for a row of zeros.
fn norms_and_slopes(x: &mut Mat, factor: f64) -> Vec<f64> {
    let norm = |i: usize| (0..x.ncols()).map(|j| x[(i, j)] * x[(i, j)]).sum::<f64>().sqrt();
    let norms: Vec<f64> = (0..x.nrows()).map(norm).collect();
    for j in 0..x.ncols() {
        x.col_mut(j).iter_mut().zip(&norms).for_each(|(v, n)| *v = if *n > 0.0 { factor * *v / n } else { 0.0 });
    }
    norms
}
