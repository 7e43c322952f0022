//! Hash, then refine: among all rows it is exact search to the bit, and what fewer rows find grows with their number.

use chiasm_core::{Hit, Metric, RowSet, SearchError, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{Codes, ExactIndex, HammingIndex, MultiIndexHamming, RefineError, refine_hits};

fn random(n: usize, dim: usize, seed: u64) -> Vectors {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Vectors::new((0..n * dim).map(|_| next()).collect(), dim).unwrap()
}

/// Signs of a random projection.
fn codes(vectors: &Vectors, n_bits: usize) -> Codes {
    let directions = random(n_bits, vectors.dim(), 99);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let projected = vectors.rows().flat_map(|row| directions.rows().map(move |direction| dot(row, direction))).collect();
    Codes::from_signs(&Vectors::new(projected, n_bits).unwrap()).unwrap()
}

fn ids(n: usize, gap: u64) -> Vec<u64> {
    (0..n as u64).map(|i| gap * i + 7).collect()
}

#[test]
fn among_all_rows_it_is_exact_search() {
    for (n, dim, gap, metric) in
        [(1, 3, 1, Metric::Cosine), (300, 17, 1, Metric::Cosine), (500, 64, 3, Metric::InnerProduct), (333, 5, 1, Metric::L2)]
    {
        // Every fourth row again, so that scores are equal.
        let mut data = random(n, dim, 1).into_data();
        (4..n).step_by(4).for_each(|row| data.copy_within((row - 4) * dim..(row - 3) * dim, row * dim));
        let (base, queries) = (Vectors::new(data, dim).unwrap(), random(4, dim, 2));
        let exact = ExactIndex::build(&ids(n, gap), &base, metric).unwrap();
        let hashed = HammingIndex::build(&ids(n, gap), &codes(&base, 48)).unwrap();
        let mut allow = RowSet::new(n);
        (0..n).filter(|row| row % 5 != 1).for_each(|row| allow.insert(row));
        for allow in [None, Some(&allow)] {
            let options = SearchOptions { allow };
            for (r, k) in [(n, 1), (n, 10), (n + 1, n), (usize::MAX, 17)] {
                let near = hashed.search(&codes(&queries, 48), r, &options).unwrap();
                let expected = exact.search(&queries, k, &options).unwrap();
                assert_eq!(refine_hits(&near, &exact, &queries, k).unwrap(), expected, "{n} rows, {metric}, k = {k}");
            }
        }
        assert_eq!(refine_hits(&vec![vec![]; 4], &exact, &queries, 3).unwrap(), vec![Vec::<Hit>::new(); 4]);
    }
}

#[test]
fn recall_grows_with_the_rows_looked_at() {
    let (n, dim) = (4000, 32);
    let (base, queries) = (random(n, dim, 3), random(50, dim, 4));
    let exact = ExactIndex::build(&ids(n, 2), &base, Metric::Cosine).unwrap();
    let hashed = MultiIndexHamming::build(&ids(n, 2), &codes(&base, 64)).unwrap();
    let truth = exact.search(&queries, 10, &SearchOptions::default()).unwrap();
    let recall = |r: usize| {
        let near = hashed.search(&codes(&queries, 64), r, &SearchOptions::default()).unwrap();
        let found = refine_hits(&near, &exact, &queries, 10).unwrap();
        // A first stage of more rows holds the one of fewer, so query by query nothing is lost.
        let hits = truth.iter().zip(&found).map(|(truth, found)| truth.iter().filter(|hit| found.contains(hit)).count());
        hits.collect::<Vec<_>>()
    };
    let mut last = vec![0; 50];
    let mut sums = Vec::new();
    for r in [10, 40, 160, 640, n] {
        let now = recall(r);
        assert!(now.iter().zip(&last).all(|(now, last)| now >= last), "R = {r}");
        sums.push(now.iter().sum::<usize>());
        last = now;
    }
    assert!(sums[0] < 250 && sums[2] > 2 * sums[0] && sums[4] == 500, "{sums:?}");
}

#[test]
fn what_does_not_go_together_is_an_error() {
    let (base, queries) = (random(20, 8, 5), random(2, 8, 6));
    let exact = ExactIndex::build(&ids(20, 1), &base, Metric::L2).unwrap();
    let hashed = HammingIndex::build(&ids(20, 2), &codes(&base, 16)).unwrap();
    let near = hashed.search(&codes(&queries, 16), 20, &SearchOptions::default()).unwrap();
    let unknown = near[0].iter().find(|hit| hit.id > 26).unwrap().id;
    assert_eq!(refine_hits(&near, &exact, &queries, 3), Err(RefineError::Unknown { id: unknown }));
    assert_eq!(refine_hits(&near[..1], &exact, &queries, 3), Err(RefineError::Count { lists: 1, queries: 2 }));
    let other = random(2, 9, 7);
    let expected = RefineError::Search(SearchError::Dimension { got: 9, expected: 8 });
    assert_eq!(refine_hits(&near, &exact, &other, 3), Err(expected));
}
