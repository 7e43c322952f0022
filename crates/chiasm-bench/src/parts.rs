//! Models that look at parts, and queries of two texts, beside bridges of single vectors: on real photos and their captions.
//!
//! Everything but the bridge takes its hyper-parameters as stated here; nothing is chosen by the figures of what is tried. What may be tried out before it is
//! stated is [`Plan::train_only`].

use std::fmt::Write as _;

use chiasm_align::parts::fusion::{Fusion, FusionConfig, Kind, Queries};
use chiasm_align::parts::reranker::{Reranker, RerankerConfig};
use chiasm_align::parts::scan::{Attention, Direction, Pooling, Scan, ScanConfig, Start};
use chiasm_align::parts::second_look::{Kind as LookKind, Look, Standing};
use chiasm_align::parts::{Captioned, PartSets};
use chiasm_align::{CcaConfig, Draft, FitError, MethodConfig, Pairs, PipelineSpace, Run};
use chiasm_core::{SharedSpace, Vectors};
use chiasm_eval::EvalConfig;
use chiasm_eval::cross::{self, Belongs};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::data::Place;
use crate::data::photos::{Described, load_described};
use crate::error::BenchError;
use crate::measure::{Cost, mean_and_deviation, measured};
use crate::protocol::FOLDS;

/// Of what the bridge finds, so many are looked at again.
const AGAIN: usize = 50;
/// Of these the cross-encoder, which is slower, looks at the first.
const READ_AGAIN: usize = 20;
/// How much a second look counts beside the bridge: what `chiasm space rerank` chose on the part to learn from.
const SHARE: f32 = 0.3;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed.
    pub seed: u64,
    /// So many, this one and those that follow.
    pub seeds: u8,
    /// Leaves the test part alone: five sixths of the training part are learned from, the rest is tried.
    pub train_only: bool,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Photos that were learned from, and those that were tried.
    pub photos: [usize; 2],
    /// Captions of the latter.
    pub captions: usize,
    /// The models.
    pub rows: Vec<Row>,
}

/// What one model gives.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which table it stands in.
    pub table: Table,
    /// The model.
    pub model: String,
    /// Shares of texts that find their photo first, among five, among ten: the mean of all seeds, and the deviation where they differ.
    pub text_to_image: [Figure; 3],
    /// Likewise of photos that find one of their captions; none for what searches in one direction.
    pub image_to_text: Option<[Figure; 3]>,
    /// Seconds of the first fit; none where nothing new is fitted.
    pub fit_s: Option<f64>,
}

/// A table of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// A caption and a photo find each other.
    Parts,
    /// Two captions find their photo.
    Fusion,
}

/// A mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// It.
    pub mean: f64,
    /// Standard deviation of a sample; none where all are alike.
    pub deviation: Option<f64>,
}

/// How close each text is to each picture, `[n_texts, n_pictures]`; greater is closer.
struct Scores {
    n_pictures: usize,
    of: Vec<f32>,
}

impl Scores {
    /// Products of rows.
    fn of_rows(texts: &[f32], pictures: &[f32], dim: usize) -> Self {
        let product = |text: &[f32], picture: &[f32]| text.iter().zip(picture).map(|(a, b)| a * b).sum();
        let of = texts.chunks_exact(dim).flat_map(|text| pictures.chunks_exact(dim).map(move |picture| product(text, picture)));
        Self { n_pictures: pictures.len() / dim, of: of.collect() }
    }

    fn at(&self, text: usize, picture: usize) -> f32 {
        self.of[text * self.n_pictures + picture]
    }

    fn n_texts(&self) -> usize {
        self.of.len() / self.n_pictures
    }

    /// Both, added.
    fn plus(&self, other: &Self) -> Self {
        Self { n_pictures: self.n_pictures, of: self.of.iter().zip(&other.of).map(|(a, b)| a + b).collect() }
    }

    /// With the mean of all at 0 and their deviation at 1, so that scores of two kinds can be added.
    fn standard(&self) -> Self {
        let n = self.of.len().max(1) as f64;
        let mean = self.of.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let square = self.of.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        let by = 1.0 / square.sqrt().max(f64::MIN_POSITIVE);
        Self { n_pictures: self.n_pictures, of: self.of.iter().map(|x| ((f64::from(*x) - mean) * by) as f32).collect() }
    }

    fn row(&self, text: usize) -> Vec<f32> {
        self.of[text * self.n_pictures..][..self.n_pictures].to_vec()
    }

    fn column(&self, picture: usize) -> Vec<f32> {
        (0..self.n_texts()).map(|text| self.at(text, picture)).collect()
    }
}

/// The places of numbers, the greatest first, equal ones in their order.
fn ranked(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order
}

/// Scores by which all places of `order` stand in this order.
fn in_order(order: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
    let mut scores = vec![0.0; order.len()];
    order.enumerate().for_each(|(rank, at)| scores[at] = -(rank as f32));
    scores
}

/// The scores of one query where its first `k` stand in the order of `second`, and all others behind them as they stood.
fn again(first: &[f32], second: &[f32], k: usize) -> Vec<f32> {
    let mut order = ranked(first);
    let head = order[..k.min(first.len())].to_vec();
    let of_head: Vec<f32> = head.iter().map(|at| second[*at]).collect();
    order.iter_mut().zip(ranked(&of_head)).for_each(|(to, at)| *to = head[at]);
    in_order(order.into_iter())
}

/// R@1, R@5 and R@10 of queries of these groups among a gallery of those; `scores(q)` are of the whole gallery.
fn hits(queries: &[u32], gallery: &[u32], scores: impl Fn(usize) -> Vec<f32> + Sync) -> [f64; 3] {
    let direction = cross::judge_scores(("query", Belongs::Groups(queries)), ("gallery", Belongs::Groups(gallery)), |q, to| {
        to.copy_from_slice(&scores(q));
    });
    let config = EvalConfig { cuts: vec![1, 5, 10], n_resamples: 0, ..EvalConfig::default() };
    let report = direction.report(&config);
    ["R@1", "R@5", "R@10"].map(|name| report.value(name).unwrap_or(f64::NAN))
}

/// Both directions: from texts to pictures, and back.
type Both = [[f64; 3]; 2];

/// A model's figures of each seed.
struct Trials {
    table: Table,
    model: String,
    to_image: Vec<[f64; 3]>,
    to_text: Vec<[f64; 3]>,
    fit_s: Option<f64>,
}

/// Those of all models, in the order in which they came.
#[derive(Default)]
struct Collected(Vec<Trials>);

impl Collected {
    fn add(&mut self, table: Table, model: &str, to_image: [f64; 3], to_text: Option<[f64; 3]>, fit_s: Option<f64>) {
        let at = self.0.iter().position(|row| row.table == table && row.model == model).unwrap_or_else(|| {
            let (to_image, to_text) = (Vec::new(), Vec::new());
            self.0.push(Trials { table, model: model.to_owned(), to_image, to_text, fit_s });
            self.0.len() - 1
        });
        self.0[at].to_image.push(to_image);
        self.0[at].to_text.extend(to_text);
    }

    fn rows(self) -> Vec<Row> {
        let row = |trials: Trials| Row {
            table: trials.table,
            model: trials.model,
            text_to_image: over_seeds(&trials.to_image),
            image_to_text: (!trials.to_text.is_empty()).then(|| over_seeds(&trials.to_text)),
            fit_s: trials.fit_s,
        };
        self.0.into_iter().map(row).collect()
    }
}

fn over_seeds(all: &[[f64; 3]]) -> [Figure; 3] {
    [0, 1, 2].map(|cut| {
        let (mean, deviation) = mean_and_deviation(&all.iter().map(|figures| figures[cut]).collect::<Vec<_>>());
        Figure { mean, deviation }
    })
}

/// Fits everything on what is learned from and tries it on the rest. Where there is a draft, fits of a run that was stopped go on from there.
///
/// # Errors
/// Those of the data, and [`BenchError::Fit`].
pub fn run(plan: &Plan, place: &Place<'_>, draft: Option<&dyn Draft>) -> Result<Outcome, BenchError> {
    let [train, test] = load_described(place)?;
    let [train, test] = if plan.train_only {
        let mut photos: Vec<usize> = (0..train.regions.n()).collect();
        photos.shuffle(&mut ChaCha8Rng::seed_from_u64(plan.seed));
        let (tried, learned) = photos.split_at(photos.len() / 6);
        let part = |photos: &[usize]| {
            let mut photos = photos.to_vec();
            photos.sort_unstable();
            train.pick(&photos)
        };
        [part(learned)?, part(tried)?]
    } else {
        [train, test]
    };
    let first = Run { seed: plan.seed, progress: place.progress, cancel: place.cancel, draft };
    let mut collected = Collected::default();
    let (bridge, Cost { wall_s: fit_s, .. }) = measured(|| bridge(&train, &first));
    let bridge = bridge.map_err(failed("cca"))?;
    let found = Found { train: wholes(&bridge, &train)?, test: wholes(&bridge, &test)? };
    for seed in (0..u64::from(plan.seeds)).map(|further| plan.seed.wrapping_add(further)) {
        let run = Run { seed, ..first };
        by_parts(&mut collected, [&train, &test], &found, fit_s, &run)?;
        by_parts_in_space(&mut collected, [&train, &test], &bridge, &run)?;
        by_two_texts(&mut collected, [&train, &test], &bridge, &run)?;
    }
    Ok(Outcome { photos: [&train, &test].map(|part| part.regions.n()), captions: test.words.n(), rows: collected.rows() })
}

fn failed(method: &str) -> impl FnOnce(FitError) -> BenchError {
    let method = method.to_owned();
    move |source| BenchError::Fit { method, task: "photos and captions".to_owned(), source }
}

/// Correlation analysis of whole photos and captions, all of it chosen by cross-validation on what is learned from.
fn bridge(train: &Described, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
    let images = each_photo(train);
    let views = [&images, &train.wholes[1]].map(Vectors::view).to_vec();
    let pairs = Pairs::with_groups(views, &train.photo_of);
    MethodConfig::Cca(CcaConfig::default()).auto_from(&pairs, FOLDS, run)?.config.fit(&pairs, run)
}

/// The photo of each caption, once for each.
fn each_photo(of: &Described) -> Vectors {
    let data = of.photo_of.iter().flat_map(|photo| of.wholes[0].row(*photo as usize)).copied().collect();
    Vectors::new(data, of.wholes[0].dim()).expect("rows of finite vectors")
}

/// What the bridge finds among what is learned from, and among what is tried.
struct Found {
    train: Scores,
    test: Scores,
}

fn wholes(bridge: &PipelineSpace, of: &Described) -> Result<Scores, BenchError> {
    let [images, texts] = [bridge.project(0, of.wholes[0].view())?, bridge.project(1, of.wholes[1].view())?];
    Ok(Scores::of_rows(texts.data(), images.data(), images.dim()))
}

/// How words and regions look at each other: two of the paper's four ways, one in either direction, with its numbers for Flickr30K.
const ATTENTIONS: [(&str, Attention); 2] = [
    ("words ask", Attention { direction: Direction::TextToImage, sharpness: 9.0, pooling: Pooling::LogSumExp(6.0) }),
    ("places ask", Attention { direction: Direction::ImageToText, sharpness: 4.0, pooling: Pooling::Mean }),
];

fn by_parts(
    collected: &mut Collected,
    [train, test]: [&Described; 2],
    found: &Found,
    fit_s: f64,
    run: &Run<'_>,
) -> Result<(), BenchError> {
    let photos: Vec<u32> = (0..test.regions.n() as u32).collect();
    let both = |scores: &Scores| -> Both {
        [hits(&test.photo_of, &photos, |text| scores.row(text)), hits(&photos, &test.photo_of, |photo| scores.column(photo))]
    };
    let mut add = |model: &str, [to_image, to_text]: Both, fit_s: Option<f64>| {
        collected.add(Table::Parts, model, to_image, Some(to_text), fit_s);
    };
    add("`cca` of wholes", both(&found.test), Some(fit_s));

    let captioned = Captioned::new(&train.regions, &train.words, &train.photo_of)?;
    let mut scans = Vec::new();
    for (words, attention) in ATTENTIONS {
        let config = ScanConfig { attention, ..scan_config() };
        let (scan, cost) = measured(|| Scan::fit(&config, &captioned, run));
        let scan = scan.map_err(failed("scan"))?;
        let scores = scan_scores(&scan, test)?;
        add(&format!("SCAN, {words}"), both(&scores), Some(cost.wall_s));
        scans.push((scan, scores));
    }
    let of_both = scans[0].1.standard().plus(&scans[1].1.standard());
    add("SCAN, both added", both(&of_both), None);
    let looked = [
        hits(&test.photo_of, &photos, |text| again(&found.test.row(text), &of_both.row(text), AGAIN)),
        hits(&photos, &test.photo_of, |photo| again(&found.test.column(photo), &of_both.column(photo), AGAIN)),
    ];
    add(&format!("SCAN, both added, over the first {AGAIN} of `cca`"), looked, None);
    add("`cca` and SCAN added", both(&found.test.standard().plus(&of_both.standard())), None);

    let lists = |scores: &Scores| -> Vec<Vec<u32>> {
        let first = |text: usize| ranked(&scores.row(text)).into_iter().take(READ_AGAIN).map(|photo| photo as u32).collect();
        (0..scores.n_texts()).map(first).collect()
    };
    let found_close = lists(&found.train);
    let (reranker, cost) = measured(|| Reranker::fit(&RerankerConfig::default(), &captioned, &found_close, &scans[0].0, run));
    let reranker = reranker.map_err(failed("reranker"))?;
    let reordered = reranker.rerank(&test.regions, &test.words, &lists(&found.test))?;
    let scores = |text: usize| {
        let mut order = ranked(&found.test.row(text));
        order.iter_mut().zip(&reordered[text]).for_each(|(to, photo)| *to = *photo as usize);
        in_order(order.into_iter())
    };
    let model = format!("cross-encoder over the first {READ_AGAIN} of `cca`");
    collected.add(Table::Parts, &model, hits(&test.photo_of, &photos, scores), None, Some(cost.wall_s));
    Ok(())
}

/// SCAN that begins where the bridge has put the parts, alone and beside the bridge.
fn by_parts_in_space(
    collected: &mut Collected,
    [train, test]: [&Described; 2],
    bridge: &PipelineSpace,
    run: &Run<'_>,
) -> Result<(), BenchError> {
    let project = |side: usize, sets: &PartSets| -> Result<PartSets, BenchError> {
        let rows = Vectors::new((0..sets.n()).flat_map(|i| sets.set(i)).copied().collect(), sets.dim())?;
        let projected = bridge.project(side, rows.view())?;
        Ok(PartSets::new(projected.into_data(), bridge.dim(), sets.lengths().to_vec())?)
    };
    let shown = |of: &Described| -> Result<_, BenchError> {
        let wholes = [bridge.project(0, of.wholes[0].view())?, bridge.project(1, of.wholes[1].view())?];
        Ok((project(0, &of.regions)?, project(1, &of.words)?, wholes))
    };
    let (regions, words, wholes) = shown(train)?;
    let learned = Captioned::new(&regions, &words, &train.photo_of)?;
    let (look, cost) =
        measured(|| Look::fit(LookKind::Scan, Start::InSpace, &learned, [0, 1].map(|side| wholes[side].view()), run));
    let look = look.map_err(failed("scan"))?;
    let (regions, words, wholes) = shown(test)?;
    let tried = Captioned::new(&regions, &words, &test.photo_of)?;
    let wholes = [0, 1].map(|side| wholes[side].view());
    for (model, n_top, share, fit_s) in [
        ("SCAN that begins in the space of `cca`".to_owned(), usize::MAX, 1.0, Some(cost.wall_s)),
        (format!("the same by a share of {SHARE} beside `cca`, over its first {READ_AGAIN}"), READ_AGAIN, SHARE, None),
    ] {
        let standing = Standing::of(&look, &tried, wholes, n_top, &[share])?;
        let [to_image, to_text] = standing.found[0];
        collected.add(Table::Parts, &model, to_image, Some(to_text), fit_s);
    }
    Ok(())
}

/// Fewer coordinates and a greater rate than the paper's, whose pictures are 29,000.
fn scan_config() -> ScanConfig {
    ScanConfig { dim: 256, learning_rate: 1e-3, batch: 64, ..ScanConfig::default() }
}

fn scan_scores(scan: &Scan, test: &Described) -> Result<Scores, BenchError> {
    // `[n_pictures, n_texts]`
    let scores = scan.scores(&test.regions, &test.words)?;
    let [n, m] = [test.regions.n(), test.words.n()];
    Ok(Scores { n_pictures: n, of: (0..m).flat_map(|t| (0..n).map(move |p| (p, t))).map(|(p, t)| scores[p * m + t]).collect() })
}

/// Kinds of fusion, by what they are called.
const KINDS: [(&str, Kind); 3] = [
    ("gated fusion", Kind::Gated),
    ("bilinear fusion", Kind::Bilinear { factors: 4 }),
    ("fusion by attention", Kind::Attention { n_heads: 4 }),
];

/// Two captions of a photo, the one after the other in a round, ask together: in the space of the bridge, which all ways of fusing them begin with.
struct Asked {
    views: [Vectors; 2],
    photo_of: Vec<u32>,
    /// The photos in the same space.
    photos: Vectors,
}

impl Asked {
    fn new(of: &Described, bridge: &PipelineSpace) -> Result<Self, BenchError> {
        let mut of_photo = vec![Vec::new(); of.regions.n()];
        of.photo_of.iter().enumerate().for_each(|(caption, photo)| of_photo[*photo as usize].push(caption));
        let next = |caption: usize| {
            let all = &of_photo[of.photo_of[caption] as usize];
            all[(all.iter().position(|one| *one == caption).expect("one of its photo's") + 1) % all.len()]
        };
        let first = bridge.project(1, of.wholes[1].view())?;
        let second = (0..first.n()).flat_map(|caption| first.row(next(caption))).copied().collect();
        let second = Vectors::new(second, first.dim())?;
        Ok(Self { views: [first, second], photo_of: of.photo_of.clone(), photos: bridge.project(0, of.wholes[0].view())? })
    }

    fn queries(&self) -> Result<Queries<'_>, BenchError> {
        Ok(Queries::new(self.views.iter().map(Vectors::view).collect(), None)?)
    }
}

fn by_two_texts(
    collected: &mut Collected,
    [train, test]: [&Described; 2],
    bridge: &PipelineSpace,
    run: &Run<'_>,
) -> Result<(), BenchError> {
    let photos: Vec<u32> = (0..test.regions.n() as u32).collect();
    let (learned, asked) = (Asked::new(train, bridge)?, Asked::new(test, bridge)?);
    let mut add = |model: &str, scores: &Scores, fit_s: Option<f64>| {
        let to_image = hits(&asked.photo_of, &photos, |query| scores.row(query));
        collected.add(Table::Fusion, model, to_image, None, fit_s);
    };
    let [first, second] = [0, 1].map(|v| Scores::of_rows(asked.views[v].data(), asked.photos.data(), asked.photos.dim()));
    add("`cca`, the first text alone", &first, None);
    add("`cca`, late: both scores added", &first.plus(&second), None);

    let each = learned.photo_of.iter().flat_map(|photo| learned.photos.row(*photo as usize)).copied().collect();
    let gallery = Vectors::new(each, learned.photos.dim())?;
    for (model, kind) in KINDS {
        let config = FusionConfig { kind, ..FusionConfig::default() };
        let queries = learned.queries()?;
        let (fusion, cost) = measured(|| Fusion::fit(&config, &queries, gallery.view(), Some(&learned.photo_of), run));
        let fusion = fusion.map_err(failed("fusion"))?;
        let scores = Scores::of_rows(&fusion.queries(&asked.queries()?)?, &fusion.gallery(asked.photos.view())?, config.dim);
        add(model, &scores, Some(cost.wall_s));
    }
    Ok(())
}

/// The outcome as a document; `command` is what makes it again.
pub fn document(outcome: &Outcome, plan: &Plan, command: &str) -> String {
    let Outcome { photos: [learned, tried], captions, rows } = outcome;
    let of = if plan.train_only {
        "all of the part to learn from: for choosing, and no figure of what was not learned from"
    } else {
        "the part for trying, from which nothing was learned"
    };
    let mut out = format!(
        "# Models that look at parts\n\n*Written by `{command}`; not edited by hand.*\n\n\
         Photos of Flickr8k with their captions, split as in [results-photos.md](results-photos.md). Learned from: {learned} photos. Tried: {tried} others with their {captions} captions, {of}. \
         Photos are the 49 places of MobileNetV2's last map, \
         captions the tokens' states of MiniLM; wholes are their means as these networks give them. `cca` is chosen by {FOLDS} folds of what is learned from; \
         all else is as stated in `crates/chiasm-bench/src/parts.rs`, and how long to train is found on a seventh of what is learned from. Shares in percent, \
         means of {} seeds, *±* the standard deviation. *Fit*: seconds of one fit, of `cca` with its choice, without what a run that was stopped had done of it.\n",
        plan.seeds
    );
    let cell = |figure: &Figure| match figure.deviation {
        Some(deviation) => format!("{:.1} ± {:.1}", 100.0 * figure.mean, 100.0 * deviation),
        None => format!("{:.1}", 100.0 * figure.mean),
    };
    let cells = |figures: &[Figure; 3]| figures.iter().map(cell).collect::<Vec<_>>().join(" | ");
    let fit = |row: &Row| row.fit_s.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
    out += "\n## A caption and a photo\n\n\
            | model | text → image R@1 | R@5 | R@10 | image → text R@1 | R@5 | R@10 | fit |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for row in rows.iter().filter(|row| row.table == Table::Parts) {
        let back = row.image_to_text.as_ref().map_or_else(|| "- | - | -".to_owned(), cells);
        let _ = writeln!(out, "| {} | {} | {back} | {} |", row.model, cells(&row.text_to_image), fit(row));
    }
    out += "\n## Two captions together\n\n\
            Each caption asks with the next of its photo's five. Fusion learns in the coordinates of `cca`.\n\n\
            | model | texts → image R@1 | R@5 | R@10 | fit |\n| --- | --- | --- | --- | --- |\n";
    for row in rows.iter().filter(|row| row.table == Table::Fusion) {
        let _ = writeln!(out, "| {} | {} | {} |", row.model, cells(&row.text_to_image), fit(row));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_ordered_anew_and_nothing_else() {
        // Places 3, 0, 4 are first; of these the second scores put 4 first, then 3.
        let (first, second) = ([5.0, 1.0, 2.0, 9.0, 4.0], [0.0, 99.0, 99.0, 1.0, 2.0]);
        assert_eq!(ranked(&again(&first, &second, 3)), [4, 3, 0, 2, 1]);
        // What is level stands as it stood.
        assert_eq!(ranked(&again(&first, &second, 99)), [2, 1, 4, 3, 0]);
        assert_eq!(ranked(&again(&first, &second, 0)), ranked(&first));
    }

    #[test]
    fn hits_count_queries_with_a_right_answer() {
        let scores = Scores { n_pictures: 2, of: vec![0.9, 0.1, 0.8, 0.2] };
        let (texts, pictures) = ([0, 1], [0, 1]);
        assert_eq!(hits(&texts, &pictures, |text| scores.row(text))[0], 0.5);
        assert_eq!(hits(&pictures, &texts, |picture| scores.column(picture))[0], 1.0);
    }

    #[test]
    fn a_deviation_is_told_where_seeds_differ() {
        let alike = over_seeds(&[[0.5, 0.6, 0.7]; 3]);
        assert_eq!(alike[2], Figure { mean: 0.7, deviation: None });
        let apart = over_seeds(&[[0.4, 0.0, 0.0], [0.6, 0.0, 0.0]]);
        assert!((apart[0].mean - 0.5).abs() < 1e-12 && (apart[0].deviation.unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
    }
}
