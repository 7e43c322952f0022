//! Arrays of numbers on large pages, for what is larger than the caches.
//!
//! A read somewhere in an array of hundreds of megabytes asks first where its page is, and with pages of 4 KiB that answer is rarely at
//! hand: it is itself a read from memory, or several on a virtual machine. With pages of 2 MiB it nearly always is. Linux gives them to
//! who asks (`madvise`) unless it was told otherwise; where it does not, and elsewhere, the array is the same and slower. A scan gains as well: the processor's own
//! reading ahead stops at the end of a page.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use half::{bf16, f16};
use memmap2::MmapMut;

/// Numbers for which any bits are a value, so that zeroed memory is an array of them, and which a page's start is aligned for.
pub(crate) trait Number: Copy {}
impl Number for f16 {}
impl Number for bf16 {}
impl Number for u8 {}
impl Number for i8 {}
impl Number for f32 {}
impl Number for u32 {}
impl Number for u64 {}

/// An array that starts as zeros.
pub(crate) struct Pages<T: Number> {
    memory: MmapMut,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Number> Pages<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// The system's, when there is no such memory.
    pub(crate) fn try_zeros(len: usize) -> std::io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let memory = MmapMut::map_anon(bytes.max(1))?;
        // Refused by kernels that have no large pages; then the others do.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(Self { memory, len, of: PhantomData })
    }

    /// These arrays behind each other.
    ///
    /// # Panics
    /// As [`Pages::zeros`].
    pub(crate) fn of(parts: &[&[T]]) -> Self {
        let mut all = Self::zeros(parts.iter().map(|part| part.len()).sum());
        let mut rest = &mut all[..];
        for part in parts {
            let to;
            (to, rest) = rest.split_at_mut(part.len());
            to.copy_from_slice(part);
        }
        all
    }

    /// `len` zeros.
    ///
    /// # Panics
    /// When there is no memory, as `vec!` would abort.
    pub(crate) fn zeros(len: usize) -> Self {
        Self::try_zeros(len).expect("memory for an array of an index")
    }
}

impl<T: Number> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory is at least `len * size_of::<T>()` bytes from the start of a page, and lives and is borrowed like `self`;
        // any bits are a `Number`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_array_of_zeros_that_keeps_what_is_written() {
        for len in [0, 1, 3, 5000] {
            let (mut a, mut b) = (Pages::<u32>::zeros(len), Pages::<u64>::zeros(len));
            assert_eq!((&a[..], &b[..]), (&vec![0; len][..], &vec![0; len][..]));
            (0..len).for_each(|i| (a[i], b[i]) = (i as u32, u64::MAX - i as u64));
            assert!((0..len).all(|i| (a[i], b[i]) == (i as u32, u64::MAX - i as u64)));
            assert_eq!(Pages::of(&[&a, &[], &a])[..], [&a[..], &a[..]].concat());
        }
    }
}
