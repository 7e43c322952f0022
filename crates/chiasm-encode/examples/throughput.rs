//! Items per second of an encoder, on made-up input of an everyday size.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release -p chiasm-encode --example throughput -- MODELS_DIR [NAME ...]
//! ```
//!
//! Prints, per encoder, the best of five rounds (the others met more company on the machine) and the CPU time per item.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use chiasm_core::{Image, Media, Modality, Waveform};
use chiasm_encode::{ModelDirs, catalogue, open};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("give the folder of the models")?;
    let mut names: Vec<String> = args.collect();
    if names.is_empty() {
        names = catalogue().iter().filter(|info| info.needs.is_some()).map(|info| info.name.to_owned()).collect();
    }
    let models = ModelDirs::new(vec![PathBuf::from(folder)]);
    println!("{} threads", rayon::current_num_threads());
    for name in names {
        let encoder = open(&name, &models)?;
        for n_items in [1, 32] {
            let batch: Vec<Media> = (0..n_items).map(|i| made_up(encoder.modality(), i)).collect();
            encoder.encode(&batch)?;
            let (mut best, cpu_before, n_rounds) = (f64::INFINITY, cpu_seconds(), 5);
            for _ in 0..n_rounds {
                let start = Instant::now();
                encoder.encode(&batch)?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            let cpu_ms = (cpu_seconds() - cpu_before) * 1000.0 / f64::from(n_rounds * n_items);
            println!(
                "{name:<22} batch {n_items:>2}: {:>8.1} items/s, {cpu_ms:>7.2} ms CPU per item",
                f64::from(n_items) / best
            );
        }
    }
    Ok(())
}

/// A photo of 500 x 375, a caption of 14 tokens, a sound of three seconds, a minute of readings, a video of two seconds, a shape of
/// 2,000 triangles.
fn made_up(modality: Modality, seed: u32) -> Media {
    let mut state = seed.wrapping_add(1);
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    match modality {
        Modality::Image => Media::Image(Image { width: 500, height: 375, rgb: (0..500 * 375 * 3).map(|_| noise()).collect() }),
        Modality::Text => Media::Text("A brown dog runs over the wet grass with a ball .".to_owned()),
        Modality::Video => {
            let frame =
                |_| std::sync::Arc::new(Image { width: 341, height: 256, rgb: (0..341 * 256 * 3).map(|_| noise()).collect() });
            Media::Video(chiasm_core::Video {
                frames: (0..20).map(frame).collect(),
                times_s: (0..20).map(|i| f64::from(i) / 10.0).collect(),
                duration_s: 2.0,
            })
        }
        Modality::Audio => {
            let samples = (0..48_000).map(|_| f32::from(noise()) / 128.0 - 1.0).collect();
            Media::Audio(Waveform { sample_rate_hz: 16_000, samples })
        }
        Modality::Series => Media::Series(chiasm_core::Series {
            n_channels: 3,
            names: Vec::new(),
            values: (0..3 * 60 * 50).map(|_| f32::from(noise())).collect(),
        }),
        Modality::Shape => Media::Shape(chiasm_core::Mesh {
            vertices: (0..3 * 2_000).map(|_| std::array::from_fn(|_| f32::from(noise()))).collect(),
            triangles: (0..2_000).map(|i| [3 * i, 3 * i + 1, 3 * i + 2]).collect(),
        }),
    }
}

/// CPU time of this process so far, user and system; 0 where the system does not tell it the way Linux does.
fn cpu_seconds() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // After the name, which is in brackets: fields 14 and 15, in ticks of a hundredth of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}
