//! Convolutions over pictures stored height-width-channels.

use crate::activation::Activation;
use crate::linear::Linear;
use crate::map::{FeatureMap, Padding, Slide, Window};
use crate::norm::BatchNorm;
use crate::weights::{Weights, WeightsError};

/// Windows are unfolded a block at a time, of about so many numbers (2 MB): they stay in the cache, however large the picture.
const BLOCK_NUMBERS: usize = 1 << 19;

/// Most windows per block: as many rows as a [`Linear`] takes at once.
const BLOCK_WINDOWS: usize = 256;

/// Under which names a convolution stands in a checkpoint, and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    /// The weights are `{conv}.weight`.
    pub conv: &'a str,
    /// Whether there is `{conv}.bias`.
    pub biased: bool,
    /// A batch normalisation right behind it, which is folded into the weights: its name, and what is added to its variances.
    pub norm: Option<(&'a str, f64)>,
}

impl<'a> Filters<'a> {
    /// Weights and a bias.
    pub const fn biased(conv: &'a str) -> Self {
        Self { conv, biased: true, norm: None }
    }

    /// Weights alone.
    pub const fn bare(conv: &'a str) -> Self {
        Self { conv, biased: false, norm: None }
    }

    /// Weights without a bias, and a batch normalisation behind them.
    pub const fn normed(conv: &'a str, norm: &'a str, eps: f64) -> Self {
        Self { conv, biased: false, norm: Some((norm, eps)) }
    }

    /// Weights of this shape, the outputs first, and their bias.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn take(self, w: &mut Weights, shape: &[usize]) -> Result<(Vec<f32>, Vec<f32>), WeightsError> {
        let n_out = shape[0];
        let mut weight = w.take(&format!("{}.weight", self.conv), shape)?;
        let mut bias = if self.biased { w.take(&format!("{}.bias", self.conv), &[n_out])? } else { vec![0.0; n_out] };
        if let Some((norm, eps)) = self.norm {
            BatchNorm::load(w, norm, n_out, eps)?.fold(&mut weight, &mut bias);
        }
        Ok((weight, bias))
    }
}

/// What a convolution computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels of the picture that comes in.
    pub n_in: usize,
    /// Channels of the one that goes out.
    pub n_out: usize,
    /// Parts of the channels that do not see each other: divides `n_in` and `n_out`.
    pub groups: usize,
    /// The window.
    pub window: Window,
}

impl ConvShape {
    /// One in which every output sees every channel.
    pub const fn new(n_in: usize, n_out: usize, window: Window) -> Self {
        Self { n_in, n_out, groups: 1, window }
    }
}

/// A convolution, as matrix products over unfolded windows. One along a single axis is one whose window has one row.
#[derive(Clone, Debug)]
pub struct Conv2d {
    shape: ConvShape,
    /// One for each group.
    products: Vec<Linear>,
}

impl Conv2d {
    /// Takes `[n_out, n_in / groups, rows, columns]` and what else `filters` name; where the window has one row, the weights may also
    /// be stored as `[n_out, n_in / groups, columns]`.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(
        weights: &mut Weights,
        filters: Filters<'_>,
        shape: ConvShape,
        activation: Activation,
    ) -> Result<Self, WeightsError> {
        let [rows, columns] = shape.window.kernel;
        let stored = [shape.n_out, shape.n_in / shape.groups, rows, columns];
        let flat = rows == 1 && weights.shape(&format!("{}.weight", filters.conv)).is_some_and(|stored| stored.len() == 3);
        let (weight, bias) =
            if flat { filters.take(weights, &[stored[0], stored[1], columns])? } else { filters.take(weights, &stored)? };
        Ok(Self::new(&weight, &bias, shape, activation))
    }

    /// From weights stored as `[n_out, n_in / groups, rows, columns]` and a bias for every output.
    pub fn new(stored: &[f32], bias: &[f32], shape: ConvShape, activation: Activation) -> Self {
        let ConvShape { n_in, n_out, groups, window } = shape;
        assert!(groups > 0 && n_in % groups == 0 && n_out % groups == 0, "{groups} groups of {n_in} and {n_out} channels");
        let (area, seen) = (window.kernel[0] * window.kernel[1], n_in / groups);
        assert_eq!(stored.len(), n_out * seen * area, "weights of a convolution");
        assert_eq!(bias.len(), n_out, "bias of a convolution");
        // [out, in, ky, kx] to [out, ky, kx, in], the order in which windows are unfolded.
        let mut turned = Vec::with_capacity(stored.len());
        for filter in stored.chunks_exact(seen * area) {
            turned.extend((0..area).flat_map(|tap| (0..seen).map(move |i| filter[i * area + tap])));
        }
        let per_group = n_out / groups;
        let products = turned
            .chunks_exact(per_group * seen * area)
            .zip(bias.chunks_exact(per_group))
            .map(|(part, bias)| Linear::new(part, bias.to_vec(), seen * area, activation))
            .collect();
        Self { shape, products }
    }

    /// What it computes.
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// `x` to `out`, which is reshaped; `windows` is scratch.
    pub fn forward(&self, x: &FeatureMap, out: &mut FeatureMap, windows: &mut Vec<f32>) {
        let ConvShape { n_in, n_out, groups, window } = self.shape;
        assert_eq!(x.channels, n_in, "channels of a convolution");
        let slide = window.over([x.height, x.width]);
        let [height, width] = slide.places;
        out.reshape(height, width, n_out);
        // Nothing need be unfolded where a window is one pixel, one after the other.
        if groups == 1 && window == Window::square(1, 1, Padding::NONE) {
            self.products[0].forward_into(&x.data, &mut out.data);
            return;
        }
        let per_window = self.products[0].n_in();
        let at_a_time = (BLOCK_NUMBERS / per_window).clamp(2, BLOCK_WINDOWS);
        let mut part = Vec::new();
        for (block, out) in out.data.chunks_mut(at_a_time * n_out).enumerate() {
            let n = out.len() / n_out;
            windows.resize(n * per_window, 0.0);
            for (group, product) in self.products.iter().enumerate() {
                for (i, window) in windows.chunks_exact_mut(per_window).enumerate() {
                    let at = block * at_a_time + i;
                    unfold(x, &slide, [at / width, at % width], (group, groups), window);
                }
                if groups == 1 {
                    product.forward_into(windows, out);
                } else {
                    product.forward(windows, &mut part);
                    for (out, part) in out.chunks_exact_mut(n_out).zip(part.chunks_exact(product.n_out())) {
                        out[group * part.len()..][..part.len()].copy_from_slice(part);
                    }
                }
            }
        }
    }
}

/// Copies what lies under the window at a place, of the channels of one group, and zeros where that is padding.
fn unfold(x: &FeatureMap, slide: &Slide, [oy, ox]: [usize; 2], (group, groups): (usize, usize), window: &mut [f32]) {
    let ((rows, y), (columns, left)) = (slide.part(0, oy), slide.part(1, ox));
    let [height, width] = slide.kernel();
    if rows.len() < height || columns.len() < width {
        window.fill(0.0);
    }
    let (seen, n_columns) = (x.channels / groups, columns.len());
    if n_columns == 0 {
        return;
    }
    for (i, ky) in rows.enumerate() {
        let from = &x.data[((y + i) * x.width + left) * x.channels..][..n_columns * x.channels];
        let to = &mut window[(ky * width + columns.start) * seen..][..n_columns * seen];
        if groups == 1 {
            to.copy_from_slice(from);
        } else {
            for (to, from) in to.chunks_exact_mut(seen).zip(from.chunks_exact(x.channels)) {
                to.copy_from_slice(&from[group * seen..][..seen]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::depthwise::Depthwise;
    use crate::made_up::{checkpoint, numbers};
    use crate::map::same_padding;

    fn picture(height: usize, width: usize, channels: usize) -> FeatureMap {
        FeatureMap { height, width, channels, data: numbers(height * width * channels, 13) }
    }

    /// Zeros before and after along both sides.
    fn zeros(window: Window, size: [usize; 2]) -> [(usize, usize); 2] {
        match window.padding {
            Padding::Same => [0, 1].map(|axis| {
                let (_, before, after) = same_padding(size[axis], window.kernel[axis], window.stride[axis]);
                (before, after)
            }),
            Padding::Zeros { top, bottom, left, right } => [(top, bottom), (left, right)],
        }
    }

    /// The convolution by its definition, in f64; `weight` is `[n_out, n_in / groups, rows, columns]`.
    fn written_out(x: &FeatureMap, weight: &[f64], bias: &[f64], shape: ConvShape) -> Vec<f64> {
        let [rows, columns] = shape.window.kernel;
        let [(top, bottom), (left, right)] = zeros(shape.window, [x.height, x.width]);
        let height = (x.height + top + bottom - rows) / shape.window.stride[0] + 1;
        let width = (x.width + left + right - columns) / shape.window.stride[1] + 1;
        let seen = shape.n_in / shape.groups;
        let mut out = Vec::new();
        for (oy, ox, o) in (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..shape.n_out).map(move |o| (y, x, o)))) {
            let mut sum = bias[o];
            for (i, ky, kx) in (0..seen).flat_map(|i| (0..rows * columns).map(move |tap| (i, tap / columns, tap % columns))) {
                let y = (oy * shape.window.stride[0] + ky).wrapping_sub(top);
                let column = (ox * shape.window.stride[1] + kx).wrapping_sub(left);
                if y < x.height && column < x.width {
                    let channel = o / (shape.n_out / shape.groups) * seen + i;
                    let v = x.data[(y * x.width + column) * x.channels + channel];
                    sum += f64::from(v) * weight[((o * seen + i) * rows + ky) * columns + kx];
                }
            }
            out.push(sum);
        }
        out
    }

    /// A file of tensors, with a batch normalisation whose variances are above 0.
    fn file(tensors: &[(&str, &[usize])]) -> (Weights, Vec<Vec<f32>>) {
        let values: Vec<Vec<f32>> = tensors
            .iter()
            .enumerate()
            .map(|(seed, (name, shape))| {
                let raw = numbers(shape.iter().product(), 11 + seed as u32);
                if name.ends_with("running_var") { raw.iter().map(|v| v * 0.5 + 0.75).collect() } else { raw }
            })
            .collect();
        let tensors: Vec<_> =
            tensors.iter().zip(&values).map(|((name, shape), values)| (*name, values.clone(), shape.to_vec())).collect();
        (checkpoint(&tensors), values)
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|v| f64::from(*v)).collect()
    }

    fn assert_close(got: &[f32], exact: &[f64]) {
        assert_eq!(got.len(), exact.len());
        for (got, exact) in got.iter().zip(exact) {
            // Sums of up to 1,700 products of size one, added up in parts: some ten roundings of the largest, 34, by 6e-8 of it.
            assert!((f64::from(*got) - exact).abs() < 2e-5, "{got} is not {exact}");
        }
    }

    fn windows() -> Vec<Window> {
        let asymmetric = Padding::Zeros { top: 0, bottom: 1, left: 2, right: 0 };
        let mut windows = Vec::new();
        for stride in [1, 2] {
            for kernel in [1, 3, 5, 7] {
                windows.push(Window::square(kernel, stride, Padding::Same));
                windows.push(Window::square(kernel, stride, Padding::even(kernel / 2)));
            }
            // Wider than the kernel, so that some windows see nothing but padding.
            windows.push(Window::square(2, stride, Padding::even(3)));
            windows.push(Window { kernel: [1, 3], stride: [stride, 1], padding: asymmetric });
            windows.push(Window { kernel: [2, 3], stride: [1, stride], padding: asymmetric });
        }
        windows
    }

    #[test]
    fn convolutions_equal_their_definition() {
        // Sizes even, odd, and smaller than the kernel; channels around the lanes.
        for (height, width, channels) in [(8, 6, 16), (7, 11, 35), (1, 2, 3), (2, 1, 1)] {
            let x = picture(height, width, channels);
            for window in windows() {
                let Some([rows, columns]) = window.places([height, width]) else { continue };
                let mut out = FeatureMap::default();
                let [kernel_rows, kernel_columns] = window.kernel;

                let shape = ConvShape::new(channels, 5, window);
                let (mut w, v) = file(&[("c.weight", &[5, channels, kernel_rows, kernel_columns]), ("c.bias", &[5])]);
                let conv = Conv2d::load(&mut w, Filters::biased("c"), shape, Activation::None).unwrap();
                conv.forward(&x, &mut out, &mut Vec::new());
                assert_eq!([out.height, out.width, out.channels], [rows, columns, 5]);
                assert_close(&out.data, &written_out(&x, &wide(&v[0]), &wide(&v[1]), shape));

                let shape = ConvShape { groups: channels, ..ConvShape::new(channels, channels, window) };
                let (mut w, v) = file(&[("c.weight", &[channels, 1, kernel_rows, kernel_columns]), ("c.bias", &[channels])]);
                let depthwise = Depthwise::load(&mut w, Filters::biased("c"), channels, window, Activation::None).unwrap();
                depthwise.forward(&x, &mut out);
                assert_eq!([out.height, out.width, out.channels], [rows, columns, channels]);
                let exact = written_out(&x, &wide(&v[0]), &wide(&v[1]), shape);
                assert_close(&out.data, &exact);
                // It is a convolution in as many groups as there are channels.
                Conv2d::new(&v[0], &v[1], shape, Activation::None).forward(&x, &mut out, &mut Vec::new());
                assert_close(&out.data, &exact);
            }
        }
    }

    #[test]
    fn groups_see_their_own_channels() {
        let x = picture(6, 5, 12);
        for groups in [1, 2, 3, 6] {
            let shape = ConvShape { n_in: 12, n_out: 18, groups, window: Window::square(3, 2, Padding::even(1)) };
            let (mut w, v) = file(&[("c.weight", &[18, 12 / groups, 3, 3])]);
            let mut out = FeatureMap::default();
            let conv = Conv2d::load(&mut w, Filters::bare("c"), shape, Activation::None).unwrap();
            w.finish().unwrap();
            conv.forward(&x, &mut out, &mut Vec::new());
            assert_close(&out.data, &written_out(&x, &wide(&v[0]), &[0.0; 18], shape));
        }
    }

    #[test]
    fn one_axis_may_be_stored_without_the_other() {
        let x = picture(1, 40, 4);
        let window = Window { kernel: [1, 10], stride: [1, 5], padding: Padding::NONE };
        let shape = ConvShape::new(4, 6, window);
        let (mut w, v) = file(&[("c.weight", &[6, 4, 10])]);
        let mut out = FeatureMap::default();
        Conv2d::load(&mut w, Filters::bare("c"), shape, Activation::None).unwrap().forward(&x, &mut out, &mut Vec::new());
        assert_close(&out.data, &written_out(&x, &wide(&v[0]), &[0.0; 6], shape));
    }

    #[test]
    fn a_batch_normalisation_is_folded_into_the_weights() {
        let (x, eps) = (picture(7, 6, 9), 1e-3);
        let window = Window::square(3, 1, Padding::even(1));
        let names = ["n.weight", "n.bias", "n.running_mean", "n.running_var"].map(|name| (name, &[9][..]));
        for (n_seen, biased) in [(9, false), (9, true), (1, false), (1, true)] {
            let shape = [9, n_seen, 3, 3];
            let mut tensors = vec![("c.weight", &shape[..]), ("c.bias", &[9][..])];
            tensors.truncate(1 + usize::from(biased));
            tensors.extend(names);
            let (mut w, v) = file(&tensors);
            let filters = Filters { biased, ..Filters::normed("c", "n", eps) };
            let mut out = FeatureMap::default();
            if n_seen == 1 {
                Depthwise::load(&mut w, filters, 9, window, Activation::Relu).unwrap().forward(&x, &mut out);
            } else {
                let conv = Conv2d::load(&mut w, filters, ConvShape::new(9, 9, window), Activation::Relu).unwrap();
                conv.forward(&x, &mut out, &mut Vec::new());
            }
            w.finish().unwrap();

            let bias = if biased { wide(&v[1]) } else { vec![0.0; 9] };
            let shape = ConvShape { groups: 9 / n_seen, ..ConvShape::new(9, 9, window) };
            let mut exact = written_out(&x, &wide(&v[0]), &bias, shape);
            let [scale, shift, mean, variance] = &v[v.len() - 4..] else { unreachable!() };
            for pixel in exact.chunks_exact_mut(9) {
                for (c, v) in pixel.iter_mut().enumerate() {
                    let unit = (*v - f64::from(mean[c])) / (f64::from(variance[c]) + eps).sqrt();
                    *v = (unit * f64::from(scale[c]) + f64::from(shift[c])).max(0.0);
                }
            }
            assert_close(&out.data, &exact);
        }
    }

    #[test]
    fn functions_follow_the_sum() {
        let x = picture(5, 5, 19);
        let window = Window::square(3, 1, Padding::even(1));
        let (v, bias) = (numbers(19 * 9, 3), numbers(19, 4));
        let shape = ConvShape { groups: 19, ..ConvShape::new(19, 19, window) };
        for (activation, f) in [
            (Activation::Relu, (|v: f64| v.max(0.0)) as fn(f64) -> f64),
            (Activation::Relu6, |v| v.clamp(0.0, 6.0)),
            (Activation::Silu, |v| v / (1.0 + (-v).exp())),
        ] {
            let exact: Vec<f64> = written_out(&x, &wide(&v), &wide(&bias), shape).into_iter().map(f).collect();
            let mut out = FeatureMap::default();
            Conv2d::new(&v, &bias, shape, activation).forward(&x, &mut out, &mut Vec::new());
            assert_close(&out.data, &exact);
            Depthwise::new(&v, bias.clone(), window, activation).forward(&x, &mut out);
            assert_close(&out.data, &exact);
        }
    }

    #[test]
    fn a_large_picture_is_unfolded_in_blocks() {
        let x = picture(90, 70, 3);
        let shape = ConvShape::new(3, 4, Window::square(7, 1, Padding::even(3)));
        let v = numbers(4 * 3 * 49, 3);
        let (mut out, mut windows) = (FeatureMap::default(), Vec::new());
        Conv2d::new(&v, &[0.0; 4], shape, Activation::None).forward(&x, &mut out, &mut windows);
        assert!(windows.capacity() <= BLOCK_NUMBERS, "{} numbers were unfolded at once", windows.capacity());
        assert_close(&out.data, &written_out(&x, &wide(&v), &[0.0; 4], shape));
    }

    #[test]
    fn a_variance_below_zero_is_refused_by_name() {
        let names = ["n.weight", "n.bias", "n.running_mean", "n.running_vary"].map(|name| (name, &[4][..]));
        let (mut w, _) = file(&[&[("c.weight", &[4, 2, 1, 1][..])][..], &names].concat());
        let load = |w: &mut Weights| {
            let shape = ConvShape::new(2, 4, Window::square(1, 1, Padding::NONE));
            Conv2d::load(w, Filters::normed("c", "n", 1e-5), shape, Activation::None).map(|_| ()).unwrap_err().to_string()
        };
        assert!(load(&mut w).contains("no tensor `n.running_var`"));
        let mut w = checkpoint(&[
            ("c.weight", vec![0.0; 8], vec![4, 2, 1, 1]),
            ("n.weight", vec![0.0; 4], vec![4]),
            ("n.bias", vec![0.0; 4], vec![4]),
            ("n.running_mean", vec![0.0; 4], vec![4]),
            ("n.running_var", vec![1.0, 1.0, -0.5, 1.0], vec![4]),
        ]);
        let message = load(&mut w);
        assert!(message.contains("`n.running_var` of test has the variance -0.5 at place 2"), "{message}");
    }
}
