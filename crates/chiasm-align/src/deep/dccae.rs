//! Deep canonically correlated autoencoders: outputs that correlate, and from which what went in can be told again.
//!
//! # Reference
//! W. Wang, R. Arora, K. Livescu, J. Bilmes, On Deep Multi-View Representation Learning, ICML 2015, eq. 5. Checked against torch
//! (`reference/align_deep_goldens.py`). Differs from it in: what goes in is told by an affine map of the outputs in place of a second network; its error is a share of
//! the rows' own sum of squares, so that one weight means the same for all features; the deviations of [`super::dcca`].
//!
//! # Model
//! loss = -tr D of [`super::dcca`] + l sum_v sum_i |x_vi - (y_vi W_v + b_v)|^2 / sum_i |x_vi|^2 for rows x_v of the views' axes and outputs y_v.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | p, q | own parameters W_v, b_v | `[k, m_v]`, `[1, m_v]` | - |
//! | lambda | [`Dccae::reconstruction`] | - | at least 0 |
//!
//! # Cost
//! That of [`super::dcca`] and O(n k m) a batch.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`], [`FitError::Numeric`].

use super::dcca::Dcca;
use super::tower::Affine;
use super::unit::add_scaled;
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Deep canonically correlated autoencoders.
pub type DccaeConfig = DeepConfig<Dccae>;

/// The sum of correlations, and what of the rows is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Dccae {
    /// The correlations.
    pub dcca: Dcca,
    /// Weight of what is lost; at least 0.
    pub reconstruction: f64,
}

impl Default for Dccae {
    fn default() -> Self {
        Self { dcca: Dcca::default(), reconstruction: 1.0 }
    }
}

impl Objective for Dccae {
    fn name(&self) -> &'static str {
        "dccae"
    }

    fn towers() -> TowerConfig {
        Dcca::towers()
    }

    fn check(&self) -> Result<(), FitError> {
        self.dcca.check()?;
        at_least_zero("reconstruction", self.reconstruction)
    }

    fn batch(&self, config: &TowerConfig, dim: usize) -> usize {
        self.dcca.batch(config, dim)
    }

    fn own(&self, dim: usize, _n_classes: usize, widths: [usize; 2]) -> Vec<Mat> {
        widths.iter().flat_map(|width| [Mat::zeros(dim, *width), Mat::zeros(1, *width)]).collect()
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let mut loss = self.dcca.loss(y, &[], batch)?;
        for v in 0..2 {
            let (x, map, shift) = (&batch.inputs[v], &own[2 * v], &own[2 * v + 1]);
            let mut rest = product(y[v].as_ref(), map.as_ref());
            let (mut lost, mut whole) = (0.0, 0.0);
            for j in 0..x.ncols() {
                for i in 0..x.nrows() {
                    rest[(i, j)] += shift[(0, j)] - x[(i, j)];
                    (lost, whole) = (lost + rest[(i, j)] * rest[(i, j)], whole + x[(i, j)] * x[(i, j)]);
                }
            }
            let factor = if whole > 0.0 { self.reconstruction / whole } else { 0.0 };
            loss.value += factor * lost;
            linalg::scale_rows(&mut rest, &vec![2.0 * factor; x.nrows()]);
            add_scaled(&mut loss.outputs[v], 1.0, &product(rest.as_ref(), map.transpose()));
            loss.own.push(product(y[v].transpose(), rest.as_ref()));
            loss.own.push(Mat::from_fn(1, x.ncols(), |_, j| rest.col(j).iter().sum::<f64>()));
        }
        Ok(loss)
    }

    fn finish(&self, outputs: &dyn Fn() -> [Mat; 2]) -> Result<Option<[Affine; 2]>, FitError> {
        self.dcca.finish(outputs)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let reconstruction = ("reconstruction".to_owned(), self.reconstruction.to_string());
        self.dcca.parameters().into_iter().chain([reconstruction]).collect()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        let mut lists: Vec<Vec<Self>> = Vec::new();
        for list in self.dcca.neighbours() {
            lists.push(list.into_iter().map(|dcca| Dccae { dcca, ..self.clone() }).collect());
        }
        lists.push([0.1, 10.0].map(|reconstruction| Dccae { reconstruction, ..self.clone() }).to_vec());
        lists
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Dccae(config)
    }
}
