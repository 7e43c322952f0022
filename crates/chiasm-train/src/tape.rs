//! What all towers that learn share: parameters on a tape, blocks of a transformer, low-rank changes, random streams.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use chiasm_core::Modality;
use chiasm_encode::{Prepared, Sizes};
use chiasm_nn::grad::{Array, Sees, Tape, Var};
use chiasm_nn::learn::Parameter;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A tower as it learns. One architecture, one file.
pub(crate) trait Network: Debug + Send + Sync {
    /// What it takes.
    fn modality(&self) -> Modality;

    /// Numbers per embedding.
    fn projection(&self) -> usize;

    /// What it makes of inputs.
    fn see<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], dropout: Option<Dropout>) -> Seen<'t>;

    /// Embeddings alone, `[n, projection]`, at unit length.
    fn embed<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], dropout: Option<Dropout>) -> Var<'t, f32> {
        self.see(on, inputs, dropout).embeddings
    }

    /// Whether anything of it is learned.
    fn learns(&self) -> bool {
        true
    }
}

/// What a tower makes of inputs.
#[derive(Clone)]
pub(crate) struct Seen<'t> {
    /// `[n, projection]`, unit rows.
    pub(crate) embeddings: Var<'t, f32>,
    /// The normalised states that they are the means of; of some towers there are none.
    pub(crate) states: Option<States<'t>>,
}

/// States of the tokens of sequences, one under the other.
#[derive(Clone)]
pub(crate) struct States<'t> {
    /// `[sum of lengths, width]`.
    pub(crate) rows: Var<'t, f32>,
    pub(crate) lengths: Vec<usize>,
}

impl<'t> States<'t> {
    /// Those of some of the sequences, in this order; each may come several times.
    pub(crate) fn pick(&self, sequences: impl Iterator<Item = usize>) -> States<'t> {
        let ends: Vec<usize> = self
            .lengths
            .iter()
            .scan(0, |end, n| {
                *end += n;
                Some(*end)
            })
            .collect();
        let (mut places, mut lengths) = (Vec::new(), Vec::new());
        for at in sequences {
            lengths.push(self.lengths[at]);
            places.extend(ends[at] - self.lengths[at]..ends[at]);
        }
        States { rows: self.rows.rows(places), lengths }
    }
}

impl<'t> From<Var<'t, f32>> for Seen<'t> {
    fn from(embeddings: Var<'t, f32>) -> Self {
        Seen { embeddings, states: None }
    }
}

/// Parameters on a tape, by name.
pub(crate) struct Bound<'t> {
    pub(crate) tape: &'t Tape<f32>,
    pub(crate) of: HashMap<String, Var<'t, f32>>,
    pub(crate) scales: Scales,
}

/// What low-rank changes are multiplied by: for each tower that has them how the names of its parameters begin, and the number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scales(pub(crate) Arc<[(String, f32)]>);

impl Scales {
    fn of(&self, name: &str) -> f32 {
        self.0.iter().find(|(start, _)| name.starts_with(start.as_str())).map_or(1.0, |(_, scale)| *scale)
    }
}

/// What is left out while learning, and by which chances.
pub(crate) struct Dropout {
    pub(crate) share: f64,
    pub(crate) rng: ChaCha8Rng,
}

/// Blocks that follow one another, pre-norm (Vaswani et al. 2017).
pub(crate) struct Blocks<'a> {
    pub(crate) sizes: Sizes,
    pub(crate) eps: f32,
    pub(crate) act: Act,
    pub(crate) sees: Sees,
    /// What the parts of block `i` are called.
    pub(crate) names: &'a dyn Fn(usize) -> Names,
}

/// What stands between the two layers of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Gelu,
    QuickGelu,
}

/// What the parts of a block are called.
pub(crate) struct Names {
    pub(crate) norm_1: String,
    pub(crate) qkv: [String; 3],
    pub(crate) out: String,
    pub(crate) norm_2: String,
    pub(crate) widen: String,
    pub(crate) narrow: String,
}

impl Names {
    /// As this project calls them, behind a prefix.
    pub(crate) fn under(prefix: &str) -> Self {
        let at = |part: &str| format!("{prefix}.{part}");
        Names {
            norm_1: at("norm_1"),
            qkv: ["q", "k", "v"].map(at),
            out: at("out"),
            norm_2: at("norm_2"),
            widen: at("widen"),
            narrow: at("narrow"),
        }
    }
}

impl Blocks<'_> {
    /// The dense layers, which low-rank changes change: name, and numbers out and in.
    pub(crate) fn dense(&self) -> Vec<(String, [usize; 2])> {
        let Sizes { width, inner, layers, .. } = self.sizes;
        let of_block = |i: usize| {
            let Names { qkv: [q, k, v], out, widen, narrow, .. } = (self.names)(i);
            let square = [q, k, v, out].map(|name| (name, [width, width]));
            square.into_iter().chain([(widen, [inner, width]), (narrow, [width, inner])])
        };
        (0..layers).flat_map(of_block).collect()
    }

    /// Low-rank changes of the dense layers, which change nothing at the start: `A` drawn, `B` zero (Hu et al., ICLR 2022).
    pub(crate) fn low_rank(&self, rank: usize, rng: &mut ChaCha8Rng) -> Vec<Parameter> {
        let of_layer = |(name, [n_out, n_in]): (String, [usize; 2])| {
            let a = normal(rank, n_in, 1.0 / (n_in as f64).sqrt(), rng);
            [
                Parameter::plain(format!("{name}.lora_a"), a),
                Parameter::plain(format!("{name}.lora_b"), Array::zeros(n_out, rank)),
            ]
        };
        self.dense().into_iter().flat_map(of_layer).collect()
    }
}

impl<'t> Bound<'t> {
    pub(crate) fn get(&self, name: &str) -> Var<'t, f32> {
        self.of[name]
    }

    pub(crate) fn linear(&self, x: Var<'t, f32>, prefix: &str) -> Var<'t, f32> {
        let y = x.linear(self.get(&format!("{prefix}.weight")), Some(self.get(&format!("{prefix}.bias"))));
        match (self.of.get(&format!("{prefix}.lora_a")), self.of.get(&format!("{prefix}.lora_b"))) {
            (Some(a), Some(b)) => y + x.linear(*a, None).linear(*b, None).scaled(self.scales.of(prefix)),
            (_, _) => y,
        }
    }

    pub(crate) fn norm(&self, x: Var<'t, f32>, name: &str, eps: f32) -> Var<'t, f32> {
        x.layer_norm(self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")), f64::from(eps))
    }

    /// Tokens `[sum of lengths, width]` through all blocks.
    pub(crate) fn blocks(
        &self,
        mut x: Var<'t, f32>,
        blocks: &Blocks<'_>,
        lengths: &[usize],
        dropout: &mut Option<Dropout>,
    ) -> Var<'t, f32> {
        for i in 0..blocks.sizes.layers {
            let names = (blocks.names)(i);
            x = self.mixed(x, blocks, &names, lengths, dropout);
            x = self.fed(x, blocks, &names, dropout);
        }
        x
    }

    /// Tokens that have looked at one another: the first half of a block.
    pub(crate) fn mixed(
        &self,
        x: Var<'t, f32>,
        blocks: &Blocks<'_>,
        names: &Names,
        lengths: &[usize],
        dropout: &mut Option<Dropout>,
    ) -> Var<'t, f32> {
        let h = self.norm(x, &names.norm_1, blocks.eps);
        let [q, k, v] = names.qkv.each_ref().map(|part| self.linear(h, part));
        let mixed = q.attend(k, v, lengths, lengths, blocks.sizes.heads, blocks.sees);
        x + self.dropped(self.linear(mixed, &names.out), dropout)
    }

    /// Tokens through the feed-forward part: the second half of a block.
    pub(crate) fn fed(
        &self,
        x: Var<'t, f32>,
        blocks: &Blocks<'_>,
        names: &Names,
        dropout: &mut Option<Dropout>,
    ) -> Var<'t, f32> {
        let h = self.linear(self.norm(x, &names.norm_2, blocks.eps), &names.widen);
        let h = match blocks.act {
            Act::Gelu => h.gelu(),
            Act::QuickGelu => h.quick_gelu(),
        };
        x + self.dropped(self.linear(h, &names.narrow), dropout)
    }

    /// With a share of the numbers left out, and the others made up for it. What is left out is drawn again on the way back, which is quicker than keeping it.
    pub(crate) fn dropped(&self, x: Var<'t, f32>, dropout: &mut Option<Dropout>) -> Var<'t, f32> {
        let Some(Dropout { share, rng }) = dropout else { return x };
        let (seed, share, to) = (rng.random(), *share, x.place());
        let drop = move |first: usize, part: &mut [f32]| leave_out(share, part_of(seed, first), part);
        self.tape.custom(&[x], x.value().mapped_parts(drop), move |mut d, sink| {
            sink.add(to, || {
                d.change_parts(drop);
                d
            });
        })
    }
}

/// The stream of a part that begins at a number.
fn part_of(seed: [u8; 32], first: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(first as u64);
    rng
}

/// Sets a share of the numbers, by 65,536ths, to zero, and divides the others by what is kept.
fn leave_out(share: f64, mut rng: ChaCha8Rng, numbers: &mut [f32]) {
    const DRAWN: usize = 512;
    let below = (share * 65536.0).round() as u16;
    let by = (1.0 / (1.0 - f64::from(below) / 65536.0)) as f32;
    let mut drawn = [0; 2 * DRAWN];
    for numbers in numbers.chunks_mut(DRAWN) {
        rng.fill_bytes(&mut drawn);
        for (x, drawn) in numbers.iter_mut().zip(drawn.as_chunks().0) {
            *x = if u16::from_le_bytes(*drawn) < below { 0.0 } else { by * *x };
        }
    }
}

/// A tower that stays as it is and whose inputs, which do not change either, were brought to embeddings by its encoder: each comes as its row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Still {
    pub(crate) modality: Modality,
    pub(crate) projection: usize,
}

impl Network for Still {
    fn modality(&self) -> Modality {
        self.modality
    }

    fn projection(&self) -> usize {
        self.projection
    }

    fn see<'t>(&self, on: &Bound<'t>, inputs: &[Arc<Prepared>], _: Option<Dropout>) -> Seen<'t> {
        on.tape.constant(Array::new(inputs.len(), self.projection, rows(inputs))).into()
    }

    fn learns(&self) -> bool {
        false
    }
}

/// The rows of inputs, one under the other; of words there are none.
pub(crate) fn rows<'a>(inputs: &'a [Arc<Prepared>]) -> Vec<f32> {
    let of = |input: &'a Arc<Prepared>| match &**input {
        Prepared::Rows(rows) => &rows[..],
        Prepared::Words(_) => &[],
    };
    inputs.iter().map(of).collect::<Vec<&[f32]>>().concat()
}

/// The words of inputs, one behind the other, and how many each has; of rows there are none.
pub(crate) fn words(inputs: &[Arc<Prepared>]) -> (Vec<usize>, Vec<usize>) {
    let of = |input: &Arc<Prepared>| match &**input {
        Prepared::Words(words) => words.iter().map(|word| *word as usize).collect::<Vec<usize>>(),
        Prepared::Rows(_) => Vec::new(),
    };
    let each: Vec<Vec<usize>> = inputs.iter().map(of).collect();
    let lengths = each.iter().map(Vec::len).collect();
    (each.concat(), lengths)
}

/// Parameters by name with low-rank changes merged into what they change: those that a checkpoint holds.
pub(crate) fn merged<'a>(all: &BTreeMap<&'a str, &'a Array<f32>>, scales: &Scales) -> Vec<(&'a str, Cow<'a, Array<f32>>)> {
    let own = all.iter().filter(|(name, _)| !name.contains(".lora_"));
    own.map(|(name, value)| {
        let prefix = name.strip_suffix(".weight").unwrap_or(name);
        let change = (all.get(format!("{prefix}.lora_a").as_str()), all.get(format!("{prefix}.lora_b").as_str()));
        let (Some(a), Some(b)) = change else { return (*name, Cow::Borrowed(*value)) };
        let tape = Tape::new();
        let change = tape.constant(Array::clone(b)).dot(tape.constant(Array::clone(a)));
        let (mut value, scale) = (Array::clone(value), scales.of(prefix));
        value.change_with(&change.value(), move |w, d| w + scale * d);
        (*name, Cow::Owned(value))
    })
    .collect()
}

/// Normal numbers (Box and Muller).
pub(crate) fn normal(n: usize, m: usize, deviation: f64, rng: &mut ChaCha8Rng) -> Array<f32> {
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
    use super::*;

    #[test]
    fn what_is_left_out_is_so_on_the_way_back_too() {
        let run = || {
            let tape = Tape::new();
            let bound = Bound { tape: &tape, of: HashMap::new(), scales: Scales::default() };
            let x = tape.leaf(Array::full(700, 100, 2.0));
            let mut dropout = Some(Dropout { share: 0.25, rng: stream(1, "test", 0) });
            let y = bound.dropped(x, &mut dropout);
            let z = bound.dropped(y, &mut dropout);
            let gradient = tape.backward(z.sum()).of(x);
            (Array::clone(&y.value()), Array::clone(&z.value()), gradient)
        };
        let (once, twice, gradient) = run();
        let kept = |x: &Array<f32>| x.data().iter().filter(|v| **v != 0.0).count() as f64 / 70_000.0;
        // Five deviations of the share of 70,000 that are drawn.
        assert!(
            (kept(&once) - 0.75).abs() < 0.008 && (kept(&twice) - 0.5625).abs() < 0.009,
            "{} {}",
            kept(&once),
            kept(&twice)
        );
        assert!(once.data().iter().all(|v| *v == 0.0 || (*v - 2.0 / 0.75).abs() < 1e-5), "what is kept makes up for it");
        assert!(twice.data().iter().zip(gradient.data()).all(|(v, d)| (*v / 2.0 - *d).abs() < 1e-6), "one mask both ways");
        assert_eq!(run(), (once, twice, gradient), "a stream draws the same again, whatever threads there are");
    }
}
