//! Hash, then refine: the nearest codes are looked up, and only their vectors are compared.
//!
//! # Model
//! The first stage, [`HammingIndex`](crate::HammingIndex) or [`MultiIndexHamming`](crate::MultiIndexHamming), gives the `R` best by
//! Hamming distance. [`refine_hits`] scores these with the vectors of an [`ExactIndex`] and gives the best `k` of them: same metric, same
//! scores to the bit, same order as a search of that index among these rows. What the first stage left out is lost, so recall grows with
//! `R` and time does too: `R` is the choice between precision and efficiency. From `R = len()` on the answer is that of exact search.
//!
//! A filter belongs to the first stage: what it did not return is not looked at.
//!
//! # Cost
//! `R` vectors read here and there and `2 R d` operations per query, whatever the size of the base; queries in parallel.
//!
//! # Errors
//! [`RefineError`] when lists and queries differ in number, for a query of another dimension, and for an id that the vectors do not have.
//!
//! # Example
//! ```
//! use chiasm_core::{Metric, SearchOptions, Vectors};
//! use chiasm_index::{Codes, ExactIndex, HammingIndex, refine_hits};
//!
//! let vectors = Vectors::new(vec![1.0, 0.1, 1.0, 0.9, -1.0, 0.2], 2)?;
//! let exact = ExactIndex::build(&[10, 20, 30], &vectors, Metric::Cosine)?;
//! let hashed = HammingIndex::build(&[10, 20, 30], &Codes::from_signs(&vectors)?)?;
//!
//! let query = Vectors::new(vec![0.8, 0.7], 2)?;
//! let near = hashed.search(&Codes::from_signs(&query)?, 2, &SearchOptions::default())?;
//! assert_eq!(near[0].iter().map(|hit| (hit.id, hit.distance)).collect::<Vec<_>>(), [(10, 0), (20, 0)]);
//! assert_eq!(refine_hits(&near, &exact, &query, 1)?[0][0].id, 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::{Hit, SearchError, VectorIndex, Vectors};
use rayon::prelude::*;

use crate::exact::ExactIndex;
use crate::hamming::CodeHit;

/// Why hits could not be refined.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RefineError {
    /// One list of hits goes with each query.
    #[error("{lists} lists of hits for {queries} queries: each query needs its own")]
    Count {
        /// How many lists came.
        lists: usize,
        /// How many queries came.
        queries: usize,
    },
    /// The codes are of other items than the vectors.
    #[error("hit {id} is not among the vectors: build codes and vectors over the same items")]
    Unknown {
        /// The first such id.
        id: u64,
    },
    /// The query does not go with the vectors.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// The best `k` of each query's hits by the exact score, in [`Hit::rank_cmp`] order; fewer when there are fewer hits.
///
/// # Errors
/// [`RefineError`].
pub fn refine_hits(
    hits: &[Vec<CodeHit>],
    exact: &ExactIndex,
    queries: &Vectors,
    k: usize,
) -> Result<Vec<Vec<Hit>>, RefineError> {
    if hits.len() != queries.n() {
        return Err(RefineError::Count { lists: hits.len(), queries: queries.n() });
    }
    if queries.dim() != exact.dim() {
        return Err(SearchError::Dimension { got: queries.dim(), expected: exact.dim() }.into());
    }
    let first_id = exact.ids().first().copied().unwrap_or(0);
    let row_of = |hit: &CodeHit| {
        // Ids mostly count up without gaps, and then the row is known without a search.
        let guess = usize::try_from(hit.id.wrapping_sub(first_id)).unwrap_or(usize::MAX);
        let row = if exact.ids().get(guess) == Some(&hit.id) { Some(guess) } else { exact.row_of(hit.id) };
        row.ok_or(RefineError::Unknown { id: hit.id })
    };
    let best_of = |(q, hits): (usize, &Vec<CodeHit>)| {
        let rows = hits.iter().map(row_of).collect::<Result<Vec<_>, _>>()?;
        Ok(exact.best_of(queries.row(q), &rows, k))
    };
    hits.par_iter().enumerate().map(best_of).collect()
}
