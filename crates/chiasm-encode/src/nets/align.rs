//! ALIGN: pictures and texts to one space, by an EfficientNet and a BERT.
//!
//! # Reference
//! Jia et al., "Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision", ICML 2021. Checked layer by
//! layer against `AlignModel` of transformers. Differs from it in: batch normalisation is folded into the convolutions; texts are
//! computed at their own length, not padded to 64 tokens, which the reference masks.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `align`), `preprocessor_config.json`, `tokenizer.json`, the weights.
//! # Preprocessing
//! Pictures: to 346 x 346, the middle 289 x 289, to -1..1, as the description says. Texts: the tokeniser of the folder, cut to as many
//! tokens as there are positions.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[289, 289, 3]` | -1..=1 |
//! | blocks | `[10, 10, 640]` at the last | any |
//! | tokens of a text | `[n, dim]`, 3 to 512 of them | any |
//! | embedding | `[projection_dim]`: the mean over positions, the first token's projected state | unit length |

use chiasm_core::Modality;
use chiasm_nn::{Activation, Linear};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor, TextTokenizer};
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted};
use crate::nets::bert::{self, Bert, Headed, Positions, Projected};
use crate::nets::efficientnet::{self, EfficientNet, Stored};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "align 1";

/// `config.json`. What is silent has the reference's default, which is that of the base model.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    text_config: bert::Config,
    vision_config: efficientnet::Config,
    projection_dim: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { text_config: bert::Config::default(), vision_config: efficientnet::Config::default(), projection_dim: 640 }
    }
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    model::expect(&path, c.projection_dim > 0, || "projection_dim is 0".to_owned())?;
    let tower = if wanted.modality == Modality::Text {
        let max_tokens = c.text_config.max_tokens(&path, Positions::FromZero)?;
        let tokenizer = TextTokenizer::open(files, max_tokens, c.text_config.vocab_size)?;
        let mut w = files.weights()?;
        let bert = Bert::load(&mut w, &path, &c.text_config, Positions::FromZero, "text_model.")?;
        let projection = Linear::load(&mut w, "text_projection", bert.dim(), c.projection_dim, Activation::None)?;
        w.skip_prefix("vision_model.");
        w.skip("temperature");
        w.finish()?;
        Tower::Text(tokenizer, Box::new(Headed { bert, head: Projected(projection) }))
    } else {
        let processor = ImageProcessor::open(files, Defaults::EFFICIENTNET)?;
        let mut w = files.weights()?;
        let net = EfficientNet::load(
            &mut w,
            &path,
            Stored::HuggingFace("vision_model."),
            &c.vision_config,
            processor.shape(),
            false,
        )?;
        let dim = net.dim();
        model::expect(&path, dim == c.projection_dim, || {
            format!("projection_dim is {}, pictures have {dim} numbers", c.projection_dim)
        })?;
        w.skip_prefix("text_model.");
        w.skip_prefix("text_projection.");
        w.skip("temperature");
        w.finish()?;
        Tower::Image(processor, Box::new(net))
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}
