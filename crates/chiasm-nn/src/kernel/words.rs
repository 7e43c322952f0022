//! Where packed weights lie.
#![allow(unsafe_code)]

use memmap2::MmapMut;

use super::LINE;

/// A cache line of words.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
#[expect(dead_code, reason = "read and written as the slices of words that `Words` gives")]
struct Line([u32; LINE]);

/// Words that begin on a cache line. Many of them lie in large pages, where the system has such: a product reads megabytes in order, and
/// would look up a page for every few dozen lines; there are fewer of them to be made as well.
#[derive(Debug)]
pub(super) struct Words {
    place: Place,
    n: usize,
}

#[derive(Debug)]
enum Place {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

/// From here on in pages of their own.
const MIN_BYTES_IN_PAGES: usize = 1 << 20;

impl Words {
    /// So many zeros.
    pub(super) fn zeros(n: usize) -> Self {
        let bytes = n.next_multiple_of(LINE) * size_of::<u32>();
        let pages = (bytes >= MIN_BYTES_IN_PAGES).then(|| MmapMut::map_anon(bytes).ok()).flatten();
        let place = pages.map_or_else(|| Place::Lines(vec![Line([0; LINE]); n.div_ceil(LINE)]), Place::Pages);
        #[cfg(target_os = "linux")]
        if let Place::Pages(pages) = &place {
            // A wish; a system without such pages gives others.
            let _ = pages.advise(memmap2::Advice::HugePage);
        }
        Self { place, n }
    }

    /// To read.
    pub(super) fn as_slice(&self) -> &[u32] {
        let start = match &self.place {
            Place::Lines(lines) => lines.as_ptr().cast(),
            Place::Pages(pages) => pages.as_ptr().cast(),
        };
        // SAFETY: a `Line` is sixteen words, as large as they are (64 bytes, of which none is padding), and pages begin at a multiple of
        // their size; either are as many as `n` words need. Any bits are a word.
        unsafe { std::slice::from_raw_parts(start, self.n) }
    }

    /// To write.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u32] {
        let start = match &mut self.place {
            Place::Lines(lines) => lines.as_mut_ptr().cast(),
            Place::Pages(pages) => pages.as_mut_ptr().cast(),
        };
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(start, self.n) }
    }
}

/// Numbers in single precision as the words that they are.
pub(super) fn bits_of(numbers: &[f32]) -> &[u32] {
    // SAFETY: of one size and alignment, and any bits are a word.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len()) }
}

impl Clone for Words {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.n);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_words_are_zeros_and_then_what_was_written() {
        for n in [0, 1, 17, MIN_BYTES_IN_PAGES / 4 - 16, MIN_BYTES_IN_PAGES / 4, MIN_BYTES_IN_PAGES + 3] {
            let mut words = Words::zeros(n);
            assert_eq!(words.as_slice(), vec![0; n]);
            assert!(words.as_slice().as_ptr().cast::<Line>().is_aligned());
            words.as_mut_slice().iter_mut().enumerate().for_each(|(i, word)| *word = i as u32);
            let copy = words.clone();
            drop(words);
            assert!(copy.as_slice().iter().enumerate().all(|(i, word)| *word == i as u32));
        }
    }
}
