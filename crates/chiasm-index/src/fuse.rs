//! Late fusion: several ranked lists of the same question become one.
//!
//! # Reference
//! E. A. Fox, J. A. Shaw, "Combination of Multiple Searches", TREC-2, 1993 (CombSUM, CombMNZ); J. A. Aslam, M. Montague, "Models for
//! Metasearch", SIGIR 2001 (Borda); G. V. Cormack, C. L. A. Clarke, S. Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and
//! individual Rank Learning Methods", SIGIR 2009 (RRF, k = 60). Checked against ranx 0.3.21, to 1e-12.
//!
//! # Model
//! List `l` holds `n_l` hits; a hit stands at rank `r = 1..=n_l` and has the score `s`. `C` items stand in at least one list.
//!
//! | normalisation | a hit's part `v` | unit, range |
//! | --- | --- | --- |
//! | none | `s` | the list's own |
//! | min-max | `(s - min) / (max - min)`; 1 where all scores are equal | 0..=1 |
//! | z | `(s - mean) / sd`, the `sd` with divisor `n_l`; 0 where all scores are equal | mean 0, variance 1 |
//! | rank | `1 - (r - 1) / n_l` | `1 / n_l` ..= 1 |
//!
//! | fusion | score of an item | an item that a list lacks |
//! | --- | --- | --- |
//! | CombSUM | `sum_l v` | adds 0 |
//! | CombMNZ | `(lists that hold it) * sum_l v` | adds 0, counts 0 |
//! | weighted | `sum_l w_l v` | adds 0 |
//! | Borda | `sum_l (C - r + 1)` | adds `(C - n_l + 1) / 2`, the mean of the places that are left |
//! | RRF | `sum_l 1 / (k + r)` | adds 0 |
//!
//! Borda and RRF look at ranks alone, so normalisation changes nothing there. Under z, 0 is a list's mean: an item that a list lacks
//! does better there than one in its lower half, and CombMNZ, made for scores of 0 and above, puts what many lists hold *below*
//! when its sum is negative. Min-max and rank have neither fault.
//!
//! # Order
//! A hit's rank is its place in [`Hit::rank_cmp`] order, whatever order the list came in; fused items rank by score, then by smaller
//! id. Sums are in f64, list after list.
//!
//! # Differs from ranx
//! - Min-max of equal scores, a list of one hit among them: 1 here, 0 there, where the only hit of a list counts as if missing.
//! - A range or deviation below 1e-9 is used as it is here, and replaced by 1e-9 there.
//! - Equal scores rank by id here, in the order they were given there.
//! - One list alone, or none, is allowed here.
//!
//! # Cost
//! `O(N log N)` for `N` hits in all lists together; about 32 bytes each.
//!
//! # Errors
//! [`FuseError`], one variant for each way in which lists or options make no ranking.
//!
//! # Example
//! ```
//! use chiasm_core::{Hit, Score};
//! use chiasm_index::{Fusion, Normalisation, fuse};
//!
//! let hit = |id, score| Hit { id, score: Score::new(score).unwrap() };
//! let by_text = [hit(1, 0.9), hit(2, 0.5), hit(3, 0.1)];
//! let by_sound = [hit(3, -2.0), hit(2, -4.0)];
//! let fused = fuse(&[&by_text[..], &by_sound], &Fusion::CombSum, Normalisation::MinMax)?;
//! // 1 is first by text and unheard, 3 is first by sound and last by text, 2 is half way and last.
//! assert_eq!(fused.iter().map(|item| item.id).collect::<Vec<_>>(), [1, 3, 2]);
//! let fused = fuse(&[&by_text[..], &by_sound], &Fusion::default(), Normalisation::None)?;
//! assert_eq!((fused[0].id, fused[0].score), (3, 1.0 / 63.0 + 1.0 / 61.0));
//! # Ok::<(), chiasm_index::FuseError>(())
//! ```

use std::borrow::Cow;
use std::cmp::Ordering;

use chiasm_core::Hit;

/// How the parts that lists give to an item become one score; see the head of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Fusion {
    /// The sum.
    CombSum,
    /// The sum times the number of lists that hold the item.
    CombMnz,
    /// Points for places: as many as there are items for the first, one less for each further.
    Borda,
    /// Reciprocal ranks.
    Rrf {
        /// What is added to each rank, at least 0: the greater, the less the first places stand out.
        k: f64,
    },
    /// The sum with a weight for each list, in the order of the lists.
    Weighted(Vec<f64>),
}

impl Default for Fusion {
    /// Reciprocal ranks with the paper's k = 60: they need no scores that go together, and nothing to be tuned.
    fn default() -> Self {
        Fusion::Rrf { k: 60.0 }
    }
}

/// What makes scores of different lists go together; see the head of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalisation {
    /// Scores as they are.
    #[default]
    None,
    /// The worst hit of a list becomes 0, the best 1.
    MinMax,
    /// Mean 0 and variance 1 in each list.
    ZScore,
    /// The rank instead of the score, from 1 for the first down to 1 / n for the last of n.
    Rank,
}

/// One item of a fused ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FusedHit {
    /// Identity, as in the lists.
    pub id: u64,
    /// How well the lists together speak for it: greater is better, finite; its scale depends on the method.
    pub score: f64,
}

impl FusedHit {
    /// Rank order: greater score first, equal scores by smaller id.
    pub fn rank_cmp(&self, other: &Self) -> Ordering {
        other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

/// Why lists could not be fused. Lists are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FuseError {
    /// Each list needs one weight.
    #[error("{weights} weights for {lists} lists: each list needs exactly one")]
    Weights {
        /// How many weights came.
        weights: usize,
        /// How many lists came.
        lists: usize,
    },
    /// A weight that is no factor, or so large that a sum could overflow.
    #[error("the weight of list {list} is {weight:e}: weights must be finite and within {most:e}", most = MOST_WEIGHT)]
    Weight {
        /// The first offender.
        list: usize,
        /// Its weight.
        weight: f64,
    },
    /// A constant with which a rank would have no finite reciprocal.
    #[error("the constant of reciprocal rank fusion is {k}: it must be finite and at least 0; the paper's is 60")]
    Constant {
        /// What came.
        k: f64,
    },
    /// A list ranks an item twice.
    #[error("list {list} holds id {id} more than once: keep the better of its hits")]
    Duplicate {
        /// Which list.
        list: usize,
        /// Which item.
        id: u64,
    },
    /// A score that cannot be added up.
    #[error("list {list} gives id {id} the score {score}: fuse by rank instead, or leave the hit out")]
    NotFinite {
        /// Which list.
        list: usize,
        /// Which item.
        id: u64,
        /// Its score.
        score: f32,
    },
}

/// The greatest weight: times the greatest score, and for any number of lists, still far from overflow.
const MOST_WEIGHT: f64 = 1e100;

/// Fuses ranked lists into one ranking of all items that stand in any of them; see the head of the file.
///
/// # Errors
/// [`FuseError`]. Infinite scores are refused only where scores are looked at, not by ranks.
pub fn fuse<L: AsRef<[Hit]>>(lists: &[L], fusion: &Fusion, normalisation: Normalisation) -> Result<Vec<FusedHit>, FuseError> {
    check(fusion, lists.len())?;
    let by_score = match fusion {
        Fusion::CombSum | Fusion::CombMnz | Fusion::Weighted(_) => normalisation != Normalisation::Rank,
        Fusion::Borda | Fusion::Rrf { .. } => false,
    };
    let mut places = Vec::with_capacity(lists.iter().map(|list| list.as_ref().len()).sum());
    let mut scales = Vec::with_capacity(lists.len());
    for (list, hits) in lists.iter().enumerate() {
        let ranked = ranked(hits.as_ref());
        if let Some(hit) = ranked.iter().find(|hit| by_score && !hit.score.get().is_finite()) {
            return Err(FuseError::NotFinite { list, id: hit.id, score: hit.score.get() });
        }
        scales.push(Scale::of(&ranked));
        places.extend(ranked.iter().zip(1..).map(|(hit, rank)| Place {
            id: hit.id,
            list,
            rank,
            score: hit.score.get().into(),
        }));
    }
    places.sort_unstable_by_key(|place| (place.id, place.list));
    if let Some(twice) = places.windows(2).find(|two| (two[0].id, two[0].list) == (two[1].id, two[1].list)) {
        return Err(FuseError::Duplicate { list: twice[0].list, id: twice[0].id });
    }
    let items = || places.chunk_by(|a, b| a.id == b.id);
    let n_items = items().count();
    let score = |held: &[Place]| -> f64 {
        let parts = || held.iter().map(|place| (place.list, scales[place.list].part(place, normalisation)));
        match fusion {
            Fusion::CombSum => parts().map(|(_, part)| part).sum(),
            Fusion::CombMnz => parts().map(|(_, part)| part).sum::<f64>() * held.len() as f64,
            Fusion::Weighted(weights) => parts().map(|(list, part)| weights[list] * part).sum(),
            Fusion::Rrf { k } => held.iter().map(|place| 1.0 / (k + place.rank as f64)).sum(),
            Fusion::Borda => {
                // Twice the points, which are whole numbers: what all lists give to an unknown item, put right where it is known.
                let unknown = |list: usize| n_items - scales[list].n + 1;
                let all: usize = (0..lists.len()).map(unknown).sum();
                let known: usize = held.iter().map(|place| 2 * (n_items - place.rank + 1)).sum();
                let instead: usize = held.iter().map(|place| unknown(place.list)).sum();
                (all - instead + known) as f64 / 2.0
            }
        }
    };
    let mut fused: Vec<FusedHit> = items().map(|held| FusedHit { id: held[0].id, score: score(held) }).collect();
    fused.sort_unstable_by(FusedHit::rank_cmp);
    Ok(fused)
}

fn check(fusion: &Fusion, lists: usize) -> Result<(), FuseError> {
    match fusion {
        Fusion::CombSum | Fusion::CombMnz | Fusion::Borda => Ok(()),
        Fusion::Rrf { k } if k.is_finite() && *k >= 0.0 => Ok(()),
        Fusion::Rrf { k } => Err(FuseError::Constant { k: *k }),
        Fusion::Weighted(weights) if weights.len() != lists => Err(FuseError::Weights { weights: weights.len(), lists }),
        Fusion::Weighted(weights) => {
            // Not `> MOST_WEIGHT`, which NaN is not.
            let refused = weights.iter().position(|weight| !(-MOST_WEIGHT..=MOST_WEIGHT).contains(weight));
            refused.map_or(Ok(()), |list| Err(FuseError::Weight { list, weight: weights[list] }))
        }
    }
}

/// The list in rank order, as it is where it came so.
fn ranked(hits: &[Hit]) -> Cow<'_, [Hit]> {
    if hits.is_sorted_by(|a, b| a.rank_cmp(b).is_le()) {
        return Cow::Borrowed(hits);
    }
    let mut hits = hits.to_vec();
    hits.sort_unstable_by(Hit::rank_cmp);
    Cow::Owned(hits)
}

/// An item's place in a list.
struct Place {
    id: u64,
    list: usize,
    /// From 1.
    rank: usize,
    score: f64,
}

/// What normalisation needs to know of a list.
struct Scale {
    n: usize,
    min: f64,
    max: f64,
    mean: f64,
    /// With divisor `n`.
    sd: f64,
}

impl Scale {
    /// Of hits in rank order.
    fn of(ranked: &[Hit]) -> Self {
        let scores = || ranked.iter().map(|hit| f64::from(hit.score.get()));
        let n = ranked.len();
        let mean = scores().sum::<f64>() / n as f64;
        let sd = (scores().map(|s| (s - mean) * (s - mean)).sum::<f64>() / n as f64).sqrt();
        Self { n, min: scores().next_back().unwrap_or(0.0), max: scores().next().unwrap_or(0.0), mean, sd }
    }

    /// What a hit of this list adds to its item.
    fn part(&self, place: &Place, normalisation: Normalisation) -> f64 {
        // Asked of the ends, since a deviation of equal scores need not be rounded to 0.
        let equal = self.min == self.max;
        match normalisation {
            Normalisation::None => place.score,
            Normalisation::MinMax if equal => 1.0,
            Normalisation::MinMax => (place.score - self.min) / (self.max - self.min),
            Normalisation::ZScore if equal => 0.0,
            Normalisation::ZScore => (place.score - self.mean) / self.sd,
            Normalisation::Rank => 1.0 - (place.rank - 1) as f64 / self.n as f64,
        }
    }
}
