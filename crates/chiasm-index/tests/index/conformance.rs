//! Every index against a naive search: answers, filters, ties, edges, and that nothing but the question decides the answer.

use std::sync::Arc;

use chiasm_core::{Hit, Metric, RowSet, Score, SearchError, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{BuildError, ExactIndex, FileError, GrownIndex, Kernel, RefinedIndex, Stored, bf16, f16, within};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::InnerProduct, Metric::L2];

/// Small whole numbers, so that sums are exact in f32, ties are many, and a naive search must agree to the bit.
fn whole(n: usize, dim: usize, seed: u64) -> Vectors {
    let mut state = seed;
    let data = (0..n * dim)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) % 5) as f32 - 2.0
        })
        .collect();
    Vectors::new(data, dim).unwrap()
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).map(|i| 3 * i + 7).collect()
}

/// The list: how each index is made of ids, vectors and metric. `folder` is for those that live in a file.
type Build = fn(&[u64], &Vectors, Metric, &std::path::Path) -> Box<dyn VectorIndex>;

const INDEXES: [(&str, Build); 4] = [
    ("exact, in memory", |ids, vectors, metric, _| Box::new(ExactIndex::build(ids, vectors, metric).unwrap())),
    ("exact, mapped", |ids, vectors, metric, folder| {
        let path = folder.join("exact.idx");
        ExactIndex::build(ids, vectors, metric).unwrap().write(&path, 1).unwrap();
        let (index, _) = ExactIndex::open(&path).unwrap();
        index.verify().unwrap();
        Box::new(index)
    }),
    ("exact, by bytes first", |ids, vectors, metric, _| {
        Box::new(RefinedIndex::new(ExactIndex::build(ids, vectors, metric).unwrap()))
    }),
    ("exact, grown in three steps", |ids, vectors, metric, _| {
        let rows = |from: usize, to: usize| {
            let data = vectors.data()[from * vectors.dim()..to * vectors.dim()].to_vec();
            (&ids[from..to], Vectors::new(data, vectors.dim()).unwrap())
        };
        let (a, b) = (vectors.n() / 2, vectors.n() * 3 / 4);
        let (of_base, base) = rows(0, a);
        let grown = GrownIndex::new(Arc::new(ExactIndex::build(of_base, &base, metric).unwrap()));
        let grown = [(a, b), (b, vectors.n())].into_iter().fold(grown, |grown, (from, to)| {
            let (ids, more) = rows(from, to);
            grown.with_more(ids, &more).unwrap()
        });
        Box::new(grown)
    }),
];

/// Calls `check` for every index over these vectors and every metric.
fn over_all(vectors: &Vectors, check: impl Fn(&str, &dyn VectorIndex)) {
    let folder = tempfile::tempdir().unwrap();
    for metric in METRICS {
        for (name, build) in INDEXES {
            let index = build(&ids(vectors.n()), vectors, metric, folder.path());
            check(&format!("{name}, {metric}, {} x {}", vectors.n(), vectors.dim()), index.as_ref());
        }
    }
}

fn naive(base: &Vectors, queries: &Vectors, metric: Metric, k: usize, allow: Option<&RowSet>) -> Vec<Vec<(u64, f64)>> {
    let (mut base, mut queries) = (base.clone(), queries.clone());
    if metric == Metric::Cosine {
        base.normalise();
        queries.normalise();
    }
    let score = |q: &[f32], x: &[f32]| -> f64 {
        let pairs = q.iter().zip(x).map(|(q, x)| (f64::from(*q), f64::from(*x)));
        if metric == Metric::L2 { -pairs.map(|(q, x)| (q - x) * (q - x)).sum::<f64>() } else { pairs.map(|(q, x)| q * x).sum() }
    };
    let ids = ids(base.n());
    queries
        .rows()
        .map(|q| {
            let rows = (0..base.n()).filter(|r| allow.is_none_or(|a| a.contains(*r)));
            let mut all: Vec<(u64, f64)> = rows.map(|r| (ids[r], score(q, base.row(r)))).collect();
            // Not `total_cmp`: zero and minus zero are one score.
            all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
            all.truncate(k);
            all
        })
        .collect()
}

fn assert_same(name: &str, metric: Metric, got: &[Vec<Hit>], expected: &[Vec<(u64, f64)>]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(got.len(), expected.len(), "{name}");
        assert!(got.is_sorted_by(|a, b| a.rank_cmp(b).is_lt()), "{name}");
        for (hit, (id, score)) in got.iter().zip(expected) {
            let off = (f64::from(hit.score.get()) - score).abs();
            if metric == Metric::Cosine {
                // Unit vectors are rounded, so near ties may swap; the score at a rank may not move.
                assert!(off < 1e-5, "{name}: {hit:?} for {id} {score}");
            } else {
                assert!(hit.id == *id && off == 0.0, "{name}: {hit:?} for {id} {score}");
            }
        }
    }
}

#[test]
fn agrees_with_a_naive_search() {
    for (n, dim) in [(1, 1), (15, 3), (16, 4), (17, 5), (1000, 24), (5000, 7), (300, 300)] {
        let base = whole(n, dim, 1);
        over_all(&base, |name, index| {
            assert_eq!((index.len(), index.dim(), index.is_empty()), (n, dim, false));
            for n_queries in [1, 3, 8, 100] {
                let queries = whole(n_queries, dim, 2);
                for k in [1, 10, n, n + 5] {
                    // The naive search is slow; large cases once are enough.
                    if n * n_queries > 100_000 && k != 10 {
                        continue;
                    }
                    let got = index.search(&queries, k, &SearchOptions::default()).unwrap();
                    let expected = naive(&base, &queries, index.metric(), k, None);
                    assert_same(name, index.metric(), &got, &expected);
                }
            }
        });
    }
}

#[test]
fn filters_act_inside_the_search() {
    let (n, dim) = (3000, 9);
    let base = whole(n, dim, 3);
    let queries = whole(7, dim, 4);
    let mut sets = vec![RowSet::new(n)];
    for keep in [&(|r| r == n - 1) as &dyn Fn(usize) -> bool, &|r| r % 97 == 5, &|r| r % 2 == 0, &|r| r < 64, &|_| true] {
        let mut set = RowSet::new(n);
        (0..n).filter(|r| keep(*r)).for_each(|r| set.insert(r));
        sets.push(set);
    }
    over_all(&base, |name, index| {
        for set in &sets {
            let got = index.search(&queries, 40, &SearchOptions { allow: Some(set) }).unwrap();
            assert_same(name, index.metric(), &got, &naive(&base, &queries, index.metric(), 40, Some(set)));
        }
        let other = RowSet::new(n + 1);
        let refused = index.search(&queries, 1, &SearchOptions { allow: Some(&other) });
        assert_eq!(refused, Err(SearchError::Filter { got: n + 1, expected: n }), "{name}");
    });
}

#[test]
fn nothing_but_the_question_decides_the_answer() {
    // Numbers whose sums depend on their order, so that any other order would show in the bits.
    let n = 7000;
    let fractions = |n, seed| {
        let odd = whole(n, 37, seed).into_data().iter().zip(1..).map(|(v, i)| v / 3.0 + (i % 89) as f32 / 7.0).collect();
        Vectors::new(odd, 37).unwrap()
    };
    let (base, queries) = (fractions(n, 5), fractions(130, 6));
    let mut all_but_one = RowSet::new(n);
    (1..n).for_each(|r| all_but_one.insert(r));
    for metric in METRICS {
        let index = || ExactIndex::build(&ids(n), &base, metric).unwrap();
        let expected = index().search(&queries, 20, &SearchOptions::default()).unwrap();
        for kernel in Kernel::available() {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = pool.install(|| index().with_kernel(kernel).search(&queries, 20, &SearchOptions::default())).unwrap();
                assert_eq!(got, expected, "{} on {threads} threads", kernel.as_str());
            }
        }
        let index = index();
        for q in (0..queries.n()).step_by(13) {
            let alone = Vectors::new(queries.row(q).to_vec(), 37).unwrap();
            assert_eq!(index.search(&alone, 20, &SearchOptions::default()).unwrap()[0], expected[q], "alone");
            let filtered = index.search(&alone, 20, &SearchOptions { allow: Some(&all_but_one) }).unwrap().remove(0);
            let without: Vec<Hit> = expected[q].iter().copied().filter(|hit| hit.id != 7).collect();
            assert_eq!(filtered[..without.len()], without[..], "filtered");
        }
    }
}

#[test]
fn empty_questions_and_empty_indexes_have_empty_answers() {
    let none = Vectors::new(vec![], 4).unwrap();
    let some = whole(5, 4, 7);
    over_all(&none, |name, index| {
        assert!(index.is_empty(), "{name}");
        assert_eq!(index.search(&some, 3, &SearchOptions { allow: Some(&RowSet::new(0)) }).unwrap(), vec![vec![]; 5], "{name}");
    });
    over_all(&some, |name, index| {
        assert_eq!(index.search(&some, 0, &SearchOptions::default()).unwrap(), vec![vec![]; 5], "{name}");
        assert!(index.search(&none, 3, &SearchOptions::default()).unwrap().is_empty(), "{name}");
        let other = index.search(&whole(1, 3, 8), 3, &SearchOptions::default());
        assert_eq!(other, Err(SearchError::Dimension { got: 3, expected: 4 }), "{name}");
    });
}

#[test]
fn equal_scores_come_by_id_and_zeros_score_zero() {
    let same = Vectors::new([1.0, 2.0, 3.0].repeat(5000), 3).unwrap();
    let query = Vectors::new(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3).unwrap();
    over_all(&same, |name, index| {
        let hits = index.search(&query, 100, &SearchOptions::default()).unwrap();
        for hits in &hits {
            assert_eq!(hits.iter().map(|h| h.id).collect::<Vec<_>>(), ids(100), "{name}");
        }
        if index.metric() == Metric::Cosine {
            assert_eq!(hits[1][0].score.get(), 0.0, "a vector of zeros");
        }
    });
}

/// Bytes leave out only what cannot be among the best: the same hits, to the bit, for numbers of any size and shape.
#[test]
fn bytes_first_change_nothing() {
    let mut state = 11u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    for (n, dim, size, offset) in
        [(20_000, 40, 1.0, 0.0), (9_000, 33, 1e-12, 1e-12), (9_000, 64, 1e12, 3e12), (9_000, 8, 1.0, 500.0)]
    {
        let mut rows = |n: usize| Vectors::new((0..n * dim).map(|_| offset + size * next() * next()).collect(), dim).unwrap();
        let (base, queries) = (rows(n), rows(37));
        let mut allow = RowSet::new(n);
        (0..n).filter(|r| r % 3 == 1).for_each(|r| allow.insert(r));
        for metric in METRICS {
            let exact = ExactIndex::build(&ids(n), &base, metric).unwrap();
            let refined = RefinedIndex::new(ExactIndex::build(&ids(n), &base, metric).unwrap());
            for options in [SearchOptions::default(), SearchOptions { allow: Some(&allow) }] {
                for k in [1, 10, 700] {
                    assert_eq!(
                        refined.search(&queries, k, &options),
                        exact.search(&queries, k, &options),
                        "{metric}, {n} x {dim}, {k}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_range_is_all_that_scores_enough() {
    let (base, queries) = (whole(3000, 6, 21), whole(9, 6, 22));
    over_all(&base, |name, index| {
        let all = index.search(&queries, 3000, &SearchOptions::default()).unwrap();
        for at in [0, 63, 64, 65, 900, 2999] {
            let least = all[0][at].score;
            let found = within(index, &queries, least, usize::MAX, &SearchOptions::default()).unwrap();
            for (found, all) in found.iter().zip(&all) {
                let expected: Vec<Hit> = all.iter().copied().filter(|hit| hit.score >= least).collect();
                assert_eq!(found, &expected, "{name}, from rank {at}");
            }
            assert!(within(index, &queries, least, 5, &SearchOptions::default()).unwrap().iter().all(|hits| hits.len() <= 5));
        }
        let none = within(index, &queries, Score::new(f32::INFINITY).unwrap(), usize::MAX, &SearchOptions::default()).unwrap();
        assert!(none.iter().all(Vec::is_empty), "{name}");
    });
}

#[test]
fn sums_that_overflow_rank_without_panic() {
    let base = Vectors::new(vec![3e38, -3e38, 3e38, 3e38, 1.0, 1.0], 2).unwrap();
    let query = Vectors::new(vec![3e38, 3e38], 2).unwrap();
    let index = ExactIndex::build(&[1, 2, 3], &base, Metric::InnerProduct).unwrap();
    let hits = index.search(&query, 3, &SearchOptions::default()).unwrap().remove(0);
    // Infinity, a large number, and infinity minus infinity, which is scored as minus infinity.
    assert_eq!(hits.iter().map(|h| h.id).collect::<Vec<_>>(), [2, 3, 1]);
    assert_eq!(hits[2].score.get(), f32::NEG_INFINITY);
}

/// Rows of half floats, in memory and in a file, on every kernel, against rows of single precision that were rounded by hand.
fn halves_are_exact_about_rounded_rows<T: Stored>() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("halves.idx");
    let bits = |found: &[Vec<Hit>]| found.iter().flatten().map(|h| (h.id, h.score.get().to_bits())).collect::<Vec<_>>();
    for (n, dim, n_queries) in [(1, 1, 1), (37, 5, 2), (300, 64, 1), (300, 67, 9), (90, 300, 120)] {
        let uneven = |n: usize, seed: u64| {
            let numbers = whole(n, dim, seed).into_data().into_iter().zip(1..);
            Vectors::new(numbers.map(|(v, i)| v / 7.0 + 1.0 / i as f32).collect(), dim).unwrap()
        };
        let (base, queries) = (uneven(n, 3), uneven(n_queries, 4));
        for metric in METRICS {
            let mut rounded = base.clone();
            if metric == Metric::Cosine {
                rounded.normalise();
            }
            let rounded = Vectors::new(rounded.into_data().into_iter().map(|v| T::of(v).get()).collect(), dim).unwrap();
            // Rounded rows are no longer of unit length, so they are compared as they are, with queries that are.
            let (plain, mut asked) = (if metric == Metric::Cosine { Metric::InnerProduct } else { metric }, queries.clone());
            if metric == Metric::Cosine {
                asked.normalise();
            }
            let wanted =
                ExactIndex::build(&ids(n), &rounded, plain).unwrap().search(&asked, 9, &SearchOptions::default()).unwrap();
            let built = || ExactIndex::<T>::build_as(&ids(n), &base, metric).unwrap();
            built().write(&path, 6).unwrap();
            let (opened, stamp) = ExactIndex::<T>::open_as(&path).unwrap();
            opened.verify().unwrap();
            assert_eq!((stamp, opened.vector(0).len()), (6, dim));
            for index in Kernel::available().into_iter().map(|kernel| built().with_kernel(kernel)).chain([opened]) {
                let found = index.search(&queries, 9, &SearchOptions::default()).unwrap();
                assert_eq!(bits(&found), bits(&wanted), "{}, {metric}, {n} x {dim}", T::NAME);
                let best = index.best_of(queries.row(0), &(0..n).collect::<Vec<_>>(), 9);
                assert_eq!(bits(&[best]), bits(&wanted[..1]), "{}, {metric}, {n} x {dim}", T::NAME);
            }
            assert!(matches!(ExactIndex::open(&path), Err(FileError::Damaged { .. })), "a file of other numbers is refused");
        }
    }
}

#[test]
fn half_floats_lose_their_rounding_and_no_more() {
    halves_are_exact_about_rounded_rows::<f16>();
    halves_are_exact_about_rounded_rows::<bf16>();
    let large = Vectors::new(vec![1.0, -65_504.0, 70_000.0, 1.0], 2).unwrap();
    let refused = ExactIndex::<f16>::build_as(&[1, 2], &large, Metric::L2).unwrap_err();
    assert_eq!(refused, BuildError::Range { row: 1, value: 70_000.0, precision: "f16" });
    assert!(ExactIndex::<bf16>::build_as(&[1, 2], &large, Metric::L2).is_ok());
    assert!(ExactIndex::<f16>::build_as(&[1, 2], &large, Metric::Cosine).is_ok(), "at unit length all is near");
}

#[test]
fn ids_are_checked_and_found() {
    let vectors = whole(3, 2, 9);
    let build = |ids: &[u64]| ExactIndex::build(ids, &vectors, Metric::L2);
    assert_eq!(build(&[1, 2]).unwrap_err(), BuildError::Count { ids: 2, vectors: 3 });
    assert_eq!(build(&[1, 5, 5]).unwrap_err(), BuildError::Order { row: 2, id: 5, previous: 5 });
    let index = build(&[1, 5, u64::MAX]).unwrap();
    assert_eq!((index.row_of(5), index.row_of(4)), (Some(1), None));
    assert_eq!(index.vector(1), vectors.row(1));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_of_is_membership(
            own in proptest::collection::btree_set(0u64..400, 0..120),
            asked in proptest::collection::vec(0u64..420, 0..80),
            sorted in any::<bool>(),
        ) {
            let own: Vec<u64> = own.into_iter().collect();
            let mut asked = asked;
            if sorted {
                asked.sort_unstable();
            }
            let vectors = Vectors::new(vec![0.0; own.len()], 1).unwrap();
            let rows = ExactIndex::build(&own, &vectors, Metric::L2).unwrap().rows_of(&asked);
            prop_assert_eq!(rows.n_rows(), own.len());
            for (row, id) in own.iter().enumerate() {
                prop_assert_eq!(rows.contains(row), asked.contains(id));
            }
        }
    }
}

/// What grew is written as what it would have been, less the rows that went; a damaged base is not copied under a new checksum.
#[test]
fn a_grown_index_is_written_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.idx"), folder.path().join("new.idx"));
    let (vectors, ids) = (whole(300, 20, 5), ids(300));
    let rows = |from: usize, to: usize| Vectors::new(vectors.data()[from * 20..to * 20].to_vec(), 20).unwrap();
    ExactIndex::build(&ids[..200], &rows(0, 200), Metric::Cosine).unwrap().write(&old, 4).unwrap();
    let base = Arc::new(ExactIndex::open(&old).unwrap().0);
    let grown = GrownIndex::new(base).with_more(&ids[200..], &rows(200, 300)).unwrap();
    assert_eq!((grown.len(), grown.n_tail(), grown.last_id()), (300, 100, Some(ids[299])));
    assert!(matches!(grown.with_more(&[ids[299]], &rows(0, 1)), Err(BuildError::Order { row: 300, .. })));
    let mut keep = RowSet::new(300);
    (0..300).filter(|row| row % 7 != 0).for_each(|row| keep.insert(row));
    grown.write(&new, &keep, 9).unwrap();
    let (written, stamp) = ExactIndex::open(&new).unwrap();
    written.verify().unwrap();
    assert_eq!((written.len(), stamp), (keep.count(), 9));
    for (at, row) in keep.iter().enumerate() {
        assert_eq!((written.ids()[at], written.vector(at)), (grown.id(row), grown.vector(row)));
        assert_eq!(grown.row_of(ids[row]), Some(row));
    }
    assert_eq!(grown.rows_of(&keep.iter().map(|row| ids[row]).collect::<Vec<_>>()), keep);

    let mut bytes = std::fs::read(&old).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&old, bytes).unwrap();
    let base = Arc::new(ExactIndex::open(&old).unwrap().0);
    let damaged = GrownIndex::new(base).write(&new, &RowSet::new(200), 10);
    assert!(matches!(damaged, Err(FileError::Damaged { .. })));
    assert_eq!(ExactIndex::open(&new).unwrap().1, 9);
}
