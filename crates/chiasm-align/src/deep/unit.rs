//! What several losses are made of: rows of unit length, softmax, and the way back through them.

use crate::linalg::Mat;

/// Rows at unit length, and the lengths they had.
pub(crate) struct UnitRows {
    pub(crate) u: Mat,
    norms: Vec<f64>,
}

impl UnitRows {
    /// A row of zeros stays as it is.
    pub(crate) fn new(y: &Mat) -> UnitRows {
        let mut norms = vec![0.0; y.nrows()];
        for j in 0..y.ncols() {
            norms.iter_mut().zip(y.col(j).iter()).for_each(|(n, v)| *n += v * v);
        }
        norms.iter_mut().for_each(|n| *n = if *n > 0.0 { n.sqrt() } else { 1.0 });
        UnitRows { u: Mat::from_fn(y.nrows(), y.ncols(), |i, j| y[(i, j)] / norms[i]), norms }
    }

    /// Gradients of the rows before, from those of the unit rows: `(du - (du . u) u) / |y|`.
    pub(crate) fn backward(&self, du: &Mat) -> Mat {
        let mut along = vec![0.0; du.nrows()];
        for j in 0..du.ncols() {
            for i in 0..du.nrows() {
                along[i] += du[(i, j)] * self.u[(i, j)];
            }
        }
        Mat::from_fn(du.nrows(), du.ncols(), |i, j| (du[(i, j)] - along[i] * self.u[(i, j)]) / self.norms[i])
    }
}

/// `log softmax` along each row.
pub(crate) fn log_softmax(x: &Mat) -> Mat {
    let mut most = vec![f64::NEG_INFINITY; x.nrows()];
    for j in 0..x.ncols() {
        most.iter_mut().zip(x.col(j).iter()).for_each(|(m, v)| *m = m.max(*v));
    }
    let mut sums = vec![0.0; x.nrows()];
    for j in 0..x.ncols() {
        for (i, v) in x.col(j).iter().enumerate() {
            sums[i] += (v - most[i]).exp();
        }
    }
    let logs: Vec<f64> = most.iter().zip(&sums).map(|(m, s)| m + s.ln()).collect();
    Mat::from_fn(x.nrows(), x.ncols(), |i, j| x[(i, j)] - logs[i])
}

/// `ln(1 + e^x)` without overflow, and its slope `1 / (1 + e^-x)`.
pub(crate) fn softplus(x: f64) -> (f64, f64) {
    let small = (-x.abs()).exp();
    let slope = if x >= 0.0 { 1.0 } else { small } / (1.0 + small);
    (x.max(0.0) + small.ln_1p(), slope)
}

/// Adds `factor * other`.
pub(crate) fn add_scaled(out: &mut Mat, factor: f64, other: &Mat) {
    for j in 0..out.ncols() {
        out.col_mut(j).iter_mut().zip(other.col(j).iter()).for_each(|(o, v)| *o += factor * v);
    }
}
