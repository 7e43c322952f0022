//! Attention over sequences that stand one under the other.

use std::sync::Arc;

use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::{Array, Real, Var};
use crate::simd::{self, widest};

/// What a row of a sequence sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// The whole sequence.
    All,
    /// Itself and what stands before it.
    Past,
}

/// One sequence: where its queries and its keys begin, and how many there are.
#[derive(Clone, Copy)]
struct Run {
    query: usize,
    n: usize,
    key: usize,
    m: usize,
}

impl<'t, T: Real> Var<'t, T> {
    /// Scaled dot-product attention with several heads (Vaswani et al. 2017): this matrix holds queries `[n, dim]`, of sequences of `lengths` rows; keys and
    /// values `[m, dim]` are of sequences of `key_lengths` rows. Head `h` is the `h`th of `n_heads` equal parts of the columns. Sequences do not see each
    /// other. A query with no keys gets zeros.
    ///
    /// # Panics
    /// If the sizes do not fit, or queries see the past of keys of another length.
    pub fn attend(
        self,
        keys: Var<'t, T>,
        values: Var<'t, T>,
        lengths: &[usize],
        key_lengths: &[usize],
        n_heads: usize,
        sees: Sees,
    ) -> Var<'t, T> {
        let (q, k, v) = (self.value(), keys.value(), values.value());
        let dim = q.n_cols();
        assert!(n_heads > 0 && dim.is_multiple_of(n_heads), "{dim} columns in {n_heads} equal heads");
        assert_eq!([k.n_cols(), v.n_cols()], [dim, dim], "columns of keys and values");
        assert_eq!(lengths.len(), key_lengths.len(), "sequences of queries and of keys");
        assert_eq!(lengths.iter().sum::<usize>(), q.n_rows(), "rows of all sequences of queries");
        assert_eq!(
            [key_lengths.iter().sum::<usize>(); 2],
            [k.n_rows(), v.n_rows()],
            "rows of all sequences of keys and of values"
        );
        assert!(sees == Sees::All || lengths == key_lengths, "the past is that of the sequence itself");
        let (mut query, mut key) = (0, 0);
        let mut runs = Vec::with_capacity(lengths.len());
        for (n, m) in lengths.iter().zip(key_lengths) {
            runs.push(Run { query, n: *n, key, m: *m });
            (query, key) = (query + n, key + m);
        }
        let heads = Heads { dim, width: dim / n_heads, scale: T::of(1.0 / ((dim / n_heads) as f64).sqrt()), sees };
        let (y, weights) = heads.forward(&runs, [&q, &k, &v]);
        let places = [self.place(), keys.place(), values.place()];
        self.tape.custom(&[self, keys, values], y, move |d, sink| {
            let gradients = heads.backward(&runs, [&q, &k, &v], &weights, &d);
            places.into_iter().zip(gradients).for_each(|(place, gradient)| sink.add(place, || gradient));
        })
    }
}

#[derive(Clone, Copy)]
struct Heads<T> {
    dim: usize,
    width: usize,
    scale: T,
    sees: Sees,
}

impl<T: Real> Heads<T> {
    fn n(&self) -> usize {
        self.dim / self.width
    }

    /// Columns of head `h` of some rows.
    fn part<'a>(&self, of: &'a Array<T>, first: usize, n: usize, h: usize) -> MatRef<'a, T> {
        let rows = &of.data()[first * self.dim..(first + n) * self.dim];
        MatRef::from_row_major_slice(rows, n, self.dim).subcols(h * self.width, self.width)
    }

    /// The rows of each sequence, of so many.
    fn parts<'a>(&self, of: &'a mut Array<T>, lengths: impl Iterator<Item = usize>) -> Vec<&'a mut [T]> {
        let mut rest = of.data_mut();
        let part = |n: usize| rest.split_off_mut(..n * self.dim).expect("rows of a sequence");
        lengths.map(part).collect()
    }

    /// The output, and the attention of every head of every sequence, `[heads * n, m]` for each.
    fn forward(&self, runs: &[Run], [q, k, v]: [&Array<T>; 3]) -> (Array<T>, Arc<Vec<Array<T>>>) {
        let mut all = Array::zeros(q.n_rows(), self.dim);
        let parts = self.parts(&mut all, runs.iter().map(|run| run.n));
        let weights = parts
            .into_par_iter()
            .zip(runs)
            .map(|(out, run)| {
                let Run { n, m, .. } = *run;
                let mut weights = Array::zeros(self.n() * n, m);
                if n == 0 || m == 0 {
                    return weights;
                }
                for h in 0..self.n() {
                    let scores = &mut weights.data_mut()[h * n * m..(h + 1) * n * m];
                    let to = MatMut::from_row_major_slice_mut(&mut *scores, n, m);
                    multiply(
                        to,
                        Accum::Replace,
                        self.part(q, run.query, n, h),
                        self.part(k, run.key, m, h).transpose(),
                        self.scale,
                    );
                    for (i, row) in scores.chunks_exact_mut(m).enumerate() {
                        let seen = if self.sees == Sees::Past { i + 1 } else { m };
                        row[seen..].fill(T::default());
                        widest(Soften { row: &mut row[..seen] });
                    }
                    let weights = MatRef::from_row_major_slice(&*scores, n, m);
                    let to = MatMut::from_row_major_slice_mut(&mut *out, n, self.dim).subcols_mut(h * self.width, self.width);
                    multiply(to, Accum::Replace, weights, self.part(v, run.key, m, h), T::of(1.0));
                }
                weights
            })
            .collect();
        (all, Arc::new(weights))
    }

    /// Gradients of queries, keys and values.
    fn backward(&self, runs: &[Run], [q, k, v]: [&Array<T>; 3], weights: &[Array<T>], d: &Array<T>) -> [Array<T>; 3] {
        let mut all = [q, k, v].map(|of| Array::zeros(of.n_rows(), self.dim));
        let [of_q, of_k, of_v] = &mut all;
        let of_q = self.parts(of_q, runs.iter().map(|run| run.n));
        let [of_k, of_v] = [of_k, of_v].map(|of| self.parts(of, runs.iter().map(|run| run.m)));
        of_q.into_par_iter().zip(of_k).zip(of_v).zip(runs).zip(weights).for_each_init(
            Vec::new,
            |ds, ((((dq, dk), dv), run), weights)| {
                let Run { n, m, .. } = *run;
                if n == 0 || m == 0 {
                    return;
                }
                ds.resize(n * m, T::default());
                for h in 0..self.n() {
                    let weights = &weights.data()[h * n * m..(h + 1) * n * m];
                    let p = MatRef::from_row_major_slice(weights, n, m);
                    let of_out = self.part(d, run.query, n, h);
                    let head = |to: &mut [T], rows: usize, left: MatRef<'_, T>, right: MatRef<'_, T>, scale: T| {
                        let to = MatMut::from_row_major_slice_mut(to, rows, self.dim).subcols_mut(h * self.width, self.width);
                        multiply(to, Accum::Replace, left, right, scale);
                    };
                    head(dv, m, p.transpose(), of_out, T::of(1.0));
                    let to = MatMut::from_row_major_slice_mut(&mut *ds, n, m);
                    multiply(to, Accum::Replace, of_out, self.part(v, run.key, m, h).transpose(), T::of(1.0));
                    for (ds, p) in ds.chunks_exact_mut(m).zip(weights.chunks_exact(m)) {
                        widest(Harden { ds, p });
                    }
                    let ds = MatRef::from_row_major_slice(&*ds, n, m);
                    head(dq, n, ds, self.part(k, run.key, m, h), self.scale);
                    head(dk, m, ds.transpose(), self.part(q, run.query, n, h), self.scale);
                }
            },
        );
        all
    }
}

fn multiply<T: Real>(to: MatMut<'_, T>, accum: Accum, a: MatRef<'_, T>, b: MatRef<'_, T>, scale: T) {
    faer::linalg::matmul::matmul(to, accum, a, b, scale, Par::Seq);
    super::array::settle();
}

/// Scores of a row to probabilities.
struct Soften<'a, T> {
    row: &'a mut [T],
}

impl<T: Real> pulp::NullaryFnOnce for Soften<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let by = T::of(1.0) / super::reduce::exponentials(self.row);
        simd::map(self.row, |x| x * by);
    }
}

/// Gradients of probabilities to those of scores.
struct Harden<'a, T> {
    ds: &'a mut [T],
    p: &'a [T],
}

impl<T: Real> pulp::NullaryFnOnce for Harden<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let along = simd::sum_of_products(self.ds, self.p);
        simd::map_with(self.ds, self.p, |d, p| p * (d - along));
    }
}
