//! Deep canonical correlation analysis: towers whose outputs correlate as much as they can.
//!
//! # Reference
//! G. Andrew, R. Arora, J. Bilmes, K. Livescu, Deep Canonical Correlation Analysis, ICML 2013, eq. 10-12. Checked against torch's own gradient of
//! the trace norm (`reference/align_deep_goldens.py`). Differs from it in: a step takes large batches in place of all rows (W. Wang et al.,
//! On Deep Multi-View Representation Learning, ICML 2015).
//!
//! # Model
//! H_1, H_2 outputs about their means; S_11 = H_1'H_1/(n-1) + r I, S_22 alike, S_12 = H_1'H_2/(n-1); R_v such that R_v'S_vv R_v = I; T = R_1'S_12 R_2 =
//! U D V'. Maximise tr D, the sum of the correlations. With N_12 = R_1 U V'R_2' and N_11 = -1/2 R_1 U D U'R_1':
//! d tr D / d H_1 = (2 H_1 N_11 + H_2 N_12') / (n-1), and so for H_2. No decomposition is differentiated, so that equal correlations do no harm.
//! In the end the outputs of all rows go through linear CCA, weighted by a power of the correlations.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | o | [`super::TowerConfig::dim`] | - | - |
//! | r_1 = r_2 | [`Dcca::ridge`] | - | above 0 |
//! | batch | the greater of [`super::TowerConfig::batch`] and 10 o | - | - |
//!
//! # Cost
//! O(n k^2 + k^3) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`], [`FitError::Numeric`].

use super::tower::Affine;
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;

/// Rows of a batch for each output: fewer, and the batch's own chances correlate.
const ROWS_PER_OUTPUT: usize = 10;

/// Deep canonical correlation analysis.
pub type DccaConfig = DeepConfig<Dcca>;

/// The sum of correlations.
#[derive(Clone, Debug, PartialEq)]
pub struct Dcca {
    /// Added to the variances of the outputs, which the start gives a mean of about 1; above 0.
    pub ridge: f64,
    /// Each canonical coordinate is multiplied by its correlation to this power in the end; at least 0.
    pub correlation_power: f64,
}

impl Default for Dcca {
    fn default() -> Self {
        Self { ridge: 1e-3, correlation_power: 1.0 }
    }
}

/// The outputs about their means and what whitens them.
pub(super) struct Centred {
    pub(super) h: Mat,
    pub(super) mean: Vec<f64>,
    pub(super) root: Mat,
}

impl Centred {
    pub(super) fn new(y: &Mat, ridge: f64) -> Result<Centred, FitError> {
        let n = y.nrows() as f64;
        let mean: Vec<f64> = (0..y.ncols()).map(|j| y.col(j).iter().sum::<f64>() / n).collect();
        let h = Mat::from_fn(y.nrows(), y.ncols(), |i, j| y[(i, j)] - mean[j]);
        let mut covariance = product(h.transpose(), h.as_ref());
        linalg::scale_rows(&mut covariance, &vec![1.0 / (n - 1.0); y.ncols()]);
        let root = linalg::inverse_root(&covariance, ridge)?;
        Ok(Centred { h, mean, root: root.ok_or(FitError::Numeric { what: "whitening the outputs" })? })
    }
}

impl Objective for Dcca {
    fn name(&self) -> &'static str {
        "dcca"
    }

    fn towers() -> TowerConfig {
        TowerConfig { dim: 64, correlation_power: 0.0, ..TowerConfig::default() }
    }

    fn check(&self) -> Result<(), FitError> {
        crate::hashing::above_zero("ridge", self.ridge)?;
        crate::reduced::at_least_zero("correlation_power", self.correlation_power)
    }

    fn batch(&self, config: &TowerConfig, dim: usize) -> usize {
        config.batch.max(ROWS_PER_OUTPUT * dim)
    }

    fn loss(&self, y: [&Mat; 2], _own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (a, b) = (Centred::new(y[0], self.ridge)?, Centred::new(y[1], self.ridge)?);
        let factor = 1.0 / (batch.n() as f64 - 1.0);
        let mut cross = product(a.h.transpose(), b.h.as_ref());
        linalg::scale_rows(&mut cross, &vec![factor; a.h.ncols()]);
        let t = product(product(a.root.transpose(), cross.as_ref()).as_ref(), b.root.as_ref());
        let (u, values, v) = linalg::thin_svd(t.as_ref())?;
        let (left, right) = (product(a.root.as_ref(), u.as_ref()), product(b.root.as_ref(), v.as_ref()));
        let between = product(left.as_ref(), right.transpose());
        // -1/2 of the formula's, doubled by its 2.
        let own = |side: &Mat| {
            let mut scaled = side.clone();
            linalg::scale_cols(&mut scaled, &values);
            product(scaled.as_ref(), side.transpose())
        };
        let gradient = |h: &Mat, other: &Mat, side: &Mat, between: faer::MatRef<'_, f64>| {
            let mut d = product(h.as_ref(), own(side).as_ref());
            let towards = product(other.as_ref(), between);
            (0..d.ncols()).for_each(|j| (0..d.nrows()).for_each(|i| d[(i, j)] = factor * (d[(i, j)] - towards[(i, j)])));
            d
        };
        let outputs = [gradient(&a.h, &b.h, &left, between.transpose()), gradient(&b.h, &a.h, &right, between.as_ref())];
        Ok(Loss { value: -values.iter().sum::<f64>(), outputs, own: Vec::new() })
    }

    fn finish(&self, outputs: &dyn Fn() -> [Mat; 2]) -> Result<Option<[Affine; 2]>, FitError> {
        let y = outputs();
        let (a, b) = (Centred::new(&y[0], self.ridge)?, Centred::new(&y[1], self.ridge)?);
        let mut cross = product(a.h.transpose(), b.h.as_ref());
        linalg::scale_rows(&mut cross, &vec![1.0 / (a.h.nrows() as f64 - 1.0); a.h.ncols()]);
        let t = product(product(a.root.transpose(), cross.as_ref()).as_ref(), b.root.as_ref());
        let (u, values, v) = linalg::thin_svd(t.as_ref())?;
        let factors: Vec<f64> = values.iter().map(|c| c.min(1.0).powf(self.correlation_power)).collect();
        let map = |side: &Centred, directions: &Mat| {
            let mut map = product(side.root.as_ref(), directions.as_ref());
            linalg::scale_cols(&mut map, &factors);
            let shift = (0..map.ncols()).map(|j| -side.mean.iter().enumerate().map(|(i, m)| m * map[(i, j)]).sum::<f64>());
            let shift = shift.collect();
            Affine { map, shift }
        };
        Ok(Some([map(&a, &u), map(&b, &v)]))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("ridge".to_owned(), self.ridge.to_string()), ("final_power".to_owned(), self.correlation_power.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [1e-2, 0.1, 1.0].map(|ridge| Dcca { ridge, ..self.clone() }).to_vec(),
            [0.0, 2.0].map(|correlation_power| Dcca { correlation_power, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Dcca(config)
    }
}
