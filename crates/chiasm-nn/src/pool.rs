//! Layers that look at many positions without weights of their own, and what stands on them.

use pulp::NullaryFnOnce;

use crate::activation::{Activation, sigmoid};
use crate::linear::Linear;
use crate::map::{FeatureMap, Window};
use crate::simd::widest;
use crate::weights::{Weights, WeightsError};

/// What becomes of the positions under a window, channel by channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest of those in the picture.
    Max,
    /// The mean of those in the picture.
    Mean,
    /// The mean over the whole window, in which padding counts as zeros: what PyTorch does unless it is told otherwise.
    MeanOfWindow,
}

/// A window that makes one position of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What becomes of them.
    pub pooling: Pooling,
    /// The window.
    pub window: Window,
}

impl Pool {
    /// `x` to `out`, which is reshaped.
    pub fn forward(&self, x: &FeatureMap, out: &mut FeatureMap) {
        widest(Positions { pool: *self, x, out });
    }
}

struct Positions<'a> {
    pool: Pool,
    x: &'a FeatureMap,
    out: &'a mut FeatureMap,
}

impl NullaryFnOnce for Positions<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { pool, x, out } = self;
        let slide = pool.window.over([x.height, x.width]);
        let [height, width] = slide.places;
        out.reshape(height, width, x.channels);
        let n = x.channels;
        for (at, pixel) in out.data.chunks_exact_mut(n).enumerate() {
            let ((rows, y), (columns, left)) = (slide.part(0, at / width), slide.part(1, at % width));
            let n_seen = rows.len() * columns.len();
            pixel.fill(if pool.pooling == Pooling::Max && n_seen > 0 { f32::NEG_INFINITY } else { 0.0 });
            for row in (0..rows.len()).map(|i| (y + i) * x.width + left) {
                for column in 0..columns.len() {
                    let seen = &x.data[(row + column) * n..][..n];
                    if pool.pooling == Pooling::Max {
                        pixel.iter_mut().zip(seen).for_each(|(max, v)| *max = if *v > *max { *v } else { *max });
                    } else {
                        pixel.iter_mut().zip(seen).for_each(|(sum, v)| *sum += v);
                    }
                }
            }
            let count = match pool.pooling {
                Pooling::Max => continue,
                Pooling::Mean => n_seen.max(1),
                Pooling::MeanOfWindow => pool.window.kernel[0] * pool.window.kernel[1],
            };
            pixel.iter_mut().for_each(|v| *v /= count as f32);
        }
    }
}

/// Squeeze and excitation (Hu, Shen and Sun, CVPR 2018): each channel scaled by a number between 0 and 1, which two dense layers make
/// of the means of all channels.
#[derive(Clone, Debug)]
pub struct SqueezeExcite {
    reduce: Linear,
    expand: Linear,
}

impl SqueezeExcite {
    /// Takes weights and biases of two 1x1 convolutions by their names: from `channels` to `squeezed`, after which `activation`
    /// stands, and back, after which a sigmoid stands.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        [reduce, expand]: [&str; 2],
        [channels, squeezed]: [usize; 2],
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        Ok(Self {
            reduce: Linear::load_pointwise(weights, reduce, channels, squeezed, activation)?,
            expand: Linear::load_pointwise(weights, expand, squeezed, channels, Activation::None)?,
        })
    }

    /// Scales the channels of `x`, in place.
    pub fn forward(&self, x: &mut FeatureMap) {
        let (mut squeezed, mut gates) = (Vec::new(), Vec::new());
        self.reduce.forward(&x.mean(), &mut squeezed);
        self.expand.forward(&squeezed, &mut gates);
        sigmoid(&mut gates);
        for pixel in x.data.chunks_exact_mut(x.channels) {
            pixel.iter_mut().zip(&gates).for_each(|(v, gate)| *v *= gate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::checkpoint;
    use crate::map::Padding;

    fn picture(height: usize, width: usize, channels: usize) -> FeatureMap {
        let mut state = 3u32;
        let number = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        FeatureMap { height, width, channels, data: (0..height * width * channels).map(number).collect() }
    }

    #[test]
    fn pooling_equals_its_definition() {
        for (height, width, kernel, stride, pad) in [(8, 7, 3, 2, 1), (6, 6, 2, 2, 0), (5, 9, 3, 1, 1), (4, 4, 4, 4, 0)] {
            let x = picture(height, width, 5);
            for pooling in [Pooling::Max, Pooling::Mean, Pooling::MeanOfWindow] {
                let mut out = FeatureMap::default();
                Pool { pooling, window: Window::square(kernel, stride, Padding::even(pad)) }.forward(&x, &mut out);
                let places = |len: usize| (len + 2 * pad - kernel) / stride + 1;
                assert_eq!([out.height, out.width, out.channels], [places(height), places(width), 5]);
                for (at, got) in out.data.iter().enumerate() {
                    let (oy, ox, c) = (at / 5 / out.width, at / 5 % out.width, at % 5);
                    let seen: Vec<f64> = (0..kernel * kernel)
                        .map(|tap| (oy * stride + tap / kernel, ox * stride + tap % kernel))
                        .filter(|(y, x)| (pad..height + pad).contains(y) && (pad..width + pad).contains(x))
                        .map(|(row, column)| f64::from(x.data[((row - pad) * width + column - pad) * 5 + c]))
                        .collect();
                    let exact = match pooling {
                        Pooling::Max => seen.iter().copied().fold(f64::MIN, f64::max),
                        Pooling::Mean => seen.iter().sum::<f64>() / seen.len() as f64,
                        Pooling::MeanOfWindow => seen.iter().sum::<f64>() / (kernel * kernel) as f64,
                    };
                    assert!((f64::from(*got) - exact).abs() < 1e-6, "{pooling:?}: {got} is not {exact}");
                }
            }
        }
    }

    #[test]
    fn squeeze_and_excitation_equals_its_definition() {
        let mut x = picture(4, 3, 6);
        let names = [("r.weight", vec![2, 6, 1, 1]), ("r.bias", vec![2]), ("e.weight", vec![6, 2, 1, 1]), ("e.bias", vec![6])];
        let values: Vec<Vec<f32>> = names.iter().map(|(_, shape)| picture(1, 1, shape.iter().product()).data).collect();
        let tensors: Vec<_> = names.into_iter().zip(&values).map(|((name, shape), v)| (name, v.clone(), shape)).collect();
        let mut w = checkpoint(&tensors);
        let layer = SqueezeExcite::load(&mut w, ["r", "e"], [6, 2], Activation::Relu).unwrap();
        w.finish().unwrap();

        let before: Vec<f64> = x.data.iter().map(|v| f64::from(*v)).collect();
        layer.forward(&mut x);
        let mean = |c: usize| before.iter().skip(c).step_by(6).sum::<f64>() / 12.0;
        let dense = |w: &[f32], b: &[f32], x: &[f64]| -> Vec<f64> {
            let row = |(row, b): (&[f32], &f32)| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*b);
            w.chunks_exact(x.len()).zip(b).map(row).collect()
        };
        let means: Vec<f64> = (0..6).map(mean).collect();
        let squeezed: Vec<f64> = dense(&values[0], &values[1], &means).iter().map(|v| v.max(0.0)).collect();
        let gates: Vec<f64> = dense(&values[2], &values[3], &squeezed).iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
        for (at, got) in x.data.iter().enumerate() {
            assert!((f64::from(*got) - before[at] * gates[at % 6]).abs() < 1e-6);
        }
    }
}
