//! The towers as they learn: the network of `crates/chiasm-encode/src/nets/chiasm.rs` on a tape.

use std::collections::HashMap;
use std::sync::Arc;

use chiasm_core::Modality;
use chiasm_encode::{EPS, Prepared, Sizes};
use chiasm_nn::grad::{Array, Sees, Tape, Var};
use chiasm_nn::learn::Parameter;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Dense layers of a block, which a low-rank change changes.
const DENSE: [&str; 6] = ["q", "k", "v", "out", "widen", "narrow"];

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
        let Sizes { width, inner, layers, .. } = self.sizes;
        let at = |part: &str| format!("{}.{part}", self.modality);
        let by_width = 1.0 / (width as f64).sqrt();
        let behind = by_width / (2.0 * layers.max(1) as f64).sqrt();
        let mut all = Vec::new();
        if self.modality == Modality::Text {
            all.push(Parameter::weight(at("embed.weight"), normal(self.n_in, width, 0.02, rng)));
        } else {
            all.push(Parameter::weight(at("embed.weight"), normal(width, self.n_in, 1.0 / (self.n_in as f64).sqrt(), rng)));
            all.push(Parameter::plain(at("embed.bias"), Array::zeros(1, width)));
        }
        all.push(Parameter::plain(at("positions"), normal(self.n_tokens, width, 0.01, rng)));
        let norm = |all: &mut Vec<Parameter>, name: String| {
            all.push(Parameter::plain(format!("{name}.weight"), Array::full(1, width, 1.0)));
            all.push(Parameter::plain(format!("{name}.bias"), Array::zeros(1, width)));
        };
        for layer in 0..layers {
            let at = |part: &str| at(&format!("blocks.{layer}.{part}"));
            norm(&mut all, at("norm_1"));
            for (part, [n_out, n_in], deviation) in [
                ("q", [width, width], by_width),
                ("k", [width, width], by_width),
                ("v", [width, width], by_width),
                ("out", [width, width], behind),
                ("widen", [inner, width], by_width / 2.0_f64.sqrt()),
                ("narrow", [width, inner], behind),
            ] {
                all.push(Parameter::weight(at(&format!("{part}.weight")), normal(n_out, n_in, deviation, rng)));
                all.push(Parameter::plain(at(&format!("{part}.bias")), Array::zeros(1, n_out)));
            }
            norm(&mut all, at("norm_2"));
        }
        norm(&mut all, at("norm"));
        all.push(Parameter::weight(at("project.weight"), normal(self.projection, width, by_width, rng)));
        all
    }

    /// Low-rank changes of its dense layers, which change nothing at the start: `A` drawn, `B` zero.
    pub(crate) fn low_rank(&self, rank: usize, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        let Sizes { width, inner, layers, .. } = self.sizes;
        let mut all = Vec::new();
        for (layer, part) in (0..layers).flat_map(|layer| DENSE.map(|part| (layer, part))) {
            let [n_out, n_in] = match part {
                "widen" => [inner, width],
                "narrow" => [width, inner],
                _ => [width, width],
            };
            let prefix = format!("{}.blocks.{layer}.{part}", self.modality);
            all.push(Parameter::plain(format!("{prefix}.lora_a"), normal(rank, n_in, 1.0 / (n_in as f64).sqrt(), rng)));
            all.push(Parameter::plain(format!("{prefix}.lora_b"), Array::zeros(n_out, rank)));
        }
        all
    }
}

/// Parameters on a tape, by name.
pub(crate) struct Bound<'t> {
    pub(crate) tape: &'t Tape<f32>,
    pub(crate) of: HashMap<String, Var<'t, f32>>,
    /// What low-rank changes are multiplied by.
    pub(crate) lora_scale: f32,
}

/// What is left out while learning, and by which chances.
pub(crate) struct Dropout {
    pub(crate) share: f64,
    pub(crate) rng: ChaCha8Rng,
}

impl<'t> Bound<'t> {
    fn get(&self, name: &str) -> Var<'t, f32> {
        self.of[name]
    }

    fn linear(&self, x: Var<'t, f32>, prefix: &str) -> Var<'t, f32> {
        let y = x.linear(self.get(&format!("{prefix}.weight")), Some(self.get(&format!("{prefix}.bias"))));
        match (self.of.get(&format!("{prefix}.lora_a")), self.of.get(&format!("{prefix}.lora_b"))) {
            (Some(a), Some(b)) => y + x.linear(*a, None).linear(*b, None).scaled(self.lora_scale),
            (_, _) => y,
        }
    }

    fn norm(&self, x: Var<'t, f32>, name: &str) -> Var<'t, f32> {
        x.layer_norm(self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")), f64::from(EPS))
    }

    /// Embeddings of inputs, `[n, projection]`, at unit length.
    pub(crate) fn embed(&self, shape: &Shape, inputs: &[Arc<Prepared>], mut dropout: Option<Dropout>) -> Var<'t, f32> {
        let at = |part: &str| format!("{}.{part}", shape.modality);
        let lengths: Vec<usize> = inputs
            .iter()
            .map(|input| match &**input {
                Prepared::Rows(rows) => rows.len() / shape.n_in,
                Prepared::Words(words) => words.len(),
            })
            .collect();
        let places: Vec<usize> = lengths.iter().flat_map(|n| 0..*n).collect();
        let embedded = if shape.modality == Modality::Text {
            let words: Vec<usize> = inputs
                .iter()
                .flat_map(|input| match &**input {
                    Prepared::Words(words) => words.as_slice(),
                    Prepared::Rows(_) => &[],
                })
                .map(|word| *word as usize)
                .collect();
            self.get(&at("embed.weight")).rows(words)
        } else {
            let mut rows = Vec::with_capacity(places.len() * shape.n_in);
            for input in inputs {
                if let Prepared::Rows(of_input) = &**input {
                    rows.extend_from_slice(of_input);
                }
            }
            self.linear(self.tape.constant(Array::new(places.len(), shape.n_in, rows)), &at("embed"))
        };
        let mut x = embedded + self.get(&at("positions")).rows(places);
        for layer in 0..shape.sizes.layers {
            let at = |part: &str| at(&format!("blocks.{layer}.{part}"));
            let h = self.norm(x, &at("norm_1"));
            let [q, k, v] = ["q", "k", "v"].map(|part| self.linear(h, &at(part)));
            let mixed = q.attend(k, v, &lengths, &lengths, shape.sizes.heads, Sees::All);
            x = x + self.dropped(self.linear(mixed, &at("out")), &mut dropout);
            let h = self.linear(self.norm(x, &at("norm_2")), &at("widen")).gelu();
            x = x + self.dropped(self.linear(h, &at("narrow")), &mut dropout);
        }
        self.norm(x, &at("norm")).mean_of_runs(&lengths).linear(self.get(&at("project.weight")), None).unit_rows()
    }

    /// With a share of the numbers left out, and the others made up for it.
    fn dropped(&self, x: Var<'t, f32>, dropout: &mut Option<Dropout>) -> Var<'t, f32> {
        let Some(Dropout { share, rng }) = dropout else { return x };
        let [n, m] = x.shape();
        let kept = (1.0 / (1.0 - *share)) as f32;
        x * self.tape.constant(Array::from_fn(n, m, |_, _| if rng.random::<f64>() < *share { 0.0 } else { kept }))
    }
}

/// Parameters with low-rank changes merged into what they change: those that a checkpoint holds.
pub(crate) fn merged(parameters: &[Parameter], lora_scale: f32) -> Vec<Parameter> {
    let by_name: HashMap<&str, &Array<f32>> = parameters.iter().map(|p| (p.name.as_str(), &p.value)).collect();
    let own = parameters.iter().filter(|p| !p.name.contains(".lora_"));
    own.map(|p| {
        let prefix = p.name.strip_suffix(".weight").unwrap_or(&p.name);
        let change = (by_name.get(format!("{prefix}.lora_a").as_str()), by_name.get(format!("{prefix}.lora_b").as_str()));
        let (Some(a), Some(b)) = change else { return p.clone() };
        let tape = Tape::new();
        let change = tape.constant(Array::clone(b)).dot(tape.constant(Array::clone(a)));
        let mut p = p.clone();
        p.value.change_with(&change.value(), move |w, d| w + lora_scale * d);
        p
    })
    .collect()
}

/// Normal numbers (Box and Muller).
fn normal(n: usize, m: usize, deviation: f64, rng: &mut ChaCha8Rng) -> Array<f32> {
    Array::from_fn(n, m, |_, _| {
        let (a, b): (f64, f64) = (rng.random(), rng.random());
        (deviation * (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    })
}

/// A stream of random numbers of its own for each purpose: what is drawn for one never changes what is drawn for another.
pub(crate) fn stream(seed: u64, purpose: &str, number: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&number.to_le_bytes()).update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use chiasm_core::Media;
    use chiasm_encode::{Inputs, ModelDirs};
    use chiasm_world::{WorldConfig, captions, deck, motion, picture, sound};

    use super::*;
    use crate::config::Config;
    use crate::data::Data;
    use crate::files::{Stored, write_weights};
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
        let config: Config = toml::from_str(CONFIG).unwrap();
        let data = Data::open(&config, &config.modalities()).unwrap();
        let joint = model::describe(&config, &data, folder.path()).unwrap();
        let inputs = model::inputs(&joint, folder.path()).unwrap();
        let shapes = model::shapes(&joint, &inputs);
        let (mut parameters, _) = model::parameters(&config, &shapes).unwrap();
        // Biases and gains are 0 and 1 at the start, so that a mistake in them would not be seen.
        let mut rng = stream(7, "test", 0);
        parameters
            .iter_mut()
            .filter(|p| !p.decays)
            .for_each(|p| p.value.add(&normal(p.value.n_rows(), p.value.n_cols(), 0.2, &mut rng)));
        write_weights(&folder.path().join(model::WEIGHTS), &parameters, Stored::Single).unwrap();
        let scenes = deck(&WorldConfig { seed: 5, n_train: 6, n_heldout: 0 }).unwrap();
        for shape in &shapes {
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
            let of: HashMap<String, Var<'_, f32>> =
                parameters.iter().map(|p| (p.name.clone(), tape.constant(p.value.clone()))).collect();
            let on_tape = Bound { tape: &tape, of, lora_scale: 0.0 }.embed(shape, &prepared, None).value();
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
