//! Contrastive learning pair by pair: do these two belong together, yes or no?
//!
//! # Reference
//! X. Zhai, B. Mustafa, A. Kolesnikov, L. Beyer, Sigmoid Loss for Language Image Pre-Training, ICCV 2023, eq. 1 (SigLIP). Checked against torch,
//! which SigLIP's class in `transformers` agrees with (`reference/align_deep_goldens.py`). Differs from it in: towers on ready features.
//!
//! # Model
//! loss = -1/n sum_ij log sigma(z_ij (e^t u_i'v_j + b)), z = 1 for right answers, else -1; t starts at ln 10, b at -10 as in the paper.
//!
//! # Cost
//! O(n^2 k) a batch beside the towers. No row's part hangs on another pair, so batches may be small.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`].

use super::unit::{UnitRows, softplus};
use super::{Batch, DeepConfig, Loss, Objective};
use crate::fit::FitError;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;

/// Contrastive learning pair by pair with two towers.
pub type SigmoidConfig = DeepConfig<Sigmoid>;

/// The sigmoid loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmoid {
    /// Factor on similarities at first; above 0.
    pub scale: f64,
    /// What is added to them at first.
    pub bias: f64,
}

impl Default for Sigmoid {
    fn default() -> Self {
        Self { scale: 10.0, bias: -10.0 }
    }
}

impl Objective for Sigmoid {
    fn name(&self) -> &'static str {
        "siglip"
    }

    fn check(&self) -> Result<(), FitError> {
        crate::hashing::above_zero("scale", self.scale)
    }

    fn own(&self, _dim: usize, _n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        vec![Mat::from_fn(1, 2, |_, j| if j == 0 { self.scale.ln() } else { self.bias })]
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (u, v) = (UnitRows::new(y[0]), UnitRows::new(y[1]));
        let (n, scale, bias) = (batch.n(), own[0][(0, 0)].exp(), own[0][(0, 1)]);
        let mut d = product(u.u.as_ref(), v.u.transpose());
        let (mut value, mut d_scale, mut d_bias) = (0.0, 0.0, 0.0);
        for j in 0..n {
            for i in 0..n {
                let z = if batch.related(i, j) { 1.0 } else { -1.0 };
                let scaled = scale * d[(i, j)];
                let logit = scaled + bias;
                let (plus, slope) = softplus(-z * logit);
                value += plus / n as f64;
                let slope = -z * slope / n as f64;
                (d_scale, d_bias) = (d_scale + slope * scaled, d_bias + slope);
                d[(i, j)] = scale * slope;
            }
        }
        let outputs = [u.backward(&product(d.as_ref(), v.u.as_ref())), v.backward(&product(d.transpose(), u.u.as_ref()))];
        Ok(Loss { value, outputs, own: vec![Mat::from_fn(1, 2, |_, j| if j == 0 { d_scale } else { d_bias })] })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("scale".to_owned(), self.scale.to_string()), ("bias".to_owned(), self.bias.to_string())]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Sigmoid(config)
    }
}
