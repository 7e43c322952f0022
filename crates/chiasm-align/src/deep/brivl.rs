//! Contrastive learning against keys that are remembered: many wrong answers for every row, however small the batch.
//!
//! # Reference
//! Y. Huo et al., WenLan: Bridging Vision and Language by Large-Scale Multi-Modal Pre-Training, arXiv:2103.06561, 2021, eq. 1-4 (BriVL), after K. He et al.,
//! Momentum Contrast, CVPR 2020. Checked against torch (`reference/align_deep_memory_goldens.py`); the value against [`super::infonce`], which it equals where the
//! queue holds the other keys of the batch and the momentum is 0 (a test below). Differs from it in: towers on ready features; queues begin empty in place of random and hold each row
//! once at most; a key of a query's own group is not held against it; keys come from rows with nothing left out.
//!
//! # Model
//! Towers of keys follow those that learn: theta_k <- m theta_k + (1 - m) theta before each step. With u, v outputs of the towers and k those of the towers of keys, all at unit
//! length, loss = 1/n sum_i [ -log e^(u_i.k_i/t) / (e^(u_i.k_i/t) + sum_q e^(u_i.q/t)) ] + the same from the second view to the first; k_i is the key of the
//! row's other view, q run over the queue of that view's keys. No gradient passes through keys. After the step the batch's keys join the queues, and the oldest leave.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | m | [`Brivl::momentum`] | - | at least 0, below 1 |
//! | tau | [`Brivl::temperature`] | - | above 0 |
//! | size of the queue | [`Brivl::queue`], at most the rows learned from | - | at least 1 |
//!
//! # Cost
//! O(n (n + q) k) a batch and another pass through the towers; 16 q k bytes.
//!
//! # Determinism
//! No chance beyond that of all towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`].

use std::collections::VecDeque;

use super::memory::{Context, Kept, contrast};
use super::tower::{N_PARAMETERS, Tower};
use super::unit::UnitRows;
use super::{DeepConfig, Loss, Objective};
use crate::fit::FitError;
use crate::hashing::above_zero;
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::reduced::at_least_one;

/// Contrastive learning with queues of keys.
pub type BrivlConfig = DeepConfig<Brivl>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Brivl {
    /// What the towers of keys keep of themselves at a step; at least 0, below 1.
    pub momentum: f64,
    /// What similarities are divided by; above 0.
    pub temperature: f64,
    /// Keys remembered of each view at most; at least 1.
    pub queue: usize,
}

impl Default for Brivl {
    fn default() -> Self {
        Self { momentum: 0.99, temperature: 0.07, queue: 9_600 }
    }
}

/// What is kept between steps.
struct Keys {
    /// The towers that make keys, if any do.
    towers: Option<[Tower; 2]>,
    /// For each key its row, and the key of each view.
    queue: VecDeque<(usize, [Vec<f64>; 2])>,
}

impl Keys {
    fn follow(&mut self, towers: &[Tower; 2], momentum: f64) {
        let own = self.towers.get_or_insert_with(|| towers.clone());
        for (own, tower) in own.iter_mut().zip(towers) {
            for (p, now) in own.parameters.iter_mut().zip(&tower.parameters) {
                *p = Mat::from_fn(p.nrows(), p.ncols(), |i, j| momentum * p[(i, j)] + (1.0 - momentum) * now[(i, j)]);
            }
        }
    }

    /// Remembers the keys of a batch; a row's older ones are forgotten, and the oldest beyond so many.
    fn remember(&mut self, rows: &[usize], keys: &[Mat; 2], most: usize) {
        self.queue.retain(|(row, _)| !rows.contains(row));
        for (i, row) in rows.iter().enumerate() {
            self.queue.push_back((*row, [0, 1].map(|v: usize| keys[v].row(i).iter().copied().collect())));
        }
        self.queue.drain(..self.queue.len().saturating_sub(most));
    }
}

impl Kept for Keys {
    fn to_mats(&self) -> Vec<Mat> {
        let k = self.queue.front().map_or(0, |(_, [key, _])| key.len());
        let queue = Mat::from_fn(self.queue.len(), 1 + 2 * k, |i, j| match (&self.queue[i], j) {
            ((row, _), 0) => *row as f64,
            ((_, keys), j) => keys[(j - 1) / k][(j - 1) % k],
        });
        let towers = self.towers.iter().flatten().flat_map(|tower| tower.parameters.clone());
        [queue].into_iter().chain(towers).collect()
    }

    fn take(&mut self, mats: &[Mat]) -> Option<()> {
        let (queue, towers) = mats.split_first()?;
        let k = (queue.ncols() - 1) / 2;
        let key = |i: usize, v: usize| (0..k).map(|c| queue[(i, 1 + v * k + c)]).collect();
        self.queue = (0..queue.nrows()).map(|i| (queue[(i, 0)] as usize, [key(i, 0), key(i, 1)])).collect();
        self.towers = match towers.len() {
            0 => None,
            n if n == 2 * N_PARAMETERS => {
                Some([0, N_PARAMETERS].map(|at| Tower { parameters: towers[at..at + N_PARAMETERS].to_vec() }))
            }
            _ => return None,
        };
        Some(())
    }
}

impl Objective for Brivl {
    fn name(&self) -> &'static str {
        "brivl"
    }

    fn check(&self) -> Result<(), FitError> {
        above_zero("temperature", self.temperature)?;
        at_least_one("queue", self.queue)?;
        if !(0.0..1.0).contains(&self.momentum) {
            let expected = "a share of at least 0 and below 1";
            return Err(FitError::Config { name: "momentum", value: self.momentum.to_string(), expected });
        }
        Ok(())
    }

    fn step(&self, y: [&Mat; 2], _own: &[Mat], context: &mut Context<'_>) -> Result<Loss, FitError> {
        let Context { x, towers, rows, groups, .. } = *context;
        let kept = context.memory.kept(|| Keys { towers: None, queue: VecDeque::new() });
        if let Some(towers) = towers {
            kept.follow(towers, self.momentum);
        }
        let keys = [0, 1].map(|v: usize| match &kept.towers {
            Some(towers) => UnitRows::new(&towers[v].forward(x[v].clone(), None).y).u,
            None => UnitRows::new(y[v]).u,
        });
        let units = y.map(UnitRows::new);
        let queries = [&units[0].u, &units[1].u];
        let is_wrong = |i: usize, q: usize| groups[kept.queue[q].0] != groups[rows[i]];
        let mut value = 0.0;
        let outputs = [0, 1].map(|v: usize| {
            let queue = Mat::from_fn(kept.queue.len(), y[v].ncols(), |q, c| kept.queue[q].1[1 - v][c]);
            let (part, d) = contrast(queries[v], &keys[1 - v], &queue, is_wrong, 1.0 / self.temperature);
            value += part;
            units[v].backward(&d)
        });
        kept.remember(rows, &keys, self.queue);
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let reals = [("momentum", self.momentum), ("temperature", self.temperature)];
        let reals = reals.map(|(name, value)| (name.to_owned(), value.to_string()));
        reals.into_iter().chain([("queue".to_owned(), self.queue.to_string())]).collect()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [0.03, 0.15].map(|temperature| Brivl { temperature, ..self.clone() }).to_vec(),
            [0.9, 0.5].map(|momentum| Brivl { momentum, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Brivl(config)
    }
}
