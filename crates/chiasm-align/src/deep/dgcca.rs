//! Deep generalised canonical correlation analysis: towers whose outputs can all be carried to the same coordinates.
//!
//! # Reference
//! A. Benton, H. Khayrallah, B. Gujral, D. Reisinger, S. Zhang, R. Arora, Deep Generalized Canonical Correlation Analysis, RepL4NLP 2019, eq. 1-3 and the
//! gradient of section 3. Checked against torch's own gradient of the eigenvalues, for two views and for three (`reference/align_deep_memory_goldens.py`).
//! Differs from it in: a ridge; steps take large batches, as in [`super::dcca`]; coordinates are weighted by a power of their correlation in the end.
//! The loss takes any number of views, the loop of this folder trains two: of these the eigenvalues are 1 and the correlations of [`super::dcca`], but for the
//! ridge, which here also lowers what each view explains of itself. [`crate::gcca`] and [`crate::mcca`] take more.
//!
//! # Model
//! H_v outputs about their means; S_v = H_v'H_v/(n-1) + r I; M = sum_v H_v S_v^-1 H_v'/(n-1); G [n, k] its first eigenvectors, which are the coordinates;
//! loss = -sum of their eigenvalues l, so that sum_v |G - H_v U_v|^2 is least with U_v = S_v^-1 H_v'G/(n-1). d loss / d H_v = -2 (G - H_v U_v) U_v'.
//! M is never formed: with R_v R_v' = S_v^-1 and C = [H_1 R_1, H_2 R_2, ...] / (n-1)^1/2 it is C C', and C'C, of the size of the outputs, gives all.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | f_j(X_j) | outputs of the towers | `[n, k]` | - |
//! | r, columns of G | [`super::TowerConfig::dim`] | - | - |
//! | (none) | [`Dgcca::ridge`] | - | above 0 |
//!
//! # Cost
//! O(n k^2 + (v k)^3) a batch of v views beside the towers.
//!
//! # Determinism
//! Equal eigenvalues may give any basis of their plane; the loss and the space of all coordinates do not depend on it.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::Config`], [`FitError::Numeric`].

use super::dcca::{Centred, Dcca};
use super::tower::Affine;
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig};
use crate::fit::FitError;
use crate::linalg::{self, Blocks, Mat, product};
use crate::method::MethodConfig;

/// An eigenvalue below this share of the greatest is rounding.
const RANK_TOLERANCE: f64 = 1e-12;

/// Deep generalised canonical correlation analysis.
pub type DgccaConfig = DeepConfig<Dgcca>;

/// The sum of eigenvalues.
#[derive(Clone, Debug, PartialEq)]
pub struct Dgcca {
    /// Added to the variances of the outputs, which the start gives a mean of about 1; above 0.
    pub ridge: f64,
    /// Each coordinate is multiplied by its correlation to this power in the end; at least 0.
    pub correlation_power: f64,
}

impl Default for Dgcca {
    fn default() -> Self {
        Self { ridge: 1e-3, correlation_power: 1.0 }
    }
}

/// The coordinates that views share.
struct Shared {
    views: Vec<Centred>,
    /// Eigenvalues, greatest first, 0 to the count of views.
    values: Vec<f64>,
    /// For each view its part of the eigenvectors of C'C, `[k_v, k]`.
    directions: Vec<Mat>,
}

impl Dgcca {
    /// The coordinates of greatest eigenvalue, as many as the narrowest view has outputs.
    fn shared(&self, y: &[&Mat]) -> Result<Shared, FitError> {
        let views = y.iter().map(|y| Centred::new(y, self.ridge)).collect::<Result<Vec<_>, FitError>>()?;
        let factor = 1.0 / (y[0].nrows() as f64 - 1.0);
        let sides: Vec<Mat> = views.iter().map(|view| product(view.h.as_ref(), view.root.as_ref())).collect();
        let mut blocks = Blocks::new(y.iter().map(|y| y.ncols()).collect());
        for (v, a) in sides.iter().enumerate() {
            for (w, b) in sides.iter().enumerate().take(v + 1) {
                let mut block = product(a.transpose(), b.as_ref());
                linalg::scale_rows(&mut block, &vec![factor; a.ncols()]);
                blocks.set(v, w, block.as_ref());
            }
        }
        let (mut values, mut directions) = blocks.eigen()?;
        let most = y.iter().map(|y| y.ncols()).min().unwrap_or(0);
        let floor = RANK_TOLERANCE * values.first().copied().unwrap_or(0.0).max(0.0);
        let k = values.iter().take(most).take_while(|value| **value > floor).count();
        values.truncate(k);
        directions.iter_mut().for_each(|d| *d = d.subcols(0, k).to_owned());
        Ok(Shared { views, values, directions })
    }

    /// The loss, and its gradient by the outputs of each view.
    fn explained(&self, y: &[&Mat]) -> Result<(f64, Vec<Mat>), FitError> {
        let Shared { views, values, directions } = self.shared(y)?;
        let root = 1.0 / (y[0].nrows() as f64 - 1.0).sqrt();
        let maps: Vec<Mat> = views.iter().zip(&directions).map(|(view, d)| product(view.root.as_ref(), d.as_ref())).collect();
        // G = C V l^-1/2, and U_v = R_v V_v l^1/2 / (n-1)^1/2.
        let mut g = Mat::zeros(y[0].nrows(), values.len());
        for (view, map) in views.iter().zip(&maps) {
            linalg::add_product(&mut g, view.h.as_ref(), map.as_ref());
        }
        linalg::scale_cols(&mut g, &values.iter().map(|value| root / value.sqrt()).collect::<Vec<_>>());
        let scales: Vec<f64> = values.iter().map(|value| root * value.sqrt()).collect();
        let gradient = |(view, map): (&Centred, &Mat)| {
            let mut u = map.clone();
            linalg::scale_cols(&mut u, &scales);
            let told = product(view.h.as_ref(), u.as_ref());
            let rest = Mat::from_fn(g.nrows(), g.ncols(), |i, j| -2.0 * (g[(i, j)] - told[(i, j)]));
            product(rest.as_ref(), u.transpose())
        };
        let gradients = views.iter().zip(&maps).map(gradient).collect();
        Ok((-values.iter().sum::<f64>(), gradients))
    }
}

impl Objective for Dgcca {
    fn name(&self) -> &'static str {
        "dgcca"
    }

    fn towers() -> TowerConfig {
        Dcca::towers()
    }

    fn check(&self) -> Result<(), FitError> {
        crate::hashing::above_zero("ridge", self.ridge)?;
        crate::reduced::at_least_zero("correlation_power", self.correlation_power)
    }

    fn batch(&self, config: &TowerConfig, dim: usize) -> usize {
        Dcca::default().batch(config, dim)
    }

    fn loss(&self, y: [&Mat; 2], _own: &[Mat], _batch: &Batch) -> Result<Loss, FitError> {
        let (value, gradients) = self.explained(&y)?;
        let outputs = <[Mat; 2]>::try_from(gradients).expect("a gradient for each of two views");
        Ok(Loss { value, outputs, own: Vec::new() })
    }

    fn finish(&self, outputs: &dyn Fn() -> [Mat; 2]) -> Result<Option<[Affine; 2]>, FitError> {
        let y = outputs();
        let Shared { views, values, directions } = self.shared(&[&y[0], &y[1]])?;
        // Of an eigenvalue each view by itself makes 1, the rest is what they share.
        let factors: Vec<f64> = values.iter().map(|value| (value - 1.0).clamp(0.0, 1.0).powf(self.correlation_power)).collect();
        let map = |v: usize| {
            let mut map = product(views[v].root.as_ref(), directions[v].as_ref());
            linalg::scale_cols(&mut map, &factors);
            let told = |j: usize| -> f64 { views[v].mean.iter().enumerate().map(|(i, m)| m * map[(i, j)]).sum() };
            let shift = (0..map.ncols()).map(|j| -told(j)).collect();
            Affine { map, shift }
        };
        Ok(Some([map(0), map(1)]))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        vec![("ridge".to_owned(), self.ridge.to_string()), ("final_power".to_owned(), self.correlation_power.to_string())]
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        vec![
            [1e-2, 0.1, 1.0].map(|ridge| Dgcca { ridge, ..self.clone() }).to_vec(),
            [0.0, 2.0].map(|correlation_power| Dgcca { correlation_power, ..self.clone() }).to_vec(),
        ]
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        MethodConfig::Dgcca(config)
    }
}

#[cfg(test)]
mod tests {
    use super::super::goldens::{apart, list, matrix, number, read};
    use super::*;

    #[test]
    fn loss_and_gradients_of_three_views_are_torchs() {
        let golden = &read("deep_memory")["dgcca_3"];
        let y: Vec<Mat> = list(&golden["y"]).iter().map(matrix).collect();
        let (value, gradients) = Dgcca::default().explained(&y.iter().collect::<Vec<_>>()).unwrap();
        let off = (value - number(&golden["value"])).abs();
        let expected = list(&golden["d"]).iter().map(matrix);
        let off = gradients.iter().zip(expected).fold(off, |off, (d, expected)| off.max(apart(d, &expected)));
        assert!(gradients.len() == 3 && off < 1e-9, "off by {off:e}");
    }
}
