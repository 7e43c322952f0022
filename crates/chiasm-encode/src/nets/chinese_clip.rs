//! Chinese CLIP: pictures and Chinese texts to one space, by CLIP's vision transformer and BERT.
//!
//! # Reference
//! Yang et al., "Chinese CLIP: Contrastive Vision-Language Pretraining in Chinese", 2022. Checked layer by layer against
//! `ChineseCLIPModel` of transformers. Differs from it in: nothing is padded, each text is computed at its own length.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `chinese_clip`), `preprocessor_config.json`, `tokenizer.json`, the weights.
//! # Preprocessing
//! Pictures: as CLIP's, unless the description says otherwise. Texts: BERT's word pieces, cut to as many tokens as there are positions;
//! the published weights were trained on 52 tokens and fewer.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -2..2.7 |
//! | tokens of a picture | `[1 + patches, dim]` | any |
//! | tokens of a text | `[n, dim]`, 3 to 512 of them | any |
//! | embedding | `[projection_dim]` | unit length |

use chiasm_core::Modality;
use chiasm_nn::Linear;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::net::{Finish, Opened, Tower, Wanted};
use crate::nets::bert::{self, Bert, Headed, Positions, Projected};
use crate::nets::clip;

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "chinese_clip 1";

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    text_config: bert::Config,
    vision_config: clip::VisionConfig,
    #[serde(default = "clip::projection_dim")]
    projection_dim: usize,
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, config): (_, Config) = files.json("config.json")?;
    let tower = if wanted.modality == Modality::Text {
        let c = &config.text_config;
        let tokenizer = TextTokenizer::open(files, c.max_tokens(&path, Positions::FromZero)?, c.vocab_size)?;
        let mut w = files.weights()?;
        let bert = Bert::load(&mut w, &path, c, Positions::FromZero, "text_model.")?;
        let projection = Linear::load_unbiased(&mut w, "text_projection", c.hidden_size, config.projection_dim)?;
        w.skip_prefix("vision_model.");
        w.skip_prefix("visual_projection.");
        w.skip("logit_scale");
        w.finish()?;
        Tower::Text(tokenizer, Box::new(Headed { bert, head: Projected(projection) }))
    } else {
        clip::open_vision(files, &path, &config.vision_config, config.projection_dim)?
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}
