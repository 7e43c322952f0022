//! The model of a run: its folder, its towers, their first weights.

use std::collections::HashMap;
use std::path::Path;

use chiasm_core::Modality;
use chiasm_encode::{AudioTower, ImageTower, Inputs, JointConfig, MODEL_TYPE, SeriesTower, TextTower};
use chiasm_nn::grad::Array;
use chiasm_nn::learn::Parameter;
use serde_json::json;

use crate::config::{Config, Objective};
use crate::data::Data;
use crate::error::{Result, TrainError, io};
use crate::tower::{Shape, stream};
use crate::{files, words};

pub(crate) const WEIGHTS: &str = "model.safetensors";
const TOKENISER: &str = "tokenizer.json";

/// Mean and deviation to which log-mel spectra are brought: about those of generated and recorded sounds alike.
const LOG_MEL: [f64; 2] = [-4.27, 4.57];

/// Writes the descriptions of a model into its folder, unless they are there; the tokeniser is learned from the texts of `data`, or taken from the model that this one
/// begins as. What was there of another model is refused.
pub(crate) fn describe(config: &Config, data: &Data, folder: &Path) -> Result<JointConfig> {
    let m = &config.model;
    let tokeniser = folder.join(TOKENISER);
    let text = match m.text {
        None => None,
        Some(tower) => {
            let start = m.start.as_ref().map(|start| start.join(TOKENISER)).filter(|path| path.is_file());
            if let (false, Some(start)) = (tokeniser.is_file(), &start) {
                let bytes = std::fs::read(start).map_err(io("read", start))?;
                files::replace(&tokeniser, &bytes)?;
            }
            if !tokeniser.is_file() {
                if tower.vocabulary < words::LEAST {
                    let reason = format!(
                        "model.text.vocabulary is {}, expected at least {}: one for each byte, and one for the start",
                        tower.vocabulary,
                        words::LEAST
                    );
                    return Err(TrainError::Config { path: folder.to_owned(), reason });
                }
                let texts: Vec<&str> = data.texts().collect();
                words::learn(texts.into_iter(), tower.vocabulary, &tokeniser)?;
            }
            let vocabulary = count_words(&tokeniser)?;
            Some(TextTower { sizes: tower.sizes(), vocabulary, tokens: tower.tokens })
        }
    };
    let joint = JointConfig {
        model_type: MODEL_TYPE.to_owned(),
        projection_dim: m.projection,
        image: m.image.map(|t| ImageTower { sizes: t.sizes(), size: t.size, patch: t.patch }),
        text,
        audio: m.audio.map(|t| AudioTower { sizes: t.sizes(), frames: t.frames, bands: t.bands, patch: t.patch }),
        series: m.series.map(|t| SeriesTower { sizes: t.sizes(), steps: t.steps, channels: t.channels, window: t.window }),
    };
    let mut preprocessing = json!({});
    if let Some(t) = &m.image {
        preprocessing["size"] = json!({ "height": t.size, "width": t.size });
        preprocessing["do_center_crop"] = json!(false);
        preprocessing["resample"] = json!(3);
        preprocessing["image_mean"] = json!([0.5, 0.5, 0.5]);
        preprocessing["image_std"] = json!([0.25, 0.25, 0.25]);
    }
    if let Some(t) = &m.audio {
        preprocessing["sampling_rate"] = json!(t.rate_hz);
        preprocessing["num_mel_bins"] = json!(t.bands);
        preprocessing["max_length"] = json!(t.frames);
        preprocessing["mean"] = json!(LOG_MEL[0]);
        preprocessing["std"] = json!(LOG_MEL[1] / 2.0);
    }
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).expect("plain data") + "\n";
    let descriptions = [
        ("config.json", pretty(&serde_json::to_value(&joint).expect("plain data"))),
        ("preprocessor_config.json", pretty(&preprocessing)),
    ];
    for (name, text) in descriptions {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(there) if there == text => {}
            Ok(_) => {
                let reason = "is that of another model: name another folder with --out, or remove this one".to_owned();
                return Err(TrainError::Folder { path, reason });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => files::replace(&path, text.as_bytes())?,
            Err(source) => return Err(TrainError::Io { doing: "read", path, source }),
        }
    }
    Ok(joint)
}

fn count_words(tokeniser: &Path) -> Result<usize> {
    let read = tokenizers::Tokenizer::from_file(tokeniser);
    let read = read.map_err(|e| TrainError::Data { path: tokeniser.to_owned(), reason: e.to_string() })?;
    Ok(read.get_vocab_size(true))
}

/// What stands before each tower.
pub(crate) fn inputs(joint: &JointConfig, folder: &Path) -> Result<HashMap<Modality, Inputs>> {
    joint.modalities().into_iter().map(|modality| Ok((modality, Inputs::open(folder, modality)?))).collect()
}

/// The towers.
pub(crate) fn shapes(joint: &JointConfig, inputs: &HashMap<Modality, Inputs>) -> Vec<Shape> {
    let shape = |modality: Modality| {
        let [n_tokens, numbers] = inputs[&modality].shape();
        let n_in = if modality == Modality::Text { joint.text.map_or(0, |tower| tower.vocabulary) } else { numbers };
        let sizes = joint.sizes(modality).expect("one of the model's own");
        Shape { modality, sizes, n_tokens, n_in, projection: joint.projection_dim }
    };
    joint.modalities().into_iter().map(shape).collect()
}

/// All parameters as they begin, and whether each is learned.
pub(crate) fn parameters(config: &Config, shapes: &[Shape]) -> Result<(Vec<Parameter>, Vec<bool>)> {
    let wrong = |reason: String| TrainError::Config { path: "model".into(), reason };
    let (frozen, low_rank) = (config.frozen().map_err(wrong)?, config.low_rank().map_err(wrong)?);
    let begun = match &config.model.start {
        Some(start) => files::read_weights(&start.join(WEIGHTS))?,
        None => HashMap::new(),
    };
    let (mut all, mut learned) = (Vec::new(), Vec::new());
    for shape in shapes {
        let prefix = format!("{}.", shape.modality);
        let mut own = shape.drawn(&mut stream(config.seed, "tower", shape.modality as u64));
        let has = begun.keys().any(|name| name.starts_with(&prefix));
        let held = frozen.contains(&shape.modality) || low_rank.contains(&shape.modality);
        if held && !has {
            return Err(wrong(format!("the {} tower is to stay as it is, and model.start has none", shape.modality)));
        }
        if has {
            for p in &mut own {
                let there = begun.get(&p.name).filter(|there| there.shape() == p.value.shape());
                let there = there.ok_or_else(|| {
                    let came = begun
                        .get(&p.name)
                        .map_or_else(|| "is not there".to_owned(), |there| format!("has the shape {:?}", there.shape()));
                    wrong(format!(
                        "model.start: `{}` {came}, this model's has {:?}: give its towers the sizes that they have there",
                        p.name,
                        p.value.shape()
                    ))
                })?;
                p.value = there.clone();
            }
        }
        learned.extend(own.iter().map(|_| !held));
        all.extend(own);
        if let (true, Some(lora)) = (low_rank.contains(&shape.modality), &config.model.lora) {
            let changes = shape.low_rank(lora.rank, &mut stream(config.seed, "low rank", shape.modality as u64));
            learned.extend(changes.iter().map(|_| true));
            all.extend(changes);
        }
    }
    let number = |name: &str, value: f64| {
        let there = begun.get(name).filter(|there| there.shape() == [1, 1]);
        Parameter::plain(name, there.cloned().unwrap_or_else(|| Array::scalar(value as f32)))
    };
    if config.train.objective != Objective::Triplet {
        all.push(number("logit_scale", config.train.scale.ln()));
        learned.push(true);
    }
    if config.train.objective == Objective::Siglip {
        // As many wrong pairs as there are right ones would make 0; there are far more (Zhai et al. 2023, section 3.2).
        all.push(number("logit_bias", -config.train.scale));
        learned.push(true);
    }
    Ok((all, learned))
}
