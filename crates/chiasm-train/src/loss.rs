//! Losses of the embeddings of two kinds of media.

use chiasm_nn::grad::{Array, Tape, Var};

use crate::config::Objective;

/// Margin of the triplet loss.
const MARGIN: f32 = 0.2;

/// What a loss of two kinds is made of: row `i` of either is of the same thing.
pub(crate) struct Pair<'t> {
    /// `[n, d]`, unit rows.
    pub(crate) left: Var<'t, f32>,
    /// `[n, d]`, unit rows.
    pub(crate) right: Var<'t, f32>,
    /// Texts that are wrong for all left rows, `[k, d]`.
    pub(crate) wrong: Option<Var<'t, f32>>,
    /// Rows of one group are right answers to one another.
    pub(crate) groups: Vec<u64>,
}

/// Learned numbers of a loss.
#[derive(Clone, Copy)]
pub(crate) struct Learned<'t> {
    /// The logarithm of what cosines are multiplied by, `[1, 1]`.
    pub(crate) log_scale: Var<'t, f32>,
    /// What is added to logits, `[1, 1]`.
    pub(crate) bias: Option<Var<'t, f32>>,
}

/// The loss of a pair of kinds, a single number.
pub(crate) fn loss<'t>(
    tape: &'t Tape<f32>,
    objective: Objective,
    smoothing: f64,
    pair: &Pair<'t>,
    learned: Learned<'t>,
) -> Var<'t, f32> {
    let n = pair.groups.len();
    let related = |i: usize, j: usize| i == j || pair.groups[i] == pair.groups[j];
    let cosines = pair.left.dot_rows(pair.right);
    let to_wrong = pair.wrong.map(|wrong| pair.left.dot_rows(wrong));
    match objective {
        Objective::Infonce => {
            let scale = learned.log_scale.exp();
            let forth = to_wrong.map_or(cosines, |wrong| tape.beside(&[cosines, wrong])).times_number(scale);
            let back = cosines.transposed().times_number(scale);
            let targets = |m: usize| {
                let smooth = (smoothing / m as f64) as f32;
                let mut rows = Array::full(n, m, smooth);
                for i in 0..n {
                    let right: Vec<usize> = (0..n).filter(|j| related(i, *j)).collect();
                    let share = (1.0 - smoothing) as f32 / right.len() as f32;
                    right.into_iter().for_each(|j| rows.row_mut(i)[j] += share);
                }
                tape.constant(rows)
            };
            let [_, m] = forth.shape();
            (forth.cross_entropy(targets(m)) + back.cross_entropy(targets(n))).scaled(0.5)
        }
        Objective::Siglip => {
            // -1/n sum log sigma(z (scale cos + bias)) = 1/n sum softplus(-z logit)
            let all = to_wrong.map_or(cosines, |wrong| tape.beside(&[cosines, wrong]));
            let [_, m] = all.shape();
            let logits = all.times_number(learned.log_scale.exp());
            let logits = match learned.bias {
                // One number added to all: an outer product of ones with it.
                Some(bias) => {
                    logits + tape.constant(Array::full(n, 1, 1.0)).dot(bias).dot(tape.constant(Array::full(1, m, 1.0)))
                }
                None => logits,
            };
            let signs = tape.constant(Array::from_fn(n, m, |i, j| if j < n && related(i, j) { -1.0 } else { 1.0 }));
            (logits * signs).softplus().sum().scaled(1.0 / n as f32)
        }
        Objective::Triplet => {
            let all = to_wrong.map_or(cosines, |wrong| tape.beside(&[cosines, wrong]));
            let forth = hardest(all, |i, j| j < n && related(i, j));
            let back = hardest(cosines.transposed(), related);
            (forth + back).scaled(0.5)
        }
    }
}

/// The mean over rows of `[margin + greatest wrong - right]+`, where row `i`'s right answer is column `i`.
fn hardest<'t>(scores: Var<'t, f32>, right: impl Fn(usize, usize) -> bool) -> Var<'t, f32> {
    let (value, [n, m]) = (scores.value(), scores.shape());
    let hardest: Vec<Option<usize>> = (0..n)
        .map(|i| (0..m).filter(|j| !right(i, *j)).max_by(|a, b| value.at(i, *a).total_cmp(&value.at(i, *b)).then(b.cmp(a))))
        .collect();
    // Rows to which everything is right have nothing to be told from.
    let pick = |column: &dyn Fn(usize) -> usize| {
        let at: Vec<u32> = (0..n).filter(|i| hardest[*i].is_some()).map(|i| (i * m + column(i)) as u32).collect();
        let k = at.len();
        scores.gathered(at, k, 1)
    };
    let wrong = pick(&|i| hardest[i].unwrap_or(i));
    let right = pick(&|i| i);
    (wrong - right).plus(MARGIN).relu().sum().scaled(1.0 / n.max(1) as f32)
}
