//! Multimodal autoencoder by a product of experts: what is known of a thing is the product of what each view knows and of the prior.
//!
//! # Reference
//! M. Wu, N. Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning, NeurIPS 2018, eq. 2-5. Checked against torch
//! (`reference/align_generative_goldens.py`). Differs from it in: features with Gaussian noise of one strength, the towers of this folder; a tower puts out the mean of
//! its expert's product with the prior in place of the expert's own, of which either follows from the other, so that the mean that retrieval
//! compares is an output; no warm-up unless asked for, without which each view's own bound leads to coordinates of its own before the joint one counts.
//!
//! # Model
//! Experts N(m_v (1 + s_v^2), s_v^2), precisions t_v = 1 / s_v^2: their product over a set of views and the prior has precision T = 1 + sum t_v and mean
//! sum m_v (1 + t_v) / T, which of one view is m_v. loss = -(ELBO(x, y) + ELBO(x) + ELBO(y)), where each takes z from the product of its views and tells these:
//! -log p + b KL(product | prior), the mean over rows. b rises from 0 to [`Mvae::beta`] within a share
//! [`Mvae::warm_up`] of the epochs.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | q~(z given x) | the towers | `[n, 2 k]` | m_v, log s_v^2 |
//! | lambda | [`Mvae::weight`] | - | above 0 |
//! | beta | [`Mvae::beta`] | - | at least 0 |
//!
//! # Cost
//! O(n (m_0 + m_1) h) a batch beside the towers, twice.
//!
//! # Determinism
//! Noise comes from the run's seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`], [`FitError::Numeric`].

use chiasm_nn::grad::Var;

use super::{Elbo, Gaussian, Given};
use crate::deep::DeepConfig;
use crate::deep::unit::softplus;
use crate::fit::FitError;
use crate::hashing::above_zero;
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Multimodal autoencoders by products of experts.
pub type MvaeConfig = DeepConfig<Mvae>;

/// Their bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Mvae {
    /// Weight of what is lost of the rows; above 0. Noise of a share `1 / (2 weight)` of the variance is believed in.
    pub weight: f64,
    /// Weight of the divergence from the prior in the end; at least 0.
    pub beta: f64,
    /// Share of the epochs in which it gets that weight, from 0; 0 to 1.
    pub warm_up: f64,
    /// Hidden units of each decoder; at least 1.
    pub hidden: usize,
}

impl Default for Mvae {
    fn default() -> Self {
        Self { weight: 100.0, beta: 1.0, warm_up: 0.0, hidden: 128 }
    }
}

/// The product of experts with the prior, given what each makes with the prior alone.
pub(crate) fn product_of_experts<'t>(experts: &[Gaussian<'t>]) -> Gaussian<'t> {
    if let [one] = experts {
        // 1 / (1 + 1/s^2), as a logarithm.
        return Gaussian { mean: one.mean, log_variance: -(-one.log_variance).softplus() };
    }
    let precision = |expert: &Gaussian<'t>| (-expert.log_variance).exp();
    let add = |a: Var<'t, f64>, b: Var<'t, f64>| a + b;
    let total = experts.iter().map(precision).reduce(add).expect("there is an expert").plus(1.0);
    let weighted =
        experts.iter().map(|expert| expert.mean * precision(expert).plus(1.0)).reduce(add).expect("there is an expert");
    Gaussian { mean: weighted / total, log_variance: -total.ln() }
}

impl Elbo for Mvae {
    fn name(&self) -> &'static str {
        "mvae"
    }

    fn check(&self) -> Result<(), FitError> {
        above_zero("weight", self.weight)?;
        at_least_zero("beta", self.beta)?;
        if !(0.0..=1.0).contains(&self.warm_up) {
            return Err(FitError::Config { name: "warm_up", value: self.warm_up.to_string(), expected: "a share, 0 to 1" });
        }
        Ok(())
    }

    fn hidden(&self) -> usize {
        self.hidden
    }

    fn n_noises(&self) -> usize {
        3
    }

    fn log_variance(&self, put_out: f64) -> f64 {
        -softplus(-put_out).0
    }

    fn value<'t>(&self, given: &Given<'t>) -> Var<'t, f64> {
        let beta = if given.done < self.warm_up { self.beta * given.done / self.warm_up } else { self.beta };
        let elbo = |views: &[usize], noise: Var<'t, f64>| {
            let experts: Vec<Gaussian<'t>> = views.iter().map(|v| given.y[*v]).collect();
            let q = product_of_experts(&experts);
            let z = q.sample(noise);
            let told = views.iter().map(|v| given.lost(*v, z).scaled(self.weight));
            told.fold(q.kl_from_prior().scaled(beta), |sum, lost| sum + lost)
        };
        elbo(&[0, 1], given.noise[0]) + elbo(&[0], given.noise[1]) + elbo(&[1], given.noise[2])
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [
            ("weight", self.weight.to_string()),
            ("beta", self.beta.to_string()),
            ("warm_up", self.warm_up.to_string()),
            ("decoder", self.hidden.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [30.0, 300.0].map(|weight| Mvae { weight, ..self.clone() }).to_vec(),
            [0.25].map(|beta| Mvae { beta, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Mvae(config)
    }
}
