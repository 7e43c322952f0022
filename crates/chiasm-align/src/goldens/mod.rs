//! The methods against numpy, scipy, scikit-learn and cca-zoo. The scripts in `reference/` write the numbers and assert that these
//! agree with one another; their heads say what each number is.

mod discriminative;
mod feature_selection;
mod kernel;
mod laws;
mod linear;
mod subspace;

use chiasm_core::{Cancel, Labels, MatrixView, NoProgress};
use serde_json::Value;

use crate::linalg::{Mat, product};
use crate::reduced::{Linear, Reduced, Solution, solve};
use crate::{Pairs, Run};

/// Both sides work in f64 on inputs that f32 holds exactly, and the problems are well conditioned.
const TOLERANCE: f64 = 1e-8;

fn golden(name: &str) -> Value {
    let path = format!("{}/../../testdata/goldens/align/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the goldens stand in the repository")).expect("they are JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn matrix(value: &Value) -> Mat {
    let rows: Vec<Vec<f64>> = value.as_array().expect("a list of rows").iter().map(numbers).collect();
    Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

/// Rows of some views, as methods take them.
struct Inputs(Vec<(Vec<f32>, usize)>);

impl Inputs {
    fn read(views: &Value) -> Self {
        let view = |v: &Value| {
            let rows: Vec<Vec<f64>> = v.as_array().expect("a list of rows").iter().map(numbers).collect();
            (rows.iter().flatten().map(|x| *x as f32).collect(), rows[0].len())
        };
        Self(views.as_array().expect("views").iter().map(view).collect())
    }

    fn pairs(&self, n_views: usize) -> Pairs<'_> {
        Pairs::new((0..n_views).map(|v| self.view(v)).collect())
    }

    fn view(&self, v: usize) -> MatrixView<'_> {
        MatrixView::new(&self.0[v].0, self.0[v].1).expect("whole rows")
    }
}

fn classes(golden: &Value) -> Labels {
    Labels::single(&numbers(&golden["classes"]).iter().map(|c| *c as u32).collect::<Vec<_>>())
}

fn label_sets(golden: &Value) -> Labels {
    let set = |set: &Value| numbers(set).iter().map(|c| *c as u32).collect();
    let sets: Vec<Vec<u32>> = golden["label_sets"].as_array().expect("a list of sets").iter().map(set).collect();
    Labels::from_rows(&sets, 4).expect("the scripts know four classes")
}

fn fitted(method: &dyn Linear, pairs: &Pairs<'_>) -> (Reduced, Solution) {
    let run = Run { seed: 0, progress: &NoProgress, cancel: &Cancel::default(), draft: None };
    solve(method, pairs, &run).expect("the goldens are no hard set")
}

/// Rows of view `v` in the coordinates of a solution, offsets and powers included, the tail left out.
fn scores(method: &dyn Linear, reduced: &Reduced, solution: &Solution, v: usize, x: MatrixView<'_>) -> Mat {
    let z = in_axes(reduced, v, x);
    let z = product(z.subcols(0, solution.weights[v].nrows()), solution.weights[v].as_ref());
    let linear = Solution { tail: Vec::new(), ..Solution::correlated(Vec::new(), solution.correlations.clone()) };
    let linear = Solution { offsets: solution.offsets.clone(), ..linear };
    linear.finish(v, &z, z.ncols(), method.correlation_power())
}

fn in_axes(reduced: &Reduced, v: usize, x: MatrixView<'_>) -> Mat {
    reduced.bases[v].coordinates(x, &(0..x.n()).collect::<Vec<_>>())
}

/// Compares numbers one by one.
fn same(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert!(ours.len() >= theirs.len(), "{what}: {} numbers, expected {}", ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() < tolerance, "{what} {i}: {a}, expected {b}");
    }
}

/// Compares entries one by one, over the columns of `theirs`, after multiplying ours by `scale`.
fn same_entries(what: &str, ours: &Mat, theirs: &Mat, scale: f64, tolerance: f64) {
    assert_eq!(ours.nrows(), theirs.nrows(), "{what}");
    assert!(ours.ncols() >= theirs.ncols(), "{what}: {} columns, expected {}", ours.ncols(), theirs.ncols());
    for i in 0..theirs.nrows() {
        for j in 0..theirs.ncols() {
            let (a, b) = (ours[(i, j)] * scale, theirs[(i, j)]);
            assert!((a - b).abs() < tolerance, "{what} row {i} column {j}: {a}, expected {b}");
        }
    }
}

/// The same for entries whose sign is free.
fn same_sizes(what: &str, ours: &Mat, theirs: &Mat, scale: f64) {
    same_entries(what, &absolute(ours), theirs, scale, TOLERANCE);
}

fn absolute(a: &Mat) -> Mat {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)].abs())
}

fn transposed(a: &Mat) -> Mat {
    a.transpose().to_owned()
}
