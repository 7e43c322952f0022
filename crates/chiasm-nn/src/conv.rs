//! Convolutions over pictures stored height-width-channels.
//!
//! A 1x1 convolution in this layout is a [`crate::Linear`] over pixels; here are the others.

use pulp::Simd;

use crate::activation::Activation;
use crate::linear::Linear;
use crate::weights::{Weights, WeightsError};

/// A picture of numbers, `[height, width, channels]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureMap {
    /// Rows.
    pub height: usize,
    /// Positions per row.
    pub width: usize,
    /// Numbers per position.
    pub channels: usize,
    /// `height * width * channels` numbers.
    pub data: Vec<f32>,
}

impl FeatureMap {
    /// Gives the map a new shape; what numbers it holds then is unspecified.
    pub fn reshape(&mut self, height: usize, width: usize, channels: usize) {
        (self.height, self.width, self.channels) = (height, width, channels);
        self.data.resize(height * width * channels, 0.0);
    }

    /// The mean over all positions, `[channels]`, summed in `f32` from the top left.
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.channels];
        for pixel in self.data.chunks_exact(self.channels) {
            mean.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
        }
        let n = (self.height * self.width) as f32;
        mean.iter_mut().for_each(|v| *v /= n);
        mean
    }
}

/// TensorFlow's SAME padding along one side: the output's length, and the zeros before and after.
///
/// `out = ceil(len / stride)`; the total is what the last window lacks, and its smaller half goes first. So a stride of 2 on
/// an even length pads nothing before and one after, where PyTorch's `padding=1` would pad one before.
pub fn same_padding(len: usize, kernel: usize, stride: usize) -> (usize, usize, usize) {
    let out = len.div_ceil(stride);
    let total = ((out - 1) * stride + kernel).saturating_sub(len);
    (out, total / 2, total - total / 2)
}

/// A square convolution with SAME padding, as one matrix product over unfolded windows.
#[derive(Clone, Debug)]
pub struct Conv2d {
    kernel: usize,
    stride: usize,
    channels: usize,
    product: Linear,
}

impl Conv2d {
    /// Takes `{prefix}.weight`, `[n_out, n_in, kernel, kernel]`, and `{prefix}.bias`, `[n_out]`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        shape: [usize; 4],
        stride: usize,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let [n_out, n_in, kernel, _] = shape;
        let stored = weights.take(&format!("{prefix}.weight"), &shape)?;
        let bias = weights.take(&format!("{prefix}.bias"), &[n_out])?;
        // [out, in, ky, kx] to [out, ky, kx, in], the order in which windows are unfolded.
        let area = kernel * kernel;
        let mut turned = Vec::with_capacity(stored.len());
        for filter in stored.chunks_exact(n_in * area) {
            turned.extend((0..area).flat_map(|tap| (0..n_in).map(move |i| filter[i * area + tap])));
        }
        let product = Linear::new(&turned, bias, area * n_in, activation);
        Ok(Self { kernel, stride, channels: n_in, product })
    }

    /// `x` to `out`, which is reshaped; `windows` is scratch.
    pub fn forward(&self, x: &FeatureMap, out: &mut FeatureMap, windows: &mut Vec<f32>) {
        assert_eq!(x.channels, self.channels, "channels of a convolution");
        let (height, top, _) = same_padding(x.height, self.kernel, self.stride);
        let (width, left, _) = same_padding(x.width, self.kernel, self.stride);
        windows.clear();
        windows.resize(height * width * self.product.n_in(), 0.0);
        for (at, window) in windows.chunks_exact_mut(self.product.n_in()).enumerate() {
            let (oy, ox) = (at / width, at % width);
            // The part of the kernel that lies over the picture; the rest of the window stays zero.
            let (y0, x0) = (oy * self.stride, ox * self.stride);
            let kx_range = left.saturating_sub(x0)..self.kernel.min(x.width + left - x0);
            for ky in top.saturating_sub(y0)..self.kernel.min(x.height + top - y0) {
                let row = (y0 + ky - top) * x.width + x0 + kx_range.start - left;
                let n = kx_range.len() * x.channels;
                let to = (ky * self.kernel + kx_range.start) * x.channels;
                window[to..to + n].copy_from_slice(&x.data[row * x.channels..][..n]);
            }
        }
        (out.height, out.width, out.channels) = (height, width, self.product.n_out());
        self.product.forward(windows, &mut out.data);
    }
}

/// A 3x3 convolution of each channel by itself, with SAME padding.
#[derive(Clone, Debug)]
pub struct Depthwise3x3 {
    stride: usize,
    channels: usize,
    /// `[9, channels]`: tap by tap, so that the channels lie along memory.
    taps: Vec<f32>,
    /// `[channels]`.
    bias: Vec<f32>,
    activation: Activation,
}

impl Depthwise3x3 {
    /// Takes `{prefix}.weight`, `[channels, 1, 3, 3]`, and `{prefix}.bias`, `[channels]`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        channels: usize,
        stride: usize,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let stored = weights.take(&format!("{prefix}.weight"), &[channels, 1, 3, 3])?;
        let bias = weights.take(&format!("{prefix}.bias"), &[channels])?;
        let mut taps = vec![0.0; stored.len()];
        for (c, filter) in stored.chunks_exact(9).enumerate() {
            filter.iter().enumerate().for_each(|(tap, v)| taps[tap * channels + c] = *v);
        }
        Ok(Self { stride, channels, taps, bias, activation })
    }

    /// `x` to `out`, which is reshaped.
    pub fn forward(&self, x: &FeatureMap, out: &mut FeatureMap) {
        assert_eq!(x.channels, self.channels, "channels of a depthwise convolution");
        let (height, top, _) = same_padding(x.height, 3, self.stride);
        let (width, left, _) = same_padding(x.width, 3, self.stride);
        out.reshape(height, width, self.channels);
        pulp::Arch::new().dispatch(Pixels { conv: self, x, out, top, left });
    }
}

/// The positions of the output, one after the other, in vectors of whatever width the machine has.
struct Pixels<'a> {
    conv: &'a Depthwise3x3,
    x: &'a FeatureMap,
    out: &'a mut FeatureMap,
    top: usize,
    left: usize,
}

impl pulp::WithSimd for Pixels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, x, out, top, left } = self;
        let (n, width) = (conv.channels, out.width);
        let (low, high) = match conv.activation {
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
            // No clamp, or a function that is applied afterwards.
            Activation::None
            | Activation::Gelu
            | Activation::GeluTanh
            | Activation::QuickGelu
            | Activation::Silu
            | Activation::Tanh => (f32::NEG_INFINITY, f32::INFINITY),
        };
        let (lows, highs) = (simd.splat_f32s(low), simd.splat_f32s(high));
        let (bias, bias_rest) = S::as_simd_f32s(&conv.bias);
        for (at, pixel) in out.data.chunks_exact_mut(n).enumerate() {
            let (y0, x0) = (at / width * conv.stride, at % width * conv.stride);
            // The taps that lie over the picture, in order: their weights and the pixels under them.
            let (mut taps, mut under): ([&[f32]; 9], [&[f32]; 9]) = ([&[]; 9], [&[]; 9]);
            let mut n_over = 0;
            for ky in top.saturating_sub(y0)..3.min(x.height + top - y0) {
                for kx in left.saturating_sub(x0)..3.min(x.width + left - x0) {
                    let position = (y0 + ky - top) * x.width + x0 + kx - left;
                    taps[n_over] = &conv.taps[(ky * 3 + kx) * n..][..n];
                    under[n_over] = &x.data[position * n..][..n];
                    n_over += 1;
                }
            }
            let (pixel, pixel_rest) = S::as_mut_simd_f32s(pixel);
            let (taps_vectors, under_vectors) = (taps.map(|v| S::as_simd_f32s(v).0), under.map(|v| S::as_simd_f32s(v).0));
            for (c, out) in pixel.iter_mut().enumerate() {
                let mut sum = bias[c];
                for (w, x) in taps_vectors[..n_over].iter().zip(&under_vectors[..n_over]) {
                    sum = simd.mul_add_f32s(w[c], x[c], sum);
                }
                *out = simd.min_f32s(simd.max_f32s(sum, lows), highs);
            }
            let done = n - pixel_rest.len();
            for (c, out) in pixel_rest.iter_mut().enumerate() {
                let mut sum = bias_rest[c];
                for (w, x) in taps[..n_over].iter().zip(&under[..n_over]) {
                    sum += w[done + c] * x[done + c];
                }
                *out = sum.max(low).min(high);
            }
        }
        if !matches!(conv.activation, Activation::None | Activation::Relu | Activation::Relu6) {
            conv.activation.after_bias(&mut out.data, &vec![0.0; n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, TensorView, serialize};
    use std::path::Path;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// The convolution by its definition, in f64: `weight` is `[out, in, 3, 3]`, or `[channels, 1, 3, 3]` when depthwise.
    fn written_out(x: &FeatureMap, weight: &[f32], bias: &[f32], stride: usize, depthwise: bool) -> Vec<f64> {
        let (height, top, _) = same_padding(x.height, 3, stride);
        let (width, left, _) = same_padding(x.width, 3, stride);
        let n_in = if depthwise { 1 } else { x.channels };
        let mut out = Vec::new();
        for (oy, ox, o) in (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..bias.len()).map(move |o| (y, x, o)))) {
            let mut sum = f64::from(bias[o]);
            for (i, ky, kx) in (0..n_in).flat_map(|i| (0..9).map(move |tap| (i, tap / 3, tap % 3))) {
                let (y, column) = ((oy * stride + ky).wrapping_sub(top), (ox * stride + kx).wrapping_sub(left));
                if y < x.height && column < x.width {
                    let channel = if depthwise { o } else { i };
                    let v = x.data[(y * x.width + column) * x.channels + channel];
                    sum += f64::from(v) * f64::from(weight[(o * n_in + i) * 9 + ky * 3 + kx]);
                }
            }
            out.push(sum);
        }
        out
    }

    fn weights(shape: [usize; 4]) -> (Weights, Vec<f32>, Vec<f32>) {
        let (w, b) = (numbers(shape.iter().product(), 11), numbers(shape[0], 12));
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (w_bytes, b_bytes) = (bytes(&w), bytes(&b));
        let file = serialize(
            [
                ("c.weight", TensorView::new(Dtype::F32, shape.to_vec(), &w_bytes).unwrap()),
                ("c.bias", TensorView::new(Dtype::F32, vec![shape[0]], &b_bytes).unwrap()),
            ],
            None,
        )
        .unwrap();
        (Weights::from_bytes(Path::new("test"), file).unwrap(), w, b)
    }

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(same_padding(224, 3, 2), (112, 0, 1));
        assert_eq!(same_padding(7, 3, 2), (4, 1, 1));
        assert_eq!(same_padding(7, 3, 1), (7, 1, 1));
        assert_eq!(same_padding(1, 3, 2), (1, 1, 1));
        assert_eq!(same_padding(9, 1, 2), (5, 0, 0));
    }

    #[test]
    fn convolutions_equal_their_definition() {
        // Sizes even, odd, and smaller than the kernel; channels around the lanes.
        for (height, width, channels) in [(8, 6, 16), (7, 5, 35), (1, 2, 3), (2, 1, 1)] {
            for stride in [1, 2] {
                let x = FeatureMap { height, width, channels, data: numbers(height * width * channels, 13) };
                let mut out = FeatureMap::default();
                let close = |got: &[f32], exact: Vec<f64>| {
                    assert_eq!(got.len(), exact.len());
                    got.iter().zip(exact).for_each(|(g, e)| assert!((f64::from(*g) - e).abs() < 2e-5, "{g} is not {e}"));
                };

                let (mut file, w, b) = weights([5, channels, 3, 3]);
                let conv = Conv2d::load(&mut file, "c", [5, channels, 3, 3], stride, Activation::None).unwrap();
                conv.forward(&x, &mut out, &mut Vec::new());
                close(&out.data, written_out(&x, &w, &b, stride, false));

                let (mut file, w, b) = weights([channels, 1, 3, 3]);
                let depthwise = Depthwise3x3::load(&mut file, "c", channels, stride, Activation::None).unwrap();
                depthwise.forward(&x, &mut out);
                close(&out.data, written_out(&x, &w, &b, stride, true));
            }
        }
    }

    #[test]
    fn mean_over_positions() {
        let x = FeatureMap { height: 1, width: 2, channels: 2, data: vec![1.0, 10.0, 3.0, 30.0] };
        assert_eq!(x.mean(), [2.0, 20.0]);
    }
}
