//! How large blocks of rows may be here.

use std::sync::OnceLock;

/// Bytes of packed rows that stay in the second cache beside what streams through it.
pub(super) fn for_rows() -> usize {
    second_cache() * 6 / 10
}

/// Rows that are multiplied together: as many as stay in the second cache with the usual 768 numbers in single precision. More would
/// make fewer passes over the weights, which come from memory, but what stands between layers would no longer stay near.
pub(super) fn rows_at_a_time() -> usize {
    for_rows() / (4 * 768)
}

/// Bytes of the second cache, of which a core has its own.
fn second_cache() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| {
        // What processors of the last ten years have, where one does not tell or tells nonsense.
        stated().filter(|bytes| (128 << 10..=16 << 20).contains(bytes)).unwrap_or(512 << 10)
    })
}

/// As the processor tells: "cpuid", leaf 4 of Intel's and leaf 0x8000001d of AMD's, which are of one layout.
#[cfg(target_arch = "x86_64")]
fn stated() -> Option<usize> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let leaf = [4, 0x8000_001d].into_iter().find(|leaf| {
        let highest = __cpuid(leaf & 0x8000_0000).eax;
        highest >= *leaf && __cpuid_count(*leaf, 0).eax & 0x1f != 0
    })?;
    // The caches one after the other until there is none: kind in the lowest five bits, then three of the level.
    (0..8).map(|nth| __cpuid_count(leaf, nth)).take_while(|cache| cache.eax & 0x1f != 0).find_map(|cache| {
        let field = |from: u32, bits: u32| (cache.ebx >> from & ((1 << bits) - 1)) as usize + 1;
        let bytes = field(22, 10) * field(12, 10) * field(0, 12) * (cache.ecx as usize + 1);
        (cache.eax >> 5 & 7 == 2).then_some(bytes)
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn stated() -> Option<usize> {
    None
}
