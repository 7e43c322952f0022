//! Spoken digits with pictures of digits: the two never met, they are paired by class.

use std::path::PathBuf;

use chiasm_core::Labels;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Place, labels, rows_of, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// Recordings of index 0-4 of each speaker and digit are for trying, as the set has it. Each recording gets a picture of its digit by
/// chance (seed 0), no picture twice, so that test pictures are new.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::File`], [`BenchError::Feature`], and those of embedding.
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let spoken = place.folder("spoken digits", "fsdd", "fsdd/recordings/{digit}_{speaker}_{index}.wav")?.join("recordings");
    let drawn = place.folder("pictures of digits", "mnist_t10k", "mnist_t10k/t10k-images-idx3-ubyte.gz and labels")?;
    let failed = |e: std::io::Error| BenchError::File { path: spoken.clone(), reason: e.to_string() };
    let mut files: Vec<(PathBuf, u32, usize)> = Vec::new();
    for entry in std::fs::read_dir(&spoken).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let parts: Vec<&str> = name.split('_').collect();
        if let [digit, _, index] = parts[..]
            && let (Ok(digit), Ok(index)) = (digit.parse(), index.parse())
        {
            files.push((path, digit, index));
        }
    }
    files.sort();
    let pictures = vectors(&drawn.join("t10k-images-idx3-ubyte.gz"), "")?;
    let of_picture = labels(&drawn.join("t10k-labels-idx1-ubyte.gz"), "")?;
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); of_picture.n_classes()];
    let mut order: Vec<usize> = (0..pictures.n()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    order.iter().for_each(|row| waiting[of_picture.of(*row)[0] as usize].push(*row));
    let paths: Vec<PathBuf> = files.iter().map(|(path, ..)| path.clone()).collect();
    let sounds = place.embed_files(&*place.encoder("mel-contour")?, &paths)?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, (path, digit, index)) in files.iter().enumerate() {
        let picture = waiting.get_mut(*digit as usize).and_then(Vec::pop);
        let picture = picture.ok_or_else(|| BenchError::File {
            path: path.clone(),
            reason: "there are not enough pictures of its digit".to_owned(),
        })?;
        if *index < 5 { test.push((i, picture, *digit)) } else { train.push((i, picture, *digit)) }
    }
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
    Ok(Task {
        key: "digits",
        title: "Spoken and written digits".to_owned(),
        protocol: format!(
            "{} recordings of spoken digits by 4 speakers, each with a picture of its digit by chance (seed 0); {} to learn from, {} to try \
             (index 0-4). Speech: contours of the mel spectrum; picture: 784 pixels. Relevant: the same digit.",
            files.len(),
            train.len(),
            test.len()
        ),
        views: vec!["speech", "picture"],
        train: part(&train)?,
        test: part(&test)?,
        cca_components: 9,
    })
}
