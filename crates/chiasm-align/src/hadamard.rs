//! Hashing to a Hadamard codebook: every class has a fixed codeword, all of them equally far apart, and each view learns to reach it.
//!
//! # Reference
//! After M. Lin, R. Ji, H. Liu, Y. Wu, Supervised Online Hashing via Hadamard Codebook Learning, ACM MM 2018. Differs from it in: two
//! views reach for one codeword; where there are fewer bits than codewords, columns of the Hadamard matrix are drawn, not projected at random;
//! the regression is solved exactly, in batch here and from sums in [`crate::online`], not by gradient steps; a row of several classes
//! takes the sign of the sum of their codewords, ties giving 1. No reference implementation in Python is at hand; what must hold is tested.
//!
//! # Model
//! H Hadamard (Sylvester) of order h, the least power of two that is at least r and c; codeword of class k: row k of H, at r columns.
//! b_i = sign(sum of the codewords of row i's classes); W_v = (X_v'X_v + r_v I)^-1 X_v'B, centred; x goes to sign(x W_v + mean).
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | X_v | `pairs.views` after [`crate::Preprocess`] and centring, rows with a class | `[n, d]` | - |
//! | B | codes of the rows | `[n, r]` | -1, 1 |
//! | r | [`HadamardConfig::bits`](field@HadamardConfig::bits) | - | 1..=4096 |
//! | r_v | [`crate::ViewConfig::ridge`] `* trace(X'X) / d` | - | at least 0 |
//!
//! The codes of the pairs ([`crate::Fitted::codes`]) are the codewords of their classes; rows without a class take the code that both views
//! together give them. The codebook hangs on the seed, the bits and the number of classes alone, so codes of old rows stay right when
//! new rows come.
//!
//! # Cost
//! O(n d^2 + d^3 + n d r) time, O(d^2 + n m) memory.
//!
//! # Determinism
//! Which rows and columns of H are taken is drawn by the seed.
//!
//! # Errors
//! Those of [`crate::CcaConfig`]; [`FitError::NoLabels`].
//!
//! # Example
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let (x, y) = ([0.0, 0.1, 1.0, 1.1], [7.0, 7.1, 5.0, 5.1]);
//! let labels = Labels::single(&[0, 0, 1, 1]);
//! let pairs = Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels);
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let space = MethodConfig::from_name("hadamard")?.fit(&pairs, &run)?;
//! let (a, b) = (space.project(0, MatrixView::new(&[0.9], 1)?)?, space.project(1, MatrixView::new(&[5.2], 1)?)?);
//! assert_eq!(a, b);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::Labels;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use crate::fit::{FitError, Run};
use crate::hashing::{self, sign};
use crate::linalg::{Mat, product};
use crate::method::MethodConfig;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};
use crate::supervised::regress;

/// How hashing to a Hadamard codebook is done.
#[derive(Clone, Debug, PartialEq)]
pub struct HadamardConfig {
    /// Preprocessing, principal components and ridge of each view.
    pub views: [ViewConfig; 2],
    /// Bits of a code.
    pub bits: usize,
}

impl Default for HadamardConfig {
    /// Rows as they come, a ridge of a hundredth of the mean variance.
    fn default() -> Self {
        Self { views: [ViewConfig { ridge: 1e-2, ..ViewConfig::default() }; 2], bits: 64 }
    }
}

impl Linear for HadamardConfig {
    fn name(&self) -> &'static str {
        "hadamard"
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        hashing::check(&self.views, self.bits)?;
        Ok(self.views.to_vec())
    }

    fn max_components(&self) -> usize {
        self.bits
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        let labels = reduced.labels();
        let mut codes = codes(labels, &codebook(labels.n_classes(), self.bits, run.seed));
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for (v, config) in views.iter().enumerate() {
            run.cancel.check()?;
            let (_, ridge) = reduced.scatter(v, config);
            let (w, b) = regress(reduced.rows(v, config), &codes, labels, ridge)?;
            weights.push(w);
            offsets.push(b);
        }
        hashing::fill_unlabelled(&mut codes, labels, |row, k| {
            let score = |v: usize| offsets[v][k] + (reduced.rows(v, &views[v]).row(row) * weights[v].col(k));
            score(0) + score(1)
        });
        Ok(Solution::bits(weights, offsets, Some(codes)))
    }

    fn parameters(&self) -> Vec<(String, String)> {
        hashing::parameters(&self.views, self.bits)
    }

    fn neighbours(&self, entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        reduced::listed(reduced::view_neighbours(self, entries, |c| &mut c.views), MethodConfig::Hadamard)
    }
}

/// Codewords of the classes, `[c, r]` of +1 and -1: rows and columns of the least Hadamard matrix that has as many, drawn by the seed.
/// With as many bits as its order every two codewords differ in half of their bits.
pub(crate) fn codebook(n_classes: usize, bits: usize, seed: u64) -> Mat {
    let order = n_classes.max(bits).next_power_of_two();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = sample(&mut rng, order, n_classes).into_vec();
    // Column 0 is the same for all classes and is left out where there are others.
    let columns: Vec<usize> = match order == bits {
        true => (0..bits).collect(),
        false => sample(&mut rng, order - 1, bits).into_iter().map(|c| c + 1).collect(),
    };
    Mat::from_fn(n_classes, bits, |i, j| if (rows[i] & columns[j]).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 })
}

/// The code of each row, `[n, r]`; 0 for rows of no class.
pub(crate) fn codes(labels: &Labels, codebook: &Mat) -> Mat {
    let sums = product(crate::supervised::indicator(labels, false).as_ref(), codebook.as_ref());
    let known = |i: usize| !labels.of(i).is_empty();
    Mat::from_fn(sums.nrows(), sums.ncols(), |i, j| if known(i) { sign(sums[(i, j)]) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differing(book: &Mat, a: usize, b: usize) -> usize {
        (0..book.ncols()).filter(|j| book[(a, *j)] != book[(b, *j)]).count()
    }

    #[test]
    fn codewords_are_equally_far_apart() {
        for (classes, bits) in [(10, 16), (10, 32), (64, 64), (2, 128)] {
            let book = codebook(classes, bits, 7);
            for a in 0..classes {
                for b in 0..a {
                    assert_eq!(differing(&book, a, b), bits / 2, "{classes} classes, {bits} bits");
                }
            }
        }
        // Odd numbers: still all different.
        for (classes, bits) in [(10, 24), (24, 100), (80, 48)] {
            let book = codebook(classes, bits, 7);
            assert!((0..classes).all(|a| (0..a).all(|b| differing(&book, a, b) >= bits / 4)), "{classes} classes, {bits} bits");
        }
        assert_eq!(codebook(10, 16, 7), codebook(10, 16, 7));
        assert_ne!(codebook(10, 16, 7), codebook(10, 16, 8));
    }

    #[test]
    fn several_classes_vote() {
        let book = Mat::from_fn(3, 2, |i, j| [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]][i][j]);
        let labels = Labels::from_rows(&[vec![0], vec![0, 1], vec![0, 1, 2], vec![]], 3).unwrap();
        let codes = codes(&labels, &book);
        let rows: Vec<[f64; 2]> = (0..4).map(|i| [codes[(i, 0)], codes[(i, 1)]]).collect();
        assert_eq!(rows, [[1.0, 1.0], [1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]]);
    }
}
