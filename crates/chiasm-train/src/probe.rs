//! Looks at trainings from outside: steps on made-up numbers, for measuring how long they take, and the towers of a checkpoint as they learn, for comparing
//! their values and gradients with others'.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chiasm_core::{Media, Modality};
use chiasm_encode::{Inputs, Prepared, Sizes};
use chiasm_nn::Precision;
use chiasm_nn::grad::{Array, Tape, Var};
use chiasm_nn::learn::{Optimiser, Parameter, Rule, keep_freed_memory};
use rand::RngExt;

use crate::clip::{self, Clip};
use crate::config::Objective;
use crate::error::{Result, TrainError};
use crate::loss::{Learned, Pair, loss};
use crate::tape::{Bound, Network, Scales, stream};
use crate::tower::Shape;

/// Two towers to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// Dense layers of 512, 1024 and 256 numbers on either side.
    Mlp,
    /// The vision transformer of 192 numbers and 12 blocks (ViT-Ti/16 at 224 pixels) and a text transformer of the same size over 32 words.
    VitTiny,
}

/// Towers with their optimiser and a batch.
#[derive(Debug)]
pub struct Probe {
    probed: Probed,
    shapes: Vec<Shape>,
    inputs: Vec<Vec<Arc<Prepared>>>,
    rows: Vec<Array<f32>>,
    parameters: Vec<Parameter>,
    optimiser: Optimiser,
    precision: Precision,
    n: usize,
}

/// Sizes of the dense towers.
const DENSE: [usize; 3] = [512, 1024, 256];
const TINY: Sizes = Sizes { width: 192, inner: 768, layers: 12, heads: 3 };
/// Patches of 16 x 16 x 3 numbers, words, and words that there are.
const PATCHES: [usize; 2] = [196, 768];
const WORDS: usize = 32;
const VOCABULARY: usize = 8192;
const PROJECTION: usize = 256;

impl Probe {
    /// Towers that have learned nothing, whose dense layers multiply in `precision`, and a batch of `n` pairs of random numbers.
    pub fn new(probed: Probed, n: usize, precision: Precision) -> Self {
        keep_freed_memory();
        let mut rng = stream(0, "probe", 0);
        let mut row = |m: usize| (0..m).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>();
        let (mut shapes, mut inputs, mut rows, mut parameters) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        match probed {
            Probed::Mlp => {
                let [n_in, hidden, n_out] = DENSE;
                for tower in 0..2 {
                    rows.push(Array::new(n, n_in, row(n * n_in)));
                    for (part, shape) in [("widen", [hidden, n_in]), ("narrow", [n_out, hidden])] {
                        let value = Array::new(shape[0], shape[1], row(shape[0] * shape[1]).iter().map(|x| 0.1 * x).collect());
                        parameters.push(Parameter::weight(format!("{tower}.{part}.weight"), value));
                        parameters.push(Parameter::plain(format!("{tower}.{part}.bias"), Array::zeros(1, shape[0])));
                    }
                }
            }
            Probed::VitTiny => {
                let [n_tokens, n_in] = PATCHES;
                shapes.push(Shape { modality: Modality::Image, sizes: TINY, n_tokens, n_in, projection: PROJECTION });
                shapes.push(Shape {
                    modality: Modality::Text,
                    sizes: TINY,
                    n_tokens: WORDS,
                    n_in: VOCABULARY,
                    projection: PROJECTION,
                });
                inputs.push((0..n).map(|_| Arc::new(Prepared::Rows(row(n_tokens * n_in)))).collect());
                let words = |i: usize| (0..WORDS).map(|j| ((i * 131 + j * 17) % VOCABULARY) as u32).collect();
                inputs.push((0..n).map(|i| Arc::new(Prepared::Words(words(i)))).collect());
                parameters.extend(shapes.iter().flat_map(|shape| shape.drawn(&mut stream(0, "probe", 1))));
            }
        }
        parameters.push(Parameter::plain("logit_scale", Array::scalar(10.0_f32.ln())));
        let optimiser = Optimiser::new(Rule::ADAM_W, 0.1, &parameters);
        Self { probed, shapes, inputs, rows, parameters, optimiser, precision, n }
    }

    /// One step of all towers; gives the loss before it.
    pub fn step(&mut self) -> f32 {
        let (value, gradients) = self.gradients();
        self.optimiser.step(&mut self.parameters, &gradients, 1e-4);
        value
    }

    /// The loss, and its gradients by all parameters.
    fn gradients(&self) -> (f32, Vec<Array<f32>>) {
        let tape = Tape::in_precision(self.precision);
        let leaves: Vec<Var<'_, f32>> = self.parameters.iter().map(|p| tape.leaf(p.value.clone())).collect();
        let of = self.parameters.iter().zip(&leaves).map(|(p, leaf)| (p.name.clone(), *leaf)).collect();
        let bound = Bound { tape: &tape, of, scales: Scales::default() };
        let embedded: Vec<Var<'_, f32>> = match self.probed {
            Probed::Mlp => {
                let weight = |t: usize, part: &str, end: &str| bound.of[&format!("{t}.{part}.{end}")];
                let tower = |(t, rows): (usize, &Array<f32>)| {
                    let hidden = tape
                        .constant(rows.clone())
                        .linear(weight(t, "widen", "weight"), Some(weight(t, "widen", "bias")))
                        .relu();
                    hidden.linear(weight(t, "narrow", "weight"), Some(weight(t, "narrow", "bias"))).unit_rows()
                };
                self.rows.iter().enumerate().map(tower).collect()
            }
            Probed::VitTiny => {
                self.shapes.iter().zip(&self.inputs).map(|(shape, inputs)| shape.embed(&bound, inputs, None)).collect()
            }
        };
        let pair = Pair { left: embedded[0], right: embedded[1], wrong: None, groups: (0..self.n as u64).collect() };
        let learned = Learned { log_scale: bound.of["logit_scale"], bias: None };
        let loss = loss(&tape, Objective::Infonce, 0.0, &pair, learned);
        let value = loss.value().only();
        let mut gradients = tape.backward(loss);
        (value, leaves.into_iter().map(|leaf| gradients.take(leaf)).collect())
    }
}

/// The two towers of a CLIP checkpoint on the tape, all of them learned.
#[derive(Debug)]
pub struct ClipProbe {
    folder: PathBuf,
    /// For pictures and for texts, as what stands before them.
    towers: [(Clip, Inputs); 2],
    parameters: Vec<Parameter>,
}

impl ClipProbe {
    /// Opens the checkpoint in a folder.
    ///
    /// # Errors
    /// [`TrainError::Open`] and [`TrainError::Config`], naming the file.
    pub fn open(folder: &Path) -> Result<Self> {
        let opened = clip::open(folder)?;
        let [image, text] = opened.towers;
        let before = |modality: Modality| Inputs::open(folder, modality);
        let towers = [(image, before(Modality::Image)?), (text, before(Modality::Text)?)];
        let parameters = opened.parameters.into_iter().flatten().chain([opened.log_scale]).collect();
        Ok(Self { folder: folder.to_owned(), towers, parameters })
    }

    /// Embeddings of media of one kind, `[n, projection]`, at unit length.
    ///
    /// # Errors
    /// [`TrainError::Data`] for what a tower cannot take.
    pub fn embed(&self, media: &[Media]) -> Result<Array<f32>> {
        let tape = Tape::new();
        let of = self.parameters.iter().map(|p| (p.name.clone(), tape.constant(p.value.clone()))).collect();
        self.embedded(&Bound { tape: &tape, of, scales: Scales::default() }, media).map(|y| Array::clone(&y.value()))
    }

    /// The symmetric InfoNCE loss of pictures and texts, of which those at the same place belong together, and its gradients by tensor: vectors as rows, filters
    /// as rows of all their numbers.
    ///
    /// # Errors
    /// [`TrainError::Data`] for what a tower cannot take.
    pub fn gradients(&self, pictures: &[Media], texts: &[Media]) -> Result<(f32, BTreeMap<String, Array<f32>>)> {
        let tape = Tape::new();
        let leaves: Vec<(String, Var<'_, f32>)> =
            self.parameters.iter().map(|p| (p.name.clone(), tape.leaf(p.value.clone()))).collect();
        let of: HashMap<String, Var<'_, f32>> = leaves.iter().cloned().collect();
        let learned = Learned { log_scale: of["logit_scale"], bias: None };
        let bound = Bound { tape: &tape, of, scales: Scales::default() };
        let (left, right) = (self.embedded(&bound, pictures)?, self.embedded(&bound, texts)?);
        let pair = Pair { left, right, wrong: None, groups: (0..pictures.len() as u64).collect() };
        let loss = loss(&tape, Objective::Infonce, 0.0, &pair, learned);
        let mut gradients = tape.backward(loss);
        Ok((loss.value().only(), leaves.into_iter().map(|(name, leaf)| (name, gradients.take(leaf))).collect()))
    }

    fn embedded<'t>(&self, on: &Bound<'t>, media: &[Media]) -> Result<Var<'t, f32>> {
        let modality = media.first().map_or(Modality::Image, Media::modality);
        let wrong = |reason: String| TrainError::Data { path: self.folder.clone(), reason };
        let tower = self.towers.iter().find(|(tower, _)| tower.modality() == modality);
        let (tower, before) = tower.ok_or_else(|| wrong(format!("no tower takes {modality}, expected image or text")))?;
        let inputs: std::result::Result<Vec<Arc<Prepared>>, String> =
            media.iter().map(|media| before.prepare(media).map(Arc::new)).collect();
        Ok(tower.embed(on, &inputs.map_err(wrong)?, None))
    }
}
