//! Memory that a step gives back and the next one asks for again.
#![allow(unsafe_code)]

/// Asks the allocator to keep what this process frees from now on. A step of training makes and frees the same matrices each time; an allocator that hands large
/// ones back to the system gets fresh pages for them in every step, whose making takes a tenth of the time. For processes that train and then end. Nothing is
/// done where the allocator is another than glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: both only change settings of the allocator, which it allows at any time.
    unsafe {
        // No pages of their own for large matrices, and the end of the heap stays where it is.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}
