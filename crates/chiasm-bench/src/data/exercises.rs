//! Physical exercises: photos, step-by-step instructions, and tags (the muscle that works, the equipment).

use std::collections::BTreeSet;

use chiasm_core::Labels;
use serde_json::Value;

use super::{Place, rows_of, split, text_of};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Exercises to learn from; the other 200 are for trying.
const N_TRAIN: usize = 500;

struct Exercise {
    text: String,
    photos: Vec<std::path::PathBuf>,
    tags: Vec<String>,
}

/// A random split by exercise, seed 0; each photo is a row, beside the text of its exercise.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::File`], [`BenchError::Open`], and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let folder = place.folder("exercises", "exercises", "exercises/exercises.json and exercises/thumb")?;
    let path = folder.join("exercises.json");
    let wrong = |reason: String| BenchError::File { path: path.clone(), reason };
    let json: Value = serde_json::from_str(&text_of(&path)?).map_err(|e| wrong(e.to_string()))?;
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = Vec::new();
    for entry in json.as_array().into_iter().flatten() {
        let name = entry["name"].as_str().ok_or_else(|| wrong("an exercise has no name".to_owned()))?;
        let mut tags = words(&entry["primaryMuscles"]);
        // "other" says of two exercises only that neither has what the list names.
        tags.extend(entry["equipment"].as_str().filter(|tag| *tag != "other").map(str::to_owned));
        let photo = |image: &String| folder.join("thumb").join(image.replace('/', "__"));
        all.push(Exercise {
            text: format!("{name}. {}", words(&entry["instructions"]).join(" ")),
            photos: words(&entry["images"]).iter().map(photo).collect(),
            tags,
        });
    }
    if all.is_empty() {
        return Err(wrong("it lists no exercise".to_owned()));
    }
    let names: Vec<&String> = all.iter().flat_map(|e| &e.tags).collect::<BTreeSet<_>>().into_iter().collect();
    let files: Vec<_> = all.iter().flat_map(|e| e.photos.clone()).collect();
    let of_photo: Vec<usize> = all.iter().enumerate().flat_map(|(i, e)| std::iter::repeat_n(i, e.photos.len())).collect();
    let texts: Vec<String> = all.iter().map(|e| e.text.clone()).collect();
    let photos = place.embed_files(&*place.encoder("mobilenet_v2")?, &files)?;
    let texts = place.embed_texts(&*place.encoder("all-MiniLM-L6-v2")?, &texts)?;
    let (train, test) = split(all.len(), N_TRAIN * all.len() / 700, 0);
    let part = |picked: &[usize]| -> Result<Part, BenchError> {
        let rows: Vec<usize> = (0..of_photo.len()).filter(|row| picked.binary_search(&of_photo[*row]).is_ok()).collect();
        let place_of = |tag: &String| names.binary_search(&tag).expect("all tags are listed") as u32;
        let tags: Vec<Vec<u32>> = rows.iter().map(|row| all[of_photo[*row]].tags.iter().map(place_of).collect()).collect();
        Ok(Part {
            views: vec![rows_of(&photos, rows.iter().copied())?, rows_of(&texts, rows.iter().map(|row| of_photo[*row]))?],
            labels: Some(Labels::from_rows(&tags, names.len()).map_err(|e| wrong(e.to_string()))?),
            groups: Some(rows.iter().map(|row| of_photo[*row] as u32).collect()),
        })
    };
    Ok(Task {
        key: "exercises",
        title: "Exercises and their tags".to_owned(),
        protocol: format!(
            "{} physical exercises with two photos, instructions and tags; {} to learn from, {} to try (random, seed 0). Image: MobileNetV2, \
             1,280 numbers; text: name and instructions through MiniLM, 384. {} tags: the muscle that works most, and the equipment where \
             there is some. Relevant: at least one tag in common.",
            all.len(),
            train.len(),
            test.len(),
            names.len()
        ),
        views: vec!["image", "text"],
        train: part(&train)?,
        test: part(&test)?,
        cca_components: 24,
        correlations: None,
    })
}
