//! Adversarial cross-modal retrieval: classes and right answers are told by the outputs, which view they come from is not.
//!
//! # Reference
//! B. Wang, Y. Yang, X. Xu, A. Hanjalic, H. T. Shen, Adversarial Cross-Modal Retrieval, ACM MM 2017, eq. 2-9; Y. Ganin, V. Lempitsky, Unsupervised Domain
//! Adaptation by Backpropagation, ICML 2015, for the reversal and its schedule. Checked against torch (`reference/align_deep_goldens.py`). Differs from it in:
//! the towers of this folder; triplets and the discriminator see outputs at unit length, and distances are squared; one step serves all parameters, by the reversal,
//! in place of taking turns; the hinge is taken for each triplet (code that is in circulation sums distances over the batch before, and never lets
//! the discriminator reach the projections: that is [`Acmr::adversary`] = 0 here).
//!
//! # Model
//! E = 1/n sum over both views and i of CE(softmax(y_i P), classes of i), + a/n sum over both directions and i of [m + |u_i - v_i|^2 - |u_i - v_k|^2]_+, where
//! u, v are outputs at unit length and k is, of the rows that have classes and none of i's, the one most like i by what goes in.
//! A = -1/2n sum_i (log D(u_i) + log(1 - D(v_i))) with D(z) = s(relu(z W1 + b1) W2 + b2). The towers and P descend E - l A, the discriminator descends A; l =
//! b (2 / (1 + e^(-10 p)) - 1) after a share p of the epochs.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | theta_imd | own parameter P | `[k, c]` | - |
//! | theta_D | own parameters W1, b1, W2, b2 | `[k, h]`, `[1, h]`, `[h, 1]`, `[1, 1]` | - |
//! | mu | [`Acmr::margin`] | - | above 0, below 4 |
//! | alpha | [`Acmr::alpha`] | - | at least 0 |
//! | lambda | [`Acmr::adversary`], its end | - | at least 0 |
//!
//! # Cost
//! O(n^2 (k + m) + n k (c + h)) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`].

use chiasm_core::Labels;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::unit::{UnitRows, add_scaled, log_softmax, softplus};
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig, tower};
use crate::fit::FitError;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Hidden units of the discriminator.
const HIDDEN: usize = 32;

/// Adversarial cross-modal retrieval.
pub type AcmrConfig = DeepConfig<Acmr>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Acmr {
    /// By how much a right answer is to be closer, in squared distances; above 0, below 4.
    pub margin: f64,
    /// Weight of the triplets; at least 0.
    pub alpha: f64,
    /// Weight of the discriminator in the end; at least 0.
    pub adversary: f64,
}

impl Default for Acmr {
    fn default() -> Self {
        Self { margin: 1.0, alpha: 1.0, adversary: 0.01 }
    }
}

impl Acmr {
    /// The weight of the discriminator after a share of the epochs.
    fn reversal(&self, done: f64) -> f64 {
        self.adversary * (2.0 / (1.0 + (-10.0 * done).exp()) - 1.0)
    }
}

/// For each row that has a class, the row most like it by what goes in, of those that have others.
fn confusing(inputs: &Mat, batch: &Batch, labels: &Labels) -> Vec<Option<usize>> {
    let x = UnitRows::new(inputs).u;
    let alike = product(x.as_ref(), x.transpose());
    let best = |i: usize| {
        let others = (0..batch.n()).filter(|j| !batch.related(i, *j) && !labels.of(i).is_empty() && !labels.of(*j).is_empty());
        others.max_by(|a, b| alike[(i, *a)].total_cmp(&alike[(i, *b)]).then(b.cmp(a)))
    };
    (0..batch.n()).map(best).collect()
}

/// What the discriminator says of rows of one view, and its gradients.
struct Judged {
    value: f64,
    d_rows: Mat,
    d_own: [Mat; 4],
}

/// `-share sum log D` of rows of the first view, `-share sum log(1 - D)` of the second.
fn judged(z: &Mat, own: &[Mat], is_first: bool, share: f64) -> Judged {
    let [w1, b1, w2, b2] = [&own[0], &own[1], &own[2], &own[3]];
    let mut hidden = product(z.as_ref(), w1.as_ref());
    (0..hidden.ncols()).for_each(|j| hidden.col_mut(j).iter_mut().for_each(|h| *h = (*h + b1[(0, j)]).max(0.0)));
    let mut said = product(hidden.as_ref(), w2.as_ref());
    let mut value = 0.0;
    for i in 0..z.nrows() {
        // -log s(x) is softplus(-x), -log(1 - s(x)) is softplus(x).
        let sign = if is_first { -1.0 } else { 1.0 };
        let (plus, slope) = softplus(sign * (said[(i, 0)] + b2[(0, 0)]));
        value += share * plus;
        said[(i, 0)] = share * sign * slope;
    }
    let mut d_hidden = product(said.as_ref(), w2.transpose());
    for j in 0..d_hidden.ncols() {
        (0..z.nrows()).filter(|i| hidden[(*i, j)] <= 0.0).for_each(|i| d_hidden[(i, j)] = 0.0);
    }
    let sums = |m: &Mat| Mat::from_fn(1, m.ncols(), |_, j| m.col(j).iter().sum::<f64>());
    let d_own =
        [product(z.transpose(), d_hidden.as_ref()), sums(&d_hidden), product(hidden.transpose(), said.as_ref()), sums(&said)];
    Judged { value, d_rows: product(d_hidden.as_ref(), w1.transpose()), d_own }
}

impl Objective for Acmr {
    fn name(&self) -> &'static str {
        "acmr"
    }

    fn towers() -> TowerConfig {
        TowerConfig { correlation_power: 0.5, max_epochs: 60, learning_rate: 5e-3, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        if !(self.margin > 0.0 && self.margin < 4.0) {
            let expected = "a difference of squared distances above 0 and below 4";
            return Err(FitError::Config { name: "margin", value: self.margin.to_string(), expected });
        }
        at_least_zero("alpha", self.alpha)?;
        at_least_zero("adversary", self.adversary)
    }

    fn own(&self, dim: usize, n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        // Of a fixed seed: what judges the towers need not differ with theirs.
        let mut rng = ChaCha8Rng::seed_from_u64(0xAC32);
        let w1 = tower::normal(dim, HIDDEN, 1.0, &mut rng);
        let w2 = tower::normal(HIDDEN, 1, 1.0 / (HIDDEN as f64).sqrt(), &mut rng);
        vec![Mat::zeros(dim, n_classes), w1, Mat::zeros(1, HIDDEN), w2, Mat::zeros(1, 1)]
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (n, p, share) = (batch.n(), &own[0], 1.0 / batch.n() as f64);
        let labels = batch.labels.as_ref().expect("a method that needs labels is not fitted without");
        let mut outputs = [0, 1].map(|v: usize| Mat::zeros(n, y[v].ncols()));
        let mut d_own: Vec<Mat> = own.iter().map(|m| Mat::zeros(m.nrows(), m.ncols())).collect();
        let mut value = 0.0;
        for v in 0..2 {
            let said = log_softmax(&product(y[v].as_ref(), p.as_ref()));
            // Classes share the answer evenly; nothing is known of a row without.
            let wanted = |i: usize, c: usize| {
                let of = labels.of(i);
                if of.contains(&(c as u32)) { 1.0 / of.len() as f64 } else { 0.0 }
            };
            let is_known = |i: usize| f64::from(u8::from(!labels.of(i).is_empty()));
            for c in 0..said.ncols() {
                (0..n).for_each(|i| value -= share * wanted(i, c) * said[(i, c)]);
            }
            let d = Mat::from_fn(n, said.ncols(), |i, c| share * is_known(i) * (said[(i, c)].exp() - wanted(i, c)));
            add_scaled(&mut outputs[v], 1.0, &product(d.as_ref(), p.transpose()));
            add_scaled(&mut d_own[0], 1.0, &product(y[v].transpose(), d.as_ref()));
        }
        let units = [UnitRows::new(y[0]), UnitRows::new(y[1])];
        let mut d_units = [0, 1].map(|v: usize| Mat::zeros(n, y[v].ncols()));
        for v in 0..2 {
            let (anchors, answers) = (&units[v].u, &units[1 - v].u);
            let distance =
                |i: usize, j: usize| -> f64 { (0..anchors.ncols()).map(|c| (anchors[(i, c)] - answers[(j, c)]).powi(2)).sum() };
            for (i, wrong) in confusing(&batch.inputs[v], batch, labels).into_iter().enumerate() {
                let Some(k) = wrong else { continue };
                let hinge = self.margin + distance(i, i) - distance(i, k);
                if hinge <= 0.0 {
                    continue;
                }
                value += self.alpha * share * hinge;
                let factor = 2.0 * self.alpha * share;
                for c in 0..anchors.ncols() {
                    let (a, right, wrong) = (anchors[(i, c)], answers[(i, c)], answers[(k, c)]);
                    d_units[v][(i, c)] += factor * (wrong - right);
                    d_units[1 - v][(i, c)] += factor * (right - a);
                    d_units[1 - v][(k, c)] += factor * (a - wrong);
                }
            }
        }
        let reversal = self.reversal(batch.done);
        for v in 0..2 {
            let judged = judged(&units[v].u, &own[1..], v == 0, share / 2.0);
            value -= reversal * judged.value;
            add_scaled(&mut d_units[v], -reversal, &judged.d_rows);
            d_own[1..].iter_mut().zip(&judged.d_own).for_each(|(d, more)| add_scaled(d, 1.0, more));
            add_scaled(&mut outputs[v], 1.0, &units[v].backward(&d_units[v]));
        }
        Ok(Loss { value, outputs, own: d_own })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [("margin", self.margin), ("alpha", self.alpha), ("adversary", self.adversary)];
        all.map(|(name, value)| (name.to_owned(), value.to_string())).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.0, 0.1].map(|adversary| Acmr { adversary, ..self.clone() }).to_vec(),
            [0.1, 10.0].map(|alpha| Acmr { alpha, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Acmr(config)
    }
}
