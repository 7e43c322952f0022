//! A world onto the disk, so that it can be stopped, continued and trusted.

use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::path::Path;

use chiasm_core::{Cancel, Image, Progress, Waveform};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;

use crate::scene::{SCENES_MAX, deal, unseen_pairs};
use crate::{Item, MARKER, Marker, WORLD_VERSION, World, WorldConfig, WorldError, item, motion, render};

pub(crate) fn generate(
    dir: &Path,
    config: &WorldConfig,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<World, WorldError> {
    let n_scenes = config.n_train.saturating_add(config.n_heldout);
    if n_scenes == 0 || n_scenes > SCENES_MAX {
        return Err(WorldError::Count { n_train: config.n_train, n_heldout: config.n_heldout });
    }
    let found = read_marker(dir)?;
    match &found {
        Some(marker) if marker.config != *config || marker.world != WORLD_VERSION => {
            return Err(WorldError::OtherWorld { dir: dir.to_owned(), found: marker.config, asked: *config });
        }
        Some(_) => {}
        None if !is_absent_or_empty(dir)? => return Err(WorldError::NotAWorld { dir: dir.to_owned() }),
        None => {}
    }
    let items: Vec<Item> = deal(config).into_iter().enumerate().map(|(i, dealt)| item(dealt, config.seed, i + 1)).collect();
    let world = World { dir: dir.to_owned(), config: *config, unseen_pairs: unseen_pairs(config.seed), items };
    // Of an unfinished world nothing is trusted: the machine may have gone down before its files reached the disk.
    let finished_before = found.is_some_and(|marker| marker.finished);
    make_dir(dir)?;
    if !finished_before {
        write_marker(&world, false)?;
    }
    for part in ["pictures", "sounds", "texts", "series"] {
        make_dir(&dir.join(part))?;
    }
    progress.start("making the world", Some(n_scenes as u64));
    let written = world.items.par_iter().try_for_each(|item| {
        cancel.check()?;
        write_item(&world, item, finished_before)?;
        progress.advance(1);
        Ok::<(), WorldError>(())
    });
    progress.finish();
    written?;
    let tables = [
        ("train.csv", pairs_csv(world.train())),
        ("heldout.csv", pairs_csv(world.heldout())),
        ("truth.jsonl", truth_jsonl(&world)),
    ];
    for (name, contents) in tables {
        let path = dir.join(name);
        if !(finished_before && path.is_file()) {
            write_file(&path, contents.as_bytes())?;
        }
    }
    if !finished_before {
        write_marker(&world, true)?;
    }
    Ok(world)
}

/// The marker of a folder, if it is a world's.
pub(crate) fn read_marker(dir: &Path) -> Result<Option<Marker>, WorldError> {
    let path = dir.join(MARKER);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| WorldError::Damaged {
            path,
            line: e.line(),
            reason: e.to_string(),
        }),
        // `NotADirectory`: `dir` is a file; making the folder will say so.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(WorldError::Io { doing: "read", path, source }),
    }
}

fn write_marker(world: &World, finished: bool) -> Result<(), WorldError> {
    let marker = Marker { world: WORLD_VERSION, config: world.config, unseen_pairs: world.unseen_pairs.clone(), finished };
    // A struct of numbers and unit variants: serde_json has nothing to refuse.
    let mut json = serde_json::to_string_pretty(&marker).expect("a marker is plain data");
    json.push('\n');
    write_file(&world.dir.join(MARKER), json.as_bytes())
}

fn is_absent_or_empty(dir: &Path) -> Result<bool, WorldError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(WorldError::Io { doing: "read", path: dir.to_owned(), source }),
    }
}

fn make_dir(dir: &Path) -> Result<(), WorldError> {
    fs::create_dir_all(dir).map_err(|source| WorldError::Io { doing: "make the folder", path: dir.to_owned(), source })
}

/// Writes the five files of a scene, or those of them that are missing.
fn write_item(world: &World, item: &Item, only_missing: bool) -> Result<(), WorldError> {
    let files = [&item.image, &item.text_file, &item.text_zh_file, &item.audio, &item.series].map(|path| world.dir.join(path));
    if only_missing && files.iter().all(|path| path.is_file()) {
        return Ok(());
    }
    let scene = render(&item.scene, world.config.seed, item.number);
    let contents = [
        png(&scene.image).map_err(|e| encoding_failed(&files[0], e))?,
        format!("{}\n", scene.text).into_bytes(),
        format!("{}\n", scene.text_zh).into_bytes(),
        wav(&scene.audio).map_err(|e| encoding_failed(&files[3], e))?,
        motion::to_csv(&scene.series).into_bytes(),
    ];
    for (path, bytes) in files.iter().zip(contents) {
        if !(only_missing && path.is_file()) {
            write_file(path, &bytes)?;
        }
    }
    Ok(())
}

fn encoding_failed(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> WorldError {
    WorldError::Io { doing: "encode", path: path.to_owned(), source: io::Error::other(error) }
}

/// Under another name first, then renamed, so that no half file ever has the right name.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let written = File::create(&partial).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // The disk may be full: leave no half file behind. That this too can fail changes nothing for the caller.
        let _ = fs::remove_file(&partial);
        WorldError::Io { doing: "write", path: path.to_owned(), source }
    })
}

fn png(image: &Image) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub).write_image(
        &image.rgb,
        image.width,
        image.height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

fn wav(sound: &Waveform) -> Result<Vec<u8>, hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: sound.sample_rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in &sound.samples {
        writer.write_sample((sample * 32_767.0).round() as i16)?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}

/// `image,text,text_zh,audio,series`. Captions and paths hold neither commas, quotes nor line ends, so nothing needs quoting.
fn pairs_csv<'a>(items: impl Iterator<Item = &'a Item>) -> String {
    let mut csv = String::from("image,text,text_zh,audio,series\n");
    for item in items {
        let cells = [
            &item.image.display().to_string(),
            &item.text,
            &item.text_zh,
            &item.audio.display().to_string(),
            &item.series.display().to_string(),
        ];
        debug_assert!(cells.iter().all(|cell| !cell.contains([',', '"', '\n', '\r'])));
        csv.push_str(&cells.map(String::as_str).join(","));
        csv.push('\n');
    }
    csv
}

fn truth_jsonl(world: &World) -> String {
    // Plain data with string keys and valid Unicode paths: serde_json has nothing to refuse.
    world.items.iter().map(|item| serde_json::to_string(item).expect("an item is plain data") + "\n").collect()
}
