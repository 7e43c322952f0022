//! A small generated world with ground truth in every modality.
//!
//! A *scene* is one or two coloured shapes and how they stand to each other. [`generate`] deals a deck of scenes, all different,
//! and writes each as a picture, a caption in English, one in Chinese, a sound and a motion, together with the truth behind them.
//! Some pairs of colour and shape occur in held-out scenes only, so that one can ask whether a method has learnt what "green" and
//! what "heart" mean, or only the green things it has seen. `docs/world.md` tells what each attribute does in each modality.
//!
//! # On disk
//! | path | holds |
//! | --- | --- |
//! | `pictures/NNNN.png` | 128 x 128 pixels, RGB |
//! | `sounds/NNNN.wav` | 1.8 s, 16 kHz, mono, 16 bits |
//! | `texts/NNNN.en.txt`, `texts/NNNN.zh.txt` | one caption each |
//! | `series/NNNN.csv` | header `x,y,z`, 200 rows, 50 per second |
//! | `train.csv`, `heldout.csv` | `image,text,text_zh,audio,series`: paths from the world's folder; captions in full |
//! | `truth.jsonl` | one [`Item`] per line |
//! | `world.json` | what the world was made from, and whether it was finished |
//!
//! # Determinism
//! A seed and two counts fix every byte, on any number of threads: each scene draws from ChaCha streams of its own, and sines
//! and exponentials come from `libm`, not from the platform.
//!
//! # Example
//! ```
//! use chiasm_core::{Cancel, NoProgress};
//! use chiasm_world::{World, WorldConfig, generate};
//!
//! let dir = tempfile::tempdir()?;
//! let config = WorldConfig { seed: 7, n_train: 3, n_heldout: 2 };
//! let world = generate(dir.path(), &config, &NoProgress, &Cancel::default())?;
//! assert_eq!(world.items.len(), 5);
//! assert_eq!(world.items[0].text, std::fs::read_to_string(dir.path().join("texts/0001.en.txt"))?.trim_end());
//! assert_eq!(World::load(dir.path())?, world);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod caption;
mod dice;
mod motion;
mod outline;
mod picture;
mod scene;
mod sound;
mod write;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chiasm_core::{Cancel, Cancelled, Image, Progress, Series, Waveform};
use serde::{Deserialize, Serialize};

pub use scene::{Colour, Relation, Scene, Shape, Size, Split, Swap, Thing};

use dice::Dice;
use scene::Dealt;

/// What decides a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldConfig {
    /// Another seed, another world.
    pub seed: u64,
    /// Scenes to learn from.
    pub n_train: usize,
    /// Scenes to be judged by; half of them (the smaller half) hold a pair of colour and shape that training never shows.
    pub n_heldout: usize,
}

impl Default for WorldConfig {
    /// 480 scenes to learn from and 120 to be judged by: 3,000 files, about 62 MB.
    fn default() -> Self {
        Self { seed: 1, n_train: 480, n_heldout: 120 }
    }
}

/// One scene of a world with everything it was written as. Paths are relative to the world's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Number of the scene, from 1; `NNNN` in the file names.
    pub number: usize,
    /// Training or held out.
    pub split: Split,
    /// Whether it holds a pair of colour and shape that training never shows.
    pub unseen_combination: bool,
    /// What it is.
    pub scene: Scene,
    /// The English caption.
    pub text: String,
    /// The Chinese caption.
    pub text_zh: String,
    /// The picture.
    pub image: PathBuf,
    /// The file with the English caption.
    pub text_file: PathBuf,
    /// The file with the Chinese caption.
    pub text_zh_file: PathBuf,
    /// The sound.
    pub audio: PathBuf,
    /// The motion.
    pub series: PathBuf,
}

/// A world on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Its folder.
    pub dir: PathBuf,
    /// What it was made from.
    pub config: WorldConfig,
    /// The pairs of colour and shape that only held-out scenes show.
    pub unseen_pairs: Vec<(Colour, Shape)>,
    /// Its scenes by number, training scenes first.
    pub items: Vec<Item>,
}

/// Why a world could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The folder holds something else.
    #[error("{} is not empty and holds no world (no {MARKER}): name a new or empty folder", dir.display())]
    NotAWorld {
        /// The folder asked for.
        dir: PathBuf,
    },
    /// The folder holds a world made from something else.
    #[error(
        "{} holds a world of seed {} with {} + {} scenes, asked for was seed {} with {} + {}: name another folder, or remove this one first",
        dir.display(), found.seed, found.n_train, found.n_heldout, asked.seed, asked.n_train, asked.n_heldout
    )]
    OtherWorld {
        /// The folder asked for.
        dir: PathBuf,
        /// What is there.
        found: WorldConfig,
        /// What was asked for.
        asked: WorldConfig,
    },
    /// A number of scenes that cannot be dealt.
    #[error("a world has 1 to {} scenes in all, asked for were {n_train} + {n_heldout}", scene::SCENES_MAX)]
    Count {
        /// Training scenes asked for.
        n_train: usize,
        /// Held-out scenes asked for.
        n_heldout: usize,
    },
    /// Generation was interrupted.
    #[error("the world in {} was not finished: generate it again, with the same numbers", dir.display())]
    Unfinished {
        /// Its folder.
        dir: PathBuf,
    },
    /// A file could not be written or read; a full disk comes here.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// `write`, `read`, `make the folder`.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the world that is no longer what was written.
    #[error("{}, line {line}: {reason}; generate the world again in a new folder", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Stopped on request; a later call with the same config finishes the world.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The file that makes a folder a world.
pub(crate) const MARKER: &str = "world.json";

/// Contents of [`MARKER`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) world: u32,
    pub(crate) config: WorldConfig,
    pub(crate) unseen_pairs: Vec<(Colour, Shape)>,
    pub(crate) finished: bool,
}

/// Version of what scenes look and sound like; raised when any byte of a world changes.
pub(crate) const WORLD_VERSION: u32 = 1;

/// Makes a world in `dir`, which must be new, empty, or hold the same world already; a finished one is only read back (files
/// missing from it are written again), an unfinished one is finished.
///
/// Every file appears at once under its name or not at all. Nothing that the world does not own is touched.
///
/// # Errors
/// [`WorldError::Count`], [`WorldError::NotAWorld`], [`WorldError::OtherWorld`], [`WorldError::Io`], [`WorldError::Cancelled`].
pub fn generate(dir: &Path, config: &WorldConfig, progress: &dyn Progress, cancel: &Cancel) -> Result<World, WorldError> {
    write::generate(dir, config, progress, cancel)
}

impl World {
    /// Reads the truth of a finished world back.
    ///
    /// # Errors
    /// [`WorldError::NotAWorld`] without a marker, [`WorldError::Unfinished`], [`WorldError::Damaged`], [`WorldError::Io`].
    pub fn load(dir: &Path) -> Result<Self, WorldError> {
        let marker = write::read_marker(dir)?.ok_or_else(|| WorldError::NotAWorld { dir: dir.to_owned() })?;
        if !marker.finished {
            return Err(WorldError::Unfinished { dir: dir.to_owned() });
        }
        let path = dir.join("truth.jsonl");
        let lines = fs::read_to_string(&path).map_err(|source| WorldError::Io { doing: "read", path: path.clone(), source })?;
        let damaged = |line, reason| WorldError::Damaged { path: path.clone(), line, reason };
        let mut items = Vec::new();
        for (i, line) in lines.lines().enumerate() {
            items.push(serde_json::from_str(line).map_err(|e| damaged(i + 1, e.to_string()))?);
        }
        let expected = marker.config.n_train + marker.config.n_heldout;
        if items.len() != expected {
            return Err(damaged(items.len(), format!("{} scenes instead of {expected}", items.len())));
        }
        Ok(Self { dir: dir.to_owned(), config: marker.config, unseen_pairs: marker.unseen_pairs, items })
    }

    /// The scenes to learn from.
    pub fn train(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.split == Split::Train)
    }

    /// The scenes to be judged by.
    pub fn heldout(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.split == Split::Heldout)
    }
}

/// A scene in every modality, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The picture.
    pub image: Image,
    /// The English caption.
    pub text: String,
    /// The Chinese caption.
    pub text_zh: String,
    /// The sound.
    pub audio: Waveform,
    /// The motion.
    pub series: Series,
}

/// Renders any scene, also one that no deck deals (two things of one colour, say), as scene `number` of the world of `seed`
/// would look: for probing what a space has learnt. Modalities draw from separate streams, four per scene.
pub fn render(scene: &Scene, seed: u64, number: usize) -> Rendered {
    let [text, text_zh] = captions(scene, seed, number);
    let (image, audio, series) = (picture(scene, seed, number), sound(scene, seed, number), motion(scene, seed, number));
    Rendered { text, text_zh, image, audio, series }
}

/// Its captions alone, in English and in Chinese.
pub fn captions(scene: &Scene, seed: u64, number: usize) -> [String; 2] {
    let mut words = stream(seed, number, 0);
    [caption::english(scene, &mut words), caption::chinese(scene, &mut words)]
}

/// Its picture alone, 128 x 128.
pub fn picture(scene: &Scene, seed: u64, number: usize) -> Image {
    picture::draw(scene, &mut stream(seed, number, 1))
}

/// Its sound alone.
pub fn sound(scene: &Scene, seed: u64, number: usize) -> Waveform {
    sound::play(scene, &mut stream(seed, number, 2))
}

/// Its motion alone.
pub fn motion(scene: &Scene, seed: u64, number: usize) -> Series {
    motion::trace(scene, &mut stream(seed, number, 3))
}

fn stream(seed: u64, number: usize, modality: u64) -> Dice {
    Dice::new(seed, number as u64 * 4 + modality)
}

/// The scenes of a world without any file: those to learn from first, all different; see [`generate`].
///
/// # Errors
/// [`WorldError::Count`].
pub fn deck(config: &WorldConfig) -> Result<Vec<Scene>, WorldError> {
    let n_scenes = config.n_train.saturating_add(config.n_heldout);
    if n_scenes == 0 || n_scenes > scene::SCENES_MAX {
        return Err(WorldError::Count { n_train: config.n_train, n_heldout: config.n_heldout });
    }
    Ok(scene::deal(config).into_iter().map(|dealt| dealt.scene).collect())
}

/// The entry of a dealt scene, without rendering what is not text.
pub(crate) fn item(dealt: Dealt, seed: u64, number: usize) -> Item {
    let [text, text_zh] = captions(&dealt.scene, seed, number);
    let name = format!("{number:04}");
    Item {
        number,
        split: dealt.split,
        unseen_combination: dealt.unseen_combination,
        text,
        text_zh,
        scene: dealt.scene,
        image: PathBuf::from(format!("pictures/{name}.png")),
        text_file: PathBuf::from(format!("texts/{name}.en.txt")),
        text_zh_file: PathBuf::from(format!("texts/{name}.zh.txt")),
        audio: PathBuf::from(format!("sounds/{name}.wav")),
        series: PathBuf::from(format!("series/{name}.csv")),
    }
}
