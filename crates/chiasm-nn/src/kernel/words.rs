//! Where what kernels read and write lies.
#![allow(unsafe_code)]

use memmap2::MmapMut;

use super::LINE;

/// A cache line of words.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
#[expect(dead_code, reason = "read and written as the slices of words that `Words` gives")]
struct Line([u32; LINE]);

/// Words that begin on a cache line, which an allocator's own seldom do: a register or a tile's row that lies in two lines costs twice. Many of them lie in large pages, where the system has such: a product reads megabytes in order, and
/// would look up a page for every few dozen lines; there are fewer of them to be made as well.
#[derive(Debug)]
pub(crate) struct Words {
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

    /// Makes it so many words, whatever they hold.
    pub(crate) fn resize(&mut self, n: usize) {
        let room = match &self.place {
            Place::Lines(lines) => lines.len() * LINE,
            Place::Pages(pages) => pages.len() / size_of::<u32>(),
        };
        if n > room {
            *self = Self::zeros(n);
        }
        self.n = n;
    }

    /// As numbers in single precision, to write.
    pub(crate) fn as_mut_numbers(&mut self) -> &mut [f32] {
        let words = self.as_mut_slice();
        // SAFETY: of one size and alignment, any bits are a number, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
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

impl Default for Words {
    fn default() -> Self {
        Self::zeros(0)
    }
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
            let mut room = Words::default();
            for n in [n, n / 2, n + 1] {
                room.resize(n);
                assert_eq!((room.as_slice().len(), room.as_mut_numbers().len()), (n, n));
            }
        }
    }
}
