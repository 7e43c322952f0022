//! Convolutions of each channel by itself.

use pulp::Simd;

use crate::activation::Activation;
use crate::conv::Filters;
use crate::map::{FeatureMap, Slide, Window};
use crate::weights::{Weights, WeightsError};

/// Neighbouring positions that are computed together, so that a weight is fetched once for all of them.
const TOGETHER: usize = 4;

/// A convolution of each channel by itself, the channels along memory.
#[derive(Clone, Debug)]
pub struct Depthwise {
    window: Window,
    /// `[rows, columns, channels]` of the window: tap by tap, so that the channels lie along memory.
    taps: Vec<f32>,
    /// `[channels]`.
    bias: Vec<f32>,
    activation: Activation,
}

impl Depthwise {
    /// Takes `[channels, 1, rows, columns]` and what else `filters` name.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        filters: Filters<'_>,
        channels: usize,
        window: Window,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let [rows, columns] = window.kernel;
        let (stored, bias) = filters.take(weights, &[channels, 1, rows, columns])?;
        Ok(Self::new(&stored, bias, window, activation))
    }

    /// From weights stored as `[channels, 1, rows, columns]`, where `channels` is the length of `bias`.
    pub fn new(stored: &[f32], bias: Vec<f32>, window: Window, activation: Activation) -> Self {
        let (channels, area) = (bias.len(), window.kernel[0] * window.kernel[1]);
        assert_eq!(stored.len(), channels * area, "weights of a depthwise convolution");
        let mut taps = vec![0.0; stored.len()];
        for (c, filter) in stored.chunks_exact(area).enumerate() {
            filter.iter().enumerate().for_each(|(tap, v)| taps[tap * channels + c] = *v);
        }
        Self { window, taps, bias, activation }
    }

    /// Channels going in and coming out.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// `x` to `out`, which is reshaped.
    pub fn forward(&self, x: &FeatureMap, out: &mut FeatureMap) {
        assert_eq!(x.channels, self.bias.len(), "channels of a depthwise convolution");
        let slide = self.window.over([x.height, x.width]);
        let [height, width] = slide.places;
        out.reshape(height, width, x.channels);
        pulp::Arch::new().dispatch(Rows { conv: self, x, out, slide });
    }
}

/// The rows of the output, one after the other, in vectors of whatever width the machine has.
struct Rows<'a> {
    conv: &'a Depthwise,
    x: &'a FeatureMap,
    out: &'a mut FeatureMap,
    slide: Slide,
}

impl pulp::WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, x, out, slide } = self;
        let (n, width) = (x.channels, out.width);
        let (low, high) = if conv.activation == Activation::Relu6 {
            (0.0, 6.0)
        } else if conv.activation == Activation::Relu {
            (0.0, f32::INFINITY)
        } else {
            // No clamp, or a function that is applied afterwards.
            (f32::NEG_INFINITY, f32::INFINITY)
        };
        let clamp = (simd.splat_f32s(low), simd.splat_f32s(high));
        let clamped = low == 0.0 || conv.activation == Activation::None;
        let nothing = if clamped { Vec::new() } else { vec![0.0; n] };
        let whole = conv.window.kernel[1];
        for (oy, row) in out.data.chunks_exact_mut(width * n).enumerate() {
            let (rows, y) = slide.part(0, oy);
            let mut ox = 0;
            while ox < width {
                let (columns, left) = slide.part(1, ox);
                let last = ox + TOGETHER - 1;
                let inside = columns.len() == whole && last < width && slide.part(1, last).0.len() == whole;
                let under = Under { conv, x, rows: rows.clone(), columns, at: (y * x.width + left) * n };
                if inside {
                    under.sums::<S, TOGETHER>(simd, clamp, &mut row[ox * n..][..TOGETHER * n]);
                    ox += TOGETHER;
                } else {
                    under.sums::<S, 1>(simd, clamp, &mut row[ox * n..][..n]);
                    ox += 1;
                }
            }
            if !clamped {
                conv.activation.after_bias(row, &nothing);
            }
        }
    }
}

/// The part of the window that lies over the picture, and where in the picture its first number stands.
struct Under<'a> {
    conv: &'a Depthwise,
    x: &'a FeatureMap,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    at: usize,
}

impl Under<'_> {
    /// The outputs of `P` neighbouring positions. Each is the bias and then the taps that lie over the picture, in order: the same
    /// to the last bit however many are computed together, and for a channel at the end as for one in a whole vector.
    #[inline(always)]
    fn sums<S: Simd, const P: usize>(&self, simd: S, clamp: (S::f32s, S::f32s), out: &mut [f32]) {
        let n = self.x.channels;
        let (lanes, rest) = (S::F32_LANES, n % S::F32_LANES);
        let mut c = 0;
        // Several sums at a time, since each waits for the one before: of many positions, or of many channels of one.
        while P == 1 && c + 4 * lanes <= n {
            self.vectors::<S, P, 4>(simd, clamp, c, out);
            c += 4 * lanes;
        }
        while c + 2 * lanes <= n {
            self.vectors::<S, P, 2>(simd, clamp, c, out);
            c += 2 * lanes;
        }
        if c + lanes <= n {
            self.vectors::<S, P, 1>(simd, clamp, c, out);
            c += lanes;
        }
        if rest > 0 {
            let sums: [[_; 1]; P] = self.taps(simd, c, |numbers, at| [simd.partial_load_f32s(&numbers[at..][..rest])]);
            for (p, [sum]) in sums.into_iter().enumerate() {
                simd.partial_store_f32s(&mut out[p * n + c..][..rest], simd.min_f32s(simd.max_f32s(sum, clamp.0), clamp.1));
            }
        }
    }

    #[inline(always)]
    fn vectors<S: Simd, const P: usize, const V: usize>(
        &self,
        simd: S,
        (low, high): (S::f32s, S::f32s),
        c: usize,
        out: &mut [f32],
    ) {
        let n = self.x.channels;
        let sums: [[_; V]; P] = self.taps(simd, c, |numbers, at| {
            let vectors = S::as_simd_f32s(&numbers[at..][..V * S::F32_LANES]).0;
            std::array::from_fn(
                #[inline(always)]
                |i| vectors[i],
            )
        });
        for (p, sum) in sums.into_iter().enumerate() {
            let out = S::as_mut_simd_f32s(&mut out[p * n + c..][..V * S::F32_LANES]).0;
            for (out, sum) in out.iter_mut().zip(sum) {
                *out = simd.min_f32s(simd.max_f32s(sum, low), high);
            }
        }
    }

    /// The sums of the channels from `c` on: some vectors of them, which `load` takes from a place among some numbers.
    #[inline(always)]
    fn taps<S: Simd, const P: usize, const V: usize>(
        &self,
        simd: S,
        c: usize,
        load: impl Fn(&[f32], usize) -> [S::f32s; V],
    ) -> [[S::f32s; V]; P] {
        let (conv, x, n) = (self.conv, self.x, self.x.channels);
        let step = conv.window.stride[1] * n;
        let mut sums = [load(&conv.bias, c); P];
        for (i, ky) in self.rows.clone().enumerate() {
            let tap_at = (ky * conv.window.kernel[1] + self.columns.start) * n + c;
            let pixel_at = self.at + i * x.width * n + c;
            for kx in 0..self.columns.len() {
                let tap = load(&conv.taps, tap_at + kx * n);
                for (p, sums) in sums.iter_mut().enumerate() {
                    let pixel = load(&x.data, pixel_at + kx * n + p * step);
                    for v in 0..V {
                        sums[v] = simd.mul_add_f32s(tap[v], pixel[v], sums[v]);
                    }
                }
            }
        }
        sums
    }
}
