//! How well things that were set aside find one another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chiasm_core::{Cancel, Media, Modality};
use chiasm_encode::Prepared;
use chiasm_nn::grad::{Array, Tape};
use rayon::prelude::*;

use crate::data::{Data, Key, Prepare};
use crate::error::Result;
use crate::log::{Direction, Swapped};
use crate::matching::{self, Matching, READ};
use crate::tape::{Bound, Network, Scales, States};

/// Things at most: each is compared with all others after every epoch.
const MOST: usize = 1_000;
/// Ways of a thing at most, captions in several languages among them.
const MOST_WAYS: usize = 12;
/// Inputs that go through a tower at once.
const AT_ONCE: usize = 64;
/// Things at most whose texts and pictures are read together: each pair costs a pass.
const MOST_READ: usize = 200;
/// Places of a list that are read.
const READ_AHEAD: usize = 20;

/// Embeddings of one kind: unit rows, the thing that each is of, and what it was made of.
struct Embedded {
    rows: Array<f32>,
    things: Vec<usize>,
    inputs: Vec<Arc<Prepared>>,
}

/// The states of some inputs, `[tokens, width]` each, by their numbers.
type Kept = HashMap<usize, Array<f32>>;

/// A text that is wrong by an exchange, beside the right one: numbers of the thing, of the right text, and of the wrong one.
struct Exchanged {
    what: String,
    thing: usize,
    right: usize,
    wrong: usize,
}

/// The figures.
pub(crate) struct Figures {
    pub(crate) directions: Vec<Direction>,
    pub(crate) swaps: Vec<Swapped>,
}

impl Figures {
    /// Mean reciprocal rank over all directions, 0 where nothing was set aside.
    pub(crate) fn mean(&self) -> f64 {
        let n = self.directions.len().max(1) as f64;
        self.directions.iter().map(|d| d.mrr).sum::<f64>() / n
    }
}

/// What looks for things with given weights.
pub(crate) struct Validator<'a> {
    pub(crate) data: &'a Data,
    pub(crate) prepare: &'a Prepare,
    pub(crate) networks: &'a [Box<dyn Network>],
    pub(crate) pairs: &'a [[Modality; 2]],
    /// What reads a text with a picture before it; what it finds is measured too.
    pub(crate) matching: Option<&'a Matching>,
    pub(crate) scales: &'a Scales,
    pub(crate) cancel: &'a Cancel,
}

impl Validator<'_> {
    /// All figures, over the first [`MOST`] things that were set aside.
    pub(crate) fn figures(&self, weights: &BTreeMap<String, Arc<Array<f32>>>) -> Result<Figures> {
        let rows = &self.data.validation[..self.data.validation.len().min(MOST)];
        let mut embedded = HashMap::new();
        for network in self.networks {
            let modality = network.modality();
            let keys: Vec<Key> = rows
                .iter()
                .filter_map(|row| Some((*row, self.data.rows[*row].parts.get(&modality)?.len())))
                .flat_map(|(row, n)| (0..n.min(MOST_WAYS)).map(move |way| (row, modality, way)))
                .collect();
            let (mut things, mut inputs) = (Vec::new(), Vec::new());
            for keys in keys.chunks(AT_ONCE) {
                self.cancel.check()?;
                // What cannot be read was told when it was first met, or is told then.
                let prepared = keys.iter().zip(self.prepare.all(self.data, keys));
                for (key, input) in prepared.filter_map(|(key, had)| Some((key, had.ok()?))) {
                    things.push(key.0);
                    inputs.push(input);
                }
            }
            let rows = self.embed(network.as_ref(), &inputs, weights)?;
            embedded.insert(modality, Embedded { rows, things, inputs });
        }
        let mut directions = Vec::new();
        for [a, b] in self.pairs {
            for (from, to) in [(a, b), (b, a)] {
                directions.extend(direction(*from, &embedded[from], *to, &embedded[to]));
            }
        }
        let mut swaps = Vec::new();
        if let Some(texts) = self.networks.iter().find(|network| network.modality() == Modality::Text) {
            let (told, wrong) = self.wrong(rows);
            let wrong_rows = self.embed(texts.as_ref(), &wrong, weights)?;
            for media in self.networks.iter().map(|network| network.modality()).filter(|media| *media != Modality::Text) {
                let exchanged = exchanged(&told, &embedded[&media], &embedded[&Modality::Text]);
                let (of_media, of_texts) = (&embedded[&media].rows, &embedded[&Modality::Text].rows);
                swaps.extend(swapped(media.to_string(), &exchanged, |e| {
                    let x = of_media.row(e.thing);
                    dot(x, of_texts.row(e.right)) > dot(x, wrong_rows.row(e.wrong))
                }));
            }
            if let Some(matching) = self.matching {
                self.matched(matching, &embedded, (&told, &wrong), weights, (&mut directions, &mut swaps))?;
            }
        }
        Ok(Figures { directions, swaps })
    }

    /// Embeddings, `[n, d]`.
    pub(crate) fn embed(
        &self,
        network: &dyn Network,
        inputs: &[Arc<Prepared>],
        weights: &BTreeMap<String, Arc<Array<f32>>>,
    ) -> Result<Array<f32>> {
        let mut data = Vec::with_capacity(inputs.len() * network.projection());
        for part in inputs.chunks(AT_ONCE) {
            self.cancel.check()?;
            let tape = Tape::new();
            data.extend_from_slice(network.embed(&self.bound(&tape, weights), part, None).value().data());
        }
        Ok(Array::new(inputs.len(), network.projection(), data))
    }

    /// The texts that are wrong by an exchange, of each thing and exchange.
    fn wrong(&self, rows: &[usize]) -> (Vec<(usize, chiasm_world::Swap)>, Vec<Arc<Prepared>>) {
        let wrong = rows.iter().flat_map(|row| self.data.rows[*row].wrong.iter().map(|(swap, text)| (*row, *swap, text)));
        let (of, told): (Vec<(usize, chiasm_world::Swap)>, Vec<Media>) =
            wrong.map(|(row, swap, text)| ((row, swap), Media::Text(text.clone()))).unzip();
        let prepared = of.into_iter().zip(self.prepare.media(told));
        prepared.filter_map(|(of, had)| Some((of, had.ok()?))).unzip()
    }

    /// What reading texts and pictures together finds among the first [`READ_AHEAD`] places of what the towers found, and which exchanges it sees.
    fn matched(
        &self,
        matching: &Matching,
        embedded: &HashMap<Modality, Embedded>,
        (told, wrong): (&[(usize, chiasm_world::Swap)], &[Arc<Prepared>]),
        weights: &BTreeMap<String, Arc<Array<f32>>>,
        (directions, swaps): (&mut Vec<Direction>, &mut Vec<Swapped>),
    ) -> Result<()> {
        let [pictures, texts] = READ.map(|kind| &embedded[&kind]);
        // The first way of each thing that is known in both.
        let first = |of: &Embedded, thing: usize| of.things.iter().position(|other| *other == thing);
        let mut things = pictures.things.clone();
        things.dedup();
        let both: Vec<[usize; 2]> = things
            .into_iter()
            .filter_map(|thing| Some([first(pictures, thing)?, first(texts, thing)?]))
            .take(MOST_READ)
            .collect();
        let read: std::collections::HashSet<usize> = both.iter().map(|[picture, _]| *picture).collect();
        let mut exchanged = exchanged(told, pictures, texts);
        exchanged.retain(|e| read.contains(&e.thing));
        let needed = exchanged.iter().map(|e| e.right).chain(both.iter().map(|[_, text]| *text));
        let network = |kind: Modality| self.networks.iter().find(|n| n.modality() == kind).expect("both have a tower").as_ref();
        let of_pictures =
            self.keep(network(READ[0]), &pictures.inputs, both.iter().map(|[picture, _]| *picture).collect(), weights)?;
        let of_texts = self.keep(network(READ[1]), &texts.inputs, needed.collect(), weights)?;
        let of_wrong = self.keep(network(READ[1]), wrong, exchanged.iter().map(|e| e.wrong).collect(), weights)?;

        for [from, to] in [[1, 0], [0, 1]] {
            let rows = [&pictures.rows, &texts.rows];
            let mut lists = Vec::new();
            for asks in &both {
                let query = rows[from].row(asks[from]);
                let scores: Vec<f32> = both.iter().map(|item| dot(query, rows[to].row(item[to]))).collect();
                let mut order: Vec<usize> = (0..both.len()).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
                lists.push(order);
            }
            let asked = lists.iter().enumerate().flat_map(|(i, list)| list.iter().take(READ_AHEAD).map(move |j| (i, *j)));
            let pairs: Vec<[&Array<f32>; 2]> = asked
                .map(|(i, j)| {
                    let (picture, text) = if to == 0 { (j, i) } else { (i, j) };
                    [&of_pictures[&both[picture][0]], &of_texts[&both[text][1]]]
                })
                .collect();
            let mut scores = &self.read(matching, &pairs, weights)?[..];
            let ranks: Vec<usize> = lists
                .iter()
                .enumerate()
                .map(|(i, list)| {
                    let (own, rest) = scores.split_at(list.len().min(READ_AHEAD));
                    scores = rest;
                    let place = list.iter().position(|j| *j == i).expect("all stand in the list");
                    match own.get(place) {
                        // Equal scores count against it.
                        Some(right) => 1 + own.iter().enumerate().filter(|(at, s)| *at != place && *s >= right).count(),
                        None => 1 + place,
                    }
                })
                .collect();
            let name = |kind: usize| READ[kind].to_string();
            directions.extend(of_ranks(name(from), format!("{} (matched)", name(to)), &ranks, both.len()));
        }
        let beside = |texts: Vec<&Array<f32>>| {
            let pairs: Vec<[&Array<f32>; 2]> =
                exchanged.iter().zip(texts).map(|(e, text)| [&of_pictures[&e.thing], text]).collect();
            self.read(matching, &pairs, weights)
        };
        let right = beside(exchanged.iter().map(|e| &of_texts[&e.right]).collect())?;
        let wrong = beside(exchanged.iter().map(|e| &of_wrong[&e.wrong]).collect())?;
        let closer: HashMap<usize, bool> =
            exchanged.iter().zip(right.iter().zip(&wrong)).map(|(e, (r, w))| (e.wrong, r > w)).collect();
        swaps.extend(swapped(format!("{} (matched)", READ[0]), &exchanged, |e| closer[&e.wrong]));
        Ok(())
    }

    /// The states of some of the inputs.
    fn keep(
        &self,
        network: &dyn Network,
        inputs: &[Arc<Prepared>],
        mut which: Vec<usize>,
        weights: &BTreeMap<String, Arc<Array<f32>>>,
    ) -> Result<Kept> {
        which.sort_unstable();
        which.dedup();
        let mut kept = HashMap::new();
        for part in which.chunks(AT_ONCE) {
            self.cancel.check()?;
            let tape = Tape::new();
            let inputs: Vec<Arc<Prepared>> = part.iter().map(|at| Arc::clone(&inputs[*at])).collect();
            let seen = network.see(&self.bound(&tape, weights), &inputs, None);
            let states = seen.states.expect("towers that are read have states");
            for (i, at) in part.iter().enumerate() {
                kept.insert(*at, Array::clone(&states.pick(std::iter::once(i)).rows.value()));
            }
        }
        Ok(kept)
    }

    /// The scores of pairs of a picture's states and a text's.
    fn read(
        &self,
        matching: &Matching,
        pairs: &[[&Array<f32>; 2]],
        weights: &BTreeMap<String, Arc<Array<f32>>>,
    ) -> Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(pairs.len());
        for part in pairs.chunks(AT_ONCE) {
            self.cancel.check()?;
            let tape = Tape::new();
            let side = |at: usize| {
                let lengths: Vec<usize> = part.iter().map(|pair| pair[at].n_rows()).collect();
                let rows: Vec<f32> = part.iter().flat_map(|pair| pair[at].data()).copied().collect();
                States { rows: tape.constant(Array::new(lengths.iter().sum(), part[0][at].n_cols(), rows)), lengths }
            };
            let each: Vec<matching::Pair> = (0..part.len()).map(|i| matching::Pair { text: i, picture: i }).collect();
            let read = matching.scores(&self.bound(&tape, weights), &side(1), &side(0), &each, &mut None);
            scores.extend_from_slice(read.value().data());
        }
        Ok(scores)
    }

    fn bound<'t>(&self, tape: &'t Tape<f32>, weights: &BTreeMap<String, Arc<Array<f32>>>) -> Bound<'t> {
        let of = weights.iter().map(|(name, value)| (name.clone(), tape.constant(Arc::clone(value)))).collect();
        Bound { tape, of, scales: self.scales.clone() }
    }
}

/// The wrong texts of things that are known in both kinds, each with the right one to which it is compared.
fn exchanged(told: &[(usize, chiasm_world::Swap)], of_media: &Embedded, of_texts: &Embedded) -> Vec<Exchanged> {
    let place = |of: &Embedded, thing: usize| of.things.iter().position(|other| *other == thing);
    let mut n_told: HashMap<usize, usize> = HashMap::new();
    let mut all = Vec::new();
    for (wrong, (row, swap)) in told.iter().enumerate() {
        let (Some(thing), Some(first)) = (place(of_media, *row), place(of_texts, *row)) else { continue };
        // Texts come in both languages, right and wrong in the same order: each is compared with its own.
        let told = n_told.entry(*row).or_default();
        let right = first + *told % 2;
        *told += 1;
        all.push(Exchanged { what: format!("{swap:?}").to_lowercase(), thing, right, wrong });
    }
    all
}

/// How often the right text is closer, by what is exchanged.
fn swapped(media: String, exchanged: &[Exchanged], closer: impl Fn(&Exchanged) -> bool) -> Vec<Swapped> {
    let mut counts: Vec<(&str, usize, usize)> = Vec::new();
    for e in exchanged {
        let at = counts.iter().position(|(name, ..)| *name == e.what).unwrap_or(counts.len());
        if at == counts.len() {
            counts.push((&e.what, 0, 0));
        }
        counts[at].1 += usize::from(closer(e));
        counts[at].2 += 1;
    }
    let swapped = |(what, right, n): (&str, usize, usize)| Swapped {
        what: what.to_owned(),
        media: media.clone(),
        right: right as f64 / n as f64,
        n,
    };
    counts.into_iter().map(swapped).collect()
}

/// Ranks of the first right answer of each query; what asks and what is found may be known in several ways.
fn direction(from: Modality, queries: &Embedded, to: Modality, gallery: &Embedded) -> Option<Direction> {
    let known: std::collections::HashSet<usize> = gallery.things.iter().copied().collect();
    let ranks: Vec<usize> = (0..queries.things.len())
        .into_par_iter()
        .filter(|i| known.contains(&queries.things[*i]))
        .map(|i| {
            let query = queries.rows.row(i);
            let scores: Vec<f32> = (0..gallery.things.len()).map(|j| dot(query, gallery.rows.row(j))).collect();
            let best = (0..scores.len())
                .filter(|j| gallery.things[*j] == queries.things[i])
                .map(|j| scores[j])
                .fold(f32::NEG_INFINITY, f32::max);
            // Things, not ways: five captions of one picture ahead are one mistake. Equal scores count against it.
            let ahead: std::collections::HashSet<usize> = (0..scores.len())
                .filter(|j| gallery.things[*j] != queries.things[i] && scores[*j] >= best)
                .map(|j| gallery.things[j])
                .collect();
            1 + ahead.len()
        })
        .collect();
    of_ranks(from.to_string(), to.to_string(), &ranks, known.len())
}

/// The figures of ranks, if there are any.
fn of_ranks(from: String, to: String, ranks: &[usize], n_gallery: usize) -> Option<Direction> {
    if ranks.is_empty() {
        return None;
    }
    let n = ranks.len() as f64;
    let within = |k: usize| ranks.iter().filter(|rank| **rank <= k).count() as f64 / n;
    Some(Direction {
        from,
        to,
        recall: [1, 5, 10].map(within),
        mrr: ranks.iter().map(|rank| 1.0 / *rank as f64).sum::<f64>() / n,
        n_queries: ranks.len(),
        n_gallery,
    })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
