//! Products, layers and losses against dense torch, and laws of graphs; `reference/align_graph_goldens.py` writes the numbers.

use chiasm_nn::grad::{Array, Tape, Var};
use proptest::prelude::*;
use serde_json::Value;

use super::sage::Block;
use super::{Sparse, gcn, lightgcn, sage};

/// Both sides work in f64.
const TOLERANCE: f64 = 1e-9;

fn golden(name: &str) -> Value {
    let path = format!("{}/../../testdata/goldens/align/graphs.json", env!("CARGO_MANIFEST_DIR"));
    let all: Value = serde_json::from_slice(&std::fs::read(path).expect("the goldens stand in the repository")).expect("JSON");
    all[name].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn counts(value: &Value) -> Vec<usize> {
    list(value).iter().map(|x| x.as_u64().expect("a count") as usize).collect()
}

fn matrix(value: &Value) -> Array<f64> {
    let rows: Vec<Vec<f64>> = list(value).iter().map(|row| list(row).iter().map(number).collect()).collect();
    Array::new(rows.len(), rows[0].len(), rows.concat())
}

fn graph(golden: &Value, n_rows: usize, n_cols: usize) -> Sparse {
    let entry = |e: &Value| (number(&e[0]) as u32, number(&e[1]) as u32, number(&e[2]));
    Sparse::new(n_rows, n_cols, &list(&golden["entries"]).iter().map(entry).collect::<Vec<_>>()).unwrap()
}

fn apart(a: &Array<f64>, b: &Array<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Compares what `made` makes of the inputs, the loss that `lost` makes of that, and the gradients.
fn check(
    name: &str,
    golden: &Value,
    made: impl for<'t> Fn(&[Var<'t, f64>]) -> Var<'t, f64>,
    lost: impl for<'t> Fn(Var<'t, f64>, &[Var<'t, f64>]) -> Var<'t, f64>,
) {
    let tape = Tape::new();
    let inputs: Vec<Var<'_, f64>> = list(&golden["in"]).iter().map(|x| tape.leaf(matrix(x))).collect();
    let y = made(&inputs);
    let mut off = apart(&y.value(), &matrix(&golden["y"]));
    let loss = lost(y, &inputs);
    off = off.max((loss.value().only() - number(&golden["loss"])).abs());
    let gradients = tape.backward(loss);
    for (input, expected) in inputs.iter().zip(list(&golden["d"])) {
        let expected = matrix(expected);
        assert!(expected.sum_of_squares() > 0.0, "{name}: a gradient of nothing says nothing");
        off = off.max(apart(&gradients.of(*input), &expected));
    }
    assert!(off < TOLERANCE, "{name}: off by {off:e}");
}

/// The sum of what comes out times fixed numbers.
fn weighed<'t>(golden: &Value, y: Var<'t, f64>) -> Var<'t, f64> {
    (y * y.tape().constant(matrix(&golden["by"]))).sum()
}

#[test]
fn products_layers_and_gradients_are_those_of_dense_torch() {
    let of = golden("product");
    let a = graph(&of, 5, 7);
    check("product", &of, |x| a.times(x[0]), |y, _| weighed(&of, y));
    let of = golden("gcn");
    let propagation = gcn::propagation(&graph(&of, 8, 8)).unwrap();
    check("gcn", &of, |x| gcn::layers(x[0], &propagation, &x[1..]), |y, _| weighed(&of, y));
    let of = golden("graphsage");
    let block = Block::whole(&graph(&of, 8, 8));
    check("graphsage", &of, |x| sage::layers(x[0], &[block.clone(), block.clone()], &x[1..]), |y, _| weighed(&of, y));
    let of = golden("lightgcn");
    let shape = counts(&of["shape"]);
    let normalised = graph(&of, shape[0], shape[1]).bipartite().normalised();
    let triples: Vec<Vec<usize>> = list(&of["triples"]).iter().map(counts).collect();
    let seen = counts(&of["seen"]);
    let ends = |k: usize| triples.iter().map(|triple| triple[k]).collect::<Vec<_>>();
    check(
        "lightgcn",
        &of,
        |x| lightgcn::propagate(x[0], &normalised, 3),
        |e, x| {
            let [right, wrong] = [1, 2].map(|k| (e.rows(ends(0)) * e.rows(ends(k))).sum_columns());
            let penalty = x[0].rows(seen.clone()).square().sum().scaled(0.01 / triples.len() as f64);
            lightgcn::bpr(right, wrong) + penalty
        },
    );
}

/// A symmetric graph without loops.
fn symmetric(n: usize, drawn: &[(u32, u32, f64)]) -> Sparse {
    let inside = drawn.iter().map(|(i, j, weight)| (i % n as u32, j % n as u32, *weight)).filter(|(i, j, _)| i != j);
    Sparse::new(n, n, &inside.flat_map(|(i, j, weight)| [(i, j, weight), (j, i, weight)]).collect::<Vec<_>>()).unwrap()
}

fn filled(n: usize, m: usize, seed: usize) -> Array<f64> {
    Array::from_fn(n, m, |i, j| (((i * 37 + j * 101 + seed * 13) % 89) as f64 - 44.0) / 44.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Nodes in another order have the same rows in that order.
    #[test]
    fn order_of_nodes_does_not_matter(
        n in 2_usize..9,
        drawn in proptest::collection::vec((0_u32..9, 0_u32..9, 0.1_f64..3.0), 0..20),
        turn in 1_usize..9,
    ) {
        let order: Vec<usize> = (0..n).map(|i| n - 1 - (i + turn) % n).collect();
        let place = |node: u32| order.iter().position(|old| *old == node as usize).unwrap() as u32;
        let graph = symmetric(n, &drawn);
        let entries: Vec<_> = graph.entries().into_iter().map(|(i, j, weight)| (place(i), place(j), weight)).collect();
        let turned = Sparse::new(n, n, &entries).unwrap();
        let tape = Tape::new();
        let (h, moved) = (tape.constant(filled(n, 4, 1)), tape.constant(filled(n, 4, 1).pick(&order)));
        let [w1, w2] = [2, 3].map(|seed| tape.constant(filled(4, 4, seed)));
        let (both, bias) = (tape.constant(filled(8, 4, 4)), tape.constant(filled(1, 4, 5)));
        let rows = |graph: &Sparse, h| {
            let convolved = gcn::layers(h, &gcn::propagation(graph).unwrap(), &[w1, w2]);
            let sampled = sage::layer(h, &Block::whole(graph), [both, bias], true);
            [convolved, sampled, lightgcn::propagate(h, &graph.normalised(), 3)].map(|rows| rows.value())
        };
        for (plain, turned) in rows(&graph, h).iter().zip(rows(&turned, moved)) {
            prop_assert!(apart(&plain.pick(&order), &turned) < 1e-12);
        }
    }

    /// The normalised graph enlarges nothing: its greatest eigenvalue is 1.
    #[test]
    fn a_normalised_graph_enlarges_nothing(n in 2_usize..9, drawn in proptest::collection::vec((0_u32..9, 0_u32..9, 0.1_f64..3.0), 0..20)) {
        let tape = Tape::new();
        let x = filled(n, 1, 7);
        let y = symmetric(n, &drawn).normalised().times(tape.constant(x.clone())).value();
        prop_assert!(y.sum_of_squares() <= x.sum_of_squares() * (1.0 + 1e-12));
    }
}

/// Why there are three layers at most: what many products leave is nearly the same for all nodes.
#[test]
fn many_layers_make_all_nodes_alike() {
    let n = 60_u32;
    let edges: Vec<_> =
        (0..n).flat_map(|i| [(i, (i + 1) % n, 1.0), (i, (i * i + 7) % n, 1.0), (i, (3 * i + 5) % n, 1.0)]).collect();
    let propagation = gcn::propagation(&symmetric(n as usize, &edges)).unwrap();
    let tape = Tape::new();
    let mut h = tape.constant(filled(n as usize, 16, 1));
    let alike = |h: Var<'_, f64>| h.unit_rows().dot_rows(h.unit_rows()).mean().value().only();
    let mut after = vec![alike(h)];
    for _ in 0..24 {
        h = propagation.times(h);
        after.push(alike(h));
    }
    assert!(after[3] < 0.7 && after[24] > 0.98, "{after:?}");
}
