//! Token ids to the rows that go into the first block of BERT and its kin.

use chiasm_nn::{LayerNorm, Table, Weights, WeightsError};

/// Sizes of the tables.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) n_words: usize,
    pub(crate) n_positions: usize,
    /// 0 where there is no table of types.
    pub(crate) n_types: usize,
    pub(crate) dim: usize,
    pub(crate) eps: f32,
}

/// Embeddings of words, of positions from 0 on and of the first type, summed and normalised (Devlin et al., "BERT", NAACL 2019,
/// figure 2).
pub(crate) struct Words {
    dim: usize,
    /// `[n_words, dim]`.
    words: Table,
    /// `[n_positions, dim]`, the embedding of the one type in use already added.
    positions: Vec<f32>,
    norm: LayerNorm,
}

impl Words {
    /// Takes the tensors whose names begin with `prefix`.
    pub(crate) fn load(w: &mut Weights, prefix: &str, tables: Tables) -> Result<Self, WeightsError> {
        let Tables { n_words, n_positions, n_types, dim, eps } = tables;
        let at = |part: &str| format!("{prefix}{part}");
        let words = w.table(&at("word_embeddings.weight"), [n_words, dim])?;
        let mut positions = w.take(&at("position_embeddings.weight"), &[n_positions, dim])?;
        if n_types > 0 {
            let types = w.take(&at("token_type_embeddings.weight"), &[n_types, dim])?;
            for row in positions.chunks_exact_mut(dim) {
                row.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
            }
        }
        // Stored beside the weights by some: the numbers 0, 1, 2, ...
        w.skip(&at("position_ids"));
        Ok(Self { dim, words, positions, norm: LayerNorm::load(w, &at("LayerNorm"), dim, eps)? })
    }

    /// One `[n, dim]` after the other. The tokeniser has seen to it that every token and its place are in the tables.
    pub(crate) fn rows(&self, texts: &[Vec<u32>]) -> Vec<f32> {
        let dim = self.dim;
        let mut x = Vec::with_capacity(texts.iter().map(Vec::len).sum::<usize>() * dim);
        for ids in texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(dim)) {
                self.words.push_sum(*id as usize, position, &mut x);
            }
        }
        self.norm.forward(&mut x);
        x
    }

    /// The normalisation, for what is embedded beside the words.
    pub(crate) fn norm(&self) -> &LayerNorm {
        &self.norm
    }
}

/// The states of the first token of each of several sequences, `[sequences, dim]`.
pub(crate) fn firsts(x: &[f32], lengths: &[usize], dim: usize) -> Vec<f32> {
    let mut at = 0;
    let mut firsts = Vec::with_capacity(lengths.len() * dim);
    for n in lengths {
        firsts.extend_from_slice(&x[at * dim..(at + 1) * dim]);
        at += n;
    }
    firsts
}
