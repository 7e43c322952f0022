//! A handful of things in four modalities, each told by its colour, pitch, words and rhythm, and a space fitted on them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use chiasm_align::Draft;
use chiasm_core::{Cancel, Modality, NoProgress, Progress};
use chiasm_engine::{EngineError, FitRequest, IndexOptions, IndexReport, Library, ModelDirs, Space, fit_space};

pub(crate) const N_THINGS: usize = 48;
const COLOURS: [(&str, &str, [u8; 3]); 6] = [
    ("red", "红色", [220, 30, 30]),
    ("green", "绿色", [30, 200, 40]),
    ("blue", "蓝色", [30, 50, 220]),
    ("yellow", "黄色", [230, 220, 40]),
    ("white", "白色", [245, 245, 245]),
    ("black", "黑色", [15, 15, 15]),
];
const PLACES: [(&str, &str); 2] = [("left", "左边"), ("right", "右边")];

/// Words for a thing, English and Chinese.
pub(crate) fn words(i: usize) -> (String, String) {
    let (colour, colour_zh, _) = COLOURS[i % COLOURS.len()];
    let (place, place_zh) = PLACES[i / COLOURS.len() % PLACES.len()];
    (format!("a {colour} square on the {place}, number {i}"), format!("{place_zh}有一个{colour_zh}的方块，第{i}个"))
}

pub(crate) fn write_png(path: &Path, i: usize) {
    let (_, _, colour) = COLOURS[i % COLOURS.len()];
    let left = (i / COLOURS.len()).is_multiple_of(PLACES.len());
    // A few pixels that differ, so that no two things have the same bytes.
    let image = image::RgbImage::from_fn(64, 48, |x, y| {
        let inside = (12..36).contains(&y) && if left { (6..30).contains(&x) } else { (34..58).contains(&x) };
        let noise = ((x as usize * 7 + y as usize * 13 + i * 31) % 11) as u8;
        image::Rgb(if inside { colour.map(|c| c.saturating_sub(noise)) } else { [120 + noise; 3] })
    });
    image.save(path).unwrap();
}

/// A thing as an animated picture, which flickers: every other frame is grey all over.
pub(crate) fn write_gif(path: &Path, i: usize) {
    let still = path.with_extension("png");
    write_png(&still, i);
    let thing = image::open(&still).unwrap().to_rgba8();
    std::fs::remove_file(&still).unwrap();
    let grey = image::RgbaImage::from_pixel(thing.width(), thing.height(), image::Rgba([120, 120, 120, 255]));
    let mut encoder = image::codecs::gif::GifEncoder::new(std::fs::File::create(path).unwrap());
    for n in 0..4 {
        let canvas = if n % 2 == 0 { &thing } else { &grey };
        let delay = image::Delay::from_numer_denom_ms(if n % 2 == 0 { 900 } else { 100 }, 1);
        encoder.encode_frame(image::Frame::from_parts(canvas.clone(), 0, 0, delay)).unwrap();
    }
}

pub(crate) fn write_wav(path: &Path, i: usize, seconds: f32) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let pitch = 220.0 * 2f32.powf((i % COLOURS.len()) as f32 / 3.0);
    let beat = if (i / COLOURS.len()).is_multiple_of(PLACES.len()) { 2.0 } else { 6.0 };
    for n in 0..(16_000.0 * seconds) as usize {
        let t = n as f32 / 16_000.0;
        let loud = 0.5 + 0.5 * (std::f32::consts::TAU * beat * t).sin();
        let value = 0.6 * loud * (std::f32::consts::TAU * pitch * t + i as f32).sin();
        writer.write_sample((value * 32_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

pub(crate) fn write_csv(path: &Path, i: usize) {
    let frequency = 1.0 + (i % COLOURS.len()) as f32 * 2.0;
    let trend = if (i / COLOURS.len()).is_multiple_of(PLACES.len()) { 1.0 } else { -1.0 };
    let mut text = "x,y\n".to_owned();
    for n in 0..128 {
        let t = n as f32 / 128.0;
        let x = (std::f32::consts::TAU * frequency * t + i as f32 * 0.01).sin();
        text.push_str(&format!("{x:.4},{:.4}\n", trend * t + 0.1 * x));
    }
    std::fs::write(path, text).unwrap();
}

/// Writes all things of a range as files, and a table of pairs beside them.
pub(crate) fn write_things(dir: &Path, range: std::ops::Range<usize>) {
    for folder in ["pictures", "sounds", "texts", "series"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let mut table = "image,audio,series,text,text_zh\n".to_owned();
    for i in range {
        let (en, zh) = words(i);
        write_png(&dir.join(format!("pictures/{i:03}.png")), i);
        write_wav(&dir.join(format!("sounds/{i:03}.wav")), i, 1.0);
        write_csv(&dir.join(format!("series/{i:03}.csv")), i);
        std::fs::write(dir.join(format!("texts/{i:03}.en.txt")), &en).unwrap();
        std::fs::write(dir.join(format!("texts/{i:03}.zh.txt")), &zh).unwrap();
        table.push_str(&format!("pictures/{i:03}.png,sounds/{i:03}.wav,series/{i:03}.csv,\"{en}\",{zh}\n"));
    }
    // Hidden, so that an index of the folder does not take it for a series.
    std::fs::write(dir.join(".pairs.csv"), table).unwrap();
}

/// A draft in memory that asks for a stop when it was written so many times.
struct Stopping {
    parts: Mutex<HashMap<String, Vec<u8>>>,
    left: AtomicUsize,
    cancel: Cancel,
}

impl Draft for Stopping {
    fn get(&self, part: &str) -> Option<Vec<u8>> {
        self.parts.lock().unwrap().get(part).cloned()
    }

    fn put(&self, part: &str, bytes: &[u8]) -> Result<(), String> {
        self.parts.lock().unwrap().insert(part.to_owned(), bytes.to_vec());
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
        Ok(())
    }

    fn forget(&self, part: &str) {
        self.parts.lock().unwrap().remove(part);
    }

    fn every(&self, _took: Duration) -> Duration {
        Duration::ZERO
    }
}

/// What `work` comes to when it is stopped again and again, each time after so few writes that work which did not go on would never end.
pub(crate) fn in_pieces<T>(n_writes: usize, work: impl Fn(&dyn Draft, &Cancel) -> Result<T, EngineError>) -> T {
    let (mut parts, mut stop) = (HashMap::new(), 1);
    let done = loop {
        assert!(stop < 300, "it never ends");
        let draft = Stopping { parts: Mutex::new(parts), left: AtomicUsize::new(n_writes), cancel: Cancel::default() };
        match work(&draft, &draft.cancel) {
            Ok(done) => break done,
            Err(EngineError::Cancelled(_)) => parts = draft.parts.into_inner().unwrap(),
            Err(e) => panic!("{e}"),
        }
        stop += 1;
    };
    assert!(stop > 4, "{stop} runs are none");
    done
}

pub(crate) fn models() -> ModelDirs {
    ModelDirs::new(Vec::new())
}

/// A space of four kinds, fitted once per test program.
pub(crate) fn space() -> Space {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        write_things(dir.path(), 0..N_THINGS);
        let encoders = [
            (Modality::Image, "colour-layout"),
            (Modality::Audio, "mel-contour"),
            (Modality::Text, "char-ngrams"),
            (Modality::Series, "series-spectrum"),
        ];
        let request = FitRequest {
            name: "things".to_owned(),
            encoders: encoders.map(|(m, name)| (m, name.to_owned())).into(),
            method: "mcca".to_owned(),
            pairs: Some(dir.path().join(".pairs.csv")),
            root: dir.path().to_owned(),
            folds: Some(3),
            seed: 1,
            ..FitRequest::default()
        };
        let outcome = fit_space(&request, &models(), &NoProgress, &Cancel::default(), None).unwrap();
        let path = dir.path().join("things.space");
        outcome.space.save(&path).unwrap();
        (dir, path)
    });
    Space::load(path, &models()).unwrap()
}

/// A library beside a folder of things, not yet indexed.
pub(crate) struct Set {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) files: PathBuf,
    pub(crate) library: Library,
}

pub(crate) fn set(range: std::ops::Range<usize>) -> Set {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    write_things(&files, range);
    let library = Library::create(&dir.path().join("library"), &space()).unwrap();
    Set { dir, files, library }
}

impl Set {
    pub(crate) fn index(&self) -> IndexReport {
        self.index_with(&IndexOptions::default())
    }

    pub(crate) fn index_with(&self, options: &IndexOptions) -> IndexReport {
        let report = self.library.index(std::slice::from_ref(&self.files), options, &NoProgress, &Cancel::default()).unwrap();
        let verified = self.library.verify(true).unwrap();
        assert!(verified.is_clean() && verified.outdated.is_empty(), "{verified:?}");
        report
    }

    pub(crate) fn id(&self, name: &str) -> i64 {
        self.library.find_item(self.files.join(name).to_str().unwrap()).unwrap().id
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.library.find_item(self.files.join(name).to_str().unwrap()).is_ok()
    }
}

/// Stops the work after some steps of the stage `index`.
pub(crate) struct StopAfter {
    pub(crate) on: AtomicBool,
    pub(crate) steps: AtomicU64,
    pub(crate) limit: u64,
    pub(crate) cancel: Cancel,
}

impl Progress for StopAfter {
    fn start(&self, stage: &str, _n_steps: Option<u64>) {
        self.on.store(stage == "index", Ordering::Relaxed);
    }

    fn advance(&self, n_steps: u64) {
        if self.on.load(Ordering::Relaxed) && self.steps.fetch_add(n_steps, Ordering::Relaxed) + n_steps >= self.limit {
            self.cancel.cancel();
        }
    }

    fn note(&self, _line: &str) {}

    fn finish(&self) {}
}
