//! JFSSL and LCFS against numpy: `reference/align_discriminative_goldens.py`.

use serde_json::Value;

use super::{Inputs, TOLERANCE, classes, fitted, label_sets, matrix, number, numbers, same_entries};
use crate::reduced::Linear;
use crate::{JfsslConfig, LcfsConfig, Pairs};

/// Weights after as many rounds as the script made.
fn check(what: &str, inputs: &Inputs, golden: &Value, rounds: &Value, method: impl Fn(usize) -> Box<dyn Linear>) {
    let labels = if what.ends_with("multi") { label_sets(golden) } else { classes(golden) };
    let pairs = Pairs { labels: Some(&labels), ..inputs.pairs(2) };
    let (_, solution) = fitted(&*method(numbers(&rounds["objective"]).len() - 1), &pairs);
    for v in 0..2 {
        same_entries(&format!("{what} view {v}"), &solution.weights[v], &matrix(&rounds["u"][v]), 1.0, TOLERANCE);
    }
}

#[test]
fn jfssl_equals_numpy() {
    let golden = super::golden("feature_selection");
    let inputs = Inputs::read(&golden["views"]);
    for what in ["jfssl", "jfssl_multi"] {
        let of = &golden[what];
        // The second view sees what the first has just become.
        check(what, &inputs, &golden, &of["new"], |n_iterations| {
            Box::new(JfsslConfig {
                lambda1: number(&of["lambda1"]),
                lambda2: number(&of["lambda2"]),
                beta: number(&of["beta"]),
                n_neighbours: of["neighbours"].as_u64().expect("a count") as usize,
                n_iterations,
                ..JfsslConfig::default()
            })
        });
    }
}

#[test]
fn lcfs_equals_numpy() {
    let golden = super::golden("feature_selection");
    let inputs = Inputs::read(&golden["views"]);
    for what in ["lcfs", "lcfs_multi"] {
        let of = &golden[what];
        check(what, &inputs, &golden, of, |n_iterations| {
            let (lambda1, lambda2) = (number(&of["lambda1"]), number(&of["lambda2"]));
            Box::new(LcfsConfig { lambda1, lambda2, n_iterations, ..LcfsConfig::default() })
        });
    }
}
