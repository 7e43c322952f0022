//! Two towers on the course ([`crate::course`]): their batches, what is set aside to see how long, and what they are as a space.

use std::collections::BTreeMap;

use chiasm_core::Labels;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::descent::{Descent, Pace};
use super::memory::{self, Context, Memory};
use super::tower::{self, Dropout, Tower};
use super::unit::UnitRows;
use super::{Batch, Judge, Objective, TowerConfig};
use crate::course::{Course, Learner};
use crate::draft::{Part, Saved};
use crate::fit::{FitError, Run};
use crate::linalg::{self, Mat, product};
use crate::preprocess::ViewConfig;
use crate::reduced::{Reduced, Solution, pick_rows};

/// Fewer groups than these, and none are set aside.
const MIN_GROUPS: usize = 100;
/// One group of so many is set aside.
const SET_ASIDE: usize = 7;
/// Groups that are to be looked for, over all parts set aside: on fewer, chance decides.
const LOOKED_FOR: usize = 100;
/// Groups of a part at most: each is compared with all others after every epoch.
const MOST_LOOKED_FOR: usize = 1_000;
/// Rows with classes in a part without which those that have none are looked for as well, each by its partner.
const ENOUGH_KNOWN: usize = 20;
/// The training itself, once it is known how long.
const STAGE: &str = "training";
/// Length of all gradients together at most.
const MAX_NORM: f64 = 2.0;

/// All that is learned from.
struct Set<'a> {
    /// Rows in their axes, `[n, m_v]`.
    rows: [Mat; 2],
    /// By what they are multiplied before they go in.
    whitening: [Vec<f64>; 2],
    /// Root of the mean square of the rows' numbers.
    scales: [f64; 2],
    groups: &'a [u32],
    labels: Option<&'a Labels>,
    /// Whether the rows of view 0 are outputs already, which stay as they are.
    held: bool,
}

impl Set<'_> {
    /// Some rows as they go in.
    fn inputs(&self, view: usize, rows: &[usize]) -> Mat {
        let mut x = pick_rows(&self.rows[view], rows);
        linalg::scale_cols(&mut x, &self.whitening[view]);
        x
    }

    /// By classes a row that has none is an answer to the rows of its group alone.
    fn related(&self, a: usize, b: usize) -> bool {
        match self.labels {
            Some(labels) if !labels.of(a).is_empty() => labels.of(a).iter().any(|class| labels.of(b).contains(class)),
            _ => self.groups[a] == self.groups[b],
        }
    }

    fn batch(&self, rows: &[usize], done: f64, rng_seed: u64) -> Batch {
        let related = rows.iter().flat_map(|a| rows.iter().map(|b| self.related(*a, *b))).collect();
        let inputs = [0, 1].map(|v| pick_rows(&self.rows[v], rows));
        Batch { inputs, related, labels: self.labels.map(|labels| labels.pick(rows)), done, scales: self.scales, rng_seed }
    }
}

/// What training leaves.
pub(super) struct Learned {
    /// The towers as a solution.
    pub(super) solution: Solution,
    /// The objective's own parameters.
    pub(super) own: Vec<Mat>,
    /// Root of the mean square of the numbers of each view in its axes.
    pub(super) scales: [f64; 2],
    /// What the towers put out for all rows, where that is more than coordinates.
    pub(super) outputs: Option<[Mat; 2]>,
}

/// Trains the towers for `n_epochs`, or for as long as rows set aside are found better.
pub(super) fn learn(
    config: &TowerConfig,
    objective: &dyn Objective,
    reduced: &Reduced,
    views: &[ViewConfig],
    n_epochs: Option<usize>,
    run: &Run<'_>,
) -> Result<Learned, FitError> {
    let [w0, w1] = <[Vec<f64>; 2]>::try_from(reduced.whitening(views)).expect("two views were checked");
    let rows = [0, 1].map(|v| reduced.rows(v, &views[v]).to_owned());
    let set = Set {
        scales: [0, 1].map(|v| root_mean_square(&rows[v])),
        rows,
        whitening: [w0, w1],
        groups: reduced.groups(),
        labels: objective.needs_labels().then(|| reduced.labels()),
        held: false,
    };
    let all: Vec<usize> = (0..reduced.n()).collect();
    let mut trainer = trained(config, objective, &set, &all, n_epochs, run)?;
    let towers = trainer.towers();
    let of_all = || outputs(&towers, &set, &all);
    let after = objective.finish(&of_all)?;
    let (mut weights, mut offsets, mut tail) = (Vec::new(), Vec::new(), Vec::new());
    for (v, tower) in towers.iter().enumerate() {
        let (first, added, mut steps) = tower.steps(&set.whitening[v], after.as_ref().map(|after| &after[v]));
        steps.extend(objective.tail());
        weights.push(first);
        offsets.push(added);
        tail.push(steps);
    }
    let outputs = objective.tells_variances().then(&of_all);
    let notes = outputs.as_ref().map_or(Vec::new(), |outputs| objective.notes(outputs));
    let own = trainer.descent.mean.split_off(2 * tower::N_PARAMETERS);
    Ok(Learned {
        solution: Solution { tail, notes, ..Solution::meaningful(weights, offsets) },
        own,
        scales: set.scales,
        outputs,
    })
}

fn root_mean_square(rows: &Mat) -> f64 {
    let squares: f64 = (0..rows.ncols()).map(|j| rows.col(j).iter().map(|x| x * x).sum::<f64>()).sum();
    (squares / (rows.nrows() * rows.ncols()).max(1) as f64).sqrt().max(f64::MIN_POSITIVE)
}

/// Trains a tower for the only view of `reduced`, towards rows `held [n, k]` that stay as they are.
pub(super) fn solve_held(
    config: &TowerConfig,
    objective: &dyn Objective,
    reduced: &Reduced,
    held: &Mat,
    run: &Run<'_>,
) -> Result<Solution, FitError> {
    let view = config.views[1];
    let whitening = reduced.whitening(&[view]).remove(0);
    let set = Set {
        rows: [held.clone(), reduced.rows(0, &view).to_owned()],
        whitening: [vec![1.0; held.ncols()], whitening],
        scales: [1.0; 2],
        groups: reduced.groups(),
        labels: None,
        held: true,
    };
    let all: Vec<usize> = (0..reduced.n()).collect();
    let [_, tower] = trained(config, objective, &set, &all, None, run)?.towers();
    let (weights, offsets, mut steps) = tower.steps(&set.whitening[1], None);
    steps.extend(objective.tail());
    Ok(Solution { tail: vec![steps], ..Solution::meaningful(vec![weights], vec![offsets]) })
}

/// Towers trained on all rows for so many epochs, or for as many as parts set aside say.
fn trained<'a>(
    config: &'a TowerConfig,
    objective: &'a dyn Objective,
    set: &'a Set<'a>,
    all: &[usize],
    n_epochs: Option<usize>,
    run: &Run<'_>,
) -> Result<Trainer<'a>, FitError> {
    let mut part = Part::new(run, "training", |key| {
        key.words(&format!("{} {config:?} {objective:?} {n_epochs:?} {}", objective.name(), set.held));
        set.rows.iter().for_each(|rows| key.mat(rows));
        key.words(&format!("{:?}", set.whitening));
        key.numbers(set.groups);
        key.labels(set.labels);
    });
    let saved = part.read().and_then(|bytes| Saved::from_bytes(&bytes));
    let reached = saved.as_ref().and_then(Course::reached).filter(|(stage, _)| stage == STAGE);
    let max_epochs = match (n_epochs, reached) {
        (Some(n_epochs), _) | (None, Some((_, n_epochs))) => n_epochs,
        (None, None) => how_long(config, objective, set, saved.as_ref(), &mut part, run)?,
    };
    let begin = || Ok(vec![Trainer::new(config, objective, set, all, run.seed)?]);
    let course = Course { stage: STAGE, max_epochs, part: &mut part, saved: saved.as_ref(), run };
    let (mut trainers, _) = course.go(&begin, None)?;
    Ok(trainers.remove(0))
}

/// Rows to learn from, and others to see by how long.
struct Aside {
    learn: Vec<usize>,
    aside: Vec<usize>,
}

/// Parts that set aside a seventh of the groups each, whole and each another, as many as it takes to look for enough of them; none where there
/// are few.
fn set_aside(set: &Set<'_>, seed: u64) -> Vec<Aside> {
    let mut groups: Vec<u32> = set.groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    if groups.len() < MIN_GROUPS {
        return Vec::new();
    }
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x5E7));
    let of_part = (groups.len() / SET_ASIDE).min(MOST_LOOKED_FOR);
    let n_parts = LOOKED_FOR.div_ceil(of_part).min(SET_ASIDE);
    let part = |groups: &[u32]| {
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        let (learn, aside) = (0..set.groups.len()).partition(|row| groups.binary_search(&set.groups[*row]).is_err());
        Aside { learn, aside }
    };
    groups.chunks(of_part).take(n_parts).map(part).collect()
}

/// Epochs after which rows set aside are found best, 0 for the start; all there may be where there are too few rows to ask.
fn how_long<'r>(
    config: &TowerConfig,
    objective: &dyn Objective,
    set: &Set<'_>,
    saved: Option<&Saved>,
    part: &mut Part<'r>,
    run: &Run<'r>,
) -> Result<usize, FitError> {
    let asides = set_aside(set, run.seed);
    if asides.is_empty() {
        return Ok(config.max_epochs);
    }
    let begin = |aside: &Aside| Trainer::new(config, objective, set, &aside.learn, run.seed);
    let begin = || asides.iter().map(begin).collect();
    let course = Course { stage: "training, to see how long", max_epochs: config.max_epochs, part, saved, run };
    let (_, best) = course.go(&begin, Some(&|at, trainer: &Trainer<'_>| trainer.figure(&asides[at].aside)))?;
    Ok(best.epoch)
}

/// Towers on their way.
struct Trainer<'a> {
    config: &'a TowerConfig,
    objective: &'a dyn Objective,
    set: &'a Set<'a>,
    /// Those learned from, in order.
    rows: Vec<usize>,
    /// The group of each of the rows.
    groups: Vec<u32>,
    class_counts: Vec<usize>,
    batch: usize,
    descent: Descent,
    memory: Memory,
    n_epochs: usize,
    /// The batches of this epoch, the next of them, and where the chances stood when they were drawn.
    order: Vec<Vec<usize>>,
    at: usize,
    drawn_at: u128,
    /// Loss of the last step.
    loss: f64,
    rng: ChaCha8Rng,
    /// What the objectives' own chances are drawn by: a number for each batch, so that those of the towers stay what they are without.
    rng_seed: u64,
}

impl Learner for Trainer<'_> {
    fn step(&mut self) -> Result<(), FitError> {
        if self.at == 0 {
            self.drawn_at = self.rng.get_word_pos();
            self.order = self.draw();
        }
        if let Some(rows) = self.order.get(self.at).cloned() {
            self.learn_from(&rows)?;
            self.at += 1;
        }
        if self.at >= self.order.len() {
            self.n_epochs += 1;
            self.at = 0;
        }
        Ok(())
    }

    fn n_epochs(&self) -> usize {
        self.n_epochs
    }

    fn told(&self) -> [f64; 2] {
        [self.loss, self.descent.rate()]
    }

    fn save(&self, saved: &mut Saved, name: &str) {
        self.descent.save(saved, name);
        for (what, number) in [("n_epochs", self.n_epochs), ("at", self.at)] {
            saved.set(format!("{name}.{what}"), number);
        }
        saved.set(format!("{name}.drawn_at"), self.drawn_at);
        saved.set(format!("{name}.chances"), self.rng.get_word_pos());
        saved.set(format!("{name}.rng_seed"), self.rng_seed);
        saved.set_number(format!("{name}.loss"), self.loss);
        saved.set_mats(&format!("{name}.memory"), &self.memory.to_mats());
    }

    fn restore(&mut self, saved: &Saved, name: &str) -> Option<()> {
        let word = |what: &str| format!("{name}.{what}");
        let (drawn_at, chances): (u128, u128) = (saved.get(&word("drawn_at"))?, saved.get(&word("chances"))?);
        let (n_epochs, at) = (saved.get(&word("n_epochs"))?, saved.get(&word("at"))?);
        let (rng_seed, loss) = (saved.get(&word("rng_seed"))?, saved.number(&word("loss"))?);
        self.descent.restore(saved, name)?;
        (self.n_epochs, self.at, self.rng_seed, self.loss) = (n_epochs, at, rng_seed, loss);
        self.memory = Memory::of(saved.mats(&word("memory")));
        if self.at > 0 {
            self.rng.set_word_pos(drawn_at);
            self.order = self.draw();
        }
        self.rng.set_word_pos(chances);
        self.drawn_at = drawn_at;
        Some(())
    }
}

impl<'a> Trainer<'a> {
    fn new(
        config: &'a TowerConfig,
        objective: &'a dyn Objective,
        set: &'a Set<'a>,
        rows: &[usize],
        seed: u64,
    ) -> Result<Self, FitError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let inputs = [0, 1].map(|v| set.inputs(v, rows));
        let dim = if set.held { inputs[0].ncols() } else { n_outputs(config, objective, &inputs) };
        let mut starts = if set.held {
            [Mat::identity(dim, dim), regression_start(&inputs)]
        } else {
            canonical_start(dim, config.correlation_power, &inputs, &mut rng)?
        };
        if objective.tells_variances() {
            // Of which each is 1 at first.
            starts = starts.map(|start| Mat::from_fn(start.nrows(), 2 * dim, |i, j| if j < dim { start[(i, j)] } else { 0.0 }));
        }
        // More units than rows would learn the rows by heart.
        let n_hidden = config.hidden.min(rows.len());
        let mut parameters = Vec::new();
        for (straight, x) in starts.into_iter().zip(&inputs) {
            let squares: f64 = (0..x.ncols()).map(|j| x.col(j).iter().map(|v| v * v).sum::<f64>()).sum();
            parameters.extend(Tower::new(straight, n_hidden, squares / rows.len() as f64, &mut rng).parameters);
        }
        if set.held {
            parameters[tower::N_PARAMETERS + tower::B2] = Mat::from_fn(1, dim, |_, j| mean(&inputs[0], j));
        }
        let decays = (0..parameters.len()).map(|at| Tower::decays(at % tower::N_PARAMETERS));
        let labels = set.labels.map(|labels| labels.pick(rows));
        let own = objective.own_of(dim, labels.as_ref(), [0, 1].map(|v: usize| inputs[v].ncols()));
        let decays = decays.chain(own.iter().map(|_| false)).collect();
        parameters.extend(own);
        let batch = objective.batch(config, dim).min(rows.len());
        let pace = Pace {
            rate: config.learning_rate,
            decay: config.weight_decay,
            max_norm: MAX_NORM,
            of_steps: config.max_epochs * rows.len().div_ceil(batch),
        };
        let descent = Descent::new(parameters, decays, pace);
        let groups = rows.iter().map(|row| set.groups[*row]).collect();
        let class_counts = set.labels.map(|labels| memory::class_counts(&labels.pick(rows))).unwrap_or_default();
        let (rows, memory) = (rows.to_vec(), Memory::default());
        Ok(Trainer {
            config,
            objective,
            set,
            rows,
            groups,
            class_counts,
            batch,
            descent,
            memory,
            n_epochs: 0,
            order: Vec::new(),
            at: 0,
            drawn_at: 0,
            loss: f64::NAN,
            rng,
            rng_seed: seed,
        })
    }

    /// The towers as their running means.
    fn towers(&self) -> [Tower; 2] {
        towers(&self.descent.mean)
    }

    /// One step against the gradients of a batch.
    fn learn_from(&mut self, rows: &[usize]) -> Result<(), FitError> {
        let towers = towers(&self.descent.now);
        let x = [0, 1].map(|v| self.set.inputs(v, rows));
        let mut passed = Vec::with_capacity(2);
        for (v, tower) in towers.iter().enumerate() {
            let (input, hidden) = (self.config.input_dropout, self.config.dropout);
            let is_held = v == 0 && self.set.held;
            let dropout = (!is_held).then_some(Dropout { input, hidden, rng: &mut self.rng });
            passed.push(tower.forward(x[v].clone(), dropout));
        }
        self.rng_seed = self.rng_seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let batch = self.set.batch(rows, self.n_epochs as f64 / self.config.max_epochs.max(1) as f64, self.rng_seed);
        let n_towers = 2 * tower::N_PARAMETERS;
        let place = |row: &usize| self.rows.binary_search(row).expect("batches are of the rows learned from");
        let places: Vec<usize> = rows.iter().map(place).collect();
        let mut context = Context {
            batch: &batch,
            x: &x,
            towers: Some(&towers),
            rows: &places,
            groups: &self.groups,
            class_counts: &self.class_counts,
            memory: &mut self.memory,
            rng: &mut self.rng,
        };
        let loss = self.objective.step([&passed[0].y, &passed[1].y], &self.descent.now[n_towers..], &mut context)?;
        let mut gradients = towers[0].backward(&passed[0], &loss.outputs[0]);
        if self.set.held {
            gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
        }
        gradients.extend(towers[1].backward(&passed[1], &loss.outputs[1]));
        gradients.extend(loss.own);
        if !loss.value.is_finite() {
            return Err(FitError::Numeric { what: "training (the loss is no number; a lower learning rate may help)" });
        }
        self.loss = loss.value;
        self.descent.step(&gradients);
        self.objective.bound(&mut self.descent.now[n_towers..]);
        Ok(())
    }

    /// The batches of an epoch.
    fn draw(&mut self) -> Vec<Vec<usize>> {
        let mut rounds: Vec<Vec<usize>> = vec![Vec::new()];
        if self.set.labels.is_some() {
            rounds[0].clone_from(&self.rows);
        } else {
            let mut of_group: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            self.rows.iter().for_each(|row| of_group.entry(self.set.groups[*row]).or_default().push(*row));
            for mut rows in of_group.into_values() {
                rows.shuffle(&mut self.rng);
                for (round, row) in rows.into_iter().enumerate() {
                    if round == rounds.len() {
                        rounds.push(Vec::new());
                    }
                    rounds[round].push(row);
                }
            }
        }
        let mut batches = Vec::new();
        for mut rows in rounds {
            rows.shuffle(&mut self.rng);
            // As equal as they can be: a batch of a few rows would teach little, and that wrongly.
            let n_batches = rows.len().div_ceil(self.batch).max(1);
            let size = rows.len().div_ceil(n_batches);
            batches.extend(rows.chunks(size.max(1)).filter(|rows| rows.len() > 1).map(<[usize]>::to_vec));
        }
        batches.shuffle(&mut self.rng);
        batches
    }

    /// How well rows that were set aside do, at most 1. By ranks and classes it is those that have some, where there are enough.
    fn figure(&self, aside: &[usize]) -> Result<f64, FitError> {
        let has_classes = |row: &&usize| self.set.labels.is_none_or(|labels| !labels.of(**row).is_empty());
        let known: Vec<usize> = aside.iter().filter(has_classes).copied().collect();
        let aside = if known.len() < ENOUGH_KNOWN { aside } else { &known };
        let towers = self.towers();
        let after = self.objective.finish(&|| outputs(&towers, self.set, &self.rows))?;
        let mut y = outputs(&towers, self.set, aside);
        if let Some(after) = after {
            y.iter_mut().zip(&after).for_each(|(y, after)| *y = after.apply(y));
        }
        if self.config.judge == Judge::Correlation {
            return Ok(correlation(&y));
        }
        let y = y.map(|y| UnitRows::new(&if self.objective.is_binary() { crate::hashing::signs(y.as_ref()) } else { y }).u);
        Ok((found(self.set, aside, &y[0], &y[1]) + found(self.set, aside, &y[1], &y[0])) / 2.0)
    }
}

/// The mean correlation of a column of one with its partner; 0 for one that does not vary.
fn correlation(y: &[Mat; 2]) -> f64 {
    let of_column = |j: usize| {
        let centred = [0, 1].map(|v| {
            let m = mean(&y[v], j);
            y[v].col(j).iter().map(|x| x - m).collect::<Vec<f64>>()
        });
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let scale = (dot(&centred[0], &centred[0]) * dot(&centred[1], &centred[1])).sqrt();
        if scale > 0.0 { dot(&centred[0], &centred[1]) / scale } else { 0.0 }
    };
    (0..y[0].ncols()).map(of_column).sum::<f64>() / y[0].ncols().max(1) as f64
}

/// What the towers make of some rows.
fn outputs(towers: &[Tower; 2], set: &Set<'_>, rows: &[usize]) -> [Mat; 2] {
    [0, 1].map(|v| towers[v].forward(set.inputs(v, rows), None).y)
}

/// Mean reciprocal rank of the first right answer, or mean average precision by classes; the gallery is one row of each group.
fn found(set: &Set<'_>, rows: &[usize], queries: &Mat, gallery: &Mat) -> f64 {
    let mut seen = std::collections::BTreeSet::new();
    let things: Vec<usize> = (0..rows.len()).filter(|i| set.labels.is_some() || seen.insert(set.groups[rows[*i]])).collect();
    let scores = product(queries.as_ref(), pick_rows(gallery, &things).transpose());
    let (mut sum, mut n) = (0.0, 0);
    for i in 0..rows.len() {
        let mut order: Vec<usize> = (0..things.len()).collect();
        order.sort_by(|a, b| scores[(i, *b)].total_cmp(&scores[(i, *a)]).then(a.cmp(b)));
        let right = |at: &usize| set.related(rows[i], rows[things[*at]]);
        let (mut n_right, mut precision) = (0, 0.0);
        for (rank, _) in order.iter().enumerate().filter(|(_, at)| right(at)) {
            n_right += 1;
            precision += f64::from(n_right) / (rank + 1) as f64;
            if set.labels.is_none() {
                break;
            }
        }
        if n_right > 0 {
            (sum, n) = (sum + precision / f64::from(n_right), n + 1);
        }
    }
    if n == 0 { 0.0 } else { sum / f64::from(n) }
}

fn towers(parameters: &[Mat]) -> [Tower; 2] {
    let of = |v: usize| parameters[v * tower::N_PARAMETERS..(v + 1) * tower::N_PARAMETERS].to_vec();
    [0, 1].map(|v| Tower { parameters: of(v) })
}

/// Outputs of a tower: bits as many as are asked for, coordinates no more than twice what a linear map could give.
fn n_outputs(config: &TowerConfig, objective: &dyn Objective, x: &[Mat; 2]) -> usize {
    if objective.is_binary() { config.dim } else { config.dim.min(2 * x[0].ncols().min(x[1].ncols())) }
}

/// The ridge regression from whitened rows of view 1 to the rows of view 0, about their means, `[m, k]`: with the ridge in the whitening it is a product.
fn regression_start(x: &[Mat; 2]) -> Mat {
    let means: Vec<f64> = (0..x[0].ncols()).map(|j| mean(&x[0], j)).collect();
    let centred = Mat::from_fn(x[0].nrows(), x[0].ncols(), |i, j| x[0][(i, j)] - means[j]);
    let mut start = product(x[1].transpose(), centred.as_ref());
    let divisor = (x[0].nrows() as f64 - 1.0).max(1.0);
    linalg::scale_rows(&mut start, &vec![1.0 / divisor; x[1].ncols()]);
    start
}

/// The mean of a column.
fn mean(x: &Mat, column: usize) -> f64 {
    x.col(column).iter().sum::<f64>() / x.nrows().max(1) as f64
}

/// The canonical directions of whitened rows, weighted, `[m, dim]` for each view; where there are fewer than coordinates, the rest are drawn.
fn canonical_start(dim: usize, power: f64, x: &[Mat; 2], rng: &mut ChaCha8Rng) -> Result<[Mat; 2], FitError> {
    let mut t = product(x[0].transpose(), x[1].as_ref());
    let divisor = (x[0].nrows() as f64 - 1.0).max(1.0);
    linalg::scale_rows(&mut t, &vec![1.0 / divisor; x[0].ncols()]);
    let (a, correlations, b) = linalg::leading_svd(t.as_ref())?;
    let k = correlations.iter().take(dim).take_while(|c| **c > 1e-9).count();
    let factors: Vec<f64> = correlations[..k].iter().map(|c| c.min(1.0).powf(power)).collect();
    let start = |directions: &Mat, rng: &mut ChaCha8Rng| {
        let drawn = tower::normal(directions.nrows(), dim, 1.0 / (directions.nrows() as f64).sqrt(), rng);
        let weak = factors.last().copied().unwrap_or(1.0);
        Mat::from_fn(directions.nrows(), dim, |i, j| match factors.get(j) {
            Some(factor) => directions[(i, j)] * factor,
            None => weak * drawn[(i, j)],
        })
    };
    Ok([start(&a, rng), start(&b, rng)])
}
