//! Crowding: some vectors are near to everything. Asked from another kind of media, such *hubs* push the right answers down; so a
//! ranking takes from each closeness half of how near its item is to queries in general.
//!
//! # Reference
//! Conneau, Lample, Ranzato, Denoyer, Jégou, "Word Translation Without Parallel Data", ICLR 2018: cross-domain similarity local
//! scaling, `CSLS(q, x) = 2 cos(q, x) - r(q) - r(x)`, `r` being the mean cosine to the 10 nearest vectors of the other kind. Of one
//! query `r(q)` is the same for all items, so items rank by `cos(q, x) - r(x) / 2`. Differs from the paper: the other kind is
//! represented by the space's reference vectors, a few hundred of the pairs it was learnt from, not by the test set, so that one
//! item's rank depends on no other query.
//! # How it is stored
//! Half of `r(x)`, negated, stands behind the vector's own numbers, one number for each kind of query; a query carries a 1 in its
//! kind's place. Ranking stays one inner product, exact and under any filter:
//!
//! | | own numbers | image | text | audio | series, video |
//! | --- | --- | --- | --- | --- | --- |
//! | an item that is a picture | `x` | 0 | `-r_text / 2` | `-r_audio / 2` | ... |
//! | a query of words | `q` | 0 | 1 | 0 | 0 |
//!
//! Kinds without paired references, queries of the item's own kind (also videos found through their frames, for pictures), and spaces whose metric is not cosine have 0 there.

use chiasm_core::{Metric, Modality, SearchOptions, VectorIndex, Vectors};
use chiasm_index::ExactIndex;

use crate::{EngineError, Result, Space};

/// Nearest reference vectors that are averaged; the paper's choice.
const NEAREST: usize = 10;
/// Fewer references than this say little of queries in general.
const MIN_REFERENCES: usize = 100;

impl Space {
    /// Numbers per vector as [`Space::as_gallery`] and [`Space::as_query`] lay it out.
    pub fn ranking_dim(&self) -> usize {
        if self.metric() == Metric::Cosine { self.dim() + Modality::ALL.len() } else { self.dim() }
    }

    /// How vectors laid out for ranking are compared. For cosine that is the inner product: their own numbers are at unit length.
    pub fn ranking_metric(&self) -> Metric {
        if self.metric() == Metric::Cosine { Metric::InnerProduct } else { self.metric() }
    }

    /// Vectors `[n, dim]` of items of one kind as `[n, ranking_dim]`, to be searched with [`Space::as_query`].
    ///
    /// # Errors
    /// [`EngineError::Numbers`] for vectors of another dimension.
    pub fn as_gallery(&self, kind: Modality, vectors: &Vectors) -> Result<Vectors> {
        self.check_dim(vectors)?;
        if self.metric() != Metric::Cosine {
            return Ok(vectors.clone());
        }
        let half: Vec<Option<Vec<f32>>> =
            Modality::ALL.into_iter().map(|query| self.crowding(query, kind, vectors)).collect::<Result<_>>()?;
        let mut laid_out = Vec::with_capacity(vectors.n() * self.ranking_dim());
        for (i, row) in vectors.rows().enumerate() {
            laid_out.extend_from_slice(row);
            laid_out.extend(half.iter().map(|of_query| of_query.as_ref().map_or(0.0, |r| -r[i])));
        }
        Vectors::new(laid_out, self.ranking_dim()).map_err(numbers)
    }

    /// Vectors `[n, dim]` of queries of one kind as `[n, ranking_dim]`.
    ///
    /// # Errors
    /// [`EngineError::Numbers`] for vectors of another dimension.
    pub fn as_query(&self, kind: Modality, vectors: &Vectors) -> Result<Vectors> {
        self.check_dim(vectors)?;
        if self.metric() != Metric::Cosine {
            return Ok(vectors.clone());
        }
        let mark = Modality::ALL.map(|m| if m == kind { 1.0 } else { 0.0 });
        let laid_out = vectors.rows().flat_map(|row| row.iter().copied().chain(mark)).collect();
        Vectors::new(laid_out, self.ranking_dim()).map_err(numbers)
    }

    /// Half the mean cosine of each vector to its nearest references of the kind of query; `None` where there is nothing to say.
    fn crowding(&self, query: Modality, kind: Modality, vectors: &Vectors) -> Result<Option<Vec<f32>>> {
        let Some(references) =
            self.references(query).filter(|_| self.find_view(query) != self.find_view(kind) && self.references_paired())
        else {
            return Ok(None);
        };
        let n = references.len() / self.dim();
        if n < MIN_REFERENCES {
            return Ok(None);
        }
        let references = Vectors::new(references.to_vec(), self.dim()).map_err(numbers)?;
        let ids: Vec<u64> = (0..n as u64).collect();
        let index = ExactIndex::build(&ids, &references, Metric::Cosine).expect("ids ascend and there is one for each row");
        let nearest = index.search(vectors, NEAREST, &SearchOptions::default())?;
        let half_mean = |hits: &Vec<chiasm_core::Hit>| {
            let sum: f64 = hits.iter().map(|hit| f64::from(hit.score.get())).sum();
            (sum / (2.0 * hits.len() as f64)) as f32
        };
        Ok(Some(nearest.iter().map(half_mean).collect()))
    }

    fn check_dim(&self, vectors: &Vectors) -> Result<()> {
        if vectors.dim() == self.dim() {
            return Ok(());
        }
        Err(chiasm_core::SearchError::Dimension { got: vectors.dim(), expected: self.dim() }.into())
    }
}

fn numbers(source: chiasm_core::ShapeError) -> EngineError {
    EngineError::Numbers { what: "vectors laid out for ranking".to_owned(), source }
}
