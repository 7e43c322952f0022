//! Contrastive learning by classification: of all rows of a batch, which one belongs to this?
//!
//! # Reference
//! A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, figure 3 (CLIP), after A. van den Oord et
//! al., 2018 (InfoNCE). With [`InfoNce::smoothing`] 0.1 the loss of C. Jia et al., ICML 2021 (ALIGN); with [`InfoNce::by_class`] that of J. Yang
//! et al., Unified Contrastive Learning, CVPR 2022, which Florence is trained by. Checked against torch, which CLIP's and ALIGN's classes in
//! `transformers` agree with (`reference/align_deep_goldens.py`). Differs from these in: towers on ready features; rows of one group, where a
//! batch holds several, are each other's answers as rows of a class are in UniCL; both directions are averaged, where UniCL adds them.
//!
//! # Model
//! L = e^t U V' for rows U, V of unit length; loss = (CE(L, T) + CE(L', T')) / 2, where T spreads 1 evenly over the right answers of a row and
//! CE(L, T) = -1/n sum_ij T_ij log softmax(L)_ij. With smoothing s: (1 - s) T + s/n.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | U, V | outputs of the towers at unit length | `[n, k]` | - |
//! | e^t | learned; starts at 1 / [`InfoNce::temperature`] | - | at most 100 |
//!
//! # Cost
//! O(n^2 k) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`] with [`InfoNce::by_class`]; [`FitError::Config`].
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//! let (x, y) = ([1.0, 2.0, 3.0, 4.0], [-10.0, -20.0, -30.0, -40.0]);
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::from_name("infonce")?.fit(&pairs, &run)?;
//! assert_eq!((space.about().method.as_str(), space.n_bits()), ("infonce", None));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::unit::{UnitRows, log_softmax};
use super::{Batch, DeepConfig, Loss, Objective};
use crate::fit::FitError;
use crate::hashing::above_zero;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;

/// Greatest factor on similarities, as in CLIP.
const MAX_SCALE: f64 = 100.0;

/// Contrastive learning with two towers.
pub type InfoNceConfig = DeepConfig<InfoNce>;

/// The symmetric contrastive loss.
#[derive(Clone, Debug, PartialEq)]
pub struct InfoNce {
    /// What similarities are divided by at first; above 0.
    pub temperature: f64,
    /// Share of each row's answer that is spread over all rows; at least 0, below 1.
    pub smoothing: f64,
    /// Whether rows that share a class are right answers to one another.
    pub by_class: bool,
}

impl Default for InfoNce {
    fn default() -> Self {
        Self { temperature: 0.07, smoothing: 0.0, by_class: false }
    }
}

impl Objective for InfoNce {
    fn name(&self) -> &'static str {
        if self.by_class { "unicl" } else { "infonce" }
    }

    fn needs_labels(&self) -> bool {
        self.by_class
    }

    fn check(&self) -> Result<(), FitError> {
        above_zero("temperature", self.temperature)?;
        if !(0.0..1.0).contains(&self.smoothing) {
            let expected = "a share of at least 0 and below 1";
            return Err(FitError::Config { name: "smoothing", value: self.smoothing.to_string(), expected });
        }
        Ok(())
    }

    fn own(&self, _dim: usize, _n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        vec![Mat::from_fn(1, 1, |_, _| (1.0 / self.temperature).ln())]
    }

    fn bound(&self, own: &mut [Mat]) {
        own[0][(0, 0)] = own[0][(0, 0)].min(MAX_SCALE.ln());
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (u, v) = (UnitRows::new(y[0]), UnitRows::new(y[1]));
        let (n, scale) = (batch.n(), own[0][(0, 0)].exp());
        let mut logits = product(u.u.as_ref(), v.u.transpose());
        (0..n).for_each(|j| logits.col_mut(j).iter_mut().for_each(|l| *l *= scale));
        // Of a row of either view: how many are right, and the logarithms of what is said of each.
        let n_right = |of: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
            (0..n).map(|i| (0..n).filter(|j| of(i, *j)).count().max(1) as f64).collect()
        };
        let right = [n_right(&|i, j| batch.related(i, j)), n_right(&|j, i| batch.related(i, j))];
        let said = [log_softmax(&logits), log_softmax(&logits.transpose().to_owned())];
        let (mut value, spread) = (0.0, self.smoothing / n as f64);
        let mut d_logits = Mat::zeros(n, n);
        for j in 0..n {
            for i in 0..n {
                let related = f64::from(u8::from(batch.related(i, j)));
                for (direction, at) in [(i, j), (j, i)].into_iter().enumerate() {
                    let target = (1.0 - self.smoothing) * related / right[direction][at.0] + spread;
                    let log = said[direction][at];
                    value -= target * log;
                    d_logits[(i, j)] += (log.exp() - target) / (2 * n) as f64;
                }
            }
        }
        let mut d_scale = 0.0;
        (0..n).for_each(|j| d_scale += (0..n).map(|i| d_logits[(i, j)] * logits[(i, j)]).sum::<f64>());
        (0..n).for_each(|j| d_logits.col_mut(j).iter_mut().for_each(|d| *d *= scale));
        let outputs =
            [u.backward(&product(d_logits.as_ref(), v.u.as_ref())), v.backward(&product(d_logits.transpose(), u.u.as_ref()))];
        Ok(Loss { value: value / (2 * n) as f64, outputs, own: vec![Mat::from_fn(1, 1, |_, _| d_scale)] })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("temperature".to_owned(), self.temperature.to_string()), ("smoothing".to_owned(), self.smoothing.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.03, 0.15].map(|temperature| InfoNce { temperature, ..self.clone() }).to_vec(),
            [0.0, 0.1].map(|smoothing| InfoNce { smoothing, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::InfoNce(config)
    }
}
