//! A second look for a space: a re-ranker that learned from pairs to look at the parts of pictures and texts where the space looks at wholes.
//!
//! # File (`*.rerank`)
//! The container of spaces ([`crate::container`]) with the kind `rerank`: the pipelines of pictures and of texts that the space had when this was learned for it, and beside
//! them what looks at parts (`look.000`, ...). So it is whole by itself, but for the encoders.
//!
//! # Fingerprint
//! BLAKE3 over both encoders' fingerprints, the pipelines, the tensors and the share.

mod learn;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use chiasm_align::PipelineSpace;
use chiasm_align::parts::PartSets;
use chiasm_align::parts::second_look::{Kind, Look, Tensor, cosines, mixed};
use chiasm_core::{
    CrossEncoder, EncodeError, Encoder, MatrixView, Media, Modality, Picture, PictureForm, Score, SharedSpace, Vectors,
};
use chiasm_encode::ModelDirs;
use serde::{Deserialize, Serialize};

pub use learn::{LookFigures, SecondLookReport, SecondLookRequest, learn_second_look};

use crate::container;
use crate::space::{References, View, write_whole};
use crate::{EngineError, Result, Space};

/// The kind that stands in the file.
pub(crate) const KIND: &str = "rerank";
/// Pictures whose parts are kept at most, for they are looked at again with the next query.
const KEPT: usize = 1024;
/// Pictures, then texts, as the pipelines and the maps of [`Look`] are numbered.
const SIDES: [Modality; 2] = [Modality::Image, Modality::Text];

/// What is seen of a picture or a text.
#[derive(Clone, Debug)]
struct Seen {
    /// In the space.
    whole: Vec<f32>,
    /// One set.
    parts: PartSets,
}

/// How things are seen: the encoders of both sides, and the pipelines behind them.
struct Eyes {
    encoders: [Arc<dyn Encoder>; 2],
    projection: PipelineSpace,
    /// Whether parts go through the pipelines too.
    in_space: bool,
}

/// A re-ranker that was learned for a space.
pub struct SecondLook {
    name: String,
    fingerprint: String,
    views: Vec<View>,
    eyes: Eyes,
    look: Look,
    share: f32,
    report: SecondLookReport,
    /// By a digest of the pixels.
    kept: Mutex<HashMap<[u8; 32], Arc<Seen>>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    views: Vec<View>,
    look: String,
    in_space: bool,
    share: f32,
    report: SecondLookReport,
}

/// What stands in a file of this kind; none where it is of another.
fn open(path: &Path) -> Result<Option<(container::Opened, Header)>> {
    let bytes = std::fs::read(path).map_err(EngineError::io("cannot read", path))?;
    if crate::space::is_format_1(&bytes) {
        return Ok(None);
    }
    let wrong = |reason: String| EngineError::SpaceFile { path: path.to_owned(), reason };
    let mut opened = container::open(&bytes).map_err(wrong)?;
    if opened.kind != KIND {
        return Ok(None);
    }
    let header = serde_json::from_value(opened.header.take()).map_err(|e| wrong(format!("its header: {e}")))?;
    Ok(Some((opened, header)))
}

impl SecondLookReport {
    /// That of the re-ranker in a file; opens no model. `None` where it is a file of another kind.
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::SpaceFile`].
    pub fn load(path: &Path) -> Result<Option<SecondLookReport>> {
        Ok(open(path)?.map(|(_, header)| header.report))
    }
}

impl SecondLook {
    /// Reads the file and opens both encoders. `None` where it is a file of another kind.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::SpaceFile`] for one that is damaged, hostile or of a later version; [`EngineError::Model`],
    /// [`EngineError::ForeignEncoder`].
    pub fn load(path: &Path, models: &ModelDirs) -> Result<Option<SecondLook>> {
        let Some((opened, header)) = open(path)? else { return Ok(None) };
        let wrong = |reason: String| EngineError::SpaceFile { path: path.to_owned(), reason };
        let kind = Kind::from_name(&header.look).ok_or_else(|| {
            wrong(format!("it looks by `{}`, which this program does not know: use a newer chiasm", header.look))
        })?;
        let look = Look::from_tensors(kind, opened.tensors).map_err(wrong)?;
        if header.views.iter().map(|view| view.modality).ne(SIDES) || !(0.0..=1.0).contains(&header.share) {
            return Err(wrong("its header is not that of a re-ranker of pictures and texts".to_owned()));
        }
        let in_space = header.in_space;
        if in_space && look.part_dims() != [opened.projection.dim(); 2] {
            return Err(wrong("its tensors do not take the parts that its pipelines give".to_owned()));
        }
        // A space opens encoders and refuses foreign ones; its name is what messages call it by.
        let views = header.views.clone();
        let space = Space::assemble(header.name.clone(), views, opened.projection, References::default(), None, models.clone())
            .map_err(|e| wrong(e.to_string()))?;
        let encoders = [space.encoder(0)?, space.encoder(1)?];
        let eyes = Eyes { encoders, projection: space.projection().clone(), in_space };
        Ok(Some(Self::new(header.name, header.views, eyes, look, header.share, header.report)))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header {
            name: self.name.clone(),
            views: self.views.clone(),
            look: self.look.kind().name().to_owned(),
            in_space: self.eyes.in_space,
            share: self.share,
            report: self.report.clone(),
        };
        let header = serde_json::to_value(&header).expect("a record of strings and finite numbers is always JSON");
        let bytes = container::seal(&self.eyes.projection, KIND, &self.fingerprint, header, self.look.to_tensors());
        write_whole(path, &bytes).map_err(EngineError::io("cannot write the re-ranker", path))
    }

    /// How it came about.
    pub fn report(&self) -> &SecondLookReport {
        &self.report
    }

    fn new(name: String, views: Vec<View>, eyes: Eyes, look: Look, share: f32, report: SecondLookReport) -> Self {
        let fingerprint = fingerprint(&views, &eyes.projection, &look.to_tensors(), share);
        Self { name, fingerprint, views, eyes, look, share, report, kept: Mutex::default() }
    }

    /// The score of a text and a picture, from nothing but what is seen of the two.
    fn score(&self, text: &Seen, picture: &Seen) -> Result<Score, EncodeError> {
        let unfit = |reason: String| EncodeError::Unencodable { encoder: self.name.clone(), item: 0, reason };
        let whole = MatrixView::new(&picture.whole, picture.whole.len()).map_err(|e| unfit(e.to_string()))?;
        let parts = self.look.closeness(&picture.parts, &text.parts, &[(0, 0)]).map_err(|e| unfit(e.to_string()))?;
        let score = mixed(cosines(&text.whole, whole)[0], parts[0], self.share);
        Score::new(score).map_err(|_| {
            unfit("the score is not a number: the re-ranker or the weights of its encoders are damaged".to_owned())
        })
    }

    /// What is seen of a picture, kept from an earlier query or anew; `item` is its place among those asked for.
    fn picture(&self, picture: &Picture, item: usize) -> Result<Arc<Seen>, EncodeError> {
        let Picture::Pixels(image) = picture else {
            let reason = format!("it is {}, expected {}", picture.form(), PictureForm::Pixels);
            return Err(EncodeError::Unencodable { encoder: self.name.clone(), item, reason });
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&image.width.to_le_bytes()).update(&image.height.to_le_bytes()).update(&image.rgb);
        let digest = *hasher.finalize().as_bytes();
        // A panic elsewhere leaves the map as it was before or after one entry.
        let kept = || self.kept.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(seen) = kept().get(&digest) {
            return Ok(Arc::clone(seen));
        }
        let mut seen = self.eyes.see(0, &[Media::Image(image.clone())]).map_err(|e| at(e, item))?;
        let seen = Arc::new(seen.remove(0));
        let mut kept = kept();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(digest, Arc::clone(&seen));
        Ok(seen)
    }
}

impl Eyes {
    /// What is seen of media of one side.
    fn see(&self, side: usize, batch: &[Media]) -> Result<Vec<Seen>, EncodeError> {
        let encoder = &self.encoders[side];
        let wholes = encoder.encode(batch)?;
        let parts = encoder.parts(batch)?;
        let name = encoder.name();
        let unfit = |item: usize, reason: String| EncodeError::Unencodable { encoder: name.to_owned(), item, reason };
        let wholes = self.projection.project(side, wholes.view()).map_err(|e| unfit(0, e.to_string()))?;
        let seen = parts.into_iter().enumerate().map(|(item, parts)| {
            let parts = self.of_parts(side, &[parts]).map_err(|reason| unfit(item, reason))?;
            Ok(Seen { whole: wholes.row(item).to_vec(), parts })
        });
        seen.collect()
    }

    /// The parts of some things as what looks takes them.
    fn of_parts(&self, side: usize, things: &[Vectors]) -> Result<PartSets, String> {
        in_place(self.in_space.then_some((&self.projection, side)), things)
    }
}

/// The parts of some things, through the pipeline of a side or as they are.
fn in_place(through: Option<(&PipelineSpace, usize)>, things: &[Vectors]) -> Result<PartSets, String> {
    let sets = PartSets::of_parts(things).map_err(|e| e.to_string())?;
    let Some((projection, side)) = through else { return Ok(sets) };
    let rows: Vec<f32> = things.iter().flat_map(Vectors::data).copied().collect();
    let rows = MatrixView::new(&rows, sets.dim()).map_err(|e| e.to_string())?;
    let projected = projection.project(side, rows).map_err(|e| e.to_string())?;
    PartSets::new(projected.into_data(), projection.dim(), sets.lengths().to_vec()).map_err(|e| e.to_string())
}

/// An error of a batch of one as that of an item of a greater one.
fn at(mut error: EncodeError, place: usize) -> EncodeError {
    if let EncodeError::Modality { item, .. } | EncodeError::Unencodable { item, .. } = &mut error {
        *item = place;
    }
    error
}

impl CrossEncoder for SecondLook {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn takes(&self) -> PictureForm {
        PictureForm::Pixels
    }

    fn check(&self, picture: &Picture) -> Result<(), String> {
        match picture.form() {
            PictureForm::Pixels => Ok(()),
            other @ (PictureForm::Regions | PictureForm::Frames) => {
                Err(format!("it is {other}, {} takes {}", self.name, PictureForm::Pixels))
            }
        }
    }

    fn score_pictures(&self, text: &str, pictures: &[Picture]) -> Result<Vec<Score>, EncodeError> {
        let text = self.eyes.see(1, &[Media::Text(text.to_owned())])?.remove(0);
        let of = |(item, picture): (usize, &Picture)| self.score(&text, self.picture(picture, item)?.as_ref());
        pictures.iter().enumerate().map(of).collect()
    }

    fn score_texts(&self, picture: &Picture, texts: &[&str]) -> Result<Vec<Score>, EncodeError> {
        let picture = self.picture(picture, 0)?;
        let texts: Vec<Media> = texts.iter().map(|text| Media::Text((*text).to_owned())).collect();
        let seen = self.eyes.see(1, &texts)?;
        seen.iter().map(|text| self.score(text, &picture)).collect()
    }
}

impl std::fmt::Debug for SecondLook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecondLook").field("name", &self.name).field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

fn fingerprint(views: &[View], projection: &PipelineSpace, tensors: &[Tensor], share: f32) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| _ = hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    add(b"chiasm re-ranker 1");
    views.iter().for_each(|view| add(view.encoder_fingerprint.as_bytes()));
    // The pipelines without the account of their fit, which changes no vector.
    let bare = PipelineSpace::new(projection.metric(), projection.views().to_vec(), chiasm_align::About::default());
    add(&bare.expect("the same views made a space before").to_bytes());
    for (name, columns, numbers) in tensors {
        add(name.as_bytes());
        add(&columns.to_le_bytes());
        add(&numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    }
    add(&share.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}
