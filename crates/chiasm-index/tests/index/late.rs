//! Items of several vectors against their definition.

use chiasm_core::{Hit, Metric, NoProgress, Score, Vectors};
use chiasm_index::{CellConfig, CellIndex, ExactIndex, Interaction, search_items};

/// Small whole numbers, whose sums are exact.
fn whole(n: usize, dim: usize, seed: u64) -> Vectors {
    let mut state = seed;
    let data = (0..n * dim)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) % 7) as f32 - 3.0
        })
        .collect();
    Vectors::new(data, dim).unwrap()
}

#[test]
fn items_are_scored_by_the_definition() {
    let (n, dim) = (600, 8);
    let base = whole(n, dim, 1);
    // One to four rows an item, not next to each other.
    let items: Vec<u64> = (0..n as u64).map(|row| (row * row + row) % 211).collect();
    let ids: Vec<u64> = (0..n as u64).map(|row| 2 * row).collect();
    let exact = ExactIndex::build(&ids, &base, Metric::InnerProduct).unwrap();
    for (n_vectors, seed) in [(1, 2), (3, 3), (7, 4)] {
        let question = whole(n_vectors, dim, seed);
        for interaction in [Interaction::Best, Interaction::SumOfBest] {
            let of_item = |item: u64| {
                let best = question.rows().map(|q| {
                    let rows = (0..n).filter(|row| items[*row] == item);
                    rows.map(|row| base.row(row).iter().zip(q).map(|(x, q)| x * q).sum::<f32>())
                        .fold(f32::NEG_INFINITY, f32::max)
                });
                let score = if interaction == Interaction::Best { best.fold(f32::NEG_INFINITY, f32::max) } else { best.sum() };
                Hit { id: item, score: Score::new(score).unwrap() }
            };
            let mut all: Vec<u64> = items.clone();
            all.sort_unstable();
            all.dedup();
            let mut expected: Vec<Hit> = all.into_iter().map(of_item).collect();
            expected.sort_unstable_by(Hit::rank_cmp);
            expected.truncate(20);
            let found = search_items(&exact, &exact, &items, &question, interaction, n, 20).unwrap();
            assert_eq!(found, expected, "{interaction:?}, {n_vectors}");
            // By cells nearly the same, and what is found has its exact score.
            let cells = CellIndex::build(&ids, &base, Metric::InnerProduct, None, &CellConfig::default(), &NoProgress).unwrap();
            let near = search_items(&cells, &exact, &items, &question, interaction, 100, 20).unwrap();
            let right = near.iter().filter(|hit| expected.contains(hit)).count();
            assert!(right >= 15, "{interaction:?}, {n_vectors}: {right} of 20");
        }
    }
    assert!(search_items(&exact, &exact, &items, &whole(0, dim, 5), Interaction::Best, 5, 5).unwrap().is_empty());
}
