//! Tags for items that lack them, learned from those that people gave.
//!
//! # Where an item stands
//! At the mean of its vectors in the library's first lane, less the mean of its kind: what was said of pictures then counts for sounds and texts too, which
//! lie elsewhere in a joint space.
//!
//! # Two ways
//! | | an item gets |
//! | --- | --- |
//! | `neighbours` | the tags of the ten nearest tagged items, each by its cosine |
//! | `graphsage` | tags whose learned rows fit its own, [`chiasm_align::graphs::sage`] along the edges between items and tags |
//!
//! Which is taken is decided on the library's own tags: a fifth of the tagged items is set aside as if it had none, and the way that finds more of its tags is taken,
//! `neighbours` when they are level. Another fifth, which had no part in that, tells how well, beside the tags that are most frequent. Then all are learned from.

use std::collections::{BTreeMap, HashMap};

use chiasm_align::Run;
use chiasm_align::graphs::{
    GraphError, GraphMethod, HeldOutEdges, ItemTagGraph, Recommender, RecommenderConfig, TrainingEdges,
};
use chiasm_core::{Cancel, Metric, Modality, Progress, SearchOptions, VectorIndex, Vectors};
use chiasm_index::ExactIndex;
use rusqlite::Connection;
use serde::Serialize;

use crate::fit::stopped;
use crate::live::Live;
use crate::{EngineError, Item, Library, Result, tags};

/// Tagged items that are looked at for one.
const NEIGHBOURS: usize = 10;
/// With fewer tagged items nothing is set aside: a fifth of them would tell nothing.
const MEASURED_FROM: usize = 50;

/// How tags come from tagged items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TagWay {
    /// From the nearest tagged items.
    Neighbours,
    /// From a graph network along the edges between items and tags.
    GraphSage,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SuggestRequest {
    /// Items by their numbers; all that have no tag when empty.
    pub items: Vec<i64>,
    /// Tags for each at most.
    pub k: usize,
    /// The way; the better one where none is named.
    pub way: Option<TagWay>,
    /// Decides every random choice.
    pub seed: u64,
}

/// What is suggested, and how far it may be trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TagSuggestions {
    /// The way that was taken.
    pub way: TagWay,
    /// Items that were learned from.
    pub n_tagged: usize,
    /// Tags there are.
    pub n_tags: usize,
    /// How well tags are found that are known; absent with too few tagged items.
    pub figures: Option<TagFigures>,
    /// For each item that was asked for, in the order of their numbers.
    pub items: Vec<SuggestedTags>,
}

/// Share of an item's tags among the `k` suggested, means over items that were set aside whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TagFigures {
    /// Tags suggested for each.
    pub k: usize,
    /// Of each way, on the items by which it was chosen; empty where it was named.
    pub chosen_by: Vec<(TagWay, f64)>,
    /// Of the way that was taken, on other items.
    pub recall: f64,
    /// Of the most frequent tags, on these.
    pub most_frequent: f64,
    /// How many items these are.
    pub measured_on: usize,
}

/// An item and what it may be tagged with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuggestedTags {
    /// The item.
    pub item: Item,
    /// Tags that it has.
    pub has: Vec<String>,
    /// Tags that it lacks, best first.
    pub suggested: Vec<SuggestedTag>,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuggestedTag {
    /// The tag.
    pub tag: String,
    /// `neighbours`: the share of the nearest that have it, weighed by their cosines, above 0 and up to 1. `graphsage`: a cosine. Comparable within one
    /// answer only.
    pub score: f64,
}

impl Library {
    /// Suggests tags for items, learned from the tags that other items have.
    ///
    /// # Errors
    /// [`EngineError::Query`] for `k` = 0, and for a library in which fewer than two items and two tags are learned from; [`EngineError::NoSuchItem`];
    /// [`EngineError::Cancelled`]; [`EngineError::Store`].
    pub fn suggest_tags(&self, request: &SuggestRequest, progress: &dyn Progress, cancel: &Cancel) -> Result<TagSuggestions> {
        if request.k == 0 {
            return Err(EngineError::Query("0 tags were asked for: expected at least 1".to_owned()));
        }
        let live = self.first().live(&self.store)?;
        let places = Places::of(&live, self.space().dim());
        let known = Known::read(&*self.store.reader()?, &places).map_err(self.store.err("cannot read tags"))?;
        let (n_tagged, n_tags) = (known.tagged.len(), known.tags.len());
        if n_tagged < 2 || n_tags < 2 {
            return Err(EngineError::Query(format!(
                "{n_tagged} items have tags, and {n_tags} tags are used: tags are learned from at least two of both; give some first"
            )));
        }
        let learner = Learner { places: &places, known: &known, k: request.k, seed: request.seed, progress, cancel };
        let (way, figures) = learner.chosen(request.way)?;

        let mut asked: Vec<usize> = match request.items.as_slice() {
            [] => (0..places.items.len()).filter(|place| known.of[*place].is_empty()).collect(),
            items => {
                let place =
                    |item: &i64| places.items.binary_search(item).map_err(|_| EngineError::NoSuchItem(item.to_string()));
                items.iter().map(place).collect::<Result<_>>()?
            }
        };
        asked.sort_unstable();
        asked.dedup();
        let scores = learner.scores(way, &known.tagged, &asked)?;
        let items = asked.into_iter().zip(scores).map(|(place, scores)| {
            let has = &known.of[place];
            let mut ranked: Vec<(usize, f64)> =
                scores.into_iter().enumerate().filter(|(tag, score)| *score > 0.0 && !has.contains(&(*tag as u32))).collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let tag = |(tag, score): (usize, f64)| SuggestedTag { tag: known.tags[tag].clone(), score };
            Ok(SuggestedTags {
                item: self.item(places.items[place])?,
                has: has.iter().map(|tag| known.tags[*tag as usize].clone()).collect(),
                suggested: ranked.into_iter().take(request.k).map(tag).collect(),
            })
        });
        Ok(TagSuggestions { way, n_tagged, n_tags, figures, items: items.collect::<Result<_>>()? })
    }
}

/// Where items stand.
struct Places {
    /// Their numbers, ascending.
    items: Vec<i64>,
    /// A row for each.
    rows: Vectors,
}

impl Places {
    fn of(live: &Live, dim: usize) -> Self {
        let mut sums: BTreeMap<i64, (Modality, usize, Vec<f64>)> = BTreeMap::new();
        for (kind, (rows, _)) in &live.by_kind {
            for row in rows.iter() {
                let (_, n, sum) = sums.entry(live.item(row)).or_insert_with(|| (*kind, 0, vec![0.0; dim]));
                *n += 1;
                // A vector may hold more, by which it is ranked.
                sum.iter_mut().zip(live.index().vector(row)).for_each(|(sum, v)| *sum += f64::from(*v));
            }
        }
        let mut means: BTreeMap<Modality, (f64, Vec<f64>)> = BTreeMap::new();
        for (kind, n, sum) in sums.values_mut() {
            let share = 1.0 / *n as f64;
            sum.iter_mut().for_each(|sum| *sum *= share);
            let (count, mean) = means.entry(*kind).or_insert_with(|| (0.0, vec![0.0; dim]));
            *count += 1.0;
            mean.iter_mut().zip(&*sum).for_each(|(mean, v)| *mean += v);
        }
        let mut data = Vec::with_capacity(sums.len() * dim);
        for (kind, _, row) in sums.values() {
            let (count, mean) = &means[kind];
            // At the ends of what a number holds a difference may lie beyond them.
            let held = |v: f64| v.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
            data.extend(row.iter().zip(mean).map(|(v, mean)| held(v - mean / count)));
        }
        let rows = Vectors::new(data, dim).expect("means of finite vectors of one dimension");
        Self { items: sums.into_keys().collect(), rows }
    }

    fn pick(&self, places: &[usize]) -> Vectors {
        let data = places.iter().flat_map(|place| self.rows.row(*place)).copied().collect();
        Vectors::new(data, self.rows.dim()).expect("rows that were checked")
    }
}

/// The tags that people gave.
struct Known {
    /// In their own order.
    tags: Vec<String>,
    /// Those of each place, ascending.
    of: Vec<Vec<u32>>,
    /// Places that have some.
    tagged: Vec<usize>,
}

impl Known {
    fn read(connection: &Connection, places: &Places) -> rusqlite::Result<Self> {
        let mut pairs: Vec<(usize, String)> = Vec::new();
        if tags::exist(connection)? {
            let mut statement = connection.prepare("SELECT item, tag FROM tags ORDER BY tag, item")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                // An item without a vector here cannot be learned from.
                if let Ok(place) = places.items.binary_search(&row.get(0)?) {
                    pairs.push((place, row.get(1)?));
                }
            }
        }
        let (mut tags, mut numbers) = (Vec::new(), HashMap::new());
        let mut of = vec![Vec::new(); places.items.len()];
        for (place, tag) in pairs {
            // Tags that differ in the case of ASCII letters alone are one.
            let number = *numbers.entry(tag.to_ascii_lowercase()).or_insert_with(|| {
                tags.push(tag);
                tags.len() as u32 - 1
            });
            of[place].push(number);
        }
        of.iter_mut().for_each(|tags| tags.sort_unstable());
        let tagged = (0..of.len()).filter(|place| !of[*place].is_empty()).collect();
        Ok(Self { tags, of, tagged })
    }

    /// Edges from these places, numbered as they come.
    fn edges(&self, places: &[usize]) -> Vec<(u32, u32)> {
        places.iter().zip(0..).flat_map(|(place, item)| self.of[*place].iter().map(move |tag| (item, *tag))).collect()
    }
}

/// Learns tags from some places and scores them for others.
struct Learner<'a> {
    places: &'a Places,
    known: &'a Known,
    k: usize,
    seed: u64,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl Learner<'_> {
    /// The way to take, and how well it does.
    fn chosen(&self, named: Option<TagWay>) -> Result<(TagWay, Option<TagFigures>)> {
        let n = self.known.tagged.len();
        if n < MEASURED_FROM {
            return Ok((named.unwrap_or(TagWay::Neighbours), None));
        }
        let mut order = self.known.tagged.clone();
        // In an order that hangs on the items' numbers alone, so that tagging one more changes little.
        let draw = |place: &usize| {
            let drawn = [self.seed.to_le_bytes(), self.places.items[*place].to_le_bytes()].concat();
            *blake3::hash(&drawn).as_bytes()
        };
        order.sort_by_cached_key(draw);
        let (measuring, rest) = order.split_at(n / 5);
        let (choosing, learning) = rest.split_at(n / 5);
        let (way, chosen_by) = match named {
            Some(way) => (way, Vec::new()),
            None => {
                let found =
                    |way| -> Result<(TagWay, f64)> { Ok((way, self.recall(choosing, self.scores(way, learning, choosing)?)?)) };
                let [first, second] = [found(TagWay::Neighbours)?, found(TagWay::GraphSage)?];
                (if second.1 > first.1 { second.0 } else { first.0 }, vec![first, second])
            }
        };
        let mut counts = vec![0.0; self.known.tags.len()];
        rest.iter().flat_map(|place| &self.known.of[*place]).for_each(|tag| counts[*tag as usize] += 1.0);
        let figures = TagFigures {
            k: self.k,
            chosen_by,
            recall: self.recall(measuring, self.scores(way, rest, measuring)?)?,
            most_frequent: self.recall(measuring, vec![counts; measuring.len()])?,
            measured_on: measuring.len(),
        };
        Ok((way, Some(figures)))
    }

    /// Share of the tags of these places among the first of their scores.
    fn recall(&self, places: &[usize], scores: Vec<Vec<f64>>) -> Result<f64> {
        let wanted = HeldOutEdges::of_new(places.len(), self.known.tags.len(), &self.known.edges(places)).map_err(failed)?;
        Ok(wanted.figures(self.k, |item| scores[item].clone()).map_err(failed)?.recall)
    }

    /// For each of `asked` the scores of all tags, learned from these places; a place is not its own teacher.
    fn scores(&self, way: TagWay, learned_from: &[usize], asked: &[usize]) -> Result<Vec<Vec<f64>>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        match way {
            TagWay::Neighbours => self.by_neighbours(learned_from, asked),
            TagWay::GraphSage => self.by_graph(learned_from, asked),
        }
    }

    fn by_neighbours(&self, learned_from: &[usize], asked: &[usize]) -> Result<Vec<Vec<f64>>> {
        let mut learned_from = learned_from.to_vec();
        learned_from.sort_unstable();
        let ids: Vec<u64> = learned_from.iter().map(|place| *place as u64).collect();
        let index = ExactIndex::build(&ids, &self.places.pick(&learned_from), Metric::Cosine);
        let index = index.expect("places ascend, a row for each");
        let near = index.search(&self.places.pick(asked), NEIGHBOURS + 1, &SearchOptions::default())?;
        let scores = near.iter().zip(asked).map(|(hits, place)| {
            let others = hits.iter().filter(|hit| hit.id != *place as u64).take(NEIGHBOURS);
            let weighed: Vec<(usize, f64)> = others.map(|hit| (hit.id as usize, f64::from(hit.score.get()).max(0.0))).collect();
            let total = weighed.iter().map(|(_, weight)| weight).sum::<f64>().max(f64::MIN_POSITIVE);
            let mut scores = vec![0.0; self.known.tags.len()];
            for (other, weight) in weighed {
                self.known.of[other].iter().for_each(|tag| scores[*tag as usize] += weight / total);
            }
            scores
        });
        Ok(scores.collect())
    }

    fn by_graph(&self, learned_from: &[usize], asked: &[usize]) -> Result<Vec<Vec<f64>>> {
        let n_tags = self.known.tags.len();
        let edges = TrainingEdges::new(learned_from.len(), n_tags, &self.known.edges(learned_from)).map_err(failed)?;
        let rows = self.places.pick(learned_from);
        let graph = ItemTagGraph::new(edges, &[rows.view()]).map_err(failed)?;
        let run = Run { seed: self.seed, progress: self.progress, cancel: self.cancel, draft: None };
        let learned = Recommender::fit(&RecommenderConfig::new(GraphMethod::GraphSage), &graph, &run);
        self.progress.finish();
        let learned = learned.map_err(failed)?;
        // By their features alone, also those that were learned from: their own tags would only say what is known.
        let rows = learned.embed_new(&[self.places.pick(asked).view()]).map_err(failed)?;
        (0..asked.len()).map(|i| learned.tag_scores_of(rows.row(i)).map_err(failed)).collect()
    }
}

fn failed(error: GraphError) -> EngineError {
    if let GraphError::Fit(fit) = error { stopped(fit) } else { EngineError::Query(error.to_string()) }
}
