//! chiasm, a picture and a text together: the words of the text look at the patches of the picture, and what they have seen says whether the two belong together.
//!
//! # Reference
//! This project's own, after Li, Selvaraju, Gotmare, Joty, Xiong and Hoi, "Align before Fuse: Vision and Language Representation Learning with Momentum
//! Distillation" (ALBEF), NeurIPS 2021, section 3.1: blocks with attention to the picture stand behind the tower for texts. Checked against the tape that trains it
//! (`crates/chiasm-train/src/matching.rs`). Differs from it in: normalisations first, as in the towers; the mean over the words in place of a
//! token of its own; one number in place of two, of which only the difference counts; patches say where they are once more, for a tower whose states are averaged
//! need not keep it.
//! # Files
//! Those of `chiasm.rs`, where `config.json` has `matching`, and towers for pictures and for texts.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | patches of a picture, normalised states of its tower and their places | `[patches, image width]` | any |
//! | words of a text, normalised states of its tower | `[words, text width]` | any |
//! | words as they are read with the picture | `[words, width]` | any |
//! | score of a pair | a sigmoid | 0..=1 |

use chiasm_core::Modality;
use chiasm_nn::{Activation, Block, BlockScratch, CrossLayer, CrossNames, FeatureMap, LayerNorm, Linear, Mask, Order, Weights};

use crate::checkpoint::Checkpoint;
use crate::cross::{OpenedPair, PairNet};
use crate::error::OpenError;
use crate::model;
use crate::net::Watch;
use crate::nets::chiasm::{EPS, MATCHING, Transformer, block_names, inputs, means, skip_numbers};
use crate::nets::inputs::How;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "chiasm matching 1";

/// Opens the network over pairs.
pub(crate) fn open(files: &mut Checkpoint) -> Result<OpenedPair<FeatureMap>, OpenError> {
    let path = files.path("config.json");
    let ((of_picture, config), (of_text, _)) = (inputs(files, Modality::Image)?, inputs(files, Modality::Text)?);
    let none = || OpenError::Config {
        path: path.clone(),
        reason:
            "has no `matching`: the model was trained without [model.matching], and cannot read a picture and a text together"
                .to_owned(),
    };
    let sizes = config.matching.ok_or_else(none)?;
    let shape = model::block_shape(&path, "matching", [sizes.width, sizes.inner, sizes.heads], ("gelu", EPS), Order::PreNorm)?;
    let mut w = files.weights()?;
    let vision = Transformer::of(&mut w, &path, &config, Modality::Image, &of_picture)?;
    let text = Transformer::of(&mut w, &path, &config, Modality::Text, &of_text)?;
    let at = |part: &str| format!("{MATCHING}{part}");
    let places = w.take(&at("places"), &[of_picture.shape[0], vision.width()])?;
    let enter = Linear::load(&mut w, &at("words"), text.width(), sizes.width, Activation::None)?;
    let load = |i: usize| -> Result<(Block, CrossLayer), OpenError> {
        let at = |part: &str| at(&format!("blocks.{i}.{part}"));
        let look = CrossNames { qkv: ["look.q", "look.k", "look.v"].map(at), out: at("look.out"), norm: at("look.norm") };
        Ok((Block::load(&mut w, &block_names(&at("")), shape)?, CrossLayer::load(&mut w, &look, shape, vision.width())?))
    };
    let blocks = (0..sizes.layers).map(load).collect::<Result<_, _>>()?;
    let norm = LayerNorm::load(&mut w, &at("norm"), sizes.width, EPS)?;
    let score = Linear::load(&mut w, &at("score"), sizes.width, 1, Activation::None)?;
    skip_others(&mut w);
    w.finish()?;
    let net = Box::new(Matching { vision, text, places, enter, blocks, norm, score, width: sizes.width });
    let (How::Image(processor), How::Text(tokenizer)) = (of_picture.how, of_text.how) else { return Err(none()) };
    Ok(OpenedPair { look: Box::new(processor), tokenizer, first: None, net, arithmetic: ARITHMETIC })
}

/// Passes over what a picture and a text do not need.
fn skip_others(w: &mut Weights) {
    for other in [Modality::Audio, Modality::Series] {
        w.skip_prefix(&format!("{other}."));
    }
    skip_numbers(w);
}

/// Both towers, and what reads.
struct Matching {
    vision: Transformer,
    text: Transformer,
    /// Those of the patches, `[patches, image width]`.
    places: Vec<f32>,
    /// From the states of the tower for texts.
    enter: Linear,
    blocks: Vec<(Block, CrossLayer)>,
    norm: LayerNorm,
    score: Linear,
    /// Numbers of a word while it is read.
    width: usize,
}

impl PairNet<FeatureMap> for Matching {
    fn see(&self, picture: &FeatureMap, watch: &mut Watch<'_>) -> Vec<f32> {
        let mut seen = self.vision.states_of_patches(std::slice::from_ref(picture), watch);
        seen.iter_mut().zip(&self.places).for_each(|(state, place)| *state += place);
        seen
    }

    fn read(&self, seen: &[f32], texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<f32> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let (n_words, n_seen) = (lengths.iter().sum::<usize>(), seen.len() / self.vision.width());
        let mut x = Vec::new();
        self.enter.forward(&self.text.states_of_words(texts, watch), &mut x);
        let (mut scratch, mut look_scratch) = (BlockScratch::default(), BlockScratch::default());
        for (block, look) in &self.blocks {
            // All texts look at one picture, whose keys and values are so computed once.
            let look = |x: &mut [f32]| look.forward((x, &[n_words]), (seen, &[n_seen]), &mut look_scratch);
            block.forward_with(&mut x, &lengths, Mask::None, look, &mut scratch);
        }
        self.norm.forward(&mut x);
        let mut scores = Vec::new();
        self.score.forward(&means(&x, &lengths, self.width), &mut scores);
        scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect()
    }
}
