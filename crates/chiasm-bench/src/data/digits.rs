//! Spoken digits with pictures of digits: the two never met, they are paired by class.

use std::path::PathBuf;

use chiasm_core::{Image, Labels, Media};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Place, labels, rows_of, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Pixels of a picture's side.
const SIDE: u32 = 28;
/// Pictures of each recording that is learned from, where pictures are described and not taken as they are.
const MANY: usize = 4;

/// Which of the sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A picture of pixels for each recording; recordings of index 0-4 are for trying, as the set has it.
    Pixels,
    /// Several pictures for each recording that is learned from, by where their edges lie.
    Edges,
    /// The same, and all recordings of one speaker are for trying.
    Speaker,
}

/// Recordings of index 0-4 of each speaker and digit are for trying, as the set has it. Each recording gets a picture of its digit by
/// chance (seed 0), no picture twice, so that test pictures are new.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::File`], [`BenchError::Feature`], and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    read(place, Kind::Pixels)
}

/// The same with four pictures for each recording that is learned from, and pictures through a descriptor.
///
/// # Errors
/// Those of [`load`].
pub fn load_edges(place: &Place<'_>) -> Result<Task, BenchError> {
    read(place, Kind::Edges)
}

/// The same, where the recordings for trying are those of a speaker whom nothing was learned from: the last by name.
///
/// # Errors
/// Those of [`load`].
pub fn load_speaker(place: &Place<'_>) -> Result<Task, BenchError> {
    read(place, Kind::Speaker)
}

struct Recording {
    path: PathBuf,
    digit: u32,
    speaker: String,
    index: usize,
}

fn read(place: &Place<'_>, kind: Kind) -> Result<Task, BenchError> {
    let spoken = place.folder("spoken digits", "fsdd", "fsdd/recordings/{digit}_{speaker}_{index}.wav")?.join("recordings");
    let drawn = place.folder("pictures of digits", "mnist_t10k", "mnist_t10k/t10k-images-idx3-ubyte.gz and labels")?;
    let failed = |e: std::io::Error| BenchError::File { path: spoken.clone(), reason: e.to_string() };
    let mut files: Vec<Recording> = Vec::new();
    for entry in std::fs::read_dir(&spoken).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let parts: Vec<&str> = name.split('_').collect();
        if let [digit, speaker, index] = parts[..]
            && let (Ok(digit), Ok(index)) = (digit.parse(), index.parse())
        {
            files.push(Recording { path, digit, speaker: speaker.to_owned(), index });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let last = files.iter().map(|file| file.speaker.clone()).max().unwrap_or_default();
    let is_tried = |file: &Recording| if kind == Kind::Speaker { file.speaker == last } else { file.index < 5 };
    let pictures = vectors(&drawn.join("t10k-images-idx3-ubyte.gz"), "")?;
    let of_picture = labels(&drawn.join("t10k-labels-idx1-ubyte.gz"), "")?;
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); of_picture.n_classes()];
    let mut order: Vec<usize> = (0..pictures.n()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    order.iter().for_each(|row| waiting[of_picture.of(*row)[0] as usize].push(*row));
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let sounds = place.embed_files(&*place.encoder("mel-contour")?, &paths)?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, file) in files.iter().enumerate() {
        let tried = is_tried(file);
        let n_pictures = if kind == Kind::Pixels || tried { 1 } else { MANY };
        for _ in 0..n_pictures {
            let picture = waiting.get_mut(file.digit as usize).and_then(Vec::pop);
            let picture = picture.ok_or_else(|| BenchError::File {
                path: file.path.clone(),
                reason: "there are not enough pictures of its digit".to_owned(),
            })?;
            if tried { &mut test } else { &mut train }.push((i, picture, file.digit));
        }
    }
    let pictures = match kind {
        Kind::Pixels => pictures,
        Kind::Edges | Kind::Speaker => {
            let rows: Vec<&[f32]> = pictures.rows().collect();
            let picture = |row: &&[f32]| {
                let rgb = row.iter().flat_map(|grey| [*grey as u8; 3]).collect();
                Ok(Media::Image(Image { width: SIDE, height: SIDE, rgb }))
            };
            if pictures.dim() != (SIDE * SIDE) as usize {
                let reason = format!("its pictures have {} pixels, expected {}", pictures.dim(), SIDE * SIDE);
                return Err(BenchError::File { path: drawn, reason });
            }
            place.embed(&*place.encoder("colour-layout")?, &rows, picture)?
        }
    };
    let part = |rows: &[(usize, usize, u32)]| -> Result<Part, BenchError> {
        Ok(Part {
            views: vec![
                rows_of(&sounds, rows.iter().map(|(sound, ..)| *sound))?,
                rows_of(&pictures, rows.iter().map(|(_, picture, _)| *picture))?,
            ],
            labels: Some(Labels::single(&rows.iter().map(|(.., digit)| *digit).collect::<Vec<_>>())),
            groups: None,
        })
    };
    let (key, title) = match kind {
        Kind::Pixels => ("digits", "Spoken and written digits"),
        Kind::Edges => ("digits-edges", "Spoken and written digits, by their edges"),
        Kind::Speaker => ("digits-speaker", "Digits of a speaker not heard before"),
    };
    let n_tried = files.iter().filter(|file| is_tried(file)).count();
    let n_fitted = files.len() - n_tried;
    let protocol = match kind {
        Kind::Pixels => format!(
            "{} recordings of spoken digits by 4 speakers, each with a picture of its digit by chance (seed 0); {n_fitted} to learn from, \
             {n_tried} to try (index 0-4). Speech: contours of the mel spectrum; picture: 784 pixels. Relevant: the same digit.",
            files.len(),
        ),
        Kind::Edges => format!(
            "The recordings and the split of the set before: {n_fitted} recordings to learn from, each with {MANY} pictures of its digit by chance \
             (seed 0), {n_tried} with one new picture to try. Speech: contours of the mel spectrum; picture: colour, edges and regions by place, {} \
             numbers. Relevant: the same digit.",
            pictures.dim()
        ),
        Kind::Speaker => format!(
            "The same with another split: the {n_fitted} recordings of three speakers to learn from, the {n_tried} of the last by name to try."
        ),
    };
    Ok(Task {
        key,
        title: title.to_owned(),
        protocol,
        views: vec!["speech", "picture"],
        train: part(&train)?,
        test: part(&test)?,
        cca_components: 9,
        correlations: None,
    })
}
