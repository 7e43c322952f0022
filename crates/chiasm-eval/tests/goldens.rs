//! Metrics and tests against ranx, pytrec_eval and scipy: `reference/eval_metrics.py`, `reference/eval_significance.py`.

use chiasm_eval::significance::randomisation_test;
use chiasm_eval::{Denominator, Gain, JudgeError, Judged};
use serde_json::Value;

/// Both sides compute in f64 and differ only in the order of a few dozen operations.
const TOLERANCE: f64 = 1e-12;

fn golden(name: &str) -> Vec<Value> {
    let path = format!("{}/../../testdata/goldens/eval/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The metric that an oracle calls `name`, when ours has it.
fn own(query: &Judged, name: &str) -> f64 {
    let (base, k) = match name.rsplit_once(['@', '_']) {
        Some((base, k)) if k.parse::<usize>().is_ok() => (base, k.parse().ok()),
        _ => (name, None),
    };
    match (base, k) {
        ("map", k) => query.average_precision(k, Denominator::AllRelevant),
        ("map_cut", k) => query.average_precision(k, Denominator::AllRelevant),
        ("ndcg" | "ndcg_cut", k) => query.ndcg(k, Gain::Linear),
        ("ndcg_burges", k) => query.ndcg(k, Gain::Exponential),
        ("P" | "precision", Some(k)) => query.precision_at_k(k),
        ("recall", Some(k)) => query.recall_at_k(k),
        ("success" | "hit_rate", Some(k)) => query.hit_at_k(k),
        ("recip_rank" | "mrr", None) => query.reciprocal_rank(),
        ("Rprec" | "r-precision", None) => query.r_precision(),
        _ => {
            let level: f64 = name.strip_prefix("iprec_at_recall_").unwrap_or_else(|| panic!("{name}")).parse().unwrap();
            query.interpolated_precision()[(level * 10.0).round() as usize]
        }
    }
}

#[test]
fn metrics_agree_with_ranx_and_trec_eval() {
    let (mut n_skipped, mut n_checked) = (0, 0);
    for (i, case) in golden("metrics.json").iter().enumerate() {
        let (scores, gains, missing) = (numbers(&case["scores"]), numbers(&case["gains"]), numbers(&case["missing"]));
        // The stated rule: score descending, then id, which is the order of the file.
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let ranked: Vec<f64> = order.iter().map(|i| gains[*i]).collect();
        let all: Vec<f64> = gains.iter().chain(&missing).copied().collect();
        let query = match Judged::new(&ranked, &all) {
            Err(JudgeError::NoRelevant) => {
                assert!(case.get("trec").is_none(), "query {i}");
                n_skipped += 1;
                continue;
            }
            other => other.unwrap(),
        };
        for oracle in ["trec", "ranx"] {
            for (name, value) in case[oracle].as_object().unwrap() {
                // trec_eval asks for `floor(t R + 0.9)` hits in floating point: 2 of 3 count as recall 0.7. Ours is the definition.
                let level = name.strip_prefix("iprec_at_recall_").map(|t| (10.0 * t.parse::<f64>().unwrap()).round() as usize);
                if level.is_some_and(|t| t * query.n_relevant() % 10 == 1) {
                    continue;
                }
                let (got, expected) = (own(&query, name), value.as_f64().unwrap());
                assert!((got - expected).abs() <= TOLERANCE, "query {i}, {oracle} {name}: {got} for {expected}");
                n_checked += 1;
            }
        }
    }
    assert!(n_skipped >= 10 && n_checked > 5000, "{n_skipped} skipped, {n_checked} figures compared");
}

#[test]
fn the_randomisation_test_agrees_with_scipy() {
    for case in golden("significance.json") {
        let got = randomisation_test(&numbers(&case["a"]), &numbers(&case["b"]), 1 << 12, 0).unwrap();
        assert!(got.exact);
        assert!((got.difference - case["difference"].as_f64().unwrap()).abs() < TOLERANCE);
        assert!((got.p_value - case["p_value"].as_f64().unwrap()).abs() < TOLERANCE, "{got:?} for {case}");
    }
}
