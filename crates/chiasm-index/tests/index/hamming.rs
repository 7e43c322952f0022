//! Search of codes against a count bit by bit: answers, filters, ties, radii, edges, and that nothing but the question decides.

use std::fs;

use chiasm_core::{RowSet, SearchError, SearchOptions, Vectors};
use chiasm_index::{BuildError, CodeHit, CodeKernel, Codes, HammingIndex};
use proptest::prelude::*;

/// Signs of a random walk through 64-bit states; `like` in 0..=8 eighths of the numbers repeat the first row, so that there are
/// close codes too.
fn signs(n: usize, n_bits: usize, seed: u64, like: u64) -> Vectors {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut data: Vec<f32> = Vec::with_capacity(n * n_bits);
    for i in 0..n * n_bits {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let value = if state >> 63 == 0 { -1.0 } else { 1.0 };
        data.push(if i >= n_bits && (state >> 40) % 8 < like { data[i % n_bits] } else { value });
    }
    Vectors::new(data, n_bits).unwrap()
}

fn codes(n: usize, n_bits: usize, seed: u64) -> Codes {
    Codes::from_signs(&signs(n, n_bits, seed, 5)).unwrap()
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).map(|i| 3 * i + 7).collect()
}

fn build(codes: &Codes) -> HammingIndex {
    HammingIndex::build(&ids(codes.n()), codes).unwrap()
}

/// All allowed rows, ranked; distances are counted sign by sign, not on the packed words.
fn naive(base: &Codes, query: &Codes, q: usize, allow: Option<&RowSet>) -> Vec<CodeHit> {
    let (base, query) = (base.to_signs(), query.to_signs());
    let ids = ids(base.n());
    let mut hits: Vec<CodeHit> = (0..base.n())
        .filter(|row| allow.is_none_or(|allow| allow.contains(*row)))
        .map(|row| {
            let differ = base.row(row).iter().zip(query.row(q)).filter(|(a, b)| a != b);
            CodeHit { id: ids[row], distance: differ.count() as u32 }
        })
        .collect();
    hits.sort_by_key(|hit| (hit.distance, hit.id));
    hits
}

#[test]
fn agrees_with_a_naive_search_at_every_length() {
    for n_bits in 1..=300 {
        let n = 20 + n_bits % 90;
        let (base, queries) = (codes(n, n_bits, n_bits as u64), codes(3, n_bits, n_bits as u64 + 1));
        let index = build(&base);
        assert_eq!((index.len(), index.n_bits(), index.is_empty()), (n, n_bits, false));
        let ranked: Vec<Vec<CodeHit>> = (0..3).map(|q| naive(&base, &queries, q, None)).collect();
        for kernel in CodeKernel::available() {
            let index = build(&base).with_kernel(kernel);
            for k in [0, 1, 7, n, n + 5, usize::MAX] {
                let got = index.search(&queries, k, &SearchOptions::default()).unwrap();
                for (got, expected) in got.iter().zip(&ranked) {
                    assert_eq!(got[..], expected[..k.min(n)], "{n_bits} bits, k = {k}, {}", kernel.as_str());
                }
            }
            for q in 0..3 {
                let distances = index.distances(&queries, q).unwrap();
                assert_eq!(distances.len(), n);
                for hit in &ranked[q] {
                    let distance = distances[index.row_of(hit.id).unwrap()];
                    assert_eq!(distance, hit.distance, "{n_bits} bits, {}", kernel.as_str());
                }
            }
        }
        (0..n).for_each(|row| assert_eq!(index.code(row), base.code(row)));
    }
}

#[test]
fn lookup_finds_all_within_every_radius() {
    for n_bits in [1, 13, 64, 65, 128, 200, 256] {
        let (base, queries) = (codes(150, n_bits, 3), codes(5, n_bits, 4));
        let index = build(&base);
        let mut allow = RowSet::new(150);
        (0..150).filter(|row| row % 3 != 1).for_each(|row| allow.insert(row));
        for allow in [None, Some(&allow)] {
            for radius in 0..=n_bits as u32 + 2 {
                let got = index.within(&queries, radius, &SearchOptions { allow }).unwrap();
                for (q, got) in got.iter().enumerate() {
                    let mut expected = naive(&base, &queries, q, allow);
                    expected.retain(|hit| hit.distance <= radius);
                    assert_eq!(*got, expected, "{n_bits} bits, radius {radius}");
                }
            }
            let all = index.within(&queries, u32::MAX, &SearchOptions { allow }).unwrap();
            assert_eq!(all, index.search(&queries, 150, &SearchOptions { allow }).unwrap());
        }
    }
}

#[test]
fn filters_act_inside_the_search() {
    let n = 3000;
    for n_bits in [24, 64, 100, 256] {
        let (base, queries) = (codes(n, n_bits, 5), codes(4, n_bits, 6));
        let index = build(&base);
        for keep in
            [&(|_| false) as &dyn Fn(usize) -> bool, &|r| r == n - 1, &|r| r % 97 == 5, &|r| r % 2 == 0, &|r| r < 64, &|_| true]
        {
            let mut allow = RowSet::new(n);
            (0..n).filter(|r| keep(*r)).for_each(|r| allow.insert(r));
            let options = SearchOptions { allow: Some(&allow) };
            for k in [1, 40, n] {
                let got = index.search(&queries, k, &options).unwrap();
                for (q, got) in got.iter().enumerate() {
                    let mut expected = naive(&base, &queries, q, Some(&allow));
                    expected.truncate(k);
                    assert_eq!(*got, expected, "{n_bits} bits, {} rows, k = {k}", allow.count());
                }
            }
        }
        let other = RowSet::new(n + 1);
        let refused = index.search(&queries, 1, &SearchOptions { allow: Some(&other) });
        assert_eq!(refused, Err(SearchError::Filter { got: n + 1, expected: n }));
        assert!(index.within(&queries, 1, &SearchOptions { allow: Some(&other) }).is_err());
    }
}

#[test]
fn nothing_but_the_question_decides_the_answer() {
    // More rows than one task takes, more queries than one block, and few bits: ties everywhere, also at the limit.
    let n = 70_000;
    for n_bits in [12, 64, 130] {
        let (base, queries) = (codes(n, n_bits, 7), codes(70, n_bits, 8));
        let expected = build(&base).search(&queries, 20, &SearchOptions::default()).unwrap();
        for (q, expected) in expected.iter().enumerate().step_by(23) {
            assert_eq!(*expected, naive(&base, &queries, q, None)[..20]);
        }
        let full = build(&base).search(&queries, n, &SearchOptions::default()).unwrap();
        for kernel in CodeKernel::available() {
            let index = build(&base).with_kernel(kernel);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = pool.install(|| index.search(&queries, 20, &SearchOptions::default())).unwrap();
                assert_eq!(got, expected, "{} on {threads} threads", kernel.as_str());
            }
            let mut alone = Codes::new(n_bits).unwrap();
            alone.push(queries.code(69)).unwrap();
            assert_eq!(index.search(&alone, 500, &SearchOptions::default()).unwrap()[0], full[69][..500], "alone");
            let distances = index.distances(&queries, 69).unwrap();
            assert!(full[69].iter().all(|hit| distances[index.row_of(hit.id).unwrap()] == hit.distance));
        }
    }
}

#[test]
fn equal_distances_come_by_id_and_as_hits_they_rank_the_same() {
    let same = Codes::from_words(70, [1, 2].repeat(5000)).unwrap();
    let query = Codes::from_words(70, vec![0, 0]).unwrap();
    let hits = build(&same).search(&query, 100, &SearchOptions::default()).unwrap().remove(0);
    assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), ids(100));
    assert!(hits.iter().all(|hit| hit.distance == 2));

    let mixed = codes(500, 20, 9);
    let hits = build(&mixed).search(&codes(1, 20, 10), 500, &SearchOptions::default()).unwrap().remove(0);
    let as_hits: Vec<chiasm_core::Hit> = hits.iter().map(|hit| hit.to_hit()).collect();
    assert!(as_hits.is_sorted_by(|a, b| a.rank_cmp(b).is_lt()));
    assert_eq!(as_hits[0].score.get(), -(hits[0].distance as f32));
}

#[test]
fn edges_are_answers_or_errors() {
    let none = Codes::new(40).unwrap();
    let some = codes(5, 40, 11);
    let options = SearchOptions::default();
    assert_eq!(build(&none).search(&some, 3, &options).unwrap(), vec![vec![]; 5]);
    assert_eq!(build(&none).distances(&some, 4).unwrap(), Vec::<u32>::new());
    assert!(build(&some).search(&none, 3, &options).unwrap().is_empty());
    let other = codes(1, 41, 12);
    assert_eq!(build(&some).search(&other, 1, &options), Err(SearchError::Dimension { got: 41, expected: 40 }));
    assert_eq!(build(&some).within(&other, 1, &options), Err(SearchError::Dimension { got: 41, expected: 40 }));
    assert_eq!(build(&some).distances(&other, 0), Err(SearchError::Dimension { got: 41, expected: 40 }));

    let build = |ids: &[u64]| HammingIndex::build(ids, &codes(3, 40, 13));
    assert_eq!(build(&[1, 2]).unwrap_err(), BuildError::Count { ids: 2, vectors: 3 });
    assert_eq!(build(&[1, 5, 5]).unwrap_err(), BuildError::Order { row: 2, id: 5, previous: 5 });
    let index = build(&[1, 5, u64::MAX]).unwrap();
    assert_eq!((index.row_of(5), index.row_of(4)), (Some(1), None));
}

/// The longest codes: the greatest distance there is.
#[test]
fn the_longest_codes_are_counted_whole() {
    let words = Codes::MAX_BITS / 64;
    let mut base = Codes::new(Codes::MAX_BITS).unwrap();
    base.push(&vec![u64::MAX; words]).unwrap();
    base.push(&vec![0; words]).unwrap();
    let query = Codes::from_words(Codes::MAX_BITS, vec![0; words]).unwrap();
    for kernel in CodeKernel::available() {
        let hits = build(&base).with_kernel(kernel).search(&query, 2, &SearchOptions::default()).unwrap().remove(0);
        assert_eq!(hits, [CodeHit { id: 10, distance: 0 }, CodeHit { id: 7, distance: Codes::MAX_BITS as u32 }]);
    }
}

/// Distances by faiss, rankings by numpy: `reference/index_goldens.py`.
#[test]
fn agrees_with_faiss() {
    let path = format!("{}/../../testdata/goldens/index/hamming.json", env!("CARGO_MANIFEST_DIR"));
    let golden: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden.as_array().unwrap();
    assert_eq!(cases.len(), 5);
    let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect::<Vec<_>>();
    for case in cases {
        let n_bits = case["n_bits"].as_u64().unwrap() as usize;
        let read = |name: &str| {
            let mut codes = Codes::new(n_bits).unwrap();
            for hex in case[name].as_array().unwrap() {
                let hex = hex.as_str().unwrap();
                let bytes: Vec<u64> =
                    (0..hex.len() / 2).map(|i| u64::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
                let words = bytes.chunks(8).map(|word| word.iter().rev().fold(0, |word, byte| word << 8 | byte));
                codes.push(&words.collect::<Vec<_>>()).unwrap();
            }
            codes
        };
        let (base, queries) = (read("base"), read("queries"));
        let rows: Vec<u64> = (0..base.n() as u64).collect();
        let index = HammingIndex::build(&rows, &base).unwrap();
        let radius = case["radius"].as_u64().unwrap() as u32;
        let top = index.search(&queries, 12, &SearchOptions::default()).unwrap();
        let near = index.within(&queries, radius, &SearchOptions::default()).unwrap();
        for (q, expected) in case["answers"].as_array().unwrap().iter().enumerate() {
            let distances: Vec<u64> = index.distances(&queries, q).unwrap().into_iter().map(u64::from).collect();
            assert_eq!(distances, numbers(&expected["distances"]), "{n_bits} bits");
            assert_eq!(top[q].iter().map(|hit| hit.id).collect::<Vec<_>>(), numbers(&expected["top"]), "{n_bits} bits");
            assert_eq!(near[q].iter().map(|hit| hit.id).collect::<Vec<_>>(), numbers(&expected["near"]), "{n_bits} bits");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_question_has_the_naive_answer(
        n in 0usize..400, n_bits in 1usize..150, seed in any::<u64>(), like in 0u64..=8, k in 0usize..500, radius in 0u32..160,
        every in 1usize..50,
    ) {
        let base = Codes::from_signs(&signs(n, n_bits, seed, like)).unwrap();
        let queries = Codes::from_signs(&signs(2, n_bits, seed ^ 1, like)).unwrap();
        let index = build(&base);
        let mut allow = RowSet::new(n);
        (0..n).step_by(every).for_each(|row| allow.insert(row));
        for allow in [None, Some(&allow)] {
            let top = index.search(&queries, k, &SearchOptions { allow }).unwrap();
            let near = index.within(&queries, radius, &SearchOptions { allow }).unwrap();
            for q in 0..2 {
                let expected = naive(&base, &queries, q, allow);
                let n_near = expected.iter().filter(|hit| hit.distance <= radius).count();
                prop_assert_eq!(&top[q][..], &expected[..k.min(expected.len())]);
                prop_assert_eq!(&near[q][..], &expected[..n_near]);
            }
        }
    }
}
