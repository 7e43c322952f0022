//! The sets, each a file: where it lies under the data folder, how it is split, what is relevant.

pub mod digits;
pub mod emoji;
pub mod exercises;
pub mod fashion;
pub mod halves;
pub mod photos;
pub mod touch;
pub mod uci;
pub mod wikipedia;

use std::path::{Path, PathBuf};

use chiasm_align::parts::PartSets;
use chiasm_core::{Cancel, EncodeError, Encoder, Labels, Media, Progress, Vectors};
use chiasm_encode::ModelDirs;
use chiasm_eval::features::{self, Source};
use chiasm_media::Limits;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::BenchError;
use crate::task::Task;

/// Words by which sets are asked for, in the order of the tables.
pub const KEYS: [&str; 13] = [
    "wikipedia",
    "uci",
    "fashion",
    "touch",
    "digits",
    "digits-edges",
    "digits-speaker",
    "photos",
    "exercises",
    "emoji",
    "emoji-languages",
    "halves",
    "bent",
];

/// Where the sets are, and how long work on them is told and stopped.
pub struct Place<'a> {
    /// The data folder.
    pub dir: &'a Path,
    /// Where encoders' weights are; `small_models` of the data folder is looked in first.
    pub models: ModelDirs,
    /// Hears how far embedding is.
    pub progress: &'a dyn Progress,
    /// Stops it.
    pub cancel: &'a Cancel,
}

/// The set of that word, split.
///
/// # Errors
/// [`BenchError`]; [`BenchError::NoSet`] when it is not there.
///
/// # Panics
/// For a word that is not in [`KEYS`].
pub fn load(key: &str, place: &Place<'_>) -> Result<Task, BenchError> {
    match key {
        "wikipedia" => wikipedia::load(place),
        "uci" => uci::load(place),
        "photos" => photos::load(place),
        "fashion" => fashion::load(place),
        "emoji" => emoji::load(place),
        "emoji-languages" => emoji::load_languages(place),
        "touch" => touch::load(place),
        "digits" => digits::load(place),
        "digits-edges" => digits::load_edges(place),
        "digits-speaker" => digits::load_speaker(place),
        "exercises" => exercises::load(place),
        "halves" => halves::load(place),
        "bent" => halves::bent(),
        other => panic!("`{other}` is none of {KEYS:?}"),
    }
}

impl Place<'_> {
    /// A folder of the data folder.
    fn folder(&self, set: &'static str, name: &str, expected: &'static str) -> Result<PathBuf, BenchError> {
        let folder = self.dir.join(name);
        if folder.is_dir() {
            return Ok(folder);
        }
        Err(BenchError::NoSet { set, dir: self.dir.to_owned(), expected })
    }

    fn encoder(&self, name: &str) -> Result<Box<dyn Encoder>, BenchError> {
        Ok(chiasm_encode::open(name, &self.models)?)
    }

    /// What an encoder gives for media that are made one batch at a time, so that not all are in memory at once.
    fn encoded<T: Sync, O>(
        &self,
        encoder: &dyn Encoder,
        items: &[T],
        media: impl Fn(&T) -> Result<Media, BenchError> + Sync,
        encode: impl Fn(&[Media]) -> Result<O, EncodeError>,
    ) -> Result<Vec<O>, BenchError> {
        const BATCH: usize = 32;
        self.progress.start(&format!("embed {}", encoder.modality()), Some(items.len() as u64));
        let mut all = Vec::with_capacity(items.len().div_ceil(BATCH));
        for batch in items.chunks(BATCH) {
            self.cancel.check()?;
            let media: Vec<Media> = batch.par_iter().map(&media).collect::<Result<_, _>>()?;
            all.push(encode(&media)?);
            self.progress.advance(batch.len() as u64);
        }
        self.progress.finish();
        Ok(all)
    }

    /// Embeddings of media.
    fn embed<T: Sync>(
        &self,
        encoder: &dyn Encoder,
        items: &[T],
        media: impl Fn(&T) -> Result<Media, BenchError> + Sync,
    ) -> Result<Vectors, BenchError> {
        let batches = self.encoded(encoder, items, media, |media| encoder.encode(media))?;
        Ok(Vectors::new(batches.into_iter().flat_map(Vectors::into_data).collect(), encoder.dim())?)
    }

    /// What an encoder sees in the parts of media.
    fn parts_of<T: Sync>(
        &self,
        encoder: &dyn Encoder,
        items: &[T],
        media: impl Fn(&T) -> Result<Media, BenchError> + Sync,
    ) -> Result<PartSets, BenchError> {
        let sets = self.encoded(encoder, items, media, |media| encoder.parts(media))?.concat();
        Ok(PartSets::of_parts(&sets)?)
    }

    /// Embeddings of files.
    fn embed_files(&self, encoder: &dyn Encoder, files: &[PathBuf]) -> Result<Vectors, BenchError> {
        self.embed(encoder, files, |path| decoded(path))
    }

    /// What an encoder sees in the parts of files.
    fn parts_of_files(&self, encoder: &dyn Encoder, files: &[PathBuf]) -> Result<PartSets, BenchError> {
        self.parts_of(encoder, files, |path| decoded(path))
    }

    /// Embeddings of texts.
    fn embed_texts(&self, encoder: &dyn Encoder, texts: &[String]) -> Result<Vectors, BenchError> {
        self.embed(encoder, texts, |text| Ok(Media::Text(text.clone())))
    }
}

fn decoded(path: &Path) -> Result<Media, BenchError> {
    let limits = Limits::default();
    let failed = |source| BenchError::Media { path: path.to_owned(), source };
    let bytes = chiasm_media::read(path, &limits).map_err(failed)?;
    Ok(chiasm_media::decode(path, &bytes, &limits).map_err(failed)?.media)
}

fn vectors(path: &Path, name: &str) -> Result<Vectors, BenchError> {
    let source = Source { path: path.to_owned(), name: (!name.is_empty()).then(|| name.to_owned()), transposed: false };
    Ok(features::read_features(&source, &features::Limits::default())?.into_vectors()?)
}

fn labels(path: &Path, name: &str) -> Result<Labels, BenchError> {
    let source = Source { path: path.to_owned(), name: (!name.is_empty()).then(|| name.to_owned()), transposed: false };
    Ok(features::read_labels(&source, &features::Limits::default())?.0)
}

/// `0..n` in a random order, cut after `n_first`: the split of sets that come without one.
fn split(n: usize, n_first: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut rows: Vec<usize> = (0..n).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut rest = rows.split_off(n_first.min(n));
    rows.sort_unstable();
    rest.sort_unstable();
    (rows, rest)
}

fn rows_of(vectors: &Vectors, rows: impl IntoIterator<Item = usize>) -> Result<Vectors, BenchError> {
    let data = rows.into_iter().flat_map(|row| vectors.row(row)).copied().collect();
    Ok(Vectors::new(data, vectors.dim())?)
}

/// Labels of two parts of a set with their classes numbered alike.
fn alike(path: &Path, a: Labels, b: Labels) -> Result<[Labels; 2], BenchError> {
    let both = features::with_common_classes(&[a, b]);
    let both = both.map_err(|reason| BenchError::File { path: path.to_owned(), reason })?;
    Ok(both.try_into().expect("two in, two out"))
}

fn text_of(path: &Path) -> Result<String, BenchError> {
    std::fs::read_to_string(path).map_err(|e| BenchError::File { path: path.to_owned(), reason: e.to_string() })
}
