//! Exact search of binary codes by multi-index hashing: looks only at codes that share nearly all of some run of bits with the query.
//!
//! # Reference
//! M. Norouzi, A. Punjani, D. J. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012; and, for radii that differ
//! between the runs, J. Qin et al., "GPH: Similarity Search in Hamming Space", ICDE 2018. Differs from them in how the next bucket is
//! chosen, how a code found twice is known, and in giving up in favour of a scan: see below.
//!
//! # Model
//! The bits are cut into `m` runs of about `log2 (n / 8)` bits, and a table for each run holds all rows sorted by it (`buckets.rs`). The
//! *shell* `q` of a table is all rows that differ from the query in exactly `q` bits of its run. Say that of table `j` the shells
//! `0 .. s_j` have been searched. A row not yet found differs in at least `s_j` bits of each run `j`, hence in at least
//! `s_1 + ... + s_m` bits. So *each shell searched, of whichever table, proves one more distance*: after `s` of them all rows nearer
//! than `s` are known. A search for radius `r` ends after `r + 1` shells, one for the best `k` as soon as the `k`-th distance found
//! is below their number; then all rows at that distance are known too, and ties go by id.
//!
//! - The next shell is the one that costs least by estimate, not the next in turn: real codes fill buckets unevenly.
//! - A row comes up in several tables. It counts where it was found first: in the shell of table `j` only if in every other run `i`
//!   it differs in at least `s_i` bits. That is asked of rows near enough to be answers, which are few, and takes no memory: a bitmap
//!   of the rows found would take `n` bits per thread and a cache miss for every candidate. The same bound sharpens the look into
//!   buckets: to the differences that an entry shows come at least `s_i` for each run `i` of which it knows nothing.
//!
//! # Tables or scan
//! Where the nearest codes are far away the shells become larger than the base, and [`HammingIndex`], which looks at everything, is
//! faster. Nanoseconds of both are estimated: a shell is its number of buckets times the price of one plus its entries times theirs,
//! the entries being counted up to shell 1 and estimated from 16 of its buckets further out; a scan is its words at the price of the
//! kernel and of memory, shared by the queries of the batch. The shells still needed are those up to the `k`-th distance found so
//! far, an upper bound that sinks. When they cost more than the scan, and an eighth of its cost has been spent on bringing
//! that bound down, the query is handed to the scan; queries handed over are scanned together. The estimate decides how long an answer
//! takes and never what it is.
//!
//! # Cost
//! Memory beside that of [`HammingIndex`] (`8 * ceil(n_bits / 64) + 8` bytes per code): 8 bytes per table and code and less than 1 for
//! where buckets begin; with ten million codes of 64 bits and 4 tables 48 bytes per code in all, with 128 bits and 7 tables 81, with 256
//! bits and 13 tables 149. Building is two counting sorts per table, tables in parallel; 10 more bytes per code for each at work.
//!
//! Tables are made for up to [`MultiIndexHamming::TABLE_BITS`] bits and fewer than 2^32 codes; beyond, every search scans.
//!
//! # Determinism
//! The answers are those of [`HammingIndex`], bit for bit and in the same order, whatever the route, threads, batch or instruction set.
//!
//! # Errors
//! Those of [`HammingIndex`].
//!
//! # Example
//! ```
//! use chiasm_core::SearchOptions;
//! use chiasm_index::{Codes, MultiIndexHamming};
//!
//! let index = MultiIndexHamming::build(&[10, 20, 30], &Codes::from_words(4, vec![0b0000, 0b0011, 0b1111])?)?;
//! let query = Codes::from_words(4, vec![0b0001])?;
//! let hits = index.search(&query, 2, &SearchOptions::default())?.remove(0);
//! assert_eq!(hits.iter().map(|hit| (hit.id, hit.distance)).collect::<Vec<_>>(), [(10, 1), (20, 1)]);
//! assert_eq!(index.within(&query, 1, &SearchOptions::default())?[0], hits);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BinaryHeap;

use chiasm_core::{RowSet, SearchError, SearchOptions};
use rayon::prelude::*;

use crate::buckets::{Table, distances_of};
use crate::codes::Codes;
use crate::exact::BuildError;
use crate::hamming::{CodeHit, HammingIndex, QUERY_BLOCK};
use crate::popcount::{CodeKernel, GROUP_ROWS};

/// Rows that a bucket of random codes should hold at least: finding a bucket takes as long as looking at some twenty of its entries.
const BUCKET_ROWS: f64 = 8.0;

/// The shortest run: below it tables would be many and their buckets as full as the base.
const RUN_BITS_MIN: f64 = 8.0;

/// Estimated time of a bucket, of an entry in it, and of a row whose code is read. Measured on one core of a server (AMD Zen 3) with ten
/// million codes; only the relation to the times of a scan matters.
const BUCKET_NS: f64 = 60.0;
const ENTRY_NS: f64 = 3.0;
const ROW_NS: f64 = 20.0;

/// Estimated time of eight bytes from memory, which a scan waits for once per block of queries.
const MEMORY_WORD_NS: f64 = 1.0;

/// Estimated time of a group that a filter lets a scan skip, and of one that it does not, beside its words.
const SKIPPED_GROUP_NS: f64 = 0.6;
const OPENED_GROUP_NS: f64 = 12.0;

/// A scan that takes no longer than this is over before the tables are asked what they cost.
const ASKING_NS: f64 = 3000.0;

/// Share of a scan's time that is spent on tables whatever the estimate says: what it buys is a better one.
const TRIAL: f64 = 0.125;

/// How a search goes about it; the answers are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By tables or by a scan, as the estimate has it.
    Estimate,
    /// By tables to the end, where there are any.
    Tables,
    /// By a scan.
    Scan,
}

/// Codes with their ids, in tables by runs of their bits.
pub struct MultiIndexHamming {
    scan: HammingIndex,
    tables: Vec<Table>,
    /// For each table those whose keys its entries know nothing of.
    unseen: Vec<Vec<usize>>,
    route: Route,
}

impl MultiIndexHamming {
    /// The longest codes for which tables are made: runs of longer ones would be so many that the tables take several times the
    /// memory of the codes.
    pub const TABLE_BITS: usize = 1024;

    /// An index in memory: code `i` is known as `ids[i]`.
    ///
    /// # Errors
    /// [`BuildError`] when the counts differ or the ids do not ascend strictly.
    pub fn build(ids: &[u64], codes: &Codes) -> Result<Self, BuildError> {
        let scan = HammingIndex::build(ids, codes)?;
        let tables: Vec<Table> = if codes.n_bits() <= Self::TABLE_BITS && u32::try_from(codes.n()).is_ok() {
            let run_bits = (codes.n().max(1) as f64 / BUCKET_ROWS).log2().max(RUN_BITS_MIN);
            let n_tables = (codes.n_bits() as f64 / run_bits).ceil() as usize;
            runs(codes.n_bits(), n_tables).into_par_iter().map(|(start, len)| Table::build(codes, start, len)).collect()
        } else {
            Vec::new()
        };
        let unseen_by = |table: &Table| (0..tables.len()).filter(|i| table.is_blind_to(&tables[*i])).collect();
        let unseen = tables.iter().map(unseen_by).collect();
        Ok(Self { scan, tables, unseen, route: Route::Estimate })
    }

    /// The same index, searched this way: for tests and measurements.
    pub fn with_route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// The same index, searched with this kernel: for tests and measurements, since every kernel gives the same answers.
    pub fn with_kernel(mut self, kernel: CodeKernel) -> Self {
        self.scan = self.scan.with_kernel(kernel);
        self
    }

    /// The codes and ids alone: what every search would scan.
    pub fn codes(&self) -> &HammingIndex {
        &self.scan
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.scan.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.scan.is_empty()
    }

    /// Bits per code.
    pub fn n_bits(&self) -> usize {
        self.scan.n_bits()
    }

    /// Number of tables.
    pub fn n_tables(&self) -> usize {
        self.tables.len()
    }

    /// Bytes that codes, ids and tables take.
    pub fn bytes(&self) -> usize {
        self.scan.bytes() + self.tables.iter().map(Table::bytes).sum::<usize>()
    }

    /// The best `k` rows for each query, by distance, then by id; fewer when fewer are allowed.
    ///
    /// # Errors
    /// [`SearchError`]: codes of another length, or a filter made for another index.
    pub fn search(&self, queries: &Codes, k: usize, options: &SearchOptions<'_>) -> Result<Vec<Vec<CodeHit>>, SearchError> {
        self.ranked(queries, k, self.n_bits() as u32, options)
    }

    /// All rows at a distance of at most `radius` from each query, by distance, then by id.
    ///
    /// # Errors
    /// [`SearchError`]: codes of another length, or a filter made for another index.
    pub fn within(&self, queries: &Codes, radius: u32, options: &SearchOptions<'_>) -> Result<Vec<Vec<CodeHit>>, SearchError> {
        self.ranked(queries, usize::MAX, radius, options)
    }

    /// The best `k` of those within `radius`.
    fn ranked(
        &self,
        queries: &Codes,
        k: usize,
        radius: u32,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<CodeHit>>, SearchError> {
        self.scan.check(queries, options)?;
        if k == 0 || self.tables.is_empty() || self.is_empty() || self.route == Route::Scan {
            return self.scan.ranked(queries, k, radius, options);
        }
        let radius = radius.min(self.n_bits() as u32);
        let scan_ns = if self.route == Route::Tables { f64::INFINITY } else { self.scan_ns(queries.n(), options.allow) };
        let answer = |scratch: &mut Scratch, q: usize| {
            let found =
                Search { index: self, query: queries.code(q), allow: options.allow, scan_ns }.run(k, radius, scratch)?;
            let hit = |key: u64| CodeHit { id: self.scan.ids()[key as u32 as usize], distance: (key >> 32) as u32 };
            Some(found.into_iter().map(hit).collect::<Vec<_>>())
        };
        let mut answers: Vec<Option<Vec<CodeHit>>> =
            (0..queries.n()).into_par_iter().map_init(|| Scratch::new(self), answer).collect();

        let mut rest = Codes::new(self.n_bits()).expect("the length of codes that are here");
        let missing: Vec<usize> = (0..queries.n()).filter(|q| answers[*q].is_none()).collect();
        missing.iter().for_each(|q| rest.push(queries.code(*q)).expect("a code of this length"));
        for (q, hits) in missing.into_iter().zip(self.scan.ranked(&rest, k, radius, options)?) {
            answers[q] = Some(hits);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Estimated nanoseconds per query of a scan of so many together.
    fn scan_ns(&self, n_queries: usize, allow: Option<&RowSet>) -> f64 {
        let words = self.n_bits().div_ceil(64) as f64;
        let word_ns = self.scan.kernel().word_ns() + MEMORY_WORD_NS / n_queries.clamp(1, QUERY_BLOCK) as f64;
        let rows = self.len() as f64;
        let Some(allow) = allow else { return rows * words * word_ns };
        // Rows drawn at random open a group unless all of it is left out.
        let groups = rows / GROUP_ROWS as f64;
        let opened = groups * (1.0 - (1.0 - allow.count() as f64 / rows).powi(GROUP_ROWS as i32));
        groups * SKIPPED_GROUP_NS + opened * (OPENED_GROUP_NS + GROUP_ROWS as f64 * words * word_ns)
    }
}

impl std::fmt::Debug for MultiIndexHamming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MultiIndexHamming({} x {} bits, {} tables)", self.len(), self.n_bits(), self.n_tables())
    }
}

/// Start and length of `n` runs that make up all bits, equally long or nearly so.
fn runs(n_bits: usize, n: usize) -> Vec<(usize, usize)> {
    (0..n).map(|i| (i * n_bits / n, (i + 1) * n_bits / n)).map(|(start, end)| (start, end - start)).collect()
}

/// What a thread uses again for its next query.
struct Scratch {
    /// The query's key in each table.
    keys: Vec<u32>,
    /// How many shells of each table were searched: the next one's weight.
    next: Vec<u32>,
    /// The same, further on: for looking ahead.
    ahead: Vec<u32>,
    /// Estimated nanoseconds of each table's shells, NaN where nobody asked.
    prices: Vec<Vec<f64>>,
    distances: Vec<u32>,
}

impl Scratch {
    fn new(index: &MultiIndexHamming) -> Self {
        let m = index.tables.len();
        let prices = index.tables.iter().map(|table| vec![f64::NAN; table.key_bits() as usize + 1]).collect();
        Self { keys: vec![0; m], next: vec![0; m], ahead: vec![0; m], prices, distances: Vec::new() }
    }
}

/// One query on its way through the tables.
struct Search<'a> {
    index: &'a MultiIndexHamming,
    query: &'a [u64],
    allow: Option<&'a RowSet>,
    scan_ns: f64,
}

impl Search<'_> {
    /// The best `k` within `radius` as ascending keys of [`Best`]; nothing when a scan is to do it.
    fn run(&self, k: usize, radius: u32, scratch: &mut Scratch) -> Option<Vec<u64>> {
        let tables = &self.index.tables;
        // Reading as many codes as are asked for is the least that tables do.
        let least_ns = if k == usize::MAX { 0.0 } else { k.min(self.index.len()) as f64 * ROW_NS };
        if least_ns.max(ASKING_NS) > self.scan_ns {
            return None;
        }
        for (table, key) in tables.iter().zip(&mut scratch.keys) {
            *key = table.key_of(self.query);
            table.prefetch(*key);
        }
        scratch.next.fill(0);
        scratch.prices.iter_mut().for_each(|prices| prices.fill(f64::NAN));
        let mut best = Best::new(k, radius);
        let (mut shells, mut spent_ns) = (0, 0.0);
        // All nearer than `shells` are known: enough when that includes the greatest distance of interest.
        while shells <= best.limit {
            let (j, price) = cheapest(tables, &scratch.keys, &scratch.next, &mut scratch.prices);
            let weight = scratch.next[j];
            if weight > tables[j].key_bits() {
                break; // This table has shown every row.
            }
            if spent_ns + price > TRIAL * self.scan_ns && self.rest_ns(best.limit + 1 - shells, scratch) > self.scan_ns {
                return None;
            }
            self.shell(j, weight, &scratch.next, &mut best, &mut scratch.distances);
            scratch.next[j] += 1;
            shells += 1;
            spent_ns += price;
        }
        Some(best.keys.into_sorted_vec())
    }

    /// Estimated nanoseconds of the next `n` shells, or of so many of them that a scan costs less.
    fn rest_ns(&self, n: u32, scratch: &mut Scratch) -> f64 {
        scratch.ahead.copy_from_slice(&scratch.next);
        let mut sum = 0.0;
        for _ in 0..n {
            let (j, price) = cheapest(&self.index.tables, &scratch.keys, &scratch.ahead, &mut scratch.prices);
            sum += price;
            scratch.ahead[j] += 1;
            // Behind its last shell, or past what a scan costs, nothing is left to know.
            if scratch.ahead[j] > self.index.tables[j].key_bits() || sum > self.scan_ns {
                break;
            }
        }
        sum
    }

    /// Searches one shell.
    fn shell(&self, j: usize, weight: u32, searched: &[u32], best: &mut Best, distances: &mut Vec<u32>) {
        let (tables, scan, path) = (&self.index.tables, &self.index.scan, self.index.scan.kernel().path());
        // A row that is new differs in every run at least by the shells searched there: so it has this many differences where the
        // entries of this table do not see them.
        let unseen: u32 = self.index.unseen[j].iter().map(|i| searched[*i]).sum();
        tables[j].shell(path, self.query, weight, best.limit.saturating_sub(unseen), |rows| {
            if let Some(allow) = self.allow {
                rows.retain(|row| allow.contains(*row as usize));
            }
            distances_of(path, scan.lines(), self.query, rows, distances);
            for (row, distance) in rows.iter().zip(&*distances) {
                if *distance <= best.limit && self.is_new(*row, j, searched) {
                    best.offer(*distance, *row);
                }
            }
            best.limit.saturating_sub(unseen)
        });
    }

    /// Whether no table but `j` has shown this row.
    fn is_new(&self, row: u32, j: usize, searched: &[u32]) -> bool {
        let mut differ = [0; MultiIndexHamming::TABLE_BITS / 64];
        self.index.scan.differences(row as usize, self.query, &mut differ);
        let of_others = self.index.tables.iter().zip(searched).enumerate().filter(|(i, _)| *i != j);
        of_others.into_iter().all(|(_, (table, searched))| table.key_of(&differ).count_ones() >= *searched)
    }
}

/// The table whose next shell costs least, the first of equals, and the price. One that has no shell left costs nothing.
fn cheapest(tables: &[Table], keys: &[u32], next: &[u32], prices: &mut [Vec<f64>]) -> (usize, f64) {
    let mut least = (0, f64::INFINITY);
    for (j, table) in tables.iter().enumerate() {
        let price = match prices[j].get_mut(next[j] as usize) {
            Some(price) if price.is_nan() => {
                *price = shell_ns(table, keys[j], next[j]);
                *price
            }
            Some(price) => *price,
            None => 0.0,
        };
        if price < least.1 {
            least = (j, price);
        }
    }
    least
}

/// Estimated nanoseconds of a shell.
fn shell_ns(table: &Table, key: u32, weight: u32) -> f64 {
    let buckets = (0..weight).fold(1.0, |n, i| n * f64::from(table.key_bits() - i) / f64::from(i + 1));
    buckets * (BUCKET_NS + ENTRY_NS * table.mean_bucket(key, weight))
}

/// The best `k` of what was offered, in any order.
struct Best {
    k: usize,
    /// Only distances up to it may enter.
    limit: u32,
    /// Distance, then row, in one number each; the worst on top.
    keys: BinaryHeap<u64>,
}

impl Best {
    fn new(k: usize, limit: u32) -> Self {
        Self { k, limit, keys: BinaryHeap::new() }
    }

    fn offer(&mut self, distance: u32, row: u32) {
        let key = u64::from(distance) << 32 | u64::from(row);
        if self.keys.len() < self.k {
            self.keys.push(key);
        } else if let Some(mut worst) = self.keys.peek_mut()
            && key < *worst
        {
            *worst = key;
        }
        if self.keys.len() == self.k
            && let Some(worst) = self.keys.peek()
        {
            self.limit = (worst >> 32) as u32;
        }
    }
}
