//! What must hold between the methods, and between a solution in f64 and its space in f32.

use chiasm_core::{Cancel, Labels, MatrixView, NoProgress, SharedSpace};

use super::{Inputs, TOLERANCE, absolute, classes, fitted, in_axes, label_sets, same, same_entries, same_sizes, scores};
use crate::gma::Gma;
use crate::linalg::{self, Blocks, Mat, product};
use crate::reduced::{Reduced, solve};
use crate::supervised::scatters;
use crate::{CcaConfig, ClusterCcaConfig, GccaConfig, MccaConfig, MethodConfig, MvdaConfig, Pairs, Run, SmConfig, ViewConfig};

const PLAIN: ViewConfig = ViewConfig { preprocess: crate::Preprocess::None, kernel: None, pca_dim: None, ridge: 0.0 };

fn inputs() -> (Inputs, Inputs) {
    let golden = super::golden("subspace");
    (Inputs::read(&golden["views"]), Inputs::read(&golden["new"]))
}

fn labels() -> Labels {
    classes(&super::golden("subspace"))
}

/// Eigenvalues of `a` against `b`, greatest first.
fn generalised(a: &Mat, b: &Mat) -> Vec<f64> {
    let block = |m: &Mat| {
        let mut blocks = Blocks::new(vec![m.nrows()]);
        blocks.set(0, 0, m.as_ref());
        blocks
    };
    Blocks::generalised(&block(a), &block(b)).unwrap().0
}

/// Scatters between and within classes of both views.
fn lda(reduced: &Reduced) -> [(Mat, Mat); 2] {
    [0, 1].map(|v| {
        let s = scatters(reduced.rows(v, &PLAIN), reduced.labels(), reduced.classes(), v);
        let within = &s.total - &s.between;
        (s.between, within)
    })
}

#[test]
fn gmlda_without_coupling_is_two_lda() {
    let (train, _) = inputs();
    let labels = labels();
    let (reduced, _) = fitted(&MvdaConfig::default(), &Pairs { labels: Some(&labels), ..train.pairs(2) });
    let [(a0, b0), (a1, b1)] = lda(&reduced);
    let (mu, gamma) = (0.7, 1.9);
    let mut expected: Vec<f64> = generalised(&a0, &b0).into_iter().take(3).collect();
    expected.extend(generalised(&a1, &b1).into_iter().take(3).map(|value| value * mu / gamma));
    expected.sort_by(|a, b| b.total_cmp(a));
    let z = Mat::from_fn(a0.nrows(), a1.nrows(), |i, j| (i + 2 * j) as f64);
    let (values, weights) = Gma { a: [a0, a1], b: [b0, b1], z, alpha: 0.0, mu, gamma }.solve().unwrap();
    same("eigenvalues", &values, &expected, TOLERANCE);
    // Each direction is of one view alone.
    for j in 0..6 {
        let (x, y) = (weights[0].col(j).norm_l2(), weights[1].col(j).norm_l2());
        assert!(x.min(y) < 1e-8 * x.max(y), "{x} {y}");
    }
}

#[test]
fn generalised_multiview_analysis_of_nothing_but_pairs_is_cca() {
    let (train, new) = inputs();
    let config = CcaConfig { correlation_power: 0.0, ..CcaConfig::default() };
    let (reduced, solution) = fitted(&config, &train.pairs(2));
    let own = |v: usize| {
        let variances = &reduced.bases[v].variances;
        Mat::from_fn(variances.len(), variances.len(), |i, j| if i == j { variances[i] } else { 0.0 })
    };
    let (b, z) = ([own(0), own(1)], reduced.cross(0, 1).clone());
    let a = [0, 1].map(|v| Mat::zeros(b[v].nrows(), b[v].nrows()));
    let (values, weights) = Gma { a, b, z, alpha: 1.0, mu: 1.0, gamma: 1.0 }.solve().unwrap();
    same("correlations", &values, &solution.correlations, TOLERANCE);
    for v in 0..2 {
        let theirs = absolute(&scores(&config, &reduced, &solution, v, new.view(v)));
        let ours = product(in_axes(&reduced, v, new.view(v)).as_ref(), weights[v].as_ref());
        // Both views' weights together have length 1 there, each has it in CCA.
        same_sizes("new rows", &ours, &theirs, 2f64.sqrt());
    }
}

/// The same rows twice: the class means of both coincide, and the criterion is Fisher's.
#[test]
fn mvda_of_a_view_with_itself_is_lda() {
    let (train, _) = inputs();
    let labels = labels();
    let twice = Inputs(vec![train.0[0].clone(), train.0[0].clone()]);
    let (reduced, solution) = fitted(&MvdaConfig::default(), &Pairs { labels: Some(&labels), ..twice.pairs(2) });
    let [(between, within), _] = lda(&reduced);
    let problem = crate::mvda::Problem::new(&reduced, &[PLAIN; 2]);
    let (values, _) = problem.solve(&[0.0; 2], 0.0).unwrap();
    same("eigenvalues", &values, &generalised(&between, &within)[..3], TOLERANCE);
    // Whatever is asked of their agreement, they agree already.
    let (held, _) = problem.solve(&[0.0; 2], 1e3).unwrap();
    same("eigenvalues with view consistency", &held, &values, TOLERANCE);
    same_entries("both views", &absolute(&solution.weights[0]), &absolute(&solution.weights[1]), 1.0, TOLERANCE);
}

/// The strength of view consistency means the same in any unit of the rows.
#[test]
fn view_consistency_is_relative() {
    let (train, new) = inputs();
    let labels = labels();
    let config = MvdaConfig { view_consistency: 3.0, ..MvdaConfig::default() };
    let scaled = |inputs: &Inputs| Inputs(inputs.0.iter().map(|(x, d)| (x.iter().map(|x| x * 16.0).collect(), *d)).collect());
    let of = |train: &Inputs, new: &Inputs| {
        let (reduced, solution) = fitted(&config, &Pairs { labels: Some(&labels), ..train.pairs(2) });
        absolute(&scores(&config, &reduced, &solution, 0, new.view(0)))
    };
    let (plain, larger) = (of(&train, &new), of(&scaled(&train), &scaled(&new)));
    same_entries("scores", &plain, &larger, 1.0, TOLERANCE);
    let (reduced, without) = fitted(&MvdaConfig::default(), &Pairs { labels: Some(&labels), ..train.pairs(2) });
    let without = absolute(&scores(&config, &reduced, &without, 0, new.view(0)));
    assert!((0..without.nrows()).any(|i| (without[(i, 0)] - plain[(i, 0)]).abs() > 1e-3), "it changes something");
}

/// A view of very small numbers counts like any other.
#[test]
fn mvda_does_not_see_the_unit_of_a_view() {
    let (train, new) = inputs();
    let labels = labels();
    let config = MvdaConfig::default();
    let scaled = |inputs: &Inputs| {
        let mut inputs = Inputs(inputs.0.clone());
        inputs.0[1].0.iter_mut().for_each(|x| *x *= 2f32.powi(-25));
        inputs
    };
    let of = |train: &Inputs, new: &Inputs, v: usize| {
        let (reduced, solution) = fitted(&config, &Pairs { labels: Some(&labels), ..train.pairs(2) });
        absolute(&scores(&config, &reduced, &solution, v, new.view(v)))
    };
    for v in 0..2 {
        same_entries("scores", &of(&train, &new, v), &of(&scaled(&train), &scaled(&new), v), 1.0, TOLERANCE);
    }
}

/// However strong the ridge, coordinates that the views share are kept, and a view alone makes none.
#[test]
fn gcca_keeps_what_views_share_under_a_strong_ridge() {
    let (train, _) = inputs();
    let config = GccaConfig { views: vec![ViewConfig { ridge: 100.0, ..PLAIN }], ..GccaConfig::default() };
    let correlations = fitted(&config, &train.pairs(3)).1.correlations;
    assert!(correlations[0] > 0.5 && correlations.iter().all(|c| *c > 0.0 && *c <= 1.0), "{correlations:?}");
}

#[test]
fn gcca_of_two_views_is_cca_up_to_scale() {
    let (train, new) = inputs();
    let cca = CcaConfig { correlation_power: 0.0, ..CcaConfig::default() };
    let gcca = GccaConfig { correlation_power: 0.0, ..GccaConfig::default() };
    let (c_reduced, c) = fitted(&cca, &train.pairs(2));
    let (g_reduced, g) = fitted(&gcca, &train.pairs(2));
    same("correlations", &g.correlations, &c.correlations, TOLERANCE);
    for v in 0..2 {
        let unit = |mut z: Mat| {
            let lengths: Vec<f64> = (0..z.ncols()).map(|j| 1.0 / z.col(j).norm_l2()).collect();
            linalg::scale_cols(&mut z, &lengths);
            absolute(&z)
        };
        let ours = unit(scores(&gcca, &g_reduced, &g, v, new.view(v)));
        same_entries("new rows", &ours, &unit(scores(&cca, &c_reduced, &c, v, new.view(v))), 1.0, TOLERANCE);
    }
}

#[test]
fn a_view_correlates_with_itself() {
    let (train, _) = inputs();
    let twice = Inputs(vec![train.0[0].clone(), train.0[0].clone()]);
    let thrice = Inputs(vec![train.0[0].clone(); 3]);
    same("cca", &fitted(&CcaConfig::default(), &twice.pairs(2)).1.correlations, &[1.0; 9], TOLERANCE);
    same("mcca", &fitted(&MccaConfig::default(), &thrice.pairs(3)).1.correlations, &[1.0; 9], TOLERANCE);
    let gcca = fitted(&GccaConfig::default(), &thrice.pairs(3)).1.correlations;
    same("gcca", &gcca, &[1.0; 9], TOLERANCE);
    assert_eq!(gcca.len(), 9, "there is nothing else");
}

#[test]
fn cluster_cca_of_classes_of_one_row_is_cca() {
    let (train, new) = inputs();
    let labels = Labels::single(&(0..72).collect::<Vec<_>>());
    let view = ViewConfig { ridge: 0.1, ..PLAIN };
    let cca = CcaConfig { views: [view; 2], correlation_power: 0.0, ..CcaConfig::default() };
    let cluster = ClusterCcaConfig { views: [view; 2], correlation_power: 0.0, ..ClusterCcaConfig::default() };
    let (c_reduced, c) = fitted(&cca, &train.pairs(2));
    let (reduced, solution) = fitted(&cluster, &Pairs { labels: Some(&labels), ..train.pairs(2) });
    same("correlations", &solution.correlations, &c.correlations, TOLERANCE);
    for v in 0..2 {
        let theirs = absolute(&scores(&cca, &c_reduced, &c, v, new.view(v)));
        // Its covariances have the divisor n, CCA's n - 1.
        same_sizes("new rows", &scores(&cluster, &reduced, &solution, v, new.view(v)), &theirs, (71f64 / 72.0).sqrt());
    }
}

/// What is stored and what projects is f32: preprocessing, centring, one linear map, the tail.
#[test]
fn a_space_projects_as_its_solution_does() {
    let (train, new) = inputs();
    let sets = label_sets(&super::golden("subspace"));
    let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let mut n_methods = 0;
    for name in MethodConfig::names() {
        let config = MethodConfig::from_name(name).unwrap();
        let labels = config.needs_labels().then_some(&sets);
        let pairs = Pairs { labels, ..train.pairs(2) };
        let space = config.fit(&pairs, &run).unwrap();
        if space.n_bits().is_some() {
            continue;
        }
        n_methods += 1;
        let method = config.linear();
        let (reduced, solution) = solve(method, &pairs, &run).unwrap();
        for v in 0..2 {
            let z = in_axes(&reduced, v, new.view(v));
            let z = product(z.subcols(0, solution.weights[v].nrows()), solution.weights[v].as_ref());
            let k = solution.kept(method.max_components());
            let mut z = solution.finish(v, &z, k, method.correlation_power());
            if solution.tail.is_empty() {
                let lengths: Vec<f64> = (0..z.nrows()).map(|i| 1.0 / z.row(i).norm_l2()).collect();
                linalg::scale_rows(&mut z, &lengths);
            }
            let given = space.project(v, new.view(v)).unwrap();
            let given = Mat::from_fn(given.n(), given.dim(), |i, j| f64::from(given.row(i)[j]));
            same_entries(&format!("{name} view {v}"), &absolute(&given), &absolute(&z), 1.0, 1e-4);
        }
    }
    assert!(n_methods >= 17);
}

/// A class without rows is never likely, and changes nothing for the others.
#[test]
fn a_class_without_rows_takes_no_part() {
    let (train, new) = inputs();
    let classes: Vec<u32> = super::numbers(&super::golden("subspace")["classes"]).iter().map(|c| *c as u32).collect();
    let apart: Vec<u32> = classes.iter().map(|c| 2 * c + 1).collect();
    let config = SmConfig::default();
    let of = |classes: &[u32]| {
        let labels = Labels::single(classes);
        let (reduced, solution) = fitted(&config, &Pairs { labels: Some(&labels), ..train.pairs(2) });
        scores(&config, &reduced, &solution, 0, new.view(0))
    };
    let (dense, sparse) = (of(&classes), of(&apart));
    assert_eq!((dense.ncols(), sparse.ncols()), (4, 8));
    for i in 0..dense.nrows() {
        for c in 0..4 {
            assert_eq!(dense[(i, c)], sparse[(i, 2 * c + 1)]);
            assert!(sparse[(i, 2 * c)] < -1e20);
        }
    }
    let labels = Labels::single(&apart);
    let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    let space = MethodConfig::Sm(config.clone()).fit(&Pairs { labels: Some(&labels), ..train.pairs(2) }, &run).unwrap();
    let far: Vec<f32> = new.0[0].0.iter().map(|x| x * 1e6).collect();
    assert!(space.project(0, MatrixView::new(&far, new.0[0].1).unwrap()).is_ok());
}
