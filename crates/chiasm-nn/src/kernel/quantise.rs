//! Numbers to the words that kernels multiply.

use pulp::NullaryFnOnce;

use super::isa::{Kernel, Word};
use super::words::Words;
use super::{LINE, Precision};
use crate::norm::LayerNorm;
use crate::simd::widest;

/// What a row of integers stands for: `unit * q + offset`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowScale {
    pub(super) unit: f32,
    pub(super) offset: f32,
}

/// Words that a kernel multiplies, and what they are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    word: Word,
    /// Whether single numbers are rounded to bfloat16.
    rounded: bool,
}

impl Encoding {
    /// Pairs of bfloat16.
    pub(super) const PAIRS: Self = Self { word: Word::Bf16, rounded: false };

    pub(super) fn of(precision: Precision, kernel: &Kernel) -> Self {
        Self { word: kernel.word, rounded: precision == Precision::Bf16 && kernel.word == Word::F32 }
    }

    /// What was asked for.
    pub(super) fn precision(self) -> Precision {
        match self.word {
            Word::F32 if !self.rounded => Precision::F32,
            Word::F32 | Word::Bf16 => Precision::Bf16,
            Word::I16 | Word::I8 => Precision::Int8,
        }
    }

    /// Whether words can be made of numbers one by one, without a scale for the row.
    pub(super) fn is_direct(self) -> bool {
        matches!(self.word, Word::F32 | Word::Bf16)
    }

    /// Numbers in a line.
    #[inline(always)]
    pub(super) fn per_line(self) -> usize {
        LINE * self.word.elements()
    }

    /// The words of numbers without a scale, at most a line of them.
    #[inline(always)]
    pub(super) fn line(self, part: &[f32], to: &mut [u32; LINE]) {
        match self.word {
            Word::F32 if self.rounded => {
                let part: &[f32; LINE] = &filled(part);
                for i in 0..LINE {
                    to[i] = u32::from(bf16(part[i])) << 16;
                }
            }
            Word::F32 => *to = filled(part).map(f32::to_bits),
            Word::Bf16 => {
                let part: &[f32; 2 * LINE] = &filled(part);
                for i in 0..LINE {
                    to[i] = u32::from(bf16(part[i])) | u32::from(bf16(part[LINE + i])) << 16;
                }
            }
            Word::I16 | Word::I8 => unreachable!("integers have a scale"),
        }
    }

    /// The words of integers.
    #[inline(always)]
    fn scaled_line(self, part: &[f32], RowScale { offset, .. }: RowScale, per_unit: f32, to: &mut [u32; LINE]) {
        // Adding 2^23 leaves the nearest integer in the lowest bits, and unlike a cast it vectorises.
        let level = |v: f32| ((v - offset) * per_unit + 8_388_608.0).to_bits() & 0xff;
        if self.word == Word::I8 {
            let part: &[f32; 4 * LINE] = &filled(part);
            let mut levels = [0u8; 4 * LINE];
            for i in 0..4 * LINE {
                levels[i] = level(part[i]) as u8;
            }
            for (word, four) in to.iter_mut().zip(levels.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*four);
            }
        } else {
            let part: &[f32; 2 * LINE] = &filled(part);
            for i in 0..LINE {
                to[i] = level(part[2 * i]) | level(part[2 * i + 1]) << 16;
            }
        }
    }
}

/// The numbers, and zeros behind them.
#[inline(always)]
fn filled<const N: usize>(part: &[f32]) -> [f32; N] {
    part.try_into().unwrap_or_else(|_| {
        let mut all = [0.0; N];
        all[..part.len()].copy_from_slice(part);
        all
    })
}

/// Rounds to the nearest bfloat16, ties to even. What is not finite stays so.
#[inline(always)]
pub(super) fn bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN whose fraction lies low must not be rounded to infinity, nor carried to a number.
    (if v.is_nan() { bits | 0x40_0000 } else { rounded } >> 16) as u16
}

/// Rows as a kernel takes them: `[tiles][lines][rows of a tile][LINE]` words, so that the words of a line of all rows of a tile stand
/// together, and nothing but lines is moved to pack them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) words: Words,
    /// Of integers a scale for each row.
    pub(super) scales: Vec<RowScale>,
    /// A row on its way.
    row: Vec<f32>,
}

impl Rows {
    /// Makes place for `rows` rows of `steps` words, whatever they hold.
    pub(super) fn resize(&mut self, kernel: &Kernel, rows: usize, steps: usize) {
        self.words.resize(kernel.filled(rows) * steps);
    }

    /// Packs `x`, rows of `n_in` numbers, normalised if so asked.
    pub(super) fn pack(&mut self, x: &[f32], n_in: usize, norm: Option<&LayerNorm>, encoding: Encoding, kernel: &Kernel) {
        self.pack_all(x, n_in, norm, None, encoding, kernel);
    }

    /// The same of rows that are known to lie between these numbers each.
    pub(super) fn pack_measured(&mut self, x: &[f32], n_in: usize, spreads: &[Spread], encoding: Encoding, kernel: &Kernel) {
        self.pack_all(x, n_in, None, Some(spreads), encoding, kernel);
    }

    fn pack_all(
        &mut self,
        x: &[f32],
        n_in: usize,
        norm: Option<&LayerNorm>,
        spreads: Option<&[Spread]>,
        encoding: Encoding,
        kernel: &Kernel,
    ) {
        let steps = kernel.steps(n_in);
        self.resize(kernel, x.len() / n_in, steps);
        self.scales.clear();
        widest(Packing { x, n_in, norm, spreads, encoding, place: Place { steps, rows: kernel.rows }, to: self });
    }
}

/// Where lines of rows stand.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Words of a row.
    pub(super) steps: usize,
    /// Rows of a tile.
    pub(super) rows: usize,
}

impl Place {
    /// The line of a row.
    #[inline(always)]
    pub(super) fn line(self, words: &mut [u32], row: usize, line: usize) -> &mut [u32; LINE] {
        let at = row / self.rows * self.rows * self.steps + (line * self.rows + row % self.rows) * LINE;
        words[at..].first_chunk_mut().expect("a line in its place")
    }
}

struct Packing<'a> {
    x: &'a [f32],
    n_in: usize,
    norm: Option<&'a LayerNorm>,
    /// Of integers, where it is known already.
    spreads: Option<&'a [Spread]>,
    encoding: Encoding,
    place: Place,
    to: &'a mut Rows,
}

impl NullaryFnOnce for Packing<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, n_in, norm, spreads, encoding, place, to } = self;
        let per_line = encoding.per_line();
        let words = to.words.as_mut_slice();
        for (i, mut row) in x.chunks_exact(n_in).enumerate() {
            if let Some(norm) = norm {
                to.row.clear();
                to.row.extend_from_slice(row);
                norm.normalise(&mut to.row);
                row = &to.row;
            }
            if encoding.is_direct() {
                for (line, part) in row.chunks(per_line).enumerate() {
                    encoding.line(part, place.line(words, i, line));
                }
            } else {
                let scale = spreads.map_or_else(|| Spread::NONE.with(row), |spreads| spreads[i]).scale();
                let per_unit = if scale.unit > 0.0 { 1.0 / scale.unit } else { 0.0 };
                for (line, part) in row.chunks(per_line).enumerate() {
                    encoding.scaled_line(part, scale, per_unit, place.line(words, i, line));
                }
                to.scales.push(scale);
            }
        }
    }
}

/// Between what the numbers of a row lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    low: f32,
    high: f32,
    /// 0 for finite numbers: what is not a number passes through minimum and maximum unseen, but not through this.
    poison: f32,
}

impl Spread {
    /// Of no numbers.
    pub(super) const NONE: Self = Self { low: f32::INFINITY, high: f32::NEG_INFINITY, poison: 0.0 };

    /// Of these as well.
    #[inline(always)]
    pub(super) fn with(self, numbers: &[f32]) -> Self {
        const LANES: usize = 16;
        let (chunks, rest) = numbers.as_chunks::<LANES>();
        let (mut low, mut high) = ([self.low; LANES], [self.high; LANES]);
        let mut poison = [0.0f32; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                low[i] = low[i].min(chunk[i]);
                high[i] = high[i].max(chunk[i]);
                poison[i] += chunk[i] * 0.0;
            }
        }
        Self {
            low: low.iter().chain(rest).fold(f32::INFINITY, |low, v| low.min(*v)),
            high: high.iter().chain(rest).fold(f32::NEG_INFINITY, |high, v| high.max(*v)),
            poison: poison.iter().sum::<f32>() + rest.iter().map(|v| v * 0.0).sum::<f32>() + self.poison,
        }
    }

    /// A scale of 256 levels.
    #[inline(always)]
    fn scale(self) -> RowScale {
        RowScale { unit: (self.high - self.low) / 255.0 + self.poison, offset: self.low }
    }
}

/// Columns of weights to a panel, `[steps][columns]`.
pub(super) struct Columns<'a> {
    /// `[columns or fewer, n_in]`.
    pub(super) stored: &'a [f32],
    pub(super) n_in: usize,
    pub(super) encoding: Encoding,
    /// Columns of the panel.
    pub(super) width: usize,
    pub(super) panel: &'a mut [u32],
    /// Of integers what a unit of each column is worth, and the column's sum in such units.
    pub(super) units: &'a mut [f32],
    pub(super) sums: &'a mut [f32],
}

impl NullaryFnOnce for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { stored, n_in, encoding, width, panel, units, sums } = self;
        if !encoding.is_direct() {
            for (column, unit) in stored.chunks_exact(n_in).zip(&mut *units) {
                *unit = unit_of(column);
            }
        }
        let per_line = encoding.per_line();
        let mut lines = [[0; LINE]; MAX_COLUMNS];
        for (nth, to) in panel.chunks_exact_mut(LINE * width).enumerate() {
            for (c, column) in stored.chunks_exact(n_in).enumerate() {
                let part = &column[n_in.min(nth * per_line)..n_in.min((nth + 1) * per_line)];
                if encoding.is_direct() {
                    encoding.line(part, &mut lines[c]);
                } else {
                    sums[c] += signed_line(encoding.word, part, units[c], &mut lines[c]);
                }
            }
            for (step, to) in to.chunks_exact_mut(width).enumerate() {
                for (to, line) in to.iter_mut().zip(&lines) {
                    *to = line[step];
                }
            }
        }
    }
}

/// Columns of the widest panel.
const MAX_COLUMNS: usize = 32;

/// A 127th of the largest number of a column.
#[inline(always)]
fn unit_of(column: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (chunks, rest) = column.as_chunks::<LANES>();
    let mut largest = [0.0f32; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            largest[i] = largest[i].max(chunk[i].abs());
        }
    }
    let largest = largest.iter().chain(rest).fold(0.0f32, |max, v| max.max(v.abs()));
    if largest > 0.0 { largest / 127.0 } else { 1.0 }
}

/// Weights in such units: words of four (or two widened) signed integers. Gives their sum.
#[inline(always)]
fn signed_line(word: Word, part: &[f32], unit: f32, to: &mut [u32; LINE]) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the lowest bits, as its two's complement.
    const ROUND: f32 = 12_582_912.0;
    let all: &[f32; 4 * LINE] = &filled(part);
    let mut integers = [0u32; 4 * LINE];
    let mut sum = 0i32;
    for i in 0..4 * LINE {
        integers[i] = (all[i] / unit + ROUND).to_bits();
        sum += i32::from(integers[i] as u8 as i8);
    }
    for i in 0..LINE {
        to[i] = if word == Word::I8 {
            let at = |k: usize| (integers[4 * i + k] & 0xff) << (8 * k);
            at(0) | at(1) | at(2) | at(3)
        } else {
            let at = |k: usize| u32::from(i16::from(integers[2 * i + k] as u8 as i8).cast_unsigned()) << (16 * k);
            at(0) | at(1)
        };
    }
    sum as f32
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
        let row: Vec<f32> = (0..64).map(|i| ((i * 37 % 101) as f32 - 20.0) / 7.0).collect();
        let scale = Spread::NONE.with(&row).scale();
        let mut words = [0; LINE];
        Encoding { word: Word::I8, rounded: false }.scaled_line(&row, scale, 1.0 / scale.unit, &mut words);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (v, q) in row.iter().zip(&bytes) {
            let back = scale.unit * f32::from(*q) + scale.offset;
            assert!((back - v).abs() <= 0.5001 * scale.unit, "{v} came back as {back}");
        }
        assert!(bytes.contains(&0) && bytes.contains(&255));
        let (first, last) = row.split_at(13);
        let in_parts = Spread::NONE.with(first).with(last).scale();
        assert_eq!((in_parts.unit, in_parts.offset), (scale.unit, scale.offset));
        for at in [0, 20] {
            let mut row = [1.0; 40];
            row[at] = f32::NAN;
            let spread = Spread::NONE.with(&row).with(&[2.0]);
            assert!(spread.scale().unit.is_nan(), "what is not a number must not be lost");
        }
        assert_eq!(Spread::NONE.with(&[3.0; 40]).scale().unit, 0.0);
    }

    #[test]
    fn weights_in_units_are_within_half_a_unit() {
        let column: Vec<f32> = (0..64).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let unit = unit_of(&column);
        for (word, n) in [(Word::I8, 4), (Word::I16, 2)] {
            let mut words = [0; LINE];
            let sum = signed_line(word, &column[..n * LINE], unit, &mut words);
            let integers: Vec<i32> = words
                .iter()
                .flat_map(|word| (0..n).map(move |k| if n == 4 { word >> (8 * k) } else { word >> (16 * k) } as u8 as i8))
                .map(i32::from)
                .collect();
            assert_eq!(integers.iter().sum::<i32>() as f32, sum);
            for (v, q) in column.iter().zip(&integers) {
                assert!((*q as f32 * unit - v).abs() <= 0.5001 * unit, "{v} became {q} units of {unit}");
            }
        }
        assert_eq!(unit_of(&[0.0; 5]), 1.0);
    }
}
