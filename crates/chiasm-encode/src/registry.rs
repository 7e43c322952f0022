//! The one plain list of encoders, and how a name becomes one.

use std::path::{Path, PathBuf};

use chiasm_core::{Encoder, Modality};
use chiasm_nn::Precision;
use chiasm_nn::cuda::Device;

use crate::built_in;
use crate::checkpoint::Checkpoint;
use crate::dirs::ModelDirs;
use crate::error::OpenError;
use crate::features;
use crate::locate;
use crate::model::{self, Output};
use crate::net::{Opened, TowerEncoder, Wanted};
use crate::nets::classes;
use crate::nets::families::{self, Family};
use crate::nets::mobilenet_v2::{self, MobileNetV2};
use crate::nets::sentence_bert;
use crate::nets::yamnet::{self, Yamnet};
use crate::temperature::{self, Temperature};

/// What the catalogue says of an encoder.
#[derive(Clone, Copy)]
pub struct ModelInfo {
    /// The name by which [`open`] knows it.
    pub name: &'static str,
    /// What it takes.
    pub modality: Modality,
    /// Numbers per embedding.
    pub dim: usize,
    /// Licence of the weights; of this project where there are none.
    pub licence: &'static str,
    /// The file or folder that must stand in one of the [`ModelDirs`]; none where the encoder needs no weights.
    pub needs: Option<&'static str>,
    /// What it is, in a line.
    pub about: &'static str,
    source: Source,
}

impl ModelInfo {
    /// Whether its output is one number per named class, so that [`class_names`] knows the names.
    pub fn has_classes(&self) -> bool {
        matches!(self.source, Source::Weights(_, Output::Classes))
    }
}

/// Where an encoder comes from.
#[derive(Clone, Copy)]
enum Source {
    /// Code alone.
    Code(fn() -> Box<dyn Encoder>),
    /// An architecture and its weights.
    Weights(Architecture, Output),
}

/// Architectures, by which files of any name can be opened.
#[derive(Clone, Copy)]
enum Architecture {
    MobileNetV2,
    Yamnet,
    SentenceBert,
    /// A checkpoint that describes itself.
    Family(&'static Family),
}

/// The list. To add an encoder, see `docs/adding-an-encoder.md`.
const CATALOGUE: &[ModelInfo] = &[
    ModelInfo {
        name: "mobilenet_v2",
        modality: Modality::Image,
        dim: 1280,
        licence: "Apache-2.0",
        needs: Some("mobilenet_v2.json"),
        about: "MobileNetV2 1.0 at 224 pixels, trained on ImageNet: pooled features",
        source: Source::Weights(Architecture::MobileNetV2, Output::Embedding),
    },
    ModelInfo {
        name: "mobilenet_v2:classes",
        modality: Modality::Image,
        dim: 1001,
        licence: "Apache-2.0",
        needs: Some("mobilenet_v2.json"),
        about: "the same, probabilities of the 1,000 ImageNet classes and a background",
        source: Source::Weights(Architecture::MobileNetV2, Output::Classes),
    },
    ModelInfo {
        name: "yamnet",
        modality: Modality::Audio,
        dim: 1024,
        licence: "Apache-2.0",
        needs: Some("yamnet.json"),
        about: "YAMNet, trained on AudioSet: pooled features, mean over patches of 0.975 s",
        source: Source::Weights(Architecture::Yamnet, Output::Embedding),
    },
    ModelInfo {
        name: "yamnet:classes",
        modality: Modality::Audio,
        dim: 521,
        licence: "Apache-2.0",
        needs: Some("yamnet.json"),
        about: "the same, probabilities of 521 AudioSet classes, each by itself",
        source: Source::Weights(Architecture::Yamnet, Output::Classes),
    },
    ModelInfo {
        name: "all-MiniLM-L6-v2",
        modality: Modality::Text,
        dim: 384,
        licence: "Apache-2.0",
        needs: Some("all-MiniLM-L6-v2"),
        about: "sentence-transformers MiniLM, English sentences and short paragraphs, unit length",
        source: Source::Weights(Architecture::SentenceBert, Output::Embedding),
    },
    ModelInfo {
        name: "colour-layout",
        modality: Modality::Image,
        dim: features::COLOUR_LAYOUT_DIM,
        licence: "Apache-2.0 OR MIT",
        needs: None,
        about: "no weights: colours, edge directions and regions, by place",
        source: Source::Code(features::colour_layout),
    },
    ModelInfo {
        name: "mel-contour",
        modality: Modality::Audio,
        dim: features::MEL_CONTOUR_DIM,
        licence: "Apache-2.0 OR MIT",
        needs: None,
        about: "no weights: spectrum over time, pitch and its movement, timbre, rhythm",
        source: Source::Code(features::mel_contour),
    },
    ModelInfo {
        name: "char-ngrams",
        modality: Modality::Text,
        dim: features::CHAR_NGRAMS_DIM,
        licence: "Apache-2.0 OR MIT",
        needs: None,
        about: "no weights: counts of hashed character sequences, any script",
        source: Source::Code(features::char_ngrams),
    },
    ModelInfo {
        name: "series-spectrum",
        modality: Modality::Series,
        dim: features::SERIES_SPECTRUM_DIM,
        licence: "Apache-2.0 OR MIT",
        needs: None,
        about: "no weights: statistics, spectrum, tempo and form of any number of channels",
        source: Source::Code(features::series_spectrum),
    },
    ModelInfo {
        name: "shape-distribution",
        modality: Modality::Shape,
        dim: features::SHAPE_DISTRIBUTION_DIM,
        licence: "Apache-2.0 OR MIT",
        needs: None,
        about: "no weights: distances, angles, heights and proportions of a surface",
        source: Source::Code(features::shape_distribution),
    },
];

/// All encoders that have a name, in a fixed order.
pub fn catalogue() -> &'static [ModelInfo] {
    CATALOGUE
}

/// Opens an encoder by its name in the [`catalogue`], by the path of a model's `.json` or folder, or by the name of a published model that is
/// here (see [`crate::locate()`]). A path or name may end in `:classes` as those of the catalogue do, or in the kind of media (`:image`, `:text`,
/// `:audio`, `:video`) whose tower is meant, where a model has several; and after that in `+bf16` or `+int8` for a network whose dense layers multiply
/// in that [`Precision`], and in `+cuda` for one that computes on an NVIDIA GPU. An encoder opened by path is called by that path.
///
/// # Errors
/// Every variant of [`OpenError`] but [`OpenError::NoClasses`].
pub fn open(name: &str, models: &ModelDirs) -> Result<Box<dyn Encoder>, OpenError> {
    let (bare, manner) = split_manner(name);
    if let Some(info) = find(bare) {
        return match info.source {
            Source::Code(_) if manner != Manner::default() => Err(manner.refused(name)),
            Source::Code(make) => Ok(make()),
            Source::Weights(architecture, output) => {
                architecture.open(&files_of(info, models)?, name, Some(info.modality), output)
            }
        };
    }
    let (path, part) = find_path(bare, models)?;
    let path = path.as_path();
    let architecture = by_path(path)?;
    let towers = architecture.towers(path)?;
    let fits = |modality: Modality| towers.is_empty() || towers.contains(&modality);
    match part {
        Part::Tower(modality) if !fits(modality) => Err(no_tower(name, &towers)),
        Part::Whole if towers.len() > 1 => Err(no_tower(name, &towers)),
        Part::Whole => architecture.open(path, name, towers.first().copied(), Output::Embedding),
        Part::Classes => architecture.open(path, name, towers.first().copied(), Output::Classes),
        Part::Tower(modality) => architecture.open(path, name, Some(modality), Output::Embedding),
    }
}

/// The kinds of media that the model of this name takes: one, or one for each tower of a dual encoder, which [`open`] opens
/// by the name with `:` and the kind after it.
///
/// # Errors
/// As [`open`], without reading the weights.
pub fn towers(name: &str, models: &ModelDirs) -> Result<Vec<Modality>, OpenError> {
    let (name, _) = split_manner(name);
    if let Some(info) = find(name) {
        return Ok(vec![info.modality]);
    }
    let (path, part) = find_path(name, models)?;
    let architecture = by_path(&path)?;
    Ok(match (part, architecture) {
        (Part::Tower(modality), _) => vec![modality],
        (_, Architecture::Family(family)) => family.towers(&path)?,
        // Those whose description does not say it are quick to open.
        (_, _) => vec![open(name, models)?.modality()],
    })
}

/// The names of the classes of an encoder whose output is classes, in the order of its output.
///
/// # Errors
/// [`OpenError`]; [`OpenError::NoClasses`] for an encoder whose output is features.
pub fn class_names(name: &str, models: &ModelDirs) -> Result<Vec<String>, OpenError> {
    let (name, _) = split_manner(name);
    if let Some(info) = find(name) {
        let Source::Weights(architecture, Output::Classes) = info.source else {
            return Err(no_classes(name));
        };
        return architecture.class_names(&files_of(info, models)?, name);
    }
    let (path, part) = find_path(name, models)?;
    let architecture = by_path(&path)?;
    if part == Part::Classes { architecture.class_names(&path, name) } else { Err(no_classes(name)) }
}

/// How closeness to the texts of a dual encoder becomes a probability, as its weights say; `name` is that of the tower whose media the
/// texts are compared with. None for a model without texts, and for one that does not say.
///
/// # Errors
/// As [`open`], without reading more than these numbers; [`OpenError::Weights`] and [`OpenError::Config`] where they are none.
pub fn temperature(name: &str, models: &ModelDirs) -> Result<Option<Temperature>, OpenError> {
    let (name, _) = split_manner(name);
    if find(name).is_some() {
        return Ok(None);
    }
    let (path, part) = find_path(name, models)?;
    let Architecture::Family(family) = by_path(&path)? else { return Ok(None) };
    let asked = if let Part::Tower(modality) = part { Some(modality) } else { None };
    let is_dual = family.modalities.len() > 1 && family.modalities.contains(&Modality::Text);
    if is_dual { temperature::read(family.weights(&mut Checkpoint::new(&path))?, asked) } else { Ok(None) }
}

impl Architecture {
    /// What the towers of a checkpoint take; empty where the architecture has but one.
    fn towers(self, folder: &Path) -> Result<Vec<Modality>, OpenError> {
        match self {
            Architecture::Family(family) => family.towers(folder),
            Architecture::MobileNetV2 | Architecture::Yamnet | Architecture::SentenceBert => Ok(Vec::new()),
        }
    }

    fn open(self, path: &Path, name: &str, modality: Option<Modality>, output: Output) -> Result<Box<dyn Encoder>, OpenError> {
        let (_, manner) = split_manner(name);
        Ok(match self {
            Architecture::MobileNetV2 | Architecture::Yamnet if manner != Manner::default() => return Err(manner.refused(name)),
            Architecture::MobileNetV2 => Box::new(MobileNetV2::open(path, name, output)?),
            Architecture::Yamnet => Box::new(Yamnet::open(path, name, output)?),
            Architecture::SentenceBert if output == Output::Embedding => {
                let mut files = Checkpoint::new(path).with_manner(manner);
                let opened = manner.placed(name, || sentence_bert::open(&mut files))?;
                Box::new(TowerEncoder::new(name, files.fingerprint(opened.arithmetic), opened))
            }
            Architecture::SentenceBert => return Err(no_classes(name)),
            Architecture::Family(family) if output == Output::Classes && !family.has_classes() => return Err(no_classes(name)),
            Architecture::Family(family) => {
                let modality = modality.unwrap_or(family.modalities[0]);
                let mut files = Checkpoint::new(path).with_manner(manner);
                let opened = manner.placed(name, || (family.open)(&mut files, Wanted { modality, output }))?;
                let arithmetic = format!("{} {modality} {output:?}", opened.arithmetic);
                Box::new(TowerEncoder::new(name, files.fingerprint(&arithmetic), opened))
            }
        })
    }

    fn class_names(self, path: &Path, name: &str) -> Result<Vec<String>, OpenError> {
        match self {
            Architecture::MobileNetV2 => mobilenet_v2::class_names(path),
            Architecture::Yamnet => yamnet::class_names(path),
            Architecture::Family(family) if family.has_classes() => classes::names(path),
            Architecture::SentenceBert | Architecture::Family(_) => Err(no_classes(name)),
        }
    }
}

fn find(name: &str) -> Option<&'static ModelInfo> {
    CATALOGUE.iter().find(|info| info.name == name)
}

/// How an encoder computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) precision: Precision,
    /// On a GPU.
    pub(crate) on_device: bool,
}

/// The word in a name that asks for a GPU.
const CUDA: &str = "cuda";

impl Manner {
    /// What `open` opens, where it is to compute. The GPU is looked for first: weights take long to read.
    fn placed(self, name: &str, open: impl FnOnce() -> Result<Opened, OpenError>) -> Result<Opened, OpenError> {
        if !self.on_device {
            return open();
        }
        let device = Device::open()?;
        let mut opened = open()?;
        if opened.tower.move_to(&device)? { Ok(opened) } else { Err(self.refused(name)) }
    }

    /// The error for an encoder that computes in one manner only.
    pub(crate) fn refused(self, name: &str) -> OpenError {
        let (bare, _) = split_manner(name);
        if !self.on_device {
            return OpenError::NoPrecision { name: name.to_owned(), bare: bare.to_owned() };
        }
        let bare = match self.precision {
            Precision::F32 => bare.to_owned(),
            precision @ (Precision::Bf16 | Precision::Int8) => format!("{bare}+{}", precision.as_str()),
        };
        OpenError::NoDevice { name: name.to_owned(), bare }
    }
}

/// A name, and how the encoder is to compute, as its end asks: `+bf16` or `+int8`, `+cuda`.
pub(crate) fn split_manner(name: &str) -> (&str, Manner) {
    let (mut bare, mut precision, mut on_device) = (name, None, false);
    while let Some((before, word)) = bare.rsplit_once('+') {
        match word.parse() {
            Ok(asked) if precision.is_none() => precision = Some(asked),
            Err(_) if word == CUDA && !on_device => on_device = true,
            Ok(_) | Err(_) => break,
        }
        bare = before;
    }
    (bare, Manner { precision: precision.unwrap_or_default(), on_device })
}

/// The name of one tower of a model: the kind of media stands before the precision.
pub fn tower_name(name: &str, kind: Modality) -> String {
    let (bare, _) = split_manner(name);
    format!("{bare}:{kind}{}", &name[bare.len()..])
}

/// A model's name or path without what is wanted of it: the tower, the classes, the precision, which all stand at its end.
pub fn bare(name: &str) -> &str {
    split(split_manner(name).0).0
}

/// What is wanted of a model, as the end of its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Classes,
    Tower(Modality),
}

/// A model's name or path, and what is wanted of it.
fn split(name: &str) -> (&str, Part) {
    if let Some((model, end)) = name.rsplit_once(':') {
        if end == "classes" {
            return (model, Part::Classes);
        }
        if let Ok(modality) = end.parse() {
            return (model, Part::Tower(modality));
        }
    }
    (name, Part::Whole)
}

/// Where the model stands whose name or path this is, and what is wanted of it.
fn find_path(name: &str, models: &ModelDirs) -> Result<(PathBuf, Part), OpenError> {
    let (model, part) = split(name);
    let path = locate::demand(model, models, CATALOGUE.iter().map(|info| info.name).collect())?;
    Ok((path, part))
}

/// Where the files of an encoder of the catalogue stand.
fn files_of(info: &ModelInfo, models: &ModelDirs) -> Result<PathBuf, OpenError> {
    let file = info.needs.unwrap_or_default();
    let published = locate::canonical(info.name);
    let by_name = || published.as_ref().and_then(|name| locate::by_name(name, models)).map(|found| found.path);
    models.find(file).or_else(by_name).ok_or_else(|| OpenError::Absent {
        name: info.name.to_owned(),
        file: file.to_owned(),
        looked: models.dirs().to_vec(),
        pull: published.map(|name| name.to_string()),
    })
}

/// What the towers of the model in a folder take, by its description alone.
///
/// # Errors
/// [`OpenError::NoModel`] and [`OpenError::Config`] when it holds no architecture of ours.
pub fn towers_of(folder: &Path) -> Result<Vec<Modality>, OpenError> {
    Ok(match by_path(folder)? {
        Architecture::SentenceBert => vec![Modality::Text],
        Architecture::MobileNetV2 => vec![Modality::Image],
        Architecture::Yamnet => vec![Modality::Audio],
        Architecture::Family(family) => family.towers(folder)?,
    })
}

/// Refuses a folder that holds no architecture of ours.
pub(crate) fn architecture_at(folder: &Path) -> Result<(), OpenError> {
    by_path(folder).map(|_| ())
}

/// The architecture of the model at a path.
fn by_path(path: &Path) -> Result<Architecture, OpenError> {
    let no_model = |reason: &str| OpenError::NoModel { path: path.to_owned(), reason: reason.to_owned() };
    if built_in::files(path).is_some() {
        return Ok(Architecture::Family(families::own()));
    }
    if path.is_dir() {
        return if path.join("modules.json").is_file() {
            Ok(Architecture::SentenceBert)
        } else {
            families::family_of(path).map(Architecture::Family)
        };
    }
    if !path.is_file() {
        return Err(no_model("there is no such file or folder"));
    }
    if path.extension().is_none_or(|extension| extension != "json") {
        return Err(no_model("give the .json that describes the model, not its weights"));
    }
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let named: Named = model::parse(path, &model::read(path)?)?;
    match named.name.as_str() {
        n if n.starts_with("mobilenet_v2") => Ok(Architecture::MobileNetV2),
        n if n.starts_with("yamnet") => Ok(Architecture::Yamnet),
        other => Err(no_model(&format!("its name is `{other}`, expected mobilenet_v2.. or yamnet.."))),
    }
}

fn no_tower(name: &str, towers: &[Modality]) -> OpenError {
    OpenError::SeveralTowers { name: bare(name).to_owned(), towers: towers.to_vec() }
}

fn no_classes(name: &str) -> OpenError {
    let known = CATALOGUE.iter().filter(|info| info.has_classes()).map(|info| info.name).collect();
    OpenError::NoClasses { name: name.to_owned(), known }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_how_to_compute() {
        let (bf16, f32, int8) = (Precision::Bf16, Precision::F32, Precision::Int8);
        for (name, bare, precision, on_device) in [
            ("a/b", "a/b", f32, false),
            ("a/b+bf16", "a/b", bf16, false),
            ("a/b:image+cuda", "a/b:image", f32, true),
            ("a/b:image+int8+cuda", "a/b:image", int8, true),
            ("a/b+cuda+bf16", "a/b", bf16, true),
            ("a+b", "a+b", f32, false),
            ("cuda", "cuda", f32, false),
            ("a+bf16+int8", "a+bf16", int8, false),
            ("a+cuda+cuda", "a+cuda", f32, true),
        ] {
            assert_eq!(split_manner(name), (bare, Manner { precision, on_device }), "{name}");
        }
        assert_eq!(tower_name("a/b+bf16+cuda", Modality::Text), "a/b:text+bf16+cuda");
        let refused = |name: &str| open(name, &ModelDirs::default()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            refused("char-ngrams+cuda").contains("on the CPU only, ask for `char-ngrams`;"),
            "{}",
            refused("char-ngrams+cuda")
        );
        assert!(refused("char-ngrams+bf16").contains("in single precision only, ask for `char-ngrams`"));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_its_part_for_gpus_says_so() {
        let manner = Manner { on_device: true, ..Manner::default() };
        let refused = manner.placed("a+cuda", || panic!("nothing is read")).err().expect("there is no GPU").to_string();
        assert!(refused.contains("--features cuda"), "{refused}");
    }
}
