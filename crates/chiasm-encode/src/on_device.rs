//! Whole towers on a GPU against themselves on the CPU. Where there is no GPU the tests say so and pass; `CHIASM_GPU=1` makes that a
//! failure.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chiasm_core::{Image, Media, Modality};
use chiasm_nn::cuda::{Device, DeviceError};
use chiasm_nn::{FeatureMap, Precision};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::dirs::ModelDirs;
use crate::model::Output;
use crate::net::{Net, Tower, Wanted, on_all_cores};
use crate::nets::{clip, families, sentence_bert};
use crate::parity::{Golden, goldens, pictures, texts, write};
use crate::registry::{self, Manner};

/// Largest difference of unit embeddings.
const TOLERANCE: f32 = 1e-3;
/// The same with products in bfloat16, against the CPU in single precision.
const TOLERANCE_BF16: f32 = 3e-2;
/// Goldens that must run on a GPU: those whose names begin so.
const ON_DEVICE: [&str; 19] = [
    "align_text",
    "bert",
    "chinese_clip",
    "clap_text",
    "clip_",
    "dinov2",
    "open_clip_bert",
    "open_clip_coca_image",
    "open_clip_eos",
    "open_clip_first",
    "open_clip_mean",
    "open_clip_quick",
    "open_clip_roberta",
    "open_clip_siglip",
    "roberta",
    "sentence",
    "siglip",
    "vit",
    "xlm",
];

fn device() -> Option<Device> {
    match Device::open() {
        Ok(device) => Some(device),
        Err(e) => {
            assert!(std::env::var_os("CHIASM_GPU").is_none(), "{e}");
            eprintln!("skipped: {e}");
            None
        }
    }
}

fn files() -> Vec<PathBuf> {
    goldens(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/nets")))
}

fn unit(rows: &[Vec<f32>]) -> Vec<f32> {
    rows.iter()
        .flat_map(|row| {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
            row.iter().map(move |v| v / length)
        })
        .collect()
}

/// The largest; what is not a number is larger than any.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// Brings a network to the GPU: the largest difference from the CPU, of a batch of many copies, and of single items; none where the architecture
/// stays on the CPU.
fn compare<I: Clone + Sync>(
    net: &mut dyn Net<I>,
    inputs: &[I],
    want: &[Vec<f32>],
    device: &Device,
) -> Result<Option<f32>, DeviceError> {
    if !net.move_to(device)? {
        return Ok(None);
    }
    let batch: Vec<I> = inputs.iter().cycle().take(inputs.len() * 7).cloned().collect();
    let got = net.embed_all(&batch)?;
    let mut off = 0.0f32;
    for (i, row) in got.iter().enumerate() {
        off = off.max(difference(&unit(std::slice::from_ref(row)), &unit(&want[i % inputs.len()..][..1])));
    }
    for (input, want) in inputs.iter().zip(want) {
        let alone = net.embed_all(std::slice::from_ref(input))?;
        off = off.max(difference(&unit(&alone), &unit(std::slice::from_ref(want))));
    }
    Ok(Some(off))
}

fn open(folder: &Path, modality: Modality, precision: Precision) -> Tower {
    let mut files = Checkpoint::new(folder).with_manner(Manner { precision, on_device: false });
    let opened = if files.has("modules.json") {
        sentence_bert::open(&mut files)
    } else {
        (families::family_of(folder).unwrap().open)(&mut files, Wanted { modality, output: Output::Embedding })
    };
    opened.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).tower
}

#[test]
fn towers_equal_themselves_on_the_cpu() {
    let Some(device) = device() else { return };
    let (mut failures, mut n) = (Vec::new(), 0);
    for json in files() {
        let name = json.file_stem().unwrap().to_string_lossy().into_owned();
        let golden: Golden = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let bytes = std::fs::read(json.with_extension("safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let Ok(modality) = golden.tower.parse::<Modality>() else { continue };
        let folder = tempfile::tempdir().unwrap();
        write(&golden, folder.path());
        let on_cpu = open(folder.path(), modality, Precision::F32);
        for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::Bf16, TOLERANCE_BF16)] {
            let off = match (&on_cpu, open(folder.path(), modality, precision)) {
                (Tower::Image(_, cpu), Tower::Image(_, mut net)) => {
                    let inputs = pictures(&expected, "input");
                    compare(net.as_mut(), &inputs, &on_all_cores(cpu.as_ref(), &inputs), &device)
                }
                (Tower::Text(_, cpu), Tower::Text(_, mut net)) => {
                    let inputs = texts(&expected);
                    compare(net.as_mut(), &inputs, &on_all_cores(cpu.as_ref(), &inputs), &device)
                }
                _ => continue,
            };
            match off {
                Ok(Some(off)) => {
                    eprintln!("{name}, {precision:?}: {off:.1e}");
                    n += 1;
                    if off.is_nan() || off > tolerance {
                        failures.push(format!("{name}, {precision:?}: unit embeddings differ by {off:.1e}"));
                    }
                }
                Ok(None) if ON_DEVICE.iter().any(|on| name.starts_with(on)) => {
                    failures.push(format!("{name} stays on the CPU"))
                }
                Ok(None) => {}
                Err(e) => failures.push(format!("{name}, {precision:?}: {e}")),
            }
        }
    }
    assert!(failures.is_empty() && n > 0, "{n} compared\n{}", failures.join("\n"));
}

/// From a name to embeddings, as people ask for it.
#[test]
fn a_name_asks_for_the_gpu() {
    let json = files().into_iter().find(|file| file.ends_with("clip_quick_image.json")).expect("a golden of CLIP");
    let golden: Golden = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(&golden, folder.path());
    let named = |end: &str| registry::open(&format!("{}:image{end}", folder.path().display()), &ModelDirs::default());
    if device().is_none() {
        let refused = named("+cuda").err().expect("there is no GPU").to_string();
        assert!(
            refused.contains("the driver") || refused.contains("LD_LIBRARY_PATH") || refused.contains("nvidia-smi"),
            "{refused}"
        );
        return;
    }
    let image = |seed: usize| Image { width: 40, height: 30, rgb: (0..3600).map(|i| (i * seed % 251) as u8).collect() };
    let batch: Vec<Media> = (3..9).map(|seed| Media::Image(image(seed))).collect();
    let (cpu, gpu, gpu_bf16) = (named("").unwrap(), named("+cuda").unwrap(), named("+bf16+cuda").unwrap());
    let want = cpu.encode(&batch).unwrap();
    for (encoder, tolerance) in [(&gpu, TOLERANCE), (&gpu_bf16, TOLERANCE_BF16)] {
        assert_ne!(encoder.fingerprint(), cpu.fingerprint());
        let off = difference(encoder.encode(&batch).unwrap().data(), want.data());
        assert!(off <= tolerance, "{}: {off:.1e}", encoder.name());
    }
    let refused = named("+int8+cuda").err().expect("integers have no products there").to_string();
    assert!(refused.contains("not in 8-bit integers"), "{refused}");
}

/// Pictures per second, where `CHIASM_GPU_BENCH` names a folder that `reference/bench_gpu.py` wrote: `model`, an image tower of CLIP, and
/// `pixels.f32`, preprocessed pictures `[n, height, width, 3]`. Embeddings go to `ours_f32.f32` and `ours_bf16.f32` beside them;
/// `CHIASM_GPU_BENCH_ONLY` names one of the two precisions.
#[test]
fn pictures_per_second() {
    let Some(folder) = std::env::var_os("CHIASM_GPU_BENCH").map(PathBuf::from) else {
        eprintln!("skipped: CHIASM_GPU_BENCH names no folder");
        return;
    };
    let device = Device::open().unwrap_or_else(|e| panic!("{e}"));
    #[derive(Deserialize)]
    struct Config {
        vision_config: clip::VisionConfig,
        projection_dim: usize,
        pixels: usize,
    }
    let path = folder.join("model/config.json");
    let config: Config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let side = config.pixels;
    let bytes = std::fs::read(folder.join("pixels.f32")).unwrap();
    let pixels: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let map = |data: &[f32]| FeatureMap { height: side, width: side, channels: 3, data: data.to_vec() };
    let pictures: Vec<FeatureMap> = pixels.chunks_exact(side * side * 3).map(map).collect();
    let only = std::env::var("CHIASM_GPU_BENCH_ONLY").ok();
    for precision in [Precision::Bf16, Precision::F32] {
        if only.as_ref().is_some_and(|only| only != precision.as_str()) {
            continue;
        }
        let mut files = Checkpoint::new(&folder.join("model")).with_manner(Manner { precision, on_device: true });
        let mut net = clip::vision_alone(&mut files, &path, &config.vision_config, config.projection_dim).unwrap();
        let on_cpu = (precision == Precision::F32).then(|| on_all_cores(&net, &pictures[..2]));
        assert!(net.move_to(&device).unwrap_or_else(|e| panic!("{e}")));
        let from_host = || net.embed_all(&pictures).unwrap_or_else(|e| panic!("{e}"));
        let got = from_host();
        if let Some(want) = on_cpu {
            eprintln!(
                "ours f32: largest difference of unit embeddings from the CPU {:.1e}",
                difference(&unit(&got[..2]), &unit(&want))
            );
        }
        let out: Vec<u8> = unit(&got).iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("ours_{}.f32", precision.as_str())), out).unwrap();
        let uploaded = net.upload(&pictures).unwrap_or_else(|e| panic!("{e}"));
        let from_device = || net.embed_uploaded(&uploaded).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(from_device(), got);
        let speed = |run: &dyn Fn() -> Vec<Vec<f32>>| {
            let mut times = Vec::new();
            let until = Instant::now() + Duration::from_millis(1500);
            while times.len() < 3 || Instant::now() < until {
                let begun = Instant::now();
                run();
                times.push(begun.elapsed());
            }
            times.sort();
            pictures.len() as f64 / times[times.len() / 2].as_secs_f64()
        };
        eprintln!(
            "ours {}: {:.0} pictures/s from the machine's memory, {:.0} from the card's, {} at a time on {device:?}",
            precision.as_str(),
            speed(&from_host),
            speed(&from_device),
            pictures.len()
        );
    }
}
