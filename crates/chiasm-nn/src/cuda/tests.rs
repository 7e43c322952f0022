//! The GPU against the layers on the CPU. Where there is none, each test says so and passes; `CHIASM_GPU=1` makes that a failure.

use super::{Device, DeviceError, DevicePictures, DeviceStack, Keep, PictureParts};
use crate::activation::Activation;
use crate::attention::{Mask, Qkv};
use crate::kernel::Precision;
use crate::linear::Linear;
use crate::made_up::{checkpoint, numbers};
use crate::map::FeatureMap;
use crate::norm::LayerNorm;
use crate::transformer::{Block, BlockNames, BlockScratch, BlockShape, Order};

fn device() -> Option<Device> {
    match Device::open() {
        Ok(device) => Some(device),
        Err(e) => {
            assert!(std::env::var_os("CHIASM_GPU").is_none(), "{e}");
            let clear = matches!(e, DeviceError::Library { .. } | DeviceError::NoCard { .. });
            assert!(clear, "no GPU, and no reason that names a cure: {e}");
            eprintln!("skipped: {e}");
            None
        }
    }
}

/// Blocks of one shape, of numbers made up from the seed.
fn blocks(n: usize, shape: BlockShape, precision: Precision, seed: u32) -> Vec<Block> {
    let BlockShape { dim, wide, .. } = shape;
    let tensors: [(&str, Vec<usize>, f32, f32); 12] = [
        ("qkv.weight", vec![3 * dim, dim], 0.0, 2.0),
        ("qkv.bias", vec![3 * dim], 0.0, 0.2),
        ("out.weight", vec![dim, dim], 0.0, 1.0),
        ("out.bias", vec![dim], 0.0, 0.2),
        ("norm_1.weight", vec![dim], 1.0, 0.2),
        ("norm_1.bias", vec![dim], 0.0, 0.2),
        ("widen.weight", vec![wide, dim], 0.0, 2.0),
        ("widen.bias", vec![wide], 0.0, 0.2),
        ("narrow.weight", vec![dim, wide], 0.0, 1.0),
        ("narrow.bias", vec![dim], 0.0, 0.2),
        ("norm_2.weight", vec![dim], 1.0, 0.2),
        ("norm_2.bias", vec![dim], 0.0, 0.2),
    ];
    let one = |i: usize| {
        let tensors: Vec<(&str, Vec<f32>, Vec<usize>)> = tensors
            .iter()
            .enumerate()
            .map(|(t, (name, shape, centre, spread))| {
                let n = shape.iter().product();
                // Products keep the size of what goes in.
                let spread = if shape.len() == 2 { spread / (shape[1] as f32).sqrt() } else { *spread };
                let values = numbers(n, seed + (100 * i + t) as u32).into_iter().map(|v| centre + spread * v).collect();
                (*name, values, shape.clone())
            })
            .collect();
        let mut w = checkpoint(&tensors);
        w.set_precision(precision);
        let names = BlockNames {
            qkv: Qkv::Stacked(["qkv.weight", "qkv.bias"].map(str::to_owned)),
            out: "out".to_owned(),
            norm_1: "norm_1".to_owned(),
            widen: "widen".to_owned(),
            narrow: "narrow".to_owned(),
            norm_2: "norm_2".to_owned(),
            scales: None,
        };
        Block::load(&mut w, &names, shape).unwrap()
    };
    (0..n).map(one).collect()
}

fn on_cpu(blocks: &[Block], mut x: Vec<f32>, lengths: &[usize], causal: bool) -> Vec<f32> {
    let mut scratch = BlockScratch::default();
    let mask = || if causal { Mask::Causal } else { Mask::None };
    blocks.iter().for_each(|block| block.forward(&mut x, lengths, mask(), &mut scratch));
    x
}

/// The largest difference, relative where numbers are above 1; what is not a number is larger than any.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// Differences of two blocks: some hundred roundings of 6e-8; of bfloat16 some of 4e-3, whose place differs, most of them averaged away.
fn tolerance(precision: Precision) -> f32 {
    if precision == Precision::F32 { 2e-5 } else { 4e-2 }
}

#[test]
fn blocks_equal_those_on_the_cpu() {
    let Some(device) = device() else { return };
    let activations =
        [Activation::Gelu, Activation::QuickGelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh];
    let lengths = [50, 1, 77, 16, 130, 3, 257, 64];
    let mut failures = Vec::new();
    // Widths of heads: those of most models, those that fill no tile of tensor cores, and those that have none.
    for (case, (head, n_heads, wide)) in
        [(64, 3, 768), (32, 4, 256), (72, 2, 300), (80, 2, 320), (128, 1, 256), (6, 5, 31), (8, 1, 8)].into_iter().enumerate()
    {
        for (order, causal, precision) in [
            (Order::PreNorm, false, Precision::F32),
            (Order::PostNorm, true, Precision::F32),
            (Order::PreNorm, true, Precision::Bf16),
            (Order::PostNorm, false, Precision::Bf16),
        ] {
            let (dim, activation) = (head * n_heads, activations[case % activations.len()]);
            let shape = BlockShape { dim, wide, n_heads, eps: 1e-5, activation, order };
            let blocks = blocks(2, shape, precision, 7);
            let x = numbers(lengths.iter().sum::<usize>() * dim, 3);
            let what = format!("{head} x {n_heads}, {order:?}, causal {causal}, {precision:?}");
            let got = DeviceStack::new(&device, &blocks).and_then(|stack| stack.forward(&x, &lengths, causal, Keep::All));
            match got {
                Ok(got) => {
                    let off = difference(&got, &on_cpu(&blocks, x, &lengths, causal));
                    eprintln!("{what}: {off:.1e}");
                    if off.is_nan() || off > tolerance(precision) {
                        failures.push(format!("{what} differ by {off:.1e}"));
                    }
                }
                Err(e) => failures.push(format!("{what}: {e}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_row_hardly_depends_on_its_batch_and_chosen_rows_are_those_of_all() {
    let Some(device) = device() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        let shape =
            BlockShape { dim: 128, wide: 512, n_heads: 2, eps: 1e-5, activation: Activation::Gelu, order: Order::PreNorm };
        let stack = DeviceStack::new(&device, &blocks(2, shape, precision, 9)).unwrap();
        let lengths = [50; 40];
        let x = numbers(50 * 40 * 128, 4);
        let all = stack.forward(&x, &lengths, false, Keep::All).unwrap();
        let places: Vec<usize> = (0..40).map(|i| i % 50).collect();
        let chosen = stack.forward(&x, &lengths, false, Keep::One(&places)).unwrap();
        let first = stack.forward(&x, &lengths, false, Keep::First).unwrap();
        for i in 0..40 {
            let row = |place: usize| &all[(50 * i + place) * 128..][..128];
            assert_eq!(&chosen[i * 128..][..128], row(places[i]), "the same batch gives the same bits");
            assert_eq!(&first[i * 128..][..128], row(0));
        }
        let alone = stack.forward(&x[..50 * 128], &[50], false, Keep::All).unwrap();
        let off = difference(&alone, &all[..50 * 128]);
        eprintln!("{precision:?}: alone and in a batch differ by {off:.1e}");
        assert!(off <= tolerance(precision) / 2.0, "{off:.1e}");
        assert!(stack.forward(&[], &[], false, Keep::All).unwrap().is_empty());
    }
}

#[test]
fn pictures_equal_those_on_the_cpu() {
    let Some(device) = device() else { return };
    for (precision, side, with_class) in
        [(Precision::F32, 7, true), (Precision::Bf16, 7, false), (Precision::F32, 8, false), (Precision::Bf16, 4, true)]
    {
        let (dim, channels) = (64, 3);
        let (down, across) = (5, 3);
        let shape =
            BlockShape { dim, wide: 128, n_heads: 2, eps: 1e-5, activation: Activation::QuickGelu, order: Order::PreNorm };
        let blocks = blocks(1, shape, precision, 5);
        let k = side * side * channels;
        let weight: Vec<f32> = numbers(k * dim, 6).into_iter().map(|v| v / (k as f32).sqrt()).collect();
        let layer = Linear::new(&weight, numbers(dim, 7), k, Activation::None);
        let (class, positions) = (numbers(dim, 8), numbers(down * across * dim, 9));
        let mut w = checkpoint(&[("norm.weight", numbers(dim, 10), vec![dim]), ("norm.bias", numbers(dim, 11), vec![dim])]);
        let norm = LayerNorm::load(&mut w, "norm", dim, 1e-5).unwrap();
        // What does not fill a patch is left out.
        let (height, width) = (down * side + 2, across * side + 1);
        let picture = |seed| FeatureMap { height, width, channels, data: numbers(height * width * channels, seed) };
        let pictures: Vec<FeatureMap> = (20..26).map(picture).collect();

        let mut x = Vec::new();
        for picture in &pictures {
            if with_class {
                x.extend_from_slice(&class);
            }
            for at in 0..down * across {
                let (y, x_at) = (at / across * side, at % across * side);
                let line = |l: usize| &picture.data[((y + l) * width + x_at) * channels..][..side * channels];
                let patch: Vec<f32> = (0..side).flat_map(line).copied().collect();
                let mut token = Vec::new();
                layer.forward(&patch, &mut token);
                x.extend(token.iter().zip(&positions[at * dim..]).map(|(v, p)| v + p));
            }
        }
        norm.forward(&mut x);
        let n = down * across + usize::from(with_class);
        let want = on_cpu(&blocks, x, &[n; 6], false);

        let parts = PictureParts {
            patches: &layer,
            side,
            channels,
            class: with_class.then_some(class.as_slice()),
            positions: &positions,
            norm: Some(&norm),
        };
        let net = DevicePictures::new(&device, parts, &blocks).unwrap();
        let got = net.forward(&pictures, Keep::All).unwrap();
        let off = difference(&got, &want);
        eprintln!("{precision:?}, patches of {side}: {off:.1e}");
        assert!(off <= tolerance(precision), "{off:.1e}");
        let uploaded = net.upload(&pictures).unwrap();
        assert_eq!(net.forward_uploaded(&uploaded, Keep::All).unwrap(), got);

        let mut odd = pictures.clone();
        odd[3] = FeatureMap { height, width: width - side, channels, data: numbers(height * (width - side) * channels, 1) };
        let refused = net.forward(&odd, Keep::All).unwrap_err().to_string();
        assert!(refused.contains("with 10 patches came"), "{refused}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(device) = device() else { return };
    let shape = BlockShape { dim: 160, wide: 8, n_heads: 1, eps: 1e-5, activation: Activation::Gelu, order: Order::PreNorm };
    for (blocks, words) in [
        (blocks(1, BlockShape { dim: 16, ..shape }, Precision::Int8, 1), "not in 8-bit integers"),
        (blocks(1, shape, Precision::F32, 1), "160 numbers wide"),
        (Vec::new(), "without blocks"),
    ] {
        let refused = DeviceStack::new(&device, &blocks).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    // More memory than any card has is an error, not an abort.
    let refused = device.allocate(1 << 50).unwrap_err();
    assert!(matches!(refused, DeviceError::Memory { .. }), "{refused}");
}
