//! Deep discriminative hashing: codes alike where classes are shared, and from which a linear map tells the classes.
//!
//! # Reference
//! No one paper: surveys speak of "deep discriminative hashing" for two modalities, and none by that name was found. This is what the name says, from parts that are published: the
//! pairwise likelihood of Q.-Y. Jiang, W.-J. Li, Deep Cross-Modal Hashing, CVPR 2017, eq. 1, and the linear classification of codes, with codes found bit by bit, of F. Shen, C. Shen, W. Liu,
//! H. T. Shen, Supervised Discrete Hashing, CVPR 2015, eq. 3-9. Checked against torch and numpy (`reference/align_deep_memory_goldens.py`).
//!
//! # Model
//! F_v outputs of the towers; O_ij = F_0i.F_1j / 2 r^1/2. loss = mean over known pairs of [ log(1 + e^O_ij) - S_ij O_ij ] + gamma/(n r) sum_v |B - F_v|^2 + eta/r sum_v |mean of F_v|^2.
//! S_ij = 1 where classes are shared; of rows without classes only a pair itself is known, with S_ii = 1: they tell what belongs together, and how the bits fall.
//! B, the codes of all rows seen that have classes, is remembered. For a row with classes t (0 or 1 each), bit by bit until nothing changes or five times over: b minimises |t - b W|^2 + nu/r sum_v |b - f_v|^2, so that
//! b_k = sign(q_k - sum_{j not k} b_j (W W')_jk), q = W t + nu/r (f_0 + f_1). For a row without, b = (f_0 + f_1)/2, which is not remembered: only its views are held
//! together, for a sign would hold the row where it happens to stand. W = (B'B + lambda I)^-1 B'T over the rows seen that have classes, before each step.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | B | remembered | `[n, r]` | -1, 1 |
//! | W | not learned by descent | `[r, c]` | - |
//! | nu | [`Ddh::nu`] | - | above 0 |
//! | lambda | [`Ddh::lambda`] | - | above 0 |
//!
//! # Cost
//! O(n^2 r + n r (r + c) + r^3 + r^2 c) a batch beside the towers; r bytes for each row.
//!
//! # Determinism
//! No chance beyond that of all towers. Sums of codes are whole numbers, so that what is remembered is exact however long it goes on.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`], [`FitError::Numeric`].

use super::memory::{Context, Kept};
use super::unit::softplus;
use super::{DeepConfig, Loss, Objective, TowerConfig};
use crate::draft::{or_none, rows_or_none};
use crate::fit::FitError;
use crate::hashing::{above_zero, sign};
use crate::linalg::{self, Mat, product};
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// How often all bits of a row are gone through at most.
const SWEEPS: usize = 5;

/// Deep discriminative hashing.
pub type DdhConfig = DeepConfig<Ddh>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Ddh {
    /// Weight of the distance to the codes; at least 0.
    pub gamma: f64,
    /// Weight of the balance of bits; at least 0.
    pub eta: f64,
    /// How much the outputs count against the classes for a row's code; above 0.
    pub nu: f64,
    /// Added to the scatter of the codes; above 0.
    pub lambda: f64,
}

impl Default for Ddh {
    fn default() -> Self {
        Self { gamma: 0.1, eta: 0.1, nu: 0.1, lambda: 1.0 }
    }
}

/// What is kept between steps.
struct Codes {
    /// The code of each row with classes that was seen.
    of: Vec<Option<Vec<i8>>>,
    /// B'B, `[r, r]`, and B'T, `[r, c]`, over these.
    squares: Mat,
    with_classes: Mat,
}

impl Codes {
    fn new(n_rows: usize, bits: usize, n_classes: usize) -> Codes {
        Codes { of: vec![None; n_rows], squares: Mat::zeros(bits, bits), with_classes: Mat::zeros(bits, n_classes) }
    }

    /// The linear map from codes to classes, `[r, c]`.
    fn classifier(&self, lambda: f64) -> Result<Mat, FitError> {
        let mut squares = self.squares.clone();
        (0..squares.nrows()).for_each(|k| squares[(k, k)] += lambda);
        linalg::solve_positive(&squares, &self.with_classes)
    }

    /// Replaces the code of a row of these classes.
    fn replace(&mut self, row: usize, code: Vec<i8>, classes: &[u32]) {
        let new = code.clone();
        for (code, factor) in self.of[row].replace(code).into_iter().map(|old| (old, -1.0)).chain([(new, 1.0)]) {
            for (k, b) in code.iter().enumerate() {
                let b = factor * f64::from(*b);
                code.iter().enumerate().for_each(|(j, other)| self.squares[(j, k)] += b * f64::from(*other));
                classes.iter().for_each(|class| self.with_classes[(k, *class as usize)] += b);
            }
        }
    }
}

impl Kept for Codes {
    fn to_mats(&self) -> Vec<Mat> {
        let numbers = |code: &Option<Vec<i8>>| code.as_ref().map(|code| code.iter().map(|bit| f64::from(*bit)).collect());
        vec![rows_or_none(&self.of.iter().map(numbers).collect::<Vec<_>>()), self.squares.clone(), self.with_classes.clone()]
    }

    fn take(&mut self, mats: &[Mat]) -> Option<()> {
        let [of, squares, with_classes] = mats else { return None };
        let is_mine = of.nrows() == self.of.len()
            && squares.shape() == self.squares.shape()
            && with_classes.shape() == self.with_classes.shape();
        if !is_mine {
            return None;
        }
        let bits = |code: Vec<f64>| code.into_iter().map(|bit| bit as i8).collect();
        self.of = or_none(of).into_iter().map(|code| code.map(bits)).collect();
        (self.squares, self.with_classes) = (squares.clone(), with_classes.clone());
        Some(())
    }
}

/// The code that minimises `b G b' - 2 b.q`, bit by bit from `start`.
fn code(start: Vec<i8>, q: &[f64], gram: &Mat) -> Vec<i8> {
    let mut b = start;
    for _ in 0..SWEEPS {
        let mut is_still = true;
        for k in 0..b.len() {
            let others = (0..b.len()).filter(|j| *j != k).map(|j| f64::from(b[j]) * gram[(j, k)]).sum::<f64>();
            let bit = if q[k] - others >= 0.0 { 1 } else { -1 };
            is_still &= bit == b[k];
            b[k] = bit;
        }
        if is_still {
            break;
        }
    }
    b
}

impl Objective for Ddh {
    fn name(&self) -> &'static str {
        "ddh"
    }

    fn towers() -> TowerConfig {
        TowerConfig { dim: 64, correlation_power: 0.0, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        at_least_zero("gamma", self.gamma)?;
        at_least_zero("eta", self.eta)?;
        above_zero("nu", self.nu)?;
        above_zero("lambda", self.lambda)
    }

    fn step(&self, y: [&Mat; 2], _own: &[Mat], context: &mut Context<'_>) -> Result<Loss, FitError> {
        let (n, bits) = y[0].shape();
        let (batch, rows) = (context.batch, context.rows);
        let labels = batch.labels.as_ref().expect("a method that needs labels is not fitted without");
        let (n_rows, n_classes) = (context.groups.len(), labels.n_classes());
        let codes = context.memory.kept(|| Codes::new(n_rows, bits, n_classes));
        let classifier = codes.classifier(self.lambda)?;
        let gram = product(classifier.as_ref(), classifier.transpose());
        let mut targets = Mat::from_fn(n, bits, |i, k| (y[0][(i, k)] + y[1][(i, k)]) / 2.0);
        let pull = self.nu / bits as f64;
        for (i, row) in rows.iter().enumerate().filter(|(i, _)| !labels.of(*i).is_empty()) {
            let told = |k: usize| labels.of(i).iter().map(|class| classifier[(k, *class as usize)]).sum::<f64>();
            let q: Vec<f64> = (0..bits).map(|k| told(k) + pull * (y[0][(i, k)] + y[1][(i, k)])).collect();
            let start = codes.of[*row].clone().unwrap_or_else(|| (0..bits).map(|k| sign(targets[(i, k)]) as i8).collect());
            let code = code(start, &q, &gram);
            (0..bits).for_each(|k| targets[(i, k)] = f64::from(code[k]));
            codes.replace(*row, code, labels.of(i));
        }
        let is_known = |i: usize, j: usize| batch.related(i, j) || !(labels.of(i).is_empty() || labels.of(j).is_empty());
        let n_known = (0..n).map(|i| (0..n).filter(|j| is_known(i, *j)).count()).sum::<usize>();
        let (of_pairs, share, root) = (1.0 / n_known.max(1) as f64, 1.0 / n as f64, 1.0 / (bits as f64).sqrt());
        let mut value = 0.0;
        let mut d = product(y[0].as_ref(), y[1].transpose());
        for j in 0..n {
            for i in 0..n {
                let (o, s) = (d[(i, j)] * root / 2.0, f64::from(u8::from(batch.related(i, j))));
                let factor = if is_known(i, j) { of_pairs } else { 0.0 };
                let (plus, slope) = softplus(o);
                value += factor * (plus - s * o);
                d[(i, j)] = factor * (slope - s) * root / 2.0;
            }
        }
        let mut outputs = [product(d.as_ref(), y[1].as_ref()), product(d.transpose(), y[0].as_ref())];
        for k in 0..bits {
            for v in 0..2 {
                let mean = y[v].col(k).iter().sum::<f64>() * share;
                value += self.eta * mean * mean / bits as f64;
                for i in 0..n {
                    let gap = y[v][(i, k)] - targets[(i, k)];
                    value += self.gamma * share * gap * gap / bits as f64;
                    outputs[v][(i, k)] += 2.0 * share * (self.gamma * gap + self.eta * mean) / bits as f64;
                }
            }
        }
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [("gamma", self.gamma), ("eta", self.eta), ("nu", self.nu), ("lambda", self.lambda)];
        all.map(|(name, value)| (name.to_owned(), value.to_string())).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.01, 1.0].map(|gamma| Ddh { gamma, ..self.clone() }).to_vec(),
            [0.01, 1.0].map(|nu| Ddh { nu, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Ddh(config)
    }
}
