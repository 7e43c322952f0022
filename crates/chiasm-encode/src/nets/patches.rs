//! Pictures to rows of patches, the first layer of vision transformers.

use chiasm_nn::cuda::PictureParts;
use chiasm_nn::{Activation, FeatureMap, LayerNorm, Linear, Precision, Weights, WeightsError};

/// A convolution whose stride is its kernel: every patch by itself through one dense layer.
///
/// Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, eq. 1.
#[derive(Clone, Debug)]
pub(crate) struct Patches {
    side: usize,
    channels: usize,
    product: Linear,
}

impl Patches {
    /// Takes `{prefix}.weight`, `[dim, channels, side, side]`, and `{prefix}.bias`, `[dim]`, if `biased`.
    pub(crate) fn load(
        w: &mut Weights,
        prefix: &str,
        [dim, channels, side]: [usize; 3],
        biased: bool,
    ) -> Result<Self, WeightsError> {
        let stored = w.take(&format!("{prefix}.weight"), &[dim, channels, side, side])?;
        let bias = if biased { w.take(&format!("{prefix}.bias"), &[dim])? } else { vec![0.0; dim] };
        Ok(Self::new(&stored, bias, [channels, side], Activation::None, w.precision()))
    }

    /// The same where it is stored as a dense layer over patches that are read pixel by pixel: `{prefix}.weight`,
    /// `[dim, side * side * channels]`, and `{prefix}.bias`, `[dim]`.
    pub(crate) fn load_flat(w: &mut Weights, prefix: &str, [dim, channels, side]: [usize; 3]) -> Result<Self, WeightsError> {
        Ok(Self { side, channels, product: Linear::load(w, prefix, side * side * channels, dim, Activation::None)? })
    }

    /// From a weight `[dim, channels, side, side]` and a bias `[dim]`.
    pub(crate) fn new(
        stored: &[f32],
        bias: Vec<f32>,
        [channels, side]: [usize; 2],
        activation: Activation,
        precision: Precision,
    ) -> Self {
        // [dim, channels, y, x] to [dim, y, x, channels], the order in which a picture's patch is read.
        let area = side * side;
        let mut turned = Vec::with_capacity(stored.len());
        for filter in stored.chunks_exact(channels * area) {
            turned.extend((0..area).flat_map(|at| (0..channels).map(move |c| filter[c * area + at])));
        }
        Self { side, channels, product: Linear::with_precision(&turned, bias, area * channels, activation, precision) }
    }

    /// The picture of the patches of one picture, `[height / side, width / side, dim]`.
    pub(crate) fn map(&self, picture: &FeatureMap) -> FeatureMap {
        let [height, width] = self.grid(picture);
        let mut map = FeatureMap { height, width, channels: self.product.n_out(), data: Vec::new() };
        self.forward(std::slice::from_ref(picture), &mut map.data);
        map
    }

    /// The same with what stands behind it in a vision transformer, for a GPU.
    pub(crate) fn parts<'a>(
        &'a self,
        class: Option<&'a [f32]>,
        positions: &'a [f32],
        norm: Option<&'a LayerNorm>,
    ) -> PictureParts<'a> {
        PictureParts { patches: &self.product, side: self.side, channels: self.channels, class, positions, norm }
    }

    /// How many patches a picture has: what does not fill a patch at the right and the bottom is left out.
    pub(crate) fn count(&self, picture: &FeatureMap) -> usize {
        self.grid(picture).iter().product()
    }

    /// How many rows of patches it has, and how many patches stand in each.
    pub(crate) fn grid(&self, picture: &FeatureMap) -> [usize; 2] {
        [picture.height / self.side, picture.width / self.side]
    }

    /// `[n patches of all pictures, dim]`, in rows from the top.
    pub(crate) fn forward(&self, pictures: &[FeatureMap], out: &mut Vec<f32>) {
        let mut unfolded = Vec::new();
        for picture in pictures {
            assert_eq!(picture.channels, self.channels, "channels of a picture");
            unfold(picture, [self.side; 2], &mut unfolded);
        }
        self.product.forward(&unfolded, out);
    }
}

/// Appends the patches of a picture, in rows from the top, each line by line, pixel by pixel, channel by channel; a patch is so high and so wide. What does
/// not fill one at the right and the bottom is left out.
pub(crate) fn unfold(map: &FeatureMap, [height, width]: [usize; 2], out: &mut Vec<f32>) {
    for y in 0..map.height / height {
        for x in 0..map.width / width {
            for line in 0..height {
                let at = ((y * height + line) * map.width + x * width) * map.channels;
                out.extend_from_slice(&map.data[at..at + width * map.channels]);
            }
        }
    }
}
