//! Joint multimodal autoencoder: one encoder sees both views, and the encoders of one view learn what it would say.
//!
//! # Reference
//! M. Suzuki, K. Nakayama, Y. Matsuo, Joint Multimodal Learning with Deep Generative Models, 2016 (ICLR workshop 2017), eq. 1-6: JMVAE-kl. Checked against torch
//! (`reference/align_generative_goldens.py`). Differs from it in: features with Gaussian noise of one strength, the towers of this folder, no warm-up of the divergence.
//!
//! # Model
//! z ~ q(z|x,y) = N by a network on both views' rows; loss = -log p(x|z) - log p(y|z) + KL(q(z|x,y) | prior) + a [KL(q(z|x,y) | q(z|x)) + KL(q(z|x,y) | q(z|y))],
//! the mean over rows.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | q(z given x), q(z given y) | the towers | `[n, 2 k]` | mean, log variance |
//! | q(z given x, y) | own parameters of a tower on `[x, y]` | `[m_0 + m_1, 2 k]` | - |
//! | alpha | [`Jmvae::alpha`] | - | at least 0 |
//!
//! # Cost
//! O(n (m_0 + m_1 + k) h) a batch beside the towers.
//!
//! # Determinism
//! Noise comes from the run's seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`], [`FitError::Numeric`].

use chiasm_nn::grad::Var;
use rand_chacha::ChaCha8Rng;

use super::{Elbo, Gaussian, Given, network};
use crate::deep::DeepConfig;
use crate::deep::tower::{self, Tower};
use crate::fit::FitError;
use crate::hashing::above_zero;
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::reduced::at_least_zero;

/// Joint multimodal autoencoders.
pub type JmvaeConfig = DeepConfig<Jmvae>;

/// Its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Jmvae {
    /// Weight of what is lost of the rows; above 0. Noise of a share `1 / (2 weight)` of the variance is believed in.
    pub weight: f64,
    /// How strictly the encoders of one view are held to the joint one; at least 0.
    pub alpha: f64,
    /// Hidden units of each decoder and of the joint encoder; at least 1.
    pub hidden: usize,
}

impl Default for Jmvae {
    fn default() -> Self {
        Self { weight: 100.0, alpha: 0.1, hidden: 128 }
    }
}

impl Elbo for Jmvae {
    fn name(&self) -> &'static str {
        "jmvae"
    }

    fn check(&self) -> Result<(), FitError> {
        above_zero("weight", self.weight)?;
        at_least_zero("alpha", self.alpha)
    }

    fn hidden(&self) -> usize {
        self.hidden
    }

    fn extra(&self, k: usize, widths: [usize; 2], rng: &mut ChaCha8Rng) -> Vec<Mat> {
        let width = widths[0] + widths[1];
        // With no way from the rows to z at all, decoders that say nothing yet would be left at that.
        let drawn = tower::normal(width, 2 * k, 1.0 / (width as f64).sqrt(), rng);
        let straight = Mat::from_fn(width, 2 * k, |i, j| if j < k { drawn[(i, j)] } else { 0.0 });
        Tower::new(straight, self.hidden, width as f64, rng).parameters
    }

    fn n_noises(&self) -> usize {
        1
    }

    fn value<'t>(&self, given: &Given<'t>) -> Var<'t, f64> {
        let both = given.x[0].tape().beside(&given.x);
        let joint = Gaussian::new(network(given.extra(), both));
        let z = joint.sample(given.noise[0]);
        let lost = given.lost(0, z) + given.lost(1, z);
        let held = joint.kl(given.y[0]) + joint.kl(given.y[1]);
        lost.scaled(self.weight) + joint.kl_from_prior() + held.scaled(self.alpha)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let all =
            [("weight", self.weight.to_string()), ("alpha", self.alpha.to_string()), ("decoder", self.hidden.to_string())];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [30.0, 300.0].map(|weight| Jmvae { weight, ..self.clone() }).to_vec(),
            [0.01, 1.0].map(|alpha| Jmvae { alpha, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Jmvae(config)
    }
}
