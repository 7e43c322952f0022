//! Label graph: classifiers of both kinds grow out of a graph that says which classes come together.
//!
//! # Reference
//! Z.-M. Chen, X.-S. Wei, P. Wang, Y. Guo, Multi-Label Image Recognition with Graph Convolutional Networks (ML-GCN), CVPR 2019, eq. 2 and 5-8, with the classifiers
//! shared by two kinds as in S. Qian, D. Xue, H. Zhang, Q. Fang, C. Xu, Dual Adversarial Graph Neural Networks for Multi-label Cross-modal Retrieval, AAAI 2021.
//! Checked against torch (`reference/align_graph_goldens.py`). Differs from it in: a class begins as a learned row, not as the vector of its word, which a bridge
//! is not given; the graph is row-normalised as in eq. 8 and nothing more; each class has a bias, without which all outputs
//! would first of all learn that classes are rare, and so become alike; W1 begins at nothing; since things are found by the towers' outputs, these are also held together by
//! the second and third term of [`super::dscmr`].
//!
//! # Model
//! H = G lrelu(G Z W0) W1, o_ic = y_i . h_c + b_c; loss = 1/2 sum over both kinds of mean_i sum_c (log(1 + e^o_ic) - y_ic o_ic), and alpha times the sum over (u, u),
//! (u, v), (v, v) of mean_ij (log(1 + e^O_ij) - S_ij O_ij), O_ij = cosine / 2, and beta mean_i |u_i - v_i|. P_cd are the rows with both c and d by those with c; d is near c
//! where P_cd is at least tau; G_cd = p / (how many are near c) for these, G_cc = 1 - p, or 1 where none is.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | A' (G) | own parameter, which no step changes | `[c, c]` | rows sum to 1 |
//! | X (Z) | own parameter | `[c, d]` | - |
//! | W^0, W^1 | own parameters | `[d, h]`, `[h, k]` | - |
//! | b | own parameter; starts at the log odds of each class | `[1, c]` | - |
//! | tau, p | [`LabelGcn::threshold`], [`LabelGcn::reweight`] | - | 0 to 1 |
//! | alpha, beta | [`LabelGcn::alpha`], [`LabelGcn::beta`] | - | at least 0 |
//!
//! # Cost
//! O(n^2 k + n k c + c^2 h) a batch beside the towers.
//!
//! # Determinism
//! The start of Z and W0 is drawn from a fixed seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`]; [`FitError::Config`].
//!
//! # Example
//! ```
//! use chiasm_align::deep::label_gcn::correlation;
//! use chiasm_core::Labels;
//! // Class 1 never comes without class 0; of three rows of class 0, one has class 1.
//! let labels = Labels::from_rows(&[vec![0, 1], vec![0], vec![0]], 2)?;
//! let g = correlation(&labels, 0.4, 0.2);
//! assert_eq!((g[0], g[1]), (1.0, 0.0));
//! assert_eq!((g[2], g[3]), (0.2, 0.8));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::Labels;
use chiasm_nn::grad::{Array, Tape};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Batch, DeepConfig, Loss, Objective, TowerConfig, tower};
use crate::fit::FitError;
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Columns of a class's first row, and of its hidden one.
const WIDTH: usize = 64;
/// Slope of the hidden units below 0, as in the paper.
const SLOPE: f64 = 0.2;

/// Added under the root, whose slope at 0 has no bound.
const TINY: f64 = 1e-12;

/// A classifier out of a graph of classes.
pub type LabelGcnConfig = DeepConfig<LabelGcn>;

/// Its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelGcn {
    /// How often a class must come with another to count as its neighbour; 0 to 1.
    pub threshold: f64,
    /// How much of a class comes from its neighbours; at least 0, below 1. With 0 there is no graph.
    pub reweight: f64,
    /// Weight of the likelihood of shared classes; at least 0.
    pub alpha: f64,
    /// Weight of the distance of pairs; at least 0.
    pub beta: f64,
}

impl Default for LabelGcn {
    fn default() -> Self {
        Self { threshold: 0.4, reweight: 0.2, alpha: 1.0, beta: 0.1 }
    }
}

/// Which classes come together: `[c, c]` row-major, each row the weights by which a class is mixed from itself and its neighbours.
pub fn correlation(labels: &Labels, threshold: f64, reweight: f64) -> Vec<f64> {
    let c = labels.n_classes();
    let mut together = vec![0.0_f64; c * c];
    for row in 0..labels.n() {
        for (a, b) in labels.of(row).iter().flat_map(|a| labels.of(row).iter().map(move |b| (*a as usize, *b as usize))) {
            together[a * c + b] += 1.0;
        }
    }
    let mut mixed = vec![0.0; c * c];
    for a in 0..c {
        let of_all = together[a * c + a];
        // A class of no row has no neighbours: 0 / 0 is nothing that comes together.
        let is_near =
            |b: &usize| *b != a && of_all > 0.0 && together[a * c + b] / of_all >= threshold && together[a * c + b] > 0.0;
        let near: Vec<usize> = (0..c).filter(is_near).collect();
        near.iter().for_each(|b| mixed[a * c + b] = reweight / near.len() as f64);
        mixed[a * c + a] = if near.is_empty() { 1.0 } else { 1.0 - reweight };
    }
    mixed
}

impl Objective for LabelGcn {
    fn name(&self) -> &'static str {
        "label-gcn"
    }

    fn towers() -> TowerConfig {
        TowerConfig { correlation_power: 0.5, max_epochs: 60, learning_rate: 5e-3, ..TowerConfig::default() }
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FitError> {
        let share = |name, value: f64, is_one: bool, expected| {
            let is_good = (0.0..1.0).contains(&value) || (is_one && value == 1.0);
            if is_good { Ok(()) } else { Err(FitError::Config { name, value: value.to_string(), expected }) }
        };
        share("threshold", self.threshold, true, "a share of 0 to 1")?;
        share("reweight", self.reweight, false, "a share of at least 0 and below 1")?;
        at_least_zero("alpha", self.alpha)?;
        at_least_zero("beta", self.beta)
    }

    fn own_of(&self, dim: usize, labels: Option<&Labels>, _widths: [usize; 2]) -> Vec<Mat> {
        let labels = labels.expect("a method that needs labels is not fitted without");
        let c = labels.n_classes();
        let graph = correlation(labels, self.threshold, self.reweight);
        // Of a fixed seed: what judges the towers need not differ with theirs.
        let mut rng = ChaCha8Rng::seed_from_u64(0x6C);
        let classes = tower::normal(c, WIDTH, 1.0, &mut rng);
        let w0 = tower::normal(WIDTH, WIDTH, 1.0 / (WIDTH as f64).sqrt(), &mut rng);
        let mut counts = vec![0.5; c];
        (0..labels.n()).flat_map(|row| labels.of(row)).for_each(|class| counts[*class as usize] += 1.0);
        let bias = Mat::from_fn(1, c, |_, class| (counts[class] / (labels.n() as f64 + 1.0 - counts[class])).ln());
        vec![Mat::from_fn(c, c, |a, b| graph[a * c + b]), classes, w0, Mat::zeros(WIDTH, dim), bias]
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (n, c) = (batch.n(), own[0].nrows());
        let labels = batch.labels.as_ref().expect("a method that needs labels is not fitted without");
        let tape = Tape::new();
        let [u, v] = y.map(|y| tape.leaf(array(y)));
        let graph = tape.constant(array(&own[0]));
        let [classes, w0, w1, bias] = [1, 2, 3, 4].map(|at| tape.leaf(array(&own[at])));
        let hidden = graph.dot(classes).dot(w0).leaky_relu(SLOPE);
        let classifiers = graph.dot(hidden).dot(w1);
        let mut wanted = Array::zeros(n, c);
        let mut known = Array::zeros(n, 1);
        for i in 0..n {
            // Nothing is known of a row without a class.
            known.data_mut()[i] = f64::from(u8::from(!labels.of(i).is_empty()));
            labels.of(i).iter().for_each(|class| wanted.row_mut(i)[*class as usize] = 1.0);
        }
        let (wanted, known) = (tape.constant(wanted), tape.constant(known));
        let [of_u, of_v] = [u, v].map(|y| {
            let said = y.linear(classifiers, Some(bias));
            (said.softplus() - wanted * said).times_column(known).sum().scaled(0.5 / n as f64)
        });
        let mut loss = of_u + of_v;
        let units = [u.unit_rows(), v.unit_rows()];
        let shared = tape.constant(Array::from_fn(n, n, |i, j| f64::from(u8::from(batch.related(i, j)))));
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            let o = units[a].dot_rows(units[b]).scaled(0.5);
            loss = loss + (o.softplus() - shared * o).mean().scaled(self.alpha);
        }
        if self.beta > 0.0 {
            let apart = (u - v).square().sum_columns().plus(TINY).root();
            loss = loss + apart.mean().scaled(self.beta);
        }
        let mut gradients = tape.backward(loss);
        let outputs = [u, v].map(|y| mat(&gradients.take(y)));
        let fixed = Mat::zeros(c, c);
        let own = [classes, w0, w1, bias].map(|parameter| mat(&gradients.take(parameter)));
        Ok(Loss { value: loss.value().only(), outputs, own: std::iter::once(fixed).chain(own).collect() })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [("threshold", self.threshold), ("reweight", self.reweight), ("alpha", self.alpha), ("beta", self.beta)];
        all.map(|(name, value)| (name.to_owned(), value.to_string())).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![[0.0, 0.5].map(|reweight| LabelGcn { reweight, ..self.clone() }).to_vec()]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::LabelGcn(config)
    }
}

fn array(x: &Mat) -> Array<f64> {
    Array::from_fn(x.nrows(), x.ncols(), |i, j| x[(i, j)])
}

fn mat(x: &Array<f64>) -> Mat {
    Mat::from_fn(x.n_rows(), x.n_cols(), |i, j| x.at(i, j))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn list(value: &Value) -> &[Value] {
        value.as_array().expect("a list")
    }

    fn matrix(value: &Value) -> Mat {
        let rows: Vec<Vec<f64>> =
            list(value).iter().map(|row| list(row).iter().map(|x| x.as_f64().expect("a number")).collect()).collect();
        Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    fn apart(a: &Mat, b: &Mat) -> f64 {
        assert_eq!(a.shape(), b.shape());
        (0..a.ncols()).flat_map(|j| (0..a.nrows()).map(move |i| (i, j))).map(|at| (a[at] - b[at]).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_graph_the_loss_and_its_gradients_are_torchs() {
        let path = format!("{}/../../testdata/goldens/align/graphs.json", env!("CARGO_MANIFEST_DIR"));
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let golden = &golden["label_gcn"];
        let classes = |set: &Value| list(set).iter().map(|c| c.as_u64().unwrap() as u32).collect::<Vec<u32>>();
        let sets: Vec<Vec<u32>> = list(&golden["sets"]).iter().map(classes).collect();
        let labels = Labels::from_rows(&sets, 5).unwrap();
        let objective = LabelGcn::default();
        let graph = objective.own_of(4, Some(&labels), [4, 4]).remove(0);
        assert!(apart(&graph, &matrix(&golden["graph"])) < 1e-12);
        let inputs: Vec<Mat> = list(&golden["in"]).iter().map(matrix).collect();
        let n = sets.len();
        let related = (0..n * n).map(|at| labels.share(at / n, &labels, at % n)).collect();
        let batch = Batch {
            inputs: [0, 1].map(|v| inputs[v].clone()),
            related,
            labels: Some(labels),
            done: 0.0,
            rng_seed: 0,
            scales: [1.0; 2],
        };
        let own: Vec<Mat> = std::iter::once(graph).chain(inputs[2..].iter().cloned()).collect();
        let loss = objective.loss([&inputs[0], &inputs[1]], &own, &batch).unwrap();
        let mut off = (loss.value - golden["loss"].as_f64().unwrap()).abs();
        let gradients = loss.outputs.iter().chain(&loss.own[1..]);
        for (gradient, expected) in gradients.zip(list(&golden["d"])) {
            off = off.max(apart(gradient, &matrix(expected)));
        }
        // Both sides work in f64.
        assert!(off < 1e-9, "off by {off:e}");
        assert_eq!(apart(&loss.own[0], &Mat::zeros(5, 5)), 0.0);
    }
}
