//! What reads a text with a picture before it, as it learns: the network of `crates/chiasm-encode/src/nets/chiasm_pair.rs` on a tape.
//!
//! Two towers that never meet before their embeddings do cannot tell what belongs to what: an embedding has room for which things are there, hardly for
//! which of them is above. Here the words look at the patches, and one number comes out for the pair. It is learned by matching with hard negatives (Li et al., "Align
//! before Fuse", NeurIPS 2021, section 3.2): for each picture a wrong text and for each text a wrong picture, drawn the likelier the closer the towers find them; and texts that are
//! wrong by an exchange, where the data have some.

use chiasm_core::Modality;
use chiasm_encode::{EPS, Sizes};
use chiasm_nn::grad::{Array, Sees, Var};
use chiasm_nn::learn::Parameter;
use chiasm_world::Swap;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::tape::{Act, Blocks, Bound, Dropout, Names, States, normal};
use crate::tower::{drawn_block, drawn_dense, drawn_norm};

/// What the names of its parameters begin with.
pub(crate) const PREFIX: &str = "matching";

/// Its sizes, and those of the towers whose states it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matching {
    pub(crate) sizes: Sizes,
    pub(crate) text_width: usize,
    pub(crate) image_width: usize,
    /// Patches of a picture.
    pub(crate) n_patches: usize,
}

/// Size of the places of patches at the start: states are normalised, and what is far below them would be slow to be seen.
const OF_PLACES: f64 = 0.3;

/// A text and a picture that are read together, by their numbers in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) text: usize,
    pub(crate) picture: usize,
}

impl Matching {
    /// The parameters at the start, drawn as those of the towers are.
    pub(crate) fn drawn(&self, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        let Sizes { width, layers, .. } = self.sizes;
        let by_width = 1.0 / (width as f64).sqrt();
        let mut all = vec![Parameter::plain(at("places"), normal(self.n_patches, self.image_width, OF_PLACES, rng))];
        drawn_dense(&mut all, &at("words"), [width, self.text_width], 1.0 / (self.text_width as f64).sqrt(), rng);
        for layer in 0..layers {
            drawn_block(&mut all, &names(layer), self.sizes, rng);
            let look = |part: &str| at(&format!("blocks.{layer}.look.{part}"));
            drawn_norm(&mut all, &look("norm"), width);
            let by_image = 1.0 / (self.image_width as f64).sqrt();
            for (part, n_in, deviation) in [
                ("q", width, by_width),
                ("k", self.image_width, by_image),
                ("v", self.image_width, by_image),
                ("out", width, by_width),
            ] {
                drawn_dense(&mut all, &look(part), [width, n_in], deviation, rng);
            }
        }
        drawn_norm(&mut all, &at("norm"), width);
        all.push(Parameter::weight(at("score.weight"), normal(1, width, by_width, rng)));
        all.push(Parameter::plain(at("score.bias"), Array::zeros(1, 1)));
        all
    }

    /// The score of each pair, `[n, 1]`: its sigmoid is how likely the two belong together.
    pub(crate) fn scores<'t>(
        &self,
        on: &Bound<'t>,
        texts: &States<'t>,
        pictures: &States<'t>,
        pairs: &[Pair],
        dropout: &mut Option<Dropout>,
    ) -> Var<'t, f32> {
        let names_of = |i: usize| names(i);
        let blocks = Blocks { sizes: self.sizes, eps: EPS, act: Act::Gelu, sees: Sees::All, names: &names_of };
        let places = pictures.lengths.iter().flat_map(|n| 0..*n).collect::<Vec<usize>>();
        let pictures = States { rows: pictures.rows + on.get(&at("places")).rows(places), lengths: pictures.lengths.clone() };
        let entered = States { rows: on.linear(texts.rows, &at("words")), lengths: texts.lengths.clone() };
        let States { rows: mut x, lengths } = entered.pick(pairs.iter().map(|pair| pair.text));
        for i in 0..self.sizes.layers {
            let (names, look) = (names(i), |part: &str| at(&format!("blocks.{i}.look.{part}")));
            x = on.mixed(x, &blocks, &names, &lengths, dropout);
            // Keys and values once for each picture, however many texts look at it.
            let seen = |part: &str| {
                let of_pictures = States { rows: on.linear(pictures.rows, &look(part)), lengths: pictures.lengths.clone() };
                of_pictures.pick(pairs.iter().map(|pair| pair.picture))
            };
            let (k, v) = (seen("k"), seen("v"));
            let q = on.linear(on.norm(x, &look("norm"), EPS), &look("q"));
            let found = q.attend(k.rows, v.rows, &lengths, &k.lengths, self.sizes.heads, Sees::All);
            x = x + on.dropped(on.linear(found, &look("out")), dropout);
            x = on.fed(x, &blocks, &names, dropout);
        }
        let means = on.norm(x, &at("norm"), EPS).mean_of_runs(&lengths);
        on.linear(means, &at("score"))
    }
}

fn at(part: &str) -> String {
    format!("{PREFIX}.{part}")
}

fn names(layer: usize) -> Names {
    Names::under(&at(&format!("blocks.{layer}")))
}

/// The mean over pairs of `-log sigmoid(z score)`, `z` being 1 where the two belong together, else -1.
pub(crate) fn loss<'t>(scores: Var<'t, f32>, matched: &[bool]) -> Var<'t, f32> {
    let signs = Array::from_fn(matched.len(), 1, |i, _| if matched[i] { -1.0 } else { 1.0 });
    (scores * scores.tape().constant(signs)).softplus().mean()
}

/// Texts that are wrong by an exchange, `n` at most and of each kind of exchange one, drawn.
pub(crate) fn exchanged<'a>(texts: &'a [(Swap, String)], n: usize, rng: &mut ChaCha8Rng) -> Vec<&'a str> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.shuffle(rng);
    let mut kinds: Vec<Swap> = Vec::new();
    let mut drawn = Vec::new();
    for (kind, text) in order.into_iter().map(|at| &texts[at]) {
        if drawn.len() < n && !kinds.contains(kind) {
            kinds.push(*kind);
            drawn.push(text.as_str());
        }
    }
    drawn
}

/// What a batch's pairs are drawn from: row `i` of the cosines is of picture `i`, column `i` of text `i`, which belong together.
pub(crate) struct Drawn<'a> {
    /// `[n, n]`.
    pub(crate) cosines: &'a Array<f32>,
    /// What they are multiplied by.
    pub(crate) scale: f32,
    /// Of one group, texts and pictures are right answers to one another.
    pub(crate) groups: &'a [u64],
    /// For each picture the numbers of texts that are wrong by an exchange, where there are any.
    pub(crate) exchanged: &'a [Vec<usize>],
    /// Pictures that are read at most; 0: all.
    pub(crate) most: usize,
}

impl Drawn<'_> {
    /// The pairs that are read, and whether they belong together.
    pub(crate) fn pairs(&self, rng: &mut ChaCha8Rng) -> (Vec<Pair>, Vec<bool>) {
        let n = self.groups.len();
        let mut chosen: Vec<usize> = (0..n).collect();
        if self.most > 0 && self.most < n {
            chosen.shuffle(rng);
            chosen.truncate(self.most);
        }
        let (mut pairs, mut matched) = (Vec::new(), Vec::new());
        let mut add = |text: usize, picture: usize, right: bool| {
            pairs.push(Pair { text, picture });
            matched.push(right);
        };
        for i in chosen {
            add(i, i, true);
            if let Some(text) = self.wrong(i, |j| self.cosines.at(i, j), rng) {
                add(text, i, false);
            }
            if let Some(picture) = self.wrong(i, |j| self.cosines.at(j, i), rng) {
                add(i, picture, false);
            }
            self.exchanged[i].iter().for_each(|text| add(*text, i, false));
        }
        (pairs, matched)
    }

    /// One of another group, by shares that grow with the exponential of the cosine.
    fn wrong(&self, i: usize, cosine: impl Fn(usize) -> f32, rng: &mut ChaCha8Rng) -> Option<usize> {
        let others: Vec<usize> = (0..self.groups.len()).filter(|j| self.groups[*j] != self.groups[i]).collect();
        let most = others.iter().map(|j| cosine(*j)).fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f64> = others.iter().map(|j| f64::from(self.scale * (cosine(*j) - most)).exp()).collect();
        let mut left = rng.random::<f64>() * shares.iter().sum::<f64>();
        let drawn = shares.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        drawn.or(others.len().checked_sub(1)).map(|at| others[at])
    }
}

/// The kinds that are read together.
pub(crate) const READ: [Modality; 2] = [Modality::Image, Modality::Text];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chiasm_core::{Media, Picture};
    use chiasm_encode::{Inputs, ModelDirs, Prepared, open_cross_encoder};
    use chiasm_nn::grad::Tape;
    use chiasm_world::{WorldConfig, captions, deck, picture};

    use super::*;
    use crate::config::Config;
    use crate::data::Data;
    use crate::model;
    use crate::tape::{Network, stream};

    const CONFIG: &str = r#"
        [model]
        projection = 24
        image = { size = 32, patch = 8, width = 32, inner = 48, layers = 1, heads = 4 }
        text = { vocabulary = 300, tokens = 24, width = 24, inner = 40, layers = 2, heads = 2 }
        series = { steps = 96, channels = 4, window = 8, width = 16, inner = 32, layers = 1, heads = 2 }
        matching = { width = 16, inner = 40, layers = 2, heads = 2 }
        [[data]]
        kind = "world"
        world = 5
        scenes = 30
    "#;

    /// What is learned is what is computed: scores on the tape, and those of the encoder that opens what was written.
    #[test]
    fn the_tape_and_the_cross_encoder_agree() {
        let folder = tempfile::tempdir().unwrap();
        let model = model::written::write(CONFIG, folder.path());
        let matching = model.matching.unwrap();
        let scenes = deck(&WorldConfig { seed: 5, n_train: 4, n_heldout: 0 }).unwrap();
        let pictures: Vec<_> = scenes.iter().enumerate().map(|(i, scene)| picture(scene, 5, i)).collect();
        let texts: Vec<String> = scenes.iter().enumerate().map(|(i, scene)| captions(scene, 5, i)[i % 2].clone()).collect();
        let tape = Tape::new();
        let bound = model.bound(&tape);
        let states = |kind: Modality, media: Vec<Media>| {
            let before = Inputs::open(folder.path(), kind).unwrap();
            let prepared: Vec<Arc<Prepared>> = media.iter().map(|media| Arc::new(before.prepare(media).unwrap())).collect();
            let shape = model.shapes.iter().find(|shape| shape.modality == kind).unwrap();
            shape.see(&bound, &prepared, None).states.unwrap()
        };
        let of_pictures = states(Modality::Image, pictures.iter().cloned().map(Media::Image).collect());
        let of_texts = states(Modality::Text, texts.iter().cloned().map(Media::Text).collect());
        let pairs: Vec<Pair> = (0..4).flat_map(|text| (0..4).map(move |picture| Pair { text, picture })).collect();
        let on_tape = matching.scores(&bound, &of_texts, &of_pictures, &pairs, &mut None).value();

        let encoder = open_cross_encoder(&folder.path().to_string_lossy(), &ModelDirs::default()).unwrap();
        let pictures: Vec<Picture> = pictures.into_iter().map(Picture::Pixels).collect();
        let mut seen = Vec::new();
        for (text, words) in texts.iter().enumerate() {
            let of_text = encoder.score_pictures(words, &pictures).unwrap();
            for (picture, score) in of_text.iter().enumerate() {
                let want = 1.0 / (1.0 + (-on_tape.at(4 * text + picture, 0)).exp());
                // Numbers of size one through four blocks in single precision.
                assert!((score.get() - want).abs() < 5e-6, "text {text}, picture {picture}: {} and {want}", score.get());
                seen.push(score.get());
            }
            let back = encoder.score_texts(&pictures[text], &texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let want: Vec<f32> = (0..4).map(|other| 1.0 / (1.0 + (-on_tape.at(4 * other + text, 0)).exp())).collect();
            assert!(back.iter().zip(&want).all(|(a, b)| (a.get() - b).abs() < 5e-6), "{back:?} and {want:?}");
        }
        seen.sort_by(f32::total_cmp);
        assert!(seen[15] - seen[0] > 1e-3, "scores that do not differ would agree whatever was computed: {seen:?}");
    }

    #[test]
    fn a_model_that_reads_nothing_together_is_no_cross_encoder() {
        let folder = tempfile::tempdir().unwrap();
        let text = CONFIG.replace("matching = {", "# matching = {");
        let config: Config = toml::from_str(&text).unwrap();
        let data = Data::open(&config, &config.modalities()).unwrap();
        model::describe(config.model.as_ref().unwrap(), &data, folder.path()).unwrap();
        let refused = open_cross_encoder(&folder.path().to_string_lossy(), &ModelDirs::default()).err().unwrap().to_string();
        assert!(refused.contains("was trained without [model.matching]"), "{refused}");
    }

    #[test]
    fn exchanges_that_are_read_are_of_different_kinds() {
        let texts: Vec<(Swap, String)> =
            Swap::ALL.iter().flat_map(|kind| (0..4).map(move |way| (*kind, format!("{kind:?} {way}")))).collect();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..100 {
            let mut rng = stream(1, "test", number);
            for (n, expected) in [(0, 0), (1, 1), (2, 2), (3, 3), (9, 3)] {
                let drawn = exchanged(&texts, n, &mut rng);
                let mut kinds: Vec<&str> = drawn.iter().map(|text| &text[..4]).collect();
                kinds.sort_unstable();
                kinds.dedup();
                assert_eq!([drawn.len(), kinds.len()], [expected; 2], "{drawn:?}");
                seen.extend(drawn);
            }
        }
        assert_eq!(seen.len(), texts.len(), "every text comes");
        assert!(exchanged(&[], 3, &mut stream(1, "test", 0)).is_empty());
    }

    #[test]
    fn wrong_ones_are_of_other_groups_and_mostly_close() {
        let cosines = Array::from_fn(4, 4, |i, j| if (i, j) == (0, 2) || (i, j) == (3, 0) { 0.9 } else { 0.1 });
        let exchanged = [vec![], vec![5, 6], vec![], vec![]];
        let drawn = Drawn { cosines: &cosines, scale: 20.0, groups: &[7, 7, 8, 9], exchanged: &exchanged, most: 0 };
        let mut rng = stream(1, "test", 0);
        let mut close = [0; 2];
        for _ in 0..100 {
            let (pairs, matched) = drawn.pairs(&mut rng);
            assert_eq!(pairs.len(), 14, "four right ones, eight wrong ones, two exchanged");
            for (pair, matched) in pairs.iter().zip(&matched) {
                assert_eq!(*matched, pair.text == pair.picture, "{pair:?}");
                assert!(*matched || pair.text > 4 || drawn.groups[pair.text] != drawn.groups[pair.picture], "{pair:?}");
            }
            close[0] += usize::from(pairs.contains(&Pair { text: 2, picture: 0 }));
            close[1] += usize::from(pairs.contains(&Pair { text: 0, picture: 3 }));
        }
        assert!(close.iter().all(|n| *n > 95), "{close:?}");
        let few = Drawn { most: 2, ..drawn };
        assert_eq!(few.pairs(&mut rng).1.iter().filter(|matched| **matched).count(), 2);
        // Where all are of one group there is nothing to be told from.
        let none = [const { Vec::new() }; 4];
        let alone = Drawn { groups: &[7; 4], exchanged: &none, ..few };
        assert!(alone.pairs(&mut rng).1.iter().all(|matched| *matched));
    }
}
