//! A classifier that both views share, learned so that classes of few rows are not drowned by those of many.
//!
//! # Reference
//! A. K. Menon, S. Jayasumana, A. S. Rawat, H. Jain, A. Veit, S. Kumar, Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 10 (the adjusted loss); Y. Cui, M. Jia, T.-Y. Lin, Y. Song, S.
//! Belongie, Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, eq. 12 (the weights). Checked against torch
//! (`reference/align_deep_memory_goldens.py`). Differs from them in: two views, whose losses are added; rows of several classes, between which the answer is divided evenly; what is kept is the
//! space that the classifier works in, not its answers.
//!
//! # Model
//! u_i output of a tower at unit length, p_c vector of class c: z_ic = e^s u_i.p_c + tau log pi_c, pi_c the share of class c among the rows learned from (of a class without
//! rows as of one with one). loss = sum over both views of -sum_ic T_ic w_c log softmax(z_i)_c / sum_ic T_ic w_c, T_ic = 1 / classes of i for each of these; w_c = (1 - beta) / (1 - beta^n_c) for
//! n_c rows, 1 for beta = 0. With tau > 0 a row of a rare class must stand out by more than its rarity explains; tau = beta = 0 is the plain loss.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | f_y | own parameter, rows p_c | `[c, k]` | - |
//! | (scale) | own parameter s, e^s starts at 16 | - | e^s at most 100 |
//! | tau | [`LogitAdjusted::tau`] | - | at least 0 |
//! | beta | [`LogitAdjusted::beta`] | - | at least 0, below 1 |
//!
//! # Cost
//! O(n k c) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`].

use chiasm_core::Labels;
use chiasm_nn::grad::Array;

use super::memory::Context;
use super::taped::taped;
use super::{DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Factor on products at the start, and at most.
const SCALE: [f64; 2] = [16.0, 100.0];

/// A shared classifier for classes of uneven sizes.
pub type LogitAdjustedConfig = DeepConfig<LogitAdjusted>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitAdjusted {
    /// Weight of the logarithm of a class's share; at least 0.
    pub tau: f64,
    /// How far further rows of a class add to what its rows tell: 0 counts every row alike, near 1 every class; at least 0, below 1.
    pub beta: f64,
}

impl Default for LogitAdjusted {
    fn default() -> Self {
        Self { tau: 1.0, beta: 0.0 }
    }
}

impl LogitAdjusted {
    /// What is added to each class's logit, and its weight.
    fn adjustments(&self, counts: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let counts: Vec<f64> = counts.iter().map(|n| (*n).max(1) as f64).collect();
        let total: f64 = counts.iter().sum();
        let weight = |n: &f64| (1.0 - self.beta) / (1.0 - self.beta.powf(*n));
        (counts.iter().map(|n| self.tau * (n / total).ln()).collect(), counts.iter().map(weight).collect())
    }
}

/// Weighted answers over their sum, `[n, c]`; a row without classes has none.
fn answers(labels: &Labels, weights: &[f64]) -> Array<f64> {
    let mut answers = Array::zeros(labels.n(), weights.len());
    for row in 0..labels.n() {
        let of = labels.of(row);
        of.iter().for_each(|class| answers.row_mut(row)[*class as usize] = weights[*class as usize] / of.len() as f64);
    }
    let total: f64 = answers.data().iter().sum();
    answers.change(|answer| if total > 0.0 { answer / total } else { 0.0 });
    answers
}

impl Objective for LogitAdjusted {
    fn name(&self) -> &'static str {
        "logit-adjusted"
    }

    fn towers() -> TowerConfig {
        TowerConfig { correlation_power: 0.5, max_epochs: 60, learning_rate: 5e-3, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        at_least_zero("tau", self.tau)?;
        if !(0.0..1.0).contains(&self.beta) {
            let expected = "a share of at least 0 and below 1";
            return Err(FitError::Config { name: "beta", value: self.beta.to_string(), expected });
        }
        Ok(())
    }

    fn own(&self, dim: usize, n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        vec![Mat::zeros(n_classes, dim), Mat::from_fn(1, 1, |_, _| SCALE[0].ln())]
    }

    fn bound(&self, own: &mut [Mat]) {
        own[1][(0, 0)] = own[1][(0, 0)].min(SCALE[1].ln());
    }

    fn step(&self, y: [&Mat; 2], own: &[Mat], context: &mut Context<'_>) -> Result<Loss, FitError> {
        let labels = context.batch.labels.as_ref().expect("a method that needs labels is not fitted without");
        let (added, weights) = self.adjustments(context.class_counts);
        let answers = answers(labels, &weights);
        Ok(taped(y, own, |y, own| {
            let tape = y[0].tape();
            let (classes, scale) = (own[0], own[1].exp());
            let (answers, added) = (tape.constant(answers), tape.constant(Array::new(1, added.len(), added)));
            let [first, second] = y.map(|y| {
                let logits = y.unit_rows().dot_rows(classes).times_number(scale).add_row(added);
                (logits.log_softmax() * answers).sum()
            });
            -(first + second)
        }))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("tau".to_owned(), self.tau.to_string()), ("beta".to_owned(), self.beta.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.0, 2.0].map(|tau| LogitAdjusted { tau, ..self.clone() }).to_vec(),
            [0.0, 0.99].map(|beta| LogitAdjusted { beta, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::LogitAdjusted(config)
    }
}
