//! Cross- and distribution-aligned autoencoders: each view is told from the other's latent coordinates too, and the posteriors are drawn together.
//!
//! # Reference
//! E. Schoenfeld, S. Ebrahimi, S. Sinha, T. Darrell, Z. Akata, Generalized Zero- and Few-Shot Learning via Aligned Variational Autoencoders, CVPR 2019, eq. 1-7. Checked
//! against torch (`reference/align_generative_goldens.py`). Differs from it in: the towers of this folder; errors are taken along principal axes, in units of the root mean square
//! there; warm-ups are shares of the epochs that there may be. The authors' code (edgarschnfld/CADA-VAE-PyTorch) draws otherwise than the paper says, which
//! [`CadaVae::as_released`] follows: noise is multiplied by the variance in place of its root, and a row has one normal number for all coordinates.
//!
//! # Model
//! z_v = m_v + s_v e_v; loss = sum_v |x_v - D_v(z_v)|_1 + b KL(q_v | prior) + c sum_{v != w} |x_w - D_w(z_v)|_1 + d sqrt(|m_0 - m_1|^2 + |s_0 - s_1|^2), the mean
//! over rows. The last is the 2-Wasserstein distance of Gaussians with diagonal covariances. b, c, d rise linearly from 0, between shares 0 and .93, .21 and
//! .75, .06 and .22 of the epochs.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | mu, log Sigma | the towers | `[n, 2 k]` | - |
//! | beta, gamma, delta | [`CadaVae::beta`], [`CadaVae::gamma`], [`CadaVae::delta`], their ends | - | at least 0 |
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
use crate::fit::FitError;
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Shares of the epochs between which each weight rises.
const BETA: [f64; 2] = [0.0, 0.93];
const GAMMA: [f64; 2] = [0.21, 0.75];
const DELTA: [f64; 2] = [0.06, 0.22];

/// Cross- and distribution-aligned autoencoders.
pub type CadaVaeConfig = DeepConfig<CadaVae>;

/// Their loss.
#[derive(Clone, Debug, PartialEq)]
pub struct CadaVae {
    /// Weight of the divergence from the prior in the end; at least 0.
    pub beta: f64,
    /// Weight of what each view's coordinates lose of the other, in the end; at least 0.
    pub gamma: f64,
    /// Weight of the distance of the posteriors in the end; at least 0.
    pub delta: f64,
    /// Whether noise is drawn as the authors' code draws it, not as the paper says.
    pub as_released: bool,
    /// Hidden units of each decoder; at least 1.
    pub hidden: usize,
}

impl Default for CadaVae {
    fn default() -> Self {
        Self { beta: 0.25, gamma: 2.37, delta: 8.13, as_released: false, hidden: 128 }
    }
}

/// The 2-Wasserstein distance of Gaussians with diagonal covariances, the mean over rows.
pub(crate) fn wasserstein<'t>(a: Gaussian<'t>, b: Gaussian<'t>) -> Var<'t, f64> {
    let deviation = |q: Gaussian<'t>| q.log_variance.scaled(0.5).exp();
    let squares = (a.mean - b.mean).square() + (deviation(a) - deviation(b)).square();
    // The root has no slope at 0, where two posteriors are the same.
    squares.sum_columns().plus(1e-12).root().mean()
}

/// How much of a weight there is after a share of the epochs.
fn risen([from, to]: [f64; 2], done: f64) -> f64 {
    ((done - from) / (to - from)).clamp(0.0, 1.0)
}

impl CadaVae {
    fn drawn<'t>(&self, q: Gaussian<'t>, noise: Var<'t, f64>) -> Var<'t, f64> {
        if self.as_released { q.mean + q.log_variance.exp().times_column(noise.columns(0..1)) } else { q.sample(noise) }
    }
}

impl Elbo for CadaVae {
    fn name(&self) -> &'static str {
        "cada-vae"
    }

    fn check(&self) -> Result<(), FitError> {
        [("beta", self.beta), ("gamma", self.gamma), ("delta", self.delta)]
            .into_iter()
            .try_for_each(|(n, v)| at_least_zero(n, v))
    }

    fn hidden(&self) -> usize {
        self.hidden
    }

    fn n_noises(&self) -> usize {
        2
    }

    fn value<'t>(&self, given: &Given<'t>) -> Var<'t, f64> {
        let z = [0, 1].map(|v| self.drawn(given.y[v], given.noise[v]));
        let lost = |view: usize, z: Var<'t, f64>| (given.x[view] - given.decoded(view, z)).absolute().sum_columns().mean();
        let told = lost(0, z[0]) + lost(1, z[1]);
        let crossed = lost(1, z[0]) + lost(0, z[1]);
        let kl = given.y[0].kl_from_prior() + given.y[1].kl_from_prior();
        let apart = wasserstein(given.y[0], given.y[1]);
        told + kl.scaled(self.beta * risen(BETA, given.done))
            + crossed.scaled(self.gamma * risen(GAMMA, given.done))
            + apart.scaled(self.delta * risen(DELTA, given.done))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all = [
            ("beta", self.beta.to_string()),
            ("gamma", self.gamma.to_string()),
            ("delta", self.delta.to_string()),
            ("as_released", self.as_released.to_string()),
            ("decoder", self.hidden.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [1.0].map(|beta| CadaVae { beta, ..self.clone() }).to_vec(),
            [2.0, 30.0].map(|delta| CadaVae { delta, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::CadaVae(config)
    }
}
