//! Those that look at two things at once, and what they look at.

use std::fmt;

use crate::media::{Image, Modality, Video};
use crate::search::Score;
use crate::space::EncodeError;
use crate::vectors::ShapeError;

/// What a detector has found in a picture: at least one region, each with its features and, where it gave them, its box.
#[derive(Clone, Debug, PartialEq)]
pub struct Regions {
    dim: usize,
    features: Vec<f32>,
    boxes: Option<Vec<f32>>,
}

/// Why numbers are no regions.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RegionsError {
    /// The features are no rows of finite numbers.
    #[error("features: {0}")]
    Features(#[from] ShapeError),
    /// No region at all.
    #[error("there are features of no region, expected at least one")]
    None,
    /// Boxes that are not one for each region.
    #[error("boxes have {got} numbers, expected {expected}: four for each region")]
    Boxes {
        /// How many came.
        got: usize,
        /// How many should have come.
        expected: usize,
    },
    /// An edge that lies outside the picture.
    #[error("the box of region {region} has an edge at {edge}, expected shares of the picture's sides, 0 to 1")]
    Outside {
        /// Whose box it is.
        region: usize,
        /// Where the edge lies.
        edge: f32,
    },
}

impl Regions {
    /// Regions with features `[regions, dim]` and perhaps boxes `[regions, 4]`: the left, top, right and bottom edge of each, as shares of
    /// the picture's width and height.
    ///
    /// # Errors
    /// [`RegionsError`].
    pub fn new(features: Vec<f32>, dim: usize, boxes: Option<Vec<f32>>) -> Result<Self, RegionsError> {
        let rows = crate::Vectors::new(features, dim)?;
        if rows.n() == 0 {
            return Err(RegionsError::None);
        }
        if let Some(boxes) = &boxes {
            let (got, expected) = (boxes.len(), 4 * rows.n());
            if got != expected {
                return Err(RegionsError::Boxes { got, expected });
            }
            if let Some(at) = boxes.iter().position(|edge| !(0.0..=1.0).contains(edge)) {
                return Err(RegionsError::Outside { region: at / 4, edge: boxes[at] });
            }
        }
        Ok(Self { dim, features: rows.into_data(), boxes })
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.features.len() / self.dim
    }

    /// Numbers of each.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[count, dim]`.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// `[count, 4]`, where the detector gave them.
    pub fn boxes(&self) -> Option<&[f32]> {
        self.boxes.as_deref()
    }
}

/// A picture, still or moving, as a cross-encoder looks at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// The picture itself.
    Pixels(Image),
    /// What a detector has found in it.
    Regions(Regions),
    /// The frames of a video.
    Frames(Video),
}

impl Picture {
    /// Which of the forms it has.
    pub fn form(&self) -> PictureForm {
        match self {
            Picture::Pixels(_) => PictureForm::Pixels,
            Picture::Regions(_) => PictureForm::Regions,
            Picture::Frames(_) => PictureForm::Frames,
        }
    }
}

/// The forms of a [`Picture`], of which a cross-encoder takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureForm {
    /// [`Picture::Pixels`].
    Pixels,
    /// [`Picture::Regions`].
    Regions,
    /// [`Picture::Frames`].
    Frames,
}

impl PictureForm {
    /// What kind of media is seen in this form.
    pub fn modality(self) -> Modality {
        match self {
            PictureForm::Pixels | PictureForm::Regions => Modality::Image,
            PictureForm::Frames => Modality::Video,
        }
    }
}

/// As messages call what came or what was expected.
impl fmt::Display for PictureForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PictureForm::Pixels => "a picture",
            PictureForm::Regions => "the regions of a picture",
            PictureForm::Frames => "a video",
        })
    }
}

/// A cross-encoder: it looks at a picture, still or moving, and a text together and gives one score. It sees more than two encoders that
/// never meet before their vectors do, and it must be asked anew for every pair, so it re-ranks the first hits of a search.
pub trait CrossEncoder: Send + Sync {
    /// The name under which the registry opens it.
    fn name(&self) -> &str;

    /// Lower-case hexadecimal digest of all that decides its scores: weights, preprocessing, version of the arithmetic.
    fn fingerprint(&self) -> &str;

    /// In which form it takes pictures.
    fn takes(&self) -> PictureForm;

    /// Whether it can look at this picture.
    ///
    /// # Errors
    /// What came and what was expected.
    fn check(&self, picture: &Picture) -> Result<(), String>;

    /// How well each picture belongs to the text, as the network says it (a probability, 0..=1, or a cosine, -1..=1); a score depends on
    /// the two alone, to the last bit.
    ///
    /// # Errors
    /// [`EncodeError`], item 0 for the text; for a picture that [`CrossEncoder::check`] refuses its place among them.
    fn score_pictures(&self, text: &str, pictures: &[Picture]) -> Result<Vec<Score>, EncodeError>;

    /// How well each text belongs to the picture; the same score as from the other side.
    ///
    /// # Errors
    /// [`EncodeError`], naming a text by its place among them; item 0 for a picture that [`CrossEncoder::check`] refuses.
    fn score_texts(&self, picture: &Picture, texts: &[&str]) -> Result<Vec<Score>, EncodeError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_features_and_boxes_that_fit() {
        let regions = Regions::new(vec![0.5; 6], 3, Some(vec![0.0, 0.0, 1.0, 0.5, 0.1, 0.2, 0.3, 0.4])).unwrap();
        assert_eq!((regions.count(), regions.dim(), regions.boxes().map(<[f32]>::len)), (2, 3, Some(8)));
        let refused = |features: Vec<f32>, dim, boxes| Regions::new(features, dim, boxes).unwrap_err();
        assert_eq!(refused(Vec::new(), 3, None), RegionsError::None);
        assert!(matches!(refused(vec![1.0; 4], 3, None), RegionsError::Features(ShapeError::Ragged { .. })));
        assert!(matches!(refused(vec![f32::NAN; 3], 3, None), RegionsError::Features(ShapeError::NotFinite { .. })));
        assert_eq!(refused(vec![1.0; 6], 3, Some(vec![0.0; 4])), RegionsError::Boxes { got: 4, expected: 8 });
        let outside = refused(vec![1.0; 6], 3, Some(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5]));
        assert_eq!(outside, RegionsError::Outside { region: 1, edge: 1.5 });
        assert!(matches!(refused(vec![1.0; 3], 3, Some(vec![f32::NAN; 4])), RegionsError::Outside { region: 0, .. }));
    }
}
