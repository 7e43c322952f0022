//! A world on disk: the same for the same seed, readable as what it says it is, never half there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chiasm_core::{Cancel, NoProgress, Progress};
use chiasm_world::{Split, World, WorldConfig, WorldError, generate, render};

const SMALL: WorldConfig = WorldConfig { seed: 5, n_train: 12, n_heldout: 6 };

fn make(dir: &Path, config: &WorldConfig) -> Result<World, WorldError> {
    generate(dir, config, &NoProgress, &Cancel::default())
}

/// Every file below `dir` with its contents.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_seed_fixes_every_byte_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    make(&a, &SMALL).unwrap();
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| make(&b, &SMALL)).unwrap();
    make(&c, &WorldConfig { seed: 6, ..SMALL }).unwrap();
    let (a, b, c) = (files(&a), files(&b), files(&c));
    assert_eq!(a.len(), 18 * 5 + 4);
    assert!(a == b, "two runs of one seed differ");
    assert!(a.keys().eq(c.keys()));
    let same = a.iter().filter(|(path, bytes)| c[*path] == **bytes).count();
    assert!(same < 4, "{same} files of another seed are the same");
}

/// Of the contents, not of their files: a new version of the PNG encoder may compress otherwise. A change here changes every
/// world: raise `WORLD_VERSION` with it.
#[test]
fn the_world_of_a_seed_is_the_same_on_every_platform() {
    let dir = tempfile::tempdir().unwrap();
    let world = make(dir.path(), &SMALL).unwrap();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| bytes.iter().for_each(|b| hash = (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    for item in &world.items {
        let scene = render(&item.scene, SMALL.seed, item.number);
        add(scene.text.as_bytes());
        add(scene.text_zh.as_bytes());
        add(&scene.image.rgb);
        scene.audio.samples.iter().for_each(|v| add(&v.to_le_bytes()));
        scene.series.values.iter().for_each(|v| add(&v.to_le_bytes()));
    }
    assert_eq!(format!("{hash:016x}"), "c3f6ed8b942f3f94");
}

#[test]
fn files_decode_to_what_was_rendered_and_the_tables_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let world = make(dir.path(), &SMALL).unwrap();
    for item in &world.items {
        let scene = render(&item.scene, SMALL.seed, item.number);
        let picture = image::open(dir.path().join(&item.image)).unwrap().into_rgb8();
        assert_eq!((picture.width(), picture.height()), (128, 128));
        assert_eq!(picture.into_raw(), scene.image.rgb);

        let mut wav = hound::WavReader::open(dir.path().join(&item.audio)).unwrap();
        assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.spec().bits_per_sample), (1, 16_000, 16));
        let samples: Vec<f32> = wav.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_767.0).collect();
        assert_eq!(samples.len(), scene.audio.samples.len());
        assert!(samples.iter().zip(&scene.audio.samples).all(|(a, b)| (a - b).abs() < 1.0 / 32_000.0));
        // Neither silent nor clipped.
        let peak = samples.iter().fold(0.0f32, |m, s| m.max(s.abs()));
        assert!((0.03..0.999).contains(&peak), "{} peaks at {peak}", item.audio.display());

        let csv = fs::read_to_string(dir.path().join(&item.series)).unwrap();
        let mut lines = csv.lines();
        assert_eq!(lines.next(), Some("x,y,z"));
        let values: Vec<f32> = lines.flat_map(|l| l.split(',').map(|v| v.parse::<f32>().unwrap())).collect();
        assert_eq!(values.len(), 600);
        assert!(values.iter().zip(&scene.series.values).all(|(a, b)| (a - b).abs() < 0.001));

        assert_eq!(fs::read_to_string(dir.path().join(&item.text_file)).unwrap(), format!("{}\n", item.text));
        assert_eq!(fs::read_to_string(dir.path().join(&item.text_zh_file)).unwrap(), format!("{}\n", item.text_zh));
    }
    for (table, split) in [("train.csv", Split::Train), ("heldout.csv", Split::Heldout)] {
        let csv = fs::read_to_string(dir.path().join(table)).unwrap();
        let mut lines = csv.lines();
        assert_eq!(lines.next(), Some("image,text,text_zh,audio,series"));
        let items: Vec<_> = world.items.iter().filter(|item| item.split == split).collect();
        assert_eq!(lines.clone().count(), items.len());
        for (line, item) in lines.zip(items) {
            let cells: Vec<&str> = line.split(',').collect();
            let [image, text, text_zh, audio, series] = cells[..] else { panic!("{line}") };
            assert_eq!((Path::new(image), text, text_zh), (item.image.as_path(), item.text.as_str(), item.text_zh.as_str()));
            assert!([image, audio, series].iter().all(|path| dir.path().join(path).is_file()));
        }
    }
}

#[test]
fn no_heldout_caption_is_a_training_caption() {
    let dir = tempfile::tempdir().unwrap();
    let world = make(dir.path(), &WorldConfig { seed: 1, n_train: 60, n_heldout: 30 }).unwrap();
    let seen: Vec<&String> = world.train().flat_map(|item| [&item.text, &item.text_zh]).collect();
    assert!(world.heldout().all(|item| !seen.contains(&&item.text) && !seen.contains(&&item.text_zh)));
    assert_eq!(world.heldout().filter(|item| item.unseen_combination).count(), 15);
    assert_eq!(World::load(dir.path()).unwrap(), world);
}

#[test]
fn a_finished_world_is_kept_and_its_gaps_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    let world = make(dir.path(), &SMALL).unwrap();
    let before = files(dir.path());
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::remove_file(dir.path().join("sounds/0003.wav")).unwrap();
    assert_eq!(make(dir.path(), &SMALL).unwrap(), world);
    let mut after = files(dir.path());
    assert_eq!(after.remove(Path::new("notes.txt")).as_deref(), Some(&b"mine"[..]));
    assert!(before == after);
}

#[test]
fn other_folders_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years").unwrap();
    let error = make(dir.path(), &SMALL).unwrap_err();
    assert!(matches!(error, WorldError::NotAWorld { .. }), "{error}");
    assert_eq!(files(dir.path()).len(), 1);
    assert!(matches!(World::load(dir.path()), Err(WorldError::NotAWorld { .. })));
    // A file where the folder should be.
    let error = make(&dir.path().join("thesis.txt"), &SMALL).unwrap_err();
    assert!(matches!(error, WorldError::Io { .. }), "{error}");

    let other = dir.path().join("world");
    make(&other, &SMALL).unwrap();
    let error = make(&other, &WorldConfig { seed: 9, ..SMALL }).unwrap_err();
    assert!(error.to_string().contains("seed 5 with 12 + 6 scenes, asked for was seed 9"), "{error}");

    for (n_train, n_heldout) in [(0, 0), (10_000, 0), (usize::MAX, usize::MAX)] {
        let error = make(&dir.path().join("new"), &WorldConfig { seed: 1, n_train, n_heldout }).unwrap_err();
        assert!(matches!(error, WorldError::Count { .. }), "{error}");
    }
    assert!(!dir.path().join("new").exists());
}

/// Cancels after a number of scenes.
struct StopAfter(AtomicU64, u64, Cancel);

impl Progress for StopAfter {
    fn start(&self, _stage: &str, n_steps: Option<u64>) {
        assert_eq!(n_steps, Some(18));
    }
    fn advance(&self, n_steps: u64) {
        if self.0.fetch_add(n_steps, Ordering::Relaxed) + n_steps >= self.1 {
            self.2.cancel();
        }
    }
    fn note(&self, _line: &str) {}
    fn finish(&self) {}
}

#[test]
fn a_stopped_world_says_so_and_can_be_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (half, whole) = (dir.path().join("half"), dir.path().join("whole"));
    let cancel = Cancel::default();
    let error = generate(&half, &SMALL, &StopAfter(AtomicU64::new(0), 5, cancel.clone()), &cancel).unwrap_err();
    assert!(matches!(error, WorldError::Cancelled(_)), "{error}");
    assert!(matches!(World::load(&half), Err(WorldError::Unfinished { .. })));
    assert!(files(&half).keys().all(|path| path.extension().is_some_and(|e| e != "partial")));
    // What a crash may leave: a file of the right name with no contents.
    fs::write(half.join("sounds/0001.wav"), b"").unwrap();
    assert_eq!(make(&half, &SMALL).unwrap().items, make(&whole, &SMALL).unwrap().items);
    assert!(files(&half) == files(&whole));
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &SMALL).unwrap();
    let truth = dir.path().join("truth.jsonl");
    let lines = fs::read_to_string(&truth).unwrap();
    fs::write(&truth, lines.replacen("\"number\":2,", "\"number\":x,", 1)).unwrap();
    let error = World::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("truth.jsonl, line 2: "), "{error}");
    fs::write(&truth, lines.lines().next().unwrap()).unwrap();
    let error = World::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("1 scenes instead of 18"), "{error}");
    fs::write(dir.path().join("world.json"), "{").unwrap();
    assert!(matches!(make(dir.path(), &SMALL), Err(WorldError::Damaged { .. })));
}

#[test]
fn a_write_that_fails_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    // A folder in the way of a file: the rename onto it fails as a write to a full disk would.
    make(dir.path(), &SMALL).unwrap();
    fs::remove_file(dir.path().join("series/0002.csv")).unwrap();
    fs::create_dir_all(dir.path().join("series/0002.csv/x")).unwrap();
    let error = make(dir.path(), &SMALL).unwrap_err();
    assert!(error.to_string().contains("cannot write") && error.to_string().contains("0002.csv"), "{error}");
    assert!(!dir.path().join("series/0002.csv.partial").exists());
}
