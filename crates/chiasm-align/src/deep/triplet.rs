//! Metric learning by triplets: a right answer is closer than a wrong one by a margin.
//!
//! # Reference
//! F. Faghri, D. Fleet, J. Kiros, S. Fidler, VSE++: Improving Visual-Semantic Embeddings with Hard Negatives, BMVC 2018, eq. 3 (all
//! negatives: VSE) and 6 (the hardest: VSE++); F. Schroff, D. Kalenichenko, J. Philbin, FaceNet, CVPR 2015, section 3.2 (semi-hard). Checked
//! against torch (`reference/align_deep_goldens.py`). Differs from them in: towers on ready features; the mean over the batch in place of the
//! sum; the hardest negatives only after a tenth of the epochs with all of them, without which they can draw everything to one point.
//!
//! # Model
//! loss = 1/n sum_i ( sum_j [m - s_ii + s_ij]_+ + sum_j [m - s_ii + s_ji]_+ ) over wrong answers j, s = cosine; the hardest: the greatest term in
//! place of each sum; semi-hard: the greatest term of those below the margin's full height, s_ij < s_ii.
//!
//! # Cost
//! O(n^2 k) a batch beside the towers.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`].

use super::unit::UnitRows;
use super::{Batch, DeepConfig, Loss, Objective};
use crate::fit::FitError;
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;

/// Share of the epochs in which all negatives count, whatever is asked for.
const ALL_FIRST: f64 = 0.1;

/// Metric learning with two towers.
pub type TripletConfig = DeepConfig<Triplet>;

/// Which wrong answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negatives {
    /// All of the batch.
    All,
    /// The closest of the batch.
    Hardest,
    /// The closest of those that are less close than the right answer.
    SemiHard,
}

/// The hinge loss on triplets.
#[derive(Clone, Debug, PartialEq)]
pub struct Triplet {
    /// By how much a right answer is to be closer; above 0, below 2.
    pub margin: f64,
    /// Which wrong answers count.
    pub negatives: Negatives,
}

impl Default for Triplet {
    fn default() -> Self {
        Self { margin: 0.2, negatives: Negatives::All }
    }
}

impl Objective for Triplet {
    fn name(&self) -> &'static str {
        match self.negatives {
            Negatives::All => "vse",
            Negatives::Hardest => "vse++",
            Negatives::SemiHard => "triplet",
        }
    }

    fn check(&self) -> Result<(), FitError> {
        if self.margin > 0.0 && self.margin < 2.0 {
            return Ok(());
        }
        let expected = "a difference of cosines above 0 and below 2";
        Err(FitError::Config { name: "margin", value: self.margin.to_string(), expected })
    }

    fn loss(&self, y: [&Mat; 2], _own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let (u, v) = (UnitRows::new(y[0]), UnitRows::new(y[1]));
        let n = batch.n();
        let scores = product(u.u.as_ref(), v.u.transpose());
        let mut d = Mat::zeros(n, n);
        let (mut value, share) = (0.0, 1.0 / n as f64);
        let negatives = if batch.done < ALL_FIRST { Negatives::All } else { self.negatives };
        for i in 0..n {
            for along_row in [true, false] {
                let place = |j: usize| if along_row { (i, j) } else { (j, i) };
                let hinge = |j: usize| self.margin - scores[(i, i)] + scores[place(j)];
                let wrong = (0..n).filter(|j| {
                    let (a, b) = place(*j);
                    !batch.related(a, b)
                });
                let counted: Vec<usize> = match negatives {
                    Negatives::All => wrong.filter(|j| hinge(*j) > 0.0).collect(),
                    Negatives::Hardest => greatest(wrong, hinge),
                    Negatives::SemiHard => greatest(wrong.filter(|j| scores[place(*j)] < scores[(i, i)]), hinge),
                };
                for j in counted {
                    value += hinge(j) * share;
                    d[place(j)] += share;
                    d[(i, i)] -= share;
                }
            }
        }
        let outputs = [u.backward(&product(d.as_ref(), v.u.as_ref())), v.backward(&product(d.transpose(), u.u.as_ref()))];
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("margin".to_owned(), self.margin.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![[0.1, 0.4].map(|margin| Triplet { margin, ..self.clone() }).to_vec()]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Triplet(config)
    }
}

/// The one of greatest hinge, if that is above 0.
fn greatest(of: impl Iterator<Item = usize>, hinge: impl Fn(usize) -> f64) -> Vec<usize> {
    of.max_by(|a, b| hinge(*a).total_cmp(&hinge(*b)).then(b.cmp(a))).filter(|j| hinge(*j) > 0.0).into_iter().collect()
}
