//! The linear map under which plain distances say how differently vectors *score*.
//!
//! Two vectors may lie far apart in directions that no query asks about, and then all queries score them alike. For queries with the
//! second moment `M = E[q q']`, the expected squared difference of two scores is `E[(q'x - q'y)^2] = (x - y)' M (x - y)`. So with
//! `W = M^(1/2)` the distance between `W x` and `W y` *is* that difference, and principal axes of the vectors after `W` keep, for each number
//! of axes, the most of it. With the axes `U`:
//!
//! | | map | |
//! | --- | --- | --- |
//! | vectors | `A = U' W` | `y = A (x - mean)` |
//! | queries | `B = U' W^-1` | `p = B q` |
//!
//! and `p'y` approximates `q'x - q'mean`. Queries of another modality than the vectors' lie elsewhere in space and have another
//! second moment; a sample of them shapes `M` (this is the idea of LeanVec-OOD, Tepper et al. 2023, with the closed form of its first
//! step). Without a sample the vectors themselves stand for queries; with one, each counts half, so that both kinds are served.
//!
//! # Metrics
//! Scores are inner products. For [`Metric::L2`] a vector gets one more number, `-|x|^2 / 2`, and a query a 1 there: the inner product then ranks
//! as the distance does. For [`Metric::Cosine`] vectors come at unit length.

use chiasm_core::{MatrixView, Metric};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use crate::kernels::{Form, Kernel, LANES, PANEL_ROWS, Scorer, n_steps};

/// At most so many rows are looked at for a second moment.
const SAMPLE_ROWS: usize = 16_384;

/// Added to the queries' second moment, as a share of its mean eigenvalue: directions that the sample never took are not free.
const RIDGE: f64 = 1e-3;

/// Rows that one task of a sum takes; fixed, so that sums do not depend on the number of threads.
const SUM_ROWS: usize = 1024;

/// `y = A (x - mean)` for vectors, `p = B q` for queries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScoreMap<'a> {
    pub(crate) metric: Metric,
    /// Numbers of a vector.
    pub(crate) dim: usize,
    /// Numbers after the map.
    pub(crate) dims: usize,
    /// One number more than a vector has for L2.
    pub(crate) mean: &'a [f32],
    /// `A`, `dims` rows of `padded(width)` numbers.
    pub(crate) of_vectors: &'a [f32],
    /// `B`, likewise.
    pub(crate) of_queries: &'a [f32],
}

/// A map that was learnt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) dims: usize,
    pub(crate) mean: Vec<f32>,
    pub(crate) of_vectors: Vec<f32>,
    pub(crate) of_queries: Vec<f32>,
}

/// Numbers of a row with zeros to a whole step of the kernels.
pub(crate) fn padded(width: usize) -> usize {
    n_steps(width) * LANES
}

/// A vector as it enters the map.
pub(crate) fn augment_vector(metric: Metric, x: &[f32], out: &mut Vec<f32>) {
    out.clear();
    out.extend_from_slice(x);
    if metric == Metric::L2 {
        out.push((x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / -2.0).max(f64::from(f32::MIN)) as f32);
    }
}

/// A query as it enters the map.
pub(crate) fn augment_query(metric: Metric, q: &[f32], out: &mut Vec<f32>) {
    out.clear();
    out.extend_from_slice(q);
    if metric == Metric::L2 {
        out.push(1.0);
    }
}

/// Numbers per vector as it enters the map.
pub(crate) fn width(metric: Metric, dim: usize) -> usize {
    dim + usize::from(metric == Metric::L2)
}

impl Fitted {
    /// The map of vectors like those it was learnt from.
    pub(crate) fn map(&self, metric: Metric, dim: usize) -> ScoreMap<'_> {
        ScoreMap { metric, dim, dims: self.dims, mean: &self.mean, of_vectors: &self.of_vectors, of_queries: &self.of_queries }
    }

    /// Learns the map to at most `dims` numbers from the vectors and, if there are any, a sample of queries. Rows beyond
    /// a number that tells enough are left out evenly.
    pub(crate) fn fit(metric: Metric, vectors: MatrixView<'_>, sample: Option<MatrixView<'_>>, dims: usize) -> Self {
        let width = width(metric, vectors.dim());
        let as_vectors = columns(vectors, width, |x, out| augment_vector(metric, x, out));
        let mean = mean_of(&as_vectors);
        let mut moment = second_moment(&columns(vectors, width, |x, out| augment_query(metric, x, out)), &vec![0.0; width]);
        if let Some(sample) = sample.filter(|sample| sample.n() > 0) {
            let of_sample = second_moment(&columns(sample, width, |q, out| augment_query(metric, q, out)), &vec![0.0; width]);
            // Each by its own size, so that neither drowns the other where queries are not at unit length.
            let (own, other) = (trace(&moment).max(f64::MIN_POSITIVE), trace(&of_sample).max(f64::MIN_POSITIVE));
            moment = Mat::from_fn(width, width, |i, j| moment[(i, j)] / own + of_sample[(i, j)] / other);
        }
        let (values, axes) = eigen(moment.as_ref());
        let least = RIDGE * (values.iter().sum::<f64>() / width as f64).max(f64::MIN_POSITIVE);
        let roots: Vec<f64> = values.iter().map(|v| (v.max(0.0) + least).sqrt()).collect();
        let scaled = |power: i32| {
            let scaled = Mat::from_fn(width, width, |i, j| axes[(i, j)] * roots[j].powi(power));
            product(scaled.as_ref(), axes.transpose())
        };
        let (root, inverse) = (scaled(1), scaled(-1));
        let covariance = second_moment(&as_vectors, &mean);
        let seen = product(root.as_ref(), product(covariance.as_ref(), root.as_ref()).as_ref());
        let (_, principal) = eigen(seen.as_ref());
        let dims = dims.min(width);
        let kept = principal.subcols(0, dims);
        let rows = |matrix: Mat<f64>| {
            let mut rows = vec![0.0; dims * padded(width)];
            for j in 0..dims {
                (0..width).for_each(|i| rows[j * padded(width) + i] = matrix[(i, j)] as f32);
            }
            rows
        };
        let (of_vectors, of_queries) = (rows(product(root.as_ref(), kept)), rows(product(inverse.as_ref(), kept)));
        Self { dims, mean: mean.into_iter().map(|v| v as f32).collect(), of_vectors, of_queries }
    }
}

impl ScoreMap<'_> {
    /// Maps vectors; `out` takes `dims` numbers for each.
    pub(crate) fn map_vectors(&self, vectors: &[f32], out: &mut [f32]) {
        const ROWS: usize = 256;
        let (metric, dim) = (self.metric, self.dim);
        out.par_chunks_mut(ROWS * self.dims).zip(vectors.par_chunks(ROWS * dim)).for_each(|(out, vectors)| {
            let centred = |x: &[f32], row: &mut Vec<f32>| {
                augment_vector(metric, x, row);
                row.iter_mut().zip(self.mean).for_each(|(v, mean)| *v -= mean);
            };
            self.apply(self.of_vectors, vectors.chunks_exact(dim), centred, out);
        });
    }

    /// Maps queries; `out` takes `dims` numbers for each.
    pub(crate) fn map_queries(&self, queries: &[f32], out: &mut [f32]) {
        self.apply(self.of_queries, queries.chunks_exact(self.dim), |q, row| augment_query(self.metric, q, row), out);
    }

    /// `matrix` times each row. A sum does not depend on which side a panel is made of, so few rows take the way that pads none.
    fn apply<'a>(
        &self,
        matrix: &[f32],
        rows: impl ExactSizeIterator<Item = &'a [f32]>,
        prepare: impl Fn(&[f32], &mut Vec<f32>),
        out: &mut [f32],
    ) {
        let width = width(self.metric, self.dim);
        let (stride, kernel) = (padded(width), Kernel::best());
        let mut row = Vec::with_capacity(width);
        if rows.len() < PANEL_ROWS {
            let mut query = vec![0.0; stride];
            let mut scores = [[0.0f32; PANEL_ROWS]];
            for (x, out) in rows.zip(out.chunks_exact_mut(self.dims)) {
                prepare(x, &mut row);
                query[..width].copy_from_slice(&row);
                let mut scorer = Scorer::new(kernel, Form::Product, width, &query);
                for (panel, out) in matrix.chunks(PANEL_ROWS * stride).zip(out.chunks_mut(PANEL_ROWS)) {
                    let mut of_matrix = [&panel[..width]; PANEL_ROWS];
                    of_matrix.iter_mut().zip(panel.chunks_exact(stride)).for_each(|(to, row)| *to = &row[..width]);
                    scorer.score(&of_matrix[..out.len()], &mut scores);
                    out.copy_from_slice(&scores[0][..out.len()]);
                }
            }
            return;
        }
        let mut scorer = Scorer::new(kernel, Form::Product, width, matrix);
        let mut scores = vec![[0.0f32; PANEL_ROWS]; self.dims];
        let mut panel = vec![0.0; PANEL_ROWS * width];
        let mut rows = rows;
        for out in out.chunks_mut(PANEL_ROWS * self.dims) {
            let n = out.len() / self.dims;
            for (x, to) in rows.by_ref().take(n).zip(panel.chunks_exact_mut(width)) {
                prepare(x, &mut row);
                to.copy_from_slice(&row);
            }
            let of_panel: [&[f32]; PANEL_ROWS] = std::array::from_fn(|r| &panel[r * width..(r + 1) * width]);
            scorer.score(&of_panel[..n], &mut scores);
            for (r, out) in out.chunks_exact_mut(self.dims).enumerate() {
                out.iter_mut().zip(&scores).for_each(|(out, scores)| *out = scores[r]);
            }
        }
    }
}

/// Rows, evenly taken and prepared, as columns.
fn columns(vectors: MatrixView<'_>, width: usize, prepare: impl Fn(&[f32], &mut Vec<f32>)) -> Mat<f64> {
    let n = vectors.n().min(SAMPLE_ROWS);
    let mut columns = Mat::zeros(width, n);
    let mut row = Vec::new();
    for j in 0..n {
        prepare(vectors.row(j * vectors.n() / n), &mut row);
        row.iter().enumerate().for_each(|(i, v)| columns[(i, j)] = f64::from(*v));
    }
    columns
}

fn mean_of(columns: &Mat<f64>) -> Vec<f64> {
    let n = columns.ncols().max(1) as f64;
    (0..columns.nrows()).map(|i| (0..columns.ncols()).map(|j| columns[(i, j)]).sum::<f64>() / n).collect()
}

/// Mean of `(x - mean)(x - mean)'` over the columns.
fn second_moment(columns: &Mat<f64>, mean: &[f64]) -> Mat<f64> {
    let (width, n) = columns.shape();
    let parts: Vec<Mat<f64>> = (0..n.div_ceil(SUM_ROWS))
        .into_par_iter()
        .map(|part| {
            let first = part * SUM_ROWS;
            let centred = Mat::from_fn(width, SUM_ROWS.min(n - first), |i, j| columns[(i, first + j)] - mean[i]);
            product(centred.as_ref(), centred.transpose())
        })
        .collect();
    let mut sum = Mat::zeros(width, width);
    parts.iter().for_each(|part| sum += part);
    let scale = 1.0 / n.max(1) as f64;
    Mat::from_fn(width, width, |i, j| sum[(i, j)] * scale)
}

fn trace(matrix: &Mat<f64>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum()
}

/// One thread, so that the sums are the same on every machine with the same instructions.
fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// Eigenvalues of a symmetric matrix, greatest first, and its vectors as columns, the largest entry of each positive.
fn eigen(a: MatRef<'_, f64>) -> (Vec<f64>, Mat<f64>) {
    let n = a.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let mut memory = MemBuffer::new(self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(a, values.as_mut(), Some(vectors.as_mut()), Par::Seq, stack, Default::default())
        .expect("finite rows of bounded size have a decomposition");
    let values: Vec<f64> = values.column_vector().iter().rev().copied().collect();
    let sign = |j: usize| {
        let largest = (0..n).map(|i| vectors[(i, j)]).fold(0.0f64, |most, v| if v.abs() > most.abs() { v } else { most });
        if largest < 0.0 { -1.0 } else { 1.0 }
    };
    let signs: Vec<f64> = (0..n).map(sign).collect();
    let descending = Mat::from_fn(n, n, |i, j| vectors[(i, n - 1 - j)] * signs[n - 1 - j]);
    (values, descending)
}
