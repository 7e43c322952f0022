//! What is trained, on what, and how: a TOML file.
//!
//! ```toml
//! seed = 1
//!
//! [model]
//! projection = 64
//! image = { size = 32, patch = 8, width = 64, inner = 128, layers = 2, heads = 4 }
//! text = { vocabulary = 512, tokens = 24, width = 64, inner = 128, layers = 2, heads = 4 }
//!
//! [[data]]
//! kind = "folder"
//! dir = "photos"
//! captions = "captions.csv"
//!
//! [train]
//! epochs = 20
//! batch = 128
//! ```
//! In place of `[model]` may stand a checkpoint that is tuned, each tower in its own way:
//!
//! ```toml
//! [start]
//! checkpoint = "openai/clip-vit-base-patch32"
//! image = { train = "frozen" }
//! text = { train = "lora", rank = 8 }
//! ```
//! Paths are taken from the folder of the file. What is not said has the default that stands here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chiasm_core::Modality;
use chiasm_nn::Precision;
use chiasm_nn::learn::{Decay, Rule};
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainError, io};

/// The whole description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Decides everything that is drawn: first weights, order, alternatives, validation part.
    #[serde(default)]
    pub seed: u64,
    /// Towers of this project's own; either these or `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// A checkpoint of another's making whose towers go on learning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// What is learned from.
    pub data: Vec<Source>,
    /// Changes at random of what is learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// A larger model that shows how close things are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    /// How.
    #[serde(default)]
    pub train: Train,
}

/// A dual encoder that is tuned: a checkpoint in Hugging Face's layout whose `model_type` is `clip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Its folder, or its name as `chiasm model list` knows it.
    pub checkpoint: String,
    /// How its tower for pictures learns.
    #[serde(default)]
    pub image: Tune,
    /// How its tower for texts learns.
    #[serde(default)]
    pub text: Tune,
}

/// How a tower of a checkpoint learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    /// What of it changes.
    #[serde(default)]
    pub train: Learns,
    /// For `lora`: of the change.
    pub rank: Option<usize>,
    /// For `lora`: scale of the change times `rank`; 16 where nothing is said.
    pub alpha: Option<f64>,
}

/// What of a tower changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learns {
    /// All of it.
    #[default]
    Full,
    /// Nothing; a frozen tower for pictures beside one for texts that learns is locked-image tuning (Zhai et al., CVPR 2022).
    Frozen,
    /// Dense layers of its blocks by low-rank changes (Hu et al., ICLR 2022), which are merged in what is written.
    Lora,
}

/// Learning from a teacher's similarities (Yang et al., "CLIP-KD", CVPR 2024; Wu et al., "TinyCLIP", ICCV 2023).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// Folder or name of a model that takes at least two of the kinds.
    pub teacher: String,
    /// Of the divergence of the student's shares of a batch from the teacher's, beside the objective at weight 1.
    #[serde(default = "unit")]
    pub weight: f64,
    /// Of the mean distance `1 - cosine` of the student's embeddings from the teacher's, which must have as many numbers.
    #[serde(default)]
    pub cosine: f64,
    /// Of the objective itself: with 0 nothing but the teacher is learned from.
    #[serde(default = "unit")]
    pub objective: f64,
    /// What the teacher's cosines are multiplied by; where nothing is said, what its weights say.
    pub scale: Option<f64>,
}

fn unit() -> f64 {
    1.0
}

/// The towers, and where they begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Numbers per embedding.
    pub projection: usize,
    /// For pictures.
    pub image: Option<Image>,
    /// For texts.
    pub text: Option<Text>,
    /// For sounds.
    pub audio: Option<Audio>,
    /// For readings over time.
    pub series: Option<Series>,
    /// What reads a text with a picture before it, and so re-ranks what the towers find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<Matching>,
    /// Folder of a model that `chiasm train` made: towers that it has begin as they are there. They must have the same sizes, and the tokeniser is taken from it.
    pub start: Option<PathBuf>,
    /// Towers that are left as they are: a locked image tower (Zhai et al., CVPR 2022), or one through which another modality is bound
    /// (Girdhar et al., CVPR 2023).
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Low-rank changes of towers whose weights are left as they are.
    pub lora: Option<Lora>,
}

/// `W + (alpha / rank) B A` in place of each dense layer's `W` (Hu et al., ICLR 2022); merged into it in what is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Of the change.
    pub rank: usize,
    /// Its scale times `rank`.
    #[serde(default = "lora_alpha")]
    pub alpha: f64,
    /// Towers that are changed so.
    pub towers: Vec<String>,
}

fn lora_alpha() -> f64 {
    16.0
}

macro_rules! tower {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $default:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: usize,)*
            /// Numbers per token.
            pub width: usize,
            /// Numbers per token between the two layers of the feed-forward part.
            pub inner: usize,
            /// Blocks.
            pub layers: usize,
            /// Attention heads, of which the width is a multiple.
            pub heads: usize,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* width: 128, inner: 384, layers: 4, heads: 4 }
            }
        }

        impl $name {
            pub(crate) fn sizes(&self) -> chiasm_encode::Sizes {
                chiasm_encode::Sizes { width: self.width, inner: self.inner, layers: self.layers, heads: self.heads }
            }
        }
    };
}

tower! {
    /// A tower for pictures.
    Image {
        /// Pixels along a side.
        size: 64,
        /// Pixels along a side of a patch.
        patch: 8,
    }
}

tower! {
    /// A tower for texts.
    Text {
        /// Words of the tokeniser at most, which is learned from the texts.
        vocabulary: 4096,
        /// Words of a text at most.
        tokens: 48,
    }
}

tower! {
    /// A tower for sounds.
    Audio {
        /// Samples per second.
        rate_hz: 16_000,
        /// Bands of the spectrum.
        bands: 64,
        /// Frames, 10 ms apart; of longer sounds the first.
        frames: 192,
        /// Frames that become one token.
        patch: 8,
    }
}

tower! {
    /// A tower for readings over time.
    Series {
        /// Steps to which time is stretched.
        steps: 192,
        /// Channels that are looked at.
        channels: 6,
        /// Steps that become one token.
        window: 8,
    }
}

/// Blocks in which the words of a text look at the patches of a picture (Li et al., "Align before Fuse", NeurIPS 2021).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matching {
    /// Numbers per word.
    pub width: usize,
    /// Numbers per word between the two layers of the feed-forward part.
    pub inner: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads, of which the width is a multiple.
    pub heads: usize,
    /// Of its loss beside the objective.
    pub weight: f64,
    /// Things of a batch that are read, each with wrong ones; 0: all.
    pub pairs: usize,
    /// Texts wrong by an exchange at most that each thing is read with, where the data have them: of each kind of exchange one.
    #[serde(skip_serializing_if = "is_one")]
    pub exchanges: usize,
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

impl Default for Matching {
    fn default() -> Self {
        Self { width: 128, inner: 384, layers: 2, heads: 4, weight: 1.0, pairs: 64, exchanges: 1 }
    }
}

impl Matching {
    pub(crate) fn sizes(&self) -> chiasm_encode::Sizes {
        chiasm_encode::Sizes { width: self.width, inner: self.inner, layers: self.layers, heads: self.heads }
    }
}

/// Where things that belong together stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Scenes of the small world, made while they are learned from (`docs/world.md`).
    World {
        /// Of the world.
        world: u64,
        /// Scenes that are passed over first, for another world of this seed may be judged by them.
        #[serde(default)]
        skip: usize,
        /// Scenes to learn from.
        scenes: usize,
        /// Scenes beside them for validation.
        #[serde(default)]
        validation: usize,
        /// Ways in which each scene is drawn, told and played.
        #[serde(default = "one")]
        variants: usize,
        /// Whether a text that is wrong by one swap stands beside each right one, for pictures to be told from.
        #[serde(default)]
        swapped: bool,
    },
    /// A table with a header, CSV or (by its ending) JSON lines; a row is one thing.
    Table {
        /// The file.
        file: PathBuf,
        /// Columns of each kind of media: paths from the folder of the table, or texts themselves. What a row leaves empty it does not have.
        columns: BTreeMap<String, Vec<String>>,
        /// Share of the rows that is set aside.
        #[serde(default = "tenth")]
        validation: f64,
    },
    /// A folder of pictures (or sounds, or series) and a table of captions: file name, caption; a file may have several.
    Folder {
        /// The folder.
        dir: PathBuf,
        /// CSV with a header and two columns.
        captions: PathBuf,
        /// Share of the files that is set aside.
        #[serde(default = "tenth")]
        validation: f64,
    },
    /// Shards of the WebDataset layout: tar files whose members of one name but for the ending belong together. They are looked through once and then
    /// read where they stand.
    Shards {
        /// The files.
        files: Vec<PathBuf>,
        /// Share of the things that is set aside.
        #[serde(default = "tenth")]
        validation: f64,
    },
}

fn one() -> usize {
    1
}

fn tenth() -> f64 {
    0.1
}

/// Changes at random of what is learned from, anew each time that it comes; what is set aside stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Of pictures.
    pub image: Option<AugmentImage>,
    /// Of sounds.
    pub audio: Option<AugmentAudio>,
    /// Of readings over time.
    pub series: Option<AugmentSeries>,
}

/// Changes of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentImage {
    /// Share of the picture that is looked at, at least; width to height 3:4 to 4:3 of what is cut. 1: all of it.
    pub area: f64,
    /// Whether half of them are seen in a mirror, where nothing that is said of them is about left and right.
    pub mirror: bool,
    /// By how much brightness, contrast and colour are multiplied, more or less than 1 at most.
    pub light: f64,
}

impl Default for AugmentImage {
    fn default() -> Self {
        Self { area: 1.0, mirror: false, light: 0.0 }
    }
}

/// Changes of sounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentAudio {
    /// By how much they are faster and higher, or slower and lower, at most: .1 for a tenth.
    pub speed: f64,
    /// Decibels by which they are louder or less loud at most.
    pub gain_db: f64,
    /// Noise at most, as a share of the sound's root mean square.
    pub noise: f64,
    /// Bands of the spectrum beside one another that are left out at most.
    pub bands: usize,
    /// Frames after one another that are left out at most.
    pub frames: usize,
}

/// Changes of readings over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSeries {
    /// By how much each channel is multiplied, more or less than 1 at most.
    pub scale: f64,
    /// Noise at most, as a share of each channel's deviation.
    pub noise: f64,
}

/// By what the towers are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Symmetric cross-entropies with a learned temperature (Radford et al., ICML 2021); equal texts are right answers to one another (Yang et al., CVPR 2022).
    Infonce,
    /// Each pair by itself, with a learned temperature and bias (Zhai et al., ICCV 2023).
    Siglip,
    /// The hardest wrong answer of the batch, with a margin of .2 (Faghri et al., BMVC 2018).
    Triplet,
}

/// How it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// What is made small.
    pub objective: Objective,
    /// Which kinds are brought together; every two of the model where nothing is said.
    pub pairs: Vec<[String; 2]>,
    /// Times over all data at most.
    pub epochs: usize,
    /// Things of a step.
    pub batch: usize,
    /// Things that go through the towers at once; fewer than `batch` keeps memory small at the cost of a second pass, with the same gradients (Gao et al., RepL4NLP
    /// 2021). 0: all.
    pub chunk: usize,
    /// Batches whose gradients are summed before a step.
    pub accumulate: usize,
    /// `adamw`, `adam`, `sgd` or `lamb`.
    pub optimiser: String,
    /// Greatest learning rate.
    pub rate: f64,
    /// Steps of the rise.
    pub warm_up: usize,
    /// `cosine`, `constant` or `step`.
    pub schedule: String,
    /// For `step`: epochs between two falls to a tenth.
    pub every: usize,
    /// Weight decay.
    pub decay: f64,
    /// Length of all gradients together at most.
    pub clip: f64,
    /// Share of the running mean of weights that a step keeps; 0 for none.
    pub ema: f64,
    /// Label smoothing of `infonce` (ALIGN: .1).
    pub smoothing: f64,
    /// Share of numbers left out behind each block.
    pub dropout: f64,
    /// First temperature of `infonce` and `siglip`, as what a cosine is multiplied with.
    pub scale: f64,
    /// Epochs without a better one after which it ends; 0: never.
    pub patience: usize,
    /// Seconds between two checkpoints within an epoch; after each epoch there is one in any case.
    pub checkpoint_s: u64,
    /// Bytes of prepared media that are kept in memory.
    pub cache_bytes: usize,
    /// `f32` or `f16`: how weights are written.
    pub weights: String,
    /// `f32` or `bf16`: what dense layers multiply, and on the way back what their gradients do; sums, all else and what is learned stay in single precision.
    #[serde(skip_serializing_if = "is_f32")]
    pub precision: String,
}

/// Descriptions that say nothing of it are those that they were before it could be said.
fn is_f32(precision: &str) -> bool {
    precision == "f32"
}

impl Default for Train {
    fn default() -> Self {
        Self {
            objective: Objective::Infonce,
            pairs: Vec::new(),
            epochs: 30,
            batch: 256,
            chunk: 0,
            accumulate: 1,
            optimiser: "adamw".to_owned(),
            rate: 1e-3,
            warm_up: 100,
            schedule: "cosine".to_owned(),
            every: 10,
            decay: 0.1,
            clip: 1.0,
            ema: 0.99,
            smoothing: 0.0,
            dropout: 0.0,
            scale: 10.0,
            patience: 0,
            checkpoint_s: 120,
            cache_bytes: 2 << 30,
            weights: "f32".to_owned(),
            precision: "f32".to_owned(),
        }
    }
}

impl Config {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::Config`], naming the line or the field, what came and what was expected.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(io("read", path))?;
        let mut config: Config = toml::from_str(&text)
            .map_err(|e| TrainError::Config { path: path.to_owned(), reason: e.to_string().trim_end().to_owned() })?;
        config.check().map_err(|reason| TrainError::Config { path: path.to_owned(), reason })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.relative_to(folder);
        Ok(config)
    }

    /// What its towers take, in the order of the tables.
    pub fn modalities(&self) -> Vec<Modality> {
        let Some(m) = &self.model else { return vec![Modality::Image, Modality::Text] };
        let has = [m.image.is_some(), m.text.is_some(), m.audio.is_some(), m.series.is_some()];
        [Modality::Image, Modality::Text, Modality::Audio, Modality::Series]
            .into_iter()
            .zip(has)
            .filter_map(|(modality, has)| has.then_some(modality))
            .collect()
    }

    /// The kinds that are brought together.
    ///
    /// # Errors
    /// What is wrong with `pairs`.
    pub fn pairs(&self) -> std::result::Result<Vec<[Modality; 2]>, String> {
        let here = self.modalities();
        if self.train.pairs.is_empty() {
            return Ok((0..here.len())
                .flat_map(|a| (a + 1..here.len()).map(move |b| [a, b]))
                .map(|pair| pair.map(|i| here[i]))
                .collect());
        }
        let pair = |[a, b]: &[String; 2]| {
            let [a, b] = [tower(a, &here)?, tower(b, &here)?];
            if a == b { Err(format!("train.pairs: {a} with itself, expected two kinds")) } else { Ok([a, b]) }
        };
        self.train.pairs.iter().map(pair).collect()
    }

    /// The towers that `freeze` names.
    pub(crate) fn frozen(&self) -> std::result::Result<Vec<Modality>, String> {
        let words = self.model.iter().flat_map(|model| &model.freeze);
        words.map(|word| tower(word, &self.modalities())).collect()
    }

    /// The towers that `lora` names.
    pub(crate) fn low_rank(&self) -> std::result::Result<Vec<Modality>, String> {
        let words = self.model.iter().filter_map(|model| model.lora.as_ref()).flat_map(|lora| &lora.towers);
        words.map(|word| tower(word, &self.modalities())).collect()
    }

    /// The rule of the optimiser.
    pub(crate) fn rule(&self) -> std::result::Result<Rule, String> {
        Ok(match self.train.optimiser.as_str() {
            "adamw" => Rule::ADAM_W,
            "adam" => Rule::Adam { betas: [0.9, 0.999], eps: 1e-8 },
            "sgd" => Rule::Sgd { momentum: 0.9 },
            "lamb" => Rule::Lamb { betas: [0.9, 0.999], eps: 1e-6 },
            other => return Err(format!("train.optimiser is `{other}`, expected adamw, adam, sgd or lamb")),
        })
    }

    /// How the rate falls, for so many steps of an epoch.
    pub(crate) fn decay(&self, steps_of_epoch: usize) -> std::result::Result<Decay, String> {
        Ok(match self.train.schedule.as_str() {
            "cosine" => Decay::Cosine,
            "constant" => Decay::Constant,
            "step" => Decay::Step { every: (self.train.every * steps_of_epoch).max(1), factor: 0.1 },
            other => return Err(format!("train.schedule is `{other}`, expected cosine, constant or step")),
        })
    }

    /// What products are computed in.
    pub(crate) fn precision(&self) -> std::result::Result<Precision, String> {
        match self.train.precision.as_str() {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            other => Err(format!("train.precision is `{other}`, expected f32 or bf16")),
        }
    }

    /// What is wrong with it.
    fn check(&self) -> std::result::Result<(), String> {
        let t = &self.train;
        match (&self.model, &self.start) {
            (Some(model), None) => self.check_model(model)?,
            (None, Some(start)) => start.check()?,
            (Some(_), Some(_)) => {
                return Err(
                    "[model] and [start] both, expected one: [model] makes towers of one's own, [start] tunes a checkpoint"
                        .to_owned(),
                );
            }
            (None, None) => {
                return Err(
                    "neither [model] nor [start], expected one: [model] makes towers of one's own, [start] tunes a checkpoint"
                        .to_owned(),
                );
            }
        }
        if self.data.is_empty() {
            return Err("data: none, expected at least one [[data]]".to_owned());
        }
        self.pairs()?;
        self.rule()?;
        self.decay(1)?;
        self.precision()?;
        self.distill.iter().try_for_each(Distill::check)?;
        self.augment.iter().try_for_each(|augment| self.check_augment(augment))?;
        // A checkpoint that learns nothing is still one; towers that were never trained are none.
        let least_epochs = usize::from(self.start.is_none());
        for (name, value, least, most) in [
            ("epochs", t.epochs, least_epochs, 1_000_000),
            ("batch", t.batch, 2, 1 << 20),
            ("accumulate", t.accumulate, 1, 1 << 16),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("train.{name} is {value}, expected {least} to {most}"));
            }
        }
        for (name, value, holds, expected) in [
            ("rate", t.rate, t.rate > 0.0 && t.rate.is_finite(), "above 0"),
            ("decay", t.decay, t.decay >= 0.0 && t.decay.is_finite(), "at least 0"),
            ("clip", t.clip, t.clip > 0.0, "above 0"),
            ("ema", t.ema, (0.0..1.0).contains(&t.ema), "at least 0 and below 1"),
            ("smoothing", t.smoothing, (0.0..1.0).contains(&t.smoothing), "at least 0 and below 1"),
            ("dropout", t.dropout, (0.0..1.0).contains(&t.dropout), "at least 0 and below 1"),
            ("scale", t.scale, t.scale > 0.0 && t.scale <= 100.0, "above 0 and at most 100"),
        ] {
            if !holds {
                return Err(format!("train.{name} is {value}, expected {expected}"));
            }
        }
        if !["f32", "f16"].contains(&t.weights.as_str()) {
            return Err(format!("train.weights is `{}`, expected f32 or f16", t.weights));
        }
        for source in &self.data {
            source.check()?;
        }
        Ok(())
    }

    /// What is wrong with the changes at random.
    fn check_augment(&self, augment: &Augment) -> std::result::Result<(), String> {
        let (image, audio, series) = (augment.image, augment.audio, augment.series);
        let here = self.modalities();
        let asked =
            [(Modality::Image, image.is_some()), (Modality::Audio, audio.is_some()), (Modality::Series, series.is_some())];
        for (modality, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            tower(modality.as_str(), &here).map_err(|e| format!("augment: {e}"))?;
            let still = |start: &Start| start.towers().iter().any(|(of, tune)| *of == modality && tune.train == Learns::Frozen);
            if self.start.as_ref().is_some_and(still) {
                return Err(format!(
                    "augment.{modality}: start.{modality} is frozen, so each is brought to its embedding once, as it is; leave it out"
                ));
            }
        }
        let below_1 = |value: f64| (0.0..1.0).contains(&value);
        let of_image = image.into_iter().flat_map(|how| {
            [
                ("image.area", how.area, how.area > 0.0 && how.area <= 1.0, "above 0 and at most 1"),
                ("image.light", how.light, below_1(how.light), "at least 0 and below 1"),
            ]
        });
        let of_audio = audio.into_iter().flat_map(|how| {
            [
                ("audio.speed", how.speed, (0.0..=0.5).contains(&how.speed), "0 to .5"),
                ("audio.gain_db", how.gain_db, (0.0..=60.0).contains(&how.gain_db), "0 to 60"),
                ("audio.noise", how.noise, (0.0..=10.0).contains(&how.noise), "0 to 10"),
            ]
        });
        let of_series = series.into_iter().flat_map(|how| {
            [
                ("series.scale", how.scale, below_1(how.scale), "at least 0 and below 1"),
                ("series.noise", how.noise, (0.0..=10.0).contains(&how.noise), "0 to 10"),
            ]
        });
        match of_image.chain(of_audio).chain(of_series).find(|(_, _, holds, _)| !holds) {
            Some((name, value, _, expected)) => Err(format!("augment.{name} is {value}, expected {expected}")),
            None => Ok(()),
        }
    }

    /// What is wrong with the description of towers of one's own.
    fn check_model(&self, model: &Model) -> std::result::Result<(), String> {
        let here = self.modalities();
        if here.len() < 2 {
            return Err(format!("model: {} towers, expected two or more of image, text, audio, series", here.len()));
        }
        if !(1..=4096).contains(&model.projection) {
            return Err(format!("model.projection is {}, expected 1 to 4096", model.projection));
        }
        let frozen = self.frozen()?;
        if !frozen.is_empty() && model.start.is_none() {
            return Err(
                "model.freeze without model.start: towers that were never trained would stay as they were drawn".to_owned()
            );
        }
        if frozen.len() == here.len() && model.matching.is_none() {
            return Err("model.freeze: all towers, so nothing would be learned".to_owned());
        }
        if let Some(matching) = &model.matching {
            if model.image.is_none() || model.text.is_none() {
                return Err("model.matching reads a text with a picture before it, expected towers for both".to_owned());
            }
            let paired = self.pairs()?;
            if ![Modality::Image, Modality::Text].iter().all(|kind| paired.iter().flatten().any(|paired| paired == kind)) {
                return Err(
                    "model.matching reads a text with a picture before it, but train.pairs leaves one of them out".to_owned()
                );
            }
            if !(matching.weight.is_finite() && matching.weight > 0.0) {
                return Err(format!("model.matching.weight is {}, expected above 0", matching.weight));
            }
            if !(1..=16).contains(&matching.exchanges) {
                return Err(format!("model.matching.exchanges is {}, expected 1 to 16", matching.exchanges));
            }
            if self.train.chunk > 0 {
                return Err(
                    "model.matching beside train.chunk: what is read together must be in one piece; leave chunk out, or make the batch smaller"
                        .to_owned(),
                );
            }
        }
        let low_rank = self.low_rank()?;
        if let Some(lora) = &model.lora {
            if model.start.is_none() {
                return Err("model.lora without model.start: there are no weights to be changed".to_owned());
            }
            if !(1..=1024).contains(&lora.rank) {
                return Err(format!("model.lora.rank is {}, expected 1 to 1024", lora.rank));
            }
            if let Some(both) = low_rank.iter().find(|tower| frozen.contains(tower)) {
                return Err(format!("{both} stands in model.freeze and in model.lora.towers, expected one of them"));
            }
        }
        let sizes = [
            ("image", model.image.map(|t| t.sizes())),
            ("text", model.text.map(|t| t.sizes())),
            ("audio", model.audio.map(|t| t.sizes())),
            ("series", model.series.map(|t| t.sizes())),
            ("matching", model.matching.map(|m| m.sizes())),
        ];
        for (name, sizes) in sizes.into_iter().filter_map(|(name, sizes)| sizes.map(|sizes| (name, sizes))) {
            let fits = sizes.heads > 0 && sizes.width > 0 && sizes.width.is_multiple_of(sizes.heads) && sizes.inner > 0;
            if !fits || sizes.width > 8192 || sizes.inner > 32_768 || sizes.layers > 128 {
                return Err(format!(
                    "model.{name}: width {}, inner {}, layers {}, heads {}; expected a width of at most 8192 that is a multiple of the heads, an inner of at most 32768 and at most 128 layers",
                    sizes.width, sizes.inner, sizes.layers, sizes.heads
                ));
            }
        }
        Ok(())
    }

    fn relative_to(&mut self, folder: &Path) {
        let onto = |path: &mut PathBuf| *path = folder.join(&*path);
        self.model.iter_mut().flat_map(|model| &mut model.start).for_each(onto);
        // A name stays one unless there is a folder of that name.
        let named = self.start.iter_mut().map(|start| &mut start.checkpoint);
        for name in named.chain(self.distill.iter_mut().map(|distill| &mut distill.teacher)) {
            let path = folder.join(chiasm_encode::bare(name));
            if path.exists() {
                *name = folder.join(&*name).to_string_lossy().into_owned();
            }
        }
        for source in &mut self.data {
            match source {
                Source::World { .. } => {}
                Source::Table { file, .. } => onto(file),
                Source::Folder { dir, captions, .. } => {
                    onto(dir);
                    onto(captions);
                }
                Source::Shards { files, .. } => files.iter_mut().for_each(onto),
            }
        }
    }
}

impl Start {
    /// What the towers take, and how each learns.
    pub(crate) fn towers(&self) -> [(Modality, &Tune); 2] {
        [(Modality::Image, &self.image), (Modality::Text, &self.text)]
    }

    fn check(&self) -> std::result::Result<(), String> {
        for (modality, Tune { train, rank, alpha }) in self.towers() {
            let at = format!("start.{modality}");
            match (train, rank) {
                (Learns::Lora, Some(rank)) if !(1..=1024).contains(rank) => {
                    return Err(format!("{at}.rank is {rank}, expected 1 to 1024"));
                }
                (Learns::Lora, Some(_)) => {}
                (Learns::Lora, None) => {
                    return Err(format!("{at}.train is lora without a rank, expected 1 to 1024, as rank = 8"));
                }
                (Learns::Full | Learns::Frozen, None) if alpha.is_none() => {}
                (Learns::Full | Learns::Frozen, _) => {
                    return Err(format!("{at}: rank and alpha are those of train = \"lora\", expected none beside another"));
                }
            }
            if alpha.is_some_and(|alpha| !(alpha.is_finite() && alpha > 0.0)) {
                return Err(format!("{at}.alpha is {}, expected above 0", alpha.unwrap_or_default()));
            }
        }
        if self.towers().iter().all(|(_, tune)| tune.train == Learns::Frozen) {
            return Err(
                "start: both towers are frozen, so nothing would be learned; expected at least one that is full or lora"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Tune {
    /// What its low-rank changes are multiplied by, and their rank; none where it has none.
    pub(crate) fn low_rank(&self) -> Option<(f32, usize)> {
        let rank = self.rank.filter(|_| self.train == Learns::Lora)?;
        Some(((self.alpha.unwrap_or_else(lora_alpha) / rank as f64) as f32, rank))
    }
}

impl Distill {
    fn check(&self) -> std::result::Result<(), String> {
        for (name, value) in [("weight", self.weight), ("cosine", self.cosine), ("objective", self.objective)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("distill.{name} is {value}, expected at least 0"));
            }
        }
        if self.scale.is_some_and(|scale| !(scale.is_finite() && scale > 0.0)) {
            return Err(format!("distill.scale is {}, expected above 0", self.scale.unwrap_or_default()));
        }
        if self.weight == 0.0 && self.cosine == 0.0 {
            return Err(
                "distill: weight and cosine are both 0, so the teacher teaches nothing; expected one above 0".to_owned()
            );
        }
        Ok(())
    }
}

impl Source {
    fn check(&self) -> std::result::Result<(), String> {
        match self {
            Source::World { scenes, variants, .. } => {
                if *scenes < 2 || *variants == 0 {
                    return Err(format!(
                        "data: a world of {scenes} scenes in {variants} variants, expected two scenes or more in one or more"
                    ));
                }
            }
            Source::Table { columns, validation, .. } => {
                share(*validation)?;
                for word in columns.keys() {
                    word.parse::<Modality>().map_err(|e| format!("data.columns: {e}"))?;
                }
            }
            Source::Folder { validation, .. } | Source::Shards { validation, .. } => share(*validation)?,
        }
        Ok(())
    }
}

fn share(validation: f64) -> std::result::Result<(), String> {
    if (0.0..1.0).contains(&validation) {
        Ok(())
    } else {
        Err(format!("data.validation is {validation}, expected at least 0 and below 1"))
    }
}

fn tower(word: &str, here: &[Modality]) -> std::result::Result<Modality, String> {
    let known = || here.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", ");
    match word.parse::<Modality>() {
        Ok(modality) if here.contains(&modality) => Ok(modality),
        Ok(_) | Err(_) => Err(format!("`{word}` is no tower of this model, expected one of {}", known())),
    }
}
