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

#[test]
fn a_teacher_helps_a_small_student() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: String| dir.path().join(name);
    let teacher = at("teacher".to_owned());
    let text = described(3, TEACHER, 600, "[train]\nwarm_up = 5\nbatch = 50\nepochs = 25\nrate = 3e-3");
    run(&config(dir.path(), &text), &teacher, Begin::New).unwrap();
    let of = |seed: u64, distill: &str, name: &str| {
        let more = format!("{distill}\n[train]\nwarm_up = 5\nbatch = 50\nepochs = 25\nrate = 3e-3");
        let folder = at(format!("{name} {seed}"));
        run(&config(dir.path(), &described(seed, STUDENT, 150, &more)), &folder, Begin::New).unwrap();
        best(&folder)
    };
    let (mut alone, mut taught) = (0.0, 0.0);
    const SEEDS: u64 = 3;
    for seed in 0..SEEDS {
        alone += of(seed, "", "alone") / SEEDS as f64;
        taught += of(seed, "[distill]\nteacher = \"teacher\"\nweight = 1.0", "taught") / SEEDS as f64;
    }
    println!(
        "mean reciprocal rank of 60 scenes set aside, mean of {SEEDS} seeds: teacher {:.3}, student alone {alone:.3}, taught {taught:.3}",
        best(&teacher)
    );
    assert!(taught > alone, "taught {taught}, alone {alone}");
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
