//! Normalisations.

use std::sync::Arc;

use super::{Array, Real, Var};
use crate::simd;

impl<'t, T: Real> Var<'t, T> {
    /// Each row less its mean and over its deviation, `sqrt(variance + eps)` with the variance over `m`, times `gain` plus `shift`, `[1, m]` both (Ba et al.
    /// 2016).
    pub fn layer_norm(self, gain: Var<'t, T>, shift: Var<'t, T>, eps: f64) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [n, m] = x.shape();
        let each = T::of(1.0 / m as f64);
        let deviation = |row: &[T]| {
            let mean = simd::sum(row) * each;
            let variance = simd::sum_of(row, |x| (x - mean) * (x - mean)) * each;
            (mean, T::of(1.0) / (variance + T::of(eps)).root())
        };
        let mut normal = Array::clone(&x);
        normal.for_rows(|_, row| {
            let (mean, by) = deviation(row);
            simd::map(row, |x| (x - mean) * by);
        });
        let normal = Arc::new(normal);
        let by: Vec<T> = (0..n).map(|i| deviation(x.row(i)).1).collect();
        drop(x);
        let kept = Arc::clone(&normal);
        let standard = self.made(normal, move |d, sink| {
            sink.add(to, || {
                let mut d = d;
                d.for_rows(|i, d| {
                    let y = kept.row(i);
                    let mean = simd::sum(d) * each;
                    let along = simd::sum_of_products(d, y) * each;
                    simd::map_with(d, y, |d, y| by[i] * (d - mean - y * along));
                });
                d
            });
        });
        standard.times_row(gain).add_row(shift)
    }

    /// Each column less its mean and over its deviation, both of these rows, times `gain` plus `shift`, `[1, m]` both: batch normalisation while
    /// learning (Ioffe and Szegedy, ICML 2015). Channels are columns, so rows are all pixels of all pictures.
    pub fn batch_norm(self, gain: Var<'t, T>, shift: Var<'t, T>, eps: f64) -> Var<'t, T> {
        let centred = self.add_row(-self.mean_rows());
        let variance = centred.square().mean_rows();
        let deviation = variance.plus(T::of(eps)).root();
        centred.times_row(gain / deviation).add_row(shift)
    }
}
