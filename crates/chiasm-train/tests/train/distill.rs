//! A small student with and without a teacher.

use std::path::Path;

use chiasm_train::{Begin, Line};

use crate::common::{config, lines, losses, run};

const TEACHER: &str = r#"
[model]
projection = 32
image = { size = 32, patch = 8, width = 32, inner = 64, layers = 1, heads = 2 }
text = { vocabulary = 400, tokens = 24, width = 32, inner = 64, layers = 1, heads = 2 }
"#;
const STUDENT: &str = r#"
[model]
projection = 32
image = { size = 32, patch = 8, width = 24, inner = 48, layers = 1, heads = 2 }
text = { vocabulary = 400, tokens = 24, width = 24, inner = 48, layers = 1, heads = 2 }
"#;

fn described(seed: u64, model: &str, scenes: usize, more: &str) -> String {
    format!("seed = {seed}\n{model}\n[[data]]\nkind = \"world\"\nworld = 5\nscenes = {scenes}\nvalidation = 60\n\n{more}\n")
}

/// The best mean reciprocal rank of what was set aside.
fn best(folder: &Path) -> f64 {
    let figure = |line: Line| if let Line::Validation { figure, .. } = line { figure } else { 0.0 };
    lines(folder).into_iter().map(figure).fold(0.0, f64::max)
}

/// A teacher of one block and 32 numbers per token; students of 24 that see the same scenes less often.
#[test]
fn a_teacher_helps_a_small_student() {
    const SEEDS: [u64; 3] = [10, 11, 12];
    let dir = tempfile::tempdir().unwrap();
    let at = |name: String| dir.path().join(name);
    let train = |epochs: usize| format!("[train]\nwarm_up = 5\nbatch = 50\nepochs = {epochs}\nrate = 3e-3");
    let teacher = at("teacher".to_owned());
    run(&config(dir.path(), &described(3, TEACHER, 600, &train(30))), &teacher, Begin::New).unwrap();
    let taught_by = |more: &str| format!("[distill]\nteacher = \"teacher\"\n{more}");
    let ways = [
        ("alone", String::new()),
        ("by similarities", taught_by("")),
        ("by embeddings", taught_by("weight = 0.0\ncosine = 5.0")),
    ];
    let means = ways.map(|(name, distill)| {
        let found = SEEDS.map(|seed| {
            let folder = at(format!("{name} {seed}"));
            let text = described(seed, STUDENT, 600, &format!("{distill}\n{}", train(20)));
            run(&config(dir.path(), &text), &folder, Begin::New).unwrap();
            best(&folder)
        });
        let mean = found.iter().sum::<f64>() / SEEDS.len() as f64;
        println!(
            "student {name}: mean reciprocal rank of 60 scenes set aside {mean:.3} (seeds {found:.3?}), teacher {:.3}",
            best(&teacher)
        );
        mean
    });
    assert!(means[1] > 1.08 * means[0] && means[2] > 1.08 * means[0], "{means:?}");
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
    let narrow = STUDENT.replace("projection = 32", "projection = 12");
    let said = refused(&narrow, "teacher = \"teacher\"\ncosine = 1.0", "a");
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
