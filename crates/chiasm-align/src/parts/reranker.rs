//! A cross-encoder: a transformer over the words of a text and the regions of a picture in one sequence, which says whether they belong together.
//!
//! # Reference
//! Y.-C. Chen, L. Li, L. Yu, A. El Kholy, F. Ahmed, Z. Gan, Y. Cheng, J. Liu, UNITER: Universal Image-Text Representation Learning, ECCV 2020, sections 3.1 (the
//! one stream) and 3.2 (image-text matching, word-region alignment); the network is that of J. Devlin et al., BERT, 2019. Outputs, losses and gradients are
//! checked against the equations in torch (`reference/align_parts_goldens.py`). Differs from it in: small, and trained from its start on the pairs at hand, not on
//! millions; words and regions are ready vectors, whose encoders know of order and place already (places can also be columns of a region), so there
//! are no embeddings of positions; negatives are pictures that another model finds close; no dropout, for what is set aside ends training.
//!
//! # Model
//! x_word = LN(W_t w + b_t), x_region = LN(W_v r + b_v), x_cls; n_layers times over [cls; words; regions] of a pair: h = LN(x + attention(x)),
//! x = LN(h + W_2 gelu(W_1 h)); score = w tanh(W_p x_cls + b_p) + b.
//!
//! loss = mean softplus(-z score) + weight / n sum z <T, 1 - cos(words, regions)>, z = 1 for a text with its picture, -1 for one with another; T the plan of
//! optimal transport between the outputs of its words and regions (`transport.rs`), through which no gradient passes.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | W_t, W_v | `EMBED` | `[dim, d_t]`, `[dim, d_v]` | type embeddings are in the biases |
//! | CLS | `EMBED` | `[1, dim]` | |
//! | blocks | `block.rs`, one for each layer | `[dim, dim]` x 4, `[hidden, dim]`, `[dim, hidden]`, biases, gains | |
//!
//! # Start
//! Some thousand pairs are few to learn from that like vectors belong together. So words and regions come in by the maps of a fitted [`Scan`], turned at random to the
//! width of the network, which makes cosines of words with their regions great, and in each block keys begin as queries, so that like attends to like.
//! What differs within a matched pair is left to be learned; the alignment by transport is what starts that (`crates/chiasm-align/tests/align/parts.rs` prints both).
//!
//! # Cost
//! One pass for each pair, O(n_layers (m dim (dim + hidden) + m^2 dim)) for m parts of both sides: for the first 20 or 100 of a cheaper model.
//!
//! # Determinism
//! The seed decides the start, the batches, the negatives and what is set aside; a score differs in its last digits with what is scored beside it.
//!
//! # Errors
//! [`FitError::Config`], [`FitError::Sets`], [`FitError::Constant`], [`FitError::TooFewRows`], [`FitError::Numeric`], [`FitError::Cancelled`]; scoring: [`SetError`].

use chiasm_nn::grad::{Array, Real, Tape, Var};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::block::{self, EPS};
use super::learn::{self, Batch, Course, Lesson};
use super::scan::{Scan, nearest};
use super::sets::{Captioned, PartSets, SetError, Standard, check_lists, starts};
use super::transport::Ipot;
use crate::draft::Key;
use crate::fit::{FitError, Run};

/// Parameters before the blocks: weight and bias of words and of regions, gain and shift of either, the token that is asked.
const EMBED: usize = 9;
/// Size of what begins near nothing.
const SMALL: f32 = 0.02;
/// Pairs that are scored together.
const AT_ONCE: usize = 256;

/// The network and how it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct RerankerConfig {
    /// Width of the network, a multiple of `n_heads`; 1 to 4096.
    pub dim: usize,
    /// Heads of attention; at least 1.
    pub n_heads: usize,
    /// Blocks; 1 to 48.
    pub n_layers: usize,
    /// Width within a block; 1 to 16384.
    pub hidden: usize,
    /// Weight of the alignment by transport; at least 0.
    pub alignment: f64,
    /// Wrong pictures for each text of a batch; at least 1.
    pub n_negatives: usize,
    /// Greatest learning rate; above 0.
    pub learning_rate: f64,
    /// Decoupled weight decay; at least 0.
    pub weight_decay: f64,
    /// Texts of a batch; at least 2.
    pub batch: usize,
    /// Epochs at most, each over all texts; at least 1.
    pub max_epochs: usize,
}

impl Default for RerankerConfig {
    /// UNITER's weight of the alignment and decay; a network for thousands of pairs, not millions.
    fn default() -> Self {
        Self {
            dim: 64,
            n_heads: 4,
            n_layers: 2,
            hidden: 256,
            alignment: 0.1,
            n_negatives: 3,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            batch: 32,
            max_epochs: 30,
        }
    }
}

impl RerankerConfig {
    fn course(&self) -> Course {
        Course { rate: self.learning_rate, decay: self.weight_decay, batch: self.batch, max_epochs: self.max_epochs }
    }

    fn check(&self) -> Result<(), FitError> {
        self.course().check()?;
        crate::reduced::at_least_zero("alignment", self.alignment)?;
        crate::reduced::at_least_one("n_heads", self.n_heads)?;
        crate::reduced::at_least_one("n_negatives", self.n_negatives)?;
        let wrong = |name, value: usize, expected| Err(FitError::Config { name, value: value.to_string(), expected });
        if !(1..=4096).contains(&self.dim) || !self.dim.is_multiple_of(self.n_heads) {
            return wrong("dim", self.dim, "1 to 4096, and a multiple of n_heads");
        }
        if !(1..=48).contains(&self.n_layers) {
            return wrong("n_layers", self.n_layers, "1 to 48");
        }
        if !(1..=16384).contains(&self.hidden) {
            return wrong("hidden", self.hidden, "1 to 16384");
        }
        Ok(())
    }
}

/// A fitted network.
#[derive(Clone, Debug, PartialEq)]
pub struct Reranker {
    n_heads: usize,
    parameters: Vec<Array<f32>>,
}

impl Reranker {
    /// Learns from pictures and their texts. `lists[t]` are pictures that a cheaper model finds close to text `t`, from which the wrong ones are drawn (any
    /// pictures where there are too few). A seventh of the pictures is set aside with its texts, and the epoch is kept after which these stand highest in their lists; with
    /// fewer than 50 pictures all epochs are run. `start` was fitted on the same parts.
    ///
    /// # Errors
    /// Those of the head of this file.
    pub fn fit(
        config: &RerankerConfig,
        data: &Captioned<'_>,
        lists: &[Vec<u32>],
        start: &Scan,
        run: &Run<'_>,
    ) -> Result<Reranker, FitError> {
        config.check()?;
        let views = [data.texts(), data.pictures()];
        check_lists(lists, views[0], views[1])?;
        if views[1].n() < 2 {
            return Err(FitError::TooFewRows { got: views[1].n(), least: 2, what: "to learn from".to_owned() });
        }
        start.expect(data.pictures(), data.texts()).map_err(SetError::from)?;
        let [regions, words] = start.maps();
        let mut rng = ChaCha8Rng::seed_from_u64(run.seed ^ 0x4EA4);
        let (mut standards, mut sets) = (Vec::new(), Vec::new());
        let mut parameters = Vec::new();
        let turn = normal(config.dim, regions.0.n_rows(), 1.0 / (regions.0.n_rows() as f32).sqrt(), &mut rng);
        for (view, ((weight, bias), rows)) in [words, regions].into_iter().zip(views).enumerate() {
            let standard = Standard::of(rows.rows(), 1 - view)?;
            let (mut weight, mut bias) = (weight.clone(), bias.clone());
            standard.unfold(&mut weight, &mut bias);
            let tape = Tape::new();
            let [turn, weight, bias] = [turn.clone(), weight, bias].map(|a| tape.constant(a));
            parameters.extend([turn.dot(weight), bias.dot_rows(turn)].map(|var| Array::clone(&var.value())));
            sets.push(PartSets::of(standard.apply(rows.rows()), rows.lengths().to_vec()));
            standards.push(standard);
        }
        parameters.extend(network(config, &mut rng));
        let lesson = Matching { config, data, lists, sets };
        let mut parameters = learn::learn(parameters, &config.course(), data.picture_of(), &lesson, run)?;
        for (pair, standard) in parameters.chunks_exact_mut(2).zip(standards) {
            let [weight, bias] = pair else { continue };
            standard.fold(weight, bias);
        }
        Ok(Reranker { n_heads: config.n_heads, parameters })
    }

    /// The scores of pairs of a text and a picture, by their numbers; greater is likelier: `1 / (1 + e^-score)` is the probability that they belong together, where
    /// one pair in `1 + n_negatives` does.
    ///
    /// # Errors
    /// [`SetError::Project`].
    ///
    /// # Panics
    /// If there is no such text or picture.
    pub fn scores(&self, pictures: &PartSets, texts: &PartSets, pairs: &[(usize, usize)]) -> Result<Vec<f32>, SetError> {
        // The views are numbered as Scan's are.
        pictures.expect_dim(0, self.parameters[2].n_cols())?;
        texts.expect_dim(1, self.parameters[0].n_cols())?;
        Ok(score(&self.parameters, self.n_heads, [texts, pictures], pairs))
    }

    /// The pictures of each text's list in the order of their scores, the likeliest first.
    ///
    /// # Errors
    /// [`SetError::Lists`], [`SetError::NoSuchPicture`], [`SetError::Project`].
    pub fn rerank(&self, pictures: &PartSets, texts: &PartSets, lists: &[Vec<u32>]) -> Result<Vec<Vec<u32>>, SetError> {
        check_lists(lists, texts, pictures)?;
        let pairs: Vec<(usize, usize)> = lists
            .iter()
            .enumerate()
            .flat_map(|(text, list)| list.iter().map(move |picture| (text, *picture as usize)))
            .collect();
        let mut scores = &self.scores(pictures, texts, &pairs)?[..];
        let ordered = lists.iter().map(|list| {
            let (own, rest) = scores.split_at(list.len());
            scores = rest;
            nearest(own, list.len()).into_iter().map(|at| list[at as usize]).collect()
        });
        Ok(ordered.collect())
    }
}

impl Reranker {
    /// All that it learned.
    pub(super) fn parameters(&self) -> &[Array<f32>] {
        &self.parameters
    }

    /// One of this shape that learned this.
    pub(super) fn of_parameters(config: &RerankerConfig, parameters: Vec<Array<f32>>) -> Result<Reranker, String> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let expected = network(config, &mut rng);
        let [words, bias_of_words, regions, bias_of_regions, rest @ ..] = parameters.as_slice() else {
            return Err(format!("it has {} tensors, expected {}", parameters.len(), 4 + expected.len()));
        };
        let of_maps = [words, regions].iter().all(|map| map.n_rows() == config.dim)
            && [bias_of_words, bias_of_regions].iter().all(|bias| bias.shape() == [1, config.dim]);
        if !of_maps || rest.len() != expected.len() || rest.iter().zip(&expected).any(|(got, want)| got.shape() != want.shape())
        {
            return Err("its tensors are not those of the network".to_owned());
        }
        Ok(Reranker { n_heads: config.n_heads, parameters })
    }

    /// Numbers of a region, and of a word.
    pub(super) fn part_dims(&self) -> [usize; 2] {
        [self.parameters[2].n_cols(), self.parameters[0].n_cols()]
    }
}

/// Parameters after the maps of words and regions, at the start.
fn network(config: &RerankerConfig, rng: &mut ChaCha8Rng) -> Vec<Array<f32>> {
    let dim = config.dim;
    let row = |value: f32, n: usize| Array::full(1, n, value);
    let mut p = vec![row(1.0, dim), row(0.0, dim), row(1.0, dim), row(0.0, dim), normal(1, dim, SMALL, rng)];
    p.extend((0..config.n_layers).flat_map(|_| block::start(dim, config.hidden, rng)));
    p.extend([learn::weight(dim, dim, rng), row(0.0, dim), normal(1, dim, SMALL, rng), row(0.0, 1)]);
    p
}

fn normal(n: usize, m: usize, size: f32, rng: &mut ChaCha8Rng) -> Array<f32> {
    // The sum of twelve even numbers, which is near enough to a Gaussian.
    Array::from_fn(n, m, |_, _| size * (0..12).map(|_| rng.random_range(-0.5_f32..0.5)).sum::<f32>())
}

/// What a batch of pairs comes to.
pub(super) struct Passed<'t, T> {
    /// The score of each pair, `[n, 1]`.
    pub(super) scores: Var<'t, T>,
    /// The outputs of all words and of all regions, `[sum of lengths, dim]`.
    pub(super) outputs: [Var<'t, T>; 2],
}

/// The network over pairs: text `i` of words `[sum of lengths, d_t]` with picture `i` of regions `[sum of lengths, d_v]`.
pub(super) fn forward<'t, T: Real>(
    p: &[Var<'t, T>],
    n_heads: usize,
    [words, regions]: [Var<'t, T>; 2],
    lengths: [&[usize]; 2],
) -> Passed<'t, T> {
    let tape = words.tape();
    let words = words.linear(p[0], Some(p[1])).layer_norm(p[4], p[5], EPS);
    let regions = regions.linear(p[2], Some(p[3])).layer_norm(p[6], p[7], EPS);
    // The token, all words, all regions, one under the other; then a row for each place of each pair.
    let n_words: usize = lengths[0].iter().sum();
    let firsts = lengths.map(starts);
    let (mut order, mut of_pairs, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    let mut places = [Vec::new(), Vec::new()];
    for pair in 0..lengths[0].len() {
        let (n, m) = (lengths[0][pair], lengths[1][pair]);
        asked.push(order.len());
        order.push(0);
        places[0].extend(order.len()..order.len() + n);
        order.extend(1 + firsts[0][pair]..1 + firsts[0][pair] + n);
        places[1].extend(order.len()..order.len() + m);
        order.extend(1 + n_words + firsts[1][pair]..1 + n_words + firsts[1][pair] + m);
        of_pairs.push(1 + n + m);
    }
    let mut x = tape.under(&[p[EMBED - 1], words, regions]).rows(order);
    let (blocks, head) = p[EMBED..].split_at(p.len() - EMBED - 4);
    for b in blocks.chunks_exact(block::N_PARAMETERS) {
        x = block::forward(b, x, &of_pairs, n_heads);
    }
    let scores = x.rows(asked).linear(head[0], Some(head[1])).tanh().linear(head[2], Some(head[3]));
    Passed { scores, outputs: places.map(|places| x.rows(places)) }
}

/// The loss of pairs, of which `matched` belong together, `[1, 1]`.
pub(super) fn loss<'t, T: Real>(
    passed: &Passed<'t, T>,
    lengths: [&[usize]; 2],
    matched: &[bool],
    alignment: f64,
) -> Var<'t, T> {
    let n = matched.len();
    let signs = Array::from_fn(n, 1, |i, _| T::of(if matched[i] { 1.0 } else { -1.0 }));
    let signs = passed.scores.tape().constant(signs);
    let matching = passed.scores.times_column(signs).scaled(T::of(-1.0)).softplus().mean();
    if alignment == 0.0 {
        return matching;
    }
    let [words, regions] = passed.outputs.map(Var::unit_rows);
    let distances = Ipot::default().distances(words, regions, lengths).times_column(signs);
    matching + distances.sum().scaled(T::of(alignment / n as f64))
}

/// Scores of pairs of a text and a picture.
fn score(p: &[Array<f32>], n_heads: usize, sets: [&PartSets; 2], pairs: &[(usize, usize)]) -> Vec<f32> {
    let of_part = |part: &[(usize, usize)]| {
        let (texts, pictures): (Vec<usize>, Vec<usize>) = part.iter().copied().unzip();
        let picked = [sets[0].pick(&texts), sets[1].pick(&pictures)];
        let tape = Tape::new();
        let p: Vec<Var<'_, f32>> = p.iter().map(|p| tape.constant(p.clone())).collect();
        let rows = [0, 1].map(|v| tape.constant(picked[v].rows().clone()));
        let scores = forward(&p, n_heads, rows, [picked[0].lengths(), picked[1].lengths()]).scores.value();
        scores.data().to_vec()
    };
    pairs.chunks(AT_ONCE).flat_map(of_part).collect()
}

/// What is learned from: texts, each with its picture and others close to it.
struct Matching<'a> {
    config: &'a RerankerConfig,
    data: &'a Captioned<'a>,
    lists: &'a [Vec<u32>],
    /// Words and regions at the scale of the maps.
    sets: Vec<PartSets>,
}

impl Matching<'_> {
    /// Wrong pictures of a text, none of those that were set aside where others are left.
    fn negatives(&self, text: usize, is_aside: &[bool], rng: &mut ChaCha8Rng) -> Vec<usize> {
        let own = self.data.picture_of()[text];
        let close = |picture: &&u32| **picture != own && !is_aside[**picture as usize];
        let mut wrong: Vec<usize> = self.lists[text].iter().filter(close).map(|picture| *picture as usize).collect();
        wrong.shuffle(rng);
        wrong.truncate(self.config.n_negatives);
        if wrong.len() < self.config.n_negatives {
            let others: Vec<usize> = (0..is_aside.len()).filter(|p| *p != own as usize && !is_aside[*p]).collect();
            let missing = self.config.n_negatives - wrong.len();
            wrong.extend((0..missing).filter_map(|_| others.choose(rng)));
        }
        wrong
    }
}

impl Lesson for Matching<'_> {
    fn loss<'t>(&self, tape: &'t Tape<f32>, p: &[Var<'t, f32>], batch: &Batch<'_>, rng: &mut ChaCha8Rng) -> Var<'t, f32> {
        let mut is_aside = vec![false; self.data.pictures().n()];
        batch.aside.iter().zip(self.data.picture_of()).for_each(|(aside, picture)| is_aside[*picture as usize] |= aside);
        let (mut texts, mut pictures, mut matched) = (Vec::new(), Vec::new(), Vec::new());
        for text in batch.items {
            let wrong = self.negatives(*text, &is_aside, rng);
            texts.extend(std::iter::repeat_n(*text, 1 + wrong.len()));
            pictures.push(self.data.picture_of()[*text] as usize);
            matched.push(true);
            matched.extend(wrong.iter().map(|_| false));
            pictures.extend(wrong);
        }
        let sets = [self.sets[0].pick(&texts), self.sets[1].pick(&pictures)];
        let rows = [0, 1].map(|v| tape.constant(sets[v].rows().clone()));
        let lengths = [sets[0].lengths(), sets[1].lengths()];
        loss(&forward(p, self.config.n_heads, rows, lengths), lengths, &matched, self.config.alignment)
    }

    fn tell(&self, key: &mut Key) {
        key.words(&format!("{:?} {:?}", self.config, self.lists));
        key.numbers(self.data.picture_of());
        self.sets.iter().for_each(|sets| sets.tell(key));
    }

    fn figure(&self, p: &[Array<f32>], aside: &[usize]) -> f64 {
        // One that the cheaper model did not find is compared with what it found.
        let list = |text: usize| {
            let own = self.data.picture_of()[text];
            let others = self.lists[text].iter().copied().filter(move |picture| *picture != own);
            std::iter::once(own).chain(others).map(move |picture| (text, picture as usize))
        };
        let lists: Vec<Vec<(usize, usize)>> = aside.iter().map(|text| list(*text).collect()).collect();
        let mut scores = &score(p, self.config.n_heads, [&self.sets[0], &self.sets[1]], &lists.concat())[..];
        let of_list = |list: &Vec<(usize, usize)>| {
            let (own, rest) = scores.split_at(list.len());
            scores = rest;
            1.0 / own.iter().filter(|score| **score >= own[0]).count() as f64
        };
        lists.iter().map(of_list).sum::<f64>() / lists.len().max(1) as f64
    }
}
