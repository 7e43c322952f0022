//! What is learned from: things of which several kinds of media are known.

mod augment;
mod folder;
mod shards;
mod table;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chiasm_core::{Encoder, Media, Modality};
use chiasm_encode::{Inputs, Prepared};
use chiasm_media::Limits;
use chiasm_world::{Scene, Swap};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::config::{Augment, Config, Source};
use crate::error::Result;

/// One piece of media, not yet decoded.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// It stands here.
    Text(String),
    /// It stands in a file.
    File(PathBuf),
    /// It stands within a file, under a name of its own.
    Slice { file: Arc<PathBuf>, name: String, offset: u64, length: u64 },
    /// It is made: scene `number` of the world of `seed`.
    Drawn { scene: Arc<Scene>, seed: u64, number: usize },
}

/// One thing: for each kind of media the ways in which it is known, each as good as the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) parts: BTreeMap<Modality, Vec<Part>>,
    /// Texts that are wrong for it, though every word is right.
    pub(crate) wrong: Vec<(Swap, String)>,
}

/// All things.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) rows: Vec<Row>,
    /// Those to learn from.
    pub(crate) train: Vec<usize>,
    /// Those to see by whether it is learned.
    pub(crate) validation: Vec<usize>,
    /// Of the latter: the source that each is from, and its number there, both from 0.
    pub(crate) set_aside: Vec<[usize; 2]>,
}

impl Data {
    /// All that a description names; of `kinds` alone.
    pub(crate) fn open(config: &Config, kinds: &[Modality]) -> Result<Self> {
        let mut data = Data::default();
        for (at, source) in config.data.iter().enumerate() {
            let (rows, n_aside) = match source {
                Source::World { world, skip, scenes, validation, variants, swapped } => {
                    (world::rows(*world, [*skip, *scenes, *validation], *variants, *swapped)?, Aside::Last(*validation))
                }
                Source::Table { file, columns, validation } => (table::rows(file, columns)?, Aside::Share(*validation)),
                Source::Folder { dir, captions, validation } => (folder::rows(dir, captions)?, Aside::Share(*validation)),
                Source::Shards { files, validation } => (shards::rows(files)?, Aside::Share(*validation)),
            };
            data.add(rows, n_aside, kinds, at, config.seed);
        }
        Ok(data)
    }

    /// Things of which fewer than two of the kinds are known teach nothing and are left out.
    fn add(&mut self, rows: Vec<Row>, aside: Aside, kinds: &[Modality], source: usize, seed: u64) {
        let (n, seed) = (rows.len(), seed ^ (source as u64 + 1));
        let is_aside: Vec<bool> = match aside {
            Aside::Last(k) => (0..n).map(|i| i + k >= n).collect(),
            Aside::Share(share) => {
                let mut order: Vec<usize> = (0..n).collect();
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                let k = (share * n as f64).round() as usize;
                let mut is = vec![false; n];
                order[..k].iter().for_each(|i| is[*i] = true);
                is
            }
        };
        for (number, (mut row, aside)) in rows.into_iter().zip(is_aside).enumerate() {
            row.parts.retain(|kind, parts| kinds.contains(kind) && !parts.is_empty());
            if row.parts.len() > 1 {
                let part = if aside { &mut self.validation } else { &mut self.train };
                part.push(self.rows.len());
                self.set_aside.extend(aside.then_some([source, number]));
                self.rows.push(row);
            }
        }
    }

    /// All texts to learn from, for a tokeniser.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let of_row = |i: &usize| self.rows[*i].parts.get(&Modality::Text).into_iter().flatten();
        self.train
            .iter()
            .flat_map(of_row)
            .filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
    }
}

/// Which things of a source are set aside.
enum Aside {
    /// So many at its end.
    Last(usize),
    /// A share, drawn.
    Share(f64),
}

impl Part {
    /// Decodes it.
    ///
    /// # Errors
    /// What is wrong with it, with its name.
    fn media(&self, modality: Modality) -> std::result::Result<Media, String> {
        let decoded = |path: &Path, bytes: &[u8]| {
            chiasm_media::decode(path, bytes, &Limits::default())
                .map(|decoded| decoded.media)
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        match self {
            Part::Text(text) => Ok(Media::Text(text.clone())),
            Part::File(path) => {
                let bytes = chiasm_media::read(path, &Limits::default()).map_err(|e| format!("{}: {e}", path.display()))?;
                decoded(path, &bytes)
            }
            Part::Slice { file, name, offset, length } => {
                let read = || {
                    let mut file = File::open(file.as_path())?;
                    file.seek(SeekFrom::Start(*offset))?;
                    let mut bytes = Vec::new();
                    file.take(*length).read_to_end(&mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                };
                let bytes = read().map_err(|e| format!("{} in {}: {e}", name, file.display()))?;
                decoded(Path::new(name), &bytes)
            }
            Part::Drawn { scene, seed, number } => Ok(match modality {
                Modality::Image => Media::Image(chiasm_world::picture(scene, *seed, *number)),
                Modality::Audio => Media::Audio(chiasm_world::sound(scene, *seed, *number)),
                Modality::Series => Media::Series(chiasm_world::motion(scene, *seed, *number)),
                Modality::Text => Media::Text(chiasm_world::captions(scene, *seed, *number)[0].clone()),
                Modality::Video | Modality::Shape => return Err(format!("a world has no {modality}")),
            }),
        }
    }
}

/// Which piece of media of which thing: the row, its kind, and which of the ways in which it is known.
pub(crate) type Key = (usize, Modality, usize);

/// Media that are decoded and go through an encoder at once.
const AT_ONCE: usize = 64;

/// What stands before a tower.
pub(crate) enum Before {
    /// What stands before its first layer: the tower is on the tape.
    Inputs(Box<Inputs>),
    /// The tower itself and all that stands before it: it stays as it is, and so do its embeddings.
    Encoder(Box<dyn Encoder>),
}

/// Media as towers take them, kept as far as memory is allowed. Of a tower that stays as it is these are its embeddings, one row each.
pub(crate) struct Prepare {
    before: BTreeMap<Modality, Before>,
    kept: Mutex<Kept>,
    limit: usize,
    augment: Augment,
}

#[derive(Debug, Default)]
struct Kept {
    of: HashMap<Key, Arc<Prepared>>,
    /// Media that are changed each time, before they are.
    drafts: HashMap<Key, Arc<Media>>,
    n_bytes: usize,
}

/// One piece of media as its tower takes it, or why it cannot be had.
pub(crate) type Had = std::result::Result<Arc<Prepared>, String>;

impl Prepare {
    pub(crate) fn new(before: BTreeMap<Modality, Before>, limit: usize) -> Self {
        Self { before, kept: Mutex::default(), limit, augment: Augment::default() }
    }

    /// With changes at random of what is learned from.
    pub(crate) fn with_changes(self, augment: Augment) -> Self {
        Self { augment, ..self }
    }

    /// The same as [`Prepare::all`], for learning: what the description says is changed, by `rng`.
    pub(crate) fn for_learning(&self, data: &Data, keys: &[Key], rng: &mut ChaCha8Rng) -> Vec<Had> {
        let (changed, as_they_are): (Vec<usize>, Vec<usize>) =
            (0..keys.len()).partition(|at| self.augment.changes(keys[*at].1));
        let seeded: Vec<(usize, u64)> = changed.into_iter().map(|at| (at, rng.random())).collect();
        let mut had: Vec<Option<Had>> = vec![None; keys.len()];
        for seeded in seeded.chunks(AT_ONCE) {
            let made: Vec<Had> = seeded.par_iter().map(|(at, seed)| self.changed(data, keys[*at], *seed)).collect();
            seeded.iter().zip(made).for_each(|((at, _), made)| had[*at] = Some(made));
        }
        let plain: Vec<Key> = as_they_are.iter().map(|at| keys[*at]).collect();
        as_they_are.into_iter().zip(self.all(data, &plain)).for_each(|(at, made)| had[at] = Some(made));
        had.into_iter().map(|had| had.expect("changed or not")).collect()
    }

    /// A piece of media as it comes this time.
    fn changed(&self, data: &Data, key: Key, seed: u64) -> Had {
        let (_, modality, _) = key;
        let Before::Inputs(inputs) = &self.before[&modality] else {
            return Err(format!("a tower for {modality} that stays as it is takes no changes"));
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draft = self.draft(data, inputs, key)?;
        // Of a sound as short as a frame, made faster, nothing may be left.
        let changed = inputs.prepare(&self.augment.media(&draft, &mut rng));
        let mut prepared = changed.or_else(|_| inputs.prepare(&draft))?;
        self.augment.prepared(modality, inputs.bands(), &mut prepared, &mut rng);
        Ok(Arc::new(prepared))
    }

    /// A piece of media before it is changed, no larger than is needed then.
    fn draft(&self, data: &Data, inputs: &Inputs, (row, modality, way): Key) -> std::result::Result<Arc<Media>, String> {
        if let Some(draft) = self.kept().drafts.get(&(row, modality, way)) {
            return Ok(Arc::clone(draft));
        }
        let draft = Arc::new(inputs.draft(data.rows[row].parts[&modality][way].media(modality)?));
        let n_bytes = match draft.as_ref() {
            Media::Image(image) => image.rgb.len(),
            Media::Audio(wave) => 4 * wave.samples.len(),
            Media::Series(series) => 4 * series.values.len(),
            Media::Text(_) | Media::Video(_) | Media::Shape(_) => 0,
        };
        let mut kept = self.kept();
        if kept.n_bytes + n_bytes <= self.limit && kept.drafts.insert((row, modality, way), Arc::clone(&draft)).is_none() {
            kept.n_bytes += n_bytes;
        }
        Ok(draft)
    }

    /// Ways in which things are known, as their towers take them, in the order of the keys.
    pub(crate) fn all(&self, data: &Data, keys: &[Key]) -> Vec<Had> {
        let mut had: Vec<Option<Had>> = {
            let kept = self.kept();
            keys.iter().map(|key| kept.of.get(key).map(|kept| Ok(Arc::clone(kept)))).collect()
        };
        let lacking: Vec<usize> = (0..keys.len()).filter(|at| had[*at].is_none()).collect();
        // A few at a time: pictures of full size are large, and what a tower takes of them is not.
        for lacking in lacking.chunks(AT_ONCE) {
            let media: Vec<std::result::Result<Media, String>> = lacking
                .par_iter()
                .map(|at| {
                    let (row, modality, way) = keys[*at];
                    let media = data.rows[row].parts[&modality][way].media(modality)?;
                    Ok(match &self.before[&modality] {
                        Before::Inputs(_) => media,
                        Before::Encoder(encoder) => encoder.reduced(&media).unwrap_or(media),
                    })
                })
                .collect();
            for (at, prepared) in lacking.iter().zip(self.each(media)) {
                had[*at] = Some(prepared.map(|prepared| self.keep(keys[*at], prepared)));
            }
        }
        had.into_iter().map(|had| had.expect("kept or just made")).collect()
    }

    /// Any media, as their towers take them.
    pub(crate) fn media(&self, media: Vec<Media>) -> Vec<Had> {
        self.each(media.into_iter().map(Ok).collect()).into_iter().map(|had| had.map(Arc::new)).collect()
    }

    fn each(&self, media: Vec<std::result::Result<Media, String>>) -> Vec<std::result::Result<Prepared, String>> {
        let mut made: Vec<Option<std::result::Result<Prepared, String>>> = media
            .par_iter()
            .map(|media| match media {
                Err(reason) => Some(Err(reason.clone())),
                Ok(media) => match &self.before[&media.modality()] {
                    Before::Inputs(inputs) => Some(inputs.prepare(media)),
                    Before::Encoder(_) => None,
                },
            })
            .collect();
        for (modality, before) in &self.before {
            let Before::Encoder(encoder) = before else { continue };
            let (places, batch): (Vec<usize>, Vec<Media>) = media
                .iter()
                .enumerate()
                .filter_map(|(at, media)| {
                    media.as_ref().ok().filter(|media| media.modality() == *modality).map(|m| (at, m.clone()))
                })
                .unzip();
            for (at, row) in places.into_iter().zip(encoded(encoder.as_ref(), &batch)) {
                made[at] = Some(row.map(Prepared::Rows));
            }
        }
        made.into_iter().map(|made| made.expect("each kind has something before it")).collect()
    }

    fn keep(&self, key: Key, prepared: Prepared) -> Arc<Prepared> {
        let n_bytes = match &prepared {
            Prepared::Rows(rows) => 4 * rows.len(),
            Prepared::Words(words) => 4 * words.len(),
        };
        let prepared = Arc::new(prepared);
        let mut kept = self.kept();
        if kept.n_bytes + n_bytes <= self.limit && kept.of.insert(key, Arc::clone(&prepared)).is_none() {
            kept.n_bytes += n_bytes;
        }
        prepared
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // What is kept is whole after every insertion, whatever became of the thread.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Embeddings of a batch. One that cannot be encoded does not take the others with it.
fn encoded(encoder: &dyn Encoder, batch: &[Media]) -> Vec<std::result::Result<Vec<f32>, String>> {
    if batch.is_empty() {
        return Vec::new();
    }
    match encoder.encode(batch) {
        Ok(rows) => rows.rows().map(|row| Ok(row.to_vec())).collect(),
        Err(e) if batch.len() == 1 => vec![Err(e.to_string())],
        Err(_) => batch.iter().flat_map(|media| encoded(encoder, std::slice::from_ref(media))).collect(),
    }
}
