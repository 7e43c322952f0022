//! Scores, losses, gradients and steps against torch; `reference/align_parts_goldens.py` writes the numbers.

use chiasm_nn::grad::{Array, Tape, Var};
use serde_json::Value;

use super::fusion::{self, Kind};
use super::reranker;
use super::scan::{self, Attention, Direction, Pooling};
use super::transport::Ipot;

/// Both sides work in f64.
const TOLERANCE: f64 = 1e-9;

fn golden(part: &str) -> Value {
    let path = format!("{}/../../testdata/goldens/align/parts.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(path).expect("the goldens stand in the repository");
    let all: Value = serde_json::from_slice(&text).expect("they are JSON");
    all[part].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn counts(value: &Value) -> Vec<usize> {
    list(value).iter().map(|v| v.as_u64().expect("a count") as usize).collect()
}

fn matrix(value: &Value) -> Array<f64> {
    let rows: Vec<Vec<f64>> = list(value).iter().map(|row| list(row).iter().map(number).collect()).collect();
    Array::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

fn matrices(value: &Value) -> Vec<Array<f64>> {
    list(value).iter().map(matrix).collect()
}

fn apart(a: &Array<f64>, b: &Array<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// That a loss is a golden's, and so are its gradients by these leaves.
fn check<'t>(name: &str, loss: Var<'t, f64>, value: &Value, leaves: &[Var<'t, f64>], gradients: &[Array<f64>]) {
    let off = (loss.value().only() - number(value)).abs();
    assert!(off < TOLERANCE, "{name}: off by {off:e}");
    let found = loss.tape().backward(loss);
    assert_eq!(leaves.len(), gradients.len(), "{name}");
    for (at, (leaf, expected)) in leaves.iter().zip(gradients).enumerate() {
        let off = apart(&found.of(*leaf), expected);
        assert!(off < TOLERANCE, "{name}: gradient {at} off by {off:e}");
    }
}

#[test]
fn scores_and_gradients_of_cross_attention_are_torchs() {
    let golden = golden("scan");
    let lengths: Vec<Vec<usize>> = list(&golden["lengths"]).iter().map(counts).collect();
    for way in list(&golden["ways"]) {
        let direction = if way["direction"] == "text_to_image" { Direction::TextToImage } else { Direction::ImageToText };
        let pooling = way["lambda"].as_f64().map_or(Pooling::Mean, Pooling::LogSumExp);
        let attention = Attention { direction, sharpness: number(&way["sharpness"]), pooling };
        let name = format!("{attention:?}");
        let tape = Tape::new();
        let leaves = [tape.leaf(matrix(&golden["regions"])), tape.leaf(matrix(&golden["words"]))];
        let parts = leaves.map(Var::unit_rows);
        let scores = scan::pair_scores(parts, [&lengths[0], &lengths[1]], &attention);
        let off = apart(&scores.value(), &matrix(&way["scores"]));
        assert!(off < TOLERANCE, "{name}: scores off by {off:e}");
        let all = scan::hinge(scores, 0.2, false).value().only();
        assert!((all - number(&way["all"])).abs() < TOLERANCE, "{name}: all negatives {all}");
        let gradients = [matrix(&way["d_regions"]), matrix(&way["d_words"])];
        check(&name, scan::hinge(scores, 0.2, true), &way["hardest"], &leaves, &gradients);
    }
}

#[test]
fn plans_of_transport_are_those_of_the_algorithm() {
    for case in list(&golden("transport")) {
        let off = apart(&Ipot::default().plan(&matrix(&case["cost"])), &matrix(&case["plan"]));
        assert!(off < TOLERANCE, "off by {off:e}");
    }
}

#[test]
fn scores_and_gradients_of_the_reranker_are_torchs() {
    let golden = golden("reranker");
    let lengths: Vec<Vec<usize>> = list(&golden["lengths"]).iter().map(counts).collect();
    let lengths = [&lengths[0][..], &lengths[1][..]];
    let matched: Vec<bool> = list(&golden["matched"]).iter().map(|v| v.as_bool().expect("yes or no")).collect();
    let tape = Tape::new();
    let leaves: Vec<Var<'_, f64>> = matrices(&golden["parameters"]).into_iter().map(|p| tape.leaf(p)).collect();
    let rows = ["words", "regions"].map(|name| tape.constant(matrix(&golden[name])));
    let passed = reranker::forward(&leaves, number(&golden["n_heads"]) as usize, rows, lengths);
    for (found, expected) in passed.scores.value().data().iter().zip(list(&golden["scores"])) {
        assert!((found - number(expected)).abs() < TOLERANCE, "score {found}, expected {expected}");
    }
    let loss = reranker::loss(&passed, lengths, &matched, 0.1);
    check("reranker", loss, &golden["loss"], &leaves, &matrices(&golden["gradients"]));
}

#[test]
fn queries_and_gradients_of_fusion_are_torchs() {
    let golden = golden("fusion");
    let presence: Vec<bool> = list(&golden["present"]).iter().flat_map(counts).map(|there| there == 1).collect();
    let groups: Vec<u32> = counts(&golden["groups"]).into_iter().map(|group| group as u32).collect();
    let kinds = [Kind::Gated, Kind::Bilinear { factors: 3 }, Kind::Attention { n_heads: 2 }];
    for (kind, expected) in kinds.into_iter().zip(list(&golden["kinds"])) {
        let tape = Tape::new();
        let leaves: Vec<Var<'_, f64>> = matrices(&expected["parameters"]).into_iter().map(|p| tape.leaf(p)).collect();
        let views: Vec<Var<'_, f64>> = matrices(&golden["views"]).into_iter().map(|x| tape.constant(x)).collect();
        let queries = fusion::fuse(kind, &leaves, &views, &presence);
        let off = apart(&queries.value(), &matrix(&expected["queries"]));
        assert!(off < TOLERANCE, "{kind:?}: queries off by {off:e}");
        let [weight, bias, scale] = [3, 2, 1].map(|from_end| leaves[leaves.len() - from_end]);
        let gallery = tape.constant(matrix(&golden["gallery"])).linear(weight, Some(bias)).unit_rows();
        let loss = fusion::contrast(queries, gallery, scale, &groups);
        check(&format!("{kind:?}"), loss, &expected["loss"], &leaves, &matrices(&expected["gradients"]));
    }
}
