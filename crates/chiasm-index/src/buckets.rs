//! One table of multi-index hashing: rows sorted by some bits of their codes, and kernels that look into buckets.
//!
//! # Layout
//! A table's *key* is a run of bits of the code. Rows stand sorted by key, within a bucket in their order, and `offsets[key]` tells
//! where a bucket begins: two arrays and nothing per bucket. An entry is one word: the row in its low bits and, in all others, the
//! bits of the code that follow the key (going round at the end), its *sketch*. With ten million rows a row takes 24 bits and leaves
//! 40: of a code of 64 bits, the key of 16 and the sketch together know 56. So nearly every row that is too far is seen to be so
//! where it stands, next to the others of its bucket, and its code, somewhere in memory, is never read.
//!
//! # Kernels
//! A bucket is looked at eight entries at a time, beyond its end too: a mask forgets what was too much. Most buckets are short, and
//! a loop that ran from one to eight times would be foreseen wrongly at nearly every one of them.

use std::ops::Range;

use crate::codes::Codes;
use crate::pages::Pages;
use crate::popcount::{LINE_ROWS, Line, Path};

/// Entries looked at together, and how many zeros stand behind the last one.
const STEP: usize = 8;

/// Buckets whose addresses are asked for before the first of them is looked at.
pub(crate) const BATCH: usize = 32;

/// Entries of a bucket that are asked for while the one before it is looked at; from there on the processor sees where it goes.
const REST: usize = 512;

/// Buckets of a shell that are counted to estimate all of it.
const SAMPLES: usize = 16;

/// Rows sorted by one run of bits of their codes.
pub(crate) struct Table {
    key: Bits,
    sketch: Bits,
    n_bits: usize,
    row_bits: u32,
    /// Where each bucket begins, and behind them the number of rows.
    offsets: Pages<u32>,
    /// Sorted by key, then by row; behind them `STEP` zeros.
    entries: Pages<u64>,
    /// For each weight some masks of it, drawn once.
    samples: Vec<[u32; SAMPLES]>,
}

/// A run of bits of a code, which may go round at its end.
#[derive(Clone, Copy)]
struct Bits {
    start: usize,
    len: usize,
}

impl Table {
    /// Sorts rows by the `len` bits of their codes from bit `start` on: see the head of the file.
    ///
    /// # Panics
    /// For more rows than 32 bits count, and for a key of no bits, of more than 32, or beyond the end of the codes.
    pub(crate) fn build(codes: &Codes, start: usize, len: usize) -> Self {
        let (n, n_bits) = (codes.n(), codes.n_bits());
        assert!(u32::try_from(n).is_ok() && (1..=32).contains(&len) && start + len <= n_bits, "{n} rows, key {start} + {len}");
        let row_bits = (usize::BITS - n.leading_zeros()).max(1);
        let key = Bits { start, len };
        let sketch = Bits { start: (start + len) % n_bits, len: (n_bits - len).min(64 - row_bits as usize) };
        let rows = || codes.words().chunks_exact(codes.words_per_code());

        // Two counting sorts, by the key's high bits and then, part by part, by its low ones: each writes to a few thousand places,
        // which the caches hold, where one sort by the whole key would write to millions.
        let low_bits = len / 2;
        let high = |code: &[u64]| (key.of(code, n_bits) >> low_bits) as usize;
        let mut ends = vec![0usize; 1 << (len - low_bits)];
        rows().for_each(|code| ends[high(code)] += 1);
        let mut sum = 0;
        ends.iter_mut().for_each(|end| sum += std::mem::replace(end, sum));
        let (mut parts, mut lows) = (Pages::<u64>::zeros(n), vec![0u16; n]);
        for (row, code) in rows().enumerate() {
            let place = &mut ends[high(code)];
            parts[*place] = sketch.of(code, n_bits) << row_bits | row as u64;
            lows[*place] = (key.of(code, n_bits) & low(low_bits)) as u16;
            *place += 1;
        }
        let mut offsets = Pages::<u32>::zeros((1 << len) + 1);
        let mut entries = Pages::<u64>::zeros(n + STEP);
        let mut places = vec![0usize; 1 << low_bits];
        let mut start = 0;
        for (end, offsets) in ends.iter().zip(offsets.chunks_exact_mut(1 << low_bits)) {
            places.fill(0);
            lows[start..*end].iter().for_each(|low| places[*low as usize] += 1);
            let mut sum = start;
            for (place, offset) in places.iter_mut().zip(offsets) {
                *offset = sum as u32;
                sum += std::mem::replace(place, sum);
            }
            for (entry, low) in parts[start..*end].iter().zip(&lows[start..*end]) {
                entries[places[*low as usize]] = *entry;
                places[*low as usize] += 1;
            }
            start = *end;
        }
        offsets[1 << len] = n as u32;
        Self {
            key,
            sketch,
            n_bits,
            row_bits,
            offsets,
            entries,
            samples: (0..=len).map(|weight| samples(len, weight)).collect(),
        }
    }

    /// Bits of a key.
    pub(crate) fn key_bits(&self) -> u32 {
        self.key.len as u32
    }

    /// Whether neither key nor sketch has a bit of another table's key.
    pub(crate) fn is_blind_to(&self, other: &Self) -> bool {
        let seen = self.key.len + self.sketch.len;
        (0..other.key.len).all(|i| (other.key.start + i + self.n_bits - self.key.start) % self.n_bits >= seen)
    }

    /// A code's key; of the bits in which two codes differ, those of the key.
    pub(crate) fn key_of(&self, code: &[u64]) -> u32 {
        self.key.of(code, self.n_bits) as u32
    }

    /// Bytes of the two arrays.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.offsets[..]) + size_of_val(&self.entries[..])
    }

    /// Asks for what [`Table::mean_bucket`] reads of the shells nearest to a key.
    pub(crate) fn prefetch(&self, key: u32) {
        prefetch(&self.offsets, key as usize);
        // Keys that differ in one of the lowest four bits mostly share the cache line.
        (4..self.key.len).for_each(|bit| prefetch(&self.offsets, (key ^ 1 << bit) as usize));
    }

    /// Entries per bucket at distance `weight` from a key: exact up to one, else by a sample.
    pub(crate) fn mean_bucket(&self, key: u32, weight: u32) -> f64 {
        let entries: usize = match weight {
            0 => self.bucket(key).len(),
            1 => (0..self.key.len).map(|bit| self.bucket(key ^ 1 << bit).len()).sum(),
            _ => self.samples[weight as usize].iter().map(|mask| self.bucket(key ^ mask).len()).sum(),
        };
        let buckets = match weight {
            0 => 1,
            1 => self.key.len,
            _ => SAMPLES,
        };
        entries as f64 / buckets as f64
    }

    fn bucket(&self, key: u32) -> Range<usize> {
        self.offsets[key as usize] as usize..self.offsets[key as usize + 1] as usize
    }

    /// Looks at all rows whose keys differ from the query's in exactly `weight` bits. Batch by batch it calls `take` with rows that
    /// may be close, and learns from it the greatest difference in key and sketch that is of interest from now on, which at first is
    /// `limit`. No row at or below it is left out.
    pub(crate) fn shell(&self, path: Path, query: &[u64], weight: u32, limit: u32, mut take: impl FnMut(&mut Vec<u32>) -> u32) {
        let pattern = self.sketch.of(query, self.n_bits) << self.row_bits;
        let mask = low(self.sketch.len) << self.row_bits;
        let mut limit = limit;
        let mut keys = Keys::new(self.key_of(query), self.key.len as u32, weight);
        let mut rows: Vec<u32> = Vec::with_capacity(2 * BATCH);
        // Memory answers late. So keys, the places of their buckets and what is in these are each asked for a batch ahead.
        let (mut asked, mut buckets) = ([0u32; BATCH], [(0u32, 0u32); BATCH]);
        let (mut n_asked, mut n_buckets) = (self.ask(&mut keys, &mut asked), 0);
        while n_asked + n_buckets > 0 {
            let mut coming = [(0u32, 0u32); BATCH];
            let mut n_coming = 0;
            for key in &asked[..n_asked] {
                let bucket = self.bucket(*key);
                if !bucket.is_empty() {
                    prefetch(&self.entries, bucket.start);
                    prefetch(&self.entries, bucket.end - 1);
                    coming[n_coming] = (bucket.start as u32, bucket.end as u32);
                    n_coming += 1;
                }
            }
            n_asked = self.ask(&mut keys, &mut asked);
            // The key alone has `weight` bits of difference.
            let most = limit.saturating_sub(weight);
            near(
                path,
                &self.entries,
                &buckets[..n_buckets],
                Sketch { pattern, mask, most, row_bits: self.row_bits },
                &mut rows,
            );
            if !rows.is_empty() {
                limit = take(&mut rows);
                rows.clear();
            }
            (buckets, n_buckets) = (coming, n_coming);
        }
    }

    /// The next keys, their offsets being asked for.
    fn ask(&self, keys: &mut Keys, asked: &mut [u32; BATCH]) -> usize {
        let mut n = 0;
        // Places first: a place without a key is nothing lost, a key without a place would be.
        for (place, key) in asked.iter_mut().zip(keys) {
            prefetch(&self.offsets, key as usize);
            *place = key;
            n += 1;
        }
        n
    }
}

impl Bits {
    fn of(self, code: &[u64], n_bits: usize) -> u64 {
        let first = self.len.min(n_bits - self.start);
        let head = run(code, self.start, first);
        if first == self.len { head } else { head | run(code, 0, self.len - first) << first }
    }
}

/// At most 64 bits of a code from bit `start` on.
fn run(code: &[u64], start: usize, len: usize) -> u64 {
    let (word, shift) = (start / 64, start % 64);
    let mut bits = code[word] >> shift;
    if shift + len > 64 {
        bits |= code[word + 1] << (64 - shift);
    }
    bits & low(len)
}

/// A word whose lowest `len` bits are set.
fn low(len: usize) -> u64 {
    u64::MAX.checked_shr(64 - len as u32).unwrap_or(0)
}

/// Masks of `weight` of `len` bits, drawn by a generator that starts the same each time.
fn samples(len: usize, weight: usize) -> [u32; SAMPLES] {
    let mut state = (len * 64 + weight) as u64;
    std::array::from_fn(|_| {
        let mut mask = 0u32;
        while mask.count_ones() < weight as u32 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            mask |= 1 << ((state >> 33) % len as u64);
        }
        mask
    })
}

/// The keys that differ from one in exactly so many bits. Neighbours among them differ in low bits, so their offsets and entries are
/// near each other.
struct Keys {
    key: u32,
    /// The next difference; `end` or more when there is none.
    mask: u64,
    end: u64,
}

impl Keys {
    fn new(key: u32, len: u32, weight: u32) -> Self {
        let end = 1 << len;
        Self { key, mask: if weight > len { end } else { low(weight as usize) }, end }
    }
}

impl Iterator for Keys {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mask = self.mask;
        if mask >= self.end {
            return None;
        }
        // The next greater number of as many ones (Gosper); no ones, no next.
        self.mask = if mask == 0 {
            self.end
        } else {
            let up = mask + (mask & mask.wrapping_neg());
            up | ((up ^ mask) >> 2) >> mask.trailing_zeros()
        };
        Some(self.key ^ mask as u32)
    }
}

/// What an entry's sketch is compared with: it is near when at most `most` bits under `mask` differ from `pattern`.
#[derive(Clone, Copy)]
struct Sketch {
    pattern: u64,
    mask: u64,
    most: u32,
    row_bits: u32,
}

impl Sketch {
    fn row(self, entry: u64) -> u32 {
        (entry & low(self.row_bits as usize)) as u32
    }
}

/// Adds the rows of all near entries of some buckets to `rows`.
fn near(path: Path, entries: &[u64], buckets: &[(u32, u32)], sketch: Sketch, rows: &mut Vec<u32>) {
    let last = buckets.iter().map(|bucket| bucket.1).max().unwrap_or(0);
    assert!(last as usize + STEP <= entries.len(), "a step may go beyond the last bucket's end");
    match path {
        // SAFETY: a `Path` exists only for what the machine has, and it was just seen that a step beyond any bucket's end is still there.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { avx512::near(entries, buckets, sketch, rows) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { avx2::near(entries, buckets, sketch, rows) },
        #[cfg(target_arch = "aarch64")]
        Path::Neon => scalar_near(entries, buckets, sketch, rows),
        Path::Scalar => scalar_near(entries, buckets, sketch, rows),
    }
}

/// The definition, which the vector paths follow.
fn scalar_near(entries: &[u64], buckets: &[(u32, u32)], sketch: Sketch, rows: &mut Vec<u32>) {
    for (i, (start, end)) in buckets.iter().enumerate() {
        prefetch_rest(entries, buckets.get(i + 1));
        for entry in &entries[*start as usize..*end as usize] {
            if ((entry ^ sketch.pattern) & sketch.mask).count_ones() <= sketch.most {
                rows.push(sketch.row(*entry));
            }
        }
    }
}

/// Asks for what a batch ahead was too early for: the bucket after the one that is now looked at, but for its first and last lines.
#[inline(always)]
fn prefetch_rest(entries: &[u64], bucket: Option<&(u32, u32)>) {
    if let Some((start, end)) = bucket {
        let (start, end) = (*start as usize + STEP, *end as usize);
        (start..end.min(start + REST)).step_by(STEP).for_each(|at| prefetch(entries, at));
    }
}

/// Of eight entries from `at` on, those before `end`.
#[cfg(target_arch = "x86_64")]
fn before(at: usize, end: usize) -> u32 {
    0xff >> (STEP - STEP.min(end - at))
}

/// A register holds the eight entries of a step.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{STEP, Sketch, before, prefetch_rest};

    /// # Safety
    /// The machine has AVX-512F and VPOPCNTDQ; no bucket ends later than `STEP` before the end of the entries.
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    pub(super) unsafe fn near(entries: &[u64], buckets: &[(u32, u32)], sketch: Sketch, rows: &mut Vec<u32>) {
        let (pattern, mask) = (_mm512_set1_epi64(sketch.pattern as i64), _mm512_set1_epi64(sketch.mask as i64));
        let most = _mm512_set1_epi64(i64::from(sketch.most));
        for (i, (start, end)) in buckets.iter().enumerate() {
            prefetch_rest(entries, buckets.get(i + 1));
            let end = *end as usize;
            for at in (*start as usize..end).step_by(STEP) {
                // SAFETY: at < end, and eight entries follow the end.
                let x = unsafe { _mm512_loadu_si512(entries.as_ptr().add(at).cast()) };
                let ones = _mm512_popcnt_epi64(_mm512_and_si512(_mm512_xor_si512(x, pattern), mask));
                let mut near = u32::from(_mm512_cmple_epu64_mask(ones, most)) & before(at, end);
                while near != 0 {
                    rows.push(sketch.row(entries[at + near.trailing_zeros() as usize]));
                    near &= near - 1;
                }
            }
        }
    }
}

/// Two registers hold the eight entries of a step.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{STEP, Sketch, before, prefetch_rest};

    /// # Safety
    /// The machine has AVX2; no bucket ends later than `STEP` before the end of the entries.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn near(entries: &[u64], buckets: &[(u32, u32)], sketch: Sketch, rows: &mut Vec<u32>) {
        let (pattern, mask) = (_mm256_set1_epi64x(sketch.pattern as i64), _mm256_set1_epi64x(sketch.mask as i64));
        let most = _mm256_set1_epi64x(i64::from(sketch.most));
        let low = _mm256_set1_epi8(0x0f);
        let table = _mm256_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, //
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        );
        // A bit for each of four entries that are too far.
        let far = |at: usize| {
            // SAFETY: the callers below keep `at` four entries before the end of all.
            let x = unsafe { _mm256_loadu_si256(entries.as_ptr().add(at).cast()) };
            let differ = _mm256_and_si256(_mm256_xor_si256(x, pattern), mask);
            let of_low = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, low));
            let of_high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(differ), low));
            let ones = _mm256_sad_epu8(_mm256_add_epi8(of_low, of_high), _mm256_setzero_si256());
            _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(ones, most))) as u32
        };
        for (i, (start, end)) in buckets.iter().enumerate() {
            prefetch_rest(entries, buckets.get(i + 1));
            let end = *end as usize;
            for at in (*start as usize..end).step_by(STEP) {
                // at < end, and eight entries follow the end.
                let mut near = !(far(at) | far(at + 4) << 4) & before(at, end);
                while near != 0 {
                    rows.push(sketch.row(entries[at + near.trailing_zeros() as usize]));
                    near &= near - 1;
                }
            }
        }
    }
}

/// Distances of some rows from a query, in their order, the codes being lines as in `popcount.rs`.
pub(crate) fn distances_of(path: Path, lines: &[Line], query: &[u64], rows: &[u32], out: &mut Vec<u32>) {
    rows.iter().for_each(|row| prefetch(lines, *row as usize / LINE_ROWS * query.len()));
    out.clear();
    match path {
        // SAFETY: these paths exist only where the machine has POPCNT too.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 | Path::Avx2 => unsafe { distances_popcnt(lines, query, rows, out) },
        #[cfg(target_arch = "aarch64")]
        Path::Neon => distances_plain(lines, query, rows, out),
        Path::Scalar => distances_plain(lines, query, rows, out),
    }
}

/// # Safety
/// The machine has POPCNT.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
unsafe fn distances_popcnt(lines: &[Line], query: &[u64], rows: &[u32], out: &mut Vec<u32>) {
    distances_plain(lines, query, rows, out);
}

#[inline(always)]
fn distances_plain(lines: &[Line], query: &[u64], rows: &[u32], out: &mut Vec<u32>) {
    out.extend(rows.iter().map(|row| {
        let (first, place) = (*row as usize / LINE_ROWS * query.len(), *row as usize % LINE_ROWS);
        let lines = &lines[first..first + query.len()];
        lines.iter().zip(query).map(|(line, q)| (line.0[place] ^ q).count_ones()).sum::<u32>()
    }));
}

/// Asks for memory that will be read soon.
#[inline(always)]
fn prefetch<T>(of: &[T], at: usize) {
    let place = of.as_ptr().wrapping_add(at);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and may name any address.
    unsafe {
        use std::arch::x86_64::*;
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place; // Stable Rust knows no hint for other processors.
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::popcount::CodeKernel;

    fn random(seed: u64, n: usize) -> Vec<u64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 32
        };
        (0..n).map(|_| next() << 32 | next()).collect()
    }

    #[test]
    fn keys_are_all_of_their_weight() {
        for len in [1, 2, 5, 13] {
            let mut seen = vec![0; 1 << len];
            for weight in 0..=len + 1 {
                for key in Keys::new(1, len, weight) {
                    assert_eq!((key ^ 1).count_ones(), weight);
                    seen[key as usize] += 1;
                }
            }
            assert!(seen.iter().all(|times| *times == 1), "{len} bits");
        }
        assert_eq!(Keys::new(0, 32, 32).collect::<Vec<_>>(), [u32::MAX]);
        assert_eq!(Keys::new(0, 32, 31).count(), 32);
    }

    #[test]
    fn bits_go_round_and_across_words() {
        let n_bits = 100;
        let code = [0x0123_4567_89ab_cdef, 0xf_edcb_a987];
        let bit = |j: usize| code[j / 64] >> (j % 64) & 1;
        for start in 0..n_bits {
            for len in 0..=64 {
                let expected = (0..len).fold(0, |bits, i| bits | bit((start + i) % n_bits) << i);
                assert_eq!(Bits { start, len }.of(&code, n_bits), expected, "{start} + {len}");
            }
        }
    }

    #[test]
    fn every_path_finds_the_same_in_a_shell() {
        for (n, n_bits, start, len) in
            [(0, 40usize, 0, 8), (1, 8, 0, 8), (600, 70, 3, 1), (700, 32, 11, 9), (5000, 64, 54, 10), (3000, 100, 60, 8)]
        {
            let words = n_bits.div_ceil(64);
            let last = low(n_bits - 64 * (words - 1));
            let trim = |mut words_of: Vec<u64>| {
                words_of.iter_mut().skip(words - 1).step_by(words).for_each(|word| *word &= last);
                words_of
            };
            let codes = Codes::from_words(n_bits, trim(random(n as u64, n * words))).unwrap();
            let query = trim(random(9, words));
            let table = Table::build(&codes, start, len);
            let lines = crate::popcount::lines_of(codes.words(), words);
            let distance = |row: usize| codes.code(row).iter().zip(&query).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
            for limit in [0, n_bits as u32 / 3, n_bits as u32 / 2, n_bits as u32] {
                let mut all = 0;
                for weight in 0..=len as u32 {
                    let key = |row: usize| table.key_of(codes.code(row));
                    let in_shell = |row: &usize| (key(*row) ^ table.key_of(&query)).count_ones() == weight;
                    let expected: Vec<usize> = (0..n).filter(in_shell).collect();
                    for kernel in CodeKernel::available() {
                        let mut found = Vec::new();
                        table.shell(kernel.path(), &query, weight, limit, |rows| {
                            let mut distances = Vec::new();
                            distances_of(kernel.path(), &lines, &query, rows, &mut distances);
                            assert!(rows.iter().zip(&distances).all(|(row, d)| *d == distance(*row as usize)));
                            found.extend(rows.iter().map(|row| *row as usize));
                            limit
                        });
                        found.sort_unstable();
                        let near: Vec<usize> = expected.iter().copied().filter(|row| distance(*row) <= limit).collect();
                        assert!(found.iter().all(|row| expected.contains(row)), "{} of {n_bits} bits", kernel.as_str());
                        assert!(near.iter().all(|row| found.contains(row)), "{} of {n_bits} bits", kernel.as_str());
                        if limit == n_bits as u32 {
                            assert_eq!(found, expected);
                        }
                    }
                    all += expected.len();
                    if weight < 2 {
                        let buckets = if weight == 0 { 1.0 } else { len as f64 };
                        assert_eq!(table.mean_bucket(table.key_of(&query), weight), expected.len() as f64 / buckets);
                    }
                }
                assert_eq!(all, n);
            }
        }
    }
}
