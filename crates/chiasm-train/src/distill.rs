//! Distillation: a student learns how close a larger model, the teacher, finds the things of a batch.
//!
//! # Reference
//! Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024: contrastive relational distillation (their eq. 4-7) and, where embeddings have
//! as many numbers, feature distillation, here by cosine for theirs by squared distance, which of unit vectors is twice that. The same divergence is TinyCLIP's
//! affinity mimicking (Wu et al., ICCV 2023, eq. 2-4).
//! # Model
//! p_ij = softmax_j(t <a_i, b_j>) of the teacher, q_ij = softmax_j(s <u_i, v_j>) of the student
//! L = 1/2n sum_i KL(p_i. || q_i.) + the same from the other side
//! | symbol | code | shape |
//! | --- | --- | --- |
//! | a, b | `teacher` | `[n, d of the teacher]`, unit rows |
//! | u, v | `student` | `[n, d]`, unit rows |
//! | t | `scale` | a number; what the teacher's weights say |
//! | s | `log_scale` | `[1, 1]`, learned |
//!
//! It is 0 where the student finds things as close as the teacher does, whatever its dimensions.

use std::collections::BTreeMap;

use chiasm_core::Modality;
use chiasm_encode::{ModelDirs, tower_name};
use chiasm_nn::grad::{Array, Real, Tape, Var};

use crate::config::Distill;
use crate::data::{Before, Data, Had, Key, Prepare};
use crate::error::{Result, TrainError};
use crate::tape::Network;

/// A model that teaches, run by its encoders, each piece of media once.
pub(crate) struct Teacher {
    modalities: Vec<Modality>,
    prepare: Prepare,
    /// What its cosines are multiplied by.
    pub(crate) scale: f64,
}

impl Teacher {
    /// Opens the teacher of these towers, of which some pair must be among what it takes.
    pub(crate) fn open(
        distill: &Distill,
        networks: &[Box<dyn Network>],
        pairs: &[[Modality; 2]],
        models: &ModelDirs,
        limit: usize,
    ) -> Result<Self> {
        let name = distill.teacher.as_str();
        let wrong = |reason: String| TrainError::Config { path: "distill.teacher".into(), reason };
        let towers = chiasm_encode::towers(name, models)?;
        let listed = |kinds: &[Modality]| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" and ");
        if !pairs.iter().any(|pair| pair.iter().all(|kind| towers.contains(kind))) {
            let expected = pairs.iter().map(|pair| listed(pair)).collect::<Vec<_>>().join(", or ");
            return Err(wrong(format!("`{name}` takes {}, expected a model that takes {expected}", listed(&towers))));
        }
        let own: Vec<&dyn Network> =
            networks.iter().map(|network| &**network).filter(|network| towers.contains(&network.modality())).collect();
        let mut before = BTreeMap::new();
        for network in &own {
            let encoder = chiasm_encode::open(&tower_name(name, network.modality()), models)?;
            if distill.cosine > 0.0 && encoder.dim() != network.projection() {
                return Err(wrong(format!(
                    "embeddings of {} have {} numbers by `{name}` and {} here, so their cosine has no meaning: leave distill.cosine out, or give the towers the teacher's projection",
                    network.modality(),
                    encoder.dim(),
                    network.projection()
                )));
            }
            before.insert(network.modality(), Before::Encoder(encoder));
        }
        let modalities: Vec<Modality> = own.iter().map(|network| network.modality()).collect();
        let said = || chiasm_encode::temperature(&tower_name(name, modalities[0]), models);
        let scale = match distill.scale {
            Some(scale) => scale,
            None => said()?.map(|temperature| temperature.scale).ok_or_else(|| {
                wrong(format!(
                    "`{name}` does not say what its cosines are multiplied by, expected distill.scale, as scale = 100"
                ))
            })?,
        };
        Ok(Self { modalities, prepare: Prepare::new(before, limit), scale })
    }

    /// Whether it takes a kind of media.
    pub(crate) fn takes(&self, modality: Modality) -> bool {
        self.modalities.contains(&modality)
    }

    /// Its embeddings of pieces of media that it takes.
    pub(crate) fn all(&self, data: &Data, keys: &[Key]) -> Vec<Had> {
        self.prepare.all(data, keys)
    }
}

/// How far the student's shares of a batch are from the teacher's, from both sides, `[1, 1]`; row `i` of each matrix is of the same thing.
pub(crate) fn divergence<'t, T: Real>(
    tape: &'t Tape<T>,
    student: [Var<'t, T>; 2],
    log_scale: Var<'t, T>,
    teacher: [&Array<T>; 2],
    scale: f64,
) -> Var<'t, T> {
    let [u, v] = student;
    let [a, b] = teacher.map(|rows| tape.constant(rows.clone()));
    let ours = u.dot_rows(v).times_number(log_scale.exp());
    let theirs = a.dot_rows(b).scaled(T::of(scale));
    let one_side = |ours: Var<'t, T>, theirs: Var<'t, T>| {
        let (shares, [n, _]) = (theirs.softmax(), theirs.shape());
        let negative_entropy = (shares * theirs.log_softmax()).sum().scaled(T::of(1.0 / n.max(1) as f64));
        ours.cross_entropy(shares) + negative_entropy
    };
    (one_side(ours, theirs) + one_side(ours.transposed(), theirs.transposed())).scaled(T::of(0.5))
}

/// The mean over rows of `1 - cosine`, `[1, 1]`; rows of both are of unit length.
pub(crate) fn distance<'t, T: Real>(tape: &'t Tape<T>, student: Var<'t, T>, teacher: &Array<T>) -> Var<'t, T> {
    let [n, _] = student.shape();
    (student * tape.constant(teacher.clone())).sum().scaled(T::of(-1.0 / n.max(1) as f64)).plus(T::of(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::{normal, stream};

    fn drawn(n: usize, m: usize, number: u64) -> Array<f64> {
        let rows = normal(n, m, 1.0, &mut stream(11, "distill", number));
        Array::new(n, m, rows.data().iter().map(|x| f64::from(*x)).collect())
    }

    fn unit(rows: &Array<f64>) -> Array<f64> {
        let tape = Tape::new();
        Array::clone(&tape.constant(rows.clone()).unit_rows().value())
    }

    /// The loss of raw student rows, before they are brought to unit length.
    fn loss<'t>(
        tape: &'t Tape<f64>,
        raw: [Var<'t, f64>; 2],
        log_scale: Var<'t, f64>,
        teacher: &[Array<f64>; 2],
    ) -> Var<'t, f64> {
        let student = raw.map(Var::unit_rows);
        let near = [0, 1].map(|side| distance(tape, student[side].columns(0..3), &teacher[side]));
        divergence(tape, student, log_scale, [&teacher[0], &teacher[1]], 7.0) + (near[0] + near[1]).scaled(0.3)
    }

    #[test]
    fn gradients_are_differences_of_values() {
        let teacher = [unit(&drawn(5, 3, 0)), unit(&drawn(5, 3, 1))];
        let start = [drawn(5, 4, 2), drawn(5, 4, 3), Array::scalar(0.8)];
        let value = |at: &[Array<f64>; 3]| {
            let tape = Tape::new();
            let [u, v, s] = [0, 1, 2].map(|i| tape.constant(at[i].clone()));
            loss(&tape, [u, v], s, &teacher).value().only()
        };
        let tape = Tape::new();
        let leaves = [0, 1, 2].map(|i| tape.leaf(start[i].clone()));
        let gradients = tape.backward(loss(&tape, [leaves[0], leaves[1]], leaves[2], &teacher));
        const STEP: f64 = 1e-5;
        for (which, leaf) in leaves.into_iter().enumerate() {
            for (at, gradient) in gradients.of(leaf).data().iter().enumerate() {
                let moved = |by: f64| {
                    let mut there = start.clone();
                    there[which].data_mut()[at] += by;
                    value(&there)
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                assert!((difference - gradient).abs() < 1e-8, "parameter {which}, number {at}: {gradient} and {difference}");
            }
        }
    }

    #[test]
    fn a_student_that_is_its_teacher_has_nothing_to_learn() {
        let rows = [unit(&drawn(6, 4, 4)), unit(&drawn(6, 4, 5))];
        let tape = Tape::new();
        let student = [0, 1].map(|side| tape.leaf(rows[side].clone()));
        let log_scale = tape.leaf(Array::scalar(5.0_f64.ln()));
        let loss = divergence(&tape, student, log_scale, [&rows[0], &rows[1]], 5.0);
        assert!(loss.value().only().abs() < 1e-12);
        let gradients = tape.backward(loss);
        let most =
            gradients.of(student[0]).data().iter().fold(gradients.of(log_scale).only().abs(), |most, g| most.max(g.abs()));
        assert!(most < 1e-12, "{most}");
        // Another temperature is another distribution.
        let tape = Tape::new();
        let student = [0, 1].map(|side| tape.leaf(rows[side].clone()));
        let log_scale = tape.leaf(Array::scalar(5.0_f64.ln()));
        assert!(divergence(&tape, student, log_scale, [&rows[0], &rows[1]], 9.0).value().only() > 0.01);
    }
}
