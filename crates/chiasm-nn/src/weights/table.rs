//! Tables of embeddings: large, of which few rows are ever read.

use super::tensor::Stored;

/// A matrix `[rows, dim]` that is read row by row. Where its file holds single precision it stays there, so that a vocabulary of hundreds of
/// megabytes costs neither time nor memory before its words are met.
pub struct Table {
    place: Place,
    dim: usize,
}

enum Place {
    Mapped(Stored),
    Held(Vec<f32>),
}

impl Table {
    pub(super) fn mapped(stored: Stored, dim: usize) -> Self {
        Self { place: Place::Mapped(stored), dim }
    }

    pub(super) fn held(values: Vec<f32>, dim: usize) -> Self {
        Self { place: Place::Held(values), dim }
    }

    /// Appends a row to `rows`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn push(&self, row: usize, rows: &mut Vec<f32>) {
        let values = match &self.place {
            Place::Mapped(stored) => stored.as_floats().unwrap_or_default(),
            Place::Held(values) => values,
        };
        rows.extend_from_slice(&values[row * self.dim..][..self.dim]);
    }

    /// The same with `plus`, `[dim]`, added: the place of a word, say.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn push_sum(&self, row: usize, plus: &[f32], rows: &mut Vec<f32>) {
        let from = rows.len();
        self.push(row, rows);
        rows[from..].iter_mut().zip(plus).for_each(|(v, plus)| *v += plus);
    }
}
