//! The head of a classifier: one dense layer on the features of any network, whose outputs the description names.
//!
//! # Reference
//! The `ForImageClassification` and `ForAudioClassification` classes of transformers and what its pipelines make of their outputs: softmax, or a sigmoid each where
//! `problem_type` says that several classes may hold at once. Checked against them for every architecture that has such a head.

use std::collections::BTreeMap;
use std::path::Path;

use chiasm_nn::cuda::{Device, DeviceError};
use chiasm_nn::{Activation, LayerNorm, Linear, Weights, WeightsError, sigmoid, softmax};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::model::{self, Output};
use crate::net::{Net, Wanted, Watch, on_all_cores};
use crate::nets::clip::projected;

/// What `config.json` says of classes.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    id2label: BTreeMap<String, String>,
    problem_type: Option<String>,
}

/// The names of the classes in the order of the output.
fn ordered(path: &Path, config: Config) -> Result<Vec<String>, OpenError> {
    let n = config.id2label.len();
    model::expect(path, n > 0, || "it names no classes under id2label: leave out `:classes` to have its features".to_owned())?;
    let mut names = vec![None; n];
    for (id, name) in config.id2label {
        let place = id.parse().ok().and_then(|at: usize| names.get_mut(at)).filter(|place| place.is_none());
        let place =
            place.ok_or_else(|| model::config(path, format!("id2label has the id `{id}`, expected each of 0 to {}", n - 1)))?;
        *place = Some(name);
    }
    Ok(names.into_iter().flatten().collect())
}

/// The names of the classes that the checkpoint in a folder has.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, OpenError> {
    let path = folder.join("config.json");
    let config = model::parse(&path, &model::read(&path)?)?;
    ordered(&path, config)
}

/// The classes of a checkpoint.
pub(crate) struct Classes {
    n: usize,
    /// Whether several may hold at once.
    several: bool,
}

impl Classes {
    /// Those of the checkpoint, if classes are what is wanted of it.
    pub(crate) fn wanted(files: &mut Checkpoint, wanted: Wanted) -> Result<Option<Self>, OpenError> {
        if wanted.output == Output::Embedding {
            return Ok(None);
        }
        let (path, config): (_, Config) = files.json("config.json")?;
        let several = config.problem_type.as_deref() == Some("multi_label_classification");
        Ok(Some(Self { n: ordered(&path, config)?.len(), several }))
    }

    /// The same, of a network that was trained with classes that may hold together, whatever its description says.
    pub(crate) fn several(self) -> Self {
        Self { several: true, ..self }
    }
}

/// Where the tensors of a head are.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// What the names of all of them begin with.
    pub(crate) prefix: &'a str,
    /// The dense layer: `{dense}.weight`, `[n_classes, dim]`, and `{dense}.bias`.
    pub(crate) dense: &'a str,
    /// The normalisation before it, where there is one, and what that adds to the variance.
    pub(crate) norm: Option<(&'a str, f32)>,
}

impl<'a> Head<'a> {
    /// The dense layer alone, in the names of transformers.
    pub(crate) fn dense(dense: &'a str) -> Self {
        Self { prefix: "classifier.", dense, norm: None }
    }
}

/// A network with its head on top if classes are wanted; else its features as they are, and the tensors of the head are left aside.
pub(crate) fn on_top<I: 'static>(
    w: &mut Weights,
    classes: Option<Classes>,
    head: Head<'_>,
    net: impl Net<I> + 'static,
) -> Result<Box<dyn Net<I>>, OpenError> {
    let Some(Classes { n, several }) = classes else {
        w.skip_prefix(head.prefix);
        return Ok(Box::new(net));
    };
    let dim = net.dim();
    let load = |(name, eps): (&str, f32)| -> Result<LayerNorm, WeightsError> { LayerNorm::load(w, name, dim, eps) };
    let norm = head.norm.map(load).transpose()?;
    let head = Linear::load(w, head.dense, dim, n, Activation::None)?;
    Ok(Box::new(Classified { net, norm, head, several, on_device: false }))
}

struct Classified<N> {
    net: N,
    norm: Option<LayerNorm>,
    head: Linear,
    several: bool,
    on_device: bool,
}

impl<N> Classified<N> {
    /// The classes' probabilities from the network's features.
    fn probabilities(&self, features: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut features = features.concat();
        if let Some(norm) = &self.norm {
            norm.forward(&mut features);
        }
        let mut rows = projected(&self.head, &features);
        for row in &mut rows {
            if self.several {
                sigmoid(row);
            } else {
                let n = row.len();
                softmax(row, n);
            }
        }
        rows
    }
}

impl<I, N: Net<I>> Net<I> for Classified<N> {
    fn dim(&self) -> usize {
        self.head.n_out()
    }

    fn rows(&self, input: &I) -> usize {
        self.net.rows(input)
    }

    fn embed(&self, inputs: &[I], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        self.probabilities(&self.net.embed(inputs, watch))
    }

    fn move_to(&mut self, device: &Device) -> Result<bool, DeviceError> {
        self.on_device = self.net.move_to(device)?;
        Ok(self.on_device)
    }

    fn embed_all(&self, inputs: &[I]) -> Result<Vec<Vec<f32>>, DeviceError>
    where
        I: Sync,
    {
        if self.on_device { Ok(self.probabilities(&self.net.embed_all(inputs)?)) } else { Ok(on_all_cores(self, inputs)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_of_their_numbers() {
        let path = Path::new("config.json");
        let of = |json: &str| ordered(path, serde_json::from_str(json).unwrap()).map_err(|e| e.to_string());
        let eleven: Vec<String> = (0..11).rev().map(|i| format!(r#""{i}": "name {i}""#)).collect();
        let names = of(&format!(r#"{{"id2label": {{{}}}}}"#, eleven.join(", "))).unwrap();
        assert_eq!((names[2].as_str(), names[10].as_str(), names.len()), ("name 2", "name 10", 11));
        for (json, reason) in [
            ("{}", "names no classes under id2label"),
            (r#"{"id2label": {"1": "a"}}"#, "id2label has the id `1`, expected each of 0 to 0"),
            (r#"{"id2label": {"0": "a", "00": "b"}}"#, "id2label has the id `00`"),
            (r#"{"id2label": {"-1": "a"}}"#, "id2label has the id `-1`"),
        ] {
            let message = of(json).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
    }
}
