//! Gradients: a tape on which operations of matrices are written as they are computed, and which is then read backwards.
//!
//! ```
//! use chiasm_nn::grad::{Array, Tape};
//!
//! let tape = Tape::new();
//! let w = tape.leaf(Array::new(1, 2, vec![3.0_f64, -1.0]));
//! let loss = w.square().sum();
//! assert_eq!(loss.value().only(), 10.0);
//! assert_eq!(tape.backward(loss).of(w).data(), [6.0, -2.0]);
//! ```
//!
//! # Why our own
//! What is learned here needs two dozen operations of matrices. A framework that has them all is a third of the time in which this whole project
//! is built (`docs/architecture.md`), computes what depends on the count of threads, and multiplies no faster: products in single precision and vector
//! loops are those by which encoders run, products in double precision those of the linear algebra that is here anyway.
//!
//! # Shapes
//! Everything is a matrix. A batch of sequences is one matrix of all their rows, and the operations that must know where one ends
//! ([`Var::attend`], [`Var::mean_of_runs`]) are told the lengths, as the layers of this crate are. Shapes that do not fit are mistakes of the caller, and
//! panic with both shapes.
//!
//! # Determinism
//! The same operations give the same bits whatever the count of threads: sums are cut into parts by their sizes alone.
//!
//! # Checked
//! Each operation is compared with differences of its values, and with torch (`reference/nn_learn_goldens.py`).

mod array;
mod attention;
mod elementwise;
mod matrix;
mod norm;
mod real;
mod reduce;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;

use crate::kernel::Precision;

pub use array::{Array, settle};
pub use attention::Sees;
pub use matrix::NOWHERE;
pub use real::Real;

/// How the gradient of a value passes to what it was made of.
type Back<T> = Box<dyn FnOnce(Array<T>, &mut Sink<'_, T>)>;

/// A value that was computed, and the way back from it.
struct Node<T> {
    value: Arc<Array<T>>,
    /// None for what was put in.
    back: Option<Back<T>>,
    /// Whether anything behind it wants a gradient.
    wanted: bool,
}

/// Where operations are written down.
#[derive(Default)]
pub struct Tape<T> {
    nodes: RefCell<Vec<Node<T>>>,
    precision: Precision,
}

impl<T> std::fmt::Debug for Tape<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape of {} values", self.nodes.borrow().len())
    }
}

/// A value on a tape.
#[derive(Debug)]
pub struct Var<'t, T> {
    tape: &'t Tape<T>,
    at: usize,
}

impl<T> Clone for Var<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Var<'_, T> {}

/// The gradients of the values that were put in.
#[derive(Debug)]
pub struct Gradients<T> {
    of: Vec<Option<Array<T>>>,
    shapes: Vec<[usize; 2]>,
}

/// What collects gradients on the way back.
pub struct Sink<'a, T> {
    of: &'a mut [Option<Array<T>>],
    wanted: &'a [bool],
}

impl<T> std::fmt::Debug for Sink<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink of {} values", self.of.len())
    }
}

impl<T: Real> Sink<'_, T> {
    /// Adds what `gradient` gives to the gradient of a value, if anybody wants that.
    pub fn add(&mut self, to: Place, gradient: impl FnOnce() -> Array<T>) {
        if !self.wanted[to.0] {
            return;
        }
        match &mut self.of[to.0] {
            Some(sum) => sum.add(&gradient()),
            none => *none = Some(gradient()),
        }
    }
}

/// Which value a gradient belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

impl<T: Real> Tape<T> {
    /// An empty tape.
    pub fn new() -> Self {
        Self::in_precision(Precision::F32)
    }

    /// An empty tape whose dense layers ([`Var::linear`]), of `f32`, round what they multiply to this precision, on the way back too, and sum in single precision:
    /// mixed precision (Micikevicius et al., ICLR 2018) in the form that needs no scaling of the loss, for bfloat16 has the range of `f32` (Kalamkar et al.,
    /// arXiv:1905.12322). All other products, normalisations, losses and what is learned stay as they are.
    ///
    /// # Panics
    /// At a product, if the precision is that of integers.
    pub fn in_precision(precision: Precision) -> Self {
        Self { nodes: RefCell::new(Vec::new()), precision }
    }

    /// A value whose gradient is wanted: a parameter.
    pub fn leaf(&self, value: impl Into<Arc<Array<T>>>) -> Var<'_, T> {
        self.push(Node { value: value.into(), back: None, wanted: true })
    }

    /// A value whose gradient nobody wants: data.
    pub fn constant(&self, value: impl Into<Arc<Array<T>>>) -> Var<'_, T> {
        self.push(Node { value: value.into(), back: None, wanted: false })
    }

    /// Values side by side.
    ///
    /// # Panics
    /// If they differ in rows, or there are none.
    pub fn beside<'t>(&'t self, parts: &[Var<'t, T>]) -> Var<'t, T> {
        matrix::beside(self, parts)
    }

    /// Values one under the other.
    ///
    /// # Panics
    /// If they differ in columns, or there are none.
    pub fn under<'t>(&'t self, parts: &[Var<'t, T>]) -> Var<'t, T> {
        matrix::under(self, parts)
    }

    /// An operation of one's own: its value, computed from `of`, and the way back, which is given the gradient of the value and adds to those at
    /// [`Var::place`] of each of `of`. For what has a gradient in closed form that is better than that of its parts.
    pub fn custom<'t>(
        &'t self,
        of: &[Var<'t, T>],
        value: impl Into<Arc<Array<T>>>,
        back: impl FnOnce(Array<T>, &mut Sink<'_, T>) + 'static,
    ) -> Var<'t, T> {
        let wanted = of.iter().any(|var| self.nodes.borrow()[var.at].wanted);
        self.push(Node { value: value.into(), back: wanted.then(|| Box::new(back) as Back<T>), wanted })
    }

    fn push(&self, node: Node<T>) -> Var<'_, T> {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(node);
        Var { tape: self, at: nodes.len() - 1 }
    }

    /// The gradients of `loss`, a single number, by every leaf. What was written since the tape began is used up: values stay, ways back do not.
    ///
    /// # Panics
    /// If `loss` is not one number.
    pub fn backward(&self, loss: Var<'_, T>) -> Gradients<T> {
        let seed = Array::full(1, 1, T::of(1.0));
        assert_eq!(loss.shape(), [1, 1], "gradients are those of a single number");
        let mut nodes = self.nodes.borrow_mut();
        let wanted: Vec<bool> = nodes.iter().map(|node| node.wanted).collect();
        let shapes = nodes.iter().map(|node| node.value.shape()).collect();
        let mut of: Vec<Option<Array<T>>> = wanted.iter().map(|_| None).collect();
        of[loss.at] = Some(seed);
        for at in (0..=loss.at).rev() {
            let Some(back) = nodes[at].back.take() else { continue };
            if let Some(gradient) = of[at].take() {
                back(gradient, &mut Sink { of: &mut of, wanted: &wanted });
            }
        }
        Gradients { of, shapes }
    }
}

impl<T: Real> Gradients<T> {
    /// The gradient of a leaf; zeros where the loss does not depend on it.
    pub fn of(&self, leaf: Var<'_, T>) -> Array<T> {
        let [n, m] = self.shapes[leaf.at];
        self.of[leaf.at].clone().unwrap_or_else(|| Array::zeros(n, m))
    }

    /// The same without a copy; a second time it is zeros.
    pub fn take(&mut self, leaf: Var<'_, T>) -> Array<T> {
        let [n, m] = self.shapes[leaf.at];
        self.of[leaf.at].take().unwrap_or_else(|| Array::zeros(n, m))
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// What was computed.
    pub fn value(&self) -> Arc<Array<T>> {
        Arc::clone(&self.tape.nodes.borrow()[self.at].value)
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.tape.nodes.borrow()[self.at].value.shape()
    }

    /// The tape it stands on.
    pub fn tape(&self) -> &'t Tape<T> {
        self.tape
    }

    /// The same value, through which no gradient passes.
    pub fn detached(self) -> Var<'t, T> {
        self.tape.constant(self.value())
    }

    /// The same value, whose gradient passes multiplied by `-factor` (Ganin and Lempitsky, ICML 2015).
    pub fn reversed(self, factor: T) -> Var<'t, T> {
        let to = self.place();
        self.made(self.value(), move |mut d, sink| {
            d.change(|d| -factor * d);
            sink.add(to, || d);
        })
    }

    /// Where its gradient is gathered.
    pub fn place(self) -> Place {
        Place(self.at)
    }

    /// A value made of this one alone.
    fn made(self, value: impl Into<Arc<Array<T>>>, back: impl FnOnce(Array<T>, &mut Sink<'_, T>) + 'static) -> Var<'t, T> {
        self.tape.custom(&[self], value, back)
    }
}
