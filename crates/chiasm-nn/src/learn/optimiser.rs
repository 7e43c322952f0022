//! SGD, Adam, AdamW and LAMB.

use std::sync::Arc;

use crate::grad::Array;
use crate::learn::Parameter;

/// By which rule a step follows from gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent with momentum: `v = m v + g + d w`, `w -= r v`.
    Sgd {
        /// `m`, 0 to 1.
        momentum: f64,
    },
    /// Adam (Kingma and Ba, ICLR 2015); weight decay is added to the gradient.
    Adam {
        /// Of the running means of gradients and of their squares, 0 to 1 both.
        betas: [f64; 2],
        /// Added to the root of the mean square.
        eps: f64,
    },
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter, ICLR 2019).
    AdamW {
        /// Of the running means of gradients and of their squares, 0 to 1 both.
        betas: [f64; 2],
        /// Added to the root of the mean square.
        eps: f64,
    },
    /// AdamW whose step has, for each parameter, the length of the parameter itself (You et al., ICLR 2020): for batches of thousands. The ratio of
    /// lengths is 1 where either is 0, and for what does not decay.
    Lamb {
        /// Of the running means of gradients and of their squares, 0 to 1 both.
        betas: [f64; 2],
        /// Added to the root of the mean square.
        eps: f64,
    },
}

impl Rule {
    /// AdamW as it is used for contrastive learning (Radford et al. 2021): .9, .98, 1e-6.
    pub const ADAM_W: Self = Self::AdamW { betas: [0.9, 0.98], eps: 1e-6 };
}

/// A rule with what it remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    rule: Rule,
    decay: f64,
    n_steps: u64,
    /// Running means of gradients and of their squares, or momenta and nothing: one pair for each parameter.
    moments: Vec<[Array<f32>; 2]>,
}

impl Optimiser {
    /// One that has seen no step; `decay` is the weight decay of the parameters that decay.
    pub fn new(rule: Rule, decay: f64, parameters: &[Parameter]) -> Self {
        let moments = parameters
            .iter()
            .map(|p| {
                let [n, m] = p.value.shape();
                let second = if matches!(rule, Rule::Sgd { .. }) { Array::zeros(0, 0) } else { Array::zeros(n, m) };
                [Array::zeros(n, m), second]
            })
            .collect();
        Self { rule, decay, n_steps: 0, moments }
    }

    /// Steps so far, and the two matrices that are remembered for each parameter.
    pub fn state(&self) -> (u64, &[[Array<f32>; 2]]) {
        (self.n_steps, &self.moments)
    }

    /// The optimiser with a state that [`Optimiser::state`] gave; none if the shapes are of other parameters.
    pub fn with_state(mut self, n_steps: u64, moments: Vec<[Array<f32>; 2]>) -> Option<Self> {
        let shapes = |of: &[[Array<f32>; 2]]| of.iter().map(|pair| [pair[0].shape(), pair[1].shape()]).collect::<Vec<_>>();
        if shapes(&self.moments) != shapes(&moments) {
            return None;
        }
        (self.n_steps, self.moments) = (n_steps, moments);
        Some(self)
    }

    /// One step of all parameters that it was made for, in the same order.
    ///
    /// # Panics
    /// If there are not as many gradients, of the same shapes.
    pub fn step<'p>(&mut self, parameters: impl IntoIterator<Item = &'p mut Parameter>, gradients: &[Array<f32>], rate: f64) {
        assert_eq!(self.moments.len(), gradients.len(), "gradients of all parameters");
        self.n_steps += 1;
        let n = i32::try_from(self.n_steps).unwrap_or(i32::MAX);
        for ((parameter, gradient), moments) in parameters.into_iter().zip(gradients).zip(&mut self.moments) {
            let decay = if parameter.decays { self.decay } else { 0.0 };
            // Copied only where a tape still has it.
            let w = Arc::make_mut(&mut parameter.value);
            match self.rule {
                Rule::Sgd { momentum } => {
                    let [v, _] = moments;
                    let (m, d, r) = (momentum as f32, decay as f32, rate as f32);
                    let mut g = gradient.clone();
                    g.change_with(w, move |g, w| g + d * w);
                    v.change_with(&g, move |v, g| m * v + g);
                    w.change_with(v, move |w, v| w - r * v);
                }
                Rule::Adam { betas, eps } => {
                    let (of, d, r) = (Direction::new(betas, eps, n), decay as f32, rate as f32);
                    let [first, second] = moments;
                    Array::change_three([w, first, second], gradient, move |[w, m, v], g| {
                        let [m, v, u] = of.next(m, v, g + d * w);
                        [w - r * u, m, v]
                    });
                }
                Rule::AdamW { betas, eps } => {
                    let (of, r, kept) = (Direction::new(betas, eps, n), rate as f32, (1.0 - rate * decay) as f32);
                    let [first, second] = moments;
                    Array::change_three([w, first, second], gradient, move |[w, m, v], g| {
                        let [m, v, u] = of.next(m, v, g);
                        [kept * w - r * u, m, v]
                    });
                }
                Rule::Lamb { betas, eps } => {
                    let (of, d) = (Direction::new(betas, eps, n), decay as f32);
                    let ([first, second], mut u) = (moments, Array::clone(w));
                    Array::change_three([&mut u, first, second], gradient, move |[w, m, v], g| {
                        let [m, v, u] = of.next(m, v, g);
                        [u + d * w, m, v]
                    });
                    let (of_w, of_u) = (w.sum_of_squares().sqrt(), u.sum_of_squares().sqrt());
                    let trust = if parameter.decays && of_w > 0.0 && of_u > 0.0 { of_w / of_u } else { 1.0 };
                    let r = (rate * trust) as f32;
                    w.change_with(&u, move |w, u| w - r * u);
                }
            }
        }
    }
}

/// Adam's direction: the running mean of gradients over the root of that of their squares, both freed of their beginning at 0.
#[derive(Clone, Copy)]
struct Direction {
    betas: [f32; 2],
    eps: f32,
    /// What frees the means.
    scale: f32,
    root: f32,
}

impl Direction {
    /// Of step `n`, counted from 1.
    fn new(betas: [f64; 2], eps: f64, n: i32) -> Self {
        let [scale, root] = [(1.0 - betas[0].powi(n)).recip() as f32, (1.0 - betas[1].powi(n)).sqrt().recip() as f32];
        Self { betas: betas.map(|beta| beta as f32), eps: eps as f32, scale, root }
    }

    /// Both means with another gradient, and the direction that they give.
    #[inline(always)]
    fn next(self, m: f32, v: f32, g: f32) -> [f32; 3] {
        let Self { betas: [a, b], eps, scale, root } = self;
        let (m, v) = (a * m + (1.0 - a) * g, b * v + (1.0 - b) * g * g);
        [m, v, scale * m / (root * v.sqrt() + eps)]
    }
}

/// Scales all gradients so that together they are no longer than `most`; gives how long they were.
pub fn clip(gradients: &mut [Array<f32>], most: f64) -> f64 {
    let length = gradients.iter().map(Array::sum_of_squares).sum::<f64>().sqrt();
    if length > most {
        let by = (most / length) as f32;
        gradients.iter_mut().for_each(|g| g.change(|x| by * x));
    }
    length
}
