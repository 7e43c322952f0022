//! `char-ngrams`: how often each sequence of one to five characters occurs in a text, hashed into a fixed number of counts.
//!
//! # Model
//! The text is folded (full-width forms to ASCII, lower case, every run of anything that is neither letter nor digit to one
//! boundary ` `, one boundary at each end), then every sequence of n characters is counted at bucket `h(sequence) mod 4096`:
//!
//! - n = 1..=5 characters of the folded text, boundaries included as characters, so that " red " differs from "red" in "hundred";
//! - for scripts written without spaces, single characters and pairs are the words, and need no segmenter.
//!
//! h is 64-bit FNV-1a over the UTF-8 bytes of the sequence, its halves XORed, the same on every platform and in every version.
//! A sequence that is only a boundary is not counted.
//!
//! | output | shape | range |
//! | --- | --- | --- |
//! | counts | `[4096]` | 0 .. 5 x characters; raw: logarithms and inverse document frequencies are fitted by the alignment |
//!
//! Two sequences may share a bucket: among 500 different ones about 6 % do.
//!
//! # Cost
//! Five hashes of at most 5 characters per character.
//! # Errors
//! None: a text without letters or digits gives zeros.

/// Numbers per text.
pub(super) const DIM: usize = 4096;
/// Longest sequence.
const N_MAX: usize = 5;

pub(super) fn describe(text: &str) -> Result<Vec<f32>, String> {
    let folded = fold(text);
    let mut counts = vec![0.0; DIM];
    let ends: Vec<usize> = folded.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    for (i, (start, c)) in folded.char_indices().enumerate() {
        for n in 1..=N_MAX {
            let Some(&end) = ends.get(i + n - 1) else { break };
            if !(n == 1 && c == ' ') {
                counts[bucket(&folded.as_bytes()[start..end])] += 1.0;
            }
        }
    }
    Ok(counts)
}

fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + 2);
    folded.push(' ');
    for c in text.chars() {
        let c = match c {
            // Full-width ASCII stands this far above ASCII.
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            other => other,
        };
        if c.is_alphanumeric() {
            folded.extend(c.to_lowercase());
        } else if !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    if !folded.ends_with(' ') {
        folded.push(' ');
    }
    folded
}

fn bucket(bytes: &[u8]) -> usize {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    ((hash >> 32) ^ hash) as usize % DIM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_says() {
        // FNV-1a of "a" is a published test vector.
        let hash = 0xaf63_dc4c_8601_ec8cu64;
        assert_eq!(bucket(b"a"), ((hash >> 32) ^ hash) as usize % DIM);
        let counts = describe("a").unwrap();
        // "a", " a", "a ", " a " of the folded " a ".
        assert_eq!(counts.iter().sum::<f32>(), 4.0);
        assert!(counts[bucket(b"a")] >= 1.0);
        assert_eq!(describe("红圆").unwrap().iter().sum::<f32>(), 2.0 + 3.0 + 2.0 + 1.0);
    }

    #[test]
    fn folds_case_width_and_punctuation() {
        let same = ["A Red-Circle!", "a  red circle", "Ａ　ＲＥＤ　ｃｉｒｃｌｅ", " a red, circle。"];
        for text in same {
            assert_eq!(describe(text), describe(same[0]), "{text}");
        }
        assert_ne!(describe("red"), describe("hundred"));
        assert_eq!(describe(" ... ").unwrap(), vec![0.0; DIM]);
        assert_eq!(describe("").unwrap(), vec![0.0; DIM]);
    }
}
