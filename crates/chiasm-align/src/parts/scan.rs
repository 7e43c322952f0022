//! SCAN: a picture and a text are as close as what each word finds among the regions, or each region among the words.
//!
//! # Reference
//! K.-H. Lee, X. Chen, G. Hua, H. Hu, X. He, Stacked Cross Attention for Image-Text Matching, ECCV 2018, eq. (1)-(10). Scores, loss and gradients are checked
//! against the equations in torch (`reference/align_parts_goldens.py`). Differs from it in: linear maps of ready vectors of regions and words in place of a fully
//! connected layer and a GRU; the slope of .1 below 0 that the authors' code has, where the paper sets to 0; the mean over the batch in place of the sum; all
//! negatives in the first tenth of the epochs, before the hardest alone, without which all can be drawn to one point.
//!
//! # Model
//! For one picture and one text, text to image (image to text is its mirror: regions ask, words answer):
//!
//! s_ij = cos(v_i, e_j), z_ij = r_ij / sqrt(sum_j r_ij^2), r = max(s, .1 s); alpha_ij = softmax over i of lambda1 z_ij; a_j = sum_i alpha_ij v_i;
//! R_j = cos(e_j, a_j); score = mean_j R_j, or log(sum_j e^(lambda2 R_j)) / lambda2.
//!
//! loss = 1/n sum_p [m - S_pp + max_t S_pt]_+ + [m - S_pp + max_t S_tp]_+ over the wrong t of a batch of n pictures with one text each.
//!
//! Since e_j is of unit length, R_j = sum_i alpha_ij s_ij / sqrt(alpha_j' G alpha_j) with G = V V', so neither direction ever forms an a_j: a pair costs what the
//! cosines and the picture's own G say.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | v_i = W_v f_i + b_v, e_j | `maps` | `[dim, d_v]`, `[1, dim]` for each view | then at unit length |
//! | s | `s` | `[n_asking, n_answering]` | -1 to 1 |
//! | lambda1 | `sharpness` | | above 0; 9 (text to image), 4 (image to text) |
//! | lambda2 | `Pooling::LogSumExp` | | above 0; 6, 5 |
//! | m | `margin` | | above 0, below 2 |
//!
//! # Cost
//! A score is of one pair: a ranking of `n` pictures by `m` texts takes O(n m q c (dim + c)) with `q` parts that ask and `c` that answer, and nothing of it can be
//! kept in an index: re-rank what a bridge of single vectors found where a gallery is large. Memory is that of the mapped parts and of one tile of pairs.
//!
//! # Determinism
//! The seed decides the start, the batches and what is set aside; a score differs in its last digits with what is scored beside it.
//!
//! # Errors
//! [`FitError::Config`], [`FitError::Constant`], [`FitError::TooFewRows`], [`FitError::Numeric`], [`FitError::Cancelled`]; scoring: [`ProjectError::Dimension`].
//!
//! # Example
//! ```
//! use chiasm_align::parts::scan::{Attention, Direction, Pooling, Scan, ScanConfig};
//! use chiasm_align::parts::{Captioned, PartSets};
//! use chiasm_align::Run;
//! use chiasm_core::{Cancel, NoProgress};
//!
//! // Four pictures of two regions, the second of which is the same everywhere, and for each a text of one word, which belongs to the first.
//! let one_of = |n: usize, i: usize| (0..n).map(move |j| f32::from(i == j));
//! let regions: Vec<f32> = (0..4).flat_map(|i| one_of(5, i).chain(one_of(5, 4))).collect();
//! let pictures = PartSets::new(regions, 5, vec![2; 4])?;
//! let texts = PartSets::new((0..4).flat_map(|i| one_of(4, i)).collect(), 4, vec![1; 4])?;
//! let attention = Attention { direction: Direction::ImageToText, sharpness: 4.0, pooling: Pooling::Mean };
//! let config = ScanConfig { attention, dim: 8, batch: 4, max_epochs: 400, learning_rate: 0.02, ..ScanConfig::default() };
//! let run = Run { seed: 1, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
//! let scan = Scan::fit(&config, &Captioned::new(&pictures, &texts, &[0, 1, 2, 3])?, &run)?;
//! assert_eq!(scan.rank_pictures(&pictures, &texts, 1)?, [[0], [1], [2], [3]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use chiasm_core::ProjectError;
use chiasm_nn::grad::{Array, Real, Tape, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::learn::{self, Batch, Course, Lesson, mean_reciprocal_rank};
use super::sets::{Captioned, PartSets, SetError, Standard, starts};
use crate::draft::Key;
use crate::fit::{FitError, Run};

/// Slope of a cosine below 0.
const SLOPE: f64 = 0.1;
/// A length is at least this where something is divided by it.
const LEAST_LENGTH: f64 = 1e-8;
/// Share of the epochs in which all negatives count.
const ALL_FIRST: f64 = 0.1;
/// Things of either side of a tile of pairs that are scored together.
const TILE: usize = 64;

/// Who asks, and who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Each word looks for its regions.
    TextToImage,
    /// Each region looks for its words.
    ImageToText,
}

/// How the closeness of all that asks becomes one score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// `log(sum e^(lambda R)) / lambda`, nearer to the greatest the greater `lambda`, above 0.
    LogSumExp(f64),
}

/// How words and regions look at each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Who asks.
    pub direction: Direction,
    /// `lambda1`: by how much the cosines are multiplied before the softmax; above 0.
    pub sharpness: f64,
    /// How scores of parts become one.
    pub pooling: Pooling,
}

/// What the maps are before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Drawn at random.
    Drawn,
    /// The parts as they come, which stand in one space already: both have `dim` numbers. With few pictures to learn from this is most of what is found, so the
    /// start counts among the epochs of which the best is kept.
    InSpace,
}

/// SCAN and how it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanConfig {
    /// What the maps are before the first step.
    pub start: Start,
    /// How words and regions look at each other.
    pub attention: Attention,
    /// Numbers of a mapped part, 1 to 4096.
    pub dim: usize,
    /// By how much a right answer is to be closer; above 0, below 2.
    pub margin: f64,
    /// Greatest learning rate; above 0.
    pub learning_rate: f64,
    /// Decoupled weight decay of the maps; at least 0.
    pub weight_decay: f64,
    /// Pictures of a batch, with one text each; at least 2.
    pub batch: usize,
    /// Epochs at most, each over all pictures; at least 1.
    pub max_epochs: usize,
}

impl Default for ScanConfig {
    /// The paper's for Flickr30K, text to image, mean.
    fn default() -> Self {
        Self {
            start: Start::Drawn,
            attention: Attention { direction: Direction::TextToImage, sharpness: 9.0, pooling: Pooling::Mean },
            dim: 1024,
            margin: 0.2,
            learning_rate: 2e-4,
            weight_decay: 0.0,
            batch: 128,
            max_epochs: 30,
        }
    }
}

impl ScanConfig {
    fn course(&self) -> Course {
        Course { rate: self.learning_rate, decay: self.weight_decay, batch: self.batch, max_epochs: self.max_epochs }
    }

    fn check(&self) -> Result<(), FitError> {
        self.course().check()?;
        if !(1..=4096).contains(&self.dim) {
            return Err(FitError::Config { name: "dim", value: self.dim.to_string(), expected: "1 to 4096" });
        }
        if !(self.margin > 0.0 && self.margin < 2.0) {
            let expected = "a difference of cosines above 0 and below 2";
            return Err(FitError::Config { name: "margin", value: self.margin.to_string(), expected });
        }
        crate::hashing::above_zero("sharpness", self.attention.sharpness)?;
        match self.attention.pooling {
            Pooling::Mean => Ok(()),
            Pooling::LogSumExp(lambda) => crate::hashing::above_zero("lambda of the pooling", lambda),
        }
    }
}

/// Maps of regions and of words, and how they look at each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    attention: Attention,
    /// A weight `[dim, d]` and a bias `[1, dim]` of regions, then of words.
    maps: Vec<Array<f32>>,
}

impl Scan {
    /// Learns from pictures and their texts. A seventh of the pictures is set aside, and the epoch after which these and their texts find each other best (mean
    /// reciprocal rank, both directions) is kept; with fewer than 50 pictures all epochs are run.
    ///
    /// # Errors
    /// Those of the head of this file.
    pub fn fit(config: &ScanConfig, data: &Captioned<'_>, run: &Run<'_>) -> Result<Scan, FitError> {
        config.check()?;
        let views = [data.pictures(), data.texts()];
        if views.iter().any(|sets| sets.n() == 0) {
            return Err(FitError::TooFewRows { got: 0, least: 2, what: "to learn from".to_owned() });
        }
        let (mut standards, mut sets, mut start) = (Vec::new(), Vec::new(), Vec::new());
        let mut rng = ChaCha8Rng::seed_from_u64(run.seed ^ 0x5CA4);
        for (view, of) in views.into_iter().enumerate() {
            let weight = match config.start {
                Start::Drawn => {
                    let standard = Standard::of(of.rows(), view)?;
                    sets.push(PartSets::of(standard.apply(of.rows()), of.lengths().to_vec()));
                    standards.push(standard);
                    learn::weight(config.dim, of.dim(), &mut rng)
                }
                Start::InSpace => {
                    of.expect_dim(view, config.dim).map_err(SetError::from)?;
                    sets.push(of.clone());
                    Array::from_fn(config.dim, config.dim, |i, j| f32::from(u8::from(i == j)))
                }
            };
            start.extend([weight, Array::zeros(1, config.dim)]);
        }
        let sets = <[PartSets; 2]>::try_from(sets).expect("those of both views");
        let described = data.described();
        let groups: Vec<u32> = described.iter().map(|(picture, _)| *picture as u32).collect();
        let lesson = Pictures { config, sets, described };
        let mut maps = learn::learn(start, &config.course(), &groups, &lesson, run)?;
        for (pair, standard) in maps.chunks_exact_mut(2).zip(standards) {
            let [weight, bias] = pair else { continue };
            standard.fold(weight, bias);
        }
        Ok(Scan { attention: config.attention, maps })
    }

    /// The score of every picture with every text, `[n_pictures * n_texts]`, the texts of a picture one after another; greater is closer.
    ///
    /// # Errors
    /// [`ProjectError::Dimension`].
    pub fn scores(&self, pictures: &PartSets, texts: &PartSets) -> Result<Vec<f32>, ProjectError> {
        self.expect(pictures, texts)?;
        Ok(score(&self.maps, &self.attention, [pictures, texts]).into_data())
    }

    /// The `k` closest pictures of each text, the closest first; equal ones by their numbers.
    ///
    /// # Errors
    /// [`ProjectError::Dimension`].
    pub fn rank_pictures(&self, pictures: &PartSets, texts: &PartSets, k: usize) -> Result<Vec<Vec<u32>>, ProjectError> {
        let scores = Array::new(pictures.n(), texts.n(), self.scores(pictures, texts)?).transposed();
        Ok((0..texts.n()).map(|t| nearest(scores.row(t), k)).collect())
    }

    /// The `k` closest texts of each picture, the closest first; equal ones by their numbers.
    ///
    /// # Errors
    /// [`ProjectError::Dimension`].
    pub fn rank_texts(&self, pictures: &PartSets, texts: &PartSets, k: usize) -> Result<Vec<Vec<u32>>, ProjectError> {
        let scores = Array::new(pictures.n(), texts.n(), self.scores(pictures, texts)?);
        Ok((0..pictures.n()).map(|p| nearest(scores.row(p), k)).collect())
    }
}

impl Scan {
    /// The scores of pairs of a text and a picture, by their numbers, as [`Scan::scores`] gives them for all.
    pub(super) fn of_pairs(
        &self,
        pictures: &PartSets,
        texts: &PartSets,
        pairs: &[(usize, usize)],
    ) -> Result<Vec<f32>, ProjectError> {
        self.expect(pictures, texts)?;
        // All that stand with one text are scored together; a search asks for one text, or for one picture.
        let mut of_text: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        pairs.iter().enumerate().for_each(|(at, (text, _))| of_text.entry(*text).or_default().push(at));
        let mut scores = vec![0.0; pairs.len()];
        for (text, places) in of_text {
            let picked = pictures.pick(&places.iter().map(|at| pairs[*at].1).collect::<Vec<_>>());
            let found = score(&self.maps, &self.attention, [&picked, &texts.pick(&[text])]);
            places.iter().zip(found.data()).for_each(|(at, score)| scores[*at] = *score);
        }
        Ok(scores)
    }

    /// All that it learned.
    pub(super) fn parameters(&self) -> &[Array<f32>] {
        &self.maps
    }

    /// One that learned this.
    pub(super) fn of_parameters(attention: Attention, maps: Vec<Array<f32>>) -> Result<Scan, String> {
        let [of_regions, bias_of_regions, of_words, bias_of_words] = maps.as_slice() else {
            return Err(format!("it has {} maps, expected a weight and a bias of regions and of words", maps.len()));
        };
        let dim = of_regions.n_rows();
        if of_words.n_rows() != dim || [bias_of_regions, bias_of_words].iter().any(|bias| bias.shape() != [1, dim]) {
            return Err("its maps do not lead to one space".to_owned());
        }
        Ok(Scan { attention, maps })
    }

    /// Numbers of a region, and of a word.
    pub(super) fn part_dims(&self) -> [usize; 2] {
        [self.maps[0].n_cols(), self.maps[2].n_cols()]
    }

    /// That these are parts it takes.
    pub(super) fn expect(&self, pictures: &PartSets, texts: &PartSets) -> Result<(), ProjectError> {
        pictures.expect_dim(0, self.maps[0].n_cols())?;
        texts.expect_dim(1, self.maps[2].n_cols())
    }

    /// Weight `[dim, d]` and bias `[1, dim]` of regions, and of words.
    pub(super) fn maps(&self) -> [(&Array<f32>, &Array<f32>); 2] {
        [(&self.maps[0], &self.maps[1]), (&self.maps[2], &self.maps[3])]
    }
}

/// The places of the `k` greatest numbers, the greatest first.
pub(super) fn nearest(scores: &[f32], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
    order.truncate(k);
    order
}

/// What is learned from: pictures that have texts.
struct Pictures<'a> {
    config: &'a ScanConfig,
    /// Regions and words at the scale of the maps.
    sets: [PartSets; 2],
    described: Vec<(usize, Vec<usize>)>,
}

impl Lesson for Pictures<'_> {
    fn start_counts(&self) -> bool {
        self.config.start == Start::InSpace
    }

    fn loss<'t>(&self, tape: &'t Tape<f32>, p: &[Var<'t, f32>], batch: &Batch<'_>, _rng: &mut ChaCha8Rng) -> Var<'t, f32> {
        let described = batch.items.iter().map(|item| &self.described[*item]);
        // Of several texts another one in each epoch.
        let (pictures, texts): (Vec<usize>, Vec<usize>) =
            described.map(|(picture, texts)| (*picture, texts[batch.epoch % texts.len()])).unzip();
        let sets = [self.sets[0].pick(&pictures), self.sets[1].pick(&texts)];
        let parts = [0, 1].map(|v| tape.constant(sets[v].rows().clone()).linear(p[2 * v], Some(p[2 * v + 1])).unit_rows());
        let scores = pair_scores(parts, [sets[0].lengths(), sets[1].lengths()], &self.config.attention);
        let all = (batch.epoch as f64) < ALL_FIRST * self.config.max_epochs as f64;
        hinge(scores, self.config.margin, !all)
    }

    fn tell(&self, key: &mut Key) {
        key.words(&format!("{:?} {:?}", self.config, self.described));
        self.sets.iter().for_each(|sets| sets.tell(key));
    }

    fn figure(&self, p: &[Array<f32>], aside: &[usize]) -> f64 {
        let pictures: Vec<usize> = aside.iter().map(|item| self.described[*item].0).collect();
        let of: Vec<(usize, usize)> = aside
            .iter()
            .enumerate()
            .flat_map(|(at, item)| self.described[*item].1.iter().map(move |text| (at, *text)))
            .collect();
        let texts: Vec<usize> = of.iter().map(|(_, text)| *text).collect();
        let sets = [self.sets[0].pick(&pictures), self.sets[1].pick(&texts)];
        let scores = score(p, &self.config.attention, [&sets[0], &sets[1]]);
        let right = |picture: usize, text: usize| of[text].0 == picture;
        (mean_reciprocal_rank(&scores, right) + mean_reciprocal_rank(&scores.transposed(), |t, p| right(p, t))) / 2.0
    }
}

/// Scores of all pairs by these maps, `[n_pictures, n_texts]`, tile by tile.
fn score(maps: &[Array<f32>], attention: &Attention, sets: [&PartSets; 2]) -> Array<f32> {
    let mapped = [0, 1].map(|v| {
        let tape = Tape::new();
        let [x, weight, bias] = [sets[v].rows(), &maps[2 * v], &maps[2 * v + 1]].map(|a| tape.constant(a.clone()));
        let rows = x.linear(weight, Some(bias)).unit_rows().value();
        PartSets::of(Array::clone(&rows), sets[v].lengths().to_vec())
    });
    let [n, m] = [sets[0].n(), sets[1].n()];
    let mut out = Array::zeros(n, m);
    let tiles = |sets: &PartSets| -> Vec<(usize, PartSets)> {
        let all: Vec<usize> = (0..sets.n()).collect();
        all.chunks(TILE).map(|part| (part[0], sets.pick(part))).collect()
    };
    let of_texts = tiles(&mapped[1]);
    for (first_row, pictures) in tiles(&mapped[0]) {
        for (first_col, texts) in &of_texts {
            let tape = Tape::new();
            let parts = [pictures.rows(), texts.rows()].map(|rows| tape.constant(rows.clone()));
            let tile = pair_scores(parts, [pictures.lengths(), texts.lengths()], attention).value();
            for i in 0..tile.n_rows() {
                out.row_mut(first_row + i)[*first_col..first_col + tile.n_cols()].copy_from_slice(tile.row(i));
            }
        }
    }
    out
}

/// The scores of all pictures with all texts, `[n_pictures, n_texts]`, of regions and words at unit length, `[sum of lengths, dim]` both.
pub(super) fn pair_scores<'t, T: Real>(parts: [Var<'t, T>; 2], lengths: [&[usize]; 2], attention: &Attention) -> Var<'t, T> {
    let [regions, words] = parts;
    match attention.direction {
        Direction::TextToImage => asked(words, regions, [lengths[1], lengths[0]], attention).transposed(),
        Direction::ImageToText => asked(regions, words, lengths, attention),
    }
}

/// The scores of all sets that ask with all that answer, `[n_asking, n_answering]`.
fn asked<'t, T: Real>(asking: Var<'t, T>, answering: Var<'t, T>, lengths: [&[usize]; 2], attention: &Attention) -> Var<'t, T> {
    let s = asking.dot_rows(answering);
    let (cosines, answers) = (s.value(), answering.value());
    let blocks = Blocks::new(lengths, attention);
    let value = blocks.forward(&cosines, &answers);
    let places = [s.place(), answering.place()];
    s.tape().custom(&[s, answering], value, move |d, sink| {
        let gradients = blocks.backward(&cosines, &answers, &d);
        places.into_iter().zip(gradients).for_each(|(place, gradient)| sink.add(place, || gradient));
    })
}

/// All pairs of sets, each a block of the matrix of cosines.
struct Blocks<T> {
    /// Counts of parts, and where they begin, of what asks and of what answers.
    lengths: [Arc<[usize]>; 2],
    firsts: [Vec<usize>; 2],
    sharpness: T,
    /// `lambda2`; the mean where none.
    lambda: Option<T>,
}

/// What one pair comes to.
struct Looked<T> {
    score: T,
    /// Attention, `[n_asking, n_answering]`.
    alpha: Array<T>,
    /// Cosines of unit length over what asks, and the lengths they had.
    z: Array<T>,
    z_lengths: Vec<T>,
    /// `G alpha_j` of each that asks, `[n_asking, n_answering]`.
    g_alpha: Array<T>,
    /// The length of what was found.
    found: Vec<T>,
    /// The closeness of each that asks.
    r: Vec<T>,
}

impl<T: Real> Blocks<T> {
    fn new(lengths: [&[usize]; 2], attention: &Attention) -> Self {
        let lambda = match attention.pooling {
            Pooling::Mean => None,
            Pooling::LogSumExp(lambda) => Some(T::of(lambda)),
        };
        Self { lengths: lengths.map(Arc::from), firsts: lengths.map(starts), sharpness: T::of(attention.sharpness), lambda }
    }

    /// The cosines of one pair, `[n_asking, n_answering]`.
    fn block(&self, s: &Array<T>, a: usize, b: usize) -> Array<T> {
        let [(i, n), (j, m)] = [(0, a), (1, b)].map(|(side, at)| (self.firsts[side][at], self.lengths[side][at]));
        Array::new(n, m, (i..i + n).flat_map(|i| &s.row(i)[j..j + m]).copied().collect())
    }

    /// Products of all answering parts of one set with one another.
    fn gram(&self, answers: &Array<T>, b: usize) -> Array<T> {
        let (first, m) = (self.firsts[1][b], self.lengths[1][b]);
        Array::from_fn(m, m, |i, j| dot(answers.row(first + i), answers.row(first + j)))
    }

    fn forward(&self, s: &Array<T>, answers: &Array<T>) -> Array<T> {
        let [n, m] = [self.lengths[0].len(), self.lengths[1].len()];
        let column = |b: usize| -> Vec<T> {
            let gram = self.gram(answers, b);
            (0..n).map(|a| self.look(&self.block(s, a, b), &gram).score).collect()
        };
        let columns: Vec<Vec<T>> = (0..m).into_par_iter().map(column).collect();
        Array::from_fn(n, m, |a, b| columns[b][a])
    }

    fn look(&self, s: &Array<T>, gram: &Array<T>) -> Looked<T> {
        let [n, m] = s.shape();
        let mut z = s.clone();
        z.change(|s| if s > T::default() { s } else { T::of(SLOPE) * s });
        let z_lengths: Vec<T> = (0..m).map(|j| at_least((0..n).map(|i| z.at(i, j) * z.at(i, j)).sum::<T>().root())).collect();
        let z = Array::from_fn(n, m, |i, j| z.at(i, j) / z_lengths[j]);
        let mut alpha = z.clone();
        let mut g_alpha = Array::zeros(n, m);
        let (mut found, mut r) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for i in 0..n {
            let row = alpha.row_mut(i);
            row.iter_mut().for_each(|x| *x *= self.sharpness);
            soften(row);
            (0..m).for_each(|j| g_alpha.row_mut(i)[j] = dot(gram.row(j), row));
            let square = dot(row, g_alpha.row(i));
            // Rounding may leave a square of almost nothing below 0.
            let length = at_least(if square > T::default() { square.root() } else { T::default() });
            r.push(dot(row, s.row(i)) / length);
            found.push(length);
        }
        let score = match self.lambda {
            None => r.iter().copied().sum::<T>() * T::of(1.0 / n as f64),
            Some(lambda) => {
                let most = greatest(&r);
                let sum: T = r.iter().map(|r| (lambda * (*r - most)).exponential()).sum();
                most + sum.logarithm() / lambda
            }
        };
        Looked { score, alpha, z, z_lengths, g_alpha, found, r }
    }

    /// Gradients by the cosines, and by the answering parts through their products with one another.
    fn backward(&self, s: &Array<T>, answers: &Array<T>, d: &Array<T>) -> [Array<T>; 2] {
        let [n, m] = [self.lengths[0].len(), self.lengths[1].len()];
        let column = |b: usize| -> (Vec<Array<T>>, Array<T>) {
            let gram = self.gram(answers, b);
            let mut d_gram = Array::zeros(gram.n_rows(), gram.n_cols());
            let d_blocks = (0..n).map(|a| self.back(&self.block(s, a, b), &gram, d.at(a, b), &mut d_gram)).collect();
            (d_blocks, d_gram)
        };
        let columns: Vec<_> = (0..m).into_par_iter().map(column).collect();
        let mut d_s = Array::zeros(s.n_rows(), s.n_cols());
        let mut d_answers = Array::zeros(answers.n_rows(), answers.n_cols());
        for (b, (d_blocks, d_gram)) in columns.iter().enumerate() {
            let first = self.firsts[1][b];
            for (a, block) in d_blocks.iter().enumerate() {
                for i in 0..block.n_rows() {
                    d_s.row_mut(self.firsts[0][a] + i)[first..first + block.n_cols()].copy_from_slice(block.row(i));
                }
            }
            // `d_gram` is symmetric, and each part stands on both sides of a product.
            for i in 0..d_gram.n_rows() {
                for j in 0..d_gram.n_cols() {
                    let by = T::of(2.0) * d_gram.at(i, j);
                    d_answers.row_mut(first + i).iter_mut().zip(answers.row(first + j)).for_each(|(d, x)| *d += by * *x);
                }
            }
        }
        [d_s, d_answers]
    }

    /// The gradient by the cosines of one pair whose score has gradient `d`; adds that by `gram`.
    fn back(&self, s: &Array<T>, gram: &Array<T>, d: T, d_gram: &mut Array<T>) -> Array<T> {
        let [n, m] = s.shape();
        let mut d_s = Array::zeros(n, m);
        if d == T::default() {
            return d_s;
        }
        let looked = self.look(s, gram);
        let shares: Vec<T> = match self.lambda {
            None => vec![T::of(1.0 / n as f64); n],
            Some(lambda) => {
                let mut shares: Vec<T> = looked.r.iter().map(|r| lambda * *r).collect();
                soften(&mut shares);
                shares
            }
        };
        let mut d_z = Array::zeros(n, m);
        for i in 0..n {
            let (alpha, length) = (looked.alpha.row(i), looked.found[i]);
            let by_product = d * shares[i] / length;
            // Of the square of the length; none where the length is held at its least.
            let is_free = length > T::of(LEAST_LENGTH);
            let by_square = if is_free { T::of(-0.5) * by_product * looked.r[i] / length } else { T::default() };
            let d_alpha: Vec<T> =
                (0..m).map(|j| by_product * s.at(i, j) + T::of(2.0) * by_square * looked.g_alpha.at(i, j)).collect();
            for (j, alpha_j) in alpha.iter().enumerate() {
                let by = by_square * *alpha_j;
                d_gram.row_mut(j).iter_mut().zip(alpha).for_each(|(d, alpha)| *d += by * *alpha);
            }
            let along = dot(&d_alpha, alpha);
            for j in 0..m {
                d_z.row_mut(i)[j] = self.sharpness * alpha[j] * (d_alpha[j] - along);
                d_s.row_mut(i)[j] = by_product * alpha[j];
            }
        }
        for j in 0..m {
            let along: T = (0..n).map(|i| d_z.at(i, j) * looked.z.at(i, j)).sum();
            for i in 0..n {
                let slope = if s.at(i, j) > T::default() { T::of(1.0) } else { T::of(SLOPE) };
                d_s.row_mut(i)[j] += slope * (d_z.at(i, j) - looked.z.at(i, j) * along) / looked.z_lengths[j];
            }
        }
        d_s
    }
}

/// The mean over a batch of the hinges of both directions, `[1, 1]`, of scores `[n, n]` whose diagonal is right: of the hardest negative, or the sum over all.
pub(super) fn hinge<T: Real>(scores: Var<'_, T>, margin: f64, hardest: bool) -> Var<'_, T> {
    let s = scores.value();
    let n = s.n_rows();
    let mut d = Array::zeros(n, n);
    let (mut value, share) = (0.0, 1.0 / n as f64);
    for i in 0..n {
        for along_row in [true, false] {
            let place = |j: usize| if along_row { (i, j) } else { (j, i) };
            let height = |j: &usize| {
                let (a, b) = place(*j);
                margin - s.at(i, i).wide() + s.at(a, b).wide()
            };
            let mut wrong: Vec<usize> = (0..n).filter(|j| *j != i && height(j) > 0.0).collect();
            if hardest {
                wrong = wrong.into_iter().max_by(|a, b| height(a).total_cmp(&height(b)).then(b.cmp(a))).into_iter().collect();
            }
            for j in wrong {
                value += height(&j) * share;
                let (a, b) = place(j);
                d.row_mut(a)[b] += T::of(share);
                d.row_mut(i)[i] += T::of(-share);
            }
        }
    }
    let to = scores.place();
    scores.tape().custom(&[scores], Array::scalar(T::of(value)), move |by, sink| {
        sink.add(to, || {
            let mut d = d;
            d.change(|d| by.only() * d);
            d
        });
    })
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

fn at_least<T: Real>(length: T) -> T {
    if length > T::of(LEAST_LENGTH) { length } else { T::of(LEAST_LENGTH) }
}

fn greatest<T: Real>(of: &[T]) -> T {
    of.iter().copied().fold(of[0], |most, x| if x > most { x } else { most })
}

/// Numbers to probabilities.
fn soften<T: Real>(row: &mut [T]) {
    let most = greatest(row);
    row.iter_mut().for_each(|x| *x = (*x - most).exponential());
    let by = T::of(1.0) / row.iter().copied().sum::<T>();
    row.iter_mut().for_each(|x| *x *= by);
}
