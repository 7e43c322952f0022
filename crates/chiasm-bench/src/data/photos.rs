//! Real photos with five captions each (800 of Flickr8k), through real encoders.

use std::collections::BTreeMap;

use chiasm_core::Vectors;

use super::{Place, rows_of, split, text_of};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Photos to learn from; the other 200 are for trying.
const N_TRAIN: usize = 600;

/// A random split by photo, seed 0; each caption is a row.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::Open`] when the weights are not there, and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
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
    let texts: Vec<String> = captions.values().flatten().cloned().collect();
    let groups: Vec<usize> = captions.values().enumerate().flat_map(|(i, of)| std::iter::repeat_n(i, of.len())).collect();
    let photos = place.embed_files(&*place.encoder("mobilenet_v2")?, &files)?;
    let texts = place.embed_texts(&*place.encoder("all-MiniLM-L6-v2")?, &texts)?;
    let (train, test) = split(files.len(), N_TRAIN * files.len() / 800, 0);
    let part = |picked: &[usize]| -> Result<Part, BenchError> {
        let rows: Vec<usize> = (0..groups.len()).filter(|row| picked.binary_search(&groups[*row]).is_ok()).collect();
        let images: Vectors = rows_of(&photos, rows.iter().map(|row| groups[*row]))?;
        Ok(Part {
            views: vec![images, rows_of(&texts, rows.iter().copied())?],
            labels: None,
            groups: Some(rows.iter().map(|row| groups[*row] as u32).collect()),
        })
    };
    Ok(Task {
        key: "photos",
        title: "Photos and captions".to_owned(),
        protocol: "800 photos of Flickr8k with 5 captions each; 600 photos to learn from, 200 with their 1,000 captions to try (random, seed \
                   0). Image: MobileNetV2, 1,280 numbers; text: MiniLM, 384. Relevant: the captions of the photo."
            .to_owned(),
        views: vec!["image", "text"],
        train: part(&train)?,
        test: part(&test)?,
        cca_components: 128,
        correlations: None,
    })
}
