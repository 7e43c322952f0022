//! Every operation against differences of its values.

use super::{Array, NOWHERE, Sees, Tape, Var};

/// Numbers without pattern between -1 and 1.
fn numbers(n: usize, m: usize, seed: u32) -> Array<f64> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(12_345);
    Array::from_fn(n, m, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 23) - 1.0
    })
}

type Made = for<'t> fn(&[Var<'t, f64>]) -> Var<'t, f64>;

/// A weighted sum of what `made` makes of matrices of these shapes, and its gradients; against central differences.
fn check(name: &str, shapes: &[[usize; 2]], shift: f64, made: Made) {
    let inputs: Vec<Array<f64>> = shapes
        .iter()
        .enumerate()
        .map(|(i, [n, m])| {
            let mut x = numbers(*n, *m, i as u32 + 1);
            x.change(|x| x + shift);
            x
        })
        .collect();
    let loss = |inputs: &[Array<f64>]| {
        let tape = Tape::new();
        let vars: Vec<_> = inputs.iter().map(|x| tape.leaf(x.clone())).collect();
        let y = made(&vars);
        let [n, m] = y.shape();
        let loss = (y * tape.constant(numbers(n, m, 99))).sum();
        let gradients = tape.backward(loss);
        (loss.value().only(), vars.iter().map(|var| gradients.of(*var)).collect::<Vec<_>>())
    };
    let (_, gradients) = loss(&inputs);
    for (which, gradient) in gradients.iter().enumerate() {
        for at in 0..gradient.data().len() {
            let step = 1e-5;
            let moved = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[which].data_mut()[at] += by;
                loss(&inputs).0
            };
            let want = (moved(step) - moved(-step)) / (2.0 * step);
            let got = gradient.data()[at];
            assert!(
                (got - want).abs() < 1e-7 * (1.0 + want.abs()),
                "{name}: input {which}, number {at}: {got}, by differences {want}"
            );
        }
    }
}

#[test]
fn gradients_equal_differences() {
    check("add", &[[3, 4], [3, 4]], 0.0, |x| x[0] + x[1]);
    check("add itself", &[[3, 4]], 0.0, |x| x[0] + x[0]);
    check("sub", &[[3, 4], [3, 4]], 0.0, |x| x[0] - x[1]);
    check("mul", &[[3, 4], [3, 4]], 0.0, |x| x[0] * x[1]);
    check("div", &[[3, 4], [3, 4]], 2.0, |x| x[0] / x[1]);
    check("neg", &[[3, 4]], 0.0, |x| -x[0]);
    check("scaled, plus", &[[3, 4]], 0.0, |x| x[0].scaled(3.0).plus(1.0));
    check("square", &[[3, 4]], 0.0, |x| x[0].square());
    check("root", &[[3, 4]], 2.0, |x| x[0].root());
    check("absolute", &[[3, 4]], 0.0, |x| x[0].absolute());
    check("exp", &[[3, 4]], 0.0, |x| x[0].exp());
    check("ln", &[[3, 4]], 2.0, |x| x[0].ln());
    check("relu", &[[3, 4]], 0.0, |x| x[0].relu());
    check("leaky relu", &[[3, 4]], 0.0, |x| x[0].leaky_relu(0.1));
    check("tanh", &[[3, 4]], 0.0, |x| x[0].tanh());
    check("sigmoid", &[[3, 4]], 0.0, |x| x[0].sigmoid());
    check("softplus", &[[3, 4]], 0.0, |x| x[0].softplus());
    check("gelu", &[[3, 4]], 0.0, |x| x[0].gelu());
    check("quick gelu", &[[3, 4]], 0.0, |x| x[0].quick_gelu());
    check("clamped", &[[3, 4]], 0.0, |x| x[0].clamped(-0.3, 0.4));
    check("add row", &[[3, 4], [1, 4]], 0.0, |x| x[0].add_row(x[1]));
    check("times row", &[[3, 4], [1, 4]], 0.0, |x| x[0].times_row(x[1]));
    check("times column", &[[3, 4], [3, 1]], 0.0, |x| x[0].times_column(x[1]));
    check("times number", &[[3, 4], [1, 1]], 0.0, |x| x[0].times_number(x[1]));
    check("dot", &[[3, 4], [4, 2]], 0.0, |x| x[0].dot(x[1]));
    check("dot rows", &[[3, 4], [5, 4]], 0.0, |x| x[0].dot_rows(x[1]));
    check("linear", &[[3, 4], [5, 4], [1, 5]], 0.0, |x| x[0].linear(x[1], Some(x[2])));
    check("transposed", &[[3, 4]], 0.0, |x| x[0].transposed());
    check("reshaped", &[[3, 4]], 0.0, |x| x[0].reshaped(2, 6));
    check("rows", &[[3, 4]], 0.0, |x| x[0].rows([2, 0, 2, 1]));
    check("columns", &[[3, 4]], 0.0, |x| x[0].columns(1..3));
    check("gathered", &[[3, 4]], 0.0, |x| x[0].gathered([5, NOWHERE, 5, 11, 0, 3], 2, 3));
    check("beside", &[[3, 2], [3, 4]], 0.0, |x| x[0].tape().beside(x));
    check("under", &[[3, 4], [2, 4]], 0.0, |x| x[0].tape().under(x));
    check("sum, mean", &[[3, 4]], 0.0, |x| x[0].sum() + x[0].mean());
    check("sum of rows", &[[3, 4]], 0.0, |x| x[0].sum_rows() + x[0].mean_rows());
    check("sum of columns", &[[3, 4]], 0.0, |x| x[0].sum_columns());
    check("mean of runs", &[[5, 4]], 0.0, |x| x[0].mean_of_runs(&[2, 0, 3]));
    check("softmax", &[[3, 17]], 0.0, |x| x[0].softmax());
    check("log softmax", &[[3, 17]], 0.0, |x| x[0].log_softmax());
    check("unit rows", &[[3, 17]], 0.0, |x| x[0].unit_rows());
    check("cross entropy", &[[3, 4], [3, 4]], 0.0, |x| x[0].cross_entropy(x[1]));
    check("cross entropy of", &[[3, 4]], 0.0, |x| x[0].cross_entropy_of(&[1, 3, 0]));
    check("layer norm", &[[3, 17], [1, 17], [1, 17]], 0.0, |x| x[0].layer_norm(x[1], x[2], 1e-5));
    check("batch norm", &[[7, 3], [1, 3], [1, 3]], 0.0, |x| x[0].batch_norm(x[1], x[2], 1e-5));
    check("attention", &[[5, 6], [5, 6], [5, 6]], 0.0, |x| x[0].attend(x[1], x[2], &[2, 3], &[2, 3], 2, Sees::All));
    check("attention to the past", &[[5, 6], [5, 6], [5, 6]], 0.0, |x| {
        x[0].attend(x[1], x[2], &[2, 3], &[2, 3], 3, Sees::Past)
    });
    check("attention across", &[[5, 6], [4, 6], [4, 6]], 0.0, |x| x[0].attend(x[1], x[2], &[2, 3], &[1, 3], 2, Sees::All));
    check("custom", &[[3, 4]], 0.0, |x| {
        let (value, to) = (x[0].value(), x[0].place());
        let mut cubes = Array::clone(&value);
        cubes.change(|x| x * x * x);
        x[0].tape().custom(&[x[0]], cubes, move |mut d, sink| {
            d.change_with(&value, |d, x| 3.0 * x * x * d);
            sink.add(to, || d);
        })
    });
}

#[test]
fn a_reversed_gradient_is_turned_and_a_detached_one_ends() {
    let tape = Tape::new();
    let x = tape.leaf(Array::new(1, 2, vec![1.0, 2.0]));
    let loss = (x.reversed(0.5).square() + x.detached().square()).sum();
    assert_eq!(loss.value().only(), 10.0);
    assert_eq!(tape.backward(loss).of(x).data(), [-1.0, -2.0]);
}

#[test]
fn products_do_not_depend_on_the_count_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tape = Tape::new();
            let narrow = |n, m, seed| Array::new(n, m, numbers(n, m, seed).data().iter().map(|x| *x as f32).collect());
            let (x, w, b) = (tape.constant(narrow(300, 70, 1)), tape.leaf(narrow(90, 70, 2)), tape.leaf(narrow(1, 90, 3)));
            let loss = x.linear(w, Some(b)).gelu().softmax().square().sum();
            let mut gradients = tape.backward(loss);
            (loss.value().only(), gradients.take(w), gradients.take(b))
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[should_panic(expected = "shapes of two matrices")]
fn matrices_of_different_shapes_are_not_added() {
    let tape = Tape::<f64>::new();
    let _ = tape.constant(Array::zeros(2, 3)) + tape.constant(Array::zeros(3, 2));
}
