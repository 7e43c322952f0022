//! All rows that score at least so much: a search for the best, repeated for more of them until the worst found one is too bad.
//!
//! With an exact index the answer is exact. An approximate one is searched as hard for many as it is for few, so what it misses are rows
//! that it would miss as neighbours too. Which score is enough is the caller's to know: the engine has calibrated ones (a chance that a
//! row is unrelated), for two modalities lie at distances of their own.

use chiasm_core::{Hit, Score, SearchError, SearchOptions, VectorIndex, Vectors};

/// Hits asked for first, and how many times more each time.
const FIRST: usize = 64;
const GROWTH: usize = 4;

/// The rows that score `least` or more for each query, best first; at most `most` of them.
///
/// # Errors
/// Those of [`VectorIndex::search`].
pub fn within(
    index: &dyn VectorIndex,
    queries: &Vectors,
    least: Score,
    most: usize,
    options: &SearchOptions<'_>,
) -> Result<Vec<Vec<Hit>>, SearchError> {
    let mut answers = vec![Vec::new(); queries.n()];
    let mut open: Vec<usize> = (0..queries.n()).collect();
    let mut k = FIRST.min(most);
    while !open.is_empty() {
        let data = open.iter().flat_map(|q| queries.row(*q)).copied().collect();
        let asked = Vectors::new(data, queries.dim()).expect("rows of checked vectors");
        let mut still = Vec::new();
        for (q, mut hits) in open.into_iter().zip(index.search(&asked, k, options)?) {
            let n_found = hits.len();
            hits.truncate(hits.partition_point(|hit| hit.score >= least));
            if hits.len() == n_found && n_found == k && k < most.min(index.len()) {
                still.push(q);
            } else {
                answers[q] = hits;
            }
        }
        open = still;
        k = k.saturating_mul(GROWTH).min(most);
    }
    Ok(answers)
}
