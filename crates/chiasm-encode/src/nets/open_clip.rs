//! The models of open_clip in its own layout: pictures and texts to one space, by towers of several architectures.
//!
//! # Reference
//! Ilharco et al., "OpenCLIP", 2021; Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021;
//! Cherti et al., "Reproducible scaling laws for contrastive language-image learning", CVPR 2023. Checked layer by layer against
//! open_clip_torch. Differs from it in: texts are computed up to the token that stands for them where nothing after it is looked at;
//! broken encodings and HTML entities in texts are not mended; weights trained for pictures of another size are refused, not resized.
//! # Files
//! `open_clip_config.json`, `tokenizer.json`, `tokenizer_config.json` where texts are filled up with a token that it names, and the
//! weights: `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`.
//! # Towers
//! | field | tower | file |
//! | --- | --- | --- |
//! | `vision_cfg`, `layers` a number | vision transformer, CLIP's or CoCa's | `vision_transformer.rs` |
//! | `vision_cfg`, `layers` a list | CLIP's residual network | `clip_resnet.rs` |
//! | `vision_cfg.timm_model_name` | vision transformer of SigLIP, CLIP or MobileCLIP-B in timm's layout | `timm_vit.rs` |
//! | the same | FastViT of MobileCLIP | `fastvit.rs` |
//! | `text_cfg` | text transformer, CLIP's or CoCa's | `text_transformer.rs` |
//! | `text_cfg.hf_model_name` | BERT, RoBERTa or XLM-R | `bert.rs` |
//!
//! Whatever else a description states that changes the numbers is refused by name.
//! # Preprocessing
//! Pictures: by `preprocess_cfg`, to `image_size`. Texts: cut to `context_length` tokens, start and end among them.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | picture | `[image_size, image_size, 3]` | about -2..2.7 |
//! | tokens of a picture | `[1 + patches, width]` | any |
//! | tokens of a text | `[n, width]`, 3 to `context_length` of them | any |
//! | embedding | `[embed_dim]` | unit length |

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::{
    Activation, BlockNames, BlockShape, CrossAttention, FeatureMap, LayerNorm, Linear, Order, Qkv, Weights, WeightsError,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::{Cleaning, ImageProcessor, OpenClipPreprocess, TextTokenizer};
use crate::model::{self, Output};
use crate::net::{Finish, Net, Opened, Tower, Wanted};
use crate::nets::bert::{self, Bert};
use crate::nets::clip::projected;
use crate::nets::clip_resnet::{self, ClipResNet};
use crate::nets::fastvit;
use crate::nets::patches::Patches;
use crate::nets::text_transformer::{Appended, Parts, Reading, Speaker, TextTransformer};
use crate::nets::timm_vit;
use crate::nets::vision_transformer::{self, Pooling, Queries, VisionTransformer};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "open_clip 1";

/// The description, by which a folder is known.
pub(crate) const DESCRIPTION: &str = "open_clip_config.json";

/// The names of the weights, the first that is there is meant.
const WEIGHTS: [&str; 3] =
    ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"];

/// Whether a folder has weights in Hugging Face's layout, which may stand beside open_clip's.
pub(crate) fn other_weights(folder: &Path) -> bool {
    let names = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    names.iter().any(|name| folder.join(name).is_file())
}

/// Bounds on what a description may state: far beyond every model, far below what a product of two could not hold.
const SIZE_MAX: usize = 1 << 20;

/// `open_clip_config.json`.
#[derive(Deserialize)]
struct Described {
    model_cfg: Config,
    #[serde(default)]
    preprocess_cfg: OpenClipPreprocess,
}

#[derive(Deserialize)]
struct Config {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: VisionConfig,
    text_cfg: TextConfig,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is silent has the reference's default.
#[derive(Deserialize)]
#[serde(default)]
struct VisionConfig {
    image_size: Side,
    layers: Layers,
    width: usize,
    head_width: usize,
    mlp_ratio: f64,
    patch_size: Option<Side>,
    ls_init_value: Option<f64>,
    no_ln_pre: bool,
    final_ln_after_pool: bool,
    pool_type: String,
    attentional_pool: Value,
    attn_pooler_queries: usize,
    attn_pooler_heads: usize,
    act_kwargs: Option<ActArguments>,
    norm_kwargs: Option<NormArguments>,
    timm_model_name: Option<String>,
    timm_pool: String,
    timm_proj: Option<String>,
    timm_proj_bias: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            image_size: Side::One(224),
            layers: Layers::Blocks(12),
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: Some(Side::One(16)),
            ls_init_value: None,
            no_ln_pre: false,
            final_ln_after_pool: false,
            pool_type: "tok".to_owned(),
            attentional_pool: Value::Bool(false),
            attn_pooler_queries: 256,
            attn_pooler_heads: 8,
            act_kwargs: None,
            norm_kwargs: None,
            timm_model_name: None,
            timm_pool: "avg".to_owned(),
            timm_proj: Some("linear".to_owned()),
            timm_proj_bias: false,
            rest: Map::new(),
        }
    }
}

/// What is silent has the reference's default.
#[derive(Deserialize)]
#[serde(default)]
struct TextConfig {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    mlp_ratio: f64,
    ls_init_value: Option<f64>,
    embed_cls: bool,
    pad_id: u32,
    eos_id: u32,
    no_causal_mask: bool,
    pool_type: String,
    proj_type: String,
    proj_bias: bool,
    act_kwargs: Option<ActArguments>,
    norm_kwargs: Option<NormArguments>,
    hf_tokenizer_name: Option<String>,
    tokenizer_mode: Option<String>,
    tokenizer_kwargs: Option<Map<String, Value>>,
    hf_model_name: Option<String>,
    #[serde(alias = "proj")]
    hf_proj_type: Option<String>,
    #[serde(alias = "pooler_type")]
    hf_pooler_type: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            ls_init_value: None,
            embed_cls: false,
            pad_id: 0,
            eos_id: 2,
            no_causal_mask: false,
            pool_type: "argmax".to_owned(),
            proj_type: "linear".to_owned(),
            proj_bias: false,
            act_kwargs: None,
            norm_kwargs: None,
            hf_tokenizer_name: None,
            tokenizer_mode: None,
            tokenizer_kwargs: None,
            hf_model_name: None,
            hf_proj_type: Some("mlp".to_owned()),
            hf_pooler_type: Some("mean_pooler".to_owned()),
            rest: Map::new(),
        }
    }
}

/// A length along both sides, or one for each.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Side {
    One(u32),
    Pair([u32; 2]),
}

impl Side {
    /// The one length of a square.
    fn square(self, path: &Path, field: &str) -> Result<u32, OpenError> {
        match self {
            Side::One(side) => Ok(side),
            Side::Pair([height, width]) => {
                model::expect(path, height == width, || {
                    format!("vision_cfg.{field} is {height} x {width}, expected the same along both sides")
                })?;
                Ok(height)
            }
        }
    }
}

/// How deep a tower is.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Layers {
    /// Blocks of a transformer.
    Blocks(usize),
    /// Blocks in each stage of a residual network.
    Stages(Vec<usize>),
}

/// Arguments of the activation.
#[derive(Deserialize)]
struct ActArguments {
    approximate: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Arguments of the normalisation.
#[derive(Deserialize)]
struct NormArguments {
    eps: Option<f32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Opens one of the two towers.
pub(crate) fn open(files: &mut Checkpoint, wanted: Wanted) -> Result<Opened, OpenError> {
    let (path, described): (_, Described) = files.json(DESCRIPTION)?;
    model::expect(&path, wanted.output == Output::Embedding, || {
        "these models have no classes: leave out `:classes` to have their embeddings".to_owned()
    })?;
    let c = &described.model_cfg;
    // How the model is trained, called and scaled; the decoder that writes captions.
    let unused =
        ["custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "output_dict", "multimodal_cfg"];
    known(&path, "", &c.rest, &unused)?;
    let unused = [
        "patch_dropout",
        "output_tokens",
        "pos_embed_type",
        "block_type",
        "timm_model_pretrained",
        "timm_drop",
        "timm_drop_path",
    ];
    known(&path, "vision_cfg.", &c.vision_cfg.rest, &unused)?;
    known(&path, "text_cfg.", &c.text_cfg.rest, &["output_tokens", "block_type", "hf_model_pretrained"])?;
    let dim = c.embed_dim;
    model::expect(&path, (1..=SIZE_MAX).contains(&dim), || format!("embed_dim is {dim}, expected 1 to {SIZE_MAX}"))?;
    let tower = if wanted.modality == Modality::Text {
        match &c.text_cfg.hf_model_name {
            Some(name) => open_hf_text(files, &path, c, name)?,
            None => open_text(files, &path, c)?,
        }
    } else {
        open_image(files, &path, c, &described.preprocess_cfg)?
    };
    Ok(Opened { tower, finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// Refuses what a description states and nothing here reads, unless it is off or without effect on what is computed.
fn known(path: &Path, at: &str, rest: &Map<String, Value>, without_effect: &[&str]) -> Result<(), OpenError> {
    for (field, value) in rest {
        let off = matches!(value, Value::Null | Value::Bool(false)) || without_effect.contains(&field.as_str());
        model::expect(path, off, || {
            format!("{at}{field} is {value}, which changes the network in a way that is not read here")
        })?;
    }
    Ok(())
}

/// The weights.
pub(crate) fn weights(files: &mut Checkpoint) -> Result<Weights, OpenError> {
    let mut w = files.weights_first(&WEIGHTS)?;
    // As saved by training on several machines.
    w.strip_prefix("module.")?;
    Ok(w)
}

/// The shape of the blocks of one side.
fn block_shape(
    path: &Path,
    side: &str,
    [dim, n_heads, n_blocks]: [usize; 3],
    mlp_ratio: f64,
    quick_gelu: bool,
    (act, norm): (&Option<ActArguments>, &Option<NormArguments>),
) -> Result<BlockShape, OpenError> {
    model::expect(path, dim > 0 && dim <= SIZE_MAX && n_heads > 0 && dim.is_multiple_of(n_heads), || {
        format!("{side}.width {dim} does not divide into {n_heads} attention heads")
    })?;
    model::expect(path, n_blocks <= SIZE_MAX, || format!("{side}.layers is {n_blocks}, expected at most {SIZE_MAX}"))?;
    // As the reference multiplies: cut off, not rounded.
    let wide = dim as f64 * mlp_ratio;
    model::expect(path, (1.0..=SIZE_MAX as f64).contains(&wide), || {
        format!("{side}.mlp_ratio is {mlp_ratio}, which makes the feed-forward part {wide} wide")
    })?;
    let mut approximate = None;
    if let Some(act) = act {
        known(path, &format!("{side}.act_kwargs."), &act.rest, &[])?;
        approximate = act.approximate.as_deref();
    }
    let activation = match (quick_gelu, approximate) {
        (true, None) => Activation::QuickGelu,
        (false, None | Some("none")) => Activation::Gelu,
        (false, Some("tanh")) => Activation::GeluTanh,
        (_, Some(other)) => {
            let expected = if quick_gelu { "none beside quick_gelu" } else { "`tanh` or `none`" };
            return Err(model::config(path, format!("{side}.act_kwargs.approximate is `{other}`, expected {expected}")));
        }
    };
    let mut eps = 1e-5;
    if let Some(norm) = norm {
        known(path, &format!("{side}.norm_kwargs."), &norm.rest, &[])?;
        eps = norm.eps.unwrap_or(eps);
    }
    Ok(BlockShape { dim, wide: wide as usize, n_heads, eps, activation, order: Order::PreNorm })
}

/// Names in block `i` of the transformer at `prefix`.
fn names(prefix: &str, i: usize, scaled: bool) -> BlockNames {
    let at = |part: &str| format!("{prefix}transformer.resblocks.{i}.{part}");
    BlockNames {
        qkv: Qkv::Stacked([at("attn.in_proj_weight"), at("attn.in_proj_bias")]),
        out: at("attn.out_proj"),
        norm_1: at("ln_1"),
        widen: at("mlp.c_fc"),
        narrow: at("mlp.c_proj"),
        norm_2: at("ln_2"),
        scales: scaled.then(|| [at("ls_1.gamma"), at("ls_2.gamma")]),
    }
}

/// Opens the image tower.
fn open_image(files: &mut Checkpoint, path: &Path, c: &Config, preprocess: &OpenClipPreprocess) -> Result<Tower, OpenError> {
    let v = &c.vision_cfg;
    let side = v.image_size.square(path, "image_size")?;
    let processor = ImageProcessor::of_open_clip(path, preprocess, side)?;
    if let Some(name) = &v.timm_model_name {
        return Ok(Tower::Image(processor, open_timm(files, path, c, side, name)?));
    }
    let net: Box<dyn Net<_>> = match &v.layers {
        Layers::Blocks(n_blocks) => Box::new(load_vision(files, path, c, side, *n_blocks)?),
        Layers::Stages(stages) => Box::new(load_resnet(files, path, c, side, stages)?),
    };
    Ok(Tower::Image(processor, net))
}

/// Opens an image tower that is a model of timm, `name`.
fn open_timm(
    files: &mut Checkpoint,
    path: &Path,
    c: &Config,
    side: u32,
    name: &str,
) -> Result<Box<dyn Net<FeatureMap>>, OpenError> {
    let v = &c.vision_cfg;
    let (vit, fast) = (timm_vit::named(name), fastvit::named(name));
    let (dim, expected) = match (&vit, &fast) {
        (Some(vit), _) => (vit.shape.dim, vit.pool()),
        (None, Some(fast)) => (fast.dim(), "avg"),
        (None, None) => {
            let reason = format!("vision_cfg.timm_model_name is `{name}`, an architecture that is not read here");
            return Err(model::config(path, reason));
        }
    };
    if let Some(vit) = &vit {
        model::expect(path, side == vit.side, || format!("vision_cfg.image_size is {side}, `{name}` takes {}", vit.side))?;
    }
    let pool = v.timm_pool.as_str();
    model::expect(path, pool == expected, || format!("vision_cfg.timm_pool is `{pool}`, expected `{expected}` for `{name}`"))?;
    let mut w = weights(files)?;
    let at = "visual.trunk.";
    // The projection is the network's own last layer, or stands behind the network.
    let (own, behind) = match v.timm_proj.as_deref() {
        Some("none") => (None, None),
        None | Some("") => (Some(c.embed_dim), None),
        Some("linear") if v.timm_proj_bias => {
            (None, Some(Linear::load(&mut w, "visual.head.proj", dim, c.embed_dim, Activation::None)?))
        }
        Some("linear") => (None, Some(Linear::load_unbiased(&mut w, "visual.head.proj", dim, c.embed_dim)?)),
        Some(other) => {
            return Err(model::config(path, format!("vision_cfg.timm_proj is `{other}`, expected linear, none or null")));
        }
    };
    let named = if vit.is_some() { "head" } else { "head.fc" };
    let projection = match own {
        Some(n) => Some(Linear::load(&mut w, &format!("{at}{named}"), dim, n, Activation::None)?),
        None => behind,
    };
    let net: Box<dyn Net<FeatureMap>> = match (vit, fast) {
        (Some(vit), _) => Box::new(vit.load(&mut w, at, projection)?),
        (None, Some(fast)) => Box::new(fast.load(&mut w, at, projection)?),
        (None, None) => unreachable!("refused above"),
    };
    finish_image(w)?;
    Ok(net)
}

/// Opens CLIP's residual network, whose stages have so many blocks.
fn load_resnet(files: &mut Checkpoint, path: &Path, c: &Config, side: u32, stages: &[usize]) -> Result<ClipResNet, OpenError> {
    let v = &c.vision_cfg;
    let depths = <[usize; 4]>::try_from(stages).ok().filter(|depths| depths.iter().all(|n| (1..=SIZE_MAX).contains(n)));
    let depths = depths.ok_or_else(|| {
        model::config(path, format!("vision_cfg.layers is {stages:?}, expected one number, or four, none of them 0"))
    })?;
    let (width, head_width) = (v.width, v.head_width);
    let fits = (2..=SIZE_MAX).contains(&width) && width.is_multiple_of(2);
    model::expect(path, fits, || format!("vision_cfg.width is {width}, expected an even number up to {SIZE_MAX}"))?;
    let dim = 32 * width;
    let n_heads = dim.checked_div(head_width).unwrap_or(0);
    model::expect(path, n_heads > 0 && dim.is_multiple_of(n_heads), || {
        format!("vision_cfg.head_width is {head_width}, which does not divide 32 times the width of {width}")
    })?;
    model::expect(path, side >= clip_resnet::STRIDE && side.is_multiple_of(clip_resnet::STRIDE), || {
        format!("vision_cfg.image_size is {side}, expected a multiple of {}", clip_resnet::STRIDE)
    })?;
    let mut w = weights(files)?;
    let net = ClipResNet::load(&mut w, "visual.", depths, width, n_heads, (side, c.embed_dim))?;
    finish_image(w)?;
    Ok(net)
}

/// Ends the loading of an image tower.
fn finish_image(mut w: Weights) -> Result<(), WeightsError> {
    for text in ["text.", "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection"] {
        w.skip_prefix(text);
    }
    finish(w)
}

/// Ends the loading of either tower.
fn finish(mut w: Weights) -> Result<(), WeightsError> {
    w.skip_prefix("text_decoder.");
    for unused in ["logit_scale", "logit_bias", "attn_mask", "text.attn_mask", "text.transformer.embeddings.position_ids"] {
        w.skip(unused);
    }
    w.finish()
}

/// CLIP's or CoCa's vision transformer.
fn load_vision(
    files: &mut Checkpoint,
    path: &Path,
    c: &Config,
    side: u32,
    n_blocks: usize,
) -> Result<VisionTransformer, OpenError> {
    let v = &c.vision_cfg;
    let (dim, embed_dim) = (v.width, c.embed_dim);
    model::expect(path, v.head_width > 0, || "vision_cfg.head_width is 0".to_owned())?;
    let sizes = [dim, dim / v.head_width, n_blocks];
    let shape = block_shape(path, "vision_cfg", sizes, v.mlp_ratio, c.quick_gelu, (&v.act_kwargs, &v.norm_kwargs))?;
    let patch = v.patch_size.ok_or_else(|| model::config(path, "vision_cfg.patch_size is null, expected a length"))?;
    let patch = patch.square(path, "patch_size")?;
    model::fits_patches(path, [side; 2], side, patch as usize)?;
    let pool_type = v.pool_type.as_str();
    model::expect(path, ["tok", "avg"].contains(&pool_type), || {
        format!("vision_cfg.pool_type is `{pool_type}`, expected `tok` or `avg`")
    })?;
    let attentional = match &v.attentional_pool {
        Value::Null => false,
        Value::Bool(attentional) => *attentional,
        other @ (Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            let reason =
                format!("vision_cfg.attentional_pool is {other}, expected true or false: other kinds are not read here");
            return Err(model::config(path, reason));
        }
    };

    let mut w = weights(files)?;
    let n_patches = (side / patch).pow(2) as usize;
    let mut class = w.take("visual.class_embedding", &[dim])?;
    let mut positions = w.take("visual.positional_embedding", &[1 + n_patches, dim])?;
    class.iter_mut().zip(positions.drain(..dim)).for_each(|(c, p)| *c += p);
    let norm_before = if v.no_ln_pre { None } else { Some(LayerNorm::load(&mut w, "visual.ln_pre", dim, shape.eps)?) };
    let pooling = if attentional {
        Pooling::Queries(Box::new(load_queries(&mut w, path, c, shape.eps)?))
    } else {
        let norm = LayerNorm::load(&mut w, "visual.ln_post", dim, shape.eps)?;
        match (pool_type, v.final_ln_after_pool) {
            ("tok", _) => Pooling::Class(norm),
            (_, false) => Pooling::MeanOfNormed(norm),
            (_, true) => Pooling::NormedMean(norm),
        }
    };
    let pooled = if attentional { embed_dim } else { dim };
    let net = VisionTransformer {
        stem: Vec::new(),
        patches: Patches::load(&mut w, "visual.conv1", [dim, 3, patch as usize], false)?,
        class: Some(class),
        positions,
        norm_before,
        blocks: vision_transformer::blocks(&mut w, &|i| names("visual.", i, v.ls_init_value.is_some()), n_blocks, shape)?,
        pooling,
        projection: Some(Linear::load_turned(&mut w, "visual.proj", pooled, embed_dim)?),
        dim,
        device: None,
    };
    finish_image(w)?;
    Ok(net)
}

/// CoCa's pooling. Of its queries the first stands for the picture, or the mean over the others does; the rest is for captions.
fn load_queries(w: &mut Weights, path: &Path, c: &Config, eps: f32) -> Result<Queries, OpenError> {
    let v = &c.vision_cfg;
    let (dim, context, n_heads) = (c.embed_dim, v.width, v.attn_pooler_heads);
    model::expect(path, n_heads > 0 && dim.is_multiple_of(n_heads), || {
        format!("embed_dim {dim} does not divide into {n_heads} heads, vision_cfg.attn_pooler_heads")
    })?;
    let mean = v.pool_type == "avg";
    let n_least = if mean { 2 } else { 1 };
    model::expect(path, v.attn_pooler_queries >= n_least, || {
        format!("vision_cfg.attn_pooler_queries is {}, expected at least {n_least}", v.attn_pooler_queries)
    })?;
    let mut queries = w.take("visual.attn_pool.query", &[v.attn_pooler_queries, dim])?;
    if mean {
        queries.drain(..dim);
    } else {
        queries.truncate(dim);
    }
    // The reference gives this part's normalisations no arguments.
    LayerNorm::load(w, "visual.attn_pool.ln_q", dim, 1e-5)?.forward(&mut queries);
    let at = |part: &str| format!("visual.attn_pool.attn.{part}");
    // PyTorch stores the three one above the other where they are equally wide.
    let attention = if dim == context {
        CrossAttention::load_stacked(w, [&at("in_proj_weight"), &at("in_proj_bias")], dim, n_heads)?
    } else {
        let q = w.take(&at("q_proj_weight"), &[dim, dim])?;
        let mut kv = w.take(&at("k_proj_weight"), &[dim, context])?;
        kv.extend(w.take(&at("v_proj_weight"), &[dim, context])?);
        let mut bias = w.take(&at("in_proj_bias"), &[3 * dim])?;
        let of_kv = bias.split_off(dim);
        CrossAttention::new((q, bias), (kv, of_kv), context, n_heads, w.precision())
    };
    Ok(Queries {
        queries,
        norm_tokens: LayerNorm::load(w, "visual.attn_pool.ln_k", context, 1e-5)?,
        attention,
        out: Linear::load(w, "visual.attn_pool.attn.out_proj", dim, dim, Activation::None)?,
        norm: LayerNorm::load(w, "visual.ln_post", dim, eps)?,
    })
}

/// Opens CLIP's or CoCa's text tower.
fn open_text(files: &mut Checkpoint, path: &Path, c: &Config) -> Result<Tower, OpenError> {
    let t = &c.text_cfg;
    let sizes = [t.width, t.heads, t.layers];
    let shape = block_shape(path, "text_cfg", sizes, t.mlp_ratio, c.quick_gelu, (&t.act_kwargs, &t.norm_kwargs))?;
    model::expect(path, !(t.embed_cls && t.no_causal_mask), || {
        "text_cfg has both embed_cls and no_causal_mask, expected one of them at most".to_owned()
    })?;
    let speaker = match t.pool_type.as_str() {
        "argmax" => Speaker::Highest,
        "eos" => Speaker::Token(t.eos_id),
        "first" => Speaker::First,
        "last" => Speaker::Last,
        other => {
            return Err(model::config(path, format!("text_cfg.pool_type is `{other}`, expected argmax, eos, first or last")));
        }
    };
    let proj_type = t.proj_type.as_str();
    model::expect(path, ["linear", "none"].contains(&proj_type), || {
        format!("text_cfg.proj_type is `{proj_type}`, expected `linear` or `none`")
    })?;
    // Texts are filled up with 0, and the mask goes by `pad_id`.
    model::expect(path, !t.embed_cls || t.pad_id == 0, || {
        format!("text_cfg.pad_id is {}, expected 0 beside embed_cls", t.pad_id)
    })?;
    let tokenizer = Tokens::of(path, t)?.open(files, path, t, t.vocab_size)?;

    let mut w = weights(files)?;
    let at = if w.has("text.token_embedding.weight") { "text." } else { "" };
    let speaker = if t.embed_cls {
        Speaker::Appended(Appended { token: w.take(&format!("{at}cls_emb"), &[t.width])?, padding: t.pad_id })
    } else {
        speaker
    };
    let name = format!("{at}text_projection");
    let projection = match (proj_type, t.proj_bias) {
        ("none", _) => None,
        (_, true) => Some(Linear::load(&mut w, &name, t.width, c.embed_dim, Activation::None)?),
        (_, false) => Some(Linear::load_turned(&mut w, &name, t.width, c.embed_dim)?),
    };
    let parts = Parts {
        words: (&format!("{at}token_embedding.weight"), t.vocab_size),
        positions: (&format!("{at}positional_embedding"), t.context_length + usize::from(t.embed_cls)),
        blocks: (&|i| names(at, i, t.ls_init_value.is_some()), t.layers),
        norm: &format!("{at}ln_final"),
        shape,
    };
    let net = TextTransformer::load(&mut w, &parts, Reading { causal: !t.no_causal_mask, speaker }, projection)?;
    finish_text(w)?;
    Ok(Tower::Text(tokenizer, Box::new(net)))
}

/// Ends the loading of a text tower.
fn finish_text(mut w: Weights) -> Result<(), WeightsError> {
    w.skip_prefix("visual.");
    finish(w)
}

/// How texts become tokens.
struct Tokens {
    cleaning: Cleaning,
    /// Whether the separator becomes 0.
    strip_separator: bool,
    /// Whether texts are filled up to the context's length.
    filled: bool,
    max_tokens: usize,
}

impl Tokens {
    /// As the description states it.
    fn of(path: &Path, t: &TextConfig) -> Result<Self, OpenError> {
        let n = t.context_length;
        model::expect(path, (3..=SIZE_MAX).contains(&n), || {
            format!("text_cfg.context_length is {n}, expected 3 to {SIZE_MAX}")
        })?;
        if let Some(mode) = t.tokenizer_mode.as_deref().filter(|mode| !mode.is_empty()) {
            return Err(model::config(path, format!("text_cfg.tokenizer_mode is `{mode}`, which is not read here")));
        }
        // CLIP's own tokeniser is in lower case, which its tokenizer.json does as well.
        let own = t.own_tokenizer();
        let mut tokens = Self {
            cleaning: if own { Cleaning::LowerCaseSpaces } else { Cleaning::Spaces },
            strip_separator: false,
            filled: t.no_causal_mask || (t.pool_type == "last" && !t.embed_cls),
            max_tokens: n,
        };
        for (field, value) in t.tokenizer_kwargs.iter().flatten() {
            match (field.as_str(), value.as_str()) {
                (_, None) if matches!(value, Value::Null | Value::Bool(false)) => {}
                ("clean", Some("whitespace")) if !own => tokens.cleaning = Cleaning::Spaces,
                ("clean", Some("lower")) => tokens.cleaning = Cleaning::LowerCaseSpaces,
                ("clean", Some("canonicalize")) => tokens.cleaning = Cleaning::Canonical,
                ("strip_sep_token", None) if !own => tokens.strip_separator = true,
                (_, _) => {
                    return Err(model::config(
                        path,
                        format!("text_cfg.tokenizer_kwargs.{field} is {value}, which is not read here"),
                    ));
                }
            }
        }
        Ok(tokens)
    }

    fn open(&self, files: &mut Checkpoint, path: &Path, t: &TextConfig, vocabulary: usize) -> Result<TextTokenizer, OpenError> {
        let mut tokenizer = TextTokenizer::open(files, self.max_tokens, vocabulary)?.cleaned(self.cleaning);
        if self.strip_separator {
            let separator = tokenizer.separator_token(files)?.ok_or_else(|| {
                let reason = "text_cfg.tokenizer_kwargs.strip_sep_token needs a tokenizer_config.json that names the sep_token";
                model::config(path, reason)
            })?;
            tokenizer = tokenizer.replacing(separator, 0);
        }
        if self.filled {
            let named = if t.own_tokenizer() { Some(0) } else { tokenizer.padding_token(files)? };
            let padding = named.unwrap_or(t.pad_id);
            model::expect(path, (padding as usize) < vocabulary, || {
                format!("text_cfg.pad_id is {padding}, the vocabulary has {vocabulary} tokens")
            })?;
            tokenizer = tokenizer.padded(self.max_tokens, padding);
        }
        Ok(tokenizer)
    }
}

impl TextConfig {
    /// Whether the tokeniser is CLIP's own, which fills texts up with 0.
    fn own_tokenizer(&self) -> bool {
        self.hf_tokenizer_name.as_deref().is_none_or(str::is_empty)
    }
}

/// Descriptions of text models that open_clip fetches by name: its folders do not hold them.
const TEXT_MODELS: [(&str, &str); 4] = [
    (
        "roberta-base",
        r#"{"model_type": "roberta", "vocab_size": 50265, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}"#,
    ),
    (
        "roberta-large",
        r#"{"model_type": "roberta", "vocab_size": 50265, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}"#,
    ),
    (
        "xlm-roberta-base",
        r#"{"model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}"#,
    ),
    (
        "xlm-roberta-large",
        r#"{"model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}"#,
    ),
];

/// Opens a text tower that is a model of transformers, `name`.
fn open_hf_text(files: &mut Checkpoint, path: &Path, c: &Config, name: &str) -> Result<Tower, OpenError> {
    let t = &c.text_cfg;
    let bare = name.strip_prefix("FacebookAI/").unwrap_or(name);
    let (of_config, config): (_, bert::Config) = match TEXT_MODELS.iter().find(|(known, _)| *known == bare) {
        Some((_, text)) => (path.to_owned(), model::parse(path, text.as_bytes())?),
        None if files.has("config.json") => files.json("config.json")?,
        None => {
            let known = TEXT_MODELS.map(|(known, _)| known).join(", ");
            let reason = format!(
                "text_cfg.hf_model_name is `{name}`, whose sizes are not known here as those of {known} are: put the config.json \
                 of `{name}` into this folder, if it is a BERT, RoBERTa or XLM-R"
            );
            return Err(model::config(path, reason));
        }
    };
    let positions = config.positions(&of_config)?;
    let n_positions = config.max_tokens(&of_config, positions)?;
    let mut tokens = Tokens::of(path, t)?;
    tokens.max_tokens = tokens.max_tokens.min(n_positions);
    // Padding is masked in these.
    tokens.filled = false;
    let tokenizer = tokens.open(files, path, t, config.vocab_size)?;

    let (dim, embed_dim) = (config.hidden_size, c.embed_dim);
    let mut w = weights(files)?;
    let bert = Bert::load(&mut w, &of_config, &config, positions, "text.transformer.")?;
    let default = if positions == bert::Positions::FromZero { "cls_pooler" } else { "mean_pooler" };
    let (pooling, pooler) = match t.hf_pooler_type.as_deref().unwrap_or(default) {
        "mean_pooler" => (bert::Pooling::Mean, None),
        "cls_last_hidden_state_pooler" => (bert::Pooling::First, None),
        "cls_pooler" => {
            let pooler = Linear::load(&mut w, "text.transformer.pooler.dense", dim, dim, Activation::Tanh)?;
            (bert::Pooling::First, Some(pooler))
        }
        other => {
            let expected = "mean_pooler, cls_pooler or cls_last_hidden_state_pooler";
            return Err(model::config(path, format!("text_cfg.hf_pooler_type is `{other}`, expected {expected}")));
        }
    };
    let projection = match t.hf_proj_type.as_deref() {
        None if dim == embed_dim => vec![],
        Some("linear") => vec![Linear::load_unbiased(&mut w, "text.proj", dim, embed_dim)?],
        Some("mlp") => {
            let between = (dim + embed_dim) / 2;
            let first = w.take("text.proj.0.weight", &[between, dim])?;
            let first = Linear::new(&first, vec![0.0; between], dim, Activation::Gelu);
            vec![first, Linear::load_unbiased(&mut w, "text.proj.2", between, embed_dim)?]
        }
        other => {
            let stated = other.unwrap_or("null");
            let expected = "expected `linear`, `mlp`, or none where the model is as wide as embed_dim";
            return Err(model::config(path, format!("text_cfg.hf_proj_type is `{stated}`, {expected}")));
        }
    };
    finish_text(w)?;
    let layers = pooler.into_iter().chain(projection).collect();
    Ok(Tower::Text(tokenizer, Box::new(bert::Headed { bert, head: HfHead { pooling, layers, embed_dim } })))
}

/// What stands behind BERT or one of its kin: a way of pooling, and the dense layers after it.
struct HfHead {
    pooling: bert::Pooling,
    layers: Vec<Linear>,
    embed_dim: usize,
}

impl bert::Head for HfHead {
    fn dim(&self, _: usize) -> usize {
        self.embed_dim
    }

    fn embeddings(&self, states: &[f32], texts: &[Vec<u32>], dim: usize) -> Vec<Vec<f32>> {
        let pooled = self.pooling.each(states, texts, dim, false);
        self.layers.iter().fold(pooled, |rows, layer| projected(layer, &rows.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Why a description is refused that states `change` beside what a small model needs.
    fn refusal(modality: Modality, change: Value) -> String {
        let mut config = json!({
            "embed_dim": 16,
            "vision_cfg": {"image_size": 20, "patch_size": 5, "layers": 2, "width": 32, "head_width": 8},
            "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 24, "heads": 3, "layers": 2},
        });
        for (part, fields) in change.as_object().unwrap() {
            match fields.as_object() {
                Some(fields) => fields.iter().for_each(|(field, value)| config[part][field] = value.clone()),
                None => config[part] = fields.clone(),
            }
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DESCRIPTION), json!({ "model_cfg": config }).to_string()).unwrap();
        let opened = open(&mut Checkpoint::new(folder.path()), Wanted { modality, output: Output::Embedding });
        opened.err().expect("it opened without weights").to_string()
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        for (change, named) in [
            (json!({"vision_cfg": {"qk_norm": true}}), "vision_cfg.qk_norm is true"),
            (json!({"vision_cfg": {"input_patchnorm": true}}), "vision_cfg.input_patchnorm is true"),
            (json!({"vision_cfg": {"pool_type": "none"}}), "vision_cfg.pool_type is `none`"),
            (json!({"vision_cfg": {"attentional_pool": "parallel"}}), "vision_cfg.attentional_pool is \"parallel\""),
            (json!({"vision_cfg": {"head_width": 0}}), "vision_cfg.head_width is 0"),
            (json!({"vision_cfg": {"width": 33}}), "vision_cfg.width 33 does not divide into 4"),
            (json!({"vision_cfg": {"patch_size": 0}}), "patch_size 0 does not fit"),
            (json!({"vision_cfg": {"patch_size": null}}), "vision_cfg.patch_size is null"),
            (json!({"vision_cfg": {"image_size": [20, 30]}}), "vision_cfg.image_size is 20 x 30"),
            (json!({"vision_cfg": {"image_size": 100_000}}), "image_size is 100000"),
            (json!({"vision_cfg": {"mlp_ratio": 1e30}}), "vision_cfg.mlp_ratio"),
            (json!({"vision_cfg": {"timm_model_name": "convnext_base"}}), "vision_cfg.timm_model_name is `convnext_base`"),
            (json!({"vision_cfg": {"timm_model_name": "fastvit_mci0", "timm_pool": ""}}), "expected `avg`"),
            (json!({"vision_cfg": {"layers": [1, 2, 3]}}), "vision_cfg.layers is [1, 2, 3]"),
            (json!({"vision_cfg": {"layers": [1, 1, 1, 1]}}), "vision_cfg.image_size is 20, expected a multiple of 32"),
            (json!({"vision_cfg": {"layers": [1, 1, 1, 1], "width": 33}}), "vision_cfg.width is 33"),
            (json!({"vision_cfg": {"norm_kwargs": {"bias": 1}}}), "vision_cfg.norm_kwargs.bias is 1"),
            (json!({"quick_gelu": true, "vision_cfg": {"act_kwargs": {"approximate": "tanh"}}}), "act_kwargs.approximate"),
            (json!({"new_trick": 3}), "new_trick is 3"),
            (json!({"embed_dim": 0}), "embed_dim is 0"),
        ] {
            let message = refusal(Modality::Image, change);
            assert!(message.contains(named), "{named} is not in: {message}");
        }
        for (change, named) in [
            (json!({"text_cfg": {"scale_heads": true}}), "text_cfg.scale_heads is true"),
            (json!({"text_cfg": {"pool_type": "none"}}), "text_cfg.pool_type is `none`"),
            (json!({"text_cfg": {"proj_type": "mlp"}}), "text_cfg.proj_type is `mlp`"),
            (json!({"text_cfg": {"context_length": 2}}), "text_cfg.context_length is 2"),
            (json!({"text_cfg": {"embed_cls": true, "no_causal_mask": true}}), "embed_cls and no_causal_mask"),
            (json!({"text_cfg": {"embed_cls": true, "pad_id": 3}}), "text_cfg.pad_id is 3"),
            (json!({"text_cfg": {"tokenizer_mode": "clips"}}), "text_cfg.tokenizer_mode is `clips`"),
            (json!({"text_cfg": {"tokenizer_kwargs": {"reduction_mask": "simple"}}}), "tokenizer_kwargs.reduction_mask"),
            (
                json!({"text_cfg": {"hf_model_name": "google/mt5-base"}}),
                "put the config.json of `google/mt5-base` into this folder",
            ),
        ] {
            let message = refusal(Modality::Text, change);
            assert!(message.contains(named), "{named} is not in: {message}");
        }
        // What is off changes nothing: then the files are what is missing.
        let off =
            json!({"vision_cfg": {"qk_norm": false, "timm_drop": 0.0}, "text_cfg": {"scale_fc": null}, "custom_text": true});
        assert!(refusal(Modality::Image, off).contains("has no weights"));
    }
}
