//! AMX: products of whole tiles, 16 rows by 16 columns at a time (Intel, from Sapphire Rapids on).
//!
//! A line of 16 packed rows is one tile, and so is one of a panel's halves over 16 steps. Two tiles of rows meet two of columns, so that
//! four of sums, two of rows and two of columns fill the eight registers. The compiler knows no such registers on stable Rust, hence the
//! assembler: each block leaves what it computed in memory, and nothing else uses the registers in between.
#![allow(unsafe_code)]

use std::arch::asm;
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
/// Steps of a panel that stay in the first cache: 24 KB, half of it. Rows and sums come from the second, and are loaded with the hint that says so,
/// for else they would take the panel's place; longer chunks lose theirs all the same, shorter ones load and store sums more often.
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

/// Two tiles of rows, or one, and both of a panel, over some lines of steps.
struct Tiles {
    a: *const u32,
    /// Words to the second tile of rows.
    to_second: usize,
    b: *const u32,
    c: *mut u32,
    c_stride: usize,
    /// Lines of steps, above 0.
    lines: usize,
    /// What is asked for meanwhile, and how many cache lines of it with each line of steps, above 0.
    ahead: *const u32,
    ahead_a_line: usize,
    /// Whether `c` holds sums to go on from.
    carry: bool,
}

/// All sums of a panel, a chunk of steps after the other: what multiplies 32 rows by 32 columns, and 16 rows, is given.
///
/// # Safety
/// As the two ask; the strip's pointers must be valid for what they are said to point to.
#[inline(always)]
unsafe fn each_tile(s: StripParts, two: unsafe fn(&Tiles), one: unsafe fn(&Tiles)) {
    for done in (0..s.steps).step_by(CHUNK) {
        let steps = CHUNK.min(s.steps - done);
        let b = s.b.wrapping_add(done * COLUMNS);
        // While this chunk is multiplied, the next one, which lies behind it, is fetched bit by bit.
        let mut ahead = b.wrapping_add(steps * COLUMNS);
        let ahead_a_line = COLUMNS.div_ceil(s.rows.div_ceil(2 * TILE));
        for row in (0..s.rows).step_by(2 * TILE) {
            let tiles = Tiles {
                ahead,
                ahead_a_line,
                a: s.a.wrapping_add(row / TILE * s.a_stride + (s.first_step + done) * TILE),
                to_second: s.a_stride,
                b,
                c: s.c.wrapping_add(row * s.c_stride),
                c_stride: s.c_stride,
                lines: steps / LINE,
                carry: s.carry || done > 0,
            };
            // SAFETY: rows, panel and sums are padded to whole tiles and as long as the strip says.
            unsafe { if s.rows - row > TILE { two(&tiles) } else { one(&tiles) } }
            ahead = ahead.wrapping_add(ahead_a_line * steps);
        }
    }
}

/// Asks for `ahead_n` cache lines from `ahead` on; `k` counts them.
macro_rules! fetch_ahead {
    () => {
        "mov {k}, {ahead_n}
        4:
        prefetcht1 [{ahead}]
        add {ahead}, 64
        dec {k}
        jnz 4b"
    };
}

/// The kernel of one kind of numbers, and its two parts in assembler: `c` and `c1` are the sums of the tiles of rows `a` and `a1`, `c_s` the
/// bytes between their rows, `n` the lines of steps.
macro_rules! kernel {
    ($products:literal, $name:ident, $two:ident, $one:ident) => {
        unsafe fn $name(s: Strip) {
            // SAFETY: `features` has said that the instructions are there, and the configuration is a valid one; the strip is the caller's
            // to answer for. At the end the registers are given back, so that switches to other threads need not save them.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly));
                s.panels().for_each(|panel| each_tile(panel, $two, $one));
                asm!("tilerelease", options(nomem, nostack));
            }
        }

        unsafe fn $two(t: &Tiles) {
            // SAFETY: the caller answers for the pointers, and has configured the tiles.
            unsafe {
                asm!(
                    "test {carry}, {carry}",
                    "jz 3f",
                    "tileloaddt1 tmm0, [{c} + {c_s}*1]",
                    "tileloaddt1 tmm1, [{c} + {c_s}*1 + 64]",
                    "tileloaddt1 tmm2, [{c1} + {c_s}*1]",
                    "tileloaddt1 tmm3, [{c1} + {c_s}*1 + 64]",
                    "jmp 2f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    fetch_ahead!(),
                    "tileloadd tmm6, [{b} + {b_s}*1]",
                    "tileloaddt1 tmm4, [{a} + {a_s}*1]",
                    "tileloadd tmm7, [{b} + {b_s}*1 + 64]",
                    concat!($products, " tmm0, tmm4, tmm6"),
                    "tileloaddt1 tmm5, [{a1} + {a_s}*1]",
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
                    a = inout(reg) t.a => _,
                    a1 = inout(reg) t.a.wrapping_add(t.to_second) => _,
                    a_s = in(reg) 4 * LINE,
                    b = inout(reg) t.b => _,
                    b_s = in(reg) 4 * COLUMNS,
                    c = in(reg) t.c,
                    c1 = in(reg) t.c.wrapping_add(TILE * t.c_stride),
                    c_s = in(reg) 4 * t.c_stride,
                    n = inout(reg) t.lines => _,
                    ahead = inout(reg) t.ahead => _,
                    ahead_n = in(reg) t.ahead_a_line,
                    k = out(reg) _,
                    carry = in(reg) usize::from(t.carry),
                    options(nostack),
                );
            }
        }

        unsafe fn $one(t: &Tiles) {
            // SAFETY: as above.
            unsafe {
                asm!(
                    "test {carry}, {carry}",
                    "jz 3f",
                    "tileloaddt1 tmm0, [{c} + {c_s}*1]",
                    "tileloaddt1 tmm1, [{c} + {c_s}*1 + 64]",
                    "jmp 2f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    fetch_ahead!(),
                    "tileloaddt1 tmm4, [{a} + {a_s}*1]",
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
                    a = inout(reg) t.a => _,
                    a_s = in(reg) 4 * LINE,
                    b = inout(reg) t.b => _,
                    b_s = in(reg) 4 * COLUMNS,
                    c = in(reg) t.c,
                    c_s = in(reg) 4 * t.c_stride,
                    n = inout(reg) t.lines => _,
                    ahead = inout(reg) t.ahead => _,
                    ahead_n = in(reg) t.ahead_a_line,
                    k = out(reg) _,
                    carry = in(reg) usize::from(t.carry),
                    options(nostack),
                );
            }
        }
    };
}

kernel!("tdpbf16ps", amx_bf16, two_of_bf16, one_of_bf16);
kernel!("tdpbusd", amx_int8, two_of_int8, one_of_int8);

#[cfg(test)]
mod tests {
    //! The assembler runs where there are such processors; elsewhere the same tiles are multiplied by what the manual says of the
    //! instructions, so that all but it is tested everywhere.

    use super::super::tests::{against_the_definition, row_by_row};
    use super::*;
    use crate::kernel::Precision;

    static BF16: Kernel = Kernel { name: "amx-bf16 in plain", strip: bf16, is_here: || true, ..AMX_BF16 };
    static INT8: Kernel = Kernel { name: "amx-int8 in plain", strip: int8, is_here: || true, ..AMX_INT8 };

    unsafe fn bf16(s: Strip) {
        // SAFETY: the strip is the caller's to answer for; so below.
        s.panels().for_each(|panel| unsafe { each_tile(panel, |t| plain::<2>(t, pairs), |t| plain::<1>(t, pairs)) });
    }

    unsafe fn int8(s: Strip) {
        // SAFETY: see above.
        s.panels().for_each(|panel| unsafe { each_tile(panel, |t| plain::<2>(t, quads), |t| plain::<1>(t, quads)) });
    }

    /// TDPBF16PS of one word of each.
    fn pairs(sum: u32, a: u32, b: u32) -> u32 {
        let products = [0, 16].map(|shift| {
            let number = |word: u32| f32::from_bits(word >> shift << 16);
            number(a) * number(b)
        });
        (f32::from_bits(sum) + (products[0] + products[1])).to_bits()
    }

    /// TDPBUSD of one word of each.
    fn quads(sum: u32, a: u32, b: u32) -> u32 {
        let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(|(a, b)| i32::from(a) * i32::from(b as i8));
        sum.wrapping_add(products.sum::<i32>().cast_unsigned())
    }

    fn plain<const TILES: usize>(t: &Tiles, add_products: fn(u32, u32, u32) -> u32) {
        for tile in 0..TILES {
            for row in 0..TILE {
                for column in 0..COLUMNS {
                    // SAFETY: inside of what the strip is said to be made of.
                    unsafe {
                        let c = t.c.add((tile * TILE + row) * t.c_stride + column);
                        let mut sum = if t.carry { *c } else { 0 };
                        for step in 0..t.lines * LINE {
                            let a = *t.a.add(tile * t.to_second + (step / LINE * TILE + row) * LINE + step % LINE);
                            sum = add_products(sum, a, *t.b.add(step * COLUMNS + column));
                        }
                        *c = sum;
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_are_taken_from_where_they_stand() {
        against_the_definition(Precision::Bf16, &BF16);
        against_the_definition(Precision::Int8, &INT8);
        row_by_row(Precision::Bf16, &BF16);
        row_by_row(Precision::Int8, &INT8);
    }
}
