//! Metric learning by N-pairs: each right answer against all wrong ones of a batch at once, by products.
//!
//! # Reference
//! K. Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016, eq. 6 and section 3.3. Checked against torch
//! (`reference/align_deep_goldens.py`). Differs from it in: towers on ready features; both directions are averaged; what is found is ranked by cosine,
//! as by every bridge here.
//!
//! # Model
//! loss = 1/2n sum over both directions and i of log(1 + sum_{j wrong for i} e^(u_i . v_j - u_i . v_i)) + r/4n sum_i (|u_i|^2 + |v_i|^2). Lengths are
//! free, so that a row may say how sure it is; r keeps them from growing without end.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | f, f+ | outputs of the towers | `[n, k]` | - |
//! | weight of the lengths | [`NPair::lengths`] | - | at least 0 |
//!
//! # Cost
//! O(n^2 k) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`].

use super::unit::add_scaled;
use super::{Batch, DeepConfig, Loss, Objective};
use crate::fit::FitError;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Metric learning by N-pairs.
pub type NPairConfig = DeepConfig<NPair>;

/// The loss of N-pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct NPair {
    /// Weight of the squared lengths of the outputs; at least 0.
    pub lengths: f64,
}

impl Default for NPair {
    fn default() -> Self {
        Self { lengths: 0.02 }
    }
}

impl Objective for NPair {
    fn name(&self) -> &'static str {
        "npair"
    }

    fn check(&self) -> Result<(), FitError> {
        at_least_zero("lengths", self.lengths)
    }

    fn loss(&self, y: [&Mat; 2], _own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let n = batch.n();
        let scores = product(y[0].as_ref(), y[1].transpose());
        let (mut d, mut value, share) = (Mat::zeros(n, n), 0.0, 1.0 / (2 * n) as f64);
        for i in 0..n {
            for along_row in [true, false] {
                let place = |j: usize| if along_row { (i, j) } else { (j, i) };
                let wrong: Vec<usize> = (0..n).filter(|j| !batch.related(place(*j).0, place(*j).1)).collect();
                // The 1 is the right answer's own e^0.
                let most = wrong.iter().map(|j| scores[place(*j)] - scores[(i, i)]).fold(0.0, f64::max);
                let power = |j: usize| (scores[place(j)] - scores[(i, i)] - most).exp();
                let sum = (-most).exp() + wrong.iter().map(|j| power(*j)).sum::<f64>();
                value += share * (most + sum.ln());
                for j in &wrong {
                    let slope = share * power(*j) / sum;
                    d[place(*j)] += slope;
                    d[(i, i)] -= slope;
                }
            }
        }
        let mut outputs = [product(d.as_ref(), y[1].as_ref()), product(d.transpose(), y[0].as_ref())];
        for (v, output) in outputs.iter_mut().enumerate() {
            let squares: f64 = (0..y[v].ncols()).map(|j| y[v].col(j).iter().map(|x| x * x).sum::<f64>()).sum();
            value += self.lengths * squares / (4 * n) as f64;
            add_scaled(output, self.lengths / (2 * n) as f64, y[v]);
        }
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("lengths".to_owned(), self.lengths.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![[0.002, 0.2].map(|lengths| NPair { lengths }).to_vec()]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::NPair(config)
    }
}
