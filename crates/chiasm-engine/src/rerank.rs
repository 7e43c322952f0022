//! Re-ranking: the first hits are looked at again, each together with the query, by a cross-encoder.
//!
//! The hits that were scored change places among themselves. Whatever was not (hits beyond the first `n_top`, other kinds of media,
//! files that are gone or have changed) stays where it was: its place is the one thing known of it.
//!
//! What is looked at is read from its file again: the passage of a text, the stretch of a video that matched. A cross-encoder over regions
//! takes what a detector has found in a picture in place of its pixels. That is read from a file beside the picture,
//! `photo.jpg.regions.safetensors` or `photo.regions.safetensors`; see [`chiasm_encode::read_regions`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chiasm_core::{CrossEncoder, EncodeError, Media, Modality, Picture, PictureForm, Score, Span};
use chiasm_encode::ModelDirs;
use chiasm_media::Limits;

use crate::fit::BATCH_OF_VIDEOS;
use crate::library::read_unchanged;
use crate::search::{Found, QueryMedia, SearchReply, SearchRequest};
use crate::{EngineError, Item, Library, Result, SecondLook};

/// What is put behind a picture's name, in place of its ending or after it.
const REGIONS: &str = "regions.safetensors";

/// A cross-encoder, and how many hits it looks at.
#[derive(Clone)]
pub struct Rerank {
    encoder: Arc<dyn CrossEncoder>,
    n_top: usize,
}

impl Rerank {
    /// Opens the cross-encoder of a name, in a folder, or in a file that [`crate::learn_second_look`] made; `n_top` hits are scored, where there are as many of the kind it takes.
    ///
    /// # Errors
    /// [`EngineError::Model`]; of a file those of [`SecondLook::load`].
    pub fn open(name: &str, models: &ModelDirs, n_top: usize) -> Result<Rerank> {
        let path = Path::new(name);
        if !path.is_file() {
            let encoder = chiasm_encode::open_cross_encoder(name, models)?;
            return Ok(Rerank { encoder: Arc::from(encoder), n_top });
        }
        let learned = SecondLook::load(path, models)?.ok_or_else(|| EngineError::SpaceFile {
            path: path.to_owned(),
            reason: "it is a space, which finds and does not re-rank: make a re-ranker for it with `chiasm space rerank`"
                .to_owned(),
        })?;
        Ok(Rerank { encoder: Arc::new(learned), n_top })
    }

    /// What words have looked at.
    pub fn kind(&self) -> Modality {
        self.encoder.takes().modality()
    }

    /// How many hits it looks at.
    pub fn n_top(&self) -> usize {
        self.n_top
    }
}

impl fmt::Debug for Rerank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rerank").field("encoder", &self.encoder.name()).field("n_top", &self.n_top).finish()
    }
}

/// Something as a cross-encoder takes it.
enum Side {
    Text(String),
    Picture(Picture),
}

impl Library {
    /// Puts the hits of a reply, which goes as deep as `rerank` wants to look, in their last order.
    pub(crate) fn rerank(&self, request: &SearchRequest, rerank: &Rerank, reply: &mut SearchReply) -> Result<()> {
        let started = Instant::now();
        let encoder = rerank.encoder.as_ref();
        let query = self.query_side(encoder, request)?;
        let kind = match &query {
            Side::Text(_) => encoder.takes().modality(),
            Side::Picture(_) => Modality::Text,
        };
        // Decoded pictures are large: no more of them at once than there are threads for. Texts are small, and cheaper together.
        let at_once = match kind {
            Modality::Text => usize::MAX,
            Modality::Video => rayon::current_num_threads().clamp(1, BATCH_OF_VIDEOS),
            Modality::Image | Modality::Audio | Modality::Series | Modality::Shape => rayon::current_num_threads().max(1),
        };
        let eligible = reply.hits.iter().enumerate().filter(|(_, hit)| hit.kind == kind).take(rerank.n_top);
        let eligible: Vec<usize> = eligible.map(|(place, _)| place).collect();
        if eligible.is_empty() {
            reply.remarks.push(format!("nothing was re-ranked: no hit is of the kind {kind}"));
        }
        let mut scored: Vec<(usize, Score)> = Vec::with_capacity(eligible.len());
        for places in eligible.chunks(at_once) {
            scored.extend(self.look_again(encoder, &query, places, reply)?);
        }
        for (place, score) in &scored {
            reply.hits[*place].rerank_score = Some(score.get());
        }
        let places: Vec<usize> = scored.iter().map(|(place, _)| *place).collect();
        // A stable sort: equal scores keep the order of the first stage.
        scored.sort_by_key(|(_, score)| std::cmp::Reverse(*score));
        let hits: Vec<Found> = scored.iter().map(|(place, _)| reply.hits[*place].clone()).collect();
        for (place, hit) in places.into_iter().zip(hits) {
            reply.hits[place] = hit;
        }
        reply.elapsed_ms += started.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// Scores of the hits at some places; those that cannot be scored are left out, with a remark.
    fn look_again(
        &self,
        encoder: &dyn CrossEncoder,
        query: &Side,
        places: &[usize],
        reply: &mut SearchReply,
    ) -> Result<Vec<(usize, Score)>> {
        let mut left = Vec::new();
        let (mut pictures, mut texts) = (Vec::new(), Vec::new());
        for place in places {
            let hit = &reply.hits[*place];
            match self.hit_side(encoder, hit)? {
                Ok(Side::Picture(picture)) => pictures.push(picture),
                Ok(Side::Text(text)) => texts.push(text),
                Err(reason) => {
                    reply.remarks.push(kept(hit, &reason));
                    continue;
                }
            }
            left.push(*place);
        }
        let picture = match query {
            Side::Text(text) => {
                let scores = encoder.score_pictures(text, &pictures)?;
                return Ok(left.into_iter().zip(scores).collect());
            }
            Side::Picture(picture) => picture,
        };
        loop {
            match encoder.score_texts(picture, &texts.iter().map(String::as_str).collect::<Vec<_>>()) {
                Ok(scores) => return Ok(left.into_iter().zip(scores).collect()),
                // One text that it can make nothing of does not stop the others.
                Err(EncodeError::Unencodable { item, reason, .. }) if item < left.len() => {
                    reply.remarks.push(kept(&reply.hits[left[item]], &format!("cannot be encoded: {reason}")));
                    left.remove(item);
                    texts.remove(item);
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// The one thing asked for.
    fn query_side(&self, encoder: &dyn CrossEncoder, request: &SearchRequest) -> Result<Side> {
        let form = encoder.takes();
        let refuse = |reason: &str| Err(EngineError::Query(format!("re-ranking takes one part, words or {form}: {reason}")));
        let [part] = request.query.parts.as_slice() else {
            return refuse("leave out the others, or search without it");
        };
        match &part.what {
            QueryMedia::Media(Media::Text(text)) => Ok(Side::Text(text.clone())),
            QueryMedia::Media(Media::Image(_)) if form == PictureForm::Regions => refuse(&format!(
                "{} looks at the regions of a picture, so name one of the library that has a file of them beside it",
                encoder.name()
            )),
            QueryMedia::Media(Media::Image(image)) if form == PictureForm::Pixels => {
                Ok(Side::Picture(Picture::Pixels(image.clone())))
            }
            QueryMedia::Media(Media::Video(video)) if form == PictureForm::Frames => {
                Ok(Side::Picture(Picture::Frames(video.clone())))
            }
            QueryMedia::Media(media) => refuse(&format!("the query is {}", media.modality())),
            QueryMedia::Item(id) => {
                let item = self.item(*id)?;
                match side(encoder, &item, Span::Whole) {
                    Ok(side) => Ok(side),
                    Err(reason) => refuse(&format!("item {id} {reason}")),
                }
            }
            QueryMedia::Embedded(embedded) if embedded.text().is_some() => {
                Ok(Side::Text(embedded.text().unwrap_or_default().to_owned()))
            }
            QueryMedia::Vector(..) | QueryMedia::Embedded(_) => refuse("a vector cannot be looked at"),
        }
    }

    /// What of an item was found, read again from its file; or why it cannot be.
    fn hit_side(&self, encoder: &dyn CrossEncoder, hit: &Found) -> Result<Result<Side, String>> {
        let item = match self.item(hit.item) {
            Ok(item) => item,
            Err(EngineError::NoSuchItem(_)) => return Ok(Err("has left the library".to_owned())),
            Err(other) => return Err(other),
        };
        Ok(side(encoder, &item, hit.span))
    }
}

/// A part of an item's content from the first of its files that still holds it; or what is the matter with the last of them.
fn side(encoder: &dyn CrossEncoder, item: &Item, span: Span) -> Result<Side, String> {
    let mut reason = "has no file".to_owned();
    for path in &item.paths {
        match side_of(encoder, item, span, path) {
            Ok(side) => return Ok(side),
            Err(other) => reason = other,
        }
    }
    Err(reason)
}

fn side_of(encoder: &dyn CrossEncoder, item: &Item, span: Span, path: &Path) -> Result<Side, String> {
    let form = encoder.takes();
    let limits = Limits::default();
    let bytes = read_unchanged(item, path, &limits)?;
    if item.kind == Modality::Image && form == PictureForm::Regions {
        let picture = Picture::Regions(regions(path)?);
        encoder.check(&picture).map_err(|e| format!("has regions that cannot be used: {e}"))?;
        return Ok(Side::Picture(picture));
    }
    let whole = chiasm_media::decode(path, &bytes, &limits).map_err(|e| e.to_string())?.media;
    let media = match span {
        Span::Whole => whole,
        Span::Time { .. } | Span::Bytes { .. } => chiasm_media::part(&whole, span),
    };
    match (media, form) {
        (Media::Text(text), _) => Ok(Side::Text(text)),
        (Media::Image(image), PictureForm::Pixels) => Ok(Side::Picture(Picture::Pixels(image))),
        (Media::Video(video), PictureForm::Frames) => Ok(Side::Picture(Picture::Frames(video))),
        (other, _) => Err(format!("is {}, expected a text or {form}", other.modality())),
    }
}

/// The regions in the file beside a picture.
fn regions(picture: &Path) -> Result<chiasm_core::Regions, String> {
    let mut whole = picture.as_os_str().to_owned();
    whole.push(format!(".{REGIONS}"));
    let names = [PathBuf::from(whole), picture.with_extension(REGIONS)];
    let file = names.iter().find(|file| file.is_file());
    let file = file.ok_or_else(|| format!("has no file of regions beside it, expected {}", names[0].display()))?;
    chiasm_encode::read_regions(file).map_err(|e| format!("has regions that cannot be used: {e}"))
}

fn kept(hit: &Found, reason: &str) -> String {
    format!("{} was not re-ranked and keeps its place: it {reason}", hit.path.display())
}
