//! Variational autoencoders of two views that share a latent space: rows are told from it as well as brought to it.
//!
//! # Reference
//! D. P. Kingma, M. Welling, Auto-Encoding Variational Bayes, ICLR 2014, eq. 7 and 10; each file here names its own. What they share stands here: Gaussians
//! with diagonal covariances, decoders, the lower bound's parts, and [`Generator`]. Checked against torch (`reference/align_generative_goldens.py`).
//!
//! # Model
//! A view's tower puts out `[m | log s^2]`, `[n, 2 k]`: q(z|x) = N(m, diag s^2), the prior is N(0, I). A decoder of each view is a tower from z to the view's
//! principal axes, in units of the root mean square r of the numbers there. What is lost of a row, -log p(x|z) but for a constant, is
//! `w / m_v |x / r - D(z)|^2`: w times the squared error as a share of the mean squared length of rows, so that noise of a share 1 / (2 w) is believed in,
//! and one weight means the same for all features. A coordinate costs about half a unit, so axes with less than that share of
//! the variance are left untold.
//!
//! # As a space
//! The posterior means, compared by their cosine. As other towers they begin as the canonical directions, and the epoch is
//! kept after which rows set aside are found best. [`Generator`] runs through all epochs, for decoders begin with nothing.
//!
//! # Collapse
//! A coordinate whose posterior is the prior whatever comes in tells nothing. How many of the coordinates are active (the mean varies over
//! rows by more than .01; Y. Burda et al., Importance Weighted Autoencoders, ICLR 2016, appendix C), and the KL from the prior, stand in [`crate::About::parameters`] of every space
//! fitted here, and in [`Generator::posteriors`].

pub mod adversarial;
pub mod cada_vae;
pub mod cyclegan;
#[cfg(test)]
mod goldens;
pub mod jmvae;
pub mod mmvae;
pub mod mvae;
pub mod unpaired;

use chiasm_core::{MatrixView, Metric, SharedSpace, Vectors};
use chiasm_nn::grad::{Array, Tape, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::tower::{self, Affine, Tower};
use super::{Batch, DeepConfig, Loss, Objective, TowerConfig, train};
use crate::fit::{FitError, Pairs, Run};
use crate::linalg::Mat;
use crate::method::MethodConfig;
use crate::pipeline::{About, PipelineSpace, Step, View, apply_rows};
use crate::reduced::{self, Linear};

/// Logarithms of variances are kept within plus and minus this.
const MAX_LOG_VARIANCE: f64 = 10.0;
/// Variance of a mean over rows above which a coordinate is active.
const ACTIVE: f64 = 0.01;
/// Decides how decoders begin; batches and noise are the run's seed's.
const START: u64 = 0xDEC0;

/// Rows of Gaussians with diagonal covariances.
#[derive(Clone, Copy)]
pub(crate) struct Gaussian<'t> {
    /// `[n, k]`.
    pub(crate) mean: Var<'t, f64>,
    /// Logarithms of the variances, `[n, k]`.
    pub(crate) log_variance: Var<'t, f64>,
}

impl<'t> Gaussian<'t> {
    /// Of what a tower puts out, `[n, 2 k]`.
    pub(crate) fn new(y: Var<'t, f64>) -> Self {
        let [_, width] = y.shape();
        let log_variance = y.columns(width / 2..width).clamped(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE);
        Self { mean: y.columns(0..width / 2), log_variance }
    }

    /// `mean + s noise`.
    pub(crate) fn sample(self, noise: Var<'t, f64>) -> Var<'t, f64> {
        self.mean + self.log_variance.scaled(0.5).exp() * noise
    }

    /// KL divergence from the prior, `1/2 sum (m^2 + s^2 - log s^2 - 1)`, the mean over rows.
    pub(crate) fn kl_from_prior(self) -> Var<'t, f64> {
        let [n, k] = self.mean.shape();
        let sum = (self.mean.square() + self.log_variance.exp() - self.log_variance).sum();
        sum.scaled(0.5 / n as f64).plus(-0.5 * k as f64)
    }

    /// KL(self | other), the mean over rows.
    pub(crate) fn kl(self, other: Self) -> Var<'t, f64> {
        let [n, k] = self.mean.shape();
        let away = ((self.mean - other.mean).square() + self.log_variance.exp()) * (-other.log_variance).exp();
        (away + other.log_variance - self.log_variance).sum().scaled(0.5 / n as f64).plus(-0.5 * k as f64)
    }

    /// The logarithm of the density at `z`, `[n, 1]`.
    pub(crate) fn log_density(self, z: Var<'t, f64>) -> Var<'t, f64> {
        let [_, k] = self.mean.shape();
        let away = (z - self.mean).square() * (-self.log_variance).exp() + self.log_variance;
        away.sum_columns().scaled(-0.5).plus(-0.5 * k as f64 * std::f64::consts::TAU.ln())
    }
}

/// What the lower bound of a batch is made of.
pub(crate) struct Given<'t> {
    /// What each tower put out.
    pub(crate) y: [Gaussian<'t>; 2],
    /// Rows of each view in its axes, in units of their root mean square, `[n, m_v]`.
    pub(crate) x: [Var<'t, f64>; 2],
    /// The decoders' parameters and those of the method's own, in that order.
    pub(crate) own: Vec<Var<'t, f64>>,
    /// Standard normal numbers, `[n, k]` each.
    pub(crate) noise: Vec<Var<'t, f64>>,
    /// Share of the epochs that lie behind, 0 to 1.
    pub(crate) done: f64,
}

impl<'t> Given<'t> {
    /// What the decoder of a view tells from z, `[n, m_v]`.
    pub(crate) fn decoded(&self, view: usize, z: Var<'t, f64>) -> Var<'t, f64> {
        network(&self.own[view * tower::N_PARAMETERS..(view + 1) * tower::N_PARAMETERS], z)
    }

    /// The method's own parameters, beside the decoders.
    pub(crate) fn extra(&self) -> &[Var<'t, f64>] {
        &self.own[2 * tower::N_PARAMETERS..]
    }

    /// The mean squared error over the columns, of each row, `[n, 1]`.
    pub(crate) fn lost_of(&self, view: usize, z: Var<'t, f64>) -> Var<'t, f64> {
        let off = self.x[view] - self.decoded(view, z);
        let [_, m] = off.shape();
        off.square().sum_columns().scaled(1.0 / m as f64)
    }

    /// The mean of these over rows.
    pub(crate) fn lost(&self, view: usize, z: Var<'t, f64>) -> Var<'t, f64> {
        self.lost_of(view, z).mean()
    }
}

/// A tower on a tape: `x A + relu(x W1 + b1) W2 + b2`.
pub(crate) fn network<'t>(p: &[Var<'t, f64>], x: Var<'t, f64>) -> Var<'t, f64> {
    (x.dot(p[0]) + x.dot(p[1]).add_row(p[2]).relu().dot(p[3])).add_row(p[4])
}

/// A variational autoencoder: what distinguishes it from the others.
pub(crate) trait Elbo: Clone + PartialEq + std::fmt::Debug + Sync {
    /// Name of the method.
    fn name(&self) -> &'static str;
    /// # Errors
    /// [`FitError::Config`].
    fn check(&self) -> Result<(), FitError>;
    /// Hidden units of each decoder.
    fn hidden(&self) -> usize;
    /// Parameters beside the decoders, at the start, for `k` coordinates and rows of these widths.
    fn extra(&self, _k: usize, _widths: [usize; 2], _rng: &mut ChaCha8Rng) -> Vec<Mat> {
        Vec::new()
    }
    /// How many matrices of noise it takes.
    fn n_noises(&self) -> usize;
    /// The logarithm of a posterior's variance, of what a tower puts out in its place.
    fn log_variance(&self, put_out: f64) -> f64 {
        put_out
    }
    /// Minus the bound, `[1, 1]`.
    fn value<'t>(&self, given: &Given<'t>) -> Var<'t, f64>;
    /// Hyper-parameters by name, for reports.
    fn parameters(&self) -> Vec<(String, String)>;
    /// Others to try beside this one, a list for each hyper-parameter.
    fn neighbours(&self) -> Vec<Vec<Self>>;
    /// The method of these towers and this bound.
    fn method(config: DeepConfig<Self>) -> MethodConfig;
}

/// The value of a batch with this noise, and its gradients.
pub(crate) fn graded<E: Elbo>(elbo: &E, y: [&Mat; 2], own: &[Mat], batch: &Batch, noise: &[Mat]) -> Loss {
    let tape = Tape::new();
    let outputs = y.map(|y| tape.leaf(array(y)));
    let own: Vec<Var<'_, f64>> = own.iter().map(|own| tape.leaf(array(own))).collect();
    let x = [0, 1].map(|v| {
        let scale = batch.scales[v];
        let x = &batch.inputs[v];
        tape.constant(Array::from_fn(x.nrows(), x.ncols(), |i, j| x[(i, j)] / scale))
    });
    let noise = noise.iter().map(|noise| tape.constant(array(noise))).collect();
    let given = Given { y: outputs.map(Gaussian::new), x, own: own.clone(), noise, done: batch.done };
    let value = elbo.value(&given);
    let mut gradients = tape.backward(value);
    Loss {
        value: value.value().only(),
        outputs: outputs.map(|y| matrix(&gradients.take(y))),
        own: own.into_iter().map(|own| matrix(&gradients.take(own))).collect(),
    }
}

fn array(a: &Mat) -> Array<f64> {
    Array::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)])
}

fn matrix(a: &Array<f64>) -> Mat {
    Mat::from_fn(a.n_rows(), a.n_cols(), |i, j| a.at(i, j))
}

/// What the towers of these methods do best with.
fn towers() -> TowerConfig {
    TowerConfig {
        dim: 32,
        hidden: 256,
        input_dropout: 0.0,
        dropout: 0.0,
        learning_rate: 2e-3,
        batch: 128,
        max_epochs: 40,
        ..TowerConfig::default()
    }
}

impl<E: Elbo> Objective for E {
    fn name(&self) -> &'static str {
        Elbo::name(self)
    }

    fn towers() -> TowerConfig {
        towers()
    }

    fn check(&self) -> Result<(), FitError> {
        reduced::at_least_one("hidden units of a decoder", self.hidden())?;
        if self.hidden() > 1 << 16 {
            let expected = "at most 65536";
            return Err(FitError::Config { name: "hidden units of a decoder", value: self.hidden().to_string(), expected });
        }
        Elbo::check(self)
    }

    fn tells_variances(&self) -> bool {
        true
    }

    fn own(&self, dim: usize, _n_classes: usize, widths: [usize; 2]) -> Vec<Mat> {
        let mut rng = ChaCha8Rng::seed_from_u64(START);
        let mut own = Vec::new();
        for width in widths {
            // A sample of the prior has a mean squared length of `dim`.
            own.extend(Tower::new(Mat::zeros(dim, width), self.hidden(), dim as f64, &mut rng).parameters);
        }
        own.extend(self.extra(dim, widths, &mut rng));
        own
    }

    fn loss(&self, y: [&Mat; 2], own: &[Mat], batch: &Batch) -> Result<Loss, FitError> {
        let mut rng = ChaCha8Rng::seed_from_u64(batch.rng_seed);
        let noise: Vec<Mat> = (0..self.n_noises()).map(|_| tower::normal(batch.n(), y[0].ncols() / 2, 1.0, &mut rng)).collect();
        Ok(graded(self, y, own, batch, &noise))
    }

    fn finish(&self, outputs: &dyn Fn() -> [Mat; 2]) -> Result<Option<[Affine; 2]>, FitError> {
        let means = |y: Mat| {
            let k = y.ncols() / 2;
            let map = Mat::from_fn(2 * k, k, |i, j| f64::from(u8::from(i == j)));
            Affine { map, shift: vec![0.0; k] }
        };
        Ok(Some(outputs().map(means)))
    }

    fn notes(&self, outputs: &[Mat; 2]) -> Vec<(String, String)> {
        let told = |(v, y)| (format!("posterior of view {v}"), Posterior::of(self, y).to_string());
        outputs.iter().enumerate().map(told).collect()
    }

    fn parameters(&self) -> Vec<(String, String)> {
        Elbo::parameters(self)
    }

    fn neighbours(&self) -> Vec<Vec<Self>> {
        Elbo::neighbours(self)
    }

    fn method(config: DeepConfig<Self>) -> MethodConfig {
        E::method(config)
    }
}

/// How much a view's posteriors tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// KL divergence from the prior along each coordinate, in nats, the mean over the fitting rows; at least 0.
    pub kl: Vec<f64>,
    /// Variance of the posterior's mean along each coordinate over the fitting rows; at least 0.
    pub variances: Vec<f64>,
}

impl Posterior {
    /// Of what a tower puts out, `[n, 2 k]`.
    fn of<E: Elbo>(elbo: &E, y: &Mat) -> Self {
        let (n, k) = (y.nrows() as f64, y.ncols() / 2);
        let (mut kl, mut variances) = (Vec::new(), Vec::new());
        for j in 0..k {
            let mean = y.col(j).iter().sum::<f64>() / n;
            variances.push(y.col(j).iter().map(|m| (m - mean) * (m - mean)).sum::<f64>() / n);
            let of = |(m, log): (&f64, &f64)| {
                let log = elbo.log_variance(log.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE));
                0.5 * (m * m + log.exp() - log - 1.0)
            };
            kl.push(y.col(j).iter().zip(y.col(k + j).iter()).map(of).sum::<f64>() / n);
        }
        Self { kl, variances }
    }

    /// Coordinates that vary with what comes in, by more than .01.
    pub fn n_active(&self) -> usize {
        self.variances.iter().filter(|v| **v > ACTIVE).count()
    }

    /// Whether none does: the posterior has collapsed to the prior.
    pub fn has_collapsed(&self) -> bool {
        self.n_active() == 0
    }
}

impl std::fmt::Display for Posterior {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.has_collapsed() { ": collapsed to the prior" } else { "" };
        write!(
            f,
            "{} of {} coordinates active, {:.2} nats from the prior{word}",
            self.n_active(),
            self.kl.len(),
            self.kl.iter().sum::<f64>()
        )
    }
}

/// A fitted autoencoder of two views with its decoders: translates rows of one view into rows of the other.
///
/// Rows that come out are what the other view's rows are after its preprocessing, which with [`crate::Preprocess::None`] is the rows as they come.
#[derive(Clone, Debug)]
pub struct Generator {
    space: PipelineSpace,
    /// For each view: to posterior means.
    encoders: [View; 2],
    /// For each view: from latent coordinates to its columns about their mean.
    decoders: [Vec<Step>; 2],
    /// For each view: what is done to its rows before they are told.
    prepared: [Vec<Step>; 2],
    means: [Vec<f32>; 2],
    posteriors: [Posterior; 2],
}

#[expect(private_bounds, reason = "the methods of this folder are all there are")]
impl<E: Elbo> DeepConfig<E> {
    /// Fits the autoencoder for [`TowerConfig::max_epochs`] and keeps the decoders.
    ///
    /// # Errors
    /// Those of [`MethodConfig::fit`]; [`FitError::Config`] for a view with a kernel, whose columns cannot be told from what a kernel makes of them.
    pub fn fit_generator(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<Generator, FitError> {
        pairs.check(Objective::name(&self.objective), 2..=2)?;
        let views = self.views(2)?;
        if views.iter().any(|view| view.kernel.is_some()) {
            let expected = "none for a generator: columns cannot be told from what a kernel makes of them";
            return Err(FitError::Config { name: "kernel", value: "given".to_owned(), expected });
        }
        let reduced = reduced::reduce(self, pairs, &views, run)?;
        let learned = train::learn(&self.towers, &self.objective, &reduced, &views, Some(self.towers.max_epochs), run)?;
        let about = About { n_pairs: pairs.n(), parameters: Linear::parameters(self), ..About::default() };
        let space = reduced::space(self, &reduced.bases, &learned.solution, about)?;
        let decoder = |v: usize| {
            let (basis, m) = (&reduced.bases[v], reduced.rows(v, &views[v]).ncols());
            let parameters = learned.own[v * tower::N_PARAMETERS..(v + 1) * tower::N_PARAMETERS].to_vec();
            let map = Mat::from_fn(m, basis.axes.nrows(), |i, j| learned.scales[v] * basis.axes[(j, i)]);
            let after = Affine { shift: vec![0.0; map.ncols()], map };
            let decoder = Tower { parameters };
            let (first, offsets, mut steps) = decoder.steps(&vec![1.0; space.dim()], Some(&after));
            let bias = offsets.iter().map(|x| *x as f32).collect();
            steps.insert(0, Step::Linear { weights: reduced::row_major(&first), bias, n_out: first.ncols() });
            steps
        };
        let means = [0, 1].map(|v| reduced.bases[v].mean.iter().map(|m| *m as f32).collect());
        let encoder = |v: usize| {
            let mut view = space.views()[v].clone();
            // Unit length is for comparing alone.
            view.steps.pop();
            view
        };
        let posteriors = learned.outputs.expect("these towers tell variances").map(|y| Posterior::of(&self.objective, &y));
        Ok(Generator {
            encoders: [0, 1].map(encoder),
            decoders: [0, 1].map(decoder),
            prepared: [0, 1].map(|v| reduced.bases[v].steps.clone()),
            means,
            posteriors,
            space,
        })
    }
}

impl Generator {
    /// The space of the posterior means.
    pub fn space(&self) -> &PipelineSpace {
        &self.space
    }

    /// How much the posteriors of each view tell.
    pub fn posteriors(&self) -> &[Posterior; 2] {
        &self.posteriors
    }

    /// The posterior means of rows `[n, d_view]` of a view, `[n, k]`.
    ///
    /// # Errors
    /// Those of [`SharedSpace::project`], in [`FitError::Project`].
    pub fn encode(&self, view: usize, rows: MatrixView<'_>) -> Result<Vectors, FitError> {
        // Asked for what it refuses.
        self.space.project(view, rows).map_err(|cause| FitError::Project { view, cause })?;
        let encoder = &self.encoders[view];
        let z = apply_rows(&encoder.steps, rows.data().to_vec(), rows.dim());
        Vectors::new(z, self.space.dim()).map_err(|_| FitError::Numeric { what: "encoding" })
    }

    /// What the decoder of a view tells from latent coordinates `[n, k]`: rows of the view, `[n, d_view]`.
    ///
    /// # Errors
    /// [`FitError::Config`] for a view that is not there; [`FitError::Columns`] for coordinates of another count; [`FitError::Input`] for NaN or an infinity.
    pub fn decode(&self, view: usize, z: MatrixView<'_>) -> Result<Vectors, FitError> {
        if view > 1 {
            return Err(FitError::Config { name: "view", value: view.to_string(), expected: "0 or 1" });
        }
        if z.dim() != self.space.dim() {
            return Err(FitError::Columns { view, got: z.dim(), expected: self.space.dim() });
        }
        z.check_finite().map_err(|cause| FitError::Input { view, cause })?;
        let back = Step::Center { mean: self.means[view].iter().map(|m| -m).collect() };
        let steps: Vec<Step> = self.decoders[view].iter().cloned().chain([back]).collect();
        let rows = apply_rows(&steps, z.data().to_vec(), z.dim());
        Vectors::new(rows, self.means[view].len()).map_err(|_| FitError::Numeric { what: "decoding" })
    }

    /// Rows `[n, d_from]` of one view as rows of the other: encoded there, decoded here, `[n, d_other]`.
    ///
    /// # Errors
    /// Those of [`Generator::encode`].
    pub fn translate(&self, from: usize, rows: MatrixView<'_>) -> Result<Vectors, FitError> {
        let z = self.encode(from, rows)?;
        self.decode(1 - from, z.view())
    }

    /// `n` rows of each view, told from the same samples of the prior.
    ///
    /// # Errors
    /// [`FitError::Numeric`].
    pub fn draw(&self, n: usize, seed: u64) -> Result<[Vectors; 2], FitError> {
        let z = tower::normal(n, self.space.dim(), 1.0, &mut ChaCha8Rng::seed_from_u64(seed));
        let z = Vectors::new(reduced::row_major(&z), self.space.dim()).map_err(|_| FitError::Numeric { what: "drawing" })?;
        Ok([self.decode(0, z.view())?, self.decode(1, z.view())?])
    }

    /// The translation as a space: rows of view `from` as rows of the other, those of the other as they are, both about the mean; compared by their
    /// cosine, as real rows are searched with translated ones.
    ///
    /// # Errors
    /// [`FitError::Config`] for a view that is not there; [`FitError::Numeric`].
    pub fn translation(&self, from: usize) -> Result<PipelineSpace, FitError> {
        if from > 1 {
            return Err(FitError::Config { name: "view", value: from.to_string(), expected: "0 or 1" });
        }
        let to = 1 - from;
        let translated = self.encoders[from].steps.iter().chain(&self.decoders[to]).cloned().chain([Step::Unit]).collect();
        let center = Step::Center { mean: self.means[to].clone() };
        let real = self.prepared[to].iter().cloned().chain([center, Step::Unit]).collect();
        let mut views = [translated, real].into_iter().zip([from, to]);
        let mut views: Vec<(usize, View)> =
            views.by_ref().map(|(steps, v)| (v, View { input_dim: self.encoders[v].input_dim, steps })).collect();
        views.sort_by_key(|(v, _)| *v);
        let views = views.into_iter().map(|(_, view)| view).collect();
        let about = self.space.about().clone();
        PipelineSpace::new(Metric::Cosine, views, about).map_err(|_| FitError::Numeric { what: "turning the weights into f32" })
    }
}
