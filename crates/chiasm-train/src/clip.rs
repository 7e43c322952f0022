//! CLIP's towers as they learn: the networks of `crates/chiasm-encode/src/nets/clip.rs` on a tape, from a checkpoint in Hugging Face's layout and back to one.
//!
//! # Reference
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021. Values and gradients are checked against `CLIPModel` of
//! transformers (`reference/train_clip_goldens.py`), values against the encoder too.
//! # Shapes
//! | step | shape |
//! | --- | --- |
//! | patches of pictures, channel by channel | `[n * patches, 3 * side * side]` |
//! | tokens of pictures, the class token first | `[n * (1 + patches), width]` |
//! | tokens of texts, up to their end token | `[sum of lengths, width]` |
//! | embeddings | `[n, projection]`, unit length |
//!
//! Every parameter is the checkpoint's tensor under its own name: vectors are rows, filters of a convolution rows of all their numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chiasm_core::Modality;
use chiasm_encode::{ClipTower, ClipTowers, OpenError, Prepared};
use chiasm_nn::grad::{Array, Sees, Var};
use chiasm_nn::learn::Parameter;
use chiasm_nn::{Activation, Weights};
use rand_chacha::ChaCha8Rng;

use crate::error::{Result, TrainError};
use crate::tape::{Act, Blocks, Bound, Dropout, Names, Network, Seen, rows, words};

/// The temperature's name.
const SCALE: &str = "logit_scale";

/// One of the towers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    modality: Modality,
    tower: ClipTower,
    act: Act,
    projection: usize,
    /// Of a patch, pixels along a side; for texts the words that there are.
    n_in: usize,
}

/// A checkpoint with everything that is written back.
pub(crate) struct Opened {
    /// The tower for pictures and that for texts.
    pub(crate) towers: [Clip; 2],
    /// Those of the towers, in the same order.
    pub(crate) parameters: [Vec<Parameter>; 2],
    /// The logarithm of what cosines are multiplied by, `[1, 1]`.
    pub(crate) log_scale: Parameter,
    /// The shape that each tensor has in the file.
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    /// Tables of positions' numbers, which older checkpoints store beside the weights: name, shape, numbers.
    pub(crate) buffers: Vec<(String, Vec<usize>, Vec<i64>)>,
    /// Of the weights' file.
    pub(crate) digest: String,
}

/// Opens the checkpoint in a folder.
///
/// # Errors
/// [`TrainError::Open`] and [`TrainError::Config`], naming the file, what came and what was expected.
pub(crate) fn open(folder: &Path) -> Result<Opened> {
    let description = ClipTowers::read(folder)?;
    let tower = |modality: Modality, tower: ClipTower, n_in: usize, part: &str| {
        let act = match tower.activation {
            Activation::Gelu => Act::Gelu,
            Activation::QuickGelu => Act::QuickGelu,
            other @ (Activation::None
            | Activation::Relu
            | Activation::Relu6
            | Activation::GeluTanh
            | Activation::Silu
            | Activation::Tanh) => {
                let reason =
                    format!("{part}: hidden_act is {other:?}, expected quick_gelu or gelu, which alone can be trained here");
                return Err(TrainError::Config { path: folder.join("config.json"), reason });
            }
        };
        Ok(Clip { modality, tower, act, projection: description.projection, n_in })
    };
    let towers = [
        tower(Modality::Image, description.image, description.patch, "vision_config")?,
        tower(Modality::Text, description.text, description.vocabulary, "text_config")?,
    ];
    let mut w = Weights::open(folder).map_err(OpenError::from)?;
    let digest = w.digest().to_hex().to_string();
    let mut shapes = BTreeMap::new();
    let mut parameters = [Vec::new(), Vec::new()];
    for (tower, parameters) in towers.iter().zip(&mut parameters) {
        for Tensor { name, shape, decays } in tower.tensors() {
            let data = w.take(&name, &shape).map_err(OpenError::from)?;
            let n_rows = if shape.len() < 2 { 1 } else { shape[0] };
            let value = Array::new(n_rows, data.len() / n_rows.max(1), data);
            shapes.insert(name.clone(), shape);
            parameters.push(Parameter { name, value: Arc::new(value), decays });
        }
    }
    // A number by itself, or the only one of a row.
    let shape = w.shape(SCALE).filter(|shape| *shape == [1]).map_or_else(Vec::new, <[usize]>::to_vec);
    let scale = w.take(SCALE, &shape).map_err(OpenError::from)?;
    shapes.insert(SCALE.to_owned(), shape);
    let mut buffers = Vec::new();
    for side in ["vision_model", "text_model"] {
        let name = format!("{side}.embeddings.position_ids");
        if let Some(shape) = w.shape(&name).map(<[usize]>::to_vec) {
            // In half precision, as some have them, they are of no use, and nobody asks for them.
            buffers.extend(w.take_i64(&name, &shape).ok().map(|numbers| (name.clone(), shape, numbers)));
            w.skip(&name);
        }
    }
    // What a training with SigLIP's loss left there begins anew.
    w.skip("logit_bias");
    w.finish().map_err(OpenError::from)?;
    let log_scale = Parameter::plain(SCALE, Array::new(1, 1, scale));
    Ok(Opened { towers, parameters, log_scale, shapes, buffers, digest })
}

/// A tensor of a tower, and whether weight decay holds it small.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    decays: bool,
}

impl Clip {
    /// How the names of what stands in its blocks begin.
    pub(crate) fn side(&self) -> &'static str {
        if self.modality == Modality::Text { "text_model" } else { "vision_model" }
    }

    fn projector(&self) -> &'static str {
        if self.modality == Modality::Text { "text_projection.weight" } else { "visual_projection.weight" }
    }

    fn at(&self, part: &str) -> String {
        format!("{}.{part}", self.side())
    }

    /// All of its tensors.
    fn tensors(&self) -> Vec<Tensor> {
        let width = self.tower.sizes.width;
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[usize], decays: bool| all.push(Tensor { name, shape: shape.to_vec(), decays });
        if self.modality == Modality::Text {
            add(self.at("embeddings.token_embedding.weight"), &[self.n_in, width], true);
        } else {
            add(self.at("embeddings.class_embedding"), &[width], false);
            add(self.at("embeddings.patch_embedding.weight"), &[width, 3, self.n_in, self.n_in], true);
        }
        add(self.at("embeddings.position_embedding.weight"), &[self.tower.positions, width], false);
        for i in 0..self.tower.sizes.layers {
            let Names { norm_1, norm_2, .. } = self.names(i);
            for part in [norm_1, norm_2].iter().flat_map(|norm| ["weight", "bias"].map(|part| format!("{norm}.{part}"))) {
                add(part, &[width], false);
            }
        }
        for (name, [n_out, n_in]) in self.blocks(&|i| self.names(i)).dense() {
            add(format!("{name}.weight"), &[n_out, n_in], true);
            add(format!("{name}.bias"), &[n_out], false);
        }
        // The first name is misspelt in the checkpoints.
        let norms: &[&str] =
            if self.modality == Modality::Text { &["final_layer_norm"] } else { &["pre_layrnorm", "post_layernorm"] };
        for part in norms.iter().flat_map(|norm| ["weight", "bias"].map(|part| format!("{norm}.{part}"))) {
            add(self.at(&part), &[width], false);
        }
        add(self.projector().to_owned(), &[self.projection, width], true);
        all
    }

    /// Low-rank changes of its dense layers.
    pub(crate) fn low_rank(&self, rank: usize, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        self.blocks(&|i| self.names(i)).low_rank(rank, rng)
    }

    fn names(&self, i: usize) -> Names {
        let at = |part: &str| self.at(&format!("encoder.layers.{i}.{part}"));
        Names {
            norm_1: at("layer_norm1"),
            qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(at),
            out: at("self_attn.out_proj"),
            norm_2: at("layer_norm2"),
            widen: at("mlp.fc1"),
            narrow: at("mlp.fc2"),
        }
    }

    fn blocks<'a>(&self, names: &'a dyn Fn(usize) -> Names) -> Blocks<'a> {
        let sees = if self.modality == Modality::Text { Sees::Past } else { Sees::All };
        Blocks { sizes: self.tower.sizes, eps: self.tower.eps, act: self.act, sees, names }
    }

    /// Pictures to the states of their class tokens, `[n, width]`, normalised.
    fn pictures<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], dropout: &mut Option<Dropout>) -> Var<'t, f32> {
        let (n, n_tokens) = (inputs.len(), self.tower.positions);
        let n_patches = n_tokens - 1;
        let patches = on.tape.constant(Array::new(n * n_patches, 3 * self.n_in * self.n_in, rows(inputs)));
        let patches = patches.linear(on.get(&self.at("embeddings.patch_embedding.weight")), None);
        // Row 0 is the class token, which stands before the patches of each picture.
        let stack = on.tape.under(&[on.get(&self.at("embeddings.class_embedding")), patches]);
        let of_picture = |i: usize| std::iter::once(0).chain(1 + i * n_patches..1 + (i + 1) * n_patches);
        let tokens = stack.rows((0..n).flat_map(of_picture).collect::<Vec<usize>>());
        let places: Vec<usize> = (0..n).flat_map(|_| 0..n_tokens).collect();
        let x = tokens + on.get(&self.at("embeddings.position_embedding.weight")).rows(places);
        let x = on.norm(x, &self.at("pre_layrnorm"), self.tower.eps);
        let x = on.blocks(x, &self.blocks(&|i| self.names(i)), &vec![n_tokens; n], dropout);
        let class = x.rows((0..n).map(|i| i * n_tokens).collect::<Vec<usize>>());
        on.norm(class, &self.at("post_layernorm"), self.tower.eps)
    }

    /// Texts, which end with their end tokens, to the states of these, `[n, width]`, normalised.
    fn texts<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], dropout: &mut Option<Dropout>) -> Var<'t, f32> {
        let (words, lengths) = words(inputs);
        let places: Vec<usize> = lengths.iter().flat_map(|n| 0..*n).collect();
        let x = on.get(&self.at("embeddings.token_embedding.weight")).rows(words)
            + on.get(&self.at("embeddings.position_embedding.weight")).rows(places);
        let x = on.blocks(x, &self.blocks(&|i| self.names(i)), &lengths, dropout);
        let last = lengths.iter().scan(0, |after, n| {
            *after += n;
            Some(*after - 1)
        });
        let last = x.rows(last.collect::<Vec<usize>>());
        on.norm(last, &self.at("final_layer_norm"), self.tower.eps)
    }
}

impl Network for Clip {
    fn modality(&self) -> Modality {
        self.modality
    }

    fn projection(&self) -> usize {
        self.projection
    }

    fn see<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], mut dropout: Option<Dropout>) -> Seen<'t> {
        let states = if self.modality == Modality::Text {
            self.texts(on, inputs, &mut dropout)
        } else {
            self.pictures(on, inputs, &mut dropout)
        };
        states.linear(on.get(self.projector()), None).unit_rows().into()
    }
}
