//! Edges between items and tags: those that are learned from, those that are held out, and how well the latter are found.
//!
//! The two are types of their own. [`TrainingEdges`] are all that a graph can be made of, and [`HeldOutEdges`] can be made only beside training edges
//! that do not have them, so an edge that is to be found cannot have been learned from. Learning takes no held-out edges:
//! ```compile_fail
//! use chiasm_align::graphs::{ItemTagGraph, TrainingEdges};
//! let (training, held_out) = TrainingEdges::new(2, 2, &[(0, 0), (0, 1), (1, 1)])?.hold_out(0.5, 1)?;
//! let graph = ItemTagGraph::new(held_out, &[])?;
//! # Ok::<(), chiasm_align::graphs::GraphError>(())
//! ```

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{GraphError, Sparse};

/// Which tags items have, as far as learning may know.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingEdges {
    n_tags: usize,
    /// The tags of each item, ascending.
    tags: Vec<Vec<u32>>,
}

/// Edges that learning never sees.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOutEdges {
    n_tags: usize,
    /// The tags that are to be found, of each item, ascending.
    wanted: Vec<Vec<u32>>,
    /// Those that are known, and no answers.
    known: Vec<Vec<u32>>,
}

impl TrainingEdges {
    /// Edges (item, tag) between so many of both; one that comes twice counts once.
    ///
    /// # Errors
    /// [`GraphError::NoSuch`].
    pub fn new(n_items: usize, n_tags: usize, edges: &[(u32, u32)]) -> Result<Self, GraphError> {
        Ok(Self { n_tags, tags: lists(n_items, n_tags, edges)? })
    }

    /// Count of items.
    pub fn n_items(&self) -> usize {
        self.tags.len()
    }

    /// Count of tags.
    pub fn n_tags(&self) -> usize {
        self.n_tags
    }

    /// Count of edges.
    pub fn n(&self) -> usize {
        self.tags.iter().map(Vec::len).sum()
    }

    /// The tags of an item, ascending.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn of_item(&self, item: usize) -> &[u32] {
        &self.tags[item]
    }

    /// All edges, by item and then by tag.
    pub fn all(&self) -> Vec<(u32, u32)> {
        self.tags.iter().enumerate().flat_map(|(item, tags)| tags.iter().map(move |tag| (item as u32, *tag))).collect()
    }

    /// Whether an item has a tag.
    pub fn has(&self, item: u32, tag: u32) -> bool {
        self.tags.get(item as usize).is_some_and(|tags| tags.binary_search(&tag).is_ok())
    }

    /// Sets a share of the edges aside, drawn by the seed. An item keeps at least one edge.
    ///
    /// # Errors
    /// [`GraphError::Fit`] for a share that is not above 0 and below 1.
    pub fn hold_out(self, share: f64, seed: u64) -> Result<(TrainingEdges, HeldOutEdges), GraphError> {
        if !(share > 0.0 && share < 1.0) {
            return Err(GraphError::config("share", share.to_string(), "a share of the edges above 0 and below 1"));
        }
        let mut edges = self.all();
        edges.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut left: Vec<usize> = self.tags.iter().map(Vec::len).collect();
        let mut to_go = (share * edges.len() as f64).round() as usize;
        let (mut kept, mut aside) = (Vec::new(), Vec::new());
        for edge in edges {
            let of_item = &mut left[edge.0 as usize];
            if to_go > 0 && *of_item > 1 {
                (*of_item, to_go) = (*of_item - 1, to_go - 1);
                aside.push(edge);
            } else {
                kept.push(edge);
            }
        }
        let training = Self::new(self.n_items(), self.n_tags, &kept)?;
        let held_out = HeldOutEdges::new(&training, &aside)?;
        Ok((training, held_out))
    }

    /// The matrix `[items, tags]` of ones, without some edges, which are sorted.
    pub(super) fn without(&self, hidden: &[(u32, u32)]) -> Sparse {
        let left = self.all().into_iter().filter(|edge| hidden.binary_search(edge).is_err());
        Sparse::of(self.n_items(), self.n_tags, left.map(|(item, tag)| (item, tag, 1.0)).collect())
    }
}

impl HeldOutEdges {
    /// Edges (item, tag) of items that were learned from, to be found beside those that are known.
    ///
    /// # Errors
    /// [`GraphError::NoSuch`]; [`GraphError::Leak`] for an edge that is learned from.
    pub fn new(training: &TrainingEdges, edges: &[(u32, u32)]) -> Result<Self, GraphError> {
        if let Some((item, tag)) = edges.iter().find(|(item, tag)| training.has(*item, *tag)) {
            return Err(GraphError::Leak { item: *item, tag: *tag });
        }
        let wanted = lists(training.n_items(), training.n_tags, edges)?;
        Ok(Self { n_tags: training.n_tags, wanted, known: training.tags.clone() })
    }

    /// Edges (item, tag) of `n_items` new items, of which nothing is known: they are counted from 0 and are not those of the training.
    ///
    /// # Errors
    /// [`GraphError::NoSuch`].
    pub fn of_new(n_items: usize, n_tags: usize, edges: &[(u32, u32)]) -> Result<Self, GraphError> {
        Ok(Self { n_tags, wanted: lists(n_items, n_tags, edges)?, known: vec![Vec::new(); n_items] })
    }

    /// Count of edges.
    pub fn n(&self) -> usize {
        self.wanted.iter().map(Vec::len).sum()
    }

    /// The tags of an item that are to be found, ascending.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn of_item(&self, item: usize) -> &[u32] {
        &self.wanted[item]
    }

    /// How well `scores`, a number for each tag of an item, finds what is held out: means over the items of which something is. Known tags
    /// are left out, and of equal numbers the tag that comes first goes first.
    ///
    /// # Errors
    /// [`GraphError::Fit`] for `k` = 0 or scores that are no numbers, [`GraphError::Rows`] for another count of them.
    pub fn figures(&self, k: usize, mut scores: impl FnMut(usize) -> Vec<f64>) -> Result<FoundEdges, GraphError> {
        if k == 0 {
            return Err(GraphError::config("k", "0".to_owned(), "at least 1"));
        }
        let (mut recall, mut ndcg, mut n) = (0.0, 0.0, 0);
        for (item, wanted) in self.wanted.iter().enumerate().filter(|(_, wanted)| !wanted.is_empty()) {
            let ranked = best(&scores(item), &self.known[item], self.n_tags, k)?;
            let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
            let right = |tag: &u32| wanted.binary_search(tag).is_ok();
            let hits: Vec<usize> = ranked.iter().enumerate().filter(|(_, (tag, _))| right(tag)).map(|(rank, _)| rank).collect();
            recall += hits.len() as f64 / wanted.len() as f64;
            ndcg += hits.iter().map(|rank| gain(*rank)).sum::<f64>() / (0..k.min(wanted.len())).map(gain).sum::<f64>();
            n += 1;
        }
        let mean = |sum: f64| if n == 0 { 0.0 } else { sum / f64::from(n) };
        Ok(FoundEdges { recall: mean(recall), ndcg: mean(ndcg), n_queries: n as usize })
    }
}

/// How well held-out edges are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundEdges {
    /// Share of an item's held-out tags among the first `k`, 0 to 1.
    pub recall: f64,
    /// Normalised discounted cumulative gain of the first `k`, 0 to 1.
    pub ndcg: f64,
    /// Items that were asked about.
    pub n_queries: usize,
}

/// The greatest scores of `n` nodes but those that are known (ascending), at most `k` of them, greatest first; of equal ones that of smaller number first.
pub(super) fn best(scores: &[f64], known: &[u32], n: usize, k: usize) -> Result<Vec<(u32, f64)>, GraphError> {
    if scores.len() != n {
        return Err(GraphError::Rows { what: "scores", got: scores.len(), expected: n });
    }
    if let Some(at) = scores.iter().position(|score| score.is_nan()) {
        return Err(GraphError::config("score", format!("NaN for {at}"), "a number for each node"));
    }
    let all = scores.iter().enumerate().map(|(at, score)| (at as u32, *score));
    let mut left: Vec<(u32, f64)> = all.filter(|(at, _)| known.binary_search(at).is_err()).collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    left.truncate(k);
    Ok(left)
}

/// The tags of each item, ascending and once each.
fn lists(n_items: usize, n_tags: usize, edges: &[(u32, u32)]) -> Result<Vec<Vec<u32>>, GraphError> {
    let mut tags = vec![Vec::new(); n_items];
    for (item, tag) in edges {
        GraphError::in_range("item", *item, n_items)?;
        GraphError::in_range("tag", *tag, n_tags)?;
        tags[*item as usize].push(*tag);
    }
    for tags in &mut tags {
        tags.sort_unstable();
        tags.dedup();
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_out_edge_cannot_be_learned_from() {
        let all: Vec<(u32, u32)> = (0..60).map(|e| (e % 20, e * e % 13)).collect();
        let edges = TrainingEdges::new(20, 13, &all).unwrap();
        let (whole, n) = (edges.all(), edges.n());
        let (training, held_out) = edges.hold_out(0.3, 1).unwrap();
        assert_eq!((held_out.n(), training.n() + held_out.n()), ((0.3 * n as f64).round() as usize, n));
        for (item, tag) in whole {
            assert_ne!(training.has(item, tag), held_out.of_item(item as usize).contains(&tag));
        }
        assert!((0..20).all(|item| !training.of_item(item).is_empty()));
        // An attempt to ask for what was learned.
        let learned = training.all()[0];
        let leak = HeldOutEdges::new(&training, &[learned]).unwrap_err();
        assert_eq!(leak, GraphError::Leak { item: learned.0, tag: learned.1 });
    }

    #[test]
    fn figures_are_those_of_a_list_counted_by_hand() {
        let training = TrainingEdges::new(2, 4, &[(0, 0), (1, 1)]).unwrap();
        let held_out = HeldOutEdges::new(&training, &[(0, 1), (0, 3)]).unwrap();
        // Tag 0 is known, so the list is 2, 3, 1, and of the first two places the second is right.
        let found = held_out.figures(2, |_| vec![9.0, 1.0, 3.0, 2.0]).unwrap();
        let second = 1.0 / 3f64.log2();
        assert!((found.recall - 0.5).abs() < 1e-15 && (found.ndcg - second / (1.0 + second)).abs() < 1e-15, "{found:?}");
        assert_eq!(found.n_queries, 1);
        let said = held_out.figures(2, |_| vec![f64::NAN; 4]).unwrap_err().to_string();
        assert_eq!(said, "score is NaN for 0: a number for each node");
        assert_eq!(held_out.figures(2, |_| vec![0.0]).unwrap_err().to_string(), "1 rows of scores, expected 4");
        assert!(held_out.figures(0, |_| vec![0.0; 4]).unwrap_err().to_string().starts_with("k is 0"));
        let no_item = TrainingEdges::new(2, 4, &[(2, 0)]).unwrap_err().to_string();
        assert_eq!(no_item, "there is no item 2: there are 2, counted from 0");
    }
}
