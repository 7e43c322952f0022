//! Inner products and squared Euclidean distances of rows against queries.
//!
//! # The sum, and why every machine gives the same bits
//! The terms of a pair of vectors are dealt to four lanes, dimension `c` to lane `c % 4`; each lane adds its terms in order with
//! a fused multiply-add; the result is `(lane 0 + lane 2) + (lane 1 + lane 3)`. Four lanes are what one 128-bit piece of a
//! register holds on every machine, so AVX-512 works on 4 rows at a time, AVX2 on 2, NEON on 1, and the scalar path on plain
//! numbers, and all of them do the very same roundings. Hence a score never depends on the instruction set, the batch or the
//! neighbours of a row in memory.
//!
//! | sum | error bound, `e` = 2^-24, `d` dimensions |
//! | --- | --- |
//! | inner product | `(d/4 + 3) e` times the sum of `abs(a_c b_c)` |
//! | squared distance | `(d/4 + 5) e` times the squared distance: differences first, so near duplicates lose nothing |
//!
//! # Layout
//! Rows are scanned in panels of 16. A panel is first *packed*: step `s` holds dimensions `4 s .. 4 s + 4` of all rows as four
//! registers of 16 numbers, register `i` holding rows `i`, `4 + i`, `8 + i`, `12 + i`. Copying costs a few percent of a batch,
//! nothing that can be measured of a single query (memory is the limit there), and makes the panel's rows free to lie anywhere,
//! which is how a filter works.

/// Rows scored together.
pub(crate) const PANEL_ROWS: usize = 16;

/// Dimensions per step; queries are padded with zeros to a multiple of it.
pub(crate) const LANES: usize = 4;

/// Numbers per step of a panel.
const STEP: usize = PANEL_ROWS * LANES;

/// The instruction set of a scan. A value exists only for what this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Path);

/// Private, so that nobody can name a path the machine lacks: that is what makes calling it sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Scalar,
}

impl Kernel {
    /// The fastest one here.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// All that this machine can run, fastest first; the last one is the scalar path, which is always there.
    pub fn available() -> Vec<Self> {
        vec![Self(Path::Scalar)]
    }

    /// Its name: `avx512`, `avx2`, `neon` or `scalar`.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            Path::Scalar => "scalar",
        }
    }
}

/// What is summed over the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `q_c * x_c`
    Product,
    /// `-(q_c - x_c)^2`
    MinusSquaredDistance,
}

/// Steps that vectors of `dim` numbers take.
pub(crate) fn n_steps(dim: usize) -> usize {
    dim.div_ceil(LANES)
}

/// Room for a packed panel.
pub(crate) fn panel_len(dim: usize) -> usize {
    n_steps(dim) * STEP
}

/// Copies a row to place `at` (below 16) of a panel. What stands beyond `dim` stays zero if it was.
pub(crate) fn pack_row(panel: &mut [f32], at: usize, row: &[f32]) {
    let place = at % 4 * PANEL_ROWS + at / 4 * LANES;
    let whole = row.len() / LANES;
    for (step, four) in panel.chunks_exact_mut(STEP).zip(row.chunks_exact(LANES)) {
        step[place..place + LANES].copy_from_slice(four);
    }
    let rest = &row[whole * LANES..];
    if !rest.is_empty() {
        let start = whole * STEP + place;
        panel[start..start + rest.len()].copy_from_slice(rest);
    }
}

/// Scores of `out.len() / 16` queries against a panel: `out[16 q + r]`.
///
/// `queries` are rows of `4 * n_steps` numbers, zero-padded.
pub(crate) fn score_panel(kernel: Kernel, form: Form, panel: &[f32], queries: &[f32], out: &mut [f32]) {
    let steps = panel.len() / STEP;
    // The vector paths read through pointers: these two are what their safety rests on.
    assert_eq!(panel.len(), steps * STEP, "a panel is a whole number of steps");
    assert_eq!(queries.len() * PANEL_ROWS, out.len() * steps * LANES, "one output of 16 rows per query");
    match kernel.0 {
        Path::Scalar => scalar(form, panel, queries, steps, out),
    }
}

fn scalar(form: Form, panel: &[f32], queries: &[f32], steps: usize, out: &mut [f32]) {
    for (query, out) in queries.chunks_exact(steps * LANES).zip(out.chunks_exact_mut(PANEL_ROWS)) {
        for (r, out) in out.iter_mut().enumerate() {
            let place = r % 4 * PANEL_ROWS + r / 4 * LANES;
            let mut sum = [0.0f32; LANES];
            for (q, x) in query.chunks_exact(LANES).zip(panel.chunks_exact(STEP)) {
                for l in 0..LANES {
                    let x = x[place + l];
                    sum[l] = match form {
                        Form::Product => q[l].mul_add(x, sum[l]),
                        Form::MinusSquaredDistance => (q[l] - x).mul_add(q[l] - x, sum[l]),
                    };
                }
            }
            let sum = (sum[0] + sum[2]) + (sum[1] + sum[3]);
            *out = match form {
                Form::Product => sum,
                Form::MinusSquaredDistance => 0.0 - sum,
            };
        }
    }
}
