//! Metrics of one ranking.
//!
//! # Definitions
//! Ranks count from 1. `rel_i` is 1 when the gain at rank `i` is above 0; `R` is the number of relevant items that exist,
//! returned or not.
//!
//! | metric | definition |
//! | --- | --- |
//! | hit@K | 1 when a relevant item stands in the first K, else 0: the "R@K" of the image-text literature |
//! | recall@K | `sum_{i<=K} rel_i / R` |
//! | P@K | `sum_{i<=K} rel_i / K`, K even when fewer were returned |
//! | AP@K | `sum_{i<=K} P@i rel_i` over a [`Denominator`] |
//! | DCG@K | `sum_{i<=K} gain(g_i) / log2(i + 1)`; NDCG@K divides by that of the best order of *all* judged items |
//! | RR | 1 / rank of the first relevant item, 0 when none was returned |
//! | R-precision | P@R |
//! | 11-point | greatest precision at any recall >= 0, 0.1, ... 1 |
//!
//! K = 0 gives 0. Checked against ranx 0.3.21 and pytrec_eval-terrier 0.5.11 to 1e-12. Negative gains, which TREC files use for
//! junk, count as 0, as they do in trec_eval. One difference: trec_eval rounds its recall levels so that 2 hits of 3 count as recall
//! 0.7; here they do not.

use std::collections::BTreeMap;

/// What average precision is divided by. With a cut at K three are in use; without, the first two agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denominator {
    /// All relevant items: trec_eval, ranx.
    AllRelevant,
    /// `min(R, K)`, so that a perfect top K scores 1.
    MinK,
    /// The relevant items within the top K, as scripts around ACMR, DJSRH and DSCMR do. Not monotone: a worse ranking can score
    /// higher, and chance is high. For comparison with such figures only.
    HitsInK,
}

/// What a judged gain is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gain {
    /// The gain itself: trec_eval, ranx `ndcg`, scikit-learn.
    Linear,
    /// `2^g - 1`: ranx `ndcg_burges`.
    Exponential,
}

impl Gain {
    pub(crate) fn of(self, gain: f64) -> f64 {
        match self {
            Gain::Linear => gain,
            Gain::Exponential => gain.exp2() - 1.0,
        }
    }
}

/// Why a ranking cannot be judged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JudgeError {
    /// Nothing could have been found: such a query is skipped and counted.
    #[error("no item is relevant to this query: it is to be skipped and counted, not scored")]
    NoRelevant,
    /// A gain that is NaN or infinite.
    #[error("a gain is {0}: gains must be finite numbers")]
    Gain(f64),
    /// The ranking holds more relevant items than exist.
    #[error("{ranked} relevant items were ranked, but only {judged} are judged relevant: is an item ranked twice?")]
    TooMany {
        /// Relevant items in the ranking.
        ranked: usize,
        /// Relevant items there are.
        judged: usize,
    },
    /// Ranks that do not ascend strictly from 1.
    #[error("rank {0} is out of order: ranks count from 1 and ascend")]
    Rank(usize),
}

/// One query's ranking beside its judgements. Exists only for a query with at least one relevant item.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Rank and gain of the relevant items that were returned, by rank.
    hits: Vec<(usize, f64)>,
    /// Gains of all relevant items there are, descending.
    ideal: Vec<f64>,
    /// How many items could have been ranked, when known.
    n_gallery: Option<usize>,
}

impl Judged {
    /// `ranked` are the gains of what was returned, best rank first; `all` are the gains of all judged items, those returned
    /// among them, in any order.
    ///
    /// # Errors
    /// [`JudgeError`]; [`JudgeError::NoRelevant`] when no gain of `all` is above 0.
    ///
    /// # Example
    /// ```
    /// use chiasm_eval::{Denominator, Gain, Judged};
    ///
    /// let query = Judged::new(&[3.0, 0.0, 2.0, 0.0, 0.0, 1.0], &[3.0, 2.0, 1.0])?;
    /// assert!((query.ndcg(None, Gain::Linear) - 0.914812).abs() < 1e-6);
    /// assert!((query.average_precision(None, Denominator::AllRelevant) - 0.722222).abs() < 1e-6);
    /// # Ok::<(), chiasm_eval::JudgeError>(())
    /// ```
    pub fn new(ranked: &[f64], all: &[f64]) -> Result<Self, JudgeError> {
        if let Some(bad) = ranked.iter().chain(all).find(|g| !g.is_finite()) {
            return Err(JudgeError::Gain(*bad));
        }
        let hits: Vec<(usize, f64)> = ranked.iter().enumerate().filter(|(_, g)| **g > 0.0).map(|(i, g)| (i + 1, *g)).collect();
        Self::of_hits(hits, ideal_order(all))
    }

    /// Relevant or not: whether each returned item is relevant, best rank first, and how many relevant items exist.
    ///
    /// # Errors
    /// [`JudgeError`].
    pub fn from_relevance(ranked: &[bool], n_relevant: usize) -> Result<Self, JudgeError> {
        let hits = ranked.iter().enumerate().filter(|(_, r)| **r).map(|(i, _)| (i + 1, 1.0)).collect();
        Self::of_hits(hits, vec![1.0; n_relevant])
    }

    /// Relevant or not: the ranks, from 1, ascending, of the relevant items that were returned.
    ///
    /// # Errors
    /// [`JudgeError`].
    pub fn from_ranks(ranks: &[usize], n_relevant: usize) -> Result<Self, JudgeError> {
        let mut last = 0;
        for &rank in ranks {
            if rank <= last {
                return Err(JudgeError::Rank(rank));
            }
            last = rank;
        }
        Self::of_hits(ranks.iter().map(|r| (*r, 1.0)).collect(), vec![1.0; n_relevant])
    }

    /// A ranking of ids, best first, beside the gain of each judged id; an id that is not judged has gain 0.
    ///
    /// # Errors
    /// [`JudgeError`].
    pub fn from_ids<'a, I: Ord + 'a>(
        ranked: impl IntoIterator<Item = &'a I>,
        gains: &BTreeMap<I, f64>,
    ) -> Result<Self, JudgeError> {
        let ranked: Vec<f64> = ranked.into_iter().map(|id| gains.get(id).copied().unwrap_or(0.0)).collect();
        let all: Vec<f64> = gains.values().copied().collect();
        Self::new(&ranked, &all)
    }

    fn of_hits(hits: Vec<(usize, f64)>, ideal: Vec<f64>) -> Result<Self, JudgeError> {
        if ideal.is_empty() {
            return Err(JudgeError::NoRelevant);
        }
        if hits.len() > ideal.len() {
            return Err(JudgeError::TooMany { ranked: hits.len(), judged: ideal.len() });
        }
        Ok(Self { hits, ideal, n_gallery: None })
    }

    /// States how many items could have been ranked, by which chance becomes known.
    pub fn with_gallery(mut self, n_items: usize) -> Self {
        self.n_gallery = Some(n_items);
        self
    }

    /// How many items could have been ranked, when that was stated.
    pub fn n_gallery(&self) -> Option<usize> {
        self.n_gallery
    }

    /// How many relevant items exist; at least 1.
    pub fn n_relevant(&self) -> usize {
        self.ideal.len()
    }

    /// Gains of all relevant items that exist, descending.
    pub(crate) fn ideal(&self) -> &[f64] {
        &self.ideal
    }

    /// Rank, from 1, of the first relevant item; `None` when none was returned.
    pub fn first_rank(&self) -> Option<usize> {
        self.hits.first().map(|(rank, _)| *rank)
    }

    /// 1 when a relevant item stands in the first `k`, else 0.
    pub fn hit_at_k(&self, k: usize) -> f64 {
        if self.hits_in(Some(k)) > 0 { 1.0 } else { 0.0 }
    }

    /// The share of the relevant items that stands in the first `k`.
    pub fn recall_at_k(&self, k: usize) -> f64 {
        self.hits_in(Some(k)) as f64 / self.n_relevant() as f64
    }

    /// The share of the first `k` places that holds a relevant item; empty places count.
    pub fn precision_at_k(&self, k: usize) -> f64 {
        if k == 0 { 0.0 } else { self.hits_in(Some(k)) as f64 / k as f64 }
    }

    /// Average precision of the first `k`, or of all when `None`.
    pub fn average_precision(&self, k: Option<usize>, denominator: Denominator) -> f64 {
        let n_hits = self.hits_in(k);
        let sum: f64 = self.hits[..n_hits].iter().enumerate().map(|(i, (rank, _))| (i + 1) as f64 / *rank as f64).sum();
        let n = match denominator {
            Denominator::AllRelevant => self.n_relevant(),
            Denominator::MinK => self.n_relevant().min(k.unwrap_or(usize::MAX)),
            Denominator::HitsInK => n_hits,
        };
        if n == 0 { 0.0 } else { sum / n as f64 }
    }

    /// Normalised discounted cumulative gain of the first `k`, or of all when `None`.
    pub fn ndcg(&self, k: Option<usize>, gain: Gain) -> f64 {
        let dcg: f64 = self.hits[..self.hits_in(k)].iter().map(|(rank, g)| gain.of(*g) * discount(*rank)).sum();
        let best = ideal_dcg(&self.ideal, k, gain);
        if best == 0.0 { 0.0 } else { dcg / best }
    }

    /// 1 / rank of the first relevant item; 0 when none was returned. Its mean is MRR.
    pub fn reciprocal_rank(&self) -> f64 {
        self.first_rank().map_or(0.0, |rank| 1.0 / rank as f64)
    }

    /// Precision after as many items as are relevant.
    pub fn r_precision(&self) -> f64 {
        self.precision_at_k(self.n_relevant())
    }

    /// Interpolated precision at recall 0, 0.1, ... 1.
    pub fn interpolated_precision(&self) -> [f64; 11] {
        std::array::from_fn(|t| {
            self.hits
                .iter()
                .enumerate()
                // In whole numbers: found / R >= t / 10.
                .filter(|(i, _)| (i + 1) * 10 >= t * self.n_relevant())
                .map(|(i, (rank, _))| (i + 1) as f64 / *rank as f64)
                .fold(0.0, f64::max)
        })
    }

    fn hits_in(&self, k: Option<usize>) -> usize {
        k.map_or(self.hits.len(), |k| self.hits.partition_point(|(rank, _)| *rank <= k))
    }
}

/// Gains above 0, descending.
pub(crate) fn ideal_order(gains: &[f64]) -> Vec<f64> {
    let mut ideal: Vec<f64> = gains.iter().copied().filter(|g| *g > 0.0).collect();
    ideal.sort_unstable_by(|a, b| b.total_cmp(a));
    ideal
}

/// `1 / log2(rank + 1)`.
pub(crate) fn discount(rank: usize) -> f64 {
    1.0 / (rank as f64 + 1.0).log2()
}

pub(crate) fn ideal_dcg(ideal: &[f64], k: Option<usize>, gain: Gain) -> f64 {
    ideal.iter().take(k.unwrap_or(usize::MAX)).enumerate().map(|(i, g)| gain.of(*g) * discount(i + 1)).sum()
}

/// The middle value, or the mean of the two middle ones; infinity stands for "not found". `None` of nothing or of NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    // Not the mean of two infinities of a sum that overflows.
    Some(if low == high { low } else { low / 2.0 + high / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples() {
        // Linear .914812, at 3 .840008, Burges at 3 .904950, MAP .722222, MAP@3 .555556.
        let query = Judged::new(&[3.0, 0.0, 2.0, 0.0, 0.0, 1.0], &[3.0, 2.0, 1.0]).unwrap();
        let near = |got: f64, expected: f64| assert!((got - expected).abs() < 5e-7, "{got} for {expected}");
        near(query.ndcg(None, Gain::Linear), 0.914812);
        near(query.ndcg(Some(3), Gain::Linear), 0.840008);
        near(query.ndcg(Some(3), Gain::Exponential), 0.904950);
        near(query.average_precision(None, Denominator::AllRelevant), 0.722222);
        near(query.average_precision(Some(3), Denominator::AllRelevant), 0.555556);
        // Two hits in the first 2 of 3, precisions 1 and nothing else: three denominators, three figures.
        near(query.average_precision(Some(2), Denominator::AllRelevant), 1.0 / 3.0);
        near(query.average_precision(Some(2), Denominator::MinK), 0.5);
        near(query.average_precision(Some(2), Denominator::HitsInK), 1.0);
        assert_eq!((query.precision_at_k(10), query.recall_at_k(3), query.hit_at_k(1)), (0.3, 2.0 / 3.0, 1.0));
        assert_eq!(query.interpolated_precision(), [1., 1., 1., 1., 2. / 3., 2. / 3., 2. / 3., 0.5, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn three_ways_to_say_the_same_ranking() {
        let gains = BTreeMap::from([("a", 1.0), ("b", 0.0), ("c", 1.0), ("d", -1.0)]);
        let of_ids = Judged::from_ids(&["x", "c", "b", "a"], &gains).unwrap();
        assert_eq!(of_ids, Judged::from_relevance(&[false, true, false, true], 2).unwrap());
        assert_eq!(of_ids, Judged::from_ranks(&[2, 4], 2).unwrap());
        assert_eq!(of_ids, Judged::new(&[-2.0, 1.0, 0.0, 1.0], &[1.0, 1.0, -2.0]).unwrap());
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        assert_eq!(Judged::new(&[0.0, -1.0], &[0.0, -1.0]), Err(JudgeError::NoRelevant));
        assert_eq!(Judged::from_relevance(&[], 0), Err(JudgeError::NoRelevant));
        assert!(matches!(Judged::new(&[f64::NAN], &[1.0]), Err(JudgeError::Gain(_))));
        assert_eq!(Judged::from_relevance(&[true, true], 1), Err(JudgeError::TooMany { ranked: 2, judged: 1 }));
        assert_eq!(Judged::from_ranks(&[2, 2], 5), Err(JudgeError::Rank(2)));
        assert_eq!(Judged::from_ranks(&[0], 5), Err(JudgeError::Rank(0)));
    }

    #[test]
    fn nothing_found_scores_zero_and_a_cut_at_zero_too() {
        let lost = Judged::from_ranks(&[], 3).unwrap();
        assert_eq!((lost.hit_at_k(5), lost.reciprocal_rank(), lost.first_rank()), (0.0, 0.0, None));
        assert_eq!(lost.average_precision(None, Denominator::HitsInK), 0.0);
        let found = Judged::from_ranks(&[1], 1).unwrap();
        assert_eq!((found.hit_at_k(0), found.precision_at_k(0), found.ndcg(Some(0), Gain::Linear)), (0.0, 0.0, 0.0));
        assert_eq!(found.average_precision(Some(0), Denominator::MinK), 0.0);
    }

    #[test]
    fn medians() {
        assert_eq!((median(&[]), median(&[f64::NAN])), (None, None));
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (Some(2.0), Some(2.5)));
        let inf = f64::INFINITY;
        assert_eq!((median(&[inf, 1.0, inf]), median(&[inf, 1.0]), median(&[inf, inf])), (Some(inf), Some(inf), Some(inf)));
    }
}
