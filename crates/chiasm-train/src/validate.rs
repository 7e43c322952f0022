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
use crate::tape::{Bound, Network, Scales};

/// Things at most: each is compared with all others after every epoch.
const MOST: usize = 1_000;
/// Ways of a thing at most, captions in several languages among them.
const MOST_WAYS: usize = 12;
/// Inputs that go through a tower at once.
const AT_ONCE: usize = 64;

/// Embeddings of one kind: unit rows, and the thing that each is of.
struct Embedded {
    rows: Array<f32>,
    things: Vec<usize>,
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
            embedded.insert(modality, Embedded { rows, things });
        }
        let mut directions = Vec::new();
        for [a, b] in self.pairs {
            for (from, to) in [(a, b), (b, a)] {
                directions.extend(direction(*from, &embedded[from], *to, &embedded[to]));
            }
        }
        let mut swaps = Vec::new();
        let texts = self.networks.iter().find(|network| network.modality() == Modality::Text);
        for network in self.networks.iter().filter(|network| network.modality() != Modality::Text) {
            if let Some(texts) = texts {
                swaps.extend(self.swaps(network.modality(), texts.as_ref(), rows, &embedded, weights)?);
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
            let of = weights.iter().map(|(name, value)| (name.clone(), tape.constant(Arc::clone(value)))).collect();
            let bound = Bound { tape: &tape, of, scales: self.scales.clone() };
            data.extend_from_slice(network.embed(&bound, part, None).value().data());
        }
        Ok(Array::new(inputs.len(), network.projection(), data))
    }

    /// How often the first text of a thing is closer to it than the texts that are wrong by an exchange.
    fn swaps(
        &self,
        media: Modality,
        texts: &dyn Network,
        rows: &[usize],
        embedded: &HashMap<Modality, Embedded>,
        weights: &BTreeMap<String, Arc<Array<f32>>>,
    ) -> Result<Vec<Swapped>> {
        let wrong = rows.iter().flat_map(|row| self.data.rows[*row].wrong.iter().map(|(swap, text)| (*row, *swap, text)));
        let (wrong, told): (Vec<(usize, chiasm_world::Swap)>, Vec<Media>) =
            wrong.map(|(row, swap, text)| ((row, swap), Media::Text(text.clone()))).unzip();
        let wrong: Vec<(usize, chiasm_world::Swap, Arc<Prepared>)> = wrong
            .into_iter()
            .zip(self.prepare.media(told))
            .filter_map(|((row, swap), had)| Some((row, swap, had.ok()?)))
            .collect();
        let inputs: Vec<Arc<Prepared>> = wrong.iter().map(|(_, _, input)| Arc::clone(input)).collect();
        let wrong_rows = self.embed(texts, &inputs, weights)?;
        let place = |of: &Embedded, thing: usize| of.things.iter().position(|other| *other == thing);
        let (of_media, of_texts) = (&embedded[&media], &embedded[&Modality::Text]);
        let mut counts: Vec<(String, usize, usize)> = Vec::new();
        let mut n_told: HashMap<usize, usize> = HashMap::new();
        for (at, (row, swap, _)) in wrong.iter().enumerate() {
            let (Some(thing), Some(right)) = (place(of_media, *row), place(of_texts, *row)) else { continue };
            // Texts come in both languages, right and wrong in the same order: each is compared with its own.
            let told = n_told.entry(*row).or_default();
            let right = right + *told % 2;
            *told += 1;
            let x = of_media.rows.row(thing);
            let closer = dot(x, of_texts.rows.row(right)) > dot(x, wrong_rows.row(at));
            let what = format!("{swap:?}").to_lowercase();
            let count = match counts.iter().position(|(name, ..)| *name == what) {
                Some(at) => &mut counts[at],
                None => {
                    counts.push((what, 0, 0));
                    counts.last_mut().expect("just pushed")
                }
            };
            count.1 += usize::from(closer);
            count.2 += 1;
        }
        let swapped = |(what, right, n): (String, usize, usize)| Swapped {
            what,
            media: media.to_string(),
            right: right as f64 / n as f64,
            n,
        };
        Ok(counts.into_iter().map(swapped).collect())
    }
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
    if ranks.is_empty() {
        return None;
    }
    let n = ranks.len() as f64;
    let within = |k: usize| ranks.iter().filter(|rank| **rank <= k).count() as f64 / n;
    Some(Direction {
        from: from.to_string(),
        to: to.to_string(),
        recall: [1, 5, 10].map(within),
        mrr: ranks.iter().map(|rank| 1.0 / *rank as f64).sum::<f64>() / n,
        n_queries: ranks.len(),
        n_gallery: known.len(),
    })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
