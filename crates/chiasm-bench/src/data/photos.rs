//! Real photos with five captions each (800 of Flickr8k), through real encoders: as wholes, and by their parts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chiasm_align::parts::PartSets;
use chiasm_core::{Media, Vectors};

use super::{Place, rows_of, split, text_of};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Photos to learn from; the other 200 are for trying.
const N_TRAIN: usize = 600;

const IMAGES: &str = "mobilenet_v2";
const TEXTS: &str = "all-MiniLM-L6-v2";

/// The files, and what is said of them.
struct Photos {
    files: Vec<PathBuf>,
    captions: Vec<String>,
    /// The photo of each caption.
    photo_of: Vec<usize>,
    /// Photos to learn from, and for trying.
    parts: [Vec<usize>; 2],
}

impl Photos {
    fn read(place: &Place<'_>) -> Result<Self, BenchError> {
        let folder = place.folder("photos", "flickr8k", "flickr8k/captions.txt and flickr8k/images")?;
        let path = folder.join("captions.txt");
        let mut captions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text_of(&path)?.lines().skip(1) {
            if let Some((file, caption)) = line.split_once(',') {
                captions.entry(file.to_owned()).or_default().push(caption.trim_matches('"').to_owned());
            }
        }
        if captions.is_empty() {
            return Err(BenchError::File { path, reason: "it has no line `file,caption`".to_owned() });
        }
        let files: Vec<_> = captions.keys().map(|name| folder.join("images").join(name)).collect();
        let photo_of = captions.values().enumerate().flat_map(|(i, of)| std::iter::repeat_n(i, of.len())).collect();
        let (train, test) = split(files.len(), N_TRAIN * files.len() / 800, 0);
        Ok(Self { captions: captions.into_values().flatten().collect(), photo_of, parts: [train, test], files })
    }

    /// The captions of some photos, which ascend.
    fn captions_of(&self, photos: &[usize]) -> Vec<usize> {
        (0..self.photo_of.len()).filter(|caption| photos.binary_search(&self.photo_of[*caption]).is_ok()).collect()
    }
}

/// A random split by photo, seed 0; each caption is a row.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::Open`] when the weights are not there, and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let photos = Photos::read(place)?;
    let images = place.embed_files(&*place.encoder(IMAGES)?, &photos.files)?;
    let texts = place.embed_texts(&*place.encoder(TEXTS)?, &photos.captions)?;
    let part = |picked: &[usize]| -> Result<Part, BenchError> {
        let rows = photos.captions_of(picked);
        Ok(Part {
            views: vec![
                rows_of(&images, rows.iter().map(|row| photos.photo_of[*row]))?,
                rows_of(&texts, rows.iter().copied())?,
            ],
            labels: None,
            groups: Some(rows.iter().map(|row| photos.photo_of[*row] as u32).collect()),
        })
    };
    Ok(Task {
        key: "photos",
        title: "Photos and captions".to_owned(),
        protocol: "800 photos of Flickr8k with 5 captions each; 600 photos to learn from, 200 with their 1,000 captions to try (random, seed \
                   0). Image: MobileNetV2, 1,280 numbers; text: MiniLM, 384. Relevant: the captions of the photo."
            .to_owned(),
        views: vec!["image", "text"],
        train: part(&photos.parts[0])?,
        test: part(&photos.parts[1])?,
        cca_components: 128,
        correlations: None,
    })
}

/// Photos and their captions, as wholes and by their parts.
pub struct Described {
    /// The places of each photo's map, 49 of 1,280 numbers.
    pub regions: PartSets,
    /// The tokens of each caption, of 384 numbers, those that begin and end it among them.
    pub words: PartSets,
    /// The photo of each caption.
    pub photo_of: Vec<u32>,
    /// Embeddings of photos and of captions.
    pub wholes: [Vectors; 2],
}

impl Described {
    /// Some of the photos, in ascending order, with their captions.
    pub fn pick(&self, photos: &[usize]) -> Result<Self, BenchError> {
        let captions: Vec<usize> =
            (0..self.photo_of.len()).filter(|at| photos.binary_search(&(self.photo_of[*at] as usize)).is_ok()).collect();
        let place = |caption: &usize| photos.binary_search(&(self.photo_of[*caption] as usize)).expect("one of them") as u32;
        Ok(Self {
            regions: self.regions.pick(photos),
            words: self.words.pick(&captions),
            photo_of: captions.iter().map(place).collect(),
            wholes: [rows_of(&self.wholes[0], photos.iter().copied())?, rows_of(&self.wholes[1], captions.iter().copied())?],
        })
    }
}

/// The same photos, split in the same way: what is learned from, and what for trying.
///
/// # Errors
/// As [`load`].
pub fn load_described(place: &Place<'_>) -> Result<[Described; 2], BenchError> {
    let photos = Photos::read(place)?;
    let (of_images, of_texts) = (place.encoder(IMAGES)?, place.encoder(TEXTS)?);
    let all = Described {
        regions: place.parts_of_files(&*of_images, &photos.files)?,
        words: place.parts_of(&*of_texts, &photos.captions, |text| Ok(Media::Text(text.clone())))?,
        photo_of: photos.photo_of.iter().map(|photo| *photo as u32).collect(),
        wholes: [place.embed_files(&*of_images, &photos.files)?, place.embed_texts(&*of_texts, &photos.captions)?],
    };
    let [train, test] = &photos.parts;
    Ok([all.pick(train)?, all.pick(test)?])
}
