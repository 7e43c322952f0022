//! Multimodal autoencoder by a mixture of experts: a thing is drawn from what one view knows of it, and both views are told from that.
//!
//! # Reference
//! Y. Shi, N. Siddharth, B. Paige, P. Torr, Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models, NeurIPS 2019, eq. 2-4. Checked
//! against torch (`reference/align_generative_goldens.py`). The bound is the importance-weighted one (IWAE) with stratified samples, which with one sample is the ELBO; its gradient is that of
//! the reparametrised samples, not the doubly reparametrised one (DReG). Differs from it in: Gaussians in place of Laplace distributions, features with Gaussian noise of one
//! strength, the towers of this folder.
//!
//! # Model
//! q(z|x,y) = (q(z|x) + q(z|y)) / 2. z_vk ~ q(z|x_v), k = 1..K; w_vk = p(z_vk) p(x|z_vk) p(y|z_vk) / q(z_vk|x,y); loss = -1/2 sum_v log 1/K sum_k w_vk, the mean over rows.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | q(z given x_m) | the towers | `[n, 2 k]` | mean, log variance |
//! | K | [`Mmvae::samples`] | - | 1 to 100 |
//!
//! # Cost
//! O(K n (m_0 + m_1) h) a batch beside the towers, twice.
//!
//! # Determinism
//! Noise comes from the run's seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`], [`FitError::Numeric`].

use chiasm_nn::grad::Var;

use super::{Elbo, Given};
use crate::deep::DeepConfig;
use crate::fit::FitError;
use crate::hashing::above_zero;
use crate::method::MethodConfig;

/// Multimodal autoencoders by mixtures of experts.
pub type MmvaeConfig = DeepConfig<Mmvae>;

/// Their bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Mmvae {
    /// Weight of what is lost of the rows; above 0. Noise of a share `1 / (2 weight)` of the variance is believed in.
    pub weight: f64,
    /// Samples of each expert for each row; 1 to 100. With one, the bound is the ELBO.
    pub samples: usize,
    /// Hidden units of each decoder; at least 1.
    pub hidden: usize,
}

impl Default for Mmvae {
    fn default() -> Self {
        Self { weight: 100.0, samples: 4, hidden: 128 }
    }
}

/// `log sum exp` along each row, `[n, 1]`.
fn log_sum_exp(x: Var<'_, f64>) -> Var<'_, f64> {
    x.columns(0..1) - x.log_softmax().columns(0..1)
}

impl Elbo for Mmvae {
    fn name(&self) -> &'static str {
        "mmvae"
    }

    fn check(&self) -> Result<(), FitError> {
        if !(1..=100).contains(&self.samples) {
            return Err(FitError::Config { name: "samples", value: self.samples.to_string(), expected: "1 to 100" });
        }
        above_zero("weight", self.weight)
    }

    fn hidden(&self) -> usize {
        self.hidden
    }

    fn n_noises(&self) -> usize {
        2 * self.samples
    }

    fn value<'t>(&self, given: &Given<'t>) -> Var<'t, f64> {
        let tape = given.x[0].tape();
        let half = 0.5_f64.ln();
        let bound = |v: usize| {
            let weights = |noise: &Var<'t, f64>| {
                let z = given.y[v].sample(*noise);
                let [_, k] = z.shape();
                let prior = z.square().sum_columns().scaled(-0.5).plus(-0.5 * k as f64 * std::f64::consts::TAU.ln());
                let both = tape.beside(&given.y.map(|q| q.log_density(z).plus(half)));
                let lost = given.lost_of(0, z) + given.lost_of(1, z);
                prior - lost.scaled(self.weight) - log_sum_exp(both)
            };
            let of: Vec<Var<'t, f64>> = given.noise[v * self.samples..(v + 1) * self.samples].iter().map(weights).collect();
            log_sum_exp(tape.beside(&of)).mean().plus(-(self.samples as f64).ln())
        };
        (bound(0) + bound(1)).scaled(-0.5)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all =
            [("weight", self.weight.to_string()), ("samples", self.samples.to_string()), ("decoder", self.hidden.to_string())];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [30.0, 300.0].map(|weight| Mmvae { weight, ..self.clone() }).to_vec(),
            [1].map(|samples| Mmvae { samples, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Mmvae(config)
    }
}
