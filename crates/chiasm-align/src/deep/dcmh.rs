//! Deep cross-modal hashing by classes: codes that are alike where classes are shared.
//!
//! # Reference
//! Q.-Y. Jiang, W.-J. Li, Deep Cross-Modal Hashing, CVPR 2017, eq. 1. Checked against torch (`reference/align_deep_goldens.py`). Differs from
//! it in: towers on ready features; all terms are taken over a batch, where the paper keeps the outputs of all rows; B is the sign of the
//! batch's F + G at each step; means in place of sums.
//!
//! # Model
//! O_ij = f_i'g_j / 2; loss = 1/n^2 sum_ij [ log(1 + e^O_ij) - S_ij O_ij ] + gamma/n (|B - F|^2 + |B - G|^2)/r + eta (|F'1/n|^2 + |G'1/n|^2)/r, B = sign(F + G),
//! S_ij = 1 where classes are shared. The factor 1/r, r bits, keeps the weights good for codes of any length, and O is divided by sqrt(r) for the
//! same reason.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | F, G | outputs of the towers | `[n, r]` | - |
//! | gamma, eta | [`Dcmh::gamma`], [`Dcmh::eta`] | - | at least 0 |
//!
//! # Cost
//! O(n^2 r) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`].

use super::unit::softplus;
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::hashing::sign;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Deep cross-modal hashing.
pub type DcmhConfig = DeepConfig<Dcmh>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Dcmh {
    /// Weight of the distance to the codes; at least 0.
    pub gamma: f64,
    /// Weight of the balance of bits; at least 0.
    pub eta: f64,
}

impl Default for Dcmh {
    fn default() -> Self {
        Self { gamma: 0.1, eta: 0.1 }
    }
}

impl Objective for Dcmh {
    fn name(&self) -> &'static str {
        "dcmh"
    }

    fn towers() -> TowerConfig {
        TowerConfig { dim: 64, correlation_power: 0.0, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        at_least_zero("gamma", self.gamma)?;
        at_least_zero("eta", self.eta)
    }

    fn loss(&self, y: [&Mat; 2], _own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (n, bits) = (batch.n(), y[0].ncols());
        let (share, root) = (1.0 / n as f64, 1.0 / (bits as f64).sqrt());
        let mut value = 0.0;
        let mut d = product(y[0].as_ref(), y[1].transpose());
        for j in 0..n {
            for i in 0..n {
                let (o, s) = (d[(i, j)] * root / 2.0, f64::from(u8::from(batch.related(i, j))));
                let (plus, slope) = softplus(o);
                value += share * share * (plus - s * o);
                d[(i, j)] = share * share * (slope - s) * root / 2.0;
            }
        }
        let mut outputs = [product(d.as_ref(), y[1].as_ref()), product(d.transpose(), y[0].as_ref())];
        for j in 0..bits {
            for v in 0..2 {
                let mean = y[v].col(j).iter().sum::<f64>() * share;
                value += self.eta * mean * mean / bits as f64;
                for i in 0..n {
                    let gap = y[v][(i, j)] - sign(y[0][(i, j)] + y[1][(i, j)]);
                    value += self.gamma * share * gap * gap / bits as f64;
                    outputs[v][(i, j)] += 2.0 * share * (self.gamma * gap + self.eta * mean) / bits as f64;
                }
            }
        }
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("gamma".to_owned(), self.gamma.to_string()), ("eta".to_owned(), self.eta.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![[0.01, 1.0].map(|gamma| Dcmh { gamma, ..self.clone() }).to_vec()]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Dcmh(config)
    }
}
