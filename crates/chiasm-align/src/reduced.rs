//! Views turned to their own principal axes, where every linear method of this crate is a small problem.
//!
//! In its principal axes a view's covariance is diagonal, so the ridge of any strength is a diagonal too: what is costly (the
//! covariances, their eigen-decompositions) is done once, and each candidate of a search over ridges, numbers of principal
//! components, canonical pairs and weights costs one decomposition of a small matrix. A method gives a [`Solution`] in these
//! axes; [`space`] turns it into steps.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chiasm_core::{Labels, Metric, Vectors};
use faer::MatRef;
use rayon::prelude::*;

use crate::basis::{Axes, Basis, anchor, distinct};
use crate::fit::{FitError, Pairs, Run};
use crate::linalg::{self, Blocks, Mat, product};
use crate::method::MethodConfig;
use crate::moments::{ClassSums, Entry, Moments};
use crate::pipeline::{About, PipelineSpace, Step, View, apply_rows};
use crate::preprocess::{KernelRole, Preprocess, ViewConfig};

/// Coordinates of a space at most, where a method could give as many as all views have columns.
pub(crate) const MAX_COORDINATES: usize = 1024;
/// Powers of the correlation that a search tries.
pub(crate) const POWERS: [f64; 5] = [0.0, 0.5, 1.0, 2.0, 4.0];
/// Numbers of coordinates that a search tries.
pub(crate) const COMPONENTS: [usize; 7] = [8, 16, 32, 64, 128, 256, 512];

/// All views in their axes, with the covariances between them and with the classes.
pub(crate) struct Reduced {
    pub(crate) bases: Vec<Arc<Basis>>,
    /// `cross[v][w - v - 1]`: covariance of view `v` with view `w > v`, `[m_v, m_w]`, divisor `n - 1`.
    cross: Vec<Vec<Mat>>,
    /// Number of fitting rows.
    n: usize,
    /// These in the axes, `[n, m_v]` for each view; none when all that is known of them are sums.
    rows: Vec<Mat>,
    /// What they show, one number for each thing; none when all that is known are sums.
    groups: Vec<u32>,
    /// Their classes; none when all that is known are sums.
    labels: Option<Labels>,
    classes: Option<ClassMoments>,
}

/// What supervised methods need to know of the classes, in the views' axes. A row of several classes counts in each.
pub(crate) struct ClassMoments {
    /// Number of rows of each class, `[c]`.
    pub(crate) counts: Vec<f64>,
    /// Sums of their rows, `[c, m_v]` for each view.
    pub(crate) sums: Vec<Mat>,
    /// The same with each row's classes scaled to a vector of unit length.
    pub(crate) unit_sums: Vec<Mat>,
    /// Sums of the rows that have a class, `[m_v]` for each view.
    pub(crate) labelled_sums: Vec<Vec<f64>>,
    /// Rows that have a class.
    pub(crate) n_labelled: usize,
    /// Rows that are of two classes at once, `[c, c]`; on the diagonal the counts.
    pub(crate) together: Mat,
}

impl ClassMoments {
    fn new(labels: &Labels, rows: &[Mat]) -> Self {
        let c = labels.n_classes();
        let mut counts = vec![0.0; c];
        for row in 0..labels.n() {
            labels.of(row).iter().for_each(|class| counts[*class as usize] += 1.0);
        }
        let sums = |unit: bool| -> Vec<Mat> {
            let of_view = |x: &Mat| {
                let mut sums = Mat::zeros(c, x.ncols());
                for j in 0..x.ncols() {
                    for row in 0..labels.n() {
                        let of = labels.of(row);
                        let weight = if unit { 1.0 / (of.len() as f64).sqrt() } else { 1.0 };
                        of.iter().for_each(|class| sums[(*class as usize, j)] += weight * x[(row, j)]);
                    }
                }
                sums
            };
            rows.par_iter().map(of_view).collect()
        };
        let labelled = |x: &Mat| {
            let sum = |j| (0..labels.n()).filter(|row| !labels.of(*row).is_empty()).map(|row| x[(row, j)]).sum();
            (0..x.ncols()).map(sum).collect()
        };
        let labelled_sums = rows.iter().map(labelled).collect();
        let n_labelled = (0..labels.n()).filter(|row| !labels.of(*row).is_empty()).count();
        let mut together = Mat::zeros(c, c);
        for of in (0..labels.n()).map(|row| labels.of(row)) {
            of.iter().for_each(|a| of.iter().for_each(|b| together[(*a as usize, *b as usize)] += 1.0));
        }
        Self { sums: sums(false), unit_sums: sums(true), counts, labelled_sums, n_labelled, together }
    }

    /// The same from sums of the views' columns.
    fn of_sums(classes: &ClassSums, bases: &[Arc<Basis>]) -> Self {
        let in_axes = |sums: &[Mat], counts: &[f64]| -> Vec<Mat> {
            let of_view = |(basis, sums): (&Arc<Basis>, &Mat)| {
                let centred =
                    Mat::from_fn(sums.nrows(), sums.ncols(), |class, j| sums[(class, j)] - counts[class] * basis.mean[j]);
                product(centred.as_ref(), basis.axes.as_ref())
            };
            bases.iter().zip(sums).map(of_view).collect()
        };
        let labelled: Vec<Mat> = classes.labelled_sums.iter().map(|sums| Mat::from_fn(1, sums.len(), |_, j| sums[j])).collect();
        let labelled = in_axes(&labelled, &[classes.n_labelled as f64]);
        Self {
            counts: classes.counts.clone(),
            sums: in_axes(&classes.sums, &classes.counts),
            unit_sums: in_axes(&classes.unit_sums, &classes.unit_counts),
            labelled_sums: labelled.iter().map(|sums| sums.row(0).iter().copied().collect()).collect(),
            n_labelled: classes.n_labelled,
            together: classes.together.clone(),
        }
    }
}

impl Reduced {
    /// `rows[v]` are the fitting rows of view `v` in its axes, `groups` what they show, `labels` their classes where the method asks for
    /// them.
    pub(crate) fn new(bases: Vec<Arc<Basis>>, rows: Vec<Mat>, groups: Vec<u32>, labels: Option<Labels>) -> Self {
        let (n, n_views) = (rows[0].nrows(), rows.len());
        let scale = 1.0 / (n as f64 - 1.0);
        let between = |v: usize, w: usize| {
            let mut c = product(rows[v].transpose(), rows[w].as_ref());
            linalg::scale_rows(&mut c, &vec![scale; rows[v].ncols()]);
            c
        };
        let cross = (0..n_views).map(|v| (v + 1..n_views).map(|w| between(v, w)).collect()).collect();
        let classes = labels.as_ref().map(|labels| ClassMoments::new(labels, &rows));
        Self { bases, cross, n, rows, groups, labels, classes }
    }

    /// The same from sums, for methods that ask for no rows.
    ///
    /// # Errors
    /// [`FitError::Constant`], [`FitError::Numeric`], [`FitError::Cancelled`].
    fn of_moments(method: &dyn Linear, moments: &Moments, views: &[ViewConfig], run: &Run<'_>) -> Result<Self, FitError> {
        let learn = |(v, config): (usize, &ViewConfig)| {
            run.cancel.check()?;
            let (basis, inside) = Basis::of_moments(moments, v, config, method.only_whitens())?;
            Ok((Arc::new(basis), inside))
        };
        let (bases, inside): (Vec<Arc<Basis>>, Vec<Option<Mat>>) =
            views.iter().enumerate().map(learn).collect::<Result<Vec<_>, FitError>>()?.into_iter().unzip();
        run.cancel.check()?;
        let between = |v: usize, w: usize| {
            let axes = |v: usize| inside[v].as_ref().unwrap_or(&bases[v].axes);
            product(product(axes(v).transpose(), moments.cross(v, w).as_ref()).as_ref(), axes(w).as_ref())
        };
        let n = bases.len();
        let cross = (0..n).map(|v| (v + 1..n).map(|w| between(v, w)).collect()).collect();
        let classes = moments.classes.as_ref().map(|sums| ClassMoments::of_sums(sums, &bases));
        Ok(Self { bases, cross, n: moments.n(), rows: Vec::new(), groups: Vec::new(), labels: None, classes })
    }

    /// Number of fitting rows.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// What is left of a view's covariance once its ridge-regularised form is the identity, `[m, m]`.
    pub(crate) fn own(&self, view: usize, whitening: &[f64]) -> Mat {
        let (basis, m) = (&self.bases[view], whitening.len());
        let Some(ridge) = basis.whitened else {
            return Mat::from_fn(m, m, |i, j| if i == j { basis.variances[i] * whitening[i] * whitening[i] } else { 0.0 });
        };
        let mut own = Mat::identity(m, m);
        if ridge > 0.0 {
            own -= faer::Scale(ridge) * product(basis.axes.transpose(), basis.axes.as_ref());
        }
        own
    }

    /// Whether the rows are at hand, not only sums of them.
    pub(crate) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The fitting rows of a view in the axes its configuration uses, `[n, m]`.
    pub(crate) fn rows(&self, view: usize, config: &ViewConfig) -> MatRef<'_, f64> {
        self.rows[view].subcols(0, self.bases[view].ridge(config).0)
    }

    /// What each fitting row shows.
    pub(crate) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// The classes of the fitting rows; whoever asks is a method that needs them, so they were checked to be there.
    pub(crate) fn labels(&self) -> &Labels {
        self.labels.as_ref().expect("a method that needs labels is not fitted without")
    }

    /// The same for what is known of them.
    pub(crate) fn classes(&self) -> &ClassMoments {
        self.classes.as_ref().expect("a method that needs labels is not fitted without")
    }

    /// Scatter `X'X` of a view, which in its axes is a diagonal, and what its ridge adds to it (both times `n - 1`).
    pub(crate) fn scatter(&self, view: usize, config: &ViewConfig) -> (Vec<f64>, f64) {
        let (m, ridge) = self.bases[view].ridge(config);
        let divisor = self.bases[view].n_rows as f64 - 1.0;
        (self.bases[view].variances[..m].iter().map(|v| v * divisor).collect(), ridge * divisor)
    }

    /// The covariances between the views after the whitening of each, `[m_0 + m_1 + ...]` squared; nothing on the diagonal.
    pub(crate) fn whitened(&self, whitening: &[Vec<f64>]) -> Blocks {
        let mut blocks = Blocks::new(whitening.iter().map(Vec::len).collect());
        for v in 0..whitening.len() {
            for w in v + 1..whitening.len() {
                let mut block = self.cross(v, w).submatrix(0, 0, whitening[v].len(), whitening[w].len()).to_owned();
                linalg::scale_rows(&mut block, &whitening[v]);
                linalg::scale_cols(&mut block, &whitening[w]);
                blocks.set(v, w, block.as_ref());
            }
        }
        blocks
    }

    /// Covariance of view `v` with view `w > v`.
    pub(crate) fn cross(&self, v: usize, w: usize) -> &Mat {
        &self.cross[v][w - v - 1]
    }

    /// For each view the number of axes its configuration uses and the regularised standard deviations' inverses
    /// `1 / sqrt(variance + ridge)` along them.
    pub(crate) fn whitening(&self, views: &[ViewConfig]) -> Vec<Vec<f64>> {
        let one = |(basis, config): (&Arc<Basis>, &ViewConfig)| {
            let (m, ridge) = basis.ridge(config);
            basis.variances[..m].iter().map(|v| 1.0 / (v + ridge).sqrt()).collect()
        };
        self.bases.iter().zip(views).map(one).collect()
    }
}

/// What a method gives: for each view weights `[m_v, k]` in its axes, and what follows them.
pub(crate) struct Solution {
    pub(crate) weights: Vec<Mat>,
    /// Correlations, or what stands for them, greatest first; coordinates are weighted by a power of them.
    pub(crate) correlations: Vec<f64>,
    /// Whether these are correlations, and so worth telling.
    pub(crate) correlates: bool,
    /// Added to each coordinate before it is weighted, `[k]` for each view.
    pub(crate) offsets: Option<Vec<Vec<f64>>>,
    /// Whether a coordinate's sign has a meaning and is left alone.
    pub(crate) signed: bool,
    /// What is done to the coordinates of each view last; unit length when empty.
    pub(crate) tail: Vec<Vec<Step>>,
    /// For methods that learn codes of the fitting pairs themselves: +1 and -1, `[n, k]`.
    pub(crate) codes: Option<Mat>,
    /// What is worth telling of it, by name, beside the hyper-parameters.
    pub(crate) notes: Vec<(String, String)>,
}

impl Solution {
    /// Coordinates that correlate, compared by their cosine.
    pub(crate) fn correlated(weights: Vec<Mat>, correlations: Vec<f64>) -> Self {
        let (tail, notes) = (Vec::new(), Vec::new());
        Self { weights, correlations, correlates: true, offsets: None, signed: false, tail, codes: None, notes }
    }

    /// Coordinates compared by their cosine, best first by `values` that are no correlations.
    pub(crate) fn ordered(weights: Vec<Mat>, values: Vec<f64>) -> Self {
        Self { correlates: false, ..Self::correlated(weights, values) }
    }

    /// Coordinates that each mean something, all of which are kept.
    pub(crate) fn meaningful(weights: Vec<Mat>, offsets: Vec<Vec<f64>>) -> Self {
        let k = weights[0].ncols();
        Self { offsets: Some(offsets), signed: true, ..Self::ordered(weights, vec![1.0; k]) }
    }

    /// One bit for each coordinate: whether it is at least 0.
    pub(crate) fn bits(weights: Vec<Mat>, offsets: Vec<Vec<f64>>, codes: Option<Mat>) -> Self {
        let tail = vec![vec![Step::Sign, Step::Unit]; weights.len()];
        Self { tail, codes, ..Self::meaningful(weights, offsets) }
    }

    /// How many coordinates are kept of at most `max`: none beyond those that correlate at all.
    pub(crate) fn kept(&self, max: usize) -> usize {
        self.correlations.iter().take(max).take_while(|c| **c > 1e-12).count()
    }

    /// The factors on the first `k` coordinates.
    pub(crate) fn factors(&self, k: usize, power: f64) -> Vec<f64> {
        self.correlations[..k].iter().map(|c| if power == 0.0 { 1.0 } else { c.powf(power) }).collect()
    }

    /// Unweighted coordinates `z` of a view, `[n, >= k]`, as the space gives them.
    pub(crate) fn finish(&self, view: usize, z: &Mat, k: usize, power: f64) -> Mat {
        let mut z = z.subcols(0, k).to_owned();
        if let Some(offsets) = &self.offsets {
            for (j, offset) in offsets[view][..k].iter().enumerate() {
                z.col_mut(j).iter_mut().for_each(|x| *x += offset);
            }
        }
        linalg::scale_cols(&mut z, &self.factors(k, power));
        let Some(tail) = self.tail.get(view) else { return z };
        let rows = apply_rows(tail, row_major(&z), k);
        let width = rows.len() / z.nrows().max(1);
        Mat::from_fn(z.nrows(), width, |i, j| f64::from(rows[i * width + j]))
    }
}

/// A method with its hyper-parameters, as the search and the fit see it: linear in each view once the view's rows are prepared
/// (which may include a kernel), with a fixed tail (unit length, signs, class probabilities).
pub(crate) trait Linear: Sync {
    /// Name of the method.
    fn name(&self) -> &'static str;
    /// How many views it takes.
    fn n_views(&self) -> RangeInclusive<usize> {
        2..=2
    }
    /// Whether it learns from classes.
    fn needs_labels(&self) -> bool {
        false
    }
    /// Whether it works on columns as they are, because it chooses among them; else on principal axes.
    fn in_columns(&self) -> bool {
        false
    }
    /// Whether sums over the rows are all it needs, so that they may come in chunks.
    fn takes_moments(&self) -> bool {
        false
    }
    /// Whether it asks of its views only that each be whitened, so that any axes do in which covariance and ridge are the identity.
    fn only_whitens(&self) -> bool {
        false
    }
    /// How its projections are compared.
    fn metric(&self) -> Metric {
        Metric::Cosine
    }
    /// One configuration for each of `n_views` views.
    ///
    /// # Errors
    /// [`FitError::Config`], for this and every other field.
    fn views(&self, n_views: usize) -> Result<Vec<ViewConfig>, FitError>;
    /// Coordinates kept at most.
    fn max_components(&self) -> usize;
    /// Power of the correlation by which a coordinate is weighted.
    fn correlation_power(&self) -> f64 {
        0.0
    }
    /// The method itself, in the views' axes; `views` is what [`Linear::views`] gave.
    ///
    /// # Errors
    /// [`FitError::Numeric`], [`FitError::Cancelled`].
    fn solve(&self, reduced: &Reduced, views: &[ViewConfig], run: &Run<'_>) -> Result<Solution, FitError>;
    /// Hyper-parameters by name, for reports.
    fn parameters(&self) -> Vec<(String, String)>;
    /// Configurations to try beside this one, a list for each hyper-parameter; `entries` are the preprocessings worth trying on each
    /// view, best guess first.
    fn neighbours(&self, _entries: &[Vec<Preprocess>]) -> Vec<Vec<MethodConfig>> {
        Vec::new()
    }
}

/// Configurations to try beside one, a list for each field of its views: the preprocessing of each view, one ridge for all, the ridge
/// of each view.
pub(crate) fn view_neighbours<C: Clone>(
    config: &C,
    entries: &[Vec<Preprocess>],
    views: impl Fn(&mut C) -> &mut [ViewConfig],
) -> Vec<Vec<C>> {
    let with = |change: &dyn Fn(&mut [ViewConfig])| {
        let mut next = config.clone();
        change(views(&mut next));
        next
    };
    let mut lists = Vec::new();
    for (v, entries) in entries.iter().enumerate() {
        lists.push(entries.iter().map(|entry| with(&|views| views[v].preprocess = *entry)).collect());
    }
    lists.push([1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0].map(|r| with(&|views| views.iter_mut().for_each(|v| v.ridge = r))).to_vec());
    for v in 0..entries.len() {
        lists.push([0.1, 10.0].map(|factor| with(&|views| views[v].ridge *= factor)).to_vec());
    }
    lists
}

/// Each value of a field as a configuration.
pub(crate) fn each<C: Clone, V: Copy>(config: &C, values: &[V], set: impl Fn(&mut C, V)) -> Vec<C> {
    let with = |value: &V| {
        let mut next = config.clone();
        set(&mut next, *value);
        next
    };
    values.iter().map(with).collect()
}

/// Lists of one method's configurations as lists of methods.
pub(crate) fn listed<C>(lists: Vec<Vec<C>>, method: fn(C) -> MethodConfig) -> Vec<Vec<MethodConfig>> {
    lists.into_iter().map(|list| list.into_iter().map(method).collect()).collect()
}

/// One configuration for each view, from that many or from one for all.
///
/// # Errors
/// [`FitError::Config`].
pub(crate) fn one_for_each(views: &[ViewConfig], n_views: usize) -> Result<Vec<ViewConfig>, FitError> {
    match views {
        [all] => Ok(vec![*all; n_views]),
        views if views.len() == n_views => Ok(views.to_vec()),
        views => {
            let expected = "give one configuration for each view, or one for all";
            Err(FitError::Config { name: "number of view configurations", value: views.len().to_string(), expected })
        }
    }
}

/// Checks the fields that most methods have.
///
/// # Errors
/// [`FitError::Config`].
pub(crate) fn check(views: &[ViewConfig], max_components: usize, correlation_power: f64) -> Result<(), FitError> {
    views.iter().try_for_each(ViewConfig::check)?;
    if max_components == 0 {
        let expected = "at least one coordinate is kept";
        return Err(FitError::Config { name: "max_components", value: "0".to_owned(), expected });
    }
    if !(correlation_power >= 0.0 && correlation_power.is_finite()) {
        let expected = "the power is a finite number of at least 0";
        return Err(FitError::Config { name: "correlation_power", value: correlation_power.to_string(), expected });
    }
    Ok(())
}

/// # Errors
/// [`FitError::Config`] for a number below 0 or not finite.
pub(crate) fn at_least_zero(name: &'static str, value: f64) -> Result<(), FitError> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(FitError::Config { name, value: value.to_string(), expected: "a finite number of at least 0" })
}

/// # Errors
/// [`FitError::Config`] for 0.
pub(crate) fn at_least_one(name: &'static str, value: usize) -> Result<(), FitError> {
    if value > 0 {
        return Ok(());
    }
    Err(FitError::Config { name, value: "0".to_owned(), expected: "at least 1" })
}

/// The fields that most methods have, for reports.
pub(crate) fn parameters(views: &[ViewConfig], max_components: usize, correlation_power: f64) -> Vec<(String, String)> {
    let views = views.iter().enumerate().map(|(v, config)| (format!("view {v}"), config.describe()));
    let rest = [("max_components", max_components.to_string()), ("correlation_power", correlation_power.to_string())];
    views.chain(rest.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// A fitted space, and what a method knows of the very pairs it was fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The space.
    pub space: PipelineSpace,
    /// Codes that a hashing method learned for the pairs themselves, one for both views, `[n, bits]` of +1 and -1. As database codes
    /// they rank better than the codes of each view alone, and exist only for pairs that took part in the fit.
    pub codes: Option<Vectors>,
}

/// Fits a method on all pairs.
///
/// # Errors
/// Every variant of [`FitError`] but those of cross-validation.
pub(crate) fn fit(method: &dyn Linear, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<Fitted, FitError> {
    pairs.check(method.name(), method.n_views())?;
    check_labels(method, pairs)?;
    let (reduced, solution) = solve(method, pairs, run)?;
    let about = About { n_pairs: pairs.n(), parameters: method.parameters(), ..About::default() };
    let space = space(method, &reduced.bases, &solution, about)?;
    let codes = solution.codes.as_ref().map(|codes| Vectors::new(row_major(codes), codes.ncols()));
    let codes = codes.transpose().map_err(|_| FitError::Numeric { what: "learning codes" })?;
    Ok(Fitted { space, codes })
}

/// # Errors
/// [`FitError::NoLabels`] when a method that learns from classes has none to learn from.
pub(crate) fn check_labels(method: &dyn Linear, pairs: &Pairs<'_>) -> Result<(), FitError> {
    if !method.needs_labels() {
        return Ok(());
    }
    let name = method.name();
    let labels = pairs.labels.ok_or(FitError::NoLabels { method: name, got: "there are no labels" })?;
    let mut present: Vec<u32> = (0..labels.n()).flat_map(|row| labels.of(row)).copied().collect();
    present.sort_unstable();
    present.dedup();
    match present.len() {
        0 => Err(FitError::NoLabels { method: name, got: "no row has a class" }),
        1 => Err(FitError::NoLabels { method: name, got: "all labelled rows are of one class" }),
        _ => Ok(()),
    }
}

/// The solution in f64 and the axes it is in; `pairs` were checked.
pub(crate) fn solve(method: &dyn Linear, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<(Reduced, Solution), FitError> {
    let views = method.views(pairs.views.len())?;
    let train: Vec<usize> = (0..pairs.n()).collect();
    if let Some(mut moments) = sums_for(method, pairs, &views, &train, run)? {
        run.progress.start("fitting", Some(2));
        moments.add(pairs)?;
        run.progress.advance(1);
        let solved = solve_moments(method, &moments, &views, run)?;
        run.progress.finish();
        return Ok(solved);
    }
    run.progress.start("fitting", Some(pairs.views.len() as u64 + 1));
    let reduced = reduce(method, pairs, &views, run)?;
    let solution = method.solve(&reduced, &views, run)?;
    run.progress.finish();
    Ok((reduced, solution))
}

/// All rows of the views in their axes; `pairs` were checked.
///
/// # Errors
/// [`FitError::Constant`], [`FitError::Numeric`], [`FitError::Cancelled`].
pub(crate) fn reduce(method: &dyn Linear, pairs: &Pairs<'_>, views: &[ViewConfig], run: &Run<'_>) -> Result<Reduced, FitError> {
    let train: Vec<usize> = (0..pairs.n()).collect();
    let learn = |(v, config): (usize, &ViewConfig)| {
        let axes = if method.in_columns() { Axes::Columns } else { Axes::Principal(config.pca_dim) };
        let basis = Basis::learn(v, pairs.views[v], &train, config, axes, run)?;
        run.progress.advance(1);
        Ok(Arc::new(basis))
    };
    let bases: Vec<Arc<Basis>> = views.par_iter().enumerate().map(learn).collect::<Result<_, FitError>>()?;
    let rows: Vec<Mat> = bases.iter().zip(&pairs.views).map(|(basis, x)| basis.of_training(*x, &train)).collect();
    run.cancel.check()?;
    let labels = pairs.labels.filter(|_| method.needs_labels()).cloned();
    Ok(Reduced::new(bases, rows, train.iter().map(|row| pairs.group(*row)).collect(), labels))
}

/// What the pairs are to be summed in, where sums are all that the method needs and are the shorter way: the views have more rows than
/// columns (or anchors, of a kernel), and every row has a class where classes are asked for.
fn sums_for(
    method: &dyn Linear,
    pairs: &Pairs<'_>,
    views: &[ViewConfig],
    train: &[usize],
    run: &Run<'_>,
) -> Result<Option<Moments>, FitError> {
    let labels = pairs.labels.filter(|_| method.needs_labels());
    let known = labels.is_none_or(|labels| (0..labels.n()).all(|row| !labels.of(row).is_empty()));
    if !method.takes_moments() || !known {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for (x, config) in pairs.views.iter().zip(views) {
        let mut steps = config.preprocess.steps(*x, train)?;
        let lift = match &config.kernel {
            None if x.n() > x.dim() => None,
            Some(kernel) if kernel.role == KernelRole::Geometry && x.n() > kernel.max_exact_rows => {
                let (first, _) = distinct(*x, train);
                let rows: Vec<f32> = first.iter().flat_map(|row| x.row(*row)).copied().collect();
                let rows = apply_rows(&steps, rows, x.dim());
                if first.len() <= kernel.max_exact_rows {
                    return Ok(None);
                }
                let (step, lift) = anchor(kernel, &rows, x.dim(), false, run)?;
                steps.push(step);
                lift
            }
            _ => return Ok(None),
        };
        entries.push(Entry { input_dim: x.dim(), preprocess: config.preprocess, steps, lift });
    }
    Ok(Some(Moments::with_entries(entries, labels.map(Labels::n_classes))))
}

/// The same from sums.
///
/// # Errors
/// Those of [`Reduced::of_moments`] and of the method.
fn solve_moments(
    method: &dyn Linear,
    moments: &Moments,
    views: &[ViewConfig],
    run: &Run<'_>,
) -> Result<(Reduced, Solution), FitError> {
    let reduced = Reduced::of_moments(method, moments, views, run)?;
    run.cancel.check()?;
    let solution = method.solve(&reduced, views, run)?;
    Ok((reduced, solution))
}

/// An empty [`Moments`] for a method.
///
/// # Errors
/// [`FitError::NeedsRows`], [`FitError::Views`], [`FitError::Config`].
pub(crate) fn moments(method: &dyn Linear, dims: &[usize], n_classes: Option<usize>) -> Result<Moments, FitError> {
    let n_views = method.n_views();
    if !n_views.contains(&dims.len()) {
        return Err(FitError::Views { method: method.name(), got: dims.len(), least: *n_views.start(), most: *n_views.end() });
    }
    if !method.takes_moments() {
        return Err(FitError::NeedsRows { what: method.name() });
    }
    let views = method.views(dims.len())?;
    if views.iter().any(|config| config.kernel.is_some()) {
        return Err(FitError::NeedsRows { what: "a kernel" });
    }
    let entries: Vec<(usize, Preprocess)> = dims.iter().zip(&views).map(|(dim, config)| (*dim, config.preprocess)).collect();
    Moments::new(&entries, n_classes)
}

/// Fits a method on sums.
///
/// # Errors
/// See [`MethodConfig::fit_moments`].
pub(crate) fn fit_moments(method: &dyn Linear, moments: &Moments, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
    let dims: Vec<usize> = moments.views.iter().map(|view| view.input_dim).collect();
    self::moments(method, &dims, None)?;
    let views = method.views(dims.len())?;
    for (view, (known, config)) in moments.views.iter().zip(&views).enumerate() {
        if known.preprocess != config.preprocess {
            let (got, expected) = (known.preprocess.describe(), config.preprocess.describe());
            return Err(FitError::Preprocessed { view, got, expected });
        }
    }
    if moments.n() < 2 {
        return Err(FitError::TooFewRows { got: moments.n(), least: 2, what: "to fit".to_owned() });
    }
    if method.needs_labels() {
        let name = method.name();
        let classes = moments.classes.as_ref().ok_or(FitError::NoLabels { method: name, got: "there are no labels" })?;
        if classes.counts.iter().filter(|count| **count > 0.0).count() < 2 {
            return Err(FitError::NoLabels { method: name, got: "there are not two classes among the rows" });
        }
    }
    run.progress.start("fitting", None);
    let (reduced, solution) = solve_moments(method, moments, &views, run)?;
    run.progress.finish();
    let about = About { n_pairs: moments.n(), parameters: method.parameters(), ..About::default() };
    space(method, &reduced.bases, &solution, about)
}

/// The space of a solution: preprocess, centre, one linear map, its tail.
///
/// # Errors
/// [`FitError::Unrelated`] when no coordinate correlates; [`FitError::Numeric`] when the weights overflow f32.
pub(crate) fn space(
    method: &dyn Linear,
    bases: &[Arc<Basis>],
    solution: &Solution,
    about: About,
) -> Result<PipelineSpace, FitError> {
    let k = solution.kept(method.max_components());
    if k == 0 {
        return Err(FitError::Unrelated { method: method.name() });
    }
    let (weights, offsets) = full_weights(method, bases, solution, k);
    // A solution may be of fewer views than it learned from: labels as a view do not come as queries.
    let views = bases
        .iter()
        .zip(&weights)
        .enumerate()
        .map(|(v, (basis, w))| {
            let bias = offsets.get(v).map_or(Vec::new(), |o| o.iter().map(|x| *x as f32).collect());
            let linear = Step::Linear { weights: row_major(w), bias, n_out: k };
            let mean = basis.mean.iter().map(|m| *m as f32).collect();
            let tail = solution.tail.get(v).cloned().unwrap_or_else(|| vec![Step::Unit]);
            let steps = basis.steps.iter().cloned().chain([Step::Center { mean }, linear]).chain(tail).collect();
            View { input_dim: basis.input_dim, steps }
        })
        .collect();
    let told = if solution.correlates { k } else { 0 };
    let correlations = solution.correlations[..told].iter().map(|c| *c as f32).collect();
    let parameters = about.parameters.into_iter().chain(solution.notes.iter().cloned()).collect();
    let about = About { method: method.name().to_owned(), correlations, parameters, ..about };
    PipelineSpace::new(method.metric(), views, about).map_err(|_| FitError::Numeric { what: "turning the weights into f32" })
}

/// Weights on the columns of each view, `[d_v, k]`, and what is added to the coordinates, `[k]` for each view or nothing at all;
/// signs that mean nothing are fixed by the first view: its largest weight of each coordinate is positive.
pub(crate) fn full_weights(
    method: &dyn Linear,
    bases: &[Arc<Basis>],
    solution: &Solution,
    k: usize,
) -> (Vec<Mat>, Vec<Vec<f64>>) {
    let mut factors = solution.factors(k, method.correlation_power());
    let full = |(basis, w): (&Arc<Basis>, &Mat)| product(basis.axes.subcols(0, w.nrows()), w.subcols(0, k));
    let mut weights: Vec<Mat> = bases.iter().zip(&solution.weights).map(full).collect();
    if !solution.signed
        && let Some(first) = weights.first()
    {
        let mut flips = Mat::from_fn(1, k, |_, _| 1.0);
        linalg::fix_signs(&mut first.clone(), Some(&mut flips));
        factors.iter_mut().enumerate().for_each(|(j, factor)| *factor *= flips[(0, j)]);
    }
    weights.iter_mut().for_each(|w| linalg::scale_cols(w, &factors));
    let scaled = |of: &Vec<f64>| of[..k].iter().zip(&factors).map(|(offset, factor)| offset * factor).collect();
    (weights, solution.offsets.iter().flatten().map(scaled).collect())
}

/// Row-major f32.
pub(crate) fn row_major(a: &Mat) -> Vec<f32> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)] as f32)).collect()
}

/// Some rows of a matrix, in the order given.
pub(crate) fn pick_rows(a: &Mat, rows: &[usize]) -> Mat {
    Mat::from_fn(rows.len(), a.ncols(), |i, j| a[(rows[i], j)])
}
