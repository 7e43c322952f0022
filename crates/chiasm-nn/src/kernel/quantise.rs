//! Numbers to the words that kernels multiply.

use pulp::NullaryFnOnce;

use super::Precision;
use super::isa::Word;
use crate::simd::{sum_of, widest};

/// What a row of integers stands for: `unit * q + offset`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowScale {
    pub(super) unit: f32,
    pub(super) offset: f32,
}

/// Rounds to the nearest bfloat16, ties to even. What is not finite stays so.
#[inline(always)]
pub(super) fn bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN whose fraction lies low must not be rounded to infinity, nor carried to a number.
    (if v.is_nan() { bits | 0x40_0000 } else { rounded } >> 16) as u16
}

/// A row as pairs of bfloat16, a last single one paired with zero; they take the place of what `words` held.
pub(super) fn bf16_words(row: &[f32], words: &mut Vec<u32>) {
    words.resize(row.len().div_ceil(2), 0);
    widest(Pairs { row, words });
}

/// A column of weights in units of a 127th of its largest: words of four (or two widened) signed integers. Gives the unit, and the
/// sum of the integers.
pub(super) fn column_words(column: &[f32], word: Word, words: &mut Vec<u32>) -> (f32, f32) {
    let largest = column.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    let integers: Vec<i8> = column.iter().map(|v| (v / unit).round_ties_even() as i8).collect();
    let n = word.elements();
    for group in integers.chunks(n) {
        let bits = 32 / n;
        let mask = if n == 2 { 0xffff } else { 0xff };
        words
            .push(group.iter().enumerate().fold(0, |word, (i, q)| word | (i32::from(*q).cast_unsigned() & mask) << (i * bits)));
    }
    (unit, integers.iter().map(|q| f32::from(*q)).sum())
}

/// Appends the words of a tile of rows, `[rows, n_in]`, in the order `[steps][rows]`, the last of them zeros where a row has fewer.
pub(super) fn pack_tile(
    tile: &[f32],
    n_in: usize,
    steps: usize,
    precision: Precision,
    word: Word,
    packed: &mut Vec<u32>,
    scales: &mut Vec<RowScale>,
) {
    let rows = tile.len() / n_in;
    let first = packed.len();
    packed.resize(first + rows * steps, 0);
    let mut to = &mut packed[first..];
    // In parts, so that no buffer is needed that grows with the row.
    let mut words = [[0; WORDS_AT_A_TIME]; MAX_ROWS];
    let scale_of = scales.len();
    if matches!(word, Word::I8 | Word::I16) {
        scales.extend(tile.chunks_exact(n_in).map(|row| widest(Range(row))));
    }
    for start in (0..n_in).step_by(WORDS_AT_A_TIME * word.elements()) {
        let part = start..n_in.min(start + WORDS_AT_A_TIME * word.elements());
        for (r, words) in words[..rows].iter_mut().enumerate() {
            let row = &tile[r * n_in..][part.clone()];
            match word {
                Word::F32 if precision == Precision::F32 => words.iter_mut().zip(row).for_each(|(word, v)| *word = v.to_bits()),
                Word::F32 => widest(Rounded { row, words }),
                Word::Bf16 => widest(Pairs { row, words }),
                Word::I8 | Word::I16 => widest(Quantise { row, scale: scales[scale_of + r], word, words }),
            }
        }
        let (now, later) = to.split_at_mut(rows * part.len().div_ceil(word.elements()));
        interleave(&words[..rows], now);
        to = later;
    }
}

/// Words of each row that are made before they are interleaved.
const WORDS_AT_A_TIME: usize = 64;
/// Rows of the tallest tile.
const MAX_ROWS: usize = 12;

/// Word `step` of row `row` to `to[step * rows + row]`.
fn interleave(words: &[[u32; WORDS_AT_A_TIME]], to: &mut [u32]) {
    // The heights of whole tiles, for which the compiler knows the stride.
    match words.len() {
        1 => to.copy_from_slice(&words[0][..to.len()]),
        2 => interleave_rows::<2>(words, to),
        6 => interleave_rows::<6>(words, to),
        12 => interleave_rows::<12>(words, to),
        rows => {
            for (step, to) in to.chunks_exact_mut(rows).enumerate() {
                to.iter_mut().zip(words).for_each(|(to, row)| *to = row[step]);
            }
        }
    }
}

fn interleave_rows<const ROWS: usize>(words: &[[u32; WORDS_AT_A_TIME]], to: &mut [u32]) {
    let words: &[_; ROWS] = words.try_into().expect("as many rows as were counted");
    for (step, to) in to.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        *to = std::array::from_fn(|r| words[r][step]);
    }
}

struct Rounded<'a> {
    row: &'a [f32],
    words: &'a mut [u32],
}

impl NullaryFnOnce for Rounded<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.words.iter_mut().zip(self.row).for_each(|(word, v)| *word = u32::from(bf16(*v)) << 16);
    }
}

struct Pairs<'a> {
    row: &'a [f32],
    words: &'a mut [u32],
}

impl NullaryFnOnce for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (pairs, rest) = self.row.as_chunks::<2>();
        self.words.iter_mut().zip(pairs).for_each(|(w, [a, b])| *w = u32::from(bf16(*a)) | u32::from(bf16(*b)) << 16);
        if let [last] = rest {
            self.words[pairs.len()] = u32::from(bf16(*last));
        }
    }
}

/// Lowest and highest of a row to a scale of 256 levels.
struct Range<'a>(&'a [f32]);

impl NullaryFnOnce for Range<'_> {
    type Output = RowScale;

    #[inline(always)]
    fn call(self) -> RowScale {
        const LANES: usize = 16;
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        for chunk in chunks {
            for i in 0..LANES {
                low[i] = low[i].min(chunk[i]);
                high[i] = high[i].max(chunk[i]);
            }
        }
        let low = low.iter().chain(rest).fold(f32::INFINITY, |low, v| low.min(*v));
        let high = high.iter().chain(rest).fold(f32::NEG_INFINITY, |high, v| high.max(*v));
        // What is not a number passes through minimum and maximum unseen, but not through this: 0 for finite rows.
        let poison = sum_of(self.0, |v| v * 0.0);
        RowScale { unit: (high - low) / 255.0 + poison, offset: low }
    }
}

struct Quantise<'a> {
    row: &'a [f32],
    scale: RowScale,
    word: Word,
    words: &'a mut [u32],
}

impl NullaryFnOnce for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { row, scale, word, words } = self;
        let per_unit = if scale.unit > 0.0 { 1.0 / scale.unit } else { 0.0 };
        // Adding 2^23 leaves the nearest integer in the lowest bits, and unlike a cast it vectorises.
        let level = |v: f32| ((v - scale.offset) * per_unit + 8_388_608.0).to_bits() & 0xff;
        if word == Word::I8 {
            let (quads, rest) = row.as_chunks::<4>();
            let quad = |q: &[f32; 4]| level(q[0]) | level(q[1]) << 8 | level(q[2]) << 16 | level(q[3]) << 24;
            words.iter_mut().zip(quads).for_each(|(word, q)| *word = quad(q));
            if !rest.is_empty() {
                words[quads.len()] = rest.iter().enumerate().fold(0, |word, (i, v)| word | level(*v) << (8 * i));
            }
        } else {
            let (pairs, rest) = row.as_chunks::<2>();
            words.iter_mut().zip(pairs).for_each(|(word, [a, b])| *word = level(*a) | level(*b) << 16);
            if let [last] = rest {
                words[pairs.len()] = level(*last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_the_nearest_ties_to_even() {
        for (v, want) in [(1.0, 0x3f80), (f32::from_bits(0x3f80_8000), 0x3f80), (f32::from_bits(0x3f81_8000), 0x3f82)] {
            assert_eq!(bf16(v), want, "{v}");
        }
        assert_eq!(bf16(f32::INFINITY), 0x7f80);
        assert!(f32::from_bits(u32::from(bf16(f32::from_bits(0x7f80_0001))) << 16).is_nan());
        assert!(f32::from_bits(u32::from(bf16(f32::from_bits(0x7fff_ffff))) << 16).is_nan());
    }

    #[test]
    fn a_row_in_256_levels_is_within_half_a_level() {
        let row: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 20.0) / 7.0).collect();
        let scale = widest(Range(&row));
        let mut words = vec![0; row.len() / 4];
        widest(Quantise { row: &row, scale, word: Word::I8, words: &mut words });
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (v, q) in row.iter().zip(&bytes) {
            let back = scale.unit * f32::from(*q) + scale.offset;
            assert!((back - v).abs() <= 0.5001 * scale.unit, "{v} came back as {back}");
        }
        assert!(bytes.contains(&0) && bytes.contains(&255));
        assert!(widest(Range(&[1.0, f32::NAN, 2.0])).unit.is_nan(), "what is not a number must not be lost");
        assert_eq!(widest(Range(&[3.0; 40])).unit, 0.0);
    }
}
