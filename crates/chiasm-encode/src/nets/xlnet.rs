//! XLNet: texts to hidden states by a transformer whose attention knows distances instead of places, and those to one vector.
//!
//! # Reference
//! Yang et al., "XLNet: Generalized Autoregressive Pretraining for Language Understanding", NeurIPS 2019; the attention is that of
//! Dai et al., "Transformer-XL", ACL 2019, section 3.3. Checked layer by layer against `XLNetModel` of transformers. Differs from it
//! in: nothing is padded and nothing remembered, each text is computed by itself; the summary is not projected, since that layer
//! belongs to heads trained for a task; it is brought to unit length.
//! # Files
//! Hugging Face's layout: `config.json` (`model_type` `xlnet`), `tokenizer.json`, the weights: the bare model's, or those of a model with
//! a head, whose head is left aside.
//! # Preprocessing
//! The tokeniser of the folder, which puts `<sep>` and `<cls>` behind a text; cut to 512 tokens.
//! # Shapes
//! | step | shape | range |
//! | --- | --- | --- |
//! | token ids | `[n]` per text, 3 to 512 of them | 0 to the size of the vocabulary |
//! | hidden states | `[n, d_model]` | any |
//! | embedding | `[d_model]`: the state of `summary_type` | unit length |

use chiasm_core::Modality;
use chiasm_nn::{Activation, LayerNorm, Linear, Table, Weights, WeightsError, softmax};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::input::TextTokenizer;
use crate::model;
use crate::net::{Finish, Net, Opened, Tower, Wanted, Watch};

/// Changes whenever this file or what it calls gives other numbers for the same weights.
const ARITHMETIC: &str = "xlnet 2";

/// Tokens of a text at most. Distances have no end, but the published weights were trained on so many, and time and memory grow by
/// the square.
const MAX_TOKENS: usize = 512;

/// Slowest of the waves that stand for a distance, in tokens over 2 pi (Vaswani et al. 2017, section 3.5).
const SLOWEST: f32 = 10_000.0;

/// `config.json`. What is silent has the reference's default, which is that of XLNet large.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    vocab_size: usize,
    d_model: usize,
    n_layer: usize,
    n_head: usize,
    d_head: Option<usize>,
    d_inner: usize,
    ff_activation: String,
    attn_type: String,
    bi_data: bool,
    clamp_len: i64,
    layer_norm_eps: f32,
    summary_type: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 32000,
            d_model: 1024,
            n_layer: 24,
            n_head: 16,
            d_head: None,
            d_inner: 4096,
            ff_activation: "gelu".to_owned(),
            attn_type: "bi".to_owned(),
            bi_data: false,
            clamp_len: -1,
            layer_norm_eps: 1e-12,
            summary_type: "last".to_owned(),
        }
    }
}

/// Which state stands for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Summary {
    /// That of the last token, which is `<cls>`.
    Last,
    /// That of the first.
    First,
    /// The mean over all.
    Mean,
}

/// The network.
struct XlNet {
    /// `[vocab_size, dim]`.
    words: Table,
    layers: Vec<Layer>,
    summary: Summary,
    /// Distances beyond are taken for this one, where it is above 0.
    clamp: Option<f32>,
    dim: usize,
}

/// Attention and two dense layers, each with a shortcut around it and a normalisation after it.
struct Layer {
    /// Query, key and value side by side, heads within each: `dim` to `3 dim`.
    qkv: Linear,
    /// From the waves of a distance to its key.
    distance: Linear,
    /// The three biases of the query (u and v of Transformer-XL, and that of the segments), `[n_heads, width]` each.
    to_content: Vec<f32>,
    to_distance: Vec<f32>,
    to_segment: Vec<f32>,
    /// Keys of a token of the same segment and of one of the other, `[2, n_heads, width]`.
    segments: Vec<f32>,
    out: Linear,
    norm_1: LayerNorm,
    widen: Linear,
    narrow: Linear,
    norm_2: LayerNorm,
    n_heads: usize,
}

/// Opens the model.
pub(crate) fn open(files: &mut Checkpoint, _: Wanted) -> Result<Opened, OpenError> {
    let (path, c): (_, Config) = files.json("config.json")?;
    let (dim, n_heads) = (c.d_model, c.n_head);
    model::expect(&path, dim > 0 && n_heads > 0 && dim.is_multiple_of(n_heads) && dim.is_multiple_of(2), || {
        format!("d_model {dim} does not divide into {n_heads} attention heads, or is odd")
    })?;
    let width = dim / n_heads;
    model::expect(&path, c.d_head.is_none_or(|stated| stated == width), || {
        format!("d_head is {}, expected d_model / n_head = {width}", c.d_head.unwrap_or_default())
    })?;
    model::expect(&path, c.attn_type == "bi", || format!("attn_type is `{}`, expected `bi`", c.attn_type))?;
    model::expect(&path, !c.bi_data, || "bi_data is true, expected false".to_owned())?;
    let summary = match c.summary_type.as_str() {
        "last" => Summary::Last,
        "first" => Summary::First,
        "mean" => Summary::Mean,
        other => {
            return Err(model::config(&path, format!("summary_type is `{other}`, expected one of last, first, mean")));
        }
    };
    let activation = model::activation(&path, &c.ff_activation)?;
    let tokenizer = TextTokenizer::open(files, MAX_TOKENS, c.vocab_size)?;
    let mut w = files.weights()?;
    let prefix = if w.has("transformer.word_embedding.weight") { "transformer." } else { "" };
    let words = w.table(&format!("{prefix}word_embedding.weight"), [c.vocab_size, dim])?;
    let layers = (0..c.n_layer)
        .map(|i| Layer::load(&mut w, &format!("{prefix}layer.{i}."), &c, activation))
        .collect::<Result<_, _>>()?;
    // The vector of a word to be guessed.
    w.skip(&format!("{prefix}mask_emb"));
    if !prefix.is_empty() {
        for head in ["lm_loss.", "sequence_summary.", "logits_proj.", "classifier.", "qa_outputs."] {
            w.skip_prefix(head);
        }
    }
    w.finish()?;
    let clamp = (c.clamp_len > 0).then_some(c.clamp_len as f32);
    let net = XlNet { words, layers, summary, clamp, dim };
    Ok(Opened { tower: Tower::Text(tokenizer, Box::new(net)), finish: Finish::UnitLength, arithmetic: ARITHMETIC })
}

/// What it takes.
pub(crate) const MODALITIES: &[Modality] = &[Modality::Text];

impl Layer {
    fn load(w: &mut Weights, at: &str, c: &Config, activation: Activation) -> Result<Self, WeightsError> {
        let (dim, n_heads, width) = (c.d_model, c.n_head, c.d_model / c.n_head);
        // Stored `[in, out]`, unlike every other dense layer.
        let mut turned = |part: &str| -> Result<Vec<f32>, WeightsError> {
            let stored = w.take(&format!("{at}rel_attn.{part}"), &[dim, n_heads, width])?;
            Ok((0..dim).flat_map(|o| stored.iter().skip(o).step_by(dim).copied().collect::<Vec<_>>()).collect())
        };
        let qkv = [turned("q")?, turned("k")?, turned("v")?].concat();
        let distance = turned("r")?;
        let out = w.take(&format!("{at}rel_attn.o"), &[dim, n_heads, width])?;
        let precision = w.precision();
        let dense =
            |stored: &[f32]| Linear::with_precision(stored, vec![0.0; stored.len() / dim], dim, Activation::None, precision);
        let bias = |w: &mut Weights, part: &str| w.take(&format!("{at}rel_attn.{part}"), &[n_heads, width]);
        Ok(Self {
            qkv: dense(&qkv),
            distance: dense(&distance),
            to_content: bias(w, "r_w_bias")?,
            to_distance: bias(w, "r_r_bias")?,
            to_segment: bias(w, "r_s_bias")?,
            segments: w.take(&format!("{at}rel_attn.seg_embed"), &[2, n_heads, width])?,
            out: dense(&out),
            norm_1: LayerNorm::load(w, &format!("{at}rel_attn.layer_norm"), dim, c.layer_norm_eps)?,
            widen: Linear::load(w, &format!("{at}ff.layer_1"), dim, c.d_inner, activation)?,
            narrow: Linear::load(w, &format!("{at}ff.layer_2"), c.d_inner, dim, Activation::None)?,
            norm_2: LayerNorm::load(w, &format!("{at}ff.layer_norm"), dim, c.layer_norm_eps)?,
            n_heads,
        })
    }

    /// Carries the tokens of one text, `[n, dim]`, through the layer; `waves` are those of the distances n-1, ..., -(n-1).
    fn forward(&self, x: &mut [f32], waves: &[f32]) {
        let dim = self.out.n_out();
        let (n, width) = (x.len() / dim, dim / self.n_heads);
        let (mut qkv, mut distances, mut mixed) = (Vec::new(), Vec::new(), vec![0.0; x.len()]);
        self.qkv.forward(x, &mut qkv);
        self.distance.forward(waves, &mut distances);
        let scale = 1.0 / (width as f32).sqrt();
        let (mut scores, mut by_distance, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for head in 0..self.n_heads {
            let at = head * width;
            let part = |which: usize| qkv.chunks_exact(3 * dim).map(move |row| &row[which * dim + at..][..width]);
            let query = |bias: &[f32]| -> Vec<f32> {
                part(0).flat_map(|q| q.iter().zip(&bias[at..]).map(|(q, b)| (q + b) * scale).collect::<Vec<_>>()).collect()
            };
            // A product with the keys is a dense layer whose weights they are.
            let keys: Vec<f32> = part(1).flatten().copied().collect();
            product(&keys, width, &query(&self.to_content), &mut scores);
            let keys: Vec<f32> = distances.chunks_exact(dim).flat_map(|row| &row[at..][..width]).copied().collect();
            product(&keys, width, &query(&self.to_distance), &mut by_distance);
            // `<cls>`, the last token, is a segment of its own, the text before it another.
            let segments = query(&self.to_segment);
            for (i, row) in scores.chunks_exact_mut(n).enumerate() {
                let to = |other: bool| -> f32 {
                    let key = &self.segments[usize::from(other) * dim + at..][..width];
                    segments[i * width..][..width].iter().zip(key).map(|(q, k)| q * k).sum()
                };
                let to = [to(false), to(true)];
                let from_last = i + 1 == n;
                for (j, score) in row.iter_mut().enumerate() {
                    // The distance i - j stands at n - 1 - (i - j).
                    *score += by_distance[i * (2 * n - 1) + n - 1 + j - i] + to[usize::from(from_last != (j + 1 == n))];
                }
            }
            softmax(&mut scores, n);
            let columns: Vec<f32> = (0..width).flat_map(|d| part(2).map(move |v| v[d])).collect();
            product(&columns, n, &scores, &mut values);
            for (to, from) in mixed.chunks_exact_mut(dim).zip(values.chunks_exact(width)) {
                to[at..at + width].copy_from_slice(from);
            }
        }
        let (mut wide, mut y) = (Vec::new(), Vec::new());
        self.out.forward(&mixed, &mut y);
        x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
        self.norm_1.forward(x);
        self.widen.forward(x, &mut wide);
        self.narrow.forward(&wide, &mut y);
        x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
        self.norm_2.forward(x);
    }
}

/// Scalar products of the rows of `right` with those of `left`, both `[_, n_in]`: `out` becomes `[right rows, left rows]`. Single
/// precision, as attention has everywhere.
fn product(left: &[f32], n_in: usize, right: &[f32], out: &mut Vec<f32>) {
    Linear::new(left, vec![0.0; left.len() / n_in], n_in, Activation::None).forward(right, out);
}

impl XlNet {
    /// The waves of the distances n-1, ..., -(n-1): `[2 n - 1, dim]`, sines before cosines.
    fn waves(&self, n: usize) -> Vec<f32> {
        let frequencies: Vec<f32> = (0..self.dim).step_by(2).map(|i| 1.0 / SLOWEST.powf(i as f32 / self.dim as f32)).collect();
        let mut waves = Vec::with_capacity((2 * n - 1) * self.dim);
        for at in 0..2 * n - 1 {
            let distance = (n - 1) as f32 - at as f32;
            let distance = self.clamp.map_or(distance, |clamp| distance.clamp(-clamp, clamp));
            waves.extend(frequencies.iter().map(|f| (distance * f).sin()));
            waves.extend(frequencies.iter().map(|f| (distance * f).cos()));
        }
        waves
    }
}

impl Net<Vec<u32>> for XlNet {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self, ids: &Vec<u32>) -> usize {
        ids.len()
    }

    fn embed(&self, texts: &[Vec<u32>], watch: &mut Watch<'_>) -> Vec<Vec<f32>> {
        let dim = self.dim;
        let mut x: Vec<f32> = Vec::new();
        texts.iter().flatten().for_each(|id| self.words.push(*id as usize, &mut x));
        let waves: Vec<Vec<f32>> = texts.iter().map(|ids| self.waves(ids.len())).collect();
        watch("hidden.0", &x);
        for (i, layer) in self.layers.iter().enumerate() {
            let mut rest = x.as_mut_slice();
            for (ids, waves) in texts.iter().zip(&waves) {
                let (text, after) = rest.split_at_mut(ids.len() * dim);
                layer.forward(text, waves);
                rest = after;
            }
            watch(&format!("hidden.{}", i + 1), &x);
        }
        let mut rest = x.as_slice();
        let summary = |ids: &Vec<u32>| {
            let (tokens, after) = rest.split_at(ids.len() * dim);
            rest = after;
            match self.summary {
                Summary::First => tokens[..dim].to_vec(),
                Summary::Last => tokens[tokens.len() - dim..].to_vec(),
                Summary::Mean => {
                    let column = |d: usize| tokens.iter().skip(d).step_by(dim).map(|v| f64::from(*v)).sum::<f64>();
                    (0..dim).map(|d| (column(d) / ids.len() as f64) as f32).collect()
                }
            }
        };
        texts.iter().map(summary).collect()
    }
}
