//! CLIP's residual networks: pictures to one vector, pooled by attention.
//!
//! # Reference
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 2.4: the ResNet-D of
//! He et al., "Bag of Tricks for Image Classification", CVPR 2019, with pooling before every step (Zhang, "Making Convolutional Networks
//! Shift-Invariant Again", ICML 2019). Checked block by block against `ModifiedResNet` of open_clip. Differs from it in: nothing; batch
//! normalisation is folded into the convolutions.
//! # Files
//! Those of [`crate::nets::open_clip`], where `vision_cfg.layers` is a list: RN50, RN101, RN50x4, RN50x16, RN50x64.
//! # Preprocessing
//! As stated there.
//! # Shapes
//! | step | shape |
//! | --- | --- |
//! | picture | `[224, 224, 3]` |
//! | after the stem | `[56, 56, width]` |
//! | after the stages | `[7, 7, 32 width]` |
//! | embedding | `[embed_dim]` |

use chiasm_nn::{
    Activation, AttentionScratch, Conv2d, ConvShape, CrossAttention, FeatureMap, Filters, Linear, Padding, Pool, Pooling,
    Weights, WeightsError, Window,
};

use crate::net::{Net, Watch};
use crate::nets::clip::projected;

/// Added to the variance in batch normalisation.
const EPS: f64 = 1e-5;
/// Channels of a block's result, for each of its inner ones.
const EXPANSION: usize = 4;
/// By how much the network shrinks a picture's sides.
pub(crate) const STRIDE: u32 = 32;

/// The mean of 2 x 2 positions.
const HALVE: Pool = Pool { pooling: Pooling::Mean, window: Window::square(2, 2, Padding::NONE) };

/// The network.
pub(crate) struct ClipResNet {
    stem: [Conv2d; 3],
    blocks: Vec<Bottleneck>,
    /// Those of the mean and of the places, `[1 + places, dim]`.
    positions: Vec<f32>,
    attention: CrossAttention,
    out: Linear,
    /// Side of the map after the last block.
    side: usize,
}

/// A convolution to fewer channels, one around each place, one to more, with a shortcut around them. Where the block halves the picture,
/// it does so by means.
struct Bottleneck {
    narrow: Conv2d,
    around: Conv2d,
    widen: Conv2d,
    shortcut: Option<Conv2d>,
    halves: bool,
}

/// A convolution, normalised, whose names are these.
fn conv(
    w: &mut Weights,
    [name, norm]: [&str; 2],
    [n_in, n_out]: [usize; 2],
    [kernel, stride]: [usize; 2],
    activation: Activation,
) -> Result<Conv2d, WeightsError> {
    let window = Window::square(kernel, stride, Padding::even(kernel / 2));
    Conv2d::load(w, Filters::normed(name, norm, EPS), ConvShape::new(n_in, n_out, window), activation)
}

impl ClipResNet {
    /// Takes all tensors, whose names begin with `at`: `stages` states the blocks of each of the four, `side` the side of pictures.
    pub(crate) fn load(
        w: &mut Weights,
        at: &str,
        stages: [usize; 4],
        width: usize,
        n_heads: usize,
        (side, embed_dim): (u32, usize),
    ) -> Result<Self, WeightsError> {
        let mut stem = |i: usize, channels: [usize; 2], stride: usize| {
            conv(w, [&format!("{at}conv{i}"), &format!("{at}bn{i}")], channels, [3, stride], Activation::Relu)
        };
        let half = width / 2;
        let stem = [stem(1, [3, half], 2)?, stem(2, [half, half], 1)?, stem(3, [half, width], 1)?];
        let (mut blocks, mut n_in) = (Vec::new(), width);
        for (stage, n_blocks) in stages.into_iter().enumerate() {
            let inner = width << stage;
            for i in 0..n_blocks {
                let halves = stage > 0 && i == 0;
                blocks.push(Bottleneck::load(w, &format!("{at}layer{}.{i}.", stage + 1), n_in, inner, halves)?);
                n_in = EXPANSION * inner;
            }
        }
        let side = (side / STRIDE) as usize;
        let dim = width * 32;
        let prefixes = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{at}attnpool.{part}"));
        Ok(Self {
            stem,
            blocks,
            positions: w.take(&format!("{at}attnpool.positional_embedding"), &[1 + side * side, dim])?,
            attention: CrossAttention::load(w, &prefixes, dim, dim, n_heads)?,
            out: Linear::load(w, &format!("{at}attnpool.c_proj"), dim, embed_dim, Activation::None)?,
            side,
        })
    }

    /// One vector for each map: attention of the mean over all places to itself and to the places.
    fn pool(&self, maps: &[FeatureMap]) -> Vec<Vec<f32>> {
        let dim = self.attention_dim();
        let (mut queries, mut tokens) = (Vec::new(), Vec::new());
        for map in maps {
            let first = tokens.len();
            tokens.extend(map.mean());
            tokens.extend_from_slice(&map.data);
            tokens[first..].iter_mut().zip(&self.positions).for_each(|(v, p)| *v += p);
            queries.extend_from_slice(&tokens[first..first + dim]);
        }
        let (ones, lengths) = (vec![1; maps.len()], vec![1 + self.side * self.side; maps.len()]);
        let mut mixed = Vec::new();
        self.attention.forward((&queries, &ones), (&tokens, &lengths), &mut mixed, &mut AttentionScratch::default());
        projected(&self.out, &mixed)
    }

    fn attention_dim(&self) -> usize {
        self.out.n_in()
    }
}

impl Net<FeatureMap> for ClipResNet {
    fn dim(&self) -> usize {
        self.out.n_out()
    }

    fn rows(&self, picture: &FeatureMap) -> usize {
        // As many as there are places after the stem.
        picture.height * picture.width / 16
    }

    fn embed(&self, pictures: &[FeatureMap], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let mut windows = Vec::new();
        let mut maps: Vec<FeatureMap> = pictures
            .iter()
            .map(|picture| {
                let (mut x, mut y) = (picture.clone(), FeatureMap::default());
                for layer in &self.stem {
                    layer.forward(&x, &mut y, &mut windows);
                    std::mem::swap(&mut x, &mut y);
                }
                HALVE.forward(&x, &mut y);
                y
            })
            .collect();
        show(watch, 0, &maps);
        let mut scratch = [FeatureMap::default(), FeatureMap::default(), FeatureMap::default()];
        for (i, block) in self.blocks.iter().enumerate() {
            for map in &mut maps {
                block.forward(map, &mut scratch, &mut windows);
            }
            show(watch, i + 1, &maps);
        }
        self.pool(&maps)
    }
}

/// Lets the states of the whole batch be seen.
pub(crate) fn show(watch: &mut Watch<'_>, i: usize, maps: &[FeatureMap]) {
    let name = format!("hidden.{i}");
    match maps {
        [one] => watch(&name, &one.data),
        several => watch(&name, &several.iter().flat_map(|map| &map.data).copied().collect::<Vec<f32>>()),
    }
}

impl Bottleneck {
    fn load(w: &mut Weights, at: &str, n_in: usize, inner: usize, halves: bool) -> Result<Self, WeightsError> {
        let n_out = EXPANSION * inner;
        let mut part = |i: usize, channels: [usize; 2], kernel: usize, activation: Activation| {
            conv(w, [&format!("{at}conv{i}"), &format!("{at}bn{i}")], channels, [kernel, 1], activation)
        };
        let narrow = part(1, [n_in, inner], 1, Activation::Relu)?;
        let around = part(2, [inner, inner], 3, Activation::Relu)?;
        let widen = part(3, [inner, n_out], 1, Activation::None)?;
        let shortcut = if halves || n_in != n_out {
            let names = [&*format!("{at}downsample.0"), &*format!("{at}downsample.1")];
            Some(conv(w, names, [n_in, n_out], [1, 1], Activation::None)?)
        } else {
            None
        };
        Ok(Self { narrow, around, widen, shortcut, halves })
    }

    /// Carries `x` through the block, in place.
    fn forward(&self, x: &mut FeatureMap, [a, b, c]: &mut [FeatureMap; 3], windows: &mut Vec<f32>) {
        self.narrow.forward(x, a, windows);
        self.around.forward(a, b, windows);
        if self.halves {
            HALVE.forward(b, a);
            std::mem::swap(a, b);
            HALVE.forward(x, c);
            std::mem::swap(x, c);
        }
        self.widen.forward(b, a, windows);
        if let Some(shortcut) = &self.shortcut {
            shortcut.forward(x, c, windows);
            std::mem::swap(x, c);
        }
        x.data.iter_mut().zip(&a.data).for_each(|(x, y)| *x = (*x + y).max(0.0));
    }
}
