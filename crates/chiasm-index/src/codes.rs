//! Binary codes, packed: one bit per sign, 64 bits a word.
//!
//! Bit `j` of a code is bit `j % 64` of its word `j / 64`, the lowest first, and is 1 where the number was 0 or greater: the sign of
//! zero counts as +1, as the papers on hashing have it. What is left of the last word is 0, so that a count of differing bits needs
//! no mask.
//!
//! A code of `b` bits takes `8 * ceil(b / 64)` bytes, 32 times less than the numbers it was made of where `b` is a multiple of 64.
//!
//! # Errors
//! [`CodesError`] for codes of no bits or of more than [`Codes::MAX_BITS`], for words that are no whole codes, for a bit behind the
//! last one, and for codes of another length.
//!
//! # Example
//! ```
//! use chiasm_core::Vectors;
//! use chiasm_index::Codes;
//!
//! let codes = Codes::from_signs(&Vectors::new(vec![0.5, -0.1, 0.0, -2.0, -3.0, 1.0], 3)?)?;
//! assert_eq!((codes.code(0), codes.code(1)), (&[0b101][..], &[0b100][..]));
//! assert_eq!(codes.balance(), [0.5, 0.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::Vectors;

/// Bits of a word.
const WORD: usize = 64;

/// Packed binary codes of equal length; see the head of the file for the place of each bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    n_bits: usize,
    words_per_code: usize,
    words: Vec<u64>,
}

/// Why words or signs are no codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodesError {
    /// A length that no code has.
    #[error("codes of {got} bits: a code has 1 to {most} bits", most = Codes::MAX_BITS)]
    Bits {
        /// How many bits were asked for.
        got: usize,
    },
    /// The words do not make whole codes.
    #[error("{words} words are no whole number of codes of {n_bits} bits, which take {words_per_code} words each")]
    Words {
        /// How many words came.
        words: usize,
        /// Bits of a code.
        n_bits: usize,
        /// Words of a code.
        words_per_code: usize,
    },
    /// A bit is set that no code has.
    #[error("code {code} of {n_bits} bits has bit {bit} set: what is left of the last word must be 0")]
    Padding {
        /// The first offender.
        code: usize,
        /// Bits of a code.
        n_bits: usize,
        /// Its lowest bit that is too many.
        bit: usize,
    },
    /// Codes of another length.
    #[error("codes of {got} bits do not go with codes of {expected} bits: take both from the same space")]
    Mixed {
        /// Bits of what came.
        got: usize,
        /// Bits of what is here.
        expected: usize,
    },
}

impl Codes {
    /// The longest code: far above the 16 to 1,024 bits in use, and it keeps a histogram of distances small.
    pub const MAX_BITS: usize = 1 << 16;

    /// No codes yet, of `n_bits` bits each.
    ///
    /// # Errors
    /// [`CodesError::Bits`].
    pub fn new(n_bits: usize) -> Result<Self, CodesError> {
        Self::from_words(n_bits, Vec::new())
    }

    /// The signs of the numbers: bit `j` of code `i` is 1 where number `j` of row `i` is 0 or greater.
    ///
    /// # Errors
    /// [`CodesError::Bits`] for more than [`Codes::MAX_BITS`] dimensions.
    pub fn from_signs(vectors: &Vectors) -> Result<Self, CodesError> {
        let mut codes = Self::new(vectors.dim())?;
        codes.words.reserve_exact(vectors.n() * codes.words_per_code);
        for row in vectors.rows() {
            for part in row.chunks(WORD) {
                codes.words.push(part.iter().enumerate().fold(0, |word, (j, v)| word | u64::from(*v >= 0.0) << j));
            }
        }
        Ok(codes)
    }

    /// Takes words as codes of `n_bits` bits, one code after the other.
    ///
    /// # Errors
    /// [`CodesError::Bits`], [`CodesError::Words`] and [`CodesError::Padding`].
    pub fn from_words(n_bits: usize, words: Vec<u64>) -> Result<Self, CodesError> {
        if !(1..=Self::MAX_BITS).contains(&n_bits) {
            return Err(CodesError::Bits { got: n_bits });
        }
        let words_per_code = n_bits.div_ceil(WORD);
        if !words.len().is_multiple_of(words_per_code) {
            return Err(CodesError::Words { words: words.len(), n_bits, words_per_code });
        }
        let codes = Self { n_bits, words_per_code, words };
        codes.check_padding(0)?;
        Ok(codes)
    }

    /// Adds one code.
    ///
    /// # Errors
    /// [`CodesError::Words`] unless there are as many words as a code has, and [`CodesError::Padding`]; nothing is added then.
    pub fn push(&mut self, code: &[u64]) -> Result<(), CodesError> {
        if code.len() != self.words_per_code {
            return Err(CodesError::Words { words: code.len(), n_bits: self.n_bits, words_per_code: self.words_per_code });
        }
        let n = self.n();
        self.words.extend_from_slice(code);
        self.check_padding(n).inspect_err(|_| self.words.truncate(n * self.words_per_code))
    }

    /// Adds all codes of another set behind its own.
    ///
    /// # Errors
    /// [`CodesError::Mixed`] when their lengths differ.
    pub fn extend(&mut self, other: &Self) -> Result<(), CodesError> {
        if other.n_bits != self.n_bits {
            return Err(CodesError::Mixed { got: other.n_bits, expected: self.n_bits });
        }
        self.words.extend_from_slice(&other.words);
        Ok(())
    }

    /// Number of codes.
    pub fn n(&self) -> usize {
        self.words.len() / self.words_per_code
    }

    /// Bits per code.
    pub fn n_bits(&self) -> usize {
        self.n_bits
    }

    /// Words per code.
    pub fn words_per_code(&self) -> usize {
        self.words_per_code
    }

    /// The words of code `i`.
    ///
    /// # Panics
    /// When `i >= n()`.
    pub fn code(&self, i: usize) -> &[u64] {
        &self.words[i * self.words_per_code..(i + 1) * self.words_per_code]
    }

    /// All words, one code after the other.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Bytes that the codes take.
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    /// The codes as numbers, shape `[n, n_bits]`: 1 for a set bit, -1 for the others.
    pub fn to_signs(&self) -> Vectors {
        let mut data = Vec::with_capacity(self.n() * self.n_bits);
        for code in self.words.chunks_exact(self.words_per_code) {
            data.extend((0..self.n_bits).map(|j| if code[j / WORD] >> (j % WORD) & 1 == 1 { 1.0 } else { -1.0 }));
        }
        Vectors::new(data, self.n_bits).expect("rows of 1 and -1, at least one number each")
    }

    /// Share of ones of each bit, in 0..=1, length `n_bits`. A bit far from 0.5 tells little: at 0 or 1 it is wasted. Of no codes,
    /// every share is 0.
    pub fn balance(&self) -> Vec<f64> {
        let mut ones = vec![0usize; self.n_bits];
        for code in self.words.chunks_exact(self.words_per_code) {
            for (word, ones) in code.iter().zip(ones.chunks_mut(WORD)) {
                ones.iter_mut().enumerate().for_each(|(j, ones)| *ones += (word >> j & 1) as usize);
            }
        }
        ones.iter().map(|ones| *ones as f64 / self.n().max(1) as f64).collect()
    }

    /// Checks that the bits behind the last one are 0, from code `first` on.
    fn check_padding(&self, first: usize) -> Result<(), CodesError> {
        let used = self.n_bits % WORD;
        if used == 0 {
            return Ok(());
        }
        let last_words = self.words.iter().skip(self.words_per_code - 1).step_by(self.words_per_code).enumerate();
        for (code, word) in last_words.skip(first) {
            if word >> used != 0 {
                let bit = self.n_bits + (word >> used).trailing_zeros() as usize;
                return Err(CodesError::Padding { code, n_bits: self.n_bits, bit });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bit_has_its_place() {
        for n_bits in [1, 2, 63, 64, 65, 128, 130, 300] {
            for j in 0..n_bits {
                let mut row = vec![-1.0; n_bits];
                row[j] = if j % 2 == 0 { 0.0 } else { -0.0 };
                let codes = Codes::from_signs(&Vectors::new(row, n_bits).unwrap()).unwrap();
                let mut expected = vec![0u64; n_bits.div_ceil(64)];
                expected[j / 64] = 1 << (j % 64);
                assert_eq!(codes.code(0), expected, "bit {j} of {n_bits}");
                assert_eq!(codes.bytes(), 8 * expected.len());
            }
        }
    }

    #[test]
    fn refuses_what_is_no_code() {
        assert_eq!(Codes::from_words(0, vec![]), Err(CodesError::Bits { got: 0 }));
        assert_eq!(Codes::new(Codes::MAX_BITS + 1), Err(CodesError::Bits { got: 65_537 }));
        assert_eq!(Codes::from_words(65, vec![0; 3]), Err(CodesError::Words { words: 3, n_bits: 65, words_per_code: 2 }));
        let error = Codes::from_words(66, vec![0, 3, 7, 0b1100]).unwrap_err();
        assert_eq!(error, CodesError::Padding { code: 1, n_bits: 66, bit: 66 });
        assert_eq!(error.to_string(), "code 1 of 66 bits has bit 66 set: what is left of the last word must be 0");
        assert!(Codes::from_words(64, vec![u64::MAX]).is_ok());

        let mut codes = Codes::new(3).unwrap();
        codes.push(&[5]).unwrap();
        assert_eq!(codes.push(&[8]), Err(CodesError::Padding { code: 1, n_bits: 3, bit: 3 }));
        assert_eq!(codes.push(&[]), Err(CodesError::Words { words: 0, n_bits: 3, words_per_code: 1 }));
        assert_eq!(codes.extend(&Codes::new(4).unwrap()), Err(CodesError::Mixed { got: 4, expected: 3 }));
        assert_eq!((codes.n(), codes.code(0)), (1, &[5][..]), "what was refused left nothing behind");
        assert_eq!(Codes::new(2).unwrap().balance(), [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn signs_come_back(n_bits in 1usize..200, n in 0usize..9, seed in any::<u64>()) {
            let mut state = seed;
            let data: Vec<f32> = (0..n * n_bits).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if state >> 63 == 0 { -1.0 } else { 1.0 }
            }).collect();
            let signs = Vectors::new(data, n_bits).unwrap();
            let codes = Codes::from_signs(&signs).unwrap();
            prop_assert_eq!(&codes.to_signs(), &signs);
            prop_assert_eq!(&Codes::from_words(n_bits, codes.words().to_vec()).unwrap(), &codes);
            for (j, share) in codes.balance().into_iter().enumerate() {
                let ones = signs.rows().filter(|row| row[j] > 0.0).count();
                prop_assert_eq!(share, ones as f64 / n.max(1) as f64);
            }
            let mut twice = codes.clone();
            twice.extend(&codes).unwrap();
            let mut pushed = codes.clone();
            (0..n).for_each(|i| pushed.push(codes.code(i)).unwrap());
            prop_assert_eq!(twice.n(), 2 * n);
            prop_assert_eq!(twice, pushed);
        }
    }
}
