//! DINOv2: pictures to the state of a class token, trained without labels.
//!
//! # Reference
//! Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024. Checked layer by layer against
//! `Dinov2Model` and `Dinov2ForImageClassification` of transformers. Differs from it in: the giant, whose feed-forward part is gated, is refused.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `dinov2`), `preprocessor_config.json`, the weights.
//! # Preprocessing
//! Shorter edge and middle as the description says. Where the size is not that of the training, the positions are resized to the
//! picture's patches, as the reference does it.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | about -2..2.7 |
//! | tokens | `[1 + patches, dim]` | any |
//! | embedding | `[dim]`, normalised | any |
//! | classes | those that the description names | 0..=1, sum 1 |

use chiasm_nn::{BlockNames, Order};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor};
use crate::model;
use crate::net::{Finish, Opened, Tower, Wanted};
use crate::nets::class_token::{ClassToken, Grid, attention_names, prefix};
use crate::nets::classes::{self, Classes, Head};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "dinov2 1";

/// `config.json`. What is silent has the reference's default, which is that of the base model.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    mlp_ratio: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    image_size: u32,
    patch_size: usize,
    qkv_bias: bool,
    use_swiglu_ffn: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            mlp_ratio: 4,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-6,
            image_size: 224,
            patch_size: 14,
            qkv_bias: true,
            use_swiglu_ffn: false,
        }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    model::expect(&path, !c.use_swiglu_ffn, || {
        "use_swiglu_ffn is true, expected a feed-forward part without a gate: the small, base or large model".to_owned()
    })?;
    let sizes = [c.hidden_size, c.hidden_size.saturating_mul(c.mlp_ratio), c.num_attention_heads];
    let shape = model::block_shape(&path, "", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    let classes = Classes::wanted(files, wanted)?;
    let processor = ImageProcessor::open(files, Defaults::CLIP)?;
    model::expect(&path, c.patch_size > 0 && c.image_size as usize >= c.patch_size, || {
        format!("patch_size {} does not fit an image_size of {}", c.patch_size, c.image_size)
    })?;
    let given = processor.shape().map(|side| side as usize / c.patch_size);
    model::expect(&path, given.iter().all(|n| *n > 0), || {
        format!("the preprocessing gives pictures of {:?}, smaller than a patch of {}", processor.shape(), c.patch_size)
    })?;
    let grid = Grid { patch: c.patch_size, trained: c.image_size as usize / c.patch_size, given };

    let mut w = files.weights()?;
    let prefix = prefix(&w, "dinov2");
    let names = |i: usize| {
        let at = format!("{prefix}encoder.layer.{i}.");
        let (qkv, out) = attention_names(&at, c.qkv_bias);
        BlockNames {
            qkv,
            out,
            norm_1: format!("{at}norm1"),
            widen: format!("{at}mlp.fc1"),
            narrow: format!("{at}mlp.fc2"),
            norm_2: format!("{at}norm2"),
            scales: Some([format!("{at}layer_scale1.lambda1"), format!("{at}layer_scale2.lambda1")]),
        }
    };
    let net = ClassToken::load(&mut w, &prefix, grid, shape, c.num_hidden_layers, names)?;
    w.skip(&format!("{prefix}embeddings.mask_token"));
    // The classifier looks at the patches as well.
    let net = if classes.is_some() { net.with_mean() } else { net };
    let net = classes::on_top(&mut w, classes, Head::dense("classifier"), net)?;
    w.finish()?;
    Ok(Opened { tower: Tower::Image(processor, net), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}
