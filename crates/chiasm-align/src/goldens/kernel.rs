//! Kernel CCA against scipy and cca-zoo: `reference/align_subspace_goldens.py`.

use super::{Inputs, TOLERANCE, fitted, matrix, number, numbers, same, same_sizes, scores};
use crate::{Anchors, CcaConfig, KccaConfig, Kernel, KernelConfig, ViewConfig};

fn config(kernel: Kernel, gammas: &[f64], kappa: f64) -> KccaConfig {
    let mut config = KccaConfig { kappa, correlation_power: 0.0, ..KccaConfig::default() };
    config.kernels = [0, 1].map(|v| KernelConfig { kernel, gamma: Some(gammas[v]), ..config.kernels[v] });
    config
}

#[test]
fn kernel_cca_equals_scipy() {
    let golden = super::golden("kcca");
    let runs = golden["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3);
    for (run, kernel) in runs.iter().zip([Kernel::Linear, Kernel::Rbf, Kernel::Chi2]) {
        assert_eq!(run["kernel"], kernel.as_str());
        let of = if kernel == Kernel::Chi2 { ["positive_views", "positive_new"] } else { ["views", "new"] };
        let [train, new] = of.map(|name| Inputs::read(&golden[name]));
        let config = config(kernel, &numbers(&run["gamma"]), number(&run["kappa"]));
        let (reduced, solution) = fitted(&config, &train.pairs(2));
        same(kernel.as_str(), &solution.correlations, &numbers(&run["correlations"]), TOLERANCE);
        for v in 0..2 {
            for (name, rows) in [("abs_train", &train), ("abs_new", &new)] {
                let ours = scores(&config, &reduced, &solution, v, rows.view(v));
                same_sizes(&format!("{} {name} view {v}", kernel.as_str()), &ours, &matrix(&run[name][v]), 1.0);
            }
        }
    }
}

#[test]
fn a_linear_kernel_is_ridge_cca() {
    let golden = super::golden("kcca");
    let (train, new) = (Inputs::read(&golden["views"]), Inputs::read(&golden["new"]));
    let kernel = config(Kernel::Linear, &[1.0; 2], 0.05);
    let (k_reduced, k_solution) = fitted(&kernel, &train.pairs(2));
    let (plain, _) = fitted(&CcaConfig::default(), &train.pairs(2));
    let n = plain.n() as f64;
    let mean_variance = |v: usize| plain.bases[v].total_variance / plain.bases[v].input_dim as f64;
    let views = [0, 1].map(|v| ViewConfig { ridge: 0.05 * n / (n - 1.0) / mean_variance(v), ..ViewConfig::default() });
    let linear = CcaConfig { views, correlation_power: 0.0, ..CcaConfig::default() };
    let (reduced, solution) = fitted(&linear, &train.pairs(2));
    same("correlations", &k_solution.correlations, &solution.correlations, TOLERANCE);
    for v in 0..2 {
        let theirs = super::absolute(&scores(&linear, &reduced, &solution, v, new.view(v)));
        same_sizes("new rows", &scores(&kernel, &k_reduced, &k_solution, v, new.view(v)), &theirs, 1.0);
    }
}

/// A linear kernel of 9 and 6 columns is spanned by any 20 rows, and by any 20 means of rows, so that nothing is lost.
#[test]
fn anchors_that_span_the_kernel_give_the_exact_solution() {
    let golden = super::golden("kcca");
    let (train, new) = (Inputs::read(&golden["views"]), Inputs::read(&golden["new"]));
    let exact = config(Kernel::Linear, &[1.0; 2], 0.05);
    let (e_reduced, e_solution) = fitted(&exact, &train.pairs(2));
    for (anchors, max_anchors) in [(Anchors::Random, 20), (Anchors::KMeans, 20), (Anchors::Random, 72)] {
        let mut few = exact.clone();
        few.kernels = exact.kernels.map(|k| KernelConfig { max_exact_rows: 19, max_anchors, anchors, ..k });
        let (reduced, solution) = fitted(&few, &train.pairs(2));
        same("correlations", &solution.correlations, &e_solution.correlations, TOLERANCE);
        for v in 0..2 {
            let theirs = super::absolute(&scores(&exact, &e_reduced, &e_solution, v, new.view(v)));
            // Centres are rounded to f32 and the span of 20 anchors is less well conditioned than that of all rows.
            super::same_entries(
                "new rows",
                &super::absolute(&scores(&few, &reduced, &solution, v, new.view(v))),
                &theirs,
                1.0,
                1e-7,
            );
        }
    }
}

/// Every row an anchor is the exact kernel, whatever it is called; all rows but one come close.
#[test]
fn more_anchors_come_closer_to_the_exact_kernel() {
    let golden = super::golden("kcca");
    let train = Inputs::read(&golden["views"]);
    let exact = config(Kernel::Rbf, &[1.0 / 64.0, 1.0 / 32.0], 0.02);
    let best = fitted(&exact, &train.pairs(2)).1.correlations;
    let off = |max_anchors: usize| {
        let mut few = exact.clone();
        few.kernels = exact.kernels.map(|k| KernelConfig { max_exact_rows: 0, max_anchors, ..k });
        let ours = fitted(&few, &train.pairs(2)).1.correlations;
        best.iter().zip(&ours).take(4).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    assert!(off(72) < 1e-12);
    assert!(off(70) < off(20) && off(70) < 0.02, "{} {}", off(70), off(20));
}
