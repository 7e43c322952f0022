//! Multi-index hashing against the scan, which is tested against a count bit by bit: the same answers in the same order, by tables
//! alone and as the estimate has it.

use chiasm_core::{RowSet, SearchError, SearchOptions};
use chiasm_index::{BuildError, CodeHit, CodeKernel, Codes, HammingIndex, MultiIndexHamming, Route};
use proptest::prelude::*;

/// Random numbers: the same for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Codes around `n_centres` random ones, each bit turned over with a chance of `turned` in 64; `n_centres` of 0 gives random codes.
fn codes(n: usize, n_bits: usize, seed: u64, n_centres: usize, turned: u64) -> Codes {
    let mut centres = Random(7);
    let centres: Vec<Vec<bool>> = (0..n_centres).map(|_| (0..n_bits).map(|_| centres.below(2) == 1).collect()).collect();
    let mut random = Random(seed);
    let mut words = Vec::new();
    for _ in 0..n {
        let centre = if n_centres == 0 { None } else { Some(&centres[random.below(n_centres as u64) as usize]) };
        let mut code = vec![0u64; n_bits.div_ceil(64)];
        for j in 0..n_bits {
            let bit = match centre {
                None => random.below(2) == 1,
                Some(centre) => centre[j] ^ (random.below(64) < turned),
            };
            code[j / 64] |= u64::from(bit) << (j % 64);
        }
        words.extend(code);
    }
    Codes::from_words(n_bits, words).unwrap()
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).map(|i| 3 * i + 7).collect()
}

fn both(base: &Codes) -> (HammingIndex, MultiIndexHamming) {
    (HammingIndex::build(&ids(base.n()), base).unwrap(), MultiIndexHamming::build(&ids(base.n()), base).unwrap())
}

fn set(n: usize, keep: impl Fn(usize) -> bool) -> RowSet {
    let mut rows = RowSet::new(n);
    (0..n).filter(|row| keep(*row)).for_each(|row| rows.insert(row));
    rows
}

const LENGTHS: [usize; 9] = [1, 8, 32, 48, 64, 100, 128, 256, 512];

#[test]
fn every_radius_and_every_k() {
    for n_bits in LENGTHS {
        // Random codes; tight clusters, so that codes are equal; one cluster in the middle of random ones is what `like` makes.
        for (n, n_centres, turned) in [(300, 0, 0), (500, 4, 1), (400, 20, 6)] {
            let base = codes(n, n_bits, 1, n_centres, turned);
            let queries = codes(3, n_bits, 2, n_centres, turned);
            let (scan, mut index) = both(&base);
            let allow = set(n, |row| row % 3 != 1);
            for route in [Route::Tables, Route::Estimate] {
                index = index.with_route(route);
                for allow in [None, Some(&allow)] {
                    let options = SearchOptions { allow };
                    for radius in (0..=n_bits as u32 + 1).step_by(1 + n_bits / 130) {
                        let expected = scan.within(&queries, radius, &options).unwrap();
                        assert_eq!(
                            index.within(&queries, radius, &options).unwrap(),
                            expected,
                            "{n_bits} bits, radius {radius}"
                        );
                    }
                    for k in (0..30).chain([100, n - 1, n, n + 1, usize::MAX]) {
                        let expected = scan.search(&queries, k, &options).unwrap();
                        assert_eq!(index.search(&queries, k, &options).unwrap(), expected, "{n_bits} bits, k = {k}");
                    }
                }
            }
        }
    }
}

/// Enough codes that the estimate takes tables for some queries and the scan for others.
#[test]
fn nothing_but_the_question_decides_the_answer() {
    let n = 30_000;
    for n_bits in [32, 64, 130, 256] {
        let mut base = codes(n / 2, n_bits, 3, 50, 3);
        base.extend(&codes(n / 2, n_bits, 4, 0, 0)).unwrap();
        let mut queries = codes(20, n_bits, 5, 50, 3);
        queries.extend(&codes(20, n_bits, 6, 0, 0)).unwrap();
        let (scan, _) = both(&base);
        let filters =
            [None, Some(set(n, |row| row % 2 == 0)), Some(set(n, |row| row % 97 == 5)), Some(set(n, |row| row == n - 1))];
        let filters = filters.into_iter().chain([Some(RowSet::new(n))]);
        for allow in filters {
            let options = SearchOptions { allow: allow.as_ref() };
            let top = scan.search(&queries, 10, &options).unwrap();
            let near = scan.within(&queries, n_bits as u32 / 10, &options).unwrap();
            for kernel in CodeKernel::available() {
                let mut index = both(&base).1.with_kernel(kernel);
                for route in [Route::Tables, Route::Estimate, Route::Scan] {
                    // By tables alone the far queries of long codes would look at every bucket there is.
                    let queries = if route == Route::Tables && n_bits > 64 { &codes(20, n_bits, 5, 50, 3) } else { &queries };
                    index = index.with_route(route);
                    for threads in [1, 3] {
                        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                        let found = pool.install(|| index.search(queries, 10, &options)).unwrap();
                        assert_eq!(found, top[..queries.n()], "{n_bits} bits, {route:?}, {}", kernel.as_str());
                        let found = pool.install(|| index.within(queries, n_bits as u32 / 10, &options)).unwrap();
                        assert_eq!(found, near[..queries.n()], "{n_bits} bits, {route:?}, {}", kernel.as_str());
                    }
                }
                let alone = Codes::from_words(n_bits, queries.code(19).to_vec()).unwrap();
                assert_eq!(index.search(&alone, 10, &options).unwrap()[0], top[19], "alone");
            }
        }
    }
}

#[test]
fn equal_codes_come_by_id() {
    let same = Codes::from_words(70, [1, 2].repeat(5000)).unwrap();
    let query = Codes::from_words(70, vec![0, 0]).unwrap();
    for route in [Route::Tables, Route::Estimate] {
        let hits = both(&same).1.with_route(route).search(&query, 100, &SearchOptions::default()).unwrap().remove(0);
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), ids(100));
        assert!(hits.iter().all(|hit| hit.distance == 2));
    }
}

#[test]
fn edges_are_answers_or_errors() {
    let options = SearchOptions::default();
    let (none, some) = (Codes::new(40).unwrap(), codes(5, 40, 11, 0, 0));
    let empty = both(&none).1.with_route(Route::Tables);
    assert!(empty.is_empty());
    assert_eq!(empty.search(&some, 3, &options).unwrap(), vec![Vec::<CodeHit>::new(); 5]);
    let index = both(&some).1.with_route(Route::Tables);
    assert_eq!((index.len(), index.n_bits(), index.n_tables()), (5, 40, 5));
    assert!(index.search(&none, 3, &options).unwrap().is_empty());
    let other = codes(1, 41, 12, 0, 0);
    assert_eq!(index.search(&other, 1, &options), Err(SearchError::Dimension { got: 41, expected: 40 }));
    assert_eq!(index.within(&other, 1, &options), Err(SearchError::Dimension { got: 41, expected: 40 }));
    let foreign = RowSet::new(6);
    let refused = index.search(&some, 1, &SearchOptions { allow: Some(&foreign) });
    assert_eq!(refused, Err(SearchError::Filter { got: 6, expected: 5 }));
    assert_eq!(MultiIndexHamming::build(&[1, 2], &some).unwrap_err(), BuildError::Count { ids: 2, vectors: 5 });
    let order = MultiIndexHamming::build(&[1, 2, 3, 3, 4], &some).unwrap_err();
    assert_eq!(order, BuildError::Order { row: 3, id: 3, previous: 3 });

    // Beyond the lengths that tables are made for, the scan answers.
    let long = codes(50, MultiIndexHamming::TABLE_BITS + 1, 13, 3, 2);
    let (scan, index) = both(&long);
    assert_eq!((index.n_tables(), index.bytes()), (0, scan.bytes()));
    assert_eq!(index.with_route(Route::Tables).search(&long, 3, &options), scan.search(&long, 3, &options));
}

/// What the head of the file says of memory.
#[test]
fn memory_is_what_is_said() {
    for n_bits in [32, 64, 100, 256, 512] {
        let index = both(&codes(5000, n_bits, 14, 0, 0)).1;
        let per_code = (index.bytes() - index.codes().bytes()) as f64 / 5000.0;
        assert!(
            per_code > 8.0 * index.n_tables() as f64 && per_code < 9.0 * index.n_tables() as f64,
            "{n_bits} bits: {per_code}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_question_has_the_answer_of_the_scan(
        n in 0usize..3000, length in 0usize..LENGTHS.len(), seed in any::<u64>(), n_centres in 0usize..30, turned in 0u64..32,
        k in 0usize..60, share in 0.0f64..0.5, every in 1usize..50,
    ) {
        let n_bits = LENGTHS[length];
        let base = codes(n, n_bits, seed, n_centres, turned);
        let queries = codes(3, n_bits, seed ^ 1, n_centres, turned);
        let (scan, mut index) = both(&base);
        let allow = set(n, |row| row % every == 0);
        let radius = (share * n_bits as f64) as u32;
        for route in [Route::Tables, Route::Estimate] {
            index = index.with_route(route);
            for allow in [None, Some(&allow)] {
                let options = SearchOptions { allow };
                prop_assert_eq!(index.search(&queries, k, &options), scan.search(&queries, k, &options));
                prop_assert_eq!(index.within(&queries, radius, &options), scan.within(&queries, radius, &options));
            }
        }
    }
}
