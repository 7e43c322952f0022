//! Every kernel that can run here against the definition in `f64`, and against the others.

use super::*;
use crate::made_up::numbers;

const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

/// Rows, numbers in, numbers out: tiles, panels, chunks and parts of all sizes, whole and with a rest.
const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [1, 768, 33],
    [5, 7, 16],
    [12, 64, 32],
    [13, 129, 31],
    [97, 513, 48],
    [50, 1030, 5],
    [25, 4099, 65],
    [200, 768, 40],
];

/// A weight with its bias.
fn packed(w: &[f32], bias: &[f32], n_in: usize, precision: Precision, kernel: &'static Kernel) -> Packed {
    Packed::for_kernel(w, bias.to_vec(), n_in, Activation::None, precision, kernel)
}

/// Its product, added to what is there.
fn of(packed: &Packed, x: &[f32], start: &[f32]) -> Vec<f32> {
    let mut out = start.to_vec();
    packed.multiply(x, None, true, &mut out);
    out
}

#[test]
fn every_kernel_equals_the_sum_written_out() {
    for precision in ALL {
        isa::all(precision).for_each(|kernel| against_the_definition(precision, kernel));
    }
}

/// A kernel against the sums written out in `f64`.
pub(super) fn against_the_definition(precision: Precision, kernel: &'static Kernel) {
    for [n, n_in, n_out] in SHAPES {
        let (x, w, bias, start) = (numbers(n * n_in, 1), numbers(n_in * n_out, 2), numbers(n_out, 3), numbers(n * n_out, 4));
        let round = |v: f32| match precision {
            Precision::Bf16 => f64::from(f32::from_bits(u32::from(quantise::bf16(v)) << 16)),
            Precision::F32 | Precision::Int8 => f64::from(v),
        };
        // Each of n_in partial sums, which grow to the root of n_in, is rounded once by 6e-8 of it; with integers half a level of 256
        // (of a range of 2) is lost in each factor of each product, and these losses add up like the root of their number.
        let tolerance = match precision {
            Precision::F32 | Precision::Bf16 => 1e-7 * n_in as f64 + 2e-6,
            Precision::Int8 => 0.015 * (n_in as f64).sqrt() + 0.01,
        };
        let got = of(&packed(&w, &bias, n_in, precision, kernel), &x, &start);
        for (i, row) in got.chunks_exact(n_out).enumerate() {
            for (o, v) in row.iter().enumerate() {
                let products = (0..n_in).map(|k| round(x[i * n_in + k]) * round(w[o * n_in + k]));
                let exact = products.sum::<f64>() + f64::from(bias[o]) + f64::from(start[i * n_out + o]);
                let off = (f64::from(*v) - exact).abs();
                assert!(off < tolerance, "{} {precision:?} [{n}, {n_in}, {n_out}] at {i}, {o}: off by {off:.1e}", kernel.name);
            }
        }
    }
}

#[test]
fn integer_kernels_agree_to_the_bit() {
    for [n, n_in, n_out] in SHAPES {
        let (x, w, zeros) = (numbers(n * n_in, 5), numbers(n_in * n_out, 6), vec![0.0; n * n_out]);
        let of = |kernel| of(&packed(&w, &zeros[..n_out], n_in, Precision::Int8, kernel), &x, &zeros);
        let mut kernels = isa::all(Precision::Int8);
        let first = of(kernels.next().unwrap());
        for kernel in kernels {
            assert!(of(kernel) == first, "{} [{n}, {n_in}, {n_out}]", kernel.name);
        }
    }
}

#[test]
fn a_row_is_the_same_to_the_bit_beside_any_others() {
    for precision in ALL {
        isa::all(precision).for_each(|kernel| row_by_row(precision, kernel));
    }
}

/// Rows of a kernel's products by themselves and among others.
pub(super) fn row_by_row(precision: Precision, kernel: &'static Kernel) {
    let (n_in, n_out) = (1100, 70);
    let (w, x) = (numbers(n_in * n_out, 7), numbers(260 * n_in, 8));
    let packed = packed(&w, &[0.0; 70], n_in, precision, kernel);
    let run = |first: usize, rows: usize| {
        let zeros = vec![0.0; rows * n_out];
        of(&packed, &x[first * n_in..(first + rows) * n_in], &zeros)
    };
    let whole = run(0, 260);
    for (first, rows) in [(0, 1), (259, 1), (3, 2), (7, 11), (20, 97), (60, 200)] {
        let part = run(first, rows);
        assert!(part == whole[first * n_out..(first + rows) * n_out], "{} {precision:?}: {rows} from {first}", kernel.name);
    }
}

#[test]
fn two_products_behind_each_other_are_as_one_by_one() {
    for [n, n_in, n_out] in SHAPES {
        let (x, w, v) = (numbers(n * n_in, 13), numbers(n_in * n_out, 14), numbers(n_in * n_out, 15));
        let (bias, second_bias) = (numbers(n_out, 16), numbers(n_in, 17));
        for precision in ALL {
            for kernel in isa::all(precision) {
                let first = Packed::for_kernel(&w, bias.clone(), n_in, Activation::Gelu, precision, kernel);
                let second = packed(&v, &second_bias, n_out, precision, kernel);
                let mut wide = vec![0.0; n * n_out];
                first.multiply(&x, None, false, &mut wide);
                let one_by_one = of(&second, &wide, &x);
                let mut at_once = x.clone();
                first.multiply_twice(&second, None, &mut at_once);
                assert!(at_once == one_by_one, "{} {precision:?} [{n}, {n_in}, {n_out}]", kernel.name);
            }
        }
    }
}

#[test]
fn what_is_not_finite_comes_out_so() {
    for precision in ALL {
        for kernel in isa::all(precision) {
            let packed = packed(&numbers(8 * 3, 9), &[0.0; 3], 8, precision, kernel);
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = numbers(8, 10);
                x[5] = bad;
                let got = of(&packed, &x, &[0.0; 3]);
                assert!(got.iter().all(|v| !v.is_finite()), "{} {precision:?} {bad}: {got:?}", kernel.name);
            }
        }
    }
}

#[test]
fn panels_multiply_with_and_without_turning() {
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for (n, n_in, n_columns) in [(50, 64, 53), (3, 1, 1), (25, 63, 32), (7, 257, 80)] {
            let stride = n_in + 6;
            // What stands between the rows is not looked at.
            let mut a = numbers(n * stride, 11);
            a.chunks_exact_mut(stride).for_each(|row| row[n_in..].fill(f32::NAN));
            let b = numbers(n_in * n_columns, 12);
            let turned: Vec<f32> = (0..n_columns * n_in).map(|i| b[i % n_in * n_columns + i / n_in]).collect();
            let (mut straight, mut transposed) = (Panels::default(), Panels::default());
            straight.beside(precision);
            transposed.beside(precision);
            straight.pack(&b, n_in, n_columns, n_columns);
            transposed.pack_transposed(&turned, n_columns, n_in, n_in);
            let width = straight.filled_columns(n_columns);
            let [mut c, mut d] = [(); 2].map(|()| vec![0.0; straight.filled_rows(n) * width]);
            let mut words = Words::default();
            let left = straight.left(&a, stride, n_in, n, &mut words);
            straight.multiply_columns(&left, 0..n_columns, (&mut c, width));
            transposed.multiply_columns(&left, 0..n_columns, (&mut d, width));
            assert_eq!(c[..n * width], d[..n * width], "{precision:?}");
            // In parts of columns, and in parts of rows that are added up.
            d.fill(f32::NAN);
            for first in (0..n_columns).step_by(32) {
                straight.multiply_columns(&left, first..n_columns.min(first + 32), (&mut d[first..], width));
            }
            assert_eq!(c[..n * width], d[..n * width], "{precision:?}");
            d.fill(f32::NAN);
            for first in (0..n_in).step_by(64) {
                let part = first..n_in.min(first + 64);
                let mut words = Words::default();
                let left = straight.left(&a[first..], stride, part.len(), n, &mut words);
                straight.multiply_part(&left, part, first > 0, &mut d);
            }
            let apart = c[..n * width].iter().zip(&d).map(|(c, d)| (c - d).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "{precision:?}, {n} x {n_in} x {n_columns}: parts are {apart} off");
            let in_pairs = isa::beside(precision).word == isa::Word::Bf16;
            let as_multiplied =
                |v: f32| f64::from(if in_pairs { f32::from_bits(u32::from(super::quantise::bf16(v)) << 16) } else { v });
            for i in 0..n {
                for j in 0..n_columns {
                    let product = |s: usize| as_multiplied(a[i * stride + s]) * as_multiplied(b[s * n_columns + j]);
                    let exact: f64 = (0..n_in).map(product).sum();
                    let got = f64::from(c[i * width + j]);
                    assert!((got - exact).abs() < 1e-5, "{precision:?}, {n} x {n_in} x {n_columns}: {got}, expected {exact}");
                }
            }
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn a_weight_comes_back_as_it_was_stored() {
    for precision in [Precision::F32, Precision::Bf16] {
        for kernel in isa::all(precision) {
            for (n_in, n_out) in [(1, 1), (33, 21), (64, 96), (7, 130)] {
                let stored = numbers(n_in * n_out, 3);
                let rounded: Vec<f32> = stored.iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect();
                let packed = Packed::for_kernel(&stored, vec![0.5; n_out], n_in, Activation::None, precision, kernel);
                assert_eq!((packed.precision(), packed.bias()), (precision, [0.5].repeat(n_out).as_slice()));
                let back = packed.unpacked();
                assert_eq!(
                    back,
                    if precision == Precision::F32 { stored } else { rounded },
                    "{}: {n_in} to {n_out}",
                    kernel.name
                );
            }
        }
    }
}
