//! Pictures to the numbers that a network was trained on, as `preprocessor_config.json` states it, or `open_clip_config.json`.
//!
//! # Reference
//! The image processors of transformers, which differ in their defaults alone: resize, cut out the middle, scale, normalise; and
//! `image_transform` of open_clip. Equal within 1/255 before the normalisation; resizing is Pillow's. And that of SigLIP 2, whose
//! pictures keep their shape.

use std::path::{Path, PathBuf};

use chiasm_core::Image;
use chiasm_media::{Filter, resize_with};
use chiasm_nn::FeatureMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::model;

/// Sides beyond this are refused: a description comes from strangers, and decides how much memory a picture takes.
const MAX_SIDE: u32 = 4096;

/// Patches beyond this are refused, likewise: attention takes the square of their number in time. Four times the most that a model was
/// trained with (Tschannen et al., "SigLIP 2", 2025: 1024).
const MAX_PATCHES: u32 = 4096;

/// A patch of a side beyond this is refused; so patches cannot be more pixels than a picture of [`MAX_SIDE`] has.
const MAX_PATCH_SIDE: u32 = 64;

/// What part of a picture ConvNeXT's processor keeps where nothing is said, and the side from which on it keeps all of it.
const CONVNEXT_PART: f64 = 0.875;
const CONVNEXT_WHOLE: u32 = 384;

/// What holds where the description is silent.
#[derive(Clone, Copy)]
pub(crate) struct Defaults {
    /// Side of the picture that the network takes.
    pub(crate) side: u32,
    /// Whether a plain number as size means a square; else it is the shorter edge.
    pub(crate) square: bool,
    pub(crate) filter: Filter,
    pub(crate) crop: bool,
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
}

impl Defaults {
    /// Those of CLIP: the shorter edge to 224, cubic, the middle.
    pub(crate) const CLIP: Self = Self {
        side: 224,
        square: false,
        filter: Filter::Bicubic,
        crop: true,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };

    /// The same with mean and deviation of ImageNet's pictures.
    pub(crate) const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Self::CLIP };

    /// Those of EfficientNet: to 346 whatever the shape, cubic.
    pub(crate) const EFFICIENTNET: Self =
        Self { side: 346, square: true, filter: Filter::Bicubic, crop: false, mean: [0.5; 3], std: [0.5; 3] };

    /// Those of BLIP: to 384 x 384, cubic, the shape not kept.
    pub(crate) const BLIP: Self = Self { side: 384, square: true, crop: false, ..Self::CLIP };

    /// Those of SigLIP 2 over pictures of any shape, whose size follows from the patches: by a triangle.
    const SIGLIP_2: Self =
        Self { side: 256, square: true, filter: Filter::Bilinear, crop: false, mean: [0.5; 3], std: [0.5; 3] };
}

/// `preprocessor_config.json`.
#[derive(Deserialize)]
struct Config {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    crop_pct: Option<f64>,
    rescale_offset: Option<bool>,
    include_top: Option<bool>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u8>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f32>>,
    image_std: Option<Vec<f32>>,
}

/// The same of SigLIP 2. Numbers are taken as they stand, so that whatever is no number of patches can be named.
#[derive(Deserialize)]
struct PatchesConfig {
    patch_size: Option<Value>,
    max_num_patches: Option<Value>,
    #[serde(flatten)]
    rest: Config,
}

/// A size in any of the ways in which checkpoints write it.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(u32),
    Pair([u32; 2]),
    Box { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

/// What a picture is resized to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// Height and width, whatever the picture's shape.
    Box(u32, u32),
    /// The shorter edge, the other in proportion.
    Shortest(u32),
    /// The longer edge, the other in proportion.
    Longest(u32),
    /// As many patches of `side` x `side` as fill the picture and are at most `max`, its shape kept but for what the last ones need.
    Patches { side: u32, max: u32 },
}

impl Target {
    /// Height and width that a picture gets.
    fn of(self, image: &Image) -> (u32, u32) {
        match self {
            Target::Box(height, width) => (height, width),
            Target::Shortest(edge) => in_proportion(image, edge),
            Target::Longest(edge) => within(image, edge),
            Target::Patches { side, max } => filled([image.height, image.width], side, max).into(),
        }
    }
}

/// Which middle is cut out where one row or column is left over, and what surrounds a picture that is smaller than the cut.
#[derive(Clone, Copy, Debug)]
enum Middle {
    /// The upper left one, in black: transformers.
    UpperLeft,
    /// The one whose offset is even, in this grey: torchvision.
    Even(u8),
}

/// `preprocess_cfg` of `open_clip_config.json`. What is silent has open_clip's default; what it does not know it passes over too.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct OpenClipPreprocess {
    mode: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
    fill_color: Option<u8>,
}

/// The steps from a picture to a network's input.
#[derive(Clone, Debug)]
pub(crate) struct ImageProcessor {
    resize: Option<(Target, Filter)>,
    /// Height and width.
    crop: Option<[u32; 2]>,
    /// Where the middle is that is cut out.
    middle: Middle,
    /// Height and width to which the result is brought as torchvision brings tensors, see [`between`].
    sampled: Option<[u32; 2]>,
    /// Per channel: a byte `v` becomes `v * scale + shift`.
    pub(super) scale: [f32; 3],
    shift: [f32; 3],
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json`; without it, the defaults hold.
    pub(crate) fn open(files: &mut Checkpoint, defaults: Defaults) -> Result<Self, OpenError> {
        let (path, config): (_, Config) = described(files)?;
        let side = defaults.side;
        let target = match config.size {
            None if defaults.square => Target::Box(side, side),
            None => Target::Shortest(side),
            Some(Size::Side(side)) if defaults.square => Target::Box(side, side),
            Some(Size::Side(edge) | Size::Shortest { shortest_edge: edge }) => Target::Shortest(edge),
            Some(Size::Pair([height, width]) | Size::Box { height, width }) => Target::Box(height, width),
        };
        let filter = filter(&path, &config, defaults)?;
        let crop = match config.crop_size {
            None => [side, side],
            Some(Size::Side(side) | Size::Shortest { shortest_edge: side }) => [side, side],
            Some(Size::Pair(pair)) => pair,
            Some(Size::Box { height, width }) => [height, width],
        };
        let crop = config.do_center_crop.unwrap_or(defaults.crop).then_some(crop);
        let kind = config.kind();
        // ConvNeXT's processor, which ResNet's checkpoints name too, states one side and of what part of a picture that is the middle.
        let part = config.crop_pct.or(kind.starts_with("ConvNext").then_some(CONVNEXT_PART));
        let (target, crop) = match (part, target) {
            (Some(part), Target::Shortest(edge)) => {
                model::expect(&path, part > 0.0 && part <= 1.0, || {
                    format!("crop_pct is {part}, expected above 0 and at most 1")
                })?;
                if edge < CONVNEXT_WHOLE {
                    (Target::Shortest((f64::from(edge) / part) as u32), Some([edge, edge]))
                } else {
                    (Target::Box(edge, edge), None)
                }
            }
            (Some(_) | None, _) => (target, crop),
        };
        let resize = config.do_resize.unwrap_or(true).then_some((target, filter));
        let sides = match target {
            Target::Box(height, width) => [height, width],
            Target::Shortest(edge) | Target::Longest(edge) | Target::Patches { side: edge, .. } => [edge, edge],
        };
        let fits = sides.iter().chain(crop.iter().flatten()).all(|side| (1..=MAX_SIDE).contains(side));
        model::expect(&path, fits, || format!("size and crop_size must be 1 to {MAX_SIDE} pixels a side"))?;
        // A picture of any shape would make any number of patches.
        let bounded = crop.is_some() || matches!(resize, Some((Target::Box(..), _)));
        model::expect(&path, bounded, || {
            "neither size (height and width) nor crop_size states the picture's shape".to_owned()
        })?;

        let [scale, shift] = scale_and_shift(&path, &config, defaults)?;
        Ok(Self { resize, crop, middle: Middle::UpperLeft, sampled: None, scale, shift })
    }

    /// Reads `preprocessor_config.json` of SigLIP 2, whose pictures are cut into as many patches as their shape allows; without it, the
    /// reference's defaults hold: at most 256 patches of 16 x 16. Gives the side of a patch too.
    pub(crate) fn in_patches(files: &mut Checkpoint) -> Result<(Self, u32), OpenError> {
        let (path, config): (_, PatchesConfig) = described(files)?;
        let PatchesConfig { patch_size, max_num_patches, rest: config } = config;
        let side = count(&path, "patch_size", patch_size, (16, MAX_PATCH_SIDE))?;
        let max = count(&path, "max_num_patches", max_num_patches, (256, MAX_PATCHES))?;
        // As they come, pictures would make any number of patches.
        model::expect(&path, config.do_resize.unwrap_or(true), || {
            "do_resize is false, expected true: the patches of a picture must be bounded by max_num_patches".to_owned()
        })?;
        let defaults = Defaults::SIGLIP_2;
        let resize = Some((Target::Patches { side, max }, filter(&path, &config, defaults)?));
        let [scale, shift] = scale_and_shift(&path, &config, defaults)?;
        Ok((Self { resize, crop: None, middle: Middle::UpperLeft, sampled: None, scale, shift }, side))
    }

    /// The steps of open_clip's evaluation for a network that takes pictures of `side` x `side`; `path` is where the description stands.
    pub(crate) fn of_open_clip(path: &Path, config: &OpenClipPreprocess, side: u32) -> Result<Self, OpenError> {
        model::expect(path, (1..=MAX_SIDE).contains(&side), || format!("image_size is {side}, expected 1 to {MAX_SIDE}"))?;
        let mode = config.mode.as_deref().unwrap_or("RGB");
        model::expect(path, mode == "RGB", || format!("preprocess_cfg.mode is `{mode}`, expected `RGB`"))?;
        let filter = match config.interpolation.as_deref().unwrap_or("bicubic") {
            // Chosen anew for each picture in training, it is cubic in evaluation.
            "bicubic" | "random" => Filter::Bicubic,
            "bilinear" => Filter::Bilinear,
            other => {
                let reason = format!("preprocess_cfg.interpolation is `{other}`, expected bicubic, bilinear or random");
                return Err(model::config(path, reason));
            }
        };
        let (target, crop) = match config.resize_mode.as_deref().unwrap_or("shortest") {
            "shortest" => (Target::Shortest(side), Some([side; 2])),
            "longest" => (Target::Longest(side), Some([side; 2])),
            "squash" => (Target::Box(side, side), None),
            other => {
                let reason = format!("preprocess_cfg.resize_mode is `{other}`, expected shortest, longest or squash");
                return Err(model::config(path, reason));
            }
        };
        let mean = config.mean.unwrap_or(Defaults::CLIP.mean);
        let std = config.std.unwrap_or(Defaults::CLIP.std);
        let sound = mean.iter().all(|v| v.is_finite()) && std.iter().all(|v| v.is_finite() && *v > 0.0);
        model::expect(path, sound, || "preprocess_cfg: mean and std must be finite, and std above 0".to_owned())?;
        let scale = std.map(|std| (1.0 / 255.0 / f64::from(std)) as f32);
        let shift = std::array::from_fn(|c| -mean[c] / std[c]);
        let middle = Middle::Even(config.fill_color.unwrap_or(0));
        Ok(Self { resize: Some((target, filter)), crop, middle, sampled: None, scale, shift })
    }

    /// To `side` x `side`, the shape not kept, by the four nearest pixels of each place, with the mean and deviation of ImageNet's
    /// pictures: torchvision's `Resize` behind `ToTensor`, as it was before it averaged. `path` is where the description stands.
    pub(crate) fn between_pixels(path: &Path, side: u32) -> Result<Self, OpenError> {
        model::expect(path, (1..=MAX_SIDE).contains(&side), || format!("image_size is {side}, expected 1 to {MAX_SIDE}"))?;
        let Defaults { mean, std, .. } = Defaults::IMAGENET;
        let scale = std.map(|std| (1.0 / 255.0 / f64::from(std)) as f32);
        let shift = std::array::from_fn(|c| -mean[c] / std[c]);
        Ok(Self { resize: None, crop: None, middle: Middle::UpperLeft, sampled: Some([side; 2]), scale, shift })
    }

    /// The picture resized and cut, where that is smaller and what would be made of it again: itself.
    pub(crate) fn reduced(&self, image: &Image) -> Option<Image> {
        let [height, width] = self.shape_of(image);
        let cut = |rgb: Vec<u8>| Image { width, height, rgb };
        // A cut that leaves a rim away, as the middle 224 of 256, would be enlarged and cut again.
        let again = self.resize.map_or((height, width), |(target, _)| target.of(&cut(Vec::new())));
        let smaller = u64::from(height) * u64::from(width) < u64::from(image.height) * u64::from(image.width);
        // What lies between pixels cannot be brought back to bytes.
        (smaller && again == (height, width) && self.sampled.is_none()).then(|| self.cut(image))
    }

    /// The resized and cut picture, still in bytes.
    pub(crate) fn cut(&self, image: &Image) -> Image {
        let resized = self.resize.map(|(target, filter)| {
            let (height, width) = target.of(image);
            resize_with(image, width, height, filter)
        });
        match (self.crop, resized) {
            (Some([height, width]), resized) => middle(resized.as_ref().unwrap_or(image), height, width, self.middle),
            (None, Some(resized)) => resized,
            (None, None) => image.clone(),
        }
    }

    /// The picture as the network takes it, `[height, width, 3]`.
    pub(crate) fn pixels(&self, image: &Image) -> FeatureMap {
        let mut pixels = FeatureMap::default();
        if let Some([height, width]) = self.sampled {
            pixels.reshape(height as usize, width as usize, 3);
            between(image, &mut pixels);
        } else {
            let cut = self.cut(image);
            pixels.reshape(cut.height as usize, cut.width as usize, 3);
            pixels.data.iter_mut().zip(&cut.rgb).for_each(|(out, v)| *out = f32::from(*v));
        }
        for pixel in pixels.data.chunks_exact_mut(3) {
            for (c, v) in pixel.iter_mut().enumerate() {
                *v = *v * self.scale[c] + self.shift[c];
            }
        }
        pixels
    }

    /// Height and width of what [`ImageProcessor::pixels`] gives.
    pub(crate) fn shape(&self) -> [u32; 2] {
        match (self.sampled, self.crop, self.resize) {
            (Some(shape), _, _) | (None, Some(shape), _) => shape,
            (None, None, Some((Target::Box(height, width), _))) => [height, width],
            (None, None, _) => {
                unreachable!("only what keeps the picture's shape has none, and no network of one size opens that")
            }
        }
    }

    /// The same of one picture, for those too whose shape depends on it.
    fn shape_of(&self, image: &Image) -> [u32; 2] {
        match (self.sampled, self.crop, self.resize) {
            (None, None, Some((target, _))) => target.of(image).into(),
            (None, None, None) => [image.height, image.width],
            (Some(shape), _, _) | (None, Some(shape), _) => shape,
        }
    }
}

impl Config {
    /// The processor that it names; empty where it names none.
    fn kind(&self) -> &str {
        self.image_processor_type.as_deref().or(self.feature_extractor_type.as_deref()).unwrap_or_default()
    }
}

/// `preprocessor_config.json`, and where it stands; one that says nothing where there is none.
fn described<T: DeserializeOwned>(files: &mut Checkpoint) -> Result<(PathBuf, T), OpenError> {
    const FILE: &str = "preprocessor_config.json";
    if files.has(FILE) {
        return files.json(FILE);
    }
    Ok((files.path(FILE), serde_json::from_str("{}").expect("every field is optional")))
}

/// A number of 1 to `max`, or what holds where none is given.
fn count(path: &Path, field: &str, given: Option<Value>, (otherwise, max): (u32, u32)) -> Result<u32, OpenError> {
    let Some(given) = given else { return Ok(otherwise) };
    let number = given.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=max).contains(n));
    number.ok_or_else(|| model::config(path, format!("{field} is {given}, expected a whole number of 1 to {max}")))
}

/// The filter that pictures are resized with.
fn filter(path: &Path, config: &Config, defaults: Defaults) -> Result<Filter, OpenError> {
    Ok(match config.resample {
        None => defaults.filter,
        Some(0) => Filter::Nearest,
        Some(1) => Filter::Lanczos,
        Some(2) => Filter::Bilinear,
        Some(3) => Filter::Bicubic,
        Some(4) => Filter::Box,
        Some(other) => {
            return Err(model::config(path, format!("resample is {other}, expected a filter of Pillow: 0 to 4")));
        }
    })
}

/// What a byte of each channel is multiplied with, and what is added then.
fn scale_and_shift(path: &Path, config: &Config, defaults: Defaults) -> Result<[[f32; 3]; 2], OpenError> {
    let factor = if config.do_rescale.unwrap_or(true) { config.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
    let channels = |field: &str, given: &Option<Vec<f32>>, otherwise: [f32; 3]| match given {
        None => Ok(otherwise),
        Some(values) => <[f32; 3]>::try_from(values.as_slice())
            .map_err(|_| model::config(path, format!("{field} has {} values, expected 3", values.len()))),
    };
    let normalize = config.do_normalize.unwrap_or(true);
    let mean = if normalize { channels("image_mean", &config.image_mean, defaults.mean)? } else { [0.0; 3] };
    let deviation = channels("image_std", &config.image_std, defaults.std)?;
    let std = if normalize { deviation } else { [1.0; 3] };
    let sound = factor.is_finite() && mean.iter().all(|v| v.is_finite()) && deviation.iter().all(|v| v.is_finite() && *v > 0.0);
    model::expect(path, sound, || "image_mean, image_std and rescale_factor must be finite, and image_std above 0".to_owned())?;
    // EfficientNet's were trained on pictures that lie around 0 and are divided by the deviation once more.
    let offset = if config.rescale_offset.unwrap_or(false) { 1.0 } else { 0.0 };
    let again = if config.include_top.unwrap_or(config.kind().starts_with("EfficientNet")) { deviation } else { [1.0; 3] };
    let scale = std::array::from_fn(|c| (factor / f64::from(std[c]) / f64::from(again[c])) as f32);
    let shift = std::array::from_fn(|c| (-offset - mean[c]) / std[c] / again[c]);
    Ok([scale, shift])
}

/// Fills `out` with what lies between the pixels of a picture, the four around each place mixed by how near they are; beyond the rim stands the
/// rim. Nothing is averaged where a picture becomes smaller.
fn between(image: &Image, out: &mut FeatureMap) {
    // The two pixels around a place along a side, and what the second weighs.
    let places = |n_out: usize, n: u32| -> Vec<(usize, usize, f32)> {
        let (ratio, last) = (f64::from(n) / n_out as f64, n.saturating_sub(1) as usize);
        let place = |i: usize| {
            let at = ((i as f64 + 0.5) * ratio - 0.5).max(0.0);
            let first = (at as usize).min(last);
            (first, (first + 1).min(last), (at - first as f64) as f32)
        };
        (0..n_out).map(place).collect()
    };
    let (down, across) = (places(out.height, image.height), places(out.width, image.width));
    let row_len = image.width as usize * 3;
    let row = |y: usize| &image.rgb[y * row_len..][..row_len];
    for ((upper, lower, below), line) in down.iter().zip(out.data.chunks_exact_mut(out.width * 3)) {
        let (upper, lower) = (row(*upper), row(*lower));
        for ((left, right, beside), pixel) in across.iter().zip(line.chunks_exact_mut(3)) {
            for (c, v) in pixel.iter_mut().enumerate() {
                let mix = |row: &[u8]| {
                    let [left, right] = [left, right].map(|x| f32::from(row[x * 3 + c]));
                    left + (right - left) * beside
                };
                let (above, under) = (mix(upper), mix(lower));
                *v = above + (under - above) * below;
            }
        }
    }
}

/// Height and width with the shorter edge at `edge`; the longer is rounded down, as the reference does.
fn in_proportion(image: &Image, edge: u32) -> (u32, u32) {
    let (short, long) = (image.width.min(image.height), image.width.max(image.height));
    // A hair-thin picture would become of any length: what lies beyond this is cut off afterwards in any case.
    let longer = (u64::from(edge) * u64::from(long) / u64::from(short)).min(64 * u64::from(MAX_SIDE)) as u32;
    if image.width <= image.height { (longer, edge) } else { (edge, longer) }
}

/// Height and width with the longer edge at `edge`; the shorter is rounded to the nearest, a half to the even, as the reference does.
fn within(image: &Image, edge: u32) -> (u32, u32) {
    let ratio = f64::from(image.width.max(image.height)) / f64::from(edge);
    let side = |v: u32| ((f64::from(v) / ratio).round_ties_even() as u32).max(1);
    (side(image.height), side(image.width))
}

/// Height and width, in whole patches of `patch` x `patch`, of the largest picture of this shape that at most `max` patches fill. The sides
/// are rounded up to patches each by itself, so the shape is kept but for less than a patch.
///
/// Where the patches reach the limit the sides jump, so the scale is sought by halving an interval; with the reference's own ends and
/// end of the search, for the last of its steps decide where two sides jump close to one another. No picture is enlarged a hundredfold.
fn filled(sides: [u32; 2], patch: u32, max: u32) -> [u32; 2] {
    const NEAR: f64 = 1e-5;
    let n_patches = |scale: f64| sides.map(|side| (f64::from(side) * scale / f64::from(patch)).ceil().max(1.0));
    let (mut fits, mut exceeds) = (NEAR / 10.0, 100.0);
    while exceeds - fits >= NEAR {
        let scale = (fits + exceeds) / 2.0;
        let [down, across] = n_patches(scale);
        *(if down * across <= f64::from(max) { &mut fits } else { &mut exceeds }) = scale;
    }
    n_patches(fits).map(|n| n as u32 * patch)
}

/// The middle of a picture, which is laid on one colour where it is smaller.
fn middle(image: &Image, height: u32, width: u32, which: Middle) -> Image {
    let (h, w) = (height as usize, width as usize);
    let (image_h, image_w) = (image.height as usize, image.width as usize);
    let mut rgb = vec![if let Middle::Even(grey) = which { grey } else { 0 }; h * w * 3];
    let begin = |rest: usize| match which {
        Middle::UpperLeft => rest / 2,
        // Half the rest, a half rounded to the even number.
        Middle::Even(_) => rest / 2 + usize::from(rest % 4 == 3),
    };
    // Where the cut begins in the picture, and where the picture begins in the cut.
    let (from_y, from_x) = (begin(image_h.saturating_sub(h)), begin(image_w.saturating_sub(w)));
    let (to_y, to_x) = (h.saturating_sub(image_h) / 2, w.saturating_sub(image_w) / 2);
    let n = w.min(image_w) * 3;
    for y in 0..h.min(image_h) {
        let from = ((from_y + y) * image_w + from_x) * 3;
        let to = ((to_y + y) * w + to_x) * 3;
        rgb[to..to + n].copy_from_slice(&image.rgb[from..from + n]);
    }
    Image { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: u32, height: u32) -> Image {
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        Image { width, height, rgb }
    }

    #[test]
    fn the_middle_is_cut_or_laid_on_black() {
        let cut = middle(&ramp(9, 6), 4, 4, Middle::UpperLeft);
        assert_eq!(cut.rgb[..3], [2, 1, 7]);
        let laid = middle(&ramp(2, 6), 4, 5, Middle::UpperLeft);
        assert_eq!((laid.rgb[..3].to_vec(), laid.rgb[3..6].to_vec()), (vec![0, 0, 0], vec![0, 1, 7]));
    }

    #[test]
    fn torchvisions_middle_begins_at_an_even_place() {
        // 9 - 4 = 5, half of it 2.5: 2; 7 - 4 = 3, half of it 1.5: 2 as well.
        assert_eq!(middle(&ramp(9, 7), 4, 4, Middle::Even(0)).rgb[..3], [2, 2, 7]);
        assert_eq!(middle(&ramp(2, 4), 4, 4, Middle::Even(9)).rgb[..6], [9, 9, 9, 0, 0, 7]);
        assert_eq!(within(&ramp(8, 3), 4), (2, 4));
        assert_eq!(within(&ramp(1, 200), 4), (4, 1));
    }

    #[test]
    fn a_reduced_picture_is_what_the_network_sees_of_the_whole() {
        let of = |resize, crop, middle| ImageProcessor {
            resize,
            crop,
            middle,
            sampled: None,
            scale: [0.1, 0.2, 0.3],
            shift: [1.0; 3],
        };
        let cubic = |target| Some((target, Filter::Bicubic));
        let reduces = [
            of(cubic(Target::Shortest(16)), Some([16, 16]), Middle::UpperLeft),
            of(cubic(Target::Longest(16)), Some([16, 16]), Middle::Even(127)),
            of(cubic(Target::Box(12, 16)), None, Middle::UpperLeft),
            of(None, Some([16, 16]), Middle::UpperLeft),
            of(Some((Target::Patches { side: 3, max: 20 }, Filter::Bilinear)), None, Middle::UpperLeft),
        ];
        for picture in [ramp(64, 48), ramp(31, 200), ramp(17, 17)] {
            for processor in &reduces {
                let reduced = processor.reduced(&picture).unwrap();
                assert!(reduced.rgb.len() < picture.rgb.len());
                assert_eq!(processor.pixels(&reduced).data, processor.pixels(&picture).data, "{processor:?}");
            }
            // The middle of something larger, what is enlarged, and what is mixed from pixels.
            let mixed = ImageProcessor { sampled: Some([8; 2]), ..of(None, None, Middle::UpperLeft) };
            assert!(mixed.reduced(&picture).is_none());
            assert!(of(cubic(Target::Shortest(18)), Some([16, 16]), Middle::UpperLeft).reduced(&picture).is_none());
            assert!(of(cubic(Target::Box(200, 200)), None, Middle::UpperLeft).reduced(&picture).is_none());
        }
    }

    /// Sizes that the reference chose, by `reference/encode_siglip2.py`: `[height, width, patch, patches at most, height, width]`.
    #[test]
    fn patches_fill_pictures_as_the_reference_has_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/siglip2_sizes.json");
        let sizes: Vec<[u32; 6]> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(sizes.len() >= 1000);
        for [height, width, patch, max, want_height, want_width] in sizes {
            let got = filled([height, width], patch, max);
            assert_eq!(got, [want_height, want_width], "{height} x {width} by {max} patches of {patch}");
            assert!(got.iter().all(|side| side.is_multiple_of(patch)) && got[0] / patch * (got[1] / patch) <= max);
            // What was resized once stays as it is.
            assert!(filled(got, patch, max) == got || got[0] >= 100 * height || got[1] >= 100 * width);
        }
    }

    #[test]
    fn what_is_no_number_of_patches_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let opened = |description: &str| {
            std::fs::write(folder.path().join("preprocessor_config.json"), description).unwrap();
            ImageProcessor::in_patches(&mut Checkpoint::new(folder.path())).map_err(|e| e.to_string())
        };
        let (processor, side) = opened("{}").unwrap();
        assert_eq!((processor.resize, side), (Some((Target::Patches { side: 16, max: 256 }, Filter::Bilinear)), 16));
        for (description, part) in [
            (r#"{"max_num_patches": 0}"#, "max_num_patches is 0, expected a whole number of 1 to 4096"),
            (r#"{"max_num_patches": -3}"#, "max_num_patches is -3,"),
            (r#"{"max_num_patches": 1e300}"#, "max_num_patches is 1e+300,"),
            (r#"{"max_num_patches": 18446744073709551615}"#, "max_num_patches is 18446744073709551615,"),
            (r#"{"max_num_patches": [256]}"#, "max_num_patches is [256],"),
            (r#"{"patch_size": 0}"#, "patch_size is 0, expected a whole number of 1 to 64"),
            (r#"{"patch_size": 4294967296}"#, "patch_size is 4294967296,"),
            (r#"{"do_resize": false}"#, "do_resize is false"),
            (r#"{"resample": 9}"#, "resample is 9"),
            (r#"{"image_std": [0.5, 0.0, 0.5]}"#, "image_std above 0"),
        ] {
            let refused = opened(description).err().unwrap_or_else(|| panic!("{description} opened"));
            assert!(refused.contains("preprocessor_config.json") && refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn hair_thin_pictures_stay_bounded() {
        assert_eq!(in_proportion(&Image { width: 1, height: 60_000, rgb: Vec::new() }, 224), (64 * MAX_SIDE, 224));
        assert_eq!(in_proportion(&Image { width: 640, height: 427, rgb: Vec::new() }, 224), (224, 335));
    }
}
