//! Unsupervised contrastive cross-modal hashing: outputs are told apart by codes that are remembered, and pairs ranked ahead of the rest.
//!
//! # Reference
//! P. Hu, H. Zhu, J. Lin, D. Peng, Y.-P. Zhao, X. Peng, Unsupervised Contrastive Cross-Modal Hashing, IEEE TPAMI 45, 2022. Checked against torch
//! (`reference/align_deep_memory_goldens.py`). Differs from it in: towers on ready features; a batch draws its wrong codes together, none of which is of a row's own group; rows that have no
//! code yet are not drawn.
//!
//! # Model
//! h = tanh(y) at unit length, for both views. For each row a mean m of its h is remembered: m <- a m + (1 - a) (h_0 + h_1)/2 at unit length, with a = 0 in the first epoch; c = sign(m) / r^1/2.
//! loss = alpha Lc + (1 - alpha) Lr.
//! Lc = sum_v 1/n sum_i -log [ e^(h_vi.c_i/t) / (e^(h_vi.c_i/t) + sum_j e^(h_vi.c_j/t)) ], where j runs over [`Ucch::negatives`] rows drawn; in the first epoch c is
//! sign(h_0 + h_1) / r^1/2 and j runs over the batch. No gradient passes through codes.
//! Lr = 1/n sum_i [ log sum_j e^(s_ij) - s_ii + margin ] + the same by columns, with s_ij = h_0i.h_1j, less [`Ucch::shift`] where it is below s_ii - margin: what is far enough away already
//! counts for little, but counts, so that no one wrong row that is right in truth does all the harm.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | alpha | [`Ucch::alpha`] | - | 0 to 1 |
//! | tau, T | [`Ucch::temperature`] | - | above 0 |
//! | m (momentum) | [`Ucch::momentum`] | - | at least 0, below 1 |
//! | K | [`Ucch::negatives`] | - | at least 1 |
//!
//! # Cost
//! O(n (n + K) r) a batch beside the towers; 8 r bytes for each row.
//!
//! # Determinism
//! The seed decides which codes are drawn.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`].

use rand::RngExt;

use super::memory::{Context, Kept, contrast};
use super::unit::{UnitRows, add_scaled, log_softmax};
use super::{DeepConfig, Loss, Objective, TowerConfig};
use crate::draft::{or_none, rows_or_none};
use crate::fit::FitError;
use crate::hashing::{above_zero, sign};
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::reduced::{at_least_one, at_least_zero};

/// Unsupervised contrastive cross-modal hashing.
pub type UcchConfig = DeepConfig<Ucch>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Ucch {
    /// Weight of the codes beside the ranking; 0 to 1.
    pub alpha: f64,
    /// What similarities to codes are divided by; above 0.
    pub temperature: f64,
    /// What a row's remembered mean keeps of itself; at least 0, below 1.
    pub momentum: f64,
    /// Codes drawn for a batch at most; at least 1.
    pub negatives: usize,
    /// By how much a right answer is to be closer, in cosines; at least 0.
    pub margin: f64,
    /// What is taken off similarities that are lower by more; at least 0.
    pub shift: f64,
}

impl Default for Ucch {
    fn default() -> Self {
        Self { alpha: 0.7, temperature: 0.9, momentum: 0.4, negatives: 4_096, margin: 0.2, shift: 0.1 }
    }
}

/// For each row that is learned from the mean of what it was given, none before it was seen.
type Bank = Vec<Option<Vec<f64>>>;

impl Kept for Bank {
    fn to_mats(&self) -> Vec<Mat> {
        vec![rows_or_none(self)]
    }

    fn take(&mut self, mats: &[Mat]) -> Option<()> {
        let [rows] = mats else { return None };
        (rows.nrows() == self.len()).then(|| *self = or_none(rows))
    }
}

/// The code of a row that is remembered, one number.
fn code(mean: f64, bits: usize) -> f64 {
    sign(mean) / (bits as f64).sqrt()
}

impl Ucch {
    /// Lr with its gradients by the outputs at unit length.
    fn ranking(&self, h: [&Mat; 2]) -> (f64, [Mat; 2]) {
        let s = product(h[0].as_ref(), h[1].transpose());
        let n = s.nrows();
        let shifted = |s: &Mat| {
            Mat::from_fn(n, n, |i, j| if s[(i, j)] >= s[(i, i)] - self.margin { s[(i, j)] } else { s[(i, j)] - self.shift })
        };
        let by_row = log_softmax(&shifted(&s));
        let by_column = log_softmax(&shifted(&s.transpose().to_owned()));
        let share = 1.0 / n as f64;
        let value: f64 = (0..n).map(|i| share * (2.0 * self.margin - by_row[(i, i)] - by_column[(i, i)])).sum();
        let d = Mat::from_fn(n, n, |i, j| {
            share * (by_row[(i, j)].exp() + by_column[(j, i)].exp() - if i == j { 2.0 } else { 0.0 })
        });
        (value, [product(d.as_ref(), h[1].as_ref()), product(d.transpose(), h[0].as_ref())])
    }

    /// Codes that the batch's rows are told from, `[K, r]`, and the group of each.
    fn drawn(&self, bits: usize, bank: &Bank, groups: &[u32], rng: &mut rand_chacha::ChaCha8Rng) -> (Mat, Vec<u32>) {
        let n = bank.len();
        let places: Vec<usize> =
            if n <= self.negatives { (0..n).collect() } else { (0..self.negatives).map(|_| rng.random_range(0..n)).collect() };
        let seen: Vec<(usize, &Vec<f64>)> = places.iter().filter_map(|at| bank[*at].as_ref().map(|mean| (*at, mean))).collect();
        let codes = Mat::from_fn(seen.len(), bits, |i, k| code(seen[i].1[k], bits));
        (codes, seen.iter().map(|(at, _)| groups[*at]).collect())
    }
}

impl Objective for Ucch {
    fn name(&self) -> &'static str {
        "ucch"
    }

    fn towers() -> TowerConfig {
        TowerConfig { dim: 64, correlation_power: 0.0, ..TowerConfig::default() }
    }

    fn check(&self) -> Result<(), FitError> {
        let refused = |name: &'static str, value: f64, expected: &'static str| {
            Err(FitError::Config { name, value: value.to_string(), expected })
        };
        if !(0.0..=1.0).contains(&self.alpha) {
            return refused("alpha", self.alpha, "a share of 0 to 1");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return refused("momentum", self.momentum, "a share of at least 0 and below 1");
        }
        above_zero("temperature", self.temperature)?;
        at_least_one("negatives", self.negatives)?;
        at_least_zero("margin", self.margin)?;
        at_least_zero("shift", self.shift)
    }

    fn step(&self, y: [&Mat; 2], _own: &[Mat], context: &mut Context<'_>) -> Result<Loss, FitError> {
        let Context { rows, groups, .. } = *context;
        let (n, bits) = y[0].shape();
        let tanh = y.map(|y| Mat::from_fn(n, bits, |i, k| y[(i, k)].tanh()));
        let units = [UnitRows::new(&tanh[0]), UnitRows::new(&tanh[1])];
        let both = Mat::from_fn(n, bits, |i, k| (units[0].u[(i, k)] + units[1].u[(i, k)]) / 2.0);
        let bank = context.memory.kept(|| -> Bank { vec![None; groups.len()] });
        // In the first epoch there are no codes to speak of.
        let is_first = context.batch.done == 0.0;
        let fresh = Mat::from_fn(n, bits, |i, k| code(both[(i, k)], bits));
        let (right, (wrong, of)) = if is_first {
            (fresh.clone(), (fresh, rows.iter().map(|row| groups[*row]).collect()))
        } else {
            let right = Mat::from_fn(n, bits, |i, k| bank[rows[i]].as_ref().map_or(fresh[(i, k)], |mean| code(mean[k], bits)));
            (right, self.drawn(bits, bank, groups, context.rng))
        };
        let (ranking, d_ranking) = self.ranking([&units[0].u, &units[1].u]);
        let mut value = (1.0 - self.alpha) * ranking;
        let is_wrong = |i: usize, j: usize| of[j] != groups[rows[i]];
        let outputs = [0, 1].map(|v: usize| {
            let (part, mut d) = contrast(&units[v].u, &right, &wrong, is_wrong, 1.0 / self.temperature);
            value += self.alpha * part;
            d.col_iter_mut().for_each(|column| column.iter_mut().for_each(|d| *d *= self.alpha));
            add_scaled(&mut d, 1.0 - self.alpha, &d_ranking[v]);
            let d = units[v].backward(&d);
            Mat::from_fn(n, bits, |i, k| d[(i, k)] * (1.0 - tanh[v][(i, k)] * tanh[v][(i, k)]))
        });
        let now = UnitRows::new(&both).u;
        for (i, row) in rows.iter().enumerate() {
            let kept = if is_first { None } else { bank[*row].take() };
            let mixed: Vec<f64> = match kept {
                Some(mean) => (0..bits).map(|k| self.momentum * mean[k] + (1.0 - self.momentum) * now[(i, k)]).collect(),
                None => now.row(i).iter().copied().collect(),
            };
            let norm = mixed.iter().map(|m| m * m).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            bank[*row] = Some(mixed.into_iter().map(|m| m / norm).collect());
        }
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [
            ("alpha", self.alpha.to_string()),
            ("temperature", self.temperature.to_string()),
            ("momentum", self.momentum.to_string()),
            ("negatives", self.negatives.to_string()),
            ("margin", self.margin.to_string()),
            ("shift", self.shift.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.1, 0.3].map(|temperature| Ucch { temperature, ..self.clone() }).to_vec(),
            [1.0].map(|shift| Ucch { shift, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Ucch(config)
    }
}
