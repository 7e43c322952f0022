//! A fitted space: for each view a list of row-wise steps, and the one file format they are kept in.
//!
//! # File
//! A safetensors container (readable with `safetensors.safe_open` in Python) whose `__metadata__` has the one key `chiasm`: a
//! JSON text with the format's number, the metric, what was fitted, and for each view its input dimension and its steps in
//! order, where numbers of some size are named tensors (`v0.s2.weights` is view 0, step 2). Every number is f32.
//!
//! # Errors
//! Bytes are checked before anything is built from them: each step's shape against the output of the step before it, every
//! number for being finite, every dimension against a bound of 2^20. Damaged or hostile bytes give a [`PipelineError`].

use std::collections::HashMap;

use chiasm_core::{MatrixView, Metric, ProjectError, SharedSpace, Vectors, to_unit_length};
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;

/// The greatest number of dimensions, of an input or of a space, that is believed.
pub(crate) const MAX_DIM: usize = 1 << 20;
const MAX_STEPS: usize = 64;
const MAX_VIEWS: usize = 64;
const FORMAT: u32 = 1;
const METADATA_KEY: &str = "chiasm";
/// Before the names of tensors that the steps do not know of.
const BESIDE: &str = "beside.";
/// Rows that share one pass over the weights of a linear step.
const ROWS_PER_TASK: usize = 16;

/// One row-wise operation; row `i` of its output depends on row `i` of its input alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `sign(x) |x|^p`; `p = 0.5` is the signed square root.
    Power {
        /// Exponent, in 0..=1 but not 0.
        p: f32,
    },
    /// `sign(x) ln(1 + |x|) idf`: for counts of words or n-grams.
    LogIdf {
        /// Inverse document frequency of each column, `[d]`.
        idf: Vec<f32>,
    },
    /// `x - mean`.
    Center {
        /// Mean of the fitting rows, `[d]`.
        mean: Vec<f32>,
    },
    /// `x * factor`, column by column.
    Scale {
        /// One factor per column, `[d]`.
        factor: Vec<f32>,
    },
    /// `x W + b`.
    Linear {
        /// `W`, `[n_in, n_out]` row-major.
        weights: Vec<f32>,
        /// `b`, `[n_out]`; empty for none. Gives the width of the output together with `n_out`.
        bias: Vec<f32>,
        /// Columns of the output.
        n_out: usize,
    },
    /// Scales the row to unit Euclidean length; a row of zeros stays as it is.
    Unit,
    /// Keeps the `k` largest numbers (of equal ones those of smaller index), sets the others to 0, and divides by the sum of
    /// those kept: class probabilities to a distribution over the likeliest classes. Negative numbers count as 0.
    TopClasses {
        /// How many to keep, at least 1.
        k: usize,
    },
    /// `k(x, a)` for each anchor `a`.
    Kernel {
        /// Which kernel.
        kernel: Kernel,
        /// Its width, see [`Kernel`]; above 0.
        gamma: f32,
        /// Rows to compare with, `[n_anchors, n_in]` row-major.
        anchors: Vec<f32>,
        /// How many.
        n_anchors: usize,
    },
    /// `exp(x) / sum exp(x)`: scores to class probabilities.
    Softmax,
    /// 1 for a number of at least 0, else -1: a binary code, one bit a column.
    Sign,
    /// The greater of a number and 0: the hidden units of a network.
    Relu,
    /// Scales each block of columns to unit length by itself, so that no block outweighs another: early fusion.
    UnitBlocks {
        /// Columns of each block, in order.
        widths: Vec<usize>,
    },
}

impl Step {
    /// Width of the output for an input of `n_in` columns.
    ///
    /// # Errors
    /// [`PipelineError::Step`] when the step does not fit such an input or holds what it may not hold.
    pub fn output_dim(&self, n_in: usize) -> Result<usize, PipelineError> {
        let bad = |reason: String| Err(PipelineError::Step { kind: self.kind(), reason });
        let finite = |name: &str, v: &[f32]| match v.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(PipelineError::Step { kind: self.kind(), reason: format!("number {at} of `{name}` is {}", v[at]) }),
        };
        let per_column = |name: &str, v: &[f32]| {
            if v.len() != n_in {
                return bad(format!("`{name}` has {} numbers for {n_in} columns", v.len()));
            }
            finite(name, v)?;
            Ok(n_in)
        };
        match self {
            Step::Power { p } if !(*p > 0.0 && *p <= 1.0) => {
                bad(format!("the exponent is {p}, it must be above 0 and at most 1"))
            }
            Step::Power { .. } | Step::Unit => Ok(n_in),
            Step::LogIdf { idf } => per_column("idf", idf),
            Step::Center { mean } => per_column("mean", mean),
            Step::Scale { factor } => per_column("factor", factor),
            Step::Linear { weights, bias, n_out } => {
                if *n_out == 0 || *n_out > MAX_DIM {
                    return bad(format!("it gives {n_out} columns, 1 to {MAX_DIM} are possible"));
                }
                if n_in.checked_mul(*n_out) != Some(weights.len()) {
                    return bad(format!("`weights` has {} numbers for {n_in} x {n_out}", weights.len()));
                }
                if !bias.is_empty() && bias.len() != *n_out {
                    return bad(format!("`bias` has {} numbers for {n_out} columns", bias.len()));
                }
                finite("weights", weights)?;
                finite("bias", bias)?;
                Ok(*n_out)
            }
            Step::TopClasses { k: 0 } => bad("it keeps 0 classes, at least 1 is needed".to_owned()),
            Step::TopClasses { .. } | Step::Softmax | Step::Sign | Step::Relu => Ok(n_in),
            Step::Kernel { gamma, anchors, n_anchors, .. } => {
                if *n_anchors == 0 || *n_anchors > MAX_DIM {
                    return bad(format!("it has {n_anchors} anchors, 1 to {MAX_DIM} are possible"));
                }
                if n_in.checked_mul(*n_anchors) != Some(anchors.len()) {
                    return bad(format!("`anchors` has {} numbers for {n_anchors} x {n_in}", anchors.len()));
                }
                if !(*gamma > 0.0 && gamma.is_finite()) {
                    return bad(format!("gamma is {gamma}, it must be above 0"));
                }
                finite("anchors", anchors)?;
                Ok(*n_anchors)
            }
            Step::UnitBlocks { widths } => {
                let sum = widths.iter().try_fold(0usize, |sum, w| sum.checked_add(*w));
                if sum != Some(n_in) || widths.contains(&0) {
                    return bad(format!("its blocks are {widths:?} columns wide, {n_in} columns come in"));
                }
                Ok(n_in)
            }
        }
    }

    /// The word that names it in files and messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Step::Power { .. } => "power",
            Step::LogIdf { .. } => "log_idf",
            Step::Center { .. } => "center",
            Step::Scale { .. } => "scale",
            Step::Linear { .. } => "linear",
            Step::Unit => "unit",
            Step::TopClasses { .. } => "top_classes",
            Step::Kernel { .. } => "kernel",
            Step::Softmax => "softmax",
            Step::Sign => "sign",
            Step::Relu => "relu",
            Step::UnitBlocks { .. } => "unit_blocks",
        }
    }

    /// Applies it to a few rows `[n, n_in]`; shapes were checked when the space was made.
    fn apply(&self, rows: Vec<f32>, n_in: usize) -> Vec<f32> {
        let mut rows = rows;
        match self {
            Step::Power { p } if *p == 0.5 => rows.iter_mut().for_each(|x| *x = x.abs().sqrt().copysign(*x)),
            Step::Power { p } => rows.iter_mut().for_each(|x| *x = x.abs().powf(*p).copysign(*x)),
            Step::LogIdf { idf } => each(&mut rows, idf, |x, f| *x = x.abs().ln_1p().copysign(*x) * f),
            Step::Center { mean } => each(&mut rows, mean, |x, m| *x -= m),
            Step::Scale { factor } => each(&mut rows, factor, |x, f| *x *= f),
            Step::Unit => rows.chunks_exact_mut(n_in).for_each(to_unit_length),
            Step::TopClasses { k } => rows.chunks_exact_mut(n_in).for_each(|row| top_classes(row, *k)),
            Step::Linear { weights, bias, n_out } => return linear(&rows, n_in, weights, bias, *n_out),
            Step::Kernel { kernel, gamma, anchors, .. } => {
                let against = |row| anchors.chunks_exact(n_in).map(move |a| kernel.value(f64::from(*gamma), row, a) as f32);
                return rows.chunks_exact(n_in).flat_map(against).collect();
            }
            Step::Softmax => rows.chunks_exact_mut(n_in).for_each(softmax),
            Step::Sign => rows.iter_mut().for_each(|x| *x = if *x >= 0.0 { 1.0 } else { -1.0 }),
            Step::Relu => rows.iter_mut().for_each(|x| *x = x.max(0.0)),
            Step::UnitBlocks { widths } => rows.chunks_exact_mut(n_in).for_each(|row| {
                let mut rest = row;
                for width in widths {
                    let (block, after) = rest.split_at_mut(*width);
                    to_unit_length(block);
                    rest = after;
                }
            }),
        }
        rows
    }

    /// Width of the output of a step whose shape was checked.
    fn width_after(&self, n_in: usize) -> usize {
        match self {
            Step::Linear { n_out, .. } => *n_out,
            Step::Kernel { n_anchors, .. } => *n_anchors,
            Step::Power { .. }
            | Step::LogIdf { .. }
            | Step::Center { .. }
            | Step::Scale { .. }
            | Step::Unit
            | Step::TopClasses { .. }
            | Step::Softmax
            | Step::Sign
            | Step::Relu
            | Step::UnitBlocks { .. } => n_in,
        }
    }
}

fn each(rows: &mut [f32], per_column: &[f32], f: impl Fn(&mut f32, f32)) {
    for row in rows.chunks_exact_mut(per_column.len()) {
        row.iter_mut().zip(per_column).for_each(|(x, c)| f(x, *c));
    }
}

/// In f64; the greatest score is taken off first, so that no exponential overflows.
fn softmax(row: &mut [f32]) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of = |x: f32| (f64::from(x) - f64::from(greatest)).exp();
    let sum: f64 = row.iter().map(|x| of(*x)).sum();
    row.iter_mut().for_each(|x| *x = (of(*x) / sum) as f32);
}

fn top_classes(row: &mut [f32], k: usize) {
    row.iter_mut().for_each(|x| *x = x.max(0.0));
    if k < row.len() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        let rank = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
        order.select_nth_unstable_by(k, rank);
        order[k..].iter().for_each(|i| row[*i] = 0.0);
    }
    let sum = row.iter().map(|x| f64::from(*x)).sum::<f64>();
    if sum > 0.0 {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / sum) as f32);
    }
}

/// Each weight row is read once for all rows of the batch, and each row adds its terms in the order of the input's columns, so
/// that its result does not depend on the batch.
fn linear(rows: &[f32], n_in: usize, weights: &[f32], bias: &[f32], n_out: usize) -> Vec<f32> {
    let n = rows.len() / n_in;
    let mut out = vec![0.0; n * n_out];
    for (i, w) in weights.chunks_exact(n_out).enumerate() {
        for (row, out) in rows.chunks_exact(n_in).zip(out.chunks_exact_mut(n_out)) {
            let x = row[i];
            if x != 0.0 {
                out.iter_mut().zip(w).for_each(|(o, w)| *o += x * w);
            }
        }
    }
    if !bias.is_empty() {
        each(&mut out, bias, |x, b| *x += b);
    }
    out
}

/// One view of a space: what comes in and what is done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Columns of the input.
    pub input_dim: usize,
    /// What is done to each row, in order.
    pub steps: Vec<Step>,
}

/// What was fitted, for people and for provenance; nothing in it changes a projection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Name of the method, as [`crate::MethodConfig::names`] lists it, or `conse`.
    pub method: String,
    /// Number of pairs it was fitted on.
    pub n_pairs: usize,
    /// Hyper-parameters by name, in the order in which the method lists them.
    pub parameters: Vec<(String, String)>,
    /// Canonical correlations (CCA), or what the method has in their place, greatest first; empty when it has none.
    pub correlations: Vec<f32>,
}

/// A fitted space: one pipeline per view, all of which end in the same `dim` columns.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineSpace {
    metric: Metric,
    dim: usize,
    views: Vec<View>,
    about: About,
}

/// Why steps make no space, or bytes hold none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// No views, too many, or more steps than are believed.
    #[error("a space needs 1 to {MAX_VIEWS} views of at most {MAX_STEPS} steps, got {n_views} views of up to {n_steps} steps")]
    Size {
        /// Number of views.
        n_views: usize,
        /// Steps of the longest.
        n_steps: usize,
    },
    /// An input dimension of 0 or beyond belief.
    #[error("view {view} takes {got} dimensions, 1 to {MAX_DIM} are possible")]
    InputDim {
        /// The view.
        view: usize,
        /// Its input dimension.
        got: usize,
    },
    /// A step that does not fit what comes to it, or holds a number it may not hold.
    #[error("step `{kind}`: {reason}")]
    Step {
        /// Which kind of step.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Views that do not meet.
    #[error("view {view} ends in {got} dimensions, view 0 in {expected}: all views must end in the same space")]
    Meet {
        /// The view at odds with the first.
        view: usize,
        /// Where it ends.
        got: usize,
        /// Where view 0 ends.
        expected: usize,
    },
    /// A composition with a view that is not there.
    #[error("the space has {n_views} views, there is no view {view}")]
    NoSuchView {
        /// The view asked for.
        view: usize,
        /// How many there are.
        n_views: usize,
    },
    /// A composition whose ends do not fit.
    #[error("the steps end in {got} dimensions, view {view} takes {expected}: they must lead to what that view was fitted on")]
    Through {
        /// The view that continues.
        view: usize,
        /// Where the steps end.
        got: usize,
        /// What the view takes.
        expected: usize,
    },
    /// Bytes that are no fitted space.
    #[error("these bytes hold no fitted space: {reason}")]
    Bytes {
        /// What is wrong with them.
        reason: String,
    },
    /// A file of a later version of this program.
    #[error("the fitted space has format {got}, this version reads {FORMAT}: use a newer version")]
    Format {
        /// The number it states.
        got: u32,
    },
}

impl PipelineSpace {
    /// A space of these views. For [`Metric::Cosine`] a view that does not end in [`Step::Unit`] gets one.
    ///
    /// # Errors
    /// Every variant of [`PipelineError`] but those of bytes and of composition.
    pub fn new(metric: Metric, views: Vec<View>, about: About) -> Result<Self, PipelineError> {
        let n_steps = views.iter().map(|v| v.steps.len()).max().unwrap_or(0);
        if views.is_empty() || views.len() > MAX_VIEWS || n_steps > MAX_STEPS {
            return Err(PipelineError::Size { n_views: views.len(), n_steps });
        }
        let mut views = views;
        let mut dim = 0;
        for (view, v) in views.iter_mut().enumerate() {
            if metric == Metric::Cosine && v.steps.last() != Some(&Step::Unit) {
                v.steps.push(Step::Unit);
            }
            let end = end_of(view, v.input_dim, &v.steps)?;
            if view == 0 {
                dim = end;
            } else if end != dim {
                return Err(PipelineError::Meet { view, got: end, expected: dim });
            }
        }
        Ok(Self { metric, dim, views, about })
    }

    /// The views in order.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// What was fitted.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Bits of a code, when the space is one of binary codes: its views end in [`Step::Sign`].
    pub fn n_bits(&self) -> Option<usize> {
        let binary = |v: &View| v.steps.iter().rev().find(|s| **s != Step::Unit) == Some(&Step::Sign);
        self.views.iter().all(binary).then_some(self.dim)
    }

    /// Adds a view that comes in *through* another: its rows of `input_dim` columns go through `steps`, which must end in what
    /// `view` takes, and then through all of that view's steps. So sounds whose classes have names join a space of pictures
    /// and texts through text: [`crate::conse::steps`] and then the text view.
    ///
    /// # Errors
    /// [`PipelineError::NoSuchView`], [`PipelineError::Through`], and those of [`PipelineSpace::new`].
    pub fn with_view_through(self, view: usize, input_dim: usize, steps: Vec<Step>) -> Result<Self, PipelineError> {
        let n_views = self.views.len();
        let target = self.views.get(view).ok_or(PipelineError::NoSuchView { view, n_views })?;
        let got = end_of(n_views, input_dim, &steps)?;
        if got != target.input_dim {
            return Err(PipelineError::Through { view, got, expected: target.input_dim });
        }
        let steps = steps.into_iter().chain(target.steps.iter().cloned()).collect();
        let mut views = self.views;
        views.push(View { input_dim, steps });
        Self::new(self.metric, views, self.about)
    }

    /// The space with its views in another order, or fewer of them: view `i` of the result is view `order[i]` of this one.
    ///
    /// # Errors
    /// [`PipelineError::NoSuchView`]; [`PipelineError::Size`] for an empty order.
    pub fn select_views(&self, order: &[usize]) -> Result<Self, PipelineError> {
        let n_views = self.views.len();
        let pick = |view: &usize| self.views.get(*view).cloned().ok_or(PipelineError::NoSuchView { view: *view, n_views });
        Self::new(self.metric, order.iter().map(pick).collect::<Result<_, _>>()?, self.about.clone())
    }

    /// The file of this space; the same space always gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_beside(&Beside::default())
    }

    /// The file of this space with what its owner keeps beside it; [`PipelineSpace::from_bytes`] passes over that, and
    /// [`Beside::from_bytes`] reads it.
    pub fn to_bytes_beside(&self, beside: &Beside) -> Vec<u8> {
        let mut tensors: Vec<(String, Vec<u8>, Vec<usize>)> = Vec::new();
        let views = self.views.iter().enumerate().map(|(v, view)| {
            let mut keep = |s: usize, name: &str, shape: Vec<usize>, numbers: &[f32]| {
                let name = format!("v{v}.s{s}.{name}");
                tensors.push((name.clone(), numbers.iter().flat_map(|x| x.to_le_bytes()).collect(), shape));
                name
            };
            let steps = view.steps.iter().enumerate().map(|(s, step)| match step {
                Step::Power { p } => StepRecord::Power { p: *p },
                Step::LogIdf { idf } => StepRecord::LogIdf { idf: keep(s, "idf", vec![idf.len()], idf) },
                Step::Center { mean } => StepRecord::Center { mean: keep(s, "mean", vec![mean.len()], mean) },
                Step::Scale { factor } => StepRecord::Scale { factor: keep(s, "factor", vec![factor.len()], factor) },
                Step::Linear { weights, bias, n_out } => StepRecord::Linear {
                    weights: keep(s, "weights", vec![weights.len() / n_out, *n_out], weights),
                    bias: (!bias.is_empty()).then(|| keep(s, "bias", vec![*n_out], bias)),
                },
                Step::Unit => StepRecord::Unit,
                Step::TopClasses { k } => StepRecord::TopClasses { k: *k },
                Step::Kernel { kernel, gamma, anchors, n_anchors } => StepRecord::Kernel {
                    kernel: *kernel,
                    gamma: *gamma,
                    anchors: keep(s, "anchors", vec![*n_anchors, anchors.len() / n_anchors], anchors),
                },
                Step::Softmax => StepRecord::Softmax,
                Step::Sign => StepRecord::Sign,
                Step::Relu => StepRecord::Relu,
                Step::UnitBlocks { widths } => StepRecord::UnitBlocks { widths: widths.clone() },
            });
            ViewRecord { input_dim: view.input_dim, steps: steps.collect() }
        });
        let views = views.collect();
        let metric = self.metric.as_str().to_owned();
        let beside_record = (!beside.record.is_null()).then(|| beside.record.clone());
        let record = SpaceRecord { format: FORMAT, metric, views, about: self.about.clone(), beside: beside_record };
        for (name, dim, numbers) in &beside.tensors {
            let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((format!("{BESIDE}{name}"), bytes, vec![numbers.len() / dim, *dim]));
        }
        let json = serde_json::to_string(&record).expect("a record of plain numbers and strings is always JSON");
        let views = tensors.iter().map(|(name, bytes, shape)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape was made from the numbers");
            (name.as_str(), view)
        });
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
        safetensors::serialize(views, Some(metadata)).expect("names are unique and shapes match")
    }

    /// Reads what [`PipelineSpace::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`PipelineError::Bytes`], [`PipelineError::Format`], and those of [`PipelineSpace::new`]: every check of a new space is
    /// made again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PipelineError> {
        let bad = |reason: String| PipelineError::Bytes { reason };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
        let json = json.ok_or_else(|| bad(format!("its metadata has no key `{METADATA_KEY}`")))?;
        // The number first: a later format may differ in all the rest.
        let version: FormatRecord = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        if version.format != FORMAT {
            return Err(PipelineError::Format { got: version.format });
        }
        let record: SpaceRecord = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        let metric = Metric::parse(&record.metric).ok_or_else(|| bad(format!("`{}` is no metric", record.metric)))?;
        // A few bytes can name one tensor many times over; memory stays within a small multiple of the file.
        let n_steps = record.views.iter().map(|v| v.steps.len()).max().unwrap_or(0);
        if record.views.len() > MAX_VIEWS || n_steps > MAX_STEPS {
            return Err(PipelineError::Size { n_views: record.views.len(), n_steps });
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        let mut budget = bytes.len();
        let mut tensor = |name: &str| {
            let t = tensors.tensor(name).map_err(|_| bad(format!("there is no tensor `{name}`")))?;
            if t.dtype() != Dtype::F32 {
                return Err(bad(format!("tensor `{name}` holds {:?}, expected F32", t.dtype())));
            }
            budget = budget.checked_sub(t.data().len()).ok_or_else(|| bad("its steps share tensors".to_owned()))?;
            let numbers = t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<f32>>();
            Ok((numbers, t.shape().to_vec()))
        };
        let mut views = Vec::new();
        for view in record.views {
            let mut steps = Vec::new();
            for step in view.steps {
                steps.push(match step {
                    StepRecord::Power { p } => Step::Power { p },
                    StepRecord::LogIdf { idf } => Step::LogIdf { idf: tensor(&idf)?.0 },
                    StepRecord::Center { mean } => Step::Center { mean: tensor(&mean)?.0 },
                    StepRecord::Scale { factor } => Step::Scale { factor: tensor(&factor)?.0 },
                    StepRecord::Linear { weights, bias } => {
                        let name = weights;
                        let (weights, shape) = tensor(&name)?;
                        let [_, n_out] = shape[..] else {
                            return Err(bad(format!("tensor `{name}` has {} dimensions, expected 2", shape.len())));
                        };
                        let bias = bias.map_or(Ok(Vec::new()), |name| tensor(&name).map(|t| t.0))?;
                        Step::Linear { weights, bias, n_out }
                    }
                    StepRecord::Unit => Step::Unit,
                    StepRecord::TopClasses { k } => Step::TopClasses { k },
                    StepRecord::Kernel { kernel, gamma, anchors } => {
                        let name = anchors;
                        let (anchors, shape) = tensor(&name)?;
                        let [n_anchors, _] = shape[..] else {
                            return Err(bad(format!("tensor `{name}` has {} dimensions, expected 2", shape.len())));
                        };
                        Step::Kernel { kernel, gamma, anchors, n_anchors }
                    }
                    StepRecord::Softmax => Step::Softmax,
                    StepRecord::Sign => Step::Sign,
                    StepRecord::Relu => Step::Relu,
                    StepRecord::UnitBlocks { widths } => Step::UnitBlocks { widths },
                });
            }
            views.push(View { input_dim: view.input_dim, steps });
        }
        Self::new(metric, views, record.about)
    }
}

/// Checks a chain of steps and says how many columns it ends in.
fn end_of(view: usize, input_dim: usize, steps: &[Step]) -> Result<usize, PipelineError> {
    if input_dim == 0 || input_dim > MAX_DIM {
        return Err(PipelineError::InputDim { view, got: input_dim });
    }
    steps.iter().try_fold(input_dim, |n_in, step| step.output_dim(n_in))
}

impl SharedSpace for PipelineSpace {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn n_views(&self) -> usize {
        self.views.len()
    }

    fn input_dim(&self, view: usize) -> Option<usize> {
        self.views.get(view).map(|v| v.input_dim)
    }

    fn project(&self, view: usize, x: MatrixView<'_>) -> Result<Vectors, ProjectError> {
        let v = self.views.get(view).ok_or(ProjectError::NoSuchView { view, n_views: self.views.len() })?;
        if x.dim() != v.input_dim {
            return Err(ProjectError::Dimension { view, expected: v.input_dim, got: x.dim() });
        }
        x.check_finite()?;
        let tasks: Vec<&[f32]> = x.data().chunks(ROWS_PER_TASK * x.dim()).collect();
        let parts: Vec<Vec<f32>> = tasks.into_par_iter().map(|rows| apply_rows(&v.steps, rows.to_vec(), v.input_dim)).collect();
        // Numbers that overflow on the way are an error that names their place.
        Ok(Vectors::new(parts.concat(), self.dim)?)
    }
}

/// Takes rows `[n, n_in]` through steps whose shapes were checked.
pub(crate) fn apply_rows(steps: &[Step], rows: Vec<f32>, n_in: usize) -> Vec<f32> {
    let mut n_in = n_in;
    steps.iter().fold(rows, |rows, step| {
        let out = step.apply(rows, n_in);
        n_in = step.width_after(n_in);
        out
    })
}

#[derive(Deserialize)]
struct FormatRecord {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct SpaceRecord {
    format: u32,
    metric: String,
    views: Vec<ViewRecord>,
    about: About,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beside: Option<serde_json::Value>,
}

/// What the owner of a space keeps in its file: the names of its views, where it comes from, reference vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// Any JSON; nothing when null.
    pub record: serde_json::Value,
    /// Name, columns, and rows of these.
    pub tensors: Vec<(String, usize, Vec<f32>)>,
}

impl Beside {
    /// What [`PipelineSpace::to_bytes_beside`] was given; tensors in the order of their names.
    ///
    /// # Errors
    /// [`PipelineError::Bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PipelineError> {
        let bad = |reason: String| PipelineError::Bytes { reason };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
        let json = json.ok_or_else(|| bad(format!("its metadata has no key `{METADATA_KEY}`")))?;
        let record: BesideRecord = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        let mut tensors = Vec::new();
        for (name, tensor) in SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?.tensors() {
            let Some(name) = name.strip_prefix(BESIDE) else { continue };
            let [_, dim] = *tensor.shape() else {
                return Err(bad(format!("tensor `{name}` has {} dimensions, expected 2", tensor.shape().len())));
            };
            if tensor.dtype() != Dtype::F32 || dim == 0 {
                return Err(bad(format!("tensor `{name}` holds {:?} in {dim} columns, expected F32", tensor.dtype())));
            }
            let numbers = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            tensors.push((name.to_owned(), dim, numbers));
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { record: record.beside.unwrap_or_default(), tensors })
    }
}

#[derive(Deserialize)]
struct BesideRecord {
    beside: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct ViewRecord {
    input_dim: usize,
    steps: Vec<StepRecord>,
}

/// A step as the file names it; strings are names of tensors.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StepRecord {
    Power { p: f32 },
    LogIdf { idf: String },
    Center { mean: String },
    Scale { factor: String },
    Linear { weights: String, bias: Option<String> },
    Unit,
    TopClasses { k: usize },
    Kernel { kernel: Kernel, gamma: f32, anchors: String },
    Softmax,
    Sign,
    Relu,
    UnitBlocks { widths: Vec<usize> },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(step: Step, row: &[f32]) -> Vec<f32> {
        apply_rows(&[step], row.to_vec(), row.len())
    }

    #[test]
    fn each_step_does_what_it_says() {
        assert_eq!(through(Step::Power { p: 0.5 }, &[4.0, -9.0, 0.0]), [2.0, -3.0, 0.0]);
        assert!((through(Step::Power { p: 0.25 }, &[16.0])[0] - 2.0).abs() < 1e-6);
        assert_eq!(through(Step::LogIdf { idf: vec![2.0, 3.0] }, &[0.0, 1.0]), [0.0, 3.0 * 2.0f32.ln()]);
        assert_eq!(through(Step::Center { mean: vec![1.0, 2.0] }, &[1.5, 1.0]), [0.5, -1.0]);
        assert_eq!(through(Step::Scale { factor: vec![2.0, -1.0] }, &[1.5, 1.0]), [3.0, -1.0]);
        let large = 2.0f32.powi(100);
        assert_eq!(through(Step::Unit, &[3.0 * large, 4.0 * large]), [0.6, 0.8]);
        assert_eq!(through(Step::Unit, &[0.0, 0.0]), [0.0, 0.0]);
        let weights = vec![1.0, 0.0, 2.0, 0.0, 1.0, 1.0];
        assert_eq!(through(Step::Linear { weights, bias: vec![0.0, 0.0, 1.0], n_out: 3 }, &[2.0, 3.0]), [2.0, 3.0, 8.0]);
        assert_eq!(through(Step::TopClasses { k: 2 }, &[0.25, 0.5, 0.25, -3.0]), [1.0 / 3.0, 2.0 / 3.0, 0.0, 0.0]);
        assert_eq!(through(Step::TopClasses { k: 9 }, &[1.0, 3.0]), [0.25, 0.75]);
        assert_eq!(through(Step::TopClasses { k: 1 }, &[-1.0, 0.0]), [0.0, 0.0]);
        let kernel = |kernel| Step::Kernel { kernel, gamma: 0.5, anchors: vec![1.0, 2.0, 0.0, 0.0, 1.0, 0.0], n_anchors: 3 };
        assert_eq!(through(kernel(Kernel::Linear), &[2.0, 1.0]), [4.0, 0.0, 2.0]);
        assert_eq!(through(kernel(Kernel::Rbf), &[1.0, 2.0])[..2], [1.0, (-2.5f64).exp() as f32]);
        assert_eq!(through(Step::Softmax, &[1000.0, 1000.0, -1000.0]), [0.5, 0.5, 0.0]);
        assert_eq!(through(Step::Sign, &[0.0, -0.1, 3.0]), [1.0, -1.0, 1.0]);
        assert_eq!(through(Step::Relu, &[0.0, -0.1, 3.0]), [0.0, 0.0, 3.0]);
        assert_eq!(through(Step::UnitBlocks { widths: vec![2, 1] }, &[3.0, 4.0, -7.0]), [0.6, 0.8, -1.0]);
    }

    #[test]
    fn steps_that_do_not_fit_make_no_space() {
        let space = |steps| PipelineSpace::new(Metric::Cosine, vec![View { input_dim: 2, steps }], About::default());
        let message = |steps| space(steps).unwrap_err().to_string();
        assert_eq!(message(vec![Step::Center { mean: vec![0.0] }]), "step `center`: `mean` has 1 numbers for 2 columns");
        let linear = |n_out, weights| vec![Step::Linear { weights, bias: Vec::new(), n_out }];
        assert_eq!(message(linear(3, vec![0.0; 5])), "step `linear`: `weights` has 5 numbers for 2 x 3");
        assert_eq!(message(linear(0, vec![])), "step `linear`: it gives 0 columns, 1 to 1048576 are possible");
        assert_eq!(message(linear(1, vec![0.0, f32::NAN])), "step `linear`: number 1 of `weights` is NaN");
        assert_eq!(message(vec![Step::Power { p: 0.0 }]), "step `power`: the exponent is 0, it must be above 0 and at most 1");
        assert_eq!(message(vec![Step::TopClasses { k: 0 }]), "step `top_classes`: it keeps 0 classes, at least 1 is needed");
        assert!(matches!(space(vec![Step::Unit; 65]), Err(PipelineError::Size { n_views: 1, n_steps: 65 })));
        let two = vec![View { input_dim: 2, steps: vec![] }, View { input_dim: 3, steps: vec![] }];
        let meet = PipelineSpace::new(Metric::Cosine, two, About::default());
        assert_eq!(meet, Err(PipelineError::Meet { view: 1, got: 3, expected: 2 }));
    }
}
