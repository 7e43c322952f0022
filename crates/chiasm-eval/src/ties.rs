//! Ties: the stated rule, and the exact expectation when equal scores are broken at random.
//!
//! # The rule
//! Wherever this crate ranks scores, greater comes first and equal scores stand in the order of their ids. That is one order of
//! many: with Hamming distances almost everything is tied, and an order of ids that follows the labels can double a MAP. So
//! beside it stands the mean over *all* orders of the tied items, which no order of ids can move.
//!
//! # Closed forms
//! A group of `m` equal scores holds `k` relevant items; `N` items stand before it, `A` of them relevant. Position `j` of the
//! group, rank `N + j`, is relevant with probability `k / m`, and given that it is, the `j - 1` before it hold
//! `(j - 1)(k - 1) / (m - 1)` relevant ones on average. So the group's share of the sum of precisions is
//! `sum_j (k / m) (A + 1 + (j - 1)(k - 1) / (m - 1)) / (N + j)`, each term of which a cut at K keeps or drops. P@K, recall@K and
//! NDCG are linear in the positions; hit@K and the first rank follow from `prod_i (m - k - i) / (m - i)`, the chance that the
//! first positions of the group hold nothing relevant; AP over the hits in K sums over how many of them the cut leaves.
//!
//! # Cost
//! Sorting, then linear in the ranking; AP over the hits in K is quadratic in the group that the cut divides.
//!
//! # Chance
//! A random order is the case that everything is tied: [`Chance`] is that, without the ranking.

use crate::metrics::{Denominator, Gain, JudgeError, Judged, discount, ideal_dcg, ideal_order};

/// Why scores cannot be ranked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TieError {
    /// One gain per score.
    #[error("{scores} scores and {gains} gains: each ranked item needs one of each")]
    Count {
        /// How many scores came.
        scores: usize,
        /// How many gains came.
        gains: usize,
    },
    /// A score that cannot be ordered.
    #[error("the score of item {0} is NaN")]
    Score(usize),
    /// Gains that cannot be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// Items of equal score.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    /// Items that rank before.
    n_before: usize,
    /// Relevant items that rank before.
    relevant_before: usize,
    /// Items in it.
    size: usize,
    /// Gains of the relevant items in it.
    gains: Vec<f64>,
}

impl Group {
    fn relevant(&self) -> usize {
        self.gains.len()
    }

    /// Positions of it that a cut leaves.
    fn kept(&self, k: Option<usize>) -> usize {
        k.map_or(self.size, |k| k.saturating_sub(self.n_before).min(self.size))
    }

    /// Sum of expected precisions over the first `kept` positions, when `relevant` of `size` are relevant.
    fn precisions(&self, relevant: usize, size: usize, kept: usize) -> f64 {
        let (k, m) = (relevant as f64, size as f64);
        let grow = if size > 1 { (k - 1.0) / (m - 1.0) } else { 0.0 };
        let a = self.relevant_before as f64 + 1.0;
        (0..kept).map(|j| (k / m) * (a + j as f64 * grow) / (self.n_before + j + 1) as f64).sum()
    }

    /// Probability that the first `r` positions hold nothing relevant, for `r` = 0, 1, ... as long as it is above 0.
    fn miss(&self) -> impl Iterator<Item = f64> + '_ {
        let (k, m) = (self.relevant(), self.size);
        (0..=m - k).scan(1.0, move |p, r| {
            let now = *p;
            *p *= (m - k - r) as f64 / (m - r) as f64;
            Some(now)
        })
    }
}

/// One query's scores and judgements, with ties kept as ties. Each figure is the exact mean over all orders of the tied items.
#[derive(Clone, Debug, PartialEq)]
pub struct TiedRanking {
    /// Those with something relevant in them, in rank order.
    groups: Vec<Group>,
    ideal: Vec<f64>,
}

impl TiedRanking {
    /// `gains[i]` is that of the item with `scores[i]`, in any order; `not_ranked` are gains of judged items that were not
    /// returned at all.
    ///
    /// # Errors
    /// [`TieError`]; [`JudgeError::NoRelevant`] inside it when no gain is above 0.
    pub fn new(scores: &[f64], gains: &[f64], not_ranked: &[f64]) -> Result<Self, TieError> {
        if scores.len() != gains.len() {
            return Err(TieError::Count { scores: scores.len(), gains: gains.len() });
        }
        if let Some(at) = scores.iter().position(|s| s.is_nan()) {
            return Err(TieError::Score(at));
        }
        if let Some(bad) = gains.iter().chain(not_ranked).find(|g| !g.is_finite()) {
            return Err(JudgeError::Gain(*bad).into());
        }
        let all: Vec<f64> = gains.iter().chain(not_ranked).copied().collect();
        let ideal = ideal_order(&all);
        if ideal.is_empty() {
            return Err(JudgeError::NoRelevant.into());
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut groups = Vec::new();
        let (mut n_before, mut relevant_before) = (0, 0);
        // `==`, not `total_cmp`: zero and minus zero are one score.
        for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
            let gains: Vec<f64> = tied.iter().map(|i| gains[*i]).filter(|g| *g > 0.0).collect();
            let group = Group { n_before, relevant_before, size: tied.len(), gains };
            n_before += group.size;
            relevant_before += group.relevant();
            if group.relevant() > 0 {
                groups.push(group);
            }
        }
        Ok(Self { groups, ideal })
    }

    /// Expected [`Judged::hit_at_k`].
    pub fn hit_at_k(&self, k: usize) -> f64 {
        match self.groups.first() {
            None => 0.0,
            Some(group) => 1.0 - group.miss().nth(group.kept(Some(k))).unwrap_or(0.0),
        }
    }

    /// Expected [`Judged::recall_at_k`].
    pub fn recall_at_k(&self, k: usize) -> f64 {
        self.expected_hits(k) / self.ideal.len() as f64
    }

    /// Expected [`Judged::precision_at_k`].
    pub fn precision_at_k(&self, k: usize) -> f64 {
        if k == 0 { 0.0 } else { self.expected_hits(k) / k as f64 }
    }

    /// Expected [`Judged::r_precision`].
    pub fn r_precision(&self) -> f64 {
        self.precision_at_k(self.ideal.len())
    }

    fn expected_hits(&self, k: usize) -> f64 {
        self.groups.iter().map(|g| g.relevant() as f64 * g.kept(Some(k)) as f64 / g.size as f64).sum()
    }

    /// Expected [`Judged::average_precision`].
    pub fn average_precision(&self, k: Option<usize>, denominator: Denominator) -> f64 {
        let whole = |g: &Group| g.precisions(g.relevant(), g.size, g.kept(k));
        let n = match denominator {
            Denominator::AllRelevant => self.ideal.len(),
            Denominator::MinK => self.ideal.len().min(k.unwrap_or(usize::MAX)),
            Denominator::HitsInK => return self.average_precision_over_hits(k),
        };
        if n == 0 { 0.0 } else { self.groups.iter().map(whole).sum::<f64>() / n as f64 }
    }

    fn average_precision_over_hits(&self, k: Option<usize>) -> f64 {
        let (mut sum, mut hits) = (0.0, 0);
        for group in &self.groups {
            let kept = group.kept(k);
            if kept == 0 {
                break;
            }
            if kept == group.size {
                sum += group.precisions(group.relevant(), group.size, kept);
                hits += group.relevant();
                continue;
            }
            // The cut divides this group: given that it leaves h relevant items, their order among the kept is random again.
            return hypergeometric(group.size, group.relevant(), kept)
                .map(|(h, p)| {
                    let n = hits + h;
                    if n == 0 { 0.0 } else { p * (sum + group.precisions(h, kept, kept)) / n as f64 }
                })
                .sum();
        }
        if hits == 0 { 0.0 } else { sum / hits as f64 }
    }

    /// Expected [`Judged::ndcg`].
    pub fn ndcg(&self, k: Option<usize>, gain: Gain) -> f64 {
        let best = ideal_dcg(&self.ideal, k, gain);
        let group = |g: &Group| {
            let mean = g.gains.iter().map(|v| gain.of(*v)).sum::<f64>() / g.size as f64;
            (0..g.kept(k)).map(|j| mean * discount(g.n_before + j + 1)).sum::<f64>()
        };
        if best == 0.0 { 0.0 } else { self.groups.iter().map(group).sum::<f64>() / best }
    }

    /// Expected [`Judged::reciprocal_rank`].
    pub fn reciprocal_rank(&self) -> f64 {
        let Some(group) = self.groups.first() else { return 0.0 };
        let miss: Vec<f64> = group.miss().chain([0.0]).collect();
        // The first relevant item is at position j + 1 when j positions miss and j + 1 do not.
        miss.windows(2).enumerate().map(|(j, p)| (p[0] - p[1]) / (group.n_before + j + 1) as f64).sum()
    }

    /// Probability that the first relevant item ranks at or before `rank`: [`TiedRanking::hit_at_k`] by another name.
    pub fn first_rank_at_most(&self, rank: usize) -> f64 {
        self.hit_at_k(rank)
    }
}

/// `(h, probability)` that `drawn` of `size`, `relevant` of which are relevant, hold `h` relevant ones.
fn hypergeometric(size: usize, relevant: usize, drawn: usize) -> impl Iterator<Item = (usize, f64)> {
    let low = drawn.saturating_sub(size - relevant);
    let high = drawn.min(relevant);
    // Unnormalised from the middle outwards would be the same numbers; in logs nothing over- or underflows.
    let logs: Vec<f64> = (low..=high)
        .scan(0.0, |log, h| {
            let now = *log;
            let next = h + 1;
            if next <= high {
                *log += ((relevant - h) as f64 * (drawn - h) as f64).ln()
                    - (next as f64 * (size + next - relevant - drawn) as f64).ln();
            }
            Some(now)
        })
        .collect();
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logs.iter().map(|l| (l - top).exp()).sum();
    logs.into_iter().enumerate().map(move |(i, l)| (low + i, (l - top).exp() / total))
}

/// What a random order of the whole gallery scores on average: exact, no simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Chance(TiedRanking);

impl Chance {
    /// Of a query whose gallery was stated ([`Judged::with_gallery`]); `None` where it was not, or is smaller than the number of
    /// relevant items.
    pub fn of(query: &Judged) -> Option<Self> {
        let size = query.n_gallery()?;
        let ideal = query.ideal().to_vec();
        if size < ideal.len() {
            return None;
        }
        let group = Group { n_before: 0, relevant_before: 0, size, gains: ideal.clone() };
        Some(Self(TiedRanking { groups: vec![group], ideal }))
    }
}

impl std::ops::Deref for Chance {
    type Target = TiedRanking;

    fn deref(&self) -> &TiedRanking {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Calls `f` with every order of the items that ranks no score below a smaller one.
    fn each_order(scores: &[f64], f: &mut impl FnMut(&[usize])) {
        fn extend(order: &mut Vec<usize>, scores: &[f64], f: &mut impl FnMut(&[usize])) {
            let left = |order: &[usize]| (0..scores.len()).filter(|i| !order.contains(i)).collect::<Vec<_>>();
            let rest = left(order);
            let Some(best) = rest.iter().map(|i| scores[*i]).reduce(f64::max) else { return f(order) };
            for i in rest.into_iter().filter(|i| scores[*i] == best) {
                order.push(i);
                extend(order, scores, f);
                order.pop();
            }
        }
        extend(&mut Vec::new(), scores, f);
    }

    /// Every figure, from an order or as an expectation.
    macro_rules! figures {
        ($q:expr) => {{
            let q = $q;
            let mut all = vec![q.reciprocal_rank(), q.r_precision()];
            for k in [None, Some(0), Some(1), Some(2), Some(3), Some(5), Some(9)] {
                for denominator in [Denominator::AllRelevant, Denominator::MinK, Denominator::HitsInK] {
                    all.push(q.average_precision(k, denominator));
                }
                all.push(q.ndcg(k, Gain::Linear));
                all.push(q.ndcg(k, Gain::Exponential));
                if let Some(k) = k {
                    all.extend([q.hit_at_k(k), q.recall_at_k(k), q.precision_at_k(k)]);
                }
            }
            all
        }};
    }

    fn brute_force(scores: &[f64], gains: &[f64], missing: &[f64]) -> Vec<f64> {
        let all: Vec<f64> = gains.iter().chain(missing).copied().collect();
        let (mut sums, mut n) = (Vec::new(), 0.0);
        each_order(scores, &mut |order| {
            let ranked: Vec<f64> = order.iter().map(|i| gains[*i]).collect();
            let figures = figures!(Judged::new(&ranked, &all).unwrap());
            sums.resize(figures.len(), 0.0);
            sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
            n += 1.0;
        });
        sums.iter().map(|sum| sum / n).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn expectations_are_means_over_all_orders(
            items in proptest::collection::vec((0u8..3, 0u8..3), 1..7),
            missing in proptest::collection::vec(0u8..3, 0..3),
        ) {
            let scores: Vec<f64> = items.iter().map(|(s, _)| f64::from(*s)).collect();
            let gains: Vec<f64> = items.iter().map(|(_, g)| f64::from(*g)).collect();
            let missing: Vec<f64> = missing.iter().map(|g| f64::from(*g)).collect();
            match TiedRanking::new(&scores, &gains, &missing) {
                Err(TieError::Judge(JudgeError::NoRelevant)) => {
                    prop_assert!(gains.iter().chain(&missing).all(|g| *g == 0.0));
                }
                other => {
                    let expected = brute_force(&scores, &gains, &missing);
                    for (i, (got, expected)) in figures!(other.unwrap()).iter().zip(&expected).enumerate() {
                        prop_assert!((got - expected).abs() < 1e-12, "figure {}: {} for {}", i, got, expected);
                    }
                }
            }
        }

        #[test]
        fn without_ties_nothing_is_expected_but_what_is(gains in proptest::collection::vec(0u8..3, 1..40)) {
            let gains: Vec<f64> = gains.into_iter().map(f64::from).collect();
            prop_assume!(gains.iter().any(|g| *g > 0.0));
            let scores: Vec<f64> = (0..gains.len()).map(|i| -(i as f64)).collect();
            let tied = figures!(TiedRanking::new(&scores, &gains, &[]).unwrap());
            for (a, b) in tied.iter().zip(figures!(Judged::new(&gains, &gains).unwrap())) {
                prop_assert!((a - b).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn chance_is_the_mean_over_all_orders() {
        let query = Judged::from_ranks(&[1, 2], 2).unwrap().with_gallery(6);
        let expected = brute_force(&[0.0; 6], &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], &[]);
        for (got, expected) in figures!(Chance::of(&query).unwrap()).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12);
        }
        // One relevant item of n: hit@K is K / n, the expected reciprocal rank H(n) / n.
        let chance = Chance::of(&Judged::from_ranks(&[1], 1).unwrap().with_gallery(1000)).unwrap();
        let harmonic: f64 = (1..=1000).map(|i| 1.0 / f64::from(i)).sum();
        assert!((chance.hit_at_k(10) - 0.01).abs() < 1e-12 && (chance.reciprocal_rank() - harmonic / 1000.0).abs() < 1e-12);
        assert_eq!(Chance::of(&Judged::from_ranks(&[1], 1).unwrap()), None);
        assert_eq!(Chance::of(&Judged::from_ranks(&[1], 5).unwrap().with_gallery(4)), None);
    }

    #[test]
    fn large_groups_keep_their_digits() {
        // Hamming ranking of a large base: one group of 20,000 with 5,000 relevant, cut at 50.
        let gains: Vec<f64> = (0..20_000).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let tied = TiedRanking::new(&vec![1.0; 20_000], &gains, &[]).unwrap();
        assert!((tied.precision_at_k(50) - 0.25).abs() < 1e-12);
        assert!((tied.hit_at_k(1) - 0.25).abs() < 1e-12 && tied.hit_at_k(200) > 1.0 - 1e-12);
        let over_hits = tied.average_precision(Some(50), Denominator::HitsInK);
        assert!(over_hits > 0.25 && over_hits < 0.5, "{over_hits}");
    }

    #[test]
    fn zeros_of_both_signs_tie_and_nan_is_refused() {
        let tied = TiedRanking::new(&[0.0, -0.0], &[0.0, 1.0], &[]).unwrap();
        assert_eq!(tied.hit_at_k(1), 0.5);
        assert_eq!(TiedRanking::new(&[f64::NAN], &[1.0], &[]), Err(TieError::Score(0)));
        assert_eq!(TiedRanking::new(&[1.0], &[], &[]), Err(TieError::Count { scores: 1, gains: 0 }));
    }
}
