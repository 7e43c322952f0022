//! AMX: products of whole tiles, 16 rows by 16 columns at a time (Intel, from Sapphire Rapids on).
//!
//! A line of 16 packed rows is one tile, and so is one of a panel's halves over 16 steps. Two tiles of rows meet two of columns, so that
//! four of sums, two of rows and two of columns fill the eight registers. The compiler knows no such registers on stable Rust, hence the
//! assembler: each block leaves what it computed in memory, and nothing else uses the registers in between.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::sync::OnceLock;

use super::LINE;
use super::isa::{Kernel, Word};
use super::tile::{Strip, StripParts};

pub(super) static AMX_BF16: Kernel = Kernel {
    name: "amx-bf16",
    word: Word::Bf16,
    columns: COLUMNS,
    rows: TILE,
    chunk: CHUNK,
    strip: amx_bf16,
    is_here: || features().0,
};

pub(super) static AMX_INT8: Kernel = Kernel {
    name: "amx-int8",
    word: Word::I8,
    columns: COLUMNS,
    rows: TILE,
    chunk: CHUNK,
    strip: amx_int8,
    is_here: || features().1,
};

/// Rows of a tile; a line has as many words.
const TILE: usize = 16;
/// Columns of a panel, two tiles.
const COLUMNS: usize = 32;
/// Steps of a panel that stay in the first cache: 24 KB, so that only rows come from the second. Longer chunks would spare loads and
/// stores of sums, which take a fifth of the time of so many products.
const CHUNK: usize = 192;

/// Shapes of the eight tiles, as `ldtilecfg` reads them: palette, first row, then bytes per row and rows.
#[repr(align(64))]
#[expect(dead_code, reason = "read by the processor")]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = TILE as u8;
        tile += 1;
    }
    Config(config)
};

/// Whether tiles of bfloat16 and of bytes can be multiplied: the processor has them, and the system lets this process use them, which must
/// be asked for once.
fn features() -> (bool, bool) {
    static FEATURES: OnceLock<(bool, bool)> = OnceLock::new();
    *FEATURES.get_or_init(|| {
        let highest = std::arch::x86_64::__cpuid(0).eax;
        if highest < 7 {
            return (false, false);
        }
        let edx = std::arch::x86_64::__cpuid_count(7, 0).edx;
        let has = |bit: u32| edx >> bit & 1 == 1;
        if !has(24) || !is_x86_feature_detected!("avx512f") || !permitted() {
            return (false, false);
        }
        (has(22), has(25))
    })
}

/// Asks Linux for the tiles' registers.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: the call changes nothing but what this process may use; `rcx` and `r11` are what a system call overwrites.
    unsafe {
        asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") TILE_DATA, out("rcx") _, out("r11") _,
            options(nostack));
    }
    result == 0
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// All sums of a strip, 32 (or 16) rows by 32 columns at a time, a chunk of steps after the other. The arguments of the assembler: `a` and `a1`
/// the tiles of rows, `b` the panel, `c` and `c1` the sums and `c_s` the bytes between their rows, `n` lines of steps, `carry` not zero where
/// `c` holds sums already.
macro_rules! tiles {
    ($products:literal, $s:expr) => {{
        let s: StripParts = $s;
        // SAFETY: `features` has said that the instructions are there; the configuration is a valid one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly)) };
        let c_s = 4 * s.c_stride;
        for done in (0..s.steps).step_by(CHUNK) {
            let steps = CHUNK.min(s.steps - done);
            let b = s.b.wrapping_add(done * COLUMNS);
            let carry = usize::from(s.carry || done > 0);
            // While this chunk is multiplied, the next one, which lies behind it, is fetched bit by bit.
            let mut ahead = b.wrapping_add(steps * COLUMNS);
            let lines_a_turn = (steps * COLUMNS).div_ceil(LINE * s.rows.div_ceil(2 * TILE));
            for row in (0..s.rows).step_by(2 * TILE) {
                for _ in 0..lines_a_turn {
                    // SAFETY: a prefetch of any address is without effect but on the cache.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead.cast()) };
                    ahead = ahead.wrapping_add(LINE);
                }
                let a = s.a.wrapping_add(row / TILE * s.a_stride + (s.first_step + done) * TILE);
                let c = s.c.wrapping_add(row * s.c_stride);
                if s.rows - row > TILE {
                    // SAFETY: rows, panel and sums are padded to whole tiles and as long as the strip says.
                    unsafe {
                        asm!(
                            "test {carry}, {carry}",
                            "jz 3f",
                            "tileloadd tmm0, [{c} + {c_s}*1]",
                            "tileloadd tmm1, [{c} + {c_s}*1 + 64]",
                            "tileloadd tmm2, [{c1} + {c_s}*1]",
                            "tileloadd tmm3, [{c1} + {c_s}*1 + 64]",
                            "jmp 2f",
                            "3:",
                            "tilezero tmm0",
                            "tilezero tmm1",
                            "tilezero tmm2",
                            "tilezero tmm3",
                            "2:",
                            "tileloadd tmm6, [{b} + {b_s}*1]",
                            "tileloadd tmm4, [{a} + {a_s}*1]",
                            "tileloadd tmm7, [{b} + {b_s}*1 + 64]",
                            concat!($products, " tmm0, tmm4, tmm6"),
                            "tileloadd tmm5, [{a1} + {a_s}*1]",
                            concat!($products, " tmm1, tmm4, tmm7"),
                            concat!($products, " tmm2, tmm5, tmm6"),
                            concat!($products, " tmm3, tmm5, tmm7"),
                            "add {a}, 1024",
                            "add {a1}, 1024",
                            "add {b}, 2048",
                            "dec {n}",
                            "jnz 2b",
                            "tilestored [{c} + {c_s}*1], tmm0",
                            "tilestored [{c} + {c_s}*1 + 64], tmm1",
                            "tilestored [{c1} + {c_s}*1], tmm2",
                            "tilestored [{c1} + {c_s}*1 + 64], tmm3",
                            a = inout(reg) a => _,
                            a1 = inout(reg) a.wrapping_add(s.a_stride) => _,
                            a_s = in(reg) 64usize,
                            b = inout(reg) b => _,
                            b_s = in(reg) 128usize,
                            c = in(reg) c,
                            c1 = in(reg) c.wrapping_add(TILE * s.c_stride),
                            c_s = in(reg) c_s,
                            n = inout(reg) steps / LINE => _,
                            carry = in(reg) carry,
                            options(nostack),
                        );
                    }
                } else {
                    // SAFETY: as above.
                    unsafe {
                        asm!(
                            "test {carry}, {carry}",
                            "jz 3f",
                            "tileloadd tmm0, [{c} + {c_s}*1]",
                            "tileloadd tmm1, [{c} + {c_s}*1 + 64]",
                            "jmp 2f",
                            "3:",
                            "tilezero tmm0",
                            "tilezero tmm1",
                            "2:",
                            "tileloadd tmm4, [{a} + {a_s}*1]",
                            "tileloadd tmm6, [{b} + {b_s}*1]",
                            "tileloadd tmm7, [{b} + {b_s}*1 + 64]",
                            concat!($products, " tmm0, tmm4, tmm6"),
                            concat!($products, " tmm1, tmm4, tmm7"),
                            "add {a}, 1024",
                            "add {b}, 2048",
                            "dec {n}",
                            "jnz 2b",
                            "tilestored [{c} + {c_s}*1], tmm0",
                            "tilestored [{c} + {c_s}*1 + 64], tmm1",
                            a = inout(reg) a => _,
                            a_s = in(reg) 64usize,
                            b = inout(reg) b => _,
                            b_s = in(reg) 128usize,
                            c = in(reg) c,
                            c_s = in(reg) c_s,
                            n = inout(reg) steps / LINE => _,
                            carry = in(reg) carry,
                            options(nostack),
                        );
                    }
                }
            }
        }
        // SAFETY: gives the registers back, so that switches to other threads need not save them.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }};
}

unsafe fn amx_bf16(s: Strip) {
    tiles!("tdpbf16ps", s.parts());
}

unsafe fn amx_int8(s: Strip) {
    tiles!("tdpbusd", s.parts());
}
