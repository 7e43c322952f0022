//! Kernel canonical correlation analysis: CCA in the spaces whose inner products two kernels are.
//!
//! # Reference
//! D. R. Hardoon, S. Szedmak, J. Shawe-Taylor, Canonical correlation analysis: an overview with application to learning methods,
//! Neural Computation 16, 2004. Nystroem: C. Williams, M. Seeger, NIPS 2000. Checked against scipy's solution of the eigenproblem
//! below and, where conventions allow, cca-zoo 4.0.1 `KCCA` (`reference/align_subspace_goldens.py`). Differs in nothing below
//! [`crate::KernelConfig::max_exact_rows`]; above it the kernel is approximated.
//!
//! # Model
//! (Kx + kappa n I)^{-1} Ky (Ky + kappa n I)^{-1} Kx alpha = rho^2 alpha, Kx and Ky centred; x goes to k(x, .) alpha.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | Kx, Ky | [`crate::Kernel`] of the fitting rows | `[n, n]`, or `[n, anchors]` | - |
//! | kappa | [`KccaConfig::kappa`] | - | above 0; without it every correlation is 1 |
//! | rho | [`crate::About::correlations`] | `[k]` | 0..=1 |
//!
//! With K = Z Z' (Z the rows in kernel principal axes) the problem is ridge CCA of the two Z: that is how it is solved, and why a
//! linear kernel gives exactly ridge CCA.
//!
//! # Cost
//! O(n^3) time and O(n^2) memory up to `max_exact_rows` rows; O(n m^2 + m^3) time and O(n m) memory with m anchors above.
//! Projecting a row costs a kernel with each anchor.
//!
//! # Determinism
//! Anchors and the median distance are drawn by the seed. Signs: the largest weight of each coordinate of view 0 is positive.
//!
//! # Errors
//! Those of [`crate::CcaConfig`].
//!
//! # Example
//! The second view is the square of the first: no line finds that, a Gaussian does.
//! ```
//! use chiasm_align::{KccaConfig, MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//! let x: Vec<f32> = (-20..=20).map(|i| i as f32 / 10.0).collect();
//! let y: Vec<f32> = x.iter().map(|x| x * x).collect();
//! let pairs = Pairs::new(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?]);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::Kcca(KccaConfig::default()).fit(&pairs, &run)?;
//! assert!(space.about().correlations[0] > 0.98);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::cca;
use crate::fit::{FitError, Run};
use crate::kernel::Kernel;
use crate::method::MethodConfig;
use crate::preprocess::{Anchors, KernelConfig, KernelRole, Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// How kernel canonical correlation analysis is done.
#[derive(Clone, Debug, PartialEq)]
pub struct KccaConfig {
    /// Done to the rows of each view before the kernel sees them.
    pub preprocess: [Preprocess; 2],
    /// Kernel of each view.
    pub kernels: [KernelConfig; 2],
    /// Regularisation, relative to the number of rows; above 0.
    pub kappa: f64,
    /// Canonical pairs kept at most.
    pub max_components: usize,
    /// Each coordinate is multiplied by its correlation to this power; see [`crate::CcaConfig`].
    pub correlation_power: f64,
}

impl Default for KccaConfig {
    /// Gaussians of median width, exact up to 5,000 rows, 1,000 anchors above.
    fn default() -> Self {
        let kernel = KernelConfig {
            kernel: Kernel::Rbf,
            gamma: None,
            sharpness: 1.0,
            max_exact_rows: 5000,
            max_anchors: 1000,
            anchors: Anchors::Random,
            role: KernelRole::Geometry,
        };
        Self {
            preprocess: [Preprocess::None; 2],
            kernels: [kernel; 2],
            kappa: 1e-3,
            max_components: 128,
            correlation_power: 1.0,
        }
    }
}

impl Linear for KccaConfig {
    fn name(&self) -> &'static str {
        "kcca"
    }

    fn takes_moments(&self) -> bool {
        true
    }

    fn only_whitens(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        if !(self.kappa > 0.0 && self.kappa.is_finite()) {
            let expected = "without a finite kappa above 0 every two kernels correlate perfectly";
            return Err(FitError::Config { name: "kappa", value: self.kappa.to_string(), expected });
        }
        let view = |v: usize| ViewConfig {
            preprocess: self.preprocess[v],
            kernel: Some(self.kernels[v]),
            pca_dim: None,
            ridge: self.kappa,
        };
        let views = vec![view(0), view(1)];
        reduced::check(&views, self.max_components, self.correlation_power)?;
        Ok(views)
    }

    fn max_components(&self) -> usize {
        self.max_components
    }

    fn correlation_power(&self) -> f64 {
        self.correlation_power
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], _run: &Run<'_>) -> Result<Solution, FitError> {
        cca::canonical(reduced, views)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let view =
            |v: usize| ViewConfig { preprocess: self.preprocess[v], kernel: Some(self.kernels[v]), ..ViewConfig::default() };
        let all = [
            ("view 0", view(0).entry()),
            ("view 1", view(1).entry()),
            ("kappa", self.kappa.to_string()),
            ("max_components", self.max_components.to_string()),
            ("correlation_power", self.correlation_power.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let mut lists = Vec::new();
        for (v, entries) in entries.iter().enumerate() {
            // The chi-squared kernel is made for numbers that are never negative, and those may gain by a root.
            let histogram = entries.len() > 1;
            let kernels: &[Kernel] = if histogram { &[Kernel::Rbf, Kernel::Chi2] } else { &[Kernel::Rbf] };
            lists.push(reduced::each(self, kernels, |c, k| c.kernels[v].kernel = k));
            lists.push(reduced::each(self, entries, |c, entry| c.preprocess[v] = entry));
        }
        lists.push(reduced::each(self, &[1e-4, 1e-2, 0.1], |c, kappa| c.kappa = kappa));
        lists.push(reduced::each(self, &[self.kappa / 3.0, self.kappa * 3.0], |c, kappa| c.kappa = kappa));
        lists.push(reduced::each(self, &reduced::COMPONENTS, |c, k| c.max_components = k));
        lists.push(reduced::each(self, &reduced::POWERS, |c, p| c.correlation_power = p));
        reduced::listed(lists, MethodConfig::Kcca)
    }
}
