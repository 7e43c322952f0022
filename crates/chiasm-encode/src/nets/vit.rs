//! ViT: pictures to the state of a class token.
//!
//! # Reference
//! Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, eq. 1 to 4. Checked layer by layer against `ViTModel` and
//! `ViTForImageClassification` of transformers. Differs from it in: nothing (its pooler, another layer after the class token's
//! state, is left out, as its classifier does).
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `vit`), `preprocessor_config.json`, the weights.
//! # Preprocessing
//! To 224 x 224, bilinear, the shape not kept, to -1..1, unless the description says otherwise.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[224, 224, 3]` | -1..=1 |
//! | tokens | `[1 + patches, dim]` | any |
//! | embedding | `[dim]`, normalised | any |
//! | classes | those that the description names | 0..=1, sum 1 |

use chiasm_media::Filter;
use chiasm_nn::Order;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Defaults, ImageProcessor};
use crate::model;
use crate::net::{Finish, Opened, Tower, Wanted};
use crate::nets::class_token::{ClassToken, Grid, prefix, vit_names};
use crate::nets::classes::{self, Classes, Head};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "vit 1";

/// `config.json`. What is silent has the reference's default, which is that of ViT-B/16.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    image_size: u32,
    patch_size: usize,
    qkv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            image_size: 224,
            patch_size: 16,
            qkv_bias: true,
        }
    }
}

/// Opens the network.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let sizes = [c.hidden_size, c.intermediate_size, c.num_attention_heads];
    let shape = model::block_shape(&path, "", sizes, (&c.hidden_act, c.layer_norm_eps), Order::PreNorm)?;
    let classes = Classes::wanted(files, wanted)?;
    let defaults = Defaults { side: 224, square: true, filter: Filter::Bilinear, crop: false, mean: [0.5; 3], std: [0.5; 3] };
    let processor = ImageProcessor::open(files, defaults)?;
    model::fits_patches(&path, processor.shape(), c.image_size, c.patch_size)?;
    let trained = c.image_size as usize / c.patch_size;
    let grid = Grid { patch: c.patch_size, trained, given: [trained; 2] };

    let mut w = files.weights()?;
    let prefix = prefix(&w, "vit");
    let names = |i: usize| vit_names(&format!("{prefix}encoder.layer.{i}."), c.qkv_bias);
    let net = ClassToken::load(&mut w, &prefix, grid, shape, c.num_hidden_layers, names)?;
    w.skip(&format!("{prefix}embeddings.mask_token"));
    w.skip_prefix(&format!("{prefix}pooler."));
    let net = classes::on_top(&mut w, classes, Head::dense("classifier"), net)?;
    w.finish()?;
    Ok(Opened { tower: Tower::Image(processor, net), finish: Finish::AsIs, arithmetic: ARITHMETIC })
}
