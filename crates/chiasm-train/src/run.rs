//! The loop.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiasm_core::{Cancel, Media, Modality, Progress};
use chiasm_encode::{ModelDirs, Prepared};
use chiasm_nn::Precision;
use chiasm_nn::grad::{Array, Tape, Var};
use chiasm_nn::learn::{Optimiser, Parameter, Schedule, clip, keep_freed_memory};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::config::{Config, Objective};
use crate::curves;
use crate::data::{Data, Had, Key, Prepare};
use crate::distill::{self, Teacher};
use crate::error::{Result, TrainError, io};
use crate::files::{self, Stored};
use crate::log::{Line, Log};
use crate::loss::{self, Learned, Pair};
use crate::matching::{self, Drawn, Matching, READ};
use crate::model::{self, Rest, WEIGHTS};
use crate::tape::{self, Bound, Dropout, Network, Seen, stream};
use crate::validate::{Figures, Validator};

const CHECKPOINT: &str = "checkpoint.safetensors";
const LOG: &str = "log.jsonl";
const PAGE: &str = "curves.html";
const SET_ASIDE: &str = "set_aside.json";

/// Greatest logarithm of what cosines are multiplied by: that of 100 (Radford et al. 2021).
const MOST_LOG_SCALE: f32 = 4.605_17;

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// In an empty folder.
    New,
    /// From the checkpoint in the folder, or new where there is none.
    Resume,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The folder of the model.
    pub folder: PathBuf,
    /// Steps in all.
    pub n_steps: usize,
    /// The epoch whose weights were kept, from 1; the last where nothing was set aside; 0 for a checkpoint that was best as it came.
    pub best_epoch: usize,
    /// The validation of that epoch.
    pub best: Option<Line>,
    /// Things learned from, and things set aside.
    pub n_things: [usize; 2],
    /// Numbers that the model learned.
    pub n_parameters: usize,
    /// Pieces of media that could not be read, with the reason, each told when it was met.
    pub refused: Vec<String>,
}

/// Trains what a description says into a folder; models that it names are looked for in `models`.
///
/// # Errors
/// Every variant of [`TrainError`].
pub fn train(
    config: &Config,
    folder: &Path,
    begin: Begin,
    models: &ModelDirs,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Outcome> {
    std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    let there = folder.join(CHECKPOINT).is_file() || folder.join(WEIGHTS).is_file();
    if begin == Begin::New && there {
        let reason = "holds a training: go on with --resume, or name another folder with --out".to_owned();
        return Err(TrainError::Folder { path: folder.to_owned(), reason });
    }
    let data = Data::open(config, &config.modalities())?;
    if data.train.len() < 2 {
        let reason =
            format!("{} things of which two kinds of media are known, expected two or more to learn from", data.train.len());
        return Err(TrainError::Data { path: "data".into(), reason });
    }
    let model = model::make(config, &data, folder, models)?;
    let wrong = |reason: String| TrainError::Config { path: "train".into(), reason };
    let pairs = config.pairs().map_err(wrong)?;
    let precision = config.precision().map_err(wrong)?;
    let limit = config.train.cache_bytes;
    let teacher = config.distill.as_ref().map(|distill| Teacher::open(distill, &model.networks, &pairs, models, limit));
    let set_aside = serde_json::to_string(&data.set_aside).expect("numbers");
    files::replace(&folder.join(SET_ASIDE), set_aside.as_bytes())?;
    let set = Set {
        config,
        folder,
        data: &data,
        prepare: Prepare::new(model.before, limit).with_changes(config.augment.clone().unwrap_or_default()),
        networks: model.networks,
        matching: model.matching,
        rest: model.rest,
        teacher: teacher.transpose()?,
        pairs,
        precision,
        progress,
        cancel,
    };
    keep_freed_memory();
    Run::new(&set, model.learned)?.all()
}

/// What stays the same through a run.
struct Set<'a> {
    config: &'a Config,
    folder: &'a Path,
    data: &'a Data,
    prepare: Prepare,
    networks: Vec<Box<dyn Network>>,
    matching: Option<Matching>,
    rest: Rest,
    teacher: Option<Teacher>,
    pairs: Vec<[Modality; 2]>,
    precision: Precision,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

/// What changes from step to step; all of it stands in a checkpoint.
#[derive(Clone)]
struct State {
    /// Those that are learned.
    parameters: Vec<Parameter>,
    /// Running means of these.
    mean: Vec<Array<f32>>,
    optimiser: Optimiser,
    n_steps: usize,
    /// Epoch from 1, and figure, of the best validation.
    best: Option<(usize, f64)>,
}

struct Run<'a> {
    set: &'a Set<'a>,
    schedule: Schedule,
    steps_of_epoch: usize,
    state: State,
    log: Log,
    refused: HashSet<Key>,
    reasons: Vec<String>,
}

/// A batch: for each kind the things that have it, and which way of each.
struct Batch {
    rows: Vec<usize>,
    of: Vec<(Modality, Vec<Member>)>,
    /// Texts that are wrong for a thing of the batch, with its place in `rows`.
    wrong: Vec<(usize, Arc<Prepared>)>,
    groups: Vec<u64>,
}

struct Member {
    /// Place in `rows`.
    row: usize,
    input: Arc<Prepared>,
    /// The teacher's embedding, if it takes such media.
    taught: Option<Arc<Prepared>>,
}

impl<'a> Run<'a> {
    fn new(set: &'a Set<'a>, parameters: Vec<Parameter>) -> Result<Self> {
        let (config, data) = (set.config, set.data);
        let wrong = |reason: String| TrainError::Config { path: "train".into(), reason };
        let n_batches = (data.train.len() / config.train.batch).max(1);
        let steps_of_epoch = (n_batches / config.train.accumulate).max(1);
        let schedule = Schedule {
            rate: config.train.rate,
            warm_up: config.train.warm_up,
            n_steps: config.train.epochs * steps_of_epoch,
            decay: config.decay(steps_of_epoch).map_err(wrong)?,
        };
        let optimiser = Optimiser::new(config.rule().map_err(wrong)?, config.train.decay, &parameters);
        let mean = parameters.iter().map(|p| Array::clone(&p.value)).collect();
        let state = State { parameters, mean, optimiser, n_steps: 0, best: None };
        let (state, log_bytes) = match read_state(set, &state)? {
            Some((state, log_bytes)) => (state, log_bytes),
            None => (state, 0),
        };
        let log = Log::open(&set.folder.join(LOG), log_bytes)?;
        Ok(Self { set, schedule, steps_of_epoch, state, log, refused: HashSet::new(), reasons: Vec::new() })
    }

    /// Every epoch that is left.
    fn all(&mut self) -> Result<Outcome> {
        let n_epochs = self.set.config.train.epochs;
        let mut saved = Instant::now();
        if self.set.config.start.is_some() && self.state.n_steps == 0 && self.state.best.is_none() {
            // What the checkpoint finds as it comes: what is learned has to be better.
            self.validate(0)?;
        }
        while self.state.n_steps < n_epochs * self.steps_of_epoch && !self.is_settled() {
            let epoch = self.state.n_steps / self.steps_of_epoch;
            let order = self.order(epoch);
            let at = self.state.n_steps % self.steps_of_epoch;
            self.set
                .progress
                .start(&format!("epoch {} of {}", epoch + 1, self.set.config.train.epochs), Some(self.steps_of_epoch as u64));
            self.set.progress.advance(at as u64);
            for step in at..self.steps_of_epoch {
                let stopped = self.set.cancel.check().is_err();
                if stopped || saved.elapsed() > Duration::from_secs(self.set.config.train.checkpoint_s) {
                    self.save()?;
                    saved = Instant::now();
                }
                self.set.cancel.check()?;
                self.step(&order, step, epoch)?;
                self.set.progress.tell(&self.told());
                self.set.progress.advance(1);
            }
            self.set.progress.finish();
            self.validate(epoch + 1)?;
            self.save()?;
            saved = Instant::now();
            self.draw()?;
        }
        // Of a run that was killed between its last checkpoint and the page, the page is drawn now.
        self.draw()?;
        if self.state.best.is_none() {
            // Nothing was set aside, so the last weights are those that are kept.
            self.write_weights()?;
        }
        let best_epoch = self.state.best.map_or(n_epochs, |(epoch, _)| epoch);
        let of_best = |line: &&Line| matches!(line, Line::Validation { epoch, .. } if *epoch == best_epoch);
        Ok(Outcome {
            folder: self.set.folder.to_owned(),
            n_steps: self.state.n_steps,
            best_epoch,
            best: self.log.lines.iter().find(of_best).cloned(),
            n_things: [self.set.data.train.len(), self.set.data.validation.len()],
            n_parameters: self.state.parameters.iter().map(|p| p.value.data().len()).sum(),
            refused: self.reasons.clone(),
        })
    }

    /// Writes the page of curves.
    fn draw(&self) -> Result<()> {
        files::replace(&self.set.folder.join(PAGE), curves::page_of_run("A training", &self.log.lines).as_bytes())
    }

    /// Whether the last epochs brought nothing better.
    fn is_settled(&self) -> bool {
        let (patience, epoch) = (self.set.config.train.patience, self.state.n_steps / self.steps_of_epoch);
        patience > 0 && self.state.best.is_some_and(|(best, _)| epoch >= best + patience)
    }

    /// The last step, and the last validation, in a few figures.
    fn told(&self) -> Vec<(&'static str, f64)> {
        let step = self.log.lines.iter().rev().find_map(|line| match line {
            Line::Step { loss, rate, items_per_s, .. } => {
                Some(vec![("loss", *loss), ("rate", *rate), ("things/s", *items_per_s)])
            }
            Line::Validation { .. } => None,
        });
        let found = self.log.lines.iter().rev().find_map(|line| match line {
            Line::Validation { directions, .. } => {
                let mean = directions.iter().map(|d| d.recall[0]).sum::<f64>() / directions.len().max(1) as f64;
                Some(("R@1", mean))
            }
            Line::Step { .. } => None,
        });
        step.into_iter().flatten().chain(found).collect()
    }

    /// The things of an epoch in their order.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order = self.set.data.train.clone();
        order.shuffle(&mut stream(self.set.config.seed, "order", epoch as u64));
        order
    }

    /// One step: gradients of as many batches as are accumulated, and what follows from them.
    fn step(&mut self, order: &[usize], step: usize, epoch: usize) -> Result<()> {
        let began = Instant::now();
        let n_batches = self.set.config.train.accumulate;
        let size = self.set.config.train.batch.min(order.len());
        let mut sum: Option<(f64, Vec<Array<f32>>)> = None;
        let mut n_things = 0;
        for part in 0..n_batches {
            let from = ((step * n_batches + part) * size) % order.len();
            // An epoch that holds less than one step's batches goes round.
            let rows: Vec<usize> = (0..size).map(|i| order[(from + i) % order.len()]).collect();
            let number = (self.state.n_steps * n_batches + part) as u64;
            let batch = self.batch(&rows, number);
            n_things += rows.len();
            let (loss, gradients) = self.gradients(&batch, number)?;
            match &mut sum {
                Some((total, all)) => {
                    *total += loss;
                    all.iter_mut().zip(&gradients).for_each(|(all, g)| all.add(g));
                }
                none => *none = Some((loss, gradients)),
            }
        }
        let (loss, mut gradients) = sum.expect("at least one batch");
        let loss = loss / n_batches as f64;
        if n_batches > 1 {
            let share = 1.0 / n_batches as f32;
            gradients.iter_mut().for_each(|g| g.change(|g| share * g));
        }
        let length = clip(&mut gradients, self.set.config.train.clip);
        if !loss.is_finite() || !length.is_finite() {
            return Err(TrainError::NotFinite { step: self.state.n_steps + 1 });
        }
        let rate = self.schedule.at(self.state.n_steps);
        let State { parameters, mean, optimiser, n_steps, .. } = &mut self.state;
        optimiser.step(parameters.iter_mut(), &gradients, rate);
        if let Some(scale) = parameters.iter_mut().find(|p| p.name == "logit_scale") {
            Arc::make_mut(&mut scale.value).change(|x| x.clamp(0.0, MOST_LOG_SCALE));
        }
        *n_steps += 1;
        // In the beginning the mean is of fewer steps, or the first weights would weigh for long.
        let kept = self.set.config.train.ema.min(*n_steps as f64 / (*n_steps as f64 + 9.0)) as f32;
        let kept = if self.set.config.train.ema == 0.0 { 0.0 } else { kept };
        for (mean, p) in mean.iter_mut().zip(parameters.iter()) {
            mean.change_with(&p.value, move |m, p| kept * m + (1.0 - kept) * p);
        }
        let learned = self.state.parameters.iter().find(|p| p.name == "logit_scale").map(|p| p.value.only());
        let held = || self.set.rest.held.get("logit_scale").map(|value| value.only());
        let scale = learned.or_else(held).map_or(1.0, |scale| f64::from(scale).exp());
        self.log.add(Line::Step {
            step: self.state.n_steps,
            epoch: epoch + 1,
            loss,
            rate,
            gradient: length,
            scale,
            items_per_s: n_things as f64 / began.elapsed().as_secs_f64().max(1e-9),
        })
    }

    /// What the towers take of some things, ways drawn.
    fn batch(&mut self, rows: &[usize], number: u64) -> Batch {
        let mut rng = stream(self.set.config.seed, "ways", number);
        let mut keys: Vec<(usize, Key)> = Vec::new();
        for modality in self.modalities() {
            for (place, row) in rows.iter().enumerate() {
                if let Some(parts) = self.set.data.rows[*row].parts.get(&modality) {
                    keys.push((place, (*row, modality, rng.random_range(0..parts.len()))));
                }
            }
        }
        keys.retain(|(_, key)| !self.refused.contains(key));
        let plain: Vec<Key> = keys.iter().map(|(_, key)| *key).collect();
        let mut changes = stream(self.set.config.seed, "changes", number);
        let prepared = self.set.prepare.for_learning(self.set.data, &plain, &mut changes);
        let taught = self.taught(&plain);
        let mut of: Vec<(Modality, Vec<Member>)> = self.modalities().map(|modality| (modality, Vec::new())).collect();
        let mut groups: Vec<u64> = (0..rows.len() as u64).collect();
        for (((place, key), prepared), taught) in keys.into_iter().zip(prepared).zip(taught) {
            // What the teacher cannot take is left out as what the student cannot.
            match prepared.and_then(|input| Ok((input, taught.transpose()?))) {
                Ok((input, taught)) => {
                    if key.1 == Modality::Text {
                        // Things of one text are right answers to one another.
                        groups[place] = digest_of(&input) | 1 << 63;
                    }
                    let members = of.iter_mut().find(|(modality, _)| *modality == key.1).map(|(_, members)| members);
                    members.expect("a tower of the model").push(Member { row: place, input, taught });
                }
                Err(reason) => {
                    self.set.progress.note(&format!("left out: {reason}"));
                    self.reasons.push(reason);
                    self.refused.insert(key);
                }
            }
        }
        let n_exchanges = self.set.config.model.as_ref().and_then(|model| model.matching).map_or(1, |read| read.exchanges);
        let (mut of_wrong, mut wrong) = (Vec::new(), Vec::new());
        if self.modalities().any(|modality| modality == Modality::Text) {
            for (place, row) in rows.iter().enumerate() {
                for text in matching::exchanged(&self.set.data.rows[*row].wrong, n_exchanges, &mut rng) {
                    of_wrong.push(place);
                    wrong.push(Media::Text(text.to_owned()));
                }
            }
        }
        let wrong = of_wrong.into_iter().zip(self.set.prepare.media(wrong));
        let wrong = wrong.filter_map(|(place, had)| Some((place, had.ok()?))).collect();
        Batch { rows: rows.to_vec(), of, wrong, groups }
    }

    /// The kinds that are brought together with another.
    fn modalities(&self) -> impl Iterator<Item = Modality> + use<'a> {
        let set = self.set;
        let is_paired = |kind: &Modality| set.pairs.iter().flatten().any(|paired| paired == kind);
        set.networks.iter().map(|network| network.modality()).filter(is_paired)
    }

    /// What the teacher says of each piece of media, where there is one that takes it.
    fn taught(&self, keys: &[Key]) -> Vec<Option<Had>> {
        let mut taught: Vec<Option<Had>> = keys.iter().map(|_| None).collect();
        if let Some(teacher) = &self.set.teacher {
            let (places, taken): (Vec<usize>, Vec<Key>) =
                keys.iter().enumerate().filter(|(_, key)| teacher.takes(key.1)).map(|(at, key)| (at, *key)).unzip();
            places.into_iter().zip(teacher.all(self.set.data, &taken)).for_each(|(at, had)| taught[at] = Some(had));
        }
        taught
    }

    /// The loss of a batch and its gradients by what is learned.
    fn gradients(&self, batch: &Batch, number: u64) -> Result<(f64, Vec<Array<f32>>)> {
        let chunk = if self.set.config.train.chunk == 0 { usize::MAX } else { self.set.config.train.chunk };
        let largest = batch.of.iter().map(|(_, members)| members.len()).max().unwrap_or(0).max(batch.wrong.len());
        if chunk >= largest {
            let tape = Tape::in_precision(self.set.precision);
            let (bound, leaves) = self.bound(&tape);
            let seen: Vec<Option<Seen<'_>>> = self
                .parts(batch)
                .into_iter()
                .enumerate()
                .map(|(at, (network, inputs))| self.see(&bound, network, &inputs, number, at, 0))
                .collect();
            let loss = self.loss(&tape, &bound, batch, &seen, number);
            let mut gradients = tape.backward(loss);
            return Ok((f64::from(loss.value().only()), leaves.into_iter().map(|leaf| gradients.take(leaf)).collect()));
        }
        // First the embeddings alone, then the loss of all of them, then each chunk again with the gradient that its embeddings got.
        let parts = self.parts(batch);
        let mut embedded: Vec<Option<Array<f32>>> = Vec::new();
        for (at, (network, inputs)) in parts.iter().enumerate() {
            let mut data = Vec::new();
            for (c, inputs) in inputs.chunks(chunk).enumerate() {
                self.set.cancel.check()?;
                let tape = Tape::in_precision(self.set.precision);
                let learned = self.state.parameters.iter().map(|p| (p.name.clone(), tape.constant(p.value.clone())));
                let bound = self.set.rest.bound(&tape, learned);
                let y = self.see(&bound, *network, inputs, number, at, c).expect("a chunk is not empty");
                data.extend_from_slice(y.embeddings.value().data());
            }
            embedded.push((!inputs.is_empty()).then(|| Array::new(inputs.len(), network.projection(), data)));
        }
        let tape = Tape::in_precision(self.set.precision);
        let (bound, leaves) = self.bound(&tape);
        let at_loss: Vec<Option<Var<'_, f32>>> = embedded.into_iter().map(|e| e.map(|e| tape.leaf(e))).collect();
        let seen: Vec<Option<Seen<'_>>> = at_loss.iter().map(|leaf| leaf.map(Seen::from)).collect();
        let loss = self.loss(&tape, &bound, batch, &seen, number);
        let mut gradients = tape.backward(loss);
        let mut sums: Vec<Array<f32>> = leaves.into_iter().map(|leaf| gradients.take(leaf)).collect();
        for (at, (network, inputs)) in parts.iter().enumerate() {
            let Some(leaf) = at_loss[at].filter(|_| network.learns()) else { continue };
            let of_embeddings = gradients.take(leaf);
            for (c, inputs) in inputs.chunks(chunk).enumerate() {
                self.set.cancel.check()?;
                let tape = Tape::in_precision(self.set.precision);
                let (bound, leaves) = self.bound(&tape);
                let y = self.see(&bound, *network, inputs, number, at, c).expect("a chunk is not empty").embeddings;
                let rows: Vec<usize> = (c * chunk..c * chunk + inputs.len()).collect();
                let surrogate = (y * tape.constant(of_embeddings.pick(&rows))).sum();
                let mut gradients = tape.backward(surrogate);
                sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| sum.add(&gradients.take(leaf)));
            }
        }
        Ok((f64::from(loss.value().only()), sums))
    }

    /// All parameters on a tape, and those of them that are learned.
    fn bound<'t>(&self, tape: &'t Tape<f32>) -> (Bound<'t>, Vec<Var<'t, f32>>) {
        let leaves: Vec<Var<'t, f32>> = self.state.parameters.iter().map(|p| tape.leaf(p.value.clone())).collect();
        let named = self.state.parameters.iter().map(|p| p.name.clone()).zip(leaves.iter().copied());
        (self.set.rest.bound(tape, named), leaves)
    }

    /// Everything of a batch that goes through a tower: each kind's members, then the wrong texts.
    fn parts(&self, batch: &Batch) -> Vec<(&'a dyn Network, Vec<Arc<Prepared>>)> {
        let networks: &'a [Box<dyn Network>] = &self.set.networks;
        let of_kind =
            |modality: Modality| networks.iter().find(|network| network.modality() == modality).map(|network| &**network);
        let mut parts: Vec<(&'a dyn Network, Vec<Arc<Prepared>>)> = batch
            .of
            .iter()
            .filter_map(|(modality, members)| {
                Some((of_kind(*modality)?, members.iter().map(|m| Arc::clone(&m.input)).collect()))
            })
            .collect();
        if let Some(texts) = of_kind(Modality::Text) {
            parts.push((texts, batch.wrong.iter().map(|(_, input)| Arc::clone(input)).collect()));
        }
        parts
    }

    fn see<'t>(
        &self,
        bound: &Bound<'t>,
        network: &dyn Network,
        inputs: &[Arc<Prepared>],
        number: u64,
        part: usize,
        chunk: usize,
    ) -> Option<Seen<'t>> {
        let (share, seed) = (self.set.config.train.dropout, self.set.config.seed);
        let dropout = (share > 0.0).then(|| Dropout { share, rng: stream(seed, &format!("dropout {part} {chunk}"), number) });
        (!inputs.is_empty()).then(|| network.see(bound, inputs, dropout))
    }

    /// The mean over the pairs of kinds of their losses, with a teacher what it adds to them, and what matching adds.
    fn loss<'t>(
        &self,
        tape: &'t Tape<f32>,
        bound: &Bound<'t>,
        batch: &Batch,
        seen: &[Option<Seen<'t>>],
        number: u64,
    ) -> Var<'t, f32> {
        let embedded: Vec<Option<Var<'t, f32>>> = seen.iter().map(|seen| seen.as_ref().map(|seen| seen.embeddings)).collect();
        let of_embeddings = self.loss_of_embeddings(tape, bound, batch, &embedded);
        match self.loss_of_matching(tape, bound, batch, seen, number) {
            Some(of_matching) => of_embeddings + of_matching,
            None => of_embeddings,
        }
    }

    /// The loss of reading texts and pictures together, where there is something that does and something to read.
    fn loss_of_matching<'t>(
        &self,
        tape: &'t Tape<f32>,
        bound: &Bound<'t>,
        batch: &Batch,
        seen: &[Option<Seen<'t>>],
        number: u64,
    ) -> Option<Var<'t, f32>> {
        let matching = self.set.matching.as_ref()?;
        let asked = self.set.config.model.as_ref()?.matching?;
        let [image, text] = READ.map(|kind| batch.of.iter().position(|(other, _)| *other == kind));
        let (image, text) = (image?, text?);
        let (of_image, of_text) = (places(&batch.of[image].1), places(&batch.of[text].1));
        let both: Vec<usize> =
            (0..batch.rows.len()).filter(|row| of_image.contains_key(row) && of_text.contains_key(row)).collect();
        if both.len() < 2 {
            return None;
        }
        let (pictures, texts) = (seen[image].as_ref()?, seen[text].as_ref()?);
        let pictures_read = pictures.states.as_ref()?.pick(both.iter().map(|row| of_image[row]));
        let mut texts_read = texts.states.as_ref()?.pick(both.iter().map(|row| of_text[row]));
        let mut exchanged = vec![Vec::new(); both.len()];
        if let Some(wrong) = seen.get(batch.of.len()).and_then(Option::as_ref).and_then(|seen| seen.states.as_ref()) {
            for (at, (place, _)) in batch.wrong.iter().enumerate() {
                if let Ok(i) = both.binary_search(place) {
                    exchanged[i].push(both.len() + at);
                }
            }
            texts_read.rows = tape.under(&[texts_read.rows, wrong.rows]);
            texts_read.lengths.extend_from_slice(&wrong.lengths);
        }
        // What is drawn from is no part of the tape: nothing is learned by drawing.
        let pick = |seen: &Seen<'t>, of: &HashMap<usize, usize>| {
            tape.constant(seen.embeddings.value().pick(&both.iter().map(|row| of[row]).collect::<Vec<_>>()))
        };
        let cosines = pick(pictures, &of_image).dot_rows(pick(texts, &of_text)).value();
        let scale = bound.of.get("logit_scale").map_or(self.set.config.train.scale as f32, |scale| scale.value().only().exp());
        let groups: Vec<u64> = both.iter().map(|row| batch.groups[*row]).collect();
        let drawn = Drawn { cosines: &cosines, scale, groups: &groups, exchanged: &exchanged, most: asked.pairs };
        let seed = self.set.config.seed;
        let (pairs, matched) = drawn.pairs(&mut stream(seed, "matching", number));
        let share = self.set.config.train.dropout;
        let mut dropout = (share > 0.0).then(|| Dropout { share, rng: stream(seed, "dropout of matching", number) });
        let scores = matching.scores(bound, &texts_read, &pictures_read, &pairs, &mut dropout);
        Some(matching::loss(scores, &matched).scaled(asked.weight as f32))
    }

    /// The mean over the pairs of kinds of their losses, and with a teacher of what it adds to them.
    fn loss_of_embeddings<'t>(
        &self,
        tape: &'t Tape<f32>,
        bound: &Bound<'t>,
        batch: &Batch,
        embedded: &[Option<Var<'t, f32>>],
    ) -> Var<'t, f32> {
        let zero = || tape.leaf(Array::scalar(0.0));
        let learned = Learned {
            log_scale: bound.of.get("logit_scale").copied().unwrap_or_else(zero),
            bias: bound.of.get("logit_bias").copied(),
        };
        let place =
            |modality: Modality| batch.of.iter().position(|(other, _)| *other == modality).expect("a kind that is paired");
        let taught = self.set.config.distill.as_ref().zip(self.set.teacher.as_ref());
        let mut losses = Vec::new();
        for [a, b] in &self.set.pairs {
            // Texts on the right, where the wrong ones stand beside them.
            let [left, right] = if *a == Modality::Text { [place(*b), place(*a)] } else { [place(*a), place(*b)] };
            let (Some(x), Some(y)) = (embedded[left], embedded[right]) else { continue };
            let (of_left, of_right) = (places(&batch.of[left].1), places(&batch.of[right].1));
            let both: Vec<usize> =
                (0..batch.rows.len()).filter(|row| of_left.contains_key(row) && of_right.contains_key(row)).collect();
            if both.len() < 2 {
                continue;
            }
            let pick =
                |var: Var<'t, f32>, of: &HashMap<usize, usize>| var.rows(both.iter().map(|row| of[row]).collect::<Vec<_>>());
            let wrong =
                if batch.of[right].0 == Modality::Text { embedded.get(batch.of.len()).copied().flatten() } else { None };
            let pair = Pair {
                left: pick(x, &of_left),
                right: pick(y, &of_right),
                wrong,
                groups: both.iter().map(|row| batch.groups[*row]).collect(),
            };
            let train = &self.set.config.train;
            let Some((distill, teacher)) = taught else {
                losses.push(loss::loss(tape, train.objective, train.smoothing, &pair, learned));
                continue;
            };
            let mut terms = Vec::new();
            if distill.objective > 0.0 {
                let loss = loss::loss(tape, train.objective, train.smoothing, &pair, learned);
                terms.push(loss.scaled(distill.objective as f32));
            }
            if distill.weight > 0.0 && teacher.takes(*a) && teacher.takes(*b) {
                let rows =
                    |side: usize, of: &HashMap<usize, usize>| taught_rows(both.iter().map(|row| &batch.of[side].1[of[row]]));
                let theirs = [rows(left, &of_left), rows(right, &of_right)];
                // An objective without a temperature compares as the teacher does.
                let log_scale = bound.of.get("logit_scale").copied().filter(|_| train.objective != Objective::Triplet);
                let log_scale = log_scale.unwrap_or_else(|| tape.constant(Array::scalar(teacher.scale.ln() as f32)));
                let apart =
                    distill::divergence(tape, [pair.left, pair.right], log_scale, [&theirs[0], &theirs[1]], teacher.scale);
                terms.push(apart.scaled(distill.weight as f32));
            }
            losses.extend(terms.into_iter().reduce(|sum, term| sum + term));
        }
        let n = losses.len().max(1) as f32;
        let mean = losses.into_iter().reduce(|sum, loss| sum + loss).map(|sum| sum.scaled(1.0 / n));
        let near = taught.filter(|(distill, _)| distill.cosine > 0.0).and_then(|(distill, teacher)| {
            let of_kind = batch.of.iter().zip(embedded).filter(|((modality, _), _)| teacher.takes(*modality));
            let distances: Vec<Var<'t, f32>> = of_kind
                .filter_map(|((_, members), embedded)| {
                    Some(distill::distance(tape, (*embedded)?, &taught_rows(members.iter())))
                })
                .collect();
            let n = distances.len() as f32;
            distances.into_iter().reduce(|sum, distance| sum + distance).map(|sum| sum.scaled(distill.cosine as f32 / n))
        });
        match (mean, near) {
            (Some(mean), Some(near)) => mean + near,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => zero(),
        }
    }

    /// Looks for what was set aside, and keeps the weights if they are the best; `epoch` counts those that are done.
    fn validate(&mut self, epoch: usize) -> Result<()> {
        let set = self.set;
        if set.data.validation.is_empty() {
            return Ok(());
        }
        let means = self.state.parameters.iter().zip(&self.state.mean);
        let mut weights: BTreeMap<String, Arc<Array<f32>>> = set.rest.held.clone();
        weights.extend(means.map(|(p, mean)| (p.name.clone(), Arc::new(mean.clone()))));
        let validator = Validator {
            data: set.data,
            prepare: &set.prepare,
            networks: &set.networks,
            pairs: &set.pairs,
            matching: set.matching.as_ref(),
            scales: &set.rest.scales,
            cancel: set.cancel,
        };
        let figures: Figures = validator.figures(&weights)?;
        let figure = figures.mean();
        let best = self.state.best.is_none_or(|(_, best)| figure > best);
        if best {
            self.state.best = Some((epoch, figure));
            self.write_weights()?;
        }
        self.log.add(Line::Validation {
            step: self.state.n_steps,
            epoch,
            figure,
            best,
            directions: figures.directions,
            swaps: figures.swaps,
        })
    }

    /// The running means as the model's weights.
    fn write_weights(&self) -> Result<()> {
        let means = self.state.parameters.iter().zip(&self.state.mean).map(|(p, mean)| (p.name.as_str(), mean));
        let stored = if self.set.config.train.weights == "f16" { Stored::Half } else { Stored::Single };
        self.set.rest.write(self.set.folder, means, stored)
    }

    fn save(&self) -> Result<()> {
        let State { parameters, mean, optimiser, n_steps, best } = &self.state;
        let (n_optimised, moments) = optimiser.state();
        let mut arrays: Vec<(String, &Array<f32>)> = Vec::new();
        for (p, mean) in parameters.iter().zip(mean) {
            arrays.push((format!("now.{}", p.name), &*p.value));
            arrays.push((format!("mean.{}", p.name), mean));
        }
        for (name, [first, second]) in parameters.iter().map(|p| &p.name).zip(moments) {
            arrays.push((format!("first.{name}"), first));
            arrays.push((format!("second.{name}"), second));
        }
        let mut words = HashMap::from([
            ("config".to_owned(), digest(self.set.config)),
            ("n_steps".to_owned(), n_steps.to_string()),
            ("n_optimised".to_owned(), n_optimised.to_string()),
            ("best".to_owned(), best.map_or_else(String::new, |(epoch, figure)| format!("{epoch} {:016x}", figure.to_bits()))),
            ("log_bytes".to_owned(), self.log.n_bytes()?.to_string()),
        ]);
        // What stays as it is stands where the run began, and is not written again and again.
        words.extend(self.set.rest.from.iter().map(|from| ("from".to_owned(), from.clone())));
        files::write_checkpoint(&self.set.folder.join(CHECKPOINT), &arrays, words)
    }
}

/// Where in a part each thing of a batch stands.
fn places(members: &[Member]) -> HashMap<usize, usize> {
    members.iter().enumerate().map(|(at, member)| (member.row, at)).collect()
}

/// What decides a run: all of its description but how often it is saved and how much memory it may take.
fn digest(config: &Config) -> String {
    let mut config = config.clone();
    config.train.checkpoint_s = 0;
    config.train.cache_bytes = 0;
    blake3::hash(serde_json::to_string(&config).expect("a description is plain data").as_bytes()).to_hex().to_string()
}

/// The state that a checkpoint holds, and the length of the log at that time; none where there is no checkpoint.
fn read_state(set: &Set<'_>, fresh: &State) -> Result<Option<(State, u64)>> {
    let path = set.folder.join(CHECKPOINT);
    if !path.is_file() {
        return Ok(None);
    }
    let (mut arrays, words) = files::read_checkpoint(&path)?;
    let damaged = |reason: &str| TrainError::Folder { path: path.clone(), reason: reason.to_owned() };
    let word = |name: &str| words.get(name).map(String::as_str).unwrap_or_default();
    if word("config") != digest(set.config) {
        return Err(damaged(
            "is of another description: give the one that it was made with, or name another folder with --out",
        ));
    }
    // Checkpoints of before these words were kept say nothing of it.
    if words.get("from").is_some_and(|from| Some(from) != set.rest.from.as_ref()) {
        return Err(damaged(
            "began with other weights than those that stand there now: put them back, or begin anew with --out",
        ));
    }
    let number = |name: &str| word(name).parse::<u64>().map_err(|_| damaged("is damaged: a number is missing"));
    let mut take = |name: String, like: [usize; 2]| {
        arrays.remove(&name).filter(|a| a.shape() == like).ok_or_else(|| damaged("is damaged: a matrix is missing"))
    };
    let mut state = fresh.clone();
    for (p, mean) in state.parameters.iter_mut().zip(&mut state.mean) {
        let shape = p.value.shape();
        p.value = Arc::new(take(format!("now.{}", p.name), shape)?);
        *mean = take(format!("mean.{}", p.name), shape)?;
    }
    let mut moments = Vec::new();
    for (p, [_, second]) in state.parameters.iter().zip(fresh.optimiser.state().1) {
        moments
            .push([take(format!("first.{}", p.name), p.value.shape())?, take(format!("second.{}", p.name), second.shape())?]);
    }
    state.optimiser = fresh
        .optimiser
        .clone()
        .with_state(number("n_optimised")?, moments)
        .ok_or_else(|| damaged("is damaged: the optimiser's means do not fit"))?;
    state.n_steps = usize::try_from(number("n_steps")?).map_err(|_| damaged("is damaged: a number is too large"))?;
    state.best = match word("best").split_once(' ') {
        None => None,
        Some((epoch, bits)) => {
            let epoch = epoch.parse().map_err(|_| damaged("is damaged: the best epoch"))?;
            let bits = u64::from_str_radix(bits, 16).map_err(|_| damaged("is damaged: the best figure"))?;
            Some((epoch, f64::from_bits(bits)))
        }
    };
    Ok(Some((state, number("log_bytes")?)))
}

/// The first numbers of a digest of what a tower takes of a text.
fn digest_of(input: &Prepared) -> u64 {
    let bytes: Vec<u8> = match input {
        Prepared::Words(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        // Of a tower that stays as it is: equal texts have equal embeddings, to the last bit.
        Prepared::Rows(row) => row.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    u64::from_le_bytes(blake3::hash(&bytes).as_bytes()[..8].try_into().expect("eight of them"))
}

/// The teacher's embeddings of some members, all of a kind that it takes.
fn taught_rows<'m>(members: impl Iterator<Item = &'m Member>) -> Array<f32> {
    let rows: Vec<Arc<Prepared>> = members.filter_map(|member| member.taught.clone()).collect();
    let n = rows.len();
    let data = tape::rows(&rows);
    Array::new(n, data.len() / n.max(1), data)
}
