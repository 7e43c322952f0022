//! Sums over paired rows that come in chunks: all that a linear method needs, in memory that does not grow with the rows.
//!
//! # Reference
//! T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, COMPSTAT 1982.
//!
//! # Model
//! With n rows of mean m and scatter S = sum (x - m)(y - m)' known, and a chunk of b rows of mean m_b and scatter S_b:
//! d = m_b - m, S' = S + S_b + n b / (n + b) d d', m' = m + b / (n + b) d. That is exact: whatever the chunks, a fit from the sums is
//! the fit from all rows, up to the rounding of f64.
//!
//! # Cost
//! O(n D^2) time for D columns in all, O(D^2 + chunk D) memory.
//!
//! # Example
//! Canonical correlation analysis of rows that come two at a time:
//! ```
//! use chiasm_align::{MethodConfig, Pairs, Run};
//! use chiasm_core::{Cancel, MatrixView, NoProgress};
//! let method = MethodConfig::from_name("cca")?;
//! let mut moments = method.moments(&[1, 1], None)?;
//! for (x, y) in [([1.0, 2.0], [-1.0, -2.0]), ([3.0, 5.0], [-3.0, -5.0])] {
//!     moments.add(&Pairs::new(vec![MatrixView::new(&x, 1)?, MatrixView::new(&y, 1)?]))?;
//! }
//! let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! assert_eq!(method.fit_moments(&moments, &run)?.about().correlations, [1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::{Labels, MatrixView};
use faer::MatRef;
use rayon::prelude::*;

use crate::basis::columns_of;
use crate::fit::{FitError, Pairs};
use crate::linalg::{self, Mat};
use crate::pipeline::{Step, apply_rows};
use crate::preprocess::Preprocess;

/// Rows that enter the sums at once.
const BLOCK_ROWS: usize = 2048;
/// Rows whose sum one task takes, so that sums do not depend on the number of threads.
const SUM_ROWS: usize = 256;

/// Means and scatters of paired rows, and what they sum to by class.
#[derive(Clone, Debug)]
pub struct Moments {
    pub(crate) views: Vec<ViewMoments>,
    /// `scatter[v][w]`, `w <= v`: sum over rows of `(x_v - mean_v)(x_w - mean_w)'`, `[d_v, d_w]`; of `w = v` the lower half.
    pub(crate) scatter: Vec<Vec<Mat>>,
    n: usize,
    pub(crate) classes: Option<ClassSums>,
}

/// One view of them.
#[derive(Clone, Debug)]
pub(crate) struct ViewMoments {
    pub(crate) input_dim: usize,
    pub(crate) preprocess: Preprocess,
    /// What is done to each row first; last comes the kernel, if any.
    pub(crate) steps: Vec<Step>,
    /// What carries similarities to anchors on to where rows are summed.
    pub(crate) lift: Option<Lift>,
    /// Mean of the rows that are summed, `[d]`.
    pub(crate) mean: Vec<f64>,
}

/// What carries similarities to anchors to rows whose inner product is the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Lift {
    /// `[anchors, d]`.
    pub(crate) matrix: Mat,
    /// Sum of the similarities of all rows, `[anchors]`.
    pub(crate) sum: Vec<f64>,
}

/// How one view enters.
pub(crate) struct Entry {
    pub(crate) input_dim: usize,
    pub(crate) preprocess: Preprocess,
    pub(crate) steps: Vec<Step>,
    /// For a kernel, which is the last step, what follows it.
    pub(crate) lift: Option<Mat>,
}

/// Sums by class. A row of several classes counts in each.
#[derive(Clone, Debug)]
pub(crate) struct ClassSums {
    /// Rows of each class, `[c]`.
    pub(crate) counts: Vec<f64>,
    /// The same with each row's classes scaled to a vector of unit length.
    pub(crate) unit_counts: Vec<f64>,
    /// Rows that are of two classes at once, `[c, c]`; on the diagonal the counts.
    pub(crate) together: Mat,
    /// Rows that have a class.
    pub(crate) n_labelled: usize,
    /// For each view, sums of the rows of each class, `[c, d_v]`.
    pub(crate) sums: Vec<Mat>,
    /// With each row's classes scaled to a vector of unit length.
    pub(crate) unit_sums: Vec<Mat>,
    /// For each view the sum of the rows that have a class, `[d_v]`.
    pub(crate) labelled_sums: Vec<Vec<f64>>,
}

impl Moments {
    /// Nothing yet, of views `(columns, preprocessing)`; with classes, so many of them.
    ///
    /// # Errors
    /// [`FitError::NeedsRows`] for a preprocessing that learns from all rows.
    pub(crate) fn new(views: &[(usize, Preprocess)], n_classes: Option<usize>) -> Result<Self, FitError> {
        let steps = |preprocess: &Preprocess| match preprocess {
            Preprocess::LogIdf => Err(FitError::NeedsRows { what: "log-idf (it weighs columns by how many rows have them)" }),
            Preprocess::None | Preprocess::Unit | Preprocess::Power(_) => {
                preprocess.steps(MatrixView::new(&[], 1).expect("no rows of one column"), &[])
            }
        };
        let entry = |(input_dim, preprocess): &(usize, Preprocess)| {
            Ok(Entry { input_dim: *input_dim, preprocess: *preprocess, steps: steps(preprocess)?, lift: None })
        };
        Ok(Self::with_entries(views.iter().map(entry).collect::<Result<_, FitError>>()?, n_classes))
    }

    /// The same with steps that were learned before.
    pub(crate) fn with_entries(entries: Vec<Entry>, n_classes: Option<usize>) -> Self {
        let dims: Vec<usize> = entries.iter().map(|e| e.lift.as_ref().map_or(e.input_dim, Mat::ncols)).collect();
        let classes = n_classes.map(|c| ClassSums {
            counts: vec![0.0; c],
            unit_counts: vec![0.0; c],
            together: Mat::zeros(c, c),
            n_labelled: 0,
            sums: dims.iter().map(|d| Mat::zeros(c, *d)).collect(),
            unit_sums: dims.iter().map(|d| Mat::zeros(c, *d)).collect(),
            labelled_sums: dims.iter().map(|d| vec![0.0; *d]).collect(),
        });
        let view = |(entry, d): (Entry, &usize)| ViewMoments {
            input_dim: entry.input_dim,
            preprocess: entry.preprocess,
            steps: entry.steps,
            lift: entry.lift.map(|matrix| Lift { sum: vec![0.0; matrix.nrows()], matrix }),
            mean: vec![0.0; *d],
        };
        Self {
            scatter: (0..dims.len()).map(|v| (0..=v).map(|w| Mat::zeros(dims[v], dims[w])).collect()).collect(),
            views: entries.into_iter().zip(&dims).map(view).collect(),
            n: 0,
            classes,
        }
    }

    /// Rows that entered.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Adds rows. On an error nothing was added.
    ///
    /// # Errors
    /// [`FitError::Views`], [`FitError::Rows`], [`FitError::Columns`], [`FitError::Input`]; [`FitError::NoLabels`] and
    /// [`FitError::Labels`] where classes are counted.
    pub fn add(&mut self, pairs: &Pairs<'_>) -> Result<(), FitError> {
        let (method, n_views) = ("the fit", self.views.len());
        if pairs.views.len() != n_views {
            return Err(FitError::Views { method, got: pairs.views.len(), least: n_views, most: n_views });
        }
        let n = pairs.n();
        for (view, (x, known)) in pairs.views.iter().zip(&self.views).enumerate() {
            if x.dim() != known.input_dim {
                return Err(FitError::Columns { view, got: x.dim(), expected: known.input_dim });
            }
            if x.n() != n {
                return Err(FitError::Rows { view, got: x.n(), expected: n });
            }
            x.check_finite().map_err(|cause| FitError::Input { view, cause })?;
        }
        if let Some(classes) = &self.classes {
            let labels = pairs.labels.ok_or(FitError::NoLabels { method, got: "a chunk came without labels" })?;
            if labels.n() != n {
                return Err(FitError::Labels { got: labels.n(), expected: n });
            }
            if labels.n_classes() > classes.counts.len() {
                return Err(FitError::NoLabels { method, got: "a chunk has more classes than were announced" });
            }
        }
        for first in (0..n).step_by(BLOCK_ROWS) {
            self.add_block(pairs, first, BLOCK_ROWS.min(n - first));
        }
        Ok(())
    }

    fn add_block(&mut self, pairs: &Pairs<'_>, first: usize, rows: usize) {
        let (n, b) = (self.n as f64, rows as f64);
        let shift = (n * b / (n + b)).sqrt();
        let blocks: Vec<Block> = self
            .views
            .par_iter_mut()
            .zip(&pairs.views)
            .map(|(view, x)| Block::new(view.enter(&x.data()[first * x.dim()..(first + rows) * x.dim()]), &view.mean, shift))
            .collect();
        if let (Some(classes), Some(labels)) = (&mut self.classes, pairs.labels) {
            classes.add(&blocks, labels, first, rows);
        }
        let targets: Vec<(usize, usize, &mut Mat)> = self
            .scatter
            .iter_mut()
            .enumerate()
            .flat_map(|(v, of)| of.iter_mut().enumerate().map(move |(w, scatter)| (v, w, scatter)))
            .collect();
        targets.into_par_iter().for_each(|(v, w, scatter)| {
            if v == w {
                linalg::add_gram(scatter, blocks[v].matrix());
            } else {
                linalg::add_product(scatter, blocks[v].matrix().transpose(), blocks[w].matrix());
            }
        });
        for (view, block) in self.views.iter_mut().zip(&blocks) {
            view.mean.iter_mut().zip(&block.mean).for_each(|(m, new)| *m += (new - *m) * b / (n + b));
        }
        self.n += rows;
    }

    /// Covariance of view `v` with view `w > v`, `[d_v, d_w]`, divisor `n - 1`.
    pub(crate) fn cross(&self, v: usize, w: usize) -> Mat {
        let scale = 1.0 / (self.n as f64 - 1.0);
        let scatter = &self.scatter[w][v];
        Mat::from_fn(scatter.ncols(), scatter.nrows(), |i, j| scale * scatter[(j, i)])
    }
}

impl ViewMoments {
    /// Rows as they are summed, row-major, with room for one row more.
    fn enter(&mut self, rows: &[f32]) -> Vec<f64> {
        let (n, d) = (rows.len() / self.input_dim, self.mean.len());
        let mut out = vec![0.0; (n + 1) * d];
        let Some(lift) = &mut self.lift else {
            let prepared =
                if self.steps.is_empty() { None } else { Some(apply_rows(&self.steps, rows.to_vec(), self.input_dim)) };
            let rows = prepared.as_deref().unwrap_or(rows);
            let chunks = out.par_chunks_mut(SUM_ROWS * d).zip(rows.par_chunks(SUM_ROWS * d));
            chunks.for_each(|(out, rows)| out.iter_mut().zip(rows).for_each(|(out, x)| *out = f64::from(*x)));
            return out;
        };
        let similar = columns_of(&self.steps, rows, self.input_dim);
        lift.sum.iter_mut().enumerate().for_each(|(j, sum)| *sum += similar.col(j).iter().sum::<f64>());
        let lifted = linalg::product(similar.as_ref(), lift.matrix.as_ref());
        out.par_chunks_mut(d).take(n).enumerate().for_each(|(i, out)| {
            out.iter_mut().enumerate().for_each(|(j, out)| *out = lifted[(i, j)]);
        });
        out
    }
}

/// Rows less their own mean, and one row more that carries how far that mean lies from the mean of all rows before.
struct Block {
    /// Row-major, `[b + 1, d]`.
    data: Vec<f64>,
    d: usize,
    mean: Vec<f64>,
}

impl Block {
    /// `data` holds the rows and room for one more.
    fn new(mut data: Vec<f64>, before: &[f64], shift: f64) -> Self {
        let d = before.len();
        let b = data.len() / d - 1;
        let (rows, last) = data.split_at_mut(b * d);
        let partial: Vec<Vec<f64>> = rows
            .par_chunks(SUM_ROWS * d)
            .map(|rows| {
                let mut sum = vec![0.0; d];
                rows.chunks_exact(d).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += x));
                sum
            })
            .collect();
        let mut mean = vec![0.0; d];
        partial.iter().for_each(|sum| mean.iter_mut().zip(sum).for_each(|(m, s)| *m += s / b as f64));
        rows.par_chunks_mut(d).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
        last.iter_mut().zip(&mean).zip(before).for_each(|((out, new), old)| *out = shift * (new - old));
        Self { data, d, mean }
    }

    fn matrix(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.data, self.data.len() / self.d, self.d)
    }
}

impl ClassSums {
    fn add(&mut self, blocks: &[Block], labels: &Labels, first: usize, rows: usize) {
        for row in first..first + rows {
            let of = labels.of(row);
            let unit = 1.0 / (of.len().max(1) as f64).sqrt();
            self.n_labelled += usize::from(!of.is_empty());
            for a in of {
                self.counts[*a as usize] += 1.0;
                self.unit_counts[*a as usize] += unit;
                of.iter().for_each(|b| self.together[(*a as usize, *b as usize)] += 1.0);
            }
        }
        let views = self.sums.par_iter_mut().zip(&mut self.unit_sums).zip(&mut self.labelled_sums).zip(blocks);
        views.for_each(|(((sums, unit_sums), labelled), block)| {
            for (at, row) in block.data.chunks_exact(block.d).take(rows).enumerate() {
                let of = labels.of(first + at);
                let unit = 1.0 / (of.len().max(1) as f64).sqrt();
                for (j, (x, mean)) in row.iter().zip(&block.mean).enumerate() {
                    let x = x + mean;
                    labelled[j] += if of.is_empty() { 0.0 } else { x };
                    for class in of {
                        sums[(*class as usize, j)] += x;
                        unit_sums[(*class as usize, j)] += unit * x;
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums in chunks equal those of all rows at once, although the rows lie far from 0.
    #[test]
    fn chunks_sum_to_the_whole() {
        let number = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0;
        let x: Vec<f32> = (0..5000 * 3).map(|i| 1000.0 + number(i)).collect();
        let y: Vec<f32> = (0..5000 * 2).map(|i| number(i * 3 + 1) - 50.0 + x[i / 2 * 3]).collect();
        let labels = Labels::single(&(0..5000).map(|i| i % 7).collect::<Vec<u32>>());
        let sums = |ends: &[usize]| {
            let mut moments = Moments::new(&[(3, Preprocess::None), (2, Preprocess::None)], Some(7)).unwrap();
            for rows in ends.windows(2).map(|w| w[0]..w[1]) {
                let some = labels.pick(&rows.clone().collect::<Vec<_>>());
                let views =
                    [(&x, 3), (&y, 2)].map(|(data, d)| MatrixView::new(&data[rows.start * d..rows.end * d], d).unwrap());
                moments.add(&Pairs::with_labels(views.to_vec(), &some)).unwrap();
            }
            moments
        };
        let (whole, parts) = (sums(&[0, 5000]), sums(&[0, 1, 2, 700, 4999, 5000]));
        let mean: f64 = x.iter().step_by(3).map(|x| f64::from(*x)).sum::<f64>() / 5000.0;
        assert!((whole.views[0].mean[0] - mean).abs() < 1e-10);
        let plain: f64 = (0..5000).map(|i| (f64::from(x[i * 3]) - mean).powi(2)).sum();
        assert!((whole.scatter[0][0][(0, 0)] / plain - 1.0).abs() < 1e-12);
        for (v, w) in [(0, 0), (1, 0), (1, 1)] {
            let (a, b) = (&whole.scatter[v][w], &parts.scatter[v][w]);
            for (i, j) in (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| (i, j))).filter(|(i, j)| v != w || i >= j) {
                // 1e-8 was asked for.
                assert!((a[(i, j)] - b[(i, j)]).abs() < 1e-11 * whole.scatter[0][0][(0, 0)].max(a[(i, j)].abs()));
            }
        }
        let (a, b) = (whole.classes.unwrap(), parts.classes.unwrap());
        assert_eq!((a.counts, a.n_labelled, a.together), (b.counts, b.n_labelled, b.together));
        assert!((&a.sums[0] - &b.sums[0]).norm_max() < 1e-6);
    }
}
