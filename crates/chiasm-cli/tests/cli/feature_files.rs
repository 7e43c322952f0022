//! `chiasm space fit --view`, `chiasm eval --view`, and runs that are fused: no encoder takes part.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::common::chiasm;

/// Forty rows of two views in two classes: both views tell the class, in columns and signs of their own.
fn write_rows(dir: &Path, name: &str, first: usize) {
    let (mut a, mut b, mut labels) = (String::from("p,q,r\n"), String::new(), String::from("id,kind\n"));
    for i in first..first + 40 {
        let class = if i % 2 == 0 { 1.0 } else { -1.0 };
        let (wave, noise) = ((i as f64 * 0.7).sin(), (i as f64 * 1.3).cos());
        writeln!(a, "{:.4},{:.4},{:.4}", class + 0.3 * noise, wave, 0.2 * noise).unwrap();
        writeln!(b, "{:.4};{:.4}", -3.0 * class + wave, noise).unwrap();
        writeln!(labels, "{i},{}", if class > 0.0 { "cat" } else { "dog" }).unwrap();
    }
    for (ending, text) in [("a", a), ("b", b), ("labels", labels)] {
        fs::write(dir.join(format!("{name}-{ending}.csv")), text).unwrap();
    }
}

fn fit_blocks(dir: &Path, line: &[&str], method: &str) -> crate::common::Reply {
    chiasm(dir, &[line, &["--method", method, "--no-search", "--stream", "-o", "refused.space"]].concat())
}

#[test]
fn a_training_keeps_a_log_and_draws_its_curves() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_rows(dir, "train", 0);
    let fit = |method: &str, log: &str| {
        let line = ["space", "fit", "--view", "a=train-a.csv", "--view", "b=train-b.csv", "--no-search"];
        chiasm(dir, &[&line[..], &["--method", method, "-o", "out.space", "--log", log]].concat())
    };
    fit("infonce", "told").code(0);
    let log = fs::read_to_string(dir.join("told/log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (at, line) in lines.iter().enumerate() {
        // Forty rows are too few to set some aside: there is one stage.
        assert_eq!((&line["stage"], &line["done"]), (&"training".into(), &(at + 1).into()), "{line}");
        assert!(line["figures"]["loss"].is_f64() && line["figures"]["rate"].is_f64(), "{line}");
    }
    assert_eq!(lines.last().map(|line| &line["done"]), lines.last().map(|line| &line["of"]), "the last epoch is told");
    let page = fs::read_to_string(dir.join("told/curves.html")).unwrap();
    assert!(page.contains("<h2>training: loss</h2><svg") && page.contains("<polyline"), "{page}");
    // What has no steps to tell of says so.
    fit("cca", "none").code(0);
    assert!(fs::read_to_string(dir.join("none/curves.html")).unwrap().contains("no steps to tell of"));
    // The log of something else is not overwritten, and nothing is fitted.
    fs::create_dir(dir.join("other")).unwrap();
    fs::write(dir.join("other/log.jsonl"), "{}\n").unwrap();
    fs::remove_file(dir.join("out.space")).unwrap();
    let refused = fit("infonce", "other").code(1);
    assert!(refused.err.contains("log.jsonl") && refused.err.contains("name another folder"), "{}", refused.err);
    assert!(!dir.join("out.space").exists());
}

#[test]
fn a_space_of_feature_files_is_fitted_told_and_tried() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_rows(dir, "train", 0);
    write_rows(dir, "test", 100);
    let fit = |method: &str, extra: &[&str]| {
        let out = format!("{method}.space");
        let line = ["space", "fit", "--view", "a=train-a.csv", "--view", "b=train-b.csv", "--labels", "train-labels.csv:kind"];
        let rest = ["--method", method, "-o", &out, "--folds", "3"];
        chiasm(dir, &[&line[..], &rest, extra].concat())
    };
    let fitted = fit("label-ridge", &[]).code(0);
    assert!(fitted.out.contains("fitted on 40 rows") && fitted.out.contains("labels of 2 classes"), "{}", fitted.out);
    let told = chiasm(dir, &["space", "info", "label-ridge.space", "--json"]).code(0).json();
    assert_eq!((&told["views"][1], &told["input_dims"][0]), (&"b".into(), &3.into()), "{told}");
    let eval = [
        "eval",
        "--space",
        "label-ridge.space",
        "--view",
        "b=test-b.csv",
        "--view",
        "a=test-a.csv",
        "--labels",
        "test-labels.csv:kind",
        "--require",
        "a->b MAP >= 0.9",
        "--require",
        "b->a MAP >= 0.9",
    ];
    chiasm(dir, &eval).code(0);

    // Read in blocks it is the same space; a method that needs the rows, and rows of the wrong number, are refused.
    let streamed = ["--no-search", "--stream"];
    let line = ["space", "fit", "--view", "a=train-a.csv", "--view", "b=train-b.csv", "--labels", "train-labels.csv:kind"];
    let whole = ["--method", "label-ridge", "--no-search", "-o", "whole.space"];
    let blocks = ["--method", "label-ridge", "-o", "blocks.space"];
    chiasm(dir, &[&line[..], &whole].concat()).code(0);
    let told = chiasm(dir, &[&line[..], &blocks, &streamed].concat()).code(0);
    assert!(told.out.contains("read in blocks"), "{}", told.out);
    let fingerprint = |file: &str| chiasm(dir, &["space", "info", file, "--json"]).code(0).json()["fingerprint"].clone();
    assert_eq!(fingerprint("whole.space"), fingerprint("blocks.space"));
    let refused = fit_blocks(dir, &line, "seph").code(1);
    assert!(refused.err.contains("seph needs the rows themselves"), "{}", refused.err);
    let mut bad = fs::read_to_string(dir.join("train-a.csv")).unwrap().replacen("0.0000", "nan", 1);
    fs::write(dir.join("train-bad.csv"), &bad).unwrap();
    bad.push_str("1,2,3\n");
    fs::write(dir.join("train-long.csv"), &bad).unwrap();
    let with = |file: &'static str| {
        let mut line = line;
        line[3] = file;
        fit_blocks(dir, &line, "cca").code(1).err
    };
    let (bad, long) = (with("a=train-bad.csv"), with("a=train-long.csv"));
    assert!(bad.contains("column") && bad.contains("--drop-bad-rows"), "{bad}");
    assert!(long.contains("41") || long.contains("40"), "{long}");

    // Codes, with a gallery of its own.
    let codes = fit("scm-seq", &["--bits", "8"]).code(0);
    assert!(codes.out.contains("8 bits") && codes.out.contains("bit balance"), "{}", codes.out);
    let eval = [
        "eval",
        "--space",
        "scm-seq.space",
        "--view",
        "a=test-a.csv",
        "--view",
        "b=test-b.csv",
        "--labels",
        "test-labels.csv:kind",
        "--gallery-view",
        "a=train-a.csv",
        "--gallery-view",
        "b=train-b.csv",
        "--gallery-labels",
        "train-labels.csv:kind",
        "--require",
        "a->b MAP >= 0.8",
    ];
    let tried = chiasm(dir, &eval).code(0);
    assert!(tried.err.contains("within Hamming radius 2"), "{}", tried.err);

    // Two files of one view stand side by side.
    let early = [
        "space",
        "fit",
        "--view",
        "a=train-a.csv",
        "--view",
        "a=train-b.csv",
        "--view",
        "b=train-b.csv",
        "--method",
        "cca",
        "-o",
        "early.space",
    ];
    chiasm(dir, &early).code(0);
    assert_eq!(chiasm(dir, &["space", "info", "early.space", "--json"]).code(0).json()["input_dims"][0], 5);
}

#[test]
fn what_does_not_match_is_refused_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_rows(dir, "train", 0);
    let fit = |rest: &[&str]| chiasm(dir, &[&["space", "fit", "-o", "x.space"], rest].concat());
    let message = |rest: &[&str], code| fit(rest).code(code).err;
    let pair = ["--view", "a=train-a.csv", "--view", "b=train-b.csv"];
    assert!(message(&[&pair[..], &["--method", "sm"]].concat(), 1).contains("sm learns from classes"));
    assert!(message(&["--view", "a", "--method", "cca"], 2).contains("expected NAME=FILE"));
    assert!(message(&["--view", "a=train-a.csv:z", "--view", "b=train-b.csv", "--method", "cca"], 1).contains('z'));
    fs::write(dir.join("short.csv"), "1,2\n3,4\n").unwrap();
    assert!(message(&["--view", "a=train-a.csv", "--view", "b=short.csv", "--method", "cca"], 1).contains("the same rows"));
    let text = fs::read_to_string(dir.join("train-b.csv")).unwrap();
    fs::write(dir.join("bad.csv"), text.replacen(';', ";nan\n0;", 1).replacen("\n0;", "\n", 1)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[4] = "nan;0.5".to_owned();
    fs::write(dir.join("bad.csv"), lines.join("\n")).unwrap();
    let bad = ["--view", "a=train-a.csv", "--view", "b=bad.csv", "--method", "cca"];
    let refused = message(&bad, 1);
    assert!(refused.contains("row 5") && refused.contains("--drop-bad-rows"), "{refused}");
    let kept = fit(&[&bad[..], &["--drop-bad-rows"]].concat()).code(0);
    assert!(kept.out.contains("fitted on 39 rows") && kept.out.contains("left out 1 row"), "{}", kept.out);
    assert!(chiasm(dir, &["index", ".", "--space", "x.space"]).err.contains("fitted on feature files"));
    let wrong = ["eval", "--space", "x.space", "--view", "a=train-b.csv", "--view", "b=train-b.csv"];
    assert!(chiasm(dir, &wrong).code(1).err.contains("2 columns, the space was fitted on 3"));
}

#[test]
fn runs_are_fused_before_they_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("a.run"), "q Q0 x 1 9 a\nq Q0 y 2 8 a\n").unwrap();
    fs::write(dir.join("b.run"), "q Q0 y 1 5 b\nq Q0 z 2 4 b\n").unwrap();
    fs::write(dir.join("q.txt"), "q 0 y 1\n").unwrap();
    let judge = |more: &[&str]| {
        let line = [&["eval", "--run", "a.run", "--run", "b.run", "--qrels", "q.txt", "--resamples", "0"], more].concat();
        chiasm(dir, &line)
    };
    // y is second and first: only together it comes first.
    for how in ["rrf", "sum", "mnz", "borda"] {
        judge(&["--fuse", how, "--normalise", "rank", "--require", "R@1 >= 1"]).code(0);
    }
    judge(&["--fuse", "weighted", "--weights", "1,0", "--require", "R@1 >= 1"]).code(1);
    assert!(judge(&["--fuse", "weighted"]).code(2).err.contains("give 2 weights"));
}

#[test]
fn a_view_is_bound_to_a_space_of_feature_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_rows(dir, "train", 0);
    write_rows(dir, "test", 100);
    let views = ["--view", "a=train-a.csv", "--view", "b=train-b.csv"];
    let fit = ["space", "fit", "--method", "cca", "--folds", "2", "-o", "two.space"];
    chiasm(dir, &[&fit[..], &views].concat()).code(0);
    // A third view: the first, each row told by other numbers.
    for name in ["train", "test"] {
        let rows = fs::read_to_string(dir.join(format!("{name}-a.csv"))).unwrap();
        let mixed: String = rows
            .lines()
            .skip(1)
            .map(|line| {
                let [p, q, r]: [f64; 3] = line.split(',').map(|x| x.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
                format!("{},{},{},{}\n", p - q, 2.0 * q + r, p + r, 5.0 - p)
            })
            .collect();
        fs::write(dir.join(format!("{name}-c.csv")), mixed).unwrap();
    }
    let bind = ["space", "bind", "two.space", "-o", "three.space", "--folds", "2"];
    let with = |through: &'static str, views: &[&'static str]| {
        let views: Vec<&str> = views.iter().flat_map(|view| ["--view", *view]).collect();
        chiasm(dir, &[&bind[..], &["--through", through], &views].concat())
    };
    let bound = with("a", &["a=train-a.csv", "c=train-c.csv"]).code(0);
    assert!(bound.out.contains("cca bound by infonce") && bound.out.contains("a->c"), "{}", bound.out);
    let told = chiasm(dir, &["space", "info", "three.space", "--json"]).code(0).json();
    assert_eq!(told["views"], serde_json::json!(["a", "b", "c"]), "{told}");
    // b and c were never seen together.
    let views = ["--view", "a=test-a.csv", "--view", "b=test-b.csv", "--view", "c=test-c.csv"];
    let eval = ["eval", "--space", "three.space", "--labels", "test-labels.csv:kind", "--require", "b->c MAP >= 0.8"];
    chiasm(dir, &[&eval[..], &views].concat()).code(0);
    let refused = with("c", &["a=train-a.csv", "c=train-c.csv"]).code(1).err;
    assert!(refused.contains("--through c: the space has the views `a`, `b`"), "{refused}");
    assert!(with("a", &["a=train-a.csv"]).code(2).err.contains("expected two, `a` of the space and a new one"));
    let refused = with("a", &["a=train-a.csv", "b=train-b.csv"]).code(1).err;
    assert!(refused.contains("has a view `b` already"), "{refused}");
    let encoders =
        ["space", "bind", "two.space", "--through", "image", "--encoder", "audio=mel-contour", "--pairs", "x.csv", "-o", "x"];
    assert!(chiasm(dir, &encoders).code(2).err.contains("was fitted on feature files"));
    assert!(chiasm(dir, &["space", "bind", "two.space", "--through", "a", "-o", "x"]).code(2).err.contains("--encoder"));
}

#[test]
fn rows_that_are_not_paired_are_learned_from_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // A cloud of three heaps, and more rows of the same cloud, turned by a right angle.
    let cloud = |n: usize, turned: bool| -> String {
        let row = |i: usize| {
            let heap = [(4.0, 0.0), (0.0, 2.0), (-1.0, -3.0)][i % 3];
            let (x, y) = (heap.0 + (i as f64 * 0.7).sin() * 0.3, heap.1 + (i as f64 * 1.9).cos() * 0.3);
            if turned { format!("{:.5},{:.5}\n", -y, x) } else { format!("{x:.5},{y:.5}\n") }
        };
        (0..n).map(row).collect()
    };
    fs::write(dir.join("a.csv"), cloud(90, false)).unwrap();
    fs::write(dir.join("b.csv"), cloud(120, true)).unwrap();
    let fit = |method: &str, more: &[&str]| {
        let line = ["space", "fit", "--view", "a=a.csv", "--view", "b=b.csv", "--method", method, "-o", "turned.space"];
        chiasm(dir, &[&line[..], more].concat())
    };
    for method in ["adversarial", "cyclegan"] {
        let fitted = fit(method, &["--seed", "3"]).code(0);
        assert!(fitted.out.contains(method) && fitted.out.contains("210 rows"), "{}", fitted.out);
        let told = chiasm(dir, &["--json", "space", "info", "turned.space"]).code(0).json();
        assert_eq!(told["report"]["method"], method, "{told}");
    }
    assert!(fit("adversarial", &["--folds", "3"]).code(2).err.contains("knows of no pairs"));
    let one = ["space", "fit", "--view", "a=a.csv", "--method", "cyclegan", "-o", "x.space"];
    assert!(chiasm(dir, &one).code(2).err.contains("learns from two views"));
    let pairs = ["space", "fit", "--pairs", "a.csv", "--method", "cyclegan", "-o", "x.space"];
    assert!(chiasm(dir, &pairs).code(2).err.contains("rows that are not paired"));
}
