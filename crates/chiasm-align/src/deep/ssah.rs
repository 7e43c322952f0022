//! Self-supervised adversarial hashing: a network of the classes learns codes of its own, and shows the views what theirs should be like.
//!
//! # Reference
//! C. Li, C. Deng, N. Li, W. Liu, X. Gao, D. Tao, Self-Supervised Adversarial Hashing Networks for Cross-Modal Retrieval, CVPR 2018, eq. 1-8. Checked against
//! torch (`reference/align_deep_memory_goldens.py`). Differs from it in: towers on ready features, whose outputs are both the semantic features F and, through tanh, the codes H; one
//! step serves all networks, by the reversal of Y. Ganin and V. Lempitsky (ICML 2015) in place of taking turns; means in place of sums, and products over the root of the count of
//! bits, so that the weights are good for codes of any length; B is of the batch at each step; rows without classes are left out.
//!
//! # Model
//! F_l = relu(L W1 + b1) W2 + b2 for rows L of classes; F_0, F_1 outputs of the towers; H = tanh F. With O(A, B)_ij = A_i.B_j / 2 r^1/2 and N(A, B) = mean_ij [ log(1 + e^O_ij) - S_ij O_ij ],
//! S_ij = 1 where classes are shared: E = sum over x of l, 0, 1 of alpha N(F_l, F_x) + gamma N(H_l, H_x) + eta mean (H_x - B)^2 + beta mean (H_x P + c - L)^2, B = sign(H_l + H_0 + H_1). The towers do
//! not move F_l, H_l: for x other than l no gradient passes through these.
//! A = 1/2n sum over both views v of sum_i [ -log D_v(F_l,i) - log(1 - D_v(F_v,i)) ], D_v(f) = s(relu(f / r^1/2 V1 + d1) V2 + d2), judges whether features come from the classes: the towers
//! descend E - l A, the judges descend A; l = [`Ssah::adversary`]. The value of the loss is E + A.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | theta^l | own parameters W1, b1, W2, b2 | `[c, h]`, `[1, h]`, `[h, r]`, `[1, r]` | - |
//! | (classifier) | own parameters P, c | `[r, c]`, `[1, c]` | - |
//! | theta_adv | own parameters V1, d1, V2, d2 of each view | `[r, h]`, `[1, h]`, `[h, 1]`, `[1, 1]` | - |
//! | alpha, gamma, eta, beta | [`Ssah::alpha`], [`Ssah::gamma`], [`Ssah::eta`], [`Ssah::beta`] | - | at least 0 |
//!
//! # Cost
//! O(n^2 r + n h (c + r)) a batch beside the towers.
//!
//! # Determinism
//! The networks of the classes and the judges begin the same whatever the seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`].

use std::sync::Arc;

use chiasm_nn::grad::{Array, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::taped::taped;
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig, tower};
use crate::fit::FitError;
use crate::hashing::sign;
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Hidden units of the network of the classes.
const HIDDEN: usize = 128;
/// And of a judge.
const JUDGE: usize = 32;
/// Places of the judges' parameters among the objective's own; each has four.
const JUDGES: usize = 6;

/// Self-supervised adversarial hashing.
pub type SsahConfig = DeepConfig<Ssah>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssah {
    /// Weight of features alike where classes are shared; at least 0.
    pub alpha: f64,
    /// The same of codes; at least 0.
    pub gamma: f64,
    /// Weight of the distance to the signs; at least 0.
    pub eta: f64,
    /// Weight of the classes told from codes; at least 0.
    pub beta: f64,
    /// Weight of the judges; at least 0.
    pub adversary: f64,
}

impl Default for Ssah {
    fn default() -> Self {
        Self { alpha: 1.0, gamma: 1.0, eta: 0.1, beta: 0.1, adversary: 0.01 }
    }
}

/// Mean of `log(1 + e^O) - S O` over pairs that are known: `known` is 1/count for these, `shared` the same for those that share a class.
fn alike<'t>(a: Var<'t, f64>, b: Var<'t, f64>, known: &Arc<Array<f64>>, shared: &Arc<Array<f64>>) -> Var<'t, f64> {
    let bits = a.shape()[1] as f64;
    let o = a.dot_rows(b).scaled(0.5 / bits.sqrt());
    let tape = a.tape();
    (o.softplus() * tape.constant(Arc::clone(known)) - o * tape.constant(Arc::clone(shared))).sum()
}

fn layers<'t>(x: Var<'t, f64>, p: &[Var<'t, f64>]) -> Var<'t, f64> {
    x.dot(p[0]).add_row(p[1]).relu().dot(p[2]).add_row(p[3])
}

impl Ssah {
    /// Its weights by name.
    fn weights(&self) -> [(&'static str, f64); 5] {
        [("alpha", self.alpha), ("gamma", self.gamma), ("eta", self.eta), ("beta", self.beta), ("adversary", self.adversary)]
    }
}

impl Objective for Ssah {
    fn name(&self) -> &'static str {
        "ssah"
    }

    fn towers() -> TowerConfig {
        TowerConfig { dim: 64, correlation_power: 0.0, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        self.weights().into_iter().try_for_each(|(name, value)| at_least_zero(name, value))
    }

    fn own(&self, dim: usize, n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        let mut rng = ChaCha8Rng::seed_from_u64(0x55A4);
        let mut network = |from: usize, hidden: usize, to: usize| {
            let first = tower::normal(from, hidden, 1.0, &mut rng);
            let second = tower::normal(hidden, to, 1.0 / (hidden as f64).sqrt(), &mut rng);
            [first, Mat::zeros(1, hidden), second, Mat::zeros(1, to)]
        };
        let (classes, judges) = (network(n_classes, HIDDEN, dim), [network(dim, JUDGE, 1), network(dim, JUDGE, 1)]);
        let classifier = [Mat::zeros(dim, n_classes), Mat::zeros(1, n_classes)];
        classes.into_iter().chain(classifier).chain(judges.into_iter().flatten()).collect()
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let labels = batch.labels.as_ref().expect("a method that needs labels is not fitted without");
        let (n, bits) = y[0].shape();
        let rows: Vec<usize> = (0..n).filter(|i| !labels.of(*i).is_empty()).collect();
        if rows.is_empty() {
            // Nothing is known of such a batch.
            let nothing = |m: &Mat| Mat::zeros(m.nrows(), m.ncols());
            return Ok(Loss { value: 0.0, outputs: y.map(nothing), own: own.iter().map(nothing).collect() });
        }
        let hot = Array::from_fn(rows.len(), labels.n_classes(), |i, c| {
            f64::from(u8::from(labels.of(rows[i]).contains(&(c as u32))))
        });
        let hot = Arc::new(hot);
        let share = 1.0 / (rows.len() * rows.len()) as f64;
        let known = Arc::new(Array::full(rows.len(), rows.len(), share));
        let is_shared = |i: usize, j: usize| batch.related(rows[i], rows[j]);
        let shared = Arc::new(Array::from_fn(rows.len(), rows.len(), |i, j| if is_shared(i, j) { share } else { 0.0 }));
        Ok(taped(y, own, |y, own| {
            let tape = y[0].tape();
            let classes = tape.constant(Arc::clone(&hot));
            let of_classes = layers(classes, &own[..4]);
            let features = [of_classes, y[0].rows(rows.clone()), y[1].rows(rows.clone())];
            let codes = features.map(Var::tanh);
            let [a, b, c] = [0, 1, 2].map(|x: usize| codes[x].value());
            let signs = Array::from_fn(rows.len(), bits, |i, k| sign(a.at(i, k) + b.at(i, k) + c.at(i, k)));
            let signs = tape.constant(signs);
            let mut loss = tape.constant(Array::scalar(0.0));
            for x in 0..3 {
                let (f, h) = if x == 0 { (features[0], codes[0]) } else { (features[0].detached(), codes[0].detached()) };
                loss = loss + alike(f, features[x], &known, &shared).scaled(self.alpha);
                loss = loss + alike(h, codes[x], &known, &shared).scaled(self.gamma);
                loss = loss + (codes[x] - signs).square().mean().scaled(self.eta);
                loss = loss + (codes[x].dot(own[4]).add_row(own[5]) - classes).square().mean().scaled(self.beta);
            }
            for v in 0..2 {
                let judge = &own[JUDGES + 4 * v..][..4];
                let scale = 1.0 / (bits as f64).sqrt();
                let judged = [features[0].detached(), features[1 + v].reversed(self.adversary)];
                let [real, made] = judged.map(|f| layers(f.scaled(scale), judge));
                loss = loss + (real.scaled(-1.0).softplus().mean() + made.softplus().mean()).scaled(0.5);
            }
            loss
        }))
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(String, String)> {
        self.weights().map(|(name, value)| (name.to_owned(), value.to_string())).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.0, 0.1].map(|adversary| Ssah { adversary, ..self.clone() }).to_vec(),
            [0.01, 1.0].map(|eta| Ssah { eta, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Ssah(config)
    }
}
