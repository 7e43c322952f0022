//! Cross-encoders: networks that take a picture or a video and a text together and say whether they belong together.

use std::path::{Path, PathBuf};

use chiasm_core::{CrossEncoder, EncodeError, Picture, PictureForm, Regions, Score, ShapeError};
use chiasm_nn::{FeatureMap, Weights, WeightsError, softmax};
use rayon::prelude::*;

use crate::checkpoint::Checkpoint;
use crate::dirs::ModelDirs;
use crate::error::OpenError;
use crate::input::{Clip, ClipProcessor, ImageProcessor, TextTokenizer};
use crate::net::{Watch, groups_for_threads};
use crate::nets::{blip, chiasm, chiasm_pair, families, lxmert, visual_bert, xclip};
use crate::registry::split_manner;

/// More regions of one picture are refused: while a pair is scored, each takes the width of the network many times over.
const MAX_REGIONS: usize = 1000;

/// A network over pairs of a picture, preprocessed to a `P`, and a text. What becomes of the picture before a text comes is a step by
/// itself, so that one picture meets many texts at the price of one.
pub(crate) trait PairNet<P>: Send + Sync {
    /// The picture as texts meet it, `[tokens, dim]`. Computes on the calling thread.
    fn see(&self, picture: &P, watch: &mut Watch<'_>) -> Vec<f32>;

    /// For each text how well it belongs to the picture, a probability or a cosine; it depends on the two alone, to the last bit. Computes
    /// on the calling thread.
    fn read(&self, seen: &[f32], texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32>;
}

/// What stands before a network on the side of the picture.
pub(crate) trait Look<P>: Send + Sync {
    /// The form of the pictures that it looks at.
    fn takes(&self) -> PictureForm;

    /// What is wrong with a picture, if it cannot be taken.
    fn check(&self, picture: &Picture) -> Result<(), String>;

    /// What goes into the network; of what [`Look::check`] refuses, nothing.
    fn prepare(&self, picture: &Picture) -> Option<P>;
}

/// Refuses a picture of another form than the one that is looked at.
fn check_form(expected: PictureForm, came: PictureForm) -> Result<(), String> {
    if came == expected { Ok(()) } else { Err(format!("{came} came, expected {expected}")) }
}

impl Look<FeatureMap> for ImageProcessor {
    fn takes(&self) -> PictureForm {
        PictureForm::Pixels
    }

    fn check(&self, picture: &Picture) -> Result<(), String> {
        check_form(self.takes(), picture.form())
    }

    fn prepare(&self, picture: &Picture) -> Option<FeatureMap> {
        match picture {
            Picture::Pixels(image) => Some(self.pixels(image)),
            Picture::Regions(_) | Picture::Frames(_) => None,
        }
    }
}

impl Look<Clip> for ClipProcessor {
    fn takes(&self) -> PictureForm {
        PictureForm::Frames
    }

    fn check(&self, picture: &Picture) -> Result<(), String> {
        check_form(self.takes(), picture.form())
    }

    fn prepare(&self, picture: &Picture) -> Option<Clip> {
        match picture {
            Picture::Frames(video) => Some(self.clip(video)),
            Picture::Pixels(_) | Picture::Regions(_) => None,
        }
    }
}

/// Regions as a network takes them.
pub(crate) struct RegionLook {
    /// Numbers of each.
    pub(crate) dim: usize,
    /// Whether boxes must be there.
    pub(crate) boxes: bool,
}

impl Look<Regions> for RegionLook {
    fn takes(&self) -> PictureForm {
        PictureForm::Regions
    }

    fn check(&self, picture: &Picture) -> Result<(), String> {
        let Picture::Regions(regions) = picture else {
            return check_form(self.takes(), picture.form());
        };
        if regions.dim() != self.dim {
            return Err(format!("the regions have {} numbers each, expected {}", regions.dim(), self.dim));
        }
        if regions.count() > MAX_REGIONS {
            return Err(format!("there are {} regions, expected at most {MAX_REGIONS}", regions.count()));
        }
        if self.boxes && regions.boxes().is_none() {
            return Err("the regions have no boxes, expected one for each".to_owned());
        }
        Ok(())
    }

    fn prepare(&self, picture: &Picture) -> Option<Regions> {
        match picture {
            Picture::Regions(regions) => Some(regions.clone()),
            Picture::Pixels(_) | Picture::Frames(_) => None,
        }
    }
}

/// A network over pairs with what stands before it.
pub(crate) struct OpenedPair<P> {
    pub(crate) look: Box<dyn Look<P>>,
    pub(crate) tokenizer: TextTokenizer,
    /// The token that stands first in every text in place of the tokeniser's own.
    pub(crate) first: Option<u32>,
    pub(crate) net: Box<dyn PairNet<P>>,
    /// Name and number of the code; see [`crate::model::fingerprint`].
    pub(crate) arithmetic: &'static str,
}

type Open = fn(&mut Checkpoint, &str) -> Result<Box<dyn CrossEncoder>, OpenError>;

/// The list, by `model_type` of `config.json`.
const FAMILIES: &[(&str, Open)] = &[
    ("blip", |files, name| boxed(blip::open_pair(files)?, files, name)),
    (chiasm::MODEL_TYPE, |files, name| boxed(chiasm_pair::open(files)?, files, name)),
    ("lxmert", |files, name| boxed(lxmert::open(files)?, files, name)),
    ("visual_bert", |files, name| boxed(visual_bert::open(files)?, files, name)),
    ("xclip", |files, name| boxed(xclip::open_pair(files)?, files, name)),
];

fn boxed<P: 'static>(opened: OpenedPair<P>, files: &Checkpoint, name: &str) -> Result<Box<dyn CrossEncoder>, OpenError> {
    let fingerprint = files.fingerprint(&format!("{} pair", opened.arithmetic));
    Ok(Box::new(Together { name: name.to_owned(), fingerprint, opened }))
}

/// Opens a cross-encoder by the path of its folder, or by the name of a model that is here (see [`crate::locate()`]); it is called by that, which may end in `+bf16` or
/// `+int8` as in [`crate::open`].
///
/// # Errors
/// [`OpenError::NoModel`], [`OpenError::Config`] for a folder that holds another kind of model, and whatever is wrong with its files.
pub fn open_cross_encoder(name: &str, models: &ModelDirs) -> Result<Box<dyn CrossEncoder>, OpenError> {
    let (folder, manner) = split_manner(name);
    if manner.on_device {
        return Err(manner.refused(name));
    }
    let located = crate::locate(folder, models);
    let path = located.as_ref().map_or(Path::new(folder), |located| &located.path);
    let model_type = families::model_type(path)?;
    let Some((_, open)) = FAMILIES.iter().find(|(known, _)| Some(*known) == model_type.as_deref()) else {
        let known: Vec<&str> = FAMILIES.iter().map(|(known, _)| *known).collect();
        return Err(families::unknown(path, model_type.as_deref(), &known));
    };
    open(&mut Checkpoint::new(path).with_manner(manner), name)
}

/// Why a file of regions was refused.
#[derive(Debug, thiserror::Error)]
pub enum RegionsFileError {
    /// It is no safetensors file, is damaged, or holds other tensors.
    #[error(transparent)]
    File(#[from] WeightsError),
    /// What it holds are no regions.
    #[error("{}: {reason}", file.display())]
    Regions {
        /// The file.
        file: PathBuf,
        /// What came, what was expected.
        reason: String,
    },
}

/// Reads regions from a safetensors file: `features`, `[regions, dim]`, and perhaps `boxes`, `[regions, 4]`, as [`Regions::new`] takes
/// them.
///
/// # Errors
/// [`RegionsFileError`].
pub fn read_regions(path: &Path) -> Result<Regions, RegionsFileError> {
    let mut w = Weights::read(path)?;
    let wrong = |reason: String| RegionsFileError::Regions { file: path.to_owned(), reason };
    let (n, dim) = match w.shape("features") {
        Some(&[n, dim]) => (n, dim),
        Some(other) => return Err(wrong(format!("features have the shape {other:?}, expected [regions, numbers of each]"))),
        // Refused by name as they are taken.
        None => (0, 0),
    };
    let features = w.take("features", &[n, dim])?;
    let boxes = w.take_opt("boxes", &[n, 4])?;
    w.finish()?;
    Regions::new(features, dim, boxes).map_err(|e| wrong(e.to_string()))
}

/// A network over pairs as the world outside meets it.
struct Together<P> {
    name: String,
    fingerprint: String,
    opened: OpenedPair<P>,
}

impl<P> Together<P> {
    fn ids(&self, item: usize, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut ids = self.opened.tokenizer.ids_of(&self.name, item, text)?;
        if let (Some(token), Some(first)) = (self.opened.first, ids.first_mut()) {
            *first = token;
        }
        Ok(ids)
    }

    fn prepare(&self, item: usize, picture: &Picture) -> Result<P, EncodeError> {
        let unencodable = |reason| EncodeError::Unencodable { encoder: self.name.clone(), item, reason };
        self.opened.look.check(picture).map_err(unencodable)?;
        self.opened.look.prepare(picture).ok_or_else(|| unencodable("it cannot be looked at".to_owned()))
    }

    /// Numbers to scores, refusing what is none.
    fn scores(&self, numbers: &[f32]) -> Result<Vec<Score>, EncodeError> {
        let one = |(row, value): (usize, &f32)| {
            let cause = ShapeError::NotFinite { row, col: 0, value: *value };
            Score::new(*value).map_err(|_| EncodeError::NotFinite { encoder: self.name.clone(), cause })
        };
        numbers.iter().enumerate().map(one).collect()
    }
}

impl<P> CrossEncoder for Together<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn takes(&self) -> PictureForm {
        self.opened.look.takes()
    }

    fn check(&self, picture: &Picture) -> Result<(), String> {
        self.opened.look.check(picture)
    }

    fn score_pictures(&self, text: &str, pictures: &[Picture]) -> Result<Vec<Score>, EncodeError> {
        let (text, net) = ([self.ids(0, text)?], self.opened.net.as_ref());
        let one = |(item, picture): (usize, &Picture)| {
            let seen = net.see(&self.prepare(item, picture)?, &mut |_, _| {});
            Ok::<_, EncodeError>(net.read(&seen, &text, &mut |_, _| {}))
        };
        let scores: Vec<Vec<f32>> = pictures.par_iter().enumerate().map(one).collect::<Result<_, EncodeError>>()?;
        self.scores(&scores.concat())
    }

    fn score_texts(&self, picture: &Picture, texts: &[&str]) -> Result<Vec<Score>, EncodeError> {
        let net = self.opened.net.as_ref();
        let ids = texts.iter().enumerate().map(|(item, text)| self.ids(item, text));
        let ids: Vec<Vec<u32>> = ids.collect::<Result<_, EncodeError>>()?;
        let picture = self.prepare(0, picture)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let seen = net.see(&picture, &mut |_, _| {});
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let one = |group: std::ops::Range<usize>| net.read(&seen, &ids[group], &mut |_, _| {});
        let scores: Vec<f32> = groups_for_threads(&lengths).into_par_iter().flat_map_iter(one).collect();
        self.scores(&scores)
    }
}

/// The second of the two probabilities that each pair of logits means.
pub(crate) fn second_of_two(logits: &[f32]) -> Vec<f32> {
    let mut both = logits.to_vec();
    softmax(&mut both, 2);
    both.chunks_exact(2).map(|pair| pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

    use super::*;

    /// Writes tensors, each of one value all over, and reads them as regions.
    fn read(tensors: &[(&str, &[usize], f32)]) -> Result<Regions, RegionsFileError> {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, shape, v)| v.to_le_bytes().repeat(shape.iter().product())).collect();
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        let path = folder.path().join("x.regions.safetensors");
        serialize_to_file(views, None, &path).unwrap();
        read_regions(&path)
    }

    #[test]
    fn files_of_regions_are_read_and_what_is_none_is_refused() {
        let regions = read(&[("features", &[3, 5], 0.25), ("boxes", &[3, 4], 1.0)]).unwrap();
        assert_eq!(regions, Regions::new(vec![0.25; 15], 5, Some(vec![1.0; 12])).unwrap());
        assert_eq!(read(&[("features", &[1, 2], 7.0)]).unwrap().boxes(), None);
        let refused = |tensors: &[(&str, &[usize], f32)], words: &str| {
            let message = read(tensors).unwrap_err().to_string();
            assert!(message.contains(words), "{words} is not in: {message}");
        };
        refused(&[("boxes", &[3, 4], 1.0)], "no tensor `features`");
        refused(&[("features", &[3], 1.0)], "the shape [3], expected [regions, numbers of each]");
        refused(&[("features", &[0, 4], 1.0)], "expected at least one");
        refused(&[("features", &[3, 5], 1.0), ("boxes", &[2, 4], 1.0)], "has shape [2, 4], the model needs [3, 4]");
        refused(&[("features", &[3, 5], 1.0), ("boxes", &[3, 4], 1.5)], "an edge at 1.5");
        refused(&[("features", &[3, 5], f32::NAN)], "no finite f32");
        refused(&[("features", &[3, 5], 1.0), ("masks", &[3], 1.0)], "masks");
    }
}
