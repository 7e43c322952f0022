//! Online hashing: rows come in chunks, codes once given stay, and what carries queries to codes follows from sums.
//!
//! # Reference
//! As [`crate::hadamard`], after M. Lin, R. Ji, H. Liu, Y. Wu, Supervised Online Hashing via Hadamard Codebook Learning, ACM MM 2018; the
//! sums are those of recursive least squares. Differs from the paper in solving for the projection exactly from sums instead of by gradient
//! steps, so that chunks of any size give what all rows at once give.
//!
//! # Model
//! Class k has codeword c_k, fixed from the beginning; a row's code is b = sign(sum of its classes' codewords) and never changes. Of each
//! chunk X_v'X_v and X_v'B enter the sums of [`crate::moments`]; W_v = (X_v'X_v + r_v I)^-1 X_v'B, centred.
//!
//! # Cost
//! O(chunk (d^2 + d bits)) time for a chunk, O(d^3) for a space; O(d (d + bits)) memory.
//!
//! # Determinism
//! The codebook is drawn by the seed; see [`crate::hadamard`].
//!
//! # Errors
//! Those of [`crate::Moments::add`]; [`FitError::NoLabels`] for rows of no class.
//!
//! # Example
//! ```
//! use chiasm_align::{HadamardConfig, OnlineHashing, Pairs, Run};
//! use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let mut online = OnlineHashing::new(HadamardConfig::default(), [1, 1], 2, run.seed)?;
//! for (x, y) in [([0.0, 1.0], [7.0, 5.0]), ([0.1, 1.1], [7.1, 5.1])] {
//!     let labels = Labels::single(&[0, 1]);
//!     let codes = online.add(&Pairs::with_labels(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?], &labels))?;
//!     assert_ne!(codes.row(0), codes.row(1));
//! }
//! let space = online.space(&run)?;
//! let (a, b) = (space.project(0, MatrixView::new(&[0.9], 1)?)?, space.project(1, MatrixView::new(&[5.2], 1)?)?);
//! assert_eq!(a, b);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::{MatrixView, Vectors};

use crate::basis::Basis;
use crate::fit::{FitError, Pairs, Run};
use crate::hadamard::{HadamardConfig, codebook, codes};
use crate::linalg::{self, Mat};
use crate::moments::Moments;
use crate::pipeline::{About, PipelineSpace};
use crate::preprocess::Preprocess;
use crate::reduced::{self, Linear, Solution};

/// What is known of the rows so far.
#[derive(Clone, Debug)]
pub struct OnlineHashing {
    config: HadamardConfig,
    codebook: Mat,
    /// Both views, and the codes as a third.
    sums: Moments,
}

impl OnlineHashing {
    /// Nothing yet, for rows of so many columns and for at most so many classes.
    ///
    /// # Errors
    /// [`FitError::Config`]; [`FitError::NeedsRows`] for a preprocessing or a kernel that learns from all rows.
    pub fn new(config: HadamardConfig, dims: [usize; 2], n_classes: usize, seed: u64) -> Result<Self, FitError> {
        let views = config.views(2)?;
        if views.iter().any(|view| view.kernel.is_some()) {
            return Err(FitError::NeedsRows { what: "a kernel" });
        }
        let entries = [(dims[0], views[0].preprocess), (dims[1], views[1].preprocess), (config.bits, Preprocess::None)];
        let sums = Moments::new(&entries, None)?;
        Ok(Self { codebook: codebook(n_classes, config.bits, seed), config, sums })
    }

    /// Takes rows in, and gives their codes, `[n, bits]` of +1 and -1, which stay.
    ///
    /// # Errors
    /// See the [module](self). On an error nothing was taken in.
    pub fn add(&mut self, pairs: &Pairs<'_>) -> Result<Vectors, FitError> {
        let method = self.config.name();
        if pairs.views.len() != 2 {
            return Err(FitError::Views { method, got: pairs.views.len(), least: 2, most: 2 });
        }
        let labels = pairs.labels.ok_or(FitError::NoLabels { method, got: "a chunk came without labels" })?;
        if labels.n() != pairs.n() {
            return Err(FitError::Labels { got: labels.n(), expected: pairs.n() });
        }
        if labels.n_classes() > self.codebook.nrows() {
            return Err(FitError::NoLabels { method, got: "a chunk has more classes than were announced" });
        }
        if (0..labels.n()).any(|row| labels.of(row).is_empty()) {
            return Err(FitError::NoLabels { method, got: "a row of a chunk has no class" });
        }
        // Classes that a chunk does not know have no rows in it.
        let known = self.codebook.subrows(0, labels.n_classes()).to_owned();
        let codes = reduced::row_major(&codes(labels, &known));
        let codes = Vectors::new(codes, self.config.bits).map_err(|_| FitError::Numeric { what: "giving codes" })?;
        let views: Vec<MatrixView<'_>> = pairs.views.iter().copied().chain([codes.view()]).collect();
        self.sums.add(&Pairs::new(views))?;
        Ok(codes)
    }

    /// Rows taken in.
    pub fn n(&self) -> usize {
        self.sums.n()
    }

    /// The space for queries, from all rows so far.
    ///
    /// # Errors
    /// [`FitError::TooFewRows`], [`FitError::Constant`], [`FitError::Numeric`].
    pub fn space(&self, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        if self.n() < 2 {
            return Err(FitError::TooFewRows { got: self.n(), least: 2, what: "to fit".to_owned() });
        }
        let (mut bases, mut weights) = (Vec::new(), Vec::new());
        for (v, config) in self.config.views.iter().enumerate() {
            run.cancel.check()?;
            let (basis, _) = Basis::of_moments(&self.sums, v, config, false)?;
            let (m, ridge) = basis.ridge(config);
            let mut w = linalg::product(basis.axes.subcols(0, m).transpose(), self.sums.cross(v, 2).as_ref());
            linalg::scale_rows(&mut w, &basis.variances[..m].iter().map(|s| 1.0 / (s + ridge)).collect::<Vec<_>>());
            weights.push(w);
            bases.push(std::sync::Arc::new(basis));
        }
        let solution = Solution::bits(weights, vec![self.sums.views[2].mean.clone(); 2], None);
        let about = About { n_pairs: self.n(), parameters: self.config.parameters(), ..About::default() };
        reduced::space(&self.config, &bases, &solution, about)
    }
}

#[cfg(test)]
mod tests {
    use chiasm_core::{Cancel, Labels, NoProgress};

    use super::*;

    fn pairs<'a>(views: [(&'a [f32], usize); 2], rows: std::ops::Range<usize>, labels: &'a Labels) -> Pairs<'a> {
        let some = |(data, d): (&'a [f32], usize)| MatrixView::new(&data[rows.start * d..rows.end * d], d).unwrap();
        Pairs::with_labels(views.map(some).to_vec(), labels)
    }

    /// Chunks of any size give the weights of the batch method, and the codes of the batch.
    #[test]
    fn chunks_are_the_batch() {
        let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5;
        let classes: Vec<u32> = (0..120).map(|i| ((i * 7 + i / 5) % 4) as u32).collect();
        let view = |d: usize, salt: usize| -> Vec<f32> {
            (0..120 * d).map(|i| number(i + salt) + classes[i / d] as f32 * number(i % d + 3 * salt)).collect()
        };
        let (x, y) = (view(5, 11), view(4, 29));
        let labels = Labels::single(&classes);
        let config = HadamardConfig { bits: 16, ..HadamardConfig::default() };
        let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        let all = [(&x[..], 5), (&y[..], 4)];
        let batch = reduced::fit(&config, &pairs(all, 0..120, &labels), &run).unwrap();
        let mut online = OnlineHashing::new(config, [5, 4], 4, run.seed).unwrap();
        let mut given = Vec::new();
        for rows in [0..1, 1..40, 40..119, 119..120] {
            let some = labels.pick(&rows.clone().collect::<Vec<_>>());
            given.extend_from_slice(online.add(&pairs(all, rows, &some)).unwrap().data());
        }
        assert!(given == batch.codes.unwrap().data(), "codes are the classes' codewords");
        let space = online.space(&run).unwrap();
        for (ours, theirs) in space.views().iter().zip(batch.space.views()) {
            for (a, b) in ours.steps.iter().zip(&theirs.steps) {
                if let (crate::Step::Linear { weights: a, bias: c, .. }, crate::Step::Linear { weights: b, bias: d, .. }) =
                    (a, b)
                {
                    // f32, in which spaces are kept; the sums themselves agree to 1e-11, as `moments` tests.
                    assert!(a.iter().chain(c).zip(b.iter().chain(d)).all(|(a, b)| (a - b).abs() < 1e-6));
                }
            }
        }
        // What does not fit is refused, and adds nothing.
        let none = Labels::from_rows(&vec![Vec::new(); 120], 4).unwrap();
        assert!(matches!(online.add(&pairs(all, 0..120, &none)), Err(FitError::NoLabels { .. })));
        let more = Labels::single(&[9; 120]);
        assert!(matches!(online.add(&pairs(all, 0..120, &more)), Err(FitError::NoLabels { .. })));
        assert_eq!(online.n(), 120);
    }
}
