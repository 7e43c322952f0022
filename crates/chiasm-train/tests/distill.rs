//! A small student with and without a teacher.

#![allow(clippy::print_stdout)] // A test's own lines: what was measured.

mod common;

use std::path::Path;

use chiasm_train::{Begin, Line};

use common::{config, lines, losses, run};

const TEACHER: &str = r#"
[model]
projection = 32
image = { size = 32, patch = 8, width = 32, inner = 64, layers = 1, heads = 2 }
text = { vocabulary = 400, tokens = 24, width = 32, inner = 64, layers = 1, heads = 2 }
"#;
const STUDENT: &str = r#"
[model]
projection = 12
image = { size = 32, patch = 16, width = 16, inner = 32, layers = 1, heads = 2 }
text = { vocabulary = 300, tokens = 24, width = 16, inner = 32, layers = 1, heads = 2 }
"#;

fn described(seed: u64, model: &str, scenes: usize, more: &str) -> String {
    format!("seed = {seed}\n{model}\n[[data]]\nkind = \"world\"\nworld = 5\nscenes = {scenes}\nvalidation = 60\n\n{more}\n")
}

/// The best mean reciprocal rank of what was set aside.
fn best(folder: &Path) -> f64 {
    let figure = |line: Line| if let Line::Validation { figure, .. } = line { figure } else { 0.0 };
    lines(folder).into_iter().map(figure).fold(0.0, f64::max)
}

/// With the objective left out, all that a student can learn is how close its teacher finds things. What it finds by that is printed: whether a teacher makes
/// a student better than it would be alone is no promise (`docs/training.md`).
#[test]
fn a_student_learns_how_close_its_teacher_finds_things() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let train = "[train]\nwarm_up = 5\nbatch = 50\nepochs = 12\nrate = 3e-3";
    run(&config(dir.path(), &described(3, TEACHER, 200, train)), &at("teacher"), Begin::New).unwrap();
    let distill = "[distill]\nteacher = \"teacher\"\nobjective = 0.0";
    let text = described(4, STUDENT, 200, &format!("{distill}\n{train}"));
    run(&config(dir.path(), &text), &at("student"), Begin::New).unwrap();
    let losses = losses(&at("student"));
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    let chance = (1..=60).map(|rank| 1.0 / f64::from(rank)).sum::<f64>() / 60.0;
    println!(
        "divergence from the teacher: {first:.3} to {last:.3} in {} steps; mean reciprocal rank of 60 scenes set aside: teacher {:.3}, student {:.3}, chance {chance:.3}",
        losses.len(),
        best(&at("teacher")),
        best(&at("student"))
    );
    assert!(last < 0.95 * first, "{losses:?}");
}

#[test]
fn a_teacher_that_does_not_fit_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let teacher = dir.path().join("teacher");
    let short = "[train]\nbatch = 20\nepochs = 1";
    run(&config(dir.path(), &described(3, TEACHER, 20, short)), &teacher, Begin::New).unwrap();
    let refused = |model: &str, distill: &str, name: &str| {
        let text = described(3, model, 20, &format!("[distill]\n{distill}\n{short}"));
        run(&config(dir.path(), &text), &dir.path().join(name), Begin::New).unwrap_err().to_string()
    };
    let said = refused(STUDENT, "teacher = \"teacher\"\ncosine = 1.0", "a");
    assert!(said.contains("32 numbers") && said.contains("12 here"), "{said}");
    let said = refused(STUDENT, "teacher = \"colour-layout\"", "b");
    assert!(said.contains("`colour-layout` takes image, expected a model that takes image and text"), "{said}");
    let said = refused(STUDENT, "teacher = \"some/model\"", "c");
    assert!(said.contains("chiasm model pull some/model"), "{said}");
    // As many numbers: the cosine counts too, whatever becomes of the objective.
    let text = described(4, TEACHER, 20, &format!("[distill]\nteacher = \"teacher\"\ncosine = 1.0\nobjective = 0.0\n{short}"));
    run(&config(dir.path(), &text), &dir.path().join("d"), Begin::New).unwrap();
    assert!(losses(&dir.path().join("d"))[0] > 0.1);
}
