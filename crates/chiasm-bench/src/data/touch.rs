//! Touch: a finger slides over 20 materials, which texts describe.

use chiasm_core::{Labels, Media, Series};

use super::{Place, labels, rows_of, text_of, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Slides of each material to learn from; the other 10 are for trying.
const N_TRAIN: usize = 30;
const N_CHANNELS: usize = 44;

/// The first 30 slides of each material to learn from, the last 10 to try.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::File`], [`BenchError::Open`], and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let folder = place.folder("touch", "touch_biotac20", "touch_biotac20/touch.npz and materials.tsv")?;
    let readings = vectors(&folder.join("touch.npz"), "readings")?;
    let material = labels(&folder.join("touch.npz"), "material")?;
    let path = folder.join("materials.tsv");
    let describe = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        (cells.len() >= 6).then(|| format!("{}. {} It is {} and {}.", cells[1], cells[3], cells[4], cells[5]))
    };
    let texts: Vec<String> = text_of(&path)?.lines().skip(1).filter_map(describe).collect();
    if texts.len() != material.n_classes() {
        let reason = format!("it describes {} materials, the readings are of {}", texts.len(), material.n_classes());
        return Err(BenchError::File { path, reason });
    }
    let slides: Vec<usize> = (0..readings.n()).collect();
    let touch = place.embed(&*place.encoder("series-spectrum")?, &slides, |slide| {
        let values = readings.row(*slide).to_vec();
        Ok(Media::Series(Series { n_channels: N_CHANNELS, names: Vec::new(), values }))
    })?;
    let texts = place.embed_texts(&*place.encoder("all-MiniLM-L6-v2")?, &texts)?;
    let mut seen = vec![0usize; material.n_classes()];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for slide in slides {
        let Some(class) = material.of(slide).first().map(|c| *c as usize) else { continue };
        seen[class] += 1;
        if seen[class] <= N_TRAIN { train.push((slide, class)) } else { test.push((slide, class)) }
    }
    let part = |rows: &[(usize, usize)]| -> Result<Part, BenchError> {
        let classes: Vec<u32> = rows.iter().map(|(_, class)| *class as u32).collect();
        Ok(Part {
            views: vec![
                rows_of(&touch, rows.iter().map(|(slide, _)| *slide))?,
                rows_of(&texts, rows.iter().map(|(_, class)| *class))?,
            ],
            labels: Some(Labels::single(&classes)),
            groups: Some(classes),
        })
    };
    Ok(Task {
        key: "touch",
        title: "Touch and materials".to_owned(),
        protocol: "800 slides of a BioTac finger over 20 materials; 30 of each to learn from, 10 to try. Touch: the spectrum of 44 channels; \
                   text: name and description through MiniLM, 384 numbers. Relevant: the same material; the 20 texts are the gallery of a slide."
            .to_owned(),
        views: vec!["touch", "text"],
        train: part(&train)?,
        test: part(&test)?,
        cca_components: 19,
        correlations: None,
    })
}
