//! Few shots on frozen features: classes that are known by their names, and by a handful of examples.
//!
//! # Reference
//! Tip-Adapter: R. Zhang, W. Zhang, R. Fang, P. Gao, K. Li, J. Dai, Y. Qiao, H. Li, Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, ECCV 2022,
//! eq. 3-6. CLIP-Adapter: P. Gao, S. Geng, R. Zhang, T. Ma, R. Fang, Y. Zhang, H. Li, Y. Qiao, CLIP-Adapter: Better Vision-Language Models with Feature
//! Adapters, IJCV 2024, eq. 3-5. Both checked against torch (`reference/align_adapter_goldens.py`). Differ from them in: the residual adapter descends by AdamW over
//! all shots at once.
//!
//! # Model
//! Zero shots: logits s f W' of a row f and the names' rows W, all at unit length. A cache adds a exp(-b (1 - f F')) L, for the shots' rows F and their classes L.
//! A residual adapter replaces f by r relu(relu(f W1) W2) + (1 - r) f, at unit length, learned by cross-entropy on the shots.
//!
//! | paper | code | shape | unit, range |
//! | --- | --- | --- | --- |
//! | W_c | `names` | `[c, d]` | brought to unit length |
//! | F_train, L_train | `shots`, `classes` | `[n, d]`, `[n]` | brought to unit length; below c |
//! | alpha, beta | [`CacheConfig::alpha`], [`CacheConfig::beta`] | - | at least 0 |
//! | alpha (ratio), W_1, W_2 | [`ResidualConfig::ratio`] (r), learned | `[d, d / 4]`, `[d / 4, d]` | 0 to 1 |
//!
//! # Cost
//! O(n d) a row for the cache, O(d^2) for the residual adapter, which learns in O(steps n (d^2 + c d)).
//!
//! # Determinism
//! The cache knows no chance; the seed draws where a residual adapter starts.
//!
//! # Errors
//! [`FitError::Input`] for numbers that are none (view 0 are the shots, or what is asked, view 1 the names); [`FitError::Columns`], [`FitError::Config`], [`FitError::TooFewRows`].
//!
//! # Example
//! ```
//! use chiasm_align::adapter::{CacheConfig, Cached};
//! use chiasm_core::MatrixView;
//! // By its name class 1 looks to the right; its one example looks down.
//! let names = MatrixView::new(&[0.0, 1.0, 1.0, 0.0], 2)?;
//! let shots = MatrixView::new(&[0.0, 1.0, 0.0, -1.0], 2)?;
//! let cached = Cached::new(&CacheConfig { scale: 1.0, ..CacheConfig::default() }, names, shots, &[0, 1])?;
//! let logits = cached.logits(MatrixView::new(&[0.0, -1.0], 2)?)?;
//! assert!(logits.at(0, 1) == 1.0 && logits.at(0, 0) < -0.9);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use chiasm_core::MatrixView;
use chiasm_nn::grad::{Array, Tape, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::deep::descent::Pace;
use crate::fit::{FitError, Run};
use crate::graphs::network::{Learning, Parameter, drawn};
use crate::hashing::above_zero;
use crate::reduced::at_least_zero;

/// Hidden units of a residual adapter are this share of its columns.
const NARROWER: usize = 4;
/// Length of all gradients together at most.
const MAX_NORM: f64 = 2.0;

/// How a cache is weighed.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// What the cosines to names are multiplied by; above 0.
    pub scale: f64,
    /// Weight of the cache; at least 0.
    pub alpha: f64,
    /// How fast the likeness of a shot falls; at least 0.
    pub beta: f64,
}

impl Default for CacheConfig {
    /// CLIP's scale, and the paper's weights.
    fn default() -> Self {
        Self { scale: 100.0, alpha: 1.0, beta: 5.5 }
    }
}

/// Names and shots.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    config: CacheConfig,
    names: Array<f64>,
    shots: Array<f64>,
    /// `[n, c]`.
    classes: Array<f64>,
}

impl Cached {
    /// A cache of shots `[n, d]` and their classes, beside names `[c, d]`; without shots it is zero-shot classification.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn new(config: &CacheConfig, names: MatrixView<'_>, shots: MatrixView<'_>, classes: &[u32]) -> Result<Self, FitError> {
        above_zero("scale", config.scale)?;
        at_least_zero("alpha", config.alpha)?;
        at_least_zero("beta", config.beta)?;
        let [names, shots, classes] = checked(names, shots, classes)?;
        Ok(Self { config: config.clone(), names, shots, classes })
    }

    /// How much each row `[m, d]` is of each class, `[m, c]`: greater for more.
    ///
    /// # Errors
    /// [`FitError::Columns`], [`FitError::Input`].
    pub fn logits(&self, rows: MatrixView<'_>) -> Result<Array<f64>, FitError> {
        let rows = unit(rows, 0, self.names.n_cols())?;
        let tape = Tape::new();
        let [f, names, shots, classes] = [&rows, &self.names, &self.shots, &self.classes].map(|x| tape.constant(x.clone()));
        let CacheConfig { scale, alpha, beta } = self.config;
        let alike = f.dot_rows(shots).plus(-1.0).scaled(beta).exp();
        let logits = alike.dot(classes).scaled(alpha) + f.dot_rows(names).scaled(scale);
        Ok(Array::clone(&logits.value()))
    }
}

/// Shots at most by which weights are chosen: each is compared with all others.
const MOST_LEFT_OUT: usize = 2_000;
/// Weights of the cache that are tried, as shares of the scale.
const ALPHAS: [f64; 7] = [0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
/// How fast likeness falls, as is tried.
const BETAS: [f64; 5] = [1.0, 3.0, 5.5, 10.0, 30.0];

/// `start` with the weights of the cache that suit the shots: those by which each shot, left out of the cache, is likeliest of its own class. Shots without another of
/// their class say nothing of a cache and are not asked; where all are such, the weights stay as they are. Of more than 2,000 shots a spread 2,000 count.
///
/// # Errors
/// See the [module](self).
pub fn chosen(
    start: &CacheConfig,
    names: MatrixView<'_>,
    shots: MatrixView<'_>,
    classes: &[u32],
) -> Result<CacheConfig, FitError> {
    above_zero("scale", start.scale)?;
    let [names, shots, hot] = checked(names, shots, classes)?;
    let n = shots.n_rows().min(MOST_LEFT_OUT);
    let spread: Vec<usize> = (0..n).map(|i| i * shots.n_rows() / n.max(1)).collect();
    let tape = Tape::new();
    let [names, shots] = [names, shots.pick(&spread)].map(|x| tape.constant(x));
    let (by_names, alike) = (shots.dot_rows(names).scaled(start.scale).value(), shots.dot_rows(shots).value());
    let hot = hot.pick(&spread);
    let class: Vec<usize> = spread.iter().map(|at| classes[*at] as usize).collect();
    let asked: Vec<usize> = (0..n).filter(|i| (0..n).any(|j| j != *i && class[j] == class[*i])).collect();
    let mut best = (f64::NEG_INFINITY, start.clone());
    for beta in BETAS {
        let near = Array::from_fn(n, n, |i, j| if i == j { 0.0 } else { (-beta * (1.0 - alike.at(i, j))).exp() });
        let of_cache = tape.constant(near).dot(tape.constant(hot.clone())).value();
        for alpha in ALPHAS.map(|share| share * start.scale) {
            let likelihood = |i: &usize| {
                let logits: Vec<f64> =
                    by_names.row(*i).iter().zip(of_cache.row(*i)).map(|(name, cache)| name + alpha * cache).collect();
                let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                logits[class[*i]] - most - logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln()
            };
            let sum: f64 = asked.iter().map(likelihood).sum();
            // Of equal ones the first, which trusts the cache least.
            if !asked.is_empty() && sum > best.0 {
                best = (sum, CacheConfig { alpha, beta, ..start.clone() });
            }
        }
    }
    Ok(best.1)
}

/// How a residual adapter learns.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualConfig {
    /// What the cosines to names are multiplied by; above 0.
    pub scale: f64,
    /// How much of a row is new; 0 to 1.
    pub ratio: f64,
    /// Steps over all shots; at least 1.
    pub n_steps: usize,
    /// Greatest learning rate; above 0.
    pub learning_rate: f64,
    /// Decoupled weight decay; at least 0.
    pub weight_decay: f64,
}

impl Default for ResidualConfig {
    /// CLIP's scale, and the paper's ratio for objects of all kinds.
    fn default() -> Self {
        Self { scale: 100.0, ratio: 0.2, n_steps: 200, learning_rate: 1e-3, weight_decay: 0.1 }
    }
}

/// A residual adapter and the names it was learned for.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    config: ResidualConfig,
    names: Array<f64>,
    /// `W1 [d, h]`, `W2 [h, d]`.
    weights: [Array<f64>; 2],
}

/// `r relu(relu(f W1) W2) + (1 - r) f`, at unit length.
fn adapted<'t>(f: Var<'t, f64>, weights: &[Var<'t, f64>], ratio: f64) -> Var<'t, f64> {
    let new = f.dot(weights[0]).relu().dot(weights[1]).relu();
    (new.scaled(ratio) + f.scaled(1.0 - ratio)).unit_rows()
}

impl Residual {
    /// Learns from shots `[n, d]` and their classes, beside names `[c, d]`.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn fit(
        config: &ResidualConfig,
        names: MatrixView<'_>,
        shots: MatrixView<'_>,
        classes: &[u32],
        run: &Run<'_>,
    ) -> Result<Self, FitError> {
        above_zero("scale", config.scale)?;
        above_zero("learning_rate", config.learning_rate)?;
        at_least_zero("weight_decay", config.weight_decay)?;
        if !(0.0..=1.0).contains(&config.ratio) {
            let expected = "a share of 0 to 1";
            return Err(FitError::Config { name: "ratio", value: config.ratio.to_string(), expected });
        }
        if shots.n() == 0 {
            return Err(FitError::TooFewRows { got: 0, least: 1, what: "to learn an adapter from".to_owned() });
        }
        let [names, shots, _] = checked(names, shots, classes)?;
        let classes: Vec<usize> = classes.iter().map(|class| *class as usize).collect();
        let d = names.n_cols();
        let h = (d / NARROWER).max(1);
        let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
        let mut start = |n: usize, m: usize| Parameter { value: drawn(n, m, (2.0 / n as f64).sqrt(), &mut rng), decays: true };
        let parameters = vec![start(d, h), start(h, d)];
        let pace =
            Pace { rate: config.learning_rate, decay: config.weight_decay, max_norm: MAX_NORM, of_steps: config.n_steps };
        let mut learning = Learning::new(parameters, pace);
        for _ in 0..config.n_steps {
            run.cancel.check()?;
            let tape = Tape::new();
            let weights = learning.leaves(&tape);
            let f = adapted(tape.constant(shots.clone()), &weights, config.ratio);
            let loss = f.dot_rows(tape.constant(names.clone())).scaled(config.scale).cross_entropy_of(&classes);
            if !loss.value().is_finite() {
                return Err(FitError::Numeric {
                    what: "learning an adapter (the loss is no number; a lower learning rate may help)",
                });
            }
            learning.step(tape.backward(loss), &weights);
        }
        let mut learned = learning.means().into_iter();
        let mut next = || learned.next().unwrap_or_default();
        Ok(Self { config: config.clone(), names, weights: [next(), next()] })
    }

    /// How much each row `[m, d]` is of each class, `[m, c]`: greater for more.
    ///
    /// # Errors
    /// [`FitError::Columns`], [`FitError::Input`].
    pub fn logits(&self, rows: MatrixView<'_>) -> Result<Array<f64>, FitError> {
        let tape = Tape::new();
        let f = tape.constant(unit(rows, 0, self.names.n_cols())?);
        let weights = self.weights.each_ref().map(|weight| tape.constant(weight.clone()));
        let logits = adapted(f, &weights, self.config.ratio).dot_rows(tape.constant(self.names.clone()));
        Ok(Array::clone(&logits.scaled(self.config.scale).value()))
    }
}

/// Names and shots at unit length, and the classes of the shots as `[n, c]`.
fn checked(names: MatrixView<'_>, shots: MatrixView<'_>, classes: &[u32]) -> Result<[Array<f64>; 3], FitError> {
    if names.n() < 2 {
        return Err(FitError::TooFewRows { got: names.n(), least: 2, what: "names to tell classes by".to_owned() });
    }
    if classes.len() != shots.n() {
        return Err(FitError::Labels { got: classes.len(), expected: shots.n() });
    }
    if let Some(class) = classes.iter().find(|class| **class as usize >= names.n()) {
        let expected = "a class that has a name, counted from 0";
        return Err(FitError::Config { name: "class", value: class.to_string(), expected });
    }
    let hot = Array::from_fn(shots.n(), names.n(), |i, c| f64::from(u8::from(classes[i] as usize == c)));
    Ok([unit(names, 1, names.dim())?, unit(shots, 0, names.dim())?, hot])
}

/// Rows at unit length; a row of zeros stays one.
fn unit(rows: MatrixView<'_>, view: usize, dim: usize) -> Result<Array<f64>, FitError> {
    if rows.dim() != dim {
        return Err(FitError::Columns { view, got: rows.dim(), expected: dim });
    }
    rows.check_finite().map_err(|cause| FitError::Input { view, cause })?;
    let x = Array::new(rows.n(), dim, rows.data().iter().map(|x| f64::from(*x)).collect());
    Ok(Array::clone(&Tape::new().constant(x).unit_rows().value()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn matrix(value: &Value) -> Array<f64> {
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let rows: Vec<Vec<f64>> =
            list(value).iter().map(|row| list(row).iter().map(|x| x.as_f64().expect("a number")).collect()).collect();
        Array::new(rows.len(), rows[0].len(), rows.concat())
    }

    fn apart(a: &Array<f64>, b: &Array<f64>) -> f64 {
        assert_eq!(a.shape(), b.shape());
        a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn logits_losses_and_gradients_are_torchs() {
        let path = format!("{}/../../testdata/goldens/align/adapter.json", env!("CARGO_MANIFEST_DIR"));
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let [names, shots, asked, w1, w2] = ["names", "shots", "asked", "w1", "w2"].map(|name| matrix(&golden[name]));
        let narrow = |x: &Array<f64>| x.data().iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let [names_32, shots_32, asked_32] = [&names, &shots, &asked].map(narrow);
        let view = |data| MatrixView::new(data, names.n_cols()).unwrap();
        let classes: Vec<u32> = golden["classes"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap() as u32).collect();
        let cached = Cached::new(&CacheConfig::default(), view(&names_32), view(&shots_32), &classes).unwrap();
        // Both sides work in f64, on rows that f32 holds exactly.
        assert!(apart(&cached.logits(view(&asked_32)).unwrap(), &matrix(&golden["cached"])) < 1e-9);
        let tape = Tape::new();
        let [f, names] = [&shots, &names].map(|x| tape.constant(x.clone()).unit_rows());
        let weights = [w1, w2].map(|w| tape.leaf(w));
        let classes: Vec<usize> = classes.iter().map(|c| *c as usize).collect();
        let loss = adapted(f, &weights, 0.2).dot_rows(names).scaled(100.0).cross_entropy_of(&classes);
        assert!((loss.value().only() - golden["loss"].as_f64().unwrap()).abs() < 1e-9);
        let gradients = tape.backward(loss);
        for (weight, name) in weights.iter().zip(["d1", "d2"]) {
            let expected = matrix(&golden[name]);
            assert!(expected.sum_of_squares() > 0.0 && apart(&gradients.of(*weight), &expected) < 1e-9, "{name}");
        }
    }

    #[test]
    fn a_cache_is_trusted_as_far_as_it_is_right() {
        // Names that say nothing: class 0 and 1 look alike by them. Shots of either lie apart.
        let names = MatrixView::new(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 3).unwrap();
        let apart = [0.5, 1.0, 0.1, 0.5, 1.0, -0.1, 0.5, -1.0, 0.1, 0.5, -1.0, -0.1];
        let start = CacheConfig { scale: 10.0, ..CacheConfig::default() };
        let trusted = chosen(&start, names, MatrixView::new(&apart, 3).unwrap(), &[0, 0, 1, 1]).unwrap();
        assert!(trusted.alpha >= 1.0, "{trusted:?}");
        // Names that say all, and shots that are each other's contrary.
        let names = MatrixView::new(&[1.0, 0.0, 0.0, -1.0, 0.0, 0.0], 3).unwrap();
        let crossed = [0.9, 1.0, 0.0, 0.9, -1.0, 0.0, -0.9, 1.0, 0.0, -0.9, -1.0, 0.0];
        let doubted = chosen(&start, names, MatrixView::new(&crossed, 3).unwrap(), &[0, 0, 1, 1]).unwrap();
        assert!(doubted.alpha < trusted.alpha, "{doubted:?}");
        // One shot of each class cannot be left out.
        let alone = chosen(&start, names, MatrixView::new(&crossed[..6], 3).unwrap(), &[0, 1]).unwrap();
        assert_eq!(alone, start);
        assert_eq!(chosen(&start, names, MatrixView::new(&[], 3).unwrap(), &[]).unwrap(), start);
    }

    #[test]
    fn what_cannot_be_adapted_is_an_error() {
        let names = MatrixView::new(&[1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let said = |shots: &[f32], dim: usize, classes: &[u32], alpha: f64| {
            let config = CacheConfig { alpha, ..CacheConfig::default() };
            Cached::new(&config, names, MatrixView::new(shots, dim).unwrap(), classes).unwrap_err().to_string()
        };
        assert_eq!(said(&[1.0, 0.0], 2, &[2], 1.0), "class is 2: a class that has a name, counted from 0");
        assert_eq!(said(&[1.0], 1, &[0], 1.0), "rows of view 0 have 1 columns, expected 2");
        assert!(said(&[1.0, f32::NAN], 2, &[0], 1.0).starts_with("view 0: "));
        assert!(said(&[1.0, 0.0], 2, &[0, 1], 1.0).starts_with("labels of 2 rows for 1 rows"));
        assert!(said(&[1.0, 0.0], 2, &[0], f64::NAN).starts_with("alpha is NaN"));
    }
}
