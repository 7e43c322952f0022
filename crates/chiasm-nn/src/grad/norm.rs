//! Normalisations.

use super::{Real, Var};
use crate::simd;

impl<'t, T: Real> Var<'t, T> {
    /// Each row less its mean and over its deviation, `sqrt(variance + eps)` with the variance over `m`, times `gain` plus `shift`, `[1, m]` both (Ba et al.
    /// 2016).
    pub fn layer_norm(self, gain: Var<'t, T>, shift: Var<'t, T>, eps: f64) -> Var<'t, T> {
        let (x, to) = (self.value(), self.place());
        let [_, m] = x.shape();
        let (g, s) = (gain.value(), shift.value());
        assert_eq!([g.shape(), s.shape()], [[1, m]; 2], "gain and shift of rows of {m}");
        let each = T::of(1.0 / m as f64);
        let deviation = move |row: &[T]| {
            let mean = simd::sum(row) * each;
            let variance = simd::sum_of(row, |x| (x - mean) * (x - mean)) * each;
            (mean, T::of(1.0) / (variance + T::of(eps)).root())
        };
        let y = x.mapped_rows(|_, row| {
            let (mean, by) = deviation(row);
            simd::map(row, |x| (x - mean) * by);
            simd::map_with(row, g.data(), |x, g| x * g);
            simd::map_with(row, s.data(), |x, s| x + s);
        });
        let (to_gain, to_shift) = (gain.place(), shift.place());
        self.tape().custom(&[self, gain, shift], y, move |mut d, sink| {
            sink.add(to_shift, || d.sum_of_rows());
            // The rows without gain and shift, which are quicker made again than kept.
            let normal = x.mapped_rows(|_, row| {
                let (mean, by) = deviation(row);
                simd::map(row, |x| (x - mean) * by);
            });
            sink.add(to_gain, || normal.sum_of_rows_times(&d));
            sink.add(to, || {
                d.for_rows(|i, d| {
                    let (y, (_, by)) = (normal.row(i), deviation(x.row(i)));
                    simd::map_with(d, g.data(), |d, g| d * g);
                    let mean = simd::sum(d) * each;
                    let along = simd::sum_of_products(d, y) * each;
                    simd::map_with(d, y, |d, y| by * (d - mean - y * along));
                });
                d
            });
        })
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
