//! Deep joint-semantics reconstructing hashing: codes, without classes, that are alike where both views say so.
//!
//! # Reference
//! S. Su, Z. Zhong, C. Zhang, Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised Cross-Modal Retrieval, ICCV 2019, eq. 3-9.
//! Checked against torch (`reference/align_deep_goldens.py`). Differs from it in: towers on ready features; similarities are of rows about their
//! mean, so that unrelated ones are near 0 without the paper's 2 cos - 1.
//!
//! # Model
//! S~ = beta cos(X, X) + (1 - beta) cos(Y, Y); S = mu [ (1 - eta) S~ + eta S~S~'/n ]; B_v = tanh(a z_v), where a grows evenly from 1 to 10 over the
//! epochs; loss = mean (cos(B_0, B_1) - S)^2 + lambda mean (cos(B_0, B_0) - S)^2 + lambda mean (cos(B_1, B_1) - S)^2.
//! S may be greater than 1, which asks for the closest that codes can be.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | beta, eta | [`Djsrh::beta`], [`Djsrh::eta`] | - | 0 to 1 |
//! | mu, lambda | [`Djsrh::mu`], [`Djsrh::lambda`] | - | above 0; at least 0 |
//!
//! # Cost
//! O(n^3 + n^2 (d + r)) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`].

use super::unit::{UnitRows, add_scaled};
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// By how much the tanh is sharper in the end than at the start.
const SHARPENING: f64 = 10.0;

/// Deep joint-semantics reconstructing hashing.
pub type DjsrhConfig = DeepConfig<Djsrh>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Djsrh {
    /// Weight of the first view's similarities beside the second's; 0 to 1.
    pub beta: f64,
    /// Weight of similarities by common neighbours; 0 to 1.
    pub eta: f64,
    /// Factor on similarities; above 0.
    pub mu: f64,
    /// Weight of each view's own similarities; at least 0.
    pub lambda: f64,
}

impl Default for Djsrh {
    fn default() -> Self {
        Self { beta: 0.5, eta: 0.4, mu: 1.5, lambda: 0.1 }
    }
}

impl Djsrh {
    /// What the codes are to be like, `[n, n]`.
    fn wanted(&self, inputs: &[Mat; 2]) -> Mat {
        let cosines = |x: &Mat| {
            let u = UnitRows::new(x).u;
            product(u.as_ref(), u.transpose())
        };
        let mut both = cosines(&inputs[0]);
        let n = both.nrows();
        linalg::scale_rows(&mut both, &vec![self.beta; n]);
        add_scaled(&mut both, 1.0 - self.beta, &cosines(&inputs[1]));
        let common = product(both.as_ref(), both.transpose());
        let share = self.eta / n as f64;
        Mat::from_fn(n, n, |i, j| self.mu * ((1.0 - self.eta) * both[(i, j)] + share * common[(i, j)]))
    }
}

impl Objective for Djsrh {
    fn name(&self) -> &'static str {
        "djsrh"
    }

    fn towers() -> TowerConfig {
        TowerConfig { dim: 64, correlation_power: 0.0, ..TowerConfig::default() }
    }

    fn check(&self) -> Result<(), FitError> {
        for (name, value) in [("beta", self.beta), ("eta", self.eta)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(FitError::Config { name, value: value.to_string(), expected: "a share of 0 to 1" });
            }
        }
        crate::hashing::above_zero("mu", self.mu)?;
        at_least_zero("lambda", self.lambda)
    }

    fn loss(&self, y: [&Mat; 2], _own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let n = batch.n();
        let sharpness = 1.0 + (SHARPENING - 1.0) * batch.done;
        let codes = y.map(|y| Mat::from_fn(n, y.ncols(), |i, j| (sharpness * y[(i, j)]).tanh()));
        let units = [UnitRows::new(&codes[0]), UnitRows::new(&codes[1])];
        let wanted = self.wanted(&batch.inputs);
        let mut d_units = [0, 1].map(|v: usize| Mat::zeros(n, y[v].ncols()));
        let mut value = 0.0;
        for (a, b, weight) in [(0, 1, 1.0), (0, 0, self.lambda), (1, 1, self.lambda)] {
            let mut d = product(units[a].u.as_ref(), units[b].u.transpose());
            let share = weight / (n * n) as f64;
            for j in 0..n {
                for i in 0..n {
                    let gap = d[(i, j)] - wanted[(i, j)];
                    value += share * gap * gap;
                    d[(i, j)] = 2.0 * share * gap;
                }
            }
            let (to_a, to_b) = (product(d.as_ref(), units[b].u.as_ref()), product(d.transpose(), units[a].u.as_ref()));
            add_scaled(&mut d_units[a], 1.0, &to_a);
            add_scaled(&mut d_units[b], 1.0, &to_b);
        }
        let outputs = [0, 1].map(|v: usize| {
            let d = units[v].backward(&d_units[v]);
            Mat::from_fn(n, y[v].ncols(), |i, j| {
                let code = codes[v][(i, j)];
                d[(i, j)] * sharpness * (1.0 - code * code)
            })
        });
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [("beta", self.beta), ("eta", self.eta), ("mu", self.mu), ("lambda", self.lambda)];
        all.map(|(name, value)| (name.to_owned(), value.to_string())).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![[0.2, 0.8].map(|beta| Djsrh { beta, ..self.clone() }).to_vec()]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Djsrh(config)
    }
}
