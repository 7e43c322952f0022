//! Learning a re-ranker for a space from pairs.
//!
//! How much it counts beside the space is chosen on pictures that neither has seen: in each fold the bridge is learned anew, by the space's method, from the other pictures, and
//! so is what looks at parts. Judged on the pairs that it was fitted on, a bridge finds everything, and every second look does harm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use chiasm_align::parts::scan::Start;
use chiasm_align::parts::second_look::{self, Found, Kind, Look, Standing, mean};
use chiasm_align::parts::{Captioned, PartSets};
use chiasm_align::{Draft, FitError, MethodConfig, Pairs, PipelineSpace, Run};
use chiasm_core::{Cancel, EncodeError, Encoder, MatrixView, Media, Modality, Progress, SharedSpace, Vectors};
use chiasm_media::Limits;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Eyes, SIDES, SecondLook, in_place};
use crate::fit::{BATCH, refuse, stopped};
use crate::search::load_media;
use crate::{EngineError, PairTable, Result, Space};

/// Hits that are looked at again where folds are judged: as many as a search looks at where nothing else is asked for.
const N_TOP: usize = 20;
/// Shares that are tried; 0 is the space alone.
const SHARES: [f32; 8] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0];
/// Folds by which the space's method chooses its hyper-parameters, as where a space is fitted.
const FOLDS_OF_BRIDGE: usize = 5;
/// Bytes that the parts of all pictures and texts may take, which are held in memory.
const MOST_BYTES: u64 = 6 << 30;

/// Things whose parts go through the pipelines together.
const SHOWN_TOGETHER: usize = 256;
/// Things of which the parts are compared with the whole, and the cosine of their mean with it from which on they are alike.
const LIKE: usize = 64;
const LEAST_LIKE: f32 = 0.8;

/// What is to be learned.
#[derive(Clone, Debug)]
pub struct SecondLookRequest {
    /// Name of the re-ranker.
    pub name: String,
    /// One of [`Kind::NAMES`].
    pub method: String,
    /// Table with columns of pictures and of texts, see [`crate::PairTable`].
    pub pairs: PathBuf,
    /// Where the table's paths begin.
    pub root: PathBuf,
    /// Folds by which the share is chosen, at least 2.
    pub folds: usize,
    /// Decides every random choice.
    pub seed: u64,
}

/// What is found among pictures left out, with one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookFigures {
    /// How much the parts count, 0 (the space alone) to 1.
    pub share: f32,
    /// Shares of texts, 0..=1, that find their picture first, among five, among ten.
    pub text_to_image: [f64; 3],
    /// Of pictures that find one of their texts.
    pub image_to_text: [f64; 3],
}

/// How a re-ranker came about; kept in its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondLookReport {
    /// What looks at parts.
    pub method: String,
    /// Pictures and texts it learned from.
    pub n_images: usize,
    /// Texts.
    pub n_texts: usize,
    /// What could not be used, by reason.
    pub dropped: Vec<(String, usize)>,
    /// The space's method, where the bridge was learned anew for each fold; none where the space is one that no pairs can be left out of.
    pub bridge: Option<String>,
    /// Whether parts stand in the space, as they do where their means are the embeddings.
    pub in_space: bool,
    /// Folds.
    pub n_folds: usize,
    /// Hits that were looked at again.
    pub n_top: usize,
    /// How much the parts count.
    pub share: f32,
    /// Figures on pictures left out, of every share; they chose it and so flatter a little.
    pub figures: Vec<LookFigures>,
    /// By how much more a picture and its texts find with it than with the space alone, a share of all six figures, and its standard error over pictures.
    pub gain: [f64; 2],
    /// Seconds.
    pub wall_s: f64,
}

impl SecondLookReport {
    /// Figures of the space alone, and with the share that was chosen.
    pub fn before_and_after(&self) -> Option<[&LookFigures; 2]> {
        let of = |share: f32| self.figures.iter().find(|figures| figures.share == share);
        Some([of(0.0)?, of(self.share)?])
    }

    /// Whether it found more than the space alone on pictures left out, by two standard errors: less may be chance.
    pub fn helps(&self) -> bool {
        let [gain, error] = self.gain;
        gain > 2.0 * error
    }
}

/// Learns a re-ranker for a space. Of all shares above 0 the best is kept; [`SecondLookReport::helps`] tells whether it is better than none. A run that was stopped goes on with its
/// trainings from its `draft`, if there is one; media are encoded anew.
///
/// # Errors
/// [`EngineError::FitRequest`], [`EngineError::Pairs`], [`EngineError::Model`], [`EngineError::Encode`], [`EngineError::Fit`], [`EngineError::Cancelled`].
pub fn learn_second_look(
    space: &Space,
    request: &SecondLookRequest,
    progress: &dyn Progress,
    cancel: &Cancel,
    draft: Option<&dyn Draft>,
) -> Result<SecondLook> {
    let started = Instant::now();
    let run = Run { seed: request.seed, progress, cancel, draft };
    let Some(kind) = Kind::from_name(&request.method) else {
        return refuse(format!("`{}` does not look at parts: expected {}", request.method, Kind::NAMES.join(" or ")));
    };
    if request.folds < 2 {
        return refuse(format!("{} folds leave nothing out: give 2 or more", request.folds));
    }
    let at = SIDES.map(|side| space.views().iter().position(|view| view.modality == side));
    let [Some(of_images), Some(of_texts)] = at else {
        return refuse(format!("the space `{}` has no view for pictures and one for texts, which are looked at", space.name()));
    };
    let encoders = [space.encoder(of_images)?, space.encoder(of_texts)?];
    let projection = space.projection().select_views(&[of_images, of_texts])?;
    let table = PairTable::read(&request.pairs, &request.root)?;
    let material = Material::of(&table, &encoders, &run)?;
    let in_space = material.parts_are_like_wholes();
    let start = if in_space { Start::InSpace } else { Start::Drawn };

    let n_images = material.parts[0].len();
    if n_images < 2 * request.folds {
        return refuse(format!("{n_images} pictures with texts are too few for {} folds", request.folds));
    }
    let bridge = Bridge::of(space, projection.clone(), &material, &run)?;
    let dealt = second_look::deal(n_images, request.folds, request.seed);
    let mut standings = Vec::new();
    for fold in 0..request.folds {
        run.cancel.check()?;
        let mut of = [Vec::new(), Vec::new()];
        dealt.iter().enumerate().for_each(|(image, to)| of[usize::from(*to == fold)].push(image));
        let [learned, left_out] = of.map(|images| material.some(&images));
        let bridge = bridge.learned_from(&learned, &run)?;
        let look = learned.shown(&bridge, in_space)?.teach(kind, start, &run)?;
        standings.push(left_out.shown(&bridge, in_space)?.standing(&look)?);
    }
    let standing = Standing::pool(&standings);
    // The smallest of equal ones.
    let best = (1..SHARES.len()).rev().max_by(|a, b| mean(&standing.found[*a]).total_cmp(&mean(&standing.found[*b])));
    let best = best.expect("there are shares above 0");
    let share = SHARES[best];
    let look = material.whole().shown(&projection, in_space)?.teach(kind, start, &run)?;

    let figures =
        |(share, found): (&f32, &Found)| LookFigures { share: *share, text_to_image: found[0], image_to_text: found[1] };
    let report = SecondLookReport {
        method: kind.name().to_owned(),
        n_images,
        n_texts: material.image_of.len(),
        dropped: material.dropped.into_iter().collect(),
        bridge: bridge.method(),
        in_space,
        n_folds: request.folds,
        n_top: N_TOP,
        share,
        figures: SHARES.iter().zip(&standing.found).map(figures).collect(),
        gain: standing.gain(best, 0),
        wall_s: started.elapsed().as_secs_f64(),
    };
    let views = [of_images, of_texts].map(|view| space.views()[view].clone()).to_vec();
    Ok(SecondLook::new(request.name.clone(), views, Eyes { encoders, projection, in_space }, look, share, report))
}

/// The space's pipelines, or how to make their like from other pairs.
enum Bridge {
    Anew(Box<MethodConfig>),
    AsItIs(PipelineSpace),
}

impl Bridge {
    fn of(space: &Space, projection: PipelineSpace, material: &Material, run: &Run<'_>) -> Result<Self> {
        // A space of a model, by the names of classes or bound through another kind was not learned from such pairs, and labels are none of a table of captions.
        let Ok(method) = MethodConfig::from_name(space.method()) else { return Ok(Bridge::AsItIs(projection)) };
        if method.needs_labels() || !method.n_views().contains(&2) {
            return Ok(Bridge::AsItIs(projection));
        }
        let all = material.whole();
        let rows = all.rows();
        let chosen = MethodConfig::auto(space.method(), &rows.pairs(), FOLDS_OF_BRIDGE, run).map_err(stopped)?;
        Ok(Bridge::Anew(Box::new(chosen.config)))
    }

    fn method(&self) -> Option<String> {
        match self {
            Bridge::Anew(config) => Some(config.name().to_owned()),
            Bridge::AsItIs(_) => None,
        }
    }

    fn learned_from(&self, some: &Portion<'_>, run: &Run<'_>) -> Result<PipelineSpace> {
        match self {
            Bridge::Anew(config) => config.fit(&some.rows().pairs(), run).map_err(stopped),
            Bridge::AsItIs(projection) => Ok(projection.clone()),
        }
    }
}

/// Pictures and texts as their encoders see them.
struct Material {
    /// Of pictures, and of texts, `[n, dim]`.
    wholes: [Vectors; 2],
    parts: [Vec<Vectors>; 2],
    /// The picture of each text; every picture has one.
    image_of: Vec<u32>,
    dropped: BTreeMap<String, usize>,
}

impl Material {
    fn of(table: &PairTable, encoders: &[Arc<dyn Encoder>; 2], run: &Run<'_>) -> Result<Self> {
        let Some((_, files)) = table.files.iter().find(|(kind, _)| *kind == Modality::Image) else {
            return refuse("the table has no column `image`, and a second look is one at pictures and texts");
        };
        let mut dropped: BTreeMap<String, usize> = BTreeMap::new();
        if !table.wrong.is_empty() {
            dropped.insert("the line has more or fewer cells than the header".to_owned(), table.wrong.len());
        }
        let cells: Vec<(&PathBuf, &str)> = (0..table.n)
            .filter_map(|line| Some((line, files[line].as_ref()?)))
            .flat_map(|(line, file)| table.texts.iter().map(move |column| (file, column.texts[line].as_str())))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let images: Vec<&PathBuf> = cells.iter().map(|(file, _)| *file).collect::<BTreeSet<_>>().into_iter().collect();
        let texts: Vec<&str> = cells.iter().map(|(_, text)| *text).collect::<BTreeSet<_>>().into_iter().collect();
        if cells.is_empty() {
            return refuse("no line of the table has both a picture and a text");
        }
        let limits = Limits::default();
        let load = |path: &&PathBuf| match load_media(path, &limits) {
            Ok(media @ Media::Image(_)) => Ok(media),
            Ok(other) => Err(format!("{} holds {}", path.display(), other.modality())),
            Err(e) => Err(e.to_string()),
        };
        let mut of_images = Looking::at(&encoders[0], images.len(), run);
        images.chunks(BATCH).try_for_each(|chunk| of_images.see(chunk.par_iter().map(load).collect(), chunk, run))?;
        let of_images = of_images.done(run);
        let mut of_texts = Looking::at(&encoders[1], texts.len(), run);
        texts.chunks(BATCH).try_for_each(|chunk| {
            let media = chunk.iter().map(|text| Ok(Media::Text((*text).to_owned()))).collect();
            of_texts.see(media, chunk, run)
        })?;
        let of_texts = of_texts.done(run);

        // Pictures and texts that were seen and have a partner that was, in the order of the table.
        let image_at: HashMap<&PathBuf, usize> = images.iter().enumerate().map(|(at, image)| (*image, at)).collect();
        let text_at: HashMap<&str, usize> = texts.iter().enumerate().map(|(at, text)| (*text, at)).collect();
        let (mut kept, mut numbers, mut image_of, mut text_rows) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        for (file, text) in cells {
            let seen = (of_images.places[image_at[file]], of_texts.places[text_at[text]]);
            let (Some(image), Some(text)) = seen else {
                let what = if seen.0.is_none() { "image" } else { "text" };
                *dropped.entry(format!("the {what} cannot be read or encoded")).or_default() += 1;
                continue;
            };
            let number = *numbers.entry(image).or_insert_with(|| {
                kept.push(image);
                kept.len() as u32 - 1
            });
            image_of.push(number);
            text_rows.push(text);
        }
        if kept.is_empty() {
            return refuse("no picture of the table could be read and encoded together with a text");
        }
        let pick = |of: &Looked, rows: &[usize], encoder: &Arc<dyn Encoder>| -> Result<(Vectors, Vec<Vectors>)> {
            let data = rows.iter().flat_map(|row| &of.wholes[row * encoder.dim()..][..encoder.dim()]).copied().collect();
            let wrong = |source| EngineError::Numbers { what: encoder.name().to_owned(), source };
            let parts = rows.iter().map(|row| of.parts[*row].clone()).collect();
            Ok((Vectors::new(data, encoder.dim()).map_err(wrong)?, parts))
        };
        let (images, image_parts) = pick(&of_images, &kept, &encoders[0])?;
        let (texts, text_parts) = pick(&of_texts, &text_rows, &encoders[1])?;
        Ok(Self { wholes: [images, texts], parts: [image_parts, text_parts], image_of, dropped })
    }

    /// Whether parts stand where the embeddings of wholes do, on both sides, so that the space's pipelines mean something to them: of networks that pool by the mean, not of those
    /// with a class token or a projection behind the parts.
    fn parts_are_like_wholes(&self) -> bool {
        [0, 1].into_iter().all(|side| {
            let (wholes, parts) = (&self.wholes[side], &self.parts[side]);
            let n = parts.len().min(LIKE);
            let of = |at: usize| {
                let sets = PartSets::of_parts(&parts[at..=at]).expect("parts of an encoder");
                let mean = sets.means();
                MatrixView::new(wholes.row(at), mean.len()).map_or(0.0, |whole| second_look::cosines(&mean, whole)[0])
            };
            parts[0].dim() == wholes.dim() && (0..n).map(of).sum::<f32>() > LEAST_LIKE * n as f32
        })
    }

    /// Some pictures with all of their texts.
    fn some(&self, images: &[usize]) -> Portion<'_> {
        let number: HashMap<u32, u32> = images.iter().enumerate().map(|(at, image)| (*image as u32, at as u32)).collect();
        let texts: Vec<usize> = (0..self.image_of.len()).filter(|text| number.contains_key(&self.image_of[*text])).collect();
        let image_of = texts.iter().map(|text| number[&self.image_of[*text]]).collect();
        Portion { of: self, things: [images.to_vec(), texts], image_of }
    }

    fn whole(&self) -> Portion<'_> {
        self.some(&(0..self.parts[0].len()).collect::<Vec<_>>())
    }
}

/// Some of the pictures, and their texts.
struct Portion<'a> {
    of: &'a Material,
    things: [Vec<usize>; 2],
    image_of: Vec<u32>,
}

/// A row for each text, and the same of its picture.
struct PairedRows<'a> {
    views: [Vectors; 2],
    image_of: &'a [u32],
}

impl PairedRows<'_> {
    fn pairs(&self) -> Pairs<'_> {
        Pairs::with_groups(self.views.iter().map(Vectors::view).collect(), self.image_of)
    }
}

impl Portion<'_> {
    fn wholes(&self, side: usize) -> Vec<f32> {
        self.things[side].iter().flat_map(|at| self.of.wholes[side].row(*at)).copied().collect()
    }

    fn rows(&self) -> PairedRows<'_> {
        let images = self.image_of.iter().flat_map(|image| self.of.wholes[0].row(self.things[0][*image as usize])).copied();
        let of = |rows, side: usize| Vectors::new(rows, self.of.wholes[side].dim()).expect("rows of finite vectors");
        PairedRows { views: [of(images.collect(), 0), of(self.wholes(1), 1)], image_of: &self.image_of }
    }

    /// As they stand behind pipelines.
    fn shown(&self, projection: &PipelineSpace, in_space: bool) -> Result<Shown> {
        let side = |side: usize| -> Result<(Vectors, PartSets)> {
            let wholes = self.wholes(side);
            let wholes = MatrixView::new(&wholes, self.of.wholes[side].dim()).expect("whole rows");
            // Some at a time: parts as encoders give them may fill much of the memory, and behind the pipelines they are small.
            let (mut rows, mut lengths, mut dim) = (Vec::new(), Vec::new(), 0);
            for things in self.things[side].chunks(SHOWN_TOGETHER) {
                let parts: Vec<Vectors> = things.iter().map(|at| self.of.parts[side][*at].clone()).collect();
                let sets = in_place(in_space.then_some((projection, side)), &parts).map_err(EngineError::FitRequest)?;
                (0..sets.n()).for_each(|i| rows.extend_from_slice(sets.set(i)));
                lengths.extend_from_slice(sets.lengths());
                dim = sets.dim();
            }
            let parts = PartSets::new(rows, dim, lengths).map_err(|e| stopped(FitError::Sets(e)))?;
            Ok((projection.project(side, wholes)?, parts))
        };
        let ((images, image_parts), (texts, text_parts)) = (side(0)?, side(1)?);
        Ok(Shown { wholes: [images, texts], parts: [image_parts, text_parts], image_of: self.image_of.clone() })
    }
}

/// Pictures and texts in a space.
struct Shown {
    wholes: [Vectors; 2],
    parts: [PartSets; 2],
    image_of: Vec<u32>,
}

impl Shown {
    fn data(&self) -> Result<Captioned<'_>> {
        Captioned::new(&self.parts[0], &self.parts[1], &self.image_of).map_err(|e| stopped(FitError::Sets(e)))
    }

    fn teach(&self, kind: Kind, start: Start, run: &Run<'_>) -> Result<Look> {
        Look::fit(kind, start, &self.data()?, [0, 1].map(|side| self.wholes[side].view()), run).map_err(stopped)
    }

    fn standing(&self, look: &Look) -> Result<Standing> {
        let wholes = [0, 1].map(|side| self.wholes[side].view());
        Standing::of(look, &self.data()?, wholes, N_TOP, &SHARES).map_err(|e| stopped(FitError::Sets(e)))
    }
}

/// What an encoder sees of many things.
struct Looked {
    wholes: Vec<f32>,
    parts: Vec<Vectors>,
    /// Of each thing its row; none where it could not be read or encoded.
    places: Vec<Option<usize>>,
}

/// The same on its way.
struct Looking<'a> {
    encoder: &'a Arc<dyn Encoder>,
    n: usize,
    looked: Looked,
    n_bytes: u64,
}

impl<'a> Looking<'a> {
    fn at(encoder: &'a Arc<dyn Encoder>, n: usize, run: &Run<'_>) -> Self {
        run.progress.start(&format!("look at {}", encoder.modality()), Some(n as u64));
        Self { encoder, n, looked: Looked { wholes: Vec::new(), parts: Vec::new(), places: Vec::new() }, n_bytes: 0 }
    }

    /// Some more, of which some may not be readable; `told` are what messages call them.
    fn see<T: std::fmt::Debug>(&mut self, media: Vec<Result<Media, String>>, told: &[T], run: &Run<'_>) -> Result<()> {
        run.cancel.check()?;
        let first = self.looked.places.len();
        self.looked.places.resize(first + media.len(), None);
        let (mut numbers, mut batch) = (Vec::new(), Vec::new());
        for (number, media) in media.into_iter().enumerate() {
            match media {
                Ok(media) => {
                    numbers.push(number);
                    batch.push(media);
                }
                Err(reason) => run.progress.note(&reason),
            }
        }
        while !batch.is_empty() {
            match self.encoder.encode(&batch) {
                Ok(wholes) => {
                    let parts = self.encoder.parts(&batch)?;
                    self.n_bytes += parts.iter().map(|parts| 4 * parts.data().len() as u64).sum::<u64>();
                    let Looked { wholes: all, parts: all_parts, places } = &mut self.looked;
                    numbers.iter().zip(all_parts.len()..).for_each(|(number, row)| places[first + number] = Some(row));
                    all.extend(wholes.into_data());
                    all_parts.extend(parts);
                    break;
                }
                Err(e @ EncodeError::Unencodable { .. }) => {
                    let EncodeError::Unencodable { item, .. } = &e else { unreachable!("matched above") };
                    let number = numbers.remove(*item);
                    batch.remove(*item);
                    run.progress.note(&format!("{:?}: {e}", told[number]));
                }
                Err(e) => return Err(e.into()),
            }
        }
        let n_bytes = self.n_bytes / self.looked.places.len().max(1) as u64 * self.n as u64;
        if n_bytes > MOST_BYTES {
            return refuse(format!(
                "the parts of {} files or texts ({}) would take {} GiB of memory, {} at most are taken: give fewer pairs",
                self.n,
                self.encoder.modality(),
                n_bytes >> 30,
                MOST_BYTES >> 30
            ));
        }
        run.progress.advance(told.len() as u64);
        Ok(())
    }

    fn done(self, run: &Run<'_>) -> Looked {
        run.progress.finish();
        self.looked
    }
}
