//! A space: which encoder makes the vectors of each kind of media, and how they are carried to where they meet.
//!
//! # File (`*.space`)
//! A safetensors container, see [`crate::container`]. Files of format 1, which began with `CHIASMSP`, are still read.
//!
//! # Fingerprint
//! BLAKE3 over the views (modality and the encoder's fingerprint) and the pipelines. The name, the report and the references are
//! left out: they change no vector.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chiasm_align::PipelineSpace;
use chiasm_core::{EncodeError, Encoder, Image, Media, Metric, Modality, ProjectError, ShapeError, SharedSpace, Vectors};
use chiasm_encode::ModelDirs;
use chiasm_media::Cut;
use serde::{Deserialize, Serialize};

use crate::container;
use crate::fit::FitReport;
use crate::{EngineError, Result};

const MAGIC_1: &[u8; 8] = b"CHIASMSP";
const DIGEST_BYTES: usize = 32;
/// Parts of a long query that are embedded; more would say little new and cost as many encodings.
const MAX_QUERY_SEGMENTS: usize = 32;
/// Frames that stand for a video, or a window of one, in a space that has a view for pictures and none for videos. Another number
/// gives other vectors, so libraries would have to be made anew.
const FRAMES: usize = 8;
/// Pixels along the sides of a picture of a shape; encoders see about 224.
const VIEW_SIDE: u32 = 256;
/// What is embedded by pictures of it where there is no view for it.
const BY_PICTURES: [Modality; 2] = [Modality::Video, Modality::Shape];
/// Frames encoded in one call.
const FRAMES_AT_A_TIME: usize = 32;
/// The file that a library keeps the space of its first lane in.
pub(crate) const SPACE_FILE: &str = "space.space";
/// What stands in place of an encoder's name where vectors came ready made.
pub(crate) const IMPORTED: &str = "imported";

/// One kind of media in a space.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ViewInfo {
    /// The kind.
    #[serde(serialize_with = "crate::serial::modality")]
    pub modality: Modality,
    /// Name of the encoder; `imported` when vectors came ready made.
    pub encoder: String,
    /// Fingerprint of the encoder.
    pub encoder_fingerprint: String,
    /// Numbers per embedding before the projection.
    pub input_dim: usize,
    /// Vectors kept for calibration.
    pub n_references: usize,
}

/// What a space is, for people and JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpaceInfo {
    /// Its name.
    pub name: String,
    /// What decides its vectors.
    pub fingerprint: String,
    /// How closeness is measured.
    pub metric: String,
    /// Numbers per vector.
    pub dim: usize,
    /// The kinds of media that meet in it.
    pub views: Vec<ViewInfo>,
    /// How it was fitted and how good it was on held-out folds, when it was fitted here.
    pub report: Option<FitReport>,
}

/// One kind of media as the space keeps it; its number is that of the view in the projection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct View {
    #[serde(serialize_with = "crate::serial::modality", deserialize_with = "crate::serial::modality_from")]
    pub(crate) modality: Modality,
    pub(crate) encoder: String,
    pub(crate) encoder_fingerprint: String,
}

impl View {
    /// That of an encoder.
    pub(crate) fn of(encoder: &Arc<dyn Encoder>) -> Self {
        Self {
            modality: encoder.modality(),
            encoder: encoder.name().to_owned(),
            encoder_fingerprint: encoder.fingerprint().to_owned(),
        }
    }
}

/// Vectors in the space with which closeness is calibrated, at most a few hundred per view.
#[derive(Clone, Debug, Default)]
pub(crate) struct References {
    /// One per view, possibly of no rows.
    pub(crate) views: Vec<Vec<f32>>,
    /// Whether row `i` of every view that has rows belongs together.
    pub(crate) paired: bool,
}

/// A fitted space with its encoders, which are opened when they are first needed.
pub struct Space {
    name: String,
    fingerprint: String,
    views: Vec<View>,
    projection: PipelineSpace,
    references: References,
    report: Option<FitReport>,
    models: ModelDirs,
    encoders: Vec<Mutex<Option<Arc<dyn Encoder>>>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    views: Vec<View>,
    references_paired: bool,
    report: Option<FitReport>,
}

/// That of format 1.
#[derive(Deserialize)]
struct Header1 {
    name: String,
    views: Vec<View>,
    dim: usize,
    n_pipeline_bytes: usize,
    n_references: Vec<usize>,
    references_paired: bool,
    report: Option<FitReport>,
}

impl Space {
    /// Puts a space together; at most one view per modality.
    pub(crate) fn assemble(
        name: String,
        views: Vec<View>,
        projection: PipelineSpace,
        references: References,
        report: Option<FitReport>,
        models: ModelDirs,
    ) -> Result<Space> {
        let distinct: std::collections::BTreeSet<Modality> = views.iter().map(|v| v.modality).collect();
        if distinct.len() != views.len() || views.len() != projection.n_views() {
            return Err(EngineError::FitRequest(format!(
                "a space needs one view per kind of media, got {} kinds for {} views",
                distinct.len(),
                projection.n_views()
            )));
        }
        let fingerprint = fingerprint(&views, &projection);
        let encoders = views.iter().map(|_| Mutex::new(None)).collect();
        Ok(Space { name, fingerprint, views, projection, references, report, models, encoders })
    }

    /// Reads a space file. Encoders are looked for in `models` when they are first needed.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::SpaceFile`] for bytes that are damaged, hostile or of a later version.
    pub fn load(path: &Path, models: &ModelDirs) -> Result<Space> {
        let bytes = std::fs::read(path).map_err(EngineError::io("cannot read the space", path))?;
        parse(&bytes, models).map_err(|reason| EngineError::SpaceFile { path: path.to_owned(), reason })
    }

    /// Writes the space: first beside the place, then moved over it, so that a reader finds the old file or the whole new one.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.to_bytes()).map_err(EngineError::io("cannot write the space", path))
    }

    /// What decides the vectors: two spaces with the same fingerprint may be used for one another.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Numbers per vector.
    pub fn dim(&self) -> usize {
        self.projection.dim()
    }

    /// How closeness is measured.
    pub fn metric(&self) -> Metric {
        self.projection.metric()
    }

    /// The kinds of media it takes, in the order of [`Modality::ALL`]: those it has views for, and videos and shapes where it has one for pictures.
    pub fn modalities(&self) -> Vec<Modality> {
        Modality::ALL.into_iter().filter(|m| self.find_view(*m).is_some()).collect()
    }

    /// Whether media of a kind can be embedded: there is a view for it whose vectors were not ready made elsewhere.
    pub fn can_embed(&self, kind: Modality) -> bool {
        self.find_view(kind).is_some_and(|view| self.views[view].encoder != IMPORTED)
    }

    /// All that can be told of it; opens no model.
    pub fn describe(&self) -> SpaceInfo {
        let views = self.views.iter().enumerate().map(|(i, v)| ViewInfo {
            modality: v.modality,
            encoder: v.encoder.clone(),
            encoder_fingerprint: v.encoder_fingerprint.clone(),
            input_dim: self.projection.input_dim(i).unwrap_or(0),
            n_references: self.references.views.get(i).map_or(0, |r| r.len() / self.dim()),
        });
        SpaceInfo {
            name: self.name.clone(),
            fingerprint: self.fingerprint.clone(),
            metric: self.metric().as_str().to_owned(),
            dim: self.dim(),
            views: views.collect(),
            report: self.report.clone(),
        }
    }

    /// Vectors `[batch.len(), dim]` of media of one modality; row `i` depends on `batch[i]` alone. Each is taken whole: long
    /// media are cut by the caller, or given to [`Space::embed_query`].
    ///
    /// Videos in a space without a view for them are the mean of eight frames, evenly spread over their time, each taken as a
    /// picture and at unit length for cosine (Luo et al., "CLIP4Clip", 2021, mean pooling). Shapes likewise are the mean of pictures of them from
    /// twelve sides (Su et al., "Multi-view convolutional neural networks", 2015).
    ///
    /// # Errors
    /// [`EngineError::NoView`], [`EngineError::NoEncoder`], [`EngineError::Model`], [`EngineError::ForeignEncoder`],
    /// [`EngineError::Encode`], [`EngineError::Project`].
    pub fn embed(&self, batch: &[Media]) -> Result<Vectors> {
        let Some(first) = batch.first() else {
            return Ok(Vectors::new(Vec::new(), self.dim()).expect("a fitted space has at least one dimension"));
        };
        let view = self.view_of(first.modality())?;
        let encoder = self.encoder(view)?;
        if first.modality() != Modality::Image && encoder.modality() == Modality::Image {
            return self.embed_pictures_of(view, encoder.as_ref(), batch);
        }
        let embeddings = encoder.encode(batch)?;
        Ok(self.projection.project(view, embeddings.view())?)
    }

    /// Videos and shapes by the view for pictures.
    fn embed_pictures_of(&self, view: usize, encoder: &dyn Encoder, batch: &[Media]) -> Result<Vectors> {
        // Each picture once, however long it is shown, and the places of those that stand for each item.
        let mut pictures: Vec<(usize, Arc<Image>)> = Vec::new();
        let mut of_items: Vec<Vec<usize>> = Vec::new();
        for (item, media) in batch.iter().enumerate() {
            let first = pictures.len();
            match media {
                Media::Video(video) => {
                    let spread = video.spread(FRAMES);
                    let mut chosen = spread.clone();
                    chosen.dedup();
                    of_items.push(spread.iter().map(|frame| first + chosen.partition_point(|c| c < frame)).collect());
                    pictures.extend(chosen.iter().filter_map(|at| Some((item, Arc::clone(video.frames.get(*at)?)))));
                }
                Media::Shape(mesh) => {
                    let views = chiasm_media::shape_views(mesh, VIEW_SIDE);
                    of_items.push((first..first + views.len()).collect());
                    pictures.extend(views.into_iter().map(|view| (item, Arc::new(view))));
                }
                other @ (Media::Image(_) | Media::Text(_) | Media::Audio(_) | Media::Series(_)) => {
                    let (encoder, expected) = (encoder.name().to_owned(), batch[0].modality());
                    return Err(EncodeError::Modality { encoder, expected, got: other.modality(), item }.into());
                }
            }
        }
        let mut rows: Vec<f32> = Vec::with_capacity(pictures.len() * self.dim());
        for chunk in pictures.chunks(FRAMES_AT_A_TIME) {
            let shown: Vec<Media> = chunk.iter().map(|(_, picture)| Media::Image(Image::clone(picture))).collect();
            // Whoever asked knows items, not pictures of them.
            let of_item = |mut error: EncodeError| {
                match &mut error {
                    EncodeError::Modality { item, .. } | EncodeError::Unencodable { item, .. } => *item = chunk[*item].0,
                    EncodeError::NotFinite { cause: ShapeError::NotFinite { row, .. }, .. } => *row = chunk[*row].0,
                    EncodeError::NotFinite { .. } | EncodeError::Device { .. } | EncodeError::NoParts { .. } => {}
                }
                error
            };
            let embeddings = encoder.encode(&shown).map_err(of_item)?;
            let projected = self.projection.project(view, embeddings.view()).map_err(|mut error| {
                if let ProjectError::Shape(ShapeError::NotFinite { row, .. }) = &mut error {
                    *row = chunk[*row].0;
                }
                error
            })?;
            rows.extend(projected.into_data());
        }
        let row = |place: &usize| &rows[place * self.dim()..(place + 1) * self.dim()];
        let means = of_items.iter().flat_map(|places| mean(places.iter().map(row), self.dim(), self.metric())).collect();
        Vectors::new(means, self.dim()).map_err(|source| EngineError::Numbers { what: "means of pictures".to_owned(), source })
    }

    /// One vector for media of any length: the mean over its parts (at most 32, evenly spread over longer media), at unit
    /// length for cosine.
    ///
    /// # Errors
    /// As [`Space::embed`].
    pub fn embed_query(&self, media: &Media) -> Result<Vec<f32>> {
        let spans = chiasm_media::spans(media, &Cut::default()).spans;
        let n = spans.len().min(MAX_QUERY_SEGMENTS);
        let chosen = (0..n).map(|i| spans[i * spans.len() / n]);
        let parts: Vec<Media> = match n {
            0 | 1 => vec![media.clone()],
            _ => chosen.map(|span| chiasm_media::part(media, span)).collect(),
        };
        let vectors = self.embed(&parts)?;
        Ok(mean(vectors.rows(), self.dim(), self.metric()))
    }

    /// Vectors `[n, dim]` of embeddings `[n, input_dim]` that the modality's encoder made elsewhere.
    ///
    /// # Errors
    /// [`EngineError::NoView`], [`EngineError::Project`].
    pub fn project(&self, modality: Modality, embeddings: &Vectors) -> Result<Vectors> {
        let view = self.view_of(modality)?;
        Ok(self.projection.project(view, embeddings.view())?)
    }

    /// Opens the encoder of a modality now rather than with the first file, so that an absent model is told at once.
    ///
    /// # Errors
    /// As [`Space::embed`].
    pub fn warm_up(&self, modality: Modality) -> Result<()> {
        self.encoder(self.view_of(modality)?).map(|_| ())
    }

    /// All that the encoder of a medium looks at of it, where that is less; see [`Encoder::reduced`].
    pub(crate) fn reduced(&self, media: &Media) -> Option<Media> {
        self.encoder(self.view_of(media.modality()).ok()?).ok()?.reduced(media)
    }

    /// Takes an encoder that is open already.
    pub(crate) fn adopt(&self, view: usize, encoder: Arc<dyn Encoder>) {
        *self.encoders[view].lock().unwrap_or_else(|e| e.into_inner()) = Some(encoder);
    }

    /// Where its models are looked for.
    pub(crate) fn models(&self) -> &ModelDirs {
        &self.models
    }

    /// Vectors of training media of one modality, with which scores are calibrated.
    pub(crate) fn references(&self, modality: Modality) -> Option<&[f32]> {
        let view = self.view_of(modality).ok()?;
        self.references.views.get(view).map(Vec::as_slice).filter(|r| !r.is_empty())
    }

    /// Whether row `i` of the references of one modality belongs to row `i` of another's.
    pub(crate) fn references_paired(&self) -> bool {
        self.references.paired
    }

    /// The view by which media of a modality are embedded: its own; that of pictures for videos and shapes where they have none.
    pub(crate) fn find_view(&self, modality: Modality) -> Option<usize> {
        let own = |modality| self.views.iter().position(|v| v.modality == modality);
        own(modality).or_else(|| if BY_PICTURES.contains(&modality) { own(Modality::Image) } else { None })
    }

    /// Whether media of a kind are embedded by pictures of them.
    pub(crate) fn looks_at_pictures_of(&self, modality: Modality) -> bool {
        self.find_view(modality).is_some_and(|view| self.views[view].modality == Modality::Image)
    }

    pub(crate) fn view_of(&self, modality: Modality) -> Result<usize> {
        self.find_view(modality).ok_or_else(|| EngineError::NoView {
            space: self.name.clone(),
            modality,
            has: self.modalities(),
        })
    }

    /// Its views, each with the number that it has in the projection.
    pub(crate) fn views(&self) -> &[View] {
        &self.views
    }

    /// What carries embeddings to where they meet.
    pub(crate) fn projection(&self) -> &PipelineSpace {
        &self.projection
    }

    /// The references of all views.
    pub(crate) fn all_references(&self) -> &References {
        &self.references
    }

    /// What it was made by: a method of fitting, or one of the words for spaces that were not fitted.
    pub(crate) fn method(&self) -> &str {
        &self.projection.about().method
    }

    /// The name of the encoder of a modality.
    pub(crate) fn encoder_name(&self, modality: Modality) -> Result<&str> {
        Ok(&self.views[self.view_of(modality)?].encoder)
    }

    /// The encoder of a view, opened if it is not yet.
    pub(crate) fn encoder(&self, view: usize) -> Result<Arc<dyn Encoder>> {
        let View { modality, encoder: name, encoder_fingerprint } = &self.views[view];
        if name == IMPORTED {
            return Err(EngineError::NoEncoder { modality: *modality });
        }
        // A panic while a model is opened leaves the slot empty, so the lock's poison means nothing.
        let mut slot = self.encoders[view].lock().unwrap_or_else(|e| e.into_inner());
        if let Some(encoder) = slot.as_ref() {
            return Ok(Arc::clone(encoder));
        }
        let encoder: Arc<dyn Encoder> = Arc::from(chiasm_encode::open(name, &self.models)?);
        if encoder.fingerprint() != encoder_fingerprint {
            return Err(EngineError::ForeignEncoder {
                modality: *modality,
                name: name.clone(),
                expected: encoder_fingerprint.clone(),
                got: encoder.fingerprint().to_owned(),
            });
        }
        *slot = Some(Arc::clone(&encoder));
        Ok(encoder)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let header = Header {
            name: self.name.clone(),
            views: self.views.clone(),
            references_paired: self.references.paired,
            report: self.report.clone(),
        };
        let tensors = self.references.views.iter().enumerate().filter(|(_, r)| !r.is_empty());
        let tensors = tensors.map(|(v, r)| (format!("references.{v:03}"), self.dim(), r.clone())).collect();
        let header = serde_json::to_value(&header).expect("a record of strings and finite numbers is always JSON");
        container::seal(&self.projection, "media", &self.fingerprint, header, tensors)
    }
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("name", &self.name).field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// Whether these are the bytes of a file that the first version wrote.
pub(crate) fn is_format_1(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC_1)
}

fn parse(bytes: &[u8], models: &ModelDirs) -> Result<Space, String> {
    if is_format_1(bytes) {
        return parse_1(bytes, models);
    }
    let opened = container::open(bytes)?;
    if opened.kind == crate::second_look::KIND {
        return Err("it is a re-ranker of what a space has found, not a space: name it with `--rerank`".to_owned());
    }
    if opened.kind != "media" {
        return Err(
            "it was fitted on feature files, not with encoders, so that no picture or text can be taken into it: fit one with \
                    `chiasm space fit --image ... --text ... --pairs ...`"
                .to_owned(),
        );
    }
    let header: Header = serde_json::from_value(opened.header).map_err(|e| format!("its header: {e}"))?;
    let dim = opened.projection.dim();
    let mut references = References { views: vec![Vec::new(); header.views.len()], paired: header.references_paired };
    for (name, width, numbers) in opened.tensors {
        let view = name.strip_prefix("references.").and_then(|v| v.parse::<usize>().ok());
        let slot = view.and_then(|v| references.views.get_mut(v)).filter(|_| width == dim);
        *slot.ok_or_else(|| format!("its tensor `{name}` of {width} columns belongs to no view"))? = numbers;
    }
    whole(header.name, header.views, opened.projection, references, header.report, models)
}

/// Files of format 1, as the first version wrote them.
fn parse_1(bytes: &[u8], models: &ModelDirs) -> Result<Space, String> {
    let cut = |at: usize, n: usize| {
        let end = at.checked_add(n).filter(|end| *end <= bytes.len());
        end.map(|end| &bytes[at..end]).ok_or_else(|| format!("it ends after {} bytes, within its own parts", bytes.len()))
    };
    let number = |at: usize| cut(at, 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if bytes.len() < 16 + DIGEST_BYTES {
        return Err("it ends within its own head".to_owned());
    }
    // The format before the checksum: another format may place its checksum elsewhere.
    let format = number(8)?;
    if format != 1 {
        return Err(format!("it has format {format}, this program reads 1 and 2: use a newer chiasm"));
    }
    let (content, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    if blake3::hash(content).as_bytes() != digest {
        return Err(container::DAMAGED.to_owned());
    }
    let n_header = number(12)? as usize;
    let header: Header1 = serde_json::from_slice(cut(16, n_header)?).map_err(|e| format!("its header: {e}"))?;
    let at = 16 + n_header;
    let projection = PipelineSpace::from_bytes(cut(at, header.n_pipeline_bytes)?).map_err(|e| e.to_string())?;
    if header.dim != projection.dim() || header.n_references.len() != header.views.len() {
        return Err("its header and its pipelines do not agree".to_owned());
    }
    let mut at = at + header.n_pipeline_bytes;
    let mut references = References { views: Vec::new(), paired: header.references_paired };
    for n in &header.n_references {
        let n_bytes = n.checked_mul(header.dim).and_then(|n| n.checked_mul(4)).ok_or("its reference counts are absurd")?;
        references.views.push(floats(cut(at, n_bytes)?));
        at += n_bytes;
    }
    if at != content.len() {
        return Err("its reference vectors are not what its header says".to_owned());
    }
    whole(header.name, header.views, projection, references, header.report, models)
}

/// A space of parts that were read, after the checks that both formats share.
fn whole(
    name: String,
    views: Vec<View>,
    projection: PipelineSpace,
    references: References,
    report: Option<FitReport>,
    models: &ModelDirs,
) -> Result<Space, String> {
    if references.views.iter().flatten().any(|v| !v.is_finite()) {
        return Err("its reference vectors are not finite".to_owned());
    }
    let counts: Vec<usize> = references.views.iter().map(Vec::len).filter(|n| *n > 0).collect();
    if references.paired && counts.iter().any(|n| Some(n) != counts.iter().max()) {
        return Err("its reference vectors are said to be paired, but differ in number".to_owned());
    }
    Space::assemble(name, views, projection, references, report, models.clone()).map_err(|e| e.to_string())
}

/// Little-endian bytes as numbers; a rest of less than four bytes is left out.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The mean of rows, at unit length for cosine.
pub(crate) fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, dim: usize, metric: Metric) -> Vec<f32> {
    let mut sum = vec![0.0_f64; dim];
    let mut n = 0_usize;
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        n += 1;
    }
    let scale = match metric {
        Metric::Cosine => sum.iter().map(|s| s * s).sum::<f64>().sqrt(),
        Metric::InnerProduct | Metric::L2 => n as f64,
    };
    sum.iter().map(|s| if scale > 0.0 { (s / scale) as f32 } else { 0.0 }).collect()
}

fn fingerprint(views: &[View], projection: &PipelineSpace) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(b"chiasm space 1");
    add(projection.metric().as_str().as_bytes());
    for (view, steps) in views.iter().zip(projection.views()) {
        add(view.modality.as_str().as_bytes());
        add(view.encoder_fingerprint.as_bytes());
        add(&(steps.steps.len() as u64).to_le_bytes());
    }
    // The pipelines without the account of their fit, which changes no vector.
    let bare = PipelineSpace::new(projection.metric(), projection.views().to_vec(), chiasm_align::About::default());
    add(&bare.expect("the same views made a space before").to_bytes());
    // 128 bits are beyond any accident and short enough to read out.
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Writes a file beside its place, makes it durable, and moves it over.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside: PathBuf = path.with_file_name(name);
    let written = (|| {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        sync_folder(path.parent())
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one already there.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Makes the names in a folder durable; where folders cannot be opened (Windows) the system does so by itself.
pub(crate) fn sync_folder(folder: Option<&Path>) -> std::io::Result<()> {
    let folder = folder.filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
