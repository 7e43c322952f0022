//! Rows of numbers, checked once where they come in.

use std::fmt;

/// How the closeness of two vectors is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Cosine of the angle, in -1..=1. Vectors are stored at unit length, so this is their inner product.
    Cosine,
    /// Inner product, unbounded.
    InnerProduct,
    /// Minus the squared Euclidean distance, at most 0: greater is closer, as for every [`crate::Score`].
    L2,
}

impl Metric {
    /// The word used in files and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "inner_product",
            Metric::L2 => "l2",
        }
    }

    /// The metric that [`Metric::as_str`] names, if any.
    pub fn parse(word: &str) -> Option<Self> {
        [Metric::Cosine, Metric::InnerProduct, Metric::L2].into_iter().find(|m| m.as_str() == word)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why numbers are no matrix.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// The count of numbers is no multiple of the row length.
    #[error("{len} numbers do not fill rows of {dim}")]
    Ragged {
        /// How many numbers came.
        len: usize,
        /// The row length asked for.
        dim: usize,
    },
    /// A row of no numbers.
    #[error("a vector needs at least one dimension, got 0")]
    ZeroDim,
    /// NaN or an infinity.
    #[error("row {row}, dimension {col} is {value}: every number must be finite")]
    NotFinite {
        /// Row of the first offender.
        row: usize,
        /// Column of the first offender.
        col: usize,
        /// What stands there.
        value: f32,
    },
}

/// Borrowed row-major numbers of shape `[n, dim]`. Not checked for NaN: whoever fits or projects does that.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    data: &'a [f32],
    dim: usize,
}

impl<'a> MatrixView<'a> {
    /// Views `data` as rows of `dim` numbers.
    ///
    /// # Errors
    /// [`ShapeError::ZeroDim`] and [`ShapeError::Ragged`].
    pub fn new(data: &'a [f32], dim: usize) -> Result<Self, ShapeError> {
        if dim == 0 {
            return Err(ShapeError::ZeroDim);
        }
        if !data.len().is_multiple_of(dim) {
            return Err(ShapeError::Ragged { len: data.len(), dim });
        }
        Ok(Self { data, dim })
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Numbers per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All rows in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'a, f32> {
        self.data.chunks_exact(self.dim)
    }

    /// All numbers, row-major.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Checks that every number is finite.
    ///
    /// # Errors
    /// [`ShapeError::NotFinite`] with the place of the first offender.
    pub fn check_finite(&self) -> Result<(), ShapeError> {
        match self.data.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(ShapeError::NotFinite { row: at / self.dim, col: at % self.dim, value: self.data[at] }),
        }
    }
}

/// Owned row-major vectors of shape `[n, dim]`, every number finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    data: Vec<f32>,
    dim: usize,
}

impl Vectors {
    /// Takes `data` as rows of `dim` finite numbers; `data` may be empty.
    ///
    /// # Errors
    /// Every variant of [`ShapeError`].
    pub fn new(data: Vec<f32>, dim: usize) -> Result<Self, ShapeError> {
        MatrixView::new(&data, dim)?.check_finite()?;
        Ok(Self { data, dim })
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Numbers per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All rows in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dim)
    }

    /// All numbers, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Gives the numbers away.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// A borrowed view.
    pub fn view(&self) -> MatrixView<'_> {
        MatrixView { data: &self.data, dim: self.dim }
    }

    /// Scales every row to unit Euclidean length; a row of zeros stays as it is.
    pub fn normalise(&mut self) {
        self.data.chunks_exact_mut(self.dim).for_each(to_unit_length);
    }
}

/// Scales a row to unit Euclidean length, in f64, so that no row of finite numbers overflows; one of zeros stays as it is.
pub fn to_unit_length(row: &mut [f32]) {
    let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_matrix() {
        assert_eq!(Vectors::new(vec![1.0; 3], 2), Err(ShapeError::Ragged { len: 3, dim: 2 }));
        assert_eq!(Vectors::new(vec![], 0), Err(ShapeError::ZeroDim));
        let error = Vectors::new(vec![0.0, 1.0, f32::INFINITY, 0.0], 2).unwrap_err();
        assert_eq!(error, ShapeError::NotFinite { row: 1, col: 0, value: f32::INFINITY });
        assert_eq!(Vectors::new(vec![], 4).unwrap().n(), 0);
    }

    #[test]
    fn normalises_without_overflow_and_leaves_zeros() {
        // A power of two times 3 and 4: exact in f32, and the squares are beyond it.
        let big = 2f32.powi(100);
        let mut v = Vectors::new(vec![3.0 * big, 4.0 * big, 0.0, 0.0], 2).unwrap();
        v.normalise();
        assert_eq!(v.data(), [0.6, 0.8, 0.0, 0.0]);
    }
}
