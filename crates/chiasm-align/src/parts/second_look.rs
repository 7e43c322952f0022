//! A second look: the first of what a bridge of single vectors found, put in order anew by their parts.
//!
//! # Reference
//! The two ways of looking are [`super::scan`] (Lee et al. 2018) and [`super::reranker`] (Chen et al. 2020); that a cheap model finds and a costly one orders what was
//! found is usual for both, see J. Li et al., ALBEF, NeurIPS 2021, section 4. Adding the score of the first to that of the second is late fusion.
//!
//! # Model
//! score = (1 - share) whole + share parts, greater is closer.
//!
//! | | code | unit, range |
//! | --- | --- | --- |
//! | whole | | the cosine of picture and text in the space of the bridge |
//! | parts | [`Look::closeness`] | -1 to 1: the mean of both directions of SCAN, or tanh(s / 2) of a cross-encoder's score s, twice its probability less one |
//! | share | `share` | 0, the bridge alone, to 1 |
//!
//! A share is chosen by pictures that neither the bridge nor what looks has seen ([`Standing`]): on those that a bridge was fitted on, the bridge seems to need no second look.
//!
//! # Errors
//! Those of the two; scoring: [`SetError`].

use chiasm_core::MatrixView;
use chiasm_nn::grad::Array;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::reranker::{Reranker, RerankerConfig};
use super::scan::{Attention, Direction, Pooling, Scan, ScanConfig, Start, nearest};
use super::sets::{Captioned, PartSets, SetError};
use crate::fit::{FitError, Run};

/// Coordinates of SCAN where parts do not stand in a space already.
const DIM: usize = 256;
/// Pictures that the bridge finds closest to a text, from which a cross-encoder's wrong ones are drawn.
const CLOSE: usize = 20;

/// What looks at parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stacked cross attention, in both directions.
    Scan,
    /// A transformer over the parts of both.
    CrossEncoder,
}

impl Kind {
    /// Their names.
    pub const NAMES: [&str; 2] = ["scan", "cross-encoder"];

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::Scan, Kind::CrossEncoder].into_iter().find(|kind| kind.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Scan => Kind::NAMES[0],
            Kind::CrossEncoder => Kind::NAMES[1],
        }
    }
}

/// What has learned to look at parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// Words ask, then regions.
    Scan(Box<[Scan; 2]>),
    /// Words and regions together.
    CrossEncoder(Reranker),
}

/// A tensor of a file: its name, columns, and rows.
pub type Tensor = (String, usize, Vec<f32>);

/// Both directions, with the paper's numbers for Flickr30K.
const ATTENTIONS: [Attention; 2] = [
    Attention { direction: Direction::TextToImage, sharpness: 9.0, pooling: Pooling::Mean },
    Attention { direction: Direction::ImageToText, sharpness: 4.0, pooling: Pooling::Mean },
];

impl Look {
    /// Learns from pictures and their texts. `wholes` are the same in the space of the bridge, pictures and texts, `[n, dim]`; `start` says whether parts stand there too.
    ///
    /// # Errors
    /// Those of [`Scan::fit`] and [`Reranker::fit`].
    pub fn fit(
        kind: Kind,
        start: Start,
        data: &Captioned<'_>,
        wholes: [MatrixView<'_>; 2],
        run: &Run<'_>,
    ) -> Result<Look, FitError> {
        // What begins in the space is near where it should be, and is not to be thrown out of it.
        let (dim, learning_rate) = match start {
            Start::Drawn => (DIM, 1e-3),
            Start::InSpace => (data.texts().dim(), 2e-4),
        };
        let of = |attention| ScanConfig { start, attention, dim, learning_rate, batch: 64, ..ScanConfig::default() };
        let words_ask = Scan::fit(&of(ATTENTIONS[0]), data, run)?;
        match kind {
            Kind::Scan => Ok(Look::Scan(Box::new([words_ask, Scan::fit(&of(ATTENTIONS[1]), data, run)?]))),
            Kind::CrossEncoder => {
                let list = |text: usize| nearest(&cosines(wholes[1].row(text), wholes[0]), CLOSE);
                let lists: Vec<Vec<u32>> = (0..data.texts().n()).map(list).collect();
                Ok(Look::CrossEncoder(Reranker::fit(&RerankerConfig::default(), data, &lists, &words_ask, run)?))
            }
        }
    }

    /// How close the parts of pairs of a text and a picture are, by their numbers; -1 to 1.
    ///
    /// # Errors
    /// [`SetError::Project`].
    ///
    /// # Panics
    /// If there is no such text or picture.
    pub fn closeness(&self, pictures: &PartSets, texts: &PartSets, pairs: &[(usize, usize)]) -> Result<Vec<f32>, SetError> {
        match self {
            Look::Scan(both) => {
                let of = [both[0].of_pairs(pictures, texts, pairs)?, both[1].of_pairs(pictures, texts, pairs)?];
                Ok(of[0].iter().zip(&of[1]).map(|(a, b)| (a + b) / 2.0).collect())
            }
            Look::CrossEncoder(reranker) => {
                Ok(reranker.scores(pictures, texts, pairs)?.into_iter().map(|score| (score / 2.0).tanh()).collect())
            }
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Look::Scan(_) => Kind::Scan,
            Look::CrossEncoder(_) => Kind::CrossEncoder,
        }
    }

    /// All that it learned; [`Look::from_tensors`] makes it again.
    pub fn to_tensors(&self) -> Vec<Tensor> {
        let named = |(at, of): (usize, &Array<f32>)| (format!("look.{at:03}"), of.n_cols(), of.data().to_vec());
        match self {
            Look::Scan(both) => both.iter().flat_map(Scan::parameters).enumerate().map(named).collect(),
            Look::CrossEncoder(reranker) => reranker.parameters().iter().enumerate().map(named).collect(),
        }
    }

    /// What [`Look::to_tensors`] gave.
    ///
    /// # Errors
    /// What is wrong with them: another count, other shapes, numbers that are not finite.
    pub fn from_tensors(kind: Kind, tensors: Vec<Tensor>) -> Result<Look, String> {
        let array = |(name, columns, numbers): Tensor| {
            if columns == 0 || numbers.is_empty() || !numbers.len().is_multiple_of(columns) {
                return Err(format!("its tensor `{name}` has {} numbers in rows of {columns}", numbers.len()));
            }
            if numbers.iter().any(|x| !x.is_finite()) {
                return Err(format!("its tensor `{name}` has numbers that are not finite"));
            }
            Ok(Array::new(numbers.len() / columns, columns, numbers))
        };
        let mut arrays = tensors.into_iter().map(array).collect::<Result<Vec<_>, _>>()?;
        match kind {
            Kind::Scan => {
                let of_second = arrays.split_off(arrays.len() / 2);
                let [of_words, of_regions] = ATTENTIONS;
                let both = [Scan::of_parameters(of_words, arrays)?, Scan::of_parameters(of_regions, of_second)?];
                Ok(Look::Scan(Box::new(both)))
            }
            Kind::CrossEncoder => Ok(Look::CrossEncoder(Reranker::of_parameters(&RerankerConfig::default(), arrays)?)),
        }
    }

    /// Numbers of a part of a picture, and of a text.
    pub fn part_dims(&self) -> [usize; 2] {
        match self {
            Look::Scan(both) => both[0].part_dims(),
            Look::CrossEncoder(reranker) => reranker.part_dims(),
        }
    }
}

/// For each of `n` pictures the fold that it is left out of, as many in each as can be.
pub fn deal(n: usize, folds: usize, seed: u64) -> Vec<usize> {
    let mut dealt: Vec<usize> = (0..n).map(|at| at % folds.max(1)).collect();
    dealt.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    dealt
}

/// `(1 - share) whole + share parts`.
pub fn mixed(whole: f32, parts: f32, share: f32) -> f32 {
    (1.0 - share) * whole + share * parts
}

/// The cosine of a row with each of some rows; 0 with one of nothing.
pub fn cosines(row: &[f32], with: MatrixView<'_>) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let own = dot(row, row);
    (0..with.n())
        .map(|i| {
            let other = with.row(i);
            let lengths = (own * dot(other, other)).sqrt();
            if lengths > 0.0 { (dot(row, other) / lengths) as f32 } else { 0.0 }
        })
        .collect()
}

/// Shares of queries with a right answer first, among five, and among ten: of texts that ask for pictures, and of pictures that ask for texts.
pub type Found = [[f64; 3]; 2];

/// What pictures and texts that nothing was learned from find of each other with several shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// For each share.
    pub found: Vec<Found>,
    /// Texts, and pictures, that asked.
    pub n_queries: [usize; 2],
    /// For each share and picture the mean of what it and its texts find, 0 to 1, all cuts and both directions counting alike.
    pub by_picture: Vec<Vec<f64>>,
}

impl Standing {
    /// Lets all pictures and texts ask for each other: `n_top` of the bridge's order are put in order anew with each of the shares.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn of(
        look: &Look,
        data: &Captioned<'_>,
        wholes: [MatrixView<'_>; 2],
        n_top: usize,
        shares: &[f32],
    ) -> Result<Self, SetError> {
        let [pictures, texts] = wholes;
        let described = data.described();
        let mut found = vec![[[0.0; 3]; 2]; shares.len()];
        let mut by_picture = vec![vec![0.0; pictures.n()]; shares.len()];
        let n_texts: Vec<usize> = {
            let mut n_texts = vec![0; pictures.n()];
            data.picture_of().iter().for_each(|picture| n_texts[*picture as usize] += 1);
            n_texts
        };
        let mut ask = |side: usize,
                       picture: usize,
                       whole: &[f32],
                       pair: &dyn Fn(usize) -> (usize, usize),
                       right: &dyn Fn(usize) -> bool| {
            let mut order: Vec<usize> = nearest(whole, whole.len()).into_iter().map(|at| at as usize).collect();
            let head = order[..n_top.min(order.len())].to_vec();
            let pairs: Vec<(usize, usize)> = head.iter().map(|at| pair(*at)).collect();
            let parts = look.closeness(data.pictures(), data.texts(), &pairs)?;
            let weight = if side == 0 { 1.0 / n_texts[picture] as f64 } else { 1.0 } / 6.0;
            for ((share, found), by_picture) in shares.iter().zip(&mut found).zip(&mut by_picture) {
                let scores: Vec<f32> = head.iter().zip(&parts).map(|(at, parts)| mixed(whole[*at], *parts, *share)).collect();
                let again = nearest(&scores, head.len());
                order.iter_mut().zip(again).for_each(|(to, at)| *to = head[at as usize]);
                let first = order.iter().position(|at| right(*at)).unwrap_or(order.len());
                for (found, k) in found[side].iter_mut().zip([1, 5, 10]) {
                    let hit = f64::from(u8::from(first < k));
                    *found += hit;
                    by_picture[picture] += weight * hit;
                }
            }
            Ok::<(), SetError>(())
        };
        for (text, own) in data.picture_of().iter().enumerate() {
            let whole = cosines(texts.row(text), pictures);
            ask(0, *own as usize, &whole, &|picture| (text, picture), &|picture| picture == *own as usize)?;
        }
        for (picture, own) in &described {
            let whole = cosines(pictures.row(*picture), texts);
            ask(1, *picture, &whole, &|text| (text, *picture), &|text| own.contains(&text))?;
        }
        let n_queries = [data.picture_of().len(), described.len()];
        for of_share in &mut found {
            for (of_side, n) in of_share.iter_mut().zip(n_queries) {
                of_side.iter_mut().for_each(|sum| *sum /= n.max(1) as f64);
            }
        }
        // Pictures without texts neither ask nor are asked for.
        let asked: Vec<usize> = described.iter().map(|(picture, _)| *picture).collect();
        let by_picture = by_picture.into_iter().map(|of| asked.iter().map(|picture| of[*picture]).collect()).collect();
        Ok(Self { found, n_queries, by_picture })
    }

    /// By how much more is found with one share than with another, the mean over pictures, and its standard error.
    ///
    /// # Panics
    /// If there are no such shares.
    pub fn gain(&self, share: usize, over: usize) -> [f64; 2] {
        let differences: Vec<f64> = self.by_picture[share].iter().zip(&self.by_picture[over]).map(|(a, b)| a - b).collect();
        let n = differences.len().max(2) as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
        [mean, (variance / n).sqrt()]
    }

    /// Those of several parts of what was left out together, each query counting once.
    ///
    /// # Panics
    /// If they are of different shares.
    pub fn pool(parts: &[Standing]) -> Standing {
        let n_shares = parts.first().map_or(0, |part| part.found.len());
        let n_queries = [0, 1].map(|side| parts.iter().map(|part| part.n_queries[side]).sum::<usize>());
        let pooled = |share: usize, side: usize, k: usize| {
            let sum: f64 = parts.iter().map(|part| part.found[share][side][k] * part.n_queries[side] as f64).sum();
            sum / n_queries[side].max(1) as f64
        };
        let found = (0..n_shares).map(|share| [0, 1].map(|side| [0, 1, 2].map(|k| pooled(share, side, k)))).collect();
        let by_picture = (0..n_shares).map(|share| parts.iter().flat_map(|part| &part.by_picture[share]).copied().collect());
        Standing { found, n_queries, by_picture: by_picture.collect() }
    }
}

/// The mean of all six figures.
pub fn mean(found: &Found) -> f64 {
    found.iter().flatten().sum::<f64>() / 6.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiasm_core::{Cancel, NoProgress};

    /// Eight pictures of two regions; the first says which picture it is, weakly, the second likewise but of the next one. Wholes are the means, which cannot tell a
    /// picture from its neighbour; texts are the first region alone.
    fn world() -> (PartSets, PartSets, Vec<u32>) {
        let one_of = |i: usize| (0..8).map(move |j| if i == j { 1.0 } else { 0.05 });
        let regions: Vec<f32> = (0..8).flat_map(|i| one_of(i).chain(one_of((i + 1) % 8))).collect();
        let words: Vec<f32> = (0..8).flat_map(|i| one_of(i).chain(one_of((i + 1) % 8))).collect();
        (PartSets::new(regions, 8, vec![2; 8]).unwrap(), PartSets::new(words, 8, vec![2; 8]).unwrap(), (0..8).collect())
    }

    fn fitted(kind: Kind) -> (Look, PartSets, PartSets, Vec<u32>) {
        let (pictures, texts, picture_of) = world();
        let data = Captioned::new(&pictures, &texts, &picture_of).unwrap();
        let (p, t) = (pictures.means(), texts.means());
        let wholes = [&p, &t].map(|x| MatrixView::new(x, 8).unwrap());
        let run = Run { seed: 3, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
        (Look::fit(kind, Start::InSpace, &data, wholes, &run).unwrap(), pictures, texts, picture_of)
    }

    #[test]
    fn what_is_kept_as_tensors_looks_the_same() {
        for name in Kind::NAMES {
            let kind = Kind::from_name(name).unwrap();
            let (look, pictures, texts, _) = fitted(kind);
            let pairs = [(0, 0), (3, 2), (7, 7), (3, 5)];
            let closeness = look.closeness(&pictures, &texts, &pairs).unwrap();
            assert!(closeness.iter().all(|x| x.abs() <= 1.0 + 1e-6), "{closeness:?}");
            assert_eq!(look.part_dims(), [8, 8]);
            let again = Look::from_tensors(kind, look.to_tensors()).unwrap();
            assert_eq!(again, look);
            assert_eq!(again.closeness(&pictures, &texts, &pairs).unwrap(), closeness);
            let mut fewer = look.to_tensors();
            fewer.pop();
            assert!(Look::from_tensors(kind, fewer).is_err(), "{name}: a tensor less");
            for (change, what) in [(0_usize, "NaN"), (1, "another shape")] {
                let mut wrong = look.to_tensors();
                if change == 0 {
                    wrong[0].2[0] = f32::NAN
                } else {
                    wrong[0].2.truncate(8)
                }
                assert!(Look::from_tensors(kind, wrong).is_err(), "{name}: {what}");
            }
        }
        assert!(Kind::from_name("nobody").is_none());
    }

    #[test]
    fn of_no_share_the_order_is_the_bridges() {
        let (look, pictures, texts, picture_of) = fitted(Kind::Scan);
        let data = Captioned::new(&pictures, &texts, &picture_of).unwrap();
        // A bridge that knows nothing: all cosines are 1, and equal ones stand by their numbers.
        let blind = vec![1.0; 8];
        let blind = [MatrixView::new(&blind, 1).unwrap(); 2];
        let standing = Standing::of(&look, &data, blind, 8, &[0.0, 1.0]).unwrap();
        assert_eq!(standing.n_queries, [8, 8]);
        assert_eq!(standing.found[0], [[1.0 / 8.0, 5.0 / 8.0, 1.0]; 2]);
        // Parts tell a picture from its neighbours, where all are looked at; of two, only the first two can be told apart.
        assert_eq!(standing.found[1], [[1.0, 1.0, 1.0]; 2]);
        let of_two = Standing::of(&look, &data, blind, 2, &[1.0]).unwrap();
        assert_eq!(of_two.found[0][0], [2.0 / 8.0, 5.0 / 8.0, 1.0]);
        let pooled = Standing::pool(&[of_two.clone(), of_two.clone()]);
        assert_eq!((pooled.found.clone(), pooled.n_queries), (of_two.found, [16, 16]));
        assert_eq!(pooled.by_picture[0].len(), 16);
        // All pictures together gain what the figures say, and the error is that of their spread.
        let [gain, error] = standing.gain(1, 0);
        assert!((gain - (mean(&standing.found[1]) - mean(&standing.found[0]))).abs() < 1e-12, "{gain}");
        assert!(error > 0.05 && error < gain, "{error}");
        assert_eq!(standing.gain(1, 1), [0.0, 0.0]);
        assert!((mean(&standing.found[1]) - 1.0).abs() < 1e-12);
    }
}
