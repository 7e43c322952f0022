//! Recurrent layers: LSTM and GRU.

use pulp::NullaryFnOnce;

use crate::activation::{Activation, sigmoid_of, tanh};
use crate::linear::Linear;
use crate::simd::widest;
use crate::weights::{Weights, WeightsError};

/// What a layer does at each step. `[x]` stands for a dense layer of the input, `[h]` for one of the state before, `s` for the sigmoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Hochreiter and Schmidhuber 1997 with the forget gate of Gers, Schmidhuber and Cummins 2000:
    /// `c = s([x] + [h]) c + s([x] + [h]) tanh([x] + [h])`, `h = s([x] + [h]) tanh(c)`; four dense layers each, in the order
    /// in which PyTorch stores them: input, forget, cell, output.
    Lstm,
    /// Cho et al. 2014 with the reset after the dense layer, as PyTorch and cuDNN have it: `z = s([x] + [h])`,
    /// `n = tanh([x] + s([x] + [h]) [h])`, `h = (1 - z) n + z h`; stored in the order reset, update, new.
    Gru,
}

impl Cell {
    fn n_gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// Sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentShape {
    /// What it does at each step.
    pub cell: Cell,
    /// Numbers per token going in.
    pub n_in: usize,
    /// Numbers per token and direction coming out.
    pub hidden: usize,
    /// Whether texts are read from their ends as well.
    pub bidirectional: bool,
    /// Whether the dense layers have biases.
    pub biased: bool,
}

/// One layer over sequences, in one direction or in both.
#[derive(Clone, Debug)]
pub struct RecurrentLayer {
    cell: Cell,
    hidden: usize,
    /// Forward and, if there is one, backward.
    directions: Vec<Direction>,
}

/// The dense layers of all gates, one above the other.
#[derive(Clone, Debug)]
struct Direction {
    of_input: Linear,
    of_state: Linear,
}

impl RecurrentLayer {
    /// Takes `{prefix}weight_ih_l{layer}`, `[gates hidden, n_in]`, `{prefix}weight_hh_l{layer}`, `[gates hidden, hidden]`, and
    /// their `bias_ih` and `bias_hh`; the same ending in `_reverse` for the other direction. So PyTorch names them.
    ///
    /// # Errors
    /// [`WeightsError`], naming the tensor.
    pub fn load(w: &mut Weights, prefix: &str, layer: usize, shape: RecurrentShape) -> Result<Self, WeightsError> {
        let RecurrentShape { cell, n_in, hidden, bidirectional, biased } = shape;
        let n_out = cell.n_gates() * hidden;
        let mut dense = |of: &str, reverse: &str, n_in: usize| -> Result<Linear, WeightsError> {
            let name = |kind: &str| format!("{prefix}{kind}_{of}_l{layer}{reverse}");
            let weight = w.take(&name("weight"), &[n_out, n_in])?;
            let bias = if biased { w.take(&name("bias"), &[n_out])? } else { vec![0.0; n_out] };
            Ok(Linear::with_precision(&weight, bias, n_in, Activation::None, w.precision()))
        };
        let mut direction = |reverse: &str| -> Result<Direction, WeightsError> {
            Ok(Direction { of_input: dense("ih", reverse, n_in)?, of_state: dense("hh", reverse, hidden)? })
        };
        let mut directions = vec![direction("")?];
        if bidirectional {
            directions.push(direction("_reverse")?);
        }
        Ok(Self { cell, hidden, directions })
    }

    /// Numbers per token coming out: those of the directions side by side.
    pub fn n_out(&self) -> usize {
        self.directions.len() * self.hidden
    }

    /// Reads each of several sequences that stand one after the other in `x`, `[sum of lengths, n_in]`; `out` becomes
    /// `[sum of lengths, n_out]`, the state after each token. The state before the first is zero.
    pub fn forward(&self, x: &[f32], lengths: &[usize], out: &mut Vec<f32>, scratch: &mut RecurrentScratch) {
        let (n_out, n_tokens) = (self.n_out(), lengths.iter().sum::<usize>());
        assert_eq!(n_tokens * self.directions[0].of_input.n_in(), x.len(), "lengths of the sequences");
        out.resize(n_tokens * n_out, 0.0);
        // Long sequences first: those still being read at a step are then the first so many.
        let (mut starts, mut start) = (Vec::with_capacity(lengths.len()), 0);
        for n in lengths {
            starts.push(start);
            start += n;
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(lengths[*i]));
        for (backward, direction) in self.directions.iter().enumerate() {
            let RecurrentScratch { of_input, of_state, state, memory } = scratch;
            direction.of_input.forward(x, of_input);
            for numbers in [&mut *state, &mut *memory] {
                numbers.clear();
                numbers.resize(lengths.len() * self.hidden, 0.0);
            }
            let n_gates = self.cell.n_gates() * self.hidden;
            for step in 0..order.first().map_or(0, |i| lengths[*i]) {
                let n_read = order.partition_point(|i| lengths[*i] > step);
                direction.of_state.forward(&state[..n_read * self.hidden], of_state);
                for (row, &i) in order[..n_read].iter().enumerate() {
                    let token = starts[i] + if backward == 1 { lengths[i] - 1 - step } else { step };
                    let at = row * self.hidden..(row + 1) * self.hidden;
                    let [state, memory] = [&mut state[at.clone()], &mut memory[at]];
                    widest(Step {
                        cell: self.cell,
                        of_input: &of_input[token * n_gates..][..n_gates],
                        of_state: &of_state[row * n_gates..][..n_gates],
                        state,
                        memory,
                    });
                    out[token * n_out + backward * self.hidden..][..self.hidden].copy_from_slice(state);
                }
            }
        }
    }
}

/// Buffers that recurrent layers use over and over.
#[derive(Debug, Default)]
pub struct RecurrentScratch {
    of_input: Vec<f32>,
    of_state: Vec<f32>,
    /// `[n sequences, hidden]`, the longest first.
    state: Vec<f32>,
    /// Likewise: what an LSTM keeps beside its state.
    memory: Vec<f32>,
}

/// One token of one sequence.
struct Step<'a> {
    cell: Cell,
    of_input: &'a [f32],
    of_state: &'a [f32],
    state: &'a mut [f32],
    memory: &'a mut [f32],
}

impl NullaryFnOnce for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { cell, of_input: x, of_state: h, state, memory } = self;
        let n = state.len();
        match cell {
            Cell::Lstm => {
                let (x_input, x_forget, x_cell, x_output) = (&x[..n], &x[n..2 * n], &x[2 * n..3 * n], &x[3 * n..4 * n]);
                let (h_input, h_forget, h_cell, h_output) = (&h[..n], &h[n..2 * n], &h[2 * n..3 * n], &h[3 * n..4 * n]);
                let memory = &mut memory[..n];
                for i in 0..n {
                    let kept = sigmoid_of::<false>(x_forget[i] + h_forget[i]) * memory[i];
                    memory[i] = kept + sigmoid_of::<false>(x_input[i] + h_input[i]) * tanh::<false>(x_cell[i] + h_cell[i]);
                    state[i] = sigmoid_of::<false>(x_output[i] + h_output[i]) * tanh::<false>(memory[i]);
                }
            }
            Cell::Gru => {
                let (x_reset, x_update, x_new) = (&x[..n], &x[n..2 * n], &x[2 * n..3 * n]);
                let (h_reset, h_update, h_new) = (&h[..n], &h[n..2 * n], &h[2 * n..3 * n]);
                for i in 0..n {
                    let update = sigmoid_of::<false>(x_update[i] + h_update[i]);
                    let new = tanh::<false>(x_new[i] + sigmoid_of::<false>(x_reset[i] + h_reset[i]) * h_new[i]);
                    state[i] = (1.0 - update) * new + update * state[i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{checkpoint, numbers};

    const N_IN: usize = 5;
    const HIDDEN: usize = 19;

    /// The stored tensors of one direction: weights of input and state, biases of input and state.
    fn stored(n_gates: usize, seed: u32) -> [Vec<f32>; 4] {
        let n = n_gates * HIDDEN;
        [numbers(n * N_IN, seed), numbers(n * HIDDEN, seed + 1), numbers(n, seed + 2), numbers(n, seed + 3)]
    }

    fn layer(cell: Cell, biased: bool) -> RecurrentLayer {
        let n = cell.n_gates() * HIDDEN;
        let mut tensors = Vec::new();
        for (ending, seed) in [("", 1), ("_reverse", 11)] {
            let [w_ih, w_hh, b_ih, b_hh] = stored(cell.n_gates(), seed);
            tensors.push((format!("rnn.weight_ih_l3{ending}"), w_ih, vec![n, N_IN]));
            tensors.push((format!("rnn.weight_hh_l3{ending}"), w_hh, vec![n, HIDDEN]));
            if biased {
                tensors.push((format!("rnn.bias_ih_l3{ending}"), b_ih, vec![n]));
                tensors.push((format!("rnn.bias_hh_l3{ending}"), b_hh, vec![n]));
            }
        }
        let mut weights = checkpoint(&tensors);
        let shape = RecurrentShape { cell, n_in: N_IN, hidden: HIDDEN, bidirectional: true, biased };
        let layer = RecurrentLayer::load(&mut weights, "rnn.", 3, shape).unwrap();
        weights.finish().unwrap();
        layer
    }

    /// One direction over one sequence by its definition, in f64: the state after each token, in the order of reading.
    fn written_out(cell: Cell, biased: bool, seed: u32, tokens: &[&[f32]]) -> Vec<Vec<f64>> {
        let [w_ih, w_hh, b_ih, b_hh] = stored(cell.n_gates(), seed);
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let dense = |w: &[f32], b: &[f32], x: &[f64], at: usize| -> f64 {
            let dot: f64 = w[at * x.len()..][..x.len()].iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
            dot + if biased { f64::from(b[at]) } else { 0.0 }
        };
        let (mut h, mut c) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        let mut states = Vec::new();
        for token in tokens {
            let token: Vec<f64> = token.iter().map(|v| f64::from(*v)).collect();
            let of_x = |gate: usize, i: usize| dense(&w_ih, &b_ih, &token, gate * HIDDEN + i);
            let of_h = |gate: usize, i: usize| dense(&w_hh, &b_hh, &h, gate * HIDDEN + i);
            let both = |gate: usize, i: usize| of_x(gate, i) + of_h(gate, i);
            let mut next = Vec::new();
            for i in 0..HIDDEN {
                next.push(match cell {
                    Cell::Lstm => {
                        c[i] = sigmoid(both(1, i)) * c[i] + sigmoid(both(0, i)) * both(2, i).tanh();
                        sigmoid(both(3, i)) * c[i].tanh()
                    }
                    Cell::Gru => {
                        let update = sigmoid(both(1, i));
                        (1.0 - update) * (of_x(2, i) + sigmoid(both(0, i)) * of_h(2, i)).tanh() + update * h[i]
                    }
                });
            }
            h = next;
            states.push(h.clone());
        }
        states
    }

    #[test]
    fn layers_equal_their_definition() {
        let lengths = [3, 7, 1, 7];
        let x = numbers(lengths.iter().sum::<usize>() * N_IN, 21);
        for (cell, biased) in [(Cell::Lstm, true), (Cell::Gru, true), (Cell::Gru, false)] {
            let (layer, mut out) = (layer(cell, biased), Vec::new());
            layer.forward(&x, &lengths, &mut out, &mut RecurrentScratch::default());
            let (mut x, mut got) = (x.chunks_exact(N_IN), out.chunks_exact(2 * HIDDEN));
            for n in lengths {
                let mut tokens: Vec<&[f32]> = x.by_ref().take(n).collect();
                let forward = written_out(cell, biased, 1, &tokens);
                tokens.reverse();
                let mut backward = written_out(cell, biased, 11, &tokens);
                backward.reverse();
                for (exact, got) in forward.iter().zip(&backward).zip(got.by_ref().take(n)) {
                    for (exact, got) in exact.0.iter().chain(exact.1).zip(got) {
                        assert!((f64::from(*got) - exact).abs() < 3e-6, "{got} is not {exact}: {cell:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_sequence_is_the_same_to_the_bit_in_any_batch() {
        let (layer, mut scratch) = (layer(Cell::Lstm, true), RecurrentScratch::default());
        let (x, lengths) = (numbers(9 * N_IN, 22), [2, 6, 1]);
        let (mut whole, mut alone) = (Vec::new(), Vec::new());
        layer.forward(&x, &lengths, &mut whole, &mut scratch);
        let mut first = 0;
        for n in lengths {
            layer.forward(&x[first * N_IN..(first + n) * N_IN], &[n], &mut alone, &mut scratch);
            assert!(alone == whole[first * 2 * HIDDEN..(first + n) * 2 * HIDDEN], "a sequence of {n}");
            first += n;
        }
    }
}
