//! Kernels: inner products of rows in a space that is never written down.
//!
//! # Reference
//! Linear, Gaussian (RBF), and the exponential chi-squared kernel for histograms: J. Zhang, M. Marszalek, S. Lazebnik, C. Schmid,
//! Local Features and Kernels for Classification of Texture and Object Categories, IJCV 73, 2007.
//!
//! # Model
//! | kernel | k(x, a) | `gamma` when it is not given |
//! | --- | --- | --- |
//! | linear | x a | - |
//! | RBF | exp(-gamma \|x - a\|^2) | 1 / median squared distance |
//! | chi2 | exp(-gamma sum (x - a)^2 / (\|x\| + \|a\|)), 0/0 = 0 | 1 / median of the sum |

use chiasm_core::MatrixView;
use faer::MatRef;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::linalg::{Mat, product};

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// The inner product.
    Linear,
    /// The Gaussian of the Euclidean distance.
    Rbf,
    /// The exponential of the chi-squared distance: for histograms.
    Chi2,
}

impl Kernel {
    /// Its word in reports and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kernel::Linear => "linear",
            Kernel::Rbf => "rbf",
            Kernel::Chi2 => "chi2",
        }
    }

    /// `k(x, a)` of two rows of equal length.
    pub(crate) fn value(self, gamma: f64, x: &[f32], a: &[f32]) -> f64 {
        match self {
            Kernel::Linear => x.iter().zip(a).map(|(x, a)| f64::from(*x) * f64::from(*a)).sum(),
            Kernel::Rbf | Kernel::Chi2 => (-gamma * self.distance(x, a)).exp(),
        }
    }

    /// `k(x, a)` of all rows with all anchors, both row-major of `dim` numbers: `[n, anchors]`.
    pub(crate) fn matrix(self, gamma: f64, rows: &[f32], anchors: &[f32], dim: usize) -> Mat {
        if self == Kernel::Chi2 {
            let of_row = |row: &[f32]| -> Vec<f64> { anchors.chunks_exact(dim).map(|a| self.value(gamma, row, a)).collect() };
            let values: Vec<Vec<f64>> = rows.par_chunks(dim).map(of_row).collect();
            return Mat::from_fn(values.len(), anchors.len() / dim, |i, j| values[i][j]);
        }
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let (x, a) = (wide(rows), wide(anchors));
        let matrix = |data| MatRef::from_row_major_slice(data, data.len() / dim, dim);
        let mut out = product(matrix(&x), matrix(&a).transpose());
        if self == Kernel::Rbf {
            // |x - a|^2 = |x|^2 + |a|^2 - 2 x a, which rounding can take below 0 for rows that are the same.
            let squares = |x: &[f64]| x.chunks_exact(dim).map(|row| row.iter().map(|x| x * x).sum()).collect::<Vec<f64>>();
            let (x, a) = (squares(&x), squares(&a));
            out.par_col_iter_mut().zip(&a).for_each(|(col, a)| {
                col.iter_mut().zip(&x).for_each(|(k, x)| *k = (-gamma * (x + a - 2.0 * *k).max(0.0)).exp());
            });
        }
        out
    }

    /// The distance inside the exponential.
    fn distance(self, x: &[f32], a: &[f32]) -> f64 {
        let pairs = x.iter().zip(a).map(|(x, a)| (f64::from(*x), f64::from(*a)));
        match self {
            Kernel::Linear | Kernel::Rbf => pairs.map(|(x, a)| (x - a) * (x - a)).sum(),
            Kernel::Chi2 => pairs
                .map(|(x, a)| {
                    let sum = x.abs() + a.abs();
                    if sum > 0.0 { (x - a) * (x - a) / sum } else { 0.0 }
                })
                .sum(),
        }
    }

    /// One over the median distance between rows, over at most 1,000 of them drawn by `seed`; 1 where all rows are the same.
    pub(crate) fn gamma(self, rows: MatrixView<'_>, seed: u64) -> f64 {
        let mut drawn: Vec<usize> = (0..rows.n()).collect();
        drawn.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        drawn.truncate(1000);
        let mut distances = Vec::with_capacity(drawn.len() * drawn.len() / 2);
        for (place, i) in drawn.iter().enumerate() {
            distances.extend(drawn[..place].iter().map(|j| self.distance(rows.row(*i), rows.row(*j))));
        }
        distances.retain(|d| *d > 0.0);
        if distances.is_empty() {
            return 1.0;
        }
        let middle = distances.len() / 2;
        let (_, median, _) = distances.select_nth_unstable_by(middle, f64::total_cmp);
        1.0 / *median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_by_hand() {
        let (x, a) = ([1.0, 2.0, 0.0], [3.0, 0.0, 0.0]);
        assert_eq!(Kernel::Linear.value(0.0, &x, &a), 3.0);
        assert_eq!(Kernel::Rbf.value(0.25, &x, &a), (-2.0f64).exp());
        assert_eq!(Kernel::Chi2.value(1.0, &x, &a), (-3.0f64).exp());
        for kernel in [Kernel::Linear, Kernel::Rbf, Kernel::Chi2] {
            let all = kernel.matrix(0.25, &[x, a].concat(), &a, 3);
            assert!(
                (all[(0, 0)] - kernel.value(0.25, &x, &a)).abs() < 1e-15
                    && (all[(1, 0)] - kernel.value(0.25, &a, &a)).abs() < 1e-15
            );
        }
        let rows = [0.0, 1.0, 3.0];
        // Squared distances 1, 4, 9.
        assert_eq!(Kernel::Rbf.gamma(MatrixView::new(&rows, 1).unwrap(), 0), 0.25);
        assert_eq!(Kernel::Rbf.gamma(MatrixView::new(&[2.0, 2.0], 1).unwrap(), 0), 1.0);
    }
}
