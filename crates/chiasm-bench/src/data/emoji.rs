//! Emoji: 3,845 pictures with their names and keywords in six languages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::{Place, split, text_of};
use crate::error::BenchError;
use crate::task::{Part, Task};

const LANGUAGES: [&str; 6] = ["en", "zh", "de", "fr", "es", "ja"];
/// Share of the emoji to learn from.
const TRAIN: f64 = 0.8;

/// Pictures with English texts, through encoders with weights.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::File`], [`BenchError::Open`], and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let all = read(place, &["en"])?;
    let pictures = place.embed_files(&*place.encoder("mobilenet_v2")?, &all.files)?;
    let texts = place.embed_texts(&*place.encoder("all-MiniLM-L6-v2")?, &all.texts[0])?;
    let part = Part { views: vec![pictures, texts], labels: None, groups: None };
    task("emoji", "Emoji and English", "Picture: MobileNetV2, 1,280 numbers; text: MiniLM, 384.", &["image", "en"], &part)
}

/// Pictures with texts in six languages, through descriptors that know no language.
///
/// # Errors
/// Those of [`load`].
pub fn load_languages(place: &Place<'_>) -> Result<Task, BenchError> {
    let all = read(place, &LANGUAGES)?;
    let mut views = vec![place.embed_files(&*place.encoder("colour-layout")?, &all.files)?];
    let encoder = place.encoder("char-ngrams")?;
    for texts in &all.texts {
        views.push(place.embed_texts(&*encoder, texts)?);
    }
    let part = Part { views, labels: None, groups: None };
    let names = ["image", "en", "zh", "de", "fr", "es", "ja"];
    task(
        "emoji-languages",
        "Emoji in six languages",
        "Picture: colour and layout; text: counts of n-grams of characters.",
        &names,
        &part,
    )
}

fn task(key: &'static str, title: &str, features: &str, views: &[&'static str], all: &Part) -> Result<Task, BenchError> {
    let (train, test) = split(all.n(), (TRAIN * all.n() as f64) as usize, 0);
    Ok(Task {
        key,
        title: title.to_owned(),
        protocol: format!(
            "{} emoji with name and keywords; {} to learn from, {} to try (random, seed 0). {features} Relevant: the one partner.",
            all.n(),
            train.len(),
            test.len()
        ),
        views: views.to_vec(),
        train: all.pick(&train),
        test: all.pick(&test),
        cca_components: 128,
        correlations: None,
    })
}

struct Read {
    files: Vec<PathBuf>,
    /// By language.
    texts: Vec<Vec<String>>,
}

/// The emoji that have a picture and a text in each language.
fn read(place: &Place<'_>, languages: &[&str]) -> Result<Read, BenchError> {
    let folder = place.folder("emoji", "emoji", "emoji/png72 and emoji/annotations.*.json")?;
    let mut texts: Vec<BTreeMap<String, String>> = Vec::new();
    for language in languages {
        let path = folder.join(format!("annotations.{language}.json"));
        let wrong = |reason: String| BenchError::File { path: path.clone(), reason };
        let json: Value = serde_json::from_str(&text_of(&path)?).map_err(|e| wrong(e.to_string()))?;
        let entries = json["annotations"]["annotations"].as_object();
        let entries = entries.ok_or_else(|| wrong("it has no `annotations.annotations`".to_owned()))?;
        let words = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let one = |(emoji, value): (&String, &Value)| {
            // Without the variation selector, as the pictures are named.
            let key: Vec<String> = emoji.chars().filter(|c| *c != '\u{fe0f}').map(|c| format!("{:04x}", c as u32)).collect();
            let all: Vec<String> = words(&value["tts"]).into_iter().chain(words(&value["default"])).collect();
            (key.join("_"), all.join(", "))
        };
        texts.push(entries.iter().map(one).collect());
    }
    let (mut files, mut columns) = (Vec::new(), vec![Vec::new(); languages.len()]);
    for key in texts[0].keys() {
        let file = folder.join("png72").join(format!("emoji_u{key}.png"));
        if file.is_file() && texts.iter().all(|of| of.contains_key(key)) {
            files.push(file);
            columns.iter_mut().zip(&texts).for_each(|(column, of)| column.push(of[key].clone()));
        }
    }
    if files.is_empty() {
        return Err(BenchError::File { path: folder, reason: "no emoji has both a picture and its texts".to_owned() });
    }
    Ok(Read { files, texts: columns })
}
