//! The model of a run: its folder, its towers, what of them is learned, and what stands before them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use chiasm_core::Modality;
use chiasm_encode::{
    AudioTower, ImageTower, Inputs, JointConfig, MODEL_TYPE, ModelDirs, OpenError, SeriesTower, TextTower, bare, locate,
    tower_name,
};
use chiasm_nn::Weights;
use chiasm_nn::grad::{Array, Tape};
use chiasm_nn::learn::Parameter;
use serde_json::json;

use crate::config::{self, Config, Learns, Objective, Start};
use crate::data::{Before, Data};
use crate::error::{Result, TrainError, io};
use crate::files::{Layout, Stored};
use crate::matching::{self, Matching};
use crate::tape::{Bound, Network, Scales, Still, merged, stream};
use crate::tower::Shape;
use crate::{clip, files, words};

pub(crate) const WEIGHTS: &str = "model.safetensors";
const TOKENISER: &str = "tokenizer.json";
const DESCRIPTION: &str = "config.json";

/// What a tuned checkpoint keeps of the one that it began as, beside the weights: whatever of it is there.
const DESCRIPTIONS: [&str; 9] = [
    DESCRIPTION,
    "preprocessor_config.json",
    "processor_config.json",
    TOKENISER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Mean and deviation to which log-mel spectra are brought: about those of generated and recorded sounds alike.
const LOG_MEL: [f64; 2] = [-4.27, 4.57];

/// A number that a loss learns: the logarithm of what cosines are multiplied by, and what is added to logits.
const SCALE: &str = "logit_scale";
const BIAS: &str = "logit_bias";

/// Everything that a run needs to know of its model.
pub(crate) struct Model {
    pub(crate) networks: Vec<Box<dyn Network>>,
    /// What reads a text with a picture before it.
    pub(crate) matching: Option<Matching>,
    pub(crate) before: BTreeMap<Modality, Before>,
    /// What is learned, as it begins.
    pub(crate) learned: Vec<Parameter>,
    pub(crate) rest: Rest,
}

/// What of a model does not change from step to step.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// Parameters that stay as they are.
    pub(crate) held: BTreeMap<String, Arc<Array<f32>>>,
    pub(crate) scales: Scales,
    layout: Layout,
    /// Digest of the weights that it began as, if it did.
    pub(crate) from: Option<String>,
}

impl Rest {
    /// All parameters on a tape by name: those that stay as constants, those that are learned as `of` has them.
    pub(crate) fn bound<'t>(
        &self,
        tape: &'t Tape<f32>,
        learned: impl Iterator<Item = (String, chiasm_nn::grad::Var<'t, f32>)>,
    ) -> Bound<'t> {
        let mut of: HashMap<_, _> =
            self.held.iter().map(|(name, value)| (name.clone(), tape.constant(Arc::clone(value)))).collect();
        of.extend(learned);
        Bound { tape, of, scales: self.scales.clone() }
    }

    /// Writes the weights of the model in a folder, with `values` for what is learned.
    pub(crate) fn write<'a>(
        &'a self,
        folder: &Path,
        values: impl Iterator<Item = (&'a str, &'a Array<f32>)>,
        stored: Stored,
    ) -> Result<()> {
        let held = self.held.iter().map(|(name, value)| (name.as_str(), &**value));
        let all: BTreeMap<&str, &Array<f32>> = held.chain(values).collect();
        let all: Vec<(&str, Cow<'_, Array<f32>>)> = merged(&all, &self.scales);
        files::write_weights(&folder.join(WEIGHTS), &all, &self.layout, stored)
    }
}

/// Makes the model of a description and writes all of its folder but the weights.
pub(crate) fn make(config: &Config, data: &Data, folder: &Path, models: &ModelDirs) -> Result<Model> {
    let wrong = |reason: String| TrainError::Config { path: "model".into(), reason };
    match (&config.model, &config.start) {
        (Some(model), _) => own(config, model, data, folder),
        (None, Some(start)) => tuned(config, start, folder, models),
        (None, None) => Err(wrong("neither [model] nor [start], expected one".to_owned())),
    }
}

/// Writes a file of the folder unless it is there; another's is refused.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    match std::fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        Ok(_) => {
            let reason = "is that of another model: name another folder with --out, or remove this one".to_owned();
            Err(TrainError::Folder { path: path.to_owned(), reason })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => files::replace(path, bytes),
        Err(source) => Err(TrainError::Io { doing: "read", path: path.to_owned(), source }),
    }
}

/// A checkpoint whose towers go on learning.
fn tuned(config: &Config, start: &Start, folder: &Path, models: &ModelDirs) -> Result<Model> {
    let wrong = |reason: String| TrainError::Config { path: "start.checkpoint".into(), reason };
    let name = start.checkpoint.as_str();
    if bare(name) != name {
        let cure = format!("name the whole model, `{}`: [start] says what becomes of each tower", bare(name));
        return Err(wrong(format!("`{name}` is a part or a manner of a model; {cure}")));
    }
    // Says what is not here and how it comes here.
    chiasm_encode::towers(name, models)?;
    let from = locate(name, models).map(|found| found.path).unwrap_or_else(|| name.into());
    let model_type = std::fs::read(from.join(DESCRIPTION))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .and_then(|description| description["model_type"].as_str().map(str::to_owned));
    if model_type.as_deref() != Some("clip") {
        let came = match model_type.as_deref() {
            Some(MODEL_TYPE) => "is one of `chiasm train`'s own, which goes on learning as `start` of [model]".to_owned(),
            Some(other) => format!("is a model of type `{other}`"),
            None => "says no model_type in a config.json".to_owned(),
        };
        let expected =
            "expected a folder in Hugging Face's layout whose config.json has model_type `clip`, with a vision transformer";
        return Err(wrong(format!("{} {came}; {expected}", from.display())));
    }
    let opened = clip::open(&from)?;
    for file in DESCRIPTIONS {
        let path = from.join(file);
        if path.is_file() {
            put(&folder.join(file), &std::fs::read(&path).map_err(io("read", &path))?)?;
        }
    }
    let mut model =
        Model { networks: Vec::new(), matching: None, before: BTreeMap::new(), learned: Vec::new(), rest: Rest::default() };
    let mut scales = Vec::new();
    for (((modality, tune), tower), parameters) in start.towers().into_iter().zip(opened.towers).zip(opened.parameters) {
        if tune.train == Learns::Full {
            model.learned.extend(parameters);
        } else {
            model.rest.held.extend(parameters.into_iter().map(|p| (p.name, p.value)));
        }
        if let Some((scale, rank)) = tune.low_rank() {
            scales.push((format!("{}.", tower.side()), scale));
            model.learned.extend(tower.low_rank(rank, &mut stream(config.seed, "low rank", modality as u64)));
        }
        let (network, before): (Box<dyn Network>, Before) = if tune.train == Learns::Frozen {
            let encoder = chiasm_encode::open(&tower_name(&from.to_string_lossy(), modality), models)?;
            (Box::new(Still { modality, projection: encoder.dim() }), Before::Encoder(encoder))
        } else {
            (Box::new(tower), Before::Inputs(Box::new(Inputs::open(&from, modality)?)))
        };
        model.networks.push(network);
        model.before.insert(modality, before);
    }
    match config.train.objective {
        Objective::Infonce => model.learned.push(opened.log_scale),
        Objective::Siglip => model.learned.extend([opened.log_scale, bias(config, None)]),
        // It knows no temperature; what the checkpoint had is kept.
        Objective::Triplet => model.rest.held.extend([(opened.log_scale.name, opened.log_scale.value)]),
    }
    model.rest.scales = Scales(scales.into());
    model.rest.layout = Layout { shapes: opened.shapes, buffers: opened.buffers };
    model.rest.from = Some(opened.digest);
    Ok(model)
}

/// What is added to logits of [`Objective::Siglip`].
fn bias(config: &Config, begun: Option<Array<f32>>) -> Parameter {
    // As many wrong pairs as there are right ones would make 0; there are far more (Zhai et al. 2023, section 3.2).
    Parameter::plain(BIAS, begun.unwrap_or_else(|| Array::scalar(-config.train.scale as f32)))
}

/// Towers of this project's own.
fn own(config: &Config, model: &config::Model, data: &Data, folder: &Path) -> Result<Model> {
    let joint = describe(model, data, folder)?;
    let inputs = inputs(&joint, folder)?;
    let shapes = shapes(&joint, &inputs);
    let matching = matching(&joint, &shapes);
    let (learned, held) = parameters(config, model, &shapes, matching.as_ref())?;
    let low_rank = config.low_rank().map_err(|reason| TrainError::Config { path: "model".into(), reason })?;
    let scale = model.lora.as_ref().map_or(1.0, |lora| (lora.alpha / lora.rank as f64) as f32);
    let from = match &model.start {
        Some(start) => Some(Weights::read(&start.join(WEIGHTS)).map_err(OpenError::from)?.digest().to_hex().to_string()),
        None => None,
    };
    let rest = Rest {
        held,
        scales: Scales(low_rank.iter().map(|modality| (format!("{modality}."), scale)).collect()),
        layout: Layout::default(),
        from,
    };
    let before = inputs.into_iter().map(|(modality, inputs)| (modality, Before::Inputs(Box::new(inputs)))).collect();
    let networks = shapes.into_iter().map(|shape| Box::new(shape) as Box<dyn Network>).collect();
    Ok(Model { networks, matching, before, learned, rest })
}

/// Writes the descriptions of a model into its folder, unless they are there; the tokeniser is learned from the texts of `data`, or taken from the model that this one
/// begins as. What was there of another model is refused.
pub(crate) fn describe(m: &config::Model, data: &Data, folder: &Path) -> Result<JointConfig> {
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
        matching: m.matching.map(|m| m.sizes()),
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
        put(&folder.join(name), text.as_bytes())?;
    }
    Ok(joint)
}

fn count_words(tokeniser: &Path) -> Result<usize> {
    let read = tokenizers::Tokenizer::from_file(tokeniser);
    let read = read.map_err(|e| TrainError::Data { path: tokeniser.to_owned(), reason: e.to_string() })?;
    Ok(read.get_vocab_size(true))
}

/// What stands before each tower.
pub(crate) fn inputs(joint: &JointConfig, folder: &Path) -> Result<BTreeMap<Modality, Inputs>> {
    joint.modalities().into_iter().map(|modality| Ok((modality, Inputs::open(folder, modality)?))).collect()
}

/// The towers.
pub(crate) fn shapes(joint: &JointConfig, inputs: &BTreeMap<Modality, Inputs>) -> Vec<Shape> {
    let shape = |modality: Modality| {
        let [n_tokens, numbers] = inputs[&modality].shape();
        let n_in = if modality == Modality::Text { joint.text.map_or(0, |tower| tower.vocabulary) } else { numbers };
        let sizes = joint.sizes(modality).expect("one of the model's own");
        Shape { modality, sizes, n_tokens, n_in, projection: joint.projection_dim }
    };
    joint.modalities().into_iter().map(shape).collect()
}

/// What reads a text with a picture before it, if it is asked for.
pub(crate) fn matching(joint: &JointConfig, shapes: &[Shape]) -> Option<Matching> {
    let of = |modality: Modality| shapes.iter().find(|shape| shape.modality == modality);
    let (image, text) = (of(Modality::Image)?, of(Modality::Text)?);
    let (text_width, image_width) = (text.sizes.width, image.sizes.width);
    joint.matching.map(|sizes| Matching { sizes, text_width, image_width, n_patches: image.n_tokens })
}

/// Parameters that stay as they are.
type Held = BTreeMap<String, Arc<Array<f32>>>;

/// Gives parameters the values that they have in the model that this one begins as.
fn begin_as(own: &mut [Parameter], begun: &HashMap<String, Array<f32>>) -> Result<()> {
    for p in own {
        let there = begun.get(&p.name).filter(|there| there.shape() == p.value.shape());
        let there = there.ok_or_else(|| {
            let came = begun
                .get(&p.name)
                .map_or_else(|| "is not there".to_owned(), |there| format!("has the shape {:?}", there.shape()));
            TrainError::Config {
                path: "model".into(),
                reason: format!(
                    "model.start: `{}` {came}, this model's has {:?}: give its towers the sizes that they have there",
                    p.name,
                    p.value.shape()
                ),
            }
        })?;
        p.value = Arc::new(there.clone());
    }
    Ok(())
}

/// All parameters as they begin: those that are learned, and the others.
pub(crate) fn parameters(
    config: &Config,
    model: &config::Model,
    shapes: &[Shape],
    matching: Option<&Matching>,
) -> Result<(Vec<Parameter>, Held)> {
    let wrong = |reason: String| TrainError::Config { path: "model".into(), reason };
    let (frozen, low_rank) = (config.frozen().map_err(wrong)?, config.low_rank().map_err(wrong)?);
    let begun = match &model.start {
        Some(start) => files::read_weights(&start.join(WEIGHTS))?,
        None => HashMap::new(),
    };
    let (mut learned, mut kept) = (Vec::new(), BTreeMap::new());
    for shape in shapes {
        let prefix = format!("{}.", shape.modality);
        let mut own = shape.drawn(&mut stream(config.seed, "tower", shape.modality as u64));
        let has = begun.keys().any(|name| name.starts_with(&prefix));
        let held = frozen.contains(&shape.modality) || low_rank.contains(&shape.modality);
        if held && !has {
            return Err(wrong(format!("the {} tower is to stay as it is, and model.start has none", shape.modality)));
        }
        if has {
            begin_as(&mut own, &begun)?;
        }
        if held {
            kept.extend(own.into_iter().map(|p| (p.name, p.value)));
        } else {
            learned.extend(own);
        }
        if let (true, Some(lora)) = (low_rank.contains(&shape.modality), &model.lora) {
            learned.extend(shape.low_rank(lora.rank, &mut stream(config.seed, "low rank", shape.modality as u64)));
        }
    }
    if let Some(matching) = matching {
        let mut own = matching.drawn(&mut stream(config.seed, matching::PREFIX, 0));
        if begun.keys().any(|name| name.starts_with(&format!("{}.", matching::PREFIX))) {
            begin_as(&mut own, &begun)?;
        }
        learned.extend(own);
    }
    let begun = |name: &str| begun.get(name).filter(|there| there.shape() == [1, 1]).cloned();
    if config.train.objective != Objective::Triplet {
        let scale = || Array::scalar(config.train.scale.ln() as f32);
        learned.push(Parameter::plain(SCALE, begun(SCALE).unwrap_or_else(scale)));
    }
    if config.train.objective == Objective::Siglip {
        learned.push(bias(config, begun(BIAS)));
    }
    Ok((learned, kept))
}

/// A model as tests look at it: drawn, made uneven, and written into a folder.
#[cfg(test)]
pub(crate) mod written {
    use super::*;
    use crate::files::write_weights;
    use crate::tape::normal;

    pub(crate) struct Written {
        pub(crate) shapes: Vec<Shape>,
        pub(crate) matching: Option<Matching>,
        pub(crate) parameters: Vec<Parameter>,
    }

    /// The model of a description whose data say no more than its tokeniser needs.
    pub(crate) fn write(description: &str, folder: &Path) -> Written {
        let config: Config = toml::from_str(description).unwrap();
        let data = Data::open(&config, &config.modalities()).unwrap();
        let own = config.model.as_ref().unwrap();
        let joint = describe(own, &data, folder).unwrap();
        let inputs = inputs(&joint, folder).unwrap();
        let shapes = shapes(&joint, &inputs);
        let matching = matching(&joint, &shapes);
        let (mut parameters, _) = parameters(&config, own, &shapes, matching.as_ref()).unwrap();
        // Biases and gains are 0 and 1 at the start, so that a mistake in them would not be seen.
        let mut rng = stream(7, "test", 0);
        parameters.iter_mut().filter(|p| !p.decays).for_each(|p| {
            let noise = normal(p.value.n_rows(), p.value.n_cols(), 0.2, &mut rng);
            Arc::make_mut(&mut p.value).add(&noise);
        });
        let all: Vec<_> = parameters.iter().map(|p| (p.name.as_str(), Cow::Borrowed(&*p.value))).collect();
        write_weights(&folder.join(WEIGHTS), &all, &Layout::default(), Stored::Single).unwrap();
        Written { shapes, matching, parameters }
    }

    impl Written {
        /// All of it on a tape.
        pub(crate) fn bound<'t>(&self, tape: &'t Tape<f32>) -> Bound<'t> {
            let of = self.parameters.iter().map(|p| (p.name.clone(), tape.constant(p.value.clone()))).collect();
            Bound { tape, of, scales: Scales::default() }
        }
    }
}
