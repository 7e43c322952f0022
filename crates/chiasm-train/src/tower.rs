//! This project's own towers as they learn: the network of `crates/chiasm-encode/src/nets/chiasm.rs` on a tape.

use std::sync::Arc;

use chiasm_core::Modality;
use chiasm_encode::{EPS, Prepared, Sizes};
use chiasm_nn::grad::{Array, Sees};
use chiasm_nn::learn::Parameter;
use rand_chacha::ChaCha8Rng;

use crate::tape::{Act, Blocks, Bound, Dropout, Names, Network, Seen, States, normal, rows, words};

/// What a tower is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) modality: Modality,
    pub(crate) sizes: Sizes,
    /// Tokens at most.
    pub(crate) n_tokens: usize,
    /// Numbers of a token; for texts the words that there are.
    pub(crate) n_in: usize,
    /// Numbers per embedding.
    pub(crate) projection: usize,
}

impl Shape {
    /// The parameters at the start, drawn as those of CLIP are (Radford et al. 2021, section 2.5 and its code).
    pub(crate) fn drawn(&self, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        let Sizes { width, layers, .. } = self.sizes;
        let at = |part: &str| format!("{}.{part}", self.modality);
        let mut all = Vec::new();
        if self.modality == Modality::Text {
            all.push(Parameter::weight(at("embed.weight"), normal(self.n_in, width, 0.02, rng)));
        } else {
            all.push(Parameter::weight(at("embed.weight"), normal(width, self.n_in, 1.0 / (self.n_in as f64).sqrt(), rng)));
            all.push(Parameter::plain(at("embed.bias"), Array::zeros(1, width)));
        }
        all.push(Parameter::plain(at("positions"), normal(self.n_tokens, width, 0.01, rng)));
        for layer in 0..layers {
            drawn_block(&mut all, &self.names(layer), self.sizes, rng);
        }
        drawn_norm(&mut all, &at("norm"), width);
        all.push(Parameter::weight(at("project.weight"), normal(self.projection, width, 1.0 / (width as f64).sqrt(), rng)));
        all
    }

    /// Low-rank changes of its dense layers.
    pub(crate) fn low_rank(&self, rank: usize, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        self.blocks(&|i| self.names(i)).low_rank(rank, rng)
    }

    fn names(&self, i: usize) -> Names {
        Names::under(&format!("{}.blocks.{i}", self.modality))
    }

    fn blocks<'a>(&self, names: &'a dyn Fn(usize) -> Names) -> Blocks<'a> {
        Blocks { sizes: self.sizes, eps: EPS, act: Act::Gelu, sees: Sees::All, names }
    }
}

/// A normalisation at the start.
pub(crate) fn drawn_norm(all: &mut Vec<Parameter>, name: &str, width: usize) {
    all.push(Parameter::plain(format!("{name}.weight"), Array::full(1, width, 1.0)));
    all.push(Parameter::plain(format!("{name}.bias"), Array::zeros(1, width)));
}

/// A dense layer at the start.
pub(crate) fn drawn_dense(
    all: &mut Vec<Parameter>,
    name: &str,
    [n_out, n_in]: [usize; 2],
    deviation: f64,
    rng: &mut ChaCha8Rng,
) {
    all.push(Parameter::weight(format!("{name}.weight"), normal(n_out, n_in, deviation, rng)));
    all.push(Parameter::plain(format!("{name}.bias"), Array::zeros(1, n_out)));
}

/// A block at the start.
pub(crate) fn drawn_block(all: &mut Vec<Parameter>, names: &Names, sizes: Sizes, rng: &mut ChaCha8Rng) {
    let Sizes { width, inner, layers, .. } = sizes;
    let by_width = 1.0 / (width as f64).sqrt();
    let behind = by_width / (2.0 * layers.max(1) as f64).sqrt();
    drawn_norm(all, &names.norm_1, width);
    let [q, k, v] = &names.qkv;
    for (name, shape, deviation) in [
        (q, [width, width], by_width),
        (k, [width, width], by_width),
        (v, [width, width], by_width),
        (&names.out, [width, width], behind),
        (&names.widen, [inner, width], by_width / 2.0_f64.sqrt()),
        (&names.narrow, [width, inner], behind),
    ] {
        drawn_dense(all, name, shape, deviation, rng);
    }
    drawn_norm(all, &names.norm_2, width);
}

impl Network for Shape {
    fn modality(&self) -> Modality {
        self.modality
    }

    fn projection(&self) -> usize {
        self.projection
    }

    fn see<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], mut dropout: Option<Dropout>) -> Seen<'t> {
        let at = |part: &str| format!("{}.{part}", self.modality);
        // [tokens of all inputs, width]
        let (embedded, lengths) = if self.modality == Modality::Text {
            let (words, lengths) = words(inputs);
            (on.get(&at("embed.weight")).rows(words), lengths)
        } else {
            let of = |input: &Arc<Prepared>| if let Prepared::Rows(rows) = &**input { rows.len() / self.n_in } else { 0 };
            let lengths: Vec<usize> = inputs.iter().map(of).collect();
            let rows = Array::new(lengths.iter().sum(), self.n_in, rows(inputs));
            (on.linear(on.tape.constant(rows), &at("embed")), lengths)
        };
        let places: Vec<usize> = lengths.iter().flat_map(|n| 0..*n).collect();
        let x = embedded + on.get(&at("positions")).rows(places);
        let x = on.blocks(x, &self.blocks(&|i| self.names(i)), &lengths, &mut dropout);
        let rows = on.norm(x, &at("norm"), EPS);
        let embeddings = rows.mean_of_runs(&lengths).linear(on.get(&at("project.weight")), None).unit_rows();
        Seen { embeddings, states: Some(States { rows, lengths }) }
    }
}

#[cfg(test)]
mod tests {
    use chiasm_core::Media;
    use chiasm_encode::{Inputs, ModelDirs};
    use chiasm_nn::grad::Tape;
    use chiasm_world::{WorldConfig, captions, deck, motion, picture, sound};

    use super::*;
    use crate::model;

    const CONFIG: &str = r#"
        [model]
        projection = 24
        image = { size = 32, patch = 8, width = 32, inner = 48, layers = 2, heads = 4 }
        text = { vocabulary = 300, tokens = 24, width = 24, inner = 40, layers = 2, heads = 2 }
        audio = { bands = 32, frames = 160, patch = 8, width = 32, inner = 48, layers = 1, heads = 2 }
        series = { steps = 96, channels = 4, window = 8, width = 16, inner = 32, layers = 2, heads = 2 }
        [[data]]
        kind = "world"
        world = 5
        scenes = 30
    "#;

    /// What is learned is what is computed: embeddings on the tape, and those of the encoders that open what was written.
    #[test]
    fn the_tape_and_the_encoders_agree() {
        let folder = tempfile::tempdir().unwrap();
        let model = model::written::write(CONFIG, folder.path());
        let scenes = deck(&WorldConfig { seed: 5, n_train: 6, n_heldout: 0 }).unwrap();
        for shape in &model.shapes {
            let media: Vec<Media> = scenes
                .iter()
                .enumerate()
                .map(|(i, scene)| match shape.modality {
                    Modality::Image => Media::Image(picture(scene, 5, i)),
                    Modality::Audio => Media::Audio(sound(scene, 5, i)),
                    Modality::Series => Media::Series(motion(scene, 5, i)),
                    Modality::Text | Modality::Video | Modality::Shape => Media::Text(captions(scene, 5, i)[i % 2].clone()),
                })
                .collect();
            let before = Inputs::open(folder.path(), shape.modality).unwrap();
            let prepared: Vec<Arc<Prepared>> = media.iter().map(|media| Arc::new(before.prepare(media).unwrap())).collect();
            let tape = Tape::new();
            let on_tape = shape.embed(&model.bound(&tape), &prepared, None).value();
            let name = format!("{}:{}", folder.path().display(), shape.modality);
            let encoded = chiasm_encode::open(&name, &ModelDirs::default()).unwrap().encode(&media).unwrap();
            let most = (0..media.len())
                .flat_map(|i| on_tape.row(i).iter().zip(encoded.row(i)))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            // Unit vectors through two blocks in single precision.
            assert!(most < 5e-6, "{}: {most:e}", shape.modality);
        }
    }
}
