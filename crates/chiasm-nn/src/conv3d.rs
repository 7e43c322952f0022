//! Convolutions over videos stored time-height-width-channels.

use crate::activation::Activation;
use crate::conv::Filters;
use crate::linear::Linear;
use crate::weights::{Weights, WeightsError};

/// Windows are unfolded a block at a time, of about so many numbers (2 MB): they stay in the cache, however large the video.
const BLOCK_NUMBERS: usize = 1 << 19;

/// Most windows per block: as many rows as a [`Linear`] takes at once.
const BLOCK_WINDOWS: usize = 256;

/// A video of numbers, `[frames, height, width, channels]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureVolume {
    /// Frames, rows of each, positions per row.
    pub size: [usize; 3],
    /// Numbers per position.
    pub channels: usize,
    /// As many numbers as that makes.
    pub data: Vec<f32>,
}

/// What a convolution over videos computes. Every triple is of time, height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dShape {
    /// Channels of what comes in.
    pub n_in: usize,
    /// Channels of what goes out.
    pub n_out: usize,
    /// Size of the window; none may be 0.
    pub kernel: [usize; 3],
    /// How far it goes at a time; none may be 0.
    pub stride: [usize; 3],
    /// Zeros on both sides.
    pub padding: [usize; 3],
}

impl Conv3dShape {
    /// How often the window fits along each axis of a video of this size; none where it does not fit even once. Descriptions of models
    /// are checked by this before anything slides.
    pub fn places(&self, size: [usize; 3]) -> Option<[usize; 3]> {
        let mut places = [0; 3];
        for (axis, places) in places.iter_mut().enumerate() {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            if size[axis] == 0 || kernel == 0 || stride == 0 {
                return None;
            }
            let padded = self.padding[axis].checked_mul(2)?.checked_add(size[axis])?;
            *places = padded.checked_sub(kernel)? / stride + 1;
        }
        Some(places)
    }
}

/// A convolution over time, height and width, as matrix products over unfolded windows.
#[derive(Clone, Debug)]
pub struct Conv3d {
    shape: Conv3dShape,
    product: Linear,
}

impl Conv3d {
    /// Takes `[n_out, n_in, frames, rows, columns]` and what else `filters` name.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        filters: Filters<'_>,
        shape: Conv3dShape,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let [t, y, x] = shape.kernel;
        let (weight, bias) = filters.take(weights, &[shape.n_out, shape.n_in, t, y, x])?;
        Ok(Self::new(&weight, bias, shape, activation))
    }

    /// From weights stored as `[n_out, n_in, frames, rows, columns]` and a bias for every output.
    pub fn new(stored: &[f32], bias: Vec<f32>, shape: Conv3dShape, activation: Activation) -> Self {
        let taps: usize = shape.kernel.iter().product();
        assert_eq!(stored.len(), shape.n_out * shape.n_in * taps, "weights of a convolution");
        assert_eq!(bias.len(), shape.n_out, "bias of a convolution");
        // [out, in, taps] to [out, taps, in], the order in which windows are unfolded.
        let mut turned = Vec::with_capacity(stored.len());
        for filter in stored.chunks_exact(shape.n_in * taps) {
            turned.extend((0..taps).flat_map(|tap| (0..shape.n_in).map(move |i| filter[i * taps + tap])));
        }
        Self { shape, product: Linear::new(&turned, bias, taps * shape.n_in, activation) }
    }

    /// `x` to `out`, which is reshaped; `windows` is scratch.
    pub fn forward(&self, x: &FeatureVolume, out: &mut FeatureVolume, windows: &mut Vec<f32>) {
        assert_eq!(x.channels, self.shape.n_in, "channels of a convolution");
        let Some(places) = self.shape.places(x.size) else {
            panic!("a window of {:?} does not fit a video of {:?}", self.shape.kernel, x.size);
        };
        let (n_out, per_window) = (self.shape.n_out, self.product.n_in());
        (out.size, out.channels) = (places, n_out);
        out.data.resize(places.iter().product::<usize>() * n_out, 0.0);
        let at_a_time = (BLOCK_NUMBERS / per_window).clamp(2, BLOCK_WINDOWS);
        for (block, out) in out.data.chunks_mut(at_a_time * n_out).enumerate() {
            let n = out.len() / n_out;
            windows.clear();
            windows.resize(n * per_window, 0.0);
            for (i, window) in windows.chunks_exact_mut(per_window).enumerate() {
                let at = block * at_a_time + i;
                self.unfold(x, [at / (places[1] * places[2]), at / places[2] % places[1], at % places[2]], window);
            }
            self.product.forward_into(windows, out);
        }
    }

    /// Copies what lies under the window at a place; what lies beside the video stays zero.
    fn unfold(&self, x: &FeatureVolume, place: [usize; 3], window: &mut [f32]) {
        let Conv3dShape { kernel, stride, padding, .. } = self.shape;
        // Along each axis: where the window begins, counted from the first zero, and which of its taps lie over the video.
        let start: [usize; 3] = std::array::from_fn(|axis| place[axis] * stride[axis]);
        let taps = |axis: usize| {
            let (zeros, start) = (padding[axis], start[axis]);
            zeros.saturating_sub(start)..kernel[axis].min((x.size[axis] + zeros).saturating_sub(start))
        };
        let across = taps(2);
        if across.is_empty() {
            return;
        }
        let n = across.len() * x.channels;
        for t in taps(0) {
            for y in taps(1) {
                let row = (start[0] + t - padding[0]) * x.size[1] + start[1] + y - padding[1];
                let from = (row * x.size[2] + start[2] + across.start - padding[2]) * x.channels;
                let to = ((t * kernel[1] + y) * kernel[2] + across.start) * x.channels;
                window[to..to + n].copy_from_slice(&x.data[from..from + n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::numbers;

    /// The sum of the definition, one output at a time.
    fn written_out(x: &FeatureVolume, weight: &[f32], bias: &[f32], shape: Conv3dShape) -> Vec<f64> {
        let Conv3dShape { n_in, n_out, kernel, stride, padding } = shape;
        let places = shape.places(x.size).unwrap();
        let mut out = Vec::new();
        for at in 0..places.iter().product::<usize>() {
            let place = [at / (places[1] * places[2]), at / places[2] % places[1], at % places[2]];
            for o in 0..n_out {
                let mut sum = f64::from(bias[o]);
                for tap in 0..kernel.iter().product::<usize>() {
                    let tap_at = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
                    let seen: Vec<Option<usize>> = (0..3)
                        .map(|a| (place[a] * stride[a] + tap_at[a]).checked_sub(padding[a]).filter(|i| *i < x.size[a]))
                        .collect();
                    let [Some(t), Some(y), Some(z)] = seen[..] else { continue };
                    for i in 0..n_in {
                        let v = x.data[((t * x.size[1] + y) * x.size[2] + z) * n_in + i];
                        let w = weight[(o * n_in + i) * kernel.iter().product::<usize>() + tap];
                        sum += f64::from(v) * f64::from(w);
                    }
                }
                out.push(sum);
            }
        }
        out
    }

    #[test]
    fn equals_the_sum_written_out() {
        for (size, kernel, stride, padding) in [
            ([4, 6, 5], [3, 3, 3], [1, 1, 1], [1, 1, 1]),
            ([5, 9, 8], [3, 7, 7], [1, 2, 2], [1, 3, 3]),
            ([3, 4, 5], [1, 1, 1], [2, 2, 2], [0, 0, 0]),
            ([1, 1, 1], [3, 3, 3], [2, 2, 2], [1, 1, 1]),
            ([6, 5, 7], [2, 3, 1], [3, 1, 2], [0, 2, 1]),
            // Some windows lie beside the video altogether.
            ([2, 2, 2], [1, 1, 1], [1, 1, 1], [2, 0, 1]),
        ] {
            let shape = Conv3dShape { n_in: 3, n_out: 4, kernel, stride, padding };
            let x = FeatureVolume { size, channels: 3, data: numbers(3 * size.iter().product::<usize>(), 1) };
            let (weight, bias) = (numbers(12 * kernel.iter().product::<usize>(), 2), numbers(4, 3));
            let conv = Conv3d::new(&weight, bias.clone(), shape, Activation::None);
            let (mut out, mut windows) = (FeatureVolume::default(), Vec::new());
            conv.forward(&x, &mut out, &mut windows);
            let exact = written_out(&x, &weight, &bias, shape);
            assert_eq!((Some(out.size), out.data.len()), (shape.places(size), exact.len()));
            // Sums of up to 441 products of size one.
            assert!(out.data.iter().zip(&exact).all(|(a, b)| (f64::from(*a) - b).abs() < 2e-5), "{size:?} under {kernel:?}");
        }
    }

    #[test]
    fn a_large_video_is_unfolded_in_blocks() {
        // More windows than a block holds, the last block a lone one: 257 windows of 27.
        let shape = Conv3dShape { n_in: 1, n_out: 2, kernel: [3; 3], stride: [1; 3], padding: [1; 3] };
        let x = FeatureVolume { size: [1, 1, 257], channels: 1, data: numbers(257, 4) };
        let (weight, bias) = (numbers(54, 5), numbers(2, 6));
        let mut out = FeatureVolume::default();
        Conv3d::new(&weight, bias.clone(), shape, Activation::Relu).forward(&x, &mut out, &mut Vec::new());
        let exact = written_out(&x, &weight, &bias, shape);
        assert!(out.data.iter().zip(&exact).all(|(a, b)| (f64::from(*a) - b.max(0.0)).abs() < 2e-6));
    }

    #[test]
    fn windows_that_fit_nowhere_are_known_beforehand() {
        let shape = |kernel, stride, padding| Conv3dShape { n_in: 1, n_out: 1, kernel, stride, padding };
        assert_eq!(shape([3; 3], [1; 3], [0; 3]).places([2, 9, 9]), None);
        assert_eq!(shape([3; 3], [0, 1, 1], [1; 3]).places([9; 3]), None);
        assert_eq!(shape([3; 3], [1; 3], [usize::MAX; 3]).places([9; 3]), None);
        assert_eq!(shape([3; 3], [1; 3], [1; 3]).places([0, 9, 9]), None);
        assert_eq!(shape([3; 3], [2; 3], [1; 3]).places([4, 5, 1]), Some([2, 3, 1]));
    }
}
