//! Items of several vectors, asked by several vectors: the best pair, or the sum over the question's vectors of each one's best.
//!
//! # Reference
//! Khattab, Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT", SIGIR 2020: each
//! vector of the question finds its nearest rows by an index; every item that has one of them is a candidate and is scored exactly, by
//! `sum_i max_j q_i . x_j`. Where the index is exact and finds all rows, so is the answer; an item none of whose rows is among the nearest of
//! any of the question's vectors is missed.

use std::collections::{BTreeMap, BTreeSet};

use chiasm_core::{Hit, RowSet, Score, SearchError, SearchOptions, VectorIndex, Vectors};

use crate::ExactIndex;

/// How the scores of an item's vectors become its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// The best of all pairs.
    Best,
    /// The sum over the question's vectors of the best of the item's: late interaction.
    SumOfBest,
}

/// The best `k` items for one question of one or more vectors. `items[row]` is the item that row `row` of `exact` belongs to; `first`
/// finds `n_rows` rows for each vector of the question, and holds the same ids as `exact`. A hit's id is an item, ties go to the smaller.
///
/// # Errors
/// Those of [`VectorIndex::search`], of either index.
///
/// # Panics
/// When there are not as many items as rows.
pub fn search_items(
    first: &dyn VectorIndex,
    exact: &ExactIndex,
    items: &[u64],
    question: &Vectors,
    interaction: Interaction,
    n_rows: usize,
    k: usize,
) -> Result<Vec<Hit>, SearchError> {
    assert_eq!(items.len(), exact.len(), "one item for each row");
    if question.n() == 0 || k == 0 {
        return Ok(Vec::new());
    }
    let near = first.search(question, n_rows, &SearchOptions::default())?;
    let found: BTreeSet<u64> = near.iter().flatten().filter_map(|hit| exact.row_of(hit.id)).map(|row| items[row]).collect();
    let mut rows = RowSet::new(items.len());
    items.iter().enumerate().filter(|(_, item)| found.contains(item)).for_each(|(row, _)| rows.insert(row));
    let mut scores: BTreeMap<u64, f64> = BTreeMap::new();
    for hits in exact.search(question, rows.count(), &SearchOptions { allow: Some(&rows) })? {
        // Hits come best first, so an item's first is its best.
        let mut seen = BTreeSet::new();
        for hit in hits {
            let item = items[exact.row_of(hit.id).expect("a hit is a row of its index")];
            if seen.insert(item) {
                let score = f64::from(hit.score.get());
                let own = scores.entry(item).or_insert(if interaction == Interaction::Best { f64::NEG_INFINITY } else { 0.0 });
                *own = if interaction == Interaction::Best { own.max(score) } else { *own + score };
            }
        }
    }
    let lowest = Score::new(f32::NEG_INFINITY).expect("minus infinity is a number");
    let mut hits: Vec<Hit> =
        scores.into_iter().map(|(id, score)| Hit { id, score: Score::new(score as f32).unwrap_or(lowest) }).collect();
    hits.sort_unstable_by(Hit::rank_cmp);
    hits.truncate(k);
    Ok(hits)
}
