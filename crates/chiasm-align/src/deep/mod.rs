//! Bridges learned by gradient descent: a tower for each view, one loop, and one file for each loss.
//!
//! A method here is an `Objective`: a loss of the towers' outputs with its gradients, in closed form or by a tape, which are checked against torch's. What
//! goes in is a view's rows in their principal axes, whitened as for canonical correlation analysis; each tower begins as the
//! canonical directions, so that learning adds to what the linear method knows. What comes out is a [`crate::PipelineSpace`] like any other.
//!
//! # How long
//! A seventh of the groups is set aside, and after each epoch the running mean of the parameters is asked how well it finds them (mean
//! reciprocal rank, or mean average precision by classes), or how much of them correlates ([`Judge`]). Of small sets several parts are set aside in turn, so that 100 groups
//! are looked for, and the figures added. The epoch that did best is how long the final run on all rows takes; none at all is
//! possible, and leaves the linear start. With fewer than 100 groups nothing is set aside and [`TowerConfig::max_epochs`] are run.
//!
//! # Batches
//! A batch holds one row of a group at most where rows of a group are each other's answers: of five captions of a picture one stands in each
//! fifth of an epoch.
//!
//! # Determinism
//! The seed decides everything: the same seed and pairs give the same space, whatever the count of threads.

pub mod acmr;
pub mod bind;
pub mod brivl;
pub mod dcca;
pub mod dccae;
pub mod dcmh;
pub mod ddh;
pub(crate) mod descent;
pub mod dgcca;
pub mod djsrh;
pub mod dscmr;
pub mod generative;
#[cfg(test)]
mod goldens;
pub mod infonce;
pub mod label_gcn;
pub mod logit_adjusted;
mod memory;
pub mod npair;
pub mod sigmoid;
pub mod ssah;
mod taped;
pub(crate) mod tower;
mod train;
pub mod triplet;
pub mod ucch;
mod unit;

use chiasm_core::Labels;

use self::memory::Context;
use self::tower::Affine;
use crate::cca::CcaConfig;
use crate::fit::{FitError, Run};
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::pipeline::Step;
use crate::preprocess::{Preprocess, ViewConfig};
use crate::reduced::{self, Linear, Reduced, Solution};

/// The towers, and how they learn.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// Preprocessing, principal components and ridge of each view; the ridge also bounds how much whitening lifts weak axes.
    pub views: [ViewConfig; 2],
    /// Coordinates of the space at most, or bits; 1 to 4096.
    pub dim: usize,
    /// Hidden units of each tower at most, for there are no more than rows; at least 1.
    pub hidden: usize,
    /// By which power of its correlation a canonical direction is weighted at the start; at least 0.
    pub correlation_power: f64,
    /// Share of the input's numbers that are left out while learning; at least 0, below 1.
    pub input_dropout: f64,
    /// The same of hidden units.
    pub dropout: f64,
    /// Greatest learning rate; above 0.
    pub learning_rate: f64,
    /// Decoupled weight decay of the hidden layer; at least 0.
    pub weight_decay: f64,
    /// Pairs of a batch; at least 2.
    pub batch: usize,
    /// Epochs at most.
    pub max_epochs: usize,
    /// What rows set aside are asked, to see how many epochs.
    pub judge: Judge,
}

/// By what it is seen on rows set aside how long to train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judge {
    /// How well they find one another: mean reciprocal rank, or mean average precision by classes.
    #[default]
    Ranks,
    /// The mean correlation of a coordinate of one view with its partner of the other: for who wants what two views have in common. Ranks go on getting better for
    /// long after this has begun to fall.
    Correlation,
}

impl Default for TowerConfig {
    fn default() -> Self {
        Self {
            views: [ViewConfig::default(); 2],
            dim: 128,
            hidden: 256,
            correlation_power: 1.0,
            input_dropout: 0.2,
            dropout: 0.5,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            batch: 256,
            max_epochs: 30,
            judge: Judge::Ranks,
        }
    }
}

impl TowerConfig {
    /// Takes what a linear method was found to do best with: preprocessing, axes and ridges, and how its coordinates are weighted. A view that goes through
    /// a kernel keeps its own axes and ridge, which are of another kind.
    pub(crate) fn begin_as(&mut self, linear: &CcaConfig) {
        for (own, linear) in self.views.iter_mut().zip(linear.views) {
            *own = match own.kernel {
                Some(_) => ViewConfig { preprocess: linear.preprocess, ..*own },
                None => linear,
            };
        }
        // Codes and what is correlated in the end begin unweighted.
        if self.correlation_power > 0.0 {
            self.correlation_power = linear.correlation_power;
        }
    }

    fn check(&self) -> Result<(), FitError> {
        reduced::check(&self.views, self.dim, self.correlation_power)?;
        if self.dim > 4096 {
            let expected = "at most 4096";
            return Err(FitError::Config { name: "dim", value: self.dim.to_string(), expected });
        }
        reduced::at_least_one("hidden", self.hidden)?;
        reduced::at_least_zero("weight_decay", self.weight_decay)?;
        for (name, value) in [("dropout", self.dropout), ("input_dropout", self.input_dropout)] {
            if !(0.0..1.0).contains(&value) {
                let expected = "a share of at least 0 and below 1";
                return Err(FitError::Config { name, value: value.to_string(), expected });
            }
        }
        crate::hashing::above_zero("learning_rate", self.learning_rate)?;
        if self.batch < 2 {
            let expected = "at least two pairs, for one has nothing to be told from";
            return Err(FitError::Config { name: "batch", value: self.batch.to_string(), expected });
        }
        Ok(())
    }
}

/// Rows that take a step together.
pub(crate) struct Batch {
    /// The rows of each view in its axes, neither whitened nor dropped, `[n, m_v]`.
    pub(crate) inputs: [Mat; 2],
    /// Whether row `i` of one view and row `j` of the other are right answers to one another, `[n * n]` row-major: by their classes where the
    /// method learns from these and they have some, else by their groups.
    pub(crate) related: Vec<bool>,
    /// The classes of the rows, where the method learns from them.
    pub(crate) labels: Option<Labels>,
    /// Share of the epochs that lie behind, 0 to 1.
    pub(crate) done: f64,
    /// Root of the mean square of the numbers of each view in its axes, over all rows.
    pub(crate) scales: [f64; 2],
    /// What chances of the objective's own are drawn by.
    pub(crate) rng_seed: u64,
}

impl Batch {
    pub(crate) fn n(&self) -> usize {
        self.inputs[0].nrows()
    }

    pub(crate) fn related(&self, i: usize, j: usize) -> bool {
        self.related[i * self.n() + j]
    }
}

/// What a batch says.
pub(crate) struct Loss {
    /// How bad it is.
    pub(crate) value: f64,
    /// Its gradients by the outputs of each view.
    pub(crate) outputs: [Mat; 2],
    /// And by the objective's own parameters.
    pub(crate) own: Vec<Mat>,
}

/// A loss, with its hyper-parameters. The loop knows it as `dyn Objective`: there are many, and one loop.
pub(crate) trait Objective: std::fmt::Debug + Sync {
    /// Name of the method.
    fn name(&self) -> &'static str;
    /// The towers it does best with.
    fn towers() -> TowerConfig
    where
        Self: Sized,
    {
        TowerConfig::default()
    }
    /// Whether it learns from classes.
    fn needs_labels(&self) -> bool {
        false
    }
    /// # Errors
    /// [`FitError::Config`].
    fn check(&self) -> Result<(), FitError> {
        Ok(())
    }
    /// Pairs of a batch, where it cannot do with what the configuration says.
    fn batch(&self, config: &TowerConfig, _dim: usize) -> usize {
        config.batch
    }
    /// Whether the towers put out, behind the coordinates, the logarithm of the variance of each: `2 dim` outputs.
    fn tells_variances(&self) -> bool {
        false
    }
    /// Parameters of its own at the start, for `dim` outputs, `n_classes` classes and rows of these widths in the axes of the views.
    fn own(&self, _dim: usize, _n_classes: usize, _widths: [usize; 2]) -> Vec<Mat> {
        Vec::new()
    }
    /// The same for an objective whose parameters begin as the labels of the rows learned from say.
    fn own_of(&self, dim: usize, labels: Option<&Labels>, widths: [usize; 2]) -> Vec<Mat> {
        self.own(dim, labels.map_or(0, Labels::n_classes), widths)
    }
    /// Keeps them within their bounds after a step.
    fn bound(&self, _own: &mut [Mat]) {}
    /// The loss of outputs `y[v]`, `[n, dim]`. Either this or [`Objective::step`] is written; it is this where the batch says all.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        memory::alone(batch, |context| self.step(y, own, context))
    }
    /// The same for an objective that must know more than the batch, or that remembers.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    fn step(&self, y: [&Mat; 2], own: &[Mat], context: &mut Context<'_>) -> Result<Loss, FitError> {
        self.loss(y, own, context.batch)
    }
    /// What each view's outputs go through, learned from all of them in the end; `outputs` makes them, for whoever asks.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    fn finish(&self, _outputs: &dyn Fn() -> [Mat; 2]) -> Result<Option<[Affine; 2]>, FitError> {
        Ok(None)
    }
    /// What is worth telling in the end of towers that tell variances, by name, given what they put out for all rows.
    fn notes(&self, _outputs: &[Mat; 2]) -> Vec<(String, String)> {
        Vec::new()
    }
    /// Whether the signs of the outputs are the code of a row.
    fn is_binary(&self) -> bool {
        false
    }
    /// What is done to the outputs last.
    fn tail(&self) -> Vec<Step> {
        if self.is_binary() { vec![Step::Sign, Step::Unit] } else { vec![Step::Unit] }
    }
    /// Hyper-parameters by name, for reports.
    fn parameters(&self) -> Vec<(String, String)>;
    /// Others to try beside this one, a list for each hyper-parameter.
    fn neighbours(&self) -> Vec<Vec<Self>>
    where
        Self: Sized,
    {
        Vec::new()
    }
    /// The method of these towers and this objective.
    fn method(config: DeepConfig<Self>) -> MethodConfig
    where
        Self: Sized;
}

/// Two towers and what they learn by.
#[derive(Clone, Debug, PartialEq)]
pub struct DeepConfig<O> {
    /// The towers, and how they learn.
    pub towers: TowerConfig,
    /// The loss.
    pub objective: O,
}

impl<O: Objective + Default> Default for DeepConfig<O> {
    fn default() -> Self {
        Self { towers: O::towers(), objective: O::default() }
    }
}

impl<O: Objective + Clone> Linear for DeepConfig<O> {
    fn name(&self) -> &'static str {
        self.objective.name()
    }

    fn needs_labels(&self) -> bool {
        self.objective.needs_labels()
    }

    fn views(&self, _n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
        self.towers.check()?;
        self.objective.check()?;
        Ok(self.towers.views.to_vec())
    }

    fn max_components(&self) -> usize {
        let outputs = if self.objective.tells_variances() { 2 * self.towers.dim } else { self.towers.dim };
        2 * outputs + self.towers.hidden
    }

    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError> {
        Ok(train::learn(&self.towers, &self.objective, reduced, views, None, run)?.solution)
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let t = &self.towers;
        let views = t.views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
        let rest = [
            ("dim", t.dim.to_string()),
            ("hidden", t.hidden.to_string()),
            ("correlation_power", t.correlation_power.to_string()),
            ("input_dropout", t.input_dropout.to_string()),
            ("dropout", t.dropout.to_string()),
            ("learning_rate", t.learning_rate.to_string()),
            ("weight_decay", t.weight_decay.to_string()),
            ("batch", t.batch.to_string()),
            ("max_epochs", t.max_epochs.to_string()),
        ];
        let judge = (t.judge == Judge::Correlation).then(|| ("judge", "correlation".to_owned()));
        let rest = rest.into_iter().chain(judge).map(|(name, value)| (name.to_owned(), value));
        views.chain(rest).chain(self.objective.parameters()).collect()
    }

    fn neighbours(&self, _entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        let with = |towers: &dyn Fn(&mut TowerConfig)| {
            let mut next = self.clone();
            towers(&mut next.towers);
            next
        };
        let mut lists = vec![
            [3e-4, 3e-3].map(|rate| with(&|t| t.learning_rate = rate)).to_vec(),
            [0.0, 0.4].map(|share| with(&|t| t.input_dropout = share)).to_vec(),
        ];
        let objectives = self.objective.neighbours().into_iter();
        lists.extend(objectives.map(|list| list.into_iter().map(|o| DeepConfig { objective: o, ..self.clone() }).collect()));
        reduced::listed(lists, O::method)
    }
}
